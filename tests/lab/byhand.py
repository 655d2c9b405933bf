# SPDX-License-Identifier: Apache-2.0
"""The agent protocol and the public contract spoken by hand, for tests of devcp alone: Cp is one devcp, Tenant its customer's platform,
Host an agent that says what the test makes it say. MOLECULE_DEVCP names another binary, such as one with sanitizers."""

import base64
import concurrent.futures
import http.client
import json
import os
import shutil
import sys
import tempfile
import uuid

import proc
import tap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEVCP = os.environ.get("MOLECULE_DEVCP", os.path.join(ROOT, "build", "molecule-devcp"))
SECRET, ADMIN = "fleet-wide-secret-of-the-test", "operator-bearer-of-the-test"
NIL = "00000000-0000-0000-0000-000000000000"
DIGEST = "sha256:" + "ab" * 32
MIB = 1 << 20

pool = concurrent.futures.ThreadPoolExecutor(16)
work = tempfile.mkdtemp(prefix="devcp-t-")
proc.at_end(lambda: shutil.rmtree(work, ignore_errors=True))


def new_id():
    return str(uuid.uuid4())


def put(name, text):
    path = os.path.join(work, name)
    with open(path, "w") as file:
        file.write(text)
    return path


class Answer:
    def __init__(self, response):
        self.status, self.headers, text = response.status, response.headers, response.read()
        self.json = json.loads(text) if text else None

    def __repr__(self):
        return f"{self.status} {self.json}"

    @property
    def error(self):
        return (self.json or {}).get("error")


