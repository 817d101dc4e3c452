#!/usr/bin/python3
"""Drives build/muster-holder as an agent would (src/agent/holder_proto.h)."""

import fcntl
import hashlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOLDER = os.environ.get("MUSTER_HOLDER", os.path.join(ROOT, "build/muster-holder"))
PATIENCE = 30  # seconds before anything is called stuck
MIB = 1 << 20


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def text_file(path):
    """A checked text file as a dict; None when absent or torn."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError:
        return None
    at = data.find(b"check=")
    if at < 0 or int(data[at + 6 : at + 22], 16) != fnv(data[:at]):
        return None
    lines = data.decode().splitlines()
    found = dict(line.split("=", 1) for line in lines[1:])
    found["heading"] = lines[0]
    return found


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(what):
    """Wait for what() to be true: for facts of the system without an event."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.005)


class Closed(Exception):
    pass


class Link:
    """One control connection."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.data = b""
        self.exited = None

    def send(self, kind, body=b""):
        self.sock.sendall(struct.pack(">I", len(body)) + kind + body)

    def frame(self):
        while True:
            if len(self.data) >= 5:
                n = struct.unpack(">I", self.data[:4])[0]
                if len(self.data) >= 5 + n:
                    kind, body = self.data[4:5], self.data[5 : 5 + n]
                    self.data = self.data[5 + n :]
                    if kind == b"X":
                        self.exited = body
                    return kind, body
            try:
                got = self.sock.recv(65536)
            except ConnectionResetError:
                raise Closed()
            if not got:
                raise Closed()
            self.data += got

    def want(self, kind):
        """The body of the next frame of a kind, passing over others."""
        while True:
            k, body = self.frame()
            if k == kind:
                return body

    def text(self, kind):
        words = self.want(kind).split(b"\0")[:-1]
        return dict(w.decode().split("=", 1) for w in words)

    def grew(self, out, err):
        """The next lengths and flags; the exit says the last ones."""
        if self.exited is None:
            try:
                self.send(b"R", struct.pack(">QQ", out, err))
            except BrokenPipeError:
                pass
        while self.exited is None:
            kind, body = self.frame()
            if kind == b"G":
                return struct.unpack(">QQB", body)
        x = self.exit()
        return int(x["out"]), int(x["err"]), 3

    def read_to_end(self):
        out = err = flags = 0
        while flags & 3 != 3:
            out, err, flags = self.grew(out, err)
        return out, err

    def exit(self):
        while self.exited is None:
            self.frame()
        lines = self.exited.decode().splitlines()
        return dict(line.split("=", 1) for line in lines[1:])

    def ack(self, stream, offset):
        try:
            self.send(b"A", struct.pack(">BQ", stream, offset))
        except BrokenPipeError:
            pass  # it has left; its record is among what is to be read

    def input(self, offset, data):
        self.send(b"I", struct.pack(">Q", offset) + data)

    def input_end(self, offset):
        self.send(b"E", struct.pack(">Q", offset))

    def signal(self, number):
        self.send(b"S", bytes([number]))


INTERRUPT, TERMINATE, KILL, STOP = 1, 2, 3, 4


class Holder(Link):
    def __init__(self):
        ours, theirs = socket.socketpair()
        self.proc = subprocess.Popen([HOLDER], stdin=theirs,
                                     stdout=subprocess.DEVNULL)
        theirs.close()
        super().__init__(ours)
        self.dir = ""

    def order(self, state, ident, argv, **more):
        self.dir = os.path.join(state, "cmd", ident)
        words = ["muster-order=1", "state=" + state, "id=" + ident,
                 "seq=7", "epoch=3", "env=PATH=" + os.environ["PATH"]]
        words += ["env=" + e for e in more.pop("env", [])]
        words += ["%s=%s" % pair for pair in more.items()]
        words += ["arg=" + a for a in argv]
        self.send(b"O", b"".join(os.fsencode(w) + b"\0" for w in words))

    def read(self, name):
        try:
            with open(os.path.join(self.dir, name), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def attach(self):
        sock = socket.socket(socket.AF_UNIX)
        until(lambda: os.path.exists(os.path.join(self.dir, "ctl")))
        fd = os.open(self.dir, os.O_RDONLY)
        sock.connect("/proc/self/fd/%d/ctl" % fd)
        os.close(fd)
        return Link(sock)

    def record(self):
        return text_file(os.path.join(self.dir, "exit"))

    def lock_free(self):
        with open(os.path.join(self.dir, "claim")) as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def done(self):
        self.sock.close()
        self.proc.wait(PATIENCE)
        if self.proc.stdin:
            self.proc.stdin.close()


class Case:
    """What every test gets: a state directory and holders that end."""

    def __init__(self):
        self.state = tempfile.mkdtemp(prefix="muster-holder-")
        os.mkdir(os.path.join(self.state, "cmd"))
        self.holders = []

    def holder(self):
        h = Holder()
        self.holders.append(h)
        return h

    def run(self, argv, ident="cmd_1", **more):
        h = self.holder()
        h.order(self.state, ident, argv, **more)
        return h

    def sh(self, script, ident="cmd_1", **more):
        return self.run(["sh", "-c", script], ident, **more)

    def end(self):
        for h in self.holders:
            if h.proc.poll() is None:
                try:
                    # Its own link may have ended; what it holds must too.
                    link = h.attach() if os.path.exists(h.dir + "/ctl") else h
                    link.signal(STOP)
                    h.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                try:
                    h.proc.wait(5)
                except subprocess.TimeoutExpired:
                    h.proc.kill()
                    h.proc.wait()
            h.sock.close()
        shutil.rmtree(self.state)


def test_exit_codes(case):
    for code in (0, 1, 42, 255):
        h = case.sh("exit %d" % code, "code_%d" % code)
        x = h.exit()
        assert x["outcome"] == "exited" and x["code"] == str(code), x
        assert x["reason"] == "none" and x["signal"] == "0"
        h.done()
        assert h.record()["code"] == str(code)
        assert h.record()["heading"] == "muster-exit 1"
        assert h.lock_free()
        claim = h.read("claim").decode()
        assert claim.startswith("muster-claim 1\nid=code_%d\nseq=7\n" % code)
        assert text_file(os.path.join(h.dir, "claim"))["epoch"] == "3"


def test_claim_hash_and_status(case):
    h = case.run(["sleep", "60"])
    status = h.text(b"T")
    assert status["state"] == "running" and status["version"] == "1"
    assert alive(int(status["pid"]))
    claim = text_file(os.path.join(h.dir, "claim"))
    assert int(claim["argv"], 16) == fnv(b"sleep\x0060\0")
    assert claim["holder"] == str(h.proc.pid)
    assert claim["pid"] == status["pid"]
    assert not h.lock_free()


def test_killed_by_signal(case):
    x = case.sh("kill -SEGV $$").exit()
    assert (x["outcome"], x["code"], x["signal"]) == ("signaled", "139", "11")


def test_cannot_exec(case):
    x = case.run(["/no/such/program"], "none").exit()
    assert (x["outcome"], x["code"]) == ("failed", "127"), x
    assert (x["stage"], x["error"]) == ("exec", "ENOENT")
    x = case.run(["no-such-program"], "path").exit()
    assert (x["outcome"], x["code"], x["error"]) == ("failed", "127", "ENOENT")
    x = case.run(["/etc/passwd"], "denied").exit()
    assert (x["outcome"], x["code"], x["error"]) == ("failed", "126", "EACCES")
    x = case.run(["true"], "cwd", cwd="/no/such/place").exit()
    assert (x["outcome"], x["stage"], x["code"]) == ("failed", "cwd", "126")


def test_environment_and_place(case):
    h = case.sh('printf "%s|%s|" "$PWD" "$COLOUR"; env | wc -l; umask',
                cwd="/usr", env=["COLOUR=a b=c", "PWD=/x"])
    assert h.exit()["code"] == "0"
    place = h.read("out").decode()
    assert place.startswith("/usr|a b=c|"), place
    assert int(place.split("|")[2].split()[0]) <= 5, "an inherited environment"
    assert place.endswith("0022\n")


def test_nothing_leaks_in(case):
    script = ("import os,signal;"
              "print(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:3],"
              "len(os.listdir('/proc/self/fd')), os.getsid(0)==os.getpid(),"
              "signal.pthread_sigmask(signal.SIG_BLOCK,[]),"
              "signal.getsignal(signal.SIGTERM)==signal.SIG_DFL,"
              "signal.getsignal(signal.SIGHUP)==signal.SIG_DFL)")
    h = case.run(["/usr/bin/python3", "-c", script])
    assert h.exit()["code"] == "0", h.read("err")
    # The fourth is listdir's own.
    assert h.read("out") == b"[0, 1, 2] 4 True set() True True\n", h.read("out")


def test_both_streams_whole(case):
    n = 100 * MIB
    make = ("import sys,hashlib;"
            "b=bytes(range(256))*256\n"
            "for i in range(%d):\n"
            " sys.stdout.buffer.write(i.to_bytes(4,'big')+b[4:])\n"
            " if i%%16==0: sys.stderr.buffer.write(i.to_bytes(4,'big')+b[4:])\n"
            % (n // 65536))
    h = case.run(["/usr/bin/python3", "-c", make])
    began = time.monotonic()
    out, err = h.read_to_end()
    x = h.exit()
    took = time.monotonic() - began
    assert (out, err) == (n, n // 16)
    assert (x["out"], x["err"], x["code"]) == (str(n), str(n // 16), "0")
    block = bytes(range(256)) * 256
    want_out, want_err = hashlib.sha256(), hashlib.sha256()
    for i in range(n // 65536):
        want_out.update(i.to_bytes(4, "big") + block[4:])
        if i % 16 == 0:
            want_err.update(i.to_bytes(4, "big") + block[4:])
    assert hashlib.sha256(h.read("out")).digest() == want_out.digest()
    assert hashlib.sha256(h.read("err")).digest() == want_err.digest()
    print("  %.0f MB/s through the spools" % (n * 17 / 16 / took / 1e6))


def test_no_output_no_files(case):
    h = case.run(["true"])
    assert h.exit()["out"] == "0"
    h.done()
    assert sorted(os.listdir(h.dir)) == ["claim", "ctl", "exit"]


def test_cap_holds_the_command_back(case):
    cap = 256 * 1024
    h = case.sh("dd if=/dev/zero bs=65536 count=64 2>/dev/null; echo end >&2",
                cap=cap)
    out, err, flags = 0, 0, 0
    while flags & 4 == 0:
        out, err, flags = h.grew(out, err)
    assert out == cap and err == 0
    # Every byte more needs an acknowledgement, and gets no further than it.
    seen = [out]
    while flags & 1 == 0:
        h.ack(0, out)
        out, err, flags = h.grew(out, err)
        assert out - seen[-1] <= cap
        seen.append(out)
    x = h.exit()
    assert out == 64 * 65536 and x["out"] == str(out)
    assert h.read("err") == b"end\n"
    assert x["out_gap"] == "0"


def test_acknowledged_is_punched(case):
    n = 8 * MIB
    h = case.sh("head -c %d /dev/zero | tr '\\0' x; sleep 60" % n)
    out = err = 0
    while out < n:
        out, err, _ = h.grew(out, err)
    full = os.stat(os.path.join(h.dir, "out")).st_blocks * 512
    assert full >= n
    h.ack(0, n)
    until(lambda: os.stat(os.path.join(h.dir, "out")).st_blocks * 512 <= MIB + 65536)
    data = h.read("out")
    assert len(data) == n and data[-MIB:] == b"x" * MIB
    h.ack(0, n + 1)  # more than there is: a lie
    try:
        while True:
            h.frame()
    except Closed:
        pass
    assert h.attach().text(b"T")["out_acked"] == str(n)


def test_drop_leaves_gaps(case):
    """What is dropped keeps its offsets: a hole, and a line that says so."""
    cap = 65536
    h = case.sh("echo x >&2; head -c 1000000 /dev/zero | tr '\\0' a; read go; printf tail",
                cap=cap, full="drop", stdin=1)
    out = err = 0
    while out < 1000000:
        out, err, _ = h.grew(out, err)
    first = int(h.read("gaps").split()[1])
    assert cap - 2 <= first <= cap, first
    h.ack(1, 2)
    h.ack(0, 1000000)
    h.input(0, b"go\n")
    x = h.exit()
    line = h.read("gaps").decode()
    assert len(line) == 46, line
    name, at, missing = line.split()
    assert (name, int(at), int(missing)) == ("out", first, 1000000 - first), line
    assert (x["out"], x["out_gap"]) == ("1000004", str(1000000 - first))
    got = h.read("out")
    assert got == b"a" * first + b"\0" * (1000000 - first) + b"tail"


def test_input_echo_with_offsets(case):
    h = case.run(["cat"], stdin=1)
    data = os.urandom(1 * MIB)
    sent = consumed = 0
    while consumed < len(data):
        room = min(consumed + 65536, len(data)) - sent
        if room > 0:
            h.input(sent, data[sent : sent + room])
            sent += room
        received, consumed, closed = struct.unpack(">QQB", h.want(b"C"))
        assert consumed <= received <= sent and not closed
    # What was received before is skipped, a hole is refused.
    h.input(len(data) - 10, data[-10:] + b"more")
    h.input_end(len(data) + 4)
    x = h.exit()
    assert h.read("out") == data + b"more" and x["code"] == "0"


def test_input_hole_is_refused(case):
    h = case.run(["cat"], stdin=1)
    h.text(b"T")
    h.input(5, b"x")
    try:
        while True:
            h.frame()
    except Closed:
        pass
    again = h.attach()
    assert again.text(b"T")["input_received"] == "0"
    again.input(0, b"fine")
    again.input_end(4)
    assert again.exit()["out"] == "4"


def test_input_beyond_window_is_refused(case):
    h = case.run(["sleep", "60"], stdin=1)
    h.text(b"T")
    try:
        # The connection ends while this is sent, or right after.
        for i in range(4):
            h.input(i * 60000, b"x" * 60000)
        while True:
            h.frame()
    except (Closed, BrokenPipeError, ConnectionResetError):
        pass
    assert h.attach().text(b"T")["state"] == "running"


def test_input_nobody_reads(case):
    h = case.sh("exec <&-; echo closed; read x <&1; sleep 60", stdin=1)
    out = h.grew(0, 0)[0]
    assert out == 7
    h.input(0, b"lost")
    closed = 0
    while not closed:
        _, consumed, closed = struct.unpack(">QQB", h.want(b"C"))
    h.input(4, b"after")
    h.signal(KILL)
    assert h.exit()["reason"] == "kill"


def test_no_input_is_dev_null(case):
    h = case.run(["cat"])
    assert h.exit()["code"] == "0"


def test_interrupt_is_enough(case):
    h = case.sh('trap "echo got; exit 3" INT; echo up; while :; do sleep 0.01; done')
    h.grew(0, 0)
    h.signal(INTERRUPT)
    x = h.exit()
    assert (x["code"], x["reason"], x["outcome"]) == ("3", "interrupt", "exited")
    assert h.read("out") == b"up\ngot\n"


def test_interrupt_default_action(case):
    h = case.run(["sleep", "60"])
    h.text(b"T")
    h.signal(INTERRUPT)
    x = h.exit()
    assert (x["code"], x["signal"]) == ("130", "2")


def test_interrupt_escalates(case):
    h = case.sh('trap "echo int" INT; trap "echo term" TERM; echo up;'
                "while :; do sleep 0.01; done", int_ms=200, term_ms=300)
    h.grew(0, 0)
    began = time.monotonic()
    h.signal(INTERRUPT)
    x = h.exit()
    took = time.monotonic() - began
    assert h.read("out") == b"up\nint\nterm\n", h.read("out")
    assert (x["code"], x["signal"], x["reason"]) == ("137", "9", "interrupt")
    assert 0.45 < took < 5, took


def test_terminate_skips_interrupt(case):
    h = case.sh('trap "echo int" INT; echo up; while :; do sleep 0.01; done')
    h.grew(0, 0)
    h.signal(TERMINATE)
    x = h.exit()
    assert (x["code"], x["reason"]) == ("143", "terminate")
    assert h.read("out") == b"up\n"


def test_timeout(case):
    began = time.monotonic()
    x = case.run(["sleep", "60"], timeout_ms=300).exit()
    took = time.monotonic() - began
    assert (x["reason"], x["signal"], x["code"]) == ("timeout", "2", "130")
    assert 0.25 < took < 5, took
    assert int(x["took_ms"]) >= 290
    x = case.sh('trap "" INT TERM; while :; do sleep 0.01; done', "deaf",
                timeout_ms=100, int_ms=100, term_ms=100).exit()
    assert (x["reason"], x["signal"]) == ("timeout", "9")


RUNAWAYS = """
import os, time, sys
def away(hops):
    for _ in range(hops):
        if os.fork() == 0:
            os.setsid()
            continue
        if hops == 2: os._exit(0)
        return
    import signal
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
    os._exit(0)
