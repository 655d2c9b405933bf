#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each system call that touches the disk: of the writing of a set (new, beside an old one, in place of a damaged one), of the tool's
steps of a rotation of the root key, and of the daemon's start in which everything is wrapped anew. A reference run under strace gives the
calls; then each is tried in its turn, on a copy of the same state. Afterwards every secret opens: the old set or the new one, whole, with the
tool and with the reader in docs/mseal.py; and doing it again ends well. No engine and no control plane are needed."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must  # noqa: E402
from lab import TREE, LabError, binary  # noqa: E402
from proc import at_end  # noqa: E402
from sealed import flip  # noqa: E402
from world import new_id  # noqa: E402

CALLS = ("openat", "mkdirat", "write", "fsync", "close", "renameat", "unlinkat", "unlink", "fchmod", "fchownat", "ftruncate")
TOOL = f"{TREE}/build/tests/tools/secret-set"
ORG = "11111111-1111-4111-8111-111111111111"
COUNT, SIZE = 3, 100
where = tempfile.mkdtemp(prefix="skill-", dir="/dev/shm" if shutil.disk_usage("/dev/shm").free > 1 << 28 else None)
at_end(lambda: shutil.rmtree(where, ignore_errors=True))


def run(*words, env=None, want=(0,)):
    done = subprocess.run(words, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=60, check=False)
    if want is not None and done.returncode not in want:
        raise LabError(f"{words}: {done.returncode} {done.stdout}{done.stderr}")
    return done


def strace(words, env, *options):
    return run("strace", "-f", "-qq", *options, *words, env=env, want=None)


def reference(words, env, until=None):
    """(call, n-th of its kind) of each call of a run that is left alone, from the first that touches its state to the one that names `until`."""
    log = f"{where}/trace-{threading.get_ident()}"
    strace(words, env, "-e", "trace=" + ",".join(CALLS), "-o", log)
    counts, points, begun = {}, [], False
    with open(log) as lines:
        for line in lines:
            name = re.match(r"(?:\d+ +)?(\w+)\(", line)
            if not name or name[1] not in CALLS:
                continue
            counts[name[1]] = counts.get(name[1], 0) + 1
            begun = begun or (name[1] == "openat" and env["STATE_DIRECTORY"] in line)
            if until and f'"{until}"' in line:
                break
            if begun:
                points.append((name[1], counts[name[1]]))
    return points


def killed(words, env, point):
    """True when it died there; how often a call comes may differ by a few between two runs."""
    done = strace(words, env, "-o", "/dev/null", "-e", f"inject={point[0]}:signal=KILL:when={point[1]}")
    return done.returncode < 0 or done.returncode == 137


def copy(state):
    """A copy of its own for each try."""
    to = f"{where}/try-{threading.get_ident()}"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(state, to, symlinks=True)
    return to


def each(points, attempt):
    """Tries all points, some at a time; at least nine of ten must have hit. Returns how many."""
    def one(point):
        try:
            return attempt(point)
        except LabError as error:
            raise LabError(f"killed at {point}: {error}") from error
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        hits = list(pool.map(one, points))
    must(points and sum(hits) >= len(points) * 0.9, f"only {sum(hits)} of {len(points)} points were hit")
    tap.diag(f"{sum(hits)} points")
    return sum(hits)


# ── sets ───────────────────────────────────────────────────────────────────────────────────────────────────────

def write(state, workspace, generation):
    return [TOOL, "write", state, ORG, workspace, str(generation), str(COUNT), str(SIZE)]


def read(state, workspace, generation, want=(0,)):
    return run(TOOL, "read", state, ORG, workspace, str(generation), str(COUNT), str(SIZE), want=want).returncode


def leftovers(state, workspace):
    return [name for name in os.listdir(f"{state}/sealed/{workspace}") if name.startswith(".new.")]


def writing_killed(prepare, whenever, afterwards):
    """prepare(state, workspace) makes what is there before; whenever() must hold after each kill, afterwards() once it was done again."""
    base, workspace = f"{where}/base-{new_id()}", new_id()
    os.makedirs(base)
    prepare(base, workspace)

    def attempt(point):
        state = copy(base)
        hit = killed(write(state, workspace, 9), {"STATE_DIRECTORY": state}, point)
        whenever(state, workspace)
        run(*write(state, workspace, 9))
        read(state, workspace, 9)
        afterwards(state, workspace)
        return hit
    first = copy(base)
    each(reference(write(first, workspace, 9), {"STATE_DIRECTORY": first}), attempt)


def set_written(prepare, readable):
    """readable: generations that must open whenever the kill comes."""
    def whenever(state, workspace):
        for generation in readable:
            read(state, workspace, generation)
        read(state, workspace, 9, want=(0, 3))              # whole or not at all

    def afterwards(state, workspace):
        must(not leftovers(state, workspace), f"left over: {leftovers(state, workspace)}")
    return lambda: writing_killed(prepare, whenever, afterwards)


