/*
 * words: the JSON that agent and controller say in text frames (agent;
 * docs/protocol/cluster.md, docs/protocol/muster.md 3 and 6).
 *
 * Pure.  Writers append one message to a buf and leave failure in its err.
 */
#ifndef AGENT_WORDS_H
#define AGENT_WORDS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/js_write.h"
#include "base/stamp.h"

#include "agent/policy.h"
#include "agent/probe.h"
#include "agent/record.h"

enum { WORDS_TEXT_MAX = 1024 * 1024, WORDS_DEPTH_MAX = 16 };

/* A command that this agent still has. */
struct words_held {
	struct slice id;
	const char *state; /* running exited unknown */
};

struct words_hello {
	struct slice request_id;
	struct slice agent_id, cluster_id, name;
	const struct probe_facts *facts;
	const struct policy *policy;
	struct slice install_id, boot_id, session_id;
	const struct record_stop *stop;
	bool local_stop;
	struct slice incarnation; /* absent at first */
	uint64_t sequence;
	const struct words_held *held;
	size_t held_count;
	wall_msec at;
};
void words_put_register(struct buf *b, const struct words_hello *h);

/* How tunnels are doing; the last five since the agent's start. */
struct words_tunnels {
	uint64_t open, listeners; /* now */
	uint64_t opened, refused;
	uint64_t bytes_in;  /* from services */
	uint64_t bytes_out; /* to them */
	uint64_t dropped;   /* datagrams */
};
/* Members of an object. */
void words_put_tunnels(struct js_writer *w, const struct words_tunnels *t);

struct words_beat {
	struct slice agent_id, cluster_id;
	const struct probe_metrics *metrics; /* NULL: not known yet */
	const char *status;
	const char *ill;  /* why it is not all well; NULL: it is */
	uint64_t running; /* commands */
	const struct words_tunnels *tunnels; /* NULL: never had one */
	wall_msec at;
};
void words_put_heartbeat(struct buf *b, const struct words_beat *h);
void words_put_pong(struct buf *b, struct slice request_id, wall_msec at);

/* What a stop did to one command; pids have commas between. */
struct words_ended {
	struct slice id, pids, left;
	uint64_t count, took_ms;
};

struct words_receipt {
	uint64_t epoch;
	bool stopped, local;
	wall_msec began, done; /* 0: absent */
	const struct words_ended *ended;
	size_t ended_count;
	uint64_t tunnels_closed;
	wall_msec at;
};
void words_put_receipt(struct buf *b, const struct words_receipt *r);

void words_put_local_stop(struct buf *b, bool stopped, wall_msec since,
    struct slice reason, wall_msec at);

enum word_kind {
	WORD_OTHER, /* not for this agent, or of a later version */
	WORD_REGISTERED,
	WORD_HEARTBEAT_ACK,
	WORD_PING,
	WORD_PONG,
	WORD_ERROR,
	WORD_RECONNECT,
	WORD_STOP, /* or resume_work */
};

/* Slices borrow from the text or the arena. */
struct word {
	enum word_kind kind;
	struct slice type, request_id;
	/* REGISTERED */
	struct slice cluster_id, name, incarnation;
	msec heartbeat_ms;
	uint64_t message_max;
	/* REGISTERED, if it was said; STOP */
	bool has_stop;
	struct record_stop stop;
	/* ERROR */
	struct slice error, code;
	/* RECONNECT */
	msec after_ms, spread_ms;
};

/*
 * 0; ERR_NOMEM; or what is wrong with the text (then out->type, if it is
 * there, says which message that was).
 */
int words_read(struct slice text, struct arena *a, struct word *out);

/* Whether an error says that the controller does not know this agent's
 * registration, so that it must be made again. */
bool words_unregistered(const struct word *w);

/*
 * What somebody must do about an error that coming again cannot mend, as a
 * clause; NULL for one that may pass (a full disk, an agent still live).
 */
const char *words_advice(const struct word *w);

#endif
