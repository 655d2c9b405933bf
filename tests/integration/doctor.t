#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl doctor: on a host that is well it finds nothing; of each fault, seeded for real, the one check that is about it speaks, and no other. What
this machine cannot have, such as another swap, the tool sees in a mount namespace of its own."""

import contextlib
import email.utils
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, Lab, binary  # noqa: E402
from metadata import Instance, Metadata  # noqa: E402
from names import SilentNames  # noqa: E402
from plane import Authority  # noqa: E402
from proc import end_now, free_port, wait_for  # noqa: E402
from proxy import Proxy, reply  # noqa: E402
from world import moment, new_id  # noqa: E402

CHECKS = ["configuration", "credentials", "identity", "metadata", "hop limit", "user-data", "proxy", "control plane", "certificate", "clock", "organization", "engine",
          "live-restore", "cgroups", "disk", "inodes", "ballast", "runtime", "swap", "unit", "agent", "memory lock", "session", "pins", "outbox", "held"]
VERDICTS = ("ok", "warning", "failed", "not_here")
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
WORDS_MAX = 300
CLOUD = {"MOLECULE_AGENT_IMDS": "auto"}                     # where it is asked for, since the hop limit is seen by an answer that does not come for 2 s


class Host:
    """A whole host that is well: engine, control plane behind a proxy, agent, credentials, metadata service; and the tool on it."""

    def __init__(self, lab, pinned=True):
        self.lab, self.site = lab, lab.site(plane_proxy=True, prefetch="no")
        self.plane, self.agent, self.where = self.site.plane, self.site.agent, self.site.where
        self.store = f"{self.where}/credstore"
        os.mkdir(self.store, 0o700)
        for name, value in self.agent.credentials.items():
            subprocess.run(["systemd-creds", "encrypt", f"--name={name}", "-", f"{self.store}/{name}"], input=value.encode(), check=True)
            os.chmod(f"{self.store}/{name}", 0o600)
        self.put("swaps", SWAPS)
        self.metadata = Metadata()
        self.instance = self.metadata.instances["127.0.0.1"] = Instance()
        self.gate = socket.create_server(("127.0.0.1", 0))  # a proxy, as far as anybody asks: a way to loopback goes by none
        if pinned:
            self.pin("1")
        self.site.start()

    def pin(self, digit):
        self.plane.pin("langgraph", f"{self.lab.registry.address}/none@sha256:{digit * 64}")

    def put(self, name, text):
        with open(f"{self.where}/{name}", "w") as file:
            file.write(text)
        return f"{self.where}/{name}"

    def environment(self, env):
        return self.agent.environment({"CONFIGURATION_DIRECTORY": self.agent.where, "MOLECULE_AGENT_IMDS": "off", "MOLECULE_AGENT_IMDS_URL": self.metadata.url,
                                       "MOLECULE_AGENT_PROXY": f"http://someone:hunter2@127.0.0.1:{self.gate.getsockname()[1]}"} | env)

    def run(self, *more, before="", swaps=None, wrap=(), timeout=60, **env):
        """(exit status, standard output, standard error). before: shell, run first in the tool's mount namespace."""
        script = f"mount --bind {swaps or self.where + '/swaps'} /proc/swaps || exit 99\n{before}\nexec \"$@\""
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *wrap, binary("molecule-agentctl"), "doctor", "--credstore",
                               self.store, *more], env=self.environment(env), capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        for value in (self.plane.provision_secret, self.plane.admin_token, "hunter2"):
            must(value not in done.stdout + done.stderr, "a secret is in the words")
        return done.returncode, done.stdout, done.stderr

    def look(self, **how):
        """What --json says, held to its form: {name: check}, and the exit status that goes with it."""
        status, text, err = self.run("--json", **how)
        must(text.count("\n") == 1, f"{status}: {text}{err}")
        found = json.loads(text)
        same(sorted(found), sorted(["checks", *VERDICTS]))
        same([check["name"] for check in found["checks"]], CHECKS)
        for check in found["checks"]:
            must(set(check) <= {"name", "verdict", "why", "code"} and check["verdict"] in VERDICTS and check["why"] and len(check["why"]) <= WORDS_MAX, str(check))
        for verdict in VERDICTS:
            same(found[verdict], sum(check["verdict"] == verdict for check in found["checks"]), verdict)
        same(status, 1 if found["failed"] else 4 if found["warning"] else 0, text)
        return {check["name"]: check for check in found["checks"]}

    def status(self):
        done = subprocess.run([binary("molecule-agentctl"), "status", "--json"], env=self.environment({}), capture_output=True, text=True, timeout=60, check=False)
        return json.loads(done.stdout)

    def ctl(self, *more, timeout=60):
        done = subprocess.run([binary("molecule-agentctl"), *more], env=self.environment({}), capture_output=True, text=True, timeout=timeout, check=False)
        must(done.returncode in (0, 4), done.stdout + done.stderr)
        return done.stdout

    def polls(self):
        """Until the agent has nothing left to say or to fetch."""
        def idle():
            s = self.status()
            left = [s["control"]["error"], s["agent"]["outbox_depth"], s["pins"]["behind"], s["agent"]["degraded"]]
            must(s["control"]["state"] == "polling" and not any(left), f"{s['control']['state']} {left}")
            return True
        return wait_for(idle, 60, "an agent that is well", 0.2)

    def restart(self, settings=None, **how):
        """The agent, with other settings for this life of it."""
        kept = dict(self.agent.settings)
        self.agent.settings.update(settings or {})
        self.agent.stop()
        self.agent.start(**how)
        self.agent.settings = kept


