#!/usr/bin/python3
"""The cluster agents' older HTTP endpoints."""

import asyncio
import base64
import json
import uuid

import websockets

from harness import check, equal, main, until

BASE = "/api/v1/clusters/agent/"


class Old:
    """An agent that only knows HTTP."""

    def __init__(self, d, agent_id="old-1", token=None):
        self.d, self.agent_id = d, agent_id
        self.token = token or d.make_token("of-" + agent_id)
        a = self.register()
        equal(a.status, 200, a)
        self.cluster = a["cluster_id"]

    def register(self, **more):
        return self.d.post(BASE + "register", dict({"agent_id": self.agent_id, "name": self.agent_id},
                                                   **more), token=self.token)

    def post(self, path, body=None, **kw):
        return self.d.post(BASE + self.cluster + path, body, token=self.token, **kw)

    def get(self, path):
        return self.d.get(BASE + self.cluster + path, token=self.token)

    def poll(self):
        a = self.get("/poll")
        equal(a.status, 200, a)
        return a["commands"]


def test_register_and_heartbeat(t):
    d = t.musterd("--public-url", "https://muster.example.org")
    old = Old(d)
    a = old.register(labels={"a": "b"})
    equal(a["cluster_id"], old.cluster, "the same again")
    uuid.UUID(a["cluster_id"])
    for name in ("cluster_id", "cluster_uuid", "name", "status", "tunnel_url", "registered_at",
                 "workspace_id"):
        equal(a["cluster"][name], a.json[name], name + " is flat and nested")
    equal(a["tunnel_url"], "https://muster.example.org/clusters/old-1")
    check("Deprecation" in a.headers, "deprecation")
    a = old.post("/heartbeat", {"tunnel_status": "connected", "metadata": {"cpu_usage": "12%"}})
    equal(a.status, 200, a)
    check(a["received_at"].endswith("Z"), a)
    equal(old.post("/heartbeat", b"").status, 200, "the first agents sent no body")
    shown = d.agent("old-1")
    equal((shown["status"], shown["labels"], shown["metrics"]["cpu_usage"]), ("online", {"a": "b"}, 12))
    a = old.get("/tunnel-info")
    equal(a.status, 200, a)
    equal((a["cluster_id"], a["tunnel_url"]), (old.cluster, "https://muster.example.org/clusters/old-1"))
    check("tunnel_status" in a.json and a["routes"] == [], a)


def test_refusals(t):
    d = t.musterd()
    old = Old(d)
    other = d.make_token("other")
    calls = [("POST", "/heartbeat"), ("GET", "/poll"), ("GET", "/tunnel-info"),
             ("POST", "/commands/cmd_x/result"), ("POST", "/commands/cmd_x/ack")]
    for method, path in calls:
        body = {"status": "completed"} if method == "POST" else None
        equal(d.call(method, BASE + old.cluster + path, body=body, token=None).status, 401, path)
        a = d.call(method, BASE + str(uuid.uuid4()) + path, body=body, token=old.token)
        equal(a.status, 404, path)
        check("cluster not found" in a.body.decode().lower(), a)
        a = d.call(method, BASE + old.cluster + path, body=body, token=other)
        check(a.status in (403, 404), "somebody else's", path, a)
    equal(d.get(BASE + "register", token=old.token).status, 405)
    for bad in ({}, {"agent_id": "x"}, {"agent_id": 1, "name": "x"}, {"agent_id": "a b", "name": "x"}):
        a = d.post(BASE + "register", bad, token=old.token)
        equal(a.status, 400, str(bad))
    a = d.post(BASE + "register", {"agent_id": "old-1", "name": "thief"}, token=other)
    check(a.status in (403, 409), a)
    equal(d.post(BASE + "register", {"agent_id": "y", "name": "y"},
                 token=d.make_token("r", scopes=["agent:read"])).status, 403)


