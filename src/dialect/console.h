/*
 * console: the dialect of dashboards and coding agents (floor: dialect).
 *
 * One JSON object a message, in two spellings: flat, {"type": "command:status",
 * "timestamp": "2025-...", ...}, and upper, {"type": "COMMAND_STATUS", "id",
 * "timestamp": 1760616000000, "payload": {...}}.  The first message of a
 * connection picks one.  docs/protocol/console.md is the specification.
 *
 * Decoding never refuses to the caller: what cannot be believed becomes an
 * EVENT_BAD, which the hub answers with EVENT_ERROR; a connection is never
 * closed for it.  What is said to clients is in console_say.h.
 */
#ifndef DIALECT_CONSOLE_H
#define DIALECT_CONSOLE_H

#include "base/arena.h"

#include "model/event.h"

enum {
	CONSOLE_TEXT_MAX = 1 << 20,      /* bytes of a message, also inflated */
	CONSOLE_DEPTH_MAX = 32,          /* containers within one another */
	CONSOLE_ID_MAX = 128,            /* bytes of ids that clients choose */
	CONSOLE_COMMAND_MAX = 63 * 1024, /* bytes of a command with its all */
	CONSOLE_BATCH_MAX = 1000,        /* messages in one that comes in */
	CONSOLE_PACK_MIN = 1024,         /* below it nothing is compressed */
	CONSOLE_RATIO_MAX = 200,         /* of what is inflated */
	CONSOLE_ENDED = 16,
};

enum console_spelling {
	CONSOLE_UNDECIDED, /* answers are flat then */
	CONSOLE_FLAT,
	CONSOLE_UPPER,
	CONSOLE_SPELLINGS
};

enum console_path { CONSOLE_ANY, CONSOLE_AGENT_ONLY, CONSOLE_DASHBOARD_ONLY };

enum console_side { CONSOLE_GUEST, CONSOLE_DASHBOARD, CONSOLE_AGENT };

/*
 * One connection as the dialect knows it.  Zero at the start but for path,
 * user_id and user_name, which its owner sets (borrowed).  side is what it
 * says it is; whether it may be that is the hub's to say.
 */
struct console_peer {
	enum console_path path;
	struct slice user_id; /* of its credential; absent: an agent's token */
	struct slice user_name;
	enum console_spelling spelling;
	enum console_side side;
	bool batch; /* it asked for these */
	bool compressed;
	/* Of the last STOP_ORDER that it was sent: set by its owner, so that
	 * an agent's word on it can be told from an older one. */
	uint64_t stop_epoch;
	uint8_t agent_id[CONSOLE_ID_MAX];
	size_t agent_id_len;
	uint64_t ended[CONSOLE_ENDED]; /* hashes: it said that they are over */
	uint32_t ended_at;
};

enum console_word {
	CONSOLE_EVENT,   /* event, for the hub; also what is refused */
	CONSOLE_NOTHING, /* understood, and nothing is to be done */
	CONSOLE_OUTPUT,  /* output: of a command of this agent */
	CONSOLE_REFRESH, /* refresh: another credential */
	CONSOLE_FILTER,  /* filter: what a dashboard wants to see */
	CONSOLE_BATCH,   /* batch: texts, each for console_decode_part */
	CONSOLE_PACKED,  /* packed: for console_unpack, once it is paid for */
};

/* What a message counts as for the limits of docs/protocol/console.md 8. */
enum console_limit {
	CONSOLE_COUNTED,
	CONSOLE_COUNTED_COMMAND,
	CONSOLE_COUNTED_PING,
	CONSOLE_COUNTED_OUTPUT,
	CONSOLE_EXEMPT,    /* stop, resume, interrupt, cancel */
	CONSOLE_AS_MEMBERS /* a batch: each of its messages counts */
};

enum console_stream {
	CONSOLE_STDOUT,
	CONSOLE_STDERR,
	CONSOLE_SYSTEM,      /* remarks; in flat only */
	CONSOLE_COMMAND_LINE /* what is run; in flat only */
};

/* A piece of a command's output, either way. */
struct console_output {
	struct slice agent_id;
	struct slice command_id; /* out: as console_command_id has it */
	enum console_stream stream;
	struct slice content; /* UTF-8 */
	uint64_t offset; /* out: of its first byte in that stream's bytes */
	wall_msec at;    /* out: when it came */
	bool has_sequence;
	uint64_t sequence; /* in: as an agent numbers them */
};

struct console_refresh {
	struct slice token;         /* a new JWT; absent: */
	struct slice refresh_token; /* trade this one in */
};

enum console_topic {
	CONSOLE_AGENTS,
	CONSOLE_COMMANDS,
	CONSOLE_TRACES,
	CONSOLE_TERMINALS,
	CONSOLE_QUEUES, /* of flat; upper is told of queues with commands */
	CONSOLE_TOPICS
};

/* What console_interest.h applies. */
struct console_filter {
	bool add;  /* else take away */
	bool only; /* nothing that is not said: of an introduction */
	struct {
		bool said;
		bool all; /* with only: false and no ids means none */
		const struct slice *ids;
		size_t count;
	} topics[CONSOLE_TOPICS];
};

/* What is `compressed`, and what it says of itself. */
struct console_packed {
	struct slice algorithm;
	struct slice type; /* absent when not said */
	struct slice data;
	int64_t size;
	int64_t packed_size;
};

struct console_message {
	enum console_word word;
	/* Of PACKED that of the type that it claims, but never EXEMPT. */
	enum console_limit limit;
	/* The answer to what its owner handles without the hub: see
	 * console_encode_ack.  Only in upper. */
	bool wants_ack;
	/* request_id and, of EVENT, everything but peer and at. */
	struct event event;
	/* DASHBOARD_INIT is an EVENT with a filter beside it. */
	bool has_filter;
	struct console_filter filter;
	union {
		struct console_output output;
		struct console_refresh refresh;
		struct {
			const struct slice *texts;
			size_t count;
		} batch;
		struct console_packed packed;
	};
};

/*
 * One text message.  text must live as long as a does: the message points
 * into both.  now: of the instants that commands began and ended at.  0, or
 * ERR_NOMEM: out and what p says of the peer are untouched.
 *
 * A `compressed` one is PACKED, and inflated by console_unpack: that may cost
 * 200 times what it cost to send, so it pays its rate before.
 *
 * Of EVENT_AGENT_ENDED the owner fills in outcome.out_bytes and err_bytes:
 * the output that came before.
 */
int console_decode(struct slice text, struct console_peer *p, wall_msec now,
    struct arena *a, struct console_message *out);

/* What is in a PACKED one; in may be out.  Else as console_decode. */
int console_unpack(const struct console_message *in, struct console_peer *p,
    wall_msec now, struct arena *a, struct console_message *out);

/* A message that clients may say. */
struct console_type {
	struct slice name;
	enum console_spelling spelling;
	unsigned sides; /* who may say it: 1 << enum console_side, or-ed */
	/* What it asks of the hub, unless an agent answers a stop with it. */
	bool asks;
	enum request_op op;
};

/* The n-th of all, from 0; false, and out untouched, when there are fewer.
 * `batch` and `compressed` are what others come in, and not among them. */
bool console_type_at(size_t n, struct console_type *out);

/* The same for what stood in a batch: no batch, nothing compressed. */
int console_decode_part(struct slice text, struct console_peer *p,
    wall_msec now, struct arena *a, struct console_message *out);

#endif
