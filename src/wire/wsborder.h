/*
 * wsborder: one direction of a relayed WebSocket (floor: wire; RFC 6455 5).
 *
 * Follows the frames of a stream that others speak, so that whoever relays
 * it knows where a frame of its own may stand, can count, and sees the
 * close.  Payloads are skipped, not read: a run of any length costs what its
 * frame heads do.  Extensions are none of its business: reserved bits and
 * opcodes pass.  Bytes go on as they came, but for pongs to pings of ours.
 *
 * Life: init; for all that is received, wsborder_next until it is false,
 * passing on what it gives.  No call fails.  After a length that is none
 * (5.2) everything passes and nothing is counted or put in any more: lost.
 */
#ifndef WIRE_WSBORDER_H
#define WIRE_WSBORDER_H

#include "wire/ws.h"

enum {
	WSBORDER_TOKEN = 8,                 /* payload of our pings */
	WSBORDER_PING = 2 + WSBORDER_TOKEN, /* such a frame, unmasked */
	WSBORDER_HELD = WS_HEAD_MAX + WS_CONTROL_MAX,
};

struct wsborder {
	uint64_t messages; /* that have begun */
	uint64_t bytes;    /* of their payloads, as they stand on the wire */
	uint64_t message;  /* bytes of the last one so far */
	uint64_t frames;   /* control frames too; ours not */
	uint64_t pongs;    /* eaten */
	uint64_t waiting;  /* for pongs to so many pings */

	bool closed;   /* a close frame has gone by, or its head */
	uint16_t code; /* of it, WS_CODE_NONE when it has none; once complete */
	uint8_t reason[WS_CONTROL_MAX - 2]; /* not checked to be UTF-8 */
	uint8_t reason_len;

	/* Its own. */
	bool lost;
	uint8_t state;
	uint8_t opcode;
	uint8_t have;  /* bytes of held */
	uint64_t left; /* of the payload */
	uint8_t token[WSBORDER_TOKEN];
	uint8_t held[WSBORDER_HELD]; /* of a head, a close, a pong */
};

/* token: random, what the payload of our pings is to be. */
void wsborder_init(struct wsborder *b, const uint8_t token[WSBORDER_TOKEN]);

/*
 * Cut bytes to be passed on off the front of *bytes: false when there are
 * none.  *pass lies in *bytes or in b, until the next call.  Of a pong that
 * may be ours nothing is given before all of it is there.
 */
bool wsborder_next(struct wsborder *b, struct slice *bytes, struct slice *pass);

/* Whether a frame may be put in behind all that was passed on: between two
 * frames (those of one message too, 5.4), and before the close. */
bool wsborder_open(const struct wsborder *b);

/*
 * A ping for the end that b receives from.  The caller puts it in where the
 * other direction is open; its pong is eaten here.
 */
void wsborder_ping(struct wsborder *b, uint8_t out[WSBORDER_PING]);

#endif
