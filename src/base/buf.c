#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "base/buf.h"

enum { BUF_MIN = 256 };

void
buf_init(struct buf *b, size_t cap)
{
	*b = (struct buf){ .cap = cap };
}

void
buf_fini(struct buf *b)
{
	alloc_free(b->mem);
	*b = (struct buf){ 0 };
}

/* Make room for n bytes at the tail: slide down first, then grow. */
static int
room(struct buf *b, size_t n)
{
	size_t used = b->tail - b->head;

	if (n > b->cap - used)
		return ERR_FULL;
	if (n > b->alloc - b->tail && b->head > 0) {
		memmove(b->mem, b->mem + b->head, used);
		b->head = 0;
		b->tail = used;
	}
	if (n <= b->alloc - b->tail)
		return 0;

	/* Doubling keeps puts linear in total; cap bounds every sum here. */
	size_t want = b->alloc > b->cap / 2 ? b->cap : b->alloc * 2;
	if (want < BUF_MIN)
		want = BUF_MIN;
	if (want < used + n)
		want = used + n;
	uint8_t *mem = alloc_resize(b->mem, want);
	if (mem == NULL)
		return ERR_NOMEM;
	b->mem = mem;
	b->alloc = want;
	return 0;
}

void
buf_put(struct buf *b, struct slice s)
{
	if (b->err != 0 || s.len == 0)
		return;
	b->err = room(b, s.len);
	if (b->err != 0)
		return;
	memcpy(b->mem + b->tail, s.ptr, s.len);
	b->tail += s.len;
}

struct slice
buf_peek(const struct buf *b)
{
	if (b->mem == NULL)
		return (struct slice){ 0 };
	return (struct slice){ b->mem + b->head, b->tail - b->head };
}

void
buf_eat(struct buf *b, size_t n)
{
	assert(n <= b->tail - b->head);
	b->head += n;
}

uint8_t *
buf_reserve(struct buf *b, size_t n)
{
	if (b->err != 0)
		return NULL;
	b->err = room(b, n);
	return b->err == 0 ? b->mem + b->tail : NULL;
}

void
buf_commit(struct buf *b, size_t n)
{
	assert(n <= b->alloc - b->tail);
	b->tail += n;
}

void
buf_put_byte(struct buf *b, uint8_t c)
{
	buf_put(b, (struct slice){ &c, 1 });
}

void
buf_put_u64(struct buf *b, uint64_t n)
{
	uint8_t digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (uint8_t)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	buf_put(b, (struct slice){ digits + at, sizeof(digits) - at });
}

void
buf_clear(struct buf *b)
{
	b->head = b->tail = 0;
	b->err = 0;
}