def bad(found):
    return {name: check for name, check in found.items() if check["verdict"] in ("warning", "failed")}


# --- faults: each a context in which the host has it; what it yields goes to look() -------------------------------------------------------

def env(**more):
    return lambda host: contextlib.nullcontext({f"MOLECULE_AGENT_{name.upper()}": value(host) if callable(value) else value for name, value in more.items()})


def settings(change):
    """agent.conf is another text for a while; the daemon is not told."""
    @contextlib.contextmanager
    def seed(host):
        path = f"{host.agent.where}/agent.conf"
        with open(path) as file:
            whole = file.read()
        with open(path, "w") as file:
            file.write(change(whole))
        yield {}
        with open(path, "w") as file:
            file.write(whole)
    return seed


def credential(change):
    """The file of the admin token is another for a while; change gets its path."""
    @contextlib.contextmanager
    def seed(host):
        path, kept = f"{host.store}/admin-token", f"{host.where}/kept"
        shutil.copy2(path, kept)
        change(path)
        yield {}
        if os.path.exists(f"{path}.foreign"):
            os.unlink(f"{path}.foreign")
        shutil.move(kept, path)
    return seed


def spoil(path):
    with open(path, "r+b") as file:
        size = len(file.read())
        file.seek(size // 2)
        file.write(b"AAAA")


@contextlib.contextmanager
def open_store(host):
    os.chmod(host.store, 0o777)
    yield {}
    os.chmod(host.store, 0o700)


@contextlib.contextmanager
def in_clear(host, mode=0o644):
    path = host.put("token", host.plane.admin_token)
    os.chmod(path, mode)
    yield {"MOLECULE_AGENT_ADMIN_TOKEN_FILE": path}
    os.unlink(path)


@contextlib.contextmanager
def foreign_state(host):
    path = f"{host.agent.state}/quarantine/foreign-{new_id()}"
    os.makedirs(path)
    yield {}
    os.rmdir(path)


def cloud(**fields):
    """The metadata service, or what the cloud knows of the instance, is another for a while."""
    @contextlib.contextmanager
    def seed(host):
        for name, value in fields.items():
            owner = host.instance if name == "user_data" else host.metadata
            fields[name] = getattr(owner, name)
            setattr(owner, name, value(host) if callable(value) else value)
        yield CLOUD
        for name, value in fields.items():
            setattr(host.instance if name == "user_data" else host.metadata, name, value)
    return seed


@contextlib.contextmanager
def old_authority(host):
    """With its own good certificate the control plane sends one more of its authority, signed by another one, that has ended. Nobody needs it."""
    issuer, chain = host.plane.authority, f"{host.where}/chain.pem"
    other = Authority(f"{host.where}/crossed", "crossed")
    other.wrap = ("env", *(f"{name}={value}" for name, value in shifted(host, -30 * 86400).items()))
    crossed = other.cross(issuer)
    with open(chain, "w") as file:
        for path in (host.plane.certificate[0], crossed):
            with open(path) as one:
                file.write(one.read())
    host.site.cp.certify(chain, host.plane.certificate[1])
    yield
    host.site.cp.certify(*host.plane.certificate)


@contextlib.contextmanager
def no_control_plane(host):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"<p>Hi")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"MOLECULE_AGENT_CP_URL": f"http://127.0.0.1:{server.server_port}", "MOLECULE_AGENT_ALLOW_INSECURE_LOOPBACK": "yes"}
        server.shutdown()


