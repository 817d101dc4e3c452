/* The rates of dashboards: windows that slide, and what a refusal costs. */
#include "support/unit.h"

#include "model/rate.h"

enum { SECOND = 1000, MINUTE = 60000, HOUR = 3600000 };

/* Ask n times at once; how many were let through. */
static int
ask(struct rate *r, struct rate_all *all, enum rate_class class, msec now,
    int n, struct rate_verdict *last)
{
	int ok = 0;

	for (int i = 0; i < n; i++) {
		rate_ask(r, all, class, now, last);
		ok += last->ok;
	}
	return ok;
}

static void
test_burst(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;
	msec now = 7777777;

	(void)state;
	assert_int_equal(ask(&r, &all, RATE_GENERAL, now, 10, &v), 10);
	assert_int_equal(ask(&r, &all, RATE_GENERAL, now, 1, &v), 0);
	assert_in_range(v.retry_after, 1, 2);
	assert_int_equal(v.second.used, 10);
	assert_int_equal(v.minute.used, 10);
	assert_int_equal(v.hour.limit, 1000);
	assert_false(v.close);
	/* Half of the window later nothing has left it. */
	assert_int_equal(ask(&r, &all, RATE_GENERAL, now + 500, 1, &v), 0);
	/* A whole one and a slot later all has. */
	assert_int_equal(ask(&r, &all, RATE_GENERAL, now + 1021, 11, &v), 10);
}

/* Five at the end of a second and five at the start of the next are ten. */
static void
test_slides(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;

	(void)state;
	assert_int_equal(ask(&r, &all, RATE_GENERAL, 900, 6, &v), 6);
	assert_int_equal(ask(&r, &all, RATE_GENERAL, 1400, 6, &v), 4);
	assert_int_equal(ask(&r, &all, RATE_GENERAL, 1960, 10, &v), 6);
}

static void
test_minute_and_hour(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;
	msec now = 0;
	int ok = 0;

	(void)state;
	for (int i = 0; i < 12; i++, now += 1100)
		ok += ask(&r, &all, RATE_GENERAL, now, 10, &v);
	assert_int_equal(ok, 100);
	assert_int_equal(v.minute.used, 100);
	assert_in_range(v.retry_after, 40, 62);
	/* A thousand an hour, however they are spread. */
	ok = 0;
	for (now = 10 * HOUR; now < 11 * HOUR; now += 3000)
		ok += ask(&r, &all, RATE_GENERAL, now, 1, &v);
	assert_int_equal(ok, 1000);
}

static void
test_own_limits(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;

	(void)state;
	assert_int_equal(ask(&r, &all, RATE_COMMAND, 5, 11, &v), 10);
	assert_int_equal(v.minute.limit, 10);
	assert_int_equal(v.hour.limit, 100);
	/* Neither is counted by the other. */
	assert_int_equal(ask(&r, &all, RATE_HEARTBEAT, 5, 61, &v), 60);
	assert_int_equal(ask(&r, &all, RATE_GENERAL, 5, 10, &v), 10);
	assert_int_equal(all.minute.total, 80);
}

static void
test_exempt(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;

	(void)state;
	ask(&r, &all, RATE_GENERAL, 5, 14, &v);
	assert_int_equal(ask(&r, &all, RATE_EXEMPT, 5, 100000, &v), 100000);
	assert_int_equal(all.hour.total, 10);
}

static void
test_fifth_refusal_closes(void **state)
{
	struct rate r = { .refusals = 0 };
	struct rate_all all = { 0 };
	struct rate_verdict v;
	msec now = 1000000;

	(void)state;
	/* Spread over more than a minute they are forgiven. */
	for (int i = 0; i < 9; i++, now += 20000) {
		ask(&r, &all, RATE_GENERAL, now, 11, &v);
		assert_false(v.ok);
		assert_false(v.close);
	}
	now += 10 * MINUTE;
	ask(&r, &all, RATE_GENERAL, now, 14, &v);
	assert_false(v.close);
	ask(&r, &all, RATE_GENERAL, now, 1, &v);
	assert_false(v.ok);
	assert_true(v.close);
}

static void
test_all_together(void **state)
{
	static struct rate r[200];
	struct rate_all all = { 0 };
	struct rate_verdict v;
	int ok = 0;

	(void)state;
	for (int i = 0; i < 200; i++)
		ok += ask(&r[i], &all, RATE_HEARTBEAT, 1, 60, &v);
	assert_int_equal(ok, 10000);
	/* What all have used up is not this one's account. */
	assert_int_equal(v.minute.used, 0);
	assert_int_equal(v.retry_after, 60);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_slides),
		cmocka_unit_test(test_minute_and_hour),
		cmocka_unit_test(test_own_limits),
		cmocka_unit_test(test_exempt),
		cmocka_unit_test(test_fifth_refusal_closes),
		cmocka_unit_test(test_all_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
