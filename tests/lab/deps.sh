#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the packages of the named groups (packages.txt) present. Says nothing when all are there. As root, or by a sudo that asks for no
# password; otherwise prints the one line to run and ends with 2. No daemon is started by it: docker.io comes with a service that would.
set -eu
here=$(dirname "$0")
export PATH="$PATH:/usr/sbin:/sbin"

missing=
for group in "$@"; do
        while read -r of package command; do
                [ "$of" = "$group" ] || continue
                if [ -n "$command" ] && command -v "$command" >/dev/null 2>&1; then continue; fi
                [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
        done <"$here/packages.txt"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
        if sudo -n true 2>/dev/null; then exec sudo -n "$0" "$@"; fi
        echo "packages are missing; as root:" >&2
        echo "apt-get install -y --no-install-recommends$missing" >&2
        exit 2
fi

# While this file denies it, no package's script starts a service. One that was there before is the machine's own, and stays.
policy=/usr/sbin/policy-rc.d
cleanup() { [ -z "${ours:-}" ] || rm -f "$policy"; }
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
fi

install() {
        # shellcheck disable=SC2086  # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 $missing
}
echo "installing:$missing"
log=$(mktemp)
# The lists may be absent or older than the archive: then once more after an update.
if install >"$log" 2>&1 || { apt-get update >>"$log" 2>&1 && install >>"$log" 2>&1; }; then
        rm -f "$log"
else
        cat "$log" >&2
        rm -f "$log"
        exit 1
fi
