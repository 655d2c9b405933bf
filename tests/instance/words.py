# SPDX-License-Identifier: Apache-2.0
"""What a host says where systemd and its journal are: events with their explanations, a bundle with both, metrics out of the sandbox."""

import io
import json
import os
import re
import subprocess
import tarfile

from boot import work
from cases import must, same
from instance import STATE
from lab import TREE
from proc import wait_for

PROM = "/run/molecule-agent/molecule-agent.prom"


def event_ids():
    """{name: MESSAGE_ID}, as the source has them"""
    with open(f"{TREE}/base/log.h") as file:
        return dict(re.findall(r'X\(([A-Z_]+), "([0-9a-f]{32})"\)', file.read()))


def events_of(host, field, value):
    """{MESSAGE_ID: entry} of the agent's journal"""
    text = host.out("journalctl", "--no-pager", "--output=json", "--unit", "molecule-agentd", f"{field}={value}")
    return {entry["MESSAGE_ID"]: entry for entry in map(json.loads, text.splitlines()) if "MESSAGE_ID" in entry}


def unpacked(host):
    text = host.out("molecule-agentctl", "bundle", "--output", "/root/bundle.tar.zst")
    must("none is in it" in text, text)
    with open(host.path("/root/bundle.tar.zst"), "rb") as file:
        plain = subprocess.run(["zstd", "-dcq"], input=file.read(), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        return {member.name.split("/", 1)[1]: archive.extractfile(member).read().decode() for member in archive if member.isfile()}


def journal_and_bundle(stage):
    """the journal has an id for each event and explains it; a bundle has the journal and a timeline; a textfile comes out of the sandbox"""
    host = stage.instance(stage.golden)
    host.conf(textfile_path=PROM)
    host.boot()
    host.active("docker")
    same(host.enroll(stage.plane)[0], 0)
    host.host()
    workspace, value = work(stage, host)
    ids = event_ids()
    wait_for(lambda: ids["JOB_ENDED"] in events_of(host, "MOLECULE_WORKSPACE_ID", workspace), 20, "the end of the job in the journal")
    found = events_of(host, "MOLECULE_WORKSPACE_ID", workspace)
    same({name for name, number in ids.items() if number in found}, {"JOB_ACCEPTED", "JOB_STAGE", "JOB_ENDED"})
    same(found[ids["JOB_ENDED"]]["MESSAGE"], "Job workspace.provision succeeded.")
    must(re.fullmatch(r"[0-9a-f-]{36}", found[ids["JOB_ENDED"]]["MOLECULE_JOB_ID"]), found)
    text = host.out("journalctl", "--no-pager", "--catalog", "--unit", "molecule-agentd", f"MESSAGE_ID={ids['JOB_ACCEPTED']}")
    must(f"Subject: Job {found[ids['JOB_ACCEPTED']]['MOLECULE_JOB_ID']} was accepted" in text, text)

    parts = unpacked(host)
    must("Job workspace.provision succeeded." in parts["journal.txt"], parts["journal.txt"])
    for words in ("Job workspace.provision accepted", "workspace.provision succeeded: Done and verified.", "the container started (exit 0"):
        must(words in parts[f"timeline/{workspace}.txt"], parts[f"timeline/{workspace}.txt"])
    same(json.loads(parts["manifest.json"])["missing"], [])
    same([name for name, text in parts.items() if value in text or stage.plane.admin_token in text], [], "a value is in it")

    seen = wait_for(lambda: host.run("cat", PROM, check=False)[0] == 0 and host.out("stat", "--format=%a %U", PROM), 40, "the textfile")
    same(seen, "644 molecule-agent")
    wait_for(lambda: 'molecule_agent_workspaces{status="online"} 1' in host.out("cat", PROM).splitlines(), 40, "the workspace in the textfile")
    must(os.path.exists(host.path(f"{STATE}/audit")), "no audit record")
    same(host.run("molecule-agentctl", "audit", "verify")[0], 0)


CASES = (journal_and_bundle,)