def shifted(host, seconds):
    """The environment of a process whose wall clock is off by so much."""
    library = f"{host.where}/clock.so"
    if not os.path.exists(library):
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, f"{TREE}/tests/lab/clock.c"], check=True)
    return {"LD_PRELOAD": library, "LAB_CLOCK": str(seconds)}


def certificate(days, born=0):
    """The control plane shows another one, for so many days from its birth."""
    @contextlib.contextmanager
    def seed(host):
        issuer = host.plane.authority
        issuer.wrap = ("env", *(f"{name}={value}" for name, value in shifted(host, born * 86400).items())) if born else ()
        host.site.cp.certify(*issuer.issue(f"other{days}", days=days))
        issuer.wrap = ()
        yield {}
        host.site.cp.certify(*host.plane.certificate)
    return seed


@contextlib.contextmanager
def clock(host, seconds):
    def act(exchange):
        status, headers, body, _head = exchange.forward()
        exchange.send(status, {k: v for k, v in headers.items() if k not in ("content-length", "connection", "date")}
                      | {"Date": email.utils.formatdate(time.time() - seconds, usegmt=True)}, body)
    host.site.cp.on("GET", "/workspaces/00000000", act, times=None)
    yield {}
    host.site.cp.clear()


@contextlib.contextmanager
def engine_stopped(host):
    host.lab.engine.stop()
    wait_for(lambda: host.status()["agent"]["degraded"], 30, "the agent to miss the engine")
    yield {}
    host.lab.engine.start()
    host.polls()


@contextlib.contextmanager
def no_live_restore(host):
    engine_settings(host.lab, False)
    yield {}
    engine_settings(host.lab, True)


def engine_settings(lab, live_restore):
    """What the engine reads again at a SIGHUP."""
    with open(f"{lab.engine.where}/daemon.json", "w") as file:
        json.dump({"live-restore": live_restore}, file)
    if lab.engine.process:
        lab.engine.process.kill(signal.SIGHUP)
        wait_for(lambda: lab.engine.get("/info")["LiveRestoreEnabled"] == live_restore, 20, "the engine's reload")


UNIFIED = "mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/system\nmount -t cgroup2 cgroup2 /sys/fs/cgroup"      # as systemd has it


def engine_says(path, before="", **fields):
    """The tool asks an engine that is the real one but for some words."""
    @contextlib.contextmanager
    def seed(host):
        between = Proxy(host.lab.engine.socket, f"{host.site.short}/says.sock")
        between.on("GET", path, reply(200, body=json.dumps(host.lab.engine.get(path) | fields)), times=None)
        yield {"MOLECULE_AGENT_ENGINE_SOCKET": between.address, "before": before}
        between.close()
    return seed


