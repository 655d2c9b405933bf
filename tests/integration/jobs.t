#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every type of job but provision and deprovision, against the real parts: what it does, what it refuses, what a restart of the agent makes of it,
and what is left on disk."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from world import new_id, payload, snapshot, spec, volumes  # noqa: E402

def restart(stage):
    """incident 10: restart: the same spec again, on its own image or on the pin of now"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    own, _ = scene.provision(scene.good, env={"DEMO_A": "kept"})
    pinned, _ = scene.provision(None, env={"DEMO_A": "kept"})
    before = {w: scene.site.container(w)["Id"] for w in (own, pinned)}
    scene.plane.pin("langgraph", scene.better)
    wait_for(lambda: scene.shown(pinned)["pin_skew"], 20, "pin_skew in health")
    for workspace, image in ((own, scene.good), (pinned, scene.better)):
        report = scene.end("workspace.restart", workspace)
        must(report["result"]["verified_on_target"] and report["result"]["running_image"] == image.split("@")[1], report)
        must(scene.site.container(workspace)["Id"] != before[workspace], "the container was not made anew")
        must(scene.runs(workspace, image), "it runs another image")
        same(scene.site.fetch(workspace, "/env")[1], "DEMO_A=kept\n")
    wait_for(lambda: not scene.shown(pinned)["pin_skew"], 20, "the end of pin_skew")
    scene.end("workspace.restart", new_id(), "refused", "unknown_workspace")
    low = payload(scene.site, own, 1, type="workspace.restart", spec={})
    scene.ended(scene.plane.order_raw(scene.host, low), "superseded")


def restart_and_provision(stage):
    """incident 24: restart: a provision between the spec's floor and the restart's is taken; a restart below either is superseded"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    scene.ended(scene.plane.order_raw(scene.host, payload(scene.site, workspace, 10, type="workspace.restart", spec={})))
    scene.ended(scene.plane.order_raw(scene.host, payload(scene.site, workspace, 8, spec=spec(image_ref=scene.better, probe=QUICK))))
    same(scene.page(workspace), "two")
    report = scene.ended(scene.plane.order_raw(scene.host, payload(scene.site, workspace, 9, type="workspace.restart", spec={})), "superseded")
    same(report["result"]["floor"], "10")
    scene.ended(scene.plane.order_raw(scene.host, payload(scene.site, workspace, 10, spec=spec(image_ref=scene.good, probe=QUICK))), "conflict")
    bad = payload(scene.site, workspace, 12, spec=spec(image_ref=stage.image("crash"), probe=QUICK))
    scene.ended(scene.plane.order_raw(scene.host, bad), "failed", "rolled_back")
    same(scene.page(workspace), "two")


def console(stage):
    """console: the last output, without a secret's value"""
    scene = Scene(stage)
    workspace, _ = scene.provision(stage.image("chatty"), env={"DEMO_NAME": "visible-1", "API_TOKEN": "canary-value-7431", "DEMO_COPY": "x"})
    output = scene.end("workspace.console", workspace, spec={"lines": 50})["result"]["output"]
    must("DEMO_NAME=visible-1" in output, output)
    must("canary-value-7431" not in output and "API_TOKEN=***" in output, output)
    same(len(scene.end("workspace.console", workspace, spec={"lines": 1})["result"]["output"].splitlines()), 1)
    scene.end("workspace.console", new_id(), "refused", "unknown_workspace", spec={})
    scene.end("workspace.console", workspace, "refused", "bad_json", spec={"lines": 2001})


