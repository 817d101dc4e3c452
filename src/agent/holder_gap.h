/*
 * holder_gap: what of a stream was dropped because there was no room
 * (muster-holder).
 *
 * Dropped bytes keep their offsets: the file has a hole there.  What a file
 * system calls a hole has the size of its blocks, so each gap is also a line
 * of the file "gaps", which grows in place while the gap does.
 */
#ifndef AGENT_HOLDER_GAP_H
#define AGENT_HOLDER_GAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GAPS_MAX = 1000 }; /* the last one is for good */

struct gaps {
	struct {
		uint64_t from, to;
	} at[GAPS_MAX];
	size_t count;
	size_t first;    /* of those that are not all acknowledged */
	uint64_t total;  /* bytes in all of them */
	uint64_t beyond; /* bytes of them that nobody acknowledged */
	int64_t line;    /* where the last one's is */
	int file;        /* owned; -1 until there is one */
};

void gaps_init(struct gaps *g);

/* n bytes at an offset are dropped; name is the stream's. */
void gaps_add(
    struct gaps *g, int dir, const char *name, uint64_t at, uint64_t n);

/* Everything before offset is stored elsewhere. */
void gaps_ack(struct gaps *g, uint64_t offset);

/* There is room for no other gap. */
bool gaps_full(const struct gaps *g);

void gaps_sync(const struct gaps *g);

#endif
