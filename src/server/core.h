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

#include "server/mail.h"
#include "server/server.h"

struct core;

/* Takes over hub and the writer's results.  NULL without memory. */
struct core *core_new(
    struct server *server, struct loop *loop, struct hub *hub);
/* After all lanes have stopped. */
void core_free(struct core *c);

/* Lanes in order of their index; before the loop runs. */
void core_add_lane(struct core *c, struct lane *lane);

/* LANE_START or LANE_DRAIN to all lanes. */
void core_tell_lanes(struct core *c, enum lane_word word, msec spread);

/* After all lanes have stopped: take what they said last, so that the
 * writer has all of it, and drop what they did not take. */
void core_finish(struct core *c);

/* The writer's wake: any thread. */
void core_wake(void *core);

/* The hub's own figures as of a moment ago; any thread. */
void core_stats(struct core *c, struct hub_stats *out);

#endif
