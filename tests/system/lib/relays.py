"""A relay before a listener, for tests that break links (tests/system/relay.c)."""

import json
import os
import socket

from harness import BUILD, until


class Relay:
    def __init__(self, case, port, *options):
        self.path = case.path("relay%d" % len(case.programs))
        self.program = case.start("relay", [
            os.path.join(BUILD, "helpers", "relay"), "127.0.0.1:0", "127.0.0.1:%d" % port,
            "--control", self.path, *options])
        self.port = int(until(self.ready, "a relay").split()[1])
        self.control = socket.socket(socket.AF_UNIX)
        self.control.connect(self.path)
        self.answers = self.control.makefile()

    def ready(self):
        out = self.program.out()
        return out.decode() if out.endswith(b"\n") else None

    def tell(self, line):
        """A command of relay.c; its answer."""
        self.control.sendall(line.encode() + b"\n")
        return self.answers.readline().strip()

    def stats(self):
        return json.loads(self.tell("stats"))

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port
