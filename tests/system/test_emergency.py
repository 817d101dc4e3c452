#!/usr/bin/python3
"""The emergency stop, by the real controller, agents and command line.

Every command here ends by itself within minutes, and starts a handful of
processes at most."""
# timeout: 400

import os
import time

from harness import BUILD, Client, alive, check, equal, main, need, until

MUSTERD = os.path.join(BUILD, "musterd")

# Ignores what can be ignored, and says so in the file $1.
DEAF = 'trap "" TERM INT HUP; echo $$ >>"$1"; i=0; while [ $i -lt 300 ]; do sleep 1; i=$((i+1)); done'


def setup(t, *names):
    need("musterd", "muster-agent", "muster-holder", "muster")
    d = t.musterd()
    return d, [t.agent(d, n) for n in names]


def deaf(t, d, name, mark):
    """A command that ignores every polite signal: its id and its process."""
    path = t.path(mark, "")
    e = t.cli(d, "exec", "-d", "--json", name, "--", "sh", "-c", DEAF, "sh", path, code=0)
    until(lambda: open(path).read().strip(), "the command runs")
    return e.json["id"], int(open(path).read())


def raise_stop(d, **body):
    a = d.post("/api/v1/stop", body)
    equal(a.status, 200, a)
    return a.json


def lift(d, **body):
    a = d.post("/api/v1/resume", body)
    equal(a.status, 200, a)
    return a.json


def stop_is(d, epoch, **counts):
    """The stop as shown, once its receipts are counted so."""
    def look():
        s = d.get("/api/v1/stops/%d" % epoch).json
        return s if all(s["agents"][k] == n for k, n in counts.items()) else None
    return until(look, "stop %d has %r" % (epoch, counts))


def code_of(d, agent):
    a = d.post("/api/v1/commands", {"agent": agent, "argv": ["true"]})
    return a.status, a.code if a.status >= 400 else None


def test_a_stop_stops(t):
    d, _ = setup(t, "web-1", "web-2")
    ident, pid = deaf(t, d, "web-1", "a")
    queued = [t.cli(d, "exec", "-d", "--json", "web-2", "--", "sleep", "100", code=0).json["id"]
              for _ in range(20)]
    check(any(d.command(q)["state"] == "queued" for q in queued), "nothing is queued")
    s = raise_stop(d, scope="all", reason="drill")
    equal((s["epoch"], s["scope"], s["standing"], s["reason"]), (1, "all", True, "drill"))
    s = stop_is(d, 1, confirmed=2, waiting=0)
    until(lambda: not alive(pid), "the deaf one is dead")
    c = d.command_ends(ident)
    equal((c["state"], c["code"]), ("interrupted", "AGENT_STOPPED"))
    for q in queued:
        c = d.command_ends(q)
        check(c["state"] in ("interrupted", "cancelled"), c)
        equal(c["code"], "AGENT_STOPPED", c)
    by_agent = {r["agent_id"]: r for r in s["receipts"]}
    ids = {n: d.agent(n)["agent_id"] for n in ("web-1", "web-2")}
    mine = by_agent[ids["web-1"]]
    equal((mine["kind"], mine["commands"], mine["left"]), ("confirmed", 1, 0), mine)
    check(pid in mine["detail"]["commands"][0]["pids"], mine)
    a = d.agent("web-1")
    equal((a["status"], a["status_reason"], a["stop"]["scope"]), ("stopped", "emergency_stop", "all"))
    equal(code_of(d, "web-1"), (409, "AGENT_STOPPED"))
    e = t.cli(d, "exec", "web-1", "--", "true")
    equal(e.code, 8, e)
    lift(d, scope="all")
    d.agent_is("web-1", "online")
    equal(t.cli(d, "exec", "web-1", "--", "echo", "back", code=0).out, b"back\n")
    actions = [x["action"] for x in d.get("/api/v1/audit").json["items"]]
    check("stop.raise" in actions and "stop.resume" in actions, actions)


