#!/usr/bin/env python3
"""WebSocket conformance, by section; RFC 6455 and RFC 7692.

  ws_suite.py server URL          test the echo server at ws://HOST:PORT/PATH
  ws_suite.py client -- ARGV...   test the echo client that "ARGV... URL" starts;
                                  it connects, echoes until closed, and ends

One line for each failure; ends with "N passed, N failed".
Options: --only PREFIX,...  --list  --cap BYTES (longest message; 0 = do not
test the limit)  --known ID,... (failures told of, but not counted)  -v
"""
import argparse
import os
import socket
import struct
import subprocess
import sys
import time
import traceback
from urllib.parse import urlsplit

from ws_peer import (BINARY, CLOSE, CONT, PING, PONG, TEXT, Deflate, Failure, Peer, accept_for,
                     field, parse_extensions, read_head, require)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CASES = []  # (id, what, function, roles, needs)


def case(ident, what, roles="sc", **needs):
    """Register a case; roles: s tests servers, c clients."""
    def add(run):
        CASES.append((ident, what, run, roles, needs))
        return run
    return add


def echo(p, opcode, data, **kw):
    p.send(opcode, data, **kw)
    p.expect(opcode, data)


# 1: framing -------------------------------------------------------------------

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20, 1 << 24]

for i, size in enumerate(SIZES):
    for kind, op, fill in (("1", TEXT, b"*"), ("2", BINARY, b"\xfe")):
        @case("1.%s.%d" % (kind, i + 1), "opcode %d, %d bytes" % (op, size), size=size)
        def _(p, op=op, data=fill * size):
            echo(p, op, data)
            p.finish()

for i, (size, chop) in enumerate([(5, 1), (126, 1), (65535, 997), (65536, 997), (1 << 20, 8191)]):
    @case("1.3.%d" % (i + 1), "%d bytes in writes of %d" % (size, chop), size=size)
    def _(p, size=size, chop=chop):
        echo(p, TEXT, b"c" * size, chop=chop)
        p.finish()


@case("1.4.1", "a burst of 500 messages in one write, in order")
def _(p):
    msgs = [b"%d" % i * (i % 50 + 1) for i in range(500)]
    p.raw(b"".join(p.frame(TEXT, m) for m in msgs))
    for m in msgs:
        p.expect(TEXT, m)
    p.finish()


@case("1.4.2", "a frame masked in the wrong direction fails with 1002")
def _(p):
    p.send(TEXT, b"wrong", masked=not p.is_client)
    p.expect_fail(1002)


@case("1.4.3", "a ping masked in the wrong direction fails with 1002")
def _(p):
    p.send(PING, b"", masked=not p.is_client)
    p.expect_fail(1002)


LONG_LENGTHS = [b"\x7e\x00\x05", b"\x7e\x00\x7d", b"\x7f" + b"\0" * 7 + b"\x05",
                b"\x7f" + b"\0" * 6 + b"\xff\xff", b"\x7f\x80" + b"\0" * 7]
for i, length in enumerate(LONG_LENGTHS):
    @case("1.5.%d" % (i + 1), "length %s: not the shortest, or above 63 bits" % length.hex())
    def _(p, length=length):
        bit = 0x80 if p.is_client else 0
        n = int.from_bytes(length[1:], "big") & 0xffff
        mask = b"\0\0\0\0" if p.is_client else b""
        p.raw(b"\x82" + bytes([length[0] | bit]) + length[1:] + mask + b"x" * n)
        p.expect_close((1002, 1009) if length[1] == 0x80 else (1002,))


# 2: ping and pong -------------------------------------------------------------

