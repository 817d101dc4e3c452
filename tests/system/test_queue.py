#!/usr/bin/python3
"""The queue of an agent, by the real programs: order, places, a thousand that
wait through kill -9, keys, cordons, many agents at once, rights at delivery,
interrupts, and logs that are followed over a restart."""
# timeout: 400

import collections
import json
import os
import re
import select
import subprocess
import time
import urllib.parse

from harness import Agent, check, equal, main, until


def start(d, agent, *argv, key=None, **more):
    return d.post("/api/v1/commands", dict(agent=agent, argv=list(argv), **more),
                  headers={"Idempotency-Key": key} if key else None)


def started(d, agent, *argv, **more):
    a = start(d, agent, *argv, **more)
    equal(a.status, 201, a)
    return a.json


def queue(d, agent, limit=1000):
    a = d.get("/api/v1/agents/%s/queue?limit=%d" % (agent, limit))
    equal(a.status, 200, a)
    equal(a["schema"], "muster.queue/1")
    return a.json


def commands(d, agent):
    """All of them, oldest first."""
    found, cursor = [], ""
    while True:
        a = d.get("/api/v1/commands?limit=1000&agent=%s%s" % (agent, cursor)).json
        found += a["items"]
        if not a["next"]:
            return found[::-1]
        cursor = "&cursor=" + urllib.parse.quote(a["next"])


def ident(d, name):
    return d.agent(name)["agent_id"]


def set_rate(state, rate):
    path = os.path.join(state, "policy.conf")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    changed = re.sub(r"commands_per_minute = \d+", "commands_per_minute = %d" % rate, text)
    check(changed != text, "no rate in the policy", text)
    with open(path, "w", encoding="utf-8") as f:
        f.write(changed)


def test_order_and_places(case):
    d = case.musterd()
    case.agent(d)
    equal(d.post("/api/v1/agents/web-1/cordon").status, 200)
    made = []
    for priority in ("low", "normal", "high", "normal", "low", "high"):
        c = started(d, "web-1", "true", priority=priority)
        equal(c["state"], "queued")
        made.append((priority, c["id"]))
        equal(c["position"], [p["command_id"] for p in queue(d, "web-1")["places"]].index(c["id"]) + 1)
    order = [i for p in ("high", "normal", "low") for q, i in made if p == q]
    places = queue(d, "web-1")["places"]
    equal([p["command_id"] for p in places], order)
    equal([p["position"] for p in places], [1, 2, 3, 4, 5, 6])
    # Nothing is known yet: 5 s each, 16 at once.
    equal([p["wait_ms"] for p in places], [0, 313, 625, 938, 1250, 1563])
    equal(d.command(order[3])["position"], 4)
    equal(len(queue(d, "web-1", limit=2)["places"]), 2)
    equal(d.post("/api/v1/agents/web-1/uncordon").status, 200)
    sent = sorted((d.command_ends(i)["sequence"], i) for i in order)
    equal([i for _, i in sent], order)
    equal(queue(d, "web-1")["places"], [])
    equal(d.command(order[0])["position"], None)


def test_thousand_through_kill(case):
    """What waits survives the controller, twice, and runs exactly once."""
    d = case.musterd("--request-rate", "100000")
    state = case.join(d, "web-1")
    set_rate(state, 0)
    journal = case.path("ran", "")
    agent = ident(d, "web-1")
    script = 'echo "$MUSTER_COMMAND_ID" >> "$0"'
    made = [started(d, agent, "sh", "-c", script, journal, priority="high" if n % 10 == 9 else "normal")["id"]
            for n in range(1000)]
    full = start(d, agent, "true")
    equal((full.status, full.code), (429, "QUEUE_FULL"))
    before = queue(d, agent)
    equal(before["queued"], 1000)
    d.kill()
    d = d.again()
    after = queue(d, agent)
    equal([p["command_id"] for p in after["places"]], [p["command_id"] for p in before["places"]])
    equal(start(d, agent, "true").code, "QUEUE_FULL")
    a = Agent(case, state)
    for left in (800, 400):
        until(lambda: queue(d, agent, 1)["queued"] <= left, "%d left" % left, limit=120)
        d.kill()
        d = d.again()
    until(lambda: queue(d, agent, 1)["queued"] == 0, "all sent", limit=180)
    until(lambda: d.agent(agent)["running"] == 0, "all ended", limit=60)
    equal(collections.Counter(c["state"] for c in commands(d, agent)), {"completed": 1000})
    with open(journal, encoding="ascii") as f:
        ran = f.read().split()
    equal(sorted(ran), sorted(made), "ran exactly once")
    check(a.running(), "the agent went")


