"""One end of a WebSocket over a raw socket, as strict as the RFCs allow.

Used by ws_suite.py.  It can send what no library would, and it complains
about everything received that RFC 6455 or RFC 7692 forbids.
"""
import base64
import hashlib
import os
import re
import socket
import struct
import time
import zlib

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"


class Failure(Exception):
    """The other side did something wrong."""


def require(ok, text):
    if not ok:
        raise Failure(text)


def accept_for(key):
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def mask_bytes(data, mask):
    """XOR with a repeated mask, by one big integer operation."""
    n = len(data)
    if n == 0:
        return b""
    key = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")


class Deflate:
    """permessage-deflate as agreed: bits and takeover of each direction."""

    def __init__(self, out_bits=15, out_takeover=True, in_bits=15, in_takeover=True):
        self.out_bits, self.out_takeover = out_bits, out_takeover
        self.in_bits, self.in_takeover = in_bits, in_takeover
        self.packer = self.unpacker = None

    def pack(self, data, final=False):
        if self.packer is None or not self.out_takeover:
            self.packer = zlib.compressobj(6, zlib.DEFLATED, -max(self.out_bits, 9))
        if final:
            out = self.packer.compress(data) + self.packer.flush(zlib.Z_FINISH) + b"\0"
            self.packer = None
            return out
        out = self.packer.compress(data) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        require(out.endswith(b"\0\0\xff\xff"), "suite: zlib did not flush")
        return out[:-4]

    def unpack(self, data):
        if self.unpacker is None or not self.in_takeover:
            self.unpacker = zlib.decompressobj(-max(self.in_bits, 9))
        try:
            return self.unpacker.decompress(data + b"\0\0\xff\xff")
        except zlib.error as e:
            raise Failure("compressed message does not unpack: %s" % e)


