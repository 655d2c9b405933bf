#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets and signatures as devcp makes them: which key it seals to and who may change that, what is in the boxes and what is in nothing
else, and who signed. The agent is played by hand, with keys of its own."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import byhand  # noqa: E402
from byhand import (ADMIN, DEVCP, RUNNING, Cp, Host, Tenant, failure, hold, new_id, order, put, quietly, refused, same,  # noqa: E402
                    seen, settled, work)
from seal import HostKey, b64, b64d, public_of, seal, signer_id, verifies  # noqa: E402

SEED = bytes(range(32))
VALUES = ["hush-" + word * 3 for word in ("alpha", "beta", "gamma", "delta")]
cp = Cp("secrets")
same(cp.promote("claude-code").status, 201)


def row(host):
    return next(each for each in host.tenant.cp.admin("GET", "/admin/hosts").json["hosts"] if each["host_id"] == host.id)


def keyed(key, plane=cp):
    host = Host(plane.fresh_tenant())
    same(host.register(sealing_key=key.register).status, 200)
    return host


def disputed(host, key, **more):
    """Registers a key that is not the known one; the challenge."""
    answer = refused(host.register(sealing_key=key.register, **more), 409, "sealing_key_conflict")
    same(row(host)["sealing_key_conflict"], True)
    return answer.json["challenge"]


def word(host, body):
    return host.tenant.cp.admin("POST", f"/admin/hosts/{host.id}/sealing-key", body)


# --- which key --------------------------------------------------------------------------------------------------------------------------

def test_a_key_is_read_strictly():
    host, key = Host(cp.fresh_tenant()), HostKey().register
    for change in ({"key_id": ""}, {"key_id": "a b"}, {"key_id": "k" * 129}, {"key_id": 1}, {"algorithm": "rsa"}, {"algorithm": None},
                   {"public_key": ""}, {"public_key": "AA=="}, {"public_key": key["public_key"][:-1]}, {"public_key": b64(b"x" * 33)},
                   {"public_key": key["public_key"] + "\n"}, {"public_key": b64(bytes(32))}, {"public_key": b64(b"\1" + bytes(31))}):
        refused(host.register(sealing_key={**key, **change}), 400)
    for name in key:
        refused(host.register(sealing_key={each: key[each] for each in key if each != name}), 400, "bad_json")
    for given in (None, [], "k", {}):
        refused(host.register(sealing_key=given), 400, "bad_json")
    refused(host.register(sealing_key={**key, "more": 1}), 400, "unsupported_field")
    for proof in (1, "", "?", b64(b"x" * 31), b64(b"x" * 33)):
        refused(host.register(sealing_key=key, previous_key_proof=proof), 400, "bad_json")
    refused(host.poll(), 404, "host_unknown")
    same(host.register(sealing_key=key, previous_key_proof=b64(b"x" * 32)).status, 200, "a first key needs no proof")


def test_a_first_key_is_believed():
    host, key = cp.fresh_host(), HostKey()
    same((row(host)["sealing_key"], row(host)["sealing_key_conflict"]), (None, False))
    for _ in range(2):
        same(host.register(sealing_key=key.register).status, 200)
        same((row(host)["sealing_key"], row(host)["sealing_key_conflict"]), (key.register, False))
    same(host.register().status, 200)
    same(row(host)["sealing_key"], key.register, "leaving it out changes nothing")
    disputed(host, HostKey(2))
    same(host.register(sealing_key={**key.register, "key_id": "h9"}).status, 200)
    same(row(host)["sealing_key"]["key_id"], "h9", "the same key by another name")