def test_on_lanes(t):
    """Orders cross to the lanes of the links, and overtake what waits there."""
    need("musterd", "muster-agent", "muster-holder", "muster")
    d = t.musterd("--lanes", "3")
    names = ["web-%d" % i for i in range(6)]
    for n in names:
        t.agent(d, n)
    pids = [deaf(t, d, n, "mark-" + n)[1] for n in names]
    raise_stop(d, scope="all", reason="drill")
    stop_is(d, 1, confirmed=6, waiting=0)
    check(not any(alive(p) for p in pids), "some are alive")
    lift(d, scope="all")
    for n in names:
        d.agent_is(n, "online", "busy")


def test_restarts(t):
    """Killed and started again, controller and agent alike: it stands."""
    d, (a,) = setup(t, "web-1")
    _, pid = deaf(t, d, "web-1", "a")
    raise_stop(d, scope="agent", agent="web-1", reason="x")
    d.kill()
    d = d.again()
    until(lambda: not alive(pid), "it is dead")
    d.agent_is("web-1", "stopped")
    stop_is(d, 1, confirmed=1)
    a.kill()
    a = a.again()
    until(lambda: d.agent("web-1")["status"] in ("reconnecting", "stopped"), "it is away")
    d.agent_is("web-1", "stopped")
    equal(code_of(d, "web-1"), (409, "AGENT_STOPPED"))
    lift(d, epoch=1)
    d.agent_is("web-1", "online", "busy")
    d.kill()
    d = d.again()
    d.agent_is("web-1", "online", "busy")
    equal(code_of(d, "web-1")[0], 201)


def test_while_away(t):
    d, (a,) = setup(t, "web-1")
    a.stop()
    d.agent_is("web-1", "offline")
    s = raise_stop(d, scope="all", reason="x")
    equal(s["agents"]["unreachable"], 1, s)
    a = a.again()
    d.agent_is("web-1", "stopped")
    stop_is(d, 1, confirmed=1, unreachable=0)
    # Resumed while it is away: it works again as soon as it is back.
    a.stop()
    until(lambda: d.agent("web-1")["status"] == "offline", "it is away")
    lift(d, scope="all")
    a = a.again()
    d.agent_is("web-1", "online")
    t.cli(d, "exec", "web-1", "--", "true", code=0)


def test_selector_and_labels(t):
    d, _ = setup(t, "web-1", "web-2")
    d.patch("/api/v1/agents/web-1/labels", {"env": "prod"})
    raise_stop(d, scope="selector", selector="env=prod", reason="x")
    d.agent_is("web-1", "stopped")
    equal(d.agent("web-2")["status"], "online")
    d.patch("/api/v1/agents/web-2/labels", {"env": "prod"})
    d.agent_is("web-2", "stopped")
    stop_is(d, 1, confirmed=2)
    d.patch("/api/v1/agents/web-1/labels", {"env": "test"})
    d.agent_is("web-1", "online")
    t.cli(d, "exec", "web-1", "--", "true", code=0)
    equal(d.get("/api/v1/stops").json["items"][0]["agents"]["confirmed"], 1)


def test_stop_file(t):
    d, _ = setup(t, "web-1")
    path = os.path.join(d.data, "STOP")
    with open(path, "w") as f:
        f.write("pulled the cord\nand more")
    d.agent_is("web-1", "stopped")
    s = d.get("/api/v1/stops").json["items"][0]
    equal((s["scope"], s["reason"], s["actor"]), ("all", "pulled the cord", "system"))
    a = d.post("/api/v1/resume", {"scope": "all"})
    equal((a.status, a.code), (409, "STOP_FILE_PRESENT"))
    os.unlink(path)
    until(lambda: d.post("/api/v1/resume", {"scope": "all"}).status == 200, "it is lifted")
    d.agent_is("web-1", "online")
    # There before anybody is let in.
    d.stop()
    open(path, "w").close()
    d = d.again()
    d.agent_is("web-1", "stopped")


