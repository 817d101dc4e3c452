/*
 * Commands.  Disk before words: what is promised to an operator or sent to
 * an agent waits for its row.  To Muster's own agent a command goes exactly
 * once: it carries a dispatch number, and after any break the agent says
 * what it still has.  To every other kind it goes at most once.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_state.h"

enum { REOPEN_AFTER = 1000, STORE_AGAIN_AFTER = 1000, KEY_MAX = 255 };

static const struct slice none;

/* The tables -------------------------------------------------------------- */

static int
make_key(struct slice *key, struct slice user, struct slice request_key)
{
	uint8_t *text = alloc_new(user.len + request_key.len + 2);

	if (text == NULL)
		return ERR_NOMEM;
	if (user.len > 0)
		memcpy(text, user.ptr, user.len);
	if (request_key.len > 0)
		memcpy(text + user.len + 1, request_key.ptr, request_key.len);
	*key = (struct slice){ text, user.len + request_key.len + 1 };
	return 0;
}

static void
free_command(struct command *c)
{
	alloc_free(c->record);
	alloc_free(c->outcome);
	hub_unkeep(&c->key);
	alloc_free(c);
}

bool
hub_command_active(const struct command *c)
{
	return c->record->state == COMMAND_SENT ||
	    c->record->state == COMMAND_RUNNING;
}

static void
count(struct command *c, int by)
{
	struct agent *a = c->agent;
	uint32_t *n = !hub_command_active(c) ? &a->queued
	    : c->record->foreground          ? &a->attached
					     : &a->detached;

	*n = (uint32_t)((int64_t)*n + by);
}

static void
enlist(struct command *c)
{
	struct list *l = hub_command_active(c)
	    ? &c->agent->active
	    : &c->agent->waiting[c->record->priority];

	list_push(l, &c->link);
	count(c, 1);
}

static void
delist(struct command *c)
{
	if (list_empty(&c->link))
		return;
	list_remove(&c->link);
	/* Those that end take no place. */
	if (c->outcome == NULL)
		count(c, -1);
}

struct command *
hub_add_command(struct hub *h, const struct command_record *r)
{
	struct command *c = alloc_new(sizeof(*c));

	if (c == NULL)
		return NULL;
	list_init(&c->link);
	c->agent = map_get(&h->agents, r->agent_id);
	assert(c->agent != NULL);
	c->record = clone_new(CLONE_COMMAND, r);
	if (c->record == NULL ||
	    (r->request_key.ptr != NULL &&
		make_key(&c->key, r->user_id, r->request_key) != 0) ||
	    map_put(&h->commands, c->record->id, c) != 0) {
		free_command(c);
		return NULL;
	}
	if (c->key.ptr != NULL && map_put(&h->keys, c->key, c) != 0) {
		map_del(&h->commands, c->record->id);
		free_command(c);
		return NULL;
	}
	if (c->record->priority > 2)
		c->record->priority = 2;
	c->tried = hub_command_active(c);
	enlist(c);
	return c;
}

void
hub_drop_command(struct hub *h, struct command *c)
{
	delist(c);
	heap_drop(&h->deadlines, &c->timer);
	map_del(&h->commands, c->record->id);
	if (c->key.ptr != NULL)
		map_del(&h->keys, c->key);
	free_command(c);
}

static void
move(struct command *c, enum command_state to)
{
	assert(command_may_move(c->record->state, to));
	delist(c);
	c->record->state = to;
	if (!command_is_final(to))
		enlist(c);
}

const struct command_record *
hub_command_copy(struct hub *h, const struct command *c)
{
	const struct command_record *r =
	    clone_in(&h->out->arena, CLONE_COMMAND, c->record);

	if (r == NULL)
		h->out->err = ERR_NOMEM;
	return r;
}

static void
arm(struct hub *h, struct command *c, msec due)
{
	if (heap_set(&h->deadlines, &c->timer, due) != 0)
		h->out->err = ERR_NOMEM;
}

