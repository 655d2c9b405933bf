# SPDX-License-Identifier: Apache-2.0
"""The real parts on one machine. A Lab is the engine and the registry, shared by many tests; a Site is one devcp and one agent of a test.

    with Lab() as lab:
        first = lab.image("ok", page="one")
        with lab.site() as site:
            site.plane.pin("langgraph", first)
            workspace = str(uuid.uuid4())
            site.plane.provision(workspace)
            status, text = site.fetch(workspace)

Needs root. Directories lie under build/lab, and are removed unless MOLECULE_LAB_KEEP is set."""

import http.client
import os
import shutil
import sys
import tempfile
import threading

import image
from agent import Agent
from engine import Dockerd, Registry
from plane import Plane
from proc import Ended, LabError, at_end, end_now, free_range, tail, wait_for
from proxy import Proxy

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RANGE = 40


def binary(name):
    """$MOLECULE_AGENTD and the like, else the one of build/."""
    path = os.environ.get(name.upper().replace("-", "_"), f"{TREE}/build/{name}")
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not there; run make")
    return os.path.abspath(path)


class Lab:
    def __init__(self, name="lab", auth=None, registry=None, engine=Dockerd, memory=False):
        """auth: {user: password} makes the registry ask for them. registry: the address it has to listen on. engine: StandIn for one that keeps books.
        memory: no disk is waited for."""
        if os.geteuid() != 0:
            raise LabError("the lab needs root")
        folder = "/dev/shm" if memory and shutil.disk_usage("/dev/shm").free > 1 << 30 else f"{TREE}/build/lab"
        os.makedirs(folder, exist_ok=True)
        self.where = tempfile.mkdtemp(prefix=f"{name}-", dir=folder)
        os.chmod(self.where, 0o755)
        self.short = self.where if len(self.where) <= 50 else tempfile.mkdtemp(prefix="mlab-", dir="/tmp")
        self.sites, self.images, self._end = 0, {}, self.end
        at_end(self.remove)
        at_end(self._end)
        self.engine = engine(f"{self.where}/e", f"{self.short}/e", registry)
        self.registry = Registry(f"{self.where}/r", auth, registry)

    def start(self):
        self.engine.start()
        self.registry.start()
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        end_now(self._end)

    def end(self):
        if self.engine.process:
            end_now(self.engine.end)
        if self.registry.process:
            self.registry.stop()

    def remove(self):
        """The last thing of all: what sites have mounted is gone."""
        for path in {self.where, self.short}:
            if not os.environ.get("MOLECULE_LAB_KEEP"):
                shutil.rmtree(path, ignore_errors=True)

    def image(self, variant, **how):
        """The digest reference of an image (image.VARIANTS), built and pushed the first time it is asked for."""
        key = (variant, tuple(sorted(how.items())))
        if key not in self.images:
            self.images[key] = image.make(self.engine, self.registry, variant, **how)
        return self.images[key]

    def docker(self, method, path, body=None, **query):
        return self.engine.api(method, path, body, **query)

    def network(self):
        """The agents' network, made once for all of them. Whoever asks for a page while the engine is still wiring a container starts an ARP question
        that nobody answers, and the kernel would ask again only after a second, in which the container is up and cannot be reached."""
        made = self.engine.api("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        with open(f"/proc/sys/net/ipv4/neigh/br-{made[1]['Id'][:12]}/retrans_time_ms", "w") as file:
            file.write("20")

    def site(self, **how):
        return Site(self, **how)


class Site:
    """One control plane with one org, one agent that has its own state. plane_proxy, engine_proxy: put a Proxy in between, found as
    site.cp and site.dock. plane_words: more options for devcp. plane_of: a site whose control
    plane this one shares, as another tenant of it. Other words are settings of agent.conf (None leaves one out)."""

    def __init__(self, lab, plane_proxy=False, engine_proxy=False, plane_words=(), plane_of=None, **settings):
        lab.sites += 1
        self.lab, self.where, self.short = lab, f"{lab.where}/s{lab.sites}", f"{lab.short}/s{lab.sites}"
        os.makedirs(self.where, exist_ok=True)
        os.makedirs(self.short, exist_ok=True)
        at_end(self.end)
        if plane_of:
            self.plane = plane_of.plane.another_tenant()
        else:
            self.plane = Plane(f"{self.where}/cp", binary("molecule-devcp"), words=plane_words)
            self.plane.start()
            self.plane.org_make()
        self.cp = self.dock = None
        if plane_proxy:
            self.cp = Proxy(("127.0.0.1", self.plane.port), certificate=self.plane.certificate, ca=self.plane.authority.ca)
        if engine_proxy:
            self.dock = Proxy(lab.engine.socket, f"{self.short}/dock.sock")
        first = free_range(RANGE)
        self.agent = Agent(f"{self.where}/agent", self.short, binary("molecule-agentd"), {
            "cp_url": f"https://127.0.0.1:{self.cp.port}" if self.cp else self.plane.url,
            "org_id": self.plane.org_id, "org_slug": self.plane.org_slug, "ca_file": self.plane.authority.ca,
            "engine_socket": self.dock.address if self.dock else lab.engine.socket, "registries": lab.registry.address,
            "port_range": f"{first}-{first + RANGE - 1}", "min_free_bytes": "1G", "log_level": "debug",
            "launcher": binary("molecule-launch")} | settings,
            {"provision-secret": self.plane.provision_secret, "admin-token": self.plane.admin_token})

    def start(self, registered=90):
        """The agent; registered: seconds to wait for devcp to know the host, 0 does not wait."""
        self.agent.start()
        if registered:
            wait_for(self.host, registered, "the host's registration")
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        end_now(self.end)

    def end(self):
        """Agent, devcp, proxies and runtime directory; then what the agent made in the engine. Says so when the agent had crashed."""
        crash = self.agent.crash()
        if self.agent.process:
            try:
                self.agent.stop()
            except LabError as error:
                print(f"# lab: {error}", file=sys.stderr)
        for proxy in (self.cp, self.dock):
            if proxy:
                proxy.close()
        self.plane.stop()
        end_now(self.agent.runtime_unmount)
        if self.lab.engine.process.running():
            self.lab.engine.clear(f"molecule.agent.org={self.plane.org_id}")
        if crash:
            raise Ended(crash)

    def provision(self, workspace=None, **fields):
        """plane.provision() that does not wait on for an agent that is gone."""
        return self.waiting(lambda: self.plane.provision(workspace, **fields))

    def deprovision(self, workspace, **how):
        return self.waiting(lambda: self.plane.deprovision(workspace, **how))

    def waiting(self, call):
        """Runs call in a thread while the agent lives; its answer, or what it raised."""
        done = []

        def work():
            try:
                done.append((call(), None))
            except Exception as error:
                done.append((None, error))
        threading.Thread(target=work, daemon=True).start()
        wait_for(lambda: done or not self.agent.process.check(), 300, "the control plane's answer", 0.02)
        answer, error = done[0]
        if error:
            raise error
        return answer

    def host(self):
        """devcp's row of this host, or None."""
        return next((host for host in self.plane.hosts() if host.get("org_id", self.plane.org_id) == self.plane.org_id), None)

    def health(self):
        """The control plane's last health of this host; {} before it has one."""
        return (self.host() or {}).get("health") or {}

    def container(self, workspace, suffix=""):
        """The engine's inspect of ws-<id><suffix>, or None."""
        return self.lab.engine.inspect(f"ws-{workspace}{suffix}")

    def containers(self, workspace):
        return self.lab.engine.containers(**{"molecule.agent.workspace": workspace})

    def port(self, workspace):
        found = self.container(workspace)
        if not found:
            raise LabError(f"no container ws-{workspace}")
        return int(found["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"])

    def fetch(self, workspace, path="/", timeout=5):
        """(status, text) of the workspace's page through its published port."""
        link = http.client.HTTPConnection("127.0.0.1", self.port(workspace), timeout=timeout)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise LabError(f"GET {path}: {error!r}") from error
        finally:
            link.close()

    def tail(self, lines=40):
        return self.agent.tail(lines) + tail(self.plane.log, 10)
