/*
 * news: what the hub publishes, to dashboards and boards (floor: server).
 *
 * News of agents is calmed first (model/newsfeed.h).
 */
#ifndef SERVER_NEWS_H
#define SERVER_NEWS_H

#include "server/dock.h"

/* Once for each dock. */
void news_setup(struct dock *d, const uint64_t seed[2]);
void news_end(struct dock *d);

/* A NOTICE, to all of this lane who may see it, each in its own spelling. */
void news_publish(
    struct dock *d, const struct event *ev, const struct audience_set *seen_by);

#endif
