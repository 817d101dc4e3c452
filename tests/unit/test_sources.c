#include "base/err.h"

#include "server/sources.h"

#include "support/oom.h"
#include "support/unit.h"

static struct address
at(const char *text)
{
	struct address a;

	assert_int_equal(address_parse(slice_from(text), &a), 0);
	return a;
}

static struct sources *
make(uint64_t all, uint64_t known, uint64_t strangers)
{
	const struct sources_limits l = {
		.all = all, .reserve = 2, .known = known, .strangers = strangers
	};
	struct sources *s = sources_new(&l);

	assert_non_null(s);
	return s;
}

static void
test_strangers_of_one_address(void **state)
{
	struct sources *s = make(100, 3, 2);
	struct address a = at("192.0.2.1"), b = at("192.0.2.2");
	bool reserved;

	(void)state;
	assert_int_equal(sources_enter(s, &a, &reserved), 0);
	assert_int_equal(sources_enter(s, &a, &reserved), 0);
	assert_int_equal(sources_enter(s, &a, &reserved), ERR_LIMITED);
	assert_int_equal(sources_enter(s, &b, &reserved), 0);
	/* Who has proved itself makes room for another stranger. */
	assert_int_equal(sources_know(s, &a, &a), 0);
	assert_int_equal(sources_enter(s, &a, &reserved), 0);
	assert_int_equal(sources_enter(s, &a, &reserved), ERR_LIMITED);
	sources_leave(s, &a, false);
	assert_int_equal(sources_enter(s, &a, &reserved), 0);
	sources_free(s);
}

static void
test_known_of_one_address(void **state)
{
	struct sources *s = make(100, 2, 100);
	struct address a = at("2001:db8::1");
	bool reserved;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(sources_enter(s, &a, &reserved), 0);
	assert_int_equal(sources_know(s, &a, &a), 0);
	assert_int_equal(sources_know(s, &a, &a), 0);
	assert_int_equal(sources_know(s, &a, &a), ERR_LIMITED);
	sources_leave(s, &a, true);
	assert_int_equal(sources_know(s, &a, &a), 0);
	sources_leave(s, &a, true);
	sources_leave(s, &a, true);
	/* By a proxy: of no address at first. */
	assert_int_equal(sources_enter(s, NULL, &reserved), 0);
	assert_int_equal(sources_know(s, NULL, &a), 0);
	sources_leave(s, &a, true);
	sources_free(s);
}

static void
test_all_and_the_last(void **state)
{
	struct sources *s = make(5, 10, 10);
	struct address a = at("192.0.2.1");
	bool reserved = true;

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(
		    sources_enter(s, i % 2 == 0 ? &a : NULL, &reserved), 0);
		assert_int_equal(reserved, i >= 3);
	}
	assert_int_equal(sources_enter(s, NULL, &reserved), ERR_FULL);
	sources_leave(s, NULL, false);
	assert_int_equal(sources_enter(s, &a, &reserved), 0);
	assert_true(reserved);
	sources_free(s);
}

static void
enter_and_leave(void *arg)
{
	const struct sources_limits l = {
		.all = 10, .reserve = 1, .known = 5, .strangers = 5
	};
	struct address a = at("192.0.2.1");
	struct sources *s = sources_new(&l);
	bool reserved;

	(void)arg;
	if (s == NULL)
		return;
	int err = sources_enter(s, &a, &reserved);
	assert_true(err == 0 || err == ERR_NOMEM);
	if (err == 0)
		sources_leave(s, &a, false);
	sources_free(s);
}

static void
test_out_of_memory(void **state)
{
	(void)state;
	oom_torture(enter_and_leave, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strangers_of_one_address),
		cmocka_unit_test(test_known_of_one_address),
		cmocka_unit_test(test_all_and_the_last),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
