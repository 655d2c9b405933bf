#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a person sees: molecule-agentctl typed into a terminal (tmux), with a real agent and engine behind it. The verdict and its colours, a pull's bar that
is painted over and moves, jobs that are followed, doctor, a hold."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import cases  # noqa: E402
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import Lab, LabError, binary, wait_for  # noqa: E402
from scene import QUICK, slow_scene  # noqa: E402
from world import new_id, spec  # noqa: E402

GREEN, RED = "\x1b[32m", "\x1b[31m"
PROMPT = "host# "


class Terminal:
    """A shell in a terminal of its own, 130 columns wide, on the agent's host."""

    def __init__(self, site, columns=130, **more):
        self.name = f"molecule-{os.getpid()}-{time.monotonic_ns()}"
        env = {"PATH": f"{os.path.dirname(binary('molecule-agentctl'))}:{os.environ['PATH']}", "PS1": PROMPT, "TERM": "tmux-256color", "HOME": "/nonexistent",
               "LC_ALL": "C.UTF-8", "CONFIGURATION_DIRECTORY": site.agent.where}
        env |= {k: v for k, v in site.agent.environment().items() if k != "PATH"} | more
        shell = " ".join(["exec", "env", "-i", *(shlex.quote(f"{k}={v}") for k, v in env.items()), "bash", "--norc", "--noprofile"])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", "45", shell)
        self.until(PROMPT.strip())

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-L", self.name, *words], capture_output=True, text=True, timeout=20, check=False, env={
            "PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})
        must(done.returncode == 0, f"tmux {words}: {done.stderr}")
        return done.stdout

    def screen(self, escapes=False):
        return self.tmux("capture-pane", "-p", *(["-e"] if escapes else []), "-t", "0")

    def type(self, line):
        self.tmux("send-keys", "-t", "0", "-l", line)
        self.tmux("send-keys", "-t", "0", "Enter")

    def key(self, name):
        self.tmux("send-keys", "-t", "0", name)

    def until(self, pattern, timeout=30):
        """The first match on the screen."""
        try:
            return wait_for(lambda: re.search(pattern, self.screen(), re.M), timeout, f"{pattern!r} on the screen", 0.1)
        except LabError as late:
            raise LabError(f"{late}\n{self.screen().rstrip()}") from late

    def run(self, line, timeout=30):
        """(exit status, what it printed)"""
        self.key("C-l")
        wait_for(lambda: self.screen().strip() == PROMPT.strip(), 10, "an empty screen", 0.1)
        self.type(line + "; echo \"[ended: $?]\"")
        status = int(self.until(r"^\[ended: (\d+)\]$", timeout).group(1))
        text = self.screen()
        return status, text[text.index("\n", text.index("[ended: $?]")) + 1:text.rindex("[ended:")]

    def end(self):
        subprocess.run(["tmux", "-L", self.name, "kill-server"], check=False, capture_output=True, timeout=20)


def seen(stage):
    """status, a pull's bar, jobs --follow, doctor, hold, as they stand on a terminal"""
    if not shutil.which("tmux"):
        raise tap.Skip("the Debian package tmux is not installed")
    scene, image = slow_scene(stage, filler=2_500_000)
    terminal, other, small = Terminal(scene.site), Terminal(scene.site, NO_COLOR="1"), Terminal(scene.site, columns=80)
    try:
        look(scene, terminal, other)
        small.type("molecule-agentctl jobs --follow")
        small.until("^Nothing is at work")
        pull(scene, terminal, other, small, image)
        steer(scene, terminal)
    finally:
        terminal.end()
        other.end()
        small.end()


