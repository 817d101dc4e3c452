/*
 * uplink_parts: the insides of a link, shared by its files (agent).
 *
 *	uplink.c       states, waiting, losing, time, status
 *	uplink_open.c  dial, HTTP handshake and proof
 *	uplink_talk.c  messages both ways
 *	uplink_mux.c   streams coming and going
 *	uplink_send.c  what leaves, in which order
 *	uplink_halt.c  being stopped, and receipts
 */
#ifndef AGENT_UPLINK_PARTS_H
#define AGENT_UPLINK_PARTS_H

#include "io/dial.h"
#include "io/rand.h"
#include "io/stream.h"
#include "io/tls.h"
#include "wire/http1_client.h"
#include "wire/url.h"
#include "wire/wsopen.h"
#include "wire/yamux.h"

#include "agent/backoff.h"
#include "agent/exec.h"
#include "agent/forward.h"
#include "agent/stop.h"
#include "agent/uplink.h"
#include "agent/words.h"

enum {
	UPLINK_OPEN_WITHIN = 30 * 1000,     /* to dial, and to shake hands */
	UPLINK_REGISTER_WITHIN = 30 * 1000, /* for register_success */
	UPLINK_DEAD_AFTER = 60 * 1000,      /* without a frame */
	UPLINK_PING_EVERY = 30 * 1000,
	UPLINK_GOOD_AFTER = 2 * 1000, /* up so long: back-off starts anew */
	UPLINK_TRIM_AFTER = 3 * 1000,
	UPLINK_CLOSE_WITHIN = 3 * 1000,
	UPLINK_PROOFS = 2,  /* of the key, a connection attempt */
	UPLINK_NONCE = 128, /* longest challenge */
	UPLINK_WHY = 400,
	UPLINK_TEXT_CAP = 2 * 1024 * 1024, /* text waiting to be sent */
	UPLINK_HELD = 32 * 1024 * 1024,    /* for services that are slow */
	UPLINK_TUNNELS_SHOWN = 20,         /* by status */
};

enum uplink_state {
	UPLINK_WAITING, /* until wait_until */
	UPLINK_DIALING,
	UPLINK_SHAKING,     /* HTTP */
	UPLINK_REGISTERING, /* WebSocket open */
	UPLINK_UP,
	UPLINK_CLOSING, /* our close frame is queued */
	UPLINK_STOPPED,
	UPLINK_STATES,
};

/* A connection's owner: outlives the attempt until the stream is closed. */
struct carrier {
	struct uplink *uplink; /* borrowed; NULL = let go */
	struct agent *agent;   /* borrowed */
	struct stream *stream;
};

struct uplink {
	struct agent *agent;           /* borrowed */
	const struct state_link *link; /* borrowed */
	struct url url;                /* of link->url */
	char host[DIAL_HOST];
	uint8_t pin[TLS_PIN];
	enum uplink_state state;

	struct tls_client *tls; /* owned, while dialing */
	struct dial *dial;
	struct carrier *carrier; /* NULL while there is no connection */
	struct http1_client http;
	bool http_open, ws_open; /* which machines are to be ended */
	uint8_t ws_key[WSOPEN_KEY_LEN];
	char nonce[UPLINK_NONCE]; /* a challenge not yet answered */
	unsigned proofs;          /* sent since the last success */
	struct wsconn ws;
	struct yamux mux;
	struct buf text; /* whole frames, sent before anything else */
	struct buf cork; /* one pull's bytes; empty between pulls */
	struct strand_home strands;
	struct exec_home execs;
	struct forwards forwards;
	uint64_t tunnels_closed; /* by the stop that stands */
	struct stop stop;
	char stop_why[STOP_REASON + 100]; /* execs.stopped */
	size_t streams;

	struct commands commands;
	bool commands_open, stopping;
	struct loop_timer timer;
	msec wait_until; /* WAITING */
	msec give_up;    /* DIALING to REGISTERING, CLOSING */
	msec up_since;   /* UP */
	msec beat_at;    /* next heartbeat */
	msec beat_every;
	msec trim_at;     /* the handshake's code is given back; 0 = was */
	msec again_at;    /* the controller asked to come again; 0 = no */
	msec retry_after; /* asked for by the last answer; 0 = nothing */
	bool refused;     /* waiting because of a refusal */
	struct backoff backoff;
	struct probe_sample sample;
	bool sampled;

	char session_id[RAND_UUID_SIZE];
	char cluster_id[64], incarnation[160];
	struct loop_work save; /* of the incarnation */
	char saving[160];
	bool saving_now;
	wall_msec since; /* of being connected or not */
	char why[UPLINK_WHY];
	uint64_t connections;
};

/* uplink.c */
void uplink_move(struct uplink *u, enum uplink_state to);
void uplink_rearm(struct uplink *u);
/* End the connection at once and wait for the next try. */
void uplink_lost(struct uplink *u, enum backoff_kind kind, const char *format,
    ...) __attribute__((format(printf, 3, 4)));
/* What is queued leaves, then the connection ends. */
void uplink_drop_connection(struct uplink *u, bool flush);
void uplink_registered(struct uplink *u, const struct word *w);

/* uplink_halt.c */
int uplink_open_stop(struct uplink *u);
void uplink_hear_stop(struct uplink *u, const struct record_stop *s);
/* What a registration's answer says of the stop, before all else of it. */
void uplink_register_stop(struct uplink *u, const struct word *w);
void uplink_put_stop(const struct uplink *u, struct js_writer *w);

/* uplink_open.c */
void uplink_dial(struct uplink *u);
void uplink_shake_bytes(struct uplink *u, uint8_t *bytes, size_t n);
void uplink_shake_eof(struct uplink *u);

/* uplink_talk.c */
void uplink_register(struct uplink *u);
void uplink_beat(struct uplink *u);
void uplink_bytes(struct uplink *u, uint8_t *bytes, size_t n);

/* uplink_mux.c */
void uplink_open_strands(struct uplink *u);
void uplink_mux_events(struct uplink *u);
void uplink_end_streams(struct uplink *u);
/* It broke; s is gone. */
void uplink_reset(struct uplink *u, struct strand *s, int err);
/* It has said all; s may be gone. */
void uplink_finish(struct uplink *u, struct strand *s);

/* uplink_send.c */
void uplink_say(struct uplink *u, struct slice text);
void uplink_want(struct uplink *u);
void uplink_pull(struct uplink *u, size_t room);

#endif
