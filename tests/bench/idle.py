# SPDX-License-Identifier: Apache-2.0
"""What the agent costs while nothing happens: one settled workspace, two quiet minutes. Beside its memory stands a process that only
initialises the same libraries, once without and once with one transfer over TLS, which the agent has behind it by then."""

import os
import shutil
import subprocess
import time

import calls
from common import Row, cpu_seconds, docker, median, memory, run_cpu, tool
from lab import binary
from proc import LabError, Process, wait_for

MINUTE, SETTLE = 60, 8


def libraries(where, pid, words=()):
    """What a process that only has the libraries takes, and what the agent takes at the same moment: what both map counts for each half (Pss)."""
    log = f"{where}/libs{len(words)}.log"
    process = Process([tool("bench-libs"), *words], log)

    def ready():
        process.check()
        with open(log) as file:
            return "ready" in file.read()
    try:
        wait_for(ready, 10, "bench-libs")
        return memory(process.pid), memory(pid)
    finally:
        process.stop()


def cron(site, minutes=9):
    """What a script would take that a clock begins every minute, as hosts had before: it asks a control plane what is to be done, and the engine
    what runs. (CPU seconds, system calls) of one minute."""
    ca, url, out = site.plane.authority.ca, f"{site.plane.url}/api/v1/none", f"{site.where}/cron.strace"
    asks = (["curl", "-sS", "--cacert", ca, url], ["docker", "ps", "--quiet"])
    used = median([sum(run_cpu(ask, docker(site)) for ask in asks) for _ in range(minutes)])
    made = []
    for ask in asks:
        run_cpu(["strace", "-qq", "-f", "-s", "0", "-o", out, *ask], docker(site))
        made.append(calls.counted(out).total())
    if 0 in made:
        raise LabError(f"strace saw no call of {asks[made.index(0)][0]}")
    return used, sum(made)


def size(program, where):
    """Bytes of a program, stripped."""
    copy = f"{where}/stripped"
    shutil.copy(program, copy)
    if subprocess.run(["strip", copy], check=False).returncode:
        raise LabError("strip failed")
    return os.path.getsize(copy)


def sizes(where):
    """Beside other daemons that may be here: what hosts run to have containers or metrics at all."""
    own = size(binary("molecule-agentd"), where)
    yield Row("stripped binary", f"{own} bytes", "", "", "<= 400000", own <= 400000, counts=True)
    for name in ("dockerd", "containerd", "prometheus"):
        if shutil.which(name):
            other = size(shutil.which(name), where)
            yield Row("", "", f"{name} {other} bytes", f"{own / other:.4f}")


def measure(site, say, meanwhile):
    """meanwhile(): what may be done during the minute, since it leaves this agent and its engine's containers alone."""
    pid = site.agent.process.pid
    time.sleep(SETTLE)                                      # what follows a provision is over by then
    say(f"watching the idle agent for {MINUTE} s")
    used, began = cpu_seconds(pid), time.monotonic()
    time.sleep(MINUTE)
    used = (cpu_seconds(pid) - used) / (time.monotonic() - began) * 60
    say(f"and another {MINUTE} s, with strace, whose own stops would count as its time")
    end, began = calls.watch(pid, site.where), time.monotonic()
    meanwhile()
    time.sleep(max(0, began + MINUTE - time.monotonic()))
    minutes, seen = (time.monotonic() - began) / 60, end()
    count, all_calls = sum(number for name, number in seen.items() if name.startswith("epoll_")) / minutes, seen.total() / minutes
    if count == 0:
        raise LabError("strace saw no epoll_wait at all")
    bare, mine = libraries(site.where, pid)
    tls, _ = libraries(site.where, pid, (f"{site.plane.url}/api/v1/none", site.plane.authority.ca))
    for name, value in (("agent", mine), ("libraries", bare), ("libraries, one transfer", tls)):
        say(f"{name}: " + ", ".join(f"{key} {value[key]} KiB" for key in ("Rss", "Pss", "Private_Dirty", "Private_Clean", "Shared_Clean")))
    ratio = mine["Rss"] / bare["Rss"]
    yield Row("idle RSS", f"{mine['Rss']} KiB", f"libraries {bare['Rss']} KiB", f"{ratio:.2f}", "<= 1.20", ratio <= 1.2)
    yield Row("", "", f"after one TLS transfer {tls['Rss']} KiB", f"{mine['Rss'] / tls['Rss']:.2f}")
    yield Row("idle private dirty", f"{mine['Private_Dirty']} KiB", f"libraries {bare['Private_Dirty']} KiB",
              f"{mine['Private_Dirty'] / bare['Private_Dirty']:.2f}")
    yield Row("idle PSS", f"{mine['Pss']} KiB", f"libraries {bare['Pss']} KiB", f"{mine['Pss'] / bare['Pss']:.2f}")
    sent = seen["sendto"] / minutes
    script, script_calls = cron(site)
    yield Row("wake-ups (returns of epoll_wait)", f"{count:.1f} a minute", f"sent by it {sent:.1f} a minute", f"{count / sent:.2f}" if sent else "",
              "<= 20", count <= 20)
    yield Row("system calls, idle", f"{all_calls:.0f} a minute", f"curl and docker ps, once {script_calls}", f"{all_calls / script_calls:.3f}")
    yield Row("CPU, idle", f"{used * 1e3:.1f} ms a minute", f"curl and docker ps, once {script * 1e3:.1f} ms", f"{used / script:.2f}")
    yield from sizes(site.where)
