#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/list.h"
#include "io/lane.h"
#include "io/mailbox.h"
#include "io/rand.h"

#include "support/oom.h"
#include "support/unit.h"

struct note {
	struct mail mail;
	unsigned n;
};

static struct note *
note_of(struct mail *m)
{
	return m == NULL ? NULL : LIST_OF(m, struct note, mail);
}

/* Put a note that lives in its batch's arena. */
static int
send_note(struct mailbox *m, enum mail_class class, unsigned n)
{
	if (mailbox_room(m, class) == 0)
		return ERR_FULL;
	struct arena *a = mailbox_arena(m, class);
	struct note *note = a == NULL ? NULL : arena_alloc(a, sizeof(*note));
	if (note == NULL)
		return ERR_NOMEM;
	note->n = n;
	return mailbox_put(m, class, &note->mail);
}

static int wakes;

static void
count_wake(void *arg)
{
	assert_ptr_equal(arg, &wakes);
	wakes++;
}

static const struct mailbox_config small = {
	.caps = { 4, 3 },
	.arena_cap = 1 << 16,
	.wake = count_wake,
	.wake_arg = &wakes,
};

/* Mailbox, one thread --------------------------------------------------------
 */

static void
test_order_and_caps(void **state)
{
	struct mailbox m;

	(void)state;
	mailbox_init(&m, &small);
	assert_null(mailbox_take(&m, MAIL_URGENT));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(send_note(&m, MAIL_NORMAL, i), 0);
	assert_int_equal(send_note(&m, MAIL_NORMAL, 3), ERR_FULL);
	/* Nothing has crossed yet. */
	assert_null(mailbox_take(&m, MAIL_NORMAL));
	assert_int_equal(mailbox_depth(&m, MAIL_NORMAL), 0);
	mailbox_flush(&m);
	assert_int_equal(mailbox_depth(&m, MAIL_NORMAL), 3);
	assert_int_equal(note_of(mailbox_take(&m, MAIL_NORMAL))->n, 0);
	assert_int_equal(mailbox_room(&m, MAIL_NORMAL), 1);
	/* Urgent mail has room of its own, and is there at once. */
	assert_int_equal(send_note(&m, MAIL_URGENT, 10), 0);
	assert_int_equal(send_note(&m, MAIL_NORMAL, 3), 0);
	mailbox_flush(&m);
	assert_int_equal(send_note(&m, MAIL_URGENT, 11), 0);
	mailbox_flush(&m);
	assert_int_equal(note_of(mailbox_take(&m, MAIL_URGENT))->n, 10);
	assert_int_equal(note_of(mailbox_take(&m, MAIL_URGENT))->n, 11);
	assert_null(mailbox_take(&m, MAIL_URGENT));
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(note_of(mailbox_take(&m, MAIL_NORMAL))->n, i);
	assert_null(mailbox_take(&m, MAIL_NORMAL));
	assert_int_equal(mailbox_depth(&m, MAIL_NORMAL), 0);
	mailbox_done(&m);
	mailbox_fini(&m);
}

static void
test_wakes(void **state)
{
	struct mailbox m;

	(void)state;
	wakes = 0;
	mailbox_init(&m, &small);
	mailbox_flush(&m);
	send_note(&m, MAIL_NORMAL, 0);
	mailbox_flush(&m);
	/* The receiver has not slept yet: it will look. */
	assert_int_equal(wakes, 0);
	assert_true(mailbox_sleep(&m));
	assert_non_null(mailbox_take(&m, MAIL_NORMAL));
	assert_false(mailbox_sleep(&m));
	send_note(&m, MAIL_NORMAL, 1);
	assert_int_equal(wakes, 0);
	mailbox_flush(&m);
	assert_int_equal(wakes, 1);
	send_note(&m, MAIL_URGENT, 2);
	mailbox_flush(&m);
	mailbox_flush(&m);
	assert_int_equal(wakes, 1);
	/* Mail that was received but not yet taken keeps it awake too. */
	assert_non_null(mailbox_take(&m, MAIL_URGENT));
	assert_true(mailbox_sleep(&m));
	mailbox_fini(&m);
}

