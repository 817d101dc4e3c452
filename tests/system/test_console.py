#!/usr/bin/python3
"""The console API: dashboards and coding agents, in both spellings.

Clients here are written from document 2 and from what existing programs say;
test_console_foreign has the document's own example clients.
"""
# timeout: 400

import asyncio
import base64
import contextlib
import gzip
import json
import os
import time

import websockets

from harness import check, equal, main, need, until


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


class Peer:
    """One WebSocket; hears everything and lets wait for what it wants."""

    def __init__(self, ws):
        self.ws, self.heard, self.news = ws, [], asyncio.Event()
        self.reader = asyncio.ensure_future(self.read())

    async def read(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self.ws:
                self.heard.append(json.loads(text))
                self.news.set()
        self.news.set()

    async def say(self, kind, **fields):
        await self.ws.send(json.dumps(dict({"type": kind, "timestamp": stamp()}, **fields)))

    async def upper(self, kind, payload, ident=None):
        await self.ws.send(json.dumps({"type": kind, "id": ident or "id-%d" % len(self.heard),
                                       "timestamp": int(time.time() * 1000), "payload": payload}))

    async def wait(self, want, limit=20, **fields):
        """The first message that fits, and take it out."""
        def fits(m):
            return m["type"] == want and all(m.get(k, (m.get("payload") or {}).get(k)) == v
                                             for k, v in fields.items())
        end = time.monotonic() + limit
        while True:
            for i, m in enumerate(self.heard):
                if fits(m):
                    del self.heard[i]
                    return m
            left = end - time.monotonic()
            check(left > 0, "no", want, fields, "in", self.heard[-20:],
                  "closed" if self.ws.closed else "open", self.ws.close_code)
            check(not self.ws.closed or not self.reader.done(), "closed", self.ws.close_code,
                  self.ws.close_reason, "before", want, self.heard[-20:])
            self.news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.news.wait(), min(left, 1))

    async def closed(self, code, reason=None, limit=20):
        await asyncio.wait_for(self.ws.wait_closed(), limit)
        equal(self.ws.close_code, code, "close code (%s)" % self.ws.close_reason)
        if reason is not None:
            equal(self.ws.close_reason, reason)

    async def close(self):
        await self.ws.close()
        await self.reader


async def connect(d, path="/ws", token=True, **more):
    headers = {} if token is None else {
        "Authorization": "Bearer " + (d.token if token is True else token)}
    ws = await websockets.connect("ws://127.0.0.1:%d%s" % (d.port, path), max_size=2 ** 26,
                                  extra_headers=headers, ping_interval=None, **more)
    return Peer(ws)


async def dashboard(d, path="/ws", name="dash-1", token=True, compression="deflate", **more):
    p = await connect(d, path, token, compression=compression)
    await p.say("dashboard:connect", dashboardId=name, **more)
    p.agents = (await p.wait("agent:list"))["agents"]
    return p


async def flat_agent(d, name="agent-1", path="/ws", token=None, **more):
    p = await connect(d, path, token or d.agent_token)
    await p.say("agent:connect", agentId=name, agentType="claude", version="1.0.0", **more)
    return p


def begin(t, *flags, **more):
    need("musterd")
    d = t.musterd(*flags, **more)
    d.agent_token = d.make_token("agents", ("agent:connect", "cluster:register",
                                            "cluster:heartbeat"))
    return d


async def run_command(dash, agent, name="agent-1", **fields):
    """Ask for one; the dashboard's and the agent's word on it."""
    await dash.say("command:request", agentId=name, **dict({"command": "npm test"}, **fields))
    queued = await dash.wait("command:queued", agentId=name)
    return queued["commandId"], await agent.wait("command:execute", commandId=queued["commandId"])


async def output(agent, ident, content, kind="stdout", name="agent-1"):
    await agent.say("terminal:output", commandId=ident, agentId=name, output={
        "type": kind, "content": content, "timestamp": stamp()})


async def complete(agent, ident, code=0, name="agent-1"):
    await agent.say("command:complete", commandId=ident, agentId=name, exitCode=code, duration=12)


async def shown(dash, ident, kind="stdout", until_type="command:complete"):
    """What a dashboard saw of one stream before the command was over."""
    await dash.wait(until_type, commandId=ident)
    mine = [m for m in dash.heard if m["type"] == "terminal:output" and m["commandId"] == ident
            and m["output"]["type"] == kind]
    dash.heard = [m for m in dash.heard if m not in mine]
    at = 0
    for m in mine:
        equal(m["offset"], at, "offset")
        at += len(m["output"]["content"].encode())
    return "".join(m["output"]["content"] for m in mine)


def stored(d, ident, stream="stdout"):
    return d.get("/api/v1/commands/%s/output?stream=%s" % (ident, stream)).body


