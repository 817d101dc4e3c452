#!/usr/bin/python3
"""Gateway ports bound by configuration: real musterd, real agent."""
# timeout: 240

import hashlib
import os
import re
import signal
import socket
import threading

from harness import BUILD, ROOT, Skip, check, equal, main, need, until
from tunnel import Service, echo

LANES = ("1", "4")


def agent(t, d, name="web-1"):
    return t.agent(d, name, allow="exec,tunnel", flags=("--allow-target", "127.0.0.1:*"))


def section(name, to, agent="web-1", **more):
    lines = ['[port "%s"]' % name, "listen = 127.0.0.1:0", "agent = " + agent, "to = 127.0.0.1:%d" % to]
    return "\n".join(lines + ["%s = %s" % x for x in more.items()]) + "\n"


def conf(t, text):
    path = t.path("muster%d.conf" % next(t.numbers))
    with open(path, "w") as f:
        f.write(text)
    return path


def port_of(d, name):
    return int(re.search(r"event=port_listens .*port=%s address=127.0.0.1:(\d+)" % name, d.log()).group(1))


def each(t, text, *flags):
    need("musterd", "muster-agent")
    for n in LANES:
        d = t.musterd("--lanes", n, "--config", conf(t, text), *flags)
        a = agent(t, d)
        yield d, a
        a.stop()
        equal(d.stop(), 0)
        check("ThreadSanitizer" not in d.log(), "a race with --lanes", n)


def get(s, n):
    out = bytearray()
    while len(out) < n:
        data = s.recv(1 << 16)
        check(data, "ended after", len(out), "of", n)
        out += data
    return bytes(out)


