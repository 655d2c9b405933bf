# SPDX-License-Identifier: Apache-2.0
"""JSON from outside: the strict check, check and tree together, and cJSON's tree alone (tests/tools/bench-json), on what is met here: an engine's
list of 1,000 containers, and a job that is nearly all one long string. By the processor's clock."""

import json
import subprocess
import tempfile

from common import Row, median, spec, tool
from proc import LabError

ROUNDS, CONTAINERS, STRING = 9, 1000, 4 << 20


def rates(path):
    """{way: megabytes a second}, medians."""
    done = subprocess.run([tool("bench-json"), path, str(ROUNDS + 1)], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise LabError(f"bench-json ended with {done.returncode}")
    rounds = [line.split() for line in done.stdout.splitlines()[1:]]        # the first one makes the heap
    return {rounds[0][i]: int(rounds[0][0]) / 1e6 / median([float(words[i + 1]) for words in rounds]) for i in (1, 3, 5)}


def measure(pattern, image, say):
    item = json.dumps(pattern[0])
    documents = {"list of containers": "[" + ",".join([item] * CONTAINERS) + "]", "job, one long string": json.dumps(spec(image, "x" * STRING))}
    for what, text in documents.items():
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            rate = rates(file.name)
        say(f"JSON, {what}, {len(text)} bytes: " + ", ".join(f"{way} {value:.0f} MB/s" for way, value in rate.items()))
        yield Row(f"JSON check, {what}", f"{rate['check']:.0f} MB/s", f"cJSON alone {rate['cjson']:.0f} MB/s", f"{rate['cjson'] / rate['check']:.2f}")
        yield Row("check and tree", f"{rate['parse']:.0f} MB/s", "the same", f"{rate['cjson'] / rate['parse']:.2f}")