def test_dashboard_and_agent(t):
    d = begin(t)

    async def run():
        dash = await dashboard(d)
        other = await dashboard(d, "/ws/dashboard")  # the same dashboardId: two connections
        equal(dash.agents, [])
        agent = await flat_agent(d)
        for p in dash, other:
            m = await p.wait("agent:status", agentId="agent-1", status="online")
            check(m["timestamp"].endswith("Z"), m)
        ident, x = await run_command(dash, agent, args=["--coverage"], priority="high")
        equal((x["command"], x["args"]), ("npm test", ["--coverage"]))
        equal(x["payload"]["command"], "npm test")
        await agent.say("command:status", commandId=ident, agentId="agent-1", status="running")
        await output(agent, ident, "Test passed \u00e4\n")
        await output(agent, ident, "warning\n", "stderr")
        await complete(agent, ident)
        for p in dash, other:
            await p.wait("command:status", commandId=ident, status="running")
            m = await p.wait("command:status", commandId=ident, status="completed")
            equal((m["exitCode"], m["duration"]), (0, 12))
            equal(await shown(p, ident), "Test passed \u00e4\n")
        equal(stored(d, ident), "Test passed \u00e4\n".encode())
        equal(stored(d, ident, "stderr"), b"warning\n")
        late = await dashboard(d, name="late")
        equal([(a["agentId"], a["agentType"], a["status"]) for a in late.agents],
              [("agent-1", "claude", "online")])
        check(late.agents[0]["connectedAt"], late.agents)
        await late.close()
        await agent.say("heartbeat:ping")
        await agent.wait("heartbeat:pong")
        await dash.say("terminal:clear", agentId="agent-1")
        await other.wait("terminal:clear", agentId="agent-1")
        await agent.say("agent:disconnect", agentId="agent-1")
        await agent.closed(1000)
        await dash.wait("agent:status", agentId="agent-1", status="offline")
        await dash.say("dashboard:disconnect", dashboardId="dash-1")
        await dash.closed(1000)
        await other.close()
    asyncio.run(run())
    text = d.get("/metrics", token=False).body.decode()
    until(lambda: "muster_dashboards 0" in d.get("/metrics", token=False).body.decode(), "nobody")
    check("muster_deliveries_total" in text, text)
    check(d.token not in d.log() and d.agent_token not in d.log(), "a token in the log")
    equal(d.stop(), 0)


def test_handshake(t):
    d = begin(t)
    weak = d.make_token("weak", ("token:read",))
    short = d.make_token("short", ("agent:read", "event:read"), ttl_ms=50)

    async def run():
        for token, path in ((None, "/ws"), ("mut_nonsense", "/ws/dashboard"), (None, "/ws/agent")):
            p = await connect(d, path, token)
            await p.closed(1008, "unauthorized")
        until(lambda: d.get("/api/v1/whoami", token=short).status != 200, "the token is old")
        p = await connect(d, "/ws", short)
        await p.closed(1008, "token_expired")
        # In the URL, and twice the same; two different ones are no credential at all.
        p = await connect(d, "/ws?token=" + d.token, None)
        await p.say("dashboard:connect", dashboardId="x")
        await p.wait("agent:list")
        await p.close()
        for headers, path, status in (
                ({"Origin": "https://evil.example"}, "/ws", 403),
                ({"Authorization": "Bearer " + d.token}, "/ws?token=other", 400)):
            try:
                await websockets.connect("ws://127.0.0.1:%d%s" % (d.port, path),
                                         extra_headers=headers)
                check(False, "was let in", path)
            except websockets.InvalidStatusCode as e:
                equal(e.status_code, status, path)
        # A good token that may not watch is told so, and stays a guest.
        p = await connect(d, "/ws", weak)
        await p.say("dashboard:connect", dashboardId="x")
        m = await until_error(p)
        equal(m["code"], "NOT_PERMITTED")
        await p.close()
    asyncio.run(run())
    check(d.token not in d.log(), "a token in the log")


