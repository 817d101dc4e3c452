/*
 * cluster: the dialect of cluster agents (floor: dialect).
 *
 * One JSON object a message, over a WebSocket, and the older HTTP endpoints
 * with the same contents.  docs/protocol/cluster.md is the specification;
 * `payload.muster` is that of docs/protocol/muster.md section 3.
 *
 * Decoding never refuses to the caller: a message that cannot be believed
 * becomes EVENT_BAD with a complaint, which the hub answers; a link is never
 * closed for it.  Secrets that agents put into their messages are replaced
 * by `true` before anything keeps them.
 */
#ifndef DIALECT_CLUSTER_H
#define DIALECT_CLUSTER_H

#include "base/arena.h"
#include "base/buf.h"

#include "model/event.h"

enum {
	CLUSTER_DEPTH_MAX = 32,       /* containers within one another */
	CLUSTER_REQUEST_ID_MAX = 128, /* bytes */
	CLUSTER_WORD_MAX = 64,        /* bytes of status, tunnel_status */
	CLUSTER_KEPT_MAX = 64 * 1024, /* bytes of info_json, metadata_json */
	CLUSTER_MEMBERS_MAX = 256,    /* members of either */
	CLUSTER_LABELS_MAX = 64,
	CLUSTER_HELD_MAX = 4096,     /* muster.resume.commands, of a receipt */
	CLUSTER_PIDS_MAX = 64,       /* named in one place of a receipt */
	CLUSTER_TEXT_MAX = 16 << 20, /* bytes of one message */
};

/* What every answer may need to say. */
struct cluster_context {
	/* Where /clusters/AGENT leads to services: "https://host", no
	 * trailing slash. */
	struct slice tunnel_origin;
	wall_msec now;
	uint32_t heartbeat_ms;
	size_t message_max; /* bytes an agent may send in one message */
};

/*
 * One text message of an agent's link.  text must live as long as a does:
 * the event points into both.  out->peer and out->at are zero, for the
 * caller to fill.  0, or ERR_NOMEM and out is untouched.
 */
int cluster_decode(struct slice text, struct arena *a, struct event *out);

/*
 * Append the JSON text of an event for an agent's link: REGISTERED,
 * HEARTBEAT_ACK, PONG, ERROR, STOP_ORDER.  0, ERR_UNSUPPORTED (any other kind;
 * nothing is written), ERR_FULL or ERR_NOMEM.
 */
int cluster_encode(
    const struct event *ev, const struct cluster_context *c, struct buf *out);

/* A ping of ours; request_id may be absent. */
int cluster_encode_ping(
    struct slice request_id, const struct cluster_context *c, struct buf *out);

/* Connect again at a random moment in [after, after + spread]. */
int cluster_encode_reconnect(
    msec after, msec spread, const struct cluster_context *c, struct buf *out);

/* The endpoints under /api/v1/clusters/agent. */
enum cluster_call {
	CLUSTER_REGISTER,    /* POST register */
	CLUSTER_HEARTBEAT,   /* POST <cluster_id>/heartbeat */
	CLUSTER_POLL,        /* GET <cluster_id>/poll */
	CLUSTER_TUNNEL_INFO, /* GET <cluster_id>/tunnel-info */
	CLUSTER_RESULT,      /* POST <cluster_id>/commands/<id>/result */
	CLUSTER_ACK,         /* POST <cluster_id>/commands/<id>/ack */
};

/*
 * One call.  The ids come from the path (absent where it has none), body
 * is read by REGISTER, HEARTBEAT and RESULT alone; otherwise like
 * cluster_decode.
 */
int cluster_decode_call(enum cluster_call call, struct slice cluster_id,
    struct slice command_id, struct slice body, struct arena *a,
    struct event *out);

/*
 * The answer of a call: its HTTP status, and its body appended to out.
 * REGISTERED, HEARTBEAT_ACK, POLL_REPLY, TUNNEL_REPLY, ACCEPTED, ERROR and
 * DENIED; errors as cluster_encode.
 */
int cluster_encode_call(const struct event *ev, enum cluster_call call,
    const struct cluster_context *c, int *status, struct buf *out);

#endif