/* Wall-clock deadlines are turned into monotonic ones once. */
static void
arm_deadline(struct hub *h, struct command *c)
{
	if (c->record->deadline_at != 0)
		arm(h, c, h->now + (c->record->deadline_at - h->wall));
}

/* Streams ------------------------------------------------------------------ */

static struct stream_order *
order(struct hub *h, struct command *c, enum stream_verb verb, uint64_t after)
{
	struct effect *e = outbox_add(h->out, EFFECT_STREAM);
	const struct command_record *r = hub_command_copy(h, c);

	if (e == NULL || r == NULL)
		return NULL;
	if (c->agent->link != NULL)
		e->peer = c->agent->link->peer;
	e->after = after;
	e->stream = (struct stream_order){ .verb = verb,
		.command_id = r->id,
		.command = r,
		.viewer = c->viewer };
	return &e->stream;
}

void
hub_open_stream(struct hub *h, struct command *c)
{
	struct agent *a = c->agent;
	struct stream_order *o;

	if (a->link == NULL || !a->native || a->joining != 0 || c->opened ||
	    c->sending != 0 || c->outcome != NULL || !hub_command_active(c))
		return;
	o = order(h, c, STREAM_OPEN, 0);
	if (o == NULL)
		return;
	o->again = c->tried;
	c->opened = true;
	c->tried = true;
	if (c->reopen) {
		c->reopen = false;
		heap_drop(&h->deadlines, &c->timer);
	}
	if (!c->interrupt)
		return;
	o = order(h, c, STREAM_SIGNAL, 0);
	if (o != NULL)
		o->signal = SIGNAL_INTERRUPT;
}

/* Dispatch -------------------------------------------------------------------
 */

static void
mark_sent(struct hub *h, struct command *c)
{
	c->record->sequence = ++c->agent->record->sequence;
	c->record->sent_at = h->wall;
	c->record->lease_node = h->config.node;
	c->record->lease_fence = h->config.fence;
}

static uint64_t
store_sent(struct hub *h, struct command *c)
{
	struct op *op = hub_store(h, OP_COMMAND_SENT);

	if (op == NULL)
		return 0;
	op->command = hub_command_copy(h, c);
	hub_pend(h, op->number, PENDING_SENT, c->record->id, NULL);
	c->sending = op->number;
	return op->number;
}

/* Too late for it: nothing runs past its deadline. */
static bool
is_overdue(const struct hub *h, const struct command *c)
{
	return c->record->deadline_at != 0 && c->record->deadline_at <= h->wall;
}

static void
expire(struct hub *h, struct command *c)
{
	const struct outcome o = { .code = SL("EXPIRED"),
		.why = SL("its deadline passed before it could be sent") };

	hub_finish_command(h, c, COMMAND_EXPIRED, &o);
}

struct command *
hub_first_waiting(struct agent *a)
{
	for (size_t p = 3; p-- > 0;) {
		if (!list_empty(&a->waiting[p]))
			return LIST_OF(
			    a->waiting[p].next, struct command, link);
	}
	return NULL;
}

struct command *
hub_take_waiting(struct hub *h, struct agent *a, uint64_t *after)
{
	struct command *c;

	if (a->record->removed_at != 0)
		return NULL;
	while ((c = hub_first_waiting(a)) != NULL && is_overdue(h, c) &&
	    h->out->err == 0)
		expire(h, c);
	if (c == NULL || a->detached >= h->config.concurrency ||
	    h->out->err != 0)
		return NULL;
	mark_sent(h, c);
	move(c, COMMAND_SENT);
	heap_drop(&h->deadlines, &c->timer);
	*after = store_sent(h, c);
	return c;
}

void
hub_dispatch(struct hub *h, struct agent *a)
{
	struct command *c;
	uint64_t after;

	if (!a->native || a->link == NULL || a->resuming)
		return;
	while ((c = hub_take_waiting(h, a, &after)) != NULL)
		hub_notice(
		    h, SL("command.sent"), a, c->record->id, none, after);
	hub_settle(h, a, SL("command"));
}

