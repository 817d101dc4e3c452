#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/find.h"
#include "cli/output.h"
#include "cli/render.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "cli/targets.h"
#include "cli/verbs.h"
#include "wire/url.h"

enum { LIST_DEFAULT = 100, LINE_MAX = 4 << 20, WHY_MAX = 1024 };

static struct slice
job_path(struct cli *c, const char *id, const char *after)
{
	return find_path(c, "/api/v1/commands/", slice_from(id), after);
}

/* ls ------------------------------------------------------------------------
 */

static struct slice
result_text(struct cli *c, struct js_value job)
{
	struct slice signal = render_text(job, "signal");
	struct slice text = { 0 };
	char name[32];

	if (signal.len == 0 || slice_eq(signal, SL("0")))
		return render_text(job, "exit_code");
	snprintf(name, sizeof(name), "signal %.*s", SLICE_FMT(signal));
	arena_copy(&c->arena, slice_from(name), &text);
	return text;
}

/* The words of argv, apart by blanks. */
static struct slice
argv_text(struct cli *c, struct js_value argv)
{
	struct js_walk w = js_walk(argv);
	struct slice word, text = { 0 };
	struct js_value v;
	struct buf b;

	buf_init(&b, (size_t)1 << 20);
	while (js_next(&w, NULL, &v)) {
		if (js_string(v, &word) != 0)
			continue;
		if (buf_peek(&b).len > 0)
			buf_put_byte(&b, ' ');
		buf_put(&b, word);
	}
	arena_copy(&c->arena, buf_peek(&b), &text);
	buf_fini(&b);
	return text;
}

static int
job_row(struct cli *c, void *arg, struct js_value job)
{
	struct table *t = arg;
	struct slice state = render_text(job, "state");

	table_cell(t, render_text(job, "id"), TABLE_PLAIN);
	table_cell(t, render_text(job, "agent_name"), TABLE_PLAIN);
	table_cell(t, render_text(job, "agent_id"), TABLE_DIM);
	table_cell(t, state, render_colour(state));
	table_cell(t, result_text(c, job), TABLE_PLAIN);
	table_cell(t, render_age(c, job, "created_at"), TABLE_PLAIN);
	table_cell(t, argv_text(c, js_get(job, "argv")), TABLE_PLAIN);
	return EXIT_OK;
}

static int
list_jobs(struct cli *c, struct slice path, size_t max)
{
	static const struct table_column columns[] = { { "ID", false, true },
		{ "AGENT", false, false }, { "AGENT ID", false, false },
		{ "STATE", false, true }, { "EXIT", true, true },
		{ "AGE", true, true }, { "COMMAND", false, false } };
	struct table t;
	int exit;

	if (c->json)
		return rest_list_json(c, path, max);
	table_init(&t, columns, 7, &c->arena);
	exit = rest_list(c, path, max, job_row, &t);
	return exit == EXIT_OK ? render_table(c, &t) : exit;
}

int
verb_job_ls(struct cli *c, const struct args *a)
{
	struct answer *agent;
	struct buf path;
	size_t max;
	int exit = find_limit(c, a, LIST_DEFAULT, &max);

	buf_init(&path, URL_MAX);
	buf_put(&path, SL("/api/v1/commands?limit="));
	buf_put_u64(&path, max < 1000 ? max : 1000);
	find_put_query(&path, "state", args_get(a, "state"));
	if (exit == EXIT_OK && args_get(a, "agent") != NULL) {
		exit = find_agent(c, args_get(a, "agent"), &agent);
		if (exit == EXIT_OK)
			find_put_query(&path, "agent",
			    arena_cstr(&c->arena,
				render_text(agent->root, "agent_id")));
	}
	if (exit == EXIT_OK)
		exit = path.err != 0 ? cli_nomem(c)
				     : list_jobs(c, buf_peek(&path), max);
	buf_fini(&path);
	return exit;
}

int
verb_job_show(struct cli *c, const struct args *a)
{
	struct answer job;
	int exit = rest_get(c, job_path(c, a->words[0], ""), &job);

	return exit == EXIT_OK ? render_object(c, job.root) : exit;
}

/* logs ----------------------------------------------------------------------
 */

struct log_stream {
	struct cli *cli;
	const char *id;
	const char *name; /* stdout, stderr */
	int fd;
	uint64_t offset; /* of the next byte */
	int err;
};

/* A log is read, not attached to: on a terminal what could move its cursor
 * or colour it is shown instead of done. */
