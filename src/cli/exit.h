/*
 * exit: the exit codes of muster, and what earns which (floor: cli).
 *
 * The numbers are a promise to scripts and are listed in muster(1).
 */
#ifndef CLI_EXIT_H
#define CLI_EXIT_H

#include "base/js.h"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* anything not named below */
	EXIT_USAGE = 2,
	EXIT_DENIED = 4,
	EXIT_NOT_FOUND = 5,
	EXIT_OFFLINE = 6, /* the agent is away, or work is only queued */
	EXIT_LIMITED = 7,
	EXIT_STOPPED = 8,
	EXIT_TIMEOUT = 124,
	EXIT_NEVER_RAN = 125, /* failed before the remote program ran */
	EXIT_INTERRUPTED = 130,
};

/* Of a refused request: code is the problem's, absent without one. */
int exit_of_refusal(long status, struct slice code);

/* How a command ended, as GET /api/v1/commands/ID shows it. */
struct outcome {
	struct slice id;
	struct slice state;
	struct slice code; /* may be absent */
	struct slice why;  /* may be absent */
	int64_t exit_code; /* -1: none */
	int64_t signal;    /* 0: none */
};

/* 0, or ERR_TYPE, ERR_MISSING, ERR_RANGE: not a command. */
int outcome_read(struct js_value command, struct outcome *out);

/* Nothing can change in this state any more. */
bool outcome_is_final(const struct outcome *o);

int exit_of_outcome(const struct outcome *o);

/*
 * A sentence for the operator when the exit code alone would mislead: the
 * program never ran, was killed, or nobody knows.  NULL when it ended by
 * itself.
 */
const char *outcome_remark(const struct outcome *o);

#endif
