#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One system call fails, at every point of a life: of a workspace's provision, replacement and deprovision, and of the agent's start. A reference
run under strace gives the points (tests/lab/inject.py says which calls, and why not others); then each is tried in its turn with each error that it
can have. The daemon neither crashes nor hangs; what it tells is on the disk; no file is synced again after a sync that failed; a job that failed says
why, and ordered once more it is done. Of a start that cannot be: words, an orderly end, and a next start as if nothing had been. Then faults that
stay: after two failures in a row no job is taken, and two good probes end that.

MOLECULE_POINT is a pattern of what is tried ('replace:fsync:12:EIO'); MOLECULE_QUICK tries a sample, MOLECULE_SEED says which."""

import collections
import os
import queue
import random
import re
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import inject  # noqa: E402
import tap  # noqa: E402
from inject import Point, Watch  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from world import b64, member, new_id, spec, volumes  # noqa: E402

QUICK = bool(os.environ.get("MOLECULE_QUICK"))
SITES = int(os.environ.get("MOLECULE_SITES", "8"))
SEED = os.environ.get("MOLECULE_SEED") or str(random.randrange(1 << 32))
CHOSEN = re.compile(os.environ.get("MOLECULE_POINT", ""))
SAMPLE = int(os.environ.get("MOLECULE_SAMPLE", "64"))       # points of a quick run
LIMIT = 55 if QUICK else 3400                               # seconds until it gives up
LINES = int(os.environ.get("MOLECULE_LINES", "12"))
FINALS = ("succeeded", "failed", "refused", "superseded", "conflict", "expired", "cancelled")
JOBS = ("make", "replace", "remove")
FILES = {1: {"config.yaml": b"version: one\n", "prompts/a.md": b"first\n"}, 2: {"config.yaml": b"version: two, and longer\n", "prompts/b.md": b"new\n"}}


class Life:
    """One site, and one workspace after the other on it."""

    def __init__(self, lab, images, number):
        self.lab, self.images = lab, images
        self.site = lab.site(network=f"molecule-err-{number}")
        self.workspace, self.version, self.settled = None, 1, None
        self.site.start(0)

    def order(self, job):
        host = self.site.host()["host_id"]
        if job == "remove":
            return self.site.plane.order(host, "workspace.deprovision", self.workspace, spec={"prune": True})
        files = {name: b64(data) for name, data in FILES[self.version].items()}
        return self.site.plane.order(host, "workspace.provision", self.workspace, spec=spec(
            image_ref=self.images[self.version], env={"DEMO_VERSION": str(self.version)}, config_files=files))

    def run(self, job, point=None):
        """One job with the fault in it; the trace. LabError when anything is not as it must be."""
        if job == "make":
            self.workspace, self.version = new_id(), 1
        elif job == "replace":
            self.version = 3 - self.version
        before = self.site.container(self.workspace)
        with Watch(self.site.agent.process.pid, f"{self.site.where}/trace", point) as watch:
            order = self.order(job)
            final = self.ended(order)
            self.quiet()
        calls = watch.calls()
        wrong = inject.complaints(calls, self.site.agent.state)
        if wrong:
            raise LabError("; ".join(wrong))
        if final["state"] != "succeeded":
            self.explained(final, point)
            self.unharmed(job, before, final)
            final = self.ended(self.order(job))
        wait_for(lambda: self.agrees(job, final), 12, f"a world that agrees with '{final['state']}'", 0.1)
        return calls

    def ended(self, order):
        """The one final report."""
        final = wait_for(lambda: self.site.agent.process.check() and self.final(order), 130, "the job's end", 0.1)
        finals = {report["state"] for report in self.site.plane.job(order)["reports"] if report["state"] in FINALS}
        if len(finals) != 1:
            raise LabError(f"more than one end: {finals}")
        return final

    def final(self, order):
        row = self.site.plane.job(order)
        return row["final"] and next(report for report in row["reports"] if report["state"] == row["final"])

    def quiet(self):
        """The reports are acknowledged, the record says so, the sweep has come."""
        wait_for(lambda: not os.listdir(f"{self.site.agent.state}/outbox"), 40, "an empty outbox", 0.05)
        time.sleep(0.3)

    def explained(self, final, point):
        error = final.get("error") or {}
        if not point or final["state"] not in ("failed", "refused") or not error.get("message") or not error.get("retryable"):
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

    def healed(self):
        """Nothing of the fault stays: no reason to be degraded, no temporary file, no descriptor."""
        def look():
            degraded = self.site.host()["health"]["agent"]["degraded"]
            left = [f"{where}/{name}" for where, _folders, names in os.walk(self.site.agent.state) for name in names if name.startswith(".")]
            if degraded or left:
                raise LabError(f"degraded: {degraded}, left: {left}")
            return True
        wait_for(look, 100, "a state without a trace of the fault", 0.2)

    # ── the start ──

    def begin(self):
        """A workspace that runs, for starts to find."""
        self.run("make")
        self.settled = self.site.container(self.workspace)

    def start(self, point=None):
        """A start with the fault in it; its trace."""
        agent, log = self.site.agent, f"{self.site.where}/trace"
        agent.stop()
        said = len(agent.lines(""))
        agent.start(wrap=["strace", "-D", *inject.options(log, point)[1:]], ready=0)
        wait_for(lambda: agent.noticed("READY=1") or not agent.process.running(), 30, "READY, or the end")
        if agent.process.running():
            self.at_work(said)
        elif not point or agent.process.wait() <= 0 or not any("Cannot start" in line for line in agent.lines("")[said:]):
            raise LabError(f"it ended with {agent.process.wait()}, without saying why")
        agent.stop()
        calls = inject.read(log)
        wrong = inject.complaints(calls, agent.state)
        if wrong:
            raise LabError("; ".join(wrong))
        said = len(agent.lines(""))
        agent.start()
        self.at_work(said)
        return calls

    def points_of_start(self):
        self.begin()
        calls = self.start()
        first = next(at for at, call in enumerate(calls) if call.path.startswith(self.site.agent.state))
        return inject.points(calls, self.site.agent.state, "start", first)

    def at_work(self, said):
        """Registered, and the workspace runs on, untouched."""
        wait_for(lambda: self.site.agent.process.check() and any("Registered" in line for line in self.site.agent.lines("")[said:]), 60, "the registration")
        now = self.site.container(self.workspace)
        if (now["Id"], now["State"]["StartedAt"]) != (self.settled["Id"], self.settled["State"]["StartedAt"]):
            raise LabError("the workspace was touched")


class Work:
    """The points that are still to be tried, job by job, and the answers."""

    def __init__(self):
        self.points = {job: queue.Queue() for job in (*JOBS, "start")}
        self.over, self.lock, self.ends = threading.Event(), threading.Lock(), collections.defaultdict(collections.Counter)

    def fill(self, found):
        found = [point for point in found if CHOSEN.search(inject.words(point))]
        random.Random(SEED).shuffle(found)
        for point in found[:SAMPLE] if QUICK else found:
            self.points[point.job].put(point)

    def take(self, job):
        try:
            return self.points[job].get_nowait()
        except queue.Empty:
            return None

    def left(self, *jobs):
        return sum(self.points[job].qsize() for job in jobs or self.points)

    def answer(self, point, word, why=""):
        with self.lock:
            self.ends[point.job, point.error][word] += 1
            if word == "bad":
                tap.diag(f"bad: MOLECULE_POINT='^{inject.words(point)}$' tests/fault/errors.t: {why}")

    def judge(self):
        for (job, error), ends in sorted(self.ends.items()):
            tried = ends["hit"] + ends["bad"]
            tap.ok(not ends["bad"] and tried and ends["missed"] <= max(2, 0.1 * tried),
                   f"{job}: {error} at {tried} points" + (f", {ends['bad']} bad" if ends["bad"] else "") + (f", {ends['missed']} not reached" if ends["missed"] else ""))


def way(work):
    """The jobs of one workspace: replaced again and again while that has the most points left."""
    yield "make"
    while work.left("replace") > max(work.left("make"), work.left("remove")):
        yield "replace"
    yield "replace"
    yield "remove"


def attempt(life, work, point, call):
    """Whether it went as it must. A call that has another place in this run than it had in the reference may be one that cannot fail so: not reached."""
    error = None
    try:
        call(point)
    except Exception as raised:
        error = raised
    if work.over.is_set():
        return False
    if error and not life.site.agent.process.running():
        life.site.agent.start()
    if point and not inject.hit(inject.read(f"{life.site.where}/trace"), point, life.site.agent.state):
        work.answer(point, "missed")
    elif error:
        long = "".join(traceback.format_exception(error)) + life.site.tail(LINES) if CHOSEN.pattern else ""
        work.answer(point or Point("nothing", "", 0, ""), "bad", f"{str(error).splitlines()[0]}\n{long}")
    elif point:
        work.answer(point, "hit")
    return not error


def live(life, work):
    """Workspace after workspace, until no point is left."""
    while work.left(*JOBS) and not work.over.is_set():
        for job in way(work):
            point = work.take(job)
            if not attempt(life, work, point, lambda p: life.run(job, p)):
                break
        else:
            attempt(life, work, None, lambda _point: life.healed())


def starts(life, work):
    if not life.settled:
        life.begin()
    while not work.over.is_set() and (point := work.take("start")):
        attempt(life, work, point, life.start)


def test(lab, began):
    images = {version: lab.image("ok", page=f"version-{version}", keep=True) for version in (1, 2)}
    lives = [Life(lab, images, number) for number in range(SITES)]
    for life in lives:
        wait_for(life.site.host, 30, "the host's registration")
    work, found = Work(), []
    other = threading.Thread(target=lambda: found.extend(lives[-1].points_of_start()), daemon=True)
    other.start()
    for job in JOBS:
        found += inject.points(lives[0].run(job), lives[0].site.agent.state, job)
    other.join(60)
    for error in inject.ERRORS:
        tap.diag(f"{error}: " + ", ".join(f"{job} {sum((p.job, p.error) == (job, error) for p in found)}" for job in (*JOBS, "start")))
    work.fill(found)
    tap.diag(f"seed {SEED}: {work.left()} of {len(found)} points, known after {time.monotonic() - began:.1f} s")
    threads = [threading.Thread(target=starts if number >= SITES - 2 else live, args=(life, work), daemon=True) for number, life in enumerate(lives)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(LIMIT - (time.monotonic() - began), 1))
    work.over.set()
    tap.ok(work.left() == 0 and not any(thread.is_alive() for thread in threads), "the whole of it ended in time")
    work.judge()


def main():
    began = time.monotonic()
    with Lab("errors") as lab:
        test(lab, began)
    tap.diag(f"done after {time.monotonic() - began:.1f} s")
    tap.done()


if __name__ == "__main__":
    main()
