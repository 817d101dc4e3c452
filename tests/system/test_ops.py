#!/usr/bin/python3
"""Running musterd: configuration, sockets, signals, what it tells systemd."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess

import websockets

from harness import BUILD, PATIENCE, check, equal, free_port, main, need, until

MUSTERD = os.path.join(BUILD, "musterd")


def run(t, *words, env=None):
    return subprocess.run([MUSTERD, *words], env=dict(t.env, **(env or {})), cwd=t.dir,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)


def test_first_start(t):
    d = t.musterd()
    token = os.path.join(d.data, "admin.token")
    equal(stat.S_IMODE(os.stat(token).st_mode), 0o600)
    equal(stat.S_IMODE(os.stat(d.data).st_mode) & 0o077, 0, "the directory is the owner's")
    check(d.token not in d.log() and d.token not in d.out().decode(), "the token is not logged")
    for line in d.log().splitlines():
        check(re.match(r"^\S+( \S+)?.*\b[a-z_]+=", line) or " " in line, "not logfmt:", line)
    first = d.token
    equal(d.stop(), 0)
    d = d.again()
    equal(d.token, first, "a second start makes no second one")


def test_memory_limit(t):
    """Above memory_limit operators are turned away, agents are not."""
    d = t.musterd("--memory-limit", "1MiB")  # any process is larger
    until(lambda: d.get("/api/v1/agents").status == 503, "requests are refused")
    refused = d.get("/api/v1/agents")
    equal(refused.json["code"], "SHORT_OF_MEMORY")
    equal(d.get("/health").status, 200, "health is told")
    check("memory_short" in d.log(), "and it is logged")

    d = t.musterd("--memory-limit", "4GiB")
    equal(d.get("/api/v1/agents").status, 200, "below it nothing is refused")


def test_drain(t):
    """SIGTERM: reconnect, then 1001, then the end with status 0."""
    d = t.musterd()
    token = d.make_token()

    async def go():
        ws = await websockets.connect(d.ws_url + "?token=" + token, ping_interval=None)
        await ws.send(json.dumps({"type": "register", "payload": {"agent_id": "x", "name": "x"},
                                  "timestamp": "2025-10-16T12:00:00Z"}))
        await asyncio.wait_for(ws.recv(), 10)
        idle = d.connect()
        d.signal(signal.SIGTERM)
        seen = []
        try:
            while True:
                seen.append(json.loads(await asyncio.wait_for(ws.recv(), 20))["type"])
        except websockets.ConnectionClosed as e:
            equal(e.rcvd.code, 1001)
        check(set(seen) <= {"reconnect", "ping"}, seen)
        idle.close()
    asyncio.run(go())
    equal(d.wait(20), 0)
    d = d.again()
    equal(d.agent("x")["status"] in ("reconnecting", "offline"), True)


def test_drain_ends_a_client_that_does_not(t):
    d = t.musterd(env={"MUSTER_DRAIN_GRACE": "1s"})
    s = d.connect()
    s.sendall(("GET %s?token=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
               % ("/api/v1/clusters/agent/ws", d.make_token(), d.port)).encode())
    check(b" 101 " in s.recv(4096), "no upgrade")
    d.signal(signal.SIGTERM)
    equal(d.wait(15), 0)
    s.close()


def test_second_signal(t):
    d = t.musterd()
    s = d.connect()
    d.signal(signal.SIGINT)
    equal(d.wait(20), 0, "Ctrl-C is a drain too")
    s.close()


def test_check(t):
    """Errors name the file, the line and the key."""
    good = t.path("good.conf", "listen = 127.0.0.1:0\nlog_level = debug\n# yes\n")
    r = run(t, "check", "--config", good)
    equal(r.returncode, 0, r.stderr)
    for text, line, key in (("listn = 127.0.0.1:0\n", 1, "listn"),
                            ("\n\nlog_level = loud\n", 3, "log_level"),
                            ("lanes = 1\nlanes = 1\n", 2, "lanes"),
                            ("dev = perhaps\n", 1, "dev"),
                            ("drain_grace = 99d\n", 1, "drain_grace"),
                            ("data = /tmp/x\nmemory_limit = 3 bananas\n", 2, "memory_limit")):
        f = t.path("bad.conf", text)
        r = run(t, "check", "--config", f)
        said = (r.stderr + r.stdout).decode()
        check(r.returncode != 0, "accepted", text)
        check("bad.conf:%d" % line in said and key in said, text, "says", said)
    # Files with keys are opened, all of them.
    garbage, secret = t.path("garbage", "no key\n"), t.path("secret", "s" * 40 + "\n")
    absent = os.path.join(t.dir, "absent")
    f = t.path("bad.conf", "lanes = 1\ntls_cert = %s\ntls_key = %s\n\njwt_keys_file = %s\n"
               "jwt_hs256_secret_file = %s\n" % (absent, garbage, garbage, absent))
    said = run(t, "check", "--config", f)
    equal(said.returncode, 1)
    for line, key in ((2, "tls_cert"), (5, "jwt_keys_file"), (6, "jwt_hs256_secret_file")):
        check("bad.conf:%d: %s: " % (line, key) in said.stderr.decode(), line, "in", said.stderr)
    equal(said.stderr.count(b"\n"), 3)
    equal(run(t, "check", "--config", t.path("good.conf", "jwt_hs256_secret_file = %s\n" % secret)).returncode, 0)
    said = run(t, "check", "--jwt-keys-file", garbage).stderr
    check(said.startswith(b"command line: jwt_keys_file: "), said)
    said = run(t, "check", "--config", t.path("bad.conf", "tls_key = %s\n" % garbage)).stderr
    check(b"bad.conf:1: tls_key: tls_cert and tls_key go together" in said, said)
    r = run(t, "check", "--config", t.path("bad.conf", "this is no setting\n"))
    check(r.returncode != 0 and b"bad.conf:1" in r.stderr + r.stdout, r)
    r = run(t, "check", "--config", t.path("absent.conf"))
    check(r.returncode != 0 and b"absent.conf" in r.stderr + r.stdout, r)
    p = t.musterd("--config", t.path("bad.conf", "lanez = 1\n"), ready=False)
    check(p.wait(10) != 0 and "bad.conf:1" in p.log(), p.log())


def test_routes(t):
    """Every one, also the status board's, which is none of the table's."""
    lines = [json.loads(l) for l in run(t, "routes").stdout.splitlines()]
    boards = [r for r in lines if r["path"] == "/"]
    equal([(r["method"], r["websocket"]) for r in boards], [("GET", True)])
    check(any(r["path"] == "/health" for r in lines), "no /health")


def test_precedence(t):
    """Flag, then environment, then file, then default."""
    f = t.path("p.conf", "public_url = https://file.example.org\n")

    def url(d):
        token = d.make_token("p")
        return d.post("/api/v1/clusters/agent/register", {"agent_id": "a", "name": "a"},
                      token=token)["tunnel_url"].split("/clusters")[0]
    equal(url(t.musterd("--config", f)), "https://file.example.org")
    env = {"MUSTER_PUBLIC_URL": "https://env.example.org"}
    equal(url(t.musterd("--config", f, env=env)), "https://env.example.org")
    equal(url(t.musterd("--config", f, "--public-url", "https://flag.example.org", env=env)),
          "https://flag.example.org")


def test_usage(t):
    for words, code in ((["--nonsense"], 2), (["--listen"], 2), (["stray"], 2), (["backup"], 2),
                        (["--log-level", "loud"], 1), (["--listen", "127.0.0.1:99999"], 1),
                        (["--listen", "nowhere"], 1)):
        r = run(t, "--data", t.path("u"), *words)
        equal(r.returncode, code, " ".join(words) + ": " + r.stderr.decode())
        check(r.stderr, "no word about it")
    r = run(t, "--help")
    equal(r.returncode, 0)
    check(b"--listen" in r.stdout and b"--data" in r.stdout, r.stdout)
    r = run(t, "--version")
    equal(r.returncode, 0)
    check(open(os.path.join(os.path.dirname(BUILD), "VERSION")).read().strip().encode() in r.stdout, r)


def test_port_in_use(t):
    d = t.musterd()
    other = t.musterd(listen=("127.0.0.1:%d" % d.port,), ready=False)
    check(other.wait(20) != 0, "two on one port")
    check(str(d.port) in other.log() and "use" in other.log(), other.log())
    equal(d.get("/health").status, 200)


def test_open_address_needs_tls(t):
    port = free_port()
    p = t.musterd(listen=("0.0.0.0:%d" % port,), ready=False)
    check(p.wait(20) != 0, "started without TLS on every address")
    check("insecure" in p.log() and "tls" in p.log().lower(), p.log())
    d = t.musterd("--insecure", listen=("0.0.0.0:%d" % port,), ready=False).wait_ready()
    equal(d.get("/health").status, 200)


def test_several_listeners(t):
    d = t.musterd(listen=("127.0.0.1:0", "[::1]:0"), ready=False)
    d.wait_ready()
    ports = re.findall(r"event=listening .*?address=(\S+):(\d+)", d.log())
    equal(len(ports), 2, d.log())
    for host, port in ports:
        with socket.create_connection((host.strip("[]"), int(port)), 10) as s:
            s.sendall(("GET /health HTTP/1.1\r\nHost: localhost:%s\r\nConnection: close\r\n\r\n"
                       % port).encode())
            check(s.recv(100).startswith(b"HTTP/1.1 200"), host)


def test_socket_activation(t):
    """LISTEN_FDS: systemd's sockets are taken over."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        script = 'exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"' % s.fileno()
        p = t.start("musterd", ["/bin/bash", "-c", script, MUSTERD, "--data", t.path("activated")],
                    pass_fds=(s.fileno(),))
        p.log_has("ready")
        with socket.create_connection(("127.0.0.1", port), 10) as c:
            c.sendall(("GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n"
                       % port).encode())
            check(c.recv(100).startswith(b"HTTP/1.1 200"), "no answer")


