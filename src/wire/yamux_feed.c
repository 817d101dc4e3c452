/* What comes in: frames to events. */
#include <assert.h>

#include "base/err.h"
#include "wire/be.h"

#include "wire/yamux_parts.h"

enum { COURTESY_FRAMES = 64 }; /* resets of streams that never were */

static void
due(struct yamux *s, enum yamux_event_kind kind)
{
	s->todo |= (uint16_t)(1 << kind);
}

/* Whether the stream could have existed: late frames for it are normal. */
static bool
is_past(const struct yamux *s, uint32_t id)
{
	return (id & 1) == (s->next_id & 1) ? id < s->next_id
					    : id <= s->last_id;
}

/*
 * A frame for no stream.  After a reset or a close such frames are late and
 * mean nothing; for a stream that never was, the sender is told, as long as
 * it listens.
 */
static void
on_unknown(struct yamux *s, const struct yamux_frame *f)
{
	if ((f->flags & FLAG_RST) == 0 && !is_past(s, f->id) &&
	    yamux_waiting(s) < COURTESY_FRAMES * (size_t)YAMUX_HEAD)
		yamux_queue_reset(s, f->id);
}

/* Whether a new stream came of it. */
static bool
on_syn(struct yamux *s, const struct yamux_frame *f)
{
	if ((f->id & 1) == (s->next_id & 1) ||
	    yamux_stream_find(s, f->id) != NULL) {
		yamux_fail(s, ERR_PROTOCOL);
		return false;
	}
	if (f->id > s->last_id)
		s->last_id = f->id;
	if ((f->flags & FLAG_RST) != 0)
		return false;
	if (s->goaway_sent || s->theirs >= s->config.streams_max ||
	    s->unaccepted >= s->config.backlog ||
	    yamux_stream_add(s, f->id, UNACCEPTED) == NULL) {
		yamux_queue_reset(s, f->id);
		return false;
	}
	due(s, YAMUX_OPENED);
	return true;
}

static void
on_data(struct yamux *s, struct yamux_stream *st, const struct yamux_frame *f)
{
	if (f->length > st->credit) {
		yamux_fail(s, ERR_PROTOCOL);
	} else if (f->length > 0 && (st->flags & REMOTE_FIN) != 0) {
		yamux_queue_reset(s, st->id);
		s->value = (uint32_t)-ERR_PROTOCOL;
		due(s, YAMUX_RST);
	} else {
		s->discard = false;
	}
}

static void
on_window(struct yamux *s, struct yamux_stream *st, const struct yamux_frame *f)
{
	if (f->length > UINT32_MAX - st->window) {
		yamux_fail(s, ERR_PROTOCOL);
		return;
	}
	if (st->window == 0 && f->length > 0 && (st->flags & LOCAL_FIN) == 0)
		due(s, YAMUX_WRITABLE);
	st->window += f->length;
}

static void
on_stream_flags(struct yamux *s, struct yamux_stream *st, uint16_t flags)
{
	if ((flags & FLAG_ACK) != 0 && (st->flags & UNACKED) != 0) {
		yamux_stream_clear(s, st, UNACKED);
		due(s, YAMUX_ACKED);
	}
	if ((flags & FLAG_FIN) != 0 && (st->flags & REMOTE_FIN) == 0)
		s->after = 1 << YAMUX_FIN;
}

static void
on_stream(struct yamux *s, const struct yamux_frame *f)
{
	if (f->id == 0) {
		yamux_fail(s, ERR_PROTOCOL);
		return;
	}
	s->id = f->id;
	s->left = f->type == TYPE_DATA ? f->length : 0;
	s->discard = true;
	s->value = 0;
	if ((f->flags & FLAG_SYN) != 0 && !on_syn(s, f))
		return;
	struct yamux_stream *st = yamux_stream_find(s, f->id);
	if (st == NULL) {
		on_unknown(s, f);
		return;
	}
	if ((f->flags & FLAG_RST) != 0) {
		due(s, YAMUX_RST);
		return;
	}
	on_stream_flags(s, st, f->flags);
	if (f->type == TYPE_DATA)
		on_data(s, st, f);
	else
		on_window(s, st, f);
}

/* The smoothed round trip follows a shorter one at once, a longer slowly. */
static void
on_pong(struct yamux *s, uint32_t id)
{
	if (!s->pinging || id != s->ping_id)
		return;
	msec sample = s->now - s->pinged;
	s->pinging = false;
	if (s->rtt < 0 || sample < s->rtt)
		s->rtt = sample;
	else
		s->rtt += (sample - s->rtt) / 4;
	s->value = (uint32_t)sample;
	due(s, YAMUX_PONG);
}

static void
on_ping(struct yamux *s, const struct yamux_frame *f)
{
	struct yamux_frame pong = { TYPE_PING, FLAG_ACK, 0, f->length };

	if ((f->flags & FLAG_SYN) != 0)
		yamux_queue(s, &pong);
	else if ((f->flags & FLAG_ACK) != 0)
		on_pong(s, f->length);
}

