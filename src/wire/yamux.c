#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/be.h"

#include "wire/yamux_parts.h"

enum {
	SPARE_FRAMES = 1024, /* pongs and resets that may wait */
	SHOWN_MAX = 4096,    /* control frames are made up to about here */
	KEPT_MAX = 4096      /* memory of out that is kept when drained */
};

const struct yamux_config yamux_defaults = {
	.streams_max = 4096,
	.backlog = 256,
	.window_max = 4 * 1024 * 1024,
	.growth_max = 16 * 1024 * 1024,
	.held_max = 64 * 1024 * 1024,
	.keepalive = 30000,
	.timeout = 30000,
	.seed = UINT64_C(0x9e3779b97f4a7c15),
};

/* Streams ----------------------------------------------------------------- */

struct yamux_stream *
yamux_stream_find(const struct yamux *s, uint32_t id)
{
	return idtable_get(&s->streams, id);
}

struct yamux_stream *
yamux_stream_add(struct yamux *s, uint32_t id, uint16_t flags)
{
	struct yamux_stream *st = alloc_new(sizeof(*st));

	if (st == NULL || idtable_put(&s->streams, id, st) != 0) {
		alloc_free(st);
		return NULL;
	}
	st->id = id;
	st->flags = flags;
	st->window = st->credit = st->target = YAMUX_WINDOW;
	st->granted = (uint32_t)s->now;
	list_init(&st->link);
	s->ours += (flags & OURS) != 0;
	s->theirs += (flags & OURS) == 0;
	s->unacked += (flags & UNACKED) != 0;
	s->unaccepted += (flags & UNACCEPTED) != 0;
	return st;
}

void
yamux_stream_clear(struct yamux *s, struct yamux_stream *st, uint16_t flag)
{
	if ((st->flags & flag) == 0)
		return;
	st->flags &= (uint16_t)~flag;
	s->unacked -= flag == UNACKED;
	s->unaccepted -= flag == UNACCEPTED;
}

void
yamux_stream_drop(struct yamux *s, struct yamux_stream *st)
{
	yamux_stream_clear(s, st, UNACKED);
	yamux_stream_clear(s, st, UNACCEPTED);
	s->ours -= (st->flags & OURS) != 0;
	s->theirs -= (st->flags & OURS) == 0;
	s->held -= st->held;
	s->growth -= st->target - YAMUX_WINDOW;
	list_remove(&st->link);
	idtable_del(&s->streams, st->id);
	alloc_free(st);
}

bool
yamux_stream_settle(struct yamux *s, struct yamux_stream *st)
{
	const uint16_t over = REMOTE_FIN | FIN_SENT;

	if ((st->flags & over) != over || st->held > 0)
		return false;
	yamux_stream_drop(s, st);
	return true;
}

/* What is to be written --------------------------------------------------- */

static void
encode(uint8_t *out, const struct yamux_frame *f)
{
	out[0] = 0; /* version */
	out[1] = f->type;
	be_put16(out + 2, f->flags);
	be_put32(out + 4, f->id);
	be_put32(out + 8, f->length);
}

static void
put_frame(struct yamux *s, const struct yamux_frame *f)
{
	uint8_t head[YAMUX_HEAD];

	encode(head, f);
	buf_put(&s->out, (struct slice){ head, sizeof(head) });
}

void
yamux_fail(struct yamux *s, int err)
{
	struct yamux_frame last = { .type = TYPE_GOAWAY,
		.length = err == ERR_NOMEM ? YAMUX_INTERNAL_ERROR
					   : YAMUX_PROTOCOL_ERROR };

	if (s->err != 0)
		return;
	s->err = err;
	s->in = (struct slice){ 0 };
	s->left = 0;
	s->after = 0;
	s->todo = 1 << YAMUX_ERROR;
	/* A dead peer hears nothing, one that said go-away knows. */
	if (err != ERR_TIMEOUT && err != ERR_CLOSED)
		put_frame(s, &last);
}

/* One place in out is always left for the last go-away. */
void
yamux_queue(struct yamux *s, const struct yamux_frame *f)
{
	if (s->err != 0)
		return;
	if (yamux_waiting(s) + 2 * YAMUX_HEAD > s->out.cap) {
		yamux_fail(s, ERR_LIMITED);
		return;
	}
	put_frame(s, f);
	if (s->out.err != 0)
		yamux_fail(s, ERR_NOMEM);
}

void
yamux_queue_reset(struct yamux *s, uint32_t id)
{
	struct yamux_frame f = { TYPE_WINDOW, FLAG_RST, id, 0 };

	yamux_queue(s, &f);
}

static void
want(struct yamux *s, struct yamux_stream *st, uint16_t flag)
{
	st->flags |= flag;
	if ((st->flags & PENDING) != 0)
		return;
	st->flags |= PENDING;
	list_push(&s->pending, &st->link);
}

