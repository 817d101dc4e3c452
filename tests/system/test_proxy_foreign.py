#!/usr/bin/python3
"""Services behind agents of other programs, asked for by JSON messages: every
form of an answer, old and broken agents, through the real musterd."""

import asyncio
import base64
import gzip
import json
import os
import subprocess
import threading
import time

import websockets

from harness import BUILD, ROOT, Skip, check, equal, main, until
from json_agent import (OLD, JsonAgent, accepts, b64, echo, framed, messages, pieces, whole)

SERVICE = "/clusters/edge-1/services/shop/web:8080"


class World:
    """A controller, such an agent, and a visitor who may go there."""

    def __init__(self, t, handlers=None, features=None):
        self.d = t.musterd("--unsafe-path-routes=on")
        self.agent = JsonAgent(self.d, self.d.make_token(), handlers, features)

    async def __aenter__(self):
        await self.agent.__aenter__()
        return self

    async def __aexit__(self, *unused):
        await self.agent.__aexit__()

    async def ask(self, path, method="GET", body=None, headers=None):
        def call():
            return self.d.call(method, SERVICE + path, body, token=False,
                               headers=dict(headers or {}, **self.pass_()))
        return await asyncio.get_running_loop().run_in_executor(None, call)

    def pass_(self):
        """A token of Muster's, for whoever guards the way to services."""
        return {"X-Muster-Authorization": "Bearer " + self.d.token}

    def ws(self, path="/ws", **more):
        return websockets.connect("ws" + self.d.url[4:] + SERVICE + path, max_size=None,
                                  extra_headers=self.pass_(), **more)

    async def open(self, method, path, fields=""):
        """A request by hand, to see how its answer comes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.d.port, limit=100000)
        writer.write(("%s %s%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sX-Muster-Authorization: Bearer %s"
                      "\r\n\r\n" % (method, SERVICE, path, fields, self.d.token)).encode())
        return reader, writer

    def route(self, host, to=None, **more):
        to = to or {"service": "web", "namespace": "shop", "port": 8080}
        a = self.d.post("/api/v1/routes", dict(more, host=host, agent="edge-1", public=True, to=to))
        equal(a.status, 201, a)

    async def seen(self, kind):
        """The first message of that type that the agent got."""
        def found():
            return [m for m in self.agent.seen if m["type"] == kind]
        await until_async(found)
        return found()[0]


async def until_async(condition, limit=20):
    end = time.monotonic() + limit
    while not condition():
        check(time.monotonic() < end, "it never came")
        await asyncio.sleep(0.01)


def world(t, handlers, work, features=None):
    async def run():
        async with World(t, handlers, features) as w:
            await asyncio.wait_for(work(w), 60)
        return w.d
    equal(asyncio.run(run()).stop(), 0)


def test_request(t):
    async def work(w):
        a = await w.ask("/a?x=1&y=%20", headers={"Accept": "text/plain", "Authorization": "Basic eDp5",
                                                 "Cookie": "__Host-muster=x; own=y"})
        equal(a.status, 200)
        r = list(w.agent.requests.values())[0]
        equal((r["method"], r["path"], r["query"], r["service_name"], r["namespace"],
               r["service_port"]), ("GET", "/a", "x=1&y=%20", "web", "shop", 8080))
        head = {k.lower(): v for k, v in r["headers"].items()}
        equal((head["accept"], head["authorization"], head["cookie"]),
              ("text/plain", "Basic eDp5", "own=y"))
        check("host" in head and "x-forwarded-for" in head, head)
        # What is Muster's stays here.
        check("x-muster-authorization" not in head and w.d.token not in str(r), r)
        check("body" not in r and "body_binary" not in r, r)
    world(t, {"/a": whole(body=b"hi")}, work)


def test_whole(t):
    long = b"line\n" * 4000
    forms = {
        "/plain": whole(201, {"X": ["a", "b"], "Content-Type": "text/plain"}, b"hi", encoding=""),
        "/base64": whole(200, {}, bytes(range(256))),
        "/gzip": whole(200, {"Content-Type": "text/html"}, long, "gzip"),
        "/empty": whole(204),
        "/frame": framed({"Content-Type": ["application/octet-stream"]}, bytes(range(256)) * 100),
        "/packed": framed({"Content-Type": ["text/plain"]}, gzip.compress(long)),
        "/sized": framed({"Content-Type": ["x/y"], "Content-Length": [str(len(long))]},
                         gzip.compress(long)),
        "/archive": framed({"Content-Type": ["application/gzip"]}, gzip.compress(long, mtime=0)),
    }

    async def work(w):
        a = await w.ask("/plain")
        equal((a.status, a.body, a.headers["Content-Type"]), (201, b"hi", "text/plain"))
        for path, body in (("/base64", bytes(range(256))), ("/gzip", long),
                           ("/frame", bytes(range(256)) * 100), ("/packed", long),
                           ("/sized", long), ("/archive", gzip.compress(long, mtime=0))):
            a = await w.ask(path)
            equal((path, a.status), (path, 200))
            check(a.body == body, path, len(a.body))
            equal(a.headers["Content-Length"], str(len(body)))
        a = await w.ask("/empty")
        equal((a.status, a.body), (204, b""))
        a = await w.ask("/base64", "HEAD")
        equal((a.status, a.body), (200, b""))
    world(t, forms, work)


def test_pieces(t):
    parts = [os.urandom(32768) for _ in range(100)]

    async def held(agent, r):
        await agent.say("proxy_response_header", r["id"], status=200, headers={})
        await agent.say("proxy_response_chunk", r["id"], data=b64(b"first"))
        await agent.held.wait()
        await agent.say("proxy_response_chunk", r["id"], chunk=b64(b"second"))
        await agent.say("proxy_response_end", r["id"])

    async def work(w):
        a = await w.ask("/long")
        check(a.status == 200 and a.body == b"".join(parts), len(a.body))
        a = await w.ask("/sized")
        equal((a.body, a.headers["Content-Length"]), (b"hello", "5"))
        # What was said is there before the rest is.
        w.agent.held = asyncio.Event()
        reader, writer = await w.open("GET", "/held")
        await reader.readuntil(b"first")
        w.agent.held.set()
        await reader.readuntil(b"second")
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()
    world(t, {"/long": pieces(parts), "/held": held,
              "/sized": pieces([b"hel", b"lo"], {"Content-Length": ["5"]})}, work)


def test_bodies(t):
    async def count(agent, r):
        body = base64.b64decode(r.get("body", ""))
        if r.get("use_streaming"):
            check(r["streaming"] is True and "body" not in r, r)
            while True:
                m = await r["more"].get()
                if m["type"] != "proxy_request_chunk":
                    break
                part = base64.b64decode(m["payload"]["data"])
                equal(m["payload"]["size"], len(part))
                body += part
            equal(m["type"], "proxy_request_stream_end")
        await whole(body=b"%d %d" % (len(body), sum(body)))(agent, r)

    async def work(w):
        for n in (0, 1, 100000, 5000000):
            body = os.urandom(n)
            a = await w.ask("/up", "POST", body, {"Content-Type": "x/y"})
            equal((a.status, a.body), (200, b"%d %d" % (n, sum(body))))
        kinds = [bool(r.get("use_streaming")) for r in w.agent.requests.values()]
        equal(kinds, [False, False, False, True])
    world(t, {"/up": count}, work)


def test_continue(t):
    async def work(w):
        reader, writer = await w.open("POST", "/up", "Expect: 100-continue\r\nContent-Length: 2\r\n")
        check((await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 "))
        writer.write(b"hi")
        check((await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 "))
        equal(await reader.readexactly(2), b"ok")
        r = list(w.agent.requests.values())[0]
        check(base64.b64decode(r["body"]) == b"hi" and "Expect" not in r["headers"], r)
        writer.close()
    world(t, {"/up": whole(body=b"ok")}, work)


def test_old_agent(t):
    """v0.0.50 knows whole requests and whole answers, and nothing else."""
    async def big(agent, r):
        check(not r["supports_response_streaming"] and "use_streaming" not in r, r)
        body = base64.b64decode(r["body"])
        await whole(body=b"%d" % len(body))(agent, r)

    async def work(w):
        a = await w.ask("/up", "POST", b"x" * 5000000)
        equal((a.status, a.body), (200, b"5000000"))
        # What it cannot take is refused, not cut.
        a = await w.ask("/up", "POST", b"x" * 9000000)
        equal(a.status, 502)
        equal(len(w.agent.requests), 1)
    world(t, {"/up": big}, work, OLD)


def test_does_not_know_pieces(t):
    async def work(w):
        w.agent.unknown = {"proxy_request_chunk"}
        a = await w.ask("/up", "POST", b"x" * 2000000)
        equal(a.status, 502)
        # It is asked in another way from then on, and told of once.
        a = await w.ask("/up", "POST", b"x" * 2000000)
        equal((a.status, a.body), (200, b"done"))
        check("use_streaming" not in list(w.agent.requests.values())[-1])
        equal(w.d.log().count("event=protocol_fallback"), 1)

    async def up(agent, r):
        if not r.get("use_streaming"):
            await whole(body=b"done")(agent, r)
    world(t, {"/up": up}, work)


def test_failures(t):
    chunk = '{"type":"proxy_response_chunk","request_id":"{id}","payload":{"data":"aGk="%s}}'
    header = '{"type":"proxy_response_header","request_id":"{id}","payload":{"status":200,"headers":{%s}}}'
    end = '{"type":"proxy_response_end","request_id":"{id}","payload":{}}'
    broken = {
        "/error": messages('{"type":"proxy_error","request_id":"{id}","payload":{"error":"dial tcp: '
                           'connection refused"}}'),
        "/splits": messages('{"type":"proxy_response","request_id":"{id}","payload":{"status":200,'
                            '"headers":{"X":"a\\r\\nSet-Cookie: b=c"},"body":"x"}}'),
        "/status": messages('{"type":"proxy_response","request_id":"{id}","payload":{"status":7}}'),
        "/early": messages(chunk % ""),
        "/truncated": framed({"Content-Length": ["100"]}, b"x" * 50),
        "/not-base64": messages('{"type":"proxy_response","request_id":"{id}","payload":{"status":200,'
                                '"body":"?","encoding":"base64"}}'),
        "/not-gzip": messages('{"type":"proxy_response","request_id":"{id}","payload":{"status":200,'
                              '"body":"aGk=","encoding":"gzip"}}'),
        "/upgrades": messages('{"type":"proxy_response","request_id":"{id}","payload":{"status":101}}'),
        "/unknown": messages('{"type":"protocol_fallback","payload":{"unknown_type":"proxy_request",'
                             '"original_request_id":"{id}"}}'),
    }
    # Broken off in the middle: the visitor sees that it is not all.
    cut = {
        "/aborts": pieces([b"x"], end="proxy_response_abort"),
        "/short": pieces([b"x" * 50], {"Content-Length": ["100"]}),
        "/reorders": messages(header % "", chunk % ',"sequence":1', chunk % ',"sequence":3', end),
        "/size": messages(header % "", chunk % ',"size":3', end),
        "/mixes": messages(header % "", chunk % "",
                           '{"type":"proxy_response","request_id":"{id}","payload":{"status":200}}'),
    }

    async def work(w):
        for path in broken:
            a = await w.ask(path)
            equal((path, a.status), (path, 502))
            check(b"Set-Cookie: b=c" not in a.body and "b=c" not in str(a.headers), path)
            if path == "/unknown":
                break
        equal(w.d.log().count("event=protocol_fallback"), 1)
        # It is not asked again.
        before = len(w.agent.requests)
        a = await w.ask("/error")
        check(a.status in (502, 503) and len(w.agent.requests) == before, a)

    async def work_cut(w):
        for path in cut:
            reader, writer = await w.open("GET", path)
            try:
                got = await asyncio.wait_for(reader.read(), 20)
            except ConnectionResetError:
                got = b""
            check(not got.endswith(b"0\r\n\r\n"), path, got)
            check(b"Content-Length: 100" in got or b"Content-Length" not in got or b" 502 " in got,
                  path, got)
            writer.close()
        # The agent hears of what it did not end itself.
        await w.seen("proxy_cancel")
    world(t, broken, work)
    world(t, cut, work_cut)


def test_times(t):
    """No answer in time is 504, and the agent hears that nobody waits."""
    async def work(w):
        w.route("app.example", answer_ms=300)
        loop = asyncio.get_running_loop()
        a = await loop.run_in_executor(
            None, lambda: w.d.get("/never", token=False, headers={"Host": "app.example"}))
        equal((a.status, a.code), (504, "ANSWER_TIMEOUT"))
        try:
            async with websockets.connect("ws://app.example/never", host="127.0.0.1", port=w.d.port):
                raise AssertionError("it was opened")
        except websockets.InvalidStatusCode as e:
            equal(e.status_code, 504)
        await until_async(lambda: [m["type"] for m in w.agent.seen].count("proxy_cancel") == 2)
    world(t, {}, work)


def test_stuck_agent(t):
    """Its link takes nothing more: the upload fails, others do not wait for ever."""
    async def work(w):
        w.agent.ws.transport.pause_reading()
        a = await w.ask("/up", "POST", b"x" * 24000000)
        equal((a.status, a.code), (504, "AGENT_STUCK"))
        w.agent.ws.transport.resume_reading()
        equal((await w.ask("/fine")).body, b"fine")
    world(t, {"/fine": whole(body=b"fine")}, work)


def test_mixed_up_ends(t):
    """Parts behind the end: such an agent is asked for whole answers."""
    async def late(agent, r):
        if not r["supports_response_streaming"]:
            await whole(body=b"whole")(agent, r)
            return
        await agent.say("proxy_response_header", r["id"], status=200, headers={})
        await agent.say("proxy_response_end", r["id"])
        await agent.say("proxy_response_chunk", r["id"], data=b64(b"late"))

    async def work(w):
        equal((await w.ask("/late")).status, 200)
        for _ in range(100):
            a = await w.ask("/late")
            if a.body:
                break
        equal(a.body, b"whole")
        check("event=agent_mixes_up" in w.d.log())
    world(t, {"/late": late}, work)


def test_nobodys(t):
    async def noise(agent, r):
        for kind in ("proxy_response", "proxy_response_chunk", "proxy_response_end", "ws_data",
                     "proxy_error", "backpressure"):
            await agent.say(kind, "prx_nobody", status=200, data="aGk=")
        await agent.ws.send(b"\0\3abc\0\0\0\310\0\0\0\2{}x")
        await whole(body=b"ok")(agent, r)
        await whole(body=b"again")(agent, r)

    async def work(w):
        for _ in range(3):
            equal((await w.ask("/noise")).body, b"ok")
    world(t, {"/noise": noise}, work)


def test_visitor_leaves(t):
    async def endless(agent, r):
        await agent.say("proxy_response_header", r["id"], status=200, headers={})
        await agent.say("proxy_response_chunk", r["id"], data=b64(b"first"))

    async def work(w):
        reader, writer = await w.open("GET", "/endless")
        await reader.readuntil(b"first")
        writer.close()
        m = await w.seen("proxy_cancel")
        check(m["request_id"] in w.agent.requests, m)
    world(t, {"/endless": endless}, work)


def test_slow_visitor(t):
    """The agent cannot be held back: what waits is bounded, then it is cut."""
    async def flood(agent, r):
        await agent.say("proxy_response_header", r["id"], status=200, headers={})
        part = b64(b"x" * 32768)
        while not r["more"].qsize():
            await agent.say("proxy_response_chunk", r["id"], data=part)
            await asyncio.sleep(0)

    async def work(w):
        reader, writer = await w.open("GET", "/flood")
        m = await w.seen("proxy_cancel")
        check(m["request_id"] in w.agent.requests, m)
        equal((await w.ask("/fine")).body, b"fine")
        writer.close()
    world(t, {"/flood": flood, "/fine": whole(body=b"fine")}, work)


def test_agent_dies(t):
    async def dies(agent, r):
        await agent.say("proxy_response_header", r["id"], status=200, headers={})
        await agent.say("proxy_response_chunk", r["id"], data=b64(b"half"))
        agent.ws.transport.abort()

    async def silent_death(agent, r):
        agent.ws.transport.abort()

    async def work(w):
        reader, writer = await w.open("GET", "/dies")
        begun = time.monotonic()
        try:
            got = await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            got = b""
        check(not got.endswith(b"0\r\n\r\n"), got)
        check(time.monotonic() - begun < 10)
        writer.close()

    async def work_before(w):
        equal((await w.ask("/dies")).status, 502)
    world(t, {"/dies": dies}, work)
    world(t, {"/dies": silent_death}, work_before)


def test_websocket(t):
    async def work(w):
        async with w.ws(subprotocols=["chat", "superchat"]) as ws:
            equal(ws.subprotocol, "chat")
            for m in ("hello", b"\0\1\2", "", b"", "x" * 100000, os.urandom(3 << 20)):
                await ws.send(m)
                check(await ws.recv() == m, len(m))
            # Said and gone: all of it arrives, in order, before the close.
            for n in range(30):
                await ws.send("last %d" % n)
        r = list(w.agent.requests.values())[0]
        check(r["is_websocket"] is True and r["protocol"] == "chat, superchat", r)
        check(not r["supports_response_streaming"], r)
        names = {n.lower() for n in r["headers"]}
        # Their own handshake has these: twice, and older agents refuse to dial.
        check(not names & {"sec-websocket-key", "sec-websocket-version",
                           "sec-websocket-extensions"}, names)
        m = await w.seen("proxy_websocket_close")
        equal(m["payload"]["stream_id"], r["id"])
        closes = [base64.b64decode(m["payload"]["data"]) for m in w.agent.seen
                  if m["type"] == "proxy_websocket_data" and m["payload"]["message_type"] == 8]
        equal(closes, [b"\x08\x03\xe8"])
        last = [base64.b64decode(m["payload"]["data"])[1:] for m in w.agent.seen
                if m["type"] == "proxy_websocket_data"][-31:-1]
        equal(last, [b"last %d" % n for n in range(30)])
        check("proxy_stream_data" not in {m["type"] for m in w.agent.seen})
    world(t, {"/ws": accepts(echo, {"Sec-WebSocket-Protocol": ["chat"]})}, work)


def test_websocket_names(t):
    """Every name of data and close that agents and documents have."""
    async def talk(agent, r):
        await agent.data(r["id"], 1, b"one")
        await agent.data(r["id"], 2, b"two", "ws_data")
        await agent.send({"type": "proxy_stream_chunk", "request_id": r["id"],
                          "data": b64(b"\1three"), "direction": "from_agent"})
        await agent.say("ws_data", "", stream_id=r["id"], message_type=1, data=b64(b"four"))
        await agent.data(r["id"], 9, b"ping")
        await agent.held(agent, r)

    ends = {
        "frame": lambda a, r: a.data(r["id"], 8, b"\x0f\xa1bye"),
        "close": lambda a, r: a.say("proxy_websocket_close", r["id"], request_id=r["id"]),
        "ws_close": lambda a, r: a.say("ws_close", "", stream_id=r["id"]),
        "document": lambda a, r: a.send({"type": "proxy_stream_close", "request_id": r["id"],
                                         "reason": "bye"}),
    }

    async def work(w):
        for name, end in ends.items():
            w.agent.held = end
            async with w.ws() as ws:
                equal([await ws.recv() for _ in range(4)], ["one", b"two", "three", "four"])
                await ws.wait_closed()
                want = (4001, "bye") if name == "frame" else \
                    (1000, "bye" if name == "document" else "")
                equal((name, ws.close_code, ws.close_reason), (name,) + want)
        pongs = [m for m in w.agent.seen if m["type"] == "proxy_websocket_data" and
                 m["payload"]["message_type"] == 10]
        equal([base64.b64decode(m["payload"]["data"]) for m in pongs], [b"\x0aping"] * 4)
    world(t, {"/ws": accepts(talk)}, work)


def closes_with(code):
    async def see(w):
        async with w.ws() as ws:
            try:
                while True:
                    await asyncio.wait_for(ws.recv(), 20)
            except websockets.ConnectionClosed:
                pass
            equal(ws.close_code, code)
    return see


def test_websocket_broken(t):
    async def mismatch(agent, r):
        await agent.say("proxy_websocket_data", r["id"], data=b64(b"\1hi"), message_type=2)

    async def not_utf8(agent, r):
        await agent.data(r["id"], 1, b"\xff")

    async def full(agent, r):
        await agent.say("backpressure", r["id"], request_id=r["id"], reason="channel_full")

    async def error(agent, r):
        await agent.say("proxy_error", r["id"], error="broken pipe")

    async def reorders(agent, r):
        for n in (1, 2, 4):
            await agent.data(r["id"], 1, b"x", sequence=n)

    async def dies(agent, r):
        agent.ws.transport.abort()

    async def huge(agent, r):
        await agent.data(r["id"], 2, b"x" * (10 * 1024 * 1024 + 1))

    for talk, code in ((huge, 1009), (mismatch, 1011), (not_utf8, 1007), (full, 1013), (error, 1011),
                       (reorders, 1011), (dies, 1011)):
        world(t, {"/ws": accepts(talk)}, closes_with(code))


def test_websocket_sizes(t):
    async def work(w):
        async with w.ws() as ws:
            message = os.urandom(10 * 1024 * 1024)
            await ws.send(message)
            check(await ws.recv() == message)
            await ws.send(message + b"x")
            await ws.wait_closed()
            equal(ws.close_code, 1009)
        await w.seen("proxy_websocket_close")
    world(t, {"/ws": accepts(echo)}, work)


def test_websocket_refused(t):
    """No 101, no WebSocket: the service's own refusal reaches the visitor."""
    async def refused(w, path, status):
        try:
            async with w.ws(path):
                raise AssertionError("it was opened")
        except websockets.InvalidStatusCode as e:
            equal((path, e.status_code), (path, status))

    async def work(w):
        await refused(w, "/no", 403)
        await refused(w, "/error", 502)
        # 96b1f6a keeps all messages until the end, and the 101 with them.
        await refused(w, "/late", 502)
        await refused(w, "/protocol", 502)
    world(t, {"/no": whole(403, {"X": "y"}, b"no"),
              "/error": messages('{"type":"proxy_error","request_id":"{id}","payload":{"error":'
                                 '"failed to connect to service WebSocket"}}'),
              "/late": accepts(None, early=b"\1hi"),
              "/protocol": accepts(None, {"Sec-WebSocket-Protocol": ["other"]})}, work)


