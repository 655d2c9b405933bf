#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trouble that passes: whatever stands between the agent and its engine, its registry or its control plane goes away again, and then the
job ends well, once; and a workspace that has nothing to do with it does not notice.

Each case has its own control plane and agent; several run side by side. What takes the engine away comes last, alone."""

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import image  # noqa: E402
import tap  # noqa: E402
from cases import must  # noqa: E402
from engine import Registry, UnixConnection  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from names import SilentNames  # noqa: E402
from proc import end_now  # noqa: E402
from proxy import Proxy, drop_after, edit, reply, throttle  # noqa: E402
from sealed import life  # noqa: E402
from world import b64, events, finals, new_id, now, spec  # noqa: E402

SIDE_BY_SIDE = 5
LIMIT = 300                                                 # seconds until it gives up


class Case:
    """A site and, once stand_by() was called, a workspace on it that must not notice anything."""

    def __init__(self, stage, **how):
        self.lab, self.site, self.bystander = stage, stage.site(start=False, **how), None
        self.good = stage.image("ok", page="good", keep=True)

    def order(self, workspace, ref=None, **fields):
        return self.site.plane.order(self.site.host()["host_id"], "workspace.provision", workspace,
                                     spec=spec(image_ref=ref or self.good, config_files={"config.yaml": b64("good: yes\n")}, **fields))

    def stand_by(self):
        self.bystander = new_id()
        must(self.site.plane.final(self.order(self.bystander))["state"] == "succeeded", "the bystander was not provisioned")
        wait_for(lambda: len(self.site.containers(self.bystander)) == 1, 10)
        self.before = self.seen()
        return self

    def seen(self):
        return life(self.site, self.bystander)

    def ends_well(self, order, workspace, timeout=60, state="succeeded"):
        """The job's end, stored once, and one container that runs and answers."""
        final = self.site.plane.final(order, timeout)
        must(final["state"] == state, f"{final['state']}: {final.get('error')}")
        must(len(finals(self.site, order)) == 1, "more final reports than one")
        wait_for(lambda: len(self.site.containers(workspace)) == 1, 12, "one container only")
        must(self.site.fetch(workspace)[0] == 200, "no page")

    def one_more(self, timeout=60, **fields):
        """Proof that all is well: a workspace provisioned from beginning to end."""
        workspace = new_id()
        self.ends_well(self.order(workspace, **fields), workspace, timeout)
        return workspace

    def reported(self, order, stage, timeout=30):
        wait_for(lambda: any(report.get("stage") == stage for report in self.site.plane.job(order)["reports"]), timeout, f"stage {stage}")

    def health(self):
        return self.site.health()

    def signal(self, number):
        self.site.agent.process.kill(number)

    def stopped_within(self, seconds):
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        must(self.site.agent.wait() == 0, "SIGTERM did not end it with 0")
        must(time.monotonic() - began < seconds, f"SIGTERM took {time.monotonic() - began:.1f} s")

# Engine.

def engine_socket_missing_at_start(lab):
    case = Case(lab, engine_proxy=True)
    case.site.dock.refuse()
    case.site.start()
    wait_for(lambda: case.health()["engine"]["state"] == "down", 20, "health that says that the engine is down")
    must("engine_unreachable" in case.health()["agent"]["degraded"], f"degraded: {case.health()['agent']['degraded']}")
    workspace = new_id()
    order = case.order(workspace)
    wait_for(lambda: case.site.plane.job(order)["state"] in ("accepted", "running"), 10, "accepted with the engine away")
    case.site.dock.accept()
    case.ends_well(order, workspace)
    wait_for(lambda: case.health()["engine"]["state"] == "up", 10, "health that says that the engine is up")
    return case


def incident_45_create_reply_lost(lab):
    case = Case(lab, engine_proxy=True)
    case.site.start()
    case.stand_by()
    rule = case.site.dock.on("POST", "/containers/create", drop_after())
    since, made = now(), case.one_more()
    rule.wait(0)
    created = [event for event in events(lab.engine, since) if event == f"container create ws-{made}"]
    must(len(created) == 1, f"{len(created)} containers were created, instead of one that was adopted")
    return case


def start_reply_lost(lab):
    case = Case(lab, engine_proxy=True)
    case.site.start()
    case.stand_by()
    rule = case.site.dock.on("POST", "/start$", drop_after())
    made = case.one_more()
    rule.wait(0)
    must(case.site.container(made)["RestartCount"] == 0, "it was restarted")
    return case


