/*
 * lookup: requests that are answered from the store (floor: server).
 *
 * The hub grants the request; then a reader of its own reads on a thread of
 * the pool, and the answer is written when it is done.  The loop never waits
 * for the disk.
 */
#ifndef SERVER_LOOKUP_H
#define SERVER_LOOKUP_H

#include "server/web.h"

/* The hub's grant (or refusal) of a route that reads. */
void lookup_answer(struct conn *c, struct call *call, const struct event *ev);

/* The command that an idempotency key stands for, as an answer. */
void lookup_by_key(struct conn *c, struct call *call, const struct reply *re);

#endif
