# SPDX-License-Identifier: Apache-2.0
"""System calls of the running agent, watched and made to fail one at a time by strace. A Watch sits on a process for as long as a `with` lasts;
points() are the calls at which an error is possible, each known by its place among the calls of its name; Ledger follows what is on the disk,
call by call, and says where the agent told what was not there yet."""

import errno
import os
import re
import subprocess
from collections import namedtuple

from proc import LabError, at_end, end_now, wait_for

# What each error is tried at: calls that may answer it, of those that a job or a start makes. Left out:
#   EIO, ENOSPC, EROFS on sockets and on what lies in memory (the hand-over's tmpfs, /proc): there is no disk below that could fail so;
#   EROFS on a descriptor (write, fsync): a disk is not made read-only below a file that is open for writing, renames and opens notice;
#   EINTR of close: the descriptor is gone whatever it answers, and strace would leave it open; of what never sleeps (stat, unlink, rename, mkdir);
#   EMFILE of what makes no descriptor; ENOMEM of read, write and fsync, which have no such answer; munmap and madvise, whose answer nobody needs;
#   getpid, clock and timer calls, which cannot fail; flock, bind and listen, whose answers in trouble are others than these six.
#   brk, which does not answer an error but an address, so that strace cannot say it: tests/fault/malloc.t has that;
#   epoll_ctl but for what it adds: what changes or goes needs no memory.
ON_DISK, WRITES, MAKES, ADDS, ANY = "disk", "writes", "makes", "adds", "any"
ERRORS = {
    "EIO": {"openat": ON_DISK, "read": ON_DISK, "write": ON_DISK, "fsync": ON_DISK, "close": WRITES, "renameat": ON_DISK, "unlinkat": ON_DISK,
            "mkdirat": ON_DISK, "newfstatat": ON_DISK, "getdents64": ON_DISK, "fchmod": ON_DISK, "ftruncate": ON_DISK, "fallocate": ON_DISK, "pread64": ON_DISK,
            "pwrite64": ON_DISK},
    "ENOSPC": {"openat": MAKES, "write": ON_DISK, "pwrite64": ON_DISK, "fsync": ON_DISK, "renameat": ON_DISK, "mkdirat": ON_DISK, "fallocate": ON_DISK},
    "EROFS": {"openat": WRITES, "renameat": ON_DISK, "unlinkat": ON_DISK, "mkdirat": ON_DISK, "fchmod": ON_DISK, "ftruncate": ON_DISK},
    "EINTR": {"openat": ON_DISK, "read": ON_DISK, "write": ON_DISK, "fsync": ON_DISK, "connect": ANY, "accept4": ANY, "recvfrom": ANY, "sendto": ANY,
              "epoll_wait": ANY, "poll": ANY, "fallocate": ON_DISK, "pread64": ON_DISK, "pwrite64": ON_DISK, "sendmsg": ANY},
    "EMFILE": {"openat": ANY, "socket": ANY, "accept4": ANY, "epoll_create1": ANY, "timerfd_create": ANY, "signalfd4": ANY, "eventfd2": ANY,
               "inotify_init1": ANY, "socketpair": ANY, "pipe2": ANY},
    "ENOMEM": {"mmap": ANY, "openat": ANY, "socket": ANY, "accept4": ANY, "epoll_ctl": ADDS, "recvfrom": ANY, "sendto": ANY, "mkdirat": ANY,
               "renameat": ANY, "unlinkat": ANY, "newfstatat": ANY, "epoll_create1": ANY, "timerfd_create": ANY, "inotify_add_watch": ANY, "mlock": ANY,
               "sendmsg": ANY},
}
LEDGER = {"openat", "write", "fsync", "renameat", "unlinkat", "close"}
CALLS = LEDGER.union(*(set(calls) for calls in ERRORS.values()))
LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += +(-?\w+)(?:<(.*)>)?(.*)$")
PLACE = re.compile(r'^(-?\w+)<([^>]*)>(?:, "([^"]*)")?')

Call = namedtuple("Call", "name args result made injected fd at path")       # made: the path of a new descriptor. at: the descriptor's. path: with the name
Point = namedtuple("Point", "job call number error")


def words(point):
    return f"{point.job}:{point.call}:{point.number}:{point.error}"


def parse(line):
    found = LINE.match(line)
    if not found:
        return None
    name, args, result, made, rest = found.groups()
    place = PLACE.match(args)
    fd, at, entry = place.groups() if place else (None, "", None)
    path = entry if entry and entry.startswith("/") else f"{at}/{entry}" if entry else at
    return Call(name, args, -1 if result == "-1" else result, made, "(INJECTED)" in rest, fd, at, path)


def read(log):
    with open(log, errors="replace") as lines:
        return [call for call in map(parse, lines) if call]


