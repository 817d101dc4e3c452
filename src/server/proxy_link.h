/*
 * proxy_link: an agent's link on which services are asked for by JSON
 * messages (floor: server; docs/protocol/cluster.md, "Requests to
 * services").
 *
 * Which request a message of the agent belongs to, what the agent was found
 * not to know, and how much waits on its link.  The requests themselves are
 * exchange_json.c's.
 *
 * Life: proxy_link_open once the agent is registered and announced it ->
 * proxy_link_text, _frame, _drained... -> proxy_link_close with the link,
 * which loses all uses.
 */
#ifndef SERVER_PROXY_LINK_H
#define SERVER_PROXY_LINK_H

#include "base/map.h"

#include "dialect/cluster_proxy.h"

#include "io/rand.h"

#include "server/link.h"

enum {
	PROXY_ENDED = 16,           /* the latest whose answers were complete */
	PROXY_USES = 4096,          /* requests of one link at once */
	PROXY_LINK_TEXT = 16 << 20, /* bytes of a message from such an agent */
	PROXY_LINK_QUEUE = 32 << 20, /* to it */
	PROXY_LINK_HELD = 64 << 20,  /* of answers that wait for visitors */
};

struct proxy_use;

/* None of these may close the link; all may end the use. */
struct proxy_use_ops {
	void (*said)(struct proxy_use *u, const struct proxy_said *said);
	void (*drained)(struct proxy_use *u); /* the link takes more */
	void (*proved)(struct proxy_use *u);  /* see proxy_use_await */
	void (*lost)(struct proxy_use *u);    /* it is gone: the last call */
};

/* One request on a link. */
struct proxy_use {
	struct proxy_link *link; /* NULL: none any more */
	const struct proxy_use_ops *ops;
	struct list of_link;
	struct list awaiting; /* in proxy_link.awaiting, in order of: */
	uint64_t probe;
	uint64_t mark; /* its last byte, counted on the link */
	char id[RAND_ID_SIZE];
};

struct proxy_link {
	struct link_conn *link;
	struct proxy_features features;
	struct map uses; /* struct proxy_use, by id */
	struct list list;
	struct arena arena; /* scratch of one message */
	struct buf body;    /* the same */
	struct list awaiting;
	uint64_t probes;  /* pings sent */
	uint64_t written; /* bytes handed to the link */
	uint64_t left;    /* of them, sent for sure */
	size_t held;      /* bytes of answers that wait for visitors */
	char ended[PROXY_ENDED][RAND_ID_SIZE];
	size_t end_count;
	bool unable;    /* does not know proxy_request after all */
	bool no_cancel; /* nor proxy_cancel */
	bool mixes;     /* parts of an answer came after its end */
};

/* What the agent announced; again is a registration anew.  0 or ERR_NOMEM. */
int proxy_link_open(struct link_conn *l, const struct proxy_features *f);
void proxy_link_close(struct link_conn *l);

/* A text message: false when it is none of proxying. */
bool proxy_link_text(struct link_conn *l, struct slice text);
/* A binary one. */
void proxy_link_frame(struct link_conn *l, struct slice frame);
/* The link's queue has fallen below its low mark. */
void proxy_link_drained(struct link_conn *l);

/* A pong of the agent's. */
void proxy_link_pong(struct link_conn *l, struct slice payload);

/* Begin a request, with an id that nobody had before.  0, ERR_FULL,
 * ERR_NOMEM. */
int proxy_use_begin(
    struct proxy_link *p, struct proxy_use *u, const struct proxy_use_ops *ops);
/* Idempotent. */
void proxy_use_end(struct proxy_use *u);
/* Its answer is complete: what comes for it behind that shows an agent that
 * does not keep the order. */
void proxy_use_complete(struct proxy_use *u);
/* What was said meant nothing. */
void proxy_link_ignored(struct proxy_link *p, const struct proxy_said *said);

/* Send one message.  0, ERR_FULL (the link is behind by PROXY_LINK_QUEUE),
 * ERR_GONE, ERR_NOMEM. */
int proxy_use_say(struct proxy_use *u, struct slice text);
/*
 * Call proved when the agent's reader is known to have passed all that was
 * said so far: it answers a ping that goes behind it.  Once, unless more is
 * said before, or ended.
 */
void proxy_use_await(struct proxy_use *u);
/* Bytes up to its last one that have not left. */
size_t proxy_use_waits(struct proxy_use *u);
/* Whether the link has enough to do. */
bool proxy_use_full(const struct proxy_use *u);

static inline struct slice
proxy_use_id(const struct proxy_use *u)
{
	return slice_from(u->id);
}

#endif
