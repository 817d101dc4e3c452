/*
 * reach: to the holders of a state directory without its agent (agent).
 *
 * For `muster-agent stop`, which must work when the agent is down, frozen or
 * of another version.  Everything blocks.
 */
#ifndef AGENT_REACH_H
#define AGENT_REACH_H

#include <stddef.h>

#include "base/heap.h"

struct reach_result {
	size_t holders; /* that were there */
	size_t killed;  /* processes, as holders count them */
	size_t left;    /* that do not die */
	size_t silent;  /* holders that said nothing in time */
};

/*
 * Tell every holder below <state>/links to kill, then wait up to patience
 * ms for their words.  0 or ERR_* (the directories cannot be read).
 */
int reach_stop(const char *state, msec patience, struct reach_result *out);

#endif
