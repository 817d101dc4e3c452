/*
 * map: byte strings to pointers (floor: base).
 *
 * Keys are borrowed: they live in the value they lead to and must not
 * change while they are in the map.  The hash is SipHash-1-3 under a seed
 * given by the caller, because keys come from strangers.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct map_slot;

struct map {
	struct map_slot *slots; /* owned; linear probing, power of two */
	size_t room;
	size_t count;
	size_t cap; /* count never exceeds this */
	uint64_t seed[2];
};

void map_init(struct map *m, size_t cap, const uint64_t seed[2]);
void map_fini(struct map *m);

/* The value, or NULL. */
void *map_get(const struct map *m, struct slice key);

/* 0, ERR_EXISTS (nothing changed), ERR_FULL or ERR_NOMEM.  value != NULL. */
int map_put(struct map *m, struct slice key, void *value);

/* Take the key out and return its value, or NULL. */
void *map_del(struct map *m, struct slice key);

/*
 * Walk all values in no particular order: start with *pos = 0, NULL at the
 * end.  The value just returned may be taken out during the walk only by
 * starting again; the map must not otherwise change.
 */
void *map_next(const struct map *m, size_t *pos);

uint64_t map_hash(const uint64_t seed[2], struct slice key);

#endif
