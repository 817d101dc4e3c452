/*
 * What is to be run: a string in words by the quoting of POSIX shells, with
 * nothing expanded, or an array, and then args as they are.
 */
#include "base/err.h"

#include "model/command.h"

#include "dialect/console_parts.h"

static const struct slice none;

enum { YEAR = 366 };

/* Words -------------------------------------------------------------------- */

struct words {
	struct slice rest;
	struct buf word; /* the one being read */
	bool any;        /* there is one, if only an empty one */
};

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static uint8_t
eat(struct words *w)
{
	uint8_t c = w->rest.ptr[0];

	w->rest = slice_from_at(w->rest, 1);
	return c;
}

/* After a quote, up to its partner; false when there is none. */
static bool
read_quoted(struct words *w, uint8_t quote)
{
	w->any = true;
	while (w->rest.len > 0) {
		uint8_t c = eat(w);
		if (c == quote)
			return true;
		/* POSIX XCU 2.2.3: within double quotes a backslash quotes
		 * these alone. */
		if (c == '\\' && quote == '"' && w->rest.len > 0) {
			uint8_t next = w->rest.ptr[0];
			if (next == '\n') {
				eat(w);
				continue;
			}
			if (next == '"' || next == '\\' || next == '$' ||
			    next == '`')
				c = eat(w);
		}
		buf_put_byte(&w->word, c);
	}
	return false;
}

/* 1: the next word is in w->word; 0: there is no more; ERR_INVALID: a quote
 * without a partner. */
static int
next_word(struct words *w)
{
	buf_clear(&w->word);
	w->any = false;
	while (w->rest.len > 0 && is_blank(w->rest.ptr[0]))
		eat(w);
	while (w->rest.len > 0 && !is_blank(w->rest.ptr[0])) {
		uint8_t c = eat(w);
		if (c == '\'' || c == '"') {
			if (!read_quoted(w, c))
				return ERR_INVALID;
		} else if (c == '\\' && w->rest.len == 0) {
			return ERR_INVALID;
		} else if (c == '\\' && w->rest.ptr[0] == '\n') {
			eat(w); /* a line that goes on */
		} else {
			w->any = true;
			buf_put_byte(&w->word, c == '\\' ? eat(w) : c);
		}
	}
	return w->any ? 1 : 0;
}

/* 0, ERR_INVALID or ERR_NOMEM. */
static int
put_words(struct js_writer *out, struct slice text)
{
	struct words w = { .rest = text };
	int got;

	buf_init(&w.word, CONSOLE_COMMAND_MAX);
	while ((got = next_word(&w)) > 0 && w.word.err == 0)
		js_put_string(out, buf_peek(&w.word));
	int err = w.word.err != 0 ? ERR_NOMEM : got;
	buf_fini(&w.word);
	return err;
}

/* argv ----------------------------------------------------------------------
 */

static bool
all_strings(struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct js_value item;
	struct slice s;

	while (js_next(&i, NULL, &item)) {
		if (js_string(item, &s) != 0 || slice_find(s, 0) != s.len)
			return false;
	}
	return true;
}

static void
put_strings(struct js_writer *w, struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct js_value item;
	struct slice s;

	while (js_next(&i, NULL, &item)) {
		if (js_string(item, &s) == 0)
			js_put_string(w, s);
	}
}

/* The fields that say what is to be run. */
struct said {
	const char *field; /* "command" or "content" */
	struct js_value what;
	struct js_value args;
	bool shell;
};

static int
put_argv(struct js_writer *w, const struct said *s)
{
	struct slice text = none;
	int err = 0;

	js_begin_array(w);
	if (s->what.kind == JS_ARRAY)
		put_strings(w, s->what);
	else if (js_string(s->what, &text) == 0 && s->shell)
		js_put_string(w, text);
	else
		err = put_words(w, text);
	put_strings(w, s->args);
	js_end(w);
	return err;
}

/* What is prose and no command line, for a coding agent, is one word. */
static void
put_prose(struct buf *b, const struct said *s)
{
	struct slice text = none;
	struct js_writer w;

	buf_clear(b);
	js_write(&w, b);
	js_begin_array(&w);
	if (js_string(s->what, &text) == 0)
		js_put_string(&w, text);
	put_strings(&w, s->args);
	js_end(&w);
	if (js_finish(&w) != 0 && b->err == 0)
		b->err = ERR_NOMEM;
}

static int
refuse_said(
    struct console_reader *r, const struct said *s, int err, struct slice text)
{
	return console_refuse(
	    r, err, SL("INVALID_MESSAGE"), slice_from(s->field), text);
}

static int
take_argv(struct console_reader *r, const struct said *s, struct buf *b,
    struct command_record *c)
{
	struct js_writer w;

	js_write(&w, b);
	int err = put_argv(&w, s);
	int wrote = js_finish(&w);
	if (err == ERR_INVALID && slice_eq(slice_from(s->field), SL("content")))
		put_prose(b, s);
	else if (err == ERR_INVALID)
		return refuse_said(r, s, err, SL("a quote has no partner"));
	if (err == ERR_NOMEM || wrote == ERR_NOMEM || b->err == ERR_NOMEM)
		return ERR_NOMEM;
	if (wrote != 0 || b->err != 0)
		return refuse_said(r, s, ERR_TOO_BIG,
		    SL("a command with all that it carries is at most 63 KiB"));
	if (buf_peek(b).len <= 2)
		return refuse_said(r, s, ERR_RANGE, SL("there is no command"));
	return arena_copy(r->a, buf_peek(b), &c->argv_json);
}