async def until_error(p, limit=20):
    """The next refusal, of whichever kind."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        for m in p.heard:
            if m["type"] in ("validation:error", "connection:error", "command:error", "ERROR"):
                p.heard.remove(m)
                return m.get("payload", m) if m["type"] == "ERROR" else m
        await asyncio.sleep(0.01)
    check(False, "no error in", p.heard)


def test_bad_messages(t):
    d = begin(t)

    async def run():
        dash = await dashboard(d)
        for text, field in (
                ('{"type":"dashboard:dance"}', "type"),
                ('{"type":"command:request","command":"x"}', "agentId"),
                ('{"type":"command:request","agentId":5,"command":"x"}', "agentId"),
                ('{"type":"command:request","agentId":"a","agentId":"b"}', None),
                ("{nonsense", None), ("[" * 5000, None)):
            await dash.ws.send(text)
            m = await dash.wait("validation:error")
            check(m["error"], m)
            if field:
                equal(m["field"], field, text)
            await asyncio.sleep(0.11)
        await dash.say("heartbeat:ping")
        await dash.wait("heartbeat:pong")
        await dash.ws.send(b"\x00\x01")
        await dash.closed(1003)
        dash = await dashboard(d)
        await dash.ws.send("x" * (1 << 20) + "x")
        await dash.closed(1009)
        guest = await connect(d)
        await guest.ws.send("x" * 65537)
        await guest.closed(1009)
        p = await connect(d)
        p.ws.transport.write(b"\xf1\x80\0\0\0\0")  # reserved bits
        await p.closed(1002)
    asyncio.run(run())


def test_sides(t):
    """Each side says only what is its own, and of what is its own."""
    d = begin(t)

    async def run():
        dash, agent = await dashboard(d), await flat_agent(d)
        await dash.wait("agent:status", agentId="agent-1")
        other = await flat_agent(d, "agent-2", "/ws/agent")
        await dash.wait("agent:status", agentId="agent-2")
        ident, _ = await run_command(dash, agent)
        # Another's command, and none at all.
        for who, what in ((other, ident), (agent, "cmd_nosuch")):
            await output(who, what, "mine!", name="agent-2" if who is other else "agent-1")
            m = await who.wait("validation:error")
            equal((m["field"], m["code"]), ("commandId", "UNKNOWN_COMMAND"))
        await complete(other, ident, name="agent-2")
        equal((await other.wait("validation:error"))["code"], "UNKNOWN_COMMAND")
        # Words of the other side.
        await dash.say("terminal:output", commandId=ident, agentId="agent-1",
                       output={"type": "stdout", "content": "forged", "timestamp": stamp()})
        equal((await dash.wait("validation:error"))["field"], "type")
        await agent.say("command:request", agentId="agent-1", command="rm -rf /")
        equal((await agent.wait("validation:error"))["field"], "type")
        await complete(agent, ident, 3)
        m = await dash.wait("command:complete", commandId=ident)
        equal(m["exitCode"], 3)
        equal(stored(d, ident), b"")
        # After its end it is nobody's.
        await output(agent, ident, "late")
        equal((await agent.wait("validation:error"))["code"], "UNKNOWN_COMMAND")
        # Paths take only their own side.
        p = await connect(d, "/ws/agent")
        await p.say("dashboard:connect", dashboardId="x")
        await p.wait("validation:error")
        p2 = await connect(d, "/ws/dashboard", d.agent_token)
        await p2.say("agent:connect", agentId="agent-3", agentType="x", version="1.0.0")
        await p2.wait("validation:error")
        check(d.agent("agent-3") is None, "was let in by the wrong door")
        for x in p, p2, dash, agent, other:
            await x.close()
    asyncio.run(run())


def test_scopes(t):
    """A token of a viewer sees and may not act."""
    d = begin(t)
    viewer = d.make_token("viewer", ("agent:read", "event:read", "command:read"))

    async def run():
        dash, view = await dashboard(d), await dashboard(d, token=viewer)
        agent = await flat_agent(d)
        await view.wait("agent:status", agentId="agent-1", status="online")
        for kind, fields in (("command:request", {"agentId": "agent-1", "command": "id"}),
                             ("terminal:clear", {"agentId": "agent-1"})):
            await view.say(kind, **fields)
            m = await until_error(view)
            equal(m["code"], "NOT_PERMITTED", kind)
        ident, _ = await run_command(dash, agent)
        await view.say("command:interrupt", commandId=ident)
        equal((await until_error(view))["code"], "NOT_PERMITTED")
        await dash.say("command:interrupt", commandId=ident)
        await agent.wait("command:interrupt", commandId=ident)
        await agent.say("command:status", commandId=ident, agentId="agent-1",
                        status="interrupted")
        await complete(agent, ident, 130)
        for p in dash, view:
            await p.wait("command:status", commandId=ident, status="interrupted")
            equal((await p.wait("command:complete", commandId=ident))["exitCode"], 130)
        # Revoked: closed within a second.
        rows = d.get("/api/v1/tokens").json["items"]
        d.delete("/api/v1/tokens/" + [r["id"] for r in rows if r["name"] == "viewer"][0])
        await view.closed(1008, "revoked", limit=1)
        await dash.close()
        await agent.close()
    asyncio.run(run())


def test_upper(t):
    """The envelope of existing programs: field-facts 2.2, 2.3 and 2.6."""
    d = begin(t)

    async def run():
        dash = await connect(d, "/ws/dashboard")
        user = d.get("/api/v1/whoami").json["user"]["id"]
        await dash.upper("DASHBOARD_INIT", {"userId": user, "subscriptions": {
            "agents": [], "commands": [], "traces": True, "terminals": True}}, "m1")
        await dash.wait("DASHBOARD_CONNECTED")
        await dash.wait("ACK", messageId="m1")
        agent = await connect(d, "/ws/agent?agentId=wrap-1&token=" + d.agent_token, None)
        await agent.upper("AGENT_CONNECT", {
            "agentId": "wrap-1", "agentType": "CLAUDE", "version": "1.0.0", "hostMachine": "h",
            "capabilities": {"maxTokens": 0, "supportsInterrupt": True, "supportsTrace": True}},
            "a1")
        await agent.wait("ACK", messageId="a1")
        await dash.wait("AGENT_STATUS", agentId="wrap-1")
        await dash.upper("COMMAND_REQUEST", {
            "agentId": "wrap-1", "commandId": "my-own-1", "content": "do it", "type": "NATURAL",
            "priority": 50}, "m2")
        x = (await agent.wait("COMMAND_REQUEST"))["payload"]
        equal(x["content"], "do it")
        ident = x["commandId"]
        await agent.upper("COMMAND_ACK", {"commandId": ident, "agentId": "wrap-1",
                                          "status": "EXECUTING"})
        for n in range(5):
            await agent.upper("TERMINAL_OUTPUT", {
                "commandId": ident, "agentId": "wrap-1", "streamType": "STDOUT",
                "content": "line %d\n" % n, "sequence": n})
        await agent.upper("COMMAND_COMPLETE", {
            "commandId": ident, "agentId": "wrap-1", "status": "COMPLETED", "executionTime": 7})
        await dash.wait("COMMAND_STATUS", commandId="my-own-1", status="COMPLETED")
        text = "".join(m["payload"]["content"] for m in dash.heard
                       if m["type"] == "TERMINAL_STREAM")
        equal(text, "".join("line %d\n" % n for n in range(5)))
        # Subscriptions: not this agent's terminal any more, but what one asks for oneself.
        other = await connect(d, "/ws/dashboard")
        await other.upper("DASHBOARD_INIT", {"userId": user, "subscriptions": {
            "agents": ["nobody"], "commands": [], "traces": False, "terminals": False}}, "o1")
        await other.wait("ACK", messageId="o1")
        await dash.upper("COMMAND_REQUEST", {
            "agentId": "wrap-1", "commandId": "my-own-2", "content": "again", "type": "NATURAL",
            "priority": 50}, "m3")
        ident = (await agent.wait("COMMAND_REQUEST"))["payload"]["commandId"]
        await agent.upper("TERMINAL_OUTPUT", {
            "commandId": ident, "agentId": "wrap-1", "streamType": "STDOUT", "content": "x\n",
            "sequence": 0})
        await dash.wait("TERMINAL_STREAM", commandId="my-own-2", content="x\n")
        await agent.upper("COMMAND_COMPLETE", {
            "commandId": ident, "agentId": "wrap-1", "status": "COMPLETED", "executionTime": 7})
        await dash.wait("COMMAND_STATUS", commandId="my-own-2", status="COMPLETED")
        await other.upper("PING", {"timestamp": 1})
        await other.wait("PONG")
        equal([m["type"] for m in other.heard if m["type"] in ("TERMINAL_STREAM", "AGENT_STATUS")
               and m.get("payload", {}).get("status") == "BUSY"], [])
        check(not any(m["type"] == "TERMINAL_STREAM" for m in other.heard), other.heard)
        await other.close()
        await dash.upper("PING", {"timestamp": 1})
        await dash.wait("PONG")
        await agent.close()
        await dash.close()
    asyncio.run(run())


def test_native_agent(t):
    """Output of Muster's own agent, live, whole characters only."""
    need("muster-agent", "muster-holder")
    d = begin(t)
    t.agent(d, "web-1")
    script = ("import sys,time\n"
              "for i in range(200):\n"
              "  sys.stdout.buffer.write('\\u20ac\\u00e4%d\\n'.encode() % i if 0 else "
              "('\\u20ac\\u00e4%d\\n' % i).encode()[:3]); sys.stdout.flush()\n"
              "  sys.stdout.buffer.write(('\\u20ac\\u00e4%d\\n' % i).encode()[3:]);"
              " sys.stdout.flush()\n")

    async def run():
        dash = await dashboard(d)
        web = dash.agents[0]["agentId"]
        await dash.say("command:request", agentId=web, command=["/usr/bin/python3", "-c", script])
        ident = (await dash.wait("command:queued"))["commandId"]
        text = await shown(dash, ident)
        equal(text, "".join("\u20ac\u00e4%d\n" % i for i in range(200)))
        equal(stored(d, ident).decode(), text)
        line = [m for m in dash.heard if m["type"] == "terminal:output"
                and m["output"]["type"] == "command"]
        check(line and "python3" in line[0]["output"]["content"], dash.heard)
        # Not UTF-8 at all: shown as what it is not.
        await dash.say("command:request", agentId=web,
                       command=["/bin/sh", "-c", "printf 'a\\377b\\342\\202'"])
        ident = (await dash.wait("command:queued"))["commandId"]
        await dash.wait("command:complete", commandId=ident)
        text = "".join(m["output"]["content"] for m in dash.heard
                       if m["type"] == "terminal:output" and m["commandId"] == ident
                       and m["output"]["type"] == "stdout")
        equal(text, "a\ufffdb\ufffd")
        equal(stored(d, ident), b"a\xffb\xe2\x82")
        await dash.close()
    asyncio.run(run())


