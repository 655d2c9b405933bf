#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets from the control plane to a workspace's process: the good way, what is refused, whose signature counts, and where secrets are not
written."""

import contextlib
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from seal import HostKey, b64, b64d  # noqa: E402
from sealed import (MARKER, at_rest, box, boxes, deprovisioned, environment, handed, has, holds, inside, life, order, provisioned,  # noqa: E402
                    sealed, value, verified)
from world import events, new_id, now, payload, snapshot, spec  # noqa: E402

KIB = 1024
lab = good = second = None                                  # the Lab; two images that work, by digest


# ── hand-over ──────────────────────────────────────────────────────────────────────────────────────────────────

def hand_over(stage):
    """sealed values and secret-named env: in the process and in files, and nowhere else"""
    site = stage.site(engine_proxy=True)
    hush = {"DEMO_BOX": value(), "DEMO_LINES": "two\nlines = 'q' \"\\ ü " + value()}
    named = {"DEMO_ENV_TOKEN": value(), "demo_api_key": value()}
    workspace, report = provisioned(site, hush=hush, image_ref=good, env=named | {"DEMO_PLAIN": "plain", "DEMO_EMPTY_SECRET": ""})
    has(site, workspace, **hush, **named)
    same(set(report["result"]["env_keys"]), {*hush, *named, "DEMO_PLAIN", "DEMO_EMPTY_SECRET"}, "env_keys")
    own = environment(site, workspace)
    same((own["DEMO_PLAIN"], own["DEMO_EMPTY_SECRET"], own["WORKSPACE_ID"]), ("plain", "", workspace), "what is no secret")
    text, _ = inside(site, workspace, "/bin/sh", "-c", "cd /run/molecule/secrets && echo *")
    same(sorted(text.split()), sorted([*hush, *named]), "files")
    for path in ("/run/molecule/env", "/run/molecule/secrets/DEMO_BOX", "/run/molecule/new", "/.molecule-launch"):
        must(inside(site, workspace, "/bin/sh", "-c", f"echo x >{path}")[1] != 0, f"{path} is writable")

    seen, asked = site.container(workspace), site.dock.seen("POST", "/containers/create")[-1].body.decode()
    for name, text in (hush | named).items():
        for where, shown in (("inspect", json.dumps(seen)), ("the create body", asked), ("the report", json.dumps(report))):
            must(text not in shown, f"{where} shows the value of {name}")
            must(where == "the report" or name not in shown, f"{where} shows the name {name}")
    must("DEMO_EMPTY_SECRET=" in seen["Config"]["Env"] and "DEMO_PLAIN=plain" in seen["Config"]["Env"], seen["Config"]["Env"])
    texts = [*named.values(), hush["DEMO_BOX"], hush["DEMO_LINES"][-20:]]
    for place in (site.agent.state, f"{lab.engine.where}/data/containers", site.agent.log):
        same(holds(place, *texts), [], "files with a value")
    verified(site)


def rotation(stage):
    """incident 29: a new value in a new generation; the old one is gone, and so are names that are sent no more"""
    site = stage.site()
    old, new = value("old"), value("new")
    workspace, _ = provisioned(site, hush={"DEMO_A": old, "DEMO_B": value()}, image_ref=good)
    provisioned(site, workspace, hush={"DEMO_A": new}, image_ref=good)
    has(site, workspace, DEMO_A=new)
    must("DEMO_B" not in environment(site, workspace), "a secret that was not sent any more is still there")
    wait_for(lambda: os.listdir(handed(site, workspace)) == ["2"] and sorted(os.listdir(sealed(site, workspace))) == ["g2", "key.seal"], 80,
             "the end of the old generation")
    has(site, workspace, DEMO_A=new)
    same(len(site.containers(workspace)), 1, "containers")


def platform_door(stage):
    """the platform's provision request: its secret-named env travels sealed and arrives"""
    site = stage.site(start=False)
    site.plane.pin("langgraph", good)
    site.start()
    workspace, text = new_id(), value()
    site.plane.provision(workspace, env={"DEMO_API_KEY": text, "DEMO_X": "1", "DEMO_NO_TOKEN": ""})
    same(sorted(site.fetch(workspace, "/env")[1].splitlines()), sorted([f"DEMO_API_KEY={text}", "DEMO_X=1", "DEMO_NO_TOKEN="]), "/env")
    row = next(row for row in site.plane.jobs() if row["workspace_id"] == workspace)
    sent = json.loads(b64d(site.plane.job(row["job_id"])["payload"]))["spec"]
    same((list(sent["secrets"]), sent["env"], sent["sealed_to"]),
         (["DEMO_API_KEY"], {"DEMO_X": "1", "DEMO_NO_TOKEN": ""}, site.host()["sealing_key"]["key_id"]), "what was sent")
    must(text not in json.dumps(sent), "the value was sent in clear")


