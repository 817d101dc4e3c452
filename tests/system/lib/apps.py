"""People in Chromium (node/browser.js), services for them, and a controller
with routes between the two."""

import http.server
import json
import os
import shutil
import threading

from harness import ROOT, Skip, check, equal, until

NODE = os.path.join(ROOT, "tests/system/node")


def modules():
    """Where npm packages are: NODE_PATH."""
    at = os.path.join(ROOT, "build/node/node_modules")
    if not shutil.which("node") or not os.path.isdir(at + "/playwright-core"):
        raise Skip("no npm packages in %s: tools/setup test" % at)
    return at


def node(t, name, *words, **more):
    return t.start(name[:-3], ["node", os.path.join(NODE, name), *words],
                   env={"NODE_PATH": modules()}, **more)


def chromium(t, scenario, *words, limit=240):
    """A scenario of browser.js; what it saw."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise Skip("no chromium")
    p = node(t, "browser.js", browser, scenario, *words)
    code = p.wait(limit)
    check(code == 0, "the browser's scenario failed:", p.log()[-3000:])
    r = json.loads(p.out().splitlines()[-1])
    if "skip" in r:
        raise Skip("chromium does not start here: " + r["skip"])
    return r


def world(t, port, *hosts, **options):
    """A controller and an agent, with routes to a service of this machine."""
    d = t.musterd()
    a = t.agent(d, allow="observe,tunnel", flags=("--allow-target", "127.0.0.1:%d" % port))
    d.routes = []
    for host in hosts:
        r = d.post("/api/v1/routes", dict({"host": host, "agent": "web-1", "public": True,
                                           "to": {"host": "127.0.0.1", "port": port}}, **options))
        equal(r.status, 201, r)
        d.routes.append(r["id"])
    return d, a


def url(d, host, path="/"):
    return "http://%s:%d%s" % (host, d.port, path)


def first_line(p):
    until(lambda: p.out().endswith(b"\n") or not p.running(), "%s begins" % p.name)
    check(p.running(), p.log())
    return json.loads(p.out().splitlines()[0])


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Kept connections end when the programs do."""


def serve(t, handler, **more):
    s = Server(("127.0.0.1", 0), handler)
    s.daemon_threads = True
    for name, value in more.items():
        setattr(s, name, value)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    t.cleanup.callback(s.server_close)
    t.cleanup.callback(s.shutdown)
    return s
