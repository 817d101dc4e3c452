/*
 * Commands.  Disk before words: what is promised to an operator or sent to
 * an agent waits for its row.  To Muster's own agent a command goes exactly
 * once: it carries a dispatch number, and after any break the agent says
 * what it still has.  To every other kind it goes at most once.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_stop.h"

enum {
	REOPEN_AFTER = 1000,
	STORE_AGAIN_AFTER = 1000,
	PAUSE_MIN = 1000,
	PAUSE_MAX = 15000,
};

static const struct slice none;

/* The tables -------------------------------------------------------------- */

int
hub_make_key(struct slice *key, struct slice user, struct slice request_key)
{
	uint8_t *text =
	    alloc_new(sizeof(user.len) + user.len + request_key.len);
	uint8_t *at = text;

	if (text == NULL)
		return ERR_NOMEM;
	/* Either may have any byte in it. */
	memcpy(at, &user.len, sizeof(user.len));
	at += sizeof(user.len);
	if (user.len > 0)
		memcpy(at, user.ptr, user.len);
	at += user.len;
	if (request_key.len > 0)
		memcpy(at, request_key.ptr, request_key.len);
	*key = (struct slice){ text,
		sizeof(user.len) + user.len + request_key.len };
	return 0;
}

static void
free_command(struct command *c)
{
	hub_queue_leave(c);
	alloc_free(c->record);
	alloc_free(c->outcome);
	hub_unkeep(&c->key);
	for (int i = 0; i < VIEWER_BY; i++)
		hub_unkeep(&c->viewer_by[i]);
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
	hub_queue_count(c, by);
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
	if (c->record == NULL || hub_queue_join(h, c) != 0) {
		alloc_free(c->record);
		alloc_free(c);
		return NULL;
	}
	if ((r->request_key.ptr != NULL &&
		hub_make_key(&c->key, r->user_id, r->request_key) != 0) ||
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
	c->arrival = ++h->arrivals;
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

void
hub_move_command(struct command *c, enum command_state to)
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

void
hub_arm_command(struct hub *h, struct command *c, msec due)
{
	if (heap_set(&h->deadlines, &c->timer, due) != 0)
		h->out->err = ERR_NOMEM;
}

/* Wall-clock deadlines are turned into monotonic ones once. */
void
hub_arm_deadline(struct hub *h, struct command *c)
{
	if (c->record->deadline_at != 0)
		hub_arm_command(
		    h, c, h->now + (c->record->deadline_at - h->wall));
}

/* What is said of it ------------------------------------------------------- */

void
hub_tell_command(struct hub *h, const struct command *c, struct slice name,
    const struct command_record *r, uint64_t after)
{
	struct notice *n =
	    hub_publish(h, NOTICE_COMMAND, name, c->agent, after);

	if (n == NULL)
		return;
	n->command = clone_in(&h->out->arena, CLONE_COMMAND, r);
	if (n->command == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	n->command_id = n->command->id;
	n->actor = n->command->user_id;
	n->asked_by = c->asker;
}

void
hub_reply_command(struct hub *h, const struct event *ev,
    const struct access *who, const struct command *c, bool again,
    uint64_t after)
{
	struct reply *re = hub_reply(h, ev, who, after);

	if (re == NULL)
		return;
	re->status = again ? 200 : 201;
	re->command = hub_command_copy(h, c);
	re->again = again;
	hub_queue_place(h, c, &re->position, &re->wait);
}

/* Its progress ---------------------------------------------------------------
 */

static struct command *
of_event(struct hub *h, const struct event *ev)
{
	return map_get(&h->commands, ev->outcome.command_id);
}

const struct command_record *
hub_begin_command(struct hub *h, struct command *c, wall_msec at)
{
	hub_move_command(c, COMMAND_RUNNING);
	c->record->started_at = at;
	hub_queue_news(h, c->agent);
	const struct command_record *now = hub_command_copy(h, c);
	if (now != NULL)
		hub_tell_command(h, c, SL("command.running"), now, 0);
	return now;
}

void
hub_unpause(struct agent *a)
{
	a->pause = a->paused_until = 0;
	a->probing = false;
}

void
hub_on_started(struct hub *h, const struct event *ev)
{
	struct command *c = of_event(h, ev);

	if (c == NULL || c->record->state != COMMAND_SENT || c->outcome != NULL)
		return;
	const struct command_record *now =
	    hub_begin_command(h, c, ev->outcome.started_at);
	struct op *op = now == NULL ? NULL : hub_store(h, OP_COMMAND_RUNS);
	if (op == NULL)
		return;
	op->lazy = true;
	op->command = now;
	if (c->agent->pause == 0)
		return;
	hub_unpause(c->agent);
	hub_dispatch(h, c->agent);
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

struct op *
hub_store_end(struct hub *h, struct command *c)
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
	hub_tell_command(h, c, hub_text(h, name, 2), kept, op->number);
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
	const struct command_record ended = ended_record(h, c);
	hub_queue_learn(c, state,
	    ended.started_at != 0 ? ended.started_at : ended.sent_at,
	    ended.finished_at);
	c->reopen = false;
	list_push(&c->agent->ending, &c->link);
	struct op *op = hub_store_end(h, c);
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
	/* Refused because of a stop, before it began. */
	if (slice_eq(o->code, SL("AGENT_STOPPED")) && o->started_at == 0)
		return COMMAND_CANCELLED;
	if (o->exit_code == 0 && o->signal == 0 && !o->timed_out &&
	    o->code.len == 0)
		return COMMAND_COMPLETED;
	return COMMAND_FAILED;
}

/* It waits in the queue again, where it was; its number is not used a second
 * time. */
static void
requeue(struct hub *h, struct command *c, msec delay)
{
	struct list *head = &c->agent->waiting[c->record->priority];
	struct list *at = head->next;

	delist(c);
	c->record->state = COMMAND_QUEUED;
	while (at != head &&
	    LIST_OF(at, struct command, link)->arrival < c->arrival)
		at = at->next;
	list_insert_before(at, &c->link);
	count(c, 1);
	hub_arm_command(h, c, h->now + delay);
	hub_settle(h, c->agent, SL("command"));
}

/* Agents refuse what is more than their policy has room for just now.  What
 * has a queue to wait in waits there. */
static bool
can_wait(const struct command *c, const struct event *ev)
{
	return ev->kind == EVENT_COMMAND_REFUSED &&
	    c->record->state == COMMAND_SENT && !c->record->foreground &&
	    (slice_eq(ev->outcome.code, SL("RATE_LIMIT")) ||
		slice_eq(ev->outcome.code, SL("QUEUE_FULL")));
}

/* Until one starts again it is offered one at a time, ever more rarely. */
static void
pause_agent(struct hub *h, struct agent *a)
{
	if (h->now < a->paused_until && !a->probing)
		return;
	a->probing = false;
	a->pause = a->pause == 0 ? PAUSE_MIN : 2 * a->pause;
	if (a->pause > PAUSE_MAX)
		a->pause = PAUSE_MAX;
	a->paused_until = h->now + a->pause;
}

static void
put_back(struct hub *h, struct command *c)
{
	struct op *op = hub_store(h, OP_COMMAND_BACK);

	if (op == NULL)
		return;
	pause_agent(h, c->agent);
	c->opened = c->tried = false;
	requeue(h, c, c->agent->paused_until - h->now);
	op->command = hub_command_copy(h, c);
	if (op->command == NULL)
		return;
	hub_pend(h, op->number, PENDING_BACK, c->record->id, NULL);
	hub_tell_command(h, c, SL("command.queued"), op->command, op->number);
}

/* The row says `sent` and cannot be helped: it ends. */
static void
back_stored(struct hub *h, struct command *c, int err)
{
	const struct outcome o = { .code = SL("RATE_LIMIT"),
		.why = SL("the agent took no more, and it could not be "
			  "queued again") };

	if (err != 0 && c->outcome == NULL)
		hub_end_command(h, c, COMMAND_FAILED, &o);
}

void
hub_on_outcome(struct hub *h, const struct event *ev)
{
	struct command *c = of_event(h, ev);
	struct outcome o = ev->outcome;

	if (c == NULL || c->outcome != NULL)
		return;
	if (can_wait(c, ev)) {
		put_back(h, c);
		return;
	}
	/* Nobody will say a word on it. */
	if (ev->kind == EVENT_COMMAND_REFUSED && c->agent->console) {
		c->tried = false;
		hub_reset_receipts(h, c->agent);
	}
	hub_unpause(c->agent);
	if (o.code.len == 0 && o.timed_out)
		o.code = SL("TIMEOUT");
	if (o.code.len == 0 && o.stopped)
		o.code = SL("AGENT_STOPPED");
	hub_end_command(h, c, hub_final_state(&o), &o);
}

void
hub_on_agent_word(struct hub *h, struct link *l, const struct event *ev)
{
	struct command *c = of_event(h, ev);

	if (c == NULL || l->agent == NULL || c->agent != l->agent ||
	    !c->opened) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    SL("commandId"),
		    SL("this agent was given no such command"));
		return;
	}
	struct event heard = *ev;
	/* That it was ended as asked they say by the exit code alone. */
	if (ev->kind == EVENT_AGENT_ENDED && ev->outcome.exit_code != 0) {
		heard.outcome.interrupted |= c->interrupt;
		heard.outcome.stopped |= c->agent->presence == PRESENCE_STOPPED;
	}
	if (ev->kind == EVENT_AGENT_STARTED)
		hub_on_started(h, ev);
	else if (l->secret != NULL && !hub_put_output(h, c, &ev->outcome))
		return;
	else
		hub_on_outcome(h, &heard);
	hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, 0);
}

