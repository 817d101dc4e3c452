/*
 * Commands on their way: what goes to an agent now, over which road, and
 * what operators and time do to it afterwards.
 */
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"

enum { VERB_WITHIN = 60000 }; /* an agent that signs answers in that */

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
		.viewer = c->viewer,
		.asked_by = c->asker };
	return &e->stream;
}

bool
hub_takes_commands(const struct agent *a)
{
	return a->link != NULL && (a->native || a->told);
}

static struct event *
tell_agent(struct hub *h, struct command *c, enum event_kind kind)
{
	struct event *ev =
	    hub_send(h, c->agent->link->peer, kind, (struct slice){ 0 }, 0);

	if (ev == NULL)
		return NULL;
	ev->execute.command = hub_command_copy(h, c);
	ev->execute.asked_by = c->asker;
	ev->execute.viewer = c->viewer;
	ev->execute.seen_by = hub_seen_by(h, c->agent);
	ev->execute.stop_epoch = h->stop.epoch;
	if (c->record->deadline_at != 0)
		ev->execute.remaining = c->record->deadline_at - h->wall;
	return ev;
}

void
hub_open_stream(struct hub *h, struct command *c)
{
	struct agent *a = c->agent;
	struct stream_order *o;

	if (!hub_takes_commands(a) || a->joining != 0 || c->opened ||
	    c->sending != 0 || c->outcome != NULL || !hub_command_active(c))
		return;
	/* What it has may be fetched; nothing new begins, and nothing before
	 * it has written down that it may go on: it would refuse it. */
	if ((hub_is_stopped(a) || a->stop.lifting) && !c->tried)
		return;
	if (a->told) {
		/* Once: if its link ends first, nobody knows what came of
		 * it. */
		c->opened = c->tried = true;
		tell_agent(h, c, EVENT_EXECUTE);
		if (a->verbs)
			hub_arm_command(h, c, h->now + VERB_WITHIN);
		return;
	}
	o = order(h, c, STREAM_OPEN, 0);
	if (o == NULL)
		return;
	o->again = c->tried;
	o->seen_by = hub_seen_by(h, a);
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

void
hub_expel_viewer(struct hub *h, struct command *c)
{
	/* It may have been moved to the lane of its stream. */
	if (c->opened && !c->agent->told)
		order(h, c, STREAM_EXPEL, 0);
	else
		hub_close(h, c->viewer, 1008, SL("revoked"));
	c->viewer = (struct peer_id){ 0 };
}

void
hub_show_stream(struct hub *h, struct command *c)
{
	if (!c->opened || !hub_takes_commands(c->agent))
		return;
	if (c->agent->told) {
		tell_agent(h, c, EVENT_AUDIENCE);
		return;
	}
	struct stream_order *o = order(h, c, STREAM_SEEN, 0);
	if (o != NULL)
		o->seen_by = hub_seen_by(h, c->agent);
}

void
hub_view_command(struct hub *h, struct command *c, struct peer_id viewer)
{
	c->viewer = viewer;
	if (c->agent->told && c->opened && hub_takes_commands(c->agent))
		tell_agent(h, c, EVENT_AUDIENCE);
	order(h, c, STREAM_VIEW, 0);
}

/* Dispatch -------------------------------------------------------------------
 */

void
hub_mark_sent(struct hub *h, struct command *c)
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

static bool
has_word(struct slice list, struct slice word)
{
	struct slice part;

	while (slice_split(&list, ',', &part)) {
		if (slice_eq(slice_trim(part), word))
			return true;
	}
	return false;
}

/* A login has none.  One that has expired meanwhile was good when it asked. */
static bool
is_revoked(const struct hub *h, struct slice token_id)
{
	const struct token *t =
	    token_id.len == 0 ? NULL : map_get(&h->tokens_by_id, token_id);

	return token_id.len > 0 && (t == NULL || t->record->revoked_at != 0);
}

/* What the user may not do any more, as a sentence; absent when all is as it
 * was.  Users of other issuers are known by their tokens alone. */
static struct slice
lost_right(struct hub *h, const struct command *c)
{
	const struct user *u = map_get(&h->users, c->record->user_id);

	if (u == NULL && slice_starts(c->record->user_id, SL("ext:")))
		return (struct slice){ 0 };
	if (u == NULL || u->record->removed_at != 0)
		return SL("rights changed: its user was removed");
	if ((hub_role_scopes(u->record->role) & SCOPE_COMMAND_RUN) == 0)
		return SL("rights changed: its user may not run commands");
	if (is_revoked(h, c->record->token_id))
		return SL("rights changed: its token was revoked");
	const struct access who = { .user = u->record };
	if (!hub_may_see(h, &who, c->agent))
		return SL("rights changed: its user may not use this agent");
	return (struct slice){ 0 };
}

/* It waited, and what allowed it may be gone: then it ends here. */
static bool
forbid(struct hub *h, struct command *c)
{
	const struct session *s = &c->agent->session;
	struct outcome o = { .code = SL("NOT_PERMITTED"),
		.why = lost_right(h, c) };
	bool lost = o.why.ptr != NULL;

	if (!lost && c->agent->verbs)
		o.why = hub_verb_fault(h, c->record);
	if (o.why.ptr != NULL && !lost) {
		hub_finish_command(h, c, COMMAND_FAILED, &o);
		return true;
	}
	if (!lost &&
	    (!c->agent->native || s->policy_verbs.len == 0 ||
		has_word(s->policy_verbs, SL("exec"))))
		return false;
	if (!lost)
		o.why = SL("the agent's policy does not allow exec");
	hub_finish_command(h, c, lost ? COMMAND_CANCELLED : COMMAND_FAILED, &o);
	return true;
}

/* End the first that waits when it must not be sent; false when it may. */
static bool
drop_unfit(struct hub *h, struct command *c)
{
	if (is_overdue(h, c)) {
		expire(h, c);
		return true;
	}
	return forbid(h, c);
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
	struct command *c = NULL;

	if (a->record->removed_at != 0 || a->record->cordoned_at != 0 ||
	    hub_is_stopped(a) || h->now < a->paused_until)
		return NULL;
	while (h->out->err == 0 && hub_has_room(h, a) &&
	    (c = hub_first_waiting(a)) != NULL && drop_unfit(h, c))
		;
	if (c == NULL || !hub_has_room(h, a) || h->out->err != 0)
		return NULL;
	hub_mark_sent(h, c);
	hub_move_command(c, COMMAND_SENT);
	heap_drop(&h->deadlines, &c->timer);
	*after = store_sent(h, c);
	if (a->pause != 0) {
		a->probing = true;
		a->paused_until = h->now + a->pause;
	}
	return c;
}

void
hub_dispatch(struct hub *h, struct agent *a)
{
	struct command *c;
	uint64_t after;

	if (!hub_takes_commands(a) || a->resuming)
		return;
	while ((c = hub_take_waiting(h, a, &after)) != NULL)
		hub_tell_command(h, c, SL("command.sent"), c->record, after);
	hub_settle(h, a, SL("command"));
}

/* Interrupt, cancel, time ---------------------------------------------------
 */

static struct command *
pick(struct hub *h, const struct event *ev, const struct access *who)
{
	struct command *c = map_get(&h->commands, ev->request.id);

	/* Some dashboards know their commands by ids of their own. */
	if (c == NULL)
		c = hub_command_by_key(h, who, ev->request.id);
	/* Whoever started it may end it, wherever it runs. */
	if (c != NULL &&
	    (hub_may_see(h, who, c->agent) ||
		slice_eq(c->record->user_id, who->user->id)))
		return c;
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("COMMAND_NOT_FOUND"),
	    (struct slice){ 0 }, SL("no such command is queued or running"));
	return NULL;
}

