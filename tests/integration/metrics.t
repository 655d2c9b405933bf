#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Metrics: what a real agent says after real jobs, judged by promtool and scraped by Prometheus itself; the alert rules, the dashboard and the guide held
against it. Prometheus is the Debian package; without it those cases are skipped."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, Lab, wait_for  # noqa: E402
from proc import Process, free_port, free_range  # noqa: E402
from scene import QUICK, Scene  # noqa: E402
from world import new_id, spec  # noqa: E402

MONITORING = f"{TREE}/packaging/monitoring"
RULES = f"{MONITORING}/molecule-agent.rules.yml"
ALERTS = ("AgentDown", "AuthRejected", "WorkspaceDown", "CrashLoop", "OutboxOld", "PinSkewOld", "DiskPressure", "ClockSkew", "LoopStalled", "HeldTooLong")
SERIES_MAX, WORKSPACES_MAX = 400, 256
# Not the agent's: of Prometheus itself and of node_exporter.
OTHERS = {"up", "node_textfile_mtime_seconds"}


def needs_prometheus():
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        raise tap.Skip("the Debian package prometheus is not installed")


def get(port, path, method="GET", host="127.0.0.1", body=None):
    """(status, content type, text) over TCP"""
    link = http.client.HTTPConnection(host, port, timeout=20)
    link.request(method, path, body)
    answer = link.getresponse()
    found = answer.status, answer.getheader("Content-Type"), answer.read().decode()
    link.close()
    return found


def scrape(site):
    """The text on the socket."""
    link = http.client.HTTPConnection("localhost", timeout=20)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.settimeout(20)
    link.sock.connect(f"{site.agent.runtime}/control.sock")
    link.request("GET", "/metrics")
    answer = link.getresponse()
    same((answer.status, answer.getheader("Content-Type")), (200, "text/plain; version=0.0.4; charset=utf-8"))
    text = answer.read().decode()
    link.close()
    return text


