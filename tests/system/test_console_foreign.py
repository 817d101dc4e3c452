#!/usr/bin/python3
"""The document's own example clients (npm ws), a dashboard in Go (gorilla),
coding agents and a dashboard as existing programs have them, in both
spellings, against the real controller."""

import json
import os
import subprocess

from harness import BUILD, ROOT, Skip, check, equal, main, need, until

HERE = os.path.join(ROOT, "tests/system")
SCOPES = ("agent:connect", "cluster:register", "cluster:heartbeat")


def lines(program, what=None):
    found = []
    for line in program.out().decode().splitlines(keepends=True):
        if line.endswith("\n"):
            m = json.loads(line)
            if what is None or m["what"] == what:
                found.append(m)
    return found


def hears(program, test, why):
    def look():
        for m in lines(program):
            if test(m):
                return m
        check(program.running(), "ended:", program.out()[-500:], program.log()[-500:])
        return None
    return until(look, why)


def message(program, kind, number=0, **fields):
    m = hears(program, lambda m: m["what"] == "message" and m.get("number", 0) == number
              and m["message"]["type"] == kind
              and all(m["message"].get(k) == v for k, v in fields.items()),
              "%s %s" % (kind, fields))
    return m["message"]


def node(t, script, *words, **more):
    modules = os.path.join(ROOT, "build/node/node_modules")
    if not os.path.isdir(modules):
        raise Skip("no npm ws; tools/setup test gets it")
    return t.start(script, ["node", os.path.join(HERE, "node", script), *words],
                   env={"NODE_PATH": modules}, **more)


class Dashboard:
    def __init__(self, t, d, count=1):
        self.p = node(t, "dashboard.js", "ws%s/ws" % d.url[4:], d.token, str(count),
                      stdin=subprocess.PIPE)

    def say(self, kind, **fields):
        self.p.process.stdin.write(json.dumps(dict(fields, type=kind)).encode() + b"\n")
        self.p.process.stdin.flush()

    def end(self):
        self.p.process.stdin.close()
        equal(self.p.wait(), 0)


def flat_agent(t, d, name):
    return node(t, "flat_agent.js", "ws%s/ws" % d.url[4:], d.make_token(name, SCOPES), name)


def test_document_client(t):
    d = t.musterd()
    dash = Dashboard(t, d)
    equal(message(dash.p, "agent:list")["agents"], [])
    check("permessage-deflate" in lines(dash.p, "open")[0]["extensions"], "npm ws offers it")
    agent = flat_agent(t, d, "mock-1")
    message(dash.p, "agent:status", agentId="mock-1", status="online")
    dash.say("command:request", agentId="mock-1", command="npm test", args=["--coverage"],
             priority="high")
    queued = message(dash.p, "command:queued", agentId="mock-1")
    equal(queued["position"], 1)
    m = message(dash.p, "command:complete", commandId=queued["commandId"])
    equal(m["exitCode"], 0)
    text = "".join(m["content"] for m in lines(dash.p, "terminal"))
    check("npm test --coverage 2\nnpm test --coverage 1\nnpm test --coverage 0\n" in text, text)
    # Interrupted: 130.
    dash.say("command:request", agentId="mock-1", command="forever")
    ident = hears(dash.p, lambda m: m["what"] == "message"
                  and m["message"]["type"] == "command:queued"
                  and m["message"]["commandId"] != queued["commandId"],
                  "the second command")["message"]["commandId"]
    message(dash.p, "command:status", commandId=ident, status="running")
    dash.say("command:interrupt", commandId=ident)
    m = message(dash.p, "command:complete", commandId=ident)
    equal(m["exitCode"], 130)
    message(dash.p, "command:status", commandId=ident, status="interrupted")
    equal(d.command(ident)["state"], "interrupted")
    equal(agent.stop(), 0)
    message(dash.p, "agent:status", agentId="mock-1", status="offline")
    dash.end()
    equal(lines(dash.p, "error"), [])
    equal(lines(dash.p, "close")[0]["code"], 1000)


def wrapper(t, d, name, ping_ms=30000):
    return node(t, "wrapper.js", "ws" + d.url[4:], d.make_token(name, SCOPES), name, str(ping_ms))


def printed(dash, ident, stream="stdout"):
    return "".join(m["message"]["output"]["content"] for m in lines(dash.p, "message")
                   if m["message"]["type"] == "terminal:output"
                   and m["message"]["commandId"] == ident
                   and m["message"]["output"]["type"] == stream)