def test_another_key_needs_the_proof_of_the_known_one():
    old, new = HostKey(1), HostKey(2)
    host = keyed(old)
    challenge = disputed(host, new)
    same((len(old.open(challenge)), new.open(challenge)), (32, None))
    same(row(host)["sealing_key"], old.register, "the known one stays")
    first = old.prove(challenge, new)
    second = disputed(host, new)
    assert old.open(second) != old.open(challenge), "each register makes its own"
    third = disputed(host, new, previous_key_proof=first)
    assert old.open(third) not in (old.open(challenge), old.open(second))
    disputed(host, new, previous_key_proof=old.prove(second, new))
    fourth = disputed(host, new, previous_key_proof=b64(b"x" * 32))
    disputed(host, new, previous_key_proof=old.prove(fourth, HostKey(3)))       # a proof of some other key, and a challenge spent
    disputed(host, new, previous_key_proof=old.prove(fourth, new))
    fifth = disputed(host, new)
    good = dict(sealing_key=new.register, previous_key_proof=old.prove(fifth, new))
    same(host.register(**good).status, 200)
    same((row(host)["sealing_key"], row(host)["sealing_key_conflict"]), (new.register, False))
    same(host.register(**good).status, 200, "its answer was lost")
    disputed(host, old, previous_key_proof=old.prove(fifth, old))
    same(host.register(sealing_key=new.register).status, 200)
    same(row(host)["sealing_key_conflict"], False, "the known key again: there is no conflict")
    thief = Host(Tenant(cp, "thief"), host.id)
    refused(thief.register(sealing_key=HostKey().register), 409, "host_id_in_use")


def test_the_rest_of_such_a_register_counts():
    old, new = HostKey(1), HostKey(2)
    host = keyed(old)
    made = order(cp, host, type="image.ensure", spec={"runtime": "r"})["job_id"]
    same(len(host.jobs()), 1)
    again, ws = Host(host.tenant, host.id), new_id()
    disputed(again, new, **hold(ws, "17"))
    refused(host.poll(), 409, "host_id_in_use")
    job = again.job()
    same(job.payload["job_id"], made, "due again")
    again.succeed(job)
    same(again.call("POST", "/health", {"unchanged": True, "state_hash": "a" * 64}).status, 200)
    same(again.call("GET", "/pins").status, 200)
    same(order(cp, again, type="workspace.restart", workspace_id=ws)["generation"], "18")


def test_a_conflict_survives_its_control_plane_but_a_challenge_does_not():
    one = Cp("conflict")
    old, new = HostKey(1), HostKey(2)
    host = keyed(old, one)
    challenge = disputed(host, new)
    order(one, host, type="workspace.provision", workspace_id=new_id(), spec={}, seal={"A_KEY": VALUES[0]})
    one.process.kill(signal.SIGKILL)
    one.process.wait()
    two = host.tenant.cp = Cp("conflict2", database=one.database)
    same((row(host)["sealing_key"], row(host)["sealing_key_conflict"]), (old.register, True))
    same(host.jobs(), [])
    challenge = disputed(host, new, previous_key_proof=old.prove(challenge, new))
    same(host.register(sealing_key=new.register, previous_key_proof=old.prove(challenge, new)).status, 200)
    same(new.value(host.job().payload, "A_KEY"), VALUES[0])
    same(two.process.stop(), 0)


def test_an_operators_word_settles_it():
    old, new = HostKey(1), HostKey(2)
    host = keyed(old)
    refused(word(host, {"key_id": new.key_id}), 404, "no_conflict")
    challenge = disputed(host, new)
    for body in ({}, {"key_id": 1}, {"key_id": ""}, {"key_id": new.key_id, "more": 1}):
        refused(word(host, body), 400)
    for key_id in (old.key_id, "h2", HostKey(2).key_id):
        refused(word(host, {"key_id": key_id}), 409, "sealing_key_mismatch")
    refused(cp.admin("POST", f"/admin/hosts/{new_id()}/sealing-key", {"key_id": new.key_id}), 404, "not_found")
    refused(cp.call("POST", f"/admin/hosts/{host.id}/sealing-key", {"key_id": new.key_id}), 401)
    refused(cp.call("POST", f"/admin/hosts/{host.id}/sealing-key", {"key_id": new.key_id}, host.tenant.headers()), 401)
    same(row(host)["sealing_key"], old.register)
    answer = word(host, {"key_id": new.key_id})
    same((answer.status, answer.json), (200, {"host_id": host.id, "key_id": new.key_id}))
    same((row(host)["sealing_key"], row(host)["sealing_key_conflict"]), (new.register, False))
    refused(word(host, {"key_id": new.key_id}), 404, "no_conflict")
    same(host.register(sealing_key=new.register).status, 200)
    disputed(host, old, previous_key_proof=old.prove(challenge, old))


