/*
 * The agent's side of the console role.
 *
 * Design notes.  An agent of this kind cannot be slowed and sends nothing
 * twice, so it is always read.  Its output is stored first and then shown; of
 * what comes faster than 1,000 messages a minute, or while the store is
 * behind, the rest waits in the spool, in order, and is shown a little later
 * in fewer and larger pieces.  That a command is over is said behind its
 * output, so it goes through the spool, too.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/clone.h"

#include "io/log.h"
#include "io/rand.h"

#include "server/live.h"

#include "server/console_parts.h"

enum {
	TASKS_MAX = 4096,
	LIVE_BURST = 1000, /* messages shown as they come ... */
	LIVE_EVERY = 60,   /* ... and one more each so many ms: 1,000 a
			    * minute */
	MERGE_MAX = 256 * 1024,
	SPOOL_MAX = 64 * 1024 * 1024,
	STORE_AGAIN = 20, /* ms */
};

/* A command that it was given. */
struct task {
	struct command_record *command; /* owned */
	struct live live;
	struct peer_id viewer;
	uint64_t bytes[3]; /* handed to the writer, by stream */
	wall_msec given_at;
	bool began; /* it said so */
	bool over;  /* it said so; gone when that is posted */
};

/* What waits: bytes of a stream, or that the command is over. */
struct parcel {
	struct list link;
	struct task *task;
	enum console_stream stream;
	uint64_t offset;
	size_t len;
	bool stored;
	bool end;
	struct outcome *outcome; /* owned; of the end */
	uint8_t *request_id;     /* owned; likewise */
	size_t request_id_len;
	uint8_t bytes[];
};

struct console_desk {
	struct map tasks;  /* struct task by command id */
	struct list spool; /* struct parcel */
	size_t spooled;    /* bytes */
	msec due;
	uint32_t tokens; /* messages that may be shown at once */
	msec filled_at;
	uint64_t halted; /* epoch of the newest order to stop */
};

/* Tasks -------------------------------------------------------------------- */

static void
free_task(struct task *t)
{
	live_fini(&t->live);
	alloc_free(t->command);
	alloc_free(t);
}

static struct task *
new_task(struct console_desk *d, const struct command_record *r)
{
	struct task *t = alloc_new(sizeof(*t));

	if (t == NULL)
		return NULL;
	live_init(&t->live);
	t->command = clone_new(CLONE_COMMAND, r);
	if (t->command == NULL || map_put(&d->tasks, t->command->id, t) != 0) {
		free_task(t);
		return NULL;
	}
	t->live.command = t->command;
	return t;
}

static void
drop_task(struct console_desk *d, struct task *t)
{
	map_del(&d->tasks, t->command->id);
	free_task(t);
}

/* A stop went past it on the way here: it is not said any more. */
static bool
refuse(struct conn *c, const struct event *ev)
{
	struct arena *a;
	struct event *no = conn_event(c, EVENT_COMMAND_REFUSED, &a);
	const struct outcome o = { .command_id = ev->execute.command->id,
		.code = SL("AGENT_STOPPED"),
		.why = SL("an emergency stop came before it was sent") };
	const struct outcome *kept =
	    no == NULL ? NULL : clone_in(a, CLONE_OUTCOME, &o);

	if (kept == NULL) {
		conn_drop(c);
		return false;
	}
	no->outcome = *kept;
	console_post(c, no);
	return false;
}

static bool
on_execute(struct conn *c, const struct event *ev)
{
	struct console_desk *d = console_of(c)->desk;
	struct task *t = map_get(&d->tasks, ev->execute.command->id);

	if (ev->execute.stop_epoch < d->halted)
		return refuse(c, ev);
	if (t == NULL)
		t = new_task(d, ev->execute.command);
	if (t == NULL) {
		/* Its output could not be taken. */
		conn_drop(c);
		return false;
	}
	t->live.seen_by = ev->execute.seen_by;
	t->live.asked_by = ev->execute.asked_by;
	t->viewer = ev->execute.viewer;
	t->given_at = ev->at;
	live_command_line(c->dock, &t->live);
	return true;
}

static bool
on_audience(struct conn *c, const struct event *ev)
{
	struct task *t =
	    map_get(&console_of(c)->desk->tasks, ev->execute.command->id);

	if (t != NULL) {
		t->live.seen_by = ev->execute.seen_by;
		t->viewer = ev->execute.viewer;
	}
	return false;
}

