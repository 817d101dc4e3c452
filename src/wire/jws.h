/*
 * jws: signed texts (floor: wire).  RFC 7515, compact serialization.
 *
 * jws_read takes a text apart and believes nothing; jws_verify says whether
 * a key of the set signed it.  The algorithm is the key's: a header that
 * names another one fits no key, so a public key never serves as a secret.
 */
#ifndef WIRE_JWS_H
#define WIRE_JWS_H

#include "base/buf.h"
#include "base/js.h"

#include "wire/jwk.h"

enum { JWS_TEXT = 8 << 10, JWS_SIG = 1024 };

/* All slices lie in the arena or borrow the text. */
struct jws {
	struct slice text; /* what is signed: header "." payload */
	struct slice header;
	struct slice payload;
	struct slice signature;
	enum jws_alg alg;
	struct slice kid; /* absent: none */
};

/*
 * 0, ERR_TOO_BIG (above JWS_TEXT), ERR_INVALID (not three parts, not bare
 * base64url, no JSON object, members of wrong types), ERR_DUPLICATE (member
 * of the header), ERR_UNSUPPORTED (alg, or `crit` and `b64` of any content)
 * or ERR_NOMEM.
 */
int jws_read(struct jws *j, struct slice text, struct arena *a);

/*
 * 0, ERR_NOT_FOUND (no key with that id and algorithm), ERR_DENIED (a key,
 * but not its signature) or ERR_NOMEM.  Comparisons take constant time.
 */
int jws_verify(const struct jws *j, const struct jwk_set *keys);

/* Append the compact form; kid is written as it is, in [A-Za-z0-9._-]. */
void jws_write_ed25519(struct buf *out, struct slice kid, const uint8_t *seed,
    struct slice payload);

#endif
