#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which images make room when the engine's disk fills up, and which never do. The engine of this test has a small disk of its own."""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from scene import Scene  # noqa: E402
from world import new_id, snapshot  # noqa: E402

DISK, FILLER = 400 << 20, 30 << 20


def used(lab):
    v = os.statvfs(f"{lab.engine.where}/data")
    return 100 * (v.f_blocks - v.f_bfree) / (v.f_blocks - v.f_bfree + v.f_bavail)


def big(stage):
    """An image of some 31 MiB on disk that the engine does not have."""
    return stage.image("ok", page=f"big{time.monotonic_ns()}", filler=os.urandom(FILLER))


def is_there(stage, image):
    return stage.engine.api("GET", f"/images/{image}/json")[0] == 200


def ensure(scene, image, **how):
    return scene.end("image.ensure", spec={"image_ref": image, "image_size_bytes": str(FILLER + (2 << 20))}, **how)


def sweep(scene):
    """A deprovision of what never was brings one."""
    scene.end("workspace.deprovision", new_id(), spec={"prune": True})


def scene_of(stage, **settings):
    """Nothing of an earlier case is left on the disk."""
    for image in stage.engine.get("/images/json"):
        stage.engine.api("DELETE", f"/images/{image['Id']}", force=1)
    return Scene(stage, **{"min_free_bytes": "16M", "gc_high_percent": "60", "gc_low_percent": "40"} | settings)


def pull_by_hand(stage, image):
    lines = stage.engine.stream("POST", "/images/create", fromImage=image)
    if not is_there(stage, image):
        raise LabError(f"{image} could not be pulled: {lines}")


def pressure(stage):
    """above the high mark the least recently needed go, down to the low one; wanted, pinned, used and foreign ones stay"""
    scene = scene_of(stage)
    foreign, pinned, wanted = big(stage), big(stage), big(stage)
    pull_by_hand(stage, foreign)
    scene.plane.pin("codex", pinned)
    sweep(scene)
    ensure(scene, pinned)
    workspace, _ = scene.provision(wanted, image_size_bytes=str(FILLER))
    heap = [big(stage) for _ in range(2)]
    for image in heap:
        ensure(scene, image)
    ensure(scene, heap[0])                                  # needed again: the other one is older now
    sweep(scene)
    time.sleep(1)
    must(used(stage.lab) < 60 and all(is_there(stage, i) for i in heap), f"{used(stage.lab):.0f} %: something went below the high mark")
    while used(stage.lab) <= 60:
        heap.append(big(stage))
        ensure(scene, heap[-1])
    sweep(scene)
    wait_for(lambda: used(stage.lab) <= 40, 30, "the low mark")
    time.sleep(1)
    there = [is_there(stage, image) for image in [heap[1], heap[0], *heap[2:]]]
    same(there, sorted(there), "the least recently needed go first")
    must(not there[0] and there[-1], f"all or none went: {there}")
    must(is_there(stage, foreign) and is_there(stage, pinned) and is_there(stage, wanted), "one of those that are needed went")
    same(scene.page(workspace), scene.page(workspace))
    must(scene.site.agent.lines("Removed the image", heap[1].split("@")[1]), "the log does not say so")


def baked_in(stage):
    """what was baked in is ours to remove; and over a restart of the agent it is known what else is"""
    first, second = big(stage), big(stage)
    path = f"{stage.lab.where}/preloaded-{time.monotonic_ns()}.json"
    with open(path, "w") as file:
        json.dump({"images": [first]}, file)
    scene = scene_of(stage, preloaded_file=path)
    pull_by_hand(stage, first)
    ensure(scene, second)
    scene.site.agent.stop()
    scene.site.agent.settings |= {"gc_high_percent": "5", "gc_low_percent": "4"}
    scene.site.agent.start()
    wait_for(lambda: not is_there(stage, first) and not is_there(stage, second), 30, "both removed")


def room_for_a_pull(stage):
    """a pull that would not fit makes room first; one that cannot is no_space, and what runs is not touched"""
    scene = scene_of(stage, gc_high_percent="99", gc_low_percent="98")
    kept, _ = scene.provision(big(stage), image_size_bytes=str(FILLER))
    before = snapshot(stage.engine, kept)
    old = [big(stage) for _ in range(3)]
    for image in old:
        ensure(scene, image)
    v = os.statvfs(f"{stage.lab.engine.where}/data")
    scene.site.agent.stop()
    scene.site.agent.settings["min_free_bytes"] = str(v.f_bavail * v.f_frsize - (10 << 20))         # room for 10 MiB more
    scene.site.agent.start()
    new = big(stage)
    workspace, _ = scene.provision(new, image_size_bytes=str(FILLER + (4 << 20)))
    must(scene.runs(workspace, new) and not is_there(stage, old[0]) and is_there(stage, old[2]), "not the oldest one made room")
    scene.provision(big(stage), "failed", "no_space", workspace=kept, image_size_bytes=str(DISK))
    same(snapshot(stage.engine, kept), before, "after no_space")
    must(is_there(stage, new), "an image that a workspace runs on went")


CASES = (pressure, baked_in, room_for_a_pull)

if __name__ == "__main__":
    lab = Lab("images")
    os.makedirs(f"{lab.engine.where}/data")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", f"{lab.engine.where}/data"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"1..0 # SKIP no tmpfs can be mounted here: {done.stderr.strip()}")
        sys.exit(0)
    with lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, side_by_side=1, limit=150)
    tap.done()
