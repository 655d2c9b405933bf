# SPDX-License-Identifier: Apache-2.0
"""Whole instances: baked from the package, booted with systemd as their first process, on a network of the test's own, where the control plane, the
registry and what plays the metadata service are outside of them. Ending one without a word is a power cut; its directory is its disk.

After own_network() the test runs in a network namespace of its own, which is the outside."""

import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from lab import TREE, Lab, binary
from metadata import Instance as CloudInstance
from metadata import Metadata, SecretsManager, bundle
from plane import Plane
from proc import LabError, Process, tail, wait_for

OUTSIDE, REGISTRY, METADATA = "10.77.0.1", "10.77.0.1:5000", "169.254.169.254"
STATE, STORE = "/var/lib/molecule-agent", "/etc/credstore.encrypted"
BRIDGE = "lab0"

# As Debian's initramfs has it; nspawn would allow programs there.
RUN_UNIT = """[Unit]
DefaultDependencies=no
Before=sysinit.target local-fs.target systemd-tmpfiles-setup.service
[Service]
Type=oneshot
ExecStart=mount -o remount,noexec,nosuid,nodev /run
"""
GET = """import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode(), end="")
except OSError as error:
    sys.exit(f"{error}")
"""
NETWORK = "[Match]\nName=host0\n[Network]\nAddress={address}/24\nGateway=" + OUTSIDE + "\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"


def run(*words, timeout=120, check=True, stdin=None, env=None):
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    if check and done.returncode:
        raise LabError(f"{' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}")
    return done.returncode, done.stdout + done.stderr


def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def own_network():
    """What comes after this sees nothing of the machine's network, and the machine nothing of what listens here. One thread only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:                       # CLONE_NEWNET
        raise LabError(f"unshare: {os.strerror(ctypes.get_errno())}")


def root_make(path, package, like=None):
    """A root file system with the engine and the agent; needs the machine's network. like: a copy of that one."""
    if like:
        run("cp", "-a", like, path)
    else:
        run(f"{TREE}/packaging/image/bake.sh", "--root", path, "--package", package, timeout=400)
    return path


