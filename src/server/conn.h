/*
 * conn: one connection, whatever it speaks (floor: server).
 *
 * A connection begins as HTTP (web.h) and may become something else for
 * good: a link, an attached command, a follower, an echo.  What it is now
 * is its role: a table of calls and the role's own memory.
 *
 * Life: conn_new -> role calls -> conn_end or conn_drop (idempotent) ->
 * role's free, once the stream is closed.
 */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "model/cidr.h"

#include "io/stream.h"

#include "server/dock.h"

struct conn;

struct conn_role {
	void (*read)(struct conn *c, uint8_t *bytes, size_t n);
	void (*eof)(struct conn *c);
	void (*pull)(struct conn *c, size_t room); /* may be NULL */
	void (*drained)(struct conn *c);           /* may be NULL */
	void (*timer)(struct conn *c);             /* may be NULL */
	void (*event)(
	    struct conn *c, const struct event *ev); /* from the hub */
	void (*close)(struct conn *c, uint16_t code, struct slice reason);
	/* It lives on another lane now; NULL: it never moves. */
	void (*moved)(struct conn *c);
	/* The connection is over: let go of all it had.  why: 0 or ERR_*.
	 * One that is afloat is on no lane, and this on any thread. */
	void (*gone)(struct conn *c, int why);
};

struct conn {
	struct peer_id id;
	struct dock *dock;
	struct stream *stream;
	const struct conn_role *role;
	void *state; /* the role's own */
	struct list link;
	struct loop_timer timer;
	int why;             /* of its end, for the hub */
	struct address from; /* whom it counts for, when counted */
	uint16_t heading;    /* conn_travel: to which lane */
	bool ending;
	bool afloat;  /* between two lanes */
	bool greeted; /* the hub knows of it, and has to hear of its end */
	bool counted; /* for an address */
	bool known;   /* has shown a good credential */
	bool reserve; /* one of the last there are */
};

/* Begin to serve a stream.  Aborts it when there is no room. */
void conn_new(struct dock *d, struct stream *s);

/*
 * The same for a stream that speaks something else from the beginning: begin
 * gives it its role.  NULL when there is no room; it may be ending already.
 */
typedef int conn_begin_fn(struct conn *c, void *arg);
struct conn *conn_new_with(
    struct dock *d, struct stream *s, conn_begin_fn *begin, void *arg);

/*
 * Its credential is good: count it among the connections of that address
 * (numeric, of the client behind a trusted proxy).  0, or ERR_LIMITED when
 * the address has its number, ERR_NOMEM.
 */
int conn_know(struct conn *c, struct slice address);

/* Change what it is; state is the new role's. */
void conn_become(struct conn *c, const struct conn_role *role, void *state);

/* Call the role's timer at due; INT64_MAX = never. */
void conn_wake_at(struct conn *c, msec due);

/* Queue bytes; on failure the connection is dropped.  Returns whether it
 * is still there. */
bool conn_write(struct conn *c, struct slice bytes);
bool conn_write2(struct conn *c, struct slice head, struct slice body);
bool conn_write_parts(struct conn *c, const struct slice *parts, size_t count);
/* The same for bytes that many share; referred to, not copied. */
bool conn_write_chunk(struct conn *c, struct chunk *chunk);

/* End it: after what is queued is sent, or at once by RST. */
void conn_end(struct conn *c);
void conn_drop(struct conn *c);

/*
 * Take it to another lane, where an agent's link is: by itself, when this
 * turn is over.  Until role->moved is called nothing more is asked of the
 * hub, because its address changes, and no timer runs; what is read still
 * comes, and is the role's to keep.  ERR_WRONG_STATE: it is on that lane, it
 * cannot move, or it is ending.
 */
int conn_travel(struct conn *c, unsigned lane);

/*
 * The parts of that: taken off its own, with what is queued, and put
 * on the other, where it has a new address.  Leaving fails when it is
 * ending or there is no memory; a connection that fails to arrive is gone.
 */
int conn_leave(struct conn *c);
int conn_arrive(struct conn *c, struct dock *d);
/* End one that is afloat; any thread. */
void conn_discard(struct conn *c);

/* An event from this connection. */
struct event *conn_event(
    struct conn *c, enum event_kind kind, struct arena **arena);

/* Addresses as text, in the arena: "192.0.2.1:1234" and without port. */
struct slice conn_remote(const struct conn *c, struct arena *a);
struct slice conn_address(const struct conn *c, struct arena *a);

#endif
