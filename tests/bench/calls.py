# SPDX-License-Identifier: Apache-2.0
"""The system calls of a process, by name, as strace sees them: a count that hardly depends on what else the machine does."""

import collections
import re
import signal
import subprocess

from proc import wait_for


CAME_BACK = re.compile(r"\d+ +(?:(\w+)\(.* = |<\.\.\. (\w+) resumed>.* = )")


def counted(path):
    """{name: how many came back}"""
    with open(path) as file:
        return collections.Counter(found[1] or found[2] for found in (CAME_BACK.match(line) for line in file) if found)


def watch(pid, where):
    """Begins to count; the answer ends it and gives the counts."""
    out = f"{where}/strace.out"
    child = subprocess.Popen(["strace", "-qq", "-f", "-s", "0", "-o", out, "-p", str(pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)

    def attached():
        with open(f"/proc/{pid}/status") as file:
            return child.poll() is None and "TracerPid:\t0\n" not in file.read()
    wait_for(attached, 10, "strace")

    def end():
        child.send_signal(signal.SIGINT)
        child.wait(10)
        return counted(out)
    return end