@contextlib.contextmanager
def no_inodes(host):
    root = host.lab.engine.get("/info")["DockerRootDir"]
    yield {"before": f"mount -t tmpfs -o size=4g,nr_inodes=200 tmpfs {root}\nfor i in $(seq 198); do : >{root}/$i; done"}


@contextlib.contextmanager
def no_ballast(host):
    os.rename(f"{host.agent.state}/ballast", f"{host.where}/ballast")
    yield {}
    shutil.move(f"{host.where}/ballast", f"{host.agent.state}/ballast")


@contextlib.contextmanager
def runtime_on_disk(host):
    os.makedirs(f"{host.where}/disk", exist_ok=True)
    open(f"{host.where}/disk/control.sock", "w").close()
    run, disk = host.agent.runtime, f"{host.where}/disk"
    yield {"before": f"mount --bind {run}/control.sock {disk}/control.sock\nmount --rbind {disk} {run}"}


@contextlib.contextmanager
def swap_on(host):
    yield {"swaps": host.put("more-swaps", SWAPS + "/dev/zram0  partition 1024 0 100\n/swapfile\tfile\t\t2097148\t\t0\t\t-2\n")}


SYS = "mount -t tmpfs tmpfs /sys/block\nmkdir -p /sys/block/dm-7/dm\necho {} >/sys/block/dm-7/dm/uuid"
MAPPED = SWAPS + "/dev/dm-7 partition 1024 0 -2\n"


@contextlib.contextmanager
def swap_on_lvm(host):
    yield {"swaps": host.put("more-swaps", MAPPED), "before": SYS.format("LVM-xyz")}


@contextlib.contextmanager
def unheard(host):
    """The agent lives two hours ago, where the control plane's certificate is not good yet."""
    host.restart(env=shifted(host, -7200))
    wait_for(lambda: host.status()["control"]["error"], 30, "the agent's failure")
    yield {}
    host.restart()
    host.polls()


@contextlib.contextmanager
def agent_down(host):
    host.agent.stop()
    yield {}
    host.agent.start()
    host.polls()


@contextlib.contextmanager
def memory_unlocked(host):
    host.restart({"allow_unlocked_memory": "yes"}, wrap=("prlimit", "--memlock=0", "setpriv", "--bounding-set=-ipc_lock", "--"))
    host.polls()
    yield {}
    host.restart()
    host.polls()


@contextlib.contextmanager
def refused_credentials(host):
    host.site.cp.on("GET", "/hosts/.*/jobs", reply(401, body='{"error":"unauthorized"}'), times=None)
    host.restart()
    wait_for(lambda: (host.status()["control"]["error"] or {}).get("code") == "auth_rejected", 30, "the agent's refusal")
    yield {}
    host.site.cp.clear()
    host.restart()
    host.polls()


@contextlib.contextmanager
def pins_behind(host):
    host.site.cp.on("GET", "/hosts/.*/pins", reply(500), times=None)
    host.pin("2")
    wait_for(lambda: host.status()["pins"]["behind"], 30, "the agent to hear of another table")
    yield {}
    host.site.cp.clear()
    host.restart()
    host.polls()


@contextlib.contextmanager
def outbox_old(host):
    """A report is made an hour ago, and cannot be told; now everything else can."""
    host.site.cp.on("POST", "/reports", reply(503), times=None)
    host.restart(env=shifted(host, -3600))
    job = {"job_id": new_id(), "type": "workspace.provision", "org_id": host.plane.org_id, "host_id": host.status()["host_id"], "workspace_id": new_id(),
           "generation": "1", "issued_at": moment(), "spec": {"runtime": "no-such-runtime"}}
    subprocess.run([binary("molecule-agentctl"), "apply", host.put("job.json", json.dumps(job))], env=host.environment({}), capture_output=True, check=False, timeout=60)
    wait_for(lambda: host.status()["agent"]["outbox_depth"], 20, "a report")
    host.restart()
    wait_for(lambda: (s := host.status())["control"]["state"] == "polling" and s["outbox_oldest_seconds"] > 3000, 60, "the agent's poll")
    yield {}
    host.site.cp.clear()
    host.restart()
    host.polls()


