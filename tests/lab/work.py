# SPDX-License-Identifier: Apache-2.0
"""What a sweep still has to try, job by job, how it went, and the threads that carry it out until its time is over. What a point is, its sweep knows."""

import collections
import queue
import random
import threading
import time

import tap


class Work:
    def __init__(self, jobs):
        self.points = {job: queue.Queue() for job in jobs}
        self.over, self.lock, self.ends = threading.Event(), threading.Lock(), collections.defaultdict(collections.Counter)
        self.threads = []

    def fill(self, found, seed, most=None):
        """found: (job, point) pairs, of which at most so many are drawn by lot."""
        random.Random(seed).shuffle(found)
        for job, point in found[:most]:
            self.points[job].put(point)

    def take(self, job):
        try:
            return self.points[job].get_nowait()
        except queue.Empty:
            return None

    def left(self, *jobs):
        return sum(self.points[job].qsize() for job in jobs or self.points)

    def answer(self, kind, word, why=""):
        """kind: what is judged together. word: hit, missed, or bad, which is told at once."""
        with self.lock:
            self.ends[kind][word] += 1
            if word == "bad":
                tap.diag(f"bad: {why}")

    def start(self, calls):
        """calls: a function and its arguments, each a thread of its own."""
        self.threads = [threading.Thread(target=call, args=args, daemon=True) for call, *args in calls]
        for thread in self.threads:
            thread.start()

    def finish(self, until, sample):
        """until: of time.monotonic(). A sample may end before it is through; the whole may not."""
        for thread in self.threads:
            thread.join(max(until - time.monotonic(), 1))
        self.over.set()
        if sample:
            tap.diag(f"{self.left()} of the sample are left for want of time")
        else:
            tap.ok(self.left() == 0 and not any(thread.is_alive() for thread in self.threads), "the whole of it ended in time")
