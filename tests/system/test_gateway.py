#!/usr/bin/python3
"""test_gateway: visitors of services behind a real agent, through the real
controller: curl, Python's websockets, and the vectors of HTTP."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import (  # noqa: E402
    BUILD, PATIENCE, ROOT, Skip, check, equal, main, need, until)

import websockets  # noqa: E402

HOST = "app.test"
VECTORS = os.path.join(os.path.dirname(ROOT), "shared/vectors/http.tar.gz")


# Services --------------------------------------------------------------------

class Broken(Exception):
    """A request that no strict server would take."""


class Request:
    def __init__(self, line, fields, body, trailers):
        self.line, self.fields, self.body, self.trailers = line, fields, body, trailers
        self.method, self.path, _ = line.split(" ")

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def one(self, name):
        got = self.all(name)
        equal(len(got), 1, "%s in %r" % (name, self.fields))
        return got[0]


def read_fields(f):
    fields = []
    while True:
        line = f.readline()
        if not line.endswith(b"\r\n"):
            raise Broken(line)
        if line == b"\r\n":
            return fields
        name, colon, value = line[:-2].partition(b":")
        if not colon or name.strip() != name or not name:
            raise Broken(line)
        fields.append((name.decode("latin-1"), value.strip().decode("latin-1")))


def read_body(f, fields):
    """By the letter of RFC 9112, and nothing else."""
    length = [v for n, v in fields if n.lower() == "content-length"]
    coding = [v for n, v in fields if n.lower() == "transfer-encoding"]
    if length and coding or len(length) > 1 or len(coding) > 1:
        raise Broken(fields)
    if not coding:
        return f.read(int(length[0])) if length else b"", []
    equal(coding, ["chunked"])
    body = b""
    while True:
        size = f.readline()
        if not re.fullmatch(rb"[0-9a-fA-F]+\r\n", size):
            raise Broken(size)
        if int(size, 16) == 0:
            return body, read_fields(f)
        body += f.read(int(size, 16))
        if f.read(2) != b"\r\n":
            raise Broken(body)


def read_request(f):
    """None at the end."""
    line = f.readline()
    if not line:
        return None
    if not re.fullmatch(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n", line):
        raise Broken(line)
    fields = read_fields(f)
    body, trailers = read_body(f, fields)
    return Request(line[:-2].decode(), fields, body, trailers)


class Service:
    """serve(service, socket, file) is called for each connection, in a thread."""

    def __init__(self, t, serve):
        self.requests, self.broken, self.connections, self.ended = [], [], 0, 0
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        t.cleanup.callback(self.close)

    def close(self):
        """No more connections; those that there are go on."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(PATIENCE)
        self.listener.close()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.connections += 1
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        with s, s.makefile("rb") as f:
            try:
                self.serve(self, s, f)
            except Broken as why:
                self.broken.append(why)
            except OSError:
                pass
        self.ended += 1


def say(s, status, body=b"", *fields):
    head = ["HTTP/1.1 %s" % status, "Content-Length: %d" % len(body), *fields]
    s.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def answering(answer):
    """A service that keeps its connections and answers each request by answer(
    service, socket, request); a true result ends the connection."""
    def serve(service, s, f):
        while True:
            r = read_request(f)
            if r is None:
                return
            service.requests.append(r)
            if answer(service, s, r):
                return
    return serve


# Controller and agent --------------------------------------------------------

