/*
 * idtable: 32-bit ids to pointers (floor: wire).
 *
 * Open addressing, at most half full, without tombstones; gives all memory
 * back when it becomes empty.  The hash is multiplication by a secret odd
 * number, because peers choose ids.
 */
#ifndef WIRE_IDTABLE_H
#define WIRE_IDTABLE_H

#include <stddef.h>
#include <stdint.h>

struct idtable_slot {
	void *value; /* borrowed; NULL = free */
	uint32_t id;
};

struct idtable {
	struct idtable_slot *slots; /* owned */
	uint32_t room;              /* a power of two, or 0 */
	uint32_t count;
	uint64_t factor; /* odd */
};

/* Allocates nothing.  count stays below 2^30: the caller's cap. */
void idtable_init(struct idtable *t, uint64_t seed);
void idtable_fini(struct idtable *t);

/* The value, or NULL. */
void *idtable_get(const struct idtable *t, uint32_t id);

/* id must not be in, value not NULL.  0 or ERR_NOMEM. */
int idtable_put(struct idtable *t, uint32_t id, void *value);

/* id must be in. */
void idtable_del(struct idtable *t, uint32_t id);

/* Walk all values from *pos = 0, NULL at the end; the table must not change
 * meanwhile. */
void *idtable_next(const struct idtable *t, size_t *pos);

#endif
