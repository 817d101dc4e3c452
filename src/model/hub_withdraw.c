/*
 * What lanes must forget, and whom they must cut.
 */
#include "base/err.h"

#include "model/hub_tunnel.h"

enum { RETRY = 1000 };

static void
owe(struct hub *h, bool cut)
{
	h->tunnels.owed = true;
	h->tunnels.owed_cut |= cut;
	h->tunnels.retry_at = h->now + RETRY;
}

static int
copy(struct arena *a, const struct tunnel_withdrawal *from,
    struct tunnel_withdrawal *to)
{
	*to = *from;
	int err = arena_copy(a, from->route_id, &to->route_id);
	if (err == 0)
		err = arena_copy(a, from->agent_id, &to->agent_id);
	if (err == 0)
		err = arena_copy(a, from->user_id, &to->user_id);
	if (err == 0)
		err = arena_copy(a, from->login_id, &to->login_id);
	return err;
}

void
hub_withdraw(struct hub *h, const struct tunnel_withdrawal *w)
{
	struct effect *e = outbox_add(h->out, EFFECT_WITHDRAW);

	if (e != NULL && copy(&h->out->arena, w, &e->withdrawal) == 0)
		return;
	h->out->err = ERR_NOMEM;
	owe(h, w->cut);
}

void
hub_forget_agent(struct hub *h, struct agent *a)
{
	const struct tunnel_withdrawal w = { .agent_id = a->id };

	hub_track_link(h, a);
	if (a->visited)
		hub_withdraw(h, &w);
}

void
hub_cut_agent(struct hub *h, const struct agent *a, struct slice why)
{
	const struct tunnel_withdrawal w = {
		.agent_id = a->id, .cut = true, .why = why
	};

	if (a->visited)
		hub_withdraw(h, &w);
}

void
hub_cut_stopped(struct hub *h, const struct agent *a)
{
	if (hub_tunnels_stopped(a))
		hub_cut_agent(h, a, SL("stopped"));
}

/* Those who are limited to labels that it has no more. */
static void
cut_limited(struct hub *h, const struct agent *a)
{
	size_t pos = 0;

	for (struct user *u; (u = map_next(&h->users, &pos)) != NULL;) {
		const struct access who = { .user = u->record };
		const struct tunnel_withdrawal w = { .agent_id = a->id,
			.user_id = u->record->id,
			.cut = true,
			.why = SL("relabelled") };
		if (u->visiting && u->record->selector.len > 0 &&
		    !hub_may_see(h, &who, a))
			hub_withdraw(h, &w);
	}
}

void
hub_agent_relabelled(struct hub *h, struct agent *a)
{
	hub_judge_pools(h, a);
	hub_forget_agent(h, a);
	if (a->visited)
		cut_limited(h, a);
}

void
hub_cut_user(struct hub *h, const struct user *u)
{
	const struct tunnel_withdrawal w = {
		.user_id = u->record->id, .cut = true, .why = SL("revoked")
	};

	if (u->visiting)
		hub_withdraw(h, &w);
}

void
hub_cut_login(struct hub *h, const struct user *u, struct slice id)
{
	const struct tunnel_withdrawal w = {
		.login_id = id, .cut = true, .why = SL("revoked")
	};

	if (u != NULL && u->visiting)
		hub_withdraw(h, &w);
}

/* What did not come about -------------------------------------------------- */

void
hub_tunnel_taken_back(struct hub *h, const struct effect *e)
{
	if (e->kind == EFFECT_WITHDRAW)
		owe(h, e->withdrawal.cut);
	if (e->kind == EFFECT_ROUTES) {
		h->tunnels.untold = true;
		h->tunnels.retry_at = h->now + RETRY;
	}
}

msec
hub_tunnel_deadline(const struct hub *h)
{
	const struct tunnels *t = &h->tunnels;

	return t->untold || t->owed ? t->retry_at : INT64_MAX;
}

void
hub_tunnel_timer(struct hub *h)
{
	struct tunnels *t = &h->tunnels;
	const struct tunnel_withdrawal all = { .cut = t->owed_cut,
		.why = SL("overloaded") };

	if (hub_tunnel_deadline(h) > h->now)
		return;
	if (t->untold)
		hub_tell_routes(h);
	if (!t->owed)
		return;
	t->owed = t->owed_cut = false;
	hub_withdraw(h, &all);
}
