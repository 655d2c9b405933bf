# SPDX-License-Identifier: Apache-2.0
"""From a job's offer to its first engine call: the moment the poll's answer leaves for the agent, and the moment the engine's socket has
its first request, both seen by proxies of one process and one clock (so the proxies' own time is in it). The jobs name images that the
engine lacks and the registry cannot give: they end soon, and other work stands in nobody's way."""

import time
import uuid

import storing
from common import Row, median, percentile, spec
from proc import free_range, wait_for

CALL = r"/images/.*/json"


def offers(site):
    """Keeps when each answer to a poll that carries a job was handed to the agent."""
    times = []

    def act(exchange):
        status, _, body, head = exchange.forward()
        if status == 200 and b"envelope" in body:
            times.append(time.monotonic())
        exchange.client.sock.sendall(head + body)
    site.cp.on("GET", r"/jobs\?", act, times=None)
    return times


def measure(lab, say, jobs=200):
    low = free_range(2 * jobs)                              # a workspace whose first provision failed keeps its port
    with lab.site(plane_proxy=True, engine_proxy=True, log_level="info", port_range=f"{low}-{low + 2 * jobs - 1}") as site:
        host, times, took = site.host()["host_id"], offers(site), []
        for number in range(jobs + 1):
            image = f"{lab.registry.address}/molecule/none@sha256:{uuid.uuid4().hex * 2}"
            offered, asked = len(times), len(site.dock.seen("GET", CALL))
            job = site.plane.order(host, "workspace.provision", str(uuid.uuid4()), spec=spec(image, "one"))
            site.plane.final(job)
            call = wait_for(lambda: site.dock.seen("GET", CALL)[asked:], 10, "the job's engine call")[0]
            if number:                                      # the first poll may have left before the proxy was told to watch
                took.append(call.at - times[offered])
            time.sleep(0.02)                                # the next poll is on its way
    middle, high = median(took) * 1e3, percentile(took, 99) * 1e3
    say(f"dispatch of {len(took)} jobs: least {min(took) * 1e3:.1f} ms, median {middle:.1f} ms, most {max(took) * 1e3:.1f} ms")
    one = storing.one_renamed() * 1e3
    yield Row("offer -> engine call", f"p50 {middle:.1f} ms", f"one record by bare calls {one:.1f} ms", f"{middle / one:.2f}", "p50 <= 10 ms", middle <= 10)
    yield Row("", f"p99 {high:.1f} ms", "the same", f"{high / one:.2f}")
