#include <string.h>

#include "base/err.h"
#include "wire/sse.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

/* Read text in steps; each event as "type|id|data;". */
static int
read_all(struct slice text, size_t step, size_t cap, struct buf *out)
{
	struct sse_reader r;
	struct sse_event ev;
	int n = 0;

	sse_reader_init(&r, cap);
	while (text.len > 0 && n == 0) {
		struct slice piece = guard_copy(slice_first(text, step));
		sse_feed(&r, piece);
		while ((n = sse_next(&r, &ev)) > 0) {
			buf_put(out, ev.type);
			buf_put_byte(out, '|');
			buf_put(out, ev.id);
			buf_put_byte(out, '|');
			buf_put(out, ev.data);
			buf_put_byte(out, ';');
		}
		guard_free(piece);
		text = slice_from_at(text, step);
	}
	if (r.retry >= 0) {
		buf_put(out, SL("retry "));
		buf_put_u64(out, (uint64_t)r.retry);
	}
	sse_reader_fini(&r);
	return n;
}

static void
test_reader(void **state)
{
	static const struct {
		const char *text, *events;
	} cases[] = {
		/* The standard's own examples. */
		{ "data: YHOO\ndata: +2\ndata: 10\n\n",
		    "message||YHOO\n+2\n10;" },
		{ ": test stream\n\ndata: first event\nid: 1\n\n"
		  "data:second event\nid\n\ndata:  third event\n\n",
		    "message|1|first event;message||second event;"
		    "message|| third event;" },
		{ "data\n\ndata\ndata\n\ndata:", "message||;message||\n;" },
		{ "data:test\n\ndata: test\n\n",
		    "message||test;message||test;" },
		/* Line ends, the mark, fields that mean nothing. */
		{ "data: a\r\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n",
		    "message||a\nb;message||c;message||d;" },
		{ "\xef\xbb\xbf"
		  "data: a\n\n",
		    "message||a;" },
		{ "\xef\xbb\xbf\xef\xbb\xbf"
		  "data: a\n\n",
		    "" },
		{ "Data: a\n data: a\ndatax: a\nx\n\n", "" },
		{ "event: e\n\ndata: a\n\n", "message||a;" },
		{ "event: e\nevent: f\ndata: a\n\ndata: b\n\n",
		    "f||a;message||b;" },
		{ "id: 7\n\ndata: a\n\n", "message|7|a;" },
		{ "retry: 25\nretry: 3x\nretry:\nretry: -1\n\n", "retry 25" },
		{ "data: cut", "" },
		{ "data: cut\n", "" },
		{ "data: a:b\n\n", "message||a:b;" },
	};
	struct buf out;

	(void)state;
	buf_init(&out, 10000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice text = slice_from(cases[i].text);
		for (size_t step = 1; step <= text.len; step++) {
			buf_clear(&out);
			assert_int_equal(read_all(text, step, 1000, &out), 0);
			assert_slice(
			    buf_peek(&out), slice_from(cases[i].events));
		}
	}
	buf_clear(&out);
	assert_int_equal(
	    read_all(SL("id: 1\nid: 2\0\ndata: a\n\n"), 99, 99, &out), 0);
	assert_slice(buf_peek(&out), SL("message|1|a;"));
	buf_fini(&out);
}

static void
test_reader_caps(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 10000);
	assert_int_equal(read_all(SL(":23456789\n"), 99, 8, &out), ERR_TOO_BIG);
	assert_int_equal(read_all(SL(":2345678\n"), 99, 8, &out), 0);
	/* A line, and the lines of one event. */
	assert_int_equal(
	    read_all(SL("data: 12345678"), 1, 10, &out), ERR_TOO_BIG);
	assert_int_equal(
	    read_all(SL("data: 1234\ndata: 12345\n\n"), 1, 11, &out), 0);
	assert_int_equal(
	    read_all(SL("data: 12345\ndata: 12345\n\n"), 1, 11, &out),
	    ERR_TOO_BIG);
	buf_fini(&out);
}

static void
test_writer(void **state)
{
	static const struct {
		struct slice data;
		const char *text, *read;
	} cases[] = {
		{ { NULL, 0 }, "data: \n\n", "message||;" },
		{ { (const uint8_t *)"a", 1 }, "data: a\n\n", "message||a;" },
		{ { (const uint8_t *)" a\n", 3 }, "data:  a\ndata: \n\n",
		    "message|| a\n;" },
		{ { (const uint8_t *)"a\r\nb\rc\nd", 8 },
		    "data: a\ndata: b\ndata: c\ndata: d\n\n",
		    "message||a\nb\nc\nd;" },
		{ { (const uint8_t *)"a\n\nid: 9", 8 },
		    "data: a\ndata: \ndata: id: 9\n\n",
		    "message||a\n\nid: 9;" },
	};
	struct sse_event ev = { 0 };
	struct buf b, out;

	(void)state;
	buf_init(&b, 1000);
	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_clear(&b);
		buf_clear(&out);
		ev.data = cases[i].data;
		sse_put_event(&b, &ev);
		assert_slice(buf_peek(&b), slice_from(cases[i].text));
		assert_int_equal(read_all(buf_peek(&b), 1000, 1000, &out), 0);
		assert_slice(buf_peek(&out), slice_from(cases[i].read));
	}
	buf_clear(&b);
	sse_put_retry(&b, 1500);
	sse_put_comment(&b, SL(""));
	sse_put_comment(&b, SL("hi"));
	sse_put_event(&b,
	    &(struct sse_event){
		.type = SL("agent_online"), .id = SL("42"), .data = SL("{}") });
	assert_slice(buf_peek(&b),
	    SL("retry: 1500\n\n:\n\n:hi\n\n"
	       "event: agent_online\nid: 42\ndata: {}\n\n"));

	static const char *const bad[] = { "a\nb", "a\r", "\n" };
	for (size_t i = 0; i < 3; i++) {
		buf_clear(&b);
		ev = (struct sse_event){ .type = slice_from(bad[i]) };
		sse_put_event(&b, &ev);
		assert_int_equal(b.err, ERR_INVALID);
		assert_int_equal(buf_peek(&b).len, 0);
		buf_clear(&b);
		ev = (struct sse_event){ .id = slice_from(bad[i]) };
		sse_put_event(&b, &ev);
		assert_int_equal(b.err, ERR_INVALID);
		buf_clear(&b);
		sse_put_comment(&b, slice_from(bad[i]));
		assert_int_equal(b.err, ERR_INVALID);
	}
	buf_clear(&b);
	ev = (struct sse_event){ .id = SL("a\0") };
	sse_put_event(&b, &ev);
	assert_int_equal(b.err, ERR_INVALID);
	buf_fini(&b);
	buf_fini(&out);
}

static void
read_some(void *arg)
{
	struct sse_reader r;
	struct sse_event ev;
	int n, seen = 0;

	(void)arg;
	sse_reader_init(&r, 1000);
	sse_feed(&r, SL("event: e\nid: 1\nda"));
	n = sse_next(&r, &ev);
	sse_feed(&r, SL("ta: x\n\n"));
	while (n >= 0 && (n = sse_next(&r, &ev)) > 0)
		seen++;
	assert_true(n == ERR_NOMEM || (n == 0 && seen == 1));
	sse_reader_fini(&r);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(read_some, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader),
		cmocka_unit_test(test_reader_caps),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
