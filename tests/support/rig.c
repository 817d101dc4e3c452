#include "base/alloc.h"
#include "base/err.h"

#include "support/rig.h"

enum { OUTBOX_CAP = 256 << 20 };

struct rig_batch {
	struct list link;
	struct outbox out;
	size_t refs;
};

/* An op or an effect of a batch that waits. */
struct waiting {
	struct list link;
	struct rig_batch *batch;
	const struct op *op;
	const struct effect *effect;
};

void
rig_init(struct rig *r, const struct hub_config *config)
{
	const struct hub_config plain = { .seed = { 1, 2, 3, 4 },
		.incarnation = SL("db-1") };

	*r = (struct rig){ .wall = 1760616000000 };
	list_init(&r->spare);
	list_init(&r->ops);
	list_init(&r->held);
	r->hub = hub_new(config != NULL ? config : &plain);
}

static void
drop_batch(struct rig *r, struct rig_batch *b)
{
	if (--b->refs > 0)
		return;
	outbox_reset(&b->out);
	list_push_front(&r->spare, &b->link);
}

static void
free_waiting(struct rig *r, struct waiting *w)
{
	list_remove(&w->link);
	drop_batch(r, w->batch);
	alloc_free(w);
}

void
rig_fini(struct rig *r)
{
	while (!list_empty(&r->ops))
		free_waiting(r, LIST_OF(r->ops.next, struct waiting, link));
	while (!list_empty(&r->held))
		free_waiting(r, LIST_OF(r->held.next, struct waiting, link));
	while (!list_empty(&r->spare)) {
		struct rig_batch *b =
		    LIST_OF(list_pop(&r->spare), struct rig_batch, link);
		outbox_fini(&b->out);
		alloc_free(b);
	}
	hub_free(r->hub);
}

void
rig_open(struct rig *r)
{
	struct rig_batch *b;

	if (!list_empty(&r->spare)) {
		b = LIST_OF(list_pop(&r->spare), struct rig_batch, link);
	} else {
		b = alloc_new(sizeof(*b));
		if (b == NULL) {
			r->err = ERR_NOMEM;
			return;
		}
		list_init(&b->link);
		outbox_init(&b->out, OUTBOX_CAP);
	}
	b->refs = 1;
	r->open = b;
}

void
rig_add(struct rig *r, const struct event *ev)
{
	struct event now = *ev;

	if (r->open == NULL)
		return;
	now.at = r->wall;
	hub_input(r->hub, &now, r->now, &r->open->out);
}

static void
wait_for(
    struct rig *r, struct list *l, struct rig_batch *b, const struct effect *e)
{
	struct waiting *w = alloc_new(sizeof(*w));

	if (w == NULL) {
		r->err = ERR_NOMEM;
		return;
	}
	w->batch = b;
	w->effect = e;
	w->op = e->kind == EFFECT_STORE ? e->op : NULL;
	b->refs++;
	list_push(l, &w->link);
}

static void
end_batch(struct rig *r)
{
	struct rig_batch *b = r->open;

	r->open = NULL;
	if (b == NULL)
		return;
	if (b->out.err != 0)
		r->err = b->out.err;
	for (size_t i = 0; i < b->out.count; i++) {
		const struct effect *e = &b->out.effects[i];
		if (e->kind == EFFECT_STOP)
			r->stop_epoch = e->stop_state->epoch;
		if (e->kind == EFFECT_STORE)
			wait_for(r, &r->ops, b, e);
		else if (e->after != 0)
			wait_for(r, &r->held, b, e);
		else
			r->perform(r->arg, e);
	}
	drop_batch(r, b);
}

static void
release(struct rig *r, uint64_t number, int err)
{
	while (!list_empty(&r->held)) {
		struct waiting *w = LIST_OF(r->held.next, struct waiting, link);
		if (w->effect->after > number)
			return;
		if (err == 0 || w->effect->after < number)
			r->perform(r->arg, w->effect);
		free_waiting(r, w);
	}
}

