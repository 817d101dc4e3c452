/*
 * record: the checked text files of a command, read and written (agent).
 *
 * Pure.  Formats: holder_proto.h.  A torn file is ERR_CORRUPT and means the
 * same as none; one of a later version is ERR_NEWER and must be left alone.
 */
#ifndef AGENT_RECORD_H
#define AGENT_RECORD_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/stamp.h"

struct record_claim {
	struct slice id;
	uint64_t seq, epoch;
	wall_msec start;
	uint64_t pid; /* of the command; 0 when it was not yet running */
};

/* All slices are borrowed from the text. */
struct record_exit {
	struct slice id;
	struct slice outcome; /* exited signaled failed refused unknown */
	struct slice reason;  /* none interrupt terminate timeout kill stop */
	struct slice stage, error;
	uint64_t seq;
	int code, signal;
	wall_msec start, end;
	uint64_t took_ms;
	uint64_t size[2], gap[2]; /* of out and err */
	uint64_t killed, lingering;
	uint64_t user_us, system_us, max_rss_kb;
	uint64_t stop_ms;        /* reason stop: until all were dead */
	struct slice pids, left; /* numbers with commas, see HOLDER_NAMES */
};

/* 0, ERR_CORRUPT, ERR_NEWER, ERR_MISSING (a key). */
int record_read_claim(struct slice text, struct record_claim *out);
int record_read_exit(struct slice text, struct record_exit *out);

/* What the agent says when a holder is gone without a word. */
void record_write_unknown(
    struct buf *b, const struct record_claim *claim, const uint64_t size[2]);

/* The stop that a link is under, or was (docs/protocol/muster.md 7). */
struct record_stop {
	uint64_t epoch;
	bool stopped, keep_tunnels;
	wall_msec at;
	struct slice mac, scope, reason; /* without control characters */
};
void record_write_stop(struct buf *b, const struct record_stop *s);
int record_read_stop(struct slice text, struct record_stop *out);

/* The journal: the highest dispatch number. */
void record_write_mark(struct buf *b, uint64_t mark);
int record_read_mark(struct slice text, uint64_t *mark);

/*
 * One value of a text of "key=value" parts ended by end ('\n' or NUL);
 * absent when there is none.
 */
struct slice record_value(struct slice text, uint8_t end, struct slice key);

/* Append such a part.  A value with the ending byte in it would be two parts:
 * it sets b->err to ERR_INVALID. */
void record_put(
    struct buf *b, uint8_t end, const char *key, struct slice value);
void record_put_u64(struct buf *b, uint8_t end, const char *key, uint64_t n);

#endif