def test_damaged_file(t):
    """Nobody is let in by a controller that cannot know what stands."""
    d, _ = setup(t)
    raise_stop(d, scope="all", reason="x")
    d.stop()
    path = os.path.join(d.data, "stop.epoch")
    with open(path, "r+b") as f:
        f.seek(20)
        f.write(b"!")
    p = t.start("musterd", [MUSTERD, "--data", d.data, "--listen", "127.0.0.1:0"])
    equal(p.wait(), 1)
    check("stop.epoch" in p.log() and "move it away" in p.log(), p.log())
    # Without it the database is believed, and the file is written again.
    os.unlink(path)
    d = d.again()
    s = d.get("/api/v1/stops").json
    equal((s["controller_epoch"], s["items"][0]["standing"]), (1, True), s)
    until(lambda: os.path.exists(path), "the file is written again")


def test_older_backup(t):
    """The database knows nothing of the stop; the agent proves it."""
    d, (a,) = setup(t, "web-1")
    other = t.agent(d, "web-2")
    backup = t.path("backup")
    p = t.start("musterd", [MUSTERD, "backup", "--data", d.data, backup])
    equal(p.wait(), 0, p.log())
    raise_stop(d, scope="all", reason="x")
    stop_is(d, 1, confirmed=2)
    other.stop()
    d.stop()
    data = d.data
    os.rename(data, data + ".lost")
    p = t.start("musterd", [MUSTERD, "restore", "--data", data, backup])
    equal(p.wait(), 0, p.log())
    d = d.again()
    # Only web-1 comes back, and it is enough for all.
    d.agent_is("web-1", "stopped")
    s = d.get("/api/v1/stops").json
    equal((s["controller_epoch"], s["items"][0]["scope"], s["items"][0]["standing"]), (1, "all", True), s)
    equal(code_of(d, "web-2"), (409, "AGENT_STOPPED"))
    lift(d, scope="all")
    d.agent_is("web-1", "online")


def test_local_stop(t):
    d, (a,) = setup(t, "web-1")
    path = os.path.join(a.state, "STOP")
    open(path, "w").close()
    x = d.agent_is("web-1", "stopped")
    equal((x["status_reason"], x["stop"], x["stopped_locally"]), ("local_stop", None, True))
    equal(code_of(d, "web-1"), (409, "AGENT_STOPPED"))
    os.unlink(path)
    d.agent_is("web-1", "online")


def test_requests(t):
    d, _ = setup(t, "web-1")
    for body, field in (
            ({}, "scope"), ({"scope": "some"}, "scope"), ({"scope": "agent"}, "scope"),
            ({"scope": "all", "agent": "web-1"}, "scope"),
            ({"scope": "selector", "selector": "="}, "selector"),
            ({"scope": "all", "reason": 1}, "reason"),
            ({"scope": "all", "reason": "x" * 1001}, "reason")):
        a = d.post("/api/v1/stop", body)
        equal((a.status, a.json.get("field")), (400, field), a)
    equal(d.post("/api/v1/stop", {"scope": "agent", "agent": "nobody"}).status, 404)
    equal(d.post("/api/v1/resume", {"epoch": 7}).status, 404)
    s = d.post("/api/v1/stop", {"scope": "all", "dry_run": True}).json
    equal((s["epoch"], s["standing"], s["agents"]["waiting"]), (0, False, 1), s)
    key = {"Idempotency-Key": "k1"}
    one = d.post("/api/v1/stop", {"scope": "all", "reason": "x"}, headers=key).json
    two = d.post("/api/v1/stop", {"scope": "all", "reason": "x"}, headers=key).json
    equal((one["epoch"], one["again"], two["epoch"], two["again"]), (1, False, 1, True))
    equal(two["controller_epoch"], 1)
    until(lambda: "muster_stop_epoch 1\n" in d.get("/metrics").body.decode(), "the metrics know")
    check("muster_stops_standing 1\n" in d.get("/metrics").body.decode(), "and that it stands")
    lift(d, scope="all")
    viewer = d.post("/api/v1/users", {"name": "v", "role": "viewer", "password": "12345678"})
    equal(viewer.status, 201, viewer)
    token = d.post("/api/v1/users/v/token", {"ttl_ms": 60000})["token"]
    d2 = Client("127.0.0.1", d.port, token)
    equal(d2.post("/api/v1/stop", {"scope": "all"}).status, 403)
    equal(d2.get("/api/v1/stops").status, 200)


