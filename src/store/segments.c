/*
 * The writing side of output.  See segments.h for the format.
 *
 * A command that is being written to has an entry with both its streams;
 * its end is in memory, its files are open.  Everything written since the
 * last sync is "dirty".  When a sync fails, what it was for may be gone
 * although it can still be read, so the stream goes back to its last safe
 * end and whoever has the bytes sends them again.
 */
#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"
#include "base/map.h"

#include "io/file.h"
#include "io/rand.h"

#include "store/segments.h"

enum {
	OPEN_COMMANDS = 100,    /* two descriptors each at most */
	PAIRS = 32 * 32,        /* folders under output */
	LIST_ROOM = 64 << 20,   /* memory of one listing */
	FOLDER_NAMES = 1 << 20, /* commands in one folder */
};

struct half {
	struct file file;   /* of the newest segment; may be closed */
	uint64_t start;     /* offset of its first byte */
	uint64_t size;      /* bytes in it, frames counted */
	uint64_t safe_size; /* the same, durable */
	uint64_t end;       /* of the stream, appended */
	uint64_t safe;      /* of the stream, durable */
	uint64_t held;      /* bytes in all its segments */
	bool some;          /* has a segment */
	bool known;         /* safe is: not so before the first sync */
	bool dirty;
	bool bad; /* could not be put right after a failure */
};

struct entry {
	struct list lru;
	struct list dirty;
	char id[40];
	struct half half[2];
	bool has_dir;
	bool named; /* its names are durable */
};

struct segments {
	struct segments_config config;
	struct map map;
	struct list lru;   /* least recently used first */
	struct list dirty; /* entries to be synced */
	uint64_t cap;
	uint64_t total;
	uint64_t wanted; /* by the last append for which there was no room */
	uint64_t syncs;
	bool pair_named[PAIRS];
	char path[SEGMENT_PATH];
	uint8_t *frame; /* owned: header and one frame */
};

static struct slice
entry_id(const struct entry *e)
{
	return slice_from(e->id);
}

static size_t
pair_of(const struct entry *e)
{
	const char *two = strchr(e->id, '_') + 1;
	unsigned a = two[0] >= 'a' ? (unsigned)(two[0] - 'a')
				   : 26 + (unsigned)(two[0] - '2');
	unsigned b = two[1] >= 'a' ? (unsigned)(two[1] - 'a')
				   : 26 + (unsigned)(two[1] - '2');

	return a * 32 + b;
}

static struct half *
half_of(struct entry *e, enum output_stream stream)
{
	assert(stream == OUTPUT_OUT || stream == OUTPUT_ERR);
	return &e->half[stream - OUTPUT_OUT];
}

static void
mark_dirty(struct segments *sg, struct entry *e, struct half *h)
{
	h->dirty = true;
	if (list_empty(&e->dirty))
		list_push(&sg->dirty, &e->dirty);
}

/* Going back ---------------------------------------------------------- */

/* Cut a file to what is known to be right. */
static int
half_cut(struct segments *sg, struct half *h, uint64_t size)
{
	int err = file_truncate(&h->file, size);

	if (err != 0) {
		h->bad = true;
		return err;
	}
	sg->total -= h->size - size;
	h->held -= h->size - size;
	h->size = size;
	return 0;
}

static void
half_revert(struct segments *sg, struct half *h)
{
	/* What an earlier life left is neither safe nor ours to cut. */
	if (!h->known || half_cut(sg, h, h->safe_size) != 0) {
		h->bad = true;
		return;
	}
	h->end = h->safe;
}

/* Syncing ------------------------------------------------------------- */

static int
sync_names(struct segments *sg, struct entry *e)
{
	struct file_layer *fs = sg->config.files;
	size_t pair = pair_of(e);
	int err = segment_dir(sg->config.dir, entry_id(e), sg->path);

	if (err == 0)
		err = file_sync_dir(fs, sg->path);
	if (err == 0)
		err = file_sync_parent(fs, sg->path);
	sg->syncs += 2;
	if (err == 0 && !sg->pair_named[pair]) {
		*strrchr(sg->path, '/') = '\0';
		err = file_sync_parent(fs, sg->path);
		sg->pair_named[pair] = err == 0;
		sg->syncs++;
	}
	e->named = err == 0;
	return err;
}

