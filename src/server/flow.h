/*
 * flow: a byte stream to a service, through an agent's link on this lane
 * (floor: server; docs/protocol/muster.md, "Tunnel streams").
 *
 * One yamux stream.  Its window is the only throttle towards us: bytes that
 * were handed over count until flow_consume.  Towards the service bytes wait
 * in the flow, up to a mark, and leave when the link may send, in turn with
 * other flows: what is short before what is long, so that none stalls
 * another.
 *
 * Life: flow_open, or one that the agent opened -> ops... -> flow_close, or
 * ops.gone, which is the last call and after which it is freed.  It is gone
 * with 0 when both directions have ended and all is consumed.  Calls come
 * from the loop, never from inside a call of flow_*.
 */
#ifndef SERVER_FLOW_H
#define SERVER_FLOW_H

#include "base/heap.h"
#include "base/slice.h"

#include "model/tunnel.h"

#include "server/dock.h"

struct flow;

enum {
	FLOW_LOW = 64 * 1024,
	FLOW_HIGH = 256 * 1024,
	FLOW_CAP = 1024 * 1024, /* more than this waiting: ERR_FULL */
};

/* The agent's answer to an opening (version 2; there is none in version 1,
 * where it counts as given). */
struct flow_answer {
	int err;              /* 0, ERR_DENIED (policy), ERR_NOT_FOUND (name),
			       * ERR_TIMEOUT, ERR_REFUSED, ERR_UNREACHABLE,
			       * ERR_TLS, ERR_LIMITED, ERR_STOPPED, ERR_INVALID */
	struct slice code;    /* stable: TARGET_REFUSED, NAME_NOT_FOUND,
			       * CONNECT_REFUSED, CONNECT_TIMEOUT, TLS_FAILED..;
			       * INVALID for what is none of the protocol's */
	struct slice text;    /* a sentence */
	struct slice address; /* that was dialled, as text */
	msec resolve, connect, tls; /* what each took; -1: not done */
};

/* None of these may close the link; all may close the flow. */
struct flow_ops {
	/* After err != 0 the flow is over: gone follows. */
	void (*answered)(void *owner, const struct flow_answer *a);
	/* n bytes, writable in place, gone when this returns. */
	void (*data)(void *owner, uint8_t *bytes, size_t n);
	void (*eof)(void *owner);     /* the service sends no more */
	void (*drained)(void *owner); /* below FLOW_LOW again */
	void (*gone)(void *owner, int why);
	/* Of a flow that listens: the agent has opened f for a connection
	 * from peer (its text).  Give it an owner and flow_accept or
	 * flow_refuse it; one without an owner is refused.  NULL unless
	 * reverse. */
	void (*arrived)(void *owner, struct flow *f, struct slice peer);
};

struct flow_order {
	struct peer_id link;       /* on this lane */
	enum tunnel_speech speech; /* STREAMS or STREAMS_V1 */
	enum tunnel_proto proto;
	const struct tunnel_target *target;
	bool reverse; /* the agent is to listen at target */
	msec connect_within;
	struct slice request_id; /* for the agent's log */
};

/* 0, ERR_GONE (no such link here, or without streams), ERR_BUSY or ERR_FULL
 * (too many streams, or too little memory left), ERR_UNSUPPORTED (TLS or
 * reverse by version 1), ERR_TOO_BIG (names), ERR_NOMEM.  Bytes may be
 * written at once: they leave right behind the opening.  An agent that does
 * not answer in time has answered ERR_TIMEOUT. */
int flow_open(struct dock *d, const struct flow_order *o,
    const struct flow_ops *ops, void *owner, struct flow **out);

/* Another owner, as when an idle one is taken up again. */
void flow_own(struct flow *f, const struct flow_ops *ops, void *owner);

/* What is said to the agent about one that it opened. */
void flow_accept(struct flow *f);
/* code is one of the protocol's; then the flow is closed. */
void flow_refuse(struct flow *f, struct slice code, struct slice text);

/* 0, ERR_GONE, ERR_FULL, ERR_NOMEM. */
int flow_write(struct flow *f, struct slice bytes);
/* As much may wait, instead of FLOW_CAP: for one whose source can stop only
 * after what is on its way. */
void flow_set_cap(struct flow *f, size_t cap);
bool flow_above_high(const struct flow *f);
/* So many bytes of data were passed on. */
void flow_consume(struct flow *f, size_t n);
/* Ours ends behind what was written. */
void flow_finish(struct flow *f);
/* At once, both directions; no call comes any more. */
void flow_close(struct flow *f);

/* For the link: the agent has opened a stream. */
struct link_conn;
void flow_opened(struct link_conn *l, uint32_t id);
/* The link carries streams from now on; it does not live that long. */
void flow_link_ready(struct link_conn *l);
void flow_link_gone(struct link_conn *l);

/* Once for each dock. */
void flow_setup(struct dock *d);

/* The i-th of the codes that refusals are counted by; absent behind the
 * last. */
struct slice flow_code(size_t i);

/* For logs and metrics. */
uint64_t flow_sent(const struct flow *f);
uint64_t flow_received(const struct flow *f);

#endif
