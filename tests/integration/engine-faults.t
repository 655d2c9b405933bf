#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An engine that fails: at each call of a replacement, in each way a call can fail. Whatever happens, the job's end and the engine agree, one
container runs and answers, and another workspace of the host does not notice.

What other files have of this is not repeated here:
    engine away at start, killed in mid-job; create's reply lost, start's reply lost       trouble.t
    a name or a volume that is somebody else's                                             failed.t
    a registry that is slow, silent, away or says no                                       pull.t, trouble.t
    the agent killed around each call                                                      kill.t
    a settled container that crashes, or that someone stopped                              jobs.t"""

import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from hostile import bytes_, floods, holds, in_turn, says, sized  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from proxy import Proxy, before, drop_after, edit, throttle  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from sealed import life  # noqa: E402
from world import b64, spec  # noqa: E402

SIDE_BY_SIDE = int(os.environ.get("MOLECULE_HOSTS", "8"))
LIMIT = 240
LOST, NONE = drop_after(), holds()                          # the engine has done it, or has not heard of it; the agent hears nothing

# The calls of a replacement, in their order: method, path, and which of those it is.
CALLS = {"image": ("GET", "/images/.*/json", 1), "network": ("GET", "/networks/", 1), "containers": ("GET", "/containers/json.*workspace", 1),
         "volume": ("POST", "/volumes/create", 1), "create": ("POST", "/containers/create", 1), "old_file": ("GET", "/archive", 1),
         "stop": ("POST", "/stop", 1), "seed": ("PUT", "/archive", 1), "read_back": ("GET", "/archive", 2), "start": ("POST", "/start", 1),
         "look": ("GET", "/containers/[0-9a-f]{64}/json", 1), "old_name": ("POST", "/rename", 1), "name": ("POST", "/rename", 2),
         "removal": ("DELETE", "/containers/", 1)}
READS = ("image", "network", "containers", "create", "look")            # whose answer is JSON that the agent needs


class Host(Scene):
    """An agent behind a proxy of the engine, with a workspace to work on and another to leave alone. It lives as long as its thread."""

    def __init__(self, stage, **settings):
        super().__init__(stage, engine_proxy=True, engine_timeout_seconds="4", engine_wait_seconds="60", **settings)
        self.dock, self.made = self.site.dock, 0
        self.bystander, _ = self.provision(self.good)
        self.workspace, _ = self.provision(self.good)
        self.image, self.life = self.good, life(self.site, self.bystander)

    def replace(self):
        """Orders the other image and another file; (job, the image, the container that runs now)."""
        self.made += 1
        image = self.better if self.image == self.good else self.good
        files = {"config.yaml": b64(f"version: {self.made}\n")}
        job = self.order("workspace.provision", self.workspace, spec=spec(image_ref=image, probe=QUICK, config_files=files))
        return job, image, life(self.site, self.workspace)

    def agrees(self, job, image, old, wants=("succeeded", "failed")):
        """The job's end is one of those, and the engine says the same."""
        report = self.plane.final(job, 60)
        must(report["state"] in wants, f"{report['state']}: {report.get('error')}")
        wait_for(lambda: len(self.site.containers(self.workspace)) == 1, 20, "one container only")
        if report["state"] == "succeeded":
            self.image = image
        else:
            same(life(self.site, self.workspace)[0], old[0], "the container")
            must(report["error"]["code"] in ("engine_error", "engine_unreachable", "too_large", "rolled_back"), report["error"])
        must(self.runs(self.workspace, self.image), "it runs something else")
        wait_for(lambda: self.site.fetch(self.workspace)[0] == 200, 10, "its page")
        same(life(self.site, self.bystander), self.life, "the bystander")

    def fails(self, call, act, times=1):
        method, path, nth = CALLS[call]
        return self.dock.on(method, path, act, nth, times)


def on_host(test, name, doc, *words):
    """The test as a case, on the host of the thread; it leaves the host well."""
    def case(stage):
        host = cases.own(stage.lab, Host)
        try:
            test(host, *words)
        except Exception as error:
            raise LabError(f"{error}\n{host.site.tail(40)}") from error
        finally:
            host.dock.clear()
            host.dock.accept()
    case.__name__, case.__doc__ = name, doc
    return case


# At one call.

def passes(host, call):
    """500, silence, a lost answer: tried again, and the job ends as if nothing had been."""
    acts = [NONE, LOST] if call == "start" else [says('{"message":"no"}', 500), NONE, LOST]
    rule = host.fails(call, in_turn(*acts), len(acts))
    job, image, old = host.replace()
    host.agrees(job, image, old, ("succeeded",))
    same(rule.hits, len(acts), "the calls that failed")


def stays(host, call):
    """500 as often as it is asked, until the job has ended or goes on without it. A start is asked for once: the undo has its own."""
    asks = 1 if call == "start" else 3
    rule = host.fails(call, says('{"message":"no"}', 500), asks)
    host.agrees(*host.replace())
    must(rule.hits == asks, f"the call failed {rule.hits} times")


def rubbish(status, body):
    return edit(lambda _status, _body: (status, body))


