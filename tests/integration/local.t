#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The local API and the verbs of molecule-agentctl that change something: with a control plane, without one, and in the wrong hands. Exit codes and the
last line are what a fleet's tool lives by."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from hand import NOBODY, as_nobody, ask, tool  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from scene import QUICK, Scene, slow_scene  # noqa: E402
from world import moment, new_id, payload, snapshot, spec  # noqa: E402

SEED = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="


def last(text):
    """The last line, which is one JSON object of at most 2,000 bytes."""
    line = text.rstrip("\n").split("\n")[-1]
    must(line.startswith("{"), text)
    must(len(line.encode()) <= 2000, f"{len(line)} bytes: {line}")
    return json.loads(line)


def sync(site, *words, want=0, timeout=60, took=False):
    """What `sync --wait` found; it must end with `want`."""
    began = time.monotonic()
    status, text = tool(site, "sync", "--wait", "--timeout", str(timeout), *words, timeout=timeout + 30)
    same(status, want, text)
    found = last(text)
    same(found["exit"], want, text)
    return (found, time.monotonic() - began) if took else found


def file_of(stage, site, content):
    path = f"{site.where}/job-{time.monotonic_ns()}.json"
    with open(path, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return path


def alone(stage, **settings):
    """A site whose agent has no control plane, and how a job for it is written."""
    site = stage.site(start=False, cp_url=None, stop_timeout_seconds="1", **settings)
    site.agent.start()
    host = wait_for(lambda: ask(site, "GET", "/v1/status")[1]["host_id"], 20, "the local API")

    def job(kind, workspace, number, **fields):
        return {"job_id": new_id(), "type": kind, "org_id": site.plane.org_id, "host_id": host, "workspace_id": workspace,
                "generation": str(number), "issued_at": moment(), "spec": fields}
    return site, job


# --- sync -------------------------------------------------------------------------------------------------------------------------------

def sync_does_all(stage):
    """sync --wait: what the control plane has is done and told before it ends; the last line says so"""
    scene = Scene(stage)
    scene.site.agent.stop()
    jobs = [scene.order("workspace.provision", new_id(), spec=spec(image_ref=scene.good, probe=QUICK)) for _ in range(3)]
    scene.site.agent.start()
    found = sync(scene.site)
    same((found["result"], found["workspaces"], found["online"], found["off_target"]), ("done", 3, 3, 0))
    same(sorted(o["job_id"] for o in found["outcomes"]), sorted(jobs))
    same([scene.plane.job(job)["final"] for job in jobs], ["succeeded"] * 3, "told")
    again, seconds = sync(scene.site, "--json", took=True)
    same((again["jobs_ended"], again["outcomes"]), (0, []))
    must(seconds < 10, f"with nothing to do it took {seconds:.1f} s: the hanging poll was waited for")
    status, text = tool(scene.site, "sync", "--wait", "--json")
    same((status, text.count("\n")), (0, 1), text)


def sync_finds_trouble(stage):
    """sync --wait: 1 where a job ended badly, 4 where a workspace is not on its target, 5 where the time is over"""
    scene = Scene(stage, probe_timeout_seconds="5")
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    scene.site.agent.stop()
    bad = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("crash"), probe=QUICK))
    scene.site.agent.start()
    found = sync(scene.site, want=1)
    same([(o["job_id"], o["state"], o["code"]) for o in found["outcomes"]], [(bad, "failed", "rolled_back")])
    scene.plane.pin("langgraph", scene.better)
    found = sync(scene.site, want=4)
    same((found["result"], found["off_target"], found["online"]), ("degraded", 1, 1))
    slow = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("slow", delay=6), probe=QUICK))
    wait_for(lambda: scene.plane.job(slow)["state"] != "queued", 20, "the job accepted", 0.01)
    found = sync(scene.site, want=5, timeout=1)
    same((found["result"], scene.plane.job(slow)["final"]), ("timed_out", None))
    scene.ended(slow)


