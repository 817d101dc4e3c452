/*
 * proxied: one request by JSON messages, from its asking to its end (floor:
 * dialect; docs/protocol/cluster.md, "Requests to services").
 *
 * The first answer decides the form: whole, in pieces, or a WebSocket.  What
 * does not follow from what came before is the work of an agent that mixes up,
 * loses or invents: the request fails then and says so, for a part that is
 * missing is worse than no answer.  What is only too much (said twice, or
 * after the end) is passed over, and the caller counts it.
 *
 * Life: proxied_init -> proxied_asked when all of the request has gone ->
 * feed, next... until OVER; nothing is allocated.
 */
#ifndef DIALECT_PROXIED_H
#define DIALECT_PROXIED_H

#include "dialect/cluster_proxy.h"

struct proxied_terms {
	bool head; /* HEAD was asked: no body comes */
	bool websocket;
	struct slice protocols; /* subprotocols offered; borrowed */
	msec answer_within;     /* first word, from proxied_asked */
	msec idle_within;       /* nothing either way, once it goes */
	msec chunk_within;      /* bytes that wait to leave for the agent */
	msec write_within;      /* bytes that wait to leave for the visitor */
};

extern const struct proxied_terms proxied_defaults;

enum proxied_state {
	PROXIED_ASKED,
	PROXIED_PIECES, /* the head is there */
	PROXIED_OPEN,   /* a WebSocket */
	PROXIED_OVER,
};

enum proxied_kind {
	PROXIED_HEAD,     /* said's status and fields; length */
	PROXIED_BODY,     /* said's body */
	PROXIED_ENDED,    /* the answer is complete */
	PROXIED_UPGRADED, /* said's fields */
	PROXIED_MESSAGE,  /* said's opcode and body: TEXT, BINARY, PING, PONG */
	PROXIED_CLOSED,   /* the WebSocket: code, text */
	PROXIED_FAILED,   /* err, code, status, text */
};

struct proxied_event {
	enum proxied_kind kind;
	const struct proxy_said *said; /* what was fed */
	int64_t length;    /* HEAD: of the body; -1 not known.  Of an answer
			    * without body what it says of one */
	uint16_t close;    /* CLOSED, and FAILED for a visitor's WebSocket */
	int status;        /* FAILED: 502 or 504 */
	int err;           /* FAILED */
	bool by_agent;     /* FAILED: its own word, that the service failed */
	struct slice code; /* FAILED: stable */
	struct slice text; /* FAILED: ours; CLOSED: theirs */
};

enum proxied_side { PROXIED_AGENT, PROXIED_VISITOR };

struct proxied {
	struct proxied_terms terms;
	enum proxied_state state;
	struct proxied_event events[3]; /* not yet taken */
	uint8_t count, taken;
	int64_t length;   /* said in the head; -1 */
	int64_t got;      /* of the body */
	int64_t sequence; /* the last one; -1 */
	msec answer_due;  /* INT64_MAX until all was asked */
	msec active;      /* last word either way */
	size_t queued[2]; /* bytes that wait, by side */
	msec since[2];    /* that there are no fewer */
	bool held;        /* the agent wants less: send nothing */
	msec held_until;
	uint32_t holds; /* one after the other */
};

void proxied_init(
    struct proxied *p, const struct proxied_terms *terms, msec now);

/* All of the request is on its way. */
void proxied_asked(struct proxied *p, msec now);

/*
 * What the agent said about this request; events before it must be taken.
 * said must live until those that come of it are.  False when it meant
 * nothing: too late, or once too often.
 */
bool proxied_feed(struct proxied *p, const struct proxy_said *said, msec now);

/* The next event, in order. */
bool proxied_next(struct proxied *p, struct proxied_event *out);

/* A message or a piece of the body was put on its way to the agent. */
void proxied_sent(struct proxied *p, msec now);
/* So many bytes wait to leave for a side; fewer than before is progress. */
void proxied_queue(
    struct proxied *p, enum proxied_side side, size_t bytes, msec now);

/* INT64_MAX when nothing is awaited. */
msec proxied_deadline(const struct proxied *p);
/* Then look for events, and at held. */
void proxied_expire(struct proxied *p, msec now);

#endif
