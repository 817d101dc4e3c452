/*
 * noncebook: which nonces were used (floor: server; docs/protocol/signed.md,
 * section 4).
 *
 * One for all lanes, under a lock that is held for one look.  What is in it
 * is also in files DIR/nonces/N, one a generation of wire/nonces.h, so that
 * a restart forgets nothing; when the disk is full it goes on in memory.
 */
#ifndef SERVER_NONCEBOOK_H
#define SERVER_NONCEBOOK_H

#include "base/heap.h"
#include "base/slice.h"

#include "wire/nonces.h"

struct noncebook;

/* 0 or ERR_*; dir is the data directory.  NULL: in memory alone. */
int noncebook_open(struct noncebook **out, const char *dir, msec now);
void noncebook_close(struct noncebook *b);

/* 0; ERR_EXISTS: it was used; ERR_FULL: too many were; ERR_NOMEM.  Any
 * thread. */
int noncebook_take(struct noncebook *b, const struct nonce *x, msec now);

#endif
