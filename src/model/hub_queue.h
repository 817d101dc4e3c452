/*
 * hub_queue: the queue of an agent as people see it (model; private to the
 * hub).  See the notes on top of hub_queue.c.
 */
#ifndef MODEL_HUB_QUEUE_H
#define MODEL_HUB_QUEUE_H

#include "model/hub_state.h"

/* A command begins to live on its agent, and ends: not at all when 0. */
int hub_queue_join(struct hub *h, struct command *c);
void hub_queue_leave(struct command *c);
/* It waits or runs (1), or does not any more (-1), in its present state. */
void hub_queue_count(struct command *c, int by);
/* What it took says what its like will take. */
void hub_queue_learn(struct command *c, enum command_state end,
    wall_msec started_at, wall_msec finished_at);
/* So many detached ones run at once on it. */
uint32_t hub_concurrency(const struct hub *h, const struct agent *a);
/* Whether one more of those that wait may run now. */
bool hub_has_room(const struct hub *h, const struct agent *a);
/* 0 and 0 when it does not wait. */
void hub_queue_place(const struct hub *h, const struct command *c,
    uint32_t *position, msec *wait);
/* What watchers are told of changed queues: once an agent within 50 ms. */
void hub_queue_news(struct hub *h, struct agent *a);
msec hub_queue_deadline(const struct hub *h);
/* Tell of one that is due; false when there is none. */
bool hub_queue_expire(struct hub *h);
void hub_show_queue(
    struct hub *h, const struct event *ev, const struct access *who);
/* The store shows a command; only the hub knows its place. */
void hub_place_command(
    struct hub *h, const struct event *ev, const struct access *who);
void hub_purge_queue(
    struct hub *h, const struct event *ev, const struct access *who);

#endif
