/*
 * flow_state: what the two files of the flow share, and nobody else (floor:
 * server).  flow_open.c has openings and their answers, both ways; flow.c
 * what goes through a flow, and its end.
 */
#ifndef SERVER_FLOW_STATE_H
#define SERVER_FLOW_STATE_H

#include "wire/opening.h"

#include "server/link.h"
#include "server/outlet.h"

#include "server/flow.h"

enum { FLOW_ANSWER_MAX = OPENING_HEAD + 4096 };

enum flow_state {
	FLOW_OPENING, /* ours: no answer yet */
	FLOW_OPEN,
	FLOW_OFFERED, /* the agent's: its opening is not all there */
	FLOW_ASKED,   /* and is, but there is no answer of ours */
};

enum { NEWS_ANSWERED = 1, NEWS_DRAINED = 2, NEWS_OVER = 4 };

struct flow {
	struct outlet outlet;
	struct dock *dock;
	const struct flow_ops *ops;
	void *owner;
	struct buf out;          /* towards the service, not yet sent */
	struct buf head;         /* an answer or opening, until it is whole */
	struct list listener;    /* in link_streams.listeners */
	struct list hope;        /* in link_conn.hopeful: it comes before the
				  * link carries streams */
	struct list news;        /* in dock.flow_news */
	struct loop_timer timer; /* for the answer or opening */
	struct slice id;         /* owned: of one that listens */
	uint64_t sent, received;
	size_t cap;  /* of what waits */
	size_t owed; /* delivered, not consumed */
	int why;     /* of NEWS_OVER */
	uint8_t state;
	uint8_t kind; /* enum tunnel_proto, for the count */
	uint8_t due;  /* NEWS_* */
	uint8_t busy; /* calls of the owner's that are not over */
	bool counted;
	bool dead;      /* to be freed when they are */
	bool above;     /* drained is owed */
	bool ends;      /* our side ends behind what waits */
	bool ended;     /* and has */
	bool heard_all; /* theirs has */
};

/* NULL without memory; on no link yet. */
struct flow *flow_new(struct dock *d, enum flow_state state);
/* Of one that is on no link. */
void flow_free(struct flow *f);

/* It is over: off the link, and the owner hears why. */
void flow_lose(struct flow *f, int why);

/* Around a call of the owner's, f->busy being raised before: whether the flow
 * is still there. */
bool flow_called(struct flow *f);

/* News for the owner, at the end of the turn. */
void flow_announce(struct flow *f, uint8_t what);

/* What came of the opening.  Whether the flow is still there. */
bool flow_tell(struct flow *f, const struct flow_answer *a);

/* Bytes before those of the connection; the rest is in *bytes.  Whether the
 * flow is still there. */
bool flow_begin(struct flow *f, struct slice *bytes);

#endif
