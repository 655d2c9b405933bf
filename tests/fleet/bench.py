#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fleet on one control plane, which is killed three times. Called by `make bench-fleet`. $AGENTS of them (5000) are tests/tools/crowd, the daemon's
own code without an engine; DAEMONS more are daemons as they are, with a real engine. In a network namespace of its own, whose loopback counts the
bytes. The exit status is 1 where something could not be measured or a target was missed; where the machine had no time for the crowd, what was missed
then says so and is no failure. A peak of a few hundred agents is chance, and misses its target. $TLS=yes puts TLS on it, whose handshakes cost the
crowd more than all the rest; $STEADY is for how many seconds it is measured at rest (120)."""

import os
import re
import signal
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))
from common import Row, cpu_seconds, machine, memory, table   # noqa: E402  (puts tests/lab on the path)
from agent import Agent   # noqa: E402
from crowd import Crowd   # noqa: E402
from instance import own_network, run   # noqa: E402
from lab import Lab, binary   # noqa: E402
from plane import Plane   # noqa: E402
from proc import LabError, free_port, wait_for   # noqa: E402

AGENTS, DAEMONS, TLS = int(os.environ.get("AGENTS") or 5000), 20, os.environ.get("TLS") == "yes"
RAMP, WARM, STEADY, REST = 60, 60, int(os.environ.get("STEADY") or 120), 20
DOWN = (0, 5, 20)                                           # seconds that the control plane is away
BACK, AFTER = 90, 90                                        # the target; for how long the peak is looked for at least
PATIENCE, LATE = 600, 2                                     # with a machine that has no time for it; by so much a figure says little
KINDS = ("poll", "health", "reports", "pins", "register")
HEADS = ("", "value", "beside", "over steady", "target", "")

began = time.monotonic()


def say(text):
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def boot():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Daemon:
    """A real one, and its own count of answers."""

    def __init__(self, lab, plane, number):
        self.port = free_port()
        self.agent = Agent(f"{lab.where}/d{number}", f"{lab.short}/d{number}", binary("molecule-agentd"), {
            "cp_url": plane.url, "org_id": plane.org_id, "org_slug": plane.org_slug, "ca_file": plane.authority and plane.authority.ca,
            "allow_insecure_loopback": "no" if plane.authority else "yes", "engine_socket": lab.engine.socket, "log_level": "error", "imds": "off",
            "prefetch": "no", "metrics_listen": f"127.0.0.1:{self.port}", "launcher": binary("molecule-launch")},
            {"provision-secret": plane.provision_secret, "admin-token": plane.admin_token}).start()
        self.before = 0

    def answers(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return sum(float(n) for n in re.findall(r'^molecule_agent_cp_requests_total\{[^}]*status="ok"\} (\S+)$', answer.read().decode(), re.M))

    def mark(self):
        self.before = self.answers()

    def is_back(self):
        return self.agent.process.check() and self.answers() > self.before


class Fleet:
    def __init__(self, lab):
        self.plane = Plane(f"{lab.where}/cp", binary("molecule-devcp"), tls=TLS)
        self.plane.start()
        self.plane.org_make()
        self.crowd = Crowd(f"{lab.where}/crowd", self.plane, AGENTS)
        self.daemons = [Daemon(lab, self.plane, number) for number in range(DAEMONS)]
        self.crowd.start(RAMP)
        self.steady, self.missed, self.unjudged = None, 0, 0                    # requests a second; targets

    def cpu(self):
        """Of the control plane, of the crowd, of the daemons: seconds so far."""
        daemons = [daemon.agent.process.pid for daemon in self.daemons]
        return [sum(map(cpu_seconds, pids)) for pids in ([self.plane.process.pid], self.crowd.pids(), daemons)]

    def rest(self):
        """One window in which nothing happens."""
        cpu, bytes_, start = self.cpu(), loopback(), boot()
        time.sleep(STEADY)
        took = boot() - start
        cpu, bytes_ = [(now - then) / took for now, then in zip(self.cpu(), cpu)], loopback() - bytes_
        rows = self.crowd.between(start + 1, start + took - 1)
        total = sum(rows, start=type(rows[0])())
        if total["error"] or total["4xx"] or total["5xx"]:
            raise LabError(f"not all is well at rest: {dict(total)}")
        self.steady = total["sent"] / len(rows)
        say("at rest, a second: " + ", ".join(f"{kind} {total[kind] / len(rows):.1f}" for kind in KINDS))
        yield Row("requests a second, at rest", f"{self.steady:.0f}", f"most {max(row['sent'] for row in rows)}")
        yield Row("bytes an agent and hour", f"{bytes_ / (AGENTS + DAEMONS) / took * 3600 / 1e6:.2f} MB",
                  f"{'TLS' if TLS else 'plain'}, packets' heads and all")
        yield Row("CPU of the control plane", f"{cpu[0] * 100:.1f} % of a core", f"{memory(self.plane.process.pid)['Rss'] / 1024:.0f} MiB RSS")
        yield Row("CPU of an agent", f"{cpu[1] / AGENTS * 6e4:.2f} ms a minute", f"a daemon with its engine {cpu[2] / DAEMONS * 6e4:.2f} ms")

    def outage(self, down):
        self.crowd.outage()
        cpu = self.cpu()
        killed = boot()
        self.plane.process.kill()
        self.plane.process.wait()
        for daemon in self.daemons:
            daemon.mark()                                   # now that nobody answers
        time.sleep(max(0, killed + down - boot()))
        self.plane.start()
        back = boot()
        say(f"killed, away for {back - killed:.1f} s")
        cpu[0] = 0                                          # another process
        wait_for(lambda: all(daemon.is_back() for daemon in self.daemons), PATIENCE, "the daemons to be back", 0.5)
        all_back = max(boot(), self.crowd.all_well(int(back), PATIENCE) + 1) - back
        time.sleep(max(0, back + AFTER - boot()))
        took, cpu = boot() - killed, [now - then for now, then in zip(self.cpu(), cpu)]
        rows = self.crowd.between(int(killed), boot() - 1)
        peak = max(row["sent"] for row in rows)
        for kind in ("sent", "first", *KINDS):
            if any(row[kind] for row in rows):
                say(f"by second, {kind}: {' '.join(str(row[kind]) for row in rows)}")
        name = f"killed, away for {down} s: "
        late = max(row["late"] for row in rows)
        if late >= LATE:
            say(f"the machine has no time for the crowd: {late:.0f} s late, so the figures say little")
        yield self.judged(late, name + "most in a second", f"{peak}",
                          f"CPU of both sides {cpu[0] / took * 100:.0f} % and {cpu[1] / took * 100:.0f} % of a core",
                          f"{peak / self.steady:.2f}", "<= 2", peak <= 2 * self.steady)
        yield self.judged(late, "  all are back", f"{all_back:.0f} s", f"failed in a second: {max(row['error'] for row in rows)} at most", "",
                          f"<= {BACK} s", all_back <= BACK)

    def judged(self, late, *cells):
        *words, met = cells
        if not met and late >= LATE:
            words[2] += f"; {late:.0f} s late: not judged"
            met = None
            self.unjudged += 1
        self.missed += met is False
        return Row(*words, met)

    def end(self):
        self.crowd.stop()
        for daemon in self.daemons:
            daemon.agent.stop()
        self.plane.stop(number=signal.SIGKILL)


def loopback():
    """Bytes that this namespace's loopback has carried; each packet once."""
    with open("/proc/self/net/dev") as file:
        return int(next(line for line in file if line.strip().startswith("lo:")).split(":")[1].split()[0])


def main():
    rows, broken = [], ""
    own_network()
    run("ip", "link", "set", "lo", "up")
    with Lab("fleet") as lab:
        say(f"{AGENTS} agents and {DAEMONS} daemons; {machine()}")
        fleet = Fleet(lab)
        try:
            well = fleet.crowd.all_well(0, RAMP + PATIENCE)
            wait_for(lambda: all(daemon.is_back() for daemon in fleet.daemons), 120, "the daemons to be registered", 0.5)
            say("all are well")
            time.sleep(max(0, well + WARM - boot()))
            rows += fleet.rest()
            for down in DOWN:
                rows += fleet.outage(down)
                time.sleep(REST)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
            say(broken + "\n" + fleet.crowd.words()[-2000:])
        fleet.end()
    print()
    table(rows, HEADS)
    print(f"\nbench-fleet: {f'could not measure: {broken}' if broken else 'measured'}, {time.monotonic() - began:.0f} s, "
          f"load at the end {os.getloadavg()[0]:.2f}")
    print(f"{fleet.missed} targets missed" + (f", {fleet.unjudged} not judged: the machine was late" if fleet.unjudged else ""))
    return 1 if broken or fleet.missed or fleet.unjudged else 0


if __name__ == "__main__":
    sys.exit(main())
