/*
 * What a segment looks like: its name and its frames.
 */
#include <stdio.h>
#include <zlib.h>

#include "base/err.h"

#include "io/file.h"

#include "store/segments.h"

enum { ID_RANDOM = 20, PREFIX_MAX = 7 };

static bool
is_base32(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '2' && c <= '7');
}

bool
segment_id_ok(struct slice id)
{
	size_t prefix = slice_find(id, '_');

	if (prefix < 1 || prefix > PREFIX_MAX ||
	    id.len != prefix + 1 + ID_RANDOM)
		return false;
	for (size_t i = 0; i < id.len; i++) {
		uint8_t c = id.ptr[i];
		if (i < prefix && (c < 'a' || c > 'z'))
			return false;
		if (i > prefix && !is_base32(c))
			return false;
	}
	return true;
}

int
segment_dir(const char *dir, struct slice id, char *path)
{
	if (!segment_id_ok(id))
		return ERR_INVALID;
	const uint8_t *two = id.ptr + slice_find(id, '_') + 1;
	int n = snprintf(path, SEGMENT_PATH, "%s/output/%c%c/%.*s", dir, two[0],
	    two[1], SLICE_FMT(id));
	return n < 0 || n >= SEGMENT_PATH ? ERR_TOO_BIG : 0;
}

int
segment_path(const char *dir, struct slice id, enum output_stream stream,
    uint64_t start, char *path)
{
	int err = segment_dir(dir, id, path);

	if (err != 0)
		return err;
	size_t len = strlen(path);
	int n = snprintf(path + len, SEGMENT_PATH - len, "/%d.%016llx",
	    (int)stream, (unsigned long long)start);
	return n < 0 || (size_t)n >= SEGMENT_PATH - len ? ERR_TOO_BIG : 0;
}

bool
segment_name_parse(
    const char *name, enum output_stream *stream, uint64_t *start)
{
	uint64_t n = 0;

	if ((name[0] != '1' && name[0] != '2') || name[1] != '.')
		return false;
	for (int i = 2; i < 18; i++) {
		const char *hex = "0123456789abcdef";
		const char *digit = strchr(hex, name[i]);
		if (name[i] == '\0' || digit == NULL)
			return false;
		n = n << 4 | (uint64_t)(digit - hex);
	}
	if (name[18] != '\0')
		return false;
	*stream = name[0] == '1' ? OUTPUT_OUT : OUTPUT_ERR;
	*start = n;
	return true;
}

static void
put_be(uint8_t *out, uint64_t n, unsigned bytes)
{
	while (bytes-- > 0)
		*out++ = (uint8_t)(n >> (8 * bytes));
}

static uint32_t
get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

static uint32_t
frame_sum(uint64_t offset, struct slice bytes)
{
	uint8_t head[12];

	put_be(head, offset, 8);
	put_be(head + 8, bytes.len, 4);
	uLong sum = crc32(crc32(0, NULL, 0), head, sizeof(head));
	return (uint32_t)crc32(sum, bytes.ptr, (uInt)bytes.len);
}

void
frame_encode(uint64_t offset, struct slice bytes, uint8_t out[FRAME_HEADER])
{
	put_be(out, bytes.len, 4);
	put_be(out + 4, frame_sum(offset, bytes), 4);
}

int
frame_start(struct frame_walk *w, struct file *f, uint64_t start, uint8_t *buf)
{
	uint8_t head[SEGMENT_HEADER];
	size_t got = 0;
	int err = file_read(f, 0, head, sizeof(head), &got);

	*w = (struct frame_walk){ .file = f, .offset = start, .buf = buf };
	if (err != 0)
		return err;
	/* Shorter, or zeros, is a file whose first write did not survive. */
	static const uint8_t zero[SEGMENT_HEADER];
	if (got < sizeof(head) || memcmp(head, zero, sizeof(head)) == 0)
		return 0;
	if (memcmp(head, "MSEG", 4) != 0)
		return ERR_CORRUPT;
	if (get_be32(head + 4) != 1)
		return ERR_NEWER;
	w->at = SEGMENT_HEADER;
	return 0;
}

/* Have n bytes of the file from w->at in buf: where, or NULL at its end. */
static int
walk_need(struct frame_walk *w, size_t n, const uint8_t **out)
{
	int err = 0;

	if (w->at < w->base || w->at + n > w->base + w->fill) {
		w->base = w->at;
		w->fill = 0;
		err = file_read(
		    w->file, w->at, w->buf, FRAME_HEADER + FRAME_MAX, &w->fill);
	}
	*out = w->fill - (size_t)(w->at - w->base) < n
	    ? NULL
	    : w->buf + (w->at - w->base);
	return err;
}

/* Not a whole frame; it may become one, so do not believe the buffer. */
static int
walk_stop(struct frame_walk *w, int err)
{
	w->fill = 0;
	return err;
}

int
frame_next(struct frame_walk *w)
{
	const uint8_t *p;
	int err;

	if (w->at == 0)
		return 0;
	err = walk_need(w, FRAME_HEADER, &p);
	if (err != 0 || p == NULL)
		return walk_stop(w, err);
	uint32_t len = get_be32(p);
	if (len == 0 || len > FRAME_MAX || w->offset + len < w->offset)
		return walk_stop(w, 0);
	err = walk_need(w, FRAME_HEADER + len, &p);
	if (err != 0 || p == NULL)
		return walk_stop(w, err);
	struct slice bytes = { p + FRAME_HEADER, len };
	if (frame_sum(w->offset, bytes) != get_be32(p + 4))
		return walk_stop(w, 0);
	w->at += FRAME_HEADER + len;
	w->offset += len;
	w->bytes = bytes;
	return 1;
}
