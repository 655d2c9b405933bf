# SPDX-License-Identifier: Apache-2.0
"""Processes that end with the lab: each is known by its pid, dies with the interpreter that started it, and is waited for.

Whatever has to be undone at the end is given to at_end(); the list is walked backwards once, at exit or on a signal, and one failing
entry does not keep the others from running."""

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import time


os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"     # where dockerd and mount lie for a plain su


class LabError(Exception):
    """The lab itself could not do what it was asked for."""


class Ended(LabError):
    """A program that should run does not: nothing to wait for."""


_undo = []


def at_end(call):
    """Runs call at the end, before all that was given earlier. Giving the same again moves it to the front."""
    if call in _undo:
        _undo.remove(call)
    _undo.append(call)


def end_now(call):
    """Runs one entry early; it is not run again."""
    if call in _undo:
        _undo.remove(call)
    call()


def end_all():
    while _undo:
        call = _undo.pop()
        try:
            call()
        except Exception as error:
            print(f"# lab: while ending: {error!r}", file=sys.stderr)


def _on_signal(number, _frame):
    signal.signal(number, signal.SIG_IGN)
    end_all()
    os._exit(128 + number)


atexit.register(end_all)
for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_number, _on_signal)


def wait_for(predicate, timeout=30.0, what="a condition", every=0.05):
    """Calls predicate until it answers something true, which is returned. An exception counts as "not yet": None["field"] is a thing that is not there."""
    end, last = time.monotonic() + timeout, None
    while True:
        try:
            value, last = predicate(), None
            if value:
                return value
        except Ended:
            raise
        except (OSError, LabError, LookupError, TypeError, ValueError, AssertionError) as error:
            last = error
        if time.monotonic() >= end:
            raise LabError(f"waited {timeout:g} s for {what}" + (f"; last: {last!r}" if last else ""))
        time.sleep(every)


def tail(path, lines=40):
    try:
        with open(path, errors="replace") as file:
            return "".join(f"{os.path.basename(path)}: {line}" for line in file.readlines()[-lines:])
    except OSError as error:
        return f"{path}: {error}\n"


_ports = set()


def free_port():
    """A port that nothing listens on and that was not given out before. Not an ephemeral one: until somebody listens there, it could become the near end of
    any connection."""
    while True:
        port = random.randrange(10000, 20000)
        if port in _ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports.add(port)
        return port


def free_range(size=40):
    """The first port of a range below the ephemeral ones in which every port can be bound. Another process begins elsewhere."""
    slots = 10000 // size
    for i in range(slots):
        first = 20000 + (os.getpid() * 7 + i) % slots * size
        if not _ports.isdisjoint(range(first, first + size)):
            continue
        try:
            for port in range(first, first + size):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        _ports.update(range(first, first + size))
        return first
    raise LabError("no free range of ports")


class Process:
    """One program. setpriv makes the kernel end it when we die without having said goodbye. Start from the main thread only: the
    kernel takes the end of the starting thread for the end of the parent."""

    def __init__(self, argv, log, env=None, death="TERM", cwd=None):
        self.name, self.log = os.path.basename(argv[0]), log
        with open(log, "ab") as out:
            try:
                self.child = subprocess.Popen(["setpriv", "--pdeathsig", death, "--", *argv], stdin=subprocess.DEVNULL, stdout=out,
                                              stderr=out, env=env, cwd=cwd, start_new_session=True)
            except OSError as error:
                raise LabError(f"cannot start {argv[0]}: {error}") from error
        self.pid = self.child.pid
        at_end(self.stop)

    def running(self):
        return self.child.poll() is None

    def check(self):
        if not self.running():
            raise Ended(f"{self.name} ended with {self.child.returncode}\n{tail(self.log)}")
        return True

    def kill(self, number=signal.SIGKILL):
        if self.running():
            self.child.send_signal(number)

    def wait(self, timeout=30):
        """The exit status, negative for a signal."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} (pid {self.pid}) did not end in {timeout} s") from None

    def stop(self, number=signal.SIGTERM, timeout=30):
        """Asks, waits, and kills where asking was not enough. The exit status."""
        if self.stop in _undo:
            _undo.remove(self.stop)
        self.kill(number)
        try:
            return self.wait(timeout)
        except LabError:
            self.kill()
            self.wait(10)
            raise
