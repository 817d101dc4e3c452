#!/usr/bin/python3
"""Agents and clients that know the protocols and do not keep to them.

An agent that lies about a command harms that command alone; whatever it does,
an honest agent that comes back ends it."""

import json
import os
import random
import socket
import struct

from harness import check, equal, main, until
from hostile import FIN, PING, RST, SYN, UPDATE, FakeAgent, Peer

STARTED, STDOUT, EXIT, REFUSED, GAP = 1, 2, 4, 6, 7


def u64(n):
    return struct.pack(">Q", n)


def ended(**more):
    return json.dumps(dict({"exit_code": 0, "signal": 0, "out": 0, "err": 0}, **more)).encode()


LIES = {
    "more_output_than_came": [(EXIT, ended(out=1000))],
    "output_of_2_63": [(EXIT, ended(out=2**63 - 1, err=2**63 - 1))],
    "output_below_0": [(EXIT, ended(out=-1))],
    "no_json": [(EXIT, b"{")],
    "no_object": [(EXIT, b"[]")],
    "nothing": [(EXIT, b"")],
    "no_exit_code": [(EXIT, b"{}")],
    "twice_a_member": [(EXIT, b'{"exit_code":0,"exit_code":1}')],
    "code_of_2_40": [(EXIT, ended(exit_code=2**40))],
    "a_hole": [(STDOUT, u64(100) + b"x")],
    "offset_of_2_63": [(STDOUT, u64(2**63 - 2) + b"xxxx")],
    "offset_of_2_64": [(STDOUT, u64(2**64 - 2) + b"xxxx")],
    "gap_backwards": [(GAP, b"\1" + u64(10) + u64(5))],
    "gap_of_2_64": [(GAP, b"\1" + u64(0) + u64(2**64 - 1))],
    "gap_of_no_stream": [(GAP, b"\3" + u64(0) + u64(1))],
    "controllers_frame": [(20, b"")],
    "no_such_frame": [(255, b"abc")],
    "too_long": [(EXIT, b" " * 100000 + ended())],
}


def setup(t, *flags):
    d = t.musterd("--dev", *flags)
    d.cluster = d.make_token("agents")
    return d


def agent(d, name, held=(), sequence=0):
    a = FakeAgent("127.0.0.1", d.port, d.cluster, name, resume={
        "sequence": sequence, "commands": [{"id": i, "state": "exited"} for i in held]})
    equal(a.status, 101)
    a.message("register_success")
    return a


def run(d, name):
    a = d.post("/api/v1/commands", {"agent": name, "argv": ["x"]})
    equal(a.status, 201, a)
    return a["id"]


def metric(d, name):
    for line in d.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError("no " + name)


def end_well(d):
    until(lambda: metric(d, "muster_links") == 0, "no links")
    equal(d.get("/api/v1/audit/verify").json["ok"], True)
    equal(d.stop(60), 0, "status; with a sanitizer, of leaks too")


def test_lies(t):
    d = setup(t)
    for name, frames in LIES.items():
        a, c = agent(d, name), run(d, name)
        stream, head = a.next_exec()
        for kind, payload in frames:
            a.exec_frame(stream, kind, payload[:60000] if kind != EXIT else payload)
        # Not believed: the stream is broken, and asked for again.
        stream, again = a.next_exec()
        equal((again["id"], again["again"]), (c, True), name)
        check(d.command(c)["state"] in ("sent", "running"), name, d.command(c))
        a.exec_frame(stream, STDOUT, u64(again["out"]) + b"true")
        a.exec_frame(stream, EXIT, ended(exit_code=3, out=again["out"] + 4))
        equal(d.command_ends(c)["exit_code"], 3, name)
        a.close()
    end_well(d)


def test_after_the_end(t):
    d = setup(t)
    a, c = agent(d, "late"), run(d, "late")
    stream, _ = a.next_exec()
    for kind, payload in ((EXIT, ended()), (EXIT, ended(exit_code=7)), (STARTED, b'{"pid":1}'),
                          (REFUSED, b"{}"), (STDOUT, u64(0) + b"late")):
        a.exec_frame(stream, kind, payload)
    equal(d.command_ends(c)["exit_code"], 0)
    equal(d.get("/api/v1/commands/%s/output" % c).body, b"")
    a.close()
    end_well(d)


