/*
 * The store's word: what follows an operation that came about, and how one
 * that did not is undone.  The same undoes what ran out of memory halfway.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"
#include "model/hub_tunnel.h"

void
hub_free_pending(struct pending *p)
{
	list_remove(&p->link);
	hub_unkeep(&p->id);
	hub_unkeep(&p->request_id);
	alloc_free(p->was);
	alloc_free(p);
}

/* Answered from the readers: they know the older command.  They are told what
 * was asked for now, which must be the same. */
static void
refer_to_store(
    struct hub *h, const struct event *asked, const struct command *c)
{
	const struct user_record user = { .id = c->record->user_id,
		.workspace_id = c->record->workspace_id };
	struct reply *re = hub_reply(h, asked, NULL, 0);

	if (re == NULL)
		return;
	re->err = ERR_EXISTS;
	re->again = true;
	re->user = clone_in(&h->out->arena, CLONE_USER, &user);
	re->command = hub_command_copy(h, c);
}

void
hub_refuse_created(
    struct hub *h, const struct pending *p, int err, const struct command *c)
{
	struct event asked = { .kind = EVENT_REQUEST,
		.peer = p->peer,
		.request_id = p->request_id };

	const struct refusal no = err == ERR_EXISTS
	    ? (struct refusal){ err, 409, SL("ALREADY_RUN"),
		      SL("this key made a command there before, and it is "
			 "over") }
	    : err == ERR_LIMITED ? (struct refusal){ err, 507, SL("QUEUE_FULL"),
		      SL("the controller keeps as much output as it may") }
	    : err == ERR_NO_SPACE || err == ERR_FULL
	    ? (struct refusal){ err, 507, SL("NO_SPACE"),
		      SL("the controller's disk is full") }
	    : (struct refusal){ err, 503, SL("STORE_FAILED"),
		      SL("the controller could not store the command") };

	asked.request.op = p->op;
	asked.request.id = c->record->agent_id;
	asked.request.credential.kind = CREDENTIAL_WATCH;
	if (!peer_some(p->peer))
		hub_fan_failed(h, c->record->id, &no);
	else if (err == ERR_EXISTS)
		refer_to_store(h, &asked, c);
	else
		hub_reply_error(h, &asked, err, no.status, no.code,
		    (struct slice){ 0 }, no.text);
}

static void
undo_token(struct hub *h, struct pending *p)
{
	struct token *t = map_get(&h->tokens_by_id, p->id);

	if (t == NULL)
		return;
	if (p->op == OP_TOKEN_CREATE)
		hub_remove_token(h, t);
	else if (p->was != NULL && hub_rehash_token(h, t, p->was) != 0)
		h->out->err = ERR_NOMEM;
}

/* A failed registration ends the link: what was resumed on it waits for the
 * same op, and the agent comes back by itself. */
static void
undo_agent(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	bool current = a->joining == p->number;
	if (current) {
		a->joining = 0;
		a->unsaved = true;
	}
	if (a->link != NULL && peer_eq(a->link->peer, p->peer))
		hub_close(h, a->link->peer, 1011, SL("store_failed"));
	if (a->stored || (!current && p->op != OP_JOIN))
		return;
	hub_notice(h, SL("agent.removed"), a, (struct slice){ 0 },
	    (struct slice){ 0 }, 0);
	hub_cut_agent(h, a, SL("removed"));
	hub_remove_agent(h, a);
}

static void
undo_labels(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);
	struct agent_record *was = p->was, rec;

	if (a == NULL || was == NULL)
		return;
	rec = *a->record;
	rec.operator_labels_json = was->operator_labels_json;
	struct agent_record *kept = clone_new(CLONE_AGENT, &rec);
	if (kept == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	alloc_free(a->record);
	a->record = kept;
	hub_stop_relabelled(h, a, NULL);
	hub_agent_relabelled(h, a);
}

static void
undo_cordon(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	a->record->cordoned_at = p->cordoned_at;
	a->queue_changed = true;
	hub_dispatch(h, a);
	hub_queue_news(h, a);
}

static void
cordoned(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	hub_dispatch(h, a);
	hub_queue_news(h, a);
}

static void
undo_removal(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	a->record->removed_at = 0;
	hub_agent_relabelled(h, a);
}

static void
registered(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	a->stored = true;
	if (a->joining == p->number) {
		a->joining = 0;
		a->unsaved = false;
	}
	hub_settle(h, a, SL("registered"));
	hub_open_streams(h, a);
}

static void
removed(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);

	if (a == NULL)
		return;
	hub_notice(h, SL("agent.removed"), a, (struct slice){ 0 },
	    (struct slice){ 0 }, 0);
	if (a->link != NULL)
		hub_close(h, a->link->peer, 1008, SL("removed"));
	hub_remove_agent(h, a);
}

static void
answer_repeat(struct hub *h, struct pending *p)
{
	const struct event asked = { .kind = EVENT_REQUEST,
		.peer = p->peer,
		.request_id = p->request_id,
		.request = { .op = p->op } };
	struct command *c = map_get(&h->commands, p->id);

	if (c != NULL)
		hub_reply_command(h, &asked, NULL, c, true, 0);
}

static void
answer_fan(struct hub *h, struct pending *p)
{
	hub_fan_stored(h, p->number);
}

