/*
 * The emergency stop: raised, followed until every agent has said what it
 * did, lifted, shown.
 */
#include <stdio.h>

#include "base/js_write.h"
#include "cli/find.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/verbs.h"
#include "io/clock.h"
#include "io/rand.h"

enum {
	BODY = 64 * 1024,
	FOLLOW = 10000, /* ms */
	NAMES_SHOWN = 20,
	ANSWER = 16,
};

/* What an operator says of a scope: --all, -l or an agent. */
static int
check_scope(const struct cli *c, const struct args *a)
{
	int given = args_has(a, "all") + args_has(a, "l") + (a->count > 0);

	return given == 1
	    ? EXIT_OK
	    : cli_usage(c, "give one of --all, -l LABEL=VALUE and an agent");
}

static void
put_selector(struct js_writer *w, const struct args *a)
{
	struct buf text;
	size_t at = 0;
	const char *one;

	buf_init(&text, BODY);
	while ((one = args_each(a, "l", &at)) != NULL) {
		if (buf_peek(&text).len > 0)
			buf_put_byte(&text, ',');
		buf_put(&text, slice_from(one));
	}
	js_kv_string(w, "scope", SL("selector"));
	js_kv_string(w, "selector", buf_peek(&text));
	if (text.err != 0 && w->err == 0)
		w->err = text.err;
	buf_fini(&text);
}

static void
put_scope(struct js_writer *w, const struct args *a)
{
	if (args_has(a, "all")) {
		js_kv_string(w, "scope", SL("all"));
	} else if (args_has(a, "l")) {
		put_selector(w, a);
	} else {
		js_kv_string(w, "scope", SL("agent"));
		js_kv_string(w, "agent", slice_from(a->words[0]));
	}
}

static int
post(struct cli *c, const char *path, struct buf *body, const char *key,
    struct answer **out)
{
	struct rest_ask ask = { .method = "POST",
		.path = slice_from(path),
		.body = buf_peek(body),
		.key = key };

	*out = find_answer(c);
	return *out == NULL || body->err != 0 ? cli_nomem(c)
					      : rest_call(c, &ask, *out);
}

static int
ask_for_stop(struct cli *c, const struct args *a, bool dry, const char *key,
    struct answer **out)
{
	const char *reason = args_get(a, "reason");
	struct js_writer w;
	struct buf body;

	buf_init(&body, BODY);
	js_write(&w, &body);
	js_begin_object(&w);
	put_scope(&w, a);
	if (reason != NULL)
		js_kv_string(&w, "reason", slice_from(reason));
	js_kv_bool(&w, "keep_tunnels", args_has(a, "keep-tunnels"));
	js_kv_bool(&w, "dry_run", dry);
	js_end(&w);
	int exit = js_finish(&w) != 0
	    ? cli_nomem(c)
	    : post(c, "/api/v1/stop", &body, key, out);
	buf_fini(&body);
	return exit;
}

/* Counts ------------------------------------------------------------------- */

static const char *const kinds[] = { "confirmed", "acknowledged", "unable",
	"waiting", "unreachable" };
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static uint64_t
count_of(struct js_value stop, const char *kind)
{
	uint64_t n = 0;

	return js_u64(js_get(js_get(stop, "agents"), kind), &n) == 0 ? n : 0;
}

static uint64_t
left_of(struct js_value stop)
{
	uint64_t n = 0;

	return js_u64(js_get(stop, "left"), &n) == 0 ? n : 0;
}

/* "3 confirmed, 1 unreachable" */
static struct slice
counts_text(struct cli *c, struct js_value stop)
{
	struct slice text = { 0 };
	struct buf b;
	char one[64];

	buf_init(&b, CLI_LINE);
	for (size_t i = 0; i < KINDS; i++) {
		uint64_t n = count_of(stop, kinds[i]);
		if (n == 0)
			continue;
		snprintf(one, sizeof(one), "%s%llu %s",
		    buf_peek(&b).len > 0 ? ", " : "", (unsigned long long)n,
		    kinds[i]);
		buf_put(&b, slice_from(one));
	}
	if (buf_peek(&b).len == 0)
		buf_put(&b, SL("no agents"));
	if (left_of(stop) > 0) {
		snprintf(one, sizeof(one), ", %llu with something left alive",
		    (unsigned long long)left_of(stop));
		buf_put(&b, slice_from(one));
	}
	arena_copy(&c->arena, buf_peek(&b), &text);
	buf_fini(&b);
	return text;
}

/* Before --------------------------------------------------------------------
 */

