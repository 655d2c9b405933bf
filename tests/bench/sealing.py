# SPDX-License-Identifier: Apache-2.0
"""A set of 1,000 secrets of 1 KiB, sealed durably as the agent does it, beside the library's bare call on the same bytes (no file at all) and
beside 1,000 files of the same size, each written and fsynced (no sealing at all). In turn, on one file system; medians of some rounds, since
an fsync takes what it takes."""

import os
import shutil
import subprocess
import tempfile
import uuid

from common import Row, median, tool
from lab import TREE
from proc import LabError

COUNT, SIZE, ROUNDS = 1000, 1024, 7


def timed(*words):
    """The seconds that the tool took for the work itself."""
    done = subprocess.run([tool("secret-set"), *words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise LabError(f"secret-set {words[0]}: {done.stderr}")
    return float(done.stdout)


def measure(say):
    where, org = tempfile.mkdtemp(prefix="seal-", dir=f"{TREE}/build"), str(uuid.uuid4())
    took = {"write": [], "bare": [], "files": []}
    try:
        for _ in range(ROUNDS):
            took["write"].append(timed("write", where, org, str(uuid.uuid4()), "1", str(COUNT), str(SIZE)))
            took["bare"].append(timed("bare", where, str(COUNT), str(SIZE)))
            took["files"].append(timed("files", where, str(COUNT), str(SIZE)))
            shutil.rmtree(f"{where}/bare")
            os.sync()                                       # nobody pays for another's writes
    finally:
        shutil.rmtree(where, ignore_errors=True)
    sealed, bare, files = (median(took[name]) for name in ("write", "bare", "files"))
    say(f"{COUNT} secrets of {SIZE} bytes, {ROUNDS} rounds: " + ", ".join(f"{name} {min(times):.3f} to {max(times):.3f} s"
                                                                       for name, times in took.items()))
    yield Row(f"{COUNT} secrets sealed, durably", f"{sealed * 1e3:.0f} ms", f"fsynced files {files * 1e3:.0f} ms", f"{sealed / files:.2f}")
    yield Row("", "", f"the bare library call {bare * 1e3:.1f} ms", f"{sealed / bare:.0f}")
