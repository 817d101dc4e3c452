#!/usr/bin/python3
"""The REST surface of musterd (docs/api.md), over the socket."""

import glob
import http.client
import json
import re
import socket
import threading

from harness import Skip, check, equal, main, until

ROUTES = [  # method, path, scope without which it is 403
    ("GET", "/api/v1/agents", "agent:read"),
    ("GET", "/api/v1/agents/none", "agent:read"),
    ("GET", "/api/v1/agents/none/connections", "agent:read"),
    ("PATCH", "/api/v1/agents/none/labels", "agent:write"),
    ("DELETE", "/api/v1/agents/none", "agent:write"),
    ("GET", "/api/v1/tokens", "token:read"),
    ("POST", "/api/v1/tokens", "token:write"),
    ("GET", "/api/v1/tokens/none", "token:read"),
    ("DELETE", "/api/v1/tokens/none", "token:write"),
    ("POST", "/api/v1/tokens/none/rotate", "token:write"),
    ("GET", "/api/v1/commands", "command:read"),
    ("POST", "/api/v1/commands", "command:run"),
    ("GET", "/api/v1/commands/none", "command:read"),
    ("GET", "/api/v1/commands/none/output", "command:read"),
    ("POST", "/api/v1/commands/none/interrupt", "command:run"),
    ("POST", "/api/v1/commands/none/cancel", "command:run"),
    ("GET", "/api/v1/audit", "audit:read"),
    ("GET", "/api/v1/audit/verify", "audit:read"),
    ("GET", "/api/v1/events", "event:read"),
]
BODIES = {
    "/api/v1/tokens": {"name": "x", "scopes": ["agent:read"]},
    "/api/v1/commands": {"agent": "none", "argv": ["true"]},
    "/api/v1/agents/none/labels": {"a": "b"},
}


def body_of(method, path):
    return BODIES.get(path, {}) if method in ("POST", "PATCH") else None


def register(d, agent_id, **more):
    """A foreign agent by the older HTTP calls."""
    token = d.make_token("of-" + agent_id)
    a = d.post("/api/v1/clusters/agent/register",
               dict({"agent_id": agent_id, "name": agent_id}, **more), token=token)
    equal(a.status, 200, a)
    return token, a["cluster_id"]


def test_health(t):
    d = t.musterd()
    for path in ("/health", "/api/v1/health"):
        a = d.get(path, token=None)
        equal(a.status, 200, a)
        equal(a["gateway"], "connected")
        equal(a["status"], "ok")
        check("version" in a.json, "version", a)
    equal(d.call("HEAD", "/health", token=None).body, b"")
    equal(d.get("/metrics", token=None).status, 200, "loopback needs no token")
    text = d.get("/metrics", token=None).body.decode()
    names = set(re.findall(r"^(\w+)[ {]", text, re.M))
    check(names and all(n.startswith("muster_") for n in names), names)
    for name in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        check("# TYPE %s " % name in text or "# TYPE %s " % base in text, "no type of", name)
    check("muster_memory_bytes{pool=" in text, "pools")


def test_no_token(t):
    d = t.musterd()
    for method, path, _ in ROUTES + [("GET", "/api/v1/whoami", "")]:
        a = d.call(method, path, body=body_of(method, path), token=None)
        check(a.status in (401, 429), method, path, a)
        if a.status == 401:
            equal(a.code, "UNAUTHORIZED")
            check("Bearer" in a.headers["WWW-Authenticate"], a.headers)
        else:
            check(int(a.headers["Retry-After"]) > 0, a.headers)
    statuses = [d.get("/api/v1/agents", token="clt_nonsense").status for _ in range(25)]
    equal(statuses[-1], 429, "attempts are counted")
    # And that locks nobody out.
    equal(d.get("/api/v1/whoami").status, 200)
    check("retry-after" not in {k.lower() for k in d.get("/health", token=None).headers})


