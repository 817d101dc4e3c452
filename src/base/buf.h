/*
 * buf: a byte queue with a hard cap (floor: base).
 *
 * Bytes go in at the tail and out at the head.  The first failed append is
 * remembered in err and turns later appends into no-ops, so a writer may
 * put many pieces and check err once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
	uint8_t *mem; /* owned; NULL until the first put */
	size_t head;  /* first unread byte */
	size_t tail;  /* one past the last byte */
	size_t alloc; /* bytes at mem */
	size_t cap;   /* tail - head never exceeds this */
	int err;      /* 0, ERR_FULL or ERR_NOMEM */
};

/* Start empty, allocating nothing.  Pair with buf_fini. */
void buf_init(struct buf *b, size_t cap);
void buf_fini(struct buf *b);

/* Append a copy of s: all of it, or none and err is set. */
void buf_put(struct buf *b, struct slice s);

void buf_put_byte(struct buf *b, uint8_t c);

/* Append n in decimal. */
void buf_put_u64(struct buf *b, uint64_t n);

/*
 * Room for n bytes at the tail, to be written in place and then counted in
 * by buf_commit (at most n).  NULL, and err set, when there is none.
 */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

/* Forget the contents and the error; keep the memory. */
void buf_clear(struct buf *b);

/* The unread bytes, borrowed until the next call that takes b. */
struct slice buf_peek(const struct buf *b);

/* Drop n bytes from the head; n <= buf_peek(b).len. */
void buf_eat(struct buf *b, size_t n);

#endif
