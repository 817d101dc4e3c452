/*
 * outbox: what is to be done, in order (floor: model).
 *
 * The hub never calls out: it appends effects here and its caller performs
 * them.  An effect tagged with a store number waits until that operation is
 * durable; when it failed, the effect is dropped (the hub hears of the
 * failure as an event and answers itself).  Everything an effect points to
 * lives in the outbox's arena.
 */
#ifndef MODEL_OUTBOX_H
#define MODEL_OUTBOX_H

#include "base/arena.h"

#include "model/event.h"
#include "model/op.h"

enum effect_kind {
	EFFECT_SEND,     /* event to peer */
	EFFECT_CLOSE,    /* the peer's connection, with code and reason */
	EFFECT_STORE,    /* op */
	EFFECT_PUBLISH,  /* event (a NOTICE) to all followers that may see it */
	EFFECT_STREAM,   /* order about a command's stream */
	EFFECT_OUTPUT,   /* output that came inside a message, from offset 0 */
	EFFECT_STOP,     /* stop_state, to its own file at once */
	EFFECT_ROUTES,   /* routes: instead of those before, to all lanes */
	EFFECT_WITHDRAW, /* withdrawal, to all lanes */
};

enum stream_verb {
	STREAM_OPEN,   /* on the agent's link: dispatch or re-attach */
	STREAM_SIGNAL, /* interrupt it */
	STREAM_DONE,   /* outcome is durable: the agent may forget */
	STREAM_SEEN,   /* its output has another audience now */
	STREAM_EXPEL,  /* its viewer may not watch any more */
	STREAM_VIEW,   /* somebody attaches to it, as the viewer */
};

enum stream_signal {
	SIGNAL_INTERRUPT = 1,
	SIGNAL_TERMINATE = 2,
	SIGNAL_KILL = 3,
};

struct stream_order {
	enum stream_verb verb;
	struct slice command_id;
	const struct command_record *command; /* OPEN */
	bool again;                           /* OPEN: it was sent before */
	struct peer_id viewer;       /* OPEN, VIEW: who follows; may be none */
	struct peer_id asked_by;     /* OPEN: a dashboard, or none */
	struct audience_set seen_by; /* OPEN, SEEN: who may see its output */
	enum stream_signal signal;
};

struct effect {
	enum effect_kind kind;
	uint64_t after; /* number of the op it waits for; 0 = at once */
	struct peer_id peer;
	/* PUBLISH, OUTPUT: who may see it. */
	struct audience_set seen_by;
	union {
		const struct event *event;
		const struct op *op;
		struct {
			uint16_t code; /* WebSocket close code */
			struct slice reason;
		} close;
		struct stream_order stream;
		const struct stop_state *stop_state;
		const struct route_list *routes;
		struct tunnel_withdrawal withdrawal;
		struct {
			const struct command_record *command;
			struct peer_id asked_by;
			struct slice out;
			struct slice err;
		} output;
	};
};

struct outbox {
	struct arena arena;
	struct effect *effects; /* in a growing owned array */
	size_t count;
	size_t room;
	int err;        /* sticky: ERR_NOMEM or ERR_FULL */
	uint64_t stamp; /* of this turn, given by the hub; 0 = not yet */
};

/* cap: bytes of the arena.  Pair with outbox_fini. */
void outbox_init(struct outbox *o, size_t cap);
void outbox_fini(struct outbox *o);
/* Empty it for the next turn. */
void outbox_reset(struct outbox *o);

/* Append a blank effect of the kind, NULL (and err set) without memory. */
struct effect *outbox_add(struct outbox *o, enum effect_kind kind);

/* Append SEND of a blank event to peer and return the event. */
struct event *outbox_send(
    struct outbox *o, struct peer_id peer, enum event_kind kind);

#endif