static int
write_safely(int fd, struct slice piece)
{
	struct buf out;
	int err;

	buf_init(&out, 16 * piece.len + 16);
	while (piece.len > 0) {
		size_t n = 0;
		while (n < piece.len && piece.ptr[n] != '\n' &&
		    piece.ptr[n] != '\t')
			n++;
		safe_line(&out, slice_first(piece, n));
		if (n < piece.len)
			buf_put_byte(&out, piece.ptr[n++]);
		piece = slice_from_at(piece, n);
	}
	err = out.err != 0 ? out.err : term_write(fd, buf_peek(&out));
	buf_fini(&out);
	return err;
}

static bool
take_output(void *arg, struct slice piece)
{
	struct log_stream *s = arg;
	struct buf line;

	if (s->cli->json) {
		const struct output_piece p = { .id = slice_from(s->id),
			.err = s->fd == 2,
			.offset = s->offset,
			.bytes = piece };

		buf_init(&line, LINE_MAX);
		output_put_json(&line, &p);
		s->err =
		    line.err != 0 ? line.err : term_write(1, buf_peek(&line));
		buf_fini(&line);
	} else if (isatty(s->fd)) {
		s->err = write_safely(s->fd, piece);
	} else {
		s->err = term_write(s->fd, piece);
	}
	s->offset += piece.len;
	return s->err == 0;
}

/* What is missing is said where it is missing. */
static void
take_head(void *arg, struct slice offset, struct slice gap)
{
	struct log_stream *s = arg;
	const struct output_piece p = {
		.id = slice_from(s->id), .err = s->fd == 2, .offset = s->offset
	};
	struct buf line;
	uint64_t to;

	if (slice_u64(offset, INT64_MAX, &to) != 0 || to <= s->offset)
		return;
	if (s->cli->json) {
		buf_init(&line, LINE_MAX);
		output_put_gap(&line, &p, to, gap);
		s->err =
		    line.err != 0 ? line.err : term_write(1, buf_peek(&line));
		buf_fini(&line);
	} else if (slice_eq(gap, SL("pruned"))) {
		cli_note(s->cli, "[%llu bytes of %s pruned]",
		    (unsigned long long)(to - s->offset), s->name);
	} else {
		cli_note(s->cli,
		    "[%llu bytes of %s lost before they could be stored]",
		    (unsigned long long)(to - s->offset), s->name);
	}
	s->offset = to;
}

static struct slice
output_path(struct cli *c, const struct log_stream *s, bool follow)
{
	char after[96];

	snprintf(after, sizeof(after), "/output?stream=%s&offset=%llu%s",
	    s->name, (unsigned long long)s->offset, follow ? "&follow=1" : "");
	return job_path(c, s->id, after);
}

static int
read_output(struct cli *c, struct log_stream *s, size_t count, bool follow,
    bool *broken)
{
	struct rest_stream specs[REST_STREAMS] = { 0 };
	int exit;

	for (size_t i = 0; i < count; i++)
		specs[i] =
		    (struct rest_stream){ .path = output_path(c, &s[i], follow),
			    .head = take_head,
			    .take = take_output,
			    .arg = &s[i] };
	exit = rest_stream(c, specs, count, broken);
	for (size_t i = 0; i < count; i++)
		if (s[i].err != 0 && s[i].err != ERR_CLOSED)
			return cli_fail(c, EXIT_FAILED, "cannot write: %s",
			    err_name(s[i].err));
	return exit;
}

static uint64_t
progress(const struct log_stream *s, size_t count)
{
	return s[0].offset + (count > 1 ? s[1].offset : 0);
}

/* An answer that breaks off ends at a gap, or the connection is lost: either
 * way it goes on from where it was.  Who follows is more patient. */
static int
print_output(struct cli *c, struct log_stream *s, size_t count, bool follow)
{
	struct patience p;
	uint64_t before;
	bool broken;
	int exit;

	patience_init(&p, -1);
	do {
		before = progress(s, count);
		exit = read_output(c, s, count, follow, &broken);
	} while (broken && s[0].err == 0 &&
	    (progress(s, count) > before || (follow && patience_pause(&p))));
	patience_fini(&p);
	if (broken && exit == EXIT_OK)
		return cli_fail(
		    c, EXIT_FAILED, "the output broke off; try again");
	return exit;
}

int
verb_job_logs(struct cli *c, const struct args *a)
{
	const char *only = args_get(a, "stream");
	struct log_stream s[REST_STREAMS] = {
		{ .cli = c, .id = a->words[0], .name = "stdout", .fd = 1 },
		{ .cli = c, .id = a->words[0], .name = "stderr", .fd = 2 },
	};
	size_t first = 0, count = 2;
	int exit = EXIT_OK;

	if (only != NULL) {
		count = 1;
		first = strcmp(only, "stderr") == 0;
		if (first == 0 && strcmp(only, "stdout") != 0)
			return cli_usage(
			    c, "--stream is stdout or stderr, not '%s'", only);
	}
	if (args_has(a, "f"))
		return print_output(c, s + first, count, true);
	for (size_t i = first; i < first + count && exit == EXIT_OK; i++)
		exit = print_output(c, &s[i], 1, false);
	return exit;
}

