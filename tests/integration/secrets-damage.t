#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets when something is lost: a replacement that fails, an engine or an agent that dies in it, memory emptied by a reboot, sealed
files that are damaged, a root key that is not there. Whoever has nothing to do with it does not notice."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from proxy import before  # noqa: E402
from sealed import degraded, flip, handed, has, life, order, provisioned, reads, sealed, tool, value, verified, writes  # noqa: E402
from world import digest_of, new_id, reported  # noqa: E402

lab = good = second = never = None                          # the Lab; three images by digest, the last answers nothing


class Old:
    """A workspace that runs with a secret of its own, and what of it has to come back."""

    def __init__(self, site):
        self.site, self.text = site, value("old")
        self.id, _ = provisioned(site, hush={"DEMO_A": self.text}, image_ref=good, env={"DEMO_WHO": "old"})
        self.life = life(site, self.id)

    def same(self):
        """Not even restarted."""
        same(life(self.site, self.id), self.life, "the container")
        has(self.site, self.id, DEMO_A=self.text)

    def back(self):
        """The same container, started again, alone, with its own secrets."""
        wait_for(lambda: len(self.site.containers(self.id)) == 1 and life(self.site, self.id)[2], 30, "one container that runs")
        now = life(self.site, self.id)
        must(now[0] == self.life[0] and now[1] != self.life[1], f"{self.life}\n{now}")
        must(good.split("@")[1] in digest_of(lab.engine, now[0]), "it runs another image")
        has(self.site, self.id, DEMO_A=self.text)

    def replace(self, seconds=4):
        """By one that never answers, with other secrets."""
        hush = {"DEMO_A": value("new"), "DEMO_B": value("new")}
        return order(self.site, self.id, hush, image_ref=never, probe={"timeout_seconds": seconds})

    def halt(self):
        lab.docker("POST", f"/containers/ws-{self.id}/stop", t=5)
        must(not life(self.site, self.id)[2], "it runs")


def rolled_back(site, job, timeout=60):
    report = site.plane.final(job, timeout)
    same((report["state"], report["error"]["code"]), ("failed", "rolled_back"), report)


# ── a replacement that fails ───────────────────────────────────────────────────────────────────────────────────

def gate_fails(stage):
    """the gate fails: the old container runs again with its own secrets"""
    site = stage.site()
    old = Old(site)
    rolled_back(site, old.replace())
    old.back()
    verified(site)
    text = value("next")
    provisioned(site, old.id, hush={"DEMO_A": text}, image_ref=second)
    has(site, old.id, DEMO_A=text)


def killed_in_gate(stage):
    """the agent is killed in the gate and the old secrets in memory are lost: they are back"""
    site = stage.site()
    old = Old(site)
    job = old.replace(8)
    reported(site, job, "configuring_https")
    site.agent.kill()
    site.agent.wait()
    shutil.rmtree(handed(site, old.id, "1"))
    site.agent.start()
    rolled_back(site, job)
    old.back()


def engine_away_in_gate(stage):
    """the engine ends and comes back in the gate: the old container runs again with its own secrets"""
    site = stage.site()
    old, beside = Old(site), Old(site)
    job = old.replace(12)
    reported(site, job, "configuring_https")
    lab.engine.stop()
    lab.engine.start()
    rolled_back(site, job, 120)
    old.back()
    beside.back()


def record_lost(stage):
    """a record is lost and the replacement fails: what only the old container names stays, and what only the record names"""
    site = stage.site()
    old = Old(site)
    site.agent.stop()
    os.unlink(f"{site.agent.state}/ws/{old.id}")
    nobody = handed(site, old.id, "9"), sealed(site, old.id, "g9")
    for path in nobody:
        os.mkdir(path)
    job = old.replace()
    site.agent.start()
    rolled_back(site, job)
    old.back()
    wait_for(lambda: not any(map(os.path.exists, nobody)), 80, "the end of what nobody names")
    same((sorted(os.listdir(handed(site, old.id))), sorted(os.listdir(sealed(site, old.id)))), (["1", "2"], ["g1", "g2", "key.seal"]),
         "what the container or the record's wanted version names")
    has(site, old.id, DEMO_A=old.text)


