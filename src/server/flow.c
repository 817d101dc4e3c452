/*
 * Design notes.  What a flow's owner does may bring up news for it (bytes
 * have left, both ends are over); to keep calls out of calls such news wait
 * in a list of the dock for the end of the turn.  What the link says comes
 * from the loop and is passed on at once; there `busy` keeps a flow that its
 * owner closes in memory until the call is over.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "wire/opening.h"

#include "server/flow_state.h"

enum { KEPT = 4096 }; /* memory of an empty queue that is kept */

static struct flow *
flow_of(struct outlet *o)
{
	return LIST_OF(o, struct flow, outlet);
}

static size_t
waiting(const struct flow *f)
{
	return buf_peek(&f->out).len;
}

/* Life --------------------------------------------------------------------- */

static const struct outlet_ops outlet_ops;

struct flow *
flow_new(struct dock *d, enum flow_state state)
{
	struct flow *f = alloc_new(sizeof(*f));

	if (f == NULL)
		return NULL;
	f->dock = d;
	f->state = (uint8_t)state;
	outlet_init(&f->outlet, &outlet_ops);
	list_init(&f->listener);
	list_init(&f->hope);
	list_init(&f->news);
	/* Its opening goes on top. */
	flow_set_cap(f, FLOW_CAP);
	buf_init(&f->head, FLOW_ANSWER_MAX);
	return f;
}

void
flow_free(struct flow *f)
{
	buf_fini(&f->out);
	buf_fini(&f->head);
	alloc_free((void *)(uintptr_t)f->id.ptr);
	alloc_free(f);
}

/* No more of it: nothing comes, nothing goes. */
static void
end(struct flow *f)
{
	if (f->dead)
		return;
	f->dead = true;
	f->ops = NULL;
	loop_timer_stop(f->dock->lane.loop, &f->timer);
	list_remove(&f->listener);
	list_remove(&f->hope);
	list_remove(&f->news);
	if (f->ended && f->heard_all) {
		outlet_consume(&f->outlet, f->owed);
		outlet_part(&f->outlet);
	} else {
		outlet_leave(&f->outlet);
	}
	if (f->counted)
		f->dock->server->counts.flows[f->kind]--;
	f->counted = false;
	if (f->busy == 0)
		flow_free(f);
}

/* After a call of the owner's: whether the flow is still there. */
bool
flow_called(struct flow *f)
{
	f->busy--;
	if (!f->dead)
		return true;
	if (f->busy == 0)
		flow_free(f);
	return false;
}

void
flow_lose(struct flow *f, int why)
{
	const struct flow_ops *ops = f->ops;
	void *owner = f->owner;

	end(f);
	if (ops != NULL)
		ops->gone(owner, why);
}

/* News --------------------------------------------------------------------- */

void
flow_announce(struct flow *f, uint8_t what)
{
	struct dock *d = f->dock;

	f->due |= what;
	if (list_empty(&f->news))
		list_push(&d->flow_news, &f->news);
	loop_defer(d->lane.loop, &d->flow_task);
}

/* Whether the flow is still there. */
bool
flow_tell(struct flow *f, const struct flow_answer *a)
{
	f->state = FLOW_OPEN;
	loop_timer_stop(f->dock->lane.loop, &f->timer);
	f->busy++;
	f->ops->answered(f->owner, a);
	return flow_called(f);
}

static void
tell_news(struct flow *f)
{
	static const struct flow_answer yes = {
		.resolve = -1, .connect = -1, .tls = -1
	};
	uint8_t due = f->due;

	f->due = 0;
	f->busy++;
	if (due & NEWS_ANSWERED)
		flow_tell(f, &yes);
	if ((due & NEWS_DRAINED) && !f->dead && f->ops->drained != NULL)
		f->ops->drained(f->owner);
	if (flow_called(f) && (due & NEWS_OVER))
		flow_lose(f, f->why);
}

static void
on_news(struct loop_task *t)
{
	struct dock *d = LIST_OF(t, struct dock, flow_task);
	struct list *i;

	while ((i = list_pop(&d->flow_news)) != NULL)
		tell_news(LIST_OF(i, struct flow, news));
}

void
flow_setup(struct dock *d)
{
	list_init(&d->flow_news);
	loop_task_init(&d->flow_task, on_news);
}

/* Both directions have ended, and nothing is owed. */
static void
look_over(struct flow *f)
{
	if (f->ended && f->heard_all && f->owed == 0)
		flow_announce(f, NEWS_OVER);
}

