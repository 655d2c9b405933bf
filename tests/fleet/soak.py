#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One host under work for $HOURS, which judges itself. Called by `make soak`. Round after round: random jobs on new workspaces (lab/dice), out of
order and twice, at times with a fault among them; the host must become what the model says. Between rounds: jobs of the other types on one
workspace that stays, at times another engine process or registry, and everything of the round removed. After each round, at rest, the agent is
weighed. A kill begins another life of the agent, with a level of its own, and growth is what the weights of one life show: so a life
lasts for some jobs at least, and for more of them behind the first thousand, where kills become rare. Prints a line a minute and a verdict; the exit
status is 0 only where all is well. Memory of whose growth the weights say too little is "not judged" in a run of less than LONG hours, and WRONG in a
longer one. $MOLECULE_SEED chooses the jobs. The lab's certificates are good for two days: no more than 40 hours."""

import os
import random
import re
import signal
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "bench"), os.path.join(TESTS, "lab")]
from cases import Stage, must   # noqa: E402
from clock import shifted   # noqa: E402
from common import machine, memory   # noqa: E402
from dice import IMAGES, World, all_ended, becomes, deliver, line, state_of   # noqa: E402
from lab import Lab, wait_for   # noqa: E402
from scene import QUICK, Scene   # noqa: E402
from world import RUNTIME, new_id, spec   # noqa: E402

HOURS = float(os.environ.get("HOURS") or 1)
SEED = int(os.environ.get("MOLECULE_SEED") or random.SystemRandom().randrange(1 << 32))
WORKSPACES, JOBS = 4, 8                                     # of a round; jobs of each
OUTCOMES = 1000                                             # jobs whose ends the agent keeps in memory, over restarts, too: until then it grows
# (when, after how many jobs, KiB of private memory for 1,000 jobs, how many jobs a life lasts at least)
GROWTH = (("until then", 0, 4096, 200), ("after that", OUTCOMES, 256, 800))
YOUTH = 100                                                 # jobs at the beginning of a life whose weights say nothing: caches fill
LONG = 0.4                                                  # hours in which there are weights enough
LIMITS = {"descriptors beyond a young agent's": 12, "files of state beyond the first weight's": 24}
FILES = 3                                                   # column of a weight
SETTLE = 3                                                  # seconds at rest before the agent is weighed

began = time.monotonic()


def say(text):
    print(f"{(time.monotonic() - began) / 60:7.1f} min  {text}", flush=True)


class Weights:
    """What the agent weighed at rest, of each of its lives by itself: a kill begins at the beginning."""

    def __init__(self):
        self.lives = {}                                     # pid -> [(jobs, KiB, descriptors, files)]

    def add(self, agent, jobs):
        pid = agent.process.pid
        row = (jobs, memory(pid)["Private_Dirty"], len(os.listdir(f"/proc/{pid}/fd")), files(agent.state))
        self.lives.setdefault(pid, []).append(row)
        return row

    def slope(self, low, high):
        """Of the weights after more than low jobs, and no more than high: (KiB a thousand jobs, its standard error) by least squares, each life with
        a level of its own. None where there are too few."""
        lives = [[row for row in life if low < row[0] <= high and row[0] - life[0][0] >= YOUTH] for life in self.lives.values()]
        lives, points = [life for life in lives if life], []
        for life in lives:
            middle = [sum(row[i] for row in life) / len(life) for i in (0, 1)]
            points += [(row[0] - middle[0], row[1] - middle[1]) for row in life]
        square, left = sum(x * x for x, _ in points), len(points) - len(lives) - 1
        if left < 1 or not square:
            return None
        slope = sum(x * y for x, y in points) / square
        return slope * 1000, (sum((y - slope * x) ** 2 for x, y in points) / left / square) ** 0.5 * 1000

    def most(self, column):
        """By how much a weight was above its life's first; files outlive a life, and count from the very first."""
        lives = [sum(self.lives.values(), [])] if column == FILES else self.lives.values()
        return max((row[column] - life[0][column] for life in lives for row in life), default=0)


def files(directory):
    """All but what has a cap of its own."""
    return sum(len(names) for path, _, names in os.walk(directory) if os.path.basename(path) not in ("rescue", "quarantine"))


