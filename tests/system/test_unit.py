#!/usr/bin/python3
"""test_unit: packaging/muster-agent.service under a real systemd.

A systemd of its own runs in namespaces for processes, mounts and cgroups,
below a cgroup made for it, so that nothing of the host is touched.  Where
that cannot be (no root, no writable cgroup v2, no systemd) the unit file is
checked and what it asks of systemd is done by hand."""
# timeout: 180

import configparser
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_agent  # noqa: E402
from test_agent import EXIT, ROOT, STARTED, STDOUT, check, until  # noqa: E402
from test_stop import order, receipt, up  # noqa: E402
from harness import adopt  # noqa: E402

UNIT = os.path.join(ROOT, 'packaging/muster-agent.service')
SYSTEMD = '/lib/systemd/systemd'
# Nothing else of the host's units is started.
TARGET = '[Unit]\nDescription=nothing but what is tested\nDefaultDependencies=no\n'
DROP_IN = '''[Unit]
ConditionPathExists=
DefaultDependencies=no
[Service]
ExecStart=
ExecStart=%s run --state %s
StateDirectory=
StandardError=append:%s
'''
ENTER = '''set -e
mount --make-rprivate /
mount -t proc proc /proc
umount -l /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system/muster-agent.service.d /run/lock
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cp "$1/test.target" "$1/muster-agent.service" /run/systemd/system/
cp "$1/here.conf" /run/systemd/system/muster-agent.service.d/
export container=test
exec %s --system --unit=test.target --log-target=console --show-status=no
''' % SYSTEMD
# Numbered lines until the file $1 is there, whoever may be away meanwhile.
LINES = 'trap "" TERM HUP; i=0; until [ -e "$1" ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 7'


def cgroups():
    """A directory of cgroup v2 that can be written; None."""
    with open('/proc/mounts') as f:
        for line in f:
            word = line.split()
            if word[2] == 'cgroup2' and os.access(word[1], os.W_OK):
                return word[1]
    return None


class Systemd:
    def __init__(self, w, agent):
        self.w = w
        self.group = os.path.join(cgroups(), 'muster-test-%d' % os.getpid())
        for name, text in (('test.target', TARGET), ('muster-agent.service', open(UNIT).read()),
                           ('here.conf', DROP_IN % (agent, w.state, w.log))):
            with open(os.path.join(w.dir, name), 'w') as f:
                f.write(text)
        os.mkdir(self.group)
        self.log = open(os.path.join(w.dir, 'systemd'), 'wb')
        self.process = subprocess.Popen(
            ['unshare', '--pid', '--fork', '--kill-child', '--mount', '--cgroup', '--ipc', '--uts',
             'sh', '-c', ENTER, 'sh', w.dir], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
            preexec_fn=lambda: open(self.group + '/cgroup.procs', 'w').write('0'))
        until(lambda: self.process.poll() is not None or self.child(), 'unshare')
        self.pid = self.child()
        self.ok = False
        if self.pid:
            until(lambda: self.process.poll() is not None or
                  self.call('is-system-running').stdout.strip() in ('running', 'degraded'), 'systemd is not up')
            self.ok = self.process.poll() is None

    def child(self):
        try:
            with open('/proc/%d/task/%d/children' % (self.process.pid, self.process.pid)) as f:
                return int((f.read().split() or ['0'])[0])
        except OSError:
            return 0

    def inside(self, *argv):
        return subprocess.run(['nsenter', '-t', str(self.pid), '-m', '-p', '-C', '-i', '-u', *argv], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)

    def call(self, *words):
        return self.inside('systemctl', *words)

    def do(self, *words):
        done = self.call(*words)
        check(done.returncode == 0, (words, done.stdout))

    def show(self, name):
        return self.call('show', '--value', '-p', name, 'muster-agent').stdout.strip()

    def service(self):
        return os.path.join(self.group, 'system.slice/muster-agent.service')

    def procs(self, path=''):
        """Of the service, by the host's numbers, all groups below included."""
        found = set()
        for where, _, names in os.walk(os.path.join(self.service(), path)):
            if 'cgroup.procs' in names:
                try:
                    found |= {int(x) for x in open(os.path.join(where, 'cgroup.procs')).read().split()}
                except OSError:
                    pass
        return found

    def end(self):
        if self.pid and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.log.close()
        until(lambda: not self.remove(), 'its cgroups stay')

    def remove(self):
        for where, dirs, _ in os.walk(self.group, topdown=False):
            for d in dirs:
                try:
                    os.rmdir(os.path.join(where, d))
                except OSError:
                    pass
        try:
            os.rmdir(self.group)
        except FileNotFoundError:
            pass
        except OSError:
            return True
        return False