PINGS = [b"", b"hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125]
for i, data in enumerate(PINGS):
    for j, chop in enumerate((None, 1)):
        @case("2.%d" % (1 + 2 * i + j), "ping of %d bytes%s" % (len(data), ", octet-wise" if chop else ""))
        def _(p, data=data, chop=chop):
            p.send(PING, data, chop=chop)
            p.expect(PONG, data)
            p.finish()


@case("2.9", "ping of 126 bytes fails with 1002")
def _(p):
    p.send(PING, b"\xfe" * 126)
    p.expect_fail(1002)


@case("2.10", "unsolicited pongs are ignored")
def _(p):
    p.send(PONG)
    p.send(PONG, b"unsolicited")
    p.send(PING, b"real")
    p.expect(PONG, b"real")
    p.finish()


@case("2.11", "ten pings in one write: pongs in order, the last among them")
def _(p):
    p.raw(b"".join(p.frame(PING, b"p%d" % i) for i in range(10)))
    last = -1
    while last < 9:
        got = p.recv_message()
        require(got and got[0] == PONG and got[1][:1] == b"p", "no pong: %r" % (got,))
        n = int(got[1][1:])
        require(n > last, "pong %d after %d" % (n, last))
        last = n
    p.finish()


@case("2.12", "a flood of 20,000 pings is survived, and the last answered")
def _(p):
    for _ in range(20):
        p.raw(b"".join(p.frame(PING, b"x" * 100) for _ in range(1000)))
        while p.recv_message(2)[0] == PONG and len(p.buf) > 300:
            pass
    p.send(PING, b"end")
    while True:
        got = p.recv_message()
        require(got and got[0] == PONG, "no pong: %r" % (got,))
        if got[1] == b"end":
            break
    p.finish()


# 3: reserved bits -------------------------------------------------------------

for rsv in range(1, 8):
    @case("3.1.%d" % rsv, "text with reserved bits %d fails with 1002" % rsv)
    def _(p, rsv=rsv):
        p.send(TEXT, b"hello", rsv=rsv)
        p.expect_fail(1002)

    @case("3.2.%d" % rsv, "the same after a good message, which is answered")
    def _(p, rsv=rsv):
        p.raw(p.frame(TEXT, b"good") + p.frame(BINARY, b"bad", rsv=rsv) + p.frame(PING))
        p.expect(TEXT, b"good")
        p.expect_fail(1002)

    @case("3.3.%d" % rsv, "a ping with reserved bits %d fails, octet-wise too" % rsv)
    def _(p, rsv=rsv):
        p.send(PING, b"p", rsv=rsv, chop=1)
        p.expect_fail(1002)

    @case("3.4.%d" % rsv, "a close with reserved bits %d fails" % rsv)
    def _(p, rsv=rsv):
        p.send(CLOSE, b"", rsv=rsv)
        p.expect_fail(1002)


# 4: opcodes -------------------------------------------------------------------

for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    for j, data in enumerate((b"", b"reserved")):
        @case("4.%d.%d" % (op, 1 + j), "opcode %d with %d bytes fails with 1002" % (op, len(data)))
        def _(p, op=op, data=data):
            p.send(op, data)
            p.expect_fail(1002)

    @case("4.%d.3" % op, "opcode %d after a message, which is answered" % op)
    def _(p, op=op):
        p.raw(p.frame(TEXT, b"good") + p.frame(op) + p.frame(PING))
        p.expect(TEXT, b"good")
        p.expect_fail(1002)


# 5: fragmentation -------------------------------------------------------------

for i, op in enumerate((PING, PONG, CLOSE)):
    @case("5.%d" % (1 + i), "a control frame without FIN fails: opcode %d" % op)
    def _(p, op=op):
        p.raw(p.frame(op, b"", fin=False) + p.frame(CONT, b""))
        p.expect_fail(1002)

FRAGMENTS = [[b"one", b"two"], [b"", b"", b""], [b"", b"x", b""], [b"a"] * 50, [b"x" * 70000, b"y" * 3]]
for i, parts in enumerate(FRAGMENTS):
    for j, chop in enumerate((None, 1 if len(parts[0]) < 100 else 1300)):
        @case("5.4.%d" % (1 + 2 * i + j), "%d fragments%s" % (len(parts), ", chopped" if chop else ""))
        def _(p, parts=parts, chop=chop):
            for op in (TEXT, BINARY):
                frames = [p.frame(op if k == 0 else CONT, part, fin=k == len(parts) - 1)
                          for k, part in enumerate(parts)]
                p.raw(b"".join(frames), chop)
                p.expect(op, b"".join(parts))
            p.finish()

for i, chop in enumerate((None, 1)):
    @case("5.5.%d" % (1 + i), "a ping between fragments is answered at once")
    def _(p, chop=chop):
        p.send(TEXT, b"frag", fin=False, chop=chop)
        p.send(PING, b"mid", chop=chop)
        p.expect(PONG, b"mid")
        p.send(CONT, b"ment", chop=chop)
        p.expect(TEXT, b"fragment")
        p.finish()

for i, (what, frames) in enumerate([
        ("continuation without a message, FIN", [(CONT, True)]),
        ("continuation without a message", [(CONT, False)]),
        ("new text inside a message", [(TEXT, False), (TEXT, True)]),
        ("new binary inside a message", [(TEXT, False), (CONT, False), (BINARY, True)])]):
    @case("5.6.%d" % (1 + i), what + " fails with 1002")
    def _(p, frames=frames):
        p.raw(b"".join(p.frame(op, b"x", fin=fin) for op, fin in frames))
        p.expect_fail(1002)


@case("5.6.5", "continuation after a whole fragmented message fails")
def _(p):
    p.raw(p.frame(TEXT, b"a", fin=False) + p.frame(CONT, b"b") + p.frame(CONT, b"c"))
    p.expect(TEXT, b"ab")
    p.expect_fail(1002)


@case("5.7.1", "fragments with pauses and pings between")
def _(p):
    for k in range(5):
        p.send(TEXT if k == 0 else CONT, b"part%d" % k, fin=False)
        p.send(PING, b"%d" % k)
        p.expect(PONG, b"%d" % k)
        time.sleep(0.02)
    p.send(CONT, b"end")
    p.expect(TEXT, b"part0part1part2part3part4end")
    p.finish()


# 6: UTF-8 ---------------------------------------------------------------------

VALID = ["", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff",
         "\ue000", "\ufffd", "\uffff", "\U00010000", "\U0010ffff", "\ufffe", "\U0001fffe", "\U0010fffe",
         "a" * 15 + "é", "a" * 63 + "€" + "b" * 64 + "😀", "ascii " * 50 + "κόσμε"]
INVALID = ["ce", "cebae1bdb9cf83cebcceb5eda080656469746564", "80", "bf", "8080", "c0", "c1bf", "c080", "c0af",
           "e08080", "e080af", "e09fbf", "f0808080", "f08080af", "f08fbfbf", "f8808080af", "fc80808080af",
           "eda080", "edafbf", "edb080", "edbfbf", "eda080edb080", "edadbfedbfbf", "f4908080", "f5808080",
           "fe", "ff", "fefeffff", "e2", "e282", "f09f", "f09f98", "c320", "e22820", "f0282020", "61" * 64 + "ff",
           "61" * 16 + "c3", "f88888888020", "efbf", "c3a9c3"]

for i, text in enumerate(VALID):
    data = text.encode("utf-8")

    @case("6.1.%d" % (1 + i), "valid: %s" % data[:24].hex())
    def _(p, data=data):
        echo(p, TEXT, data)
        echo(p, TEXT, data, chop=1)
        for k in range(len(data) + 1):
            last = k == len(data)
            p.send(TEXT if k == 0 else CONT, b"" if last else data[k:k + 1], fin=last)
        p.expect(TEXT, data)
        p.finish()

for i, text in enumerate(INVALID):
    data = bytes.fromhex(text)

    @case("6.2.%d" % (1 + i), "invalid: %s" % text[:48])
    def _(p, data=data):
        p.send(TEXT, data)
        p.expect_fail(1007)

    @case("6.3.%d" % (1 + i), "invalid, octet-wise fragments: %s" % text[:48])
    def _(p, data=data):
        frames = [p.frame(TEXT if k == 0 else CONT, data[k:k + 1], fin=False) for k in range(len(data))]
        p.raw(b"".join(frames) + p.frame(CONT, b""))
        p.expect_fail(1007)

GOOD, BAD = "κόσμε".encode(), bytes.fromhex("f4908080")


@case("6.4.1", "fail fast between fragments: before the message is whole")
def _(p):
    p.send(TEXT, GOOD, fin=False)
    p.send(CONT, BAD, fin=False)
    p.expect_fail(1007, wait=2)


@case("6.4.2", "fail fast: the second byte of a character shows it")
def _(p):
    p.send(TEXT, GOOD + BAD[:1], fin=False)
    p.send(CONT, BAD[1:2], fin=False)
    p.expect_fail(1007, wait=2)


@case("6.4.3", "fail fast inside a frame of which the rest never comes")
def _(p):
    f = p.frame(TEXT, GOOD + BAD + b"edited")
    p.raw(f[:-len(BAD) - 6])
    time.sleep(0.2)
    p.raw(f[-len(BAD) - 6:-6])
    p.expect_fail(1007, wait=2)


@case("6.4.4", "fail fast inside a frame, octet-wise, at the very byte")
def _(p):
    f = p.frame(TEXT, GOOD + BAD + b"edited")
    p.raw(f[:-len(BAD) - 6 + 1], chop=1)
    # The first of the bad bytes may still become good.
    time.sleep(0.1)
    p.raw(f[-len(BAD) - 6 + 1:-len(BAD) - 6 + 2])
    p.expect_fail(1007, wait=2)


@case("6.5.1", "binary is not checked")
def _(p):
    for text in INVALID:
        echo(p, BINARY, bytes.fromhex(text))
    p.finish()


# 7: closing -------------------------------------------------------------------

@case("7.1.1", "a message, then close")
def _(p):
    echo(p, TEXT, b"Hello World!")
    p.finish()


@case("7.1.2", "two close frames: one answer")
def _(p):
    p.raw(p.frame(CLOSE, b"\x03\xe8") * 2)
    p.expect_close((1000,))
    p.expect_end()


@case("7.1.3", "no pong after the close")
def _(p):
    p.raw(p.frame(CLOSE, b"\x03\xe8") + p.frame(PING, b"late"))
    p.expect_close((1000,))
    p.expect_end()


@case("7.1.4", "no echo after the close")
def _(p):
    p.raw(p.frame(CLOSE, b"\x03\xe8") + p.frame(TEXT, b"late") + p.frame(3))
    p.expect_close((1000,))
    p.expect_end()


@case("7.1.5", "close inside a fragmented message")
def _(p):
    p.raw(p.frame(TEXT, b"frag", fin=False) + p.frame(CLOSE, b"\x03\xe8") + p.frame(CONT, b"ment"))
    p.expect_close((1000,))
    p.expect_end()


@case("7.1.6", "close behind 256 KiB: echoed before the close is answered")
def _(p):
    data = b"BAsd7&jh23" * 26214
    p.raw(p.frame(TEXT, data) + p.frame(CLOSE, b"\x03\xe8"))
    p.expect(TEXT, data)
    p.expect_close((1000,))
    p.expect_end()


@case("7.3.1", "close without code is answered without code, or 1000")
def _(p):
    p.send(CLOSE)
    p.expect_close((None, 1000))
    p.expect_end()


@case("7.3.2", "close with one byte fails with 1002")
def _(p):
    p.send(CLOSE, b"a")
    p.expect_fail(1002)


for i, reason in enumerate([b"", b"Hello World!", "κόσμε".encode(), b"*" * 123]):
    @case("7.3.%d" % (3 + i), "close with a reason of %d bytes" % len(reason))
    def _(p, reason=reason):
        p.finish(1000, reason)


@case("7.3.7", "close with a reason of 124 bytes fails with 1002")
def _(p):
    p.send(CLOSE, b"\x03\xe8" + b"*" * 124)
    p.expect_fail(1002)


for i, reason in enumerate((GOOD + BAD, b"\xff", "€".encode()[:2])):
    @case("7.5.%d" % (1 + i), "reason is not UTF-8: fails with 1007")
    def _(p, reason=reason):
        p.send(CLOSE, b"\x03\xe8" + reason)
        p.expect_fail(1007)

for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
    @case("7.7.%d" % code, "close code %d is valid and echoed" % code)
    def _(p, code=code):
        p.finish(code)

for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32768, 65535):
    @case("7.9.%d" % code, "close code %d may not be sent: fails with 1002" % code)
    def _(p, code=code):
        p.send(CLOSE, struct.pack(">H", code) + b"why")
        p.expect_fail(1002)


