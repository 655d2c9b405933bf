#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The good way in detail: what a job becomes in the engine, as the engine itself shows it. Cases run side by side, each on a workspace of
its own; what a running process sees is asked of the container, not inferred."""

import os
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from lab import Lab, LabError, wait_for  # noqa: E402
from proxy import before  # noqa: E402
from tap import Skip  # noqa: E402
from world import b64, digest_of, files, member, new_id, online, put, reported, spec, volumes  # noqa: E402

MIB = 1024 * 1024
lab = first = second = None                                 # the Lab; two images by digest, the first is the pin


def must(truth, words="not so"):
    if not truth:
        raise LabError(words)


def same(got, want, what=""):
    must(got == want, f"{what}: got {got!r}, want {want!r}")


def order(site, workspace, **fields):
    return site.plane.order(site.host()["host_id"], "workspace.provision", workspace, spec=spec(**fields))


def provisioned(site, workspace=None, **fields):
    """(workspace, its final report), by the operator's door."""
    workspace = workspace or new_id()
    report = site.plane.final(order(site, workspace, **fields), 120)
    same(report["state"], "succeeded", report)
    return workspace, report


def deprovisioned(site, workspace, prune):
    job = site.plane.order(site.host()["host_id"], "workspace.deprovision", workspace, spec={"prune": prune})
    report = site.plane.final(job, 60)
    same(report["state"], "succeeded", report)
    same(site.containers(workspace), [], "containers after a deprovision")
    return report


def run(container, *argv):
    """What a command inside the running container prints, and its exit status."""
    status, made = lab.docker("POST", f"/containers/{container}/exec", {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True,
                                                                        "Tty": True})
    must(status == 201, made)
    _, text = lab.docker("POST", f"/exec/{made['Id']}/start", {"Tty": True})
    text = text.decode() if isinstance(text, bytes) else str(text if text is not None else "")
    return text.replace("\r\n", "\n"), lab.engine.get(f"/exec/{made['Id']}/json")["ExitCode"]


# ── what is made ───────────────────────────────────────────────────────────────────────────────────────────────

def identity(site):
    """Name, labels, env, network, port, restart policy, log: tier 2, through the public door."""
    workspace = new_id()
    answer = site.plane.provision(workspace, template="demo", env={"DEMO_A": "one two", "DEMO_EMPTY": ""})
    seen, host = site.container(workspace), site.host()["host_id"]
    same((answer["instance_id"], answer["state"], answer["runtime"]), (f"ws-{workspace}", "running", "langgraph"), "the public answer")
    net = seen["NetworkSettings"]["Networks"]
    same((list(net), net["molecule-core-net"]["IPAddress"]), (["molecule-core-net"], answer["private_ip"]), "network")
    must(f"ws-{workspace}" in net["molecule-core-net"]["Aliases"], net)
    labels = seen["Config"]["Labels"]
    job = next(row for row in site.plane.jobs(host) if row["workspace_id"] == workspace)
    want = {"molecule.platform.managed": "true", "molecule.platform.instance": host, "molecule.agent.org": site.plane.org_id,
            "molecule.agent.workspace": workspace, "molecule.agent.generation": "1", "molecule.agent.job": job["job_id"],
            "molecule.agent.host": host}
    same({name: value for name, value in labels.items() if name != "molecule.agent.spec"}, want, "labels of the container")
    must(len(labels["molecule.agent.spec"]) >= 32 and "one" not in labels["molecule.agent.spec"], labels)
    for name in ("configs", "workspace"):
        volume = volumes(lab.engine, workspace)[f"ws-{workspace}-{name}"]
        same(volume["Labels"], want, f"labels of the volume {name}")
    same(len(volumes(lab.engine, workspace)), 2, "volumes")
    env = dict(pair.split("=", 1) for pair in seen["Config"]["Env"])
    url = f"http://127.0.0.1:{site.port(workspace)}"
    want = {"WORKSPACE_ID": workspace, "WORKSPACE_CONFIG_PATH": "/configs", "PLATFORM_URL": "https://platform.example.com",
            "MOLECULE_URL": "https://platform.example.com", "TIER": "2", "PLUGINS_DIR": "/plugins", "PYTHONPATH": "/app",
            "MOLECULE_WORKSPACE_URL": url, "DEMO_A": "one two", "DEMO_EMPTY": ""}
    same({name: value for name, value in env.items() if name != "PATH"}, want, "env")
    h = seen["HostConfig"]
    same((h["RestartPolicy"]["Name"], h["LogConfig"]), ("unless-stopped", {"Type": "json-file",
                                                                           "Config": {"max-size": "10m", "max-file": "3"}}), "policies")
    low, high = (int(port) for port in site.agent.settings["port_range"].split("-"))
    must(low <= site.port(workspace) <= high and h["PortBindings"]["8000/tcp"][0]["HostIp"] == "127.0.0.1", h["PortBindings"])
    same(site.fetch(workspace), (200, "molecule ok one\n"), "its page")
    same(sorted(site.fetch(workspace, "/env")[1].splitlines()), ["DEMO_A=one two", "DEMO_EMPTY="], "the env its process sees")


