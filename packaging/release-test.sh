#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A release with a key of its own: everything is in it, the sums and the signature hold, and a changed byte is seen.
# shellcheck disable=SC2016  # expanded by the inner shells
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/release-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
. packaging/tap.sh
export work

openssl genpkey -algorithm ed25519 -out "$work/key.pem" 2>/dev/null
openssl pkey -in "$work/key.pem" -pubout -out "$work/public.pem"
check "it is made" packaging/release.sh "$work/key.pem" "$work/out"
check "both architectures and the rpm are in it" sh -c 'cd "$work/out" && ls && ls molecule-agent_*_amd64.deb molecule-agent_*_arm64.deb molecule-agent-*.x86_64.rpm'
check "the arm64 package is for arm64" sh -c 'mkdir "$work/arm" && dpkg-deb -x "$work"/out/molecule-agent_*_arm64.deb "$work/arm" && for f in usr/sbin/molecule-agentd usr/lib/molecule-agent/molecule-launch; do
        readelf -h "$work/arm/$f" | grep -q AArch64 || { readelf -h "$work/arm/$f"; exit 1; }; done; ! readelf -l "$work/arm/usr/lib/molecule-agent/molecule-launch" | grep INTERP'
check "built across once more it is the same bytes" sh -c 'packaging/deb/cross.sh "$work/again" && cd "$work/again" && sha256sum -- molecule-agent_*_arm64.deb >"$work/arm.sum" && cd "$work/out" && sha256sum -c "$work/arm.sum"'
check "the sums hold" sh -c 'cd "$work/out" && sha256sum -c SHA256SUMS'
check "the signature holds" openssl pkeyutl -verify -pubin -inkey "$work/public.pem" -rawin -in "$work/out/SHA256SUMS" -sigfile "$work/out/SHA256SUMS.sig"
check "of other sums it does not" sh -c 'sed "1s/^./x/" "$work/out/SHA256SUMS" >"$work/other"; ! openssl pkeyutl -verify -pubin -inkey "$work/public.pem" -rawin -in "$work/other" -sigfile "$work/out/SHA256SUMS.sig"'
check "the SPDX document names each package with its sum, and what is linked in" python3 -c '
import glob, hashlib, json, os, sys
out = os.environ["work"] + "/out"
spdx = json.load(open(out + "/molecule-agent.spdx.json"))
assert spdx["spdxVersion"] == "SPDX-2.3" and spdx["dataLicense"] == "CC0-1.0"
sums = {p["packageFileName"]: p["checksums"][0]["checksumValue"] for p in spdx["packages"] if "packageFileName" in p}
files = {os.path.basename(f): hashlib.sha256(open(f, "rb").read()).hexdigest() for f in glob.glob(out + "/*.deb") + glob.glob(out + "/*.rpm") if "dbgsym" not in f}
assert sums == files, (sums, files)
ids = {p["SPDXID"] for p in spdx["packages"]} | {"SPDXRef-DOCUMENT"}
assert all(r["spdxElementId"] in ids and r["relatedSpdxElement"] in ids for r in spdx["relationships"])
assert {"cjson", "libsodium", "musl"} <= {p["name"] for p in spdx["packages"]}'
check "without its key it is refused" sh -c '! packaging/release.sh /nowhere.pem "$work/none"'
finish
