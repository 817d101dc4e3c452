#include <malloc.h>
#include <pthread.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/router.h"
#include "server/stopfile.h"

#include "server/core.h"

enum {
	OUTBOX_CAP = 256 * 1024 * 1024,
	EVENTS_PER_TURN = 256, /* for each lane */
	SPARE_BATCHES = 8,
	SPARE_EFFECTS = 4096, /* a wider outbox is not kept */
	STATS_EVERY = 1000,
	TRIM_EVERY = 10000,
	TRIM_BYTES = 8 * 1024 * 1024,
	RETRY_AFTER = 20,
	LAST_TURNS = 1000,
};

/* An effect that waits for an operation. */
struct held {
	struct list link;
	struct batch *batch; /* one reference */
	const struct effect *effect;
};

struct core {
	struct server *server;
	struct loop *loop;
	struct hub *hub;
	struct router *router;
	struct lane *lanes[LANES_MAX];
	size_t lane_count;
	struct loop_task turn;
	struct loop_task sleep;
	struct loop_timer timer;
	struct list held;    /* by number of the operation */
	struct list refused; /* batches with operations not stored */
	struct batch *open;  /* of this turn; NULL between turns */
	struct batch *spare; /* owned, empty ones */
	size_t spare_count;
	_Atomic(struct batch *) returned; /* by whichever thread */
	pthread_mutex_t stats_lock;
	struct hub_stats stats;
	msec stats_at;
	msec trim_at;
	size_t heap_free; /* the least since the last trim */
};

/* Batches ------------------------------------------------------------------ */

static void
free_batch(struct batch *b)
{
	outbox_fini(&b->out);
	alloc_free(b);
}

/* Take back what the lanes are done with; keep some, free the rest. */
static void
collect(struct core *c)
{
	struct batch *b = atomic_exchange(&c->returned, NULL);

	while (b != NULL) {
		struct batch *next = b->next;
		if (c->spare_count >= SPARE_BATCHES ||
		    b->out.room > SPARE_EFFECTS) {
			free_batch(b);
		} else {
			b->next = c->spare;
			c->spare = b;
			c->spare_count++;
		}
		b = next;
	}
}

static struct batch *
new_batch(struct core *c)
{
	struct batch *b = c->spare;

	if (b != NULL) {
		c->spare = b->next;
		c->spare_count--;
		return b;
	}
	b = alloc_new(sizeof(*b));
	if (b == NULL)
		return NULL;
	b->home = c;
	list_init(&b->link);
	outbox_init(&b->out, OUTBOX_CAP);
	return b;
}

static struct batch *
batch_open(struct core *c)
{
	struct batch *b = c->open;

	if (b != NULL)
		return b;
	if (c->spare == NULL)
		collect(c);
	b = new_batch(c);
	if (b == NULL)
		return NULL;
	b->stored = 0;
	b->err = 0;
	atomic_init(&b->refs, 1);
	c->open = b;
	return b;
}

void
batch_drop(struct batch *b)
{
	struct core *c = b->home;
	struct batch *top;

	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	outbox_reset(&b->out);
	/* Pushed by any thread, emptied whole by the core's: no ABA. */
	top = atomic_load(&c->returned);
	do
		b->next = top;
	while (!atomic_compare_exchange_weak(&c->returned, &top, b));
}

/* Effects ------------------------------------------------------------------ */

static void
write_output(struct core *c, const struct effect *e)
{
	struct writer *w = c->server->writer;
	struct slice id = e->output.command->id;

	if (writer_output(w, id, OUTPUT_OUT, 0, e->output.out, NULL) != 0 ||
	    writer_output(w, id, OUTPUT_ERR, 0, e->output.err, NULL) != 0)
		log_error("output_refused", kv_s("command", id));
}

static void
hold(struct core *c, struct batch *b, const struct effect *e)
{
	struct held *h = alloc_new(sizeof(*h));

	if (h == NULL) {
		log_error("effect_dropped", kv_e("err", ERR_NOMEM));
		router_cut(c->router, e->peer);
		return;
	}
	h->batch = b;
	h->effect = e;
	batch_hold(b);
	/* By number; nearly always the last. */
	struct list *at = c->held.prev;
	while (at != &c->held &&
	    LIST_OF(at, struct held, link)->effect->after > e->after)
		at = at->prev;
	list_insert_before(at->next, &h->link);
}

/*
 * An operation is durable, or never will be.  The writer reports in order,
 * so success lets go of all that waited for an earlier one, too; what could
 * not be handed to the writer at all is reported out of turn.
 */