def ensure(stage):
    """incident 2: image.ensure: pulled once, and nothing that runs is touched"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    before, new = snapshot(stage.engine, workspace), stage.image("ok", page="ensured")
    first = scene.end("image.ensure", spec={"image_ref": new})["result"]
    must(first["pulled"] and first["verified_on_target"], first)
    must(not scene.end("image.ensure", spec={"image_ref": new})["result"]["pulled"], "it was pulled again")
    same(snapshot(stage.engine, workspace), before)
    scene.end("image.ensure", want="refused", code="RUNTIME_PIN_MISSING", spec={"runtime": "codex"})
    scene.end("image.ensure", want="failed", code="image_not_found", spec={"image_ref": new.split("@")[0] + "@sha256:" + "0" * 64})
    scene.end("image.ensure", want="refused", code="registry_not_allowed", spec={"image_ref": "elsewhere.example/x@sha256:" + "0" * 64})
    scene.end("image.ensure", want="refused", code="bad_json", spec={})


def redeploy(stage):
    """redeploy: one at a time onto given images; what runs them is left alone; a later pin counts again"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    both = [scene.provision(None)[0], scene.provision(scene.good)[0]]
    images = {"langgraph": scene.better}
    report = scene.end("host.redeploy", spec={"images": images})
    same(sorted(r["workspace_id"] for r in report["result"]["results"]), sorted(both))
    must(all(r["phase"] == "verified" and r["verified_on_target"] and r["healthz_ok"] and r["running_image"] == scene.better.split("@")[1]
             for r in report["result"]["results"]), report)
    same([scene.page(w) for w in both], ["two", "two"])
    before = [scene.site.container(w)["Id"] for w in both]
    again = scene.end("host.redeploy", spec={"images": images})
    same([r["phase"] for r in again["result"]["results"]], ["already", "already"])
    same([scene.site.container(w)["Id"] for w in both], before)
    scene.end("workspace.restart", both[0])                 # the roll's image is kept over a restart, for the pin has not moved
    scene.end("workspace.restart", both[1])
    same([scene.page(w) for w in both], ["two", "two"])
    third = stage.image("ok", page="three")
    scene.plane.pin("langgraph", third)
    wait_for(lambda: scene.shown(both[0])["pin_skew"], 20, "pin_skew")
    scene.end("host.redeploy", spec={"runtimes": ["langgraph"]})
    same([scene.page(w) for w in both], ["three", "three"])
    none = scene.end("host.redeploy", want="failed", code="unknown_workspace", spec={"runtimes": ["codex"]})
    must(scene.ended(none["job_id"], "failed", "unknown_workspace"), none)
    part = scene.end("host.redeploy", want="failed", code="unknown_workspace", spec={"workspaces": [both[0], new_id()], "images": images})
    same(sorted(r["phase"] for r in part["result"]["results"]), ["failed", "verified"])
    same([scene.page(w) for w in both], ["two", "three"])


def redeploy_bad(stage):
    """redeploy to an image that crashes, never answers, answers 500: the old one is back, and the roll stops"""
    scene = Scene(stage, probe_timeout_seconds="6")
    both = sorted([scene.provision(scene.good)[0], scene.provision(scene.good)[0]])
    for variant in ("crash", "never", "e500"):
        images = {"langgraph": stage.image(variant)}
        report = scene.end("host.redeploy", want="failed", code="rolled_back", timeout=120, spec={"images": images})
        same([(r["workspace_id"], r["phase"]) for r in report["result"]["results"]], [(both[0], "rolled_back"), (both[1], "not_started")])
        same(report["result"]["results"][0]["error"]["code"], "rolled_back")
        same([scene.page(w) for w in both], ["one", "one"])
    report = scene.end("host.redeploy", want="failed", code="rolled_back", timeout=120,
                       spec={"images": {"langgraph": stage.image("crash")}, "continue_on_error": True})
    same([r["phase"] for r in report["result"]["results"]], ["rolled_back", "rolled_back"])
    must(any("cannot go on" in open(scene.state("rescue", f)).read() for f in os.listdir(scene.state("rescue"))), "no rescue tail")
    same([scene.page(w) for w in both], ["one", "one"])


def two_redeploys(stage):
    """two redeploys at once: the newer one wins, whatever the order of arrival; each ends once"""
    scene = Scene(stage)
    both = [scene.provision(scene.good)[0] for _ in range(3)]
    older = scene.order("host.redeploy", spec={"images": {"langgraph": scene.better}})
    newer = scene.order("host.redeploy", spec={"images": {"langgraph": stage.image("ok", page="four")}})
    scene.ended(newer, timeout=120)
    must(scene.plane.final(older, 60)["state"] in ("superseded", "succeeded"), scene.plane.job(older))
    same([scene.page(w) for w in both], ["four"] * 3)


