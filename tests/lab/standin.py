#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An engine that only keeps books: it speaks as much of the Engine API as the agent does, a container that runs is a page on its published port, and
volumes hold what is put into them. For thousands of jobs in a row, where the question is what the agent does; what an engine does, Dockerd does.

As a program, with a socket's name: serves there until it is ended. StandIn is that program for Lab(engine=StandIn)."""

import http.server
import io
import itertools
import json
import os
import re
import secrets
import socketserver
import sys
import tarfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from engine import Dockerd  # noqa: E402
from proc import Process, at_end, wait_for  # noqa: E402

IMAGES = {version: f"registry.example.com/molecule/page{version}@sha256:{str(version) * 64}" for version in (1, 2)}


class StandIn(Dockerd):
    def start(self, timeout=20):
        self.process = Process([sys.executable, os.path.abspath(__file__), self.socket], self.log)
        at_end(self.end)
        wait_for(lambda: self.process.check() and self.api("GET", "/_ping", timeout=2)[0] == 200, timeout, "the stand-in's socket")

    def end(self):
        self.process.stop()


def moment():
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.{time.time_ns() % 10 ** 9:09d}Z"


def image_of(ref):
    """By its name or by its id."""
    for version, name in IMAGES.items():
        ident = f"sha256:{str(version) * 63}0"
        if ref in (name, ident):
            return {"Id": ident, "RepoDigests": [name], "Size": 1000000, "Config": {"Entrypoint": ["/run.sh"], "Cmd": None}}
    raise Refused(404, f"No such image: {ref}")


class Refused(Exception):
    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


