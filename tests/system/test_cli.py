#!/usr/bin/python3
"""Drives build/muster against a controller of scripts (cli_server.py)."""

import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_server import (BINARY, CLOSE, PATIENCE, SIGNAL, STDERR, STDIN, STDIN_EOF, STDOUT, TEXT,
                        Gone, Server, WebSocket, problem, refuse)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MUSTER = os.environ.get("MUSTER", os.path.join(ROOT, "build/muster"))
MIB = 1 << 20
TESTS = []


def test(f):
    TESTS.append(f)
    return f


class Home:
    """An empty home directory and a clean environment."""

    def __init__(self, server=None, token="tok_secret"):
        self.dir = tempfile.mkdtemp(prefix="cli-")
        self.env = {"HOME": self.dir, "PATH": os.environ["PATH"], "TERM": "xterm"}
        # What is freed is to be gone, where memory is measured.
        self.env["ASAN_OPTIONS"] = "quarantine_size_mb=1"
        if server:
            self.env["MUSTER_URL"] = server.url
        if token:
            self.env["MUSTER_TOKEN"] = token

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def config(self):
        return os.path.join(self.dir, ".config/muster/config")

    def start(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([MUSTER, *args], env=self.env, **kw)

    def run(self, *args, want=0, input=None, **kw):
        """(stdout, stderr) as text; asserts the exit code."""
        if input is not None:
            kw["stdin"] = subprocess.PIPE
        p = self.start(*args, **kw)
        try:
            out, err = p.communicate(input, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            p.kill()
            raise AssertionError("muster %s is stuck" % " ".join(args))
        same(p.returncode, want, "exit code of muster %s: %s" % (" ".join(args), err.decode()))
        return out.decode(), err.decode()

    def on_terminal(self, *args, columns=80, want=0, keys=b""):
        """What a terminal would show of stdout; stderr apart."""
        import fcntl
        import termios
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        p = self.start(*args, stdout=theirs)
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], PATIENCE)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            shown += piece
        os.close(ours)
        err = p.stderr.read().decode()
        p.stderr.close()
        same(p.wait(PATIENCE), want, err)
        return shown.decode().replace("\r\n", "\n"), err


def same(got, want, what=""):
    if got != want:
        raise AssertionError("%s: %r is not %r" % (what, got, want))


