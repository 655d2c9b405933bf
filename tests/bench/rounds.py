# SPDX-License-Identifier: Apache-2.0
"""Workspaces from a warm image, one, four and eight at a time: by the agent, by a bare client that makes the same engine calls, by a shell loop
around the docker command. Rounds take turns there and back again, so that a machine that grows slower or faster favours nobody."""

import os
import subprocess
import time
import uuid

import calls
from common import NETWORK, Row, cpu_seconds, deprovision, docker, final_report, finals, provision, remove, seconds, spec, tool, without_agent
from lab import binary
from proc import LabError, free_range

COUNTS = {1: 4, 4: 16, 8: 24}                               # so many at a time: how many in all
LIMIT = 180                                                 # seconds for one round
PATIENCE = 60                                               # … for all rounds there, if there are to be those back


def mounts(site):
    """The launcher and an empty hand-over, which the agent's containers have, for those of others."""
    handover = f"{site.agent.runtime}/bench"
    os.makedirs(handover, exist_ok=True)
    with open(f"{handover}/env", "w") as file:
        file.write("MOLECULE-ENV/1 0\0")
    return {"BENCH_HANDOVER": handover, "MOLECULE_LAUNCH": binary("molecule-launch")}


def bare(site, *words):
    return run([tool("bench-bare"), *words], os.environ | mounts(site))


def run(argv, env=None):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL, env=env)
    if done.returncode:
        raise LabError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def by_agent(site, image, count):
    """(wall, cpu) from the first offer to the last final, by devcp's clock."""
    host, began = site.host()["host_id"], cpu_seconds(site.agent.process.pid)
    workspaces = [str(uuid.uuid4()) for _ in range(count)]
    rows = finals(site, [site.plane.order(host, "workspace.provision", w, spec=spec(image, "one")) for w in workspaces], LIMIT)
    wall = max(seconds(final_report(row)["received_at"]) for row in rows) - min(seconds(row["deliveries"][0]["handed_at"]) for row in rows)
    cpu = cpu_seconds(site.agent.process.pid) - began
    deprovision(site, workspaces)
    return wall, cpu


def by_client(site, image, port, count, parallel):
    org = str(uuid.uuid4())
    with without_agent(site):
        try:
            out = bare(site, "provision", site.lab.engine.socket, image, NETWORK, org, str(port), str(count), str(parallel))
        finally:
            remove(site.lab.engine, org)
    words = dict(line.split() for line in out.splitlines() if not line.startswith("id "))
    return float(words["wall"]), float(words["cpu"])


def by_loop(site, image, port, count, parallel):
    org, content = str(uuid.uuid4()), f"{site.where}/config.yaml"
    with open(content, "w") as file:
        file.write("one\n")
    env = docker(site) | {"IMAGE": image, "NETWORK": NETWORK, "ORG": org, "FILE": content} | mounts(site)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loop.sh")
    with without_agent(site):
        began, before = time.monotonic(), os.times()
        try:
            run(["sh", "-c", f"seq {port} {port + count - 1} | xargs -P {parallel} -n 1 {script}"], env)
            wall = time.monotonic() - began
        finally:
            after = os.times()
            remove(site.lab.engine, org)
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def shape(found):
    """What the engine was told, without what has to differ: names, ids, ports."""
    host, config = found["HostConfig"], found["Config"]
    mounts = [{name: value for name, value in mount.items() if name != "Source"} for mount in host.pop("Mounts") or []]
    ports = sorted(host.pop("PortBindings"))
    return {"host": host, "mounts": mounts, "ports": ports, "labels": sorted(config["Labels"]), "image": found["Image"],
            "networks": sorted(found["NetworkSettings"]["Networks"]), "env": [entry.split("=")[0] for entry in config["Env"]],
            "command": (config["Entrypoint"], config["Cmd"])}


