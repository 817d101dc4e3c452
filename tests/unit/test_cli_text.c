#include <locale.h>

#include "base/err.h"
#include "cli/exit.h"
#include "cli/safe.h"
#include "cli/table.h"

#include "support/oom.h"
#include "support/unit.h"

typedef void safe_fn(struct buf *out, struct slice s);

static void
assert_shown(safe_fn *show, struct slice in, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	show(&b, in);
	assert_int_equal(b.err, 0);
	assert_slice(buf_peek(&b), slice_from(want));
	buf_fini(&b);
}

static void
test_escapes(void **state)
{
	(void)state;
	assert_shown(
	    safe_text, SL("plain \xc3\xa4 text"), "plain \xc3\xa4 text");
	assert_shown(safe_text, SL("a\tb\nc\rd"), "a\\tb\\nc\\rd");
	assert_shown(safe_text, SL("\033[31mred\x07"), "\\x1b[31mred\\x07");
	assert_shown(safe_text, SL("a\0b\x7f"), "a\\x00b\\x7f");
	assert_shown(safe_text, SL("c:\\n"), "c:\\\\n");
	assert_shown(safe_line, SL("c:\\n"), "c:\\n");
	/* C1 controls act on terminals as ESC does. */
	assert_shown(safe_text,
	    SL("\xc2\x9b"
	       "31m"),
	    "\\u009b31m");
	assert_shown(safe_text,
	    SL("a\xe2\x80\xae"
	       "b"),
	    "a\\u202eb");
	assert_shown(safe_text, SL("\xe2\x80\xa8"), "\\u2028");
	assert_shown(safe_text, SL("\xf3\xa0\x80\x81"), "\\U000e0001");
	assert_shown(safe_text, SL("\xff\xc3"), "\\xff\\xc3");
	/* A bare C1 byte is not UTF-8 but acts on some terminals. */
	assert_shown(safe_text,
	    SL("\x9b"
	       "1m"),
	    "\\x9b1m");
}

static void
test_json_keeps_its_value(void **state)
{
	(void)state;
	assert_shown(
	    safe_json, SL("{\"a\":\"b\\u001b\"}"), "{\"a\":\"b\\u001b\"}");
	assert_shown(safe_json, SL("\"\xc2\x9b\x7f\""), "\"\\u009b\\u007f\"");
	assert_shown(safe_json, SL("\"\xe2\x80\xae\""), "\"\\u202e\"");
	assert_shown(
	    safe_json, SL("\"\xf3\xa0\x80\x81\""), "\"\\udb40\\udc01\"");
	assert_shown(safe_json, SL("{\n\t\"a\":\r1}"), "{\n \"a\": 1}");
	assert_shown(safe_json, SL("\"\xc3\xa4\""), "\"\xc3\xa4\"");
}

static void
test_width(void **state)
{
	(void)state;
	setlocale(LC_CTYPE, "C.UTF-8");
	assert_int_equal(safe_width(SL("abc")), 3);
	assert_int_equal(safe_width(SL("\xc3\xa4")), 1);
	assert_int_equal(safe_width(SL("\xe4\xb8\xad\xe6\x96\x87")), 4);
	assert_int_equal(safe_width(SL("e\xcc\x81")), 1);
	assert_slice(
	    safe_fit(SL("\xe4\xb8\xad\xe6\x96\x87"), 3), SL("\xe4\xb8\xad"));
	assert_slice(safe_fit(SL("abc"), 9), SL("abc"));
	assert_slice(safe_fit(SL("abc"), 0), SL(""));
}