def limits_of(workspace, site):
    h = site.container(workspace)["HostConfig"]
    same(h["MemorySwap"], h["Memory"], "swap")
    same(h["PidsLimit"], 1024, "pids")
    must(any(u["Name"] == "core" and u["Hard"] == u["Soft"] == 0 for u in h["Ulimits"]), h["Ulimits"])
    same((h["CapDrop"], h["Privileged"], h["PidMode"]), (["NET_RAW"], False, ""), "privileges")
    must(any(word.startswith("no-new-privileges") for word in h["SecurityOpt"]), h["SecurityOpt"])
    must(not any("docker.sock" in (m.get("Source") or "") for m in h.get("Mounts") or []) and not h["Binds"], h.get("Mounts"))
    return h


def tier_1(site):
    workspace, report = provisioned(site, tier=1, config_files={"config.yaml": b64("a: 1\n")})
    h = limits_of(workspace, site)
    same((h["ReadonlyRootfs"], h["Memory"], h["NanoCpus"]), (True, 256 * MIB, 500000000), "limits")
    same(set(h["Tmpfs"]), {"/tmp"}, "tmpfs")
    same(set(h["Tmpfs"]["/tmp"].split(",")), set("rw,noexec,nosuid,size=64m".split(",")), "tmpfs options")
    same(list(volumes(lab.engine, workspace)), [f"ws-{workspace}-configs"], "volumes")
    name = f"ws-{workspace}"
    must(run(name, "/bin/sh", "-c", "echo x >/file")[1] != 0, "the root file system takes a file")
    same(run(name, "/bin/sh", "-c", "echo x >/tmp/file && cat /tmp/file"), ("x\n", 0), "/tmp")
    same(run(name, "/bin/cat", "/configs/config.yaml"), ("a: 1\n", 0), "the config file")
    same(run(name, "/bin/grep", "NoNewPrivs", "/proc/1/status")[0].split(), ["NoNewPrivs:", "1"], "no_new_privs as the kernel sees it")
    bounding = int(run(name, "/bin/grep", "CapBnd", "/proc/1/status")[0].split()[1], 16)
    must(not bounding & 1 << 13, f"NET_RAW is in {bounding:x}")
    same(report["result"]["verified_on_target"], True, "verified")


def tier_2(site):
    for tier in (2, 0, 9):                                  # what is none is 2
        workspace, _ = provisioned(site, tier=tier)
        h = limits_of(workspace, site)
        same((h["ReadonlyRootfs"], h["Memory"], h["NanoCpus"], h.get("Tmpfs") or {}), (False, 512 * MIB, 1000000000, {}),
             f"limits of tier {tier}")
        env = site.container(workspace)["Config"]["Env"]
        must("TIER=2" in env, env)


def claude_code(site):
    workspace, _ = provisioned(site, runtime="claude-code", image_ref=first)
    same(sorted(volumes(lab.engine, workspace)), [f"ws-{workspace}-{name}" for name in ("claude-sessions", "configs", "workspace")],
         "volumes")
    info, _ = member(lab.engine, f"ws-{workspace}", "/root/.claude/sessions")
    same((info.uid, info.gid), (1000, 1000), "owner of the sessions")


def privileged(site):
    """Tiers 3 and 4 live; the bodies of their create calls are golden in the unit tests."""
    provisioned(site)                                       # the image is there now
    status, made = lab.docker("POST", "/containers/create", {"Image": lab.engine.get(f"/images/{first}/json")["Id"],
                                                             "Entrypoint": ["/bin/sleep", "100"],
                                                             "HostConfig": {"Privileged": True, "NetworkMode": "none"}})
    status, body = lab.docker("POST", f"/containers/{made['Id']}/start")
    lab.docker("DELETE", f"/containers/{made['Id']}", force=1)
    if status != 204:
        raise Skip(f"privileged containers do not start on this machine: {str(body.get('message', body)).splitlines()[0][-90:]}")
    workspace, report = provisioned(site, tier=3)
    h = site.container(workspace)["HostConfig"]
    same((h["Privileged"], h["PidMode"], h["Memory"], report["result"]["verified_on_target"]), (True, "host", 2048 * MIB, True), "tier 3")
    deprovisioned(site, workspace, True)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────

