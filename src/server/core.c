#include <assert.h>
#include <pthread.h>

#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/core.h"

enum {
	OUTBOX_CAP = 256 * 1024 * 1024,
	EVENTS_PER_TURN = 256, /* normal ones, from each lane */
	SPARE_BATCHES = 8,
	STATS_EVERY = 1000,
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
	struct lane *lanes[CORE_LANES];
	size_t lane_count;
	struct loop_task turn;
	struct loop_task sleep;
	struct loop_timer timer;
	struct list held;   /* by number of the operation */
	struct batch *open; /* of this turn; NULL between turns */
	pthread_mutex_t stats_lock;
	struct hub_stats stats;
	msec stats_at;
};

static struct batch *
batch_open(struct core *c)
{
	if (c->open != NULL)
		return c->open;
	struct batch *b = alloc_new(sizeof(*b));
	if (b == NULL)
		return NULL;
	outbox_init(&b->out, OUTBOX_CAP);
	atomic_init(&b->refs, 1);
	c->open = b;
	return b;
}

void
batch_drop(struct batch *b)
{
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	outbox_fini(&b->out);
	alloc_free(b);
}

static void
batch_hold(struct batch *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

/* Effects ------------------------------------------------------------------ */

static bool
is_urgent(const struct effect *e)
{
	return e->kind == EFFECT_CLOSE ||
	    (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_SIGNAL);
}

static void
hand_over(struct lane *lane, struct batch *b, const struct effect *e)
{
	enum mail_class class = is_urgent(e) ? MAIL_URGENT : MAIL_NORMAL;
	struct arena *a = mailbox_arena(&lane->to_lane, class);
	struct effect_mail *m = a == NULL ? NULL : arena_alloc(a, sizeof(*m));

	if (m != NULL) {
		m->batch = b;
		m->effect = e;
		batch_hold(b);
		if (mailbox_put(&lane->to_lane, class, &m->mail) == 0)
			return;
		batch_drop(b);
	}
	log_warn("effect_dropped", kv_u("lane", lane->config.index));
}

/* Where an effect is performed: the lane of its peer; a stream's order
 * without a link goes where its viewer is. */
static struct peer_id
place(const struct effect *e)
{
	if (e->kind == EFFECT_STREAM && !peer_some(e->peer))
		return e->stream.viewer;
	return e->peer;
}

static void
perform(struct core *c, struct batch *b, const struct effect *e)
{
	struct peer_id to = place(e);

	if (e->kind == EFFECT_PUBLISH) {
		for (size_t i = 0; i < c->lane_count; i++) {
			if (atomic_load(&c->server->counts.followers) > 0)
				hand_over(c->lanes[i], b, e);
		}
		return;
	}
	if (e->kind == EFFECT_OUTPUT) {
		struct writer *w = c->server->writer;
		if (writer_output(w, e->output.command_id, OUTPUT_OUT, 0,
			e->output.out, NULL) != 0 ||
		    writer_output(w, e->output.command_id, OUTPUT_ERR, 0,
			e->output.err, NULL) != 0)
			log_error("output_refused",
			    kv_s("command", e->output.command_id));
		return;
	}
	if (!peer_some(to))
		return;
	assert(to.lane < c->lane_count);
	hand_over(c->lanes[to.lane], b, e);
}

static void
hold(struct core *c, struct batch *b, const struct effect *e)
{
	struct held *h = alloc_new(sizeof(*h));

	if (h == NULL) {
		log_error("effect_dropped", kv_e("err", ERR_NOMEM));
		return;
	}
	h->batch = b;
	h->effect = e;
	batch_hold(b);
	list_push(&c->held, &h->link);
}

static void
release(struct core *c, uint64_t number, int err)
{
	struct list *l = c->held.next;

	while (l != &c->held) {
		struct held *h = LIST_OF(l, struct held, link);
		l = l->next;
		/* Numbers are handed out and held in order. */
		if (h->effect->after > number)
			break;
		list_remove(&h->link);
		if (err == 0 || h->effect->after < number)
			perform(c, h->batch, h->effect);
		batch_drop(h->batch);
		alloc_free(h);
	}
}

/* The store's operations of a batch go first, in one hand-over. */
static void
store_ops(struct core *c, struct batch *b)
{
	const struct op **ops =
	    arena_array(&b->out.arena, b->out.count + 1, sizeof(*ops));
	size_t n = 0;

	if (ops == NULL) {
		log_error("store_refused", kv_e("err", ERR_NOMEM));
		return;
	}
	for (size_t i = 0; i < b->out.count; i++) {
		if (b->out.effects[i].kind == EFFECT_STORE)
			ops[n++] = b->out.effects[i].op;
	}
	if (n == 0)
		return;
	int err = writer_ops(c->server->writer, ops, n);
	if (err == 0)
		return;
	log_error("store_refused", kv_e("err", err), kv_u("ops", n));
}

static void
close_batch(struct core *c)
{
	struct batch *b = c->open;

	if (b == NULL)
		return;
	c->open = NULL;
	if (b->out.err != 0)
		log_error("hub_out_of_memory", kv_e("err", b->out.err));
	/* Output that came inside a message is written before the op that
	 * refers to it. */
	for (size_t i = 0; i < b->out.count; i++) {
		if (b->out.effects[i].kind == EFFECT_OUTPUT)
			perform(c, b, &b->out.effects[i]);
	}
	store_ops(c, b);
	for (size_t i = 0; i < b->out.count; i++) {
		const struct effect *e = &b->out.effects[i];
		if (e->kind == EFFECT_STORE || e->kind == EFFECT_OUTPUT)
			continue;
		if (e->after != 0)
			hold(c, b, e);
		else
			perform(c, b, e);
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
		return;
	}
	hub_input(c->hub, ev, loop_now(c->loop), &b->out);
}

static void
output_stored(struct core *c, struct writer_done *done)
{
	/* tag is the lane that handed it in. */
	struct lane *lane = done->tag;
	struct arena *a =
	    lane == NULL ? NULL : mailbox_arena(&lane->to_lane, MAIL_NORMAL);
	struct effect_mail *m = a == NULL ? NULL : arena_alloc(a, sizeof(*m));

	(void)c;
	if (m != NULL) {
		m->done = done;
		if (mailbox_put(&lane->to_lane, MAIL_NORMAL, &m->mail) == 0)
			return;
	}
	writer_done_free(done);
}

static void
op_stored(struct core *c, struct writer_done *done)
{
	struct event ev = { .kind = EVENT_STORED, .at = clock_wall() };

	if (done->err != 0 && done->err != ERR_EXISTS &&
	    done->err != ERR_WRONG_STATE)
		log_error("store_failed", kv_u("op", done->number),
		    kv_e("err", done->err));
	atomic_store(&c->server->store_failing,
	    done->err == ERR_IO || done->err == ERR_NO_SPACE ||
		done->err == ERR_CORRUPT);
	ev.stored.number = done->number;
	ev.stored.err = done->err;
	input(c, &ev);
	release(c, done->number, done->err);
	writer_done_free(done);
}

static void
take_results(struct core *c)
{
	struct list results;

	list_init(&results);
	writer_take(c->server->writer, &results);
	for (struct list *l; (l = list_pop(&results)) != NULL;) {
		struct writer_done *d = LIST_OF(l, struct writer_done, link);
		if (d->number != 0)
			op_stored(c, d);
		else
			output_stored(c, d);
	}
}

static void
take_mail(struct core *c, struct lane *lane)
{
	struct mail *m;

	while ((m = mailbox_take(&lane->to_hub, MAIL_URGENT)) != NULL)
		input(c, &((struct event_mail *)(void *)m)->event);
	for (int i = 0; i < EVENTS_PER_TURN; i++) {
		m = mailbox_take(&lane->to_hub, MAIL_NORMAL);
		if (m == NULL)
			break;
		input(c, &((struct event_mail *)(void *)m)->event);
	}
	if (mailbox_depth(&lane->to_hub, MAIL_NORMAL) > 0)
		loop_again(c->loop);
}

static void on_timer(struct loop_timer *t);

static void
keep_time(struct core *c)
{
	msec now = loop_now(c->loop);
	msec due = hub_deadline(c->hub);

	if (due <= now && batch_open(c) != NULL)
		hub_expire(c->hub, now, clock_wall(), &c->open->out);
	due = hub_deadline(c->hub);
	if (due != INT64_MAX)
		loop_timer_set(c->loop, &c->timer, due, on_timer);
	if (now - c->stats_at < STATS_EVERY)
		return;
	c->stats_at = now;
	pthread_mutex_lock(&c->stats_lock);
	hub_stats_get(c->hub, &c->stats);
	pthread_mutex_unlock(&c->stats_lock);
}

static void
on_timer(struct loop_timer *t)
{
	(void)t; /* the turn that it brings about looks at the time */
}

static void
turn(struct loop_task *t)
{
	struct core *c = LIST_OF(t, struct core, turn);

	take_results(c);
	for (size_t i = 0; i < c->lane_count; i++)
		take_mail(c, c->lanes[i]);
	keep_time(c);
	close_batch(c);
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

struct core *
core_new(struct server *server, struct loop *loop, struct hub *hub)
{
	struct core *c = alloc_new(sizeof(*c));

	if (c == NULL)
		return NULL;
	c->server = server;
	c->loop = loop;
	c->hub = hub;
	list_init(&c->held);
	pthread_mutex_init(&c->stats_lock, NULL);
	loop_task_init(&c->turn, turn);
	loop_hook(loop, LOOP_HUB, &c->turn);
	loop_task_init(&c->sleep, before_sleep);
	loop_hook(loop, LOOP_SLEEP, &c->sleep);
	c->stats_at = -STATS_EVERY;
	return c;
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
	loop_timer_stop(c->loop, &c->timer);
	loop_task_drop(&c->turn);
	loop_task_drop(&c->sleep);
	hub_free(c->hub);
	pthread_mutex_destroy(&c->stats_lock);
	alloc_free(c);
}

void
core_add_lane(struct core *c, struct lane *lane)
{
	assert(c->lane_count < CORE_LANES);
	c->lanes[c->lane_count++] = lane;
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
