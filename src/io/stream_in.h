/*
 * stream_in: what the files of io/stream share (floor: io; private).
 *
 * Design notes.  What a stream has to send is one list of spans.  A span is
 * bytes of its own or a reference into a chunk.  Those written in this loop
 * turn lie in the lane's cork, one after the other, of whatever stream; at
 * the end of the turn each stream that has any ("dirty") sends its list in
 * one call, and what the socket did not take moves to spans on the heap, so
 * that the cork is empty for the next turn.  So heap spans always precede
 * cork spans in a list.  Nothing is allocated for a stream that waits.
 *
 * Callbacks happen in two places only: on_poll (read, eof) and the end of
 * the turn (pull, drained).  closed comes from the handle's close callback.
 */
#ifndef IO_STREAM_IN_H
#define IO_STREAM_IN_H

#include <netinet/in.h>
#include <uv.h>

#include "base/list.h"

#include "io/loop.h"
#include "io/stream.h"

struct tls_link;

struct span {
	struct span *next;
	struct chunk *chunk; /* held; NULL: the bytes are here */
	uint32_t from;       /* first unsent byte */
	uint32_t end;        /* one past the last */
	uint32_t room;       /* bytes at bytes */
	uint8_t bytes[];
};

enum {
	SPAN_MAX =
	    64 * 1024 - 64, /* bytes of a heap span: below malloc's mmap */
	SPAN_MIN = 2 * 1024,
	SPAN_SPARE = 32,  /* full-size spans a lane keeps for reuse */
	CHUNK_COPY = 256, /* shorter parts of chunks are copied */
	WHEEL = 16,       /* seconds a time-out can be */
	SHAKES = 16,      /* TLS handshake steps a turn */
};

/* What the streams of one loop share. */
struct stream_lane {
	struct loop *loop; /* borrowed */
	uint8_t *receive;  /* owned */
	uint8_t *cork;     /* owned */
	size_t corked;     /* bytes of it in use */
	struct span *top;  /* the newest span in it */
	struct list dirty; /* streams with something to do at the turn's end */
	struct list wheel[WHEEL];
	size_t waiting; /* streams on the wheel */
	unsigned hand;
	unsigned shakes; /* done in this turn */
	uint8_t *record; /* owned; to put a TLS record together */
	struct span *spare;
	unsigned spares;
	struct loop_timer tick;
	struct loop_task end;
	struct loop_task sleep;
};

enum stream_state {
	STREAM_OPEN,
	STREAM_FLUSHING,  /* closed by us; what is queued still goes */
	STREAM_LINGERING, /* all sent; the peer's FIN is awaited */
	STREAM_DEAD,      /* the handle is closing */
};

struct stream {
	uv_poll_t poll; /* data: the owner */
	const struct stream_ops *ops;
	struct stream_lane *lane; /* NULL while detached */
	struct tls_link *tls;     /* owned; NULL when plain */
	struct span *first, *last;
	struct list link; /* lane's dirty list or wheel */
	uint32_t queued;  /* bytes in spans */
	uint32_t cap;
	uint32_t bite; /* most that is read at a time */
	uint32_t low, high;
	int fd;
	int16_t why;
	uint8_t state; /* enum stream_state */
	uint8_t mask;  /* what the poll handle watches */
	bool dirty : 1;
	bool waiting : 1; /* on the wheel */
	bool reading : 1; /* the owner takes bytes */
	bool eof : 1;
	bool hup : 1;     /* a FIN was seen while nothing was read */
	bool blocked : 1; /* the socket was full */
	bool want : 1;
	bool above : 1;   /* above high; drained is owed */
	bool shut : 1;    /* no more writes; FIN when flushed */
	bool fin : 1;     /* FIN is sent */
	bool shaking : 1; /* in a TLS handshake */
	bool vain : 1;    /* the last writable event brought nothing to do */
	bool armed : 1;   /* to be finished when writable */
	bool wrote : 1;   /* something was written since the bit was cleared */
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} remote;
};

/* stream_lane.c */

/* The lane of a loop, made at first use; NULL without memory. */
struct stream_lane *lane_of(struct loop *l);
/* Have stream_finish called at the end of this turn. */
void lane_mark(struct stream *s);
void lane_unlink(struct stream *s);
/* stream_expire in seconds (1 to WHEEL - 1) unless unlinked. */
void lane_wait(struct stream *s, unsigned seconds);
/* Send what all have and empty the cork; calls nobody. */
void lane_flush_all(struct stream_lane *lane);

/* stream_queue.c */

/* Copy head and body, or reference [from, from+len) of c after head. */
int span_put(struct stream *s, struct slice head, struct slice body);
int span_refer(struct stream *s, struct slice head, struct chunk *c,
    size_t from, size_t len);
/* Keep bytes on the heap, at the end of a list without cork spans. */
int span_keep2(struct stream *s, struct slice head, struct slice body);
/* Move what is left in the cork to the heap. */
int span_settle(struct stream *s);
void span_eat(struct stream *s, size_t n);
void span_drop_all(struct stream *s);
struct slice span_bytes(const struct span *p);
void span_free_spares(struct stream_lane *lane);

/* stream.c */

/* Send what the socket takes; calls nobody.  0, or ERR_* and s has failed. */
int stream_flush(struct stream *s);
/* The turn's end for one stream: flush, drained, pull. */
void stream_finish(struct stream *s);
void stream_expire(struct stream *s);
void stream_fail(struct stream *s, int why);
void stream_watch(struct stream *s);
/* The peer has ended its side. */
void stream_ended(struct stream *s);

static inline void *
stream_owner(const struct stream *s)
{
	return s->poll.data;
}

#endif