/* Batches come back: a long talk needs no more memory than a short one. */
static void
test_arenas_return(void **state)
{
	struct mailbox m;

	(void)state;
	mailbox_init(&m, &small);
	for (unsigned i = 0; i < 100; i++) {
		if (i == 3)
			oom_fail_at(1);
		assert_int_equal(send_note(&m, MAIL_NORMAL, i), 0);
		mailbox_flush(&m);
		assert_int_equal(note_of(mailbox_take(&m, MAIL_NORMAL))->n, i);
		mailbox_done(&m);
	}
	assert_false(oom_happened());
	/* An arena without mail is ready for the next turn. */
	assert_non_null(arena_alloc(mailbox_arena(&m, MAIL_URGENT), 60000));
	mailbox_flush(&m);
	assert_non_null(arena_alloc(mailbox_arena(&m, MAIL_URGENT), 60000));
	mailbox_fini(&m);
}

static size_t
heap_in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* What a storm took is free once it was taken in, though nobody sends again. */
static void
test_storms_are_forgotten(void **state)
{
	const struct mailbox_config big = { .caps = { 2, 2 },
		.arena_cap = 64 << 20 };
	struct mailbox m;

	(void)state;
	mailbox_init(&m, &big);
	size_t before = heap_in_use();
	for (int i = 0; i < 100; i++)
		assert_non_null(arena_alloc(
		    mailbox_arena(&m, MAIL_NORMAL), (size_t)100 << 10));
	assert_int_equal(send_note(&m, MAIL_NORMAL, 1), 0);
	mailbox_flush(&m);
	assert_non_null(mailbox_take(&m, MAIL_NORMAL));
	mailbox_done(&m);
	assert_true(heap_in_use() < before + (1 << 20));
	mailbox_fini(&m);
}

static void
talk_without_memory(void *arg)
{
	struct mailbox m;
	unsigned sent = 0, got = 0;

	(void)arg;
	mailbox_init(&m, &small);
	for (unsigned i = 0; i < 3; i++) {
		int err = send_note(&m, MAIL_NORMAL, i);
		assert_true(err == 0 || err == ERR_NOMEM);
		sent += err == 0;
		mailbox_flush(&m);
	}
	while (mailbox_take(&m, MAIL_NORMAL) != NULL)
		got++;
	assert_int_equal(got, sent);
	mailbox_fini(&m);
}

static void
test_mailbox_memory(void **state)
{
	(void)state;
	oom_torture(talk_without_memory, NULL);
}

/* Mailbox, two threads --------------------------------------------------------
 */

enum { TALK = 100000, URGENT_EVERY = 64 };

/* A receiver that sleeps on a condition, as a loop does on its descriptor. */
static struct {
	struct mailbox box;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool woken;
	unsigned sleeps;
} talk = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.cond = PTHREAD_COND_INITIALIZER };

static void
talk_wake(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&talk.lock);
	talk.woken = true;
	pthread_cond_signal(&talk.cond);
	pthread_mutex_unlock(&talk.lock);
}

static void
talk_sleep(void)
{
	pthread_mutex_lock(&talk.lock);
	while (!talk.woken)
		pthread_cond_wait(&talk.cond, &talk.lock);
	talk.woken = false;
	talk.sleeps++;
	pthread_mutex_unlock(&talk.lock);
}

/* Numbers in order, batches of chance size; waits when the box is full. */
static void *
talker(void *arg)
{
	unsigned urgent = 0;

	(void)arg;
	for (unsigned n = 0; n < TALK;) {
		unsigned batch = 1 + rand_below(20);
		while (batch-- > 0 && n < TALK) {
			if (send_note(&talk.box, MAIL_NORMAL, n) != 0)
				break;
			n++;
			if (n % URGENT_EVERY == 0 &&
			    send_note(&talk.box, MAIL_URGENT, urgent) == 0)
				urgent++;
		}
		mailbox_flush(&talk.box);
		if (mailbox_room(&talk.box, MAIL_NORMAL) == 0)
			sched_yield();
	}
	while (send_note(&talk.box, MAIL_URGENT, UINT32_MAX) != 0)
		sched_yield();
	mailbox_flush(&talk.box);
	return arg;
}