def bare_image(stage):
    """an image from scratch without a shell, as 65534: entry point, command, directory and user are its own"""
    site, text = stage.site(), value()
    ref = lab.image("bare", user="65534", keep=True)
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=ref)
    has(site, workspace, DEMO_A=text)
    same(site.fetch(workspace), (200, "molecule bare one\n"), "its page, below its working directory")
    same(inside(site, workspace, "/bin/cat", "/proc/1/cmdline")[0], "busybox\0httpd\0-f\0-p\0008000\0", "the command line")
    status = dict(line.split(":\t", 1) for line in inside(site, workspace, "/bin/cat", "/proc/1/status")[0].splitlines() if ":\t" in line)
    same((status["Name"], status["Uid"].split()), ("busybox", ["65534"] * 4), "the process")
    seen = site.container(workspace)["Config"]
    same((seen["User"], seen["WorkingDir"]), ("65534", "/www"), "inspect")
    must("PATH=/bin" in seen["Env"], seen["Env"])


def user_and_tier(stage):
    """USER 65534, and the read-only root of tier 1"""
    site, text = stage.site(), value()
    ref = lab.image("ok", name="ok-user", user="65534", keep=True)
    for tier in (1, 2):
        workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=ref, tier=tier)
        has(site, workspace, DEMO_A=text)
        same(site.fetch(workspace, "/env"), (200, f"DEMO_A={text}\n"), "what its own child has")
        same(inside(site, workspace, "/bin/cat", "/proc/1/cmdline")[0], "/bin/sh\0/run.sh\0", "the command line")
        must("\nUid:\t65534\t" in inside(site, workspace, "/bin/cat", "/proc/1/status")[0], "the user")


def no_secrets(stage):
    """incident 32: without any secret both mounts are there all the same"""
    site = stage.site()
    workspace, _ = provisioned(site, image_ref=good, env={"DEMO_PLAIN": "1"})
    mounts = {mount["Destination"]: mount for mount in site.container(workspace)["Mounts"]}
    for target, source in (("/run/molecule", handed(site, workspace, "1")), ("/.molecule-launch", site.agent.settings["launcher"])):
        same((mounts[target]["Type"], mounts[target]["Source"], mounts[target]["RW"]), ("bind", source, False), target)
    same(inside(site, workspace, "/bin/cat", "/run/molecule/env"), ("MOLECULE-ENV/1 0\0", 0), "the file env")
    same(inside(site, workspace, "/bin/sh", "-c", "cd /run/molecule/secrets && echo *")[0], "*\n", "the files")
    same(site.fetch(workspace, "/env"), (200, "DEMO_PLAIN=1\n"), "/env")


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────

