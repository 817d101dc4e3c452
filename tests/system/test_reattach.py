#!/usr/bin/python3
"""An attached command whose client loses its connection, and comes back."""
# timeout: 300

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import struct
import threading

import websockets

from harness import BUILD, check, equal, main, need, until
from relays import Relay

RAW = random.Random(7).randbytes(6 << 20)


def setup(t, *flags):
    need("musterd", "muster-agent", "muster-holder", "muster")
    d = t.musterd(*flags)
    return d, t.agent(d, "web-1"), Relay(t, d.port)


def start(t, d, relay, *words, **more):
    env = dict(t.cli_env(d), MUSTER_URL=relay.url)
    return t.start("muster", [os.path.join(BUILD, "muster"), *words], env=env, **more)


def script(t, *parts):
    """A shell script whose parts wait for files; the words and the files."""
    files = [t.path("go%d" % i) for i in range(len(parts) - 1)]
    text = parts[0]
    for f, part in zip(files, parts[1:]):
        text += "; until [ -e %s ]; do sleep 0.02; done; %s" % (f, part)
    return ["sh", "-c", text], files


def touch(path):
    open(path, "w").close()


def notes(p):
    return p.log()


def live(t, d, relay):
    words, files = script(t, "echo one; echo err1 >&2", "echo two; echo err2 >&2", "echo three; exit 7")
    p = start(t, d, relay, "exec", "-n", "web-1", "--", *words)
    until(lambda: p.out() == b"one\n", "the first line")
    # What comes while nobody is attached is shown afterwards.
    relay.tell("refuse on")
    relay.tell("cut")
    until(lambda: "attaching again" in notes(p), "the break is noticed")
    touch(files[0])
    ident = d.get("/api/v1/commands").json["items"][0]["id"]
    until(lambda: d.get("/api/v1/commands/%s/output" % ident).body == b"one\ntwo\n", "it is stored")
    equal(p.out(), b"one\n")
    relay.tell("refuse off")
    until(lambda: p.out() == b"one\ntwo\n", "what was missed")
    relay.tell("cut")
    until(lambda: notes(p).count("attached again") == 2, "attached for the second time")
    touch(files[1])
    equal(p.wait(), 7, notes(p))
    equal(p.out(), b"one\ntwo\nthree\n")
    check("err1" in notes(p) and "err2" in notes(p), notes(p))
    equal(notes(p).count("err1"), 1)
    equal(len(d.get("/api/v1/commands").json["items"]), 1, "it ran once")


def test_live(t):
    d, _, relay = setup(t)
    live(t, d, relay)


def test_live_on_lanes(t):
    """The client comes back on any lane."""
    d, _, relay = setup(t, "--lanes", "4")
    for _ in range(4):
        words, files = script(t, "echo one", "echo two", "echo three; exit 7")
        p = start(t, d, relay, "exec", "-n", "web-1", "--", *words)
        until(lambda: p.out() == b"one\n", "the first line")
        for i in range(1, 4):
            relay.tell("cut")
            until(lambda: notes(p).count("attached again") == i, "attached again")
        touch(files[0])
        until(lambda: p.out() == b"one\ntwo\n", "what comes")
        touch(files[1])
        equal((p.wait(), p.out()), (7, b"one\ntwo\nthree\n"), notes(p))
        for f in files:
            os.unlink(f)


def test_bulk(t):
    """Cut in the middle of a torrent, several times."""
    d, _, relay = setup(t)
    relay.tell("rate 300000000")  # or it is over before it can be cut
    path = t.path("raw")
    with open(path, "wb") as f:
        f.write(RAW * 4)
    p = start(t, d, relay, "exec", "-n", "web-1", "--", "sh", "-c", "cat %s; seq 1000000 >&2" % path)
    for i in range(6):
        equal(relay.tell("cut-after %d" % (4 << 20)), "ok")
        until(lambda: notes(p).count("attached again") > i, "break %d" % i, limit=60)
    equal(p.wait(60), 0)
    equal(hashlib.sha256(p.out()).digest(), hashlib.sha256(RAW * 4).digest(), "stdout")
    err = re.sub(r"muster exec: web-1: [^\n]*(attaching again|attached again)\n", "", notes(p))
    check(err == "".join("%d\n" % i for i in range(1, 1000001)), "stderr")


