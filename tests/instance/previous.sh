#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The version before: the same source as 0.0.1, with records one version older, in a package made of the one given. previous.sh PACKAGE OUT.deb
set -euo pipefail
package=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/previous-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
tar -cf - --exclude=./build --exclude=./.git --exclude=node_modules . | tar -xf - -C "$work/tree"
record=$(sed -n 's/^#define RECORD_VERSION \([0-9]*\)$/\1/p' base/record.h)
make -C "$work/tree" -j"$(nproc)" VERSION=0.0.1 CPPFLAGS=-DRECORD_VERSION=$((record - 1)) CFLAGS=-Os GIT_SHA=previous build/molecule-agentd build/molecule-agentctl >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; exit 1; }
dpkg-deb -R "$package" "$work/deb"
strip -o "$work/deb/usr/sbin/molecule-agentd" "$work/tree/build/molecule-agentd"
strip -o "$work/deb/usr/bin/molecule-agentctl" "$work/tree/build/molecule-agentctl"
sed -i 's/^Version: .*/Version: 0.0.1/' "$work/deb/DEBIAN/control"
(cd "$work/deb" && find usr lib -type f -exec md5sum {} + >DEBIAN/md5sums)
dpkg-deb --root-owner-group -b "$work/deb" "$out" >/dev/null
