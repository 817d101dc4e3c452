#!/usr/bin/python3
"""Agents that sign every message: npm ws and a Go client written from the
document as peers, and everything that somebody without the secret may try."""

import hashlib
import hmac
import json
import os
import subprocess
import time
import uuid

from harness import BUILD, ROOT, Skip, check, equal, main, until
from hostile import Peer


class WebSocket(Peer):
    """One that closes as it should, and says how it was closed."""

    def __init__(self, d):
        super().__init__(d.host, d.port, "/agent")
        equal(self.status, 101)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def say(self, text):
        self.send(1, text.encode())

    def hear(self):
        return self.message()

    def closed(self, limit=15):
        self.s.settimeout(limit)
        while True:
            op, data = self.recv()
            if op == 9:
                self.send(10, data)
            elif op == 8:
                return int.from_bytes(data[:2], "big"), data[2:].decode()


HERE = os.path.join(ROOT, "tests/system")
SECRET = "correct horse battery staple"


def lines(program, what):
    # U+2028 ends no line here.
    found = [json.loads(x) for x in program.out().decode().split("\n")[:-1]]
    return [m for m in found if m["what"] == what]


def hears(program, what, why, test=lambda m: True):
    def look():
        for m in lines(program, what):
            if test(m):
                return m
        check(program.running(), "ended:", program.out()[-500:], program.log()[-500:])
        return None
    return until(look, why)


def add(t, d, name, *flags):
    path = t.path("secret-%s" % uuid.uuid4(), SECRET + "\n")
    t.cli(d, "signed", "add", "--secret-file", path, *flags, name, code=0)


def node_agent(t, d, name, mode=""):
    modules = os.path.join(ROOT, "build/node/node_modules")
    if not os.path.isdir(modules):
        raise Skip("no npm ws; tools/setup test gets it")
    return t.start("signed-" + name, ["node", os.path.join(HERE, "node/signed_agent.js"),
                   "ws%s/agent" % d.url[4:], SECRET, name, mode],
                   env={"NODE_PATH": modules})


def signed(agent, kind, payload, secret=SECRET, ts=None, nonce=None):
    env = {"type": kind, "agentId": agent, "ts": ts or int(time.time() * 1000),
           "nonce": nonce or str(uuid.uuid4()), "payload": payload}
    text = json.dumps(env, separators=(",", ":"))
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return text[:-1] + ',"signature":"%s"}' % mac


def auth(agent, **more):
    return signed(agent, "auth", {"hostname": "h", "version": "1"}, **more)


def ends(t, d, want, *texts):
    """A connection that says these is closed so."""
    with WebSocket(d) as w:
        for text in texts:
            w.say(text)
        equal(w.closed(), want, texts[-1][:80] if texts else "silence")


def test_document_agent(t):
    d = t.musterd()
    add(t, d, "server-01")
    a = node_agent(t, d, "server-01")
    d.agent_is("server-01", "online")
    shown = d.agent("server-01")
    equal((shown["name"], shown["dialect"]), ("host-of-server-01", "signed"))
    for verb, out in (("ping", "pong\n"), ("get_version", "4.0.3\n"),
                      ("get_machine_id", "f00d\n"), ("run_health_check", "health_ok\n")):
        ended = t.cli(d, "exec", "-n", "server-01", "--", verb, code=0)
        equal(ended.out.decode(), out)
    ended = t.cli(d, "exec", "-n", "server-01", "--", "get_status", "unit=ssh", "a=b")
    equal((ended.code, ended.err.decode()), (1, "exit status 3\n"))
    check(all(m["good"] for m in lines(a, "message")), "what we sign is believed")
    equal(lines(a, "message")[-1]["message"]["payload"],
          {"command": "get_status", "args": {"a": "b", "unit": "ssh"}})
    # What it has no word for is never sent.
    before = len(lines(a, "message"))
    for argv in (("reboot",), ("ping", "x"), ("ping", "a=<b>"), ("ping", "a=b", "a=c")):
        ended = t.cli(d, "exec", "-n", "server-01", "--", *argv)
        equal(ended.code, 4, argv)
    equal(t.cli(d, "exec", "-n", "--shell", "server-01", "--", "ping").code, 4)
    equal(len(lines(a, "message")), before)
    # Existing agents read 32 KiB and no more.
    equal(t.cli(d, "exec", "-n", "server-01", "--", "ping", "a=" + "x" * 30000).code, 4)
    equal(t.cli(d, "exec", "-n", "server-01", "--", "ping", "a=" + "x" * 20000).code, 0)


