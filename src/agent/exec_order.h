/*
 * exec_order: from the opening of an exec stream to a running command, or
 * to the reason why not (agent).
 */
#ifndef AGENT_EXEC_ORDER_H
#define AGENT_EXEC_ORDER_H

#include "base/arena.h"

#include "agent/exec.h"

/* The opening's JSON; slices in its arena. */
struct exec_wish {
	struct slice id;
	uint64_t seq;
	struct slice *argv;
	size_t argc;
	struct slice *env; /* "NAME=value" */
	size_t envc;
	struct slice cwd, user;
	bool input, shell, foreground;
	bool drop; /* output that finds no room */
	msec timeout;
	msec remaining; /* until its deadline; INT64_MAX = there is none */
	uint64_t at[2]; /* offsets wanted */
};

enum { EXEC_WHY = 320 };

struct exec_refusal {
	const char *code; /* stable */
	uint32_t line;    /* of the policy; 0 = none */
	char why[EXEC_WHY];
};

/* 0, ERR_NOMEM, or ERR_INVALID with the refusal filled in. */
int exec_read_wish(struct slice json, struct arena *a, struct exec_wish *out,
    struct exec_refusal *no);

/* Start it if policy, stop and numbers allow: 0 and *out, or ERR_* and the
 * refusal. */
int exec_start(struct exec_home *h, const struct exec_wish *w, struct arena *a,
    struct command **out, struct exec_refusal *no);

#endif