# --- what is sealed ---------------------------------------------------------------------------------------------------------------------

def test_a_provision_s_secrets_are_sealed():
    key = HostKey()
    host, ws = keyed(key), new_id()
    secrets = {"API_TOKEN": VALUES[0], "clientSecret": VALUES[1], "MONKEYS": VALUES[2], "DB_PassWord": "ä\n " + VALUES[3],
               "BIG_KEY": VALUES[0] + "x" * 30000}
    clear = {"MODEL": "small", "EMPTY_TOKEN": "", "TOKE_N": "clear"}
    waiting = quietly(host.tenant.provision, ws, env={**secrets, **clear})
    job = host.job()
    spec = job.payload["spec"]
    same((spec["env"], sorted(spec["secrets"]), spec["sealed_to"]), (clear, sorted(secrets), key.key_id))
    same({name: key.value(job.payload, name) for name in secrets}, secrets)
    assert not any(value.encode() in job.bytes for value in VALUES)
    host.register(sealing_key=key.register)
    again = host.job()
    same(again.bytes, job.bytes, "sealed once")
    host.succeed(again, **RUNNING)
    same(waiting.result(5).status, 201)
    shown = seen(cp, job)
    same(b64d(shown["payload"]), job.bytes)


def test_a_host_without_a_key_gets_env_as_it_is():
    host = cp.fresh_host()
    waiting = quietly(host.tenant.provision, new_id(), env={"A_TOKEN": "plain"})
    job = host.job()
    same({name: value for name, value in job.payload["spec"].items() if name in ("env", "secrets", "sealed_to")},
         {"env": {"A_TOKEN": "plain"}})
    host.succeed(job, **RUNNING)
    same(waiting.result(5).status, 201)


def test_the_operators_door_seals():
    key = HostKey()
    host, bare, ws = keyed(key), cp.fresh_host(), new_id()
    ordered = lambda **more: cp.admin("POST", f"/admin/hosts/{host.id}/jobs", {"type": "workspace.provision", "workspace_id": ws, **more})
    made = ordered(spec={"env": {"A_KEY": "by hand"}, "secrets": {"HAND": "AAAA"}}, seal={"A_KEY": VALUES[0], "odd name": VALUES[1]})
    same(made.status, 201)
    job = host.job()
    same(job.payload["spec"]["env"], {"A_KEY": "by hand"})
    same((job.payload["spec"]["secrets"]["HAND"], sorted(job.payload["spec"]["secrets"])), ("AAAA", ["A_KEY", "HAND", "odd name"]))
    same((key.value(job.payload, "A_KEY"), key.value(job.payload, "odd name"), job.payload["spec"]["sealed_to"]),
         (VALUES[0], VALUES[1], key.key_id))
    same(ordered(seal={"A_KEY": VALUES[2]}, spec={"sealed_to": "h7"}).status, 201)
    job = host.job()
    same((key.value(job.payload, "A_KEY"), job.payload["spec"]["sealed_to"]), (VALUES[2], "h7"), "given by hand, stays")
    same(ordered(seal={}).status, 201)
    same(host.job().payload["spec"], {})
    for seal_ in (1, [], {"A": 1}, {"A": None}, {"A": ""}, {"A": {}}):
        refused(ordered(seal=seal_), 400, "bad_json")
    refused(ordered(seal={"HAND": "x"}, spec={"secrets": {"HAND": "AAAA"}}), 400)
    refused(cp.admin("POST", f"/admin/hosts/{host.id}/jobs", {"type": "image.ensure", "seal": {"A": "x"}}), 400)
    refused(cp.admin("POST", f"/admin/hosts/{host.id}/jobs", {"raw_payload": "e30=", "workspace_id": ws, "seal": {"A": "x"}}), 400)
    refused(cp.admin("POST", f"/admin/hosts/{bare.id}/jobs", {"type": "workspace.provision", "workspace_id": new_id(), "spec": {},
                                                              "seal": {"A": "x"}}), 409, "no_sealing_key")
    same((host.jobs(), bare.jobs()), ([], []))


