#!/usr/bin/python3
"""The document's own example agents, in JavaScript (npm ws) and Go (gorilla),
against the real controller."""

import json
import os
import subprocess

from harness import BUILD, ROOT, Skip, check, equal, main, until

HERE = os.path.join(ROOT, "tests/system")


def lines(program, what=None):
    found = []
    for line in program.out().decode().splitlines(keepends=True):
        if line.endswith("\n"):
            m = json.loads(line)
            if what is None or m["what"] == what:
                found.append(m)
    return found


def hears(program, what, count=1):
    return until(lambda: len(lines(program, what)) >= count and lines(program, what),
                 "%d of %s" % (count, what))


def talk(d, agent, agent_id):
    """What every agent must see; the program is stopped at the end."""
    m = hears(agent, "register_success")[0]["message"]
    equal(m["payload"]["status"], "registered")
    check(m["request_id"].startswith("req_"), m)
    d.agent_is(agent_id, "online")
    m = hears(agent, "heartbeat_ack", 5)[0]["message"]
    check(m["payload"]["received_at"], m)
    equal(d.agent(agent_id)["tunnel_status"], "connected")


def node(t, d, token):
    modules = os.path.join(ROOT, "build/node/node_modules")
    if not os.path.isdir(modules):
        raise Skip("no npm ws; tools/setup test gets it")
    return t.start("node", ["node", os.path.join(HERE, "node/agent.js"), "ws" + d.url[4:], token, "50"],
                   env={"NODE_PATH": modules})


def test_npm_ws(t):
    d = t.musterd()
    agent = node(t, d, d.make_token())
    talk(d, agent, "my-agent-123")
    equal(agent.stop(), 0)
    equal(lines(agent, "close")[0]["code"], 1000)
    d.agent_is("my-agent-123", "offline")
    equal(lines(agent, "error"), [])


def test_npm_ws_reconnects(t):
    d = t.musterd()
    agent = node(t, d, d.make_token())
    talk(d, agent, "my-agent-123")
    cluster = d.agent("my-agent-123")["cluster_id"]
    d.kill()
    d = d.again()
    m = hears(agent, "register_success", 2)[1]["message"]
    equal(m["payload"]["cluster_id"], cluster)
    d.agent_is("my-agent-123", "online")
    # A drain tells it so: 1001.
    equal(d.stop(), 0)
    hears(agent, "close", 2)
    equal(lines(agent, "close")[1]["code"], 1001)
    agent.kill()


def test_gorilla(t):
    if not os.path.isdir("/usr/share/gocode/src/github.com/gorilla/websocket"):
        raise Skip("no gorilla websocket; tools/setup test gets it")
    program = t.path("gorilla")
    subprocess.run(["go", "build", "-o", program, "./tests/system/gorilla"], check=True, cwd=ROOT,
                   env=dict(t.env, GOPATH="/usr/share/gocode", GO111MODULE="off", GOFLAGS="",
                            GOCACHE=os.path.join(BUILD, "gocache")))
    d = t.musterd()
    agent = t.start("gorilla", [program, "ws" + d.url[4:], d.make_token(), "50"])
    talk(d, agent, "go-agent-123")
    equal(agent.stop(), 0)
    equal(lines(agent, "close")[0]["message"], 1000)
    d.agent_is("go-agent-123", "offline")


main(globals())
