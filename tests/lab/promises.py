# SPDX-License-Identifier: Apache-2.0
"""What an agent's state directory must hold at any moment, whatever has happened to the machine: all that the control plane was promised
(devcp's database is the log of that, and lies elsewhere), and whatever the engine already shows. And what it must not hold once all is
quiet. Read as a stranger would, from the bytes."""

import hashlib
import json
import os
import re

from lab import LabError

TOP = {"audit", "audit.lost", "ballast", "boot_epoch", "config.good", "credentials.seal", "identity", "keys", "lock", "outbox", "outcomes", "pins",
       "rescue", "sealed", "tombstones", "ws", "host", "images"}


def record(path):
    """The JSON of a record, None where there is no file; damage is an error."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    head, _, body = data.partition(b"\n")
    words, sealed = head.split(), [b"%d" % len(body), hashlib.blake2b(body, digest_size=16).hexdigest().encode()]
    if len(words) != 5 or words[0] != b"molecule-agent" or words[3:] != sealed:
        raise LabError(f"{path} is damaged: {data[:200]!r}")
    return json.loads(body)


class Memory:
    """The state directory of a site whose agent does not run."""

    def __init__(self, site):
        self.site, self.state = site, site.agent.state
        self.outcomes = {row["job_id"]: row["state"] for row in (record(f"{self.state}/outcomes") or {"outcomes": []})["outcomes"]}
        self.graves = {line.split()[0]: int(line.split()[1]) for line in (record(f"{self.state}/tombstones") or {"tombstones": []})["tombstones"]}
        self.workspaces = {name: record(f"{self.state}/ws/{name}") for name in os.listdir(f"{self.state}/ws") if re.fullmatch(r"[0-9a-f-]{36}", name)}

    def keeps(self):
        """Raises the first promise that was broken."""
        self.epoch()
        for row in self.site.plane.jobs(self.site.host()["host_id"]):
            reports = self.site.plane.job(row["job_id"])["reports"] if row["job_id"] not in self.outcomes else []
            if row["final"]:
                self.final(row)
            elif any(report["state"] == "accepted" for report in reports):
                self.accepted(row)
            if row["final"] or reports:
                self.floor(row)
        for name in os.listdir(f"{self.state}/outbox"):
            if not name.startswith("."):
                self.stored(record(f"{self.state}/outbox/{name}"))
        for container in self.site.lab.engine.containers(**{"molecule.agent.org": self.site.plane.org_id}):
            self.container(container)

    def epoch(self):
        host, here = self.site.host(), record(f"{self.state}/boot_epoch")
        if int(here["boot_epoch"]) < int(host["register"]["boot_epoch"]):
            raise LabError(f"boot_epoch {here} is older than the one it registered with, {host['register']['boot_epoch']}")
        if record(f"{self.state}/identity")["host_id"] != host["host_id"]:
            raise LabError("it does not know who it is")

    def final(self, row):
        if self.outcomes.get(row["job_id"], self.own(row).get("state")) != row["final"]:
            raise LabError(f"devcp was told {row['final']} of job {row['job_id']}, and the disk does not know of it")

    def stored(self, report):
        """What waits to be told is told at the next start, whatever else is known then."""
        if report["state"] in ("succeeded", "failed") and self.outcomes.get(report["job_id"], self.own(report).get("state")) != report["state"]:
            raise LabError(f"{report['state']} of job {report['job_id']} is stored to be told, and the disk does not know of it")

    def own(self, row):
        """The outcome in the workspace's record where it is this job's."""
        outcome = (self.workspaces.get(row["workspace_id"]) or {}).get("outcome") or {}
        return outcome if outcome.get("job_id") == row["job_id"] else {}

    def accepted(self, row):
        if row["job_id"] not in json.dumps(self.workspaces.get(row["workspace_id"])) and row["job_id"] not in self.outcomes:
            raise LabError(f"devcp was told that job {row['job_id']} is accepted, and the disk does not know of it")

    def floor(self, row):
        """A generation that was heard of is not gone below again, also when the workspace is gone."""
        known = self.workspaces.get(row["workspace_id"])
        if (int(known["spec_floor"]) if known else self.graves.get(row["workspace_id"], 0)) < int(row["generation"]):
            raise LabError(f"generation {row['generation']} of workspace {row['workspace_id']} was heard of, and the disk would go below it")

    def container(self, container):
        """First the disk, then the world: no container of a job that the disk has not heard of."""
        labels = container["Labels"]
        known = self.workspaces.get(labels["molecule.agent.workspace"])
        if not known or int(known["spec_floor"]) < int(labels["molecule.agent.generation"]):
            raise LabError(f"{container['Names']} of job {labels['molecule.agent.job']} is in the engine, and the disk does not know of it")


def untidy(site, workspace):
    """What lies about once the job of that workspace has ended: words, or "". Sets and hand-overs of an older
    generation may wait for the next sweep."""
    state, left = site.agent.state, []
    for where, folders, files in os.walk(state):
        folders[:] = [name for name in folders if not (where == state and name in ("rescue", "lost+found"))]
        left += [os.path.join(where, name) for name in folders + files if name.startswith(".")]
    left += [f"{state}/{name}" for name in os.listdir(state) if name not in TOP and not name.startswith(".") and name != "lost+found"]
    left += [f"{state}/outbox/{name}" for name in os.listdir(f"{state}/outbox")]
    known = record(f"{state}/ws/{workspace}")
    generation = known["wanted"]["generation"] if known and known.get("wanted") else None
    may = {workspace, f"{workspace}.g{generation}.payload"} if generation else {workspace}
    left += [f"{state}/ws/{name}" for name in os.listdir(f"{state}/ws") if name not in may]
    for above in (f"{state}/sealed", f"{site.agent.runtime}/ws"):
        left += [f"{above}/{name}" for name in os.listdir(above) if name not in ("host", workspace if generation else "host")]
    return " ".join(left)


def tidy(site, workspace):
    words = untidy(site, workspace)
    if words:
        raise LabError(f"lies about: {words}")
    return True