def dial(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.settimeout(30)
    return s


def test_tcp(t):
    service = Service(echo)
    blob = os.urandom(1 << 20) * 16
    for d, _ in each(t, section("db", service.port)):
        port = port_of(d, "db")
        for _ in range(6):
            with dial(port) as s:
                s.sendall(b"hello")
                equal(get(s, 5), b"hello")
                s.shutdown(socket.SHUT_WR)
                equal(s.recv(10), b"", "half-close reaches the service, and its end us")
        with dial(port) as s:
            w = threading.Thread(target=lambda: (s.sendall(blob), s.shutdown(socket.SHUT_WR)))
            w.start()
            equal(hashlib.sha256(get(s, len(blob))).digest(), hashlib.sha256(blob).digest())
            w.join()
            equal(s.recv(10), b"")
        def open_streams():
            return 'muster_streams_open{kind="tcp"} 0' in d.get("/metrics").body.decode()
        until(open_streams, "all streams are closed")
    service.close()


def cut(s):
    """Whether the peer has reset or closed it."""
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def turned_away(port):
    try:
        with dial(port) as s:
            return cut(s)
    except ConnectionResetError:
        return True


def served(port):
    try:
        with dial(port) as s:
            s.sendall(b"x")
            return s.recv(1) == b"x"
    except ConnectionResetError:
        return False


def test_nobody_there(t):
    free = socket.create_server(("127.0.0.1", 0))
    nobody = free.getsockname()[1]
    free.close()
    for d, a in each(t, section("gone", nobody) + section("who", nobody, agent="web-9")):
        check(turned_away(port_of(d, "gone")), "the service is not there")
        d.log_has("code=CONNECT_REFUSED")
        check(turned_away(port_of(d, "who")), "no such agent")
        d.log_has("code=AGENT_NOT_FOUND")


def test_limits(t):
    service = Service(echo)
    for d, a in each(t, section("few", service.port, connections=2, idle="1s")):
        port = port_of(d, "few")
        held = [dial(port) for _ in range(2)]
        for s in held:
            s.sendall(b"x")
            equal(get(s, 1), b"x")
        check('muster_port_connections{port="few"} 2' in d.get("/metrics").body.decode(), "two")
        check(turned_away(port), "a third")
        d.log_has("port_full")
        # Who is quiet goes, and makes room.
        for s in held:
            check(cut(s), "idle")
        until(lambda: served(port), "room again")
        with dial(port) as s:
            s.sendall(b"y")
            equal(get(s, 1), b"y")
            # A stop ends it.
            equal(d.post("/api/v1/stop", {"scope": "all", "reason": "test"}).status // 100, 2)
            check(cut(s), "stopped")
        equal(d.post("/api/v1/resume", {"scope": "all"}).status // 100, 2)
    service.close()


def test_agent_comes_back(t):
    service = Service(echo)
    for d, a in each(t, section("db", service.port)):
        port = port_of(d, "db")
        with dial(port) as s:
            s.sendall(b"x")
            equal(get(s, 1), b"x")
            a.kill()
            check(cut(s), "its agent is dead")
        a = a.again()
        until(lambda: d.agent("web-1")["status"] == "online", "back")

        until(lambda: served(port), "served again")
        a.stop()
    service.close()


def test_udp(t):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(("127.0.0.1", 0))

    def serve():
        while True:
            data, source = u.recvfrom(65536)
            if data == b"end":
                return
            u.sendto(data[::-1], source)
    threading.Thread(target=serve, daemon=True).start()
    to = u.getsockname()[1]
    for d, a in each(t, section("dns", to, protocol="udp", idle="1s", connections=3)):
        where = ("127.0.0.1", port_of(d, "dns"))
        sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for i, s in enumerate(sources):
            s.settimeout(30)
            for data in (b"%d" % i, b"%dab" % i * 300, b"%dc" % i * 4000):
                s.sendto(data, where)
                equal(s.recv(65536), data[::-1])
        check('muster_streams_open{kind="udp"} 3' in d.get("/metrics").body.decode(), "three sources")
        # Those that are quiet are forgotten, and make room.
        until(lambda: 'muster_streams_open{kind="udp"} 0' in d.get("/metrics").body.decode(), "idle")
        # It follows its agent, to whichever lane that comes back on.
        for _ in range(2):
            a.kill()
            until(lambda: d.agent("web-1")["status"] != "online", "its agent is gone")
            a = a.again()
            until(lambda: d.agent("web-1")["status"] == "online", "back")

            def answered():
                sources[0].settimeout(0.3)
                sources[0].sendto(b"xyz", where)
                try:
                    return sources[0].recv(100) == b"zyx"
                except TimeoutError:
                    return False
            until(answered, "served again")
        for s in sources:
            s.close()
        a.stop()
    u.sendto(b"end", ("127.0.0.1", to))


def test_slow_reader(t):
    """What a visitor does not read stays with the service."""
    sent = [0]

    def flood(s):
        while True:
            sent[0] += s.send(b"z" * 65536)
    source, service = Service(flood), Service(echo)
    for d, a in each(t, section("big", source.port) + section("small", service.port)):
        sent[0] = 0
        s = dial(port_of(d, "big"))
        get(s, 1 << 20)
        q = dial(port_of(d, "small"))
        for i in range(100):
            q.sendall(b"%06d" % i)
            equal(get(q, 6), b"%06d" % i)
        check(sent[0] < 64 << 20, sent[0])
        s.close()
        q.close()
    source.close()
    service.close()


def test_drain(t):
    service = Service(echo)
    d = t.musterd("--config", conf(t, section("db", service.port)), "--drain-grace", "2s")
    a = agent(t, d)
    s = dial(port_of(d, "db"))
    s.sendall(b"x")
    equal(get(s, 1), b"x")
    d.signal(signal.SIGTERM)
    equal(d.wait(), 0)
    check(cut(s), "cut at the end")
    a.stop()
    service.close()


def test_configuration(t):
    need("musterd")
    bad = conf(t, section("db", 1) + section("db", 2)
               + '[port "a"]\nlisten = nowhere\nagent = x\nto = y:1\n'
               + '[port "b"]\nlisten = 127.0.0.1:0\nagent = x\nto = y\n'
               + '[port "c"]\nagent = x\n'
               + '[port "d"]\nlisten = 127.0.0.1:0\nagent = x\nto = y:1\nprotocol = ftp\nlimit = 7\n')
    p = t.start("check", [os.path.join(BUILD, "musterd"), "check", "--config", bad, "--data", t.path("x")])
    equal(p.wait(), 1)
    said = p.out().decode() + p.log()
    for part in ('5: port "db" is there twice', '9: port "a" has a listen', '13: port "b" has a to',
                 '17: port "c" needs', '19: port "d" has a protocol', '24: unknown key "limit"'):
        check(part in said, part, "is not in", said)


def test_races(t):
    tsan = os.path.join(ROOT, "build", "tsan", "musterd")
    if "MUSTER_BUILD" in os.environ or not os.access(tsan, os.X_OK):
        raise Skip("no build/tsan/musterd")
    os.mkdir(t.path("programs"))
    for name in ("muster", "muster-agent", "muster-holder"):
        os.symlink(os.path.join(BUILD, name), t.path("programs/" + name))
    os.symlink(tsan, t.path("programs/musterd"))
    p = t.start("again", ["/usr/bin/python3", os.path.abspath(__file__)],
                env={"MUSTER_BUILD": t.path("programs"), "TSAN_OPTIONS": "exitcode=66",
                     "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    equal(p.wait(150), 0, p.out().decode(errors="replace")[-4000:])


main(globals())