static void
test_spans(void **state)
{
	static const struct {
		msec span;
		const char *text;
	} shown[] = { { 0, "0s" }, { -5, "0s" }, { 59999, "59s" },
		{ 60000, "1m" }, { 3599999, "59m" }, { 7200000, "2h" },
		{ 864000000, "10d" } };
	msec ms = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		struct buf b;

		buf_init(&b, 64);
		safe_span(&b, shown[i].span);
		assert_slice(buf_peek(&b), slice_from(shown[i].text));
		buf_fini(&b);
	}
	assert_int_equal(safe_read_span(SL("20"), &ms), 0);
	assert_int_equal(ms, 20000);
	assert_int_equal(safe_read_span(SL("1h30m"), &ms), 0);
	assert_int_equal(ms, 5400000);
	assert_int_equal(safe_read_span(SL("250ms"), &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_not_equal(safe_read_span(SL(""), &ms), 0);
	assert_int_not_equal(safe_read_span(SL("-1s"), &ms), 0);
	assert_int_not_equal(safe_read_span(SL("soon"), &ms), 0);
	assert_int_not_equal(safe_read_span(SL("9999999999999999999"), &ms), 0);
	assert_int_equal(ms, 250);
}

/* Tables --------------------------------------------------------------------
 */

static const struct table_column columns[] = { { "NAME", false, false },
	{ "N", true, true }, { "TEXT", false, false } };

static int
print_table(const struct term *term, struct buf *out)
{
	static const struct slice cells[] = { SL_INIT("web-1"), SL_INIT("7"),
		SL_INIT("short"), SL_INIT("db"), SL_INIT("123"),
		SL_INIT("a long text\nwith a second line") };
	struct arena a;
	struct table t;
	int err;

	arena_init(&a, 1 << 20);
	table_init(&t, columns, 3, &a);
	for (size_t i = 0; i < 6; i++)
		table_cell(&t, cells[i], i == 1 ? TABLE_GOOD : TABLE_PLAIN);
	err = table_write(&t, term, out);
	arena_fini(&a);
	return err;
}

static void
assert_table(const struct term *term, const char *want)
{
	struct buf out;

	buf_init(&out, 65536);
	assert_int_equal(print_table(term, &out), 0);
	assert_slice(buf_peek(&out), slice_from(want));
	buf_fini(&out);
}

static void
test_tables(void **state)
{
	struct term piped = { .width = 20 };
	struct term wide = { .out_tty = true, .width = 80 };
	struct term narrow = { .out_tty = true, .width = 24 };
	struct term coloured = { .out_tty = true, .colour = true, .width = 80 };

	(void)state;
	assert_table(&piped,
	    "web-1\t7\tshort\n"
	    "db\t123\ta long text\\nwith a second line\n");
	assert_table(&wide,
	    "NAME     N  TEXT\n"
	    "web-1    7  short\n"
	    "db     123  a long text\\nwith a second line\n");
	assert_table(&narrow,
	    "NAME     N  TEXT\n"
	    "web-1    7  short\n"
	    "db     123  a long text\xe2\x80\xa6\n");
	assert_table(&coloured,
	    "\033[2mNAME\033[0m     \033[2mN\033[0m  \033[2mTEXT\033[0m\n"
	    "web-1    \033[32m7\033[0m  short\n"
	    "db     123  a long text\\nwith a second line\n");
}

static void
test_empty_tables(void **state)
{
	struct term term = { .out_tty = true, .width = 80 };
	struct table t;
	struct arena a;
	struct buf out;

	(void)state;
	arena_init(&a, 65536);
	buf_init(&out, 65536);
	table_init(&t, columns, 3, &a);
	assert_int_equal(table_write(&t, &term, &out), 0);
	assert_int_equal(buf_peek(&out).len, 0);
	buf_fini(&out);
	arena_fini(&a);
}

static void
table_poor(void *arg)
{
	struct term term = { .out_tty = true, .width = 30 };
	struct buf out;
	int err;

	(void)arg;
	buf_init(&out, 65536);
	err = print_table(&term, &out);
	assert_true(err == 0 || err == ERR_NOMEM);
	buf_fini(&out);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(table_poor, NULL);
}

/* Exit codes ----------------------------------------------------------------
 */

static void
test_refusals(void **state)
{
	static const struct {
		long status;
		const char *code;
		int exit;
	} cases[] = {
		{ 400, "", 2 },
		{ 401, "", 4 },
		{ 403, "NOT_PERMITTED", 4 },
		{ 404, "", 5 },
		{ 409, "AGENT_OFFLINE", 6 },
		{ 409, "AGENT_STOPPED", 8 },
		{ 409, "SOMETHING_ELSE", 1 },
		{ 422, "", 2 },
		{ 429, "", 7 },
		{ 500, "", 1 },
		{ 503, "AGENT_OFFLINE", 6 },
		{ 504, "", 124 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(
		    exit_of_refusal(cases[i].status, slice_from(cases[i].code)),
		    cases[i].exit);
}

static int
exit_of(const char *json, bool *final, bool *remarked)
{
	static const struct js_limits limits = { 4096, 8 };
	struct arena a;
	struct js_doc doc;
	struct outcome o;
	int exit = -1;

	arena_init(&a, 65536);
	assert_int_equal(js_parse(&doc, slice_from(json), &limits, &a), 0);
	if (outcome_read(js_root(&doc), &o) == 0) {
		exit = exit_of_outcome(&o);
		*final = outcome_is_final(&o);
		*remarked = outcome_remark(&o) != NULL;
	}
	arena_fini(&a);
	return exit;
}

#define JOB(rest) "{\"id\":\"cmd_1\",\"state\":" rest "}"

static void
test_outcomes(void **state)
{
	static const struct {
		const char *json;
		int exit;
		bool remarked;
	} cases[] = {
		{ JOB("\"completed\",\"exit_code\":0,\"signal\":0"), 0, false },
		{ JOB("\"completed\",\"exit_code\":0,\"signal\":null,"
		      "\"code\":\"\",\"why\":null"),
		    0, false },
		{ JOB("\"failed\",\"exit_code\":3"), 3, false },
		{ JOB("\"failed\",\"exit_code\":256"), 0, false },
		{ JOB("\"failed\",\"exit_code\":null,\"signal\":11"), 139,
		    false },
		{ JOB("\"interrupted\",\"signal\":2"), 130, false },
		{ JOB("\"failed\",\"signal\":9,\"code\":\"TIMEOUT\""), 124,
		    true },
		{ JOB("\"failed\",\"code\":\"EXEC_FAILED\""), 125, true },
		{ JOB("\"failed\",\"code\":\"NOT_PERMITTED\""), 4, true },
		{ JOB("\"failed\",\"code\":\"AGENT_OFFLINE\""), 6, true },
		{ JOB("\"interrupted\",\"signal\":9,\"code\":"
		      "\"AGENT_STOPPED\""),
		    8, true },
		{ JOB("\"unknown\",\"code\":\"UNKNOWN_OUTCOME\""), 1, true },
		{ JOB("\"unknown\""), 1, true },
		{ JOB("\"expired\""), 125, true },
		{ JOB("\"cancelled\""), 125, true },
	};
	bool final, remarked;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(
		    exit_of(cases[i].json, &final, &remarked), cases[i].exit);
		assert_true(final);
		assert_int_equal(remarked, cases[i].remarked);
	}
	exit_of(JOB("\"queued\""), &final, &remarked);
	assert_false(final);
	exit_of(JOB("\"running\""), &final, &remarked);
	assert_false(final);
	assert_int_equal(exit_of("{\"id\":\"x\"}", &final, &remarked), -1);
	assert_int_equal(
	    exit_of(JOB("\"failed\",\"signal\":900"), &final, &remarked), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_json_keeps_its_value),
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_empty_tables),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_outcomes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
