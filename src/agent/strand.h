/*
 * strand: the end of one stream of a link's session, on this side (agent).
 *
 * What a stream is for is a kind (exec, forward) with a table of calls; the
 * link has the session, decides who sends when, and knows strands alone.
 * Embed one first thing in each kind.
 *
 * Life: made by the kind with strand_init, known to the link by its id ->
 * feed, ended, put, look in any order -> free, once, by the link.
 */
#ifndef AGENT_STRAND_H
#define AGENT_STRAND_H

#include <stdint.h>

#include "base/slice.h"

#include "wire/sched.h"

struct strand;

struct strand_ops {
	/* Bytes from the controller.  0, or ERR_* and the stream is reset. */
	int (*feed)(struct strand *s, struct slice data);
	/* The controller sends no more. */
	void (*ended)(struct strand *s);
	/* Write up to room bytes to be sent next, *n of them; 0 is nothing
	 * for now.  0, or ERR_* and the stream is reset. */
	int (*put)(struct strand *s, uint8_t *out, size_t room, size_t *n);
	/* The window is open again, or something else may have changed. */
	void (*look)(struct strand *s);
	/* All is sent, and no more will come from us. */
	bool (*done)(struct strand *s);
	/* NULL: never.  Both directions have ended, and yet it has something
	 * to pass on; it calls drop later. */
	bool (*lingers)(struct strand *s);
	/* It is over, for whatever reason; the record is gone. */
	void (*free)(struct strand *s);
	/* Calls consume itself, when bytes have been passed on; else they
	 * count as consumed when feed returns. */
	bool own_pace;
};

/* What the strands of one link share: borrowed by them. */
struct strand_home {
	struct sched sched;
	/* Somebody has something to send. */
	void (*wake)(struct strand_home *h);
	/* n bytes that were fed have been passed on. */
	void (*consume)(struct strand_home *h, uint32_t id, size_t n);
	/* Open a stream for s: 0 and s->id, or ERR_*. */
	int (*open)(struct strand_home *h, struct strand *s);
	/* Reset the stream, and free s.  Not from inside its own calls. */
	void (*drop)(struct strand_home *h, struct strand *s);
};

struct strand {
	struct sched_item turn;
	const struct strand_ops *ops;
	struct strand_home *home; /* borrowed */
	uint32_t id;              /* of the stream */
	bool finished;            /* by the link: our direction was ended */
	bool peer_ended;          /* the other one, too */
};

void strand_init(struct strand *s, const struct strand_ops *ops,
    struct strand_home *home, uint32_t id);

/* It has something of this class to send; TURN_IDLE: nothing. */
void strand_set(struct strand *s, enum sched_turn class);

/* Before its memory goes. */
void strand_fini(struct strand *s);

#endif
