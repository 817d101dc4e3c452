"""Users, logins and JWTs, as programs see them; rights, route by route."""
# timeout: 300

import base64
import hashlib
import hmac
import http.server
import itertools
import threading

from harness import *

PASSWORD = "correct horse"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(secret, claims, **header):
    head = dict({"alg": "HS256", "typ": "JWT"}, **header)
    text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
    mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return text + "." + b64(mac)


def soon(seconds=600):
    return int(time.time()) + seconds


def add_user(d, name, role, **more):
    a = d.post("/api/v1/users", dict(name=name, role=role, password=PASSWORD, **more))
    equal(a.status, 201, a)
    return a


def login(d, name, password=PASSWORD, **more):
    return d.post("/api/v1/auth/login", dict(name=name, password=password, **more), token=False)


def jwt(d, name, **more):
    a = d.post("/api/v1/users/%s/token" % name, more)
    equal(a.status, 200, a)
    return a["token"]


class Socket:
    """A WebSocket that is only listened to."""

    def __init__(self, d, path, **headers):
        self.s = d.connect()
        head = {"Host": "%s:%d" % (d.host, d.port), "Upgrade": "websocket", "Connection": "Upgrade",
                "Sec-WebSocket-Key": b64(os.urandom(16)) + "==", "Sec-WebSocket-Version": "13"}
        head["Sec-WebSocket-Key"] = base64.b64encode(os.urandom(16)).decode()
        head.update({k.replace("_", "-"): v for k, v in headers.items()})
        text = "GET %s HTTP/1.1\r\n" % path + "".join("%s: %s\r\n" % x for x in head.items())
        self.s.sendall(text.encode() + b"\r\n")
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            piece = self.s.recv(4096)
            if not piece:
                break
            self.buffer += piece
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1])

    def send(self, text):
        data = text.encode()
        mask = b"\0\0\0\0"
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.s.sendall(b"\x81" + size + mask + data)

    def take(self, n):
        while len(self.buffer) < n:
            piece = self.s.recv(65536)
            check(piece, "the connection broke")
            self.buffer += piece
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def frame(self):
        a, b = self.take(2)
        n = b & 127
        if n == 126:
            n = int.from_bytes(self.take(2), "big")
        elif n == 127:
            n = int.from_bytes(self.take(8), "big")
        return a & 15, self.take(n)

    def close_code(self):
        while True:
            op, data = self.frame()
            if op == 8:
                return int.from_bytes(data[:2], "big"), data[2:].decode()

    def body(self):
        with contextlib.suppress(OSError):
            while True:
                piece = self.s.recv(4096)
                if not piece:
                    break
                self.buffer += piece
        return self.buffer


# Accounts ---------------------------------------------------------------------

def test_first_start(t):
    d = t.musterd()
    link = re.search(r"muster user setup (\S+)", d.log()).group(1)
    secret = t.path("pw", "a good password\n")
    t.cli(d, "user", "setup", link, "--password-file", secret, code=0)
    t.cli(d, "user", "setup", link, "--password-file", secret, code=4)
    equal(login(d, "admin", "a good password").status, 200)
    equal(d.get("/api/v1/users/admin")["has_password"], True)
    d.stop()
    # Only the first start prints one.
    d = d.again()
    check("user setup" not in d.log(), "another link")
    equal(login(d, "admin", "a good password").status, 200)


def test_login_and_refresh(t):
    d = t.musterd("--login-rate", "50")
    add_user(d, "vera", "viewer")
    equal(login(d, "vera", "wrong horse").code, "LOGIN_FAILED")
    equal(login(d, "nobody").code, "LOGIN_FAILED")
    a = login(d, "vera")
    equal(a.status, 200, a)
    equal((a["token_type"], a["expires_in"], a["user"]["role"]), ("Bearer", 900, "viewer"))
    me = d.get("/api/v1/me", token=a["token"])
    equal((me.status, me["user"]["name"], me["token"]), (200, "vera", None))
    b = d.post("/api/v1/auth/refresh", {"refresh_token": a["refresh_token"]}, token=False)
    equal(b.status, 200, b)
    # Through a restart.
    d.kill()
    d = d.again()
    c = d.post("/api/v1/auth/refresh", {"refresh_token": b["refresh_token"]}, token=False)
    equal(c.status, 200, c)
    # The first one again: somebody has a copy, so all of it ends.
    again = d.post("/api/v1/auth/refresh", {"refresh_token": a["refresh_token"]}, token=False)
    equal((again.status, again.code), (401, "TOKEN_REUSED"))
    equal(d.get("/api/v1/me", token=c["token"]).code, "TOKEN_REVOKED")
    last = d.post("/api/v1/auth/refresh", {"refresh_token": c["refresh_token"]}, token=False)
    equal((last.status, last.code), (401, "TOKEN_REVOKED"))
    guess = c["refresh_token"][:-1] + ("a" if c["refresh_token"][-1] != "a" else "b")
    for bad in (guess, "", "mrt_x", a["token"]):
        equal(d.post("/api/v1/auth/refresh", {"refresh_token": bad}, token=False).status, 401)
    lines = d.get("/api/v1/audit?limit=100").json["items"]
    check([x for x in lines if x["action"] == "login.reuse"], "no line of the reuse")
    equal(len([x for x in lines if x["action"] == "user.login" and x["result"] == "denied"]), 2)
    a = login(d, "vera")
    equal(d.post("/api/v1/auth/logout", token=a["token"]).status, 204)
    equal(d.get("/api/v1/me", token=a["token"]).code, "TOKEN_REVOKED")