static int
entry_sync(struct segments *sg, struct entry *e)
{
	int err = 0;

	for (size_t i = 0; i < 2; i++) {
		struct half *h = &e->half[i];
		if (!h->dirty)
			continue;
		sg->syncs++;
		int failed = h->bad ? ERR_IO : file_sync(&h->file);
		if (failed != 0)
			err = failed;
	}
	if (err == 0 && !e->named)
		err = sync_names(sg, e);
	for (size_t i = 0; i < 2; i++) {
		struct half *h = &e->half[i];
		if (!h->dirty)
			continue;
		if (err != 0) {
			half_revert(sg, h);
		} else {
			h->safe = h->end;
			h->safe_size = h->size;
			h->known = true;
		}
		h->dirty = false;
	}
	list_remove(&e->dirty);
	return err;
}

int
segments_sync(struct segments *sg)
{
	int err = 0;

	while (!list_empty(&sg->dirty)) {
		struct entry *e = LIST_OF(sg->dirty.next, struct entry, dirty);
		int failed = entry_sync(sg, e);
		if (failed != 0)
			err = failed;
	}
	return err;
}

/* Entries ------------------------------------------------------------- */

static void
entry_free(struct segments *sg, struct entry *e)
{
	map_del(&sg->map, entry_id(e));
	list_remove(&e->lru);
	list_remove(&e->dirty);
	file_close(&e->half[0].file);
	file_close(&e->half[1].file);
	alloc_free(e);
}

/* Make room by closing the entry that was not used for longest. */
static int
evict(struct segments *sg)
{
	for (struct list *l = sg->lru.next; l != &sg->lru; l = l->next) {
		struct entry *e = LIST_OF(l, struct entry, lru);
		if (!list_empty(&e->dirty))
			(void)entry_sync(sg, e);
		/* A bad one remembers what must not be believed. */
		if (e->half[0].bad || e->half[1].bad)
			continue;
		entry_free(sg, e);
		return 0;
	}
	return ERR_IO;
}

static int
open_segment(struct segments *sg, struct entry *e, enum output_stream stream,
    uint64_t start, unsigned flags, struct file *out)
{
	int err =
	    segment_path(sg->config.dir, entry_id(e), stream, start, sg->path);

	if (err != 0)
		return err;
	return file_open(sg->config.files, sg->path,
	    FILE_READ | FILE_NOFOLLOW | flags, 0600, out);
}

/* Find where whole frames end and cut the rest off. */
static int
half_scan(struct segments *sg, struct half *h)
{
	struct frame_walk w;
	int err = frame_start(&w, &h->file, h->start, sg->frame);

	while (err == 0 && (err = frame_next(&w)) == 1)
		err = 0;
	if (err != 0)
		return err;
	h->end = w.offset;
	return w.at < h->size ? half_cut(sg, h, w.at) : 0;
}

/* Count a segment in; the newest stays open. */
static int
half_find(struct segments *sg, struct entry *e, enum output_stream stream,
    uint64_t start, bool newest)
{
	struct half *h = half_of(e, stream);
	struct file f = { 0 };
	uint64_t size = 0;
	int err =
	    open_segment(sg, e, stream, start, newest ? FILE_WRITE : 0, &f);

	if (err == 0)
		err = file_size(&f, &size);
	h->held += size;
	h->some = true;
	if (err != 0 || !newest) {
		file_close(&f);
		return err;
	}
	h->file = f;
	h->start = start;
	h->size = size;
	h->end = start;
	return half_scan(sg, h);
}

static int
entry_load(struct segments *sg, struct entry *e)
{
	struct arena a;
	struct file_names names;
	int err = segment_dir(sg->config.dir, entry_id(e), sg->path);

	if (err != 0)
		return err;
	arena_init(&a, LIST_ROOM);
	err = file_list(sg->config.files, sg->path, SEGMENT_NAMES, &a, &names);
	e->has_dir = err == 0;
	if (err == ERR_NOT_FOUND) {
		err = 0;
		names.count = 0;
	}
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		enum output_stream stream, next;
		uint64_t start, after;
		if (!segment_name_parse(names.at[i].name, &stream, &start))
			continue;
		/* Sorted: the newest of a stream is before another's. */
		bool newest = i + 1 == names.count ||
		    !segment_name_parse(names.at[i + 1].name, &next, &after) ||
		    next != stream;
		err = half_find(sg, e, stream, start, newest);
	}
	arena_fini(&a);
	/* What an earlier life wrote may not be durable yet. */
	for (size_t i = 0; err == 0 && i < 2; i++) {
		if (e->half[i].some)
			mark_dirty(sg, e, &e->half[i]);
	}
	return err;
}

