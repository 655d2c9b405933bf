#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lint.sh "COMPILER FLAGS" SOURCES…: cppcheck and clang-tidy over the sources, shellcheck over the scripts, mandoc over the manual pages,
# Python's own warnings over the lab. A finding is an error.
set -u
flags=$1
shift
bad=0

run() {                                 # run NAME COMMAND…
        name=$1
        shift
        began=$(date +%s)
        if "$@"; then echo "lint: $name: clean ($(($(date +%s) - began)) s)"; else echo "lint: $name: findings"; bad=1; fi
}

run cppcheck cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        --suppressions-list=tests/lab/cppcheck.txt \
        --library=tests/lab/cppcheck.cfg -j "$(nproc)" -I. "$@"
tidy=$(mktemp)
printf '%s\n' "$@" >"$tidy"
# The count of warnings in system headers goes to stderr; findings go to stdout.
export flags
# shellcheck disable=SC2016  # expanded by the inner shell
run clang-tidy xargs -P "$(nproc)" -n 1 -a "$tidy" sh -c '
        [ "$0" = base/fault.c ] || flags="$flags -include tests/lab/lint.h"
        eval "clang-tidy --quiet $0 -- $flags" 2>/dev/null'
rm -f "$tidy"
run shellcheck shellcheck -x tests/*.sh tests/lab/*.sh tests/fault/*.sh tests/instance/*.sh packaging/*.sh packaging/*/*.sh packaging/registry-auth-ecr packaging/bash-completion/molecule-agentctl .ci/run
pages=$(find docs -maxdepth 1 -name '*.[158]')
# shellcheck disable=SC2086  # a list of names
[ -z "$pages" ] || run mandoc mandoc -Tlint -Wwarning $pages
# shellcheck disable=SC2046
run python python3 -W error -c 'import pathlib, sys
for name in sys.argv[1:]: compile(pathlib.Path(name).read_text(), name, "exec")' $(find tests -name '*.py' -not -path '*/node_modules/*')
exit "$bad"
