"""harness: real programs for system tests.

    from harness import *

    def test_something(t):
        d = t.musterd("--dev")
        check(d.get("/health").status == 200, "health")

    main(globals())

Each test gets a case `t` of its own: a temporary directory, and everything
that it starts is ended, by its process id, when the test is over.  A test
fails by an exception; then the logs of its programs are shown.  Nothing
waits by sleeping: `until` polls a condition until a deadline.

MUSTER_BUILD chooses another directory of programs than build/.
"""

import contextlib
import ctypes
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
BUILD = os.path.join(ROOT, os.environ.get("MUSTER_BUILD", "build"))
PATIENCE = 30  # seconds before anything is called stuck
WS_PATH = "/api/v1/clusters/agent/ws"


class Skip(Exception):
    """What the test needs is not here."""


def check(condition, *why):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in why) or "check failed")


def equal(got, want, why=""):
    if got != want:
        raise AssertionError("%s: got %r, want %r" % (why or "differs", got, want))


def until(condition, why="it", limit=PATIENCE, every=0.02):
    """Wait for condition() to be true; returns what it returned."""
    end = time.monotonic() + limit
    while True:
        got = condition()
        if got:
            return got
        check(time.monotonic() < end, "after %g s still not:" % limit, why)
        time.sleep(every)


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 0))
        return s.getsockname()[1]


def rss_kib(pid):
    """Anonymous resident memory."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^RssAnon:\s+(\d+)", f.read(), re.M).group(1))


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def parents():
    """Of every living process: {pid: parent}."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    rest = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if rest[0] not in "ZX":
                found[int(name)] = int(rest[1])
    return found


def children(pid):
    return [p for p, up in parents().items() if up == pid]


