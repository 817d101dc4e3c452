/*
 * arena: memory that dies together (floor: base).
 *
 * One arena serves one message or one batch: decode allocates from it, and
 * whoever ends the batch resets it.  Nothing in it is freed alone.  What
 * must outlive the batch is copied out.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/slice.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* owned; newest first */
	size_t used;                /* bytes handed out of the newest chunk */
	size_t total;               /* bytes held in all chunks */
	size_t cap;                 /* total never exceeds this */
};

/* Start empty, allocating nothing.  cap in bytes.  Pair with arena_fini. */
void arena_init(struct arena *a, size_t cap);
void arena_fini(struct arena *a);

/* Everything handed out becomes invalid; one chunk is kept for reuse. */
void arena_reset(struct arena *a);

/* size zeroed bytes, aligned for any type; NULL at the cap or without
 * memory. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size);

/*
 * A copy of s in the arena.  0 or ERR_NOMEM; the copy of an empty, present
 * slice stays present (non-NULL), that of an absent one absent.
 */
int arena_copy(struct arena *a, struct slice s, struct slice *out);

/* The same, NUL-terminated; NULL without memory. */
char *arena_cstr(struct arena *a, struct slice s);

#endif
