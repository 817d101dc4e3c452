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

enum { ASK_MAX = 4 << 20, START_MAX = 1000, AGAIN_WITHIN = 60000 };

struct exec_plan {
	const struct args *args;
	bool detached;
	msec timeout, deadline, again;
	struct targets to;
	size_t batch, max_fail; /* so many at once; 0: no limit */
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
check_on_full(const struct cli *c, const struct args *a)
{
	const char *w = args_get(a, "on-full");

	if (w == NULL || strcmp(w, "wait") == 0 || strcmp(w, "drop") == 0)
		return EXIT_OK;
	return cli_usage(c, "--on-full is wait or drop, not '%s'", w);
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
		exit = check_on_full(c, a);
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

static void
put_targets(struct js_writer *w, const struct targets *to)
{
	if (to->count == 1) {
		js_kv_string(w, "agent", slice_from(to->agents[0]));
		return;
	}
	js_kv_array(w, "agents");
	for (size_t i = 0; i < to->count; i++)
		js_put_string(w, slice_from(to->agents[i]));
	js_end(w);
}

/* The JSON of one request, in c's arena. */
static int
put_ask(struct cli *c, const struct exec_plan *plan, const struct targets *to,
    bool input, struct slice *out)
{
	const struct args *a = plan->args;
	struct js_writer w;
	struct buf body, line;
	int err;

	buf_init(&body, ASK_MAX);
	buf_init(&line, ASK_MAX);
	js_write(&w, &body);
	js_begin_object(&w);
	put_targets(&w, to);
	put_argv(&w, a, &line);
	put_env(&w, a);
	put_option(&w, a, "cwd");
	put_option(&w, a, "user");
	js_kv_bool(&w, "shell", args_has(a, "shell"));
	if (args_get(a, "on-full") != NULL)
		js_kv_string(&w, "on_full", slice_from(args_get(a, "on-full")));
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

/* Detached ------------------------------------------------------------------
 */

/* One is made: its id, or all of it in JSON. */
static int
print_made(struct cli *c, struct js_value command)
{
	struct buf out;

	if (c->json)
		return rest_print(c, command);
	buf_init(&out, CLI_LINE);
	safe_text(&out, render_text(command, "id"));
	buf_put_byte(&out, '\n');
	return cli_print(c, &out);
}

/* People like to know how long; a script has it in the JSON. */
static void
say_place(struct cli *c, struct js_value command, struct slice name)
{
	int64_t place = 0, wait = 0;

	if (!c->term.err_tty ||
	    js_i64(js_get(command, "position"), &place) != 0 ||
	    js_i64(js_get(command, "wait_ms"), &wait) != 0)
		return;
	cli_note(c, "place %lld in the queue of %.*s, about %lld s to wait",
	    (long long)place, SLICE_FMT(name), (long long)(wait + 999) / 1000);
}

/* Whether it waits, and for what; the caller hears of that by exit code.
 * agent has "status" and "cordoned_at". */
static int
say_why_it_waits(struct cli *c, struct js_value command, struct js_value agent)
{
	struct slice status = render_text(agent, "status");
	struct slice name = render_text(agent, "name");
	bool away = slice_eq(status, SL("offline")) ||
	    slice_eq(status, SL("reconnecting"));

	if (!slice_eq(render_text(command, "state"), SL("queued")))
		return EXIT_OK;
	if (!away && render_text(agent, "cordoned_at").len == 0) {
		say_place(c, command, name);
		return EXIT_OK;
	}
	cli_note(c, "%.*s is %.*s: the command waits in its queue",
	    SLICE_FMT(name), SLICE_FMT(away ? status : SL("cordoned")));
	return EXIT_OFFLINE;
}

/* The command is made, so a look that fails is no failure. */
static int
look_for_agent(struct cli *c, struct js_value command)
{
	struct answer *agent = find_answer(c);
	struct rest_ask ask = { .method = "GET",
		.path = find_path(c, "/api/v1/agents/",
		    render_text(command, "agent_id"), "") };
	char why[REST_WHY];

	if (agent == NULL ||
	    !slice_eq(render_text(command, "state"), SL("queued")) ||
	    rest_try(c, &ask, agent, why) != 0 || agent->status != 200)
		return EXIT_OK;
	return say_why_it_waits(c, command, agent->root);
}

static int
ask_to_start(struct cli *c, const struct exec_plan *plan,
    const struct targets *to, struct answer **out)
{
	struct rest_ask ask = { .method = "POST",
		.path = SL("/api/v1/commands") };
	char key[RAND_ID_SIZE];
	int exit = put_ask(c, plan, to, false, &ask.body);

	*out = find_answer(c);
	if (exit != EXIT_OK || *out == NULL)
		return exit != EXIT_OK ? exit : cli_nomem(c);
	rand_id("key_", key);
	ask.key = key;
	return rest_call(c, &ask, *out);
}

static int
start_one(struct cli *c, const struct exec_plan *plan)
{
	struct answer *made;
	int exit = ask_to_start(c, plan, &plan->to, &made);

	if (exit == EXIT_OK)
		exit = print_made(c, made->root);
	return exit == EXIT_OK ? look_for_agent(c, made->root) : exit;
}

/* One agent's part in the answer. */
static int
show_part(struct cli *c, struct js_value item)
{
	struct js_value command = js_get(item, "command");
	struct js_value problem = js_get(item, "problem");
	int64_t status = 0;

	if (command.kind == JS_OBJECT) {
		int exit = print_made(c, command);
		return exit == EXIT_OK ? say_why_it_waits(c, command, item)
				       : exit;
	}
	struct slice name = render_text(item, "target");
	if (name.len == 0)
		name = render_text(item, "name");
	js_i64(js_get(problem, "status"), &status);
	return cli_fail(c,
	    exit_of_refusal((long)status, render_text(problem, "code")),
	    "%.*s: %.*s", SLICE_FMT(name),
	    SLICE_FMT(render_text(problem, "detail")));
}

static int
start_part(
    struct cli *c, const struct exec_plan *plan, const struct targets *to)
{
	struct answer *made;
	int worst = ask_to_start(c, plan, to, &made);
	struct js_value item;
	struct js_walk w;

	if (worst != EXIT_OK)
		return worst;
	w = js_walk(js_get(made->root, "items"));
	while (js_next(&w, NULL, &item)) {
		int exit = show_part(c, item);

		worst = exit > worst ? exit : worst;
	}
	return worst;
}

/* Part of the targets: count of them from at. */
static struct targets
some(const struct targets *all, size_t at, size_t count)
{
	size_t left = all->count - at;

	return (struct targets){ .agents = all->agents + at,
		.names = all->names + at,
		.count = left < count ? left : count };
}

/* One that fails does not keep the others from being started. */
static int
start_all(struct cli *c, const struct exec_plan *plan)
{
	int worst = EXIT_OK;

	if (plan->to.count == 1)
		return start_one(c, plan);
	for (size_t at = 0; at < plan->to.count; at += START_MAX) {
		struct targets to = some(&plan->to, at, START_MAX);
		int exit = start_part(c, plan, &to);

		worst = exit > worst ? exit : worst;
	}
	return worst;
}

/* Attached ------------------------------------------------------------------
 */

static int
attach_part(struct cli *c, const struct exec_plan *plan,
    const struct targets *to, struct attach_result *out)
{
	struct attach_plan attach = { .count = to->count,
		.several = plan->to.count > 1,
		.again = plan->again,
		.input = plan->to.count == 1 && !args_has(plan->args, "n") };
	struct attach_target *targets =
	    arena_array(&c->arena, to->count, sizeof(*targets));

	if (targets == NULL)
		return cli_nomem(c);
	for (size_t i = 0; i < to->count; i++) {
		struct targets one = some(to, i, 1);
		int exit =
		    put_ask(c, plan, &one, attach.input, &targets[i].ask);

		if (exit != EXIT_OK)
			return exit;
		targets[i].name = to->names[i];
	}
	attach.targets = targets;
	return attach_run(c, &attach, out);
}

/* Batch after batch, until too many have failed. */
static int
attach_all(struct cli *c, const struct exec_plan *plan)
{
	size_t failed = 0, at = 0;
	int worst = EXIT_OK;

	while (at < plan->to.count) {
		struct targets to = some(&plan->to, at, plan->batch);
		struct attach_result r = { 0 };
		int exit = attach_part(c, plan, &to, &r);

		worst = exit > worst ? exit : worst;
		failed += r.failed;
		at += to.count;
		if (r.interrupted ||
		    (plan->max_fail > 0 && failed >= plan->max_fail))
			break;
	}
	if (at < plan->to.count)
		cli_note(c, "%zu of %zu failed; %zu not begun", failed, at,
		    plan->to.count - at);
	return worst;
}

static int
check_batch(struct cli *c, struct exec_plan *plan)
{
	const struct args *a = plan->args;
	bool max = args_has(a, "max-fail");
	uint64_t batch = max ? 1 : plan->to.count, fail = 0;
	int exit = find_count(c, a, "batch", ATTACH_MAX, &batch);

	if (exit == EXIT_OK)
		exit = find_count(c, a, "max-fail", UINT32_MAX, &fail);
	if (exit != EXIT_OK)
		return exit;
	if (plan->detached && (max || args_has(a, "batch")))
		return cli_usage(c,
		    "--batch and --max-fail are for attached commands: -d "
		    "queues all at once");
	if (!plan->detached && batch > ATTACH_MAX)
		return cli_usage(c,
		    "%zu agents are too many to attach to at once: use -d, or "
		    "--batch N with N up to %d",
		    plan->to.count, ATTACH_MAX);
	plan->batch = batch;
	plan->max_fail = fail;
	return EXIT_OK;
}

int
verb_exec(struct cli *c, const struct args *a)
{
	struct exec_plan plan = { 0 };
	int exit = read_options(c, a, &plan);

	if (exit == EXIT_OK)
		exit = targets_find(c, a, &plan.to);
	if (exit == EXIT_OK)
		exit = check_batch(c, &plan);
	if (exit == EXIT_OK)
		exit = targets_confirm(c, a, &plan.to, "run on");
	if (exit != EXIT_OK)
		return exit;
	return plan.detached ? start_all(c, &plan) : attach_all(c, &plan);
}
