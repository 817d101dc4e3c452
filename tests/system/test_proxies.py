#!/usr/bin/python3
"""The way out leads through a proxy: the agent and the CLI, end to end."""
# timeout: 240

import json
import os
import subprocess
import time

from harness import BUILD, Agent, check, equal, free_port, main, need, until
from proxies import HttpProxy, SocksProxy

NAME = "muster.test"  # RFC 6761: nobody resolves it but the proxy
AGENT = os.path.join(BUILD, "muster-agent")
USER = ("o p", "s:e@c/r%et")
USER_IN_URL = "o%20p:s%3Ae%40c%2Fr%25et"


def controller(t, tls=None):
    """A controller that is called by its name; (it, its URL there)."""
    need("musterd", "muster-agent", "muster-holder", "muster")
    port = free_port()
    scheme = "https" if tls else "http"
    url = "%s://%s:%d" % (scheme, NAME, port)
    d = t.musterd("--public-url", url, *(tls or ()), listen=("127.0.0.1:%d" % port,), ready=False)
    if tls:
        import ssl
        d.tls = ssl.create_default_context()
        d.tls.check_hostname, d.tls.verify_mode = False, ssl.CERT_NONE
    return d.wait_ready(), url


def proxy_of(t, kind, **more):
    p = kind(names={NAME: "127.0.0.1"}, **more)
    t.cleanup.callback(p.end)
    return p


def join(t, d, url, env, name="web-1", want=0, flags=()):
    state = os.path.join(t.dir, "agent-" + name)
    token = t.path("token-" + name, d.make_token("join-" + name))
    user = ("--exec-user", "root") if os.geteuid() == 0 else ()
    p = t.start("join", [AGENT, "join", url, "--token-file", token, "--name", name, "--state", state,
                         "--allow", "observe,exec", *user, *flags], env=env)
    equal(p.wait(), want, p.log())
    return state if want == 0 else p.log()


def status(state):
    p = subprocess.run([AGENT, "status", "--json", "--state", state], capture_output=True, timeout=20, check=False)
    return json.loads(p.stdout)["links"][0] if p.stdout else None


def works(t, d, url, proxy, env, name="web-1", flags=()):
    """Join, link, and a command with its output, all through the proxy."""
    a = Agent(t, join(t, d, url, env, name, flags=flags), env=env)
    d.agent_is(name, "online")
    port = int(url.rpartition(":")[2])
    equal(set(proxy.asked), {(NAME, port)}, "what the proxy was asked for")
    check(len(proxy.asked) >= 2, "not both joining and the link", proxy.asked)
    i = d.post("/api/v1/commands", {"agent": name, "argv": ["seq", "200000"]})["id"]
    equal(d.command_ends(i)["exit_code"], 0)
    equal(d.get("/api/v1/commands/%s/output" % i).body, b"".join(b"%d\n" % n for n in range(1, 200001)))
    return a


def back_again(d, proxy, name="web-1"):
    """The proxy loses its connections: the agent comes back through it."""
    before = len(proxy.asked)
    proxy.cut()
    until(lambda: len(proxy.asked) > before, "another try through the proxy")
    d.agent_is(name, "online")


def test_http(t):
    d, url = controller(t)
    p = proxy_of(t, HttpProxy)
    # Capitals are not believed for http, see dial.h.
    env = {"http_proxy": "http://127.0.0.1:%d" % p.port, "HTTP_PROXY": "http://127.0.0.1:1"}
    works(t, d, url, p, env)
    equal(set(p.proved), {None}, "no credentials where there are none")
    back_again(d, p)


def test_http_auth(t):
    d, url = controller(t, ("--tls-auto",))
    p = proxy_of(t, HttpProxy, user=USER)
    a = works(t, d, url, p, {"HTTPS_PROXY": "http://%s@127.0.0.1:%d" % (USER_IN_URL, p.port)})
    equal(set(p.proved), {USER})
    back_again(d, p)
    for secret in ("s:e@c/r%et", "s%3Ae%40c"):
        check(secret not in a.log() and secret not in d.log(), "the password is in a log")
    # Without, and with others: said as what it is.
    for user in ("", "o:wrong@"):
        env = {"https_proxy": "http://%s127.0.0.1:%d" % (user, p.port)}
        check("407" in join(t, d, url, env, "web-2", want=1), "a refusal of the proxy is not named")


