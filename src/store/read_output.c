/*
 * Reading output back, while it may grow and be pruned.
 *
 * A reader that goes on where it stopped keeps its place; any other read
 * lists the command's files and walks the frames of one segment.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "store/reader.h"

enum { LIST_ROOM = 64 << 20, TRIES = 3 };

static void
forget(struct store_reader *r)
{
	file_close(&r->file);
	r->id[0] = '\0';
}

void
reader_close_output(struct store_reader *r)
{
	forget(r);
	alloc_free(r->buf);
	r->buf = NULL;
}

struct place {
	bool some;      /* has segments at all */
	bool found;     /* one begins at or before the offset */
	uint64_t start; /* found: of that one; else of the first */
	uint64_t after; /* start of the next; UINT64_MAX = none */
};

/* Which segment an offset belongs to. */
static int
locate(struct store_reader *r, struct slice id, enum output_stream stream,
    uint64_t offset, struct place *out)
{
	struct file_names names;
	struct arena a;
	int err = segment_dir(r->dir, id, r->path);

	*out = (struct place){ .after = UINT64_MAX };
	if (err != 0)
		return err;
	arena_init(&a, LIST_ROOM);
	err = file_list(r->files, r->path, SEGMENT_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		enum output_stream of;
		uint64_t start;
		if (!segment_name_parse(names.at[i].name, &of, &start) ||
		    of != stream)
			continue;
		if (start > offset && out->some) {
			out->after = start;
			break;
		}
		out->some = true;
		out->found = start <= offset;
		out->start = start;
		if (!out->found)
			break;
	}
	arena_fini(&a);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int
open_place(struct store_reader *r, struct slice id, enum output_stream stream,
    const struct place *at)
{
	forget(r);
	if (r->buf == NULL)
		r->buf = alloc_new(FRAME_HEADER + FRAME_MAX);
	if (r->buf == NULL)
		return ERR_NOMEM;
	int err = segment_path(r->dir, id, stream, at->start, r->path);
	if (err == 0)
		err = file_open(
		    r->files, r->path, FILE_READ | FILE_NOFOLLOW, 0, &r->file);
	if (err == 0)
		err = frame_start(&r->walk, &r->file, at->start, r->buf);
	if (err != 0)
		return err;
	memcpy(r->id, id.ptr, id.len);
	r->id[id.len] = '\0';
	r->stream = stream;
	r->start = at->start;
	r->after = at->after;
	return 0;
}

/* No files: was there ever anything? */
static int64_t
read_ends(struct store_reader *r, struct slice id, enum output_stream stream,
    uint64_t offset, uint64_t *next)
{
	int err = 0;
	sqlite3_stmt *st = db_statement(&r->db, READ_ENDS, &err);

	if (st == NULL || (err = column_bind_text(st, 1, id)) != 0)
		return err;
	err = db_step(&r->db, st);
	if (err <= 0)
		return err == 0 ? ERR_NOT_FOUND : err;
	uint64_t end =
	    (uint64_t)sqlite3_column_int64(st, stream == OUTPUT_OUT ? 0 : 1);
	sqlite3_reset(st);
	if (offset >= end)
		return offset == end ? 0 : ERR_RANGE;
	*next = end;
	return ERR_GONE;
}

/* Have the frame with the byte at offset in the walk: 1, 0 at the end of the
 * segment, <0. */
static int
seek(struct store_reader *r, uint64_t offset)
{
	int err = 1;

	/* Backwards: from the start again. */
	if (r->walk.at == 0 || offset < r->walk.offset - r->walk.bytes.len) {
		err = frame_start(&r->walk, &r->file, r->start, r->buf);
		if (err != 0)
			return err;
		r->walk.bytes = (struct slice){ 0 };
		err = 1;
	}
	while (err == 1 && offset >= r->walk.offset)
		err = frame_next(&r->walk);
	return err;
}

/* Read from the open segment; 0 when it holds nothing at offset. */
static int64_t
take(struct store_reader *r, uint64_t offset, uint8_t *out, size_t max)
{
	size_t done = 0;

	while (done < max) {
		int err = seek(r, offset + done);
		if (err < 0)
			return err;
		if (err == 0)
			break;
		const struct slice *have = &r->walk.bytes;
		size_t skip =
		    (size_t)(offset + done - (r->walk.offset - have->len));
		size_t n = have->len - skip;
		if (n > max - done)
			n = max - done;
		memcpy(out + done, have->ptr + skip, n);
		done += n;
	}
	return (int64_t)done;
}

static bool
is_open(const struct store_reader *r, struct slice id,
    enum output_stream stream, uint64_t offset)
{
	return r->id[0] != '\0' && slice_eq(slice_from(r->id), id) &&
	    r->stream == stream && offset >= r->start && offset < r->after;
}

/* The segment holds nothing at offset: a gap, the end, or damage? */
static int64_t
read_nothing(struct store_reader *r, struct slice id, uint64_t offset,
    const struct place *at, uint64_t *next)
{
	uint64_t size = 0, end = 0;
	int err = 0;

	if (at->after != UINT64_MAX) {
		/* Only the newest may end in the middle of a frame. */
		if ((err = file_size(&r->file, &size)) != 0)
			return err;
		if (size > r->walk.at)
			return ERR_CORRUPT;
		*next = at->after;
		return ERR_MISSING;
	}
	int64_t n = read_ends(r, id, r->stream, offset, &end);
	if (n == ERR_GONE)
		return ERR_CORRUPT;
	if (n != 0 && n != ERR_RANGE)
		return n;
	return offset == r->walk.offset ? 0 : ERR_RANGE;
}

static int64_t
read_once(struct store_reader *r, struct slice id, enum output_stream stream,
    uint64_t offset, uint8_t *out, size_t max, uint64_t *next)
{
	struct place at;
	int64_t n;

	if (is_open(r, id, stream, offset) &&
	    (n = take(r, offset, out, max)) != 0)
		return n;
	int err = locate(r, id, stream, offset, &at);
	if (err != 0)
		return err;
	if (!at.some)
		return read_ends(r, id, stream, offset, next);
	if (!at.found) {
		*next = at.start;
		return ERR_GONE;
	}
	err = open_place(r, id, stream, &at);
	if (err != 0)
		return err;
	n = take(r, offset, out, max);
	if (n != 0 || max == 0)
		return n;
	return read_nothing(r, id, offset, &at, next);
}

int64_t
store_read_output(struct store_reader *r, struct slice command_id,
    enum output_stream stream, uint64_t offset, uint8_t *out, size_t max,
    uint64_t *next)
{
	int64_t n = ERR_NOT_FOUND;

	/* A segment may be pruned between finding and opening it. */
	for (int i = 0; i < TRIES; i++) {
		n = read_once(r, command_id, stream, offset, out, max, next);
		if (n != ERR_NOT_FOUND)
			break;
	}
	return n;
}
