#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each call by which a job changes something, on the disk or in the world (tests/lab/sweep, where the ways to run a part of it
are). Afterwards the disk knows all that the control plane was promised and all that the engine shows; after a restart the job ends
once, the engine holds what the outcome says, and nothing lies about."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import sweep  # noqa: E402
import tap  # noqa: E402
from lab import Lab  # noqa: E402
from lives import images  # noqa: E402

SITES = 6


class Killed(sweep.Victim):
    signal = signal.SIGKILL

    def reached(self, strace):
        return not self.site.agent.process.running()

    def crash(self, how):
        self.site.agent.wait()


def main():
    with Lab("killed") as lab:
        versions = images(lab, SITES)
        sweep.Sweep(lambda place, slot: Killed(lab, versions[slot], place, f"killed-{slot}"), ("",), sample=8).run(SITES, 1500)
    tap.done()


if __name__ == "__main__":
    main()
