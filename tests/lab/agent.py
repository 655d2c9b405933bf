# SPDX-License-Identifier: Apache-2.0
"""The agent as systemd would run it: directories and credentials by environment, readiness by datagram, the log on stderr. Its runtime
directory is a tmpfs of its own, since secrets are refused anywhere else."""

import os
import signal
import socket
import subprocess
import uuid

from proc import Process, at_end, tail, wait_for


class Agent:
    def __init__(self, where, short, binary, settings, credentials):
        """settings: what is in agent.conf. credentials: name → text or bytes, for $CREDENTIALS_DIRECTORY. Change both before start()."""
        self.where, self.binary, self.settings, self.credentials = where, binary, settings, credentials
        self.state, self.runtime, self.log = f"{where}/state", f"{short}/run", f"{where}/agent.log"
        self.config, self.process, self.notices, self._notify = f"{where}/agent.conf", None, [], None
        for path, mode in ((where, 0o755), (self.state, 0o700), (self.runtime, 0o755), (f"{where}/credentials", 0o700)):
            os.makedirs(path, mode, exist_ok=True)
        self.runtime_mount()

    def runtime_mount(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755,nosuid,nodev", "tmpfs", self.runtime], check=True)
        at_end(self.runtime_unmount)

    def runtime_unmount(self):
        """What a reboot leaves of the runtime directory: nothing."""
        if os.path.ismount(self.runtime):
            subprocess.run(["umount", "-l", self.runtime], check=True)

    def write(self):
        """agent.conf and the credentials, as the settings say now."""
        with open(self.config, "w") as file:
            file.write("[agent]\n" + "".join(f"{key} = {value}\n" for key, value in self.settings.items() if value is not None))
        for name in os.listdir(f"{self.where}/credentials"):
            os.unlink(f"{self.where}/credentials/{name}")
        for name, value in self.credentials.items():
            if value is not None:
                with open(os.open(f"{self.where}/credentials/{name}", os.O_WRONLY | os.O_CREAT, 0o400), "wb") as file:
                    file.write(value if isinstance(value, bytes) else value.encode())

    def environment(self, extra=None):
        keep = {name: os.environ[name] for name in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
        return keep | {"STATE_DIRECTORY": self.state, "RUNTIME_DIRECTORY": self.runtime,
                       "CREDENTIALS_DIRECTORY": f"{self.where}/credentials"} | (extra or {})

    def start(self, *words, env=None, ready=20, wrap=()):
        """ready: seconds to wait for READY=1; 0 does not wait. wrap: a command to run it under, such as strace."""
        self.write()
        name = f"@mlab-{uuid.uuid4()}"
        if self._notify:
            self._notify.close()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind("\0" + name[1:])
        self.notices = []
        self.process = Process([*wrap, self.binary, "--config", self.config, *words], self.log,
                               self.environment({"NOTIFY_SOCKET": name} | (env or {})), "KILL")
        if ready:
            wait_for(lambda: self.process.check() and self.noticed("READY=1"), ready, "the agent's READY=1")
        return self

    def noticed(self, word):
        """Whether the agent has told its service manager a line that begins with word."""
        while True:
            try:
                self.notices += self._notify.recv(4096).decode().splitlines()
            except BlockingIOError:
                break
        return any(line.startswith(word) for line in self.notices)

    def run(self, *words, env=None, timeout=120):
        """Runs to its end, such as --once or --check: (exit status, output). The log goes to the log."""
        self.write()
        done = subprocess.run([self.binary, "--config", self.config, *words], env=self.environment(env), capture_output=True, text=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        with open(self.log, "a") as log:
            log.write(done.stderr)
        return done.returncode, done.stdout + done.stderr

    def kill(self, number=signal.SIGKILL):
        """At once and without a word. Fit for a proxy's thread; wait() or start() follow from the main one."""
        self.process.kill(number)

    def stop(self, timeout=30):
        """SIGTERM and the exit status."""
        return self.process.stop(timeout=timeout)

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def restart(self, number=signal.SIGTERM, **how):
        self.process.stop(number)
        return self.start(**how)

    def crash(self):
        """Words where it ended by a signal of its own, such as an abort; else None."""
        status = self.process.child.poll() if self.process else None
        if status is None or -status not in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
            return None
        return f"the agent ended by {signal.Signals(-status).name}\n{self.tail()}"

    def said(self):
        """How long the log is: lines(since=…) has what comes from here on."""
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def lines(self, *words, since=0):
        """Log lines that hold all the words."""
        try:
            with open(self.log, errors="replace") as file:
                file.seek(since)
                return [line.rstrip("\n") for line in file if all(word in line for word in words)]
        except FileNotFoundError:
            return []

    def tail(self, lines=40):
        return tail(self.log, lines)
