#!/usr/bin/python3
"""test_tunnel_agent: tunnel streams of muster-agent against a controller made
for it (docs/protocol/muster.md, "Tunnel streams").

Services are sockets of this process.  Prints one line a test; ends non-zero
when any failed."""

import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests/system'))
import test_agent as base  # noqa: E402
from test_agent import PATIENCE, check, until  # noqa: E402

TCP, UDP = 1, 2
SANITIZED = 'asan' in base.AGENT  # what it frees stays for a while


class Tunnel(base.Stream):
    """A tunnel stream: an answer, then bytes."""

    def __init__(self, session, ident):
        super().__init__(session, ident)
        self.more = threading.Condition()
        self.got = bytearray()

    def feed(self, data):
        with self.more:
            self.got += data
            self.owed += len(data)
            self.more.notify()
        if not self.hold:
            self.release()

    def read(self, n, why='bytes'):
        with self.more:
            check(self.more.wait_for(lambda: len(self.got) >= n or self.reset, PATIENCE),
                  '%d of %d: %s' % (len(self.got), n, why))
            check(len(self.got) >= n, 'reset, waiting for ' + why)
            out = bytes(self.got[:n])
            del self.got[:n]
            return out

    def rest(self):
        check(self.ended.wait(PATIENCE), 'no FIN')
        with self.more:
            out = bytes(self.got)
            self.got.clear()
            return out

    def answer(self):
        version, code, n = struct.unpack('>BBH', self.read(4, 'an answer'))
        check(version == 2 and code in (0, 1), (version, code))
        return code, json.loads(self.read(n))

    def opened(self):
        code, what = self.answer()
        check(code == 0, what)
        return what

    def refused(self, code):
        no, what = self.answer()
        check(no == 1 and what['code'] == code, (what, code))
        return what

    def write(self, data):
        self.session.yamux_data(self.id, data)

    def fin(self):
        self.session.yamux(1, 4, self.id, 0)

    def rst(self):
        self.session.yamux(1, 8, self.id, 0)

    def gone(self):
        until(lambda: self.reset, 'no reset')

    def datagram(self):
        return self.read(struct.unpack('>H', self.read(2))[0])

    def send_datagram(self, data):
        self.write(struct.pack('>H', len(data)) + data)


def open_raw(session, head):
    stream = Tunnel(session, session.next_id)
    session.next_id += 2
    session.streams[stream.id] = stream
    session.yamux_data(stream.id, head, flags=1)
    return stream


def open_tunnel(session, kind=TCP, **order):
    text = json.dumps(dict({'id': 'req_1'}, **order)).encode()
    return open_raw(session, struct.pack('>BBH', 2, kind, len(text)) + text)


def to(session, port, host='127.0.0.1', **more):
    return open_tunnel(session, host=host, port=port, **more)


class Service:
    """A TCP service: what it does with a connection is a function."""

    def __init__(self, serve, tls=None):
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        self.tls = tls
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        try:
            if self.tls:
                s = self.tls.wrap_socket(s, server_side=True)
            self.serve(s)
        except OSError:
            pass


def echo(s):
    while True:
        data = s.recv(65536)
        if not data:
            break
        s.sendall(data)
    if isinstance(s, ssl.SSLSocket):
        s = s.unwrap()
    s.shutdown(socket.SHUT_WR)
    s.close()


def hear(session, kind):
    """The next text of a type, whatever comes before."""
    while True:
        m = session.texts.get(timeout=PATIENCE)
        check(m is not None, 'the link ended, waiting for ' + kind)
        if m['type'] == kind:
            return m['payload']


def join(w, *targets, policy='', limits=''):
    done = w.join(*[x for t in targets for x in ('--allow-target', t)], '--allow', 'tunnel,exec')
    check(done.returncode == 0, done.stderr)
    path = w.state + '/policy.conf'
    text = open(path).read().replace('[tunnel]\n', '[tunnel]\n' + policy) + limits
    with open(path, 'w') as f:
        f.write(text)
    w.start()
    return w.up()


def policy_of(w, change):
    path = w.state + '/policy.conf'
    text = change(open(path).read())
    with open(path, 'w') as f:
        f.write(text)
    w.process.send_signal(signal.SIGHUP)


def tunnels(w):
    return w.status()['tunnels']