/* Only of what it was given, and has not ended. */
static bool
on_interrupt(const struct conn *c, const struct event *ev)
{
	const struct console *s = c->state;

	return map_get(&s->desk->tasks, ev->execute.command->id) != NULL;
}

static bool
on_stop(struct conn *c, const struct event *ev)
{
	struct console_desk *d = console_of(c)->desk;
	size_t pos = 0;

	console_of(c)->peer.stop_epoch = ev->stop.epoch;
	if (!ev->stop.stopped)
		return true;
	if (ev->stop.epoch > d->halted)
		d->halted = ev->stop.epoch;
	for (struct task *t; (t = map_next(&d->tasks, &pos)) != NULL;)
		live_remark(c->dock, &t->live, CONSOLE_SYSTEM,
		    SL("stopped by an emergency stop\n"));
	return true;
}

bool
console_desk_event(struct conn *c, const struct event *ev)
{
	bool say = true;

	if (ev->kind == EVENT_EXECUTE)
		say = on_execute(c, ev);
	else if (ev->kind == EVENT_AUDIENCE)
		say = on_audience(c, ev);
	else if (ev->kind == EVENT_INTERRUPT)
		say = on_interrupt(c, ev);
	else if (ev->kind == EVENT_STOP_ORDER)
		say = on_stop(c, ev);
	return say && !c->ending;
}

/* Store and show ----------------------------------------------------------- */

static bool
is_stored(enum console_stream stream)
{
	return stream == CONSOLE_STDOUT || stream == CONSOLE_STDERR;
}

static enum output_stream
stream_of(enum console_stream stream)
{
	return stream == CONSOLE_STDERR ? OUTPUT_ERR : OUTPUT_OUT;
}

/* 0, or why the writer does not take it now. */
static int
store(struct conn *c, struct task *t, enum console_stream stream,
    uint64_t offset, struct slice bytes)
{
	if (!is_stored(stream))
		return 0;
	return writer_output(c->dock->server->writer, t->command->id,
	    stream_of(stream), offset, bytes, NULL);
}

static void
show(struct conn *c, struct task *t, enum console_stream stream,
    uint64_t offset, struct slice bytes)
{
	if (!is_stored(stream)) {
		live_remark(c->dock, &t->live, stream, bytes);
		return;
	}
	live_to_viewer(
	    c->dock, &t->live, t->viewer, stream_of(stream), offset, bytes);
	live_output(c->dock, &t->live, stream_of(stream), offset, bytes);
}

/* One more message may be shown at once; any number to nobody. */
static bool
take_token(struct conn *c)
{
	const struct server_counts *n = &c->dock->server->counts;
	struct console_desk *d = console_of(c)->desk;
	msec now = console_now(c);
	msec more = (now - d->filled_at) / LIVE_EVERY;

	if (more > 0) {
		d->filled_at += more * LIVE_EVERY;
		d->tokens = more > LIVE_BURST - d->tokens
		    ? LIVE_BURST
		    : d->tokens + (uint32_t)more;
	}
	if (n->dashboards == 0 && n->monitors == 0)
		return true;
	if (d->tokens == 0)
		return false;
	d->tokens--;
	return true;
}

/* The spool ---------------------------------------------------------------- */

static void
free_parcel(struct console_desk *d, struct parcel *p)
{
	list_remove(&p->link);
	d->spooled -= p->len;
	alloc_free(p->outcome);
	alloc_free(p->request_id);
	alloc_free(p);
}

static struct parcel *
spool(struct conn *c, struct task *t, struct slice bytes)
{
	struct console_desk *d = console_of(c)->desk;
	struct parcel *p = d->spooled + bytes.len > SPOOL_MAX
	    ? NULL
	    : alloc_new(sizeof(*p) + bytes.len);

	if (p == NULL) {
		log_warn("output_limit", kv_s("remote", console_of(c)->remote),
		    kv_u("spooled", d->spooled));
		console_close(c, WS_CODE_POLICY, SL("output_limit"), ERR_FULL);
		return NULL;
	}
	p->task = t;
	p->len = bytes.len;
	if (bytes.len > 0)
		memcpy(p->bytes, bytes.ptr, bytes.len);
	d->spooled += bytes.len;
	list_push(&d->spool, &p->link);
	return p;
}

static struct slice
bytes_of(const struct parcel *p)
{
	return (struct slice){ p->bytes, p->len };
}