static void
on_goaway(struct yamux *s, const struct yamux_frame *f)
{
	s->goaway_got = true;
	s->value = f->length;
	if (f->length != YAMUX_NORMAL)
		yamux_fail(s, ERR_CLOSED);
	due(s, YAMUX_GOAWAY);
}

static void
on_frame(struct yamux *s, const uint8_t *head)
{
	static void (*const handlers[TYPES])(
	    struct yamux *, const struct yamux_frame *) = {
		[TYPE_DATA] = on_stream,
		[TYPE_WINDOW] = on_stream,
		[TYPE_PING] = on_ping,
		[TYPE_GOAWAY] = on_goaway,
	};
	struct yamux_frame f = { .type = head[1],
		.flags = be_get16(head + 2),
		.id = be_get32(head + 4),
		.length = be_get32(head + 8) };

	s->after = 0;
	if (head[0] != 0 || f.type >= TYPES) {
		yamux_fail(s, ERR_PROTOCOL);
		return;
	}
	handlers[f.type](s, &f);
	if (s->left == 0) {
		s->todo |= s->after;
		s->after = 0;
	}
}

/* Read a head, in place when it is whole; false when it is not all there. */
static bool
read_head(struct yamux *s)
{
	if (s->head_len == 0 && s->in.len >= YAMUX_HEAD) {
		const uint8_t *head = s->in.ptr;
		s->in = slice_from_at(s->in, YAMUX_HEAD);
		on_frame(s, head);
		return true;
	}
	struct slice part = slice_first(s->in, YAMUX_HEAD - s->head_len);
	if (part.len == 0)
		return false;
	memcpy(s->head + s->head_len, part.ptr, part.len);
	s->head_len = (uint8_t)(s->head_len + part.len);
	s->in = slice_from_at(s->in, part.len);
	if (s->head_len < YAMUX_HEAD)
		return false;
	s->head_len = 0;
	on_frame(s, s->head);
	return true;
}

/* Over the cap on held bytes, and st holds more than its share. */
static bool
hoards(const struct yamux *s, const struct yamux_stream *st, size_t n)
{
	return s->held + n > s->config.held_max &&
	    st->held + n > s->config.held_max / s->config.streams_max / 2;
}

/* Take payload; whether it makes a DATA event. */
static bool
read_payload(struct yamux *s, struct yamux_event *ev)
{
	struct slice part = slice_first(s->in, s->left);
	struct yamux_stream *st =
	    s->discard ? NULL : yamux_stream_find(s, s->id);

	s->in = slice_from_at(s->in, part.len);
	s->left -= (uint32_t)part.len;
	if (s->left == 0) {
		s->todo |= s->after;
		s->after = 0;
	}
	if (st == NULL) {
		s->discard = true;
		return false;
	}
	if (hoards(s, st, part.len)) {
		s->discard = true;
		yamux_queue_reset(s, st->id);
		s->value = (uint32_t)-ERR_LIMITED;
		due(s, YAMUX_RST);
		return false;
	}
	st->credit -= (uint32_t)part.len;
	st->held += (uint32_t)part.len;
	s->held += part.len;
	*ev = (struct yamux_event){
		.kind = YAMUX_DATA, .id = st->id, .user = st->user, .data = part
	};
	return true;
}

/* The events of the session itself; the rest concern a stream. */
static bool
emit_session(
    struct yamux *s, enum yamux_event_kind kind, struct yamux_event *ev)
{
	ev->kind = kind;
	if (kind == YAMUX_PONG)
		ev->rtt = s->value;
	else if (kind == YAMUX_GOAWAY)
		ev->code = s->value;
	else
		ev->err = s->err;
	return true;
}

/* Make the event, unless the owner has reset its stream meanwhile. */
static bool
emit(struct yamux *s, enum yamux_event_kind kind, struct yamux_event *ev)
{
	*ev = (struct yamux_event){ 0 };
	if (kind >= YAMUX_PONG)
		return emit_session(s, kind, ev);
	struct yamux_stream *st = yamux_stream_find(s, s->id);
	if (st == NULL)
		return false;
	*ev = (struct yamux_event){
		.kind = kind, .id = st->id, .user = st->user
	};
	if (kind == YAMUX_FIN) {
		st->flags |= REMOTE_FIN;
		yamux_stream_settle(s, st);
	} else if (kind == YAMUX_RST) {
		ev->err = -(int)s->value;
		yamux_stream_drop(s, st);
	}
	return true;
}

bool
yamux_next(struct yamux *s, struct yamux_event *ev)
{
	for (;;) {
		if (s->todo != 0) {
			int kind = __builtin_ctz(s->todo);
			s->todo &= (uint16_t)(s->todo - 1);
			if (emit(s, (enum yamux_event_kind)kind, ev))
				return true;
		} else if (s->left > 0) {
			if (s->in.len == 0)
				return false;
			if (read_payload(s, ev))
				return true;
		} else if (!read_head(s)) {
			return false;
		}
	}
}

void
yamux_feed(struct yamux *s, struct slice in, msec now)
{
	assert(s->in.len == 0);
	s->now = now;
	if (in.len > 0)
		s->heard = now;
	if (s->err == 0)
		s->in = in;
}