def test_attached(t):
    """Whoever is attached is told: exit code 8."""
    d, _ = setup(t, "web-1")
    p = t.cli_start(d, "exec", "web-1", "--", "sh", "-c", "echo on; sleep 100")
    until(lambda: b"on" in p.out(), "it runs")
    start = time.monotonic()
    raise_stop(d, scope="all", reason="x")
    equal(p.wait(), 8, p.log())
    check(time.monotonic() - start < 5, "it took %.1f s" % (time.monotonic() - start))
    stop_is(d, 1, confirmed=1)


def test_command_line(t):
    d, (a, b) = setup(t, "web-1", "web-2")
    _, pid = deaf(t, d, "web-1", "a")
    equal(t.cli(d, "stop").code, 2)
    equal(t.cli(d, "stop", "--all", "web-1").code, 2)
    equal(t.cli(d, "stop", "nobody").code, 5)
    e = t.cli(d, "stop", "--all")
    equal(e.code, 2, e)
    check(b"--yes" in e.err and b"2 agents: web-" in e.err, e)
    equal(d.get("/api/v1/stops").json["items"], [])
    e = t.cli(d, "stop", "--all", "--reason", "drill", "--yes", code=0)
    check(not alive(pid), "it is alive")
    lines = dict(l.split("\t") for l in e.out.decode().splitlines())
    equal(lines, {"confirmed": "2", "acknowledged": "0", "unable": "0", "waiting": "0", "unreachable": "0"})
    e = t.cli(d, "stop", "ls", code=0)
    cells = e.out.decode().rstrip("\n").split("\t")
    equal((cells[0], cells[1], cells[2], cells[4], cells[6]), ("1", "standing", "all", "2 confirmed", "drill"))
    check(b"web-1\tconfirmed" in t.cli(d, "stop", "show", "1", code=0).out, "shown")
    equal(t.cli(d, "stop", "show", "1", "--json", code=0).json["agents"]["confirmed"], 2)
    check(b"stops\t1\n" in t.cli(d, "status", code=0).out, "status shows it")
    check(b"\tstopped\t" in t.cli(d, "agent", "ls", code=0).out, "agent ls shows it")
    equal(t.cli(d, "exec", "-d", "web-1", "--", "true").code, 8)
    # A second one, of an agent that is away: said, and exit code 1.
    b.stop()
    until(lambda: d.agent("web-2")["status"] == "offline", "it is away")
    e = t.cli(d, "stop", "web-2", "--timeout=1s")
    equal(e.code, 1, e)
    check(b"web-2\tunreachable" in e.out and b"1 unreachable" in e.err, e)
    e = t.cli(d, "resume", "--all", code=0)
    check(b"stop 1 is lifted" in e.err and b"stop 2 (agent) still stands" in e.err, e)
    t.cli(d, "resume", "2", code=0)
    equal(t.cli(d, "resume", "--all").code, 5)
    t.cli(d, "exec", "web-1", "--", "true", code=0)
    d.patch("/api/v1/agents/web-1/labels", {"env": "prod"})
    t.cli(d, "stop", "-l", "env=prod", "--yes", "--json", code=0)
    t.cli(d, "resume", "-l", "env=prod", code=0)
    d.agent_is("web-1", "online")


main(globals())
