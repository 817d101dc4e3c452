#!/usr/bin/python3
"""The cluster agents' WebSocket, by a foreign client: python3-websockets."""

import asyncio
import datetime
import json
import uuid

import websockets

from harness import WS_PATH, check, equal, main, until

FULL = {
    "agent_id": "unique-agent-identifier", "name": "cluster-name", "k8s_version": "1.27.0",
    "hostname": "agent-hostname", "agent_version": "1.0.0", "server_ip": "10.0.0.1",
    "region": "us-east-1", "cloud_provider": "aws",
    "server_specs": {"cpu_cores": 4, "memory_gb": 16, "disk_gb": 100, "os": "Ubuntu 22.04"},
    "tunnel_port_config": {"kubernetes_api": 6443, "kubelet": 10250, "agent_http": 8080},
    "labels": {"environment": "production", "team": "platform"},
}


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


class Agent:
    """A foreign agent: sends and receives whole messages."""

    def __init__(self, ws):
        self.ws = ws

    @classmethod
    async def connect(cls, d, token, by="query", **kw):
        if by == "query":
            url, head = d.ws_url + "?token=" + token, {}
        else:
            url, head = d.ws_url, {"Authorization": "Bearer " + token}
        kw.setdefault("ping_interval", None)
        return cls(await websockets.connect(url, extra_headers=head, **kw))

    async def say(self, kind, payload=None, request_id=None, **more):
        m = {"type": kind, "payload": {} if payload is None else payload, "timestamp": now()}
        if request_id:
            m["request_id"] = request_id
        m.update(more)
        await self.ws.send(json.dumps(m))

    async def hear(self, kind=None, limit=20):
        m = json.loads(await asyncio.wait_for(self.ws.recv(), limit))
        check(set(m) >= {"type", "payload", "timestamp"} and isinstance(m["payload"], dict), m)
        datetime.datetime.strptime(m["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
        check(m["timestamp"].endswith("Z"), m)
        if kind:
            equal(m["type"], kind, str(m))
        return m

    async def ask(self, kind, payload=None, answer=None):
        request_id = "req_" + uuid.uuid4().hex
        await self.say(kind, payload, request_id)
        m = await self.hear(answer)
        equal(m.get("request_id"), request_id, "request_id comes back")
        return m["payload"]

    async def register(self, agent_id="a1", **more):
        return await self.ask("register", dict({"agent_id": agent_id, "name": agent_id}, **more),
                              "register_success")

    async def closed(self, limit=20):
        """The code it is closed with, passing over what comes before."""
        try:
            while True:
                await asyncio.wait_for(self.ws.recv(), limit)
        except websockets.ConnectionClosed as e:
            return e.rcvd.code if e.rcvd else 1006


async def refused(d, token, by="query", path=None):
    """The HTTP status that refuses a handshake."""
    try:
        ws = await websockets.connect(
            (path or d.ws_url) + ("?token=" + token if by == "query" and token else ""),
            extra_headers={"Authorization": "Bearer " + token} if by == "header" else {})
    except websockets.InvalidStatusCode as e:
        return e.status_code
    await ws.close()
    return 101


def test_both_ways_in(t):
    d = t.musterd()
    token = d.make_token()

    async def go():
        for by in ("query", "header"):
            a = await Agent.connect(d, token, by)
            p = await a.register("by-" + by)
            equal(p["status"], "registered")
            equal(d.agent("by-" + by)["status"], "online")
            await a.ws.close()
    asyncio.run(go())


def test_every_message(t):
    d = t.musterd("--public-url", "https://muster.example.org")
    token = d.make_token()

    async def go():
        a = await Agent.connect(d, token)
        p = await a.ask("register", FULL, "register_success")
        uuid.UUID(p["cluster_id"])
        equal(p["cluster_uuid"], p["cluster_id"])
        equal(p["name"], "cluster-name")
        equal(p["tunnel_url"], "https://muster.example.org/clusters/unique-agent-identifier")
        equal(p["workspace_id"], 1)
        check(p["registered_at"].endswith("Z"), p)
        for kind in ("heartbeat", "status"):
            p2 = await a.ask(kind, {"tunnel_status": "connected", "status": "available",
                                    "metadata": {"version": "1.0.0", "k8s_nodes": 3,
                                                 "k8s_pods": 25, "cpu_usage": "45%",
                                                 "memory_usage": "60%"}}, "heartbeat_ack")
            check(p2["received_at"].endswith("Z"), p2)
        p3 = await a.ask("ping", {}, "pong")
        check(p3["timestamp"].endswith("Z"), p3)
        await a.say("pong", {"timestamp": now()})  # unsolicited: fine
        shown = d.agent("unique-agent-identifier")
        equal(shown["cluster_id"], p["cluster_id"])
        equal(shown["labels"], FULL["labels"])
        for name in ("hostname", "k8s_version", "server_ip", "region", "cloud_provider",
                     "server_specs", "tunnel_port_config", "agent_version"):
            equal(shown["info"][name], FULL[name], name)
        equal((shown["status"], shown["tunnel_status"], shown["dialect"]),
              ("online", "connected", "cluster"))
        equal(shown["metrics"]["cpu_usage"], 45)
        equal(shown["metrics"]["k8s_pods"], 25)
        # No request_id, none back.
        await a.say("heartbeat", {})
        check("request_id" not in await a.hear("heartbeat_ack"), "an id of nobody")
        # A native ping.
        await asyncio.wait_for(await a.ws.ping(b"are you there"), 10)
        # JSON in a binary frame is what the real agent's peers also send.
        await a.ws.close()
        equal(a.ws.close_code, 1000, "close is answered")
    asyncio.run(go())
    a = d.agent_is("unique-agent-identifier", "offline")
    check(a["status_reason"], "a reason")
    history = until(lambda: (lambda h: h if h and h[0]["closed_at"] else None)(
        d.get("/api/v1/agents/unique-agent-identifier/connections")["items"]), "history")
    equal(len(history), 1)
    check(history[0]["opened_at"] and history[0]["why"], history)


def test_errors_keep_the_link(t):
    d = t.musterd()
    token = d.make_token()

    async def go():
        a = await Agent.connect(d, token)
        await a.say("heartbeat", {}, "early")
        m = await a.hear("error")
        equal(m["request_id"], "early")
        check("not registered" in m["payload"]["error"], m)
        check(m["payload"]["code"], m)
        await a.register("a1")
        bad = [
            ("{", None), ("[]", None), ("1", None), ('"x"', None), ("", None),
            ('{"type":"ping"', None), ('{"type":1,"payload":{},"timestamp":"x"}', "type"),
            ('{"payload":{}}', "type"),
            ('{"type":"heartbeat","payload":[],"timestamp":"2025-10-16T12:00:00Z"}', "payload"),
            ('{"type":"register","payload":{"name":"x"},"timestamp":"2025-10-16T12:00:00Z"}', "agent_id"),
            ('{"type":"register","payload":{"agent_id":"x"},"timestamp":"2025-10-16T12:00:00Z"}', "name"),
            ('{"type":"register","payload":{"agent_id":7,"name":"x"},"timestamp":"2025-10-16T12:00:00Z"}',
             "agent_id"),
            ('{"type":"register","payload":{"agent_id":"a b","name":"x"},'
             '"timestamp":"2025-10-16T12:00:00Z"}', "agent_id"),
            ('{"type":"launch","payload":{},"timestamp":"2025-10-16T12:00:00Z"}', "launch"),
            ('{"type":"ping","type":"ping","payload":{},"timestamp":"2025-10-16T12:00:00Z"}', "type"),
            ("[" * 100000, None),
        ]
        for text, names in bad:
            await a.ws.send(text)
            m = await a.hear("error")
            check(m["payload"]["error"] and m["payload"]["code"], m)
            check("not registered" not in m["payload"]["error"].lower() and
                  "cluster not found" not in m["payload"]["error"].lower(), m)
            if names:
                check(names in m["payload"]["error"] or m["payload"].get("field") == names,
                      names, "is not named in", m)
        # What is said beside the matter may be odd.
        for odd in ("1e999", '"\\ud800"', '"\\u0000"', "[" * 20 + "]" * 20, "9" * 1000):
            await a.ws.send('{"type":"ping","payload":{"a":%s},"timestamp":"2025-10-16T12:00:00Z"}' % odd)
            await a.hear("pong")
        # Without a timestamp, without a payload for what needs none.
        await a.ws.send('{"type":"ping","payload":{}}')
        await a.hear("pong")
        await a.ws.close()
    asyncio.run(go())


def test_binary_is_1003(t):
    d = t.musterd()
    token = d.make_token()

    async def go():
        a = await Agent.connect(d, token)
        await a.register()
        await a.ws.send(b"\0\1\2")
        equal(await a.closed(), 1003)
        b = await Agent.connect(d, token)
        await b.ws.send("x" * 65537)  # before it registered: 64 KiB
        equal(await b.closed(), 1009)
        c = await Agent.connect(d, token)
        await c.register("a2")
        await c.ask("heartbeat", {"metadata": {"x": "y" * 60000}}, "heartbeat_ack")
        await c.ws.send("x" * ((1 << 20) + 1))
        equal(await c.closed(), 1009)
    asyncio.run(go())


def test_refusals(t):
    d = t.musterd()
    good = d.make_token("good")
    narrow = d.make_token("narrow", scopes=["agent:read"])
    gone = d.make_token("gone")
    short = d.make_token("short", ttl_ms=1)
    d.delete("/api/v1/tokens/gone")

    async def go():
        for by in ("query", "header"):
            equal(await refused(d, narrow, by), 403, "scope")
            equal(await refused(d, gone, by), 403, "revoked")
            equal(await refused(d, short, by), 403, "expired")
            equal(await refused(d, "clt_" + "x" * 32, by), 401, "unknown")
        equal(await refused(d, ""), 401, "none")
        equal(await refused(d, good, path=d.ws_url + "/more"), 403, "a monitor must be an operator")
        statuses = [await refused(d, "clt_%032d" % i) for i in range(25)]
        check(429 in statuses, statuses)
        equal(await refused(d, good), 101, "a good one still comes in")
    until(lambda: d.get("/api/v1/agents", token=short).status == 403, "expiry")
    asyncio.run(go())


def test_identity(t):
    """An agent_id belongs to the token that first said it."""
    d = t.musterd()
    mine, theirs = d.make_token("mine"), d.make_token("theirs")

    async def go():
        a = await Agent.connect(d, mine)
        first = await a.register("x1")
        again = await a.ask("register", {"agent_id": "x1", "name": "renamed"}, "register_success")
        equal(again["cluster_id"], first["cluster_id"], "the same cluster")
        equal(d.agent("x1")["name"], "renamed")
        b = await Agent.connect(d, theirs)
        await b.say("register", {"agent_id": "x1", "name": "thief"}, "r1")
        m = await b.hear("error")
        equal((m["request_id"], m["payload"]["code"]), ("r1", "AGENT_ID_TAKEN"))
        equal(d.agent("x1")["name"], "renamed")
        await a.ask("ping", {}, "pong")
        # The newest connection wins; the older one is closed with 1000.
        c = await Agent.connect(d, mine)
        equal((await c.register("x1"))["cluster_id"], first["cluster_id"])
        equal(await a.closed(), 1000)
        equal(d.agent("x1")["status"], "online")
        await c.ask("heartbeat", {}, "heartbeat_ack")
        for x in (b, c):
            await x.ws.close()
    asyncio.run(go())


def test_rotation_and_revocation(t):
    d = t.musterd()
    old = d.make_token("r")

    async def go():
        a = await Agent.connect(d, old)
        first = await a.register("x1")
        new = d.post("/api/v1/tokens/r/rotate", {"overlap_ms": 600000})["token"]
        b = await Agent.connect(d, new)
        equal((await b.register("x1"))["cluster_id"], first["cluster_id"], "the record's, not the text's")
        await a.closed()
        c = await Agent.connect(d, old)
        await c.register("x2")
        d.delete("/api/v1/tokens/r")
        equal(await b.closed(5), 1008, "revoked")
        equal(await c.closed(5), 1008, "revoked")
        equal(await refused(d, new), 403)
    asyncio.run(go())


def test_connection_limit(t):
    d = t.musterd()
    token = d.make_token("two", max_connections=2)

    async def go():
        links = [await Agent.connect(d, token) for _ in range(2)]
        equal(await refused(d, token), 429)
        await links[0].ws.close()
        for _ in range(100):
            if await refused(d, token) == 101:
                break
            await asyncio.sleep(0.02)
        else:
            check(False, "the freed place is not given")
        await links[1].ws.close()
    asyncio.run(go())


def test_broken_link_is_reconnecting(t):
    d = t.musterd()
    token = d.make_token()

    async def go():
        a = await Agent.connect(d, token)
        await a.register("x1")
        a.ws.transport.abort()
        shown = None
        for _ in range(200):
            shown = d.agent("x1")
            if shown["status"] != "online":
                break
            await asyncio.sleep(0.02)
        equal(shown["status"], "reconnecting")
        check(shown["status_reason"] and shown["status_since"], shown)
        b = await Agent.connect(d, token)
        await b.register("x1")
        equal(d.agent("x1")["status"], "online")
        # Who says goodbye is not waited for.
        await b.ws.close()
    asyncio.run(go())
    d.agent_is("x1", "offline", limit=5)


def test_compression(t):
    d = t.musterd()
    token = d.make_token()

    async def go():
        a = await Agent.connect(d, token, compression="deflate")
        await a.register("x1", labels={"k%d" % i: "v" * 200 for i in range(40)})
        check(any(e.name == "permessage-deflate" for e in a.ws.extensions), "not agreed")
        await a.ask("heartbeat", {"metadata": {"m": "z" * 50000}}, "heartbeat_ack")
        await a.ws.close()
        b = await Agent.connect(d, token, compression=None)
        await b.register("x1")
        equal(b.ws.extensions, [])
        await b.ws.close()
    asyncio.run(go())


def test_restart(t):
    """A controller that comes back knows its agents, their ids and tokens."""
    d = t.musterd()
    token = d.make_token()

    async def first():
        a = await Agent.connect(d, token)
        return (await a.register("x1", labels={"a": "b"}))["cluster_id"], a
    loop = asyncio.new_event_loop()
    cluster, a = loop.run_until_complete(first())
    d.kill()
    d2 = d.again()
    shown = d2.agent("x1")
    equal((shown["cluster_id"], shown["labels"]), (cluster, {"a": "b"}))
    check(shown["status"] in ("reconnecting", "offline"), shown["status"])

    async def second():
        b = await Agent.connect(d2, token)
        equal((await b.register("x1"))["cluster_id"], cluster)
        await b.ws.close()
    loop.run_until_complete(second())
    loop.run_until_complete(a.closed())
    loop.close()


def test_many(t):
    """Five hundred at once, each answered as itself."""
    d = t.musterd()
    token = d.make_token()

    async def one(i):
        a = await Agent.connect(d, token, open_timeout=60)
        p = await a.register("n%03d" % i, name="name-%d" % i)
        equal(p["name"], "name-%d" % i)
        for k in range(5):
            await a.ask("ping" if k % 2 else "heartbeat", {}, "pong" if k % 2 else "heartbeat_ack")
        return a

    async def go():
        links = await asyncio.gather(*[one(i) for i in range(500)])
        found, cursor = 0, ""
        while cursor is not None:
            page = d.get("/api/v1/agents?status=online&limit=200" +
                         ("&cursor=" + cursor if cursor else "")).json
            found, cursor = found + len(page["items"]), page["next"]
        equal(found, 500)
        await asyncio.gather(*[a.ws.close() for a in links])
    asyncio.run(go())
    check(WS_PATH not in d.log() or "token=" not in d.log(), "a token in the log")


def test_takeover(t):
    """The same token from another address, while the first is there."""
    async def run(d, refused):
        token = d.make_token()
        first = await Agent.connect(d, token)
        await first.ask("register", FULL, "register_success")
        other = await Agent.connect(d, token, local_addr=("127.0.0.9", 0))
        m = await other.ask("register", FULL, "error" if refused else "register_success")
        if refused:
            equal(m["code"], "AGENT_LIVE", m)
            await first.ask("ping", {}, "pong")
        lines = [(a["action"], a["result"]) for a in d.get("/api/v1/audit?limit=50")["items"]]
        check(("agent.takeover", "denied" if refused else "ok") in lines, lines)
        await first.ws.close()
        await other.ws.close()
    asyncio.run(run(t.musterd(), False))
    asyncio.run(run(t.musterd("--refuse-takeover"), True))


main(globals())
