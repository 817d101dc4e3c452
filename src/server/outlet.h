/*
 * outlet: the place of one yamux stream on an agent's link (floor: server).
 *
 * Whatever has a stream (pipe, flow) embeds one and is called through its
 * table.  Nothing is written ahead: an outlet says that it has something
 * (outlet_wake), and is asked for it when the socket takes more, in the
 * order of wire/sched; all that leaves at once leaves in one send.
 *
 * Calls come from the loop, never from inside a call of an outlet's own.
 * In all of them any outlet may leave.
 */
#ifndef SERVER_OUTLET_H
#define SERVER_OUTLET_H

#include "wire/sched.h"

#include "server/link.h"

struct outlet;

struct outlet_ops {
	/* All it has to send, as one piece; the same bytes first, until they
	 * are sent. */
	struct slice (*waiting)(struct outlet *o);
	void (*sent)(struct outlet *o, size_t n);
	/* Borrowed, writable in place; count until yamux_consume. */
	void (*data)(struct outlet *o, struct slice bytes);
	void (*fin)(struct outlet *o);
	/* The stream is gone; o is on no link any more. */
	void (*lost)(struct outlet *o, int why);
	enum sched_turn small; /* its class while little waits */
};

struct outlet {
	const struct outlet_ops *ops;
	struct link_conn *link; /* NULL: on none */
	struct list of_link;
	struct list sending; /* framed, not yet told so */
	struct sched_item turn;
	size_t taken; /* bytes framed, not yet told so */
	uint32_t stream;
};

void outlet_init(struct outlet *o, const struct outlet_ops *ops);

/* Open a stream.  0, or what yamux_open says. */
int outlet_open(struct outlet *o, struct link_conn *l);
/* Take one that the agent has opened, without accepting it yet. */
void outlet_take(struct outlet *o, struct link_conn *l, uint32_t id);

/* It has bytes to send, more of them, or none any more; or yamux has
 * something to say for it (a window, an end). */
void outlet_wake(struct outlet *o);

/*
 * Send now what can be sent at once from where it lies: how many bytes went,
 * and were never waiting.  0 when others have something to send, or it has.
 */
size_t outlet_write(struct outlet *o, struct slice bytes);

/* Off the link.  leave: the stream is reset, if it is still there.  part:
 * both directions have ended. */
void outlet_leave(struct outlet *o);
void outlet_part(struct outlet *o);

/* For the link ------------------------------------------------------------ */

/* 0 or ERR_NOMEM. */
int outlets_start(struct link_conn *l, const struct yamux_config *config);
/* Bytes of the session have come; afterwards link_flush. */
void outlets_feed(struct link_conn *l, struct slice data);
void outlets_expire(struct link_conn *l);
void outlets_pull(struct link_conn *l, size_t room);
/* The link is gone, and so are all streams. */
void outlets_end(struct link_conn *l);

#endif
