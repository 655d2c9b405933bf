#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Takes guards away, one by one, and sees that the named test, and in its file no other, fails. Each patch of tests/fault/mutants/ begins with words on what
# it takes away and with a line
#       test: FILE NAME
# FILE is a unit test (tests/test-x.c; all of it is run) or an integration test (tests/integration/x.t; NAME is a pattern for MOLECULE_CASES, only those cases
# are run), a sweep (tests/fault/x.t; NAME is a pattern for MOLECULE_POINT, and more than one answer may fail) or tests/sim (NAME is the number of seeds; at
# least one must fail). Of these two the head has a further line,
#       says: PATTERN
# which a reason given for a failure must match: the promise that is broken, and not whatever else goes wrong. Works on a copy of the tree. MUTANTS chooses
# patches by a glob; with MOLECULE_QUICK a few are drawn by lot (MOLECULE_SEED draws the same again): of those that need no host, and one that only the order
# of a trace shows.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(pwd)
copy=$(mktemp -d "${TMPDIR:-/tmp}/mutants-XXXXXX")
trap 'rm -rf "$copy"' EXIT
number=0
failed=0
table=()

answer() {                              # answer ok|"not ok" WORDS [FILE-WITH-REASONS]
        number=$((number + 1))
        printf '%s %d - %s\n' "$1" "$number" "$2"
        [ "$1" != ok ] || return 0
        failed=1
        [ -z "${3:-}" ] || sed 's/^/# /' "$3" | tail -n 20
}

# Others, whose time is measured, may run beside it.
build() {
        nice make -C "$copy/tree" -j"$(nproc)" "$@"
}

# Builds what the test needs and runs it; its TAP goes to $copy/out. Not built is not run.
run() {                                 # run FILE NAME
        case $1 in
        tests/sim)
                build build/tests/sim/sim >"$copy/make" 2>&1 || return 2
                (cd "$copy/tree" && timeout 600 build/tests/sim/sim --first 1 "$2") >"$copy/out" 2>&1 || true ;;
        *.c)
                local program
                program=build/tests/$(basename "$1" .c)
                build "$program" >"$copy/make" 2>&1 || return 2
                (cd "$copy/tree" && timeout 180 "$program") >"$copy/out" 2>&1 || true ;;
        *.t)
                build all >"$copy/make" 2>&1 || return 2
                (cd "$copy/tree" && env -u MOLECULE_AGENTD -u MOLECULE_AGENTCTL -u MOLECULE_DEVCP -u MOLECULE_LAUNCH -u MOLECULE_QUICK -u MOLECULE_SEED \
                        MOLECULE_CASES="$2" MOLECULE_POINT="$2" timeout 600 "$1") >"$copy/out" 2>&1 || true ;;
        esac
        grep -q '^1\.\.' "$copy/out" || printf 'not ok 0 - the test did not end\n' >>"$copy/out"
}

mkdir "$copy/tree"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy/tree"
[ ! -d build ] || tar --exclude=build/lab -cf - build | tar -xf - -C "$copy/tree"     # the lab is at work beside it
git -C "$copy/tree" init -q
declare -A clean

chosen() {
        local seed=${MOLECULE_SEED:-$RANDOM} among
        mapfile -t among < <(compgen -G "tests/fault/mutants/${MUTANTS:-*.patch}")
        if [ -z "${MOLECULE_QUICK:-}" ]; then
                printf '%s\n' "${among[@]}"
        else
                echo "# MOLECULE_SEED=$seed" >&3
                drawn 6 '^test: tests/(test-|sim)'
                drawn 1 '^test: tests/fault/kill\.t \^order'
        fi
}

# Without a word for nothing to draw from, which MUTANTS may bring about.
drawn() {                               # drawn N PATTERN: so many of those whose head has it
        { grep -lE "$2" "${among[@]}" || true; } | shuf -n "$1" --random-source=<(openssl enc -aes-256-ctr -nosalt -pbkdf2 -pass "pass:$seed" </dev/zero 2>/dev/null)
}

# Whether the output shows what the patch takes away, and nothing else; words where it does not.
complaint() {                           # complaint FILE NAME SAYS
        local bad
        bad=$(grep -c '^not ok' "$copy/out" || true)
        if [ "$bad" = 0 ]; then
                echo "nobody noticed"
                return
        fi
        case $1 in
        tests/sim | tests/fault/*)
                if [ -z "$3" ]; then
                        echo "its head has no line 'says: PATTERN'"
                elif ! grep -qE -- "^#.*($3)" "$copy/out"; then
                        echo "something fails, but nothing says '$3'"
                fi ;;
        *.t)
                [ "$bad" = 1 ] && grep -q '^not ok 1 - ' "$copy/out" && grep -q '^ok 2 - the cases side by side ended in time' "$copy/out" ||
                        echo "not just that case fails" ;;
        *.c)
                [ "$bad" = 1 ] && grep -q "^not ok [0-9]* - $2\$" "$copy/out" || echo "other tests fail, too" ;;
        esac
}

# What rots is seen by every run, and not only by one that draws it.
fresh() {
        local patch file rotten=
        for patch in tests/fault/mutants/*.patch; do
                file=$(sed -n 's/^test: \([^ ]*\).*/\1/p' "$patch" | head -n 1)
                if [ ! -e "${file:-/none}" ] || ! git -C "$copy/tree" apply --check "$root/$patch" 2>>"$copy/why"; then
                        rotten="$rotten $(basename "$patch" .patch)"
                fi
        done
        if [ -z "$rotten" ]; then
                answer ok "every patch fits, and its test is there"
        else
                answer "not ok" "make anew:$rotten" "$copy/why"
        fi
}

exec 3>&1
: >"$copy/why"
fresh
for patch in $(chosen); do
        read -r file name < <(sed -n 's/^test: //p' "$patch" | head -n 1)
        says=$(sed -n '1,/^$/s/^says: //p' "$patch")
        words="$(basename "$patch" .patch): $file $name"
        if ! git -C "$copy/tree" apply --check "$root/$patch" 2>"$copy/why"; then
                answer "not ok" "$words: the patch does not fit any more; make it anew" "$copy/why"
                continue
        fi
        key=$file
        [[ $file == *.c ]] || key="$file $name"
        if [ -z "${clean[$key]:-}" ]; then
                run "$file" "$name" || { answer "not ok" "$words: does not build without the patch" "$copy/make"; continue; }
                if grep -q '^not ok' "$copy/out" || ! grep -q '^ok' "$copy/out"; then
                        answer "not ok" "$words: fails without the patch, too" "$copy/out"
                        continue
                fi
                clean[$key]=yes
        fi
        git -C "$copy/tree" apply "$root/$patch"
        if ! run "$file" "$name"; then
                answer "not ok" "$words: does not build with the patch" "$copy/make"
        else
                why=$(complaint "$file" "$name" "$says")
                if [ -n "$why" ]; then
                        answer "not ok" "$words: $why" "$copy/out"
                else
                        answer ok "$words: caught"
                        table+=("$words")
                fi
        fi
        git -C "$copy/tree" apply -R "$root/$patch"
done
[ $number -gt 1 ] || answer "not ok" "no patch is called '${MUTANTS:-*.patch}'"
echo "# ${#table[@]} of $((number - 1)) caught, and by which test:"
[ ${#table[@]} -eq 0 ] || printf '#   %s\n' "${table[@]}"
echo "1..$number"
exit $failed
