/*
 * Design notes.  What a new stream is for stands in its first two bytes.
 * Until they are there it is a newcomer; then a strand of its kind takes its
 * place, and gets them again.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "io/log.h"
#include "wire/opening.h"

#include "agent/uplink_parts.h"

/* Strands -------------------------------------------------------------------
 */

static void
forget(struct uplink *u, struct strand *s)
{
	yamux_set_user(&u->mux, s->id, NULL);
	s->ops->free(s);
	u->streams--;
}

void
uplink_end_streams(struct uplink *u)
{
	struct strand **all;
	size_t pos = 0, n = 0;
	uint32_t id;
	void *user;

	if (u->streams == 0)
		return;
	all = alloc_array(u->streams, sizeof(struct strand *));
	while (yamux_walk(&u->mux, &pos, &id, &user)) {
		struct strand *s = user;
		if (s == NULL)
			continue;
		if (all != NULL)
			all[n++] = s;
		else /* the record goes with the session anyway */
			s->ops->free(s);
	}
	while (n > 0)
		forget(u, all[--n]);
	alloc_free(all);
	u->streams = 0;
}

void
uplink_reset(struct uplink *u, struct strand *s, int err)
{
	log_warn("stream_reset", kv_u("stream", s->id), kv_e("err", err));
	yamux_reset(&u->mux, s->id);
	forget(u, s);
}

/* Our side of the stream has said all: end it, and forget it if the other
 * side has ended, too. */
void
uplink_finish(struct uplink *u, struct strand *s)
{
	if (!s->finished) {
		s->finished = true;
		(void)yamux_finish(&u->mux, s->id);
		s->ops->look(s);
	}
	if (s->peer_ended && (s->ops->lingers == NULL || !s->ops->lingers(s)))
		forget(u, s);
}

/* What strands ask of the link ----------------------------------------------
 */

static struct uplink *
uplink_of(struct strand_home *h)
{
	return LIST_OF(h, struct uplink, strands);
}

static void
on_wake(struct strand_home *h)
{
	uplink_want(uplink_of(h));
}

/* What must be said about it leaves with the next pull. */
static void
stir(struct uplink *u)
{
	if (yamux_has_out(&u->mux))
		uplink_want(u);
}

static void
on_consume(struct strand_home *h, uint32_t id, size_t n)
{
	struct uplink *u = uplink_of(h);

	yamux_consume(&u->mux, id, n, loop_now(&u->agent->loop));
	stir(u);
}

static bool
has_room(const struct uplink *u)
{
	return u->state == UPLINK_UP && u->streams < u->agent->policy.streams;
}

static int
on_open(struct strand_home *h, struct strand *s)
{
	struct uplink *u = uplink_of(h);
	int err = has_room(u) ? yamux_open(&u->mux, s, &s->id) : ERR_FULL;

	if (err == 0)
		u->streams++;
	return err;
}

static void
on_drop(struct strand_home *h, struct strand *s)
{
	struct uplink *u = uplink_of(h);

	/* One that has ended both ways may still have to say so. */
	if (!s->finished || !s->peer_ended)
		yamux_reset(&u->mux, s->id);
	forget(u, s);
	stir(u);
}

void
uplink_open_strands(struct uplink *u)
{
	sched_init(&u->strands.sched);
	u->strands.wake = on_wake;
	u->strands.consume = on_consume;
	u->strands.open = on_open;
	u->strands.drop = on_drop;
}

/* Newcomers -----------------------------------------------------------------
 */

struct newcomer {
	struct strand strand; /* first */
	struct uplink *uplink;
	uint8_t begun[2];
	size_t len;
};

static int newcomer_feed(struct strand *s, struct slice data);

static void
newcomer_free(struct strand *s)
{
	alloc_free(LIST_OF(s, struct newcomer, strand));
}

static void
newcomer_nothing(struct strand *s)
{
	(void)s;
}

static const struct strand_ops newcomer_ops = {
	.feed = newcomer_feed,
	.ended = newcomer_nothing,
	.look = newcomer_nothing,
	.free = newcomer_free,
	.own_pace = true, /* whoever comes after it consumes */
};