def redeploy_over_restarts(stage):
    """redeploy goes on after the agent was killed in its middle"""
    scene = Scene(stage)
    three = [scene.provision(scene.good)[0] for _ in range(3)]
    slow = stage.image("slow", delay=2)
    job = scene.order("host.redeploy", spec={"images": {"langgraph": slow}})
    for _ in range(3):
        time.sleep(1.7)
        scene.restart()
    report = scene.ended(job, timeout=120)
    same(sorted(r["workspace_id"] for r in report["result"]["results"]), sorted(three))
    must(all(scene.runs(w, slow) for w in three), "not all run it")
    must(len(scene.plane.job(job)["reports"]) >= 2, "no words on the way")


def redeploy_over_the_engine(stage):
    """redeploy goes on after the engine was restarted in its middle"""
    scene = Scene(stage)
    two = sorted(scene.provision(scene.good)[0] for _ in range(2))
    slow = stage.image("slow", delay=3)
    job = scene.order("host.redeploy", spec={"images": {"langgraph": slow}})
    wait_for(lambda: scene.site.agent.lines(two[0], "configuring_https", job), 40, "the first one's gate", 0.05)
    stage.engine.stop()
    stage.engine.start()
    report = scene.ended(job, timeout=120)
    same([r["phase"] for r in report["result"]["results"]], ["verified", "verified"])
    must(all(scene.runs(w, slow) for w in two), "not all run it")


def drain(stage):
    """drain: no new workspace, the others are served; over a restart; until undrained"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    scene.end("host.drain", spec={"reason": "maintenance"})
    scene.provision(scene.good, "refused", "draining")
    scene.provision(scene.better, workspace=workspace)
    scene.restart()
    scene.provision(scene.good, "refused", "draining")
    wait_for(lambda: scene.health()["agent"]["draining"], 20, "draining in health")
    scene.end("host.undrain", spec={"reason": "done"})
    scene.provision(scene.good)
    scene.end("host.drain", want="refused", code="bad_json", spec={})


def drain_at_work(stage):
    """drain while a job runs: the job ends as it would"""
    scene = Scene(stage)
    job = scene.order("workspace.provision", new_id(), spec=spec(image_ref=stage.image("slow", delay=3), probe=QUICK))
    wait_for(lambda: scene.plane.job(job)["state"] == "running", 20, "the job at work")
    scene.end("host.drain", spec={"reason": "now"})
    scene.ended(job)


def hold(stage):
    """incident 61: hold: jobs are refused, release and console are not; what was accepted waits; over a restart; by a file"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    other, _ = scene.provision(scene.good)
    scene.end("host.hold", spec={"reason": "by hand", "workspace_id": workspace})
    scene.provision(scene.better, "refused", "held", workspace=workspace)
    scene.end("workspace.restart", workspace, "refused", "held")
    scene.end("workspace.deprovision", workspace, "refused", "held", spec={"prune": False})
    scene.end("workspace.restart", other)
    scene.end("workspace.console", workspace, spec={})
    scene.end("host.hold", spec={"reason": "all of it"})
    scene.restart()
    wait_for(lambda: scene.health()["agent"]["held"], 20, "held in health")
    scene.end("workspace.restart", other, "refused", "held")
    scene.end("host.redeploy", want="refused", code="held", spec={"images": {"langgraph": scene.better}})
    scene.end("host.release", spec={"reason": "done"})
    scene.end("workspace.restart", other)
    scene.end("workspace.restart", workspace, "refused", "held")
    scene.end("host.release", spec={"reason": "done", "workspace_id": workspace})
    scene.end("workspace.restart", workspace)
    scene.end("host.hold", spec={"reason": "a while", "seconds": 5})
    scene.end("workspace.restart", other, "refused", "held")
    time.sleep(6.2)                                         # the control plane tells its time in whole seconds
    scene.end("workspace.restart", other)
    path = os.path.join(os.path.dirname(scene.site.agent.config), "hold")
    os.symlink("/nonexistent/what", path)                   # there, and not to be read: a hold
    scene.end("workspace.restart", other, "refused", "held")
    os.unlink(path)
    scene.end("workspace.restart", other)


