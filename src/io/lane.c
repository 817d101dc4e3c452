#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/err.h"
#include "io/sys.h"

#include "io/lane.h"

static _Thread_local struct lane *self;

struct lane *
lane_self(void)
{
	return self;
}

/* The end of a lane's turn --------------------------------------------------
 */

static void
on_post(struct loop_task *t)
{
	mailbox_flush(&LIST_OF(t, struct lane, post)->to_hub);
}

static void
on_settle(struct loop_task *t)
{
	mailbox_flush(&LIST_OF(t, struct lane, settle)->to_hub);
}

static void
take_all(struct lane *l)
{
	struct mail *m;

	for (;;) {
		/* Urgent mail that came meanwhile goes first. */
		m = mailbox_take(&l->to_lane, MAIL_URGENT);
		if (m == NULL)
			m = mailbox_take(&l->to_lane, MAIL_NORMAL);
		if (m == NULL)
			break;
		l->config.on_mail(l, m);
	}
	mailbox_done(&l->to_lane);
}

static void
on_take(struct loop_task *t)
{
	struct lane *l = LIST_OF(t, struct lane, take);
	/* Before the mail is: what was flushed before the stop is taken. */
	bool last = atomic_load(&l->stopping);

	take_all(l);
	if (last && !l->config.shared)
		loop_stop(l->loop);
}

static void
on_sleep(struct loop_task *t)
{
	struct lane *l = LIST_OF(t, struct lane, sleep);

	if (mailbox_sleep(&l->to_lane))
		loop_again(l->loop);
}

/* Life ----------------------------------------------------------------------
 */

static void
wake(void *arg)
{
	loop_wake(arg);
}

static void
make_mailboxes(struct lane *l)
{
	const struct lane_config *c = &l->config;
	struct mailbox_config to_lane = {
		.arena_cap = c->arena_cap,
		.wake = c->shared ? NULL : wake,
		.wake_arg = l->loop,
	};
	struct mailbox_config to_hub = to_lane;

	to_hub.wake_arg = c->hub_loop;
	for (int i = 0; i < MAIL_CLASSES; i++) {
		to_lane.caps[i] = c->to_lane[i];
		to_hub.caps[i] = c->to_hub[i];
	}
	mailbox_init(&l->to_lane, &to_lane);
	mailbox_init(&l->to_hub, &to_hub);
}

static void
add_hooks(struct lane *l)
{
	loop_task_init(&l->post, on_post);
	loop_task_init(&l->take, on_take);
	loop_task_init(&l->settle, on_settle);
	loop_task_init(&l->sleep, on_sleep);
	loop_hook(l->loop, LOOP_POST, &l->post);
	loop_hook(l->loop, LOOP_TAKE, &l->take);
	loop_hook(l->loop, LOOP_SETTLE, &l->settle);
	loop_hook(l->loop, LOOP_SLEEP, &l->sleep);
}

static void
drop_hooks(struct lane *l)
{
	loop_task_drop(&l->post);
	loop_task_drop(&l->take);
	loop_task_drop(&l->settle);
	loop_task_drop(&l->sleep);
}

static int
begin(struct lane *l)
{
	assert(self == NULL);
	self = l;
	int err = l->config.begin == NULL ? 0 : l->config.begin(l);
	if (err != 0)
		self = NULL;
	return err;
}

static void
end(struct lane *l)
{
	if (l->config.end != NULL)
		l->config.end(l);
	mailbox_flush(&l->to_hub);
	self = NULL;
}

static void *
run(void *arg)
{
	struct lane *l = arg;
	char name[16];

	snprintf(name, sizeof(name), "lane-%u", l->config.index);
	pthread_setname_np(pthread_self(), name);
	l->begin_err = begin(l);
	bool begun = l->begin_err == 0;
	sem_post(&l->begun);
	if (begun) {
		loop_run(l->loop);
		end(l);
	}
	loop_fini(&l->own);
	return NULL;
}

/* Signals are for the hub's thread: a lane is born with all blocked. */
static int
make_thread(struct lane *l)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&l->thread, NULL, run, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err == 0 ? 0 : sys_err(err);
}

static int
start_thread(struct lane *l)
{
	int err = loop_init(&l->own, l->config.timer_cap);
	if (err != 0)
		return err;
	add_hooks(l);
	sem_init(&l->begun, 0, 0);
	err = make_thread(l);
	if (err != 0) {
		loop_fini(&l->own);
	} else {
		while (sem_wait(&l->begun) < 0 && errno == EINTR)
			continue;
		err = l->begin_err;
		if (err != 0)
			pthread_join(l->thread, NULL);
	}
	sem_destroy(&l->begun);
	return err;
}

static int
start_shared(struct lane *l)
{
	int err = begin(l);
	if (err == 0)
		add_hooks(l);
	return err;
}

int
lane_start(struct lane *l, const struct lane_config *c)
{
	*l = (struct lane){ .config = *c };
	l->loop = c->shared ? c->hub_loop : &l->own;
	make_mailboxes(l);
	int err = c->shared ? start_shared(l) : start_thread(l);
	if (err != 0)
		lane_fini(l);
	return err;
}

void
lane_stop(struct lane *l)
{
	if (l->config.shared) {
		take_all(l);
		drop_hooks(l);
		end(l);
		return;
	}
	atomic_store(&l->stopping, true);
	loop_wake(l->loop);
	pthread_join(l->thread, NULL);
}

void
lane_fini(struct lane *l)
{
	mailbox_fini(&l->to_lane);
	mailbox_fini(&l->to_hub);
}