class Page(http.server.BaseHTTPRequestHandler):
    """Not ready while the file is there that DEMO_WAITS names."""

    def do_GET(self):
        waits = next((word[11:] for word in self.server.env if word.startswith("DEMO_WAITS=")), "")
        self.send_response(503 if os.path.exists(waits) else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 64


class Books:
    """Containers by id, volumes and networks by name, and who listens for events."""

    def __init__(self):
        self.lock, self.containers, self.volumes, self.networks, self.listeners = threading.RLock(), {}, {}, {}, []
        self.addresses = itertools.count(2)

    def container(self, key):
        found = self.containers.get(key) or next((c for c in self.containers.values() if c["Name"] == f"/{key}"), None)
        if not found:
            raise Refused(404, f"No such container: {key}")
        return found

    def say(self, action, container):
        """An event, to those whose filter knows the action; all of them ask for managed containers."""
        at = time.time_ns()
        event = {"Type": "container", "Action": action, "id": container["Id"], "time": at // 10 ** 9, "timeNano": at,
                 "Actor": {"ID": container["Id"], "Attributes": container["Config"]["Labels"] | {"name": container["Name"][1:]}}}
        for tell in list(self.listeners):
            tell(event)

    def create(self, name, body):
        if any(c["Name"] == f"/{name}" for c in self.containers.values()):
            raise Refused(409, f"Conflict. The container name \"/{name}\" is already in use.")
        image = image_of(body["Image"])
        ident = secrets.token_hex(32)
        network = body["HostConfig"].get("NetworkMode", "none")
        self.containers[ident] = {
            "Id": ident, "Name": f"/{name}", "Created": moment(), "Image": image["Id"], "RestartCount": 0, "Files": {},
            "State": {"Status": "created", "Running": False, "Restarting": False, "OOMKilled": False, "ExitCode": 0, "Error": "",
                      "StartedAt": "0001-01-01T00:00:00Z"},
            "Config": body | {"Labels": body.get("Labels") or {}}, "HostConfig": body["HostConfig"],
            "NetworkSettings": {"Networks": {network: {"IPAddress": f"10.9.{next(self.addresses) // 250 % 250}.{next(self.addresses) % 250 + 2}"}}}}
        return {"Id": ident, "Warnings": []}

    def begin(self, container):
        if container["State"]["Running"]:
            return False
        bound = next(iter(container["HostConfig"].get("PortBindings", {}).values()))[0]
        try:
            page = Listener((bound.get("HostIp") or "127.0.0.1", int(bound["HostPort"])), Page)
        except OSError as error:
            raise Refused(500, f"driver failed programming external connectivity: listen tcp4: bind: {error.strerror}") from error
        page.env = container["Config"].get("Env") or []
        threading.Thread(target=page.serve_forever, args=(0.02,), daemon=True).start()
        container["Page"] = page
        container["State"] |= {"Status": "running", "Running": True, "StartedAt": moment()}
        self.say("start", container)
        return True

    def cease(self, container):
        if not container["State"]["Running"]:
            return False
        page = container.pop("Page")
        page.shutdown()
        page.server_close()
        container["State"] |= {"Status": "exited", "Running": False}
        self.say("die", container)
        self.say("stop", container)
        return True

    def remove(self, container):
        self.cease(container)
        self.containers.pop(container["Id"])
        self.say("destroy", container)

    def place(self, container, path):
        """Where the file of that name lies: in a volume, or in the container itself."""
        path = "/" + path.strip("/")
        for mount in container["HostConfig"].get("Mounts") or []:
            if mount["Type"] == "volume" and (path + "/").startswith(mount["Target"] + "/"):
                return self.volumes[mount["Source"]]["Files"], path
        return container["Files"], path

    def put(self, container, folder, data):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for entry in archive:
                files, path = self.place(container, f"{folder}/{entry.name}".replace("//", "/"))
                files[path] = (entry, archive.extractfile(entry).read() if entry.isreg() else b"")

    def take(self, container, path):
        files, path = self.place(container, path)
        if path not in files:
            raise Refused(404, f"Could not find the file {path} in container {container['Id']}")
        entry, data = files[path]
        entry = tarfile.TarInfo.frombuf(entry.tobuf(), "utf-8", "replace")
        entry.name, entry.size = os.path.basename(path), len(data)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()


def labelled(rows, query, labels):
    """The rows that have all the labels that the query asks for."""
    wanted = json.loads(query.get("filters", "{}")).get("label", [])
    wanted = wanted if isinstance(wanted, list) else list(wanted)
    return [row for row in rows if all(f"{key}={value}" in wanted for key, value in labels(row).items() if key in {w.split("=")[0] for w in wanted})
            and all(word.split("=")[0] in labels(row) for word in wanted)]


def row_of(c):
    return {"Id": c["Id"], "Names": [c["Name"]], "Image": c["Config"]["Image"], "ImageID": c["Image"], "State": c["State"]["Status"],
            "Status": c["State"]["Status"], "Labels": c["Config"]["Labels"], "Created": 0}


def bare(c):
    return {name: value for name, value in c.items() if name not in ("Page", "Files")}


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", False

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def answer(self, status, body=None, kind="application/json"):
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data)

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_one(self):
        url = urllib.parse.urlsplit(self.path)
        path, query = re.sub(r"^/v1\.\d+", "", urllib.parse.unquote(url.path)), dict(urllib.parse.parse_qsl(url.query))
        data = self.body()
        if path == "/events":
            self.events()
            return
        for method, pattern, call in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                try:
                    with self.server.books.lock:
                        status, body = call(self.server.books, query, data, *match.groups())
                    self.answer(status, body, "application/x-tar" if isinstance(body, bytes) else "application/json")
                except Refused as error:
                    self.answer(error.status, {"message": str(error)})
                return
        self.answer(404, {"message": f"page not found: {self.command} {path}"})

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one

    def events(self):
        more, queue = threading.Event(), []

        def tell(event):
            queue.append(event)
            more.set()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.books.listeners.append(tell)
        try:
            while True:
                more.wait(60)
                more.clear()
                while queue:
                    line = json.dumps(queue.pop(0)).encode() + b"\n"
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        finally:
            self.server.books.listeners.remove(tell)


def put_volume(books, _query, data):
    body = json.loads(data)
    volume = books.volumes.setdefault(body["Name"], {"Name": body["Name"], "Driver": "local", "Labels": body.get("Labels") or {}, "Files": {},
                                                     "Mountpoint": f"/volumes/{body['Name']}", "CreatedAt": moment(), "Scope": "local"})
    return 201, bare(volume)