def install(w):
    """Copies of the programs that can be replaced, as a package does it."""
    programs = os.path.join(w.dir, 'bin')
    os.makedirs(programs, exist_ok=True)
    for name in ('muster-agent', 'muster-holder'):
        path = os.path.join(programs, name)
        shutil.copy(os.path.join(os.path.dirname(test_agent.AGENT), name), path + '.new')
        os.rename(path + '.new', path)
    return os.path.join(programs, 'muster-agent')


class Numbers:
    """What a command of LINES writes, across links."""

    def __init__(self, w, s):
        self.w = w
        self.go = os.path.join(w.dir, 'go')
        self.order = w.command('sh', '-c', LINES, 'sh', self.go)
        self.out = b''
        self.stream = s.open(self.order)
        self.stream.expect(STARTED)
        self.more()

    def more(self):
        """Until it has written more."""
        want = len(self.out) + 20
        while len(self.out) < want:
            self.take()

    def take(self):
        kind, payload = self.stream.next()
        check(kind in (STARTED, STDOUT, EXIT), (kind, payload))
        if kind == STDOUT:
            check(struct.unpack('>Q', payload[:8])[0] == len(self.out), 'a hole')
            self.out += payload[8:]
        return json.loads(payload) if kind == EXIT else None

    def again(self, s):
        held = s.registration['muster']['resume']['commands']
        check(held == [{'id': self.order['id'], 'state': 'running'}], held)
        self.stream = s.open(dict(self.order, again=True, out=len(self.out)))
        self.more()

    def end(self):
        open(self.go, 'w').close()
        end = None
        while end is None:
            end = self.take()
        lines = self.out.decode().split()
        check(lines == [str(i) for i in range(len(lines))], 'a line is missing')
        return end


# The tests -------------------------------------------------------------------


