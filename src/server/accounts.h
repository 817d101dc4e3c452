/*
 * accounts: passwords, logins and tokens of users (floor: server).
 *
 * What the hub decides about users with work around it that is no business
 * of a hub or a loop: passwords are hashed on the pool's threads, JWTs
 * signed, texts of refresh tokens and cookies made.  A request that brings a
 * password asks the hub first whether it may at all.
 */
#ifndef SERVER_ACCOUNTS_H
#define SERVER_ACCOUNTS_H

#include "server/web.h"

/* Routes of OP_LOGIN, OP_REFRESH, OP_LOGOUT, OP_SETUP,
 * OP_OWN_PASSWORD, OP_USER_ADD, OP_USER_CHANGE and OP_USER_TOKEN. */
void accounts_ask(struct conn *c, struct call *call);
void accounts_answer(struct conn *c, struct call *call, const struct event *ev);

/* Append a JWT for a user, of a login, without limits of its own.  0 or
 * ERR_*. */
int accounts_sign(struct conn *c, const struct user_record *u,
    struct slice login_id, wall_msec until, struct buf *out);

#endif