for i in range(5):
    if os.fork() == 0:
        away(i % 3 + 1 if i % 3 != 1 else 2)
        time.sleep(600)
os.write(1, b"%d\\n" % os.getpid())
time.sleep(600)
"""


def runaway_pids(h, count):
    out = err = 0
    while h.read("out").count(b"\n") < count:
        out, err, _ = h.grew(out, err)
    return [int(p) for p in h.read("out").split()]


def stop_kills(case, **more):
    h = case.run(["/usr/bin/python3", "-c", RUNAWAYS], **more)
    pids = runaway_pids(h, 6)
    assert all(alive(p) for p in pids)
    began = time.monotonic()
    h.signal(STOP)
    x = h.exit()
    took = time.monotonic() - began
    assert not any(alive(p) for p in pids), "left alive"
    assert (x["reason"], x["signal"]) == ("stop", "9"), x
    assert int(x["killed"]) >= 6 and x["lingering"] == "0", x
    assert took < 2, took
    return took


def test_stop_kills_the_whole_tree(case):
    print("  %.0f ms" % (stop_kills(case) * 1000))


def writable_cgroup():
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        probe = os.path.join(path, "muster-probe")
        try:
            os.mkdir(probe)
        except OSError:
            continue
        good = os.path.exists(os.path.join(probe, "cgroup.kill"))
        os.rmdir(probe)
        if good:
            return path
    return None


def cgroup_of(h, path):
    at = os.stat(os.path.dirname(h.dir))
    return "%s/muster-%x.%x-%s" % (path, at.st_dev, at.st_ino, os.path.basename(h.dir))


def test_stop_by_cgroup(case):
    path = writable_cgroup()
    if path is None:
        print("SKIP: no writable cgroup v2")
        return
    h = case.run(["sleep", "60"], "look", cgroup=path)
    pid = h.text(b"T")["pid"]
    with open(cgroup_of(h, path) + "/cgroup.procs") as f:
        assert f.read().split() == [pid]
    print("  %.0f ms" % (stop_kills(case, cgroup=path) * 1000))
    stopped = cgroup_of(case.holders[-1], path)
    until(lambda: not os.path.exists(stopped))


def test_two_agents_with_one_id(case):
    path = writable_cgroup()
    if path is None:
        print("SKIP: no writable cgroup v2")
        return
    other = Case()
    try:
        mine, theirs = (c.run(["sleep", "60"], "same", cgroup=path) for c in (case, other))
        for h in mine, theirs:
            pid = h.text(b"T")["pid"]
            with open(cgroup_of(h, path) + "/cgroup.procs") as f:
                assert f.read().split() == [pid]
        mine.signal(STOP)
        mine.exit()
        assert alive(int(pid))
    finally:
        other.end()


def processes_of(uid):
    count = 0
    for p in os.listdir("/proc"):
        try:
            count += p.isdigit() and os.stat("/proc/" + p).st_uid == uid
        except FileNotFoundError:
            pass
    return count


# Bounded three ways, because a test must not take the machine along: by a
# limit on the user's processes, by the clock, and by the stop.
BOMB = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (300, 300))
end = time.monotonic() + 10
os.write(1, b"up\\n")
while time.monotonic() < end:
    try:
        if os.fork() == 0: os.setsid()
    except OSError:
        time.sleep(0.01)
"""


