#!/usr/bin/python3
"""Login walls of routes: who comes in and how; and what a hostile service can
do from behind one, in a browser whose user is logged in to Muster: nothing."""
# timeout: 180

import http.client
import http.server
import json
import queue
import socket
import threading
import time
import urllib.parse

from browser import browse, front, take
from harness import *  # noqa: F403

PASSWORD = "correct horse battery staple"


class Service(http.server.BaseHTTPRequestHandler):
    """Answers with its page, and tells what it was sent."""
    protocol_version = "HTTP/1.1"

    def reply(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        for name, value in self.server.fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append(self)
        if self.path == "/hang":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"1\r\nx\r\n")
            self.server.hanging.wait(30)
            return
        self.reply(self.server.page.encode())

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.put(json.loads(text))
        self.reply(b"{}")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Visitors break off: so it is meant here."""


def service(t, page="hello", fields=()):
    s = Server(("127.0.0.1", 0), Service)
    s.daemon_threads = True
    s.page, s.fields, s.seen, s.reports = page, fields, [], queue.Queue()
    s.hanging = threading.Event()
    threading.Thread(target=s.serve_forever, daemon=True).start()
    return s


def ask(d, host, path, method="GET", **fields):
    """One request of a browser at the gateway: status, fields, body."""
    c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=20)
    try:
        c.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        c.putheader("Host", "%s:%d" % (host, d.port))
        for name, value in fields.items():
            c.putheader(name.replace("_", "-"), value)
        c.endheaders()
        a = c.getresponse()
        return a.status, a.headers, a.read()
    finally:
        c.close()


def world(t, *more, page="hello", fields=()):
    s = service(t, page, fields)
    d = t.musterd(*more)
    t.agent(d, allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:%d" % s.server_port))
    to = {"host": "127.0.0.1", "port": s.server_port}
    a = d.post("/api/v1/routes", {"host": "app.localhost", "agent": "web-1", "to": to})
    equal(a.status, 201, a)
    d.route = a["id"]
    equal(d.post("/api/v1/routes", {"host": "other.localhost", "agent": "web-1", "to": to}).status, 201)
    equal(d.post("/api/v1/users", {"name": "ada", "role": "viewer", "password": PASSWORD}).status, 201)
    return s, d


def as_user(d, name):
    return d.post("/api/v1/users/%s/token" % name, {"ttl_ms": 600000})["token"]


def enter(d, token, **want):
    admin, d.token = d.token, token
    try:
        return d.post("/api/v1/tunnel/enter", want)
    finally:
        d.token = admin


def come_in(d, token, host="app.localhost", to="/x?y=1"):
    """By a handover to the wall's cookie, as "name=value"."""
    a = enter(d, token, route=d.route, host="%s:%d" % (host, d.port), to=to)
    equal(a.status, 200, a)
    url = urllib.parse.urlsplit(a["url"])
    equal((url.scheme, url.netloc, url.path), ("http", "%s:%d" % (host, d.port), "/.muster/enter"))
    status, f, _ = ask(d, host, url.path + "?" + url.query)
    equal((status, f["Location"]), (303, to))
    cookie = f["Set-Cookie"]
    check(cookie.startswith("muster_wall_") and "HttpOnly" in cookie and "SameSite=Lax" in cookie, cookie)
    return cookie.split(";")[0], url.path + "?" + url.query


def test_who_comes_in(t):
    s, d = world(t)
    status, f, body = ask(d, "app.localhost", "/x?y=1", Accept="application/json")
    equal((status, f["Content-Type"]), (401, "application/problem+json"), body)
    status, f, _ = ask(d, "app.localhost", "/x?y=1", Accept="text/html,*/*;q=0.8")
    equal(status, 303)
    url = urllib.parse.urlsplit(f["Location"])
    equal("%s://%s" % (url.scheme, url.netloc), d.url)
    equal((url.path, urllib.parse.parse_qs(url.query)), ("/tunnel/enter", {
        "route": [d.route], "host": ["app.localhost:%d" % d.port], "to": ["/x?y=1"]}))
    equal(ask(d, "app.localhost", "/", "POST", Accept="text/html", Content_Length="0")[0], 401)
    check(not s.seen, "nobody has passed")

    token = as_user(d, "ada")
    cookie, handover = come_in(d, token)
    status, _, body = ask(d, "app.localhost", "/x?y=1", Cookie="a=1; %s; b=2" % cookie)
    equal((status, body), (200, b"hello"))
    equal([(r.path, r.headers["Cookie"]) for r in s.seen], [("/x?y=1", "a=1; b=2")])
    # Once, and at its place alone.
    equal(ask(d, "app.localhost", handover)[0], 403)
    equal(ask(d, "other.localhost", "/", Cookie=cookie)[0], 401)
    a = enter(d, token, route=d.route, host="app.localhost:%d" % d.port, to="/")
    equal(ask(d, "other.localhost", "/.muster/enter?" + urllib.parse.urlsplit(a["url"]).query)[0], 403)
    # A neighbour's cookie of that name beside it harms nothing.
    name = cookie.split("=")[0]
    equal(ask(d, "app.localhost", "/", Cookie="%s=junk; %s" % (name, cookie))[0], 200)
    equal(ask(d, "app.localhost", "/", Cookie="%s=junk" % name)[0], 401)
    # Programs show a token of Muster's, which goes no further.
    status, _, _ = ask(d, "app.localhost", "/t", X_Muster_Authorization="Bearer " + token, Authorization="Bearer app")
    equal(status, 200)
    equal((s.seen[-1].headers["Authorization"], s.seen[-1].headers["X-Muster-Authorization"]), ("Bearer app", None))