def nothing_before(state, workspace):
    run(*write(state, new_id(), 1))


def an_older_set(state, workspace):
    run(*write(state, workspace, 8))


def a_damaged_set(state, workspace):
    run(*write(state, workspace, 8))
    run(*write(state, workspace, 9))
    flip(f"{state}/sealed/{workspace}/g9/manifest.seal")


def damaged_set_replaced():
    """Until it is set aside the damaged one is there, and says that it is."""
    def whenever(state, workspace):
        read(state, workspace, 8)
        must(read(state, workspace, 9, want=(0, 1, 3)) != 1 or os.path.isdir(f"{state}/sealed/{workspace}/g9"), "unreadable, and not there")

    def afterwards(state, _workspace):
        must(os.listdir(f"{state}/quarantine"), "the damaged one was not set aside")
    writing_killed(a_damaged_set, whenever, afterwards)


# ── the rotation of the root ───────────────────────────────────────────────────────────────────────────────────

def environment(state):
    return {"STATE_DIRECTORY": state, "RUNTIME_DIRECTORY": f"{where}/run", "CONFIGURATION_DIRECTORY": f"{where}/etc"}


def daemon(state):
    return [binary("molecule-agentd"), "--config", f"{where}/etc/agent.conf"]


def until_ready(state, wait=20):
    """A start of the daemon that is ended once it is ready."""
    child = subprocess.Popen(daemon(state), env={**os.environ, **environment(state)}, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + wait
    said = ""
    try:
        while "molecule-agentd " not in said:
            line = child.stderr.readline()
            said += line
            must(line and time.monotonic() < end, f"it did not start: {said}")
    finally:
        child.kill()
        child.wait()
    return said


def rotate(state, want):
    return run(binary("molecule-agentctl"), "secrets", "rotate-root", "--reason", "a test", "--no-restart", env=environment(state), want=want)


def verified(state, workspaces, reader=False):
    """Everything opens, whatever moment it is."""
    done = run(binary("molecule-agentctl"), "secrets", "verify", env=environment(state))
    must("all good" in done.stdout, done.stdout)
    for workspace in workspaces:
        read(state, workspace, 1)
    if reader:
        must("all good" in run(sys.executable, f"{TREE}/docs/mseal.py", state, "verify").stdout, "the other reader does not agree")


def prepared():
    """A state with a host key and three workspaces, as the daemon made it."""
    base, workspaces = f"{where}/rotation", [new_id() for _ in range(3)]
    for path in (base, f"{where}/run", f"{where}/etc"):
        os.makedirs(path, 0o700, exist_ok=True)
    with open(f"{where}/etc/agent.conf", "w") as file:
        file.write(f"[agent]\norg_id = {ORG}\nengine_socket = {where}/no-engine\n")
    until_ready(base)
    for workspace in workspaces:
        run(*write(base, workspace, 1))
    verified(base, workspaces, reader=True)
    return base, workspaces


def finished(state, workspaces):
    """The rotation goes on from wherever it is, and ends with the new root alone."""
    for _ in range(4):
        if rotate(state, (0, 75)).returncode == 0:
            break
        until_ready(state)
    else:
        raise LabError("the rotation does not come to an end")
    verified(state, workspaces)
    roots = sorted(name for name in os.listdir(f"{state}/keys") if name.startswith("root."))
    must(len(roots) == 1 and roots[0] != "root.e1", f"roots: {roots}")


def rotation_killed(base, words, until=None, reader=False):
    def attempt(point):
        state = copy(base)
        hit = killed(words(state), environment(state), point)
        verified(state, workspaces, reader)
        finished(state, workspaces)
        return hit
    first = copy(base)
    each(reference(words(first), environment(first), until), attempt)


def the_tool_makes_the_new_root():
    rotation_killed(base, tool)


def tool(_state):
    return [binary("molecule-agentctl"), "secrets", "rotate-root", "--reason", "a test", "--no-restart"]


def once(state):
    """A start that ends by itself: there is nothing to talk to."""
    return [*daemon(state), "--once"]


def the_daemon_wraps_everything_anew():
    begun = f"{where}/begun"
    shutil.copytree(base, begun)
    rotate(begun, (75,))
    rotation_killed(begun, once, until="outbox", reader=True)         # what it opens once everything is wrapped


def the_tool_drops_the_old_root():
    wrapped = f"{where}/wrapped"
    shutil.copytree(base, wrapped)
    rotate(wrapped, (75,))
    until_ready(wrapped)
    rotation_killed(wrapped, tool)


base, workspaces = prepared()
tap.run([("a first set", set_written(nothing_before, ())), ("a set beside an older one", set_written(an_older_set, (8,))),
         ("a set in place of a damaged one", damaged_set_replaced),
         ("the tool makes the new root", the_tool_makes_the_new_root),
         ("the daemon wraps everything anew", the_daemon_wraps_everything_anew),
         ("the tool drops the old root", the_tool_drops_the_old_root)])