def bent(site, workspace):
    """(name, fields of the spec, code, a word of the message): each a good job but for one thing."""
    own, other = site.host()["sealing_key"]["key_id"], HostKey()
    one = lambda text, name="DEMO_A", **how: {"secrets": {name: box(site, workspace, name, text, **how)}, "sealed_to": own}
    ready = lambda data, to=own, name="DEMO_A": {"secrets": {name: data}, "sealed_to": to}
    whole = box(site, workspace, "DEMO_A", "good")
    undecryptable = "secret_undecryptable"
    yield "for another host's key", one("x", public=other.public), undecryptable, "DEMO_A"
    yield "for another workspace", ready(box(site, new_id(), "DEMO_A", "x")), undecryptable, "DEMO_A"
    yield "for another name", ready(box(site, workspace, "DEMO_B", "x")), undecryptable, "DEMO_A"
    yield "for another organization", one("x", org=new_id()), undecryptable, "DEMO_A"
    yield "for another version of the words", one("x", context=b"molecule.secret.v2"), undecryptable, "DEMO_A"
    yield "with nothing behind the context", one("x", context=b"molecule.secret"), undecryptable, "DEMO_A"
    yield "to a key that nobody has", ready(whole, other.key_id), undecryptable, own
    yield "to a key id that is none", ready(whole, "h"), undecryptable, own
    for size in (0, 1, 47, 48, len(b64d(whole)) - 1):
        yield f"cut to {size} bytes", ready(b64(b64d(whole)[:size])), undecryptable, "DEMO_A"
    yield "longer by one byte", ready(b64(b64d(whole) + b"\0")), undecryptable, "DEMO_A"
    yield "not base64", ready("*" * 80), "bad_json", "DEMO_A"
    yield "a number", ready(5), "bad_json", "DEMO_A"
    yield "an empty value", one(""), "bad_secret", "DEMO_A"
    yield "a NUL inside", one("a\0b"), "bad_secret", "DEMO_A"
    yield "a NUL at the end", one("a\0"), "bad_secret", "DEMO_A"
    yield "65,537 bytes", one("v" * (64 * KIB + 1)), "bad_secret", "DEMO_A"
    yield "70,000 bytes", one("v" * 70000), "bad_secret", "DEMO_A"
    yield "256 KiB and one byte in sum", boxes(site, workspace, **{f"N{i}": "v" * 64 * KIB for i in range(4)}, N4="v"), "too_large", ""
    yield "256 KiB and one byte, box and env", (boxes(site, workspace, **{f"N{i}": "v" * 64 * KIB for i in range(4)})
                                                | {"env": {"A_TOKEN": "v"}}), "too_large", ""
    yield "a disclosure marker", one(f"<{MARKER}>"), "bad_secret", "marker"
    yield "a disclosure marker in secret-named env", {"env": {"A_TOKEN": MARKER}}, "bad_secret", "A_TOKEN"
    for name in ("1A", "A-B", "", "A" * 129, "../A", "Ä"):
        yield f"the name {name[:10]!r}", one("x", name), "bad_env", ""
    yield "a name in env, too", one("x") | {"env": {"DEMO_A": "y"}}, "bad_env", "DEMO_A"
    for name in ("LD_PRELOAD", "ADMIN_TOKEN", "MOLECULE_CP_SHARED_SECRET", "AWS_SECRET_ACCESS_KEY", "MOLECULE_OPERATOR_X", "GH_TOKEN",
                 "BASH_ENV", "CREDENTIALS_DIRECTORY"):
        yield f"the name {name}", one("x", name), "privileged_env_forbidden", name
        yield f"the env name {name}", {"env": {name: "x"}}, "privileged_env_forbidden", name
    for name in ("WORKSPACE_ID", "PYTHONPATH", "manifest"):
        yield f"the name {name}", one("x", name), "bad_env", name
    yield "the env name manifest", {"env": {"manifest": "x"}}, "bad_env", "manifest"
    yield "secrets without sealed_to", {"secrets": {"DEMO_A": whole}}, "bad_json", "sealed_to"
    yield "sealed_to without secrets", {"sealed_to": own}, "bad_json", "sealed_to"
    yield "required env that no secret has", one("x") | {"required_env": ["DEMO_A", "WANTED"]}, "missing_required_env", "WANTED"
    yield "required env in an empty box", one("") | {"required_env": ["DEMO_A"]}, "bad_secret", "DEMO_A"


