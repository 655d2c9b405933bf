# SPDX-License-Identifier: Apache-2.0
"""Every point of every job: a reference run of each job gives its points (trace), then workspaces live through the jobs again and again
(lives) while the agent meets its end at another point each time. Several sites side by side; each is a Victim, whose crash() says what
the end is like.

MOLECULE_QUICK=1 tries a sample, whose seed is printed and may be given as MOLECULE_SEED; MOLECULE_POINT is a pattern for points by hand,
such as 'make renameat:3 ' or 'xfs .*state/ws/ID '."""

import itertools
import os
import random
import re
import signal
import threading
import time
import traceback

import tap
from lab import LabError, wait_for
from lives import Life
from order import Order
from proc import end_now
from promises import Memory, tidy
from trace import Places, Strace
from work import Work

QUICK = bool(os.environ.get("MOLECULE_QUICK"))
BY_HAND = "MOLECULE_POINT" in os.environ
SEED = os.environ.get("MOLECULE_SEED") or str(random.randrange(10**6))
CHOSEN = re.compile(os.environ.get("MOLECULE_POINT", "."))
PATIENCE = 150                                              # seconds for any one thing to come
TRIES = 2 if QUICK else 3                                              # to meet a point
JOBS = ("make", "replace", "remove")
HELD = ("sh", "-c", 'kill -STOP $$; exec "$@"', "sh")       # so that strace is there from the first call on
starting = threading.RLock()


class Victim(Life):
    signal = None                                           # that it gets at the point
    again = []                                              # of each further start whether it came to its point

    def __init__(self, lab, versions, place, name):
        self.place, self.name = place, name
        super().__init__(lab, versions, name)
        self.strace = f"{self.site.where}/strace"
        self.prepared()
        self.site.start()
        self.places = Places({"state": self.site.agent.state, "run": self.site.agent.runtime}, self.site.plane.port)

    def prepared(self):
        """Before the agent's first start."""

    def reached(self, strace):
        """Whether the signal came."""
        raise NotImplementedError

    def falls(self):
        """From the point to an agent that does not run, and a state directory that can be read."""
        raise NotImplementedError

    def crash(self, how):
        """Falls, and again at each point of `how` that a further start meets; None lets one go on until the job has ended."""
        self.falls()
        for point in how:
            Memory(self.site).keeps()
            self.recovery = self.start_traced(point)

    def start_traced(self, point):
        """A start that ends at the point, or else once the job has ended; its points."""
        agent = self.site.agent.start(ready=0, wrap=HELD)
        wait_for(lambda: self.is_held(agent.process.pid), 20, "the agent held before its start", 0.01)
        strace = Strace(agent.process.pid, self.strace, point, self.signal)
        try:
            agent.kill(signal.SIGCONT)
            wait_for(lambda: self.reached(strace) or self.is_quiet(self.ordered), PATIENCE, "the point or the job's end", 0.02)
            met, points = self.reached(strace), self.points()
            self.again += [met] if point else []
            if met:
                self.falls()
            else:
                agent.kill()
                agent.wait()
        finally:
            strace.end()
        return points

    @staticmethod
    def is_held(pid):
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def points(self):
        return self.places.points(self.strace)

    def is_quiet(self, order):
        """The job has ended, and nothing more was written or sent for a while."""
        return time.time() - os.stat(self.strace).st_mtime > 0.5 and self.site.plane.job(order)["final"]

    def run(self, job, point=None, how=()):
        """One job; the points that it came by, the last of them the one where it ended. LabError when something is not as it must be."""
        self.prepare(job)
        strace = Strace(self.site.agent.process.pid, self.strace, point, self.signal)
        try:
            order = self.ordered = self.order()
            wait_for(lambda: self.reached(strace) or self.is_quiet(order), PATIENCE, "the point or the job's end", 0.02)
            hit, points = self.reached(strace), self.points()
            if hit:
                self.crash(how)
        finally:
            strace.end()
        if hit:
            Memory(self.site).keeps()
            self.site.agent.start()
        self.ended(job, order, PATIENCE)
        wait_for(lambda: tidy(self.site, self.workspace), 30, "a tidy state directory", 0.1)
        return points if hit or not point else []


