/*
 * stopfile: the emergency stop on disk, beside the database (floor: server).
 *
 * DIR/stop.epoch holds the stop epoch and the stops that stand.  It is small
 * and has a thread of its own, so that it never waits behind a batch of the
 * store; it is replaced whole, so that a crash leaves the old or the new.
 * Epochs only rise: of several that wait only the newest is written.
 *
 * The same thread looks once a second whether the operator of this host has
 * put a file STOP into DIR, however it came there.
 *
 * Two lines: JSON {"muster_stop":1,"epoch":N,"stops":[...]}, and the SHA-256
 * of the first with its newline, as 64 hex digits.
 */
#ifndef SERVER_STOPFILE_H
#define SERVER_STOPFILE_H

#include "base/arena.h"
#include "base/buf.h"

#include "model/stop.h"

#include "io/file.h"

struct stopfile;

enum { STOPFILE_WORD = 1000 }; /* bytes of STOP that count as the reason */

/* Text of the file, appended to out; out->err tells of failure. */
void stopfile_encode(struct buf *out, const struct stop_state *s);
/* A line, its end and its sum; for tests. */
void stopfile_seal(struct buf *out, struct slice line);
/* 0, ERR_CORRUPT, ERR_NEWER or ERR_NOMEM; out lives in the arena. */
int stopfile_decode(struct slice text, struct arena *a, struct stop_state *out);

/* The file of a directory: ERR_NOT_FOUND when there is none. */
int stopfile_read(struct file_layer *fs, const char *dir, struct arena *a,
    struct stop_state *out);
int stopfile_write(struct file_layer *fs, const char *dir, struct slice text);

/*
 * Whether STOP is there: 1 and its first line in the arena, 0, or ERR_* when
 * nobody can tell.
 */
int stopfile_look(struct file_layer *fs, const char *dir, struct arena *a,
    struct slice *word);

struct stopfile_config {
	const char *dir; /* outlives the thread */
	struct file_layer *files;
	void (*wake)(void *owner); /* there is news; from the thread */
	void *owner;
};

/* 0, ERR_NOMEM or ERR_FULL (no thread). */
int stopfile_start(struct stopfile **out, const struct stopfile_config *config);
/* Writes what waits, then ends the thread. */
void stopfile_stop(struct stopfile *f);

/* To be written; when that cannot even begin, the news says so. */
void stopfile_put(struct stopfile *f, const struct stop_state *s);

struct stopfile_news {
	uint64_t epoch; /* was written, or not: err; 0: nothing was */
	int err;
	bool looked; /* present is news */
	bool present;
	size_t word_len;
	uint8_t word[STOPFILE_WORD];
};

/* What came about since the last time; false: nothing. */
bool stopfile_take(struct stopfile *f, struct stopfile_news *out);

#endif
