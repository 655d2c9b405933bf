#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A state directory that takes nothing any more: no room, no inodes, read-only; each before a job, in a provision, in a replacement, and while reports
wait for a control plane that is away. What cannot be stored is not told as done; the host says that it is degraded, and takes no job; workspaces run on;
kept or started anew, the agent goes on once the disk is well again, and everything that was ordered comes to its end, once.

MOLECULE_CASES chooses by name; MOLECULE_QUICK tries a sample of the cases, MOLECULE_SEED says which."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from proc import at_end  # noqa: E402
from standin import StandIn  # noqa: E402
from trial import Trial  # noqa: E402
from world import finals, new_id, reported  # noqa: E402

QUICK = bool(os.environ.get("MOLECULE_QUICK"))
SEED = os.environ.get("MOLECULE_SEED") or str(random.randrange(1 << 32))
BALLAST = 16 << 20
LONG = 150                                                  # a delivery that was not taken comes again after a minute, a sweep as well


def mount(*words):
    subprocess.run(["mount", *words], check=True, capture_output=True)


class Disk:
    """What the state directory lies on. spoil() takes it from the agent; mend() gives it back."""

    OPTIONS = "size=24m,mode=0700"

    def prepare(self, state):
        self.state = state
        mount("-t", "tmpfs", "-o", self.OPTIONS, "tmpfs", state)
        at_end(lambda: subprocess.run(["umount", "-l", state], check=False))

    def mend(self, agent):
        """Whether the agent was started anew for it."""
        os.unlink(f"{self.state}/filler")
        return False


class Full(Disk):
    """no room"""

    def spoil(self):
        with open(f"{self.state}/filler", "wb", buffering=0) as file:
            size = 65536
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2


class NoInodes(Disk):
    """no inodes"""

    OPTIONS = "size=64m,nr_inodes=300,mode=0700"

    def spoil(self):
        os.mkdir(f"{self.state}/filler")
        try:
            for number in range(1000):
                open(f"{self.state}/filler/{number}", "w").close()
        except OSError:
            return
        raise LabError("there are always more inodes")

    def mend(self, agent):
        subprocess.run(["rm", "-r", f"{self.state}/filler"], check=True)
        return False


class ReadOnly(Disk):
    """read-only"""

    def prepare(self, state):
        """ext4, whose journal can be made to give up as it does after an error of the disk. It must be mounted anew then, and so the agent be ended."""
        self.state, self.image = state, f"{os.path.dirname(state)}/disk"
        with open(self.image, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True, capture_output=True)
        mount("-o", "loop", self.image, state)
        os.chmod(state, 0o700)
        at_end(lambda: subprocess.run(["umount", "-l", state], check=False))

    def spoil(self):
        subprocess.run(["mount", "-o", "remount,abort", self.state], check=False, capture_output=True)
        try:
            open(f"{self.state}/probe-of-the-test", "w").close()
        except OSError:
            return
        raise LabError("it can still be written")

    def mend(self, agent):
        """A start on such a disk ends with words; then it is made well."""
        agent.stop()
        said = agent.said()
        status, _words = agent.run(timeout=30)
        must(status > 0 and agent.lines("Cannot start", since=said), f"a start on a read-only disk: {status}")
        subprocess.run(["umount", self.state], check=True)
        self.image = shutil.copyfile(self.image, f"{self.image}.mended")        # another mount namespace may hold the old one a while longer
        subprocess.run(["e2fsck", "-fy", self.image], check=False, capture_output=True)
        mount("-o", "loop", self.image, self.state)
        agent.start()
        return True


