#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A seed tells its history twice, in the same words: what failed once can be looked at again. replay.sh SIMULATION [SEEDS]
set -eu
sim=$1 seeds=${2:-20}
where=$(mktemp -d "${TMPDIR:-/tmp}/replay-XXXXXX")
trap 'rm -rf "$where"' EXIT
# All but the process's number, which is in the names of directories, and how long it took.
tell() { "$sim" --loud "$1" 2>&1 | sed -e 's#/sim-[0-9]*-#/sim-#g' -e '/^# [0-9]* seeds in /d'; }
bad=0
for seed in $(seq "$seeds"); do
        tell "$seed" >"$where/once"
        tell "$seed" >"$where/again"
        [ -s "$where/once" ] && cmp -s "$where/once" "$where/again" && continue
        bad=1
        echo "# seed $seed:"
        diff "$where/once" "$where/again" | head -n 10 | sed 's/^/# /'
done
[ "$bad" = 0 ] || printf 'not '
echo "ok 1 - seeds 1 to $seeds tell their histories again, word for word"
echo 1..1
exit $bad
