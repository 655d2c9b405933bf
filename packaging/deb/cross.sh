#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package for arm64, built across in a root of its own, from what is committed, into the directory given (build/deb). Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-build/deb}"
out=$(cd "${1:-build/deb}" && pwd)
arch=arm64
work=$(mktemp -d "${TMPDIR:-/tmp}/cross-XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=molecule-agent-$(cat VERSION)
mkdir -p "$work/$tree"
git archive HEAD | tar -xf - -C "$work/$tree"
cp -a packaging/deb/debian "$work/$tree/debian"
needed=$(sed -n '/^Build-Depends:/,/^[A-Z]/p' packaging/deb/debian/control | grep -oE 'lib[a-z0-9-]+-dev|musl-dev' | sed "s/\$/:$arch/" | paste -sd,)
mmdebstrap --quiet --variant=apt --architectures="amd64,$arch" --include="build-essential,crossbuild-essential-$arch,debhelper,fakeroot,pkg-config,$needed" \
        bookworm "$work/root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} 2>"$out/cross.log" || { tail -n 20 "$out/cross.log"; exit 1; }
mkdir "$work/root/build"
cp -a "$work/$tree" "$work/root/build/"
chroot "$work/root" env HOME=/ LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" GIT_SHA="$(git rev-parse --short=12 HEAD)" \
        DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" sh -c "cd /build/$tree && dpkg-buildpackage --host-arch $arch --build-profiles=cross,nocheck --unsigned-source --unsigned-changes --build=binary" \
        >>"$out/cross.log" 2>&1 || { tail -n 30 "$out/cross.log"; exit 1; }
cp "$work"/root/build/*.deb "$out/"
(cd "$out" && sha256sum ./*"_$arch.deb")