/* Creation -------------------------------------------------------------------
 */

static bool
may_run(struct hub *h, const struct event *ev, const struct agent *a)
{
	const struct request *q = &ev->request;
	const struct command_record *r = q->command;
	bool there = a->link != NULL || a->http;

	if (a->link != NULL && !a->native)
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), none,
		    SL("this agent's protocol has no verb for commands"));
	else if (r->foreground && a->http)
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), none,
		    SL("this agent polls; only detached commands reach it"));
	else if (!there && (r->foreground || q->or_fail))
		hub_reply_error(h, ev, ERR_UNREACHABLE, 409,
		    SL("AGENT_OFFLINE"), none,
		    SL("the agent is not connected"));
	else if (r->foreground && a->attached >= h->config.foreground_max)
		hub_reply_error(h, ev, ERR_FULL, 429, SL("QUEUE_FULL"), none,
		    SL("too many attached commands on this agent"));
	else if (!r->foreground && a->queued >= h->config.queue_limit)
		hub_reply_error(h, ev, ERR_FULL, 429, SL("QUEUE_FULL"), none,
		    SL("the agent's queue is full"));
	else
		return true;
	return false;
}

static void
reply_command(struct hub *h, const struct event *ev, const struct access *who,
    const struct command *c, bool again, uint64_t after)
{
	struct reply *re = hub_reply(h, ev, who, after);

	if (re == NULL)
		return;
	re->status = again ? 200 : 201;
	re->command = hub_command_copy(h, c);
	re->again = again;
}

/* The same key by the same user is the same command, while it lives here;
 * the store knows the older ones. */
static struct command *
known(struct hub *h, const struct event *ev, const struct access *who)
{
	struct slice key;
	struct command *c;

	if (ev->request.request_key.len == 0)
		return NULL;
	if (make_key(&key, who->user->id, ev->request.request_key) != 0) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	c = map_get(&h->keys, key);
	hub_unkeep(&key);
	return c;
}

static struct command_record
new_record(struct hub *h, const struct event *ev, const struct access *who,
    const struct agent *a)
{
	const wall_msec day = INT64_C(86400000);
	struct command_record r = *ev->request.command;

	r.id = hub_make_id(h, SL("cmd_"));
	r.agent_id = a->id;
	r.user_id = who->user->id;
	r.request_key =
	    ev->request.request_key.len > 0 ? ev->request.request_key : none;
	r.state = COMMAND_QUEUED;
	r.workspace_id = a->record->workspace_id;
	r.created_at = h->wall;
	if (r.deadline_at == 0)
		r.deadline_at = h->wall + day;
	return r;
}

void
hub_create_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct command *c = known(h, ev, who);

	if (q->request_key.len > KEY_MAX) {
		hub_reply_error(h, ev, ERR_TOO_BIG, 400, SL("INVALID_REQUEST"),
		    SL("Idempotency-Key"),
		    SL("an idempotency key has 255 bytes at most"));
		return;
	}
	if (c != NULL) {
		reply_command(h, ev, who, c, true, 0);
		return;
	}
	struct agent *a = hub_pick_agent(h, ev, who, q->id);
	if (a == NULL || !may_run(h, ev, a))
		return;
	struct command_record r = new_record(h, ev, who, a);
	bool now = a->native &&
	    (r.foreground ||
		(a->detached < h->config.concurrency && a->queued == 0));
	c = h->out->err != 0 ? NULL : hub_add_command(h, &r);
	if (c == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller holds too many commands"));
		return;
	}
	if (q->attach)
		c->viewer = ev->peer;
	if (now) {
		mark_sent(h, c);
		move(c, COMMAND_SENT);
	} else {
		arm_deadline(h, c);
	}
	struct op *op = hub_store(h, OP_PUT_COMMAND);
	if (op == NULL)
		return;
	op->command = hub_command_copy(h, c);
	if (op->command == NULL)
		return;
	c->sending = now ? op->number : 0;
	op->audit = hub_audit(op->command->user_id, SL("command.run"),
	    op->command->id, ev, ev->request.credential.remote);
	op->audit.detail_json = op->command->argv_json;
	hub_pend(h, op->number, PENDING_COMMAND, c->record->id, ev);
	/* The answer goes first, so that whoever attached knows its id before
	 * any output. */
	reply_command(h, ev, who, c, false, op->number);
	hub_notice(h, SL("command.queued"), a, c->record->id, none, op->number);
	hub_settle(h, a, SL("command"));
}