def no_json(host, call):
    """HTML, half an answer, another type, no end: the engine has done what it was asked, its answer is none."""
    for act in (rubbish(200, b"<html>"), edit(lambda status, body: (status, body[:len(body) // 2])),
                floods(sized(1 << 40), b" " * (1 << 20))):
        rule = host.fails(call, act)
        job, image, old = host.replace()
        host.agrees(job, image, old)
        must(rule.hits, "the call was not made")
        host.dock.clear()


# At all of them.

def meanwhile(host, act):
    """Every call fails for a while, and a job comes in its middle."""
    for method in ("GET", "POST", "PUT", "DELETE"):
        host.dock.on(method, ".", act, times=None)
    host.dock.cut()
    job, image, old = host.replace()
    wait_for(lambda: host.site.agent.lines("error engine_"), 30, "words of an engine that does not answer")
    time.sleep(4)
    same(host.plane.job(job)["final"], None, "the job's end")
    for workspace, was in ((host.workspace, old), (host.bystander, host.life)):
        same(life(host.site, workspace), was, "a container")
    host.dock.clear()
    host.agrees(job, image, old, ("succeeded",))


def socket_gone(host, call):
    """The socket goes away with the call, and comes back after a while."""
    def gone(_exchange):
        threading.Timer(3, host.dock.accept).start()
        host.dock.refuse()
    host.fails(call, gone)
    job, image, old = host.replace()
    host.agrees(job, image, old, ("succeeded",))


def restart_meets_rubbish(host):
    """The agent starts while the lists are none: nothing that runs is touched, and all is well once they are."""
    for act in (says("<html>"), says("null"), says('{"message":"no"}', 500)):
        old = life(host.site, host.workspace)
        host.dock.on("GET", "/containers/json", act, times=None)
        host.restart()
        time.sleep(2)
        host.dock.clear()
        job, image, _ = host.replace()
        same(host.plane.job(job)["final"], None, "the job's end")
        host.agrees(job, image, old, ("succeeded",))


# The world around.

def killed_outside(host):
    """The process is killed, and it is the engine that starts it again; then the container is removed, and made anew."""
    engine, container = host.site.lab.engine, host.site.container(host.workspace)["Id"]
    os.kill(host.site.container(host.workspace)["State"]["Pid"], signal.SIGKILL)
    wait_for(lambda: host.site.container(host.workspace)["RestartCount"] == 1 and host.site.fetch(host.workspace)[0] == 200, 30, "its restart")
    same(host.site.container(host.workspace)["Id"], container, "the container")
    same(engine.api("DELETE", f"/containers/{container}?force=1")[0], 204, "removal")
    wait_for(lambda: host.site.container(host.workspace), 30, "another container")
    wait_for(lambda: host.site.fetch(host.workspace)[0] == 200, 30, "its page")
    host.agrees(*host.replace(), ("succeeded",))


def engine_restarted(stage):
    """the engine is restarted in the middle of a replacement and, on another host, of a pull"""
    slow = Proxy(("127.0.0.1", stage.registry.port))
    slow.on("GET", "/blobs/", throttle(200_000), times=None)             # which of them comes first is not known
    address = f"127.0.0.1:{slow.port}"
    image = stage.image("ok", page="slow", filler=os.urandom(400_000)).replace(stage.registry.address, address)
    swaps = Host(stage)
    pulls = Scene(stage, engine_wait_seconds="60", registries=f"{stage.registry.address}, {address}")
    pulling = pulls.order("workspace.provision", workspace := "11111111-1111-4111-8111-111111111111", spec=spec(image_ref=image, probe=QUICK))
    wait_for(lambda: slow.seen("GET", "/blobs/"), 20, "the pull", 0.02)
    gate = threading.Event()
    swaps.fails("start", before(lambda: gate.wait(20)))
    job, other, old = swaps.replace()
    wait_for(lambda: swaps.dock.seen("POST", "/containers/[0-9a-f]{64}/stop"), 30, "the middle of the replacement", 0.02)
    stage.engine.stop()
    gate.set()
    for of, which in ((swaps, job), (pulls, pulling)):
        same(of.plane.job(which)["final"], None, "the job's end while the engine is away")
    stage.engine.start()
    swaps.life = wait_for(lambda: (seen := life(swaps.site, swaps.bystander))[2] and (swaps.life[0], *seen[1:]), 30, "the bystander")
    swaps.agrees(job, other, old)                           # what an engine writes while it ends may be lost, and is read back
    pulls.ended(pulling)
    must(pulls.runs(workspace, image), "it runs something else")


def runtime_killed(stage):
    """the runtime beneath the engine is killed in the middle of a start: what it leaves there is in nobody's way"""
    host = Host(stage)
    for after in (0.1, 0.2, 0.05, 0.15, 0.25, 0.3):         # of the third of a second that a start takes
        begun = threading.Event()
        host.fails("start", before(begun.set))
        job, image, old = host.replace()
        must(begun.wait(30), "it was not started")
        time.sleep(after)
        os.kill(stage.engine._containerd(), signal.SIGKILL)
        host.agrees(job, image, old, ("succeeded",))
        if host.site.agent.lines("the container is made anew"):
            return
    raise LabError("nothing was ever in its way: nothing is proven")


def main():
    table = ([on_host(no_json, f"no_json_{call}", f"no JSON at {call}", call) for call in READS]
             + [on_host(restart_meets_rubbish, "restart_meets_rubbish", "lists that are none at the agent's start")]
             + [on_host(passes, f"passes_{call}", f"500, silence and a lost answer at {call}", call) for call in CALLS]
             + [on_host(stays, f"stays_{call}", f"500 for ever at {call}", call) for call in CALLS]
             + [on_host(meanwhile, "hangs", "an engine that accepts and never answers", NONE),
                on_host(meanwhile, "is_another", "another program at its socket", bytes_(b"SSH-2.0-x\r\n"))]
             + [on_host(socket_gone, f"gone_{call}", f"the socket goes away at {call}", call) for call in ("create", "stop", "start", "name")]
             + [on_host(killed_outside, "killed_outside", "killed, then removed by somebody else")])
    with Lab("faults") as lab:
        lab.network()
        lab.image("ok", page="one")
        lab.image("ok", page="two")
        cases.run(lab, table, (engine_restarted, runtime_killed), SIDE_BY_SIDE, LIMIT)
    tap.done()


if __name__ == "__main__":
    main()
