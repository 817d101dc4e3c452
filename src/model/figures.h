/*
 * figures: what an agent said of its load, for a while (floor: model).
 *
 * Every figure that came for an hour, then the mean of each minute for a day;
 * spec: docs/api.md, metrics.  In memory alone: a restart begins anew.
 */
#ifndef MODEL_FIGURES_H
#define MODEL_FIGURES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "base/stamp.h"

struct arena;

enum figure { FIGURE_CPU, FIGURE_MEMORY, FIGURE_DISK, FIGURES };

enum {
	FIGURES_FINE = 720,  /* of the last hour, one in 5 s at most */
	FIGURES_DAY = 1440,  /* minutes */
	FIGURES_EVERY = 5000 /* ms between two that are kept */
};

/* In percent; below 0: not said. */
struct figures {
	wall_msec at;
	float value[FIGURES];
};

/* All zero to begin with. */
struct figure_row {
	uint32_t at;             /* seconds since the epoch */
	uint16_t value[FIGURES]; /* hundredths; NOT_SAID */
};
struct figure_list {
	struct figure_row *rows; /* owned */
	uint32_t room, count, first;
};
struct figure_ring {
	struct figure_list fine, day;
	double sum[FIGURES]; /* of the present minute */
	uint32_t counts[FIGURES];
	int64_t minute;
	wall_msec last;
};

void figure_ring_fini(struct figure_ring *r);

/* Read them from what an agent reported, an object; false: it has none. */
bool figures_read(struct slice json, struct arena *a, struct figures *out);

/* Keep them.  Memory taken beyond what there was is added to *bytes, and
 * never goes above max: then the oldest make room sooner.  0 or ERR_NOMEM. */
int figure_ring_put(
    struct figure_ring *r, const struct figures *f, size_t max, size_t *bytes);
size_t figure_ring_bytes(const struct figure_ring *r);

/*
 * Those from `from` on, oldest first, in the arena: means of minutes, or of
 * the last hour every one.  0 or ERR_NOMEM.
 */
int figure_ring_list(const struct figure_ring *r, bool fine, wall_msec from,
    struct arena *a, const struct figures **out, size_t *count);

#endif
