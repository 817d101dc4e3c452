/*
 * alloc: the only door to the C heap (floor: base).
 *
 * Everything above takes memory through these four calls, or through an
 * arena or buf that does.  Memory comes zeroed.  NULL means out of memory,
 * which every caller copes with; tests fail the n-th call on purpose.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

void *alloc_new(size_t size);

/* count elements of size bytes; NULL too when the product overflows. */
void *alloc_array(size_t count, size_t size);

/* Grow or shrink; bytes beyond the old size are not zeroed. */
void *alloc_resize(void *old, size_t size);

void alloc_free(void *p);

#endif