def test_silent_close(t):
    """Agents do not tell when the service has closed: the idle limit does."""
    async def work(w):
        w.route("app.example", idle_ms=500)
        async with websockets.connect("ws://app.example/ws", host="127.0.0.1", port=w.d.port) as ws:
            equal(await ws.recv(), "last")
            await ws.wait_closed()
            equal((ws.close_code, ws.close_reason), (1001, "idle"))
        await w.seen("proxy_websocket_close")

    async def talk(agent, r):
        await agent.data(r["id"], 1, b"last")
    world(t, {"/ws": accepts(talk)}, work)


def test_backpressure(t):
    """It wants less: the visitor is held for a moment, and nothing is lost."""
    async def talk(agent, r):
        await agent.say("backpressure", r["id"], request_id=r["id"], reason="buffer_high")
        await agent.data(r["id"], 1, b"go")
        await echo(agent, r)

    async def work(w):
        async with w.ws() as ws:
            equal(await ws.recv(), "go")
            begun = time.monotonic()
            for n in range(50):
                await ws.send(str(n))
            equal([await ws.recv() for _ in range(50)], [str(n) for n in range(50)])
            check(time.monotonic() - begun > 0.1)
    world(t, {"/ws": accepts(talk)}, work)


def test_many(t):
    """Many at once keep apart."""
    async def work(w):
        async def one(n):
            async with w.ws("/ws?n=%d" % n) as ws:
                for i in range(20):
                    await ws.send("%d-%d" % (n, i))
                    equal(await ws.recv(), "%d-%d" % (n, i))
        await asyncio.gather(*[one(n) for n in range(50)])
    world(t, {"/ws": accepts(echo)}, work)