/* One turn of the receiver: all urgent mail, then some normal mail. */
static void
listen_turn(unsigned *normal, unsigned *urgent, bool *ended)
{
	struct note *n;

	while ((n = note_of(mailbox_take(&talk.box, MAIL_URGENT))) != NULL) {
		if (n->n == UINT32_MAX)
			*ended = true;
		else
			assert_int_equal(n->n, (*urgent)++);
	}
	for (int left = 256; left > 0; left--) {
		n = note_of(mailbox_take(&talk.box, MAIL_NORMAL));
		if (n == NULL)
			break;
		assert_int_equal(n->n, (*normal)++);
	}
	mailbox_done(&talk.box);
}

/* Nothing is lost, nothing overtakes in its class, no wake is missed. */
static void
test_two_threads(void **state)
{
	const struct mailbox_config c = {
		.caps = { 100, 1000 },
		.arena_cap = 1 << 16,
		.wake = talk_wake,
	};
	unsigned normal = 0, urgent = 0;
	bool ended = false;
	pthread_t thread;

	(void)state;
	mailbox_init(&talk.box, &c);
	assert_int_equal(pthread_create(&thread, NULL, talker, NULL), 0);
	while (!ended || normal < TALK) {
		listen_turn(&normal, &urgent, &ended);
		if (!ended && !mailbox_sleep(&talk.box))
			talk_sleep();
	}
	pthread_join(thread, NULL);
	assert_int_equal(normal, TALK);
	assert_in_range(urgent, 1, TALK / URGENT_EVERY);
	assert_null(mailbox_take(&talk.box, MAIL_NORMAL));
	mailbox_fini(&talk.box);
}

/* Lanes -----------------------------------------------------------------------
 */

enum { ROUNDS = 2000, LANES = 3 };

/* A hub that sends numbers out, and lanes that send each back plus one. */
static struct hub {
	struct loop loop;
	struct loop_task work;
	struct loop_task sleep;
	struct lane lanes[LANES];
	size_t lane_count;
	unsigned sent[LANES];
	unsigned got[LANES];
	unsigned turns;
	atomic_uint begun;
	atomic_uint ended;
	int begin_err;
} hub;

static int
on_begin(struct lane *l)
{
	assert_ptr_equal(lane_self(), l);
	assert_ptr_equal(l->config.arg, &hub);
	atomic_fetch_add(&hub.begun, 1);
	return hub.begin_err;
}

static void
on_end(struct lane *l)
{
	assert_ptr_equal(lane_self(), l);
	atomic_fetch_add(&hub.ended, 1);
}

static void
on_mail(struct lane *l, struct mail *mail)
{
	assert_ptr_equal(lane_self(), l);
	assert_int_equal(
	    send_note(&l->to_hub, MAIL_NORMAL, note_of(mail)->n + 1), 0);
}

static void
exchange(size_t i)
{
	struct lane *l = &hub.lanes[i];
	struct note *n;

	while ((n = note_of(mailbox_take(&l->to_hub, MAIL_NORMAL))) != NULL)
		assert_int_equal(n->n, ++hub.got[i]);
	mailbox_done(&l->to_hub);
	while (hub.sent[i] < ROUNDS && hub.sent[i] - hub.got[i] < 8)
		assert_int_equal(
		    send_note(&l->to_lane, MAIL_NORMAL, hub.sent[i]++), 0);
	mailbox_flush(&l->to_lane);
}

static void
hub_work(struct loop_task *t)
{
	bool all = true;

	(void)t;
	hub.turns++;
	for (size_t i = 0; i < hub.lane_count; i++) {
		exchange(i);
		all = all && hub.got[i] == ROUNDS;
	}
	if (all)
		loop_stop(&hub.loop);
}

static void
hub_sleep(struct loop_task *t)
{
	(void)t;
	for (size_t i = 0; i < hub.lane_count; i++) {
		if (mailbox_sleep(&hub.lanes[i].to_hub))
			loop_again(&hub.loop);
	}
}

