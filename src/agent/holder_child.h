/*
 * holder_child: from order to running process (muster-holder; libc only).
 */
#ifndef AGENT_HOLDER_CHILD_H
#define AGENT_HOLDER_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/holder_order.h"
#include "agent/holder_tree.h"

/* What was being tried when the command could not be started. */
enum child_stage {
	CHILD_GROUPS,
	CHILD_USER,
	CHILD_CWD,
	CHILD_EXEC,
};

struct child {
	pid_t pid;
	int in, out, err; /* our ends, owned, non-blocking; in -1 = no input */
	int fault;        /* owned: ends at exec, or carries child_fault */
};

struct child_fault {
	int32_t stage; /* enum child_stage */
	int32_t error; /* errno */
};

/* Fork; 0 or -1 (errno).  Whether exec worked is said by fault. */
int child_start(struct child *c, const struct order *o, const struct tree *t);

const char *child_stage_name(int32_t stage);

#endif
