#include <assert.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/wsopen.h"

#include "wire/deflate.h"

struct deflate_stream {
	z_stream z;
	bool packs;
	int bits;
};

enum { MEM_LEVEL = 8, TAIL_LEN = 4 };

/* RFC 7692 7.2.1: what a sender leaves off and a receiver puts back. */
static const uint8_t tail[TAIL_LEN] = { 0x00, 0x00, 0xff, 0xff };

struct deflate_stream *
deflate_new_packer(int bits, int level)
{
	struct deflate_stream *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->packs = true;
	s->bits = bits;
	if (deflateInit2(&s->z, level, Z_DEFLATED, -bits, MEM_LEVEL,
		Z_DEFAULT_STRATEGY) == Z_OK)
		return s;
	alloc_free(s);
	return NULL;
}

/* A window of 256 bytes is read with one of 512: old zlibs pack with 9 when
 * they are told 8. */
struct deflate_stream *
deflate_new_unpacker(int bits)
{
	struct deflate_stream *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->bits = bits < DEFLATE_BITS_MIN ? DEFLATE_BITS_MIN : bits;
	if (inflateInit2(&s->z, -s->bits) == Z_OK)
		return s;
	alloc_free(s);
	return NULL;
}

void
deflate_free(struct deflate_stream *s)
{
	if (s == NULL)
		return;
	if (s->packs)
		(void)deflateEnd(&s->z);
	else
		(void)inflateEnd(&s->z);
	alloc_free(s);
}

/* The figures of zlib's zconf.h. */
size_t
deflate_memory(const struct deflate_stream *s)
{
	if (s == NULL)
		return 0;
	size_t window = (size_t)1 << s->bits;
	return sizeof(*s) +
	    (s->packs ? 4 * window + ((size_t)1 << (MEM_LEVEL + 9))
		      : window + 7 * 1024);
}

void
deflate_pool_init(struct deflate_pool *p, int level)
{
	*p = (struct deflate_pool){ .level = level };
}

void
deflate_pool_fini(struct deflate_pool *p)
{
	for (size_t i = 0; i <= DEFLATE_BITS_MAX; i++)
		deflate_free(p->packers[i]);
	deflate_free(p->unpacker);
	*p = (struct deflate_pool){ 0 };
}

struct deflate_stream *
deflate_pool_packer(struct deflate_pool *p, int bits)
{
	assert(bits >= DEFLATE_BITS_MIN && bits <= DEFLATE_BITS_MAX);
	if (p->packers[bits] == NULL)
		p->packers[bits] = deflate_new_packer(bits, p->level);
	else
		(void)deflateReset(&p->packers[bits]->z);
	return p->packers[bits];
}

struct deflate_stream *
deflate_pool_unpacker(struct deflate_pool *p)
{
	if (p->unpacker == NULL)
		p->unpacker = deflate_new_unpacker(DEFLATE_BITS_MAX);
	else
		(void)inflateReset(&p->unpacker->z);
	return p->unpacker;
}

size_t
deflate_bound(struct deflate_stream *s, size_t n)
{
	/* Beyond zlib's own bound: the empty block of the flush, and what a
	 * flush may split. */
	return deflateBound(&s->z, n) + n / 1024 + 32;
}

size_t
deflate_pack(
    struct deflate_stream *s, struct slice message, uint8_t *out, size_t room)
{
	z_stream *z = &s->z;

	if (message.len > UINT32_MAX || room > UINT32_MAX || room < TAIL_LEN)
		return 0;
	/* zlib's door has no const; it does not write here. */
	z->next_in = (Bytef *)(uintptr_t)message.ptr;
	z->avail_in = (uInt)message.len;
	z->next_out = out;
	z->avail_out = (uInt)room;
	if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in > 0 ||
	    z->avail_out == 0)
		return 0;
	size_t n = room - z->avail_out;
	if (n <= TAIL_LEN)
		return 0;
	assert(memcmp(out + n - TAIL_LEN, tail, TAIL_LEN) == 0);
	return n - TAIL_LEN;
}

/* Room for what comes next: at least one byte beyond the cap, so that a
 * message of exactly cap bytes is told from a longer one. */
static int
grow(z_stream *z, size_t cap, struct buf *out, size_t done)
{
	enum { STEP = 16 * 1024 };
	size_t want = done < STEP ? STEP : done;

	if (want > cap - done)
		want = cap - done + 1;
	z->next_out = buf_reserve(out, want);
	z->avail_out = (uInt)want;
	return z->next_out == NULL ? out->err : 0;
}

/*
 * Unpack the bytes at next_in to their end.  *ended is set when they end
 * with a final block: RFC 7692 7.2.3.4 lets senders use those, and the
 * window goes on behind them.
 */
static int
run(z_stream *z, size_t cap, struct buf *out, size_t start, bool *ended)
{
	do {
		int r = grow(z, cap, out, out->tail - start);
		if (r != 0)
			return r;
		uInt room = z->avail_out;
		int got = inflate(z, Z_SYNC_FLUSH);
		buf_commit(out, room - z->avail_out);
		if (out->tail - start > cap)
			return ERR_TOO_BIG;
		*ended = got == Z_STREAM_END;
		if (*ended && inflateResetKeep(z) != Z_OK)
			return ERR_CORRUPT;
		if (got == Z_MEM_ERROR)
			return ERR_NOMEM;
		if (got != Z_OK && got != Z_STREAM_END && got != Z_BUF_ERROR)
			return ERR_CORRUPT;
	} while (z->avail_in > 0 || z->avail_out == 0);
	return 0;
}

int
deflate_unpack(
    struct deflate_stream *s, struct slice packed, size_t cap, struct buf *out)
{
	z_stream *z = &s->z;
	size_t start = out->tail;
	bool ended = false;

	if (packed.len == 0)
		return 0;
	if (packed.len > UINT32_MAX || cap >= UINT32_MAX)
		return ERR_TOO_BIG;
	z->next_in = (Bytef *)(uintptr_t)packed.ptr;
	z->avail_in = (uInt)packed.len;
	int r = run(z, cap, out, start, &ended);
	if (r != 0 || ended)
		return r;
	z->next_in = (Bytef *)(uintptr_t)tail;
	z->avail_in = TAIL_LEN;
	r = run(z, cap, out, start, &ended);
	if (r != 0)
		return r;
	/* zlib says 128 at a block's end; anywhere else the message was cut,
	 * and the four bytes were taken for data. */
	return ended || (z->data_type & 128) != 0 ? 0 : ERR_CORRUPT;
}
