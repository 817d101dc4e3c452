/*
 * wall: the login walls of the gateway (floor: server; docs/gateway.md).
 *
 * Whoever comes to a walled place shows a cookie of that place alone.  It
 * comes by one of two ways: an expiring link, or a login.  For a login the
 * browser is led to a page on Muster's own origin, whose session says who it
 * is; it returns to /.muster/enter at the place's host with a handover that is
 * good once, for a minute.  Muster's own session never leaves its origin.
 *
 * The cookie says only who came and whereto.  Whether they still may is the
 * hub's to say, whenever it is asked (OP_VISIT).
 */
#ifndef SERVER_WALL_H
#define SERVER_WALL_H

#include "server/gateway_parts.h"

/* Paths of the gateway's own, on every host. */
#define WALL_PATHS "/.muster/"

/*
 * A request for one of those paths: how it is answered.  ERR_DENIED with *no
 * filled in, or ERR_NOMEM.
 */
int wall_serve(
    struct visit *v, const struct http1_head *h, struct gateway_no *no);

/*
 * The place is known (v->what): fill in the visitor's credential from the
 * wall's cookie.  0; ERR_DENIED and *no when the request brings a link, which
 * becomes a cookie first; ERR_NOMEM.
 */
int wall_admit(
    struct visit *v, const struct http1_head *h, struct gateway_no *no);

/* The hub wants a login: whether a browser is led to one, as *no says then. */
bool wall_lead(struct visit *v, struct gateway_no *no);

/* A path of its host, and of nothing else, however a browser reads it. */
bool wall_is_target(struct slice s);

/* GET /tunnel/enter and its script. */
void wall_page(struct conn *c, struct call *call);
void wall_script(struct conn *c, struct call *call);

/* POST /api/v1/tunnel/enter: a handover for who is logged in. */
void wall_ask(struct conn *c, struct call *call);
void wall_answer(struct conn *c, struct call *call, const struct event *ev);

/* The handovers that were used; of the server's life. */
int wall_open(struct server *s);
void wall_close(struct server *s);

#endif
