"""chaos: a controller and agents that are killed, cut off, stopped, starved of
disk and robbed of power while commands run; then every promise is checked.

  test_chaos.py [--seed N] [--kills N] [--seconds S]     (soak_chaos.py: long)

What happens, in which order and after which pauses is drawn from the seed
before anything starts, so --seed N makes the same choices again; which step
of which command they hit is up to the machine.

Programs are those of VARIANT=crash: they can be killed at named points and
have a wall clock that tests set (src/io/crash.h).  The monotonic clock jumps
by SIGSTOP and SIGCONT.  Data and state lie on ext4 in loop devices, so that a
disk can be full, and lose power: EXT4_IOC_SHUTDOWN without a flush of the log
makes the kernel forget whatever was not synced.  Where mounting is not
permitted those two are left out, in words.

Promised in the end: every command ran at most once, and exactly once unless
its outcome is honestly `unknown`; its outcome is the true one; every line it
wrote is stored once and in order, or is covered by a gap that is shown; every
state is final; agents keep nothing; the journal's chain holds.
"""

import argparse
import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

os.environ.setdefault("MUSTER_BUILD", "build/crash")
from disk import Disk  # noqa: E402
from harness import BUILD, ROOT, Agent, Case, adopt, check, children, equal, until  # noqa: E402

RELAY = os.path.join(ROOT, "build/helpers/relay")
FINAL = ("completed", "failed", "interrupted", "expired", "cancelled", "unknown")

# Writes its id when it begins and when it ends, and numbered lines on both
# streams: $2 rounds of $3 lines each with a pause of $4; exit code $5.
SCRIPT = r"""echo "b $MUSTER_COMMAND_ID" >> "$1"
r=0 i=0
while [ $r -lt $2 ]; do
	n=0
	while [ $n -lt $3 ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)) n=$((n+1)); done
	r=$((r+1)); sleep $4
done
echo "e $MUSTER_COMMAND_ID" >> "$1"
exit $5
"""


# One with input: gives it back.
ECHO = r"""echo "b $MUSTER_COMMAND_ID" >> "$1"; cat; echo "e $MUSTER_COMMAND_ID" >> "$1"; exit 3"""


def expected(word, count):
    return b"".join(b"%s %d\n" % (word, i) for i in range(count))