static int
entry_get(struct segments *sg, struct slice id, struct entry **out)
{
	struct entry *e = map_get(&sg->map, id);
	int err;

	if (e != NULL) {
		list_remove(&e->lru);
		list_push(&sg->lru, &e->lru);
		*out = e;
		return 0;
	}
	if (!segment_id_ok(id))
		return ERR_INVALID;
	if (sg->map.count == OPEN_COMMANDS && (err = evict(sg)) != 0)
		return err;
	e = alloc_new(sizeof(*e));
	if (e == NULL)
		return ERR_NOMEM;
	memcpy(e->id, id.ptr, id.len);
	list_init(&e->lru);
	list_init(&e->dirty);
	err = entry_load(sg, e);
	if (err == 0)
		err = map_put(&sg->map, entry_id(e), e);
	if (err != 0) {
		entry_free(sg, e);
		return err;
	}
	list_push(&sg->lru, &e->lru);
	*out = e;
	return 0;
}

/* Appending ----------------------------------------------------------- */

static int
make_dir(struct segments *sg, struct entry *e)
{
	struct file_layer *fs = sg->config.files;
	int err = segment_dir(sg->config.dir, entry_id(e), sg->path);

	if (err != 0 || e->has_dir)
		return err;
	char *slash = strrchr(sg->path, '/');
	*slash = '\0';
	err = file_mkdir(fs, sg->path, 0700);
	*slash = '/';
	if (err == 0 || err == ERR_EXISTS)
		err = file_mkdir(fs, sg->path, 0700);
	if (err != 0 && err != ERR_EXISTS)
		return err;
	e->has_dir = true;
	return 0;
}

/* Begin a new file at start; the one before it is made safe first, so that
 * only the newest can be torn. */
static int
half_roll(struct segments *sg, struct entry *e, enum output_stream stream,
    uint64_t start)
{
	struct half *h = half_of(e, stream);
	struct file f = { 0 };
	int err = make_dir(sg, e);

	if (err == 0 && h->dirty)
		err = entry_sync(sg, e);
	if (err == 0)
		err = open_segment(sg, e, stream, start,
		    FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f);
	if (err != 0)
		return err;
	file_close(&h->file);
	h->file = f;
	h->start = h->end = h->safe = start;
	h->size = h->safe_size = 0;
	h->some = h->known = true;
	e->named = false;
	mark_dirty(sg, e, h);
	return 0;
}

/* Delete the oldest segments of a stream but the newest, until the command
 * is below its cap. */
static int
half_prune(struct segments *sg, struct entry *e, enum output_stream stream)
{
	struct half *h = half_of(e, stream);
	struct file_names names;
	struct arena a;
	int err = segment_dir(sg->config.dir, entry_id(e), sg->path);

	arena_init(&a, LIST_ROOM);
	if (err == 0)
		err = file_list(
		    sg->config.files, sg->path, SEGMENT_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		enum output_stream of;
		uint64_t start, size = 0;
		struct file f = { 0 };
		if (e->half[0].held + e->half[1].held <= sg->config.output_max)
			break;
		if (!segment_name_parse(names.at[i].name, &of, &start) ||
		    of != stream || start == h->start)
			continue;
		err = open_segment(sg, e, stream, start, 0, &f);
		if (err == 0)
			err = file_size(&f, &size);
		file_close(&f);
		if (err == 0)
			err = file_unlink(sg->config.files, sg->path);
		if (err == 0) {
			h->held -= size;
			sg->total -= size;
		}
	}
	arena_fini(&a);
	return err;
}

static int
prune_command(struct segments *sg, struct entry *e)
{
	int err;

	if (e->half[0].held + e->half[1].held <= sg->config.output_max)
		return 0;
	bool second = e->half[1].held > e->half[0].held;
	err = half_prune(sg, e, second ? OUTPUT_ERR : OUTPUT_OUT);
	if (err == 0)
		err = half_prune(sg, e, second ? OUTPUT_OUT : OUTPUT_ERR);
	return err;
}

