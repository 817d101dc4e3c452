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
		if (!c->acked && c->sending == 0 && !c->record->foreground)
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

static uint64_t
digest(struct hub *h, const struct slice *parts, size_t n)
{
	return map_hash(h->commands.seed, hub_text(h, parts, n));
}

static uint64_t
outcome_digest(struct hub *h, const struct outcome *o)
{
	const int32_t numbers[] = { o->exit_code, o->signal, o->timed_out,
		o->interrupted };
	const struct slice parts[] = { { (const uint8_t *)numbers,
					   sizeof(numbers) },
		o->code, o->out, o->err };

	return digest(h, parts, 4);
}

static const struct ended *
find_ended(const struct hub *h, uint64_t id_hash)
{
	for (size_t i = 0; i < ENDED_KEPT; i++) {
		if (h->ended[i].id_hash == id_hash)
			return &h->ended[i];
	}
	return NULL;
}

/* The same result again is accepted, once it is durable; another is not. */
static void
repeat(
    struct hub *h, const struct event *ev, const struct command *c, bool same)
{
	if (!same)
		hub_send_error(h, ev, ERR_EXISTS, SL("RESULT_DIFFERS"), none,
		    SL("another result for this command is stored"));
	else if (c != NULL)
		hub_send_error(h, ev, ERR_BUSY, SL("STORE_FAILED"), none,
		    SL("the result is not stored yet; try again"));
	else
		hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, 0);
}

void
hub_on_result(struct hub *h, struct link *l, const struct event *ev)
{
	const struct outcome *o = &ev->outcome;
	struct agent *a = hub_called(h, l, ev, ev->outcome.cluster_id);

	if (a == NULL)
		return;
	const struct slice id[] = { a->id, SL(" "), o->command_id };
	uint64_t id_hash = digest(h, id, 3);
	uint64_t outcome_hash = outcome_digest(h, o);
	const struct ended *before = find_ended(h, id_hash);
	struct command *c = map_get(&h->commands, o->command_id);
	if (before != NULL) {
		repeat(h, ev, c, before->outcome_hash == outcome_hash);
		return;
	}
	if (c == NULL || c->agent != a || !hub_command_active(c) ||
	    c->outcome != NULL) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    none, SL("no such command waits for a result"));
		return;
	}
	struct effect *e = outbox_add(h->out, EFFECT_OUTPUT);
	if (e == NULL)
		return;
	if (arena_copy(&h->out->arena, c->record->id, &e->output.command_id) !=
		0 ||
	    arena_copy(&h->out->arena, o->out, &e->output.out) != 0 ||
	    arena_copy(&h->out->arena, o->err, &e->output.err) != 0)
		h->out->err = ERR_NOMEM;
	h->ended[h->ended_at++ % ENDED_KEPT] =
	    (struct ended){ id_hash, outcome_hash };
	struct op *op = hub_finish_command(h, c, hub_final_state(o), o);
	if (op == NULL)
		return;
	hub_pend(h, op->number, PENDING_CALL, none, ev);
	hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, op->number);
}

void
hub_on_ack(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = hub_called(h, l, ev, ev->call.cluster_id);
	struct command *c;

	if (a == NULL)
		return;
	c = map_get(&h->commands, ev->call.command_id);
	if (c == NULL || c->agent != a || !hub_command_active(c)) {
		hub_send_error(h, ev, ERR_NOT_FOUND, SL("COMMAND_NOT_FOUND"),
		    none, SL("no such command was offered"));
		return;
	}
	c->acked = true;
	hub_send(h, ev->peer, EVENT_ACCEPTED, ev->request_id, 0);
}
