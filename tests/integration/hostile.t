#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A hostile control plane. Each script of tests/lab/hostile.py is played to an agent that has a workspace and has been well: it begins with a
restart of the agent, goes on until the agent has met it as often as the script says, and ends. Whatever it was, the agent

- has given each request up in its time, has asked again no sooner than its back-off and waits no longer than its maximum;
- has taken no more memory than the script may cost (the kernel's own peak, against an agent that nobody was hostile to);
- has said what was wrong, with a stable code, and neither a credential nor a word of what it was told;
- has told nothing to anybody else, and its workspace runs on untouched;
- does the next good job, as soon as the control plane is its old self.

Then Retry-After, at each kind of request that the agent makes: none comes before its time. Several agents are played to side by side."""

import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from engine import UnixConnection  # noqa: E402
from hostile import LOST, MARK, REQUESTS, scripts  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from plane import Authority  # noqa: E402
from proc import end_now  # noqa: E402
from proxy import Proxy, reply  # noqa: E402
from sealed import life  # noqa: E402
from world import new_id, spec  # noqa: E402

SIDE_BY_SIDE = int(os.environ.get("MOLECULE_HOSTS", "14"))
LIMIT = 240                                                 # seconds until it gives up
UNIT_MAX = 192                                              # MiB: MemoryHigh of the unit
WAIT = 45                                                   # seconds in which the agent is back by itself: 30 of spread, and one round
peaks = []


class Host:
    """An agent behind a proxy, a tenant of the one control plane, with a workspace. It lives as long as its thread."""
    quiet = None

    def __init__(self, stage, plane_of):
        self.site = stage.site(start=False, plane_of=plane_of, plane_proxy=True, connect_timeout_seconds="8", prefetch="no")
        self.good = stage.image("ok", page="good", keep=True)
        self.plane, self.agent, self.cp, self.plays = self.site.plane, self.site.agent, self.site.cp, 0
        self.site.start()
        self.id = self.site.host()["host_id"]
        self.workspace = self.provisioned()
        self.life = life(self.site, self.workspace)
        with cases.lock:                                    # one stands for all
            Host.quiet = Host.quiet or self.unprovoked()

    def started(self):
        """It begins anew, and its first request comes now rather than within five seconds."""
        self.agent.start()
        wait_for(lambda: self.local("GET", "/v1/status")["control"]["state"] != "idle", 10, "the end of the local recovery", 0.02)
        before = time.monotonic()
        self.local("POST", "/v1/sync", "{}")
        self.hurried = before, time.monotonic()

    def restarted(self):
        self.agent.stop()
        self.started()

    def unprovoked(self):
        """The peak of an agent that has just started and done a good job."""
        self.restarted()
        self.undrained()
        return self.peak()

    def provisioned(self):
        workspace = new_id()
        job = self.plane.order(self.id, "workspace.provision", workspace, spec=spec(image_ref=self.good))
        same(self.plane.final(job, WAIT)["state"], "succeeded", "the provision")
        return workspace

    def undrained(self):
        job = self.plane.order(self.id, "host.undrain", spec={"reason": "lab"})
        same(self.plane.final(job, WAIT)["state"], "succeeded", "the undrain")

    def peak(self):
        """MiB, since the process began."""
        with open(f"/proc/{self.agent.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024

    def local(self, method, path, body=None):
        """What the local API answers."""
        link = UnixConnection(f"{self.agent.runtime}/control.sock", 5)
        link.request(method, path, body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        text = answer.read()
        link.close()
        same(answer.status, 200, text)
        return json.loads(text)

    def untouched(self):
        same(life(self.site, self.workspace), self.life, "the workspace")
        same(self.site.fetch(self.workspace)[0], 200, "its page")

    def meets(self, script):
        """Begins the script; the moments at which it was met, as [began, ended or None]."""
        met = []

        def watched(act, subject):
            met.append([time.monotonic(), None])
            mine = met[-1]
            try:
                act(subject)
            finally:
                mine[1] = time.monotonic()
        if script.at == "greet":
            self.cp.greet = lambda sock: watched(script.act, sock)
        elif script.at == "tls":
            script.act(self.cp, self.plane)
            self.cp.greet = lambda sock: met.append([time.monotonic()] * 2)
        else:
            self.cp.on(*REQUESTS[script.at], lambda exchange: watched(script.act, exchange), times=None)
        return met

    def is_good_again(self):
        self.cp.clear()
        self.cp.greet = None
        self.cp.certify(*self.plane.certificate)


def in_time(script, met, hurried):
    """Not judged: the pause that started() may have cut short, where the first request came before it."""
    took = [end - began for began, end in met if end]
    must(max(took) <= script.lasts, f"given up only after {max(took):.1f} s")
    must(max(took) >= script.least, f"not what the script meant: it lasted {max(took):.1f} s")
    if script.pause <= 60 and script.code == LOST:
        gaps = [later[0] - earlier[1] for earlier, later in zip(met, met[1:])
                if earlier[1] and not (earlier[1] <= hurried[1] and later[0] >= hurried[0])]
        must(not gaps or min(gaps) > 0.95, f"asked again after {min(gaps or [0]):.2f} s")


def in_words(script, agent, status, since):
    with open(agent.log, errors="replace") as file:
        file.seek(since)
        words = file.read()
    said = [line for line in words.splitlines() if "error " in line]
    if script.code:
        must(any(re.search(rf"error ({script.code})\]", line) for line in said), f"no {script.code} in {said}")
    else:
        must(not [line for line in said if "control_plane" in line], f"something is wrong: {said}")
    for secret in (MARK, *agent.credentials.values()):
        must(secret not in words and secret not in json.dumps(status), f"{secret!r} is in its words")


def play(script, host, elsewhere):
    host.agent.stop()
    since, asked = os.path.getsize(host.agent.log), len(host.cp.log)
    met = host.meets(script)
    host.started()
    if script.at == "reports":
        reports_something(host)
    wait_for(lambda: len(met) >= script.hits and met[script.hits - 1][1], 10 + script.hits * (script.lasts + 12), f"{script.hits} of it", 0.02)
    sent = max([getattr(x, "sent", 0) for x in host.cp.log[asked:]] or [0]) / (1 << 20)
    time.sleep(0.2)
    status = host.local("GET", "/v1/status")
    host.untouched()
    host.is_good_again()
    peak = host.peak()
    peaks.append((peak - host.quiet, script.name))
    in_time(script, met, host.hurried)
    in_words(script, host.agent, status, since)
    waits = status["control"].get("next_try_seconds", 0)
    must(waits <= script.pause, f"it waits {waits} s")
    must(script.pause <= 60 or waits > 60, f"it waits only {waits} s")
    must(sent <= script.most, f"it took {sent:.1f} MiB of an answer")
    must(peak - host.quiet <= script.grows and peak < UNIT_MAX, f"a peak of {peak:.1f} MiB, {peak - host.quiet:.1f} above a quiet agent's")
    must(not elsewhere.accepted, "somebody else was spoken to")
    for exchange in host.cp.log[asked:]:
        must(not re.search(f"\n(cookie|x-{MARK})".encode(), exchange.head.lower()), f"it sends what it was told to: {exchange.head}")
    if script.pause > 60:
        host.restarted()
    host.undrained()
    host.plays += 1
    if host.plays % 4 == 0:
        host.provisioned()
    host.untouched()


def words_of(name):
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def case_of(script, elsewhere, first):
    def case(stage):
        host = cases.own(stage.lab, lambda own: Host(own, first))
        try:
            play(script, host, elsewhere)
        except Exception as error:
            host.is_good_again()
            raise LabError(f"{error}\n{host.site.tail(30)}") from error
    case.__name__, case.__doc__ = words_of(script.name), script.name
    return case


# What brings the agent to make such a request, once it is well.

def registers_again(host):
    host.restarted()


def reports_something(host):
    host.plane.order(host.id, "host.undrain", spec={"reason": "lab"})


def pins_move(host):
    with cases.lock:
        host.plane.pin("langgraph", host.good, f"{time.monotonic_ns():040x}")


def is_refused(host):
    """The poll is answered 401: the agent asks whether its secret has another value."""
    host.cp.on(*REQUESTS["poll"], reply(401))


def is_lost(host):
    """404 without a word of the host: the agent asks whether the platform is there at all."""
    host.cp.on(*REQUESTS["poll"], reply(404))


CAUSES = {"register": registers_again, "poll": lambda host: None, "health": lambda host: None, "reports": reports_something,
          "pins": pins_move, "config": is_refused, "status": is_lost}


def holds_back(kind, status):
    """Retry-After: 3, and no request of any kind but those on their way comes sooner."""
    def case(stage):
        host = cases.own(stage.lab, lambda own: Host(own, case.first))
        host.restarted()                                    # what it was played before has cost it its budget for retries
        host.undrained()
        moments, later = [], reply(status, {"Retry-After": "3"}, '{"error":"later"}')

        def act(exchange):
            moments.append(time.monotonic())
            later(exchange)
        rule = host.cp.on(*REQUESTS[kind], act)
        CAUSES[kind](host)
        rule.wait(25)
        said = moments[0]
        wait_for(lambda: [x for x in host.cp.log if x.at > said + 1], 12, "the next request")
        host.cp.clear()
        after = [x for x in host.cp.log if x.at > said + 1]      # else it was on its way
        must(after[0].at - said >= 3, f"{after[0].method} {after[0].path} after {after[0].at - said:.2f} s")
        if kind not in ("config", "status", "pins"):
            wait_for(lambda: [x for x in host.cp.seen(*REQUESTS[kind]) if x.at > said + 0.05], 15, f"another {kind}")
        host.undrained()
        host.untouched()
    case.__name__, case.__doc__ = f"retry_after_{kind}_{status}", f"Retry-After with {status} at {kind}"
    return case


def main():
    with Lab("hostile") as lab:
        lab.image("ok", page="good", keep=True)
        elsewhere, other = Proxy(("127.0.0.1", 1)), Authority(f"{lab.where}/other", "other")
        first = lab.site(plane_words=("--wait-seconds", "1", "--heartbeat-seconds", "2"))
        pace = [holds_back(kind, status) for kind in REQUESTS for status in (429, 503)]
        for case in pace:
            case.first = first
        table = [case_of(script, elsewhere, first) for script in scripts(elsewhere.port, other)]
        cases.run(lab, table + pace, (), SIDE_BY_SIDE, LIMIT)
        end_now(first.end)
        for more, name in sorted(peaks, reverse=True)[:6]:
            tap.diag(f"{more:6.1f} MiB above a quiet agent: {name}")
    tap.done()


if __name__ == "__main__":
    main()
