#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a pull may take: as long as its job, while it moves. The registry answers through a proxy that is slow, or falls silent."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must  # noqa: E402
from lab import Lab  # noqa: E402
from scene import QUICK, slow_scene  # noqa: E402
from world import new_id, snapshot, spec  # noqa: E402

RATE = 50_000
# Every other bound is far below the 25 seconds that the slow image takes.
SHORT = {"pull_stall_seconds": "5", "engine_timeout_seconds": "4", "engine_wait_seconds": "5", "connect_timeout_seconds": "3", "probe_timeout_seconds": "10"}


def slow_registry(stage, filler=600_000, **how):
    return slow_scene(stage, RATE, filler, **SHORT | how)


def slow(stage):
    """a pull at 50 KB/s outlives every timeout but its job's deadline"""
    scene, image = slow_registry(stage)
    began = time.monotonic()
    workspace, _ = scene.provision(image)
    took = time.monotonic() - began
    tap.diag(f"the slow pull took {took:.1f} s")
    must(took > 20, f"it took {took:.1f} s: nothing was slow")
    must(scene.runs(workspace, image), "it runs something else")


def stalled(stage):
    """a pull that falls silent ends pull_stalled, and what runs is not touched"""
    scene, image = slow_registry(stage, stall_at=300_000)
    workspace, _ = scene.provision(scene.good)
    before = snapshot(stage.engine, workspace)
    began = time.monotonic()
    scene.provision(image, "failed", "pull_stalled", workspace=workspace)
    must(time.monotonic() - began < 30, f"it took {time.monotonic() - began:.1f} s")
    must(snapshot(stage.engine, workspace) == before, "the workspace was touched")


def deadline(stage):
    """a pull that moves past its job's deadline ends deadline_exceeded, and what runs is not touched"""
    scene, image = slow_registry(stage, job_deadline_seconds="12", filler=1_500_000)
    workspace, _ = scene.provision(scene.good)
    before = snapshot(stage.engine, workspace)
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=image, probe=QUICK))
    scene.ended(job, "failed", "deadline_exceeded")
    must(snapshot(stage.engine, workspace) == before, "the workspace was touched")
    scene.provision(scene.better, workspace=workspace)


def one_pull_for_many(stage):
    """a slow pull that three jobs wait for is one pull"""
    scene, image = slow_registry(stage, filler=1000, engine_proxy=True)
    jobs = [scene.order("workspace.provision", new_id(), spec=spec(image_ref=image, probe=QUICK)) for _ in range(3)]
    for job in jobs:
        scene.ended(job)
    pulls = scene.site.dock.seen("POST", "/images/create")
    must(len(pulls) == 1, f"{len(pulls)} pulls")


CASES = (slow, deadline, stalled, one_pull_for_many)

if __name__ == "__main__":
    with Lab("pull") as lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, side_by_side=3, limit=150)       # an engine downloads three layers at once
    tap.done()
