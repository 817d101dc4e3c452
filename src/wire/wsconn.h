/*
 * wsconn: one WebSocket connection after its handshake, either role (floor:
 * wire; RFC 6455, RFC 7692).
 *
 * A pure machine: bytes and time go in, events and bytes come out.  What is
 * received is unmasked in the caller's own buffer, and a message that came
 * whole in one read is handed out from there without a copy; only what is
 * cut by the end of a read is kept, and nothing at all while idle.
 *
 *	wsconn_feed(&c, bytes, n, now);
 *	while ((r = wsconn_next(&c, &ev)) > 0)
 *		... wsconn_send(&c, &out, ...);
 *	... append wsconn_out(&c) to what is sent, wsconn_sent(&c, n) ...
 *	if (wsconn_closed(&c)) ... close the transport ...
 *
 * The machine answers pings and closes by itself.  It appends such frames
 * to wsconn_out, which may be written between any two frames, but not
 * inside one.
 */
#ifndef WIRE_WSCONN_H
#define WIRE_WSCONN_H

#include "base/heap.h"
#include "wire/deflate.h"
#include "wire/ws.h"
#include "wire/wstail.h"

/*
 * What the connections of one thread share: streams to pack and unpack, a
 * scratch buffer, a few buffers for long messages that a read has cut, which
 * the heap would map and clear anew for each, and the source of a client's
 * masks.  Outlives them.
 */
enum { WSCONN_SPARES = 4 };
struct wsconn_lane {
	struct deflate_pool pool;
	struct buf scratch;               /* an unpacked message */
	struct buf spares[WSCONN_SPARES]; /* emptied, for long parts */
	uint64_t mask_key[2]; /* secret and random: masks are a keyed hash */
	uint64_t mask_count;  /* of a counter (RFC 6455 10.3) */
};

/* level is zlib's, 1 to 9.  Pair with wsconn_lane_fini. */
void wsconn_lane_init(
    struct wsconn_lane *l, const uint64_t mask_key[2], int level);
void wsconn_lane_fini(struct wsconn_lane *l);

/* Of a kind of connection; shared and borrowed, outlives them. */
struct wsconn_config {
	struct wsconn_lane *lane;
	size_t text_cap;     /* longest message, bytes; below 4 GiB */
	size_t binary_cap;   /* both can be changed by wsconn_set_caps */
	size_t compress_min; /* shorter messages are sent as they are */
	msec ping_every;     /* 0 = the machine sends no pings */
	msec dead_after;     /* silence that means dead; 0 = never */
	msec close_within;   /* for the closing handshake; 0 = for ever */
};

enum wsconn_role { WSCONN_SERVER, WSCONN_CLIENT };
enum wsconn_state { WSCONN_OPEN, WSCONN_CLOSING, WSCONN_CLOSED };

struct wsconn_part; /* a frame or message not yet whole */

/* Fields are the machine's own; at most 128 bytes. */
struct wsconn {
	const struct wsconn_config *config;
	uint8_t *in; /* borrowed from wsconn_feed, not yet read */
	size_t in_len;
	struct wsconn_part *part;        /* owned */
	struct wstail *tail;             /* owned */
	struct deflate_stream *packer;   /* owned, with takeover only */
	struct deflate_stream *unpacker; /* owned, with takeover only */
	msec heard;                      /* when bytes last came */
	msec ping_at; /* of the next ping; once closing, of giving up */
	msec pinged;  /* the last ping of ours, its payload; 0 = none */
	uint32_t text_cap;
	uint32_t binary_cap;
	struct deflate_terms terms;
	uint8_t role;
	uint8_t state;
	bool spent; /* part holds a message that was handed out */
};

/* kind is a WS_ opcode, or this. */
enum { WSCONN_ERROR = 16 };

struct wsconn_event {
	uint8_t kind; /* WS_TEXT, _BINARY, _PING, _PONG, _CLOSE, WSCONN_ERROR */
	uint16_t code; /* CLOSE: the peer's, WS_CODE_NONE; ERROR: ours */
	int err;   /* ERROR: ERR_PROTOCOL, _UTF8, _TOO_BIG, _CORRUPT, _NOMEM */
	msec trip; /* PONG to our ping: its round trip; else -1 */
	struct slice data; /* message, payload, reason; ERROR: a sentence */
};

