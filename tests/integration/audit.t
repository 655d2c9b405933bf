#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The audit record of a real agent: what is in it and what never is, its head at the control plane, each way of tampering named, and no trouble of the
record that stops a job."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, binary, wait_for  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from sealed import deprovisioned, holds, provisioned, value  # noqa: E402
from world import new_id, payload, spec  # noqa: E402

ZEROS = "0" * 64


def audit(site, *words, want=0):
    """What `molecule-agentctl audit …` printed; it must end with `want`."""
    done = subprocess.run([binary("molecule-agentctl"), "audit", *words], env=site.agent.environment(), capture_output=True, text=True, timeout=60,
                          check=False, stdin=subprocess.DEVNULL)
    same(done.returncode, want, f"{words}: {done.stdout}{done.stderr}")
    return done.stdout or done.stderr


def steer(site, *words, want=0):
    done = subprocess.run([binary("molecule-agentctl"), *words], env=site.agent.environment(), capture_output=True, text=True, timeout=60, check=False)
    same(done.returncode, want, f"{words}: {done.stdout}{done.stderr}")


def lines(site):
    """The record's lines, checked here by what docs/security.md says of them and by nothing of the agent's; and as objects."""
    kept = b""
    for name in ("audit.1", "audit"):
        if os.path.exists(f"{site.agent.state}/{name}"):
            with open(f"{site.agent.state}/{name}", "rb") as file:
                kept += file.read()
    found, before = [], None
    for line in kept.splitlines():
        entry = json.loads(line)
        same(hashlib.blake2b(line[:-75], digest_size=32).hexdigest(), entry["hash"], line)
        if before or entry["seq"] == 1:
            same((entry["seq"], entry["prev"]), (before["seq"] + 1, before["hash"]) if before else (1, ZEROS), line)
        found.append(entry)
        before = entry
    return found


def head(entry):
    return f"{entry['seq']}:{entry['hash']}"


def told(site):
    """The head that the control plane has, once it is the file's last."""
    return wait_for(lambda: (lambda last, had: had == last and had)(head(lines(site)[-1]), site.health()["agent"]["audit_head"]), 30,
                    "the newest head at the control plane", 0.2)


def of(site, kind, **fields):
    return [e for e in lines(site) if e["kind"] == kind and all(e.get(name) == want for name, want in fields.items())]


# --- what is in it ----------------------------------------------------------------------------------------------------------------------