def series(text):
    """{name with its labels: number}; a series that is there twice is an error."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            must(name not in found, f"{name} is there twice")
            found[name] = float(value)
    return found


def value(site, name):
    return series(scrape(site))["molecule_agent_" + name]


def says(site, name, wanted, timeout=20):
    wait_for(lambda: value(site, name) == wanted, timeout, f"{name} {wanted}", 0.2)


def promtool(*words, text=None):
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=60, check=False)
    must(done.returncode == 0, f"promtool {words}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def served(stage, **settings):
    """(a scene whose agent serves metrics on the loopback address, too, the port)"""
    port = free_port()
    return Scene(stage, metrics_listen=f"127.0.0.1:{port}", **settings), port


# --- what is said -----------------------------------------------------------------------------------------------------------------------

def jobs_are_counted(stage):
    """jobs, steps, pulls, requests, workspaces and holds after real ones; promtool finds nothing to say"""
    scene = Scene(stage, probe_timeout_seconds="5")
    site, plain = scene.site, "molecule_agent_"
    good, bad = (stage.image(kind, page=f"counted-{new_id()[:8]}") for kind in ("ok", "crash"))        # nobody else pulls these
    workspace, _ = scene.provision(good)
    scene.provision(bad, "failed", "crash_loop", crash_loop := new_id())
    scene.provision(scene.good.split("@")[0], "refused", "image_ref_not_pinned")
    found = series(scrape(site))
    for name, wanted in (('jobs_total{type="workspace.provision",outcome="succeeded"}', 1), ('jobs_total{type="workspace.provision",outcome="failed"}', 1),
                         ('jobs_total{type="workspace.provision",outcome="refused"}', 1), ('job_step_duration_seconds_count{step="image"}', 2),
                         ('job_step_duration_seconds_count{step="swap"}', 2), ('job_step_duration_seconds_count{step="gate"}', 2),
                         ('job_step_duration_seconds_count{step="undo"}', 1), ('pulls_total{outcome="succeeded"}', 2), ('pulls_total{outcome="failed"}', 0),
                         ("engine_up", 1), ("control_plane_up", 1), ("auth_rejected", 0), ("held", 0), ('workspaces{status="online"}', 1),
                         ('workspaces{status="failed"}', 1), (f'workspace_up{{workspace_id="{workspace}"}}', 1),
                         (f'workspace_up{{workspace_id="{crash_loop}"}}', 0), ("jobs_running", 0)):
        same(found[plain + name], wanted, name)
    for name in ("pull_bytes_total", "process_resident_memory_bytes", "process_open_fds", "disk_free_bytes", "disk_used_ratio",
                 "engine_request_duration_seconds_count", 'cp_requests_total{call="register",status="ok"}', 'cp_requests_total{call="poll",status="ok"}',
                 'cp_requests_total{call="reports",status="ok"}', 'job_step_duration_seconds_sum{step="gate"}'):
        must(found[plain + name] > 0, f"{name} is {found[plain + name]}")
    must(abs(found[plain + "start_time_seconds"] - time.time()) < 120, "start_time_seconds")
    must(abs(found[plain + "clock_skew_seconds"]) < 5 and found[plain + "disk_used_ratio"] <= 1, "clock or disk")
    says(site, "outbox_depth", 0)
    slow = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("slow", delay=4), probe=QUICK))
    says(site, 'workspaces{status="provisioning"}', 1)
    found, mine = series(scrape(site)), f'{{workspace_id="{workspace}"}}'
    same((found[f"{plain}workspace_up{mine}"], found[f"{plain}workspace_replacing{mine}"]), (0, 1), "in its gate")
    scene.ended(slow)
    found = series(scrape(site))
    same((found[f"{plain}workspace_up{mine}"], found.get(f"{plain}workspace_replacing{mine}")), (1, None), "after its gate")
    scene.end("host.hold", spec={"reason": "night"})
    says(site, "held", 1)
    says(site, "held_workspaces", 2)
    same(value(site, 'jobs_total{type="other",outcome="succeeded"}'), 1, "host.hold")
    scene.plane.pin("langgraph", scene.better)
    says(site, "pin_skew_workspaces", 1, 90)
    needs_prometheus()
    promtool("check", "metrics", text=scrape(site))


def trouble_is_said(stage):
    """the control plane away: requests fail, are retried, reports grow old; after a restart what is told again is not counted"""
    scene = Scene(stage)
    slow = stage.image("slow", delay=3)
    job = scene.order("workspace.provision", new_id(), spec=spec(image_ref=slow, probe=QUICK))
    wait_for(lambda: scene.plane.job(job)["state"] != "queued", 20, "the job accepted", 0.01)
    scene.plane.stop(number=signal.SIGKILL)                  # before it can hear how the job ends
    succeeded = 'jobs_total{type="workspace.provision",outcome="succeeded"}'
    says(scene.site, succeeded, 1, 60)
    says(scene.site, "control_plane_up", 0, 60)
    wait_for(lambda: value(scene.site, "outbox_oldest_seconds") > 1, 20, "a report that grows old")
    found = series(scrape(scene.site))
    must(found["molecule_agent_outbox_depth"] > 0, "nothing waits")
    must(found['molecule_agent_cp_requests_total{call="poll",status="error"}'] > 0, "no failed request")
    must(found["molecule_agent_cp_retries_total"] > 0, "no retry")
    scene.restart()
    wait_for(lambda: value(scene.site, 'workspaces{status="online"}') == 1, 20, "the agent again")
    found = series(scrape(scene.site))
    must(found["molecule_agent_outbox_depth"] > 0, "nothing is told again: nothing is proven")
    same(found["molecule_agent_" + succeeded], 0)


def never_above_the_limit(stage):
    """with more workspaces than have series, those that are down have them, and there are at most 400"""
    first = free_range(400)                                  # a job that waits has its port already
    scene = Scene(stage, max_workspaces="300", max_parallel_jobs="16", port_range=f"{first}-{first + 399}")
    workspace, _ = scene.provision(scene.good)
    absent = f"{scene.good.split('@')[0]}@sha256:{'0' * 64}"
    jobs = [scene.order("workspace.provision", new_id(), spec=spec(image_ref=absent, probe=QUICK)) for _ in range(WORKSPACES_MAX - 1)]
    for job in jobs:
        scene.ended(job, "failed", "image_not_found")
    says(scene.site, 'workspaces{status="failed"}', len(jobs))
    found = series(scrape(scene.site))
    must(len(found) <= SERIES_MAX, f"{len(found)} series")
    same(found[f'molecule_agent_workspace_up{{workspace_id="{workspace}"}}'], 1)
    more = [scene.order("workspace.provision", new_id(), spec=spec(image_ref=absent, probe=QUICK)) for _ in range(10)]
    says(scene.site, 'workspaces{status="failed"}', len(jobs) + len(more), 60)
    found = series(scrape(scene.site))
    up = [name for name in found if "workspace_up" in name]
    same((len(up), sum(found[name] for name in up)), (WORKSPACES_MAX, 0), "the healthy one should have made way")
    must(len(found) <= SERIES_MAX, f"{len(found)} series")
    tap.diag(f"{len(found)} series with {len(jobs) + len(more) + 1} workspaces")


# --- where it is said -------------------------------------------------------------------------------------------------------------------

def listener(stage):
    """metrics_listen: GET /metrics and nothing else; an address that is taken is an error in words, and a reload moves it"""
    scene, port = served(stage)
    site = scene.site
    status, kind, text = get(port, "/metrics")
    same((status, kind), (200, "text/plain; version=0.0.4; charset=utf-8"))
    same({name for name in series(text)}, {name for name in series(scrape(site))})
    for path, method, body, want in (("/", "GET", None, 404), ("/v1/status", "GET", None, 404), ("/metrics/", "GET", None, 404), ("/metrics", "POST", "x", 405),
                                     ("/metrics", "DELETE", None, 405), ("/v1/hold", "POST", '{"reason":"x"}', 404)):
        same(get(port, path, method, body=body)[0], want, f"{method} {path}")
    same(value(site, "held"), 0)
    must(not site.agent.lines("no loopback address"), "a warning of a loopback address")
    for leave in (True, False):                              # three crowds, for of one address only some are taken
        peers = [socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.0.{2 + n % 3}", 0)) for n in range(12)]
        time.sleep(0.5)                                      # all places are taken, and the agent has seen it
        if leave:                                            # at once, and nothing else happens
            for peer in peers:
                peer.close()
            time.sleep(0.5)
            same(get(port, "/metrics")[0], 200, "after all have gone")
        wait_for(lambda: get(port, "/metrics")[0] == 200, 30, "an answer beside idle connections")
        for peer in peers:
            peer.close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site.agent.settings["metrics_listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        site.agent.write()
        site.agent.kill(1)
        wait_for(lambda: site.agent.lines("metrics_listen", "in use"), 20, "the words")
    other = free_port()
    site.agent.settings["metrics_listen"] = f"[::1]:{other}" if os.path.exists("/proc/net/if_inet6") else f"127.0.0.1:{other}"
    site.agent.write()
    site.agent.kill(1)
    wait_for(lambda: get(other, "/metrics", host=site.agent.settings["metrics_listen"].rsplit(":", 1)[0].strip("[]"))[0] == 200, 20, "the new address")
    try:
        get(port, "/metrics")
        must(False, "the first address is still listened on")
    except ConnectionRefusedError:
        pass


def textfile(stage):
    """textfile_path: written at once and again, readable by all, whole; a directory that is not there is an error in words"""
    where = f"{stage.lab.where}/collector-{time.monotonic_ns()}"
    os.mkdir(where)
    path = f"{where}/molecule-agent.prom"
    scene = Scene(stage, textfile_path=path)
    wait_for(lambda: os.path.exists(path), 10, "the file")
    same(oct(os.stat(path).st_mode & 0o7777), "0o644")
    first = series(open(path).read())
    scene.provision(scene.good)
    wait_for(lambda: series(open(path).read())['molecule_agent_jobs_total{type="workspace.provision",outcome="succeeded"}'] == 1, 25, "written again")
    must(set(first) <= set(series(scrape(scene.site))), "other series than on the socket")
    same(os.listdir(where), ["molecule-agent.prom"])
    scene.site.agent.settings["textfile_path"] = f"{where}/absent/x.prom"
    scene.site.agent.write()
    scene.site.agent.kill(1)
    wait_for(lambda: scene.site.agent.lines("textfile_path", "No such file"), 20, "the words")


# --- who asks ---------------------------------------------------------------------------------------------------------------------------

def rules():
    """[(alert, expression, runbook_url)] as the file has them, the expression on one line or folded"""
    text = open(RULES).read()
    found = re.findall(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (?:>-\n)?((?: {10}.+\n)+|.+\n)(?:.*\n)*? +runbook_url: (\S+)", text)
    same(len(found), text.count("- alert:"))
    return [(name, " ".join(expression.split()), url) for name, expression, url in found]


def dashboard():
    """Each expression, with Grafana's variables as one who looks at all hosts has them."""
    board = json.load(open(f"{MONITORING}/dashboard.json"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]] + [note["expr"] for note in board["annotations"]["list"]]
    must(len(board["panels"]) >= 8 and all(panel["targets"] for panel in board["panels"]), "panels without queries")
    return [e.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m") for e in found]


def names_in(expression):
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:molecule_agent|node)_\w+|\bup\b", bare))


