#!/usr/bin/python3
"""musterd backup and restore, and what a kill leaves."""

import os
import shutil
import stat
import subprocess

from harness import BUILD, check, equal, main

MUSTERD = os.path.join(BUILD, "musterd")


def fill(d, n):
    token = d.make_token("fill-%d" % n)
    for i in range(n):
        equal(d.post("/api/v1/clusters/agent/register",
                     {"agent_id": "a%d" % i, "name": "a%d" % i}, token=token).status, 200)
    return token


def agents(d):
    return [a["agent_id"] for a in d.get("/api/v1/agents?limit=1000")["items"]]


def run(t, *words):
    return subprocess.run([MUSTERD, *words], env=t.env, cwd=t.dir, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=False)


def test_backup_while_it_runs(t):
    d = t.musterd()
    token = fill(d, 20)
    want, incarnation = agents(d), d.get("/api/v1/whoami")["controller"]["incarnation"]
    file = t.path("saved")
    r = run(t, "backup", file, "--data", d.data)
    equal(r.returncode, 0, r.stderr)
    equal(stat.S_IMODE(os.stat(file).st_mode), 0o600, "secrets are in it")
    d.delete("/api/v1/agents/a3")
    check("a3" not in agents(d), "removed")
    equal(d.stop(), 0)
    fresh = t.path("fresh")
    r = run(t, "restore", file, "--data", fresh)
    equal(r.returncode, 0, r.stderr)
    back = t.musterd(data=fresh, ready=False)
    if not os.path.exists(os.path.join(fresh, "admin.token")):
        shutil.copy(os.path.join(d.data, "admin.token"), os.path.join(fresh, "admin.token"))
    back.wait_ready()
    equal(agents(back), want)
    check(back.get("/api/v1/whoami")["controller"]["incarnation"] != incarnation,
          "a restored database is another incarnation")
    equal(back.get("/api/v1/audit/verify").status, 200)
    equal(back.post("/api/v1/clusters/agent/register", {"agent_id": "a1", "name": "a1"},
                    token=token).status, 200, "tokens came back")


def test_restore_refuses(t):
    d = t.musterd()
    fill(d, 3)
    file = t.path("saved")
    equal(run(t, "backup", file, "--data", d.data).returncode, 0)
    before = agents(d)
    r = run(t, "restore", file, "--data", d.data)
    check(r.returncode != 0 and r.stderr, "over a live database")
    equal(agents(d), before)
    equal(d.stop(), 0)
    data = open(file, "rb").read()
    for name, bad in (("torn", data[:len(data) // 2]), ("empty", b""), ("strange", b"x" * 5000),
                      ("flipped", data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) +
                       data[len(data) // 2 + 1:])):
        where = t.path("into-" + name)
        r = run(t, "restore", t.path(name, bad), "--data", where)
        check(r.returncode != 0 and r.stderr, name)
        check(not os.path.exists(os.path.join(where, "muster.db")), name, "left a database")


def test_kill_loses_nothing_that_was_acknowledged(t):
    d = t.musterd()
    token = d.make_token("k")
    said = []
    for turn in range(5):
        for i in range(10):
            name = "n%d-%d" % (turn, i)
            equal(d.post("/api/v1/clusters/agent/register", {"agent_id": name, "name": name},
                         token=token).status, 200)
            said.append(name)
        d.kill()
        d = d.again()
        equal(sorted(agents(d)), sorted(said), "after kill %d" % turn)
    a = d.get("/api/v1/audit/verify")
    equal(a.status, 200, a)


def test_one_controller_a_directory(t):
    d = t.musterd()
    second = t.musterd(data=d.data, ready=False)
    check(second.wait(20) != 0, "two on one database")
    check("data" in second.log().lower() or "lock" in second.log().lower(), second.log())
    equal(d.get("/health").status, 200)


main(globals())