def test_login_rate(t):
    d = t.musterd()
    add_user(d, "vera", "viewer")
    got = [login(d, "vera", "wrong horse").status for _ in range(5)]
    equal(got, [401] * 5)
    a = login(d, "vera")
    equal((a.status, a.code), (429, "TOO_MANY_ATTEMPTS"))
    check(0 < int(a.headers["Retry-After"]) <= 60, a.headers["Retry-After"])
    # Other accounts are none of its business.
    add_user(d, "olga", "viewer")
    equal(login(d, "olga").status, 200)


def test_request_rate(t):
    d = t.musterd("--request-rate", "20")
    add_user(d, "vera", "viewer")
    token = jwt(d, "vera")
    for left in range(19, -1, -1):
        a = d.get("/api/v1/me", token=token)
        equal((a.status, a.headers["RateLimit-Limit"], a.headers["RateLimit-Remaining"]),
              (200, "20", str(left)))
    a = d.get("/api/v1/me", token=token)
    equal((a.status, a.code), (429, "RATE_LIMITED"))
    check(0 < int(a.headers["RateLimit-Reset"]) <= 60, a.headers)
    check(0 < int(a.headers["Retry-After"]) <= 60, a.headers)
    # Nobody's requests are nobody else's.
    equal({d.get("/api/v1/me", token=False).status for _ in range(130)}, {401, 429})
    equal(d.get("/api/v1/me").status, 200)


def test_selector(t):
    d = t.musterd()
    for name, env in (("web-1", "prod"), ("web-2", "test")):
        t.agent(d, name)
        equal(d.patch("/api/v1/agents/%s/labels" % name, {"env": env}).status, 200)
    ran = {}
    for name in ("web-1", "web-2"):
        ran[name] = d.post("/api/v1/commands", {"agent": name, "argv": ["echo", name]})["id"]
        d.command_ends(ran[name])
    add_user(d, "olga", "operator", selector="env=prod")
    token = jwt(d, "olga")
    equal([a["name"] for a in d.get("/api/v1/agents", token=token).json["items"]], ["web-1"])
    equal(d.get("/api/v1/agents/web-2", token=token).status, 404)
    equal(d.get("/api/v1/agents/web-2/connections", token=token).status, 404)
    equal(d.patch("/api/v1/agents/web-2/labels", {"env": "prod"}, token=token).status, 404)
    equal(d.post("/api/v1/commands", {"agent": "web-2", "argv": ["true"]}, token=token).status, 404)
    equal(d.post("/api/v1/commands", {"agent": "web-1", "argv": ["true"]}, token=token).status, 201)
    # What others have run there, too.
    equal({c["agent_id"] for c in d.get("/api/v1/commands", token=token).json["items"]},
          {d.agent("web-1")["agent_id"]})
    equal(d.get("/api/v1/commands/" + ran["web-1"], token=token).status, 200)
    for path in ("", "/output", "/interrupt", "/cancel"):
        call = d.post if path in ("/interrupt", "/cancel") else d.get
        equal(call("/api/v1/commands/" + ran["web-2"] + path, token=token).status, 404, path)
    equal(d.get("/api/v1/commands/%s/output" % ran["web-1"], token=token).body, b"web-1\n")
    # Nor by coming back to it.
    for name, word in (("web-1", "accepted"), ("web-2", "refused")):
        ws = Socket(d, "/api/v1/exec", Authorization="Bearer " + token)
        ws.send(json.dumps({"attach": ran[name]}))
        equal(json.loads(ws.frame()[1])["type"], word, name)
    # The journal, for an administrator with a limit.
    add_user(d, "ada", "admin", selector="env=prod")
    token = jwt(d, "ada")
    lines = d.get("/api/v1/audit?limit=1000", token=token).json["items"]
    objects = {x["object"] for x in lines}
    check(ran["web-1"] in objects and ran["web-2"] not in objects, objects)


def test_pages_of_a_selector(t):
    """Pages are full as long as there is something."""
    d = t.musterd()
    for name, env in (("web-1", "prod"), ("web-2", "test")):
        t.agent(d, name)
        equal(d.patch("/api/v1/agents/%s/labels" % name, {"env": env}).status, 200)
    for n in range(30):
        a = d.post("/api/v1/commands", {"agent": "web-1" if n % 10 == 0 else "web-2", "argv": ["true"]})
        equal(a.status, 201, a)
    add_user(d, "vera", "viewer", selector="env=prod")
    token = jwt(d, "vera")
    got, path = [], "/api/v1/commands?limit=2"
    while path:
        page = d.get(path, token=token).json
        got += [c["id"] for c in page["items"]]
        check(len(page["items"]) == 2 or not page["next"], page)
        path = page["next"] and "/api/v1/commands?limit=2&cursor=" + page["next"]
    equal((len(got), len(set(got))), (3, 3))


def events_of(d, token):
    s = d.connect()
    s.sendall(("GET /api/v1/events HTTP/1.1\r\nHost: %s:%d\r\nAuthorization: Bearer %s\r\n\r\n" %
               (d.host, d.port, token)).encode())
    return s


def test_revocation(t):
    """What takes something from a user closes what they have open."""
    d = t.musterd()
    add_user(d, "vera", "viewer")
    changes = [("PATCH", {"role": "operator"}), ("PATCH", {"selector": "env=prod"}),
               ("PATCH", {"password": "another horse"}), ("DELETE", None)]
    for method, body in changes:
        s = events_of(d, jwt(d, "vera"))
        check(b" 200 " in s.recv(4096), "not let in")
        # A password takes its time before anything happens.
        equal(d.call(method, "/api/v1/users/vera", body=body).status, 200)
        start = time.monotonic()
        s.settimeout(PATIENCE)
        while s.recv(4096):
            pass
        check(time.monotonic() - start < 1, "it took", time.monotonic() - start)
        s.close()
    equal(login(d, "vera", "another horse").status, 401)


