#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ends failed: whatever is wrong with the new version, the job says so with a stable code and plain words, and the old version runs with
its old image and files and answers. Every case has a workspace of its own, and they run side by side; one more is nobody's business."""

import os
import socket
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import image  # noqa: E402
import tap  # noqa: E402
from engine import Registry  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from proc import free_range  # noqa: E402
from proxy import before  # noqa: E402
from world import b64, digest_of, files, member, new_id, snapshot, spec, volumes  # noqa: E402

OLD = {"config.yaml": b64("version: old\n"), "prompts/only-old.md": b64("old\n")}
NEW = {"config.yaml": b64("version: new\n"), "prompts/new.md": b64("new\n")}
lab = good = None                                           # the Lab; the digest reference of the version that works


def must(truth, words):
    if not truth:
        raise LabError(words)


def order(site, workspace, **fields):
    """A provision by the operator's door: its id."""
    return site.plane.order(site.host()["host_id"], "workspace.provision", workspace, spec=spec(**fields))


class Old:
    """A workspace that runs the good image, and what of it must be the same after a failure."""

    def __init__(self, site, **fields):
        self.site, self.id = site, new_id()
        report = site.plane.final(order(site, self.id, image_ref=good, config_files=OLD, env={"DEMO_WHO": self.id}, **fields), 90)
        must(report["state"] == "succeeded", report)
        self.container = site.container(self.id)["Id"]
        self.files = files(lab.engine, self.container)
        self.whole = snapshot(lab.engine, self.id)

    def untouched(self):
        """Not even restarted."""
        must(snapshot(lab.engine, self.id) == self.whole, f"something changed: {self.whole}\n{snapshot(lab.engine, self.id)}")
        self.answers()

    def back(self, left=()):
        """It was stopped and is running again: the same container, image and files, under its own name; nothing of the other is left but
        the files that only it had brought."""
        rows = wait_for(lambda: [rows for rows in [self.site.containers(self.id)] if len(rows) == 1 and rows[0]["State"] == "running"], 20,
                        "one running container")[0]
        must(rows[0]["Id"] == self.container and rows[0]["Names"] == [f"/ws-{self.id}"], f"it is {rows[0]}")
        must(good.split("@")[1] in digest_of(lab.engine, self.container), "it runs another image")
        now = files(lab.engine, self.container)
        must({name: now.get(name, ())[:4] for name in self.files} == {name: kept[:4] for name, kept in self.files.items()},
             f"{self.files}\n{now}")
        must(set(now) - set(self.files) <= set(left), f"left behind: {set(now) - set(self.files)}")
        self.answers()

    def answers(self):
        status, text = wait_for(lambda: self.site.fetch(self.id, "/env"), 15, "the old version's answer")
        must((status, text) == (200, f"DEMO_WHO={self.id}\n"), (status, text))
        must(self.site.fetch(self.id, "/configs/config.yaml") == (200, "version: old\n"), "its config is not the old one")


LEFT = ("configs/prompts/new.md",)                          # a file that was absent stays behind: the engine cannot remove one


def fails(site, job, code, *words, timeout=90):
    """The job's end: failed, with the code; the words are in the message; it says no more than it may."""
    report = site.plane.final(job, timeout)
    said = report["message"]
    must((report["state"], report["error"]["code"]) == ("failed", code), f"{report['state']} {report['error']}")
    must(report["error"]["message"] == said or said, report)
    for word in words:
        must(word in said, f"{word!r} is not in {said!r}")
    must("version: " not in said and "DEMO_WHO=" not in said, f"it tells values: {said!r}")
    must(report["stage"] == "failed", report["stage"])
    return report


# ── the new version does not work ──────────────────────────────────────────────────────────────────────────────

def rolled_back(variant, *words, **fields):
    def case(site):
        old = Old(site)
        job = order(site, old.id, image_ref=lab.image(variant), config_files=NEW, env={"DEMO_WHO": "new"}, **fields)
        fails(site, job, "rolled_back", *words)
        old.back(LEFT)
        after_it_a_good_one_succeeds(site, old)
    return case


def after_it_a_good_one_succeeds(site, old):
    report = site.plane.final(order(site, old.id, image_ref=good, config_files=NEW), 90)
    must(report["state"] == "succeeded" and report["result"]["verified_on_target"], report)
    must(site.fetch(old.id, "/configs/config.yaml") == (200, "version: new\n"), "the good one after it did not get its files")


