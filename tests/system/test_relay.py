#!/usr/bin/python3
"""test_relay: the relay that every other system test trusts.

Prints "ok" or "FAILED: why".  Uses build/helpers/relay (or $RELAY)."""

import hashlib
import json
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELAY = os.environ.get('RELAY', os.path.join(ROOT, 'build/helpers/relay'))


def check(condition, why):
    if not condition:
        raise AssertionError(why)


class Relay:
    """A relay before a listener of this test."""

    def __init__(self, *options):
        self.dir = tempfile.mkdtemp(prefix='relay.', dir=os.path.join(ROOT, 'build'))
        path = os.path.join(self.dir, 'ctl')
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=2048)
        self.process = subprocess.Popen(
            [RELAY, '127.0.0.1:0', '127.0.0.1:%d' % self.listener.getsockname()[1],
             '--control', path, *options], stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[1])
        self.control = socket.socket(socket.AF_UNIX)
        self.control.connect(path)
        self.answers = self.control.makefile()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        self.answers.close()
        self.control.close()
        self.listener.close()
        shutil.rmtree(self.dir)
        check(code == 0, 'relay ended with %d' % code)

    def tell(self, line, want='ok'):
        self.control.sendall(line.encode() + b'\n')
        answer = self.answers.readline().strip()
        check(answer == want, '%s: %s' % (line, answer))

    def stats(self):
        self.control.sendall(b'stats\n')
        return json.loads(self.answers.readline())

    def pair(self):
        """A client and its far end."""
        a = socket.create_connection(('127.0.0.1', self.port))
        self.listener.settimeout(10)
        b, _ = self.listener.accept()
        for s in (a, b):
            s.settimeout(20)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return a, b


def send_all(s, data, end=True):
    def work():
        try:
            s.sendall(data)
            if end:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    t = threading.Thread(target=work, daemon=True)
    t.start()
    return t


def read_all(s):
    got = []
    while True:
        piece = s.recv(1 << 16)
        if not piece:
            return b''.join(got)
        got.append(piece)


def is_reset(s):
    """Whether s ends with RST, whatever it may read before."""
    try:
        while s.recv(1 << 16):
            pass
        return False
    except ConnectionResetError:
        return True


def test_order():
    """Every byte, in order, both ways at once, on many connections."""
    with Relay() as r:
        pairs = [r.pair() for _ in range(50)]
        rng = random.Random(1)
        work = []
        for a, b in pairs:
            for s, t in ((a, b), (b, a)):
                data = rng.randbytes(rng.randrange(1, 600000))
                work.append((send_all(s, data), t, hashlib.sha256(data).digest()))
        for thread, t, want in work:
            check(hashlib.sha256(read_all(t)).digest() == want, 'bytes differ')
            thread.join()
        for a, b in pairs:
            a.close()
            b.close()
        until(lambda: r.stats()['connections'] == 0, 'connections stay')
        check(r.stats()['accepted'] == 50, 'accepted')


def until(condition, why, limit=10):
    end = time.monotonic() + limit
    while not condition():
        check(time.monotonic() < end, why)
        time.sleep(0.01)


def timed_transfer(s, t, size):
    data = random.Random(2).randbytes(size)
    start = time.monotonic()
    thread = send_all(s, data)
    check(read_all(t) == data, 'bytes differ')
    thread.join()
    return time.monotonic() - start


def test_rate():
    with Relay('--rate', '8000000') as r:
        for turn in range(2):
            a, b = r.pair()
            if turn:
                a, b = b, a
            took = timed_transfer(a, b, 1500000)
            check(1.35 < took < 1.65, 'rate: %.3f s for 1.5 s' % took)
        # One link for all: two at once take twice as long.
        pairs = [r.pair(), r.pair()]
        start = time.monotonic()
        for a, _ in pairs:
            send_all(a, bytes(500000))
        for _, b in pairs:
            check(len(read_all(b)) == 500000, 'short')
        took = time.monotonic() - start
        check(0.9 < took < 1.1, 'shared rate: %.3f s for 1 s' % took)
        r.tell('rate 80000000')
        took = timed_transfer(*r.pair(), 5000000)
        check(0.45 < took < 0.55, 'new rate: %.3f s for 0.5 s' % took)
        r.tell('rate 0')
        check(timed_transfer(*r.pair(), 5000000) < 0.5, 'no rate is slow')


def test_queue():
    """What the link holds is bounded: a late byte waits for the queue, not
    for all that its sender had to say."""
    with Relay('--rate', '8000000', '--queue', '65536') as r:
        a, b = r.pair()
        thread = send_all(a, bytes(3000000))
        until(lambda: r.stats()['queued_up'] > 60000, 'no queue')
        check(r.stats()['queued_up'] < 66000, 'queue has no end')
        c, d = r.pair()
        start = time.monotonic()
        c.sendall(b'x')
        d.recv(1)
        took = time.monotonic() - start
        check(0.03 < took < 0.15, 'late byte: %.3f s, queue is 0.066 s' % took)
        check(len(read_all(b)) == 3000000, 'short')
        thread.join()


