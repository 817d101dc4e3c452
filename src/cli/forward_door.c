#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"
#include "io/addr.h"
#include "io/clock.h"
#include "io/stream.h"

#include "cli/forward_parts.h"

enum { BACKLOG = 128, ASK_AGAIN = 2000, CROWDED = 250, BURST = 64 };

/* Here --------------------------------------------------------------------- */

static int
cannot(struct forwarder *f, const struct forward_spec *s, const char *why)
{
	char at[FORWARD_WHERE];

	forward_spec_at(s, at);
	return cli_fail(
	    f->cli, EXIT_FAILED, "cannot listen at %s: %s", at, why);
}

static int
open_here(struct forwarder *f, struct door *d)
{
	const struct forward_spec *s = d->spec;
	char at[FORWARD_WHERE];
	int one = 1;
	union addr a;
	socklen_t len = sizeof(a);

	forward_spec_at(s, at);
	if (addr_parse(slice_from(at), &a) != 0)
		return cli_usage(f->cli,
		    "%s is no address of this machine: localhost, *, or "
		    "numbers",
		    s->at);
	d->fd = socket(a.sa.sa_family,
	    (s->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (d->fd < 0)
		return cannot(f, s, strerrordesc_np(errno));
	if (!s->udp)
		(void)setsockopt(
		    d->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(d->fd, &a.sa, addr_len(&a.sa)) != 0 ||
	    (!s->udp && listen(d->fd, BACKLOG) != 0) ||
	    getsockname(d->fd, &a.sa, &len) != 0)
		return cannot(f, s, strerrordesc_np(errno));
	addr_format(&a.sa, d->at);
	d->listening = true;
	return EXIT_OK;
}

/* Reverse: the target is here, and looked up once. */
static int
find_target(struct forwarder *f, struct door *d)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = d->spec->udp ? SOCK_DGRAM : SOCK_STREAM };
	struct addrinfo *list = NULL;
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", d->spec->port);
	int rc = getaddrinfo(d->spec->host, port, &hints, &list);
	if (rc != 0)
		return cli_fail(f->cli, EXIT_FAILED, "cannot find %s: %s",
		    d->spec->host, gai_strerror(rc));
	for (struct addrinfo *i = list;
	     i != NULL && d->to_count < FORWARD_ADDRESSES; i = i->ai_next)
		if (i->ai_addrlen <= sizeof(d->to[0]))
			memcpy(
			    &d->to[d->to_count++], i->ai_addr, i->ai_addrlen);
	freeaddrinfo(list);
	return EXIT_OK;
}

int
door_open(struct forwarder *f, const struct forward_spec *s)
{
	struct door *d = &f->doors[f->door_count];

	d->spec = s;
	d->fd = -1;
	buf_init(&d->head, OPENING_MAX);
	(void)snprintf(d->id, sizeof(d->id), "l%zu", f->door_count + 1);
	f->door_count++;
	return s->reverse ? find_target(f, d) : open_here(f, d);
}

void
door_close(struct door *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	buf_fini(&d->head);
}

static void
accept_some(struct forwarder *f, struct door *d)
{
	for (int i = 0; i < BURST; i++) {
		union addr peer = { .in6 = { 0 } };
		socklen_t len = sizeof(peer);
		int fd = accept4(
		    d->fd, &peer.sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE))
			d->due = clock_mono() + CROWDED;
		if (fd < 0)
			return;
		stream_tune(fd);
		addr_unmap(&peer);
		if (conn_come(f, d, fd, &peer) == NULL &&
		    f->conn_count >= FORWARD_CONNS)
			tell_refused(f, d, &peer, (struct slice){ 0 },
			    "too many connections");
	}
}

static bool
same_source(const union addr *a, const union addr *b)
{
	return a->sa.sa_family == b->sa.sa_family &&
	    memcmp(a, b, addr_len(&a->sa)) == 0;
}