# --- another key, the same secrets ------------------------------------------------------------------------------------------------------

def test_jobs_with_secrets_wait_for_the_end_of_a_conflict():
    old, new = HostKey(1), HostKey(2)
    host, ws, hand = keyed(old), new_id(), new_id()
    challenge = disputed(host, new)
    hanging = quietly(host.jobs, wait=2)
    waiting = quietly(host.tenant.provision, ws, env={"A_TOKEN": VALUES[0], "B": "1"})
    given = {"secrets": {"X": seal(new.public, b"x")}, "sealed_to": new.key_id}
    order(cp, host, type="workspace.provision", workspace_id=hand, spec=given)
    time.sleep(0.3)
    assert not hanging.done(), "neither sealed by us nor by hand"
    clear = order(cp, host, type="workspace.provision", workspace_id=new_id(), spec={"env": {"B": "1"}})
    same([job.payload["job_id"] for job in hanging.result(5)], [clear["job_id"]])
    begun = {"open_jobs": [clear["job_id"]], **hold(clear["workspace_id"], "1", "provisioning")}
    disputed(host, new, **begun)
    same(host.jobs(), [], "and again at each register")
    held = next(job for job in cp.admin("GET", "/admin/jobs?host_id=" + host.id).json["jobs"] if job["workspace_id"] == ws)
    same((held["generation"], held["final"]), ("1", None))

    challenge = disputed(host, new, **begun)
    same(host.register(sealing_key=new.register, previous_key_proof=old.prove(challenge, new), **begun).status, 200)
    jobs = {job.payload["workspace_id"]: job for job in host.jobs()}
    same(sorted(jobs), sorted([ws, hand]))
    same(jobs[hand].payload["spec"], given, "ready-made boxes are not ours to mend")
    job = jobs[ws]
    same((job.payload["generation"], job.payload["spec"]["env"], job.payload["spec"]["sealed_to"]), ("2", {"B": "1"}, new.key_id))
    same(new.value(job.payload, "A_TOKEN"), VALUES[0])
    same((seen(cp, held["job_id"])["final"], seen(cp, held["job_id"])["reports"]), ("superseded", []))
    assert not waiting.done()
    host.succeed(job, **RUNNING)
    same(waiting.result(5).status, 201, "who waited for the first has the second's answer")


def test_what_waits_does_not_hide_what_is_due():
    old, new = HostKey(1), HostKey(2)
    host = keyed(old)
    disputed(host, new)
    order(cp, host, type="workspace.provision", workspace_id=new_id(), spec={}, seal={"A_KEY": VALUES[0]})
    clear = order(cp, host, type="image.ensure", spec={"runtime": "r"})["job_id"]
    same(host.job().payload["job_id"], clear)
    with sqlite3.connect(cp.database, timeout=5) as base:   # rather than wait a minute
        soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1)) + ".000Z"
        base.execute("UPDATE jobs SET due_at = ? WHERE job_id = ?", (soon, clear))
    began = time.monotonic()
    same([job.payload["job_id"] for job in host.jobs(wait=2)], [clear])
    assert time.monotonic() - began < 1.7