def has(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError("%r is not in %r" % (part, text))


def eventually(what, ask):
    end = time.monotonic() + PATIENCE
    while not ask():
        if time.monotonic() > end:
            raise AssertionError("never: " + what)
        time.sleep(0.01)


# Refusals ---------------------------------------------------------------------

@test
def exit_codes_of_refusals():
    cases = [(400, "", 2), (401, "", 4), (403, "NOT_PERMITTED", 4), (404, "AGENT_NOT_FOUND", 5),
             (409, "AGENT_OFFLINE", 6), (409, "AGENT_STOPPED", 8), (409, "OTHER", 1), (429, "RATE_LIMIT", 7),
             (500, "", 1), (503, "", 1)]
    for status, code, exit in cases:
        with Server(("GET", "/api/v1/agents/.*", refuse(status, code, "it is so", Retry_After=9))) as s, \
                Home(s) as h:
            out, err = h.run("agent", "show", "web-1", want=exit)
            same(out, "")
            same(err.count("\n"), 1, "one line")
            has(err, "muster agent show: it is so (%d" % status, code, "req_77", "try again in 9 s")


@test
def no_token_says_what_to_do():
    with Server(("GET", "/api/v1/whoami", refuse(401))) as s, Home(s, token=None) as h:
        has(h.run("whoami", want=4)[1], "muster login")
        assert "authorization" not in s.seen[0].fields


@test
def unreachable():
    with Home() as h:
        h.env["MUSTER_URL"] = "http://127.0.0.1:1"
        for args in (["whoami"], ["agent", "ls"], ["exec", "a", "--", "true"], ["status"], ["events"]):
            out, err = h.run(*args, want=1)
            same(out, "")
            has(err, "127.0.0.1:1", "MUSTER_URL", "is musterd running there?")
        has(h.run("doctor", want=1)[0], "bad\tcontroller")


@test
def garbage_for_answers():
    for body, kind in ((b"<html>", "text/html"), (b"{", "application/json"), (b"", "application/json")):
        with Server(("GET", ".*", lambda r: r.conn.answer(200, body, kind))) as s, Home(s) as h:
            has(h.run("whoami", want=1)[1], "without JSON")
    with Server(("GET", ".*", lambda r: r.conn.send(b"SSH-2.0-hello\r\n\r\n"))) as s, Home(s) as h:
        h.run("whoami", want=1)

    def cut(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        raise Gone()
    with Server(("GET", ".*", cut)) as s, Home(s) as h:
        h.run("whoami", want=1)


@test
def usage():
    with Home() as h:
        for args in ([], ["stop"], ["cp"], ["shell", "web-1"], ["agent"], ["agent", "nope"], ["exec"], ["exec", "web-1"],
                     ["exec", "--", "ls"], ["exec", "a", "--"], ["exec", "--nope", "a", "--", "b"], ["whoami", "x"],
                     ["agent", "wait", "a", "--timeout=soon"], ["agent", "wait", "a", "--for=happy"],
                     ["exec", "--env", "x", "a", "--", "b"], ["exec", "--priority=urgent", "a", "--", "b"],
                     ["token", "create"], ["agent", "ls", "--limit=0"], ["--json", "whoami"],
                     ["job", "logs", "--stream=both", "x"], ["agent", "label", "a", "b"],
                     ["login", "ftp://x"], ["completion", "fish"], ["help", "cp"], ["whoami", "--url", "nonsense"],
                     ["whoami", "--context", "nope"], ["whoami", "--token-file", "/nonexistent"]):
            out, err = h.run(*args, want=2)
            same(out, "", args)
            same(err.count("\n"), 1, args)
        has(h.run("cp", want=2)[1], "'cp'")
        has(h.run("agent", "--help")[0], "agent ls", "agent wait")
        has(h.run("exec", "-h")[0], "usage: muster exec [OPTIONS] TARGET... -- ARGV...", "--timeout=D")
        same(h.run("help", "exec"), h.run("exec", "--help"))
        same(h.run("--help"), h.run("help"))
        same(json.loads(h.run("version", "--json")[0])["schema"], "muster.version/1")


@test
def tokens_do_not_leave_in_the_clear():
    with Home() as h:
        for args in (["whoami"], ["exec", "a", "--", "true"], ["events"]):
            h.env["MUSTER_URL"] = "http://muster.invalid"
            err = h.run(*args, want=2)[1]
            has(err, "in the clear", "--insecure")
        h.run("whoami", "--insecure", want=1)


# Contexts -----------------------------------------------------------------------

WHO = {"schema": "muster.whoami/1", "user": {"id": "usr_1", "name": "ann", "role": "admin"},
       "token": {"name": "laptop"}, "scopes": ["agent:read"], "controller": {"version": "0.1.0"}}


def who(r):
    if r.fields.get("authorization") != "Bearer tok_good":
        return refuse(401)(r)
    return WHO


@test
def login_and_logout():
    with Server(("GET", "/api/v1/whoami", who)) as s, Server(("GET", "/api/v1/whoami", who)) as other, \
            Home(token=None) as h:
        h.run("login", s.url, input=b"tok_bad\n", want=4)
        assert not os.path.exists(h.config()), "a refused token was saved"
        h.run("login", s.url + "/", input=b"tok_good\n")
        same(os.stat(h.config()).st_mode & 0o777, 0o600)
        same(os.stat(os.path.dirname(h.config())).st_mode & 0o777, 0o700)
        has(h.run("whoami")[0], "user.name\tann")
        # The saved token is for that URL alone.
        h.run("whoami", "--url", other.url, want=4)
        assert "authorization" not in other.seen[-1].fields, "a token went to a foreign controller"
        path = h.file("token", "  tok_good\n\n")
        h.run("login", other.url, "--token-file", path, "--context", "two")
        h.env["MUSTER_URL"] = "http://127.0.0.1:1"
        h.run("whoami", "--context", "two")
        h.run("whoami", "--context", "default")
        del h.env["MUSTER_URL"]
        same(json.loads(h.run("whoami", "--json")[0]), WHO)
        same(other.seen[-1].path, "/api/v1/whoami", "login makes its context the current one")
        h.run("logout")
        assert "two" not in open(h.config()).read()
        h.run("whoami", "--context", "default")
        h.run("logout", "default")
        assert "tok_good" not in open(h.config()).read()
        h.run("logout", want=5)
        h.env["MUSTER_TOKEN_FILE"] = path
        h.run("whoami", "--url", s.url)


@test
def a_broken_config_is_named():
    with Home() as h:
        os.makedirs(os.path.dirname(h.config()))
        with open(h.config(), "w") as f:
            f.write("current = a\n[context\n")
        has(h.run("whoami", want=2)[1], h.config(), "line 2")


@test
def tls_by_ca_and_by_pin():
    with Home(token="tok_good") as h:
        cert, key = os.path.join(h.dir, "cert.pem"), os.path.join(h.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=x", "-addext",
                        "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=PATIENCE)
        der = subprocess.run("openssl x509 -in %s -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum" % cert,
                             shell=True, check=True, capture_output=True, timeout=PATIENCE).stdout
        pin = der.decode().split()[0]

        def run_it(r):
            ws = WebSocket(r)
            ws.accept()
            for i in range(6):
                ws.bulk(STDOUT, 50000 * i, b"x" * 50000)
            ws.ended()
        with Server(("GET", "/api/v1/whoami", who), ("GET", "/api/v1/exec", run_it), tls=(cert, key)) as s:
            has(h.run("whoami", "--url", s.url, want=1)[1], "certificate", "MUSTER_CA_FILE")
            h.env["MUSTER_CA_FILE"] = cert
            h.run("whoami", "--url", s.url)
            same(len(h.run("exec", "--url", s.url, "a", "--", "x")[0]), 300000)
            del h.env["MUSTER_CA_FILE"]
            h.run("login", s.url, "--pin", "0" * 64, want=1)
            h.run("login", s.url, "--pin", pin)
            del h.env["MUSTER_TOKEN"]
            h.run("whoami")
            same(len(h.run("exec", "a", "--", "x")[0]), 300000)


# Lists and what terminals see -------------------------------------------------------

def agent(i, **members):
    a = {"schema": "muster.agent/1", "agent_id": "agt_%d" % i, "name": "web-%d" % i, "status": "online",
         "status_since": "2020-01-01T00:00:00.000Z", "dialect": "cluster", "running": i, "labels": {"site": "a"}}
    a.update(members)
    return a


def pages(r):
    if "cursor=second%2F" in r.query:
        return {"schema": "muster.agents/1", "items": [agent(3)], "next": None}
    return {"schema": "muster.agents/1", "items": [agent(1), agent(2)], "next": "second/"}


@test
def lists_have_pages():
    with Server(("GET", "/api/v1/agents[?].*", pages)) as s, Home(s) as h:
        out = h.run("agent", "ls")[0]
        same(out.splitlines()[0],
             "web-1\tonline\t2020-01-01T00:00:00.000Z\tcluster\t1\tagt_1\tsite=a")
        same([line.split("\t")[0] for line in out.splitlines()], ["web-1", "web-2", "web-3"])
        same(len(h.run("agent", "ls", "--limit", "1")[0].splitlines()), 1)
        both = json.loads(h.run("agent", "ls", "--json")[0])
        same(both["schema"], "muster.agents/1")
        same([a["agent_id"] for a in both["items"]], ["agt_1", "agt_2", "agt_3"])
        h.run("agent", "ls", "-l", "site=a b", "-l", "os=x", "--status", "online")
        has(s.seen[-2].query, "selector=site%3Da%20b%2Cos%3Dx", "status=online")


@test
def terminals_see_no_foreign_controls():
    evil = "\x1b]0;owned\x07\x9b31m‮\n\tx"
    listed = {"schema": "muster.agents/1", "items": [agent(1, name=evil, labels={evil: evil})], "next": None}
    routes = (("GET", "/api/v1/agents[?].*", lambda r: listed),
              ("GET", "/api/v1/agents/.*", lambda r: listed["items"][0]),
              ("GET", "/api/v1/whoami", refuse(403, evil, evil)),
              ("GET", "/api/v1/tokens.*", lambda r: json.dumps(listed, ensure_ascii=False).encode() and
               r.conn.answer(200, json.dumps(listed, ensure_ascii=False).encode())))
    with Server(*routes) as s, Home(s) as h:
        h.env["NO_COLOR"] = "1"
        shown = [h.on_terminal("agent", "ls", columns=300), h.on_terminal("agent", "show", "x"),
                 h.run("agent", "ls"), h.run("agent", "show", "x"), h.run("whoami", want=4),
                 h.run("agent", "ls", "--json"), h.run("token", "ls", "--json")]
        for out, err in shown:
            for c in "\x1b\x07\x9b‮":
                assert c not in out + err, (out, err)
        has(shown[0][0], "\\x1b]0;owned\\x07\\u009b31m\\u202e\\n\\tx")
        has(shown[4][1], "\\x1b]0;owned")
        same(json.loads(shown[6][0])["items"][0]["name"], evil)


@test
def tables_fit_the_terminal():
    listed = {"schema": "muster.agents/1", "items": [agent(1, labels={"k": "v" * 200})], "next": None}
    with Server(("GET", "/api/v1/agents[?].*", lambda r: listed)) as s, Home(s) as h:
        out = h.on_terminal("agent", "ls", columns=70)[0]
        has(out, "\x1b[32monline\x1b[0m")
        h.env["NO_COLOR"] = "1"
        out = h.on_terminal("agent", "ls", columns=70)[0]
        same([len(line) for line in out.splitlines()][1], 70)
        has(out, "NAME", "…")


@test
def labels_and_removal():
    changed = []

    def label(r):
        changed.append(r.json())
        return agent(1)
    routes = (("GET", "/api/v1/agents/web-1", lambda r: agent(1)), ("PATCH", "/api/v1/agents/agt_1/labels", label),
              ("DELETE", "/api/v1/agents/agt_1", lambda r: r.conn.answer(204)))
    with Server(*routes) as s, Home(s) as h:
        h.run("agent", "label", "web-1", "site=b=c", "old-", "e=")
        same(changed, [{"site": "b=c", "old": None, "e": ""}])
        same(h.run("agent", "rm", "web-1"), ("", ""))
        h.run("agent", "rm", "web-2", want=5)


@test
def ambiguous_names():
    with Server(("GET", "/api/v1/agents/web", refuse(409, "AMBIGUOUS", "several agents fit: agt_1 agt_2"))) as s, \
            Home(s) as h:
        has(h.run("agent", "show", "web", want=2)[1], "agt_1", "agt_2")


@test
def waiting_for_an_agent():
    answers = [(404, None), (200, "reconnecting"), (503, None), (200, "busy")]

    def look(r):
        status, state = answers.pop(0) if len(answers) > 1 else answers[0]
        r.conn.answer(status, agent(1, status=state) if state else problem(status, "", "x"))
    with Server(("GET", "/api/v1/agents/web-1", look)) as s, Home(s) as h:
        h.run("agent", "wait", "web-1", "--for=online", "--timeout=20s")
        same(len(s.seen), 4)
        h.run("agent", "wait", "web-1", "--for", "offline", "--timeout", "100ms", want=124)
        answers[:] = [(404, None)]
        h.run("agent", "wait", "web-1", "--for=gone", "--timeout=5s")
        h.run("agent", "wait", "web-1", "--timeout=0", want=124)
        answers[:] = [(403, None)]
        h.run("agent", "wait", "web-1", want=4)


# Tokens -----------------------------------------------------------------------------

@test
def tokens():
    asked = []

    def create(r):
        asked.append(r.json())
        r.conn.answer(201, {"schema": "muster.token/1", "id": "tok_1", "name": "x", "token": "clt_abc"})

    def rotate(r):
        asked.append(r.json())
        return {"schema": "muster.token/1", "id": "tok_1", "token": "clt_new"}
    routes = (("POST", "/api/v1/tokens", create), ("POST", "/api/v1/tokens/x%20y/rotate", rotate),
              ("DELETE", "/api/v1/tokens/x%20y", lambda r: {"schema": "muster.token/1", "id": "tok_1"}))
    with Server(*routes) as s, Home(s) as h:
        same(h.run("token", "create", "ci"), ("clt_abc\n", ""))
        same(asked.pop(), {"name": "ci", "scopes": ["cluster:register", "cluster:heartbeat"]})
        h.run("token", "create", "ci", "--scope", "agent:read, command:run", "--scope=event:read", "--ttl", "7d",
              "--max-connections=5", "--allow", "10.0.0.0/8,::1/128")
        same(asked.pop(), {"name": "ci", "scopes": ["agent:read", "command:run", "event:read"], "ttl_ms": 604800000,
                           "max_connections": 5, "allow": ["10.0.0.0/8", "::1/128"]})
        same(json.loads(h.run("token", "create", "ci", "--json")[0])["token"], "clt_abc")
        out, err = h.on_terminal("token", "create", "ci")
        same(out, "clt_abc\n")
        has(err, "muster-agent join " + s.url)
        same(h.run("token", "rotate", "x y", "--overlap=1h")[0], "clt_new\n")
        same(asked.pop(), {"overlap_ms": 3600000})
        h.run("token", "revoke", "x y")


# exec -------------------------------------------------------------------------------

def exec_server(talk, **kw):
    """talk(ws, ask) once the request is accepted."""
    def run(r):
        same(r.fields["sec-websocket-protocol"], "muster.exec.v1")
        same(r.fields["authorization"], "Bearer tok_secret")
        ws = WebSocket(r)
        try:
            talk(ws, ws.accept())
        except (Gone, ConnectionError):
            pass
    return Server(("GET", "/api/v1/exec", run), **kw)


@test
def exec_carries_everything():
    asks = []

    def talk(ws, ask):
        asks.append(ask)
        ws.bulk(STDOUT, 0, b"out\xff\x1b[1m")
        ws.bulk(STDERR, 0, b"err\n")
        ws.ended(exit_code=7, state="failed")
    with exec_server(talk) as s, Home(s) as h:
        p = h.start("exec", "--env", "A=b=c", "--cwd=/tmp", "--user", "www", "--timeout=90", "-n", "web-1", "--", "ls",
                    "-l", "--json")
        same(p.communicate(timeout=PATIENCE), (b"out\xff\x1b[1m", b"err\n"))
        same(p.returncode, 7)
        key = asks[0].pop("request_key")
        assert len(key) > 20
        same(asks.pop(), {"agent": "web-1", "argv": ["ls", "-l", "--json"], "env": {"A": "b=c"}, "cwd": "/tmp",
                          "user": "www", "shell": False, "timeout_ms": 90000, "stdin": False})
        p = h.start("exec", "--shell", "web-1", "--", "echo", "$HOME;", "id")
        p.communicate(timeout=PATIENCE)
        same((asks[0]["argv"], asks[0]["shell"], asks[0]["stdin"]), (["echo $HOME; id"], True, True))
        assert asks[0]["request_key"] != key


@test
def exit_codes_of_commands():
    cases = [(dict(exit_code=0), 0), (dict(exit_code=255, state="failed"), 255),
             (dict(exit_code=None, signal=9, state="failed"), 137),
             (dict(exit_code=None, signal=9, state="failed", code="TIMEOUT"), 124),
             (dict(exit_code=None, state="failed", code="EXEC_FAILED", why="ENOENT"), 125),
             (dict(exit_code=None, state="failed", code="NOT_PERMITTED", why="line 12"), 4),
             (dict(exit_code=None, state="unknown", code="UNKNOWN_OUTCOME"), 1),
             (dict(exit_code=None, state="failed", code="AGENT_OFFLINE"), 6),
             (dict(exit_code=None, signal=9, state="interrupted", code="AGENT_STOPPED"), 8)]
    for members, exit in cases:
        with exec_server(lambda ws, ask: ws.ended(**members)) as s, Home(s) as h:
            err = h.run("exec", "a", "--", "x", want=exit)[1]
            if members.get("code"):
                same(err.count("\n"), 1)
                has(err, members.get("why", "cmd_1"))
            else:
                same(err, "")
    routes = (("GET", "/api/v1/commands/cmd_1", lambda r: {"id": "cmd_1", **finished}),)
    for members, exit in cases:
        finished = {"state": "completed", "exit_code": 0, "signal": None, **members}
        with Server(*routes) as s, Home(s) as h:
            h.run("job", "wait", "cmd_1", want=exit)


@test
def exec_refused():
    cases = [(409, "AGENT_OFFLINE", 6), (403, "NOT_PERMITTED", 4), (404, "AGENT_NOT_FOUND", 5),
             (409, "AGENT_STOPPED", 8), (429, "RATE_LIMIT", 7)]
    for status, code, exit in cases:
        def run(r):
            ws = WebSocket(r)
            ws.message()
            ws.words(type="refused", status=status, code=code, text="no, because")
            ws.finish()
        with Server(("GET", "/api/v1/exec", run)) as s, Home(s) as h:
            has(h.run("exec", "web-1", "--", "x", want=exit)[1], "web-1: no, because", code)
        with Server(("GET", "/api/v1/exec", refuse(status, code, "not at all"))) as s, Home(s) as h:
            has(h.run("exec", "web-1", "--", "x", want=exit)[1], "not at all", code)


@test
def exec_broken_protocols():
    def wrong_accept(r):
        r.conn.send(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n")
    def speaks(protocol):
        def handler(r):
            WebSocket(r, protocol)
        return handler
    for handler in (wrong_accept, lambda r: r.conn.send(b"\0\1\2 garbage\r\n\r\n"), speaks(None), speaks("other")):
        with Server(("GET", "/api/v1/exec", handler)) as s, Home(s) as h:
            h.run("exec", "a", "--", "x", want=1)

    def talk_garbage(bad):
        def talk(ws, ask):
            ws.conn.send(bad(ws))
            try:
                while ws.message() is not None:
                    pass
            except Gone:
                pass
        return talk
    for bad in (lambda ws: ws.frame(TEXT, b"{"), lambda ws: ws.frame(TEXT, b'{"type":"accepted","id":"again"}'),
                lambda ws: ws.frame(BINARY, b"\x02short"), lambda ws: b"\xff\xff\xff\xff", lambda ws: ws.frame(TEXT, b"\xff"),
                lambda ws: ws.frame(TEXT, b'{"type":"ended","command":{}}')):
        with exec_server(talk_garbage(bad)) as s, Home(s) as h:
            has(h.run("exec", "a", "--", "x", want=1)[1], "broke the protocol", "cmd_1")


@test
def exec_losing_the_controller():
    def cut(ws, ask):
        ws.bulk(STDOUT, 0, b"some")
        raise Gone()
    with exec_server(cut) as s, Home(s) as h:
        out, err = h.run("exec", "--reattach=0s", "a", "--", "x", want=1)
        same(out, "some")
        has(err, "muster job wait cmd_1", "goes on")

    def early(r):
        WebSocket(r).message()
        raise Gone()
    with Server(("GET", "/api/v1/exec", early)) as s, Home(s) as h:
        has(h.run("exec", "--reattach=0s", "a", "--", "x", want=1)[1], "may not have been started")


@test
def exec_coming_back():
    asked = []

    def cut(ws, ask):
        asked.append(ask)
        if len(asked) == 1:
            ws.bulk(STDOUT, 0, b"some")
            ws.bulk(STDERR, 0, b"err")
            raise Gone()
        # More than was asked for: it is not shown twice.
        ws.bulk(STDOUT, 2, b"me more")
        if len(asked) == 2:
            ws.send(CLOSE, struct.pack(">H", 1001))
            raise Gone()
        ws.ended(exit_code=3)
    with exec_server(cut) as s, Home(s) as h:
        out, err = h.run("exec", "a", "--", "x", want=3)
        same(out, "some more")
        same(err.count("attaching again"), 2)
        same(err.count("attached again"), 2)
        same(asked[1:], [{"attach": "cmd_1", "out": 4, "err": 3}, {"attach": "cmd_1", "out": 9, "err": 3}])

    # The token ends: of a login the next one is taken, without a word.
    bearers, refreshed = [], []

    def expire(r):
        bearers.append(r.fields["authorization"])
        ws = WebSocket(r)
        ask = ws.accept()
        if len(bearers) == 1:
            ws.bulk(STDOUT, 0, b"some")
            ws.send(CLOSE, struct.pack(">H", 1008) + b"token_expired")
            raise Gone()
        same(ask, {"attach": "cmd_1", "out": 4, "err": 0})
        ws.bulk(STDOUT, 4, b" more")
        ws.ended(exit_code=3)

    def refresh(r):
        refreshed.append(r.json())
        return {"token": "tok_next", "refresh_token": "ref_2", "expires_in": 900}
    routes = (("GET", "/api/v1/exec", expire), ("POST", "/api/v1/auth/refresh", refresh))
    with Server(*routes) as s, Home(token=None) as h:
        os.makedirs(os.path.dirname(h.config()), 0o700)
        with open(os.open(h.config(), os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write('current = "x"\n[context "x"]\nurl = "%s"\ntoken = "tok_first"\nrefresh = "ref_1"\n'
                    'renew = "0"\n' % s.url)
        # The token it began with may still be renewed at once.
        same(h.run("exec", "a", "--", "x", want=3), ("some more", ""))
        same(len(bearers), 2)
        same(bearers[1], "Bearer tok_next")
        same(refreshed[0], {"refresh_token": "ref_1"})
    # Another's it cannot replace.
    del bearers[:]
    with Server(*routes) as s, Home(s) as h:
        has(h.run("exec", "a", "--", "x", want=1)[1], "the token has expired", "job wait cmd_1")

    # Lost before it was accepted: asked for once more, with the same key.
    keys = []

    def early(r):
        ws = WebSocket(r)
        keys.append(json.loads(ws.message())["request_key"])
        if len(keys) < 3:
            raise Gone()
        ws.words(type="accepted", id="cmd_1", agent_id="agt_1")
        ws.ended(exit_code=0)
    with Server(("GET", "/api/v1/exec", early)) as s, Home(s) as h:
        h.run("exec", "a", "--", "x", want=0)
        same((len(keys), len(set(keys))), (3, 1))

    # A verdict is final.
    def revoked(ws, ask):
        ws.send(CLOSE, struct.pack(">H", 1008) + b"revoked")
        raise Gone()
    with exec_server(revoked) as s, Home(s) as h:
        has(h.run("exec", "a", "--", "x", want=1)[1], "goes on")

    first = []

    def refused(ws, ask):
        if not first:
            first.append(1)
            raise Gone()
    with exec_server(refused) as s, Home(s) as h:
        def deny(r):
            return exec_route(r) if not first else refuse(403, "NOT_PERMITTED")(r)
        exec_route = s.routes[0][2]
        s.routes = (("GET", "/api/v1/exec", deny),) + tuple(s.routes[1:])
        h.run("exec", "a", "--", "x", want=4)


@test
def exec_in_split_frames():
    def talk(ws, ask):
        data = struct.pack(">BQ", STDOUT, 0) + b"hello, world\n"
        bytes_ = ws.frame(BINARY, data[:5], fin=False) + ws.frame(9, b"ping") + ws.frame(0, data[5:11], fin=False) \
            + ws.frame(0, data[11:])
        for b in bytes_:
            ws.conn.send(bytes([b]))
        same(ws.recv(), (10, b"ping"))
        ws.ended()
    with exec_server(talk) as s, Home(s) as h:
        same(h.run("exec", "a", "--", "x")[0], "hello, world\n")


@test
def exec_input_keeps_to_its_credit():
    data = os.urandom(3 * MIB)
    got = bytearray()

    def talk(ws, ask):
        limit, eof = 0, False
        ws.conn.sock.settimeout(0.3)
        try:
            ws.recv()
            raise AssertionError("input came before any credit")
        except TimeoutError:
            ws.conn.sock.settimeout(PATIENCE)
        while not eof:
            if len(got) == limit:
                limit += 50000
                ws.ack(len(got), limit)
            body = ws.message()
            kind, offset = struct.unpack(">BQ", body[:9])
            same(offset, len(got))
            got.extend(body[9:])
            eof = kind == STDIN_EOF
            assert len(got) <= limit, "beyond the credit"
        ws.ended()
    with exec_server(talk) as s, Home(s) as h:
        h.run("exec", "a", "--", "cat", input=data)
        assert got == data


@test
def exec_without_input():
    def talk(ws, ask):
        same(ask["stdin"], False)
        ws.ended()
    with exec_server(talk) as s, Home(s) as h:
        p = h.start("exec", "-n", "a", "--", "x", stdin=subprocess.PIPE)
        same(p.wait(PATIENCE), 0)
        p.stdin.close()


def flood(total, sent):
    """Send so many bytes as fast as they are taken; sent counts."""
    block = bytes(range(256)) * 256

    def talk(ws, ask):
        while sent[0] < total:
            ws.bulk(STDOUT, sent[0], block)
            sent[0] += len(block)
        ws.ended()
    return talk


def resident(pid):
    with open("/proc/%d/status" % pid) as f:
        m = re.search(r"VmRSS:\s+(\d+)", f.read())
        return int(m.group(1)) // 1024 if m else 0  # it has ended


@test
def exec_slow_reader():
    """The sender is held back, memory does not grow, no byte is lost."""
    import hashlib
    total, sent = 96 * MIB, [0]
    with exec_server(flood(total, sent)) as s, Home(s) as h:
        p = h.start("exec", "a", "--", "x")
        last = -1
        while sent[0] != last:  # until nothing moves for a while
            last = sent[0]
            time.sleep(0.3)
        assert sent[0] < 32 * MIB, "%d bytes were read without a reader" % sent[0]
        before = resident(p.pid)
        digest, count = hashlib.sha256(), 0
        while True:
            piece = p.stdout.read(MIB)
            if not piece:
                break
            digest.update(piece)
            count += len(piece)
            if p.poll() is None:
                assert resident(p.pid) < before + 16, "memory grows"
        same(count, total)
        same(digest.digest(), hashlib.sha256(bytes(range(256)) * (total // 256)).digest())
        same(p.wait(PATIENCE), 0)
        p.stdout.close()
        p.stderr.close()


@test
def exec_stalled_reader_can_interrupt():
    sent, signals = [0], []

    def talk(ws, ask):
        def listen():
            try:
                while True:
                    body = ws.message()
                    if body is None:
                        return
                    if body[0] == SIGNAL:
                        signals.append(body[1])
            except (Gone, OSError):
                pass
        threading.Thread(target=listen, daemon=True).start()
        flood(1 << 40, sent)(ws, ask)
    with exec_server(talk) as s, Home(s) as h:
        p = h.start("exec", "a", "--", "x")
        eventually("the pipe is full", lambda: sent[0] > MIB)
        p.send_signal(signal.SIGINT)
        eventually("the interrupt is forwarded", lambda: signals == [1])
        p.send_signal(signal.SIGINT)
        same(p.wait(PATIENCE), 130)
        p.stdout.close()
        p.stderr.close()


@test
def exec_reader_gone():
    signals = []

    def talk(ws, ask):
        block, at = b"x" * 65536, 0
        ws.conn.sock.setblocking(True)
        def send():
            nonlocal at
            try:
                while not signals:
                    ws.bulk(STDOUT, at, block)
                    at += len(block)
            except OSError:
                pass
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        while not signals:
            body = ws.message()
            if body[0] == SIGNAL:
                signals.append(body[1])
        thread.join(PATIENCE)
        same(ws.recv()[0], CLOSE)
        ws.send(CLOSE, struct.pack(">H", 1000))
    with exec_server(talk) as s, Home(s) as h:
        p = h.start("exec", "a", "--", "yes")
        same(len(p.stdout.read(100000)), 100000)
        p.stdout.close()
        same(p.wait(PATIENCE), 0)
        same(signals, [1])
        same(p.stderr.read(), b"")
        p.stderr.close()


@test
def exec_interrupts():
    def talk(ws, ask):
        ws.bulk(STDOUT, 0, b"ready\n")
        body = None
        while not body or body[0] != SIGNAL:
            body = ws.message()
        same(body, bytes([SIGNAL, 1]))
        ws.ended(exit_code=None, signal=2, state="interrupted")
    with exec_server(talk) as s, Home(s) as h:
        p = h.start("exec", "a", "--", "x")
        p.stdout.readline()
        p.send_signal(signal.SIGINT)
        same(p.wait(PATIENCE), 130)
        p.stdout.close()
        p.stderr.close()


@test
def exec_on_several():
    def talk(ws, ask):
        name = ask["agent"]
        same(ask["stdin"], False)
        ws.bulk(STDOUT, 0, b"one " + name.encode() + b"\ntw")
        ws.bulk(STDOUT, 12, b"o\nlast")
        ws.ended(exit_code={"web-1": 0, "web-2": 9, "agt_3": 2}[name], state="completed")
    with exec_server(talk) as s, Home(s) as h:
        out = h.run("exec", "web-1", "web-2", "--", "x", want=9)[0]
        same(sorted(out.splitlines()), sorted(n + ": " + t for n in ("web-1", "web-2")
                                              for t in ("one " + n, "two", "last")))
        out = h.on_terminal("exec", "web-1", "web-2", "--", "x", want=9)[0]
        same(sorted(out.splitlines()), sorted(n + ": " + t for n in ("web-1", "web-2")
                                              for t in ("one " + n, "two", "last")))
    def labelled(r):
        has(r.query, "selector=site%3Da")
        return {"schema": "muster.agents/1", "items": [agent(3)], "next": None}
    with exec_server(talk) as s, Home(s) as h:
        s.routes += (("GET", "/api/v1/agents[?].*", labelled),)
        h.run("exec", "-l", "site=a", "-n", "--yes", "--", "x", want=2)
        err = h.run("exec", "-l", "site=a", "-n", "--", "x", want=2)[1]
        has(err, "--yes")
    with Server(("GET", "/api/v1/agents[?].*",
                 lambda r: {"schema": "muster.agents/1", "items": [], "next": None})) as s, Home(s) as h:
        h.run("exec", "-l", "site=b", "--", "x", want=5)


@test
def exec_in_json():
    def talk(ws, ask):
        ws.bulk(STDOUT, 0, b"text")
        ws.bulk(STDERR, 0, b"\xff")
        ws.ended(exit_code=3)
    with exec_server(talk) as s, Home(s) as h:
        lines = [json.loads(x) for x in h.run("exec", "--json", "a", "--", "x", want=3)[0].splitlines()]
        same([(x.get("stream"), x.get("text"), x.get("base64")) for x in lines],
             [("stdout", "text", None), ("stderr", None, "/w=="), (None, None, None)])
        same(lines[2]["exit_code"], 3)


@test
def lists_without_end():
    same_page = {"schema": "muster.agents/1", "items": [{"agent_id": "a"}], "next": "again"}
    for page in (same_page, dict(same_page, items=[])):
        with Server(("GET", r"/api/v1/agents.*", lambda r, page=page: r.conn.answer(200, page))) as s, Home(s) as h:
            assert "does not end" in h.run("agent", "ls", want=1)[1]


@test
def exec_detached():
    asked = []

    def create(r):
        asked.append((r.fields["idempotency-key"], r.json()))
        if r.json()["agent"] == "gone":
            return refuse(409, "AGENT_OFFLINE", "gone is offline")(r)
        r.conn.answer(201, {"schema": "muster.command/1", "id": "cmd_" + r.json()["agent"], "state": "queued"})
    with Server(("POST", "/api/v1/commands", create)) as s, Home(s) as h:
        same(h.run("exec", "-d", "a", "--", "x")[0], "cmd_a\n")
        same(json.loads(h.run("exec", "-d", "--json", "a", "--", "x")[0])["id"], "cmd_a")
        assert asked[0][0] != asked[1][0]
        del asked[:]
        same(h.run("exec", "-d", "--or-fail", "--priority=high", "--deadline=1h", "gone", "--", "x", want=6)[0], "")
        same(asked[0][1], {"agent": "gone", "argv": ["x"], "env": {}, "shell": False, "priority": "high",
                           "deadline_ms": 3600000, "or_fail": True})


@test
def exec_detached_on_many():
    """One request, one id a target, and a line for each that did not get one."""
    def create(r):
        same(r.json()["agents"], ["a", "gone", "b"])
        assert r.fields["idempotency-key"]
        made = lambda n, **more: {"target": n, "agent_id": "agt_" + n, "name": n, "status": "online",
                                  "cordoned_at": None, "problem": None,
                                  "command": {"schema": "muster.command/1", "id": "cmd_" + n, "state": "queued"}, **more}
        r.conn.answer(201, {"schema": "muster.fanout/1", "items": [
            made("a"), {"target": "gone", "agent_id": None, "name": None, "command": None,
                        "problem": {"status": 404, "code": "AGENT_NOT_FOUND", "detail": "there is no\x1b[2J such agent"}},
            made("b", status="offline")], "made": 2, "refused": 1})
    with Server(("POST", "/api/v1/commands", create)) as s, Home(s) as h:
        out, err = h.run("exec", "-d", "a", "gone", "a", "b", "--", "x", want=6)
        same(out, "cmd_a\ncmd_b\n")
        same(len(s.seen), 1)
        has(err, "gone: there is no", "b is offline: the command waits")
        assert "\x1b" not in err
        lines = h.run("exec", "-d", "--json", "a", "gone", "b", "--", "x", want=6)[0].splitlines()
        same([json.loads(line)["id"] for line in lines], ["cmd_a", "cmd_b"])
        has(h.run("exec", "-d", "--batch", "1", "a", "b", "--", "x", want=2)[1], "-d queues all at once")


def answering(h, keys, *args):
    """Run where a terminal can be asked, and type keys when it asks."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(MUSTER, ["muster", *args], h.env)
    shown = b""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and select.select([fd], [], [], PATIENCE)[0]:
        try:
            shown += os.read(fd, 65536)
        except OSError:
            break
        if keys and b"[y/N] " in shown:
            os.write(fd, keys)
            keys = b""
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@test
def exec_tells_the_place():
    def create(r):
        r.conn.answer(201, {"schema": "muster.command/1", "id": "cmd_1", "agent_id": "agt_1", "state": "queued",
                            "position": 3, "wait_ms": 7400})
    with Server(("POST", "/api/v1/commands", create), ("GET", "/api/v1/agents/agt_1", lambda r: agent(1))) as s, \
            Home(s) as h:
        exit, text = answering(h, b"", "exec", "-d", "web-1", "--", "x")
        same(exit, 0)
        has(text, "cmd_1", "place 3 in the queue of web-1, about 8 s to wait")
        same(h.run("exec", "-d", "web-1", "--", "x"), ("cmd_1\n", ""))


@test
def labels_are_asked_about():
    purged = []

    def purge(r):
        purged.append(r.path)
        r.conn.answer(200, {"schema": "muster.purged/1", "agent_id": "agt_1", "cancelled": 7})
    everyone = {"schema": "muster.agents/1", "items": [agent(1), agent(2)], "next": None}
    with Server(("GET", "/api/v1/agents[?].*", lambda r: everyone),
                ("DELETE", "/api/v1/agents/[^/]*/queue", purge)) as s, Home(s) as h:
        exit, text = answering(h, b"n\n", "job", "purge", "-l", "site=a")
        same((exit, purged), (1, []))
        has(text, "2 agents: web-1 web-2", "purge the queues of them? [y/N]", "nothing was done")
        exit, text = answering(h, b"y\n", "job", "purge", "-l", "site=a")
        same((exit, purged), (0, ["/api/v1/agents/agt_1/queue", "/api/v1/agents/agt_2/queue"]))
        # Where nobody can be asked it must be said before.
        out, err = h.run("job", "purge", "-l", "site=a", want=2)
        same(len(purged), 2)
        has(err, "web-1 web-2", "--yes")
        same(h.run("job", "purge", "-l", "site=a", "--yes")[0], "web-1\t7\nweb-2\t7\n")
        # What is spelt out needs no question.
        same(h.run("job", "purge", "agt_9")[0], "agt_9\t7\n")
        h.run("job", "purge", want=2)


@test
def exec_in_batches():
    running, most, begun = [0], [0], []
    lock = threading.Lock()

    def talk(ws, ask):
        name = ask["agent"]
        with lock:
            begun.append(name)
            running[0] += 1
            most[0] = max(most[0], running[0])
        ws.bulk(STDOUT, 0, name.encode() + b"\n")
        with lock:
            running[0] -= 1
        ws.ended(exit_code={"c": 4, "e": 5}.get(name, 0), state="completed")
    with exec_server(talk) as s, Home(s) as h:
        targets = ["a", "b", "c", "d", "e", "f", "g"]
        out = h.run("exec", "--batch=2", *targets, "--", "x", want=5)[0]
        same(sorted(out.splitlines()), [n + ": " + n for n in targets])
        same(sorted(begun), targets)
        assert most[0] <= 2
        del begun[:]
        out, err = h.run("exec", "--batch", "2", "--max-fail", "2", *targets, "--", "x", want=5)
        same(sorted(begun), targets[:6])
        has(err, "2 of 6 failed; 1 not begun")
        # By itself --max-fail goes one by one.
        del begun[:]
        most[0] = 0
        h.run("exec", "--max-fail=1", *targets, "--", "x", want=4)
        same((begun, most[0]), (["a", "b", "c"], 1))
        for bad in ("0", "257", "x"):
            h.run("exec", "--batch", bad, "a", "--", "x", want=2)


@test
def draining():
    left = [2, 1, 0]
    posted = []

    def cordon(r):
        posted.append(r.path)
        r.conn.answer(200, agent(1, cordoned_at="2020-01-01T00:00:00.000Z"))

    def look(r):
        return agent(1, running=left.pop(0) if len(left) > 1 else left[0])
    with Server(("POST", "/api/v1/agents/agt_1/.*", cordon), ("GET", "/api/v1/agents/(web-1|agt_1)", look),
                ("GET", "/api/v1/commands[?].*", lambda r: {"items": [{"id": "cmd_7", "state": "running"}], "next": None}
                 if "state=running" in r.query else {"items": [], "next": None})) as s, Home(s) as h:
        h.run("agent", "drain", "web-1", "--timeout=10s")
        same(posted, ["/api/v1/agents/agt_1/cordon"])
        left[:] = [3]
        err = h.run("agent", "drain", "web-1", "--timeout=200ms", want=124)[1]
        has(err, "3 still running", "stays cordoned", "cmd_7 is running")
        h.run("agent", "uncordon", "web-1")
        same(posted[-1], "/api/v1/agents/agt_1/uncordon")


# Jobs, journal, events ----------------------------------------------------------------

@test
def waiting_for_a_job():
    states = ["queued", "running", "completed"]

    def look(r):
        state = states.pop(0) if len(states) > 1 else states[0]
        return {"schema": "muster.command/1", "id": "cmd_1", "state": state,
                "exit_code": 5 if state == "completed" else None, "signal": None}
    with Server(("GET", "/api/v1/commands/cmd_1", look)) as s, Home(s) as h:
        out = h.run("job", "wait", "cmd_1", "--json", want=5)[0]
        same(json.loads(out)["exit_code"], 5)
        h.run("job", "wait", "cmd_2", want=5)
        states[:] = ["running"]
        h.run("job", "wait", "cmd_1", "--timeout=200ms", want=124)


@test
def logs():
    streams = {"stdout": b"out" * 100000, "stderr": b"err\n"}
    cuts = [1]

    def output(r):
        name = re.search("stream=(std...)", r.query).group(1)
        offset = int(re.search(r"offset=(\d+)", r.query).group(1))
        data = streams[name][offset:]
        if "follow=1" in r.query and name == "stdout" and cuts:
            cuts.pop()
            r.conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:1000])
            raise Gone()
        r.conn.answer(200, data, "application/octet-stream")
    with Server(("GET", "/api/v1/commands/cmd_1/output[?].*", output)) as s, Home(s) as h:
        both = (streams["stdout"].decode(), streams["stderr"].decode())
        same(h.run("job", "logs", "cmd_1"), both)
        same(h.run("job", "logs", "cmd_1", "--stream=stderr"), ("", both[1]))
        out, err = h.run("job", "logs", "-f", "cmd_1", "--stream", "stdout")
        same(out, both[0])
        has(s.seen[-1].query, "offset=1000&follow=1")
        lines = h.run("job", "logs", "--json", "cmd_1")[0].splitlines()
        same("".join(json.loads(x)["text"] for x in lines if json.loads(x)["stream"] == "stdout"), both[0])
        h.run("job", "logs", "cmd_2", want=5)
        p = h.start("job", "logs", "cmd_1")
        p.stdout.close()
        same(p.wait(PATIENCE), 0)
        p.stderr.close()


@test
def audit():
    lines = [{"number": n, "action": "x", "result": "ok"} for n in (2, 1)]
    holds = {"schema": "muster.audit_verified/1", "ok": True, "lines": 2}
    routes = (("GET", "/api/v1/audit[?].*", lambda r: {"schema": "muster.audit/1", "items": lines, "next": None}),
              ("GET", "/api/v1/audit/verify", lambda r: holds))
    with Server(*routes) as s, Home(s) as h:
        same(len(h.run("audit", "ls")[0].splitlines()), 2)
        same([json.loads(x) for x in h.run("audit", "export")[0].splitlines()], lines)
        h.run("audit", "verify")
        holds["ok"] = False
        h.run("audit", "verify", want=1)


@test
def events():
    def stream(r):
        last = r.fields.get("last-event-id")
        data = b""
        if last is None:
            data = b': hi\n\nevent: agent.online\nid: 7\ndata: {"schema":"muster.event/1","number":7,"name":"agent.on' \
                   b'line","agent_id":"agt_\xc2\x9b1","command_id":null,"data":{"why":"registered"},"at":"T"}\n\n'
        elif last == "7":
            data = b'id: 8\ndata: {"schema":"muster.event/1","number":8,"name":"bye"}\n\n'
        r.conn.answer(200, data, "text/event-stream", Connection="close")
        raise Gone()
    with Server(("GET", "/api/v1/events", stream)) as s, Home(s) as h:
        same(h.run("events")[0], "T\tagent.online\tagt_\\u009b1\t\twhy=registered\n")
        p = h.start("events", "-f", "--json")
        same([json.loads(p.stdout.readline())["number"] for _ in range(2)], [7, 8])
        p.send_signal(signal.SIGINT)
        same(p.wait(PATIENCE), 130)
        p.stdout.close()
        p.stderr.close()


# The rest ------------------------------------------------------------------------------

@test
def status_and_doctor():
    health = {"status": "ok", "version": "9.9.9"}
    routes = (("GET", "/api/v1/health", lambda r: r.conn.answer(200, health, Date="Thu, 01 Jan 2015 00:00:00 GMT")),
              ("GET", "/api/v1/agents[?].*", pages),
              ("GET", "/api/v1/whoami", lambda r: WHO))
    with Server(*routes) as s, Home(s) as h:
        out = json.loads(h.run("status", "--json")[0])
        same((out["schema"], out["agents"]["total"], out["agents"]["online"]), ("muster.status/1", 3, 3))
        assert "authorization" not in s.seen[0].fields
        has(h.run("status")[0], "agents\t3\n", "online\t3\n")
        out = h.run("doctor")[0]
        has(out, "warn\tclock", "behind", "warn\tversion", "ok\ttoken\tlaptop, from MUSTER_TOKEN")
        same(json.loads(h.run("doctor", "--json")[0])["schema"], "muster.doctor/1")
        h.env["MUSTER_TOKEN"] = ""
        has(h.run("doctor", want=1)[0], "bad\ttoken", "muster login")


@test
def completions():
    with Home() as h:
        script = h.run("completion", "bash")[0]
        for words, at, want in ((["ag"], 1, ["agent"]), (["agent", ""], 2, ["ls", "show", "label", "rm", "wait",
                                                                                    "cordon", "uncordon", "drain"]),
                                (["exec", "--or"], 2, ["--or-fail"]), (["agent", "wait", "--f"], 3, ["--for"])):
            asked = script + "COMP_WORDS=(muster %s); COMP_CWORD=%d; _muster; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
                " ".join("'%s'" % w for w in words), at)
            out = subprocess.run(["bash", "-c", asked], capture_output=True, timeout=PATIENCE, check=True).stdout
            same(out.decode().split(), want)
        h.run("completion", "zsh")


@test
def the_manual_agrees():
    page = open(os.path.join(ROOT, "man/muster.1")).read()
    subprocess.run(["mandoc", "-Tlint", "-Werror", os.path.join(ROOT, "man/muster.1")], check=True, timeout=PATIENCE)
    with Home() as h:
        listed = re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  +\S", h.run("help")[0].split("options of")[0], re.M)
        assert len(listed) > 20
        documented = re.findall(r"^\.It Cm ([a-z-]+(?: Cm [a-z-]+)?)", page, re.M)
        same(sorted(x.replace(" Cm ", " ") for x in documented), sorted(listed))
        for verb in listed:
            section = page.split(".It Cm " + verb.replace(" ", " Cm ") + "\n")
            section = section[1] if len(section) > 1 else page.split(".It Cm " + verb.replace(" ", " Cm ") + " ")[1]
            section = re.split(r"^\.It Cm |^\.Sh ", section, flags=re.M)[0]
            options = h.run("help", *verb.split())[0].partition("\noptions:\n")[2].partition("\noptions of")[0]
            for short, long in re.findall(r"^  (-\w)?(?:, )?(--[a-z-]+)?", options, re.M):
                for flag in filter(None, (short, long)):
                    assert re.search(r"\b(Fl|Op) .*%s\b" % re.escape(flag[1:]), section), "%s: %s" % (verb, flag)
        for name in re.findall(r"MUSTER_\w+|NO_COLOR", h.run("help")[0]):
            assert ".It Ev " + name in page, name
        for code in (0, 1, 2, 4, 5, 6, 7, 8, 124, 125, 130):
            assert re.search(r"^\.It (Er )?%d$" % code, page, re.M), code


def main():
    wanted = sys.argv[1:]
    failed = 0
    for t in TESTS:
        if wanted and t.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            t()
        except Exception as e:
            import traceback
            failed += 1
            print("FAILED: %s: %s" % (t.__name__, e))
            if wanted:
                traceback.print_exc()
        else:
            if wanted:
                print("ok: %s (%.1f s)" % (t.__name__, time.monotonic() - began))
    print("%d failed" % failed)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
