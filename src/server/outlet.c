/*
 * Design notes.  What leaves at once is put together as a list of heads and
 * borrowed bytes (struct frames) and written in one call; only then are the
 * outlets told, because what they are told may make them forget the bytes.
 * Meanwhile an outlet that leaves takes itself off the list of those to be
 * told.  `busy` keeps what they do in these calls from sending: the loop
 * that called them sends it.
 */
#include "base/err.h"

#include "server/outlet.h"

enum {
	FRAME_MAX = 16 * 1024,
	FRAMES = STREAM_PARTS / 2,
	SMALL = 4096, /* what is short and waited for */
};

/* One WebSocket message each: its head with the yamux head, and bytes. */
struct frames {
	struct trunk *trunk;
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
now_of(const struct trunk *t)
{
	return loop_now(t->conn->dock->lane.loop);
}

/* One outlet --------------------------------------------------------------- */

void
outlet_init(struct outlet *o, const struct outlet_ops *ops)
{
	*o = (struct outlet){ .ops = ops };
	list_init(&o->of_trunk);
	list_init(&o->sending);
	sched_item_init(&o->turn);
}

static void
join(struct outlet *o, struct trunk *t)
{
	o->trunk = t;
	o->taken = 0;
	list_push(&t->outlets, &o->of_trunk);
}

int
outlet_open(struct outlet *o, struct trunk *t)
{
	if (t->conn->ending)
		return ERR_GONE;
	int err = yamux_open(&t->mux, o, &o->stream);

	if (err == 0)
		join(o, t);
	return err;
}

void
outlet_take(struct outlet *o, struct trunk *t, uint32_t id)
{
	o->stream = id;
	yamux_set_user(&t->mux, id, o);
	join(o, t);
}

void
outlet_accept(struct outlet *o)
{
	if (o->trunk != NULL)
		yamux_accept(&o->trunk->mux, o->stream, o);
}

static void
take_off(struct outlet *o)
{
	sched_set(&o->trunk->sched, &o->turn, TURN_IDLE);
	list_remove(&o->of_trunk);
	list_remove(&o->sending);
	o->taken = 0;
	o->trunk = NULL;
}

void
outlet_leave(struct outlet *o)
{
	struct trunk *t = o->trunk;

	if (t == NULL)
		return;
	take_off(o);
	if (t->conn->ending)
		return;
	yamux_reset(&t->mux, o->stream);
	trunk_flush(t);
}

void
outlet_part(struct outlet *o)
{
	struct trunk *t = o->trunk;

	if (t == NULL)
		return;
	take_off(o);
	/* Its record is there until our end is said. */
	yamux_set_user(&t->mux, o->stream, NULL);
	trunk_flush(t);
}

void
outlet_consume(struct outlet *o, size_t n)
{
	if (o->trunk == NULL || n == 0)
		return;
	yamux_consume(&o->trunk->mux, o->stream, n, now_of(o->trunk));
	trunk_flush(o->trunk);
}

void
outlet_finish(struct outlet *o)
{
	if (o->trunk == NULL)
		return;
	yamux_finish(&o->trunk->mux, o->stream);
	trunk_flush(o->trunk);
}

/* What may be sent of what waits, beyond what is framed. */
static struct slice
sendable(const struct outlet *o, struct slice waiting)
{
	struct slice left = slice_from_at(waiting, o->taken);

	return slice_first(left, yamux_window(&o->trunk->mux, o->stream));
}

static void
place(struct outlet *o, struct slice waiting)
{
	size_t left = waiting.len - o->taken;
	enum sched_turn class = TURN_IDLE;

	if (sendable(o, waiting).len > 0)
		class = left <= SMALL ? o->ops->small : TURN_BULK;
	sched_set(&o->trunk->sched, &o->turn, class);
}

void
outlet_wake(struct outlet *o)
{
	if (o->trunk == NULL || o->trunk->conn->ending)
		return;
	place(o, o->ops->waiting(o));
	trunk_flush(o->trunk);
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
	size_t n = wsconn_head(f->trunk->ws, &h, to);

	if (head != NULL)
		memcpy(to + n, head, YAMUX_HEAD);
	f->parts[2 * f->count] = (struct slice){ to, n + len };
	f->parts[2 * f->count + 1] = bytes;
	f->bytes += bytes.len;
	f->count++;
}

/* False when the connection is over. */
static bool
write_frames(struct frames *f)
{
	size_t count = f->count;

	f->count = 0;
	f->bytes = 0;
	return count == 0 ||
	    conn_write_parts(f->trunk->conn, f->parts, 2 * count);
}

/* Yamux's own words; no data may pass them.  False when the connection is over.
 */
static bool
send_control(struct trunk *t)
{
	struct frames f = { .trunk = t };

	while (!t->conn->ending && yamux_has_out(&t->mux)) {
		struct slice out = slice_first(yamux_out(&t->mux), FRAME_MAX);
		put_frame(&f, NULL, out);
		if (!write_frames(&f))
			return false;
		yamux_sent(&t->mux, out.len);
	}
	return !t->conn->ending;
}

/* One frame of the outlet's bytes: its length. */
static size_t
frame_one(struct frames *f, struct outlet *o, struct slice bytes)
{
	uint8_t head[YAMUX_HEAD];

	bytes = slice_first(bytes, FRAME_MAX);
	if (bytes.len == 0 ||
	    yamux_put_head(
		&f->trunk->mux, o->stream, (uint32_t)bytes.len, head) != 0)
		return 0;
	put_frame(f, head, bytes);
	return bytes.len;
}

/* Frames of whoever is next, up to room bytes. */
static void
gather(struct frames *f, struct list *sending, size_t room)
{
	struct sched *s = &f->trunk->sched;
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
send_streams(struct trunk *t, size_t room)
{
	struct frames f = { .trunk = t };
	struct list sending;
	size_t bytes = 1;

	list_init(&sending);
	while (room > 0 && bytes > 0 && !t->conn->ending) {
		gather(&f, &sending, room);
		bytes = f.bytes;
		room -= bytes;
		write_frames(&f);
		t->busy = true;
		tell_sent(&sending);
		t->busy = false;
	}
}

void
trunk_pull(struct trunk *t, size_t room)
{
	if (!send_control(t))
		return;
	send_streams(t, room);
	/* What ended meanwhile has left a word to say. */
	if (send_control(t))
		stream_want(t->conn->stream, sched_any(&t->sched));
}

void
trunk_flush(struct trunk *t)
{
	if (t->conn->ending || t->busy)
		return;
	if (yamux_has_out(&t->mux) || sched_any(&t->sched))
		stream_want(t->conn->stream, true);
}

/* Frames for one writable event, from where the bytes lie: how many went. */
static size_t
write_from(struct outlet *o, struct slice bytes)
{
	struct frames f = { .trunk = o->trunk };
	size_t n;

	while (f.bytes < STREAM_PULL_MAX &&
	    (n = frame_one(&f, o,
		 slice_first(bytes, yamux_window(&o->trunk->mux, o->stream)))) >
		0)
		bytes = slice_from_at(bytes, n);
	n = f.bytes;
	write_frames(&f);
	return n;
}

size_t
outlet_write(struct outlet *o, struct slice bytes)
{
	struct trunk *t = o->trunk;
	size_t went = 0, n;

	/* What is short costs nothing to copy, and leaves with the rest. */
	if (t == NULL || t->busy || bytes.len <= STREAM_COPY_MAX)
		return 0;
	if (sched_any(&t->sched))
		return 0;
	/* As long as the socket takes all, nobody is kept waiting. */
	while (went < bytes.len && !t->conn->ending &&
	    stream_queued(t->conn->stream) == 0 && send_control(t)) {
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
	take_off(o);
	o->ops->lost(o, why);
}

static void
on_event(struct trunk *t, const struct yamux_event *ev)
{
	struct outlet *o = ev->user;

	switch (ev->kind) {
	case YAMUX_OPENED:
		t->ops->opened(t, ev->id);
		break;
	case YAMUX_DATA:
		if (o == NULL)
			yamux_reset(&t->mux, ev->id);
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
		/* It hears why. */
		if (send_control(t))
			t->ops->failed(t, ev->err);
		break;
	case YAMUX_ACKED:
	case YAMUX_PONG:
	case YAMUX_GOAWAY:
		break;
	}
}

static void
drain(struct trunk *t)
{
	struct yamux_event ev;

	t->busy = true;
	while (!t->conn->ending && yamux_next(&t->mux, &ev))
		on_event(t, &ev);
	t->busy = false;
}

void
trunk_feed(struct trunk *t, struct slice data)
{
	yamux_feed(&t->mux, data, now_of(t));
	drain(t);
}

void
trunk_expire(struct trunk *t)
{
	if (yamux_deadline(&t->mux) > now_of(t))
		return;
	yamux_expire(&t->mux, now_of(t));
	drain(t);
	trunk_flush(t);
}

void
trunk_start(struct trunk *t, const struct yamux_config *config)
{
	list_init(&t->outlets);
	sched_init(&t->sched);
	t->busy = false;
	stream_set_bite(t->conn->stream, STREAM_BITE);
	yamux_init(&t->mux, YAMUX_SERVER, config, now_of(t));
}

void
trunk_end(struct trunk *t)
{
	while (!list_empty(&t->outlets))
		on_lost(LIST_OF(t->outlets.next, struct outlet, of_trunk),
		    ERR_CLOSED);
	yamux_fini(&t->mux);
}