static void
answer_poll(struct hub *h, struct pending *p)
{
	struct agent *a = map_get(&h->agents, p->id);
	struct event asked = { .peer = p->peer, .request_id = p->request_id };

	if (a != NULL)
		hub_answer_poll(h, a, p->peer, p->request_id);
	else
		hub_send_error(h, &asked, ERR_NOT_FOUND,
		    SL("CLUSTER_NOT_FOUND"), (struct slice){ 0 },
		    SL("cluster not found"));
}

/* What follows an op that came about, and one that did not. */
static const struct {
	void (*done)(struct hub *h, struct pending *p);
	void (*undo)(struct hub *h, struct pending *p);
} results[] = {
	[PENDING_AGENT] = { registered, undo_agent },
	[PENDING_LABELS] = { NULL, undo_labels },
	[PENDING_REMOVAL] = { removed, undo_removal },
	[PENDING_CORDON] = { cordoned, undo_cordon },
	[PENDING_TOKEN] = { NULL, undo_token },
	[PENDING_SECRET] = { hub_secret_stored, hub_undo_secret },
	[PENDING_USER] = { NULL, hub_undo_user },
	[PENDING_LOGIN] = { NULL, hub_undo_login },
	[PENDING_REPEAT] = { answer_repeat, NULL },
	[PENDING_FAN] = { answer_fan, answer_fan },
	[PENDING_POLL] = { answer_poll, answer_poll },
	[PENDING_ANSWER] = { NULL, NULL },
	[PENDING_STOP] = { NULL, hub_stop_unsaved },
	[PENDING_ROUTE] = { hub_route_done, hub_route_undo },
};

/* Tell whoever waited for an op that did not come about. */
static void
tell_failure(struct hub *h, const struct pending *p, int err)
{
	struct event asked = { .kind = EVENT_REQUEST,
		.peer = p->peer,
		.request_id = p->request_id };
	bool full = err == ERR_NO_SPACE;
	struct slice code = full ? SL("NO_SPACE") : SL("STORE_FAILED");
	struct slice text = full
	    ? SL("the controller's disk is full")
	    : SL("the controller could not store this; try again");

	asked.request.op = p->op;
	if (!peer_some(p->peer) || p->kind == PENDING_POLL)
		return;
	if (p->kind == PENDING_CALL || p->kind == PENDING_ACK ||
	    (p->kind == PENDING_AGENT && p->op != OP_JOIN))
		hub_send_error(h, &asked, err, code, (struct slice){ 0 }, text);
	else
		hub_reply_error(h, &asked, err, full ? 507 : 503, code,
		    (struct slice){ 0 }, text);
}

static void
settle_pending(struct hub *h, struct pending *p, int err)
{
	/* Commands answer for themselves: a used key is no failure. */
	if (p->kind == PENDING_COMMAND || p->kind == PENDING_SENT ||
	    p->kind == PENDING_BACK || p->kind == PENDING_ENDED) {
		hub_command_stored(h, p, err);
		return;
	}
	if (p->kind == PENDING_AGAIN) {
		hub_again_stored(h, p, err);
		return;
	}
	/* Two acks at once: the second finds it done. */
	if (p->kind == PENDING_ACK && (err == 0 || err == ERR_WRONG_STATE)) {
		hub_ack_stored(h, p);
		return;
	}
	if (err != 0)
		tell_failure(h, p, err);
	if (err != 0 && results[p->kind].undo != NULL)
		results[p->kind].undo(h, p);
	if (err == 0 && results[p->kind].done != NULL)
		results[p->kind].done(h, p);
}

void
hub_on_stored(struct hub *h, const struct event *ev)
{
	struct list *l = h->pending.next;

	while (l != &h->pending) {
		struct pending *p = LIST_OF(l, struct pending, link);
		l = l->next;
		if (p->number > ev->stored.number)
			return;
		if (p->number < ev->stored.number)
			continue;
		list_remove(&p->link);
		settle_pending(h, p, ev->stored.err);
		hub_free_pending(p);
	}
}

/* Out of memory ------------------------------------------------------------ */

struct hub_mark
hub_mark(const struct hub *h)
{
	return (struct hub_mark){ h->out->count, h->next_op };
}

/* What was to be done and will not be. */
static void
take_back(struct hub *h, const struct effect *e)
{
	if (e->kind == EFFECT_CLOSE) {
		struct link *l = hub_find_link(h, e->peer);
		struct watch *w = hub_find_watch(h, e->peer);
		if (l != NULL)
			l->closed = (struct slice){ 0 };
		if (w != NULL)
			w->closed = (struct slice){ 0 };
	}
	/* That it was tried stays: one word too many does no harm. */
	if (e->kind == EFFECT_STREAM && e->stream.verb == STREAM_OPEN)
		hub_open_later(h, e->stream.command_id);
	hub_stop_taken_back(h, e);
	hub_tunnel_taken_back(h, e);
}

void
hub_roll_back(struct hub *h, const struct hub_mark *mark)
{
	struct outbox *out = h->out;

	/* What failed before this event is not of its making. */
	if (out->err == 0)
		return;
	for (size_t i = mark->effects; i < out->count; i++)
		take_back(h, &out->effects[i]);
	out->count = mark->effects;
	while (!list_empty(&h->pending)) {
		struct pending *p =
		    LIST_OF(h->pending.prev, struct pending, link);
		if (p->number <= mark->op)
			break;
		list_remove(&p->link);
		settle_pending(h, p, ERR_NOMEM);
		hub_free_pending(p);
	}
	out->count = mark->effects;
}
