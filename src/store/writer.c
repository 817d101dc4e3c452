/*
 * Design notes.  Two queues under one lock: batches of operations, and flows,
 * one per command, each with its pieces of output in order.  A turn takes
 * all operations, the whole flow of each command that they end, and from the
 * other flows in rotation a bounded amount.  What it took is its own until
 * it is put on the list of results; nothing is written under the lock.
 *
 * Results are allocated when things are handed in, so that nothing can be
 * written and not reported.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/map.h"

#include "io/clock.h"
#include "io/crash.h"
#include "io/rand.h"

#include "store/column.h"
#include "store/writer.h"

enum {
	TURN_OPS = 4096,
	TURN_BYTES = 4 << 20,
	TURN_FLOWS = 32,         /* each is a file to be synced */
	FLOW_BYTES = 256 * 1024, /* of one flow before the next has its turn */
	LAZY_MS = 1000,
	OP_ROOM = 64 << 20,  /* memory of one hand-in */
	FLOWS_MAX = 1 << 20, /* commands with output waiting */
	PRUNE_MS = 3600 * 1000,
	PRUNE_AGAIN_MS = 1000,
	PRUNE_FIRST_MS = 60 * 1000,
};

#define DAY_MS (INT64_C(24) * 3600 * 1000)

/* One operation and its result. */
struct task {
	struct list link;
	struct op op; /* its record in the batch's arena */
	struct writer_done *done;
	struct batch *batch;
	int err;
};

/* One hand-in of operations; freed with its last task. */
struct batch {
	struct arena arena;
	size_t left;
};

enum piece_kind { PIECE_BYTES, PIECE_GAP, PIECE_END };

/* One piece of output: its result, with what it needs until then. */
struct piece {
	struct writer_done done; /* first: freed as such */
	enum piece_kind kind;
	uint64_t offset;
	uint64_t to;    /* GAP */
	uint8_t *bytes; /* owned */
	size_t len;
	char id[];
};

/* What waits of one command. */
struct flow {
	struct list ready; /* in writer.ready while it has pieces */
	struct list pieces;
	size_t id_len;
	char id[];
};

struct writer {
	struct writer_config config;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stopping;
	/* Under the lock: */
	struct list tasks;
	size_t task_count;
	size_t urgent; /* tasks that are not lazy */
	msec lazy_due; /* INT64_MAX: no lazy one waits */
	struct map flows;
	struct list ready;
	size_t waiting_bytes;
	struct list done;
	struct writer_stats stats;
	/* The thread's own: */
	msec prune_due;
	const struct op **ops; /* owned, TURN_OPS each */
	struct task **turn;
	int *errs;
};

/* What one turn has taken. */
struct turn {
	size_t ops;
	struct list pieces;
	size_t bytes;
};

/* Copies ---------------------------------------------------------------- */

static const struct table *
op_table(enum op_verb verb)
{
	static const struct table *const tables[OP_VERBS] = {
		[OP_PUT_USER] = &table_user,
		[OP_PUT_LOGIN] = &table_login,
		[OP_DROP_LOGIN] = &table_login,
		[OP_PUT_TOKEN] = &table_token,
		[OP_TOKEN_USED] = &table_token,
		[OP_PUT_AGENT] = &table_agent,
		[OP_AGENT_SEEN] = &table_agent,
		[OP_LINK_OPENED] = &table_link,
		[OP_LINK_CLOSED] = &table_link,
		[OP_PUT_COMMAND] = &table_command,
		[OP_COMMAND_SENT] = &table_command,
		[OP_COMMAND_BACK] = &table_command,
		[OP_COMMAND_RUNS] = &table_command,
		[OP_COMMAND_ENDED] = &table_command,
		[OP_COMMAND_AGAIN] = &table_command,
		[OP_PUT_STOP] = &table_stop,
		[OP_PUT_RECEIPT] = &table_receipt,
		[OP_PUT_SECRET] = &table_secret,
		[OP_DROP_SECRET] = &table_secret,
		[OP_PUT_LOG] = &table_log,
	};

	assert(verb < OP_VERBS);
	return tables[verb];
}