static struct conn *
source_of(struct forwarder *f, struct door *d, const union addr *from)
{
	for (struct list *i = f->conns.next; i != &f->conns; i = i->next) {
		struct conn *c = LIST_OF(i, struct conn, link);
		if (!c->dead && c->udp && c->door == d &&
		    same_source(&c->peer, from))
			return c;
	}
	return f->link == NULL ? NULL : conn_come(f, d, -1, from);
}

static void
receive_some(struct forwarder *f, struct door *d)
{
	for (int i = 0; i < BURST; i++) {
		union addr from = { .in6 = { 0 } };
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(d->fd, f->bytes, sizeof(f->bytes),
		    MSG_DONTWAIT, &from.sa, &len);
		if (n < 0)
			return;
		struct conn *c = source_of(f, d, &from);
		if (c != NULL)
			conn_datagram(
			    f, c, (struct slice){ f->bytes, (size_t)n });
	}
}

void
door_ready(struct forwarder *f, struct door *d)
{
	if (d->spec->udp)
		receive_some(f, d);
	else
		accept_some(f, d);
}

/* At the agent ------------------------------------------------------------- */

struct door *
door_of(struct forwarder *f, uint32_t stream)
{
	for (size_t i = 0; i < f->door_count; i++)
		if (f->doors[i].stream == stream)
			return &f->doors[i];
	return NULL;
}

struct door *
door_named(struct forwarder *f, struct slice id)
{
	for (size_t i = 0; i < f->door_count; i++)
		if (f->doors[i].spec->reverse &&
		    slice_eq(slice_from(f->doors[i].id), id))
			return &f->doors[i];
	return NULL;
}

static int
put_listen(struct forwarder *f, const struct door *d, struct buf *out)
{
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "agent", slice_from(f->agent));
	js_kv_string(&w, "id", slice_from(d->id));
	js_kv_object(&w, "listen");
	js_kv_string(&w, "host", slice_from(d->spec->at));
	js_kv_u64(&w, "port", d->spec->at_port);
	js_end(&w);
	js_end(&w);
	return js_finish(&w);
}

void
door_ask(struct forwarder *f, struct door *d, msec now)
{
	struct buf json;

	if (!d->spec->reverse || d->stream != 0 || f->link == NULL ||
	    now < d->due)
		return;
	buf_init(&json, FORWARD_JSON);
	buf_clear(&d->head);
	int err = put_listen(f, d, &json);
	if (err == 0)
		err =
		    mux_ask(f, NULL, d->spec->udp, buf_peek(&json), &d->stream);
	if (err != 0)
		d->stream = 0;
	d->due = now + ASK_AGAIN;
	buf_fini(&json);
}

/* What is refused the first time would be refused again. */
static void
not_listening(struct forwarder *f, struct door *d, struct slice json)
{
	tell_refused(f, d, NULL, json, NULL);
	if (!d->told) {
		f->left = true;
		f->exit = exit_of_answer(json);
	}
	mux_reset(f, d->stream);
	d->stream = 0;
}

static void
take_address(struct door *d, struct slice json)
{
	static const struct js_limits limits = { UINT16_MAX, 8 };
	struct slice at;
	struct js_doc doc;
	struct arena a;

	arena_init(&a, 1 << 20);
	if (js_parse(&doc, json, &limits, &a) == 0 &&
	    js_string(js_get(js_root(&doc), "address"), &at) == 0)
		(void)slice_cstr(at, d->at, sizeof(d->at));
	arena_fini(&a);
}

bool
door_data(struct forwarder *f, struct door *d, struct slice bytes)
{
	int err;

	if (d->listening)
		return true;
	if (!mux_gather(&d->head, &bytes, &err))
		return err == 0;
	struct slice head = buf_peek(&d->head);
	if (head.ptr[1] != 0) {
		not_listening(f, d, slice_from_at(head, 4));
		return true;
	}
	take_address(d, slice_from_at(head, 4));
	d->listening = true;
	tell_listening(f, d);
	return true;
}

void
door_lost(struct forwarder *f, struct door *d, const char *why)
{
	if (!d->spec->reverse)
		return;
	if (d->listening && why != NULL)
		tell_refused(f, d, NULL, (struct slice){ 0 }, why);
	d->listening = false;
	d->stream = 0;
}