def altered_in_memory(stage):
    """what lies in memory was altered: the container starts with just what is sealed"""
    site = stage.site()
    old = Old(site)
    secrets, env = handed(site, old.id, "1", "secrets"), handed(site, old.id, "1", "env")
    place = os.stat(secrets).st_ino
    for alter in (lambda: writes(f"{secrets}/STRAY", b"x"), lambda: writes(f"{secrets}/DEMO_A", b"x"), lambda: os.unlink(env),
                  lambda: writes(env, b"MOLECULE-ENV/1 0\0"), lambda: os.chmod(env, 0o600)):
        site.agent.stop()
        old.halt()
        alter()
        site.agent.start()
        old.back()
        same((os.listdir(secrets), os.stat(env).st_mode & 0o777, os.stat(secrets).st_ino), (["DEMO_A"], 0o444, place), "files")


# ── reboot ─────────────────────────────────────────────────────────────────────────────────────────────────────

def reboot(stage):
    """a reboot: nothing starts without its secrets; with the agent all is back, without control plane, credentials and configuration"""
    site = stage.site()
    olds = [Old(site), Old(site)]
    plain, _ = provisioned(site, image_ref=good)

    def down(credentials, broken):
        """The second time the containers are stopped by hand, which is sooner done."""
        site.agent.stop()
        if broken:
            for old in olds:
                old.halt()
            lab.docker("POST", f"/containers/ws-{plain}/stop", t=5)
        else:
            lab.engine.stop()
        site.agent.runtime_unmount()
        site.agent.runtime_mount()
        site.agent.credentials, site.agent.settings["this is"] = credentials, broken
        if not broken:
            lab.engine.start()
        for workspace in (*(old.id for old in olds), plain):
            wait_for(lambda: not site.container(workspace)["State"]["Restarting"], 20, "an end of the engine's tries")
            must(not site.container(workspace)["State"]["Running"], "the engine has started it without its secrets")
            status, body = lab.docker("POST", f"/containers/ws-{workspace}/start")
            must(status >= 400 and "bind source" in str(body), f"a start by hand: {status} {body}")
        same(os.listdir(site.agent.runtime), [], "what was made in place of the mounts' sources")

    site.plane.stop()
    down(site.agent.credentials, None)
    for credentials, broken in ((None, None), ({}, "no setting")):
        if broken:
            down(credentials, broken)
        site.agent.start()
        for old in olds:
            old.back()
        wait_for(lambda: site.fetch(plain)[0] == 200, 20, "the one without secrets")
    must(site.agent.lines("last good configuration is in force") and site.agent.lines("not_enrolled"), "no word on what was not there")


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────

def named_bad(site, *words):
    """`secrets verify` says which file, and why."""
    status, text = tool(site, "secrets", "verify")
    must(status == 1 and any(all(word in line for word in words) for line in text.splitlines()), f"{status}: {text}")


def quarantined(site, part):
    names = os.listdir(f"{site.agent.state}/quarantine")
    mine = [name for name in names if part in name]
    must(any(f"{name}.reason" in mine for name in mine), names)


def told(site, method, path, since):
    return [json.loads(x.body) for x in site.cp.seen(method, path) if x.at > since]


def ordered_anew(site, hurt, other, part):
    """After a start with a damaged payload or key: it is known, told, ordered anew and whole; the other one did not notice."""
    before, since = life(site, hurt.id), max(x.at for x in site.cp.log)
    number = max(int(row["generation"]) for row in site.plane.jobs() if row["workspace_id"] == hurt.id)
    site.agent.start()
    newer = lambda row: row["workspace_id"] == hurt.id and int(row["generation"]) > number
    anew = wait_for(lambda: next(filter(newer, site.plane.jobs()), None), 40, "the order that is made anew")
    held = {each["workspace_id"] for each in told(site, "POST", "/hosts$", since)[0]["holding"]}
    must(other.id in held and hurt.id not in held, f"held: {held}")
    quarantined(site, part)
    report = site.plane.final(anew["job_id"], 60)
    same(report["state"], "succeeded", report)
    said = [each for body in told(site, "POST", "/health", since) for each in body.get("workspaces", []) if each["workspace_id"] == hurt.id]
    codes = [(each.get("last_error") or {}).get("code") for each in said]
    must("secret_undecryptable" in codes, f"health said {codes}")
    has(site, hurt.id, DEMO_A=hurt.text)
    same(len([row for row in site.plane.jobs() if row["workspace_id"] == other.id]), 1, "orders of the other one")
    other.same()
    wait_for(lambda: tool(site, "secrets", "verify")[0] == 0, 60, "a state directory that is whole again")
    must(before[0] != life(site, hurt.id)[0], "it was not made anew")