void
hub_open_later(struct hub *h, struct slice command_id)
{
	struct command *c = map_get(&h->commands, command_id);

	if (c == NULL || c->outcome != NULL || !hub_command_active(c))
		return;
	c->opened = false;
	c->reopen = true;
	hub_arm_command(h, c, h->now + REOPEN_AFTER);
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

/* The store's word ------------------------------------------------------------
 */

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

/* Its output did not all reach the disk, and nobody has it any more: the row
 * promises none of it, so that the command can end. */
static bool
give_up_output(struct hub *h, struct command *c)
{
	struct outcome *o = c->outcome;

	if (o->out_bytes == 0 && o->err_bytes == 0)
		return false;
	o->out_bytes = o->err_bytes = 0;
	hub_arm_command(h, c, h->now);
	return true;
}

static void
end_stored(struct hub *h, struct command *c, int err)
{
	struct agent *a = c->agent;

	/* Also while it is away: its link may have ended since it said so. */
	bool ours = hub_is_ours(a);
	if (err == ERR_RANGE && ours && hub_command_active(c)) {
		take_back_end(h, c);
		return;
	}
	if (err == ERR_RANGE && !ours && give_up_output(h, c))
		return;
	/* Final already, or never there: nothing more can be done. */
	if (err != 0 && err != ERR_WRONG_STATE && err != ERR_NOT_FOUND) {
		hub_arm_command(h, c, h->now + STORE_AGAIN_AFTER);
		return;
	}
	h->stats.commands_ended[c->end]++;
	/* That it is over went to the link of then, or, when it was final
	 * already, nowhere. */
	if (c->untold || err != 0)
		hub_tell_forget(h, a, c->record->id, 0);
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
	if (p->kind == PENDING_BACK) {
		back_stored(h, c, err);
		return;
	}
	/* A PUT that says `queued` may be followed by a SENT of its own. */
	if (p->kind == PENDING_COMMAND)
		c->creating = 0;
	bool sent = c->sending == p->number;
	if (sent)
		c->sending = 0;
	if (p->kind == PENDING_COMMAND && err != 0) {
		hub_refuse_created(h, p, err, c);
		hub_drop_command(h, c);
		hub_settle(h, a, SL("command"));
		hub_dispatch(h, a);
	} else if (sent && err != 0 && c->outcome == NULL) {
		requeue(h, c, STORE_AGAIN_AFTER);
	} else if (sent) {
		hub_open_stream(h, c);
	}
}