def adopt():
    """From here on, what loses its parent below us becomes our child."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants():
    tree, mine = parents(), {os.getpid()}
    while True:
        more = {p for p, up in tree.items() if up in mine} - mine
        if not more:
            return mine - {os.getpid()}
        mine |= more


def end_all(grace=0.0):
    """End all that lives below us, by process id, once those that we know
    were waited for.  Returns what it was."""
    end = time.monotonic() + grace
    while descendants() and time.monotonic() < end:
        reap()
        time.sleep(0.02)
    names = []
    for _ in range(100):
        left = descendants()
        if not left:
            break
        for pid in left:
            with contextlib.suppress(OSError):
                with open("/proc/%d/cmdline" % pid, "rb") as f:
                    words = f.read().replace(b"\0", b" ").decode("utf-8", "replace")
                names.append("%d %s" % (pid, words.strip()))
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        reap()
    reap()
    return names


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


class Program:
    """A started program; what it writes is kept in files."""

    def __init__(self, case, name, argv, env=None, stdin=subprocess.DEVNULL,
                 stdout=None, pass_fds=(), preexec_fn=None, cwd=None):
        self.name = name
        self.log_path = os.path.join(case.dir, "%s.%d.log" % (name, next(case.numbers)))
        self.out_path = self.log_path[:-4] + ".out"
        full = dict(case.env, **(env or {}))
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(
                argv, env=full, stdin=stdin, stderr=log, cwd=cwd or case.dir,
                stdout=out if stdout is None else stdout,
                pass_fds=pass_fds, preexec_fn=preexec_fn)
        self.pid = self.process.pid
        case.programs.append(self)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def out(self):
        with open(self.out_path, "rb") as f:
            return f.read()

    def log_has(self, text, limit=PATIENCE):
        def look():
            check(self.running() or text in self.log(), self.name,
                  "ended with", self.process.returncode, "before it logged", text)
            return text in self.log()
        until(look, "%s logs %r" % (self.name, text), limit)

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit=PATIENCE):
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s still runs after %g s" % (self.name, limit)) from None

    def stop(self, limit=PATIENCE):
        """SIGTERM; returns the exit status."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.wait(limit)

    def kill(self):
        """SIGKILL."""
        if self.running():
            self.process.kill()
        return self.wait()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return self.json[name]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The stable code of a problem."""
        equal(self.headers.get("Content-Type", "").split(";")[0],
              "application/problem+json", "type of %r" % self.body[:200])
        p = self.json
        equal(p["status"], self.status, "status in the problem")
        check(p["title"] and p["detail"], "a problem without words", p)
        return p["code"]

    def __repr__(self):
        return "<%d %r>" % (self.status, self.body[:300])


class Client:
    """Speaks HTTP to one controller; a new connection for each call."""

    def __init__(self, host, port, token=None, tls=None):
        self.host, self.port, self.token, self.tls = host, port, token, tls

    def connect(self, timeout=PATIENCE):
        s = socket.create_connection((self.host, self.port), timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(s, server_hostname=self.host) if self.tls else s

    def call(self, method, path, body=None, token=True, headers=None, timeout=PATIENCE):
        h = {"Host": "%s:%d" % (self.host, self.port)}
        if token:
            h["Authorization"] = "Bearer " + (self.token if token is True else token)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            h["Content-Type"] = "application/json"
        h.update(headers or {})
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        c.sock = self.connect(timeout)
        try:
            c.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in h.items():
                if value is not None:
                    c.putheader(name, value)
            if body is not None:
                c.putheader("Content-Length", str(len(body)))
            c.endheaders(body)
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.call("POST", path, body={} if body is None else body, **kw)

    def delete(self, path, **kw):
        return self.call("DELETE", path, **kw)

    def patch(self, path, body, **kw):
        return self.call("PATCH", path, body=body, **kw)

    def raw(self, data, timeout=PATIENCE):
        """Send bytes, return all that comes until the other end closes."""
        s = self.connect(timeout)
        with contextlib.closing(s):
            with contextlib.suppress(OSError):
                s.sendall(data)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    got += piece
            return got


class Musterd(Program, Client):
    def __init__(self, case, *flags, data=None, listen=("127.0.0.1:0",), env=None,
                 ready=True, pass_fds=(), preexec_fn=None):
        self.case = case
        self.data = data or os.path.join(case.dir, "data%d" % next(case.numbers))
        self.flags, self.env = flags, env
        argv = [os.path.join(BUILD, "musterd"), "--data", self.data]
        for l in listen:
            argv += ["--listen", l]
        Program.__init__(self, case, "musterd", argv + list(flags), env=env,
                         pass_fds=pass_fds, preexec_fn=preexec_fn)
        Client.__init__(self, "127.0.0.1", 0)
        if ready:
            self.wait_ready()

    def wait_ready(self):
        self.log_has("event=ready")
        found = re.search(r"event=listening .*?address=\S+:(\d+)", self.log())
        check(found, "no address in the log")
        self.port = int(found.group(1))
        with open(os.path.join(self.data, "admin.token")) as f:
            self.token = f.read().strip()
        return self

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    @property
    def ws_url(self):
        return "ws" + self.url[4:] + WS_PATH

    def again(self, *flags):
        """A new controller on the same data and port."""
        d = Musterd(self.case, *(flags or self.flags), data=self.data,
                    listen=("127.0.0.1:%d" % self.port,), ready=False, env=self.env)
        d.tls = self.tls
        return d.wait_ready()

    def make_token(self, name="test", scopes=("cluster:register", "cluster:heartbeat"), **more):
        a = self.post("/api/v1/tokens", dict(name=name, scopes=list(scopes), **more))
        equal(a.status, 201, a)
        return a["token"]

    def agent(self, ident):
        """An agent as REST shows it, None when there is none such."""
        a = self.get("/api/v1/agents/" + urllib.parse.quote(ident, safe=""))
        return a.json if a.status == 200 else None

    def agent_is(self, ident, *states, limit=PATIENCE):
        def look():
            a = self.agent(ident)
            return a if a and a["status"] in states else None
        return until(look, "%s is %s" % (ident, " or ".join(states)), limit)

    def command(self, ident):
        return self.get("/api/v1/commands/" + ident).json

    def command_ends(self, ident, limit=PATIENCE):
        return until(
            lambda: (lambda c: c if c["state"] not in ("queued", "sent", "running") else None)(
                self.command(ident)), "%s ends" % ident, limit)


class Agent(Program):
    """muster-agent run; joined before by Case.agent."""

    def __init__(self, case, state, env=None):
        self.case, self.state, self.env = case, state, env
        super().__init__(case, "agent",
                         [os.path.join(BUILD, "muster-agent"), "run", "--state", state], env=env)

    def again(self):
        return Agent(self.case, self.state, env=self.env)


class Ended:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return "<%d out %r err %r>" % (self.code, self.out[:500], self.err[:500])


class Case:
    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="muster-%s." % name[:20])
        self.programs = []
        self.numbers = itertools.count()  # so that threads may start programs
        self.cleanup = contextlib.ExitStack()
        home = os.path.join(self.dir, "home")
        os.mkdir(home)
        self.env = {"PATH": BUILD + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                    "HOME": home, "TMPDIR": self.dir, "LANG": "C.UTF-8",
                    "PYTHONDONTWRITEBYTECODE": "1"}
        for kept in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "MUSTER_BUILD"):
            if kept in os.environ:
                self.env[kept] = os.environ[kept]

    def path(self, name, text=None):
        """A file in the case's directory, written when text is given."""
        p = os.path.join(self.dir, name)
        if text is not None:
            with open(p, "wb" if isinstance(text, bytes) else "w") as f:
                f.write(text)
            os.chmod(p, 0o600)
        return p

    def start(self, name, argv, **more):
        return Program(self, name, argv, **more)

    def musterd(self, *flags, **more):
        return Musterd(self, *flags, **more)

    def join(self, d, name, allow="observe,exec", flags=(), state=None, env=None):
        """Enrol an agent; returns its state directory."""
        state = state or os.path.join(self.dir, "agent-" + name)
        token = self.path("token-%s-%d" % (name, next(self.numbers)), d.make_token("join-" + name))
        words = [os.path.join(BUILD, "muster-agent"), "join", d.url, "--token-file", token,
                 "--name", name, "--state", state]
        if allow is not None:
            words += ["--allow", allow]
        if os.geteuid() == 0 and "--exec-user" not in flags:
            words += ["--exec-user", "root"]
        p = self.start("join", words + list(flags), env=env)
        equal(p.wait(), 0, "join: " + p.log())
        return state

    def agent(self, d, name="web-1", allow="observe,exec", flags=(), online=True, env=None):
        a = Agent(self, self.join(d, name, allow, flags, env=env), env=env)
        if online:
            d.agent_is(name, "online", "busy")
        return a

    def cli_env(self, d):
        return dict(self.env, MUSTER_URL=d.url, MUSTER_TOKEN_FILE=os.path.join(d.data, "admin.token"))

    def cli(self, d, *words, input=None, env=None, limit=60, code=None):
        """Run muster to its end."""
        p = subprocess.run([os.path.join(BUILD, "muster"), *words],
                           env=dict(self.cli_env(d), **(env or {})), cwd=self.dir,
                           input=input, stdin=None if input is not None else subprocess.DEVNULL,
                           capture_output=True, timeout=limit, check=False)
        e = Ended(p.returncode, p.stdout, p.stderr)
        if code is not None:
            equal(e.code, code, "muster %s: %r" % (" ".join(words), e))
        return e

    def cli_start(self, d, *words, **more):
        return self.start("muster", [os.path.join(BUILD, "muster"), *words],
                          env=self.cli_env(d), **more)

    def end(self):
        # The last started first: agents before their controller.
        for p in reversed(self.programs):
            if p.running():
                p.process.terminate()
        limit = time.monotonic() + 5
        for p in reversed(self.programs):
            try:
                p.process.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                p.process.kill()
                p.process.wait()
            for f in (p.process.stdin, p.process.stdout):
                if f:
                    with contextlib.suppress(OSError):
                        f.close()
        self.cleanup.close()
        end_all()

    def logs(self):
        text = ""
        for p in self.programs:
            tail = p.log().splitlines()[-40:]
            if tail:
                text += "-- %s (pid %d, status %s)\n%s\n" % (
                    p.name, p.pid, p.process.returncode, "\n".join(tail))
        return text


def need(*programs):
    for p in programs:
        if not os.access(os.path.join(BUILD, p), os.X_OK):
            raise Skip("no %s" % p)


def main(names):
    """Run the test_* functions of a module, or those named as arguments."""
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt()
    tests = [n for n in names if n.startswith("test_") and callable(names[n])]
    wanted = [w for w in sys.argv[1:] if not w.startswith("-")]
    passed = failed = 0
    for name in tests:
        if wanted and not any(w in name for w in wanted):
            continue
        case, start = Case(name), time.monotonic()
        try:
            names[name](case)
            passed += 1
            word = "ok"
        except Skip as why:
            word = "skip: %s" % why
        except Exception:  # pylint: disable=broad-except
            failed += 1
            word = "FAILED"
            # The reason last, for of a long text the end is what is shown.
            print(case.logs())
            traceback.print_exc(file=sys.stdout)
        finally:
            case.end()
            shutil.rmtree(case.dir, ignore_errors=True)
        print("%6.2f s  %s: %s" % (time.monotonic() - start, name, word), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)