def console(d, token, **headers):
    ws = Socket(d, "/ws/dashboard", Authorization="Bearer " + token, **headers)
    equal(ws.status, 101)
    ws.send(json.dumps({"type": "dashboard:connect", "dashboardId": "x"}))
    ws.seen = []
    while "agent:list" not in ws.seen:
        ws.seen.append(json.loads(ws.frame()[1])["type"])
    return ws


def told(ws, *types):
    while True:
        op, data = ws.frame()
        check(op == 1, "closed:", data)
        m = json.loads(data)
        if m["type"] in types:
            return m


def test_console_renews(t):
    d = t.musterd("--access-ttl", "10m", "--login-rate", "50")
    add_user(d, "vera", "viewer")
    add_user(d, "olga", "viewer")
    a = login(d, "vera")
    ws = console(d, a["token"])

    def renew(**members):
        ws.send(json.dumps(dict(type="auth:refresh-token", **members)))
        return told(ws, "auth:refresh-success", "auth:refresh-failed")

    m = renew(refreshToken=a["refresh_token"])
    equal(m["type"], "auth:refresh-success")
    equal(d.get("/api/v1/me", token=m["token"])["user"]["name"], "vera")
    check(m["refreshToken"] != a["refresh_token"], m)
    equal(renew(token=jwt(d, "vera"))["type"], "auth:refresh-success")
    other = login(d, "olga")
    equal(renew(token=other["token"])["code"], "OTHER_SUBJECT")
    equal(renew(refreshToken=other["refresh_token"])["code"], "OTHER_SUBJECT")
    equal(d.post("/api/v1/auth/refresh", {"refresh_token": other["refresh_token"]}, token=False).status, 200)
    equal(renew(token="nonsense.at.all")["type"], "auth:refresh-failed")
    # Seen twice: the login is over, and with it what lives on it.
    ws.send(json.dumps({"type": "auth:refresh-token", "refreshToken": m["refreshToken"]}))
    equal(told(ws, "auth:refresh-success", "auth:refresh-failed")["type"], "auth:refresh-success")
    d.post("/api/v1/auth/refresh", {"refresh_token": m["refreshToken"]}, token=False)
    equal(ws.close_code(), (1008, "revoked"))


def test_token_ends(t):
    """At its end the socket ends, with notice before."""
    d = t.musterd()
    add_user(d, "vera", "viewer")
    ws = console(d, jwt(d, "vera", ttl_ms=1500))
    if "auth:refresh-needed" not in ws.seen:
        told(ws, "auth:refresh-needed")
    equal(ws.close_code(), (1008, "token_expired"))
    ws = Socket(d, "/", Authorization="Bearer " + jwt(d, "vera", ttl_ms=1500))
    equal(ws.status, 101)
    equal(ws.close_code(), (1008, "token_expired"))


def test_revocation_of_sockets(t):
    d = t.musterd()
    add_user(d, "vera", "viewer")
    token = jwt(d, "vera")
    boards = [console(d, token), Socket(d, "/", Authorization="Bearer " + token),
              console(d, jwt(d, "vera"))]
    equal(d.patch("/api/v1/users/vera", {"role": "operator"}).status, 200)
    start = time.monotonic()
    equal([ws.close_code() for ws in boards], [(1008, "revoked")] * 3)
    check(time.monotonic() - start < 1, "it took", time.monotonic() - start)


def test_ways_in(t):
    """Document 2's three ways and document 4's two."""
    d = t.musterd()
    add_user(d, "vera", "viewer")
    token = jwt(d, "vera")
    bearer, own = {"Authorization": "Bearer " + token}, {"Origin": d.url}
    cookie = {"Cookie": "token=" + token}

    def let_in(path, **headers):
        ws = Socket(d, path, **headers)
        if ws.status != 101:
            return ws.status
        if not path.startswith("/ws"):
            return 101  # let in before the upgrade, or not at all
        ws.send(json.dumps({"type": "dashboard:connect", "dashboardId": "x"}))
        op, data = ws.frame()
        return (int.from_bytes(data[:2], "big"), data[2:].decode()) if op == 8 else 101

    for path in ("/ws", "/ws/dashboard"):
        equal(let_in(path, **bearer), 101)
        equal(let_in(path + "?token=" + token), 101)
        equal(let_in(path, **cookie, **own), 101)
        equal(let_in(path, **cookie), (1008, "unauthorized"), "a cookie without an origin")
        equal(let_in(path, **cookie, Origin="https://evil.example"), 403)
        equal(let_in(path), (1008, "unauthorized"))
        equal(let_in(path + "?token=" + jwt(d, "vera"), **bearer), 400, "two credentials")
    equal(let_in("/", **bearer), 101)
    equal(let_in("/?token=" + token), 101)
    equal(let_in("/"), 401)
    equal(let_in("/", **cookie, **own), 401)
    check(token.split(".")[2] not in d.log(), "a token in the log")


