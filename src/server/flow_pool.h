/*
 * flow_pool: idle HTTP/1.1 connections to services, to be used again (floor:
 * server).
 *
 * One for a lane.  A key says which service by which agent's link; the one
 * used last is taken first.  A service that closes or says anything closes
 * its flow here, and so does the time for which it is kept without use.
 */
#ifndef SERVER_FLOW_POOL_H
#define SERVER_FLOW_POOL_H

#include "server/flow.h"

enum {
	FLOW_POOL_KEY = 1024,   /* bytes of the longest key */
	FLOW_POOL_ALL = 1024,   /* of a lane; the oldest goes */
	FLOW_POOL_EACH = 64,    /* of a key */
	FLOW_POOL_IDLE = 30000, /* ms, the longest */
};

/* ERR_TOO_BIG when a name is too long. */
int flow_pool_key(const struct peer_id *link,
    const struct tunnel_target *target, struct buf *out);

/* NULL when there is none: the caller owns it (flow_own). */
struct flow *flow_pool_take(struct dock *d, struct slice key);

/* Takes f, for so many ms, and closes it when it cannot be kept. */
void flow_pool_give(struct dock *d, const struct peer_id *link,
    struct slice key, struct flow *f, msec keep);

/* Close the oldest one by that link, to make room for another stream of it.
 * Whether there was one. */
bool flow_pool_evict(struct dock *d, const struct peer_id *link);

size_t flow_pool_count(const struct dock *d);

/* Close all. */
void flow_pool_end(struct dock *d);

#endif
