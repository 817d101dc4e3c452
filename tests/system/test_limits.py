#!/usr/bin/python3
"""What is kept, what happens when it is full, and how what is missing is
shown (SPEC decisions 14)."""
# timeout: 300

import contextlib
import http.client
import json
import os
import re
import struct

from disk import Disk
from harness import Agent, Skip, check, equal, main, need, until
from hostile import FakeAgent

MIB = 1 << 20
STDOUT, STDERR, EXIT, GAP = 2, 3, 4, 7


def u64(n):
    return struct.pack(">Q", n)


def read(d, ident, stream="stdout"):
    """All of a stream by REST: [(offset, bytes or reason of a gap)]."""
    at, parts = 0, []
    while True:
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30)
        c.request("GET", "/api/v1/commands/%s/output?stream=%s&offset=%d" % (ident, stream, at),
                  headers={"Authorization": "Bearer " + d.token})
        r = c.getresponse()
        equal(r.status, 200)
        try:
            body, whole = r.read(), True
        except http.client.IncompleteRead as e:
            body, whole = e.partial, False
        begin = int(r.headers["X-Muster-Offset"])
        if begin > at:
            parts.append((at, r.headers["X-Muster-Gap"]))
        if body:
            parts.append((begin, body))
        c.close()
        if whole:
            equal(begin + len(body), int(r.headers["X-Muster-Size"]), "the end")
            return parts
        check(begin + len(body) > at, "no progress at", at)
        at = begin + len(body)


def test_gaps_are_shown(t):
    """Bytes that an agent says are gone show as a gap, wherever they are."""
    need("musterd", "muster")
    d = t.musterd("--dev")
    a = FakeAgent("127.0.0.1", d.port, d.make_token("agents"), "web-1")
    a.message("register_success")
    ident = d.post("/api/v1/commands", {"agent": "web-1", "argv": ["x"]})["id"]
    stream, _ = a.next_exec()
    a.exec_frame(stream, STDOUT, u64(0) + b"first\n")
    a.exec_frame(stream, GAP, b"\1" + u64(6) + u64(106))
    a.exec_frame(stream, STDOUT, u64(106) + b"middle\n")
    a.exec_frame(stream, GAP, b"\1" + u64(113) + u64(1000))
    a.exec_frame(stream, STDOUT, u64(1000) + b"last\n")
    a.exec_frame(stream, GAP, b"\2" + u64(0) + u64(50))
    a.exec_frame(stream, STDERR, u64(50) + b"err\n")
    a.exec_frame(stream, EXIT, json.dumps({"exit_code": 0, "signal": 0, "out": 1005,
                                           "err": 54}).encode())
    equal(d.command_ends(ident)["state"], "completed")
    equal(read(d, ident), [(0, b"first\n"), (6, "lost"), (106, b"middle\n"), (113, "lost"),
                           (1000, b"last\n")])
    equal(read(d, ident, "stderr"), [(0, "lost"), (50, b"err\n")])
    for words in (["job", "logs", ident], ["job", "logs", "-f", ident]):
        e = t.cli(d, *words, code=0)
        equal(e.out, b"first\nmiddle\nlast\n")
        for text in (b"[100 bytes of stdout lost", b"[887 bytes of stdout lost",
                     b"[50 bytes of stderr lost"):
            check(text in e.err, text, "is not in", e.err)
        check(b"err\n" in e.err, e.err)
    e = t.cli(d, "job", "logs", "--json", "--stream", "stdout", ident, code=0)
    lines = [json.loads(x) for x in e.out.splitlines()]
    equal([(x["offset"], x.get("text"), x.get("gap"), x.get("gap_to")) for x in lines],
          [(0, "first\n", None, None), (6, None, "lost", 106), (106, "middle\n", None, None),
           (113, None, "lost", 1000), (1000, "last\n", None, None)])
    a.close()