def scraped_by_prometheus(stage):
    """Prometheus itself scrapes it; each query of the dashboard and of the rules is evaluated, and finds the metrics it names"""
    needs_prometheus()
    scene, port = served(stage, probe_timeout_seconds="5")
    workspace, _ = scene.provision(scene.good)
    scene.provision(stage.image("crash"), "failed", "crash_loop", down := new_id())
    where, own = f"{scene.site.where}/prometheus", free_port()
    os.mkdir(where)
    with open(f"{where}/prometheus.yml", "w") as file:
        file.write(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{RULES}']\nscrape_configs:\n"
                   f"  - job_name: molecule-agent\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")
    server = Process(["prometheus", f"--config.file={where}/prometheus.yml", f"--storage.tsdb.path={where}/data", f"--web.listen-address=127.0.0.1:{own}",
                      "--log.level=warn"], f"{where}/log", dict(os.environ, GOMAXPROCS="1"))

    def ask(path, **words):
        server.check()
        answer = json.loads(get(own, f"/api/v1/{path}?" + urllib.parse.urlencode(words))[2])
        same(answer["status"], "success", f"{words}: {answer}")
        return answer["data"]

    def query(expression):
        return ask("query", query=expression)["result"]

    def workspaces(expression):
        return {s["metric"]["workspace_id"] for s in query(expression)}

    def in_its_gate():
        must(query("molecule_agent_workspace_replacing == 1"), "none is in its gate")
        same(workspaces("molecule_agent_workspace_up == 0"), {workspace, down})
        same(workspaces(alarm), {down}, "one in its gate is not down")
        return True

    def finds():
        for expression in dashboard():          # all but those that look for trouble find something on a host that did something
            must(query(expression) or "> 0" in expression, f"nothing is found by {expression}")
        same(workspaces(alarm), {down})
        same(len(query("scrape_samples_scraped <= 400")), 1)
        same({a["labels"]["alertname"]: a["state"] for a in ask("alerts")["alerts"]}, {"WorkspaceDown": "pending"}, "of all alerts")
        return True

    alarm = dict((rule[0], rule[1]) for rule in rules())["WorkspaceDown"]
    try:
        wait_for(lambda: [s["value"][1] for s in query('up{job="molecule-agent"}')] == ["1"], 60, "up == 1", 0.5)
        wait_for(lambda: len(query("count_over_time(molecule_agent_build_info[1m]) > 3")) == 1, 30, "four scrapes", 0.5)
        job = scene.order("workspace.provision", workspace, spec=spec(image_ref=stage.image("slow", delay=6), probe=dict(QUICK, timeout_seconds=30)))
        wait_for(in_its_gate, 30, "a workspace in its gate, which is not down", 0.2)
        scene.ended(job)
        known = {name for name in ask("label/__name__/values")}
        expressions = dashboard() + [expression for _, expression, _ in rules()]
        for expression in expressions:
            query(expression)
            must(names_in(expression), f"no metric in {expression}")
            same(names_in(expression) - known - OTHERS, set(), expression)
        wait_for(finds, 20, "what each expression finds", 0.5)          # a scrape that comes late takes all away until the next
        loaded = {rule["name"]: rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]}
        same(loaded, {name: "ok" for name in ALERTS})
        tap.diag(f"{len(expressions)} expressions over {len(known)} names")
    finally:
        server.stop()


