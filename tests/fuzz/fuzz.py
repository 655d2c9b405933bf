# SPDX-License-Identifier: Apache-2.0
"""fuzz.py --seconds N | --runs N PROGRAM…: libFuzzer over each target, as many side by side as there are cores. One answer a target: how much was tried,
how fast, how many features of the code were reached. Whatever ends a target early is a finding: a crash, an assertion, a leak, an input that takes 10 seconds or
512 MiB. New inputs go to build/fuzz/NAME and are built upon the next time; seeds are in tests/fuzz/corpus/NAME."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab"))
import tap

HERE, MADE = pathlib.Path("tests/fuzz"), pathlib.Path("build/fuzz")
SLOWEST = 1000                          # executions a second, below which a target has no hope of ending its runs in time

def number(pattern, text):
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0

def run(program, amount, scratch):
    """What is said of one target, whether it is good, and the words of a finding."""
    name = program.name
    mine, log, words = MADE / name, MADE / f"{name}.log", HERE / f"{name}.dict"
    mine.mkdir(parents=True, exist_ok=True)
    limit = amount.seconds + 60 if amount.seconds else 60 + amount.runs // SLOWEST
    command = [program, mine, HERE / "corpus" / name, f"-artifact_prefix={MADE}/{name}-", "-timeout=10", "-rss_limit_mb=512", "-print_final_stats=1", "-verbosity=1",
               f"-max_total_time={amount.seconds}" if amount.seconds else f"-runs={amount.runs}"]
    with log.open("wb") as out:
        try:
            status = subprocess.run([*command, *([f"-dict={words}"] if words.exists() else [])], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=limit,
                                    env={**os.environ, "TMPDIR": scratch, "ASAN_OPTIONS": "quarantine_size_mb=16:malloc_context_size=4"}).returncode
        except subprocess.TimeoutExpired:
            status = f"no end after {limit} s"
    text = log.read_text(errors="replace")
    tried = number(r"number_of_executed_units: *(\d+)", text)
    answer = f"{name}: {tried} executions, {number(r'average_exec_per_sec: *([0-9]+)', text)}/s, {number(r' ft: ([0-9]+)', text)} features"
    if status == 0 and tried > 0:
        return True, f"{answer}, no finding", ""
    again = re.findall(r"Test unit written to (\S+)", text)
    how = f"again: {program} {again[-1]}" if again else f"ended with {status}; all of it: {log}"
    said = [line for line in text.rstrip().split("\n") if not re.match(r"#\d+\t|INFO:", line)]
    return False, f"{answer}, A FINDING", "\n".join([*said[-60:], how])

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("programs", nargs="+", type=pathlib.Path)
    amount = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, prefix="fuzz-") as scratch, \
            ThreadPoolExecutor(len(os.sched_getaffinity(0))) as side_by_side:
        for good, answer, why in side_by_side.map(lambda program: run(program, amount, scratch), amount.programs):
            tap.ok(good, answer, why)
    tap.done()

if __name__ == "__main__":
    main()