def test_input(t):
    """Input goes on where the agent has it, whichever link breaks."""
    need("musterd", "muster-agent", "muster-holder", "muster")
    d = t.musterd()
    far = Relay(t, d.port)
    port, d.port = d.port, far.port
    t.agent(d, "web-1")  # joins, and stays, behind the relay
    d.port = port
    near = Relay(t, d.port)
    source = t.path("source")
    os.mkfifo(source)
    done = threading.Event()

    def write():
        with open(source, "wb") as f:
            for at in range(0, len(RAW), 65536):
                f.write(RAW[at:at + 65536])
        done.set()

    threading.Thread(target=write, daemon=True).start()
    with open(source, "rb") as stdin:
        p = start(t, d, near, "exec", "web-1", "--", "cat", stdin=stdin)
    until(lambda: len(p.out()) > 0, "it echoes")
    for i in range(3):
        near.tell("cut-after %d" % (500 << 10))
        until(lambda: notes(p).count("attached again") > i or done.is_set(), "back %d" % i)
        far.tell("cut-after %d" % (400 << 10))
        until(lambda: d.agent("web-1")["status"] in ("online", "busy"), "the agent is back")
    equal(p.wait(60), 0, notes(p))
    equal(len(p.out()), len(RAW))
    check(p.out() == RAW, "other bytes came back")


def test_ends_meanwhile(t):
    d, _, relay = setup(t)
    words, files = script(t, "echo one", "echo two; exit 9")
    p = start(t, d, relay, "exec", "-n", "web-1", "--", *words)
    until(lambda: p.out() == b"one\n", "the first line")
    relay.tell("refuse on")
    relay.tell("cut")
    until(lambda: "attaching again" in notes(p), "the break is noticed")
    touch(files[0])
    ident = d.get("/api/v1/commands").json["items"][0]["id"]
    d.command_ends(ident)
    relay.tell("refuse off")
    equal((p.wait(), p.out()), (9, b"one\ntwo\n"), notes(p))


def test_controller_killed(t):
    """kill -9 of the controller: the client comes back to its command."""
    d, _, relay = setup(t)
    words, files = script(t, "echo one", "echo two; exit 5")
    p = start(t, d, relay, "exec", "-n", "web-1", "--", *words)
    until(lambda: p.out() == b"one\n", "the first line")
    d.kill()
    until(lambda: "attaching again" in notes(p), "the break is noticed")
    touch(files[0])
    d = d.again()
    equal((p.wait(60), p.out()), (5, b"one\ntwo\n"), notes(p))


def test_gives_up(t):
    d, _, relay = setup(t)
    p = start(t, d, relay, "exec", "-n", "--reattach", "2s", "web-1", "--", "sleep", "1000")
    until(lambda: d.agent("web-1")["status"] == "busy", "it runs")
    ident = d.get("/api/v1/commands").json["items"][0]["id"]
    relay.tell("refuse on")
    relay.tell("cut")
    equal(p.wait(), 1, notes(p))
    check("muster job wait " + ident in notes(p), notes(p))
    relay.tell("refuse off")
    p = start(t, d, relay, "exec", "-n", "--reattach", "0s", "web-1", "--", "sleep", "1000")
    until(lambda: len(d.get("/api/v1/commands?state=running").json["items"]) == 2, "it runs")
    relay.tell("cut")
    equal(p.wait(), 1, notes(p))
    check("attaching again" not in notes(p), notes(p))