def fds(w):
    return len(os.listdir('/proc/%d/fd' % w.process.pid))


def test_echo(w):
    s = join(w, '127.0.0.1:*')
    check('tunnel' in s.registration['muster']['features'], s.registration)
    service = Service(echo)
    t = to(s, service.port)
    what = t.opened()
    check(what['address'] == '127.0.0.1:%d' % service.port and what['connect_ms'] >= 0, what)
    t.write(b'hello')
    check(t.read(5) == b'hello', 'echo')
    data = os.urandom(3 << 20)
    threading.Thread(target=t.write, args=(data,), daemon=True).start()
    check(t.read(len(data)) == data, 'three megabytes')
    check(t.longest <= 16384, 'a frame of %d' % t.longest)
    listed = tunnels(w)
    check(listed['open'] == 1 and listed['list'][0]['port'] == service.port, listed)
    check('127.0.0.1' in w.call('status', '--state', w.state).stdout, 'status does not list it')
    t.fin()
    check(t.rest() == b'', 'an end')
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')
    check(tunnels(w)['bytes_in'] == len(data) + 5, tunnels(w))


def test_early_bytes(w):
    s = join(w, '127.0.0.1:*')
    service = Service(echo)
    text = json.dumps({'id': 'a', 'host': '127.0.0.1', 'port': service.port}).encode()
    t = open_raw(s, struct.pack('>BBH', 2, TCP, len(text)) + text + b'right behind')
    t.opened()
    check(t.read(12) == b'right behind', 'early bytes')
    t.fin()
    t.rest()
    # byte by byte, and version 1
    head = struct.pack('>BBH', 1, TCP, service.port)
    for word in (b'127.0.0.1', b'', b'tun_1'):
        head += struct.pack('>H', len(word)) + word
    t = open_raw(s, head[:1])
    for i in range(1, len(head)):
        t.write(head[i:i + 1])
    t.write(b'one')
    check(t.read(3) == b'one', 'version 1')
    t.fin()
    check(t.rest() == b'', 'its end')
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')


def test_half_close(w):
    """A request that ends, and an answer that is still being written."""
    s = join(w, '127.0.0.1:*')

    def answer(c):
        data = b''
        while True:
            more = c.recv(65536)
            if not more:
                break
            data += more
        c.sendall(hashlib.sha256(data).hexdigest().encode())
        c.close()

    service = Service(answer)
    t = to(s, service.port)
    t.opened()
    data = os.urandom(1 << 20)
    t.write(data)
    t.fin()
    check(t.rest() == hashlib.sha256(data).hexdigest().encode(), 'the answer')
    # the other way: the service is done, and still listens
    seen = []
    done = threading.Event()

    def listen(c):
        c.sendall(b'bye')
        c.shutdown(socket.SHUT_WR)
        while True:
            more = c.recv(65536)
            if not more:
                break
            seen.append(more)
        done.set()

    t = to(s, Service(listen).port)
    t.opened()
    check(t.rest() == b'bye', 'bye')
    t.write(data)
    t.fin()
    check(done.wait(PATIENCE) and b''.join(seen) == data, 'bytes behind its end')
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')


def test_aborts(w):
    s = join(w, '127.0.0.1:*')

    def die(c):
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        c.close()

    t = to(s, Service(die).port)
    t.opened()
    t.write(b'x')
    t.gone()
    died = threading.Event()

    def wait(c):
        try:
            c.recv(1)
        except ConnectionResetError:
            died.set()

    t = to(s, Service(wait).port)
    t.opened()
    t.rst()
    check(died.wait(PATIENCE), 'the service was not reset')
    # the link is cut
    died.clear()
    t = to(s, Service(wait).port)
    t.opened()
    s.cut()
    check(died.wait(PATIENCE), 'the link was cut, and the service not reset')


