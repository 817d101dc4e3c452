/*
 * The queue of an agent: places, waits, news, purges, cordons.
 */
#include <stdio.h>

#include "base/err.h"

#include "support/queue_world.h"
#include "support/unit.h"

/* Places and waits --------------------------------------------------------- */

static void
test_places(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	expect("201 #1 sent\nopen #1\n201 #2 sent\nopen #2\n");
	/* Two run and nothing is known: 5 s each, two at a time. */
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", (struct wish){ .priority = -1 });
	expect("201 #3 queued 1/5000\n201 #4 queued 2/7500\n"
	       "201 #5 queued 3/10000\n");
	/* Who is more urgent goes before all of these. */
	run("a", (struct wish){ .priority = 1 });
	expect("201 #6 queued 1/5000\n");
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 4 waiting 2 running #1:"
	       " #6=1/5000 #3=2/7500 #4=3/10000 #5=4/12500\n");
}

static void
test_waits_follow_what_is_learnt(void **state)
{
	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 2; i++)
		run("a", (struct wish){ .argv = "[\"slow\"]" });
	for (int i = 0; i < 2; i++)
		run("a", (struct wish){ .argv = "[\"quick\"]" });
	run("a", (struct wish){ .argv = "[\"slow\"]" });
	forget();
	/* One slow took a minute: of quick ones nothing is known but that. */
	ends_after(1, 60000, 0);
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	expect("open #3\n200 2/90000\n");
	ends_after(3, 1000, 1);
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	/* slow #2 and quick #4 run: (60 + 1) / 2 s. */
	expect("open #4\n200 1/30500\n");
	/* Those that are cut short teach nothing. */
	struct event ev = rig_event(EVENT_COMMAND_EXIT, AGENT);
	ev.outcome.command_id = id_of(4);
	ev.outcome.interrupted = true;
	ev.outcome.started_at = 1;
	ev.outcome.finished_at = 900000;
	rig_input(&w.rig, &ev);
	run("a", (struct wish){ .argv = "[\"quick\"]" });
	expect("open #5\n201 #6 queued 1/60000\n");
}

/* More kinds of commands than there are means: those that wait keep theirs,
 * what is left over is counted with all. */
static void
test_more_kinds_than_means(void **state)
{
	char argv[32];

	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 100; i++) {
		snprintf(argv, sizeof(argv), "[\"job-%d\"]", i);
		run("a", (struct wish){ .argv = argv });
	}
	forget();
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(100));
	expect("200 98/247500\n");
	for (int i = 1; i <= 98; i++)
		ends_after(i, 1000, 0);
	forget();
	run("a", PLAIN);
	expect("201 #101 queued 1/1000\n");
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 1\n");
}

static void
test_what_takes_no_place(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	/* Attached ones run beside the queue, and add no wait. */
	run("a", (struct wish){ .foreground = true });
	expect("201 #4 sent\nopen #4\n");
	run("a", PLAIN);
	expect("201 #5 queued 2/7500\n");
	ask(OP_COMMAND_CANCEL, TOKEN_ROOT, id_of(3));
	expect("200 #3 cancelled\n");
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(5));
	expect("200 1/5000\n");
	/* One that has begun, and one that is over. */
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(1));
	ask(OP_COMMAND_SHOW, TOKEN_ROOT, id_of(3));
	expect("200\n200\n");
}

/* News --------------------------------------------------------------------- */

static void
test_news_are_gathered(void **state)
{
	(void)state;
	arrive("a", "exec");
	watch();
	later(1000);
	forget();
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	later(49);
	expect("");
	later(1);
	expect("news queue a 1 waiting 2 running #1: #3=1/5000\n");
	later(10000);
	expect("");
	/* What runs now is news, too. */
	struct event ev = rig_event(EVENT_COMMAND_STARTED, AGENT);
	ev.outcome.command_id = id_of(2);
	ev.outcome.started_at = w.rig.wall;
	rig_input(&w.rig, &ev);
	later(50);
	expect("news queue a 1 waiting 2 running #2: #3=1/5000\n");
}

static void
test_news_of_many(void **state)
{
	(void)state;
	arrive("a", "exec");
	watch();
	for (int i = 0; i < 1002; i++) {
		run("a", PLAIN);
		/* No user may ask more often than 600 times a minute. */
		later(120);
		forget();
	}
	run("a", PLAIN);
	expect("429 QUEUE_FULL\n");
	run("a", (struct wish){ .foreground = true });
	forget();
	later(50);
	expect("news queue a 1000 waiting 3 running #1: #3=1/5000 #4=2/7500"
	       " #5=3/10000 #6=4/12500 #7=5/15000 #8=6/17500 and 94 more\n");
	w.news = 0;
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 1000\n");
	later(50);
	expect("news queue a 0 waiting 3 running #1:\n");
	assert_int_equal(w.news, 1);
}

static void
test_nobody_watches(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	later(1000);
	assert_int_equal(w.news, 0);
	/* Who comes later hears of what changes then. */
	watch();
	run("a", PLAIN);
	later(50);
	assert_int_equal(w.news, 1);
}

/* Purging ------------------------------------------------------------------ */

static void
test_purge_rights(void **state)
{
	(void)state;
	arrive("a", "exec");
	for (int i = 0; i < 4; i++)
		run("a", PLAIN);
	forget();
	ask(OP_QUEUE_PURGE, TOKEN_VIEWER, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_OPERATOR, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_AGENT, SL("a"));
	ask(OP_QUEUE_SHOW, TOKEN_OPERATOR, SL("a"));
	expect("403 NOT_PERMITTED\n404 AGENT_NOT_FOUND\n403 NOT_PERMITTED\n"
	       "404 AGENT_NOT_FOUND\n");
	/* What runs goes on. */
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	expect("200 purged 2\n200 purged 0\n");
	ends_after(1, 1, 0);
	expect("");
}

