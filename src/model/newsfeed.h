/*
 * newsfeed: news of agents, calmed (floor: model; docs/protocol/console.md).
 *
 * What changes again at once is told once: news of an agent goes out when
 * nothing more came for 50 ms, and after 1 s at the latest.  What came back
 * to where it was is not told at all.  Holds memory only for agents with
 * news on the way.
 *
 * Life: newsfeed_init -> newsfeed_feed, newsfeed_next ... -> newsfeed_fini.
 */
#ifndef MODEL_NEWSFEED_H
#define MODEL_NEWSFEED_H

#include "base/arena.h"
#include "base/heap.h"
#include "base/map.h"

#include "model/audience.h"
#include "model/notice.h"

struct newsfeed {
	struct map agents; /* struct newsfeed_entry by id */
	struct heap due;
};

struct newsfeed_item {
	struct agent_news news;
	struct audience_set seen_by;
	enum presence before; /* shown when these news began */
	bool metrics;         /* there are new figures */
	wall_msec at;         /* of the last of them */
};

/* cap: agents with news on the way at a time. */
void newsfeed_init(struct newsfeed *f, size_t cap, const uint64_t seed[2]);
void newsfeed_fini(struct newsfeed *f);

/* A notice of kind PRESENCE or METRICS.  0; ERR_FULL or ERR_NOMEM: it was
 * not taken, and nothing is remembered of it. */
int newsfeed_feed(struct newsfeed *f, const struct notice *n, wall_msec at,
    const struct audience_set *seen_by, msec now);

/* What is due, its texts in the arena.  1, 0 when nothing is due yet, or
 * ERR_NOMEM: then it is due still. */
int newsfeed_next(
    struct newsfeed *f, msec now, struct arena *a, struct newsfeed_item *out);

/* INT64_MAX when nothing is on the way. */
msec newsfeed_deadline(const struct newsfeed *f);

#endif
