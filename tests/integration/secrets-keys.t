#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keys in their life: roots, the host's pair and the shared secret change, and everything still opens; a workspace's key ends with it; and
what others on the host can see of the daemon."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, binary, wait_for  # noqa: E402
from proxy import before, reply  # noqa: E402
from seal import b64d  # noqa: E402
from sealed import (at_rest, box, degraded, deprovisioned, handed, has, holds, life, order, provisioned, reads, sealed, tool, value,  # noqa: E402
                    verified, writes)
from world import new_id, payload, reported, spec, volumes  # noqa: E402

ALL_GONE = {"key": True, "files": True, "tmpfs": True, "volumes": True}
lab = good = None                                           # the Lab; the digest reference of an image that works


def keys_of(site):
    return sorted(os.listdir(f"{site.agent.state}/keys"))


def roots_of(site):
    return [name for name in keys_of(site) if name.startswith("root.")]


def opened_again(site, workspace, **hush):
    """Starts the agent where memory is empty and the container stopped, so that all has to be opened; then it runs as before."""
    if site.agent.process.running():
        site.agent.stop()
    lab.docker("POST", f"/containers/ws-{workspace}/stop", t=5)
    shutil.rmtree(handed(site, workspace))
    site.agent.start()
    has(site, workspace, **hush)
    verified(site)


# ── the root key ───────────────────────────────────────────────────────────────────────────────────────────────

def rotate_root(stage):
    """rotate-root twice, the agent started anew in between: everything opens, the old roots are gone"""
    site, text, store = stage.site(), value(), f"{stage.lab.where}/no-credentials"
    os.makedirs(store)
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    rotate = lambda: tool(site, "secrets", "rotate-root", "--reason", "a test", "--no-restart", "--credstore", store)
    same(roots_of(site), ["root.e1"], "the first root")
    for epoch in (2, 3):
        for _ in range(2):                                  # run again before the restart: no third root
            status, words = rotate()
            must(status == 75 and f"epoch {epoch}" in words, f"{status}: {words}")
            same(roots_of(site), [f"root.e{epoch - 1}", f"root.e{epoch}"], "roots before the restart")
            verified(site)
        site.agent.restart(signal.SIGKILL if epoch == 3 else signal.SIGTERM)
        verified(site)
        status, words = tool(site, "secrets", "rotate-root", "--reason", "a test", "--no-restart", "--credstore", store, "--json")
        same((status, json.loads(words)), (0, {"epoch": epoch, "done": True}))
        same((roots_of(site), os.listdir(store)), ([f"root.e{epoch}"], []), "roots after it")
        opened_again(site, workspace, DEMO_A=text)
        must(reads(sealed(site, workspace, "key.seal"))[12] == epoch, "the key is wrapped by another epoch")
    provisioned(site, workspace, hush={"DEMO_A": text + "2"}, image_ref=good)
    has(site, workspace, DEMO_A=text + "2")
    must(all(word not in words for word in ("root.e4", "epoch 4")), words)


def root_as_credential(stage):
    """a root key as a credential: no file is made; a file of that epoch wins over it; another credential opens nothing"""
    site, text, root = stage.site(start=False), value(), os.urandom(32)
    site.agent.credentials["seal-key.e1"] = root
    site.start()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    has(site, workspace, DEMO_A=text)
    same((roots_of(site), holds(site.agent.state, "a root key was made")), ([], []), "roots on the disk")
    must(not site.agent.lines("There is no credential seal-key.e1"), "it warns of a root on the disk")
    opened_again(site, workspace, DEMO_A=text)
    file, kept = f"{site.agent.state}/keys/root.e1", life(site, workspace)
    for credential, on_disk, fine in ((os.urandom(32), root, True), (os.urandom(32), None, False), (root[:31], None, False),
                                      (None, None, False), (root, None, True)):
        site.agent.stop()
        site.agent.credentials["seal-key.e1"] = credential
        if os.path.exists(file):
            os.unlink(file)
        if on_disk:
            writes(file, on_disk)
        site.agent.start()
        same(roots_of(site), ["root.e1"] if on_disk else [], "roots on the disk")
        same(tool(site, "secrets", "verify")[0], 0 if fine else 1, f"verify with {credential and len(credential)}, {on_disk is not None}")
        wait_for(lambda: (degraded(site) == []) == fine, 20, "health")
        same(life(site, workspace), kept, "the container")
    provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=good)

    both = stage.site(start=False)                          # from the first start on: the file is the one
    os.makedirs(f"{both.agent.state}/keys", 0o700)
    writes(f"{both.agent.state}/keys/root.e1", os.urandom(32))
    both.agent.credentials["seal-key.e1"] = root
    both.start()
    same((both.agent.lines("no job is taken"), both.host()["sealing_key_conflict"]), ([], False), "with both")
    both.agent.stop()
    os.unlink(f"{both.agent.state}/keys/root.e1")
    both.agent.start()
    must(both.agent.lines("no job is taken", "not the key"), "the credential opens what the file has sealed")