def test_scopes(t):
    d = t.musterd()
    tokens = {}
    for scope in {s for _, _, s in ROUTES}:
        others = sorted({s for _, _, s in ROUTES} - {scope})
        tokens[scope] = d.make_token("all-but-" + scope, scopes=others)
    for method, path, scope in ROUTES:
        a = d.call(method, path, body=body_of(method, path), token=tokens[scope])
        equal(a.status, 403, "%s %s without %s" % (method, path, scope))
        equal(a.code, "NOT_PERMITTED")
        check(scope in a["detail"], "the detail names the scope", a)
    agents = d.make_token("agents")
    equal(d.get("/api/v1/agents", token=agents).status, 403)
    equal(d.get("/api/v1/whoami", token=agents).status, 200)


def test_not_found(t):
    d = t.musterd()
    for method, path, _ in ROUTES:
        if "none" not in path:
            continue
        a = d.call(method, path, body=body_of(method, path))
        equal(a.status, 404, "%s %s" % (method, path))
        check(a.code.endswith("NOT_FOUND"), a)
    a = d.post("/api/v1/commands", BODIES["/api/v1/commands"])
    equal((a.status, a.code), (404, "AGENT_NOT_FOUND"))
    for path in ("/nope", "/api/v1", "/api/v1/agents/a/b/c", "/api/v2/agents", "/dev/echo"):
        equal(d.get(path).status, 404, path)
    a = d.call("PUT", "/api/v1/tokens", body=b"{}")
    equal(a.status, 405)
    equal({m.strip() for m in a.headers["Allow"].split(",")}, {"GET", "HEAD", "POST", "OPTIONS"})
    a = d.call("OPTIONS", "/api/v1/tokens")
    check(a.status in (200, 204) and "POST" in a.headers["Allow"], a.headers)
    a = d.get("/api/v1/exec")
    equal(a.status, 426)
    equal(a.headers["Upgrade"], "websocket")


def test_whoami(t):
    d = t.musterd()
    a = d.get("/api/v1/whoami").json
    equal(a["schema"], "muster.whoami/1")
    equal(a["user"]["role"], "admin")
    check("token:write" in a["scopes"] and a["controller"]["incarnation"], a)
    check(not re.search(r"mut_[0-9a-z]{20}", json.dumps(a)), "a token is shown")


def test_tokens(t):
    d = t.musterd()
    made = d.post("/api/v1/tokens", {"name": "one", "scopes": ["agent:read"], "ttl_ms": 60000,
                                     "max_connections": 3, "allow": ["127.0.0.0/8", "::1"]})
    equal(made.status, 201, made)
    equal(made["schema"], "muster.token/1")
    text, ident = made["token"], made["id"]
    for name in ("id", "name", "shown", "scopes", "user_id", "allow", "max_connections",
                 "created_at", "expires_at", "revoked_at", "rotated_until", "last_used_at"):
        check(name in made.json, name)
    equal(made["scopes"], ["agent:read"])
    equal(made["max_connections"], 3)
    check(text.startswith(made["shown"].rstrip(".…")) and len(made["shown"]) < 16, made)
    for key in (ident, "one"):
        shown = d.get("/api/v1/tokens/" + key)
        equal(shown.status, 200, shown)
        check("token" not in shown.json and text.encode() not in shown.body, "shown again")
    equal(d.get("/api/v1/agents", token=text).status, 200)
    until(lambda: d.get("/api/v1/tokens/one")["last_used_at"], "last used")

    new = d.post("/api/v1/tokens/one/rotate", {"overlap_ms": 600000})
    equal(new.status, 200, new)
    check(new["token"] != text and new["rotated_until"], new)
    for each in (text, new["token"]):
        equal(d.get("/api/v1/agents", token=each).status, 200, "both are good")
    last = d.post("/api/v1/tokens/one/rotate", {"overlap_ms": 0})
    for each in (text, new["token"]):
        check(d.get("/api/v1/agents", token=each).status in (401, 403), "old ones are not")
    equal(d.get("/api/v1/agents", token=last["token"]).status, 200)

    equal(d.delete("/api/v1/tokens/one").status, 200)
    a = d.get("/api/v1/agents", token=last["token"])
    equal((a.status, a.code), (403, "TOKEN_REVOKED"))
    check(d.get("/api/v1/tokens/" + ident)["revoked_at"], "revoked_at")
    for bad, field in (({}, "name"), ({"name": ""}, "name"), ({"name": 1}, "name"),
                       ({"name": "x", "scopes": ["fly"]}, "scopes"),
                       ({"name": "x", "ttl_ms": -1}, "ttl_ms"),
                       ({"name": "x", "allow": ["10.0.0.0/99"]}, "allow")):
        a = d.post("/api/v1/tokens", bad)
        equal((a.status, a.json.get("field")), (400, field), str(bad))
        a.code
    short = d.make_token("short", scopes=["agent:read"], ttl_ms=1)
    until(lambda: d.get("/api/v1/agents", token=short).status == 403, "expiry")
    equal(d.get("/api/v1/agents", token=short).code, "TOKEN_EXPIRED")
    away = d.make_token("away", scopes=["agent:read"], allow=["192.0.2.0/24"])
    equal(d.get("/api/v1/agents", token=away).code, "ADDRESS_NOT_ALLOWED")


