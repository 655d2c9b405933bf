# SPDX-License-Identifier: Apache-2.0
"""A workspace's record stored durably, beside the bare calls on the same bytes: those that last (temporary file, fsync, rename, fsync of the
directory) and those that do not (write and fsync in place). In turn, on the file system of build/; medians of some rounds, since an fsync takes
what it takes."""

import os
import shutil
import subprocess
import tempfile

from common import Row, median, tool
from lab import TREE
from proc import LabError

COUNT, ROUNDS, WAYS = 100, 7, ("record", "renamed", "plain")


def timed(way, where):
    done = subprocess.run([tool("bench-disk"), way, where, str(COUNT)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise LabError(done.stderr)
    return float(done.stdout)


def all_timed(ways):
    """{way: seconds of each round}"""
    where, took = tempfile.mkdtemp(prefix="disk-", dir=f"{TREE}/build"), {way: [] for way in ways}
    try:
        for number in range(ROUNDS):
            for way in ways[::-1 if number % 2 else 1]:
                took[way].append(timed(way, where))
            os.sync()
    finally:
        shutil.rmtree(where, ignore_errors=True)
    return took


def one_renamed():
    """Seconds of one record by the bare calls that last."""
    return median(all_timed(("renamed",))["renamed"]) / COUNT


def measure(say):
    took = all_timed(WAYS)
    rate = {way: COUNT / median(times) for way, times in took.items()}
    say(f"{COUNT} records, {ROUNDS} rounds: " + ", ".join(f"{way} {min(times):.3f} to {max(times):.3f} s" for way, times in took.items()))
    yield Row("records stored, durably", f"{rate['record']:.0f} a second", f"bare, with rename {rate['renamed']:.0f} a second",
              f"{rate['renamed'] / rate['record']:.2f}")
    yield Row("", "", f"write and fsync {rate['plain']:.0f} a second", f"{rate['plain'] / rate['record']:.2f}")
