/*
 * execframe: what is said inside an exec stream (floor: wire).
 *
 *     u8 type | u32 length | payload          on a stream
 *     u8 type | payload                       one WebSocket binary message
 *
 *  agent to controller                     controller to agent
 *   1 STARTED   JSON                        16 STDIN     u64 offset, bytes
 *   2 STDOUT    u64 offset, bytes           17 STDIN_EOF u64 offset
 *   3 STDERR    u64 offset, bytes           18 ACK       u8 stream,
 *   4 EXIT      JSON                                     u64 durable offset
 *   5 STDIN_ACK u64 consumed, u64 limit     19 SIGNAL    u8 kind
 *   6 REFUSED   JSON                        20 DONE
 *   7 GAP       u8 stream, u64 from, u64 to
 *
 * Integers are big-endian, offsets count bytes from the start of the
 * output or input and stay below 2^63.  Payload is at most 64 KiB + 16, JSON
 * at most 16 KiB.
 *
 * The reader does not buffer output and input: a frame that comes in pieces
 * is handed on in pieces, each with its own offset.  JSON is handed out of
 * the fed bytes where it is whole there.  The rest is a few bytes.
 */
#ifndef WIRE_EXECFRAME_H
#define WIRE_EXECFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum execframe_type {
	EXECFRAME_STARTED = 1,
	EXECFRAME_STDOUT = 2,
	EXECFRAME_STDERR = 3,
	EXECFRAME_EXIT = 4,
	EXECFRAME_STDIN_ACK = 5,
	EXECFRAME_REFUSED = 6,
	EXECFRAME_GAP = 7,
	EXECFRAME_STDIN = 16,
	EXECFRAME_STDIN_EOF = 17,
	EXECFRAME_ACK = 18,
	EXECFRAME_SIGNAL = 19,
	EXECFRAME_DONE = 20
};

/* The byte strings of ACK and GAP. */
enum { EXECFRAME_OUT = 1, EXECFRAME_ERR = 2 };

enum execframe_signal {
	EXECFRAME_INTERRUPT = 1,
	EXECFRAME_TERM = 2,
	EXECFRAME_KILL = 3
};

enum {
	EXECFRAME_BULK_MAX = 64 * 1024, /* bytes after the offset */
	EXECFRAME_JSON_MAX = 16 * 1024,
	EXECFRAME_HEAD_MAX = 22 /* all of a frame but its bytes or JSON */
};

struct execframe {
	enum execframe_type type;
	uint8_t stream;    /* ACK, GAP: EXECFRAME_OUT or _ERR */
	uint8_t signal;    /* SIGNAL: enum execframe_signal */
	uint64_t offset;   /* STDOUT .. STDIN_EOF, ACK; GAP: from */
	uint64_t limit;    /* STDIN_ACK; GAP: to */
	struct slice data; /* bytes or JSON, borrowed */
};

/* Who wrote the frames: a type of the other direction is an error. */
enum execframe_side { EXECFRAME_AGENT, EXECFRAME_CONTROLLER };

enum execframe_shape {
	EXECFRAME_ON_STREAM, /* with the length */
	EXECFRAME_ON_MESSAGE /* without: the message has one */
};

/*
 * Write all of f that comes before f->data, whose length counts and which
 * must follow; bytes written.  f must be valid and within the limits.
 */
size_t execframe_head(const struct execframe *f, enum execframe_shape shape,
    uint8_t out[EXECFRAME_HEAD_MAX]);

/* Append the whole frame; errors stick to b. */
void execframe_put(
    struct buf *b, enum execframe_shape shape, const struct execframe *f);

/* One WebSocket message.  0 or what execframe_next says. */
int execframe_parse(
    enum execframe_side from, struct slice message, struct execframe *out);

struct execframe_reader {
	enum execframe_side from;
	struct slice in; /* borrowed; rest of what was fed */
	uint8_t head[EXECFRAME_HEAD_MAX];
	uint8_t head_len;
	bool body; /* head is read, left bytes of data follow */
	uint32_t left;
	uint64_t offset;
	struct buf json; /* of a frame that came in pieces */
	int err;
};

/* Allocates nothing. */
void execframe_reader_init(
    struct execframe_reader *r, enum execframe_side from);
void execframe_reader_fini(struct execframe_reader *r);

/* Borrow in until execframe_next has returned 0 or less. */
void execframe_feed(struct execframe_reader *r, struct slice in);

/*
 * The next frame, or piece of one; its data is valid until the next call.
 * 1, 0 when all is taken, or for good: ERR_UNSUPPORTED (type),
 * ERR_TOO_BIG, ERR_PROTOCOL (length or value), ERR_RANGE (offset),
 * ERR_NOMEM.
 */
int execframe_next(struct execframe_reader *r, struct execframe *out);

#endif