def test_asked_again(t):
    """The same requestId is the same command, also when that is over."""
    d = begin(t)

    async def run():
        agent, dash = await flat_agent(d), await dashboard(d)
        ident, _ = await run_command(dash, agent, requestId="k-1", command="make all")
        await complete(agent, ident)
        await dash.wait("command:complete", commandId=ident)
        # The hub has forgotten it when the store has its end.
        until(lambda: d.get("/api/v1/commands/" + ident).json["state"] == "completed")
        await dash.say("command:request", agentId="agent-1", command="make all", requestId="k-1")
        again = await dash.wait("command:queued", requestId="k-1")
        equal(again["commandId"], ident)
        await dash.say("command:request", agentId="agent-1", command="make none", requestId="k-1")
        equal((await dash.wait("command:error", requestId="k-1"))["code"], "KEY_REUSED")
        await dash.say("heartbeat:ping")
        await dash.wait("heartbeat:pong")
        equal([m for m in agent.heard if m["type"] == "command:execute"], [], "run twice")
        await dash.close()
        await agent.close()
    asyncio.run(run())


def test_queue_news(t):
    """Places in a queue, for the dashboard that asked for them."""
    d = begin(t)

    async def run():
        agent = await flat_agent(d)
        asks, other = await dashboard(d), await dashboard(d)
        await asks.say("dashboard:subscribe", topic="queue")
        await asks.say("heartbeat:ping")
        await asks.wait("heartbeat:pong")
        ident, _ = await run_command(other, agent)
        first = await asks.wait("queue:update", agentId="agent-1", executing=ident)
        equal(first["queueSize"], 0)
        await complete(agent, ident)
        await other.wait("command:complete", commandId=ident)
        await asks.wait("queue:update", agentId="agent-1", queued=[])
        equal([m for m in other.heard if m["type"] == "queue:update"], [], "not asked for")
        for p in agent, asks, other:
            await p.close()
    asyncio.run(run())


def test_words_survive(t):
    """What waits for an agent is told to it in the very words, after a kill -9, once."""
    d = begin(t)
    said = {"agentId": "agent-1", "command": "npm test", "args": ["--coverage", "a b"],
            "requestId": "k-9"}

    async def before():
        # The dashboard first: to one that comes later it may be told by the list alone.
        dash, agent = await dashboard(d), await flat_agent(d)
        await dash.wait("agent:status", agentId="agent-1", status="online")
        await agent.say("agent:disconnect", agentId="agent-1")
        await agent.closed(1000)
        await dash.wait("agent:status", agentId="agent-1", status="offline")
        await dash.say("command:request", **said)
        ident = (await dash.wait("command:queued"))["commandId"]
        d.kill()
        return ident

    async def after(d, ident):
        dash = await dashboard(d)
        await dash.say("command:request", **said)
        equal((await dash.wait("command:queued", requestId="k-9"))["commandId"], ident)
        agent = await flat_agent(d)
        told = await agent.wait("command:execute", commandId=ident)
        for place in told, told["payload"]:
            equal((place["command"], place["args"]), ("npm test", ["--coverage", "a b"]))
        await complete(agent, ident)
        await dash.wait("command:complete", commandId=ident, exitCode=0)
        equal([m for m in agent.heard if m["type"] == "command:execute"], [], "told twice")
        await dash.close()
        await agent.close()

    ident = asyncio.run(before())
    d2 = d.again()
    d2.agent_token = d.agent_token
    asyncio.run(after(d2, ident))