def test_gorilla(t):
    if not os.path.isdir("/usr/share/gocode/src/github.com/gorilla/websocket"):
        raise Skip("no gorilla websocket; tools/setup test gets it")
    program = t.path("gorilla_signed")
    subprocess.run(["go", "build", "-o", program, "./tests/system/gorilla_signed"], check=True,
                   cwd=ROOT, env=dict(t.env, GOPATH="/usr/share/gocode", GO111MODULE="off",
                                      GOFLAGS="", GOCACHE=os.path.join(BUILD, "gocache")))
    d = t.musterd()
    add(t, d, "go-1")
    a = t.start("gorilla", [program, "ws%s/agent" % d.url[4:], SECRET, "go-1"])
    d.agent_is("go-1", "online")
    ended = t.cli(d, "exec", "-n", "go-1", "--", "ping", "b=2", "a=1 \"quoted\"", code=0)
    equal(ended.out.decode(), "pong <&>\n")
    heard = lines(a, "message")
    equal([(m["command"], m["args"], m["good"]) for m in heard],
          [("ping", {"a": '1 "quoted"', "b": "2"}, True)])
    until(lambda: d.get("/api/v1/agents/go-1/logs?text=%3CB%3E").json["items"], "its log")


def test_two_at_once(t):
    d = t.musterd()
    add(t, d, "a-1")
    a = node_agent(t, d, "a-1", "slow")
    d.agent_is("a-1", "online")
    both = [t.cli_start(d, "exec", "-n", "a-1", "--", verb) for verb in ("ping", "get_version")]
    equal([p.wait() for p in both], [0, 0])
    equal(sorted(p.out().decode() for p in both), ["4.0.3\n", "pong\n"])
    equal(len(lines(a, "message")), 2)


def test_figures_and_logs(t):
    d = t.musterd()
    add(t, d, "a-1")
    a = node_agent(t, d, "a-1", "metrics-first")
    d.agent_is("a-1", "online")

    def figures():
        return d.get("/api/v1/agents/a-1/metrics?step=5s").json["items"]
    until(figures, "figures")
    equal({k: figures()[0][k] for k in ("cpu", "memory", "disk")},
          {"cpu": 25.5, "memory": 45.2, "disk": 60.1})
    equal(d.get("/api/v1/agents/a-1/metrics").status, 200)
    equal(d.get("/api/v1/agents/a-1/metrics?step=1h").status, 400)

    def found(query=""):
        return d.get("/api/v1/agents/a-1/logs" + query).json["items"]
    until(found, "a line of its log")
    equal(found()[0]["message"], "a <b>line</b> \u2028 of a log")
    equal([len(found(q)) for q in ("?level=warn", "?level=info", "?text=LINE", "?text=no",
                                   "?since=2020-01-01T00:00:00Z&limit=1")], [1, 0, 1, 0, 1])
    check(a.running(), "still there")


