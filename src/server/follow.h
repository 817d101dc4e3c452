/*
 * follow: the public event stream, Server-Sent Events (floor: server).
 */
#ifndef SERVER_FOLLOW_H
#define SERVER_FOLLOW_H

#include "server/web.h"

/* The hub has granted GET /api/v1/events (or not). */
void follow_open(struct conn *c, struct call *call, const struct event *ev);

/* A notice for the followers of this lane that may see it: encoded once. */
void follow_publish(struct dock *d, const struct event *ev,
    const struct audience_set *seen_by, uint64_t number);

/* Notices were lost: all of them are to come again. */
void follow_drop_all(struct dock *d);

#endif