def test_hostile_text(t):
    """What agents say of themselves and print is data."""
    d = begin(t)
    evil = "<script>alert(1)</script>\x1b]0;owned\x07\u202e\"'&"

    async def run():
        dash, agent = await dashboard(d), await flat_agent(d)
        await dash.wait("agent:status")
        ident, _ = await run_command(dash, agent)
        await output(agent, ident, evil + "\x00\n")
        await complete(agent, ident)
        equal(await shown(dash, ident), evil + "\x00\n")
        bad = await connect(d, token=d.agent_token)
        await bad.say("agent:connect", agentId="<b>x</b>", agentType="claude", version="1.0.0")
        equal((await bad.wait("validation:error"))["field"], "agentId")
        for x in bad, dash, agent:
            await x.close()
    asyncio.run(run())
    check("\x1b" not in d.log(), "control characters in the log")


def test_rates(t):
    d = begin(t)

    async def run():
        dash = await dashboard(d)
        for _ in range(9):
            await dash.say("terminal:clear", agentId="nobody")
        await dash.say("terminal:clear", agentId="nobody")
        m = await dash.wait("connection:error")
        equal(m["code"], "RATE_LIMIT")
        check(1 <= m["retryAfter"] <= 2, m)
        equal(m["limits"]["perMinute"]["limit"], 100)
        check(m["limits"]["perHour"]["used"] >= 10, m)
        # Heartbeats have limits of their own, and what ends things has none.
        await dash.say("heartbeat:ping")
        await dash.wait("heartbeat:pong")
        for _ in range(30):
            await dash.say("command:interrupt", commandId="cmd_nosuch")
        for _ in range(30):
            equal((await dash.wait("command:error"))["code"], "COMMAND_NOT_FOUND")
        for _ in range(4):
            await dash.say("terminal:clear", agentId="nobody")
        await dash.closed(1008, "rate_limit")
        # Commands: 10 a minute.
        dash, agent = await dashboard(d, name="two"), await flat_agent(d)
        for _ in range(11):
            await dash.say("command:request", agentId="agent-1", command="x")
        await dash.wait("connection:error", code="RATE_LIMIT")
        for _ in range(10):
            await dash.wait("command:queued")
        # A batch counts as its messages.
        three = await dashboard(d, name="three")
        clear = {"type": "terminal:clear", "agentId": "agent-1", "timestamp": stamp()}
        await three.say("batch", messages=[clear] * 12, count=12)
        await three.wait("connection:error", code="RATE_LIMIT")
        for _ in range(9):
            await three.wait("terminal:clear")
        for x in dash, agent, three:
            await x.close()
    asyncio.run(run())


def test_flood_of_an_agent(t):
    """Agents are always read: what is too much to be shown at once is stored
    and shown a little later, in order, and then comes the end."""
    d = begin(t)
    lines = 4000

    async def run():
        dash, agent = await dashboard(d), await flat_agent(d)
        await dash.wait("agent:status")
        ident, _ = await run_command(dash, agent)
        for n in range(lines):
            await output(agent, ident, "line %05d\n" % n)
        await complete(agent, ident)
        want = "".join("line %05d\n" % n for n in range(lines))
        await dash.wait("command:complete", commandId=ident, limit=60)
        mine = [m for m in dash.heard if m["type"] == "terminal:output"
                and m["output"]["type"] == "stdout"]
        equal("".join(m["output"]["content"] for m in mine), want)
        check(1000 <= len(mine) < 1500, len(mine), "messages")
        equal(stored(d, ident), want.encode())
        await agent.close()
        await dash.close()
    asyncio.run(run())


def test_output_limit(t):
    """While somebody watches, what waits to be shown has a bound."""
    d = begin(t)
    piece = "x" * 65535 + "\n"

    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        # Nobody watches: any amount, as fast as it comes.
        a = d.post("/api/v1/commands", {"agent": "agent-1", "argv": ["x"]}).json
        await agent.wait("command:execute", commandId=a["id"])
        for _ in range(1200):
            await output(agent, a["id"], piece)
        await complete(agent, a["id"])
        until(lambda: d.command(a["id"])["state"] == "completed", "it ends")
        equal(d.command(a["id"])["out_bytes"], 1200 * 65536)
        dash = await dashboard(d)
        ident, _ = await run_command(dash, agent)
        for _ in range(1000):
            await output(agent, ident, "x")
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(1800):
                await output(agent, ident, piece)
        await agent.closed(1008, "output_limit")
        await dash.wait("command:status", commandId=ident, status="failed")
        equal(d.command(ident)["code"], "UNKNOWN_OUTCOME")
        await dash.close()
    asyncio.run(run())


