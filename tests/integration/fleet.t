#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fleet of three agents, each with its own state and its own tenant, and one control plane that rolls them: canary, soak, batches. Every workspace's page
is asked for every 20 ms throughout; none is away for longer than the engine itself needs to stop, seed and start it, and 100 ms;
one of six for a second, which may be the machine's."""

import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab  # noqa: E402
from prober import Prober  # noqa: E402
from scene import Scene  # noqa: E402

EVERY, ALLOWANCE = 0.02, 0.1
EACH = 2                                                    # workspaces of a tenant


class Fleet:
    def __init__(self, stage, tenants=3, **settings):
        first = Scene(stage, engine_proxy=True, plane_words=("--settle-seconds", "30", "--heartbeat-seconds", "2"), **settings)
        self.scenes = [first, *(Scene(stage, engine_proxy=True, plane_of=first.site, **settings) for _ in range(tenants - 1))]
        self.plane, self.stage = first.plane, stage
        self.plane.pin("langgraph", first.good)
        self.workspaces = [(scene, scene.provision(None)[0]) for scene in self.scenes for _ in range(EACH)]
        self.slugs = [scene.site.plane.org_slug for scene in self.scenes]

    def roll(self, status, tag, **more):
        return self.plane.must(status, "POST", "/admin/tenants/redeploy-fleet",
                               {"target_tag": tag, "confirm": True, "canary_slug": self.slugs[1], "soak_seconds": 2, "batch_size": 1, "max_stragglers": 0} | more,
                               tier="admin", timeout=300)

    def watched(self, status, tag):
        """(the answer of a roll, the probers that asked for each page throughout)."""
        probers = [Prober(scene.site.port(workspace), EVERY, 0.1) for scene, workspace in self.workspaces]
        with contextlib.ExitStack() as watching:
            for prober in probers:
                watching.enter_context(prober)
            answer = self.roll(status, tag)
            time.sleep(0.5)
        return answer, probers

    def pages(self):
        return [scene.page(workspace) for scene, workspace in self.workspaces]

    def containers(self):
        return [scene.site.container(workspace)["Id"] for scene, workspace in self.workspaces]


def by_engine(scene, workspace, since):
    """Seconds that the engine took for the calls between the old container's last answer and the new one's first, as the proxy saw them: stop, what was
    written and read back, start."""
    new = scene.site.container(workspace)["Id"]
    calls = [x for x in scene.site.dock.log if x.at >= since and x.took]
    start = next(x for x in calls if x.method == "POST" and x.path.endswith("/start") and new in x.path)
    stop = next(x for x in reversed(calls) if x.at < start.at and re.search(r"/containers/[0-9a-f]+/stop", x.path))
    seed = sum(x.took for x in calls if stop.at < x.at < start.at and new in x.path and "/archive" in x.path)
    return stop.took + seed + start.took


def rolled(stage):
    """incident 55: a roll with canary, soak and batches to a good digest ends verified on its target everywhere, and each workspace is away for no longer than the engine needs"""
    fleet = Fleet(stage)
    before, began = fleet.containers(), time.monotonic()
    answer, probers = fleet.watched(200, "two")
    must(answer["ok"] and not answer["stragglers"] and answer["pins_moved"], answer)
    same([r["slug"] for r in answer["results"]][0], fleet.slugs[1], "the canary goes first")
    digest = fleet.scenes[0].better.split("@")[1]
    must(all(r["phase"] == "verified" and r["verified_on_target"] and r["healthz_ok"] and r["running_image"] == digest and r["error"] is None
             and r["ssm_status"] == "Success" for r in answer["results"]), answer)
    same(fleet.pages(), ["two"] * len(fleet.workspaces))
    must(not set(before) & set(fleet.containers()), "a container is still the old one")
    same([p["image_digest"] for p in fleet.plane.must(200, "GET", "/admin/runtime-image", tier="admin")["pins"]], [digest])
    late = []
    for (scene, workspace), prober in zip(fleet.workspaces, probers):
        gap, engine = prober.gap(), by_engine(scene, workspace, began)
        tap.diag(f"workspace {workspace[:8]} of {scene.site.plane.org_slug}: away {gap * 1e3:.0f} ms; the engine's stop + seed + start {engine * 1e3:.0f} ms")
        allowed = max(ALLOWANCE, engine / 10)               # a slow engine is one of a slow machine
        if gap > engine + allowed:
            late.append(f"{gap * 1e3:.0f} > {engine * 1e3:.0f} + {allowed * 1e3:.0f} ms")
        must(gap < engine + 1, f"away for too long: {gap:.1f} s")
    must(len(late) < 2, f"away for too long: {late}")       # one of six may be this machine's
    starts = [next(x.at for x in scene.site.dock.log if x.at > began and "/stop" in x.path) for scene in fleet.scenes]
    order = [fleet.slugs.index(r["slug"]) for r in answer["results"]]
    must(starts[order[0]] + 2 < starts[order[1]] < starts[order[2]], f"no soak, or no order: {starts}")
    again = fleet.roll(200, "two")
    same([r["phase"] for r in again["results"]], ["verified"] * 3, "a roll to what runs")


def stopped_at_the_canary(stage):
    """incident 9: a roll to an image that crashes stops at the canary: HTTP 500 with results, the old one runs there, no other tenant was touched, and pins stay"""
    stage.image("crash", name="ok", page="bad")
    fleet = Fleet(stage, probe_timeout_seconds="10")
    before, pins = fleet.containers(), fleet.plane.must(200, "GET", "/admin/runtime-image", tier="admin")
    began = time.monotonic()
    answer, probers = fleet.watched(500, "bad")
    must(not answer["ok"] and "canary" in answer["error"] and not answer["pins_moved"], answer)
    same([r["phase"] for r in answer["results"]], ["failed", "waiting", "waiting"])
    must("rolled_back" in answer["results"][0]["error"] or "crash_loop" in answer["results"][0]["error"], answer)
    same((answer["results"][0]["slug"], answer["results"][0]["verified_on_target"]), (fleet.slugs[1], False))
    same(fleet.pages(), ["one"] * len(fleet.workspaces))
    same(fleet.containers(), before, "the containers, the canary's too")
    for (scene, workspace), prober in zip(fleet.workspaces, probers):
        tap.diag(f"workspace {workspace[:8]} of {scene.site.plane.org_slug}: away {prober.gap() * 1e3:.0f} ms")
        touched = [x.path for x in scene.site.dock.log if x.at > began and re.search(r"/(stop|start|restart|kill)\b", x.path)]
        same(bool(touched), scene is fleet.scenes[1], f"what was stopped and started: {touched}")
        must(scene is fleet.scenes[1] or prober.gap() < 2, "one that was not rolled was away")
    same(fleet.plane.must(200, "GET", "/admin/runtime-image", tier="admin"), pins)


CASES = (rolled, stopped_at_the_canary)

if __name__ == "__main__":
    with Lab("fleet") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=1, limit=200)
    tap.done()
