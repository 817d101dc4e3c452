/*
 * account: the user that commands run as (agent).
 *
 * Looked up at start and at a reload, because the system's user database may
 * be slow; streams only read it.
 */
#ifndef AGENT_ACCOUNT_H
#define AGENT_ACCOUNT_H

#include "base/slice.h"

enum { ACCOUNT_NAME = 256, ACCOUNT_PATH = 1024 };

struct account {
	bool become; /* else commands stay what the agent is */
	char name[ACCOUNT_NAME];
	char home[ACCOUNT_PATH]; /* "/" when it has none that exists */
	char shell[ACCOUNT_PATH];
};

/* name absent: the agent's own.  0, or ERR_NOT_FOUND: no such user. */
int account_find(struct slice name, struct account *out);

#endif
