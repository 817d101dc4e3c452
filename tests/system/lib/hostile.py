"""hostile: peers that know the protocols and do not keep to them."""
import base64, json, os, socket, struct, time

WS_PATH = "/api/v1/clusters/agent/ws"
DATA, UPDATE, PING, GOAWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class Peer:
    """A WebSocket client over a plain socket."""

    def __init__(self, host, port, path=WS_PATH, token=None, protocol=None, timeout=15, more=""):
        self.s = socket.create_connection((host, port), timeout)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        h = ("GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n" %
             (path, base64.b64encode(os.urandom(16)).decode()))
        if token:
            h += "Authorization: Bearer %s\r\n" % token
        if protocol:
            h += "Sec-WebSocket-Protocol: %s\r\n" % protocol
        self.s.sendall((h + more + "\r\n").encode())
        self.buf = b""
        while b"\r\n\r\n" not in self.buf:
            d = self.s.recv(65536)
            if not d:
                break
            self.buf += d
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        self.status = int(self.head.split()[1]) if self.head else 0

    def frame(self, op, data=b"", fin=True, mask=b"\0\0\0\0", length=None):
        n = len(data) if length is None else length
        b = bytes([(0x80 if fin else 0) | op])
        b += (bytes([0x80 | n]) if n < 126 else struct.pack(">BH", 0x80 | 126, n) if n < 65536
              else struct.pack(">BQ", 0x80 | 127, n))
        return b + mask + data

    def send(self, op, data=b"", **kw):
        self.s.sendall(self.frame(op, data, **kw))

    def text(self, o):
        self.send(1, o if isinstance(o, bytes) else json.dumps(o).encode())

    def binary(self, b):
        self.send(2, b)

    def need(self, n):
        while len(self.buf) < n:
            d = self.s.recv(262144)
            if not d:
                raise EOFError
            self.buf += d
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def recv(self):
        """(opcode, data); raises EOFError at the end."""
        a, b = self.need(2)
        n = b & 127
        if n == 126:
            n, = struct.unpack(">H", self.need(2))
        elif n == 127:
            n, = struct.unpack(">Q", self.need(8))
        return a & 15, self.need(n)

    def message(self, type=None):
        while True:
            op, d = self.recv()
            if op == 9:
                self.send(10, d)
            elif op == 8:
                raise EOFError("close %r" % d)
            elif op == 1:
                m = json.loads(d)
                if type is None or m["type"] == type:
                    return m

    def code(self):
        """The close code that comes in the end, None for a plain end."""
        try:
            while True:
                op, d = self.recv()
                if op == 8:
                    return struct.unpack(">H", d[:2])[0] if len(d) >= 2 else 1005
        except (EOFError, ConnectionError):
            return None

    def close(self):
        self.s.close()


class FakeAgent(Peer):
    """A native agent by token; speaks yamux as the client."""

    def __init__(self, host, port, token, name, resume=None, timeout=15):
        super().__init__(host, port, token=token, protocol="muster.v1", timeout=timeout)
        self.raw, self.streams, self.headers = b"", {}, {}
        if self.status != 101:
            return
        m = {"proto": 1, "min": 1, "features": ["yamux", "exec"], "install_id": "i-" + name,
             "boot_id": "b", "session_id": "s", "policy": {"verbs": "observe,exec", "hash": "0" * 64},
             "stop_epoch": 0, "resume": resume or {"sequence": 0, "commands": []}}
        self.text({"type": "register", "payload": {"agent_id": name, "name": name, "agent_name": name,
                   "agent_type": "x", "version": "1", "hostname": name, "muster": m}})

    def mux(self, type, flags, stream, length, data=b""):
        self.binary(struct.pack(">BBHII", 0, type, flags, stream, length & 0xffffffff) + data)

    def data(self, stream, b, flags=0):
        self.mux(DATA, flags, stream, len(b), b)

    def exec_frame(self, stream, type, payload=b"", flags=0):
        self.data(stream, struct.pack(">BI", type, len(payload)) + payload, flags)

    def pump(self):
        """Next mux frame (type, flags, stream, length, data)."""
        while True:
            if len(self.raw) >= 12:
                v, t, f, s, n = struct.unpack(">BBHII", self.raw[:12])
                if t != DATA:
                    self.raw = self.raw[12:]
                    return t, f, s, n, b""
                if len(self.raw) >= 12 + n:
                    d, self.raw = self.raw[12:12 + n], self.raw[12 + n:]
                    return t, f, s, n, d
            op, d = self.recv()
            if op == 2:
                self.raw += d
            elif op == 9:
                self.send(10, d)
            elif op == 8:
                raise EOFError("close %r" % d)

    def next_exec(self):
        """(stream, header) of the next exec stream; answers SYN."""
        while True:
            t, f, s, n, d = self.pump()
            if t == PING and f & SYN:
                self.mux(PING, ACK, 0, n)
            if f & SYN and s:
                self.mux(UPDATE, ACK, s, 0)
            if t == DATA and s and d:
                b = self.streams.get(s, b"") + d
                self.streams[s] = b
                if s not in self.headers and len(b) >= 4:
                    n = struct.unpack(">H", b[2:4])[0]
                    if len(b) >= 4 + n:
                        self.headers[s] = json.loads(b[4:4 + n])
                        self.streams[s] = b[4 + n:]
                        return s, self.headers[s]
