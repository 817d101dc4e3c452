/*
 * runner_order: an ORDER frame from a run_order (agent).
 */
#ifndef AGENT_RUNNER_ORDER_H
#define AGENT_RUNNER_ORDER_H

#include <sys/types.h>

#include "base/buf.h"

#include "agent/runner.h"

enum { ORDER_GROUPS = 256 };

/* A user's numbers; { 0 } to begin with. */
struct order_user {
	char name[256];
	uid_t uid;
	gid_t gid, groups[ORDER_GROUPS];
	int group_count;
};

/* It becomes a path component: [A-Za-z0-9_-], 1 to HOLDER_ID_MAX. */
bool order_good_id(struct slice id);

/* Look name up, unless u holds it; asks the system's user database.
 * ERR_NOT_FOUND, ERR_TOO_BIG (groups). */
int order_find_user(struct order_user *u, const char *name);

/* b->err tells: ERR_INVALID for a NUL in a word. */
void order_put(struct buf *b, const struct run_order *o,
    const struct runner_config *c, const struct order_user *u);

#endif
