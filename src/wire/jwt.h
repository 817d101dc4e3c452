/*
 * jwt: claims of a signed token (floor: wire).  RFC 7519.
 *
 * For payloads whose signature has been checked.  Time is an argument.
 */
#ifndef WIRE_JWT_H
#define WIRE_JWT_H

#include "base/js.h"
#include "base/stamp.h"

enum { JWT_LEEWAY = 60 * 1000 }; /* ms, on every comparison of times */

/* Absent slices and zero times: not claimed.  Strings lie in the arena. */
struct jwt {
	struct slice subject; /* sub, else userId */
	struct slice name;    /* username, else email */
	struct slice role;
	struct slice scope;   /* separated by spaces (RFC 8693 4.2) */
	struct slice issuer;  /* iss */
	struct slice session; /* sid */
	wall_msec expires;    /* exp */
	wall_msec not_before; /* nbf */
	wall_msec issued;     /* iat */
	struct js_doc doc;    /* the claims; must not move */
};

/*
 * 0, ERR_INVALID (no JSON object, wrong types), ERR_DUPLICATE, ERR_MISSING
 * (no exp, or no subject) or ERR_NOMEM.  The payload must outlive *t.
 */
int jwt_read(struct jwt *t, struct slice payload, struct arena *a);

/* What the receiver asks for; absent slices ask for nothing. */
struct jwt_rules {
	struct slice issuer;   /* iss must be this */
	struct slice audience; /* aud must be or contain this */
};

/* 0, ERR_EXPIRED, ERR_AGAIN (not yet valid) or ERR_DENIED (issuer,
 * audience). */
int jwt_check(const struct jwt *t, const struct jwt_rules *r, wall_msec now);

#endif