def rotate_credential(stage):
    """rotate-root with credentials encrypted by systemd-creds: the new one is encrypted, the old one goes"""
    site, text, root = stage.site(start=False), value(), os.urandom(32)
    own, store = f"{site.where}/systemd", f"{site.where}/credstore"
    os.makedirs(own, 0o700)
    os.makedirs(store, 0o700)

    def apart(*argv, data=None):
        """With a place of its own for systemd's host key, so that the machine's stays as it is."""
        return subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" /var/lib/systemd && shift && exec "$@"', "sh", own, *argv],
                              env={**os.environ, **site.agent.environment()}, input=data, capture_output=True, timeout=60, check=False)
    if not shutil.which("systemd-creds"):
        raise tap.Skip("there is no systemd-creds")
    done = apart("systemd-creds", "encrypt", "--with-key=host", "--name=seal-key.e1", "-", f"{store}/seal-key.e1", data=root)
    if done.returncode:
        raise tap.Skip(f"systemd-creds cannot encrypt here: {done.stderr.decode().strip()[-100:]}")
    site.agent.credentials["seal-key.e1"] = root
    site.start()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    rotate = [binary("molecule-agentctl"), "secrets", "rotate-root", "--reason", "a test", "--no-restart", "--credstore", store]
    done = apart(*rotate)
    same((done.returncode, sorted(os.listdir(store)), roots_of(site)), (75, ["seal-key.e1", "seal-key.e2"], []), done.stderr + done.stdout)
    new = apart("systemd-creds", "decrypt", "--name=seal-key.e2", f"{store}/seal-key.e2", "-").stdout
    same((len(new), new == root), (32, False), "the new root")
    must(apart("systemd-creds", "decrypt", "--name=seal-key.e1", f"{store}/seal-key.e2", "-").returncode != 0, "it goes by any name")
    same(holds(store, new.hex()) + holds(site.agent.state, new.hex()), [], "files with the root")
    site.agent.credentials["seal-key.e2"] = new
    site.agent.restart()
    done = apart(*rotate)
    same((done.returncode, os.listdir(store), roots_of(site)), (0, ["seal-key.e2"], []), done.stderr + done.stdout)
    del site.agent.credentials["seal-key.e1"]
    opened_again(site, workspace, DEMO_A=text)


# ── the host's pair ────────────────────────────────────────────────────────────────────────────────────────────

