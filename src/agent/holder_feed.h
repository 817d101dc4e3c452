/*
 * holder_feed: bytes on their way to the command's input (muster-holder).
 *
 * Offsets count from the command's start.  At most HOLDER_INPUT_WINDOW bytes
 * wait here; who sends more, or leaves a hole, breaks the rules.
 */
#ifndef AGENT_HOLDER_FEED_H
#define AGENT_HOLDER_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/holder_proto.h"

struct feed {
	int pipe; /* owned; -1 = closed, or none wanted */
	bool end; /* no more than received will come */
	uint64_t received, consumed;
	uint8_t ring[HOLDER_INPUT_WINDOW];
};

/* Bytes from offset at; what was received before is skipped.  0 or -1. */
int feed_put(struct feed *f, uint64_t at, const uint8_t *data, size_t len);

/* Nothing follows offset at.  0 or -1. */
int feed_end(struct feed *f, uint64_t at);

/* Write what the pipe takes; close it after the last byte. */
void feed_pump(struct feed *f);

void feed_close(struct feed *f);

#endif
