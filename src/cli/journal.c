#include <stdio.h>

#include "base/err.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/verbs.h"
#include "wire/sse.h"
#include "wire/url.h"

enum { LIST_DEFAULT = 100, EVENT_MAX = 1 << 20, DEPTH = 32 };

/* audit ---------------------------------------------------------------------
 */

static int
audit_row(struct cli *c, void *arg, struct js_value line)
{
	struct table *t = arg;
	struct slice result = render_text(line, "result");

	table_cell(t, render_text(line, "number"), TABLE_DIM);
	table_cell(t, render_age(c, line, "at"), TABLE_PLAIN);
	table_cell(t, render_text(line, "actor"), TABLE_PLAIN);
	table_cell(t, render_text(line, "action"), TABLE_PLAIN);
	table_cell(t, render_text(line, "object"), TABLE_PLAIN);
	table_cell(t, result, render_colour(result));
	table_cell(t, render_text(line, "remote"), TABLE_DIM);
	return EXIT_OK;
}

int
verb_audit_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "NUMBER", true, true },
		{ "AGE", true, true }, { "ACTOR", false, false },
		{ "ACTION", false, false }, { "OBJECT", false, false },
		{ "RESULT", false, true }, { "REMOTE", false, false } };
	struct slice path = SL("/api/v1/audit?limit=1000");
	struct table t;
	char text[64];
	size_t max;
	int exit = find_limit(c, a, LIST_DEFAULT, &max);

	if (exit != EXIT_OK)
		return exit;
	if (max < 1000) {
		snprintf(text, sizeof(text), "/api/v1/audit?limit=%zu", max);
		path = slice_from(text);
	}
	if (c->json)
		return rest_list_json(c, path, max);
	table_init(&t, columns, 7, &c->arena);
	exit = rest_list(c, path, max, audit_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

int
verb_audit_verify(struct cli *c, const struct args *a)
{
	struct answer found;
	bool ok = false;
	int exit = rest_get(c, SL("/api/v1/audit/verify"), &found);

	(void)a;
	if (exit == EXIT_OK)
		exit = render_object(c, found.root);
	if (exit != EXIT_OK)
		return exit;
	if (js_bool(js_get(found.root, "ok"), &ok) == 0 && ok)
		return EXIT_OK;
	return cli_fail(c, EXIT_FAILED,
	    "the journal's chain does not hold: a line was changed or is "
	    "missing");
}

static int
export_line(struct cli *c, void *arg, struct js_value line)
{
	struct buf out;
	int err;

	(void)c;
	buf_init(&out, CLI_OUTPUT);
	safe_json(&out, js_raw(line));
	buf_put_byte(&out, '\n');
	err = out.err != 0 ? out.err : term_write(1, buf_peek(&out));
	buf_fini(&out);
	if (err == 0)
		return EXIT_OK;
	*(int *)arg = err;
	return EXIT_FAILED;
}

int
verb_audit_export(struct cli *c, const struct args *a)
{
	int err = 0;
	int exit =
	    rest_list(c, SL("/api/v1/audit?limit=1000"), 0, export_line, &err);

	(void)a;
	if (err == ERR_CLOSED)
		return EXIT_OK;
	if (err != 0)
		return cli_fail(
		    c, EXIT_FAILED, "cannot write: %s", err_name(err));
	return exit;
}

/* events --------------------------------------------------------------------
 */

struct watching {
	struct cli *cli;
	struct sse_reader reader;
	char last[128]; /* id of the last event */
	struct patience *patience;
	int err;
};

/* For people: the time of day. */
static struct slice
short_time(const struct cli *c, struct slice at)
{
	if (!c->term.out_tty || at.len < 19)
		return at;
	return slice_first(slice_from_at(at, 11), 8);
}

static void
put_part(struct buf *out, struct slice s)
{
	buf_put_byte(out, '\t');
	safe_text(out, s);
}

static void
put_event(struct watching *w, struct js_value e, struct buf *out)
{
	struct cli *c = w->cli;

	if (c->json) {
		safe_json(out, js_raw(e));
	} else {
		safe_text(out, short_time(c, render_text(e, "at")));
		put_part(out, render_text(e, "name"));
		put_part(out, render_text(e, "agent_id"));
		put_part(out, render_text(e, "command_id"));
		put_part(out, render_list(c, js_get(e, "data")));
	}
	buf_put_byte(out, '\n');
}

static void
take_event(struct watching *w, const struct sse_event *ev)
{
	static const struct js_limits limits = { EVENT_MAX, DEPTH };
	struct arena a;
	struct js_doc doc;
	struct buf out;

	if (slice_cstr(ev->id, w->last, sizeof(w->last)) != 0)
		w->last[0] = '\0';
	arena_init(&a, (size_t)24 * EVENT_MAX);
	buf_init(&out, (size_t)8 * EVENT_MAX);
	if (js_parse(&doc, ev->data, &limits, &a) == 0) {
		put_event(w, js_root(&doc), &out);
		w->err = out.err != 0 ? out.err : term_write(1, buf_peek(&out));
	}
	buf_fini(&out);
	arena_fini(&a);
}

static bool
take_piece(void *arg, struct slice piece)
{
	struct watching *w = arg;
	struct sse_event ev;
	int r;

	w->patience->step = 0; /* it works again: begin anew */
	sse_feed(&w->reader, piece);
	while (w->err == 0 && (r = sse_next(&w->reader, &ev)) != 0) {
		if (r < 0)
			w->err = r;
		else
			take_event(w, &ev);
	}
	return w->err == 0;
}

static int
watch_once(struct watching *w, bool *broken)
{
	struct rest_stream spec = { .path = SL("/api/v1/events"),
		.accept = "text/event-stream",
		.take = take_piece,
		.arg = w,
		.last_event = slice_from(w->last) };
	int exit;

	sse_reader_init(&w->reader, EVENT_MAX);
	exit = rest_stream(w->cli, &spec, 1, broken);
	sse_reader_fini(&w->reader);
	if (w->err == ERR_CLOSED)
		return EXIT_OK;
	if (w->err != 0)
		return cli_fail(
		    w->cli, EXIT_FAILED, "events: %s", err_name(w->err));
	return exit;
}

int
verb_events(struct cli *c, const struct args *a)
{
	struct patience p;
	struct watching w = { .cli = c, .patience = &p };
	bool broken, follow = args_has(a, "f");
	int exit;

	patience_init(&p, -1);
	do
		exit = watch_once(&w, &broken);
	while (follow && w.err == 0 && (broken || exit == EXIT_OK) &&
	    patience_pause(&p));
	patience_fini(&p);
	return exit;
}