def test_agents(t):
    d = t.musterd()
    register(d, "node-1", hostname="h1", labels={"role": "db", "zone": "a"},
             server_specs={"cpu_cores": 4, "memory_gb": 16.5}, k8s_version="1.27")
    register(d, "node-2", labels={"role": "web"})
    register(d, "other-3", labels={"role": "web", "zone": "a"})
    a = d.get("/api/v1/agents/node-1").json
    equal(a["schema"], "muster.agent/1")
    for name in ("agent_id cluster_id name status status_reason status_since workspace_id native "
                 "dialect remote connected_at heartbeat_at created_at registered_at last_seen_at "
                 "labels operator_labels info metrics tunnel_status policy running queued").split():
        check(name in a, name, "is missing")
    equal((a["status"], a["native"], a["labels"]["role"]), ("online", False, "db"))
    equal(a["info"]["server_specs"]["memory_gb"], 16.5)
    equal(a["info"]["k8s_version"], "1.27")
    equal(d.get("/api/v1/agents/othe").json["agent_id"], "other-3", "prefix")
    a = d.get("/api/v1/agents/node-")
    equal((a.status, a.code), (409, "AMBIGUOUS"))

    def ids(query):
        a = d.get("/api/v1/agents" + query)
        equal(a.status, 200, a)
        return sorted(i["agent_id"] for i in a["items"])
    equal(ids(""), ["node-1", "node-2", "other-3"])
    equal(ids("?selector=role%3Dweb"), ["node-2", "other-3"])
    equal(ids("?selector=role%3Dweb,zone"), ["other-3"])
    equal(ids("?selector=!zone"), ["node-2"])
    equal(ids("?status=online"), ["node-1", "node-2", "other-3"])
    equal(ids("?status=offline"), [])
    equal(ids("?text=NODE"), ["node-1", "node-2"])
    equal(d.get("/api/v1/agents?selector=%3D%3D").status, 400)
    equal(d.get("/api/v1/agents?limit=0").status, 400)
    equal(d.get("/api/v1/agents?limit=1001").status, 400)

    a = d.patch("/api/v1/agents/node-2/labels", {"zone": "b", "role": "cache"})
    equal(a.status, 200, a)
    equal((a["labels"]["zone"], a["labels"]["role"]), ("b", "cache"), "operators win")
    equal(ids("?selector=zone%3Db"), ["node-2"])
    a = d.patch("/api/v1/agents/node-2/labels", {"role": None})
    equal(a["labels"]["role"], "web", "back to what the agent says")
    for bad in ({"bad key": "x"}, {"k": 1}, {"k": "x" * 300}, {"k": "a\nb"}):
        equal(d.patch("/api/v1/agents/node-2/labels", bad).status, 400, str(bad))
    d2 = d.get("/api/v1/agents/node-2/connections")
    equal(d2.status, 200, d2)

    equal(d.delete("/api/v1/agents/node-2").status, 204)
    equal(d.get("/api/v1/agents/node-2").status, 404)
    equal(ids(""), ["node-1", "other-3"])