def engine_killed_in_mid_job(lab):
    case = Case(lab)
    case.site.start()
    case.stand_by()
    workspace = new_id()
    order = case.order(workspace, case.lab.image("slow", page="slow", delay=4, keep=True))
    case.reported(order, "configuring_https")
    containerd = lab.engine._containerd()
    lab.engine.process.kill()
    os.kill(containerd, signal.SIGKILL)
    lab.engine.process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{containerd}"), 10, "the end of containerd")
    wait_for(lambda: case.health()["engine"]["state"] == "down", 10, "health that says that the engine is down")
    must(case.site.plane.job(order)["final"] is None, "the job ended while the engine was away")
    lab.engine.start()
    case.ends_well(order, workspace, 90)
    wait_for(lambda: case.seen()[2] and case.site.fetch(case.bystander)[0] == 200, 30, "the bystander, which the engine had taken along")
    must(case.seen()[0] == case.before[0], "the bystander has another container")
    case.before = case.seen()
    return case


# Registry.

def registry_down_in_mid_pull(lab):
    registry = Registry(f"{lab.where}/r2")
    registry.start()
    slow = Proxy(("127.0.0.1", registry.port))
    slow.on("GET", "/blobs/", throttle(1 << 20), times=None)
    big = image.make(lab.engine, registry, "ok", page="big", filler=os.urandom(8 << 20)).replace(registry.address, f"127.0.0.1:{slow.port}")
    lab.docker("POST", "/build/prune", all="true")
    case = Case(lab, registries=f"{lab.registry.address} 127.0.0.1:{slow.port}")
    case.site.start()
    case.stand_by()
    workspace = new_id()
    order = case.order(workspace, big)
    wait_for(lambda: slow.seen("GET", "/blobs/"), 20, "the pull", 0.01)
    registry.stop(signal.SIGKILL)
    time.sleep(10)
    must(case.site.plane.job(order)["final"] is None, "the job ended while the registry was down")
    registry.start()
    case.ends_well(order, workspace, 120)
    end_now(registry.process.stop)
    return case


def registry_credentials(lab):
    """no credentials, then wrong ones, then a file that is none are image_auth each; once the file is right the next job needs no restart"""
    registry = Registry(f"{lab.where}/r3", {"bot": "s3cr3t-of-the-registry"})
    registry.start()
    locked = image.make(lab.engine, registry, "ok", page="locked", filler=os.urandom(4096))
    path = f"{lab.where}/docker-config.json"
    case = Case(lab, registries=f"{lab.registry.address} {registry.address}", registry_auth_file=path)
    case.site.start()
    case.stand_by()
    for text in (None, json.dumps({"auths": {registry.address: {"username": "bot", "password": "not-this-one"}}}), "{", registry.docker_config()):
        if text:
            with open(path, "w") as file:
                file.write(text)
        workspace = new_id()
        order = case.order(workspace, locked)
        if text == registry.docker_config():
            case.ends_well(order, workspace)
            continue
        final = case.site.plane.final(order)
        must((final["state"], final["error"]["code"]) == ("failed", "image_auth"), f"{text}: {final['state']} {final.get('error')}")
        must("not-this-one" not in final["error"]["message"], "a password in words")
    must(not case.site.agent.lines("s3cr3t"), "a password in the log")
    end_now(registry.process.stop)
    return case


def registry_says_429_at_first(lab):
    limited = Proxy(("127.0.0.1", lab.registry.port))
    ref = lab.image("ok", page="limited").replace(lab.registry.address, f"127.0.0.1:{limited.port}")
    words = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]})
    rule = limited.on("GET", "/manifests/", reply(429, {"Retry-After": "1"}, words), times=2)
    head = limited.on("HEAD", "/manifests/", reply(429, {"Retry-After": "1"}), times=2)
    case = Case(lab, registries=f"{lab.registry.address} 127.0.0.1:{limited.port}")
    case.site.start()
    case.stand_by()
    case.one_more(120, ref=ref)
    must(rule.hits + head.hits >= 2, "the registry was not asked often enough")
    return case


# Control plane.

def incident_19_control_plane_down_in_mid_job(lab):
    case = Case(lab)
    case.site.start()
    case.stand_by()
    workspace = new_id()
    order = case.order(workspace, lab.image("slow", page="slow", delay=4, keep=True))
    case.reported(order, "configuring_https")
    case.site.plane.stop(number=signal.SIGKILL)
    wait_for(lambda: case.site.fetch(workspace)[0] == 200, 20, "a workspace that is made with the control plane away")
    time.sleep(21)
    case.site.plane.start()
    case.ends_well(order, workspace, 100)
    time.sleep(2)
    case.ends_well(order, workspace)                        # still one final
    return case


