#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All packages of what is committed, with SHA256SUMS, a list of what is in them (SPDX 2.3) and, with a key, a detached signature of the sums.
# release.sh [KEY [DIRECTORY]]: KEY is an Ed25519 private key in PEM (openssl genpkey -algorithm ed25519); DIRECTORY build/release.
# Verify: openssl pkeyutl -verify -pubin -inkey PUBLIC.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig && sha256sum -c SHA256SUMS
set -euo pipefail
cd "$(dirname "$0")/.."
key=${1:-}
mkdir -p "${2:-build/release}"
out=$(cd "${2:-build/release}" && pwd)
[ -z "$key" ] || [ -f "$key" ] || { echo "there is no key $key" >&2; exit 1; }
rm -f "$out"/*.deb "$out"/*.rpm "$out"/SHA256SUMS* "$out"/*.spdx.json
export DEB_BUILD_OPTIONS=nocheck        # make check has been run
packaging/deb/build.sh "$out" >/dev/null
packaging/deb/cross.sh "$out" >/dev/null
packaging/rpm/build.sh "$out" >/dev/null
rm -f "$out"/*.changes "$out"/*.buildinfo "$out"/*.log
packaging/spdx.py "$out" >"$out/molecule-agent.spdx.json"
(cd "$out" && sha256sum -- *.deb *.rpm *.spdx.json >SHA256SUMS)
if [ -n "$key" ]; then openssl pkeyutl -sign -inkey "$key" -rawin -in "$out/SHA256SUMS" -out "$out/SHA256SUMS.sig"; fi
cat "$out/SHA256SUMS"