static void
release(struct core *c, uint64_t number, int err)
{
	struct list *l = c->held.next;

	while (l != &c->held) {
		struct held *h = LIST_OF(l, struct held, link);
		l = l->next;
		if (h->effect->after > number)
			break;
		if (err != 0 && h->effect->after < number)
			continue;
		list_remove(&h->link);
		if (err == 0)
			router_perform(c->router, h->batch, h->effect);
		batch_drop(h->batch);
		alloc_free(h);
	}
}

/* In one hand-over, so in one transaction, unless that is too much memory
 * at once.  Counts those that were taken. */
static int
hand_in(struct core *c, const struct op *const *ops, size_t n, size_t *taken)
{
	int err = writer_ops(c->server->writer, ops, n);

	if (err == ERR_NOMEM && n > 1) {
		err = hand_in(c, ops, n / 2, taken);
		if (err == 0)
			err = hand_in(c, ops + n / 2, n - n / 2, taken);
	} else if (err == 0) {
		*taken += n;
	}
	return err;
}

/* What the writer does not take has failed: the hub hears of it at the
 * beginning of the next turn, before any later result. */
static void
store_ops(struct core *c, struct batch *b)
{
	const struct op **ops =
	    arena_array(&b->out.arena, b->out.count + 1, sizeof(*ops));
	size_t n = 0;

	for (size_t i = 0; i < b->out.count; i++) {
		if (b->out.effects[i].kind != EFFECT_STORE)
			continue;
		if (ops != NULL)
			ops[n] = b->out.effects[i].op;
		n++;
	}
	if (n == 0)
		return;
	b->err = ops == NULL ? ERR_NOMEM : hand_in(c, ops, n, &b->stored);
	if (b->err == 0)
		return;
	log_error(
	    "store_refused", kv_e("err", b->err), kv_u("ops", n - b->stored));
	batch_hold(b);
	list_push(&c->refused, &b->link);
}

/* What ends things is told before anything else is done, and its epoch goes
 * to its own file. */
static bool
is_stop(const struct effect *e)
{
	return e->kind == EFFECT_STOP ||
	    (e->kind == EFFECT_SEND && e->event->kind == EVENT_STOP_ORDER);
}

static void
perform_stops(struct core *c, struct batch *b)
{
	for (size_t i = 0; i < b->out.count; i++) {
		const struct effect *e = &b->out.effects[i];
		if (!is_stop(e))
			continue;
		if (e->kind == EFFECT_SEND)
			router_perform(c->router, b, e);
		else if (c->server->stopfile != NULL)
			stopfile_put(c->server->stopfile, e->stop_state);
	}
}

static void
close_batch(struct core *c)
{
	struct batch *b = c->open;

	if (b == NULL)
		return;
	c->open = NULL;
	perform_stops(c, b);
	/* Output that came inside a message is written before the op that
	 * refers to it. */
	for (size_t i = 0; i < b->out.count; i++) {
		if (b->out.effects[i].kind == EFFECT_OUTPUT)
			write_output(c, &b->out.effects[i]);
	}
	store_ops(c, b);
	for (size_t i = 0; i < b->out.count; i++) {
		const struct effect *e = &b->out.effects[i];
		if (e->kind == EFFECT_STORE || is_stop(e))
			continue;
		if (e->after != 0)
			hold(c, b, e);
		else
			router_perform(c->router, b, e);
	}
	batch_drop(b);
}

/* Input ----------------------------------------------------------------------
 */

static void
input(struct core *c, const struct event *ev)
{
	struct batch *b = batch_open(c);

	if (b == NULL) {
		log_error("event_dropped", kv_e("err", ERR_NOMEM));
		router_cut(c->router, ev->peer);
		return;
	}
	hub_input(c->hub, ev, loop_now(c->loop), &b->out);
	if (b->out.err == 0)
		return;
	/* Whoever said it waits for an answer that will not come.  What came
	 * before it stands, and what comes next gets an outbox of its own. */
	log_error("event_dropped", kv_e("err", b->out.err));
	router_cut(c->router, ev->peer);
	close_batch(c);
}

static void
settle_op(struct core *c, uint64_t number, int err)
{
	struct event ev = { .kind = EVENT_STORED, .at = clock_wall() };

	if (err != 0 && err != ERR_EXISTS && err != ERR_WRONG_STATE &&
	    err != ERR_NOT_FOUND && err != ERR_AGAIN)
		log_error("store_failed", kv_u("op", number), kv_e("err", err));
	atomic_store(&c->server->store_failing,
	    err == ERR_IO || err == ERR_NO_SPACE || err == ERR_CORRUPT ||
		err == ERR_FULL);
	ev.stored.number = number;
	ev.stored.err = err;
	input(c, &ev);
	release(c, number, err);
}

