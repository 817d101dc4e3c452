/*
 * vault: the key under which agents' secrets are kept (floor: server).
 *
 * DIR/secrets.key, 32 random bytes in base64, mode 0600, made at the first
 * start.  It is in no backup: whoever has both has the secrets.
 */
#ifndef SERVER_VAULT_H
#define SERVER_VAULT_H

#include "base/arena.h"

#include "wire/seal.h"

/* Read, or made.  0 or ERR_*; why gets a sentence that names the file. */
int vault_open(const char *dir, uint8_t key[SEAL_KEY], char *why, size_t size);

/* Seal with a random nonce; the text in the arena.  0 or ERR_*. */
int vault_seal(const uint8_t key[SEAL_KEY], struct slice owner,
    struct slice secret, struct arena *a, struct slice *out);

#endif