def test_packed(t):
    """Batches and compression, both ways, for who asks for them."""
    d = begin(t)

    async def run():
        plain = await dashboard(d)
        batch = await dashboard(d, name="b", features=["batch"])
        both = await dashboard(d, name="bc", features=["batch", "compressed"])
        agent = await flat_agent(d)
        await plain.wait("agent:status")
        ident, _ = await run_command(plain, agent)
        for n in range(50):
            await output(agent, ident, "line %d\n" % n)
        await complete(agent, ident)
        await plain.wait("command:complete")
        want = "".join("line %d\n" % n for n in range(50))

        def unpack(m):
            if m["type"] == "compressed":
                equal(m["algorithm"], "gzip")
                raw = base64.b64decode(m["data"])
                equal(len(raw), m["compressedSize"])
                text = gzip.decompress(raw)
                equal(len(text), m["originalSize"])
                check(len(m["data"]) < len(text), "longer than before")
                m = json.loads(text)
            if m["type"] == "batch":
                equal(len(m["messages"]), m["count"])
                return [x for one in m["messages"] for x in unpack(one)]
            return [m]
        for p, kinds in ((batch, {"batch"}), (both, {"batch", "compressed"})):
            await p.wait("command:complete")
            check(kinds & {m["type"] for m in p.heard}, kinds, p.heard[:3])
            all_ = [x for m in p.heard for x in unpack(m)]
            equal("".join(m["output"]["content"] for m in all_ if m["type"] == "terminal:output"
                          and m["output"]["type"] == "stdout"), want)
        check("compressed" in {m["type"] for m in both.heard}, "nothing was compressed")
        check(not {"batch", "compressed"} & {m["type"] for m in plain.heard}, "not asked for")
        # Inbound.
        await agent.say("batch", count=2, messages=[
            {"type": "heartbeat:ping", "timestamp": stamp()}] * 2)
        for _ in range(2):
            await agent.wait("heartbeat:pong")
        await agent.say("batch", count=3, messages=[{"type": "heartbeat:ping"}])
        equal((await agent.wait("validation:error"))["field"], "count")
        inner = json.dumps({"type": "heartbeat:ping", "timestamp": stamp(), "x": "y" * 2000})
        raw = gzip.compress(inner.encode())
        wrap = dict(algorithm="gzip", originalType="heartbeat:ping", originalSize=len(inner),
                    compressedSize=len(raw), data=base64.b64encode(raw).decode())
        await agent.say("compressed", **wrap)
        await agent.wait("heartbeat:pong")
        await agent.say("compressed", **dict(wrap, originalSize=5))
        await agent.wait("validation:error")
        bomb = gzip.compress(b"{" + b" " * (64 << 20))
        await agent.say("compressed", **dict(wrap, originalSize=64 << 20,
                                             compressedSize=len(bomb),
                                             data=base64.b64encode(bomb).decode()))
        await agent.wait("validation:error")
        await agent.say("heartbeat:ping")
        await agent.wait("heartbeat:pong")
        # What costs much to look at pays before, whatever it claims to be.
        inner = json.dumps({"type": "command:interrupt", "commandId": "none", "x": "y" * 2000})
        raw = gzip.compress(inner.encode())
        wrap = dict(algorithm="gzip", originalType="command:interrupt", originalSize=len(inner),
                    compressedSize=len(raw), data=base64.b64encode(raw).decode())
        other = await dashboard(d, name="flood")
        for _ in range(12):
            await other.say("compressed", **wrap)
        equal((await other.wait("connection:error"))["code"], "RATE_LIMIT")
        for x in plain, batch, both, agent, other:
            await x.close()
    asyncio.run(run())


def rss(d):
    with open("/proc/%d/statm" % d.pid) as f:
        return int(f.read().split()[1]) * 4096


def test_dashboard_that_does_not_read(t):
    """It is closed; nobody waits for it, and memory does not grow with it."""
    need("muster-agent", "muster-holder")
    d = begin(t)
    t.agent(d, "web-1")

    async def run():
        dash = await dashboard(d)
        web = dash.agents[0]["agentId"]
        deaf = [await dashboard(d, name="deaf-%d" % n, compression=None) for n in range(20)]
        for p in deaf:
            p.ws.transport.pause_reading()
        before = rss(d)
        await dash.say("command:request", agentId=web, command=[
            "/bin/sh", "-c", "head -c 120000000 /dev/zero | tr '\\0' 'x' | fold -w 100"])
        ident = (await dash.wait("command:queued"))["commandId"]
        got, most = 0, 0
        while True:
            for m in dash.heard:
                if m["type"] == "terminal:output" and m["output"]["type"] == "stdout":
                    equal(m["offset"], got)
                    got += len(m["output"]["content"])
            over = [m for m in dash.heard if m["type"] == "command:complete"]
            dash.heard.clear()
            most = max(most, rss(d))
            if over:
                break
            check(not dash.ws.closed, "closed", dash.ws.close_code, dash.ws.close_reason)
            await asyncio.sleep(0.02)
        equal(got, 121199999)
        check(most - before < 400 << 20, "grew by", (most - before) >> 20, "MiB")
        text = d.get("/metrics", token=False).body.decode()
        check("muster_slow_total 20" in text, [l for l in text.splitlines() if "slow" in l])
        await dash.close()
        for p in deaf:
            p.ws.transport.abort()
        return most - before
    print("grew by %.0f MiB" % (asyncio.run(run()) / 2 ** 20))


