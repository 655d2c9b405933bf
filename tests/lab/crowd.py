# SPDX-License-Identifier: Apache-2.0
"""Many agents against one control plane: processes of tests/tools/crowd, each of which is hundreds of them, and what they say of each second."""

import collections
import json
import os
import signal
import subprocess

from lab import binary
from proc import LabError, Process, at_end, wait_for

EACH = 640                                                  # agents in one process: a dozen descriptors each


def program():
    """Beside the agent that is measured."""
    path = f"{os.path.dirname(binary('molecule-agentd'))}/tests/tools/crowd"
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not there; run make tests")
    return path


class Crowd:
    def __init__(self, where, plane, count, **settings):
        """Their states lie on a tmpfs of their own: what is measured is the control plane and the network, not this disk."""
        self.where, self.plane, self.count, self.processes = where, plane, count, []
        self.settings = {"cp_url": plane.url, "org_id": plane.org_id, "org_slug": plane.org_slug, "engine_socket": f"{where}/no.sock", "imds": "off",
                         "ca_file": plane.authority and plane.authority.ca, "allow_insecure_loopback": "no" if plane.authority else "yes",
                         "prefetch": "no", "log_level": "error", "launcher": binary("molecule-launch")} | settings
        os.makedirs(where, 0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g,mode=0755,nosuid,nodev", "tmpfs", where], check=True)
        at_end(self.unmount)

    def unmount(self):
        if os.path.ismount(self.where):
            subprocess.run(["umount", "-l", self.where], check=True)

    def start(self, over):
        """Each begins at its own moment of the next `over` seconds."""
        credentials = f"{self.where}/credentials"
        os.makedirs(credentials, 0o700)
        for name, value in (("provision-secret", self.plane.provision_secret), ("admin-token", self.plane.admin_token)):
            with open(os.open(f"{credentials}/{name}", os.O_WRONLY | os.O_CREAT, 0o400), "w") as file:
                file.write(value)
        with open(f"{self.where}/agent.conf", "w") as file:
            file.write("[agent]\n" + "".join(f"{key} = {value}\n" for key, value in self.settings.items() if value is not None))
        number, left = -(-self.count // EACH), self.count
        for i in range(number):
            size = -(-left // (number - i))
            left -= size
            os.makedirs(f"{self.where}/{i}")
            argv = [program(), f"{self.where}/agent.conf", f"{self.where}/{i}", str(size), str(over)]
            env = {"PATH": os.environ["PATH"], "CREDENTIALS_DIRECTORY": credentials, "RUNTIME_DIRECTORY": self.where}
            self.processes.append(Process(argv, f"{self.where}/{i}.log", env, "KILL"))
        return self

    def pids(self):
        return [process.pid for process in self.processes]

    def outage(self):
        """From now on each member's next request counts as its first."""
        for process in self.processes:
            process.kill(signal.SIGUSR1)

    def seconds(self):
        """{second of the boot clock: what all processes say of it}: of those that all have told of."""
        found, told = collections.defaultdict(collections.Counter), collections.Counter()
        for i, process in enumerate(self.processes):
            process.check()
            with open(f"{self.where}/{i}.log") as file:
                for line in file:
                    if line.startswith("{") and line.endswith("}\n"):
                        row = json.loads(line)
                        second = row.pop("second")
                        late = max(found[second]["late"], row.pop("late"))
                        found[second].update(row)
                        found[second]["late"] = late
                        told[second] += 1
        return {second: found[second] for second in sorted(found) if told[second] == len(self.processes)}

    def between(self, since, until):
        """The rows of the seconds since <= second < until, as a list."""
        rows = self.seconds()
        return [rows[second] for second in rows if since <= second < until]

    def all_well(self, since, timeout):
        """The first second, at or after that one, in which every member was well."""
        return wait_for(lambda: next((second for second, row in self.seconds().items() if second >= since and row["well"] == self.count), None),
                        timeout, f"{self.count} agents to be well", 1)

    def stop(self):
        for process in self.processes:
            process.stop()

    def words(self):
        """What they logged besides."""
        text = ""
        for i in range(len(self.processes)):
            with open(f"{self.where}/{i}.log", errors="replace") as file:
                text += "".join(line for line in file if not line.startswith("{"))
        return text