static int
post_end(struct conn *c, struct task *t, const struct outcome *o,
    struct slice request_id)
{
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_AGENT_ENDED, &a);
	struct outcome *kept =
	    ev == NULL ? NULL : clone_in(a, CLONE_OUTCOME, o);

	if (kept == NULL || arena_copy(a, request_id, &ev->request_id) != 0)
		return ERR_NOMEM;
	ev->outcome = *kept;
	ev->outcome.out_bytes = t->bytes[OUTPUT_OUT];
	ev->outcome.err_bytes = t->bytes[OUTPUT_ERR];
	return dock_post(c->dock, ev);
}

/* Hand in what the writer did not take at first; false when it still does
 * not. */
static bool
store_spooled(struct conn *c)
{
	struct console_desk *d = console_of(c)->desk;

	for (struct list *l = d->spool.next; l != &d->spool; l = l->next) {
		struct parcel *p = LIST_OF(l, struct parcel, link);
		if (p->stored || p->end)
			continue;
		if (store(c, p->task, p->stream, p->offset, bytes_of(p)) != 0)
			return false;
		p->stored = true;
	}
	return true;
}

/* The first parcel with those behind it that join it. */
static void
show_merged(struct conn *c)
{
	struct console_desk *d = console_of(c)->desk;
	struct parcel *first = LIST_OF(d->spool.next, struct parcel, link);
	struct task *t = first->task;
	enum console_stream stream = first->stream;
	uint64_t offset = first->offset;
	struct buf all;

	buf_init(&all, MERGE_MAX + CONSOLE_TEXT_MAX);
	while (!list_empty(&d->spool)) {
		struct parcel *p = LIST_OF(d->spool.next, struct parcel, link);
		if (p->end || !p->stored || p->task != t ||
		    p->stream != stream || buf_peek(&all).len > MERGE_MAX)
			break;
		buf_put(&all, bytes_of(p));
		free_parcel(d, p);
	}
	show(c, t, stream, offset, buf_peek(&all));
	buf_fini(&all);
}

/* The end of a command has come to the front. */
static bool
pass_end(struct conn *c)
{
	struct console_desk *d = console_of(c)->desk;
	struct parcel *p = LIST_OF(d->spool.next, struct parcel, link);
	struct task *t = p->task;
	struct slice id = { p->request_id, p->request_id_len };

	live_finish(c->dock, &t->live);
	if (post_end(c, t, p->outcome, id) != 0)
		return false;
	free_parcel(d, p);
	drop_task(d, t);
	return true;
}

msec
console_desk_deadline(const struct conn *c)
{
	const struct console *s = c->state;

	return list_empty(&s->desk->spool) ? INT64_MAX : s->desk->due;
}

void
console_desk_expire(struct conn *c)
{
	struct console_desk *d = console_of(c)->desk;
	msec now = console_now(c);

	if (list_empty(&d->spool) || d->due > now)
		return;
	if (!store_spooled(c)) {
		d->due = now + STORE_AGAIN;
		return;
	}
	while (!list_empty(&d->spool)) {
		struct parcel *p = LIST_OF(d->spool.next, struct parcel, link);
		if (!p->end && !take_token(c))
			break;
		if (!p->end) {
			show_merged(c);
		} else if (!pass_end(c)) {
			conn_drop(c);
			return;
		}
	}
	d->due = now + LIVE_EVERY;
}

/* From the agent ----------------------------------------------------------- */

static struct task *
find_task(struct conn *c, struct slice id)
{
	struct console_desk *d = console_of(c)->desk;
	struct task *t = d == NULL ? NULL : map_get(&d->tasks, id);

	return t == NULL || t->over ? NULL : t;
}

static void
refuse_stranger(struct conn *c, struct slice request_id)
{
	console_complain(c, request_id, ERR_NOT_FOUND, SL("UNKNOWN_COMMAND"),
	    SL("commandId"), SL("this agent was given no such command"));
}

static void
keep_output(struct conn *c, struct task *t, const struct console_output *o)
{
	struct console_desk *d = console_of(c)->desk;
	uint64_t *at = &t->bytes[stream_of(o->stream)];
	uint64_t offset = is_stored(o->stream) ? *at : 0;
	bool first = list_empty(&d->spool);
	int err = first ? store(c, t, o->stream, offset, o->content) : 0;

	if (is_stored(o->stream))
		*at += o->content.len;
	c->dock->server->counts.output_bytes += o->content.len;
	if (first && err == 0 && take_token(c)) {
		show(c, t, o->stream, offset, o->content);
		return;
	}
	struct parcel *p = spool(c, t, o->content);
	if (p == NULL)
		return;
	p->stream = o->stream;
	p->offset = offset;
	p->stored = first && err == 0;
	if (first)
		d->due = console_now(c) + LIVE_EVERY;
	if (!first)
		store_spooled(c);
}

