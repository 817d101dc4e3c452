#!/usr/bin/python3
"""test_forward_cli: `muster forward` through the real programs to services of
this process, and to PostgreSQL where it is installed."""

import glob
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import PATIENCE, Skip, check, equal, main, until  # noqa: E402


class Service:
    """A TCP service: what it does with a connection is a function."""

    def __init__(self, case, serve):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        case.cleanup.callback(self.close)
        threading.Thread(target=self.run, daemon=True).start()

    def close(self):
        """Wakes the thread in accept, too."""
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        try:
            self.serve(s)
        except OSError:
            pass


def echo(s):
    while True:
        data = s.recv(65536)
        if not data:
            break
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    s.close()


def pour(n):
    def serve(s):
        s.sendall(b"p" * n)
        s.close()
    return serve


def read_all(s):
    data = b""
    while True:
        more = s.recv(1 << 20)
        if not more:
            return data
        data += more


def connect(port, host="127.0.0.1"):
    s = socket.create_connection((host, port), timeout=PATIENCE)
    s.settimeout(PATIENCE)
    return s


def world(case, *targets, listen=()):
    d = case.musterd()
    flags = [x for t in targets for x in ("--allow-target", t)]
    state = case.join(d, "web-1", "exec,tunnel", flags)
    path = os.path.join(state, "policy.conf")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace("[tunnel]\n", "[tunnel]\n" + "".join("listen = %s\n" % x for x in listen)))
    from harness import Agent
    a = Agent(case, state)
    d.agent_is("web-1", "online")
    return d, a


class Forward:
    """muster forward, and what it says."""

    def __init__(self, case, d, *words, via="web-1"):
        self.p = case.cli_start(d, "forward", *words, "--via", via, "--json", stdout=subprocess.PIPE)
        self.events = []
        self.more = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.process.stdout:
            e = json.loads(line)
            equal(e["schema"], "muster.forward/1")
            with self.more:
                self.events.append(e)
                self.more.notify()

    def event(self, kind, limit=PATIENCE):
        """The next of a kind, taken out."""
        def find():
            for i, e in enumerate(self.events):
                if e["event"] == kind:
                    return i
            return None
        with self.more:
            check(self.more.wait_for(lambda: find() is not None, limit), "no %s: %s" % (kind, self.events),
                  self.p.log())
            return self.events.pop(find())

    def port(self):
        return int(self.event("listening")["at"].rsplit(":", 1)[1])


def test_connections(case):
    service = Service(case, echo)
    d, _ = world(case, "127.0.0.1:*")
    f = Forward(case, d, "0:127.0.0.1:%d" % service.port)
    port = f.port()
    s = connect(port)
    s.sendall(b"hello")
    equal(s.recv(10), b"hello")
    data = os.urandom(4 << 20)
    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)), daemon=True).start()
    equal(hashlib.sha256(read_all(s)).digest(), hashlib.sha256(data).digest())
    s.close()
    # many beside each other, one of which reads nothing
    big = Service(case, pour(32 << 20))
    f2 = Forward(case, d, "0:127.0.0.1:%d" % big.port, "0:127.0.0.1:%d" % service.port)
    stuck, others = f2.port(), f2.port()
    lazy = connect(stuck)
    many = [connect(others) for _ in range(100)]
    for i, c in enumerate(many):
        c.sendall(b"%d" % i * 500)
    for i, c in enumerate(many):
        want = b"%d" % i * 500
        got = b""
        while len(got) < len(want):
            more = c.recv(65536)
            check(more, "ended at %d of %d" % (len(got), len(want)))
            got += more
        equal(got, want)
        c.close()
    equal(len(read_all(lazy)), 32 << 20)
    f.p.process.send_signal(signal.SIGINT)
    equal(f.p.wait(), 130)


def test_half_close(case):
    def answer(s):
        s.sendall(hashlib.sha256(read_all(s)).hexdigest().encode())
        s.close()

    service = Service(case, answer)
    d, _ = world(case, "127.0.0.1:*")
    f = Forward(case, d, "0:127.0.0.1:%d" % service.port)
    s = connect(f.port())
    data = os.urandom(1 << 20)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    equal(read_all(s), hashlib.sha256(data).hexdigest().encode())