def steered(begin, end):
    @contextlib.contextmanager
    def seed(host):
        host.ctl(*begin)
        yield {}
        host.ctl(*end)
    return seed


def away(host):
    return f"https://127.0.0.1:{free_port()}"


def stranger(host):
    return Authority(f"{host.where}/stranger").ca


FAULTS = (
    # what is wrong, how, whose check, its verdict, words, its code; other checks that may speak, too
    ("a broken line in agent.conf", settings(lambda t: t + "max_tier = lots\n"), "configuration", "failed", r"agent\.conf.*max_tier.*Mend the line", "config_invalid"),
    ("a host that was never enrolled", settings(lambda t: t.replace("org_id =", "#")), "configuration", "failed", "org_id is not set.*enroll", "not_enrolled"),
    ("a setting that is out of range", env(max_tier="9"), "configuration", "failed", "MOLECULE_AGENT_MAX_TIER", "config_invalid"),
    ("a credential is missing", credential(os.unlink), "credentials", "failed", "admin-token is not in .*enroll", "not_enrolled"),
    ("a credential was set aside", credential(lambda p: os.rename(p, f"{p}.foreign")), "credentials", "failed", "admin-token was encrypted for another machine", "credentials_foreign"),
    ("a credential does not decrypt", credential(spoil), "credentials", "failed", "admin-token does not decrypt on this machine", "credentials_foreign"),
    ("a credential is readable by all", credential(lambda p: os.chmod(p, 0o644)), "credentials", "warning", r"admin-token is not root's alone \(mode 644\).*chmod 600", None),
    ("the credential store is open to all", open_store, "credentials", "failed", r"Others than root may write.*chmod 700", None),
    ("a credential lies in clear, for all", in_clear, "credentials", "failed", "in clear, for every user to read", None),
    ("a credential lies in clear, for root", lambda host: in_clear(host, 0o600), "credentials", "warning", "files in clear", None),
    ("state of another host lies here", foreign_state, "identity", "warning", "another one was set aside.*identity show", None),
    ("the metadata service does not answer", env(imds="auto", imds_url=lambda h: f"http://127.0.0.1:{free_port()}"), "metadata", "failed", "gives no token", None),
    ("the metadata service needs no token", cloud(v1=True), "metadata", "warning", "http-tokens required", None),
    ("the metadata service reaches containers", cloud(hop_limit=2), "hop limit", "failed", "hop-limit 1", None),
    ("a credential in user-data", cloud(user_data=lambda h: f"ADMIN_TOKEN={h.plane.admin_token}\n"), "user-data", "failed", "credential stands in the user-data", None),
    ("nobody listens where the proxy is", env(proxy=lambda h: f"http://127.0.0.1:{free_port()}"), "proxy", "failed", r"cannot be reached: Connection refused", None),
    ("the proxy's name is unknown", env(proxy="http://proxy.invalid:3128"), "proxy", "failed", r"name of the proxy proxy\.invalid is not known", None),
    ("the proxy is no URL", env(proxy="http://["), "proxy", "failed", "is no URL of a proxy", None),
    ("nobody listens where the control plane is", env(cp_url=away), "control plane", "failed", "cannot be reached.*firewall", "control_plane_unreachable"),
    ("a server that is no control plane", no_control_plane, "control plane", "failed", r"no control plane with provision routes \(HTTP 200, no JSON\)", "control_plane_misrouted"),
    ("a prefix that is not the control plane's", env(cp_prefix="/api/v0"), "control plane", "failed", r"HTTP 404.*cp_prefix", "control_plane_misrouted"),
    ("the certificate has expired", certificate(0), "certificate", "failed", r"certificate has expired, and it is 20..-..-..T..:..Z here\. Mend the clock", "control_plane_unreachable", "session"),
    ("the certificate ends tomorrow", certificate(20, -19), "certificate", "warning", r"ends in 2[34] h.*renewed", None, "session"),
    ("the certificate is another authority's", env(ca_file=stranger), "certificate", "failed", "Not to be trusted.*ca_file", "control_plane_unreachable"),
    ("the file of authorities is not there", env(ca_file="/nowhere/ca.pem"), "certificate", "failed", "ca_file /nowhere/ca.pem cannot be read", "control_plane_unreachable"),
    ("the clock is a minute ahead", lambda host: clock(host, 60), "clock", "warning", r"(59|60|61) s ahead of", "clock_suspect"),
    ("the clock is an hour behind", lambda host: clock(host, -3600), "clock", "failed", r"3\d\d\d s behind the control plane's", "clock_suspect"),
    ("the slug is another organization's", env(org_slug=lambda h: h.plane.another_tenant().org_slug), "organization", "failed", "here org_id is", None),
    ("the slug is nobody's", env(org_slug="nobody-here"), "organization", "failed", "knows no organization nobody-here", None),
    ("the engine is stopped", engine_stopped, "engine", "failed", r"cannot be asked through .*: (there is no such socket|nobody listens on it)\. systemctl status docker", "engine_unreachable"),
    ("the engine is too old", engine_says("/version", ApiVersion="1.30"), "engine", "failed", r"^The engine speaks API 1\.30; .* needed\. Upgrade", "engine_too_old"),
    ("the engine answers nonsense", engine_says("/version", ApiVersion=None), "engine", "failed", "does not say which API", "engine_error"),
    ("the engine holds nobody to its memory", engine_says("/info", CgroupDriver="none"), "cgroups", "failed", "no cgroup driver", None),
    ("the engine manages cgroups beside systemd", engine_says("/info", UNIFIED, CgroupDriver="cgroupfs"), "cgroups", "warning", "native.cgroupdriver=systemd", None),
    ("the engine restarts its containers with it", no_live_restore, "live-restore", "warning", "live-restore.*daemon.json", None),
    ("less is free than the reserve", env(min_free_bytes="900T"), "disk", "failed", r"below min_free_bytes \(990 TB\)", "no_space"),
    ("the inodes are used up", no_inodes, "inodes", "failed", r"(99|100) % of the inodes.*df -i", "no_space"),
    ("the ballast is given up", no_ballast, "ballast", "warning", "given up", "state_degraded"),
    ("the runtime directory lies on a disk", runtime_on_disk, "runtime", "failed", "lies on a disk.*tmpfs", None),
    ("swap is on", swap_on, "swap", "warning", r"Swap is on \(/swapfile\).*swapoff", None),
    ("swap is on, on a volume that is not encrypted", swap_on_lvm, "swap", "warning", r"Swap is on \(/dev/dm-7\)", None),
    ("the agent is down", agent_down, "agent", "failed", "does not run.*systemctl status", None),
    ("the agent could not lock its memory", memory_unlocked, "memory lock", "warning", "not locked.*LimitMEMLOCK", None),
    ("the control plane refuses the credentials", refused_credentials, "session", "failed", "refuses the credentials.*Compare", "auth_rejected"),
    ("the pins are behind", pins_behind, "pins", "warning", "other pins than the agent.*journalctl", None),
    ("no word from the control plane for two hours", unheard, "pins", "warning", "longer than an hour", None, "session"),
    ("a report waits for an hour", outbox_old, "outbox", "warning", r"1 report waits.*oldest for 6\d min", None),
    ("the host is held", steered(("hold", "--reason", "night shift"), ("release",)), "held", "warning", r"\(night shift\).*release", "held"),
    ("the host drains", steered(("drain", "--reason", "old disk"), ("undrain",)), "held", "warning", r"\(old disk\).*undrain", "draining"),
)