/* One frame of at most the room left in the segment. */
static int
append_frame(
    struct segments *sg, struct entry *e, struct half *h, struct slice *bytes)
{
	size_t head = h->size == 0 ? SEGMENT_HEADER : 0;
	uint64_t room = sg->config.segment_size - h->size - head - FRAME_HEADER;
	struct slice part =
	    slice_first(*bytes, room < FRAME_MAX ? (size_t)room : FRAME_MAX);
	uint8_t *at = sg->frame;

	if (head > 0)
		memcpy(at, "MSEG\0\0\0\1", SEGMENT_HEADER);
	frame_encode(h->end, part, at + head);
	memcpy(at + head + FRAME_HEADER, part.ptr, part.len);
	struct slice all = { at, head + FRAME_HEADER + part.len };
	mark_dirty(sg, e, h);
	int err = file_write(&h->file, h->size, all);
	if (err != 0) {
		/* A part may be there, and would follow the next frame. */
		if (file_truncate(&h->file, h->size) != 0)
			h->bad = true;
		return err;
	}
	h->size += all.len;
	h->held += all.len;
	sg->total += all.len;
	h->end += part.len;
	*bytes = slice_from_at(*bytes, part.len);
	return 0;
}

int
segments_append(struct segments *sg, struct slice id, enum output_stream stream,
    uint64_t offset, struct slice bytes)
{
	struct entry *e;
	int err = entry_get(sg, id, &e);

	if (err != 0)
		return err;
	struct half *h = half_of(e, stream);
	if (h->bad)
		return ERR_IO;
	if (offset > h->end || offset + bytes.len < offset ||
	    offset + bytes.len > INT64_MAX)
		return ERR_RANGE;
	bytes = slice_from_at(bytes,
	    h->end - offset < bytes.len ? (size_t)(h->end - offset)
					: bytes.len);
	if (bytes.len > 0 && sg->total + bytes.len > sg->cap) {
		sg->wanted = bytes.len;
		return ERR_NO_SPACE;
	}
	while (err == 0 && bytes.len > 0) {
		bool full = h->size + SEGMENT_HEADER + FRAME_HEADER >=
		    sg->config.segment_size;
		if (!h->some || full) {
			err = half_roll(sg, e, stream, h->end);
			if (err == 0)
				err = prune_command(sg, e);
		}
		if (err == 0)
			err = append_frame(sg, e, h, &bytes);
	}
	return err;
}

int
segments_gap(struct segments *sg, struct slice id, enum output_stream stream,
    uint64_t from, uint64_t to)
{
	struct entry *e;
	int err = entry_get(sg, id, &e);

	if (err != 0)
		return err;
	struct half *h = half_of(e, stream);
	if (h->bad)
		return ERR_IO;
	if (from > h->end || to < from || to > INT64_MAX)
		return ERR_RANGE;
	if (to <= h->end)
		return 0;
	if (!h->some)
		err = half_roll(sg, e, stream, 0);
	return err != 0 ? err : half_roll(sg, e, stream, to);
}

int
segments_end(struct segments *sg, struct slice id, enum output_stream stream,
    uint64_t *out)
{
	struct entry *e;
	int err = entry_get(sg, id, &e);

	if (err == 0)
		*out = half_of(e, stream)->end;
	return err;
}

int
segments_settle(struct segments *sg, struct slice id, uint64_t ends[2])
{
	struct entry *e;
	int err = entry_get(sg, id, &e);

	if (err == 0 && !list_empty(&e->dirty))
		err = entry_sync(sg, e);
	if (err != 0)
		return err;
	ends[0] = e->half[0].safe;
	ends[1] = e->half[1].safe;
	return 0;
}

void
segments_forget(struct segments *sg, struct slice id)
{
	struct entry *e = map_get(&sg->map, id);

	if (e != NULL && list_empty(&e->dirty) && !e->half[0].bad &&
	    !e->half[1].bad)
		entry_free(sg, e);
}

