/*
 * credential: who a request says it is from (floor: server).
 *
 * Authorization: Bearer, ?token=, or the proof of an agent's own key
 * (docs/protocol/muster.md, 2).  Tokens are hashed at once and go no
 * further.
 */
#ifndef SERVER_CREDENTIAL_H
#define SERVER_CREDENTIAL_H

#include "server/web.h"

/* Fill call->credential from the head.  0; ERR_INVALID for two different
 * credentials or one that is malformed; ERR_NOMEM. */
int credential_read(
    struct conn *c, struct call *call, const struct http1_head *h);

/* The value of WWW-Authenticate that asks for a proof, in the arena. */
struct slice credential_challenge(const struct server *s, struct arena *a);

/* SHA-256 of a token's text without its pin. */
int credential_hash(struct slice text, uint8_t out[HASH_LEN]);

#endif