def whole_record(stage):
    """jobs, sealed generations, settings, local changes: each has its entry, none has a value, and the head is at the control plane"""
    scene = Scene(stage)
    site, hush = scene.site, {"DEMO_BOX": value("box"), "DEMO_LONG": value("long")}
    workspace, report = provisioned(site, hush=hush, image_ref=scene.good, env={"DEMO_API_KEY": value("env"), "DEMO_PLAIN": "a-plain-value-of-env"})
    jobs = of(site, "job", workspace_id=workspace)
    same([(e["job_id"], e["type"], e["state"], e["generation"], e["source"]) for e in jobs],
         [(report["job_id"], "workspace.provision", state, "1", "job") for state in ("accepted", "succeeded")])
    same([(e["generation"], e["count"]) for e in of(site, "secrets", workspace_id=workspace)], [("1", 3)])
    provisioned(site, workspace, hush={"DEMO_BOX": value("later")}, image_ref=scene.good)
    same([(e["generation"], e["count"]) for e in of(site, "secrets", workspace_id=workspace)], [("1", 3), ("2", 1)])
    refused, _ = scene.provision("registry.example/no-digest", "refused", "image_ref_not_pinned")
    same([(e["state"], e["code"]) for e in of(site, "job", workspace_id=refused)], [("refused", "image_ref_not_pinned")])

    steer(site, "hold", workspace, "--for", "2h", "--reason", "a look \"by\" hand\n{}")
    steer(site, "release", workspace, "--reason", "seen")
    steer(site, "restart", new_id(), "--reason", "a try", want=1)
    steer(site, "sync")
    local = of(site, "local")
    same([(e["verb"], e["uid"], e["reason"], e.get("workspace_id") == workspace, e.get("seconds"), e["code"]) for e in local],
         [("hold", 0, "a look \"by\" hand\n{}", True, 7200, None), ("release", 0, "seen", True, None, None),
          ("restart", 0, "a try", False, None, None), ("restart", 0, "a try", False, None, "unknown_workspace")])
    with open("/proc/self/loginuid") as file:
        claimed = {"loginuid": file.read(), "executable": os.path.realpath(binary("molecule-agentctl"))}
    same(local[0]["claimed"], claimed)

    first = of(site, "config")
    same((len(first), "cp_url" in first[0]["changed"], "network" in first[0]["changed"]), (1, True, False))
    site.agent.settings |= {"probe_path": "/a-new-probe-path", "gc_high_percent": "91"}
    site.agent.write()
    site.agent.kill(signal.SIGHUP)
    wait_for(lambda: len(of(site, "config")) == 2, 20, "the changed settings")
    site.agent.restart()                                    # nothing else changes: nothing to say
    site.agent.settings["stop_timeout_seconds"] = "3"
    site.agent.restart()
    same([sorted(e["changed"]) for e in of(site, "config")[1:]], [["gc_high_percent", "probe_path"], ["stop_timeout_seconds"]])
    same(len({e["hash_of_all"] for e in of(site, "config")}), 3)
    with open(f"{site.agent.state}/config.good", "rb") as file:
        same(of(site, "config")[-1]["hash_of_all"], hashlib.blake2b(file.read(), digest_size=32).hexdigest(), "the hash of config.good")

    newest = told(site)
    must("One chain" in audit(site, "verify", "--head", newest), "verify")
    found = json.loads(audit(site, "verify", "--json", "--head", newest))
    same((found["ok"], found["head"], found["entries"], found["lost"], found["file"]), (True, newest, len(lines(site)), 0, None))
    same([json.loads(line) for line in audit(site, "export").splitlines()], lines(site), "export")
    same(audit(site, "export", "--json"), audit(site, "export"), "it is JSON with and without")
    since = lines(site)[-3]["at"]
    same([json.loads(line)["seq"] for line in audit(site, "export", "--since", since).splitlines()], [e["seq"] for e in lines(site) if e["at"] >= since])
    same(holds(f"{site.agent.state}/audit", *hush.values(), "hush-", "DEMO_", "a-plain-value", "a-new-probe-path", site.plane.org_id, "secrets{"), [])
    same(os.stat(f"{site.agent.state}/audit").st_mode & 0o777, 0o600)
    site.agent.stop()
    must("One chain" in audit(site, "verify", "--head", newest), "without the daemon")


def repeats(stage):
    """a job that is delivered again, an agent that is killed: no outcome is written down twice"""
    scene = Scene(stage)
    workspace, report = scene.provision(scene.good)
    told(scene.site)
    for _ in range(3):
        scene.restart()
        told(scene.site)
    same(len(of(scene.site, "job", workspace_id=workspace)), 2)
    again, path = new_id(), f"{scene.site.where}/job.json"
    with open(path, "w") as file:
        json.dump(payload(scene.site, again, 1, spec=spec(image_ref=scene.good, probe=QUICK)), file)
    for _ in range(3):                                      # from the second on it is told its outcome
        steer(scene.site, "apply", path, "--wait")
    same([e["state"] for e in of(scene.site, "job", workspace_id=again)], ["accepted", "succeeded"])
    same([(e["uid"], e["workspace_id"], e["reason"]) for e in of(scene.site, "local", verb="apply")], [(0, again, None)] * 3)
    must(of(scene.site, "local", verb="apply")[0]["seq"] < of(scene.site, "job", workspace_id=again)[0]["seq"], "made first, and recorded then")
    steer(scene.site, "apply", path, "--reason", "a ünlucky & 100% \"day\"")
    same([(e["reason"], e["job_id"]) for e in of(scene.site, "local", verb="apply")[3:]],
         [("a ünlucky & 100% \"day\"", of(scene.site, "job", workspace_id=again)[0]["job_id"])])
    steer(scene.site, "apply", path, "--reason", "x" * 513, want=2)
    steer(scene.site, "apply", path, "--dry-run")
    same(len(of(scene.site, "local")), 4, "a dry run changes nothing")
    deprovisioned(scene.site, workspace, True)
    same([e["state"] for e in of(scene.site, "job", type="workspace.deprovision")], ["accepted", "succeeded"])
    audit(scene.site, "verify", "--head", told(scene.site))


