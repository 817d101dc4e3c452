#!/usr/bin/python3
"""One lane or several: the same things asked for have the same outcome.

Which lane a connection is on is the kernel's choice, so each part uses
several connections.  All is done again by a controller that looks for races,
when build/tsan/musterd is there.
"""
# timeout: 400

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import threading

import websockets

from harness import BUILD, ROOT, WS_PATH, Skip, check, equal, main, need, until

LANES = ("1", "4")
AGENTS = ("web-1", "web-2", "web-3")


def both(t, sequence):
    """Run a sequence with one lane and with several; the results are equal."""
    results = []
    for n in LANES:
        d = t.musterd("--lanes", n)
        results.append(sequence(t, d))
        equal(d.stop(), 0, "--lanes %s ends" % n)
        check("ThreadSanitizer" not in d.log(), "a race with --lanes", n)
    equal(results[1], results[0], "several lanes differ from one")
    return results[0]


class Follower(threading.Thread):
    """Hears the names of events until one that ends it."""

    def __init__(self, d, last, count):
        super().__init__(daemon=True)
        self.last, self.left, self.heard = last, count, []
        self.c = http.client.HTTPConnection(d.host, d.port, timeout=60)
        self.c.request("GET", "/api/v1/events", headers={"Authorization": "Bearer " + d.token})
        self.r = self.c.getresponse()
        equal(self.r.status, 200)
        # The first line says that it is in the list of those who hear.
        equal(self.r.readline(), b": muster events\n")
        self.start()

    def run(self):
        while self.left > 0:
            line = self.r.readline()
            if not line:
                return
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
                # A short one may have ended before its start is told.
                if name.startswith("command.") and name != "command.running":
                    self.heard.append(name)
                self.left -= name == self.last
        self.c.close()


async def foreign_agents(d, token):
    url = d.ws_url + "?token=" + token
    links = [await websockets.connect(url, ping_interval=None) for _ in range(12)]
    replies = []

    async def ask(ws, kind, payload):
        await ws.send(json.dumps({"type": kind, "payload": payload, "request_id": "r1"}))
        m = json.loads(await asyncio.wait_for(ws.recv(), 20))
        replies.append((m["type"], m.get("request_id")))

    for i, ws in enumerate(links):
        await ask(ws, "register", {"agent_id": "f-%02d" % i, "name": "f-%02d" % i})
        await ask(ws, "heartbeat", {"agent_id": "f-%02d" % i, "status": "healthy"})
    # One that comes again takes the place of the older, on whatever lane.
    for i in range(6):
        ws = await websockets.connect(url, ping_interval=None)
        await ask(ws, "register", {"agent_id": "f-%02d" % i, "name": "f-%02d" % i})
        try:
            await asyncio.wait_for(links[i].recv(), 20)
            raise AssertionError("the older link is still served")
        except websockets.ConnectionClosed as e:
            replies.append(("closed", e.rcvd.code if e.rcvd else None))
        links[i] = ws
    states = [d.agent("f-%02d" % i)["status"] for i in range(12)]
    # A goodbye has been heard before whatever comes after it.
    for i, ws in enumerate(links):
        await ws.close()
        states.append(d.agent("f-%02d" % i)["status"])
    return replies, states


def test_foreign_agents(t):
    replies, states = both(t, lambda t, d: asyncio.run(foreign_agents(d, d.make_token())))
    equal(states, ["online"] * 12 + ["offline"] * 12)
    equal(replies.count(("closed", 1000)), 6, replies)


def commands(t, d):
    followers = [Follower(d, "command.completed", len(AGENTS) * 4 + 1) for _ in range(6)]
    agents = [t.agent(d, n) for n in AGENTS]
    seen = []
    blob = os.urandom(300000)
    for name in AGENTS:
        e = t.cli(d, "exec", "-n", name, "--", "sh", "-c", "printf out; printf err >&2; exit 7")
        seen.append((e.code, e.out, e.err))
        e = t.cli(d, "exec", name, "--", "sha256sum", input=blob, code=0)
        equal(e.out.split()[0].decode(), hashlib.sha256(blob).hexdigest())
        e = t.cli(d, "exec", "-n", name, "--", "seq", "1", "300000", code=0)
        seen.append(hashlib.sha256(e.out).hexdigest())
        # Attached and detached ones in a row: numbers arrive in order.
        ids = [t.cli(d, "exec", "-d", "--json", name, "--", "echo", str(i), code=0).json["id"]
               for i in range(2)]
        for i, ident in enumerate(ids):
            seen.append((d.command_ends(ident)["state"], d.command(ident)["exit_code"],
                         d.get("/api/v1/commands/%s/output" % ident).body))
        e = t.cli(d, "exec", "-n", name, "--", "/bin/no-such-program")
        seen.append(e.code)
    t.cli(d, "exec", "-n", name, "--", "true", code=0)
    for f in followers:
        f.join(30)
        check(not f.is_alive(), "a follower misses events:", len(f.heard))
    # In the order of the hub for everyone.
    for f in followers[1:]:
        equal(f.heard, followers[0].heard, "followers differ")
    for a in agents:
        a.stop()
    return seen, sorted(followers[0].heard)


