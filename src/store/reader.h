/*
 * reader: what read.c and read_output.c share (floor: store; private to
 * them).
 */
#ifndef STORE_READER_H
#define STORE_READER_H

#include "store/core.h"
#include "store/segments.h"

enum {
	READ_COMMANDS, /* and seven more */
	READ_COMMAND = READ_COMMANDS + 8,
	READ_COMMAND_KEY,
	READ_ENDS,
	READ_LINKS,
	READ_AUDIT,
	READ_CHAINS,
	READ_CHAIN_START,
	READ_META,
	READ_AGENT,
	READ_AGENT_NAME,
	READ_LOGS,
	READ_STATEMENTS
};

struct store_reader {
	struct db db;
	struct file_layer *files; /* borrowed */
	char dir[STORE_PATH];
	struct buf scratch;
	/* The segment read last and the walk in it. */
	struct file file;
	struct frame_walk walk;
	char id[40];
	enum output_stream stream;
	uint64_t start; /* offset of its first byte */
	uint64_t after; /* where the next segment begins; UINT64_MAX = none */
	uint8_t *buf;   /* owned, from the first read of output on */
	char path[SEGMENT_PATH];
};

void reader_close_output(struct store_reader *r);

#endif