def test_refused(w):
    s = join(w, '127.0.0.1:1', '*:7')
    with socket.socket() as dead:
        dead.bind(('127.0.0.1', 0))
        free = dead.getsockname()[1]
    what = to(s, 5432, host='db.example').refused('NOT_PERMITTED')
    check('db.example' in what['text'], what)
    to(s, 2).refused('NOT_PERMITTED')
    to(s, 1).refused('CONNECT_REFUSED')
    for host in ('localhost', '127.0.0.1', '127.0.0.2', '::1', '[::1]', '::ffff:127.0.0.1', '0.0.0.0', '0.1.2.3',
                 '169.254.169.254', '::ffff:169.254.169.254', '64:ff9b::169.254.169.254', '2002:a9fe:a9fe::1',
                 'fe80::1', 'fd00:ec2::254', '100.100.100.200', '192.0.0.192', '224.0.0.1', 'ff02::1',
                 '255.255.255.255', '::', '127.1', '0x7f.1', '2130706433', '0177.0.0.1', 'LOCALHOST',
                 'ip6-localhost', '::127.0.0.1', '64:ff9b:1::7f00:1'):
        t = to(s, 7, host=host)
        code, what = t.answer()
        check(code == 1 and what['code'] in ('TARGET_REFUSED', 'NAME_NOT_FOUND'), (host, what))
        if host != 'ip6-localhost':
            check(what['code'] == 'TARGET_REFUSED', (host, what))
        check(t.rest() == b'', host)
        t.fin()
    for host in ('', 'a b', 'a/b', 'http://x', 'x\n', 'fe80::1%lo', '-x', 'x' * 300, 'b\u00fccher'):
        to(s, 7, host=host).refused('INVALID')
    to(s, 0, host='x').refused('INVALID')
    open_tunnel(s, host='x').refused('INVALID')
    open_tunnel(s, host='x', port=7, listen=3).refused('INVALID')
    to(s, 7, host='no-such-name.invalid').refused('NAME_NOT_FOUND')
    open_tunnel(s, listen={'host': '127.0.0.1', 'port': free}).refused('NOT_PERMITTED')
    # without an answer: a reset
    open_raw(s, struct.pack('>BBHHHH', 1, TCP, 9, 0, 0, 0)).gone()
    open_raw(s, b'\x02\x03\x00\x02{}').gone()
    open_raw(s, b'\x09\x03').gone()
    check(tunnels(w)['open'] == 0 and tunnels(w)['refused'] > 30, tunnels(w))


def test_timeout(w):
    """A service whose backlog is full answers no SYN."""
    s = join(w, '127.0.0.1:*')
    full = socket.socket()
    full.bind(('127.0.0.1', 0))
    full.listen(0)
    waiting = []
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(full.getsockname())
        waiting.append(c)
    begun = time.monotonic()
    to(s, full.getsockname()[1], connect_ms=400).refused('CONNECT_TIMEOUT')
    check(time.monotonic() - begun >= 0.4, 'too soon')
    for c in waiting:
        c.close()


def test_no_verb(w):
    check(w.join('--allow', 'exec').returncode == 0, 'join')
    s = w.start().up()
    what = to(s, 80).refused('NOT_PERMITTED')
    check('allow = tunnel' in what['text'], what)


def test_policy_target(w):
    """What `policy target` says is what happens."""
    join(w, '127.0.0.1:80', '*:443', '[::1]:22')
    for place, code in (('127.0.0.1:80', 0), ('127.0.0.1:443', 4), ('localhost:443', 4), ('db.example:443', 0),
                        ('db.example:80', 4), ('169.254.169.254:443', 4), ('[::1]:22', 0), ('[::1]:443', 4),
                        ('127.1:443', 4), ('10.0.0.1:443', 0), ('x', 2), ('x:', 2), (':1', 2)):
        done = w.call('policy', '--state', w.state, 'target', place)
        check(done.returncode == code, (place, done))


def test_udp(w):
    s = join(w, '127.0.0.1:*', limits='udp_idle = 1500ms\n')
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    service.bind(('127.0.0.1', 0))
    port = service.getsockname()[1]
    t = open_tunnel(s, UDP, host='127.0.0.1', port=port)
    t.opened()
    for size in (0, 1, 1472, 40000, 65507):
        data = os.urandom(size)
        t.send_datagram(data)
        got, peer = service.recvfrom(70000)
        check(got == data, size)
        service.sendto(data, peer)
        check(t.datagram() == data, size)
    # borders stay when several come in one frame, or one in pieces
    t.write(b'\x00\x01a\x00\x02bc\x00')
    check(service.recv(10) == b'a' and service.recv(10) == b'bc', 'two of one frame')
    t.write(b'\x03d')
    t.write(b'ef')
    check(service.recv(10) == b'def', 'one of three')
    # more than the window and the queue: dropped, and the link goes on
    t.hold = True

    def dropped():
        for _ in range(8):
            service.sendto(b'x' * 8000, peer)
        return tunnels(w)['dropped'] > 0

    until(dropped, 'nothing was dropped')
    t.release()
    t.hold = False
    check(t.ended.wait(PATIENCE), 'a quiet stream was not ended')
    t.fin()
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')
    # nobody there: ICMP
    service.close()
    t = open_tunnel(s, UDP, host='127.0.0.1', port=port)
    t.opened()
    t.send_datagram(b'anybody?')
    t.gone()


