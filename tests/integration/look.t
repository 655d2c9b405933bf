#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: the reading verbs of molecule-agentctl, the events of the local API and its logs, who may see what, and that looking costs nothing
that stays."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from completion import offers  # noqa: E402
from hand import Link, as_nobody, ask, tool  # noqa: E402
from lab import Lab, binary, wait_for  # noqa: E402
from scene import QUICK, Scene, slow_scene  # noqa: E402
from world import new_id, spec  # noqa: E402

BAD_LINE = "printf 'odd\\t\\377 \\303\\251\\n' >/proc/1/fd/1"      # a byte that is no UTF-8, then two that are one letter
FOLLOWERS = 100         # as many as the agent takes


class Following:
    """A verb that goes on, and the lines that it has printed so far."""

    def __init__(self, site, *words):
        self.process = subprocess.Popen([binary("molecule-agentctl"), *words], env=site.agent.environment(), stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""

    def lines(self):
        self.text += (self.process.stdout.read() or b"").decode()
        return self.text.splitlines()

    def until(self, pattern, timeout=30):
        """The first line that matches."""
        return wait_for(lambda: next((line for line in self.lines() if re.search(pattern, line)), None), timeout,
                        f"{pattern} in\n{self.text}", 0.1)

    def end(self):
        """What it exits with where nobody ends it before."""
        try:
            status = self.process.wait(10)
            self.lines()
            return status
        finally:
            self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def said(site, *words, want=0, **how):
    code, text = tool(site, *words, **how)
    same(code, want, f"{words}: {text}")
    return text


# --- reads ------------------------------------------------------------------------------------------------------------------------------

def reads(stage):
    """workspaces, inspect, jobs, pins, images, df, explain: tables for people, JSON for programs, ids by their beginnings"""
    scene = Scene(stage, probe_timeout_seconds="5")
    scene.good = stage.image("ok", page=f"reads-{time.monotonic_ns()}")
    same(said(scene.site, "workspaces"), "WORKSPACE  STATUS  RUNTIME  IMAGE  TARGET  RESTARTS  SINCE  ERROR\nNo workspaces.\n")
    scene.plane.pin("langgraph", scene.good)
    workspace, report = scene.provision(None)
    broken = new_id()
    job = scene.order("workspace.provision", broken, spec=spec(image_ref=stage.image("crash"), probe=QUICK))
    failure = scene.plane.final(job, 60)["error"]["code"]
    digest = scene.good.split("sha256:")[1][:12]
    table = said(scene.site, "workspaces").splitlines()
    same([line.split()[:4] for line in sorted(table[1:], key=lambda line: line.split()[1])][1], [workspace[:8], "online", "langgraph", digest], table)
    must(any(line.startswith(broken[:8]) and line.endswith(failure) for line in table), table)
    text = said(scene.site, "inspect", workspace[:8])
    must(text.startswith(f"workspace {workspace}: online\n") and f"image        {scene.good}" in text and report["job_id"] in text, text)
    text = said(scene.site, "inspect", "ws-" + broken)
    must(f"code         {failure}" in text and f"next: molecule-agentctl explain {failure}" in text, text)
    full = json.loads(said(scene.site, "inspect", workspace, "--json"))
    same((full["settled"]["image_ref"], full["settled"]["generation"], full["jobs"], full["last_outcome"]["state"]), (scene.good, "1", [], "succeeded"))
    must("MOLECULE" not in json.dumps(full) and "env" not in full, "the environment is told")
    jobs = said(scene.site, "jobs").splitlines()
    same([line.split()[3] for line in jobs[1:3]], ["succeeded", "failed"], jobs)
    same(jobs[3], "Nothing is at work.")
    must(digest in said(scene.site, "pins") and scene.good in said(scene.site, "pins"), "the pin is not shown")
    images = {i["image_ref"]: i["needed"] for i in json.loads(said(scene.site, "images", "--json"))["images"]}
    same(images[scene.good], True)
    must("yes" in said(scene.site, "images"), "no table of images")
    must(re.search(r"^engine +[0-9.]+ [GT]B +[0-9]+% ", said(scene.site, "df"), re.M), said(scene.site, "df"))
    must(f"Workspace {broken} is failed for" in said(scene.site, "explain", broken[:8]) and "What to do:" in said(scene.site, "explain", broken[:8]), "")
    must(f"Job {job} (workspace.provision) is failed" in said(scene.site, "explain", job), said(scene.site, "explain", job))
    must("Nothing is known to be wrong" in said(scene.site, "explain", workspace), "")
    for words in (("workspaces", "x"), ("inspect",), ("inspect", "not-an-id"), ("jobs", "--tail", "x"), ("pins", "--paint"), ("df", "x"), ("gc", "x"),
                  ("events", "--tail", "257"), ("logs",), ("logs", workspace, "--since", "yesterday"), ("explain",), ("gc",), ("inspect", "")):
        said(scene.site, *words, want=2)
    for words in (("inspect", "0" * 12), ("inspect", new_id()), ("explain", new_id()), ("explain", "no_such_code"), ("logs", new_id())):
        said(scene.site, *words, want=1)


def beginnings(stage):
    """a beginning that two ids have is refused with both of them, and tables then show ids whole"""
    scene = Scene(stage)
    one = new_id()
    two = one[:-1] + ("0" if one[-1] != "0" else "1")
    for workspace in (one, two):
        scene.provision(scene.good, workspace=workspace)
    text = said(scene.site, "inspect", one[:10], want=2)
    must("2 ids" in text and one in text and two in text, text)
    table = said(scene.site, "workspaces")
    must(one in table and two in table, table)
    said(scene.site, "restart", one[:-1], "--reason", "x", want=2)
    said(scene.site, "restart", one, "--reason", "x")


# What each verb takes to say something; those with None go on, or need more than this scene has, and are looked at where that is: in changes, logs, local.t,
# enroll.t and with doctor's own tests.
def spoken(workspace, job, folder):
    return {"status": [[]], "workspaces": [[]], "inspect": [[workspace]], "jobs": [[]], "explain": [["readiness_timeout"], ["--all"], [workspace], [job]],
            "logs": None, "events": None, "pins": [[]], "images": [[]], "df": [[]],
            "gc": [["--dry-run"], ["--reason", "a test"]], "sync": [[], ["--wait"]], "apply": None,
            "hold": [[workspace, "--reason", "a look"]], "release": [[workspace]], "drain": [["--reason", "a test"]], "undrain": [[]],
            "restart": [[workspace, "--reason", "a test"]], "cancel": None, "doctor": None, "config": [["show"]],
            "secrets": [["verify"], ["list"], ["rm-orphans", "--dry-run"]], "audit": [["verify"]], "bundle": [["--output", folder + "/bundle"]], "enroll": None, "credentials": None,
            "identity": [["show"], ["remove-foreign", "--dry-run"]], "seal-image": [["--root", folder, "--dry-run"]], "setup": [[folder]],
            "version": [[]], "help": [[]]}


def one_line(stage):
    """every verb with --json prints one line of JSON: what it found, or that it is done and since when"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace, report = scene.provision(scene.good)
    lines = {}
    with tempfile.TemporaryDirectory() as folder:
        words = spoken(workspace, report["job_id"], folder)
        same(sorted(words), sorted(v["verb"] for v in json.loads(said(scene.site, "help", "--json"))["verbs"]))
        for verb, takes in words.items():
            for rest in takes or ():
                text = said(scene.site, verb, *rest, "--json", timeout=90, wrap=("env", f"MOLECULE_AGENT_ENGINE_SOCKET={stage.lab.engine.socket}"))
                must(text.count("\n") == 1 and text[0] in "{[", f"{verb} {rest}: {text}")
                lines[verb, *rest[:1]] = json.loads(text)
    for verb in ("hold", "release", "drain", "undrain", "restart"):
        must(next(line["done"] is True and line["mark"] for key, line in lines.items() if key[0] == verb), f"{verb}: {lines}")
    same((lines["explain", "readiness_timeout"]["code"], lines["explain", "readiness_timeout"]["retryable"]), ("readiness_timeout", False))
    must(len(lines["explain", "--all"]) > 40 and all(sorted(c) == ["advice", "code", "meaning", "retryable"] for c in lines["explain", "--all"]), "")
    same((lines["explain", workspace]["workspace_id"], lines["explain", workspace]["explanation"]), (workspace, None))
    same((lines["explain", report["job_id"]]["state"], lines["explain", report["job_id"]]["explanation"]), ("succeeded", None))
    same(sorted({key for setting in lines["config", "show"] for key in setting}), ["key", "origin", "value"])
    same((lines["secrets", "verify"]["bad"], lines["secrets", "rm-orphans"]["orphans"]), ([], []))
    must(lines["secrets", "verify"]["files"] > 0 and all(s["bytes"] > 0 for s in lines["secrets", "list"]["secrets"]), lines["secrets", "list"])
    shown = lines["identity", "show"]
    must(len(shown["host_id"]) == 36 and all(c["host_id"] != shown["host_id"] for c in shown["foreign"]), "its own containers are foreign")
    must(lines["version",]["version"] in said(scene.site, "version"), lines["version",])
    broken = new_id()
    job = scene.order("workspace.provision", broken, spec=spec(image_ref=stage.image("crash"), probe=QUICK))
    code = scene.plane.final(job, 60)["error"]["code"]
    for given in (broken[:8], job):
        same(json.loads(said(scene.site, "explain", given, "--json"))["explanation"]["code"], code)
    host = shown["host_id"]
    scene.site.agent.stop()
    other = json.loads(said(scene.site, "identity", "reset", "--force", "--reason", "a test", "--json"))
    must(other["done"] and other["host_id"] != host, other)
    same(json.loads(said(scene.site, "identity", "show", "--json"))["set_aside"][0]["host_id"], host)
    same(json.loads(said(scene.site, "identity", "adopt", host, "--json")), {"host_id": host, "done": True})


def completed(stage):
    """in bash, verbs, words and flags are completed from what the tool says of itself, ids from what is here"""
    scene = Scene(stage)
    workspace, report = scene.provision(scene.good)
    complete = lambda *words: offers(binary("molecule-agentctl"), *words, env=scene.site.agent.environment())
    for verb in ("inspect", "logs", "restart", "hold", "release"):
        same(complete(verb, workspace[:2]), [workspace], verb)
    must({workspace, report["job_id"], "readiness_timeout"} <= set(complete("explain", "")), complete("explain", ""))
    same(complete("explain", report["job_id"][:12]), [report["job_id"]])
    same(complete("cancel", ""), [], "a job that ended can be cancelled no more")
    same(said(scene.site, "workspaces", "--ids"), workspace + "\n")
    same(said(scene.site, "jobs", "--ids"), report["job_id"] + "\n")
    scene.site.agent.stop()
    same(complete("inspect", ""), [])


# --- pulls and events -------------------------------------------------------------------------------------------------------------------

def pulls(stage):
    """a pull is followed with its bytes: jobs, jobs --follow, events"""
    scene, image = slow_scene(stage)
    follow, events = Following(scene.site, "jobs", "--follow"), Following(scene.site, "events", "--json")
    follow.until("Nothing is at work")
    workspace = new_id()
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=image, probe=QUICK))
    follow.until(rf"  job        running workspace.provision {job[:8]} on {workspace[:8]}: installing")
    line = follow.until(rf"  pull       {workspace[:8]}  [0-9]+%  [0-9.]+ [kM]B of [0-9.]+ [kM]B")
    row = wait_for(lambda: next((r for r in said(scene.site, "jobs").splitlines() if r.startswith(job[:8]) and " of " in r), None), 20, "a row of the pull")
    same(row.split()[1:5], ["workspace.provision", workspace[:8], "running", "installing"], row)
    scene.ended(job)
    follow.until(rf"  job        succeeded workspace.provision {job[:8]} on {workspace[:8]}")
    events.until('"event":"workspace".*"status":"online"')
    found = [json.loads(entry) for entry in events.lines()]
    moved = [e["data"]["bytes"] for e in found if e["event"] == "pull"]
    must(len(moved) >= 3 and moved == sorted(moved), moved)
    must(all(e["data"]["bytes"] <= e["data"]["total_bytes"] and e["data"]["job_id"] == job for e in found if e["event"] == "pull"), found)
    must(not any("result" in e["data"] for e in found), "a result is in an event")
    must(line, "no line")
    for follower in (follow, events):
        follower.stop()


def changes(stage):
    """events: holds, the control plane's loss, a workspace's end; the agent's own end is said and exits 3"""
    scene = Scene(stage)
    events = Following(scene.site, "events", "--tail", "256")
    wait_for(lambda: said(scene.site, "hold", "--reason", "night") and "the host is held; host: night" in "\n".join(events.lines()), 20, "the hold")
    said(scene.site, "release")
    wait_for(lambda: "the host is not held" in "\n".join(events.lines()).split("the host is held; host: night")[-1], 20, "the release")
    workspace, _ = scene.provision(scene.good)
    events.until(rf"  workspace  {workspace[:8]} online$")
    stage.docker("POST", f"/containers/ws-{workspace}/stop", t=0)
    events.until(rf"  workspace  {workspace[:8]} (degraded|failed)")
    scene.plane.stop(number=signal.SIGKILL)
    events.until("  control    polling: control_plane_unreachable: ")
    tail = Following(scene.site, "events", "--tail", "256", "--json")
    tail.until('"event":"hold".*"held":true')
    scene.site.agent.stop()
    for follower in (events, tail):
        same(follower.end(), 3, follower.text)


# --- logs -------------------------------------------------------------------------------------------------------------------------------

def in_container(stage, workspace, script):
    call = stage.docker("POST", f"/containers/ws-{workspace}/exec", {"Cmd": ["sh", "-c", script]})
    stage.docker("POST", f"/exec/{call[1]['Id']}/start", {"Detach": True})


def slowly(site, pause, *words):
    """What the verb printed to somebody who reads a little, then nothing for so many seconds, then the rest."""
    with subprocess.Popen([binary("molecule-agentctl"), *words], env=site.agent.environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        text = process.stdout.read(1000)
        time.sleep(pause)
        text += process.stdout.read()
    same(process.returncode, 0, f"{words}")
    return text.decode()


def logs(stage):
    """logs: the last lines, what follows, and words where the engine cannot say"""
    scene = Scene(stage)
    workspace, _ = scene.provision(stage.image("chatty"))
    whole = said(scene.site, "logs", workspace[:8])
    must(whole.strip(), "a container that serves pages has said nothing")
    same(said(scene.site, "logs", workspace, "--tail", "1"), whole.splitlines(keepends=True)[-1])
    stage.docker("POST", f"/exec/{stage.docker('POST', f'/containers/ws-{workspace}/exec', {'Cmd': ['sh', '-c', BAD_LINE]})[1]['Id']}/start", {"Detach": True})
    line = wait_for(lambda: (lambda text: "odd" in text and text)(said(scene.site, "logs", workspace, "--tail", "1", "--json")), 10, "the odd line")
    same(json.loads(line), {"line": "odd\t\ufffd \u00e9"})
    many = "i=0; while test $i -lt 40000; do echo \"line $i of a log that is long and that nobody should lose a line of\"; i=$((i+1)); done >/proc/1/fd/1"
    in_container(stage, workspace, many)
    wait_for(lambda: "line 39999 " in said(scene.site, "logs", workspace, "--tail", "1"), 60, "the end of a long log")
    for pause in (0, 12):
        got = slowly(scene.site, pause, "logs", workspace, "--tail", "40000")
        same([line.split()[1] for line in got.splitlines()], [str(n) for n in range(40000)], f"with a pause of {pause} s")
    follow = Following(scene.site, "logs", workspace, "-f", "--tail", "1")
    follow.until(".")
    for word in ("first", "second"):
        in_container(stage, workspace, f"echo said-{word} >/proc/1/fd/1")
        follow.until(f"^said-{word}$")
    stage.docker("POST", f"/containers/ws-{workspace}/stop", t=0)
    same(follow.end(), 0, "a log ends with its container")
    stage.docker("POST", f"/containers/ws-{workspace}/start")
    follow = Following(scene.site, "logs", workspace, "-f", "--tail", "1")
    follow.until(".")
    scene.restart()
    same(follow.end(), 3, "the agent's end")
    must("The log broke off" in follow.text, follow.text)
    wait_for(lambda: tool(scene.site, "logs", workspace, "--since", "1s")[0] == 0, 20, "a log, once the agent knows the engine again")
    scene.end("workspace.deprovision", workspace, spec={"prune": True})
    text = said(scene.site, "logs", workspace, want=1)
    must("unknown_workspace" in text, text)


def who_may(stage):
    """logs and inspect are for root and admin_group; the group sees the rest; more readers than eight are refused"""
    scene = Scene(stage, admin_group="daemon")
    workspace, _ = scene.provision(scene.good)
    for words in (("inspect", workspace), ("logs", workspace)):
        code, text = as_nobody(scene.site, *words, group=0)
        must(code == 6 and "admin_group" in text, f"{words}: {code} {text}")
        code, text = tool(scene.site, *words, wrap=("setpriv", "--reuid=65534", "--regid=0", "--groups=1"))
        same(code, 0, text)
        same(tool(scene.site, *words, wrap=("setpriv", "--reuid=65534", "--regid=1", "--groups=0"))[0], 0)
    for words in (("workspaces",), ("jobs",), ("pins",), ("images",), ("df",), ("status",)):
        same(as_nobody(scene.site, *words, group=0)[0], 0, words)
    same(as_nobody(scene.site, "gc", "--reason", "x", group=0)[0], 6)
    reason = "x\x1b[2J\x1b]0;mine\x07\nHEALTHY: nothing"
    same(ask(scene.site, "POST", "/v1/hold", json.dumps({"reason": reason}))[0], 200)
    text = said(scene.site, "status")
    must("\x1b" not in text and "\x07" not in text and "x?[2J?]0;mine??HEALTHY: nothing" in text, repr(text))
    same(ask(scene.site, "POST", "/v1/release", "{}")[0], 200)
    readers = []
    for _ in range(8):
        link = Link(scene.site)
        link.request("GET", f"/v1/logs/{workspace}?follow=true&tail=1")
        same(link.getresponse().status, 200)
        readers.append(link)
    status, answer = ask(scene.site, "GET", f"/v1/logs/{workspace}")
    must(status == 503 and answer["error"] == "too_many" and "one more is refused" in answer["message"], answer)
    for link in readers:
        link.close()
    wait_for(lambda: tool(scene.site, "logs", workspace)[0] == 0, 40, "room for a reader, once the others have gone")


def bad_words(stage):
    """the reads: parameters that make no sense are refused with words"""
    scene = Scene(stage)
    for path, want in (("/v1/jobs?tail=-1", (400, "bad_json")), ("/v1/jobs?tail=1001", (400, "bad_json")), ("/v1/events?tail=x", (400, "bad_json")), ("/v1/events?from=-1", (400, "bad_json")), ("/v1/jobs?tail=" + "0" * 65, (400, "bad_json")),
                       ("/v1/workspaces/", (404, "not_found")), ("/v1/workspaces/a/b", (404, "not_found")), ("/v1/workspaces/x", (404, "unknown_workspace")),
                       ("/v1/workspaces/" + "a" * 65, (404, "not_found")), (f"/v1/logs/{new_id()}?since=9e9", (400, "bad_json")),
                       (f"/v1/logs/{new_id()}?tail=100001", (400, "bad_json")), (f"/v1/logs/{new_id()}", (404, "unknown_workspace"))):
        status, answer = ask(scene.site, "GET", path)
        same((status, answer["error"]), want, path)
    same(ask(scene.site, "GET", "/v1/gc")[0], 405)


# --- images -----------------------------------------------------------------------------------------------------------------------------

def collects(stage):
    """gc: shows what nothing needs, removes it, keeps what runs, and obeys a hold"""
    scene = Scene(stage)
    old, new = (stage.image("ok", page=f"{word}-{time.monotonic_ns()}") for word in ("old", "new"))
    workspace, _ = scene.provision(old)
    scene.provision(new, workspace=workspace)
    left = wait_for(lambda: [i["image_ref"] for i in json.loads(said(scene.site, "images", "--json"))["images"] if not i["needed"]], 20, "an image to go")
    same(left, [old])
    same(said(scene.site, "gc", "--dry-run"), f"{old}\n1 would be removed.\n")
    said(scene.site, "hold", "--reason", "x")
    must("held" in said(scene.site, "gc", "--reason", "x", want=6), "")
    said(scene.site, "release")
    # The former version's container goes a moment after its job has ended; until then the engine keeps its image, and gc says so.
    text = wait_for(lambda: (lambda text: text.startswith("1 image removed, ") and text)(said(scene.site, "gc", "--reason", "room")), 20, "the removal")
    must("keeps" not in text, text)
    same([i["image_ref"] for i in json.loads(said(scene.site, "images", "--json"))["images"]], [new])
    must(scene.site.agent.lines("The removal of images that nothing needs, asked for by uid 0: room"), "who asked is not in the log")
    must(scene.page(workspace).startswith("new-"), "it does not run any more")


# --- what looking costs -----------------------------------------------------------------------------------------------------------------

def resident(site):
    with open(f"/proc/{site.agent.process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^VmRSS:\s+(\d+)", file.read(), re.M).group(1)) * 1024


def silent_follower(site):
    link = socket.socket(socket.AF_UNIX)
    link.connect(f"{site.agent.runtime}/control.sock")
    link.sendall(b"GET /v1/events?tail=256 HTTP/1.1\r\nHost: x\r\n\r\n")
    return link


def flat(stage):
    """the agent's memory stays flat under 10,000 status calls and a hundred followers that never read what is due to them"""
    scene = Scene(stage)
    scene.provision(scene.good)

    def holds(n, word="first"):
        """So many events of 3 KiB each."""
        for i in range(n):
            same(ask(scene.site, "POST", "/v1/hold", json.dumps({"reason": f"{word}-{i}-" + "\x01" * 480}))[0], 200)
            time.sleep(0.12)

    holds(110)
    followers = [silent_follower(scene.site) for _ in range(FOLLOWERS)]
    status, answer = wait_for(lambda: (lambda found: found[0] == 503 and found)(ask(scene.site, "GET", "/v1/events")), 10, "a follower too many")
    same((status, answer["error"]), (503, "too_many"))
    link = Link(scene.site)

    def calls(n):
        for _ in range(n):
            link.request("GET", "/v1/status")
            must(link.getresponse().read(), "no answer")

    calls(1000)
    holds(5)
    before = resident(scene.site)
    calls(9000)
    holds(20, "last")
    after = resident(scene.site)
    tap.diag(f"resident: {before} bytes before, {after} after")
    must(after < before + 1024 * 1024, f"it grew by {after - before} bytes")
    same(ask(scene.site, "GET", "/v1/events")[0], 503, "the hundred are not there any more")
    text = b""
    followers[0].settimeout(5)
    while b"last-19-" not in text:                          # the last of them: all is still to be had by one who reads at last
        text += followers[0].recv(65536)
    must(len(text) > 300_000, f"{len(text)} bytes were due: not enough to block a follower")
    for follower in followers:
        follower.close()
    link.close()
    wait_for(lambda: said(scene.site, "jobs"), 10, "an answer after all of them")


def crowd(stage):
    """more peers than there is room for, who leave all at once, and peers who send a byte now and then: the agent answers the next one"""
    scene = Scene(stage)
    path = f"{scene.site.agent.runtime}/control.sock"

    def peers(n):
        found = [socket.socket(socket.AF_UNIX) for _ in range(n)]
        for peer in found:
            peer.setblocking(False)
            try:
                peer.connect(path)
            except BlockingIOError:                         # the backlog is full, too
                pass
        return found

    for n in (128, 140, 250):
        for peer in peers(n):
            peer.close()
        wait_for(lambda: said(scene.site, "jobs"), 10, f"an answer after {n} peers")
    slow, began = peers(120), time.monotonic()
    gone = set()
    while len(gone) < len(slow) and time.monotonic() < began + 40:
        for peer in slow:
            try:
                peer.send(b"G")
            except OSError:
                gone.add(peer)
        time.sleep(1)
    same(len(gone), len(slow), "peers who send a byte a second are still there")
    must(time.monotonic() - began > 8, "they were ended too early")
    said(scene.site, "jobs")


CASES = (crowd, reads, beginnings, pulls, changes, logs, who_may, bad_words, one_line, completed)


if __name__ == "__main__":
    with Lab("look") as lab:
        lab.network()
        cases.run(lab, CASES, alone=(collects, flat), side_by_side=4, limit=200)
    tap.done()