static void
say_names(struct cli *c, struct js_value stop, uint64_t all)
{
	struct js_walk w = js_walk(js_get(stop, "receipts"));
	struct js_value one;
	struct buf line;
	size_t shown = 0;

	buf_init(&line, CLI_OUTPUT);
	while (shown < NAMES_SHOWN && js_next(&w, NULL, &one)) {
		buf_put_byte(&line, ' ');
		buf_put(&line, render_text(one, "name"));
		shown++;
	}
	if (line.err == 0 && shown < all)
		cli_note(c, "%llu agents:%.*s and %llu more",
		    (unsigned long long)all, SLICE_FMT(buf_peek(&line)),
		    (unsigned long long)(all - shown));
	else if (line.err == 0)
		cli_note(c, "%llu agent%s:%.*s", (unsigned long long)all,
		    all == 1 ? "" : "s", SLICE_FMT(buf_peek(&line)));
	buf_fini(&line);
}

/* Whom it will hit; asks whether that is meant. */
static int
confirm(struct cli *c, const struct args *a)
{
	struct answer *dry;
	char answer[ANSWER];
	uint64_t all = 0;
	int exit = ask_for_stop(c, a, true, NULL, &dry);

	if (exit != EXIT_OK)
		return exit;
	for (size_t i = 0; i < KINDS; i++)
		all += count_of(dry->root, kinds[i]);
	say_names(c, dry->root, all);
	if (count_of(dry->root, "unable") > 0)
		cli_note(c, "%llu of them cannot be told to end what runs",
		    (unsigned long long)count_of(dry->root, "unable"));
	if (count_of(dry->root, "unreachable") > 0)
		cli_note(c, "%llu of them learn of it when they are back",
		    (unsigned long long)count_of(dry->root, "unreachable"));
	if (args_has(a, "yes"))
		return EXIT_OK;
	if (!c->term.in_tty || !c->term.err_tty)
		/* One agent by its name was meant. */
		return a->count > 0
		    ? EXIT_OK
		    : cli_usage(c,
			  "nobody can be asked whether these are "
			  "meant: add --yes");
	int err = term_ask("stop them? [y/N] ", answer, sizeof(answer));
	if (err == 0 && (answer[0] == 'y' || answer[0] == 'Y'))
		return EXIT_OK;
	return cli_fail(c, EXIT_FAILED, "nothing was done");
}

/* After -------------------------------------------------------------------- */

static int
put_receipt(struct cli *c, struct table *t, struct js_value r)
{
	struct slice kind = render_text(r, "kind");
	bool left = !slice_eq(render_text(r, "left"), SL("0")) &&
	    render_text(r, "left").len > 0;
	bool good = slice_eq(kind, SL("confirmed")) && !left;

	table_cell(t, render_text(r, "name"), TABLE_PLAIN);
	table_cell(t, kind,
	    good                                     ? TABLE_GOOD
		: slice_eq(kind, SL("acknowledged")) ? TABLE_GOOD
		: slice_eq(kind, SL("unable"))       ? TABLE_WARN
						     : TABLE_BAD);
	table_cell(t, render_age(c, r, "at"), TABLE_PLAIN);
	table_cell(t, render_text(r, "commands"), TABLE_PLAIN);
	table_cell(t, render_text(r, "killed"), TABLE_PLAIN);
	table_cell(t, render_text(r, "left"), left ? TABLE_BAD : TABLE_PLAIN);
	table_cell(t, render_text(r, "agent_id"), TABLE_DIM);
	return EXIT_OK;
}

static const struct table_column receipt_columns[] = {
	{ "AGENT", false, false }, { "RECEIPT", false, true },
	{ "SINCE", true, true }, { "COMMANDS", true, true },
	{ "KILLED", true, true }, { "LEFT", true, true }, { "ID", false, true }
};

static struct slice
stop_path(struct cli *c, struct slice epoch, struct slice cursor)
{
	struct slice path =
	    find_path(c, "/api/v1/stops/", epoch, "?limit=1000");
	struct buf b;

	if (cursor.len == 0)
		return path;
	buf_init(&b, CLI_LINE);
	buf_put(&b, path);
	find_put_query(&b, "cursor", arena_cstr(&c->arena, cursor));
	path = (struct slice){ 0 };
	arena_copy(&c->arena, buf_peek(&b), &path);
	buf_fini(&b);
	return path;
}

