#include <stddef.h>
#include <string.h>

#include "base/conf.h"
#include "base/err.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct arena arena;
static struct buf out;
static const struct conf_limits limits = { 10000, 100 };

static void
assert_entry(const struct conf_entry *e, struct slice section, struct slice key,
    struct slice value)
{
	assert_slice(e->section, section);
	assert_slice(e->key, key);
	assert_slice(e->value, value);
}

static void
test_whole(void **state)
{
	static const struct slice text =
	    SL_INIT("\xef\xbb\xbf# muster\r\n"
		    "listen = 127.0.0.1:7700\r\n"
		    "\r\n"
		    "  a.b-c_1=x#y;z # comment\n"
		    "q = \"a # \\\"b\\\"\\n\" ; c\n"
		    "empty =\n"
		    "none = ; nothing\n"
		    "[limits]\n"
		    "depth = 64\n"
		    "[route \"a ] b\"] # here\n"
		    "to=\"\"\n"
		    "[limits]");
	struct conf_doc doc;

	(void)state;
	arena_reset(&arena);
	struct slice s = guard_copy(text);
	assert_int_equal(conf_parse(s, &arena, &limits, &doc), 0);
	assert_int_equal(doc.count, 10);
	const struct conf_entry *e = doc.entries;
	assert_entry(&e[0], SL(""), SL("listen"), SL("127.0.0.1:7700"));
	assert_int_equal(e[0].line, 2);
	assert_entry(&e[1], SL(""), SL("a.b-c_1"), SL("x#y;z"));
	assert_int_equal(e[1].line, 4);
	assert_entry(&e[2], SL(""), SL("q"), SL("a # \"b\"\n"));
	assert_entry(&e[3], SL(""), SL("empty"), SL(""));
	assert_entry(&e[4], SL(""), SL("none"), SL(""));
	assert_non_null(e[4].value.ptr);
	assert_entry(&e[5], SL("limits"), SL(""), SL(""));
	assert_entry(&e[6], SL("limits"), SL("depth"), SL("64"));
	assert_null(e[6].name.ptr);
	assert_slice(e[7].name, SL("a ] b"));
	assert_entry(&e[8], SL("route"), SL("to"), SL(""));
	assert_slice(e[8].name, SL("a ] b"));
	assert_int_equal(e[9].line, 12);
	guard_free(s);
}

static void
test_refused(void **state)
{
	static const struct {
		struct slice text;
		int err;
		uint32_t line;
		const char *key;
	} bad[] = {
		{ SL_INIT("a = 1\nb\n"), ERR_INVALID, 2, "" },
		{ SL_INIT("= 1"), ERR_INVALID, 1, "" },
		{ SL_INIT("a b = 1"), ERR_INVALID, 1, "" },
		{ SL_INIT("a = \"x"), ERR_INVALID, 1, "a" },
		{ SL_INIT("a = \"x\\"), ERR_INVALID, 1, "a" },
		{ SL_INIT("a = \"x\\q\""), ERR_INVALID, 1, "a" },
		{ SL_INIT("a = \"x\" y"), ERR_INVALID, 1, "a" },
		{ SL_INIT("a = \"x\"#y"), ERR_INVALID, 1, "a" },
		{ SL_INIT("a = \"x\"]"), ERR_INVALID, 1, "a" },
		{ SL_INIT("\n\n[x"), ERR_INVALID, 3, "" },
		{ SL_INIT("[]"), ERR_INVALID, 1, "" },
		{ SL_INIT("[x \"y]"), ERR_INVALID, 1, "" },
		{ SL_INIT("[x] y = 1"), ERR_INVALID, 1, "" },
		{ SL_INIT("a = b\0c"), ERR_INVALID, 1, "" },
		{ SL_INIT("a = b\rc"), ERR_INVALID, 1, "" },
		{ SL_INIT("a = \xff"), ERR_UTF8, 1, "" },
	};
	struct conf_doc doc;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		arena_reset(&arena);
		struct slice s = guard_copy(bad[i].text);
		assert_int_equal(
		    conf_parse(s, &arena, &limits, &doc), bad[i].err);
		assert_int_equal(doc.error_line, bad[i].line);
		assert_slice(doc.error_key, slice_from(bad[i].key));
		guard_free(s);
	}
	struct conf_limits few = { 5, 1 };
	assert_int_equal(
	    conf_parse(SL("a=1\nb=2"), &arena, &few, &doc), ERR_TOO_BIG);
	few.bytes = 100;
	assert_int_equal(
	    conf_parse(SL("a=1\nb=2"), &arena, &few, &doc), ERR_FULL);
	assert_int_equal(doc.error_line, 2);
}

