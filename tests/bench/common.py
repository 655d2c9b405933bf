# SPDX-License-Identifier: Apache-2.0
"""What the measurements share: jobs of one shape by the operator's door, an agent that is set aside while others are measured, and the
few numbers the kernel keeps about a process."""

import base64
import concurrent.futures
import contextlib
import datetime
import os
import resource
import statistics
import subprocess
import sys
import uuid

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "lab"))
from proc import LabError, wait_for   # noqa: E402

RUNTIME, NETWORK = "langgraph", "molecule-core-net"


def tool(name):
    """A program of tests/tools, beside the agent that is measured."""
    built = os.path.dirname(os.environ.get("MOLECULE_AGENTD", os.path.join(os.path.dirname(TESTS), "build", "molecule-agentd")))
    path = os.path.join(built, "tests", "tools", name)
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not there; run make bench")
    return path


def spec(image, text):
    """A small workspace: one config file, one name in the env."""
    return {"runtime": RUNTIME, "tier": 2, "platform_url": "https://platform.example.com", "image_ref": image, "env": {"DEMO_BENCH": "1"},
            "config_files": {"config.yaml": base64.b64encode(text.encode()).decode()}}


def finals(site, jobs, timeout=120):
    """The rows of the jobs once all have succeeded. Looks seldom: the times come from devcp, not from here."""
    wanted, host = set(jobs), site.host()["host_id"]

    def all_over():
        return wanted <= {row["job_id"] for row in site.plane.jobs(host) if row["final"]}
    wait_for(lambda: site.agent.process.check() and all_over(), timeout, f"the end of {len(jobs)} jobs", 0.25)
    rows = [site.plane.job(job) for job in jobs]
    bad = [row for row in rows if row["final"] != "succeeded"]
    if bad:
        raise LabError(f"a job ended {bad[0]['final']}: {bad[0]['reports'][-1]}")
    return rows


def final_report(row):
    return next(report for report in row["reports"] if report["state"] == row["final"])


def seconds(text):
    """devcp's times: RFC 3339 with milliseconds."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def provision(site, image, text="one", workspace=None):
    """One workspace, settled: its id."""
    workspace = workspace or str(uuid.uuid4())
    finals(site, [site.plane.order(site.host()["host_id"], "workspace.provision", workspace, spec=spec(image, text))])
    return workspace


def deprovision(site, workspaces):
    host = site.host()["host_id"]
    finals(site, [site.plane.order(host, "workspace.deprovision", workspace, spec={"prune": True}) for workspace in workspaces])


@contextlib.contextmanager
def without_agent(site):
    """The same engine with nobody else at it. Afterwards the agent is back and has shown so by doing a job."""
    site.agent.stop()
    try:
        yield
    finally:
        site.agent.start()
        deprovision(site, [str(uuid.uuid4())])


def remove(engine, org):
    """Containers with the org's label, and the volumes they mount."""
    def one(container):
        engine.api("DELETE", f"/containers/{container['Id']}", force=1)
        for mount in (mount for mount in container["Mounts"] if mount["Type"] == "volume"):
            engine.api("DELETE", f"/volumes/{mount['Name']}")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, engine.containers(**{"molecule.agent.org": org})))


def cpu_seconds(pid):
    """Time on a processor so far, of all its threads, in nanoseconds' precision."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def run_cpu(argv, env=None, text="", check=True):
    """Processor time of one run of a command. Not while another child of ours may end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=env, input=text, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=check, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def docker(site):
    """The environment of a docker command that asks the site's engine."""
    return {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{site.lab.engine.socket}", "DOCKER_CONFIG": site.where}


def memory(pid):
    """{"Rss": KiB, "Private_Dirty": KiB, …}"""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return {name: int(rest[0]) for name, *rest in (line.replace(":", " ").split() for line in file.readlines()[1:])}


def median(values):
    return statistics.median(values)


def percentile(values, part):
    """The smallest value that at least this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


class Row:
    """One line of the table. target: text; met: None where there is none. counts: says the same on every machine, so that missing its target is wrong."""

    def __init__(self, what, value, beside="", ratio="", target="", met=None, counts=False):
        self.wrong = counts and met is False
        self.cells = (what, value, beside, ratio, target, {None: "", True: "met", False: "MISSED"}[met])


def table(rows, heads=("", "agent", "beside", "ratio", "target", "")):
    rows = [heads, *(row.cells for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.2f}, {os.uname().release}"