/* Those whose word is missing, or is not good; all of them when asked. */
static bool
is_worth_a_line(struct js_value receipt, bool all)
{
	struct slice kind = render_text(receipt, "kind");
	struct slice left = render_text(receipt, "left");

	return all || slice_eq(kind, SL("waiting")) ||
	    slice_eq(kind, SL("unreachable")) ||
	    (left.len > 0 && !slice_eq(left, SL("0")));
}

static int
show_receipts(struct cli *c, struct slice epoch, bool all)
{
	struct slice cursor = { 0 };
	struct table t;
	int exit;

	table_init(&t, receipt_columns, 7, &c->arena);
	do {
		struct answer *page = find_answer(c);
		struct js_value one;
		if (page == NULL)
			return cli_nomem(c);
		exit = rest_get(c, stop_path(c, epoch, cursor), page);
		if (exit != EXIT_OK)
			return exit;
		struct js_walk w = js_walk(js_get(page->root, "receipts"));
		while (js_next(&w, NULL, &one)) {
			if (is_worth_a_line(one, all))
				put_receipt(c, &t, one);
		}
		cursor = render_text(page->root, "next");
	} while (cursor.len > 0);
	return t.count > 0 ? render_table(c, &t) : EXIT_OK;
}

static int
show_counts(struct cli *c, struct js_value stop)
{
	static const struct table_column columns[] = {
		{ "RECEIPT", false, true }, { "AGENTS", true, true }
	};
	struct table t;
	char number[24];

	table_init(&t, columns, 2, &c->arena);
	for (size_t i = 0; i < KINDS; i++) {
		snprintf(number, sizeof(number), "%llu",
		    (unsigned long long)count_of(stop, kinds[i]));
		table_cell(&t, slice_from(kinds[i]), TABLE_PLAIN);
		table_cell(&t, slice_from(number), TABLE_PLAIN);
	}
	return render_table(c, &t);
}

/* The stop once nobody is waited for any more, or the time is over. */
static int
follow(struct cli *c, struct slice epoch, msec span, struct answer **out)
{
	struct slice path = find_path(c, "/api/v1/stops/", epoch, "?limit=1");
	struct patience p;
	struct answer stop;
	int exit;

	patience_init(&p, span);
	do
		exit = patience_ask(c, &p, path, &stop);
	while (exit == EXIT_OK &&
	    (stop.status != 200 || count_of(stop.root, "waiting") > 0) &&
	    patience_pause(&p));
	patience_fini(&p);
	*out = find_answer(c);
	if (*out == NULL)
		return cli_nomem(c);
	return exit != EXIT_OK
	    ? exit
	    : rest_get(c, stop_path(c, epoch, (struct slice){ 0 }), *out);
}

int
verb_stop(struct cli *c, const struct args *a)
{
	char key[RAND_ID_SIZE];
	struct answer *raised, *now;
	msec span;
	int exit = check_scope(c, a);

	if (exit == EXIT_OK)
		exit = cli_span(c, a, "timeout", FOLLOW, &span);
	if (exit == EXIT_OK)
		exit = confirm(c, a);
	if (exit != EXIT_OK)
		return exit;
	rand_id("key_", key);
	exit = ask_for_stop(c, a, false, key, &raised);
	if (exit != EXIT_OK)
		return exit;
	struct slice epoch = render_text(raised->root, "epoch");
	cli_note(c, "stop %.*s is in force and on disk", SLICE_FMT(epoch));
	exit = follow(c, epoch, span, &now);
	if (exit != EXIT_OK)
		return exit;
	uint64_t bad = count_of(now->root, "waiting") +
	    count_of(now->root, "unreachable") + left_of(now->root);
	exit = c->json ? rest_print(c, now->root) : show_counts(c, now->root);
	if (exit == EXIT_OK && bad > 0 && !c->json)
		exit = show_receipts(c, epoch, false);
	if (exit != EXIT_OK || bad == 0)
		return exit;
	return cli_fail(c, EXIT_FAILED,
	    "not all have said that nothing runs any more: %.*s; `muster stop "
	    "show %.*s` tells",
	    SLICE_FMT(counts_text(c, now->root)), SLICE_FMT(epoch));
}

/* resume ------------------------------------------------------------------- */

static bool
is_number(const char *word)
{
	uint64_t n;

	return slice_u64(slice_from(word), INT64_MAX, &n) == 0;
}

static int
note_standing(struct cli *c, void *arg, struct js_value stop)
{
	(void)arg;
	if (slice_eq(render_text(stop, "standing"), SL("true")))
		cli_note(c, "stop %.*s (%.*s) still stands",
		    SLICE_FMT(render_text(stop, "epoch")),
		    SLICE_FMT(render_text(stop, "scope")));
	return EXIT_OK;
}

