/*
 * output: a piece of a command's output as a line of JSON (floor: cli).
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "base/buf.h"

struct output_piece {
	struct slice id;    /* of the command */
	struct slice agent; /* absent: not told */
	bool err;           /* stderr */
	uint64_t offset;
	struct slice bytes;
};

/* muster.output/1: `text` for what is UTF-8, else `base64`.  Errors stick to
 * out. */
void output_put_json(struct buf *out, const struct output_piece *p);
/* Bytes from p->offset to here that are gone: why is pruned or lost. */
void output_put_gap(struct buf *out, const struct output_piece *p, uint64_t to,
    struct slice why);

#endif
