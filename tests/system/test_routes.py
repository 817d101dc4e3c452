#!/usr/bin/python3
"""Routes of the gateway by REST and the command line: made, refused, shown,
removed, kept over a restart; and links past a login."""

import base64
import contextlib
import http.server
import json
import socket
import threading
import time

from harness import check, equal, main, until

PASSWORD = "correct horse battery staple"


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def route(**more):
    return {"host": "app.example.com", "agent": "web-1", "to": {"host": "127.0.0.1", "port": 8080}, **more}


def refused(a, status, code, field=None):
    equal((a.status, a.code), (status, code), a)
    if field:
        equal(a["field"], field)


def test_made_shown_removed(case):
    d = case.musterd()
    case.agent(d)
    a = d.post("/api/v1/routes", route(
        prefix="/api/", tls={"name": "app.internal"}, origins=["https://a.example", "https://*.b.example"],
        headers={"request": {"set": {"X-Tenant": "a"}, "remove": ["Referer"]}},
        answer_ms=5000, messages_per_second=10))
    equal(a.status, 201, a)
    r = a.json
    equal(r["schema"], "muster.route/1")
    equal((r["host"], r["prefix"], r["name"]), ("app.example.com", "/api", "app.example.com-api"))
    port = d.url.rsplit(":", 1)[1]
    equal(r["url"], "http://app.example.com:%s/api/" % port)
    equal(r["agent_id"], d.agent("web-1")["agent_id"])
    equal(r["to"], {"host": "127.0.0.1", "port": 8080})
    equal(r["tls"], {"insecure": False, "name": "app.internal"})
    equal(r["origins"], ["https://a.example", "https://*.b.example"])
    equal(r["headers"], {"request": {"set": {"X-Tenant": "a"}, "remove": ["Referer"]}})
    equal((r["public"], r["answer_ms"], r["messages_per_second"]), (False, 5000, 10))
    refused(d.post("/api/v1/routes", route(prefix="/api")), 409, "ROUTE_EXISTS", "host")

    # Kept: a kill and a restart later it is the same, and its agent is told.
    d.kill()
    d = d.again()
    d.agent_is("web-1", "online")
    a = d.get("/api/v1/routes/" + r["id"])
    equal(a["members"], [{"agent_id": r["agent_id"], "name": "web-1", "ready": True}])
    equal({k: v for k, v in a.json.items() if k != "members"}, r)
    equal(d.get("/api/v1/routes/app.example.com-api")["id"], r["id"])
    equal(d.get("/api/v1/routes")["items"], [r])
    equal(d.delete("/api/v1/routes/" + r["id"]).status, 204)
    refused(d.get("/api/v1/routes/" + r["id"]), 404, "ROUTE_NOT_FOUND")
    equal(d.get("/api/v1/routes").json["items"], [])
    actions = [x["action"] for x in d.get("/api/v1/audit?limit=100")["items"]]
    check({"route.add", "route.remove"} <= set(actions), actions)


def test_what_is_refused(case):
    d = case.musterd("--public-url", "http://muster.example.com")
    case.agent(d)
    for body, field in (
            (route(host="muster.example.com"), "host"), (route(host="localhost"), "host"),
            (route(host="127.0.0.1"), "host"), (route(host="a b"), "host"), (route(host="a.example:80"), "host"),
            (route(host="*."), "host"), (route(host="a.*.example"), "host"), (route(prefix="/a/../b"), "prefix"),
            (route(prefix="/a%2fb"), "prefix"), (route(prefix="a"), "prefix"), (route(name="a/b"), "name"),
            (route(selector="env=dev"), "agent"), (route(to={"host": "x", "port": 0}), "port"),
            (route(to={"host": "x", "port": 65536}), "port"), (route(to={"port": 1}), "target"),
            (route(to={"service": "a", "port": 1}), "target"), (route(to={"host": "a b", "port": 1}), "target"),
            (route(tls=7), "tls"), (route(origins=["a.example"]), "origins"), (route(origins=[7]), "origins"),
            (route(headers={"request": {"set": {"Connection": "x"}}}), "headers"),
            (route(headers={"request": {"set": {"X-A": "b\r\nX-C: d"}}}), "headers"),
            (route(headers={"request": {"remove": ["x-forwarded-for"]}}), "headers"),
            (route(headers={"both": {}}), "headers"), (route(connect_ms=-1), "connect_ms"),
            ({"agent": "web-1"}, "host"), (route(host=None), "host")):
        refused(d.post("/api/v1/routes", body), 400, "INVALID_REQUEST", field)
    refused(d.post("/api/v1/routes", route(agent="nobody")), 404, "AGENT_NOT_FOUND", "agent")
    equal(d.get("/api/v1/routes")["items"], [])
    # A suffix that our own name has, too, is no name of ours.
    equal(d.post("/api/v1/routes", route(host="*.example.com")).status, 201)


