#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"

#include "io/dial.h"
#include "io/dial_hop.h"
#include "io/listen.h"
#include "io/tls.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/streams.h"
#include "support/unit.h"

/* The talk with proxies ------------------------------------------------------
 */

static struct dial_proxy
proxy_of(const char *url)
{
	struct dial_proxy p;

	assert_int_equal(dial_proxy_parse(slice_from(url), &p), 0);
	return p;
}

/* Whole, and byte by byte: what is behind the last word stays. */
static void
check_hop(const char *url, const char *host, struct slice first,
    struct slice in, struct slice later, int result, const char *why)
{
	struct dial_proxy p = proxy_of(url);

	for (size_t step = 1; step <= in.len; step += in.len - 1) {
		struct hop h;
		size_t at = 0, used;
		int got = 0;
		assert_int_equal(hop_init(&h, &p, host, 443), 0);
		assert_slice(((struct slice){ h.out, h.out_len }), first);
		h.out_len = 0;
		while (got == 0 && at < in.len) {
			struct slice g = guard_copy(
			    slice_first(slice_from_at(in, at), step));
			got = hop_feed(&h, g, &used);
			assert_true(used > 0 && used <= g.len);
			at += used;
			guard_free(g);
		}
		assert_int_equal(got, result);
		assert_slice(((struct slice){ h.out, h.out_len }), later);
		if (got > 0)
			assert_slice(slice_from_at(in, at), SL("behind"));
		if (got < 0)
			assert_string_equal(h.why, why);
		if (in.len <= 1)
			break;
	}
}

#define GO "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"

static void
test_hop_http(void **state)
{
	static const struct {
		struct slice in;
		int result;
		const char *why;
	} cases[] = {
		{ SL_INIT("HTTP/1.1 200 OK\r\n\r\nbehind"), 1, "" },
		{ SL_INIT("HTTP/1.0 200\r\nA: b\r\nC: \r\n\r\nbehind"), 1, "" },
		{ SL_INIT("HTTP/1.1 204 x\n\nbehind"), 1, "" },
		{ SL_INIT("HTTP/1.1 407 Login\r\nA: b\r\n\r\n"), ERR_DENIED,
		    "407 Login" },
		{ SL_INIT("HTTP/1.1 502 Bad\x1b[31m\r\n\r\n"), ERR_REFUSED,
		    "502 Bad" },
		{ SL_INIT("SSH-2.0-x\r\n\r\n"), ERR_PROTOCOL,
		    "its answer is not HTTP" },
		{ SL_INIT("HTTP/1.1 2x0 OK\r\n\r\n"), ERR_PROTOCOL,
		    "its answer is not HTTP" },
	};
	struct dial_proxy p = proxy_of("http://x");
	struct hop h;
	size_t used;
	int got = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_hop("http://proxy", "a.test", SL(GO), cases[i].in, SL(""),
		    cases[i].result, cases[i].why);
	check_hop("http://us%3Aer:p%40ss@proxy", "::1",
	    SL("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"
	       "Proxy-Authorization: Basic dXM6ZXI6cEBzcw==\r\n\r\n"),
	    SL("HTTP/1.1 200 OK\r\n\r\nbehind"), SL(""), 1, "");
	/* An answer without end. */
	assert_int_equal(hop_init(&h, &p, "a", 1), 0);
	for (int i = 0; i < HOP_HEAD + 1 && got == 0; i++)
		got = hop_feed(&h, SL("x"), &used);
	assert_int_equal(got, ERR_TOO_BIG);
}

