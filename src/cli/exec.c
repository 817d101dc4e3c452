#include <stdio.h>

#include "base/err.h"
#include "base/js_write.h"
#include "cli/attach.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/targets.h"
#include "cli/verbs.h"
#include "io/rand.h"
#include "wire/url.h"

enum { ASK_MAX = 4 << 20, AGAIN_WITHIN = 60000 };

struct exec_plan {
	const struct args *args;
	bool detached;
	msec timeout, deadline, again;
	struct targets to;
};

/* Options -------------------------------------------------------------------
 */

static int
check_env(const struct cli *c, const struct args *a)
{
	const char *pair;
	size_t at = 0;

	while ((pair = args_each(a, "env", &at)) != NULL)
		if (strchr(pair, '=') == NULL || pair[0] == '=')
			return cli_usage(
			    c, "--env '%s' is not of the form K=V", pair);
	return EXIT_OK;
}

static int
check_priority(const struct cli *c, const struct args *a)
{
	const char *p = args_get(a, "priority");

	if (p == NULL || strcmp(p, "high") == 0 || strcmp(p, "normal") == 0 ||
	    strcmp(p, "low") == 0)
		return EXIT_OK;
	return cli_usage(c, "--priority is high, normal or low, not '%s'", p);
}

static int
read_options(struct cli *c, const struct args *a, struct exec_plan *plan)
{
	int exit;

	if (a->tail == NULL)
		return cli_usage(c,
		    "put -- between the targets and the program, as in "
		    "'muster exec web-1 -- uptime'");
	if (a->tail_count == 0 || a->tail[0][0] == '\0')
		return cli_usage(c, "there is no program behind --");
	if (a->count == 0 && !args_has(a, "l"))
		return cli_usage(
		    c, "it needs a target: an agent, or -l LABEL=VALUE");
	plan->args = a;
	plan->detached = args_has(a, "d");
	exit = check_env(c, a);
	if (exit == EXIT_OK)
		exit = check_priority(c, a);
	if (exit == EXIT_OK)
		exit = cli_span(c, a, "timeout", 0, &plan->timeout);
	if (exit == EXIT_OK)
		exit = cli_span(c, a, "deadline", 0, &plan->deadline);
	if (exit == EXIT_OK)
		exit = cli_span(c, a, "reattach", AGAIN_WITHIN, &plan->again);
	return exit;
}

/* What is asked -------------------------------------------------------------
 */

/* --shell takes one string; words typed apart are joined as ssh does. */
static void
put_argv(struct js_writer *w, const struct args *a, struct buf *line)
{
	bool shell = args_has(a, "shell");

	js_kv_array(w, "argv");
	for (size_t i = 0; i < a->tail_count; i++) {
		if (!shell) {
			js_put_string(w, slice_from(a->tail[i]));
			continue;
		}
		if (i > 0)
			buf_put_byte(line, ' ');
		buf_put(line, slice_from(a->tail[i]));
	}
	if (shell)
		js_put_string(w, buf_peek(line));
	js_end(w);
}

static void
put_env(struct js_writer *w, const struct args *a)
{
	const char *text;
	size_t at = 0;

	js_kv_object(w, "env");
	while ((text = args_each(a, "env", &at)) != NULL) {
		struct slice pair = slice_from(text);
		size_t equals = slice_find(pair, '=');

		js_key(w, slice_first(pair, equals));
		js_put_string(w, slice_from_at(pair, equals + 1));
	}
	js_end(w);
}

static void
put_option(struct js_writer *w, const struct args *a, const char *name)
{
	if (args_get(a, name) != NULL)
		js_kv_string(w, name, slice_from(args_get(a, name)));
}

static void
put_detached(struct js_writer *w, const struct exec_plan *plan)
{
	put_option(w, plan->args, "priority");
	if (plan->deadline > 0)
		js_kv_i64(w, "deadline_ms", plan->deadline);
	if (args_has(plan->args, "or-fail"))
		js_kv_bool(w, "or_fail", true);
}

static void
put_attached(struct js_writer *w, bool input, bool force)
{
	char key[RAND_ID_SIZE];

	rand_id("key_", key);
	js_kv_bool(w, "stdin", input);
	if (force)
		js_kv_bool(w, "force", true);
	js_kv_string(w, "request_key", slice_from(key));
}

/* The JSON of one request, in c's arena. */
static int
put_ask(struct cli *c, const struct exec_plan *plan, size_t i, bool input,
    struct slice *out)
{
	const struct args *a = plan->args;
	struct js_writer w;
	struct buf body, line;
	int err;

