#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/err.h"

#include "io/addr.h"
#include "io/listen.h"
#include "io/tls.h"

#include "support/oom.h"
#include "support/streams.h"
#include "support/unit.h"

/* Files that all tests share ------------------------------------------------
 */

static char dir[] = "/tmp/muster-tls-XXXXXX";
static char cert[64], key[64], cert2[64], key2[64], junk[64];
static struct tls_server *server;
static uint8_t pin[TLS_PIN];

static int
set_up(void **state)
{
	struct slice names[] = { SL("localhost"), SL("127.0.0.1"), SL("::1"),
		SL("*.muster.test") };
	char why[TLS_WHY];
	FILE *f;

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(cert, sizeof(cert), "%s/cert", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	snprintf(cert2, sizeof(cert2), "%s/cert2", dir);
	snprintf(key2, sizeof(key2), "%s/key2", dir);
	snprintf(junk, sizeof(junk), "%s/junk", dir);
	f = fopen(junk, "w");
	fputs("-----BEGIN CERTIFICATE-----\nAAAA\n", f);
	fclose(f);
	return tls_make_self_signed(cert, key, names, 4, why) != 0 ||
	    tls_make_self_signed(cert2, key2, names, 1, why) != 0 ||
	    tls_server_new(cert, key, &server, why) != 0 ||
	    tls_server_pin(server, pin) != 0;
}

static int
tear_down(void **state)
{
	(void)state;
	tls_server_free(server);
	unlink(cert);
	unlink(key);
	unlink(cert2);
	unlink(key2);
	unlink(junk);
	return rmdir(dir);
}

/* Two ends ------------------------------------------------------------------
 */

struct end {
	struct probe probe;
	struct stream *s;
	bool ready;
	bool wait; /* do not start it when ready */
	int err;
	char why[TLS_WHY];
};

struct pair {
	struct loop loop;
	struct tls_client *client;
	struct end a, b; /* client, server */
};

static void
on_ready(void *owner, int err, const char *why)
{
	struct end *e = owner;

	assert_false(e->ready);
	e->ready = true;
	e->err = err;
	snprintf(e->why, sizeof(e->why), "%s", why);
	if (err != 0)
		e->probe.closed = true;
	else if (!e->wait)
		probe_start(&e->probe, e->s);
}

static void
pair_init(struct pair *p, const struct tls_client_config *c)
{
	char why[TLS_WHY];

	memset(p, 0, sizeof(*p));
	assert_int_equal(loop_init(&p->loop, 100), 0);
	assert_int_equal(tls_client_new(c, &p->client, why), 0);
	probe_init(&p->a.probe);
	probe_init(&p->b.probe);
}

static void
pair_talk(struct pair *p, int client_fd, int server_fd, const char *host)
{
	assert_int_equal(stream_new(&p->loop, client_fd, NULL, &p->a.s), 0);
	assert_int_equal(stream_new(&p->loop, server_fd, NULL, &p->b.s), 0);
	assert_int_equal(tls_accept(p->b.s, server, on_ready, &p->b), 0);
	assert_int_equal(
	    tls_connect(p->a.s, p->client, host, on_ready, &p->a), 0);
}

static void
pair_begin(struct pair *p, const struct tls_client_config *c, const char *host)
{
	int fd[2];

	pair_init(p, c);
	tcp_pair(fd);
	pair_talk(p, fd[0], fd[1], host);
}

static void
pair_open(struct pair *p)
{
	pair_begin(p, &(struct tls_client_config){ .pin = pin }, "any.example");
	until(&p->loop, p->a.ready && p->b.ready);
	assert_int_equal(p->a.err, 0);
	assert_int_equal(p->b.err, 0);
}

static void
pair_close(struct pair *p)
{
	struct end *ends[] = { &p->a, &p->b };

	for (int i = 0; i < 2; i++) {
		if (ends[i]->probe.s != NULL)
			stream_abort(ends[i]->probe.s, false);
		until(&p->loop, ends[i]->probe.closed);
		probe_fini(&ends[i]->probe);
	}
	stream_loop_fini(&p->loop);
	loop_fini(&p->loop);
	tls_client_free(p->client);
}

static size_t
got(const struct end *e)
{
	return buf_peek(&e->probe.got).len;
}

static void
pattern(uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
}

/* Certificates --------------------------------------------------------------
 */

static void
test_self_signed(void **state)
{
	struct slice bad[] = { SL("a b"), SL("a,IP:1.2.3.4"), SL(""),
		SL("a\nb") };
	char why[TLS_WHY], text[TLS_PIN_TEXT];
	uint8_t back[TLS_PIN];
	struct stat st;

	(void)state;
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(
		    tls_make_self_signed(junk, junk, &bad[i], 1, why),
		    ERR_INVALID);
	assert_int_equal(
	    tls_make_self_signed(junk, junk, bad, 0, why), ERR_INVALID);
	assert_true(tls_make_self_signed(
			"/no/such/cert", "/no/such/key", &SL("x"), 1, why) < 0);
	assert_non_null(strstr(why, "/no/such/key"));
	tls_pin_text(pin, text);
	assert_int_equal(strlen(text), 64);
	assert_int_equal(tls_pin_parse(slice_from(text), back), 0);
	assert_memory_equal(back, pin, TLS_PIN);
	text[9] = 'g';
	assert_int_equal(tls_pin_parse(slice_from(text), back), ERR_INVALID);
	assert_int_equal(tls_pin_parse(SL("abcd"), back), ERR_INVALID);
}

static void
test_broken_pairs(void **state)
{
	struct tls_server *t;
	char why[TLS_WHY];
	uint8_t now[TLS_PIN];

	(void)state;
	assert_int_equal(tls_server_new("/no/such", key, &t, why), ERR_TLS);
	assert_non_null(strstr(why, "/no/such"));
	assert_int_equal(tls_server_new(cert, key2, &t, why), ERR_TLS);
	assert_non_null(strstr(why, "mismatch"));
	assert_int_equal(tls_server_new(junk, key, &t, why), ERR_TLS);
	assert_int_equal(tls_server_new(cert, junk, &t, why), ERR_TLS);
	/* A reload that fails leaves the old pair. */
	assert_int_equal(tls_server_new(cert, key, &t, why), 0);
	assert_int_equal(tls_server_reload(t, cert2, key, why), ERR_TLS);
	assert_int_equal(tls_server_pin(t, now), 0);
	assert_memory_equal(now, pin, TLS_PIN);
	assert_int_equal(tls_server_reload(t, cert2, key2, why), 0);
	assert_int_equal(tls_server_pin(t, now), 0);
	assert_memory_not_equal(now, pin, TLS_PIN);
	tls_server_free(t);
	tls_server_free(NULL);
}

/* Connections open at a reload live on; new ones get the new pair. */
static void
test_reload(void **state)
{
	struct pair old, now;
	char why[TLS_WHY];
	uint8_t seen[TLS_PIN];

	(void)state;
	pair_open(&old);
	assert_int_equal(tls_server_reload(server, cert2, key2, why), 0);
	old.b.probe.echo = true;
	assert_int_equal(stream_write(old.a.s, SL("still here")), 0);
	until(&old.loop, got(&old.a) == 10);
	pair_begin(&now, &(struct tls_client_config){ .pin = pin }, "x");
	until(&now.loop, now.a.ready && now.b.ready);
	assert_int_equal(now.a.err, ERR_TLS);
	assert_string_equal(now.a.why,
	    "certificate verify failed: the key is not the pinned one");
	pair_close(&now);
	assert_int_equal(tls_server_reload(server, cert, key, why), 0);
	pair_open(&now);
	assert_int_equal(stream_peer_pin(now.a.s, seen), 0);
	assert_memory_equal(seen, pin, TLS_PIN);
	assert_int_equal(stream_peer_pin(now.b.s, seen), ERR_NOT_FOUND);
	pair_close(&now);
	pair_close(&old);
}

static void
test_verify(void **state)
{
	struct {
		struct tls_client_config config;
		const char *host;
		const char *why; /* NULL: good */
	} cases[] = {
		{ { .ca_file = cert }, "localhost", NULL },
		{ { .ca_file = cert }, "a.muster.test", NULL },
		{ { .ca_file = cert }, "127.0.0.1", NULL },
		{ { .ca_file = cert }, "::1", NULL },
		{ { .ca_file = cert }, "127.0.0.2", "IP address mismatch" },
		{ { .ca_file = cert }, "localhost.evil", "ostname mismatch" },
		{ { .ca_file = cert }, "a.b.muster.test", "ostname mismatch" },
		{ { .ca_file = cert2 }, "localhost", "self-signed" },
		{ { 0 }, "localhost",
		    "certificate verify failed: self-signed certificate" },
		{ { .pin = pin }, "whatever", NULL },
	};
	struct tls_client *t;
	char why[TLS_WHY];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pair p;
		pair_begin(&p, &cases[i].config, cases[i].host);
		until(&p.loop, p.a.ready && p.b.ready);
		if (cases[i].why == NULL) {
			assert_int_equal(p.a.err, 0);
			assert_true(stream_is_tls(p.a.s));
		} else {
			assert_int_equal(p.a.err, ERR_TLS);
			assert_non_null(strstr(p.a.why, cases[i].why));
		}
		pair_close(&p);
	}
	assert_int_equal(
	    tls_client_new(
		&(struct tls_client_config){ .ca_file = junk }, &t, why),
	    ERR_TLS);
	assert_non_null(strstr(why, junk));
}