def test_cursors(t):
    d = t.musterd()
    names = ["n%03d" % i for i in range(37)]
    token = d.make_token("many")
    for name in names:
        equal(d.post("/api/v1/clusters/agent/register", {"agent_id": name, "name": name},
                     token=token).status, 200)

    def walk(path, key, limit):
        found, cursor, pages = [], None, 0
        while True:
            a = d.get("%s?limit=%d%s" % (path, limit, "&cursor=" + cursor if cursor else ""))
            equal(a.status, 200, a)
            check(len(a["items"]) <= limit, "too many")
            found += [i[key] for i in a["items"]]
            pages += 1
            cursor = a["next"]
            if not cursor:
                return found, pages
    found, pages = walk("/api/v1/agents", "agent_id", 10)
    equal(found, names)
    equal(pages, 4)
    found, _ = walk("/api/v1/audit", "number", 7)
    equal(found, sorted(found, reverse=True), "newest first")
    equal(len(found), len(set(found)))
    check(len(found) >= 37, "every registration is in the journal")
    check(d.get("/api/v1/agents?cursor=%00%ff!").status in (200, 400), "a cursor of nobody")
    equal(d.get("/api/v1/audit?cursor=%00%ff!").status, 400)


def test_commands(t):
    d = t.musterd()
    token, cluster = register(d, "n1")
    base = "/api/v1/clusters/agent/%s" % cluster
    want = {"agent": "n1", "argv": ["echo", "a b"], "env": {"K": "v"}, "cwd": "/tmp",
            "priority": "high", "timeout_ms": 5000}
    made = d.post("/api/v1/commands", want, headers={"Idempotency-Key": "k1"})
    equal(made.status, 201, made)
    equal(made["schema"], "muster.command/1")
    again = d.post("/api/v1/commands", want, headers={"Idempotency-Key": "k1"})
    equal((again.status, again["id"]), (200, made["id"]), "the same command")
    other = d.post("/api/v1/commands", dict(want, agent="n1"))
    check(other["id"] != made["id"], "without a key each is a command")
    ident = made["id"]
    c = d.command(ident)
    for name in ("id agent_id user_id state argv env cwd user shell foreground priority timeout_ms "
                 "deadline_at sequence exit_code signal code why lingering out_bytes err_bytes "
                 "created_at sent_at started_at finished_at").split():
        check(name in c, name, "is missing")
    equal((c["argv"], c["env"], c["cwd"], c["state"]), (["echo", "a b"], {"K": "v"}, "/tmp", "queued"))
    equal((c["exit_code"], c["signal"]), (None, None))
    offered = d.get(base + "/poll", token=token)["commands"]
    equal(offered[0]["command_id"], ident)
    equal(d.post(base + "/commands/%s/result" % ident,
                 {"status": "completed", "exit_code": 3, "stdout": "hello\nworld\n", "stderr": "E"},
                 token=token).status, 200)
    c = d.command_ends(ident)
    equal((c["state"], c["exit_code"], c["out_bytes"], c["err_bytes"]), ("failed", 3, 12, 1)
          if c["state"] == "failed" else ("completed", 3, 12, 1))
    out = "/api/v1/commands/%s/output" % ident
    equal(d.get(out).body, b"hello\nworld\n")
    equal(d.get(out + "?stream=stderr").body, b"E")
    equal(d.get(out + "?offset=6").body, b"world\n")
    equal(d.get(out + "?follow=1&offset=6").body, b"world\n", "follow ends with the command")
    a = d.get(out, headers={"Range": "bytes=2-4"})
    equal((a.status, a.body, a.headers["Content-Range"]), (206, b"llo", "bytes 2-4/12"))
    a = d.get(out, headers={"Range": "bytes=-3"})
    equal((a.status, a.body), (206, b"ld\n"))
    equal(d.get(out, headers={"Range": "bytes=50-"}).status, 416)
    equal(d.get(out + "?stream=stdin").status, 400)
    listed = d.get("/api/v1/commands?agent=n1")["items"]
    equal([i["id"] for i in listed], [other["id"], ident], "newest first")
    equal([i["id"] for i in d.get("/api/v1/commands?state=queued")["items"]], [])
    for bad, field in (({"argv": ["a"]}, "agent"), ({"agent": "n1"}, "argv"),
                       ({"agent": "n1", "argv": []}, "argv"), ({"agent": "n1", "argv": [1]}, "argv"),
                       ({"agent": "n1", "argv": "ls"}, "argv"),
                       ({"agent": "n1", "argv": ["a\0b"]}, "argv"),
                       ({"agent": "n1", "argv": ["a"], "env": {"K": 1}}, "env"),
                       ({"agent": "n1", "argv": ["a"], "priority": "soon"}, "priority"),
                       ({"agent": "n1", "argv": ["a"], "timeout_ms": -1}, "timeout_ms")):
        a = d.post("/api/v1/commands", bad)
        equal((a.status, a.json.get("field")), (400, field), str(bad))


