/*
 * digest: SHA-256 (floor: store; private to it).
 */
#ifndef STORE_DIGEST_H
#define STORE_DIGEST_H

#include <stdbool.h>

#include "base/slice.h"

enum { DIGEST_LEN = 32 };

/* False without memory. */
bool digest_of(struct slice bytes, uint8_t out[DIGEST_LEN]);

/* In pieces.  NULL without memory; add and end are false then too. */
struct digest;
struct digest *digest_new(void);
void digest_free(struct digest *d);
bool digest_add(struct digest *d, struct slice bytes);
/* The sum of what was added; it begins anew. */
bool digest_end(struct digest *d, uint8_t out[DIGEST_LEN]);

#endif