/* From the link ------------------------------------------------------------ */

static void
on_data(struct outlet *o, struct slice bytes)
{
	struct flow *f = flow_of(o);

	f->owed += bytes.len;
	if ((f->state == FLOW_OPENING || f->state == FLOW_OFFERED) &&
	    !flow_begin(f, &bytes))
		return;
	if (bytes.len == 0)
		return;
	f->received += bytes.len;
	f->dock->server->counts.flow_bytes_in += bytes.len;
	f->busy++;
	f->ops->data(f->owner, (uint8_t *)(uintptr_t)bytes.ptr, bytes.len);
	flow_called(f);
}

static void
on_fin(struct outlet *o)
{
	struct flow *f = flow_of(o);

	f->heard_all = true;
	if (f->state == FLOW_OPENING || f->state == FLOW_OFFERED) {
		flow_lose(f, ERR_CLOSED);
		return;
	}
	f->busy++;
	f->ops->eof(f->owner);
	if (flow_called(f))
		look_over(f);
}

static void
on_lost(struct outlet *o, int why)
{
	flow_lose(flow_of(o), why);
}

static struct slice
on_waiting(struct outlet *o)
{
	return buf_peek(&flow_of(o)->out);
}

/* All that was written has left. */
static void
finish_now(struct flow *f)
{
	if (f->ended || f->outlet.trunk == NULL)
		return;
	f->ended = true;
	outlet_finish(&f->outlet);
	look_over(f);
}

static void
on_sent(struct outlet *o, size_t n)
{
	struct flow *f = flow_of(o);

	buf_eat(&f->out, n);
	if (f->above && waiting(f) <= FLOW_LOW) {
		f->above = false;
		flow_announce(f, NEWS_DRAINED);
	}
	if (waiting(f) > 0)
		return;
	if (f->out.alloc > KEPT) {
		buf_fini(&f->out);
		flow_set_cap(f, f->cap);
	}
	if (f->ends)
		finish_now(f);
}

static const struct outlet_ops outlet_ops = {
	.waiting = on_waiting,
	.sent = on_sent,
	.data = on_data,
	.fin = on_fin,
	.lost = on_lost,
	.small = TURN_BRISK,
};

/* From the owner ----------------------------------------------------------- */

void
flow_own(struct flow *f, const struct flow_ops *ops, void *owner)
{
	f->ops = ops;
	f->owner = owner;
}

static int
keep(struct flow *f, struct slice bytes)
{
	buf_put(&f->out, bytes);
	if (f->out.err == 0)
		return 0;
	/* Some may have left already: there is a hole. */
	outlet_leave(&f->outlet);
	f->why = ERR_NOMEM;
	flow_announce(f, NEWS_OVER);
	return ERR_NOMEM;
}

static bool
is_gone(const struct flow *f)
{
	const struct trunk *t = f->outlet.trunk;

	return t == NULL ? list_empty(&f->hope) : t->conn->ending;
}

int
flow_write(struct flow *f, struct slice bytes)
{
	size_t went = 0;

	assert(!f->ends);
	if (is_gone(f))
		return ERR_GONE;
	if (waiting(f) + bytes.len > f->cap)
		return ERR_FULL;
	if (waiting(f) == 0)
		went = outlet_write(&f->outlet, bytes);
	int err = keep(f, slice_from_at(bytes, went));
	if (err != 0)
		return err;
	f->sent += bytes.len;
	f->dock->server->counts.flow_bytes_out += bytes.len;
	f->above |= waiting(f) > FLOW_HIGH;
	outlet_wake(&f->outlet);
	return 0;
}

void
flow_set_cap(struct flow *f, size_t cap)
{
	f->cap = cap;
	f->out.cap = cap + OPENING_MAX;
}

bool
flow_above_high(const struct flow *f)
{
	return f->above;
}

void
flow_consume(struct flow *f, size_t n)
{
	assert(n <= f->owed);
	f->owed -= n;
	if (f->outlet.trunk == NULL || n == 0)
		return;
	outlet_consume(&f->outlet, n);
	look_over(f);
}

void
flow_finish(struct flow *f)
{
	if (f->ends)
		return;
	f->ends = true;
	if (waiting(f) == 0)
		finish_now(f);
}

void
flow_close(struct flow *f)
{
	end(f);
}

uint64_t
flow_sent(const struct flow *f)
{
	return f->sent;
}

uint64_t
flow_received(const struct flow *f)
{
	return f->received;
}
