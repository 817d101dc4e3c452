/*
 * holder_spool: one output stream, from a pipe to its file (muster-holder).
 *
 * Bytes keep their offset for ever; nothing read from the pipe is lost while
 * the holder lives: what the disk refuses waits in chunk.  When the part that
 * nobody acknowledged, of both streams, reaches cap, the pipe is no longer
 * read, so the command waits; with drop it is read and a gap is written down
 * instead.
 */
#ifndef AGENT_HOLDER_SPOOL_H
#define AGENT_HOLDER_SPOOL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/holder_gap.h"

enum {
	SPOOL_CHUNK = 64 * 1024,
	SPOOL_SYNC_BYTES = 1024 * 1024,
	SPOOL_SYNC_MS = 1000,
	SPOOL_AHEAD = 16 * 1024 * 1024, /* most bytes ahead of the disk */
	SPOOL_RETRY_MS = 500,           /* after the disk refused */
};

struct spool {
	const char *name; /* "out" or "err", borrowed */
	int dir;          /* the command's directory, borrowed */
	int pipe;         /* owned; -1 after its end */
	int file;         /* owned; -1 until the first byte */
	uint64_t cap;
	const struct spool *twin; /* the other stream; shares the cap */
	bool drop;
	bool held;    /* the agent's own cap is reached */
	bool refused; /* by the disk; chunk holds what it did not take */
	uint64_t size, acked, punched, synced;
	int64_t dirty_since; /* monotonic ms, when size > synced */
	struct gaps gaps;    /* with drop */
	uint64_t late;       /* bytes read after the end was declared */
	size_t pend_at, pend_len;
	uint8_t chunk[SPOOL_CHUNK];
};

void spool_init(struct spool *s, const char *name, int dir, int pipe);

/* Neither ended nor held back by cap, a slow disk or a refusing one. */
bool spool_wants(const struct spool *s);

/* There is no room for more: of the command, or of the agent. */
bool spool_full(const struct spool *s);

/*
 * Move bytes from the pipe to the file until the pipe is empty, ended, or
 * rounds chunks were moved.  over lets them go beyond the cap.
 */
void spool_pump(struct spool *s, int64_t now, int rounds, bool over);

/* Read and count what comes after the end was declared. */
void spool_discard(struct spool *s);

/* Everything before offset is stored elsewhere; beyond size is ignored. */
void spool_ack(struct spool *s, uint64_t offset);

/* When bytes should be on the disk; -1 when all are. */
int64_t spool_sync_due(const struct spool *s);

/* Now, in this thread. */
void spool_sync(struct spool *s);

/* A thread that does fdatasync, one at a time, so that a stop never waits
 * for a disk.  It starts with its first request. */
struct syncer {
	pthread_t thread;
	sem_t wanted;
	int done; /* eventfd, owned: readable when a sync ended */
	bool started, busy;
	struct spool *spool;
	uint64_t size; /* what the sync will have made durable */
};

int syncer_init(struct syncer *y);

/* Begin to sync s; nothing when busy. */
void syncer_start(struct syncer *y, struct spool *s);

/* The eventfd was readable. */
void syncer_ended(struct syncer *y, int64_t now);

#endif