/* Its progress ---------------------------------------------------------------
 */

static struct command *
of_event(struct hub *h, const struct event *ev)
{
	return map_get(&h->commands, ev->outcome.command_id);
}

void
hub_on_started(struct hub *h, const struct event *ev)
{
	struct command *c = of_event(h, ev);

	if (c == NULL || c->record->state != COMMAND_SENT || c->outcome != NULL)
		return;
	move(c, COMMAND_RUNNING);
	c->record->started_at = ev->outcome.started_at;
	struct op *op = hub_store(h, OP_COMMAND_RUNS);
	if (op == NULL)
		return;
	op->lazy = true;
	op->command = hub_command_copy(h, c);
	if (op->command == NULL)
		return;
	hub_notice(h, SL("command.running"), c->agent, c->record->id, none, 0);
}

static struct command_record
ended_record(const struct hub *h, const struct command *c)
{
	const struct outcome *o = c->outcome;
	struct command_record r = *c->record;

	r.state = c->end;
	r.started_at = o->started_at != 0 ? o->started_at : r.started_at;
	r.finished_at = o->finished_at != 0 ? o->finished_at : h->wall;
	r.exit_code = o->exit_code;
	r.signal = o->signal;
	r.code = o->code;
	r.why = o->why;
	r.lingering = o->lingering;
	r.out_bytes = o->out_bytes;
	r.err_bytes = o->err_bytes;
	return r;
}

static struct op *
store_end(struct hub *h, struct command *c)
{
	const struct command_record r = ended_record(h, c);
	const struct command_record *kept =
	    clone_in(&h->out->arena, CLONE_COMMAND, &r);
	struct op *op = kept == NULL ? NULL : hub_store(h, OP_COMMAND_ENDED);
	struct effect *e =
	    op == NULL ? NULL : outbox_add(h->out, EFFECT_STREAM);

	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	op->command = kept;
	hub_pend(h, op->number, PENDING_ENDED, c->record->id, NULL);
	if (e == NULL)
		return NULL;
	e->after = op->number;
	if (c->agent->link != NULL)
		e->peer = c->agent->link->peer;
	e->stream = (struct stream_order){ .verb = STREAM_DONE,
		.command_id = kept->id,
		.command = kept,
		.viewer = c->viewer };
	const struct slice name[] = { SL("command."),
		command_state_name(c->end) };
	hub_notice(
	    h, hub_text(h, name, 2), c->agent, c->record->id, none, op->number);
	return op;
}