static void
take_refused(struct core *c)
{
	struct list refused;

	list_init(&refused);
	while (!list_empty(&c->refused))
		list_push(&refused, list_pop(&c->refused));
	while (!list_empty(&refused)) {
		struct batch *b =
		    LIST_OF(list_pop(&refused), struct batch, link);
		size_t n = 0;
		for (size_t i = 0; i < b->out.count; i++) {
			const struct effect *e = &b->out.effects[i];
			if (e->kind == EFFECT_STORE && n++ >= b->stored)
				settle_op(c, e->op->number, b->err);
		}
		batch_drop(b);
	}
}

static void
take_results(struct core *c)
{
	struct list results;

	list_init(&results);
	writer_take(c->server->writer, &results);
	for (struct list *l; (l = list_pop(&results)) != NULL;) {
		struct writer_done *d = LIST_OF(l, struct writer_done, link);
		if (d->number == 0) {
			router_stored(c->router, d);
			continue;
		}
		settle_op(c, d->number, d->err);
		writer_done_free(d);
	}
}

/* Of the stop's own file, and of the one that an operator puts there. */
static void
take_stop_news(struct core *c)
{
	struct stopfile_news n;
	struct event ev = { .kind = EVENT_STOP_WRITTEN, .at = clock_wall() };

	if (c->server->stopfile == NULL ||
	    !stopfile_take(c->server->stopfile, &n))
		return;
	if (n.epoch != 0) {
		if (n.err != 0)
			log_error("stop_not_written", kv_u("epoch", n.epoch),
			    kv_e("err", n.err));
		ev.stored.number = n.epoch;
		ev.stored.err = n.err;
		input(c, &ev);
	}
	if (!n.looked)
		return;
	ev = (struct event){ .kind = EVENT_STOP_SWITCH, .at = ev.at };
	ev.stop.stopped = n.present;
	ev.stop.reason = (struct slice){ n.word, n.word_len };
	input(c, &ev);
}

static void
take_one(struct core *c, struct mail *mail)
{
	struct hub_mail *m = (struct hub_mail *)(void *)mail;

	if (m->transit != NULL)
		router_arrived(c->router, m->transit);
	else if (m->parcel != NULL)
		router_relay(c->router, m->parcel);
	else if (m->traveller != NULL)
		router_carry(c->router, m->traveller);
	else
		input(c, &m->event);
}

/* The lane whose first mail has the lowest ticket; NULL without mail. */
static struct lane *
look_round(struct core *c, uint64_t *ticket)
{
	struct lane *best = NULL;

	*ticket = UINT64_MAX;
	for (size_t i = 0; i < c->lane_count; i++) {
		const struct hub_mail *m = (const void *)mailbox_peek(
		    &c->lanes[i]->to_hub, MAIL_NORMAL);
		if (m != NULL && m->ticket < *ticket) {
			best = c->lanes[i];
			*ticket = m->ticket;
		}
	}
	return best;
}

/*
 * What one sees, what came before it has been handed over already; but it
 * may be on a lane that was looked at before that.  So look until nothing
 * older turns up.
 */
static struct lane *
oldest(struct core *c)
{
	uint64_t ticket = UINT64_MAX, before;
	struct lane *lane = NULL;

	if (c->lane_count == 1)
		return c->lanes[0];
	do {
		before = ticket;
		lane = look_round(c, &ticket);
	} while (ticket != before);
	return lane;
}

static void
take_mail(struct core *c)
{
	size_t most = EVENTS_PER_TURN * c->lane_count;

	for (size_t i = 0; i < most; i++) {
		struct lane *lane = oldest(c);
		struct mail *m = lane == NULL
		    ? NULL
		    : mailbox_take(&lane->to_hub, MAIL_NORMAL);
		if (m == NULL)
			return;
		take_one(c, m);
	}
	loop_again(c->loop);
}

static void on_timer(struct loop_timer *t);

/*
 * A storm of registrations leaves holes all over the heap, which the C
 * library keeps for ever unless told.  A trim takes milliseconds (9 after
 * 10,000 agents), so only when much more is free than after the last one.
 */
static void
keep_heap(struct core *c)
{
	msec now = loop_now(c->loop);

	if (now - c->trim_at < TRIM_EVERY)
		return;
	c->trim_at = now;
	collect(c);
	size_t unused = mallinfo2().fordblks;
	if (unused < c->heap_free)
		c->heap_free = unused;
	if (unused - c->heap_free < TRIM_BYTES)
		return;
	malloc_trim(0);
	c->heap_free = mallinfo2().fordblks;
}

