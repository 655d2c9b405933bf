#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every point where the world can tell: around each request that the agent sends to the engine during a job, and around each
poll that brings a job and each report that leaves. A reference run of every job gives the list of points; then a workspace lives through
all four jobs again and again (made, replaced, replaced badly, removed), each time with the agent dying at another point: once before the
request leaves, once after the other side has done it but before the agent hears of it. After the restart the job must end as if nothing
had been, once, and the engine must hold just what the outcome says. MOLECULE_KILL is a pattern for a run with fewer points, such as
'replace badly: .*start'; without it every fourth is tried, and with MOLECULE_LONG none is left out."""

import json
import os
import re
import sys
import threading
import time
import traceback
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from lives import JOBS, Life, images  # noqa: E402
from proc import end_now  # noqa: E402
from proxy import Closed  # noqa: E402
from work import Work  # noqa: E402
from world import FINALS, new_id, spec  # noqa: E402

SITES = int(os.environ.get("MOLECULE_KILL_SITES", "8"))
CHOSEN = re.compile(os.environ.get("MOLECULE_KILL", ""))
SHARE = 1 if os.environ.get("MOLECULE_LONG") or os.environ.get("MOLECULE_KILL") else 4          # one point in so many is tried
LIMIT = 700                                                 # seconds until it gives up
# How often these happen is a matter of timing: a run may have fewer of them than the reference run.
FLICKERING = ("GET /containers/NEW/json", "report running")


class Trap:
    """Names every exchange of a job as it comes by; at the chosen one the agent is killed. None: only names."""

    def __init__(self, site, old, earlier=frozenset(), point=None, late=False):
        self.site, self.old, self.earlier, self.point, self.late = site, old, earlier, point, late
        self.names, self.lock, self.sprung, self.final, self.quiet = [], threading.Lock(), threading.Event(), False, time.monotonic()

    def number(self, name):
        with self.lock:
            self.quiet = time.monotonic()
            name = f"{name} #{sum(seen.rsplit(' #', 1)[0] == name for seen in self.names) + 1}"
            self.names.append(name)
        return name

    def is_quiet(self):
        return time.monotonic() - self.quiet > 0.6

    def kill(self):
        self.site.agent.kill()
        self.sprung.set()
        raise Closed

    def engine_name(self, method, path):
        """None for what is not the job's: the stream of events, the greeting, the sweep's list and its look at the settled container."""
        path = urllib.parse.unquote(re.sub(r"^/v[0-9.]+", "", path))
        if re.match(r"/(events|_ping|version|info)\b", path) or "molecule.platform.managed" in path:
            return None
        if self.old and path == f"/containers/{self.old}/json":
            return None
        path = path.replace(self.site.life.workspace, "ID").replace(self.site.life.network, "NETWORK")
        path = path.replace(self.old, "OLD") if self.old else path
        path = re.sub(r"^(/images/)\S+(/json)$|^(/images/create\?fromImage=).*$", r"\1\3IMAGE\2", path)
        return f"{method} {re.sub('[0-9a-f]{64}', 'NEW', path)}"

    def at_engine(self, exchange):
        name = self.engine_name(exchange.method, exchange.path)
        if name and self.number(name) == self.point and not self.sprung.is_set():
            if self.late:
                exchange.forward()
            self.kill()
        exchange.ask()
        exchange.relay()

    def at_plane(self, exchange):
        if exchange.path.endswith("/reports"):
            # An older job's final may come again after a restart; it is not this job's.
            states = {report["state"] for report in json.loads(exchange.body)["reports"] if report["job_id"] not in self.earlier}
            word = "final" if states.intersection(FINALS) else "accepted" if "accepted" in states else "running" if states else None
            name = self.number(f"report {word}") if word else None
            if name and name == self.point and not self.sprung.is_set():
                if self.late:
                    exchange.forward()
                self.kill()
            exchange.ask()
            exchange.relay()
            self.final |= word == "final"
        elif "/jobs?" in exchange.path:
            _status, _headers, body, head = exchange.forward()
            if b'"delivery_id"' in body and self.site.trap.number("poll") == self.site.trap.point and not self.site.trap.sprung.is_set():
                self.site.trap.kill()       # the poll was parked when the trap was laid: ask the one that is there now
            exchange.client.sock.sendall(head + body)
        else:
            exchange.ask()
            exchange.relay()


class TrappedLife(Life):
    """A life with a trap on its way to the engine and to the control plane."""

    def __init__(self, lab, versions, number):
        super().__init__(lab, versions, f"kill-{number}", plane_proxy=True, engine_proxy=True)
        self.earlier, self.last, self.site.life = frozenset(), None, self
        self.site.trap = Trap(self.site, None)
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            self.site.dock.on(method, ".", lambda x: self.site.trap.at_engine(x), times=None)
            self.site.cp.on(method, ".", lambda x: self.site.trap.at_plane(x), times=None)
        self.site.start(0)

    def run(self, job, point=None, late=False):
        """One job, with the agent dying at the point; the names of all that was asked. LabError when the end is not as it must be."""
        self.earlier |= {self.last}
        self.prepare(job)
        trap = self.site.trap = Trap(self.site, self.old, self.earlier, point, late)
        order = self.last = self.order()
        wait_for(lambda: trap.sprung.is_set() or (trap.final and trap.is_quiet() and len(self.site.containers(self.workspace)) <= 1), 60,
                 "the point, or the job's end and the last old container's")
        if trap.sprung.is_set():
            self.site.agent.wait()
            self.site.trap = Trap(self.site, self.old, self.earlier)
            self.site.agent.start()
            if not self.site.plane.job(order)["final"]:
                wait_for(lambda: self.site.trap.final, 60, "the job's end after the restart", 0.1)
        self.ended(job, order)
        return trap.names if not point else trap.sprung.is_set()


class Kills(Work):
    """The points that are still to be tried, job by job, and the answers."""

    def __init__(self):
        super().__init__(JOBS)
        self.fired, self.unmet = set(), []

    def draw(self, job, names):
        number = JOBS.index(job)
        for name in names:
            for late in (False, True):
                # Before a poll's answer there is nothing: the poll was on its way long before the job.
                number += 1
                if (late or not name.startswith("poll")) and CHOSEN.search(f"{job}: {name}") and number % SHARE == 0:
                    self.put(job, (name, late))

    def came(self, job, point, late, sprung, error=None):
        with self.lock:
            kind = point.rsplit(" #", 1)[0]
            name = f"{job}: killed {'after' if late else 'before'} {point}"
            if error:
                tap.ok(False, name, error)
            elif sprung:
                tap.ok(True, name)
                self.fired.add((job, kind, late))
            else:
                self.unmet.append((job, point, kind, late))

    def judge_missed(self):
        """A point that a run did not come by: only what is a matter of timing, and then another of its kind must have been tried."""
        for job, point, kind, late in self.unmet:
            good = kind in FLICKERING and (kind == "report running" or (job, kind, late) in self.fired)
            tap.ok(good, f"{job}: {'after' if late else 'before'} {point}: fewer of these in that run", "the point was not reached")


def way(work):
    """The jobs of one workspace. What fails leaves things as they were, and has the most points: again, while it has the most left."""
    for job in JOBS:
        yield job
        while job == "replace badly" and work.left(job) > work.left("make"):
            yield job


def live(life, work):
    """Workspace after workspace, until no point is left."""
    while work.left() and not work.over.is_set():
        for job in way(work):
            point, late = work.take(job) or (None, False)
            try:
                sprung = life.run(job, point, late)
            except Exception:
                work.came(job, point or "nothing", late, False, traceback.format_exc() + life.site.tail(60))
                life.site.trap = Trap(life.site, None)
                if not life.site.agent.process.running():
                    life.site.agent.start()
                break
            if point:
                work.came(job, point, late, sprung)


def test(lab, began):
    versions = images(lab, SITES)
    lives = [TrappedLife(lab, versions[number], number) for number in range(SITES)]
    for life in lives:
        wait_for(life.site.host, 30, "the host's registration")
    work = Kills()
    for job in JOBS:
        names = lives[0].run(job)
        tap.diag(f"{job}: " + ", ".join(names))
        work.draw(job, names)
    tap.diag(f"{work.left()} points, known after {time.monotonic() - began:.1f} s")
    work.start([*((live, life, work) for life in lives), (reboot, lab, versions[0][1], work)])
    work.finish(began + LIMIT)
    tap.ok(work.drawn and work.left() == 0, "the whole of it was tried in time")
    work.judge_missed()


def reboot(lab, image, work):
    """What a reboot leaves: no process, no container that runs, an empty runtime directory. And all that could be missing is: the control
    plane, the credentials, a readable agent.conf."""
    def is_(got, want, name):
        with work.lock:
            tap.is_(got, want, name)
    site, workspaces = lab.site().start(), [new_id(), new_id()]
    host = site.host()["host_id"]
    orders = [site.plane.order(host, "workspace.provision", workspace, spec=spec(image_ref=image)) for workspace in workspaces]
    is_([site.plane.final(order)["state"] for order in orders], ["succeeded"] * 2, "reboot: two workspaces before it")
    before = {workspace: site.container(workspace)["Id"] for workspace in workspaces}
    site.agent.kill()
    site.agent.wait()
    site.plane.stop()
    for ident in before.values():
        lab.docker("POST", f"/containers/{ident}/stop", t=1)
    site.agent.runtime_unmount()
    site.agent.runtime_mount()
    site.agent.settings, site.agent.credentials = {"[agent": "what is this"} | site.agent.settings, {}
    is_(site.agent.run("--check")[0], 78, "reboot: the configuration is no good any more")
    site.agent.start()
    for workspace in workspaces:
        wait_for(lambda: site.container(workspace)["State"]["Running"], 100, "a workspace that runs again")     # a start that fails once has its pause, and the next sweep
        is_(site.container(workspace)["Id"], before[workspace], "reboot: the same container runs again")
        is_(wait_for(lambda: site.fetch(workspace), 10, "its page")[0], 200, "reboot: it answers")
    end_now(site.end)


def main():
    began = time.monotonic()
    with Lab("kill") as lab:
        test(lab, began)
    tap.diag(f"done after {time.monotonic() - began:.1f} s")
    tap.done()


if __name__ == "__main__":
    main()
