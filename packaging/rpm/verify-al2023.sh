#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# For whoever has an Amazon Linux 2023 instance: as root there, with the package as the argument. Installs it, looks at what the package's own test cannot
# see elsewhere, and says what it found. Nothing is enrolled.
# shellcheck disable=SC2016  # expanded by the inner shells
set -uo pipefail
if [ $# != 1 ] || [ ! -f "$1" ]; then echo "Usage: verify-al2023.sh PACKAGE.rpm" >&2; exit 2; fi
grep -q 'Amazon Linux 2023' /etc/os-release || { echo "this is not Amazon Linux 2023" >&2; exit 2; }
bad=0
look() {
        local words=$1 text
        shift
        if text=$("$@" 2>&1); then echo "ok      $words"; else echo "failed  $words: $text"; bad=1; fi
}
look "installs" dnf install --assumeyes "$1"
look "the daemon finds its libraries" sh -c '! ldd /usr/sbin/molecule-agentd | grep "not found"'
look "the daemon is quiet about libcurl's versions" sh -c '[ -z "$(/usr/sbin/molecule-agentd --version 2>&1 >/dev/null)" ]'
look "the tool runs" molecule-agentctl version
look "the configuration is valid" molecule-agentd --check
look "the units verify" sh -c '! systemd-analyze verify --man=no molecule-agentd.service molecule-agent-setup.service molecule-agent-enroll.service 2>&1 | grep molecule'
look "it starts" systemctl restart molecule-agentd.service
sleep 3
look "it runs" systemctl is-active molecule-agentd.service
look "it was not restarted" sh -c '[ "$(systemctl show --property=NRestarts --value molecule-agentd.service)" = 0 ]'
look "nothing was denied" sh -c '! journalctl -b -u molecule-agentd.service | grep -iE "denied|not permitted|SIGSYS"'
systemd-analyze security --no-pager molecule-agentd.service | tail -n 1
exit "$bad"
