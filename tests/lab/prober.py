# SPDX-License-Identifier: Apache-2.0
"""How long a workspace does not answer: the longest time between two good answers of its page."""

import socket
import threading
import time

from proc import LabError


class Prober:
    """Asks for a page every so often (seconds) and keeps the times of the good answers."""

    def __init__(self, port, every=0.005, patience=0.25):
        """patience: seconds until a question without an answer is given up for the next."""
        self.port, self.every, self.patience, self.good, self.over = port, every, patience, [], threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _work(self):
        while not self.over.is_set():
            began = time.monotonic()
            if self._ask():
                self.good.append(time.monotonic())
            time.sleep(max(0, began + self.every - time.monotonic()))

    def _ask(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), self.patience) as link:
                link.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return link.recv(64).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False

    def gap(self):
        """The longest time without a good answer between two good ones."""
        if len(self.good) < 20:
            raise LabError(f"only {len(self.good)} good answers were seen")
        return max(after - before for before, after in zip(self.good, self.good[1:]))
