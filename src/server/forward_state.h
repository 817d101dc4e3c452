/*
 * forward_state: what the files of the forward share, and nobody else
 * (floor: server).  forward.c has the connection, channel.c its streams.
 */
#ifndef SERVER_FORWARD_STATE_H
#define SERVER_FORWARD_STATE_H

#include "server/credential.h"
#include "server/flow.h"
#include "server/outlet.h"
#include "server/pass.h"

struct forward {
	struct conn *conn;
	struct wsconn_config config;
	struct wsconn ws;
	struct trunk trunk;
	struct arena kept; /* what the next two point to */
	struct credential credential;
	struct slice user_id;
	struct slice agent_id; /* owned: whose streams these are; see running */
	struct list channels;  /* struct channel.of_forward */
	struct list waiting;   /* struct channel.waiting: for the hub */
	struct channel *asked; /* about whom; NULL: it is gone */
	bool asking;
	bool travelling;
	size_t running;  /* channels with a flow */
	wall_msec until; /* its credential is good; 0: for ever */
	msec look_at;    /* for the idle */
};

enum channel_state {
	CHANNEL_BEGINS,  /* its opening is not all there */
	CHANNEL_WAITS,   /* for the hub, or another lane */
	CHANNEL_DIALS,   /* for the agent's answer */
	CHANNEL_OFFERED, /* opened by us; no answer of the tool's yet */
	CHANNEL_OPEN,
	CHANNEL_REFUSED, /* the tool hears so, and it ends */
};

enum { CHANNEL_ID = 48 };

/* One stream of the tool's, and the flow that it is joined to. */
struct channel {
	struct outlet outlet;
	struct forward *forward;
	struct list of_forward;
	struct list waiting;
	struct flow *flow; /* NULL: none (any more) */
	struct pass_holder holder;
	struct arena arena;        /* visit's slices, until there is a flow */
	struct tunnel_visit visit; /* while it waits */
	msec connect_within;
	struct buf head;       /* an opening or answer, until it is whole */
	struct buf early;      /* from the tool, until there is a flow */
	struct buf out;        /* to the tool, not yet sent */
	size_t ours;           /* the first bytes of out: not the flow's */
	size_t owed;           /* from the tool, to be consumed later */
	struct slice listener; /* owned: the tool's name for it */
	msec touched;
	char id[CHANNEL_ID]; /* of its opening towards the agent */
	uint8_t state;
	bool ends;      /* our side ends behind what waits */
	bool ended;     /* and has */
	bool heard_all; /* theirs has */
};

/* The tool has opened a stream. */
void channel_opened(struct forward *f, uint32_t id);
/* The hub lets it go by this pass, whose reference is taken; or does not. */
void channel_go(struct channel *ch, struct pass *p);
void channel_refuse(
    struct channel *ch, const char *hop, struct slice code, struct slice text);
/* It has been quiet for too long: reset it. */
bool channel_is_idle(const struct channel *ch, msec now);
void channel_drop(struct channel *ch);

/* Ask the hub about the first that waits, unless it is being asked. */
void forward_ask(struct forward *f);
/* The user or login is gone. */
void forward_revoke(struct forward *f);

static inline msec
forward_now(const struct forward *f)
{
	return loop_now(f->conn->dock->lane.loop);
}

#endif