def image_not_found(site):
    old = Old(site)
    missing = good.split("@")[0] + "@sha256:" + "0" * 64
    fails(site, order(site, old.id, image_ref=missing, config_files=NEW), "image_not_found", "0" * 64)
    old.untouched()
    missing = good.split("/")[0] + "/molecule/nobody@sha256:" + "0" * 64
    fails(site, order(site, old.id, image_ref=missing, config_files=NEW), "image_not_found")
    old.untouched()


def image_auth(site):
    old = Old(site)
    fails(site, order(site, old.id, image_ref=site.private, config_files=NEW), "image_auth")
    old.untouched()


def deadline(site):
    """The job's own deadline ends a gate that would have waited for minutes."""
    old = Old(site)
    job = site.plane.order(site.host()["host_id"], "workspace.provision", old.id, spec=spec(image_ref=lab.image("never"), config_files=NEW),
                           deadline_seconds=35)
    fails(site, job, "rolled_back", "deadline_exceeded", "gate")
    old.back(LEFT)


# ── names that are taken ───────────────────────────────────────────────────────────────────────────────────────

def stranger(name):
    """A container of someone else's."""
    status, body = lab.docker("POST", f"/containers/create?name={name}", {"Image": image_id(), "Entrypoint": ["/bin/sleep", "1000"]})
    must(status == 201, body)
    return body["Id"]


def image_id():
    return lab.engine.get(f"/images/{good}/json")["Id"]


def stranger_volume(name, labels=None):
    """Its directory."""
    status, body = lab.docker("POST", "/volumes/create", {"Name": name, "Labels": labels or {}})
    must(status == 201, body)
    return body["Mountpoint"]


HIS = {"whose": "not yours"}


def same_stranger(name, container):
    seen = lab.engine.inspect(container)
    must(seen and seen["Name"] == f"/{name}" and seen["State"]["Status"] == "created", f"the stranger is {seen}")


def taken_next(site):
    old = Old(site)
    other = stranger(f"ws-{old.id}.next")
    fails(site, order(site, old.id, image_ref=good, config_files=NEW), "name_conflict", f"ws-{old.id}.next")
    old.untouched()
    same_stranger(f"ws-{old.id}.next", other)


def taken_prev(site):
    old = Old(site)
    other = stranger(f"ws-{old.id}.prev")
    fails(site, order(site, old.id, image_ref=good, config_files=NEW), "rolled_back", "name_conflict")
    old.back(LEFT)
    same_stranger(f"ws-{old.id}.prev", other)


def taken_fresh(site):
    """A first provision: nothing that it made is left."""
    workspace = new_id()
    other = stranger(f"ws-{workspace}")
    fails(site, order(site, workspace, image_ref=good, config_files=NEW), "name_conflict", f"ws-{workspace}")
    same_stranger(f"ws-{workspace}", other)
    must(not site.containers(workspace) and not volumes(lab.engine, workspace),
         f"left: {site.containers(workspace)} {volumes(lab.engine, workspace)}")


def taken_volume_fresh(site):
    workspace = new_id()
    name = f"ws-{workspace}-workspace"
    stranger_volume(name, HIS)
    fails(site, order(site, workspace, image_ref=good, config_files=NEW), "name_conflict", name)
    left = volumes(lab.engine, workspace)
    must(not site.containers(workspace) and list(left) == [name] and left[name]["Labels"] == HIS, left)


def unlabelled_volume(site):
    """With a byte in it, it is somebody's. Empty, as an engine that lost its power leaves one, it is made again and is the workspace's."""
    workspace = new_id()
    name = f"ws-{workspace}-configs"
    held = os.path.join(stranger_volume(name), "held")
    with open(held, "w") as file:
        file.write("x")
    fails(site, order(site, workspace, image_ref=good, config_files=NEW), "name_conflict", name)
    with open(held) as file:
        must(file.read() == "x", "what was in it")
    os.unlink(held)
    report = site.plane.final(order(site, workspace, image_ref=good, config_files=NEW), 90)
    must(report["state"] == "succeeded", report)
    must(volumes(lab.engine, workspace)[name]["Labels"]["molecule.agent.workspace"] == workspace, "its labels")
    must(site.agent.lines(name, "it is made again"), "the log does not say it")


