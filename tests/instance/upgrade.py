# SPDX-License-Identifier: Apache-2.0
"""The package over time: to the next version and back in the middle of jobs, removed, purged; and what systemd says of its units."""

import os
import re
import shutil

import tap
from boot import QUICK, answers, work
from cases import must, same
from instance import STATE, run
from proc import wait_for
from world import new_id, spec

UNITS = ("molecule-agentd", "molecule-agent-setup", "molecule-agent-enroll")
# Not the package's: what the engine has, what the lab put there, and dpkg's own memory of packages.
NOT_PURGED = ("/var/lib/docker", "/var/lib/containerd", "/root", "/var/cache/debconf", "/var/log")


def named(disk, word):
    """Paths below the disk that bear the word."""
    found = []
    for directory, below, names in os.walk(disk):
        here = directory.removeprefix(disk)
        below[:] = [name for name in below if f"{here}/{name}" not in NOT_PURGED]
        found += [f"{here}/{name}" for name in [*names, *below] if word in name]
    return found


def record_version(host, name="identity"):
    with open(host.path(f"{STATE}/{name}")) as file:
        return int(re.match(r"molecule-agent \S+ v(\d+) ", file.readline())[1])


def install(host, package):
    shutil.copy(package, host.path("/root/agent.deb"))
    return host.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/root/agent.deb", timeout=120)[1]


def runs_since(host, workspace):
    state = host.there(workspace)
    return state["Id"], state["State"]["StartedAt"]


def in_mid_job(stage, host, package, bystander):
    """Another version while a job waits at its gate: the job ends well, and what ran is not touched."""
    before, workspace = runs_since(host, bystander), new_id()
    job = stage.plane.order(host.host()["host_id"], "workspace.provision", workspace, spec=spec(image_ref=stage.slow, probe={"path": "/", "timeout_seconds": 60}))
    wait_for(lambda: host.inspect(f"ws-{workspace}") or host.inspect(f"ws-{workspace}-next"), 40, "the container of the job", 0.05)
    install(host, package)
    report = stage.plane.final(job, 90)
    same(report["state"], "succeeded", str(report))
    same(runs_since(host, bystander), before, "the workspace that had nothing to do with it")
    return workspace


def upgrade(stage):
    """upgrade and downgrade in the middle of a job, and the state that the former version can still read; removal and purge"""
    host = stage.instance(stage.golden)
    shutil.copy(stage.previous, host.path("/root/previous.deb"))
    run("chroot", host.disk, "dpkg", "--install", "/root/previous.deb")
    host.boot()
    host.enroll(stage.plane)
    bystander, value = work(stage, host)
    same(host.out("molecule-agentctl", "version").split()[1], "0.0.1")
    old = record_version(host)
    in_mid_job(stage, host, stage.package, bystander)
    must(host.out("molecule-agentctl", "version").split()[1] != "0.0.1")
    same((record_version(host), record_version(host, f"ws/{bystander}")), (old, old), "records of a young upgrade")
    must("former version's" in host.journal(lines=200), "nothing said of the former version")
    in_mid_job(stage, host, stage.previous, bystander)
    same(host.out("molecule-agentctl", "version").split()[1], "0.0.1")
    must(answers(host, bystander, value))
    install(host, stage.package)
    host.conf(finalize_seconds="0")
    host.run("systemctl", "reload", "molecule-agentd")
    wait_for(lambda: record_version(host) == old + 1, 100, "the end of the upgrade", 0.5)
    same(record_version(host, f"ws/{bystander}"), old + 1)
    host.run("systemctl", "restart", "molecule-agentd")
    host.active("molecule-agentd")
    must(answers(host, bystander, value))

    # Removed: the workspaces run on, and that is said. Purged: refused while there are containers; then nothing is left.
    text = host.run("dpkg", "--remove", "molecule-agent", timeout=120)[1]
    must("workspaces run on without an agent" in text, text)
    must(answers(host, bystander, value) and os.path.exists(host.path(f"{STATE}/identity")))
    got, text = host.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "molecule-agent", timeout=120, check=False)
    must(got != 0 and "are managed by it" in text and os.path.exists(host.path(f"{STATE}/identity")), f"{got} {text}")
    host.run("sh", "-c", "echo molecule-agent molecule-agent/purge-managed boolean true | debconf-set-selections")
    host.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "molecule-agent", timeout=120)
    same(named(host.disk, "molecule"), [], "left by a purge")
    same([name for name in os.listdir(host.path("/etc/credstore.encrypted"))] if os.path.exists(host.path("/etc/credstore.encrypted")) else [], [], "credentials left")


def sandbox(stage):
    """the units verify, their exposure is at most 1.5 for the agent, and no system call was denied in all that the agent does"""
    host = stage.instance(stage.golden).boot()
    host.enroll(stage.plane)
    same(host.out("systemctl", "show", "--property=SystemCallErrorNumber", "--value", "molecule-agentd"), str(0x7ffffffe), "a denied call kills")
    workspace, value = work(stage, host)
    _, value = work(stage, host, image=stage.better, workspace=workspace)
    must(answers(host, workspace, value))
    job = stage.plane.order(host.host()["host_id"], "workspace.console", workspace, spec={"lines": 5})
    same(stage.plane.final(job)["state"], "succeeded")
    host.run("systemctl", "reload", "molecule-agentd")
    host.run("molecule-agentctl", "hold", "--reason", "test")
    host.run("molecule-agentctl", "release")
    host.run("molecule-agentctl", "restart", workspace, "--reason", "the upgrade", "--wait", timeout=120)
    job = stage.plane.order(host.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": True})
    same(stage.plane.final(job)["state"], "succeeded")
    same(host.out("systemctl", "show", "--property=NRestarts", "--value", "molecule-agentd"), "0", "restarts that nobody asked for")
    for unit in UNITS:
        got, text = host.run("systemd-analyze", "verify", "--man=no", f"{unit}.service", check=False)
        same([line for line in text.splitlines() if "molecule" in line], [], unit)
        exposure = re.search(r"exposure level for \S+: ([0-9.]+)", host.out("systemd-analyze", "security", "--no-pager", f"{unit}.service", check=False))[1]
        tap.diag(f"{unit}: exposure {exposure}")
        must(unit != "molecule-agentd" or float(exposure) <= 1.5, f"{unit}: {exposure}")


CASES = (sandbox, upgrade)
