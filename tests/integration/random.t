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
from cases import Stage, must, same  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from model import BAD, GOOD, REFUSED, Job, Serial, allowed, is_determined, newest, serial  # noqa: E402
from scene import Scene  # noqa: E402
from world import digest_of, moment, new_id, spec, volumes  # noqa: E402

LONG = bool(os.environ.get("MOLECULE_LONG"))
WORKSPACES, JOBS, ORDERLY = (20, 300, 5) if LONG else (8, 72, 2)         # ORDERLY: of the workspaces, get theirs one after the other
SEED = int(os.environ.get("MOLECULE_SEED") or random.SystemRandom().randrange(1 << 32))
FINAL = {"succeeded", "failed", "refused", "superseded", "conflict", "expired", "cancelled"}
IMAGES = 3


def make(dice, generation):
    kind = dice.choices(("provision", "restart", "deprovision"), (10, 4, 3))[0]
    return Job(kind, generation, dice.choices((GOOD, BAD, REFUSED), (8, 2, 1))[0] if kind == "provision" else GOOD, dice.randrange(IMAGES),
               tuple((f"DEMO_{name}", str(dice.randrange(100))) for name in "AB" if dice.random() < 0.5), dice.random() < 0.5, new_id())


def line(dice, number, orderly):
    """The jobs of one workspace; of those that arrive anyhow, the newest decides, so it must be one that succeeds."""
    while True:
        jobs = [make(dice, generation) for generation in range(1, number + 1)]
        if orderly or is_determined(jobs):
            return jobs


class World:
    def __init__(self, scene, stage):
        self.scene, self.stage, self.host = scene, stage, scene.host
        self.good = [stage.image("ok", page=f"v{n}") for n in range(IMAGES)]
        self.bad = stage.image("crash")
        self.rows = {}                                      # job id -> devcp's ids of its deliveries
        self.lock = threading.Lock()

    def payload(self, workspace, job):
        made = {"job_id": job.id, "type": f"workspace.{job.kind}", "org_id": self.scene.plane.org_id, "host_id": self.host, "workspace_id": workspace,
                "generation": str(job.generation), "issued_at": moment(), "spec": {}}
        if job.kind == "deprovision":
            made["spec"] = {"prune": job.prune}
        if job.kind == "provision":
            image = {GOOD: self.good[job.image], BAD: self.bad, REFUSED: "no-digest:latest"}[job.what]
            made["spec"] = spec(image_ref=image, env=dict(job.env), probe={"path": "/", "timeout_seconds": 60})
        return made

    def send(self, workspace, job, payload):
        row = self.scene.plane.order_raw(self.host, payload)
        with self.lock:
            self.rows.setdefault(job.id, []).append(row)

    def ends(self, job):
        """The different final states that were reported of a job, under whichever delivery."""
        found = [self.scene.plane.job(row) for row in self.rows[job.id]]
        return {r["state"] for row in found for r in row["reports"] if r["state"] in FINAL and r.get("job_id") == job.id}


def deliver(world, dice, lines, crash):
    """All jobs of the lines, near to their order but not in it, one in eight twice; the agent is killed at a third and at two thirds."""
    queues = {w: sorted(jobs, key=lambda j: j.generation + dice.uniform(0, 4)) for w, jobs in lines.items()}
    todo = [(w, job) for w, job in itertools.chain.from_iterable(zip(*[[(w, j) for j in q] for w, q in queues.items()]))]
    payloads = {job.id: world.payload(w, job) for w, job in todo}
    for number, (workspace, job) in enumerate(todo):
        world.send(workspace, job, payloads[job.id])
        if dice.random() < 0.125:
            world.send(workspace, *dice.choice([(j, payloads[j.id]) for w, j in todo[:number + 1] if w == workspace]))
        if number in (len(todo) // 3, 2 * len(todo) // 3):
            crash()
        if dice.random() < 0.15:
            time.sleep(dice.uniform(0, 2))


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


def is_as(world, workspace, state):
    """None where the host is as the model says, else how it differs."""
    scene, found = world.scene, world.scene.site.containers(workspace)
    names = sorted(name for row in found for name in row["Names"])
    if not state.settled:
        left = volumes(world.stage.engine, workspace) if state.pruned else {}
        return None if not found and not left else f"should be gone: {names} {list(left)}"
    if names != [f"/ws-{workspace}"] or found[0]["State"] != "running":
        return f"not one running container: {names}"
    if world.good[state.settled.image].split("@")[1] not in digest_of(world.stage.engine, f"ws-{workspace}"):
        return "another image runs"
    text = "".join(f"{name}={value}\n" for name, value in sorted(state.settled.env))
    try:
        seen = scene.site.fetch(workspace, "/env")[1]
    except (OSError, LabError) as error:
        return f"its page: {error}"
    shown = scene.shown(workspace)
    if not shown or shown["status"] != "online":
        return f"health says {shown and shown['status']}"
    return None if seen == text else f"env is {seen!r}, should be {text!r}"


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
        for job in jobs:
            got = wait_for(lambda job=job: world.ends(job), 180, f"the end of {job}", 0.3)
            must(len(got) == 1 and got <= allowed(job, jobs), f"{workspace} {job}: ended {got}, allowed are {allowed(job, jobs)}")
    for workspace, jobs in lines.items():
        state = serial(jobs)
        if workspace in shuffled:
            last = newest(jobs)
            must((state.settled or None) == (last if last and last.kind == "provision" else None), "the model contradicts itself")
            if not state.settled:
                state.pruned = bool(last and last.prune)
        wait_for(lambda w=workspace, s=state: is_as(world, w, s) is None, 60, f"{workspace} as the model has it ({state.settled}): "
                 f"{is_as(world, workspace, state)}", 0.5)
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
