/*
 * deflate: permessage-deflate (floor: wire; RFC 7692).
 *
 * Negotiation for both roles, and messages packed and unpacked.  Streams
 * cost much memory (up to 300 KB to pack, 40 KB to unpack), so connections
 * without context takeover borrow those of their lane's pool; only takeover
 * in a direction gives a connection a stream of its own.
 */
#ifndef WIRE_DEFLATE_H
#define WIRE_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum { DEFLATE_BITS_MIN = 9, DEFLATE_BITS_MAX = 15 };

/*
 * What is in force on a connection.  Zero: nothing is compressed.  Bits are
 * the base-2 logarithms of the windows; zlib cannot pack with 8, so a side
 * that is bound to 8 sends its messages uncompressed.
 */
struct deflate_terms {
	bool on;
	bool server_takeover;
	bool client_takeover;
	uint8_t server_bits;
	uint8_t client_bits;
};

/*
 * What this side wants.  Zero means 15 bits and no takeover.  A server
 * grants takeover of a direction only when set; a client asks for it by not
 * forbidding it.
 */
struct deflate_policy {
	bool server_takeover;
	bool client_takeover;
	uint8_t server_bits; /* at most; 9 to 15, 0 = 15 */
	uint8_t client_bits;
};

/* Longest text of an offer or answer. */
enum { DEFLATE_TEXT_MAX = 160 };

struct deflate_text {
	size_t len;
	uint8_t bytes[DEFLATE_TEXT_MAX];
};

/*
 * Server: choose from the offers of Sec-WebSocket-Extensions the first that
 * can be met; an offer with an unknown, doubled or malformed parameter is
 * passed over (RFC 7692 5.1).  1, the terms and the extension to answer
 * with; 0 when none was taken; ERR_INVALID when the list itself breaks the
 * grammar.
 */
int deflate_accept(struct slice extensions, const struct deflate_policy *want,
    struct deflate_terms *terms, struct deflate_text *answer);

/* Client: the extension to offer. */
void deflate_offer(
    const struct deflate_policy *want, struct deflate_text *offer);

/*
 * Client: the server's answer to deflate_offer, or to no offer at all (want
 * NULL).  0 and *out (off when the server took nothing); ERR_PROTOCOL when
 * the answer names what was not offered or does not fit it.
 */
int deflate_check(struct slice extensions, const struct deflate_policy *want,
    struct deflate_terms *out);

/* One direction's zlib stream; NULL until first used. */
struct deflate_stream;

/* The streams of one lane, made when first needed. */
struct deflate_pool {
	struct deflate_stream *packers[DEFLATE_BITS_MAX + 1]; /* owned */
	struct deflate_stream *unpacker;                      /* owned */
	int level; /* zlib's, 1 to 9 */
};

void deflate_pool_init(struct deflate_pool *p, int level);
void deflate_pool_fini(struct deflate_pool *p);

/* The pool's stream, reset; NULL without memory. */
struct deflate_stream *deflate_pool_packer(struct deflate_pool *p, int bits);
struct deflate_stream *deflate_pool_unpacker(struct deflate_pool *p);

/* A stream of one's own.  NULL without memory. */
struct deflate_stream *deflate_new_packer(int bits, int level);
struct deflate_stream *deflate_new_unpacker(int bits);
void deflate_free(struct deflate_stream *s);

/* Bytes that s holds; 0 for NULL. */
size_t deflate_memory(const struct deflate_stream *s);

/* At most so many bytes come of packing n. */
size_t deflate_bound(struct deflate_stream *s, size_t n);

/*
 * Pack one message into room bytes at out, without the four last bytes (RFC
 * 7692 7.2.1).  Its length, or 0 when there was not room enough: then the
 * stream is out of step and of no use any more.
 */
size_t deflate_pack(
    struct deflate_stream *s, struct slice message, uint8_t *out, size_t room);

/*
 * Unpack one whole message to the end of out (7.2.2).  0; ERR_TOO_BIG when it
 * is longer than cap, found before more than cap bytes are held;
 * ERR_CORRUPT; ERR_NOMEM.
 */
int deflate_unpack(
    struct deflate_stream *s, struct slice packed, size_t cap, struct buf *out);

#endif
