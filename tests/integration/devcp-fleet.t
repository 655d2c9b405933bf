#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The platform's fleet operations on the reference control plane, against real agents: what each answers, what it refuses, and what the hosts do."""

import os
import sqlite3
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from scene import Scene  # noqa: E402
from world import new_id  # noqa: E402

QUICK_PLANE = ("--lost-seconds", "10", "--settle-seconds", "20", "--heartbeat-seconds", "1", "--wait-seconds", "2")
FLEET = "/admin/tenants/redeploy-fleet"


def admin(scene, status, method, path, body=None, **more):
    return scene.plane.must(status, method, path, body, tier="admin", **more)


def refused(scene, status, code, method, path, body=None):
    same(admin(scene, status, method, path, body)["error"], code, f"{method} {path} {body}")


def roll(scene, status=200, **body):
    return admin(scene, status, "POST", FLEET, {"confirm": True, "soak_seconds": 0} | body, timeout=120)


def later(call):
    """call in a thread; () gives its answer."""
    done = []

    def work():
        try:
            done.append(call())
        except Exception as error:
            done.append(error)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def answer():
        thread.join(120)
        must(done, "no answer")
        if isinstance(done[0], Exception):
            raise done[0]
        return done[0]
    return answer


# --- images and env ---------------------------------------------------------------------------------------------------------------------

def ensure_image(stage):
    """ensure-image: ready once the host has the pinned image, before anything stops; 422 without a pin or an image, 403, 404"""
    scene = Scene(stage)
    body = {"org_id": scene.plane.org_id, "workspace_id": new_id(), "runtime": "langgraph"}
    same(scene.plane.must(422, "POST", "/workspaces/ensure-image", body)["error"], "RUNTIME_PIN_MISSING")
    image = stage.image("ok", page=f"ensured{time.monotonic_ns()}")
    scene.plane.pin("langgraph", image)
    for _ in range(2):
        same(scene.plane.must(200, "POST", "/workspaces/ensure-image", body), {"status": "ready", "image_ref": image})
    same(stage.engine.api("GET", f"/images/{image}/json")[0], 200)
    scene.plane.pin("langgraph", image.split("@")[0] + "@sha256:" + "0" * 64)
    same(scene.plane.must(422, "POST", "/workspaces/ensure-image", body)["error"], "image_not_found")
    scene.plane.must(403, "POST", "/workspaces/ensure-image", body | {"org_id": new_id()})
    scene.plane.must(400, "POST", "/workspaces/ensure-image", body | {"paint": 1})
    other = scene.plane.another_tenant()
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    other.must(404, "POST", "/workspaces/ensure-image", body | {"org_id": other.org_id, "workspace_id": workspace})


