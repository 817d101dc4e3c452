#!/usr/bin/python3
"""Commands, by the real controller, the real agent and the real CLI."""
# timeout: 400

import hashlib
import os
import re
import signal
import subprocess
import time

from harness import BUILD, alive, check, children, equal, main, need, rss_kib, until

MIB = 1 << 20


def setup(t, allow="observe,exec", **kw):
    need("musterd", "muster-agent", "muster-holder", "muster")
    d = t.musterd()
    return d, t.agent(d, "web-1", allow, **kw)


def detach(t, d, *argv, flags=()):
    e = t.cli(d, "exec", "-d", "--json", *flags, "web-1", "--", *argv, code=0)
    return e.json["id"]


def output(d, ident, stream="stdout"):
    return d.get("/api/v1/commands/%s/output?stream=%s" % (ident, stream)).body


def counter(t, name):
    """A file to which a command appends a line each time that it runs."""
    path = t.path(name, "")
    return path, lambda: open(path).read().count("\n")


def test_exit_codes(t):
    d, _ = setup(t)
    for code in (0, 1, 7, 255):
        equal(t.cli(d, "exec", "-n", "web-1", "--", "sh", "-c", "exit %d" % code).code, code)
    equal(t.cli(d, "exec", "-n", "web-1", "--", "sh", "-c", "kill -9 $$").code, 137)
    e = t.cli(d, "exec", "-n", "web-1", "--", "/no/such/program")
    equal(e.code, 125, "never ran")
    check(b"ENOENT" in e.err or b"/no/such/program" in e.err, e)
    e = t.cli(d, "exec", "-n", "nobody", "--", "true")
    equal(e.code, 5, e)
    equal(t.cli(d, "exec", "web-1").code, 2, "no command is a usage error")


def test_streams(t):
    d, _ = setup(t)
    e = t.cli(d, "exec", "-n", "web-1", "--", "sh", "-c", "printf out; printf err >&2", code=0)
    equal((e.out, e.err), (b"out", b"err"))
    e = t.cli(d, "exec", "-n", "web-1", "--", "printf", "%s|", "a b", "", "*", "$HOME", "\"q\"", code=0)
    equal(e.out, b"a b||*|$HOME|\"q\"|", "argv is argv")
    raw = "".join("\\%03o" % i for i in range(256))
    e = t.cli(d, "exec", "-n", "web-1", "--", "printf", raw, code=0)
    equal(e.out, bytes(range(256)), "bytes are bytes")
    e = t.cli(d, "exec", "-n", "--env", "A=b c", "web-1", "--", "sh", "-c", 'echo "$A"', code=4)
    check(b"[environment]" in e.err, "the policy says which section refused", e)


def test_output_streams(t):
    """Output is seen while the command runs."""
    d, _ = setup(t)
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c", "echo first; cat %s; echo last" % fifo)
    until(lambda: p.out() == b"first\n", "the first line")
    check(p.running(), "ended")
    with open(fifo, "w") as f:
        f.write("middle\n")
    equal(p.wait(), 0)
    equal(p.out(), b"first\nmiddle\nlast\n")


def test_stdin(t):
    d, _ = setup(t)
    data = os.urandom(5 * MIB)
    e = t.cli(d, "exec", "web-1", "--", "cat", input=data, code=0)
    check(e.out == data, "cat gave other bytes: %d of %d" % (len(e.out), len(data)))
    e = t.cli(d, "exec", "web-1", "--", "sha256sum", input=data, code=0)
    equal(e.out.split()[0].decode(), hashlib.sha256(data).hexdigest())
    equal(t.cli(d, "exec", "web-1", "--", "wc", "-c", input=b"", code=0).out.strip(), b"0")
    # A command that does not want it all.
    equal(t.cli(d, "exec", "web-1", "--", "head", "-c", "3", input=data, code=0).out, data[:3])
    equal(t.cli(d, "exec", "-n", "web-1", "--", "cat", code=0).out, b"")