def test_cancel(t):
    d = t.musterd()
    token, cluster = register(d, "n1")
    first = d.post("/api/v1/commands", {"agent": "n1", "argv": ["a"]})["id"]
    a = d.post("/api/v1/commands/%s/cancel" % first)
    check(a.status in (200, 202), a)
    equal(d.command(first)["state"], "cancelled")
    equal(d.get("/api/v1/clusters/agent/%s/poll" % cluster, token=token)["commands"], [])
    a = d.post("/api/v1/commands/%s/cancel" % first)
    check(a.status in (200, 404, 409), "again", a)


def test_bad_json(t):
    d = t.musterd()
    for body in (b"{", b"[]", b"null", b'"x"', b"{}x", b'{"name":"a","name":"b"}',
                 b'{"name":"\xff"}', b'{"name":1e999}', b"\0",
                 b'{"a":' * 100 + b"1" + b"}" * 100):
        a = d.post("/api/v1/tokens", body, headers={"Content-Type": "application/json"})
        equal(a.status, 400, repr(body[:40]))
        a.code
    a = d.post("/api/v1/tokens", b"x" * (2 << 20))
    equal(a.status, 413)
    equal(d.get("/health").status, 200)


def test_two_credentials(t):
    d = t.musterd()
    other = d.make_token("other", scopes=["agent:read"])
    a = d.get("/api/v1/agents?token=" + other)
    equal(a.status, 400, "two different ones")
    equal(d.get("/api/v1/agents?token=" + d.token).status, 200, "the same twice")
    equal(d.get("/api/v1/agents?token=" + other, token=None).status, 200)
    head = "GET /api/v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s\r\n"
    twice = "Authorization: Bearer %s\r\nAuthorization: Bearer %s\r\n" % (other, d.token)
    check(d.raw((head % twice).encode()).startswith(b"HTTP/1.1 400 "), "two fields")


def test_tokens_stay_secret(t):
    """No token reaches a log, an answer, a metric, the journal or the disk."""
    d = t.musterd("--log-level", "debug")
    secrets = [d.token, d.make_token("secret", scopes=["agent:read"])]
    for s in secrets:
        d.get("/api/v1/agents?token=" + s, token=None)
        d.get("/api/v1/nothing?token=" + s, token=None)
        d.get("/api/v1/agents/%s?token=%s" % ("nobody", s), token=None)
        d.raw(("GET /x?token=%s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" % s).encode())
        d.raw(("GET /api/v1/clusters/agent/ws?token=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
               "Connection: close\r\n\r\n" % (s, d.port)).encode())
    wrong = "clt_" + "a" * 32
    d.get("/api/v1/agents?token=" + wrong, token=None)
    audit = d.get("/api/v1/audit?limit=1000").body.decode()
    metrics = d.get("/metrics").body.decode()
    check(d.stop() == 0, "stop")
    kept = b"".join(open(f, "rb").read() for f in glob.glob(d.data + "/**", recursive=True)
                    if re.search(r"/(?!admin\.token)[^/]*$", f) and __import__("os").path.isfile(f))
    for s in secrets + [wrong]:
        for where, text in (("log", d.log()), ("audit", audit), ("metrics", metrics),
                            ("stdout", d.out().decode())):
            check(s[4:] not in text, "a token in the", where)
        check(s[4:].encode() not in kept, "a token on the disk")