def rotate_host_key(stage):
    """rotate-host-key: the new key is proved and known, boxes to the one before open, older ones do not"""
    site, old = stage.site(), []
    host, workspace, text = site.host()["host_id"], new_id(), value()
    provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=good)

    def to(key, number):
        """A job with a box to that key, as a control plane that has not heard yet would send it."""
        made = payload(site, workspace, number, spec=spec(image_ref=good, sealed_to=key["key_id"], secrets={
            "DEMO_A": box(site, workspace, "DEMO_A", text + str(number), public=b64d(key["public_key"]))}))
        return site.plane.final(site.plane.order_raw(host, made), 60)
    for number in (2, 3):
        old.append(site.host()["sealing_key"])
        status, words = tool(site, "secrets", "rotate-host-key", "--no-reload")
        must(status == 0 and old[-1]["key_id"] in words, f"{status}: {words}")
        same(site.host()["sealing_key"], old[-1], "before the reload")
        site.agent.kill(signal.SIGHUP)
        wait_for(lambda: site.host()["sealing_key"]["key_id"].startswith(f"h{number}-"), 20, "the new key")
        same(site.host()["sealing_key_conflict"], False, "conflict")
        same(len([name for name in keys_of(site) if name.startswith("host.")]), 2, "pairs")
        same(to(old[-1], number)["state"], "succeeded", "a box to the key before")
        has(site, workspace, DEMO_A=text + str(number))
    report = to(old[0], 4)
    same((report["state"], report["error"]["code"], report["error"]["retryable"]), ("refused", "secret_undecryptable", True), report)
    must(site.host()["sealing_key"]["key_id"] in report["message"], report["message"])
    writes(f"{site.agent.state}/keys/rotate-host-key", old[-1]["key_id"].encode())
    site.agent.kill(signal.SIGHUP)                          # asked once, done once, even where a crash left the request behind
    provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=good)
    must(site.host()["sealing_key"]["key_id"].startswith("h3-"), site.host()["sealing_key"])
    must("rotate-host-key" not in keys_of(site) and not site.agent.lines("sealing_key_conflict"), keys_of(site))
    opened_again(site, workspace, DEMO_A=text)


def lost_host_key(stage):
    """the host's key is lost: a conflict that is told, jobs without secrets go on, an operator's word ends it"""
    site, text = stage.site(), value()
    host, known = site.host()["host_id"], site.host()["sealing_key"]
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    site.agent.stop()
    for name in keys_of(site):
        if name.startswith("host."):
            os.unlink(f"{site.agent.state}/keys/{name}")
    site.agent.start()
    wait_for(lambda: site.host()["sealing_key_conflict"], 20, "the conflict")
    error = wait_for(lambda: site.health()["agent"]["last_error"], 20, "health that says it")
    mine = re.search(r"h\d+-[0-9a-f]{16}", error["message"])[0]
    same((error["code"], site.host()["sealing_key"], mine == known["key_id"]), ("sealing_key_conflict", known, False), error)
    there = keys_of(site)
    status, words = tool(site, "secrets", "rotate-host-key", "--no-reload", "--json")
    same(json.loads(words), {"in_place_of": mine, "done": True})
    must(status == 0 and mine in words, f"{status}: {words}")
    site.agent.kill(signal.SIGHUP)
    provisioned(site, image_ref=good)
    same(keys_of(site), sorted([*there, "rotate-host-key"]), "a pair that the control plane does not know yet is not rotated")
    os.unlink(f"{site.agent.state}/keys/rotate-host-key")
    waiting = order(site, workspace, {"DEMO_A": text + "2"}, image_ref=good)
    has(site, workspace, DEMO_A=text)
    same(site.plane.job(waiting)["deliveries"], [], "a job with secrets is handed out meanwhile")
    opened_again(site, workspace, DEMO_A=text)
    site.plane.settle_key(host, mine)
    site.agent.restart()
    wait_for(lambda: [row for row in site.plane.jobs() if row["workspace_id"] == workspace and row["generation"] != "1"
                      and row["final"] == "succeeded"], 60, "the job that waited, sealed anew")
    has(site, workspace, DEMO_A=text + "2")
    same((site.host()["sealing_key"]["key_id"], site.host()["sealing_key_conflict"]), (mine, False), "the key")
    wait_for(lambda: site.health()["agent"]["last_error"] is None, 20, "health that says nothing any more")


# ── the shared secret ──────────────────────────────────────────────────────────────────────────────────────────