class Soak:
    def __init__(self, stage):
        self.stage, self.dice, self.weights = stage, random.Random(SEED), Weights()
        self.scene = Scene(stage, max_parallel_jobs="8", crash_loop_restarts="2", log_level="info")
        self.site, self.agent, self.plane = self.scene.site, self.scene.site.agent, self.scene.plane
        self.world, self.resident = World(self.scene, stage), new_id()
        self.jobs = self.rounds = self.born = 0             # born: after how many jobs this life of the agent began
        self.faults, self.secrets = {}, [self.plane.provision_secret, self.plane.admin_token]
        self.provision_resident()

    # ── faults ──

    def struck(self, name):
        self.faults[name] = self.faults.get(name, 0) + 1

    def may_kill(self):
        return self.jobs - self.born >= next(life for _, low, _, life in reversed(GROWTH) if self.jobs >= low)

    def agent_killed(self):
        self.scene.restart()
        self.born = self.jobs

    def clock_moved(self):
        """A start an hour or more ahead; the next start is in the present again."""
        self.agent.kill()
        self.agent.wait()
        self.agent.start(env=shifted(self.stage, self.dice.randrange(3600, 7200)))
        self.born = self.jobs

    def plane_killed(self):
        self.plane.process.kill()
        self.plane.process.wait()
        time.sleep(self.dice.uniform(0, 8))
        self.plane.start()

    def engine_restarted(self):
        self.stage.engine.stop(self.dice.choice((signal.SIGTERM, signal.SIGKILL)))
        self.stage.engine.start()

    def registry_restarted(self):
        self.stage.registry.stop()
        self.stage.registry.start()

    def strike(self, faults):
        fault = self.dice.choice(faults)
        if fault:
            getattr(self, fault)()
            self.struck(fault)

    # ── work ──

    def end(self, kind, workspace=None, **more):
        self.jobs += 1
        return self.scene.end(kind, workspace, timeout=180, **more)

    def provision_resident(self):
        secret = f"soak-{random.SystemRandom().getrandbits(120):x}"
        self.secrets.append(secret)
        wanted = spec(image_ref=self.dice.choice(self.world.good), probe=QUICK)
        self.end("workspace.provision", self.resident, spec=wanted, seal={"SOAK_TOKEN": secret})

    def round(self):
        """Many jobs on new workspaces at once, in disorder."""
        lines = {new_id(): line(self.dice, JOBS, False) for _ in range(WORKSPACES)}
        self.world.rows.clear()
        deliver(self.world, self.dice, lines,
                lambda: self.strike(("plane_killed", *(("agent_killed", "clock_moved") if self.may_kill() else ()), *[None] * 7)))
        for workspace, jobs in lines.items():
            all_ended(self.world, workspace, jobs)
        for workspace, jobs in lines.items():
            becomes(self.world, workspace, state_of(jobs))
        self.jobs += sum(map(len, self.world.rows.values()))
        return lines

    def other_types(self):
        image = self.dice.choice(self.world.good)
        self.provision_resident()
        self.end("workspace.restart", self.resident)
        self.end("image.ensure", spec={"image_ref": image})
        self.end("host.drain", spec={"reason": "soak"})
        self.end("host.undrain", spec={"reason": "soak"})
        self.end("host.hold", spec={"reason": "soak", "workspace_id": self.resident})
        self.end("host.release", spec={"reason": "soak", "workspace_id": self.resident})
        self.end("host.redeploy", spec={"images": {RUNTIME: image}, "workspaces": [self.resident]})
        self.end("job.cancel", spec={"job_id": new_id()})
        must(self.end("workspace.console", self.resident, spec={"lines": 20})["result"], "the console said nothing")
        must(self.scene.runs(self.resident, image), "the redeploy's image does not run")

    def remove(self, lines):
        """Above all that the round has numbered."""
        jobs = [self.scene.order("workspace.deprovision", workspace, spec={"prune": True}, generation=str(JOBS + 1)) for workspace in lines]
        for job in jobs:
            self.scene.ended(job, timeout=180)
        self.jobs += len(jobs)

    def weigh(self):
        def empty():
            return not [name for name in os.listdir(self.scene.state("outbox")) if not name.startswith(".")]
        wait_for(empty, 60, "an empty outbox")
        time.sleep(SETTLE)
        self.weights.add(self.agent, self.jobs)

    def once(self):
        lines = self.round()
        self.other_types()
        self.remove(lines)
        self.strike(("engine_restarted", "registry_restarted", None, None))
        wait_for(lambda: self.scene.page(self.resident) in {f"v{n}" for n in range(IMAGES)}, 60, "the resident's page")
        self.weigh()
        self.rounds += 1

    # ── judgement ──

    def words(self):
        rows = list(self.weights.lives.values())[-1] if self.weights.lives else [(0, 0, 0, 0)]
        return (f"{self.rounds} rounds, {self.jobs} jobs, {sum(self.faults.values())} faults; at rest {rows[-1][1]} KiB private, "
                f"{rows[-1][2]} descriptors, {rows[-1][3]} files")

    def verdict(self):
        """[(what, value, limit, is well; None: not judged)]"""
        for (when, low, limit, _), high in zip(GROWTH, (OUTCOMES, self.jobs)):
            slope = self.weights.slope(low, high)
            yield (f"KiB of private memory for 1,000 jobs, {when}", f"{slope[0]:.0f} +- {slope[1]:.0f}" if slope else "too few weights", limit,
                   grows_no_more(slope, limit))
        for column, name in enumerate(LIMITS, 2):
            yield name, self.weights.most(column), LIMITS[name], self.weights.most(column) <= LIMITS[name]
        unknown = sorted(self.codes() - known_codes())
        yield "codes that nobody knows", " ".join(unknown) or "none", "none", not unknown
        told = self.told()
        yield "places where a secret lies", " ".join(told) or "none", "none", not told

    def codes(self):
        with open(self.agent.log, errors="replace") as file:
            return set(re.findall(r"\[[^\[\]]*\berror (\w+)[^\[\]]*\]$", file.read(), re.M))

    def told(self):
        """Files of the log and of the state with one of the secrets in them as it is."""
        found = []
        for path in [self.agent.log] + [os.path.join(where, name) for where, _, names in os.walk(self.agent.state) for name in names]:
            with open(path, "rb") as file:
                data = file.read()
            found += [path for secret in self.secrets if secret.encode() in data]
        return found