int
segments_remove(struct segments *sg, struct slice id)
{
	struct file_layer *fs = sg->config.files;
	struct entry *e = map_get(&sg->map, id);
	struct file_names names;
	struct arena a;

	if (e == NULL) {
		int err = entry_get(sg, id, &e);
		if (err != 0)
			return err;
	}
	uint64_t held = e->half[0].held + e->half[1].held;
	bool has_dir = e->has_dir;
	entry_free(sg, e);
	if (!has_dir)
		return 0;
	arena_init(&a, LIST_ROOM);
	int err = segment_dir(sg->config.dir, id, sg->path);
	if (err == 0)
		err = file_list(fs, sg->path, SEGMENT_NAMES, &a, &names);
	size_t len = strlen(sg->path);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		snprintf(sg->path + len, sizeof(sg->path) - len, "/%s",
		    names.at[i].name);
		err = file_unlink(fs, sg->path);
	}
	sg->path[len] = '\0';
	if (err == 0)
		err = file_rmdir(fs, sg->path);
	if (err == 0)
		sg->total -= held;
	arena_fini(&a);
	return err;
}

bool
segments_full(const struct segments *sg)
{
	/* An append that would go beyond is refused, so total stays below. */
	return sg->total >= sg->cap || sg->total + sg->wanted > sg->cap;
}

uint64_t
segments_total(const struct segments *sg)
{
	return sg->total;
}

uint64_t
segments_syncs(const struct segments *sg)
{
	return sg->syncs;
}

/* Opening ------------------------------------------------------------- */

/* Add up what is under path, depth folders deep. */
static int
count_bytes(struct segments *sg, char *path, size_t len, int depth)
{
	struct file_layer *fs = sg->config.files;
	struct file_names names;
	struct arena a;

	arena_init(&a, LIST_ROOM);
	int err = file_list(fs, path, FOLDER_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		struct file f = { 0 };
		uint64_t size = 0;
		int n = snprintf(
		    path + len, SEGMENT_PATH - len, "/%s", names.at[i].name);
		if (n < 0 || (size_t)n >= SEGMENT_PATH - len)
			continue;
		if (names.at[i].is_dir) {
			if (depth > 0)
				err = count_bytes(
				    sg, path, len + (size_t)n, depth - 1);
			continue;
		}
		err = file_open(fs, path, FILE_READ | FILE_NOFOLLOW, 0, &f);
		if (err == 0)
			err = file_size(&f, &size);
		file_close(&f);
		sg->total += size;
	}
	path[len] = '\0';
	arena_fini(&a);
	return err;
}

static int
open_output(struct segments *sg)
{
	struct file_layer *fs = sg->config.files;
	struct file_space space;
	int n =
	    snprintf(sg->path, sizeof(sg->path), "%s/output", sg->config.dir);

	if (n < 0 || n >= (int)sizeof(sg->path))
		return ERR_TOO_BIG;
	int err = file_mkdir(fs, sg->path, 0700);
	if (err == 0 || err == ERR_EXISTS)
		err = file_sync_parent(fs, sg->path);
	if (err == 0)
		err = file_space(fs, sg->config.dir, &space);
	if (err != 0)
		return err;
	sg->cap = space.total / 5 * 4;
	if (sg->config.total_max < sg->cap)
		sg->cap = sg->config.total_max;
	sg->total = sg->config.total;
	if (sg->config.counted)
		return 0;
	sg->total = 0;
	return count_bytes(sg, sg->path, (size_t)n, 2);
}

int
segments_open(struct segments **out, const struct segments_config *config)
{
	struct segments *sg = alloc_new(sizeof(*sg));
	uint64_t seed[2];

	if (sg == NULL)
		return ERR_NOMEM;
	rand_fill(seed, sizeof(seed));
	sg->config = *config;
	map_init(&sg->map, OPEN_COMMANDS, seed);
	list_init(&sg->lru);
	list_init(&sg->dirty);
	sg->frame = alloc_new(SEGMENT_HEADER + FRAME_HEADER + FRAME_MAX);
	int err = sg->frame == NULL ? ERR_NOMEM : open_output(sg);
	if (err != 0) {
		segments_close(sg);
		return err;
	}
	*out = sg;
	return 0;
}

void
segments_close(struct segments *sg)
{
	if (sg == NULL)
		return;
	while (!list_empty(&sg->lru))
		entry_free(sg, LIST_OF(sg->lru.next, struct entry, lru));
	map_fini(&sg->map);
	alloc_free(sg->frame);
	alloc_free(sg);
}