def test_where_to(t):
    _, d = world(t)
    token = as_user(d, "ada")
    here = "app.localhost:%d" % d.port
    for want, status in (
            (dict(route=d.route, host="evil.example:%d" % d.port, to="/"), 404),
            (dict(route=d.route, host="app.localhost:1", to="/"), 404),
            (dict(route=d.route, host="other.localhost:%d" % d.port, to="/"), 404),
            (dict(route=d.route, host="app.localhost:%d@evil.example" % d.port, to="/"), 404),
            (dict(agent="web-1", host=here, to="/clusters/web-1/"), 404),
            (dict(route=d.route, host=here, to="//evil.example/"), 400),
            (dict(route=d.route, host=here, to="/\\evil.example/"), 400),
            (dict(route=d.route, host=here, to="/a\r\nSet-Cookie: x=y"), 400),
            (dict(route=d.route, host=here, to="/.muster/enter"), 400),
            (dict(route=d.route, agent="web-1", host=here, to="/"), 400),
            (dict(host=here, to="/"), 400)):
        equal(enter(d, token, **want).status, status, want)
    equal(enter(d, "mst_wrong", route=d.route, host=here, to="/").status, 401)
    # Nobody is handed over to what they may not see.
    equal(d.post("/api/v1/users", {"name": "far", "role": "operator", "selector": "env=none"}).status, 201)
    equal(enter(d, as_user(d, "far"), route=d.route, host=here, to="/").status, 403)
    # A page is answered there by GET alone, and only what is ours.
    equal(ask(d, "app.localhost", "/.muster/enter", "POST", Content_Length="0")[0], 405)
    equal(ask(d, "app.localhost", "/.muster/other")[0], 404)
    equal(ask(d, "app.localhost", "/.muster/enter")[0], 400)


def test_thrown_out(t):
    """A user who goes takes what is open along."""
    s, d = world(t)
    cookie, _ = come_in(d, as_user(d, "ada"))
    c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=20)
    c.request("GET", "/hang", headers={"Host": "app.localhost:%d" % d.port, "Cookie": cookie})
    a = c.getresponse()
    equal(a.read(1), b"x")
    begun = time.monotonic()
    equal(d.delete("/api/v1/users/ada").status, 200)
    try:
        rest = a.read()
    except (http.client.IncompleteRead, ConnectionError):
        rest = None
    equal(rest, None, "a clean end of what was cut")
    check(time.monotonic() - begun < 1, "cut late")
    s.hanging.set()
    equal(ask(d, "app.localhost", "/", Cookie=cookie)[0], 401)
    c.close()


def test_links(t):
    s, d = world(t)
    a = d.post("/api/v1/routes/%s/links" % d.route, {"ttl_ms": 60000})
    equal(a.status, 201, a)
    url = urllib.parse.urlsplit(a["url"])
    status, f, _ = ask(d, "app.localhost", "/p?a=1&%s&b=2" % url.query)
    equal((status, f["Location"]), (303, "/p?a=1&b=2"))
    cookie = f["Set-Cookie"].split(";")[0]
    equal(ask(d, "app.localhost", "/p?a=1&b=2", Cookie=cookie)[0], 200)
    equal(s.seen[-1].path, "/p?a=1&b=2")
    equal(ask(d, "other.localhost", "/?" + url.query)[0], 401)
    equal(ask(d, "app.localhost", "/?" + url.query + "x")[0], 401)
    equal(d.delete("/api/v1/routes/%s/links" % d.route).status, 204)
    equal(ask(d, "app.localhost", "/", Cookie=cookie)[0], 401)


