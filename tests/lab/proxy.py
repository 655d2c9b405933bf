# SPDX-License-Identifier: Apache-2.0
"""A man in the middle that does as told: in front of devcp over TLS, or in front of dockerd on a unix socket.

Exchanges are passed on byte for byte, streams included, until a rule says otherwise:
    proxy.on("POST", r"/containers/create", drop_after())               the engine creates, its answer never arrives; once
    proxy.on("GET", r"/jobs", reply(503, {"Retry-After": "2"}), times=3)  three polls are turned away, devcp never sees them
    rule = proxy.on("POST", r"/start$", before(agent.kill))             the agent dies with the call on its way; rule.wait(10)
The first matching rule with times left is used. refuse() makes the listener go away, accept() brings it back."""

import itertools
import os
import re
import select
import socket
import ssl
import threading
import time

from proc import LabError, at_end, free_port

HEAD_MAX, WAIT = 65536, 900                                # seconds; an engine whose containers rest says nothing for longer than three minutes


class Closed(Exception):
    """One side went away."""


class Stream:
    """A socket with a buffer behind it: reads up to a mark, an exact size, or whatever comes. With a peer, the peer's hanging up ends
    the wait for data."""

    def __init__(self, sock, peer=None):
        sock.settimeout(WAIT)
        self.sock, self.peer, self.buffer = sock, peer, b""

    def await_data(self):
        while not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            readable, _, _ = select.select([self.sock] + ([self.peer.sock] if self.peer else []), [], [], WAIT)
            if not readable:
                raise Closed
            if self.peer and self.peer.sock in readable:
                self.peer.fill()
            if self.sock in readable:
                return

    def some(self):
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        self.await_data()
        return self.sock.recv(65536)

    def fill(self):
        self.await_data()
        data = self.sock.recv(65536)
        if not data:
            raise Closed
        self.buffer += data

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_MAX:
                raise LabError("a head larger than 64 KiB")
            self.fill()
            if self.buffer[0] == 0x16:
                raise Closed                                # TLS, where plain HTTP is spoken: an engine tries that first
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head + b"\r\n\r\n"

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line + b"\r\n"

    def exactly(self, size):
        while len(self.buffer) < size:
            self.fill()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


def headers_of(head):
    pairs = (line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return {name.strip().decode("latin-1").lower(): value.strip().decode("latin-1") for name, value in pairs}


def body_parts(stream, headers, closes=False):
    """The raw pieces of a body, framing and all; closes: without a length it lasts until the other side closes."""
    if "chunked" in headers.get("transfer-encoding", ""):
        while True:
            line = stream.line()
            size = int(line.split(b";")[0], 16)
            yield line + stream.exactly(size + 2)
            if size == 0:
                return
    elif "content-length" in headers or not closes:
        left = int(headers.get("content-length", 0))
        while left:
            if not stream.buffer:
                stream.fill()
            data = stream.exactly(min(left, len(stream.buffer)))
            left -= len(data)
            yield data
    else:
        while data := stream.some():
            yield data


class Exchange:
    """One request on its way. An action gets it; forward() asks the server and returns the raw answer; relay() passes the answer on as it
    comes; send() answers the client itself."""

    def __init__(self, client, server, head, body):
        self.client, self.server, self.head, self.body, self.status = client, server, head, body, None
        words = head.split(b"\r\n")[0].decode("latin-1").split(" ")
        self.method, self.path = words[0], words[1]
        self.headers, self.at = headers_of(head), time.monotonic()
        self.took = None                                    # seconds, once it has ended

    def ask(self):
        self.server(True).sock.sendall(self.head + self.body)

    def relay(self, limit=None, send=None):
        """limit: cut the line after so many bytes of answer. send: takes each piece in place of the client's socket."""
        send = send or self.client.sock.sendall
        server, sent = self.server(), 0
        head = server.head()
        while head.split(b" ")[1] == b"100":
            head = server.head()
        self.status = int(head.split(b" ")[1])
        headers = headers_of(head)
        bare = self.method == "HEAD" or self.status in (204, 304)
        for data in itertools.chain([head], () if bare else body_parts(server, headers, closes=True)):
            if limit is not None and sent + len(data) > limit:
                send(data[:limit - sent])
                raise Closed
            send(data)
            sent += len(data)
        if not bare and "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", ""):
            raise Closed                                    # the end of the connection was the end of the body

    def forward(self):
        """The server's whole answer: (status, headers, body as framed, head)."""
        self.ask()
        server = self.server()
        head = server.head()
        self.status, headers = int(head.split(b" ")[1]), headers_of(head)
        return self.status, headers, b"".join(body_parts(server, headers, self.status not in (204, 304))), head

    def send(self, status, headers=None, body=b"", reason="Said so"):
        body = body.encode() if isinstance(body, str) else body
        lines = {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}
        head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        self.status = status
        self.client.sock.sendall(head.encode() + b"\r\n" + body)