def test_directory_removed(case):
    # Its directory is gone: nobody can fetch a record, so it leaves.
    h = case.sh("read x", stdin=1)
    h.text(b"T")
    shutil.rmtree(os.path.join(case.state, "cmd"))
    h.signal(STOP)
    h.exit()
    h.done()


def test_stop_outruns_a_fork_bomb(case):
    if os.geteuid() != 0:
        print("SKIP: needs a user of its own to bound the bomb")
        return
    h = case.run(["/usr/bin/python3", "-c", BOMB], uid=12345, gid=12345)
    until(lambda: h.read("out") == b"up\n")
    until(lambda: processes_of(12345) > 200)
    began = time.monotonic()
    h.signal(STOP)
    x = h.exit()
    took = time.monotonic() - began
    print("  %s processes in %.0f ms" % (x["killed"], took * 1000))
    assert x["reason"] == "stop" and x["lingering"] == "0", x
    assert int(x["killed"]) >= 200 and took < 5, (x, took)


def test_agent_dies_and_comes_back(case):
    # A real agent process holds the socket, and is killed mid-run.
    n = 20 * MIB
    h = Holder()
    h.order(case.state, "cmd_1", ["sh", "-c",
            "head -c %d /dev/zero | tr '\\0' y; echo fin >&2" % n], cap=MIB)
    agent = os.fork()
    if agent == 0:
        h.grew(0, 0)
        signal.pause()
    h.sock.close()
    case.holders.append(h)
    claim = os.path.join(h.dir, "claim")
    until(lambda: os.path.exists(os.path.join(h.dir, "out")))
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    assert os.path.exists(claim) and not h.lock_free()
    h2 = h.attach()
    status = h2.text(b"T")
    assert status["state"] == "running" and status["id"] == "cmd_1"
    out, err, flags = int(status["out"]), 0, 0
    while flags & 3 != 3:
        h2.ack(0, out)
        out, err, flags = h2.grew(out, err)
    x = h2.exit()
    assert (x["out"], x["err"], x["code"]) == (str(n), "4", "0")
    assert h.read("out")[-MIB:] == b"y" * MIB
    h.proc.wait(PATIENCE)


