#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cli/args.h"
#include "cli/verbs.h"

#include "support/oom.h"
#include "support/unit.h"

static const struct flag own[] = {
	{ "timeout", 0, "D", "" },
	{ NULL, 'd', NULL, "" },
	{ NULL, 'l', "K=V", "" },
	{ "env", 'e', "K=V", "" },
	{ NULL, 'n', NULL, "" },
};
static const struct flag shared[] = { { "json", 0, NULL, "" } };
static const struct flag_list lists[2] = { { own, 5 }, { shared, 1 } };

struct parsed {
	struct arena arena;
	struct args args;
	const char *culprit;
	int err;
};

static struct parsed
parse(const char *const *words)
{
	struct parsed p = { 0 };
	static char text[16][64];
	static char *argv[16];
	int argc = 0;

	for (; words[argc] != NULL; argc++) {
		snprintf(text[argc], sizeof(text[argc]), "%s", words[argc]);
		argv[argc] = text[argc];
	}
	arena_init(&p.arena, 65536);
	p.err = args_parse(argc, argv, lists, &p.arena, &p.args, &p.culprit);
	return p;
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void
test_words_and_options_mix(void **state)
{
	struct parsed p = PARSE("web-1", "--timeout=20s", "-d", "web-2",
	    "--json", "-", "--", "-d", "--json", "--");

	(void)state;
	assert_int_equal(p.err, 0);
	assert_int_equal(p.args.count, 3);
	assert_string_equal(p.args.words[0], "web-1");
	assert_string_equal(p.args.words[1], "web-2");
	assert_string_equal(p.args.words[2], "-");
	assert_string_equal(args_get(&p.args, "timeout"), "20s");
	assert_true(args_has(&p.args, "d"));
	assert_true(args_has(&p.args, "json"));
	assert_false(args_has(&p.args, "n"));
	assert_int_equal(p.args.tail_count, 3);
	assert_string_equal(p.args.tail[0], "-d");
	assert_string_equal(p.args.tail[2], "--");
	arena_fini(&p.arena);
}

static void
test_values(void **state)
{
	struct parsed p = PARSE("--timeout", "1s", "-dn", "-lsite=a", "-e",
	    "A=b", "--env=C=d=e", "-dl", "x=y", "--timeout", "2s");
	size_t at = 0;

	(void)state;
	assert_int_equal(p.err, 0);
	assert_int_equal(p.args.count, 0);
	assert_null(p.args.tail);
	assert_string_equal(args_get(&p.args, "timeout"), "2s");
	assert_string_equal(args_each(&p.args, "l", &at), "site=a");
	assert_string_equal(args_each(&p.args, "l", &at), "x=y");
	assert_null(args_each(&p.args, "l", &at));
	at = 0;
	assert_string_equal(args_each(&p.args, "env", &at), "A=b");
	assert_string_equal(args_each(&p.args, "env", &at), "C=d=e");
	arena_fini(&p.arena);
}

static void
test_an_empty_value_is_a_value(void **state)
{
	struct parsed p = PARSE("--timeout=", "--env", "");

	(void)state;
	assert_int_equal(p.err, 0);
	assert_string_equal(args_get(&p.args, "timeout"), "");
	assert_string_equal(args_get(&p.args, "env"), "");
	arena_fini(&p.arena);
}

static void
test_wrong_options(void **state)
{
	static const struct {
		const char *words[3];
		int err;
		const char *culprit;
	} cases[] = {
		{ { "--nope", NULL }, ERR_NOT_FOUND, "--nope" },
		{ { "--tim", NULL }, ERR_NOT_FOUND, "--tim" },
		{ { "-x", NULL }, ERR_NOT_FOUND, "-x" },
		{ { "-dx", NULL }, ERR_NOT_FOUND, "-dx" },
		{ { "web", "--timeout", NULL }, ERR_MISSING, "--timeout" },
		{ { "-l", NULL }, ERR_MISSING, "-l" },
		{ { "--json=1", NULL }, ERR_TYPE, "--json=1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct parsed p = parse(cases[i].words);

		assert_int_equal(p.err, cases[i].err);
		assert_string_equal(p.culprit, cases[i].culprit);
		arena_fini(&p.arena);
	}
}

static void
parse_poor(void *arg)
{
	struct parsed p = PARSE("-d", "a", "b");

	(void)arg;
	assert_true(p.err == 0 || p.err == ERR_NOMEM);
	arena_fini(&p.arena);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(parse_poor, NULL);
}

/* Every verb is found by its own words, and has all that help shows. */
static void
test_verbs(void **state)
{
	(void)state;
	for (size_t i = 0; i < verb_count; i++) {
		char name[32], sub[32] = "";
		char *argv[2] = { name, sub };
		const struct verb *v = &verbs[i];
		bool family;
		int used = 0;

		snprintf(name, sizeof(name), "%s", v->name);
		if (v->sub != NULL)
			snprintf(sub, sizeof(sub), "%s", v->sub);
		assert_ptr_equal(
		    verb_find(v->sub == NULL ? 1 : 2, argv, &used, &family), v);
		assert_int_equal(used, v->sub == NULL ? 1 : 2);
		assert_non_null(v->run);
		assert_true(strlen(v->summary) > 8 && strlen(v->summary) < 58);
		assert_true(v->min <= v->max);
		for (size_t f = 0; f < v->flags.count; f++)
			assert_true(strlen(v->flags.at[f].help) < 56);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_and_options_mix),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_an_empty_value_is_a_value),
		cmocka_unit_test(test_wrong_options),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_verbs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
