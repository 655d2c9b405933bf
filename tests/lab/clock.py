# SPDX-License-Identifier: Apache-2.0
"""A wall clock that is off, for one process."""

import os
import subprocess
import time


def shifted(stage, seconds):
    """The environment of a process whose wall clock is off by so much."""
    library = f"{stage.lab.where}/clock.so"
    if not os.path.exists(library):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", made := f"{library}.{time.monotonic_ns()}", source], check=True)
        os.rename(made, library)                           # another case makes the same
    return {"LD_PRELOAD": library, "LAB_CLOCK": str(seconds)}