def key_damaged(stage):
    """a workspace's key is damaged, or another's: it is named, set aside and told, and the workspace is ordered anew"""
    site = stage.site(plane_proxy=True)
    hurt, other = Old(site), Old(site)
    key = sealed(site, hurt.id, "key.seal")
    for word, damage in (("bad_tag", lambda: flip(key)), ("bad_type", lambda: flip(key, 8, 4)),
                         ("wrong_workspace", lambda: shutil.copy(sealed(site, other.id, "key.seal"), key))):
        site.agent.stop()
        damage()
        named_bad(site, f"sealed/{hurt.id}/key.seal", word)
        ordered_anew(site, hurt, other, "key.seal")


def payload_damaged(stage):
    """a payload is truncated, or of another generation: the same"""
    site = stage.site(plane_proxy=True)
    hurt, other = Old(site), Old(site)
    path = lambda: next(f"{site.agent.state}/ws/{name}" for name in os.listdir(f"{site.agent.state}/ws")
                        if name.startswith(hurt.id) and name.endswith(".payload"))
    first = reads(path())
    site.agent.stop()
    writes(path(), first[:-1])
    named_bad(site, os.path.basename(path()), "bad_size")
    ordered_anew(site, hurt, other, ".payload")
    site.agent.stop()
    writes(path(), first)
    named_bad(site, os.path.basename(path()), "wrong_generation")
    ordered_anew(site, hurt, other, ".payload")


def set_damaged(stage):
    """a set is damaged, without its manifest, or another's: it is named, and made anew from the payload when the container starts"""
    site = stage.site()
    hurt, other = Old(site), Old(site)
    secret, manifest = sealed(site, hurt.id, "g1", "DEMO_A.seal"), sealed(site, hurt.id, "g1", "manifest.seal")
    foreign = sealed(site, other.id, "g1")

    def all_of_the_other():
        for name in os.listdir(foreign):
            shutil.copy(f"{foreign}/{name}", sealed(site, hurt.id, "g1", name))
    for path, word, damage in ((secret, "", lambda: flip(secret)), (manifest, "bad_tag", lambda: flip(manifest)),
                               (manifest, "missing", lambda: os.unlink(manifest)), (secret, "missing", lambda: os.unlink(secret)),
                               (manifest, "bad_tag", all_of_the_other)):
        site.agent.stop()
        damage()
        named_bad(site, f"sealed/{hurt.id}/g1", os.path.basename(path) if word != "missing" else "", word)
        hurt.halt()
        shutil.rmtree(handed(site, hurt.id))
        site.agent.start()
        hurt.back()
        verified(site)
        other.same()
    same(len(site.plane.jobs()), 2, "jobs: nothing had to be ordered anew")


# ── the root key ───────────────────────────────────────────────────────────────────────────────────────────────

def root_lost(stage):
    """without the root key, or with a wrong one: said, no job taken, no root made, containers run on; with it the waiting job succeeds"""
    site = stage.site(plane_proxy=True)
    old, text, job = Old(site), value("new"), None
    keys = f"{site.agent.state}/keys"
    root = f"{keys}/root.e1"
    right = reads(root)
    for wrong, word in ((None, "missing"), (os.urandom(32), "not the key"), (right[:31], "not the key")):
        site.agent.stop()
        os.unlink(root)
        if wrong:
            writes(root, wrong)
        there, since = sorted(os.listdir(keys)), max(x.at for x in site.cp.log)
        status, text_of = tool(site, "secrets", "verify")
        must(status == 1 and word in text_of, f"{status}: {text_of}")
        site.agent.start()
        must(site.agent.lines("no job is taken", "secret_undecryptable", word), site.agent.lines("no job is taken"))
        wait_for(lambda: "secret_undecryptable" in degraded(site), 20, "health that says it")
        job = job or order(site, old.id, {"DEMO_A": text}, image_ref=second)
        polls = wait_for(lambda: [x.path for x in site.cp.seen("GET", "/jobs") if x.at > since], 20, "a poll")
        must(all("max=0" in path for path in polls), polls)
        old.same()
        row = site.plane.job(job)
        same((row["reports"], row["final"], sorted(os.listdir(keys))), ([], None, there), "reports of the job, and the keys")
        if wrong is None:
            writes(root, b"")
    site.agent.stop()
    writes(root, right)
    site.agent.start()
    report = site.plane.final(job, 60)
    same(report["state"], "succeeded", report)
    has(site, old.id, DEMO_A=text)
    wait_for(lambda: degraded(site) == [], 20, "health that says nothing any more")
    verified(site)