def shared_secret(stage):
    """another shared secret: fetched once, kept sealed over a restart with the old credential, gone with the new one; never an empty one"""
    site = stage.site(plane_proxy=True)
    old, new, plane = site.plane.provision_secret, value("shared"), site.plane
    workspace, _ = provisioned(site, image_ref=good)
    kept, asked = f"{site.agent.state}/credentials.seal", lambda: len(site.cp.seen("GET", "/tenants/config"))
    for empty in ('{"MOLECULE_CP_SHARED_SECRET": ""}', '{"MOLECULE_CP_SHARED_SECRET": " \\n"}', "{}"):
        config = site.cp.on("GET", "/tenants/config", reply(200, {}, empty))
        refusal = site.cp.on("GET", "/jobs", reply(401, {}, '{"error":"unauthorized"}'))
        order(site, new_id(), image_ref="x")                # ends the poll that hangs
        refusal.wait(20)
        config.wait(20)
        provisioned(site, workspace, hush={"DEMO_A": "x"}, image_ref=good)
        polls = [x for x in site.cp.seen("GET", "/jobs") if x.status == 200]
        same((polls[-1].headers["authorization"], os.path.exists(kept)), (f"Bearer {old}", False), "after an empty answer")

    plane.stop()
    plane.provision_secret = new
    writes(f"{plane.where}/provision-secret", new.encode())
    before = asked()
    plane.start()
    wait_for(lambda: site.agent.lines("handed out another provision secret"), 80, "the new secret")
    provisioned(site, workspace, hush={"DEMO_A": "x1"}, image_ref=good)
    same((asked() - before, holds(site.agent.state, new), os.path.exists(kept)), (1, [], True), "one question, kept sealed")
    verified(site)
    site.agent.restart()
    wait_for(lambda: site.agent.lines("that the control plane handed out is used"), 20, "a word on the kept secret")
    provisioned(site, workspace, hush={"DEMO_A": "x2"}, image_ref=good)
    same(asked() - before, 1, "questions after a restart with the old credential")
    site.agent.credentials["provision-secret"] = new
    site.agent.restart()
    wait_for(lambda: not os.path.exists(kept), 20, "the end of the kept secret beside the new credential")
    provisioned(site, workspace, hush={"DEMO_A": "x3"}, image_ref=good)
    same((asked() - before, len(site.agent.lines("that the control plane handed out is used"))), (1, 1), "questions, uses")
    same([line for line in site.agent.lines("") if new in line or old in line], [], "log lines with a secret")


# ── the process ────────────────────────────────────────────────────────────────────────────────────────────────

def process(stage):
    """what others can see of the daemon: no token in its environment or arguments, no dump, no core, its memory locked"""
    site = stage.site(start=False)
    agent, user = site.agent, 65534
    tokens = {"MOLECULE_CP_SHARED_SECRET": site.plane.provision_secret, "ADMIN_TOKEN": site.plane.admin_token}
    agent.credentials.clear()
    agent.write()
    for place in (agent.state, agent.runtime, f"{agent.where}/credentials"):
        os.chown(place, user, user)
    agent.start(env={"PROVISION_SHARED_SECRET": "unused-" + value()} | tokens,
                wrap=("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"))
    wait_for(site.host, 30, "a registration with what the environment held")
    proc = f"/proc/{agent.process.pid}"
    environ = reads(f"{proc}/environ")
    must(b"STATE_DIRECTORY=" in environ, environ)
    for token in (*tokens.values(), "unused-"):
        must(token.encode() not in environ, "a token is in its environment")
        must(token.encode() not in reads(f"{proc}/cmdline"), "a token is in its arguments")
    same(reads(f"{proc}/cmdline").split(b"\0")[0].decode(), agent.binary, "whose they are")
    status = dict(line.split(":\t", 1) for line in reads(f"{proc}/status").decode().splitlines() if ":\t" in line)
    same(status["Uid"].split()[0], str(user), "its user")
    must(int(status["VmLck"].split()[0]) > 1000, f"locked: {status['VmLck']}")
    same(os.stat(f"{proc}/mem").st_uid, 0, "the owner of its memory: its user's, if it could be dumped")
    core = next(line for line in reads(f"{proc}/limits").decode().splitlines() if line.startswith("Max core"))
    same(core.split()[4:6], ["0", "0"], core)
    same(agent.stop(), 0, "its end")


