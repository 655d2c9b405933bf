#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon as its service manager sees it: readiness before anyone is spoken to, watchdog, reload, end, exit codes. No engine is needed."""

import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from agent import Agent  # noqa: E402
from lab import TREE, binary  # noqa: E402
from proc import end_now, wait_for  # noqa: E402

ORG = "11111111-2222-4333-8444-555555555555"
GOOD = {"cp_url": "https://127.0.0.1:9", "org_id": ORG, "engine_socket": "/nonexistent/docker.sock", "registries": "127.0.0.1:1"}
CREDENTIALS = {"provision-secret": "s3cret-of-the-test", "admin-token": "t0ken-of-the-test"}
agents = []


def agent(settings=None, credentials=None):
    where = tempfile.mkdtemp(prefix="mservice-")
    made = Agent(where, where, binary("molecule-agentd"), dict(GOOD if settings is None else settings),
                 dict(CREDENTIALS if credentials is None else credentials))
    agents.append(made)
    return made


def must(holds, why):
    if not holds:
        raise AssertionError(why)


def test_incident_43_ready_without_engine_and_control_plane():
    one = agent().start(ready=5)
    wait_for(lambda: one.lines("cannot be reached"), 20, "a word about the control plane")
    must(one.stop() == 0, "SIGTERM does not end in 0")
    must(one.noticed("STOPPING=1"), "the manager was not told of the end")


def test_not_enrolled_is_idle():
    one = agent({"engine_socket": "/nonexistent/docker.sock"}, {}).start(ready=5)
    wait_for(lambda: one.lines("not_enrolled"), 15, "not_enrolled")
    must(one.process.running(), "it ended")
    must(one.stop() == 0, "SIGTERM does not end in 0")


def test_empty_credentials_count_as_none():
    one = agent(None, {"provision-secret": " \n", "admin-token": "t0ken"}).start(ready=5)
    wait_for(lambda: one.lines("not_enrolled", "no provision secret"), 15, "not_enrolled")
    one.stop()


def test_watchdog_is_fed():
    one = agent().start(ready=5, env={"WATCHDOG_USEC": "1000000"})
    wait_for(lambda: one.noticed("WATCHDOG=1") and one.notices.count("WATCHDOG=1") >= 3, 10, "three feedings")
    one.stop()


def test_a_stopped_process_feeds_no_watchdog():
    one = agent().start(ready=5, env={"WATCHDOG_USEC": "1000000"})
    one.kill(signal.SIGSTOP)
    one.noticed("")
    before = one.notices.count("WATCHDOG=1")
    try:
        wait_for(lambda: one.noticed("WATCHDOG=1") and one.notices.count("WATCHDOG=1") > before, 2, "nothing")
        raise AssertionError("fed while stopped")
    except Exception as error:
        must("nothing" in str(error), str(error))
    finally:
        one.kill(signal.SIGCONT)
        one.stop()


def test_reload_with_a_good_and_a_bad_file():
    one = agent().start(ready=5)
    one.settings["log_level"] = "debug"
    one.write()
    one.notices = []
    one.kill(signal.SIGHUP)
    wait_for(lambda: one.noticed("RELOADING=1") and one.noticed("READY=1"), 5, "RELOADING=1 and READY=1")
    wait_for(lambda: one.lines("read anew"), 5, "the reload")
    one.settings["max_tier"] = "9"
    one.write()
    one.kill(signal.SIGHUP)
    wait_for(lambda: one.lines("stays as it was", "agent.conf:", "max_tier"), 5, "words with file, line and key")
    must(one.process.running() and one.stop() == 0, "it did not live on")


def test_a_bad_file_falls_back_to_the_last_good_one():
    one = agent().start(ready=5)
    one.stop()
    one.settings["no such"] = "x"
    one.start(ready=5)
    wait_for(lambda: one.lines("last good configuration is in force"), 5, "the last good configuration")
    wait_for(lambda: one.lines("127.0.0.1:9"), 20, "the control plane of the good file")
    one.stop()


def test_a_bad_file_at_the_first_start_is_78():
    one = agent({**GOOD, "port_range": "1-2"})
    status, text = one.run()
    must(status == 78, f"exit {status}")
    must("port_range" in text and "agent.conf:" in text, text)


def test_check():
    status, text = agent().run("--check")
    must(status == 0 and "valid" in text, f"{status}: {text}")
    status, text = agent({**GOOD, "cp_url": "http://example.com"}).run("--check")
    must(status == 78 and "https" in text, f"{status}: {text}")
    status, text = agent({**GOOD, "colour": "blue"}).run("--check")
    must(status == 0 and "agent.conf:" in text and "unknown setting 'colour'" in text, f"{status}: {text}")


def test_one_agent_a_state_directory():
    one = agent().start(ready=5)
    status, text = one.run()
    must(status == 1 and "Another agent" in text, f"{status}: {text}")
    one.stop()


def test_identity_stays_and_the_epoch_grows():
    one = agent()
    told = []
    for _ in range(3):
        one.start(ready=5)
        one.stop()
    for line in one.lines("molecule-agentd", "start"):
        words = line.split()
        told.append((words[words.index("host") + 1].rstrip(","), int(words[words.index("start") + 1].rstrip("."))))
    must(len({host for host, _ in told}) == 1 and [epoch for _, epoch in told] == [1, 2, 3], str(told))


def test_arguments():
    for words, want in ((["--version"], 0), (["--help"], 0), (["--nonsense"], 2), (["left", "over"], 2)):
        got = subprocess.run([binary("molecule-agentd"), *words], capture_output=True, timeout=10, check=False).returncode
        must(got == want, f"{words}: {got}, not {want}")


def test_operators_tool():
    tool = binary("molecule-agentctl")

    def run(*words, **env):
        done = subprocess.run([tool, *words], capture_output=True, text=True, timeout=10, check=False, env={**os.environ, **env})
        return done.returncode, done.stdout + done.stderr
    must(run()[0] == 2 and run("help")[0] == 0 and run("nonsense")[0] == 2, "usage codes")
    status, text = run("explain", "rolled_back")
    must(status == 0 and "old one is running" in text, text)
    must(run("explain", "no_such_code")[0] == 1, "an unknown code")
    with open(f"{TREE}/docs/errors.md", encoding="utf-8") as page:
        must(run("explain", "--all", "--markdown")[1] == page.read(), "docs/errors.md is not what the tool prints")
    one = agent()
    one.write()
    status, text = run("config", "show", one.config)
    must(status == 0 and f"org_id = {ORG}\t# {one.config}:" in text and "max_tier = 2\t# default" in text, text)
    status, text = run("status", STATE_DIRECTORY=one.state, RUNTIME_DIRECTORY=one.runtime)
    must(status == 3 and text.startswith("DOWN: the agent does not run"), f"{status}: {text}")
    one.start(ready=5)
    status, text = run("status", STATE_DIRECTORY=one.state, RUNTIME_DIRECTORY=one.runtime)
    must(status == 4 and text.startswith("DEGRADED: 0 workspaces, none down"), f"{status}: {text}")     # neither engine nor control plane
    one.stop()


def tail():
    return agents[-1].tail(20) if agents else ""


try:
    tap.run([call for name, call in list(globals().items()) if name.startswith("test_")], tail)
finally:
    for made in agents:
        if made.process and made.process.running():
            made.process.stop(signal.SIGKILL)
        end_now(made.runtime_unmount)
        subprocess.run(["rm", "-rf", "--one-file-system", made.where], check=False)
