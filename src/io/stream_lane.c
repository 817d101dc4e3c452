#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/stream_in.h"

static void on_tick(struct loop_timer *t);

static void
tick_at(struct stream_lane *lane, msec due)
{
	int err = loop_timer_set(lane->loop, &lane->tick, due, on_tick);

	assert(err == 0);
	(void)err;
}

void
lane_mark(struct stream *s)
{
	if (s->dirty)
		return;
	lane_unlink(s);
	s->dirty = true;
	list_push(&s->lane->dirty, &s->link);
}

void
lane_unlink(struct stream *s)
{
	list_remove(&s->link);
	s->dirty = false;
	if (s->waiting) {
		s->waiting = false;
		if (--s->lane->waiting == 0)
			tick_at(s->lane, LOOP_NEVER);
	}
}

void
lane_wait(struct stream *s, unsigned seconds)
{
	struct stream_lane *lane = s->lane;

	assert(seconds > 0 && seconds < WHEEL - 1);
	lane_unlink(s);
	s->waiting = true;
	/* The hand's next step may be less than a second away. */
	list_push(&lane->wheel[(lane->hand + seconds + 1) % WHEEL], &s->link);
	if (lane->waiting++ == 0)
		tick_at(lane, loop_now(lane->loop) + 1000);
}

static void
on_tick(struct loop_timer *t)
{
	struct stream_lane *lane = LIST_OF(t, struct stream_lane, tick);
	struct list *l;

	lane->hand = (lane->hand + 1) % WHEEL;
	while (!list_empty(&lane->wheel[lane->hand])) {
		l = lane->wheel[lane->hand].next;
		struct stream *s = LIST_OF(l, struct stream, link);
		lane_unlink(s);
		stream_expire(s);
	}
	tick_at(
	    lane, lane->waiting > 0 ? loop_now(lane->loop) + 1000 : LOOP_NEVER);
}

void
lane_flush_all(struct stream_lane *lane)
{
	struct list *l, *next;

	for (l = lane->dirty.next; l != &lane->dirty; l = next) {
		next = l->next;
		struct stream *s = LIST_OF(l, struct stream, link);
		if (stream_flush(s) == 0 && span_settle(s) != 0)
			stream_fail(s, ERR_NOMEM);
	}
	lane->corked = 0;
	lane->top = NULL;
}

/* The turn is over: say everything. */
static void
on_turn_end(struct loop_task *t)
{
	struct stream_lane *lane = LIST_OF(t, struct stream_lane, end);

	while (!list_empty(&lane->dirty)) {
		struct list *l = lane->dirty.next;
		struct stream *s = LIST_OF(l, struct stream, link);
		stream_finish(s);
		/* It may have failed, or waits on the wheel. */
		if (s->dirty)
			lane_unlink(s);
	}
	lane->corked = 0;
	lane->top = NULL;
	lane->shakes = 0;
}

/* What was marked after this turn's sending takes another turn. */
static void
before_sleep(struct loop_task *t)
{
	struct stream_lane *lane = LIST_OF(t, struct stream_lane, sleep);

	if (!list_empty(&lane->dirty))
		loop_again(lane->loop);
}

static void
lane_free(struct stream_lane *lane)
{
	if (lane == NULL)
		return;
	span_free_spares(lane);
	alloc_free(lane->receive);
	alloc_free(lane->cork);
	alloc_free(lane->record);
	alloc_free(lane);
}

struct stream_lane *
lane_of(struct loop *l)
{
	struct stream_lane *lane = l->streams;

	if (lane != NULL)
		return lane;
	lane = alloc_new(sizeof(*lane));
	if (lane == NULL)
		return NULL;
	lane->receive = alloc_new(STREAM_RECEIVE);
	lane->cork = alloc_new(STREAM_CORK);
	if (lane->receive == NULL || lane->cork == NULL ||
	    loop_timer_set(l, &lane->tick, LOOP_NEVER, on_tick) != 0) {
		lane_free(lane);
		return NULL;
	}
	lane->loop = l;
	list_init(&lane->dirty);
	for (size_t i = 0; i < WHEEL; i++)
		list_init(&lane->wheel[i]);
	loop_task_init(&lane->end, on_turn_end);
	loop_hook(l, LOOP_SEND, &lane->end);
	loop_task_init(&lane->sleep, before_sleep);
	loop_hook(l, LOOP_SLEEP, &lane->sleep);
	l->streams = lane;
	return lane;
}

void
stream_loop_fini(struct loop *l)
{
	struct stream_lane *lane = l->streams;

	if (lane == NULL)
		return;
	assert(list_empty(&lane->dirty) && lane->waiting == 0);
	loop_task_drop(&lane->end);
	loop_task_drop(&lane->sleep);
	loop_timer_stop(l, &lane->tick);
	lane_free(lane);
	l->streams = NULL;
}
