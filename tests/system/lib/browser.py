"""Chromium by itself: pages that do what they are to try as they load, and
report to a service; and an origin that a page shares with the controller."""

import contextlib
import os
import queue
import shutil
import socket
import threading
import time

from harness import Skip, check


def splice(a, b):
    with contextlib.suppress(OSError):
        while True:
            piece = a.recv(65536)
            if not piece:
                break
            b.sendall(piece)
    for s in (a, b):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)


def front(listener, target, page):
    """One origin for a page and the controller, as a proxy gives."""

    def serve(s):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = s.recv(65536)
            if not piece:
                s.close()
                return
            head += piece
        if head.startswith(b"GET /page"):
            body = page[0].encode()
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            s.close()
            return
        out = socket.create_connection(("127.0.0.1", target[0]))
        out.sendall(head)
        threading.Thread(target=splice, args=(out, s), daemon=True).start()
        splice(s, out)

    while True:
        try:
            s, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(s,), daemon=True).start()


def browse(t, url):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise Skip("no chromium")
    return t.start("chromium", [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--no-proxy-server", "--user-data-dir=" + os.path.join(t.dir, "profile"),
        "--remote-debugging-port=0", url], env=dict(t.env, HOME=t.dir))


def take(reports, p):
    end = time.monotonic() + 60
    while True:
        try:
            return reports.get(timeout=0.2)
        except queue.Empty:
            if not p.running():
                raise Skip("chromium does not start here: " + p.log()[-200:]) from None
            check(time.monotonic() < end, "no report:", p.log()[-2000:])
