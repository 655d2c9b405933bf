# SPDX-License-Identifier: Apache-2.0
"""The most memory the agent takes while it admits, stores and ends a job about as large as jobs may be, nearly all of it files, beside the size of
that job. The kernel's own mark of the most (VmHWM), set back before."""

import base64
import os
import uuid

from common import Row, finals, memory, spec
from proc import wait_for

MIB = 1 << 20
FILES, EACH = 16, MIB - 4096                                # just below 16 MiB decoded, in sum: more is no asset any more


def most(pid):
    """KiB"""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def measure(site, image, say):
    pid, workspace = site.agent.process.pid, str(uuid.uuid4())
    assets = {f"prompts/{i}": base64.b64encode(os.urandom(EACH)).decode() for i in range(FILES)}
    size = sum(map(len, assets.values())) / 1024
    before = memory(pid)["Rss"]
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")
    job = site.plane.order(site.host()["host_id"], "workspace.provision", workspace, spec=spec(image, "one") | {"template_assets": assets})
    finals(site, [job])
    peak = most(pid)
    job = site.plane.order(site.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": True})
    finals(site, [job])
    after = wait_for(lambda: memory(pid)["Rss"], 5, "the agent")
    say(f"a job of {size / 1024:.1f} MiB: {before} KiB before, at most {peak} KiB, {after} KiB behind it")
    ratio = (peak - before) / size
    yield Row("memory for a job of 21 MiB", f"{(peak - before) / 1024:.0f} MiB", f"the job {size / 1024:.0f} MiB", f"{ratio:.1f}")
    yield Row("kept behind it", f"{after - before} KiB", f"before it {before} KiB", f"{after / before:.2f}")
