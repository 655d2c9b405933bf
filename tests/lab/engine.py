# SPDX-License-Identifier: Apache-2.0
"""A private Docker Engine and a private registry. Neither knows of the machine's own: own directories, own socket, own containerd
namespace, own address pool; the registry listens on a loopback port, which an engine trusts without TLS."""

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.parse

from proc import LabError, Process, at_end, free_port, wait_for


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Dockerd:
    """The engine. api() is the raw Engine API; nothing here needs the docker command."""

    def __init__(self, where, short, trusts=None):
        """where: images and containers, on a real disk. short: sockets, whose names may not be long. trusts: a registry without TLS that is not on
        loopback."""
        self.where, self.short, self.trusts = where, short, ["--insecure-registry", trusts] if trusts else []
        self.words = []                                     # more of dockerd's options, before start()
        self.socket = f"{short}/docker.sock"
        self.log = f"{where}/dockerd.log"
        self.process = None
        os.makedirs(where, exist_ok=True)
        os.makedirs(short, exist_ok=True)

    def start(self, timeout=60):
        space = f"mlab{os.getpid()}"
        if os.path.exists(f"{self.short}/docker.pid"):
            os.unlink(f"{self.short}/docker.pid")           # left by kill -9
        self.process = Process(["dockerd", "--data-root", f"{self.where}/data", "--exec-root", f"{self.short}/exec",
                                "-H", f"unix://{self.socket}", "--pidfile", f"{self.short}/docker.pid", "--bridge", "none",
                                "--iptables=false", "--ip6tables=false", "--containerd-namespace", space,
                                "--containerd-plugins-namespace", f"{space}p", *self.trusts, *self.words,
                                "--default-address-pool", f"base=10.{128 + os.getpid() % 120}.0.0/16,size=24"], self.log)
        at_end(self.end)
        wait_for(lambda: self.process.check() and self.api("GET", "/_ping", timeout=2)[0] == 200, timeout, "dockerd's socket")

    def stop(self, number=signal.SIGTERM):
        """Ends the engine and waits for its containerd too; containers and images stay on disk."""
        containerd = self._containerd()
        try:
            self.process.stop(number, 40)
        finally:
            if containerd:
                if number == signal.SIGKILL:                # no one else would end it
                    os.kill(containerd, signal.SIGTERM)
                wait_for(lambda: not os.path.exists(f"/proc/{containerd}"), 30, "the end of containerd")

    def _containerd(self):
        try:
            with open(f"{self.short}/exec/containerd/containerd.pid") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def clear(self, label=None):
        """Removes containers, then volumes and networks: all, or those with the label."""
        chosen = json.dumps({"label": [label]} if label else {})
        for container in self.get("/containers/json", all=1, filters=chosen):
            self.api("DELETE", f"/containers/{container['Id']}", force=1, v=1)
        for volume in self.get("/volumes", filters=chosen).get("Volumes") or []:
            self.api("DELETE", f"/volumes/{volume['Name']}", force=1)
        if not label:
            self.api("POST", "/networks/prune")             # bridges would outlive the engine

    def end(self):
        if self.process and self.process.running():
            try:
                self.clear()
            finally:
                self.stop()
        end_shims(f"{self.short}/exec/containerd/containerd.sock")
        with open("/proc/self/mounts") as mounts:
            left = [line.split()[1] for line in mounts if line.split()[1].startswith((f"{self.where}/data", f"{self.short}/exec"))]
        for path in reversed(left):
            subprocess.run(["umount", "-l", path], check=False)
        for path in (f"{self.where}/data", f"{self.short}/exec"):
            shutil.rmtree(path, ignore_errors=True)

    def api(self, method, path, body=None, headers=None, timeout=120, **query):
        """(status, body): the body parsed where it is JSON, as bytes where not."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        link = UnixConnection(self.socket, timeout)
        try:
            link.request(method, path, body, headers)
            answer = link.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise LabError(f"{method} {path}: {error!r}") from error
        finally:
            link.close()
        try:
            return answer.status, json.loads(data) if data else None
        except ValueError:
            return answer.status, data

    def get(self, path, **query):
        status, body = self.api("GET", path, **query)
        if status != 200:
            raise LabError(f"GET {path}: {status} {body!r}")
        return body

    def containers(self, **labels):
        """Containers with the labels, running or not, as GET /containers/json shows them."""
        chosen = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        return self.get("/containers/json", all=1, filters=chosen)

    def inspect(self, name):
        """None where it does not exist."""
        status, body = self.api("GET", f"/containers/{name}/json")
        if status not in (200, 404):
            raise LabError(f"inspect {name}: {status} {body!r}")
        return body if status == 200 else None

    def stream(self, method, path, body=None, headers=None, **query):
        """A call that answers JSON lines: the list of them. An error inside the stream is raised."""
        status, data = self.api(method, path, body, headers, timeout=300, **query)
        lines = data if isinstance(data, bytes) else b"" if data is None else json.dumps(data).encode()
        lines = [json.loads(line) for line in lines.splitlines() if line.strip()]
        wrong = [line for line in lines if isinstance(line, dict) and ("errorDetail" in line or "message" in line)]
        if status != 200 or wrong:
            raise LabError(f"{method} {path}: {status} {wrong or lines}")
        return lines


def end_shims(address):
    """A container whose start an engine's end had cut short is nobody's: its shim, and what that has started, would outlive the engine."""
    rows = [(int(row.split()[0]), int(row.split()[1]), row) for row in
            subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()]
    shims = {pid for pid, _parent, row in rows if "containerd-shim" in row and f" {address}" in row}
    for pid, parent, _row in rows:
        if pid in shims or parent in shims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Registry:
    """docker-registry on a loopback port that stays the same over stop() and start(). auth: {user: password} for basic
    authentication, which may change at the next start()."""

    def __init__(self, where, auth=None, address=None):
        """address: HOST:PORT, where others than this machine's processes have to reach it."""
        self.where, self.auth = where, auth
        self.address = address or f"127.0.0.1:{free_port()}"
        self.port = int(self.address.split(":")[1])
        self.process = None
        self.log = f"{where}/registry.log"
        os.makedirs(f"{where}/store", exist_ok=True)

    def start(self):
        config = (f"version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {self.where}/store\n"
                  f"  delete:\n    enabled: true\nhttp:\n  addr: {self.address}\n  secret: {secrets.token_hex(16)}\n")
        if self.auth:
            with open(f"{self.where}/htpasswd", "w") as file:
                for user, password in self.auth.items():
                    file.write(f"{user}:{bcrypt(password)}\n")
            config += f"auth:\n  htpasswd:\n    realm: lab\n    path: {self.where}/htpasswd\n"
        with open(f"{self.where}/registry.yml", "w") as file:
            file.write(config)
        self.process = Process(["docker-registry", "serve", f"{self.where}/registry.yml"], self.log)
        wait_for(lambda: self.process.check() and self.ask("GET", "/v2/")[0] in (200, 401), 20, "the registry")

    def stop(self, number=signal.SIGTERM):
        self.process.stop(number)

    def ask(self, method, path, headers=None):
        link = http.client.HTTPConnection(self.address, timeout=10)
        try:
            link.request(method, path, headers=headers or {})
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def header(self):
        """X-Registry-Auth for the engine."""
        user, password = next(iter(self.auth.items())) if self.auth else ("", "")
        words = {"username": user, "password": password, "serveraddress": self.address}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(words).encode()).decode()}

    def docker_config(self):
        """The text of a docker config file with these credentials."""
        return json.dumps({"auths": {self.address: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
                                     for user, password in (self.auth or {}).items()}})


def bcrypt(password):
    """perl's crypt() is libcrypt's, which knows bcrypt; the openssl command does not."""
    code = "my ($p) = <STDIN>; print crypt($p, '$2b$05$' . join '', map { ('a'..'z')[rand 26] } 1..22)"
    return subprocess.run(["perl", "-e", code], input=password, capture_output=True, text=True, check=True).stdout.replace("$2b$", "$2y$")
