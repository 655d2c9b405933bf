# SPDX-License-Identifier: Apache-2.0
"""Clones of a disk that was at work, and the metadata service as instances see it."""

import os

from boot import answers, work
from cases import must, same
from instance import STATE, STORE
from proc import wait_for


ASK = r"""$s = IO::Socket::INET->new(PeerAddr => "169.254.169.254:80", Timeout => 3) or die "no connection\n";
print $s "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n"; print scalar <$s>"""


def shown(host):
    """The lines of `identity show`, by their first word."""
    return host.out("molecule-agentctl", "identity", "show", check=False)


def clone(stage, original, wiped):
    """A machine with a copy of its disk: another instance to the cloud, with or without systemd's host key."""
    host = stage.instance(original.disk)
    if wiped:
        os.unlink(host.path("/var/lib/systemd/credential.secret"))
    stage.cloud(host)
    return host.boot()


def clones(stage):
    """two clones of a live disk, its host key wiped and not: each a new identity, neither acts for the other, the first one's containers untouched"""
    first = stage.instance(stage.golden)
    stage.cloud(first)
    first.boot()
    first.enroll(stage.plane)
    workspace, value = work(stage, first)
    before, identity = first.inspect(f"ws-{workspace}"), first.host_id()
    must(stage.metadata.instances[first.address].id in shown(first), shown(first))
    first.out("molecule-agentctl", "hold", "--reason", "night")
    wiped, kept = clone(stage, first, True), clone(stage, first, False)
    first.out("molecule-agentctl", "release")
    wait_for(lambda: len({first.host_id(), wiped.host_id(), kept.host_id()}) == 3, 30, "three identities")
    same(first.host_id(), identity)

    # With its host key the clone has credentials and registers as another host; without, it says what is missing.
    kept.host()
    must("made for another machine" in wiped.journal(), wiped.journal())
    must("was encrypted for another machine" in wiped.out("molecule-agentctl", "doctor", check=False))
    must(sorted(os.listdir(wiped.path(STORE))) == ["admin-token.foreign", "provision-secret.foreign", "seal-key.e1.foreign"], os.listdir(wiped.path(STORE)))
    must(wiped.host_id() not in [h["host_id"] for h in stage.plane.hosts()], "the clone without credentials has registered")
    for host in (wiped, kept):
        must(f"set aside: host {identity}" in shown(host) and f"ws-{workspace} of host {identity}" in shown(host), shown(host))

    for host in (wiped, kept):
        wait_for(lambda h=host: "held: no" in h.out("molecule-agentctl", "status", check=False), 20, "a clone that is not held by what was said to the first")

    # What is ordered for the first happens there and nowhere else.
    _, value = work(stage, first, image=stage.better, workspace=workspace, generation="7")
    for host in (wiped, kept):
        must(host.inspect(f"ws-{workspace}")["Id"] == before["Id"], "a clone has acted for the first host")
    must(first.inspect(f"ws-{workspace}")["Id"] != before["Id"])
    health = wait_for(lambda: (kept.host()["health"] or {}).get("foreign"), 60, "foreign[] in the clone's health")
    same([f["host_id"] for f in health], [identity])

    # An operator's words.
    got, text = kept.run("molecule-agentctl", "identity", "remove-foreign", "--dry-run", check=False)
    must(got == 0 and f"would go: container ws-{workspace}" in text and kept.inspect(f"ws-{workspace}"), text)
    got, text = kept.run("molecule-agentctl", "identity", "remove-foreign", "--volumes", "--reason", "a test", check=False)
    must(got == 0 and not kept.inspect(f"ws-{workspace}") and not kept.out("docker", "volume", "ls", "--quiet"), text)
    must(first.inspect(f"ws-{workspace}"), "the first host's container went")

    # The first machine is gone for good, and the clone that can open what it sealed takes its place.
    first.cut()
    got, text = kept.run("molecule-agentctl", "identity", "adopt", identity, check=False)
    must(got == 6 and "Stop it first" in text, text)
    kept.run("systemctl", "stop", "molecule-agentd")
    kept.run("molecule-agentctl", "identity", "adopt", identity)
    same(kept.out("stat", "--format=%U", f"{STATE}/identity"), "molecule-agent", "whose the identity is")
    kept.run("systemctl", "start", "molecule-agentd")
    wait_for(lambda: "held: yes (night)" in kept.out("molecule-agentctl", "status", check=False), 20, "the hold, which came back with the rest")
    kept.out("molecule-agentctl", "release")
    wait_for(lambda: answers(kept, workspace, value), 60, "the adopted workspace, with the secret that it has now")
    same(kept.host_id(), identity)
    kept.run("systemctl", "restart", "molecule-agentd")
    same(kept.host_id(), identity, "after one more start")
    must(stage.metadata.instances[kept.address].id in shown(kept), shown(kept))

    # And a machine that is to be a new one.
    got, text = kept.run("sh", "-c", "systemctl stop molecule-agentd; molecule-agentctl identity reset --reason test", check=False)
    must(got == 6 and "1 workspaces" in text, text)
    kept.run("molecule-agentctl", "identity", "reset", "--force", "--reason", "a test")
    kept.run("systemctl", "start", "molecule-agentd")
    must(kept.host_id() not in (identity, wiped.host_id()) and kept.host(), "a new host")


