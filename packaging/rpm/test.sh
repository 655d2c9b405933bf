#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The package for Amazon Linux 2023, as far as it can be judged where that does not run: it builds, twice to the same bytes; it asks for nothing that system
# lacks; its files are those of `make install`.
# shellcheck disable=SC2016  # expanded by the inner shells
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/rpm-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
. packaging/tap.sh
export work

check "it builds" packaging/rpm/build.sh "$work/one"
check "it builds again" packaging/rpm/build.sh "$work/two"
check "two builds are the same bytes" sh -c 'cd "$work/one" && sha256sum -- *.rpm >"$work/sums" && cd "$work/two" && sha256sum -c "$work/sums"'
mkdir "$work/root"
check "it unpacks" sh -c 'cd "$work/root" && rpm2cpio "$work"/one/*.rpm | cpio -idm --quiet'
check "no symbol of glibc above 2.34" sh -c 'for f in usr/sbin/molecule-agentd usr/bin/molecule-agentctl; do
        objdump -T "$work/root/$f" | grep -oE "GLIBC_[0-9][0-9.]*" | sort -uV | tail -n 1 | tee -a "$work/glibc"; done
        [ "$(printf "%s\nGLIBC_2.34\n" "$(cat "$work/glibc")" | sort -V | tail -n 1)" = GLIBC_2.34 ]'
check "only libraries that system has" sh -c 'objdump -p "$work/root/usr/sbin/molecule-agentd" | sed -n "s/ *NEEDED *//p" >"$work/needed"; cat "$work/needed"
        ! grep -vE "^(libcurl.so.4|libssl.so.3|libcrypto.so.3|libsystemd.so.0|libgnutls.so.30|libc.so.6|libm.so.6|ld-linux-x86-64.so.2)$" "$work/needed"'
check "no symbol versions of Debian's libcurl" sh -c '! objdump -p "$work/root/usr/sbin/molecule-agentd" | grep CURL_'
check "the linked-in libraries are in it" sh -c '! objdump -T "$work/root/usr/sbin/molecule-agentd" | grep -E "UND.*(sodium_|crypto_box|cJSON_|MHD_)"'
check "it runs" sh -c '"$work/root/usr/bin/molecule-agentctl" version && "$work/root/usr/sbin/molecule-agentd" --version'
check "what a host needs is in it" sh -c 'for path in usr/lib/molecule-agent/molecule-launch usr/lib/systemd/system/molecule-agentd.service \
        usr/lib/systemd/system/molecule-agent-setup.service usr/lib/sysusers.d/molecule-agent.conf usr/lib/tmpfiles.d/molecule-agent.conf; do
        [ -e "$work/root/$path" ] || { echo "no $path"; exit 1; }; done; ! find "$work/root" -name "*devcp*" | grep .'
check "it says that it was not run there" sh -c 'grep -q "built here and not run there" packaging/rpm/build.sh && [ -x packaging/rpm/verify-al2023.sh ]'
finish
