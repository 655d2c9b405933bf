# SPDX-License-Identifier: Apache-2.0
"""The power goes at any moment of a provision and of a roll. After each boot: every job that the control plane has given ends, once; each workspace runs
in one container, answers with its secret, and has the image that the job's end says."""

import json
import os
import random
import time

import tap
from boot import QUICK, answers, work
from cases import must, same
from proc import LabError, wait_for
from world import new_id, spec

SEED = int(os.environ.get("MOLECULE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
CUTS = 10 if os.environ.get("MOLECULE_LONG") else 3
SPAN = 4.0                                                  # seconds that either takes here


def containers(host):
    """name → (state, image digest) of all that bear our label."""
    names = host.out("docker", "ps", "--all", "--filter", "label=molecule.platform.managed=true", "--format", "{{.Names}}").split()
    found = [host.inspect(name) for name in names]
    return {one["Name"][1:]: (one["State"]["Status"], one["Image"]) for one in found if one}


def image_id(host, ref):
    return host.out("docker", "image", "inspect", "--format", "{{.Id}}", ref, check=False)


class Host:
    def __init__(self, stage):
        self.plane, self.pick = stage.plane, random.Random(SEED)
        self.machine = stage.instance(stage.golden).boot()
        self.machine.enroll(stage.plane)
        self.id = self.machine.host()["host_id"]
        self.images, self.expected, self.secrets = (stage.good, stage.better), {}, {}
        self.stage = stage

    def provision(self):
        workspace, value = new_id(), f"{self.pick.getrandbits(128):032x}"
        self.secrets[workspace] = value
        job = self.plane.order(self.id, "workspace.provision", workspace, seal={"DEMO_SECRET": value}, spec=spec(image_ref=self.images[0], probe=QUICK))
        return job, {workspace: self.images[0]}

    def roll(self):
        self.images = self.images[::-1]                     # what is provisioned from now on is what the roll brings
        target = self.images[0]
        job = self.plane.order(self.id, "host.redeploy", spec={"images": {"langgraph": target}})
        return job, {workspace: target for workspace in self.expected}

    def cut_during(self, begin):
        job, wanted = begin()
        time.sleep(moment := self.pick.uniform(0, SPAN))
        seen = len(self.plane.job(job)["reports"])
        self.machine.cut()
        self.machine.boot()
        final = self.plane.final(job, 90)
        tap.diag(f"{begin.__name__}: power gone after {moment:.2f} s and {seen} reports; it ended {final['state']}")
        same(final["state"], "succeeded", str(final))
        self.expected.update(wanted)
        return job

    def check(self, jobs):
        for job in jobs:
            finals = {json.dumps(r["state"]) for r in self.plane.job(job)["reports"] if r["state"] in ("succeeded", "failed", "rolled_back", "superseded")}
            same(len(finals), 1, f"job {job} has ended in more than one way: {finals}")
        want = {f"ws-{workspace}": ("running", image_id(self.machine, image)) for workspace, image in self.expected.items()}
        try:
            wait_for(lambda: containers(self.machine) == want, 20, "one container each", 0.3)
        except LabError:
            same(containers(self.machine), want, "containers")
        for workspace, value in self.secrets.items():
            wait_for(lambda w=workspace, v=value: answers(self.machine, w, v), 20, f"the page of {workspace}", 0.2)


def power_cuts(stage):
    """the power goes at random moments of provisions and rolls: nothing is lost, nothing is there twice"""
    tap.diag(f"MOLECULE_SEED={SEED}")
    host = Host(stage)
    workspace, host.secrets = (made := work(stage, host.machine))[0], {made[0]: made[1]}
    host.expected[workspace] = stage.good
    jobs = []
    for i in range(CUTS):
        jobs.append(host.cut_during(host.roll if i % 2 else host.provision))
        host.check(jobs)
    must(len(host.expected) > 1)


CASES = (power_cuts,)
