#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hundred agents (lab/crowd) whose control plane goes away: they come back spread over the time that the protocol gives them (§7), and none asks
before the time that it was told. What each kind of request does by itself is seen in tests/test-cp.c; here it is the crowd that counts. Nothing is
judged where this machine was LATE for the crowd."""

import collections
import http.server
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, run  # noqa: E402
from crowd import Crowd  # noqa: E402
from lab import Lab, LabError, binary, wait_for  # noqa: E402
from plane import Plane  # noqa: E402

AGENTS, BEGIN = 200, 3
SPREAD = 30                                                 # seconds, after a connection was lost
AGAIN = 25                                                  # the first poll is answered within twenty, and is told of a second later
RETRY_AFTER = 5                                             # what everybody is told, once it has waited for HOLD seconds:
HOLD = 1                                                    # what an agent sends together is all here before the first of it is answered
LATE, TENTH = 1, 0.1                                        # seconds; to what the crowd rounds how late it was


class Scene:
    def __init__(self, stage, name):
        where = f"{stage.lab.where}/{name}"
        self.plane = Plane(f"{where}/cp", binary("molecule-devcp"), tls=False)
        self.plane.start()
        self.plane.org_make()
        self.crowd = Crowd(f"{where}/crowd", self.plane, AGENTS).start(BEGIN)
        self.crowd.all_well(0, 60)

    def leave(self, number):
        """The control plane ends, and its place is free when this returns, with the second in which that was."""
        self.crowd.outage()
        second = int(boot())
        self.plane.stop(number=number) if number != signal.SIGKILL else (self.plane.process.kill(), self.plane.process.wait())
        return second

    def end(self):
        self.crowd.stop()
        self.plane.stop()


def boot():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def lateness(rows):
    """How late the crowd was at most; a skip where that is too much."""
    late = max(row["late"] for row in rows)
    if late >= LATE:
        raise tap.Skip(f"this machine was {late:.1f} s late for the crowd")
    return late


def comes_back(stage, name, number):
    """Restarted at once: each member's first request falls somewhere within SPREAD seconds, about as many into each third of them, and no second gets
    more than three times its part of all requests."""
    scene = Scene(stage, name)
    second = scene.leave(number)
    scene.plane.start()
    time.sleep(max(0, second + SPREAD + 3 - boot()))
    rows = wait_for(lambda: (lambda seen: len(seen) == SPREAD + 3 and seen)(scene.crowd.between(second, second + SPREAD + 3)), 20, "each second's row", 0.2)
    scene.crowd.all_well(second + SPREAD, AGAIN)
    lateness(rows)
    firsts, sent = [row["first"] for row in rows], [row["sent"] for row in rows[:SPREAD + 1]]
    thirds = [sum(firsts[i:i + SPREAD // 3]) for i in range(0, SPREAD, SPREAD // 3)]
    words = f"first requests {firsts}, all requests {sent}"
    tap.diag(f"{name}: thirds {thirds}, at most {max(sent)} in a second, {sum(sent) / len(sent):.1f} in the middle")
    must(sum(firsts) == AGENTS, f"not each has come once within {SPREAD} s: {words}")
    must(min(thirds) >= AGENTS / 6, f"not spread, thirds {thirds}: {words}")
    must(max(sent) <= 3 * sum(sent) / len(sent), f"{max(sent)} requests in one second: {words}")
    scene.end()


def killed(stage):
    """a control plane that is killed is asked again over thirty seconds"""
    comes_back(stage, "killed", signal.SIGKILL)


def stopped(stage):
    """one that sends everybody away as it stops, too"""
    comes_back(stage, "stopped", signal.SIGTERM)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 1000

    def handle_error(self, *_):
        """A connection that its client has reset."""


class Later(http.server.BaseHTTPRequestHandler):
    """503 for everybody."""
    protocol_version, asked, lock = "HTTP/1.1", collections.defaultdict(list), threading.Lock()        # host -> [(kind, asked at, told at)]

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        at = boot()
        time.sleep(HOLD)
        with self.lock:
            self.asked[self.headers["X-Molecule-Host-Id"]].append((self.command + self.path.split("?")[0], at, boot()))
        self.send_response(503)
        self.send_header("Retry-After", str(RETRY_AFTER))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def told_to_come_later(stage):
    """whoever is told to come later comes later"""
    scene = Scene(stage, "later")
    second = scene.leave(signal.SIGKILL)
    server = Server(("127.0.0.1", scene.plane.port), Later)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(SPREAD + 15)
    server.shutdown()
    server.server_close()
    late = lateness(scene.crowd.between(second, boot()))    # so long a request of another kind may have been made before that was heard
    early = [(host, kind, at - told) for host, asked in Later.asked.items() for kind, at, _ in asked for before, _, told in asked
             if (0 if kind == before else late + TENTH) < at - told < RETRY_AFTER]
    again = sum(len(asked) - len({kind for kind, *_ in asked}) for asked in Later.asked.values())
    must(len(Later.asked) == AGENTS, f"{len(Later.asked)} agents have come")
    must(again >= 2 * AGENTS, f"only {again} requests were made again")
    must(not early, f"too early: {early[:10]}")
    scene.end()


try:
    place = Lab("polite")
    run(place, (killed, stopped, told_to_come_later), side_by_side=3, limit=150)
except LabError as why:
    tap.ok(False, "polite", str(why))
tap.done()
