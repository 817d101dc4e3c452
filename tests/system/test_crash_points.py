#!/usr/bin/python3
"""Every point of docs/protocol/muster.md, section 8: a program is killed
there, and the promise of its row is kept."""
# timeout: 300

import concurrent.futures
import contextlib
import os
import re
import subprocess
import threading
import time
import uuid

os.environ.setdefault("MUSTER_BUILD", "build/crash")
from harness import ROOT, check, equal, main, until  # noqa: E402

LINES = 400
WORLDS = 3  # at a time, each with its controller and agent
# The command says that it runs, writes numbered lines on both streams, waits
# until it may go on, and writes some more.
SCRIPT = ('echo "$MUSTER_COMMAND_ID" >> "$1"; i=0; while [ $i -lt %d ]; do echo "out $i"; '
          'echo "err $i" >&2; i=$((i+1)); done; until [ -e "$2" ]; do sleep 0.02; done; '
          'echo "out $i"; echo "err $i" >&2; exit 0' % LINES)
WANT = ["".join("%s %d\n" % (s, i) for i in range(LINES + 1)).encode() for s in ("out", "err")]


def table():
    """{point: promised state} from the document."""
    with open(os.path.join(ROOT, "docs/protocol/muster.md"), encoding="utf-8") as f:
        part = f.read().split("## 8. Where it may be killed")[1]
    rows = re.findall(r"^\| (\d+) \| `([a-z.-]+)` \|.*\| (\w+) \|$", part, re.M)
    equal([int(r[0]) for r in rows], list(range(1, len(rows) + 1)), "numbers of the rows")
    return {r[1]: r[2] for r in rows}


class World:
    """A controller and an agent that can be killed at a point."""

    def __init__(self, t, number):
        self.t = t
        self.dir = t.path("world%d" % number)
        os.mkdir(self.dir)
        self.env = {"MUSTER_CRASH": self.dir}
        self.d = t.musterd(env=self.env)
        self.name = "w%d" % number
        self.agent = t.agent(self.d, self.name, env=self.env)
        self.ident = self.d.agent(self.name)["agent_id"]
        self.witness = self.path("witness")
        open(self.witness, "w", encoding="utf-8").close()

    def path(self, name):
        return os.path.join(self.dir, name)

    def arm(self, point):
        with open(self.path("at.new"), "w", encoding="utf-8") as f:
            f.write(point)
        os.rename(self.path("at.new"), self.path("at"))

    def armed(self):
        return os.path.exists(self.path("at"))

    def revive(self):
        """Start again who died; False when all live."""
        if not self.d.running():
            equal(self.d.wait(), -9, "musterd")
            self.d = self.d.again()
            return True
        if not self.agent.running():
            equal(self.agent.wait(), -9, "agent")
            self.agent = self.agent.again()
            return True
        return False

    def ask(self, go, key):
        """Ask for a command until there is an answer."""
        body = {"argv": ["/bin/sh", "-c", SCRIPT, "sh", self.witness, go], "agent": self.name}

        def post():
            try:
                a = self.d.post("/api/v1/commands", body, headers={"Idempotency-Key": key})
            except (OSError, ValueError, AssertionError):
                self.revive()
                return None
            check(a.status in (200, 201), a)
            return a["id"]
        return until(post, "an answer")

    def state(self, ident):
        try:
            return self.d.command(ident)
        except OSError:
            self.revive()
            return {"state": "?"}

    def output(self, ident, stream):
        return self.d.get("/api/v1/commands/%s/output?stream=%s" % (ident, stream)).body


def attached(w, go):
    """The same with input, by the command line."""
    known = [c["id"] for c in w.d.get("/api/v1/commands?agent=%s" % w.ident)["items"]]
    p = w.t.cli_start(w.d, "exec", w.name, "--", "/bin/sh", "-c", "read line; " + SCRIPT, "sh",
                      w.witness, go, stdin=subprocess.PIPE)
    p.process.stdin.write(b"line\n")
    p.process.stdin.close()

    def born():
        with contextlib.suppress(OSError):
            rows = w.d.get("/api/v1/commands?agent=%s&limit=1" % w.ident)["items"]
            return rows[0]["id"] if rows and rows[0]["id"] not in known else None
    return until(born, "the command")


