/*
 * exchange_json: what the files of exchanges by JSON messages share (floor:
 * server).
 */
#ifndef SERVER_EXCHANGE_JSON_H
#define SERVER_EXCHANGE_JSON_H

#include "dialect/proxied.h"

#include "server/exchange.h"
#include "server/proxy_link.h"

enum {
	ASKED_PIECE = 32 * 1024,   /* of a body, in one message */
	ASKED_WHOLE = 1 << 20,     /* a body up to this is sent whole */
	ASKED_WHOLE_MAX = 7 << 20, /* to agents that take no pieces */
	ASKED_OUT_MAX = 16 << 20,  /* what waits for the link */
	ASKED_OUT_HIGH = 256 * 1024,
	ASKED_LENT = 256 * 1024, /* of a body, with the visitor at once */
	ASKED_IN_MAX = 4 << 20,  /* of what comes in pieces or messages */
	ASKED_LOG_ID = 64,
	/* Agents hand each message to a thread of its own: what they read
	 * in the same moment may be turned about there, and more than 100 at
	 * once are thrown away.  So a message waits until a ping behind the
	 * one before is answered and a moment more has passed for the thread
	 * to begin, or for ASKED_GAP; ms. */
	ASKED_MOMENT = 2,
	ASKED_GAP = 50,
	ASKED_BYE = 5000, /* for the last of them, when the visitor has gone */
};

struct asked {
	struct exchange base;
	struct proxy_use use;
	struct dock *dock;
	struct proxied p;
	struct exchange_order order; /* its texts: until the first answer */
	struct arena arena;          /* of a WebSocket: what it offered */
	struct loop_timer timer;
	struct loop_task task; /* what consume made room for */
	struct buf body;       /* of the request, before it is told */
	struct buf out;        /* for the agent: items, see flush */
	struct buf in;         /* of the answer's body, for the visitor */
	size_t lent;           /* to the owner, not yet consumed */
	unsigned depth;        /* calls that are not over */
	bool awaited;          /* the visitor waits for 100 (Continue) */
	bool told;             /* proxy_request has left */
	bool whole;            /* the request is */
	bool open;             /* a WebSocket */
	bool ends;             /* the answer is over behind what is in `in` */
	bool above;            /* drained is owed */
	bool over, dropped;
	bool closing;  /* over for the owner, and messages still wait */
	msec next_at;  /* the earliest for the next message */
	msec close_by; /* closing: then whatever waits is given up */
	uint8_t log_id_len;
	uint8_t log_id[ASKED_LOG_ID]; /* the visitor's request_id */
};

/* Around everything that may end it: the memory goes with the last leave. */
void asked_enter(struct asked *x);
void asked_leave(struct asked *x);

/* Set the timer anew; after everything. */
void asked_settle(struct asked *x);

/* Nothing comes of it any more. */
void asked_over(struct asked *x);
/* It has failed: told to the owner, and to the agent if it does not know. */
void asked_fail(struct asked *x, const struct exchange_failure *f);
void asked_fail_inside(struct asked *x, int err);
/* Tell the agent that nobody waits any more. */
void asked_cancel(struct asked *x);

/* exchange_json_ask.c: towards the agent ------------------------------------
 */

int asked_write(struct exchange *base, struct slice bytes);
int asked_end(
    struct exchange *base, const struct http1_pair *trailers, size_t count);
int asked_message(struct exchange *base, const struct exchange_message *m);
bool asked_above_high(const struct exchange *base);
/* Service and namespace of a target, absent when the agent is to find its
 * own way; false when there is no way to say it. */
bool asked_service(const struct tunnel_target *t, struct slice *service,
    struct slice *namespace);
/* Say proxy_request of a WebSocket.  0 or ERR_*. */
int asked_open(struct asked *x);
/* A pong to the service. */
void asked_pong(struct asked *x, struct slice payload);
/* Send what waits, as far as link and agent take it; drained if owed. */
void asked_flush(struct asked *x);

/* exchange_json_answer.c: what comes back -----------------------------------
 */

void asked_hear(struct asked *x, const struct proxy_said *said);
/* Take the machine's events. */
void asked_take(struct asked *x);
/* Say 100 (Continue): there is no word of theirs for it. */
void asked_invite(struct asked *x);
/* Pass on what waits for the visitor. */
void asked_deliver(struct asked *x);
/* Forget what waits there. */
void asked_forget(struct asked *x);

#endif