def test_http_refuses(t):
    d, url = controller(t)
    p = proxy_of(t, HttpProxy)
    env = {"all_proxy": "127.0.0.1:%d" % p.port}
    state = join(t, d, url, env)
    p.refuse = "403 Forbidden"
    a = Agent(t, state, env=env)
    st = until(lambda: (lambda s: s if s and s["why"] else None)(status(state)), "why not")
    check("proxy" in st["why"] and "403" in st["why"], st)
    # The proxy's no is not the controller's: it is tried again soon.
    equal((st["connected"], st["refused"]), (False, False), st)
    p.refuse = None
    d.agent_is("web-1", "online")
    equal(a.stop(), 0)


def test_http_hangs(t):
    """A proxy that answers nothing holds nobody for ever."""
    d, url = controller(t)
    p = proxy_of(t, HttpProxy)
    env = {"http_proxy": "http://127.0.0.1:%d" % p.port}
    state = join(t, d, url, env)
    p.hang.clear()
    a = Agent(t, state, env=env)
    begun = time.monotonic()
    st = until(lambda: (lambda s: s if s and s["why"] else None)(status(state)), "why not", limit=45)
    took = time.monotonic() - begun
    check(25 < took < 40, "waited for", took)
    check("proxy" in st["why"] or "no answer" in st["why"], st)
    # Ending does not wait for it.
    until(lambda: status(state)["state"] == "connecting", "the next try")
    begun = time.monotonic()
    equal(a.stop(), 0)
    check(time.monotonic() - begun < 5, "SIGTERM waited for the proxy")
    p.hang.set()
    Agent(t, state, env=env)
    d.agent_is("web-1", "online")


def test_socks(t):
    d, url = controller(t)
    p = proxy_of(t, SocksProxy)
    works(t, d, url, p, {"http_proxy": "socks5h://127.0.0.1:%d" % p.port})
    back_again(d, p)
    # An address stays one, and NO_PROXY takes it off the proxy's hands.
    before = list(p.asked)
    plain = "http://127.0.0.1:%d" % d.port
    env = {"ALL_PROXY": "socks5://127.0.0.1:%d" % p.port}
    join(t, d, plain, env, "web-2")
    equal(p.asked[len(before):], [("127.0.0.1", d.port)])
    join(t, d, plain, dict(env, NO_PROXY="example.com,127.0.0.0/8"), "web-3")
    equal(len(p.asked), len(before) + 1, "NO_PROXY")


def test_socks_auth(t):
    d, url = controller(t, ("--tls-auto",))
    p = proxy_of(t, SocksProxy, user=USER)
    works(t, d, url, p, {"https_proxy": "socks5://%s@127.0.0.1:%d" % (USER_IN_URL, p.port)})
    equal(set(p.proved), {USER})
    for user in ("", "o:wrong@"):
        env = {"https_proxy": "socks5://%s127.0.0.1:%d" % (user, p.port)}
        check("proxy" in join(t, d, url, env, "web-2", want=1), "a refusal of the proxy is not named")
    p.refuse = 5
    env = {"https_proxy": "socks5://%s@127.0.0.1:%d" % (USER_IN_URL, p.port)}
    check("refused" in join(t, d, url, env, "web-2", want=1).lower(), "the proxy's reply is not named")


def test_cli(t):
    """REST and an attached command, TLS inside the tunnel."""
    cert, key = t.path("c.crt"), t.path("c.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=" + NAME, "-keyout", key, "-out", cert,
                    "-addext", "subjectAltName=DNS:" + NAME], check=True, capture_output=True)
    d, url = controller(t, ("--tls-cert", cert, "--tls-key", key))
    for kind, scheme in ((HttpProxy, "http"), (SocksProxy, "socks5h")):
        p = proxy_of(t, kind, user=USER)
        env = {"https_proxy": "%s://%s@127.0.0.1:%d" % (scheme, USER_IN_URL, p.port),
               "MUSTER_URL": url, "MUSTER_CA_FILE": cert}
        name = "web-" + scheme
        a = works(t, d, url, p, env, name, flags=("--ca-file", cert))
        before = len(p.asked)
        e = t.cli(d, "exec", name, "--", "sh", "-c", "cat; exit 7", input=b"through", env=env)
        equal((e.code, e.out), (7, b"through"), e)
        e = t.cli(d, "agent", "ls", env=env, code=0)
        check(name.encode() in e.out, e)
        equal(len(p.asked), before + 2, "a connection past the proxy")
        equal(a.stop(), 0)


if __name__ == "__main__":
    main(globals())
