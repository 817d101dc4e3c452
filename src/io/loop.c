#include <assert.h>

#include "base/err.h"
#include "io/sys.h"

#include "io/loop.h"

#define NEVER INT64_MAX

static struct loop *
of(const uv_loop_t *uv)
{
	return uv->data;
}

/* Move all of from to the tail of to. */
static void
move_all(struct list *from, struct list *to)
{
	struct list *first = from->next, *last = from->prev;

	if (list_empty(from))
		return;
	first->prev = to->prev;
	to->prev->next = first;
	last->next = to;
	to->prev = last;
	list_init(from);
}

/* The end of a turn -------------------------------------------------------- */

/*
 * Run those that are on the list now, whatever they add or take off.  keep:
 * they go back on it first.
 */
static void
run_list(struct list *tasks, bool keep)
{
	struct list now, *i;

	list_init(&now);
	move_all(tasks, &now);
	while ((i = list_pop(&now)) != NULL) {
		struct loop_task *t = LIST_OF(i, struct loop_task, link);
		if (keep)
			list_push(tasks, i);
		t->run(t);
	}
}

static void on_alarm(uv_timer_t *alarm);

/* Have the alarm ring for the first timer. */
static void
arm(struct loop *l)
{
	struct heap_node *first = heap_first(&l->timers);
	msec due =
	    first == NULL || first->due >= LOOP_NEVER ? NEVER : first->due;

	if (due == l->armed)
		return;
	l->armed = due;
	if (due == NEVER) {
		uv_timer_stop(&l->alarm);
		return;
	}
	msec wait = due - loop_now(l);
	uv_timer_start(&l->alarm, on_alarm, wait < 0 ? 0 : (uint64_t)wait, 0);
}

static void
on_hurry(uv_idle_t *hurry)
{
	(void)hurry; /* being active is all it does */
}

static void
end_turn(struct loop *l)
{
	l->again = false;
	run_list(&l->deferred, false);
	for (int i = 0; i < LOOP_PHASES; i++)
		run_list(&l->hooks[i], true);
	run_list(&l->buried, false);
	arm(l);
	if (l->again || !list_empty(&l->deferred) || !list_empty(&l->buried))
		uv_idle_start(&l->hurry, on_hurry);
	else
		uv_idle_stop(&l->hurry);
}

static void
on_prepare(uv_prepare_t *prepare)
{
	end_turn(of(prepare->loop));
}

void
loop_again(struct loop *l)
{
	l->again = true;
}

void
loop_hook(struct loop *l, enum loop_phase phase, struct loop_task *t)
{
	list_push(&l->hooks[phase], &t->link);
}

void
loop_defer(struct loop *l, struct loop_task *t)
{
	if (list_empty(&t->link))
		list_push(&l->deferred, &t->link);
}

void
loop_bury(struct loop *l, struct loop_task *t)
{
	list_remove(&t->link);
	list_push(&l->buried, &t->link);
}

void
loop_task_drop(struct loop_task *t)
{
	list_remove(&t->link);
}

/* Timers ------------------------------------------------------------------- */

/* Each fires at most once a turn, even if it sets itself to the past. */
static void
on_alarm(uv_timer_t *alarm)
{
	struct loop *l = of(alarm->loop);
	struct heap_node *first = heap_first(&l->timers);
	msec now = loop_now(l);

	l->armed = NEVER;
	if (first != NULL && now - first->due > l->lag)
		l->lag = now - first->due;
	for (size_t left = l->timers.count; left > 0; left--) {
		first = heap_first(&l->timers);
		if (first == NULL || first->due > now)
			return;
		heap_drop(&l->timers, first);
		struct loop_timer *t = LIST_OF(first, struct loop_timer, node);
		t->fire(t);
	}
}

int
loop_timer_set(struct loop *l, struct loop_timer *t, msec due,
    void (*fire)(struct loop_timer *t))
{
	t->fire = fire;
	return heap_set(&l->timers, &t->node, due);
}

void
loop_timer_stop(struct loop *l, struct loop_timer *t)
{
	heap_drop(&l->timers, &t->node);
}

msec
loop_now(const struct loop *l)
{
	return (msec)uv_now(&l->uv);
}

msec
loop_lag(struct loop *l)
{
	msec lag = l->lag;

	l->lag = 0;
	return lag;
}