def post(site, path, body):
    link = http.client.HTTPConnection("localhost")
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(f"{site.agent.runtime}/control.sock")
    link.request("POST", path, json.dumps(body))
    answer = link.getresponse()
    text = json.loads(answer.read())
    link.close()
    return answer.status, text


def claims(stage):
    """what a client says of itself is bounded, printable, and marked as claimed; one that says nothing is written down as that"""
    scene = Scene(stage)
    for given, want in (({}, (None, None)), ({"Loginuid": "1000", "Executable": "/usr/bin/" + "x" * 600}, ("1000", "/usr/bin/" + "x" * 246)),
                        ({"Loginuid": "a\tb", "Executable": "\"},\"kind\":\"forged\\"}, ("a?b", "\"},\"kind\":\"forged\\"))):
        link = http.client.HTTPConnection("localhost")
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(f"{scene.site.agent.runtime}/control.sock")
        link.request("POST", "/v1/undrain", "{}", {f"X-Molecule-Claimed-{name}": text for name, text in given.items()})
        same(link.getresponse().status, 200)
        link.close()
        last = of(scene.site, "local")[-1]
        same((last["verb"], last["uid"], last["claimed"]["loginuid"], last["claimed"]["executable"]), ("undrain", 0, *want))
    audit(scene.site, "verify")


def noted(site):
    return [(e["verb"], e["uid"], e["reason"], e["claimed"]["executable"]) for e in of(site, "local")]