def test_interrupted_while_away(t):
    d, _, relay = setup(t)
    p = start(t, d, relay, "exec", "-n", "web-1", "--", "sleep", "1000")
    until(lambda: d.agent("web-1")["status"] == "busy", "it runs")
    ident = d.get("/api/v1/commands").json["items"][0]["id"]
    relay.tell("refuse on")
    relay.tell("cut")
    until(lambda: "attaching again" in notes(p), "the break is noticed")
    p.signal(signal.SIGINT)
    equal(p.wait(), 130, notes(p))
    check("muster job wait " + ident in notes(p), notes(p))
    check(d.command(ident)["state"] in ("sent", "running"), d.command(ident))


# The words themselves -----------------------------------------------------------


def connect(d):
    return websockets.connect(
        "ws://127.0.0.1:%d/api/v1/exec" % d.port, subprotocols=["muster.exec.v1"], max_size=None,
        **{("extra_headers" if int(websockets.__version__.split(".")[0]) < 14 else "additional_headers"):
           {"Authorization": "Bearer " + d.token}})


async def converse(d, first):
    """(texts, output by stream, close code and reason) of one attachment."""
    texts, out = [], {2: b"", 3: b""}
    async with connect(d) as ws:
        await ws.send(json.dumps(first))
        try:
            while True:
                m = await asyncio.wait_for(ws.recv(), 20)
                if isinstance(m, str):
                    texts.append(json.loads(m))
                elif m[0] in out:
                    at = struct.unpack(">Q", m[1:9])[0]
                    equal(at, first.get({2: "out", 3: "err"}[m[0]], 0) + len(out[m[0]]), "offset")
                    out[m[0]] += m[9:]
        except websockets.exceptions.ConnectionClosed:
            return texts, out, (ws.close_code, ws.close_reason)


def test_words(t):
    d, _, _ = setup(t)
    e = t.cli(d, "exec", "-d", "--json", "web-1", "--", "sh", "-c", "seq 100000; echo e >&2; exit 3", code=0)
    ident = e.json["id"]
    d.command_ends(ident)
    want = b"".join(b"%d\n" % i for i in range(1, 100001))
    texts, out, closed = asyncio.run(converse(d, {"attach": ident}))
    equal([x["type"] for x in texts], ["accepted", "ended"])
    equal((out[2], out[3]), (want, b"e\n"))
    equal(closed, (1000, "ended"))
    equal(texts[1]["command"]["exit_code"], 3)
    texts, out, _ = asyncio.run(converse(d, {"attach": ident, "out": len(want) - 7, "err": 2}))
    equal((out[2], out[3]), (want[-7:], b""))
    equal([x["type"] for x in texts], ["accepted", "ended"])
    for bad, status, code in (({"attach": "cmd_nothing"}, 404, "COMMAND_NOT_FOUND"),
                              ({"attach": 7}, 400, "INVALID_REQUEST"),
                              ({"attach": ident, "out": -1}, 400, "INVALID_REQUEST"),
                              ({"attach": ident, "err": "x"}, 400, "INVALID_REQUEST")):
        texts, _, closed = asyncio.run(converse(d, bad))
        equal([(x["type"], x["status"], x["code"]) for x in texts], [("refused", status, code)], bad)
        equal(closed, (1000, "refused"))


def test_newest_has_the_streams(t):
    d, _, relay = setup(t)
    words, files = script(t, "echo one", "echo two; exit 5")
    p = start(t, d, relay, "exec", "-n", "web-1", "--", *words)
    until(lambda: p.out() == b"one\n", "the first line")
    ident = d.get("/api/v1/commands").json["items"][0]["id"]

    async def take_over():
        talk = asyncio.ensure_future(converse(d, {"attach": ident}))
        while p.running():
            await asyncio.sleep(0.02)
        touch(files[0])
        return await talk

    texts, out, _ = asyncio.run(take_over())
    equal(p.wait(), 1, notes(p))
    check("another client has attached" in notes(p), notes(p))
    equal((out[2], texts[-1]["command"]["exit_code"]), (b"one\ntwo\n", 5))


if __name__ == "__main__":
    main(globals())
