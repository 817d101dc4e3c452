/*
 * keyring: the keys that JWTs are signed and checked with (floor: server).
 *
 * Two signing keys of our own (Ed25519, RFC 8037) in DIR/keys.json: the one
 * in use, and the one before it, which is still believed.  Beside them what
 * other issuers sign with: a shared secret, a file, a set fetched by HTTP.
 * Everything is read whole into one immutable set that lanes borrow by a
 * reference; a reload makes another.
 */
#ifndef SERVER_KEYRING_H
#define SERVER_KEYRING_H

#include "base/buf.h"

#include "wire/jws.h"
#include "wire/token.h"

#include "server/settings.h"

struct keyring;

enum { KEYRING_WHY = 400 };

/*
 * Read DIR/keys.json, made when it is not there, and the files of the
 * settings.  0, or ERR_* with a sentence in why.
 */
int keyring_open(struct keyring **out, const char *dir,
    const struct settings *s, char *why, size_t size);
void keyring_free(struct keyring *k);
/* The same again; on failure nothing has changed. */
int keyring_reload(
    struct keyring *k, const struct settings *s, char *why, size_t size);

/* Make a new signing key in DIR/keys.json; the old one is believed until
 * the next time. */
int keyring_rotate(const char *dir, char *why, size_t size);

/* Whatever the fetched set held is replaced; text is a JWK Set.  0 or ERR_*
 * of jwk_read; then the old ones stay. */
int keyring_fetched(struct keyring *k, struct slice text);
/* Whether a token named a key that is not here since the last call: the set
 * at jwt_jwks_url may have changed. */
bool keyring_wants_fetch(struct keyring *k);

/*
 * Check a signature.  0 and *own (signed by ourselves), ERR_DENIED, or
 * ERR_NOMEM.  Any thread.
 */
int keyring_verify(struct keyring *k, const struct jws *j, bool *own);

/* Append a JWT of ours; failure is in out->err.  Any thread. */
void keyring_sign(struct keyring *k, struct slice claims, struct buf *out);

/*
 * Texts of logins.  A refresh token is "mrt_", the login's 20 characters, 32
 * random ones and the first 26 of a MAC over them, so that an old one of
 * ours is told from a guess without keeping it.  A cookie is "mss_", the
 * same 20 and 32 random ones.
 */
enum { KEYRING_TEXT = 96, KEYRING_LOGIN = 24 };
/* 0 or ERR_NOMEM. */
int keyring_make_refresh(struct keyring *k, const char login_id[KEYRING_LOGIN],
    char out[KEYRING_TEXT]);
void keyring_make_cookie(
    const char login_id[KEYRING_LOGIN], char out[KEYRING_TEXT]);
/* The login's id in text; false when it is not one that we made. */
bool keyring_read_refresh(
    struct keyring *k, struct slice text, char login_id[KEYRING_LOGIN + 1]);
bool keyring_read_cookie(struct slice text, char login_id[KEYRING_LOGIN + 1]);

/* Whether a file holds keys of another issuer as it should: 0, or ERR_* and
 * why.  is_secret: as jwt_hs256_secret_file, else as jwt_keys_file. */
int keyring_check(const char *path, bool is_secret, char *why, size_t size);

#endif
