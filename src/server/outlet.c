/*
 * Design notes.  What leaves at once is put together as a list of heads and
 * borrowed bytes (struct frames) and written in one call; only then are the
 * outlets told, because what they are told may make them forget the bytes.
 * Meanwhile an outlet that leaves takes itself off the list of those to be
 * told.  `busy` keeps what they do in these calls from sending: the loop
 * that called them sends it.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "io/log.h"

#include "server/flow.h"

#include "server/outlet.h"

enum {
	FRAME_MAX = 16 * 1024,
	FRAMES = STREAM_PARTS / 2,
	SMALL = 4096, /* what is short and waited for */
};

/* One WebSocket message each: its head with the yamux head, and bytes. */
struct frames {
	struct link_conn *link;
	size_t count;
	size_t bytes; /* without heads */
	struct slice parts[2 * FRAMES];
	uint8_t heads[FRAMES][WS_HEAD_MAX + YAMUX_HEAD];
};

static struct outlet *
outlet_of(struct sched_item *i)
{
	return LIST_OF(i, struct outlet, turn);
}

static msec
now_of(const struct link_conn *l)
{
	return loop_now(l->conn->dock->lane.loop);
}

/* One outlet --------------------------------------------------------------- */

void
outlet_init(struct outlet *o, const struct outlet_ops *ops)
{
	*o = (struct outlet){ .ops = ops };
	list_init(&o->of_link);
	list_init(&o->sending);
	sched_item_init(&o->turn);
}

static void
join(struct outlet *o, struct link_conn *l)
{
	o->link = l;
	o->taken = 0;
	list_push(&link_streams(l)->outlets, &o->of_link);
}

int
outlet_open(struct outlet *o, struct link_conn *l)
{
	if (l->mux == NULL || l->conn->ending)
		return ERR_GONE;
	int err = yamux_open(l->mux, o, &o->stream);

	if (err == 0)
		join(o, l);
	return err;
}

void
outlet_take(struct outlet *o, struct link_conn *l, uint32_t id)
{
	o->stream = id;
	yamux_set_user(l->mux, id, o);
	join(o, l);
}

static void
unlink_outlet(struct outlet *o)
{
	sched_set(&link_streams(o->link)->sched, &o->turn, TURN_IDLE);
	list_remove(&o->of_link);
	list_remove(&o->sending);
	o->taken = 0;
	o->link = NULL;
}

void
outlet_leave(struct outlet *o)
{
	struct link_conn *l = o->link;

	if (l == NULL)
		return;
	unlink_outlet(o);
	if (l->conn->ending)
		return;
	yamux_reset(l->mux, o->stream);
	link_flush(l);
}

void
outlet_part(struct outlet *o)
{
	struct link_conn *l = o->link;

	if (l == NULL)
		return;
	unlink_outlet(o);
	/* Its record is there until our end is said. */
	yamux_set_user(l->mux, o->stream, NULL);
	link_flush(l);
}

/* What may be sent of what waits, beyond what is framed. */
static struct slice
sendable(const struct outlet *o, struct slice waiting)
{
	struct slice left = slice_from_at(waiting, o->taken);

	return slice_first(left, yamux_window(o->link->mux, o->stream));
}

static void
place(struct outlet *o, struct slice waiting)
{
	size_t left = waiting.len - o->taken;
	enum sched_turn class = TURN_IDLE;

	if (sendable(o, waiting).len > 0)
		class = left <= SMALL ? o->ops->small : TURN_BULK;
	sched_set(&link_streams(o->link)->sched, &o->turn, class);
}

void
outlet_wake(struct outlet *o)
{
	if (o->link == NULL || o->link->conn->ending)
		return;
	place(o, o->ops->waiting(o));
	link_flush(o->link);
}

/* Sending ------------------------------------------------------------------ */

