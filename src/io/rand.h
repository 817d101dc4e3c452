/*
 * rand: unpredictable bytes, all of them the kernel's (floor: io).
 *
 * Nothing here fails: a kernel that cannot give random bytes is one on
 * which no key or token may be made, so the process aborts.
 */
#ifndef IO_RAND_H
#define IO_RAND_H

#include <stddef.h>
#include <stdint.h>

enum {
	RAND_PREFIX_MAX = 8, /* characters, the underscore counted */
	RAND_ID_SIZE = RAND_PREFIX_MAX + 20 + 1,
	RAND_TOKEN_SIZE = RAND_PREFIX_MAX + 32 + 1,
	RAND_UUID_SIZE = 36 + 1,
};

void rand_fill(void *out, size_t n);
uint64_t rand_u64(void);

/*
 * Four bytes from a per-thread stock of kernel randomness: as unpredictable
 * as rand_fill at a fraction of its price.  For WebSocket mask keys (RFC
 * 6455 5.3) and jitter.  A forked child shares its parent's stock, so it
 * must exec first.
 */
uint32_t rand_u32(void);

/* Uniform in [0, below); below > 0. */
uint32_t rand_below(uint32_t below);

/*
 * An id: prefix ("cmd_"), then 20 characters of lower-case base32 (a-z2-7,
 * 100 bits), then NUL (spec/decisions.md 1).
 */
void rand_id(const char *prefix, char out[RAND_ID_SIZE]);

/* A credential: the same with 32 characters (160 bits). */
void rand_token(const char *prefix, char out[RAND_TOKEN_SIZE]);

/* A version-4 UUID in lower case (RFC 9562 5.4), NUL-terminated. */
void rand_uuid(char out[RAND_UUID_SIZE]);

#endif
