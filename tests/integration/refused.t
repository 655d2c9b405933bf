#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input against the real parts: every bad job ends with its stable code, and the engine did nothing at all meanwhile. A running
workspace is the one that the bad jobs are about, another one lives beside it; both are compared before and after, bit by bit."""

import base64
import contextlib
import json
import os
import sqlite3
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from world import b64, events, new_id, now, payload, snapshot, spec  # noqa: E402

VALUE = "hunter2-never-to-be-said"                          # no words anywhere may hold it
KIB, MIB = 1024, 1024 * 1024
NEVER = ("MOLECULE_ADMIN_TOKEN CP_ADMIN_API_TOKEN CP_ADMIN_TOKEN CP_PROMOTE_PROD_API_TOKEN PROVISION_SHARED_SECRET "
         "MOLECULE_CP_SHARED_SECRET SECRETS_ENCRYPTION_KEY MOLECULE_TEMPLATE_REPO_TOKEN AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY "
         "AWS_SESSION_TOKEN GHCR_PULL_TOKEN INFISICAL_OPERATOR_TOKEN INFISICAL_BOOTSTRAP_TOKEN INFISICAL_CLIENT_ID INFISICAL_CLIENT_SECRET "
         "RAILWAY_TOKEN RAILWAY_PERSONAL_API_TOKEN HETZNER_TOKEN HETZNER_API_TOKEN MOLECULE_OPERATOR_ANY ADMIN_TOKEN "
         "GITEA_TOKEN GITEA_PAT GITHUB_TOKEN GITHUB_PAT GH_TOKEN GITLAB_TOKEN GL_TOKEN BITBUCKET_TOKEN "
         "LD_PRELOAD LD_LIBRARY_PATH GCONV_PATH GLIBC_TUNABLES BASH_ENV NOTIFY_SOCKET LISTEN_FDS WATCHDOG_USEC "
         "CREDENTIALS_DIRECTORY").split()
OWN = "WORKSPACE_ID WORKSPACE_CONFIG_PATH PLATFORM_URL MOLECULE_URL TIER PLUGINS_DIR PYTHONPATH MOLECULE_WORKSPACE_URL".split()


class Bent:
    """The cases: name, the bytes of the payload, code, a word that the message must hold. Every payload is a good one but for one thing."""

    def __init__(self, site, workspace, generation, image):
        self.site, self.workspace, self.generation, self.image, self.cases = site, workspace, generation, image, []

    def good(self, **fields):
        return payload(self.site, self.workspace, self.generation, **fields)

    def text(self, name, code, change, word=""):
        """change: of the payload's text."""
        text = json.dumps(self.good())
        bent = change(text)
        assert bent != text and bent != text.encode(), name
        self.cases.append((name, bent if isinstance(bent, bytes) else bent.encode(), code, word))

    def head(self, name, code, word="", **fields):
        self.cases.append((name, json.dumps(self.good(**fields)).encode(), code, word))

    def spec(self, name, code, word="", **fields):
        self.head(name, code, word, spec=spec(**fields))

    def all(self):
        self.json_texts()
        self.fields()
        self.whose()
        self.images()
        self.env()
        self.paths()
        return self.cases

    def json_texts(self):
        text, into_spec = self.text, lambda more: lambda t: t.replace('"spec": {', '"spec": {' + more + ", ", 1)
        text("empty payload", "bad_json", lambda t: "")
        text("truncated in the middle", "bad_json", lambda t: t[:len(t) // 2])
        text("truncated by one byte", "bad_json", lambda t: t[:-1])
        text("something behind the object", "bad_json", lambda t: t + " {}")
        text("an array", "bad_json", lambda t: f"[{t}]")
        text("no JSON at all", "bad_json", lambda t: "<html><body>502</body></html>")
        text("a byte order mark", "bad_json", lambda t: b"\xef\xbb\xbf" + t.encode())
        text("invalid UTF-8", "bad_json", lambda t: t.encode().replace(b"langgraph", b"lang\xffraph"))
        text("U+0000 in a string", "bad_json", lambda t: t.replace("langgraph", "lang\\u0000graph"))
        text("a raw control character", "bad_json", lambda t: t.replace("langgraph", "lang\ngraph"))
        text("a leading zero", "bad_json", lambda t: t.replace('"tier": 2', '"tier": 02'))
        text("a number without end", "bad_json", lambda t: t.replace('"tier": 2', '"tier": 1e999'))
        text("a repeated field", "bad_json", lambda t: t.replace("{", '{"type": "workspace.provision", ', 1))
        text("a repeated field in spec", "bad_json", into_spec('"tier": 1'))
        text("a repeated field, one spelled with an escape", "bad_json", into_spec(r'"tie\u0072": 1'))
        text("a repeated env name", "bad_json", lambda t: t.replace('"env": {}', '"env": {"A": "1", "A": "2"}'))
        text("a repeated file name", "bad_json", into_spec(f'"config_files": {{"a": "{b64("1")}", "a": "{b64("2")}"}}'))
        text("17 levels deep", "bad_json", into_spec('"x": ' + "[" * 15 + "]" * 15))
        text("100,000 levels deep", "bad_json", into_spec('"x": ' + "[" * 100000))
        text("30,000 values", "bad_json", into_spec('"x": [' + ",".join("0" * 30000) + "]"))
        text("2,000 names in one object", "bad_json", lambda t: t.replace('"env": {}',
                                                                          '"env": {' + ",".join(f'"N{i}": ""' for i in range(2000)) + "}"))
        text("20 MiB of white space and no end", "bad_json", lambda t: t[:-1] + " " * (20 * MIB))

    def fields(self):
        head, fields = self.head, self.spec
        head("an unknown field", "unsupported_field", "later", later=1)
        fields("an unknown field in spec", "unsupported_field", "later", later=1)
        head("a field in another case", "unsupported_field", Deadline_seconds=5)
        fields("an unknown field in probe", "unsupported_field", "later", probe={"later": 1})
        fields("an unknown field in display", "unsupported_field", "later", display={"mode": "none", "later": 1})
        fields("secrets without sealed_to", "bad_json", "sealed_to", secrets={"A": b64("box")})
        fields("sealed_to without secrets", "bad_json", "sealed_to", sealed_to="k1")
        fields("a box that is no base64", "bad_json", "A", secrets={"A": "box"}, sealed_to="k1")
        fields("a box to a key that is none of this host's", "secret_undecryptable", "current", secrets={"A": b64("box")}, sealed_to="k1")
        for name in ("job_id", "type", "org_id", "host_id", "workspace_id", "generation", "issued_at", "spec"):
            head(f"{name} is missing", "bad_json", name, **{name: None})
        for name in ("runtime", "platform_url"):
            fields(f"spec.{name} is missing", "bad_json", name, **{name: None})
        for name, wrong in (("job_id", "42"), ("job_id", new_id().upper().replace("0", "A")), ("org_id", 7), ("workspace_id", "../../etc"),
                            ("generation", self.generation), ("generation", "0"), ("generation", "07"), ("generation", "-1"),
                            ("generation", ""),
                            ("generation", "18446744073709551616"), ("issued_at", "yesterday"), ("issued_at", 0), ("expires_at", "soon"),
                            ("deadline_seconds", "10"), ("deadline_seconds", 1.5), ("spec", []), ("type", 1)):
            head(f"{name} as {json.dumps(wrong)}", "bad_json", name if name != "type" else "", **{name: wrong})
        for name, wrong in (("tier", "2"), ("tier", 2.5), ("tier", -1), ("runtime", ""), ("runtime", "Lang Graph"), ("env", []),
                            ("env", {"A": 1}),
                            ("config_files", []), ("config_files", {"a": 1}), ("config_files", {"a": "not base64"}), ("restart", "no"),
                            ("required_env", "A"), ("required_env", ["no name"]), ("workspace_secret_keys", [1]), ("probe", "/"),
                            ("probe", {"path": "no-slash"}), ("probe", {"timeout_seconds": "5"}), ("image_size_bytes", 5),
                            ("disk_gb", "8")):
            fields(f"spec.{name} as {json.dumps(wrong)}", "bad_json", **{name: wrong})
        for name, wrong in (("kind", "vm"), ("data_persistence", "forever"), ("display", {"mode": "vnc"})):
            fields(f"spec.{name} as {json.dumps(wrong)}", "unsupported_field", name, **{name: wrong})
        head("deprovision without prune", "bad_json", "prune", type="workspace.deprovision", spec={})
        head("deprovision with prune as text", "bad_json", "prune", type="workspace.deprovision", spec={"prune": "true"})
        head("deprovision with a spec of provision", "unsupported_field", type="workspace.deprovision", spec=spec(prune=True))
        for kind in ("workspace.explode", "WORKSPACE.PROVISION", ""):
            head(f"type {kind!r}", "unsupported_type" if kind else "bad_json", type=kind)
        head("restart with a spec of provision", "unsupported_field", type="workspace.restart")
        head("a workspace's id in a host's job", "unsupported_field", "workspace_id", type="host.teardown", spec={"confirm": "x"})

    def whose(self):
        self.head("another organization", "wrong_tenant", org_id=new_id())
        self.head("another host", "wrong_host", host_id=new_id())
        self.head("another host's deprovision", "wrong_host", host_id=new_id(), type="workspace.deprovision", spec={"prune": True})
        for tier in (3, 4):
            self.spec(f"tier {tier}", "tier_not_allowed", "max_tier", tier=tier)
        for url in ("ftp://a.example.com", "https://user@a.example.com", "http://169.254.169.254/latest", "http://[fd00:ec2::254]/",
                    "http://[fe80::1]/", "http://2852039166/", "http://0xa9fea9fe/", "https://", "https://a.example.com/" + "a" * 2050):
            self.spec(f"platform_url {url[:40]}", "too_large" if len(url) > 2048 else "bad_env", platform_url=url)

    def images(self):
        digest, registry = self.image.split("@")[1], self.image.split("/")[0]
        for ref in (f"{registry}/molecule/ok:one", f"{registry}/molecule/ok", f"{registry}/molecule/ok@{digest[:-1]}",
                    f"{registry}/molecule/ok@{digest.upper()}",
                    f"{registry}/molecule/ok@sha512:{'0' * 128}", f"ok@{digest}", f"{registry}/molecule/../ok@{digest}"):
            self.spec(f"image_ref {ref.replace(registry, 'REGISTRY')[:50]}", "image_ref_not_pinned", image_ref=ref)
        for other in ("registry.example.com", registry[:-1], f"{registry.split(':')[0]}", "127.0.0.1.example.com"):
            self.spec(f"registry {other.replace(registry[:-1], 'REGISTRY but for its last digit')}", "registry_not_allowed", "registries",
                      image_ref=f"{other}/molecule/ok@{digest}")
        self.spec("a runtime without pin", "RUNTIME_PIN_MISSING", "autogen", runtime="autogen")

    def env(self):
        for name in NEVER:
            self.spec(f"env {name}", "privileged_env_forbidden", name, env={"FINE": "1", name: VALUE})
        self.spec("several forbidden names at once", "privileged_env_forbidden", "LD_AUDIT, GH_TOKEN",
                  env={"LD_AUDIT": VALUE, "A": "", "GH_TOKEN": VALUE})
        for name in OWN:
            self.spec(f"env {name}, which the agent sets", "bad_env", name, env={name: VALUE})
        for name in ("MY_API_KEY", "DATABASE_PASSWORD", "SOME_TOKEN", "client_secret"):
            self.spec(f"{name} in env and in secrets", "bad_env", name, env={name: VALUE}, secrets={name: b64("box")}, sealed_to="k1")
        for name in ("LD_PRELOAD", "GH_TOKEN", "ADMIN_TOKEN"):
            self.spec(f"{name} in secrets", "privileged_env_forbidden", name, secrets={name: b64("box")}, sealed_to="k1")
        self.spec("WORKSPACE_ID in secrets", "bad_env", "WORKSPACE_ID", secrets={"WORKSPACE_ID": b64("box")}, sealed_to="k1")
        self.spec("a secret called manifest", "bad_env", "manifest", secrets={"manifest": b64("box")}, sealed_to="k1")
        for name in ("1A", "A-B", "A B", "A=B", "", "Ä", "A" * 129):
            self.spec(f"env name {name[:10]!r}", "bad_env", env={name: VALUE})
        self.spec("an env value of 32 KiB and one byte", "bad_env", "LONG", env={"LONG": "v" * (32 * KIB + 1)})
        self.spec("an env of more than 256 KiB", "bad_env", env={f"N{i}": "v" * (30 * KIB) for i in range(9)})
        self.spec("a disclosure marker", "bad_secret", "SHOWN", env={"SHOWN": "<ROTATE_TO_REVEAL_TOKEN>"})
        self.spec("a required env name is absent", "missing_required_env", "WANTED", required_env=["WANTED", "HERE"], env={"HERE": VALUE})
        self.spec("a required env name is empty", "missing_required_env", "WANTED", required_env=["WANTED"], env={"WANTED": ""})

    def paths(self):
        for name in ("", "/etc/passwd", "\\windows", "../escape", "a/../../escape", "a\\..\\..\\escape", "a/../b", "..", ".", "a\u0001b",
                     "a\nb", "a\u007fb",
                     "n" * 256, "/".join("abcdefghi"), "MEMORY.md", "notes/USER.md", "CLAUDE.md", "./CLAUDE.md", ".claude/sessions/one",
                     ".claude//sessions"):
            self.spec(f"file name {name[:20]!r}", "bad_path", config_files={"fine.txt": b64("x"), name: b64(VALUE)})
        self.spec("file names that are one name", "bad_path", config_files={"a//b": b64("1"), "a/b": b64("2")})
        self.spec("a name in both kinds of files", "bad_path", config_files={"config.yaml": b64("1")},
                  template_assets={"config.yaml": b64("2")})
        for name in ("run.sh", "prompts", "prompts/../run.sh", "prompts/../../etc/x", "config.yaml.bak"):
            self.spec(f"template asset {name}", "bad_path", template_assets={name: b64("x")})
        self.spec("config files of 256 KiB and one byte", "too_large", config_files={"a": b64("x" * (128 * KIB)),
                                                                                     "b": b64("x" * (128 * KIB + 1))})
        self.spec("template assets of 16 MiB and one byte", "too_large", template_assets={"prompts/a": b64("x" * (16 * MIB + 1))})


def outcome(site, job):
    report = site.plane.final(job, 90)
    return report["state"], (report.get("error") or {}).get("code"), report["message"] + " " + json.dumps(report.get("error"))


def bent_payloads(lab, site, workspace, image):
    """All of them at once, as a confused control plane would; then one by one what became of them."""
    before, since, host = both(lab, workspace), now(), site.host()["host_id"]
    cases = Bent(site, workspace[0], 2, image).all()
    jobs = [site.plane.order_raw(host, data) for _, data, _, _ in cases]
    words = ""
    for (name, data, code, word), job in zip(cases, jobs):
        try:
            state, got, said = outcome(site, job)
            words += said
            tap.ok((state, got) == ("refused", code) and word in said, f"{name}: refused, {code}", f"{state} {got}: {said}\n{data[:300]!r}")
        except LabError as error:
            tap.ok(False, f"{name}: refused, {code}", error)
    nothing_touched(lab, workspace, before, since, f"not one of {len(cases)} bad jobs")
    tap.ok(VALUE not in words, "no report holds a value of the env or of a file")
    tap.is_(site.agent.lines(VALUE), [], "nor does the log")


def engine_did(lab, since):
    return events(lab.engine, since)


def nothing_touched(lab, workspaces, before, since, who):
    did = engine_did(lab, since)                            # first: a snapshot itself makes the engine do things
    tap.is_(did, [], f"{who} made the engine do anything")
    tap.ok(both(lab, workspaces) == before, f"{who} changed a container, run, volume or file of the two workspaces")


def both(lab, workspaces):
    return [snapshot(lab.engine, workspace) for workspace in workspaces]


def generations(lab, site, workspace):
    """Order is by generation; what the floor is after so many refusals."""
    host, plane = site.host()["host_id"], site.plane
    raw = lambda number, **more: json.dumps(payload(site, workspace[0], number, **more)).encode()
    before, since = both(lab, workspace), now()
    state, code, said = outcome(site, plane.order_raw(host, raw(1, spec=spec(env={"OTHER": "1"}))))
    tap.ok(state == "conflict", "the generation that runs, with another payload: conflict", said)
    first = next(row["job_id"] for row in plane.jobs(host) if row["workspace_id"] == workspace[0] and row["state"] == "succeeded")
    old = plane.final(first)
    forget_outcome(plane, first)
    report = plane.final(first)
    tap.ok(len(plane.job(first)["deliveries"]) == 2 and report["state"] == "succeeded" and report["result"] == old["result"],
           "a control plane out of an older backup delivers the same payload again: the same outcome again", f"{report}\n{old}")
    same = json.loads(base64.b64decode(plane.job(first)["payload"])) | {"job_id": new_id()}
    state, code, said = outcome(site, plane.order_raw(host, json.dumps(same).encode()))
    tap.ok(state == "conflict", "the same but for its job_id: conflict", said)
    nothing_touched(lab, workspace, before, since, "none of them")

    data = raw(2, spec=spec(env={"DEMO_SECOND": "yes"}, restart=False))
    report = plane.final(plane.order_raw(host, data))
    tap.ok(report["state"] == "succeeded",
           "after all the refusals of generation 2 a good generation 2 is accepted: the floor had not moved", report)
    before, since = both(lab, workspace), now()
    for what, number, kind, body in (("a provision", 1, "workspace.provision", spec()), ("a deprovision", 1, "workspace.deprovision",
                                                                                         {"prune": True})):
        report = plane.final(plane.order_raw(host, raw(number, type=kind, spec=body)))
        tap.ok(report["state"] == "superseded" and report["result"] == {"floor": "2"},
               f"{what} below the floor: superseded, with the floor", report)
    report = plane.final(plane.order_raw(host, raw(2, type="workspace.deprovision", spec={"prune": True})))
    tap.ok(report["state"] == "conflict", "a deprovision of the generation that runs: conflict", report)
    report = plane.final(plane.order(host, "workspace.provision", workspace[0], spec=spec(), expires_at="2020-01-01T00:00:00Z"))
    tap.ok(report["state"] == "expired", "a job that came after its expires_at: expired", report)
    report = plane.final(plane.order(host, "workspace.deprovision", workspace[0], spec={"prune": True}, expires_at="2020-01-01T00:00:00Z"))
    tap.ok(report["state"] == "expired", "a deprovision that came after it: expired", report)
    nothing_touched(lab, workspace, before, since, "none of them")


def forget_outcome(plane, job):
    """devcp as a backup from before the outcome would bring it back."""
    plane.stop()
    with contextlib.closing(sqlite3.connect(f"{plane.where}/devcp.db")) as database, database:
        database.execute("UPDATE jobs SET due_at = '', state = 'accepted', final = NULL, final_report_id = NULL WHERE job_id = ?", (job,))
        database.execute("DELETE FROM reports WHERE job_id = ?", (job,))
    plane.start()


def never_seen(lab, site):
    """Refused first jobs leave nothing behind, not even a record that health would show."""
    host, workspace, since = site.host()["host_id"], new_id(), now()
    report = site.plane.final(site.plane.order_raw(host, payload(site, workspace, 1, spec=spec(tier=4))))
    tap.is_((report["state"], report["error"]["code"]), ("refused", "tier_not_allowed"), "the first job of a workspace is refused")
    held = [entry["workspace_id"] for entry in site.health().get("workspaces", [])]
    kept = [name for name in os.listdir(f"{site.agent.state}/ws") if workspace in name]
    tap.is_((engine_did(lab, since), workspace in held, kept), ([], False, []),
            "neither the engine, nor health, nor the state directory knows of it")


def public(lab, site, workspace):
    """The same through POST /workspaces/provision, as far as it can be said there."""
    plane, before, since = site.plane, both(lab, workspace), now()
    for name, status, code, fields in (
            ("a forbidden env name", 400, "privileged_env_forbidden", {"env": {"LD_PRELOAD": VALUE}}),
            ("a secret with a disclosure marker", 400, "bad_secret", {"env": {"MY_API_KEY": "ROTATE_TO_REVEAL_TOKEN"}}),
            ("an env name of the agent's", 400, "bad_env", {"env": {"WORKSPACE_ID": VALUE}}),
            ("a disclosure marker", 400, "bad_secret", {"env": {"SHOWN": "ROTATE_TO_REVEAL_TOKEN"}}),
            ("an escaping file name", 400, "bad_path", {"config_files": {"../../etc/passwd": b64(VALUE)}}),
            ("a template asset that is none", 400, "bad_path", {"template_assets": {"run.sh": b64(VALUE)}}),
            ("tier 4", 422, "tier_not_allowed", {"tier": 4}),
            ("a runtime without pin", 422, "RUNTIME_PIN_MISSING", {"runtime": "autogen"}),
            ("a metadata address", 400, "bad_env", {"platform_url": "http://169.254.169.254/"}),
            ("a display", 400, "unsupported_field", {"display": {"mode": "vnc"}}),
            ("another organization", 403, "wrong_tenant", {"org_id": new_id()}),
            ("an unknown field", 400, None, {"later": 1}), ("a missing field", 400, None, {"runtime": None}),
            ("a mistyped field", 400, None, {"tier": "2"}), ("an image of the caller's", 400, None, {"image_ref": "x"})):
        body = {"org_id": plane.org_id, "workspace_id": workspace[0], "runtime": "langgraph", "tier": 2,
                "platform_url": "https://platform.example.com", "env": {}} | fields
        got, answer, _ = plane.call("POST", "/workspaces/provision", {k: v for k, v in body.items() if v is not None}, timeout=60)
        tap.ok(got == status and (code is None or answer["error"] == code or code in str(answer)) and VALUE not in str(answer),
               f"POST /workspaces/provision with {name}: {status} {code or ''}", f"{got} {answer}")
    nothing_touched(lab, workspace, before, since, "none of them")


def unlisted_pin(lab, site, workspace, image):
    """A pin may name a registry that this host does not allow: the job is refused, not the pin table."""
    host, since = site.host()["host_id"], now()
    site.plane.pin("claude-code", f"registry.example.com/molecule/ok@{image.split('@')[1]}")
    def refused():
        report = site.plane.final(site.plane.order(host, "workspace.provision", workspace[0], spec=spec(runtime="claude-code")))
        return report if report["error"]["code"] != "RUNTIME_PIN_MISSING" else None     # the pin table may still be on its way
    report = wait_for(refused, 20, "the pin table")
    tap.is_((report["state"], report["error"]["code"]), ("refused", "registry_not_allowed"), "a pin of an unlisted registry")
    tap.is_(engine_did(lab, since), [], "and nothing was touched")


def file_below_file(lab, site, workspace):
    since = now()
    files = {"notes": b64("1"), "notes/more": b64("2")}
    report = site.plane.final(site.plane.order(site.host()["host_id"], "workspace.provision", workspace[0], spec=spec(config_files=files)))
    tap.is_((report["state"], (report.get("error") or {}).get("code")), ("refused", "bad_path"), "a file below a file: refused, bad_path")
    tap.is_(engine_did(lab, since), [], "and nothing was touched")


def main():
    with Lab("refused") as lab:
        image = lab.image("ok")
        site = lab.site()
        site.plane.pin("langgraph", image)
        with site:
            try:
                workspace = [new_id(), new_id()]
                threads = [threading.Thread(target=site.provision, args=(one,), kwargs={
                    "env": {"DEMO_WHO": one}, "config_files": {"config.yaml": b64(one), "prompts/a.md": b64("a")}}) for one in workspace]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(120)
                wait_for(lambda: all(site.fetch(one)[0] == 200 for one in workspace), 10, "two workspaces that answer")
                bent_payloads(lab, site, workspace, image)
                never_seen(lab, site)
                generations(lab, site, workspace)
                unlisted_pin(lab, site, workspace, image)
                public(lab, site, workspace)
                file_below_file(lab, site, workspace)
                tap.ok(all(one in site.fetch(one, "/env")[1] for one in workspace), "both workspaces still answer with what they are")
            finally:
                if tap.failed:
                    tap.diag(site.tail(60))
    tap.done()


if __name__ == "__main__":
    main()