/* SYN or ACK, owed with the first frame of either type. */
static uint16_t
owed_flags(struct yamux_stream *st)
{
	uint16_t flags = 0;

	if ((st->flags & SAY_SYN) != 0)
		flags |= FLAG_SYN;
	if ((st->flags & SAY_ACK) != 0)
		flags |= FLAG_ACK;
	st->flags &= (uint16_t) ~(SAY_SYN | SAY_ACK);
	return flags;
}

static uint32_t
take_grant(struct yamux_stream *st)
{
	uint32_t delta = 0;

	if ((st->flags & (SAY_WINDOW | REMOTE_FIN)) == SAY_WINDOW)
		delta = st->target - st->credit - st->held;
	st->flags &= (uint16_t)~SAY_WINDOW;
	st->credit += delta;
	return delta;
}

/* All that st has to say, in one frame; st may be gone afterwards. */
static void
say(struct yamux *s, struct yamux_stream *st)
{
	struct yamux_frame f = { .type = TYPE_WINDOW, .id = st->id };

	list_remove(&st->link);
	st->flags &= (uint16_t)~PENDING;
	f.flags = owed_flags(st);
	f.length = take_grant(st);
	if ((st->flags & (LOCAL_FIN | FIN_SENT)) == LOCAL_FIN) {
		st->flags |= FIN_SENT;
		f.flags |= FLAG_FIN;
	}
	if (f.flags != 0 || f.length != 0)
		yamux_queue(s, &f);
	yamux_stream_settle(s, st);
}

struct slice
yamux_out(struct yamux *s)
{
	while (s->err == 0 && yamux_waiting(s) < SHOWN_MAX &&
	    !list_empty(&s->pending))
		say(s, LIST_OF(s->pending.next, struct yamux_stream, link));
	s->shown = yamux_waiting(s);
	return buf_peek(&s->out);
}

void
yamux_sent(struct yamux *s, size_t n)
{
	assert(n <= s->shown);
	buf_eat(&s->out, n);
	s->shown -= n;
	if (yamux_waiting(s) > 0)
		return;
	if (s->out.alloc > KEPT_MAX) {
		size_t cap = s->out.cap;
		buf_fini(&s->out);
		buf_init(&s->out, cap);
	} else {
		s->out.head = s->out.tail = 0;
	}
}

bool
yamux_has_out(const struct yamux *s)
{
	return yamux_waiting(s) > 0 ||
	    (s->err == 0 && !list_empty(&s->pending));
}

/* The session ------------------------------------------------------------- */

void
yamux_init(struct yamux *s, enum yamux_role role,
    const struct yamux_config *config, msec now)
{
	*s = (struct yamux){ .config = *config,
		.role = role,
		.next_id = role == YAMUX_CLIENT ? 1 : 2,
		.now = now,
		.heard = now,
		.pinged = now - config->keepalive,
		.rtt = -1 };
	assert(config->streams_max > 0 && config->streams_max < 1U << 24 &&
	    config->window_max >= YAMUX_WINDOW &&
	    config->window_max <= INT32_MAX);
	idtable_init(&s->streams, config->seed);
	list_init(&s->pending);
	/* Each stream may be reset at once, beside what the peer causes. */
	buf_init(&s->out,
	    ((size_t)config->streams_max * 2 + SPARE_FRAMES) * YAMUX_HEAD);
}

void
yamux_fini(struct yamux *s)
{
	size_t pos = 0;

	for (void *st; (st = idtable_next(&s->streams, &pos)) != NULL;)
		alloc_free(st);
	idtable_fini(&s->streams);
	buf_fini(&s->out);
	*s = (struct yamux){ 0 };
	list_init(&s->pending);
}

int
yamux_error(const struct yamux *s)
{
	return s->err;
}

int
yamux_open(struct yamux *s, void *user, uint32_t *id)
{
	if (s->err != 0 || s->goaway_got || s->goaway_sent)
		return ERR_CLOSED;
	if (s->unacked >= s->config.backlog)
		return ERR_BUSY;
	if (s->ours >= s->config.streams_max)
		return ERR_FULL;
	if (s->next_id >= UINT32_MAX - 1)
		return ERR_RANGE;
	struct yamux_stream *st =
	    yamux_stream_add(s, s->next_id, OURS | UNACKED);
	if (st == NULL)
		return ERR_NOMEM;
	s->next_id += 2;
	st->user = user;
	want(s, st, SAY_SYN);
	*id = st->id;
	return 0;
}

int
yamux_accept(struct yamux *s, uint32_t id, void *user)
{
	struct yamux_stream *st = yamux_stream_find(s, id);

	if (st == NULL)
		return ERR_GONE;
	assert((st->flags & UNACCEPTED) != 0);
	yamux_stream_clear(s, st, UNACCEPTED);
	st->user = user;
	want(s, st, SAY_ACK);
	return 0;
}

void *
yamux_user(const struct yamux *s, uint32_t id)
{
	struct yamux_stream *st = yamux_stream_find(s, id);

	return st == NULL ? NULL : st->user;
}

