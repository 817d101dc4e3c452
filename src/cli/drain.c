/*
 * Taking an agent out of service and back.
 */
#include <stdio.h>

#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/verbs.h"

enum { RUNNING_SHOWN = 20 };

/* POST what to the agent meant by word; the agent as it is then. */
static int
post_to_agent(
    struct cli *c, const char *word, const char *what, struct answer **out)
{
	struct answer *agent;
	int exit = find_agent(c, word, &agent);

	if (exit != EXIT_OK)
		return exit;
	struct rest_ask ask = { .method = "POST",
		.path = find_path(c, "/api/v1/agents/",
		    render_text(agent->root, "agent_id"), what),
		.body = SL("{}") };
	*out = find_answer(c);
	return *out == NULL ? cli_nomem(c) : rest_call(c, &ask, *out);
}

static int
set_cordon(struct cli *c, const struct args *a, const char *what)
{
	struct answer *agent;
	int exit = post_to_agent(c, a->words[0], what, &agent);

	return exit == EXIT_OK && c->json ? rest_print(c, agent->root) : exit;
}

int
verb_agent_cordon(struct cli *c, const struct args *a)
{
	return set_cordon(c, a, "/cordon");
}

int
verb_agent_uncordon(struct cli *c, const struct args *a)
{
	return set_cordon(c, a, "/uncordon");
}

/* Drain -------------------------------------------------------------------- */

static int
put_running(struct cli *c, void *arg, struct js_value job)
{
	(void)arg;
	cli_note(c, "%.*s is %.*s", SLICE_FMT(render_text(job, "id")),
	    SLICE_FMT(render_text(job, "state")));
	return EXIT_OK;
}

/* It is late already: a list that cannot be had is no failure of its own. */
static void
say_what_runs(struct cli *c, struct slice agent_id)
{
	static const char *const states[] = { "running", "sent" };
	char before[64];

	for (size_t i = 0; i < 2; i++) {
		snprintf(before, sizeof(before),
		    "/api/v1/commands?state=%s&agent=", states[i]);
		rest_list(c, find_path(c, before, agent_id, ""), RUNNING_SHOWN,
		    put_running, NULL);
	}
}

static bool
is_idle(const struct answer *agent)
{
	return agent->status == 404 ||
	    (agent->status == 200 &&
		slice_eq(render_text(agent->root, "running"), SL("0")));
}

static int
wait_idle(struct cli *c, struct slice agent_id, msec span)
{
	struct slice path = find_path(c, "/api/v1/agents/", agent_id, "");
	struct slice left = { 0 };
	struct patience p;
	struct answer agent;
	bool idle = false;
	int exit;

	patience_init(&p, span);
	do {
		exit = patience_ask(c, &p, path, &agent);
		idle = exit == EXIT_OK && is_idle(&agent);
	} while (exit == EXIT_OK && !idle && patience_pause(&p));
	if (exit == EXIT_OK && idle && c->json && agent.status == 200)
		exit = rest_print(c, agent.root);
	if (exit == EXIT_OK && !idle && agent.status == 200)
		arena_copy(
		    &c->arena, render_text(agent.root, "running"), &left);
	patience_fini(&p);
	if (exit != EXIT_OK || idle)
		return exit;
	exit = cli_fail(c, EXIT_TIMEOUT,
	    "%.*s still running when the time was over; the agent stays "
	    "cordoned",
	    SLICE_FMT(left.len > 0 ? left : SL("?")));
	say_what_runs(c, agent_id);
	return exit;
}

int
verb_agent_drain(struct cli *c, const struct args *a)
{
	struct answer *agent;
	msec span;
	int exit = cli_span(c, a, "timeout", -1, &span);

	if (exit == EXIT_OK)
		exit = post_to_agent(c, a->words[0], "/cordon", &agent);
	return exit == EXIT_OK
	    ? wait_idle(c, render_text(agent->root, "agent_id"), span)
	    : exit;
}