class Peer:
    def __init__(self, sock, is_client, early=b"", deflate=None, wait=10.0):
        self.sock, self.is_client, self.deflate = sock, is_client, deflate
        self.buf, self.wait, self.eof, self.reset = early, wait, False, False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # Sending ---------------------------------------------------------------

    def frame(self, opcode, payload=b"", fin=True, rsv=0, masked=None, length=None):
        """The bytes of a frame; length lies about the payload's."""
        masked = self.is_client if masked is None else masked
        n = len(payload) if length is None else length
        bit = 0x80 if masked else 0
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        if n < 126:
            head += bytes([bit | n])
        elif n < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", n)
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", n)
        if masked:
            mask = os.urandom(4)
            return head + mask + mask_bytes(payload, mask)
        return head + payload

    def raw(self, data, chop=None, pause=0.0):
        try:
            if chop is None:
                return self.sock.sendall(data)
            for at in range(0, len(data), chop):
                self.sock.sendall(data[at:at + chop])
                if pause:
                    time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what was received tells more

    def send(self, opcode, payload=b"", chop=None, **kw):
        self.raw(self.frame(opcode, payload, **kw), chop)

    def send_packed(self, opcode, payload, cut=None, final=False):
        """A compressed message, in frames of cut bytes."""
        data = self.deflate.pack(payload, final)
        parts = [data] if cut is None else [data[i:i + cut] for i in range(0, len(data), cut)]
        for i, part in enumerate(parts):
            self.send(opcode if i == 0 else CONT, part, fin=i == len(parts) - 1,
                      rsv=4 if i == 0 else 0)

    # Receiving -------------------------------------------------------------

    def fill(self, n, until):
        while len(self.buf) < n:
            left = until - time.monotonic()
            require(left > 0, "nothing came in time")
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(1 << 20)
            except socket.timeout:
                raise Failure("nothing came in time")
            except ConnectionResetError:
                self.reset, more = True, b""
            if not more:
                self.eof = True
                return False
            self.buf += more
        return True

    def recv_frame(self, wait=None):
        """(fin, rsv, opcode, payload), or None at the end."""
        until = time.monotonic() + (self.wait if wait is None else wait)
        if not self.fill(2, until):
            require(not self.buf, "connection ends inside a frame head")
            return None
        first, second = self.buf[0], self.buf[1]
        fin, rsv, opcode = first >> 7, first >> 4 & 7, first & 15
        masked, n = second >> 7, second & 127
        extra = {126: 2, 127: 8}.get(n, 0)
        head = 2 + extra + (4 if masked else 0)
        require(bool(masked) != self.is_client, "frame is masked in the wrong direction")
        require(opcode in (0, 1, 2, 8, 9, 10), "reserved opcode %d" % opcode)
        require(opcode < 8 or (fin and n < 126), "control frame cut or too long")
        require(rsv == 0 or (rsv == 4 and opcode in (1, 2) and self.deflate),
                "reserved bits %d on opcode %d" % (rsv, opcode))
        require(self.fill(head, until), "connection ends inside a frame head")
        if extra:
            n = int.from_bytes(self.buf[2:2 + extra], "big")
            require(n >= (126 if extra == 2 else 65536), "length is not in its shortest form")
        require(self.fill(head + n, until), "connection ends inside a frame")
        payload = self.buf[head:head + n]
        if masked:
            payload = mask_bytes(payload, self.buf[head - 4:head])
        self.buf = self.buf[head + n:]
        return fin, rsv, opcode, payload

    def recv_message(self, wait=None):
        """(opcode, payload) of the next message, control frame or, at the end, None."""
        opcode, packed, parts = None, False, []
        while True:
            f = self.recv_frame(wait)
            if f is None:
                require(opcode is None, "connection ends inside a message")
                return None
            fin, rsv, op, payload = f
            if op >= 8:
                require(opcode is None or op != CLOSE, "close inside a message")
                return op, payload
            require((op == CONT) == (opcode is not None), "fragments out of order")
            require(op != CONT or rsv == 0, "RSV1 on a continuation")
            if opcode is None:
                opcode, packed = op, rsv == 4
            parts.append(payload)
            if fin:
                data = b"".join(parts)
                if packed:
                    data = self.deflate.unpack(data)
                if opcode == TEXT:
                    try:
                        data.decode("utf-8")
                    except UnicodeDecodeError:
                        raise Failure("text is not UTF-8")
                return opcode, data

    def expect(self, opcode, payload, wait=None):
        got = self.recv_message(wait)
        require(got is not None, "connection ended, expected opcode %d" % opcode)
        require(got[0] == opcode, "opcode %d, expected %d (%r)" % (got[0], opcode, got[1][:60]))
        require(got[1] == payload, "payload differs: %r (%d bytes), expected %r (%d bytes)" %
                (got[1][:40], len(got[1]), payload[:40], len(payload)))

    def expect_close(self, codes, wait=None):
        """A close frame with one of the codes (None: without code)."""
        got = self.recv_message(wait)
        require(got is not None, "connection %s without a close frame, expected %s" %
                ("was reset" if self.reset else "ended", codes))
        require(got[0] == CLOSE, "opcode %d %r instead of close" % (got[0], got[1][:40]))
        require(len(got[1]) != 1, "close frame with one byte")
        code = struct.unpack(">H", got[1][:2])[0] if got[1] else None
        try:
            got[1][2:].decode("utf-8")
        except UnicodeDecodeError:
            raise Failure("close reason is not UTF-8")
        require(code in codes, "closed with %s, expected %s" % (code, codes))

    def expect_end(self):
        """Nothing more but the end of the connection, which a server makes."""
        if not self.is_client:
            self.sock.shutdown(socket.SHUT_WR)
        got = self.recv_message(5.0)
        require(got is None, "opcode %d after the close" % (got[0] if got else 0))

    def expect_fail(self, *codes, wait=None):
        """The other side fails the connection (RFC 6455 7.1.7)."""
        self.expect_close(codes, wait)
        self.send(CLOSE, struct.pack(">H", codes[0]))
        self.expect_end()

    def finish(self, code=1000, reason=b""):
        """Close cleanly: the code is echoed, then the connection ends."""
        self.send(CLOSE, struct.pack(">H", code) + reason)
        self.expect_close((code,))
        self.expect_end()


# HTTP ------------------------------------------------------------------------

def read_head(sock, wait=10.0):
    """(first line, [(lower name, value)], bytes after the head)."""
    buf, until = b"", time.monotonic() + wait
    while b"\r\n\r\n" not in buf:
        sock.settimeout(max(0.01, until - time.monotonic()))
        try:
            more = sock.recv(65536)
        except socket.timeout:
            raise Failure("no HTTP head in time")
        except ConnectionResetError:
            more = b""
        require(more, "connection ended before an HTTP head")
        buf += more
    head, rest = buf.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    fields = []
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields.append((name.lower().decode("ascii"), value.strip().decode("latin-1")))
    return lines[0].decode("latin-1"), fields, rest


def field(fields, name):
    """All values of a field, joined; None when absent."""
    values = [v for n, v in fields if n == name]
    return ", ".join(values) if values else None


def parse_extensions(text):
    """[(name, [(param, value or None)])], strict."""
    out = []
    for ext in (text or "").split(","):
        parts = [p.strip() for p in ext.split(";")]
        if parts == [""]:
            continue
        require(re.fullmatch(TOKEN, parts[0]), "extension name %r" % parts[0])
        params = []
        for p in parts[1:]:
            m = re.fullmatch(r"(%s)(?:\s*=\s*(?:\"(%s)\"|(%s)))?" % (TOKEN, TOKEN, TOKEN), p)
            require(m, "extension parameter %r" % p)
            params.append((m.group(1), m.group(2) or m.group(3)))
        require(len(set(n for n, _ in params)) == len(params), "parameter repeated in %r" % ext)
        out.append((parts[0], params))
    return out