static void
test_hop_socks(void **state)
{
	static const struct {
		struct slice in;
		int result;
		const char *why;
	} cases[] = {
		{ SL_INIT("\5\0\5\0\0\1\1\2\3\4\0\7behind"), 1, "" },
		{ SL_INIT("\5\0\5\0\0\3\3abc\0\7behind"), 1, "" },
		{ SL_INIT("\5\0\5\0\0\3\0\0\7behind"), 1, "" },
		{ SL_INIT("\5\0\5\0\0\4"
			  "0123456789abcdef\0\7behind"),
		    1, "" },
		{ SL_INIT("\5\0\5\5\0\1\0\0\0\0\0\0"), ERR_REFUSED,
		    "connection refused" },
		{ SL_INIT("\5\0\5\2\0\1\0"), ERR_DENIED,
		    "not allowed by its rules" },
		{ SL_INIT("\5\0\5\4\0\1\0"), ERR_UNREACHABLE,
		    "host unreachable" },
		{ SL_INIT("\5\0\5\x63\0\1\0"), ERR_REFUSED, "refused" },
		{ SL_INIT("\5\0\5\0\0\2\0"), ERR_PROTOCOL,
		    "it does not speak SOCKS5" },
		{ SL_INIT("\5\0\4\0\0\1\0"), ERR_PROTOCOL,
		    "it does not speak SOCKS5" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_hop("socks5://p", "a.test", SL("\5\1\0"), cases[i].in,
		    SL("\5\1\0\3\6a.test\1\xbb"), cases[i].result,
		    cases[i].why);
	check_hop("socks5://p", "a", SL("\5\1\0"), SL("HTTP/1.1 400"), SL(""),
	    ERR_PROTOCOL, "it does not speak SOCKS5");
	check_hop("socks5://p", "a", SL("\5\1\0"), SL("\5\xff"), SL(""),
	    ERR_DENIED, "it wants credentials");
	check_hop("socks5h://u:pw@p", "1.2.3.4", SL("\5\2\0\2"),
	    SL("\5\2\1\0\5\0\0\1\0\0\0\0\0\0behind"),
	    SL("\1\1u\2pw\5\1\0\1\1\2\3\4\1\xbb"), 1, "");
	check_hop("socks5://u:pw@p", "a", SL("\5\2\0\2"), SL("\5\2\1\1"),
	    SL("\1\1u\2pw"), ERR_DENIED, "wrong user or password");
}

/* Where the proxy is ---------------------------------------------------------
 */

static void
test_proxy_parse(void **state)
{
	static const char *const bad[] = { "", "http://", "http://:80", "p:0",
		"p:65536", "p:x", "http://[::1", "http://[::1]x",
		"http://u%0a@p", "http://u%00@p", "http://u%g1@p",
		"http://u%@p" };
	struct dial_proxy p;

	(void)state;
	p = proxy_of("http://proxy.test:3128/");
	assert_int_equal(p.kind, DIAL_HTTP);
	assert_int_equal(p.port, 3128);
	assert_string_equal(p.host, "proxy.test");
	p = proxy_of("proxy.test");
	assert_int_equal(p.port, 80);
	p = proxy_of("SOCKS5H://u%20x:@[::1]");
	assert_int_equal(p.kind, DIAL_SOCKS5);
	assert_int_equal(p.port, 1080);
	assert_string_equal(p.host, "::1");
	assert_string_equal(p.user, "u x");
	assert_string_equal(p.password, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    dial_proxy_parse(slice_from(bad[i]), &p), ERR_INVALID);
	assert_int_equal(
	    dial_proxy_parse(SL("https://p"), &p), ERR_UNSUPPORTED);
	assert_int_equal(
	    dial_proxy_parse(SL("socks4://p"), &p), ERR_UNSUPPORTED);
}

static void
test_exempt(void **state)
{
	static const struct {
		const char *list, *host;
		bool exempt;
	} cases[] = {
		{ "", "a.test", false },
		{ "*", "a.test", true },
		{ "b.test, a.test", "A.test", true },
		{ "test", "a.test", true },
		{ ".test", "a.test", true },
		{ "*.test", "a.test", true },
		{ ".test", "test", true },
		{ "est", "a.test", false },
		{ "a.test:443", "a.test", true },
		{ "a.test:80", "a.test", false },
		{ "10.0.0.0/8", "10.255.1.1", true },
		{ "10.0.0.0/9", "10.128.1.1", false },
		{ "0.0.0.0/0", "1.2.3.4", true },
		{ "10.1.2.3", "10.1.2.3", true },
		{ "10.1.2.3/33", "10.1.2.3", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		{ "[::1]:443", "::1", true },
		{ "::1", "::1", true },
		{ "3.4", "1.2.3.4", false },
		{ "[::1,a.test", "a.test", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool got = dial_proxy_exempt(
		    slice_from(cases[i].list), cases[i].host, 443);
		if (got != cases[i].exempt)
			fail_msg("%s for %s", cases[i].list, cases[i].host);
	}
}

static void
test_env(void **state)
{
	static const char *const names[] = { "http_proxy", "HTTP_PROXY",
		"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
		"no_proxy", "NO_PROXY" };
	struct dial_proxy p;

	(void)state;
	for (size_t i = 0; i < 8; i++)
		unsetenv(names[i]);
	assert_int_equal(dial_proxy_from_env("a.test", 443, true, &p), 0);
	assert_int_equal(p.kind, DIAL_DIRECT);
	setenv("HTTP_PROXY", "http://capital", 1);
	assert_int_equal(dial_proxy_from_env("a.test", 80, false, &p), 0);
	assert_int_equal(p.kind, DIAL_DIRECT);
	setenv("ALL_PROXY", "socks5://all", 1);
	assert_int_equal(dial_proxy_from_env("a.test", 80, false, &p), 0);
	assert_string_equal(p.host, "all");
	setenv("HTTPS_PROXY", "upper", 1);
	setenv("https_proxy", "lower", 1);
	assert_int_equal(dial_proxy_from_env("a.test", 443, true, &p), 0);
	assert_string_equal(p.host, "lower");
	setenv("NO_PROXY", "test", 1);
	assert_int_equal(dial_proxy_from_env("a.test", 443, true, &p), 0);
	assert_int_equal(p.kind, DIAL_DIRECT);
	setenv("https_proxy", "ftp://x", 1);
	assert_int_equal(
	    dial_proxy_from_env("b", 443, true, &p), ERR_UNSUPPORTED);
	for (size_t i = 0; i < 8; i++)
		unsetenv(names[i]);
}

/* Real sockets ----------------------------------------------------------------
 */

struct world {
	struct loop loop;
	struct listener *listener;
	struct probe server; /* the newest connection accepted */
	size_t visits;
	struct probe client;
	struct dial *dial;
	bool done;
	int err;
	char why[DIAL_WHY];
	uint16_t port;
	void (*script)(struct probe *p); /* what the server does on read */
};

static void
on_accept(void *owner, struct stream *s)
{
	struct world *w = owner;

	if (w->visits++ > 0) {
		stream_abort(s, false);
		return;
	}
	w->server.on_read = w->script;
	w->server.echo = w->script == NULL;
	probe_start(&w->server, s);
}

static void
on_done(void *owner, struct stream *s, int err, const char *why)
{
	struct world *w = owner;

	assert_false(w->done);
	w->done = true;
	w->err = err;
	snprintf(w->why, sizeof(w->why), "%s", why);
	assert_true((s != NULL) == (err == 0));
	if (s != NULL)
		probe_start(&w->client, s);
}

static void
world_open(struct world *w, struct tls_server *tls)
{
	struct listen_config c = { .tls = tls };
	char why[LISTEN_WHY];

	memset(w, 0, sizeof(*w));
	assert_int_equal(loop_init(&w->loop, 100), 0);
	assert_int_equal(addr_parse(SL("127.0.0.1:0"), &c.address), 0);
	assert_int_equal(
	    listener_open(&w->loop, &c, on_accept, w, &w->listener, why), 0);
	w->port = addr_port(&listener_address(w->listener)->sa);
	probe_init(&w->server);
	probe_init(&w->client);
}

static void
world_close(struct world *w)
{
	struct probe *p[] = { &w->server, &w->client };

	listener_close(w->listener);
	for (int i = 0; i < 2; i++) {
		if (p[i]->s != NULL) {
			stream_abort(p[i]->s, false);
			until(&w->loop, p[i]->closed);
		}
		probe_fini(p[i]);
	}
	stream_loop_fini(&w->loop);
	loop_fini(&w->loop);
}

static void
go(struct world *w, struct dial_config c)
{
	assert_int_equal(dial_start(&w->loop, &c, on_done, w, &w->dial), 0);
	assert_false(w->done);
}

static void
test_direct(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost" };
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_open(&w, NULL);
		go(&w,
		    (struct dial_config){ .host = hosts[i], .port = w.port });
		until(&w.loop, w.done);
		assert_int_equal(w.err, 0);
		stream_write(w.client.s, SL("hi"));
		until(&w.loop, buf_peek(&w.client.got).len == 2);
		assert_int_equal(addr_port(stream_remote(w.client.s)), w.port);
		world_close(&w);
	}
	/* The checked address decides, not the name. */
	world_open(&w, NULL);
	go(&w,
	    (struct dial_config){ .host = "no.such.host.invalid",
		.address = listener_address(w.listener) });
	until(&w.loop, w.done);
	assert_int_equal(w.err, 0);
	world_close(&w);
}

static void
test_failures(void **state)
{
	struct dial_config c = { .host = "a b", .port = 1 };
	struct dial *d;
	char want[DIAL_WHY];
	struct world w;

	(void)state;
	world_open(&w, NULL);
	assert_int_equal(dial_start(&w.loop, &c, on_done, &w, &d), ERR_INVALID);
	c.host = "a\r\nX: y";
	assert_int_equal(dial_start(&w.loop, &c, on_done, &w, &d), ERR_INVALID);
	c.host = "";
	assert_int_equal(dial_start(&w.loop, &c, on_done, &w, &d), ERR_INVALID);
	go(&w,
	    (struct dial_config){ .host = "no.such.host.invalid", .port = 1 });
	until(&w.loop, w.done);
	assert_int_equal(w.err, ERR_DNS);
	assert_true(slice_starts(slice_from(w.why), SL("dns: ")));
	assert_non_null(strstr(w.why, "no.such.host.invalid"));
	/* A port that was free a moment ago. */
	int fd[2];
	tcp_pair(fd);
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	getpeername(fd[0], (struct sockaddr *)&a, &len);
	close(fd[0]);
	close(fd[1]);
	w.done = false;
	go(&w,
	    (struct dial_config){
		.host = "127.0.0.1", .port = ntohs(a.sin_port) });
	until(&w.loop, w.done);
	assert_int_equal(w.err, ERR_REFUSED);
	snprintf(want, sizeof(want),
	    "connect: 127.0.0.1:%u: Connection refused", ntohs(a.sin_port));
	assert_string_equal(w.why, want);
	world_close(&w);
}

/* An address that does not answer holds the next one up for a moment only. */
static void
test_stagger(void **state)
{
	enum { FILL = 4 };
	int silent, fill[FILL];
	union addr to[2];
	socklen_t len = sizeof(to[0]);
	struct world w;

	(void)state;
	world_open(&w, NULL);
	/* A full backlog: connections hang. */
	silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(addr_parse(SL("127.0.0.1:0"), &to[0]), 0);
	assert_int_equal(bind(silent, &to[0].sa, sizeof(to[0].in)), 0);
	assert_int_equal(listen(silent, 0), 0);
	assert_int_equal(getsockname(silent, &to[0].sa, &len), 0);
	for (int i = 0; i < FILL; i++) {
		fill[i] = socket(
		    AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fill[i], &to[0].sa, sizeof(to[0].in));
	}
	to[1] = *listener_address(w.listener);
	msec before = loop_now(&w.loop);
	go(&w,
	    (struct dial_config){
		.host = "x", .address = to, .address_count = 2 });
	until(&w.loop, w.done);
	assert_int_equal(w.err, 0);
	assert_true(loop_now(&w.loop) - before >= DIAL_STAGGER);
	assert_int_equal(addr_port(stream_remote(w.client.s)), w.port);
	for (int i = 0; i < FILL; i++)
		close(fill[i]);
	close(silent);
	world_close(&w);
}

/* Proxies of one line each, which play the target as well. */
static void
http_proxy(struct probe *p)
{
	struct slice got = buf_peek(&p->got);

	if (!slice_ends(got, SL("\r\n\r\n")))
		return;
	p->on_read = NULL;
	p->echo = true;
	stream_write(p->s, SL("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbanner"));
}

static void
http_refusal(struct probe *p)
{
	stream_write(p->s,
	    SL("HTTP/1.1 407 Proxy Authentication Required\r\n"
	       "Content-Length: 2\r\n\r\nno"));
	stream_close(p->s);
}

static void
socks_proxy(struct probe *p)
{
	struct slice got = buf_peek(&p->got);

	if (slice_eq(got, SL("\5\2\0\2"))) {
		stream_write(p->s, SL("\5\2"));
	} else if (slice_ends(got, SL("\1\1u\2pw"))) {
		stream_write(p->s, SL("\1\0"));
	} else if (got.len == 4 + 6 + 4 + 1 + 6 + 2) {
		p->on_read = NULL;
		p->echo = true;
		stream_write(p->s, SL("\5\0\0\1\0\0\0\0\0\0banner"));
	}
}

static void
slam(struct probe *p)
{
	stream_abort(p->s, true);
}

static void
silence(struct probe *p)
{
	(void)p;
}

static void
test_proxies(void **state)
{
	static const struct {
		const char *url;
		void (*script)(struct probe *p);
		int err;
		const char *why;
		struct slice heard;
	} cases[] = {
		{ "http://127.0.0.1", http_proxy, 0, "",
		    SL_INIT("CONNECT a.test:443 HTTP/1.1\r\n"
			    "Host: a.test:443\r\n\r\n") },
		{ "http://u:pw@127.0.0.1", http_refusal, ERR_DENIED,
		    "proxy: 407 Proxy Authentication Required",
		    SL_INIT("CONNECT a.test:443 HTTP/1.1\r\n"
			    "Host: a.test:443\r\n"
			    "Proxy-Authorization: Basic dTpwdw==\r\n\r\n") },
		{ "socks5://u:pw@127.0.0.1", socks_proxy, 0, "",
		    SL_INIT("\5\2\0\2\1\1u\2pw\5\1\0\3\6a.test\1\xbb") },
		{ "socks5://127.0.0.1", slam, ERR_RESET,
		    "proxy: it closed the connection", SL_INIT("\5\1\0") },
		{ "socks5://127.0.0.1", silence, ERR_TIMEOUT,
		    "proxy: timed out", SL_INIT("\5\1\0") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dial_proxy proxy = proxy_of(cases[i].url);
		struct world w;
		world_open(&w, NULL);
		w.script = cases[i].script;
		proxy.port = w.port;
		go(&w,
		    (struct dial_config){ .host = "a.test",
			.port = 443,
			.proxy = &proxy,
			.timeout_ms = cases[i].script == silence ? 100 : 0 });
		until(&w.loop, w.done);
		assert_int_equal(w.err, cases[i].err);
		assert_string_equal(w.why, cases[i].why);
		assert_slice(buf_peek(&w.server.got), cases[i].heard);
		if (w.err == 0) {
			until(&w.loop, buf_peek(&w.client.got).len == 6);
			assert_slice(buf_peek(&w.client.got), SL("banner"));
			stream_write(w.client.s, SL("more"));
			until(&w.loop, buf_peek(&w.client.got).len == 10);
		}
		world_close(&w);
	}
}

/* TLS -------------------------------------------------------------------------
 */

static char dir[] = "/tmp/muster-dial-XXXXXX";
static char cert[64], key[64];
static struct tls_server *server;
static struct tls_client *trusting, *strict;

static int
set_up(void **state)
{
	struct slice name = SL("localhost");
	char why[TLS_WHY];

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(cert, sizeof(cert), "%s/cert", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	return tls_make_self_signed(cert, key, &name, 1, why) != 0 ||
	    tls_server_new(cert, key, &server, why) != 0 ||
	    tls_client_new(&(struct tls_client_config){ .ca_file = cert },
		&trusting, why) != 0 ||
	    tls_client_new(&(struct tls_client_config){ 0 }, &strict, why) != 0;
}

static int
tear_down(void **state)
{
	(void)state;
	tls_server_free(server);
	tls_client_free(trusting);
	tls_client_free(strict);
	unlink(cert);
	unlink(key);
	return rmdir(dir);
}

static void
test_tls(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, server);
	go(&w,
	    (struct dial_config){
		.host = "localhost", .port = w.port, .tls = trusting });
	until(&w.loop, w.done);
	assert_int_equal(w.err, 0);
	assert_true(stream_is_tls(w.client.s));
	stream_write(w.client.s, SL("hi"));
	until(&w.loop, buf_peek(&w.client.got).len == 2);
	w.done = false;
	stream_abort(w.client.s, false);
	until(&w.loop, w.client.closed);
	go(&w,
	    (struct dial_config){
		.host = "localhost", .port = w.port, .tls = strict });
	until(&w.loop, w.done);
	assert_int_equal(w.err, ERR_TLS);
	assert_string_equal(
	    w.why, "tls: certificate verify failed: self-signed certificate");
	world_close(&w);
	/* A server that does not speak. */
	world_open(&w, NULL);
	w.script = silence;
	go(&w,
	    (struct dial_config){ .host = "localhost",
		.port = w.port,
		.tls = strict,
		.timeout_ms = 300 });
	until(&w.loop, w.done);
	assert_int_equal(w.err, ERR_TIMEOUT);
	assert_string_equal(w.why, "tls: timed out");
	world_close(&w);
}

/* Cancelled after any number of turns: nothing is called, nothing leaks. */
static void
test_cancel(void **state)
{
	bool done = false;

	(void)state;
	for (int turns = 0; !done; turns++) {
		struct world w;
		world_open(&w, server);
		go(&w,
		    (struct dial_config){
			.host = "localhost", .port = w.port, .tls = trusting });
		alarm(20);
		for (int i = 0; i < turns && !w.done; i++)
			loop_turn(&w.loop, true);
		alarm(0);
		done = w.done;
		if (!done)
			dial_cancel(w.dial);
		world_close(&w);
		assert_int_equal(w.done, done);
	}
}

static void
test_oom(void **state)
{
	bool hit = true;

	(void)state;
	for (long n = 1; hit; n++) {
		struct world w;
		struct dial_config c = { .host = "127.0.0.1" };
		world_open(&w, NULL);
		c.port = w.port;
		oom_fail_at(n);
		int err = dial_start(&w.loop, &c, on_done, &w, &w.dial);
		if (err == 0)
			until(&w.loop, w.done);
		else
			assert_int_equal(err, ERR_NOMEM);
		hit = oom_happened();
		assert_true(hit || w.err == 0);
		world_close(&w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hop_http),
		cmocka_unit_test(test_hop_socks),
		cmocka_unit_test(test_proxy_parse),
		cmocka_unit_test(test_exempt),
		cmocka_unit_test(test_env),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_stagger),
		cmocka_unit_test(test_proxies),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_oom),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
