/*
 * readers: a lane's own readers of the store (floor: server).
 *
 * Whoever looks into the store takes one, works with it on a thread of the
 * pool, and gives it back on the lane.  A few are enough: a look is short.
 */
#ifndef SERVER_READERS_H
#define SERVER_READERS_H

#include "store/store.h"

#include "server/dock.h"

struct reader;

/* NULL while all are at work, or without memory. */
struct reader *readers_take(struct dock *d);
void readers_give(struct dock *d, struct reader *r);

/* On the pool's thread: what it reads with.  0 or ERR_*. */
int readers_open(struct dock *d, struct reader *r, struct store_reader **out);

/* Whether one is at work; and close those that are not. */
bool readers_busy(const struct dock *d);
void readers_end(struct dock *d);

#endif