# ── the end of a workspace ─────────────────────────────────────────────────────────────────────────────────────

def receipt(stage):
    """prune: the receipt says that key, files, memory and volumes are gone, and they are; without it key and volumes stay for the next"""
    site, text = stage.site(), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    key = reads(sealed(site, workspace, "key.seal"))
    same(deprovisioned(site, workspace, False)["result"]["destroyed"], ALL_GONE | {"key": False, "volumes": False}, "kept")
    same((os.listdir(sealed(site, workspace)), reads(sealed(site, workspace, "key.seal")) == key, os.path.exists(handed(site, workspace)),
          len(volumes(lab.engine, workspace))), (["key.seal"], True, False, 2), "what stays")
    verified(site)
    provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=good)
    must(reads(sealed(site, workspace, "key.seal")) == key, "another key")
    has(site, workspace, DEMO_A=text)
    same(deprovisioned(site, workspace, True)["result"]["destroyed"], ALL_GONE, "pruned")
    gone(site, workspace)
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good, data_persistence="ephemeral")
    same(deprovisioned(site, workspace, False)["result"]["destroyed"], ALL_GONE, "ephemeral")
    gone(site, workspace)
    same(deprovisioned(site, new_id(), True)["result"]["destroyed"], ALL_GONE, "never seen")


def gone(site, workspace):
    same((os.path.exists(sealed(site, workspace)), os.path.exists(handed(site, workspace)), site.containers(workspace),
          volumes(lab.engine, workspace), [name for name in os.listdir(f"{site.agent.state}/ws") if name.startswith(f"{workspace}.")]),
         (False, False, [], {}, []), "what is left of it")
    verified(site)