def with_fault(host, what, seed, name, verdict, pattern, code, *others):
    def test():
        with seed(host) as how:
            try:
                found = host.look(**how)
            except Exception as error:                      # the host is to be well again, also then
                found = error
        if isinstance(found, Exception):
            raise found
        got = found[name]
        same((got["verdict"], got.get("code")), (verdict, code), str(got))
        must(re.search(pattern, got["why"]), f"{got['why']!r} is not about {pattern!r}")
        same(sorted(set(bad(found)) - {name, *others}), [], json.dumps(bad(found)))
    return what, test


# --- the host that is well, the form, the time -------------------------------------------------------------------------------------------

def well(host):
    found = host.look(**CLOUD)
    same(bad(found), {}, "a host that is well")
    quiet = {name for name, check in found.items() if check["verdict"] == "not_here"}
    must(quiet <= {"unit"}, f"not looked at: {quiet}")      # no service manager has this agent
    status, text, err = host.run(**CLOUD)
    same((status, err, text.count("\n")), (0, "", len(CHECKS) + 1))
    must(text.endswith("\nNothing is wrong.\n") and re.search(r"^ok       control plane  https://", text, re.M), text)


def without_what_can_be_absent(host):
    """no proxy, no cloud, no slug: '-', and not counted; and swap that is in memory or encrypted is none"""
    with settings(lambda text: text.replace("org_slug =", "#"))(host):
        found = host.look(MOLECULE_AGENT_PROXY="")
    same(bad(found), {})
    for name in ("proxy", "metadata", "hop limit", "user-data", "organization"):
        same(found[name]["verdict"], "not_here", name)
    found = host.look(swaps=host.put("more-swaps", MAPPED + "/dev/zram0 partition 1024 0 100\n"), before=SYS.format("CRYPT-PLAIN-swap"))
    same((bad(found), found["swap"]["why"]), ({}, "none in clear on a disk"))
    found = host.look(STATE_DIRECTORY="/nowhere")
    same(sorted(bad(found)), ["identity"])


