/*
 * What every lane must hear, by a lane whose mailbox takes one mail at a
 * time: nothing of it is lost, and the newest list is the last.
 */
#include "base/err.h"

#include "server/router.h"

#include "support/unit.h"

static struct {
	struct server server;
	struct lane lane;
	struct router *router;
	struct batch batch;
} w;

static int
begin(void **state)
{
	const struct mailbox_config c = { .caps = { 1, 1 },
		.arena_cap = 1 << 16 };

	(void)state;
	memset(&w, 0, sizeof(w));
	mailbox_init(&w.lane.to_lane, &c);
	/* Never the last reference: there is no core to go home to. */
	atomic_init(&w.batch.refs, 1);
	w.router = router_new(&w.server);
	assert_non_null(w.router);
	router_add_lane(w.router, &w.lane);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	mailbox_flush(&w.lane.to_lane);
	router_discard(w.router, &w.lane);
	mailbox_done(&w.lane.to_lane);
	assert_int_equal(atomic_load(&w.batch.refs), 1);
	router_free(w.router);
	mailbox_fini(&w.lane.to_lane);
	return 0;
}

static void
tell(const struct effect *e)
{
	router_perform(w.router, &w.batch, e);
}

/* The next mail, taken as a lane does; NULL when there is none. */
static const struct lane_mail *
take(void)
{
	static struct lane_mail copy;
	struct mail *m;

	mailbox_flush(&w.lane.to_lane);
	m = mailbox_take(&w.lane.to_lane, MAIL_NORMAL);
	if (m == NULL)
		return NULL;
	copy = *(struct lane_mail *)(void *)m;
	mailbox_done(&w.lane.to_lane);
	if (copy.word == LANE_EFFECT)
		batch_drop(copy.batch);
	return &copy;
}

static void
test_newest_list(void **state)
{
	const struct effect lists[4] = { { .kind = EFFECT_ROUTES },
		{ .kind = EFFECT_ROUTES }, { .kind = EFFECT_ROUTES },
		{ .kind = EFFECT_ROUTES } };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		tell(&lists[i]);
	/* One on its way and one owed: those between were for nobody. */
	assert_int_equal(atomic_load(&w.batch.refs), 3);
	assert_true(router_retry(w.router));
	assert_ptr_equal(take()->effect, &lists[0]);
	assert_false(router_retry(w.router));
	assert_ptr_equal(take()->effect, &lists[2]);
	assert_null(take());
	tell(&lists[3]);
	assert_ptr_equal(take()->effect, &lists[3]);
	assert_int_equal(atomic_load(&w.batch.refs), 1);
}

static void
test_lost_withdrawals(void **state)
{
	const struct effect soft = { .kind = EFFECT_WITHDRAW };
	const struct effect hard = { .kind = EFFECT_WITHDRAW,
		.withdrawal = { .cut = true } };
	const struct lane_mail *m;

	(void)state;
	tell(&soft);
	tell(&soft);
	assert_ptr_equal(take()->effect, &soft);
	assert_false(router_retry(w.router));
	m = take();
	assert_int_equal(m->word, LANE_FORGET);
	assert_false(m->cut.all);
	/* Of several the hardest holds. */
	tell(&soft);
	tell(&hard);
	tell(&soft);
	assert_ptr_equal(take()->effect, &soft);
	assert_false(router_retry(w.router));
	m = take();
	assert_int_equal(m->word, LANE_FORGET);
	assert_true(m->cut.all);
	assert_null(take());
}

/* What is owed when the end comes is nobody's any more. */
static void
test_end(void **state)
{
	const struct effect list = { .kind = EFFECT_ROUTES };

	(void)state;
	tell(&list);
	tell(&list);
	assert_int_equal(atomic_load(&w.batch.refs), 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_newest_list),
		TEST(test_lost_withdrawals),
		TEST(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
