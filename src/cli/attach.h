/*
 * attach: commands that run while we watch (floor: cli).
 *
 * docs/protocol/muster.md, 5.  One WebSocket a target.  Output that is not
 * taken is not read, so that the agent's own window holds the program;
 * input goes as far as the agent's credit.  The first Ctrl-C interrupts the
 * programs, the second ends us and leaves them alone.  When a connection
 * breaks the program goes on, and we come back to it.
 */
#ifndef CLI_ATTACH_H
#define CLI_ATTACH_H

#include "cli/cli.h"

enum { ATTACH_MAX = 256 }; /* targets at once */

struct attach_target {
	const char *name; /* as shown */
	struct slice ask; /* the first message, JSON */
};

struct attach_plan {
	const struct attach_target *targets;
	size_t count;
	bool several; /* of more: lines carry names */
	bool input;   /* stdin goes to the program; only with one target */
	msec again;   /* how long to try to come back after a break; 0 = not */
};

struct attach_result {
	size_t failed;    /* programs that did not exit with 0 */
	bool interrupted; /* by Ctrl-C */
};

/* The exit code: the program's, of several the highest. */
int attach_run(
    struct cli *c, const struct attach_plan *plan, struct attach_result *out);

#endif