def test_targets(t):
    """Services of a cluster, by name or by their host; nothing else can be said."""
    async def work(w):
        hosts = {"a.example": {"host": "db.data.svc.cluster.local", "port": 81},
                 "b.example": {"host": "db.data.svc", "port": 81},
                 "c.example": {"host": "10.0.0.1", "port": 81},
                 "d.example": {"service": "db", "namespace": "data", "port": 81}}
        for host, to in hosts.items():
            w.route(host, to)
        w.route("e.example", hosts["d.example"], tls=True)
        loop = asyncio.get_running_loop()
        for host in ("a.example", "b.example", "c.example", "d.example", "e.example"):
            a = await loop.run_in_executor(
                None, lambda: w.d.get("/a", token=False, headers={"Host": host}))
            equal((host, a.status), (host, 200 if host in "a.example b.example d.example" else 502))
        asked = [(r["service_name"], r["namespace"], r["service_port"], r["headers"]["Host"])
                 for r in w.agent.requests.values()]
        equal(asked, [("db", "data", 81, h) for h in ("a.example", "b.example", "d.example")])
    world(t, {"/a": whole(body=b"x")}, work)


def test_not_announced(t):
    """Who does not say that it can is not asked."""
    async def work(w):
        a = await w.ask("/a")
        check(a.status in (502, 503) and not w.agent.requests, a)
    world(t, {"/a": whole(body=b"x")}, work, {})


