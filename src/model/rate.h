/*
 * rate: how much a console dashboard may say (floor: model; docs/api.md).
 *
 * Sliding windows, each of 60 slots, so that a message counts for at most
 * one slot longer than its window.  What is refused does not count.  A type
 * with limits of its own is held to those and to everybody's together only.
 */
#ifndef MODEL_RATE_H
#define MODEL_RATE_H

#include <stdbool.h>

#include "base/heap.h"

enum rate_class {
	RATE_GENERAL,
	RATE_COMMAND,   /* command:request */
	RATE_HEARTBEAT, /* heartbeat:ping */
	RATE_EXEMPT,    /* what ends things: never refused, never counted */
	RATE_CLASSES
};

enum { RATE_SLOTS = 60, RATE_REFUSALS = 5 };

struct rate_window {
	int64_t newest; /* number of the slot last written to */
	uint32_t total;
	uint16_t counts[RATE_SLOTS];
};

/* Of one connection; all zero to begin with. */
struct rate {
	struct rate_window second; /* general messages only */
	struct rate_window minute[RATE_EXEMPT];
	struct rate_window hour[RATE_EXEMPT];
	msec refused[RATE_REFUSALS]; /* the last ones, in a ring */
	uint32_t refusals;
};

/* Of all connections together; all zero to begin with. */
struct rate_all {
	struct rate_window minute;
	struct rate_window hour;
};

struct rate_use {
	uint32_t used;
	uint32_t limit;
};

struct rate_verdict {
	bool ok;
	bool close;           /* refused too often: it has to go */
	uint32_t retry_after; /* seconds, when refused */
	struct rate_use second;
	struct rate_use minute;
	struct rate_use hour;
};

/* One message at a time that does not go back.  Counts it when it is let
 * through. */
void rate_ask(struct rate *r, struct rate_all *all, enum rate_class class,
    msec now, struct rate_verdict *out);

/* A window by itself: whether one more fits in, and that one came. */
struct rate_limit {
	msec span;
	uint32_t limit; /* at most 65,535 a slot */
};
bool rate_fits(
    struct rate_window *w, const struct rate_limit *l, msec now, msec *wait);
void rate_count(struct rate_window *w, const struct rate_limit *l, msec now);

#endif