static void
test_values(void **state)
{
	msec t = -1;
	uint64_t n = 0;
	bool b = false;

	(void)state;
	static const struct {
		const char *text;
		msec value;
	} times[] = { { "0", 0 }, { "250ms", 250 }, { "30s", 30000 },
		{ "5m", 300000 }, { "24h", 86400000 }, { "7d", 604800000 },
		{ "1h30m", 5400000 }, { "1m5ms", 60005 } };
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		assert_int_equal(
		    conf_duration(slice_from(times[i].text), &t), 0);
		assert_int_equal(t, times[i].value);
	}
	static const char *const bad_times[] = { "", "5", "s", "5x", "5 s",
		"-5s", "5s5s", "30m1h", "1.5h", "5S" };
	for (size_t i = 0; i < sizeof(bad_times) / sizeof(bad_times[0]); i++)
		assert_int_equal(
		    conf_duration(slice_from(bad_times[i]), &t), ERR_INVALID);
	assert_int_equal(conf_duration(SL("106751991167d"), &t), 0);
	assert_int_equal(conf_duration(SL("106751991168d"), &t), ERR_RANGE);

	assert_int_equal(conf_size(SL("64K"), &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(conf_size(SL("16MiB"), &n), 0);
	assert_int_equal(n, 16 << 20);
	assert_int_equal(conf_size(SL("512"), &n), 0);
	assert_int_equal(n, 512);
	assert_int_equal(conf_size(SL("16777215T"), &n), 0);
	assert_int_equal(conf_size(SL("16777216T"), &n), ERR_RANGE);
	assert_int_equal(conf_size(SL("64KB"), &n), ERR_INVALID);
	assert_int_equal(conf_size(SL("K"), &n), ERR_INVALID);

	assert_int_equal(conf_bool(SL("Yes"), &b), 0);
	assert_true(b);
	assert_int_equal(conf_bool(SL("off"), &b), 0);
	assert_false(b);
	assert_int_equal(conf_bool(SL("maybe"), &b), ERR_INVALID);
}

struct settings {
	struct slice data;
	bool dev;
	uint64_t lanes, memory;
	msec grace;
};

static const struct conf_option options[] = {
	{ "listen", CONF_MANY, CONF_RESTART, 0, 0, NULL, "Where to listen.",
	    0 },
	{ "data", CONF_TEXT, CONF_RESTART, 1, 10, "/var", "The folder.",
	    offsetof(struct settings, data) },
	{ "dev", CONF_BOOL, CONF_RESTART, 0, 0, "no", "For developers.",
	    offsetof(struct settings, dev) },
	{ "lanes", CONF_COUNT, CONF_RESTART, 1, 64, "1", "Threads.",
	    offsetof(struct settings, lanes) },
	{ "memory_limit", CONF_SIZE, CONF_HOT, 1 << 20, 0, "64MiB", "Memory.",
	    offsetof(struct settings, memory) },
	{ "grace", CONF_DURATION, CONF_HOT, 1000, 3600000, "30s",
	    "Time to drain.", offsetof(struct settings, grace) },
};
static const struct conf_table table = { options,
	sizeof(options) / sizeof(options[0]) };

static void
assert_explained(const struct conf_problem *p, struct slice text)
{
	buf_clear(&out);
	conf_explain(p, &out);
	assert_slice(buf_peek(&out), text);
}

static void
test_options(void **state)
{
	static const struct slice text =
	    SL_INIT("listen = a\nlisten = b\n"
		    "lanes = 4\nlaens = 5\nlanes = 6\n"
		    "grace = 2h\ndev = perhaps\nentirely_other = 1\n"
		    "data = \"\"\nmemory_limit = 128M\n"
		    "[other]\nnot_ours = 1\n");
	struct settings s = { 0 };
	struct conf_problem p;
	struct conf_doc doc;
	size_t at = 0;

	(void)state;
	arena_reset(&arena);
	assert_int_equal(conf_parse(text, &arena, &limits, &doc), 0);
	conf_defaults(&table, &s);
	assert_slice(s.data, SL("/var"));
	assert_int_equal(s.grace, 30000);
	assert_int_equal(s.lanes, 1);

	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_NOT_FOUND);
	assert_explained(
	    &p, SL("line 4: unknown key \"laens\", did you mean \"lanes\"?"));
	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_DUPLICATE);
	assert_explained(&p, SL("line 5: \"lanes\" is set already on line 3"));
	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_RANGE);
	assert_explained(
	    &p, SL("line 6: \"grace\" is \"2h\", allowed is 1s to 1h"));
	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_INVALID);
	assert_explained(
	    &p, SL("line 7: \"dev\" is \"perhaps\", expected yes or no"));
	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_NOT_FOUND);
	assert_explained(&p, SL("line 8: unknown key \"entirely_other\""));
	assert_int_equal(
	    conf_apply(&table, &doc, SL(""), &s, &at, &p), ERR_RANGE);
	assert_explained(
	    &p, SL("line 9: \"data\" is \"\", allowed is 1 bytes to 10 bytes"));
	assert_int_equal(conf_apply(&table, &doc, SL(""), &s, &at, &p), 0);

	assert_int_equal(s.lanes, 4);
	assert_int_equal(s.memory, 128 << 20);
	assert_int_equal(s.grace, 30000);
	assert_slice(s.data, SL("/var"));
	assert_int_equal(
	    conf_set(conf_find(&table, SL("dev")), SL("on"), &s), 0);
	assert_true(s.dev);
	assert_null(conf_find(&table, SL("de")));
}

