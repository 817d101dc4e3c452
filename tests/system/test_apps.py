#!/usr/bin/python3
"""Real applications through host routes, used by people in Chromium and by
git: what they see must be what localhost gives them.  Applications fall back
from WebSockets silently, so their frames are counted from outside the page."""
# timeout: 300

import gzip
import http.server
import os
import shutil
import subprocess
import threading
import time

from apps import *
from harness import *


def stayed_open(page, path):
    """One WebSocket from the first to the last; nothing wrong beside it."""
    equal(page["wrong"], [])
    sockets = [s for s in page["sockets"] if s["path"] == path]
    equal(len(sockets), 1, "WebSockets of the page: %r" % page["sockets"])
    check(not sockets[0]["closed"], "closed", sockets)
    return sockets[0]


def test_socket_io(t):
    """Two people in two browsers, each past a login wall by a link."""
    service = node(t, "chat.js")
    d, _ = world(t, first_line(service)["port"], "chat.localhost", "*.rooms.localhost", public=False)
    links = []
    for route, host in zip(d.routes, ("chat.localhost", "red.rooms.localhost")):
        a = d.post("/api/v1/routes/%s/links" % route, {"ttl_ms": 600000, "host": host})
        equal(a.status, 201, a)
        links.append(a["url"])
    pages = chromium(t, "chat", *links)
    for me, page in enumerate(pages):
        equal(page["transport"], "websocket")
        equal((page["connects"], page["disconnects"], page["reconnects"]), (1, 0, 0))
        other = str(1 - me)
        equal(page["said"], [[other, "hello \u20ac %d" % i] for i in range(100)] + [[other, 3 << 20]])
        s = stayed_open(page, "/socket.io/")
        # What was said and thrown, the acknowledgements of it, heartbeats.
        check(s["sent"] >= 102 + 4 and s["received"] >= 2 * 101 + 4, s)
    told = [json.loads(line) for line in service.out().splitlines()[1:]]
    equal([x for x in told if "upgrade" in x], 2 * [{"upgrade": "websocket"}])


# Server-sent events ----------------------------------------------------------

EVENTS = b"""<!doctype html><script>
const shown = [];
let opened = 0, errors = 0;
const events = new EventSource('/events');
events.onopen = () => { opened++; };
events.onerror = () => { errors++; };
// The next is only written when this one was shown.
events.onmessage = (e) => { shown.push(e.data); fetch('/next', {method: 'POST'}); };
</script>"""


class Events(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path != "/events":
            self.reply(EVENTS)
            return
        s = self.server
        s.streams += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        for i in range(10):
            self.wfile.write(b"data: event %d\n\n" % i)
            check(s.next.acquire(timeout=PATIENCE), "event %d was not shown" % i)
        self.connection.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError):
            equal(self.connection.recv(1), b"")
        s.gone = time.time()
        self.close_connection = True

    def do_POST(self):
        self.server.next.release()
        self.reply(b"")

    def log_message(self, *args):
        pass


def test_events(t):
    s = serve(t, Events, next=threading.Semaphore(0), streams=0, gone=None)
    d, _ = world(t, s.server_port, "events.localhost")
    r = chromium(t, "events", url(d, "events.localhost"))
    equal(r["shown"], ["event %d" % i for i in range(10)])
    equal((r["opened"], r["errors"], s.streams, r["wrong"]), (1, 0, 1, []))
    until(lambda: s.gone, "the service hears that the page went")
    check(s.gone - r["gone"] / 1000 < 2, "the service heard it late:", s.gone - r["gone"] / 1000)


# Node-RED --------------------------------------------------------------------

def node_red():
    """Node-RED by its lock file, installed once into build/."""
    source, to = ROOT + "/tests/system/node-red", ROOT + "/build/node-red"
    with open(source + "/package-lock.json", "rb") as f:
        want = f.read()
    with contextlib.suppress(OSError), open(to + "/done", "rb") as f:
        if f.read() == want:
            return to + "/node_modules/node-red/red.js"
    if not shutil.which("npm"):
        raise Skip("no npm")
    os.makedirs(to, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(source, name), to)
    try:
        p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", to + "/.npm"],
                           cwd=to, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False)
    except subprocess.TimeoutExpired:
        raise Skip("npm does not get Node-RED within 150 s") from None
    if p.returncode != 0:
        raise Skip("npm cannot install Node-RED: " + p.stderr[-300:])
    shutil.rmtree(to + "/.npm", ignore_errors=True)
    with open(to + "/done", "wb") as f:
        f.write(want)
    return to + "/node_modules/node-red/red.js"


