# SPDX-License-Identifier: Apache-2.0
"""Random jobs for workspaces, delivered as a network and a control plane might, and what the host has to be afterwards, by the model."""

import itertools
import threading
import time

from cases import must
from lab import LabError, wait_for
from model import BAD, GOOD, REFUSED, Job, allowed, is_determined, newest, serial
from world import digest_of, moment, new_id, spec, volumes

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


def all_ended(world, workspace, jobs):
    """Each has one end, and one that the model allows."""
    for job in jobs:
        got = wait_for(lambda job=job: world.ends(job), 180, f"the end of {job}", 0.3)
        must(len(got) == 1 and got <= allowed(job, jobs), f"{workspace} {job}: ended {got}, allowed are {allowed(job, jobs)}")


def state_of(jobs):
    """What comes of jobs whose newest decides, in whatever order they came."""
    state, last = serial(jobs), newest(jobs)
    must((state.settled or None) == (last if last and last.kind == "provision" else None), "the model contradicts itself")
    if not state.settled:
        state.pruned = bool(last and last.prune)
    return state


def becomes(world, workspace, state):
    def words():
        return f"{workspace} as the model has it ({state.settled}): {is_as(world, workspace, state)}"
    try:
        wait_for(lambda: is_as(world, workspace, state) is None, 100, "the model's state", 0.5)
    except LabError as error:
        raise LabError(words()) from error
