/*
 * ours: which names and origins are this controller's (floor: server).
 */
#ifndef SERVER_OURS_H
#define SERVER_OURS_H

#include "wire/http1.h"

#include "server/server.h"

/*
 * Whether a request is for us: public_url's host, loopback, and hosts.  A
 * page whose name was rebound to our address names itself, and is refused.
 */
bool ours_is_host(const struct server *s, const struct http1_head *h);

/* Whether pages of this origin may ask; absent is no page. */
bool ours_is_origin(const struct server *s, struct slice origin);

#endif
