# SPDX-License-Identifier: Apache-2.0
"""From exec to READY, and to every workspace looked after, with so many workspaces behind it (populous.py: real records, an engine made here). Beside
the first stands reading the same files and nothing else, beside the second the engine's own time for the same answers: its list, and a look at
each, one after the other, by a client that does not look at what they say."""

import os
import time

import populous
from common import Row, cpu_seconds, median, run_cpu
from proc import end_now, wait_for

COUNTS, TIMES = (0, 100, 1000, 2000), 3
LIMIT = 120


def once(host):
    """Seconds to READY, seconds until all was looked at, seconds on a processor."""
    with open(host.agent.log, "w"):
        pass
    began = time.monotonic()
    host.agent.start(ready=0)
    wait_for(lambda: host.agent.process.check() and host.agent.noticed("READY=1"), LIMIT, "READY", 0.002)
    ready = time.monotonic() - began
    wait_for(lambda: host.agent.process.check() and host.agent.lines("looked after"), LIMIT, "the first look", 0.005)
    done = time.monotonic() - began, cpu_seconds(host.agent.process.pid)
    host.agent.stop()
    return ready, *done


def read_all(state):
    """Every file below the state directory, once; not the ballast, which nobody reads."""
    began = time.monotonic()
    for where, _, names in os.walk(state):
        for name in set(names) - {"ballast"}:
            with open(f"{where}/{name}", "rb") as file:
                file.read()
    return time.monotonic() - began


def ask_all(host):
    """By curl: another process, as the agent is one, with one connection. (seconds, seconds on a processor)"""
    paths = ("", *(f"{container}/" for container in host.engine.people))
    words = "".join(f'url = "http://localhost/v1.41/containers/{path}json"\noutput = "/dev/null"\n' for path in paths)
    began = time.monotonic()
    used = run_cpu(["curl", "-sS", "--fail", "--unix-socket", host.engine.path, "-K", "-"], text=words)
    return time.monotonic() - began, used


def measure(pattern, image, say, counts=COUNTS):
    for count in counts:
        host = populous.Host(count, pattern, image)
        try:
            once(host)                                      # what is read lies in the page cache from here on, for all of them
            ready, done, used = map(median, zip(*(once(host) for _ in range(TIMES))))
            files = median([read_all(host.agent.state) for _ in range(TIMES)])
            engine, curl = map(median, zip(*(ask_all(host) for _ in range(TIMES))))
        finally:
            end_now(host.end)
        say(f"{count} workspaces: READY {ready * 1e3:.0f} ms, all looked at {done * 1e3:.0f} ms, CPU {used * 1e3:.0f} ms")
        yield Row(f"READY, {count} workspaces", f"{ready * 1e3:.0f} ms", f"reading the files {files * 1e3:.0f} ms", f"{ready / files:.2f}")
        yield Row(f"all looked at, {count}", f"{done * 1e3:.0f} ms", f"the engine's answers {engine * 1e3:.0f} ms", f"{done / engine:.2f}")
        yield Row(f"CPU of that, {count}", f"{used * 1e3:.0f} ms", f"curl {curl * 1e3:.0f} ms", f"{used / curl:.2f}")
