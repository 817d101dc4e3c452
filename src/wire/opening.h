/*
 * opening: the first bytes of a stream that the controller opens (floor:
 * wire).
 *
 * Version 1 is what agents in the field know (tunnels only):
 *
 *     u8 1 | u8 proto | u16 port | u16 n, service | u16 n, namespace |
 *     u16 n, tunnel id
 *
 * Version 2 is Muster's own:
 *
 *     u8 2 | u8 kind | u16 n, JSON
 *
 * Integers are big-endian.  Texts and JSON are opaque here: whoever dials or
 * runs something validates them.
 */
#ifndef WIRE_OPENING_H
#define WIRE_OPENING_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum { OPENING_TEXT_MAX = 1024 }; /* each text of version 1 */

/* The longest opening: a caller that gathers one needs no more room. */
enum { OPENING_MAX = 4 + UINT16_MAX };

enum opening_proto { OPENING_TCP = 1, OPENING_UDP = 2 };

enum opening_kind {
	OPENING_KIND_TCP = 1,
	OPENING_KIND_UDP,
	OPENING_KIND_HTTP,
	OPENING_KIND_EXEC,
	OPENING_KIND_SHELL,
	OPENING_KIND_FILE,
	OPENING_KIND_LOG,
	OPENING_KIND_METRICS
};

struct opening {
	uint8_t version; /* 1 or 2; the other's fields are empty */
	enum opening_proto proto;
	uint16_t port;
	struct slice service;
	struct slice namespace;
	struct slice tunnel_id;
	enum opening_kind kind;
	struct slice json;
};

/*
 * Read an opening off the front of in; its slices borrow from in.
 * Bytes consumed, 0 for more, ERR_UNSUPPORTED (version, proto or kind) or
 * ERR_TOO_BIG, as soon as the bytes at hand decide it.
 */
int opening_decode(struct slice in, struct opening *out);

/* Append it: 0, ERR_TOO_BIG, or the error of b. */
int opening_encode(const struct opening *o, struct buf *b);

/*
 * What answers an opening has the same shape as one of version 2:
 *
 *     u8 2 | u8 status (0 yes, 1 no) | u16 n, JSON
 *
 * Gather either off the front of what comes into *head, whose cap is the
 * longest that is taken; *in becomes the rest.  1 when it is whole, 0 not
 * yet, ERR_PROTOCOL (another version), ERR_TOO_BIG, ERR_NOMEM.
 */
enum { OPENING_HEAD = 4 };
int opening_gather(struct buf *head, struct slice *in);
int opening_put_answer(struct buf *b, uint8_t status, struct slice json);

/* "tcp", "udp" ... "metrics". */
const char *opening_kind_name(enum opening_kind kind);

#endif
