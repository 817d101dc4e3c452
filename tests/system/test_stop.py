#!/usr/bin/python3
"""test_stop: an agent under stops, against the controller of test_agent.

docs/protocol/muster.md section 7.  Every command here has a bound of its own:
at most a few dozen processes, each of which ends by itself within minutes."""
# timeout: 300

import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_agent  # noqa: E402
from test_agent import EXIT, REFUSED, ROOT, STARTED, World, check, until  # noqa: E402
from harness import adopt, alive, end_all  # noqa: E402

MAC = 'ab' * 32
# Each writes its process ids into the file $1, a line each, and a last line
# "ready" when all of them are there.
IGNORES = 'trap "" TERM INT HUP; echo $$ >>"$1"; echo ready >>"$1"; while :; do sleep 1; done'
SETSID = ('setsid sh -c "trap \'\' TERM HUP; echo \\$\\$ >>$1; echo ready >>$1; exec sleep 200" & '
          'echo $$ >>"$1"; wait')
DOUBLE = ('(setsid sh -c "(trap \'\' TERM; exec sleep 200) & '
          'echo \\$! >>$1; echo ready >>$1" >/dev/null 2>&1 </dev/null &); echo $$ >>"$1"; exec sleep 200')
# A tree of 1 + 3 + 9 + 27 processes, and no more whatever happens.
TREE = '''
import os, sys, time
path, left = sys.argv[1], 3
def write(text):
    with open(path, 'a') as f:
        f.write(text)
write('%d\\n' % os.getpid())
top = os.getpid()
while left:
    left -= 1
    for _ in range(3):
        if os.fork() == 0:
            write('%d\\n' % os.getpid())
            break
    else:
        break
if os.getpid() == top:
    while len(open(path).read().split()) < 40:
        time.sleep(0.01)
    write('ready\\n')
time.sleep(200)
'''


def marked(w, s, script, name, **more):
    """Start it and wait until it stands: (stream, the ids it wrote)."""
    path = os.path.join(w.dir, name)
    argv = [sys.executable, '-c', script, path] if script is TREE else ['sh', '-c', script, 'sh', path]
    stream = w.run(s, *argv, **more)
    stream.expect(STARTED)
    until(lambda: os.path.exists(path) and 'ready' in open(path).read(), name + ' does not stand')
    pids = [int(x) for x in open(path).read().split() if x.isdigit()]
    check(pids and all(alive(p) for p in pids), (name, pids))
    return stream, pids


def order(s, epoch, stopped=True, scope='all', reason='because'):
    payload = {'epoch': epoch, 'scope': scope, 'at': '2025-10-16T12:00:00.000Z', 'mac': MAC}
    if stopped:
        payload.update(keep_tunnels=False, reason=reason)
    s.say('stop' if stopped else 'resume_work', payload)


def message(s, kind):
    """The next text of a type; other kinds of a stop in between are dropped."""
    while True:
        m = s.texts.get(timeout=test_agent.PATIENCE)
        check(m is not None, 'the link ended, waiting for ' + kind)
        if m['type'] == kind:
            return m['payload']
        check(m['type'] in ('heartbeat', 'stop_receipt', 'local_stop'), m)


def receipt(s, epoch=None, **want):
    """The next receipt that is of this epoch and says so."""
    while True:
        r = message(s, 'stop_receipt')
        if (epoch is None or r['epoch'] == epoch) and all(r[k] == v for k, v in want.items()):
            return r


def dead(pids):
    return [p for p in pids if alive(p)] == []


def end_of(stream):
    while True:
        kind, payload = stream.next()
        if kind == EXIT:
            return json.loads(payload)
        check(kind not in (0, REFUSED), (kind, payload))


def up(w, stop=None):
    """The next session, registered with this word on the stop."""
    s = w.controller.session()
    m = s.message('register')
    s.registration = m['payload']
    muster = {'proto': 1, 'incarnation': 'db_one', 'stop_epoch': 0, 'heartbeat_ms': 30000,
              'limits': {'message': 1048576}}
    if stop:
        muster['stop'] = dict({'scope': 'all', 'keep_tunnels': False, 'reason': 'r', 'mac': MAC}, **stop)
    s.say('register_success', {'cluster_id': 'uuid-1', 'name': 'web-1', 'muster': muster}, m['request_id'])
    return s


def kept(w):
    """The state file as a dict; None without one."""
    try:
        with open(w.link_dir() + '/stop') as f:
            return dict(x.split('=', 1) for x in f.read().splitlines() if '=' in x)
    except OSError:
        return None