/* Bytes ---------------------------------------------------------------------
 */

static void
test_echo(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	p.b.probe.echo = true;
	assert_int_equal(stream_write(p.a.s, SL("hello ")), 0);
	assert_int_equal(stream_write(p.a.s, SL("world")), 0);
	until(&p.loop, got(&p.a) == 11);
	assert_slice(buf_peek(&p.a.probe.got), SL("hello world"));
	assert_int_equal(p.b.probe.reads, 1);
	assert_int_equal(stream_queued(p.a.s), 0);
	pair_close(&p);
}

static void
test_bulk(void **state)
{
	enum { TOTAL = 8 * 1024 * 1024 };
	static uint8_t bytes[TOTAL];
	size_t cuts[] = { 1, 100, 255, 5000, 16384, 16385, 70000, 300000, 3 };
	struct pair p;
	size_t at = 0;

	(void)state;
	pattern(bytes, TOTAL);
	pair_open(&p);
	p.b.probe.echo = true;
	for (size_t i = 0; at < TOTAL; i++) {
		size_t n = cuts[i % 9] < TOTAL - at ? cuts[i % 9] : TOTAL - at;
		size_t head = n < 14 ? n : 14;
		if (i % 2 == 0) {
			assert_int_equal(
			    stream_write2(p.a.s,
				(struct slice){ bytes + at, head },
				(struct slice){ bytes + at + head, n - head }),
			    0);
		} else {
			struct chunk *c = chunk_new(n);
			memcpy(c->bytes, bytes + at, n);
			assert_int_equal(stream_write_chunk(p.a.s,
					     (struct slice){ 0 }, c, 0, n),
			    0);
			chunk_drop(c);
		}
		at += n;
		if (i % 5 == 0)
			loop_turn(&p.loop, false);
	}
	until(&p.loop, got(&p.a) == TOTAL);
	assert_memory_equal(buf_peek(&p.a.probe.got).ptr, bytes, TOTAL);
	until(&p.loop, stream_queued(p.a.s) == 0);
	pair_close(&p);
}