static int
op_copy(struct arena *a, const struct op *from, struct op *to)
{
	const struct table *t = op_table(from->verb);
	struct audit_note *note;
	int err = 0;

	*to = *from;
	if (from->audit.action.ptr != NULL) {
		note = column_copy(a, &table_note, &from->audit);
		if (note == NULL)
			return ERR_NOMEM;
		to->audit = *note;
	}
	if (t != NULL) {
		/* All records of the union are pointers in one place. */
		to->command = column_copy(a, t, from->command);
		return to->command == NULL ? ERR_NOMEM : 0;
	}
	if (from->verb == OP_PUT_META) {
		err = arena_copy(a, from->meta.key, &to->meta.key);
		if (err == 0)
			err = arena_copy(a, from->meta.value, &to->meta.value);
	}
	return err;
}

static void
task_end(struct task *t)
{
	struct batch *b = t->batch;

	/* The last task of a batch takes the memory of all with it. */
	if (--b->left > 0)
		return;
	arena_fini(&b->arena);
	alloc_free(b);
}

static void
tasks_drop(struct list *tasks)
{
	for (struct list *l; (l = list_pop(tasks)) != NULL;) {
		struct task *t = LIST_OF(l, struct task, link);
		alloc_free(t->done);
		task_end(t);
	}
}

static struct task *
task_new(struct batch *b, const struct op *op)
{
	struct task *t = arena_alloc(&b->arena, sizeof(*t));

	if (t == NULL || op_copy(&b->arena, op, &t->op) != 0)
		return NULL;
	t->done = alloc_new(sizeof(*t->done));
	if (t->done == NULL)
		return NULL;
	t->done->number = op->number;
	t->batch = b;
	return t;
}

/* The tasks of one hand-in on the list; 0 or ERR_NOMEM and none. */
static int
batch_new(const struct op *const *ops, size_t count, struct list *tasks)
{
	struct batch *b = alloc_new(sizeof(*b));

	if (b == NULL)
		return ERR_NOMEM;
	arena_init(&b->arena, OP_ROOM);
	b->left = 1; /* held by this call */
	int err = 0;
	for (size_t i = 0; err == 0 && i < count; i++) {
		struct task *t = task_new(b, ops[i]);
		if (t == NULL) {
			err = ERR_NOMEM;
			break;
		}
		b->left++;
		list_push(tasks, &t->link);
	}
	if (err != 0)
		tasks_drop(tasks);
	if (--b->left == 0) {
		arena_fini(&b->arena);
		alloc_free(b);
	}
	return err;
}

/* Handing in ------------------------------------------------------------ */

static void
splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

int
writer_ops(struct writer *w, const struct op *const *ops, size_t count)
{
	struct list tasks;
	size_t urgent = 0;

	if (count == 0)
		return 0;
	list_init(&tasks);
	int err = batch_new(ops, count, &tasks);
	if (err != 0)
		return err;
	for (size_t i = 0; i < count; i++)
		urgent += !ops[i]->lazy;
	pthread_mutex_lock(&w->lock);
	if (w->task_count + count > w->config.ops_max) {
		err = ERR_FULL;
	} else {
		splice(&w->tasks, &tasks);
		w->task_count += count;
		w->urgent += urgent;
		if (urgent < count && w->lazy_due == INT64_MAX)
			w->lazy_due = clock_mono() + LAZY_MS;
		pthread_cond_signal(&w->work);
	}
	pthread_mutex_unlock(&w->lock);
	tasks_drop(&tasks);
	return err;
}

static void
piece_free(struct piece *p)
{
	alloc_free(p->bytes);
	alloc_free(p);
}

static struct piece *
piece_new(struct slice id, struct slice bytes)
{
	struct piece *p = alloc_new(sizeof(*p) + id.len + 1);

	if (p == NULL)
		return NULL;
	memcpy(p->id, id.ptr, id.len);
	p->done.command_id = (struct slice){ (uint8_t *)p->id, id.len };
	list_init(&p->done.link);
	if (bytes.len == 0)
		return p;
	p->bytes = alloc_new(bytes.len);
	if (p->bytes == NULL) {
		alloc_free(p);
		return NULL;
	}
	memcpy(p->bytes, bytes.ptr, bytes.len);
	p->len = bytes.len;
	return p;
}

static struct flow *
flow_get(struct writer *w, struct slice id)
{
	struct flow *f = map_get(&w->flows, id);

	if (f != NULL)
		return f;
	f = alloc_new(sizeof(*f) + id.len + 1);
	if (f == NULL)
		return NULL;
	memcpy(f->id, id.ptr, id.len);
	f->id_len = id.len;
	list_init(&f->pieces);
	if (map_put(&w->flows, (struct slice){ (uint8_t *)f->id, id.len }, f) !=
	    0) {
		alloc_free(f);
		return NULL;
	}
	list_push(&w->ready, &f->ready);
	return f;
}

