# SPDX-License-Identifier: Apache-2.0
"""How long a workspace does not answer while it is replaced: from the old one's last good answer to the new one's first, beside what the
engine alone needs to stop the one, write the file, and start the other. Both take turns, watched by the same prober."""

import time
import uuid

from common import NETWORK, Row, deprovision, finals, median, provision, remove, spec, without_agent
from prober import Prober
from proc import free_port
from rounds import bare

def by_agent(site, image, workspace, number):
    with Prober(site.port(workspace)) as prober:
        time.sleep(0.5)
        job = site.plane.order(site.host()["host_id"], "workspace.provision", workspace, spec=spec(image, f"version {number}"))
        finals(site, [job])
        time.sleep(0.3)
    return prober.gap()


def by_engine(site, image):
    """(gap, {"stop": s, "seed": s, "start": s})"""
    org, port = str(uuid.uuid4()), free_port()
    with without_agent(site):
        try:
            with Prober(port) as prober:
                out = bare(site, "swap", site.lab.engine.socket, image, NETWORK, org, str(port))
                time.sleep(0.3)                             # the prober's own first good answer
        finally:
            remove(site.lab.engine, org)
    words = dict(line.split() for line in out.splitlines())
    return prober.gap(), {name: float(words[name]) for name in ("stop", "seed", "start")}


def measure(site, image, say, times=5):
    agent, engine, calls = [], [], []
    workspace = provision(site, image, "version 0")
    for number in range(1, times + 1):
        agent.append(by_agent(site, image, workspace, number))
        gap, took = by_engine(site, image)
        engine.append(gap)
        calls.append(took)
        say(f"swap {number}: gap {agent[-1] * 1e3:.0f} ms; bare client: gap {gap * 1e3:.0f} ms, calls "
            + " + ".join(f"{name} {value * 1e3:.0f}" for name, value in took.items()) + " ms")
    deprovision(site, [workspace])
    gap, bare = median(agent) * 1e3, median(engine) * 1e3
    sums = median([sum(took.values()) for took in calls]) * 1e3
    yield Row("swap gap (median)", f"{gap:.0f} ms", f"stop+seed+start {sums:.0f} ms", f"{gap / sums:.2f}",
              f"<= {sums + 100:.0f} ms", gap <= sums + 100)
    yield Row("", "", f"bare client's gap {bare:.0f} ms", f"{gap / bare:.2f}")