def env(stage):
    """incident 59 and incident 65: env: merged into the wanted state as one provision at the next generation; replaced with merge false; no change is no job"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace = new_id()
    scene.plane.provision(workspace, env={"DEMO_A": "1", "DEMO_B": "2", "API_TOKEN": "t0ken-of-before"})
    path = f"/admin/workspaces/{workspace}/env"

    def jobs():
        return [j for j in scene.plane.jobs() if j["workspace_id"] == workspace]
    answer = admin(scene, 200, "POST", path, {"env": {"DEMO_B": "3", "DEMO_C": "4"}})
    same((answer["ok"], answer["container_restarted"], answer["ssm_status"], answer["ssm_exit_code"]), (True, True, "Success", 0))
    same((sorted(answer["applied_keys"]), sorted(answer["env_keys_after"])), (["DEMO_B", "DEMO_C"], ["API_TOKEN", "DEMO_A", "DEMO_B", "DEMO_C"]))
    must("t0ken" not in str(answer), "a value is in the answer")
    same(scene.site.fetch(workspace, "/env")[1], "DEMO_A=1\nDEMO_B=3\nDEMO_C=4\n")
    same([(j["type"], j["generation"]) for j in jobs()], [("workspace.provision", "1"), ("workspace.provision", "2")])
    before = scene.site.container(workspace)["Id"]
    answer = admin(scene, 200, "POST", path, {"env": {"DEMO_A": "1"}})
    same((answer["container_restarted"], len(jobs()), scene.site.container(workspace)["Id"]), (False, 2, before), "no change")
    refused(scene, 400, "force_required", "POST", path, {"env": {"DEMO_A": "9", "MY_PASSWORD": "x"}})
    same((len(jobs()), scene.site.container(workspace)["Id"]), (2, before), "refused")
    answer = admin(scene, 200, "POST", path, {"env": {"API_TOKEN": "t0ken-of-after"}, "force": True})
    same(answer["applied_keys"], ["API_TOKEN"])
    must("t0ken" not in str(scene.plane.job(jobs()[-1]["job_id"])["reports"]), "a value is in a report")
    answer = admin(scene, 200, "POST", path, {"env": {"DEMO_Z": "1"}, "merge": False})
    same((answer["env_keys_after"], scene.site.fetch(workspace, "/env")[1]), (["DEMO_Z"], "DEMO_Z=1\n"))
    refused(scene, 400, "bad_json", "POST", path, {"env": {}})
    refused(scene, 400, "bad_json", "POST", path, {"env": {"A": 1}})
    refused(scene, 404, "not_found", "POST", f"/admin/workspaces/{new_id()}/env", {"env": {"A": "1"}})


def thin_ami(stage):
    """thin-ami: promoted by region, listed, and told to hosts with the pins"""
    scene = Scene(stage)
    made = admin(scene, 201, "POST", "/admin/thin-ami/promote", {"region": "eu-central-1", "ami_id": "ami-1"})
    must(made["promoted_by"].startswith("api-token-") and made["promoted_at"], made)
    admin(scene, 200, "POST", "/admin/thin-ami/promote", {"region": "eu-central-1", "ami_id": "ami-2", "notes": "better"})
    same([(p["region"], p["ami_id"]) for p in admin(scene, 200, "GET", "/admin/thin-ami")["pins"]], [("eu-central-1", "ami-2")])
    scene.plane.pin("langgraph", scene.good)
    scene.provision(None)                                   # the table with it was taken
    refused(scene, 400, "bad_request", "POST", "/admin/thin-ami/promote", {"region": "eu", "ami_id": "x"})


# --- rolls ------------------------------------------------------------------------------------------------------------------------------

def scopes(stage):
    """incident 57: redeploy-fleet: an empty scope, no confirm, unknown slugs, tags that nothing has: refused, and nothing is rolled; a dry run rolls nothing"""
    scene = Scene(stage)
    refused(scene, 422, "RUNTIME_PIN_MISSING", "POST", FLEET, {"confirm": True, "target_tag": "two"})
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    before = scene.site.container(workspace)["Id"]
    for body, code in (({}, "confirm_required"), ({"confirm": False}, "confirm_required"), ({"only_slugs": []}, "confirm_required"),
                       ({"only_slugs": [], "confirm": True}, "empty_scope"), ({"only_slugs": ["no-such-slug"]}, "unknown_slug"),
                       ({"confirm": True, "canary_slug": "no-such-slug"}, "unknown_slug"), ({"confirm": "yes"}, "bad_json"),
                       ({"confirm": True, "paint": 1}, "unsupported_field"), ({"confirm": True, "batch_size": 0}, "bad_request"),
                       ({"confirm": True, "target_tag": "a/../b"}, "bad_json"), ({"only_slugs": [1]}, "bad_json")):
        refused(scene, 400, code, "POST", FLEET, body)
    refused(scene, 422, "image_not_found", "POST", FLEET, {"confirm": True, "target_tag": "no-such-tag"})
    refused(scene, 404, "not_found", "GET", f"/admin/rolls/{new_id()}")
    refused(scene, 404, "org not found", "POST", "/admin/tenants/no-such-slug/redeploy", {})
    stage.image("ok", page="two")
    answer = admin(scene, 200, "POST", FLEET, {"dry_run": True, "target_tag": "two"})
    same([(r["slug"], r["phase"], r["ssm_status"]) for r in answer["results"]], [(scene.plane.org_slug, "planned", "DryRun")])
    same(answer["images"], {"langgraph": scene.better})
    time.sleep(1)
    same(scene.site.container(workspace)["Id"], before, "touched by what was refused")
    made = scene.plane.another_tenant()
    e2e = scene.plane.must(201, "POST", "/admin/orgs", {"slug": f"e2e-{made.org_slug}", "name": "n", "owner_user_id": "o"}, tier="admin")["slug"]
    planned = admin(scene, 200, "POST", FLEET, {"dry_run": True})["results"]
    must(made.org_slug in [r["slug"] for r in planned] and e2e not in [r["slug"] for r in planned], f"an ephemeral tenant is in the fleet: {planned}")


def one_tenant(stage):
    """redeploy of one tenant: dispatched at once, two at once are not; the roll's end is to be read; a scoped roll moves no pin"""
    scene = Scene(stage, plane_words=QUICK_PLANE)
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    stage.image("slow", name="ok", page="slow", delay=3)
    answer = admin(scene, 200, "POST", f"/admin/tenants/{scene.plane.org_slug}/redeploy", {"target_tag": "slow"})
    must(answer["dispatched"], answer)
    refused(scene, 409, "roll_in_progress", "POST", f"/admin/tenants/{scene.plane.org_slug}/redeploy", {"target_tag": "slow"})
    refused(scene, 409, "roll_in_progress", "POST", FLEET, {"confirm": True})
    refused(scene, 409, "roll_in_progress", "DELETE", f"/admin/tenants/{scene.plane.org_slug}", {"confirm": scene.plane.org_slug})
    ended = wait_for(lambda: (found := admin(scene, 200, "GET", f"/admin/rolls/{answer['roll_id']}"))["state"] != "running" and found, 60, "the roll's end")
    must(ended["ok"] and not ended["pins_moved"] and ended["results"][0]["verified_on_target"], ended)
    must(scene.shown(workspace)["pin_skew"], "a scoped roll moved the pin")
    refused(scene, 409, "roll_ended", "POST", f"/admin/rolls/{answer['roll_id']}/cancel")