def test_console_and_old_api(t):
    d = t.musterd()
    t.cli(d, "signed", "add", "--tenant=prod-", "--secret-file", t.path("tenant", SECRET),
          code=0)
    a = node_agent(t, d, "prod-7")
    d.agent_is("prod-7", "online")
    found = d.get("/api/websocket/agents").json["agents"]
    equal([(x["agentId"], x["hostname"], x["version"]) for x in found],
          [("prod-7", "host-of-prod-7", "4.0.3")])
    check(isinstance(found[0]["lastSeen"], int) and isinstance(found[0]["connectedAt"], int))
    equal(d.get("/api/websocket/agents/prod-7").json, {"agentId": "prod-7", "connected": True})
    equal(d.get("/api/websocket/agents/other").json, {"agentId": "other", "connected": False})
    got = d.post("/api/websocket/agents/prod-7/command", {"command": "ping", "args": {}})
    equal((got.status, got.json["success"], got.json["command"]), (200, True, "ping"))
    equal(d.command_ends(got.json["commandId"])["state"], "completed")
    equal(d.post("/api/websocket/agents/nobody/command", {"command": "ping"}).json["error"],
          "Agent not connected")
    equal(d.post("/api/websocket/agents/prod-7/command", {"command": "rm"}).status, 400)
    equal(d.post("/api/websocket/agents/prod-7/command", {"args": {}}).status, 400)
    equal(d.get("/api/websocket/agents", token=None).status, 401)
    # Detached: one at a time, in order.
    ids = [d.post("/api/v1/commands", {"agent": "prod-7", "argv": ["ping"]}).json["id"]
           for _ in range(5)]
    equal({d.command_ends(i)["state"] for i in ids}, {"completed"})
    a.stop()
    d.agent_is("prod-7", "offline")
    equal(d.post("/api/websocket/agents/prod-7/command", {"command": "ping"}).status, 404)


def test_refused(t):
    d = t.musterd()
    add(t, d, "a-1")
    now = int(time.time() * 1000)
    ends(t, d, (1008, "unknown_agent"), auth("nobody"))
    ends(t, d, (1008, "unknown_agent"), auth(""))
    ends(t, d, (1008, "invalid_signature"), auth("a-1", secret="another one"))
    ends(t, d, (1008, "invalid_signature"), auth("a-1")[:-12] + '"}')
    ends(t, d, (1008, "invalid_timestamp"), auth("a-1", ts=now - 301000))
    ends(t, d, (1008, "invalid_timestamp"), auth("a-1", ts=now + 70000))
    ends(t, d, (1008, "invalid_nonce"), auth("a-1", nonce="n" * 257))
    ends(t, d, (1003, "invalid_json"), "{")
    ends(t, d, (1003, "invalid_json"), "[1]")
    ends(t, d, (1003, "invalid_json"), '{"type":"auth","type":"auth"}')
    first = auth("a-1")
    ends(t, d, (1008, "replayed_nonce"), first, first)
    ends(t, d, (1008, "replayed_nonce"), first)
    # Nobody else's agent in a connection that is believed.
    ends(t, d, (1008, "unknown_agent"), auth("a-1"), auth("a-2"))
    ends(t, d, (1003, "invalid_json"), auth("a-1"), "x")


def test_replay_after_restart(t):
    d = t.musterd()
    add(t, d, "a-1")
    text = auth("a-1")
    with WebSocket(d) as w:
        w.say(text)
        d.agent_is("a-1", "online")
    d.kill()
    d = d.again()
    ends(t, d, (1008, "replayed_nonce"), text)
    with WebSocket(d) as w:
        w.say(auth("a-1"))
        d.agent_is("a-1", "online")


def test_replay_on_many_lanes(t):
    d = t.musterd("--lanes", "2")
    add(t, d, "a-1")
    text = auth("a-1")
    all_ = [WebSocket(d) for _ in range(8)]
    for w in all_:
        w.say(text)
    d.agent_is("a-1", "online")
    until(lambda: d.log().count("reason=replayed_nonce") == len(all_) - 1, "the others are refused")
    equal(d.agent("a-1")["status"], "online")
    for w in all_:
        w.close()


def test_replacement(t):
    d = t.musterd()
    add(t, d, "a-1")
    with WebSocket(d) as one, WebSocket(d) as two:
        one.say(auth("a-1"))
        d.agent_is("a-1", "online")
        # Somebody who only claims it is in nobody's way.
        ends(t, d, (1008, "invalid_signature"), auth("a-1", secret="a guess of it"))
        two.say(auth("a-1"))
        equal(one.closed(), (1000, "replaced_by_new_connection"))
        two.say(signed("a-1", "heartbeat", {"status": "alive"}))
        d.agent_is("a-1", "online")
        equal(d.get("/api/websocket/agents/a-1").json["connected"], True)