def test_notify(t):
    """sd_notify: READY, RELOADING and STOPPING."""
    path = t.path("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(PATIENCE)
        d = t.musterd(env={"NOTIFY_SOCKET": path})
        check(b"READY=1" in s.recv(4096), "READY=1")
        d.signal(signal.SIGHUP)
        said = s.recv(4096)
        while b"READY=1" not in said:
            said += s.recv(4096)
        d.signal(signal.SIGTERM)
        while b"STOPPING=1" not in said:
            said += s.recv(4096)
        equal(d.wait(), 0)


def proxy2(source, port, family=0x11):
    body = (socket.inet_aton(source) + socket.inet_aton("127.0.0.1") +
            struct.pack(">HH", 4242, port))
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, family]) + struct.pack(">H", len(body)) + body


def test_proxy_protocol(t):
    d = t.musterd(listen=("127.0.0.1:0,proxy",))
    token = None
    head = "%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\nConnection: close\r\n"
    body = json.dumps({"name": "p", "scopes": ["cluster:register"], "allow": ["203.0.113.9"]})
    got = d.raw(proxy2("203.0.113.1", d.port) + (head % ("POST /api/v1/tokens", d.port, d.token)
                + "Content-Length: %d\r\n\r\n%s" % (len(body), body)).encode())
    check(b" 201 " in got, got)
    token = json.loads(got.split(b"\r\n\r\n", 1)[1])["token"]
    body = json.dumps({"agent_id": "a", "name": "a"})
    ask = (head % ("POST /api/v1/clusters/agent/register", d.port, token) +
           "Content-Length: %d\r\n\r\n%s" % (len(body), body)).encode()
    check(b" 403 " in d.raw(proxy2("203.0.113.1", d.port) + ask), "from elsewhere")
    check(b" 200 " in d.raw(proxy2("203.0.113.9", d.port) + ask), "from there")
    check(not d.raw(ask).startswith(b"HTTP/1.1 2"), "without the header")
    check(not d.raw(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n" + ask).startswith(b"HTTP/1.1 2"), "version 1")


def test_reload_says_what_it_did(t):
    f = t.path("r.conf", "log_level = info\n")
    d = t.musterd("--config", f)
    t.path("r.conf", "log_level = debug\n")
    before = len(d.log())
    d.signal(signal.SIGHUP)
    until(lambda: "reload" in d.log()[before:], "a line about the reload")
    t.path("r.conf", "log_level = loud\n")
    before = len(d.log())
    d.signal(signal.SIGHUP)
    until(lambda: "log_level" in d.log()[before:], "a line about the error")
    equal(d.get("/health").status, 200, "and it goes on as it was")


def test_install(t):
    """make install into a directory: everything is there and runs."""
    need("muster", "muster-agent", "musterd")
    root = os.path.dirname(BUILD)
    into = t.path("root")
    r = subprocess.run([os.path.join(root, "tools/install-files"), BUILD, into, "/usr"],
                       capture_output=True, env=t.env, timeout=60, check=False)
    equal(r.returncode, 0, r.stderr)
    for path, mode in (("bin/muster", 0o755), ("bin/muster-agent", 0o755), ("bin/muster-holder", 0o755),
                       ("sbin/musterd", 0o755), ("lib/systemd/system/musterd.service", 0o644),
                       ("share/bash-completion/completions/muster", 0o644),
                       ("share/man/man1/muster.1", 0o644), ("share/man/man8/musterd.8", 0o644)):
        equal(stat.S_IMODE(os.stat(os.path.join(into, "usr", path)).st_mode), mode, path)
    check("/usr/sbin/musterd" in open(os.path.join(into, "usr/lib/systemd/system/musterd.service")).read(),
          "the unit's path")
    equal(subprocess.run([os.path.join(into, "usr/bin/muster"), "version"], env=t.env,
                         capture_output=True, check=False).returncode, 0)


main(globals())
