#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent beside a bare client and a shell loop, in one run and on one machine. Called by `make bench`. Figures and ratios are for
reading: a missed target is printed as missed and is no failure; the exit status is 1 only where something could not be measured, or where a count
that says the same on every machine misses its target.

Words choose what is measured (see PARTS); without any, all of it."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import asking   # noqa: E402
import cold   # noqa: E402
import common   # noqa: E402  (puts tests/lab on the path)
import dispatch   # noqa: E402
import idle   # noqa: E402
import jobs   # noqa: E402
import large   # noqa: E402
import parsing   # noqa: E402
import populous   # noqa: E402
import rounds   # noqa: E402
import sealing   # noqa: E402
import storing   # noqa: E402
import swap   # noqa: E402
import sweeps   # noqa: E402
from lab import Lab   # noqa: E402
from proc import free_range   # noqa: E402

ALONE = (("seal", sealing.measure), ("store", storing.measure))
SITE = (("ask", asking.measure), ("jobs", jobs.measure), ("large", large.measure), ("swap", swap.measure), ("rounds", rounds.measure))
CROWD = (("json", parsing.measure), ("cold", cold.measure), ("sweeps", sweeps.measure))
PARTS = ("idle", "dispatch", *(name for name, _ in (*ALONE, *SITE, *CROWD)))
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
    for name, measure in ALONE:
        if name in chosen:
            measured(name, lambda measure=measure: measure(say), rows, broken)
    image = lab.image("ok", name="bench", keep=True)
    low = free_range(60)
    site = lab.site(log_level="info", port_range=f"{low}-{low + 59}")
    with site:
        pattern = populous.pattern(site, common.provision(site, image))

        def dispatched():
            if "dispatch" in chosen:
                measured("dispatch", lambda: dispatch.measure(lab, say), rows, broken)
        if "idle" in chosen:
            measured("idle", lambda: idle.measure(site, say, dispatched), rows, broken)
        else:
            dispatched()
        for name, measure in SITE:
            if name in chosen:
                measured(name, lambda measure=measure: measure(site, image, say), rows, broken)
    for name, measure in CROWD:
        if name in chosen:
            measured(name, lambda measure=measure: measure(pattern, image, say), rows, broken)


def main(chosen):
    rows, broken = [], []
    if not set(chosen) <= set(PARTS):
        print(f"bench: the parts are {' '.join(PARTS)}", file=sys.stderr)
        return 2
    with Lab("bench") as lab:
        say(f"dockerd {lab.engine.get('/version')['Version']} and a registry run; {common.machine()}")
        run(lab, chosen or PARTS, rows, broken)
    print()
    common.table(rows)
    wrong = [row.cells[0] for row in rows if row.wrong]
    words = [f"could not measure {', '.join(broken)}"] * bool(broken) + [f"missed, on any machine: {', '.join(wrong)}"] * bool(wrong)
    print(f"\nbench: {'; '.join(words) or 'ok'}, {time.monotonic() - began:.0f} s, load at the end {os.getloadavg()[0]:.2f}")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
