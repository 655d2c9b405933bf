#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Canaries: values that nobody else could have written, sent through everything that carries secrets (sealed boxes, secret-named env, config files;
the agent's own credentials), in jobs that succeed, fail, are undone, refused and removed. The workspace must have them, and nothing else
may: not the logs, what the control plane was told, the state directory, the engine's files and answers, any process's command line, the
raw blocks of the disk below state and engine, nor the daemon's memory once it is idle. Each is looked for as it is, as base64 at each of its three
alignments, as hexadecimal, and as a URL or JSON would spell it.

The engine's volumes lie on another disk: what a workspace keeps in its own is its own."""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from engine import Dockerd  # noqa: E402
from lab import TREE, Lab, LabError, binary, wait_for  # noqa: E402
from proc import at_end, end_now  # noqa: E402
from world import b64, member, new_id, reported, spec  # noqa: E402

lab = site = disk = at_work = None
canaries = {}                                               # name → value; the names say where each went in


def canary(name):
    """32 characters, some of which JSON, URLs and shells spell otherwise."""
    body = secrets.token_hex(11)
    canaries[name] = f"{body[:11]}\"/+ &%='{body[11:]}\\?"
    if len(canaries[name]) != 32:
        raise LabError(f"a canary of {len(canaries[name])} characters")
    return canaries[name]


def forms(value):
    """The ways in which one value may be spelled, longest parts that do not depend on what stands beside it."""
    raw = value.encode()
    yield raw
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        yield text[(0, 2, 3)[shift]:len(text) - ((len(raw) + shift) % 3 != 0)]
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield urllib.parse.quote(value, safe="").encode()
    yield urllib.parse.quote_plus(value).encode()
    yield json.dumps(value)[1:-1].encode()
    yield json.dumps(value)[1:-1].replace("/", "\\/").encode()
    yield json.dumps(json.dumps(value)[1:-1])[1:-1].encode()


def pattern_file(names):
    """The spellings of these canaries, for grep, and which is whose."""
    owner = {form: name for name in names for form in forms(canaries[name])}
    path = f"/dev/shm/canary-{os.getpid()}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(b"\n".join(owner) + b"\n")
    at_end(lambda: os.path.exists(path) and os.unlink(path))
    return path, owner


def search(names, *places, skip=()):
    """Words about each place where one of them stands. Files and directories."""
    path, owner = pattern_file(names)
    done = subprocess.run(["grep", "-raobF", "-f", path, *(f"--exclude-dir={name}" for name in skip), *places], capture_output=True,
                          env={**os.environ, "LC_ALL": "C"}, timeout=300, check=False)
    if done.returncode == 2 and b"No such file" not in done.stderr and b"Permission" not in done.stderr and b"input file" not in done.stderr:
        raise LabError(done.stderr.decode(errors="replace"))
    found = []
    for line in done.stdout.split(b"\n"):
        name = next((owner[form] for form in owner if form in line), None)
        if name:
            where = line.split(b":")[:2] if len(places) > 1 or os.path.isdir(places[0]) else [places[0].encode(), line.split(b":")[0]]
            found.append(f"{name} in {b' at '.join(where).decode(errors='replace')}")
    return found


def nowhere(names, *places, **how):
    found = search(names, *places, **how)
    if found:
        raise LabError(f"{len(found)} found: {found[:8]}")


def text_of(thing, name):
    path = f"/dev/shm/canary-{os.getpid()}-{name}"
    with open(path, "wb") as file:
        file.write(thing if isinstance(thing, bytes) else json.dumps(thing, ensure_ascii=False).encode())
    at_end(lambda: os.path.exists(path) and os.unlink(path))
    return path


# ── the stage ──────────────────────────────────────────────────────────────────────────────────────────────────

def skip(reason):
    tap.skip("canaries", reason)
    tap.done()


def make_disk():
    """A file system of its own below the state directory and the engine's root, and volumes elsewhere."""
    global disk
    disk = f"{lab.where}/disk"
    os.makedirs(f"{disk}/mnt")
    os.makedirs(f"{lab.where}/volumes")
    with open(f"{disk}/image", "wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", f"{disk}/image"], check=True)
    done = subprocess.run(["mount", "-o", "loop", f"{disk}/image", f"{disk}/mnt"], capture_output=True, text=True, check=False)
    if done.returncode:
        skip(f"no loop device can be mounted here: {done.stderr.strip()}")
    lab.engine = Dockerd(f"{disk}/mnt/e", f"{lab.short}/e")
    at_end(drop_disk)


def volumes_elsewhere():
    """Once the engine runs: it mounts its root over itself."""
    subprocess.run(["mount", "--bind", f"{lab.where}/volumes", f"{disk}/mnt/e/data/volumes"], check=True)
    at_end(drop_volumes)


def drop_volumes():
    subprocess.run(["umount", "-l", f"{disk}/mnt/e/data/volumes"], check=False, stderr=subprocess.DEVNULL)