def below(place):
    return {os.path.join(top, name) for top, dirs, names in os.walk(place) for name in [*dirs, *names]}


def refused(stage):
    """bad boxes, values and names: refused with their code, nothing touched, nothing said"""
    site = stage.site()
    workspace, _ = provisioned(site, hush={"DEMO_A": value()}, image_ref=good)
    wait_for(lambda: len(site.containers(workspace)) == 1, 10)
    before, since, host = snapshot(lab.engine, workspace), now(), site.host()["host_id"]
    places = [site.agent.runtime, sealed(site, workspace), f"{site.agent.state}/ws"]
    lay = [at_rest(lambda place=place: below(place)) for place in places]
    told = list(bent(site, workspace))
    made = [payload(site, workspace, 2, spec=spec(**({"env": {}, "image_ref": good} | fields))) for _, fields, _, _ in told]
    jobs = [site.plane.order_raw(host, each) for each in made]
    wrong = []
    for (name, _, code, word), job in zip(told, jobs):
        report = site.plane.final(job, 60)
        error = report.get("error") or {}
        got = report["state"], error.get("code"), error.get("retryable")
        if got != ("refused", code, code == "secret_undecryptable") or word not in report["message"]:
            wrong.append(f"{name}: {got}, wanted {code}: {report['message']}")
    must(not wrong, "\n".join(wrong))
    mine = [event for event in events(lab.engine, since) if workspace in event]
    same((mine, snapshot(lab.engine, workspace) == before, [below(place) for place in places] == lay), ([], True, True),
         f"not one of {len(told)} jobs did anything")


def limits(stage):
    """just what is allowed: 65,536 bytes, 256 KiB in sum, a required name that is secret, a listed token, a name that is almost taken"""
    site, most = stage.site(), "v" * (64 * KIB - 20) + value("0123")[-20:]
    must(len(most) == 64 * KIB, len(most))
    hush = {f"DEMO_{i}": most for i in range(4)}
    workspace, _ = provisioned(site, hush=hush, image_ref=good, required_env=["DEMO_0"])
    same(inside(site, workspace, "/bin/cat", "/run/molecule/secrets/DEMO_3"), (most, 0), "the largest secret")
    same(environment(site, workspace)["DEMO_2"], most, "the largest secret")
    other, text = new_id(), value()
    provisioned(site, other, hush={"GH_TOKEN": text, "Manifest": text, "A" * 128: text, "lock": text, "env": text}, image_ref=good,
                workspace_secret_keys=["GH_TOKEN"])
    has(site, other, **{"GH_TOKEN": text, "Manifest": text, "A" * 128: text, "lock": text, "env": text})
    deprovisioned(site, other, True)


# ── signed jobs ────────────────────────────────────────────────────────────────────────────────────────────────

def signing(stage, name, **settings):
    """A site whose control plane signs, and whose agent trusts only that."""
    seed = f"{lab.where}/{name}.seed"
    with open(seed, "w") as file:
        file.write(b64(os.urandom(32)))
    site = stage.site(plane_words=["--signing-key-file", seed], start=False, **settings)
    site.agent.settings["signing_keys"] = site.plane.signing_key
    return site


def bad_signature(site, job):
    """Refused for it, by delivery alone."""
    report, row = site.plane.final(job, 30), site.plane.job(job)
    same((report["state"], report["error"]["code"]), ("refused", "bad_signature"), report)
    same([report.get(name) for name in ("job_id", "workspace_id", "generation", "type")], [None] * 4, "what it says of the job")
    must(report["delivery_id"] in [each["delivery_id"] for each in row["deliveries"]], report)