class Sweep(Work):
    """All jobs at all places; the answers are kept by (place, job). What is to be tried are a point and how often yet."""
    word = ""                                               # that its names begin with

    def __init__(self, make, places, sample):
        """make(place, slot): a Victim; no two alive have the same slot. sample: how many points of a job at a place are tried in a hurry."""
        super().__init__(itertools.product(places, JOBS))
        self.make, self.places, self.sample, self.random = make, places, sample, random.Random(SEED)
        self.known, self.tried, self.hit = {}, {}, {}

    def explore(self, life):
        """Goes through the jobs; twice before a whole run, since the first time some things are done that are not done again."""
        for job in JOBS if QUICK or BY_HAND else (*JOBS, "make", "replace"):
            self.known[job] = life.run(job)
            if CHOSEN.search(f"order {job}"):
                wrong = Order(life.site.agent.state, life.places).look(life.strace)
                tap.ok(not wrong, f"order {job}: what was written was durable before anything was sent", "\n".join(wrong))

    def chosen(self, place, job):
        chosen = [point for point in self.known[job] if CHOSEN.search(self.name(place, job, point))]
        if self.sample and not BY_HAND:
            chosen = sorted(self.random.sample(chosen, min(self.sample, len(chosen))), key=chosen.index)
        return chosen

    def draw(self):
        for place, job in self.points:
            self.tried[place, job], self.hit[place, job] = self.chosen(place, job), []
            for point in self.tried[place, job]:
                self.put((place, job), (point, TRIES))

    def how(self, job, point):
        """What Victim.crash() is told."""
        return ()

    def name(self, place, job, point):
        return " ".join(filter(None, map(str, (self.word, place, job, point))))

    def way(self, place):
        """The jobs of one workspace; a replacement may follow another."""
        yield "make"
        yield "replace"
        while self.left((place, "replace")) > self.left((place, "remove")):
            yield "replace"
        yield "remove"

    def attempt(self, life, job):
        """False where the site is no good any more."""
        point, tries = self.take((life.place, job)) or (None, 0)
        try:
            came = life.run(job, point, self.how(job, point) if point else ())
        except Exception as error:
            self.say(life, job, point, error)
            return False
        if point:
            with self.lock:
                self.ends[life.place, job]["run"] += 1
                self.hit[life.place, job] += [came[-1].kind] if came else []
                if tries > 1 and point.kind not in self.hit[life.place, job]:
                    self.put((life.place, job), (self.moved(job, point, came), tries - 1))
        return True

    def moved(self, job, point, came):
        """The same point by the number that it seems to have now: something came more often, or less, than in the reference run."""
        then = next((known.number for known in self.known[job] if came and known.kind == came[-1].kind), None)
        return point._replace(number=max(1, point.number + (point.number - then if then else -1)))

    def say(self, life, job, point, error):
        words = self.name(life.place, job, point or "left alone")
        with self.lock:
            self.answer((life.place, job), "bad", f"{words}: {error}")
            tap.diag(f"again: MOLECULE_POINT='^{re.escape(words)}'" + (f" MOLECULE_SEED={SEED}" if QUICK else ""))
            if not isinstance(error, LabError) or os.environ.get("MOLECULE_POINT"):
                tap.diag(traceback.format_exc() + life.site.tail(60))

    def live(self, place, slot):
        """Workspace after workspace until no point is left. After a failure the site is another one."""
        life, bad = None, 0
        while self.left(*((place, job) for job in JOBS)) and bad < 5 and not self.over.is_set():
            life = life or self.born(place, slot)
            if not all(self.over.is_set() or self.attempt(life, job) for job in self.way(place)):
                bad += 1
                end_now(life.site.end)
                life = None

    def born(self, place, slot):
        with starting:
            return self.make(place, slot)

    def run(self, side_by_side, limit):
        """All that is to be tried, by so many sites at each place. False when the jobs do not even go well without a fault."""
        began = time.monotonic()
        try:
            first = self.born(self.places[0], 0)
            self.explore(first)
            end_now(first.site.end)
        except Exception:
            tap.ok(False, "the jobs, left alone", traceback.format_exc())
            return False
        self.draw()
        tap.diag(", ".join(f"{job}: {len(points)} points" for job, points in self.known.items())
                 + f"; {sum(map(len, self.tried.values()))} to be tried, known after {time.monotonic() - began:.1f} s; MOLECULE_SEED={SEED}")
        self.start((self.live, place, slot) for slot, place in enumerate(self.places * side_by_side)
                   if slot // len(self.places) < self.left(*((place, job) for job in JOBS)))
        self.finish(began + limit)
        for place, job in self.points:
            self.judge(place, job)
        tap.diag(f"done after {time.monotonic() - began:.1f} s")
        return True

    def judge(self, place, job):
        """Almost every run must have come to an end at some point, and almost every point of a whole run must have been one of these: how often
        some calls come is a matter of timing."""
        tried, hit, left = {point.kind for point in self.tried[place, job]}, self.hit[place, job], self.left((place, job))
        ends = self.ends[place, job]
        unmet = tried.difference(hit)
        if not tried:
            return
        good = len(hit) >= max(1, min(len(tried) * 0.9, len(tried) - 1)) and (self.sample or BY_HAND or len(unmet) <= len(tried) / 10)
        tap.ok(good and not ends["bad"] and not left, f"{self.name(place, job, '')}: {len(tried)} points, {len(tried - unmet)} met in "
               f"{ends['run']} runs, {ends['bad']} failed, {left} not tried")
        if unmet:
            tap.diag("not met: " + ", ".join(sorted(unmet)))


class Twice(Sweep):
    """States of a job whose recovery ends at a point, too, or several, one start after the other, each further on than the one before it. Which points
    there are is known from one recovery of that job."""
    word = "again"

    def __init__(self, make, places, known, states, starts):
        """known: {job: points}; states: how many of each job, in a hurry of one job; starts: that end before the one that does not."""
        super().__init__(make, places, states)
        self.known, self.starts, self.recovery = known, starts, {}
        self.jobs = (self.random.choice(JOBS),) if QUICK else JOBS

    def chosen(self, place, job):
        return super().chosen(place, job) if job in self.jobs else []

    def explore(self, life):
        for job in JOBS[:JOBS.index(self.jobs[-1]) + 1]:
            points = self.known[job]
            life.run(job, points[len(points) * 2 // 3], [None])
            self.recovery[job] = life.recovery
        tap.diag("recovery: " + ", ".join(f"{job}: {len(points)} points" for job, points in self.recovery.items()))

    def how(self, job, point):
        recovery = self.recovery[job]
        return sorted(random.Random(f"{SEED} {job} {point}").sample(recovery, self.starts), key=recovery.index)


def once_and_twice(make, places, sample, side_by_side, limit, states, starts):
    """The sweep, and then its recoveries. sample: in a hurry, of each job at a place. limit: seconds of each of the two."""
    once = Sweep(make, places, sample if QUICK else 0)
    known = once.run(side_by_side, limit)
    twice = Twice(make, places, once.known, states, starts)
    if not known or (BY_HAND and not any(twice.chosen(place, job) for place in places for job in JOBS)):
        return
    twice.run(side_by_side, limit)
    # One in ten misses: what ends late has less to recover from than the state that the points are from. A sample is too few for three quarters.
    good = sum(Victim.again) * 4 >= len(Victim.again) * (2 if QUICK else 3)
    tap.ok(Victim.again and good, f"again: {sum(Victim.again)} of {len(Victim.again)} starts ended at their points")
