#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "base/arena.h"

enum { CHUNK_MIN = 4096, ALIGN = alignof(max_align_t) };

struct arena_chunk {
	struct arena_chunk *older;
	size_t size;
	alignas(max_align_t) uint8_t mem[];
};

void
arena_init(struct arena *a, size_t cap)
{
	*a = (struct arena){ .cap = cap };
}

static void
free_chunks(struct arena_chunk *c)
{
	while (c != NULL) {
		struct arena_chunk *older = c->older;
		alloc_free(c);
		c = older;
	}
}

void
arena_fini(struct arena *a)
{
	free_chunks(a->chunks);
	*a = (struct arena){ 0 };
}

void
arena_reset(struct arena *a)
{
	struct arena_chunk *keep = a->chunks;

	if (keep == NULL)
		return;
	free_chunks(keep->older);
	keep->older = NULL;
	/* A message of unusual size must not pin its memory for ever. */
	if (keep->size > 16 * CHUNK_MIN) {
		alloc_free(keep);
		keep = NULL;
	}
	a->chunks = keep;
	a->used = 0;
	a->total = keep == NULL ? 0 : keep->size;
}

static int
grow(struct arena *a, size_t size)
{
	size_t want = a->chunks == NULL ? CHUNK_MIN : a->chunks->size * 2;

	if (want > 64 * CHUNK_MIN)
		want = 64 * CHUNK_MIN;
	if (want > a->cap - a->total)
		want = a->cap - a->total;
	if (want < size)
		want = size;
	if (want > a->cap - a->total)
		return ERR_NOMEM;
	/* Not zeroed here: arena_alloc does that, part by part. */
	struct arena_chunk *c = alloc_resize(NULL, sizeof(*c) + want);
	if (c == NULL)
		return ERR_NOMEM;
	c->older = a->chunks;
	c->size = want;
	a->chunks = c;
	a->used = 0;
	a->total += want;
	return 0;
}

/* *rounded bytes as they happen to be; it is rounded up. */
static void *
take(struct arena *a, size_t *rounded)
{
	size_t size = *rounded;

	if (size > SIZE_MAX - ALIGN)
		return NULL;
	size = (size + ALIGN - 1) / ALIGN * ALIGN;
	if (a->chunks == NULL || size > a->chunks->size - a->used) {
		if (grow(a, size) != 0)
			return NULL;
	}
	void *p = a->chunks->mem + a->used;
	a->used += size;
	*rounded = size;
	return p;
}

void *
arena_alloc(struct arena *a, size_t size)
{
	void *p = take(a, &size);

	return p == NULL ? NULL : memset(p, 0, size);
}

void *
arena_array(struct arena *a, size_t count, size_t size)
{
	if (size != 0 && count > SIZE_MAX / size)
		return NULL;
	return arena_alloc(a, count * size);
}

int
arena_copy(struct arena *a, struct slice s, struct slice *out)
{
	if (s.ptr == NULL) {
		*out = (struct slice){ 0 };
		return 0;
	}
	size_t room = s.len == 0 ? 1 : s.len;
	uint8_t *p = take(a, &room);
	if (p == NULL)
		return ERR_NOMEM;
	if (s.len > 0)
		memcpy(p, s.ptr, s.len);
	*out = (struct slice){ p, s.len };
	return 0;
}

char *
arena_cstr(struct arena *a, struct slice s)
{
	if (s.len == SIZE_MAX)
		return NULL;
	char *p = arena_alloc(a, s.len + 1);
	if (p != NULL && s.len > 0)
		memcpy(p, s.ptr, s.len);
	return p;
}
