# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the packages' tests, which have set $work: check WORDS COMMAND…, then finish.
work=${work:?is set by who sources this}
number=0
failed=0

check() {
        number=$((number + 1))
        local words=$1
        shift
        if "$@" >"$work/log" 2>&1; then
                echo "ok $number - $words"
        else
                echo "not ok $number - $words"
                sed 's/^/# /' "$work/log" | tail -n 20
                failed=1
        fi
}

finish() {
        echo "1..$number"
        exit "$failed"
}