static void
flow_free(struct writer *w, struct flow *f)
{
	map_del(&w->flows, (struct slice){ (uint8_t *)f->id, f->id_len });
	list_remove(&f->ready);
	alloc_free(f);
}

/* Takes p, also on failure. */
static int
hand_in_take(struct writer *w, struct piece *p)
{
	int err = 0;

	pthread_mutex_lock(&w->lock);
	if (w->waiting_bytes > 0 &&
	    w->waiting_bytes + p->len > w->config.output_max) {
		err = ERR_FULL;
	} else {
		struct flow *f = flow_get(w, p->done.command_id);
		if (f == NULL) {
			err = ERR_NOMEM;
		} else {
			list_push(&f->pieces, &p->done.link);
			w->waiting_bytes += p->len;
			pthread_cond_signal(&w->work);
		}
	}
	pthread_mutex_unlock(&w->lock);
	if (err != 0)
		piece_free(p);
	return err;
}

int
writer_output(struct writer *w, struct slice command_id,
    enum output_stream stream, uint64_t offset, struct slice bytes, void *tag)
{
	struct piece *p = piece_new(command_id, bytes);

	if (p == NULL)
		return ERR_NOMEM;
	p->kind = PIECE_BYTES;
	p->offset = offset;
	p->done.stream = stream;
	p->done.tag = tag;
	return hand_in_take(w, p);
}

int
writer_output_gap(struct writer *w, struct slice command_id,
    enum output_stream stream, uint64_t from, uint64_t to, void *tag)
{
	struct piece *p = piece_new(command_id, (struct slice){ 0 });

	if (p == NULL)
		return ERR_NOMEM;
	p->kind = PIECE_GAP;
	p->offset = from;
	p->to = to;
	p->done.stream = stream;
	p->done.tag = tag;
	return hand_in_take(w, p);
}

int
writer_output_end(struct writer *w, struct slice command_id,
    enum output_stream stream, void *tag)
{
	struct piece *p = piece_new(command_id, (struct slice){ 0 });

	if (p == NULL)
		return ERR_NOMEM;
	p->kind = PIECE_END;
	p->done.stream = stream;
	p->done.tag = tag;
	return hand_in_take(w, p);
}

/* A turn ---------------------------------------------------------------- */

/* Move pieces of a flow to the turn, at most about max bytes. */
static void
take_flow(struct writer *w, struct turn *t, struct flow *f, size_t max)
{
	size_t taken = 0;

	while (taken < max && !list_empty(&f->pieces)) {
		struct list *l = list_pop(&f->pieces);
		taken += LIST_OF(l, struct piece, done.link)->len;
		list_push(&t->pieces, l);
	}
	t->bytes += taken;
	list_remove(&f->ready);
	if (list_empty(&f->pieces))
		flow_free(w, f);
	else
		list_push(&w->ready, &f->ready);
}

static void
take_ops(struct writer *w, struct turn *t)
{
	while (t->ops < TURN_OPS && !list_empty(&w->tasks)) {
		struct task *task =
		    LIST_OF(list_pop(&w->tasks), struct task, link);
		w->turn[t->ops] = task;
		w->ops[t->ops++] = &task->op;
		w->task_count--;
		w->urgent -= !task->op.lazy;
		if (task->op.verb != OP_COMMAND_ENDED)
			continue;
		struct flow *f = map_get(&w->flows, task->op.command->id);
		if (f != NULL)
			take_flow(w, t, f, SIZE_MAX);
	}
	if (list_empty(&w->tasks))
		w->lazy_due = INT64_MAX;
}

static void
take_output(struct writer *w, struct turn *t)
{
	size_t flows = 0;

	/* A flow may come round again while others are empty. */
	while (t->bytes < TURN_BYTES && flows < TURN_FLOWS &&
	    !list_empty(&w->ready)) {
		struct flow *f = LIST_OF(w->ready.next, struct flow, ready);
		take_flow(w, t, f, FLOW_BYTES);
		flows++;
	}
}