# What a rule can do. Each is a function of the exchange; raising Closed cuts the connection.

def reply(status, headers=None, body=b"{}"):
    """An answer of our own; the server is not asked. A header with value None is left out."""
    return lambda x: x.send(status, headers, body)


def drop_before():
    def act(_exchange):
        raise Closed
    return act


def drop_after():
    """The server does it; its answer is lost."""
    def act(exchange):
        exchange.forward()
        raise Closed
    return act


def cut(size):
    """The connection ends after that many bytes of the answer, head included."""
    def act(exchange):
        exchange.ask()
        exchange.relay(size)
        raise Closed
    return act


def throttle(rate, stall_at=None):
    """The answer comes at so many bytes a second; stall_at: nothing comes any more after so many, and the connection stays."""
    def act(exchange):
        began, sent = time.monotonic(), 0

        def send(data):
            nonlocal sent
            for at in range(0, len(data), 4096):
                if stall_at is not None and sent >= stall_at:
                    exchange.client.await_data()            # until the client gives up
                    raise Closed
                piece = data[at:at + 4096]
                exchange.client.sock.sendall(piece)
                sent += len(piece)
                time.sleep(max(0, sent / rate - (time.monotonic() - began)))
        exchange.ask()
        exchange.relay(send=send)
    return act


def delay(seconds, after=False):
    def act(exchange):
        if not after:
            time.sleep(seconds)
        exchange.ask()
        if after:
            exchange.server().await_data()
            time.sleep(seconds)
        exchange.relay()
    return act


def before(call):
    """call() first, then the request is passed on, where anyone is left to have it."""
    def act(exchange):
        call()
        exchange.ask()
        exchange.relay()
    return act


def after(call):
    """The server has done it and answered; call(), then the answer is passed on."""
    def act(exchange):
        _status, _headers, body, head = exchange.forward()
        call()
        exchange.client.sock.sendall(head + body)
    return act


def edit(change):
    """change(status, body bytes) → (status, body bytes). For answers with a Content-Length."""
    def act(exchange):
        status, headers, body, _head = exchange.forward()
        if "chunked" in headers.get("transfer-encoding", ""):
            raise LabError("edit() of a chunked answer")
        status, body = change(status, body)
        exchange.send(status, {k: v for k, v in headers.items() if k not in ("content-length", "connection")}
                      | {"Content-Length": str(len(body))}, body)
    return act


def raw(pieces):
    """Bytes as they are, each piece (bytes, pause in seconds), then the end of the connection."""
    def act(exchange):
        for data, pause in pieces:
            exchange.client.sock.sendall(data)
            time.sleep(pause)
        raise Closed
    return act


class Rule:
    def __init__(self, method, path, act, nth, times):
        self.method, self.path, self.act, self.nth, self.times = method, re.compile(path), act, nth, times
        self.seen = self.hits = 0
        self.event = threading.Event()

    def wants(self, exchange):
        if exchange.method != self.method or not self.path.search(exchange.path):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True

    def wait(self, timeout=30):
        """Until it has been used once and its action is over."""
        if not self.event.wait(timeout):
            raise LabError(f"no {self.method} {self.path.pattern} in {timeout} s")


