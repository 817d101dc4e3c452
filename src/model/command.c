#include "base/err.h"

#include "model/command.h"

struct row {
	struct slice name;
	unsigned to;
};

#define TO(s) (1U << COMMAND_##s)
#define ENDS                                                          \
	(TO(COMPLETED) | TO(FAILED) | TO(INTERRUPTED) | TO(EXPIRED) | \
	    TO(CANCELLED) | TO(UNKNOWN))

/* A refused dispatch may have an outcome without ever having run, so every
 * state that is not final may end in every way. */
static const struct row rows[COMMAND_STATES] = {
	[COMMAND_QUEUED] = { SL_INIT("queued"), TO(SENT) | ENDS },
	[COMMAND_SENT] = { SL_INIT("sent"), TO(RUNNING) | ENDS },
	[COMMAND_RUNNING] = { SL_INIT("running"), ENDS },
	[COMMAND_COMPLETED] = { SL_INIT("completed"), 0 },
	[COMMAND_FAILED] = { SL_INIT("failed"), 0 },
	[COMMAND_INTERRUPTED] = { SL_INIT("interrupted"), 0 },
	[COMMAND_EXPIRED] = { SL_INIT("expired"), 0 },
	[COMMAND_CANCELLED] = { SL_INIT("cancelled"), 0 },
	[COMMAND_UNKNOWN] = { SL_INIT("unknown"), 0 },
};

static const struct slice priorities[] = { SL_INIT("low"), SL_INIT("normal"),
	SL_INIT("high") };

struct slice
command_state_name(enum command_state s)
{
	return rows[s].name;
}

int
command_state_find(struct slice name, enum command_state *out)
{
	for (int s = 0; s < COMMAND_STATES; s++) {
		if (slice_eq(rows[s].name, name)) {
			*out = (enum command_state)s;
			return 0;
		}
	}
	return ERR_INVALID;
}

bool
command_may_move(enum command_state from, enum command_state to)
{
	return (rows[from].to & 1U << to) != 0;
}

bool
command_is_final(enum command_state s)
{
	return rows[s].to == 0;
}

bool
command_same(const struct command_record *a, const struct command_record *b)
{
	return slice_eq(a->agent_id, b->agent_id) &&
	    slice_eq(a->argv_json, b->argv_json) &&
	    slice_eq(a->env_json, b->env_json) && slice_eq(a->cwd, b->cwd) &&
	    slice_eq(a->exec_user, b->exec_user) &&
	    a->foreground == b->foreground && a->shell == b->shell &&
	    a->wants_stdin == b->wants_stdin && a->drops == b->drops &&
	    a->priority == b->priority && a->timeout == b->timeout;
}

struct slice
priority_name(uint8_t priority)
{
	return priorities[priority < 3 ? priority : 2];
}

int
priority_find(struct slice name, uint8_t *out)
{
	for (uint8_t i = 0; i < 3; i++) {
		if (slice_eq(priorities[i], name)) {
			*out = i;
			return 0;
		}
	}
	return ERR_INVALID;
}