def test_pruned_is_said(t):
    """A command above its cap loses its oldest output, and says how much."""
    need("musterd", "muster", "muster-agent")
    d = t.musterd("--dev", env={"MUSTER_OUTPUT_MAX": "9MiB"})
    t.agent(d, "web-1")
    e = t.cli(d, "exec", "-d", "--json", "web-1", "--", "sh", "-c",
              "head -c %d /dev/zero | tr '\\0' x; echo end" % (40 * MIB), code=0)
    ident = e.json["id"]
    c = d.command_ends(ident)
    equal((c["state"], c["out_bytes"]), ("completed", 40 * MIB + 4))
    (zero, why), (begin, body) = read(d, ident)
    equal((zero, why), (0, "pruned"))
    equal((len(body) + begin, body[-4:]), (40 * MIB + 4, b"end\n"))
    check(len(body) <= 18 * MIB, "kept", len(body))
    e = t.cli(d, "job", "logs", ident, code=0)
    check(b"[%d bytes of stdout pruned]" % begin in e.err, e.err)
    equal(len(e.out), len(body))


def test_full_disk(t):
    """A controller whose disk is full refuses what must be durable, keeps its
    agents, and goes on by itself when there is room."""
    need("musterd", "muster", "muster-agent")
    disk = Disk(t, "disk", 24 * MIB)
    if not disk.real:
        raise Skip("mounting is not permitted here")
    d = t.musterd("--dev", data=os.path.join(disk.path, "data"),
                  env={"MUSTER_REQUEST_RATE": "100000"})
    t.agent(d, "web-1")
    go = t.path("go")
    run = d.post("/api/v1/commands", {"agent": "web-1", "argv": [
        "sh", "-c", "until [ -e %s ]; do sleep 0.05; done; seq 200000; echo end >&2" % go]})["id"]
    until(lambda: d.command(run)["state"] == "running", "it runs")
    disk.fill()

    def refused():
        a = d.post("/api/v1/commands", {"agent": "web-1", "argv": ["true"]})
        return a if a.status != 201 else None
    a = until(refused, "a refusal")
    equal((a.status, a.code), (507, "NO_SPACE"))
    t.path("go", "")
    until(lambda: d.get("/health").status == 503 or refused() is None, "it says so")
    check(d.agent("web-1")["status"] in ("online", "busy", "degraded"), "agents stay")
    log = d.log()
    equal(log.count("event=link_opened"), 1, "on the same link")
    disk.free()
    until(lambda: d.post("/api/v1/commands", {"agent": "web-1", "argv": ["true"]}).status == 201,
          "commands are taken again")
    c = d.command_ends(run)
    equal((c["state"], c["exit_code"]), ("completed", 0))
    want = "".join("%d\n" % i for i in range(1, 200001)).encode()
    equal(d.get("/api/v1/commands/%s/output" % run).body, want)
    equal(d.get("/api/v1/commands/%s/output?stream=stderr" % run).body, b"end\n")
    equal(d.get("/health").status, 200)
    equal(d.get("/api/v1/audit/verify").json["ok"], True)


def test_on_full_has_two_words(t):
    need("musterd", "muster")
    d = t.musterd("--dev")
    a = d.post("/api/v1/commands", {"agent": "x", "argv": ["x"], "on_full": "explode"})
    equal((a.status, a["field"]), (400, "on_full"))
    equal(t.cli(d, "exec", "--on-full=explode", "x", "--", "x").code, 2)


def small_host(t, d, spool, total):
    """An agent whose policy allows so much output that is not sent yet."""
    state = t.join(d, "web-1")
    with open(os.path.join(state, "policy.conf"), encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r"^spool = .*$", "spool = " + spool, text, flags=re.M)
    text = re.sub(r"^spool_total = .*$", "spool_total = " + total, text, flags=re.M)
    with open(os.path.join(state, "policy.conf"), "w", encoding="utf-8") as f:
        f.write(text)
    a = Agent(t, state)
    d.agent_is("web-1", "online")
    return a


def on_disk(agent):
    """Bytes of spools."""
    total = 0
    for up, _, files in os.walk(agent.state):
        for name in files:
            if name in ("out", "err"):
                with contextlib.suppress(OSError):
                    total += os.stat(os.path.join(up, name)).st_blocks * 512
    return total