def round_trips(a, b, count):
    times = []
    for _ in range(count):
        start = time.monotonic()
        a.sendall(b'?')
        check(b.recv(1) == b'?', 'wrong byte')
        b.sendall(b'!')
        check(a.recv(1) == b'!', 'wrong byte')
        times.append(time.monotonic() - start)
    return sorted(times)[count // 2] * 1000


def test_delay():
    with Relay('--delay', '40') as r:
        a, b = r.pair()
        took = round_trips(a, b, 5)
        check(80 <= took < 86, 'delay: %.1f ms for 80' % took)
        r.tell('delay 10')
        took = round_trips(a, b, 5)
        check(20 <= took < 25, 'delay: %.1f ms for 20' % took)
        # Delay costs no throughput and no bytes.
        check(timed_transfer(a, b, 8000000) < 2, 'slow')
        r.tell('delay 0')
        a, b = r.pair()
        check(round_trips(a, b, 50) < 5, 'delay stays')


def test_cut():
    with Relay('--delay', '20') as r:
        pairs = [r.pair() for _ in range(20)]
        for a, b in pairs:
            a.sendall(b'lost')
        r.tell('cut')
        for a, b in pairs:
            check(is_reset(a) and is_reset(b), 'no RST')
        check(r.stats()['connections'] == 0, 'connections stay')
        a, b = r.pair()  # and it goes on
        round_trips(a, b, 1)


def test_fin():
    with Relay() as r:
        a, b = r.pair()
        round_trips(a, b, 1)
        r.tell('fin')
        check(a.recv(1) == b'' and b.recv(1) == b'', 'no FIN')
        a.close()
        b.close()
        until(lambda: r.stats()['connections'] == 0, 'connections stay')


def test_half_close():
    with Relay() as r:
        a, b = r.pair()
        a.sendall(b'question')
        a.shutdown(socket.SHUT_WR)
        check(read_all(b) == b'question', 'bytes')
        b.sendall(b'answer')
        b.close()
        check(read_all(a) == b'answer', 'bytes')
        # A reset on one end is one on the other.
        a, b = r.pair()
        a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        a.close()
        check(is_reset(b), 'no RST')


def test_pause():
    with Relay() as r:
        a, b = r.pair()
        round_trips(a, b, 1)
        r.tell('pause')
        check(r.stats()['paused'], 'not paused')
        a.sendall(b'held')
        c = socket.create_connection(('127.0.0.1', r.port))
        c.sendall(b'new')
        check(not select.select([b, r.listener], [], [], 0.3)[0], 'leaks')
        r.tell('resume')
        check(b.recv(10) == b'held', 'lost')
        d, _ = r.listener.accept()
        check(d.recv(10) == b'new', 'lost')


def test_cut_after():
    with Relay() as r:
        a, b = r.pair()
        r.tell('cut-after 123457')
        send_all(a, bytes(500000))
        got = 0
        try:
            while True:
                piece = b.recv(1 << 16)
                check(piece, 'FIN, not RST')
                got += len(piece)
        except ConnectionResetError:
            pass
        check(got == 123457, 'cut after %d' % got)
        check(is_reset(a), 'no RST')
        round_trips(*r.pair(), 3)  # once only


def test_refuse():
    with Relay() as r:
        r.tell('refuse on')
        s = socket.create_connection(('127.0.0.1', r.port))
        check(is_reset(s), 'not refused')
        r.tell('refuse off')
        round_trips(*r.pair(), 1)
        check(r.stats()['refused'] == 1, 'count')
        r.tell('nonsense', 'error')
        r.tell('rate -1', 'error')
        r.tell('rate 1x', 'error')
        r.tell('cut-after 0', 'error')
        # Nobody listens behind it.
        r.listener.close()
        s = socket.create_connection(('127.0.0.1', r.port))
        check(is_reset(s), 'connected to nobody')


def test_thousands():
    with Relay() as r:
        pairs = [r.pair() for _ in range(2000)]
        for i, (a, _) in enumerate(pairs):
            a.sendall(struct.pack('>I', i))
        seen = set()
        for _, b in pairs:
            seen.add(struct.unpack('>I', b.recv(4))[0])
        check(seen == set(range(2000)), 'lost')
        check(r.stats()['connections'] == 2000, 'count')
        r.tell('cut')
        for a, b in pairs:
            check(is_reset(a), 'no RST')
            a.close()
            b.close()


def main():
    names = sys.argv[1:] or [n for n in globals() if n.startswith('test_')]
    for name in names:
        try:
            globals()[name]()
        except (AssertionError, OSError) as e:
            print('FAILED: %s: %s' % (name, e))
            return 1
    print('ok')
    return 0


if __name__ == '__main__':
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(main())
