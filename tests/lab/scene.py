# SPDX-License-Identifier: Apache-2.0
"""A site and what an operator does with it: jobs of every type, ordered by the operator's door and waited for."""

import os
import time

from cases import must, same
from proc import wait_for
from proxy import Proxy, throttle
from world import digest_of, new_id, spec

QUICK = {"path": "/", "timeout_seconds": 20}


class Scene:
    """A site, and orders by the operator's door."""

    def __init__(self, stage, **settings):
        self.stage, self.site = stage, stage.site(stop_timeout_seconds="1", prefetch="no", **settings)
        self.plane, self.host = self.site.plane, self.site.host()["host_id"]
        self.good, self.better = stage.image("ok", page="one"), stage.image("ok", page="two")

    def order(self, kind, workspace=None, **more):
        return self.plane.order(self.host, kind, workspace, **more)

    def end(self, kind, workspace=None, want="succeeded", code=None, timeout=60, **more):
        """The final report of such a job, which must be as wanted."""
        return self.ended(self.order(kind, workspace, **more), want, code, timeout)

    def ended(self, job, want="succeeded", code=None, timeout=60):
        report = self.plane.final(job, timeout)
        must(report["state"] == want, f"not {want}: {report}")
        same((report.get("error") or {}).get("code"), code, str(report))
        return report

    def provision(self, image=None, want="succeeded", code=None, workspace=None, **fields):
        """(workspace id, final report)."""
        workspace = workspace or new_id()
        wanted = spec(image_ref=image, probe=QUICK, **fields)
        return workspace, self.end("workspace.provision", workspace, want, code, spec=wanted)

    def page(self, workspace):
        """The last word of its page. After an undo the old version is started and not probed: its process may still be on its way to its port."""
        return wait_for(lambda: self.site.fetch(workspace)[1].split()[-1], 10, f"the page of {workspace}", 0.1)

    def runs(self, workspace, image):
        return self.site.container(workspace) and image.split("@")[1] in digest_of(self.stage.engine, f"ws-{workspace}")

    def health(self):
        return self.site.health()

    def shown(self, workspace):
        return next((w for w in self.health().get("workspaces", []) if w["workspace_id"] == workspace), None)

    def restart(self):
        self.site.agent.kill()
        self.site.agent.wait()
        self.site.agent.start()

    def state(self, *path):
        return os.path.join(self.site.agent.state, *path)


def slow_scene(stage, rate=200_000, filler=1_200_000, stall_at=None, **how):
    """(scene, reference of an image that comes through a proxy): its filler bytes at that rate a second."""
    image = stage.image("ok", page=f"slow{time.monotonic_ns()}", filler=os.urandom(filler))
    proxy = Proxy(("127.0.0.1", stage.registry.port))
    proxy.on("GET", "/blobs/", throttle(rate, stall_at), times=None)
    address = f"127.0.0.1:{proxy.port}"
    return Scene(stage, registries=f"{stage.registry.address}, {address}", **how), image.replace(stage.registry.address, address)
