# SPDX-License-Identifier: Apache-2.0
"""An operator's hands on a site: molecule-agentctl, and the local API as curl speaks it."""

import http.client
import json
import socket
import subprocess

from cases import must
from lab import binary

NOBODY = 65534


def tool(site, *words, timeout=30, wrap=()):
    """molecule-agentctl on this host: (exit status, what it printed; where it printed nothing, what it said on stderr)"""
    done = subprocess.run([*wrap, binary("molecule-agentctl"), *words], env=site.agent.environment(), capture_output=True, text=True,
                          timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    must(done.returncode == 0 or done.stdout or done.stderr, f"{words}: {done.returncode} without a word")
    return done.returncode, done.stdout or done.stderr


class Link(http.client.HTTPConnection):
    """HTTP over the agent's socket, as curl --unix-socket speaks it."""

    def __init__(self, site, timeout=20):
        super().__init__("localhost", timeout=timeout)
        self.path = f"{site.agent.runtime}/control.sock"

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(site, method, path, body=None):
    """(status, parsed answer)"""
    link = Link(site)
    link.request(method, path, body)
    answer = link.getresponse()
    found = answer.status, json.loads(answer.read())
    link.close()
    return found


def as_nobody(site, *words, group=NOBODY):
    return tool(site, *words, wrap=("setpriv", f"--reuid={NOBODY}", f"--regid={group}", "--clear-groups"))