/* Wake, signals, work -------------------------------------------------------
 */

static void
on_wake(uv_async_t *async)
{
	(void)async; /* the turn that it brings about is all that is wanted */
}

void
loop_wake(struct loop *l)
{
	uv_async_send(&l->async);
}

static void
on_signal(uv_signal_t *uv, int number)
{
	struct loop_signal *s = uv->data;

	s->fn(s->arg, number);
}

int
loop_signal(
    struct loop *l, int number, void (*fn)(void *arg, int number), void *arg)
{
	if (l->signal_count == LOOP_SIGNALS)
		return ERR_FULL;
	struct loop_signal *s = &l->signals[l->signal_count];
	int err = uv_signal_init(&l->uv, &s->uv);
	if (err != 0)
		return sys_err(-err);
	l->signal_count++;
	s->uv.data = s;
	s->fn = fn;
	s->arg = arg;
	err = uv_signal_start(&s->uv, on_signal, number);
	return err == 0 ? 0 : sys_err(-err);
}

static void
on_work(uv_work_t *uv)
{
	struct loop_work *w = LIST_OF(uv, struct loop_work, uv);

	w->work(w);
}

static void
on_worked(uv_work_t *uv, int status)
{
	struct loop_work *w = LIST_OF(uv, struct loop_work, uv);

	assert(status == 0); /* nothing here cancels */
	w->done(w);
}

int
loop_work(struct loop *l, struct loop_work *w)
{
	int err = uv_queue_work(&l->uv, &w->uv, on_work, on_worked);

	return err == 0 ? 0 : sys_err(-err);
}

/* Life --------------------------------------------------------------------- */

/* These never fail: they only fill in the handle. */
static void
init_handles(struct loop *l)
{
	uv_prepare_init(&l->uv, &l->prepare);
	uv_timer_init(&l->uv, &l->alarm);
	uv_idle_init(&l->uv, &l->hurry);
	uv_prepare_start(&l->prepare, on_prepare);
}

int
loop_init(struct loop *l, size_t timer_cap)
{
	*l = (struct loop){ .armed = NEVER };
	int err = uv_loop_init(&l->uv);
	if (err != 0)
		return sys_err(-err);
	err = uv_async_init(&l->uv, &l->async, on_wake);
	if (err != 0) {
		uv_loop_close(&l->uv);
		return sys_err(-err);
	}
	l->uv.data = l;
	heap_init(&l->timers, timer_cap);
	for (int i = 0; i < LOOP_PHASES; i++)
		list_init(&l->hooks[i]);
	list_init(&l->deferred);
	list_init(&l->buried);
	init_handles(l);
	return 0;
}

static void
close_own(struct loop *l)
{
	uv_close((uv_handle_t *)&l->prepare, NULL);
	uv_close((uv_handle_t *)&l->alarm, NULL);
	uv_close((uv_handle_t *)&l->hurry, NULL);
	uv_close((uv_handle_t *)&l->async, NULL);
	for (size_t i = 0; i < l->signal_count; i++)
		uv_close((uv_handle_t *)&l->signals[i].uv, NULL);
}

/* A handle that nobody closes would keep loop_fini for ever. */
static void
check_closing(uv_handle_t *h, void *arg)
{
	(void)arg;
	assert(uv_is_closing(h));
}

void
loop_fini(struct loop *l)
{
	close_own(l);
	uv_walk(&l->uv, check_closing, NULL);
	do {
		uv_run(&l->uv, UV_RUN_DEFAULT);
		run_list(&l->deferred, false);
		run_list(&l->buried, false);
	} while (uv_loop_alive(&l->uv) || !list_empty(&l->deferred) ||
	    !list_empty(&l->buried));
	int err = uv_loop_close(&l->uv);
	assert(err == 0);
	(void)err;
	heap_fini(&l->timers);
}

void
loop_run(struct loop *l)
{
	while (!l->stopped)
		uv_run(&l->uv, UV_RUN_DEFAULT);
	l->stopped = false;
	end_turn(l);
}

void
loop_stop(struct loop *l)
{
	l->stopped = true;
	uv_stop(&l->uv);
}

void
loop_turn(struct loop *l, bool block)
{
	uv_run(&l->uv, block ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}
