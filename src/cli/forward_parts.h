/*
 * forward_parts: the insides of `muster forward`, shared by its files
 * (floor: cli; docs/protocol/muster.md 9).
 *
 *	forward.c       the verb, its loop, coming back after a break
 *	forward_mux.c   the WebSocket and its streams
 *	forward_conn.c  one local connection, or one source of datagrams
 *	forward_door.c  where is listened, here or at the agent
 *	forward_tell.c  what the operator hears
 */
#ifndef CLI_FORWARD_PARTS_H
#define CLI_FORWARD_PARTS_H

#include <poll.h>

#include "base/list.h"
#include "cli/cli.h"
#include "cli/forward_spec.h"
#include "cli/wslink.h"
#include "io/addr.h"
#include "wire/opening.h"
#include "wire/yamux.h"

enum {
	FORWARD_CONNS = 1024,
	FORWARD_SPECS = 64,
	FORWARD_FRAME = 16 * 1024,
	FORWARD_QUEUED = 64 * 1024, /* on their way out: beyond it none more */
	FORWARD_DATAGRAM = 65535,
	FORWARD_ADDRESSES = 8,
	FORWARD_JSON = 8 * 1024,
};

/* One spec: where is listened. */
struct door {
	const struct forward_spec *spec;
	int fd;             /* listening, or bound; -1 */
	uint32_t stream;    /* reverse: while the agent listens; 0 */
	bool listening;     /* and its answer was yes */
	bool told;          /* that it does, once */
	msec due;           /* reverse: ask (again) then; else accept */
	struct buf head;    /* reverse: its answer */
	char id[16];        /* reverse: our name for it */
	char at[ADDR_TEXT]; /* really */
	union addr to[FORWARD_ADDRESSES]; /* reverse: our target */
	size_t to_count;
};

enum conn_state {
	CONN_HEAD,  /* reverse: its opening is not whole */
	CONN_DIALS, /* reverse: we connect */
	CONN_ASKED, /* the answer is awaited */
	CONN_OPEN,
};

struct conn {
	struct list link;
	struct door *door; /* NULL in HEAD */
	uint32_t id;       /* of its stream; 0: gone */
	uint8_t state;     /* enum conn_state */
	bool udp;
	bool reverse;
	bool local_ended; /* it sends no more, and the stream knows */
	bool far_ended;   /* the other side sends no more */
	bool shut;        /* and the local one knows */
	bool dead;        /* to be swept */
	int fd;           /* -1: of udp sources, which use the door's */
	size_t tried;     /* reverse: addresses */
	union addr peer;
	struct buf head; /* an answer or an opening, until it is whole */
	struct buf out;  /* for the local side; its bytes are not consumed */
	struct buf part; /* udp: a datagram that is not whole */
};

struct forwarder {
	struct cli *cli;
	const char *agent; /* id */
	const char *name;  /* for people */
	struct door doors[FORWARD_SPECS];
	size_t door_count;
	struct list conns;
	size_t conn_count;
	struct wslink *link; /* NULL: away */
	struct yamux mux;
	msec again_at; /* away: the next try */
	msec away_since;
	unsigned tries;
	bool renewing; /* the token was spent */
	bool left;     /* by Ctrl-C, or for good: exit says why */
	int exit;
	int signals;
	struct pollfd *polls;
	void **polled; /* whose the polls are: conns */
	uint8_t bytes[FORWARD_DATAGRAM + 16];
};

/* forward_mux.c */

/* Connect: EXIT_OK, WSLINK_AGAIN (only when again), or an exit code after
 * a message. */
int mux_open(struct forwarder *f, bool again);
void mux_close(struct forwarder *f);
/* What goes both ways without waiting; whether anything came.  On loss
 * f->link is NULL afterwards, and all connections are dead. */
bool mux_pump(struct forwarder *f);
/* Room for another frame of this stream, at most FORWARD_FRAME. */
size_t mux_room(const struct forwarder *f, uint32_t id);
/* Payload within the window: 0 or ERR_*. */
int mux_send(struct forwarder *f, uint32_t id, struct slice bytes);
void mux_finish(struct forwarder *f, uint32_t id);
void mux_reset(struct forwarder *f, uint32_t id);
/* It goes on without us, to say what we said last. */
void mux_forget(struct forwarder *f, uint32_t id);
void mux_consume(struct forwarder *f, uint32_t id, size_t n);
/* Open a stream of this kind with this JSON: 0 or ERR_*. */
int mux_ask(
    struct forwarder *f, void *user, bool udp, struct slice json, uint32_t *id);
/* Answer one that the controller opened. */
void mux_answer(struct forwarder *f, uint32_t id, bool yes, const char *code,
    const char *text);
/* Gather a head of u8 2, u8, u16 length, JSON: true when it is whole. */
bool mux_gather(struct buf *head, struct slice *in, int *err);

/* forward_conn.c */

/* Somebody came to a door; fd is taken over (-1 for udp sources). */
struct conn *conn_come(
    struct forwarder *f, struct door *d, int fd, const union addr *peer);
/* The controller opened a stream. */
void conn_opened(struct forwarder *f, uint32_t id);
void conn_data(struct forwarder *f, struct conn *c, struct slice bytes);
void conn_fin(struct forwarder *f, struct conn *c);
void conn_rst(struct forwarder *f, struct conn *c);
/* What its socket should be polled for. */
short conn_wants(const struct forwarder *f, const struct conn *c);
void conn_ready(struct forwarder *f, struct conn *c, short events);
/* A datagram from its source. */
void conn_datagram(struct forwarder *f, struct conn *c, struct slice bytes);
/* At once, both ways. */
void conn_abort(struct forwarder *f, struct conn *c);
void conn_sweep(struct forwarder *f);

/* forward_door.c */

/* EXIT_OK, or a message and an exit code. */
int door_open(struct forwarder *f, const struct forward_spec *s);
void door_close(struct door *d);
void door_ready(struct forwarder *f, struct door *d);
/* Reverse: ask the agent to listen, when it is due. */
void door_ask(struct forwarder *f, struct door *d, msec now);
bool door_data(struct forwarder *f, struct door *d, struct slice bytes);
/* Its stream ended. */
void door_lost(struct forwarder *f, struct door *d, const char *why);
struct door *door_of(struct forwarder *f, uint32_t stream);
struct door *door_named(struct forwarder *f, struct slice id);

/* forward_tell.c */
void tell_listening(struct forwarder *f, struct door *d);
void tell_link(struct forwarder *f, const char *event, const char *why);
/* A connection failed: JSON as the refusal says it, or why. */
void tell_refused(struct forwarder *f, const struct door *d,
    const union addr *peer, struct slice json, const char *why);
/* The exit code that a refusal's code earns. */
int exit_of_answer(struct slice json);

#endif