class World:
    """A controller, an agent and routes to services."""

    def __init__(self, t, services, flags=(), agent_flags=("--allow-target", "127.0.0.1:*"),
                 **options):
        need("musterd", "muster-agent")
        self.t = t
        self.d = t.musterd("--dev", *flags)
        self.state = t.join(self.d, "edge", allow="observe,tunnel", flags=agent_flags)
        self.start_agent()
        for host, service in services.items():
            self.add_route(host, service, **options)

    def add_route(self, host, service, **options):
        route = dict({"host": host, "agent": "edge", "public": True,
                      "to": {"host": "127.0.0.1", "port": service.port}}, **options)
        if "selector" in options:
            del route["agent"]
        a = self.d.post("/api/v1/routes", route)
        equal(a.status, 201, a)
        return a["id"]

    def start_agent(self):
        self.agent = self.t.start("agent", [os.path.join(BUILD, "muster-agent"), "run",
                                            "--state", self.state])
        self.agent.log_has("event=link_up")

    def end(self):
        """In order: sanitizers have their say then."""
        equal(self.agent.stop(), 0)
        equal(self.d.stop(), 0)

    def connect(self):
        return self.d.connect()

    def ask(self, data, host=HOST):
        """Bytes of one request with all of its answer, on a connection of its own."""
        s = self.connect()
        s.sendall(data)
        return s

    def get(self, path="/", host=HOST, **headers):
        return self.d.call("GET", path, token=False, headers=dict({"Host": host}, **headers))

    def call(self, method, path, body, host=HOST, **headers):
        return self.d.call(method, path, body=body, token=False,
                           headers=dict({"Host": host}, **headers))

    def curl(self, *words):
        p = subprocess.run(["curl", "-sS", "--max-time", "60", "--resolve",
                            "%s:%d:127.0.0.1" % (HOST, self.d.port), *words],
                           capture_output=True, check=False, cwd=self.t.dir)
        equal(p.returncode, 0, p.stderr)
        return p.stdout

    @property
    def url(self):
        return "http://%s:%d" % (HOST, self.d.port)


def rest_of(s):
    got = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece
    except ConnectionResetError:
        return got


# HTTP ------------------------------------------------------------------------

def test_curl(t):
    blob = os.urandom(8 << 20)

    def answer(service, s, r):
        if r.path == "/blob":
            say(s, "200 OK", blob if r.method == "GET" else b"", "ETag: \"1\"")
        elif r.path == "/sum":
            say(s, "200 OK", hashlib.sha256(r.body).hexdigest().encode())
        elif r.path == "/head":
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        elif r.path == "/none":
            s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            say(s, "200 OK", json.dumps(r.fields).encode())
        return False

    service = Service(t, answering(answer))
    w = World(t, {HOST: service})
    fields = {n.lower(): v for n, v in json.loads(w.curl(w.url + "/x?y=z", "-H", "X-A: b"))}
    equal(fields["x-a"], "b")
    equal(fields["host"], "%s:%d" % (HOST, w.d.port))
    equal(fields["x-forwarded-for"], "127.0.0.1")
    equal(fields["x-forwarded-proto"], "http")
    check(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fields["traceparent"]), fields)
    equal(w.curl(w.url + "/blob"), blob)
    up = t.path("blob", blob)
    want = hashlib.sha256(blob).hexdigest().encode()
    # With Expect: 100-continue, sized and chunked.
    equal(w.curl(w.url + "/sum", "-T", up), want)
    equal(w.curl(w.url + "/sum", "-T", up, "-H", "Transfer-Encoding: chunked"), want)
    equal(w.curl(w.url + "/sum", "-T", up, "-H", "Expect:"), want)
    check(b"Content-Length: 12345" in w.curl("-I", w.url + "/head"), "HEAD")
    equal(w.curl(w.url + "/none"), b"")
    # All of that on a few connections of the agent's.
    check(service.connections <= 3, service.connections)
    equal(service.broken, [])
    text = w.d.get("/metrics").body.decode()
    check(re.search(r"^muster_tunnel_requests_total [1-9]", text, re.M), text)
    check('muster_tunnel_body_bytes_total{direction="client_to_service"} %d' % (3 * len(blob))
          in text, text)


def test_events(t):
    """SSE: each event at once, and a visitor that goes is noticed."""
    gone = threading.Event()

    def answer(service, s, r):
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        s.sendall(b"data: 1\n\n")
        service.go.wait(PATIENCE)
        s.sendall(b"data: 2\n\n")
        s.settimeout(PATIENCE)
        try:
            equal(s.recv(1), b"")
        except ConnectionResetError:
            pass
        gone.set()
        return True

    service = Service(t, answering(answer))
    service.go = threading.Event()
    w = World(t, {HOST: service})
    s = w.ask(b"GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n")
    got = b""
    while b"data: 1\n\n" not in got:
        got += s.recv(4096)
    check(b"data: 2" not in got, got)
    service.go.set()
    while b"data: 2\n\n" not in got:
        got += s.recv(4096)
    s.close()
    check(gone.wait(PATIENCE), "the service did not hear that the visitor went")


