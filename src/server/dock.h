/*
 * dock: a lane's connections and what they share (floor: server).
 *
 * Everything here belongs to the lane's thread.
 */
#ifndef SERVER_DOCK_H
#define SERVER_DOCK_H

#include "base/map.h"

#include "model/newsfeed.h"

#include "wire/canon.h"
#include "wire/http1.h"
#include "wire/wsconn.h"

#include "io/lane.h"

#include "server/core.h"
#include "server/fanout.h"
#include "server/pass_table.h"
#include "server/recent.h"

struct conn;
struct flow_pool;
struct listener;
struct live_parcel;
struct port;

enum { DOCK_WHY = 400 };

struct dock {
	struct lane lane;
	struct server *server;
	struct wsconn_lane ws;
	struct wsconn_config link_config; /* of agents' links */
	struct wsconn_config echo_config; /* of /dev/echo */
	struct wsconn_config console_config;
	struct wsconn_config monitor_config;
	struct wsconn_config tunnel_config; /* of visitors, in messages */
	struct wsconn_config signed_config;
	struct canon_work canon; /* scratch: signed agents' messages */
	struct http1_head head;  /* scratch of the HTTP machines */
	struct buf out;          /* scratch: what a connection says next */
	struct buf text;         /* scratch: one JSON text */
	struct arena scratch;
	struct conn **slots;   /* owned array; NULL = free */
	uint32_t *generations; /* of the slots, alive or not */
	size_t slot_count;     /* used so far */
	size_t slot_room;
	uint32_t *free_slots; /* stack */
	size_t free_count;
	struct list conns;     /* all of them */
	struct list followers; /* of the event stream */
	struct recent recent;  /* what they were told */
	struct fanout fanout;  /* dashboards and boards */
	struct newsfeed feed;  /* news of agents, on their way */
	struct loop_timer feed_timer;
	struct arena feed_arena;
	struct said *list; /* owned: a list of agents in flat, of: */
	uint64_t list_id;
	uint64_t encoded;     /* messages of upper: their ids */
	struct list live_due; /* struct live.due: activity to be said */
	struct loop_timer live_timer;
	struct buf live_text; /* scratch: output as text */
	uint64_t flying;      /* output handed to the writer, not yet durable */
	struct map pipes;     /* streams of commands, by command id */
	struct list flow_news; /* see flow.c */
	struct loop_task flow_task;
	struct flow_pool *flow_pool;     /* owned; NULL: none idle yet */
	const struct route_list *routes; /* NULL: none yet; see sites.h */
	struct batch *routes_batch;      /* one reference; has them */
	struct passes passes;
	uint32_t tunnels; /* visits of the gateway that are under way */
	bool homing;      /* agents are sent home when there are none: */
	msec spread;
	struct loop_task homeward;
	struct list readers; /* idle struct reader */
	size_t reader_count;
	struct listener *listeners[LISTENS_MAX];
	size_t listener_count;
	struct port *ports; /* owned; as many as there are in the settings */
	size_t port_count;  /* that listen */
	char why[DOCK_WHY]; /* begin failed, a sentence */
	/* What the hub must hear of and its mailbox had no room for. */
	struct list ghosts;   /* struct conn.link: they are gone */
	struct list transits; /* struct transit */
	struct list leaving;  /* struct conn.link: to other lanes */
	struct list afloat;   /* the same, off this lane already */
	struct loop_task depart;
	struct loop_timer retry;
	struct loop_task settle;
	atomic_int_fast64_t lag; /* ms; the latest timer since last asked */
	uint64_t request_count;  /* for request ids */
	uint64_t request_base;
};

/* The lane's callbacks; config.arg is the dock. */
int dock_begin(struct lane *lane);
void dock_mail(struct lane *lane, struct mail *mail);
void dock_end(struct lane *lane);

/*
 * A new event for the hub, in the arena of its mail, to be filled in and
 * handed over by dock_post.  NULL without memory.  All events of one
 * connection go one way, so that its end never overtakes its beginning.
 */
struct event *dock_event(
    struct dock *d, enum event_kind kind, struct arena **arena);
/* 0, or ERR_FULL when the hub has too much to do: the event is lost.  There
 * is always room to say of each connection that it is gone. */
int dock_post(struct dock *d, struct event *ev);

/* Hand output over to the other lanes; takes p when it returns 0. */
int dock_relay(struct dock *d, struct live_parcel *p);

/* One more, or one less, that needs an agent's link although all are to go
 * home. */
void dock_tunnel(struct dock *d, int change);

/* Give a transit back to the hub, as soon as there is room. */
void dock_return(struct dock *d, struct transit *t);
/*
 * Tell the hub that a connection it knows is over, before its peer can know:
 * whatever that does next, on whichever lane, comes later.
 */
void dock_farewell(struct dock *d, struct conn *c);
/* Say that a connection is gone: now, or when there is room; it is freed
 * then. */
void dock_mourn(struct dock *d, struct conn *c);

/* The connection at an address, NULL when it is gone. */
struct conn *dock_find(struct dock *d, struct peer_id peer);

#endif