def test_hosts_and_origins(t):
    d = t.musterd("--public-url", "https://muster.example.org")
    for host in ("127.0.0.1:%d" % d.port, "localhost:%d" % d.port, "localhost", "[::1]:%d" % d.port,
                 "muster.example.org", "MUSTER.example.org:443"):
        equal(d.get("/api/v1/whoami", headers={"Host": host}).status, 200, host)
    for host in ("evil.example.org", "muster.example.org.evil.net", "192.0.2.7", "localhost.evil.net"):
        a = d.get("/api/v1/whoami", headers={"Host": host})
        equal((a.status, a.code), (421, "MISDIRECTED"), host)
    for origin, ok in (("https://muster.example.org", True), ("https://evil.example.org", False),
                       ("http://muster.example.org", False), ("null", False),
                       ("https://muster.example.org:8443", False)):
        a = d.get("/api/v1/whoami", headers={"Origin": origin})
        equal(a.status == 200, ok, "Origin %s: %d" % (origin, a.status))
        check("Access-Control-Allow-Origin" not in a.headers, "CORS is off")
    a = d.get("/api/v1/whoami", token=None, headers={"Cookie": "__Host-muster=" + d.token})
    equal(a.status, 401, "a token is no session")


def test_cors(t):
    d = t.musterd(env={"MUSTER_CORS_ORIGINS": "https://app.example.org"})
    ask = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "authorization, content-type"}
    a = d.call("OPTIONS", "/api/v1/commands", token=None, headers=ask)
    if a.headers.get("Access-Control-Allow-Origin") is None:
        raise Skip("cors_origins by the environment is not here")
    equal(a.headers["Access-Control-Allow-Origin"], "https://app.example.org")
    check("authorization" in a.headers["Access-Control-Allow-Headers"].lower(), a.headers)
    equal(d.get("/api/v1/whoami", headers={"Origin": "https://app.example.org"})
          .headers["Access-Control-Allow-Origin"], "https://app.example.org")
    a = d.call("OPTIONS", "/api/v1/commands", token=None,
               headers=dict(ask, Origin="https://evil.example.org"))
    check("Access-Control-Allow-Origin" not in a.headers, "a stranger")


def test_events(t):
    d = t.musterd()
    s = d.connect()
    s.sendall(("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
               "\r\n" % (d.port, d.token)).encode())
    got = []

    def read():
        while True:
            try:
                piece = s.recv(65536)
            except OSError:
                return
            if not piece:
                return
            got.append(piece)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until(lambda: b"\r\n\r\n" in b"".join(got), "a head")
    head = b"".join(got).split(b"\r\n\r\n")[0]
    check(b"200" in head and b"text/event-stream" in head, head)
    register(d, "n1")
    until(lambda: b"event: agent." in b"".join(got), "an event")
    text = b"".join(got).decode()
    data = [json.loads(l) for l in re.findall(r"data: (\{.*?\})\r?\n\r?\n", text)]
    seen = [e for e in data if e["agent_id"] == "n1"]
    check(seen and seen[0]["schema"] == "muster.event/1" and seen[0]["at"], text)
    numbers = [e["number"] for e in data]
    equal(numbers, sorted(set(numbers)), "numbers rise")
    s.shutdown(socket.SHUT_RDWR)
    s.close()
    reader.join(5)


class Events:
    """A follower, as a browser's EventSource is one."""

    def __init__(self, d, last=None, token=None):
        self.c = http.client.HTTPConnection(d.host, d.port, timeout=20)
        fields = {"Authorization": "Bearer " + (token or d.token)}
        if last is not None:
            fields["Last-Event-ID"] = last
        self.c.request("GET", "/api/v1/events", headers=fields)
        self.r = self.c.getresponse()
        equal(self.r.status, 200)

    def next(self):
        """(id, name, data) of the next event."""
        got = {}
        while True:
            line = self.r.readline().decode().rstrip("\n")
            check(self.r.fp is not None, "the stream has ended")
            if line == "" and "data" in got:
                return got["id"], got.get("event"), json.loads(got["data"])
            key, _, value = line.partition(": ")
            if key:
                got[key] = value

    def until(self, agent):
        """All up to and with agent's going online."""
        seen = []
        while not seen or (seen[-1][1], seen[-1][2].get("agent_id")) != ("agent.online", agent):
            seen.append(self.next())
        return seen

    def end(self):
        self.r.close()
        self.c.close()