def test_who_may(case):
    d = case.musterd()
    case.agent(d)
    equal(d.post("/api/v1/routes", route()).status, 201)
    admin = d.token
    for role, add, see in (("viewer", 403, 200), ("operator", 201, 200)):
        equal(d.post("/api/v1/users", {"name": role, "role": role}).status, 201)
        d.token = d.post("/api/v1/users/%s/token" % role, {"ttl_ms": 60000})["token"]
        equal(d.get("/api/v1/routes").status, see)
        equal(d.post("/api/v1/routes", route(host=role + ".example")).status, add)
        equal(d.post("/api/v1/routes/app.example.com/links", {}).status, add)
        d.token = admin
    equal(d.post("/api/v1/users", {"name": "other", "role": "operator", "selector": "env=prod"}).status, 201)
    d.token = d.post("/api/v1/users/other/token", {"ttl_ms": 60000})["token"]
    equal(d.get("/api/v1/routes").json["items"], [])
    refused(d.get("/api/v1/routes/app.example.com"), 404, "ROUTE_NOT_FOUND")
    refused(d.delete("/api/v1/routes/app.example.com"), 404, "ROUTE_NOT_FOUND")
    refused(d.post("/api/v1/routes", route(host="x.example")), 404, "AGENT_NOT_FOUND")
    pool = {"host": "x.example", "to": {"host": "h", "port": 1}}
    refused(d.post("/api/v1/routes", dict(pool, selector="env")), 403, "NOT_PERMITTED", "selector")
    equal(d.post("/api/v1/routes", dict(pool, selector="tier=web,env=prod")).status, 201)
    # Pages of one host are one origin: nobody puts theirs beside what they may not see, nor takes its names.
    for host, prefix in (("app.example.com", "/evil"), ("*.example.com", "/"), ("*.com", "/x")):
        refused(d.post("/api/v1/routes", dict(pool, host=host, prefix=prefix, selector="env=prod")), 403,
                "NOT_PERMITTED", "host")
    d.token = admin
    equal(d.post("/api/v1/routes", route(host="*.wide.example")).status, 201)
    d.token = d.post("/api/v1/users/other/token", {"ttl_ms": 60000})["token"]
    refused(d.post("/api/v1/routes", dict(pool, host="login.wide.example", selector="env=prod")), 403,
            "NOT_PERMITTED", "host")
    equal(d.post("/api/v1/routes", dict(pool, host="wide.example", selector="env=prod")).status, 201)