def test_runs_to_its_end_alone(case):
    h = case.sh("sleep 0.2; echo done")
    h.text(b"T")
    h.sock.close()
    h.proc.wait(PATIENCE)
    assert h.record()["code"] == "0" and h.read("out") == b"done\n"


def test_hangup_and_terminate_are_ignored(case):
    h = case.sh("read x; echo $x", stdin=1)
    h.text(b"T")
    for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE,
              signal.SIGUSR1):
        os.kill(h.proc.pid, s)
    h.input(0, b"here\n")
    assert h.exit()["code"] == "0" and h.read("out") == b"here\n"


def test_holder_killed_is_unknown(case):
    h = case.run(["sleep", "60"])
    pid = int(h.text(b"T")["pid"])
    h.proc.kill()
    h.proc.wait()
    # What an agent decides from: a free claim, and no exit record.
    assert h.lock_free() and h.record() is None
    assert text_file(os.path.join(h.dir, "claim"))["pid"] == str(pid)
    os.kill(pid, signal.SIGKILL)
    # And nobody can start it again.
    again = case.run(["true"])
    assert again.text(b"V")["reason"] == "exists"


def test_second_claim_refused(case):
    first = case.run(["sleep", "60"])
    first.text(b"T")
    second = case.sh("touch %s/ran" % case.state)
    assert second.text(b"V")["reason"] == "exists"
    second.done()
    assert not os.path.exists(case.state + "/ran")
    assert first.proc.poll() is None