class Host(Trial):
    """A host with such a disk, and a workspace that must not notice anything."""

    def __init__(self, stage, disk):
        with cases.lock:
            super().__init__(stage.lab, stage.lab.sites, prepare=disk.prepare)
        stage.sites.append(self.site)
        self.disk = disk
        self.registered()
        self.run("make")
        self.bystander, self.before = self.workspace, self.site.container(self.workspace)
        wait_for(lambda: os.path.getsize(f"{self.site.agent.state}/ballast") == BALLAST, 10, "the ballast")

    def is_degraded(self):
        return "state_degraded" in self.degraded()

    def ordered(self, job, stage=None):
        """A job, which has come to that stage."""
        if job == "make":
            self.workspace, self.version = new_id(), 1
        else:
            self.version = 3 - self.version
        waits = f"{self.site.where}/waits"
        open(waits, "w").close()
        self.more = {"DEMO_WAITS": waits} if stage else {}
        order = self.order(job)
        if stage:
            reported(self.site, order, stage, 30)
        return job, order, self.workspace, self.version

    def spoil(self):
        """What waits at its gate becomes ready only now."""
        self.disk.spoil()
        if os.path.exists(f"{self.site.where}/waits"):
            os.unlink(f"{self.site.where}/waits")

    def promised(self, order):
        """What the control plane was told of a job: never `succeeded` before the record says so."""
        job, ident, workspace, _version = order
        row = self.site.plane.job(ident)
        if row["final"] == "succeeded":
            with open(f"{self.site.agent.state}/ws/{workspace}", errors="replace") as file:
                must(ident in file.read(), f"{job}: done, it says, and the record does not know of it")
        return row["final"]

    def poke(self):
        """Something happens in the engine, so that the agent looks: by itself it does so once a minute."""
        self.lab.docker("POST", f"/containers/{self.before['Id']}/unpause")

    def mend(self):
        """The disk is well again, and the agent sees it."""
        if not self.disk.mend(self.site.agent):
            for _ in range(2):
                self.poke()
                time.sleep(0.5)

    def well(self, *orders):
        """All is as if nothing had been."""
        wait_for(lambda: self.alive() and not self.is_degraded(), LONG, "the end of state_degraded", 0.3)
        for job, order, workspace, version in orders:
            self.workspace, self.version = workspace, version
            final = wait_for(lambda o=order: self.alive() and self.final(o), LONG, "the job's end", 0.3)
            ends = {report["state"] for report in finals(self.site, order)}
            same(len(ends), 1, f"ends: {ends}")
            wait_for(lambda j=job, f=final: self.agrees(j, f), 75, "a world that agrees", 0.3)
        self.run("make")
        self.quiet()
        wait_for(lambda: os.path.getsize(f"{self.site.agent.state}/ballast") == BALLAST, 75, "the ballast", 0.3)
        now = self.site.container(self.bystander)
        if not any(job == "replace" for job, *_ in orders):
            same((now["Id"], now["State"]["StartedAt"]), (self.before["Id"], self.before["State"]["StartedAt"]), "the bystander")


def before_a_job(host):
    """Two that come one after the other are two failures."""
    host.spoil()
    orders = [host.ordered("make"), host.ordered("make")]
    wait_for(lambda: host.alive() and host.is_degraded(), 30, "state_degraded in health", 0.2)
    must(host.site.agent.lines("no new job is accepted"), "it says nothing of it in the log")
    late = host.ordered("make")
    time.sleep(2)
    must(not host.site.plane.job(late[1])["reports"], "a job was taken while degraded")
    for order in orders:
        host.promised(order)
    host.mend()
    host.well(*([] if QUICK else [*orders, late]))


def in_a_job(host, job):
    order = host.ordered(job, "configuring_https")
    host.spoil()
    wait_for(lambda: host.alive() and (host.site.agent.lines("state_degraded") or host.poke()), 20, "words of it in the log", 1)
    end = host.promised(order)
    must(end in (None, "succeeded"), f"it ended {end}")
    host.mend()
    host.well(order)


def in_a_provision(host):
    """Where there was room to keep: its end is stored in the ballast's, and a start on the full disk takes no job."""
    if not isinstance(host.disk, Full):
        in_a_job(host, "make")
        return
    order = host.ordered("make", "configuring_https")
    host.spoil()
    wait_for(lambda: host.alive() and host.promised(order) == "succeeded", 60, "the job's end", 0.3)
    must(not os.path.exists(f"{host.site.agent.state}/ballast"), "the ballast was not needed")
    wait_for(lambda: host.alive() and host.is_degraded(), 30, "state_degraded in health", 0.2)
    said = len(host.site.agent.lines("no new job is accepted"))
    late = host.ordered("make")
    host.site.agent.restart(signal.SIGKILL)
    wait_for(lambda: len(host.site.agent.lines("no new job is accepted")) > said, 30, "words of the full disk after the start", 0.2)
    must(not host.site.plane.job(late[1])["reports"], "a job was taken while degraded")
    host.mend()
    host.well(order, late)


def in_a_replacement(host):
    in_a_job(host, "replace")


def while_reports_wait(host):
    order = host.ordered("make", "configuring_https")
    host.site.plane.stop()
    os.unlink(f"{host.site.where}/waits")
    wait_for(lambda: host.alive() and host.site.agent.lines("succeeded", order[1]), 30, "the job's end without a control plane", 0.2)
    host.spoil()
    host.site.plane.start()
    wait_for(lambda: host.alive() and host.promised(order) == "succeeded", 60, "the report that waited", 0.3)
    host.mend()
    host.well(order)


def case_of(disk, moment):
    def case(stage):
        moment(Host(stage, disk()))
    case.__name__ = f"{disk.__name__}_{moment.__name__}"
    case.__doc__ = f"{disk.__doc__}, {moment.__name__.replace('_', ' ')}"
    return case


def main():
    chosen = [case_of(disk, moment) for disk in (Full, NoInodes, ReadOnly) for moment in (before_a_job, in_a_provision, in_a_replacement, while_reports_wait)]
    if QUICK:
        tap.diag(f"seed {SEED}")
        chosen = random.Random(SEED).sample(chosen, 3)
    with Lab("full", engine=StandIn, memory=True) as lab:
        cases.run(lab, chosen, side_by_side=12, limit=170 if QUICK else 500)
    tap.done()


if __name__ == "__main__":
    main()
