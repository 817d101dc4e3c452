/*
 * hub_rate: so many within a minute (model; private to the hub).
 */
#ifndef MODEL_HUB_RATE_H
#define MODEL_HUB_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/slice.h"

struct hub;

struct attempts {
	struct slice key; /* owned, behind the struct */
	struct list link; /* oldest first */
	msec since;
	uint32_t count;
};

struct rate_table {
	struct map map;  /* struct attempts by key */
	struct list age; /* the same, who was quiet longest first */
};

struct rate_state {
	uint32_t limit;
	uint32_t left;
	uint32_t reset; /* seconds */
};

void rate_init(struct rate_table *t, size_t cap, const uint64_t seed[2]);
void rate_fini(struct rate_table *t);
/* One more within this minute; false when it is one too many. */
bool rate_take(struct hub *h, struct rate_table *t, struct slice key,
    uint32_t limit, struct rate_state *out);

#endif
