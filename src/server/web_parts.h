/*
 * web_parts: what the files of web share (floor: server).
 */
#ifndef SERVER_WEB_PARTS_H
#define SERVER_WEB_PARTS_H

#include "server/web.h"

/* The state of a connection in this role. */
struct web {
	struct http1_server http;
	struct call *call; /* owned; NULL between requests */
	bool pumping;      /* events are being taken out of http */
	bool waiting;      /* until the visitor takes the answers so far */
	size_t queued;     /* bytes of those, when that was last looked at */
};

static inline struct web *
web_of(const struct conn *c)
{
	return c->state;
}

void web_free_call(struct web *w);

/* Read on: all that there is. */
void web_pump(struct conn *c);

/* A problem with more fields than its own, 2 at most. */
void web_refuse(struct conn *c, const struct problem *p,
    const struct http1_pair *more, size_t more_count);

#endif
