#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent beside a bare client and a shell loop, in one run and on one machine. Called by `make bench`. Figures and ratios are for
reading: a missed target is printed as missed and is no failure; the exit status is 1 only where something could not be measured.

Words choose what is measured (seal idle dispatch ask swap rounds); without any, all of it."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import asking   # noqa: E402
import common   # noqa: E402,F401  (puts tests/lab on the path)
import dispatch   # noqa: E402
import idle   # noqa: E402
import rounds   # noqa: E402
import sealing   # noqa: E402
import swap   # noqa: E402
from lab import Lab   # noqa: E402
from proc import free_range   # noqa: E402

began = time.monotonic()


def say(text):
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def measured(name, measure, rows, broken):
    try:
        rows += list(measure())
    except Exception as error:
        broken.append(name)
        say(f"{name} could not be measured: {type(error).__name__}: {error}")


def run(lab, chosen, rows, broken):
    """The idle agent comes first: a young process without a past. Another agent is given jobs during its quiet minute."""
    if "seal" in chosen:
        measured("seal", lambda: sealing.measure(say), rows, broken)
    image = lab.image("ok", name="bench", keep=True)
    low = free_range(60)
    site = lab.site(log_level="info", port_range=f"{low}-{low + 59}", max_parallel_jobs=rounds.PARALLEL)
    with site:
        common.provision(site, image)

        def dispatched():
            if "dispatch" in chosen:
                measured("dispatch", lambda: dispatch.measure(lab, say), rows, broken)
        if "idle" in chosen:
            measured("idle", lambda: idle.measure(site, say, dispatched), rows, broken)
        else:
            dispatched()
        for name, measure in (("ask", asking.measure), ("swap", swap.measure), ("rounds", rounds.measure)):
            if name in chosen:
                measured(name, lambda measure=measure: measure(site, image, say), rows, broken)


def table(rows):
    rows = [("", "agent", "beside", "ratio", "target", ""), *(row.cells for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.2f}, {os.uname().release}"


def main(chosen):
    rows, broken = [], []
    with Lab("bench") as lab:
        say(f"dockerd {lab.engine.get('/version')['Version']} and a registry run; {machine()}")
        run(lab, chosen or ("seal", "idle", "dispatch", "ask", "swap", "rounds"), rows, broken)
    print()
    table(rows)
    print(f"\nbench: {'could not measure ' + ', '.join(broken) if broken else 'ok'}, {time.monotonic() - began:.0f} s, "
          f"load at the end {os.getloadavg()[0]:.2f}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