static void
put_frame(struct frames *f, const uint8_t *head, struct slice bytes)
{
	uint8_t *to = f->heads[f->count];
	size_t len = head == NULL ? 0 : YAMUX_HEAD;
	struct ws_head h = {
		.len = len + bytes.len, .opcode = WS_BINARY, .fin = true
	};
	size_t n = wsconn_head(&f->link->ws, &h, to);

	if (head != NULL)
		memcpy(to + n, head, YAMUX_HEAD);
	f->parts[2 * f->count] = (struct slice){ to, n + len };
	f->parts[2 * f->count + 1] = bytes;
	f->bytes += bytes.len;
	f->count++;
}

/* False when the link is over. */
static bool
write_frames(struct frames *f)
{
	size_t count = f->count;

	f->count = 0;
	f->bytes = 0;
	return count == 0 ||
	    conn_write_parts(f->link->conn, f->parts, 2 * count);
}

/* Yamux's own words; no data may pass them.  False when the link is over. */
static bool
send_control(struct link_conn *l)
{
	struct frames f = { .link = l };

	while (!l->conn->ending && yamux_has_out(l->mux)) {
		struct slice out = slice_first(yamux_out(l->mux), FRAME_MAX);
		put_frame(&f, NULL, out);
		if (!write_frames(&f))
			return false;
		yamux_sent(l->mux, out.len);
	}
	return !l->conn->ending;
}

/* One frame of the outlet's bytes: its length. */
static size_t
frame_one(struct frames *f, struct outlet *o, struct slice bytes)
{
	uint8_t head[YAMUX_HEAD];

	bytes = slice_first(bytes, FRAME_MAX);
	if (bytes.len == 0 ||
	    yamux_put_head(
		f->link->mux, o->stream, (uint32_t)bytes.len, head) != 0)
		return 0;
	put_frame(f, head, bytes);
	return bytes.len;
}

/* Frames of whoever is next, up to room bytes. */
static void
gather(struct frames *f, struct list *sending, size_t room)
{
	struct sched *s = &link_streams(f->link)->sched;
	struct sched_item *item;

	while (f->count < FRAMES && f->bytes < room &&
	    (item = sched_next(s)) != NULL) {
		struct outlet *o = outlet_of(item);
		struct slice waiting = o->ops->waiting(o);
		size_t n = frame_one(
		    f, o, slice_first(sendable(o, waiting), room - f->bytes));
		if (n > 0 && o->taken == 0)
			list_push(sending, &o->sending);
		o->taken += n;
		enum sched_turn was = item->class;
		place(o, waiting);
		if (item->class == was)
			sched_spent(s, item, n);
	}
}

/* Tell all whose bytes have left. */
static void
tell_sent(struct list *sending)
{
	struct list *i;

	while ((i = list_pop(sending)) != NULL) {
		struct outlet *o = LIST_OF(i, struct outlet, sending);
		size_t n = o->taken;
		o->taken = 0;
		o->ops->sent(o, n);
	}
}

static void
send_streams(struct link_conn *l, size_t room)
{
	struct link_streams *s = link_streams(l);
	struct frames f = { .link = l };
	struct list sending;
	size_t bytes = 1;

	list_init(&sending);
	while (room > 0 && bytes > 0 && !l->conn->ending) {
		gather(&f, &sending, room);
		bytes = f.bytes;
		room -= bytes;
		write_frames(&f);
		s->busy = true;
		tell_sent(&sending);
		s->busy = false;
	}
}

void
outlets_pull(struct link_conn *l, size_t room)
{
	if (l->mux == NULL || !send_control(l))
		return;
	send_streams(l, room);
	/* What ended meanwhile has left a word to say. */
	if (send_control(l))
		stream_want(
		    l->conn->stream, sched_any(&link_streams(l)->sched));
}

void
link_flush(struct link_conn *l)
{
	if (l->mux == NULL || l->conn->ending || link_streams(l)->busy)
		return;
	if (yamux_has_out(l->mux) || sched_any(&link_streams(l)->sched))
		stream_want(l->conn->stream, true);
}

