#include "cli/exit.h"

struct code_exit {
	struct slice code;
	int exit;
};

/* Codes of problem documents, refusals and finished commands. */
static const struct code_exit codes[] = {
	{ SL_INIT("NOT_PERMITTED"), EXIT_DENIED },
	{ SL_INIT("AGENT_OFFLINE"), EXIT_OFFLINE },
	{ SL_INIT("CORDONED"), EXIT_OFFLINE },
	{ SL_INIT("AGENT_STOPPED"), EXIT_STOPPED },
	{ SL_INIT("STOPPED"), EXIT_STOPPED },
	{ SL_INIT("AGENT_NOT_FOUND"), EXIT_NOT_FOUND },
	{ SL_INIT("COMMAND_NOT_FOUND"), EXIT_NOT_FOUND },
	{ SL_INIT("TOKEN_NOT_FOUND"), EXIT_NOT_FOUND },
	{ SL_INIT("NOT_FOUND"), EXIT_NOT_FOUND },
	{ SL_INIT("AMBIGUOUS"), EXIT_USAGE },
	{ SL_INIT("RATE_LIMIT"), EXIT_LIMITED },
	{ SL_INIT("RATE_LIMITED"), EXIT_LIMITED },
	{ SL_INIT("TIMEOUT"), EXIT_TIMEOUT },
	{ SL_INIT("EXEC_FAILED"), EXIT_NEVER_RAN },
	{ SL_INIT("EXPIRED"), EXIT_NEVER_RAN },
	{ SL_INIT("CANCELLED"), EXIT_NEVER_RAN },
	{ SL_INIT("TOO_MANY_ATTEMPTS"), EXIT_LIMITED },
	{ SL_INIT("UNKNOWN_OUTCOME"), EXIT_FAILED },
};

/* -1: the code says nothing about it. */
static int
exit_of_code(struct slice code)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (slice_eq(codes[i].code, code))
			return codes[i].exit;
	return -1;
}

static int
exit_of_status(long status)
{
	switch (status) {
	case 400:
	case 422:
		return EXIT_USAGE;
	case 401:
	case 403:
		return EXIT_DENIED;
	case 404:
	case 410:
		return EXIT_NOT_FOUND;
	case 408:
	case 504:
		return EXIT_TIMEOUT;
	case 429:
		return EXIT_LIMITED;
	default:
		return EXIT_FAILED;
	}
}

int
exit_of_refusal(long status, struct slice code)
{
	int exit = exit_of_code(code);

	return exit >= 0 ? exit : exit_of_status(status);
}

int
outcome_read(struct js_value command, struct outcome *out)
{
	struct js_fields f;
	struct outcome o;

	js_fields_init(&f, command);
	js_need_string(&f, "id", &o.id);
	js_need_string(&f, "state", &o.state);
	js_opt_i64(&f, "exit_code", -1, INT32_MAX, -1, &o.exit_code);
	js_opt_i64(&f, "signal", 0, 127, 0, &o.signal);
	js_opt_string(&f, "code", &o.code);
	js_opt_string(&f, "why", &o.why);
	if (f.err == 0)
		*out = o;
	return f.err;
}

static bool
state_is(const struct outcome *o, const char *state)
{
	return slice_eq(o->state, slice_from(state));
}

bool
outcome_is_final(const struct outcome *o)
{
	return !state_is(o, "queued") && !state_is(o, "sent") &&
	    !state_is(o, "running");
}

/* A code outranks what the process left: one killed by its time limit
 * timed out, whichever signal did it. */
int
exit_of_outcome(const struct outcome *o)
{
	int exit = exit_of_code(o->code);

	if (exit >= 0)
		return exit;
	if (state_is(o, "unknown"))
		return EXIT_FAILED;
	if (o->signal > 0)
		return 128 + (int)o->signal;
	if (o->exit_code >= 0)
		return (int)(o->exit_code & 255);
	return EXIT_NEVER_RAN;
}

const char *
outcome_remark(const struct outcome *o)
{
	if (state_is(o, "unknown") || slice_eq(o->code, SL("UNKNOWN_OUTCOME")))
		return "nobody knows how it ended: the agent lost it while it "
		       "ran, and it is not run again";
	if (state_is(o, "expired"))
		return "its deadline passed before it could start";
	if (state_is(o, "cancelled") && exit_of_code(o->code) == EXIT_DENIED)
		return "it was not sent";
	if (state_is(o, "cancelled"))
		return "it was cancelled before it started";
	switch (exit_of_code(o->code)) {
	case EXIT_TIMEOUT:
		return "it was ended because its time limit passed";
	case EXIT_STOPPED:
		return "it was ended by an emergency stop";
	case EXIT_DENIED:
		return "the agent's policy does not permit it";
	case EXIT_OFFLINE:
		return "the agent is offline";
	case EXIT_NEVER_RAN:
		return "the program could not be started";
	default:
		return NULL;
	}
}