def taken_volume(site):
    """Another runtime wants one volume more, and that is a stranger's."""
    old = Old(site)
    name = f"ws-{old.id}-claude-sessions"
    stranger_volume(name, HIS)
    fails(site, order(site, old.id, image_ref=good, config_files=NEW, runtime="claude-code"), "name_conflict", name)
    must(volumes(lab.engine, old.id).pop(name)["Labels"] == HIS, "the stranger's volume changed")
    lab.docker("DELETE", f"/volumes/{name}")
    old.untouched()


def fresh_crash(site):
    """A first provision that fails after its start: no container; the volumes may hold what it wrote, and are kept a while."""
    workspace = new_id()
    fails(site, order(site, workspace, image_ref=lab.image("crash"), config_files=NEW), "crash_loop", "exit code 3")
    must(not site.containers(workspace), site.containers(workspace))
    report = site.plane.final(order(site, workspace, image_ref=good, config_files=NEW), 90)
    must(report["state"] == "succeeded", report)


def fresh_not_found(site):
    workspace = new_id()
    fails(site, order(site, workspace, image_ref=good.split("@")[0] + "@sha256:" + "1" * 64), "image_not_found")
    must(not site.containers(workspace) and not volumes(lab.engine, workspace), "something was made for an image that does not exist")


# ── sites of their own ─────────────────────────────────────────────────────────────────────────────────────────

def no_space(site):
    """min_free_bytes is more than the disk has: an image that has to be pulled has no room, one that is there needs none."""
    old = Old(site)
    site.agent.settings["min_free_bytes"] = "4096G"
    with threads:                                           # a process is started from the main thread only
        site.restart_please.set()
    must(site.restarted.wait(60), "the agent was not restarted")
    report = fails(site, order(site, old.id, image_ref=lab.image("ok", page="not-yet-pulled"), config_files=NEW), "no_space", "MiB")
    must(report["error"]["retryable"] is True, report)
    old.untouched()
    workspace = new_id()
    fails(site, order(site, workspace, image_ref=lab.image("ok", page="not-yet-pulled")), "no_space")
    must(not site.containers(workspace) and not volumes(lab.engine, workspace), "something was made without space for it")


def port_taken(site):
    """Another process takes the port in the last moment: a new port, and success."""
    workspace, held = new_id(), []

    def take():
        port = int(lab.engine.inspect(f"ws-{workspace}")["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"])
        held.append(socket.create_server(("127.0.0.1", port)))
    rule = site.dock.on("POST", r"/containers/[^/]+/start$", before(take))
    try:
        report = site.plane.final(order(site, workspace, image_ref=good, config_files=NEW), 90)
        rule.wait(1)
        must(report["state"] == "succeeded", report)
        taken = held[0].getsockname()[1]
        must(site.port(workspace) != taken and report["result"]["url"].endswith(f":{site.port(workspace)}"), report["result"]["url"])
        must(site.fetch(workspace)[0] == 200 and len(site.containers(workspace)) == 1, "it does not answer, or not alone")
        env = site.container(workspace)["Config"]["Env"]
        must(f"MOLECULE_WORKSPACE_URL={report['result']['url']}" in env, "the container was told another URL")
    finally:
        for sock in held:
            sock.close()
    site.plane.deprovision(workspace)


def ports_exhausted(site):
    """Two ports: one has a workspace, the other another process. Two workspaces cannot be."""
    old = Old(site)
    low, high = (int(p) for p in site.agent.settings["port_range"].split("-"))
    with socket.create_server(("127.0.0.1", low + high - site.port(old.id))):
        report = site.plane.final(order(site, new_id(), image_ref=good))
        must((report["state"], report["error"]["code"]) == ("refused", "port_unavailable"), report)
        old.untouched()
    workspace = new_id()                                    # the other process has gone, but comes back in the last moment
    held, other = [], low + high - site.port(old.id)
    site.dock.on("POST", r"/containers/[^/]+/start$", before(lambda: held.append(socket.create_server(("127.0.0.1", other)))))
    try:
        fails(site, order(site, workspace, image_ref=good, config_files=NEW), "port_unavailable")
        must(not site.containers(workspace) and not volumes(lab.engine, workspace), f"left: {volumes(lab.engine, workspace)}")
    finally:
        for sock in held:
            sock.close()
    old.untouched()


