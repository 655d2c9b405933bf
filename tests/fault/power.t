#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The power goes at each call by which a job changes something, on the disk or in the world (tests/lab/sweep, where the ways to run a part
of it are), on each kind of file system. The agent is stopped behind the call, what it has sent arrives, and the disk keeps only what was
made durable. The disk then knows all that the control plane was promised and all that the engine shows; after a restart the job ends
once, the engine holds what the outcome says, and nothing lies about. Then the same for fifty of these states on each kind with the power going in the
recovery, too."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import disk  # noqa: E402
import sweep  # noqa: E402
import tap  # noqa: E402
from lab import Lab  # noqa: E402
from lives import images  # noqa: E402

SITES = 2                                                   # at each place
LIMIT = 100 if sweep.QUICK else 36000                       # seconds of each of the two sweeps
STATES = 1 if sweep.QUICK else 17
ARRIVES = 0.15                                              # seconds for what was sent to be done on the other side


class Cut(sweep.Victim):
    signal = signal.SIGSTOP

    def prepared(self):
        self.disk = disk.Disk(self.place, f"{self.site.where}/disk", self.site.agent.state)

    def reached(self, strace):
        return strace.stopped()

    def falls(self):
        time.sleep(ARRIVES)
        self.disk.cut()
        self.site.agent.kill()
        self.site.agent.wait()
        self.disk.unmount()
        self.disk.mount()


def main():
    if disk.missing():
        print(f"1..0 # SKIP needs {', '.join(disk.missing())}")
        sys.exit(77)
    places = tuple(disk.KINDS)
    with Lab("power") as lab:
        versions = images(lab, SITES * len(places))
        sweep.once_and_twice(lambda place, slot: Cut(lab, versions[slot], place, f"power-{slot}"), places, 2, SITES, LIMIT, STATES, 1)
    tap.done()


if __name__ == "__main__":
    main()