def test_file(w):
    """What holders need to outlive their agent, whatever else is in there."""
    c = configparser.ConfigParser(strict=False, interpolation=None)
    c.optionxform = str
    c.read(UNIT)
    service = dict(c['Service'])
    check(service['KillMode'] == 'process' and service['Delegate'] == 'yes', service)
    # What would kill or hinder them all the same.
    check(service.get('RemainAfterExit', 'no') == 'no' and 'RuntimeMaxSec' not in service and
          service.get('SendSIGKILL', 'yes') == 'yes' and service['OOMPolicy'] == 'continue', service)
    for key in ('NoNewPrivileges', 'PrivateTmp', 'ProtectSystem', 'SystemCallFilter', 'PrivatePIDs'):
        check(key not in service, key)
    if shutil.which('systemd-analyze'):
        path = os.path.join(w.dir, 'muster-agent.service')
        with open(path, 'w') as f:
            f.write(re.sub('^ExecStart=.*$', 'ExecStart=%s run' % test_agent.AGENT, open(UNIT).read(), flags=re.M))
        done = subprocess.run(['systemd-analyze', 'verify', '--man=no', path], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        wrong = [x for x in done.stdout.splitlines() if 'muster-agent.service' in x]
        check(done.returncode == 0 and not wrong, done.stdout)


def test_by_hand(w):
    """TERM and KILL of the main process alone, then the next program: what
    KillMode=process means."""
    agent = install(w)
    test_agent.AGENT, usual = agent, test_agent.AGENT
    try:
        s = w.ready()
        n = Numbers(w, s)
        for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            w.stop(how)
            before = os.stat(agent).st_ino
            install(w)
            check(os.stat(agent).st_ino != before, 'not another file')
            w.start()
            check(os.stat('/proc/%d/exe' % w.process.pid).st_ino == os.stat(agent).st_ino, 'the old program')
            n.again(w.up())
        check(n.end()['exit_code'] == 7, 'its exit')
    finally:
        test_agent.AGENT = usual


def test_real(w):
    why = ('not root' if os.getuid() else 'no systemd' if not os.path.exists(SYSTEMD) else
           'no writable cgroup v2' if not cgroups() else None)
    if why is None:
        check(w.join('--allow', 'exec').returncode == 0, 'join')
        agent = install(w)
        d = Systemd(w, agent)
        try:
            if d.ok:
                real(w, d, agent)
            else:
                why = 'systemd does not start in namespaces here'
        finally:
            d.end()
    if why:
        print('SKIP: %s: the unit was not run by systemd' % why)


def cgroup_of(w, ident):
    at = os.stat(w.link_dir() + '/cmd')
    return 'muster-%x.%x-%s' % (at.st_dev, at.st_ino, ident)


def real(w, d, agent):
    d.do('start', 'muster-agent')
    s = w.up()
    n = Numbers(w, s)
    first = d.show('MainPID')
    group = cgroup_of(w, n.order['id'])
    its = d.procs(group)
    check(its, 'the command has no cgroup of its own')
    # A restart, then an upgrade, then a crash.
    d.do('restart', 'muster-agent')
    n.again(w.up())
    check(d.show('MainPID') != first, 'the same agent')
    install(w)
    d.do('restart', 'muster-agent')
    n.again(w.up())
    main = d.show('MainPID')
    exe = d.inside('stat', '-L', '-c', '%i', '/proc/%s/exe' % main).stdout.strip()
    check(exe == str(os.stat(agent).st_ino), 'not the new program: %s' % exe)
    d.do('kill', '--signal=KILL', '--kill-who=main', 'muster-agent')
    n.again(w.up())
    check(d.show('MainPID') not in (first, main), 'not restarted')
    check(its & d.procs(group), 'another process')
    check(n.end()['exit_code'] == 7, 'its exit')
    n.stream.finish()
    until(lambda: not d.procs(group) and not os.path.exists(os.path.join(d.service(), group)), 'its cgroup stays')
    # Stopped for good, a command lives on, and the owner's stop finds it.
    d.do('restart', 'muster-agent')
    s = w.up()
    os.unlink(n.go)
    n = Numbers(w, s)
    d.do('stop', 'muster-agent')
    check(d.procs(cgroup_of(w, n.order['id'])), 'systemd has killed it')
    done = d.inside(agent, 'stop', '--state', w.state)
    check(done.returncode == 0 and not d.procs(), (done.stdout, d.procs()))
    # And a stop kills by cgroup.
    d.inside(agent, 'resume', '--state', w.state)
    d.do('start', 'muster-agent')
    s = up(w)
    stream = w.run(s, 'sh', '-c', 'trap "" TERM; for i in 1 2 3 4 5; do setsid sleep 200 & done; echo x; wait')
    stream.expect(STARTED)
    while stream.next()[0] != STDOUT:
        pass
    order(s, 2)
    r = receipt(s, 2, stopped=True)
    check([c['count'] for c in r['commands'] if c['command_id'] == 'cmd_%020d' % w.seq] == [6], r)
    check(not d.procs(cgroup_of(w, 'cmd_%020d' % w.seq)), 'alive')


TESTS = [f for name, f in sorted(globals().items()) if name.startswith('test_') and callable(f)]


def main():
    adopt()
    test_agent.TESTS[:] = TESTS
    return test_agent.main()


if __name__ == '__main__':
    sys.exit(main())