def test_race_for_a_claim(case):
    holders = [case.holder() for _ in range(12)]
    for h in holders:
        h.order(case.state, "race", ["sh", "-c", "echo x >>%s/ran" % case.state])
    kinds = sorted(h.frame()[0] for h in holders)
    assert kinds == [b"T"] + [b"V"] * 11, kinds
    for h in holders:
        h.done()
    with open(case.state + "/ran") as f:
        assert f.read() == "x\n"


def stop_file(case, epoch, stopped):
    """What an agent keeps of a stop; absent fields are for others."""
    text = ("muster-stop 1\nepoch=%d\nstopped=%d\n" % (epoch, stopped)).encode()
    check = 0xcbf29ce484222325
    for c in text:
        check = (check ^ c) * 0x100000001b3 & (1 << 64) - 1
    with open(case.state + "/stop", "wb") as f:
        f.write(text + b"check=%016x\n" % check)


def test_stop_file(case):
    stop_file(case, 4, False)
    h = case.sh("touch %s/ran" % case.state)
    assert h.text(b"V")["reason"] == "stopped"
    h.done()
    assert not os.path.exists(case.state + "/ran")
    assert h.record()["outcome"] == "refused"
    assert h.record()["error"] == "stopped"
    stop_file(case, 3, False)
    assert case.run(["true"], "equal").exit()["code"] == "0"
    with open(case.state + "/STOP", "w"):
        pass
    assert case.run(["true"], "local").text(b"V")["reason"] == "stopped"
    os.unlink(case.state + "/STOP")
    with open(case.state + "/elsewhere", "w"):
        pass
    for there, kind in (("/elsewhere", b"V"), ("/nowhere", b"T")):
        h = case.run(["true"], there[1:], stop=case.state + there)
        assert h.frame()[0] == kind
    stop_file(case, 3, True)
    assert case.run(["true"], "stopped").text(b"V")["reason"] == "stopped"
    with open(case.state + "/stop", "w") as f:
        f.write("garbage")
    assert case.run(["true"], "torn").text(b"V")["reason"] == "stopped"


