# SPDX-License-Identifier: Apache-2.0
"""Workspaces that live through every job, one after the other on a site, for tests that kill the agent on the way: what a job finds before
it, what it is, and what must be true once it has ended, however often the agent died."""

import hashlib
import urllib.parse

import world
from lab import LabError, wait_for
from world import finals, new_id, volumes

JOBS = ("make", "replace", "replace badly", "remove")
FILES = {1: {"config.yaml": b"version: one\n", "prompts/a.md": b"first\n"},
         2: {"config.yaml": b"version: two, and longer\n", "prompts/a.md": b"first\n", "prompts/b.md": b"new\n"},
         3: {"config.yaml": b"version: three\n", "prompts/a.md": b"third\n", "prompts/b.md": b"third\n"}}


def push_copies(lab, image, name):
    """The same image under another name, so that one site can forget it and pull it again while another runs it."""
    ident = lab.docker("GET", f"/images/{urllib.parse.quote(image, safe='')}/json")[1]["Id"]
    name = f"{lab.registry.address}/molecule/{name}"
    tag = hashlib.sha256(image.encode()).hexdigest()[:12]
    status, body = lab.docker("POST", f"/images/{ident}/tag", repo=name, tag=tag)
    if status != 201:
        raise LabError(f"tag: {status} {body}")
    lines = lab.engine.stream("POST", f"/images/{name}/push", headers=lab.registry.header(), tag=tag)
    return f"{name}@{next(line['aux']['Digest'] for line in lines if 'Digest' in line.get('aux', {}))}"


def images(lab, sites):
    """For each site its images by version; the third does not come up."""
    bases = {version: lab.image(variant, page=f"version-{version}", keep=True) for version, variant in ((1, "ok"), (2, "ok"), (3, "crash"))}
    return [{version: push_copies(lab, base, f"site{number}") for version, base in bases.items()} for number in range(sites)]


class Life:
    """One site, and one workspace after the other on it."""

    def __init__(self, lab, versions, name, **how):
        """versions: the site's images. how: of the site."""
        self.lab, self.images, self.network = lab, versions, f"molecule-{name}"
        self.site = lab.site(crash_loop_restarts="2", network=self.network, **how)
        self.workspace, self.version, self.wanted, self.old = new_id(), 0, 0, None

    def prepare(self, job):
        """What the job finds; make is another workspace's, and a replacement goes to and fro between the good versions."""
        self.wanted = {"make": 1, "replace": 3 - self.version, "replace badly": 3, "remove": 0}[job]
        if job == "make":
            self.workspace = new_id()
            self.lab.docker("DELETE", f"/networks/{self.network}")
        if self.wanted:                                     # so that there is something to pull
            self.lab.docker("DELETE", f"/images/{urllib.parse.quote(self.images[self.wanted], safe='')}")
        found = self.site.container(self.workspace)
        self.old = found and found["Id"]

    def order(self):
        return world.order(self.site, self.workspace, self.wanted, self.images, FILES)

    def ended(self, job, order, timeout=5):
        """Waits for the job's end, and for a world that agrees with it: tidying is the sweep's. There is one final, whatever was tried."""
        final = self.site.plane.final(order, timeout)
        if final["state"] == "succeeded":
            self.version = self.wanted
        wait_for(lambda: self.agrees(job, final), 20, f"a world that agrees with '{final['state']}'", 0.2)
        ends = finals(self.site, order)
        if len(ends) != 1:
            raise LabError(f"{len(ends)} final reports: {ends}")

    def agrees(self, job, final):
        """Raises what does not."""
        want = "failed" if job == "replace badly" else "succeeded"
        if final["state"] != want:
            raise LabError(f"{final['state']}: {final.get('error')}")
        found = self.site.containers(self.workspace)
        if job == "remove":
            if found or volumes(self.lab.engine, self.workspace):
                raise LabError(f"left: {found} {list(volumes(self.lab.engine, self.workspace))}")
            return True
        names = [(name, row["State"]) for row in found for name in row["Names"]]
        if names != [(f"/ws-{self.workspace}", "running")]:
            raise LabError(f"containers: {names}")
        if (found[0]["Id"] == self.old) != (job == "replace badly"):
            raise LabError("the old container and not the new one" if job == "replace" else "another container than before")
        self.holds(found[0]["Id"])
        if job == "replace badly" and final["error"]["code"] != "rolled_back":
            raise LabError(f"error {final['error']}")
        result = final.get("result") or {}
        if job != "replace badly" and (result["running_image"], result["verified_on_target"]) != (self.images[self.version].split("@")[1], True):
            raise LabError(f"result {result}")
        return True

    def holds(self, ident):
        """The container is of the version that it should be: files, env and image."""
        now = world.holds(self.lab.engine, ident, self.version, FILES)
        digests = self.lab.engine.get(f"/images/{now['Image']}/json")["RepoDigests"]
        if self.images[self.version] not in digests:
            raise LabError(f"runs {digests}, not {self.images[self.version]}")
