#!/usr/bin/python3
"""What operators' tools forward: real musterd, real agent, small services."""
# timeout: 300

import hashlib
import os
import signal
import socket
import threading
import time

from harness import BUILD, ROOT, Skip, check, equal, main, need, until
from tunnel import Service, Tool, UDP, echo

LANES = ("1", "4")


def agent(t, d, name="web-1"):
    return t.agent(d, name, allow="exec,tunnel", flags=("--allow-target", "127.0.0.1:*"))


def each(t):
    """With one lane and with several: a controller and an agent."""
    need("musterd", "muster-agent")
    for n in LANES:
        d = t.musterd("--lanes", n)
        a = agent(t, d)
        yield d, a
        a.stop()
        equal(d.stop(), 0)
        check("ThreadSanitizer" not in d.log(), "a race with --lanes", n)


def figure(d, name):
    for line in d.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    raise AssertionError("no " + name)


def test_echo(t):
    service = Service(echo)
    for d, _ in each(t):
        # Which lane a connection begins on is the kernel's choice.
        tools = [Tool(d) for _ in range(6)]
        for tool in tools:
            equal(tool.status, 101, tool.head)
            s = tool.to(service.port)
            s.write(b"early")
            what = s.yes()
            equal(what["address"], "127.0.0.1:%d" % service.port)
            check(what["agent_id"].startswith("agt_") and what["id"].startswith("req_"), what)
            equal(s.read(5), b"early")
            s.write(b"x" * 100000)
            equal(s.read(100000), b"x" * 100000)
            s.finish()
            equal(s.rest(), b"")
        until(lambda: figure(d, 'muster_streams_open{kind="tcp"}') == 0, "all streams are closed")
        equal(figure(d, 'muster_streams_opened_total{kind="tcp"}'), 6)
        equal(figure(d, "muster_forwards"), 6)
        for tool in tools:
            tool.close()
        until(lambda: figure(d, "muster_forwards") == 0, "all tools are gone")
    service.close()


def test_much_both_ways(t):
    size = 24 << 20
    blob = os.urandom(1 << 20) * (size >> 20)
    want = hashlib.sha256(blob).hexdigest()
    service = Service(echo)
    for d, _ in each(t):
        tool = Tool(d)
        s = tool.to(service.port)
        s.yes()
        writer = threading.Thread(target=lambda: (s.write(blob), s.finish()))
        writer.start()
        h = hashlib.sha256()
        for _ in range(size >> 16):
            h.update(s.read(1 << 16))
        writer.join()
        equal(h.hexdigest(), want)
        equal(s.rest(), b"")
        tool.close()
    service.close()


def test_a_stalled_stream_stalls_nobody(t):
    """Nobody reads what one service sends; others go on."""
    def flood(s):
        s.settimeout(60)
        try:
            while True:
                s.sendall(b"z" * 65536)
        except OSError:
            pass
    source, service = Service(flood), Service(echo)
    for d, a in each(t):
        tool = Tool(d)
        slow = tool.to(source.port)
        slow.hold = True
        slow.yes()
        quick = tool.to(service.port)
        quick.yes()
        worst = 0
        for i in range(200):
            began = time.monotonic()
            quick.write(b"%06d" % i)
            equal(quick.read(6), b"%06d" % i)
            worst = max(worst, time.monotonic() - began)
        check(worst < 5, worst)
        # Windows and no more are on their way.
        with open("/proc/%d/statm" % d.pid) as f:
            resident = int(f.read().split()[1]) * 4096
        check(resident < 200 << 20 or "tsan" in BUILD or "asan" in BUILD, resident)
        slow.reset()
        until(lambda: figure(d, 'muster_streams_open{kind="tcp"}') == 1, "the slow one is gone")
        tool.close()
    source.close()
    service.close()


def test_refusals(t):
    service = Service(echo)
    free = socket.create_server(("127.0.0.1", 0))
    nobody = free.getsockname()[1]
    free.close()
    for d, a in each(t):
        tool = Tool(d)
        tool.to(nobody).no("CONNECT_REFUSED", "agent")
        tool.to(80, host="192.0.2.1").no("NOT_PERMITTED", "agent")
        tool.to(80, host="169.254.169.254").no("NOT_PERMITTED", "agent")
        tool.to(service.port, agent="nobody").no("AGENT_NOT_FOUND", "controller")
        tool.open(agent="web-1", host="127.0.0.1").no("INVALID_REQUEST", "controller")
        equal(figure(d, 'muster_streams_refused_total{code="CONNECT_REFUSED"}'), 1)
        # One connection, one agent.
        b = agent(t, d, "web-2")
        s = tool.to(service.port)
        s.yes()
        tool.to(service.port, agent="web-2").no("OTHER_AGENT", "controller")
        s.finish()
        s.rest()
        until(lambda: figure(d, 'muster_streams_open{kind="tcp"}') == 0, "it is over")
        s = tool.to(service.port, agent="web-2")
        s.yes()
        b.stop()
        until(lambda: s.rst, "its agent has gone")
        until(lambda: d.agent("web-2")["status"] == "offline", "offline")
        tool.to(service.port, agent="web-2").no("AGENT_OFFLINE", "controller")
        # The tool's first words are no WebSocket's.
        equal(Tool(d, token="clt_" + "a" * 32).status, 401)
        reader = d.post("/api/v1/tokens", {"name": "r", "scopes": ["agent:read"]}).json["token"]
        equal(Tool(d, token=reader).status, 403)
        tool.close()
    service.close()


