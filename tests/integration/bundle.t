#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl bundle: all that somebody far away needs, and no value of a secret, wherever and however it was printed."""

import base64
import json
import os
import subprocess
import sys
import tarfile
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from hand import as_nobody, tool  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from scene import Scene  # noqa: E402
from sealed import provisioned, value  # noqa: E402
from world import new_id  # noqa: E402


def bundle(site, *words, want=0):
    """What it holds, {name: bytes}; with another status wanted, what it said."""
    path = f"{site.where}/bundle-{new_id()}.tar.zst"
    code, text = tool(site, "bundle", "--output", path, *words)
    same(code, want, text)
    must(os.path.exists(path) == (want == 0), f"{code}, and the file is there: {os.path.exists(path)}")
    if want:
        return text
    same(os.stat(path).st_mode & 0o777, 0o600)
    plain = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    with open(path + ".tar", "wb") as file:
        file.write(plain)
    with tarfile.open(path + ".tar") as archive:
        return {member.name.split("/", 1)[1]: archive.extractfile(member).read() for member in archive if member.isfile()}


def whole(stage):
    """status, records, settings, the audit, inspects and a timeline for each workspace; nothing that is sealed, no environment"""
    scene = Scene(stage)
    hush = {"DEMO_BOX": value("box")}
    workspace, report = provisioned(scene.site, hush=hush, image_ref=scene.good, env={"DEMO_PLAIN": "a-plain-value-of-env"})
    found = bundle(scene.site)
    manifest = json.loads(found["manifest.json"])
    same(sorted(manifest["parts"] + ["manifest.json"]), sorted(found))
    for name in ("status.json", "workspaces.json", "jobs.json", "pins.json", "images.json", "df.json", "config.txt", "engine.json", "audit.jsonl", "journal.txt",
                 "records/identity", f"records/ws/{workspace}", f"timeline/{workspace}.txt"):
        must(name in found, f"{name} is not in {sorted(found)}")
    timeline = found[f"timeline/{workspace}.txt"].decode()
    must(f"job {report['job_id']} workspace.provision succeeded" in timeline and "the container started (exit 0, restarts 0)" in timeline, timeline)
    same(timeline.splitlines(), sorted(timeline.splitlines()), "the order of time")
    seen = json.loads(found["engine.json"])[workspace]
    same((seen["State"]["Status"], seen["Config"]), ("running", {"Image": seen["Config"]["Image"], "User": seen["Config"]["User"]}), "an inspect in full")
    everything = b"\0".join(found.values())
    for words in (value("box"), "a-plain-value-of-env", "DEMO_PLAIN="):
        must(words.encode() not in everything, f"{words} is in it")
    same([name for name in found if ".g" in name or "seal" in name.replace("config.txt", "")], [], "sealed files")
    code, text = as_nobody(scene.site, "bundle", group=0)
    must(code == 6 and "root" in text, f"{code} {text}")
    for words in (("x",), ("--paint",), ("--without",)):
        same(tool(scene.site, "bundle", *words)[0], 2, words)
    taken = f"{scene.site.where}/taken"
    with open(taken, "w") as file:
        file.write("mine")
    code, text = tool(scene.site, "bundle", "--output", taken)
    must(code == 1 and "exists" in text and open(taken).read() == "mine", f"{code} {text}")
    scene.site.agent.stop()
    alone = bundle(scene.site)
    must(f"records/ws/{workspace}" in alone and "status.json" not in alone, sorted(alone))
    must(any(words.startswith("status.json: The agent does not run") for words in json.loads(alone["manifest.json"])["missing"]), alone["manifest.json"])


