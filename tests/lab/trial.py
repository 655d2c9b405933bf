# SPDX-License-Identifier: Apache-2.0
"""Jobs with a fault in them, one after the other, and what must be true afterwards: the job ended once, done or with words; ordered once more it is
done; the world is as the outcome says."""

import contextlib
import os
import time

import world
from lab import LabError, wait_for
from proc import Ended
from standin import IMAGES
from world import finals, new_id, volumes

JOBS = ("make", "replace", "remove")
FILES = {1: {"config.yaml": b"version: one\n", "prompts/a.md": b"first\n"}, 2: {"config.yaml": b"version: two, and longer\n", "prompts/b.md": b"new\n"}}


class Trial:
    """One site, and one workspace after the other on it. run() is one job with a fault in it, a context manager."""

    def __init__(self, lab, number, env=None, prepare=None):
        """env: more of the agent's environment. prepare: called with its state directory before it starts."""
        self.lab, self.site, self.env = lab, lab.site(network=f"molecule-{number}", registries="registry.example.com"), env
        self.since, self.endings = 0, 0                     # of the fault under way: where its log begins, how often the daemon ended by itself
        self.may_end = ()                                   # words of an end in order that a fault may bring, once
        self.workspace, self.version, self.settled, self.more = None, 1, None, {}       # more: of the env of what is ordered
        if prepare:
            prepare(self.site.agent.state)
        self.site.agent.start(env=env)

    def order(self, job):
        return world.order(self.site, self.workspace, 0 if job == "remove" else self.version, IMAGES, FILES, **self.more)

    def registered(self):
        wait_for(self.site.host, 90, "the host's registration")

    def begins(self):
        """A fault: what was said and done before is none of it."""
        self.since, self.endings = self.site.agent.said(), 0

    def says(self, *words):
        return self.site.agent.lines(*words, since=self.since)

    def run(self, job, fault=None):
        """LabError when anything is not as it must be; else the job's end, and whether it had to be ordered once more."""
        if job == "make":
            self.workspace, self.version = new_id(), 1
        elif job == "replace":
            self.version = 3 - self.version
        before = self.site.container(self.workspace)
        final = self.under(fault, lambda: self.order(job))
        if final["state"] != "succeeded":
            self.explained(final)
            self.unharmed(job, before, final)
            final = self.ended(self.order(job))
        wait_for(lambda: self.agrees(job, final), 75, f"a world that agrees with '{final['state']}'", 0.3)

    def under(self, fault, order):
        """Orders with the fault in force; the end."""
        self.begins()
        with fault or contextlib.nullcontext():
            final = self.ended(order())
            removed = self.quiet()
        if not removed:                                     # the next start tells it once more, and removes it
            self.stopped()
            self.site.agent.start(env=self.env)
            wait_for(lambda: not self.waiting(), 40, "an empty outbox after a start", 0.1)
        return final

    def stopped(self):
        status = self.site.agent.stop()
        if status:
            raise Ended(f"asked to stop, the agent ended with {status}; {self.says('')[-1:]}")

    def ended(self, order):
        """The one final report."""
        final = wait_for(lambda: self.alive() and self.final(order), 200, "the job's end", 0.4)
        ends = {report["state"] for report in finals(self.site, order)}
        if len(ends) != 1:
            raise LabError(f"more than one end: {ends}")
        return final

    def alive(self):
        """It may end once, where and as the fault allows it; whoever looks after services starts it again."""
        if self.site.agent.process.running():
            return True
        self.ends_well()
        self.site.agent.start(env=self.env)
        return True

    def ends_well(self):
        """It has ended: in order, with words that are allowed, and for the first time."""
        status = self.site.agent.wait()
        if status <= 0 or self.endings or not any(self.says(f" error {words}") for words in self.may_end):
            raise Ended(f"the agent ended with {status}, {self.endings} times before; {self.says('')[-1:]}")
        self.endings += 1

    def final(self, order):
        row = self.site.plane.job(order)
        return row["final"] and next(report for report in row["reports"] if report["state"] == row["final"])

    def waiting(self):
        """The reports that are stored."""
        return os.listdir(f"{self.site.agent.state}/outbox")

    def quiet(self):
        """The reports are acknowledged, the record says so, the sweep has come. Whether they could be removed, too."""
        wait_for(lambda: not self.waiting() or self.says("Cannot remove a delivered report"), 40, "an empty outbox", 0.05)
        time.sleep(0.3)
        return not self.waiting()

    def explained(self, final):
        """In words, with a code that says that it may be tried again, in the report and in the log."""
        error = final.get("error") or {}
        if final["state"] not in ("failed", "refused") or not error.get("message") or not (error.get("retryable") or error.get("code") == "rolled_back"):
            raise LabError(f"no end that explains itself and may be tried again: {final}")
        if not self.says(error["message"]):
            raise LabError(f"the log does not have the report's words: {final}")

    def unharmed(self, job, before, final):
        """A replacement that failed leaves what was there."""
        if job == "replace" and final["error"]["code"] != "rollback_failed":
            now = self.site.container(self.workspace)
            if not now or now["Id"] != before["Id"] or not now["State"]["Running"]:
                raise LabError(f"the old container is not there any more: {final}")

    def agrees(self, job, final):
        if final["state"] != "succeeded":
            raise LabError(f"{final['state']}: {final.get('error')}")
        found = self.site.containers(self.workspace)
        if job == "remove":
            left = [path for path in (f"{self.site.agent.state}/sealed/{self.workspace}", f"{self.site.agent.runtime}/ws/{self.workspace}")
                    if os.path.exists(path)]
            if found or volumes(self.lab.engine, self.workspace) or left:
                raise LabError(f"left: {found} {list(volumes(self.lab.engine, self.workspace))} {left}")
            return True
        names = [(name, row["State"]) for row in found for name in row["Names"]]
        if names != [(f"/ws-{self.workspace}", "running")]:
            raise LabError(f"containers: {names}")
        return world.holds(self.lab.engine, found[0]["Id"], self.version, FILES)

    def degraded(self):
        """The codes that the control plane has of it; LabError before there is a heartbeat."""
        health = self.site.health()
        if not health:
            raise LabError("no heartbeat yet")
        return health["agent"]["degraded"]

    def healed(self):
        """Nothing of the fault stays: no reason to be degraded, no temporary file."""
        def look():
            degraded = self.degraded()
            left = [f"{where}/{name}" for where, _folders, names in os.walk(self.site.agent.state) for name in names if name.startswith(".")]
            if degraded or left:
                raise LabError(f"degraded: {degraded}, left: {left}")
            return True
        wait_for(look, 100, "a state without a trace of the fault", 0.2)
