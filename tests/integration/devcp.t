#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent protocol as devcp speaks it, call by call and rule by rule: what a host would send is written out, what it would have to be
told is compared."""

import base64
import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import byhand  # noqa: E402
from byhand import (ADMIN, DEVCP, DIGEST, MIB, NIL, RUNNING, SECRET, Answer, Cp, Host, Tenant, failure, hold, new_id,  # noqa: E402
                    order, put, quietly, refused, same, seen, settled, word, work)

cp = Cp("agent", "--registry", "registry.example.com/team", "--heartbeat-seconds", "7")
acme, other = Tenant(cp, "acme"), Tenant(cp, "other")
host = Host(acme)
same(host.register().status, 200)
same(cp.promote("claude-code", git_sha="b" * 40).status, 201)


# --- the program ------------------------------------------------------------------------------------------------------------------------

def test_command_line():
    run = lambda *argv: subprocess.run([DEVCP, *argv], capture_output=True, text=True, timeout=10)
    good = ["--database", os.path.join(work, "x.db"), "--admin-bearer-file", put("x.admin", ADMIN)]
    helped = run("--help")
    assert helped.returncode == 0 and "--ack-log" in helped.stdout
    for argv in ([], ["--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--wait-seconds", "0", *good],
                 ["--listen", "127.0.0.1:0", *good, "stray"], ["--listen", "127.0.0.1:0", "--tls-cert", put("c", "x"), *good]):
        same(run(*argv).returncode, 2, str(argv))
    for address in ("0.0.0.0:0", "192.0.2.1:80", "128.0.0.1:0", "localhost:1", "127.0.0.1", "127.0.0.1:70000"):
        ended = run("--listen", address, *good)
        assert ended.returncode == 1 and "listening" not in ended.stdout, (address, ended)
    assert ADMIN not in run("--listen", "0.0.0.0:0", *good).stderr


def test_routes_and_methods():
    for path in ("/nothing", "/hosts/", "/hosts/a/b/c", "/workspaces/provision/", "/admin/orgs/x/y/z", "/", "/hosts//jobs"):
        refused(cp.admin("GET", path), 404, "not_found")
    refused(cp.call("GET", "/admin/orgs", prefix="/api/v2"), 404, "not_found")
    refused(cp.call("GET", "", prefix="/api/v1"), 404, "not_found")
    answer = refused(cp.admin("DELETE", "/admin/orgs"), 405, "method_not_allowed")
    same(answer.headers["Allow"], "POST, GET")
    refused(cp.call("GET", "/hosts"), 405)
    refused(cp.call("POST", f"/hosts/{NIL}/jobs", {}), 405)
    refused(cp.call("PUT", "/workspaces/provision", {}), 405)
    answer = cp.admin("GET", "/admin/orgs")
    assert answer.headers["Date"] and answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Deprecation"] is None and answer.headers["Sunset"] is None
    old = cp.admin("GET", "/admin/orgs", prefix="/cp")
    same(old.json, answer.json)
    assert old.headers["Deprecation"].startswith("@") and old.headers["Sunset"].endswith("GMT")
    assert refused(cp.call("GET", "/admin/orgs", prefix="/cp"), 401).headers["Sunset"]


def test_credentials():
    wrong = {"Authorization": "Bearer wrong"}
    for method, path, body in (("GET", "/admin/orgs", None), ("POST", "/admin/orgs", {}), ("GET", "/admin/orgs/acme/admin-token", None),
                               ("GET", "/admin/runtime-image", None), ("POST", "/admin/runtime-image/promote", {}),
                               ("GET", "/admin/hosts", None), ("POST", f"/admin/hosts/{NIL}/jobs", {}), ("GET", "/admin/jobs", None)):
        for headers in ({}, wrong, {"Authorization": ADMIN}, {"Authorization": "Bearer " + SECRET}, {"Authorization": "Bearer "},
                        {"Authorization": "Bearer " + ADMIN + "x"}, {"Authorization": "Bearer " + acme.token}):
            refused(cp.call(method, path, body, headers), 401, "unauthorized")
    for path in ("/workspaces/provision", f"/workspaces/{NIL}/status?instance_id=x", f"/workspaces/{NIL}"):
        method = {"/workspaces/provision": "POST", f"/workspaces/{NIL}": "DELETE"}.get(path, "GET")
        for changed in ({"Authorization": None}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer " + ADMIN},
                        {"X_Molecule_Admin_Token": None}, {"X_Molecule_Admin_Token": "wrong"}, {"X_Molecule_Admin_Token": ""}):
            refused(acme.call(method, path, {} if method == "POST" else None, **changed), 401)
    for changed in ({"Authorization": None}, {"Authorization": "Bearer wrong"}, {"X_Molecule_Admin_Token": "wrong"},
                    {"X_Molecule_Org_Id": None}, {"X_Molecule_Org_Id": other.org_id}, {"X_Molecule_Admin_Token": other.token}):
        refused(host.register(changed), 401)
        refused(host.poll(changed=changed), 401)
        for path in ("/reports", "/health"):
            refused(host.call("POST", path, {}, changed), 401)
        refused(host.call("GET", "/pins", changed=changed), 401)
    same(cp.admin("GET", "/admin/orgs").status, 200)


def test_provision_family_needs_a_secret():
    for name, secret in (("nosecret", None), ("emptysecret", " ")):
        bare = Cp(name, secret=secret)
        tenant = Tenant(bare, "acme")
        for method, path in (("GET", f"/workspaces/{NIL}/status"), ("POST", "/workspaces/provision"), ("DELETE", f"/workspaces/{NIL}"),
                             ("POST", "/hosts"), ("GET", f"/hosts/{NIL}/jobs"), ("PUT", "/hosts")):
            refused(tenant.call(method, path, {} if method == "POST" else None), 404, "not_found")
            refused(bare.call(method, path, None, {"Authorization": "Bearer "}), 404, "not_found")
        config = tenant.call("GET", "/tenants/config", Authorization="Bearer " + tenant.token, X_Molecule_Org_Id=tenant.org_id)
        same(config.json, {"MOLECULE_CP_URL": bare.url})
        same(bare.process.stop(), 0)
    refused(cp.call("GET", f"/workspaces/{NIL}/status"), 401)


def test_bodies():
    for body in (b"", b"{", b"[]", b"null", b'{"slug":"a","slug":"b"}', b'{"slug":"\xff"}', b'{} x', b'{"a":' * 40):
        answer = cp.call("POST", "/admin/orgs", body, {"Authorization": "Bearer " + ADMIN})
        refused(answer, 400, "bad_json")
        refused(acme.cp.call("POST", "/workspaces/provision", body, acme.headers()), 400, "bad_json")
        refused(host.call("POST", "/health", body), 400, "bad_json")
    refused(cp.admin("POST", "/admin/orgs", b" " * (MIB + 1)), 413, "too_large")
    refused(cp.admin("POST", "/admin/orgs", b" " * (MIB - 1)), 400)
    refused(host.call("POST", "/reports", b" " * (MIB + 1)), 413)
    refused(acme.cp.call("POST", "/workspaces/provision", b" " * (2 * MIB), acme.headers()), 400)
    refused(acme.cp.call("POST", "/workspaces/provision", b" " * (32 * MIB + 1), acme.headers()), 413)
    connection = cp.connection()                        # no Content-Length to go by, and two requests on one connection
    connection.request("POST", "/api/v1/admin/orgs", iter([b" " * 65536] * 20), {"Authorization": "Bearer " + ADMIN}, encode_chunked=True)
    refused(Answer(connection.getresponse()), 413)
    connection.request("GET", "/api/v1/admin/orgs", headers={"Authorization": "Bearer " + ADMIN})
    same(Answer(connection.getresponse()).status, 200)
    connection.close()


# --- hosts ------------------------------------------------------------------------------------------------------------------------------

def test_register():
    mine = Host(cp.fresh_tenant())
    refused(mine.poll(), 404, "host_unknown")
    answer = mine.register(sealing_key={"key_id": "k", "algorithm": "x25519-sealedbox", "public_key": "Zm9v" * 10 + "Zm8="})
    same(answer.status, 200)
    shown = answer.json
    same((shown["host_id"], shown["org_slug"], shown["heartbeat_seconds"], shown["wait_seconds"]), (mine.id, mine.tenant.slug, 7, 2))
    assert shown["max_jobs"] >= 1 and shown["server_time"].endswith("Z")
    same(mine.poll().status, 200)
    for name in ("protocol", "org_id", "host_id", "boot_id", "boot_epoch", "host", "agent", "engine", "features", "max_tier", "holding",
                 "open_jobs", "host_generation"):
        body = mine.register_body()
        del body[name]
        refused(cp.call("POST", "/hosts", body, mine.headers()), 400, "bad_json")
    for more in ({"boot_epoch": 1}, {"host_generation": "01"}, {"max_tier": 9}, {"holding": [{}]}, {"open_jobs": ["x"]}, {"host": []},
                 {"holding": [{"workspace_id": new_id(), "generation": 1, "state": "online"}]}, {"org_id": "X"},
                 {"host_id": new_id()}, {"boot_id": new_id()}):
        refused(mine.register(**more), 400)
    refused(mine.register(org_id=other.org_id), 403, "wrong_tenant")
    refused(mine.register(protocol=2), 426)
    refused(mine.register({"X_Molecule_Agent_Protocol": "2"}), 426)
    refused(mine.poll(changed={"X_Molecule_Agent_Protocol": None}), 426)
    refused(mine.poll(changed={"X_Molecule_Host_Id": new_id()}), 400)
    refused(mine.poll(changed={"X_Molecule_Boot_Id": "x"}), 400)
    refused(Host(acme, "X").poll(), 400)
    thief = Host(other, mine.id)
    refused(thief.register(), 409, "host_id_in_use")
    refused(thief.poll(), 404, "host_unknown")
    row = [each for each in cp.admin("GET", "/admin/hosts").json["hosts"] if each["host_id"] == mine.id][0]
    same((row["org_slug"], row["boot_id"], row["register"]["sealing_key"]["key_id"]), (mine.tenant.slug, mine.boot, "k"))
    assert row["last_seen_at"] >= row["registered_at"] and "health" in row


def test_a_replaced_boot_is_refused():
    mine = cp.fresh_host()
    clone = Host(mine.tenant, mine.id)
    refused(clone.poll(), 404, "host_unknown")          # never registered: told to, not turned away
    hanging = quietly(mine.poll, wait=2)
    time.sleep(0.2)
    same(clone.register().status, 200)
    began = time.monotonic()
    refused(hanging.result(5), 409, "host_id_in_use")
    assert time.monotonic() - began < 1
    for answer in (mine.poll(), mine.report(word("running", job_id=new_id())), mine.call("POST", "/health", {}),
                   mine.call("GET", "/pins")):
        refused(answer, 409, "host_id_in_use")
    same(clone.poll().status, 200)
    same(mine.register().status, 200)                   # last wins
    refused(clone.poll(), 409, "host_id_in_use")


def test_polls_wait():
    mine = cp.fresh_host()
    began = time.monotonic()
    same(mine.poll(wait=1).json["jobs"], [])
    assert 0.9 < time.monotonic() - began < 1.9
    began = time.monotonic()
    same(mine.poll(wait=300).json["jobs"], [])          # bounded by what register said
    assert 1.8 < time.monotonic() - began < 3.5
    began = time.monotonic()
    mine.poll(wait=0)
    assert time.monotonic() - began < 0.8
    hanging = quietly(mine.jobs, wait=2)
    time.sleep(0.3)
    made = order(cp, mine, type="host.drain", spec={"reason": "test"})
    began = time.monotonic()
    same([job.payload["job_id"] for job in hanging.result(5)], [made["job_id"]])
    assert time.monotonic() - began < 1
    for query in ("wait=x&max=1", "wait=-1&max=1", "wait=0&max=101", "wait=0&max=", "wait=0&max=01"):
        refused(mine.call("GET", "/jobs?" + query), 400)
    many = [quietly(mine.poll, wait=1) for _ in range(12)]
    assert all(each.result(5).status == 200 for each in many)


def test_delivery():
    mine = cp.fresh_host()
    made = [order(cp, mine, type="image.ensure", spec={"runtime": f"r{i}"})["job_id"] for i in range(5)]
    same(mine.jobs(most=0), [])
    first = mine.jobs(most=2)
    same([job.payload["job_id"] for job in first], made[:2], "oldest first")
    rest = mine.jobs()
    same([job.payload["job_id"] for job in rest], made[2:])
    same(mine.jobs(), [], "handed out a moment ago")
    assert len({job.delivery_id for job in first + rest}) == 5
    mine.say(first[0], "accepted")
    mine.say(first[1], "succeeded")
    mine.register(open_jobs=[made[2]])
    again = mine.jobs()
    # accepted but not open: its record is lost, so it comes again; ended: never again; open: the host has it.
    same([job.payload["job_id"] for job in again], [made[0], made[3], made[4]])
    same([job.bytes for job in again], [first[0].bytes, rest[1].bytes, rest[2].bytes], "the very bytes")
    assert again[0].delivery_id != first[0].delivery_id
    mine.say(first[0], "running")                       # under its first delivery id: still that job
    same(seen(cp, again[0])["state"], "running")
    same([each["delivery_id"] for each in seen(cp, made[0])["deliveries"]], [first[0].delivery_id, again[0].delivery_id])
    listed = cp.admin("GET", "/admin/jobs?host_id=" + mine.id).json["jobs"]
    same([job["job_id"] for job in listed], made)
    assert len(cp.admin("GET", "/admin/jobs").json["jobs"]) >= len(listed)


def test_a_job_is_due_again_after_a_minute():
    mine = cp.fresh_host()
    made = order(cp, mine, type="image.ensure", spec={"runtime": "r"})["job_id"]
    first = mine.job()
    with sqlite3.connect(cp.database, timeout=5) as base:   # rather than wait for it
        due, = base.execute("SELECT due_at FROM jobs WHERE job_id = ?", (made,)).fetchone()
        handed, = base.execute("SELECT handed_at FROM deliveries WHERE job_id = ?", (made,)).fetchone()
        parse = lambda text: time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        same(parse(due) - parse(handed), 60.0)
        soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1)) + ".000Z"
        base.execute("UPDATE jobs SET due_at = ? WHERE job_id = ?", (soon, made))
    began = time.monotonic()
    again = mine.jobs(wait=2)                           # a poll that hangs wakes when the minute is over
    assert [job.bytes for job in again] == [first.bytes] and time.monotonic() - began < 1.7, again


def test_a_poll_whose_client_is_gone_takes_no_job():
    mine = cp.fresh_host()
    lost = socket.create_connection((cp.host, int(cp.port)))
    lines = [f"GET /api/v1/hosts/{mine.id}/jobs?wait=2&max=5 HTTP/1.1", "Host: x"] + [f"{k}: {v}" for k, v in mine.headers().items()]
    lost.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    time.sleep(0.3)
    lost.close()
    time.sleep(0.2)
    order(cp, mine, type="image.ensure", spec={"runtime": "r"})
    same(len(mine.jobs()), 1)


def test_payload():
    mine = cp.fresh_host()
    ws = new_id()
    made = order(cp, mine, type="workspace.provision", workspace_id=ws, spec={"runtime": "x", "image_ref": "r/x@" + DIGEST},
                 deadline_seconds=60)
    same((made["generation"], made["state"], made["final"]), ("1", "queued", None))
    job = mine.job()
    same(sorted(job.payload), sorted(["job_id", "type", "org_id", "host_id", "workspace_id", "generation", "issued_at", "deadline_seconds",
                                      "spec"]))
    same((job.payload["generation"], job.payload["workspace_id"], job.payload["host_id"], job.payload["org_id"]),
         ("1", ws, mine.id, mine.tenant.org_id))
    same(job.payload["spec"], {"runtime": "x", "image_ref": "r/x@" + DIGEST})
    same(made["payload_hash"], hashlib.blake2b(job.bytes, digest_size=32).hexdigest())
    same(base64.b64decode(seen(cp, job)["payload"]), job.bytes)
    same(order(cp, mine, type="workspace.restart", workspace_id=ws)["generation"], "2")
    same(order(cp, mine, type="workspace.provision", workspace_id=ws, generation="9", spec={})["generation"], "9")
    same(order(cp, mine, type="workspace.deprovision", workspace_id=ws, spec={"prune": False})["generation"], "10")
    same(order(cp, mine, type="workspace.provision", workspace_id=ws, generation="3", spec={})["generation"], "3")
    same([order(cp, mine, type=kind)["generation"] for kind in ("host.drain", "host.hold", "host.undrain")], ["1", "2", "3"])
    same(order(cp, mine, type="workspace.console", workspace_id=ws)["generation"], None)
    expiring = order(cp, mine, type="made.up", expires_at="2030-01-01T00:00:00Z", spec={"a": [1]})
    payload = json.loads(base64.b64decode(seen(cp, expiring["job_id"])["payload"]))
    assert payload["expires_at"].startswith("2030-01-01") and payload["type"] == "made.up" and "generation" not in payload
    mine.register(host_generation="40")
    same(order(cp, mine, type="host.drain")["generation"], "41")
    for body in ({}, {"type": 1}, {"type": "x", "more": 1}, {"type": "x", "workspace_id": "y"}, {"raw_payload": "?"},
                 {"type": "x", "spec": 1}):
        refused(cp.admin("POST", f"/admin/hosts/{mine.id}/jobs", body), 400)
    refused(cp.admin("POST", f"/admin/hosts/{new_id()}/jobs", {"type": "x"}), 404)
    refused(cp.admin("GET", f"/admin/jobs/{new_id()}"), 404)


def test_any_bytes_can_be_a_payload():
    mine = cp.fresh_host()
    for text in (b'{"job_id":"broken', b"\x00\xff\x00", b"", b'{ "job_id" : "%s",  "type":"workspace.provision" }' % new_id().encode()):
        made = order(cp, mine, raw_payload=base64.b64encode(text).decode())
        job = mine.job()
        same(job.bytes, text)
        if "job_id" in job.payload:
            same(made["job_id"], job.payload["job_id"])
        report = word("refused", delivery_id=job.delivery_id, **failure("bad_json"))
        same(mine.report(report).json, {"acked": [report["report_id"]]})
        after = seen(cp, made["job_id"])
        same((after["final"], after["reports"][0]["error"]["code"]), ("refused", "bad_json"))
    wanted = dict(job_id=made["job_id"], type="workspace.provision", workspace_id=new_id(), generation="7")
    twice = order(cp, mine, raw_payload=base64.b64encode(json.dumps(wanted).encode()).decode())
    assert twice["job_id"] != made["job_id"] and twice["generation"] == "7", "an id that is taken is not taken twice"
    mine.register(holding=[])
    same(len(mine.jobs()), 1, "raw bytes are never reissued as a wanted state")


def test_answers_stay_below_their_limit():
    mine = cp.fresh_host()
    big = base64.b64encode(b"x" * (15 * MIB)).decode()
    refused(cp.admin("POST", f"/admin/hosts/{mine.id}/jobs", {"raw_payload": base64.b64encode(b"x" * (24 * MIB - 512)).decode()}), 413)
    made = [order(cp, mine, raw_payload=big)["job_id"] for _ in range(2)]
    order(cp, mine, type="image.ensure")
    first, second = mine.jobs(), mine.jobs()
    same([len(job.bytes) for job in first], [15 * MIB])
    same([len(job.bytes) > MIB for job in second], [True, False])
    same(len(made), 2)


# --- reports and health -----------------------------------------------------------------------------------------------------------------

def test_reports():
    mine = cp.fresh_host()
    made = order(cp, mine, type="image.ensure")["job_id"]
    job = mine.job()
    states = []
    for state in ("accepted", "running", "accepted", "running", "failed", "succeeded", "running"):
        mine.say(job, state, **(failure("no_space", True) if state == "failed" else {}))
        after = seen(cp, made)
        states.append((after["state"], after["final"]))
    same(states, [("accepted", None), ("running", None), ("running", None), ("running", None)] + [("failed", "failed")] * 3)
    same([each["state"] for each in after["reports"]], ["accepted", "running", "accepted", "running", "failed", "succeeded", "running"])
    same(after["final_report_id"], after["reports"][4]["report_id"])
    same(after["due_at"], None)
    twice = after["reports"][1]
    twice.pop("received_at")
    same(mine.report(twice).json, {"acked": [twice["report_id"]]}, "known: acknowledged, not stored again")
    same(len(seen(cp, made)["reports"]), 7)
    batch = [word("running", job_id=made, stage="installing", progress=p, result={}) for p in (1, 50, 100)]
    same(mine.report(*batch).json, {"acked": [each["report_id"] for each in batch]})
    stray = [word("succeeded", job_id=new_id()), word("running", source="local", workspace_id=new_id(), generation="3")]
    same(mine.report(*stray).json["acked"], [each["report_id"] for each in stray], "of no job we know: kept and acknowledged")


def test_a_final_report_before_all_others_ends_delivery():
    mine = cp.fresh_host()
    order(cp, mine, type="image.ensure")
    job = mine.job()
    mine.report(word("refused", delivery_id=job.delivery_id, **failure("unsupported_type")))
    mine.register()
    same(mine.jobs(), [])
    mine.say(job, "accepted")
    same(seen(cp, job)["final"], "refused")


def test_one_bad_report_refuses_its_batch():
    mine = cp.fresh_host()
    made = order(cp, mine, type="image.ensure")["job_id"]
    job = mine.job()
    good = word("accepted", job_id=made)
    for change in ({"state": "queued"}, {"state": "done"}, {"state": None}, {"report_id": "x"}, {"progress": 101}, {"progress": "5"},
                   {"at": "today"}, {"error": {"code": 1}}, {"result": []}, {"generation": 5}, {"job_id": None}, {"source": ""},
                   {"message": 5}, {"delivery_id": "x"}):
        refused(mine.report(good, {**word("running", job_id=made), **change}), 400)
    for body in ({"boot_epoch": "1", "reports": []}, {"reports": [good]}, {"boot_epoch": 1, "reports": [good]},
                 {"boot_epoch": "1", "reports": [5]}, {"boot_epoch": "1", "reports": {}}):
        refused(mine.call("POST", "/reports", body), 400)
    same(seen(cp, made)["reports"], [], "nothing of a refused batch is kept")
    same(job.payload["job_id"], made)


def test_a_host_speaks_of_its_own_jobs_only():
    mine, neighbour = cp.fresh_host(), cp.fresh_host()
    made = order(cp, mine, type="image.ensure")["job_id"]
    job = mine.job()
    for names in ({"job_id": made}, {"delivery_id": job.delivery_id}, {"job_id": made, "delivery_id": job.delivery_id}):
        report = word("succeeded", **names)
        same(neighbour.report(report).json["acked"], [report["report_id"]])
    same((seen(cp, made)["final"], seen(cp, made)["reports"]), (None, []))
    neighbour.register(open_jobs=[made])
    mine.register()
    same(len(mine.jobs()), 1)


def test_acknowledgement_log():
    path = os.path.join(work, "acks")
    logged = Cp("acklog", "--ack-log", path)
    mine = Host(Tenant(logged, "acme"))
    mine.register()
    made = order(logged, mine, type="image.ensure")["job_id"]
    job = mine.job()
    sent = [mine.say(job, state) for state in ("accepted", "succeeded")]
    local = word("running", source="local", workspace_id=new_id())
    mine.report(local, sent[1])
    refused(mine.report(word("running", job_id=made), {}), 400)
    with open(path) as file:
        same(file.read().splitlines(), [f"{sent[0]['report_id']} {made} accepted", f"{sent[1]['report_id']} {made} succeeded",
                                        f"{local['report_id']} - running", f"{sent[1]['report_id']} {made} succeeded"])
    same(logged.process.stop(), 0)


def test_health():
    mine = cp.fresh_host()
    full = {"state_hash": "a" * 64, "host": {}, "agent": {"version": "0.1.0"}, "engine": {"state": "up"},
            "pins": {"etag": None, "age_seconds": None}, "foreign": [], "workspaces": []}
    short = {"unchanged": True, "state_hash": "a" * 64}
    answer = mine.call("POST", "/health", short)
    same((answer.status, answer.json["need_full"]), (200, True))
    answer = mine.call("POST", "/health", full)
    assert answer.json.get("need_full", False) is False and answer.json["server_time"].endswith("Z"), answer
    assert "need_full" not in mine.call("POST", "/health", short).json
    same(mine.call("POST", "/health", {**short, "state_hash": "b" * 64}).json["need_full"], True)
    row = [each for each in cp.admin("GET", "/admin/hosts").json["hosts"] if each["host_id"] == mine.id][0]
    same((row["state_hash"], row["health"]), ("a" * 64, full))
    for change in ({"state_hash": 5}, {"unchanged": "yes"}, {"workspaces": {}}, {"agent": None}):
        refused(mine.call("POST", "/health", {**full, **change}), 400)
    del full["state_hash"]
    refused(mine.call("POST", "/health", full), 400)


# --- what a host has lost comes back ----------------------------------------------------------------------------------------------------

def test_wanted_state_is_issued_anew():
    mine = cp.fresh_host()
    ws, job = settled(mine, env={"A": "1"})
    for more in (hold(ws, "1"), hold(ws, "2")):
        mine.register(**more)
        same(mine.jobs(), [], "the host has it")
    mine.register()
    again = mine.job()
    assert again.payload["job_id"] != job.payload["job_id"] and again.payload["spec"] == job.payload["spec"], again
    same(again.payload["generation"], "3", "above what was held and what was numbered")
    mine.register()
    redelivered = mine.job()
    same(redelivered.bytes, again.bytes, "not a third one while it is open")
    mine.say(redelivered, "accepted")
    mine.register(open_jobs=[again.payload["job_id"]], **hold(ws, "3", "provisioning"))
    same(mine.jobs(), [], "the host works on it")
    mine.register(open_jobs=[again.payload["job_id"]], **hold(ws, "2"))
    same(mine.job().payload["generation"], "4", "accepted, but its payload cannot be read")


def test_what_failed_or_ended_is_not_issued_anew():
    mine = cp.fresh_host()
    ws, _ = settled(mine)
    waiting = quietly(mine.tenant.provision, ws, env={"BAD": "1"})
    job = mine.job()
    mine.say(job, "failed", **failure("rolled_back"))
    refused(waiting.result(5), 502, "rolled_back")
    mine.register(**hold(ws, "1"))
    same(mine.jobs(), [], "the last good state is what is wanted, and it is there")
    mine.register()
    again = mine.job()
    same((again.payload["spec"]["env"], again.payload["generation"]), ({"MODEL": "small"}, "3"))
    mine.succeed(again, **RUNNING)
    waiting = quietly(mine.tenant.delete, ws)
    mine.succeed(mine.job())
    same(waiting.result(5).status, 200)
    mine.register()
    same(mine.jobs(), [])


def test_a_control_plane_that_forgot_learns_from_holding():
    mine = cp.fresh_host()
    ws = new_id()
    mine.register(**hold(ws, "17"))
    waiting = quietly(mine.tenant.provision, ws)
    job = mine.job()
    same(job.payload["generation"], "18")
    mine.say(job, "superseded", result={"floor": "30"}, message="below the floor")
    refused(waiting.result(5), 409, "superseded")
    waiting = quietly(mine.tenant.provision, ws)
    job = mine.job()
    same(job.payload["generation"], "31")
    mine.succeed(job, **RUNNING)
    same(waiting.result(5).status, 201)


byhand.run(cp, globals())