# The tests -------------------------------------------------------------------


def test_kills_everything(w):
    s = w.ready()
    every = [(n, marked(w, s, script, n)) for n, script in
             (('ignores', IGNORES), ('setsid', SETSID), ('double', DOUBLE), ('tree', TREE))]
    # One that has ended, and whose child lingers.
    path = os.path.join(w.dir, 'lingers')
    lingers = w.run(s, 'sh', '-c', '(setsid sleep 200 >/dev/null 2>&1 </dev/null & echo $! >"$1")',
                    'sh', path, foreground=False)
    check(end_of(lingers)['lingering'] == 1, 'it lingers')
    order(s, 5)
    r = receipt(s, 5, stopped=True, local=False)
    by_id = {c['command_id']: c for c in r['commands']}
    check(r['left'] == [] and r['tunnels_closed'] == 0 and r['began_at'] <= r['done_at'], r)
    check(len(by_id) == 5, r)
    for n, (name, (stream, pids)) in enumerate(every, 1):
        check(dead(pids), (name, 'lives on'))
        c = by_id['cmd_%020d' % n]
        check(c['count'] >= len(pids) and len(c['pids']) == min(64, c['count']), (name, c, pids))
        check(set(pids) <= set(c['pids']), (name, c, pids))
        check(c['took_ms'] < 5000, c)
        end = end_of(stream)
        check(end['stopped'] and end['code'] == 'AGENT_STOPPED' and end['lingering'] == 0, end)
    left = int(open(path).read())
    check(dead([left]) and by_id['cmd_%020d' % 5]['pids'] == [left], by_id)
    # Durable, with all that is needed to prove it.
    k = kept(w)
    check((k['epoch'], k['stopped'], k['mac'], k['scope'], k['reason']) ==
          ('5', '1', MAC, 'all', 'because'), k)
    # Nothing starts, and the reason is told.
    no = w.run(s, 'true').expect(REFUSED)
    check(no['code'] == 'AGENT_STOPPED' and 'stop 5: because' in no['why'], no)
    done = w.call('status', '--state', w.state)
    check(done.returncode == 8 and 'epoch 5' in done.stdout and 'because' in done.stdout, done)
    # An epoch that is not higher changes nothing and is answered.
    for epoch, stopped in ((5, False), (4, True), (1, False)):
        order(s, epoch, stopped)
        check(receipt(s)['epoch'] == 5 and kept(w)['stopped'] == '1', 'a low epoch')
    order(s, 6, False)
    r = receipt(s, 6, stopped=False)
    check(r['commands'] == [] and 'began_at' not in r and kept(w)['stopped'] == '0', r)
    out, _, end = w.run(s, 'echo', 'again').collect()
    check(out == b'again\n' and not end['stopped'], end)
    check(w.call('status', '--state', w.state).returncode == 0, 'status after it')


# Each process makes the next and goes: nobody stays to be found.  At most 50
# of them in all, 10 ms each; the last one sleeps.
MOVES = '''
import os, sys, time
with open(sys.argv[1], 'w') as f:
    f.write('%d\\nready\\n' % os.getpid())
for _ in range(49):
    time.sleep(0.01)
    if os.fork():
        os._exit(0)
    os.setsid()
time.sleep(200)
'''


def test_moving_target(w):
    s = w.ready()
    path = os.path.join(w.dir, 'a')
    for n in range(3):
        # What the first one leaves behind is held, whoever it is by now.
        stream = w.run(s, sys.executable, '-c', MOVES, path, foreground=False)
        until(lambda: os.path.exists(path) and 'ready' in open(path).read(), 'it does not stand')
        order(s, 2 * n + 2)
        r = receipt(s, 2 * n + 2, stopped=True)
        mine = [c for c in r['commands'] if c['command_id'] == 'cmd_%020d' % w.seq]
        check(len(mine) == 1 and 1 <= mine[0]['count'] <= 50 and not r['left'], r)
        check(dead(mine[0]['pids']), r)
        end_of(stream)
        order(s, 2 * n + 3, False)
        receipt(s, 2 * n + 3, stopped=False)
        os.unlink(path)
    check(not w.status()['commands_running'], 'something runs')