def named(table, what):
    def get(books, _query, _data, name):
        found = getattr(books, table).get(name)
        return (200, bare(found)) if found else (404, {"message": f"{what} {name} not found"})
    return get


def drop(table, what):
    def remove(books, _query, _data, name):
        if getattr(books, table).pop(name, None) is None:
            raise Refused(404, f"{what} {name} not found")
        return 204, None
    return remove


def put_network(books, _query, data):
    body = json.loads(data)
    if body["Name"] in books.networks:
        raise Refused(409, f"network with name {body['Name']} already exists")
    books.networks[body["Name"]] = body | {"Id": secrets.token_hex(32)}
    return 201, {"Id": books.networks[body["Name"]]["Id"], "Warning": ""}


def change(call, done=204, already=304):
    return lambda books, _query, _data, key: (done if call(books, books.container(key)) else already, None)


def announce(books, _query, _data, key):
    books.say("unpause", books.container(key))
    return 204, None


def rename(books, query, _data, key):
    container = books.container(key)
    if any(c["Name"] == f"/{query['name']}" for c in books.containers.values()):
        raise Refused(409, f"Conflict. The container name \"/{query['name']}\" is already in use.")
    container["Name"] = f"/{query['name']}"
    return 204, None


def remove(books, query, _data, key):
    container = books.container(key)
    if container["State"]["Running"] and query.get("force") != "1":
        raise Refused(409, "You cannot remove a running container")
    books.remove(container)
    return 204, None


VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64", "Components": [{"Name": "Engine"}]}
INFO = {"Driver": "overlay2", "DockerRootDir": "/", "CgroupDriver": "cgroupfs", "LiveRestoreEnabled": False, "NCPU": 2}
ROUTES = [
    ("GET", "/_ping", lambda *_: (200, b"OK")), ("HEAD", "/_ping", lambda *_: (200, b"")),
    ("GET", "/version", lambda *_: (200, VERSION)), ("GET", "/info", lambda *_: (200, INFO)),
    ("GET", "/images/(.+)/json", lambda _b, _q, _d, ref: (200, image_of(ref))),
    ("GET", "/containers/json", lambda b, q, _d: (200, labelled(map(row_of, b.containers.values()), q, lambda row: row["Labels"]))),
    ("GET", "/volumes", lambda b, q, _d: (200, {"Volumes": labelled(map(bare, b.volumes.values()), q, lambda row: row["Labels"]), "Warnings": None})),
    ("GET", "/networks/([^/]+)", named("networks", "network")), ("POST", "/networks/create", put_network),
    ("DELETE", "/networks/([^/]+)", drop("networks", "network")),
    ("GET", "/volumes/([^/]+)", named("volumes", "volume")), ("POST", "/volumes/create", put_volume), ("DELETE", "/volumes/([^/]+)", drop("volumes", "volume")),
    ("POST", "/containers/create", lambda b, q, d: (201, b.create(q["name"], json.loads(d)))),
    ("GET", "/containers/([^/]+)/json", lambda b, _q, _d, key: (200, bare(b.container(key)))),
    ("POST", "/containers/([^/]+)/start", change(Books.begin)), ("POST", "/containers/([^/]+)/stop", change(Books.cease)),
    ("POST", "/containers/([^/]+)/unpause", announce), ("POST", "/containers/([^/]+)/rename", rename), ("DELETE", "/containers/([^/]+)", remove),
    ("GET", "/containers/([^/]+)/archive", lambda b, q, _d, key: (200, b.take(b.container(key), q["path"]))),
    ("PUT", "/containers/([^/]+)/archive", lambda b, q, d, key: (b.put(b.container(key), q["path"], d) or 200, None)),
    ("GET", "/containers/([^/]+)/logs", lambda b, _q, _d, key: (200, b.container(key) and b"")),
]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads, request_queue_size = True, 128


def serve(path):
    with Server(path, Engine) as server:
        server.books = Books()
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1])
