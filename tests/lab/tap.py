# SPDX-License-Identifier: Apache-2.0
"""The Test Anything Protocol in a few words: a plan, numbered answers, diagnostics behind '#'.

Either ok() and is_() give single answers and done() the plan, or run() takes functions, one answer each: an exception is the failure,
Skip, raised with a reason, a skip."""

import sys
import time
import traceback

count = failed = 0

class Skip(Exception):
    """This machine cannot run the test; the argument says why."""

def diag(text):
    for line in str(text).rstrip("\n").split("\n"):
        print("#", line, flush=True)

def plan(n):
    print(f"1..{n}", flush=True)

def ok(passed, name, why=""):
    global count, failed
    count += 1
    failed += not passed
    print(f"{'ok' if passed else 'not ok'} {count} - {name}", flush=True)
    if not passed and why:
        diag(why)
    return bool(passed)

def is_(got, want, name):
    return ok(got == want, name, f"got:  {got!r}\nwant: {want!r}")

def skip(name, reason):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {reason}", flush=True)

def done():
    plan(count)
    sys.exit(1 if failed or not count else 0)

def run(tests, tail=None):
    """tests: functions without parameters, or (name, function) pairs. tail(): text added to a failure, such as the end of a log."""
    plan(len(tests))
    for test in tests:
        name, call = test if isinstance(test, tuple) else (test.__name__.removeprefix("test_").replace("_", " "), test)
        began = time.monotonic()
        try:
            call()
            ok(True, f"{name} ({time.monotonic() - began:.1f} s)")
        except Skip as reason:
            skip(name, reason)
        except Exception:
            ok(False, name, traceback.format_exc() + (tail() if tail else ""))
    sys.exit(1 if failed else 0)