/* Start OPEN, allocating nothing.  Pair with wsconn_fini. */
void wsconn_init(struct wsconn *c, enum wsconn_role role,
    const struct wsconn_config *config, msec now);
void wsconn_fini(struct wsconn *c);

/* Compression as negotiated; before the first feed or send. */
void wsconn_set_deflate(struct wsconn *c, const struct deflate_terms *terms);

/* From the next frame on; a message already begun is held to the new cap. */
void wsconn_set_caps(struct wsconn *c, size_t text_cap, size_t binary_cap);

/*
 * Lend the machine n bytes as received; they are written to.  The loan ends
 * when wsconn_next returns 0 or less; only then may more be fed.
 */
void wsconn_feed(struct wsconn *c, uint8_t *bytes, size_t n, msec now);

/*
 * 1 and *ev; 0 when all that was fed is used up.  ev->data is borrowed until
 * the next wsconn_next of any connection of the lane.  Events end with a
 * CLOSE or an ERROR; after either, input is dropped.  Messages that the peer
 * sent before it saw our close are still handed out.  An ERROR has queued
 * its close frame already, and the connection is to be ended.
 */
int wsconn_next(struct wsconn *c, struct wsconn_event *ev);

/*
 * Append one whole message to out, compressed when negotiated and worth it.
 * opcode is WS_TEXT or WS_BINARY; plain forbids compression (secrets).
 * 0; ERR_CLOSED when no longer open; ERR_FULL or ERR_NOMEM as out->err has
 * it, and nothing was appended.
 */
int wsconn_send(struct wsconn *c, struct buf *out, enum ws_opcode opcode,
    struct slice payload, bool plain);

/*
 * A frame head alone, for payload that is shared or sent in pieces.  A
 * client's payload must then go through ws_mask with *mask (untouched for a
 * server).  A long message: head->fin false, then WS_CONT frames, the last
 * with fin.  The head's length.
 */
size_t wsconn_head(
    struct wsconn *c, struct ws_head *head, uint8_t out[WS_HEAD_MAX]);

/*
 * The head of a whole message that can be sent from where it lies, because
 * a server sends it neither masked nor packed: its length.  0 when it must
 * go through wsconn_send, which also says why nothing can be sent.
 */
size_t wsconn_whole_head(struct wsconn *c, enum ws_opcode opcode, size_t len,
    uint8_t out[WS_HEAD_MAX]);

/*
 * The window bits that messages to this peer may be packed with by whoever
 * packs once for many (deflate_pool_packer, a head with rsv1); 0 when this
 * connection takes no shared packing.
 */
int wsconn_shared_bits(const struct wsconn *c);

/* Queue a ping of up to 125 bytes.  0, ERR_CLOSED, ERR_FULL, ERR_NOMEM. */
int wsconn_ping(struct wsconn *c, struct slice payload);

/*
 * Begin to close: queue a close frame.  code WS_CODE_NONE sends none; reason
 * is UTF-8, cut to 123 bytes at a character's border.  Idempotent; nothing
 * may be sent after it.  0, or ERR_NOMEM: then closed without a frame.
 */
int wsconn_close(
    struct wsconn *c, uint16_t code, struct slice reason, msec now);

/* Control frames to be written, borrowed until the next call on c; and that
 * the first n bytes of them were taken. */
struct slice wsconn_out(const struct wsconn *c);
void wsconn_sent(struct wsconn *c, size_t n);

/*
 * Both sides have closed, or an error has, and wsconn_out is empty: end the
 * transport.  A server ends it at once (shut down writing, read until EOF,
 * so that no reset overtakes the close frame), a client may wait for EOF
 * until wsconn_deadline (7.1.1).
 */
bool wsconn_closed(const struct wsconn *c);

/* When wsconn_expire is due; INT64_MAX for never. */
msec wsconn_deadline(const struct wsconn *c);

/* 0, having queued a ping if due; ERR_TIMEOUT when the peer is dead or the
 * closing handshake took too long: end the transport. */
int wsconn_expire(struct wsconn *c, msec now);

/* Bytes held beyond the struct itself, for the account of memory. */
size_t wsconn_memory(const struct wsconn *c);

#endif
