/*
 * What both spellings share when they say something.
 */
#include "base/err.h"

#include "dialect/cluster_parts.h"
#include "dialect/console_parts.h"

static const struct slice none;

enum { ID_LEN = 36, FIGURES_MAX = 32 };

/* The id of a stop's message: agents acknowledge it by that. */
#define STOP_ID "e5705000-0000-4000-8000-"

/* The frame ------------------------------------------------------------------
 */

void
console_say_init(struct console_say *s, const struct console_context *c,
    size_t n, struct buf *out)
{
	*s = (struct console_say){ .c = c, .n = n, .out = out };
}

static void
put_hex(uint8_t *out, uint64_t value, size_t digits)
{
	while (digits-- > 0) {
		out[digits] = (uint8_t) "0123456789abcdef"[value & 15];
		value >>= 4;
	}
}

/* Clients of upper check that ids have a UUID's form. */
static void
put_id(struct console_say *s)
{
	uint8_t id[ID_LEN + 1] = "00000000-0000-4000-8000-000000000000";

	if (s->stop_id)
		memcpy(id, STOP_ID, sizeof(STOP_ID) - 1);
	else
		put_hex(id, s->n, 8);
	put_hex(id + 24, s->stop_id ? s->epoch : s->c->number, 12);
	js_kv_string(&s->w, "id", (struct slice){ id, ID_LEN });
}