def test_commands(t):
    d = t.musterd()
    old = Old(d)
    equal(old.poll(), [])
    made = d.post("/api/v1/commands", {"agent": "old-1", "argv": ["sh", "-c", "echo 'x y'"],
                                       "timeout_ms": 7000})
    equal(made.status, 201, made)
    got = old.poll()
    equal(len(got), 1)
    c = got[0]
    equal((c["command_id"], c["command"], c["args"], c["timeout_ms"]),
          (made["id"], "sh", ["-c", "echo 'x y'"], 7000))
    check(c["deadline_ms"] > 0 and c["attempt"] >= 1, c)
    again = old.poll()
    equal(again[0]["command_id"], c["command_id"], "offered again until it is answered")
    path = "/commands/%s" % c["command_id"]
    equal(old.post(path + "/ack").status, 200)
    equal(old.poll(), [], "acknowledged")
    raw = bytes(range(256))
    result = {"status": "completed", "exit_code": 0, "output_base64": base64.b64encode(raw).decode(),
              "stderr": "warn\n", "started_at": "2025-10-16T12:00:00Z",
              "finished_at": "2025-10-16T12:00:01Z"}
    equal(old.post(path + "/result", result).status, 200)
    equal(old.post(path + "/result", result).status, 200, "the same again")
    a = old.post(path + "/result", dict(result, exit_code=1))
    equal(a.status, 409, "a different one")
    done = d.command_ends(c["command_id"])
    equal((done["state"], done["exit_code"], done["out_bytes"]), ("completed", 0, 256))
    equal(d.get("/api/v1/commands/%s/output" % c["command_id"]).body, raw)
    equal(old.post("/commands/cmd_nobody/result", result).status, 404)


def test_a_restart_forgets_nothing(t):
    """Acks and results are durable when they are answered."""
    d = t.musterd()
    old = Old(d)
    idents = [d.post("/api/v1/commands", {"agent": "old-1", "argv": ["x"]})["id"] for _ in range(3)]
    equal([c["command_id"] for c in old.poll()], idents)
    done, acked, offered = ("/commands/" + i for i in idents)
    result = {"status": "failed", "exit_code": 3, "stdout": "words\n", "error": "no"}
    equal(old.post(done + "/result", result).status, 200)
    equal(old.post(acked + "/ack").status, 200)
    d.kill()
    d = old.d = d.again()
    until(lambda: d.agent("old-1"), "the agent")
    equal(d.command(idents[1])["state"], "running", "an ack is kept")
    equal(old.post(done + "/result", result).status, 200, "the same again")
    equal(old.post(done + "/result", dict(result, exit_code=4)).status, 409)
    equal(old.post(done + "/result", dict(result, stdout="other words\n")).status, 409)
    other = Old(d, "old-2")
    equal(other.post(done + "/result", result).status, 404, "not its own")
    equal([c["command_id"] for c in old.poll()], [idents[2]], "only what was not acknowledged")
    equal(old.post(acked + "/ack").status, 200)
    equal(old.post(acked + "/result", result).status, 200)
    equal(old.post(offered + "/result", {"status": "completed"}).status, 200)
    equal([d.command_ends(i)["state"] for i in idents], ["failed", "failed", "completed"])
    equal(d.get("/api/v1/commands/%s/output" % idents[0]).body, b"words\n")


def test_status_words(t):
    d = t.musterd()
    old = Old(d)
    for word, code, state in (("failed", 9, "failed"), ("interrupted", 130, "interrupted"),
                              ("refused", 0, "failed"), ("timeout", 0, "failed")):
        ident = d.post("/api/v1/commands", {"agent": "old-1", "argv": ["x"]})["id"]
        until(lambda: [c for c in old.poll() if c["command_id"] == ident], "offer")
        equal(old.post("/commands/%s/result" % ident, {"status": word, "exit_code": code}).status, 200)
        got = d.command_ends(ident)["state"]
        check(got == state or (word == "failed" and got == "completed"), word, got)
    ident = d.post("/api/v1/commands", {"agent": "old-1", "argv": ["x"]})["id"]
    until(old.poll, "offer")
    equal(old.post("/commands/%s/result" % ident, {"status": "whatever"}).status, 400)
    equal(old.post("/commands/%s/result" % ident, {"exit_code": 0}).status, 400)


def test_both_ways_of_one_cluster(t):
    """An agent may change from HTTP to the WebSocket and back."""
    d = t.musterd()
    old = Old(d, "both")

    async def go():
        ws = await websockets.connect(d.ws_url + "?token=" + old.token, ping_interval=None)
        await ws.send(json.dumps({"type": "register", "timestamp": "2025-10-16T12:00:00Z",
                                  "payload": {"agent_id": "both", "name": "both"}}))
        m = json.loads(await asyncio.wait_for(ws.recv(), 20))
        equal((m["type"], m["payload"]["cluster_id"]), ("register_success", old.cluster))
        equal(old.post("/heartbeat", {}).status, 200)
        # A push has no verb in this dialect.
        await ws.send(json.dumps({"type": "ping", "payload": {}, "timestamp": "2025-10-16T12:00:00Z"}))
        equal(json.loads(await asyncio.wait_for(ws.recv(), 20))["type"], "pong")
        await ws.close()
    asyncio.run(go())
    equal(old.register()["cluster_id"], old.cluster)
    d.agent_is("both", "online", "degraded")  # its clock is years behind


main(globals())
