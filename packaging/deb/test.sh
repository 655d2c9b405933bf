#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package: builds, is the same bytes twice, and lintian has nothing to say at warning level.
# shellcheck disable=SC2016  # expanded by the inner shells
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/deb-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
. packaging/tap.sh

export DEB_BUILD_OPTIONS=nocheck        # make check has been run, or is
check "it builds" packaging/deb/build.sh "$work/one"
check "it builds again" packaging/deb/build.sh "$work/two"
check "two builds are the same bytes" sh -c 'cd "$1/one" && sha256sum -- *.deb >"$1/sums" && cd "$1/two" && sha256sum -c "$1/sums"' - "$work"
check "lintian is clean at warning level" lintian --allow-root --fail-on error,warning "$work"/one/*.changes
check "what a host needs is in it" sh -c 'dpkg-deb --contents "$1"/one/molecule-agent_*.deb >"$1/list" && for path in usr/sbin/molecule-agentd usr/bin/molecule-agentctl \
        usr/lib/molecule-agent/molecule-launch lib/systemd/system/molecule-agentd.service lib/systemd/system/molecule-agent-setup.service \
        usr/share/molecule-agent/monitoring/molecule-agent.rules.yml \
        usr/share/molecule-agent/monitoring/dashboard.json usr/lib/systemd/catalog/molecule-agent.catalog usr/lib/sysusers.d/molecule-agent.conf usr/lib/tmpfiles.d/molecule-agent.conf; do grep -q " \./$path\$" "$1/list" || { echo "no $path"; exit 1; }; done' - "$work"
check "nothing of the control plane is in it" sh -c '! grep -q devcp "$1/list"' - "$work"
finish