def lost_host(stage):
    """incident 56: a host that fell silent is a straggler and is not waited for; more of them than allowed fail the roll, and no pin moves"""
    scene = Scene(stage, plane_words=QUICK_PLANE)
    silent = Scene(stage, plane_of=scene.site)
    scene.plane.pin("langgraph", scene.good)
    workspaces = [s.provision(None)[0] for s in (scene, silent)]
    silent.site.agent.kill()
    silent.site.agent.wait()
    time.sleep(12)
    began = time.monotonic()
    answer = roll(scene, target_tag="two", max_stragglers=1)
    must(time.monotonic() - began < 40, "it was waited for")
    same((answer["ok"], answer["stragglers"], answer["pins_moved"]), (True, [silent.site.plane.org_slug], False))
    same({r["slug"]: r["phase"] for r in answer["results"]}, {scene.plane.org_slug: "verified", silent.site.plane.org_slug: "straggler"})
    must("lost" in next(r["error"] for r in answer["results"] if r["phase"] == "straggler"), answer)
    answer = roll(scene, 500, target_tag="one", max_stragglers=0)
    must(not answer["ok"] and answer["stragglers"] == [silent.site.plane.org_slug], answer)
    silent.site.agent.start()
    wait_for(lambda: silent.site.container(workspaces[1])["State"]["Running"], 30, "the silent one's workspace")
    same(silent.page(workspaces[1]), "one", "a straggler that was not given the job")