def hold_at_work(stage):
    """hold while a job runs: before its stop it waits, and goes on when released; after it, it runs to its end"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    before = snapshot(stage.engine, workspace)
    path = os.path.join(os.path.dirname(scene.site.agent.config), "hold")
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("slow", delay=4), probe=QUICK))
    wait_for(lambda: scene.plane.job(job)["state"] == "running" and scene.site.agent.lines(job, "configuring_https"), 40, "its gate")
    open(path, "w").close()
    scene.ended(job)
    os.unlink(path)
    scene.site.agent.process.kill(signal.SIGSTOP)           # the job and the hold are there before it looks again
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("ok", page="held", filler=os.urandom(4 << 20)), probe=QUICK))
    scene.site.agent.process.kill(signal.SIGCONT)
    wait_for(lambda: scene.plane.job(job)["state"] != "queued", 20, "the job accepted", 0.01)
    open(path, "w").close()
    wait_for(lambda: scene.site.agent.lines(job, "a hold forbids changes") or scene.plane.job(job)["final"], 60, "the hold, or its end")
    if not scene.plane.job(job)["final"]:                   # else it was past its stop already
        must(scene.site.container(workspace)["State"]["Running"], "it was stopped under a hold")
        time.sleep(1)
        must(not scene.plane.job(job)["final"], "it ended under a hold")
        os.unlink(path)
    scene.ended(job)
    same(scene.page(workspace), "held")
    must(before != snapshot(stage.engine, workspace))


def stopped_by_someone(stage):
    """incident 52: a container that someone stopped stays so under a hold, even over the agent's restart, and is started when released"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    scene.end("host.hold", spec={"reason": "debugging", "workspace_id": workspace})
    stage.docker("POST", f"/containers/ws-{workspace}/stop", t=1)
    wait_for(lambda: (scene.shown(workspace)["last_error"] or {}).get("code") == "stopped_externally", 30, "stopped_externally")
    scene.restart()
    time.sleep(4)
    must(not scene.site.container(workspace)["State"]["Running"], "it was started under a hold")
    scene.end("host.release", spec={"reason": "done", "workspace_id": workspace})
    scene.restart()
    wait_for(lambda: scene.site.container(workspace)["State"]["Running"], 20, "the start after the release")


def cancel(stage):
    """cancel: undone before the swap, too late after it, and a job not seen here never runs"""
    scene = Scene(stage)
    never = payload(scene.site, new_id(), 1, spec=spec(image_ref=scene.good))
    scene.end("job.cancel", spec={"job_id": never["job_id"]})
    scene.ended(scene.plane.order_raw(scene.host, never), "cancelled")
    must(not scene.site.containers(never["workspace_id"]), "it ran")
    workspace, done = scene.provision(scene.good)
    before = snapshot(stage.engine, workspace)
    scene.end("job.cancel", want="failed", code="too_late", spec={"job_id": done["job_id"]})
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("ok", page="big", filler=os.urandom(48 << 20))))
    wait_for(lambda: scene.plane.job(job)["state"] != "queued", 20, "the job accepted", 0.01)
    cancelled = scene.plane.final(scene.order("job.cancel", spec={"job_id": job}), 30)
    final = scene.plane.final(job, 60)
    if cancelled["state"] == "succeeded":
        same(final["state"], "cancelled")
        same(snapshot(stage.engine, workspace), before)
        scene.end("workspace.restart", workspace)           # wanted is what was settled
        same(scene.page(workspace), "one")
    else:
        same((cancelled["error"]["code"], final["state"]), ("too_late", "succeeded"))
    slow = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("slow", delay=4), probe=QUICK))
    wait_for(lambda: scene.site.agent.lines(slow, "configuring_https"), 40, "its gate", 0.02)
    scene.end("job.cancel", want="failed", code="too_late", spec={"job_id": slow})
    scene.ended(slow)


