#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The public management contract as devcp speaks it, and devcp's own beginnings and ends: the platform asks, an agent played by hand
does."""

import base64
import os
import signal
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import byhand  # noqa: E402
from byhand import (ADMIN, DIGEST, MIB, NIL, RUNNING, SECRET, Cp, Host, Tenant, failure, new_id, order, quietly,  # noqa: E402
                    refused, same, seen, settled, word, work)

cp = Cp("platform", "--registry", "registry.example.com/team", "--heartbeat-seconds", "7")
acme, other = Tenant(cp, "acme"), Tenant(cp, "other")
host = Host(acme)
same(host.register().status, 200)
same(cp.promote("claude-code", git_sha="b" * 40).status, 201)


# --- organizations and pins -------------------------------------------------------------------------------------------------------------

def test_organizations():
    body = {"slug": "second-org", "name": "Second", "owner_user_id": "u"}
    dry = cp.admin("POST", "/admin/orgs?dry_run=true", body)
    assert dry.status == 200 and dry.json == {"dry_run": True, "slug": "second-org"}, dry
    refused(cp.call("GET", "/orgs/second-org/instance"), 404)
    made = cp.admin("POST", "/admin/orgs", {**body, "provider": "molecules-server"})
    assert made.status == 201 and made.json["slug"] == "second-org" and made.json["instance_status"] == "provisioning", made
    assert "admin_token" not in made.json
    refused(cp.admin("POST", "/admin/orgs", body), 409)
    refused(cp.admin("POST", "/admin/orgs?dry_run=true", body), 409)
    for change, fields in (({"slug": "X"}, ["slug"]), ({"slug": 1}, ["slug"]), ({"name": ""}, ["name"]), ({"more": 1}, ["more"]),
                           ({"slug": None, "owner_user_id": None}, ["slug", "owner_user_id"])):
        answer = refused(cp.admin("POST", "/admin/orgs", {**body, **change}), 400)
        same(sorted(answer.json["fields"]), sorted(fields))
    answer = refused(cp.admin("POST", "/admin/orgs", {"slug": "third"}), 400)
    same(answer.json["fields"], ["name", "owner_user_id"])
    listed = cp.admin("GET", "/admin/orgs?limit=500").json["orgs"]
    mine = [org for org in listed if org["slug"] == "second-org"]
    same(len(mine), 1)
    same(sorted(mine[0]), sorted(["id", "slug", "name", "status", "created_at", "instance_status", "last_error"]))
    same(len(cp.admin("GET", "/admin/orgs?limit=1").json["orgs"]), 1)
    refused(cp.admin("GET", "/admin/orgs?limit=x"), 400)
    token = cp.admin("GET", "/admin/orgs/second-org/admin-token").json
    same(sorted(token), ["admin_token", "slug"])
    assert len(token["admin_token"]) == 64 and token["admin_token"] != acme.token
    refused(cp.admin("GET", "/admin/orgs/nobody/admin-token"), 404)
    public = cp.call("GET", "/orgs/second-org/instance")
    same(public.json, {"slug": "second-org", "status": "provisioning", "ip": None, "org_id": made.json["id"]})
    same(cp.call("GET", "/orgs/acme/instance").json["status"], "running")


def test_tenant_config():
    ask = lambda **changed: acme.call("GET", "/tenants/config", **{"Authorization": "Bearer " + acme.token,
                                                                   "X_Molecule_Org_Id": acme.org_id, **changed})
    same(ask().json, {"MOLECULE_CP_SHARED_SECRET": SECRET, "MOLECULE_CP_URL": cp.url})
    for changed in ({"Authorization": "Bearer " + SECRET}, {"Authorization": "Bearer " + ADMIN}, {"Authorization": None},
                    {"X_Molecule_Org_Id": other.org_id}, {"X_Molecule_Org_Id": None}, {"Authorization": "Bearer " + other.token}):
        refused(ask(**changed), 401)


def test_pins():
    tag = host.call("GET", "/pins").headers["ETag"]
    body = {"template_name": "hermes", "image_digest": DIGEST, "git_sha": "a" * 40, "notes": "first"}
    made = cp.admin("POST", "/admin/runtime-image/promote", body)
    same(made.status, 201)
    same(made.json["image_ref"], "registry.example.com/team/workspace-template-hermes@" + DIGEST)
    same(made.json["region"], "global")
    assert made.json["promoted_by"].startswith("api-token-") and len(made.json["promoted_by"]) == 18, made
    assert made.json["promoted_at"].endswith("Z")
    second = "sha256:" + "cd" * 32
    again = cp.admin("POST", "/admin/runtime-image/promote", {**body, "image_digest": second, "image_ref": "127.0.0.1:5000/x@" + second,
                                                              "image_size_bytes": "12345"})
    same((again.status, again.json["image_ref"]), (200, "127.0.0.1:5000/x@" + second))
    pins = cp.admin("GET", "/admin/runtime-image").json["pins"]
    same([(pin["template_name"], pin["notes"]) for pin in pins if pin["template_name"] == "hermes"], [("hermes", "first")])
    for change in ({"template_name": "a/b"}, {"image_digest": "latest"}, {"image_digest": "sha256:" + "AB" * 32}, {"notes": "n" * 501},
                   {"image_ref": "x:tag"}, {"image_ref": "x@" + second}, {"image_size_bytes": 5}, {"promoted_by": "me"}):
        refused(cp.admin("POST", "/admin/runtime-image/promote", {**body, **change}), 400)
    refused(cp.admin("POST", "/admin/runtime-image/promote", {"template_name": "hermes"}), 400)

    table = host.call("GET", "/pins")
    assert table.status == 200 and table.headers["ETag"] != tag and table.json["thin_ami"] == []
    row = [pin for pin in table.json["pins"] if pin["template_name"] == "hermes"][0]
    same(sorted(row), sorted(["template_name", "region", "image_digest", "image_ref", "image_size_bytes", "git_sha", "promoted_at",
                              "promoted_by"]))
    same(row["image_size_bytes"], "12345")
    assert "image_size_bytes" not in [pin for pin in table.json["pins"] if pin["template_name"] == "claude-code"][0]
    unchanged = host.call("GET", "/pins", changed={"If_None_Match": table.headers["ETag"]})
    same((unchanged.status, unchanged.json, unchanged.headers["ETag"]), (304, None, table.headers["ETag"]))
    same(host.call("GET", "/pins", changed={"If_None_Match": tag}).status, 200)
    same(host.poll(etag=table.headers["ETag"]).json["pins_etag"], table.headers["ETag"])


def test_a_promotion_ends_every_poll():
    mine = cp.fresh_host()
    tag = mine.poll().json["pins_etag"]
    began = time.monotonic()
    same(mine.poll(wait=2, etag='"old"').json, {"pins_etag": tag, "jobs": []})
    assert time.monotonic() - began < 1
    hanging = quietly(mine.poll, wait=2, most=0, etag=tag)
    time.sleep(0.3)
    cp.admin("POST", "/admin/runtime-image/promote", {"template_name": "codex", "image_digest": DIGEST, "git_sha": "", "notes": ""})
    answer = hanging.result(5)
    assert answer.json["pins_etag"] != tag and answer.json["jobs"] == [] and time.monotonic() - began < 1.8, answer


# --- the public contract ----------------------------------------------------------------------------------------------------------------

def test_provision():
    mine = cp.fresh_host()
    ws = new_id()
    files = {"config.yaml": base64.b64encode(b"name: x\n").decode()}
    everything = dict(template="t", tier=2, instance_type="t3.large", disk_gb=40, provider="molecules-server", data_persistence="persist",
                      kind="", display={"mode": "none", "width": 800, "height": 600, "protocol": ""}, config_files=files,
                      template_assets={"prompts/a.md": ""}, env={})
    waiting = quietly(mine.tenant.provision, ws, **everything)
    job = mine.job()
    same(job.payload["spec"], {"runtime": "claude-code", "platform_url": "https://acme.example.com", **everything})
    same((job.payload["type"], job.payload["workspace_id"], job.payload["generation"]), ("workspace.provision", ws, "1"))
    for state in ("accepted", "running"):
        mine.say(job, state)
    time.sleep(0.2)
    assert not waiting.done()
    same(mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=x").json["state"], "provisioning")
    mine.succeed(job, **RUNNING)
    answer = waiting.result(5)
    same(answer.status, 201)
    same(answer.json, {"workspace_id": ws, "instance_id": "ws-1", "private_ip": "172.18.0.2", "state": "running", "runtime": "claude-code",
                       "url": "http://127.0.0.1:20001"})
    status = mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=ws-1&provider=x")
    same(status.json, {"instance_id": "ws-1", "state": "running", "public_ip": "", "private_ip": "172.18.0.2"})


def test_provision_is_strict():
    tenant = cp.fresh_host().tenant
    ws = new_id()
    for name in ("org_id", "workspace_id", "runtime", "platform_url", "env"):
        body = tenant.request(ws)
        del body[name]
        refused(tenant.call("POST", "/workspaces/provision", body), 400, "bad_json")
    for change in ({"workspace_id": "x"}, {"workspace_id": ws.upper()}, {"runtime": ""}, {"runtime": "a/b"}, {"tier": "2"}, {"tier": 5},
                   {"tier": 1.5}, {"disk_gb": -1}, {"env": {"A": 1}}, {"env": []}, {"env": None}, {"kind": "other"},
                   {"data_persistence": "keep"}, {"display": {"mode": 1}}, {"platform_url": "ftp://x"},
                   {"platform_url": "https://user@x"}, {"platform_url": "https://"}, {"config_files": {"a": "?"}},
                   {"config_files": {"a": 5}}, {"idempotency_key": ""}, {"idempotency_key": 5}, {"template": None}):
        refused(tenant.provision(ws, **change), 400, "bad_json")
    for change in ({"more": 1}, {"image_ref": "r/x@" + DIGEST}, {"display": {"depth": 1}}):
        refused(tenant.provision(ws, **change), 400, "unsupported_field")
    over = base64.b64encode(b"x" * (128 * 1024 + 1)).decode()
    refused(tenant.provision(ws, config_files={"a": over, "b": over}), 400, "too_large")
    refused(tenant.provision(ws, template_assets={"config.yaml": base64.b64encode(b"x" * (16 * MIB + 1)).decode()}), 400, "too_large")
    refused(tenant.provision(ws, org_id=other.org_id), 403, "wrong_tenant")
    refused(tenant.provision(ws, runtime="unpinned"), 422, "RUNTIME_PIN_MISSING")
    same(cp.admin("GET", "/admin/jobs?host_id=" + new_id()).json, {"jobs": []})
    refused(tenant.call("GET", f"/workspaces/{ws}/status?instance_id=x"), 404)
    lonely = cp.fresh_tenant()
    assert refused(lonely.provision(ws), 503, "no_host").headers["Retry-After"]


def test_failures_have_their_status():
    mine = cp.fresh_host()
    for state, code, status in (("refused", "privileged_env_forbidden", 400), ("refused", "unsupported_field", 400),
                                ("refused", "bad_env", 400), ("refused", "tier_not_allowed", 422), ("failed", "RUNTIME_PIN_MISSING", 422),
                                ("failed", "image_not_found", 422), ("failed", "engine_unreachable", 502), ("refused", "draining", 502),
                                ("failed", "a_code_of_tomorrow", 502), ("cancelled", None, 409), ("conflict", None, 409),
                                ("expired", None, 502)):
        waiting = quietly(mine.tenant.provision, new_id())
        mine.say(mine.job(), state, **(failure(code) if code else {}))
        answer = refused(waiting.result(5), status, code or state)
        same(answer.json["message"], f"because of {code}" if code else state)


def test_idempotency():
    mine = cp.fresh_host()
    ws, key = new_id(), "cpprov-" + "0" * 32
    waiting = quietly(mine.tenant.provision, ws, idempotency_key=key)
    job = mine.job()
    assert "idempotency_key" not in job.payload["spec"]
    refused(mine.tenant.provision(ws, idempotency_key=key), 409, "provision_in_progress")
    refused(mine.tenant.provision(ws, idempotency_key=key, tier=1), 409, "idempotency_key_conflict")
    mine.succeed(job, **RUNNING)
    first = waiting.result(5)
    again = mine.tenant.provision(ws, idempotency_key=key)
    same((again.status, again.json), (201, first.json))
    refused(mine.tenant.provision(ws, idempotency_key=key, tier=1), 409, "idempotency_key_conflict")
    same(mine.jobs(), [], "no second job")
    neighbour = cp.fresh_host()
    waiting = quietly(neighbour.tenant.provision, new_id(), idempotency_key=key)    # the key is the tenant's own
    neighbour.say(neighbour.job(), "failed", **failure("start_failed"))
    refused(waiting.result(5), 502, "start_failed")


def test_a_superseded_provision_waits_for_its_successor():
    mine = cp.fresh_host()
    ws, key = new_id(), "cpprov-" + "1" * 32
    first = quietly(mine.tenant.provision, ws, idempotency_key=key)
    one = mine.job()
    second = quietly(mine.tenant.provision, ws, tier=1)
    two = mine.job()
    same((one.payload["generation"], two.payload["generation"]), ("1", "2"))
    mine.say(one, "superseded", result={"floor": "2"})
    time.sleep(0.2)
    assert not first.done()
    refused(mine.tenant.provision(ws, idempotency_key=key), 409, "provision_in_progress")
    mine.succeed(two, **RUNNING)
    same([each.result(5).status for each in (first, second)], [201, 201])
    same(mine.tenant.provision(ws, idempotency_key=key).status, 201)
    third = quietly(mine.tenant.provision, ws)
    job = mine.job()
    gone = quietly(mine.tenant.delete, ws)
    end = mine.job()
    mine.say(job, "superseded")
    mine.succeed(end)
    refused(third.result(5), 409, "superseded")
    same(gone.result(5).json, {"status": "terminated"})


def test_placement():
    tenant = cp.fresh_tenant()
    old, new = Host(tenant), Host(tenant)
    old.register()
    time.sleep(0.01)
    new.register()
    ws, job = settled(new)
    time.sleep(0.01)
    old.poll()
    waiting = quietly(tenant.provision, ws)             # stays where it is
    new.succeed(new.job(), **RUNNING)
    same(waiting.result(5).status, 201)
    elsewhere = new_id()
    time.sleep(0.01)
    old.call("POST", "/health", {"unchanged": True, "state_hash": "c" * 64})
    waiting = quietly(tenant.provision, elsewhere)      # a new one goes to whom was seen last
    old.succeed(old.job(), **RUNNING)
    same(waiting.result(5).status, 201)
    gone = quietly(tenant.delete, ws)
    new.succeed(new.job())
    same(gone.result(5).status, 200)
    old.poll()
    waiting = quietly(tenant.provision, ws)             # deprovisioned: free to go, and its line goes on
    moved = old.job()
    same(moved.payload["generation"], "4")
    old.succeed(moved, **RUNNING)
    same(waiting.result(5).status, 201)
    refused(cp.fresh_host().tenant.provision(ws), 409, "workspace_id_in_use")


def test_deprovision():
    mine = cp.fresh_host()
    same(mine.tenant.delete(new_id()).json, {"status": "terminated"}, "never seen")
    refused(mine.tenant.delete("x"), 400)
    ws, _ = settled(mine)
    refused(other.delete(ws), 404)
    refused(mine.tenant.delete(ws, "?instance_id=i-other"), 400)
    first = quietly(mine.tenant.delete, ws, "?instance_id=ws-1&provider=p&prune=yes")
    job = mine.job()
    same((job.payload["type"], job.payload["spec"]), ("workspace.deprovision", {"prune": False}))
    second = quietly(mine.tenant.delete, ws)
    time.sleep(0.2)
    same(mine.jobs(), [], "the same wish makes no second job")
    mine.say(job, "running")
    assert not first.done() and not second.done()
    mine.succeed(job)
    same([(each.result(5).status, each.result(5).json) for each in (first, second)], [(200, {"status": "terminated"})] * 2)
    same(mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=ws-1").json["state"], "terminated")
    same(mine.tenant.delete(ws).status, 200)
    same(mine.jobs(), [], "gone is gone")
    pruning = quietly(mine.tenant.delete, ws, "?prune=true")
    job = mine.job()
    same(job.payload["spec"], {"prune": True})
    mine.say(job, "refused", **failure("held", True))
    refused(pruning.result(5), 502, "held")
    pruning = quietly(mine.tenant.delete, ws, "?prune=true")
    mine.succeed(mine.job())
    same(pruning.result(5).status, 200)
    same(mine.tenant.delete(ws, "?prune=true").status, 200)
    same(mine.jobs(), [])


def test_status_follows_health():
    mine = cp.fresh_host()
    ws, _ = settled(mine)
    status = lambda: mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=ws-1").json["state"]
    shown = []
    for word_ in ("online", "degraded", "failed", "provisioning", "removed", "strange"):
        body = {"state_hash": word_, "host": {}, "agent": {}, "engine": {}, "pins": {}, "foreign": [],
                "workspaces": [{"workspace_id": ws, "status": word_}]}
        same(mine.call("POST", "/health", body).status, 200)
        shown.append(status())
    same(shown, ["running", "running", "failed", "running", "terminated", "running"])
    refused(mine.tenant.call("GET", f"/workspaces/{ws}/status"), 400)
    refused(mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=ws-2"), 404)
    refused(mine.tenant.call("GET", f"/workspaces/{NIL}/status?instance_id=x"), 404)
    refused(other.call("GET", f"/workspaces/{ws}/status?instance_id=ws-1"), 404)


def test_teardown_ends_every_workspace_of_the_host():
    mine = cp.fresh_host()
    ws, _ = settled(mine)
    order(cp, mine, type="host.teardown", spec={"confirm": mine.tenant.slug})
    mine.succeed(mine.job())
    same(mine.tenant.call("GET", f"/workspaces/{ws}/status?instance_id=ws-1").json["state"], "terminated")
    mine.register()
    same(mine.jobs(), [])


# --- endings and beginnings -------------------------------------------------------------------------------------------------------------

def test_what_was_said_survives_kill_9():
    one = Cp("killed")
    one.promote("claude-code")
    mine = Host(Tenant(one, "acme"))
    mine.register()
    key, ws = "cpprov-" + "2" * 32, new_id()
    waiting = quietly(mine.tenant.provision, ws, idempotency_key=key)
    job = mine.job()
    mine.say(job, "accepted")
    one.process.kill(signal.SIGKILL)
    one.process.wait()
    assert waiting.exception(5)
    two = mine.tenant.cp = Cp("killed2", database=one.database)
    after = seen(two, job)
    same((after["state"], len(after["reports"]), base64.b64decode(after["payload"])), ("accepted", 1, job.bytes))
    same(mine.jobs(), [], "accepted: not handed out again")
    refused(mine.tenant.provision(ws, idempotency_key=key), 409, "provision_in_progress")
    same(mine.call("POST", "/health", {"unchanged": True, "state_hash": "d" * 64}).json["need_full"], True)
    report = word("succeeded", delivery_id=job.delivery_id, result=RUNNING)     # by the delivery id alone, across the crash
    same(mine.report(report).status, 200)
    same(mine.tenant.provision(ws, idempotency_key=key).status, 201)
    same(two.process.stop(), 0)


def test_sigterm_answers_who_waits():
    one = Cp("ended")
    mine = Host(Tenant(one, "acme"))
    mine.register()
    hanging = quietly(mine.poll, wait=2)
    time.sleep(0.3)
    began = time.monotonic()
    same(one.process.stop(), 0)
    assert time.monotonic() - began < 1.5
    assert refused(hanging.result(5), 503).headers["Retry-After"]


def test_tls():
    cert, key = os.path.join(work, "cert.pem"), os.path.join(work, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=devcp", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=30)
    safe = Cp("tls", "--tls-cert", cert, "--tls-key", key)
    assert safe.url.startswith("https://127.0.0.1:"), safe.url
    safe.context = ssl.create_default_context(cafile=cert)
    mine = Host(Tenant(safe, "acme"))
    same(mine.register().json["org_slug"], "acme")
    hanging = quietly(mine.jobs, wait=2)
    time.sleep(0.3)
    big = base64.b64encode(b"y" * (3 * MIB)).decode()
    order(safe, mine, raw_payload=big)
    same([len(job.bytes) for job in hanging.result(10)], [3 * MIB])
    hanging = quietly(mine.poll, wait=1)
    same(hanging.result(5).json["jobs"], [])
    safe.context.maximum_version = ssl.TLSVersion.TLSv1_2
    same(safe.call("GET", "/orgs/acme/instance").status, 200)
    same(safe.process.stop(), 0)


byhand.run(cp, globals())