# in Go -----------------------------------------------------------------------

def go_agent(t, d, name, *words, ident="edge-1"):
    for library in ("gorilla/websocket", "hashicorp/yamux"):
        if not os.path.isdir("/usr/share/gocode/src/github.com/" + library):
            raise Skip("no %s; tools/setup test gets it" % library)
    program = t.path(name)
    subprocess.run(["go", "build", "-o", program, "./tests/system/" + name], check=True, cwd=ROOT,
                   env=dict(t.env, GOPATH="/usr/share/gocode", GO111MODULE="off", GOFLAGS="",
                            GOCACHE=os.path.join(BUILD, "gocache")))
    return t.start(name, [program, "ws" + d.url[4:], d.make_token(), ident, *words])


def said(program, what):
    return [m["more"] for m in map(json.loads, program.out().decode().splitlines())
            if m["what"] == what]


async def service(reader, writer):
    """HTTP by hand: a WebSocket echo at /ws, else what was asked."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            body = head.split("\r\n")[0].encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        writer.close()


async def echoes(ws, path):
    del path
    async for m in ws:
        await ws.send(m)


def service_words(ports):
    return ["%s.shop:8080=127.0.0.1:%d" % pair for pair in zip(("web", "ws"), ports)]


def test_go_agent(t):
    """The habits of real agents: a goroutine a message, 100 of them waiting, gorilla's dialer that
    refuses what it says itself, packed binary answers."""
    page = b"a" * 20000

    async def pages(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + page)
        writer.close()

    async def work(d, head):
        plain = await asyncio.start_server(pages, "127.0.0.1", 0)
        sockets = await websockets.serve(echoes, "127.0.0.1", 0, subprotocols=["chat"])
        agent = go_agent(t, d, "proxy_agent", *service_words(
            [s.sockets[0].getsockname()[1] for s in (plain, sockets)]))
        loop = asyncio.get_running_loop()
        await until_async(lambda: b"registered" in agent.out())
        a = await loop.run_in_executor(None, lambda: d.get(SERVICE + "/", token=False, headers=head))
        equal((a.status, a.body == page), (200, True))
        url = "ws" + d.url[4:] + SERVICE.replace("/web:", "/ws:") + "/"
        async with websockets.connect(url, extra_headers=head, subprotocols=["chat"]) as ws:
            equal(ws.subprotocol, "chat")
            # Sent at once they would be turned about, and lost beyond 100.
            for n in range(200):
                await ws.send(str(n))
            equal([await ws.recv() for _ in range(200)], [str(n) for n in range(200)])
        plain.close()
        sockets.close()

    d = t.musterd("--unsafe-path-routes=on")
    head = {"X-Muster-Authorization": "Bearer " + d.token}
    asyncio.run(asyncio.wait_for(work(d, head), 60))


def test_yamux(t):
    """Agents that agree on yamux get streams with the version-1 header."""
    async def work(d, head):
        plain = await asyncio.start_server(service, "127.0.0.1", 0)
        sockets = await websockets.serve(echoes, "127.0.0.1", 0)
        ports = [s.sockets[0].getsockname()[1] for s in (plain, sockets)]
        agent = go_agent(t, d, "yamux_agent", "agree", *service_words(ports))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, d.log_has, "event=yamux_answered")
        for path in ("/a?b=1", "/b"):
            a = await loop.run_in_executor(None, lambda: d.get(SERVICE + path, token=False,
                                                               headers=head))
            equal((a.status, a.body), (200, b"GET %s HTTP/1.1" % path.encode()))
        url = "ws" + d.url[4:] + SERVICE.replace("/web:", "/ws:") + "/"
        async with websockets.connect(url, extra_headers=head) as ws:
            for m in ("hello", b"\0" * 300000):
                await ws.send(m)
                equal(await ws.recv(), m)
        streams = said(agent, "stream")
        equal({(s["proto"], s["service"], s["namespace"], s["port"]) for s in streams},
              {(1, "web", "shop", 8080), (1, "ws", "shop", 8080)})
        check(all(s["tunnel_id"] for s in streams), streams)
        equal(said(agent, "proxy_request"), [])
        plain.close()
        sockets.close()

    d = t.musterd("--unsafe-path-routes=on")
    head = {"X-Muster-Authorization": "Bearer " + d.token}
    asyncio.run(asyncio.wait_for(work(d, head), 60))


def test_yamux_refusals(t):
    """Who declines is asked by messages; binary answers under yamux break it."""
    d = t.musterd("--unsafe-path-routes=on")
    agent = go_agent(t, d, "yamux_agent", "decline")
    d.log_has("event=yamux_answered")
    check("agreed=false" in d.log())
    visitor = threading.Thread(target=lambda: d.get(
        SERVICE + "/a", token=False, headers={"X-Muster-Authorization": "Bearer " + d.token}))
    visitor.start()
    until(lambda: said(agent, "proxy_request"), "a request by messages")
    agent.kill()
    visitor.join()
    broken = go_agent(t, d, "yamux_agent", "binary", ident="edge-2")
    until(lambda: said(broken, "close"), "the end of the link")
    equal(said(broken, "close"), [1002])


if __name__ == "__main__":
    main(globals())
