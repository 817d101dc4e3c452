/*
 * jwks: another issuer's keys, fetched (floor: server).
 *
 * Fetched at the start, every ten minutes, and soon after a token named a
 * key that is not known, at most twice a minute; on the pool's threads, by
 * the hub's loop.  When it fails the keys there are stay good.  Redirects
 * are not followed, and link-local, metadata and multicast addresses never
 * asked; loopback only when the URL names it.
 */
#ifndef SERVER_JWKS_H
#define SERVER_JWKS_H

#include "io/loop.h"

#include "server/keyring.h"

struct jwks;

/* 0, or ERR_INVALID: neither https nor http on loopback. */
int jwks_check_url(struct slice url);

/* Both are borrowed.  NULL without memory. */
struct jwks *jwks_start(
    struct loop *loop, struct keyring *keys, struct slice url);
/* Before the loop ends; it waits for a fetch under way. */
void jwks_stop(struct jwks *j);

#endif
