#include <stdio.h>

#include "base/err.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/targets.h"
#include "wire/url.h"

enum { LABELLED_MAX = 100000, SHOWN_MAX = 50, ANSWER = 16 };

static int
add(struct cli *c, struct targets *t, const char *agent, const char *name)
{
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->agents[i], agent) == 0)
			return EXIT_OK;
	if (t->count == t->room || agent == NULL || name == NULL)
		return cli_nomem(c);
	t->agents[t->count] = agent;
	t->names[t->count++] = name;
	return EXIT_OK;
}

static int
add_labelled(struct cli *c, void *arg, struct js_value agent)
{
	struct slice name = render_text(agent, "name");
	struct slice id = render_text(agent, "agent_id");

	return add(c, arg, arena_cstr(&c->arena, id),
	    arena_cstr(&c->arena, name.len > 0 ? name : id));
}

static int
find_labelled(struct cli *c, const struct args *a, struct targets *t)
{
	struct buf path;
	int exit;

	buf_init(&path, URL_MAX);
	buf_put(&path, SL("/api/v1/agents?limit=1000"));
	find_put_selector(&path, a);
	exit = path.err != 0
	    ? cli_usage(c, "the selectors are too long")
	    : rest_list(c, buf_peek(&path), LABELLED_MAX, add_labelled, t);
	buf_fini(&path);
	if (exit == EXIT_OK && t->count == 0)
		return cli_fail(c, EXIT_NOT_FOUND, "no agent has these labels");
	return exit;
}

int
targets_find(struct cli *c, const struct args *a, struct targets *out)
{
	bool labels = args_has(a, "l");
	int exit = EXIT_OK;

	*out =
	    (struct targets){ .room = a->count + (labels ? LABELLED_MAX : 0) };
	out->agents = arena_array(&c->arena, out->room, sizeof(*out->agents));
	out->names = arena_array(&c->arena, out->room, sizeof(*out->names));
	if (out->agents == NULL || out->names == NULL)
		return cli_nomem(c);
	if (labels)
		exit = find_labelled(c, a, out);
	for (size_t i = 0; exit == EXIT_OK && i < a->count; i++)
		exit = add(c, out, a->words[i], a->words[i]);
	return exit;
}

static void
list(const struct cli *c, const struct targets *t)
{
	size_t shown = t->count < SHOWN_MAX ? t->count : SHOWN_MAX;
	struct buf line;

	buf_init(&line, CLI_OUTPUT);
	for (size_t i = 0; i < shown; i++) {
		buf_put_byte(&line, ' ');
		buf_put(&line, slice_from(t->names[i]));
	}
	if (line.err == 0 && shown < t->count)
		cli_note(c, "%zu agents:%.*s and %zu more", t->count,
		    SLICE_FMT(buf_peek(&line)), t->count - shown);
	else if (line.err == 0)
		cli_note(c, "%zu agent%s:%.*s", t->count,
		    t->count == 1 ? "" : "s", SLICE_FMT(buf_peek(&line)));
	buf_fini(&line);
}

int
targets_confirm(struct cli *c, const struct args *a, const struct targets *t,
    const char *what)
{
	char prompt[128], answer[ANSWER];
	int err;

	if (!args_has(a, "l"))
		return EXIT_OK;
	list(c, t);
	if (args_has(a, "yes"))
		return EXIT_OK;
	if (!c->term.in_tty || !c->term.err_tty)
		return cli_usage(c,
		    "labels chose these agents and nobody can be asked "
		    "whether they are meant: add --yes");
	snprintf(prompt, sizeof(prompt), "%s %s? [y/N] ", what,
	    t->count == 1 ? "it" : "them");
	err = term_ask(prompt, answer, sizeof(answer));
	if (err == 0 && (answer[0] == 'y' || answer[0] == 'Y'))
		return EXIT_OK;
	return cli_fail(c, EXIT_FAILED, "nothing was done");
}