def cancel_roll(stage):
    """cancel of a roll: no further workspace is begun"""
    scene = Scene(stage)
    three = sorted(scene.provision(scene.good)[0] for _ in range(3))
    job = scene.order("host.redeploy", spec={"images": {"langgraph": stage.image("slow", delay=3)}})
    wait_for(lambda: scene.site.agent.lines(three[0], "configuring_https", job), 40, "the first one's gate", 0.05)
    scene.end("job.cancel", spec={"job_id": job})
    report = scene.ended(job, "cancelled")
    same([r["phase"] for r in report["result"]["results"]][1:], ["not_started", "not_started"])
    same([scene.page(w) for w in three[1:]], ["one", "one"])


def teardown(stage):
    """teardown: the slug confirms; everything of the organization goes, with a receipt; then no job is taken"""
    scene = Scene(stage)
    two = [scene.provision(scene.good, env={"A_TOKEN": "canary-of-teardown"})[0] for _ in range(2)]
    kept, _ = scene.provision(scene.good, data_persistence="persist")
    scene.end("workspace.deprovision", kept, spec={"prune": False})
    must(volumes(stage.engine, kept), "persist was erased")
    scene.end("host.teardown", want="refused", code="wrong_tenant", spec={"confirm": "another-slug"})
    scene.end("host.teardown", want="refused", code="bad_json", spec={})
    must(all(scene.site.container(w)["State"]["Running"] for w in two), "a wrong confirm touched something")
    report = scene.end("host.teardown", timeout=90, spec={"confirm": scene.plane.org_slug})
    receipt = report["result"]["receipt"]
    must(receipt["keys"] and receipt["workspaces"] >= 2 and receipt["containers"] == 2 and receipt["volumes"] >= 6, receipt)
    must(not any(scene.site.containers(w) or volumes(stage.engine, w) for w in [*two, kept]), "something is left")
    same(os.listdir(scene.state("keys")), [])
    must(not [f for f in os.listdir(scene.state("sealed")) if os.path.exists(scene.state("sealed", f, "key.seal"))], "a key is left")
    scene.provision(scene.good, "refused", "torn_down")
    wait_for(lambda: "torn_down" in scene.health()["agent"]["degraded"], 20, "torn_down in health")
    scene.restart()
    scene.provision(scene.good, "refused", "torn_down")


def ends_of_volumes(stage):
    """incident 49: volumes end as data_persistence says: at once, never, or after a while; then the record is a tombstone, and the floor holds"""
    scene = Scene(stage, volume_grace_seconds="3")
    gone, _ = scene.provision(scene.good, data_persistence="ephemeral")
    stays, _ = scene.provision(scene.good, data_persistence="persist")
    later, report = scene.provision(scene.good)
    back, _ = scene.provision(scene.good)
    for workspace in (gone, stays, later, back):
        scene.end("workspace.deprovision", workspace, spec={"prune": False})
    must(not volumes(stage.engine, gone) and volumes(stage.engine, stays) and volumes(stage.engine, back), "not as data_persistence says")
    scene.provision(scene.good, workspace=back)             # an accepted provision calls the erasure off
    for workspace in (new_id(), new_id()):                  # deprovisions of what never was: each brings a sweep
        scene.end("workspace.deprovision", workspace, spec={"prune": True})
        time.sleep(3)
    wait_for(lambda: not volumes(stage.engine, later), 80, "the end of the volumes")
    must(volumes(stage.engine, stays) and volumes(stage.engine, back), "too much was erased")
    wait_for(lambda: not os.path.exists(scene.state("ws", later)), 80, "the tombstone")
    must(later in open(scene.state("tombstones")).read(), "there is no tombstone")
    scene.restart()
    late = payload(scene.site, later, int(report["generation"]), spec=spec(image_ref=scene.good))
    scene.ended(scene.plane.order_raw(scene.host, late), "superseded")
    scene.provision(scene.good, workspace=later)
    scene.end("workspace.deprovision", stays, spec={"prune": True})
    must(not volumes(stage.engine, stays), "prune did not erase")