	buf_init(&body, ASK_MAX);
	buf_init(&line, ASK_MAX);
	js_write(&w, &body);
	js_begin_object(&w);
	js_kv_string(&w, "agent", slice_from(plan->to.agents[i]));
	put_argv(&w, a, &line);
	put_env(&w, a);
	put_option(&w, a, "cwd");
	put_option(&w, a, "user");
	js_kv_bool(&w, "shell", args_has(a, "shell"));
	if (plan->timeout > 0)
		js_kv_i64(&w, "timeout_ms", plan->timeout);
	if (plan->detached)
		put_detached(&w, plan);
	else
		put_attached(&w, input, args_has(a, "force"));
	js_end(&w);
	err = js_finish(&w);
	if (err == 0)
		err = line.err;
	if (err == 0)
		err = arena_copy(&c->arena, buf_peek(&body), out);
	buf_fini(&line);
	buf_fini(&body);
	return err == 0 ? EXIT_OK : cli_nomem(c);
}

/* Running -------------------------------------------------------------------
 */

/* Nobody is there to run it yet: the caller hears of that by exit code.
 * The command is made, so a look that fails is no failure. */
static int
look_for_agent(struct cli *c, struct slice agent_id)
{
	struct answer *agent = find_answer(c);
	struct rest_ask ask = { .method = "GET" };
	char why[REST_WHY];
	struct buf path;

	if (agent == NULL || agent_id.len == 0)
		return EXIT_OK;
	buf_init(&path, REST_WHY);
	buf_put(&path, SL("/api/v1/agents/"));
	url_put_encoded(&path, agent_id);
	ask.path = buf_peek(&path);
	int err = path.err != 0 ? path.err : rest_try(c, &ask, agent, why);
	buf_fini(&path);
	if (err != 0 || agent->status != 200)
		return EXIT_OK;
	struct slice status = render_text(agent->root, "status");
	if (!slice_eq(status, SL("offline")) &&
	    !slice_eq(status, SL("reconnecting")))
		return EXIT_OK;
	cli_note(c, "the agent is %.*s: the command waits in its queue",
	    SLICE_FMT(status));
	return EXIT_OFFLINE;
}

static int
start_one(struct cli *c, const struct exec_plan *plan, size_t i)
{
	struct rest_ask ask = { .method = "POST",
		.path = SL("/api/v1/commands") };
	struct answer *made = find_answer(c);
	char key[RAND_ID_SIZE];
	struct buf out;
	int exit =
	    made == NULL ? cli_nomem(c) : put_ask(c, plan, i, false, &ask.body);

	if (exit != EXIT_OK)
		return exit;
	rand_id("key_", key);
	ask.key = key;
	exit = rest_call(c, &ask, made);
	if (exit != EXIT_OK)
		return exit;
	if (c->json) {
		exit = rest_print(c, made->root);
	} else {
		buf_init(&out, CLI_LINE);
		safe_text(&out, render_text(made->root, "id"));
		buf_put_byte(&out, '\n');
		exit = cli_print(c, &out);
	}
	if (exit == EXIT_OK &&
	    slice_eq(render_text(made->root, "state"), SL("queued")))
		exit = look_for_agent(c, render_text(made->root, "agent_id"));
	return exit;
}

/* One that fails does not keep the others from being started. */
static int
start_all(struct cli *c, const struct exec_plan *plan)
{
	int worst = EXIT_OK;

	for (size_t i = 0; i < plan->to.count; i++) {
		int exit = start_one(c, plan, i);

		if (exit > worst)
			worst = exit;
	}
	return worst;
}

static int
attach_all(struct cli *c, const struct exec_plan *plan)
{
	struct attach_plan attach = { .count = plan->to.count,
		.again = plan->again,
		.input = plan->to.count == 1 && !args_has(plan->args, "n") };
	struct attach_target *targets;

	if (plan->to.count > ATTACH_MAX)
		return cli_usage(c,
		    "%zu agents are too many to attach to (%d at most); use "
		    "-d",
		    plan->to.count, ATTACH_MAX);
	targets = arena_array(&c->arena, plan->to.count, sizeof(*targets));
	if (targets == NULL)
		return cli_nomem(c);
	for (size_t i = 0; i < plan->to.count; i++) {
		int exit = put_ask(c, plan, i, attach.input, &targets[i].ask);

		if (exit != EXIT_OK)
			return exit;
		targets[i].name = plan->to.names[i];
	}
	attach.targets = targets;
	return attach_run(c, &attach);
}

int
verb_exec(struct cli *c, const struct args *a)
{
	struct exec_plan plan = { 0 };
	int exit = read_options(c, a, &plan);

	if (exit == EXIT_OK)
		exit = targets_find(c, a, &plan.to);
	if (exit == EXIT_OK)
		exit = targets_confirm(c, a, &plan.to, "run on");
	if (exit != EXIT_OK)
		return exit;
	return plan.detached ? start_all(c, &plan) : attach_all(c, &plan);
}
