# SPDX-License-Identifier: Apache-2.0
"""A terminal session on a lab host, as a page shows it: what differs from run to run (ids, digests, times, ages, sizes, ports, paths, and how often the same
line is said) is always the same."""

import hashlib
import re
import subprocess

from lab import binary

TITLES = re.compile(r"[A-Z]+( {2,}[A-Z]+){2,}")
ID = re.compile(r"\b([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{12}|[0-9a-f]{8})\b")
SAME = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", r"2026-01-02T03:04:05.678Z"),
    (r"[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4} GMT", "Jan  1 00:00:00 2026 GMT"),
    (r"next try \d+ (s|min)\b", "next try 40 s"),
    (r"next try \(s\) \d+", "next try (s) 40"),
    (r"(?<!next try )\b\d+ (s|min|h|d)\b", "4 min"),
    (r"\b\d+ MiB are free", "59 MiB are free"),
    (r"^(engine +)[0-9.]+ [kMGT]?B( +)\d+%", r"\g<1>63 MB\g<2>86%"),
    (r"^(state +)[0-9.]+ [kMGT]?B( +)\d+%", r"\g<1>84 GB\g<2>19%"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:20000"),
    (r'"seq":\d+', '"seq":42'),
    (r'"loginuid":"\d+"', '"loginuid":"1000"'),
    (r"^(.+\n)\1{2,}", r"\1\1\1"),                          # how often it had been started when its log was read
)


class Session:
    """Commands as a shell takes them, and what they print. known: real text → what a page shows for it."""

    def __init__(self, site, known):
        self.site, self.ids, self.text, self.raw = site, {}, "", []
        self.known = {site.agent.state: "/var/lib/molecule-agent", binary("molecule-agentctl"): "/usr/bin/molecule-agentctl"} | known

    def run(self, command, shown=None):
        """The exit status; shown: the command as the page has it, where that differs."""
        tools = binary("molecule-agentctl").rsplit("/", 1)[0]
        environment = self.site.agent.environment()
        done = subprocess.run(["sh", "-c", command], env=environment | {"PATH": f"{tools}:{environment['PATH']}"}, capture_output=True, text=True,
                              timeout=60, check=False, stdin=subprocess.DEVNULL)
        self.raw.append(done.stdout + done.stderr)
        self.text += self.page(f"# {shown or command}\n") + self.page(self.raw[-1]) + "\n"
        return done.returncode

    def page(self, text):
        for real, shown in self.known.items():
            text = text.replace(real, shown)
        for pattern, shown in SAME:
            text = re.sub(pattern, shown, text, flags=re.M)
        return aligned(ID.sub(self.other, text))

    def other(self, found):
        """An id or digest that is always the same; its short forms are of the same one."""
        real = found.group(1)
        name = hashlib.sha256(str(self.ids.setdefault(real[:8], len(self.ids))).encode()).hexdigest()
        if "-" in real:
            return f"{name[:8]}-{name[8:12]}-4{name[13:16]}-8{name[17:20]}-{name[20:32]}"
        return name[:len(real)]


def cells(line):
    return re.split(r" {2,}", line)


def aligned(text):
    """Tables, whose columns were as wide as what was in them."""
    lines, made = text.split("\n"), []
    while lines:
        row = cells(lines[0])
        if not TITLES.fullmatch(lines[0]):
            made.append(lines.pop(0))
            continue
        table = []
        while lines and len(cells(lines[0])) == len(row):
            table.append(cells(lines.pop(0)))
        widths = [max(map(len, column)) for column in zip(*table)]
        made += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join(made)
