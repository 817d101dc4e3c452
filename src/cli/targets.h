/*
 * targets: the agents that a verb is about to act on (floor: cli).
 *
 * Words are names, ids or beginnings of ids, and are left for the controller
 * to resolve; -l adds all agents with the labels.  What labels found is shown
 * and asked about before anything is done.
 */
#ifndef CLI_TARGETS_H
#define CLI_TARGETS_H

#include "cli/cli.h"

struct targets {
	const char **agents; /* in the arena: what to ask for */
	const char **names;  /* what to show */
	size_t count, room;
};

/* Those of the words and of -l, each once.  An exit code. */
int targets_find(struct cli *c, const struct args *a, struct targets *out);

/*
 * When labels chose them: list them on stderr and, unless --yes was given,
 * ask on the terminal whether to go on.  what: "run on", "purge the queues
 * of".  EXIT_OK, EXIT_USAGE where nobody can be asked, EXIT_FAILED for no.
 */
int targets_confirm(struct cli *c, const struct args *a,
    const struct targets *t, const char *what);

#endif
