# SPDX-License-Identifier: Apache-2.0
"""The engine goes and comes back under running workspaces."""

import json
import time

import tap
from boot import answers, work
from cases import must, same
from instance import put
from proc import wait_for

AWAY = 10


def started(host, workspaces):
    return {w: (host.inspect(f"ws-{w}")["State"]["StartedAt"], host.inspect(f"ws-{w}")["RestartCount"]) for w in workspaces}


def statuses(stage, host):
    health = host.host()["health"] or {}
    return {w["workspace_id"]: w["status"] for w in health.get("workspaces", [])}


def engine_away(stage, host, made, live):
    before, said = started(host, made), set()
    host.run("systemctl", "stop", "docker.socket", "docker.service", timeout=90)
    end = time.monotonic() + AWAY
    while time.monotonic() < end:
        said |= set(statuses(stage, host).values())
        if live:
            must(all(value in host.get(address, "/env") for address, value in made.values()), "a workspace went with the engine")
        time.sleep(1)
    host.run("systemctl", "start", "docker.service", timeout=60)
    for w, (_, value) in made.items():
        wait_for(lambda w=w, v=value: answers(host, w, v), 30, f"the page of {w}", 0.2)
    time.sleep(5)
    said |= set(statuses(stage, host).values())
    after = started(host, made)
    events = host.out("docker", "events", "--since", "10m", "--until", "0s", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}").split()
    tap.diag(f"live-restore {'on' if live else 'off'}: starts since {len(events)}, health said {sorted(said)}")
    bad = said & {"failed", "crash_loop", "rollback_failed", "missing"}
    same(bad, set(), "health said of a workspace")
    for w in made:
        must(events.count(f"ws-{w}") <= (0 if live else 1), f"{w} was started {events.count(f'ws-{w}')} times")
        must(not live or after[w] == before[w], f"{w} was touched: {before[w]} {after[w]}")
    rows = [r for r in stage.plane.jobs(host.host()["host_id"]) if r.get("final") not in (None, "succeeded")]
    same(rows, [], "ended otherwise")


def engine_restarts(stage):
    """the engine goes and comes, with live-restore and without: no false failure, no storm of restarts"""
    host = stage.instance(stage.golden).boot()
    host.enroll(stage.plane)
    made = {}
    for _ in range(2):
        workspace, value = work(stage, host)
        made[workspace] = (host.address_of(workspace), value)
    engine_away(stage, host, made, live=True)
    path = host.path("/etc/docker/daemon.json")
    with open(path) as file:
        daemon = json.load(file) | {"live-restore": False}
    put(path, json.dumps(daemon))
    host.run("systemctl", "reload", "docker")
    engine_away(stage, host, made, live=False)


CASES = (engine_restarts,)
