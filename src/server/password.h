/*
 * password: what is kept instead of one (floor: server).
 *
 * scrypt (RFC 7914) with N = 2^15, r = 8, p = 3 and 16 bytes of salt: 32 MiB
 * and some 0.2 s of one core each, so never on a loop.  Written as
 * "scrypt:15:8:3:<salt>:<hash>", base64 without padding.
 */
#ifndef SERVER_PASSWORD_H
#define SERVER_PASSWORD_H

#include <stdbool.h>

#include "base/slice.h"

enum {
	PASSWORD_MIN = 8, /* bytes */
	PASSWORD_MAX = 1024,
	PASSWORD_KEPT = 128 /* room for what is kept, with a NUL */
};

/* 0, ERR_RANGE (length), ERR_NOMEM. */
int password_keep(struct slice text, char out[PASSWORD_KEPT]);

/*
 * Whether it is the one that kept stands for.  With nothing kept, or what
 * nobody wrote here, the same work is done and the answer is no.
 */
bool password_fits(struct slice text, struct slice kept);

#endif