def test_an_operators_word_makes_queued_jobs_anew_at_once():
    old, new = HostKey(1), HostKey(2)
    host, ws, begun = keyed(old), new_id(), new_id()
    order(cp, host, type="workspace.provision", workspace_id=begun, spec={}, seal={"A_KEY": VALUES[0]})
    accepted = host.job()
    host.say(accepted, "accepted")
    disputed(host, new, open_jobs=[accepted.payload["job_id"]])
    hanging = quietly(host.jobs, wait=2)
    order(cp, host, type="workspace.provision", workspace_id=ws, spec={"tier": 1}, seal={"A_KEY": VALUES[1]})
    time.sleep(0.3)
    assert not hanging.done()
    same(word(host, {"key_id": new.key_id}).status, 200)
    job, = hanging.result(5)
    same((job.payload["workspace_id"], job.payload["generation"], job.payload["spec"]["tier"]), (ws, "2", 1))
    same(new.value(job.payload, "A_KEY"), VALUES[1])
    same(seen(cp, accepted)["final"], None)
    holding = hold(ws, "2", "provisioning")["holding"]
    both = {"open_jobs": [accepted.payload["job_id"], job.payload["job_id"]], "holding": [*holding, *hold(begun, "1")["holding"]]}
    same(host.register(sealing_key=new.register, **both).status, 200)
    same((host.jobs(), seen(cp, accepted)["final"]), ([], None), "open jobs are the host's")
    same(host.register(sealing_key=new.register, open_jobs=[job.payload["job_id"]], holding=holding).status, 200)
    again = host.job()
    same((again.payload["workspace_id"], again.payload["generation"], new.value(again.payload, "A_KEY")), (begun, "2", VALUES[0]))
    same(seen(cp, accepted)["final"], "superseded")
    host.say(accepted, "failed", **failure("secret_undecryptable", True))
    same((seen(cp, accepted)["final"], len(seen(cp, accepted)["reports"])), ("superseded", 2), "too late, and acknowledged")


def test_only_the_newest_wish_is_made_anew():
    old, new = HostKey(1), HostKey(2)
    host, twice, gone, plain = keyed(old), new_id(), new_id(), new_id()
    disputed(host, new)
    provision = lambda ws, **more: order(cp, host, type="workspace.provision", workspace_id=ws, **{"spec": {}, **more})["job_id"]
    first, second = provision(twice, seal={"A_KEY": VALUES[0]}), provision(twice, seal={"A_KEY": VALUES[1]})
    ended = provision(gone, seal={"A_KEY": VALUES[2]})
    order(cp, host, type="workspace.deprovision", workspace_id=gone, spec={"prune": True})
    over = provision(plain, seal={"A_KEY": VALUES[3]})
    kept = provision(plain, spec={"tier": 1})
    same(word(host, {"key_id": new.key_id}).status, 200)
    jobs = [(job.payload["workspace_id"], job.payload["type"], job.payload["generation"]) for job in host.jobs()]
    same(jobs, [(gone, "workspace.deprovision", "2"), (plain, "workspace.provision", "2"), (twice, "workspace.provision", "3")])
    same([seen(cp, each)["final"] for each in (first, second, ended, over, kept)], ["superseded"] * 4 + [None])
    payload = json.loads(b64d(seen(cp, cp.admin("GET", "/admin/jobs?host_id=" + host.id).json["jobs"][-1]["job_id"])["payload"]))
    same(new.value(payload, "A_KEY"), VALUES[1])


def test_who_waits_hears_what_became_of_the_new_job():
    old, new = HostKey(1), HostKey(2)
    host, ws, other = keyed(old), new_id(), new_id()
    disputed(host, new)
    first = quietly(host.tenant.provision, ws, env={"A_TOKEN": VALUES[0]}, idempotency_key="cpprov-1")
    second = quietly(host.tenant.provision, other, env={"A_TOKEN": VALUES[1]})
    time.sleep(0.3)
    same(word(host, {"key_id": new.key_id}).status, 200)
    jobs = {job.payload["workspace_id"]: job for job in host.jobs(wait=2)}
    host.say(jobs[ws], "refused", **failure("privileged_env_forbidden"))
    refused(first.result(5), 400, "privileged_env_forbidden")
    refused(host.tenant.provision(ws, env={"A_TOKEN": VALUES[0]}, idempotency_key="cpprov-1"), 400, "privileged_env_forbidden")
    host.say(jobs[other], "failed", **failure("no_space", True))
    refused(second.result(5), 502, "no_space")
    same(host.register(sealing_key=new.register).status, 200)
    same(host.jobs(), [], "what came to nothing is not wanted")