/* Where a test may end the program, by what is being stored. */
static const char *const before_commit[OP_VERBS] = {
	[OP_PUT_COMMAND] = "musterd.put",
	[OP_COMMAND_SENT] = "musterd.sent",
	[OP_COMMAND_RUNS] = "musterd.runs",
	[OP_COMMAND_ENDED] = "musterd.end",
};
static const char *const after_commit[OP_VERBS] = {
	[OP_PUT_COMMAND] = "musterd.put-stored",
	[OP_COMMAND_SENT] = "musterd.sent-stored",
	[OP_COMMAND_RUNS] = "musterd.runs-stored",
	[OP_COMMAND_ENDED] = "musterd.end-stored",
};

static void
crash_points(const struct writer *w, const struct turn *t,
    const char *const names[OP_VERBS])
{
	for (size_t i = 0; i < t->ops; i++)
		if (names[w->ops[i]->verb] != NULL)
			crash_point(names[w->ops[i]->verb]);
}

static void
write_pieces(struct writer *w, struct turn *t)
{
	struct store *s = w->config.store;

	for (struct list *l = t->pieces.next; l != &t->pieces; l = l->next) {
		struct piece *p = LIST_OF(l, struct piece, done.link);
		struct writer_done *d = &p->done;
		if (p->kind == PIECE_BYTES)
			d->err =
			    store_output_append(s, d->command_id, d->stream,
				p->offset, (struct slice){ p->bytes, p->len });
		else if (p->kind == PIECE_GAP)
			d->err = store_output_gap(
			    s, d->command_id, d->stream, p->offset, p->to);
		alloc_free(p->bytes);
		p->bytes = NULL;
	}
	if (t->bytes > 0)
		crash_point("musterd.output-written");
	int err = list_empty(&t->pieces) ? 0 : store_output_sync(s);
	if (t->bytes > 0)
		crash_point("musterd.output-stored");
	for (struct list *l = t->pieces.next; l != &t->pieces; l = l->next) {
		struct piece *p = LIST_OF(l, struct piece, done.link);
		struct writer_done *d = &p->done;
		uint64_t wanted = p->kind == PIECE_BYTES ? p->offset + p->len
		    : p->kind == PIECE_GAP               ? p->to
							 : 0;
		int failed =
		    store_output_end(s, d->command_id, d->stream, &d->durable);
		if (d->err == 0)
			d->err = failed;
		/* A sync that failed took some streams back. */
		if (d->err == 0 && err != 0 && d->durable < wanted)
			d->err = err;
	}
}

static void
write_ops(struct writer *w, struct turn *t)
{
	for (size_t i = 0; i < t->ops; i++)
		w->errs[i] = 0;
	crash_points(w, t, before_commit);
	int64_t from = clock_mono_ns();
	int err = store_apply(w->config.store, w->ops, t->ops, w->errs);
	int64_t took = clock_mono_ns() - from;
	crash_points(w, t, after_commit);
	for (size_t i = 0; i < t->ops; i++)
		w->turn[i]->done->err = w->errs[i];
	pthread_mutex_lock(&w->lock);
	if (err != 0)
		w->stats.failed++;
	else
		w->stats.commit_seconds += (double)took / 1e9;
	pthread_mutex_unlock(&w->lock);
}

static void
count(struct writer *w)
{
	struct store_counts c;

	store_counts(w->config.store, &c);
	w->stats.commits = c.commits;
	w->stats.fsyncs = c.syncs;
	w->stats.wal_pages = c.wal_pages;
	w->stats.output_bytes = c.output_bytes;
}

/* Put the results where they can be taken, and wake once. */
static void
deliver(struct writer *w, struct turn *t)
{
	struct list done;

	list_init(&done);
	for (size_t i = 0; i < t->ops; i++) {
		list_push(&done, &w->turn[i]->done->link);
		task_end(w->turn[i]);
	}
	pthread_mutex_lock(&w->lock);
	splice(&w->done, &t->pieces);
	splice(&w->done, &done);
	w->waiting_bytes -= t->bytes;
	count(w);
	pthread_mutex_unlock(&w->lock);
	w->config.wake(w->config.owner);
}

static void
turn_run(struct writer *w, struct turn *t)
{
	write_pieces(w, t);
	if (t->ops > 0)
		write_ops(w, t);
	deliver(w, t);
}

/* Retention, when nothing waits. */
static void
prune(struct writer *w)
{
	wall_msec now = clock_wall();
	bool more = false, more_logs = false;

	(void)store_prune_logs(w->config.store,
	    now - w->config.log_days * DAY_MS, now, &more_logs);
	(void)store_prune(w->config.store, now - w->config.output_days * DAY_MS,
	    now - w->config.audit_days * DAY_MS, now, &more);
	w->prune_due =
	    clock_mono() + (more || more_logs ? PRUNE_AGAIN_MS : PRUNE_MS);
}

