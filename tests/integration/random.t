#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random jobs on many workspaces, repeated, out of order and overtaken, with two kill -9 of the agent among them: in the end the host is what the reference
model says, and every job has one end, which the model allows. $MOLECULE_SEED chooses the jobs, $MOLECULE_LONG makes 300 of them on 20 workspaces."""

import itertools
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import Stage, same  # noqa: E402
from dice import World, all_ended, becomes, deliver, line, state_of  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from model import BAD, REFUSED, Job, Serial, allowed, is_determined, serial  # noqa: E402
from scene import Scene  # noqa: E402
from world import new_id  # noqa: E402

LONG = bool(os.environ.get("MOLECULE_LONG"))
WORKSPACES, JOBS, ORDERLY = (20, 300, 5) if LONG else (8, 72, 2)         # ORDERLY: of the workspaces, get theirs one after the other
SEED = int(os.environ.get("MOLECULE_SEED") or random.SystemRandom().randrange(1 << 32))
def deliver_in_order(world, workspace, jobs, failed):
    """One after the other, each waited for: every end is determined, also that of an undo."""
    state = Serial()
    for job in jobs:
        world.send(workspace, job, world.payload(workspace, job))
        want = state.apply(job).ends[job.id]
        try:
            got = wait_for(lambda job=job: world.ends(job), 150, f"the end of {job}", 0.3)
            if got != {want}:
                failed.append(f"{workspace} {job}: ended {got}, the model says {want}")
        except LabError as error:
            failed.append(str(error))
            return


def play(stage):
    dice = random.Random(SEED)
    scene = Scene(stage, max_parallel_jobs="8", crash_loop_restarts="2")
    world = World(scene, stage)
    lines = {new_id(): line(dice, JOBS // WORKSPACES, n < ORDERLY) for n in range(WORKSPACES)}
    orderly = dict(itertools.islice(lines.items(), ORDERLY))
    shuffled = {w: jobs for w, jobs in lines.items() if w not in orderly}
    failed = []

    def crash():
        scene.site.agent.kill()
        scene.site.agent.wait()
        scene.site.agent.start()
        tap.diag("killed and started again")
    threads = [threading.Thread(target=deliver_in_order, args=(world, w, jobs, failed), daemon=True) for w, jobs in orderly.items()]
    for thread in threads:
        thread.start()
    deliver(world, dice, shuffled, crash)
    for thread in threads:
        thread.join(600)
    same(failed, [], "jobs in order")
    for workspace, jobs in shuffled.items():
        all_ended(world, workspace, jobs)
    for workspace, jobs in lines.items():
        becomes(world, workspace, state_of(jobs) if workspace in shuffled else serial(jobs))
    counts = {}
    for jobs in lines.values():
        for job in jobs:
            for word in world.ends(job):
                counts[word] = counts.get(word, 0) + 1
    tap.diag(f"{sum(len(j) for j in lines.values())} jobs on {len(lines)} workspaces, {sum(map(len, world.rows.values()))} deliveries: "
             + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))


def the_model_itself():
    a, b = Job("provision", 1, image=1, id="a"), Job("provision", 2, BAD, id="b")
    r, d = Job("restart", 3, id="r"), Job("deprovision", 4, prune=True, id="d")
    same(serial([b, a]).settled, a, "a bad one leaves the good one")
    same(serial([a, b]).ends, {"a": "succeeded", "b": "failed"})
    same(serial([a, b, r]).ends["r"], "failed", "a restart makes the wanted one")
    same((serial([d, a]).settled, serial([a, d]).pruned), (None, True))
    same(serial([r]).ends, {"r": "refused"})
    same(Serial().apply(d).apply(a).ends, {"d": "succeeded", "a": "superseded"}, "below the floor")
    same(Serial().apply(a).apply(r).apply(Job("provision", 2, id="p")).ends["p"], "succeeded", "between the floors")
    same((is_determined([a, b]), is_determined([b, Job("provision", 3)]), is_determined([a, b, d])), (False, True, True))
    same(allowed(a, [a, b]), {"succeeded", "superseded"})
    same(serial([Job("provision", 1, REFUSED, id="x")]).ends, {"x": "refused"})


tap.diag(f"seed {SEED}")
try:
    the_model_itself()
    tap.ok(True, "the model keeps to the protocol's examples")
    with Lab("random") as lab:
        lab.network()
        stage = Stage(lab)
        began, error = time.monotonic(), ""
        try:
            play(stage)
        except LabError as why:
            error = f"{why}\nMOLECULE_SEED={SEED}\n" + "".join(site.tail(60) for site in stage.sites)
        for site in stage.sites:
            site.end()
        tap.ok(not error, f"{JOBS} random jobs on {WORKSPACES} workspaces end as the model's ({time.monotonic() - began:.0f} s)", error)
except LabError as why:
    tap.ok(False, "random", str(why))
tap.done()
