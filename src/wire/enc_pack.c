#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/enc.h"

enum { STEP = 16384 };

static void *
zlib_alloc(void *opaque, unsigned count, unsigned size)
{
	(void)opaque;
	return alloc_array(count, size);
}

static void
zlib_free(void *opaque, void *p)
{
	(void)opaque;
	alloc_free(p);
}

/* zlib counts in 32 bits: hand it the next piece of what is left. */
static void
refill(z_stream *z, struct slice *rest)
{
	size_t n = rest->len < 1u << 30 ? rest->len : 1u << 30;

	if (z->avail_in > 0)
		return;
	/* next_in is not written through; zlib only lacks the const here. */
	z->next_in = (z_const Bytef *)(uintptr_t)rest->ptr;
	z->avail_in = (uInt)n;
	*rest = slice_from_at(*rest, n);
}

static int
window(enum enc_pack form)
{
	return form == ENC_GZIP ? MAX_WBITS + 16 : MAX_WBITS;
}

/* Take back what a failed call has appended. */
static int
undo(struct buf *out, size_t made, int err)
{
	out->tail -= made;
	return err;
}

static int
deflate_all(z_stream *z, struct slice in, struct buf *out)
{
	size_t made = 0;

	for (int got = Z_OK; got != Z_STREAM_END;) {
		size_t room = deflateBound(z, in.len < STEP ? in.len : STEP);
		/* The cap may leave less than the bound, and yet enough. */
		size_t left = out->cap - (out->tail - out->head);
		if (left < room)
			room = left;
		if (room == 0)
			return undo(out, made, ERR_FULL);
		uint8_t *to = buf_reserve(out, room);
		if (to == NULL)
			return undo(out, made, out->err);
		refill(z, &in);
		z->next_out = to;
		z->avail_out = (uInt)room;
		got = deflate(z, in.len == 0 ? Z_FINISH : Z_NO_FLUSH);
		buf_commit(out, room - z->avail_out);
		made += room - z->avail_out;
	}
	return 0;
}

int
enc_pack(struct slice in, enum enc_pack form, int level, struct buf *out)
{
	z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };

	if (out->err != 0)
		return out->err;
	if (deflateInit2(&z, level, Z_DEFLATED, window(form), 8,
		Z_DEFAULT_STRATEGY) != Z_OK)
		return ERR_NOMEM;
	int err = deflate_all(&z, in, out);
	deflateEnd(&z);
	return err;
}

/* The next stretch of the result: where it may go, and how long it may be.
 * At the limit one more byte is asked for, because that it does not come is
 * the proof that all fits. */
static uint8_t *
next_room(struct buf *out, size_t left, uint8_t *spare, size_t *room)
{
	if (left == 0) {
		*room = 1;
		return spare;
	}
	*room = left < STEP ? left : STEP;
	return buf_reserve(out, *room);
}

static int
inflate_all(
    z_stream *z, struct slice in, bool again, size_t limit, struct buf *out)
{
	size_t made = 0, room;
	uint8_t spare;

	for (;;) {
		uint8_t *to = next_room(out, limit - made, &spare, &room);
		if (to == NULL)
			return undo(out, made, out->err);
		refill(z, &in);
		z->next_out = to;
		z->avail_out = (uInt)room;
		int got = inflate(z, Z_NO_FLUSH);
		size_t n = room - z->avail_out;
		if (to == &spare && n > 0)
			return undo(out, made, ERR_TOO_BIG);
		if (to != &spare)
			buf_commit(out, n);
		made += n;
		if (got == Z_MEM_ERROR)
			return undo(out, made, ERR_NOMEM);
		if (got == Z_STREAM_END) {
			if (z->avail_in == 0 && in.len == 0)
				return 0;
			if (!again || inflateReset(z) != Z_OK)
				return undo(out, made, ERR_INVALID);
		} else if (got != Z_OK ||
		    (n == 0 && z->avail_in == 0 && in.len == 0)) {
			return undo(out, made, ERR_INVALID);
		}
	}
}

int
enc_unpack(struct slice in, enum enc_pack form,
    const struct enc_unpack_limits *limits, struct buf *out)
{
	z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
	size_t limit = limits->max;

	if (out->err != 0)
		return out->err;
	if (limits->ratio != 0 && in.len < limit / limits->ratio)
		limit = in.len * limits->ratio;
	size_t left = out->cap - (out->tail - out->head);
	if (inflateInit2(&z, window(form)) != Z_OK)
		return ERR_NOMEM;
	int err = inflate_all(
	    &z, in, form == ENC_GZIP, limit < left ? limit : left, out);
	inflateEnd(&z);
	if (err == ERR_TOO_BIG && left < limit)
		err = ERR_FULL;
	return err;
}
