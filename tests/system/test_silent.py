#!/usr/bin/python3
"""Peers that fall silent: half-open agents and connections that say nothing.

The times are the real ones, so this takes a little over a minute; all that
waits does so at once.
"""
# timeout: 150

import json
import socket
import subprocess
import threading
import time

from harness import WS_PATH, check, equal, main, until

STAMP = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def handshake(d, token):
    s = d.connect()
    s.sendall(("GET %s?token=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
               "Sec-WebSocket-Version: 13\r\n\r\n" % (WS_PATH, token, d.port)).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(4096)
    check(b" 101 " in head, head)
    return s


def say(s, message):
    data = json.dumps(message).encode()
    check(len(data) < 65536)
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    s.sendall(b"\x81" + size + b"\0\0\0\0" + data)  # a mask of zeros


def register(s, name):
    say(s, {"type": "register", "payload": {"agent_id": name, "name": name}, "timestamp": STAMP})


def until_closed(s, limit):
    """Seconds until the peer ended it, and what came last."""
    start, last = time.monotonic(), b""
    s.settimeout(limit)
    try:
        while True:
            got = s.recv(65536)
            if not got:
                break
            last = got
    except ConnectionResetError:
        pass
    return time.monotonic() - start, last


def board(d, token):
    """A status board that never answers a ping."""
    s = d.connect()
    s.sendall(("GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Authorization: Bearer %s\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
               "Sec-WebSocket-Version: 13\r\n\r\n" % (d.port, token)).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(4096)
    check(b" 101 " in head, head)
    return s


def test_silence(t):
    d = t.musterd()
    token = d.make_token()
    mute = handshake(d, token)
    register(mute, "mute")
    lively = handshake(d, token)
    register(lively, "lively")
    until(lambda: d.get("/api/v1/agents/mute").json["status"] == "online")
    found = {}

    def watch(name, s, limit):
        found[name] = until_closed(s, limit)

    empty = d.connect()  # says nothing at all
    slow = d.connect()   # begins a head and never ends it
    slow.sendall(b"GET /health HTTP/1.1\r\nHost: x")
    watchers = [threading.Thread(target=watch, args=a) for a in
                (("mute", mute, 100), ("board", board(d, d.token), 100), ("empty", empty, 40), ("slow", slow, 40))]
    for w in watchers:
        w.start()
    # The lively one is kept by any frame at all, here an application's ping.
    while any(w.is_alive() for w in watchers):
        say(lively, {"type": "ping", "payload": {}, "timestamp": STAMP})
        time.sleep(1)  # the pace of its pings, nothing is awaited
    for w in watchers:
        w.join()
    check(9 <= found["empty"][0] <= 15, "a connection that says nothing:", found["empty"][0])
    check(9 <= found["slow"][0] <= 15, "a head that never ends:", found["slow"][0])
    check(b" 408 " in found["slow"][1] or found["slow"][1] == b"", found["slow"][1])
    check(59 <= found["mute"][0] <= 70, "an agent that answers no ping:", found["mute"][0])
    check(b"\x03\xe9" in found["mute"][1], "close 1001:", found["mute"][1])
    check(59 <= found["board"][0] <= 70, "a board that answers no ping:", found["board"][0])
    check(found["board"][1].endswith(b"\x88\x07\x03\xe9stale"), "its close:", found["board"][1])
    agent = d.get("/api/v1/agents/mute").json
    equal(agent["status"], "reconnecting")
    equal(agent["status_reason"], "timeout")
    equal(d.get("/api/v1/agents/lively").json["status"], "online")
    lively.close()


def test_curl(t):
    """curl as a stranger's client: bodies, ranges, expectations, HEAD."""
    d = t.musterd()

    def curl(*words):
        got = subprocess.run(["curl", "-sS", "-m", "10", "-w", "\n%{http_code}",
                              "-H", "Authorization: Bearer " + d.token, *words],
                             stdin=subprocess.DEVNULL, capture_output=True, check=False)
        equal(got.returncode, 0, got.stderr)
        body, _, code = got.stdout.decode().rpartition("\n")
        return int(code), body

    url = "http://127.0.0.1:%d" % d.port
    code, body = curl(url + "/api/v1/whoami")
    equal((code, json.loads(body)["user"]["role"]), (200, "admin"))
    code, body = curl("-H", "Expect: 100-continue", "-d", '{"name":"by curl"}',
                      url + "/api/v1/tokens")
    equal(code, 201)
    check(json.loads(body)["token"].startswith("clt_"))
    code, body = curl("-T", "-", "-X", "POST", "-H", "Transfer-Encoding: chunked",
                      url + "/api/v1/tokens")
    equal(code, 400, "an empty chunked body has no name")
    code, body = curl("-I", url + "/health")
    check(code == 200 and "Content-Length:" in body, body)
    # Two requests on one connection, the first answered from the store.
    code, body = curl(url + "/api/v1/audit?limit=1", url + "/api/v1/agents")
    equal(code, 200)
    check('"muster.audit_lines/1"' in body and '"muster.agents/1"' in body, body)


main(globals())
