"""A controller made of scripts, for tests of the command line.

Speaks enough HTTP/1.1 and WebSocket to say right and wrong things on purpose.
Every wait is bounded by PATIENCE.
"""

import base64
import hashlib
import json
import re
import socket
import ssl
import struct
import threading

PATIENCE = 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
STARTED, STDOUT, STDERR, STDIN_ACK, GAP = 1, 2, 3, 5, 7
STDIN, STDIN_EOF, SIGNAL = 16, 17, 19


class Gone(Exception):
    """The other side has closed."""


class Request:
    def __init__(self, conn, method, target, fields, body):
        self.conn, self.method, self.target = conn, method, target
        self.fields, self.body = fields, body
        self.path = target.split("?")[0]
        self.query = target.partition("?")[2]

    def json(self):
        return json.loads(self.body)


class Conn:
    """One connection: buffered reading, plain writing."""

    def __init__(self, sock):
        sock.settimeout(PATIENCE)
        self.sock, self.have = sock, b""

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise Gone()
        self.have += piece

    def take(self, n):
        while len(self.have) < n:
            self.more()
        out, self.have = self.have[:n], self.have[n:]
        return out

    def head(self):
        while b"\r\n\r\n" not in self.have:
            self.more()
        text, _, self.have = self.have.partition(b"\r\n\r\n")
        return text.decode("latin-1")

    def request(self):
        lines = self.head().split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        body = self.take(int(fields.get("content-length", 0)))
        return Request(self, method, target, fields, body)

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, status, body=b"", kind="application/json", **fields):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = ["HTTP/1.1 %d Because" % status, "Content-Type: " + kind]
        if status != 204:
            lines.append("Content-Length: %d" % len(body))
        lines += ["%s: %s" % (k.replace("_", "-"), v) for k, v in fields.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


class WebSocket:
    """The server's side, after a correct handshake."""

    def __init__(self, request, protocol="muster.exec.v1"):
        self.conn, self.request = request.conn, request
        key = request.fields["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Accept: " + accept]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        self.conn.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def frame(self, opcode, payload, fin=True):
        first = (128 if fin else 0) | opcode
        n = len(payload)
        if n < 126:
            return struct.pack(">BB", first, n) + payload
        if n < 65536:
            return struct.pack(">BBH", first, 126, n) + payload
        return struct.pack(">BBQ", first, 127, n) + payload

    def send(self, opcode, payload):
        self.conn.send(self.frame(opcode, payload))

    def words(self, **members):
        self.send(TEXT, json.dumps(members).encode())

    def bulk(self, kind, offset, data):
        self.send(BINARY, struct.pack(">BQ", kind, offset) + data)

    def ack(self, consumed, limit):
        self.send(BINARY, struct.pack(">BQQ", STDIN_ACK, consumed, limit))

    def recv(self):
        """(opcode, payload) of the next frame."""
        first, second = self.conn.take(2)
        n = second & 127
        if not second & 128:
            raise AssertionError("a client's frame is not masked")
        if n == 126:
            n = struct.unpack(">H", self.conn.take(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.conn.take(8))[0]
        mask = self.conn.take(4)
        body = bytearray(self.conn.take(n))
        for i in range(len(body)):
            body[i] ^= mask[i & 3]
        return first & 15, bytes(body)

    def message(self):
        """The next message that is no control frame; None for a close."""
        while True:
            opcode, body = self.recv()
            if opcode == PING:
                self.send(PONG, body)
            elif opcode == CLOSE:
                self.send(CLOSE, body)
                return None
            elif opcode != PONG:
                return body

    def ended(self, **members):
        command = {"schema": "muster.command/1", "id": "cmd_1", "state": "completed", "exit_code": 0,
                   "signal": None, "code": "", "why": ""}
        command.update(members)
        self.words(type="ended", command=command)
        self.finish()

    def finish(self):
        self.send(CLOSE, struct.pack(">H", 1000))
        try:
            while self.recv()[0] != CLOSE:
                pass
        except (Gone, OSError):
            pass

    def accept(self):
        """Read the request and accept it."""
        ask = json.loads(self.message())
        self.words(type="accepted", id="cmd_1", agent_id="agt_1")
        self.send(BINARY, bytes([STARTED]) + b'{"pid":1}')
        return ask


class Server:
    """routes: a list of (method, pattern of the target, handler).  A handler
    gets the request and answers on request.conn; what it returns, if
    anything, is answered as JSON with 200."""

    def __init__(self, *routes, tls=None):
        self.routes, self.seen, self.failures, self.tls = routes, [], [], tls
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.port)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock = self.sock.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            with sock:
                if self.tls:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(*self.tls)
                    sock = context.wrap_socket(sock, server_side=True)
                conn = Conn(sock)
                while self.one(conn):
                    pass
        except (Gone, ConnectionError, ssl.SSLError):
            pass
        except Exception as e:  # told to the test at the end
            self.failures.append(e)

    def one(self, conn):
        request = conn.request()
        self.seen.append(request)
        for method, pattern, handler in self.routes:
            if method == request.method and re.fullmatch(pattern, request.target):
                out = handler(request)
                if out is not None:
                    conn.answer(200, out)
                return "upgrade" not in request.fields
        conn.answer(404, problem(404, "NOT_FOUND", "there is no such thing"))
        return True

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        # The thread must be out of accept before its descriptor can be
        # another server's.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(PATIENCE)
        self.sock.close()
        if kind is None and self.failures:
            raise self.failures[0]


def problem(status, code, detail):
    return {"type": "about:blank", "title": "A title", "status": status, "detail": detail, "code": code,
            "request_id": "req_77"}


def refuse(status, code="", detail="because", **fields):
    return lambda r: r.conn.answer(status, problem(status, code, detail), "application/problem+json", **fields)
