/*
 * News of agents, calmed: on virtual time.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/newsfeed.h"

#include "support/oom.h"
#include "support/unit.h"

static const uint64_t seed[2] = { 3, 4 };
static const struct audience_set all = { { 1, 0, 0, 0 } };

static int
feed(struct newsfeed *f, const char *id, enum presence was, enum presence is,
    enum presence shown, msec now)
{
	const struct agent_news news = { .id = slice_from(id),
		.name = SL("n"),
		.presence = is,
		.shown = shown,
		.was_shown = was };
	const struct notice n = { .kind = NOTICE_PRESENCE, .agent = &news };

	return newsfeed_feed(f, &n, 1000 + now, &all, now);
}

static int
figures(struct newsfeed *f, const char *id, const char *json, msec now)
{
	const struct agent_news news = { .id = slice_from(id),
		.presence = PRESENCE_ONLINE,
		.shown = PRESENCE_ONLINE,
		.was_shown = PRESENCE_ONLINE,
		.metadata_json = slice_from(json) };
	const struct notice n = { .kind = NOTICE_METRICS, .agent = &news };

	return newsfeed_feed(f, &n, 1000 + now, &all, now);
}

static void
test_waits_for_quiet(void **state)
{
	struct newsfeed_item it;
	struct newsfeed f;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	newsfeed_init(&f, 10, seed);
	assert_true(newsfeed_deadline(&f) == INT64_MAX);
	assert_int_equal(feed(&f, "a", PRESENCE_OFFLINE, PRESENCE_JOINING,
			     PRESENCE_JOINING, 0),
	    0);
	assert_int_equal(
	    feed(&f, "a", PRESENCE_JOINING, PRESENCE_BUSY, PRESENCE_BUSY, 30),
	    0);
	assert_int_equal(newsfeed_deadline(&f), 80);
	assert_int_equal(newsfeed_next(&f, 79, &a, &it), 0);
	assert_int_equal(newsfeed_next(&f, 80, &a, &it), 1);
	assert_slice(it.news.id, SL("a"));
	assert_slice(it.news.name, SL("n"));
	assert_int_equal(it.news.shown, PRESENCE_BUSY);
	assert_int_equal(it.before, PRESENCE_OFFLINE);
	assert_false(it.metrics);
	assert_int_equal(it.at, 1030);
	assert_true(audience_has(&it.seen_by, 0));
	assert_int_equal(newsfeed_next(&f, 9999, &a, &it), 0);
	newsfeed_fini(&f);
	arena_fini(&a);
}

/* Who never rests is heard of every second all the same. */
static void
test_at_most_a_second(void **state)
{
	struct newsfeed_item it;
	struct newsfeed f;
	struct arena a;
	size_t told = 0;

	(void)state;
	arena_init(&a, 1 << 16);
	newsfeed_init(&f, 10, seed);
	for (msec now = 0; now < 5000; now += 10) {
		assert_int_equal(figures(&f, "a", "{}", now), 0);
		assert_true(newsfeed_deadline(&f) <= now + 50);
		while (newsfeed_next(&f, now, &a, &it) == 1)
			told++;
	}
	assert_int_equal(told, 4);
	newsfeed_fini(&f);
	arena_fini(&a);
}

/* A link that flaps within the grace changes nothing that is shown. */
static void
test_flap(void **state)
{
	struct newsfeed_item it;
	struct newsfeed f;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	newsfeed_init(&f, 10, seed);
	assert_int_equal(feed(&f, "a", PRESENCE_ONLINE, PRESENCE_RECONNECTING,
			     PRESENCE_ONLINE, 0),
	    0);
	assert_int_equal(newsfeed_next(&f, 1000, &a, &it), 0);
	assert_int_equal(feed(&f, "a", PRESENCE_ONLINE, PRESENCE_ONLINE,
			     PRESENCE_ONLINE, 2000),
	    0);
	assert_int_equal(newsfeed_next(&f, 3000, &a, &it), 0);
	/* Busy and back before anybody could have looked. */
	assert_int_equal(
	    feed(&f, "a", PRESENCE_ONLINE, PRESENCE_BUSY, PRESENCE_BUSY, 4000),
	    0);
	assert_int_equal(feed(&f, "a", PRESENCE_BUSY, PRESENCE_ONLINE,
			     PRESENCE_ONLINE, 4040),
	    0);
	assert_int_equal(newsfeed_next(&f, 5000, &a, &it), 0);
	assert_true(newsfeed_deadline(&f) == INT64_MAX);
	/* That it is gone for good is always told. */
	assert_int_equal(feed(&f, "a", PRESENCE_OFFLINE, PRESENCE_REMOVED,
			     PRESENCE_OFFLINE, 6000),
	    0);
	assert_int_equal(newsfeed_next(&f, 6050, &a, &it), 1);
	newsfeed_fini(&f);
	arena_fini(&a);
}

static void
test_full(void **state)
{
	struct newsfeed_item it;
	struct newsfeed f;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	newsfeed_init(&f, 2, seed);
	assert_int_equal(figures(&f, "a", "{\"x\":1}", 0), 0);
	assert_int_equal(figures(&f, "b", "{}", 0), 0);
	assert_int_equal(figures(&f, "c", "{}", 0), ERR_FULL);
	/* One that is known has its place. */
	assert_int_equal(figures(&f, "a", "{\"x\":2}", 10), 0);
	assert_int_equal(newsfeed_next(&f, 50, &a, &it), 1);
	assert_slice(it.news.id, SL("b"));
	assert_int_equal(newsfeed_next(&f, 60, &a, &it), 1);
	assert_slice(it.news.metadata_json, SL("{\"x\":2}"));
	assert_true(it.news.name.ptr == NULL);
	assert_int_equal(figures(&f, "c", "{}", 70), 0);
	newsfeed_fini(&f);
	arena_fini(&a);
}

/* Without memory news may be refused, and what is due stays due. */
static void
some_news(void *arg)
{
	struct newsfeed_item it;
	struct newsfeed f;
	struct arena a;
	size_t taken = 0, told = 0;
	int got;

	(void)arg;
	arena_init(&a, 1 << 16);
	newsfeed_init(&f, 10, seed);
	taken += figures(&f, "a", "{\"x\":1}", 0) == 0;
	taken += figures(&f, "b", "{\"x\":1}", 0) == 0;
	while ((got = newsfeed_next(&f, 100, &a, &it)) != 0)
		told += got == 1;
	assert_int_equal(told, taken);
	newsfeed_fini(&f);
	arena_fini(&a);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(some_news, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_for_quiet),
		cmocka_unit_test(test_at_most_a_second),
		cmocka_unit_test(test_flap),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
