/*
 * wsopen: the opening handshake (floor: wire; RFC 6455 4).
 *
 * Judges and makes the values of the handshake's fields.  HTTP heads are
 * read by http1; whoever has one fills the neutral structures below.
 */
#ifndef WIRE_WSOPEN_H
#define WIRE_WSOPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/*
 * What the opening handshake of a client said (4.2.1).  Slices are absent
 * when the field is; fields that may be repeated are joined by commas by
 * whoever fills this in, for those that may not the count says how often.
 */
struct wsopen_request {
	struct slice method;
	unsigned major, minor; /* of HTTP */
	unsigned hosts;        /* how many Host fields */
	struct slice upgrade;  /* joined */
	struct slice connection;
	struct slice extensions;
	struct slice protocols;
	struct slice key; /* Sec-WebSocket-Key, the last one */
	unsigned keys;
	struct slice version; /* Sec-WebSocket-Version, the last one */
	unsigned versions;
	bool has_body; /* Content-Length above 0, or Transfer-Encoding */
};

struct wsopen_verdict {
	int status;          /* 400, 405 (Allow: GET) or 426 (see below) */
	struct slice reason; /* a sentence, static */
};

/* Whether the request asks for a WebSocket at all: GET and "websocket" among
 * the tokens of Upgrade. */
bool wsopen_wanted(const struct wsopen_request *r);

/*
 * 0 when r may be answered by 101; else ERR_PROTOCOL and *verdict is the
 * answer.  A 426 carries "Sec-WebSocket-Version: 13" and "Upgrade:
 * websocket".  Protocol choice, origin and credentials are the caller's.
 */
int wsopen_check_request(
    const struct wsopen_request *r, struct wsopen_verdict *verdict);

/* What a server's answer said, for the client's check (4.1). */
struct wsopen_response {
	int status;
	struct slice upgrade; /* joined */
	struct slice connection;
	struct slice extensions;
	struct slice accept;
	unsigned accepts;
	struct slice protocol; /* joined: more than one token is refused */
};

/*
 * 0 when the answer opens the connection that was asked for with key and
 * protocols (as they stood in the request; absent when none was offered);
 * else ERR_PROTOCOL and *reason is a static sentence.  Whether the
 * extensions fit the offer is for deflate_check to say.
 */
int wsopen_check_response(const struct wsopen_response *r, struct slice key,
    struct slice protocols, struct slice *reason);

enum { WSOPEN_KEY_LEN = 24, WSOPEN_ACCEPT_LEN = 28 };

/* Sec-WebSocket-Key of 16 random bytes. */
void wsopen_make_key(const uint8_t nonce[16], uint8_t out[WSOPEN_KEY_LEN]);

/* Sec-WebSocket-Accept for a key (4.2.2): base64 of SHA-1 of key and GUID.
 * 0, ERR_INVALID unless the key has WSOPEN_KEY_LEN bytes, or ERR_NOMEM. */
int wsopen_make_accept(struct slice key, uint8_t out[WSOPEN_ACCEPT_LEN]);

/* Exactly 16 bytes in canonical base64. */
bool wsopen_key_valid(struct slice key);

/*
 * The whole head of a 101 answer, up to and with the empty line.  protocol
 * and extensions are left out when absent; they were checked by the caller.
 * Failures, those of wsopen_make_accept too, are left in out->err.
 */
void wsopen_put_answer(struct buf *out, struct slice key, struct slice protocol,
    struct slice extensions);

/*
 * Cut the next extension off a Sec-WebSocket-Extensions list (9.1), with
 * its parameters still unread in params.  >0 one, 0 the end, ERR_INVALID
 * when the list breaks the grammar.
 */
struct wsopen_extension {
	struct slice name;
	struct slice params;
};
int wsopen_next_extension(struct slice *list, struct wsopen_extension *out);

/* Cut the next parameter off; value is absent when there is none, and
 * without its quotes when there were.  Results as above. */
struct wsopen_param {
	struct slice name;
	struct slice value;
};
int wsopen_next_param(struct slice *params, struct wsopen_param *out);

/* The next subprotocol of a list; results as above. */
int wsopen_next_protocol(struct slice *list, struct slice *out);

#endif
