/*
 * backoff: how long to wait before the next try (agent).
 *
 * Pure; the caller gives randomness.  Waits double from the least to the
 * most and are shortened by up to half, so that a fleet that lost its
 * controller at one moment does not come back at one moment.
 */
#ifndef AGENT_BACKOFF_H
#define AGENT_BACKOFF_H

#include <stdint.h>

#include "base/heap.h"

enum backoff_kind {
	BACKOFF_LOST,    /* 1 s to 60 s: it will be there again */
	BACKOFF_REFUSED, /* 5 min to 1 h: somebody must do something */
	BACKOFF_KINDS,
};

struct backoff {
	uint8_t tries[BACKOFF_KINDS];
};

/* After a connection that was good. */
void backoff_reset(struct backoff *b);

/* The next wait, of half to all of the doubled time. */
msec backoff_next(struct backoff *b, enum backoff_kind kind, uint32_t random);

/* What Retry-After asks for, or a little more; at most an hour. */
msec backoff_asked(msec retry_after, uint32_t random);

#endif