def drop_disk():
    subprocess.run(["umount", "-l", f"{disk}/mnt"], check=False, stderr=subprocess.DEVNULL)


def ordered(workspace, number, **fields):
    """A provision that carries canaries in every way there is."""
    return site.plane.order(site.host()["host_id"], "workspace.provision", workspace, seal={"BOX_KEY": canary(f"box {number}")}, spec=spec(
        env={"ENV_TOKEN": canary(f"env {number}"), "DEMO_PLAIN": "plain"},
        config_files={"notes.yaml": b64(canary(f"file {number}")), "auth/.auth_token": b64(canary(f"token file {number}"))}, **fields))


def refused(workspace, number):
    """Canaries in what is refused, where the words might quote them."""
    host = site.host()["host_id"]
    yield site.plane.order(host, "workspace.provision", workspace, seal={"BOX_KEY": canary(f"refused box {number}") + "x" * 70000},
                           spec=spec(image_ref=lab.image("ok")))
    yield site.plane.order(host, "workspace.provision", workspace, spec=spec(
        image_ref=lab.image("ok"), env={"ENV_TOKEN": canary(f"refused env {number}") + "ROTATE_TO_REVEAL_TOKEN"}))
    yield site.plane.order(host, "workspace.provision", workspace, spec=spec(
        image_ref=lab.image("ok"), env={"GITHUB_TOKEN": canary(f"forbidden env {number}")},
        config_files={"a": b64(canary(f"refused file {number}"))}))
    yield site.plane.order_raw(host, b'{"job_id":"x","spec":{"env":{"DEMO_TOKEN":' + json.dumps(canary(f"broken {number}")).encode() + b"}")


def act():
    """What a life of a workspace is made of."""
    global at_work
    workspace, gone = new_id(), new_id()
    canaries["provision secret"], canaries["admin token"] = site.plane.provision_secret, site.plane.admin_token
    for number, image in ((1, "ok"), (2, "ok"), (3, "never")):
        job = ordered(workspace, number, image_ref=lab.image(image), image_size_bytes="1000000", probe={"timeout_seconds": 4})
        if image == "never":
            reported(site, job, "configuring_https")
            at_work = search(["provision secret", "box 3", "env 3"], memory(site.agent.process.child.pid))
        report = site.plane.final(job, 90)
        if report["state"] != ("failed" if image == "never" else "succeeded"):
            raise LabError(f"{report}")
    if site.plane.final(ordered(gone, 4, image_ref=lab.image("ok"), image_size_bytes="1000000"), 90)["state"] != "succeeded":
        raise LabError("the one to be removed did not come")
    site.deprovision(gone)
    for job in refused(new_id(), 5):
        if site.plane.final(job, 30)["state"] != "refused":
            raise LabError(f"not refused: {site.plane.job(job)}")
    time.sleep(6)                                           # the sweep tidies, connections rest
    return workspace


# ── where they are, and are not ────────────────────────────────────────────────────────────────────────────────

def test_the_workspace_has_them():
    with open(f"/proc/{site.container(workspace)['State']['Pid']}/environ", "rb") as file:
        environ = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if entry)
    want = {b"BOX_KEY": canaries["box 2"].encode(), b"ENV_TOKEN": canaries["env 2"].encode(), b"DEMO_PLAIN": b"plain"}
    if {name: environ.get(name) for name in want} != want:
        raise LabError(f"{environ}")
    container = site.container(workspace)
    for name, value in (("BOX_KEY", "box 2"), ("ENV_TOKEN", "env 2")):
        if member(lab.engine, container["Id"], f"/run/molecule/secrets/{name}")[1] != canaries[value].encode():
            raise LabError(f"the file of {name} is another")
    if member(lab.engine, container["Id"], "/configs/notes.yaml")[1] != canaries["file 2"].encode():
        raise LabError("its config file is another")


def test_the_search_finds_what_is_there():
    """Each spelling, in a file and in the middle of something; and the control plane's own database, which keeps what it sealed."""
    for form in forms(canaries["box 2"]):
        path = text_of(b"some words before " + form + b" and after\0\n", "control")
        if not search(["box 2"], path):
            raise LabError(f"{form!r} was not found")
    for shift in range(3):
        path = text_of(base64.b64encode(b"\n" * shift + canaries["box 2"].encode() + b"more"), "control")
        if not search(["box 2"], path):
            raise LabError(f"base64 at {shift} was not found")
    if not search(["box 2"], f"{site.plane.where}/devcp.db", f"{site.plane.where}/devcp.db-wal"):
        raise LabError("the control plane does not keep what it sealed?")
    if not search(["box 2"], site.agent.runtime):
        raise LabError("it is not on tmpfs?")


def everything():
    return list(canaries)


def secret_ones():
    return [name for name in canaries if name not in ("provision secret", "admin token")]


