#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The house rules a compiler does not know, as TAP: who may include whom, one door to each library, no process or shell in the daemon,
# files that stay one idea long.
# shellcheck disable=SC2013  # neither file names nor includes hold blanks
set -u
cd "$(dirname "$0")/.." || exit 1
n=0 bad=0
answer() {                              # answer NAME FINDINGS: no findings is ok
        n=$((n + 1))
        if [ -z "$2" ]; then echo "ok $n - $1"; return; fi
        bad=1
        echo "not ok $n - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
}
sources() { for folder in "$@"; do [ ! -d "$folder" ] || find "$folder" -name '*.[ch]'; done | sort; }
# Code without its comments and strings, so that words in them do not count.
code() { sed -E 's#"([^"\\]|\\.)*"#""#g; s#/\*.*\*/##g; s#^ *\*.*##; s#/\*.*##' "$1"; }

# folder: the folders it may include
while read -r folder allowed; do
        [ -d "$folder" ] || continue
        found=$(for file in $(sources "$folder"); do
                for include in $(sed -n 's|^#include "\([^"]*\)".*|\1|p' "$file"); do
                        case " $allowed " in *" ${include%%/*} "*) ;; *) echo "$file includes $include" ;; esac
                done
        done)
        answer "$folder/ includes only: $allowed" "$found"
done <<'RULES'
base base
secrets base secrets
engine base engine
provision base secrets engine provision
agent base secrets engine provision agent
RULES

# header: the only files that may include it
daemon='base secrets engine provision agent'
while read -r header doors; do
        # shellcheck disable=SC2046,SC2086  # lists of words
        found=$(for file in $(grep -lE "^#include [<\"]$header" $(sources $daemon) /dev/null); do
                for door in $doors; do
                        # shellcheck disable=SC2254  # a pattern
                        case $file in $door) continue 2 ;; esac
                done
                echo "$file includes $header"
        done)
        answer "$header only in: $doors" "$found"
done <<'RULES'
curl/ base/http*.[ch]
openssl/ base/http*.[ch]
sodium base/hash.[ch] secrets/*.[ch] agent/ctl/rotate.c
cjson/ base/json.h
microhttpd agent/api*.[ch]
zstd.h agent/ctl/bundle.c
sqlite3 none
pthread none
threads none
RULES

# shellcheck disable=SC2046,SC2086  # lists of words
found=$(grep -nE 'cJSON_(Compare|Parse|ParseWithOpts|ParseWithLengthOpts) *\(|cJSON_Utils|cJSONUtils_' $(sources $daemon) /dev/null | grep -vE '^base/json[a-z-]*\.c:.*cJSON_Parse')
answer "cJSON parses only behind the strict check of base/json, and never compares or patches" "$found"

# shellcheck disable=SC2086
found=$(for file in $(sources $daemon); do
        case $file in secrets/launch/*|agent/ctl/*) continue ;; esac     # the launcher's purpose; the operator's tool
        code "$file" | grep -nE '\b(system|popen|v?fork|clone|posix_spawnp?|exec[lv]p?e?|fexecve|pthread_create|curl_easy_perform|u?sleep|nanosleep)[[:space:]]*\(' | sed "s|^|$file:|"
done)
answer "the daemon starts no process, no shell, no thread, and does not sleep" "$found"

# shellcheck disable=SC2046,SC2086
found=$(wc -l $(sources $daemon tests) $(find tests -name '*.py' -not -path '*/node_modules/*') | awk '$2 != "total" && $1 > 600 { print $2 " has " $1 " lines" }')
sorted() { grep -oE "$1" "$2" | grep -oE '[0-9a-f]{32}' | sort; }
answer "each event of the journal has its entry in the catalog, and no other" \
        "$(sorted 'X\([A-Z_]+, "[0-9a-f]{32}"' base/log.h >"${TMPDIR:-/tmp}/events.$$"; sorted '^-- [0-9a-f]{32}' units/molecule-agent.catalog |
           diff "${TMPDIR:-/tmp}/events.$$" -; uniq -d "${TMPDIR:-/tmp}/events.$$"; rm -f "${TMPDIR:-/tmp}/events.$$")"
answer "no file above 600 lines" "$found"

# shellcheck disable=SC2086
found=$(for file in $(sources $daemon tests); do head -n 1 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$file"; done)
answer "every source begins with its licence" "$found"

answer "no module of tests has the name of one of tests/lab, which would be taken in its place" "$(find tests -name '*.py' -printf '%f %p\n' | sort |
        awk '{ if ($1 in seen && (seen[$1] ~ /^tests\/lab\// || $2 ~ /^tests\/lab\//)) print seen[$1], $2; seen[$1] = $2 }')"

echo "1..$n"
exit "$bad"