def test_no_room_on_the_agent(case):
    """What its policy has no room for now waits, and nothing fails."""
    d = case.musterd("--request-rate", "100000")
    state = case.join(d, "web-1")
    # Few at once and slowly more: a slow machine meets the limit as well.
    set_rate(state, 30)
    agent = ident(d, "web-1")
    made = [started(d, agent, "true")["id"] for n in range(34)]
    a = Agent(case, state)
    until(lambda: "command_not_permitted" in a.log() or "RATE_LIMIT" in a.log() or
          queue(d, agent)["queued"] == 0, "the limit is met", limit=60)
    until(lambda: queue(d, agent)["queued"] == 0 and d.agent(agent)["running"] == 0, "all ended", limit=60)
    equal(collections.Counter(c["state"] for c in commands(d, agent)), {"completed": 34})
    sent = sorted((d.command(i)["sequence"], i) for i in made)
    equal([i for _, i in sent[-3:]], made[-3:], "the last are the last")
    check(sent[-1][0] > 34, "the limit was never met")


def test_purge_is_one_event(case):
    d = case.musterd("--request-rate", "100000")
    case.join(d, "web-1")
    agent = ident(d, "web-1")
    for _ in range(300):
        started(d, agent, "true")
    p = case.cli_start(d, "events", "--json", stdout=subprocess.PIPE)
    # It follows as soon as it tells of what is done now.
    def labelled():
        equal(d.patch("/api/v1/agents/%s/labels" % agent, {"x": str(time.monotonic_ns())}).status, 200)
        return select.select([p.process.stdout], [], [], 0.1)[0]
    until(labelled, "an event")
    check(p.process.stdout.readline(), "no events")
    a = d.delete("/api/v1/agents/%s/queue" % agent)
    equal((a.status, a["cancelled"]), (200, 300))
    equal(queue(d, agent)["queued"], 0)
    d.post("/api/v1/agents/%s/cordon" % agent)
    events = []
    while not events or events[-1]["name"] != "agent.cordoned":
        events.append(json.loads(p.process.stdout.readline()))
    d.post("/api/v1/agents/%s/uncordon" % agent)
    told = [e for e in events if e["name"] == "agent.queue"]
    check(len(told) <= 2, "told %d times of one purge" % len(told))
    equal(sum(e["name"] == "command.cancelled" for e in events), 300)
    p.stop()


def test_settings(case):
    d = case.musterd("--concurrency", "1", "--queue-limit", "2", "--foreground-max", "1")
    case.agent(d)
    first = started(d, "web-1", "sleep", "600")
    equal(first["state"], "sent")
    equal([started(d, "web-1", "true")["position"] for _ in range(2)], [1, 2])
    equal(start(d, "web-1", "true").code, "QUEUE_FULL")
    p = case.cli_start(d, "exec", "-n", "web-1", "--", "sleep", "600")
    until(lambda: d.agent("web-1")["running"] == 2, "it is attached")
    check(b"QUEUE_FULL" in case.cli(d, "exec", "-n", "web-1", "--", "true").err, "two attached")
    p.stop()
    for c in commands(d, "web-1"):
        d.post("/api/v1/commands/%s/interrupt" % c["id"])


def test_keys_over_a_restart(case):
    d = case.musterd()
    case.agent(d)
    first = started(d, "web-1", "echo", "a", key="k1")
    waits = started(d, "web-1", "sleep", "600", key="k2")
    d.command_ends(first["id"])
    for _ in range(2):
        again = start(d, "web-1", "echo", "a", key="k1")
        equal((again.status, again["id"], again["state"]), (200, first["id"], "completed"))
        other = start(d, "web-1", "echo", "b", key="k1")
        equal((other.status, other.code), (422, "KEY_REUSED"))
        again = start(d, "web-1", "sleep", "600", key="k2")
        equal((again.status, again["id"]), (200, waits["id"]))
        equal(start(d, "web-1", "sleep", "601", key="k2").code, "KEY_REUSED")
        d.kill()
        d = d.again()
        d.agent_is("web-1", "online", "busy")
    d.post("/api/v1/commands/%s/interrupt" % waits["id"])
    equal(d.command_ends(waits["id"])["state"], "interrupted")


