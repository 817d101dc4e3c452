/*
 * router: from the hub's thread to the lanes (floor: server).
 *
 * Nothing here blocks and nothing is lost in silence.  When a lane's mailbox
 * takes no more, the connection that an effect was for is cut instead: its
 * peer comes back and asks again, which every protocol here can do.  News
 * of the store wait and are handed over later.
 *
 * A command's stream lives on the lane of its agent's link, and the
 * operator who watches it is moved there before any output flows.  The
 * router knows for every open stream which lane has it.  When an agent is
 * back on another lane, that lane is told to let go, what it had there is
 * forgotten (the store knows how far the output is durable), and the viewer
 * travels on.  The new lane has the order to open already, and waits.  The
 * hub goes on calling the viewer by its first address; only
 * the pipe needs the newer one, and knows it.
 */
#ifndef SERVER_ROUTER_H
#define SERVER_ROUTER_H

#include "io/lane.h"

#include "store/writer.h"

#include "server/mail.h"
#include "server/server.h"

enum { LANES_MAX = 64 };

struct router;

/* NULL without memory. */
struct router *router_new(struct server *server);
/* After all lanes have stopped and were emptied by router_discard. */
void router_free(struct router *r);

/* In order of their index. */
void router_add_lane(struct router *r, struct lane *lane);

/* Perform an effect that is not the core's own; takes a reference to the
 * batch when it needs one. */
void router_perform(struct router *r, struct batch *b, const struct effect *e);

/* News for the lane in its tag; takes done. */
void router_stored(struct router *r, struct writer_done *done);

/* A lane has let go. */
void router_arrived(struct router *r, struct transit *t);

/* Output of one lane, for the others; takes the reference. */
void router_relay(struct router *r, struct live_parcel *p);

/* A connection that travels, to the lane it is heading for; takes it. */
void router_carry(struct router *r, struct conn *c);

/* Cut a connection that an event or effect could not be performed for. */
void router_cut(struct router *r, struct peer_id peer);

/* LANE_START or LANE_DRAIN to all. */
void router_tell_all(struct router *r, enum lane_word word, msec spread);

/* At the end of a turn: hand over what could not be before.  True when
 * something is left: call again in a moment. */
bool router_retry(struct router *r);

/* Drop the mail of a lane that has stopped. */
void router_discard(struct router *r, struct lane *lane);

#endif