/* A full socket: one record is owed at most, and pulls wait. */
static void
pull_some(struct probe *p, size_t room)
{
	static uint8_t bytes[STREAM_PULL_MAX];

	assert_int_equal(stream_queued(p->s), 0);
	assert_int_equal(stream_write(p->s, (struct slice){ bytes, room }), 0);
}

static void
test_pull(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	p.a.probe.on_pull = pull_some;
	stream_read_stop(p.b.s);
	stream_want(p.a.s, true);
	for (int still = 0; still < 50;) {
		size_t before = p.a.probe.pulls;
		loop_turn(&p.loop, false);
		still = p.a.probe.pulls == before ? still + 1 : 0;
	}
	assert_true(stream_queued(p.a.s) <= STREAM_PULL_MAX + 100);
	assert_int_equal(stream_write(p.a.s, SL("STOP")), 0);
	stream_want(p.a.s, false);
	size_t ahead = p.a.probe.pulls * STREAM_PULL_MAX;
	stream_read_start(p.b.s);
	until(&p.loop, got(&p.b) == ahead + 4);
	assert_memory_equal(buf_peek(&p.b.probe.got).ptr + ahead, "STOP", 4);
	pair_close(&p);
}

/* Bytes right behind the handshake wait for stream_start. */
static void
test_early(void **state)
{
	struct pair p;

	(void)state;
	pair_begin(&p, &(struct tls_client_config){ .pin = pin }, "x");
	p.b.wait = true;
	until(&p.loop, p.a.ready);
	/* Both the end of the handshake and this are one segment each, but
	 * the server sees neither before the other is sent. */
	assert_int_equal(stream_write(p.a.s, SL("first words")), 0);
	while (stream_queued(p.a.s) > 0)
		loop_turn(&p.loop, false);
	until(&p.loop, p.b.ready);
	for (int i = 0; i < 5; i++)
		loop_turn(&p.loop, false);
	assert_int_equal(got(&p.b), 0);
	probe_start(&p.b.probe, p.b.s);
	until(&p.loop, got(&p.b) == 11);
	assert_slice(buf_peek(&p.b.probe.got), SL("first words"));
	pair_close(&p);
}