def root_lost_under_a_job(stage):
    """the root key is gone when an accepted job is taken up: it is not failed, and succeeds when the root is back"""
    site = stage.site(engine_proxy=True)
    old, text, root = Old(site), value("new"), f"{site.agent.state}/keys/root.e1"
    rule = site.dock.on("GET", f"/containers/json.*{old.id}", before(site.agent.kill))
    job = order(site, old.id, {"DEMO_A": text}, image_ref=second)
    rule.wait(30)
    site.agent.wait()
    os.rename(root, f"{site.where}/root")
    site.agent.start()
    wait_for(lambda: "secret_undecryptable" in degraded(site), 20, "health that says it")
    old.same()
    same(site.plane.job(job)["final"], None, "the job")
    site.agent.stop()
    os.rename(f"{site.where}/root", root)
    site.agent.start()
    report = site.plane.final(job, 60)
    same(report["state"], "succeeded", report)
    has(site, old.id, DEMO_A=text)


@contextlib.contextmanager
def unreadable(path):
    """EIO: nothing is at the beginning of this process's memory."""
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def host_key_unread(stage):
    """the host's pair cannot be read as the agent starts: said once and in health, no job is taken and none refused; a later sweep reads it and makes it known"""
    site = stage.site()
    old, known = Old(site), site.host()["sealing_key"]
    site.agent.stop()
    file = next(f"{site.agent.state}/keys/{name}" for name in os.listdir(f"{site.agent.state}/keys") if name.startswith("host."))
    with unreadable(file):
        site.agent.start()
        wait_for(lambda: "state_degraded" in degraded(site), 30, "health that says it")
        job = order(site, old.id, {"DEMO_A": old.text + "2"}, image_ref=second)
        old.same()
        same(site.plane.job(job)["final"], None, "the job")
    for verb in ("pause", "unpause"):                       # an event brings the sweep forward
        lab.docker("POST", f"/containers/ws-{old.id}/{verb}")
    wait_for(lambda: site.agent.lines("The host's keys can be read now"), 20, "the keys")
    same(len(site.agent.lines("No job is taken: Cannot read the host's key h1")), 1, "how often it is said")
    report = site.plane.final(job, 60)
    same(report["state"], "succeeded", report)
    same((site.host()["sealing_key"], site.host()["sealing_key_conflict"]), (known, False), "the host's key")
    same(len(site.agent.lines("Registered")), 3, "registrations")
    has(site, old.id, DEMO_A=old.text + "2")
    same(tool(site, "secrets", "rotate-host-key", "--no-reload")[0], 0, "rotate-host-key")
    site.agent.restart()
    wait_for(lambda: site.host()["sealing_key"]["key_id"].startswith("h2-"), 20, "the next pair")
    site.agent.stop()
    with unreadable(file):                                  # the former one is not missed
        site.agent.start()
        provisioned(site, old.id, hush={"DEMO_A": old.text + "3"}, image_ref=good)
        same(len(site.agent.lines("The host's former key h1 is not used")), 1, "what is said")


def org_mistaken(stage):
    """another org_id in the configuration, over a reload and a start, and the right one again: nothing was set aside, all opens"""
    site = stage.site()
    old, org = Old(site), site.agent.settings["org_id"]
    known = site.host()["sealing_key"]
    site.agent.settings["org_id"] = new_id()
    site.agent.write()
    site.agent.kill(signal.SIGHUP)
    wait_for(lambda: site.agent.lines("The configuration was read anew"), 10, "the reload")
    site.agent.restart()
    old.same()
    site.agent.stop()
    site.agent.settings["org_id"] = org
    old.halt()
    shutil.rmtree(handed(site, old.id))
    site.agent.start()
    old.back()
    must(not os.path.exists(f"{site.agent.state}/quarantine"), "something was set aside")
    same((site.host()["sealing_key"], site.host()["sealing_key_conflict"]), (known, False), "the host's key")
    provisioned(site, old.id, hush={"DEMO_A": old.text}, image_ref=second)
    verified(site)


CASES = (key_damaged, payload_damaged, set_damaged, root_lost, root_lost_under_a_job, host_key_unread, org_mistaken, record_lost, killed_in_gate,
         gate_fails, altered_in_memory)
ALONE = (engine_away_in_gate, reboot)


def main():
    global lab, good, second, never
    with Lab("damage") as lab:
        good, second, never = lab.image("ok", page="one", keep=True), lab.image("ok", page="two", keep=True), lab.image("never", keep=True)
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, ALONE)
    tap.done()


if __name__ == "__main__":
    main()
