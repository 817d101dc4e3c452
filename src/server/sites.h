/*
 * sites: which tunnel route a request is for, on this lane (floor: server).
 *
 * Every lane has the same list of all routes, replaced as a whole when the
 * hub says so (EFFECT_ROUTES).
 */
#ifndef SERVER_SITES_H
#define SERVER_SITES_H

#include "model/tunnel.h"

#include "server/dock.h"

/* Whether some route has this host (lower case, no port): then nothing of
 * Muster's own is answered there, but what the gateway itself needs. */
bool sites_has_host(const struct dock *d, struct slice host);

/*
 * The route of a request, NULL when there is none: of all that fit, that of
 * the most exact host, then of the longest prefix.  path as it was sent, with
 * or without its query.  One that a service could understand as a path of
 * another route ("/public/%2e%2e/private") has none, so that a wall around a
 * prefix holds; what is given begins with the route's prefix as it is.
 * Borrowed until the lane's loop turn ends: keep its id, not the pointer.
 */
const struct route_record *sites_match(
    const struct dock *d, struct slice host, struct slice path);

const struct route_record *sites_find(
    const struct dock *d, struct slice route_id);

/* A name of Muster's own, and any address: no route may have it. */
bool sites_is_own(const struct server *s, struct slice host);

/* EFFECT_ROUTES: this list from now on, which lives in the batch; NULL and
 * NULL at the end. */
void sites_replace(
    struct dock *d, struct batch *b, const struct route_list *routes);

#endif
