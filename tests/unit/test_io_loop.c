#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/loop.h"

#include "support/oom.h"
#include "support/unit.h"

enum { TIMERS = 64 };

static struct loop loop;
static char story[256];

static int
start(void **state)
{
	(void)state;
	story[0] = '\0';
	return loop_init(&loop, TIMERS);
}

static int
end(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static void
tell(char c)
{
	size_t n = strlen(story);

	assert_true(n + 1 < sizeof(story));
	story[n] = c;
	story[n + 1] = '\0';
}

/* A task that writes its letter. */
struct teller {
	struct loop_task task;
	char letter;
};

static void
tell_letter(struct loop_task *t)
{
	tell(LIST_OF(t, struct teller, task)->letter);
}

static void
teller_init(struct teller *t, char letter)
{
	loop_task_init(&t->task, tell_letter);
	t->letter = letter;
}

static void
test_phases(void **state)
{
	static struct teller hooks[LOOP_PHASES], later, grave, dropped;

	(void)state;
	teller_init(&later, 'd');
	teller_init(&grave, 'b');
	teller_init(&dropped, 'x');
	loop_bury(&loop, &grave.task);
	loop_defer(&loop, &later.task);
	loop_defer(&loop, &later.task);
	loop_defer(&loop, &dropped.task);
	loop_task_drop(&dropped.task);
	loop_task_drop(&dropped.task);
	for (int i = LOOP_PHASES - 1; i >= 0; i--) {
		teller_init(&hooks[i], (char)('0' + i));
		loop_hook(&loop, (enum loop_phase)i, &hooks[i].task);
	}
	loop_turn(&loop, false);
	assert_string_equal(story, "d012345b");
	loop_turn(&loop, false);
	assert_string_equal(story, "d012345b012345");
	loop_task_drop(&hooks[2].task);
	loop_turn(&loop, false);
	assert_string_equal(story, "d012345b01234501345");
}

static int rounds;

static void
defer_again(struct loop_task *t)
{
	if (++rounds < 5)
		loop_defer(&loop, t);
}

/* A task that defers itself runs once a turn, and the loop does not block. */
static void
test_defer_again(void **state)
{
	struct loop_task t;

	(void)state;
	rounds = 0;
	loop_task_init(&t, defer_again);
	loop_defer(&loop, &t);
	for (int i = 1; i <= 5; i++) {
		loop_turn(&loop, true);
		assert_int_equal(rounds, i);
	}
}

static struct teller second;

static void
drop_second(struct loop_task *t)
{
	(void)t;
	tell('f');
	loop_task_drop(&second.task);
}

/* A hook may take off one that is still to come in the same turn. */
static void
test_drop_while_running(void **state)
{
	struct loop_task first;

	(void)state;
	loop_task_init(&first, drop_second);
	teller_init(&second, 's');
	loop_hook(&loop, LOOP_SEND, &first);
	loop_hook(&loop, LOOP_SEND, &second.task);
	loop_turn(&loop, false);
	loop_turn(&loop, false);
	assert_string_equal(story, "ff");
}

struct clockwork {
	struct loop_timer timer;
	char letter;
};

static void
ring(struct loop_timer *t)
{
	tell(LIST_OF(t, struct clockwork, timer)->letter);
	if (strchr(story, 'z') != NULL)
		loop_stop(&loop);
}

static void
test_timers(void **state)
{
	struct clockwork c[5] = { { .letter = 'b' }, { .letter = 'a' },
		{ .letter = 'x' }, { .letter = 'c' }, { .letter = 'z' } };
	msec t0 = loop_now(&loop);
	msec due[5] = { 12, 4, 8, 16, 20 };

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(
		    loop_timer_set(&loop, &c[i].timer, t0 + due[i], ring), 0);
	loop_timer_stop(&loop, &c[2].timer);
	loop_timer_stop(&loop, &c[2].timer);
	loop_run(&loop);
	assert_string_equal(story, "abcz");
	assert_true(loop_now(&loop) - t0 >= 20);
	assert_true(clock_mono() - t0 >= 20);
	/* Moved to the front, it fires first. */
	story[0] = '\0';
	t0 = loop_now(&loop);
	loop_timer_set(&loop, &c[0].timer, t0 + 2, ring);
	loop_timer_set(&loop, &c[4].timer, t0 + 60000, ring);
	loop_timer_set(&loop, &c[4].timer, t0 - 5, ring);
	loop_run(&loop);
	assert_string_equal(story, "z");
	assert_true(loop_lag(&loop) >= 5);
	assert_int_equal(loop_lag(&loop), 0);
	loop_timer_stop(&loop, &c[0].timer);
}

static void
ring_at_once(struct loop_timer *t)
{
	if (++rounds < 100)
		loop_timer_set(&loop, t, 0, ring_at_once);
}

/* A timer in the past fires once a turn: others get their turn too. */
static void
test_timer_storm(void **state)
{
	struct loop_timer t = { 0 };

	(void)state;
	rounds = 0;
	loop_timer_set(&loop, &t, 0, ring_at_once);
	loop_turn(&loop, false);
	loop_turn(&loop, false);
	assert_in_range(rounds, 1, 4);
	loop_timer_stop(&loop, &t);
}

static void
test_timer_caps(void **state)
{
	static struct loop_timer t[TIMERS + 1];

	(void)state;
	memset(t, 0, sizeof(t));
	oom_fail_at(1);
	assert_int_equal(loop_timer_set(&loop, &t[0], 1, ring), ERR_NOMEM);
	assert_true(oom_happened());
	for (int i = 0; i < TIMERS; i++)
		assert_int_equal(loop_timer_set(&loop, &t[i], 1, ring), 0);
	assert_int_equal(loop_timer_set(&loop, &t[TIMERS], 1, ring), ERR_FULL);
	assert_int_equal(loop_timer_set(&loop, &t[3], 0, ring), 0);
}

static atomic_int wakes_left;

static void *
wake_often(void *arg)
{
	(void)arg;
	while (atomic_fetch_sub(&wakes_left, 1) > 0)
		loop_wake(&loop);
	atomic_store(&wakes_left, -1);
	loop_wake(&loop);
	return NULL;
}

static void
stop_when_done(struct loop_task *t)
{
	(void)t;
	rounds++;
	if (atomic_load(&wakes_left) == -1)
		loop_stop(&loop);
}

/* No wake is lost: the last one ends the run, or this test hangs. */
static void
test_wake(void **state)
{
	struct loop_task hook;
	pthread_t thread;

	(void)state;
	rounds = 0;
	loop_task_init(&hook, stop_when_done);
	loop_hook(&loop, LOOP_HUB, &hook);
	atomic_store(&wakes_left, 1000);
	assert_int_equal(pthread_create(&thread, NULL, wake_often, NULL), 0);
	loop_run(&loop);
	pthread_join(thread, NULL);
	assert_in_range(rounds, 1, 1004);
}

static void
on_signal(void *arg, int number)
{
	assert_ptr_equal(arg, &rounds);
	assert_int_equal(number, SIGUSR1);
	rounds++;
	loop_stop(&loop);
}

static void
test_signals(void **state)
{
	(void)state;
	rounds = 0;
	assert_int_equal(loop_signal(&loop, SIGUSR1, on_signal, &rounds), 0);
	kill(getpid(), SIGUSR1);
	loop_run(&loop);
	assert_int_equal(rounds, 1);
	for (int i = 1; i < LOOP_SIGNALS; i++)
		assert_int_equal(
		    loop_signal(&loop, SIGUSR2, on_signal, NULL), 0);
	assert_int_equal(
	    loop_signal(&loop, SIGUSR2, on_signal, NULL), ERR_FULL);
}

struct sum {
	struct loop_work work;
	pthread_t thread;
	int n;
};

static void
add_up(struct loop_work *w)
{
	struct sum *s = LIST_OF(w, struct sum, work);

	s->thread = pthread_self();
	for (int i = 1; i <= 100; i++)
		s->n += i;
}

static void
added_up(struct loop_work *w)
{
	struct sum *s = LIST_OF(w, struct sum, work);

	assert_int_equal(s->n, 5050);
	assert_false(pthread_equal(s->thread, pthread_self()));
	rounds++;
	loop_stop(&loop);
}

static void
test_work(void **state)
{
	struct sum s = { .work = { .work = add_up, .done = added_up } };

	(void)state;
	rounds = 0;
	assert_int_equal(loop_work(&loop, &s.work), 0);
	loop_run(&loop);
	assert_int_equal(rounds, 1);
}

static void
free_teller(struct loop_task *t)
{
	tell_letter(t);
	alloc_free(LIST_OF(t, struct teller, task));
}

/* What is buried or in work when the loop ends is still seen to. */
static void
test_fini_finishes(void **state)
{
	struct teller *t = alloc_new(sizeof(*t));
	struct sum s = { .work = { .work = add_up, .done = added_up } };

	(void)state;
	assert_non_null(t);
	rounds = 0;
	story[0] = '\0';
	assert_int_equal(loop_init(&loop, TIMERS), 0);
	teller_init(t, 'b');
	t->task.run = free_teller;
	loop_bury(&loop, &t->task);
	assert_int_equal(loop_work(&loop, &s.work), 0);
	loop_fini(&loop);
	assert_string_equal(story, "b");
	assert_int_equal(rounds, 1);
}

int
main(void)
{
#define LOOP(f) cmocka_unit_test_setup_teardown(f, start, end)
	const struct CMUnitTest tests[] = {
		LOOP(test_phases),
		LOOP(test_defer_again),
		LOOP(test_drop_while_running),
		LOOP(test_timers),
		LOOP(test_timer_storm),
		LOOP(test_timer_caps),
		LOOP(test_wake),
		LOOP(test_signals),
		LOOP(test_work),
		cmocka_unit_test(test_fini_finishes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