def test_before_anything_else(w):
    """An agent that was away learns it from the answer to its registration."""
    s = w.ready()
    _, pids = marked(w, s, SETSID, 'a')
    s.cut()
    s = up(w, {'epoch': 9, 'stopped': True})
    # In one breath with the answer: an order.
    no = w.run(s, 'true').expect(REFUSED)
    check(no['code'] == 'AGENT_STOPPED', no)
    r = receipt(s, 9, stopped=True)
    check(dead(pids) and r['commands'][0]['count'] >= 2, r)
    # It shows what it keeps, and is still stopped when the controller is silent.
    s.cut()
    s = up(w)
    m = s.registration['muster']
    check(m['stop'] == {'epoch': 9, 'stopped': True, 'scope': 'all', 'mac': MAC, 'local': False} and
          m['stop_epoch'] == 9, m)
    receipt(s, 9, stopped=True)
    check(w.run(s, 'true').expect(REFUSED)['code'] == 'AGENT_STOPPED', 'a silent controller')
    s.cut()
    s = up(w, {'epoch': 10, 'stopped': False})
    until(lambda: kept(w)['epoch'] == '10', 'not kept')
    until(lambda: w.run(s, 'true').next()[0] == STARTED, 'not resumed')


def test_restart(w):
    """A new agent finds itself stopped."""
    s = w.ready()
    stream, pids = marked(w, s, IGNORES, 'a')
    # The agent dies; a stop is written while it is away, as by another agent
    # that had the message and died before it could kill.
    w.stop(signal.SIGKILL)
    check(all(alive(p) for p in pids), 'holders outlive the agent')
    shutil.copy(w.link_dir() + '/stop', w.dir) if kept(w) else None
    text = 'muster-stop 1\nepoch=3\nstopped=1\nkeep_tunnels=0\nat_ms=5\nmac=%s\nscope=all\nreason=x\n' % MAC
    check_sum = 0xcbf29ce484222325
    for c in text.encode():
        check_sum = (check_sum ^ c) * 0x100000001b3 & (1 << 64) - 1
    with open(w.link_dir() + '/stop', 'w') as f:
        f.write('%scheck=%016x\n' % (text, check_sum))
    # The controller cannot be reached: it kills all the same.
    w.controller.answers = [('503 No', '')] * 2
    w.start()
    until(lambda: dead(pids), 'still alive under a stop')
    s = up(w)
    check(s.registration['muster']['stop']['stopped'], s.registration)
    r = receipt(s, 3)
    check(r['commands'][0]['command_id'] == 'cmd_%020d' % 1, r)
    # And again: from the exit record, and the end of the command as well.
    w.stop(signal.SIGKILL)
    w.start()
    s = up(w)
    r = receipt(s, 3)
    check(set(pids) <= set(r['commands'][0]['pids']), r)
    end = end_of(s.open(dict(w.command('x'), id='cmd_%020d' % 1, seq=1, again=True)))
    check(end['stopped'], end)


def test_broken_file(w):
    check(w.join('--allow', 'exec').returncode == 0, 'join')
    for text, why in (('muster-stop 1\nepoch=1\n', 'corrupt'), ('muster-stop 2\nepoch=1\ncheck=0000000000000000\n',
                                                                'newer')):
        with open(w.link_dir() + '/stop', 'w') as f:
            f.write(text)
        done = w.call('run', '--state', w.state)
        check(done.returncode == 1 and why in done.stderr, done)


def test_overtakes_output(w):
    """Both directions of the link are full, and nothing is read here."""
    s = w.ready()
    streams = [w.run(s, 'sh', '-c', 'trap "" TERM; cat /dev/zero') for _ in range(8)]
    for stream in streams:
        stream.expect(STARTED)
    for stream in streams:
        stream.hold = True
    began = time.monotonic()
    order(s, 2)
    r = receipt(s, 2)
    check(len(r['commands']) == 8, r)
    print('  receipt after %.0f ms' % ((time.monotonic() - began) * 1000))
    check(time.monotonic() - began < 5, 'too late')


def test_frozen_agent(w):
    """The agent is stopped by SIGSTOP: the stop waits for it, not for long."""
    s = w.ready()
    _, pids = marked(w, s, IGNORES, 'a')
    w.process.send_signal(signal.SIGSTOP)
    order(s, 2)
    time.sleep(0.3)  # nothing can tell that nothing happens
    check(not dead(pids), 'who killed it?')
    w.process.send_signal(signal.SIGCONT)
    receipt(s, 2, stopped=True)
    check(dead(pids), 'alive')
    # The owner of the host needs no agent for it.
    order(s, 3, False)
    receipt(s, 3, stopped=False)
    _, pids = marked(w, s, SETSID, 'b')
    w.process.send_signal(signal.SIGSTOP)
    done = w.call('stop', '--state', w.state)
    check(done.returncode == 0 and 'does not answer' in done.stdout and dead(pids), done)
    w.process.send_signal(signal.SIGCONT)
    check(message(s, 'local_stop')['stopped'], 'it was told')


