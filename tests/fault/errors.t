#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One system call fails, at every point of a life: of a workspace's provision, replacement and deprovision, and of the agent's start. A reference
run under strace gives the points (tests/lab/inject.py says which calls, and why not others); then each is tried in its turn with each error that it
can have. The daemon neither crashes nor hangs; what it tells is on the disk; no file is synced again after a sync that failed; a job that failed says
why, and ordered once more it is done. Of a start that cannot be: words, an orderly end, and a next start as if nothing had been. Then faults that
stay: after two failures in a row no job is taken, and two good probes end that.

MOLECULE_POINT is a pattern of what is tried ('replace:fsync:12:EIO', which needs no reference run; 'stays:fsync:EIO'); MOLECULE_QUICK tries a sample, MOLECULE_SEED says which."""

import os
import random
import re
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import inject  # noqa: E402
import tap  # noqa: E402
from inject import Point, Watch  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from proc import Ended  # noqa: E402
from standin import StandIn  # noqa: E402
from trial import JOBS, Trial  # noqa: E402
from work import Work, few  # noqa: E402
from world import new_id  # noqa: E402

QUICK = bool(os.environ.get("MOLECULE_QUICK"))
SITES = int(os.environ.get("MOLECULE_SITES", "16"))
SEED = os.environ.get("MOLECULE_SEED") or str(random.randrange(1 << 32))
CHOSEN = re.compile(os.environ.get("MOLECULE_POINT", ""))
SAMPLE = int(os.environ.get("MOLECULE_SAMPLE", "64"))       # points of a quick run
LIMIT = int(os.environ.get("MOLECULE_LIMIT", "55" if QUICK else "36000"))       # seconds until it gives up
LINES = int(os.environ.get("MOLECULE_LINES", "12"))


# With which words the daemon may end for a fault, in order and once: libcurl without a place in the loop is lost, and a start need not succeed; but never
# for a signal that came, which says nothing of the world.
ENDS = {"libcurl cannot go on": lambda point: (point.call, point.error) == ("epoll_ctl", "ENOMEM"),
        "Cannot start: ": lambda point: point.job == "start" and point.error != "EINTR"}


class Life(Trial):
    """With system calls that fail."""

    def run_at(self, job, point=None):
        """One job; its trace."""
        watch = Watch(self.site.agent.process.pid, self.trace, point)
        self.run(job, watch)
        return self.judged(watch.calls())

    def judged(self, calls):
        wrong = inject.complaints(calls, self.site.agent.state)
        if wrong:
            raise LabError("; ".join(wrong))
        return calls

    @property
    def trace(self):
        return f"{self.site.where}/trace"

    def begin(self):
        """A workspace that runs, for starts to find."""
        self.registered()
        self.run("make")
        self.settled = self.site.container(self.workspace)

    def start(self, point=None):
        """A start with the fault in it; its trace."""
        agent = self.site.agent
        self.stopped()
        self.begins()
        agent.start(wrap=["strace", "-D", *inject.options(self.trace, point)[1:]], ready=0)
        wait_for(lambda: agent.noticed("READY=1") or not agent.process.running(), 30, "READY, or the end")
        try:
            self.at_work(self.since)
            self.stopped()
        except Ended:
            self.ends_well()
        calls, since = self.judged(inject.read(self.trace)), agent.said()
        agent.start()
        self.at_work(since)
        return calls

    def stays(self, call, error):
        """Each such call fails until it is taken away: after two failures no job is taken, two good probes end that."""
        wait_for(lambda: self.degraded() == [], 100, "a host that is well", 0.3)
        self.begins()
        with Watch(self.site.agent.process.pid, self.trace, Point("stays", call, "1+", error)) as watch:
            for _ in range(2):
                self.workspace, self.version = new_id(), 1
                self.order("make")
            wait_for(lambda: self.site.agent.process.check() and "state_degraded" in self.degraded(), 60, "state_degraded", 0.3)
            late = self.order("make")
            time.sleep(2)
            if self.site.plane.job(late)["reports"] or not self.says("no new job is accepted"):
                raise LabError("a job is taken, or nothing is said")
        self.judged(watch.calls())
        for _ in range(2):
            self.lab.docker("POST", f"/containers/{self.settled['Id']}/unpause")
            time.sleep(0.5)
        wait_for(lambda: self.degraded() == [], 100, "the end of it", 0.3)
        self.run("make")

    def points_of(self, job):
        return inject.points(self.run_at(job), self.site.agent.state, job)

    def points_of_start(self):
        self.begin()
        calls = self.start()
        first = next(at for at, call in enumerate(calls) if call.path.startswith(self.site.agent.state))
        return inject.points(calls, self.site.agent.state, "start", first)

    def at_work(self, since):
        """Registered, and the workspace runs on, untouched."""
        wait_for(lambda: self.site.agent.process.check() and self.site.agent.lines("Registered", since=since), 90, "the registration")
        now = self.site.container(self.workspace)
        if (now["Id"], now["State"]["StartedAt"]) != (self.settled["Id"], self.settled["State"]["StartedAt"]):
            raise LabError("the workspace was touched")


def answer(work, point, word, why=""):
    work.answer((point.job, point.error), word, f"MOLECULE_POINT='^{inject.words(point)}$' tests/fault/errors.t: {why}")


def judge(work):
    for (job, error), ends in sorted(work.ends.items()):
        tried = ends["hit"] + ends["bad"]
        tap.ok(not ends["bad"] and few(ends), f"{job}: {error} at {tried} points{work.counts((job, error))}")


def way(work):
    """The jobs of one workspace: replaced again and again while that has the most points left."""
    yield "make"
    while work.left("replace") > max(work.left("make"), work.left("remove")):
        yield "replace"
    yield "replace"
    yield "remove"


def attempt(life, work, point, call):
    """Whether it went as it must. A call that has another place in this run than it had in the reference may be one that cannot fail so, and then what comes
    of it is no failure, unless the daemon crashed. A failure without an injected error always is one."""
    error, life.endings, life.may_end = None, 0, [words for words, fits in ENDS.items() if point and fits(point)]
    open(life.trace, "w").close()
    try:
        call(point)
        life.alive()                                        # an end that is allowed may come behind the job's
    except Exception as raised:
        error = raised
    calls, crash = inject.read(life.trace), life.site.agent.crash()
    if error:
        life.settled = None
        if not life.site.agent.process.running():
            life.site.agent.start()
    tail = life.site.tail(LINES) if error and CHOSEN.pattern else ""
    elsewhere = point and not inject.hit(calls, point, life.site.agent.state)
    if elsewhere and (error or point.job != "start") and any(call.injected for call in calls):      # no kernel leaves behind what that may have
        since = life.site.agent.said()
        life.site.agent.restart(signal.SIGKILL, env=life.env)
        wait_for(lambda: life.site.agent.lines("Registered", since=since), 90, "the registration")
    if elsewhere and (not error or any(call.injected for call in calls) and not crash):
        work.miss(point.job, point, (point.job, point.error))
    elif error:
        long = "".join(traceback.format_exception(error)) + tail if CHOSEN.pattern else ""
        answer(work, point or Point("nothing", "", 0, ""), "bad", f"{str(error).splitlines()[0]}\n{long}")
    elif point:
        answer(work, point, "hit")
        if life.endings:
            answer(work, point, "ended")
    return not error


def live(life, work):
    """Workspace after workspace, until no point is left."""
    while work.left(*JOBS) and not work.over.is_set():
        for job in way(work):
            point = work.take(job)
            if work.over.is_set() or not attempt(life, work, point, lambda p: life.run_at(job, p)):
                break
        else:
            attempt(life, work, None, lambda _point: life.healed())


def starts(life, work):
    while point := work.take("start"):
        if not life.settled:
            life.begin()
        attempt(life, work, point, life.start)


def turns(life, work, *ways):
    """One way, and the other when nothing is left of it."""
    for way_of in ways:
        way_of(life, work)


def plan(work, lives):
    """What is to be tried: by a reference run, or the one point that was asked for."""
    exact = re.fullmatch(r"\^?(\w+):(\w+):(\d+):([A-Z]+)\$?", CHOSEN.pattern)
    if exact:
        work.put(exact[1], Point(exact[1], exact[2], int(exact[3]), exact[4]))
        return
    found = [point for job in JOBS for point in work.reference(job, lambda j=job: lives[0].points_of(j))] + work.reference("start", lives[-1].points_of_start)
    for error in inject.ERRORS:
        tap.diag(f"{error}: " + ", ".join(f"{job} {sum((p.job, p.error) == (job, error) for p in found)}" for job in (*JOBS, "start")))
    work.fill([(point.job, point) for point in found if CHOSEN.search(inject.words(point))], SEED, SAMPLE if QUICK else None)


# Not write, by which the daemon would tell of it.
STAY = (("fsync", "EIO"), ("openat", "EROFS"), ("fsync", "ENOSPC"), ("renameat", "EIO"), ("openat", "EMFILE"))


def faults_that_stay(life):
    """Those that were chosen."""
    life.begin()
    chosen = [(call, error) for call, error in (STAY[:1] if QUICK else STAY) if CHOSEN.search(f"stays:{call}:{error}")]
    for call, error in chosen:
        try:
            life.stays(call, error)
            tap.ok(True, f"two failures: {error} of each {call}")
        except Exception as raised:
            tap.ok(False, f"two failures: {error} of each {call}", f"{raised}\n{life.site.tail(LINES)}")
    return chosen


def test(lab, began):
    *lives, stubborn = [Life(lab, number) for number in range(SITES + 1)]
    for life in lives:
        life.registered()
    work = Work((*JOBS, "start"))
    plan(work, lives)
    tap.diag(f"seed {SEED}: {work.left()} points, known after {time.monotonic() - began:.1f} s")
    work.start((turns, life, work, *((starts, live) if number >= SITES - 2 else (live, starts))) for number, life in enumerate(lives))
    stay = faults_that_stay(stubborn)
    work.finish(began + LIMIT)
    judge(work)
    if work.drawn or not stay:
        work.enough(QUICK)


def main():
    began = time.monotonic()
    with Lab("errors", engine=StandIn, memory=True) as lab:
        test(lab, began)
    tap.diag(f"done after {time.monotonic() - began:.1f} s")
    tap.done()


if __name__ == "__main__":
    main()