int
verb_resume(struct cli *c, const struct args *a)
{
	struct answer *lifted;
	struct js_writer w;
	struct buf body;
	int exit = check_scope(c, a);

	if (exit != EXIT_OK)
		return exit;
	buf_init(&body, BODY);
	js_write(&w, &body);
	js_begin_object(&w);
	if (a->count > 0 && is_number(a->words[0]))
		js_kv_raw(&w, "epoch", slice_from(a->words[0]));
	else
		put_scope(&w, a);
	js_end(&w);
	exit = js_finish(&w) != 0
	    ? cli_nomem(c)
	    : post(c, "/api/v1/resume", &body, NULL, &lifted);
	buf_fini(&body);
	if (exit != EXIT_OK)
		return exit;
	if (c->json)
		return rest_print(c, lifted->root);
	cli_note(c, "stop %.*s is lifted",
	    SLICE_FMT(render_text(lifted->root, "epoch")));
	return rest_list(
	    c, SL("/api/v1/stops?limit=1000"), 0, note_standing, NULL);
}

/* ls, show ------------------------------------------------------------------
 */

static struct slice
scope_text(struct cli *c, struct js_value stop)
{
	const struct slice parts[] = { render_text(stop, "scope"),
		render_text(stop, "selector"), render_text(stop, "agent_id"),
		render_text(stop, "bound") };
	struct slice text = { 0 };
	struct buf b;

	buf_init(&b, CLI_LINE);
	for (size_t i = 0; i < 4; i++) {
		if (parts[i].len == 0)
			continue;
		if (i > 0)
			buf_put(&b, i == 3 ? SL(" in ") : SL(" "));
		buf_put(&b, parts[i]);
	}
	arena_copy(&c->arena, buf_peek(&b), &text);
	buf_fini(&b);
	return text;
}

static int
put_stop(struct cli *c, void *arg, struct js_value stop)
{
	struct table *t = arg;
	bool stands = slice_eq(render_text(stop, "standing"), SL("true"));

	table_cell(t, render_text(stop, "epoch"), TABLE_PLAIN);
	table_cell(t, stands ? SL("standing") : SL("lifted"),
	    stands ? TABLE_BAD : TABLE_DIM);
	table_cell(t, scope_text(c, stop), TABLE_PLAIN);
	table_cell(t, render_age(c, stop, "at"), TABLE_PLAIN);
	table_cell(t, counts_text(c, stop), TABLE_PLAIN);
	table_cell(t, render_text(stop, "actor"), TABLE_DIM);
	table_cell(t, render_text(stop, "reason"), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_stop_ls(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = { { "EPOCH", true, true },
		{ "STATE", false, true }, { "SCOPE", false, false },
		{ "SINCE", true, true }, { "AGENTS", false, false },
		{ "BY", false, true }, { "REASON", false, false } };
	const struct slice path = SL("/api/v1/stops?limit=1000");
	struct table t;

	(void)a;
	if (c->json)
		return rest_list_json(c, path, 0);
	table_init(&t, columns, 7, &c->arena);
	int exit = rest_list(c, path, 0, put_stop, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

int
verb_stop_show(struct cli *c, const struct args *a)
{
	static const char *const members[] = { "epoch", "standing", "reason",
		"actor", "at", "lifted_epoch", "lifted_by", "lifted_at" };
	static const struct table_column columns[] = { { "", false, true },
		{ "", false, false } };
	struct slice epoch = slice_from(a->words[0]);
	struct answer *stop = find_answer(c);
	struct table t;
	int exit = stop == NULL
	    ? cli_nomem(c)
	    : rest_get(c, stop_path(c, epoch, (struct slice){ 0 }), stop);

	if (exit != EXIT_OK || c->json)
		return exit != EXIT_OK ? exit : rest_print(c, stop->root);
	table_init(&t, columns, 2, &c->arena);
	table_cell(&t, SL("scope"), TABLE_DIM);
	table_cell(&t, scope_text(c, stop->root), TABLE_PLAIN);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		struct slice text = render_text(stop->root, members[i]);
		if (text.len == 0)
			continue;
		table_cell(&t, slice_from(members[i]), TABLE_DIM);
		table_cell(&t, text, TABLE_PLAIN);
	}
	table_cell(&t, SL("agents"), TABLE_DIM);
	table_cell(&t, counts_text(c, stop->root), TABLE_PLAIN);
	exit = render_table(c, &t);
	return exit == EXIT_OK ? show_receipts(c, epoch, true) : exit;
}
