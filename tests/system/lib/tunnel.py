"""A tool that forwards: a WebSocket at /api/v1/tunnel with a yamux session
(docs/protocol/muster.md, 9), and small services to reach by it."""

import contextlib
import json
import socket
import socketserver
import struct
import threading

from harness import check, equal, until

TCP, UDP = 1, 2
DATA, WINDOW, PING, GOAWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
WINDOW_SIZE = 256 * 1024
PATIENCE = 30


class Stream:
    def __init__(self, tool, ident):
        self.tool, self.id = tool, ident
        self.cond = threading.Condition(tool.lock)
        self.got = bytearray()
        self.window = WINDOW_SIZE
        self.owed = 0
        self.fin = self.rst = self.hold = False

    def ended(self):
        return self.fin or self.rst

    def read(self, n):
        """Exactly so many bytes."""
        with self.cond:
            check(self.cond.wait_for(lambda: len(self.got) >= n or self.ended(), PATIENCE),
                  "%d of %d bytes" % (len(self.got), n))
            check(len(self.got) >= n, "ended after %d of %d bytes" % (len(self.got), n))
            out = bytes(self.got[:n])
            del self.got[:n]
            return out

    def rest(self):
        """All until the end."""
        with self.cond:
            check(self.cond.wait_for(self.ended, PATIENCE), "no end")
            check(not self.rst, "reset")
            return bytes(self.got)

    def write(self, data):
        view = memoryview(data)
        while view:
            with self.cond:
                check(self.cond.wait_for(lambda: self.window > 0 or self.rst, PATIENCE), "no window")
                check(not self.rst, "reset")
                n = min(len(view), self.window, 65536)
                self.window -= n
            self.tool.frame(DATA, 0, self.id, n, view[:n])
            view = view[n:]

    def finish(self):
        self.tool.frame(DATA, FIN, self.id, 0)

    def reset(self):
        self.tool.frame(WINDOW, RST, self.id, 0)

    def answer(self):
        version, status, n = struct.unpack(">BBH", self.read(4))
        equal(version, 2)
        return status, json.loads(self.read(n))

    def yes(self):
        status, what = self.answer()
        equal(status, 0, what)
        return what

    def no(self, code, hop):
        status, what = self.answer()
        equal((status, what["code"], what["hop"]), (1, code, hop), what)
        self.rest()
        self.finish()
        return what

    def say_yes(self):
        self.write(struct.pack(">BBH", 2, 0, 2) + b"{}")

    def datagram(self):
        return self.read(struct.unpack(">H", self.read(2))[0])

    def send(self, data):
        self.write(struct.pack(">H", len(data)) + data)


class Tool:
    def __init__(self, d, token=None):
        self.lock = threading.RLock()
        self.out = threading.Lock()
        self.streams, self.offered = {}, []
        self.next_id = 1
        self.code = self.reason = None
        self.over = threading.Event()
        self.s = d.connect()
        self.s.settimeout(None)
        self.s.sendall((
            "GET /api/v1/tunnel HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Protocol: muster.tunnel.v1\r\n"
            "Authorization: Bearer %s\r\n\r\n" % (token or d.token)).encode())
        self.f = self.s.makefile("rb", 1 << 20)
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            line = self.f.readline()
            check(line, "no answer to the handshake")
            self.head += line
        self.status = int(self.head.split()[1])
        if self.status == 101:
            threading.Thread(target=self.run, daemon=True).start()

    # Out: the mask is zero, so masking is nothing to do.
    def message(self, opcode, payload):
        n = len(payload)
        head = bytes([0x80 | opcode])
        if n < 126:
            head += bytes([0x80 | n])
        else:
            head += struct.pack(">BH", 0x80 | 126, n) if n < 65536 else struct.pack(">BQ", 0x80 | 127, n)
        with self.out:
            try:
                self.s.sendall(head + b"\0\0\0\0" + payload)
            except OSError:
                pass

    def frame(self, kind, flags, ident, length, payload=b""):
        self.message(2, struct.pack(">BBHII", 0, kind, flags, ident, length) + bytes(payload))

    def open(self, kind=TCP, **order):
        text = json.dumps(order).encode()
        with self.lock:
            s = Stream(self, self.next_id)
            self.next_id += 2
            self.streams[s.id] = s
            head = struct.pack(">BBH", 2, kind, len(text)) + text
            s.window -= len(head)
            self.frame(DATA, SYN, s.id, len(head), head)
        return s

    def to(self, port, agent="web-1", host="127.0.0.1", **more):
        return self.open(agent=agent, host=host, port=port, **more)

    def arrival(self):
        """The next stream that the controller opens, and its order."""
        until(lambda: self.offered, "a connection arrives")
        s = self.offered.pop(0)
        version, _, n = struct.unpack(">BBH", s.read(4))
        equal(version, 2)
        return s, json.loads(s.read(n))

    def close(self):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    # In.
    def messages(self):
        while True:
            head = self.f.read(2)
            if len(head) < 2:
                return
            n = head[1] & 127
            if n == 126:
                n = struct.unpack(">H", self.f.read(2))[0]
            elif n == 127:
                n = struct.unpack(">Q", self.f.read(8))[0]
            yield head[0] & 15, self.f.read(n)

    def listen(self):
        pending = bytearray()
        for opcode, payload in self.messages():
            if opcode == 9:
                self.message(10, payload)
            elif opcode == 8:
                self.code, self.reason = struct.unpack(">H", payload[:2])[0], payload[2:].decode()
                self.message(8, payload)
                return
            elif opcode == 2:
                pending += payload
                self.frames(pending)

    def run(self):
        with contextlib.suppress(OSError):
            self.listen()
        self.close()
        with self.lock:
            for s in self.streams.values():
                s.rst = True
                s.cond.notify_all()
        self.over.set()

    def frames(self, pending):
        at = 0
        while len(pending) - at >= 12:
            _, kind, flags, ident, length = struct.unpack_from(">BBHII", pending, at)
            body = length if kind == DATA else 0
            if len(pending) - at < 12 + body:
                break
            if kind == PING and flags & SYN:
                self.frame(PING, ACK, 0, length)
            elif kind in (DATA, WINDOW):
                self.stream_frame(kind, flags, ident, length, bytes(pending[at + 12:at + 12 + body]))
            at += 12 + body
        del pending[:at]

    def stream_frame(self, kind, flags, ident, length, data):
        give = 0
        with self.lock:
            if flags & SYN:
                self.streams[ident] = Stream(self, ident)
                self.offered.append(self.streams[ident])
                self.frame(WINDOW, ACK, ident, 0)
            s = self.streams.get(ident)
            if s is None:
                return
            if kind == WINDOW:
                s.window += length
            s.got += data
            s.owed += len(data)
            s.fin |= bool(flags & FIN)
            s.rst |= bool(flags & RST)
            if not s.hold and s.owed >= WINDOW_SIZE // 2:
                give, s.owed = s.owed, 0
            s.cond.notify_all()
        if give:
            self.frame(WINDOW, 0, ident, give)


class Service:
    """A TCP service whose connections are served by a function."""

    def __init__(self, serve):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    serve(self.request)
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.request_queue_size = 128
        self.server.server_bind()
        self.server.server_activate()
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def echo(s):
    while True:
        data = s.recv(1 << 20)
        if not data:
            return
        s.sendall(data)