class Outside(Lab):
    """Registry, control plane and network. Instances reach them at OUTSIDE."""

    def __init__(self):
        super().__init__("instance", registry=REGISTRY)
        self.instances, self.numbers = [], itertools.count(1)
        self.plane = Plane(f"{self.where}/cp", binary("molecule-devcp"), names=f"IP:{OUTSIDE},IP:127.0.0.1")
        self.url = f"https://{OUTSIDE}:{self.plane.port}"
        self.metadata = self.manager = None

    def start(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "address", "02:00:00:00:00:01", "type", "bridge")      # else it is a machine's, and goes with that
        run("ip", "address", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
        self.metadata = Metadata(METADATA, 80)
        self.manager = SecretsManager(self.metadata, self.plane.certificate, OUTSIDE)
        super().start()
        self.plane.start()
        self.plane.org_make()
        Process(["systemd-socket-activate", "-l", f"{OUTSIDE}:{self.plane.port}", "/lib/systemd/systemd-socket-proxyd",
                 f"127.0.0.1:{self.plane.port}"], f"{self.where}/door.log")
        return self

    def mine(self):
        """The machines of this thread, which is a case."""
        return [instance for instance in self.instances if instance.owner == threading.get_ident()]

    def clear(self):
        for instance in self.mine():
            instance.end()
            self.instances.remove(instance)

    def end(self):
        for instance in self.instances:
            instance.end()
        super().end()

    def bake(self, path, images):
        """Makes an image of what root_make() made."""
        daemon = json.load(open(f"{TREE}/packaging/image/daemon.json")) | {"insecure-registries": [REGISTRY]}
        put(f"{self.where}/daemon.json", json.dumps(daemon))
        put(f"{self.where}/image.conf", f"[agent]\nregistries = {REGISTRY}\nca_file = /etc/molecule-agent/ca.pem\nmin_free_bytes = 1G\n"
                                        "stop_timeout_seconds = 2\nprobe_timeout_seconds = 60\nlog_level = debug\n")
        words = [word for ref in images for word in ("--image", ref)]
        run(f"{TREE}/packaging/image/bake.sh", "--root", path, "--conf", f"{self.where}/image.conf", "--daemon-json",
            f"{self.where}/daemon.json", *words, timeout=400)
        # What is of the lab: addresses come from a file, there is no console to log in at, and the control plane's certificate is our own.
        shutil.copy(self.plane.authority.ca, f"{path}/etc/molecule-agent/ca.pem")
        put(f"{path}/etc/systemd/system/lab-run.service", RUN_UNIT)
        # A call that the sandbox denies ends the agent here, instead of an error that it may cope with: none stays unseen.
        put(f"{path}/etc/systemd/system/molecule-agentd.service.d/lab.conf", "[Service]\nSystemCallErrorNumber=kill\n")
        units = f"{path}/etc/systemd/system"
        for target, unit in (("sysinit.target.wants", "../lab-run.service"), ("multi-user.target.wants", "/lib/systemd/system/systemd-networkd.service"),
                             ("network-online.target.wants", "/lib/systemd/system/systemd-networkd-wait-online.service")):
            os.makedirs(f"{units}/{target}", exist_ok=True)
            os.symlink(unit, f"{units}/{target}/{os.path.basename(unit)}")
        for unit in ("console-getty.service", "systemd-resolved.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"):
            os.symlink("/dev/null", f"{units}/{unit}")
        return path

    def cloud(self, host, plane=None):
        """Makes it an instance of the cloud, before it is booted; plane: it has the tags of that tenant, and its role may read that one's secrets."""
        self.metadata.instances[host.address] = CloudInstance({"OrgID": plane.org_id, "OrgSlug": plane.org_slug} if plane else None)
        put(host.path("/etc/molecule-agent/agent.conf.d/06-cloud.conf"), f"[agent]\nimds_url = http://{METADATA}:80\ncp_url = {self.url}\n")
        put(host.path("/etc/systemd/system/molecule-agent-enroll.service.d/lab.conf"),
            f"[Service]\nEnvironment=AWS_ENDPOINT_URL_SECRETS_MANAGER={self.manager.url} AWS_CA_BUNDLE=/etc/molecule-agent/ca.pem\n")
        if plane:
            self.manager.secrets[f"molecule/tenant/{plane.org_id}/bootstrap"] = bundle(plane)

    def instance(self, disk, name=None):
        """A machine whose disk is a copy of that directory."""
        return Instance(self, disk, name)


class Instance:
    def __init__(self, outside, disk, name=None):
        outside.instances.append(self)
        self.owner = threading.get_ident()
        self.outside, self.number = outside, next(outside.numbers)
        self.name = name or f"mi{self.number}"
        self.disk, self.address = f"{outside.where}/{self.name}", f"10.77.0.{10 + self.number}"
        self.log, self.process, self.leader = f"{outside.where}/{self.name}.log", None, None
        run("cp", "-a", disk, self.disk, timeout=300)
        put(f"{self.disk}/etc/systemd/network/10-host0.network", NETWORK.format(address=self.address))
        put(f"{self.disk}/etc/hostname", f"host-{self.number}\n")

    # ── power ───────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self, until="multi-user.target", timeout=90):
        self.booted = time.monotonic()
        self.process = Process(["systemd-nspawn", "--quiet", "--directory", self.disk, "--machine", self.name, "--register=no", "--keep-unit", "--console=pipe",
                                f"--network-bridge={BRIDGE}", "--capability=all", "--system-call-filter=@keyring bpf add_key keyctl",
                                "--bind=/sys/fs/cgroup", "--boot"], self.log)
        self.leader = wait_for(self._leader, 20, "the instance's first process")
        if until:
            self.active(until, timeout)
        return self

    def _leader(self):
        self.process.check()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            child = int(file.read().split()[0])
        with open(f"/proc/{child}/comm") as file:
            return child if file.read().strip() == "systemd" else None

    def cut(self):
        """The power is gone. Every process of it ends at once, the containers' too: the kernel kills whoever lives in the ended namespace."""
        os.kill(self.leader, signal.SIGKILL)
        self.process.wait(30)
        self.leader = None

    def shutdown(self):
        self.run("systemctl", "--no-block", "poweroff", check=False)
        self.process.wait(90)
        self.leader = None

    def end(self):
        if self.process and self.process.running():
            self.cut() if self.leader else self.process.stop(signal.SIGKILL)
        if not os.environ.get("MOLECULE_LAB_KEEP"):
            shutil.rmtree(self.disk, ignore_errors=True)

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, *words, check=True, timeout=60, stdin=None):
        """(status, output) of a command in the instance, as root."""
        return run("nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--", *words, check=check, timeout=timeout, stdin=stdin,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def out(self, *words, **how):
        return self.run(*words, **how)[1].strip()

    def active(self, unit, timeout=60):
        wait_for(lambda: self.process.check() and self.out("systemctl", "is-active", unit, check=False) == "active", timeout, f"{unit} in {self.name}", 0.1)

    def journal(self, unit="molecule-agentd", lines=60):
        return self.run("journalctl", "--no-pager", "--output=cat", "--lines", str(lines), "--unit", unit, check=False)[1] if self.leader else ""

    def denied(self):
        """Lines of the journal that tell of an agent killed by its sandbox."""
        text = self.run("journalctl", "--no-pager", "--output=cat", "--grep", "status=31/SYS", "--unit", "molecule-agentd", check=False)[1] if self.leader else ""
        return [line for line in text.splitlines() if "31/SYS" in line]

    def path(self, path):
        return f"{self.disk}{path}"

    def enroll(self, plane, *more):
        """As an operator does it: the admin token comes on standard input."""
        self.put("/run/secret", plane.provision_secret, 0o600)
        return self.run("molecule-agentctl", "enroll", "--cp-url", self.outside.url, "--org-id", plane.org_id, "--org-slug", plane.org_slug,
                        "--provision-secret-file", "/run/secret", "--admin-token-file", "-", *more, stdin=plane.admin_token)

    def put(self, path, text, mode=0o644):
        self.run("sh", "-c", 'umask 077; cat >"$1"; chmod "$2" "$1"', "-", path, f"{mode:o}", stdin=text)

    def conf(self, **settings):
        put(self.path("/etc/molecule-agent/agent.conf.d/50-test.conf"), "[agent]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))

    def host_id(self):
        with open(self.path(f"{STATE}/identity")) as file:
            return json.loads(file.read().split("\n", 1)[1])["host_id"]

    def host(self, timeout=60):
        """The control plane's row of it, once it is registered."""
        return wait_for(lambda: next((h for h in self.outside.plane.hosts() if h["host_id"] == self.host_id()), None), timeout, f"{self.name}'s registration", 0.1)

    def inspect(self, name):
        status, text = self.run("docker", "inspect", name, check=False)
        return json.loads(text)[0] if status == 0 else None

    def there(self, workspace):
        found = self.inspect(f"ws-{workspace}")
        if not found:
            raise LabError(f"no container ws-{workspace}")
        return found

    def port(self, workspace):
        return int(self.there(workspace)["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"])

    def address_of(self, workspace):
        """Where it answers even while the engine, which publishes its port, is away."""
        return next(iter(self.there(workspace)["NetworkSettings"]["Networks"].values()))["IPAddress"] + ":8000"

    def get(self, address, path="/"):
        """What an address answers to one on the host."""
        return run("nsenter", "--target", str(self.leader), "--net", "--", sys.executable, "-c", GET, f"http://{address}{path}", timeout=15)[1]

    def page(self, workspace, path="/"):
        return self.get(f"127.0.0.1:{self.port(workspace)}", path)

    def seconds_to(self, call, timeout=60, what="a condition"):
        """Seconds from the power to when call answers something true."""
        wait_for(lambda: self.process.check() and call(), timeout, f"{what} in {self.name}", 0.05)
        return time.monotonic() - self.booted

    def tail(self):
        return self.journal() + tail(self.log, 20)
