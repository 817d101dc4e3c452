#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#include "support/guard.h"
#include "support/unit.h"

/* Unicode table 3-7, row by row: the reference that the automaton meets. */
static const struct {
	uint8_t low[4], high[4];
	size_t len;
} rows[] = {
	{ { 0x00 }, { 0x7f }, 1 },
	{ { 0xc2, 0x80 }, { 0xdf, 0xbf }, 2 },
	{ { 0xe0, 0xa0, 0x80 }, { 0xe0, 0xbf, 0xbf }, 3 },
	{ { 0xe1, 0x80, 0x80 }, { 0xec, 0xbf, 0xbf }, 3 },
	{ { 0xed, 0x80, 0x80 }, { 0xed, 0x9f, 0xbf }, 3 },
	{ { 0xee, 0x80, 0x80 }, { 0xef, 0xbf, 0xbf }, 3 },
	{ { 0xf0, 0x90, 0x80, 0x80 }, { 0xf0, 0xbf, 0xbf, 0xbf }, 4 },
	{ { 0xf1, 0x80, 0x80, 0x80 }, { 0xf3, 0xbf, 0xbf, 0xbf }, 4 },
	{ { 0xf4, 0x80, 0x80, 0x80 }, { 0xf4, 0x8f, 0xbf, 0xbf }, 4 },
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Bytes of p that some row accepts as a prefix; *len the row's length. */
static size_t
match(const uint8_t *p, size_t n, size_t *len)
{
	size_t best = 0;

	for (size_t r = 0; r < ROWS; r++) {
		size_t i = 0;
		while (i < n && i < rows[r].len && p[i] >= rows[r].low[i] &&
		    p[i] <= rows[r].high[i])
			i++;
		if (i > best) {
			best = i;
			*len = rows[r].len;
		}
	}
	return best;
}

/* All starts of four bytes whose last ones come from the edges. */
static void
test_every_prefix(void **state)
{
	static const uint8_t edge[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f,
		0xa0, 0xbf, 0xc0, 0xc2, 0xf4, 0xff };
	uint8_t b[4];

	(void)state;
	for (unsigned i = 0; i < 65536 * sizeof(edge) * sizeof(edge); i++) {
		unsigned at = i;
		b[0] = (uint8_t)at;
		b[1] = (uint8_t)(at >> 8);
		at >>= 16;
		b[2] = edge[at % sizeof(edge)];
		b[3] = edge[at / sizeof(edge)];

		size_t len = 0, good = match(b, 4, &len);
		uint32_t code = 0;
		int n = utf8_decode((struct slice){ b, 4 }, &code);
		if (good > 0 && good == len) {
			assert_int_equal(n, len);
			uint8_t again[4];
			assert_int_equal(utf8_encode(code, again), len);
			assert_memory_equal(again, b, len);
		} else {
			assert_int_equal(n, good == 0 ? -1 : -(int)good);
			struct utf8 u = { 0 };
			assert_true(utf8_feed(&u, (struct slice){ b, good }));
			assert_false(
			    utf8_feed(&u, (struct slice){ b + good, 1 }));
			assert_false(utf8_feed(&u, SL("")));
			assert_false(utf8_whole(&u));
		}
	}
}

static void
test_every_code_point(void **state)
{
	uint8_t b[4];
	uint32_t code;

	(void)state;
	for (uint32_t c = 0; c <= 0x110000; c++) {
		struct slice s = { b, utf8_encode(c, b) };
		bool none = (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff;
		assert_int_equal(utf8_decode(s, &code), s.len);
		assert_int_equal(code, none ? 0xfffd : c);
		assert_true(utf8_valid(s));
		if (s.len > 1)
			assert_false(utf8_valid(slice_first(s, s.len - 1)));
	}
}

/* One bad or odd byte at every place of every length, at a guard page. */
static void
test_places(void **state)
{
	uint8_t text[200];

	(void)state;
	for (size_t len = 1; len <= sizeof(text); len += 7) {
		memset(text, 'a', len);
		struct slice s = guard_copy((struct slice){ text, len });
		uint8_t *w = (uint8_t *)(uintptr_t)s.ptr;
		assert_true(utf8_valid(s));
		assert_int_equal(utf8_ascii(s), len);
		for (size_t at = 0; at < len; at++) {
			w[at] = 0xff;
			assert_false(utf8_valid(s));
			assert_int_equal(utf8_ascii(s), at);
			w[at] = 'a';
			if (at + 3 > len)
				continue;
			memcpy(w + at, "\xe2\x82\xac", 3);
			assert_true(utf8_valid(s));
			for (size_t cut = 0; cut <= len; cut++) {
				struct utf8 u = { 0 };
				assert_true(utf8_feed(&u, slice_first(s, cut)));
				assert_int_equal(utf8_whole(&u),
				    !(cut > at && cut < at + 3));
				assert_true(
				    utf8_feed(&u, slice_from_at(s, cut)));
				assert_true(utf8_whole(&u));
				assert_int_equal(
				    utf8_floor(slice_first(s, cut)),
				    cut > at && cut < at + 3 ? at : cut);
			}
			memset(w + at, 'a', 3);
		}
		guard_free(s);
	}
}

/* Mended whole and cut at every place, the copy is the same. */
static void
test_mend(void **state)
{
	static const struct {
		struct slice in, out;
	} cases[] = {
		{ SL_INIT(""), SL_INIT("") },
		{ SL_INIT("plain"), SL_INIT("plain") },
		{ SL_INIT("a\0b"), SL_INIT("a\0b") },
		{ SL_INIT("\xe2\x82\xac"), SL_INIT("\xe2\x82\xac") },
		{ SL_INIT("x\xffy"), SL_INIT("x\xef\xbf\xbdy") },
		{ SL_INIT("\xe2\x82"), SL_INIT("\xef\xbf\xbd") },
		{ SL_INIT("\xe2\x82z"), SL_INIT("\xef\xbf\xbdz") },
		{ SL_INIT("\xe2\x82\xe2\x82\xac"),
		    SL_INIT("\xef\xbf\xbd\xe2\x82\xac") },
		/* Unicode 3.9, table 3-8. */
		{ SL_INIT("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
		    SL_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
			    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
			    "\x41") },
		/* Table 3-11: truncated sequences are one mark each. */
		{ SL_INIT("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"),
		    SL_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
			    "\x41") },
		{ SL_INIT("\xed\xa0\x80"),
		    SL_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd") },
		{ SL_INIT("\xf0\x9f\x98\x80!"), SL_INIT("\xf0\x9f\x98\x80!") },
	};
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice in = cases[i].in;
		for (size_t cut = 0; cut <= in.len; cut++) {
			struct utf8_mender m = { 0 };
			buf_clear(&out);
			utf8_mend(&m, slice_first(in, cut), &out);
			utf8_mend(&m, slice_from_at(in, cut), &out);
			utf8_mend_end(&m, &out);
			assert_slice(buf_peek(&out), cases[i].out);
		}
		struct utf8_mender m = { 0 };
		buf_clear(&out);
		for (size_t at = 0; at < in.len; at++)
			utf8_mend(&m, (struct slice){ in.ptr + at, 1 }, &out);
		utf8_mend_end(&m, &out);
		assert_slice(buf_peek(&out), cases[i].out);
	}
	buf_fini(&out);
}

static void
test_mend_full(void **state)
{
	struct utf8_mender m = { 0 };
	struct buf out;

	(void)state;
	buf_init(&out, 5);
	utf8_mend(&m, SL("abc\xff"), &out);
	assert_int_not_equal(out.err, 0);
	assert_slice(buf_peek(&out), SL("abc"));
	buf_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_every_code_point),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_mend),
		cmocka_unit_test(test_mend_full),
	};

	return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