/* Byte by byte through a relay: records cut everywhere. */
static bool
relay(int from, int to)
{
	char c;

	if (recv(from, &c, 1, MSG_DONTWAIT) != 1)
		return false;
	assert_int_equal(send(to, &c, 1, MSG_NOSIGNAL), 1);
	return true;
}

static void
test_byte_by_byte(void **state)
{
	int near[2], far[2];
	struct pair p;

	(void)state;
	pair_init(&p, &(struct tls_client_config){ .pin = pin });
	tcp_pair(near);
	tcp_pair(far);
	pair_talk(&p, near[0], far[1], "x");
	p.b.probe.echo = true;
	alarm(30);
	bool said = false;
	while (got(&p.a) < 2000) {
		static uint8_t bytes[2000];
		if (p.a.ready && !said) {
			said = true;
			stream_write(
			    p.a.s, (struct slice){ bytes, sizeof(bytes) });
		}
		relay(near[1], far[0]);
		relay(far[0], near[1]);
		loop_turn(&p.loop, false);
	}
	alarm(0);
	assert_int_equal(p.a.err, 0);
	close(near[1]);
	close(far[0]);
	pair_close(&p);
}

/* Ends ----------------------------------------------------------------------
 */

static void
test_half_close(void **state)
{
	static uint8_t bytes[1024 * 1024];
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(
	    stream_write(p.a.s, (struct slice){ bytes, sizeof(bytes) }), 0);
	stream_shutdown(p.a.s);
	until(&p.loop, p.b.probe.eof);
	assert_int_equal(got(&p.b), sizeof(bytes));
	assert_int_equal(stream_write(p.b.s, SL("answer")), 0);
	stream_close(p.b.s);
	until(&p.loop, p.a.probe.eof && p.b.probe.closed);
	assert_slice(buf_peek(&p.a.probe.got), SL("answer"));
	assert_int_equal(p.b.probe.why, 0);
	stream_close(p.a.s);
	until(&p.loop, p.a.probe.closed);
	assert_int_equal(p.a.probe.why, 0);
	pair_close(&p);
}

/* Without close_notify anyone on the way may have cut it (RFC 8446 6.1). */
static void
test_truncated(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(stream_write(p.a.s, SL("cut")), 0);
	while (stream_queued(p.a.s) > 0)
		loop_turn(&p.loop, false);
	stream_abort(p.a.probe.s, false);
	until(&p.loop, p.b.probe.closed);
	assert_false(p.b.probe.eof);
	assert_int_equal(p.b.probe.why, ERR_RESET);
	pair_close(&p);
}

