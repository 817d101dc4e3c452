/*
 * Design notes.  Bytes of the other side go to the socket at once; what it
 * does not take waits and is not consumed, so that the window stops whoever
 * sends.  Ours are read only when they may leave.  Memory is given back by
 * conn_sweep alone, between turns.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"
#include "io/stream.h"
#include "wire/be.h"

#include "cli/forward_parts.h"

enum { OUT_MAX = 5 << 20, UDP_HEAD = 2 };

/* Life --------------------------------------------------------------------- */

static struct conn *
conn_make(struct forwarder *f)
{
	struct conn *c =
	    f->conn_count < FORWARD_CONNS ? alloc_new(sizeof(*c)) : NULL;

	if (c == NULL)
		return NULL;
	c->fd = -1;
	list_init(&c->link);
	list_push(&f->conns, &c->link);
	f->conn_count++;
	buf_init(&c->head, OPENING_MAX);
	buf_init(&c->out, OUT_MAX);
	buf_init(&c->part, OUT_MAX);
	return c;
}

void
conn_abort(struct forwarder *f, struct conn *c)
{
	const struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	if (c->dead)
		return;
	c->dead = true;
	if (c->id != 0)
		mux_reset(f, c->id);
	c->id = 0;
	if (c->fd < 0)
		return;
	/* Not as if all had been said. */
	if (!c->udp && !(c->local_ended && c->shut))
		(void)setsockopt(
		    c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(c->fd);
	c->fd = -1;
}

void
conn_sweep(struct forwarder *f)
{
	struct list *next;

	for (struct list *i = f->conns.next; i != &f->conns; i = next) {
		struct conn *c = LIST_OF(i, struct conn, link);
		next = i->next;
		if (!c->dead)
			continue;
		list_remove(&c->link);
		f->conn_count--;
		buf_fini(&c->head);
		buf_fini(&c->out);
		buf_fini(&c->part);
		alloc_free(c);
	}
}

/* Both have said all, and all has arrived. */
static void
maybe_over(struct forwarder *f, struct conn *c)
{
	if (!c->far_ended || !c->local_ended || buf_peek(&c->out).len > 0)
		return;
	mux_forget(f, c->id);
	c->id = 0;
	conn_abort(f, c);
}

static void
refuse(struct forwarder *f, struct conn *c, struct slice json, const char *why)
{
	tell_refused(f, c->door, &c->peer, json, why);
	conn_abort(f, c);
}

/* To the local side -------------------------------------------------------- */

static void
shut(struct forwarder *f, struct conn *c)
{
	if (!c->far_ended || c->shut || buf_peek(&c->out).len > 0)
		return;
	c->shut = true;
	if (c->udp) {
		conn_abort(f, c);
		return;
	}
	(void)shutdown(c->fd, SHUT_WR);
	maybe_over(f, c);
}

/* What the socket takes of these; -1: it is broken. */
static ssize_t
give(const struct conn *c, struct slice s)
{
	ssize_t n = send(c->fd, s.ptr, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n;
}

static void
flush(struct forwarder *f, struct conn *c)
{
	struct slice s = buf_peek(&c->out);
	ssize_t n = s.len == 0 ? 0 : give(c, s);

	if (n < 0) {
		conn_abort(f, c);
		return;
	}
	buf_eat(&c->out, (size_t)n);
	mux_consume(f, c->id, (size_t)n);
	if (buf_peek(&c->out).len == 0)
		buf_clear(&c->out);
	shut(f, c);
}

static void
to_socket(struct forwarder *f, struct conn *c, struct slice bytes)
{
	ssize_t n = buf_peek(&c->out).len == 0 ? give(c, bytes) : 0;

	if (n < 0) {
		conn_abort(f, c);
		return;
	}
	mux_consume(f, c->id, (size_t)n);
	buf_put(&c->out, slice_from_at(bytes, (size_t)n));
	if (c->out.err != 0)
		conn_abort(f, c);
}

static void
to_source(struct conn *c, struct slice datagram)
{
	if (c->fd >= 0)
		(void)send(c->fd, datagram.ptr, datagram.len,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		(void)sendto(c->door->fd, datagram.ptr, datagram.len,
		    MSG_NOSIGNAL | MSG_DONTWAIT, &c->peer.sa,
		    addr_len(&c->peer.sa));
}

static void
to_sources(struct forwarder *f, struct conn *c, struct slice bytes)
{
	mux_consume(f, c->id, bytes.len);
	buf_put(&c->part, bytes);
	if (c->part.err != 0) {
		conn_abort(f, c);
		return;
	}
	for (;;) {
		struct slice s = buf_peek(&c->part);
		size_t n = s.len < UDP_HEAD ? 0 : be_get16(s.ptr);
		if (s.len < UDP_HEAD + n || s.len < UDP_HEAD)
			return;
		to_source(c, slice_first(slice_from_at(s, UDP_HEAD), n));
		buf_eat(&c->part, UDP_HEAD + n);
	}
}

/* Answers and openings ----------------------------------------------------- */

static void
on_answer(struct forwarder *f, struct conn *c)
{
	struct slice head = buf_peek(&c->head);

	if (head.ptr[1] != 0)
		refuse(f, c, slice_from_at(head, 4), NULL);
	else
		c->state = CONN_OPEN;
	buf_clear(&c->head);
}

static int
try_next(struct forwarder *f, struct conn *c)
{
	const struct door *d = c->door;

	(void)f;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	while (c->tried < d->to_count) {
		const union addr *to = &d->to[c->tried++];
		int type = c->udp ? SOCK_DGRAM : SOCK_STREAM;
		c->fd = socket(
		    to->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->fd < 0)
			continue;
		if (connect(c->fd, &to->sa, addr_len(&to->sa)) == 0 ||
		    errno == EINPROGRESS)
			return 0;
		close(c->fd);
		c->fd = -1;
	}
	return ERR_REFUSED;
}

static void
cannot_connect(struct forwarder *f, struct conn *c, int number)
{
	char why[128];

	(void)snprintf(
	    why, sizeof(why), "cannot connect: %s", strerrordesc_np(number));
	mux_answer(f, c->id, false, "CONNECT_REFUSED", why);
	mux_finish(f, c->id);
	mux_forget(f, c->id);
	c->id = 0;
	refuse(f, c, (struct slice){ 0 }, why);
}

/* The controller opened it for one that came to the agent. */
static void
on_opening(struct forwarder *f, struct conn *c)
{
	static const struct js_limits limits = { UINT16_MAX, 8 };
	struct slice head = buf_peek(&c->head), id, peer;
	struct js_doc doc;
	struct arena a;

	arena_init(&a, 1 << 20);
	c->udp = head.ptr[1] == OPENING_KIND_UDP;
	if (js_parse(&doc, slice_from_at(head, 4), &limits, &a) == 0 &&
	    js_string(js_get(js_root(&doc), "listener"), &id) == 0)
		c->door = door_named(f, id);
	if (c->door != NULL &&
	    js_string(js_get(js_root(&doc), "peer"), &peer) == 0)
		(void)addr_parse(peer, &c->peer);
	arena_fini(&a);
	buf_clear(&c->head);
	if (c->door == NULL || c->door->spec->udp != c->udp) {
		conn_abort(f, c);
		return;
	}
	c->state = CONN_DIALS;
	if (try_next(f, c) != 0)
		cannot_connect(f, c, errno);
}

static void
connected(struct forwarder *f, struct conn *c)
{
	int number = 0;
	socklen_t len = sizeof(number);

	(void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &number, &len);
	if (number != 0) {
		if (try_next(f, c) != 0)
			cannot_connect(f, c, number);
		return;
	}
	if (!c->udp)
		stream_tune(c->fd);
	mux_answer(f, c->id, true, NULL, NULL);
	c->state = CONN_OPEN;
	if (!c->udp) {
		flush(f, c);
		return;
	}
	to_sources(f, c, buf_peek(&c->out));
	buf_clear(&c->out);
}

/* The stream --------------------------------------------------------------- */

void
conn_data(struct forwarder *f, struct conn *c, struct slice bytes)
{
	size_t all = bytes.len;
	int err = 0;

	if (c->dead)
		return;
	if (c->state == CONN_HEAD || c->state == CONN_ASKED) {
		bool whole = mux_gather(&c->head, &bytes, &err);
		mux_consume(f, c->id, all - bytes.len);
		if (err != 0)
			refuse(f, c, (struct slice){ 0 }, err_name(err));
		else if (whole && c->state == CONN_HEAD)
			on_opening(f, c);
		else if (whole)
			on_answer(f, c);
	}
	if (c->dead || bytes.len == 0)
		return;
	if (c->state == CONN_DIALS)
		buf_put(&c->out, bytes); /* consumed when it is passed on */
	else if (c->udp)
		to_sources(f, c, bytes);
	else
		to_socket(f, c, bytes);
}

void
conn_fin(struct forwarder *f, struct conn *c)
{
	if (c->dead)
		return;
	c->far_ended = true;
	if (c->state == CONN_ASKED || c->state == CONN_HEAD) {
		refuse(f, c, (struct slice){ 0 }, "ended without an answer");
		return;
	}
	if (c->state == CONN_OPEN)
		shut(f, c);
}

void
conn_rst(struct forwarder *f, struct conn *c)
{
	if (c->dead)
		return;
	c->id = 0;
	if (c->state == CONN_ASKED)
		refuse(f, c, (struct slice){ 0 }, "reset without an answer");
	else if (c->udp && !c->reverse)
		refuse(f, c, (struct slice){ 0 },
		    "ended: nobody answers there, or the way is gone");
	conn_abort(f, c);
}

void
conn_opened(struct forwarder *f, uint32_t id)
{
	struct conn *c = conn_make(f);

	if (c == NULL || yamux_accept(&f->mux, id, c) != 0) {
		mux_reset(f, id);
		if (c != NULL)
			conn_abort(f, c);
		return;
	}
	c->id = id;
	c->reverse = true;
	c->state = CONN_HEAD;
}

static int
put_target(struct forwarder *f, const struct forward_spec *s, struct buf *out)
{
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "agent", slice_from(f->agent));
	if (s->namespace[0] != '\0') {
		js_kv_string(&w, "namespace", slice_from(s->namespace));
		js_kv_string(&w, "service", slice_from(s->host));
	} else {
		js_kv_string(&w, "host", slice_from(s->host));
	}
	js_kv_u64(&w, "port", s->port);
	js_end(&w);
	return js_finish(&w);
}

struct conn *
conn_come(struct forwarder *f, struct door *d, int fd, const union addr *peer)
{
	struct conn *c = conn_make(f);
	struct buf json;

	if (c == NULL) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	c->door = d;
	c->fd = fd;
	c->udp = fd < 0;
	c->peer = *peer;
	c->state = CONN_ASKED;
	buf_init(&json, FORWARD_JSON);
	int err = put_target(f, d->spec, &json);
	if (err == 0)
		err = mux_ask(f, c, c->udp, buf_peek(&json), &c->id);
	buf_fini(&json);
	if (err == 0)
		return c;
	refuse(f, c, (struct slice){ 0 },
	    f->link == NULL ? "there is no connection to the controller"
			    : err_name(err));
	return NULL;
}

/* The socket --------------------------------------------------------------- */

short
conn_wants(const struct forwarder *f, const struct conn *c)
{
	short events = 0;

	if (c->dead || c->fd < 0)
		return 0;
	if (c->state == CONN_DIALS)
		return POLLOUT;
	if (buf_peek(&c->out).len > 0)
		events |= POLLOUT;
	if (!c->local_ended && c->state != CONN_HEAD &&
	    (c->udp || mux_room(f, c->id) > 0))
		events |= POLLIN;
	return events;
}

static void
local_end(struct forwarder *f, struct conn *c)
{
	c->local_ended = true;
	mux_finish(f, c->id);
	maybe_over(f, c);
}

static void
take_tcp(struct forwarder *f, struct conn *c)
{
	size_t room = mux_room(f, c->id);
	ssize_t n;

	if (room == 0)
		return;
	n = recv(c->fd, f->bytes, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 0)
		local_end(f, c);
	else if (n < 0 ||
	    mux_send(f, c->id, (struct slice){ f->bytes, (size_t)n }) != 0)
		conn_abort(f, c);
}

/* What finds no room is lost, as anywhere on a datagram's way. */
void
conn_datagram(struct forwarder *f, struct conn *c, struct slice bytes)
{
	uint8_t head[UDP_HEAD];

	if (f->link == NULL || bytes.len > UINT16_MAX ||
	    wslink_queued(f->link) >= 4 * FORWARD_QUEUED ||
	    yamux_window(&f->mux, c->id) < bytes.len + UDP_HEAD)
		return;
	be_put16(head, (uint16_t)bytes.len);
	if (mux_send(f, c->id, (struct slice){ head, UDP_HEAD }) != 0 ||
	    mux_send(f, c->id, bytes) != 0)
		conn_abort(f, c);
}

static void
take_udp(struct forwarder *f, struct conn *c)
{
	ssize_t n = recv(c->fd, f->bytes, sizeof(f->bytes), MSG_DONTWAIT);

	if (n >= 0)
		conn_datagram(f, c, (struct slice){ f->bytes, (size_t)n });
	else if (errno != EAGAIN && errno != EINTR)
		conn_abort(f, c);
}

void
conn_ready(struct forwarder *f, struct conn *c, short events)
{
	if (c->dead)
		return;
	if (c->state == CONN_DIALS) {
		connected(f, c);
		return;
	}
	/* Reset, while it may not be read. */
	if ((events & POLLERR) != 0 && (events & POLLIN) == 0 && !c->udp) {
		conn_abort(f, c);
		return;
	}
	if ((events & (POLLOUT | POLLERR)) != 0)
		flush(f, c);
	if (c->dead || (events & (POLLIN | POLLHUP | POLLERR)) == 0)
		return;
	if (c->udp)
		take_udp(f, c);
	else if (!c->local_ended)
		take_tcp(f, c);
	else if ((events & POLLERR) != 0)
		conn_abort(f, c);
}
