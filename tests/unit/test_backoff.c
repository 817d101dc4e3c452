/* Waiting before the next try. */
#include "agent/backoff.h"

#include "support/unit.h"

static void
test_doubles(void **state)
{
	static const msec want[] = { 1000, 2000, 4000, 8000, 16000, 32000,
		60000, 60000, 60000 };
	struct backoff b;

	(void)state;
	for (int high = 0; high < 2; high++) {
		backoff_reset(&b);
		for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
			msec wait = backoff_next(
			    &b, BACKOFF_LOST, high ? UINT32_MAX : 0);
			assert_int_equal(wait, high ? want[i] : want[i] / 2);
		}
	}
}

static void
test_refused(void **state)
{
	struct backoff b;
	msec last = 0;

	(void)state;
	backoff_reset(&b);
	assert_int_equal(backoff_next(&b, BACKOFF_REFUSED, UINT32_MAX), 300000);
	for (int i = 0; i < 20; i++)
		last = backoff_next(&b, BACKOFF_REFUSED, UINT32_MAX);
	assert_int_equal(last, 3600000);
	/* The two count apart, and a reset forgets both. */
	assert_int_equal(backoff_next(&b, BACKOFF_LOST, UINT32_MAX), 1000);
	backoff_reset(&b);
	assert_int_equal(backoff_next(&b, BACKOFF_REFUSED, UINT32_MAX), 300000);
}

static void
test_asked(void **state)
{
	(void)state;
	assert_int_equal(backoff_asked(20000, 0), 20000);
	assert_in_range(backoff_asked(20000, UINT32_MAX), 24999, 25000);
	assert_int_equal(backoff_asked(0, 0), 1000);
	assert_int_equal(backoff_asked(INT64_MAX, 0), 3600000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
