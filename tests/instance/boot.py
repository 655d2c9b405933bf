# SPDX-License-Identifier: Apache-2.0
"""From an image to a host at work, and back after a reboot."""

import json
import os
import secrets

import tap
from cases import must, same
from instance import STORE, put, run
from lab import TREE
from proc import wait_for
from world import new_id, spec

QUICK = {"path": "/", "timeout_seconds": 30}
NEVER_ON_DISK = ("/etc", "/var", "/root", "/home", "/opt", "/srv", "/tmp", "/boot")


def work(stage, host, image=None, workspace=None, want="succeeded", **more):
    """A workspace with a secret, ordered by the control plane: (id, its secret)."""
    workspace, value = workspace or new_id(), secrets.token_hex(16)
    job = stage.plane.order(host.host()["host_id"], "workspace.provision", workspace, seal={"DEMO_SECRET": value},
                            spec=spec(image_ref=image or stage.good, probe=QUICK), **more)
    report = stage.plane.final(job, 90)
    same(report["state"], want, str(report))
    return workspace, value


def answers(host, workspace, value):
    return f"DEMO_SECRET={value}" in host.page(workspace, "/env")


def in_clear(disk, values):
    """Files of the disk that hold one of the values. Not in a container's own layer: what a workspace writes is its own."""
    found = []
    for top in NEVER_ON_DISK:
        for directory, below, names in os.walk(disk + top):
            if directory == f"{disk}/var/lib/docker":
                below.remove("overlay2")
            for path in (f"{directory}/{name}" for name in names):
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        data = file.read()
                    found += [path.removeprefix(disk) for value in values if value.encode() in data]
    return found


def first_boot(stage):
    """first boot: enrolled, ready, a workspace with secrets answers, and on disk is nothing in clear"""
    host = stage.instance(stage.golden).boot(until=None)
    ready = host.seconds_to(lambda: host.out("systemctl", "is-active", "molecule-agentd", check=False) == "active", what="READY")
    host.active("docker")
    wait_for(lambda: host.out("docker", "images", "--quiet"), 20, "the baked image")
    got, text = host.enroll(stage.plane)
    must(got == 0 and "takes both" in text, text)
    host.host()
    workspace, value = work(stage, host)
    done = host.seconds_to(lambda: answers(host, workspace, value), what="the workspace")
    tap.diag(f"boot to READY {ready:.1f} s; boot to the first job done, enrolment included, {done:.1f} s")
    same(in_clear(host.disk, (value, stage.plane.provision_secret, stage.plane.admin_token)), [], "in clear on the disk")
    same(sorted(os.listdir(host.path(STORE))), ["admin-token", "provision-secret", "seal-key.e1"])
    must(not [name for name in os.listdir(host.path("/var/lib/molecule-agent/keys")) if name.startswith("root.")], "a root key is on the disk in clear")

    # With the control plane off; then with a broken agent.conf and no credentials too.
    stage.lab.plane.stop()
    host.shutdown()
    back(host, workspace, value, "the control plane off")
    host.shutdown()
    put(host.path("/etc/molecule-agent/agent.conf"), "[agent\nengine_socket\n")
    for name in ("provision-secret", "admin-token"):
        os.unlink(host.path(f"{STORE}/{name}"))
    back(host, workspace, value, "a syntax error in agent.conf, and no credentials")
    stage.lab.plane.start()


def back(host, workspace, value, what):
    host.boot(until=None)
    engine = host.seconds_to(lambda: host.out("systemctl", "is-active", "docker", check=False) == "active", what="the engine")
    there = host.seconds_to(lambda: answers(host, workspace, value), what="the workspace after a reboot")
    tap.diag(f"reboot with {what}: the engine is up after {engine:.1f} s, the workspace {there - engine:.1f} s later")
    must(there - engine <= 15, f"{there - engine:.1f} s")


def baked_here(stage):
    """an instance that bake.sh turned into an image: a copy of it boots into a host of its own, with the image in it"""
    source = stage.instance(stage.golden).boot()
    source.active("docker")
    files = f"{TREE}/packaging/image"
    run("cp", f"{files}/bake.sh", stage.package, source.path("/root/"))
    run("cp", source.path("/etc/docker/daemon.json"), source.path("/root/daemon.json"))
    text = source.run("bash", "/root/bake.sh", "--here", "--package", f"/root/{os.path.basename(stage.package)}", "--daemon-json", "/root/daemon.json",
                      "--image", stage.better, timeout=180)[1]
    must("bake: done" in text, text)
    source.shutdown()
    must(not os.listdir(source.path("/var/lib/molecule-agent")) and not os.path.getsize(source.path("/etc/machine-id")), "an identity is in the image")
    host = stage.instance(source.disk).boot()
    host.enroll(stage.plane)
    workspace, value = work(stage, host, image=stage.better)
    must(answers(host, workspace, value))
    with open(host.path("/usr/share/molecule-agent/preloaded.json")) as file:
        same(json.load(file), {"images": [stage.better]})


CASES = (baked_here,)
ALONE = (first_boot,)
