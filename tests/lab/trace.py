# SPDX-License-Identifier: Apache-2.0
"""What a process asks of the kernel that changes something, counted as strace counts: by the call's name, from the moment strace came. A
point is such a call, so it can be met again: killed there, the call is not made; stopped there, it is made and nothing follows."""

import os
import re
import signal
import typing

from lab import LabError, wait_for
from proc import Process, end_now, tail

BY_NAME = ("mkdirat", "unlinkat", "renameat", "renameat2", "linkat", "symlinkat", "fchmodat", "fchownat", "mkdir", "unlink", "rmdir", "rename",
           "link", "symlink", "chmod", "chown", "truncate", "mknodat", "mount", "umount2")
BY_FILE = ("write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate", "fchmod", "fchown",
           "copy_file_range", "sendfile")
OPENING = ("openat", "open", "creat")
SENDING = ("sendto", "sendmsg", "sendmmsg")
CALLS = OPENING + BY_NAME + BY_FILE + SENDING
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
SHORT = ((UUID, "ID"), (re.compile(r"\.[0-9a-f]{16}$"), ".*"), (re.compile(r"\bg\d+\b"), "gN"), (re.compile(r"/ID/\d+"), "/ID/N"),
         (re.compile(r"[0-9a-f]{64}"), "HASH"), (re.compile(r"^(GET|POST) /images/.*"), r"\1 /images/…"), (re.compile(r"\?.*"), ""),
         (re.compile(r"/networks/.*"), "/networks/…"))


class Point(typing.NamedTuple):
    call: str
    number: int                                             # of this name, since strace came
    what: str                                               # what it is done to, the same words in every run

    @property
    def kind(self):
        return f"{self.call} {self.what}"

    def __str__(self):
        return f"{self.call}:{self.number} {self.what}"


class Places:
    """What of all that a process touches counts: its directories, the engine's socket and the control plane's port; not its log, and not
    the pages that it looks whether they are there."""

    def __init__(self, roots, plane_port):
        """roots: name → directory."""
        self.roots, self.plane = {os.path.realpath(path): name for name, path in roots.items()}, f":{plane_port}]"

    def short(self, path):
        for root, name in self.roots.items():
            if path == root or path.startswith(root + "/"):
                words = name + path[len(root):]
                for pattern, instead in SHORT:
                    words = pattern.sub(instead, words)
                return words
        return None

    def what(self, call, words):
        """words: the line behind the call's name; None for what does not count."""
        if call in OPENING and not re.search(r"O_CREAT|O_TRUNC", words):
            return None
        if call in OPENING + BY_NAME:
            return self.short(self.named(words))
        file = re.match(r"\d+<(.*?)>(?=[,)])", words)
        if not file:
            return None
        if file[1].startswith("TCP"):
            return "control plane" if file[1].endswith(self.plane) else None
        if file[1].startswith("UNIX-STREAM"):
            return "engine " + self.request(words)
        return self.short(file[1])

    @staticmethod
    def named(words):
        """The path that the last name in the line stands for."""
        parts = re.findall(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', words)
        return os.path.normpath(os.path.join(parts[-1][0] or "/", parts[-1][1])) if parts else ""

    @staticmethod
    def request(words):
        line = re.search(r'"(\w+) (?:/v[\d.]+)?(/\S*)', words)
        words = f"{line[1]} {line[2]}" if line else "…"
        for pattern, instead in SHORT:
            words = pattern.sub(instead, words)
        return words

    def points(self, log):
        """The points of a trace, in their order. What is not there, and so is not changed, does not count."""
        numbers, seen, points = {}, {}, []
        with open(log, errors="replace") as lines:
            for line in lines:
                call = re.match(r"(?:\d+ +)?(\w+)\((.*)", line)
                if not call or call[1] not in CALLS:
                    continue
                numbers[call[1]] = numbers.get(call[1], 0) + 1
                what = self.what(call[1], call[2])
                if what and not re.search(r"= -1 E(NOENT|EXIST|ISDIR)\b", line):
                    seen[call[1], what] = seen.get((call[1], what), 0) + 1
                    points.append(Point(call[1], numbers[call[1]], f"{what} #{seen[call[1], what]}"))
        return points


def options(log, point=None, number=signal.SIGKILL):
    words = ["strace", "-f", "-qq", "-yy", "-s", "200", "-o", log, "-e", "trace=" + ",".join(CALLS)]
    return words + ["-e", f"inject={point.call}:signal={number.value}:when={point.number}"] if point else words


class Strace:
    """At a running process, from now until end(), or until its point has come."""

    def __init__(self, pid, log, point=None, number=signal.SIGKILL):
        self.pid, self.log, self.point = pid, log, point
        if os.path.exists(log):
            os.unlink(log)
        self.process = Process([*options(log, point, number), "-p", str(pid)], f"{log}.said")
        wait_for(self.there, 20, "strace", 0.005)

    def there(self):
        self.process.check()
        with open(f"/proc/{self.pid}/status") as status:
            return re.search(r"^TracerPid:\t[1-9]", status.read(), re.M) and os.path.exists(self.log)

    def came(self):
        """Of a process that has ended: whether that was in the very call that the point is."""
        self.process.wait(10)
        with open(self.log, errors="replace") as lines:
            names = re.findall(r"^(?:\d+ +)?(\w+)\(", lines.read(), re.M)
        return self.point and names.count(self.point.call) == self.point.number and names[-1] == self.point.call

    def stopped(self):
        """Whether the process has come to a point that it is stopped at; what was stopped before strace came was not sent the signal under its eyes."""
        return re.search(r"--- SIGSTOP \{.*\n.*--- stopped by SIGSTOP ---", tail(self.log, 3)) is not None

    def end(self):
        """The process goes on without it."""
        if self.process.running():
            self.process.kill(signal.SIGINT)
            try:
                self.process.wait(10)
            except LabError:
                self.process.kill()
        end_now(self.process.stop)