# In a browser ----------------------------------------------------------------

# Muster's own origin: ada logs in, then goes to the service, as people do.
OWN = """<!doctype html><script>
fetch('/api/v1/auth/login', {method: 'POST', headers: {'Content-Type': 'application/json'},
  body: JSON.stringify({name: 'root', password: '%(password)s', cookie: true})})
  .then(() => { location = '%(app)s/first?x=1'; });
</script>"""

# The service: a stranger that wants the fleet.
HOSTILE = """<!doctype html><script>
const own = '%(own)s';
const tried = async (f) => { try { const a = await f(); return a.type + ' ' + a.status; } catch (e) { return e.name; } };
const socket = (url) => new Promise((done) => {
  const ws = new WebSocket(url);
  ws.onopen = () => done('open');
  ws.onclose = (e) => done('closed ' + e.code);
});
const framed = (url) => new Promise((done) => {
  const f = document.createElement('iframe');
  f.onload = () => { let r; try { r = 'open ' + f.contentDocument.body.innerText; } catch (e) { r = e.name; } done(r); };
  f.src = url;
  document.body.appendChild(f);
});
onload = async () => {
  const r = {at: location.pathname + location.search, cookie: document.cookie};
  const json = {'Content-Type': 'application/json', 'X-Muster': '1'};
  const body = JSON.stringify({name: 'mallory', role: 'admin', password: 'mallory mallory'});
  r.read = await tried(() => fetch(own + '/api/v1/agents', {credentials: 'include'}));
  r.blind = await tried(() => fetch(own + '/api/v1/users', {method: 'POST', mode: 'no-cors', credentials: 'include', body}));
  r.forged = await tried(() => fetch(own + '/api/v1/users', {method: 'POST', credentials: 'include', headers: json, body}));
  r.handed = await tried(() => fetch(own + '/api/v1/tunnel/enter', {method: 'POST', credentials: 'include', headers: json,
    body: JSON.stringify({route: '%(route)s', host: location.host, to: '/'})}));
  r.socket = await socket(own.replace('http', 'ws') + '/ws/dashboard');
  r.frame = await framed(own + '/tunnel/enter?route=%(route)s&host=' + location.host + '&to=/');
  r.here = await tried(() => fetch('/api/v1/agents', {credentials: 'include'}));
  r.api = (await (await fetch('/api/v1/agents')).text()).slice(0, 20);
  document.cookie = '__Host-muster=forged; Secure; Path=/';
  document.cookie = 'muster_wall_x=1; Path=/';
  await fetch('/report', {method: 'POST', body: JSON.stringify(r)});
};
</script><body></body>"""


def test_take_over(t):
    """An administrator of Muster, logged in, looks at a hostile service."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    own, app = "http://127.0.0.1:%d" % port, "http://app.localhost:%d" % port
    target, page = [0], [""]
    threading.Thread(target=front, args=(listener, target, page), daemon=True).start()
    s, d = world(t, "--public-url", own, fields=(
        ("Set-Cookie", "__Host-muster=stolen; Path=/; Secure"), ("Set-Cookie", "muster_wall_y=1; Path=/"),
        ("Set-Cookie", "mine=1; Path=/")))
    target[0] = d.port
    equal(d.post("/api/v1/users", {"name": "root", "role": "admin", "password": PASSWORD}).status, 201)
    s.page = HOSTILE % {"own": own, "route": d.route}
    page[0] = OWN % {"password": PASSWORD, "app": app}
    try:
        r = take(s.reports, browse(t, own + "/page"))
        api = r.pop("api")
        check(api.startswith("<!doctype html><scr"), "Muster's API on a route's host", api)
        equal(r, {"at": "/first?x=1", "cookie": "mine=1", "read": "TypeError", "blind": "opaque 0",
                  "forged": "TypeError", "handed": "TypeError", "socket": "closed 1006", "frame": "TypeError",
                  "here": "basic 200"})
        equal({u["name"] for u in d.get("/api/v1/users").json["items"]}, {"admin", "ada", "root"})
        for x in s.seen:
            cookies = x.headers["Cookie"] or ""
            check("muster" not in cookies and "Authorization" not in x.headers, cookies)
        check(all(x.path == "/first?x=1" or not x.path.startswith("/first") for x in s.seen), "the handover leaked")
        # Logged out of Muster is logged out of the service.
        check(d.get("/api/v1/agents").status == 200)
    finally:
        listener.close()


main(globals())
