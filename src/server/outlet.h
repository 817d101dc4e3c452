/*
 * outlet: the place of one yamux stream on a WebSocket (floor: server).
 *
 * A trunk is a WebSocket that carries a yamux session: an agent's link, an
 * operator's forward.  Whatever has a stream (pipe, flow...) embeds an
 * outlet and is called through its table.  Nothing is written ahead: an outlet
 * says that it has something (outlet_wake), and is asked for it when the socket
 * takes more, in the order of wire/sched; all that leaves at once leaves in one
 * send.
 *
 * Calls come from the loop, never from inside a call of an outlet's own.
 * In all of them any outlet may leave.
 */
#ifndef SERVER_OUTLET_H
#define SERVER_OUTLET_H

#include "wire/sched.h"
#include "wire/wsconn.h"
#include "wire/yamux.h"

#include "server/conn.h"

struct outlet;
struct trunk;

struct trunk_ops {
	/* The peer has opened a stream: outlet_take or yamux_reset. */
	void (*opened)(struct trunk *t, uint32_t id);
	/* The session has failed, and the peer been told: close it. */
	void (*failed)(struct trunk *t, int err);
};

/* Embedded in whatever has the connection. */
struct trunk {
	const struct trunk_ops *ops;
	struct conn *conn;
	struct wsconn *ws;
	struct yamux mux;
	struct list outlets; /* struct outlet.of_trunk: all streams */
	struct sched sched;
	bool busy; /* inside calls of outlets: they are sent for afterwards */
};

struct outlet_ops {
	/* All it has to send, as one piece; the same bytes first, until they
	 * are sent. */
	struct slice (*waiting)(struct outlet *o);
	void (*sent)(struct outlet *o, size_t n);
	/* Borrowed, writable in place; count until yamux_consume. */
	void (*data)(struct outlet *o, struct slice bytes);
	void (*fin)(struct outlet *o);
	/* The stream is gone; o is on no trunk any more. */
	void (*lost)(struct outlet *o, int why);
	enum sched_turn small; /* its class while little waits */
};

struct outlet {
	const struct outlet_ops *ops;
	struct trunk *trunk; /* NULL: on none */
	struct list of_trunk;
	struct list sending; /* framed, not yet told so */
	struct sched_item turn;
	size_t taken; /* bytes framed, not yet told so */
	uint32_t stream;
};

void outlet_init(struct outlet *o, const struct outlet_ops *ops);

/* Open a stream.  0, or what yamux_open says. */
int outlet_open(struct outlet *o, struct trunk *t);
/* Take one that the peer has opened, without accepting it yet. */
void outlet_take(struct outlet *o, struct trunk *t, uint32_t id);
void outlet_accept(struct outlet *o);

/* It has bytes to send, more of them, or none any more; or yamux has
 * something to say for it (a window, an end). */
void outlet_wake(struct outlet *o);

/*
 * Send now what can be sent at once from where it lies: how many bytes went,
 * and were never waiting.  0 when others have something to send, or it has.
 */
size_t outlet_write(struct outlet *o, struct slice bytes);

/* n delivered bytes were passed on. */
void outlet_consume(struct outlet *o, size_t n);
/* Our direction ends; all that waited is sent. */
void outlet_finish(struct outlet *o);

/* Off the trunk.  leave: the stream is reset, if it is still there.  part:
 * both directions have ended. */
void outlet_leave(struct outlet *o);
void outlet_part(struct outlet *o);

/* Trunks ------------------------------------------------------------------- */

/* t->ops, conn and ws are there. */
void trunk_start(struct trunk *t, const struct yamux_config *config);
/* The connection is gone, and so are all streams. */
void trunk_end(struct trunk *t);

/* Bytes of the session have come; afterwards trunk_flush. */
void trunk_feed(struct trunk *t, struct slice data);
void trunk_expire(struct trunk *t);
/* The role's pull. */
void trunk_pull(struct trunk *t, size_t room);
/* See to it that what the session and its streams have to say leaves at the
 * end of this turn, as far as the socket takes it. */
void trunk_flush(struct trunk *t);

#endif