def test_a_lost_workspace_comes_back_with_its_secrets():
    old, new = HostKey(1), HostKey(2)
    host = keyed(old)
    ws, job = settled(host, env={"A_TOKEN": VALUES[0], "B": "1"})
    same(host.register(sealing_key=old.register, **hold(ws, "1")).status, 200)
    same(host.jobs(), [])
    same(host.register(sealing_key=old.register).status, 200)
    again = host.job()
    same((again.payload["generation"], again.payload["spec"]["env"], old.value(again.payload, "A_TOKEN")), ("2", {"B": "1"}, VALUES[0]))
    assert again.payload["spec"]["secrets"] != job.payload["spec"]["secrets"], "sealed anew"
    host.succeed(again, **RUNNING)
    disputed(host, new)
    same(host.jobs(), [], "not while there is a conflict")
    bare, _ = settled(host, env={"B": "2"})
    challenge = disputed(host, new, **hold(ws, "1"))
    job = host.job()
    same((job.payload["workspace_id"], job.payload["generation"]), (bare, "2"), "what has no secrets comes all the same")
    host.succeed(job, **RUNNING)
    same(host.register(sealing_key=new.register, previous_key_proof=old.prove(challenge, new), **hold(bare, "2")).status, 200)
    last = host.job()
    same((last.payload["generation"], last.payload["spec"]["sealed_to"], new.value(last.payload, "A_TOKEN")), ("3", new.key_id, VALUES[0]))
    same(old.open(last.payload["spec"]["secrets"]["A_TOKEN"]), None)


# --- signatures -------------------------------------------------------------------------------------------------------------------------

signing = Cp("signing", "--signing-key-file", put("seed", b64(SEED) + " \n\n"))
PUBLIC = public_of(SEED)


def test_signing_options():
    run = lambda *argv: subprocess.run([DEVCP, "--listen", "127.0.0.1:0", "--database", os.path.join(work, "x.db"), "--admin-bearer-file",
                                        put("x.admin", ADMIN), *argv], capture_output=True, text=True, timeout=10)
    helped = run("--help").stdout
    assert "--signing-key-file" in helped and "--pins-unsigned" in helped
    for number, text in enumerate(("x", b64(SEED[:31]), b64(SEED + b"x"), b64(SEED)[:-1], "\n" + b64(SEED), "")):
        ended = run("--signing-key-file", put(f"seed{number}", text))
        assert ended.returncode in (1, 2) and not ended.stdout and (len(text) < 9 or text.strip() not in ended.stderr), ended
    same(signing.announced("signing key "), b64(PUBLIC))
    same(cp.announced("signing key "), None)


def test_jobs_are_signed():
    host = signing.fresh_host()
    order(signing, host, type="image.ensure", spec={"runtime": "r"})
    job = host.job()
    same(len(job.signatures), 1)
    same(sorted(job.signatures[0]), ["keyid", "sig"])
    same((job.signatures[0]["keyid"], verifies(job.envelope, PUBLIC), verifies(job.envelope, public_of(b"x" * 32))),
         (signer_id(PUBLIC), True, False))
    for change in ({"payload": b64(job.bytes + b" ")}, {"payloadType": "application/vnd.molecule.pins.v1+json"}):
        same(verifies({**job.envelope, **change}, PUBLIC), False)
    host.register()
    same(host.job().envelope, job.envelope)
    for text in (b"", b"\x00\xff", b'{"job_id":"broken'):
        order(signing, host, raw_payload=b64(text))
        raw = host.job()
        same((raw.bytes, verifies(raw.envelope, PUBLIC)), (text, True))


