# SPDX-License-Identifier: Apache-2.0
"""What a control plane, or whatever has taken its place, may do to the agent that asks it: one table, SCRIPTS. Each row is an action of
proxy.py at one of the agent's requests, and what the agent makes of it. Wherever a script says something of its own, MARK is in it: a value
that must never be found among the agent's words."""

import base64
import dataclasses
import gzip
import json
import socket
import struct
import time

from proxy import Closed, drop_before, raw, reply

MARK = "hush-hostile-7d1f"
JSON = b"Content-Type: application/json\r\n"
NOBODY = "00000000-0000-4000-8000-000000000001"
REQUESTS = {"register": ("POST", "/hosts$"), "poll": ("GET", "/jobs"), "reports": ("POST", "/reports"), "health": ("POST", "/health"),
            "pins": ("GET", "/pins"), "config": ("GET", "/tenants/config"), "status": ("GET", "/workspaces/")}
LOST = "control_plane_unreachable"


@dataclasses.dataclass
class Script:
    """at: a key of REQUESTS, "greet" (before TLS; act takes the socket) or "tls" (act takes the Proxy and its Plane). code: what the agent
    calls it in its log, a pattern; None: it finds nothing wrong. hits: so often it is done. lasts, least: seconds in which the agent has
    given one up, and not sooner.
    most: MiB that it takes of an answer. grows: MiB of memory above a quiet agent's. pause: seconds that it may wait afterwards."""
    name: str
    at: str
    act: object
    code: str = LOST
    hits: int = 2
    lasts: float = 5
    least: float = 0
    most: float = 4                                       # what the kernel holds on its way is among it
    grows: float = 4
    pause: float = 60


# What can be said. Each answers an action.

def says(body, status=200, **headers):
    """An answer with a length; a header is named with _ for -."""
    return reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def bytes_(*pieces):
    """These bytes, and the end of the connection."""
    return raw([(piece, 0) for piece in pieces])


def holds(*pieces):
    """These bytes, and then nothing until the agent has enough."""
    def act(exchange):
        for piece in pieces:
            exchange.client.sock.sendall(piece)
        exchange.client.await_data()
        raise Closed
    return act


def floods(head, piece, pause=0.0):
    """head, and piece without an end."""
    def act(exchange):
        exchange.sent = 0
        exchange.client.sock.sendall(head)
        while True:
            exchange.client.sock.sendall(piece)
            exchange.sent += len(piece)
            time.sleep(pause)
    return act


def dressed(change):
    """The control plane's own answer, otherwise put: change(head, body) → the bytes to send."""
    def act(exchange):
        _status, _headers, body, head = exchange.forward()
        exchange.client.sock.sendall(change(head, body))
    return act