/* wait, interrupt, cancel ---------------------------------------------------
 */

static int
job_over(struct cli *c, const struct answer *job, const struct outcome *o)
{
	const char *remark = outcome_remark(o);

	if (remark != NULL && o->why.len > 0)
		cli_note(c, "%s: %.*s", remark,
		    SLICE_FMT(slice_first(o->why, WHY_MAX)));
	else if (remark != NULL)
		cli_note(c, "%s", remark);
	if (c->json && rest_print(c, job->root) != EXIT_OK)
		return EXIT_FAILED;
	return exit_of_outcome(o);
}

/* EXIT_OK and *over, or an exit code. */
static int
look_at_job(
    struct cli *c, const struct answer *job, struct outcome *o, bool *over)
{
	*over = false;
	if (job->status == 0)
		return EXIT_OK;
	if (job->status == 404)
		return rest_refused(c, job);
	if (outcome_read(job->root, o) != 0)
		return cli_fail(
		    c, EXIT_FAILED, "the controller sent no command");
	*over = outcome_is_final(o);
	return EXIT_OK;
}

int
verb_job_wait(struct cli *c, const struct args *a)
{
	struct slice path = job_path(c, a->words[0], "");
	struct patience p;
	struct answer job;
	struct outcome o;
	bool over = false;
	msec span;
	int exit = cli_span(c, a, "timeout", -1, &span);

	if (exit != EXIT_OK)
		return exit;
	patience_init(&p, span);
	do {
		exit = patience_ask(c, &p, path, &job);
		if (exit == EXIT_OK)
			exit = look_at_job(c, &job, &o, &over);
	} while (exit == EXIT_OK && !over && patience_pause(&p));
	if (exit == EXIT_OK && over)
		exit = job_over(c, &job, &o);
	else if (exit == EXIT_OK)
		exit = cli_fail(c, EXIT_TIMEOUT,
		    "%s has not ended within the time given", a->words[0]);
	patience_fini(&p);
	return exit;
}

static int
post_to_job(struct cli *c, const struct args *a, const char *what)
{
	struct rest_ask ask = { .method = "POST",
		.path = job_path(c, a->words[0], what),
		.body = SL("{}") };
	struct answer job;
	int exit = rest_call(c, &ask, &job);

	if (exit == EXIT_OK && c->json && job.root.kind != JS_NONE)
		return rest_print(c, job.root);
	return exit;
}

int
verb_job_interrupt(struct cli *c, const struct args *a)
{
	return post_to_job(c, a, "/interrupt");
}

int
verb_job_cancel(struct cli *c, const struct args *a)
{
	return post_to_job(c, a, "/cancel");
}

/* purge ---------------------------------------------------------------------
 */

static int
purge_one(struct cli *c, const char *agent, const char *name, struct table *t)
{
	struct rest_ask ask = { .method = "DELETE",
		.path = find_path(
		    c, "/api/v1/agents/", slice_from(agent), "/queue") };
	struct answer *done = find_answer(c);
	int exit = done == NULL ? cli_nomem(c) : rest_call(c, &ask, done);

	if (exit != EXIT_OK)
		return exit;
	if (c->json)
		return rest_print(c, done->root);
	table_cell(t, slice_from(name), TABLE_PLAIN);
	table_cell(t, render_text(done->root, "cancelled"), TABLE_PLAIN);
	return EXIT_OK;
}

int
verb_job_purge(struct cli *c, const struct args *a)
{
	static const struct table_column columns[] = {
		{ "AGENT", false, false }, { "CANCELLED", true, true }
	};
	struct targets to;
	struct table t;
	int exit, worst = EXIT_OK;

	if (a->count == 0 && !args_has(a, "l"))
		return cli_usage(c, "it needs an agent, or -l LABEL=VALUE");
	exit = targets_find(c, a, &to);
	if (exit == EXIT_OK)
		exit = targets_confirm(c, a, &to, "purge the queues of");
	if (exit != EXIT_OK)
		return exit;
	table_init(&t, columns, 2, &c->arena);
	for (size_t i = 0; i < to.count; i++) {
		exit = purge_one(c, to.agents[i], to.names[i], &t);
		worst = exit > worst ? exit : worst;
	}
	exit = c->json || t.count == 0 ? EXIT_OK : render_table(c, &t);
	return exit > worst ? exit : worst;
}