/* Frames for one writable event, from where the bytes lie: how many went. */
static size_t
write_from(struct outlet *o, struct slice bytes)
{
	struct frames f = { .link = o->link };
	size_t n;

	while (f.bytes < STREAM_PULL_MAX &&
	    (n = frame_one(&f, o,
		 slice_first(bytes, yamux_window(o->link->mux, o->stream)))) >
		0)
		bytes = slice_from_at(bytes, n);
	n = f.bytes;
	write_frames(&f);
	return n;
}

size_t
outlet_write(struct outlet *o, struct slice bytes)
{
	struct link_conn *l = o->link;
	size_t went = 0, n;

	/* What is short costs nothing to copy, and leaves with the rest. */
	if (l == NULL || link_streams(l)->busy || bytes.len <= STREAM_COPY_MAX)
		return 0;
	if (sched_any(&link_streams(l)->sched))
		return 0;
	/* As long as the socket takes all, nobody is kept waiting. */
	while (went < bytes.len && !l->conn->ending &&
	    stream_queued(l->conn->stream) == 0 && send_control(l)) {
		n = write_from(o, slice_from_at(bytes, went));
		if (n == 0)
			break;
		went += n;
	}
	return went;
}

/* The session -------------------------------------------------------------- */

static void
on_lost(struct outlet *o, int why)
{
	unlink_outlet(o);
	o->ops->lost(o, why);
}

static void
on_failed(struct link_conn *l, int err)
{
	log_warn(
	    "mux_failed", kv_s("remote", link_remote(l)), kv_e("err", err));
	/* It hears why. */
	if (send_control(l))
		link_break(l, SL("yamux"), ERR_PROTOCOL);
}

static void
on_event(struct link_conn *l, const struct yamux_event *ev)
{
	struct outlet *o = ev->user;

	switch (ev->kind) {
	case YAMUX_OPENED:
		flow_opened(l, ev->id);
		break;
	case YAMUX_DATA:
		if (o == NULL)
			yamux_reset(l->mux, ev->id);
		else
			o->ops->data(o, ev->data);
		break;
	case YAMUX_FIN:
		if (o != NULL)
			o->ops->fin(o);
		break;
	case YAMUX_RST:
		if (o != NULL)
			on_lost(o, ev->err == 0 ? ERR_RESET : ev->err);
		break;
	case YAMUX_WRITABLE:
		if (o != NULL)
			outlet_wake(o);
		break;
	case YAMUX_ERROR:
		on_failed(l, ev->err);
		break;
	case YAMUX_ACKED:
	case YAMUX_PONG:
	case YAMUX_GOAWAY:
		break;
	}
}

static void
drain(struct link_conn *l)
{
	struct link_streams *s = link_streams(l);
	struct yamux_event ev;

	s->busy = true;
	while (!l->conn->ending && yamux_next(l->mux, &ev))
		on_event(l, &ev);
	s->busy = false;
}

void
outlets_feed(struct link_conn *l, struct slice data)
{
	yamux_feed(l->mux, data, now_of(l));
	drain(l);
}

void
outlets_expire(struct link_conn *l)
{
	if (l->mux == NULL || yamux_deadline(l->mux) > now_of(l))
		return;
	yamux_expire(l->mux, now_of(l));
	drain(l);
	link_flush(l);
}

int
outlets_start(struct link_conn *l, const struct yamux_config *config)
{
	struct link_streams *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return ERR_NOMEM;
	list_init(&s->outlets);
	list_init(&s->opening);
	list_init(&s->listeners);
	sched_init(&s->sched);
	l->mux = &s->mux;
	yamux_init(l->mux, YAMUX_SERVER, config, now_of(l));
	return 0;
}

void
outlets_end(struct link_conn *l)
{
	if (l->mux == NULL)
		return;
	struct link_streams *s = link_streams(l);

	while (!list_empty(&s->outlets))
		on_lost(LIST_OF(s->outlets.next, struct outlet, of_link),
		    ERR_CLOSED);
	/* They are ordered anew when the agent is back. */
	while (list_pop(&s->opening) != NULL)
		continue;
	yamux_fini(l->mux);
	l->mux = NULL;
	alloc_free(s);
}