def incident_26_org_row_not_yet_there(lab):
    case = Case(lab, plane_proxy=True)
    for method in ("GET", "POST"):
        case.site.cp.on(method, ".", reply(401, None, '{"error":"unauthorized"}'), times=None)
    case.site.agent.start()
    wait_for(lambda: case.site.cp.log, 20, "the first call")
    time.sleep(5)
    case.site.cp.clear()
    began = time.monotonic()
    wait_for(case.site.host, 10, "the registration")
    must(time.monotonic() - began < 4, f"registered only {time.monotonic() - began:.1f} s after the row was there")
    case.one_more()
    return case


def truncated_json(lab):
    case = Case(lab, plane_proxy=True)
    half = edit(lambda status, body: (status, body[:len(body) // 2]))
    rules = [case.site.cp.on("POST", "/hosts$", half)]
    case.site.start()
    rules += [case.site.cp.on("POST", "/health", half), case.site.cp.on("POST", "/reports", half)]
    case.stand_by().one_more()
    cut = []                                                # a delivery that is cut in half comes again, a minute later

    def once(status, body):
        cut.extend([body] if b"delivery_id" in body and not cut else [])
        return status, body[:-20] if body in cut else body
    case.site.cp.on("GET", "/jobs", edit(once), times=None)
    case.site.agent.restart()
    case.one_more(100)
    must(cut, "no delivery was cut in half")
    for rule in rules:
        rule.wait(0)
    return case


def dead_name_servers(lab):
    """The name of the control plane does not resolve, for want of an answer: who asks on the host itself is answered at once all the while."""
    case = Case(lab, cp_url="https://cp.example.org")
    case.site.agent.start(wrap=SilentNames(case.site.where).wrap)
    began, slowest, until = time.monotonic(), 0, 0
    while not (failed := case.site.agent.lines("cannot be reached")) or time.monotonic() < until:
        asked = time.monotonic()
        link = UnixConnection(f"{case.site.agent.runtime}/control.sock", 20)
        link.request("GET", "/v1/status")
        must(link.getresponse().status == 200, "no status")
        link.close()
        slowest = max(slowest, time.monotonic() - asked)
        must(slowest < 2, f"a status after {slowest:.1f} s")
        must(time.monotonic() - began < 60, "it never gave up the name")
        if not failed:
            until = time.monotonic() + 15                   # in which the resolver is still at work
        time.sleep(0.1)
    case.stopped_within(5)
    return case


def host_unknown(lab):
    case = Case(lab, plane_proxy=True)
    case.site.start()
    case.stand_by()
    forget_host(case.site.plane)
    case.site.agent.restart()
    wait_for(case.site.host, 20, "another registration")
    case.one_more()

    registers = len(case.site.cp.seen("POST", "/hosts$"))
    forget_host(case.site.plane)                            # now while it runs: the next call hears of it
    case.site.plane.stop()
    case.site.plane.start()
    wait_for(case.site.host, 80, "a registration by itself")
    must(len(case.site.cp.seen("POST", "/hosts$")) > registers, "it did not register")
    case.one_more()
    return case


def forget_host(plane):
    with sqlite3.connect(f"{plane.where}/devcp.db", timeout=10) as database:
        database.execute("PRAGMA foreign_keys=OFF")
        database.execute("DELETE FROM boots")
        database.execute("DELETE FROM hosts")


def state_lost(lab):
    case = Case(lab)
    case.site.start()
    case.stand_by()
    host, jobs = case.site.host()["host_id"], len(case.site.plane.jobs())
    case.site.agent.stop()
    for name in os.listdir(case.site.agent.state):
        path = f"{case.site.agent.state}/{name}"
        if name != "identity":
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    case.site.agent.start()
    wait_for(lambda: len(case.site.plane.jobs()) > jobs, 15, "the order that the control plane issues anew")
    new = next(row for row in case.site.plane.jobs() if not row["final"] or row["generation"] != "1")
    case.ends_well(new["job_id"], case.bystander)
    must(case.site.host()["host_id"] == host, "another host id")
    case.before = case.seen()
    case.one_more()
    return case


def host_id_in_use(lab):
    case = Case(lab, plane_proxy=True)
    case.site.start()
    case.stand_by()
    mine = json.loads(case.site.cp.seen("POST", "/hosts$")[-1].body)
    other = new_id()
    headers = {"X-Molecule-Agent-Protocol": "1", "X-Molecule-Host-Id": mine["host_id"], "X-Molecule-Boot-Id": other,
               "X-Molecule-Org-Id": case.site.plane.org_id}
    case.site.plane.must(200, "POST", "/hosts", mine | {"boot_id": other, "boot_epoch": "1"}, headers=headers)
    wait_for(lambda: case.site.agent.lines("host_id_in_use"), 60, "the agent's word on it")
    asked = len(case.site.cp.log)
    order = case.order(new_id())
    time.sleep(6)
    must(len(case.site.cp.log) == asked, f"{len(case.site.cp.log) - asked} calls while parked")
    must(not case.site.plane.job(order)["deliveries"], "it took a job while parked")
    must(case.site.agent.process.running(), "the agent ended")
    return case


# Signals and rounds.

def sigterm_in_pull(lab):
    slow = Proxy(("127.0.0.1", lab.registry.port))
    gate = threading.Event()
    rule = slow.on("GET", "/blobs/", lambda x: (gate.wait(30), x.ask(), x.relay()), times=None)
    ref = lab.image("ok", page="sigterm").replace(lab.registry.address, f"127.0.0.1:{slow.port}")
    case = Case(lab, registries=f"{lab.registry.address} 127.0.0.1:{slow.port}")
    case.site.start()
    case.stand_by()
    workspace = new_id()
    order = case.order(workspace, ref)
    wait_for(lambda: rule.hits, 20, "a pull that hangs")
    case.reported(order, "installing")
    case.stopped_within(2)
    gate.set()
    case.site.agent.start()
    case.ends_well(order, workspace)
    return case


def sigterm_in_gate(lab):
    case = Case(lab)
    case.site.start()
    case.stand_by()
    workspace = new_id()
    order = case.order(workspace, lab.image("slow", page="slow", delay=4, keep=True))
    case.reported(order, "configuring_https")
    before = case.site.container(workspace)
    case.stopped_within(2)
    case.site.agent.start()
    case.ends_well(order, workspace)
    after = case.site.container(workspace)
    must(before["Id"] == after["Id"], "the container was made again")
    must(before["State"]["StartedAt"] == after["State"]["StartedAt"], "the container was started again")
    return case


def sighup(lab):
    case = Case(lab)
    case.site.start()
    case.stand_by()
    good = dict(case.site.agent.settings)
    case.site.agent.settings = good | {"max_tier": "seven"}
    case.site.agent.write()
    case.signal(signal.SIGHUP)
    wait_for(lambda: "config_invalid" in case.health()["agent"]["degraded"], 10, "config_invalid in health")
    case.one_more()
    case.site.agent.settings = good | {"max_tier": "1"}
    case.site.agent.write()
    case.signal(signal.SIGHUP)
    wait_for(lambda: case.health()["agent"]["degraded"] == [], 20, "the end of config_invalid")
    refused = case.site.plane.final(case.order(new_id()), 20)
    must((refused["state"], refused["error"]["code"]) == ("refused", "tier_not_allowed"), f"max_tier=1 does not hold: {refused}")
    return case


def once(lab):
    case = Case(lab)
    status, words = case.site.agent.run("--once", timeout=60)
    must(status == 0 and case.site.host(), f"the first round: {status} {words}")
    workspace = new_id()
    order = case.order(workspace)
    status, words = case.site.agent.run("--once", timeout=60)
    must(status == 0, f"a round with work: {status} {words}")
    case.ends_well(order, workspace, 1)
    case.site.plane.stop()
    status, words = case.site.agent.run("--once", timeout=60)
    must(status == 75, f"a round without the control plane: {status} {words}")
    must(case.site.fetch(workspace)[0] == 200, "the workspace does not run on")
    return case


SHARED = (truncated_json, incident_19_control_plane_down_in_mid_job, registry_down_in_mid_pull, registry_credentials, host_unknown,
          registry_says_429_at_first, dead_name_servers, sigterm_in_pull, host_id_in_use, engine_socket_missing_at_start,
          incident_26_org_row_not_yet_there, incident_45_create_reply_lost, start_reply_lost, state_lost, sigterm_in_gate, sighup,
          once)
ALONE = (engine_killed_in_mid_job,)


def watched(test):
    """The test as a case of its stage, and the bystander did not notice."""
    def case(stage):
        of = test(stage)
        must(not of.bystander or of.seen() == of.before, f"the bystander noticed: {of.bystander and (of.before, of.seen())}")
    case.__name__ = test.__name__
    return case


def main():
    with Lab("trouble") as lab:
        lab.image("ok", page="good", keep=True)
        cases.run(lab, [watched(test) for test in SHARED], [watched(test) for test in ALONE], SIDE_BY_SIDE, LIMIT)
    tap.done()


if __name__ == "__main__":
    main()
