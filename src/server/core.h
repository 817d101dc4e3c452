/*
 * core: the hub's thread (floor: server).
 *
 * Once a turn it takes what the store has finished and what the lanes have
 * read, lets the hub decide, hands operations to the store's writer and
 * effects to the lanes.  An effect that waits for an operation is held here
 * until the store says that it is durable.
 */
#ifndef SERVER_CORE_H
#define SERVER_CORE_H

#include "io/lane.h"

#include "model/hub.h"

#include "server/server.h"

enum { CORE_LANES = 64 };

/* An outbox that lives until the last of its effects is performed. */
struct batch {
	struct list link;
	atomic_uint refs;
	struct outbox out;
};

/* What a lane sends to the hub: an event, made in the mailbox's arena. */
struct event_mail {
	struct mail mail;
	struct event event;
};

/* What the hub sends to a lane: an effect to be performed there. */
struct effect_mail {
	struct mail mail;
	struct batch *batch;
	const struct effect *effect;
	/* Or news of the store about output that the lane handed in. */
	struct writer_done *done; /* owned by the lane from here on */
};

struct core;

/* Takes over hub and the writer's results.  NULL without memory. */
struct core *core_new(
    struct server *server, struct loop *loop, struct hub *hub);
/* After all lanes have stopped. */
void core_free(struct core *c);

/* Lanes in order of their index; before the loop runs. */
void core_add_lane(struct core *c, struct lane *lane);

/* The writer's wake: any thread. */
void core_wake(void *core);

/* Give up a reference; the lane's, when it has performed an effect. */
void batch_drop(struct batch *b);

/* The hub's own figures as of a moment ago; any thread. */
void core_stats(struct core *c, struct hub_stats *out);

#endif