struct op *
hub_finish_command(struct hub *h, struct command *c, enum command_state state,
    const struct outcome *o)
{
	struct outcome kept = *o;
	struct outcome *outcome;

	if (c->outcome != NULL)
		return NULL;
	kept.cluster_id = kept.command_id = kept.out = kept.err = none;
	outcome = clone_new(CLONE_OUTCOME, &kept);
	if (outcome == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	heap_drop(&h->deadlines, &c->timer);
	/* Its place is free now; the record changes when the store has it. */
	delist(c);
	c->outcome = outcome;
	c->end = state;
	c->reopen = false;
	list_push(&c->agent->ending, &c->link);
	struct op *op = store_end(h, c);
	hub_settle(h, c->agent, SL("command"));
	return op;
}

void
hub_end_command(struct hub *h, struct command *c, enum command_state state,
    const struct outcome *o)
{
	hub_finish_command(h, c, state, o);
	hub_dispatch(h, c->agent);
}

enum command_state
hub_final_state(const struct outcome *o)
{
	if (slice_eq(o->code, SL("UNKNOWN_OUTCOME")))
		return COMMAND_UNKNOWN;
	if (slice_eq(o->code, SL("EXPIRED")))
		return COMMAND_EXPIRED;
	if (o->interrupted || o->stopped)
		return COMMAND_INTERRUPTED;
	if (o->exit_code == 0 && o->signal == 0 && !o->timed_out &&
	    o->code.len == 0)
		return COMMAND_COMPLETED;
	return COMMAND_FAILED;
}

void
hub_on_outcome(struct hub *h, const struct event *ev)
{
	struct command *c = of_event(h, ev);
	struct outcome o = ev->outcome;

	if (c == NULL || c->outcome != NULL)
		return;
	if (o.code.len == 0 && o.timed_out)
		o.code = SL("TIMEOUT");
	if (o.code.len == 0 && o.stopped)
		o.code = SL("AGENT_STOPPED");
	hub_end_command(h, c, hub_final_state(&o), &o);
}

void
hub_open_later(struct hub *h, struct slice command_id)
{
	struct command *c = map_get(&h->commands, command_id);

	if (c == NULL || c->outcome != NULL || !hub_command_active(c))
		return;
	c->opened = false;
	c->reopen = true;
	arm(h, c, h->now + REOPEN_AFTER);
}

/* The stream broke and the link may still stand: ask again, not at once, so
 * that an agent that always breaks it costs little. */
void
hub_on_stream_lost(struct hub *h, const struct event *ev)
{
	struct command *c = of_event(h, ev);

	if (c == NULL || c->outcome != NULL || !hub_command_active(c))
		return;
	/* A stream of an older link broke: the newer one has its own. */
	if (peer_some(ev->peer) &&
	    (c->agent->link == NULL ||
		!peer_eq(c->agent->link->peer, ev->peer)))
		return;
	hub_open_later(h, c->record->id);
}

/* Interrupt, cancel, time ---------------------------------------------------
 */

static struct command *
pick(struct hub *h, const struct event *ev, const struct access *who)
{
	struct command *c = map_get(&h->commands, ev->request.id);

	if (c != NULL && hub_may_see(h, who, c->agent))
		return c;
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("COMMAND_NOT_FOUND"),
	    none, SL("no such command is queued or running"));
	return NULL;
}

void
hub_interrupt_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct command *c = pick(h, ev, who);

	if (c == NULL)
		return;
	if (c->record->state == COMMAND_QUEUED) {
		hub_cancel_command(h, ev, who);
		return;
	}
	if (c->record->attempt > 0) {
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), none,
		    SL("this agent's protocol has no verb for interrupts"));
		return;
	}
	struct op *op = hub_store(h, OP_AUDIT);
	if (op == NULL)
		return;
	op->lazy = true;
	op->audit = hub_audit(who->user->id, SL("command.interrupt"),
	    hub_text(h, &c->record->id, 1), ev, ev->request.credential.remote);
	/* One that is out of reach hears of it as soon as it is back. */
	c->interrupt = true;
	if (c->agent->link != NULL && c->outcome == NULL) {
		struct stream_order *o = order(h, c, STREAM_SIGNAL, 0);
		if (o != NULL)
			o->signal = SIGNAL_INTERRUPT;
	}
	reply_command(h, ev, who, c, true, 0);
}