def with_headers(*lines):
    return dressed(lambda head, body: head[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)


def without(head, *names):
    return b"\r\n".join(line for line in head.split(b"\r\n") if line.split(b":")[0].lower() not in names)


def one_by_one(head, body):
    return (without(head, b"content-length")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"1\r\n" + body[i:i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\n\r\n")


def in_turn(*acts):
    """Another one each time."""
    left = list(acts)

    def act(exchange):
        left.append(left.pop(0))
        left[-1](exchange)
    return act


def reset(exchange):
    """Half an answer, and the connection is torn rather than closed."""
    exchange.client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + JSON + b"\r\n{")
    exchange.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.client.sock.close()
    raise Closed


def chunked(*pieces):
    return b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(pieces)


def sized(size, body=b""):
    return b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: " + str(size).encode() + b"\r\n\r\n" + body


# Before there is HTTP.

def shut(_sock):
    raise Closed


def shut_in_handshake(sock):
    sock.recv(100)
    raise Closed


def speaks_plainly(sock):
    sock.recv(1000)
    sock.sendall(sized(2, b"{}"))
    raise Closed


def stays_silent(sock):
    sock.settimeout(30)
    while sock.recv(1000):
        pass
    raise Closed


def wears(make):
    """Another certificate: make(plane) → (certificate, key)."""
    return lambda proxy, plane: proxy.certify(*make(plane))


def old_tls(proxy, plane):
    import ssl
    proxy.certify(*plane.certificate)
    proxy.tls.set_ciphers("DEFAULT@SECLEVEL=0")
    proxy.tls.minimum_version = proxy.tls.maximum_version = ssl.TLSVersion.TLSv1_1


# What can be delivered.

def jobs(*deliveries, **more):
    return says(json.dumps({"jobs": deliveries, "pins_etag": "", "server_time": "2026-01-01T00:00:00Z"} | more))


def envelope(payload, kind="application/vnd.molecule.job.v1+json", signatures=()):
    payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return {"delivery_id": NOBODY, "envelope": {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": list(signatures)}}


RUBBISH = (None, 7, MARK, [], {}, {"envelope": MARK}, {"envelope": {}}, {"delivery_id": 7, "envelope": {"payload": MARK}}, envelope(b""),
           envelope(b"\xff\xfe"), envelope({"job_id": MARK}), envelope({"type": MARK}), envelope([MARK]), envelope({}, kind=MARK),
           envelope({}, signatures=[{"keyid": MARK, "sig": MARK}]), envelope({}, signatures=[None, 7, MARK]))


def scripts(elsewhere, other):
    """The table. elsewhere: the port of another server, which must never be spoken to; other: an Authority that nobody trusts."""
    away = [f"https://127.0.0.1:{elsewhere}/api/v1/hosts?{MARK}", f"http://127.0.0.1:{elsewhere}/", f"//127.0.0.1:{elsewhere}/x"]
    big = MARK.encode() * 4096
    early = [
        Script("10 GiB announced", "poll", floods(sized(10 << 30), big), hits=1, lasts=25, most=40, grows=64),
        Script("a body without an end", "poll", floods(chunked(), b"%x\r\n%s\r\n" % (len(big), big)), hits=1, lasts=25, most=40, grows=64),
        Script("a byte now and then", "poll", floods(sized(10 << 30), b" ", 0.2), hits=1, lasts=25, least=8),
        Script("chunks of one byte without an end", "poll", floods(chunked(), b"1\r\n{\r\n", 0.1), hits=1, lasts=25, least=8),
        Script("a chunk's extension without an end", "poll", floods(chunked(b"1;"), big, 0.05), hits=1, lasts=25, least=8, most=80),
        Script("nothing after the request", "register", holds(), hits=1, lasts=40, least=20),
        Script("a length that never comes", "register", holds(sized(1000, b"{}")), hits=1, lasts=40, least=20),
        Script("silence in place of TLS", "greet", stays_silent, hits=1, lasts=12, least=5),
    ]
    ends = [
        Script("closed when connected", "greet", shut),
        Script("closed in the handshake", "greet", shut_in_handshake),
        Script("HTTP in place of TLS", "greet", speaks_plainly),
        Script("closed before the answer", "register", drop_before()),
        Script("closed in the status line", "register", bytes_(b"HTTP/1.1 2")),
        Script("closed in the headers", "register", bytes_(b"HTTP/1.1 200 OK\r\n" + JSON + b"X-Half: " + MARK.encode())),
        Script("closed before the body", "register", bytes_(sized(100))),
        Script("closed in the body", "register", bytes_(sized(100, b'{"a":"' + MARK.encode()))),
        Script("closed in a chunk", "register", bytes_(chunked(b"64\r\n{"))),
        Script("closed before the last chunk", "register", bytes_(chunked(b"2\r\n{}\r\n"))),
        Script("reset in the body", "register", reset),
    ]
    tls = [
        Script("an expired certificate", "tls", wears(lambda plane: plane.authority.issue("old", days=0)), f"{LOST}|clock_suspect"),
        Script("another's certificate", "tls", wears(lambda plane: plane.authority.issue("name", "DNS:cp.example.com"))),
        Script("a certificate by nobody known", "tls", wears(lambda plane: other.issue("cp"))),
        Script("an authority's own certificate", "tls", wears(lambda plane: (other.ca, other.key))),
        Script("TLS 1.1", "tls", old_tls),
    ]
    http = [
        Script("headers without an end", "register", floods(b"HTTP/1.1 200 OK\r\n", b"X-%s: y\r\n" % MARK.encode() * 500)),
        Script("a header without an end", "register", floods(b"HTTP/1.1 200 OK\r\nX: ", big)),
        Script("trailers without an end", "register", floods(chunked(b"2\r\n{}\r\n0\r\n"), b"X-%s: y\r\n" % MARK.encode() * 500)),
        Script("interim answers without an end", "register", floods(b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 500)),
        Script("continue without an end", "register", floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500)),
        Script("another protocol", "register", bytes_(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + big)),
        Script("a body beyond a register's", "register", floods(sized(10 << 30), big), most=6, grows=8),
        Script("more than its length", "register", bytes_(sized(2, b'{"a":"' + MARK.encode() + b'"}'))),
        Script("two lengths", "register", bytes_(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n" + JSON + b"\r\n{}")),
        Script("a negative length", "register", bytes_(sized(-2, b"{}"))),
        Script("a length beyond numbers", "register", bytes_(sized(10 ** 30, b"{"))),
        Script("a chunk's size that is none", "register", bytes_(chunked(MARK.encode() + b"\r\n{}\r\n"))),
        Script("a chunk's size beyond numbers", "register", bytes_(chunked(b"fffffffffffffffff\r\n{}\r\n"))),
        Script("HTTP/0.9", "register", bytes_(b"<p>" + big)),
        Script("the beginning of HTTP/2", "register", bytes_(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64" + bytes(9))),
        Script("a version that is none", "register", bytes_(b"HTTP/7.3 200 OK\r\n" + JSON + b"\r\n{}")),
        Script("a status that is none", "register", bytes_(b"HTTP/1.1 2x0 OK\r\n" + JSON + b"\r\n{}")),
        Script("redirects", "register", in_turn(*(says("{}", status, Location=away[status % 3]) for status in (301, 302, 303, 307, 308))), hits=3),
        Script("a redirected poll", "poll", in_turn(*(says("{}", status, Location=away[0]) for status in (307, 302)))),
        Script("a redirected health", "health", says("{}", 308, Location=away[0]), None, 1),
        Script("a redirected report", "reports", says("{}", 303, Location=away[0]), None, 1),
        Script("HTML for a report", "reports", says(f"<title>{MARK}</title>", Content_Type="text/html"), None),
        Script("304 that nobody asked for", "register", says("", 304)),
        Script("no content", "register", says("", 204)),
        Script("gzip that nobody asked for", "register", says(gzip.compress(b'{"a":"' + MARK.encode() + b'"}'), Content_Encoding="gzip")),
        Script("HTML", "register", says(f"<!doctype html><title>{MARK}</title>", Content_Type="text/html")),
        Script("JSON that is called text", "register", says('{"wait_seconds":1}', Content_Type="text/plain")),
        Script("JSON that is called nothing", "register", says('{"wait_seconds":1}', Content_Type=None)),
        Script("500 for ever", "register", says(MARK, 500)),
    ]
    texts = [Script(name, "poll", says(text)) for name, text in {
        "truncated JSON": '{"jobs":[{"delivery_id":"' + MARK,
        "no JSON at all": "",
        "deep JSON": "[" * 100_000 + "]" * 100_000,
        "repeated keys": '{"jobs":[],"jobs":["%s"],"pins_etag":""}' % MARK,
        "two values": '{"jobs":[]}{"jobs":["%s"]}' % MARK,
        "a byte order mark": b'\xef\xbb\xbf{"jobs":[]}',
        "NUL in a string": b'{"jobs":[],"pins_etag":"a\\u0000b"}',
        "NUL in the text": b'{"jobs":[]}\0' + MARK.encode(),
        "invalid UTF-8": b'{"jobs":[],"pins_etag":"\xc0\xaf\xed\xa0\x80"}',
        "numbers beyond all": '{"jobs":[],"a":1e999,"b":%s}' % ("9" * 5000),
        "JSON with comments": '{"jobs":[] /* %s */}' % MARK,
    }.items()] + [
        Script("100,000 jobs", "poll", says(json.dumps({"jobs": [{}] * 100_000})), grows=8),
        Script("one string of 31 MiB", "poll", says('{"jobs":[],"a":"%s"}' % ("x" * (31 << 20))), code=None, hits=1, lasts=9, most=40, grows=96),
    ]
    taken = [
        Script("a good answer, byte by byte", "register", dressed(one_by_one), None, 1),
        Script("cookies", "register", with_headers(b"Set-Cookie: a=%s; Path=/; Max-Age=9999" % MARK.encode(), b"Set-Cookie: b=c"), None, 1),
        Script("services elsewhere", "register",
               with_headers(b'Alt-Svc: h2="127.0.0.1:%d"' % elsewhere, *(name + away[0].encode() for name in (b"Refresh: 0; url=", b"Location: "))),
               None, 1),
        Script("an answer to another request", "register", dressed(lambda head, body: head + body + b"HTTP/1.1 200 OK\r\n" + JSON + (
            b"Content-Length: 41\r\n\r\n" + b'{"jobs":["%s"],"pins_etag":""}' % MARK.encode().ljust(14)[:14])), None, 1),
        Script("a Date long ago", "register", dressed(lambda head, body: without(head, b"date")[:-2] + b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
                                                      + body), None, 1),
        Script("a Date far away", "register", dressed(lambda head, body: without(head, b"date")[:-2] + b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n\r\n"
                                                      + body), None, 1),
        Script("rubbish for settings", "register", says(json.dumps({"wait_seconds": -1, "max_jobs": 2 ** 53, "heartbeat_seconds": 0, "org_slug": 7,
                                                                    "host_id": MARK, "challenge": [MARK]})), None, 1),
        Script("null for an answer", "register", says("null"), None, 1),
        Script("jobs that are none", "poll", jobs(*RUBBISH), "bad_json", 1),
        Script("2,000 jobs that are none", "poll", jobs(*[{"delivery_id": NOBODY, "envelope": {"a": MARK}}] * 2000), "bad_json", 1, grows=12),
        Script("jobs that are no list", "poll", in_turn(jobs(jobs={"a": MARK}), jobs(jobs=MARK), jobs(jobs=None), jobs(jobs=7)), None, 4),
        Script("an ETag with headers in it", "poll", jobs(pins_etag=f'"a"\r\nX-{MARK}: 1\r\n\r\nGET /{MARK} HTTP/1.1\r\n' * 9), None),
        Script("pins that are none", "pins", says(json.dumps({"pins": [7, MARK, {"template_name": MARK}]}), ETag='"x"'), None, 1),
        Script("acknowledgements of others' reports", "reports", says(json.dumps({"acked": [7, None, MARK, NOBODY] * 200})), None),
        Script("always the whole health", "health", says('{"need_full":true}'), None, 2, lasts=10),
    ]
    paced = [
        Script("Retry-After that is none", "register", in_turn(*(says("{}", 503, Retry_After=value) for value in
                                                                ("-5", "soon", "", "1.5", "1, 2", "0x10", "Thu, 99 Jan 1970 00:00:00 GMT"))), hits=3),
        Script("Retry-After long ago", "register", says("{}", 503, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")),
        Script("Retry-After without an end", "register", says("{}", 429, Retry_After="1" + "0" * 20), hits=1, pause=1080),
        Script("Retry-After at the end of time", "poll", says("{}", 503, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), hits=1, pause=1080),
        Script("401 for ever", "register", says("{}", 401, WWW_Authenticate=f'Basic realm="{MARK}"'), "auth_rejected", pause=300),
        Script("403 for ever", "poll", says("{}", 403), "auth_rejected", pause=300),
        Script("another protocol's number", "register", says("{}", 426), "unsupported_control_plane", 1, pause=300),
    ]
    return early + paced + http + texts + tls + ends + taken
