# SPDX-License-Identifier: Apache-2.0
"""Name servers that take every question and answer none, and how a program comes to have them."""

import socket

from proc import at_end

ADDRESSES = ("127.53.0.1", "127.53.0.2", "127.53.0.3")


class SilentNames:
    """mount: shell, run in a mount namespace of its own; wrap: a whole command to run a program under."""

    def __init__(self, where):
        self.path, self.sockets = f"{where}/resolv.conf", []
        for address in ADDRESSES:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)    # several may be silent side by side
            server.bind((address, 53))
            self.sockets.append(server)
        at_end(self.close)
        with open(self.path, "w") as file:
            file.write("".join(f"nameserver {address}\n" for address in ADDRESSES) + "search one.example two.example\n")
        self.mount = f"mount --bind {self.path} /etc/resolv.conf"
        self.wrap = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{self.mount}\nexec "$@"', "sh")

    def close(self):
        for server in self.sockets:
            server.close()