def unit_in_force(host):
    """What doctor says of the unit: as shipped, with a drop-in that takes something away, changed on the disk only, replaced, and as shipped again."""
    def told(words, *steps):
        for step in steps:
            host.run(*step)
        text = host.out("molecule-agentctl", "doctor", check=False)
        must(words in text, f"{words}: {text}")
    unit, drop = "/etc/systemd/system/molecule-agentd.service", host.path("/etc/systemd/system/molecule-agentd.service.d")
    reload = ("systemctl", "daemon-reload")
    told("ok       unit           as shipped, from /")
    told("ok       cgroups")
    told("ok       live-restore")
    told("ok       swap" if len(open("/proc/swaps").readlines()) < 2 else "warning  swap")
    for line, name in (("ProtectSystem=no", "ProtectSystem"), ("CapabilityBoundingSet=CAP_NET_ADMIN", "CapabilityBoundingSet"), ("LimitMEMLOCK=64K", "LimitMEMLOCK"),
                       ("MemoryDenyWriteExecute=no", "MemoryDenyWriteExecute")):
        os.makedirs(drop, exist_ok=True)
        with open(f"{drop}/50-more.conf", "w") as file:
            file.write(f"[Service]\n{line}\n")
        told(f"warning  unit           molecule-agentd.service does not keep {name}", reload)
    with open(f"{drop}/50-more.conf", "w") as file:
        file.write("[Service]\nNice=5\n")
    told("ok       unit", reload)
    os.utime(f"{drop}/50-more.conf", (2e9, 2e9))
    told("warning  unit           molecule-agentd.service on the disk is not the one in force")
    told("warning  unit           /etc/systemd/system/molecule-agentd.service stands in", ("cp", "/lib/systemd/system/molecule-agentd.service", unit), reload)
    told("failed   unit           molecule-agentd.service is masked", ("ln", "-sf", "/dev/null", unit), reload)
    told("ok       unit           as shipped", ("rm", "-r", unit, f"{unit}.d"), reload)


def metadata(stage):
    """a container on the bridge does not reach the metadata service when the hop limit is 1, and doctor says so when it does; enrolled by tag and role; doctor on
    the unit"""
    host = stage.instance(stage.golden)
    stage.cloud(host, stage.plane)
    host.boot()
    wait_for(lambda: os.path.exists(host.path("/etc/molecule-agent/agent.conf.d/10-enroll.conf")), 90, "enrolment by the unit", 0.5)
    host.host()
    workspace, value = work(stage, host)
    must(answers(host, workspace, value))

    def inside():
        """What somebody in the workspace's network gets when he asks for a token."""
        pid = str(host.inspect(f"ws-{workspace}")["State"]["Pid"])
        return host.run("timeout", "5", "nsenter", "--target", pid, "--net", "perl", "-MIO::Socket::INET", "-e", ASK, check=False)
    stage.metadata.hop_limit = 1
    got, text = inside()
    must(got == 124 and "200" not in text, f"reached at a hop limit of 1: {got} {text}")
    text = host.out("molecule-agentctl", "doctor", check=False)
    must("ok       hop limit" in text, text)
    stage.metadata.hop_limit = 2
    got, text = inside()
    must(got == 0 and "HTTP/1.1 200" in text, f"not reached at a hop limit of 2: {got} {text}")
    text = host.out("molecule-agentctl", "doctor", check=False)
    must("failed   hop limit" in text, text)
    stage.metadata.hop_limit = 1
    unit_in_force(host)


CASES = (clones, metadata)
