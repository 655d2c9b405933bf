#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One workspace the whole way, with a secret of its own, and real parts: a private engine, a registry, the reference control plane over TLS and the agent.
Called by `make demo`. Prints what happens as it happens; the last line is `demo: ok`, or the exit status is 1 and the reason stands there."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import Lab, LabError, wait_for   # noqa: E402

RUNTIME = "langgraph"
SECRET = f"demo-{uuid.uuid4().hex}"                         # what only the workspace may have
LIMIT = 170                                                 # seconds until a demo that hangs gives up
began = time.monotonic()


def say(text):
    print(f"{time.monotonic() - began:6.2f} s  {text}", flush=True)


def must(truth, words):
    if not truth:
        raise LabError(words)


def provision(site, workspace, greeting):
    """What a tenant's platform sends, and what it gets: 201 once the workspace has passed its gate."""
    files = {"config.yaml": f"greeting: {greeting}\n", "prompts/system.md": "Be brief.\n"}
    start = time.monotonic()
    answer = site.provision(workspace, runtime=RUNTIME, tier=2, template="demo", data_persistence="persist",
                            idempotency_key=f"cpprov-{uuid.uuid4().hex}", env={"DEMO_GREETING": greeting, "DEMO_API_KEY": SECRET},
                            config_files={name: base64.b64encode(text.encode()).decode() for name, text in files.items()})
    say(f"POST /api/v1/workspaces/provision: 201 after {time.monotonic() - start:.1f} s: instance_id {answer['instance_id']}, "
        f"private_ip {answer['private_ip']}, state {answer['state']}, runtime {answer['runtime']}")
    must(answer["state"] == "running", f"the answer's state is {answer['state']}")
    return time.monotonic() - start


def look(site, workspace, page, greeting, image):
    """Nothing is believed: the page, the env, the file and the running image are fetched."""
    status, text = site.fetch(workspace)
    say(f"GET http://127.0.0.1:{site.port(workspace)}/: {status} {text.strip()!r}")
    must(status == 200 and page in text, f"the page does not say {page}")
    status, text = site.fetch(workspace, "/env")
    must(sorted(text.split("\n"))[1:] == [f"DEMO_API_KEY={SECRET}", f"DEMO_GREETING={greeting}"], "the env is another")
    status, text = site.fetch(workspace, "/configs/config.yaml")
    must(text == f"greeting: {greeting}\n", f"the config file is {text!r}")
    found = site.container(workspace)
    digests = site.lab.engine.get(f"/images/{found['Image']}/json")["RepoDigests"]
    must(any(digest.endswith(image.split("@")[1]) for digest in digests), f"it runs {digests}, not {image}")
    running = [c for c in site.containers(workspace) if c["State"] == "running"]
    must([c["Id"] for c in running] == [found["Id"]], f"{len(running)} containers run")
    wait_for(lambda: len(site.containers(workspace)) == 1, 15, "the removal of the container before")
    say(f"env and /configs/config.yaml hold {greeting!r}; the engine runs {image.split('@')[1][:19]}…, and has one container only")
    return found["Id"]


def secret(site, workspace):
    """The process has it; the engine, the state directory and the logs do not."""
    shown = json.dumps(site.container(workspace))
    must(SECRET not in shown and "DEMO_GREETING" in shown, "the engine shows the secret")
    for place in (site.agent.state, f"{site.lab.engine.where}/data/containers", site.agent.log, site.lab.engine.log):
        must(subprocess.run(["grep", "-rqaF", SECRET, place], check=False).returncode == 1, f"the secret stands in {place}")
    files = sum(len(names) for _, _, names in os.walk(f"{site.agent.state}/sealed"))
    say(f"its process has DEMO_API_KEY; docker inspect, the engine's files, the agent's state ({files} sealed files) and the logs do not")


