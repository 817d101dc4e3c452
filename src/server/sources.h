/*
 * sources: how many connections there are, in all and of each address
 * (floor: server).
 *
 * All lanes share it, under a lock that is held for one look at a table when
 * a connection begins, proves itself or ends.
 */
#ifndef SERVER_SOURCES_H
#define SERVER_SOURCES_H

#include <stdint.h>

#include "model/cidr.h"

struct sources;

struct sources_limits {
	uint64_t all;       /* the last `reserve` of them included */
	uint64_t reserve;   /* for what ends things */
	uint64_t known;     /* of one address, with a good credential */
	uint64_t strangers; /* of one address, without (yet) */
};

/* NULL without memory. */
struct sources *sources_new(const struct sources_limits *limits);
void sources_free(struct sources *s);

/*
 * A connection begins, a stranger.  from NULL: of no address that counts.
 * 0; ERR_FULL (all are taken), ERR_LIMITED (this address has its number),
 * ERR_NOMEM.  *reserved: it is one of the last.
 */
int sources_enter(
    struct sources *s, const struct address *from, bool *reserved);

/* A stranger has proved itself, or (was NULL) one of no address turns out to
 * be from `from`.  0, ERR_LIMITED or ERR_NOMEM: nothing changed. */
int sources_know(
    struct sources *s, const struct address *was, const struct address *from);

/* A connection ends; from as it was last told, NULL when never. */
void sources_leave(struct sources *s, const struct address *from, bool known);

#endif