def grows_no_more(slope, limit):
    """Twice the standard error is doubt. More doubt than the limit would excuse everything."""
    if slope and (slope[0] - 2 * slope[1] > limit or 2 * slope[1] <= limit):
        return slope[0] - 2 * slope[1] <= limit
    return None if HOURS < LONG else False


def known_codes():
    with open(os.path.join(os.path.dirname(TESTS), "base", "fault.h")) as file:
        return set(re.findall(r'^ +X\([A-Z_0-9]+, "(\w+)"', file.read(), re.M))


def each_minute(soak):
    while True:
        time.sleep(60)
        say(soak.words())


def main():
    wrong = []
    say(f"for {HOURS} hours, seed {SEED}; {machine()}")
    with Lab("soak") as lab:
        lab.network()
        stage = Stage(lab)
        soak = Soak(stage)
        threading.Thread(target=each_minute, args=(soak,), daemon=True).start()
        try:
            while time.monotonic() - began < HOURS * 3600:
                soak.once()
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
            print("".join(site.tail(60) for site in stage.sites), file=sys.stderr)
        rows = list(soak.verdict())
        try:
            soak.site.end()
        except Exception as error:
            wrong.append(str(error))
    say(soak.words())
    print("\nfaults: " + (", ".join(f"{n} {name}" for name, n in sorted(soak.faults.items())) or "none"))
    for what, value, limit, well in rows:
        print(f"{ {True: 'well', False: 'WRONG', None: 'not judged'}[well]:10}  {what}: {value} (limit {limit})")
    for words in wrong:
        print(f"WRONG       {words}")
    bad, unjudged = wrong or [row for row in rows if row[3] is False], [row for row in rows if row[3] is None]
    print(f"soak: {'failed' if bad else 'ok'}{', growth of memory not judged' if unjudged else ''}, seed {SEED}, {soak.jobs} jobs in "
          f"{(time.monotonic() - began) / 60:.1f} min, load at the end {os.getloadavg()[0]:.2f}")
    return 1 if bad else 0


if __name__ == "__main__":
    if not 0 < HOURS <= 40:
        sys.exit("HOURS is a number up to 40")
    sys.exit(main())