def test_half_close(t):
    def sink(s):
        total = 0
        while True:
            data = s.recv(65536)
            if not data:
                break
            total += len(data)
        s.sendall(b"%d" % total)
    service = Service(sink)
    for d, _ in each(t):
        tool = Tool(d)
        s = tool.to(service.port)
        s.write(b"a" * 300000)
        s.finish()
        s.yes()
        equal(s.rest(), b"300000")
        tool.close()
    service.close()


def test_udp(t):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(("127.0.0.1", 0))

    def serve():
        while True:
            data, source = u.recvfrom(65536)
            if data == b"end":
                return
            u.sendto(data[::-1], source)
    threading.Thread(target=serve, daemon=True).start()
    port = u.getsockname()[1]
    for d, _ in each(t):
        tool = Tool(d)
        s = tool.open(UDP, agent="web-1", host="127.0.0.1", port=port)
        s.yes()
        for data in (b"a", b"bc" * 600, b"d" * 9000):
            s.send(data)
            equal(s.datagram(), data[::-1])
        equal(figure(d, 'muster_streams_open{kind="udp"}'), 1)
        tool.close()
    u.sendto(b"end", ("127.0.0.1", port))


def test_reverse(t):
    """The agent listens, and what connects there comes to the tool."""
    for d, a in each(t):
        with open(os.path.join(a.state, "policy.conf")) as f:
            text = f.read()
        check("[tunnel]" in text, text)
        with open(os.path.join(a.state, "policy.conf"), "w") as f:
            f.write(text.replace("[tunnel]", "[tunnel]\nlisten = 127.0.0.1:*", 1))
        a.signal(signal.SIGHUP)
        tool = Tool(d)

        def listens():
            s = tool.open(agent="web-1", id="l1", listen={"host": "127.0.0.1", "port": 0})
            status, what = s.answer()
            return (s, what) if status == 0 else None
        l, what = until(listens, "the policy is read again")
        port = int(what["address"].rsplit(":", 1)[1])
        for i in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
                c.sendall(b"hello %d" % i)
                s, order = tool.arrival()
                equal(order, {"listener": "l1", "peer": "127.0.0.1:%d" % c.getsockname()[1]})
                s.say_yes()
                equal(s.read(7), b"hello %d" % i)
                s.write(b"welcome")
                equal(c.recv(7, socket.MSG_WAITALL), b"welcome")
                c.shutdown(socket.SHUT_WR)
                equal(s.rest(), b"")
                s.finish()
                equal(c.recv(1), b"")
        l.finish()

        def refused():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=20).close()
                return False
            except ConnectionResetError:
                return False  # it was in the queue when that was closed
            except ConnectionRefusedError:
                return True
        until(refused, "it listens no more")
        tool.close()


def test_ends(t):
    service = Service(echo)
    need("musterd", "muster-agent")
    for n in LANES:
        d = t.musterd("--lanes", n)
        a = agent(t, d)
        made = d.post("/api/v1/tokens", {"name": "x", "scopes": ["tunnel:use", "agent:read"]}).json
        tool, other = Tool(d, token=made["token"]), Tool(d)
        for x in (tool, other):
            s = x.to(service.port)
            s.yes()
        # Whose token is revoked is cut.
        equal(d.call("DELETE", "/api/v1/tokens/" + made["id"]).status, 200)
        check(tool.over.wait(10), "the token's connection goes on")
        equal((tool.code, tool.reason), (1008, "revoked"))
        s.write(b"still")
        equal(s.read(5), b"still")
        # A stop ends tunnels.
        equal(d.post("/api/v1/stop", {"scope": "all", "reason": "test"}).status // 100, 2)
        until(lambda: s.rst, "the stop cuts it")
        status, what = other.to(service.port).answer()
        check(status == 1 and what["code"] in ("AGENT_STOPPED", "STOPPED"), what)
        d.signal(signal.SIGTERM)
        check(other.over.wait(10), "drained")
        equal((other.code, other.reason), (1001, "draining"))
        equal(d.wait(), 0)
        a.stop()
    service.close()


def test_connections_of_a_user(t):
    d = t.musterd("--user-connections", "3")
    tools = [Tool(d) for _ in range(3)]
    equal([x.status for x in tools], [101] * 3)
    equal(Tool(d).status, 429)
    tools[0].close()
    until(lambda: Tool(d).status == 101, "room again")


def test_races(t):
    tsan = os.path.join(ROOT, "build", "tsan", "musterd")
    if "MUSTER_BUILD" in os.environ or not os.access(tsan, os.X_OK):
        raise Skip("no build/tsan/musterd")
    os.mkdir(t.path("programs"))
    for name in ("muster", "muster-agent", "muster-holder"):
        os.symlink(os.path.join(BUILD, name), t.path("programs/" + name))
    os.symlink(tsan, t.path("programs/musterd"))
    p = t.start("again", ["/usr/bin/python3", os.path.abspath(__file__)],
                env={"MUSTER_BUILD": t.path("programs"), "TSAN_OPTIONS": "exitcode=66",
                     "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    equal(p.wait(150), 0, p.out().decode(errors="replace")[-4000:])


main(globals())