def test_an_attached_command_is_let_go(t):
    d = t.musterd()
    t.agent(d, "web-1")
    add_user(d, "olga", "operator")
    token = jwt(d, "olga")
    ws = Socket(d, "/api/v1/exec", Authorization="Bearer " + token)
    equal(ws.status, 101)
    ws.send(json.dumps({"agent": "web-1", "argv": ["sleep", "60"]}))
    until(lambda: [c for c in d.get("/api/v1/commands").json["items"] if c["state"] == "running"])
    start = time.monotonic()
    equal(d.patch("/api/v1/users/olga", {"role": "viewer"}).status, 200)
    equal(ws.close_code(), (1008, "revoked"))
    check(time.monotonic() - start < 1, "it took", time.monotonic() - start)


def test_who_is_attached_is_let_go(t):
    """It counts who is attached, and by what, not who began the command."""
    d = t.musterd()
    t.agent(d, "web-1")
    ident = d.post("/api/v1/commands", {"agent": "web-1", "argv": ["sleep", "60"]})["id"]
    until(lambda: d.get("/api/v1/commands/" + ident)["state"] == "running")
    add_user(d, "olga", "operator")
    own = d.post("/api/v1/tokens", {"name": "mine", "scopes": ["command:run"]})
    for token, end in ((jwt(d, "olga"), lambda: d.patch("/api/v1/users/olga", {"role": "viewer"})),
                       (own["token"], lambda: d.delete("/api/v1/tokens/mine"))):
        ws = Socket(d, "/api/v1/exec", Authorization="Bearer " + token)
        ws.send(json.dumps({"attach": ident}))
        equal(json.loads(ws.frame()[1])["type"], "accepted")
        equal(end().status, 200)
        equal(ws.close_code(), (1008, "revoked"))
    equal(d.get("/api/v1/commands/" + ident)["state"], "running")


def test_who_is_attached_goes_with_the_token(t):
    d = t.musterd()
    t.agent(d, "web-1")
    add_user(d, "olga", "operator")
    start = time.monotonic()
    ws = Socket(d, "/api/v1/exec", Authorization="Bearer " + jwt(d, "olga", ttl_ms=2000))
    ws.send(json.dumps({"agent": "web-1", "argv": ["sleep", "60"]}))
    ident = json.loads(ws.frame()[1])["id"]
    equal(ws.close_code(), (1008, "token_expired"))
    # Tokens end at whole seconds.
    check(time.monotonic() - start > 0.9, "it took", time.monotonic() - start)
    # The command goes on, for who comes back to it.
    ws = Socket(d, "/api/v1/exec", Authorization="Bearer " + jwt(d, "olga", ttl_ms=600000))
    ws.send(json.dumps({"attach": ident}))
    equal(json.loads(ws.frame()[1])["type"], "accepted")


def test_who_says_nothing_goes(t):
    """Nobody has judged its credential: it is not kept."""
    d = t.musterd()
    ws = Socket(d, "/api/v1/exec", Authorization="Bearer nonsense")
    equal(ws.status, 101)
    ws.s.settimeout(45)
    start = time.monotonic()
    while True:
        op, data = ws.frame()
        if op == 8:
            break
    equal((int.from_bytes(data[:2], "big"), data[2:]), (1008, b"auth_timeout"))
    check(29 < time.monotonic() - start < 40)


def test_no_login_is_an_agents(t):
    """An administrator's role has the scopes; what it registers would be
    nobody's."""
    d = t.musterd()
    admin = d.get("/api/v1/users")["items"][0]["name"]
    equal(Socket(d, "/api/v1/clusters/agent/ws", Authorization="Bearer " + jwt(d, admin)).status, 403)
    equal(d.get("/health").status, 200)


# Tokens of other issuers ------------------------------------------------------

def test_shared_secret(t):
    secret = b"a secret that another issuer has"
    d = t.musterd("--jwt-hs256-secret-file", t.path("secret", secret.decode() + "\n"),
                  "--jwt-issuer", "https://id.example", "--jwt-audience", "muster")
    add_user(d, "olga", "operator")
    good = {"sub": "someone", "exp": soon(), "iss": "https://id.example", "aud": ["x", "muster"]}

    def who(key=secret, header=None, **claims):
        body = {k: v for k, v in dict(good, **claims).items() if v is not None}
        return d.get("/api/v1/me", token=hs256(key, body, **(header or {})))

    a = who()
    equal((a.status, a["user"]["role"], a["user"]["id"]), (200, "viewer", "ext:someone"))
    equal(who(role="operator")["user"]["role"], "operator")
    equal(who(role="emperor")["user"]["role"], "viewer")
    # A name of people's own choosing makes nobody anybody.
    equal(who(sub=None, userId="x", username="olga")["user"]["role"], "viewer")
    equal(who(sub=None, userId="olga")["user"]["role"], "operator")
    equal(who(sub="olga", role="admin")["user"]["role"], "operator")
    equal(who(scope="openid agent:read")["scopes"], ["agent:read"])
    equal(who(exp=soon(-30)).status, 200, "leeway")
    equal(who(exp=soon(-61)).code, "TOKEN_EXPIRED")
    equal(who(nbf=soon(30)).status, 200, "leeway")
    equal(who(nbf=soon(120)).code, "TOKEN_NOT_YET_VALID")
    for bad in ({"exp": None}, {"sub": None}, {"iss": "https://evil.example"}, {"iss": None},
                {"aud": "y"}, {"aud": None}, {"exp": "never"}):
        a = who(**bad)
        equal((a.status, a.code), (401, "UNAUTHORIZED"), bad)
    for header in ({"alg": "none"}, {"alg": "HS512"}, {"crit": ["exp"]}, {"alg": "RS256"}):
        a = who(header=header)
        equal((a.status, a.code), (401, "UNAUTHORIZED"), header)
    equal(who(key=b"x" * 32).status, 401)
    none = b64(b'{"alg":"none"}') + "." + b64(json.dumps(good).encode()) + "."
    equal(d.get("/api/v1/me", token=none).status, 401)
    twice = b64(b'{"alg":"HS256"}') + "." + b64(b'{"sub":"a","sub":"b","exp":%d}' % soon())
    mac = b64(hmac.new(secret, twice.encode(), hashlib.sha256).digest())
    equal(d.get("/api/v1/me", token=twice + "." + mac).status, 401)
    # As a parameter, too; and two that differ are none.
    token = hs256(secret, good)
    equal(d.get("/api/v1/me?token=" + token, token=False).status, 200)
    equal(d.get("/api/v1/me?token=" + token).status, 400)
    check(token.split(".")[2] not in d.log(), "a token in the log")


