# SPDX-License-Identifier: Apache-2.0
"""What the agent costs while nothing happens: one settled workspace, one quiet minute. Beside its memory stands a process that only
initialises the same libraries, once without and once with one transfer over TLS, which the agent has behind it by then."""

import os
import shutil
import signal
import subprocess
import time

from common import Row, cpu_seconds, memory, tool
from proc import LabError, Process, wait_for

MINUTE, SETTLE = 60, 8


def switches(pid):
    """How often it has slept so far: with one thread that is how often epoll_wait returned after waiting."""
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))


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
    binary, copy = os.environ.get("MOLECULE_AGENTD", ""), f"{where}/stripped"
    shutil.copy(binary, copy)
    if subprocess.run(["strip", copy], check=False).returncode:
        raise LabError("strip failed")
    return os.path.getsize(copy)


def measure(site, say):
    pid = site.agent.process.pid
    time.sleep(SETTLE)                                      # what follows a provision is over by then
    say(f"watching the idle agent for {MINUTE} s")
    end, slept, used = returns(pid, site.where), switches(pid), cpu_seconds(pid)
    time.sleep(MINUTE)
    used, slept, count = cpu_seconds(pid) - used, switches(pid) - slept, end()
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
    yield Row("returns of epoll_wait", f"{count} a minute", f"{slept} sleeps", "", "<= 20", count <= 20)
    yield Row("CPU, idle", f"{used * 1e3:.1f} ms a minute")
    stripped = size(site.where)
    yield Row("stripped binary", f"{stripped} bytes", "", "", "<= 300000", stripped <= 300000)
