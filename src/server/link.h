/*
 * link: the WebSocket of an agent (floor: server).
 *
 * Text frames are the cluster dialect, decoded into events for the hub;
 * once a Muster agent has registered, or another one agreed to it, binary
 * frames are one yamux session.  Agents that do not are asked for services by
 * text (proxy_link.h).
 * Urgent words leave first: control text at once, yamux control next, and
 * bytes of streams only when the socket asks for them.
 */
#ifndef SERVER_LINK_H
#define SERVER_LINK_H

#include "dialect/cluster_proxy.h"

#include "server/outlet.h"
#include "server/web.h"

struct proxy_link;

struct link_conn {
	struct conn *conn;
	struct wsconn ws;
	struct yamux
	    *mux; /* of streams; NULL until a native agent registered */
	struct list hopeful; /* struct flow.hope: until it has registered */
	struct proxy_link *proxy; /* requests by JSON; NULL: there are none */
	struct proxy_features features; /* as of its latest registration */
	bool native;                    /* offered muster.v1 */
	bool offered;                   /* yamux, to another program's agent */
	bool paused;                    /* not read while the hub is behind */
	int why;                        /* of its end, for the hub */
	size_t remote_len;
	uint8_t remote[]; /* text */
};

/* What a link has once it carries streams: most carry none. */
struct link_streams {
	struct trunk trunk;
	struct link_conn *link;
	struct list opening;   /* struct pipe.opening, in order */
	struct list listeners; /* struct flow.listener */
};

/* Of a link that has a mux. */
static inline struct link_streams *
link_streams(const struct link_conn *l)
{
	return LIST_OF(l->mux, struct link_streams, trunk.mux);
}

/* Once for each dock. */
void link_setup(struct dock *d);

/* GET /api/v1/clusters/agent/ws */
void link_open(struct conn *c, struct call *call);
/* The hub's word while the handshake waits. */
void link_answer(struct conn *c, struct call *call, const struct event *ev);

/* The link behind an address; NULL when it is gone or no link. */
struct link_conn *link_find(struct dock *d, struct peer_id peer);

/* The agent's answer to our offer of yamux: what is binary from here on is
 * that, and the hub learns of it. */
void link_agree(struct link_conn *l, bool agreed);

/* Send one text message.  0, ERR_GONE, ERR_NOMEM. */
int link_say(struct link_conn *l, struct slice text);

static inline struct slice
link_remote(const struct link_conn *l)
{
	return (struct slice){ l->remote, l->remote_len };
}

/* Of a link that has a mux; nothing else. */
static inline struct trunk *
link_trunk(struct link_conn *l)
{
	return &link_streams(l)->trunk;
}

/* Whether a connection is an agent's link. */
bool link_is(const struct conn *c);

/* Say that the controller goes away, and close with 1001. */
void link_drain(struct conn *c, msec spread);

#endif