def test_lingering_kept(case):
    h = case.sh("(trap '' HUP; exec sleep 60 >/dev/null 2>&1 </dev/null) & echo $!",
                linger="keep")
    x = h.exit()
    pid = int(h.read("out"))
    assert x["code"] == "0" and x["lingering"] == "1" and alive(pid)
    assert h.record()["lingering"] == "1"
    # The holder stays, and a stop still reaches it.
    again = h.attach()
    status = again.text(b"T")
    assert (status["state"], status["lingering"]) == ("done", "1")
    assert again.exit()["code"] == "0"
    again.signal(STOP)
    h.proc.wait(PATIENCE)
    assert not alive(pid)


def test_lingering_is_told_of_a_stop(case):
    # However long who is killed takes to die: the holder leaves after that.
    for i in range(20):
        h = case.sh("(exec sleep 60 >/dev/null 2>&1 </dev/null) & echo $!",
                    "cmd_%d" % i, linger="keep")
        assert h.exit()["lingering"] == "1"
        h.signal(STOP)
        said = h.text(b"T")
        while said["dead"] == "0":
            said = h.text(b"T")
        assert said["killed"] == "1", said
        assert said["pids"] == h.read("out").decode().strip(), said


def test_lingering_killed(case):
    h = case.sh("sleep 60 & echo $!", linger="kill", drain_ms=200)
    began = time.monotonic()
    x = h.exit()
    pid = int(h.read("out"))
    assert x["code"] == "0" and x["killed"] == "1" and x["lingering"] == "0", x
    assert not alive(pid)
    assert 0.15 < time.monotonic() - began < 5