def by_hand(stage):
    """what the tool changes by itself is recorded before it is made, through the agent or, where none runs, straight; and a hold file that comes and goes"""
    scene = Scene(stage)
    site, tool = scene.site, os.path.realpath(binary("molecule-agentctl"))
    for words in (("secrets", "rotate-root", "--no-restart"), ("secrets", "rm-orphans"), ("identity", "reset"), ("identity", "remove-foreign")):
        done = subprocess.run([tool, *words], env=site.agent.environment(), capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        must(done.returncode == 2 and "--reason TEXT" in done.stderr, f"{words}: {done.returncode} {done.stderr}")
    steer(site, "secrets", "rotate-host-key", "--reason", "x" * 513, want=2)
    same(noted(site), [], "what was refused before it began")
    steer(site, "secrets", "rotate-host-key", "--no-reload", "--reason", "the \"yearly\" one\n")
    steer(site, "secrets", "rotate-root", "--no-restart", "--credstore", f"{site.where}/none", "--reason", "a leaver", want=75)
    same(noted(site), [("secrets rotate-host-key", 0, "the \"yearly\" one?", tool), ("secrets rotate-root", 0, "a leaver", tool)])
    for body in ({"verb": "hold"}, {"verb": "enroll", "code": "x"}, {}, {"verb": "enroll", "reason": "y" * 513}):
        must(post(site, "/v1/note", body)[0] in (400, 413), body)
    same(post(site, "/v1/note", {"verb": "credentials set"})[0], 200)
    same(noted(site)[2:], [("credentials set", 0, None, None)])

    file = f"{os.path.dirname(site.agent.config)}/hold"
    for there in (True, False, True):
        if there:
            with open(f"{file}.new", "w"):
                os.chown(f"{file}.new", 12345, 0)
            os.rename(f"{file}.new", file)
        else:
            os.unlink(file)
        wait_for(lambda: [e["there"] for e in of(site, "hold_file")][-1:] == [there], 20, f"the hold file: {there}")
    os.unlink(file)
    wait_for(lambda: len(of(site, "hold_file")) == 4, 20, "the end of the hold file")
    same([(e["there"], e.get("uid")) for e in of(site, "hold_file")][:3], [(True, 12345), (False, None), (True, 12345)])

    site.agent.stop()
    os.chown(site.agent.state, 65534, 65534)                # as it is where the agent has a user of its own
    for top, _, names in os.walk(site.agent.state):
        for each in (top, *(f"{top}/{name}" for name in names)):
            os.chown(each, 65534, 65534)
    count, host = len(lines(site)), scene.site.host()["host_id"]
    steer(site, "secrets", "rm-orphans", "--reason", "tidy")
    same((len(lines(site)), noted(site)[3:]), (count + 1, [("secrets rm-orphans", 0, "tidy", tool)]))
    steer(site, "identity", "reset", "--force", "--reason", "another host now")
    same([e["kind"] for e in lines(site)], ["begun", "local"])
    same(noted(site), [("identity reset", 0, "another host now", tool)])
    must("missing" not in lines(site)[0], "it went with the identity, and is not missing")
    steer(site, "identity", "adopt", host, "--reason", "it was not")
    same(noted(site)[3:], [("secrets rm-orphans", 0, "tidy", tool), ("identity reset", 0, "another host now", tool), ("identity adopt", 0, "it was not", tool)])
    audit(site, "verify")
    same({os.stat(f"{site.agent.state}/{name}").st_uid for name in ("audit", "audit.lost")}, {65534}, "it is to be the agent's")
    for top, _, names in os.walk(site.agent.state):
        for each in (top, *(f"{top}/{name}" for name in names)):
            os.chown(each, 0, 0)
    site.agent.start()
    told(site)
    audit(site, "verify")


# --- tampering --------------------------------------------------------------------------------------------------------------------------

def tampering(stage):
    """a byte, a line, the order, the end, the whole: verify names the link, and against the head at the control plane nothing passes"""
    scene = Scene(stage)
    site, path = scene.site, f"{scene.site.agent.state}/audit"
    for number in range(4):
        steer(site, "hold", "--reason", f"number {number}")
    newest = told(site)
    site.agent.stop()
    with open(path, "rb") as file:
        good = file.read().splitlines(keepends=True)
    must(len(good) >= 6, f"{len(good)} entries")

    def broken(content, place, words, *more):
        with open(path, "wb") as file:
            file.write(b"".join(content))
        text = audit(site, "verify", *more, want=1)
        must(text.startswith(place) and re.search(words, text), f"{place} {words}: {text}")
        return json.loads(audit(site, "verify", "--json", *more, want=1))

    at = next(number for number, line in enumerate(good) if b"number 1" in line)
    found = broken([line.replace(b"number 1", b"number 7") for line in good], f"audit, line {at + 1}: ", "changed")
    same((found["ok"], found["file"], found["line"]), (False, "audit", at + 1))
    found = broken(good[:at] + good[at + 1:], f"audit, line {at + 1}, entry {at + 2}: ", "taken out")
    same((found["file"], found["line"], found["seq"]), ("audit", at + 1, at + 2))
    broken(good[:at] + [good[at + 1], good[at]] + good[at + 2:], f"audit, line {at + 1}, entry {at + 2}: ", "moved")
    broken([*good[:-1], good[-1][:-10]], f"audit, line {len(good)}: ", "no end")
    with open(path, "wb") as file:
        file.write(b"".join(good[:-2]))
    audit(site, "verify")                                   # the chain alone does not see this
    broken(good[:-2], "The record ends with", "cut off", "--head", newest)
    os.unlink(path)
    must("no audit record" in audit(site, "verify", want=1), "gone")
    site.agent.start()                                      # begins anew, and says so by its number
    steer(site, "hold", "--reason", "another one")
    must("not there any more" in audit(site, "verify"), "that there was one is forgotten")
    same((lines(site)[0]["kind"], lines(site)[0]["missing"]), ("begun", True))
    must(site.agent.lines("The audit record is not there"), "the log does not say it")
    must(re.search("ends with entry|not the one that was told", audit(site, "verify", "--head", newest, want=1)), "a new record passes for the old one")
    for words in (("verify", "--head", "1"), ("verify", "x"), (), ("paint",), ("export", "--since", "today")):
        audit(site, *words, want=2)


def tampering_at_work(stage):
    """under the running agent: its own head and its next entry show it; after a restart the broken record is evidence, and the new one says so"""
    scene = Scene(stage)
    site, path = scene.site, f"{scene.site.agent.state}/audit"
    for number in range(3):
        steer(site, "hold", "--reason", f"number {number}")
    good = lines(site)
    with open(path, "rb+") as file:
        file.truncate(len(b"".join(file.read().splitlines(keepends=True)[:-1])))
    must("cut off" in audit(site, "verify", want=1), "the agent knows a newer head")
    steer(site, "release")
    must(f"line {len(good)}, entry {len(good) + 1}: " in audit(site, "verify", want=1), "the link is not named")
    with open(path, "rb+") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    scene.restart()
    must(scene.site.agent.lines("The audit record is broken"), "the log does not say it")
    entries = lines(site)
    same((entries[0]["kind"], entries[0]["seq"]), ("begun", 1))
    must(os.path.exists(f"{site.agent.state}/quarantine/{entries[0]['set_aside']}"), "where is the evidence?")
    must("quarantine/audit-" in audit(site, "verify"), "verify does not say it")
    newest = told(site)
    os.unlink(path)                                         # what is recorded next is not written into a file without a name
    for number in range(3):
        steer(site, "hold", "--reason", f"after {number}")
    same([e["kind"] for e in lines(site)], ["begun", *["local"] * 3])
    same(json.loads(audit(site, "verify", "--json"))["missing"], True)
    must("running agent's newest entry is in it" in audit(site, "verify"), "whose head it is")
    audit(site, "verify", "--head", newest, want=1)
    told(site)


# --- rotation, trouble ------------------------------------------------------------------------------------------------------------------

def rotation(stage):
    """audit_max_bytes: one old file is kept, the chain goes on through it, and a size below the least is refused"""
    scene = Scene(stage, audit_max_bytes="64K")
    site = scene.site
    for number in range(300):
        steer(site, "hold", "--reason", f"{number} " + "x" * 480)
        if number % 100 == 99:
            audit(site, "verify")
    sizes = [os.path.getsize(f"{site.agent.state}/{name}") for name in ("audit", "audit.1")]
    must(max(sizes) <= 64 << 10 and sizes[1] > 60 << 10, sizes)
    found = json.loads(audit(site, "verify", "--json", "--head", told(site)))
    must(found["ok"] and found["first_seq"] > 100, found)
    same(len(lines(site)), found["entries"])
    site.agent.settings["audit_max_bytes"] = "1K"
    site.agent.write()
    code, text = site.agent.run("--check")
    must(code == 78 and "audit_max_bytes is out of range" in text, f"{code} {text}")


def trouble(stage):
    """a record that cannot be written stops no job: health says state_degraded, and the entry that follows says how many are missing"""
    scene = Scene(stage)
    site, path = scene.site, f"{scene.site.agent.state}/audit"
    before = told(site)
    site.agent.stop()
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        site.agent.start()
        workspace, _ = scene.provision(scene.good)
        same(scene.page(workspace), "one")
        wait_for(lambda: scene.health()["agent"]["degraded"] == ["state_degraded"], 20, "state_degraded in health")
        same(scene.health()["agent"]["audit_head"], None)
        same(len(site.agent.lines("is not recorded, and goes on")), 1, "said once")
    finally:
        subprocess.run(["umount", "-l", path], check=True)
    wait_for(lambda: scene.health()["agent"]["degraded"] == [], 100, "the end of state_degraded, with nothing to record")
    gap = of(site, "gap")
    same((len(gap), gap[0]["lost"] >= 2), (1, True), gap)
    must("could not be written" in audit(site, "verify", "--head", before), "verify does not say it")
    must(site.agent.lines("is recorded again"), "the log does not say it")
    told(site)


CASES = (rotation, whole_record, repeats, trouble, by_hand, tampering, tampering_at_work, claims)

if __name__ == "__main__":
    with Lab("audit") as lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, side_by_side=4, limit=200)
    tap.done()