def rules_are_clean(_stage):
    """promtool check rules and test rules: ten alerts, each fires when it should and not otherwise"""
    same([name for name, _, _ in rules()], list(ALERTS))
    tests = open(f"{MONITORING}/molecule-agent.rules.test.yml").read()
    for name in ALERTS:
        must(f"- name: {name} fires" in tests and f"- name: {name} does not fire" in tests, f"no test of {name}")
    needs_prometheus()
    must("10 rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES), "promtool found others")
    promtool("test", "rules", f"{MONITORING}/molecule-agent.rules.test.yml")


def runbooks_resolve(_stage):
    """each alert's runbook_url is a heading of the guide, with at most three commands below it that exist"""
    guide = open(f"{TREE}/docs/guide.md").read()
    parts = dict(re.findall(r"^### (.+)\n((?:(?!#{1,3} ).*\n?)*)", guide, re.M))
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-"): text for title, text in parts.items()}
    verbs = set(re.findall(r'^ +\{ "([a-z-]+)", "', open(f"{TREE}/agent/ctl/main.c").read(), re.M))
    must(len(verbs) > 10, "the table of verbs was not found")
    for name, _, url in rules():
        anchor = url.partition("#")[2]
        must(anchor in anchors, f"{name}: {url} leads nowhere")
        commands = re.findall(r"^    (\S.*)", anchors[anchor], re.M)
        must(0 < len(commands) <= 3, f"{name}: {commands}")
        for words in (command.split() for command in commands):
            must(words[0] != "molecule-agentctl" or words[1] in verbs, f"{name}: no such verb: {words}")


CASES = (never_above_the_limit, scraped_by_prometheus, jobs_are_counted, trouble_is_said, listener, textfile, rules_are_clean, runbooks_resolve)

if __name__ == "__main__":
    with Lab("metrics") as lab:
        lab.docker("POST", "/networks/create", {"Name": "molecule-core-net", "Labels": {"molecule.platform.managed": "true"}})
        cases.run(lab, CASES, side_by_side=3, limit=240)
    tap.done()
