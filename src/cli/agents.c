#include <stdio.h>

#include "base/js_write.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/verbs.h"
#include "wire/url.h"

/* A cordon is no status of its own, but who looks for a place to run
 * something must see it. */
static struct slice
shown_status(struct cli *c, struct js_value agent, struct slice status)
{
	struct slice text = status;
	char both[64];

	if (slice_eq(render_text(agent, "status_reason"), SL("local_stop")))
		return SL("stopped,local");
	if (render_text(agent, "cordoned_at").len == 0)
		return status;
	snprintf(both, sizeof(both), "%.*s,cordoned", SLICE_FMT(status));
	arena_copy(&c->arena, slice_from(both), &text);
	return text;
}

static int
agent_row(struct cli *c, void *arg, struct js_value agent)
{
	struct table *t = arg;
	struct slice status = render_text(agent, "status");

	table_cell(t, render_text(agent, "name"), TABLE_PLAIN);
	table_cell(t, shown_status(c, agent, status), render_colour(status));
	table_cell(t, render_age(c, agent, "status_since"), TABLE_PLAIN);
	table_cell(t, render_text(agent, "dialect"), TABLE_PLAIN);
	table_cell(t, render_text(agent, "running"), TABLE_PLAIN);
	table_cell(t, render_text(agent, "agent_id"), TABLE_DIM);
	table_cell(t, render_list(c, js_get(agent, "labels")), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_agent_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "NAME", false, false },
		{ "STATUS", false, true }, { "SINCE", true, true },
		{ "DIALECT", false, true }, { "RUNNING", true, true },
		{ "ID", false, true }, { "LABELS", false, false } };
	struct table t;
	struct buf path;
	size_t max;
	int exit = find_limit(c, a, 0, &max);

	if (exit != EXIT_OK)
		return exit;
	buf_init(&path, URL_MAX);
	buf_put(&path, SL("/api/v1/agents?limit=1000"));
	find_put_selector(&path, a);
	find_put_query(&path, "status", args_get(a, "status"));
	if (path.err != 0) {
		exit = cli_usage(c, "the selectors are too long");
	} else if (c->json) {
		exit = rest_list_json(c, buf_peek(&path), max);
	} else {
		table_init(&t, columns, 7, &c->arena);
		exit = rest_list(c, buf_peek(&path), max, agent_row, &t);
		if (exit == EXIT_OK)
			exit = render_table(c, &t);
	}
	buf_fini(&path);
	return exit;
}

int
verb_agent_show(struct cli *c, const struct args *a)
{
	struct answer *agent;
	int exit = find_agent(c, a->words[0], &agent);

	return exit == EXIT_OK ? render_object(c, agent->root) : exit;
}

/* label -------------------------------------------------------------------- */

static int
put_labels(struct cli *c, const struct args *a, struct buf *body)
{
	struct js_writer w;

	js_write(&w, body);
	js_begin_object(&w);
	for (size_t i = 1; i < a->count; i++) {
		struct slice word = slice_from(a->words[i]);
		size_t at = slice_find(word, '=');

		if (at > 0 && at < word.len) {
			js_key(&w, slice_first(word, at));
			js_put_string(&w, slice_from_at(word, at + 1));
		} else if (word.len > 1 && slice_ends(word, SL("-"))) {
			js_key(&w, slice_first(word, word.len - 1));
			js_put_null(&w);
		} else {
			return cli_usage(c,
			    "'%s' is no label: KEY=VALUE sets one, KEY- "
			    "removes it",
			    a->words[i]);
		}
	}
	js_end(&w);
	return js_finish(&w) == 0 ? EXIT_OK : cli_nomem(c);
}

int
verb_agent_label(struct cli *c, const struct args *a)
{
	struct answer *agent, after;
	struct buf body;
	int exit;

	buf_init(&body, (size_t)1 << 20);
	exit = put_labels(c, a, &body);
	if (exit == EXIT_OK)
		exit = find_agent(c, a->words[0], &agent);
	if (exit == EXIT_OK) {
		struct rest_ask ask = { .method = "PATCH",
			.path = find_path(c, "/api/v1/agents/",
			    render_text(agent->root, "agent_id"), "/labels"),
			.body = buf_peek(&body) };

		exit = rest_call(c, &ask, &after);
		if (exit == EXIT_OK && c->json)
			exit = rest_print(c, after.root);
	}
	buf_fini(&body);
	return exit;
}

int
verb_agent_rm(struct cli *c, const struct args *a)
{
	struct answer *agent, after;
	int exit = find_agent(c, a->words[0], &agent);
	struct rest_ask ask = { .method = "DELETE" };

	if (exit != EXIT_OK)
		return exit;
	ask.path = find_path(
	    c, "/api/v1/agents/", render_text(agent->root, "agent_id"), "");
	exit = rest_call(c, &ask, &after);
	if (exit == EXIT_OK && c->json)
		return render_object(c, agent->root);
	return exit;
}

/* wait --------------------------------------------------------------------- */

static bool
status_meets(struct slice status, struct slice wanted)
{
	if (slice_eq(status, wanted))
		return true;
	return slice_eq(wanted, SL("online")) &&
	    (slice_eq(status, SL("busy")) || slice_eq(status, SL("degraded")));
}

static bool
is_status(const char *text)
{
	static const char *const known[] = { "joining", "online", "busy",
		"degraded", "error", "reconnecting", "offline", "stopped",
		"gone" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], text) == 0)
			return true;
	return false;
}

static bool
meets(const struct answer *a, struct slice wanted)
{
	if (slice_eq(wanted, SL("gone")))
		return a->status == 404;
	return a->status == 200 &&
	    status_meets(render_text(a->root, "status"), wanted);
}

static int
wait_agent(struct cli *c, const char *name, const char *wanted, msec span)
{
	struct slice path =
	    find_path(c, "/api/v1/agents/", slice_from(name), "");
	struct patience p;
	struct answer agent;
	int exit;

	patience_init(&p, span);
	do {
		exit = patience_ask(c, &p, path, &agent);
		if (exit != EXIT_OK || meets(&agent, slice_from(wanted)))
			break;
		exit = EXIT_TIMEOUT;
	} while (patience_pause(&p));
	if (exit == EXIT_TIMEOUT)
		cli_note(c, "%s is not %s within the time given", name, wanted);
	if (exit == EXIT_OK && c->json && agent.status == 200)
		exit = rest_print(c, agent.root);
	patience_fini(&p);
	return exit;
}

int
verb_agent_wait(struct cli *c, const struct args *a)
{
	const char *wanted = args_get(a, "for");
	msec span;
	int exit = cli_span(c, a, "timeout", -1, &span);

	if (wanted == NULL)
		wanted = "online";
	if (exit == EXIT_OK && !is_status(wanted))
		exit = cli_usage(c, "'%s' is no status", wanted);
	return exit == EXIT_OK ? wait_agent(c, a->words[0], wanted, span)
			       : exit;
}
