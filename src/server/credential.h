/*
 * credential: who a request says it is from (floor: server).
 *
 * Authorization: Bearer, ?token=, the session's cookie, on consoles' paths
 * also the cookie `token`, or the proof of an agent's own key
 * (docs/protocol/muster.md, 2).  Tokens are hashed at once and go no
 * further; of a JWT its claims do, when its signature holds.
 */
#ifndef SERVER_CREDENTIAL_H
#define SERVER_CREDENTIAL_H

#include "server/web.h"

#define CREDENTIAL_COOKIE_NAME "__Host-muster"

/*
 * Fill in what a head shows: call->credential and call->by_cookie; the
 * address, the origin and the route are there already.  0; ERR_INVALID for
 * two different credentials or one that is malformed; ERR_NOMEM.
 */
int credential_read(
    const struct server *s, const struct http1_head *h, struct call *call);

/* A token by itself, of either kind: its address is not touched.  0 or
 * ERR_NOMEM; text must outlive *out. */
int credential_of_text(const struct server *s, struct slice text,
    struct arena *a, struct credential *out);

/* Where the request comes from, proxies before us considered: fills in the
 * credential's address and remote, call->tls and call->local. */
void credential_locate(
    struct conn *c, struct call *call, const struct http1_head *h);

/* The value of WWW-Authenticate that asks for a proof, in the arena. */
struct slice credential_challenge(const struct server *s, struct arena *a);

/* Whole, for an event: its texts in the arena.  0 or ERR_NOMEM. */
int credential_copy(
    struct arena *a, const struct credential *from, struct credential *to);

/* SHA-256 of a token's text without its pin. */
int credential_hash(struct slice text, uint8_t out[HASH_LEN]);

#endif
