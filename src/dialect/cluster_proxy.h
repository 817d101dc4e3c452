/*
 * cluster_proxy: requests to services by JSON messages (floor: dialect).
 *
 * What agents of clusters are asked that announce `supports_websocket_proxy`
 * but do not speak yamux, and every form of what they answer:
 * docs/protocol/cluster.md, "Requests to services".  This is text alone; which
 * message may follow which is proxied.h.
 *
 * Every proxy_put_* appends one message to out: 0, ERR_FULL or ERR_NOMEM.  Ids
 * are the caller's, at most PROXY_ID_MAX bytes.  proxy_stream_data does not
 * exist here: agents of the field die of it.
 */
#ifndef DIALECT_CLUSTER_PROXY_H
#define DIALECT_CLUSTER_PROXY_H

#include "base/arena.h"
#include "base/heap.h"
#include "base/js.h"
#include "base/stamp.h"

#include "wire/http1_write.h"

enum {
	PROXY_ID_MAX = 128,
	PROXY_FIELDS_MAX = 256,       /* of one answer's head */
	PROXY_HEAD_MAX = 64 * 1024,   /* bytes of names and values */
	PROXY_MESSAGE_MAX = 10 << 20, /* payload of a WebSocket message */
	PROXY_BODY_MAX = 32 << 20,    /* of a whole answer, unpacked */
	PROXY_RATIO_MAX = 1100,       /* more than deflate can do */
	PROXY_TEXT_MAX = 300,         /* bytes of their sentences we keep */
};

/* What a registration says of `features`. */
struct proxy_features {
	bool proxy;              /* supports_websocket_proxy */
	bool gateway;            /* supports_gateway: knows gateway_hello */
	bool streaming;          /* supports_streaming: bodies in pieces */
	bool response_streaming; /* answers in pieces */
};

/* payload.features of a registration; what is no boolean is false. */
void proxy_read_features(struct js_value features, struct proxy_features *out);

/* Asking ------------------------------------------------------------------ */

struct proxy_ask {
	struct slice id;
	struct slice method;
	struct slice path;   /* without query */
	struct slice query;  /* without "?"; may be absent */
	struct slice scheme; /* "http", "https" */
	/* Host included; names that differ in case only are one. */
	const struct http1_pair *fields;
	size_t count;
	struct slice service, namespace; /* absent: the agent's own way */
	uint16_t port;
	struct slice agent_id;
	struct slice cluster_id; /* may be absent */
	msec within;             /* 0: what the agent thinks right */
	bool answer_streams;     /* the answer may come in pieces */
	bool body_streams;       /* the body follows in pieces */
	struct slice body;       /* else this, whole */
	bool websocket;
	struct slice protocol; /* subprotocols offered; may be absent */
};

/* Also ERR_INVALID: a field that is not UTF-8. */
int proxy_put_ask(const struct proxy_ask *ask, wall_msec now, struct buf *out);
int proxy_put_chunk(
    struct slice id, struct slice bytes, wall_msec now, struct buf *out);
int proxy_put_end(struct slice id, wall_msec now, struct buf *out);
int proxy_put_cancel(struct slice id, wall_msec now, struct buf *out);
/* A WebSocket message: kind is its opcode, CLOSE, PING and PONG too. */
int proxy_put_data(struct slice id, uint8_t kind, struct slice bytes,
    wall_msec now, struct buf *out);
int proxy_put_close(struct slice id, wall_msec now, struct buf *out);
/* Offer yamux for what is binary from here on. */
int proxy_put_hello(wall_msec now, struct buf *out);

/* What comes back --------------------------------------------------------- */

enum proxy_kind {
	PROXY_OTHER,    /* nothing of this family: see cluster_decode */
	PROXY_BAD,      /* of this family, and wrong: err, why */
	PROXY_RESPONSE, /* a whole answer: status, fields, body */
	PROXY_HEADER,   /* of an answer in pieces: status, fields */
	PROXY_CHUNK,    /* body, sequence */
	PROXY_END,
	PROXY_ABORT,     /* text */
	PROXY_ERROR,     /* text */
	PROXY_DATA,      /* a WebSocket message: opcode, body, sequence */
	PROXY_CLOSE,     /* code, text */
	PROXY_SLOW,      /* backpressure: text is the reason */
	PROXY_FALLBACK,  /* text is the type that it does not know */
	PROXY_HELLO_ACK, /* agreed */
};

struct proxy_said {
	enum proxy_kind kind;
	struct slice id;                 /* absent: none was said */
	int status;                      /* 100 to 599 */
	const struct http1_pair *fields; /* clean: no byte breaks a line */
	size_t count;
	struct slice body; /* decoded; unpacked where that was to be */
	uint8_t opcode;    /* DATA */
	uint16_t code;     /* CLOSE; 0: not said */
	int64_t sequence;  /* -1: not said */
	bool agreed;       /* HELLO_ACK */
	bool lost;         /* SLOW: a message was thrown away */
	struct slice text; /* theirs; any bytes, at most PROXY_TEXT_MAX */
	int err;           /* BAD */
	struct slice why;  /* BAD: a sentence of ours */
};

/*
 * One text message.  All that out points to lives in text, a and body, which
 * is cleared first and holds decoded bytes.  What cannot be read at all is
 * OTHER: cluster_decode complains of it.  0, or ERR_NOMEM and out is
 * untouched.
 */
int proxy_read_text(struct slice text, struct arena *a, struct buf *body,
    struct proxy_said *out);

/*
 * One binary message of an agent without yamux: a whole answer,
 * `u16 id_len | id | u32 status | u32 headers_len | headers | body`.  Never
 * OTHER; else as proxy_read_text.
 */
int proxy_read_frame(struct slice frame, struct arena *a, struct buf *body,
    struct proxy_said *out);

/* What the file of bodies (cluster_proxy_body.c) does for the reader: bytes
 * as they came, to what the service has sent.  0, ERR_INVALID (not what
 * encoding says), ERR_TOO_BIG, ERR_UNSUPPORTED (encoding), ERR_NOMEM. */
int proxy_open_body(struct slice text, struct slice encoding, struct buf *body,
    struct slice *out);
/* Packed by the agent without a word?  0 or ERR_TOO_BIG, ERR_NOMEM. */
int proxy_settle_body(struct slice raw, const struct http1_pair *fields,
    size_t count, struct buf *body, struct slice *out);

/* The first field of that name, absent when there is none. */
struct slice proxy_field(
    const struct http1_pair *fields, size_t count, struct slice name);

#endif
