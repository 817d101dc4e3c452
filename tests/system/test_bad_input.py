#!/usr/bin/python3
"""Hostile and broken input: the protocol's own error, one log line, bounded
memory, and no effect on other peers."""
# timeout: 300

import base64
import hashlib
import json
import os
import re
import resource
import select
import socket
import struct
import time

from harness import WS_PATH, check, equal, main, rss_kib, until

KEY = base64.b64encode(b"0123456789abcdef").decode()
MIB = 1 << 20
STAMP = "2025-10-16T12:00:00Z"
GROWTH = 48 * 1024  # KiB that hostile input may cost at its worst


class Ws:
    """A WebSocket by hand: what is wrong can be said."""

    def __init__(self, d, path, head=""):
        self.s = d.connect()
        self.s.sendall(("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: %s\r\n%s\r\n" % (path, d.port, KEY, head)).encode())
        self.buf = b""
        while b"\r\n\r\n" not in self.buf:
            self._more()
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        check(b" 101 " in head.split(b"\r\n")[0], head)
        accept = base64.b64encode(hashlib.sha1(
            (KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        check(accept in head, head)

    def _more(self):
        piece = self.s.recv(65536)
        if not piece:
            raise ConnectionResetError("closed")
        self.buf += piece

    @staticmethod
    def frame(op, data, fin=True):
        n = len(data)
        head = bytes([(0x80 if fin else 0) | op])
        head += (bytes([0x80 | n]) if n < 126 else bytes([0xfe]) + struct.pack(">H", n)
                 if n < 65536 else bytes([0xff]) + struct.pack(">Q", n))
        return head + b"\0\0\0\0" + data  # a mask of zeros is a mask

    def send(self, op, data, fin=True):
        self.s.sendall(self.frame(op, data, fin))

    def text(self, obj):
        self.send(1, json.dumps(obj).encode())

    def _need(self, n):
        while len(self.buf) < n:
            self._more()

    def recv(self):
        """The next frame: opcode, payload."""
        self._need(2)
        op, n, at = self.buf[0] & 15, self.buf[1], 2
        check(n < 128, "the server masks")
        if n == 126:
            self._need(4)
            n, at = struct.unpack(">H", self.buf[2:4])[0], 4
        elif n == 127:
            self._need(10)
            n, at = struct.unpack(">Q", self.buf[2:10])[0], 10
        self._need(at + n)
        data, self.buf = self.buf[at:at + n], self.buf[at + n:]
        return op, data

    def hear(self):
        while True:
            op, data = self.recv()
            if op == 1:
                return json.loads(data)
            check(op in (9, 10), "frame", op, data)

    def register(self, ident):
        self.text({"type": "register", "payload": {"agent_id": ident, "name": ident}, "timestamp": STAMP})
        m = self.hear()
        equal(m["type"], "register_success", str(m))
        return m["payload"]

    def close_code(self):
        """Read until the close frame; 0 for an end without one."""
        try:
            while True:
                op, data = self.recv()
                if op == 8:
                    return struct.unpack(">H", data[:2])[0] if data else 1005
        except OSError:
            return 0


class Watch:
    """A well-behaved agent beside the trouble, and the memory meanwhile."""

    def __init__(self, d):
        self.d = d
        self.token = d.make_token("watch")
        self.ws = Ws(d, WS_PATH + "?token=" + self.token)
        self.ws.register("good-neighbour")
        self.before = rss_kib(d.pid)

    def fine(self, growth=GROWTH):
        start = time.monotonic()
        self.ws.text({"type": "ping", "request_id": "r", "payload": {}, "timestamp": STAMP})
        equal(self.ws.hear()["type"], "pong")
        took = time.monotonic() - start
        check(took < 2, "the neighbour waited %.1f s" % took)
        now = rss_kib(self.d.pid)
        check(now - self.before < growth, "memory grew by %d KiB" % (now - self.before))
        equal(self.d.agent("good-neighbour")["status"], "online")


def link(d, token=None, path=None):
    return Ws(d, path or WS_PATH + "?token=" + (token or d.make_token()))


def test_json(t):
    d = t.musterd()
    w = Watch(d)
    a = link(d)
    a.register("x")
    deep = b"[" * 1000000
    # Within a message's size, so that the reader has to refuse it.
    for text in (deep, deep + b"]" * 1000000 if len(deep) * 2 < MIB else deep, b'{"a":' * 200000,
                 b'{"type":"ping","payload":{"n":1e999},"timestamp":"%s"}' % STAMP.encode(),
                 b'{"type":"ping","payload":{"n":-1e999},"timestamp":"%s"}' % STAMP.encode(),
                 b'{"type":"ping\\u0000","payload":{},"timestamp":"%s"}' % STAMP.encode(),
                 b'{"type":"register","payload":{"agent_id":"x","name":"a\\u0000b"},"timestamp":"%s"}'
                 % STAMP.encode(),
                 b'\0', b'{"type":"ping","payload":{"x":"\\ud800"},"timestamp":"x"}',
                 b'{"type":"ping","payload":{"x":"\\udc00\\ud800"},"timestamp":"x"}',
                 b'{"type":"ping","type":"pong","payload":{},"timestamp":"x"}',
                 b'{"type":"ping","payload":{"a":1,"a":2},"timestamp":"x"}',
                 b'{"type":"ping","payload":{"\\u0061":1,"a":2},"timestamp":"x"}'):
        a.send(1, text)
        m = a.hear()
        # What stands where nothing is read may be odd and is passed over.
        if b'"n":' in text or b'"x":' in text:
            equal(m["type"], "pong", repr(text[:60]))
            continue
        equal(m["type"], "error", repr(text[:60]))
        check(m["payload"]["code"], m)
    a.send(1, b'{"type":"ping","payload":{},"timestamp":"x","z":' + b"9" * 100000 + b"}")
    check(a.hear()["type"] in ("pong", "error"), "a long number")
    w.fine()


def test_invalid_utf8_is_1007(t):
    d = t.musterd()
    w = Watch(d)
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b'{"type":"\xe2\x82'):
        a = link(d)
        a.send(1, bad)
        equal(a.close_code(), 1007, repr(bad))
    # Fail fast: before the message is whole.
    a = link(d)
    a.send(1, b"abc\xff", fin=False)
    equal(a.close_code(), 1007)
    w.fine()


def test_100_mb_message(t):
    """Refused by its header; what follows is not kept."""
    d = t.musterd("--dev")
    w = Watch(d)
    for path, limit in ((None, MIB), ("/dev/echo", 16 * MIB)):
        a = link(d, w.token, path=path)
        if path is None:
            a.register("big")
        head = bytes([0x81, 0xff]) + struct.pack(">Q", 100 * MIB) + b"\0\0\0\0"
        try:
            a.s.sendall(head)
            piece = b"x" * 65536
            for _ in range(1600):
                a.s.sendall(piece)
                if select.select([a.s], [], [], 0)[0]:
                    break
        except OSError:
            pass
        check(a.close_code() in (1009, 0), "code")
        w.fine()
        b = link(d, w.token, path=path)
        if path is None:
            b.register("big")
        b.send(1, b"x" * (limit + 1))
        equal(b.close_code(), 1009)
    # And by fragments, none of which is too long.
    a = link(d, path="/dev/echo")
    try:
        a.send(1, b"x" * MIB, fin=False)
        for _ in range(99):
            a.send(0, b"x" * MIB, fin=False)
    except OSError:
        pass
    check(a.close_code() in (1009, 0), "code")
    w.fine()


def test_a_million_fragments(t):
    """Legal, and they cost no more than their bytes."""
    d = t.musterd("--dev")
    w = Watch(d)
    a = link(d, path="/dev/echo")
    one = Ws.frame(0, b"y", fin=False)
    batch = one * 10000
    a.send(1, b"", fin=False)
    for _ in range(100):
        a.s.sendall(batch)
    w.fine()
    a.send(0, b"", fin=True)
    total = 0
    while total < 1000000:
        op, data = a.recv()
        check(op in (0, 1), op)
        check(data == b"y" * len(data), "other bytes")
        total += len(data)
    equal(total, 1000000)
    # Empty ones have no bytes at all.
    a.send(1, b"", fin=False)
    for _ in range(20):
        a.s.sendall(Ws.frame(0, b"", fin=False) * 10000)
    a.send(0, b"end", fin=True)
    equal(a.recv()[1], b"end")
    w.fine()


def test_ping_flood(t):
    """Every ping may be answered; who does not read costs nothing."""
    d = t.musterd()
    w = Watch(d)
    a = link(d)
    flood = Ws.frame(9, b"p" * 125) * 500
    a.s.settimeout(2)
    sent = 0
    try:
        for _ in range(400):
            a.s.sendall(flood)
            sent += 500
    except (socket.timeout, OSError):
        pass
    check(sent >= 500, "nothing was taken")
    w.fine()
    a.s.close()
    w.fine()


def test_slow_head(t):
    """A head has ten seconds, however it trickles."""
    d = t.musterd()
    w = Watch(d)
    start = time.monotonic()
    slow = d.connect()
    slow.settimeout(0.5)
    silent = d.connect()
    silent.settimeout(20)
    got = b""
    for byte in b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100:
        try:
            slow.sendall(bytes([byte]))
            got = slow.recv(1000)
            break
        except socket.timeout:
            check(time.monotonic() - start < 20, "20 s and still listening")
        except OSError:
            break
    check(8 < time.monotonic() - start < 15, "after %.1f s" % (time.monotonic() - start))
    check(got == b"" or b" 408 " in got, got)
    silent.recv(1000)
    check(time.monotonic() - start < 15, "silence has no end")
    w.fine()


def test_big_heads(t):
    d = t.musterd()
    w = Watch(d)
    start = "GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % d.port
    for head in (start + "X: " + "a" * 17000 + "\r\n\r\n",
                 start + "".join("X-%d: y\r\n" % i for i in range(130)) + "\r\n",
                 start + "".join("X-%d: y\r\n" % i for i in range(100000)) + "\r\n"):
        got = d.raw(head.encode())
        check(got.startswith(b"HTTP/1.1 431 ") or got == b"", got[:80])
    got = d.raw(("GET /" + "a" * 17000 + " HTTP/1.1\r\n\r\n").encode())
    check(got[:12] in (b"HTTP/1.1 414", b"HTTP/1.1 431"), got[:80])
    for bad in (b"\0" * 1000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
                b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n",
                b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"SSH-2.0-OpenSSH_9.2\r\n"):
        got = d.raw(bad)
        check(got.startswith(b"HTTP/1.1 400 ") or got == b"", repr(bad[:30]), got[:80])
    w.fine()


def test_claimed_identity(t):
    """An agent that says another's id gets nothing, and changes nothing."""
    d = t.musterd()
    mine, theirs = d.make_token("mine"), d.make_token("theirs")
    a = link(d, mine)
    first = a.register("victim")
    b = link(d, theirs)
    b.text({"type": "register", "payload": {"agent_id": "victim", "name": "thief"}, "timestamp": STAMP})
    m = b.hear()
    equal((m["type"], m["payload"]["code"]), ("error", "AGENT_ID_TAKEN"))
    b.text({"type": "heartbeat", "payload": {"agent_id": "victim", "cluster_id": first["cluster_id"]},
            "timestamp": STAMP})
    equal(b.hear()["type"], "error")
    shown = d.agent("victim")
    equal((shown["name"], shown["status"], shown["cluster_id"]), ("victim", "online", first["cluster_id"]))
    a.text({"type": "ping", "payload": {}, "timestamp": STAMP})
    equal(a.hear()["type"], "pong")


def test_never_reads(t):
    """An agent that asks and never reads is bounded, then gone."""
    d = t.musterd()
    w = Watch(d)
    a = link(d)
    a.register("deaf")
    a.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ask = Ws.frame(1, json.dumps({"type": "ping", "request_id": "r" * 100, "payload": {},
                                  "timestamp": STAMP}).encode()) * 200
    a.s.settimeout(3)
    try:
        for _ in range(1000):
            a.s.sendall(ask)
    except (socket.timeout, OSError):
        pass
    w.fine(growth=48 * 1024)
    # A follower of events that never reads.
    s = d.connect()
    s.sendall(("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
               "\r\n" % (d.port, d.token)).encode())
    for i in range(300):
        d.patch("/api/v1/agents/good-neighbour/labels", {"n": str(i)})
    w.fine(growth=48 * 1024)
    s.close()


def test_gone_in_mid_stream(t):
    d = t.musterd("--dev")
    w = Watch(d)
    for _ in range(50):
        a = link(d, path="/dev/echo")
        a.send(1, b"x" * 500000, fin=False)
        a.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        a.s.close()  # RST
        b = d.connect()
        b.sendall(b"POST /api/v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50000\r\n\r\nxxx")
        b.close()
    until(lambda: b"muster_connections" in d.get("/metrics").body, "metrics")
    w.fine()


def test_half_open(t):
    """A peer that is there no more, and one that half-closed."""
    d = t.musterd()
    w = Watch(d)
    s = d.connect()
    s.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % d.port)
    s.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    check(got.startswith(b"HTTP/1.1 200 "), "a half-closed client is answered", got[:100])
    a = link(d)
    a.register("half")
    a.s.shutdown(socket.SHUT_WR)
    a.s.settimeout(10)
    a.close_code()
    until(lambda: d.agent("half")["status"] != "online", "seen as gone")
    w.fine()


def test_two_credentials(t):
    d = t.musterd()
    a, b = d.make_token("a"), d.make_token("b")
    for head in ("Authorization: Bearer " + b + "\r\n",):
        got = d.raw(("GET %s?token=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n"
                     % (WS_PATH, a, d.port, KEY, head)).encode(), timeout=15)
        check(got.startswith(b"HTTP/1.1 400 "), got[:100])


def test_forged_host(t):
    d = t.musterd()
    for host in ("evil.example", "127.0.0.1.evil.example", "", "a@b", "127.0.0.1:99999", "[::1",
                 "127.0.0.1 x"):
        got = d.raw(("GET /api/v1/whoami HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                     "Connection: close\r\n\r\n" % (host, d.token)).encode(), timeout=15)
        check(got[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 421"), repr(host), got[:60])
        check(b"role" not in got, "answered")
    got = d.raw(("GET http://evil.example/api/v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                 "Authorization: Bearer %s\r\nConnection: close\r\n\r\n" % d.token).encode())
    check(not got.startswith(b"HTTP/1.1 200"), "the target's host counts", got[:100])


def test_token_of_a_logged_error(t):
    d = t.musterd("--log-level", "debug")
    token = d.make_token()
    for bad in ("GET %s?token=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: b\r\n\r\n",
                "GET %s?token=%s HTTP/1.1\r\n\r\n", "GET %s?token=%s\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
                "PUT %s?token=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                "GET %s?%%74oken=%s HTTP/1.1\r\nHost: evil\r\n\r\n",
                "GET %s?token=%s HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n"):
        try:
            d.raw((bad % (WS_PATH, token)).encode(), timeout=12)
        except socket.timeout:
            pass
    check(token[4:] not in d.log(), "a token in the log")
    check(d.log().count("\n") < 200, "more than a line each")


def test_log_injection(t):
    """What agents say cannot make a line of its own in the log."""
    d = t.musterd("--log-level", "debug")
    token = d.make_token()
    a = link(d, token)
    for name in ("x\nerror fake=1", "x\r\nfake", "\x1b[2J", "x\u2028y"):
        a.text({"type": "register", "payload": {"agent_id": "li", "name": name}, "timestamp": STAMP})
        a.hear()
        a.text({"type": name, "payload": {}, "timestamp": STAMP})
        a.hear()
    d.raw(b"GET /\x1b[2J HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: a\x1b[1mb\r\nConnection: close\r\n\r\n")
    log = d.log()
    check("\x1b" not in log, "control characters")
    check(not re.search(r"^(error )?fake", log, re.M), "a forged line")


def test_ten_thousand_silent(t):
    """Connections that send nothing end by themselves; others are served."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    want = min(10000, hard - 500)
    d = t.musterd()
    w = Watch(d)
    sockets = []
    source = 2
    try:
        while len(sockets) < want:
            s = socket.socket()
            s.bind(("127.0.0.%d" % source, 0))
            s.settimeout(5)
            s.connect(("127.0.0.1", d.port))
            sockets.append(s)
            if len(sockets) % 150 == 0:  # under the bound of one source
                source = source % 250 + 1
                if source == 1:
                    source = 2
    except OSError:
        check(len(sockets) > 1000, "only %d" % len(sockets))
    w.fine()
    poller = select.poll()
    for s in sockets:
        poller.register(s, select.POLLIN)
    ended = set()
    end = time.monotonic() + 25
    while len(ended) < len(sockets) and time.monotonic() < end:
        for fd, _ in poller.poll(500):
            ended.add(fd)
            poller.unregister(fd)
    equal(len(ended), len(sockets), "silent ones that still live")
    for s in sockets:
        s.close()
    w.fine()


def test_out_of_files(t):
    """accept survives EMFILE without spinning."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
    d = t.musterd(preexec_fn=few)
    many = []
    for _ in range(150):
        try:
            many.append(d.connect())
        except ConnectionResetError:
            pass  # refused at once, which is as good
    with open("/proc/%d/stat" % d.pid) as f:
        before = sum(int(x) for x in f.read().rpartition(")")[2].split()[11:13])
    start = time.monotonic()
    until(lambda: time.monotonic() - start > 1, "one second of it")
    with open("/proc/%d/stat" % d.pid) as f:
        spent = sum(int(x) for x in f.read().rpartition(")")[2].split()[11:13]) - before
    check(spent < 50 * os.sysconf("SC_CLK_TCK") / 100, "spins: %d ticks" % spent)
    for s in many:
        s.close()

    def serves():
        try:
            return d.get("/health", timeout=3).status == 200
        except OSError:
            return False
    until(serves, "serves again")
    check(len(d.log()) < 20000, "logs without end")


main(globals())
