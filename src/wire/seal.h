/*
 * seal: a secret as it is kept (floor: wire).
 *
 * AES-256-GCM (NIST SP 800-38D) under a key of the controller's, as text:
 * base64 of nonce, ciphertext and tag.  What it belongs to is authenticated
 * with it, so that nobody who can write the database gives one agent the
 * secret of another.
 */
#ifndef WIRE_SEAL_H
#define WIRE_SEAL_H

#include "base/buf.h"

enum { SEAL_KEY = 32, SEAL_NONCE = 12, SEAL_TAG = 16 };

/* Append the sealed text.  nonce is random, and never twice with a key.
 * 0, ERR_FULL or ERR_NOMEM. */
int seal_put(const uint8_t key[SEAL_KEY], const uint8_t nonce[SEAL_NONCE],
    struct slice owner, struct slice secret, struct buf *out);

/* Append the secret.  0; ERR_DENIED: another key's, another owner's, or not
 * whole; ERR_FULL or ERR_NOMEM.  On failure nothing was appended. */
int seal_open(const uint8_t key[SEAL_KEY], struct slice owner,
    struct slice sealed, struct buf *out);

#endif
