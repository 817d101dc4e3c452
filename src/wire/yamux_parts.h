/*
 * yamux_parts: what yamux.c and yamux_feed.c share, and nobody else.
 *
 * Window arithmetic of a receiving stream, in bytes:
 *
 *     target      what we are willing to have outstanding
 *     credit      what the peer may still send
 *     held        what was delivered and not yet consumed
 *
 * credit + held <= target always.  The rest may be granted; it is, when it
 * has come to half of target, by one frame whose length is worked out at the
 * moment it is written.  So any number of consumes cost one frame, and what
 * a stream has to say fits in flag bits: nothing is queued per event but
 * pongs, pings, go-aways and resets, whose record is gone when they leave.
 *
 * An event may make the owner reset the very stream the current frame is
 * for; therefore each step looks the stream up again by id.
 */
#ifndef WIRE_YAMUX_PARTS_H
#define WIRE_YAMUX_PARTS_H

#include "wire/yamux.h"

enum { TYPE_DATA, TYPE_WINDOW, TYPE_PING, TYPE_GOAWAY, TYPES };

enum { FLAG_SYN = 1, FLAG_ACK = 2, FLAG_FIN = 4, FLAG_RST = 8 };

/* What a stream is and has to say. */
enum {
	OURS = 1,         /* opened here */
	UNACKED = 2,      /* ours: no ACK yet */
	UNACCEPTED = 4,   /* theirs: the owner has not answered */
	REMOTE_FIN = 8,   /* the peer has ended its direction */
	LOCAL_FIN = 16,   /* the owner has ended ours */
	FIN_SENT = 32,    /* and the peer has been told */
	SAY_SYN = 64,     /* with the next frame */
	SAY_ACK = 128,    /* with the next frame */
	SAY_WINDOW = 256, /* a grant is due */
	PENDING = 512     /* linked in yamux.pending */
};

struct yamux_stream {
	void *user; /* borrowed */
	struct list link;
	uint32_t id;
	uint32_t window; /* we may still send */
	uint32_t credit;
	uint32_t held;
	uint32_t target;
	uint32_t granted; /* time of the last grant, its low 32 bits */
	uint16_t flags;
};

struct yamux_frame {
	uint8_t type;
	uint16_t flags;
	uint32_t id;
	uint32_t length;
};

struct yamux_stream *yamux_stream_find(const struct yamux *s, uint32_t id);

/* NULL without memory. */
struct yamux_stream *yamux_stream_add(
    struct yamux *s, uint32_t id, uint16_t flags);

/* Take one of UNACKED and UNACCEPTED off. */
void yamux_stream_clear(
    struct yamux *s, struct yamux_stream *st, uint16_t flag);
void yamux_stream_drop(struct yamux *s, struct yamux_stream *st);

/* Whether nothing more can happen to it; then it is gone. */
bool yamux_stream_settle(struct yamux *s, struct yamux_stream *st);

/* End the session: one ERROR event, and a go-away where it has a reader. */
void yamux_fail(struct yamux *s, int err);

/* A control frame that belongs to no stream (any more). */
void yamux_queue(struct yamux *s, const struct yamux_frame *f);
void yamux_queue_reset(struct yamux *s, uint32_t id);

static inline size_t
yamux_waiting(const struct yamux *s)
{
	return s->out.tail - s->out.head;
}

#endif
