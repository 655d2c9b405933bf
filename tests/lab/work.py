# SPDX-License-Identifier: Apache-2.0
"""What a sweep still has to try, kind by kind, how it went, and the threads that carry it out until its time is over. What a point is, its sweep knows.
Nothing is lost on the way: a thread that broke and one that hangs are failures, and so are too few points that were met."""

import collections
import queue
import random
import threading
import time
import traceback

import tap

PATIENCE = 160                                              # seconds for what is in flight when the time is over: a sweep's minute, and 100 for a host that is well again


def few(ends):
    """Of one kind, a quarter of what was tried may have been missed twice, and two where a sample has few of it: some calls come, or do not, as the others'
    timing will have it. enough() counts them all."""
    return ends["missed"] <= 2 + (ends["hit"] + ends["bad"]) // 4


class Work:
    def __init__(self, jobs):
        self.points = {job: queue.Queue() for job in jobs}
        self.over, self.lock, self.ends = threading.Event(), threading.RLock(), collections.defaultdict(collections.Counter)
        self.threads, self.doing, self.broken, self.drawn, self.missed = [], {}, [], 0, set()

    def reference(self, name, call):
        """What a run without a fault comes by: one answer, and a failure where that is nothing."""
        try:
            found, why = list(call()), ""
        except Exception:
            found, why = [], traceback.format_exc()
        tap.ok(found, f"{name}, left alone, comes by {len(found)} points", why)
        return found

    def fill(self, found, seed, most=None):
        """found: (job, point) pairs, of which at most so many are drawn by lot."""
        random.Random(seed).shuffle(found)
        for job, point in found[:most]:
            self.put(job, point)

    def put(self, job, point):
        self.points[job].put(point)
        self.drawn += 1

    def take(self, job):
        """None where nothing is left, or the time is over."""
        try:
            point = None if self.over.is_set() else self.points[job].get_nowait()
        except queue.Empty:
            point = None
        self.doing[threading.current_thread()] = f"{job} {point}"
        return point

    def left(self, *jobs):
        return sum(self.points[job].qsize() for job in jobs or self.points)

    def answer(self, kind, word, why=""):
        """kind: what is judged together. word: hit, missed, or bad, which is told at once."""
        with self.lock:
            self.ends[kind][word] += 1
            if word == "bad":
                tap.diag(f"bad: {why}")

    def miss(self, job, point, kind=None):
        """The point did not come: how often a call comes is a matter of timing, so it is tried once more."""
        with self.lock:
            if (job, point) in self.missed:
                self.answer(kind or job, "missed")
            else:
                self.missed.add((job, point))
                self.points[job].put(point)

    def counts(self, kind):
        """In words, what there is of it beside the points that were tried."""
        return "".join(f", {self.ends[kind][word]} {word}" for word in ("bad", "missed", "ended") if self.ends[kind][word])

    def start(self, calls):
        """calls: a function and its arguments, each a thread of its own."""
        self.threads = [threading.Thread(target=self.carry, args=call, daemon=True) for call in calls]
        for thread in self.threads:
            thread.start()

    def carry(self, call, *args):
        try:
            call(*args)
        except Exception:
            self.broke(traceback.format_exc())

    def broke(self, why):
        with self.lock:
            self.broken.append(why)

    def finish(self, until):
        """until: of time.monotonic(), when nothing more is handed out. What is in flight has patience then; what goes on after that hangs."""
        self.join(until)
        self.over.set()
        self.join(time.monotonic() + PATIENCE)
        if not self.threads:
            return
        with self.lock:
            hang = [f"hangs: {self.doing.get(thread)}" for thread in self.threads if thread.is_alive()]
            tap.ok(not hang and not self.broken, "every thread came to its end", "\n".join(hang + self.broken))

    def join(self, until):
        for thread in self.threads:
            thread.join(max(until - time.monotonic(), 0))

    def enough(self, sample):
        """Whether what was drawn was met: the whole of it is taken, and a tenth may have come otherwise than in the reference run; a sample may end before it
        is through, yet three quarters must have been met."""
        met, missed = (sum(ends[word] for ends in self.ends.values()) for word in ("hit", "missed"))
        bad, left = sum(ends["bad"] for ends in self.ends.values()), self.left()
        good = (met + bad) * 4 >= self.drawn * 3 if sample else not left and (met + bad) * 10 >= self.drawn * 9
        tap.ok(self.drawn and good, f"{met + bad} of {self.drawn} points met, {missed} missed, {left} left for want of time")
