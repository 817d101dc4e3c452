/*
 * token: hashes, MACs and signatures (floor: wire).
 *
 * Thin and pure over OpenSSL's EVP: SHA-256, HMAC-SHA256 (RFC 2104) and
 * Ed25519 (RFC 8032).  Comparisons of secrets take constant time.  Keys are
 * arguments; nothing is kept.
 */
#ifndef WIRE_TOKEN_H
#define WIRE_TOKEN_H

#include <stdbool.h>

#include "base/slice.h"

enum {
	SHA256_LEN = 32,
	ED25519_KEY = 32, /* private seed and public key alike */
	ED25519_SIG = 64,
};

/* 0 or ERR_NOMEM. */
int token_sha256(struct slice in, uint8_t out[SHA256_LEN]);
int token_hmac(struct slice key, struct slice in, uint8_t out[SHA256_LEN]);

/*
 * For those who do it all the time: what OpenSSL looks up at each of the
 * calls above is looked up once, which is most of the work for a short text.
 * One thread at a time.  Pair with token_hasher_fini; zero is fini'd.
 */
struct token_hasher {
	struct evp_md_st *md;       /* owned */
	struct evp_md_ctx_st *work; /* owned */
};
int token_hasher_init(struct token_hasher *h);
void token_hasher_fini(struct token_hasher *h);
/* Of a and b, one behind the other.  0 or ERR_NOMEM. */
int token_hasher_sha256(struct token_hasher *h, struct slice a, struct slice b,
    uint8_t out[SHA256_LEN]);
int token_hasher_hmac(struct token_hasher *h, struct slice key, struct slice in,
    uint8_t out[SHA256_LEN]);

/* Equal in constant time; lengths are not secret. */
bool token_equal(struct slice a, struct slice b);

/* The public key of a private seed.  0 or ERR_NOMEM. */
int token_public_key(const uint8_t seed[ED25519_KEY], uint8_t out[ED25519_KEY]);
int token_sign(
    const uint8_t seed[ED25519_KEY], struct slice in, uint8_t out[ED25519_SIG]);
/* 0, ERR_DENIED when it does not fit, or ERR_NOMEM. */
int token_verify(const uint8_t key[ED25519_KEY], struct slice in,
    const uint8_t sig[ED25519_SIG]);

/*
 * A token's text without the pin ".sha256-<64 hex digits>" that join lines
 * carry; the pin goes to *pin (absent: none).  Other text comes back whole.
 */
struct slice token_cut_pin(struct slice text, struct slice *pin);

#endif
