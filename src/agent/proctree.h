/*
 * proctree: who descends from whom, by /proc (agent and muster-holder; libc
 * only).
 */
#ifndef AGENT_PROCTREE_H
#define AGENT_PROCTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Append the children of all threads of pid to pids, which has count and
 * takes room; the new count.  Those not yet reaped are among them. */
size_t proctree_add(pid_t *pids, size_t count, size_t room, pid_t pid);

/* Gone, or waits to be reaped. */
bool proctree_dead(pid_t pid);

#endif
