#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command; what it leaves below build/ then belongs to whoever called sudo, also when it failed or was interrupted.
set -u
trap : INT TERM HUP                     # the command gets them too; we outlive it
"$@"
status=$?
if [ -n "${SUDO_UID:-}" ] && [ "$(id -u)" = 0 ]; then
        for made in build tests/contract/node_modules; do
                [ ! -e "$made" ] || chown -R -h "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$made"
        done
fi
exit "$status"