/* An agent that has no room --------------------------------------------- */

static void
refuses(int command, const char *code)
{
	struct event ev = rig_event(EVENT_COMMAND_REFUSED, AGENT);

	ev.outcome.command_id = id_of(command);
	ev.outcome.code = slice_from(code);
	rig_input(&w.rig, &ev);
}

static void
starts(int command)
{
	struct event ev = rig_event(EVENT_COMMAND_STARTED, AGENT);

	ev.outcome.command_id = id_of(command);
	ev.outcome.started_at = w.rig.wall;
	rig_input(&w.rig, &ev);
}

static void
test_refused_for_now(void **state)
{
	(void)state;
	w.ends = true;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	/* They wait again, before what came later. */
	refuses(1, "RATE_LIMIT");
	refuses(2, "QUEUE_FULL");
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 3 waiting 0 running -: #1=1/0 #2=2/2500"
	       " #3=3/5000\n");
	/* What is new does not overtake. */
	run("a", PLAIN);
	expect("201 #4 queued 4/7500\n");
	later(999);
	expect("");
	/* One at a time, ever more rarely. */
	later(1);
	expect("open #1\n");
	refuses(1, "RATE_LIMIT");
	later(1999);
	expect("");
	later(1);
	expect("open #1\n");
	/* It starts: all may go again. */
	starts(1);
	expect("open #2\n");
	ends_after(1, 10, 0);
	ends_after(2, 10, 0);
	expect("#1 completed\nopen #3\n#2 completed\nopen #4\n");
	/* Other refusals are the end, and of attached ones all are. */
	refuses(3, "NOT_PERMITTED");
	expect("#3 failed: \n");
	run("a", (struct wish){ .foreground = true });
	forget();
	refuses(5, "RATE_LIMIT");
	expect("#5 failed\n");
}

static void
test_refused_and_the_disk_fails(void **state)
{
	(void)state;
	w.ends = true;
	arrive("a", "exec");
	run("a", PLAIN);
	forget();
	w.fail_verb = OP_COMMAND_BACK;
	w.store_err = ERR_IO;
	refuses(1, "RATE_LIMIT");
	expect("#1 failed\n");
	later(5000);
	expect("");
}

/* A refusal and a break: the new link begins afresh. */
static void
test_refused_and_gone(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	refuses(1, "RATE_LIMIT");
	leave();
	run("a", PLAIN);
	forget();
	arrive("a", "exec");
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 0 waiting 2 running #1:\n");
}

/* Cordons ------------------------------------------------------------------ */

static void
test_cordon(void **state)
{
	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	ask(OP_AGENT_CORDON, TOKEN_VIEWER, SL("a"));
	ask(OP_AGENT_CORDON, TOKEN_OPERATOR, SL("a"));
	expect("403 NOT_PERMITTED\n404 AGENT_NOT_FOUND\n");
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	expect("200 a cordoned\n");
	/* What runs ends, what waits stays, what is new waits or is
	 * refused. */
	ends_after(1, 1000, 0);
	run("a", PLAIN);
	run("a", (struct wish){ .foreground = true });
	run("a", (struct wish){ .or_fail = true });
	expect("201 #4 queued 2/1000\n409 CORDONED\n409 CORDONED\n");
	run("a", (struct wish){ .foreground = true, .force = true });
	expect("201 #5 sent\nopen #5\n");
	/* Twice is no change; it is stored, so a new link changes nothing. */
	size_t ops = w.ops;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	assert_int_equal(w.ops, ops);
	expect("200 a cordoned\n");
	ask(OP_AGENT_UNCORDON, TOKEN_ROOT, SL("a"));
	expect("200 a\nopen #3\n");
}

static void
test_cordon_not_stored(void **state)
{
	(void)state;
	arrive("a", "exec");
	w.fail_verb = OP_PUT_AGENT;
	w.store_err = ERR_IO;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	expect("503 STORE_FAILED\n");
	run("a", PLAIN);
	expect("201 #1 sent\nopen #1\n");
	w.fail_verb = 0;
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	run("a", PLAIN);
	expect("200 a cordoned\n201 #2 queued 1/2500\n");
	w.fail_verb = OP_PUT_AGENT;
	ask(OP_AGENT_UNCORDON, TOKEN_ROOT, SL("a"));
	expect("503 STORE_FAILED\n");
	ask(OP_AGENT_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 a cordoned\n");
}

/* What waits past its deadline is over, cordoned or not. */
static void
test_cordoned_expire(void **state)
{
	(void)state;
	arrive("a", "exec");
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	run("a", (struct wish){ .deadline = 5000 });
	forget();
	later(6000);
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 0 waiting 0 running - cordoned:\n");
}

int
main(void)
{
#define QUEUE_TEST(f) \
	cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(test_places),
		QUEUE_TEST(test_waits_follow_what_is_learnt),
		QUEUE_TEST(test_more_kinds_than_means),
		QUEUE_TEST(test_what_takes_no_place),
		QUEUE_TEST(test_news_are_gathered),
		QUEUE_TEST(test_news_of_many),
		QUEUE_TEST(test_nobody_watches),
		QUEUE_TEST(test_purge_rights),
		QUEUE_TEST(test_refused_for_now),
		QUEUE_TEST(test_refused_and_the_disk_fails),
		QUEUE_TEST(test_refused_and_gone),
		QUEUE_TEST(test_cordon),
		QUEUE_TEST(test_cordon_not_stored),
		QUEUE_TEST(test_cordoned_expire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