def signatures(stage):
    """signed jobs are taken; unsigned, wrongly and otherwise signed ones are refused unread, rubbish or not"""
    site = signing(stage, "signatures").start()
    host, text = site.host()["host_id"], value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    kept = life(site, workspace)
    for how in ("none", "wrong", "other-key"):
        bad_signature(site, site.plane.order(host, "workspace.provision", workspace, spec=spec(image_ref=good), signature=how))
        bad_signature(site, site.plane.order(host, "workspace.deprovision", workspace, spec={"prune": True}, signature=how))
        bad_signature(site, site.plane.order_raw(host, b"\0rubbish", signature=how))
    report = site.plane.final(site.plane.order_raw(host, b"\0rubbish"), 30)
    same((report["state"], report["error"]["code"]), ("refused", "bad_json"), "signed rubbish is read")
    same(life(site, workspace), kept, "the workspace")
    site.agent.settings["signing_keys"] = f"{b64(os.urandom(32))} {site.plane.signing_key}"       # two of them: one is enough
    site.agent.restart()
    workspace, _ = provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=second)
    site.agent.settings["signing_keys"] = b64(os.urandom(32))
    site.agent.restart()
    bad_signature(site, site.plane.order(host, "workspace.provision", workspace, spec=spec(image_ref=good)))
    same(site.fetch(workspace)[1], "molecule ok two\n", "what runs")


def forget_outcome(plane, job):
    """devcp as a backup from before the outcome would bring it back."""
    plane.stop()
    with contextlib.closing(sqlite3.connect(f"{plane.where}/devcp.db")) as database, database:
        database.execute("UPDATE jobs SET due_at = '', state = 'accepted', final = NULL, final_report_id = NULL WHERE job_id = ?", (job,))
        database.execute("DELETE FROM reports WHERE job_id = ?", (job,))
    plane.start()


def replays(stage):
    """a signed job that comes again gets its outcome and does not run again; a lower generation is superseded"""
    site = signing(stage, "replays").start()
    host, text = site.host()["host_id"], value()
    workspace, _ = provisioned(site, hush={"DEMO_A": value("old")}, image_ref=second)
    first = next(row["job_id"] for row in site.plane.jobs(host) if row["workspace_id"] == workspace)
    _, done = provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=good)
    job = next(row["job_id"] for row in site.plane.jobs(host) if row["workspace_id"] == workspace and row["job_id"] != first)
    kept = life(site, workspace)
    forget_outcome(site.plane, job)
    report = site.plane.final(job, 60)
    same((report["state"], report["result"]), ("succeeded", done["result"]), "the same job again")
    same(len(site.plane.job(job)["deliveries"]), 2, "deliveries")
    forget_outcome(site.plane, first)
    report = site.plane.final(first, 60)
    same(report["state"], "succeeded", "the first one again: its own outcome")
    old = json.loads(b64d(site.plane.job(first)["payload"])) | {"job_id": new_id()}
    report = site.plane.final(site.plane.order_raw(host, old), 30)
    same((report["state"], report["result"]), ("superseded", {"floor": "2"}), "the old state in a signed job of its own")
    same(life(site, workspace), kept, "the container")
    has(site, workspace, DEMO_A=text)


def signed_pins(stage):
    """an unsigned pin table is not taken, the old one stays; a signed one is"""
    site = signing(stage, "pins")
    site.plane.pin("langgraph", good)
    site.start()
    signed = site.plane.words
    workspace, report = provisioned(site)
    same(report["result"]["image_ref"], good, "the signed pin")
    site.plane.stop()
    site.plane.words = [*signed, "--pins-unsigned"]
    site.plane.start()
    site.plane.pin("langgraph", second)
    wait_for(lambda: site.agent.lines("pin table is not taken", "signed"), 40, "the agent's word on the table")
    must(site.agent.lines("pin table is not taken", "bad_signature"), site.agent.lines("pin table"))
    _, report = provisioned(site, workspace)
    same(report["result"]["image_ref"], good, "the pin that stays")
    site.plane.stop()
    site.plane.words = signed
    site.plane.start()
    taken = lambda: provisioned(site, workspace)[1]["result"]["image_ref"] == second
    wait_for(taken, 40, "the signed table")


