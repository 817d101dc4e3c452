/*
 * Design notes.  A listener is a stream of the controller's.  Whoever comes
 * gets a stream that we open; it is answered like one of theirs, and until
 * then nothing is read.  Sources of datagrams share the listener's socket,
 * and so their streams end with it.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/js_write.h"
#include "io/listen.h"
#include "io/log.h"
#include "wire/be.h"

#include "agent/forward_parts.h"

/* What comes ----------------------------------------------------------------
 */

static void
put_opening(struct forward *f)
{
	char peer[ADDR_TEXT];
	struct js_writer w;
	struct buf json;
	uint8_t head[4] = { 2,
		f->wish.udp ? OPENING_KIND_UDP : OPENING_KIND_TCP };

	addr_format(&f->peer.sa, peer);
	buf_init(&json, 1024);
	js_write(&w, &json);
	js_begin_object(&w);
	js_kv_string(&w, "listener", slice_from(f->wish.id));
	js_kv_string(&w, "peer", slice_from(peer));
	js_end(&w);
	be_put16(head + 2, (uint16_t)buf_peek(&json).len);
	buf_put(&f->small, (struct slice){ head, sizeof(head) });
	buf_put(&f->small, buf_peek(&json));
	if (json.err != 0)
		f->small.err = json.err;
	buf_fini(&json);
}

/* A stream for one that came to l; NULL when there is no room. */
static struct forward *
open_for(struct forward *l, const struct sockaddr *peer)
{
	struct forwards *all = l->all;
	struct strand_home *h = all->c.link;
	struct forward *f = forward_room(all) ? forward_make(all, 0) : NULL;

	if (f == NULL)
		return NULL;
	f->wish = l->wish;
	f->wish.listen = false;
	f->wish.answers = false;
	f->reverse = true;
	f->state = FORWARD_ASKING;
	memcpy(&f->peer, peer, addr_len(peer));
	f->address = l->address;
	put_opening(f);
	if (forward_await(f, FORWARD_ASK) != 0 || h->open(h, &f->strand) != 0) {
		f->strand.ops->free(&f->strand);
		return NULL;
	}
	forward_count(f, true);
	forward_look(f);
	return f;
}

static void
on_accept(void *owner, struct stream *s)
{
	struct forward *l = owner;
	struct forward *f = open_for(l, stream_remote(s));

	if (f == NULL) {
		log_warn("tunnel_not_accepted", kv_c("id", l->wish.id));
		l->all->counts.refused++;
		stream_abort(s, true);
		return;
	}
	f->stream = s;
	stream_set_marks(s, FORWARD_MARK, FORWARD_MARK);
}

static bool
same_addr(const union addr *a, const union addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_port == b->in.sin_port &&
		    a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return a->in6.sin6_port == b->in6.sin6_port &&
	    a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
	    memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
}

static struct forward *
find_source(struct forward *l, const union addr *from)
{
	for (struct list *i = l->all->open.next; i != &l->all->open;
	     i = i->next) {
		struct forward *f = LIST_OF(i, struct forward, link);
		if (f->parent == l && same_addr(&f->peer, from))
			return f;
	}
	return open_for(l, &from->sa);
}

static void
on_datagrams(void *owner)
{
	static uint8_t bytes[DGRAM_MAX]; /* of the loop's thread */
	struct forward *l = owner;
	union addr from;
	size_t n;

	for (int i = 0; i < 64 && !l->dead; i++) {
		/* What ICMP says is of one source, and ends none. */
		int err =
		    dgram_receive(l->dgram, bytes, sizeof(bytes), &n, &from);
		if (err == ERR_AGAIN)
			return;
		if (err != 0)
			continue;
		struct forward *f = find_source(l, &from);
		if (f == NULL) {
			l->all->counts.dropped++;
			continue;
		}
		f->parent = l;
		forward_udp_queue(f, (struct slice){ bytes, n });
	}
}

static void
on_closed(void *owner)
{
	struct forward *f = owner;

	f->dgram = NULL;
	forward_release(f);
}

static const struct dgram_ops dgram_ops = {
	.ready = on_datagrams,
	.closed = on_closed,
};

/* The answer to an opening of ours ------------------------------------------
 */

int
forward_answered(struct forward *f, struct slice data)
{
	bool yes = false;

	buf_put(&f->opening, data);
	if (f->opening.err != 0)
		return f->opening.err;
	int n = forward_read_answer(buf_peek(&f->opening), &yes);
	if (n <= 0)
		return n;
	buf_eat(&f->opening, (size_t)n);
	forward_consume(f, (size_t)n);
	if (!yes)
		return ERR_REFUSED;
	if (!f->wish.udp && f->stream == NULL)
		return ERR_CLOSED;
	forward_accepted(f);
	forward_approach_free(f);
	if (f->stream != NULL)
		stream_start(f->stream, &forward_stream_ops, f);
	return forward_begin(f);
}

/* Listeners -----------------------------------------------------------------
 */

static int
listen_at(const struct forward *f, union addr *out)
{
	const char *host = f->wish.host;

	if (slice_eq(slice_from(host), SL("*")))
		host = "::";
	else if (slice_eq(slice_from(host), SL("localhost")))
		host = "127.0.0.1";
	return addr_parse_ip(slice_from(host), f->wish.port, out);
}

static int
open_tcp(struct forward *f, char why[LISTEN_WHY])
{
	const struct listen_config c = { .address = f->address };
	int err =
	    listener_open(f->all->c.loop, &c, on_accept, f, &f->listener, why);

	if (err == 0)
		f->address = *listener_address(f->listener);
	return err;
}

static int
open_udp(struct forward *f, char why[LISTEN_WHY])
{
	int err = dgram_open(
	    f->all->c.loop, &f->address, NULL, &dgram_ops, f, &f->dgram);

	if (err == 0)
		dgram_address(f->dgram, &f->address);
	else
		(void)snprintf(why, LISTEN_WHY, "%s", err_name(err));
	return err;
}

int
forward_listen(struct forward *f, struct forward_refusal *no)
{
	char why[LISTEN_WHY] = "not an address";
	int err = listen_at(f, &f->address);

	if (err == 0)
		err = f->wish.udp ? open_udp(f, why) : open_tcp(f, why);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0)
		return forward_refuse(no, "LISTEN_FAILED", "%s", why);
	f->state = FORWARD_LISTENING;
	forward_accepted(f);
	forward_look(f);
	return 0;
}

void
forward_unlisten(struct forward *f)
{
	struct list *next;

	if (f->listener != NULL)
		listener_close(f->listener);
	f->listener = NULL;
	if (!f->wish.listen || !f->wish.udp)
		return;
	for (struct list *i = f->all->open.next; i != &f->all->open; i = next) {
		struct forward *child = LIST_OF(i, struct forward, link);
		next = i->next;
		if (child->parent == f)
			forward_cut(child, "its listener is gone");
	}
}