def test_polling_agent(t):
    """The output of an agent that polls is seen, too, before its end is."""
    d = begin(t)
    base = "/api/v1/clusters/agent"

    async def run():
        a = d.post(base + "/register", {"agent_id": "poll-1", "name": "poll-1"},
                   token=d.agent_token)
        cluster = a.json["cluster_id"]
        dash = await dashboard(d)
        equal([x["agentId"] for x in dash.agents], ["poll-1"])
        await dash.say("command:request", agentId="poll-1", command="id")
        ident = (await dash.wait("command:queued"))["commandId"]
        until(lambda: d.get("%s/%s/poll" % (base, cluster), token=d.agent_token)["commands"],
              "it is offered")
        a = d.post("%s/%s/commands/%s/result" % (base, cluster, ident), {
            "status": "completed", "exit_code": 0, "stdout": "uid=0 \u00e4\n", "stderr": "e\n",
            "started_at": stamp(), "finished_at": stamp()}, token=d.agent_token)
        equal(a.status, 200)
        equal(await shown(dash, ident), "uid=0 \u00e4\n")
        await dash.close()
    asyncio.run(run())


def test_exec_on_console_agent(t):
    """muster exec, attached, on an agent that is given commands in messages,
    on whichever lanes the two are."""
    need("muster")
    for lanes in "1", "4", "4", "4":
        exec_sequence(t, begin(t, "--lanes", lanes))


def exec_sequence(t, d):
    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(
            None, lambda: t.cli(d, "exec", "agent-1", "--", "echo", "a b"))
        x = await agent.wait("command:execute")
        await output(agent, x["commandId"], "out\n")
        await output(agent, x["commandId"], "err\n", "stderr")
        await complete(agent, x["commandId"], 3)
        e = await done
        equal((e.code, e.out, e.err), (3, b"out\n", b"err\n"))
        # Ctrl-C becomes an interrupt.
        p = t.cli_start(d, "exec", "agent-1", "--", "sleep", "100")
        x = await agent.wait("command:execute")
        await agent.say("command:status", commandId=x["commandId"], agentId="agent-1",
                        status="running")
        await output(agent, x["commandId"], "started\n")
        await loop.run_in_executor(None, until, lambda: p.out() == b"started\n", "it prints")
        p.signal(2)
        await agent.wait("command:interrupt", commandId=x["commandId"])
        await agent.say("command:status", commandId=x["commandId"], agentId="agent-1",
                        status="interrupted")
        await complete(agent, x["commandId"], 130)
        equal(await loop.run_in_executor(None, p.wait), 130)
        await agent.close()
    asyncio.run(run())


def lanes_sequence(d):
    """Many dashboards, wherever the kernel put them, see the same in order."""
    async def run():
        dashes = [await dashboard(d, name="d%d" % n) for n in range(12)]
        agents = [await flat_agent(d, "agent-%d" % n) for n in range(4)]
        for n in range(4):
            for p in dashes:
                await p.wait("agent:status", agentId="agent-%d" % n, status="online")
        for n, agent in enumerate(agents):
            name = "agent-%d" % n
            ident, _ = await run_command(dashes[n], agent, name)
            await agent.say("command:status", commandId=ident, agentId=name, status="running")
            for i in range(100):
                await output(agent, ident, "%d\n" % i, name=name)
            await complete(agent, ident, name=name)
            for p in dashes:
                equal(await shown(p, ident), "".join("%d\n" % i for i in range(100)))
        for p in dashes + agents:
            await p.close()
    asyncio.run(run())


def test_lanes(t):
    for lanes in "1", "4":
        d = begin(t, "--lanes", lanes)
        lanes_sequence(d)
        equal(d.stop(), 0)
        check("ThreadSanitizer" not in d.log(), "a race", d.log())


def test_many(t):
    """More dashboards than are served in one turn, some deflated, some that
    come and go meanwhile: each sees all of it, in order."""
    d = begin(t, env={"MUSTER_USER_CONNECTIONS": "2000"})
    count = 700

    async def run():
        agent = await flat_agent(d)
        d.agent_is("agent-1", "online")
        dashes = []
        for n in range(0, count, 50):
            dashes += await asyncio.gather(*[
                dashboard(d, name="n%d" % i, compression="deflate" if i % 2 else None)
                for i in range(n, n + 50)])
        ident, _ = await run_command(dashes[0], agent)
        for n in range(40):
            await output(agent, ident, ("%04d " % n) * 200 + "\n")
            if n % 10 == 5:
                leaving = [dashes.pop() for _ in range(20)]
                await asyncio.gather(*[p.close() for p in leaving])
        await complete(agent, ident)
        want = "".join(("%04d " % n) * 200 + "\n" for n in range(40))
        for p in dashes:
            equal(await shown(p, ident), want)
        for p in dashes + [agent]:
            p.ws.transport.abort()
    asyncio.run(run())
    equal(d.stop(), 0)


def test_short_of_memory(t):
    """Agents come in, dashboards and boards do not; those that are there and
    behind go first."""
    d = begin(t)
    equal(d.stop(), 0)
    token = d.agent_token
    d = d.again("--memory-limit", "1MiB")  # any process is larger
    d.agent_token = token
    d.log_has("event=memory_short")

    async def run():
        for path in "/ws/dashboard", "/":
            try:
                await connect(d, path)
                check(False, "was let in at", path)
            except websockets.InvalidStatusCode as e:
                equal(e.status_code, 503, path)
        agent = await flat_agent(d, path="/ws/agent")
        dash = await dashboard(d)  # /ws is the agents' way in, too
        await agent.say("heartbeat:ping")
        await agent.wait("heartbeat:pong")
        ident, _ = await run_command(dash, agent)
        dash.ws.transport.pause_reading()
        before = d.get("/metrics", token=False).body
        check(b"muster_slow_total 0" in before, before)
        for n in range(900):
            await output(agent, ident, os.urandom(3000).hex())
        await complete(agent, ident)
        until(lambda: b"muster_slow_total 1" in d.get("/metrics", token=False).body, "it goes")
        dash.ws.transport.abort()
        await agent.close()
    asyncio.run(run())