def test_tls(w):
    key, cert = w.dir + '/k', w.dir + '/c'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-keyout', key, '-out', cert, '-subj', '/CN=svc', '-addext',
                    'subjectAltName=DNS:svc.test,IP:127.0.0.1'], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    names = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    service = Service(echo, context)
    s = join(w, '127.0.0.1:*')
    what = to(s, service.port, tls={}).refused('TLS_FAILED')
    check('certificate' in what['text'], what)
    t = to(s, service.port, tls={'insecure': True, 'name': 'other.test'})
    check(t.opened()['tls_ms'] >= 0, 'times')
    check(names[-1] == 'other.test', names)
    data = os.urandom(1 << 20)
    threading.Thread(target=t.write, args=(data,), daemon=True).start()
    check(t.read(len(data)) == data, 'through TLS')
    t.fin()
    t.rest()
    policy_of(w, lambda text: text.replace('[tunnel]\n', '[tunnel]\nca = %s\n' % cert))
    s.message('register')
    to(s, service.port, tls={'name': 'wrong.test'}).refused('TLS_FAILED')
    t = to(s, service.port, tls={'name': 'svc.test'})
    t.opened()
    t = to(s, service.port, tls={})
    t.opened()
    t.write(b'x')
    check(t.read(1) == b'x', 'checked by address')
    plain = Service(echo)
    to(s, plain.port, tls={}, connect_ms=1000).refused('TLS_FAILED')


def test_stall(w):
    """A service that reads nothing and a controller that reads nothing stall
    themselves and nobody else, and cost no more than their windows."""
    s = join(w, '127.0.0.1:*')
    held = []
    stuck = Service(held.append)
    flood = os.urandom(8 << 20)

    def pour(c):
        c.sendall(flood)
        c.close()

    source = Service(pour)
    other = Service(echo)
    a = to(s, stuck.port)
    a.opened()
    a.hold = True
    pushed = []

    def push():
        a.write(b'z' * (8 << 20))
        pushed.append(1)

    threading.Thread(target=push, daemon=True).start()
    b = to(s, source.port)
    b.hold = True
    b.opened()
    c = to(s, other.port)
    c.opened()
    for i in range(200):
        c.write(b'ping')
        check(c.read(4) == b'ping', i)
    with open('/proc/%d/status' % w.process.pid) as f:
        rss = [int(x.split()[1]) for x in f if x.startswith('VmRSS')][0]
    check(SANITIZED or rss < 16 * 1024, 'RSS of %d KiB' % rss)
    check(not pushed, 'a window without end')
    # then both go on
    b.hold = False
    b.release()
    check(hashlib.sha256(b.read(len(flood))).digest() == hashlib.sha256(flood).digest(), 'bytes')
    got = 0
    until(lambda: held, 'a connection')
    while got < 8 << 20:
        got += len(held[0].recv(1 << 20))
    until(lambda: pushed, 'its end')


def test_many(w):
    s = join(w, '127.0.0.1:*', limits='tunnels = 120\n')
    service = Service(echo)
    all_ = [to(s, service.port) for _ in range(120)]
    for t in all_:
        t.opened()
    what = to(s, service.port).refused('TOO_MANY')
    check('120' in what['text'], what)
    for i, t in enumerate(all_):
        t.write(b'%d' % i * 1000)
    for i, t in enumerate(all_):
        check(t.read(len(b'%d' % i) * 1000) == b'%d' % i * 1000, i)
        t.fin()
    for t in all_:
        t.rest()
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')
    check(to(s, service.port).opened(), 'room again')


