/*
 * http_vectors: public suites of hostile and odd HTTP connections (tests).
 *
 * They are kept beside the repository, and read from there:
 * ../shared/vectors/README.md.
 */
#ifndef SUPPORT_HTTP_VECTORS_H
#define SUPPORT_HTTP_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vector {
	char id[128], file[160], source[32];
	char side[8];     /* "resp": an answer; else what a client says */
	char expect[16];  /* accept, reject, either, wait, upgrade, ... */
	int status[8][2]; /* ranges of what may be answered */
	int statuses;
	uint8_t *bytes;
	size_t len;
};

/* Unpack; false, and said so, when they are not there. */
bool http_vectors_open(void);
void http_vectors_close(void);

/* Each of them with its bytes, freed behind the call; how many. */
int http_vectors_each(void (*go)(struct vector *v, void *arg), void *arg);

#endif
