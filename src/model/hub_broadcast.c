/*
 * Other back ends' words on agents of ours (document 4, "Broadcasting from
 * Backend").  They are believed as an agent's own: a state can only be
 * lowered by them.
 */
#include "base/err.h"

#include "model/hub_state.h"

/* By its exact id: who reports of an agent knows which one. */
static struct agent *
find_agent(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = map_get(&h->agents, ev->request.id);

	if (a != NULL && hub_may_see(h, who, a))
		return a;
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("AGENT_NOT_FOUND"),
	    SL("agentId"), SL("there is no such agent"));
	return NULL;
}

static void
answer(struct hub *h, const struct event *ev, const struct access *who)
{
	struct reply *r = hub_reply(h, ev, who, 0);

	if (r != NULL)
		r->status = 204;
}

void
hub_broadcast_status(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = find_agent(h, ev, who);

	if (a == NULL)
		return;
	hub_blame(h, a, ev->request.word);
	answer(h, ev, who);
}

void
hub_broadcast_activity(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = find_agent(h, ev, who);
	struct notice *n = a == NULL
	    ? NULL
	    : hub_publish(h, NOTICE_ACTIVITY, SL("session.activity"), a, 0);

	if (n == NULL)
		return;
	if (arena_copy(
		&h->out->arena, ev->request.session_id, &n->command_id) != 0 ||
	    arena_copy(&h->out->arena, ev->request.word, &n->text) != 0)
		h->out->err = ERR_NOMEM;
	answer(h, ev, who);
}
