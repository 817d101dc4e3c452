#!/usr/bin/python3
"""test_agent: muster-agent against a controller made for it.

The controller below speaks docs/protocol/muster.md from its own side, with a
yamux of its own.  Prints one line a test; ends non-zero when any failed."""

import base64
import fcntl
import getpass
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests/system/lib'))
from harness import adopt, end_all  # noqa: E402

AGENT = os.environ.get('MUSTER_AGENT', os.path.join(ROOT, 'build/muster-agent'))
PATIENCE = 20  # seconds before anything is called stuck
TOKEN = 'clt_' + 'a' * 32
AGENT_ID = 'agt_' + 'b' * 20
GUID = b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
STARTED, STDOUT, STDERR, EXIT, STDIN_ACK, REFUSED, GAP = range(1, 8)
STDIN, STDIN_EOF, ACK, SIGNAL, DONE = range(16, 21)
WINDOW = 256 * 1024


def check(condition, why):
    if not condition:
        raise AssertionError(why)


def until(what, why):
    """For facts of the system that no event tells of."""
    end = time.monotonic() + PATIENCE
    while not what():
        check(time.monotonic() < end, why)
        time.sleep(0.01)


def ed25519_ok(key, signature, text):
    """By openssl: RFC 8410 says how a raw public key is wrapped."""
    with tempfile.TemporaryDirectory() as d:
        der = bytes.fromhex('302a300506032b6570032100') + key
        for name, data in (('key', der), ('sig', signature), ('text', text)):
            with open(os.path.join(d, name), 'wb') as f:
                f.write(data)
        return subprocess.run(
            ['openssl', 'pkeyutl', '-verify', '-pubin', '-keyform', 'DER', '-inkey', 'key',
             '-rawin', '-in', 'text', '-sigfile', 'sig'],
            cwd=d, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Wire:
    """A socket with a buffer."""

    def __init__(self, sock):
        self.sock = sock
        self.data = b''
        self.lock = threading.Lock()

    def need(self, n):
        while len(self.data) < n:
            got = self.sock.recv(262144)
            if not got:
                raise EOFError
            self.data += got
        out, self.data = self.data[:n], self.data[n:]
        return out

    def head(self):
        while b'\r\n\r\n' not in self.data:
            got = self.sock.recv(65536)
            if not got:
                raise EOFError
            self.data += got
        head, self.data = self.data.split(b'\r\n\r\n', 1)
        lines = head.decode().split('\r\n')
        fields = dict((k.lower(), v.strip()) for k, v in (x.split(':', 1) for x in lines[1:]))
        return lines[0].split(' '), fields

    def send(self, data):
        with self.lock:
            self.sock.sendall(data)


class Stream:
    """One yamux stream that the controller opened; its exec frames."""

    def __init__(self, session, ident):
        self.session = session
        self.id = ident
        self.window = WINDOW
        self.room = threading.Condition()
        self.data = b''
        self.frames = queue.Queue()
        self.ended = threading.Event()
        self.reset = False
        self.longest = 0
        self.hold = False  # give no window back
        self.owed = 0

    def feed(self, data):
        self.longest = max(self.longest, len(data))
        self.data += data
        self.owed += len(data)
        if not self.hold:
            self.release()
        while len(self.data) >= 5:
            n = struct.unpack('>I', self.data[1:5])[0]
            if len(self.data) < 5 + n:
                break
            self.frames.put((self.data[0], self.data[5:5 + n]))
            self.data = self.data[5 + n:]

    def release(self):
        if self.owed:
            self.session.yamux(1, 0, self.id, self.owed)
        self.owed = 0

    def say(self, kind, payload=b''):
        self.session.yamux_data(self.id, struct.pack('>BI', kind, len(payload)) + payload)

    def ack(self, which, offset):
        self.say(ACK, struct.pack('>BQ', which, offset))

    def finish(self):
        self.say(DONE)
        self.session.yamux(1, 4, self.id, 0)

    def next(self, timeout=PATIENCE):
        return self.frames.get(timeout=timeout)

    def expect(self, kind):
        got, payload = self.next()
        check(got == kind, 'frame %d, wanted %d: %r' % (got, kind, payload[:200]))
        return json.loads(payload) if kind in (STARTED, EXIT, REFUSED) else payload

    def collect(self, at=(0, 0)):
        """Everything to EXIT: out, err, exit.  Offsets must join."""
        at = list(at)
        out = [bytearray(), bytearray()]
        while True:
            kind, payload = self.next()
            if kind in (STDOUT, STDERR):
                i = kind - STDOUT
                offset = struct.unpack('>Q', payload[:8])[0]
                check(offset == at[i], 'offset %d, wanted %d' % (offset, at[i]))
                out[i] += payload[8:]
                at[i] += len(payload) - 8
            elif kind == EXIT:
                end = json.loads(payload)
                check([end['out'], end['err']] == at, 'EXIT before the last byte')
                return bytes(out[0]), bytes(out[1]), end
            else:
                check(kind in (STARTED, STDIN_ACK), 'frame %d' % kind)


class Session:
    """A WebSocket link that an agent opened."""

    def __init__(self, wire, fields):
        self.wire = wire
        self.fields = fields
        self.texts = queue.Queue()
        self.streams = {}
        self.next_id = 2
        self.closed = threading.Event()
        self.close = None
        self.pings = 0
        self.longest = 0
        self.fragments = b''
        self.mux = b''
        self.registration = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def send(self, opcode, payload):
        n = len(payload)
        head = bytes([0x80 | opcode])
        head += bytes([n]) if n < 126 else struct.pack('>BH' if n < 65536 else '>BQ',
                                                       126 if n < 65536 else 127, n)
        self.wire.send(head + payload)

    def say(self, kind, payload=None, request_id=None):
        message = {'type': kind, 'payload': payload or {}, 'timestamp': '2025-10-16T12:00:00.000Z'}
        if request_id:
            message['request_id'] = request_id
        self.send(1, json.dumps(message).encode())

    def bye(self, code, reason=''):
        self.send(8, struct.pack('>H', code) + reason.encode())

    def cut(self):
        """The cable is pulled: no close, a reset."""
        self.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        # shutdown wakes the reader; the close behind it resets
        try:
            self.wire.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.wire.sock.close()

    def run(self):
        try:
            while self.frame():
                pass
        except (EOFError, OSError, ValueError):
            pass
        self.closed.set()
        self.texts.put(None)
        for s in self.streams.values():
            s.frames.put((0, b'gone'))

    def frame(self):
        a, b = self.wire.need(2)
        check(a & 0x70 == 0 and b & 0x80, 'a client must mask')
        n = b & 0x7f
        if n == 126:
            n = struct.unpack('>H', self.wire.need(2))[0]
        elif n == 127:
            n = struct.unpack('>Q', self.wire.need(8))[0]
        mask = self.wire.need(4)
        data = self.wire.need(n)
        key = (mask * (n // 4 + 1))[:n]
        data = (int.from_bytes(data, 'big') ^ int.from_bytes(key, 'big')).to_bytes(n, 'big')
        return self.take(a & 15, data)

    def take(self, opcode, data):
        if opcode == 1:
            self.texts.put(json.loads(data))
        elif opcode == 2:
            self.longest = max(self.longest, len(data))
            self.mux += data
            while self.mux_frame():
                pass
        elif opcode == 8:
            self.close = (struct.unpack('>H', data[:2])[0], data[2:].decode()) if data else (1005, '')
            self.send(8, data[:2])
            return False
        elif opcode == 9:
            self.pings += 1
            self.send(10, data)
        return True

    # yamux, the server's role

    def yamux(self, kind, flags, ident, value, data=b''):
        self.send(2, struct.pack('>BBHII', 0, kind, flags, ident, value) + data)

    def yamux_data(self, ident, data, flags=0):
        stream = self.streams[ident]
        while data:
            with stream.room:
                stream.room.wait_for(lambda: stream.window > 0 or stream.reset, PATIENCE)
                n = min(len(data), stream.window, 60000)
                stream.window -= n
            if stream.reset:
                return
            self.yamux(0, flags, ident, n, data[:n])
            data, flags = data[n:], 0

    def mux_frame(self):
        if len(self.mux) < 12:
            return False
        version, kind, flags, ident, value = struct.unpack('>BBHII', self.mux[:12])
        size = value if kind == 0 else 0
        if len(self.mux) < 12 + size:
            return False
        data, self.mux = self.mux[12:12 + size], self.mux[12 + size:]
        check(version == 0, 'yamux version %d' % version)
        if kind == 2 and flags & 1:
            self.yamux(2, 2, 0, value)
        stream = self.streams.get(ident)
        if stream is None:
            return True
        with stream.room:
            if kind == 1:
                stream.window += value
            stream.reset = stream.reset or flags & 8 != 0
            stream.room.notify()
        if flags & 8:
            stream.frames.put((0, b'reset'))
        if data:
            stream.feed(data)
        if flags & 4:
            stream.ended.set()
        return True

    def open(self, order, kind=4):
        stream = Stream(self, self.next_id)
        self.next_id += 2
        self.streams[stream.id] = stream
        text = json.dumps(order).encode()
        self.yamux_data(stream.id, struct.pack('>BBH', 2, kind, len(text)) + text, flags=1)
        return stream

    def message(self, kind):
        """The next text of a type; heartbeats in between are dropped."""
        while True:
            m = self.texts.get(timeout=PATIENCE)
            check(m is not None, 'the link ended, waiting for ' + kind)
            if m['type'] == kind:
                return m
            check(m['type'] == 'heartbeat', 'a %s, wanted %s' % (m['type'], kind))

    def register(self, heartbeat_ms=30000, incarnation='db_one', epoch=0):
        m = self.message('register')
        self.registration = m['payload']
        self.say('register_success', {
            'cluster_id': 'uuid-1', 'name': m['payload']['name'], 'muster': {
                'proto': 1, 'incarnation': incarnation, 'stop_epoch': epoch,
                'heartbeat_ms': heartbeat_ms, 'limits': {'message': 1048576}}}, m['request_id'])
        return self


class Controller:
    def __init__(self, tls=None):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.tls = tls
        self.sessions = queue.Queue()
        self.joins = []
        self.answers = []  # heads to give instead of 101, once each
        self.join_status = 201
        self.tries = queue.Queue()  # (time, status) of each handshake
        self.keys = {}
        self.nonces = 0
        self.fault = None
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def end(self):
        """Take no more.  Waits for the thread: one that is just about to
        accept would do so on whatever gets the same descriptor next."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()

    @property
    def url(self):
        return '%s://127.0.0.1:%d' % ('https' if self.tls else 'http', self.port)

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(sock)
            while self.request(wire):
                pass
        except (EOFError, OSError):
            sock.close()
        except AssertionError as e:
            self.fault = str(e)
            sock.close()

    def answer(self, wire, status, extra='', body=b''):
        wire.send(('HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n' % (status, len(body), extra)).encode() + body)
        return True

    def request(self, wire):
        line, fields = wire.head()
        if line[0] == 'POST':
            return self.join(wire, line, fields)
        check(line[1] == '/api/v1/clusters/agent/ws', line[1])
        check(fields.get('sec-websocket-protocol') == 'muster.v1', 'subprotocol')
        check('sec-websocket-extensions' not in fields, 'no extension is offered')
        if self.answers:
            status, extra = self.answers.pop(0)
            self.tries.put((time.monotonic(), status))
            return self.answer(wire, status, extra)
        if not self.proved(fields):
            self.nonces += 1
            return self.answer(wire, '401 Unauthorized',
                               'WWW-Authenticate: Muster-Key nonce="nonce-%d"\r\n' % self.nonces)
        self.tries.put((time.monotonic(), '101'))
        accept = base64.b64encode(hashlib.sha1(fields['sec-websocket-key'].encode() + GUID).digest())
        wire.send(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                  b'Sec-WebSocket-Protocol: muster.v1\r\nSec-WebSocket-Accept: ' + accept + b'\r\n\r\n')
        session = Session(wire, fields)
        self.sessions.put(session)
        session.run()
        wire.sock.close()
        return False

    def proved(self, fields):
        m = re.fullmatch(r'Muster-Key id="([^"]*)", key="([^"]*)", nonce="([^"]*)", sig="([^"]*)"',
                         fields.get('authorization', ''))
        if m is None:
            return False
        key, sig = (base64.urlsafe_b64decode(x + '=' * (-len(x) % 4)) for x in (m[2], m[4]))
        check(self.keys.get(m[1], key) == key, 'another key')
        check(m[3] == 'nonce-%d' % self.nonces, 'an old nonce')
        check(ed25519_ok(key, sig, ('muster-link-v1\n%s\n%s' % (m[1], m[3])).encode()), 'signature')
        return True

    def join(self, wire, line, fields):
        check(line[1] == '/api/v1/agents/join', line[1])
        body = json.loads(wire.need(int(fields['content-length'])))
        self.joins.append((fields['authorization'], body))
        if self.join_status >= 400:
            return self.answer(wire, '%d No' % self.join_status, 'Content-Type: application/problem+json\r\n',
                               b'{"detail":"this token is revoked"}')
        self.keys[AGENT_ID] = base64.b64decode(body['public_key'])
        return self.answer(wire, '%d Fine' % self.join_status, 'Content-Type: application/json\r\n', json.dumps({
            'schema': 'muster.joined/1', 'agent_id': AGENT_ID, 'cluster_id': 'uuid-1',
            'name': body['name'], 'workspace_id': 1, 'incarnation': 'db_one'}).encode())

    def session(self):
        return self.sessions.get(timeout=PATIENCE)


class World:
    """A state directory, a controller, and an agent that may run."""

    def __init__(self, tls=None):
        # Short: there is a socket in it.
        self.dir = tempfile.mkdtemp(prefix='ma.', dir='/tmp')
        self.state = os.path.join(self.dir, 's')
        self.controller = Controller(tls)
        self.process = None
        self.log = os.path.join(self.dir, 'log')
        self.seq = 0

    def call(self, *words, **kw):
        return subprocess.run([AGENT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, text=True, check=False, **kw)

    def join(self, *options, token=TOKEN, url=None):
        path = os.path.join(self.dir, 'token')
        with open(path, 'w') as f:
            f.write(token + '\n')
        return self.call('join', url or self.controller.url, '--token-file', path, '--name', 'web-1',
                         '--state', self.state, '--exec-user', getpass.getuser(), *options)

    def start(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([AGENT, 'run', '--state', self.state], stderr=log)
        return self

    def up(self, **kw):
        return self.controller.session().register(**kw)

    def ready(self):
        done = self.join('--allow', 'exec')
        check(done.returncode == 0, done.stderr)
        return self.start().up()

    def status(self):
        done = self.call('status', '--json', '--state', self.state)
        return json.loads(done.stdout)['links'][0] if done.stdout else None

    def command(self, *argv, **more):
        self.seq += 1
        return dict({'id': 'cmd_%020d' % self.seq, 'seq': self.seq, 'argv': list(argv),
                     'foreground': True}, **more)

    def run(self, session, *argv, **more):
        return session.open(self.command(*argv, **more))

    def cmd_dir(self, ident):
        return os.path.join(self.link_dir(), 'cmd', ident)

    def link_dir(self):
        links = os.path.join(self.state, 'links')
        return os.path.join(links, os.listdir(links)[0])

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(timeout=PATIENCE)
        self.process = None
        return code

    def end_commands(self):
        """Holders outlive their agent: what a test left is ended here."""
        for path, _, names in os.walk(self.dir):
            if 'claim' not in names:
                continue
            with open(path + '/claim') as f:
                claim = dict(x.split('=', 1) for x in f.read().splitlines() if '=' in x)
                try:
                    fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    continue  # its holder is gone, its numbers may be others'
                except OSError:
                    pass
            for kill, key in ((os.killpg, 'pid'), (os.kill, 'holder')):
                try:
                    if int(claim.get(key, '0')) > 1:
                        kill(int(claim[key]), signal.SIGKILL)
                except OSError:
                    pass  # it has just ended by itself

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.controller.end()
        check(self.controller.fault is None, self.controller.fault)
        self.end_commands()
        shutil.rmtree(self.dir, ignore_errors=True)


# The tests -------------------------------------------------------------------


def test_usage(w):
    for words in ([], ['frob'], ['run', '--mode', 'signed'], ['join'], ['join', 'ftp://x', '--token-file', 'x'],
                  ['stop', 'x'], ['policy', 'frob']):
        check(w.call(*words).returncode == 2, words)
    check(w.call('help').returncode == 0 and 'join' in w.call('help').stdout, 'help')
    check(w.call('version').stdout.startswith('muster-agent '), 'version')
    check(w.call('run', '--state', w.state).returncode == 1, 'run without a state')


def test_join(w):
    done = w.join()
    check(done.returncode == 0, done.stderr)
    check(getpass.getuser() != 'root' or 'gives this host away' in done.stderr, 'no warning')
    bearer, body = w.controller.joins[0]
    check(bearer == 'Bearer ' + TOKEN, bearer)
    check(body['name'] == 'web-1' and len(base64.b64decode(body['public_key'])) == 32, body)
    check(body['install_id'] == open(w.state + '/install_id').read().strip(), 'install_id')
    key = w.link_dir() + '/key'
    check(stat.S_IMODE(os.stat(key).st_mode) == 0o600, 'mode of the key')
    check(stat.S_IMODE(os.stat(w.state).st_mode) == 0o700, 'mode of the state')
    for path, _, names in os.walk(w.state):
        for name in names:
            check(TOKEN not in open(os.path.join(path, name)).read(), 'the token stayed in ' + name)
    policy = open(w.state + '/policy.conf').read()
    check('\nallow = observe\n' in policy and '\nallow = exec\n' not in policy, policy)
    # Once more: the same key, and the owner's policy stays.
    with open(w.state + '/policy.conf', 'a') as f:
        f.write('# mine\n')
    secret = open(key).read()
    w.controller.join_status = 200
    check(w.join().returncode == 0, 'joining again')
    check(w.controller.joins[1][1]['public_key'] == body['public_key'], 'another key')
    check(open(key).read() == secret and '# mine' in open(w.state + '/policy.conf').read(), 'rewritten')
    check(w.join('--allow', 'exec,logs').returncode == 0, 'widening')
    check('allow = exec\n' in open(w.state + '/policy.conf').read(), 'not widened')
    done = w.call('join', w.controller.url, '--token-file', '-', '--state', w.state,
                  '--exec-user', getpass.getuser(), input=TOKEN)
    check(done.returncode == 0, done.stderr)
    w.controller.join_status = 403
    done = w.join()
    check(done.returncode == 4 and 'revoked' in done.stderr, done.stderr)
    check(w.join('--allow', 'everything').returncode == 2, 'an unknown verb')


def certificate(d):
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-keyout', d + '/key.pem', '-out', d + '/cert.pem', '-days', '2', '-subj', '/CN=x',
                    '-addext', 'subjectAltName=IP:127.0.0.1'], stderr=subprocess.DEVNULL, check=True)
    pub = subprocess.run('openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform DER',
                         shell=True, cwd=d, stdout=subprocess.PIPE, check=True).stdout
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(d + '/cert.pem', d + '/key.pem')
    return context, hashlib.sha256(pub).hexdigest()


def test_pin(w):
    context, pin = certificate(w.dir)
    w.controller.end()
    w.controller = Controller(context)
    done = w.join(token=TOKEN)
    check(done.returncode == 1 and 'tls' in done.stderr, 'believed a stranger: ' + done.stderr)
    done = w.join(token=TOKEN + '.sha256-' + '0' * 64)
    check(done.returncode == 1, 'another pin was taken')
    check(not w.controller.joins, 'the token was sent to a stranger')
    done = w.join(token=TOKEN + '.sha256-' + pin, url='http://127.0.0.1:%d' % w.controller.port)
    check(done.returncode == 2, 'a pin without TLS')
    done = w.join('--ca-file', w.dir + '/cert.pem')
    check(done.returncode == 0, done.stderr)
    done = w.join('--allow', 'exec', token=TOKEN + '.sha256-' + pin)
    check(done.returncode == 0, done.stderr)
    check(w.controller.joins[-1][0] == 'Bearer ' + TOKEN, 'the pin was sent')
    s = w.start().up()
    out, _, end = w.run(s, 'echo', 'over tls').collect()
    check(out == b'over tls\n' and end['exit_code'] == 0, end)


def test_register(w):
    s = w.ready()
    r = s.registration
    check(s.fields['authorization'].startswith('Muster-Key id="%s"' % AGENT_ID), 'no proof')
    check(r['agent_id'] == AGENT_ID and r['name'] == 'web-1' and r['cluster_id'] == 'uuid-1', r)
    check(r['hostname'] == socket.gethostname() and r['agent_version'], r)
    check(r['server_specs']['cpu_cores'] > 0 and r['server_specs']['memory_gb'] > 0 and r['server_specs']['os'], r)
    for key in ('labels', 'tunnel_port_config', 'k8s_version'):
        check(key in r, key)
    m = r['muster']
    check(m['proto'] == 1 and m['min'] == 1 and {'yamux', 'exec'} <= set(m['features']), m)
    check(m['boot_id'] == open('/proc/sys/kernel/random/boot_id').read().strip(), m)
    check(m['install_id'] and m['session_id'] and m['stop_epoch'] == 0, m)
    check(m['policy']['verbs'] == 'observe,exec', m)
    check(m['policy']['hash'] == hashlib.sha256(open(w.state + '/policy.conf', 'rb').read()).hexdigest(), 'hash')
    check(m['resume'] == {'incarnation': 'db_one', 'sequence': 0, 'commands': []}, m)
    # The same process is the same session.
    s.cut()
    again = w.up()
    check(again.registration['muster']['session_id'] == m['session_id'], 'another session')
    st = w.status()
    check(st['connected'] and st['agent_id'] == AGENT_ID and st['connections'] == 2, st)
    check(w.call('status', '--state', w.state).returncode == 0, 'status')


def test_heartbeat(w):
    check(w.join('--allow', 'exec').returncode == 0, 'join')
    s = w.start().up(heartbeat_ms=1000)
    s.message('heartbeat')
    b = s.texts.get(timeout=PATIENCE)['payload']
    meta = b['metadata']
    for key in ('cpu_usage', 'memory_usage', 'disk_usage'):
        check(isinstance(meta[key], (int, float)) and 0 <= meta[key] <= 100, meta)
    check(len(meta['load']) == 3 and meta['network']['in_bytes_per_second'] >= 0, meta)
    check(b['status'] == 'healthy' and b['agent_id'] == AGENT_ID and b['cluster_id'] == 'uuid-1', b)
    s.say('ping', request_id='r1')
    check(s.message('pong')['request_id'] == 'r1', 'pong')
    s.say('surprise', {'x': 1})
    s.send(1, b'{"type": 7}')
    s.send(1, b'not json')
    s.say('ping', request_id='r2')
    check(s.message('pong')['request_id'] == 'r2', 'a bad message hurt')
    s.say('error', {'error': 'cluster not found', 'code': 'NOT_REGISTERED'})
    s.register()
    s.message('heartbeat')


def test_refusals(w):
    check(w.join().returncode == 0, 'join')
    w.controller.answers = [('503 No', 'Retry-After: 2\r\n'), ('500 No', ''), ('403 No', '')]
    w.start()
    tries = [w.controller.tries.get(timeout=PATIENCE) for _ in range(3)]
    check(2 <= tries[1][0] - tries[0][0] < 3, 'Retry-After of 2 s: %r' % tries)
    check(0.5 <= tries[2][0] - tries[1][0] < 1.5, 'the first back-off: %r' % tries)
    until(lambda: w.status()['refused'], 'status is silent')
    st = w.status()
    check('403' in st['why'] and 150000 <= st['next_try_ms'] <= 300000, st)
    check(w.call('status', '--state', w.state).returncode == 1, 'status of a refused agent')
    check('level=error' in open(w.log).read(), 'not loud')
    check(w.stop() == 0, 'SIGTERM while waiting')


def test_registration_refused(w):
    """What time cannot mend is a refusal; what it can is tried again soon."""
    check(w.join().returncode == 0, 'join')
    s = w.start().controller.session()
    m = s.message('register')
    s.say('error', {'error': 'the disk is full', 'code': 'NO_SPACE'}, m['request_id'])
    then = time.monotonic()
    s = w.controller.session()
    check(time.monotonic() - then < 1.5, 'a full disk is waited for too long')
    m = s.message('register')
    s.say('error', {'error': 'this agent_id belongs to another credential', 'code': 'AGENT_ID_TAKEN',
                    'field': 'agent_id'}, m['request_id'])
    until(lambda: w.status()['refused'], 'status is silent')
    st = w.status()
    check('AGENT_ID_TAKEN' in st['why'] and 'join this host again' in st['why'], st)
    check(140000 <= st['next_try_ms'] <= 300000, st)
    check(w.call('status', '--state', w.state).returncode == 1, 'status of a refused agent')
    loud = [x for x in open(w.log) if 'level=error' in x and 'link_refused' in x]
    check(len(loud) == 1 and 'AGENT_ID_TAKEN' in loud[0], 'not loud: %r' % loud)


def test_registration_refused_later(w):
    """An agent that is up registers anew after SIGHUP; a no is a no then too,
    and "not registered" in answer to a registration starts no storm."""
    s = w.ready()
    w.process.send_signal(signal.SIGHUP)
    m = s.message('register')
    s.say('error', {'error': 'cluster not found', 'code': 'CLUSTER_NOT_FOUND'}, m['request_id'])
    check(s.closed.wait(PATIENCE), 'the link should have ended')
    s = w.up()
    w.process.send_signal(signal.SIGHUP)
    m = s.message('register')
    s.say('error', {'error': 'no', 'code': 'NOT_PERMITTED'}, m['request_id'])
    until(lambda: w.status()['refused'], 'stays as if nothing had been said')
    check('NOT_PERMITTED' in w.status()['why'], w.status())


def test_proof_refused(w):
    check(w.join().returncode == 0, 'join')
    no = ('401 No', 'WWW-Authenticate: Muster-Key nonce="n"\r\n')
    w.controller.answers = [no, no, no]
    w.start()
    until(lambda: w.status() and w.status()['refused'], 'goes on proving')
    check(not w.controller.answers, 'one proof more was due')


def test_replaced(w):
    s = w.ready()
    s.bye(1000, 'replaced_by_new_connection')
    until(lambda: w.status()['refused'], 'comes back at once')
    check('copy' in w.status()['why'], w.status())
    check(s.closed.wait(PATIENCE) and s.close[0] == 1000, 'the close was not answered')


def test_reconnect(w):
    s = w.ready()
    s.say('reconnect', {'after_ms': 300, 'spread_ms': 0})
    then = time.monotonic()
    s.bye(1001, 'drain')
    again = w.up()
    took = time.monotonic() - then
    check(0.2 <= took < 0.5, 'came back after %.2f s' % took)
    again.say('reconnect', {'after_ms': 0, 'spread_ms': 0})
    w.up()
    check(again.closed.wait(PATIENCE) and again.close[0] == 1001, again.close)


def test_goodbye(w):
    s = w.ready()
    stream = w.run(s, 'sleep', '100')
    pid = stream.expect(STARTED)['pid']
    check(w.stop() == 0, 'exit code')
    check(s.close == (1000, 'agent stops'), s.close)
    os.kill(pid, 0)
    check(w.call('status', '--state', w.state).returncode == 1, 'status of nobody')
    s = w.start().up()
    check([c['state'] for c in s.registration['muster']['resume']['commands']] == ['running'], s.registration)
    order = {'id': 'cmd_%020d' % 1, 'seq': 1, 'argv': ['sleep', '100'], 'again': True}
    stream = s.open(order)
    check(stream.expect(STARTED)['pid'] == pid, 'another process')
    stream.say(SIGNAL, b'\x03')
    _, _, end = stream.collect()
    check(end['signal'] == 9 and end['exit_code'] == 137 and end['interrupted'], end)
    stream.finish()
    until(lambda: not os.path.exists(w.cmd_dir(order['id'])), 'DONE did not forget')


def test_exec(w):
    s = w.ready()
    stream = w.run(s, 'sh', '-c', 'echo out; echo err >&2; echo $A-$MUSTER_COMMAND_ID-$HOME; exit 7',
                   env={'LC_ALL': 'C'}, cwd='')
    out, err, end = stream.collect()
    ident = 'cmd_%020d' % 1
    check(out.startswith(b'out\n-' + ident.encode() + b'-/') and err == b'err\n', (out, err))
    check(end['exit_code'] == 7 and end['signal'] == 0 and end['code'] == '' and not end['timed_out'], end)
    check(end['finished_at'] >= end['started_at'] > '2020', end)
    stream.ack(1, end['out'])
    stream.finish()
    check(stream.ended.wait(PATIENCE), 'the agent keeps its side open')
    until(lambda: not os.path.exists(w.cmd_dir(ident)), 'DONE did not forget')
    # Its number stays taken.
    again = s.open({'id': ident, 'seq': 1, 'argv': ['true']})
    check(again.expect(REFUSED)['code'] == 'UNKNOWN_OUTCOME', 'ran twice')
    check(again.ended.wait(PATIENCE), 'a refusal must end the stream')
    # A shell's one string, a time limit, a program that is not there.
    out, _, _ = w.run(s, 'echo a; echo b', shell=True).collect()
    check(out == b'a\nb\n', out)
    _, _, end = w.run(s, 'sleep', '100', timeout_ms=200).collect()
    check(end['timed_out'] and end['signal'] == 2, end)
    _, _, end = w.run(s, '/no/such/program').collect()
    check(end['code'] == 'EXEC_FAILED' and end['why'], end)


def test_stdin(w):
    s = w.ready()
    stream = w.run(s, 'cat', stdin=True)
    stream.expect(STARTED)
    data = os.urandom(1500000)
    sent, limit, out = 0, 0, b''
    while True:
        kind, payload = stream.next()
        if kind == STDIN_ACK:
            taken, limit = struct.unpack('>QQ', payload)
            check(limit - taken == WINDOW and taken <= sent, (taken, limit))
        elif kind == STDOUT:
            out += payload[8:]
        else:
            break
        while sent < min(limit, len(data)):
            part = data[sent:min(limit, sent + 30000)]
            stream.say(STDIN, struct.pack('>Q', sent) + part)
            sent += len(part)
            if sent == len(data):
                stream.say(STDIN_EOF, struct.pack('>Q', sent))
    check(kind == EXIT and out == data, 'cat gave %d bytes' % len(out))
    # A hole, and more than the credit: what fits into the pipe is consumed.
    for at, size in ((5, 1), (0, 2 * WINDOW)):
        stream = w.run(s, 'sleep', '100', stdin=True)
        stream.expect(STARTED)
        while size > 0:
            part = min(size, 60000)
            stream.say(STDIN, struct.pack('>Q', at) + bytes(part))
            at, size = at + part, size - part
        while stream.next()[0] == STDIN_ACK:
            pass
        check(stream.reset, 'not reset')
        s.open({'id': 'cmd_%020d' % w.seq, 'seq': w.seq, 'argv': ['x']}).say(SIGNAL, b'\x03')


def test_policy(w):
    check(w.join().returncode == 0, 'join')
    s = w.start().up()
    no = w.run(s, 'true').expect(REFUSED)
    check(no['code'] == 'NOT_PERMITTED' and 'exec' in no['why'], no)
    with open(w.state + '/policy.conf', 'w') as f:
        f.write('version = 1\nallow = exec\n[exec]\nallow = echo **\ndeny = echo no **\n')
    w.process.send_signal(signal.SIGHUP)
    s.register()
    check(s.registration['muster']['policy']['verbs'] == 'exec', s.registration)
    check(w.run(s, 'echo', 'yes').collect()[0] == b'yes\n', 'echo')
    no = w.run(s, 'echo', 'no', 'x').expect(REFUSED)
    check(no['code'] == 'NOT_PERMITTED' and no['line'] == 5, no)
    check(w.run(s, 'echo', 'x', user='nobody').expect(REFUSED)['code'] == 'NOT_PERMITTED', 'user')
    check(w.run(s, 'echo', 'x', env={'LD_PRELOAD': 'x'}).expect(REFUSED)['code'] == 'NOT_PERMITTED', 'env')
    check(w.run(s, 'echo yes', shell=True).expect(REFUSED)['code'] == 'NOT_PERMITTED', 'shell')
    check(s.open({'id': 'cmd_x', 'argv': []}).expect(REFUSED)['code'] == 'INVALID_REQUEST', 'argv')
    stream = s.open({}, kind=5)
    check(stream.next()[0] == 0 and stream.reset, 'an unknown kind must be reset')
    # A broken file changes nothing.
    with open(w.state + '/policy.conf', 'w') as f:
        f.write('version = 1\nallow = frob\n')
    w.process.send_signal(signal.SIGHUP)
    until(lambda: 'policy_kept' in open(w.log).read(), 'silent about a broken policy')
    check(w.run(s, 'echo', 'yes').collect()[0] == b'yes\n', 'the old policy was dropped')
    done = w.call('policy', '--state', w.state)
    check(done.returncode == 1 and ':2:' in done.stderr, done.stderr)
    with open(w.state + '/policy.conf', 'w') as f:
        f.write('version = 1\nallow = exec\n[exec]\nallow = echo **\n')
    check('echo **' in w.call('policy', '--state', w.state).stdout, 'policy')
    done = w.call('policy', '--state', w.state, 'check', 'echo', '-n')
    check(done.returncode == 0 and ':4' in done.stdout, done.stdout)
    check(w.call('policy', '--state', w.state, 'check', 'rm').returncode == 4, 'rm')


def test_stopped(w):
    s = w.ready()
    # What the agent does not know, the holder reads: test_stop.py has the rest.
    with open(w.link_dir() + '/stop', 'w') as f:
        f.write('muster-stop 1\n')
    no = w.run(s, 'true').expect(REFUSED)
    check(no['code'] == 'AGENT_STOPPED', no)


BULK = 20 * 1000 * 1000
NOISE = 'import random,sys\nr=random.Random(%d)\nfor _ in range(200): sys.stdout.buffer.write(r.randbytes(100000))'


def noise(seed):
    import random
    r = random.Random(seed)
    return b''.join(r.randbytes(100000) for _ in range(200))


def test_break(w):
    """The link breaks again and again in the middle of output."""
    s = w.ready()
    want = noise(1)
    order = w.command(sys.executable, '-c', NOISE % 1)
    got, breaks = bytearray(), 0
    stream = s.open(order)
    while True:
        kind, payload = stream.next()
        if kind == STDOUT:
            check(struct.unpack('>Q', payload[:8])[0] == len(got), 'a hole')
            got += payload[8:]
            if len(got) > 1000000:
                stream.ack(1, len(got) - 1000000)
        elif kind == EXIT:
            break
        if breaks < 3 and len(got) > (breaks + 1) * 3000000:
            breaks += 1
            s.cut()
            s = w.up()
            held = s.registration['muster']['resume']
            check(held['commands'][0]['id'] == order['id'] and held['sequence'] == 1, held)
            stream = s.open(dict(order, again=True, out=len(got)))
    check(got == want, 'torn: %d bytes' % len(got))
    check(s.longest <= 16 * 1024, 'a frame of %d' % s.longest)


def test_kill(w):
    """The agent is killed in the middle of output; its holder goes on."""
    s = w.ready()
    want = noise(2)
    order = w.command(sys.executable, '-c', NOISE % 2)
    stream = s.open(order)
    stream.hold = True
    first = b''
    while len(first) < 100000:
        kind, payload = stream.next()
        first += payload[8:] if kind == STDOUT else b''
    w.stop(signal.SIGKILL)
    s = w.start().up()
    check(s.registration['muster']['resume']['sequence'] == 1, s.registration)
    stream = s.open(dict(order, again=True, out=len(first)))
    rest, _, end = stream.collect(at=(len(first), 0))
    check(first + rest == want and end['out'] == len(want), 'torn')
    # Known and unknown after a restart: never twice.
    stream.finish()
    until(lambda: not os.path.exists(w.cmd_dir(order['id'])), 'DONE did not forget')
    w.stop(signal.SIGKILL)
    s = w.start().up()
    check(s.open(order).expect(REFUSED)['code'] == 'UNKNOWN_OUTCOME', 'ran twice')


def test_holder_dies(w):
    """Nobody saw the end: unknown, told once, never started again."""
    s = w.ready()
    order = w.command('sleep', '100')
    pid = s.open(order).expect(STARTED)['pid']
    claim = dict(x.split('=', 1) for x in open(w.cmd_dir(order['id']) + '/claim').read().splitlines() if '=' in x)
    w.stop(signal.SIGKILL)
    os.kill(int(claim['holder']), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    s = w.start().up()
    held = s.registration['muster']['resume']['commands']
    check([c['id'] for c in held] == [order['id']], held)
    check(held[0]['state'] in ('running', 'unknown'), held)
    _, _, end = s.open(order).collect()
    check(end['code'] == 'UNKNOWN_OUTCOME', end)
    s.streams[2].finish()
    until(lambda: not os.path.exists(w.cmd_dir(order['id'])), 'it is kept for ever')
    check(s.open(order).expect(REFUSED)['code'] == 'UNKNOWN_OUTCOME', 'ran twice')


def test_newest_wins(w):
    s = w.ready()
    order = w.command('cat', stdin=True)
    old = s.open(order)
    old.expect(STARTED)
    new = s.open(dict(order, again=True))
    new.expect(STARTED)
    check(old.ended.wait(PATIENCE), 'the old stream stays')
    while new.expect(STDIN_ACK) is None:
        pass
    new.say(STDIN, struct.pack('>Q', 0) + b'hello')
    new.say(STDIN_EOF, struct.pack('>Q', 5))
    check(new.collect()[0] == b'hello', 'the new stream is deaf')


def test_stalled_reader(w):
    """A stream that nobody reads costs the others and the link nothing."""
    s = w.ready()
    stalled = s.open(w.command('sh', '-c', 'head -c 3000000 /dev/zero; sleep 100'))
    stalled.hold = True
    got = 0
    while got < WINDOW - 20000:
        kind, payload = stalled.next()
        got += len(payload) if kind == STDOUT else 0
    for _ in range(20):
        check(w.run(s, 'echo', 'quick').collect()[0] == b'quick\n', 'stalled by another')
    rss = [int(line.split()[1]) for line in open('/proc/%d/status' % w.process.pid) if line.startswith('RssAnon')]
    check(rss[0] < 3072 or 'asan' in AGENT, 'RssAnon %d KiB' % rss[0])
    stalled.hold = False
    stalled.release()
    while got < 3000000:
        kind, payload = stalled.next()
        got += len(payload) - 8 if kind == STDOUT else 0
    stalled.say(SIGNAL, b'\x03')


def test_many(w):
    s = w.ready()
    streams = [w.run(s, 'sh', '-c', 'head -c 100000 /dev/zero; echo %d >&2' % i) for i in range(60)]
    for i, stream in enumerate(streams):
        out, err, end = stream.collect()
        check(len(out) == 100000 and err == b'%d\n' % i and end['exit_code'] == 0, (i, err, end))
        stream.finish()
    until(lambda: not os.listdir(os.path.join(w.link_dir(), 'cmd')), 'DONE did not forget')


def test_state(w):
    s = w.ready()
    done = w.call('run', '--state', w.state)
    check(done.returncode == 1 and 'another muster-agent runs' in done.stderr, done.stderr)
    w.stop()
    check(s.closed.wait(PATIENCE), 'still there')
    if not os.path.exists(w.state + '/machine'):
        return
    with open(w.state + '/machine', 'w') as f:
        f.write('0' * 32 + '\n')
    done = w.call('run', '--state', w.state)
    check(done.returncode == 1 and 'join anew' in done.stderr, done.stderr)
    check(w.join().returncode == 1, 'joined with the state of another machine')


TESTS = [f for name, f in sorted(globals().items()) if name.startswith('test_')]


def main():
    adopt()
    passed = failed = 0
    chosen = sys.argv[1:]
    for test in TESTS:
        if chosen and test.__name__ not in chosen:
            continue
        w = World()
        begun = time.monotonic()
        try:
            try:
                test(w)
            finally:
                log = open(w.log).read() if os.path.exists(w.log) else ''
                w.end()
                end_all()  # holders outlive their agents
            if os.environ.get('LOGS'):
                print(log)
            passed += 1
            print('ok %s (%.1f s)' % (test.__name__, time.monotonic() - begun), flush=True)
        except Exception as e:  # every failure is told, whatever it is
            failed += 1
            import traceback
            where = traceback.extract_tb(e.__traceback__)[-1] if not isinstance(e, AssertionError) \
                else [t for t in traceback.extract_tb(e.__traceback__) if t.name == test.__name__][-1]
            print('FAILED %s: %s %s (line %d)\n%s' % (test.__name__, type(e).__name__, e, where.lineno, log[-3000:]),
                  flush=True)
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