def test_by_command_line(case):
    d = case.musterd()
    case.agent(d)
    port = d.url.rsplit(":", 1)[1]
    out = case.cli(d, "route", "add", "App.example.com/shop", "--agent", "web-1", "--to", "[::1]:81", "--name", "shop",
                   "--strip-prefix", "--timeout", "5m", "--set-header", "X-A: b: c", "--remove-header", "Referer,Via",
                   "--set-response-header", "X-Frame-Options: DENY", "--ws-messages", "5", "--tls-insecure", code=0)
    equal(out.out.decode().strip(), "http://app.example.com:%s/shop/" % port)
    r = d.get("/api/v1/routes/shop").json
    equal(r["to"], {"host": "::1", "port": 81})
    equal(r["headers"], {"request": {"set": {"X-A": "b: c"}, "remove": ["Referer", "Via"]},
                         "response": {"set": {"X-Frame-Options": "DENY"}}})
    equal((r["strip_prefix"], r["answer_ms"], r["messages_per_second"]), (True, 300000, 5))
    equal(r["tls"], {"insecure": True, "name": None})
    case.cli(d, "route", "add", "*.apps.example", "-l", "env=dev", "-l", "tier=web", "--to-service", "web/shop:80",
             "--public", "--name", "apps", code=0)
    r = d.get("/api/v1/routes/apps").json
    equal((r["selector"], r["public"], r["url"]), ("env=dev,tier=web", True, None))
    equal(r["to"], {"service": "shop", "namespace": "web", "port": 80})
    rows = [x.split("\t") for x in case.cli(d, "route", "ls", code=0).out.decode().splitlines()]
    equal([x[:2] + x[3:5] for x in rows],
          [["apps", "*.apps.example", "web/shop:80", "public"],
           ["shop", "app.example.com/shop", "https://[::1]:81", "session"]])
    shown = json.loads(case.cli(d, "route", "ls", "--json", code=0).out)
    equal([x["name"] for x in shown["items"]], ["apps", "shop"])
    equal(json.loads(case.cli(d, "route", "show", "shop", "--json", code=0).out)["name"], "shop")
    case.cli(d, "route", "rm", "apps", code=0)
    case.cli(d, "route", "rm", "apps", code=5)
    for words in (("add", "x.example", "--agent", "web-1"), ("add", "x.example", "--to", "h:1"),
                  ("add", "x.example", "--agent", "web-1", "--to", "h"),
                  ("add", "x.example", "--agent", "web-1", "--to", "h:99999"),
                  ("add", "x.example", "--agent", "web-1", "--to-service", "s:1"),
                  ("add", "x.example", "--agent", "web-1", "-l", "a=b", "--to", "h:1"),
                  ("add", "x.example", "--agent", "web-1", "--to", "h:1", "--set-header", "X"), ("add",), ("rm",)):
        case.cli(d, "route", *words, code=2)


def test_links(case):
    d = case.musterd()
    case.agent(d)
    equal(d.post("/api/v1/routes", route()).status, 201)
    equal(d.post("/api/v1/routes", route(host="*.apps.example", name="apps")).status, 201)
    a = d.post("/api/v1/routes/app.example.com/links", {"ttl_ms": 60000})
    equal(a.status, 201, a)
    equal(a["schema"], "muster.link/1")
    url, _, token = a["url"].partition("?muster_link=")
    equal(url, "http://app.example.com:%s/" % d.url.rsplit(":", 1)[1])
    body, mac = (base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)) for x in token.split("."))
    equal((body[0], body[1], len(mac)), (1, 2, 32))
    check(a["route_id"].encode() in body, body)
    out = case.cli(d, "route", "link", "app.example.com", "--ttl", "5m", code=0).out.decode()
    check(out.startswith(url + "?muster_link="), out)
    refused(d.post("/api/v1/routes/apps/links", {}), 400, "INVALID_REQUEST", "host")
    refused(d.post("/api/v1/routes/apps/links", {"host": "apps.example"}), 400, "INVALID_REQUEST", "host")
    a = d.post("/api/v1/routes/apps/links", {"host": "one.apps.example"})
    check(a["url"].startswith("http://one.apps.example:"), a)
    refused(d.post("/api/v1/routes/apps/links", {"ttl_ms": 1}), 400, "INVALID_REQUEST", "ttl_ms")
    equal(d.get("/api/v1/routes/app.example.com")["links_from"], None)
    case.cli(d, "route", "link", "app.example.com", "--revoke", code=0)
    check(d.get("/api/v1/routes/app.example.com")["links_from"])


