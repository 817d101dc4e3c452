"""Origins, cookies, CSRF and CORS as a real browser keeps them."""
# timeout: 180

import http.server
import queue
import threading

from browser import browse, front, take
from harness import *

PASSWORD = "correct horse"

# Of our own origin, logged in by cookie.
OWN = """<!doctype html><script>
const post = (path, body, headers) => fetch(path, {method: 'POST', body: JSON.stringify(body),
  headers: Object.assign({'Content-Type': 'application/json'}, headers || {})});
const socket = (url) => new Promise((done) => {
  const ws = new WebSocket(url);
  ws.onopen = () => ws.send(JSON.stringify({type: 'dashboard:connect', dashboardId: 'browser'}));
  ws.onmessage = (e) => { done(JSON.parse(e.data).type); ws.close(); };
  ws.onclose = (e) => done('closed ' + e.code);
});
(async () => {
  const r = {};
  r.login = (await post('/api/v1/auth/login', {name: 'ada', password: '%(password)s', cookie: true})).status;
  r.cookie = document.cookie;
  r.me = (await (await fetch('/api/v1/me')).json()).user.name;
  r.bare = (await post('/api/v1/users', {name: 'bare', role: 'viewer'})).status;
  r.marked = (await post('/api/v1/users', {name: 'marked', role: 'viewer'}, {'X-Muster': '1'})).status;
  r.socket = await socket('ws://' + location.host + '/ws/dashboard');
  await fetch('%(report)s', {method: 'POST', mode: 'no-cors', body: JSON.stringify(r)});
  location = '%(foreign)s';
})();
</script>"""

# Of any other: the cookie is in the browser, and of no use.
OTHER = """<!doctype html><script>
const tried = async (f) => { try { const a = await f(); return a.type + ' ' + a.status; } catch (e) { return e.name; } };
const socket = (url) => new Promise((done) => {
  const ws = new WebSocket(url);
  ws.onopen = () => done('open');
  ws.onclose = (e) => done('closed ' + e.code);
});
(async () => {
  const r = {}, own = '%(own)s';
  r.read = await tried(() => fetch(own + '/api/v1/me', {credentials: 'include'}));
  r.token = await tried(() => fetch(own + '/api/v1/me', {headers: {Authorization: 'Bearer %(token)s'}}));
  r.blind = await tried(() => fetch(own + '/api/v1/users', {method: 'POST', mode: 'no-cors',
    credentials: 'include', body: JSON.stringify({name: 'blind', role: 'admin'})}));
  r.forged = await tried(() => fetch(own + '/api/v1/users', {method: 'POST', credentials: 'include',
    headers: {'X-Muster': '1'}, body: JSON.stringify({name: 'forged', role: 'admin'})}));
  r.socket = await socket(own.replace('http', 'ws') + '/ws/dashboard?token=%(token)s');
  await fetch('/report', {method: 'POST', body: JSON.stringify(r)});
  if ('%(next)s') location = '%(next)s';
})();
</script>"""


class Pages(http.server.BaseHTTPRequestHandler):
    """A page of another origin, and where all pages report."""

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(self.server.page.encode())

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.put(json.loads(text))
        self.answer(b"")

    def log_message(self, *args):
        pass


def pages(reports):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.reports, server.page = reports, ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Another site than 127.0.0.1, for a browser.
    return server, "http://localhost:%d" % server.server_port


def test_origins(t):
    reports = queue.Queue()
    foreign, foreign_url = pages(reports)
    listed, listed_url = pages(reports)
    listener = socket.create_server(("127.0.0.1", 0))
    own = "http://127.0.0.1:%d" % listener.getsockname()[1]
    target, page = [0], [""]
    threading.Thread(target=front, args=(listener, target, page), daemon=True).start()
    d = t.musterd("--public-url", own, "--cors-origins", listed_url)
    target[0] = d.port
    equal(d.post("/api/v1/users", {"name": "ada", "role": "admin", "password": PASSWORD}).status, 201)
    page[0] = OWN % {"password": PASSWORD, "report": foreign_url + "/report", "foreign": foreign_url}
    foreign.page = OTHER % {"own": own, "token": d.token, "next": listed_url}
    listed.page = OTHER % {"own": own, "token": d.token, "next": ""}
    p = browse(t, own + "/page")
    try:
        equal(take(reports, p), {"login": 200, "cookie": "", "me": "ada", "bare": 403, "marked": 201,
                                 "socket": "agent:list"})
        # Nothing can be read, sent with rights, or opened from there.
        equal(take(reports, p), {"read": "TypeError", "token": "TypeError", "blind": "opaque 0",
                                 "forged": "TypeError", "socket": "closed 1006"})
        # A listed origin may bring a token of its own, and no cookie.
        equal(take(reports, p), {"read": "TypeError", "token": "cors 200", "blind": "opaque 0",
                                 "forged": "TypeError", "socket": "open"})
        names = {u["name"] for u in d.get("/api/v1/users").json["items"]}
        equal(names, {"admin", "ada", "marked"})
    finally:
        for s in (foreign, listed):
            s.shutdown()
            s.server_close()
        listener.close()


main(globals())