def rescue(stage):
    """incident 53: rescue: what a failed container said is in the report and in rescue/, without a secret's value; 16 at most"""
    scene = Scene(stage, probe_timeout_seconds="5")
    image = stage.image("crash")
    _, report = scene.provision(image, "failed", "crash_loop", env={"A_TOKEN": "cannot go on"})
    must("***" in report["result"]["rescue"] and "cannot go on" not in report["result"]["rescue"], report)
    _, report = scene.provision(image, "failed", "crash_loop")
    must("cannot go on" in report["result"]["rescue"], report)
    for i in range(20):
        open(scene.state("rescue", f"2020-01-01T00:00:{i:02}.000Z.x"), "w").close()
    scene.provision(image, "failed", "crash_loop")
    same(len(os.listdir(scene.state("rescue"))), 16)


def crash_loop(stage):
    """incident 22: a settled workspace that begins to crash is degraded, and reported once"""
    scene = Scene(stage, crash_loop_restarts="3", crash_loop_window_seconds="600")
    workspace, _ = scene.provision(scene.good)
    for i in range(4):
        os.kill(wait_for(lambda: scene.site.container(workspace)["State"]["Pid"], 30, "the next run"), signal.SIGKILL)
        wait_for(lambda: scene.site.container(workspace)["RestartCount"] > i, 30, "a restart by the engine", 0.05)
        time.sleep(0.5)
    wait_for(lambda: (scene.shown(workspace)["last_error"] or {}).get("code") == "crash_loop", 40, "crash_loop in health")
    same(scene.shown(workspace)["status"], "degraded")
    time.sleep(2)
    same(len(scene.site.agent.lines("crash_loop", "ended", workspace)), 1)


def prefetch(stage):
    """prefetch: a pin that moves is fetched for a runtime that runs here, and nothing is restarted"""
    scene = Scene(stage)
    scene.site.agent.stop()
    scene.site.agent.settings |= {"prefetch": "yes", "prefetch_spread_seconds": "1"}
    scene.site.agent.start()
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    before = scene.site.container(workspace)["Id"]
    new = stage.image("ok", page="ahead")
    scene.plane.pin("langgraph", new)
    scene.plane.pin("codex", other := stage.image("ok", page="elsewhere"))
    wait_for(lambda: stage.engine.api("GET", f"/images/{new}/json")[0] == 200, 30, "the image, ahead of its job")
    same((scene.site.container(workspace)["Id"], stage.engine.api("GET", f"/images/{other}/json")[0]), (before, 404))
    must(wait_for(lambda: scene.shown(workspace)["pin_skew"], 20, "pin_skew"))


def platform_kind(stage):
    """incident 64: kind:platform: neither a new pin nor a provision restarts it, an explicit job does"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None, kind="platform", env={"DEMO_V": "1"})
    before = scene.site.container(workspace)["Id"]
    _, report = scene.provision(None, kind="platform", env={"DEMO_V": "2"}, workspace=workspace)
    must(report["result"]["container_restarted"] is False, report)
    scene.plane.pin("langgraph", scene.better)
    wait_for(lambda: scene.shown(workspace)["pin_skew"], 20, "pin_skew")
    same(scene.site.container(workspace)["Id"], before)
    scene.end("workspace.restart", workspace)
    same((scene.page(workspace), scene.site.fetch(workspace, "/env")[1]), ("two", "DEMO_V=2\n"))


CASES = (redeploy_bad, hold, redeploy, ends_of_volumes, crash_loop, redeploy_over_restarts, cancel, restart, restart_and_provision, teardown,
         cancel_roll, two_redeploys, rescue, hold_at_work, stopped_by_someone, drain, drain_at_work, ensure, console, prefetch, platform_kind)

if __name__ == "__main__":
    with Lab("jobs") as lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, [redeploy_over_the_engine], side_by_side=5, limit=300)
    tap.done()
