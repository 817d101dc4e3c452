#!/usr/bin/python3
"""TLS: a certificate of one's own, --tls-auto and the pin, reload."""

import glob
import hashlib
import os
import signal
import socket
import ssl
import subprocess

from harness import BUILD, Agent, check, equal, main, need, until

AGENT = os.path.join(BUILD, "muster-agent")


def certificate(t, name, days=10):
    """A new P-256 certificate for 127.0.0.1: paths of it and its key."""
    cert, key = t.path(name + ".crt"), t.path(name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", str(days), "-subj", "/CN=" + name, "-keyout", key, "-out", cert,
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
                   check=True, capture_output=True)
    return cert, key


def trust(*files):
    c = ssl.create_default_context()
    for f in files:
        c.load_verify_locations(f)
    return c


def anything():
    c = ssl.create_default_context()
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def presented(d):
    """The certificate that is shown now, DER."""
    with socket.create_connection(("127.0.0.1", d.port), 10) as s:
        with anything().wrap_socket(s) as tls:
            return tls.getpeercert(True)


def der(file):
    return ssl.PEM_cert_to_DER_cert(open(file).read())


def key_pin(cert_der):
    pub = subprocess.run(["openssl", "x509", "-inform", "DER", "-pubkey", "-noout"], input=cert_der,
                         capture_output=True, check=True).stdout
    spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pub,
                          capture_output=True, check=True).stdout
    return hashlib.sha256(spki).hexdigest()


def secure(t, d, tls):
    d.tls = tls
    return d.wait_ready()


def test_certificate(t):
    cert, key = certificate(t, "one")
    d = secure(t, t.musterd("--tls-cert", cert, "--tls-key", key, ready=False), trust(cert))
    equal(d.get("/health").status, 200)
    s = d.connect()
    check(s.version() in ("TLSv1.2", "TLSv1.3"), s.version())
    s.close()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        c = trust(cert)
        c.minimum_version = c.maximum_version = version
        with socket.create_connection(("127.0.0.1", d.port), 10) as raw:
            with c.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                equal(tls.version(), version.name.replace("_", "."))
    old = anything()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", d.port), 10) as raw:
        try:
            old.wrap_socket(raw)
            check(False, "TLS 1.1 was accepted")
        except (ssl.SSLError, ConnectionResetError):
            pass
    # Plain HTTP to a TLS port, and rubbish.
    with socket.create_connection(("127.0.0.1", d.port), 10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        raw.settimeout(15)
        got = raw.recv(100)
        check(not got.startswith(b"HTTP/1.1 2"), got)
    equal(d.get("/health").status, 200)


def test_bad_pairs_are_refused(t):
    one, two = certificate(t, "one"), certificate(t, "two")
    for cert, key in ((one[0], two[1]), (one[0], t.path("none")), (t.path("junk", "junk"), one[1])):
        p = t.musterd("--tls-cert", cert, "--tls-key", key, ready=False)
        check(p.wait(20) != 0, "started with", cert, key)
        check(p.log().strip(), "says nothing")
    p = t.musterd("--tls-cert", one[0], ready=False)
    check(p.wait(20) != 0, "a certificate without a key")


def test_reload(t):
    cert, key = certificate(t, "live")
    d = secure(t, t.musterd("--tls-cert", cert, "--tls-key", key, ready=False), anything())
    first = presented(d)
    s = d.connect()  # stays over both reloads
    new_cert, new_key = certificate(t, "next")
    os.rename(new_cert, cert)
    os.rename(new_key, key)
    d.signal(signal.SIGHUP)
    until(lambda: presented(d) != first, "the new certificate is shown")
    second = presented(d)
    equal(second, der(cert))
    # A broken pair keeps the old, and says so.
    with open(key, "w") as f:
        f.write("broken")
    before = len(d.log())
    d.signal(signal.SIGHUP)
    until(lambda: "tls" in d.log()[before:], "a line about it")
    equal(presented(d), second)
    s.sendall(("GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n"
               % d.port).encode())
    check(s.recv(100).startswith(b"HTTP/1.1 200"), "the connection from before")
    s.close()


def test_auto(t):
    d = secure(t, t.musterd("--tls-auto", ready=False), anything())
    shown = presented(d)
    token = d.make_token("j")
    check(".sha256-" in token, "the pin is in the token", token[:10])
    equal(token.split(".sha256-")[1], key_pin(shown))
    for f in glob.glob(d.data + "/**/*.key", recursive=True):
        equal(os.stat(f).st_mode & 0o77, 0, f)
    equal(d.stop(), 0)
    d = secure(t, t.musterd("--tls-auto", data=d.data, ready=False), anything())
    equal(key_pin(presented(d)), token.split(".sha256-")[1], "the key stays")


def test_join_by_pin(t):
    need("muster-agent")
    d = secure(t, t.musterd("--tls-auto", ready=False), anything())
    t.agent(d, "pinned")
    shown = d.agent("pinned")
    check(shown["native"], shown)
    # The wrong pin: another controller on that address.
    token = d.make_token("w")
    wrong = token.split(".sha256-")[0] + ".sha256-" + "0" * 64
    state = t.path("wrong-state")
    p = t.start("join", [AGENT, "join", d.url, "--token-file", t.path("wrong", wrong),
                         "--name", "wrong", "--state", state])
    check(p.wait(30) != 0, "joined past a wrong pin")
    equal(d.agent("wrong"), None)
    # No pin, and a CA that nobody knows.
    bare = token.split(".sha256-")[0]
    p = t.start("join", [AGENT, "join", d.url, "--token-file", t.path("bare", bare),
                         "--name", "bare", "--state", t.path("bare-state")])
    check(p.wait(30) != 0, "joined a stranger")
    equal(d.agent("bare"), None)


def test_join_by_ca_file(t):
    need("muster-agent")
    cert, key = certificate(t, "ca")
    d = secure(t, t.musterd("--tls-cert", cert, "--tls-key", key, ready=False), trust(cert))
    state = t.path("state")
    token = d.make_token("c").split(".sha256-")[0]
    words = [AGENT, "join", d.url, "--token-file", t.path("tok", token), "--name", "by-ca",
             "--state", state]
    p = t.start("join", words + ["--ca-file", cert])
    if p.wait(30) == 2:  # the flag has another name: by the environment
        p = t.start("join", words, env={"SSL_CERT_FILE": cert})
        p.wait(30)
    equal(p.process.returncode, 0, p.log())
    Agent(t, state)
    d.agent_is("by-ca", "online", "busy")


main(globals())