def test_interrupt(t):
    """Ctrl-C here is SIGINT there, to the whole tree."""
    d, _ = setup(t)
    mark = t.path("pids")
    p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c",
                    "sleep 300 & echo $! $$ >%s; echo up; wait" % mark)
    until(lambda: p.out() == b"up\n", "it runs")
    pids = [int(x) for x in open(mark).read().split()]
    p.signal(signal.SIGINT)
    code = p.wait(30)
    equal(code, 130)
    until(lambda: not any(alive(x) for x in pids), "the tree is gone")
    # One that does not listen: TERM after 5 s.
    p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c", "trap '' INT; echo up; while :; do sleep 0.1; done")
    until(lambda: p.out() == b"up\n", "it runs")
    start = time.monotonic()
    p.signal(signal.SIGINT)
    code = p.wait(30)
    check(code in (130, 143), code)
    check(4 < time.monotonic() - start < 12, "after %.1f s" % (time.monotonic() - start))


def test_interrupt_detached(t):
    d, _ = setup(t)
    ident = detach(t, d, "sleep", "300")
    until(lambda: d.command(ident)["state"] == "running", "it runs")
    t.cli(d, "job", "interrupt", ident, code=0)
    c = d.command_ends(ident)
    equal(c["state"], "interrupted")
    check(c["signal"] == 2 or c["exit_code"] == 130, c)


def test_timeout(t):
    d, _ = setup(t)
    start = time.monotonic()
    e = t.cli(d, "exec", "-n", "--timeout", "500ms", "web-1", "--", "sleep", "60")
    equal(e.code, 124, e)
    check(time.monotonic() - start < 20, "late")


def test_lingering(t):
    """What a foreground command leaves behind is ended."""
    d, _ = setup(t)
    e = t.cli(d, "exec", "-n", "web-1", "--", "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!", code=0)
    pid = int(e.out)
    until(lambda: not alive(pid), "the child is gone")


def test_100_mb(t):
    d, agent = setup(t)
    p = subprocess.Popen([os.path.join(BUILD, "muster"), "exec", "-n", "web-1", "--", "sh", "-c",
                          "head -c %d /dev/zero | tr '\\0' x" % (100 * MIB)], env=t.cli_env(d),
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=t.dir)
    n, bad = 0, 0
    for piece in iter(lambda: p.stdout.read(1 << 20), b""):
        n += len(piece)
        bad += len(piece) - piece.count(b"x")
    p.stdout.close()
    equal((p.wait(), n, bad), (0, 100 * MIB, 0))
    check(agent.running() and d.running(), "alive")


def test_much_output_is_bounded(t):
    """A gigabyte (EXEC_BYTES says another size): no byte lost, no memory
    grown, at none of the three programs."""
    total = int(os.environ.get("EXEC_BYTES", 1 << 30))
    d, agent = setup(t)
    t.cli(d, "exec", "-n", "web-1", "--", "true", code=0)
    before = {"musterd": rss_kib(d.pid), "agent": rss_kib(agent.pid)}
    p = subprocess.Popen([os.path.join(BUILD, "muster"), "exec", "-n", "web-1", "--", "sh", "-c",
                          "cat /dev/zero | head -c %d" % total], env=t.cli_env(d),
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=t.dir)
    start, n, zeros, worst, cli = time.monotonic(), 0, True, {}, 0
    blank = bytes(MIB)
    look = 64 * MIB
    for piece in iter(lambda: p.stdout.read(MIB), b""):
        zeros = zeros and piece == blank[:len(piece)]
        n += len(piece)
        if n >= look:
            look += 64 * MIB
            for name, pid in (("musterd", d.pid), ("agent", agent.pid)):
                worst[name] = max(worst.get(name, 0), rss_kib(pid) - before[name])
            if p.poll() is None:
                cli = max(cli, rss_kib(p.pid))
    p.stdout.close()
    took = time.monotonic() - start
    equal((p.wait(), n, zeros), (0, total, True))
    print("    %.0f MB/s; grown by %s KiB, cli %d KiB" % (n / took / 1e6, worst, cli))
    for name, grown in worst.items():
        check(grown < 32 * 1024, name, "grew by", grown, "KiB")
    check(cli < 48 * 1024, "muster has", cli, "KiB")


