#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# analyze.sh "COMPILER FLAGS" SOURCES…: gcc -fanalyzer, one source after the other and as many at once as there are processors. A finding that
# tests/lab/analyzer.txt does not name is an error, and so is a line there that nothing finds any more. Leaks are left to ASan and valgrind: the
# analyzer takes every member that a constructor fills and a destructor frees for one.
set -euo pipefail
export flags=$1
shift
found=$(mktemp)
trap 'rm -f "$found" "$found.new" "$found.known"' EXIT
# shellcheck disable=SC2016  # expanded by the inner shell
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh -c '
        eval "LC_ALL=C gcc $flags -Os -fanalyzer -Wno-analyzer-malloc-leak -c -o /dev/null \"\$0\"" 2>&1' >"$found" || { cat "$found"; exit 1; }
# A warning is printed behind the function that it lies in.
awk -F"[:']" '/: In function / { gsub(/\302\264|\342\200[\230\231]/, "\047"); file = $1; where = $3 }
        match($0, /\[-Wanalyzer-[a-z-]+\]$/) && /: warning: / { split($0, at, ":"); print at[1], where, substr($0, RSTART + 12, RLENGTH - 13) }' "$found" |
        sort -u >"$found.new"
sed 's/ *#.*//; /^$/d' tests/lab/analyzer.txt | sort -u >"$found.known"
if diff <(cat "$found.known") "$found.new" >/dev/null; then
        echo "analyzer: clean, but for $(wc -l <"$found.known") that are judged in tests/lab/analyzer.txt"
else
        comm -13 "$found.known" "$found.new" | sed 's/^/analyzer: found: /'
        comm -23 "$found.known" "$found.new" | sed 's/^/analyzer: not found any more: /'
        exit 1
fi