def sent_and_not_needed(host):
    """the certificate that counts is the control plane's own"""
    with old_authority(host):
        sent = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{host.site.cp.port}", "-showcerts"], input="", capture_output=True, text=True, check=False)
        same(sent.stdout.count("BEGIN CERTIFICATE"), 2)
        found = host.look()
    same((bad(found), found["certificate"]["verdict"]), ({}, "ok"))


def nothing_promoted(stage):
    """a control plane without a pin is no trouble of its hosts; the agent says so once; the first pin comes at once"""
    host = Host(stage, pinned=False)
    agent = host.agent
    wait_for(lambda: agent.lines("The control plane has no pins yet."), 20, "the agent's word on the empty table")
    host.polls()
    found = host.look()
    same((bad(found), found["pins"]["verdict"]), ({}, "not_here"))
    host.ctl("sync")
    same((len(agent.lines("has no pins yet")), agent.lines("warning", "pin table")), (1, []))
    host.pin("1")
    wait_for(lambda: agent.lines("info Pins: "), 10, "the first table")
    same(host.look()["pins"]["verdict"], "ok")
    end_now(host.site.end)


def lines_and_exits(host):
    status, text, _ = host.run(MOLECULE_AGENT_MIN_FREE_BYTES="900T")
    must(status == 1 and re.search(r"^failed   disk           \d", text, re.M) and text.endswith("\n1 failed, 0 warnings.\n"), text)
    status, text, _ = host.run(swaps=host.put("more-swaps", SWAPS + "/dev/sda2 partition 1 0 -2\n"))
    must(status == 4 and text.endswith("\n0 failed, 1 warnings.\n"), text)
    for more in (("more",), ("--wait",), ("--wait", "x"), ("--wait", "86401"), ("--wait", "-1"), ("--colour",)):
        status, text, err = host.run(*more)
        must(status == 2 and not text and "Usage: molecule-agentctl doctor" in err, f"{more}: {status} {text}{err}")
    status, text, err = host.run(wrap=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    must(status == 6 and not text and "root" in err, f"{status} {text}{err}")


def waits(host):
    """--wait: until nothing has failed, warnings or not; 5 where the time is over before"""
    began = time.monotonic()
    status, text, _ = host.run("--wait", "3", "--json", MOLECULE_AGENT_MIN_FREE_BYTES="900T")
    same((status, json.loads(text)["failed"], text.count("\n")), (5, 1, 1))
    must(3 <= time.monotonic() - began < 10, "it waits as long as it was told")
    host.agent.stop()
    found = []
    thread = threading.Thread(target=lambda: found.append(host.run("--wait", "60")))
    thread.start()
    time.sleep(3)
    must(not found, "it does not wait")
    host.agent.start()
    thread.join(60)
    status, text, _ = found[0]
    must(status == 0 and text.count("\n") == len(CHECKS) + 1, f"{status} {text}")
    host.polls()


def hole(path):
    """A socket that accepts, and says nothing."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen()
    return made


def nobody_answers(host):
    """black holes everywhere: name servers, control plane, proxy, metadata, engine, bus, agent; it ends within 10 s"""
    metadata, kept = socket.create_server(("127.0.0.1", 0)), [hole(f"{host.site.short}/{name}") for name in ("engine", "bus")]
    names = SilentNames(host.where)
    host.agent.kill(signal.SIGSTOP)
    try:
        for place in ("127.0.0.1:%d" % metadata.getsockname()[1], "cp.example.org"):
            began = time.monotonic()
            found = host.look(before=names.mount, MOLECULE_AGENT_CP_URL=f"https://{place}", MOLECULE_AGENT_ENGINE_SOCKET=kept[0].getsockname(),
                              MOLECULE_AGENT_IMDS_URL=f"http://127.0.0.1:{metadata.getsockname()[1]}", MOLECULE_AGENT_PROXY="http://proxy.example.org:1",
                              DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={kept[1].getsockname()}", **CLOUD)
            seconds = time.monotonic() - began
            same(sorted(bad(found)), ["agent", "control plane", "engine", "metadata", "proxy"])
            same((found["unit"]["verdict"], found["unit"]["why"]), ("not_here", "the service manager does not say"))
            must("did not answer" in found["agent"]["why"], str(found["agent"]))
            tap.diag(f"with nobody answering, and {place}: {seconds:.1f} s")
            must(seconds < 12, f"{seconds:.1f} s")              # ten of its own
    finally:
        host.agent.kill(signal.SIGCONT)
        names.close()
    host.polls()


if os.geteuid() != 0 or subprocess.run(["systemd-creds", "--version"], capture_output=True, check=False).returncode:
    print("1..0 # SKIP needs root and systemd-creds")
    sys.exit(0)
chosen = re.compile(os.environ.get("MOLECULE_CASES", "."))
lab = Lab("doctor")
lab.engine.words = ["--config-file", f"{lab.engine.where}/daemon.json"]
engine_settings(lab, True)
with lab:
    here = Host(lab)
    here.polls()
    tests = [("on a host that is well it finds nothing", lambda: well(here)), ("what is not here is not counted", lambda: without_what_can_be_absent(here)),
             ("lines, exit codes, usage", lambda: lines_and_exits(here)), *(with_fault(here, *fault) for fault in FAULTS),
             ("an authority's old certificate is sent along", lambda: sent_and_not_needed(here)), ("nothing is promoted yet", lambda: nothing_promoted(lab)),
             ("waiting", lambda: waits(here)), ("nobody answers", lambda: nobody_answers(here)), ("well again", lambda: well(here))]
    try:
        tap.run([test for test in tests if chosen.search(test[0])], lambda: here.site.tail(40))
    finally:
        end_now(here.site.end)