def test_commands(t):
    need("musterd", "muster-agent", "muster-holder", "muster")
    both(t, commands)


def moving(t, d):
    """The agent comes back, again and again, while someone watches."""
    a = t.agent(d, "web-1")
    go = t.path("go%d" % len(t.programs))
    os.mkfifo(go)
    script = ("for n in 1 2 3 4 5 6; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); "
              "echo $n.$i; done; read x < %s; done; exit 3" % go)
    p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c", script)
    for n in range(1, 7):
        until(lambda: ("%d.2000\n" % n).encode() in p.out(), "part %d" % n)
        if n < 6:
            a.kill()
            a = a.again()
            until(lambda: d.agent("web-1")["status"] in ("online", "busy"), "back")
        with open(go, "w") as f:
            f.write("\n")
    equal(p.wait(60), 3, p.log())
    want = "".join("%d.%d\n" % (n, i) for n in range(1, 7) for i in range(1, 2001))
    equal(p.out(), want.encode(), "output of a viewer that moved")
    a.stop()
    return d.get("/api/v1/commands").json["items"][0]["state"]


def test_viewer_follows_the_agent(t):
    need("musterd", "muster-agent", "muster-holder", "muster")
    equal(both(t, moving), "failed")


def interrupts(t, d):
    a = t.agent(d, "web-1")
    codes = []
    for _ in range(4):
        p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c", "echo up; exec sleep 1000")
        until(lambda: p.out() == b"up\n", "it runs")
        ident = d.get("/api/v1/commands").json["items"][0]["id"]
        equal(d.post("/api/v1/commands/%s/interrupt" % ident).status, 200)
        codes.append(p.wait())
    a.stop()
    return codes


def test_interrupts(t):
    need("musterd", "muster-agent", "muster-holder", "muster")
    equal(both(t, interrupts), [130] * 4)


def test_viewers_that_leave(t):
    """Whoever goes away, at whatever moment, leaves the command alone."""
    need("musterd", "muster-agent", "muster-holder", "muster")

    def sequence(t, d):
        a = t.agent(d, "web-1")
        for wait in (False, True) * 4:
            p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c", "echo up; sleep 0.3")
            if wait:
                until(lambda: p.out() == b"up\n", "it runs")
            else:
                until(lambda: d.get("/api/v1/commands").json["items"], "it is known")
            p.kill()
        until(lambda: all(c["state"] == "completed"
                          for c in d.get("/api/v1/commands").json["items"]), "all end")
        a.stop()
        return True
    both(t, sequence)


def test_metrics_of_all_lanes(t):
    for n in LANES:
        d = t.musterd("--lanes", n)
        text = d.get("/metrics").body.decode()
        equal(len(re.findall(r"^muster_mailbox_depth\{", text, re.M)), int(n))
        equal(len(re.findall(r"^muster_loop_lag_seconds\{", text, re.M)), int(n))
        equal(len(os.listdir("/proc/%d/task" % d.pid)) > int(n), True)
        # One figure for all: each of these is on a lane of its own choosing.
        held = [d.connect() for _ in range(20)]
        until(lambda: "muster_connections 21" in d.get("/metrics").body.decode(), "20 and itself")
        for s in held:
            s.close()


def test_drain_of_all_lanes(t):
    async def go(d, token):
        links = [await websockets.connect(d.ws_url + "?token=" + token, ping_interval=None)
                 for _ in range(12)]
        d.signal(signal.SIGTERM)
        return [await asyncio.wait_for(ws.wait_closed(), 20) or ws.close_code for ws in links]
    for n in LANES:
        d = t.musterd("--lanes", n)
        equal(asyncio.run(go(d, d.make_token())), [1001] * 12)
        equal(d.wait(), 0)


def test_port_is_not_shared_by_strangers(t):
    d = t.musterd("--lanes", "4")
    p = t.start("second", [os.path.join(BUILD, "musterd"), "--lanes", "4", "--data", t.path("other"),
                           "--listen", "127.0.0.1:%d" % d.port])
    equal(p.wait(), 1)
    check("in use" in p.log(), p.log())


def proxied(d, source):
    """A connection that comes, so its PROXY header says, from source."""
    s = d.connect()
    s.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", 12)
              + socket.inet_aton(source) + socket.inet_aton("127.0.0.1")
              + struct.pack(">HH", 4711, d.port))
    return s


