/* Who sends next. */
#include "wire/sched.h"

#include "support/unit.h"

static void
test_soon_first(void **state)
{
	struct sched s;
	struct sched_item bulk, soon;

	(void)state;
	sched_init(&s);
	sched_item_init(&bulk);
	sched_item_init(&soon);
	assert_null(sched_next(&s));
	assert_false(sched_any(&s));
	sched_set(&s, &bulk, TURN_BULK);
	assert_ptr_equal(sched_next(&s), &bulk);
	sched_set(&s, &soon, TURN_SOON);
	assert_ptr_equal(sched_next(&s), &soon);
	sched_set(&s, &soon, TURN_IDLE);
	assert_ptr_equal(sched_next(&s), &bulk);
	sched_set(&s, &bulk, TURN_SOON);
	assert_ptr_equal(sched_next(&s), &bulk);
	sched_set(&s, &bulk, TURN_IDLE);
	assert_false(sched_any(&s));
}

/* What somebody waits for goes between the two. */
static void
test_classes(void **state)
{
	struct sched s;
	struct sched_item items[3];

	(void)state;
	sched_init(&s);
	for (int i = 0; i < 3; i++) {
		sched_item_init(&items[i]);
		sched_set(&s, &items[i], (enum sched_turn)(TURN_BULK + i));
	}
	for (int i = 2; i >= 0; i--) {
		assert_ptr_equal(sched_next(&s), &items[i]);
		sched_spent(&s, &items[i], SCHED_QUANTUM);
		assert_ptr_equal(sched_next(&s), &items[i]);
		sched_set(&s, &items[i], TURN_IDLE);
	}
	assert_null(sched_next(&s));
}

/* One sends small frames, one large ones: bytes are shared, not frames. */
static void
test_fair(void **state)
{
	static const size_t frame[3] = { 16000, 1000, 7000 };
	struct sched_item items[3];
	size_t sent[3] = { 0 };
	struct sched s;

	(void)state;
	sched_init(&s);
	for (int i = 0; i < 3; i++) {
		sched_item_init(&items[i]);
		sched_set(&s, &items[i], TURN_BULK);
	}
	for (int n = 0; n < 3000; n++) {
		struct sched_item *next = sched_next(&s);
		size_t i = (size_t)(next - items);
		sent[i] += frame[i];
		sched_spent(&s, next, frame[i]);
	}
	for (int i = 0; i < 3; i++) {
		assert_true(sent[i] * 10 > sent[0] * 6);
		assert_true(sent[i] * 10 < sent[0] * 14);
	}
}

/* A new class means a new place; the same class keeps the old one. */
static void
test_places(void **state)
{
	struct sched_item a, b;
	struct sched s;

	(void)state;
	sched_init(&s);
	sched_item_init(&a);
	sched_item_init(&b);
	sched_set(&s, &a, TURN_BULK);
	sched_set(&s, &b, TURN_BULK);
	sched_set(&s, &a, TURN_BULK);
	assert_ptr_equal(sched_next(&s), &a);
	sched_spent(&s, &a, 0);
	assert_ptr_equal(sched_next(&s), &b);
	sched_spent(&s, &b, SCHED_QUANTUM - 1);
	assert_ptr_equal(sched_next(&s), &b);
	sched_spent(&s, &b, 1);
	assert_ptr_equal(sched_next(&s), &a);
	/* What has gone idle meanwhile is not put back. */
	sched_set(&s, &a, TURN_IDLE);
	sched_spent(&s, &a, SCHED_QUANTUM);
	assert_ptr_equal(sched_next(&s), &b);
}

/* What was silent goes before bulk, which is not starved by it. */
static void
test_brisk(void **state)
{
	struct sched_item bulk, brisk[2];
	struct sched s;
	size_t turns = 0;

	(void)state;
	sched_init(&s);
	sched_item_init(&bulk);
	sched_set(&s, &bulk, TURN_BULK);
	for (int i = 0; i < 2; i++) {
		sched_item_init(&brisk[i]);
		sched_set(&s, &brisk[i], TURN_BRISK);
	}
	for (int n = 0; n < 900; n++) {
		struct sched_item *next = sched_next(&s);
		turns += next == &bulk;
		sched_spent(&s, next, SCHED_QUANTUM);
	}
	assert_int_equal(turns, 100);
	sched_set(&s, &bulk, TURN_SOON);
	assert_ptr_equal(sched_next(&s), &bulk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_soon_first),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_brisk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