def soaked(stage):
    """a canary that goes bad during its soak stops the roll; a tenant without such workspaces is no failure, and a roll that finds none anywhere is one"""
    scene = Scene(stage, plane_words=(*QUICK_PLANE[:2], "--settle-seconds", "10", *QUICK_PLANE[4:]))
    second, idle = Scene(stage, plane_of=scene.site), Scene(stage, plane_of=scene.site)
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    wait_for(lambda: idle.health() and second.health(), 20, "health of those without one")
    same({r["slug"]: r["phase"] for r in roll(scene, target_tag="two", canary_slug=scene.plane.org_slug)["results"]}[idle.site.plane.org_slug], "verified")
    other, _ = second.provision(None)
    end = later(lambda: roll(scene, 500, target_tag="one", canary_slug=scene.plane.org_slug, soak_seconds=8))
    wait_for(lambda: scene.runs(workspace, scene.good) and (scene.shown(workspace) or {}).get("verified_on_target"), 40, "the canary on its target")
    time.sleep(3)
    stage.docker("POST", f"/containers/ws-{workspace}/stop", t=1)
    answer = end()
    must("canary" in answer["error"] and not answer["pins_moved"], answer)
    same((answer["results"][0]["phase"], answer["results"][0]["healthz_ok"]), ("straggler", False), "the canary")
    same(second.page(other), "two", "the other tenant")
    answer = admin(scene, 500, "POST", FLEET, {"only_slugs": [idle.site.plane.org_slug]}, timeout=120)
    must("no host runs" in answer["error"], answer)


def cancelled(stage):
    """a roll that is cancelled: no further tenant is begun, the one at work is called off where it still can be"""
    scene = Scene(stage, plane_words=QUICK_PLANE)
    second = Scene(stage, plane_of=scene.site)
    scene.plane.pin("langgraph", scene.good)
    both = [(s, s.provision(None)[0]) for s in (scene, second)]
    stage.image("slow", name="ok", page="slower", delay=4)
    end = later(lambda: roll(scene, 500, target_tag="slower", batch_size=1, canary_slug=scene.plane.org_slug))
    wait_for(lambda: scene.site.agent.lines("configuring_https", "redeploy", both[0][1]), 30, "the canary at work")
    jobs = [j for j in scene.plane.jobs() if j["type"] == "host.redeploy"]
    same(len(jobs), 1)
    roll_id = rolls_of(scene)[0]
    admin(scene, 200, "POST", f"/admin/rolls/{roll_id}/cancel")
    answer = end()
    same((answer["state"], answer["pins_moved"]), ("cancelled", False))
    same(next((r["phase"], r["ssm_status"]) for r in answer["results"] if r["slug"] == second.site.plane.org_slug), ("waiting", None))
    same(second.page(both[1][1]), "one")


def rolls_of(scene):
    """Roll ids, from devcp's own database."""
    with sqlite3.connect(f"file:{scene.plane.where}/devcp.db?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT roll_id FROM rolls ORDER BY seq DESC")]


def over_a_restart(stage):
    """a roll goes on when the control plane is killed in its middle"""
    scene = Scene(stage, plane_words=("--lost-seconds", "60", "--settle-seconds", "70", *QUICK_PLANE[4:]))     # a return is spread, and a quiet beat
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    stage.image("slow", name="ok", page="slowest", delay=4)
    answer = admin(scene, 200, "POST", f"/admin/tenants/{scene.plane.org_slug}/redeploy", {"target_tag": "slowest"})
    wait_for(lambda: scene.site.agent.lines("configuring_https", workspace, "redeploy"), 30, "the roll at work")
    scene.plane.process.kill(9)
    scene.plane.process.wait(10)
    scene.plane.start()
    ended = wait_for(lambda: (found := admin(scene, 200, "GET", f"/admin/rolls/{answer['roll_id']}"))["state"] != "running" and found, 90, "the roll's end")
    must(ended["ok"] and ended["results"][0]["verified_on_target"], ended)


# --- the end ----------------------------------------------------------------------------------------------------------------------------