def test_lingering_with_the_pipe_open(case):
    h = case.sh("(sleep 1; echo late; exec sleep 60) & echo early",
                linger="keep", drain_ms=100)
    x = h.exit()
    assert x["out"] == "6" and x["lingering"] == "2", x
    assert h.read("out") == b"early\n"


def test_output_closed_early(case):
    h = case.sh("exec >&- 2>&-; sleep 0.3; exit 9")
    began = time.monotonic()
    assert h.exit()["code"] == "9"
    assert time.monotonic() - began > 0.25


def test_exec_user(case):
    if os.geteuid() != 0:
        print("SKIP: needs root")
        return
    h = case.sh("id -u; id -g; id -G; grep CapEff /proc/self/status;"
                "cat %s/cmd/cmd_1/claim" % case.state,
                uid=12345, gid=12346, groups="20,12346")
    assert h.exit()["code"] == "1"
    assert h.read("out") == (b"12345\n12346\n12346 20\n"
                             b"CapEff:\t0000000000000000\n"), h.read("out")
    assert b"Permission denied" in h.read("err")


def test_bad_orders(case):
    good = "muster-order=1\0state=%s\0id=x\0arg=true\0" % case.state
    for change, reason in (
            (("=1", "=2"), "version"),
            (("id=x", "id=../x"), "order"),
            (("id=x", "id="), "order"),
            (("arg=true\0", ""), "order"),
            (("arg=true", "arg=true\0nonsense=1"), "order"),
            (("arg=true", "arg=true\0timeout_ms=-1"), "order"),
            (("arg=true", "arg=true\0full=maybe"), "order"),
            (("arg=true", "arg=true\0uid=5"), "order"),
            (("state=/", "state="), "order"),
            (("arg=true\0", "arg=true"), "order")):
        h = case.holder()
        text = good.replace(*change)
        assert text != good
        h.send(b"O", text.encode())
        got = h.text(b"V")
        assert got["reason"] == reason and got["error"], (change, got)
        h.proc.wait(PATIENCE)
    assert os.listdir(case.state + "/cmd") == []


