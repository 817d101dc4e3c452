#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/addr.h"
#include "io/clock.h"
#include "io/listen.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/conn.h"
#include "server/follow.h"
#include "server/link.h"
#include "server/lookup.h"
#include "server/pipe.h"

#include "server/dock.h"

enum {
	OUT_CAP = 64 * 1024 * 1024,
	TEXT_CAP = 32 * 1024 * 1024,
	SCRATCH_CAP = 64 * 1024 * 1024,
	PIPES_CAP = 200000,
	DEFLATE_LEVEL = 1,
};

static struct dock *
dock_of(struct lane *lane)
{
	return lane->config.arg;
}

int
dock_begin(struct lane *lane)
{
	struct dock *d = dock_of(lane);
	uint64_t seed[2], key[2];

	rand_fill(seed, sizeof(seed));
	rand_fill(key, sizeof(key));
	wsconn_lane_init(&d->ws, key, DEFLATE_LEVEL);
	link_setup(d);
	buf_init(&d->out, OUT_CAP);
	buf_init(&d->text, TEXT_CAP);
	arena_init(&d->scratch, SCRATCH_CAP);
	map_init(&d->pipes, PIPES_CAP, seed);
	list_init(&d->conns);
	list_init(&d->followers);
	list_init(&d->readers);
	d->request_base = rand_u64();
	return 0;
}

static void
drop_all(struct dock *d)
{
	struct list *l = d->conns.next;

	while (l != &d->conns) {
		struct conn *c = LIST_OF(l, struct conn, link);
		l = l->next;
		conn_drop(c);
	}
}

void
dock_end(struct lane *lane)
{
	struct dock *d = dock_of(lane);

	for (size_t i = 0; i < d->listener_count; i++)
		listener_close(d->listeners[i]);
	d->listener_count = 0;
	drop_all(d);
	/* Streams close from the loop, and readers may still be at work. */
	for (int i = 0; i < 1000 && (!list_empty(&d->conns) || lookup_busy(d));
	     i++)
		loop_turn(lane->loop, i > 10);
	lookup_end(d);
	wsconn_lane_fini(&d->ws);
	buf_fini(&d->out);
	buf_fini(&d->text);
	arena_fini(&d->scratch);
	map_fini(&d->pipes);
	alloc_free(d->slots);
	alloc_free(d->generations);
	alloc_free(d->free_slots);
}

static void
on_accept(void *owner, struct stream *s)
{
	conn_new(owner, s);
}

int
dock_listen(struct dock *d, struct slice wish, int fd, char *why, size_t size)
{
	size_t comma = slice_find(wish, ',');
	struct slice address = slice_first(wish, comma);
	struct slice word = slice_from_at(wish, comma + 1);
	struct listen_config c = { .proxy = slice_eq(word, SL("proxy")),
		.reuse_port = d->server->settings.lanes > 1,
		.tls = d->server->tls,
		.inherited = fd >= 0,
		.fd = fd };
	char reason[LISTEN_WHY] = "", text[ADDR_TEXT];

	if (d->listener_count == LISTENS_MAX)
		return ERR_FULL;
	if ((word.len > 0 && !c.proxy) ||
	    (fd < 0 && addr_parse(address, &c.address) != 0)) {
		snprintf(why, size, "\"%.*s\" is not ADDRESS:PORT[,proxy]",
		    SLICE_FMT(wish));
		return ERR_INVALID;
	}
	int err = listener_open(d->lane.loop, &c, on_accept, d,
	    &d->listeners[d->listener_count], reason);
	if (err != 0) {
		snprintf(why, size, "%.*s: %s", SLICE_FMT(wish), reason);
		return err;
	}
	addr_format(
	    &listener_address(d->listeners[d->listener_count++])->sa, text);
	log_info("listening", kv_s("address", slice_from(text)),
	    kv_b("tls", c.tls != NULL), kv_b("proxy", c.proxy));
	return 0;
}

/* Events ------------------------------------------------------------------ */

struct event *
dock_event(struct dock *d, enum event_kind kind, struct arena **arena)
{
	struct arena *a = mailbox_arena(&d->lane.to_hub, MAIL_NORMAL);
	struct event_mail *m = a == NULL ? NULL : arena_alloc(a, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->event.kind = kind;
	m->event.at = clock_wall();
	if (arena != NULL)
		*arena = a;
	return &m->event;
}

int
dock_post(struct dock *d, struct event *ev)
{
	struct event_mail *m = LIST_OF(ev, struct event_mail, event);
	int err = mailbox_put(&d->lane.to_hub, MAIL_NORMAL, &m->mail);

	if (err != 0)
		log_warn("hub_overloaded", kv_e("err", err));
	return err;
}

struct conn *
dock_find(struct dock *d, struct peer_id peer)
{
	if (peer.slot >= d->slot_count ||
	    d->generations[peer.slot] != peer.generation)
		return NULL;
	return d->slots[peer.slot];
}

/* Effects -------------------------------------------------------------------
 */

static void
do_send(struct dock *d, const struct effect *e)
{
	struct conn *c = dock_find(d, e->peer);

	if (c != NULL && !c->ending)
		c->role->event(c, e->event);
}

static void
do_close(struct dock *d, const struct effect *e)
{
	struct conn *c = dock_find(d, e->peer);

	if (c != NULL && !c->ending)
		c->role->close(c, e->close.code, e->close.reason);
}

static void
do_publish(struct dock *d, const struct effect *e)
{
	follow_publish(d, e->event);
}

static void
do_stream(struct dock *d, const struct effect *e)
{
	pipe_order(d, e->peer, &e->stream);
}

static void
do_nothing(struct dock *d, const struct effect *e)
{
	(void)d;
	(void)e;
}

static void (*const actions[])(struct dock *d, const struct effect *e) = {
	[EFFECT_SEND] = do_send,
	[EFFECT_CLOSE] = do_close,
	[EFFECT_STORE] = do_nothing, /* the core's own */
	[EFFECT_PUBLISH] = do_publish,
	[EFFECT_STREAM] = do_stream,
	[EFFECT_OUTPUT] = do_nothing, /* the core's own */
};

void
dock_mail(struct lane *lane, struct mail *mail)
{
	struct dock *d = dock_of(lane);
	struct effect_mail *m = (struct effect_mail *)(void *)mail;

	if (m->done != NULL) {
		pipe_stored(d, m->done);
		writer_done_free(m->done);
		return;
	}
	actions[m->effect->kind](d, m->effect);
	batch_drop(m->batch);
}
