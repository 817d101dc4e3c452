/*
 * boot: what happens before the loop runs (floor: server).
 */
#ifndef SERVER_BOOT_H
#define SERVER_BOOT_H

#include "store/store.h"

#include "server/server.h"

/*
 * See that there is an administrator and that DIR/admin.token (0600) holds a
 * token of theirs that is good for another week: made anew when it is
 * missing, revoked or about to end.  *path gets the file's name when one was
 * written; *first, whether the administrator was made, too.  0 or ERR_*.
 */
int boot_admin(struct store *s, const char *dir, wall_msec now, char *path,
    size_t size, bool *first);

/* Make DIR and its parents' last part if they are not there (0700). */
int boot_directory(const char *dir, char *why, size_t size);

/* The TLS context of the settings; *out is NULL without TLS. */
int boot_tls(struct server *s, const char *dir, char *why, size_t size);

/* Tell the service manager (sd_notify(3)); nothing without one. */
void boot_notify(const char *state);

#endif