static void
test_abort_while_shaking(void **state)
{
	struct pair p;

	(void)state;
	pair_begin(&p, &(struct tls_client_config){ .pin = pin }, "x");
	stream_abort(p.a.s, false);
	p.a.probe.closed = true;
	until(&p.loop, p.b.ready);
	assert_int_equal(p.b.err, ERR_RESET);
	assert_false(p.a.ready);
	pair_close(&p);
}

/* Strangers -----------------------------------------------------------------
 */

static void
test_not_tls(void **state)
{
	struct pair p;
	int fd[2];
	char c[64];

	(void)state;
	pair_init(&p, &(struct tls_client_config){ .pin = pin });
	tcp_pair(fd);
	assert_int_equal(stream_new(&p.loop, fd[1], NULL, &p.b.s), 0);
	assert_int_equal(tls_accept(p.b.s, server, on_ready, &p.b), 0);
	assert_int_equal(send(fd[0], "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	until(&p.loop, p.b.ready);
	assert_int_equal(p.b.err, ERR_TLS);
	assert_string_equal(p.b.why, "http request");
	while (recv(fd[0], c, sizeof(c), 0) > 0)
		; /* an alert, perhaps */
	close(fd[0]);
	p.a.probe.closed = true;
	pair_close(&p);
}

/* OpenSSL's own blocking client, limited to a version. */
struct other {
	int fd;
	int version;
	bool ok;
};

static void *
other_client(void *arg)
{
	struct other *o = arg;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	char back[100] = { 0 };

	SSL_CTX_set_max_proto_version(ctx, o->version);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	fcntl(o->fd, F_SETFL, 0);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, o->fd);
	o->ok = SSL_connect(ssl) == 1 && SSL_version(ssl) == o->version &&
	    SSL_write(ssl, "ping", 4) == 4 && SSL_read(ssl, back, 100) == 4 &&
	    memcmp(back, "ping", 4) == 0;
	if (o->ok && o->version == TLS1_3_VERSION)
		/* A new key, and one asked of the other side. */
		o->ok = SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 &&
		    SSL_write(ssl, "pong", 4) == 4 &&
		    SSL_read(ssl, back, 100) == 4 &&
		    memcmp(back, "pong", 4) == 0;
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	close(o->fd);
	return NULL;
}

static void
test_versions(void **state)
{
	int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION, TLS1_1_VERSION };

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct other o = { .version = versions[i] };
		struct pair p;
		pthread_t t;
		int fd[2];
		pair_init(&p, &(struct tls_client_config){ .pin = pin });
		tcp_pair(fd);
		o.fd = fd[0];
		p.b.probe.echo = true;
		assert_int_equal(stream_new(&p.loop, fd[1], NULL, &p.b.s), 0);
		assert_int_equal(tls_accept(p.b.s, server, on_ready, &p.b), 0);
		assert_int_equal(pthread_create(&t, NULL, other_client, &o), 0);
		until(&p.loop, p.b.probe.closed);
		pthread_join(t, NULL);
		assert_int_equal(o.ok, i < 2);
		assert_int_equal(p.b.err, i < 2 ? 0 : ERR_TLS);
		p.a.probe.closed = true;
		pair_close(&p);
	}
}

/* Lanes ---------------------------------------------------------------------
 */

struct move {
	struct stream *s;
	struct probe probe;
};

static void *
other_lane(void *arg)
{
	struct move *m = arg;
	struct loop l;

	if (loop_init(&l, 10) != 0 || stream_attach(m->s, &l) != 0)
		return NULL;
	m->probe.echo = true;
	probe_start(&m->probe, m->s);
	while (!m->probe.eof)
		loop_turn(&l, true);
	stream_close(m->probe.s);
	while (!m->probe.closed)
		loop_turn(&l, true);
	stream_loop_fini(&l);
	loop_fini(&l);
	return m;
}

static void
test_move(void **state)
{
	struct pair p;
	struct move m;
	pthread_t t;
	void *ok;

	(void)state;
	pair_open(&p);
	probe_init(&m.probe);
	m.s = stream_detach(p.b.s);
	assert_non_null(m.s);
	p.b.probe.s = NULL;
	p.b.probe.closed = true;
	assert_int_equal(pthread_create(&t, NULL, other_lane, &m), 0);
	assert_int_equal(stream_write(p.a.s, SL("moved")), 0);
	until(&p.loop, got(&p.a) == 5);
	stream_shutdown(p.a.s);
	until(&p.loop, p.a.probe.eof);
	assert_int_equal(pthread_join(t, &ok), 0);
	assert_ptr_equal(ok, &m);
	probe_fini(&m.probe);
	pair_close(&p);
}

