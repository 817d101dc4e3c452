/*
 * ws: the words of the WebSocket protocol (floor: wire; RFC 6455).
 *
 * Frame heads, masking and close codes.  Nothing here keeps state; wsconn is
 * the machine, wsopen the opening handshake.
 */
#ifndef WIRE_WS_H
#define WIRE_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum ws_opcode {
	WS_CONT = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10
};

enum {
	WS_HEAD_MAX = 14,    /* bytes of the longest frame head */
	WS_CONTROL_MAX = 125 /* payload of a control frame (5.5) */
};

/* Close codes that Muster itself sends or tells of (7.4.1). */
enum {
	WS_CODE_NORMAL = 1000,
	WS_CODE_AWAY = 1001,
	WS_CODE_PROTOCOL = 1002,
	WS_CODE_TYPE = 1003,
	WS_CODE_NONE = 1005, /* a close without a code; never on the wire */
	WS_CODE_LOST = 1006, /* no close at all; never on the wire */
	WS_CODE_DATA = 1007,
	WS_CODE_POLICY = 1008,
	WS_CODE_TOO_BIG = 1009,
	WS_CODE_INTERNAL = 1011,
	WS_CODE_LATER = 1013 /* try again later; of the registry */
};

struct ws_head {
	uint64_t len;  /* payload bytes, below 2^63 */
	uint32_t mask; /* the four bytes in wire order; only when masked */
	uint8_t opcode;
	bool fin;
	bool rsv1; /* compressed, when so negotiated (RFC 7692) */
	bool masked;
};

/*
 * Read a frame head.  >0 its length; 0 when more bytes are needed;
 * ERR_PROTOCOL as soon as a byte shows one of: RSV2 or RSV3, a reserved
 * opcode, a control frame that is fragmented, compressed or longer than 125
 * bytes, a length not in its shortest form or above 2^63 - 1.
 */
int ws_decode_head(struct slice in, struct ws_head *out);

/* Write a frame head; its length, 2 to WS_HEAD_MAX. */
size_t ws_encode_head(uint8_t out[WS_HEAD_MAX], const struct ws_head *h);

/*
 * Mask or unmask n bytes in place, the first being byte number at of its
 * payload (5.3).  True when all of the result is ASCII, so that the usual
 * text needs no second look.
 */
bool ws_mask(uint8_t *bytes, size_t n, uint32_t mask, uint64_t at);

/* Whether a code may stand in a close frame (7.4; 1012 to 1014 from the
 * registry of IANA). */
bool ws_code_valid(uint16_t code);

#endif