def incident_35_file_modes(site):
    contents = {"config.yaml": "a: 1\n", "deep/er/file.txt": "x", ".auth_token": "t", "deep/.platform_inbound_secret": "s", "empty": "",
                "big.bin": "b" * 200000}
    workspace, _ = provisioned(site, config_files={name: b64(text) for name, text in contents.items()},
                               template_assets={"system-prompt.md": b64("be brief"), "prompts/a\\b.md": b64("p")})
    found = files(lab.engine, f"ws-{workspace}")
    contents |= {"system-prompt.md": "be brief", "prompts/a/b.md": "p"}
    for name, text in contents.items():
        secret = name.endswith((".auth_token", ".platform_inbound_secret"))
        same(found[f"configs/{name}"][:4], (text.encode(), 1000, 1000, "0o600" if secret else "0o644"), name)
    for name in ("configs", "configs/deep", "configs/deep/er", "configs/prompts", "configs/prompts/a"):
        same(found[name][1:4], (1000, 1000, "0o755"), name)
    same(len(found), len(contents) + 5, "files and directories")
    info, _ = member(lab.engine, f"ws-{workspace}", "/workspace")
    same((info.uid, info.gid, info.mode & 0o777), (1000, 1000, 0o755), "/workspace")


def only_what_differs(site):
    """A file with the delivered bytes is left as it is, whatever its time and mode; others of the workspace are nobody's business."""
    workspace, _ = provisioned(site, config_files={"same.txt": b64("same"), "other.txt": b64("old")})
    name = f"ws-{workspace}"
    put(lab.engine, name, "/configs", "same.txt", b"same", 0o640, mtime=1111111111)
    put(lab.engine, name, "/configs", "own.txt", b"its own", mtime=1222222222)
    put(lab.engine, name, "/workspace", "work.txt", b"its work", mtime=1333333333)
    provisioned(site, workspace, config_files={"same.txt": b64("same"), "other.txt": b64("new")}, image_ref=second)
    found = files(lab.engine, name)
    same(found["configs/same.txt"], (b"same", 1000, 1000, "0o640", 1111111111), "the same bytes: not rewritten")
    same(found["configs/own.txt"], (b"its own", 1000, 1000, "0o644", 1222222222), "not delivered: not touched")
    same(found["configs/other.txt"][:4], (b"new", 1000, 1000, "0o644"), "other bytes: rewritten")
    info, data = member(lab.engine, name, "/workspace/work.txt")
    same((data, info.mtime), (b"its work", 1333333333), "the workspace's own volume over a replacement")
    provisioned(site, workspace)                            # delivers none: removes none
    same({name: entry[0] for name, entry in files(lab.engine, name).items() if name.endswith(".txt")},
         {"configs/same.txt": b"same", "configs/own.txt": b"its own", "configs/other.txt": b"new"},
         "files after a provision that delivers none")


# ── replacement, restart:false, removal ────────────────────────────────────────────────────────────────────────────────────

def replacement(site):
    workspace, old = provisioned(site, config_files={"config.yaml": b64("v: 1\n")}, env={"DEMO_V": "1"})
    before_id, port = site.container(workspace)["Id"], site.port(workspace)
    same(site.fetch(workspace), (200, "molecule ok one\n"), "the first page")
    _, report = provisioned(site, workspace, config_files={"config.yaml": b64("v: 2\n")}, env={"DEMO_V": "2"}, image_ref=second)
    result, seen = report["result"], site.container(workspace)
    must(seen["Id"] != before_id and seen["State"]["Running"], "not replaced")
    same((result["verified_on_target"], result["running_image"], result["image_ref"], result["container_restarted"], result["env_keys"]),
         (True, second.split("@")[1], second, True, ["DEMO_V"]), "the result")
    same((result["instance_id"], result["state"], result["url"]), (f"ws-{workspace}", "running", f"http://127.0.0.1:{port}"), "its place")
    must(second.split("@")[1] in digest_of(lab.engine, seen["Id"]), "the engine runs another image")
    same([site.fetch(workspace, path) for path in ("/", "/env", "/configs/config.yaml")],
         [(200, "molecule ok two\n"), (200, "DEMO_V=2\n"), (200, "v: 2\n")], "what it answers")
    wait_for(lambda: [row["Id"] for row in site.containers(workspace)] == [seen["Id"]], 30, "the removal of the old container")
    same(seen["Config"]["Labels"]["molecule.agent.generation"], "2", "generation")
    entry = wait_for(lambda: [e for e in [online(site, workspace)]      # the count comes with the next look at the container
                              if e["running_image"] == second.split("@")[1] and "restart_count" in e], 30, "health with the digest")[0]
    same((entry["verified_on_target"], entry["healthz_ok"], entry["pin_skew"], entry["generation"], entry["pinned_image"],
          entry["restart_count"]),
         (True, True, True, "2", first.split("@")[1], 0), "health")


