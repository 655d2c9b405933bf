# SPDX-License-Identifier: Apache-2.0
"""Secrets as a test sees them: boxes made by hand, what a workspace's process has of them, and what lies on the host's disk."""

import os
import secrets
import subprocess

from cases import must, same
from lab import binary, wait_for
from seal import CONTEXT, b64d, seal
from world import new_id, spec

MARKER = "ROTATE_TO_REVEAL_TOKEN"


def value(what="value"):
    """One that is nowhere by chance."""
    return f"hush-{what}-{secrets.token_hex(10)}"


def box(site, workspace, name, text, org=None, public=None, context=CONTEXT):
    """A box to the key that the host has registered, unless another is given."""
    parts = [context, org or site.plane.org_id, workspace, name, text]
    return seal(public or b64d(site.host()["sealing_key"]["public_key"]),
                b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts))


def boxes(site, workspace, **values):
    """The fields of a spec that carry these secrets."""
    return {"secrets": {name: box(site, workspace, name, text) for name, text in values.items()},
            "sealed_to": site.host()["sealing_key"]["key_id"]}


def order(site, workspace, hush=None, **fields):
    """A provision by the operator's door, these secrets sealed by devcp; the job's id."""
    return site.plane.order(site.host()["host_id"], "workspace.provision", workspace, seal=hush, spec=spec(**fields))


def provisioned(site, workspace=None, hush=None, timeout=90, **fields):
    """(workspace, final report) of a provision that succeeds."""
    workspace = workspace or new_id()
    report = site.plane.final(order(site, workspace, hush, **fields), timeout)
    same((report["state"], report.get("error")), ("succeeded", None), report.get("message"))
    return workspace, report


def deprovisioned(site, workspace, prune):
    job = site.plane.order(site.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": prune})
    report = site.plane.final(job, 60)
    same(report["state"], "succeeded", report)
    return report


def inside(site, workspace, *argv):
    """(output, exit status) of a command in the running container."""
    engine = site.lab.engine
    status, made = engine.api("POST", f"/containers/ws-{workspace}/exec", {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True,
                                                                          "Tty": True})
    must(status == 201, made)
    _, text = engine.api("POST", f"/exec/{made['Id']}/start", {"Tty": True})
    text = text.decode() if isinstance(text, bytes) else str(text if text is not None else "")
    return text.replace("\r\n", "\n"), engine.get(f"/exec/{made['Id']}/json")["ExitCode"]


def environment(site, workspace):
    """The environment of the container's first process."""
    text, status = inside(site, workspace, "/bin/cat", "/proc/1/environ")
    must(status == 0, text)
    return dict(pair.split("=", 1) for pair in text.split("\0") if pair)


def has(site, workspace, **hush):
    """Its process and its files have just these secrets' values, and it answers."""
    wait_for(lambda: site.fetch(workspace)[0] == 200, 30, f"an answer of {workspace}")
    found = environment(site, workspace)
    same({name: found.get(name) for name in hush}, hush, "environment")
    for name, text in hush.items():
        same(inside(site, workspace, "/bin/cat", f"/run/molecule/secrets/{name}"), (text, 0), f"the file of {name}")


def life(site, workspace):
    """What changes when someone touches the container."""
    seen = site.container(workspace)
    return seen and (seen["Id"], seen["State"]["StartedAt"], seen["State"]["Running"], seen["RestartCount"])


def tool(site, *words, env=None, timeout=30):
    """molecule-agentctl as root on this host: (exit status, output)."""
    done = subprocess.run([binary("molecule-agentctl"), *words], env=site.agent.environment(env), capture_output=True, text=True,
                          timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def verified(site):
    """What secrets verify says; a set that goes just then, as that of an old version does, is missing until it is gone."""
    def look():
        status, text = tool(site, "secrets", "verify")
        must(status == 0 and "all good" in text, f"{status}: {text}")
        return text
    return wait_for(look, 10, "that all is good")


def at_rest(look):
    """The paths that look() gives, once none is of a file that is being written."""
    def seen():
        paths = look()
        must(not any(os.path.basename(path).startswith(".") for path in paths), paths)
        return [paths]
    return wait_for(seen, 10, "an end of writing")[0]


def holds(place, *texts):
    """Names of files below place in which one of the texts stands."""
    words = [word for text in texts for word in ("-e", text)]
    done = subprocess.run(["grep", "-rlaF", *words, place], capture_output=True, text=True, check=False)
    return done.stdout.split()


def sealed(site, workspace, *names):
    return os.path.join(site.agent.state, "sealed", workspace, *names)


def handed(site, workspace, *names):
    return os.path.join(site.agent.runtime, "ws", workspace, *names)


def reads(path):
    with open(path, "rb") as file:
        return file.read()


def writes(path, data):
    with open(path, "wb") as file:
        file.write(data)


def flip(path, at=-1, bit=1):
    """One bit of a file; by default one of its authentication tag."""
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        data[at] ^= bit
        file.seek(0)
        file.write(data)


def degraded(site):
    return site.health().get("agent", {}).get("degraded", [])