bool
console_stop_id(struct slice id, uint64_t *epoch)
{
	static const struct slice prefix = SL_INIT(STOP_ID);
	uint64_t n = 0;

	if (id.len != ID_LEN || !slice_starts(id, prefix))
		return false;
	for (size_t i = prefix.len; i < id.len; i++) {
		uint8_t c = id.ptr[i];
		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*epoch = n;
	return true;
}

bool
console_begin(struct console_say *s, const char *type)
{
	if (s->done != 0 || s->index++ != s->n)
		return false;
	js_write(&s->w, s->out);
	js_begin_object(&s->w);
	js_kv_string(&s->w, "type", slice_from(type));
	if (s->c->spelling != CONSOLE_UPPER)
		return true;
	put_id(s);
	js_kv_i64(&s->w, "timestamp", s->c->now);
	js_kv_object(&s->w, "payload");
	return true;
}

void
console_end(struct console_say *s)
{
	if (s->c->spelling == CONSOLE_UPPER)
		js_end(&s->w);
	else
		cluster_put_stamp(&s->w, "timestamp", s->c->now);
	js_end(&s->w);
	int err = js_finish(&s->w);
	s->done = err != 0 ? err : 1;
}

int
console_encode(const struct event *ev, const struct console_context *c,
    size_t n, struct buf *out)
{
	struct console_say s;

	console_say_init(&s, c, n, out);
	if (c->spelling == CONSOLE_UPPER)
		console_upper_event(&s, ev);
	else
		console_flat_event(&s, ev);
	return s.done;
}

/* Fields --------------------------------------------------------------------
 */

void
console_put_at(struct console_say *s, const char *key, wall_msec at)
{
	if (s->c->spelling == CONSOLE_UPPER)
		js_kv_i64(&s->w, key, at);
	else
		cluster_put_stamp(&s->w, key, at);
}

void
console_put_some(struct console_say *s, const char *key, struct slice value)
{
	if (value.len > 0)
		js_kv_string(&s->w, key, value);
}

static uint8_t
upper_case(uint8_t c)
{
	return c >= 'a' && c <= 'z' ? (uint8_t)(c - 0x20) : c;
}

void
console_put_type(struct console_say *s, const struct agent_news *news)
{
	struct slice type = news->type.len > 0 ? news->type : SL("unknown");
	uint8_t text[CONSOLE_ID_MAX];

	type = slice_first(type, sizeof(text));
	if (s->c->spelling != CONSOLE_UPPER) {
		js_kv_string(&s->w, "agentType", type);
		return;
	}
	for (size_t i = 0; i < type.len; i++)
		text[i] = upper_case(type.ptr[i]);
	js_kv_string(&s->w, "agentType", (struct slice){ text, type.len });
}

bool
console_shows_news(const struct agent_news *news)
{
	return news->shown != news->was_shown ||
	    news->presence == PRESENCE_REMOVED;
}

struct slice
console_field_name(struct slice field)
{
	if (slice_eq(field, SL("agent_id")) || slice_eq(field, SL("agent")))
		return SL("agentId");
	if (slice_eq(field, SL("Idempotency-Key")))
		return SL("requestId");
	return field;
}

/* Figures -------------------------------------------------------------------
 */

/* "cpu_usage" as clients call it: cpuUsage.  0: it does not fit. */
static size_t
camel(struct slice name, uint8_t out[64])
{
	size_t n = 0;

	if (slice_eq(name, SL("running")))
		name = SL("activeCommands");
	if (name.len > 64)
		return 0;
	for (size_t i = 0; i < name.len; i++) {
		bool joint = name.ptr[i] == '_' && i > 0 && i + 1 < name.len;
		if (joint)
			i++;
		out[n++] = joint ? upper_case(name.ptr[i]) : name.ptr[i];
	}
	return n;
}

/* Those of the report that are numbers; how many, and whether one of them
 * says how many commands run. */
static size_t
put_figures(struct js_writer *w, struct js_value report, bool *counts)
{
	struct js_walk i = js_walk(report);
	struct js_value v;
	struct slice name;
	uint8_t text[64];
	size_t n = 0;

	while (n < FIGURES_MAX && js_next(&i, &name, &v)) {
		size_t len = v.kind == JS_NUMBER ? camel(name, text) : 0;
		if (len == 0)
			continue;
		struct slice as = { text, len };
		*counts = *counts || slice_eq(as, SL("activeCommands"));
		js_key(w, as);
		js_put_raw(w, js_raw(v));
		n++;
	}
	return n;
}

static bool
has_figures(struct js_value report)
{
	struct js_walk i = js_walk(report);
	struct js_value v;

	while (js_next(&i, NULL, &v)) {
		if (v.kind == JS_NUMBER)
			return true;
	}
	return false;
}

void
console_put_metrics(struct console_say *s, const char *key,
    const struct agent_news *news, bool with_running)
{
	const struct js_limits limits = { 2 * CLUSTER_KEPT_MAX,
		CLUSTER_DEPTH_MAX + 2 };
	bool counts = !with_running;
	struct js_doc doc;
	struct arena a;

	if (news->metadata_json.len == 0)
		return;
	arena_init(&a, 8 << 20);
	int err = js_parse(&doc, news->metadata_json, &limits, &a);
	if (err == ERR_NOMEM && s->w.err == 0)
		s->w.err = err;
	if (err == 0 && has_figures(js_root(&doc))) {
		js_kv_object(&s->w, key);
		put_figures(&s->w, js_root(&doc), &counts);
		if (!counts)
			js_kv_u64(&s->w, "activeCommands", news->running);
		js_end(&s->w);
	}
	arena_fini(&a);
}

/* Commands ------------------------------------------------------------------
 */

struct slice
console_command_id(
    const struct command_record *r, enum console_spelling spelling, bool own)
{
	bool chosen = spelling == CONSOLE_UPPER && own;

	return chosen && r->request_key.len > 0 ? r->request_key : r->id;
}

/* Commands that no program's end decided have none of their own. */
int
console_exit_code(const struct command_record *r)
{
	bool never = r->started_at == 0 && r->exit_code == 0 &&
	    r->state != COMMAND_COMPLETED;

	if (r->signal != 0)
		return 128 + r->signal;
	if (never || r->state == COMMAND_EXPIRED ||
	    r->state == COMMAND_CANCELLED || r->state == COMMAND_UNKNOWN)
		return -1;
	return r->exit_code;
}

msec
console_duration(const struct command_record *r)
{
	bool known = r->started_at != 0 && r->finished_at > r->started_at;

	return known ? r->finished_at - r->started_at : 0;
}

struct slice
console_state_word(enum command_state state)
{
	static const char *const words[COMMAND_STATES] = {
		[COMMAND_QUEUED] = "queued",
		[COMMAND_SENT] = "queued",
		[COMMAND_RUNNING] = "running",
		[COMMAND_COMPLETED] = "completed",
		[COMMAND_FAILED] = "failed",
		[COMMAND_INTERRUPTED] = "interrupted",
		[COMMAND_EXPIRED] = "interrupted",
		[COMMAND_CANCELLED] = "interrupted",
		[COMMAND_UNKNOWN] = "failed",
	};

	return slice_from(words[state]);
}

struct slice
console_end_code(const struct command_record *r)
{
	if (r->code.len > 0)
		return r->code;
	if (r->state == COMMAND_EXPIRED)
		return SL("EXPIRED");
	if (r->state == COMMAND_CANCELLED)
		return SL("CANCELLED");
	if (r->state == COMMAND_UNKNOWN)
		return SL("UNKNOWN_OUTCOME");
	return none;
}

/* What is to be run, as an agent is told it: the very words of a console
 * client, or the words of argv. */
struct told {
	struct arena a;
	struct js_doc said, argv;
	struct js_value words; /* an object, or JS_NONE */
	struct js_value list;
};

static int
told_init(struct told *t, const struct command_record *r)
{
	const struct js_limits limits = { 4 * CONSOLE_COMMAND_MAX,
		CONSOLE_DEPTH_MAX + 2 };
	int err = 0;

	*t = (struct told){ 0 };
	arena_init(&t->a, 16 << 20);
	if (r->said_json.len > 0) {
		err = js_parse(&t->said, r->said_json, &limits, &t->a);
		if (err == 0)
			t->words = js_root(&t->said);
	}
	if (err == 0)
		err = js_parse(&t->argv, r->argv_json, &limits, &t->a);
	if (err == 0)
		t->list = js_root(&t->argv);
	return err;
}

/* Words in one line, quoted where a shell would need it. */
static void
put_word(struct buf *b, struct slice word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_-./:=@%+,";
	bool bare = word.len > 0;

	for (size_t i = 0; i < word.len && bare; i++)
		bare = memchr(plain, word.ptr[i], sizeof(plain) - 1) != NULL;
	if (bare) {
		buf_put(b, word);
		return;
	}
	buf_put_byte(b, '\'');
	for (size_t i = 0; i < word.len; i++) {
		if (word.ptr[i] == '\'')
			buf_put(b, SL("'\\''"));
		else
			buf_put_byte(b, word.ptr[i]);
	}
	buf_put_byte(b, '\'');
}

static void
put_line(
    struct console_say *s, const char *key, const struct told *t, bool is_shell)
{
	struct js_walk i = js_walk(t->list);
	struct js_value v;
	struct slice word;
	struct buf b;
	bool first = true;

	buf_init(&b, 8 * CONSOLE_COMMAND_MAX);
	while (js_next(&i, NULL, &v)) {
		if (js_string(v, &word) != 0)
			continue;
		if (!first)
			buf_put_byte(&b, ' ');
		if (is_shell && first)
			buf_put(&b, word);
		else
			put_word(&b, word);
		first = false;
	}
	if (b.err != 0 && s->w.err == 0)
		s->w.err = b.err;
	js_kv_string(&s->w, key, buf_peek(&b));
	buf_fini(&b);
}

/* The first word, and the others. */
static void
put_argv(struct console_say *s, const struct told *t)
{
	struct js_walk i = js_walk(t->list);
	struct js_value v = { 0 };

	if (js_next(&i, NULL, &v))
		js_kv_raw(&s->w, "command", js_raw(v));
	js_kv_array(&s->w, "args");
	while (js_next(&i, NULL, &v))
		js_put_raw(&s->w, js_raw(v));
	js_end(&s->w);
}

static bool
is_there(struct js_value v)
{
	return v.kind != JS_NONE && v.kind != JS_NULL;
}

static void
put_command_words(struct console_say *s, const struct told *t)
{
	struct js_value command = js_get(t->words, "command");
	struct js_value args = js_get(t->words, "args");

	/* An array is argv; agents expect a text. */
	if (command.kind != JS_STRING) {
		put_argv(s, t);
		return;
	}
	js_kv_raw(&s->w, "command", js_raw(command));
	if (args.kind == JS_ARRAY) {
		js_kv_raw(&s->w, "args", js_raw(args));
	} else {
		js_kv_array(&s->w, "args");
		js_end(&s->w);
	}
}

/* What coding agents are asked: the client's own content, or the line. */
static void
put_content(
    struct console_say *s, const struct told *t, const struct command_record *r)
{
	static const char *const more[] = { "executionConstraints", "context" };
	struct js_value content = js_get(t->words, "content");
	struct js_value type = js_get(t->words, "type");

	if (content.kind == JS_STRING)
		js_kv_raw(&s->w, "content", js_raw(content));
	else
		put_line(s, "content", t, r->shell);
	if (type.kind == JS_STRING)
		js_kv_raw(&s->w, "type", js_raw(type));
	else
		js_kv_string(&s->w, "type", slice_from("NATURAL"));
	for (size_t i = 0; i < 2; i++) {
		struct js_value v = js_get(t->words, more[i]);
		if (is_there(v))
			js_kv_raw(&s->w, more[i], js_raw(v));
	}
}

void
console_put_command(
    struct console_say *s, const struct command_record *r, bool content)
{
	struct told t;
	int err = told_init(&t, r);

	if (err == 0 && content)
		put_content(s, &t, r);
	if (err == 0)
		put_command_words(s, &t);
	if (err == ERR_NOMEM && s->w.err == 0)
		s->w.err = err;
	arena_fini(&t.a);
	if (r->env_json.len > 0)
		js_kv_raw(&s->w, "env", r->env_json);
	console_put_some(s, "cwd", r->cwd);
	if (r->shell)
		js_kv_bool(&s->w, "shell", true);
	if (r->timeout > 0)
		js_kv_i64(&s->w, "timeout", r->timeout);
}

void
console_put_details(
    struct console_say *s, struct slice json, struct slice command_id)
{
	const struct js_limits limits = { CONSOLE_TEXT_MAX, CONSOLE_DEPTH_MAX };
	struct slice name;
	struct js_doc doc;
	struct js_value v;
	struct arena a;

	if (json.len == 0)
		return;
	arena_init(&a, 16 << 20);
	int err = js_parse(&doc, json, &limits, &a);
	if (err == ERR_NOMEM && s->w.err == 0)
		s->w.err = err;
	if (err == 0) {
		struct js_walk i = js_walk(js_root(&doc));
		while (js_next(&i, &name, &v)) {
			js_key(&s->w, name);
			if (slice_eq(name, SL("commandId")))
				js_put_string(&s->w, command_id);
			else
				js_put_raw(&s->w, js_raw(v));
		}
	}
	arena_fini(&a);
}
