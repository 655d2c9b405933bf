# SPDX-License-Identifier: Apache-2.0
"""What the agent costs while nothing happens: one settled workspace, one quiet minute. Beside its memory stands a process that only
initialises the same libraries, once without and once with one transfer over TLS, which the agent has behind it by then."""

import os
import shutil
import signal
import subprocess
import time

from common import Row, cpu_seconds, memory, tool
from lab import binary
from proc import LabError, Process, wait_for

MINUTE, SETTLE = 60, 8


def returns(pid, where):
    """Starts to count returns of epoll_wait; the answer ends it and gives the count."""
    out = f"{where}/strace.out"
    child = subprocess.Popen(["strace", "-qq", "-f", "-e", "trace=epoll_wait,epoll_pwait,epoll_pwait2", "-o", out, "-p", str(pid)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def attached():
        with open(f"/proc/{pid}/status") as file:
            return child.poll() is None and "TracerPid:\t0\n" not in file.read()
    wait_for(attached, 10, "strace")

    def end():
        child.send_signal(signal.SIGINT)
        child.wait(10)
        with open(out) as file:
            return sum(" = " in line and "EINTR" not in line for line in file)
    return end


def libraries(where, words=()):
    log = f"{where}/libs{len(words)}.log"
    process = Process([tool("bench-libs"), *words], log)

    def ready():
        process.check()
        with open(log) as file:
            return "ready" in file.read()
    try:
        wait_for(ready, 10, "bench-libs")
        return memory(process.pid)
    finally:
        process.stop()


def size(where):
    """Bytes of the daemon, stripped."""
    copy = f"{where}/stripped"
    shutil.copy(binary("molecule-agentd"), copy)
    if subprocess.run(["strip", copy], check=False).returncode:
        raise LabError("strip failed")
    return os.path.getsize(copy)


def measure(site, say, meanwhile):
    """meanwhile(): what may be done during the minute, since it leaves this agent and its engine's containers alone."""
    pid = site.agent.process.pid
    time.sleep(SETTLE)                                      # what follows a provision is over by then
    say(f"watching the idle agent for {MINUTE} s")
    end, used, began = returns(pid, site.where), cpu_seconds(pid), time.monotonic()
    meanwhile()
    time.sleep(max(0, began + MINUTE - time.monotonic()))
    minutes = (time.monotonic() - began) / 60
    used, count = (cpu_seconds(pid) - used) / minutes, end() / minutes
    if count == 0:
        raise LabError("strace saw no epoll_wait at all")
    mine, bare = memory(pid), libraries(site.where)
    tls = libraries(site.where, (f"{site.plane.url}/api/v1/none", site.plane.authority.ca))
    for name, value in (("agent", mine), ("libraries", bare), ("libraries, one transfer", tls)):
        say(f"{name}: " + ", ".join(f"{key} {value[key]} KiB" for key in ("Rss", "Pss", "Private_Dirty", "Private_Clean", "Shared_Clean")))
    ratio = mine["Rss"] / bare["Rss"]
    yield Row("idle RSS", f"{mine['Rss']} KiB", f"libraries {bare['Rss']} KiB", f"{ratio:.2f}", "<= 1.20", ratio <= 1.2)
    yield Row("", "", f"after one TLS transfer {tls['Rss']} KiB", f"{mine['Rss'] / tls['Rss']:.2f}")
    yield Row("idle private dirty", f"{mine['Private_Dirty']} KiB", f"libraries {bare['Private_Dirty']} KiB",
              f"{mine['Private_Dirty'] / bare['Private_Dirty']:.2f}")
    yield Row("returns of epoll_wait", f"{count:.1f} a minute", "", "", "<= 20", count <= 20)
    yield Row("CPU, idle", f"{used * 1e3:.1f} ms a minute")
    stripped = size(site.where)
    yield Row("stripped binary", f"{stripped} bytes", "", "", "<= 400000", stripped <= 400000)