static void
keep_time(struct core *c)
{
	msec now = loop_now(c->loop);

	if (hub_deadline(c->hub) <= now && batch_open(c) != NULL) {
		hub_expire(c->hub, now, clock_wall(), &c->open->out);
		if (c->open->out.err != 0)
			log_error(
			    "hub_out_of_memory", kv_e("err", c->open->out.err));
	}
	bool all = now - c->stats_at >= STATS_EVERY;
	pthread_mutex_lock(&c->stats_lock);
	if (all)
		hub_stats_get(c->hub, &c->stats);
	else
		hub_watch_stats(c->hub, &c->stats);
	pthread_mutex_unlock(&c->stats_lock);
	if (all)
		c->stats_at = now;
}

static void
on_timer(struct loop_timer *t)
{
	(void)t; /* the turn that it brings about looks at the time */
}

/* When the next turn is due, whatever else happens. */
static void
set_timer(struct core *c, bool owing)
{
	msec due = hub_deadline(c->hub), soon = loop_now(c->loop) + RETRY_AFTER;

	if ((owing || !list_empty(&c->refused)) && soon < due)
		due = soon;
	if (c->trim_at + TRIM_EVERY < due)
		due = c->trim_at + TRIM_EVERY;
	loop_timer_set(c->loop, &c->timer, due, on_timer);
}

static void
turn(struct loop_task *t)
{
	struct core *c = LIST_OF(t, struct core, turn);

	take_stop_news(c);
	take_refused(c);
	take_results(c);
	take_mail(c);
	keep_time(c);
	keep_heap(c);
	close_batch(c);
	bool owing = router_retry(c->router);
	set_timer(c, owing);
	for (size_t i = 0; i < c->lane_count; i++) {
		mailbox_done(&c->lanes[i]->to_hub);
		mailbox_flush(&c->lanes[i]->to_lane);
	}
}

static void
before_sleep(struct loop_task *t)
{
	struct core *c = LIST_OF(t, struct core, sleep);

	for (size_t i = 0; i < c->lane_count; i++) {
		if (mailbox_sleep(&c->lanes[i]->to_hub))
			loop_again(c->loop);
	}
}

/* Life --------------------------------------------------------------------- */

struct core *
core_new(struct server *server, struct loop *loop, struct hub *hub)
{
	struct core *c = alloc_new(sizeof(*c));

	if (c == NULL)
		return NULL;
	c->router = router_new(server);
	if (c->router == NULL) {
		alloc_free(c);
		return NULL;
	}
	c->server = server;
	c->loop = loop;
	c->hub = hub;
	list_init(&c->held);
	list_init(&c->refused);
	pthread_mutex_init(&c->stats_lock, NULL);
	loop_task_init(&c->turn, turn);
	loop_hook(loop, LOOP_HUB, &c->turn);
	loop_task_init(&c->sleep, before_sleep);
	loop_hook(loop, LOOP_SLEEP, &c->sleep);
	c->stats_at = -STATS_EVERY;
	return c;
}

void
core_finish(struct core *c)
{
	size_t left = 1;

	/* Refusals of the store beget more of them: not for ever. */
	for (int i = 0; left > 0 && i < LAST_TURNS; i++) {
		left = 0;
		turn(&c->turn);
		for (size_t n = 0; n < c->lane_count; n++) {
			struct lane *l = c->lanes[n];
			left += mailbox_depth(&l->to_hub, MAIL_NORMAL);
			router_discard(c->router, l);
		}
	}
}

void
core_free(struct core *c)
{
	if (c == NULL)
		return;
	while (!list_empty(&c->held)) {
		struct held *h = LIST_OF(list_pop(&c->held), struct held, link);
		batch_drop(h->batch);
		alloc_free(h);
	}
	while (!list_empty(&c->refused))
		batch_drop(LIST_OF(list_pop(&c->refused), struct batch, link));
	router_free(c->router);
	loop_timer_stop(c->loop, &c->timer);
	loop_task_drop(&c->turn);
	loop_task_drop(&c->sleep);
	hub_free(c->hub);
	collect(c);
	while (c->spare != NULL) {
		struct batch *next = c->spare->next;
		free_batch(c->spare);
		c->spare = next;
	}
	pthread_mutex_destroy(&c->stats_lock);
	alloc_free(c);
}

void
core_add_lane(struct core *c, struct lane *lane)
{
	router_add_lane(c->router, lane);
	c->lanes[c->lane_count++] = lane;
}

void
core_tell_lanes(struct core *c, enum lane_word word, msec spread)
{
	router_tell_all(c->router, word, spread);
	loop_wake(c->loop);
}

void
core_wake(void *core)
{
	loop_wake(((struct core *)core)->loop);
}

void
core_stats(struct core *c, struct hub_stats *out)
{
	pthread_mutex_lock(&c->stats_lock);
	*out = c->stats;
	pthread_mutex_unlock(&c->stats_lock);
}