def restart_false(site):
    workspace, _ = provisioned(site, env={"DEMO_V": "1"})
    container = site.container(workspace)
    _, report = provisioned(site, workspace, env={"DEMO_V": "2"}, image_ref=second, restart=False)
    now = site.container(workspace)
    same((now["Id"], now["State"]["StartedAt"]), (container["Id"], container["State"]["StartedAt"]), "the running container")
    same((report["result"]["container_restarted"], report["result"]["verified_on_target"], report["result"]["running_image"]),
         (False, False, first.split("@")[1]), "the result tells what runs, not what is wanted")
    same(site.fetch(workspace, "/env"), (200, "DEMO_V=1\n"), "its env")
    same(len(site.containers(workspace)), 1, "containers")
    fresh, report = provisioned(site, restart=False)        # where nothing runs, it is made
    same((report["result"]["container_restarted"], site.fetch(fresh)[0]), (True, 200), "a first provision with restart:false")


def incident_54_removal(site):
    """Volumes stay without prune and serve the next one; prune takes them; again and of nothing is no error."""
    workspace, _ = provisioned(site, config_files={"keep.txt": b64("kept")})
    put(lab.engine, f"ws-{workspace}", "/workspace", "work.txt", b"its work")
    deprovisioned(site, workspace, False)
    same(len(volumes(lab.engine, workspace)), 2, "volumes after a deprovision without prune")
    provisioned(site, workspace)
    same(site.fetch(workspace, "/configs/keep.txt"), (200, "kept"), "its config after coming back")
    same(member(lab.engine, f"ws-{workspace}", "/workspace/work.txt")[1], b"its work", "its work after coming back")
    site.plane.deprovision(workspace, prune=True)
    same((site.containers(workspace), volumes(lab.engine, workspace)), ([], {}), "after prune")
    site.plane.deprovision(workspace, prune=True)           # idempotent at the public door
    deprovisioned(site, workspace, True)                    # and for the agent, as a new job
    deprovisioned(site, new_id(), True)                     # never seen
    wait_for(lambda: workspace not in [e["workspace_id"] for e in site.health()["workspaces"]], 30, "health without it")


def removal_by_persistence(site):
    workspace, _ = provisioned(site, data_persistence="ephemeral")
    deprovisioned(site, workspace, False)
    same(volumes(lab.engine, workspace), {}, "volumes of an ephemeral one")
    workspace, _ = provisioned(site, data_persistence="persist")
    deprovisioned(site, workspace, False)
    same(len(volumes(lab.engine, workspace)), 2, "volumes of a persistent one")
    deprovisioned(site, workspace, True)
    same(volumes(lab.engine, workspace), {}, "volumes of a persistent one after prune")


# ── one job overtakes another ──────────────────────────────────────────────────────────────────────────────────

def incident_51_deprovision_ends_gate(site):
    workspace = new_id()
    job = order(site, workspace, image_ref=lab.image("never"), probe={"timeout_seconds": 300})
    reported(site, job, "configuring_https", 90)
    began = time.monotonic()
    deprovisioned(site, workspace, True)
    took = time.monotonic() - began
    report = site.plane.final(job, 5)
    same((report["state"], report["result"]), ("superseded", {"floor": "2"}), report)
    must(took < 40, f"it took {took:.0f} s")
    same(volumes(lab.engine, workspace), {}, "volumes")


def deprovision_ends_gate_of_replacement(site):
    workspace, _ = provisioned(site)
    job = order(site, workspace, image_ref=lab.image("never"), probe={"timeout_seconds": 300})
    reported(site, job, "configuring_https", 90)
    deprovisioned(site, workspace, True)
    same((site.plane.final(job, 5)["state"], volumes(lab.engine, workspace)), ("superseded", {}), "the provision, and volumes")


