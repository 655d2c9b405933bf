# SPDX-License-Identifier: Apache-2.0
"""The control plane's side of a test: certificates made with openssl, devcp over TLS, and its public and admin calls."""

import base64
import copy
import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import uuid

from proc import LabError, Process, free_port, wait_for

PREFIX = "/api/v1"


def openssl(*words, wrap=()):
    done = subprocess.run([*wrap, "openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"openssl {words[0]}: {done.stderr}")


class Authority:
    """A certificate authority. ca is its certificate; issue() makes a server's certificate and key below it."""

    def __init__(self, where, name="lab", wrap=()):
        """wrap: a command that certificates are made under."""
        self.wrap = wrap
        self.where, self.ca, self.key = where, f"{where}/{name}-ca.pem", f"{where}/{name}-ca.key"
        os.makedirs(where, exist_ok=True)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.ca,
                "-subj", f"/CN=molecule {name} CA", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                "keyUsage=critical,keyCertSign,cRLSign", wrap=wrap)

    def issue(self, name, san="IP:127.0.0.1,DNS:localhost", days=2):
        """(certificate, key). days=0 is a certificate that has just expired."""
        base = f"{self.where}/{name}"
        with open(f"{base}.ext", "w") as file:
            file.write(f"subjectAltName={san}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                       "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{base}.key", "-out", f"{base}.csr",
                "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days", str(days),
                "-extfile", f"{base}.ext", "-out", f"{base}.pem", wrap=self.wrap)
        return f"{base}.pem", f"{base}.key"

    def cross(self, other, days=2):
        """A certificate of another authority, by its own name and key, signed by this one."""
        base = f"{self.where}/crossed"
        with open(f"{base}.ext", "w") as file:
            file.write("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        openssl("x509", "-x509toreq", "-in", other.ca, "-signkey", other.key, "-out", f"{base}.csr")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days", str(days), "-extfile", f"{base}.ext", "-out",
                f"{base}.pem", wrap=self.wrap)
        return f"{base}.pem"


class Plane:
    """devcp with its own database, secrets and certificate. url is where it listens; the agent may be pointed at a proxy instead."""

    def __init__(self, where, binary, tls=True, words=(), names="IP:127.0.0.1,DNS:localhost"):
        """words: more of devcp's options. names: what its certificate is for."""
        self.where, self.binary, self.words = where, binary, words
        self.authority = Authority(where) if tls else None
        self.certificate = self.authority.issue("devcp", names) if tls else None
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.log, self.process = f"{where}/devcp.log", None
        self.provision_secret, self.admin_bearer = secrets.token_hex(32), secrets.token_hex(32)
        self.org_id = self.org_slug = self.admin_token = None
        os.makedirs(where, exist_ok=True)
        for name, value in (("provision-secret", self.provision_secret), ("admin-bearer", self.admin_bearer)):
            with open(os.open(f"{where}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(value)

    def start(self):
        argv = [self.binary, "--listen", f"127.0.0.1:{self.port}", "--database", f"{self.where}/devcp.db", "--provision-secret-file",
                f"{self.where}/provision-secret", "--admin-bearer-file", f"{self.where}/admin-bearer"]
        if self.certificate:
            argv += ["--tls-cert", self.certificate[0], "--tls-key", self.certificate[1]]
        self.process = Process([*argv, *self.words], self.log)
        wait_for(lambda: self.process.check() and self.call("GET", "/admin/orgs", tier="admin")[0] == 200, 15, "devcp")

    @property
    def signing_key(self):
        """The base64 of the public key that jobs are signed with (words=("--signing-key-file", F)); None when they are not."""
        with open(self.log) as file:
            return next((line.split()[2] for line in file if line.startswith("signing key ")), None)

    def stop(self, **how):
        if self.process:
            self.process.stop(**how)

    def call(self, method, path, body=None, tier="provision", headers=None, timeout=200, prefix=PREFIX):
        """(status, parsed body, headers). tier: whose credentials go along (provision, admin, tenant or None)."""
        send = {"Content-Type": "application/json"} if body is not None else {}
        if tier == "provision":
            send |= {"Authorization": f"Bearer {self.provision_secret}", "X-Molecule-Admin-Token": self.admin_token or ""}
        elif tier == "admin":
            send |= {"Authorization": f"Bearer {self.admin_bearer}"}
        elif tier == "tenant":
            send |= {"Authorization": f"Bearer {self.admin_token}", "X-Molecule-Org-Id": self.org_id}
        elif tier is not None:
            raise LabError(f"no such tier: {tier}")
        send |= headers or {}
        if self.authority:
            trust = ssl.create_default_context(cafile=self.authority.ca)
            link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=trust)
        else:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            link.request(method, prefix + path, body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode(), send)
            answer = link.getresponse()
            data = answer.read()
        except (http.client.HTTPException, socket.timeout) as error:
            raise LabError(f"{method} {path}: {error!r}") from error
        finally:
            link.close()
        try:
            parsed = json.loads(data) if data else None
        except ValueError:
            parsed = data
        return answer.status, parsed, {name.lower(): value for name, value in answer.getheaders()}

    def must(self, status, method, path, body=None, **more):
        """The parsed body of a call that has to answer with that status (or one of those)."""
        got, parsed, _ = self.call(method, path, body, **more)
        if got not in (status if isinstance(status, tuple) else (status,)):
            raise LabError(f"{method} {path}: {got} {parsed!r}, not {status}")
        return parsed

    def org_make(self, slug=None):
        """An org and its admin token; sets org_id, org_slug, admin_token."""
        self.org_slug = slug or f"lab-{secrets.token_hex(4)}"
        made = self.must((200, 201), "POST", "/admin/orgs", {"slug": self.org_slug, "name": "Lab", "owner_user_id": "lab"}, tier="admin")
        self.admin_token = self.must(200, "GET", f"/admin/orgs/{self.org_slug}/admin-token", tier="admin")["admin_token"]
        self.org_id = made.get("org_id") or made.get("id") or self.must(200, "GET", f"/orgs/{self.org_slug}/instance", tier=None)["org_id"]
        return self.org_id

    def another_tenant(self):
        """The same control plane with another org; it is the first one's to stop."""
        other = copy.copy(self)
        other.process = None
        other.org_make()
        return other

    def pin(self, runtime, ref, git_sha="0" * 40):
        """Promotes the image as the runtime's pin."""
        return self.must((200, 201), "POST", "/admin/runtime-image/promote",
                         {"template_name": runtime, "image_digest": ref.split("@")[1], "image_ref": ref, "git_sha": git_sha, "notes": "lab"},
                         tier="admin")

    def provision(self, workspace=None, status=201, timeout=200, **fields):
        """POST /workspaces/provision as a tenant's platform does it. fields replace the usual ones; None leaves one out."""
        body = {"org_id": self.org_id, "workspace_id": workspace or str(uuid.uuid4()), "runtime": "langgraph", "tier": 2,
                "platform_url": "https://platform.example.com", "env": {}} | fields
        return self.must(status, "POST", "/workspaces/provision", {k: v for k, v in body.items() if v is not None}, timeout=timeout)

    def deprovision(self, workspace, prune=True, status=200, timeout=200):
        return self.must(status, "DELETE", f"/workspaces/{workspace}?prune={'true' if prune else 'false'}", timeout=timeout)

    def hosts(self):
        return self.must(200, "GET", "/admin/hosts", tier="admin")["hosts"]

    def order(self, host, kind, workspace=None, **more):
        """A job by the operator's door, numbered by devcp unless more says generation="7"; its id. seal={NAME: value} seals them to the
        host's key, signature="none" (or "wrong", "other-key") spoils the signature."""
        body = {"type": kind, "workspace_id": workspace} | more
        return self.must(201, "POST", f"/admin/hosts/{host}/jobs", {k: v for k, v in body.items() if v is not None}, tier="admin")["job_id"]

    def order_raw(self, host, payload, **more):
        """A job of exactly these bytes, right or wrong; its id."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        body = {"raw_payload": base64.b64encode(data).decode()} | more
        return self.must(201, "POST", f"/admin/hosts/{host}/jobs", body, tier="admin")["job_id"]

    def settle_key(self, host, key_id):
        """An operator's word that this is the host's sealing key now."""
        return self.must(200, "POST", f"/admin/hosts/{host}/sealing-key", {"key_id": key_id}, tier="admin")

    def job(self, job):
        """Its row: state, final, payload (base64), deliveries[], reports[]."""
        return self.must(200, "GET", f"/admin/jobs/{job}", tier="admin")

    def jobs(self, host=None):
        return self.must(200, "GET", "/admin/jobs" + (f"?host_id={host}" if host else ""), tier="admin")["jobs"]

    def final(self, job, timeout=60):
        """The final report of a job, once there is one."""
        def look():
            row = self.job(job)
            return row["final"] and next(r for r in row["reports"] if r["state"] == row["final"])
        return wait_for(look, timeout, f"the end of job {job}", 0.1)