class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.count += 1
        body = json.dumps(self.server.keys).encode()
        self.send_response(302 if self.server.moved else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def make_es256(t, name):
    key = os.path.join(t.dir, name)
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
                   check=True, capture_output=True)
    der = subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-outform", "DER"],
                         check=True, capture_output=True).stdout
    return key, {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": name,
                 "x": b64(der[-64:-32]), "y": b64(der[-32:])}


def es256(key, kid, claims):
    text = b64(json.dumps({"alg": "ES256", "kid": kid}).encode()) + "." + b64(json.dumps(claims).encode())
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(),
                         check=True, capture_output=True).stdout
    at, parts = 4, []
    n = der[3]
    parts.append(der[at:at + n])
    at += n
    parts.append(der[at + 2:at + 2 + der[at + 1]])
    raw = b"".join(p.lstrip(b"\0").rjust(32, b"\0") for p in parts)
    return text + "." + b64(raw)


def test_fetched_keys(t):
    key, public = make_es256(t, "k1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    server.keys, server.count, server.moved = {"keys": [public]}, 0, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    d = t.musterd("--jwt-jwks-url", "http://127.0.0.1:%d/jwks" % server.server_port)
    d.log_has("event=jwks_fetched")
    token = es256(key, "k1", {"sub": "x", "exp": soon()})
    equal(d.get("/api/v1/me", token=token).status, 200)
    wrong = es256(make_es256(t, "k2")[0], "k1", {"sub": "x", "exp": soon()})
    equal(d.get("/api/v1/me", token=wrong).status, 401)
    server.shutdown()
    # Nobody there any more: the keys stay.
    equal(d.get("/api/v1/me", token=token).status, 200)
    server.server_close()


def test_a_set_that_moved(t):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    server.keys, server.count, server.moved = {"keys": []}, 0, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    d = t.musterd("--jwt-jwks-url", "http://127.0.0.1:%d/jwks" % server.server_port)
    d.log_has("event=jwks_not_fetched")
    equal(server.count, 1, "redirects are not followed")
    server.shutdown()
    server.server_close()
    p = t.start("musterd", [os.path.join(BUILD, "musterd"), "--jwt-jwks-url",
                            "http://169.254.169.254/keys", "check"])
    equal(p.wait(), 1)


def test_rotation(t):
    d = t.musterd()
    add_user(d, "vera", "viewer")
    old = jwt(d, "vera")
    for status in (200, 401):
        p = t.start("rotate", [os.path.join(BUILD, "musterd"), "--data", d.data, "rotate-keys"])
        equal(p.wait(), 0, p.log())
        n = d.log().count("event=reloaded")
        d.signal(signal.SIGHUP)
        until(lambda: d.log().count("event=reloaded") > n, "reloaded")
        equal(d.get("/api/v1/me", token=old).status, status)
    equal(d.get("/api/v1/me", token=jwt(d, "vera")).status, 200)


# Cookies ----------------------------------------------------------------------

def test_cookies(t):
    d = t.musterd()
    add_user(d, "ada", "admin")
    a = login(d, "ada", cookie=True)
    equal(a.status, 200, a)
    field = a.headers["Set-Cookie"]
    for word in ("__Host-muster=mss_", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"):
        check(word in field, field)
    check("Domain" not in field and "refresh_token" not in a.json, a)
    cookie = {"Cookie": field.split(";")[0]}
    own = {"Origin": d.url}
    mark = {"X-Muster": "1"}

    def post(**headers):
        return d.post("/api/v1/users", {"name": "x", "role": "viewer"}, token=False,
                      headers={k.replace("_", "-"): v for k, v in headers.items()})

    equal(d.get("/api/v1/me", token=False, headers=cookie)["user"]["name"], "ada")
    equal(post(**cookie).code, "CSRF_REFUSED")
    equal(post(**cookie, **mark).code, "CSRF_REFUSED")
    equal(post(**cookie, **own).code, "CSRF_REFUSED")
    equal(post(**cookie, **own, **{"X-Muster": "0"}).code, "CSRF_REFUSED")
    equal(post(**cookie, **mark, Origin="https://evil.example").code, "ORIGIN_NOT_ALLOWED")
    equal(post(**cookie, **mark, **own).status, 201)
    # Sockets need no mark, which no page can send, but our own origin.
    equal(Socket(d, "/api/v1/exec", **cookie).status, 403)
    equal(Socket(d, "/api/v1/exec", **cookie, Origin="https://evil.example").status, 403)
    equal(Socket(d, "/api/v1/exec", **cookie, **own).status, 101)
    # Two credentials.
    equal(d.get("/api/v1/me", headers=cookie).status, 400)
    # The name of document 2 is for its own paths.
    equal(d.get("/api/v1/me", token=False, headers={"Cookie": "token=" + d.token}).status, 401)
    gone = d.post("/api/v1/auth/logout", token=False, headers={**cookie, **own, **mark})
    equal(gone.status, 204)
    check("Max-Age=0" in gone.headers["Set-Cookie"], gone.headers)
    equal(d.get("/api/v1/me", token=False, headers=cookie).status, 401)


# Rights -----------------------------------------------------------------------

BODIES = {
    "POST /api/v1/auth/login": {"name": "nobody", "password": PASSWORD},
    "POST /api/v1/auth/refresh": {"refresh_token": "mrt_x"},
    "POST /api/v1/auth/setup": {"token": "x", "password": PASSWORD},
    "POST /api/v1/auth/password": {"old_password": "x", "password": PASSWORD},
    "POST /api/v1/users": {"name": "user-%d", "role": "viewer"},
    "POST /api/v1/tokens": {"name": "token-%d"},
    "POST /api/v1/agents/join": {"name": "x", "install_id": "x",
                                 "public_key": base64.b64encode(b"k" * 32).decode()},
    "POST /api/v1/commands": {"agent": "nobody", "argv": ["true"]},
    "POST /api/v1/stop": {"scope": "agent", "agent": "nobody", "reason": "none"},
    "POST /api/v1/resume": {"scope": "agent", "agent": "nobody"},
    "POST /api/v1/broadcast/agent-status": {"agentId": "nobody", "status": "busy"},
    "POST /api/v1/broadcast/session-activity": {"agentId": "nobody", "sessionId": "s", "lastMessage": "x"},
    "POST /api/v1/routes": {"host": "app-%d.example", "agent": "nobody", "to": {"host": "h", "port": 1}},
    "POST /api/v1/routes/{}/links": {"ttl_ms": 60000},
    "POST /api/v1/signed": {"agent_id": "signed-%d"},
}
numbers = itertools.count()


def verdict(answer):
    """What of it is about rights."""
    if answer.status == 101:
        return "permitted"
    code = answer.code if answer.status >= 400 else None
    return code if code in ("UNAUTHORIZED", "NOT_PERMITTED") else "permitted"


def ask(d, route, token, upgrade):
    path = route["path"].replace("{}", "nothing")
    body = BODIES.get(route["method"] + " " + route["path"])
    if body is None and route["method"] in ("POST", "PATCH", "PUT"):
        body = {}
    if body is not None:
        body = json.loads(json.dumps(body).replace("%d", str(next(numbers))))
    # Not straight from here, or /metrics would be open.
    headers = {"X-Forwarded-For": "192.0.2.7"}
    if upgrade:
        headers.update({"Upgrade": "websocket", "Connection": "Upgrade",
                        "Sec-WebSocket-Version": "13",
                        "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode()})
    if path == "/api/v1/events":
        # It has no end.
        s = d.connect()
        extra = dict(headers, **({"Authorization": "Bearer " + token} if token else {}))
        s.sendall(("GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n" % (
            path, d.host, d.port, "".join("%s: %s\r\n" % x for x in extra.items()))).encode())
        head = s.recv(65536).decode()
        s.close()
        found = re.search(r'"code":"(\w+)"', head)
        return found.group(1) if found and " 200 " not in head.split("\r\n")[0] else "permitted"
    if route["websocket"]:
        extra = {"X_Forwarded_For": "192.0.2.7"}
        if token:
            extra["Authorization"] = "Bearer " + token
        ws = Socket(d, path, **extra)
        if ws.status == 101 and path == "/api/v1/exec":
            # Granted or refused at the first message.
            ws.send(json.dumps({"agent": "nobody", "argv": ["true"]}))
            text, op = b"", 0
            with contextlib.suppress(AssertionError, OSError):
                while op != 8:
                    op, data = ws.frame()
                    text += data
            found = re.search(rb"UNAUTHORIZED|NOT_PERMITTED", text)
            return found.group().decode() if found else "permitted"
        if ws.status == 101:
            return "permitted"
        found = re.search(rb"UNAUTHORIZED|NOT_PERMITTED", ws.body())
        return found.group().decode() if found else "permitted"
    return verdict(d.call(route["method"], path, body=body, token=token or False, headers=headers))


def test_every_route_by_role(t):
    d = t.musterd("--request-rate", "100000", "--login-rate", "1000")
    lines = subprocess.run([os.path.join(BUILD, "musterd"), "routes"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    routes = [r for r in map(json.loads, lines) if r["hub"]]
    check(len(routes) > 55, "only %d routes" % len(routes))
    cluster = {"cluster:register", "cluster:heartbeat"}
    tokens = {None: None, "agent": d.make_token("agents")}
    for role in ("viewer", "operator", "admin"):
        add_user(d, role + "-1", role)
        tokens[role] = jwt(d, role + "-1", ttl_ms=3600000)
    for route in routes:
        for role, token in tokens.items():
            what = "%s %s as %s" % (route["method"], route["path"], role)
            if route["open"]:
                want = "permitted"
            elif role is None:
                want = "UNAUTHORIZED"
            elif role == "agent":
                fits = route["agents"] and set(route["need"]) <= cluster
                want = "permitted" if fits else "NOT_PERMITTED"
            elif "cluster:register" in route["need"]:
                want = "NOT_PERMITTED"  # a login trades for no key
            else:
                want = "permitted" if role in route["roles"] else "NOT_PERMITTED"
            # A set-up that is over is a refusal of its own, a login too.
            equal(ask(d, route, token, False), want, what)
            if not route["websocket"]:
                equal(ask(d, route, token, True), want, what + ", as an upgrade")
        # Nobody's share is small.
        if routes.index(route) % 20 == 19:
            d.stop()
            d = d.again()


def enter(d, path, token, first):
    """What comes of an upgrade, and of a first message when it has one."""
    ws = Socket(d, path, **({"Authorization": "Bearer " + token} if token else {}))
    try:
        if ws.status != 101:
            found = re.search(rb"UNAUTHORIZED|NOT_PERMITTED", ws.body())
            return found.group().decode() if found else ws.status
        if first is None:
            return "permitted"  # let in before the upgrade, or not at all
        ws.send(json.dumps(first))
        op, text, found = 1, b"", None
        while op != 8 and not found:
            op, data = ws.frame()
            text += data
            found = re.search(rb'UNAUTHORIZED|NOT_PERMITTED|agent:list|AGENT_NOT_FOUND|"ACK"', text)
        check(found or op == 8, path, text)
        # Who shows nothing has only the reason of the close.
        said = found.group().decode() if found else text[-12:].decode().upper()
        return said if said in ("UNAUTHORIZED", "NOT_PERMITTED") else "permitted"
    finally:
        ws.s.close()


def test_every_door_by_credential(t):
    """WebSockets let in, and refuse, whom REST does; without an upgrade they tell nobody apart."""
    d = t.musterd("--request-rate", "100000", "--login-rate", "1000")
    agents = {"cluster:register", "agent:connect"}
    cluster = {"cluster:register", "cluster:heartbeat"}
    people = {}
    for name, role, selector in (("viewer", "viewer", ""), ("operator", "operator", ""),
                                 ("admin", "admin", ""), ("limited", "operator", "env=dev")):
        add_user(d, name + "-1", role, **({"selector": selector} if selector else {}))
        people[name] = jwt(d, name + "-1", ttl_ms=3600000)
    tokens = dict(people, agent=d.make_token("agents", cluster),
                  connect=d.make_token("connect", ["agent:connect"]),
                  reader=d.make_token("reader", ["agent:read", "event:read"]),
                  runner=d.make_token("runner", ["command:run"]),
                  forged=hs256(b"x" * 32, {"sub": "admin", "role": "admin", "exp": soon()}),
                  stranger="mst_" + "x" * 40)
    tokens[None] = None
    introduction = {"type": "dashboard:connect", "dashboardId": "x"}
    upper = {"type": "AGENT_CONNECT", "id": "m-1", "timestamp": 1, "payload": {
        "agentId": "door", "agentType": "CLAUDE", "version": "1.0.0"}}
    number = itertools.count()
    seen = set()
    for name, token in tokens.items():
        a = d.get("/api/v1/whoami", token=token or False)
        scopes = set(a.json["scopes"]) if a.status == 200 else None
        # As REST has it.
        see = {verdict(d.get("/api/v1/agents", token=token or False)),
               ask(d, {"method": "GET", "path": "/api/v1/events", "websocket": False}, token,
                   False)} - {"permitted"}
        see = see.pop() if see else "permitted"
        run = verdict(d.post("/api/v1/commands", {"agent": "nobody", "argv": ["true"]},
                             token=token or False))
        register = "UNAUTHORIZED" if scopes is None else \
            "permitted" if scopes & agents else "NOT_PERMITTED"
        seen |= {("see", see), ("run", run), ("register", register)}
        # As an upgrade.
        for path in "/ws", "/ws/dashboard":
            equal(enter(d, path, token, introduction), see, (path, name))
        for path in "/ws", "/ws/agent":
            hello = dict(upper, payload=dict(upper["payload"], agentId="door-%d" % next(number)))
            equal(enter(d, path, token, hello), register, (path, name))
        equal(enter(d, "/", token, None), see, ("/", name))
        equal(enter(d, "/api/v1/exec", token, {"agent": "nobody", "argv": ["true"]}), run,
              ("exec", name))
        # And as neither.
        for path in "/ws", "/ws/dashboard", "/ws/agent", "/api/v1/exec":
            equal(d.get(path, token=token or False).status, 426, (path, name))
    for what in "see", "run", "register":
        for said in "permitted", "NOT_PERMITTED", "UNAUTHORIZED":
            check((what, said) in seen, "nobody was", said, "to", what)


def test_messages_by_role(t):
    """What a role may not ask by REST it may not ask by a message either."""
    d = t.musterd("--request-rate", "100000", "--login-rate", "1000")
    pairs = [
        ({"type": "command:request", "agentId": "nobody", "command": "true"},
         ("POST", "/api/v1/commands", {"agent": "nobody", "argv": ["true"]})),
        ({"type": "command:interrupt", "commandId": "cmd_nothing"},
         ("POST", "/api/v1/commands/cmd_nothing/interrupt", {})),
        ({"type": "system:emergency-stop", "reason": "a test"},
         ("POST", "/api/v1/stop", {"scope": "all", "all": True, "reason": "a test"})),
    ]
    for role in ("viewer", "operator", "admin"):
        add_user(d, role + "-1", role)
        token = jwt(d, role + "-1")
        ws = console(d, token)
        for message, (method, path, body) in pairs:
            rest = verdict(d.call(method, path, body=body, token=token))
            ws.send(json.dumps(dict(message, requestId="r-1")))
            # A stop that is raised is told; what is refused has a code.
            ws.send(json.dumps({"type": "heartbeat:ping"}))
            said = []
            while not said or said[-1]["type"] != "heartbeat:pong":
                op, data = ws.frame()
                check(op == 1, "closed:", data)
                said.append(json.loads(data))
            refused = any(m.get("code") == "NOT_PERMITTED" for m in said)
            equal("NOT_PERMITTED" if refused else "permitted", rest, (role, message["type"], said))
        equal(rest, "NOT_PERMITTED" if role == "viewer" else "permitted", (role, "stop"))


def test_roles(t):
    """What the roles are, said once more than in the code."""
    lines = subprocess.run([os.path.join(BUILD, "musterd"), "routes"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    least = {(r["method"], r["path"]): r["roles"][0] for r in map(json.loads, lines)
             if r["hub"] and not r["open"]}
    for key, role in {("GET", "/api/v1/agents"): "viewer", ("GET", "/api/v1/commands"): "viewer",
                      ("GET", "/api/v1/commands/{}/output"): "viewer",
                      ("GET", "/api/v1/events"): "viewer", ("POST", "/api/v1/commands"): "operator",
                      ("DELETE", "/api/v1/agents/{}"): "operator", ("GET", "/api/v1/exec"): "operator",
                      ("GET", "/api/v1/audit"): "admin", ("POST", "/api/v1/tokens"): "admin",
                      ("POST", "/api/v1/users"): "admin",
                      ("POST", "/api/v1/users/{}/token"): "admin"}.items():
        equal(least[key], role, key)


# The command line -------------------------------------------------------------

def test_cli(t):
    d = t.musterd("--login-rate", "50")
    pw = t.path("pw", PASSWORD + "\n")
    t.cli(d, "user", "add", "olga", "--role", "operator", "--selector", "env=prod",
          "--password-file", pw, code=0)
    t.cli(d, "user", "add", "olga", "--role", "viewer", "--no-password", code=1)
    t.cli(d, "user", "add", "vera", code=2)
    got = t.cli(d, "user", "ls", "--json", code=0).json["items"]
    equal([(u["name"], u["role"], u["selector"], u["has_password"]) for u in got],
          [("admin", "admin", None, False), ("olga", "operator", "env=prod", True)])
    token = t.cli(d, "user", "token", "olga", "--ttl", "1h", code=0).out.decode().strip()
    equal(token.count("."), 2)
    equal(d.get("/api/v1/me", token=token)["user"]["name"], "olga")
    narrow = t.cli(d, "user", "token", "olga", "--scope", "agent:read", "--json", code=0).json["token"]
    equal(d.get("/api/v1/me", token=narrow)["scopes"], ["agent:read"])
    t.cli(d, "user", "selector", "olga", "-", code=0)
    equal(d.get("/api/v1/users/olga")["selector"], None)
    t.cli(d, "user", "role", "olga", "admin", code=0)
    t.cli(d, "user", "role", "olga", "king", code=2)
    t.cli(d, "user", "rm", "nobody", code=5)
    equal(t.cli(d, "user", "show", "olga", "--json", code=0).json["role"], "admin")
    t.cli(d, "user", "passwd", "olga", "--password-file", t.path("pw2", "another horse\n"), code=0)
    equal(d.get("/api/v1/me", token=token).status, 401)
    t.cli(d, "user", "rm", "olga", code=0)
    equal(d.get("/api/v1/users/olga").status, 404)


def test_cli_login(t):
    """A login renews itself, and many at once do it once."""
    # The token is about to end from the beginning on.
    d = t.musterd("--access-ttl", "61s", "--login-rate", "50")
    add_user(d, "olga", "operator")
    pw = t.path("pw", PASSWORD + "\n")
    home = {"HOME": t.dir, "XDG_CONFIG_HOME": t.dir, "MUSTER_TOKEN_FILE": "", "MUSTER_URL": ""}
    t.cli(d, "login", d.url, "--user", "olga", "--password-file", t.path("bad", "wrong horse"),
          env=home, code=4)
    t.cli(d, "login", d.url, "--user", "olga", "--password-file", pw, env=home, code=0)
    config = os.path.join(t.dir, "muster", "config")
    equal(os.stat(config).st_mode & 0o777, 0o600)

    def refresh():
        with open(config) as f:
            return re.search(r'refresh = "(\S+)"', f.read()).group(1)

    first = refresh()
    equal(t.cli(d, "whoami", "--json", env=home, code=0).json["user"]["name"], "olga")
    until(lambda: t.cli(d, "whoami", env=home, code=0) and refresh() != first, "renewed")
    at = [t.start("muster", [os.path.join(BUILD, "muster"), "whoami"], env=dict(t.env, **home))
          for _ in range(8)]
    equal([p.wait() for p in at], [0] * 8)
    # Another password: this login goes on, others do not.
    other = login(d, "olga")
    pw2 = t.path("pw2", "another horse\n")
    t.cli(d, "user", "passwd", "--old-password-file", pw2, "--password-file", pw2, env=home, code=4)
    t.cli(d, "user", "passwd", "--password-file", pw2, env=home, code=2)
    t.cli(d, "user", "passwd", "--old-password-file", pw, "--password-file", pw2, env=home, code=0)
    equal(d.get("/api/v1/me", token=other["token"]).status, 401)
    equal(d.post("/api/v1/auth/refresh", {"refresh_token": other["refresh_token"]}, token=False).status, 401)
    equal(login(d, "olga").status, 401)
    equal(login(d, "olga", "another horse").status, 200)
    t.cli(d, "whoami", env=home, code=0)
    check("over" in t.cli(d, "logout", env=home, code=0).err.decode())
    lines = d.get("/api/v1/audit?limit=100").json["items"]
    equal([x["action"] for x in lines if x["action"] in ("login.reuse", "user.logout")], ["user.logout"])


main(globals())