static int
read_argv(
    struct console_reader *r, const struct said *s, struct command_record *c)
{
	struct slice text = none;
	struct buf b;

	if (s->what.kind != JS_STRING && s->what.kind != JS_ARRAY)
		return refuse_said(r, s, ERR_TYPE,
		    SL("the command is a string, or an array of strings"));
	if ((s->what.kind == JS_ARRAY && !all_strings(s->what)) ||
	    (js_string(s->what, &text) == 0 && slice_find(text, 0) != text.len))
		return refuse_said(r, s, ERR_TYPE,
		    SL("the command is made of strings without NUL"));
	if (!all_strings(s->args))
		return console_refuse(r, ERR_TYPE, SL("INVALID_MESSAGE"),
		    SL("args"), SL("args is an array of strings without NUL"));
	buf_init(&b, CONSOLE_COMMAND_MAX);
	int err = take_argv(r, s, &b, c);
	buf_fini(&b);
	return err;
}

/* Priority ------------------------------------------------------------------
 */

/* A word, or 0 to 100 in thirds. */
static bool
find_priority(struct js_value v, uint8_t *out)
{
	struct slice word;
	double n = 0;

	if (v.kind == JS_NONE || v.kind == JS_NULL)
		return true;
	if (js_string(v, &word) == 0)
		return priority_find(word, out) == 0;
	if (js_double(v, &n) != 0 || n < 0 || n > 100)
		return false;
	*out = n < 34 ? 0 : n < 67 ? 1 : 2;
	return true;
}

/* What a foreign agent is told: the very words, for it reads them its own
 * way. */
static int
keep_said(struct console_reader *r, struct command_record *c)
{
	static const char *const names[] = { "command", "args", "content",
		"type", "executionConstraints", "context" };
	struct js_writer w;
	struct buf b;

	buf_init(&b, 2 * CONSOLE_COMMAND_MAX);
	js_write(&w, &b);
	js_begin_object(&w);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct js_value v = js_get(r->body, names[i]);
		/* In flat, `type` is the message's. */
		bool ours = r->upper || i < 2;
		if (ours && v.kind != JS_NONE && v.kind != JS_NULL)
			js_kv_raw(&w, names[i], js_raw(v));
	}
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = arena_copy(r->a, buf_peek(&b), &c->said_json);
	buf_fini(&b);
	return err == 0 ? 0 : ERR_NOMEM;
}

static void
refuse_option(struct js_fields *f, int err, const char *field)
{
	if (f->err != 0)
		return;
	f->err = err;
	f->field = slice_from(field);
}

static bool
is_absent(struct js_value v)
{
	return v.kind == JS_NONE || v.kind == JS_NULL;
}

/* The time limit of upper has a place of its own. */
static void
read_constraints(struct js_fields *f, int64_t max, struct command_record *c)
{
	struct js_value limits = { 0 };
	struct js_fields in;

	js_opt_kind(f, "executionConstraints", JS_OBJECT, &limits);
	if (limits.kind != JS_OBJECT)
		return;
	js_fields_init(&in, limits);
	js_opt_i64(&in, "timeLimitMs", 0, max, c->timeout, &c->timeout);
	if (in.err != 0)
		refuse_option(f, in.err, "executionConstraints.timeLimitMs");
}

static void
read_options(struct console_reader *r, struct js_fields *f,
    struct command_record *c, bool *or_fail)
{
	const int64_t year = INT64_C(86400000) * YEAR;
	struct js_value env = { 0 };

	if (!find_priority(js_field(f, "priority"), &c->priority))
		refuse_option(f, ERR_RANGE, "priority");
	js_opt_kind(f, "env", JS_OBJECT, &env);
	if (!all_strings(env))
		refuse_option(f, ERR_TYPE, "env");
	if (js_count(env) > 0)
		c->env_json = js_raw(env);
	js_opt_string(f, "cwd", &c->cwd);
	if (c->cwd.len == 0)
		c->cwd = none;
	js_opt_bool(f, "shell", false, &c->shell);
	js_opt_bool(f, "orFail", false, or_fail);
	js_opt_i64(f, "timeout", 0, year, 0, &c->timeout);
	if (r->upper)
		read_constraints(f, year, c);
}

/* command, or in upper also content; and args. */
static struct said
read_said(struct console_reader *r, struct js_fields *f)
{
	struct said s = { .field = "command" };

	s.what = js_field(f, "command");
	if (r->upper && is_absent(s.what)) {
		s.field = "content";
		s.what = js_field(f, "content");
	}
	if (is_absent(s.what))
		refuse_option(f, ERR_MISSING, s.field);
	if (js_raw(r->body).len > CONSOLE_COMMAND_MAX)
		refuse_option(f, ERR_RANGE, s.field);
	js_opt_kind(f, "args", JS_ARRAY, &s.args);
	return s;
}

int
console_read_command(
    struct console_reader *r, struct request *q, struct command_record *c)
{
	struct slice own = r->request_id;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "agentId", &q->id);
	if (r->upper)
		console_need_id(&f, "commandId", &own);
	struct said s = read_said(r, &f);
	read_options(r, &f, c, &q->or_fail);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	s.shell = c->shell;
	q->request_key = own;
	int err = read_argv(r, &s, c);
	return err != 0 ? err : keep_said(r, c);
}
