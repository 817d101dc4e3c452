/*
 * signed: the dialect of agents that sign every message (floor: dialect).
 *
 * Envelopes {type, agentId, ts, nonce, payload, signature}, each verified by
 * itself; docs/protocol/signed.md is the specification.  One struct
 * signed_peer is one connection: what it may say, how often, and which
 * commands it was given, for a result names nothing but its verb.
 *
 * The order is: signed_read (is it an envelope, and whose?), the secret is
 * fetched by whoever owns the connection, signed_check (is it theirs, and of
 * now?), the nonce is looked up, signed_decode (what does it say?).  What is
 * refused by one of them costs the connection: a close code and a reason.
 */
#ifndef DIALECT_SIGNED_H
#define DIALECT_SIGNED_H

#include "base/buf.h"
#include "base/js.h"

#include "model/event.h"

#include "wire/canon.h"
#include "wire/nonces.h"

enum {
	SIGNED_DEPTH_MAX = 64,
	SIGNED_NONCE_MAX = 256,   /* bytes */
	SIGNED_SEND_MAX = 32768,  /* bytes of a message of ours */
	SIGNED_OLD_MAX = 300000,  /* ms that a message may be old */
	SIGNED_AHEAD_MAX = 60000, /* and of the future */
	SIGNED_HOLD = 361000,     /* so long a nonce is remembered */
	SIGNED_NONCES = 100000,   /* of one agent in that time */
	SIGNED_RATE = 10,         /* messages a second */
	SIGNED_BURST = 100,
	SIGNED_SURPLUS = 600,      /* so many over it are only dropped */
	SIGNED_ORDERS = 8,         /* commands that may be unanswered */
	SIGNED_LATE = 300000,      /* ms that one is still waited for */
	SIGNED_KEYS = 2,           /* secrets that are good at a time */
	SIGNED_METRICS_MAX = 4096, /* bytes of what is kept of metrics */
	SIGNED_LOG_MAX = 8192,     /* bytes of a log message, then cut */
	SIGNED_WORD_MAX = 256,     /* bytes of hostname, version, source */
};

/* Why a connection is to be closed; code 0: it is not. */
struct signed_refusal {
	uint16_t code;
	struct slice reason; /* a literal */
	int err;             /* ERR_*, for the log and the hub */
};

struct signed_envelope {
	struct js_doc doc;
	struct slice type;
	struct slice agent_id;
	int64_t ts;
	struct slice nonce;
};

/*
 * One text: out lives as long as text and a.  0 or ERR_NOMEM; *no says
 * whether it is an envelope.  One whose members are wrong is one, and refused
 * by signed_check, so that nobody learns from the answer which ids there are.
 */
int signed_read(struct slice text, struct arena *a, struct signed_envelope *out,
    struct signed_refusal *no);

/* Whose messages these are, and when. */
struct signed_judge {
	struct slice agent_id;
	const struct slice *keys;
	size_t count; /* 0: there is no such agent; the work is done anyway */
	wall_msec now;
	struct canon_work *work;
};

/*
 * Whether it is signed by one of the keys, of this agent, and of now.  key:
 * the one that fits.  0, ERR_NOMEM or ERR_FULL (work); the verdict in *no.
 */
int signed_check(const struct signed_envelope *e, const struct signed_judge *j,
    struct signed_refusal *no, size_t *key);

/* What nonces_take says of its nonce. */
struct signed_refusal signed_nonce_refusal(int err);

/* A command it was given. */
struct signed_order {
	uint8_t id[30];
	uint8_t id_len;
	int8_t verb; /* verbs_find */
	bool over;   /* nobody waits for its result any more */
	msec over_at;
	msec given_at;
	wall_msec wall;
};

/* All zero at the start but agent_id. */
struct signed_peer {
	struct slice agent_id; /* borrowed */
	bool registered;       /* REGISTER was decoded once */
	bool introduced;       /* by auth */
	uint32_t tokens_used;  /* of the burst */
	uint32_t surplus;      /* dropped since it last kept to its rate */
	msec filled_at;
	struct signed_order orders[SIGNED_ORDERS]; /* oldest first */
	size_t order_count;
};

enum signed_word {
	SIGNED_NOTHING, /* understood or ignored */
	SIGNED_EVENT,   /* event, for the hub */
	SIGNED_DROPPED, /* over its rate: not heard */
	SIGNED_IGNORED, /* an unknown type */
	SIGNED_BAD,     /* why: a member is wrong; the connection stays */
	SIGNED_STRAY    /* a result that nobody waits for (any more) */
};

struct signed_message {
	enum signed_word word;
	struct event event;
	/* It is the first: this one registers it, and goes before event. */
	bool registers;
	struct event registration;
	struct slice field; /* BAD */
	struct slice verb;  /* STRAY */
	msec took;          /* AGENT_ENDED */
};

/* Now, and where what is read may live. */
struct signed_context {
	msec now;
	wall_msec wall;
	struct arena *a;
};

/* What a checked envelope says.  0 or ERR_NOMEM.  *no: it said too much. */
int signed_decode(struct signed_peer *p, const struct signed_envelope *e,
    const struct signed_context *c, struct signed_message *out,
    struct signed_refusal *no);

/* What a message of ours is signed with. */
struct signed_pen {
	struct slice key;
	struct slice nonce; /* unique */
};

/*
 * Append the message that gives it a command, and remember it.  0;
 * ERR_UNSUPPORTED: it is none that this dialect has words for; ERR_TOO_BIG;
 * ERR_FULL or ERR_NOMEM.
 */
int signed_encode(struct signed_peer *p, const struct command_record *r,
    const struct signed_pen *pen, const struct signed_context *c,
    struct buf *out);

#endif