def knock(port):
    """Connect to what may be refused at once; None when it already is."""
    try:
        return connect(port)
    except ConnectionResetError:
        return None


def reset_or_end(s):
    if s is None:
        return True
    try:
        return s.recv(10) == b""
    except ConnectionResetError:
        return True


def test_refusals(case):
    d, _ = world(case, "*:9")
    for host, codes in (("127.0.0.1", "TARGET_REFUSED"), ("localhost", "TARGET_REFUSED"),
                        ("169.254.169.254", "TARGET_REFUSED"), ("[::ffff:169.254.169.254]", "TARGET_REFUSED"),
                        ("2130706433", "TARGET_REFUSED"), ("0x7f.1", "TARGET_REFUSED"),
                        ("no-such.invalid", "NAME_NOT_FOUND")):
        f = Forward(case, d, "0:%s:9" % host)
        s = knock(f.port())
        e = f.event("refused")
        equal((e["hop"], e["code"]), ("agent", codes), e)
        check(reset_or_end(s), "an open connection")
        f.p.process.send_signal(signal.SIGINT)
        equal(f.p.wait(), 130)
    f = Forward(case, d, "0:db.example:5432")
    s = knock(f.port())
    e = f.event("refused")
    equal((e["hop"], e["code"]), ("agent", "NOT_PERMITTED"), e)
    # in words, one line with the hop
    p = case.cli_start(d, "forward", "0:db.example:5432", "--via", "web-1")
    p.log_has("listening on 127.0.0.1:")
    port = int(re.search(r"listening on 127.0.0.1:(\d+)", p.log()).group(1))
    s = knock(port)
    p.log_has(r"to db.example:5432: agent: NOT_PERMITTED")
    check(reset_or_end(s), "an open connection")
    # usage and who is not there
    for words, code in ((("8080",), 2), (("8080:x",), 2), (("a:b:c",), 2), (("1:2:3:4:5",), 2), ((), 2),
                        (("0:x:1", "--service", "a/b:1"), 2)):
        equal(case.cli(d, "forward", *words, "--via", "web-1").code, code, words)
    equal(case.cli(d, "forward", "0:x:1").code, 2)
    equal(case.cli(d, "forward", "0:x:1", "--via", "nobody").code, 5)
    busy = socket.create_server(("127.0.0.1", 0))
    e = case.cli(d, "forward", "%d:x:1" % busy.getsockname()[1], "--via", "web-1", code=1)
    check(b"cannot listen" in e.err, e)
    case.cli(d, "user", "add", "v", "--role", "viewer", "--no-password", code=0)
    token = case.cli(d, "user", "token", "v", "--ttl", "1h", code=0).out.decode().strip()
    equal(case.cli(d, "forward", "0:x:1", "--via", "web-1", env={"MUSTER_TOKEN": token}).code, 4)
    e = case.cli(d, "forward", "-R", "0:localhost:1", "--via", "web-1", code=4)
    check(b"NOT_PERMITTED" in e.err, e)


def test_udp(case):
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.bind(("127.0.0.1", 0))
    case.cleanup.callback(service.close)

    def serve():
        while True:
            try:
                data, peer = service.recvfrom(70000)
                service.sendto(b"<" + data[:60000] + b">", peer)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    d, _ = world(case, "127.0.0.1:*")
    f = Forward(case, d, "--udp", "0:127.0.0.1:%d" % service.getsockname()[1])
    port = f.port()
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for i, u in enumerate(sources):
        u.settimeout(PATIENCE)
        for data in (b"", b"%d" % i, b"x" * 1472, b"y" * 30000):
            u.sendto(data, ("127.0.0.1", port))
            equal(u.recv(70000), b"<" + data + b">")


def test_reverse(case):
    service = Service(case, echo)
    d, a = world(case, listen=("127.0.0.1:*",))
    f = Forward(case, d, "-R", "0:127.0.0.1:%d" % service.port)
    e = f.event("listening")
    check(e["reverse"], e)
    port = int(e["at"].rsplit(":", 1)[1])
    for _ in range(3):
        s = connect(port)
        data = os.urandom(300000)
        threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)), daemon=True).start()
        equal(read_all(s), data)
        s.close()
    # nobody here
    service.close()
    s = knock(port)
    check(reset_or_end(s), "an open connection")
    f.event("refused")
    # the agent comes back, and so does the port
    a.kill()
    a.again()
    f.event("listening", 60)
    f.p.process.send_signal(signal.SIGINT)
    equal(f.p.wait(), 130)