class Drip(threading.Thread):
    """A service whose answers never end: its name, ten times a second."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.name_line = name.encode() + b"\n"
        self.s = socket.create_server(("127.0.0.1", 0))
        self.port = self.s.getsockname()[1]
        self.start()

    def run(self):
        while True:
            c, _ = self.s.accept()
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with contextlib.suppress(OSError), c:
            c.recv(65536)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
            while True:
                c.sendall(self.name_line)
                time.sleep(0.1)


class Visitor:
    def __init__(self, d, host, path="/", **fields):
        self.s = socket.create_connection((d.host, d.port), timeout=15)
        fields = "".join("%s: %s\r\n" % (k.replace("_", "-"), v) for k, v in fields.items())
        self.s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (path, host, fields)).encode())
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            got = self.s.recv(65536)
            check(got, self.head)
            self.head += got
        self.status = int(self.head.split()[1])

    def cut(self):
        """How long until the connection is gone; fails after 15 s."""
        begin = time.monotonic()
        try:
            while self.s.recv(65536):
                check(time.monotonic() - begin < 15, "it goes on")
        except ConnectionResetError:
            pass
        return time.monotonic() - begin

    def goes_on(self):
        self.s.recv(65536)
        self.s.recv(65536)
        return True


def gateway(case, labels=None):
    d = case.musterd()
    service = Drip("one")
    case.agent(d, allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:*"))
    if labels:
        equal(d.patch("/api/v1/agents/web-1/labels", labels).status, 200)
    return d, {"host": "app.test", "to": {"host": "127.0.0.1", "port": service.port}}


def test_cut_at_once(case):
    d, to = gateway(case, {"env": "dev"})
    equal(d.post("/api/v1/routes", dict(to, agent="web-1", public=True)).status, 201)
    v = Visitor(d, "app.test")
    equal(v.status, 200)
    # What lives on what may not be any more ends within a second.
    equal(d.delete("/api/v1/routes/app.test").status, 204)
    check(v.cut() < 1)
    check(Visitor(d, "app.test").status in (404, 421))

    equal(d.post("/api/v1/routes", dict(to, selector="env=dev", public=True)).status, 201)
    v = Visitor(d, "app.test")
    equal(v.status, 200)
    stop = {"scope": "all", "reason": "drill"}
    equal(d.post("/api/v1/stop", dict(stop, keep_tunnels=True)).status, 200)
    check(v.goes_on())
    equal(d.post("/api/v1/stop", stop).status, 200)
    check(v.cut() < 1)
    equal(Visitor(d, "app.test").status, 503)
    equal(d.post("/api/v1/resume", {"scope": "all"}).status, 200)
    d.agent_is("web-1", "online")
    # It takes tunnels again when it has written down that it goes on.
    until(lambda: Visitor(d, "app.test").status == 200, "the agent to go on")
    v = Visitor(d, "app.test")
    equal(v.status, 200)
    equal(d.patch("/api/v1/agents/web-1/labels", {"env": "prod"}).status, 200)
    check(v.cut() < 1)
    equal(Visitor(d, "app.test").status, 503)


def test_users_are_cut(case):
    d, to = gateway(case)
    equal(d.post("/api/v1/routes", dict(to, agent="web-1")).status, 201)
    equal(Visitor(d, "app.test").status, 401)

    def visit(token):
        v = Visitor(d, "app.test", X_Muster_Authorization="Bearer " + token)
        equal(v.status, 200, v.head)
        return v

    equal(d.post("/api/v1/users", {"name": "ada", "role": "operator"}).status, 201)
    token = d.post("/api/v1/users/ada/token", {"ttl_ms": 60000})["token"]
    v = visit(token)
    equal(d.patch("/api/v1/users/ada", {"role": "viewer"}).status, 200)
    check(v.cut() < 1)
    v = visit(token)
    equal(d.patch("/api/v1/users/ada", {"selector": "env=prod"}).status, 200)
    check(v.cut() < 1)
    equal(Visitor(d, "app.test", X_Muster_Authorization="Bearer " + token).status, 403)

    made = d.post("/api/v1/tokens", {"name": "robot", "scopes": ["route:visit"]}).json
    v = visit(made["token"])
    equal(d.delete("/api/v1/tokens/robot").status, 200)
    check(v.cut() < 1)
    check(Visitor(d, "app.test", X_Muster_Authorization="Bearer " + made["token"]).status in (401, 403))

    # One that expires takes its visitors along.
    token = d.post("/api/v1/tokens", {"name": "short", "scopes": ["route:visit"], "ttl_ms": 1500})["token"]
    check(visit(token).cut() < 3)


def test_links_are_cut(case):
    d, to = gateway(case)
    equal(d.post("/api/v1/routes", dict(to, agent="web-1")).status, 201)

    def come(ttl):
        link = d.post("/api/v1/routes/app.test/links", {"ttl_ms": ttl})["url"]
        v = Visitor(d, "app.test", "/" + link.split("/", 3)[3])
        check(v.status in (302, 303), v.head)
        cookie = v.head.lower().split(b"set-cookie: ")[1].split(b";")[0]
        cookie = v.head[v.head.lower().index(cookie):][:len(cookie)].decode()
        v = Visitor(d, "app.test", Cookie=cookie)
        equal(v.status, 200, v.head)
        return v, cookie

    v, cookie = come(60000)
    equal(d.delete("/api/v1/routes/app.test/links").status, 204)
    check(v.cut() < 1)
    equal(Visitor(d, "app.test", Cookie=cookie).status, 401)
    v, cookie = come(1500)
    check(v.cut() < 3)
    equal(Visitor(d, "app.test", Cookie=cookie).status, 401)


def test_pool(case):
    """Visitors stay with one agent while it is there, and go on without it."""
    d = case.musterd("--lanes", "2")
    services = [Drip("one"), Drip("two")]
    agents = []
    for i, s in enumerate(services):
        name = "web-%d" % (i + 1)
        agents.append(case.agent(d, name, allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:%d" % s.port)))
        equal(d.patch("/api/v1/agents/%s/labels" % name, {"pool": "a"}).status, 200)
    # Only the first one's policy lets anybody to this service: who was to go by
    # the second goes by the other.
    equal(d.post("/api/v1/routes", {"host": "app.test", "selector": "pool=a", "public": True,
                                    "to": {"host": "127.0.0.1", "port": services[0].port}}).status, 201)
    for _ in range(10):
        equal(Visitor(d, "app.test").status, 200)
    agents[1].stop()
    d.agent_is("web-2", "offline")
    equal(Visitor(d, "app.test").status, 200)
    agents[0].stop()
    d.agent_is("web-1", "offline")
    until(lambda: Visitor(d, "app.test").status == 503, "nobody there")


def hops(a):
    return [(h["hop"], h["ok"], h.get("code")) for h in a["hops"]]


def test_hop_by_hop(case):
    d = case.musterd()
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    closed = socket.create_server(("127.0.0.1", 0))
    free = closed.getsockname()[1]
    closed.close()
    agent = case.agent(d, allow="observe,tunnel", flags=(
        "--allow-target", "127.0.0.1:%d" % service.server_port, "--allow-target", "127.0.0.1:%d" % free,
        "--allow-target", "nowhere.invalid:80"))
    for host, to, port, tls in (("ok.localhost", "127.0.0.1", service.server_port, None),
                                ("closed.localhost", "127.0.0.1", free, None),
                                ("name.localhost", "nowhere.invalid", 80, None),
                                ("policy.localhost", "127.0.0.1", 1, None),
                                ("tls.localhost", "127.0.0.1", service.server_port, {"insecure": True})):
        equal(d.post("/api/v1/routes", dict(route(host=host, to={"host": to, "port": port}), tls=tls)).status, 201)
    a = d.post("/api/v1/routes/ok.localhost/test", {})
    equal(a.status, 200, a)
    equal((a["schema"], a["ok"], a["route"], a["agent"]), ("muster.route.test/1", True, "ok.localhost", "web-1"))
    # An address needs no name looked up.
    equal(hops(a), [("agent", True, None), ("dial", True, None), ("service", True, None)])
    equal(a["hops"][-1]["text"], "200 OK")
    equal(a["hops"][1]["text"], "127.0.0.1:%d" % service.server_port)
    check(all(0 <= h["ms"] < 10000 for h in a["hops"]), a)
    # Each time on a connection of its own, and one answer after another.
    equal(d.post("/api/v1/routes/ok.localhost/test", {})["hops"][1]["hop"], "dial")
    for name, last in (("closed.localhost", ("dial", False, "CONNECT_REFUSED")),
                       ("name.localhost", ("dns", False, "NAME_NOT_FOUND")),
                       ("policy.localhost", ("dial", False, "NOT_PERMITTED")),
                       ("tls.localhost", ("tls", False, "TLS_FAILED"))):
        a = d.post("/api/v1/routes/%s/test" % name, {})
        equal((a.status, a["ok"], hops(a)[-1]), (200, False, last), a)
        equal(hops(a)[0], ("agent", True, None))
    refused(d.post("/api/v1/routes/none/test", {}), 404, "ROUTE_NOT_FOUND")

    out = case.cli(d, "route", "test", "ok.localhost", code=0).out.decode().splitlines()
    equal([x.split("\t")[0] for x in out], ["name", "agent", "dial", "service"])
    out = case.cli(d, "route", "test", "closed.localhost", code=1).out.decode()
    check("CONNECT_REFUSED" in out, out)
    equal(json.loads(case.cli(d, "route", "test", "ok.localhost", "--json", code=0).out)["ok"], True)
    agent.kill()
    d.agent_is("web-1", "reconnecting", "offline")
    a = d.post("/api/v1/routes/ok.localhost/test", {})
    equal((a["ok"], [h["hop"] for h in a["hops"]]), (False, ["agent"]), a)
    service.shutdown()


main(globals())