def same_bodies(site, image, port):
    """The comparison is worth something only while the bare client asks for what the agent asks for."""
    engine, org = site.lab.engine, str(uuid.uuid4())
    workspace = provision(site, image)
    mine = shape(site.container(workspace))
    deprovision(site, [workspace])
    with without_agent(site):
        try:
            bare(site, "provision", engine.socket, image, NETWORK, org, str(port), "1", "1")
            theirs = shape(engine.inspect(engine.containers(**{"molecule.agent.org": org})[0]["Id"]))
        finally:
            remove(engine, org)
    different = {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}
    if different:
        raise LabError(f"the agent and the bare client ask for different containers: {different}")


def calls_of_one(site, image, port):
    """System calls of one provision: the agent's with its end, removal not included, and the bare client's, with its own start."""
    end = calls.watch(site.agent.process.pid, site.where)
    workspace = provision(site, image)
    mine = end()
    deprovision(site, [workspace])
    org, out = str(uuid.uuid4()), f"{site.where}/bare.strace"
    with without_agent(site):
        try:
            run(["strace", "-qq", "-f", "-s", "0", "-o", out, tool("bench-bare"), "provision", site.lab.engine.socket, image, NETWORK, org, str(port),
                 "1", "1"], os.environ | mounts(site))
        finally:
            remove(site.lab.engine, org)
    return mine, calls.counted(out)


def turns(site, image, say, port, parallel, rounds):
    """{contender: mean seconds}, {contender: mean CPU seconds of one}"""
    count, began = COUNTS[parallel], time.monotonic()
    site.agent.settings["max_parallel_jobs"] = parallel
    site.agent.restart()
    contenders = {"agent": lambda: by_agent(site, image, count), "client": lambda: by_client(site, image, port, count, parallel),
                  "loop": lambda: by_loop(site, image, port, count, parallel)}
    walls, cpus = {name: [] for name in contenders}, {name: [] for name in contenders}
    for number in range(rounds):
        if number and time.monotonic() - began > PATIENCE:
            say("one round only: the machine is too busy for another")
            break
        for name in list(contenders)[::-1 if number % 2 else 1]:
            wall, cpu = contenders[name]()
            walls[name].append(wall)
            cpus[name].append(cpu / count)
            say(f"{count} provisions, {parallel} at a time, round {number + 1}, {name}: {wall:.2f} s, {cpu:.2f} s of CPU")
    return ({name: sum(values) / len(values) for name, values in table.items()} for table in (walls, cpus))


def measure(site, image, say, rounds=2):
    port = free_range(max(COUNTS.values()))
    same_bodies(site, image, port)
    for parallel, count in COUNTS.items():
        wall, cpu = turns(site, image, say, port, parallel, rounds)
        to_client, to_loop = wall["agent"] / wall["client"], wall["agent"] / wall["loop"]
        yield Row(f"{count} warm provisions, {parallel} at a time", f"{wall['agent']:.2f} s", f"bare client {wall['client']:.2f} s", f"{to_client:.3f}",
                  "<= 1.10", to_client <= 1.10)
        yield Row("", "", f"shell loop {wall['loop']:.2f} s", f"{to_loop:.3f}", "< 1", to_loop < 1)
        yield Row("CPU of each", f"{cpu['agent'] * 1e3:.1f} ms", f"bare client {cpu['client'] * 1e3:.1f} ms",
                  f"{cpu['agent'] / cpu['client']:.2f}")
        yield Row("", "", f"shell loop {cpu['loop'] * 1e3:.1f} ms", f"{cpu['agent'] / cpu['loop']:.2f}")
    mine, bare_calls = calls_of_one(site, image, port)
    yield Row("system calls of one provision", f"{mine.total()}", f"bare client {bare_calls.total()}",
              f"{mine.total() / bare_calls.total():.2f}")
    durable, loose = (counts["fsync"] + counts["fdatasync"] for counts in (mine, bare_calls))
    yield Row("fsyncs among them", f"{durable}", f"bare client {loose}")
