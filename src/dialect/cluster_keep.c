#include "base/err.h"

#include "model/selector.h"

#include "dialect/cluster_parts.h"

/* Looked for in every name of every heartbeat, so by its first letter. */
static bool
has_part(struct slice s, struct slice part)
{
	for (size_t i = 0; i + part.len <= s.len; i++) {
		if ((s.ptr[i] | 0x20) == part.ptr[0] &&
		    slice_eq_nocase(
			(struct slice){ s.ptr + i, part.len }, part))
			return true;
	}
	return false;
}

/* Agents send credentials of what they monitor along with their metrics. */
static bool
is_secret(struct slice name, struct js_value v)
{
	if (v.kind == JS_BOOL || v.kind == JS_NULL)
		return false;
	return has_part(name, SL("password")) || has_part(name, SL("token")) ||
	    has_part(name, SL("secret"));
}

static size_t
count_digits(struct slice s)
{
	size_t n = 0;

	while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9')
		n++;
	return n;
}

/* The number of "45%" or "7.25 %" as JSON writes it, or absent. */
static struct slice
percentage(struct js_value v)
{
	struct slice s, none = { 0 };

	if (js_string(v, &s) != 0 || s.len < 2 || s.len > 16 ||
	    s.ptr[s.len - 1] != '%')
		return none;
	s = slice_trim(slice_first(s, s.len - 1));
	size_t whole = count_digits(s);
	if (whole == 0 || (whole > 1 && s.ptr[0] == '0'))
		return none;
	if (whole == s.len)
		return s;
	struct slice rest = slice_from_at(s, whole + 1);
	bool fraction = s.ptr[whole] == '.' && rest.len > 0 &&
	    count_digits(rest) == rest.len;
	return fraction ? s : none;
}

static void put_value(struct cluster_keep *k, struct js_value v);

static void
put_object(struct cluster_keep *k, struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct slice name;
	struct js_value m;

	js_begin_object(&k->w);
	while (js_next(&i, &name, &m)) {
		js_key(&k->w, name);
		if (is_secret(name, m))
			js_put_bool(&k->w, true);
		else
			put_value(k, m);
	}
	js_end(&k->w);
}

static void
put_array(struct cluster_keep *k, struct js_value v)
{
	struct js_walk i = js_walk(v);
	struct js_value e;

	js_begin_array(&k->w);
	while (js_next(&i, NULL, &e))
		put_value(k, e);
	js_end(&k->w);
}

/* As deep as the reader let it be: CLUSTER_DEPTH_MAX. */
static void
put_value(struct cluster_keep *k, struct js_value v)
{
	struct slice number = k->percent ? percentage(v) : (struct slice){ 0 };

	if (v.kind == JS_OBJECT)
		put_object(k, v);
	else if (v.kind == JS_ARRAY)
		put_array(k, v);
	else
		js_put_raw(&k->w, number.ptr != NULL ? number : js_raw(v));
}

void
cluster_keep_begin(struct cluster_keep *k, bool percent)
{
	k->percent = percent;
	k->cut = false;
	k->count = 0;
	/* What is written is never longer than what was read. */
	buf_init(&k->text, CLUSTER_KEPT_MAX + 64);
	js_write(&k->w, &k->text);
	js_begin_object(&k->w);
}

static bool
listed(struct slice name, const char *const *but)
{
	for (; *but != NULL; but++) {
		if (slice_eq(name, slice_from(*but)))
			return true;
	}
	return slice_eq(name, SL("_truncated"));
}

static bool
there(const struct cluster_keep *k, struct slice name)
{
	for (size_t i = 0; i < k->count; i++) {
		if (slice_eq(k->names[i], name))
			return true;
	}
	return false;
}

static bool
fits(const struct cluster_keep *k, struct slice name, struct js_value v)
{
	/* A name grows at most sixfold, when all of it must be escaped. */
	size_t more = js_raw(v).len + 6 * name.len + 8;

	return k->count < CLUSTER_MEMBERS_MAX &&
	    buf_peek(&k->text).len + more <= CLUSTER_KEPT_MAX;
}

void
cluster_keep_members(
    struct cluster_keep *k, struct js_value obj, const char *const *but)
{
	struct js_walk i = js_walk(obj);
	struct slice name;
	struct js_value v;

	while (js_next(&i, &name, &v)) {
		if (listed(name, but) || there(k, name))
			continue;
		if (!fits(k, name, v)) {
			k->cut = true;
			continue;
		}
		k->names[k->count++] = name;
		js_key(&k->w, name);
		if (is_secret(name, v))
			js_put_bool(&k->w, true);
		else
			put_value(k, v);
	}
}

int
cluster_keep_end(struct cluster_keep *k, struct arena *a, struct slice *out)
{
	if (k->cut)
		js_kv_bool(&k->w, "_truncated", true);
	js_end(&k->w);
	int err = js_finish(&k->w);
	if (err == 0)
		err = arena_copy(a, buf_peek(&k->text), out);
	buf_fini(&k->text);
	return err == 0 ? 0 : ERR_NOMEM;
}

int
cluster_keep_labels(struct js_value labels, struct arena *a, struct slice *out)
{
	struct js_walk i = js_walk(labels);
	struct slice name, text;
	struct js_writer w;
	struct js_value v;
	struct buf b;
	size_t n = 0;

	buf_init(&b, CLUSTER_KEPT_MAX);
	js_write(&w, &b);
	js_begin_object(&w);
	while (n < CLUSTER_LABELS_MAX && js_next(&i, &name, &v)) {
		bool scalar = v.kind == JS_NUMBER || v.kind == JS_BOOL;
		if (js_string(v, &text) != 0 && scalar)
			text = js_raw(v);
		else if (v.kind != JS_STRING)
			continue;
		if (!label_key_ok(name) || !label_value_ok(text))
			continue;
		js_key(&w, name);
		js_put_string(&w, text);
		n++;
	}
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	return err == 0 ? 0 : ERR_NOMEM;
}
