/*
 * heap: deadlines in order (floor: base).
 *
 * An intrusive pairing of an array heap with its nodes: a node knows its
 * place, so that moving or removing a timer is O(log n) and arming one
 * allocates only when the array grows.  The heap owns the array, never the
 * nodes.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Milliseconds, monotonic unless a name says wall. */
typedef int64_t msec;

struct heap_node {
	msec due;
	size_t at; /* place in the array plus one; 0 = not in a heap */
};

struct heap {
	struct heap_node **nodes; /* owned array of borrowed nodes */
	size_t count;
	size_t room;
	size_t cap; /* count never exceeds this */
};

void heap_init(struct heap *h, size_t cap);
void heap_fini(struct heap *h);

/*
 * Put n in, or move it, to fire at due.
 * 0, ERR_FULL or ERR_NOMEM; moving a node that is in never fails.
 */
int heap_set(struct heap *h, struct heap_node *n, msec due);

/* Take n out; nothing when it is not in. */
void heap_drop(struct heap *h, struct heap_node *n);

/* The node that is due first, NULL when empty. */
struct heap_node *heap_first(const struct heap *h);

static inline bool
heap_has(const struct heap_node *n)
{
	return n->at != 0;
}

#endif