/* By a listener --------------------------------------------------------------
 */

struct house {
	struct loop loop;
	struct listener *listener;
	struct probe guest;
	size_t count;
};

static void
on_guest(void *owner, struct stream *s)
{
	struct house *h = owner;

	h->count++;
	h->guest.echo = true;
	probe_start(&h->guest, s);
}

static void
test_listener(void **state)
{
	struct listen_config c = { .tls = server, .handshake_ms = 200 };
	struct house h = { 0 };
	struct pair p;
	char why[LISTEN_WHY], byte;
	int fd;

	(void)state;
	assert_int_equal(loop_init(&h.loop, 10), 0);
	assert_int_equal(addr_parse(SL("127.0.0.1:0"), &c.address), 0);
	assert_int_equal(
	    listener_open(&h.loop, &c, on_guest, &h, &h.listener, why), 0);
	const union addr *a = listener_address(h.listener);
	/* One that says nothing is dropped. */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, &a->sa, sizeof(a->in)), 0);
	until(&h.loop, recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
	assert_int_equal(h.count, 0);
	close(fd);
	/* One that talks is handed over when it is ready. */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, &a->sa, sizeof(a->in)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	probe_init(&h.guest);
	memset(&p, 0, sizeof(p));
	probe_init(&p.a.probe);
	assert_int_equal(
	    tls_client_new(
		&(struct tls_client_config){ .pin = pin }, &p.client, why),
	    0);
	assert_int_equal(stream_new(&h.loop, fd, NULL, &p.a.s), 0);
	assert_int_equal(tls_connect(p.a.s, p.client, "x", on_ready, &p.a), 0);
	until(&h.loop, p.a.ready && h.count == 1);
	assert_int_equal(listener_pending(h.listener), 0);
	stream_write(p.a.s, SL("hi"));
	until(&h.loop, got(&p.a) == 2);
	stream_close(p.a.s);
	until(&h.loop, h.guest.eof);
	stream_close(h.guest.s);
	until(&h.loop, p.a.probe.closed && h.guest.closed);
	probe_fini(&p.a.probe);
	probe_fini(&h.guest);
	listener_close(h.listener);
	stream_loop_fini(&h.loop);
	loop_fini(&h.loop);
	tls_client_free(p.client);
}

/* Our allocations fail one by one; a handshake ends either way. */
static void
test_oom(void **state)
{
	bool hit = true;

	(void)state;
	for (long n = 1; hit; n++) {
		struct pair p;
		int fd[2], err;
		pair_init(&p, &(struct tls_client_config){ .pin = pin });
		tcp_pair(fd);
		assert_int_equal(stream_new(&p.loop, fd[0], NULL, &p.a.s), 0);
		assert_int_equal(stream_new(&p.loop, fd[1], NULL, &p.b.s), 0);
		oom_fail_at(n);
		err = tls_accept(p.b.s, server, on_ready, &p.b);
		if (err == 0)
			err = tls_connect(p.a.s, p.client, "x", on_ready, &p.a);
		if (err == 0) {
			until(&p.loop, p.a.ready && p.b.ready);
		} else {
			assert_int_equal(err, ERR_NOMEM);
			stream_abort(p.a.s, false);
			stream_abort(p.b.s, false);
			loop_turn(&p.loop, false);
			p.a.probe.closed = p.b.probe.closed = true;
		}
		hit = oom_happened();
		assert_true(hit || (p.a.err == 0 && p.b.err == 0));
		pair_close(&p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_self_signed),
		cmocka_unit_test(test_broken_pairs),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_bulk),
		cmocka_unit_test(test_pull),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_abort_while_shaking),
		cmocka_unit_test(test_not_tls),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_listener),
		cmocka_unit_test(test_oom),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
