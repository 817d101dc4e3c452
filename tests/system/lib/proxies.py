"""Proxies that a host has on its way out: HTTP CONNECT and SOCKS5.

They know names that no resolver here knows, so that what comes through has
left the names to them.  What was asked of them is kept in `asked`."""

import base64
import socket
import struct
import threading


class Proxy:
    """names: {name: address}; user: (name, password) that is demanded."""

    def __init__(self, names=None, user=None):
        self.names, self.user = names or {}, user
        self.asked = []       # (host as it was given, port)
        self.proved = []      # (user, password) or None, each time
        self.refuse = None    # what to say instead
        self.hang = threading.Event()
        self.hang.set()       # clear() keeps everybody waiting
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        far = None
        self.sockets.append(s)
        try:
            s.settimeout(60)
            far = self.open(s)
            if far is None:
                return
            s.settimeout(None)
            self.sockets.append(far)
            back = threading.Thread(target=carry, args=(far, s), daemon=True)
            back.start()
            carry(s, far)
            back.join(10)
        except OSError:
            pass
        finally:
            s.close()
            if far:
                far.close()

    def dial(self, host, port):
        self.asked.append((host, port))
        return socket.create_connection((self.names.get(host, host), port), 10)

    def cut(self):
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self):
        # A thread about to accept would do so on whatever gets the same
        # descriptor next.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()
        self.hang.set()
        self.cut()


def carry(a, b):
    try:
        while True:
            piece = a.recv(65536)
            if not piece:
                break
            b.sendall(piece)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def need(s, n):
    got = b""
    while len(got) < n:
        piece = s.recv(n - len(got))
        if not piece:
            raise OSError("the client has gone")
        got += piece
    return got


class HttpProxy(Proxy):
    """CONNECT (RFC 9110 9.3.6), with Basic if a user is demanded."""

    def open(self, s):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += need(s, 1)
        self.hang.wait()
        line, *rest = head.decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        fields = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in rest if x)}
        if method != "CONNECT" or version != "HTTP/1.1" or fields.get("host") != target:
            s.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return None
        kind, _, text = fields.get("proxy-authorization", "").partition(" ")
        given = tuple(base64.b64decode(text).decode().split(":", 1)) if kind == "Basic" else None
        self.proved.append(given)
        if self.user and given != self.user:
            s.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                      b"Proxy-Authenticate: Basic realm=\"way out\"\r\nContent-Length: 0\r\n\r\n")
            return None
        if self.refuse:
            s.sendall(("HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % self.refuse).encode())
            return None
        host, _, port = target.rpartition(":")
        far = self.dial(host.strip("[]"), int(port))
        s.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return far


class SocksProxy(Proxy):
    """RFC 1928, and RFC 1929 if a user is demanded."""

    def open(self, s):
        version, n = need(s, 2)
        methods = need(s, n)
        self.hang.wait()
        want = 2 if self.user else 0
        if version != 5 or want not in methods:
            s.sendall(b"\x05\xff")
            return None
        s.sendall(bytes([5, want]))
        given = None
        if want == 2:
            need(s, 1)
            name = need(s, need(s, 1)[0])
            given = (name.decode(), need(s, need(s, 1)[0]).decode())
            s.sendall(b"\x01\x00" if given == self.user else b"\x01\x01")
        self.proved.append(given)
        if self.user and given != self.user:
            return None
        _, command, _, kind = need(s, 4)
        if kind == 3:
            host = need(s, need(s, 1)[0]).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6,
                                    need(s, 4 if kind == 1 else 16))
        port = struct.unpack(">H", need(s, 2))[0]
        reply = 7 if command != 1 else self.refuse or 0
        if reply == 0:
            far = self.dial(host, port)
        s.sendall(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        return far if reply == 0 else None
