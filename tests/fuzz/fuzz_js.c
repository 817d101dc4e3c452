/*
 * Any text: read it, look at every value in every way, write it again from
 * the tape in both spellings, and read the same from that.
 */
#include <stdlib.h>

#include "base/js.h"
#include "base/js_write.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH = 32 };
static const struct js_limits limits = { 1 << 20, DEPTH };

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
look(struct js_value v)
{
	struct slice s = { 0 };
	int64_t i = 0;
	uint64_t u = 0;
	double d = 0;
	bool b;

	check((js_string(v, &s) == 0) == (v.kind == JS_STRING));
	check(utf8_valid(s));
	check((js_bool(v, &b) == 0) == (v.kind == JS_BOOL));
	int got = js_i64(v, &i);
	int other = js_u64(v, &u);
	check(got != 0 || i < 0 || (other == 0 && u == (uint64_t)i));
	check(v.kind == JS_NUMBER || got != 0);
	if (got == 0 && js_double(v, &d) == 0) {
		check(d >= (double)i && d <= (double)i);
	}
	check(js_raw(v).len > 0);
}

static void
copy(struct js_writer *w, struct js_value v)
{
	struct slice s, name;
	struct js_value inner;
	size_t members = 0;

	look(v);
	if (js_string(v, &s) == 0) {
		js_put_string(w, s);
	} else if (v.kind == JS_ARRAY || v.kind == JS_OBJECT) {
		if (v.kind == JS_OBJECT)
			js_begin_object(w);
		else
			js_begin_array(w);
		struct js_walk at = js_walk(v);
		while (js_next(&at, &name, &inner)) {
			if (v.kind == JS_OBJECT)
				js_key(w, name);
			copy(w, inner);
			members++;
		}
		check(members == js_count(v));
		js_end(w);
	} else {
		js_put_raw(w, js_raw(v));
	}
}

static void
same(struct js_value a, struct js_value b)
{
	struct slice s = { 0 }, t = { 0 };
	struct js_value av, bv;
	struct js_walk aw = js_walk(a), bw = js_walk(b);

	check(a.kind == b.kind && js_count(a) == js_count(b));
	if (a.kind == JS_NUMBER)
		check(slice_eq(js_raw(a), js_raw(b)));
	js_string(a, &s);
	js_string(b, &t);
	check(slice_eq(s, t));
	while (js_next(&aw, &s, &av)) {
		check(js_next(&bw, &t, &bv) && slice_eq(s, t));
		same(av, bv);
	}
}

/* The plain way to find what the reader must report. */
static bool
repeats(struct js_value v)
{
	struct js_walk aw = js_walk(v), bw;
	struct slice s, t;
	struct js_value av, bv;

	while (js_next(&aw, &s, &av)) {
		if (repeats(av))
			return true;
		for (bw = aw; js_next(&bw, &t, &bv);) {
			if (v.kind == JS_OBJECT && slice_eq(s, t))
				return true;
		}
	}
	return false;
}

static void
round_trip(const struct js_doc *doc, struct arena *a, bool ascii)
{
	struct js_doc again;
	struct js_writer w;
	struct buf out;

	buf_init(&out, 1 << 24);
	if (ascii)
		js_write_ascii(&w, &out);
	else
		js_write(&w, &out);
	copy(&w, js_root(doc));
	check(js_finish(&w) == 0);
	struct slice text = buf_peek(&out);
	check(js_parse(&again, text, &limits, a) == 0);
	check(!ascii || utf8_ascii(text) == text.len);
	check(!again.lone_surrogate);
	same(js_root(doc), js_root(&again));
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct js_doc doc;
	struct arena a;

	arena_init(&a, 1 << 26);
	if (js_parse(&doc, (struct slice){ data, size }, &limits, &a) == 0) {
		check((doc.repeated.ptr != NULL) == repeats(js_root(&doc)));
		round_trip(&doc, &a, false);
		round_trip(&doc, &a, true);
	} else {
		check(doc.error_at <= size);
	}
	arena_fini(&a);
	return 0;
}