def leaks(stage):
    """a value that somebody printed, in clear, in JSON, in base64 or in a URL: nothing is written, and its name is told, never itself"""
    box = "pa/ss \"word\" %é-" + new_id()
    key = "-----BEGIN KEY-----\n" + "\n".join(base64.b64encode(os.urandom(33)).decode() for _ in range(3)) + "\n-----END KEY-----\n"
    raw, line = box.encode(), value("line")
    scene = Scene(stage)
    workspace, _ = provisioned(scene.site, hush={"DEMO_BOX": box, "DEMO_KEY": key, "DEMO_LINE": line + "\"\n", "DEMO_SIX": "s1x%te"},
                               image_ref=scene.good)
    must("status.json" in bundle(scene.site), "clean")
    left_out = ("--without", "status", "--without", "audit", "--without", "records/host")
    for name, words in (("DEMO_BOX", box), ("DEMO_BOX", base64.b64encode(b"user:" + raw).decode()),
                        ("DEMO_BOX", base64.urlsafe_b64encode(b"xy" + raw + b"?").decode()), ("DEMO_BOX", "?q=" + urllib.parse.quote(raw, safe="")),
                        ("DEMO_BOX", "?q=" + urllib.parse.quote(raw, safe="").replace("%2F", "%2f").lower()), ("DEMO_BOX", "?q=" + urllib.parse.quote(raw)),
                        ("DEMO_BOX", "?q=" + urllib.parse.quote_plus(raw)), ("DEMO_KEY", "a line: " + key.splitlines()[2]), ("DEMO_KEY", key),
                        ("DEMO_LINE", line + "\""), ("DEMO_SIX", base64.b64encode(b"xys1x%te").decode())):
        same(tool(scene.site, "hold", "--reason", words)[0], 0)
        text = bundle(scene.site, want=6)
        must(f"status.json holds the value of {name} of workspace {workspace}" in text and "Nothing is written" in text, f"{words}: {text}")
        must(words not in text and box not in text, "it is printed")
    bundle(scene.site, "--without", "status", want=6)               # the audit and the record of the host have it, too
    left = bundle(scene.site, *left_out)
    must("status.json" not in left and "jobs.json" in left, sorted(left))
    same(tool(scene.site, "release")[0], 0)


def credentials(stage):
    """the two credentials are looked for, too; and where what is sealed cannot be opened, nothing is written"""
    scene = Scene(stage)
    workspace, _ = provisioned(scene.site, hush={"DEMO_BOX": value("box")}, image_ref=scene.good)
    with open(f"{scene.site.agent.where}/credentials/admin-token") as file:
        token = file.read().strip()
    same(tool(scene.site, "hold", workspace, "--reason", f"curl -H {token}")[0], 0)
    text = bundle(scene.site, want=6)
    must("the admin token" in text and token not in text, text)
    same(tool(scene.site, "release", workspace)[0], 0)
    left_out = ("--without", "status", "--without", "audit", "--without", "records/host")
    must("jobs.json" in bundle(scene.site, *left_out), "nothing is wrong any more")
    environment, scene.site.agent.environment = scene.site.agent.environment, lambda extra=None: environment(extra) | {"CREDENTIALS_DIRECTORY": "/nonexistent"}
    text = bundle(scene.site, *left_out, want=1)
    must("The credential admin-token cannot be had" in text, text)
    scene.site.agent.environment = environment
    folder = f"{scene.site.agent.state}/sealed/{workspace}"
    sets = [name for name in os.listdir(folder) if os.path.isdir(f"{folder}/{name}")]
    damaged = wait_for(lambda: next((os.path.join(at, name) for at, _, names in os.walk(f"{folder}/{sets[0]}") for name in names), None), 5, "a sealed file")
    with open(damaged, "r+b") as file:
        file.seek(40)
        file.write(b"damage")
    text = bundle(scene.site, *left_out, want=1)
    must("cannot be opened" in text and workspace in text, text)


def a_young_host(stage):
    """a host that was never enrolled has nothing sealed: its bundle is written; a proxy's password is not in it"""
    site = stage.site(start=False, cp_url=None, proxy="http://user:a-proxy-password@127.0.0.1:9")
    site.agent.start()
    wait_for(lambda: tool(site, "status")[0] == 4, 20, "an agent that says that it is not enrolled")
    found = bundle(site)
    must("proxy = http://***@127.0.0.1:9" in found["config.txt"].decode(), found["config.txt"].decode())
    must(b"a-proxy-password" not in b"".join(found.values()), "the proxy's password is in it")


CASES = (whole, leaks, credentials, a_young_host)

if __name__ == "__main__":
    with Lab("bundle") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=3, limit=200)
    tap.done()