def test_frozen_holder(w):
    """A command freezes who holds it: it does not outlive a stop by that."""
    s = w.ready()
    path = os.path.join(w.dir, 'a')
    stream = w.run(s, 'sh', '-c', '(trap "" TERM; exec setsid sleep 200) & echo $! >>"$1"; echo $$ >>"$1"; '
                   'kill -STOP $PPID; echo ready >>"$1"; wait', 'sh', path)
    until(lambda: os.path.exists(path) and 'ready' in open(path).read(), 'it does not stand')
    pids = [int(x) for x in open(path).read().split() if x.isdigit()]
    order(s, 2)
    r = receipt(s, 2, stopped=True)
    check(dead(pids) and len(pids) == 2, pids)
    check(r['commands'][0]['command_id'] == 'cmd_%020d' % 1, r)
    check('holder_silent' in open(w.log).read(), 'it was not frozen')
    check(end_of(stream)['stopped'], 'its end')


def test_local_stop(w):
    s = w.ready()
    stream, pids = marked(w, s, DOUBLE, 'a')
    done = w.call('stop', '--state', w.state, '--reason', 'cleaning\nup')
    check(done.returncode == 0 and dead(pids), done)
    m = message(s, 'local_stop')
    check(m['stopped'] and m['reason'] == 'cleaning up', m)
    r = receipt(s, 0, local=True)
    check(not r['stopped'] and r['commands'][0]['count'] >= 2, r)
    check(end_of(stream)['stopped'], 'its end')
    no = w.run(s, 'true').expect(REFUSED)
    check(no['code'] == 'AGENT_STOPPED' and 'owner: cleaning up' in no['why'], no)
    done = w.call('status', '--state', w.state)
    check(done.returncode == 8 and 'by its owner' in done.stdout and 'cleaning up' in done.stdout, done)
    # No epoch lifts it, nor a restart.
    order(s, 4, False)
    check(receipt(s, 4, local=True)['stopped'] is False, 'lifted by an epoch')
    check(w.run(s, 'true').expect(REFUSED)['code'] == 'AGENT_STOPPED', 'lifted by an epoch')
    w.stop()
    done = w.call('status', '--state', w.state)
    check(done.returncode == 1 and 'STOP there forbids' in done.stderr, done)
    w.start()
    s = up(w)
    check(s.registration['muster']['stop']['local'], s.registration)
    m = message(s, 'local_stop')
    check(m['stopped'] and m['reason'] == 'cleaning up', m)
    receipt(s, 4, local=True)
    check(w.run(s, 'true').expect(REFUSED)['code'] == 'AGENT_STOPPED', 'lifted by a restart')
    done = w.call('resume', '--state', w.state)
    check(done.returncode == 0 and 'resumed' in done.stdout, done)
    check(message(s, 'local_stop')['stopped'] is False, 'it is told')
    check(w.run(s, 'echo', 'x').collect()[0] == b'x\n', 'not resumed')
    done = w.call('resume', '--state', w.state)
    check(done.returncode == 0 and 'no local stop' in done.stdout, done)
    # Of both kinds, the owner lifts only his own.
    order(s, 7)
    receipt(s, 7)
    check(w.call('stop', '--state', w.state).returncode == 0, 'both')
    done = w.call('resume', '--state', w.state)
    check(done.returncode == 8 and 'epoch 7' in done.stdout, done)


def test_touched_by_hand(w):
    s = w.ready()
    _, pids = marked(w, s, IGNORES, 'a')
    open(w.state + '/STOP', 'w').close()
    began = time.monotonic()
    until(lambda: dead(pids), 'STOP is not seen')
    check(time.monotonic() - began < 5, 'too late')
    check(message(s, 'local_stop')['reason'] == '', 'a reason')
    os.rename(w.state + '/STOP', w.state + '/GO')
    check(message(s, 'local_stop')['stopped'] is False, 'it is told')
    check(w.run(s, 'echo', 'x').collect()[0] == b'x\n', 'not resumed')
    # As an editor does it.
    os.rename(w.state + '/GO', w.state + '/STOP')
    check(message(s, 'local_stop')['stopped'], 'moved there')