# 9: limits --------------------------------------------------------------------

for i, cut in enumerate((64, 4096, 65536, 1 << 20)):
    size = 1 << 20 if cut < 4096 else 1 << 22

    @case("9.1.%d" % (1 + i), "%d bytes in fragments of %d" % (size, cut), size=size)
    def _(p, size=size, cut=cut):
        data = bytes(range(256)) * (size // 256)
        frames = [p.frame(BINARY if at == 0 else CONT, data[at:at + cut], fin=at + cut >= size)
                  for at in range(0, size, cut)]
        p.raw(b"".join(frames))
        p.expect(BINARY, data, wait=30)
        p.finish()

for i, part in enumerate((b"", b"x")):
    @case("9.2.%d" % (1 + i), "65,536 fragments of %d bytes" % len(part))
    def _(p, part=part):
        n = 65536
        p.raw(b"".join(p.frame(TEXT if k == 0 else CONT, part, fin=k == n - 1) for k in range(n)))
        p.expect(TEXT, part * n, wait=30)
        p.finish()


@case("9.3.1", "a message over the limit: 1009 by its head alone", cap=True)
def _(p):
    p.raw(p.frame(BINARY, b"", length=p.cap + 1))
    p.expect_close((1009,), wait=3)


@case("9.3.2", "a length of 2^63 - 1: 1009 by its head alone", cap=True)
def _(p):
    p.raw(p.frame(TEXT, b"", length=(1 << 63) - 1))
    p.expect_close((1009,), wait=3)


@case("9.3.3", "fragments that sum up over the limit: 1009", cap=True)
def _(p):
    p.raw(p.frame(BINARY, b"x" * 1000, fin=False))
    p.raw(p.frame(CONT, b"", length=p.cap - 999))
    p.expect_close((1009,), wait=3)


@case("9.3.4", "a message of exactly the limit", cap=True)
def _(p):
    echo(p, BINARY, b"\x01" * p.cap)
    p.finish()


@case("9.4.1", "200 round trips of growing size")
def _(p):
    for k in range(200):
        echo(p, TEXT if k & 1 else BINARY, b"r" * (k * 41))
    p.finish()


@case("10.1.1", "65,536 bytes in fragments of 1,300")
def _(p):
    data = b"*" * 65536
    for at in range(0, len(data), 1300):
        p.send(TEXT if at == 0 else CONT, data[at:at + 1300], fin=at + 1300 >= len(data))
    p.expect(TEXT, data)
    p.finish()


# 12, 13: compression ----------------------------------------------------------

PMD = "permessage-deflate"
SNC, CNC = "server_no_context_takeover", "client_no_context_takeover"
SMW, CMW = "server_max_window_bits", "client_max_window_bits"


def samples(size):
    """Text that packs well, text that packs badly, and binary noise."""
    json = b'{"type":"agent:status","cpu":12.5,"name":"\xc3\xa9","n":%d}' % size
    yield TEXT, (json * (size // len(json) + 1))[:size].decode("utf-8", "ignore").encode()
    yield TEXT, os.urandom(size).hex().encode()[:size]
    yield BINARY, os.urandom(size)


for i, size in enumerate((0, 16, 64, 256, 1024, 4096, 8192, 32768, 65536, 131072)):
    for j, cut in enumerate((None, 100 if size < 8192 else 4096)):
        @case("12.1.%d" % (1 + 2 * i + j), "%d bytes compressed%s" % (size, " in fragments" if cut else ""),
              offer=PMD + "; " + CMW)
        def _(p, size=size, cut=cut):
            for _ in range(4):
                for op, data in samples(size):
                    p.send_packed(op, data, cut)
                    p.expect(op, data)
            p.finish()


@case("12.2.1", "compressed and plain messages mixed", offer=PMD)
def _(p):
    for k in range(20):
        p.send_packed(TEXT, b"packed" * k)
        p.send(TEXT, b"plain" * k)
        p.expect(TEXT, b"packed" * k)
        p.expect(TEXT, b"plain" * k)
    p.finish()


@case("12.2.2", "a ping between compressed fragments", offer=PMD)
def _(p):
    data = p.deflate.pack(b"fragmented and packed")
    p.send(TEXT, data[:5], fin=False, rsv=4)
    p.send(PING, b"mid")
    p.expect(PONG, b"mid")
    p.send(CONT, data[5:])
    p.expect(TEXT, b"fragmented and packed")
    p.finish()


@case("12.2.3", "RSV1 on a continuation fails with 1002", offer=PMD)
def _(p):
    p.send(TEXT, b"a", fin=False)
    p.send(CONT, b"b", rsv=4)
    p.expect_fail(1002)


@case("12.2.4", "RSV1 on a ping fails with 1002", offer=PMD)
def _(p):
    p.send(PING, b"a", rsv=4)
    p.expect_fail(1002)


@case("12.2.5", "RSV2 and RSV3 still fail with 1002", offer=PMD)
def _(p):
    p.send(TEXT, b"a", rsv=6)
    p.expect_fail(1002)


for i, text in enumerate(("06", "ffffffff", "0005000000", "f20011")):
    @case("12.3.%d" % (1 + i), "corrupt data %s fails with 1007 or 1002" % text, offer=PMD)
    def _(p, data=bytes.fromhex(text)):
        p.send(TEXT, data, rsv=4)
        p.expect_fail(1007, 1002)


@case("12.3.5", "text that unpacks to no UTF-8 fails with 1007", offer=PMD)
def _(p):
    p.send_packed(TEXT, b"\xff\xfe")
    p.expect_fail(1007)


for i, text in enumerate(("f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000",
                          "f248050000 00ffffcac9c90700".replace(" ", ""))):
    @case("12.4.%d" % (1 + i), "example of RFC 7692 7.2.3: %s" % text, offer=PMD)
    def _(p, data=bytes.fromhex(text)):
        p.send(TEXT, data, rsv=4)
        p.expect(TEXT, b"Hello")
        p.finish()


@case("12.4.5", "an empty compressed message", offer=PMD)
def _(p):
    p.send(TEXT, b"\0", rsv=4)
    p.expect(TEXT, b"")
    p.finish()


@case("12.4.6", "messages that end with a final block", offer=PMD)
def _(p):
    for k in range(5):
        p.send_packed(TEXT, b"final" * k, final=True)
        p.expect(TEXT, b"final" * k)
    p.finish()


@case("12.5.1", "a bomb: 1009 before it is unpacked", offer=PMD, cap=True)
def _(p):
    p.send_packed(BINARY, b"\0" * (p.cap + 1))
    p.expect_close((1009,))


def combos():
    """Offers with every mix of the four parameters."""
    for takeover in ([], [SNC], [CNC], [SNC, CNC]):
        for server in (None, 9, 12, 15):
            for client in (None, "", 9, 12, 15):
                parts = [PMD] + takeover
                if server is not None:
                    parts.append("%s=%d" % (SMW, server))
                if client is not None:
                    parts.append(CMW if client == "" else "%s=%d" % (CMW, client))
                yield "; ".join(parts)


for i, offer in enumerate(combos()):
    @case("13.1.%d" % (1 + i), "terms: %s" % offer, offer=offer, agreed=True)
    def _(p):
        for size in (40, 1000, 20000, 40000):
            for op, data in samples(size):
                p.send_packed(op, data)
                p.expect(op, data)
                p.send_packed(op, data, 997)
                p.expect(op, data)
        p.finish()


DECLINED = ["%s=7" % SMW, "%s=16" % SMW, SMW, "%s=010" % SMW, "%s=7" % CMW, "%s=16" % CMW, "%s=1" % SNC,
            "%s=x" % CNC, "%s; %s" % (SNC, SNC), "%s=10; %s=10" % (SMW, SMW), "unknown", "unknown=1"]
for i, bad in enumerate(DECLINED):
    @case("13.2.%d" % (1 + i), "declined: %s" % bad, "s", offer="%s; %s" % (PMD, bad), declined=True)
    def _(p):
        echo(p, TEXT, b"plain" * 100)
        p.finish()

    @case("13.3.%d" % (1 + i), "declined, the next offer taken: %s" % bad, "s",
          offer="%s; %s, %s" % (PMD, bad, PMD), agreed=True)
    def _(p):
        p.send_packed(TEXT, b"packed" * 100)
        p.expect(TEXT, b"packed" * 100)
        p.finish()


@case("13.4.1", "unknown extensions are passed over", "s", offer="x-foo; a=1, mux, " + PMD, agreed=True)
def _(p):
    p.send_packed(TEXT, b"packed" * 100)
    p.expect(TEXT, b"packed" * 100)
    p.finish()


@case("13.4.2", "a quoted value is a value", "s", offer='%s; %s="10"' % (PMD, SMW), agreed=True)
def _(p):
    p.send_packed(TEXT, b"packed" * 100)
    p.expect(TEXT, b"packed" * 100)
    p.finish()


# 20: opening handshake of a server --------------------------------------------

# raw=True gives a case the bare socket.

def request(target, host, **change):
    """Lines of a good request, with changes: name=None drops, a list repeats."""
    fields = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade",
              "Sec-WebSocket-Key": KEY.decode(), "Sec-WebSocket-Version": "13"}
    line = change.pop("line", "GET %s HTTP/1.1" % target)
    fields.update({k.replace("_", "-"): v for k, v in change.items()})
    lines = [line]
    for name, value in fields.items():
        for v in value if isinstance(value, list) else [value]:
            if v is not None:
                lines.append("%s: %s" % (name, v))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


REFUSED = [
    ("Upgrade missing", dict(Upgrade=None), None),
    ("Upgrade of something else", dict(Upgrade="h2c"), None),
    ("Connection missing", dict(Connection=None), None),
    ("Connection without upgrade", dict(Connection="keep-alive"), None),
    ("key missing", dict(Sec_WebSocket_Key=None), (400,)),
    ("key repeated", dict(Sec_WebSocket_Key=[KEY.decode()] * 2), (400,)),
    ("key too short", dict(Sec_WebSocket_Key="dGhlIHNhbXBsZQ=="), (400,)),
    ("key not canonical", dict(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZR=="), (400,)),
    ("key not base64", dict(Sec_WebSocket_Key="dGhl!HNhbXBsZSBub25jZQ=="), (400,)),
    ("version missing", dict(Sec_WebSocket_Version=None), (400, 426)),
    ("version 12", dict(Sec_WebSocket_Version="12"), (426,)),
    ("version repeated", dict(Sec_WebSocket_Version=["13", "13"]), (400,)),
    ("Host missing", dict(Host=None), (400,)),
    ("Host repeated", dict(Host=["a", "b"]), (400,)),
    ("method POST", dict(line="POST %s HTTP/1.1"), None),
    ("HTTP/1.0", dict(line="GET %s HTTP/1.0"), None),
    ("extension list malformed", dict(Sec_WebSocket_Extensions="a;;b"), (400,)),
    ("protocol list malformed", dict(Sec_WebSocket_Protocol="a b"), (400,)),
]
for i, (what, change, statuses) in enumerate(REFUSED):
    @case("20.1.%d" % (1 + i), what + ": refused", "s", raw=True)
    def _(sock, t, change=change, statuses=statuses):
        change = dict(change)
        if "line" in change:
            change["line"] %= t.target
        sock.sendall(request(t.target, t.host, **change))
        line, fields, _ = read_head(sock)
        status = int(line.split()[1])
        require(status != 101, "was accepted")
        require(statuses is None or status in statuses, "status %d, expected %s" % (status, statuses))
        require(status != 426 or statuses is None or field(fields, "sec-websocket-version") == "13",
                "426 without the version")
        require(status != 426 or field(fields, "upgrade"), "426 without Upgrade")
        require(status != 405 or field(fields, "allow"), "405 without Allow")

ACCEPTED = [
    ("Connection as a list", dict(Connection="keep-alive, Upgrade")),
    ("Connection repeated", dict(Connection=["keep-alive", "upgrade"])),
    ("Upgrade in capitals", dict(Upgrade="WebSocket")),
    ("an unknown field", dict(X_Field="x")),
    ("an empty extension list", dict(Sec_WebSocket_Extensions="")),
    ("an unknown subprotocol", dict(Sec_WebSocket_Protocol="nobody-speaks-this")),
]
for i, (what, change) in enumerate(ACCEPTED):
    @case("20.2.%d" % (1 + i), what + ": accepted", "s", raw=True)
    def _(sock, t, change=change):
        sock.sendall(request(t.target, t.host, **change))
        p = Peer(sock, True, check_answer(sock)[1])
        echo(p, TEXT, b"hello")
        p.finish()


@case("20.3.1", "the request octet-wise", "s", raw=True)
def _(sock, t):
    for c in request(t.target, t.host):
        sock.sendall(bytes([c]))
    p = Peer(sock, True, check_answer(sock)[1])
    echo(p, TEXT, b"hello")
    p.finish()


@case("20.3.2", "a frame in the same write as the request", "s", raw=True)
def _(sock, t):
    p = Peer(sock, True)
    sock.sendall(request(t.target, t.host) + p.frame(TEXT, b"early"))
    p.buf = check_answer(sock)[1]
    p.expect(TEXT, b"early")
    p.finish()


# 21: opening handshake of a client --------------------------------------------

SPOILT = [
    ("status 200", "HTTP/1.1 200 OK", {}),
    ("status 403", "HTTP/1.1 403 Forbidden", {}),
    ("no Upgrade", None, {"Upgrade": None}),
    ("wrong Upgrade", None, {"Upgrade": "h2c"}),
    ("no Connection", None, {"Connection": None}),
    ("wrong Connection", None, {"Connection": "close"}),
    ("no Accept", None, {"Sec-WebSocket-Accept": None}),
    ("wrong Accept", None, {"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="}),
    ("unasked subprotocol", None, {"Sec-WebSocket-Protocol": "surprise"}),
    ("unasked extension", None, {"Sec-WebSocket-Extensions": "x-surprise"}),
    ("extension twice", None, {"Sec-WebSocket-Extensions": PMD + ", " + PMD}),
    ("unknown parameter", None, {"Sec-WebSocket-Extensions": PMD + "; surprise"}),
    ("window of 7", None, {"Sec-WebSocket-Extensions": PMD + "; server_max_window_bits=7"}),
    ("window without number", None, {"Sec-WebSocket-Extensions": PMD + "; client_max_window_bits"}),
]
for i, (what, line, change) in enumerate(SPOILT):
    @case("21.1.%d" % (1 + i), "answer with %s: the client goes away" % what, "c", raw=True)
    def _(sock, t, line=line, change=change):
        _, fields, _ = read_head(sock)
        answer = {"Upgrade": "websocket", "Connection": "Upgrade",
                  "Sec-WebSocket-Accept": accept_for(field(fields, "sec-websocket-key").encode()).decode()}
        answer.update(change)
        lines = [line or "HTTP/1.1 101 Switching Protocols"]
        lines += ["%s: %s" % (k, v) for k, v in answer.items() if v is not None]
        if line:
            lines.append("Content-Length: 0")
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        sock.sendall(b"\x81\x05hello")
        sock.settimeout(5)
        try:
            got = sock.recv(1000)
        except ConnectionResetError:
            got = b""
        except socket.timeout:
            raise Failure("the client stayed")
        require(got == b"" or got[0] == 0x88, "the client went on: %r" % got[:20])


# Running ------------------------------------------------------------------------

def check_answer(sock):
    """A server's good answer to KEY; its fields and what follows."""
    line, fields, rest = read_head(sock)
    require(line.startswith("HTTP/1.1 101"), "answer is %r" % line)
    require((field(fields, "upgrade") or "").lower() == "websocket", "Upgrade of the answer")
    require("upgrade" in (field(fields, "connection") or "").lower(), "Connection of the answer")
    require(field(fields, "sec-websocket-accept") == accept_for(KEY).decode(), "Sec-WebSocket-Accept")
    require(field(fields, "sec-websocket-protocol") is None, "an unasked subprotocol")
    return fields, rest


def bits_of(params, name):
    value = params.get(name)
    require(value is None or (value.isdigit() and value == str(int(value)) and 8 <= int(value) <= 15),
            "%s=%s" % (name, value))
    return int(value) if value else 15


def terms_from(answer, offers, is_client):
    """The Deflate of a server's answer to one of the offers; None when declined."""
    got = parse_extensions(answer)
    if not got:
        return None
    require(len(got) == 1 and got[0][0] == PMD, "answer %r" % answer)
    params = dict(got[0][1])
    require(set(params) <= {SNC, CNC, SMW, CMW}, "unknown parameter in %r" % answer)
    require(params.get(SNC) is None and params.get(CNC) is None, "value on a flag in %r" % answer)
    require(CMW not in params or params[CMW] is not None, "%s without a number" % CMW)
    server, client = bits_of(params, SMW), bits_of(params, CMW)
    require(any(fits(dict(o), params, server, client) for n, o in offers if n == PMD),
            "answer %r fits no offer" % answer)
    s, c = (server, SNC not in params), (client, CNC not in params)
    mine, theirs = (c, s) if is_client else (s, c)
    return Deflate(mine[0], mine[1], theirs[0], theirs[1])


def good_offers(text):
    """The offers of a list that a server may take."""
    out = []
    for part in (text or "").split(","):
        try:
            for name, params in parse_extensions(part):
                bits_of(dict(params), SMW)
                bits_of(dict(params), CMW)
                out.append((name, params))
        except Failure:
            pass
    return out


def fits(offer, answer, server, client):
    """RFC 7692 7.1: whether an answer accepts an offer."""
    if SNC in offer and SNC not in answer:
        return False
    if offer.get(SMW) and (SMW not in answer or server > int(offer[SMW])):
        return False
    if CMW in answer and (CMW not in offer or client > int(offer[CMW] or 15)):
        return False
    # Without an answer the client keeps to what it said itself.
    return True


class ServerTest:
    """Connects to the server under test."""
    role, is_client = "s", True

    def __init__(self, url):
        u = urlsplit(url)
        self.address = (u.hostname, u.port or 80)
        self.host = u.netloc
        self.target = (u.path or "/") + ("?" + u.query if u.query else "")

    def open(self):
        return socket.create_connection(self.address, 10)

    def shake(self, sock, needs):
        offer = needs.get("offer")
        change = {"Sec_WebSocket_Extensions": offer} if offer else {}
        sock.sendall(request(self.target, self.host, **change))
        fields, rest = check_answer(sock)
        answer = field(fields, "sec-websocket-extensions")
        require(offer or not answer, "an unasked extension %r" % answer)
        deflate = terms_from(answer, good_offers(offer), True) if answer else None
        if needs.get("declined"):
            require(deflate is None, "accepted: %r" % answer)
        elif offer:
            require(deflate is not None, "declined: %r" % offer)
        return Peer(sock, True, rest, deflate)

    def close(self):
        pass


class ClientTest:
    """Listens, and starts the client under test for every case."""
    role, is_client = "c", False
    host = target = ""

    def __init__(self, argv):
        self.argv, self.child = argv, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "ws://127.0.0.1:%d/" % self.listener.getsockname()[1]

    def open(self):
        self.child = subprocess.Popen(self.argv + [self.url], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.listener.settimeout(10)
        try:
            return self.listener.accept()[0]
        except socket.timeout:
            raise Failure("the client did not connect")

    def shake(self, sock, needs):
        line, fields, rest = read_head(sock)
        require(line.startswith("GET ") and line.endswith(" HTTP/1.1"), "request line %r" % line)
        for name, want in (("upgrade", "websocket"), ("sec-websocket-version", "13")):
            require((field(fields, name) or "").lower() == want, "%s is %r" % (name, field(fields, name)))
        require("upgrade" in (field(fields, "connection") or "").lower(), "Connection")
        key = field(fields, "sec-websocket-key") or ""
        require(len(key) == 24 and key.endswith("=="), "key %r" % key)
        require(field(fields, "host"), "no Host")
        require(not rest, "bytes before the answer")
        answer, deflate = self.answer(field(fields, "sec-websocket-extensions"), needs)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + accept_for(key.encode()) + b"\r\n" +
                     (b"Sec-WebSocket-Extensions: " + answer.encode() + b"\r\n" if answer else b"") + b"\r\n")
        return Peer(sock, False, b"", deflate)

    @staticmethod
    def answer(offered, needs):
        """What the case asks for, as far as the client's offer allows it."""
        offers = [dict(o) for n, o in parse_extensions(offered) if n == PMD]
        if not needs.get("offer") or not offers:
            require(not needs.get("offer"), "skip: the client offers no compression")
            return None, None
        want, offer = dict(parse_extensions(needs["offer"])[0][1]), offers[0]
        params = {}
        if SNC in want or SNC in offer:
            params[SNC] = None
        if CNC in want:
            params[CNC] = None
        if want.get(SMW) or offer.get(SMW):
            params[SMW] = str(min(int(want.get(SMW) or 15), int(offer.get(SMW) or 15)))
        if want.get(CMW) and CMW in offer:
            params[CMW] = str(min(int(want[CMW]), int(offer[CMW] or 15)))
        text = "; ".join([PMD] + [k if v is None else "%s=%s" % (k, v) for k, v in params.items()])
        return text, terms_from(text, [(PMD, list(o.items())) for o in offers], False)

    def close(self):
        if self.child is None:
            return
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Failure("the client does not end after the connection")
        finally:
            self.child = None


def run_case(test, run, needs, cap):
    """None, or what went wrong."""
    sock = None
    try:
        sock = test.open()
        if needs.get("raw"):
            run(sock, test)
        else:
            p = test.shake(sock, needs)
            p.cap = cap
            run(p)
        wrong = None
    except Failure as e:
        wrong = str(e)
    except (OSError, IndexError, TypeError, ValueError):
        wrong = traceback.format_exc(limit=-1).replace("\n", " ")
    if sock is not None:
        sock.close()
    try:
        test.close()
    except Failure as e:
        wrong = wrong or str(e)
    return wrong


def chosen(args, role):
    for ident, what, run, roles, needs in CASES:
        if role not in roles or (needs.get("cap") and not args.cap):
            continue
        if needs.get("size", 0) > (args.cap or needs.get("size", 0)):
            continue
        if args.only and not any(ident == o or ident.startswith(o + ".") for o in args.only.split(",")):
            continue
        yield ident, what, run, needs


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", default="")
    ap.add_argument("--known", default="")
    ap.add_argument("--cap", type=int, default=1 << 24)
    ap.add_argument("--list", action="store_true")
    ap.add_argument("-v", action="store_true")
    ap.add_argument("role", choices=("server", "client"))
    ap.add_argument("what", nargs="*", default=[])
    args = ap.parse_args()
    if args.list:
        for ident, what, _, _ in chosen(args, args.role[0]):
            print(ident, what)
        return 0
    if not args.what:
        ap.error("a URL or a command is missing")
    test = ServerTest(args.what[0]) if args.role == "server" else ClientTest(args.what)
    known = set(args.known.split(","))
    passed = failed = skipped = 0
    for ident, what, run, needs in chosen(args, test.role):
        begun = time.monotonic()
        wrong = run_case(test, run, needs, args.cap)
        if args.v:
            print("%s %s %.0f ms" % (ident, wrong or "ok", 1000 * (time.monotonic() - begun)))
        if wrong is None:
            passed += 1
        elif wrong.startswith("skip: "):
            skipped += 1
        elif ident in known:
            print("known: %s %s: %s" % (ident, what, wrong))
        else:
            failed += 1
            print("FAILED: %s %s: %s" % (ident, what, wrong), flush=True)
    if skipped:
        print("SKIP: %d cases of compression that the client does not offer" % skipped)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