def test_events_again(t):
    """A follower that comes back is told what it has missed, or that it is gone."""
    d = t.musterd()
    f = Events(d)
    other = Events(d)
    register(d, "n1")
    at = f.until("n1")[-1][0]
    f.end()
    register(d, "n2")
    register(d, "n3")
    whole = other.until("n1") + other.until("n2") + other.until("n3")
    f = Events(d, last=at)
    equal(f.until("n3"), [e for e in whole if e[2]["agent_id"] != "n1"], "what was missed")
    # Nothing missed: only what comes.
    at = whole[-1][0]
    f.end()
    other.end()
    f = Events(d, last=at)
    register(d, "n4")
    equal({e[2]["agent_id"] for e in f.until("n4")}, {"n4"})
    f.end()
    # Nobody follows now, and still it is kept for a while.
    register(d, "n5")
    f = Events(d, last=at)
    check({"n4", "n5"} <= {e[2]["agent_id"] for e in f.until("n5")}, "what came while nobody was there")
    f.end()
    # What the ring does not have is said to be missing.
    for i, last in enumerate(("1-1", "nonsense", at.split("-")[0] + "-99999999", "x" * 5000)):
        f = Events(d, last=last)
        ident, name, data = f.next()
        equal((name, data["name"], data["data"]["after"]), ("gap", "gap", last[:48]))
        register(d, "g%d" % i)
        f.end()
        f = Events(d, last=ident)
        check(f.next()[1] != "gap", "the id of a gap is one to go on from")
        f.end()
    token = d.make_token("many")
    for i in range(600):
        equal(d.post("/api/v1/clusters/agent/register", {"agent_id": "m%d" % i, "name": "m"}, token=token).status, 200)
    f = Events(d, last=at)
    equal(f.next()[1], "gap")
    f.end()
    # A new controller counts anew.
    d.stop()
    d = d.again()
    register(d, "n7")
    f = Events(d, last=at)
    equal(f.next()[1], "gap")
    f.end()


def test_audit(t):
    d = t.musterd()
    d.make_token("seen")
    register(d, "n1")
    items = d.get("/api/v1/audit")["items"]
    for line in items:
        for name in ("node number at actor action object result request_id remote detail "
                     "prev_hash hash").split():
            check(name in line, name, "is missing")
    check(any(l["action"].startswith("token.") for l in items), "token acts")
    by = {l["number"]: l for l in items}
    for n, line in by.items():
        if n - 1 in by:
            equal(line["prev_hash"], by[n - 1]["hash"], "the chain")
    a = d.get("/api/v1/audit/verify")
    equal(a.status, 200, a)
    check(a.json.get("ok") is True or a.json.get("valid") is True, a)


def test_openapi(t):
    d = t.musterd()
    a = d.get("/api/v1/openapi.json", token=None)
    equal(a.status, 200, a)
    doc = a.json
    check(doc["openapi"].startswith("3."), doc["openapi"])
    for method, path, _ in ROUTES:
        pattern = "^" + re.sub("none", r"\\{[a-z_]+\\}", path) + "$"
        found = [p for p in doc["paths"] if re.match(pattern, p)]
        check(found and method.lower() in doc["paths"][found[0]], "not described:", method, path)


def test_keep_alive(t):
    """Requests on one connection are answered in order."""
    d = t.musterd()
    s = d.connect()
    one = ("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer " + d.token +
           "\r\n%s\r\n")
    s.sendall((one % ("/api/v1/whoami", d.port, "") + one % ("/health", d.port, "") +
               one % ("/api/v1/agents", d.port, "Connection: close\r\n")).encode())
    got = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    s.close()
    equal(got.count(b"HTTP/1.1 200 OK\r\n"), 3, got[:2000])
    check(got.find(b"muster.whoami") < got.find(b"gateway") < got.find(b"\"items\""), "order")
    for field in (b"\r\nDate: ", b"\r\nServer: "):
        equal(got.count(field), 3, str(field))
    check(re.search(rb"\r\nServer: [a-z]+\r\n", got), "the server says its version")


main(globals())