class Link:
    """A relay in front of the controller."""

    def __init__(self, case, name, port):
        control = case.path(name + ".ctl")
        self.process = subprocess.Popen(
            [RELAY, "127.0.0.1:0", "127.0.0.1:%d" % port, "--control", control],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        case.cleanup.callback(self.end)
        self.port = int(self.process.stdout.readline().split()[1])
        self.control = socket.socket(socket.AF_UNIX)
        self.control.connect(control)
        self.answers = self.control.makefile()

    def tell(self, line):
        self.control.sendall(line.encode() + b"\n")
        self.answers.readline()

    def heal(self):
        for line in ("resume", "rate 0", "delay 0", "refuse off"):
            self.tell(line)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.answers.close()
        self.control.close()


class Through:
    """What Case.join wants of a controller, seen through a relay."""

    def __init__(self, d, port):
        self.make_token, self.url = d.make_token, "http://127.0.0.1:%d" % port


class Host:
    """An agent, its link and its disk."""

    def __init__(self, world, number):
        case = world.case
        self.name = "host-%d" % number
        self.faults = case.path("faults-" + self.name)
        os.mkdir(self.faults)
        self.disk = Disk(case, "disk-" + self.name, 48 << 20)
        self.link = Link(case, "link-" + self.name, world.d.port)
        self.state = os.path.join(self.disk.path, "agent")
        self.env = {"MUSTER_CRASH": self.faults}
        case.join(Through(world.d, self.link.port), self.name, state=self.state, env=self.env)
        self.agent = Agent(case, self.state, env=self.env)

    def holders(self):
        """{pid: directory} of those that have claimed a command."""
        found = {}
        for up, _, files in os.walk(self.state):
            if "claim" not in files:
                continue
            with contextlib.suppress(OSError), open(os.path.join(up, "claim"), encoding="utf-8") as f:
                pid = re.search(r"^holder=(\d+)$", f.read(), re.M)
                if pid and is_program(int(pid.group(1)), "muster-holder"):
                    found[int(pid.group(1))] = up
        return found

    def left(self):
        found = []
        for up, dirs, _ in os.walk(self.state):
            if os.path.basename(up) == "cmd":
                found += dirs
        return found


def is_program(pid, name):
    with contextlib.suppress(OSError), open("/proc/%d/comm" % pid, encoding="utf-8") as f:
        return f.read().strip() == name[:15]
    return False


class Command:
    def __init__(self, rng, host):
        self.host, self.key = host, str(uuid.UUID(int=rng.getrandbits(128)))
        self.rounds = rng.choice((1, 1, 2, 4, 8))
        self.lines = rng.choice((1, 10, 100, 400))
        self.pause = rng.choice(("0", "0.01", "0.1", "0.3"))
        self.code = rng.choice((0, 0, 1, 7, 255))
        self.id = None
        self.epoch = None  # restores before it was accepted

    def wanted(self, word):
        return expected(word, self.rounds * self.lines)


def crash_names():
    with open(os.path.join(ROOT, "docs/protocol/muster.md"), encoding="utf-8") as f:
        return re.findall(r"^\| \d+ \| `((?:musterd|agent|holder)\.[a-z-]+)` \|", f.read(), re.M)


# What may happen: name, how often, and whether it needs a disk of its own.
ACTIONS = (
    ("kill-musterd", 10, False), ("kill-agent", 20, False), ("kill-holder", 8, False),
    ("point", 30, False), ("stop-musterd", 3, False), ("stop-agent", 5, False),
    ("stop-holder", 4, False), ("cut", 10, False), ("cut-after", 6, False), ("fin", 3, False),
    ("pause", 5, False), ("slow", 5, False), ("clock", 6, False), ("full-musterd", 2, True),
    ("full-agent", 3, True), ("power-musterd", 3, True), ("power-agent", 5, True),
)


RESTORE_EVERY = 150  # actions; a backup is taken a while before


def draw_plan(seed, hosts):
    """Choices without end: (pause, action, details)."""
    rng = random.Random(seed)
    names, weights = [a[0] for a in ACTIONS], [a[1] for a in ACTIONS]
    points = crash_names()
    for i in itertools.count(RESTORE_EVERY - 40):
        if i % RESTORE_EVERY in (0, RESTORE_EVERY - 20):
            yield 0.0, "backup" if i % RESTORE_EVERY else "restore", {}
        name = rng.choices(names, weights)[0]
        yield rng.uniform(0.0, 0.25), name, {
            "host": rng.randrange(hosts), "which": rng.random(), "point": rng.choice(points),
            "seconds": rng.uniform(0.05, 1.2), "bytes": rng.randrange(1, 200000),
            "skew": rng.choice((-1, 1)) * rng.choice((500, 5000, 90000, 3600000, 2 * 86400000))}


class World:
    def __init__(self, case, options):
        self.case, self.options = case, options
        self.faults = case.path("faults-musterd")
        os.mkdir(self.faults)
        self.disk = Disk(case, "disk-musterd", options.disk << 20)
        self.data = os.path.join(self.disk.path, "data")
        self.d = case.musterd("--log-level", "info", data=self.data,
                              env={"MUSTER_CRASH": self.faults, "MUSTER_REQUEST_RATE": "1000000"})
        self.token = self.d.token
        self.hosts = [Host(self, i) for i in range(options.hosts)]
        for h in self.hosts:
            self.d.agent_is(h.name, "online")
        self.witness = case.path("witness", "")
        self.script = case.path("script.sh", SCRIPT)
        self.commands = []
        self.rng = random.Random(options.seed + 1)
        self.over = threading.Event()  # no more commands
        self.life = threading.RLock()  # over starting and ending musterd
        self.figures = collections.Counter()
        self.fsyncs = {}  # by process id
        self.restores = 0
        self.backup = None
        self.trouble = []

    # Talking to a controller that may not be there.

    def call(self, method, path, body=None, headers=None):
        """None when there is no answer."""
        c = http.client.HTTPConnection("127.0.0.1", self.d.port, timeout=10)
        try:
            c.request(method, path, None if body is None else json.dumps(body),
                      dict(headers or {}, Authorization="Bearer " + self.token))
            r = c.getresponse()
            try:
                return r.status, r.headers, r.read()
            except http.client.IncompleteRead as e:
                # Output breaks off where a gap begins.
                return (r.status, r.headers, e.partial) if "/output?" in path else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            c.close()

    def ask(self, command):
        body = {"argv": ["/bin/sh", self.script, self.witness, str(command.rounds),
                         str(command.lines), command.pause, str(command.code)],
                "agent": command.host.name, "deadline_ms": 30 * 86400000}
        while not self.over.is_set() or command.epoch is not None:
            epoch = self.restores
            a = self.call("POST", "/api/v1/commands", body, {"Idempotency-Key": command.key})
            if a and a[0] in (200, 201):
                command.id, command.epoch = json.loads(a[2])["id"], epoch
                return True
            if a and a[0] not in (429, 500, 502, 503, 507):
                self.trouble.append("POST: %d %s" % (a[0], a[2][:300]))
                return False
            time.sleep(0.02)
        # It may have been accepted all the same: then it is known by its key.
        return False

    def operate(self):
        """Ask for commands, and look at fsyncs, until it is over."""
        while not self.over.is_set():
            c = Command(self.rng, self.rng.choice(self.hosts))
            if self.ask(c):
                self.commands.append(c)
            self.over.wait(self.rng.uniform(0, self.options.gap))

    def attend(self):
        """An operator at a terminal: one attached command after another, fed
        with numbered lines; what comes back must be what went in."""
        rng = random.Random(self.options.seed + 2)
        while not self.over.is_set():
            lines = expected(b"in", rng.choice((1, 100, 20000)))
            parts, pause = rng.choice((1, 5, 20)), rng.uniform(0, 0.1)
            p = subprocess.Popen(
                [os.path.join(BUILD, "muster"), "exec", rng.choice(self.hosts).name, "--", "sh",
                 "-c", ECHO, "sh", self.witness], env=self.case.cli_env(self.d), cwd=self.case.dir,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            got = []
            reader = threading.Thread(target=lambda p=p, got=got: got.append(p.stdout.read()))
            errors = threading.Thread(target=lambda p=p, got=got: got.append(p.stderr.read()))
            reader.start()
            errors.start()
            with contextlib.suppress(OSError):
                step = len(lines) // parts + 1
                for at in range(0, len(lines), step):
                    p.stdin.write(lines[at:at + step])
                    p.stdin.flush()
                    self.over.wait(pause)
            with contextlib.suppress(OSError):
                p.stdin.close()
            try:
                p.wait(self.options.patience)
            except subprocess.TimeoutExpired:
                self.trouble.append("muster exec does not end")
                p.kill()
            reader.join()
            errors.join()
            p.stdout.close()
            p.stderr.close()
            self.figures["attached, code %d" % p.returncode] += 1
            if self.options.verbose and p.returncode != 3:
                print("attached, code %d: %r" % (p.returncode, got), flush=True)
            if p.returncode == 0:
                self.trouble.append("attached: 0 for a command that ends with 3: %r" % got)
            if p.returncode == 3 and lines not in got:
                self.trouble.append("attached: %d bytes in, %d out: %r" % (
                    len(lines), len(got[0]), got[1][-300:]))

    def measure(self):
        while not self.over.wait(0.2):
            pid, a = self.d.pid, self.call("GET", "/metrics")
            found = a and re.search(rb"^muster_store_fsyncs_total (\d+)", a[2], re.M)
            if found:
                self.fsyncs[pid] = int(found.group(1))

    # Life and death.

    def revive(self):
        """Start whoever is dead."""
        with self.life:
            if not self.d.running():
                self.figures["deaths of musterd"] += 1
                self.start_musterd()
        for h in self.hosts:
            if not h.agent.running():
                self.figures["deaths of agents"] += 1
                h.agent = h.agent.again()

    def start_musterd(self):
        for _ in range(100):
            d = self.d
            try:
                self.d = d.again()
                return
            except AssertionError:
                # Killed at a point while it started, or its disk is full.
                if "no space" not in self.last_log() and self.case.programs[-1].process.poll() != -9:
                    raise
                self.d = d
                time.sleep(0.05)
        raise AssertionError("musterd does not start: " + self.last_log())

    def last_log(self):
        return self.case.programs[-1].log()[-500:].lower()

    def pick_holder(self, what):
        holders = sorted(self.hosts[what["host"]].holders())
        return holders[int(what["which"] * len(holders))] if holders else None

    def do_kill_musterd(self, _):
        with self.life:
            self.d.kill()

    def do_kill_agent(self, what):
        self.hosts[what["host"]].agent.kill()

    def do_kill_holder(self, what):
        pid = self.pick_holder(what)
        if pid:
            self.figures["deaths of holders"] += 1
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def do_point(self, what):
        """Somebody dies at a point; who, the name says."""
        dir_ = self.faults if what["point"].startswith("musterd") else self.hosts[what["host"]].faults
        at = os.path.join(dir_, "at")
        with open(at + ".new", "w", encoding="utf-8") as f:
            f.write(what["point"])
        os.rename(at + ".new", at)
        end = time.monotonic() + 0.7
        while os.path.exists(at) and time.monotonic() < end:
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            os.unlink(at)
            return
        self.figures["deaths at points"] += 1
        if what["point"].startswith("holder"):
            self.figures["deaths of holders"] += 1
        else:
            time.sleep(0.02)  # it dies a moment after it removed the file

    def pause_pid(self, pid, what):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(what["seconds"])
            os.kill(pid, signal.SIGCONT)

    def do_stop_musterd(self, what):
        self.pause_pid(self.d.pid, what)

    def do_stop_agent(self, what):
        self.pause_pid(self.hosts[what["host"]].agent.pid, what)

    def do_stop_holder(self, what):
        pid = self.pick_holder(what)
        if pid:
            self.pause_pid(pid, what)

    def do_cut(self, what):
        self.hosts[what["host"]].link.tell("cut")

    def do_cut_after(self, what):
        self.hosts[what["host"]].link.tell("cut-after %d" % what["bytes"])

    def do_fin(self, what):
        self.hosts[what["host"]].link.tell("fin")

    def do_pause(self, what):
        link = self.hosts[what["host"]].link
        link.tell("pause")
        time.sleep(what["seconds"])
        link.tell("resume")

    def do_slow(self, what):
        link = self.hosts[what["host"]].link
        link.tell("rate 400000")
        link.tell("delay 60")
        time.sleep(what["seconds"])
        link.heal()

    def do_clock(self, what):
        dir_ = self.faults if what["which"] < 0.4 else self.hosts[what["host"]].faults
        path = os.path.join(dir_, "clock")
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(str(what["skew"]))
        os.rename(path + ".new", path)

    def starve(self, disk, what):
        disk.fill()
        time.sleep(what["seconds"])
        disk.free()

    def do_full_musterd(self, what):
        self.starve(self.disk, what)

    def do_full_agent(self, what):
        self.starve(self.hosts[what["host"]].disk, what)

    def do_power_musterd(self, _):
        with self.life:
            self.d.kill()
            self.disk.lose_power()
            self.revive()

    def do_power_agent(self, what):
        """The host dies, commands and all."""
        h = self.hosts[what["host"]]
        for _ in range(100):
            h.agent.kill()
            doomed = {p for p in h.holders()}
            for p in list(doomed):
                doomed |= tree(p)
            doomed |= {p for p in all_pids() if inside(p, h.disk.path)}
            if not doomed:
                break
            # Holders first: no power lets one write down that its command died.
            holders = h.holders()
            for p in sorted(doomed, key=lambda p: p not in holders):
                with contextlib.suppress(OSError):
                    os.kill(p, signal.SIGKILL)
            time.sleep(0.01)
            # Whose parent died is ours; not so what subprocess waits for.
            for p in doomed:
                with contextlib.suppress(OSError):
                    os.waitpid(p, os.WNOHANG)
        h.disk.lose_power()
        h.agent = h.agent.again()

    def do_backup(self, _):
        self.backup = self.case.path("backup")
        r = subprocess.run([os.path.join(BUILD, "musterd"), "backup", "--data", self.data,
                            self.backup], check=False, capture_output=True)
        equal(r.returncode, 0, "backup: %r" % r.stderr)

    def do_restore(self, _):
        with self.life:
            self.d.kill()
            os.rename(self.data, self.data + ".was")
            r = subprocess.run([os.path.join(BUILD, "musterd"), "restore", "--data", self.data,
                                self.backup], check=False, capture_output=True)
            equal(r.returncode, 0, "restore: %r" % r.stderr)
            shutil.copy(os.path.join(self.data + ".was", "admin.token"), self.data)
            shutil.rmtree(self.data + ".was")
            self.restores += 1
            self.revive()

    def torment(self, plan):
        needs = {a[0] for a in ACTIONS if a[2]}
        for pause, name, what in plan:
            if self.trouble or self.kills() >= self.options.kills or \
                    time.monotonic() > self.deadline:
                break
            if name in needs and not self.disk.real:
                continue
            time.sleep(pause)
            self.figures["actions"] += 1
            self.figures[name] += 1
            if self.options.verbose:
                print("%7.2f %s %s" % (time.monotonic() - self.begun, name, what), flush=True)
            getattr(self, "do_" + name.replace("-", "_"))(what)
            # Not always at once.
            if what.get("which", 0) < 0.7:
                self.revive()

    def heal(self):
        for h in self.hosts:
            h.link.heal()
            h.disk.free()
            for name in ("at", "clock"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(h.faults, name))
            h.agent.kill()  # it may be about to wait for a minute
        self.disk.free()
        for name in ("at", "clock"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.faults, name))
        self.revive()

    # Proof.

    def listed(self):
        """All commands that the controller knows, {id: row}."""
        rows, cursor = {}, ""
        while True:
            a = self.call("GET", "/api/v1/commands?limit=1000" + cursor)
            check(a and a[0] == 200, "no answer from a healed controller", a)
            page = json.loads(a[2])
            rows.update((row["id"], row) for row in page["items"])
            if not page["next"]:
                return rows
            cursor = "&cursor=" + page["next"]

    def settle(self):
        """Wait until all is final; {command: row or None}."""
        end = time.monotonic() + self.options.patience
        while True:
            self.revive()
            rows = self.listed()
            open_ = [r for r in rows.values() if r["state"] not in FINAL]
            for r in open_:
                # Whoever gave it input has gone.
                if r["foreground"]:
                    self.call("POST", "/api/v1/commands/%s/interrupt" % r["id"], {})
            if not open_:
                self.attached = [r for r in rows.values() if r["foreground"]]
                return {c: rows.get(c.id) for c in self.commands}
            check(time.monotonic() < end, len(open_), "commands are not final:", open_[:5])
            time.sleep(0.2)

    def output(self, ident, stream):
        """What is stored: bytes, and the gaps that are shown [(from, to)]."""
        got, gaps, at = b"", [], 0
        while True:
            a = self.call("GET", "/api/v1/commands/%s/output?stream=%s&offset=%d"
                          % (ident, stream, at))
            check(a and a[0] == 200, "output of", ident, "from", at, a)
            begin, size = int(a[1]["X-Muster-Offset"]), int(a[1]["X-Muster-Size"])
            if begin > at:
                gaps.append((at, begin))
                got += b"\0" * (begin - at)
            got += a[2]
            if begin + len(a[2]) == at:
                return got, gaps, size
            at = begin + len(a[2])
            if at >= size:
                return got, gaps, size

    def prove_output(self, command, row):
        for stream, word, key in (("stdout", b"out", "out_bytes"), ("stderr", b"err", "err_bytes")):
            got, gaps, size = self.output(command.id, stream)
            want = command.wanted(word)
            equal(len(got), row[key], "%s: %s" % (command.id, key))
            equal(size, row[key], "size")
            prove_bytes(command.id, got, gaps, want)
            check(len(got) <= len(want), command.id, "has more output than it wrote")
            if row["state"] != "unknown":
                equal(len(got), len(want), "%s: bytes of %s" % (command.id, stream))
            self.figures["gaps"] += len(gaps)
            self.figures["lines stored"] += got.count(b"\n")

    def prove(self, rows):
        with open(self.witness, encoding="utf-8") as f:
            said = collections.Counter(f.read().splitlines())
        for c, row in rows.items():
            begun, ended = said["b " + c.id], said["e " + c.id]
            check(begun <= 1, c.id, "ran", begun, "times", row)
            if row is None:
                check(c.epoch < self.restores, c.id, "is not known any more")
                self.figures["forgotten by the restore"] += 1
                continue
            self.figures[row["state"]] += 1
            if row["code"] == "EXEC_FAILED" and "ENOSPC" in row["why"]:
                # Its host's disk was full: it did not begin, and says so.
                check(self.figures["full-agent"] > 0, c.id, "found no room:", row)
                equal((begun, ended, row["out_bytes"], row["err_bytes"]), (0, 0, 0, 0), row)
                self.figures["not begun on a full disk"] += 1
                continue
            if row["state"] in ("completed", "failed"):
                check(row["exit_code"] == c.code, c.id, "ended otherwise:", row, "want", c.code)
                equal((begun, ended), (1, 1), "%s is said to have run: %r" % (c.id, row))
            elif row["state"] == "unknown":
                equal(row["code"], "UNKNOWN_OUTCOME", row)
            else:
                raise AssertionError("%s: %r" % (c.id, row))
            self.prove_output(c, row)
        # And those of whom nobody waited for an answer, or at a terminal.
        for line in said:
            check(said[line] == 1, line, "is said", said[line], "times")
        echo = expected(b"in", 20000)
        for row in self.attached:
            got, gaps, _ = self.output(row["id"], "stdout")
            prove_bytes(row["id"], got, gaps, echo)
            self.figures["attached: " + row["state"]] += 1
            if row["state"] == "failed" and row["code"] == "":
                equal((row["exit_code"], said["e " + row["id"]]), (3, 1), row)

    def prove_rest(self):
        a = self.call("GET", "/api/v1/audit/verify")
        check(a and json.loads(a[2])["ok"], "the journal's chain", a)
        for h in self.hosts:
            self.d.agent_is(h.name, "online")
            until(lambda h=h: not h.left(), "%s forgets %s" % (h.name, h.left()[:3]))

    def run(self):
        plan = draw_plan(self.options.seed, len(self.hosts))
        self.begun = time.monotonic()
        self.deadline = self.begun + self.options.seconds
        threads = [threading.Thread(target=x) for x in (self.operate, self.measure, self.attend)]
        for x in threads:
            x.start()
        try:
            self.torment(plan)
        finally:
            self.over.set()
            with contextlib.suppress(Exception):
                self.heal()
            for x in threads:
                x.join()
        self.heal()
        equal(self.trouble, [], "operator")
        check(self.kills() >= self.options.least and len(self.commands) >= self.options.least,
              "only %d kills and %d commands: that proves little" % (self.kills(), len(self.commands)))
        rows = self.settle()
        self.prove(rows)
        self.prove_rest()

    def kills(self):
        f = self.figures
        return f["deaths of musterd"] + f["deaths of agents"] + f["deaths of holders"] + \
            f["power-agent"]

    def report(self):
        f, took = self.figures, time.monotonic() - self.begun
        print("chaos: seed %d, %.0f s, %d commands, %d actions, %d kills, %.2f fsyncs of musterd "
              "a command" % (self.options.seed, took, len(self.commands), f["actions"], self.kills(),
                             sum(self.fsyncs.values()) / max(1, len(self.commands))))
        print("chaos: " + ", ".join("%s %d" % (k, f[k]) for k in sorted(f)))
        if not self.disk.real:
            print("skip: full disks and lost power: mounting is not permitted here")


def prove_bytes(ident, got, gaps, want):
    """Each byte is where it belongs, or in a gap that is shown."""
    at = 0
    for begin, end in gaps + [(len(got), len(got))]:
        if got[at:begin] != want[at:begin]:
            at = next(i for i in range(at, begin) if got[i:i + 1] != want[i:i + 1])
            raise AssertionError("%s: other output at %d: %r, want %r" % (
                ident, at, got[at:at + 40], want[at:at + 40]))
        at = end


def all_pids():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def inside(pid, path):
    """Whether a process has its directory or program there."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/%d/cwd" % pid).startswith(path + "/")
    return False


def tree(pid):
    found, new = set(), {pid}
    while new:
        found |= new
        new = {c for p in new for c in children(p)} - found
    return found


def main(**defaults):
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--verbose", action="store_true")
    for name, value in defaults.items():
        p.add_argument("--" + name, type=type(value), default=value)
    options = p.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    print("chaos: seed %d" % options.seed, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt()
    r = subprocess.run(["make", "-s", "-j2", "VARIANT=crash", "all"], cwd=ROOT, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    check(r.returncode == 0, r.stdout.decode())
    case, failed, world = Case("chaos"), False, None
    try:
        world = World(case, options)
        world.run()
    except Exception:  # pylint: disable=broad-except
        import traceback
        failed = True
        if os.environ.get("CHAOS_KEEP"):
            subprocess.run(["cp", "-a", case.dir, os.environ["CHAOS_KEEP"]], check=False)
        print(case.logs()[-20000:])
        # Last, for of a long text the end is what is shown.
        traceback.print_exc(file=sys.stdout)
        print("again with: --seed %d" % options.seed)
    finally:
        if world:
            world.report()
        case.end()
        shutil.rmtree(case.dir, ignore_errors=True)
    print("%d passed, %d failed" % (not failed, failed))
    sys.exit(failed)
