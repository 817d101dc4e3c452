/*
 * login: as a user, by name and password (floor: cli).
 *
 * What a login gives is a short-lived token and a refresh token that is good
 * once.  Both are in the context; whoever finds the token about to end trades
 * them under a lock, so that two programs never show the same one.
 */
#ifndef CLI_LOGIN_H
#define CLI_LOGIN_H

#include "cli/cli.h"

/* The password of --password-file, or asked for; twice when it is new.
 * *out is NULL when there is neither file nor terminal.  An exit code. */
int login_password(
    struct cli *c, const struct args *a, bool fresh, const char **out);

/* Of who changes it: that of --old-password-file, or asked for.  An exit
 * code. */
int login_old_password(struct cli *c, const struct args *a, const char **out);

/* Log in as the user of --user: token, refresh and renew of c->at.  An exit
 * code. */
int login_as(struct cli *c, const struct args *a);

/* Renew c->at's token if it is one of a login and about to end. */
int login_renew(struct cli *c);
/* The same when the controller takes it no more, however long it was good. */
int login_renew_spent(struct cli *c);

#endif