def test_slow_reader(t):
    """Who does not read stops the command, not the agent."""
    d, _ = setup(t)
    p = subprocess.Popen([os.path.join(BUILD, "muster"), "exec", "-n", "web-1", "--", "cat", "/dev/zero"],
                         env=t.cli_env(d), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=t.dir)
    p.stdout.read(1)
    for _ in range(5):
        equal(t.cli(d, "exec", "-n", "web-1", "--", "echo", "hello", code=0).out, b"hello\n")
    p.send_signal(signal.SIGINT)
    p.stdout.close()
    p.wait(30)


def test_detached(t):
    d, _ = setup(t)
    ident = detach(t, d, "sh", "-c", "echo one; echo two >&2; exit 5")
    check(re.match(r"^cmd_[a-z2-7]{20}$", ident), ident)
    equal(t.cli(d, "job", "wait", ident).code, 5, "job wait has its code")
    c = d.command(ident)
    equal((c["exit_code"], c["out_bytes"], c["err_bytes"]), (5, 4, 4))
    equal((output(d, ident), output(d, ident, "stderr")), (b"one\n", b"two\n"))
    e = t.cli(d, "job", "logs", ident, code=0)
    check(b"one\n" in e.out, e)
    e = t.cli(d, "job", "ls", "--json", code=0)
    check(ident.encode() in e.out, e)
    equal([x["agent_name"] for x in e.json["items"]] if "items" in e.json else [e.json["agent_name"]], ["web-1"])
    e = t.cli(d, "job", "show", ident, "--json", code=0)
    equal((e.json["id"], e.json["agent_name"]), (ident, "web-1"))
    e = t.cli(d, "job", "ls", code=0)
    equal(e.out.decode().split("\t")[:3], [ident, "web-1", c["agent_id"]])


def test_logs_follow(t):
    d, _ = setup(t)
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    ident = detach(t, d, "sh", "-c", "echo early; cat %s; echo late" % fifo)
    p = t.cli_start(d, "job", "logs", "-f", ident)
    until(lambda: p.out() == b"early\n", "what was there")
    with open(fifo, "w") as f:
        f.write("mid\n")
    p.wait()
    equal(p.out(), b"early\nmid\nlate\n")


def test_offline(t):
    """Queued for an agent that is away, run when it is back; --or-fail."""
    d, agent = setup(t)
    equal(agent.stop(), 0)
    d.agent_is("web-1", "offline")
    ran, count = counter(t, "ran")
    e = t.cli(d, "exec", "-d", "--json", "web-1", "--", "sh", "-c", "echo x >>%s" % ran, code=6)
    ident = e.json["id"]
    equal(d.command(ident)["state"], "queued")
    equal(t.cli(d, "exec", "-d", "--or-fail", "web-1", "--", "true").code, 6)
    equal(t.cli(d, "exec", "-n", "web-1", "--", "true").code, 6)
    agent.again()
    equal(d.command_ends(ident)["exit_code"], 0)
    equal(count(), 1)


def test_policy(t):
    """Observe only: refused by the host, and the refusal says which line."""
    d, _ = setup(t, allow=None)
    ran, count = counter(t, "ran")
    e = t.cli(d, "exec", "-n", "web-1", "--", "sh", "-c", "echo x >>%s" % ran)
    equal(e.code, 4, e)
    check(re.search(rb"policy\.conf:\d+|line \d+", e.err) or b"policy" in e.err, e)
    equal(count(), 0)
    equal(d.agent("web-1")["policy"]["verbs"], "observe")


def test_agent_killed_in_mid_run(t):
    """kill -9 of the agent: the command goes on, nothing is lost or twice."""
    d, agent = setup(t)
    ran, count = counter(t, "ran")
    go = t.path("go")
    p = t.cli_start(d, "exec", "-n", "web-1", "--", "sh", "-c",
                    "echo x >>%s; for i in 1 2 3; do echo line $i; done; "
                    "until [ -e %s ]; do sleep 0.05; done; echo after; exit 9" % (ran, go))
    until(lambda: p.out() == b"line 1\nline 2\nline 3\n", "it runs")
    agent.kill()
    until(lambda: d.agent("web-1")["status"] != "busy", "seen as gone")
    again = agent.again()
    d.agent_is("web-1", "busy", "online")
    t.path("go", "")
    code = p.wait(60)
    equal((p.out(), code), (b"line 1\nline 2\nline 3\nafter\n", 9))
    equal(count(), 1, "runs")
    equal(again.stop(), 0)


