/*
 * tally: how many of something each user has (floor: server).
 *
 * All lanes share one, under a lock that is held for one look at a table.
 */
#ifndef SERVER_TALLY_H
#define SERVER_TALLY_H

#include <stdint.h>

#include "base/slice.h"

struct tally;

/* NULL without memory. */
struct tally *tally_new(uint64_t most);
void tally_free(struct tally *t);

/* One more: 0, ERR_LIMITED or ERR_NOMEM. */
int tally_enter(struct tally *t, struct slice user_id);
void tally_leave(struct tally *t, struct slice user_id);

#endif