/* The stop's own file is written by its own thread, beside the store. */
static void
write_stop(struct rig *r)
{
	struct event ev = { .kind = EVENT_STOP_WRITTEN };

	if (r->stop_epoch == 0 || r->stop_err == RIG_HOLD)
		return;
	ev.stored.number = r->stop_epoch;
	ev.stored.err = r->stop_err;
	if (r->stop_err == 0)
		r->stop_file = r->stop_epoch;
	r->stop_epoch = 0;
	rig_open(r);
	rig_add(r, &ev);
	end_batch(r);
}

/* What a store knows of outcomes. */
static int
keep_outcome(struct rig *r, const struct op *op)
{
	const struct command_record *c = op->command;
	char id[sizeof(r->ends[0].id)];

	if ((op->verb != OP_COMMAND_ENDED && op->verb != OP_COMMAND_AGAIN) ||
	    slice_cstr(c->id, id, sizeof(id)) != 0)
		return 0;
	const int64_t said[6] = { (int64_t)c->state, c->exit_code, c->signal,
		(int64_t)c->code.len, (int64_t)c->out_bytes,
		(int64_t)c->err_bytes };
	size_t i = 0;
	while (i < RIG_ENDS && strcmp(r->ends[i].id, id) != 0)
		i++;
	if (op->verb == OP_COMMAND_AGAIN)
		return i == RIG_ENDS ? ERR_NOT_FOUND
		    : memcmp(r->ends[i].said, said, sizeof(said)) == 0
		    ? 0
		    : ERR_WRONG_STATE;
	i = r->end_count++ % RIG_ENDS;
	memcpy(r->ends[i].id, id, sizeof(id));
	memcpy(r->ends[i].said, said, sizeof(said));
	return 0;
}

void
rig_settle(struct rig *r)
{
	write_stop(r);
	while (!list_empty(&r->ops)) {
		struct waiting *w = LIST_OF(r->ops.next, struct waiting, link);
		int err = r->store == NULL ? 0 : r->store(r->arg, w->op);
		if (err == RIG_HOLD)
			return;
		if (err == 0)
			err = keep_outcome(r, w->op);
		r->op_count++;
		struct event ev = { .kind = EVENT_STORED };
		ev.stored.number = w->op->number;
		ev.stored.err = err;
		free_waiting(r, w);
		rig_open(r);
		rig_add(r, &ev);
		release(r, ev.stored.number, err);
		end_batch(r);
	}
}

struct outbox *
rig_outbox(struct rig *r)
{
	return &r->open->out;
}

void
rig_close(struct rig *r)
{
	end_batch(r);
	rig_settle(r);
}

void
rig_input(struct rig *r, const struct event *ev)
{
	rig_open(r);
	rig_add(r, ev);
	rig_close(r);
}

void
rig_advance(struct rig *r, msec to)
{
	while (hub_deadline(r->hub) <= to) {
		msec due = hub_deadline(r->hub);
		if (due > r->now) {
			r->wall += due - r->now;
			r->now = due;
		}
		rig_open(r);
		if (r->open != NULL)
			hub_expire(r->hub, r->now, r->wall, &r->open->out);
		rig_close(r);
	}
	r->wall += to - r->now;
	r->now = to;
}

void
rig_hash(uint8_t hash[HASH_LEN], uint32_t n)
{
	memset(hash, 0, HASH_LEN);
	for (size_t i = 0; i < sizeof(n); i++)
		hash[i] = (uint8_t)(n >> 8 * i);
	hash[HASH_LEN - 1] = 1;
}

struct peer_id
rig_peer(uint32_t n)
{
	return (struct peer_id){ .slot = n, .generation = 1 };
}

struct event
rig_event(enum event_kind kind, uint32_t peer)
{
	return (struct event){ .kind = kind, .peer = rig_peer(peer) };
}

struct event
rig_hello(
    uint32_t peer, uint32_t token, const char *address, enum entrance entrance)
{
	struct event ev = rig_event(EVENT_HELLO, peer);

	ev.hello.entrance = entrance;
	ev.hello.credential.kind =
	    token == 0 ? CREDENTIAL_NONE : CREDENTIAL_TOKEN;
	rig_hash(ev.hello.credential.hash, token);
	ev.hello.credential.address = slice_from(address);
	ev.hello.credential.remote = slice_from(address);
	return ev;
}