def test_rotation(t):
    d = t.musterd()
    add(t, d, "a-1")
    new = t.cli(d, "signed", "rotate", "--overlap=1h", "a-1", code=0).out.decode().strip()
    with WebSocket(d) as w:
        w.say(auth("a-1"))
        d.agent_is("a-1", "online")
        w.say(signed("a-1", "heartbeat", {"status": "alive"}, secret=new))
        w.say(signed("a-1", "heartbeat", {"status": "alive"}))
        # In mid-stream, without an overlap: away within a second.
        newer = t.cli(d, "signed", "rotate", "--overlap=0", "a-1", code=0).out.decode().strip()
        equal(w.closed(limit=5), (1008, "revoked"))
    ends(t, d, (1008, "invalid_signature"), auth("a-1", secret=new))
    d.stop()
    d = d.again()
    with WebSocket(d) as w:
        w.say(auth("a-1", secret=newer))
        d.agent_is("a-1", "online")
        listed = t.cli(d, "signed", "ls", code=0).out.decode()
        check("a-1" in listed and newer not in listed, listed)
        t.cli(d, "signed", "rm", "a-1", code=0)
        equal(w.closed(limit=5), (1008, "revoked"))
    ends(t, d, (1008, "unknown_agent"), auth("a-1", secret=newer))
    # At rest there is no secret, and the key is not everybody's to read.
    files = [os.path.join(r, f) for r, _, fs in os.walk(t.dir) for f in fs]
    keys = [f for f in files if f.endswith("secrets.key")]
    equal([os.stat(f).st_mode & 0o777 for f in keys], [0o600])
    for f in files:
        if "muster.db" in f or f.endswith("log"):
            with open(f, "rb") as b:
                text = b.read()
            for secret in (SECRET, new, newer):
                check(secret.encode() not in text, f, "holds a secret")


def test_silent_agent_and_break(t):
    d = t.musterd()
    add(t, d, "a-1")
    with WebSocket(d) as w:
        w.say(auth("a-1"))
        d.agent_is("a-1", "online")
        made = d.post("/api/v1/commands", {"agent": "a-1", "argv": ["ping"]}).json
        equal(w.hear()["payload"]["command"], "ping")
        queued = d.post("/api/v1/commands", {"agent": "a-1", "argv": ["get_version"]}).json
        equal(d.command(queued["id"])["state"], "queued")
    # It went without a word: nobody knows what came of it, and it is not
    # sent again.
    equal(d.command_ends(made["id"])["state"], "unknown")
    with WebSocket(d) as w:
        w.say(auth("a-1"))
        equal(w.hear()["payload"]["command"], "get_version")
        w.say(signed("a-1", "command_result", {"command": "get_version", "result": "7"}))
        equal(d.command_ends(queued["id"])["state"], "completed")
        # A stop: its protocol has no verb, and that is what is said.
        stop = d.post("/api/v1/stop", {"scope": "agent", "agent": "a-1", "reason": "test"})
        equal(stop.status // 100, 2, stop)
        shown = d.get("/api/v1/stops/%d" % stop.json["epoch"]).json
        equal([r["kind"] for r in shown["receipts"]], ["unable"])
        equal(t.cli(d, "exec", "-n", "a-1", "--", "ping").code, 8)


def test_rate(t):
    d = t.musterd()
    add(t, d, "a-1")
    ends(t, d, (1008, "rate_limited"),
         *[signed("a-1", "heartbeat", {"status": "alive"}) for _ in range(900)])


def test_auth_timeout(t):
    d = t.musterd()
    with WebSocket(d) as w:
        equal(w.closed(limit=20), (1008, "auth_timeout"))


if __name__ == "__main__":
    main(globals())