def holder_of(w, ident):
    state = w.agent.state
    for up, _, files in os.walk(state):
        if os.path.basename(up) == ident and "claim" in files:
            with open(os.path.join(up, "claim"), encoding="utf-8") as f:
                return int(re.search(r"^holder=(\d+)$", f.read(), re.M).group(1))
    return None


def strike(w, point, key, go):
    """Run a command and have somebody killed at the point; its id."""
    queued = point in ("musterd.sent", "musterd.sent-stored")
    if queued:
        equal(w.agent.stop(), 0)
        w.d.agent_is(w.name, "offline")
    if point in ("agent.verdict", "agent.unknown"):
        ident = w.ask(go, key)
        until(lambda: w.state(ident)["state"] == "running", "it runs")
        pid = until(lambda: holder_of(w, ident), "a holder")
        w.arm(point)
        os.kill(pid, 9)
        return ident
    w.arm(point)
    ident = attached(w, go) if point.endswith(".input") else w.ask(go, key)
    if queued:
        w.agent = w.agent.again()
    return ident


def left(w):
    """Directories of commands on the agent's disk."""
    found = []
    for up, dirs, _ in os.walk(w.agent.state):
        if os.path.basename(up) == "cmd":
            found += dirs
    return found


def prove(w, point, promised):
    go, key = w.path("go-" + point), str(uuid.uuid4())
    ident = strike(w, point, key, go)
    late = ("holder.dead", "holder.exit", "holder.exited", "agent.ended", "agent.exit",
            "agent.done", "agent.marked", "agent.renamed", "agent.removed", "musterd.exit",
            "musterd.end", "musterd.end-stored", "musterd.done")
    if point in late:
        open(go, "w", encoding="utf-8").close()
    until(lambda: not w.armed() and (point.startswith("holder.") or w.revive() or True),
          "somebody dies at " + point)
    until(lambda: not w.armed(), "death")
    if not point.startswith("holder."):
        # Whoever removed the file dies a moment later.
        time.sleep(0.05)
        w.revive()
    open(go, "w", encoding="utf-8").close()
    c = until(lambda: (lambda c: c if c["state"] not in ("queued", "sent", "running", "?") else None)(
        w.state(ident)), "%s: %s is over" % (point, ident), 60)
    w.revive()
    got = [w.output(ident, s) for s in ("stdout", "stderr")]
    with open(w.witness, encoding="utf-8") as f:
        runs = f.read().split().count(ident)
    if promised == "unknown":
        equal(c["state"], "unknown", c)
        equal(c["code"], "UNKNOWN_OUTCOME", c)
        check(runs <= 1, point, "ran", runs, "times")
        for have, want in zip(got, WANT):
            check(want.startswith(have), point, "other output", have[-60:])
    else:
        equal((c["state"], c["exit_code"]), ("completed", 0), "%s: %r" % (point, c))
        equal(runs, 1, point + ": runs")
        equal([len(g) for g in got], [len(x) for x in WANT], point + ": bytes of output")
        check(got == WANT, point, "other output")
    equal([c["out_bytes"], c["err_bytes"]], [len(g) for g in got], "lengths")
    w.d.agent_is(w.name, "online")
    until(lambda: not left(w), "%s: the agent forgets" % point)


def test_every_point(t):
    points, lock, failures = list(table().items()), threading.Lock(), []

    # All first: or one might be given the port of another that is down.
    worlds = [World(t, i) for i in range(WORLDS)]

    def work(w):
        while True:
            with lock:
                if failures:
                    return
                if not points:
                    break
                point, promised = points.pop(0)
            start = time.monotonic()
            try:
                prove(w, point, promised)
            except Exception as e:  # pylint: disable=broad-except
                failures.append("%s: %s" % (point, e))
                return
            print("    %5.2f s  %s: %s" % (time.monotonic() - start, point, promised), flush=True)
        e = t.cli(w.d, "audit", "verify")
        equal(e.code, 0, e)

    with concurrent.futures.ThreadPoolExecutor(WORLDS) as pool:
        for done in [pool.submit(work, w) for w in worlds]:
            done.result()
    equal(failures, [])


def main_(names):
    r = subprocess.run(["make", "-s", "-j2", "VARIANT=crash", "all"], cwd=ROOT, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    check(r.returncode == 0, r.stdout.decode())
    main(names)


main_(globals())