void
yamux_set_user(struct yamux *s, uint32_t id, void *user)
{
	struct yamux_stream *st = yamux_stream_find(s, id);

	if (st != NULL)
		st->user = user;
}

int
yamux_finish(struct yamux *s, uint32_t id)
{
	struct yamux_stream *st = yamux_stream_find(s, id);

	if (st == NULL)
		return ERR_GONE;
	if ((st->flags & LOCAL_FIN) != 0)
		return ERR_WRONG_STATE;
	want(s, st, LOCAL_FIN);
	return 0;
}

void
yamux_reset(struct yamux *s, uint32_t id)
{
	const uint16_t over = REMOTE_FIN | FIN_SENT;
	struct yamux_stream *st = yamux_stream_find(s, id);

	if (st == NULL)
		return;
	/* A stream that the peer has not heard of, or has forgotten, needs
	 * no frame. */
	if ((st->flags & SAY_SYN) == 0 && (st->flags & over) != over)
		yamux_queue_reset(s, id);
	yamux_stream_drop(s, st);
}

/*
 * A window that is drained by half within two round trips is what limits the
 * stream (a full one would take half a round trip), so double it.
 */
static void
grow(struct yamux *s, struct yamux_stream *st, msec now)
{
	uint32_t took = (uint32_t)now - st->granted;
	uint32_t more = s->config.window_max - st->target;
	msec rtt = s->rtt > 0 ? s->rtt : 1;

	st->granted = (uint32_t)now;
	if (more > st->target)
		more = st->target;
	if (s->rtt < 0 || took > 2 * rtt ||
	    s->growth + more > s->config.growth_max)
		return;
	st->target += more;
	s->growth += more;
}

void
yamux_consume(struct yamux *s, uint32_t id, size_t n, msec now)
{
	struct yamux_stream *st = yamux_stream_find(s, id);

	if (st == NULL)
		return;
	assert(n <= st->held);
	st->held -= (uint32_t)n;
	s->held -= n;
	if (yamux_stream_settle(s, st) ||
	    (st->flags & (REMOTE_FIN | SAY_WINDOW)) != 0)
		return;
	if (st->target - st->credit - st->held < st->target / 2)
		return;
	grow(s, st, now);
	want(s, st, SAY_WINDOW);
}

uint32_t
yamux_window(const struct yamux *s, uint32_t id)
{
	const struct yamux_stream *st =
	    s->err == 0 ? yamux_stream_find(s, id) : NULL;

	return st == NULL || (st->flags & LOCAL_FIN) != 0 ? 0 : st->window;
}

int
yamux_put_head(
    struct yamux *s, uint32_t id, uint32_t len, uint8_t out[YAMUX_HEAD])
{
	struct yamux_stream *st = s->err == 0 ? yamux_stream_find(s, id) : NULL;

	assert(s->shown == 0);
	if (st == NULL)
		return ERR_GONE;
	if ((st->flags & LOCAL_FIN) != 0)
		return ERR_WRONG_STATE;
	if (len > st->window)
		return ERR_FULL;
	st->window -= len;
	struct yamux_frame f = { TYPE_DATA, owed_flags(st), id, len };
	encode(out, &f);
	return 0;
}

int
yamux_ping(struct yamux *s, msec now)
{
	struct yamux_frame f = { TYPE_PING, FLAG_SYN, 0, s->ping_id + 1 };

	if (s->err != 0)
		return ERR_CLOSED;
	if (s->pinging)
		return ERR_BUSY;
	s->ping_id++;
	s->pinging = true;
	s->pinged = s->now = now;
	yamux_queue(s, &f);
	return s->err != 0 ? ERR_CLOSED : 0;
}

void
yamux_goaway(struct yamux *s, enum yamux_code code)
{
	struct yamux_frame f = { TYPE_GOAWAY, 0, 0, code };

	if (s->err != 0 || (s->goaway_sent && code == YAMUX_NORMAL))
		return;
	s->goaway_sent = true;
	yamux_queue(s, &f);
	if (code != YAMUX_NORMAL)
		yamux_fail(s, ERR_CLOSED);
}

msec
yamux_deadline(const struct yamux *s)
{
	if (s->err != 0 || s->config.keepalive == 0)
		return INT64_MAX;
	if (!s->pinging)
		return s->pinged + s->config.keepalive;
	/* Any byte is a sign of life; the answer may be behind much data. */
	return (s->heard > s->pinged ? s->heard : s->pinged) +
	    s->config.timeout;
}

void
yamux_expire(struct yamux *s, msec now)
{
	if (now < yamux_deadline(s))
		return;
	if (s->pinging)
		yamux_fail(s, ERR_TIMEOUT);
	else
		yamux_ping(s, now);
}

bool
yamux_walk(const struct yamux *s, size_t *pos, uint32_t *id, void **user)
{
	const struct yamux_stream *st = idtable_next(&s->streams, pos);

	if (st == NULL)
		return false;
	*id = st->id;
	*user = st->user;
	return true;
}