class Cp:
    """One devcp: started on a port of its own, asked over fresh connections."""

    def __init__(self, name, *options, secret=SECRET, database=None, wait=2):
        self.log = os.path.join(work, name + ".log")
        self.database = database or os.path.join(work, name + ".db")
        argv = [DEVCP, "--listen", "127.0.0.1:0", "--database", self.database, "--admin-bearer-file", put(name + ".admin", ADMIN + "\n"),
                "--wait-seconds", str(wait), *options]
        if secret is not None:
            argv += ["--provision-secret-file", put(name + ".secret", secret + "\n")]
        open(self.log, "w").close()
        self.process = proc.Process(argv, self.log)
        self.url = proc.wait_for(self.announced, 10, "devcp's line")
        self.host, self.port = self.url.split("//")[1].split(":")
        self.prefix, self.context, self.tenants = "/api/v1", None, 0

    def announced(self, words="listening on "):
        """What devcp says behind these words at its start; "signing key " comes before the others."""
        self.process.check()
        with open(self.log) as file:
            for line in file:
                if line.startswith(words):
                    return line.split()[2]
        return None

    def connection(self, timeout=15):
        if self.url.startswith("https"):
            return http.client.HTTPSConnection(self.host, int(self.port), timeout=timeout, context=self.context)
        return http.client.HTTPConnection(self.host, int(self.port), timeout=timeout)

    def call(self, method, path, body=None, headers=None, prefix=None):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection = self.connection()
        try:
            connection.request(method, (prefix or self.prefix) + path, data, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def fresh_tenant(self):
        self.tenants += 1
        return Tenant(self, f"tenant-{self.tenants}")

    def fresh_host(self):
        """A host of a tenant of its own, registered."""
        made = Host(self.fresh_tenant())
        same(made.register().status, 200)
        return made

    def promote(self, name, **more):
        return self.admin("POST", "/admin/runtime-image/promote",
                          {"template_name": name, "image_digest": DIGEST, "git_sha": "", "notes": "", **more})

    def admin(self, method, path, body=None, **more):
        return self.call(method, path, body, {"Authorization": "Bearer " + ADMIN}, **more)


class Tenant:
    def __init__(self, cp, slug):
        self.cp, self.slug = cp, slug
        made = cp.admin("POST", "/admin/orgs", {"slug": slug, "name": slug.title(), "owner_user_id": "user-1"})
        assert made.status == 201, made
        self.org_id = made.json["id"]
        self.token = cp.admin("GET", f"/admin/orgs/{slug}/admin-token").json["admin_token"]

    def headers(self, **changed):
        given = {"Authorization": "Bearer " + SECRET, "X-Molecule-Admin-Token": self.token, "Content-Type": "application/json"}
        given.update({name.replace("_", "-"): value for name, value in changed.items()})
        return {name: value for name, value in given.items() if value is not None}

    def call(self, method, path, body=None, **changed):
        return self.cp.call(method, path, body, self.headers(**changed))

    def request(self, ws, **more):
        return {"org_id": self.org_id, "workspace_id": ws, "runtime": "claude-code", "platform_url": "https://acme.example.com",
                "env": {"MODEL": "small"}, **more}

    def provision(self, ws, **more):
        return self.call("POST", "/workspaces/provision", self.request(ws, **more))

    def delete(self, workspace_id, query=""):
        return self.call("DELETE", f"/workspaces/{workspace_id}{query}")


class Host:
    """An agent, played by hand."""

    def __init__(self, tenant, host_id=None):
        self.tenant, self.id, self.boot = tenant, host_id or new_id(), new_id()

    def headers(self, **changed):
        given = {"X_Molecule_Org_Id": self.tenant.org_id, "X_Molecule_Host_Id": self.id, "X_Molecule_Boot_Id": self.boot,
                 "X_Molecule_Agent_Protocol": "1", "User_Agent": "molecule-agent/0.1.0"}
        return self.tenant.headers(**{**given, **changed})

    def register_body(self, **more):
        return {"protocol": 1, "org_id": self.tenant.org_id, "host_id": self.id, "boot_id": self.boot, "boot_epoch": "1",
                "host": {"hostname": "h", "machine_id": "m", "arch": "x86_64", "os": "Debian", "kernel": "6", "cpus": 2,
                         "memory_bytes": "1073741824"},
                "agent": {"version": "0.1.0", "git_sha": "unknown"}, "engine": {}, "features": ["workspace.provision"], "max_tier": 2,
                "holding": [], "open_jobs": [], "host_generation": "0", **more}

    def register(self, changed=None, **more):
        return self.tenant.cp.call("POST", "/hosts", self.register_body(**more), self.headers(**(changed or {})))

    def call(self, method, path, body=None, changed=None):
        return self.tenant.cp.call(method, f"/hosts/{self.id}{path}", body, self.headers(**(changed or {})))

    def poll(self, wait=0, most=10, etag=None, changed=None):
        tail = "" if etag is None else "&pins_etag=" + etag.replace('"', "%22")
        return self.call("GET", f"/jobs?wait={wait}&max={most}{tail}", changed=changed)

    def jobs(self, **how):
        answer = self.poll(**how)
        assert answer.status == 200, answer
        jobs = [Job(delivery) for delivery in answer.json["jobs"]]
        assert self.tenant.cp.announced("signing key ") or not any(job.signatures for job in jobs), "signed without a key"
        return jobs

    def job(self, wait=2):
        jobs = self.jobs(wait=wait)
        assert len(jobs) == 1, jobs
        return jobs[0]

    def report(self, *reports, epoch="1"):
        return self.call("POST", "/reports", {"boot_epoch": epoch, "reports": list(reports)})

    def say(self, job, state, **more):
        report = word(state, job_id=job.payload["job_id"], delivery_id=job.delivery_id, **more)
        answer = self.report(report)
        assert answer.status == 200 and answer.json == {"acked": [report["report_id"]]}, answer
        return report

    def succeed(self, job, **result):
        return self.say(job, "succeeded", result=result)


class Job:
    def __init__(self, delivery):
        assert sorted(delivery) == ["delivery_id", "envelope"], delivery
        envelope = delivery["envelope"]
        assert envelope["payloadType"] == "application/vnd.molecule.job.v1+json", envelope
        self.delivery_id, self.bytes = delivery["delivery_id"], base64.b64decode(envelope["payload"], validate=True)
        self.envelope, self.signatures = envelope, envelope["signatures"]
        try:
            self.payload = json.loads(self.bytes)
        except ValueError:
            self.payload = {}

    def __repr__(self):
        return f"job {self.payload}"


def word(state, **more):
    return {"report_id": new_id(), "source": "job", "state": state, "message": state, "at": "2026-01-02T03:04:05Z", **more}


def failure(code, retryable=False):
    return {"error": {"code": code, "message": f"because of {code}", "retryable": retryable}}


RUNNING = {"instance_id": "ws-1", "state": "running", "private_ip": "172.18.0.2", "runtime": "claude-code", "url": "http://127.0.0.1:20001",
           "image_ref": "r/x@" + DIGEST, "running_image": DIGEST, "verified_on_target": True, "container_restarted": True}


def same(got, want, what=""):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


def refused(answer, status, error=None):
    same(answer.status, status, f"status of {answer}")
    assert isinstance(answer.error, str) and answer.error, answer
    if error:
        same(answer.error, error)
    return answer


def order(cp, host, **body):
    answer = cp.admin("POST", f"/admin/hosts/{host.id}/jobs", body)
    same(answer.status, 201, str(answer))
    return answer.json


def seen(cp, job):
    return cp.admin("GET", f"/admin/jobs/{job if isinstance(job, str) else job.payload['job_id']}").json


def quietly(call, *args, **more):
    """Runs a call that waits beside us."""
    return pool.submit(call, *args, **more)


def settled(mine, **more):
    ws = new_id()
    waiting = quietly(mine.tenant.provision, ws, **more)
    job = mine.job()
    mine.say(job, "accepted")
    mine.succeed(job, **RUNNING)
    same(waiting.result(5).status, 201)
    return ws, job


def hold(ws, generation, state="online"):
    return {"holding": [{"workspace_id": ws, "generation": generation, "state": state}]}


def run(cp, functions):
    """Runs the test_ functions of a program's globals; then looks at what devcp wrote to its log."""
    def test_nothing_secret_and_no_failure_in_the_log():
        with open(cp.log) as file:
            text = file.read()
        for unwanted in (SECRET, ADMIN, "error"):
            assert unwanted not in text, f"{len(unwanted)} bytes that do not belong there"

    tests = [call for name, call in functions.items() if name.startswith("test_")]
    tap.run([*tests, test_nothing_secret_and_no_failure_in_the_log], tail=lambda: proc.tail(cp.log, 20))