def test_less_output_than_came(t):
    """What came is kept."""
    d = setup(t)
    a, c = agent(d, "short"), run(d, "short")
    stream, _ = a.next_exec()
    a.exec_frame(stream, STDOUT, u64(0) + b"abc")
    a.exec_frame(stream, EXIT, ended(out=1))
    equal(d.command_ends(c)["out_bytes"], 3)
    equal(d.get("/api/v1/commands/%s/output" % c).body, b"abc")
    a.close()
    end_well(d)


def test_forged_output(t):
    """One that claims another's ended command cannot add to its output."""
    d = setup(t)
    b, c = agent(d, "honest"), run(d, "honest")
    stream, _ = b.next_exec()
    b.exec_frame(stream, STDOUT, u64(0) + b"true")
    b.exec_frame(stream, EXIT, ended(out=4))
    d.command_ends(c)
    b.data(stream, b"", FIN)
    b.close()
    until(lambda: metric(d, "muster_streams") == 0, "no streams")
    a = agent(d, "forger", held=[c], sequence=5)
    stream, head = a.next_exec()
    equal((head["id"], head["argv"]), (c, []))
    a.exec_frame(stream, STDOUT, u64(4) + b" and false")
    a.exec_frame(stream, EXIT, ended(out=14))
    other = run(d, "forger")  # what comes after has been taken in order
    stream, _ = a.next_exec()
    a.exec_frame(stream, EXIT, ended())
    d.command_ends(other)
    equal(d.get("/api/v1/commands/%s/output" % c).body, b"true")
    a.close()
    end_well(d)


def test_mux_garbage(t):
    seed = int(os.environ.get("SEED", "1"))
    print("seed", seed)
    r, d = random.Random(seed), setup(t)
    good = agent(d, "good")
    acts = (
        lambda a: a.binary(r.randbytes(r.randrange(200))),
        lambda a: a.mux(r.randrange(5), r.randrange(16), r.choice((0, 1, 2, 4, 2**31, 2**32 - 1)),
                        r.choice((0, 1, 2**31, 2**32 - 1))),
        lambda a: a.data(r.choice((1, 2, 3, 4)), bytes(r.randrange(60000)), r.randrange(16)),
        lambda a: a.mux(PING, SYN, 0, r.randrange(2**32)),
        lambda a: [a.mux(UPDATE, SYN, 2 * i + 1, 0) for i in range(300)],
        lambda a: a.exec_frame(2, r.randrange(256), r.randbytes(r.randrange(64))),
        lambda a: a.mux(UPDATE, r.choice((FIN, RST, FIN | RST, SYN | FIN)), r.choice((1, 2, 4)), 0),
    )
    for i in range(150):
        name = "bad-%d" % (i % 7)
        a = agent(d, name)
        if i % 3 == 0:
            run(d, name)
        try:
            for _ in range(r.randrange(1, 50)):
                r.choice(acts)(a)
        except OSError:
            pass  # it was thrown out, as it should be
        a.close()
        check(d.running(), "musterd died")
    c = run(d, "good")
    stream, _ = good.next_exec()
    good.exec_frame(stream, EXIT, ended())
    equal(d.command_ends(c)["state"], "completed")
    good.close()
    end_well(d)


def test_too_much_to_carry(t):
    """What fits no opening is refused at once, not tried for ever."""
    d = setup(t)
    a = agent(d, "small")
    big = {"agent": "small", "argv": ["x" * 65000]}
    no = d.post("/api/v1/commands", big)
    equal((no.status, no.code), (400, "INVALID_REQUEST"))
    p = Peer("127.0.0.1", d.port, path="/api/v1/exec", token=d.token, protocol="muster.exec.v1")
    p.text(big)
    equal(p.message("refused")["field"], "argv")
    p.close()
    c = d.post("/api/v1/commands", {"agent": "small", "argv": ["x" * 64000]})
    equal(c.status, 201, c)
    stream, head = a.next_exec()
    equal(len(head["argv"][0]), 64000)
    a.exec_frame(stream, EXIT, ended())
    d.command_ends(c["id"])
    a.close()
    end_well(d)


def test_refused_at_the_head(t):
    """Answered before the body and the route are known; many on one connection."""
    d = setup(t)
    kinds = [b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"PUT /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
             b"FOO /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"OPTIONS /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
             b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"HEAD /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
             + d.token.encode() + b"\r\n\r\n"]
    s = d.connect()
    s.sendall(b"".join(kinds) * 20 + b"GET /x/../y HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    s.close()
    equal([got.count(b"HTTP/1.1 %d " % n) for n in (404, 405, 204, 421, 401, 200, 400)],
          [20, 40, 20, 20, 20, 20, 1])
    check(b": muster events" not in got, "a body behind HEAD")
    end_well(d)


main(globals())