def test_keep_alive(t):
    """A connection is not used again shortly before, or after, the service
    closes it as it said: a POST that met that could not be asked again."""
    said = {"/none": (), "/five": ("Keep-Alive: timeout=5, max=9",), "/one": ("Keep-Alive: timeout=1",),
            "/zero": ("Keep-Alive: timeout=0",)}

    def serve(service, s, f):
        until_ = None
        while True:
            r = read_request(f)
            # As one whose end is on its way while this comes.
            if r is None or until_ and time.monotonic() > until_:
                return
            say(s, "200 OK", str(service.connections).encode(), *said[r.path])
            until_ = time.monotonic() + 0.6 if r.path == "/one" else None

    w = World(t, {HOST: Service(t, serve)})

    def post(path):
        a = w.call("POST", path, b"x")
        equal(a.status, 200, a)
        return int(a.body)

    equal([post(p) for p in ("/none", "/five", "/one", "/one")], [1, 1, 1, 1])
    time.sleep(0.8)
    equal([post(p) for p in ("/one", "/zero", "/none", "/none")], [2, 2, 3, 3])


def test_broken_services(t):
    def answer(service, s, r):
        if r.path == "/half":
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif r.path == "/chunk":
            s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        elif r.path == "/split":
            s.sendall(b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n")
        elif r.path == "/slow":
            time.sleep(2)
        return True

    service = Service(t, answering(answer))
    w = World(t, {HOST: service}, answer_ms=500)
    for path in "/half", "/chunk":
        with w.ask(("GET %s HTTP/1.1\r\nHost: app.test\r\n\r\n" % path).encode()) as s:
            got = rest_of(s)
        check(b"half" in got and b"502" not in got and b"\r\n0\r\n" not in got, got)
    a = w.get("/split")
    equal((a.status, a.code), (502, "BAD_ANSWER"))
    check("evil" not in str(a.headers), a.headers)
    a = w.get("/close")
    equal((a.status, a.code, a["hop"]), (502, "SERVICE_CLOSED", "service"))
    a = w.get("/slow")
    equal((a.status, a.code), (504, "ANSWER_TIMEOUT"))
    service.close()
    a = w.get("/x")
    equal((a.status, a.code, a["hop"]), (502, "CONNECT_REFUSED", "service"))
    check(a["request_id"] == a.headers["X-Request-Id"], a)
    w.d.log_has(a["request_id"])
    line = next(x for x in w.d.log().splitlines() if a["request_id"] in x)
    check("event=tunnel_failed" in line and "hop=service" in line, line)
    a = w.get("/x", Accept="text/html")
    check(a.status == 502 and b"<!doctype html>" in a.body, a)


def test_agent_lost(t):
    """The agent ends in the middle, is away, and comes back."""
    asked = threading.Event()

    def answer(service, s, r):
        if r.path == "/wait":
            asked.set()
            s.recv(1)
        say(s, "200 OK", b"it")
        return False

    w = World(t, {HOST: Service(t, answering(answer))})
    slow = w.ask(b"GET /wait HTTP/1.1\r\nHost: app.test\r\n\r\n")
    check(asked.wait(PATIENCE), "asked")
    w.agent.kill()
    got = slow.recv(65536)
    check(b" 502 " in got and b"AGENT_GONE" in got, got)
    w.d.agent_is("edge", "reconnecting", "offline")
    a = w.get("/x")
    equal(a.status, 503)
    check(a.headers["Retry-After"], a.headers)
    w.start_agent()
    equal(w.get("/x").body, b"it")
    w.end()


def test_policy(t):
    """What the host does not permit is refused there."""
    service = Service(t, answering(lambda service, s, r: say(s, "200 OK", b"secret")))
    w = World(t, {HOST: service}, agent_flags=("--allow-target", "127.0.0.1:1"))
    a = w.get("/")
    equal((a.status, a["hop"]), (502, "agent"))
    check(a.code in ("NOT_PERMITTED", "TARGET_REFUSED"), a)
    equal(service.connections, 0)


def test_unknown_hosts(t):
    service = Service(t, answering(lambda service, s, r: say(s, "200 OK", b"it")))
    w = World(t, {HOST: service})
    equal(w.get("/", host="other.test").status, 421)
    equal(w.get("/clusters/edge/", host="127.0.0.1:%d" % w.d.port).status, 421)
    equal(w.get("/health", host="127.0.0.1:%d" % w.d.port).status, 200)
    # Nothing of the controller's is at the service's name, nor the other way.
    equal(w.get("/api/v1/agents").body, b"it")
    equal(w.get("/metrics").body, b"it")


# Ways and walls ----------------------------------------------------------------

def test_paths(t):
    """Under /clusters/, on an origin of its own and with a token alone."""
    def answer(service, s, r):
        say(s, "302 Found", b"", "Location: /login", "Set-Cookie: sid=1; Path=/; Domain=tunnel.test",
            "Set-Cookie: muster_route=evil", "Service-Worker-Allowed: /")
        return False

    service = Service(t, answering(answer))
    w = World(t, {}, flags=("--tunnel-origin", "http://tunnel.test:1"),
              agent_flags=("--allow-target", "127.0.0.1:*"))
    path = "/clusters/edge/services/default/web:%d/a?b" % service.port
    a = w.get(path, host="tunnel.test:1")
    check(a.status in (302, 303, 401, 403), a)
    equal(service.connections, 0)
    a = w.get(path, host="127.0.0.1:%d" % w.d.port)
    equal((a.status, a.code), (421, "MISDIRECTED"))
    token = {"X-Muster-Authorization": "Bearer " + w.d.token}
    a = w.get(path, host="tunnel.test:1", **token)
    # The agent was asked, and its policy has not heard of that service.
    equal((a.status, a.code, a["hop"]), (502, "NOT_PERMITTED", "agent"))
    a = w.get("/clusters/nobody/", host="tunnel.test:1", **token)
    equal(a.status, 404)


def test_nothing_leaks(t):
    """Muster's own cookies and tokens reach no service, and no service sets them."""
    def answer(service, s, r):
        say(s, "200 OK", json.dumps(r.fields).encode(), "Set-Cookie: muster_route=evil",
            "Set-Cookie: __Host-muster=evil; Path=/; Secure", "Set-Cookie: =muster_route=evil",
            "Set-Cookie: own=1")
        return False

    service = Service(t, answering(answer))
    w = World(t, {HOST: service})
    a = w.get("/", Cookie="a=b; __Host-muster=secret; muster_route=secret; c=d",
              Authorization="Basic eDp5", Connection="X-Forwarded-For, Authorization",
              **{"X-Muster-Authorization": "Bearer secret", "X-Forwarded-For": "6.6.6.6",
                 "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6", "Proxy": "http://evil"})
    fields = json.loads(a.body)
    text = json.dumps(fields)
    check("secret" not in text and "6.6.6.6" not in text and "evil" not in text, text)
    check(["Cookie", "a=b; c=d"] in fields and ["X-Forwarded-For", "127.0.0.1"] in fields, fields)
    equal(a.headers.get_all("Set-Cookie"), ["own=1"])


def test_withdrawn(t):
    """A route that is removed cuts who travels by it, and leads nowhere."""
    service = WsService(t)
    w = World(t, {})
    route = w.add_route(HOST, service)

    async def talk():
        async with ws_connect(w) as ws:
            await ws.send("x")
            equal(await ws.recv(), "x")
            equal(w.d.delete("/api/v1/routes/" + route).status, 204)
            try:
                await asyncio.wait_for(ws.recv(), PATIENCE)
                check(False, "still open")
            except websockets.ConnectionClosed as e:
                equal(e.rcvd.code, 1008)

    asyncio.run(talk())
    until(lambda: w.get("/").status == 421, "the host is nobody's")


def test_pool(t):
    """A visitor stays with one agent of a pool, and goes to another when that is gone."""
    service = Service(t, answering(lambda service, s, r: say(s, "200 OK", b"it")))
    w = World(t, {})
    second = t.agent(w.d, "edge-2", allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:*"))
    for name in "edge", "edge-2":
        equal(w.d.patch("/api/v1/agents/%s/labels" % name, {"pool": "web"}).status, 200)
    w.add_route(HOST, service, selector="pool=web")
    a = w.get("/", Accept="text/html")
    equal(a.body, b"it")
    cookie = a.headers["Set-Cookie"]
    check(re.fullmatch(r"muster_route=[0-9a-f]{16}; Path=/; HttpOnly; SameSite=Lax", cookie), cookie)
    for _ in range(5):
        a = w.get("/", Cookie=cookie.split(";")[0])
        equal((a.body, a.headers.get("Set-Cookie")), (b"it", None))
    w.agent.stop()
    w.d.agent_is("edge", "reconnecting", "offline")
    equal(w.get("/", Cookie=cookie.split(";")[0]).body, b"it")
    second.stop()


# WebSockets ------------------------------------------------------------------

class WsService:
    """Python's websockets as the service: echoes."""

    def __init__(self, t, **options):
        self.closed = []
        ready = threading.Event()

        async def handler(ws):
            try:
                async for m in ws:
                    if m == "close":
                        await ws.close(4321, "as asked")
                    else:
                        await ws.send(m)
            finally:
                self.closed.append((ws.close_code, ws.close_reason))

        async def run():
            self.loop = asyncio.get_running_loop()
            async with websockets.serve(handler, "127.0.0.1", 0, ping_interval=None,
                                        max_size=None, **options) as server:
                self.port = server.sockets[0].getsockname()[1]
                self.over = asyncio.Event()
                ready.set()
                await self.over.wait()

        threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
        check(ready.wait(PATIENCE), "no WebSocket service")
        t.cleanup.callback(lambda: self.loop.call_soon_threadsafe(self.over.set))


def ws_connect(w, **options):
    return websockets.connect("ws://%s:%d/ws" % (HOST, w.d.port), host="127.0.0.1",
                              port=w.d.port, max_size=None, **options)


def test_websocket(t):
    service = WsService(t, subprotocols=["chat"])
    w = World(t, {HOST: service})

    async def talk():
        async with ws_connect(w, subprotocols=["other", "chat"], origin="http://%s:%d" % (
                HOST, w.d.port)) as ws:
            equal(ws.subprotocol, "chat")
            check(any("permessage-deflate" in e.name for e in ws.extensions), ws.extensions)
            big = os.urandom(3 << 20)
            for m in "text \u20ac", b"\x08binary", "", b"", big, "a" * 70000:
                await ws.send(m)
                equal(await ws.recv(), m)
            await asyncio.wait_for(await ws.ping(), PATIENCE)
            await ws.send("close")
            try:
                await ws.recv()
                check(False, "not closed")
            except websockets.ConnectionClosed as e:
                equal((e.rcvd.code, e.rcvd.reason), (4321, "as asked"))
        async with ws_connect(w) as ws:
            await ws.close(4007, "bye")
        until(lambda: (4007, "bye") in service.closed, "the visitor's close code")
        try:
            async with ws_connect(w, origin="http://evil.test"):
                check(False, "a strange origin")
        except websockets.InvalidStatusCode as e:
            equal(e.status_code, 403)

    asyncio.run(talk())
    log = w.d.log()
    for text in ("Detected WebSocket upgrade request",
                 "Successfully connected to service WebSocket", "WebSocket tunnel established"):
        check(text in log, text)
    until(lambda: "event=tunnel_websocket_closed" in w.d.log(), "the line at the end")
    line = next(x for x in w.d.log().splitlines() if "tunnel_websocket_closed" in x)
    check("messages_client_to_service=7" in line and "code=4321" in line, line)
    text = w.d.get("/metrics").body.decode()
    check("muster_tunnel_websockets 0" in text, text)
    check(re.search(r'^muster_tunnel_messages_total\{direction="service_to_client"\} [1-9]',
                    text, re.M), text)
    check(re.search(r"^muster_tunnel_websocket_seconds_count 2$", text, re.M), text)
    w.end()


def test_npm_ws(t):
    """npm ws at both ends: fragments, compression and pings of its own."""
    modules = os.path.join(ROOT, "build/node/node_modules")
    if not os.path.isdir(modules):
        raise Skip("no npm ws; tools/setup test gets it")
    script = os.path.join(ROOT, "tests/system/node/tunnel.js")
    env = {"NODE_PATH": modules}
    service = t.start("serve", ["node", script, "serve"], env=env)
    until(service.out, "the service's port")

    class At:
        port = json.loads(service.out())["port"]

    w = World(t, {HOST: At})
    visitor = t.start("visit", ["node", script, "visit", str(w.d.port), HOST], env=env)
    equal(visitor.wait(), 0)
    came = json.loads(visitor.out())
    equal((came["same"], came["pong"], came["code"], came["reason"], came["protocol"]),
          (6, True, 4001, "enough", "chat"))
    check("permessage-deflate" in came["extensions"], came)
    until(lambda: b"enough" in service.out(), "the service has the visitor's close")


def test_websocket_refused(t):
    service = Service(t, answering(
        lambda service, s, r: say(s, "401 Unauthorized", b"who?", "X-Why: because")))
    w = World(t, {HOST: service})
    s = w.ask(b"GET /ws HTTP/1.1\r\nHost: app.test\r\nUpgrade: websocket\r\n"
              b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    got = s.recv(65536)
    check(got.startswith(b"HTTP/1.1 401 ") and b"X-Why: because" in got, got)
    equal(service.requests[0].one("Sec-WebSocket-Key"), "dGhlIHNhbXBsZSBub25jZQ==")


def test_many_websockets(t):
    service = WsService(t)
    w = World(t, {HOST: service})
    count = 200

    async def talk():
        all = await asyncio.gather(*(ws_connect(w, ping_interval=None) for _ in range(count)))
        for i in range(5):
            await asyncio.gather(*(ws.send("m%d" % i) for ws in all))
            got = await asyncio.gather(*(ws.recv() for ws in all))
            equal(set(got), {"m%d" % i})
        text = w.d.get("/metrics").body.decode()
        check("muster_tunnel_websockets %d" % count in text, text)
        await asyncio.gather(*(ws.close() for ws in all))

    asyncio.run(talk())
    until(lambda: "muster_tunnel_websockets 0" in w.d.get("/metrics").body.decode(), "all closed")
    w.end()


# Lanes -----------------------------------------------------------------------

def test_lanes(t):
    """Visitors of another lane move to that of the agent, whole."""
    def answer(service, s, r):
        say(s, "200 OK", hashlib.sha256(r.body).hexdigest().encode())
        return False

    service, echo = Service(t, answering(answer)), WsService(t)
    w = World(t, {"files.test": service, HOST: echo}, flags=("--lanes", "4"))
    for size in 0, 1, 70000, 3 << 20:
        body = os.urandom(size)
        for _ in range(8):
            a = w.call("PUT", "/", body, host="files.test")
            equal((a.status, a.body.decode()), (200, hashlib.sha256(body).hexdigest()))
    for _ in range(8):
        with w.connect() as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: files.test\r\n\r\n"
                      b"GET / HTTP/1.1\r\nHost: files.test\r\nConnection: close\r\n\r\n")
            equal(rest_of(s).count(b" 200 OK"), 2)

    async def talk():
        for _ in range(8):
            async with ws_connect(w) as ws:
                await ws.send("across")
                equal(await ws.recv(), "across")

    asyncio.run(talk())
    equal(service.broken, [])
    w.end()


# Going home ------------------------------------------------------------------

def test_drain(t):
    """A transfer is finished, an idle WebSocket is told 1001, both by one
    agent, before the controller ends."""
    def answer(service, s, r):
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        service.go.wait(PATIENCE)
        s.sendall(b"-last")
        return True

    service, echo = Service(t, answering(answer)), WsService(t)
    service.go = threading.Event()
    w = World(t, {HOST: echo, "files.test": service})

    async def talk():
        async with ws_connect(w) as ws:
            await ws.send("x")
            equal(await ws.recv(), "x")
            s = w.ask(b"GET / HTTP/1.1\r\nHost: files.test\r\n\r\n")
            got = b""
            while not got.endswith(b"first"):
                got += s.recv(4096)
            w.d.signal(15)
            try:
                await asyncio.wait_for(ws.recv(), PATIENCE)
                check(False, "still open")
            except websockets.ConnectionClosed as e:
                equal(e.rcvd.code, 1001)
            service.go.set()
            check(rest_of(s) == b"-last", "the rest of the transfer")
            s.close()

    asyncio.run(talk())
    equal(w.d.wait(), 0)
    until(lambda: echo.closed, "the service heard of it")
    equal(echo.closed[0][0], 1001)


# Vectors -----------------------------------------------------------------------

def load_vectors(t):
    if not os.path.exists(VECTORS):
        raise Skip("no %s" % VECTORS)
    with tarfile.open(VECTORS) as tar:
        tar.extractall(t.dir)
    folder = os.path.join(t.dir, "http")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".txt"):
            with open(os.path.join(folder, name), "rb") as f:
                yield name, f.read()


def spread(work, items, threads=24):
    """work(item) for all of them, by a few threads; what failed."""
    items, bad, lock = list(items), [], threading.Lock()

    def run():
        while True:
            with lock:
                if not items:
                    return
                item = items.pop()
            try:
                work(item)
            except Exception as why:  # pylint: disable=broad-except
                bad.append((item[0], repr(why)[:300]))

    pool = [threading.Thread(target=run) for _ in range(threads)]
    for p in pool:
        p.start()
    for p in pool:
        p.join()
    return bad[:5]


def test_request_vectors(t):
    """However a request is bent, the service sees whole requests only, each
    passed on by the gateway, and as many as the visitor got answers."""
    seen = {}

    def answer(service, s, r):
        marks = r.all("X-Request-Id"), r.all("X-Forwarded-For"), r.all("Traceparent")
        if any(len(m) != 1 for m in marks):
            raise Broken("smuggled: %s %r" % (r.line, r.fields))
        seen[marks[0][0]] = seen.get(marks[0][0], 0) + 1
        say(s, "200 OK", b"" if r.method == "HEAD" else b"ok")

    service = Service(t, answering(answer))
    w = World(t, {HOST: service})

    def one(item):
        name, data = item
        if name.startswith("resp_"):
            return
        data = re.sub(rb"(?i)(\nhost:[ \t]*)(127\.0\.0\.1|localhost|[a-z.]*example\.(?:com|org)|"
                      rb"hostname|haproxy\.org|a)(?=[:\r])", rb"\1app.test", data)
        with w.connect() as s:
            s.settimeout(0.2)
            got = b""
            try:
                s.sendall(data)
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    got += piece
            except (TimeoutError, ConnectionError):
                pass
        check(not re.search(rb"HTTP/1\.1 5(?!0[15])", got), name, got[:300])

    vectors = list(load_vectors(t))
    bad = spread(one, vectors)
    equal(bad, [])
    equal(service.broken, [])
    check(len(seen) > 60, "only %d reached the service" % len(seen))
    equal([x for x, n in seen.items() if n > 1], [])
    equal(w.get("/after").status, 200)
    w.end()


def test_response_vectors(t):
    """Whatever a service answers, it is one answer to its visitor or none."""
    vectors = {n: data for n, data in load_vectors(t) if n.startswith("resp_")}

    def answer(service, s, r):
        if r.path.startswith("/v/"):
            s.sendall(vectors[r.path[3:]])
            time.sleep(0.05)
            return True
        say(s, "200 OK", r.path.encode())
        return False

    service = Service(t, answering(answer))
    w = World(t, {HOST: service})

    def one(item):
        name, _ = item
        with w.connect() as s:
            s.settimeout(PATIENCE)
            s.sendall(("GET /v/%s HTTP/1.1\r\nHost: app.test\r\n\r\n"
                       "GET /next/%s HTTP/1.1\r\nHost: app.test\r\n\r\n" % (name, name)).encode())
            f = s.makefile("rb")
            status, body = 0, b""
            try:
                while status < 200:
                    status = int(re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*\r\n", f.readline()).group(1))
                    fields = read_fields(f)
                if status not in (204, 304):
                    body, _ = read_body(f, fields)
            except AttributeError:
                raise AssertionError("no status line") from None
            if status != 502 and ("Connection", "close") not in fields:
                line = f.readline()
                if line == b"":
                    return  # cut: the visitor can tell
                check(b" 200 " in line, name, line, status, body[:100])
                equal(read_body(f, read_fields(f))[0], b"/next/" + name.encode())

    def careful(item):
        try:
            one(item)
        except (Broken, ConnectionError):
            pass  # cut in the middle: the visitor can tell

    equal(spread(careful, vectors.items(), 8), [])
    equal(service.broken, [])


main(globals())
