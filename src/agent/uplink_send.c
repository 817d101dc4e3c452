/*
 * Design notes.  Nothing is written ahead: the connection asks by pull when
 * the kernel has room, and gets at most that much, so whatever is urgent
 * waits for no more than one pull.  Order: control text, yamux's own frames,
 * what streams have to say soon, bulk.  A WebSocket message is one yamux
 * frame of at most 16 KiB, read from the spool to where it is masked and
 * sent from.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/log.h"

#include "agent/uplink_parts.h"

enum {
	FRAME_HEAD = 8, /* of a client's message of 126 to 65,535 bytes */
	SMALL_HEAD = 6, /* of a shorter one */
	SMALL_BODY = 125,
	BODY_MAX = YAMUX_FRAME_MAX - YAMUX_HEAD,
	ROOM_LEAST = 1024, /* less is not worth a frame */
};

void
uplink_want(struct uplink *u)
{
	if (u->carrier != NULL && u->ws_open)
		stream_want(u->carrier->stream, true);
}

void
uplink_say(struct uplink *u, struct slice text)
{
	if (!u->ws_open)
		return;
	int err = wsconn_send(&u->ws, &u->text, WS_TEXT, text, true);
	if (err != 0 && err != ERR_CLOSED) {
		uplink_lost(u, BACKOFF_LOST, "cannot queue a message: %s",
		    err_name(err));
		return;
	}
	uplink_want(u);
}

/* A head in front of len bytes at body, which are masked; its length. */
static size_t
put_ws_head(struct uplink *u, uint8_t *body, size_t len)
{
	struct ws_head head = {
		.len = len,
		.opcode = WS_BINARY,
		.fin = true,
	};
	uint8_t bytes[WS_HEAD_MAX];
	size_t n = wsconn_head(&u->ws, &head, bytes);

	assert(n <= FRAME_HEAD);
	memcpy(body - n, bytes, n);
	(void)ws_mask(body, len, head.mask, 0);
	return n;
}

/* The frame is at its place but for the width of its head: close up. */
static void
commit(struct buf *out, uint8_t *at, size_t head, size_t body)
{
	if (head < FRAME_HEAD)
		memmove(at, at + (FRAME_HEAD - head), head + body);
	buf_commit(out, head + body);
}

/* Text and the machine's own frames.  False when some remain. */
static bool
take_text(struct uplink *u, size_t room)
{
	struct slice own = wsconn_out(&u->ws);

	if (own.len > 0) {
		buf_put(&u->text, own);
		wsconn_sent(&u->ws, own.len);
	}
	struct slice s = slice_first(buf_peek(&u->text), room);
	buf_put(&u->cork, s);
	buf_eat(&u->text, s.len);
	if (buf_peek(&u->text).len > 0)
		return false;
	buf_clear(&u->text);
	return true;
}

/* Yamux's own frames.  False when some remain: no data may pass them. */
static bool
take_control(struct uplink *u, size_t room)
{
	struct slice s;

	while ((s = yamux_out(&u->mux)).len > 0) {
		size_t used = buf_peek(&u->cork).len;
		if (used + ROOM_LEAST > room)
			return false;
		s = slice_first(s, room - used - FRAME_HEAD);
		s = slice_first(s, YAMUX_FRAME_MAX);
		uint8_t *at = buf_reserve(&u->cork, FRAME_HEAD + s.len);
		if (at == NULL)
			return false;
		memcpy(at + FRAME_HEAD, s.ptr, s.len);
		commit(&u->cork, at, put_ws_head(u, at + FRAME_HEAD, s.len),
		    s.len);
		yamux_sent(&u->mux, s.len);
	}
	return true;
}

/* One frame of a stream.  0, or why the stream is to be reset. */
static int
take_frame(struct uplink *u, struct strand *e, size_t room, size_t *n)
{
	size_t window = yamux_window(&u->mux, e->id);
	size_t most = room - FRAME_HEAD - YAMUX_HEAD;

	if (most > BODY_MAX)
		most = BODY_MAX;
	if (most > window)
		most = window;
	uint8_t *at = buf_reserve(&u->cork, FRAME_HEAD + YAMUX_HEAD + most);
	if (at == NULL)
		return ERR_NOMEM;
	uint8_t *body = at + FRAME_HEAD;
	int err = e->ops->put(e, body + YAMUX_HEAD, most, n);
	if (err != 0 || *n == 0)
		return err;
	err = yamux_put_head(&u->mux, e->id, (uint32_t)*n, body);
	if (err != 0)
		return err;
	size_t len = YAMUX_HEAD + *n;
	commit(&u->cork, at, put_ws_head(u, body, len), len);
	return 0;
}

static void
take_stream(struct uplink *u, struct sched_item *item, size_t room)
{
	struct strand *e = LIST_OF(item, struct strand, turn);
	struct sched *s = &u->strands.sched;
	size_t n = 0;

	if (e->ops->done(e)) {
		sched_set(s, item, TURN_IDLE);
		uplink_finish(u, e);
		return;
	}
	if (yamux_window(&u->mux, e->id) == 0) {
		/* YAMUX_WRITABLE brings it back. */
		sched_set(s, item, TURN_IDLE);
		return;
	}
	int err = take_frame(u, e, room, &n);
	if (err != 0)
		uplink_reset(u, e, err);
	else if (n > 0)
		sched_spent(s, item, n);
	else if (!e->ops->done(e)) /* it may just have found its end */
		sched_set(s, item, TURN_IDLE);
}

static void
take_streams(struct uplink *u, size_t room)
{
	struct sched_item *item;
	size_t used;

	while ((used = buf_peek(&u->cork).len) + ROOM_LEAST <= room &&
	    (item = sched_next(&u->strands.sched)) != NULL)
		take_stream(u, item, room - used);
}

void
uplink_pull(struct uplink *u, size_t room)
{
	if (!u->ws_open)
		return;
	if (take_text(u, room) && u->state == UPLINK_UP &&
	    take_control(u, room)) {
		take_streams(u, room);
		/* What the streams brought up: ends, resets. */
		(void)take_control(u, room);
	}
	struct slice s = buf_peek(&u->cork);
	int err = u->cork.err;
	if (err == 0 && s.len > 0)
		err = stream_write(u->carrier->stream, s);
	buf_clear(&u->cork);
	/* An idle link keeps no buffer. */
	if (buf_peek(&u->text).len == 0 && !sched_any(&u->strands.sched)) {
		buf_fini(&u->cork);
		buf_init(&u->cork, 2 * STREAM_PULL_MAX);
	}
	if (err != 0)
		uplink_lost(u, BACKOFF_LOST, "cannot send: %s", err_name(err));
	else
		uplink_rearm(u);
}