def test_idle_leaves_with_its_agent(case):
    h = case.holder()
    h.sock.shutdown(socket.SHUT_WR)
    assert h.proc.wait(PATIENCE) == 0


def test_garbage_ends_the_link_only(case):
    h = case.sh("read x; echo $x", stdin=1)
    h.text(b"T")
    for junk in (b"\xff" * 64, struct.pack(">I", 1) + b"S\x09",
                 struct.pack(">I", 0) + b"?", struct.pack(">I", 3) + b"Rabc"):
        bad = h.attach()
        bad.text(b"T")
        bad.sock.sendall(junk)
        try:
            while True:
                bad.frame()
        except Closed:
            pass
    h.input(0, b"still\n")
    assert h.exit()["code"] == "0"


def test_many_links(case):
    h = case.run(["sleep", "60"])
    h.text(b"T")
    links = [h.attach() for _ in range(6)]
    for link in links[-4:]:
        link.text(b"T")
    links[-1].signal(KILL)
    assert links[-1].exit()["reason"] == "kill"


def test_hold(case):
    said = case.state + "/said"
    h = case.sh("read x; echo one; echo >%s; read x; echo two" % said, stdin=1)
    h.text(b"T")
    h.send(b"H", b"\1")
    h.input(0, b"\n")
    # It stands in the pipe before the holder has this one to welcome; the
    # command goes on running, or nothing would be held back any more.
    until(lambda: os.path.exists(said))
    assert h.attach().text(b"T")["out"] == "0"
    assert not os.path.exists(h.dir + "/out")
    h.send(b"H", b"\0")
    h.input(1, b"\n")
    assert h.exit()["out"] == "8"


def rss_kb(pid):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])


def sleeping(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rpartition(")")[2].split()[0] == "S"


def test_memory(case):
    h = case.holder()
    until(lambda: sleeping(h.proc.pid))
    idle = rss_kb(h.proc.pid)
    h.order(case.state, "cmd_1", ["sleep", "60"])
    h.text(b"T")
    print("  idle %d kB, holding %d kB" % (idle, rss_kb(h.proc.pid)))
    assert idle < 1024


def test_two_commits(case):
    if shutil.which("strace") is None:
        print("SKIP: strace is not here")
        return
    h = case.holder()
    log = case.state + "/strace"
    trace = subprocess.Popen(["strace", "-qq", "-p", str(h.proc.pid), "-o", log,
                              "-e", "trace=fsync,fdatasync"],
                             stderr=subprocess.DEVNULL)
    def traced():
        with open("/proc/%d/status" % h.proc.pid) as f:
            return "TracerPid:\t0\n" not in f.read()
    until(traced)
    h.order(case.state, "cmd_1", ["true"])
    h.exit()
    h.done()
    trace.wait(PATIENCE)
    with open(log) as f:
        calls = [line.split("(")[0] for line in f if "sync(" in line]
    assert calls == ["fsync", "fsync"], calls


def test_round_trip_cost(case):
    rounds = 30
    holders = [case.holder() for _ in range(rounds)]
    times = []
    for i, h in enumerate(holders):
        began = time.monotonic()
        h.order(case.state, "trip_%d" % i, ["true"])
        assert h.exit()["code"] == "0"
        times.append(time.monotonic() - began)
    syncs = []
    for i in range(rounds):
        began = time.monotonic()
        with open(case.state + "/probe%d" % i, "wb") as f:
            f.write(b"x" * 200)
            f.flush()
            os.fsync(f.fileno())
        syncs.append(time.monotonic() - began)
    print("  true: p50 %.2f ms; one fsync of a new file: p50 %.2f ms" % (
        sorted(times)[rounds // 2] * 1000, sorted(syncs)[rounds // 2] * 1000))


def main():
    wanted = sys.argv[1:]
    passed = failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (wanted and name not in wanted):
            continue
        case = Case()
        try:
            test(case)
            passed += 1
        except Exception as e:
            failed += 1
            print("FAILED: %s: %s: %s" % (name, type(e).__name__, e))
            if wanted:
                raise
        finally:
            case.end()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