def test_bad_signatures_on_demand():
    host = signing.fresh_host()
    got, ids = {}, {}
    for how in ("none", "wrong", "other-key", "good"):
        order(signing, host, type="image.ensure", signature=how)
        order(signing, host, raw_payload="e30=", signature=how)
        made, raw = host.jobs()
        got[how] = [len(made.signatures), verifies(made.envelope, PUBLIC)]
        same([len(raw.signatures), verifies(raw.envelope, PUBLIC)], got[how], how)
        ids[how] = [each["keyid"] for each in made.signatures]
    same(got, {"none": [0, False], "wrong": [1, False], "other-key": [1, False], "good": [1, True]})
    same((ids["wrong"], ids["other-key"] == ids["wrong"]), ([signer_id(PUBLIC)], False))
    for how in ("", "bad", 1, None):
        refused(signing.admin("POST", f"/admin/hosts/{host.id}/jobs", {"type": "image.ensure", "signature": how}), 400, "bad_json")
    refused(cp.admin("POST", f"/admin/hosts/{cp.fresh_host().id}/jobs", {"type": "image.ensure", "signature": "wrong"}), 400)


def test_the_pin_table_is_signed():
    host = signing.fresh_host()
    signing.promote("hermes")
    answer = host.call("GET", "/pins")
    same((answer.status, sorted(answer.json), answer.json["payloadType"]),
         (200, ["payload", "payloadType", "signatures"], "application/vnd.molecule.pins.v1+json"))
    same(([each["keyid"] for each in answer.json["signatures"]], verifies(answer.json, PUBLIC)), ([signer_id(PUBLIC)], True))
    table = json.loads(b64d(answer.json["payload"]))
    same(([pin["template_name"] for pin in table["pins"]], table["thin_ami"]), (["hermes"], []))
    tag = answer.headers["ETag"]
    same(host.poll(etag=tag).json["pins_etag"], tag)
    same(host.call("GET", "/pins", changed={"If_None_Match": tag}).status, 304)
    tags = {tag}
    for name, words in (("unsigned", ()), ("pins-unsigned", ("--pins-unsigned", "--signing-key-file", os.path.join(work, "seed"))),
                        ("other-signer", ("--signing-key-file", put("seed-other", b64(b"x" * 32))))):
        same(signing.process.stop(), 0)
        signing.process = None
        again = Cp(name, *words, database=signing.database)
        signing.process, signing.url, signing.host, signing.port, signing.log = again.process, again.url, again.host, again.port, again.log
        shown = host.call("GET", "/pins")
        plain = name != "other-signer"
        same((shown.json if plain else json.loads(b64d(shown.json["payload"]))), table)
        order(signing, host, type="image.ensure")
        job = host.job()
        host.succeed(job)
        same((len(job.signatures), verifies(job.envelope, PUBLIC)), {"unsigned": (0, False), "pins-unsigned": (1, True),
                                                                     "other-signer": (1, False)}[name])
        tags.add(shown.headers["ETag"])
        same(host.poll().json["pins_etag"], shown.headers["ETag"])
    same(len(tags), 3, "another signature is another table; without one it is the same whoever signs jobs")


# --- where values are not ---------------------------------------------------------------------------------------------------------------

def test_values_are_in_one_table_only():
    with sqlite3.connect(cp.database, timeout=5) as base:
        tables = [name for name, in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"jobs", "secrets", "reports", "hosts"} <= set(tables), tables
        held = {}
        for name in tables:
            text = b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode()
                              for each in base.execute(f"SELECT * FROM {name}") for cell in each)
            held[name] = [value for value in VALUES if value.encode() in text]
    same({name: found for name, found in held.items() if found}, {"secrets": VALUES})
    shown = [cp.admin("GET", path).json for path in ("/admin/hosts", "/admin/jobs", "/admin/orgs", "/admin/runtime-image")]
    jobs = [seen(cp, job["job_id"]) for job in shown[1]["jobs"]]
    assert len(jobs) > 20
    text = json.dumps([shown, jobs]).encode() + b"".join(base64.b64decode(job["payload"]) for job in jobs)
    with open(cp.log, "rb") as file:
        text += file.read()
    same([value for value in VALUES if value.encode() in text], [])


byhand.run(cp, globals())