def fits(call, rule, state):
    """Whether an error is possible at this call."""
    if rule in (ANY, ADDS):
        return rule == ANY or "EPOLL_CTL_ADD" in call.args
    if not call.path.startswith(state):
        return False
    flags = call.args if call.name == "openat" else ""
    if rule == MAKES:
        return "O_CREAT" in flags
    if rule == WRITES:
        return any(flag in flags for flag in ("O_CREAT", "O_WRONLY", "O_RDWR")) or (call.name == "close" and os.path.basename(call.path).startswith("."))
    return True


def points(calls, state, job, since=0):
    """All of a trace, in the order of the calls; the first `since` calls are counted and not tried."""
    counts, found = {}, []
    for at, call in enumerate(calls):
        counts[call.name] = counts.get(call.name, 0) + 1
        for error, rules in ERRORS.items():
            if at >= since and call.name in rules and fits(call, rules[call.name], state):
                found.append(Point(job, call.name, counts[call.name], error))
    return found


def hit(calls, point, state):
    """The call that failed, if it is one that could."""
    return next((call for call in calls if call.injected and fits(call, ERRORS[point.error][point.call], state)), None)


def options(log, point=None, only=None):
    """strace's words. only: the calls that are looked at."""
    chosen = ["-e", "trace=" + ",".join(sorted(only or CALLS))]
    if point:
        chosen += ["-e", f"inject={point.call}:error={point.error}:when={point.number}"]
    return ["strace", "-f", "-qq", "-y", "-s", "4096", "-o", log, *chosen]


class Watch:
    """strace on a process that runs; with a point, one of its calls fails. The process is left as it was found."""

    def __init__(self, pid, log, point=None):
        self.pid, self.log = pid, log
        only = LEDGER | {point.call} if point else None
        self.words = [*options(log, point, only), "-p", str(pid)]

    def __enter__(self):
        open(self.log, "w").close()
        self.child = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        at_end(self.leave)
        wait_for(self.attached, 10, "strace", 0.01)
        return self

    def attached(self):
        if any(call.injected for call in read(self.log)):   # so soon that the process may have ended of it
            return True
        if self.child.poll() is not None:
            raise LabError(f"strace ended with {self.child.returncode}")
        with open(f"/proc/{self.pid}/status") as file:
            return f"TracerPid:\t{self.child.pid}\n" in file.read()

    def leave(self):
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(20)

    def __exit__(self, *_):
        end_now(self.leave)

    def calls(self):
        return read(self.log)


def strerror(error):
    return os.strerror(getattr(errno, error))


STATE = re.compile(r'\\"state\\":\\"(\w+)\\"')
TEMP = re.compile(r"^\.(.+)\.[0-9a-f]{16}$")


def complaints(calls, state):
    """What a trace shows that must not be: a file asked again after a failed fsync, a promise written before what it promises is on the disk, a descriptor
    that is closed twice.
    Directories may be asked again: there is no page of theirs that the kernel would drop, and what is new there is a new entry."""
    failed, unsynced, pending, lost, folders, found = set(), set(), {}, set(), set(), []
    for call in calls:
        good = call.result != -1
        if call.name == "openat" and good:
            failed.discard(call.result)
            if "O_CREAT" in call.args:
                unsynced.add(call.made)
            if "O_DIRECTORY" in call.args:
                folders.add(call.made)
        elif call.name == "close":
            failed.discard(call.fd)
            if not good and not call.injected and call.args != "-1":              # in another turn the number may be somebody else's
                found.append(f"close({call.args}), which is not open")
        elif call.name == "write" and call.path.startswith(f"{state}/"):
            unsynced.add(call.path)
            found += promises(call, state, pending, lost)
            if not good:
                lost.add(target(call.path))
        elif call.name == "fsync":
            if call.fd in failed and call.path not in folders and not os.path.isdir(call.path):
                found.append(f"fsync of {call.path} again, which had failed")
            if good:
                unsynced.discard(call.path)
                pending.pop(call.path, None)
            else:
                failed.add(call.fd)
                lost.add(target(call.path))
        elif call.name == "renameat":
            new = f"{call.at}/" + re.findall(r'"([^"]*)"', call.args)[-1]
            if good:
                pending.setdefault(call.at, set()).add(new)
                lost.discard(new)
                if call.path in unsynced:
                    lost.add(new)
            else:
                lost.add(target(call.path))
    return found


def target(path):
    """The name that a temporary file is for."""
    folder, name = os.path.split(path)
    found = TEMP.match(name)
    return f"{folder}/{found[1]}" if found else path


def promises(call, state, pending, lost):
    """A report that is written says what the record must have said before."""
    said = STATE.search(call.args) if call.path.startswith(f"{state}/outbox/") else None
    if not said or said[1] not in ("accepted", "succeeded"):
        return []
    bad = [path for path in pending.get(f"{state}/ws", ()) if path in call.args or os.path.basename(path)[:36] in call.args]
    bad += [path for path in lost if path.startswith(f"{state}/ws/") and os.path.basename(path)[:36] in call.args]
    return [f"'{said[1]}' is told while {path} is not on the disk" for path in bad]
