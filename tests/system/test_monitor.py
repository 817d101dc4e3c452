#!/usr/bin/python3
"""The monitor API: status boards, and other back ends that report to them."""
# timeout: 300

import asyncio
import contextlib
import json
import os
import time

import websockets

from harness import ROOT, Skip, check, equal, main, need, until

HERE = os.path.join(ROOT, "tests/system")


class Board:
    def __init__(self, ws):
        self.ws, self.heard = ws, []
        self.reader = asyncio.ensure_future(self.read())

    async def read(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self.ws:
                m = json.loads(text)
                equal(sorted(m), ["payload", "type"])
                check(isinstance(m["payload"]["timestamp"], int), m)
                self.heard.append(m)

    async def wait(self, kind, limit=20, **fields):
        end = time.monotonic() + limit
        while True:
            for m in self.heard:
                if m["type"] == kind and all(m["payload"].get(k) == v
                                             for k, v in fields.items()):
                    self.heard.remove(m)
                    return m["payload"]
            check(time.monotonic() < end, "no", kind, fields, "in", self.heard)
            check(not self.reader.done(), "closed", self.ws.close_code, "before", kind, fields)
            await asyncio.sleep(0.01)

    async def closed(self, code, limit=20):
        await asyncio.wait_for(self.ws.wait_closed(), limit)
        equal(self.ws.close_code, code, self.ws.close_reason)


async def board(d, path="/", token=True, query=False, **more):
    text = d.token if token is True else token
    headers = {} if query or text is None else {"Authorization": "Bearer " + text}
    if query:
        path += "?token=" + text
    return Board(await websockets.connect("ws://127.0.0.1:%d%s" % (d.port, path),
                                          extra_headers=headers, ping_interval=None, **more))


async def flat_agent(d, name="agent-1"):
    ws = await websockets.connect("ws://127.0.0.1:%d/ws?token=%s" % (d.port, d.agent_token),
                                  ping_interval=None)
    await ws.send(json.dumps({"type": "agent:connect", "agentId": name, "agentType": "claude",
                              "version": "1.0.0"}))
    return ws


def begin(t, *flags):
    need("musterd")
    d = t.musterd(*flags)
    d.agent_token = d.make_token("agents", ("agent:connect", "cluster:register",
                                            "cluster:heartbeat"))
    return d


def test_board(t):
    for lanes in "1", "4":
        see_a_life(begin(t, "--lanes", lanes))


def see_a_life(d):
    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        one, two = await board(d), await board(d, query=True)
        other = await board(d, "/socket/board")  # any path with nothing else
        for b in one, two, other:
            m = await b.wait("agent:status", agentId="agent-1")
            equal(m["status"], "online")
        w = d.get("/health").json
        equal(w["websocket"], {"status": "running", "connections": 3, "connectedUsers": 1})
        equal(w["config"], {"gatewayUrl": d.get("/health").json["config"]["gatewayUrl"],
                            "useMockData": False})
        equal((w["status"], w["gateway"]), ("ok", "connected"))
        # What boards say is nothing.
        for text in "{}", "nonsense", "[" * 1000, json.dumps({"type": "command:request"}):
            await one.ws.send(text)
        await one.ws.send(b"\x00")
        # Activity: the last line that has something in it, without control.
        a = d.post("/api/v1/commands", {"agent": "agent-1", "argv": ["x"]}).json
        m = json.loads(await agent.recv())
        while m["type"] != "command:execute":
            m = json.loads(await agent.recv())
        begun = time.monotonic()
        for n in range(200):
            await agent.send(json.dumps({
                "type": "terminal:output", "commandId": a["id"], "agentId": "agent-1",
                "output": {"type": "stdout", "content": "\x1b[31mline %d\x1b[0m\n\n" % n,
                           "timestamp": "2026-01-01T00:00:00Z"}}))
        for b in one, two, other:
            m = await b.wait("session:activity", lastMessage="line 199")
            equal((m["agentId"], m["sessionId"]), ("agent-1", a["id"]))
            count = len([m for m in b.heard if m["type"] == "session:activity"])
            took = time.monotonic() - begun
            check(count <= 2 + took / 0.2, count, "of 200 lines in %.1f s" % took)
        await agent.close()
        for b in one, two, other:
            await b.wait("agent:status", agentId="agent-1", status="offline")
        await two.ws.close()
        until(lambda: d.get("/health").json["websocket"]["connections"] == 2, "two are left")
        d.signal(15)
        for b in one, other:
            await b.closed(1001)
    asyncio.run(run())
    equal(d.wait(), 0)
    check(d.token not in d.log(), "a token in the log")


def test_refused(t):
    """401 before any upgrade: clients report 1006."""
    d = begin(t)
    weak = d.make_token("weak", ("token:read",))

    async def run():
        for token, status in ((None, 401), ("mut_nonsense", 401), (weak, 403),
                              (d.agent_token, 403)):
            try:
                await board(d, token=token)
                check(False, "was let in")
            except websockets.InvalidStatusCode as e:
                equal(e.status_code, status, token)
    asyncio.run(run())
    # The routes that are there do not become boards.
    for path in "/health", "/api/v1/agents":
        a = d.raw(("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, close\r\n"
                   "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer %s"
                   "\r\n\r\n" % (path, d.token)).encode())
        check(a.startswith(b"HTTP/1.1 200 "), a[:100])
    equal(d.get("/").status, 404)


def test_broadcast(t):
    d = begin(t)
    back_end = d.make_token("back-end", ("event:write", "agent:read"))
    weak = d.make_token("weak", ("agent:read", "event:read"))

    def report(path, body, token=back_end):
        return d.post("/api/v1/broadcast/" + path, body, token=token)

    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        b = await board(d)
        await b.wait("agent:status", agentId="agent-1", status="online")
        now = int(time.time() * 1000)
        status = {"agentId": "agent-1", "status": "error", "timestamp": now}
        equal(report("agent-status", status).status, 204)
        await b.wait("agent:status", agentId="agent-1", status="error")
        equal(d.agent("agent-1")["status_reason"], "reported_by_other")
        equal(report("agent-status", dict(status, status="online")).status, 204)
        await b.wait("agent:status", agentId="agent-1", status="online")
        activity = {"agentId": "agent-1", "sessionId": "session-456",
                    "lastMessage": "User said: <b>Hello</b>", "timestamp": now}
        equal(report("session-activity", activity).status, 204)
        m = await b.wait("session:activity", sessionId="session-456")
        equal(m["lastMessage"], "User said: <b>Hello</b>")
        await agent.close()
        await b.wait("agent:status", agentId="agent-1", status="offline")
        # A word can lower what is so, and not raise it.
        equal(report("agent-status", dict(status, status="online")).status, 204)
        equal(d.agent("agent-1")["status"], "offline")
        for path, body, want, field in (
                ("agent-status", dict(status, agentId="nobody"), 404, "agentId"),
                ("session-activity", dict(activity, agentId="nobody"), 404, "agentId"),
                ("agent-status", dict(status, status="dancing"), 400, "status"),
                ("agent-status", {"agentId": "agent-1"}, 400, "status"),
                ("session-activity", dict(activity, sessionId=5), 400, "sessionId"),
                ("session-activity", dict(activity, sessionId="x" * 200), 400, "sessionId")):
            a = report(path, body)
            equal((a.status, a.json.get("field")), (want, field), (path, body))
        equal(report("agent-status", b"nonsense").status, 400)
        equal(report("agent-status", status, token=weak).status, 403)
        await b.ws.close()
    asyncio.run(run())


def test_heartbeat(t):
    """A board hears every 30 s that the controller is there; who comes to the
    console says within 30 s what it is."""
    d = begin(t)

    async def hear():
        b = await board(d)
        start = time.monotonic()
        m = await b.wait("heartbeat", limit=35)
        check(28 < time.monotonic() - start < 34, time.monotonic() - start)
        check(abs(m["timestamp"] - time.time() * 1000) < 5000, m)
        await b.ws.close()

    async def be_mute():
        ws = await websockets.connect("ws://127.0.0.1:%d/ws?token=%s" % (d.port, d.token),
                                      ping_interval=None)
        start = time.monotonic()
        await asyncio.wait_for(ws.wait_closed(), 40)
        equal((ws.close_code, ws.close_reason), (1008, "auth_timeout"))
        check(28 < time.monotonic() - start < 34, time.monotonic() - start)

    async def run():
        await asyncio.gather(hear(), be_mute())
    asyncio.run(run())


def said(program, what, count=1, **fields):
    def look():
        found = []
        for line in program.out().decode().splitlines(keepends=True):
            m = json.loads(line) if line.endswith("\n") else {"what": None}
            if m["what"] == what and all(m.get(k) == v for k, v in fields.items()):
                found.append(m)
        return found if len(found) >= count else None
    return until(look, "%d of %s %s" % (count, what, fields))


def test_npm_ws(t):
    modules = os.path.join(ROOT, "build/node/node_modules")
    if not os.path.isdir(modules):
        raise Skip("no npm ws; tools/setup test gets it")
    d = begin(t)

    def start(where, token=d.token):
        return t.start("node", ["node", os.path.join(HERE, "node/monitor.js"), "ws" + d.url[4:],
                                token, where], env={"NODE_PATH": modules})

    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        boards = [start("header"), start("query")]
        for b in boards:
            said(b, "status", id="agent-1", status="online")
        await agent.close()
        for b in boards:
            said(b, "status", id="agent-1", status="offline")
        bad = start("query", "nonsense")
        said(bad, "close", code=1006)
        bad.kill()
        again = d
        equal(d.stop(), 0)
        for b in boards:
            said(b, "close", code=1001)
        again = d.again()
        for b in boards:
            said(b, "open", 2)
            equal(b.stop(), 0)
        equal(again.stop(), 0)
    asyncio.run(run())


main(globals())