def test_broken_ways(case):
    service = Service(case, pour(1 << 30))
    alive = Service(case, echo)
    d, a = world(case, "127.0.0.1:*")
    f = Forward(case, d, "0:127.0.0.1:%d" % service.port, "0:127.0.0.1:%d" % alive.port)
    big, small = f.port(), f.port()
    # the agent is killed in mid-transfer: an honest error, at once
    s = connect(big)
    check(len(s.recv(100000)) > 0, "bytes")
    a.kill()
    begun = time.monotonic()
    try:
        while s.recv(1 << 20):
            pass
        check(False, "it looks like a whole answer")
    except ConnectionResetError:
        pass
    check(time.monotonic() - begun < PATIENCE, "late")
    s = knock(small)
    e = f.event("refused")
    equal((e["hop"], e["code"]), ("controller", "AGENT_OFFLINE"), e)
    a.again()
    d.agent_is("web-1", "online")
    # the controller goes and comes: connections end, the port stays
    s = connect(small)
    s.sendall(b"x")
    equal(s.recv(1), b"x")
    d.kill()
    check(reset_or_end(s), "an open connection")
    f.event("lost")
    d2 = d.again()
    f.event("connected", 60)
    d2.agent_is("web-1", "online", limit=60)
    s = connect(small)
    s.sendall(b"again")
    equal(s.recv(10), b"again")
    # a stop cuts it
    case.cli(d2, "stop", "--all", "--reason", "drill", "--yes")
    check(reset_or_end(s), "an open connection")
    s = knock(small)
    e = f.event("refused")
    check(e["code"] in ("STOPPED", "AGENT_STOPPED"), e)


def test_flat(case):
    """Opens and closes through all three leave nothing behind."""
    service = Service(case, echo)
    d, a = world(case, "127.0.0.1:*")
    f = Forward(case, d, "0:127.0.0.1:%d" % service.port)
    port = f.port()

    def some(n):
        for _ in range(n):
            batch = [connect(port) for _ in range(25)]
            for s in batch:
                s.sendall(b"x")
            for i, s in enumerate(batch):
                equal(s.recv(1), b"x")
                if i % 5 == 0:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()

    def open_files(p):
        return len(os.listdir("/proc/%d/fd" % p.process.pid))

    some(4)
    programs = (d, a, f.p)
    before = [open_files(p) for p in programs]
    some(16)
    until(lambda: all(open_files(p) <= n + 3 for p, n in zip(programs, before)), "descriptors are given back")


def postgres():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found or not os.path.exists("/usr/bin/psql"):
        raise Skip("no PostgreSQL")
    return os.path.dirname(found[-1])


def test_psql(case):
    bin_ = postgres()
    # It refuses to run as root, and others may not enter a test's directory.
    home = tempfile.mkdtemp(prefix="muster-pg.", dir="/tmp")
    case.cleanup.callback(shutil.rmtree, home)
    data = os.path.join(home, "data")
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(home, "nobody", "nogroup")
    subprocess.run([bin_ + "/initdb", "-D", data, "-U", "tester", "-A", "trust", "-N"], check=True, cwd="/",
                   stdout=subprocess.DEVNULL, **who)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([bin_ + "/postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                               "-c", "unix_socket_directories=", "-F"], cwd="/", stderr=subprocess.DEVNULL, **who)
    case.cleanup.callback(server.wait)
    case.cleanup.callback(server.terminate)
    d, _ = world(case, "127.0.0.1:*")
    f = Forward(case, d, "0:127.0.0.1:%d" % port)
    local = f.port()

    def ask(sql):
        return subprocess.run(["psql", "-h", "127.0.0.1", "-p", str(local), "-U", "tester", "-d", "postgres", "-At",
                               "-c", sql], capture_output=True, text=True, timeout=60, check=False)

    until(lambda: ask("select 1").stdout == "1\n", "PostgreSQL answers")
    equal(ask("select sum(n) from generate_series(1, 100000) n").stdout, "5000050000\n")
    equal(len(ask("select repeat('x', 1000000)").stdout), 1000001)
    check("syntax error" in ask("selekt").stderr, "its own error")


main(globals())
