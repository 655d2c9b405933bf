# SPDX-License-Identifier: Apache-2.0
"""Jobs with a fault in them, one after the other, and what must be true afterwards: the job ended once, done or with words; ordered once more it is
done; the world is as the outcome says."""

import contextlib
import os
import time

from lab import LabError, wait_for
from proc import Ended
from standin import IMAGES
from world import b64, member, new_id, spec, volumes

FINALS = ("succeeded", "failed", "refused", "superseded", "conflict", "expired", "cancelled")
JOBS = ("make", "replace", "remove")
FILES = {1: {"config.yaml": b"version: one\n", "prompts/a.md": b"first\n"}, 2: {"config.yaml": b"version: two, and longer\n", "prompts/b.md": b"new\n"}}


class Trial:
    """One site, and one workspace after the other on it. run() is one job with a fault in it, a context manager."""

    def __init__(self, lab, number, env=None, prepare=None):
        """env: more of the agent's environment. prepare: called with its state directory before it starts."""
        self.lab, self.site, self.env = lab, lab.site(network=f"molecule-{number}", registries="registry.example.com"), env
        self.endings = 0                                    # how often it ended by itself, with words
        self.workspace, self.version, self.settled, self.more = None, 1, None, {}       # more: of the env of what is ordered
        if prepare:
            prepare(self.site.agent.state)
        self.site.agent.start(env=env)

    def order(self, job):
        host = self.site.host()["host_id"]
        if job == "remove":
            return self.site.plane.order(host, "workspace.deprovision", self.workspace, spec={"prune": True})
        files = {name: b64(data) for name, data in FILES[self.version].items()}
        return self.site.plane.order(host, "workspace.provision", self.workspace, spec=spec(
            image_ref=IMAGES[self.version], env={"DEMO_VERSION": str(self.version)} | self.more, config_files=files))

    def run(self, job, fault=None):
        """LabError when anything is not as it must be; else the job's end, and whether it had to be ordered once more."""
        if job == "make":
            self.workspace, self.version = new_id(), 1
        elif job == "replace":
            self.version = 3 - self.version
        before = self.site.container(self.workspace)
        with fault or contextlib.nullcontext():
            order = self.order(job)
            final = self.ended(order)
            self.quiet()
        if self.waiting():                                  # delivered, and not removed: the next start tells it once more, and removes it
            self.site.agent.restart(env=self.env)
            wait_for(lambda: not self.waiting(), 40, "an empty outbox after a start", 0.1)
        if final["state"] != "succeeded":
            self.explained(final)
            self.unharmed(job, before, final)
            final = self.ended(self.order(job))
        wait_for(lambda: self.agrees(job, final), 75, f"a world that agrees with '{final['state']}'", 0.3)

    def ended(self, order):
        """The one final report."""
        final = wait_for(lambda: self.alive() and self.final(order), 200, "the job's end", 0.4)
        finals = {report["state"] for report in self.site.plane.job(order)["reports"] if report["state"] in FINALS}
        if len(finals) != 1:
            raise LabError(f"more than one end: {finals}")
        return final

    def alive(self):
        """It may end with words; whoever looks after services starts it again."""
        process = self.site.agent.process
        if process.running():
            return True
        words = [line for line in self.site.agent.lines("")[-3:] if " error " in line]
        if process.wait() <= 0 or not words:
            raise Ended(f"the agent ended with {process.wait()}; {(self.site.agent.lines('') or [''])[-1]}")
        self.endings += 1
        self.site.agent.start(env=self.env)
        return True

    def final(self, order):
        row = self.site.plane.job(order)
        return row["final"] and next(report for report in row["reports"] if report["state"] == row["final"])

    def waiting(self):
        """The reports that are stored."""
        return os.listdir(f"{self.site.agent.state}/outbox")

    def quiet(self):
        """The reports are acknowledged, the record says so, the sweep has come."""
        said = "Cannot remove a delivered report"
        wait_for(lambda: not self.waiting() or self.site.agent.lines(said), 40, "an empty outbox", 0.05)
        time.sleep(0.3)

    def explained(self, final):
        """In words, with a code that says that it may be tried again, in the report and in the log."""
        error = final.get("error") or {}
        if final["state"] not in ("failed", "refused") or not error.get("message") or not (error.get("retryable") or error.get("code") == "rolled_back"):
            raise LabError(f"no end that explains itself and may be tried again: {final}")
        if not self.site.agent.lines(error["message"]):
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
        now = self.lab.engine.inspect(found[0]["Id"])
        if f"DEMO_VERSION={self.version}" not in now["Config"]["Env"]:
            raise LabError(f"env: {now['Config']['Env']}")
        for name, data in FILES[self.version].items():
            if member(self.lab.engine, found[0]["Id"], f"/configs/{name}")[1] != data:
                raise LabError(f"/configs/{name} is not that of version {self.version}")
        return True

    def degraded(self):
        """The codes that the control plane has of it; LabError before there is a heartbeat."""
        health = (self.site.host() or {}).get("health")
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
