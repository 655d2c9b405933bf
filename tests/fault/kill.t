#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each call by which a job changes something, on the disk or in the world (tests/lab/sweep, where the ways to run a part of it
are). Afterwards the disk knows all that the control plane was promised and all that the engine shows; after a restart the job ends
once, the engine holds what the outcome says, and nothing lies about. Then the same for fifty of these states with the recovery killed, too,
one start after the other, each at a point of its own."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import sweep  # noqa: E402
import tap  # noqa: E402
from lab import Lab  # noqa: E402
from lives import images  # noqa: E402
from proc import Ended  # noqa: E402

SITES = 4 if sweep.QUICK else 6
LIMIT = 100 if sweep.QUICK else 2400                        # seconds of each of the two sweeps
STATES, STARTS = (4, 1) if sweep.QUICK else (17, 4)


class Killed(sweep.Victim):
    signal = signal.SIGKILL

    def reached(self, strace):
        """Killed there, and by us; another end is a failure."""
        agent = self.site.agent
        if agent.process.running():
            return False
        if agent.wait() != -signal.SIGKILL or not strace.came():
            raise Ended(f"the agent ended with {agent.wait()}, and not at {strace.point}")
        return True

    def falls(self):
        self.site.agent.wait()


def main():
    with Lab("killed") as lab:
        versions = images(lab, SITES)
        sweep.once_and_twice(lambda place, slot: Killed(lab, versions[slot], place, f"killed-{slot}"), ("",), 4, SITES, LIMIT, STATES, STARTS)
    tap.done()


if __name__ == "__main__":
    main()
