#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One workspace by hand, as a script would make it: docker create, cp, start, and the gate's two probes. One word: PORT. In the
# environment: DOCKER_HOST, IMAGE, NETWORK, ORG, FILE, BENCH_HANDOVER, MOLECULE_LAUNCH (the mounts that every workspace has).
set -eu
port=$1 id=bench-$1
probe() { busybox wget -q -O /dev/null "http://127.0.0.1:$port/" 2>/dev/null; }
docker create --name "ws-$id" --network "$NETWORK" --network-alias "ws-$id" --publish "127.0.0.1:$port:8000/tcp" \
        --mount "type=volume,source=ws-$id-configs,target=/configs" --mount "type=volume,source=ws-$id-workspace,target=/workspace" \
        --mount "type=bind,source=$BENCH_HANDOVER,target=/run/molecule,readonly" \
        --mount "type=bind,source=$MOLECULE_LAUNCH,target=/.molecule-launch,readonly" --entrypoint /.molecule-launch \
        --memory 512m --memory-swap 512m --cpus 1 --pids-limit 1024 --ulimit core=0 --restart unless-stopped --cap-drop NET_RAW \
        --security-opt no-new-privileges --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
        --label molecule.platform.managed=true --label "molecule.agent.org=$ORG" --label "molecule.agent.workspace=$id" \
        --env "WORKSPACE_ID=$id" --env WORKSPACE_CONFIG_PATH=/configs --env PLATFORM_URL=https://platform.example.com --env TIER=2 \
        "$IMAGE" /run.sh >/dev/null
docker cp "$FILE" "ws-$id:/configs/config.yaml" 2>/dev/null
docker start "ws-$id" >/dev/null
tries=0
until probe; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ]
        sleep 0.025
done
sleep 2
probe