def test_cordon_and_drain(case):
    d = case.musterd()
    case.agent(d)
    busy = started(d, "web-1", "sleep", "600")["id"]
    until(lambda: d.command(busy)["state"] == "running", "it runs")
    e = case.cli(d, "agent", "drain", "web-1", "--timeout", "300ms", code=124)
    check(busy.encode() in e.err and b"stays cordoned" in e.err, e)
    check(b",cordoned\t" in case.cli(d, "agent", "ls", code=0).out, "agent ls")
    d.kill()
    d = d.again()
    d.agent_is("web-1", "online", "busy")
    check(d.agent("web-1")["cordoned_at"], "the cordon is gone")
    e = case.cli(d, "exec", "-n", "web-1", "--", "true", code=6)
    check(b"CORDONED" in e.err, e)
    case.cli(d, "exec", "-n", "--force", "web-1", "--", "true", code=0)
    e = case.cli(d, "exec", "-d", "web-1", "--", "true", code=6)
    waits = e.out.decode().strip()
    check(b"web-1 is cordoned" in e.err, e)
    p = case.cli_start(d, "agent", "drain", "web-1", "--timeout", "60s")
    time.sleep(0.2)
    check(p.running(), "drained while something runs")
    case.cli(d, "job", "interrupt", busy, code=0)
    equal(p.wait(), 0, p.log())
    equal(d.command(waits)["state"], "queued")
    case.cli(d, "agent", "uncordon", "web-1", code=0)
    case.cli(d, "job", "wait", "--timeout", "20s", waits, code=0)
    lines = [json.loads(x) for x in case.cli(d, "audit", "export", code=0).out.splitlines()]
    actions = [x["action"] for x in lines]
    equal((actions.count("agent.cordon"), actions.count("agent.uncordon")), (1, 1))


