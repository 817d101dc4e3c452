/*
 * prockill: kill below a holder that does not do it itself (agent).
 *
 * A command that runs as the agent's own user can freeze its holder.
 */
#ifndef AGENT_PROCKILL_H
#define AGENT_PROCKILL_H

#include <sys/types.h>

/* Let pid go on, and kill all that descends from it, but not itself.  Blocks,
 * on /proc alone, for a few seconds at most. */
void prockill_below(pid_t pid);

#endif
