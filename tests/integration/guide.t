#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Somebody who has only docs/guide.md: what it names for a symptom are the commands that are run here, against the real trouble, and the cause is in what they
print. The sessions are docs/transcripts.md, to the byte; MOLECULE_WRITE_TRANSCRIPTS=1 writes it."""

import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from hand import ask, tool  # noqa: E402
from lab import TREE, Lab, wait_for  # noqa: E402
from proc import at_end  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from transcript import Session  # noqa: E402
from world import new_id, spec  # noqa: E402

DISK, FREE, KEPT = 400 << 20, 60 << 20, 100 << 20
SYNCHRONISED = "#include <sys/timex.h>\nint adjtimex(struct timex *t) { t->status = 0; return TIME_OK; }\n"
HEAD = """# Transcripts

What somebody sees who knows nothing of this agent and goes by the [guide](guide.md#troubleshoot): the cause in at most three commands. Recorded by
`tests/integration/guide.t`, which makes each trouble on a real host and runs the commands that the guide names; ids, times, sizes and addresses are always the
same here. It fails when a page and the host do not agree; `MOLECULE_WRITE_TRANSCRIPTS=1` records anew.
"""
written = {}


def page(name):
    with open(f"{TREE}/{name}", encoding="utf-8") as file:
        return file.read()


def section(title):
    """What the guide says below the heading of that title."""
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", page("docs/guide.md"), re.M | re.S)
    must(found, f"the guide has no heading '{title}'")
    return found.group(1)


def commands(title):
    """The commands of the section's first block."""
    block = re.search(r"^```console\n(.*?)^```", section(title), re.M | re.S)
    must(block, f"no commands below '{title}'")
    named = [line.removeprefix("# ") for line in block.group(1).splitlines()]
    must(1 <= len(named) <= 3 and named[0] == "molecule-agentctl status", f"not three at most, status first: {named}")
    return named


def session_of(stage, site):
    return Session(site, {stage.registry.address: "registry.example.com", f"127.0.0.1:{(site.cp or site.plane).port}": "cp.example.com",
                          f"{stage.engine.where}/data": "/var/lib/docker"})


def record(stage, site, title, what, words, workspace="", ready=lambda: True):
    """Runs what the guide names; words: what has to be in the answers, by command. ready: waited for before."""
    session = session_of(stage, site)
    wait_for(ready, 40, f"what is to be seen of '{title}'", 0.2)
    for command in commands(title):
        session.run(command.replace("WORKSPACE", workspace[:8]).replace("cp.example.com", f"127.0.0.1:{(site.cp or site.plane).port}"))
    for raw, wanted in zip(session.raw, words, strict=True):
        for word in wanted:
            must(word in raw, f"'{word}' is not in:\n{raw}")
    written[title] = f"## {title}\n\n{what} [In the guide.](guide.md#{anchor(title)})\n\n```console\n{session.text.rstrip()}\n```\n"


def anchor(title):
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def status_of(scene):
    return ask(scene.site, "GET", "/v1/status")[1]


def of_status(scene, workspace):
    return next((w for w in status_of(scene)["workspaces"] if w["workspace_id"] == workspace), {})


# --- the causes -------------------------------------------------------------------------------------------------------------------------

def well(stage):
    """a host that is well: the session in the README"""
    scene = Scene(stage)
    scene.plane.pin("langgraph", scene.good)
    workspace, _ = scene.provision(None)
    wait_for(lambda: of_status(scene, workspace).get("restart_count") is not None and not status_of(scene)["control"]["error"], 20, "all well")
    session = session_of(stage, scene.site)
    for command in ("status", "workspaces", "jobs", f"inspect {workspace[:8]}"):
        same(session.run(f"molecule-agentctl {command}"), 0, command)
    written["well"] = f"```console\n{session.text.rstrip()}\n```\n"
    must("HEALTHY: 1 workspace, none down; CP answers; held: no" in session.text, session.text)


def image_gone(stage):
    """image gone: its registry has it no more, nor has the host"""
    scene = Scene(stage)
    image = stage.image("ok", page=f"gone-{time.monotonic_ns()}")
    scene.plane.pin("langgraph", image)
    name, digest = image.split("/", 1)[1].split("@")
    same(stage.registry.ask("DELETE", f"/v2/{name}/manifests/{digest}")[0], 202)
    workspace, _ = scene.provision(None, "failed", "image_not_found")
    record(stage, scene.site, "`image_not_found`: the image is gone",
           "The digest that the pin names was deleted from the registry before the host had it.",
           (["1 of 1 workspace down", "image_not_found"], ["The registry does not have that digest.", digest], [digest[7:19], "langgraph"]), workspace)


def disk_full(stage):
    """disk full: less is free than has to stay free"""
    scene = Scene(stage, min_free_bytes=str(KEPT), gc_high_percent="99", gc_low_percent="98")
    image = stage.image("ok", page="full", filler=os.urandom(1 << 20))
    data, volume = f"{stage.engine.where}/data", os.statvfs(f"{stage.engine.where}/data")
    with open(f"{data}/filler", "wb") as file:
        file.write(bytes(volume.f_bavail * volume.f_frsize - FREE))
    workspace, _ = scene.provision(image, "failed", "no_space", image_size_bytes=str(8 << 20))
    record(stage, scene.site, "`no_space`: the disk is full", "Somebody's files have filled the engine's disk.",
           (["1 of 1 workspace down", "no_space", "min_free_bytes keeps"], ["engine", "are kept free on the engine's"], ["0 would be removed."]), workspace)


def crash_loop(stage):
    """crash loop: its process ends as soon as it is started"""
    scene = Scene(stage)
    workspace, _ = scene.provision(stage.image("crash"), "failed", "crash_loop")
    record(stage, scene.site, "`crash_loop`: its process keeps ending", "The image's program ends with an error, each time it is started.",
           (["1 of 1 workspace down", "crash_loop", "exit code 3"], ["cannot go on"], ["crash_loop", "(came to nothing)"]), workspace)


def clock_that_is_right(stage):
    """A library that makes the agent's host one whose clock is synchronised: this machine's may not be, and then it is the clock that is suspected."""
    path = f"{stage.where}/synchronised"
    with open(f"{path}.c", "w", encoding="ascii") as file:
        file.write(SYNCHRONISED)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", f"{path}.so", f"{path}.c"], check=True)
    return {"LD_PRELOAD": f"{path}.so"}


def certificate_expired(stage):
    """CP certificate expired: a workspace that was ordered never comes"""
    scene = Scene(stage, plane_proxy=True)
    scene.provision(scene.good)
    scene.site.agent.stop()
    scene.site.cp.certify(*scene.plane.authority.issue("old", days=0))
    scene.order("workspace.provision", new_id(), spec=spec(image_ref=scene.good, probe=QUICK))
    scene.site.agent.start(env=clock_that_is_right(stage))
    record(stage, scene.site, "`control_plane_unreachable`: nothing comes from the control plane",
           "The control plane's certificate has expired; what runs runs on, and a workspace that was ordered since does not come.",
           (["1 workspace, none down; no CP for", "certificate has expired"], ["Check network, DNS, proxy and TLS"], ["notAfter="]),
           ready=lambda: status_of(scene)["control"].get("next_try_seconds", 0) > 2)


def held_and_forgotten(stage):
    """held and forgotten: it was stopped by hand, under a hold that nobody ended"""
    scene = Scene(stage)
    workspace, _ = scene.provision(scene.good)
    same(tool(scene.site, "hold", workspace, "--reason", "looking at it by hand, Jo")[0], 0)
    stage.docker("POST", f"/containers/ws-{workspace}/stop", t=1)
    scene.end("workspace.restart", workspace, "refused", "held")
    record(stage, scene.site, "`held`: somebody holds it, and has forgotten", "Somebody held a workspace, stopped its container, and went home.",
           (["1 of 1 workspace down", "held: looking at it by hand, Jo", f"molecule-agentctl release {workspace}"], ["held"],
            ['"verb":"hold"', "looking at it by hand, Jo", '"loginuid"']), workspace,
           lambda: (of_status(scene, workspace).get("last_error") or {}).get("code") == "stopped_externally")


# --- the control plane's side ------------------------------------------------------------------------------------------------------------

REQUEST = re.compile(r"`(GET|POST|DELETE) (/[^`]*)`(?: `(\{[^`]*\})`)?")
NOT_NOW = ("slug_taken", "roll_in_progress", "no_conflict")     # the request is one, and its time has not come


def tier_of(path):
    return {"tenants": "tenant", "workspaces": "provision", "orgs": None}.get(path.split("/")[1], "admin")


def requests(stage):
    """the guide's requests: each is one that the reference control plane knows, with a body that it takes"""
    scene = Scene(stage)
    scene.plane.pin("hermes", scene.good)
    workspace, report = scene.provision(None, runtime="hermes")
    names = {"HOST": scene.host, "WORKSPACE": workspace, "JOB": report["job_id"], "acme": scene.plane.org_slug, "h1-…": "h1-0123456789abcdef",
             "v7": "two", "sha256:…": scene.good.split("@")[1], '"git_sha":"…"': f'"git_sha":"{"0" * 40}"'}
    guide = page("docs/guide.md")
    jobs = {("POST", "/admin/hosts/HOST/jobs", body) for body in re.findall(r"`(\{\"type\":[^`]*\})`", guide)}
    found = jobs | set(REQUEST.findall(guide))
    found = [f for f in found if f[0] != "POST" or f[2]]                # else the body stands in another place
    found.sort(key=lambda f: (f[0] == "DELETE", "promote" in f[1], not f[1].endswith("/env"), f))
    must(len(found) > 25, f"{len(found)} requests are hardly all of them")
    for method, path, body in found:
        for name, value in names.items():
            path, body = path.replace(name, value), body.replace(name, value)
        status, answer, _ = scene.plane.call(method, path, body.encode() or None, tier=tier_of(path))
        must(status < 300 or answer.get("error") in NOT_NOW, f"{method} {path} {body}: {status} {answer}")


# --- the pages --------------------------------------------------------------------------------------------------------------------------

CASES = (well, requests, image_gone, crash_loop, certificate_expired, held_and_forgotten)


def compare():
    """The whole of docs/transcripts.md, and the README's session; only where every case was run."""
    session = written.pop("well", "")
    fresh = HEAD + "".join(f"\n{written[title]}" for title in sorted(written, key=page("docs/guide.md").index))
    if os.environ.get("MOLECULE_WRITE_TRANSCRIPTS"):
        with open(f"{TREE}/docs/transcripts.md", "w", encoding="utf-8") as file:
            file.write(fresh)
        readme = page("README.md")
        with open(f"{TREE}/README.md", "w", encoding="utf-8") as file:
            file.write(re.sub(r"^```console\n.*?^```\n", lambda _: session, readme, count=1, flags=re.M | re.S))
    tap.is_(page("docs/transcripts.md"), fresh, "docs/transcripts.md is what was seen")
    tap.ok(session and session in page("README.md"), "the README's session is what was seen", session)


def full_lab():
    """A lab whose engine has a small disk of its own; None where none can be mounted."""
    lab = Lab("guide-full")
    data = f"{lab.engine.where}/data"
    os.makedirs(data)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", data], capture_output=True, text=True, check=False)
    at_end(lambda: os.path.ismount(data) and subprocess.run(["umount", "-l", data], check=False))
    return None if done.returncode else lab


def main():
    small = full_lab()
    if not small:
        print("1..0 # SKIP no tmpfs can be mounted here")
        return
    with small:
        cases.run(small, (disk_full,), side_by_side=1, limit=100)
    with Lab("guide") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=3, limit=200)
    if len(written) == 6:
        compare()
    tap.done()


if __name__ == "__main__":
    main()