static int
start_lane(struct lane *l, unsigned index, bool shared)
{
	return lane_start(l,
	    &(struct lane_config){
		.index = index,
		.hub_loop = &hub.loop,
		.shared = shared,
		.timer_cap = 16,
		.to_lane = { 8, 64 },
		.to_hub = { 8, 64 },
		.arena_cap = 1 << 16,
		.begin = on_begin,
		.on_mail = on_mail,
		.end = on_end,
		.arg = &hub,
	    });
}

/* The first lane shares the hub's loop if so told, the others never do. */
static void
run_hub(size_t lanes, bool share)
{
	memset(&hub, 0, sizeof(hub));
	hub.lane_count = lanes;
	assert_int_equal(loop_init(&hub.loop, 16), 0);
	loop_task_init(&hub.work, hub_work);
	loop_task_init(&hub.sleep, hub_sleep);
	for (unsigned i = 0; i < lanes; i++)
		assert_int_equal(
		    start_lane(&hub.lanes[i], i, share && i == 0), 0);
	assert_ptr_equal(lane_self(), share ? &hub.lanes[0] : NULL);
	loop_hook(&hub.loop, LOOP_HUB, &hub.work);
	loop_hook(&hub.loop, LOOP_SLEEP, &hub.sleep);
	loop_run(&hub.loop);
	for (size_t i = 0; i < lanes; i++) {
		assert_int_equal(hub.got[i], ROUNDS);
		lane_stop(&hub.lanes[i]);
		lane_fini(&hub.lanes[i]);
	}
	assert_int_equal(atomic_load(&hub.begun), lanes);
	assert_int_equal(atomic_load(&hub.ended), lanes);
	assert_null(lane_self());
	loop_fini(&hub.loop);
}

static void
test_own_threads(void **state)
{
	(void)state;
	run_hub(LANES, false);
}

static void
test_shared_loop(void **state)
{
	(void)state;
	run_hub(1, true);
	/* Eight notes there and back a turn, without a wait between. */
	assert_in_range(hub.turns, ROUNDS / 8, ROUNDS / 8 + 3);
}

static void
test_mixed(void **state)
{
	(void)state;
	run_hub(LANES, true);
}

/* What was flushed before the stop is taken, and its answers are there. */
static void
stop_with_mail(bool shared)
{
	struct lane *l = &hub.lanes[0];

	memset(&hub, 0, sizeof(hub));
	assert_int_equal(loop_init(&hub.loop, 16), 0);
	assert_int_equal(start_lane(l, 0, shared), 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(send_note(&l->to_lane, MAIL_NORMAL, i), 0);
	mailbox_flush(&l->to_lane);
	lane_stop(l);
	for (unsigned i = 1; i <= 50; i++)
		assert_int_equal(
		    note_of(mailbox_take(&l->to_hub, MAIL_NORMAL))->n, i);
	assert_null(mailbox_take(&l->to_hub, MAIL_NORMAL));
	lane_fini(l);
	loop_fini(&hub.loop);
}

static void
test_stop_with_mail(void **state)
{
	(void)state;
	stop_with_mail(false);
	stop_with_mail(true);
}

static void
test_begin_fails(void **state)
{
	(void)state;
	memset(&hub, 0, sizeof(hub));
	assert_int_equal(loop_init(&hub.loop, 16), 0);
	hub.begin_err = ERR_DENIED;
	assert_int_equal(start_lane(&hub.lanes[0], 0, false), ERR_DENIED);
	assert_int_equal(start_lane(&hub.lanes[0], 0, true), ERR_DENIED);
	assert_null(lane_self());
	hub.begin_err = 0;
	assert_int_equal(start_lane(&hub.lanes[0], 0, true), 0);
	lane_stop(&hub.lanes[0]);
	lane_fini(&hub.lanes[0]);
	loop_fini(&hub.loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_caps),
		cmocka_unit_test(test_wakes),
		cmocka_unit_test(test_arenas_return),
		cmocka_unit_test(test_storms_are_forgotten),
		cmocka_unit_test(test_mailbox_memory),
		cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_own_threads),
		cmocka_unit_test(test_shared_loop),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_stop_with_mail),
		cmocka_unit_test(test_begin_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
