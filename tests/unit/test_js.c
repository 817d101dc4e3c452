#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct arena arena;
static struct buf out;
static const struct js_limits limits = { 16 << 20, 64 };

static int
parse(struct js_doc *doc, struct slice text)
{
	arena_reset(&arena);
	return js_parse(doc, text, &limits, &arena);
}

static void
test_look(void **state)
{
	static const struct slice text =
	    SL_INIT(" {\"a\":1 , \"b\" : [true,null,\"x\"],\"\":{},"
		    "\"c\\u0064\":\"e\\n\\u20ac\\ud83d\\ude00\\u0000\"} ");
	struct js_doc doc;
	struct slice name, s;
	struct js_value v;
	int64_t n = 0;
	bool b = false;

	(void)state;
	struct slice in = guard_copy(text);
	assert_int_equal(parse(&doc, in), 0);
	struct js_value root = js_root(&doc);
	assert_int_equal(root.kind, JS_OBJECT);
	assert_int_equal(js_count(root), 4);
	assert_slice(js_raw(root), slice_trim(text));
	assert_null(doc.repeated.ptr);
	assert_false(doc.lone_surrogate);

	assert_int_equal(js_i64(js_get(root, "a"), &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(js_get(root, "zz").kind, JS_NONE);
	assert_int_equal(js_i64(js_get(root, "zz"), &n), ERR_MISSING);
	assert_int_equal(js_i64(js_get(root, "b"), &n), ERR_TYPE);
	assert_int_equal(
	    js_get(js_get(js_get(root, "zz"), "y"), "x").kind, JS_NONE);
	assert_slice(js_raw_member(root, "b"), SL("\"b\" : [true,null,\"x\"]"));
	assert_null(js_raw_member(root, "zz").ptr);
	assert_slice(js_raw(js_get(root, "")), SL("{}"));

	struct js_walk w = js_walk(js_get(root, "b"));
	assert_true(js_next(&w, &name, &v));
	assert_null(name.ptr);
	assert_int_equal(js_bool(v, &b), 0);
	assert_true(b);
	assert_true(js_next(&w, NULL, &v));
	assert_int_equal(v.kind, JS_NULL);
	assert_true(js_next(&w, NULL, &v));
	assert_int_equal(js_string(v, &s), 0);
	assert_slice(s, SL("x"));
	assert_true(s.ptr > in.ptr && s.ptr < in.ptr + in.len);
	assert_false(js_next(&w, NULL, &v));

	assert_int_equal(js_string(js_get(root, "cd"), &s), 0);
	assert_slice(s, SL("e\n\xe2\x82\xac\xf0\x9f\x98\x80\0"));
	assert_slice(js_raw_member(root, "cd"),
	    SL("\"c\\u0064\":\"e\\n\\u20ac\\ud83d\\ude00\\u0000\""));
	guard_free(in);
}

/* Every prefix is refused, and reads nothing beyond its end. */
static void
test_every_cut(void **state)
{
	static const struct slice text =
	    SL_INIT("{\"type\":\"a long enough string\",\"n\":[-1.25e+3,true,"
		    "false,null,\"\\u20ac\\\\\"],\"\xe2\x82\xac\":{\"a\":{}}}");
	struct js_doc doc;

	(void)state;
	for (size_t cut = 0; cut < text.len; cut++) {
		struct slice s = guard_copy(slice_first(text, cut));
		int err = parse(&doc, s);
		assert_true(err == ERR_INVALID || err == ERR_UTF8);
		assert_true(doc.error_at <= cut);
		guard_free(s);
	}
	assert_int_equal(parse(&doc, text), 0);
}

static void
test_limits(void **state)
{
	struct js_limits small = { 6, 2 };
	struct js_doc doc;

	(void)state;
	arena_reset(&arena);
	assert_int_equal(js_parse(&doc, SL("[[]]"), &small, &arena), 0);
	assert_int_equal(
	    js_parse(&doc, SL("[[[]]]"), &small, &arena), ERR_DEPTH);
	assert_int_equal(doc.error_at, 2);
	assert_int_equal(
	    js_parse(&doc, SL("[1,2,3]"), &small, &arena), ERR_TOO_BIG);
	small.depth = 0;
	assert_int_equal(js_parse(&doc, SL("1"), &small, &arena), 0);
	assert_int_equal(js_parse(&doc, SL("[]"), &small, &arena), ERR_DEPTH);
	assert_int_equal(
	    js_parse(&doc, (struct slice){ 0 }, &small, &arena), ERR_INVALID);
}

/* A million brackets: refused at the cap, read without one, no recursion. */
static void
test_deep(void **state)
{
	enum { DEEP = 1000000 };
	struct js_limits wide = { 16 << 20, UINT32_MAX };
	struct js_doc doc;
	uint8_t *text = malloc(2 * DEEP);

	(void)state;
	assert_non_null(text);
	memset(text, '[', DEEP);
	memset(text + DEEP, ']', DEEP);
	struct slice s = { text, 2 * DEEP };
	assert_int_equal(parse(&doc, s), ERR_DEPTH);
	assert_int_equal(doc.error_at, 64);
	arena_reset(&arena);
	assert_int_equal(
	    js_parse(&doc, slice_first(s, DEEP), &wide, &arena), ERR_INVALID);
	arena_reset(&arena);
	assert_int_equal(js_parse(&doc, s, &wide, &arena), 0);
	free(text);
}

/* An object of n members, one of which may be named as another. */
static struct slice
build_object(size_t n, size_t same)
{
	char text[64];

	buf_clear(&out);
	buf_put_byte(&out, '{');
	for (size_t i = 0; i < n; i++) {
		size_t number = i + 1 == n ? same : i;
		int len = snprintf(text, sizeof(text), "%s\"k%zu\":{\"k1\":0}",
		    i == 0 ? "" : ",", number);
		buf_put(
		    &out, (struct slice){ (const uint8_t *)text, (size_t)len });
	}
	buf_put_byte(&out, '}');
	return buf_peek(&out);
}

static void
test_repeated(void **state)
{
	struct js_doc doc;

	(void)state;
	assert_int_equal(parse(&doc, SL("{\"a\":1,\"\\u0061\":2}")), 0);
	assert_slice(doc.repeated, SL("a"));
	int64_t n = 0;
	assert_int_equal(js_i64(js_get(js_root(&doc), "a"), &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(parse(&doc, SL("[{\"\":1,\"\":2}]")), 0);
	assert_non_null(doc.repeated.ptr);
	assert_int_equal(doc.repeated.len, 0);
	assert_int_equal(
	    parse(&doc, SL("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":1}]}")),
	    0);
	assert_null(doc.repeated.ptr);

	for (size_t count = 2; count < 70; count++) {
		assert_int_equal(parse(&doc, build_object(count, 1000)), 0);
		assert_null(doc.repeated.ptr);
		for (size_t same = 0; same + 1 < count; same++) {
			assert_int_equal(
			    parse(&doc, build_object(count, same)), 0);
			assert_non_null(doc.repeated.ptr);
			char name[24];
			snprintf(name, sizeof(name), "k%zu", same);
			assert_slice(doc.repeated, slice_from(name));
		}
	}
	/* Quadratic, this would take minutes. */
	assert_int_equal(parse(&doc, build_object(200000, 77)), 0);
	assert_slice(doc.repeated, SL("k77"));
}

static void
test_surrogates(void **state)
{
	struct js_doc doc;
	struct slice s;

	(void)state;
	assert_int_equal(parse(&doc, SL("\"a\\ud800\\ud83d\\ude00\"")), 0);
	assert_true(doc.lone_surrogate);
	assert_int_equal(js_string(js_root(&doc), &s), 0);
	assert_slice(s, SL("a\xef\xbf\xbd\xf0\x9f\x98\x80"));
	assert_int_equal(parse(&doc, SL("\"\\ude00\\ud83d\"")), 0);
	assert_true(doc.lone_surrogate);
	assert_int_equal(js_string(js_root(&doc), &s), 0);
	assert_slice(s, SL("\xef\xbf\xbd\xef\xbf\xbd"));
}

static void
test_utf8(void **state)
{
	struct js_doc doc;

	(void)state;
	assert_int_equal(parse(&doc, SL("\"\xed\xa0\x80\"")), ERR_UTF8);
	assert_int_equal(parse(&doc, SL("{\"\xff\":1}")), ERR_UTF8);
	assert_int_equal(parse(&doc, SL("\"\xe2\x82\"")), ERR_UTF8);
	assert_int_equal(
	    parse(&doc, SL("\xef\xbb\xbf[]")), ERR_INVALID); /* no BOM */
	assert_int_equal(parse(&doc, SL("\"\xe2\x82\xac \\n\"")), 0);
}

static void
test_integers(void **state)
{
	static const struct {
		const char *text;
		int i_err;
		int64_t i;
		int u_err;
	} rows[] = {
		{ "0", 0, 0, 0 },
		{ "-0", 0, 0, 0 },
		{ "-0.0e5", 0, 0, 0 },
		{ "-1", 0, -1, ERR_RANGE },
		{ "9223372036854775807", 0, INT64_MAX, 0 },
		{ "-9223372036854775808", 0, INT64_MIN, ERR_RANGE },
		{ "9223372036854775808", ERR_RANGE, 0, 0 },
		{ "-9223372036854775809", ERR_RANGE, 0, ERR_RANGE },
		{ "18446744073709551615", ERR_RANGE, 0, 0 },
		{ "18446744073709551616", ERR_RANGE, 0, ERR_RANGE },
		{ "100000000000000000000", ERR_RANGE, 0, ERR_RANGE },
		{ "1.0", 0, 1, 0 },
		{ "1e3", 0, 1000, 0 },
		{ "1.25E2", 0, 125, 0 },
		{ "120e-1", 0, 12, 0 },
		{ "0.5", ERR_TYPE, 0, ERR_TYPE },
		{ "1e-1", ERR_TYPE, 0, ERR_TYPE },
		{ "1e19", ERR_RANGE, 0, 0 },
		{ "1e20", ERR_RANGE, 0, ERR_RANGE },
		{ "1e999999999999999999999", ERR_RANGE, 0, ERR_RANGE },
		{ "1e-999999999999999999999", ERR_TYPE, 0, ERR_TYPE },
		{ "0e999999999999999999999", 0, 0, 0 },
		{ "1.0000000000000000000000000000", 0, 1, 0 },
		{ "1.0000000000000000000000000001", ERR_TYPE, 0, ERR_TYPE },
		{ "12345678901234567890.5", ERR_TYPE, 0, ERR_TYPE },
	};
	struct js_doc doc;

	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		int64_t i = 42;
		uint64_t u = 42;
		assert_int_equal(parse(&doc, slice_from(rows[k].text)), 0);
		assert_int_equal(js_i64(js_root(&doc), &i), rows[k].i_err);
		assert_int_equal(i, rows[k].i_err == 0 ? rows[k].i : 42);
		assert_int_equal(js_u64(js_root(&doc), &u), rows[k].u_err);
		if (rows[k].u_err == 0 && rows[k].i_err == 0)
			assert_int_equal(u, rows[k].i);
	}
}

static bool
same_double(double a, double b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

static void
assert_double(const char *text)
{
	struct js_doc doc;
	double d = 0;

	assert_int_equal(parse(&doc, slice_from(text)), 0);
	assert_int_equal(js_double(js_root(&doc), &d), 0);
	if (!same_double(d, strtod(text, NULL)))
		fail_msg("%s read as %.17g", text, d);
}

static void
test_doubles(void **state)
{
	static const char *const texts[] = { "0", "-0", "-0.0", "1", "45.2",
		"0.1", "1e22", "1e23", "1e-22", "1e-23", "9007199254740993",
		"9007199254740992", "1.7976931348623157e308", "5e-324",
		"2.4703282292062327e-324", "1e-400", "123456789012345678901",
		"0.000000000000000000000000000001e30",
		"2.2250738585072012e-308", "-1.5E+3",
		"100000000000000016777215",
		"1000000000000000167772160.00000000000000000000001" };
	struct js_doc doc;
	double d = 7;
	uint32_t seed = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_double(texts[i]);
	for (int i = 0; i < 20000; i++) {
		char text[64];
		seed = seed * 1664525 + 1013904223;
		int exponent = (int)(seed >> 24) - 128;
		seed = seed * 1664525 + 1013904223;
		snprintf(text, sizeof(text), "%u.%ue%d", seed >> 8,
		    seed & 0xffff, exponent);
		assert_double(text);
	}
	assert_int_equal(parse(&doc, SL("[1e999,-1e309,\"1\"]")), 0);
	struct js_walk w = js_walk(js_root(&doc));
	static const int errs[] = { ERR_RANGE, ERR_RANGE, ERR_TYPE };
	struct js_value v;
	for (int i = 0; js_next(&w, NULL, &v); i++)
		assert_int_equal(js_double(v, &d), errs[i]);
	assert_true(same_double(d, 7));

	/* Half way between two doubles but for the last of 2,000 digits. */
	static char text[2100];
	memset(text, '0', 2000);
	memcpy(text, "9007199254740993.", 17);
	text[1999] = '1';
	assert_double(text);
	text[1999] = '0';
	assert_double(text);
}

static void
test_fields(void **state)
{
	struct js_doc doc;
	struct js_fields f;
	struct slice s, t;
	struct js_value v;
	int64_t n = 0;
	double d = 0;
	bool b = false;

	(void)state;
	assert_int_equal(parse(&doc,
			     SL("{\"id\":\"x\",\"n\":5,\"o\":{},\"z\":null,"
				"\"b\":true,\"d\":1.5}")),
	    0);
	js_fields_init(&f, js_root(&doc));
	js_need_bool(&f, "b", &b);
	js_need_string(&f, "id", &s);
	js_opt_string(&f, "nope", &t);
	js_need_i64(&f, "n", 0, 5, &n);
	js_need_double(&f, "d", &d);
	js_need_kind(&f, "o", JS_OBJECT, &v);
	assert_int_equal(f.err, 0);
	assert_true(b && n == 5 && v.kind == JS_OBJECT);
	assert_slice(s, SL("x"));
	assert_null(t.ptr);
	js_opt_i64(&f, "z", 0, 9, 7, &n);
	js_opt_kind(&f, "nope", JS_ARRAY, &v);
	js_opt_bool(&f, "z", true, &b);
	js_opt_double(&f, "z", 2.5, &d);
	assert_int_equal(f.err, 0);
	assert_true(b && n == 7 && d > 2 && v.kind == JS_NONE);

	js_opt_i64(&f, "n", 6, 9, 7, &n);
	assert_int_equal(f.err, ERR_RANGE);
	assert_slice(f.field, SL("n"));
	js_need_string(&f, "gone", &s); /* sticky */
	js_need_i64(&f, "n", 0, 5, &n);
	assert_int_equal(f.err, ERR_RANGE);
	assert_int_equal(n, 7);

	js_fields_init(&f, js_root(&doc));
	js_need_string(&f, "z", &s);
	assert_int_equal(f.err, ERR_MISSING);
	assert_slice(f.field, SL("z"));
	js_fields_init(&f, js_root(&doc));
	js_opt_string(&f, "n", &s);
	assert_int_equal(f.err, ERR_TYPE);
	js_fields_init(&f, js_get(js_root(&doc), "n"));
	js_need_string(&f, "x", &s);
	assert_int_equal(f.err, ERR_TYPE);
	assert_null(f.field.ptr);
	/* With a repeated name the first wins, wherever the reader stands. */
	assert_int_equal(parse(&doc, SL("{\"a\":1,\"b\":2,\"a\":3}")), 0);
	js_fields_init(&f, js_root(&doc));
	js_need_i64(&f, "b", 0, 9, &n);
	js_need_i64(&f, "a", 0, 9, &n);
	assert_int_equal(n, 1);
}

static void
test_write(void **state)
{
	struct js_writer w;

	(void)state;
	buf_clear(&out);
	js_write(&w, &out);
	js_begin_object(&w);
	js_kv_string(&w, "a", SL("plain"));
	js_kv_i64(&w, "min", INT64_MIN);
	js_kv_u64(&w, "max", UINT64_MAX);
	js_kv_array(&w, "list");
	js_put_bool(&w, true);
	js_put_null(&w);
	js_begin_array(&w);
	js_end(&w);
	js_put_raw(&w, SL("1.50"));
	js_end(&w);
	js_kv_object(&w, "");
	js_end(&w);
	js_kv_bool(&w, "no", false);
	js_kv_null(&w, "nil");
	js_kv_raw(&w, "raw", SL("[ ]"));
	js_key(&w, SL("\"\n"));
	js_put_string(&w, SL("\\ \x01\x7f\b\f\r\t</\xe2\x82\xac\xff"));
	js_end(&w);
	assert_int_equal(js_finish(&w), 0);
	assert_slice(buf_peek(&out),
	    SL("{\"a\":\"plain\",\"min\":-9223372036854775808,"
	       "\"max\":18446744073709551615,\"list\":[true,null,[],1.50],"
	       "\"\":{},\"no\":false,\"nil\":null,\"raw\":[ ],"
	       "\"\\\"\\n\":\"\\\\ \\u0001\x7f\\b\\f\\r\\t</\xe2\x82\xac"
	       "\xef\xbf\xbd\"}"));
	buf_clear(&out);
	js_write_ascii(&w, &out);
	js_put_string(&w, SL("a\x7f\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\xe2"));
	assert_int_equal(js_finish(&w), 0);
	assert_slice(buf_peek(&out),
	    SL("\"a\\u007f\\u00e9\\u2028\\ud83d\\ude00\\ufffd\""));
}

/* Every length, and one odd byte at every place of it. */
static void
test_write_places(void **state)
{
	uint8_t text[70];
	struct js_writer w;
	struct js_doc doc;
	struct slice back;

	(void)state;
	for (size_t len = 0; len <= sizeof(text); len++) {
		for (size_t odd = 0; odd <= len; odd++) {
			memset(text, 'x', sizeof(text));
			if (odd < len)
				text[odd] = '"';
			struct slice s =
			    guard_copy((struct slice){ text, len });
			buf_clear(&out);
			js_write(&w, &out);
			js_begin_object(&w);
			js_key(&w, s);
			js_put_string(&w, s);
			js_end(&w);
			assert_int_equal(js_finish(&w), 0);
			size_t escaped = len + (odd < len ? 1 : 0);
			assert_int_equal(buf_peek(&out).len, 2 * escaped + 7);
			assert_int_equal(parse(&doc, buf_peek(&out)), 0);
			struct js_walk at = js_walk(js_root(&doc));
			struct js_value v;
			assert_true(js_next(&at, &back, &v));
			assert_slice(back, s);
			assert_int_equal(js_string(v, &back), 0);
			assert_slice(back, s);
			guard_free(s);
		}
	}
}

static void
test_write_doubles(void **state)
{
	static const struct {
		double value;
		const char *text;
	} rows[] = { { 45.2, "45.2" }, { 0.1, "0.1" }, { 1, "1" },
		{ -0.0, "-0" }, { 1e300, "1e+300" }, { 5e-324, NULL },
		{ DBL_MAX, NULL }, { 1.0 / 3, NULL },
		{ 9007199254740993.0, "9007199254740992" } };
	struct js_writer w;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[64];
		buf_clear(&out);
		js_write(&w, &out);
		js_put_double(&w, rows[i].value);
		assert_int_equal(js_finish(&w), 0);
		assert_int_equal(
		    slice_cstr(buf_peek(&out), text, sizeof(text)), 0);
		assert_true(same_double(strtod(text, NULL), rows[i].value));
		if (rows[i].text != NULL)
			assert_string_equal(text, rows[i].text);
	}
	buf_clear(&out);
	js_write(&w, &out);
	js_begin_array(&w);
	js_put_double(&w, strtod("inf", NULL));
	js_put_double(&w, strtod("nan", NULL));
	js_end(&w);
	assert_slice(buf_peek(&out), SL("[null,null]"));
}

/* As written by printf with the fewest digits that read back. */
static void
assert_shortest(double d)
{
	char want[64], got[64];
	struct js_writer w;

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(want, sizeof(want), "%.*g", digits, d);
		if (same_double(strtod(want, NULL), d))
			break;
	}
	buf_clear(&out);
	js_write(&w, &out);
	js_put_double(&w, d);
	assert_int_equal(js_finish(&w), 0);
	assert_int_equal(slice_cstr(buf_peek(&out), got, sizeof(got)), 0);
	assert_string_equal(got, want);
}

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The double next to d, d not 0. */
static double
beside(double d, int64_t steps)
{
	int64_t bits;

	memcpy(&bits, &d, sizeof(bits));
	bits += steps;
	memcpy(&d, &bits, sizeof(d));
	return d;
}

/* Short decimals, their neighbours, and any bits at all. */
static void
test_write_random_doubles(void **state)
{
	uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
	double powers = 1;

	(void)state;
	for (int i = 0; i < 60000; i++) {
		uint64_t r = next_random(&seed);
		char text[64];
		double d;

		snprintf(text, sizeof(text), "%s%llue-%u", r & 1 ? "-" : "",
		    (unsigned long long)(next_random(&seed) >> (r >> 8 & 63)),
		    (unsigned)(r >> 16 & 31) % 24);
		d = strtod(text, NULL);
		assert_shortest(d);
		if (d > 0 || d < 0) {
			assert_shortest(beside(d, -1));
			assert_shortest(beside(d, 1));
		}
		memcpy(&d, &r, sizeof(d));
		if (d >= -DBL_MAX && d <= DBL_MAX)
			assert_shortest(d);
	}
	for (int i = 0; i < 30; i++, powers *= 10) {
		assert_shortest(powers);
		assert_shortest(1 / powers);
		assert_shortest(powers - 1);
		assert_shortest(beside(powers, -1));
		assert_shortest(beside(1 / powers, 1));
	}
	assert_shortest(0.0);
	assert_shortest(-0.0);
}

static void
test_write_limits(void **state)
{
	struct js_writer w;
	struct buf small;

	(void)state;
	buf_clear(&out);
	js_write(&w, &out);
	for (int i = 0; i < JS_WRITE_DEPTH; i++)
		js_begin_array(&w);
	assert_int_equal(w.err, 0);
	js_begin_object(&w);
	js_kv_string(&w, "a", SL("b"));
	js_end(&w);
	assert_int_equal(js_finish(&w), ERR_DEPTH);

	/* A cap that fits to the byte, and one byte less. */
	for (size_t cap = 15; cap <= 16; cap++) {
		buf_init(&small, cap);
		js_write(&w, &small);
		js_begin_object(&w);
		js_kv_string(&w, "key", SL("va\nue"));
		js_end(&w);
		assert_int_equal(js_finish(&w), cap == 16 ? ERR_OK : ERR_FULL);
		buf_fini(&small);
	}
}

static void
read_and_write(void *arg)
{
	struct arena a;
	struct buf b;
	struct js_doc doc;
	struct js_writer w;

	(void)arg;
	arena_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	js_write(&w, &b);
	js_begin_array(&w);
	for (int i = 0; i < 3000; i++)
		js_put_string(&w, SL("\n"));
	js_end(&w);
	if (js_finish(&w) == 0) {
		int err = js_parse(&doc, buf_peek(&b), &limits, &a);
		assert_true(err == ERR_NOMEM ||
		    (err == 0 && js_count(js_root(&doc)) == 3000));
	}
	buf_fini(&b);
	arena_fini(&a);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(read_and_write, NULL);
	struct arena a;
	struct js_doc doc;
	arena_init(&a, 100);
	assert_int_equal(js_parse(&doc, SL("[]"), &limits, &a), ERR_NOMEM);
	arena_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_repeated),
		cmocka_unit_test(test_surrogates),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_places),
		cmocka_unit_test(test_write_doubles),
		cmocka_unit_test(test_write_random_doubles),
		cmocka_unit_test(test_write_limits),
		cmocka_unit_test(test_no_memory),
	};

	arena_init(&arena, 256 << 20);
	buf_init(&out, 16 << 20);
	int failed = cmocka_run_group_tests_name("js", tests, NULL, NULL);
	buf_fini(&out);
	arena_fini(&arena);
	return failed;
}