def test_flat(w):
    """Opens and closes leave nothing behind."""
    s = join(w, '127.0.0.1:*')
    service = Service(echo)

    def some(n):
        for k in range(n):
            batch = [to(s, service.port) for _ in range(50)]
            for t in batch:
                t.opened()
                t.write(b'x')
            for i, t in enumerate(batch):
                t.read(1)
                t.fin() if (i + k) % 3 else t.rst()
            for i, t in enumerate(batch):
                if (i + k) % 3:
                    t.rest()
                del s.streams[t.id]

    def rss():
        with open('/proc/%d/status' % w.process.pid) as f:
            return [int(x.split()[1]) for x in f if x.startswith('RssAnon')][0]

    some(10)
    until(lambda: tunnels(w)['open'] == 0, 'open ones')
    before = fds(w), rss()
    some(40)
    until(lambda: tunnels(w)['open'] == 0, 'open ones')
    until(lambda: fds(w) <= before[0] + 2, 'descriptors: %d, were %d' % (fds(w), before[0]))
    check(SANITIZED or rss() < before[1] + 1024, 'memory: %d, was %d' % (rss(), before[1]))


def test_policy_reload(w):
    s = join(w, '127.0.0.1:*', policy='listen = 127.0.0.1:*\n')
    service = Service(echo)
    t = to(s, service.port)
    t.opened()
    listener = open_tunnel(s, listen={'host': '127.0.0.1', 'port': 0})
    listener.opened()
    policy_of(w, lambda text: text + '# the same\n')
    s.message('register')
    t.write(b'x')
    check(t.read(1) == b'x', 'cut without a reason')
    policy_of(w, lambda text: text.replace('allow = "127.0.0.1:*"', '').replace('listen =', '# listen ='))
    t.gone()
    listener.gone()
    s.message('register')
    to(s, service.port).refused('NOT_PERMITTED')


def test_stop(w):
    s = join(w, '127.0.0.1:*', policy='listen = 127.0.0.1:*\n')
    service = Service(echo)
    port = 0

    def some():
        nonlocal port
        out = [to(s, service.port) for _ in range(3)]
        for t in out:
            t.opened()
        listener = open_tunnel(s, listen={'host': '127.0.0.1', 'port': 0})
        port = int(listener.opened()['address'].rsplit(':', 1)[1])
        return out + [listener]

    def stop(epoch, keep):
        s.say('stop', {'epoch': epoch, 'scope': 'all', 'keep_tunnels': keep, 'reason': 'drill',
                       'at': '2025-10-16T12:00:00.000Z', 'mac': '0' * 64})
        r = hear(s, 'stop_receipt')
        while r['epoch'] != epoch:
            r = hear(s, 'stop_receipt')
        return r

    def resume(epoch):
        s.say('resume_work', {'epoch': epoch, 'scope': 'all', 'at': '2025-10-16T12:00:00.000Z', 'mac': '0' * 64})
        while hear(s, 'stop_receipt')['epoch'] != epoch:
            pass

    held = some()
    r = stop(1, True)
    check(r['tunnels_closed'] == 0, r)
    held[0].write(b'still')
    check(held[0].read(5) == b'still', 'kept')
    to(s, service.port).opened().get('address')
    r = stop(2, False)
    check(r['tunnels_closed'] == 5, r)
    for t in held:
        t.gone()
    what = to(s, service.port).refused('STOPPED')
    check('drill' in what['text'], what)
    try:
        socket.create_connection(('127.0.0.1', port), timeout=PATIENCE)
        check(False, 'it still listens')
    except ConnectionRefusedError:
        pass
    resume(3)
    held = some()
    # the host's own stop spares nothing
    check(w.call('stop', '--state', w.state, '--reason', 'mine').returncode == 0, 'stop')
    for t in held:
        t.gone()
    r = hear(s, 'stop_receipt')
    while not r['local']:
        r = hear(s, 'stop_receipt')
    check( r['tunnels_closed'] == 4, r)
    to(s, service.port).refused('STOPPED')


