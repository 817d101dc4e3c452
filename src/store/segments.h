/*
 * segments: output of commands in append-only files (floor: store; private
 * to it).
 *
 * DIR/output/<first two characters after the prefix>/<id>/<stream>.<offset>
 * where offset, 16 hex digits, is that of the file's first byte.  A file is
 * empty, or "MSEG", u32 version 1, and frames: u32 length, u32 CRC-32 of
 * (u64 offset, u32 length, bytes), the bytes; numbers big-endian.  A crash
 * may leave rubbish after what was synced; the frames say where it begins,
 * and there the file is cut when it is next written to.
 *
 * What is missing shows in the names:
 * - a hole between two files is a gap: those bytes never arrived;
 * - a first file that does not begin at 0 means that what came before it was
 *   pruned.  A gap at the very start therefore begins with an empty file 0.
 *
 * One thread at a time.  Descriptors are bounded; the least recently used
 * command is synced and closed.
 */
#ifndef STORE_SEGMENTS_H
#define STORE_SEGMENTS_H

#include "store/store.h"

struct segments;

enum {
	SEGMENT_PATH = 4096,
	SEGMENT_NAMES = 20000, /* files of one command, at most */
	SEGMENT_HEADER = 8,
	FRAME_HEADER = 8,
	FRAME_MAX = 256 * 1024, /* bytes in one frame */
};

struct segments_config {
	struct file_layer *files; /* borrowed */
	const char *dir;          /* DIR; borrowed */
	uint64_t output_max;
	uint64_t total_max;
	size_t segment_size;
	bool counted; /* total is known: the last stop was clean */
	uint64_t total;
};

int segments_open(struct segments **out, const struct segments_config *config);
/* Forgets what was not synced. */
void segments_close(struct segments *sg);

/* As store_output_* say. */
int segments_append(struct segments *sg, struct slice id,
    enum output_stream stream, uint64_t offset, struct slice bytes);
int segments_gap(struct segments *sg, struct slice id,
    enum output_stream stream, uint64_t from, uint64_t to);
int segments_sync(struct segments *sg);
int segments_end(struct segments *sg, struct slice id,
    enum output_stream stream, uint64_t *out);

/* Sync one command if need be: where its streams end for good. */
int segments_settle(struct segments *sg, struct slice id, uint64_t ends[2]);
/* The command is over: close its files. */
void segments_forget(struct segments *sg, struct slice id);
/* Take all its output away, durably. */
int segments_remove(struct segments *sg, struct slice id);

/* Whether the cap of all output, or four fifths of the disk, is reached. */
bool segments_full(const struct segments *sg);
uint64_t segments_total(const struct segments *sg);
uint64_t segments_syncs(const struct segments *sg);

/* segment_file.c: what the files look like, for all who read them. --- */

/* A prefix and 20 characters of base32: nothing else becomes a path. */
bool segment_id_ok(struct slice id);
/* DIR/output/ab/cmd_ab...; path has SEGMENT_PATH bytes; ERR_INVALID for a
 * bad id, ERR_TOO_BIG when dir is too long. */
int segment_dir(const char *dir, struct slice id, char *path);
/* The same and /<stream>.<start>. */
int segment_path(const char *dir, struct slice id, enum output_stream stream,
    uint64_t start, char *path);
/* "1.00000000000000ff"; false for any other name. */
bool segment_name_parse(
    const char *name, enum output_stream *stream, uint64_t *start);

/* A frame for bytes (1 to FRAME_MAX): its header. */
void frame_encode(
    uint64_t offset, struct slice bytes, uint8_t out[FRAME_HEADER]);

/* A walk through one file's frames. */
struct frame_walk {
	struct file *file;
	uint64_t at;        /* place in the file of the next frame */
	uint64_t offset;    /* in the stream, of its first byte */
	struct slice bytes; /* of the frame last read, in buf */
	uint8_t *buf;       /* FRAME_HEADER + FRAME_MAX, the caller's */
	uint64_t base;      /* what of the file is in buf: from, */
	size_t fill;        /* and how much */
};

/* Begin; ERR_NEWER or ERR_CORRUPT for a foreign file. */
int frame_start(
    struct frame_walk *w, struct file *f, uint64_t start, uint8_t *buf);
/* Read the next frame and move on: 1; 0 where whole frames end. */
int frame_next(struct frame_walk *w);

#endif
