# SPDX-License-Identifier: Apache-2.0
"""What a test asks of the world before and after, straight from the engine: the containers of a workspace, its volumes and files, and what
the engine itself says has happened meanwhile. And payloads as a control plane would write them, to be bent."""

import base64
import copy
import io
import tarfile
import time
import urllib.parse
import uuid

from lab import LabError, wait_for

RUNTIME = "langgraph"
FINALS = ("succeeded", "failed", "refused", "superseded", "conflict", "expired", "cancelled")


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def new_id():
    return str(uuid.uuid4())


def moment():
    """RFC 3339, as issued_at is written."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def spec(**fields):
    """A provision's whole wanted state; None leaves a field out."""
    made = {"runtime": RUNTIME, "tier": 2, "platform_url": "https://platform.example.com", "env": {}} | fields
    return {name: value for name, value in made.items() if value is not None}


def payload(site, workspace, number, /, **fields):
    """A job that the host of the site would accept; `spec` and all others may be given, None leaves one out."""
    made = {"job_id": new_id(), "type": "workspace.provision", "org_id": site.plane.org_id, "host_id": site.host()["host_id"],
            "workspace_id": workspace,
            "generation": str(number), "issued_at": moment(), "spec": spec()} | fields
    return {name: value for name, value in copy.deepcopy(made).items() if value is not None}


def order(site, workspace, version, images, files, **env):
    """Orders a version of a workspace: images and files have them by number, and the container knows its own. 0 is none: the workspace goes."""
    host = site.host()["host_id"]
    if not version:
        return site.plane.order(host, "workspace.deprovision", workspace, spec={"prune": True})
    return site.plane.order(host, "workspace.provision", workspace, spec=spec(
        image_ref=images[version], env={"DEMO_VERSION": str(version)} | env, config_files={name: b64(data) for name, data in files[version].items()}))


def holds(engine, container, version, files):
    """The container is of that version, as order() ordered it: files and env."""
    for name, data in files[version].items():
        if member(engine, container, f"/configs/{name}")[1] != data:
            raise LabError(f"/configs/{name} is not that of version {version}")
    now = engine.inspect(container)
    if f"DEMO_VERSION={version}" not in now["Config"]["Env"]:
        raise LabError(f"env: {now['Config']['Env']}")
    return now


def finals(site, job):
    """The reports of a job's end."""
    return [report for report in site.plane.job(job)["reports"] if report["state"] in FINALS]


def member(engine, container, path):
    """(tarfile.TarInfo, bytes) of one file or directory in the container, running or not; (None, None) where it is not."""
    status, data = engine.api("GET", f"/containers/{container}/archive?path={urllib.parse.quote(path)}")
    if status == 404:
        return None, None
    if status != 200:
        raise LabError(f"archive {path}: {status} {data!r}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        first = archive.next()
        return first, archive.extractfile(first).read() if first.isreg() else None


def put(engine, container, directory, name, content, mode=0o644, owner=1000, mtime=1000000000):
    """Writes one file as the workspace itself might have."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = len(content), mode, owner, owner, mtime
        archive.addfile(entry, io.BytesIO(content))
    status, body = engine.api("PUT", f"/containers/{container}/archive?path={directory}", out.getvalue(),
                              {"Content-Type": "application/x-tar"})
    if status != 200:
        raise LabError(f"archive {directory}/{name}: {status} {body!r}")


def volumes(engine, workspace):
    """Name → the engine's view of each volume whose name holds the workspace's id."""
    return {volume["Name"]: volume for volume in engine.get("/volumes").get("Volumes") or [] if workspace in volume["Name"]}


def snapshot(engine, workspace):
    """All of a workspace that must not change while nothing is done to it: each container's id, name, image, run and restarts, each
    volume and when it was made, and every file below /configs with its content, owner, mode and time."""
    found = {}
    for row in engine.containers(**{"molecule.agent.workspace": workspace}):
        seen = engine.inspect(row["Id"])
        found[seen["Name"]] = {"id": seen["Id"], "image": seen["Image"], "running": seen["State"]["Running"],
                               "started": seen["State"]["StartedAt"],
                               "restarts": seen["RestartCount"], "labels": seen["Config"]["Labels"]}
    for name, volume in volumes(engine, workspace).items():
        found[name] = volume
    found["files"] = files(engine, f"ws-{workspace}")
    return found


def files(engine, container):
    """Path → (content, owner, mode, time) of all below /configs; None without such a container."""
    status, data = engine.api("GET", f"/containers/{container}/archive?path=/configs")
    if status == 404:
        return None
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name: (archive.extractfile(entry).read() if entry.isreg() else entry.linkname, entry.uid, entry.gid,
                             oct(entry.mode & 0o7777), int(entry.mtime))
                for entry in archive}


def events(engine, since, until=None):
    """What the engine did between two moments (now()), as "type action name" words."""
    return [f"{event['Type']} {event['Action']} {event['Actor'].get('Attributes', {}).get('name', event['Actor'].get('ID', ''))}"
            for event in engine.stream("GET", "/events", since=since, until=until or now())]


def now():
    """This moment as /events takes it; the engine lives by the same clock."""
    return f"{time.time():.9f}"


def digest_of(engine, container):
    """The manifest digests of the image that the container was made from."""
    seen = engine.inspect(container)
    return [digest.split("@")[1] for digest in engine.get(f"/images/{seen['Image']}/json")["RepoDigests"]]


def reported(site, job, stage, timeout=60):
    """Waits until a job was reported at that stage, or later than it: an ended one raises."""
    def look():
        row = site.plane.job(job)
        if row["final"]:
            raise LabError(f"the job ended {row['final']} before {stage}")
        return any(report.get("stage") == stage for report in row["reports"])
    return wait_for(look, timeout, f"stage {stage} of job {job}", 0.05)


def online(site, workspace, timeout=30):
    """The host's own view of a workspace in GET /admin/hosts, once it says online."""
    def look():
        entries = site.health().get("workspaces", [])
        return next((entry for entry in entries if entry["workspace_id"] == workspace and entry["status"] == "online"), None)
    return wait_for(look, timeout, f"a health report that shows {workspace} online", 0.1)