def test_many_agents(case):
    d = case.musterd()
    for name in ("web-1", "web-2"):
        case.agent(d, name)
        equal(d.patch("/api/v1/agents/%s/labels" % name, {"env": "prod"}).status, 200)
    case.join(d, "web-3")
    a = d.post("/api/v1/commands", {"agents": ["web-3", "nobody"], "selector": "env=prod", "argv": ["echo", "hi"]})
    equal((a.status, a["schema"], a["made"], a["refused"]), (201, "muster.fanout/1", 3, 1))
    items = {i["target"] or i["name"]: i for i in a["items"]}
    equal(sorted(items), ["nobody", "web-1", "web-2", "web-3"])
    equal(items["nobody"]["problem"]["code"], "AGENT_NOT_FOUND")
    equal((items["web-3"]["command"]["state"], items["web-3"]["command"]["position"]), ("queued", 1))
    for name in ("web-1", "web-2"):
        equal(d.command_ends(items[name]["command"]["id"])["exit_code"], 0)
    # One key, one command on each.
    body = {"selector": "env=prod", "argv": ["true"]}
    ids = [sorted(i["command"]["id"] for i in
                  d.post("/api/v1/commands", body, headers={"Idempotency-Key": "k"})["items"] if i["command"])
           for _ in range(2)]
    check(ids[0] and (ids[0] == ids[1] or not ids[1]), "a key made more", ids)
    for bad in ({"argv": ["true"]}, {"agent": "web-1", "agents": ["web-2"], "argv": ["true"]},
                {"agents": "web-1", "argv": ["true"]}, {"agents": [1], "argv": ["true"]},
                {"agents": ["x"] * 1001, "argv": ["true"]}, {"selector": "=", "argv": ["true"]}):
        equal(d.post("/api/v1/commands", bad).status, 400, str(bad)[:80])
    equal(d.post("/api/v1/commands", {"selector": "env=none", "argv": ["true"]}).code, "AGENT_NOT_FOUND")
    e = case.cli(d, "exec", "-l", "env=prod", "--", "true", code=2)
    check(b"web-1" in e.err and b"--yes" in e.err, e)
    e = case.cli(d, "exec", "-l", "env=prod", "--yes", "--", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    equal(sorted(e.out.splitlines()), [b"web-1: out", b"web-2: out"])
    check(b"web-1: err\n" in e.err and b"web-2: err\n" in e.err, e)
    e = case.cli(d, "exec", "-d", "web-1", "web-2", "web-3", "--", "true", code=6)
    equal(len(set(e.out.split())), 3)


def test_rights_at_delivery(case):
    d = case.musterd()
    state = case.join(d, "web-1")
    word = case.path("password", "correct horse battery\n")
    case.cli(d, "user", "add", "olga", "--role", "operator", "--password-file", word, code=0)
    token = case.cli(d, "user", "token", "olga", "--ttl", "1h", code=0).out.decode().strip()
    body = {"agent": "web-1", "argv": ["true"]}
    made = d.post("/api/v1/commands", body, token=token)
    equal(made.status, 201, made)
    mine = started(d, "web-1", "true")["id"]
    user = d.get("/api/v1/users/olga")["id"]
    changed = d.patch("/api/v1/users/" + user, {"role": "viewer"})
    equal(changed.status, 200, changed)
    equal(d.post("/api/v1/commands/%s/cancel" % mine, token=token).status, 403)
    equal(d.delete("/api/v1/agents/web-1/queue", token=token).status, 403)
    Agent(case, state)
    c = d.command_ends(made["id"])
    equal((c["state"], c["code"], c["sequence"]), ("cancelled", "NOT_PERMITTED", 0))
    check("rights changed" in c["why"], c)
    equal(d.command_ends(mine)["state"], "completed")
    e = case.cli(d, "job", "wait", made["id"], code=4)
    check(b"rights changed" in e.err, e)


def test_policy_at_delivery(case):
    d = case.musterd()
    state = case.join(d, "web-1", allow="observe")
    made = started(d, "web-1", "true")["id"]
    Agent(case, state)
    c = d.command_ends(made)
    equal((c["state"], c["code"], c["sequence"]), ("failed", "NOT_PERMITTED", 0))
    case.cli(d, "job", "wait", made, code=4)


def test_interrupt_escalates(case):
    d = case.musterd()
    case.agent(d)
    script = 'trap "" INT%s; echo ready; while :; do sleep 0.1; done'
    kinds = {"": 15, " TERM": 9}
    made = {k: started(d, "web-1", "sh", "-c", script % k)["id"] for k in kinds}
    for i in made.values():
        until(lambda i=i: d.get("/api/v1/commands/%s/output" % i).body == b"ready\n", "it is ready")
    begin = time.monotonic()
    for i in made.values():
        case.cli(d, "job", "interrupt", i, code=0)
    case.cli(d, "job", "wait", made[""], code=128 + 15)
    took = time.monotonic() - begin
    check(4 < took < 12, "TERM after %.1f s" % took)
    case.cli(d, "job", "wait", made[" TERM"], code=128 + 9)
    took = time.monotonic() - begin
    check(14 < took < 25, "KILL after %.1f s" % took)
    for k, number in kinds.items():
        c = d.command(made[k])
        equal((c["state"], c["signal"]), ("interrupted", number))


def test_logs_follow_over_a_restart(case):
    d = case.musterd()
    case.agent(d)
    go = case.path("go")
    script = 'i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); [ $i -ne 1000 ] || ' \
             'until [ -e "$0" ]; do sleep 0.05; done; done; exit 7'
    made = started(d, "web-1", "sh", "-c", script, go)["id"]
    p = case.cli_start(d, "job", "logs", "-f", made)
    w = case.cli_start(d, "job", "wait", made)
    until(lambda: p.out().count(b"\n") == 1000, "half of it")
    d.kill()
    time.sleep(0.3)
    d = d.again()
    case.path("go", "")
    equal(w.wait(60), 7, w.log())
    equal(p.wait(60), 0, p.log())
    equal(p.out(), b"".join(b"line %d\n" % i for i in range(2000)))


main(globals())