void
hub_cancel_command(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct command *c = pick(h, ev, who);
	const struct outcome o = { .code = SL("CANCELLED"),
		.why = SL("cancelled before it was sent") };

	if (c == NULL)
		return;
	if (c->record->state != COMMAND_QUEUED || c->outcome != NULL) {
		hub_reply_error(h, ev, ERR_WRONG_STATE, 409, SL("ALREADY_SENT"),
		    none, SL("it was sent already; interrupt it instead"));
		return;
	}
	struct op *op = hub_finish_command(h, c, COMMAND_CANCELLED, &o);
	if (op == NULL)
		return;
	op->audit = hub_audit(who->user->id, SL("command.cancel"),
	    op->command->id, ev, ev->request.credential.remote);
	hub_pend(h, op->number, PENDING_ANSWER, op->command->id, ev);
	struct reply *re = hub_reply(h, ev, who, op->number);
	if (re != NULL)
		re->command = op->command;
	hub_dispatch(h, c->agent);
}

void
hub_command_timer(struct hub *h, struct command *c)
{
	if (c->outcome != NULL) {
		store_end(h, c);
	} else if (c->reopen) {
		c->reopen = false;
		hub_open_stream(h, c);
	} else if (c->record->state == COMMAND_QUEUED && is_overdue(h, c)) {
		expire(h, c);
		hub_dispatch(h, c->agent);
	} else if (c->record->state == COMMAND_QUEUED) {
		arm_deadline(h, c);
		hub_dispatch(h, c->agent);
	}
}

/* The store's word ------------------------------------------------------------
 */

/* Nothing left: it waits in the queue again, before all that came later; its
 * number is not used a second time. */
static void
requeue(struct hub *h, struct command *c)
{
	struct list *head = &c->agent->waiting[c->record->priority];
	struct list *at = head->next;

	delist(c);
	c->record->state = COMMAND_QUEUED;
	/* Others that were taken back went before it. */
	while (at != head &&
	    LIST_OF(at, struct command, link)->record->sequence != 0 &&
	    LIST_OF(at, struct command, link)->record->sequence <
		c->record->sequence)
		at = at->next;
	list_insert_before(at, &c->link);
	count(c, 1);
	arm(h, c, h->now + STORE_AGAIN_AFTER);
	hub_settle(h, c->agent, SL("command"));
}

/* Its output did not all reach the disk: the agent, which has heard no DONE,
 * has it still and says it again. */
static void
take_back_end(struct hub *h, struct command *c)
{
	delist(c);
	alloc_free(c->outcome);
	c->outcome = NULL;
	enlist(c);
	hub_open_later(h, c->record->id);
	hub_settle(h, c->agent, SL("command"));
}

static void
end_stored(struct hub *h, struct command *c, int err)
{
	struct agent *a = c->agent;

	if (err == ERR_RANGE && a->native && hub_command_active(c)) {
		take_back_end(h, c);
		return;
	}
	/* Final already, or never there: nothing more can be done. */
	if (err != 0 && err != ERR_WRONG_STATE && err != ERR_NOT_FOUND) {
		arm(h, c, h->now + STORE_AGAIN_AFTER);
		return;
	}
	h->stats.commands_ended[c->end]++;
	hub_drop_command(h, c);
	hub_settle(h, a, SL("command"));
}

void
hub_command_stored(struct hub *h, const struct pending *p, int err)
{
	struct command *c = map_get(&h->commands, p->id);

	if (c == NULL)
		return;
	struct agent *a = c->agent;
	if (p->kind == PENDING_ENDED) {
		end_stored(h, c, err);
		return;
	}
	/* A PUT that says `queued` may be followed by a SENT of its own. */
	bool sent = c->sending == p->number;
	if (sent)
		c->sending = 0;
	if (p->kind == PENDING_COMMAND && err != 0) {
		hub_refuse_created(h, p, err, c);
		hub_drop_command(h, c);
		hub_settle(h, a, SL("command"));
		hub_dispatch(h, a);
	} else if (sent && err != 0 && c->outcome == NULL) {
		requeue(h, c);
	} else if (sent) {
		hub_open_stream(h, c);
	}
}