def keys_for_signatures(stage):
    """require_signed_jobs without keys, or with none that is one: exit 78"""
    site = stage.site(start=False, require_signed_jobs="yes")
    status, text = site.agent.run("--check")
    must(status == 78 and "signing_keys" in text, f"{status}: {text}")
    for keys in ("x", b64(os.urandom(31)), " ".join(b64(os.urandom(32)) for _ in range(9))):
        site.agent.settings["signing_keys"] = keys
        status, text = site.agent.run("--check")
        must(status == 78 and "signing_keys" in text, f"{keys}: {status}: {text}")
    site.agent.settings["signing_keys"] = b64(os.urandom(32))
    same(site.agent.run("--check")[0], 0, "with a key")


# ── where they are not written ─────────────────────────────────────────────────────────────────────────────────

def degraded_place(site, workspace, *words):
    """A job of that workspace and one of another end with state_degraded; what runs is left alone."""
    kept = life(site, workspace)
    for each in (workspace, new_id()):
        report = site.plane.final(order(site, each, {"DEMO_A": value()}, image_ref=second), 60)
        same((report["state"], report["error"]["code"]), ("failed", "state_degraded"), report)
        for word in words:
            must(word in report["message"], f"{word!r} is not in {report['message']!r}")
    same((life(site, workspace), len(site.containers(workspace))), (kept, 1), "the old workspace")


def not_in_memory(stage):
    """the runtime directory is no tmpfs, or `ws` is a link: state_degraded, nothing is written there"""
    site, text = stage.site(), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    ws = f"{site.agent.runtime}/ws"
    os.rename(ws, f"{ws}.away")
    for place in (f"{site.where}/plain", f"{site.agent.runtime}/elsewhere"):        # on a disk, and in memory
        os.makedirs(place)
        os.symlink(place, ws)
        degraded_place(site, workspace, "ws")
        same(below(place), set(), "what lies behind the link")
        os.unlink(ws)
    os.rename(f"{ws}.away", ws)
    site.agent.runtime_unmount()
    degraded_place(site, workspace, site.agent.runtime, "tmpfs")
    same(below(site.agent.runtime), set(), "what lies in the plain directory")
    has(site, workspace, DEMO_A=text)
    site.agent.runtime_mount()
    provisioned(site, workspace, hush={"DEMO_A": text + "2"}, image_ref=second)
    has(site, workspace, DEMO_A=text + "2")


def led_astray(stage):
    """a workspace's own directory is a link, or writable by others: state_degraded for it, others go on"""
    site, text = stage.site(), value()
    workspace, _ = provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    own, kept = handed(site, workspace), life(site, workspace)
    os.rename(own, f"{own}.away")
    for place in (f"{site.where}/plain", f"{site.agent.runtime}/elsewhere"):
        os.makedirs(place)
        os.symlink(place, own)
        report = site.plane.final(order(site, workspace, {"DEMO_A": value()}, image_ref=second), 60)
        same((report["state"], report["error"]["code"], below(place)), ("failed", "state_degraded", set()), report)
        same(life(site, workspace), kept, "the old workspace")
        os.unlink(own)
    provisioned(site, hush={"DEMO_A": text}, image_ref=good)
    os.rename(f"{own}.away", own)
    os.chmod(own, 0o777)
    report = site.plane.final(order(site, workspace, {"DEMO_A": value()}, image_ref=second), 60)
    same((report["state"], report["error"]["code"]), ("failed", "state_degraded"), report)
    os.chmod(own, 0o755)
    provisioned(site, workspace, hush={"DEMO_A": text}, image_ref=second)
    has(site, workspace, DEMO_A=text)


CASES = (rotation, signed_pins, signatures, replays, refused, hand_over, not_in_memory, led_astray, limits, user_and_tier, bare_image,
         platform_door, no_secrets, keys_for_signatures)


def main():
    global lab, good, second
    with Lab("secrets") as lab:
        good, second = lab.image("ok", page="one", keep=True), lab.image("ok", page="two", keep=True)
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES)
    tap.done()


if __name__ == "__main__":
    main()
