/*
 * recent: the last events that a lane told, for followers that come back
 * (floor: server).
 *
 * Each has its place in the order in which they are told, without holes: a
 * number that does not follow on the last one empties the ring.  Bounded in
 * count and bytes; the oldest go first.
 */
#ifndef SERVER_RECENT_H
#define SERVER_RECENT_H

#include "base/slice.h"
#include "model/audience.h"

enum { RECENT_MAX = 1024, RECENT_BYTES = 512 * 1024 };

struct recent_event {
	struct audience_set seen_by;
	uint64_t notice;   /* its number in the hub */
	struct slice text; /* as sent; absent: followers are not told it */
};

struct recent {
	struct recent_event **events; /* owned, NULL while empty: a ring */
	uint64_t next;                /* number of the one to come */
	size_t count;                 /* the last of them are here */
	size_t bytes;
};

void recent_fini(struct recent *r);

/* Without memory for it the ring is emptied. */
void recent_put(
    struct recent *r, uint64_t number, const struct recent_event *ev);

/* The number of the first that is here; r->next when there is none. */
uint64_t recent_first(const struct recent *r);
/* number from recent_first(r) to r->next - 1. */
const struct recent_event *recent_get(const struct recent *r, uint64_t number);

#endif