def test_listen(w):
    s = join(w, policy='listen = 127.0.0.1:*\nlisten = localhost:0\n')
    opened = []
    more = threading.Condition()
    mux_frame = s.mux_frame

    class Streams(dict):
        """Those that the agent opens have odd numbers."""

        def get(self, ident, other=None):
            if ident not in self and ident % 2 == 1:
                self[ident] = t = Tunnel(s, ident)
                with more:
                    opened.append(t)
                    more.notify()
            return super().get(ident, other)

    s.streams = Streams(s.streams)
    check(mux_frame, 'the session')
    t = open_tunnel(s, listen={'host': '127.0.0.1', 'port': 0}, id='lst_1')
    host, port = t.opened()['address'].rsplit(':', 1)
    check(host == '127.0.0.1' and int(port) > 0, port)

    def next_opened(kind):
        with more:
            check(more.wait_for(lambda: opened, PATIENCE), 'no stream')
            new = opened.pop(0)
        version, got, n = struct.unpack('>BBH', new.read(4))
        check(version == 2 and got == kind, (version, got))
        return new, json.loads(new.read(n))

    def yes(stream):
        text = b'{"address":"198.51.100.1:1"}'
        stream.write(struct.pack('>BBH', 2, 0, len(text)) + text)

    c = socket.create_connection(('127.0.0.1', int(port)))
    c.settimeout(PATIENCE)
    new, what = next_opened(TCP)
    check(what['listener'] == 'lst_1' and what['peer'] == '127.0.0.1:%d' % c.getsockname()[1], what)
    yes(new)
    c.sendall(b'to you')
    check(new.read(6) == b'to you', 'bytes')
    new.write(b'to me')
    check(c.recv(10) == b'to me', 'bytes back')
    new.fin()
    check(c.recv(10) == b'', 'its end')
    c.close()
    check(new.rest() == b'', 'the other end')
    # refused
    c = socket.create_connection(('127.0.0.1', int(port)))
    c.settimeout(PATIENCE)
    new, what = next_opened(TCP)
    new.write(struct.pack('>BBH', 2, 1, 2) + b'{}')
    try:
        check(c.recv(1) == b'', 'an open connection')
    except ConnectionResetError:
        pass
    # no longer
    t.fin()
    check(t.rest() == b'', 'an end')

    def closed():
        try:
            socket.create_connection(('127.0.0.1', int(port)), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False

    until(closed, 'it still listens')
    open_tunnel(s, listen={'host': '0.0.0.0', 'port': 0}).refused('NOT_PERMITTED')
    open_tunnel(s, listen={'host': 'localhost', 'port': 0}).opened()
    busy = socket.create_server(('127.0.0.1', 0))
    open_tunnel(s, listen={'host': '127.0.0.1', 'port': busy.getsockname()[1]}).refused('LISTEN_FAILED')
    # datagrams: a stream a source
    t = open_tunnel(s, UDP, listen={'host': '127.0.0.1', 'port': 0}, id='lst_2')
    port = int(t.opened()['address'].rsplit(':', 1)[1])
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    streams = []
    for i, u in enumerate(sources):
        u.settimeout(PATIENCE)
        u.sendto(b'from %d' % i, ('127.0.0.1', port))
        new, what = next_opened(UDP)
        check(what['listener'] == 'lst_2', what)
        yes(new)
        check(new.datagram() == b'from %d' % i, 'a datagram')
        streams.append(new)
    for i, new in enumerate(streams):
        new.send_datagram(b'back %d' % i)
        check(sources[i].recv(20) == b'back %d' % i, 'its answer')
    t.rst()
    for new in streams:
        new.gone()
    until(lambda: tunnels(w)['open'] == 0, 'not forgotten')


def test_kubernetes_names(w):
    s = join(w, 'web:80', 'localhost:*')
    # outside of a cluster a service is a plain host
    what = open_tunnel(s, service='db', namespace='prod', port=5432).refused('NOT_PERMITTED')
    check(' db ' in what['text'], what)
    service = Service(echo)
    open_tunnel(s, service='localhost', port=service.port).opened()
    w.stop()
    os.environ['KUBERNETES_SERVICE_HOST'] = '10.0.0.1'
    try:
        w.start()
        s = w.up()
        what = open_tunnel(s, service='db', namespace='prod', port=5432).refused('NOT_PERMITTED')
        check('db.prod.svc.' in what['text'], what)
    finally:
        del os.environ['KUBERNETES_SERVICE_HOST']


base.TESTS = [f for name, f in sorted(globals().items()) if name.startswith('test_') and callable(f)]

if __name__ == '__main__':
    sys.exit(base.main())
