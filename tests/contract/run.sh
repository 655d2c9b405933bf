#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The agent against docs/openapi/agent.yaml: lint (and of local.yaml), then agent and reference control plane with a validating proxy between them.
# MOLECULE_AGENTD and MOLECULE_DEVCP name the programs; without them those in build/.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
agentd=${MOLECULE_AGENTD:-$top/build/molecule-agentd}
devcp=${MOLECULE_DEVCP:-$top/build/molecule-devcp}
out=$top/build/contract
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true

for program in node npm; do
    command -v $program >/dev/null || { echo "check-contract: $program is needed" >&2; exit 2; }
done
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    { echo "check-contract: node $(node --version) is too old; 20.19 or newer is needed" >&2; exit 2; }
for program in "$agentd" "$devcp"; do
    [ -x "$program" ] || { echo "check-contract: $program is not built" >&2; exit 2; }
done

cd "$here"
stale=$(find package-lock.json -newer node_modules/.package-lock.json 2>/dev/null || echo stale)
[ -z "$stale" ] || npm ci --no-audit --no-fund
node_modules/.bin/redocly lint --config redocly.yaml ../../docs/openapi/agent.yaml ../../docs/openapi/local.yaml

rm -rf "$out"
mkdir -p "$out"
node_modules/.bin/redocly bundle --config redocly.yaml ../../docs/openapi/agent.yaml --ext json -o "$out/agent.json"
exec node contract.mjs "$out" "$out/agent.json" "$agentd" "$devcp"