def look(scene, terminal, other):
    workspace, _ = scene.provision(scene.good)
    wait_for(lambda: terminal.run("molecule-agentctl status")[0] == 0, 30, "a healthy host")
    status, text = terminal.run("molecule-agentctl status")
    same((status, text.strip()), (0, "HEALTHY: 1 workspace, none down; CP answers; held: no"))
    must(f"{GREEN}HEALTHY" in terminal.screen(escapes=True), repr(terminal.screen(escapes=True)))
    same(other.run("molecule-agentctl status")[0], 0)
    must(GREEN not in other.screen(escapes=True), "colours in spite of NO_COLOR")
    status, text = terminal.run("molecule-agentctl workspaces")
    head, row = text.strip().splitlines()
    same([head.index("STATUS"), head.index("RUNTIME")], [row.index("online"), row.index("langgraph")], f"columns do not stand below each other\n{text}")
    must(row.startswith(workspace[:8]), text)
    status, text = terminal.run("molecule-agentctl workspaces | cat")
    must("\x1b" not in terminal.screen(escapes=True).split("WORKSPACE")[-1].split("[ended")[0], "colours into a pipe")
    status, text = terminal.run("molecule-agentctl stats")
    must(status == 2 and "molecule-agentctl help" in text, text)


def pull(scene, terminal, other, small, image):
    terminal.key("C-l")
    terminal.type("molecule-agentctl jobs --follow")
    terminal.until("^Nothing is at work")
    workspace = new_id()
    job = scene.order("workspace.provision", workspace, spec=spec(image_ref=image, probe=QUICK))
    bar = rf"^pulling for {workspace[:8]} \[(#*)(\.*)\] +(\d+)%  [0-9.]+ [kM]B of [0-9.]+ MB  [0-9.]+ [kM]?B/s$"
    terminal.until(rf"job        running workspace.provision {job[:8]} on {workspace[:8]}: installing$")
    first = terminal.until(bar)
    same(len(first.group(1) + first.group(2)), 30, first.group(0))
    later = wait_for(lambda: (lambda m: m and int(m.group(3)) > int(first.group(3)) + 10 and m)(re.search(bar, terminal.screen(), re.M)), 20, "a bar that moves", 0.1)
    must(len(later.group(1)) > len(first.group(1)), f"{first.group(0)}\n{later.group(0)}")
    same(len(re.findall(r"^pulling for", terminal.screen(), re.M)), 1, f"the bar is painted below itself\n{terminal.screen()}")
    shown = small.until(r"^pulling for .*$").group(0)
    must(len(shown) < 80 and len(re.findall("^pulling for", small.screen(), re.M)) == 1, f"80 columns are not enough\n{small.screen()}")
    status, text = other.run("molecule-agentctl jobs")
    must(status == 0 and re.search(rf"^{job[:8]} +workspace\.provision +{workspace[:8]} +running +installing +- +[0-9.]+ [kM]B of [0-9.]+ MB$", text, re.M), text)
    terminal.until(rf"job        succeeded workspace.provision {job[:8]} on {workspace[:8]}$", 60)
    must("pulling for" not in terminal.screen(), f"the bar stays\n{terminal.screen()}")
    terminal.key("C-c")
    terminal.until(rf"\^C\n{PROMPT.strip()}")
    same(other.run("molecule-agentctl status")[0], 0)


def steer(scene, terminal):
    status, text = terminal.run("molecule-agentctl hold --for 2h --reason 'a look by hand'")
    same(status, 0, text)
    status, text = terminal.run("molecule-agentctl status")
    must("held: yes (a look by hand)" in text and "next: molecule-agentctl release" in text, text)
    status, text = terminal.run("molecule-agentctl doctor", 60)
    must(re.search(r"^(warning|failed) +held\b.*$", text, re.M), f"doctor does not see the hold\n{text}")
    must(re.search(r"^ok +engine\b", text, re.M), f"doctor does not see the engine\n{text}")
    same(terminal.run("molecule-agentctl release")[0], 0)
    must("held: no" in terminal.run("molecule-agentctl status")[1], "still held")
    scene.site.agent.stop()
    status, text = terminal.run("molecule-agentctl status")
    must(status == 3 and text.startswith("DOWN: the agent does not run."), text)


CASES = (seen,)

if __name__ == "__main__":
    with Lab("terminal") as lab:
        lab.network()
        cases.run(lab, CASES, side_by_side=1, limit=200)
    tap.done()