static bool
has_work(const struct writer *w, msec now)
{
	return w->stopping || w->urgent > 0 || !list_empty(&w->ready) ||
	    now >= w->lazy_due;
}

/* Wait, with the lock held, for work or until due. */
static void
wait_until(struct writer *w, msec due)
{
	struct timespec at = {
		.tv_sec = due / 1000,
		.tv_nsec = due % 1000 * 1000000,
	};

	pthread_cond_timedwait(&w->work, &w->lock, &at);
}

static void *
run(void *arg)
{
	struct writer *w = arg;
	bool tidy = false;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		msec now = clock_mono();
		if (!has_work(w, now)) {
			bool old = now >= w->prune_due;
			if (old || tidy) {
				pthread_mutex_unlock(&w->lock);
				if (old)
					prune(w);
				(void)store_checkpoint(w->config.store);
				tidy = false;
				pthread_mutex_lock(&w->lock);
				continue;
			}
			wait_until(w,
			    w->lazy_due < w->prune_due ? w->lazy_due
						       : w->prune_due);
			continue;
		}
		struct turn t = { 0 };
		list_init(&t.pieces);
		if (w->stopping || w->urgent > 0 || now >= w->lazy_due)
			take_ops(w, &t);
		take_output(w, &t);
		if (t.ops == 0 && list_empty(&t.pieces))
			break; /* stopping, and all is written */
		pthread_mutex_unlock(&w->lock);
		turn_run(w, &t);
		tidy = true;
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Life -------------------------------------------------------------------- */

static void
config_fill(struct writer_config *c)
{
	if (c->output_max == 0)
		c->output_max = 64 << 20;
	if (c->ops_max == 0)
		c->ops_max = 1000000;
	if (c->output_days == 0)
		c->output_days = 30;
	if (c->log_days == 0)
		c->log_days = 7;
	if (c->audit_days == 0)
		c->audit_days = 400;
}

static void
writer_free(struct writer *w)
{
	struct list done;

	writer_take(w, &done);
	for (struct list *l; (l = list_pop(&done)) != NULL;)
		writer_done_free(LIST_OF(l, struct writer_done, link));
	map_fini(&w->flows);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->work);
	alloc_free(w->ops);
	alloc_free(w->turn);
	alloc_free(w->errs);
	alloc_free(w);
}

static void
init_locks(struct writer *w)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->work, &attr);
	pthread_condattr_destroy(&attr);
}

int
writer_start(struct writer **out, const struct writer_config *config)
{
	struct writer *w = alloc_new(sizeof(*w));
	uint64_t seed[2];

	if (w == NULL)
		return ERR_NOMEM;
	w->config = *config;
	config_fill(&w->config);
	init_locks(w);
	list_init(&w->tasks);
	list_init(&w->ready);
	list_init(&w->done);
	rand_fill(seed, sizeof(seed));
	map_init(&w->flows, FLOWS_MAX, seed);
	w->lazy_due = INT64_MAX;
	w->prune_due = clock_mono() + PRUNE_FIRST_MS;
	w->ops = alloc_array(TURN_OPS, sizeof(*w->ops));
	w->turn = alloc_array(TURN_OPS, sizeof(*w->turn));
	w->errs = alloc_array(TURN_OPS, sizeof(*w->errs));
	int err = w->ops == NULL || w->turn == NULL || w->errs == NULL
	    ? ERR_NOMEM
	    : 0;
	if (err == 0 && pthread_create(&w->thread, NULL, run, w) != 0)
		err = ERR_AGAIN;
	if (err != 0) {
		writer_free(w);
		return err;
	}
	*out = w;
	return 0;
}

void
writer_stop(struct writer *w)
{
	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	writer_free(w);
}

void
writer_take(struct writer *w, struct list *head)
{
	list_init(head);
	pthread_mutex_lock(&w->lock);
	splice(head, &w->done);
	pthread_mutex_unlock(&w->lock);
}

void
writer_done_free(struct writer_done *d)
{
	alloc_free(d);
}

void
writer_stats_get(struct writer *w, struct writer_stats *out)
{
	pthread_mutex_lock(&w->lock);
	*out = w->stats;
	out->waiting_ops = w->task_count;
	out->waiting_bytes = w->waiting_bytes;
	pthread_mutex_unlock(&w->lock);
}
