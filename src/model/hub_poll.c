/*
 * Commands for agents that poll over HTTP: offered until a result or an ack
 * comes, at most once each.  The same result again is no error.
 */
#include "base/err.h"

#include "model/hub_state.h"

static const struct slice none;

static void
offer(struct hub *h, struct command *c, struct command_record *out)
{
	c->record->attempt++;
	const struct command_record *r = hub_command_copy(h, c);

	if (r != NULL)
		*out = *r;
}

void
hub_answer_poll(struct hub *h, struct agent *a, struct peer_id peer,
    struct slice request_id)
{
	struct event *re = hub_send(h, peer, EVENT_POLL_REPLY, request_id, 0);
	struct command_record *list =
	    arena_array(&h->out->arena, (size_t)a->detached + 1, sizeof(*list));
	size_t n = 0;

	if (re == NULL || list == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	/* One that has a link as well is served there. */
	for (struct list *at = a->active.next;
	     at != &a->active && a->link == NULL && !hub_is_stopped(a);
	     at = at->next) {
		struct command *c = LIST_OF(at, struct command, link);
		if (c->record->state == COMMAND_SENT && c->sending == 0 &&
		    !c->record->foreground)
			offer(h, c, &list[n++]);
	}
	re->poll = (struct poll_reply){ .commands = list,
		.count = n,
		.stop_epoch = h->stop.epoch,
		.next_seconds = n > 0 ? 1 : 5 };
}

/* What waits is taken first; the answer comes when that is durable, or with
 * what was sent before when it cannot be. */
void
hub_on_poll(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = hub_called(h, l, ev, ev->call.cluster_id);
	uint64_t after = 0;

	if (a == NULL)
		return;
	hub_judge_restored(h, a, NULL);
	while (a->link == NULL && hub_take_waiting(h, a, &after) != NULL)
		;
	if (after != 0)
		hub_pend(h, after, PENDING_POLL, a->id, ev);
	else
		hub_answer_poll(h, a, ev->peer, ev->request_id);
	hub_settle(h, a, SL("poll"));
}

/* Answered when the store has looked: nothing here knows it any more. */
static void
ask_store(struct hub *h, const struct agent *a, const struct event *ev)
{
	const struct outcome *o = &ev->outcome;
	const struct command_record said = { .id = o->command_id,
		.agent_id = a->id,
		.state = hub_final_state(o),
		.exit_code = o->exit_code,
		.signal = o->signal,
		.code = o->code,
		.out_bytes = o->out_bytes,
		.err_bytes = o->err_bytes };
	struct op *op = hub_store(h, OP_COMMAND_AGAIN);

	if (op == NULL)
		return;
	op->command = clone_in(&h->out->arena, CLONE_COMMAND, &said);
	if (op->command == NULL)
		h->out->err = ERR_NOMEM;
	else
		hub_pend(h, op->number, PENDING_AGAIN, o->command_id, ev);
}

bool
hub_put_output(struct hub *h, struct command *c, const struct outcome *o)
{
	struct effect *e = outbox_add(h->out, EFFECT_OUTPUT);

	if (e == NULL)
		return false;
	e->seen_by = hub_seen_by(h, c->agent);
	e->output.asked_by = c->asker;
	e->output.command = hub_command_copy(h, c);
	if (e->output.command == NULL ||
	    arena_copy(&h->out->arena, o->out, &e->output.out) != 0 ||
	    arena_copy(&h->out->arena, o->err, &e->output.err) != 0)
		h->out->err = ERR_NOMEM;
	return h->out->err == 0;
}

void
hub_on_result(struct hub *h, struct link *l, const struct event *ev)
{
	const struct outcome *o = &ev->outcome;
	struct agent *a = hub_called(h, l, ev, ev->outcome.cluster_id);

	if (a == NULL)
		return;
	struct command *c = map_get(&h->commands, o->command_id);
	if (c == NULL || (c->agent == a && c->outcome != NULL)) {
		ask_store(h, a, ev);
		return;
	}
	if (c->agent != a || !hub_command_active(c)) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    none, SL("no such command waits for a result"));
		return;
	}
	if (!hub_put_output(h, c, o))
		return;
	struct op *op = hub_finish_command(h, c, hub_final_state(o), o);
	if (op == NULL)
		return;
	hub_pend(h, op->number, PENDING_CALL, none, ev);
	hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, op->number);
}

void
hub_again_stored(struct hub *h, const struct pending *p, int err)
{
	struct event asked = { .peer = p->peer, .request_id = p->request_id };

	if (err == 0)
		hub_send(h, p->peer, EVENT_ACCEPTED, p->request_id, 0);
	else if (err == ERR_WRONG_STATE)
		hub_send_error(h, &asked, ERR_EXISTS, SL("RESULT_DIFFERS"),
		    none, SL("another result for this command is stored"));
	else if (err == ERR_NOT_FOUND)
		hub_send_error(h, &asked, err, SL("COMMAND_NOT_FOUND"), none,
		    SL("no such command waits for a result"));
	else
		hub_send_error(h, &asked, ERR_BUSY, SL("STORE_FAILED"), none,
		    SL("the result is not stored yet; try again"));
}

/* An acknowledged one runs, and is not offered again by any life of the
 * controller: so that is durable before it is said. */
void
hub_on_ack(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = hub_called(h, l, ev, ev->call.cluster_id);
	struct command *c;
	struct op *op;

	if (a == NULL)
		return;
	c = map_get(&h->commands, ev->call.command_id);
	if (c == NULL || c->agent != a || !hub_command_active(c) ||
	    c->outcome != NULL) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    none, SL("no such command was offered"));
		return;
	}
	if (c->record->state == COMMAND_RUNNING) {
		hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, 0);
		return;
	}
	op = hub_store(h, OP_COMMAND_RUNS);
	if (op == NULL)
		return;
	struct command_record now = *c->record;
	now.started_at = h->wall;
	op->command = clone_in(&h->out->arena, CLONE_COMMAND, &now);
	if (op->command == NULL)
		h->out->err = ERR_NOMEM;
	else
		hub_pend(h, op->number, PENDING_ACK, c->record->id, ev);
}

void
hub_ack_stored(struct hub *h, const struct pending *p)
{
	struct command *c = map_get(&h->commands, p->id);

	if (c != NULL && c->outcome == NULL && c->record->state == COMMAND_SENT)
		(void)hub_begin_command(h, c, h->wall);
	hub_send(h, p->peer, EVENT_ACCEPTED, p->request_id, 0);
}