void
console_desk_output(struct conn *c, const struct console_message *m)
{
	struct task *t = find_task(c, m->output.command_id);

	if (t == NULL)
		refuse_stranger(c, m->event.request_id);
	else if (m->output.content.len > 0)
		keep_output(c, t, &m->output);
}

static void
end_task(struct conn *c, struct task *t, struct event *ev)
{
	struct console_desk *d = console_of(c)->desk;

	t->over = true;
	/* What has ended began at some time. */
	if (!t->began && ev->outcome.started_at == 0)
		ev->outcome.started_at = t->given_at;
	if (list_empty(&d->spool)) {
		live_finish(c->dock, &t->live);
		ev->outcome.out_bytes = t->bytes[OUTPUT_OUT];
		ev->outcome.err_bytes = t->bytes[OUTPUT_ERR];
		drop_task(d, t);
		console_post(c, ev);
		return;
	}
	struct parcel *p = spool(c, t, (struct slice){ 0 });
	if (p == NULL)
		return;
	p->end = true;
	p->outcome = clone_new(CLONE_OUTCOME, &ev->outcome);
	p->request_id = alloc_new(ev->request_id.len + 1);
	if (p->outcome == NULL || p->request_id == NULL) {
		free_parcel(d, p);
		conn_drop(c);
		return;
	}
	p->request_id_len = ev->request_id.len;
	if (ev->request_id.len > 0)
		memcpy(p->request_id, ev->request_id.ptr, ev->request_id.len);
}

void
console_desk_word(struct conn *c, struct event *ev)
{
	struct task *t = find_task(c, ev->outcome.command_id);

	if (t == NULL) {
		refuse_stranger(c, ev->request_id);
	} else if (ev->kind == EVENT_AGENT_ENDED) {
		end_task(c, t, ev);
	} else {
		if (!t->began)
			live_remark(
			    c->dock, &t->live, CONSOLE_SYSTEM, SL("started\n"));
		t->began = true;
		console_post(c, ev);
	}
}

/* Life --------------------------------------------------------------------- */

int
console_desk_open(struct conn *c)
{
	struct console *s = console_of(c);
	uint64_t seed[2];

	s->desk = alloc_new(sizeof(*s->desk));
	if (s->desk == NULL)
		return ERR_NOMEM;
	rand_fill(seed, sizeof(seed));
	map_init(&s->desk->tasks, TASKS_MAX, seed);
	list_init(&s->desk->spool);
	s->desk->tokens = LIVE_BURST;
	s->desk->filled_at = console_now(c);
	c->dock->server->counts.links++;
	return 0;
}

/* What the writer has not taken is lost, and with it all behind it in that
 * stream: the row must not promise it. */
static void
forget_unstored(const struct parcel *p)
{
	uint64_t *n = &p->task->bytes[stream_of(p->stream)];

	if (!p->end && !p->stored && is_stored(p->stream) && *n > p->offset)
		*n = p->offset;
}

/* What it said before it went counts, shown or not. */
static void
settle_spool(struct conn *c)
{
	struct console_desk *d = console_of(c)->desk;

	store_spooled(c);
	while (!list_empty(&d->spool)) {
		struct parcel *p = LIST_OF(d->spool.next, struct parcel, link);
		struct slice id = { p->request_id, p->request_id_len };
		forget_unstored(p);
		if (p->end && post_end(c, p->task, p->outcome, id) != 0)
			log_warn("outcome_lost",
			    kv_s("command", p->task->command->id));
		free_parcel(d, p);
	}
}

void
console_desk_close(struct conn *c)
{
	struct console *s = console_of(c);
	size_t pos = 0;

	if (s->desk == NULL)
		return;
	settle_spool(c);
	for (struct task *t; (t = map_next(&s->desk->tasks, &pos)) != NULL;
	     pos = 0)
		drop_task(s->desk, t);
	map_fini(&s->desk->tasks);
	alloc_free(s->desk);
	s->desk = NULL;
	c->dock->server->counts.links--;
}
