/* What a word of `muster forward` means. */
#include "base/err.h"

#include "cli/forward_spec.h"

#include "support/guard.h"
#include "support/unit.h"

static int
parse(const char *text, const char *target, struct forward_spec *out)
{
	struct slice g = guard_copy(slice_from(text));
	int err = forward_spec_parse(g, slice_from(target), out);

	guard_free(g);
	return err;
}

static void
test_good(void **state)
{
	static const struct {
		const char *text, *target, *at, *to;
	} cases[] = {
		{ "8080:db:5432", NULL, "127.0.0.1:8080", "db:5432" },
		{ "0:db:1", NULL, "127.0.0.1:0", "db:1" },
		{ "*:80:db:5432", NULL, "*:80", "db:5432" },
		{ "localhost:80:db:1", NULL, "localhost:80", "db:1" },
		{ "[::1]:80:[2001:db8::7]:443", NULL, "[::1]:80",
		    "[2001:db8::7]:443" },
		{ "80:prod/web:8080", NULL, "127.0.0.1:80", "prod/web:8080" },
		{ "80", "prod/web:8080", "127.0.0.1:80", "prod/web:8080" },
		{ "[::]:80", "prod/web:8080", "[::]:80", "prod/web:8080" },
	};
	char at[FORWARD_WHERE], to[2 * FORWARD_WHERE];
	struct forward_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (parse(cases[i].text, cases[i].target, &s) != 0)
			fail_msg("%s", cases[i].text);
		forward_spec_at(&s, at);
		forward_spec_target(&s, to);
		assert_string_equal(at, cases[i].at);
		assert_string_equal(to, cases[i].to);
	}
}

static void
test_bad(void **state)
{
	static const char *const bad[] = { "", ":", "::", "80", "80:db",
		"80:db:", "80:db:0", "80:db:65536", "a:db:80", "80::80",
		":80:db:80", "1:2:3:4:5", "80:d b:80", "80:/web:80",
		"80:ns/:80", "80:db:80:", "-1:db:80", "80:[::1:80" };
	struct forward_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (parse(bad[i], NULL, &s) != ERR_INVALID)
			fail_msg("%s", bad[i]);
	assert_int_equal(parse("80:db:80", "a/b:1", &s), ERR_INVALID);
	assert_int_equal(parse("80", "a/b", &s), ERR_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
