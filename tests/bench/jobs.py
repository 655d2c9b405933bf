# SPDX-License-Identifier: Apache-2.0
"""Whether memory grows with jobs: the resident set after every so many quick jobs, and the slope of a straight line through those behind the first
1,000, within which the outcomes that are kept (1,000) and the heap fill up. A quick job removes a workspace that is not there, which takes the
whole way of a job: delivered, judged, recorded, ended, told. They are the same workspaces again and again, for what is removed leaves a tombstone.
$JOBS says how many jobs beyond the first (else 1,000); the long run is JOBS=10000."""

import os
import statistics
import time
import uuid

from common import Row, cpu_seconds, docker, median, memory, run_cpu
from proc import LabError

FIRST, STEP = 1000, 100
LIMIT = 300


WORKSPACES = [str(uuid.uuid4()) for _ in range(STEP)]


def some(site, host):
    for job in [site.plane.order(host, "workspace.deprovision", workspace, spec={"prune": True}) for workspace in WORKSPACES]:
        if site.plane.final(job, LIMIT)["state"] != "succeeded":
            raise LabError(f"job {job}: {site.plane.job(job)['reports'][-1]}")


def by_docker(site, workspace):
    """The same said to the docker command: the container (some versions fail where it is not there) and both volumes of a workspace."""
    return (run_cpu(["docker", "rm", "--force", f"ws-{workspace}"], docker(site), check=False)
            + run_cpu(["docker", "volume", "rm", "--force", f"ws-{workspace}-configs", f"ws-{workspace}-workspace"], docker(site)))


def measure(site, _image, say):
    jobs, pid, host, marks = int(os.environ.get("JOBS", "1000")), site.agent.process.pid, site.host()["host_id"], []
    began = time.monotonic()
    for _ in range(FIRST // STEP):
        some(site, host)
    first, used = memory(pid)["Rss"], cpu_seconds(pid)
    for done in range(STEP, jobs + 1, STEP):
        some(site, host)
        marks.append((done, memory(pid)["Rss"]))
    slope = statistics.linear_regression(*zip(*marks)).slope * 1024
    used = (cpu_seconds(pid) - used) / jobs * 1e3
    say(f"{FIRST} and {jobs} jobs in {time.monotonic() - began:.0f} s: {first} KiB after the first, then "
        + ", ".join(str(rss) for _, rss in marks[::max(1, len(marks) // 10)]) + f" KiB; {used:.1f} ms of CPU a job")
    yield Row(f"RSS slope over {jobs} jobs", f"{slope:.0f} bytes a job", f"first {first} KiB, last {marks[-1][1]} KiB", f"{marks[-1][1] / first:.2f}")
    other = median([by_docker(site, workspace) for workspace in WORKSPACES[:9]]) * 1e3
    yield Row("CPU of a quick job", f"{used:.1f} ms", f"docker rm, docker volume rm {other:.1f} ms", f"{used / other:.2f}")
