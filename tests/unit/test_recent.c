/* The ring of events told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/recent.h"

#include "support/oom.h"
#include "support/unit.h"

static void
put(struct recent *r, uint64_t number, const char *text)
{
	const struct recent_event e = { .notice = 100 + number,
		.text = slice_from(text) };

	recent_put(r, number, &e);
}

static void
test_order(void **state)
{
	struct recent r = { 0 };

	(void)state;
	assert_int_equal(recent_first(&r), r.next);
	for (uint64_t i = 5; i < 8; i++)
		put(&r, i, i == 6 ? "" : "text");
	assert_int_equal(recent_first(&r), 5);
	assert_int_equal(r.next, 8);
	assert_slice(recent_get(&r, 5)->text, SL("text"));
	assert_int_equal(recent_get(&r, 6)->text.len, 0);
	assert_int_equal(recent_get(&r, 7)->notice, 107);
	/* A hole: nobody can say what was in it. */
	put(&r, 9, "later");
	assert_int_equal(recent_first(&r), 9);
	assert_int_equal(r.next, 10);
	recent_fini(&r);
	recent_fini(&r);
}

static void
test_bounds(void **state)
{
	static char large[RECENT_BYTES / 4 + 1];
	struct recent r = { 0 };
	char text[16];

	(void)state;
	for (uint64_t i = 1; i <= 3 * RECENT_MAX; i++) {
		snprintf(text, sizeof(text), "%u", (unsigned)i);
		put(&r, i, text);
	}
	assert_int_equal(r.count, RECENT_MAX);
	assert_int_equal(recent_first(&r), 2 * RECENT_MAX + 1);
	assert_slice(recent_get(&r, 2 * RECENT_MAX + 1)->text, SL("2049"));
	memset(large, 'x', sizeof(large) - 1);
	for (uint64_t i = 1; i <= 6; i++)
		put(&r, 3 * RECENT_MAX + i, large);
	assert_int_equal(r.count, 4);
	assert_true(r.bytes <= RECENT_BYTES);
	recent_fini(&r);
	assert_int_equal(r.bytes, 0);
}

static void
without_memory(void *arg)
{
	struct recent r = { 0 };

	(void)arg;
	for (uint64_t i = 1; i < 5; i++) {
		put(&r, i, "text");
		assert_int_equal(r.next, i + 1);
		for (uint64_t n = recent_first(&r); n < r.next; n++)
			assert_slice(recent_get(&r, n)->text, SL("text"));
	}
	recent_fini(&r);
}

static void
test_oom(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