def test_agent_killed_and_command_ends_meanwhile(t):
    d, agent = setup(t)
    ran, count = counter(t, "ran")
    mark = t.path("mark")
    ident = detach(t, d, "sh", "-c", "echo x >>%s; echo begun; sleep 0.7; echo ended; echo >%s; exit 4"
                   % (ran, mark))
    until(lambda: output(d, ident) == b"begun\n", "it runs")
    agent.kill()
    until(lambda: os.path.exists(mark), "it ended without an agent")
    agent.again()
    c = d.command_ends(ident)
    equal((c["exit_code"], output(d, ident)), (4, b"begun\nended\n"))
    equal(count(), 1)


def test_controller_killed_in_mid_run(t):
    """kill -9 of the controller: the agent comes back and all is there."""
    d, agent = setup(t)
    ran, count = counter(t, "ran")
    go = t.path("go")
    ident = detach(t, d, "sh", "-c", "echo x >>%s; seq 1000; until [ -e %s ]; do sleep 0.05; done; "
                   "seq 1001 2000; exit 3" % (ran, go))
    until(lambda: output(d, ident).endswith(b"\n1000\n"), "half of it")
    d.kill()
    t.path("go", "")
    d = d.again()
    c = d.command_ends(ident, limit=90)
    equal((c["state"] in ("completed", "failed"), c["exit_code"]), (True, 3), str(c))
    equal(output(d, ident), b"".join(b"%d\n" % i for i in range(1, 2001)))
    equal(count(), 1)
    check(agent.running(), "the agent went on")
    equal(d.get("/api/v1/audit/verify").status, 200)


def test_holder_killed_is_unknown(t):
    """Whose outcome nobody can know is said to be unknown, and not repeated."""
    d, agent = setup(t)
    ran, count = counter(t, "ran")
    ident = detach(t, d, "sh", "-c", "echo x >>%s; exec sleep 300" % ran)
    until(lambda: count() == 1 and d.command(ident)["state"] == "running", "it runs")
    holders = [p for p in children(agent.pid) if children(p)]
    equal(len(holders), 1, "holders with a command")
    os.kill(holders[0], signal.SIGKILL)
    c = d.command_ends(ident, limit=60)
    equal(c["state"], "unknown")
    equal(count(), 1)


def test_concurrency(t):
    """Sixteen detached ones at once; more wait their turn; each runs once."""
    d, _ = setup(t)
    ran, count = counter(t, "ran")
    idents = [detach(t, d, "sh", "-c", "echo %d >>%s; sleep 0.2" % (i, ran)) for i in range(40)]
    for ident in idents:
        equal(d.command_ends(ident, limit=60)["exit_code"], 0)
    equal(sorted(int(x) for x in open(ran).read().split()), list(range(40)))
    equal(count(), 40)


def test_agent_status_and_policy(t):
    d, agent = setup(t)
    status = [os.path.join(BUILD, "muster-agent"), "status", "--state", agent.state]
    until(lambda: subprocess.run(status, env=t.env, capture_output=True, timeout=20,
                                 check=False).returncode == 0, "status says all is well")
    e = subprocess.run([os.path.join(BUILD, "muster-agent"), "policy", "--state", agent.state],
                       env=t.env, capture_output=True, timeout=20, check=False)
    equal(e.returncode, 0, e)
    check(b"exec" in e.stdout, e)
    second = agent.again()
    check(second.wait(20) != 0, "two agents on one state directory")
    check(agent.running(), "the first one goes on")
    shown = d.agent("web-1")
    check(shown["native"] and "exec" in shown["policy"]["verbs"], shown)
    check(shown["metrics"] or shown["info"], shown)


main(globals())