SETTINGS = """module.exports = {
  uiHost: '127.0.0.1', flowFile: 'flows.json', credentialSecret: 'x',
  telemetry: { enabled: false, updateNotification: false },
  externalModules: { autoInstall: false, palette: { allowInstall: false } },
  editorTheme: { tours: false, projects: { enabled: false } },
};"""


def test_node_red(t):
    red = node_red()
    t.path("settings.js", SETTINGS)
    port = free_port()
    service = t.start("node-red", ["node", red, "-u", t.path("red"), "-s", t.path("settings.js"), "-p", str(port)])
    until(lambda: b"Server now running at" in service.out() or not service.running(), "Node-RED begins", 90)
    check(service.running(), service.out()[-2000:])
    d, _ = world(t, port, "red.localhost")
    r = chromium(t, "nodered", url(d, "red.localhost"))
    check(r["status"] in (200, 204), "deploy", r)
    equal(r["shown"], 3 * ['"it came through"'])
    equal(r["pushed"], 3)
    s = stayed_open(r, "/comms")
    check(s["sent"] >= 1 and s["received"] >= 4, s)
    with open(t.path("red/flows.json"), encoding="utf-8") as f:
        check({"inject", "debug"} <= {n["type"] for n in json.load(f)}, "deployed flows are stored")


# git -------------------------------------------------------------------------

class Git(http.server.BaseHTTPRequestHandler):
    """git http-backend, as a web server runs it."""
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.chunked += 1
        got = b""
        while True:
            size = int(self.rfile.readline(), 16)
            got += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return got

    def do_GET(self):
        body = self.body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path, _, query = self.path.partition("?")
        self.server.credentials.append(self.headers.get("X-Muster-Authorization"))
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.server.root, "GIT_HTTP_EXPORT_ALL": "1",
               "REMOTE_USER": "ada", "REMOTE_ADDR": "127.0.0.1", "REQUEST_METHOD": self.command, "PATH_INFO": path,
               "QUERY_STRING": query, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        p = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True)
        head, _, body = p.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = fields.pop("Status", "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


def test_git(t):
    """Clone, push and pull past a login wall, with a token of Muster's."""
    if not shutil.which("git"):
        raise Skip("no git")
    root = t.path("repositories")
    s = serve(t, Git, root=root, chunked=0, credentials=[])
    d, _ = world(t, s.server_port, "git.localhost", public=False)
    env = dict(t.env, GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
               GIT_COMMITTER_EMAIL="a@b", GIT_TERMINAL_PROMPT="0")

    def git(*words, at=t.dir, leave=True):
        more = ["-c", "http.extraHeader=X-Muster-Authorization: Bearer " + d.token] if leave else []
        p = subprocess.run(["git", *more, *words], cwd=at, env=env, capture_output=True, text=True, timeout=60,
                           check=False)
        return p.returncode, p.stdout + p.stderr

    def ok(*words, **more):
        code, text = git(*words, **more)
        equal(code, 0, "git %s: %s" % (" ".join(words), text))
        return text.strip()

    repo = url(d, "git.localhost", "/it.git")
    ok("init", "-q", "--bare", "-b", "main", root + "/it.git")
    ok("config", "http.receivepack", "true", at=root + "/it.git")
    check(git("clone", "-q", repo, "wall", leave=False)[0] != 0, "past the wall without leave")
    ok("clone", "-q", repo, "one")
    one = t.path("one")
    for i in range(50):
        t.path("one/small-%d" % i, "%d\n" % i)
    # More than http.postBuffer: sent in chunks.
    t.path("one/big", os.urandom(6 << 20))
    ok("checkout", "-q", "-b", "main", at=one)
    ok("add", ".", at=one)
    ok("commit", "-q", "-m", "first", at=one)
    ok("push", "-q", "origin", "main", at=one)
    check(s.chunked >= 1, "no chunked push")
    ok("clone", "-q", repo, "two")
    equal(ok("rev-parse", "HEAD", at=t.path("two")), ok("rev-parse", "HEAD", at=one))
    ok("fsck", "--strict", at=t.path("two"))
    with open(t.path("one/big"), "rb") as f, open(t.path("two/big"), "rb") as g:
        equal(hash(f.read()), hash(g.read()), "the big file")
    t.path("two/more", "more\n")
    ok("add", ".", at=t.path("two"))
    ok("commit", "-q", "-m", "second", at=t.path("two"))
    ok("push", "-q", "origin", "main", at=t.path("two"))
    ok("pull", "-q", "origin", "main", at=one)
    equal(ok("rev-parse", "HEAD", at=one), ok("rev-parse", "HEAD", at=t.path("two")))
    equal(set(s.credentials), {None}, "Muster's token reached the service")


main(globals())
