/*
 * forward_parts: the insides of a tunnel stream, shared by its files (agent).
 *
 *	forward.c         the stream: openings, bytes both ways, its end
 *	forward_all.c     what all have in common: stop, policy, idle, status
 *	forward_dial.c    from an opening to a connection, and the answer
 *	forward_udp.c     datagrams
 *	forward_listen.c  listeners and the streams that they open
 */
#ifndef AGENT_FORWARD_PARTS_H
#define AGENT_FORWARD_PARTS_H

#include "base/buf.h"
#include "io/addr.h"
#include "io/dgram.h"
#include "io/stream.h"
#include "wire/yamux.h"

#include "agent/forward.h"
#include "agent/forward_order.h"

enum {
	FORWARD_HELD = 256 * 1024,  /* of a service over TLS, not yet sent */
	FORWARD_HOLD = 64 * 1024,   /* beyond it TLS is not read */
	FORWARD_QUEUE = 256 * 1024, /* datagrams on their way to the link */
	FORWARD_MARK = 64 * 1024,   /* waiting for a service's socket */
	FORWARD_EARLY = YAMUX_WINDOW + 64 * 1024,
	FORWARD_ASK = 30 * 1000, /* for the answer to our own opening */
	FORWARD_HEAD = 2,        /* of a datagram in the stream */
};

enum forward_state {
	FORWARD_OPENING, /* the opening is not whole */
	FORWARD_COMING,  /* resolving, connecting, shaking hands */
	FORWARD_ASKING,  /* opened by us, not yet answered */
	FORWARD_OPEN,
	FORWARD_LISTENING,
	FORWARD_OVER, /* our direction ends, and what comes is for nobody */
};

struct approach;
struct listener;

struct forward {
	struct strand strand; /* first */
	struct forwards *all;
	struct list link;  /* of all */
	struct list owing; /* the same */
	struct forward_wish wish;
	uint8_t state;      /* enum forward_state */
	bool dead;          /* the strand is gone; sockets are closing */
	bool reverse;       /* opened by us */
	bool ready;         /* the service has sent, the kernel has it */
	bool brisk;         /* ...and it was silent before */
	bool paused;        /* reading is */
	bool counted;       /* among the open ones, or the listeners */
	bool eof;           /* the service sends no more */
	struct buf opening; /* until it is whole, then what came too early */
	struct buf small;   /* said before all else: answers, our openings */
	struct buf held;    /* from TLS; datagrams for the link */
	struct buf part;    /* udp: a datagram from the link, not yet whole */
	struct approach *approach; /* owned; COMING, ASKING */
	struct stream *stream;     /* until its closed */
	struct dgram *dgram;       /* the same */
	struct listener *listener; /* owned; LISTENING by tcp */
	struct forward *parent;    /* udp, reverse: whose socket it uses */
	union addr peer;           /* reverse: who came */
	union addr address;        /* dialled, or listened at */
	size_t owed;               /* fed and not yet consumed */
	msec since, last;          /* opened; moved bytes */
	uint64_t in, out;
};

/* forward.c */
struct forward *forward_make(struct forwards *all, uint32_t id);
void forward_look(struct forward *f);
/* Whether another may be opened. */
bool forward_room(const struct forwards *all);
void forward_count(struct forward *f, bool count);
/* Both ways are there: pass on what came early.  0 or ERR_*. */
int forward_begin(struct forward *f);
void forward_consume(struct forward *f, size_t n);
/* Reset the stream, and let go of the rest; not from inside its feed. */
void forward_cut(struct forward *f, const char *why);
/* A socket is closed: the memory goes when nothing else needs it. */
void forward_release(struct forward *f);
extern const struct stream_ops forward_stream_ops;

/* forward_all.c */

/* How many are open has changed. */
void forwards_watch(struct forwards *all);

/* forward_dial.c */

/* Resolve, judge, connect.  0, or ERR_DENIED with the refusal, or ERR_*; what
 * fails later is told by forward_refused. */
int forward_approach(struct forward *f, struct forward_refusal *no);
/* Say it, and that it is over; reset what has no answers. */
void forward_refused(struct forward *f, const struct forward_refusal *no);
/* Queue the answer that it is open. */
void forward_accepted(struct forward *f);
/* Cut it unless it is OPEN by then.  0 or ERR_*. */
int forward_await(struct forward *f, msec within);
void forward_approach_free(struct forward *f);

/* forward_udp.c */
int forward_udp_open(struct forward *f, const union addr *to);
int forward_udp_feed(struct forward *f, struct slice data);
/* Queue one for the link. */
void forward_udp_queue(struct forward *f, struct slice datagram);

/* forward_listen.c */
int forward_listen(struct forward *f, struct forward_refusal *no);
void forward_unlisten(struct forward *f);
int forward_answered(struct forward *f, struct slice data);

#endif
