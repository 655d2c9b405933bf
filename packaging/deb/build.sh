#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package, built from what is committed, into the directory given (build/deb). Two builds of one commit are the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-build/deb}"
out=$(cd "${1:-build/deb}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/deb-XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/molecule-agent-$(cat VERSION)
mkdir "$tree"
git archive HEAD | tar -xf - -C "$tree"
cp -a packaging/deb/debian "$tree/debian"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
GIT_SHA=$(git rev-parse --short=12 HEAD)
export GIT_SHA
(cd "$tree" && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary) >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log"; exit 1; }
cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$out/"
(cd "$out" && sha256sum ./*.deb)
