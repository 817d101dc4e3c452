/*
 * wall_token: what the gateway hands to visitors (floor: server).
 *
 * A compact text that names a place and, where somebody logged in, who; it is
 * signed by a key that only controllers have, and is worth nothing but there:
 *
 *   base64url(body) "." base64url(HMAC-SHA256(key, "muster wall 1\n" body))
 *   body: u8 1 | u8 kind | u64 issued | u64 expires |
 *         u16 n, route | u16 n, user | u16 n, login
 *
 * Numbers are big-endian, instants milliseconds.  Whether the user, the login
 * and the route are still good is the hub's to say: OP_VISIT.
 */
#ifndef SERVER_WALL_TOKEN_H
#define SERVER_WALL_TOKEN_H

#include "base/arena.h"
#include "base/buf.h"

#include "model/event.h"

#include "store/store.h"

#include "server/server.h"

/* The query parameter that an expiring link has. */
#define WALL_LINK_PARAMETER "muster_link"

enum { WALL_TOKEN_MAX = 2048 };

enum wall_kind {
	WALL_COOKIE = 1,   /* a wall's own cookie: CREDENTIAL_WALL */
	WALL_LINK = 2,     /* an expiring link: CREDENTIAL_LINK */
	WALL_HANDOVER = 3, /* from a login on another host to the wall */
};

struct wall_token {
	enum wall_kind kind;
	struct slice route_id; /* of paths: the agent as there spelled */
	struct slice user_id;  /* absent in links */
	struct slice login_id; /* may be absent */
	wall_msec issued_at;
	wall_msec expires_at;
};

/* The key from the store, or made and put there.  0 or ERR_*. */
int wall_key_open(struct store *s, uint8_t key[32], wall_msec now);

/* Append it.  0, ERR_TOO_BIG or ERR_NOMEM. */
int wall_token_write(
    const struct server *s, const struct wall_token *t, struct buf *out);

/* One of this kind; texts are in the arena.  0, ERR_INVALID (none of ours, or
 * of another kind), ERR_EXPIRED or ERR_NOMEM. */
int wall_token_read(const struct server *s, struct slice text,
    enum wall_kind kind, wall_msec now, struct arena *a,
    struct wall_token *out);

/* As the credential of an OP_VISIT (WALL_COOKIE, WALL_LINK): borrows t's
 * texts; address and remote are left alone. */
void wall_token_credential(const struct wall_token *t, struct credential *out);

#endif
