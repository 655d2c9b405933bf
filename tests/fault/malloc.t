#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""There is no memory, once: at each allocation, in its turn, of one poll (which brings a hold), and of a workspace's provision, replacement and
deprovision; whoever asks, the daemon's own code, curl, OpenSSL, sd-event. A library that is preloaded counts, and fails the n-th (tests/lab/nomem.c). The
daemon does not crash: the job is done all the same, or fails with words and is done when it is ordered once more; or the daemon ends with words, and the
next start goes on.

MOLECULE_POINT is a pattern of what is tried ('replace:malloc:812:ENOMEM'); MOLECULE_QUICK tries a sample, MOLECULE_SEED says which."""

import mmap
import os
import random
import re
import struct
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from lab import TREE, Lab, LabError  # noqa: E402
from standin import StandIn  # noqa: E402
from trial import JOBS, Trial  # noqa: E402
from work import Work, few  # noqa: E402

QUICK = bool(os.environ.get("MOLECULE_QUICK"))
SITES = int(os.environ.get("MOLECULE_SITES", "16"))
SEED = os.environ.get("MOLECULE_SEED") or str(random.randrange(1 << 32))
CHOSEN = re.compile(os.environ.get("MOLECULE_POINT", ""))
SAMPLE = int(os.environ.get("MOLECULE_SAMPLE", "64"))       # points of a quick run
LIMIT = int(os.environ.get("MOLECULE_LIMIT", "35" if QUICK else "36000"))       # seconds until it gives up
DEPTH = 12                                                  # as in nomem.c


class Memory:
    """The page that a daemon with the library shares with the test. As a context: the n-th allocation from here on fails; None counts only."""

    def __init__(self, path):
        self.path, self.n = path, None
        with open(path, "wb") as file:
            file.write(bytes(4096))
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)

    def at(self, n):
        self.n = n
        return self

    def __enter__(self):
        self.page[8:8 + 16 + 8 * DEPTH] = bytes(16 + 8 * DEPTH)
        self.page[0:8] = struct.pack("q", self.n or -1)

    def __exit__(self, *_):
        self.page[0:8] = bytes(8)

    @property
    def count(self):
        return struct.unpack("q", self.page[8:16])[0]

    @property
    def failed(self):
        return struct.unpack("q", self.page[16:24])[0] == 1

    def who(self, maps):
        """The functions that asked."""
        found = []
        for address in struct.unpack(f"{DEPTH}Q", self.page[24:24 + 8 * DEPTH]):
            for low, high, offset, path in maps:
                if low <= address < high:
                    lines = subprocess.run(["addr2line", "-fe", path, hex(address - low + offset - 1)], capture_output=True, text=True, check=False).stdout
                    found.append(f"{lines.splitlines()[0]}" if lines and lines[0] != "?" else os.path.basename(path))
        return " < ".join(found)


class Life(Trial):
    """With a daemon that has the library."""

    def __init__(self, lab, number, library):
        self.page = f"{lab.where}/memory-{number}"
        self.memory = Memory(self.page)
        super().__init__(lab, number, {"LD_PRELOAD": library, "LAB_NOMEM": self.page})
        self.may_end = ("libcurl cannot go on",)            # its tables are half made then

    def maps(self):
        """Where programs and libraries lie: (low, high, offset, path)."""
        with open(f"/proc/{self.site.agent.process.pid}/maps") as file:
            rows = [line.split() for line in file]
        return [(*(int(end, 16) for end in row[0].split("-")), int(row[2], 16), row[5]) for row in rows if len(row) > 5 and "x" in row[1]]

    def run_at(self, job, n=None):
        """One job in which the n-th allocation fails; how many there were."""
        fault = self.memory.at(n)
        if job == "hold":
            self.hold(fault)
        else:
            self.run(job, fault)
        return self.memory.count

    def hold(self, fault):
        """One poll with the least of jobs: a hold of the host; its release goes undisturbed."""
        host, reason = self.site.host()["host_id"], {"reason": "a test"}
        final = self.under(fault, lambda: self.site.plane.order(host, "host.hold", spec=reason))
        if final["state"] != "succeeded":
            self.explained(final)
        final = self.ended(self.site.plane.order(host, "host.release", spec=reason))
        if final["state"] != "succeeded":
            raise LabError(f"the release: {final}")


def judge(work):
    for job, ends in work.ends.items():
        tap.ok(not ends["bad"] and few(ends), f"{job}: no memory at {ends['hit'] + ends['bad']} allocations{work.counts(job)}")
    work.enough(QUICK)


def attempt(life, work, job, n):
    error, maps = None, life.maps()
    try:
        life.run_at(job, n)
    except Exception as raised:
        error = raised
    if error:
        if not life.site.agent.process.running():
            life.site.agent.start(env=life.env)
        long = "".join(traceback.format_exception(error)) + life.site.tail(30) if CHOSEN.pattern else ""
        work.answer(job, "bad", f"MOLECULE_POINT='^{job}:malloc:{n}:ENOMEM$' tests/fault/malloc.t: {str(error).splitlines()[0]}; asked: {life.memory.who(maps)}\n{long}")
    elif n and not life.memory.failed:
        work.miss(job, n)
    elif n:
        work.answer(job, "hit")
        if life.endings:
            work.answer(job, "ended")
            tap.diag(f"{job}:malloc:{n}: the daemon ended with words and was started again; asked: {life.memory.who(maps)}")
    return not error


def way(work):
    """The jobs of one workspace: held and replaced again and again while those have the most points left."""
    while work.left("hold"):
        yield "hold"
    yield "make"
    while work.left("replace") > max(work.left("make"), work.left("remove")):
        yield "replace"
    yield "replace"
    yield "remove"


def live(life, work):
    while work.left() and not work.over.is_set():
        for job in way(work):
            if work.over.is_set() or not attempt(life, work, job, work.take(job)):
                break


def counted(life, job):
    """The allocations of one job, by number."""
    return range(1, life.run_at(job) + 1)


def test(lab, began):
    library = f"{lab.where}/nomem.so"
    subprocess.run(["gcc", "-O1", "-g", "-shared", "-fPIC", "-o", library, f"{TREE}/tests/lab/nomem.c"], check=True)
    lives = [Life(lab, number, library) for number in range(SITES)]
    for life in lives:
        life.registered()
    work = Work(("hold", *JOBS))
    found = [(job, n) for job in ("hold", *JOBS) for n in work.reference(job, lambda j=job: counted(lives[0], j))]
    work.fill([(job, n) for job, n in found if CHOSEN.search(f"{job}:malloc:{n}:ENOMEM")], SEED, SAMPLE if QUICK else None)
    tap.diag(f"seed {SEED}: {work.left()} points, known after {time.monotonic() - began:.1f} s")
    work.start((live, life, work) for life in lives)
    work.finish(began + LIMIT)
    judge(work)


def main():
    began = time.monotonic()
    with Lab("malloc", engine=StandIn, memory=True) as lab:
        test(lab, began)
    tap.diag(f"done after {time.monotonic() - began:.1f} s")
    tap.done()


if __name__ == "__main__":
    main()
