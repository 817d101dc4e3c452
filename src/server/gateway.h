/*
 * gateway: visitors of services behind agents (floor: server;
 * docs/gateway.md).
 *
 * A reverse proxy whose dial is an exchange.  A request is the gateway's when
 * its host is a route's or that of tunnel_origin, or when its path begins
 * with /clusters/: then nothing of Muster's own is answered.  The visitor's
 * HTTP stays with web, which hands over what comes; call->visit is the
 * gateway's part of it.  Both bodies stream, and each waits for the other
 * end.
 *
 * After a service's 101 the connection is a WebSocket's (gateway_ws.h).
 */
#ifndef SERVER_GATEWAY_H
#define SERVER_GATEWAY_H

#include "server/web.h"

struct visit;

/* POST /api/v1/routes/{}/test: the hub has shown the route. */
void gateway_probe(struct conn *c, struct call *call, const struct event *ev);

/* Whether a request is none of Muster's own. */
bool gateway_wants(const struct dock *d, const struct http1_head *h);

/* Right after REQUEST: it was answered (and the call is gone), or call->visit
 * is there. */
void gateway_begin(
    struct conn *c, struct call *call, const struct http1_head *h);

/* A piece of the request's body, and its end.  May answer. */
void gateway_body(struct conn *c, struct call *call, struct slice data);
void gateway_end(
    struct conn *c, struct call *call, const struct http1_head *trailers);

/* Whether more of the visitor is to be read now. */
bool gateway_reads(const struct visit *v, const struct http1_server *h);

/* The visitor takes more again; when to look at it again, INT64_MAX: never;
 * that it may be time. */
void gateway_drained(struct conn *c, struct call *call);
msec gateway_due(const struct visit *v);
void gateway_expire(struct conn *c, struct call *call);

/*
 * The agent's link is on another lane: leave for it, when web has nothing
 * more to hand over (conn_travel).  And that it has arrived.
 */
enum gateway_way { GATEWAY_STAYS, GATEWAY_LEFT, GATEWAY_ANSWERED };
enum gateway_way gateway_depart(struct conn *c, struct call *call);
void gateway_arrived(struct conn *c, struct call *call);

/* The visitor has gone. */
void gateway_left(struct conn *c, struct call *call);

/* The call is over: let go of all there is. */
void gateway_forget(struct call *call);

/* Once for each dock, and at its end. */
void gateway_setup(struct dock *d);
void gateway_fini(struct dock *d);

#endif