def test_in_no_log():
    nowhere(everything(), site.agent.log, lab.engine.log, site.plane.log)


def test_in_nothing_the_control_plane_was_told():
    told = [site.plane.job(job["job_id"])["reports"] for job in site.plane.jobs()]
    if sum(map(len, told)) < 20:
        raise LabError(f"only {sum(map(len, told))} reports")
    nowhere(everything(), text_of(told, "reports"))
    nowhere(everything(), text_of(site.plane.hosts(), "hosts"))


def test_not_in_the_state_directory():
    nowhere(everything(), site.agent.state)


def test_not_in_the_engine_s_files():
    nowhere(secret_ones(), lab.engine.where, skip=("volumes",))


def test_not_in_the_engine_s_answers():
    shown = [lab.engine.inspect(row["Id"]) for row in lab.engine.containers()]
    if not any(f"ws-{workspace}" in row["Name"] for row in shown):
        raise LabError("the workspace is not among them")
    nowhere(everything(), text_of(shown, "inspect"))
    nowhere(everything(), text_of(lab.engine.get("/volumes"), "volumes"))


def test_in_no_process_s_command_line():
    lines = b""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                lines += file.read() + b"\n"
        except OSError:
            continue
    if b"molecule-agentd" not in lines:
        raise LabError("the agent is not among them")
    nowhere(everything(), text_of(lines, "cmdline"))


def test_not_in_the_raw_blocks_of_the_disk():
    os.sync()
    nowhere(secret_ones() + ["provision secret", "admin token"], f"{disk}/image")


def memory(pid):
    """All that the process could read of itself, in one file."""
    path = f"/dev/shm/canary-{os.getpid()}-memory"
    at_end(lambda: os.path.exists(path) and os.unlink(path))
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as source, open(path, "wb") as out:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not found or "[vvar]" in line or "[vsyscall]" in line:
                continue
            low, high = int(found[1], 16), int(found[2], 16)
            out.write(f"\n{line}".encode())
            try:
                source.seek(low)
                out.write(source.read(high - low))
            except (OSError, ValueError):
                continue
    return path


def test_not_in_the_daemon_s_memory_after_use():
    path = memory(site.agent.process.child.pid)
    if os.path.getsize(path) < 1 << 20:
        raise LabError("that was not its memory")
    if not search(["provision secret"], path):
        raise LabError("not even its own credential is there: the search is blind")
    found = search(secret_ones(), path)
    if found:
        with open(path, "rb") as file:
            data = file.read()
        around = {}
        for name in secret_ones():
            for form in forms(canaries[name]):
                at = data.find(form)
                if at >= 0:
                    around[name] = (data[max(0, at - 80):at + 64], data[:at].rsplit(b"\n", 1)[0][-100:] if at < 0 else b"")
        raise LabError(f"{len(found)} found: {around}")


def test_not_in_the_daemon_s_memory_once_they_are_handed_over():
    """The job is still at work: it waits for its gate."""
    if not any(found.startswith("provision secret") for found in at_work):
        raise LabError("not even its own credential was there: the search was blind")
    found = [one for one in at_work if not one.startswith("provision secret")]
    if found:
        raise LabError(f"{found}")


def test_the_format_is_documented_well_enough():
    """A reader in another language, written from the page, opens what the agent wrote."""
    reader = [sys.executable, f"{TREE}/docs/mseal.py", site.agent.state]
    generation = site.plane.job(site.plane.jobs()[1]["job_id"])["generation"]
    for name, value in (("BOX_KEY", "box 2"), ("ENV_TOKEN", "env 2")):
        done = subprocess.run([*reader, "cat", workspace, str(generation), name], capture_output=True, timeout=30, check=False)
        if (done.returncode, done.stdout) != (0, canaries[value].encode()):
            raise LabError(f"{name}: {done}")
    done = subprocess.run([*reader, "verify"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0 or "all good" not in done.stdout:
        raise LabError(f"verify: {done}")
    done = subprocess.run([binary("molecule-agentctl"), "secrets", "verify"], env=site.agent.environment(), capture_output=True, text=True,
                          timeout=30, check=False)
    if done.returncode != 0 or "all good" not in done.stdout:
        raise LabError(f"secrets verify: {done}")


def main():
    global lab, site, workspace
    if not shutil.which("mkfs.ext4"):
        skip("mkfs.ext4 is not installed")
    lab = Lab("canary")
    make_disk()
    lab.start()
    volumes_elsewhere()
    site = lab.site()
    os.makedirs(f"{disk}/mnt/state", 0o700)
    site.agent.state = f"{disk}/mnt/state"
    site.start()
    workspace = act()
    wait_for(lambda: site.fetch(workspace)[0] == 200, 20, "the workspace's page")
    tap.run([value for name, value in globals().items() if name.startswith("test_")], lambda: site.tail(30))


workspace = None
if __name__ == "__main__":
    try:
        main()
    finally:
        if site:
            end_now(site.end)
