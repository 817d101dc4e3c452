#!/usr/bin/python3
"""Big things through a host route: a file that Chromium saves and sends back,
and visitors who do not read beside others who are in conversation.

MUSTER_BULK_MIB is the size of the file, 1024 when it is not set."""
# timeout: 300

import asyncio
import hashlib
import http.server
import os
import socket
import threading
import time

from apps import *
from harness import *

import websockets

MIB = 1 << 20
SIZE = int(os.environ.get("MUSTER_BULK_MIB", "1024")) * MIB
FLAT_KIB = 24 << 10  # the window of a link, 16 MiB, and buffers

PAGE = b"""<!doctype html><a href="/file" download="file.bin">save</a><input type="file">"""
BLOCK = os.urandom(MIB)


class Bulk(http.server.BaseHTTPRequestHandler):
    """A page; a file, of which no two blocks are the same; its sum again."""
    protocol_version = "HTTP/1.1"

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path != "/file":
            self.reply(PAGE)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        sum_, block = hashlib.sha256(), bytearray(BLOCK)
        for i in range(SIZE // MIB):
            block[:8] = i.to_bytes(8, "big")
            sum_.update(block)
            self.wfile.write(block)
        self.server.sums.append(sum_.hexdigest())

    def do_POST(self):
        left, sum_ = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, MIB))
            check(piece, "ended early")
            sum_.update(piece)
            left -= len(piece)
        self.server.sums.append(sum_.hexdigest())
        self.reply(sum_.hexdigest().encode())

    def log_message(self, *args):
        pass


class Watch:
    """The most memory that programs came to have, over what they had."""

    def __init__(self, *programs):
        self.programs, self.over = programs, threading.Event()
        self.before = [rss_kib(p.pid) for p in programs]
        self.most = list(self.before)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.05):
            self.look()

    def look(self):
        self.most = [max(m, rss_kib(p.pid)) for m, p in zip(self.most, self.programs)]

    def flat(self):
        self.look()
        self.over.set()
        self.thread.join()
        grown = [(p.name, m - b) for p, m, b in zip(self.programs, self.most, self.before)]
        print("grown by KiB:", grown)
        # A sanitizer keeps what was given back.
        check(all(kib < FLAT_KIB for _, kib in grown) or "asan" in BUILD or "tsan" in BUILD, "memory grew (KiB):", grown)


def test_file(t):
    """Saved and sent back by Chromium."""
    s = serve(t, Bulk, sums=[])
    d, a = world(t, s.server_port, "bulk.localhost")
    memory = Watch(d, a)
    r = chromium(t, "files", url(d, "bulk.localhost"))
    memory.flat()
    print("%d MiB: down %.1f s, up %.1f s" % (SIZE // MIB, r["down"] / 1000, r["up"] / 1000))
    equal(r["wrong"], [])
    equal(r["sent"]["status"], 200)
    equal([r["saved"], r["sent"]["sum"]], s.sums)
    equal(len(set(s.sums)), 1, "sums")


# Beside each other -----------------------------------------------------------

class Endless:
    """Writes a download of 1 GiB; reads nothing of an upload."""

    def __init__(self, t):
        self.written = self.asked = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        threading.Thread(target=self.run, daemon=True).start()
        t.cleanup.callback(self.close)

    def close(self):
        for s in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                s = self.listener.accept()[0]
                self.open.append(s)
                threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        with contextlib.suppress(OSError):
            method = s.recv(4)
            self.asked += 1
            if method == b"GET ":
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
                for _ in range(1024):
                    self.written += s.send(BLOCK)


class Stalled:
    """A visitor who reads nothing, and sends what is taken from it."""

    def __init__(self, d, request, body=b""):
        self.body, self.taken = body, 0
        self.s = socket.create_connection(("127.0.0.1", d.port))
        self.s.sendall(request)
        self.s.setblocking(False)

    def push(self):
        with contextlib.suppress(BlockingIOError):
            while self.body:
                self.taken += self.s.send(self.body)


def full(still, up):
    """What was taken, once nothing more was for half a second."""
    last, since = None, time.monotonic()

    def stands():
        nonlocal last, since
        up.push()
        now = (still.written, up.taken)
        if now != last or still.asked < 2:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.5

    until(stands, "nothing more is taken")
    return last


async def talk(d, seconds):
    """Ten in conversation: the sorted round trips, in ms."""
    trips = []

    async def one():
        async with websockets.connect("ws://echo.localhost:%d/" % d.port, host="127.0.0.1", port=d.port,
                                      compression=None, ping_interval=None) as ws:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                begun = time.monotonic()
                await ws.send("x" * 64)
                await asyncio.wait_for(ws.recv(), PATIENCE)
                trips.append((time.monotonic() - begun) * 1000)
                await asyncio.sleep(0.005)

    await asyncio.gather(*(one() for _ in range(10)))
    return sorted(trips)


async def echoes(ws):
    with contextlib.suppress(websockets.ConnectionClosed):
        async for m in ws:
            await ws.send(m)


def test_stalled(t):
    """A download that nobody reads and an upload that the service does not
    read hold a bounded part of it, and delay nobody else on that agent."""
    still = Endless(t)

    async def run():
        async with websockets.serve(echoes, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]
            d = t.musterd()
            a = t.agent(d, allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:*"))
            for host, to in ("echo.localhost", port), ("still.localhost", still.port):
                r = d.post("/api/v1/routes", {"host": host, "agent": "web-1", "public": True,
                                              "to": {"host": "127.0.0.1", "port": to}})
                equal(r.status, 201, r)
            await talk(d, 0.3)
            before = await talk(d, 2)
            memory = Watch(d, a)
            host = b"Host: still.localhost:%d\r\n" % d.port
            down = Stalled(d, b"GET / HTTP/1.1\r\n%s\r\n" % host)
            up = Stalled(d, b"POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (host, 1 << 30), BLOCK)
            held = await asyncio.to_thread(full, still, up)
            during = await talk(d, 2)
            up.push()
            equal((still.written, up.taken), held, "still taken while nobody reads")
            memory.flat()
            down.s.close()
            up.s.close()
            return before, during, held

    before, during, held = asyncio.run(run())
    for name, at, guard in ("p50", 0.5, 10), ("p99", 0.99, 100):
        b, x = before[int(len(before) * at)], during[int(len(during) * at)]
        print("%s: %.2f ms before, %.2f ms beside those who stall" % (name, b, x))
        check(x <= max(2 * b, guard), name, "of round trips: %.2f ms before, %.2f ms during" % (b, x))
    check(len(during) > 100, "round trips", len(during))
    print("held: %d KiB of the download, %d KiB of the upload" % (held[0] >> 10, held[1] >> 10))
    check(max(held) < 64 * MIB, "held", held)


main(globals())