class Proxy:
    """listen, upstream: a path of a unix socket or a (host, port); listen None takes a free loopback port. certificate: (cert, key) to
    speak TLS with the client; ca: to speak TLS with the server, verified."""

    def __init__(self, upstream, listen=None, certificate=None, ca=None):
        self.upstream, self.address = upstream, listen or ("127.0.0.1", free_port())
        self.rules, self.log, self.open = [], [], set()
        self.accepted, self.greet = [], None                # when each connection came; greet(socket) has it before a byte of TLS
        self.lock, self.listener = threading.Lock(), None
        self.tls = self.upstream_tls = None
        if certificate:
            self.certify(*certificate)
        if ca:
            self.upstream_tls = ssl.create_default_context(cafile=ca)
        at_end(self.close)
        self.accept()

    def certify(self, cert, key):
        """Another certificate from the next connection on."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
        self.tls = tls

    @property
    def port(self):
        return self.address[1]

    def on(self, method, path, act, nth=1, times=1):
        """act at the nth matching request and the times - 1 after it; times None: at all of them."""
        rule = Rule(method, path, act, nth, times)
        with self.lock:
            self.rules.append(rule)
        return rule

    def clear(self):
        with self.lock:
            self.rules = []

    def seen(self, method, path):
        """The exchanges so far that match."""
        with self.lock:
            return [x for x in self.log if x.method == method and re.search(path, x.path)]

    def accept(self):
        if self.listener:
            return
        if isinstance(self.address, str):
            if os.path.exists(self.address):
                os.unlink(self.address)
            listener = socket.socket(socket.AF_UNIX)
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(64)
        self.listener = listener
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def refuse(self):
        """Connections are refused and those there are cut."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            if isinstance(self.address, str) and os.path.exists(self.address):
                os.unlink(self.address)
        self.cut()

    def cut(self):
        with self.lock:
            sockets, self.open = self.open, set()
        for sock in sockets:
            hang_up(sock)

    close = refuse

    def _listen(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.accepted.append(time.monotonic())
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _connect(self):
        path = isinstance(self.upstream, str)
        sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        sock.settimeout(10)
        sock.connect(self.upstream)
        if self.upstream_tls:
            sock = self.upstream_tls.wrap_socket(sock, server_hostname=self.upstream[0])
        return self._keep(sock)

    def _keep(self, sock):
        with self.lock:
            self.open.add(sock)
        return sock

    def _serve(self, sock):
        mine = [self._keep(sock)]
        try:
            if self.greet:
                self.greet(sock)
            if self.tls:
                sock.settimeout(10)
                sock = self._keep(self.tls.wrap_socket(sock, server_side=True))
                mine.append(sock)
            client, server = Stream(sock), None

            def upstream(asking=False):
                nonlocal server
                if asking and server and select.select([server.sock], [], [], 0)[0]:
                    server = None                           # it hung up while idle: not a fault anyone asked for
                if not server:
                    server = Stream(self._connect(), client)
                    mine.append(server.sock)
                return server
            while True:
                self._exchange(client, upstream)
        except (Closed, OSError, LabError, ValueError):     # ValueError: select() of what cut() has closed
            pass
        finally:
            with self.lock:
                self.open.difference_update(mine)
            for one in mine:
                hang_up(one)

    def _exchange(self, client, upstream):
        head = client.head()
        if b"100-continue" in head.lower():
            client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"".join(body_parts(client, headers_of(head)))
        exchange = Exchange(client, upstream, head, body)
        with self.lock:
            self.log.append(exchange)
            rule = next((r for r in self.rules if r.wants(exchange)), None)
        try:
            if rule:
                rule.act(exchange)
            else:
                exchange.ask()
                exchange.relay()
        finally:
            exchange.took = time.monotonic() - exchange.at
            if rule:
                rule.event.set()


def hang_up(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        pass
    sock.close()
