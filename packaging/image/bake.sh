#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image that boots into a working host: engine, agent and the wanted images are in it, nothing is downloaded at boot, and nothing in it is a
# machine's own. Two ways, the same steps: a new root file system, or the instance this runs on (Packer, EC2 Image Builder).
set -euo pipefail

usage() {
        cat <<'END'
Usage: bake.sh (--root DIRECTORY | --here) --package FILE.deb [OPTION]...

  --root DIRECTORY      make a Debian root file system there (mmdebstrap), or go on with the one that bake.sh made there
  --here                turn this very machine into the image; shut it down afterwards
  --package FILE.deb    the agent; not needed to go on
  --image REF           pull it into the image: HOST/NAME@sha256:DIGEST; may be repeated
  --conf FILE           settings for agent.conf.d of every host; no secrets
  --daemon-json FILE    the engine's configuration instead of ours
  --include LIST        more Debian packages, separated by commas (--root only)
  --suite NAME          of Debian (bookworm; --root only)
  --mirror URL          of Debian (--root only)
END
}

fail() { echo "bake.sh: $*" >&2; exit 1; }
say() { printf '%s\n' "bake: $*"; }

here=$(cd "$(dirname "$0")" && pwd)
root='' package='' conf='' include='' suite=bookworm mirror='' daemon_json=$here/daemon.json images=()
while [ $# -gt 0 ]; do
        case $1 in
        --help) usage; exit 0 ;;
        --here) root=/; shift; continue ;;
        --root | --package | --image | --conf | --daemon-json | --include | --suite | --mirror) [ $# -ge 2 ] || fail "$1 needs a value" ;;
        *) usage >&2; exit 2 ;;
        esac
        case $1 in
        --root) root=$2 ;;
        --package) package=$2 ;;
        --image) images+=("$2") ;;
        --conf) conf=$2 ;;
        --daemon-json) daemon_json=$2 ;;
        --include) include=$2 ;;
        --suite) suite=$2 ;;
        --mirror) mirror=$2 ;;
        esac
        shift 2
done
[ "$(id -u)" = 0 ] || fail "needs root"
[ -n "$root" ] || { usage >&2; exit 2; }
made=''
if [ "$root" != / ] && [ -x "$root/usr/bin/molecule-agentctl" ]; then made=yes; fi
[ -n "$package" ] || [ -n "$made" ] || { usage >&2; exit 2; }
for file in ${package:+"$package"} "$daemon_json" ${conf:+"$conf"}; do [ -f "$file" ] || fail "$file is not there"; done
for image in ${images[@]+"${images[@]}"}; do
        [[ $image =~ ^[a-z0-9.:/_-]+@sha256:[0-9a-f]{64}$ ]] || fail "$image is no reference by digest: a tag may be another image tomorrow"
done
[ -z "$package" ] || package=$(realpath "$package")

# ── the system ──────────────────────────────────────────────────────────────────────────────────────────────────
needed=systemd,systemd-sysv,dbus,udev,ca-certificates,docker.io,iptables,iproute2,procps
if [ -n "$made" ]; then
        [ -z "$package" ] || fail "$root has an agent already"
elif [ "$root" != / ]; then
        [ ! -e "$root" ] || fail "$root is there already, and not of bake.sh"
        say "a new $suite in $root"
        # The package is copied in, so that apt finds what it depends on; no service is started in there.
        # shellcheck disable=SC2016  # expanded by the hook
        mmdebstrap --quiet --variant=minbase --include="$needed${include:+,$include}" \
                --customize-hook="cp '$package' \"\$1/tmp/agent.deb\"" \
                --customize-hook='chroot "$1" apt-get install --yes --no-install-recommends /tmp/agent.deb >/dev/null && rm "$1/tmp/agent.deb"' \
                "$suite" "$root" ${mirror:+"$mirror"}
else
        say "this machine"
        export DEBIAN_FRONTEND=noninteractive
        command -v dockerd >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends docker.io iptables; }
        apt-get install --yes --no-install-recommends "$package"
        systemctl stop molecule-agentd.service 2>/dev/null || true
fi
root=$(cd "$root" && pwd)
under=${root%/}

install -D -m 0644 "$daemon_json" "$under/etc/docker/daemon.json"
[ -z "$conf" ] || install -D -m 0644 "$conf" "$under/etc/molecule-agent/agent.conf.d/05-image.conf"

# ── the images, into the engine's own place ─────────────────────────────────────────────────────────────────────
engine=''
private=''
cleanup() {
        if [ -n "$engine" ]; then kill "$engine"; wait "$engine" || true; fi
        engine=''
        [ -z "$private" ] || rm -rf "$private"
}
trap cleanup EXIT

pull() {
        local try
        for try in 1 2 3; do
                docker --host "$1" pull --quiet "$2" && return
                [ "$try" = 3 ] || sleep $((try * 5))
        done
        fail "cannot pull $2"
}

if [ ${#images[@]} -gt 0 ]; then
        if [ "$root" = / ]; then
                systemctl restart docker.service
                address=unix:///var/run/docker.sock
        else
                private=$(mktemp -d)
                address=unix://$private/docker.sock
                dockerd --config-file "$under/etc/docker/daemon.json" --data-root "$under/var/lib/docker" --exec-root "$private/exec" --host "$address" \
                        --pidfile "$private/pid" --bridge none --iptables=false --ip6tables=false --containerd-namespace bake \
                        --containerd-plugins-namespace bake-plugins >"$private/log" 2>&1 &
                engine=$!
                for _ in $(seq 100); do [ -S "$private/docker.sock" ] && break; sleep 0.1; done
                [ -S "$private/docker.sock" ] || { cat "$private/log" >&2; fail "the engine does not start"; }
        fi
        for image in "${images[@]}"; do
                say "image $image"
                pull "$address" "$image"
        done
fi
mkdir -p "$under/usr/share/molecule-agent"
{
        printf '{"images":['
        separator=''
        for image in ${images[@]+"${images[@]}"}; do printf '%s\n  "%s"' "$separator" "$image"; separator=,; done
        printf '\n]}\n'
} >"$under/usr/share/molecule-agent/preloaded.json.new"
mv "$under/usr/share/molecule-agent/preloaded.json.new" "$under/usr/share/molecule-agent/preloaded.json"
cleanup

# ── no identity ─────────────────────────────────────────────────────────────────────────────────────────────────
# The engine's own ids, too: two hosts with one are one to whoever collects them.
rm -f "$under/etc/docker/key.json" "$under/var/lib/docker/engine-id"
if [ "$root" = / ]; then molecule-agentctl seal-image; else chroot "$root" molecule-agentctl seal-image; fi
rm -rf "$under/var/lib/cloud/instance" "$under/var/lib/cloud/instances"
find "$under/var/log/journal" -mindepth 1 -delete 2>/dev/null || true
say "done"