def ask(s, d, path="/health", fields="", method="GET"):
    """The status of an answer; 0 when the connection was cut."""
    try:
        s.sendall(("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % (method, path, fields)).encode())
        got = s.recv(65536)
    except OSError:
        return 0
    return int(got.split()[1]) if got else 0


def test_connections_of_one_address(t):
    for n in LANES:
        d = t.musterd("--lanes", n, "--source-strangers", "6", "--source-connections", "3",
                      listen=("127.0.0.1:0,proxy",), ready=False)
        d.log_has("event=ready")
        d.port = int(re.search(r"address=\S+:(\d+)", d.log()).group(1))
        with open(os.path.join(d.data, "admin.token")) as f:
            bearer = "Authorization: Bearer %s\r\n" % f.read().strip()
        held = [proxied(d, "192.0.2.1") for _ in range(6)]
        equal([ask(s, d) for s in held], [200] * 6)
        equal(ask(proxied(d, "192.0.2.1"), d), 0, "a seventh stranger")
        d.log_has("connection_refused")
        check("remote=192.0.2.1:4711" in d.log(), d.log())
        other = proxied(d, "192.0.2.2")
        equal(ask(other, d), 200, "another address")
        # Those that prove themselves make room.
        equal([ask(s, d, "/api/v1/whoami", bearer) for s in held[:3]], [200] * 3)
        more = [proxied(d, "192.0.2.1") for _ in range(3)]
        equal([ask(s, d) for s in more], [200] * 3)
        equal(ask(proxied(d, "192.0.2.1"), d), 0)
        # So do those that leave.
        for s in more:
            s.close()
        until(lambda: ask(proxied(d, "192.0.2.1"), d) == 200, "room again")
        # The agents' links have a number of their own.
        for s in held[3:]:
            status = ask(s, d, WS_PATH, bearer + "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
            check(status in (403, 429), status)
        d.stop()


def test_the_last_connections(t):
    for n in LANES:
        d = t.musterd("--lanes", n, "--connections", "40")
        bearer = "Authorization: Bearer %s\r\n" % d.token
        held = [d.connect() for _ in range(24)]
        equal([ask(s, d) for s in held], [200] * 24)
        equal(ask(d.connect(), d), 503)
        equal(ask(d.connect(), d, "/api/v1/commands/cmd_x/interrupt", bearer, "POST"), 404)
        last = []
        for _ in range(20):
            # One too many is cut, at the soonest while it connects.
            with contextlib.suppress(ConnectionResetError):
                last.append(d.connect())
        check(sum(ask(s, d, "/api/v1/commands/cmd_x/cancel", bearer, "POST") == 404
                  for s in last) >= 14, "the last 16 are not served")
        for s in held + last:
            s.close()
        until(lambda: ask(d.connect(), d) == 200, "room again")


def test_proxies_in_front(t):
    d = t.musterd("--trusted-proxies", "127.0.0.0/8", "--cors-origins", "https://*.example.com")
    def remotes():
        return [r["remote"] for r in d.get("/api/v1/audit").json["items"]]
    d.post("/api/v1/tokens", {"name": "a", "scopes": ["agent:read"]},
           headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.7"})
    until(lambda: "198.51.100.7" in remotes(), "the client is in the journal")
    d.post("/api/v1/tokens", {"name": "b", "scopes": ["agent:read"]},
           headers={"Forwarded": "for=1.1.1.1", "X-Forwarded-For": "2.2.2.2"})
    until(lambda: len([r for r in remotes() if r and r.startswith("127.0.0.1:")]) > 0, "neither")
    check(not {"1.1.1.1", "2.2.2.2", "6.6.6.6"} & set(remotes()), remotes())
    # Who comes through a proxy is not local, whatever its address.
    equal(d.get("/metrics", token=False).status, 200)
    equal(d.get("/metrics", token=False, headers={"X-Forwarded-For": "198.51.100.7"}).status, 401)


def test_cors(t):
    d = t.musterd("--cors-origins", "https://*.example.com")
    page = {"Origin": "https://a.example.com"}
    a = d.get("/api/v1/agents", headers=page)
    equal((a.status, a.headers["Access-Control-Allow-Origin"], a.headers["Vary"]),
          (200, "https://a.example.com", "Origin"))
    equal(a.headers["Access-Control-Allow-Credentials"], None)
    a = d.call("OPTIONS", "/api/v1/agents", token=False,
               headers=dict(page, **{"Access-Control-Request-Method": "GET"}))
    equal(a.status, 204)
    check("GET" in a.headers["Access-Control-Allow-Methods"], a.headers)
    check("Authorization" in a.headers["Access-Control-Allow-Headers"], a.headers)
    for stranger in ("https://example.com", "https://evilexample.com", "null", "http://a.example.com"):
        head = {"Origin": stranger, "Access-Control-Request-Method": "GET"}
        for method in ("GET", "OPTIONS"):
            a = d.call(method, "/api/v1/agents", headers=head)
            equal((a.status, a.headers["Access-Control-Allow-Origin"]), (403, None))
    equal(d.get("/health").headers["Vary"], "Origin")
    a = t.musterd().get("/health")
    equal((a.headers["Vary"], a.headers["Access-Control-Allow-Origin"]), (None, None))


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
    equal(p.wait(200), 0, p.out().decode(errors="replace")[-4000:])


main(globals())