def test_hundred_sockets(t):
    """Document 2's load test: one token, 100 connections."""
    d = begin(t)

    async def run():
        token = jwt(d, "admin", ttl_ms=600000)
        dashes = await asyncio.gather(*[dashboard(d, name="n%d" % n, token=token) for n in range(100)])
        agent = await flat_agent(d)
        for p in dashes:
            await p.wait("agent:status", agentId="agent-1", status="online")
        equal(d.get("/health").json["websocket"]["connections"], 100)
        equal(d.get("/health").json["websocket"]["connectedUsers"], 1)
        d.signal(15)
        for p in dashes:
            await p.closed(1001)
        await agent.closed(1001)
    asyncio.run(run())
    equal(d.wait(), 0)


PASSWORD = "correct horse"


def add_user(d, name, role, **more):
    equal(d.post("/api/v1/users", dict(name=name, role=role, password=PASSWORD, **more)).status,
          201, name)


def jwt(d, name, **more):
    a = d.post("/api/v1/users/%s/token" % name, more)
    equal(a.status, 200, a)
    return a["token"]


def login(d, name):
    a = d.post("/api/v1/auth/login", {"name": name, "password": PASSWORD}, token=False)
    equal(a.status, 200, a)
    return a.json


def test_refresh(t):
    """A dashboard goes on with another credential of the same user."""
    d = begin(t)
    for name in "ann", "bob":
        add_user(d, name, "operator")

    async def run():
        dash = await dashboard(d, token=jwt(d, "ann", ttl_ms=8000))
        idle = await dashboard(d, token=jwt(d, "ann", ttl_ms=8000))
        await dash.wait("auth:refresh-needed")  # less than five minutes are left
        for token in jwt(d, "bob"), "nonsense", "a.b.c":
            await dash.say("auth:refresh-token", token=token)
            m = await dash.wait("auth:refresh-failed")
            check(m["error"], m)
        await dash.say("auth:refresh-token", token=jwt(d, "ann", ttl_ms=600000))
        await dash.wait("auth:refresh-success")
        await idle.closed(1008, "token_expired")
        await dash.say("heartbeat:ping")
        await dash.wait("heartbeat:pong")
        # By a refresh token: once, and a second use ends the whole family.
        first = login(d, "ann")
        two = await dashboard(d, token=first["token"])
        await two.say("auth:refresh-token", refreshToken=first["refresh_token"])
        m = await two.wait("auth:refresh-success")
        equal(d.get("/api/v1/whoami", token=m["token"]).json["user"]["name"], "ann")
        check(m["refreshToken"] != first["refresh_token"], "the same again")
        await two.say("auth:refresh-token", refreshToken=m["refreshToken"])
        m = await two.wait("auth:refresh-success")
        other = login(d, "bob")["refresh_token"]
        await two.say("auth:refresh-token", refreshToken=other)
        equal((await two.wait("auth:refresh-failed"))["code"], "OTHER_SUBJECT")
        a = d.post("/api/v1/auth/refresh", {"refresh_token": other}, token=False)
        equal(a.status, 200, "it was not used up by that")
        await two.say("auth:refresh-token", refreshToken=first["refresh_token"])
        await two.closed(1008, "revoked")
        equal(d.get("/api/v1/whoami", token=m["token"]).status, 401)
        await dash.close()
        return [first["token"], first["refresh_token"], m["token"], m["refreshToken"], other]
    for secret in asyncio.run(run()):
        check(secret not in d.log(), "a secret in the log")


def test_selectors(t):
    """Who is limited to some agents sees and commands no others."""
    d = begin(t)
    add_user(d, "ann", "operator", selector="env=prod")
    add_user(d, "viv", "viewer")

    async def run():
        prod, test = await flat_agent(d, "prod-1"), await flat_agent(d, "test-1")
        for name, env in ("prod-1", "prod"), ("test-1", "test"):
            d.agent_is(name, "online")
            equal(d.patch("/api/v1/agents/%s/labels" % name, {"env": env}).status, 200)
        ann = await dashboard(d, token=jwt(d, "ann"))
        viv = await dashboard(d, token=jwt(d, "viv"))
        equal([a["agentId"] for a in ann.agents], ["prod-1"])
        equal(sorted(a["agentId"] for a in viv.agents), ["prod-1", "test-1"])
        all_ = await dashboard(d)
        ident, _ = await run_command(all_, test, "test-1")
        await output(test, ident, "hidden\n", name="test-1")
        await complete(test, ident, name="test-1")
        equal(await shown(viv, ident), "hidden\n")
        for kind, fields in (("command:request", {"agentId": "test-1", "command": "id"}),
                             ("terminal:clear", {"agentId": "test-1"})):
            await ann.say(kind, **fields)
            equal((await until_error(ann))["code"], "AGENT_NOT_FOUND", kind)
        await ann.say("command:interrupt", commandId=ident)
        equal((await until_error(ann))["code"], "COMMAND_NOT_FOUND")
        ident, _ = await run_command(ann, prod, "prod-1")
        await output(prod, ident, "mine\n", name="prod-1")
        await complete(prod, ident, name="prod-1")
        equal(await shown(ann, ident), "mine\n")
        equal([m for m in ann.heard if "test-1" in json.dumps(m)], [])
        await viv.say("command:request", agentId="prod-1", command="id")
        equal((await until_error(viv))["code"], "NOT_PERMITTED")
        # A change of role ends what lives on the old one, within a second.
        equal(d.patch("/api/v1/users/ann", {"role": "viewer"}).status, 200)
        await ann.closed(1008, limit=1)
        for p in viv, all_, prod, test:
            await p.close()
    asyncio.run(run())


main(globals())
