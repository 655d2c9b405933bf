#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The package for Amazon Linux 2023, built here and not run there (verify-al2023.sh is for whoever can), from what is committed, into the directory
# given (build/rpm). Two builds of one commit are the same bytes.
#
# Three things are not as on this machine: libsodium, cJSON and libmicrohttpd come as archives, since that system lacks them; libcurl is linked against a
# stub without symbol versions, which are Debian's own; and no symbol of glibc above 2.34 may be asked for.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-build/rpm}"
out=$(cd "${1:-build/rpm}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/rpm-XXXXXX")
trap 'rm -rf "$work"' EXIT
# One path for every build: it would stand in what is built.
mkdir -p "$work/tree" "$work/lib"
git archive HEAD | tar -xf - -C "$work/tree"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
sha=$(git rev-parse --short=12 HEAD)
version=$(cat VERSION)

# Debian has no archive of cJSON: from its source package, with its patches.
mkdir -p "$work/cjson" "$work/lists/partial"
echo "deb-src ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" >"$work/sources"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work/cjson" && "${apt[@]}" source cjson >/dev/null 2>&1)
gcc -Os -ffile-prefix-map="$work"=. -ffunction-sections -fdata-sections -fPIC -D_FORTIFY_SOURCE=2 -fstack-protector-strong -c -o "$work/lib/cJSON.o" "$work"/cjson/cjson-*/cJSON.c
ar rcD "$work/lib/libcjson.a" "$work/lib/cJSON.o"

# libcurl without versions: the functions that we call, by name only.
grep -rhoE '\bcurl_[a-z_0-9]+\(' "$work/tree/base" | tr -d '(' | sort -u |
        while read -r name; do echo "void $name(void) {}"; done >"$work/curl.c"
sed -i '/curl_freep/d;/curl_cleanup_/d' "$work/curl.c"
gcc -shared -fPIC -w -Wl,-soname,libcurl.so.4 -o "$work/lib/libcurl.so" "$work/curl.c"

static() { gcc -print-file-name="$1"; }
make -C "$work/tree" -j"$(nproc)" GIT_SHA="$sha" CFLAGS="-Os -ffile-prefix-map=$work/tree=." \
        LDFLAGS="-L$work/lib" PKG_LIBS="-lcurl -lssl -lcrypto $work/lib/libcjson.a -lsystemd -lzstd $(static libsodium.a) $(static libmicrohttpd.a) -lgnutls -lpthread -lm" \
        build/molecule-agentd build/molecule-agentctl build/molecule-launch >"$out/build.log" 2>&1 || { tail -n 30 "$out/build.log"; exit 1; }
make -C "$work/tree" install-only DESTDIR="$work/stage" PREFIX=/usr >>"$out/build.log" 2>&1
strip "$work/stage/usr/sbin/molecule-agentd" "$work/stage/usr/bin/molecule-agentctl"
install -D -m 0644 packaging/agent.conf.example "$work/stage/usr/share/doc/molecule-agent/agent.conf.example"
install -D -m 0644 LICENSE "$work/stage/usr/share/doc/molecule-agent/LICENSE" 2>/dev/null || true
find "$work/stage" -name '*.[158]' -exec gzip -9n {} +
find "$work/stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rpmbuild -bb --quiet --target "$(uname -m)" --define "_topdir $work/rpm" --define "_stage $work/stage" --define "_version $version" \
        --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        --define "_binary_payload w9.gzdio" packaging/rpm/molecule-agent.spec >>"$out/build.log" 2>&1 || { tail -n 30 "$out/build.log"; exit 1; }
cp "$work"/rpm/RPMS/*/*.rpm "$out/"
(cd "$out" && sha256sum ./*.rpm)
