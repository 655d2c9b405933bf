# SPDX-License-Identifier: Apache-2.0
"""How long an operator waits for an answer: molecule-agentctl beside curl, which asks the same socket for the same status and shows it to nobody. Processes are
begun one by one, as a person does."""

import os
import subprocess
import time

from common import Row, median
from lab import binary

TIMES = 60
VERBS = ("status", "workspaces", "jobs", "pins", "df")


def milliseconds(argv, env):
    """The median of TIMES runs, after a few that warm up."""
    took = []
    for i in range(TIMES + 5):
        began = time.monotonic()
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
        if i >= 5:
            took.append((time.monotonic() - began) * 1000)
    return median(took)


def measure(site, _image, say):
    env = site.agent.environment()
    curl = milliseconds(["curl", "-sS", "--unix-socket", os.path.join(site.agent.runtime, "control.sock"), "http://localhost/v1/status"], env)
    for verb in VERBS:
        own = milliseconds([binary("molecule-agentctl"), verb], env)
        say(f"molecule-agentctl {verb}: {own:.1f} ms, curl {curl:.1f} ms")
        yield Row(f"molecule-agentctl {verb}", f"{own:.1f} ms", f"curl {curl:.1f} ms", f"{own / curl:.2f}", "< 20 ms", own < 20)