static void
test_describe(void **state)
{
	(void)state;
	buf_clear(&out);
	conf_describe(conf_find(&table, SL("grace")), &out);
	assert_slice(buf_peek(&out),
	    SL("grace (duration, 1s to 1h, default 30s, reload hot): "
	       "Time to drain."));
	buf_clear(&out);
	conf_describe(conf_find(&table, SL("memory_limit")), &out);
	assert_slice(buf_peek(&out),
	    SL("memory_limit (size, at least 1MiB, default 64MiB, "
	       "reload hot): Memory."));
}

static void
parse_some(void *arg)
{
	struct conf_doc doc;
	struct arena a;
	struct buf text;

	(void)arg;
	arena_init(&a, 1 << 20);
	buf_init(&text, 10000);
	for (int i = 0; i < 90; i++)
		buf_put(&text, SL("key = \"a\\nb\"\n"));
	int err = text.err;
	if (err == 0)
		err = conf_parse(buf_peek(&text), &a, &limits, &doc);
	assert_true(err == 0 ? doc.count == 90 : err == ERR_NOMEM);
	buf_fini(&text);
	arena_fini(&a);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(parse_some, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_no_memory),
	};

	arena_init(&arena, 1 << 20);
	buf_init(&out, 1000);
	int failed = cmocka_run_group_tests_name("conf", tests, NULL, NULL);
	buf_fini(&out);
	arena_fini(&arena);
	return failed;
}