def sync_without_a_plane(stage):
    """sync: 75 while the control plane is away, 0 when it is back; 78 not enrolled; 3 while the agent is down"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    before = scene.site.container(workspace)["Id"]
    scene.plane.stop(number=signal.SIGKILL)                  # without a Retry-After
    found = sync(scene.site, want=75)
    same((found["result"], found["code"]), ("try_again", "control_plane_unreachable"))
    same(tool(scene.site, "restart", workspace, "--reason", "something to tell")[0], 0)
    wait_for(lambda: scene.site.container(workspace)["Id"] != before, 60, "another container")
    scene.plane.start()
    found, seconds = sync(scene.site, took=True)            # poll, health and reports may take a minute each by themselves
    must(found["online"] == 1 and seconds < 20, f"a pause of its own was waited for: {seconds:.1f} s {found}")
    scene.site.agent.kill()
    scene.site.agent.wait()
    found = sync(scene.site, want=3)
    same(found["result"], "not_running")
    must(os.path.exists(f"{scene.site.agent.runtime}/control.sock"), "the kill took the socket along: nothing is proven")
    scene.site.agent.start()
    sync(scene.site)
    site, _ = alone(stage)
    same(sync(site, want=78)["code"], "not_enrolled")
    site.agent.stop()
    must(not os.path.exists(f"{site.agent.runtime}/control.sock"), "the socket is left")


def sync_under_a_hold(stage):
    """sync: 6 while what is to be done waits for the end of a hold, 0 once it is released"""
    scene, slow = slow_scene(stage)
    workspace, _ = scene.provision(scene.good)
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=slow, probe=QUICK))
    wait_for(lambda: scene.plane.job(job)["state"] != "queued", 20, "the job accepted", 0.01)
    same(tool(scene.site, "hold", workspace, "--reason", "a look by hand")[0], 0)
    found = sync(scene.site, want=6)
    same(found["code"], "held")
    same(scene.page(workspace), "one")
    same(tool(scene.site, "release", workspace)[0], 0)
    sync(scene.site)
    must(scene.page(workspace).startswith("slow"), "it was not replaced")


# --- apply ------------------------------------------------------------------------------------------------------------------------------

def apply_without_a_plane(stage):
    """apply: a job from a file on a host that knows no control plane; --dry-run only judges"""
    site, job = alone(stage)
    image, workspace = stage.image("ok", page="one"), new_id()
    made = file_of(stage, site, job("workspace.provision", workspace, 1, **spec(image_ref=image, probe=QUICK, env={"DEMO_A": "b"})))
    status, text = tool(site, "apply", made, "--dry-run")
    must(status == 0 and "would be accepted" in text, text)
    same((site.containers(workspace), os.listdir(f"{site.agent.state}/ws")), ([], []), "dry run")
    status, text = tool(site, "apply", made, "--wait", "--timeout", "60", timeout=90)
    same((status, last(text)["outcomes"][0]["state"], last(text)["online"]), (0, "succeeded", 1), text)
    same(site.fetch(workspace, "/env")[1], "DEMO_A=b\n")
    before = snapshot(stage.engine, workspace)
    status, text = tool(site, "apply", made)
    must(status == 0 and "succeeded" in text, f"the same again: {text}")
    low = job("workspace.provision", workspace, 1, **spec(image_ref=image))
    status, text = tool(site, "apply", file_of(stage, site, low))
    must(status == 1 and "conflict" in text, text)
    same(snapshot(stage.engine, workspace), before)
    bad = job("workspace.provision", workspace, 2, **spec(image_ref=image.split("@")[0]))
    status, text = tool(site, "apply", file_of(stage, site, bad), "--json")
    same((status, last(text)["error"]["code"]), (1, "image_ref_not_pinned"))
    gone = file_of(stage, site, job("workspace.deprovision", workspace, 2, prune=True))
    status, text = tool(site, "apply", gone, "--wait", timeout=90)
    same((status, last(text)["workspaces"]), (0, 0), text)
    same(site.containers(workspace), [])


def apply_refuses(stage):
    """apply: no JSON, no object, another organization's or host's, nothing at all; each said in words, and nothing changed"""
    site, job = alone(stage)
    good = job("workspace.provision", new_id(), 1, **spec(image_ref=stage.image("ok", page="one")))
    for content, word in (("{", "bad_json"), ("[]", "bad_json"), ("", "bad_json"), ("{}", "bad_json"), ("{\"job_id\":1}", "bad_json"), (good | {"org_id": new_id()}, "wrong_tenant"),
                          (good | {"host_id": new_id()}, "wrong_host"), (good | {"type": "workspace.paint"}, "unsupported_type"),
                          (good | {"paint": 1}, "unsupported_field")):
        if isinstance(content, dict):
            content["job_id"] = new_id()
        status, text = tool(site, "apply", file_of(stage, site, content))
        must(status == 1 and word in text, f"{content}: {status} {text}")
    same(tool(site, "apply", f"{site.where}/nothing-here")[0], 1)
    for words in ((), ("a", "b"), ("a", "--paint"), ("a", "--timeout", "x"), ("a", "--timeout", "0")):
        same(tool(site, "apply", *words)[0], 2, words)
    same(os.listdir(f"{site.agent.state}/ws"), [])


def apply_signed(stage):
    """apply: where signatures are required, an unsigned job is refused and the envelope as it was signed is taken"""
    seed = f"{stage.lab.where}/seed-{time.monotonic_ns()}"
    with open(os.open(seed, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(SEED)
    site = stage.site(plane_words=("--signing-key-file", seed), start=False, stop_timeout_seconds="1")
    site.agent.settings["signing_keys"] = site.plane.signing_key
    site.start()
    host, workspace = site.host()["host_id"], new_id()
    site.agent.stop()                                       # the plane hands the envelope to us
    wanted = payload(site, workspace, 1, spec=spec(image_ref=stage.image("ok", page="one"), probe=QUICK))
    site.plane.order_raw(host, wanted)
    status, answer, _ = site.plane.call("GET", f"/hosts/{host}/jobs?wait=0&max=1", headers={
        "X-Molecule-Org-Id": site.plane.org_id, "X-Molecule-Host-Id": host, "X-Molecule-Agent-Protocol": "1",
        "X-Molecule-Boot-Id": open("/proc/sys/kernel/random/boot_id").read().strip(), "User-Agent": "molecule-agent/0.1.0"})
    same(status, 200, answer)
    envelope = answer["jobs"][0]["envelope"]
    site.plane.stop()
    site.agent.start()
    status, text = tool(site, "apply", file_of(stage, site, wanted))
    must(status == 1 and "bad_signature" in text, text)
    status, text = tool(site, "apply", file_of(stage, site, envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="}))
    must(status == 1, text)
    status, text = tool(site, "apply", file_of(stage, site, envelope), "--wait", timeout=90)
    same((status, site.fetch(workspace)[1].split()[-1]), (0, "one"), text)


# --- steering ---------------------------------------------------------------------------------------------------------------------------

def steering(stage):
    """hold, release, drain, undrain, restart, cancel: as the jobs of the same names, and health says so"""
    scene = Scene(stage)
    workspace, done = scene.provision(scene.good)
    same(tool(scene.site, "hold", "--for", "2h", "--reason", "night")[0], 0)
    wait_for(lambda: scene.health()["agent"]["held"], 20, "held in health")
    scene.provision(scene.good, "refused", "held")
    status, text = tool(scene.site, "restart", workspace, "--reason", "x")
    must(status == 6 and "held" in text, text)
    hold = ask(scene.site, "GET", "/v1/status")[1]["hold"]
    must(hold["held"] and hold["holds"][0]["reason"] == "night" and hold["holds"][0]["until"], hold)
    same(tool(scene.site, "release")[0], 0)
    same(tool(scene.site, "drain", "--reason", "old host")[0], 0)
    scene.provision(scene.good, "refused", "draining")
    scene.provision(scene.better, workspace=workspace)
    same(tool(scene.site, "undrain")[0], 0)
    before = scene.site.container(workspace)["Id"]
    status, text = tool(scene.site, "restart", workspace, "--reason", "a test", "--wait", "--timeout", "60", timeout=90)
    same((status, last(text)["outcomes"][0]["state"]), (0, "succeeded"), text)
    must(scene.site.container(workspace)["Id"] != before and scene.page(workspace) == "two", "not made anew")
    status, text = tool(scene.site, "cancel", done["job_id"], "--reason", "x")
    must(status == 1 and "too_late" in text, text)
    status, text = tool(scene.site, "restart", new_id(), "--reason", "x")
    must(status == 1 and "unknown_workspace" in text, text)
    for words in (("hold",), ("hold", "--for", "2y", "--reason", "x"), ("hold", "--for", "0", "--reason", "x"), ("hold", "x", "--reason", "x"), ("restart",),
                  ("drain",), ("cancel", "x"), ("release", new_id(), "more"), ("restart", new_id(), "--for", "2h"), ("restart", new_id()), ("cancel", new_id()), ("drain", "--wait", "--reason", "x")):
        same(tool(scene.site, *words)[0], 2, words)
    must(scene.site.agent.lines("A restart, asked for by uid 0: a test"), "who asked is not in the log")


# --- status -----------------------------------------------------------------------------------------------------------------------------

def verdict(stage):
    """status: the verdict, then what is not well and what to run next; of the records where the daemon is down"""
    scene = Scene(stage, probe_timeout_seconds="5")
    workspace, _ = scene.provision(scene.good)

    def says(want, *needles):
        """What it prints; once it ends with `want` and all of it is there."""
        return wait_for(lambda: (lambda code, text: code == want and all(n in text for n in needles) and text)(*tool(scene.site, "status")),
                        30, f"status {want} with {needles}", 0.2)

    same(says(0, "CP answers"), "HEALTHY: 1 workspace, none down; CP answers; held: no\n")
    must(f"  online       {workspace}" in tool(scene.site, "status", "--all")[1], "--all does not list it")
    same(tool(scene.site, "hold", "--reason", "night")[0], 0)
    says(0, "held: yes (night)", "next: molecule-agentctl release\n")
    same(tool(scene.site, "release")[0], 0)
    same(tool(scene.site, "hold", workspace, "--reason", "a look")[0], 0)
    says(0, "held: no", f"held: a look\n      next: molecule-agentctl release {workspace}\n")
    same(tool(scene.site, "release", workspace)[0], 0)
    scene.plane.stop(number=signal.SIGKILL)
    text = says(4, "no CP for ", "(control_plane_unreachable), next try ", "next: molecule-agentctl explain control_plane_unreachable\n")
    must(text.startswith("DEGRADED: 1 workspace, none down; no CP for "), text)
    code, text = tool(scene.site, "status", "--json")
    same((code, json.loads(text)["control"]["error"]["code"]), (4, "control_plane_unreachable"))
    must(json.loads(text)["control"]["since"], text)
    scene.plane.start()
    broken = new_id()
    job = scene.order("workspace.provision", broken, spec=spec(image_ref=stage.image("crash"), probe=QUICK))
    failure = scene.plane.final(job, 60)["error"]["code"]
    text = says(4, "1 of 2 workspaces down; CP answers", f"  failed       {broken}", f"  {failure}  since ", f"explain {failure}\n")
    must(workspace not in text, "a healthy one is listed")
    scene.site.agent.kill()
    scene.site.agent.wait()
    says(3, "DOWN: the agent does not run.\n", "By the records on disk: 2 workspaces, 0 at work, 1 failed.", broken)
    code, text = tool(scene.site, "status", "--json")
    found = json.loads(text)
    same((code, found["running"], sorted((w["workspace_id"], w["state"]) for w in found["workspaces"])),
         (3, False, sorted([(workspace, "settled"), (broken, "failed")])), text)
    code, text = as_nobody(scene.site, "status")
    must(code in (3, 6) and text, f"{code} {text}")
    for words in (("status", "x"), ("status", "--paint")):
        same(tool(scene.site, *words)[0], 2, words)


# --- the socket -------------------------------------------------------------------------------------------------------------------------

def hands(stage):
    """the socket: its group may read, changes are for root, others get nothing; curl speaks to it"""
    site, _ = alone(stage)
    path = f"{site.agent.runtime}/control.sock"
    same(stat.S_IMODE(os.stat(path).st_mode), 0o660)
    for group, word in ((NOBODY, "not speak"), (0, "Changes are for root")):
        for words in (("hold", "--reason", "x"), ("release",), ("drain", "--reason", "x"), ("restart", new_id(), "--reason", "x"), ("cancel", new_id(), "--reason", "x"), ("sync",)):
            status, text = as_nobody(site, *words, group=group)
            must(status == 6 and word in text, f"{group} {words}: {status} {text}")
    must(not ask(site, "GET", "/v1/status")[1]["hold"]["held"], "it was held by nobody")
    curl = ["setpriv", f"--reuid={NOBODY}", "--regid=0", "--clear-groups", "curl", "-sS", "--unix-socket", path, "http://localhost/v1/status"]
    done = subprocess.run(curl, capture_output=True, text=True, check=False, timeout=30)
    same(sorted(json.loads(done.stdout)), ["agent", "control", "hold", "host_id", "pins", "workspaces"], done.stderr)


def bad_requests(stage):
    """the socket: what makes no sense is refused with a code and words, and a peer that hangs holds nobody up"""
    site, _ = alone(stage)
    for method, path, body, want in (("GET", "/", None, (404, "not_found")), ("GET", "/v1/hold", None, (405, "method_not_allowed")),
                                     ("DELETE", "/v1/status", None, (405, "method_not_allowed")), ("POST", "/v1/hold", "{", (400, "bad_json")),
                                     ("POST", "/v1/hold", "{}", (400, "bad_json")), ("POST", "/v1/hold", "[]", (400, "bad_json")),
                                     ("POST", "/v1/hold", '{"reason":"x","paint":1}', (400, "unsupported_field")),
                                     ("POST", "/v1/hold", '{"reason":"x","seconds":-1}', (400, "bad_json")),
                                     ("POST", "/v1/hold", '{"reason":"x","workspace_id":"../x"}', (400, "bad_json")),
                                     ("POST", "/v1/hold", '{"reason":"' + "x" * 20000 + '"}', (413, "too_large")),
                                     ("POST", "/v1/apply", None, (400, "bad_json")), ("GET", "/v1/progress", None, (400, "bad_json")),
                                     ("GET", "/v1/progress?mark=1-2", None, (400, "bad_json")), ("GET", "/v1/progress?mark=1-2-x", None, (400, "bad_json")),
                                     ("GET", "/v1/progress?mark=1-2-3-4", None, (400, "bad_json"))):
        status, answer = ask(site, method, path, body)
        same((status, answer["error"]), want, f"{method} {path} {body}"[:80])
        must(answer["message"], "no words")
    hung = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for number, peer in enumerate(hung):
        peer.connect(f"{site.agent.runtime}/control.sock")
        peer.sendall((b"", b"GET /v1/sta", b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")[number % 3])
    began = time.monotonic()
    same(ask(site, "GET", "/v1/status")[0], 200)
    must(time.monotonic() - began < 2, "it was held up")
    hung[0].settimeout(30)
    same(hung[0].recv(100), b"", "a peer that says nothing is let go")
    for peer in hung:
        peer.close()
    must(not ask(site, "GET", "/v1/status")[1]["hold"]["held"], "one of them held the host")


CASES = (sync_without_a_plane, sync_finds_trouble, bad_requests, sync_under_a_hold, steering, sync_does_all, apply_without_a_plane, apply_signed, apply_refuses,
         hands, verdict)

if __name__ == "__main__":
    with Lab("local") as lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, side_by_side=4, limit=200)
    tap.done()
