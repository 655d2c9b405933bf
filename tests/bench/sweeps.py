# SPDX-License-Identifier: Apache-2.0
"""What a sweep costs that finds everything as it should be, in instructions (valgrind's callgrind counts them, which no other load of the machine
changes), with so many workspaces. Beside it stands what one workspace costs of that: the same for few and for many, or the work does not grow with
their number alone."""

import os
import re
import subprocess
import time

import populous
from common import Row
from proc import LabError, end_now, wait_for

COUNTS, PASSES = (100, 1000, 2000), 2
LIMIT = 240
EVEN = 1.15                                                 # of the dearest workspace to the cheapest


def calm(pid):
    """Asleep, and so for a second: a process that only waits for its turn is not."""
    for _ in range(20):
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rsplit(")", 1)[1].split()[0] != "S":
                return False
        time.sleep(0.05)
    return True


def control(pid, *words):
    done = subprocess.run(["callgrind_control", *words, str(pid)], capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise LabError(f"callgrind_control {words}: {done.stdout}{done.stderr}")


def counted(host, passes):
    """Instructions of so many sweeps, by a valgrind that began to count before and stops behind them."""
    pid, out = host.agent.process.pid, f"{host.where}/callgrind"
    for _ in range(passes):
        before = host.engine.lists
        host.engine.tell()
        wait_for(lambda: host.engine.lists > before, LIMIT, "a sweep's list")
        wait_for(lambda: calm(pid), LIMIT, "the sweep's end")
    if host.engine.lists - before != 1:
        raise LabError("more sweeps than were asked for")
    control(pid, "-d")
    newest = max((name for name in os.listdir(host.where) if re.fullmatch(r"callgrind\.\d+", name)), key=lambda name: int(name.split(".")[1]))
    with open(f"{host.where}/{newest}") as file:
        return int(re.search(r"^totals: (\d+)", file.read(), re.M).group(1))


def one(count, pattern, image):
    """Instructions of one sweep. The first one that is counted also pays for valgrind's beginning, so it is not taken."""
    host = populous.Host(count, pattern, image)
    try:
        host.agent.start(ready=LIMIT, wrap=("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no",
                                            f"--callgrind-out-file={host.where}/callgrind"))
        wait_for(lambda: host.agent.process.check() and host.agent.lines("looked after"), LIMIT, "the first look")
        wait_for(lambda: calm(host.agent.process.pid), LIMIT, "the end of the first look")
        control(host.agent.process.pid, "-i", "on")
        counted(host, 1)
        return counted(host, PASSES) / PASSES
    finally:
        host.agent.stop(LIMIT)
        end_now(host.end)


def measure(pattern, image, say, counts=COUNTS):
    each = {}
    for count in counts:
        sweep = one(count, pattern, image)
        each[count] = sweep / count
        say(f"a sweep of {count} workspaces: {sweep / 1e6:.1f} million instructions")
        most = max(each.values()) / min(each.values())
        last = count == counts[-1]
        yield Row(f"sweep, {count} workspaces", f"{sweep / 1e6:.1f} M instr.", f"of one workspace {each[count] / 1e3:.0f} k",
                  f"{each[count] / each[counts[0]]:.2f}", f"<= {EVEN:.2f}" if last else "", most <= EVEN if last else None, counts=True)