def incident_21_newer_during_pull(site):
    """The pull hangs; the newer job has an image that is there. It does not wait for the pull."""
    provisioned(site)                                       # the image is there now
    workspace, go = new_id(), threading.Event()
    digest = lab.image("ok", page="pulled-late")
    rule = site.dock.on("POST", r"/images/create.*" + digest.split("sha256:")[1], before(lambda: go.wait(170)))
    try:
        job = order(site, workspace, image_ref=digest)
        wait_for(lambda: rule.hits > 0, 60, "the pull")
        reported(site, job, "installing", 30)
        _, report = provisioned(site, workspace, env={"DEMO_V": "newer"})
        must(not go.is_set(), "the newer one waited for the pull")
        old = site.plane.final(job, 5)
        same((old["state"], old["result"]), ("superseded", {"floor": "2"}), old)
        same((report["result"]["running_image"], site.fetch(workspace, "/env")), (first.split("@")[1], (200, "DEMO_V=newer\n")),
             "what runs")
    finally:
        go.set()


def public_follows_the_newer(site):
    """A caller whose job is overtaken gets the outcome of the one that counts."""
    workspace, answers = new_id(), []
    go = threading.Event()
    digest = lab.image("ok", page="pulled-later")
    site.plane.pin("overtaken", digest)
    site.dock.on("POST", r"/images/create.*" + digest.split("sha256:")[1], before(lambda: go.wait(170)))
    caller = threading.Thread(target=lambda: answers.append(site.plane.call("POST", "/workspaces/provision", {
        "org_id": site.plane.org_id, "workspace_id": workspace, "runtime": "overtaken", "tier": 2, "env": {},
        "platform_url": "https://platform.example.com"})))
    try:
        caller.start()
        wait_for(lambda: site.dock.seen("POST", r"/images/create.*" + digest.split("sha256:")[1]), 60, "the pull")
        provisioned(site, workspace)
        caller.join(20)
        same([(status, body.get("state"), body.get("runtime")) for status, body, _ in answers], [(201, "running", "langgraph")],
             "the caller's answer")
    finally:
        go.set()


def pin_is_used_at_once(site):
    """Promoted and used in one breath: the agent fetches the table before it judges the job."""
    site.plane.pin("brand-new", second)
    answer = site.plane.provision(new_id(), runtime="brand-new")
    same(answer["runtime"], "brand-new", answer)
    same(site.fetch(answer["workspace_id"]), (200, "molecule ok two\n"), "its page")


CASES = [(identity, 0), (tier_1, 0), (tier_2, 1), (claude_code, 0), (privileged, 2), (incident_35_file_modes, 0), (only_what_differs, 0),
         (replacement, 0),
         (restart_false, 1), (incident_54_removal, 1), (removal_by_persistence, 1), (incident_51_deprovision_ends_gate, 0),
         (deprovision_ends_gate_of_replacement, 1),
         (incident_21_newer_during_pull, 1), (public_follows_the_newer, 1), (pin_is_used_at_once, 3)]


def attempt(case, site, results):
    began = time.monotonic()
    try:
        case(site)
        results[case] = ("ok", f"{time.monotonic() - began:.1f} s")
    except Skip as reason:
        results[case] = ("skip", reason)
    except Exception:
        results[case] = ("failed", traceback.format_exc())


def main():
    global lab, first, second
    results = {}
    with Lab("workspace") as lab:
        first, second = lab.image("ok", page="one"), lab.image("ok", page="two")
        for variant, how in (("never", {}), ("ok", {"page": "pulled-late"}), ("ok", {"page": "pulled-later"})):
            lab.image(variant, **how)
        sites = [lab.site(max_parallel_jobs=8), lab.site(max_parallel_jobs=8, engine_proxy=True), lab.site(max_tier=4), lab.site()]
        for site in sites[:3]:
            site.plane.pin("langgraph", first)              # the last one's table is empty when its agent starts
        for site in sites:
            site.start(registered=0)
        for site in sites:
            wait_for(site.host, 30, "the host's registration")
        provisioned(sites[0])                               # makes the network: a host has one agent, four at once would make four
        workers = [threading.Thread(target=attempt, args=(case, sites[n], results), daemon=True) for case, n in CASES]
        for worker in workers:
            worker.start()
        end = time.monotonic() + 240
        for worker in workers:
            worker.join(max(0, end - time.monotonic()))
        for case, _ in CASES:
            name, (state, words) = case.__name__.replace("_", " "), results.get(case, ("failed", "it did not end"))
            if state == "skip":
                tap.skip(name, words)
            else:
                tap.ok(state == "ok", f"{name} ({words})" if state == "ok" else name, words)
        for n, site in enumerate(sites):
            tap.ok(site.agent.process.running() and site.agent.stop() == 0, f"agent {n} has lived through it and ends well on SIGTERM")
        if tap.failed:
            tap.diag("".join(site.tail(60) for site in sites))
        for site in sites:
            site.end()
    tap.done()


if __name__ == "__main__":
    main()
