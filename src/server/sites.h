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

/* The route of a request, NULL when there is none.  Borrowed until the lane's
 * loop turn ends: keep its id, not the pointer. */
const struct route_record *sites_match(
    const struct dock *d, struct slice host, struct slice path);

const struct route_record *sites_find(
    const struct dock *d, struct slice route_id);

#endif
