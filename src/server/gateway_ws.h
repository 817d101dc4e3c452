/*
 * gateway_ws: a visitor's WebSocket to a service (floor: server; RFC 6455,
 * docs/gateway.md).
 *
 * A role of the visitor's connection.  Raw: both ends speak with each other,
 * bytes go through as they are, and only pings of ours and their pongs, and a
 * close when it is we who end it, stand between their frames.  Else the
 * service is asked in messages, and the visitor's end of the WebSocket is
 * ours (gateway_msg.c).
 */
#ifndef SERVER_GATEWAY_WS_H
#define SERVER_GATEWAY_WS_H

#include "wire/wsborder.h"

#include "server/gateway_parts.h"
#include "server/wsrole.h"

enum {
	RELAY_HALF = 60000,     /* idle, when one end has ended */
	RELAY_BYE = 5000,       /* for an end to say goodbye */
	RELAY_PATIENCE = 10000, /* over its rate; then 1008 */
};

/* Which way: also the labels of metrics. */
enum { TO_SERVICE, TO_VISITOR, WAYS };

/* What a visitor may still say: refilled as time goes by. */
struct allowance {
	uint64_t rate; /* a second; 0: no limit */
	int64_t left;  /* thousandths; below 0: wait */
};

struct relay {
	struct conn *conn;
	struct exchange *exchange;
	struct pass *pass;
	struct pass_holder holder;
	union {
		struct wsborder borders[WAYS]; /* raw */
		struct wsconn ws;
	};
	bool raw;
	uint64_t told[WAYS][2]; /* messages, bytes: in the metrics already */
	uint64_t count[WAYS][2];
	msec began;
	msec active; /* anything but pings of ours */
	msec heard;  /* from the visitor */
	msec spoke;  /* to it, pings of ours too */
	msec idle_within;
	struct allowance messages, bytes;
	msec filled; /* when they were last refilled */
	msec over;   /* since when it is above its rate; 0: it is not */
	msec resume; /* when it may go on; 0: it may */
	msec end_at; /* of a close that takes too long; 0: none */
	size_t owed;
	bool held;        /* the visitor, while the service is behind */
	bool ended[WAYS]; /* that direction is over */
	bool
	    parted[WAYS]; /* and its end has sent its last, since we ended it */
	uint16_t code;    /* of ours, 0: none */
	uint8_t why_len;
	char why[64]; /* of its end, for the log */
	struct slice request_id, host, path, service, namespace, agent_id;
	uint8_t texts[]; /* of all those */
};

/* A relay with all but its WebSocket; takes exchange and pass of v.  NULL
 * without memory. */
struct relay *relay_new(struct visit *v, bool raw);

/* Tell the metrics what has come since. */
void relay_count(struct relay *r);
void relay_because(struct relay *r, struct slice why);

/* Charge what the visitor said.  Whether it may say more now; if not,
 * r->resume says when, or r->over is too long ago. */
bool relay_charge(struct relay *r, uint64_t messages, uint64_t bytes, msec now);
bool relay_patient(const struct relay *r, msec now);

/* Of both roles: the visitor takes more again, the hub has nothing to say, the
 * connection is over. */
void relay_drained(struct conn *c);
void relay_event(struct conn *c, const struct event *ev);
void relay_gone(struct conn *c, int why);

/* gateway_msg: in messages.  head is the service's 101. */
void relay_switch_messages(struct visit *v, const struct http1_head *head);

/* gateway_log */
void relay_log_begin(const struct relay *r);
void relay_log_end(const struct relay *r);

#endif