def still(look):
    """Wait until it does not change any more."""
    last = [None, 0]

    def same():
        now = look()
        last[1] = last[1] + 1 if now == last[0] else 0
        last[0] = now
        return last[1] > 15
    until(same, "no change", every=0.1)
    return last[0]


def test_a_host_is_not_filled(t):
    """Output that the controller does not take fills its spools up to their
    limits; then commands wait, and those that shall not drop it instead."""
    need("musterd", "muster", "muster-agent")
    d = t.musterd("--dev")
    agent = small_host(t, d, "8MiB", "12MiB")
    done = t.path("done")
    script = "head -c %d /dev/zero | tr '\\0' x; echo end; echo >>%s" % (64 * MIB, done)
    body = {"agent": "web-1", "argv": ["sh", "-c", "until [ -e %s ]; do sleep 0.05; done; %s" % (
        t.path("go"), script)]}
    waits = [d.post("/api/v1/commands", body)["id"] for _ in range(2)]
    drops = d.post("/api/v1/commands", dict(body, on_full="drop"))["id"]
    for ident in waits + [drops]:
        until(lambda i=ident: d.command(i)["state"] == "running", "it runs")
    equal(d.command(drops)["on_full"], "drop")
    d.kill()
    t.path("go", "")
    until(lambda: os.path.exists(done), "the one that drops ends without a controller")
    used = still(lambda: on_disk(agent))
    check(8 * MIB <= used <= 24 * MIB, "spools have", used)
    agent.kill()
    agent = agent.again()
    equal(still(lambda: on_disk(agent)), used, "held by the next agent, too")
    d = d.again()
    for ident in waits:
        c = d.command_ends(ident, 60)
        equal((c["state"], c["out_bytes"]), ("completed", 64 * MIB + 4))
        (at, got), = read(d, ident)
        equal((at, got.count(b"x"), got[-4:]), (0, 64 * MIB, b"end\n"))
    c = d.command_ends(drops)
    equal((c["state"], c["out_bytes"]), ("completed", 64 * MIB + 4))
    parts = read(d, drops)
    check("lost" in [p[1] for p in parts], [(p[0], p[1][:10]) for p in parts])
    kept = b"".join(p[1] for p in parts if p[1] != "lost")
    check(len(kept) < 24 * MIB and set(kept) <= set(b"xend\n"), "kept", len(kept), set(kept))
    until(lambda: on_disk(agent) == 0, "the agent forgets")


def test_all_output_is_kept_that_may_be(t):
    """Above output_total new commands are refused, those that run are held
    back, everything else goes on; and when there is room it all goes on."""
    need("musterd", "muster", "muster-agent")
    full = {"MUSTER_OUTPUT_TOTAL": "16MiB", "MUSTER_REQUEST_RATE": "100000"}
    d = t.musterd("--dev", env=full)
    t.agent(d, "web-1")
    body = {"agent": "web-1", "argv": ["sh", "-c", "head -c %d /dev/zero; echo end >&2" % (24 * MIB)]}
    ident = d.post("/api/v1/commands", body)["id"]

    def refused():
        a = d.post("/api/v1/commands", {"agent": "web-1", "argv": ["true"]})
        return a if a.status != 201 else None
    a = until(refused, "a refusal")
    equal((a.status, a.code), (507, "QUEUE_FULL"))
    equal(d.command(ident)["state"], "running")
    equal(d.get("/health").status, 200, "all else goes on")
    equal(d.agent("web-1")["status"], "busy")
    t.cli(d, "agent", "label", "web-1", "a=b", code=0)
    d.stop()
    d.env = None
    d = d.again()
    c = d.command_ends(ident, 60)
    equal((c["state"], c["out_bytes"], c["err_bytes"]), ("completed", 24 * MIB, 4))
    equal(len(d.get("/api/v1/commands/%s/output" % ident).body), 24 * MIB)
    t.cli(d, "exec", "-n", "web-1", "--", "true", code=0)


main(globals())