/* What it was fed and hands on later. */
static size_t
newcomer_kept(const struct strand *s)
{
	return s->ops == &newcomer_ops
	    ? ((const struct newcomer *)(const void *)s)->len
	    : 0;
}

static int
make_kind(struct uplink *u, const struct newcomer *c, struct strand **out)
{
	bool ours = c->begun[0] == 2;

	*out = NULL;
	if (ours && c->begun[1] == OPENING_KIND_EXEC)
		*out = exec_new(&u->execs, &u->strands, c->strand.id);
	else if (c->begun[0] == 1 ||
	    (ours &&
		(c->begun[1] == OPENING_KIND_TCP ||
		    c->begun[1] == OPENING_KIND_UDP)))
		*out = forwards_strand(&u->forwards, c->strand.id);
	else
		return ERR_UNSUPPORTED;
	return *out == NULL ? ERR_NOMEM : 0;
}

/* Another strand takes the place of this one, which is gone then. */
static int
newcomer_feed(struct strand *s, struct slice data)
{
	struct newcomer *c = LIST_OF(s, struct newcomer, strand);
	struct uplink *u = c->uplink;
	struct strand *kind;

	while (c->len < sizeof(c->begun) && data.len > 0) {
		c->begun[c->len++] = data.ptr[0];
		data = slice_from_at(data, 1);
	}
	if (c->len < sizeof(c->begun))
		return 0;
	int err = make_kind(u, c, &kind);
	if (err != 0)
		return err;
	yamux_set_user(&u->mux, s->id, kind);
	err =
	    kind->ops->feed(kind, (struct slice){ c->begun, sizeof(c->begun) });
	newcomer_free(s);
	if (err == 0 && data.len > 0)
		err = kind->ops->feed(kind, data);
	return err;
}

static void
on_opened(struct uplink *u, uint32_t id)
{
	struct newcomer *c = has_room(u) ? alloc_new(sizeof(*c)) : NULL;

	if (c == NULL || yamux_accept(&u->mux, id, &c->strand) != 0) {
		alloc_free(c);
		yamux_reset(&u->mux, id);
		return;
	}
	strand_init(&c->strand, &newcomer_ops, &u->strands, id);
	c->uplink = u;
	u->streams++;
}

/* Events --------------------------------------------------------------------
 */

static void
on_data(struct uplink *u, struct strand *s, const struct yamux_event *ev)
{
	msec now = loop_now(&u->agent->loop);

	if (s == NULL) {
		yamux_consume(&u->mux, ev->id, ev->data.len, now);
		return;
	}
	size_t n = ev->data.len + newcomer_kept(s);
	int err = s->ops->feed(s, ev->data);
	s = yamux_user(&u->mux, ev->id); /* it may have become another */
	if (s != NULL && !s->ops->own_pace)
		yamux_consume(&u->mux, ev->id, n, now);
	if (err != 0 && s != NULL)
		uplink_reset(u, s, err);
}

static void
on_fin(struct uplink *u, struct strand *s)
{
	if (s == NULL)
		return;
	/* Whatever it was to be. */
	if (s->ops == &newcomer_ops) {
		uplink_reset(u, s, ERR_PROTOCOL);
		return;
	}
	s->peer_ended = true;
	s->ops->ended(s);
	if (s->finished)
		uplink_finish(u, s);
}

static void
on_mux(struct uplink *u, const struct yamux_event *ev)
{
	struct strand *s = ev->user;

	if (ev->kind == YAMUX_OPENED)
		on_opened(u, ev->id);
	else if (ev->kind == YAMUX_DATA)
		on_data(u, s, ev);
	else if (ev->kind == YAMUX_WRITABLE && s != NULL)
		s->ops->look(s);
	else if (ev->kind == YAMUX_FIN)
		on_fin(u, s);
	else if (ev->kind == YAMUX_RST && s != NULL)
		forget(u, s);
	else if (ev->kind == YAMUX_ERROR)
		uplink_lost(u, BACKOFF_LOST, "the session broke: %s",
		    err_name(ev->err));
}

void
uplink_mux_events(struct uplink *u)
{
	struct yamux_event ev;

	while (u->ws_open && yamux_next(&u->mux, &ev))
		on_mux(u, &ev);
	if (u->ws_open && yamux_has_out(&u->mux))
		uplink_want(u);
}