def test_wrapper(t):
    """The wrapper of the other spelling, commanded by a flat dashboard and by muster exec."""
    need("muster")
    d = t.musterd()
    dash = Dashboard(t, d)
    message(dash.p, "agent:list")  # or it would find the agent there
    agent = wrapper(t, d, "wrap-1", 200)
    message(dash.p, "agent:status", agentId="wrap-1", status="online")

    def run(*argv):
        known = {m["message"]["commandId"] for m in lines(dash.p, "message")
                 if m["message"]["type"] == "command:queued"}
        dash.say("command:request", agentId="wrap-1", command=argv[0], args=argv[1:])
        ident = hears(dash.p, lambda m: m["what"] == "message"
                      and m["message"]["type"] == "command:queued"
                      and m["message"]["commandId"] not in known,
                      "queued")["message"]["commandId"]
        return ident, message(dash.p, "command:complete", commandId=ident)["exitCode"]

    ident, code = run("echo", "a  b", "$HOME")
    equal((code, printed(dash, ident)), (0, "a  b $HOME\n"))
    equal(d.command(ident)["state"], "completed")
    # It has no word for an exit code.
    ident, code = run("sh", "-c", "echo oops >&2; exit 3")
    equal((code, printed(dash, ident, "stderr")), (1, "oops\n"))
    equal(d.command(ident)["state"], "failed")
    e = t.cli(d, "exec", "wrap-1", "--", "sh", "-c", "echo out; echo err >&2")
    equal((e.code, e.out, e.err), (0, b"out\n", b"err\n"))
    e = t.cli(d, "exec", "wrap-1", "--", "/nonexistent/program")
    equal(e.code, 1)
    # What it does not know leaves it as it is.
    dash.say("agent:control", agentId="wrap-1", action="pause")
    hears(agent, lambda m: m["what"] == "unknown" and m["type"] == "AGENT_CONTROL", "unknown")
    equal(run("true")[1], 0)
    hears(agent, lambda m: m["what"] == "pong", "its pings are answered")
    equal([m for m in lines(agent, "message") if m["message"]["type"] == "ERROR"], [])
    # The controller starts again, and it is back.
    equal(d.stop(), 0)
    d = d.again()
    d.agent_is("wrap-1", "online")
    equal(len(lines(agent, "open")), 2)
    e = t.cli(d, "exec", "wrap-1", "--", "echo", "again")
    equal((e.code, e.out), (0, b"again\n"))
    equal(agent.stop(), 0)
    # 1006: it came back before the controller did.
    equal([m["code"] for m in lines(agent, "close") if m["code"] != 1006], [1001, 1000])
    dash.end()


def test_upper_dashboard(t):
    """Both sides in upper, and a flat agent beside."""
    d = t.musterd()
    agents = [wrapper(t, d, "wrap-1"), flat_agent(t, d, "mock-1")]
    for name in "wrap-1", "mock-1":
        d.agent_is(name, "online")
    p = node(t, "upper_dashboard.js", "ws" + d.url[4:], d.token,
             d.get("/api/v1/whoami").json["user"]["id"], stdin=subprocess.PIPE)

    def heard(kind, **fields):
        return hears(p, lambda m: m["what"] == "message" and m["message"]["type"] == kind
                     and all(m["message"]["payload"].get(k) == v for k, v in fields.items()),
                     "%s %s" % (kind, fields))["message"]["payload"]

    equal(heard("DASHBOARD_CONNECTED")["agents"], 2)
    for name in "wrap-1", "mock-1":
        heard("AGENT_STATUS", agentId=name, status="ONLINE")
    for own, name, text in (("own-1", "wrap-1", "hello 2\n"),
                            ("own-2", "mock-1", "".join("echo hello 2 %d\n" % n
                                                       for n in (2, 1, 0)))):
        p.process.stdin.write(json.dumps({"type": "COMMAND_REQUEST", "payload": {
            "commandId": own, "agentId": name, "content": "echo hello 2", "type": "NATURAL",
            "priority": 50}}).encode() + b"\n")
        p.process.stdin.flush()
        heard("COMMAND_STATUS", commandId=own, status="COMPLETED")
        until(lambda own=own, text=text: "".join(
            m["message"]["payload"]["content"] for m in lines(p, "message")
            if m["message"]["type"] == "TERMINAL_STREAM"
            and m["message"]["payload"]["commandId"] == own) == text, "output of " + own)
    for agent in agents:
        equal(agent.stop(), 0)
    heard("AGENT_STATUS", agentId="wrap-1", status="OFFLINE")
    p.process.stdin.close()
    equal(p.wait(), 0)
    equal([m["code"] for m in lines(p, "close")], [1000])


def test_hundred_connections(t):
    """The document's load test, and a restart: all of them come back."""
    d = t.musterd()
    dash = Dashboard(t, d, 100)
    for n in range(100):
        message(dash.p, "agent:list", number=n)
    flat_agent(t, d, "mock-1")
    for n in range(100):
        message(dash.p, "agent:status", number=n, agentId="mock-1", status="online")
    equal(d.get("/health").json["websocket"]["connections"], 100)
    equal(d.stop(), 0)
    until(lambda: len(lines(dash.p, "close")) == 100, "all were told")
    equal({m["code"] for m in lines(dash.p, "close")}, {1001})
    d = d.again()
    until(lambda: len(lines(dash.p, "open")) == 200, "all are back")
    dash.end()


def test_gorilla(t):
    if not os.path.isdir("/usr/share/gocode/src/github.com/gorilla/websocket"):
        raise Skip("no gorilla websocket; tools/setup test gets it")
    program = t.path("gorilla_console")
    subprocess.run(["go", "build", "-o", program, "./tests/system/gorilla_console"], check=True,
                   cwd=ROOT, env=dict(t.env, GOPATH="/usr/share/gocode", GO111MODULE="off",
                                      GOFLAGS="", GOCACHE=os.path.join(BUILD, "gocache")))
    d = t.musterd()
    flat_agent(t, d, "mock-1")
    d.agent_is("mock-1", "online")
    dash = t.start("gorilla", [program, "ws%s/ws/dashboard" % d.url[4:], d.token, "mock-1",
                               "go test"])
    equal(dash.wait(), 0, dash.out())
    m = lines(dash, "agent:list")[0]["message"]["agents"][0]
    equal((m["agentId"], m["agentType"], m["status"]), ("mock-1", "mock", "online"))
    text = "".join(m["message"]["output"]["content"] for m in lines(dash, "terminal:output")
                   if m["message"]["output"]["type"] == "stdout")
    equal(text, "".join("go test --coverage %d\n" % n for n in (2, 1, 0)))
    equal(lines(dash, "command:complete")[0]["message"]["exitCode"], 0)


main(globals())