def test_stop_without_an_agent(w):
    s = w.ready()
    _, pids = marked(w, s, TREE, 'a')
    w.stop(signal.SIGKILL)
    check(all(alive(p) for p in pids), 'holders outlive the agent')
    done = w.call('stop', '--state', w.state, '--reason', 'r')
    check(done.returncode == 0 and 'no agent runs' in done.stdout and '40 killed' in done.stdout, done)
    check(dead(pids), 'alive')
    w.start()
    s = up(w)
    check(receipt(s, 0, local=True)['commands'][0]['count'] == 40, 'from the record')


def test_disk_full(w):
    """The state file cannot be written: all dies, and no receipt lies."""
    s = w.ready()
    _, pids = marked(w, s, IGNORES, 'a')
    os.mkdir(w.link_dir() + '/stop.tmp')  # what is written aside cannot be
    order(s, 2)
    until(lambda: dead(pids), 'alive')
    until(lambda: 'stop_unsaved' in open(w.log).read(), 'not logged')
    check(w.run(s, 'true').expect(REFUSED)['code'] == 'AGENT_STOPPED', 'not refused')
    check(kept(w) is None, 'kept?')
    kinds = []
    while not s.texts.empty():
        kinds.append(s.texts.get()['type'])
    check('stop_receipt' not in kinds, kinds)
    os.rmdir(w.link_dir() + '/stop.tmp')
    receipt(s, 2, stopped=True)
    check(kept(w)['epoch'] == '2', 'kept')


def crash_at(w, point, act):
    """Let the agent die at a point that act leads to."""
    place = os.path.join(w.dir, 'at')
    with open(place + '.new', 'w') as f:
        f.write(point)
    os.rename(place + '.new', place)
    act()
    check(w.process.wait(timeout=test_agent.PATIENCE) == -signal.SIGKILL, point)
    check(not os.path.exists(place), point + ' was not reached')
    w.process = None


def test_crash_points(w):
    """Killed between any two steps of a stop: the table of the protocol."""
    agent = os.path.join(ROOT, 'build/crash/muster-agent')
    if not os.path.exists(agent):
        print('SKIP: no programs of VARIANT=crash')
        return
    test_agent.AGENT, usual = agent, test_agent.AGENT
    os.environ['MUSTER_CRASH'] = w.dir
    try:
        crash_points(w)
    finally:
        test_agent.AGENT = usual
        del os.environ['MUSTER_CRASH']


def crash_points(w):
    # point, and the epoch that the disk has afterwards
    rows = (('stop.halted', '0'), ('stop.unwritten', '0'), ('stop.written', None))
    s = w.ready()
    epoch, seen = 0, '0'
    for n, (point, found) in enumerate(rows):
        stream, pids = marked(w, s, SETSID, 'stop%d' % n)
        epoch += 2
        crash_at(w, point, lambda: order(s, epoch))
        # The holders were told before anything else.
        until(lambda: dead(pids), point + ': alive')
        want = str(epoch) if found is None else seen
        check((kept(w) or {'epoch': '0'})['epoch'] == want, (point, kept(w)))
        w.start()
        # What a controller says that knows the stop.
        s = up(w, {'epoch': epoch, 'stopped': True})
        check(str(s.registration['muster']['stop']['epoch']) == want, (point, s.registration))
        r = receipt(s, epoch, stopped=True)
        check(set(pids) & {p for c in r['commands'] for p in c['pids']}, (point, r, pids))
        check(w.run(s, 'true').expect(REFUSED)['code'] == 'AGENT_STOPPED', point)
        # And the same of its end.
        epoch += 1
        if point == 'stop.halted':
            order(s, epoch, False)
        else:
            crash_at(w, point, lambda: order(s, epoch, False))
            want = str(epoch if found is None else epoch - 1)
            check(kept(w)['epoch'] == want, (point, kept(w)))
            w.start()
            s = up(w, {'epoch': epoch, 'stopped': False})
        until(lambda: kept(w)['epoch'] == str(epoch), point + ': not resumed')
        until(lambda: w.run(s, 'true').next()[0] == STARTED, point + ': not resumed')
        seen = str(epoch)


TESTS = [f for name, f in sorted(globals().items()) if name.startswith('test_') and callable(f)]


def main():
    adopt()
    test_agent.TESTS[:] = TESTS
    return test_agent.main()


if __name__ == '__main__':
    sys.exit(main())