def health(site, workspace):
    """The host as the control plane's operator sees it; a heartbeat may be a moment old."""
    def online():
        host = site.host()
        entry = next((w for w in (host.get("health") or {}).get("workspaces", []) if w["workspace_id"] == workspace), {})
        return (host, entry) if entry.get("status") == "online" else None
    host, entry = wait_for(online, 20, "a heartbeat that shows the workspace online")
    agent, disk = host["health"]["agent"], host["health"]["host"]["disk"]
    say(f"GET /api/v1/admin/hosts: host {host['host_id']}, agent {agent['version']}, {int(disk['free']) >> 30} GiB free; "
        f"{workspace}: {entry['status']}, verified_on_target {entry['verified_on_target']}, restarts {entry['restart_count']}")


def demo(lab, summary):
    engine = lab.engine.get("/version")
    say(f"private dockerd {engine['Version']} (API {engine['ApiVersion']}), pid {lab.engine.process.pid}; registry on {lab.registry.address}")
    first, second = (lab.image("ok", name="demo", page=page) for page in ("page-one", "page-two"))
    say(f"two images built from busybox-static and pushed: …{first[-12:]} and …{second[-12:]}")

    site = lab.site()
    say(f"molecule-devcp on {site.plane.url} with a certificate of our own CA; org {site.plane.org_slug} made")
    site.plane.pin(RUNTIME, first)
    say(f"POST /api/v1/admin/runtime-image/promote: {RUNTIME} pinned to {first}")
    with site:
        say(f"molecule-agentd pid {site.agent.process.pid} is ready, and the control plane knows host {site.host()['host_id']}")
        workspace = str(uuid.uuid4())
        summary["provisioned in"] = provision(site, workspace, "good morning")
        old = look(site, workspace, "page-one", "good morning", first)
        secret(site, workspace)

        site.plane.pin(RUNTIME, second)
        say("the pin moved to the second image; provisioning again")
        summary["replaced in"] = provision(site, workspace, "good evening")
        new = look(site, workspace, "page-two", "good evening", second)
        must(old != new, "the container was not replaced")
        health(site, workspace)

        start = time.monotonic()
        site.deprovision(workspace, prune=True)
        summary["removed in"] = time.monotonic() - start
        left = site.containers(workspace)
        volumes = [v["Name"] for v in lab.engine.get("/volumes").get("Volumes") or [] if workspace in v["Name"]]
        must(not left and not volumes, f"left behind: {left} {volumes}")
        must(workspace not in os.listdir(f"{site.agent.state}/sealed"), "its sealed files are left behind")
        say(f"DELETE /api/v1/workspaces/{workspace}?prune=true: 200, no container, volume, key or sealed file of it is left")
        must(site.agent.stop() == 0, "the agent did not end well on SIGTERM")
        say("molecule-agentd ended on SIGTERM with 0")


def main():
    summary, lab = {}, None
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(LabError(f"not over after {LIMIT} s")))
    signal.alarm(LIMIT)
    try:
        with Lab("demo") as lab:
            try:
                demo(lab, summary)
            except BaseException:
                print("".join(f"  {line}\n" for log in logs(lab) for line in log), file=sys.stderr)
                raise
            pids = [process.pid for process in (lab.engine.process, lab.registry.process)]
        signal.alarm(0)
        must(not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the engine or the registry is still there")
        must(lab.where not in open("/proc/self/mounts").read(), "a mount is left")
        say("dockerd, registry, devcp and agent ended by pid; no mount left")
    except (LabError, OSError, KeyError, subprocess.SubprocessError) as error:
        say(f"FAILED: {type(error).__name__}: {error}")
        return 1
    print("\nsummary")
    for what, seconds in (summary | {"all of it in": time.monotonic() - began}).items():
        print(f"  {what:<16}{seconds:6.2f} s")
    print("demo: ok")
    return 0


def logs(lab):
    """The ends of all logs there are."""
    for folder, _folders, files in os.walk(lab.where):
        if folder.startswith(f"{lab.where}/e/"):
            continue
        for name in sorted(files):
            if name.endswith(".log"):
                with open(f"{folder}/{name}", errors="replace") as file:
                    yield [f"{name}: {line.rstrip()[:240]}" for line in file.readlines()[-(60 if name == "agent.log" else 8):]]


if __name__ == "__main__":
    sys.exit(main())