def the_end(stage):
    """DELETE of a tenant: confirmed by its slug, torn down by its host, with a purge to read; then its name is free and its token worth nothing"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace = new_id()
    scene.plane.provision(workspace, env={"API_TOKEN": "t0ken"})
    slug = scene.plane.org_slug
    listed = admin(scene, 200, "GET", f"/admin/orgs/{slug}/workspaces")["workspaces"]
    same([(w["workspace_id"], w["state"]) for w in listed], [(workspace, "running")])
    status = scene.plane.must(200, "GET", f"/orgs/{slug}/provision-status", tier=None)
    same((status["status"], status["stage"], status["progress"]), ("running", "ready", 100))
    must(status["url"].endswith(str(scene.site.port(workspace))), status)
    for body, code in (({"confirm": "another"}, "bad_confirm"), ({}, "bad_json"), ({"confirm": slug, "x": 1}, "unsupported_field")):
        refused(scene, 400, code, "DELETE", f"/admin/tenants/{slug}", body)
        refused(scene, 400, code, "POST", f"/admin/tenants/{slug}/scrub-artifacts", body)
    must(scene.site.container(workspace)["State"]["Running"], "a wrong confirm touched something")
    refused(scene, 404, "org not found", "POST", f"/admin/tenants/{slug}/scrub-artifacts", {"confirm": slug})
    answer = admin(scene, 200, "DELETE", f"/admin/tenants/{slug}", {"confirm": slug}, timeout=120)
    same((answer["deleted"], answer["slug"], answer["org_id"]), (True, slug, scene.plane.org_id))
    must(not scene.site.containers(workspace), "a container is left")
    purge = admin(scene, 200, "GET", "/admin/purges?limit=1")["purges"][0]
    same((purge["id"], purge["slug"], purge["last_step"], bool(purge["completed_at"])), (answer["purge_id"], slug, "completed", True))
    same(admin(scene, 200, "POST", f"/admin/tenants/{slug}/scrub-artifacts", {"confirm": slug})["scrubbed"], True)
    refused(scene, 404, "org not found", "DELETE", f"/admin/tenants/{slug}", {"confirm": slug})
    refused(scene, 404, "org not found", "GET", f"/admin/orgs/{slug}/workspaces")
    scene.plane.must(404, "GET", f"/orgs/{slug}/provision-status", tier=None)
    scene.plane.must(401, "GET", "/tenants/config", tier="tenant")
    admin(scene, 201, "POST", "/admin/orgs", {"slug": slug, "name": "again", "owner_user_id": "o"})


def deleted_host(stage):
    """DELETE of a host: it is answered 410 from then on, says host_revoked, and leaves its workspaces running"""
    scene = Scene(stage, plane_words=("--wait-seconds", "2"))
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    refused(scene, 404, "not_found", "DELETE", f"/hosts/{new_id()}")
    scene.plane.must(401, "DELETE", f"/hosts/{scene.host}")
    for _ in range(2):
        same(admin(scene, 200, "DELETE", f"/hosts/{scene.host}")["revoked"], True)
    wait_for(lambda: scene.site.agent.lines("host_revoked"), 30, "host_revoked in the log")
    must(scene.site.container(workspace)["State"]["Running"], "the workspace was stopped")
    same(scene.plane.must(503, "POST", "/workspaces/provision", {"org_id": scene.plane.org_id, "workspace_id": new_id(), "runtime": "langgraph",
                                                                 "platform_url": "https://p.example", "env": {}})["error"], "no_host")
    same(admin(scene, 200, "DELETE", f"/admin/tenants/{scene.plane.org_slug}", {"confirm": scene.plane.org_slug})["deleted"], True)


CASES = (soaked, cancelled, lost_host, over_a_restart, the_end, env, one_tenant, ensure_image, deleted_host, scopes, thin_ami)

if __name__ == "__main__":
    with Lab("devcp-fleet") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=4, limit=240)
    tap.done()
