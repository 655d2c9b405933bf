#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A host whose clock is an hour off, either way, and a control plane that comes back from yesterday's backup: what counts is the control plane's clock and
the numbers that were given out, not what someone believes the time to be."""

import datetime
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from clock import shifted  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from plane import Authority  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from world import new_id, spec  # noqa: E402


def at(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_is_off(stage, seconds):
    """The agent lives in another hour; the control plane's certificate is a day old."""
    scene = Scene(stage)
    scene.site.agent.stop()
    scene.plane.stop()
    yesterday = [f"{name}={value}" for name, value in shifted(stage, -86400).items()]
    scene.plane.authority = Authority(f"{scene.plane.where}/yesterday", wrap=("env", *yesterday))
    scene.plane.certificate = scene.plane.authority.issue("devcp")
    scene.site.agent.settings["ca_file"] = scene.plane.authority.ca
    scene.plane.start()
    scene.site.agent.start(env=shifted(stage, seconds))
    wait_for(lambda: scene.site.agent.lines("Registered with")[1:], 60, "the registration in another hour")
    seen = scene.site.agent.lines("Registered with")[-1].split()[0]
    here = datetime.datetime.now(datetime.timezone.utc)
    lie = (datetime.datetime.fromisoformat(seen.replace("Z", "+00:00")) - here).total_seconds()
    must(abs(abs(lie) - 3600) < 300, f"the agent's clock is off by {lie:.0f} s: nothing is proven")
    workspace, _ = scene.provision(scene.good)
    good = scene.order("workspace.provision", new_id(), spec=spec(image_ref=scene.good, probe=QUICK), expires_at=at(600))
    scene.ended(good)
    late = scene.order("workspace.provision", new_id(), spec=spec(image_ref=scene.good), expires_at=at(-600))
    scene.ended(late, "expired")
    scene.end("host.hold", spec={"reason": "for a while", "seconds": 8, "workspace_id": workspace})
    scene.provision(scene.better, "refused", "held", workspace=workspace)
    time.sleep(9.5)
    scene.provision(scene.better, workspace=workspace)
    same(scene.page(workspace), "two")
    wait_for(lambda: scene.shown(workspace)["status"] == "online", 20, "online in health")


def clock_ahead(stage):
    """the host's clock is an hour ahead: jobs expire, and holds end, by the control plane's clock"""
    clock_is_off(stage, 3600)


def clock_behind(stage):
    """the host's clock is an hour behind: the same"""
    clock_is_off(stage, -3600)


def yesterday(stage):
    """a control plane restored from a backup: what it orders with numbers that are used up is superseded, it learns them, and nothing that runs is touched"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    scene.end("host.drain", spec={"reason": "a host's number"})
    scene.end("host.undrain", spec={"reason": "and another"})
    database = f"{scene.plane.where}/devcp.db"
    scene.plane.stop()
    for suffix in ("", "-wal"):
        if os.path.exists(database + suffix):
            shutil.copy(database + suffix, f"{database}{suffix}.yesterday")
    scene.plane.start()
    time.sleep(1.1)                                         # pins of another second
    scene.plane.pin("langgraph", scene.better)
    for n in range(3):
        scene.provision(scene.better, workspace=workspace, env={"DEMO_N": str(n)})
    scene.end("host.drain", spec={"reason": "of today"})
    scene.end("host.undrain", spec={"reason": "of today"})
    other, _ = scene.provision(scene.better)
    before = [scene.site.container(w)["Id"] for w in (workspace, other)]
    scene.plane.stop()
    for name in os.listdir(scene.plane.where):
        if name.startswith("devcp.db") and not name.endswith(".yesterday"):
            os.unlink(f"{scene.plane.where}/{name}")
    for suffix in ("", "-wal"):
        if os.path.exists(f"{database}{suffix}.yesterday"):
            shutil.copy(f"{database}{suffix}.yesterday", database + suffix)
    scene.plane.start()
    scene.restart()                                         # it registers with what it holds
    wait_for(lambda: scene.site.host() and scene.shown(workspace), 60, "health at the restored control plane")
    wait_for(lambda: scene.site.agent.lines("older than the one that is here"), 30, "the refusal of yesterday's pins")
    same([scene.site.container(w)["Id"] for w in (workspace, other)], before, "touched by a control plane of yesterday")
    same(scene.site.fetch(workspace, "/env")[1], "DEMO_N=2\n")
    final = scene.plane.final(scene.order("host.drain", spec={"reason": "yesterday's number"}), 60)
    must(final["state"] in ("superseded", "succeeded"), final)
    scene.end("host.undrain", spec={"reason": "now it knows"})
    scene.provision(scene.good, workspace=workspace)
    same((scene.page(workspace), scene.site.container(other)["Id"]), ("one", before[1]))


CASES = (yesterday, clock_ahead, clock_behind)

if __name__ == "__main__":
    with Lab("time") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=3, limit=180)
    tap.done()