/* One that is out of reach hears of it as soon as it is back. */
void
hub_pass_interrupt(struct hub *h, struct command *c)
{
	c->interrupt = true;
	if (c->agent->console) {
		if (c->opened && c->outcome == NULL)
			tell_agent(h, c, EVENT_INTERRUPT);
	} else if (c->agent->verbs) {
		return; /* it knows no word for that */
	} else if (c->agent->link != NULL && c->outcome == NULL) {
		struct stream_order *o = order(h, c, STREAM_SIGNAL, 0);
		if (o != NULL)
			o->signal = SIGNAL_INTERRUPT;
	}
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
	if (c->record->attempt > 0 || hub_is_signed(c->agent)) {
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 403,
		    SL("NOT_PERMITTED"), (struct slice){ 0 },
		    SL("this agent's protocol has no verb for interrupts"));
		return;
	}
	struct op *op = hub_store(h, OP_AUDIT);
	if (op == NULL)
		return;
	op->lazy = true;
	op->audit = hub_audit(who->user->id, SL("command.interrupt"),
	    hub_text(h, &c->record->id, 1), ev, ev->request.credential.remote);
	hub_pass_interrupt(h, c);
	hub_reply_command(h, ev, who, c, true, 0);
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
		    (struct slice){ 0 },
		    SL("it was sent already; interrupt it instead"));
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
		hub_store_end(h, c);
	} else if (c->reopen) {
		c->reopen = false;
		hub_open_stream(h, c);
	} else if (c->opened && c->agent->verbs) {
		const struct outcome o = { .code = SL("UNKNOWN_OUTCOME"),
			.why = SL("the agent gave no result within a minute") };
		hub_end_command(h, c, COMMAND_UNKNOWN, &o);
	} else if (c->record->state == COMMAND_QUEUED && is_overdue(h, c)) {
		expire(h, c);
		hub_dispatch(h, c->agent);
	} else if (c->record->state == COMMAND_QUEUED) {
		hub_arm_deadline(h, c);
		hub_dispatch(h, c->agent);
	}
}
