/*
 * jwk: keys that signatures of others are checked with (floor: wire).
 *
 * Reads JSON Web Keys and Key Sets (RFC 7517, 7518 section 6, 8037), PEM
 * public keys (RFC 7468) and plain shared secrets.  Every key is pinned to
 * one algorithm for good: that of its `alg`, else the only one of its curve,
 * else RS256 or HS256.  Private members are ignored.
 */
#ifndef WIRE_JWK_H
#define WIRE_JWK_H

#include "base/arena.h"
#include "base/slice.h"

enum jws_alg {
	JWS_NONE, /* never accepted */
	JWS_HS256,
	JWS_HS384,
	JWS_HS512,
	JWS_RS256,
	JWS_RS384,
	JWS_RS512,
	JWS_PS256,
	JWS_PS384,
	JWS_PS512,
	JWS_ES256,
	JWS_ES384,
	JWS_ES512,
	JWS_EDDSA, /* Ed25519 alone */
	JWS_ALGS
};

/* RFC 7518 3.1, RFC 8037 3.1; JWS_NONE for any other name, "none" too. */
enum jws_alg jws_alg_of(struct slice name);
struct slice jws_alg_name(enum jws_alg alg);

enum {
	JWK_KEYS = 64,        /* keys of a set */
	JWK_KID = 256,        /* longest key id */
	JWK_TEXT = 256 << 10, /* longest text */
	JWK_RSA_BITS = 2048,  /* least */
	JWK_RSA_BITS_MAX = 8192
};

struct evp_pkey_st;

struct jwk {
	enum jws_alg alg;
	struct slice kid;         /* owned; absent: fits any key id */
	struct slice secret;      /* owned; of HS* alone */
	struct evp_pkey_st *pkey; /* owned; of the others */
};

/* Zeroed is empty.  Pair with jwk_set_fini. */
struct jwk_set {
	struct jwk keys[JWK_KEYS];
	size_t count;
	size_t skipped; /* keys of a set that were of no use */
};
void jwk_set_fini(struct jwk_set *set);

/*
 * Each adds to what the set has; on failure it is as before.
 *
 * jwk_read takes a JWK or a JWK Set.  In a set, keys that are unknown, too
 * weak or for other uses are skipped and counted (RFC 7517 5); none left is
 * ERR_MISSING.  A key alone is ERR_UNSUPPORTED then.  ERR_INVALID: broken,
 * or what the JSON reader says.  ERR_DUPLICATE: a repeated
 * member or key id.  Shared secrets beside public keys in one text are
 * ERR_UNSUPPORTED: whoever may read the one must not be able to sign for the
 * other.  ERR_FULL: more than JWK_KEYS.
 */
int jwk_read(struct jwk_set *set, struct slice text, struct arena *a);

/* "-----BEGIN PUBLIC KEY-----", one or more in a row. */
int jwk_read_pem(struct jwk_set *set, struct slice text);

/* A secret of HS256; any length but none.  0, ERR_INVALID, ERR_FULL... */
int jwk_add_secret(struct jwk_set *set, struct slice kid, struct slice secret);

/* An Ed25519 public key of 32 bytes. */
int jwk_add_ed25519(struct jwk_set *set, struct slice kid, const uint8_t *key);

#endif
