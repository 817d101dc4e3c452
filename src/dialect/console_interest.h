/*
 * console_interest: what a dashboard wants to see (floor: dialect).
 *
 * Everything but queues, until it says otherwise: DASHBOARD_INIT's
 * subscriptions and (un)subscribe messages, docs/protocol/console.md 5.  What
 * it may see is not decided here.
 */
#ifndef DIALECT_CONSOLE_INTEREST_H
#define DIALECT_CONSOLE_INTEREST_H

#include "dialect/console.h"

enum { CONSOLE_INTEREST_MAX = 1000 }; /* ids a topic */

struct console_interest {
	struct {
		bool turned;   /* from all but the ids to the ids alone, or
				* the other way round */
		uint64_t *ids; /* owned: hashes */
		size_t count, room;
	} topics[CONSOLE_TOPICS];
};

/* Zero is the start; this is its end. */
void console_interest_fini(struct console_interest *i);

/* 0; ERR_FULL or ERR_NOMEM, and it is as it was. */
int console_interest_apply(
    struct console_interest *i, const struct console_filter *f);

/* Whether news of the topic are wanted; the ids of the agent and, absent for
 * none, the command that they are about. */
bool console_interest_wants(const struct console_interest *i,
    enum console_topic topic, struct slice agent_id, struct slice command_id);

#endif
