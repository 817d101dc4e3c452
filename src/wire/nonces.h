/*
 * nonces: what was said once and may not be said again (floor: wire).
 *
 * A set of 16-byte hashes in generations.  What is taken in stays for at
 * least `hold`: a generation is closed when it is a third of that old, and
 * forgotten when it has been closed for as long as `hold`.  Time is monotonic,
 * so that a clock that jumps forgets nothing.
 *
 * Whoever wants more than one run to remember writes each hash down where
 * nonces.newest says, and tells them again at the start (nonces_put).
 */
#ifndef WIRE_NONCES_H
#define WIRE_NONCES_H

#include "base/heap.h"
#include "base/slice.h"

struct token_hasher;

enum { NONCE_HASH = 16, NONCE_GENERATIONS = 5 };

struct nonce_table {
	uint8_t (*slots)[NONCE_HASH]; /* owned; all zero: free */
	uint32_t room;                /* a power of two, or 0 */
	uint32_t count;
};

/* How many there are of each owner. */
struct nonce_tally {
	struct {
		uint64_t owner; /* 0: free */
		uint32_t count;
	} * slots; /* owned */
	uint32_t room;
	uint32_t count;
};

struct nonce_generation {
	struct nonce_table table;
	struct nonce_tally tally;
	msec since;
};

struct nonces {
	struct nonce_generation ring[NONCE_GENERATIONS];
	uint64_t newest; /* its number; ring[number % NONCE_GENERATIONS] */
	uint64_t oldest;
	msec hold;
	uint32_t each; /* of one owner */
	uint32_t all;  /* together */
	uint32_t count;
};

void nonces_init(
    struct nonces *n, msec hold, uint32_t each, uint32_t all, msec now);
void nonces_fini(struct nonces *n);

/* What is kept of a nonce: of its owner, and of both together.
 * 0 or ERR_NOMEM. */
struct nonce {
	uint64_t owner;
	uint8_t hash[NONCE_HASH];
};
int nonce_make(struct slice owner, struct slice text, struct nonce *out);
/* The same for those who do it all the time: of an owner's name once, and then
 * of each of their nonces. */
int nonce_owner(struct token_hasher *h, struct slice name, uint64_t *out);
int nonce_of(struct token_hasher *h, uint64_t owner, struct slice text,
    struct nonce *out);

/*
 * Take one in.  0; ERR_EXISTS: it was said before; ERR_FULL: its owner, or
 * all together, have said too many; ERR_NOMEM.  Generations below
 * nonces.oldest are forgotten by this call.
 */
int nonces_take(struct nonces *n, const struct nonce *x, msec now);

/* One of an earlier run, into the newest generation. */
int nonces_put(struct nonces *n, const struct nonce *x, msec now);

#endif