CASES = [
    ("incident 1: digest that does not exist: image_not_found, nothing touched", image_not_found, "main"),
    ("registry 401: image_auth, nothing touched", image_auth, "main"),
    ("image that crashes: rolled_back, crash_loop", rolled_back("crash", "crash_loop", "exit code 3"), "main"),
    ("incident 66: image that never answers: rolled_back, readiness_timeout", rolled_back("never", "readiness_timeout", "after 6 s",
                                                                             probe={"timeout_seconds": 6}), "main"),
    ("image that answers once and dies: rolled_back", rolled_back("once", "crash_loop"), "main"),
    ("image that answers 500: rolled_back, readiness_timeout", rolled_back("e500", "readiness_timeout", "500",
                                                                           probe={"timeout_seconds": 6}), "main"),
    ("image whose health check is never content: rolled_back", rolled_back("unhealthy", "readiness_timeout", "health check",
                                                                           probe={"timeout_seconds": 6}), "main"),
    ("deadline in the gate: rolled_back, deadline_exceeded", deadline, "main"),
    ("name of .next taken by a stranger: name_conflict, nothing touched", taken_next, "main"),
    ("name of .prev taken by a stranger: rolled_back", taken_prev, "main"),
    ("incident 60: name taken by a stranger, first provision: nothing is left", taken_fresh, "main"),
    ("volume taken by a stranger, first provision: only his is left", taken_volume_fresh, "main"),
    ("volume without labels: name_conflict with a byte in it, made again without", unlabelled_volume, "main"),
    ("incident 47: volume taken by a stranger: name_conflict, nothing touched", taken_volume, "main"),
    ("first provision that crashes: crash_loop, no container", fresh_crash, "main"),
    ("first provision of an absent digest: nothing made", fresh_not_found, "main"),
    ("incident 15: no space: no_space, nothing touched", no_space, "space"),
    ("port taken by another process: another port, success", port_taken, "port"),
    ("ports exhausted: port_unavailable, nothing is left", ports_exhausted, "two-ports"),
]
threads = threading.Semaphore(1)


def prepare(sites):
    """Images are built and sites made by the main thread, before the cases begin."""
    global good
    good = lab.image("ok")
    for variant in ("crash", "never", "once", "e500", "unhealthy"):
        lab.image(variant)
    lab.image("ok", page="not-yet-pulled")
    closed = Registry(f"{lab.where}/closed", {"someone": "a-password"})
    closed.start()
    private = image.make(lab.engine, closed, "ok", page="private")
    low = free_range(2)
    settings = {"main": {"max_parallel_jobs": 16, "registries": f"{lab.registry.address}, {closed.address}"}, "space": {},
                "port": {"engine_proxy": True}, "two-ports": {"engine_proxy": True, "port_range": f"{low}-{low + 1}"}}
    for name, how in settings.items():
        sites[name] = lab.site(**how)
        sites[name].private = private
        sites[name].restart_please, sites[name].restarted = threading.Event(), threading.Event()
        sites[name].start(registered=0)
    for site in sites.values():
        wait_for(site.host, 30, "the host's registration")


def run(case, site, results):
    began = time.monotonic()
    try:
        case[1](site)
        results[case[0]] = (True, f"{time.monotonic() - began:.1f} s")
    except Exception:
        results[case[0]] = (False, traceback.format_exc())


def main():
    global lab
    sites, results = {}, {}
    with Lab("failed") as lab:
        prepare(sites)
        bystander = Old(sites["main"])
        workers = [threading.Thread(target=run, args=(case, sites[case[2]], results), daemon=True) for case in CASES]
        for worker in workers:
            worker.start()
        end = time.monotonic() + 240
        while any(worker.is_alive() for worker in workers) and time.monotonic() < end:
            site = sites["space"]
            if site.restart_please.is_set() and not site.restarted.is_set():
                site.agent.restart()
                site.restarted.set()
            time.sleep(0.1)
        for name, _, _ in CASES:
            passed, words = results.get(name, (False, "it did not end"))
            tap.ok(passed, f"{name} ({words})" if passed else name, words)
        try:
            bystander.untouched()
            tap.ok(True, "the workspace beside them: same container, run, volumes and files, and it answers")
        except LabError as error:
            tap.ok(False, "the workspace beside them", error)
        for name, site in sites.items():
            tap.ok(site.agent.process.running(), f"the agent of site {name} runs")
        if tap.failed:
            tap.diag("".join(site.tail(60) for site in sites.values()))
        for site in sites.values():
            site.end()
    tap.done()


if __name__ == "__main__":
    main()
