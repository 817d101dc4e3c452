/*
 * loop: one thread's events, over one uv_loop_t (floor: io).
 *
 * A turn: what became ready is handled, then the end of the turn runs, then
 * the loop blocks.  The end of the turn is where everything gathered leaves,
 * so that each connection sends once a turn: deferred tasks, then hooks in
 * order of their phase, then buried memory is freed.
 *
 * All calls belong to the loop's own thread but loop_wake.  Callbacks may
 * call anything here but loop_run, loop_turn and loop_fini.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/heap.h"
#include "base/list.h"

/* Embed it and find the owner by LIST_OF's means.  One list at a time. */
struct loop_task {
	struct list link;
	void (*run)(struct loop_task *t);
};

struct loop_timer {
	struct heap_node node;
	void (*fire)(struct loop_timer *t);
};

/*
 * The order of hooks at the end of a turn.  What a lane has for the hub
 * crosses before the hub works, and what the hub decides crosses back
 * before anything is sent, so that on a shared loop one turn does it all.
 */
enum loop_phase {
	LOOP_POST,   /* lanes hand events over to the hub */
	LOOP_HUB,    /* the hub takes them, decides, hands effects over */
	LOOP_TAKE,   /* lanes take effects */
	LOOP_SEND,   /* streams flush their corks */
	LOOP_SETTLE, /* lanes hand over what sending brought up */
	LOOP_SLEEP,  /* last looks into the mailboxes before blocking */
	LOOP_PHASES,
};

enum { LOOP_SIGNALS = 8 };

struct loop {
	uv_loop_t uv; /* for io's own modules */
	uv_prepare_t prepare;
	uv_timer_t alarm; /* the one behind all loop_timers */
	uv_idle_t hurry;  /* active while the loop must not block */
	uv_async_t async;
	struct loop_signal {
		uv_signal_t uv;
		void (*fn)(void *arg, int number);
		void *arg;
	} signals[LOOP_SIGNALS];
	size_t signal_count;
	struct heap timers;
	msec armed; /* what alarm is set to; INT64_MAX = it is not */
	msec lag;
	struct list hooks[LOOP_PHASES];
	struct list deferred;
	struct list buried;
	bool again;
	bool stopped;
	void *streams; /* owned by io/stream: this lane's buffers */
};

/*
 * timer_cap: most loop_timers that may be set at once.
 * 0, ERR_FULL (descriptors) or ERR_NOMEM.  The struct must not move.
 */
int loop_init(struct loop *l, size_t timer_cap);

/*
 * Runs what is deferred and buried, waits for loop_work in progress.
 * Whoever opened other handles on it has closed them before.
 */
void loop_fini(struct loop *l);

/* Until loop_stop; the turn in which that is called ends as any other. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* One turn, for tests: at most one wait, and none unless block is set. */
void loop_turn(struct loop *l, bool block);

/* The monotonic clock, read once a turn. */
msec loop_now(const struct loop *l);

/* Make the loop take a turn.  Any thread, any number of times, one wake. */
void loop_wake(struct loop *l);

/* Do not block at the end of this turn: there is more to do. */
void loop_again(struct loop *l);

static inline void
loop_task_init(struct loop_task *t, void (*run)(struct loop_task *t))
{
	list_init(&t->link);
	t->run = run;
}

/* Run t at the end of every turn, from the next end on. */
void loop_hook(struct loop *l, enum loop_phase phase, struct loop_task *t);

/*
 * Run t once, before the hooks of this turn (of the next one, when a hook
 * defers it); already deferred is nothing.
 */
void loop_defer(struct loop *l, struct loop_task *t);

/*
 * Run t, which frees its owner, when this turn is over: until then pointers
 * to the owner that callers further up hold stay good.  It may send and post
 * nothing any more.
 */
void loop_bury(struct loop *l, struct loop_task *t);

/* Take t off, from whichever list; nothing when it is on none. */
void loop_task_drop(struct loop_task *t);

/* A timer set to this does not fire but keeps its place: setting it to
 * another time cannot fail, and the loop blocks without a time-out. */
#define LOOP_NEVER (INT64_MAX / 2)

/*
 * Call fire when loop_now reaches due; once.  Setting it again moves it,
 * which never fails; the first time 0, ERR_FULL or ERR_NOMEM.  A timer that
 * sets itself to the past fires in the next turn.  Zero it to begin with.
 */
int loop_timer_set(struct loop *l, struct loop_timer *t, msec due,
    void (*fire)(struct loop_timer *t));
void loop_timer_stop(struct loop *l, struct loop_timer *t);

/* The longest a timer was late since the last call: the loop's lag. */
msec loop_lag(struct loop *l);

/*
 * Call fn in the loop for every delivery of a signal, until loop_fini.  At
 * most LOOP_SIGNALS of them.  0 or ERR_*.
 */
int loop_signal(
    struct loop *l, int number, void (*fn)(void *arg, int number), void *arg);

/*
 * Blocking work on libuv's pool of threads: work runs there, done in the
 * loop afterwards.  Embed it; it must stay until done.  0 or ERR_*.
 */
struct loop_work {
	uv_work_t uv;
	void (*work)(struct loop_work *w);
	void (*done)(struct loop_work *w);
};
int loop_work(struct loop *l, struct loop_work *w);

#endif
