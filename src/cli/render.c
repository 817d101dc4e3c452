#include "cli/render.h"

#include "base/err.h"
#include "cli/rest.h"
#include "cli/safe.h"
#include "io/clock.h"

enum { CELL = 64 * 1024, NAME = 512, DEPTH = 8 };

struct slice
render_text(struct js_value obj, const char *name)
{
	struct js_value v = js_get(obj, name);
	struct slice s = { 0 };

	if (v.kind == JS_STRING && js_string(v, &s) == 0)
		return s;
	return v.kind == JS_NULL ? (struct slice){ 0 } : js_raw(v);
}

static struct slice
keep(struct cli *c, struct buf *b)
{
	struct slice s = { 0 };

	if (b->err != 0 || arena_copy(&c->arena, buf_peek(b), &s) != 0)
		s = SL("?");
	buf_fini(b);
	return s;
}

struct slice
render_age(struct cli *c, struct js_value obj, const char *name)
{
	struct slice text = render_text(obj, name);
	wall_msec at;
	struct buf b;

	if (!c->term.out_tty)
		return text;
	if (text.len == 0 || stamp_parse(text, &at) != 0)
		return SL("-");
	at = clock_wall() - at;
	buf_init(&b, 64);
	safe_span(&b, at < 0 ? -at : at);
	return keep(c, &b);
}

struct slice
render_list(struct cli *c, struct js_value v)
{
	struct slice name, text;
	struct js_value item;
	struct js_walk w = js_walk(v);
	struct buf b;

	buf_init(&b, CELL);
	while (js_next(&w, &name, &item)) {
		if (buf_peek(&b).len > 0)
			buf_put_byte(&b, ',');
		if (v.kind == JS_OBJECT) {
			buf_put(&b, name);
			buf_put_byte(&b, '=');
		}
		if (js_string(item, &text) != 0)
			text = js_raw(item);
		buf_put(&b, text);
	}
	return keep(c, &b);
}

enum table_colour
render_colour(struct slice state)
{
	static const struct {
		struct slice word;
		enum table_colour colour;
	} colours[] = {
		{ SL_INIT("online"), TABLE_GOOD },
		{ SL_INIT("busy"), TABLE_GOOD },
		{ SL_INIT("running"), TABLE_GOOD },
		{ SL_INIT("completed"), TABLE_GOOD },
		{ SL_INIT("ok"), TABLE_GOOD },
		{ SL_INIT("joining"), TABLE_WARN },
		{ SL_INIT("degraded"), TABLE_WARN },
		{ SL_INIT("reconnecting"), TABLE_WARN },
		{ SL_INIT("queued"), TABLE_WARN },
		{ SL_INIT("sent"), TABLE_WARN },
		{ SL_INIT("interrupted"), TABLE_WARN },
		{ SL_INIT("offline"), TABLE_DIM },
		{ SL_INIT("cancelled"), TABLE_DIM },
		{ SL_INIT("revoked"), TABLE_DIM },
		{ SL_INIT("expired"), TABLE_DIM },
		{ SL_INIT("error"), TABLE_BAD },
		{ SL_INIT("failed"), TABLE_BAD },
		{ SL_INIT("stopped"), TABLE_BAD },
		{ SL_INIT("unknown"), TABLE_BAD },
		{ SL_INIT("refused"), TABLE_BAD },
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++)
		if (slice_eq(colours[i].word, state))
			return colours[i].colour;
	return TABLE_PLAIN;
}

struct flattening {
	struct cli *cli;
	struct table *table;
	struct buf name; /* of the objects that the walk is in */
	uint32_t depth;
};

static void flatten(struct flattening *f, struct js_value obj);

static void
flatten_member(struct flattening *f, struct slice name, struct js_value v)
{
	size_t before = buf_peek(&f->name).len;
	struct slice text;

	if (before > 0)
		buf_put_byte(&f->name, '.');
	buf_put(&f->name, name);
	if (v.kind == JS_OBJECT && js_count(v) > 0 && f->depth < DEPTH) {
		flatten(f, v);
	} else {
		text = js_raw(v);
		if (v.kind == JS_STRING)
			js_string(v, &text);
		else if (v.kind == JS_ARRAY)
			text = render_list(f->cli, v);
		else if (v.kind == JS_NULL || v.kind == JS_OBJECT)
			text = (struct slice){ 0 };
		table_cell(f->table, buf_peek(&f->name), TABLE_DIM);
		table_cell(f->table, text, render_colour(text));
	}
	/* The queue has no cut at its tail: write the beginning again. */
	text = slice_first(buf_peek(&f->name), before);
	if (arena_copy(&f->cli->arena, text, &text) != 0)
		return;
	buf_clear(&f->name);
	buf_put(&f->name, text);
}

static void
flatten(struct flattening *f, struct js_value obj)
{
	struct js_walk w = js_walk(obj);
	struct slice name;
	struct js_value v;

	f->depth++;
	while (js_next(&w, &name, &v))
		if (f->depth > 1 || !slice_eq(name, SL("schema")))
			flatten_member(f, slice_first(name, NAME / 8), v);
	f->depth--;
}

int
render_object(struct cli *c, struct js_value obj)
{
	static const struct table_column columns[] = { { "", false, true },
		{ "", false, true } };
	struct flattening f = { .cli = c };
	struct table t;

	if (c->json)
		return rest_print(c, obj);
	table_init(&t, columns, 2, &c->arena);
	f.table = &t;
	buf_init(&f.name, NAME);
	flatten(&f, obj);
	buf_fini(&f.name);
	return render_table(c, &t);
}

int
render_table(struct cli *c, struct table *t)
{
	struct buf out;

	buf_init(&out, CLI_OUTPUT);
	if (table_write(t, &c->term, &out) != 0) {
		buf_fini(&out);
		return cli_nomem(c);
	}
	return cli_print(c, &out);
}
