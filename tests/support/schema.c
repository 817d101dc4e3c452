#include <stdio.h>
#include <stdlib.h>

#include "base/js.h"

#include "support/schema.h"

static char complaint[256];

static const char *check(struct js_value schema, struct js_value v);

static const char *
say(const char *what, struct slice name)
{
	snprintf(complaint, sizeof(complaint), "%s: %.*s", what,
	    SLICE_FMT(slice_first(name, 100)));
	return complaint;
}

static bool
is_type(struct slice name, struct js_value v)
{
	static const char *const names[] = {
		[JS_NULL] = "null",
		[JS_BOOL] = "boolean",
		[JS_NUMBER] = "number",
		[JS_STRING] = "string",
		[JS_ARRAY] = "array",
		[JS_OBJECT] = "object",
	};
	int64_t n;

	if (slice_eq(name, SL("integer")))
		return js_i64(v, &n) == 0;
	return slice_eq(name, slice_from(names[v.kind]));
}

static const char *
check_type(struct js_value want, struct js_value v)
{
	struct js_walk i = js_walk(want);
	struct js_value one;
	struct slice name;

	if (js_string(want, &name) == 0)
		return is_type(name, v) ? NULL : say("not of type", name);
	while (js_next(&i, NULL, &one)) {
		if (js_string(one, &name) == 0 && is_type(name, v))
			return NULL;
	}
	return say("of no listed type", js_raw(v));
}

static const char *
check_const(struct js_value want, struct js_value v)
{
	return slice_eq(js_raw(want), js_raw(v)) ? NULL
						 : say("not", js_raw(want));
}

static const char *
check_enum(struct js_value want, struct js_value v)
{
	struct js_walk i = js_walk(want);
	struct js_value one;

	while (js_next(&i, NULL, &one)) {
		if (slice_eq(js_raw(one), js_raw(v)))
			return NULL;
	}
	return say("not one of those listed", js_raw(v));
}

static struct js_value
member(struct js_value obj, struct slice name)
{
	struct js_walk i = js_walk(obj);
	struct js_value v;
	struct slice n;

	while (obj.kind == JS_OBJECT && js_next(&i, &n, &v)) {
		if (slice_eq(n, name))
			return v;
	}
	return (struct js_value){ .kind = JS_NONE };
}

static const char *
check_required(struct js_value want, struct js_value v)
{
	struct js_walk i = js_walk(want);
	struct js_value one;
	struct slice name;

	while (js_next(&i, NULL, &one)) {
		if (js_string(one, &name) != 0 ||
		    member(v, name).kind == JS_NONE)
			return say("missing", name);
	}
	return NULL;
}

static const char *
check_properties(struct js_value want, struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct js_value m, s;
	struct slice name;
	const char *wrong;

	while (v.kind == JS_OBJECT && js_next(&i, &name, &m)) {
		s = member(want, name);
		if (s.kind != JS_NONE && (wrong = check(s, m)) != NULL)
			return wrong;
	}
	return NULL;
}

static const char *
check_items(struct js_value want, struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct js_value e;
	const char *wrong;

	while (v.kind == JS_ARRAY && js_next(&i, NULL, &e)) {
		if ((wrong = check(want, e)) != NULL)
			return wrong;
	}
	return NULL;
}

static const char *
check_length(struct js_value want, struct js_value v, bool most)
{
	struct slice s;
	int64_t n = 0;

	if (js_string(v, &s) != 0 || js_i64(want, &n) != 0)
		return NULL;
	bool fits = most ? s.len <= (size_t)n : s.len >= (size_t)n;
	return fits ? NULL : say("of the wrong length", s);
}

static const char *
check_max(struct js_value want, struct js_value v)
{
	return check_length(want, v, true);
}

static const char *
check_min(struct js_value want, struct js_value v)
{
	return check_length(want, v, false);
}

static const char *
check_nothing(struct js_value want, struct js_value v)
{
	(void)want;
	(void)v;
	return NULL;
}

static const struct {
	const char *keyword;
	const char *(*check)(struct js_value want, struct js_value v);
} keywords[] = {
	{ "type", check_type },
	{ "const", check_const },
	{ "enum", check_enum },
	{ "required", check_required },
	{ "properties", check_properties },
	{ "items", check_items },
	{ "maxLength", check_max },
	{ "minLength", check_min },
	{ "additionalProperties", check_nothing },
	{ "$schema", check_nothing },
	{ "$id", check_nothing },
	{ "title", check_nothing },
	{ "description", check_nothing },
};

enum { KEYWORDS = sizeof(keywords) / sizeof(keywords[0]) };

static const char *
check_closed(struct js_value schema, struct js_value v)
{
	struct js_value props = js_get(schema, "properties");
	struct js_walk i = js_walk(v);
	struct js_value m;
	struct slice name;
	bool open = true;

	if (js_bool(js_get(schema, "additionalProperties"), &open) != 0 || open)
		return NULL;
	while (v.kind == JS_OBJECT && js_next(&i, &name, &m)) {
		if (member(props, name).kind == JS_NONE)
			return say("not in the schema", name);
	}
	return NULL;
}

static const char *
check(struct js_value schema, struct js_value v)
{
	struct js_walk i = js_walk(schema);
	struct js_value want;
	struct slice name;
	const char *wrong;

	while (js_next(&i, &name, &want)) {
		size_t k = 0;
		while (k < KEYWORDS &&
		    !slice_eq(name, slice_from(keywords[k].keyword)))
			k++;
		if (k == KEYWORDS)
			return say("unknown keyword in the schema", name);
		if ((wrong = keywords[k].check(want, v)) != NULL)
			return wrong;
	}
	return check_closed(schema, v);
}

const char *
schema_check(const char *file, struct slice text)
{
	static char schema[64 * 1024];
	const struct js_limits limits = { 1 << 24, 64 };
	struct js_doc want, got;
	const char *wrong;
	struct arena a;
	FILE *f = fopen(file, "r");

	if (f == NULL)
		return say("no schema", slice_from(file));
	size_t n = fread(schema, 1, sizeof(schema), f);
	fclose(f);
	arena_init(&a, 64 << 20);
	if (js_parse(&want, (struct slice){ (uint8_t *)schema, n }, &limits,
		&a) != 0)
		wrong = say("the schema is no JSON", slice_from(file));
	else if (js_parse(&got, text, &limits, &a) != 0)
		wrong = say("no JSON", text);
	else
		wrong = check(js_root(&want), js_root(&got));
	arena_fini(&a);
	return wrong;
}