def killed_without_key(stage):
    """the agent is killed when the key is gone, and again when a volume is: the removal ends well all the same"""
    site, text = stage.site(engine_proxy=True), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    other, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    wait_for(lambda: len(site.containers(workspace)) == 1, 10)
    killed = []

    def kill():
        killed.append((os.path.exists(sealed(site, workspace, "key.seal")), os.path.exists(sealed(site, workspace, "g1"))))
        site.agent.kill()
    rules = [site.dock.on("POST", "/containers/.*/stop", before(kill)), site.dock.on("DELETE", "/volumes/", before(kill))]
    job = site.plane.order(site.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": True})
    for rule in rules:
        rule.wait(30)
        site.agent.wait()
        site.agent.start()
    report = site.plane.final(job, 60)
    same((report["state"], report["result"]["destroyed"]), ("succeeded", ALL_GONE), report)
    same(killed, [(False, True)] * 2, "what was there when it was killed: the key, the set")
    gone(site, workspace)
    has(site, other, DEMO_A=text)
    place = f"{site.agent.state}/quarantine"
    same(os.listdir(place) if os.path.exists(place) else [], [], "quarantine: nothing was damaged")
    same(len(site.plane.jobs()), 3, "jobs: nothing was ordered anew")


def back_without_key(stage):
    """a provision that overtakes a removal whose key is gone: it runs with its own secrets"""
    site, text = stage.site(engine_proxy=True), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": value()}, image_ref=good)
    rule = site.dock.on("POST", "/containers/.*/stop", before(site.agent.kill))
    removal = site.plane.order(site.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": True})
    rule.wait(30)
    site.agent.wait()
    must(not os.path.exists(sealed(site, workspace, "key.seal")), "the key is there")
    job = order(site, workspace, {"DEMO_A": text}, image_ref=good)

    def overtaken():
        wait_for(lambda: site.plane.job(job)["state"] == "accepted", 25, "the provision's acceptance")
        site.agent.kill()
    again = site.dock.on("GET", f"/containers/json.*{workspace}", before(overtaken))
    site.agent.start()
    again.wait(30)
    site.agent.wait()
    site.agent.start()
    same(site.plane.final(job, 60)["state"], "succeeded", "the provision")
    same(site.plane.final(removal, 5)["state"], "superseded", "the removal")
    has(site, workspace, DEMO_A=text)
    wait_for(lambda: tool(site, "secrets", "verify")[0] == 0, 60, "a state directory without what was left behind")


def payloads(stage):
    """payloads of jobs that failed, or that waited and were overtaken, go while the agent runs"""
    site, never = stage.site(), stage.lab.image("never", keep=True)
    workspace, _ = provisioned(site, image_ref=good)
    names = lambda: sorted(int(name.split(".g")[1].split(".")[0]) for name in os.listdir(f"{site.agent.state}/ws") if name.endswith(".payload"))
    unknown = good[:-8] + "00000000"
    for generation in (2, 3, 4):
        same(site.plane.final(order(site, workspace, image_ref=unknown), 60)["state"], "failed", "an image that is not there")
        same(names(), [1, generation], "the settled one's and the last")
    slow = order(site, workspace, image_ref=never, probe={"timeout_seconds": 20})
    reported(site, slow, "configuring_https")
    for generation in (6, 7):
        waiting = order(site, workspace, image_ref=good)
        wait_for(lambda: site.plane.job(waiting)["state"] == "accepted", 20, "acceptance")
        same(names(), [1, 5, generation], "with one at work and one that waits")
    same(site.plane.final(waiting, 60)["state"], "succeeded", "the last")
    same(names(), [7], "in the end")


def orphans(stage):
    """rm-orphans: not while the agent runs; then what has no record goes, and nothing else"""
    site, text = stage.site(), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    stray, ws = new_id(), f"{site.agent.state}/ws"
    shutil.copytree(sealed(site, workspace), sealed(site, stray))
    os.makedirs(sealed(site, "host"))
    shutil.copy(sealed(site, workspace, "key.seal"), sealed(site, "host", "key.seal"))
    blob = next(name for name in os.listdir(ws) if name.startswith(f"{workspace}.g"))
    shutil.copy(f"{ws}/{blob}", f"{ws}/{stray}.g1.payload")
    places = ws, f"{site.agent.state}/sealed"
    look = lambda: sorted(os.path.join(top, name) for place in places for top, _, names in os.walk(place) for name in names)
    there, mine = at_rest(look), [sealed(site, stray), f"{ws}/{stray}"]
    status, words = tool(site, "secrets", "rm-orphans", "--reason", "a test")
    same((status, look()), (6, there), words)
    for run in (True, False):
        if not run:
            site.agent.stop()
        status, words = tool(site, "secrets", "rm-orphans", "--dry-run")
        must(status == 0 and "2 orphans" in words and f"sealed/{stray}" in words and f"ws/{stray}.g1.payload" in words, words)
        must(workspace not in words and "host" not in words, words)
        same(look(), there, "after a dry run")
    os.rename(ws, f"{ws}.away")                             # unknown is not absent
    for make in (lambda: None, lambda: os.symlink(f"{ws}.away", ws)):
        make()
        status, words = tool(site, "secrets", "rm-orphans", "--reason", "a test")
        must(status == 1 and "The records cannot be looked at" in words, f"{status}: {words}")
    os.unlink(ws)
    os.rename(f"{ws}.away", ws)
    same(look(), there, "where the records cannot be looked at")
    status, words = tool(site, "secrets", "rm-orphans", "--reason", "a test")
    must(status == 0 and "2 orphans" in words, words)
    left = [path for path in there if not path.startswith(tuple(mine))]
    same((look(), os.path.exists(sealed(site, stray))), (left, False), "what is left")
    same(tool(site, "secrets", "rm-orphans", "--reason", "a test"), (0, "0 orphans.\n"), "again")
    site.agent.start()
    has(site, workspace, DEMO_A=text)


CASES = (shared_secret, rotate_host_key, root_as_credential, lost_host_key, killed_without_key, rotate_root, back_without_key, receipt,
         rotate_credential, orphans, process, payloads)


def main():
    global lab, good
    with Lab("keys") as lab:
        good = lab.image("ok", keep=True)
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES)
    tap.done()


if __name__ == "__main__":
    main()
