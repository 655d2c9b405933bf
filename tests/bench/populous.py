# SPDX-License-Identifier: Apache-2.0
"""A host with very many workspaces. Their records are written by the code that writes them always (tests/tools/bench-fill). Their containers are
not there: an engine made here, which speaks the real protocol over a unix socket, says of each what the real one says of the one that serves as the
pattern."""

import http.server
import json
import shutil
import socketserver
import subprocess
import tempfile
import threading
import urllib.parse
import uuid

from agent import Agent
from common import NETWORK, tool
from lab import binary
from proc import LabError, at_end, end_now

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
EVENT = json.dumps({"Type": "container", "Action": "start", "Actor": {"ID": "f" * 64, "Attributes": {}}, "timeNano": 1}).encode() + b"\n"


class Crowd:
    """The engine. lists: how often it was asked for all containers; inspects: for one."""

    def __init__(self, path, people, pattern):
        """people: {container: its ids}. pattern: list item, inspection, and ids of a real one, in the same order."""
        item, found, self.ids = pattern
        self.path, self.lists, self.inspects, self.streams = path, 0, 0, []
        self.found, self.people = json.dumps(found), people
        self.list = ("[" + ",".join(self.renamed(json.dumps(item), container) for container in people) + "]").encode()
        self.server = Server(path, Answers)
        self.server.crowd = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        at_end(self.end)

    def renamed(self, text, container):
        for old, new in zip(self.ids, self.people[container]):
            text = text.replace(old, new)
        return text

    def tell(self):
        """An event, which makes the agent look at everything."""
        for stream in self.streams:
            stream.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 1 << 16

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        stream = self.connection.makefile("wb", 0)
        self.server.crowd.streams.append(stream)
        self.rfile.read(1)                                  # until the other side goes
        self.server.crowd.streams.remove(stream)
        self.close_connection = True

    def do_GET(self):
        crowd, path = self.server.crowd, urllib.parse.urlsplit(self.path).path.removeprefix("/v1.41")
        words = path.split("/")
        if path == "/version":
            self.answer(VERSION)
        elif path == "/info":
            self.answer({"Driver": "overlay2", "CgroupDriver": "cgroupfs", "DockerRootDir": "/"})
        elif path == "/events":
            self.stream()
        elif path == "/containers/json":
            self.answer(crowd.list)
            self.wfile.flush()
            crowd.lists += 1                                # once it is on its way
        elif words[1] == "containers" and words[2] in crowd.people:
            crowd.inspects += 1
            self.answer(crowd.renamed(crowd.found, words[2]).encode())
        else:
            self.answer({"message": "no such thing"}, 404)


class Host:
    """An agent without a control plane, with so many workspaces behind it."""

    def __init__(self, count, pattern, image, disk="/tmp"):
        self.where, self.org = tempfile.mkdtemp(prefix="crowd-", dir=disk), str(uuid.uuid4())
        at_end(self.end)
        self.agent = Agent(f"{self.where}/a", self.where, binary("molecule-agentd"),
                           {"org_id": self.org, "engine_socket": f"{self.where}/s", "log_level": "info", "network": NETWORK, "max_workspaces": 4096,
                            "imds": "off", "min_free_bytes": "64M", "launcher": binary("molecule-launch")}, {})
        self.agent.start()                                  # a first start makes the host's id and keys
        self.agent.stop()
        with open(f"{self.agent.state}/identity") as file:
            self.id = json.loads(file.read().split("\n", 1)[1])["host_id"]
        done = self.fill(image, count)
        people = {container: (container, workspace, job, self.org, self.id) for workspace, job, container in map(str.split, done.splitlines())}
        self.engine = Crowd(f"{self.where}/s", people, pattern)

    def fill(self, image, count):
        """Written in memory, for thousands of fsyncs are not what is measured, and copied from there."""
        fast = tempfile.mkdtemp(prefix="crowd-", dir="/dev/shm")
        try:
            shutil.copytree(self.agent.state, fast, dirs_exist_ok=True)
            done = subprocess.run([tool("bench-fill"), fast, self.org, self.id, image, str(count)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise LabError(f"bench-fill: {done.stderr}")
            shutil.copytree(fast, self.agent.state, dirs_exist_ok=True)
        finally:
            shutil.rmtree(fast)
        return done.stdout

    def end(self):
        if self.agent.process:
            self.agent.stop()
        end_now(self.agent.runtime_unmount)
        shutil.rmtree(self.where, ignore_errors=True)


def pattern(site, workspace):
    """What the real engine says of a workspace that the agent made there."""
    item, found = site.containers(workspace)[0], site.container(workspace)
    labels = found["Config"]["Labels"]
    return item, found, (found["Id"], workspace, *(labels[f"molecule.agent.{name}"] for name in ("job", "org", "host")))
