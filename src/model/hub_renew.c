/*
 * A dashboard goes on with another credential (document 2, "Authentication
 * Messages").  Whose it is must stay the same; what it may do, and for how
 * long, is what the new one says.
 */
#include "base/err.h"

#include "model/hub_state.h"

static bool
same_subject(const struct watch *w, const struct access *who)
{
	if (w->user == NULL || who->user == NULL)
		return w->user == NULL && who->user == NULL &&
		    w->token == who->token;
	return slice_eq(w->user->id, who->user->id);
}

static void
refuse(struct hub *h, const struct event *ev)
{
	hub_reply_error(h, ev, ERR_DENIED, 403, SL("OTHER_SUBJECT"),
	    SL("token"), SL("the token is somebody else's"));
}

static void
adopt(struct hub *h, struct watch *w, const struct access *who)
{
	list_remove(&w->by_token);
	w->token = who->token;
	if (w->token != NULL)
		list_push(&w->token->watches, &w->by_token);
	w->scopes = who->scopes;
	/* Those of other issuers have it by their token alone. */
	if (w->user != NULL && who->user != NULL)
		w->user->role = who->user->role;
	w->expires_at = who->expires_at;
	w->warned = false;
	if (hub_keep(&w->login_id, who->login_id) != 0)
		h->out->err = ERR_NOMEM;
	hub_rearm_watch(h, w);
}

/* Trade a refresh token in: for the login it stems from and nobody else's. */
static void
renew_login(struct hub *h, struct watch *w, const struct event *ev)
{
	const struct login_record *asked = ev->request.login;
	const struct login *g = map_get(&h->logins, asked->id);
	size_t before = h->out->count;

	if (g != NULL &&
	    (w->user == NULL || !slice_eq(g->user->record->id, w->user->id))) {
		refuse(h, ev);
		return;
	}
	bool good = g != NULL && !g->record->cookie &&
	    memcmp(g->record->hash, asked->hash, HASH_LEN) == 0;
	hub_refresh(h, ev, NULL);
	if (!good || h->out->err != 0 || h->out->count == before)
		return;
	wall_msec until = asked->expires_at < g->record->expires_at
	    ? asked->expires_at
	    : g->record->expires_at;
	const struct access who = { .token = NULL,
		.login_id = g->record->id,
		.scopes = hub_role_scopes(g->user->record->role) &
		    ~(scope_set)SCOPE_AGENT_CONNECT,
		.expires_at = until };
	adopt(h, w, &who);
}

void
hub_renew(struct hub *h, const struct event *ev, const struct access *who)
{
	struct watch *w = hub_find_watch(h, ev->peer);
	struct access now;

	if (w == NULL || !hub_watch_access(w, &now))
		return;
	if (ev->request.login != NULL) {
		renew_login(h, w, ev);
		return;
	}
	if (!same_subject(w, who)) {
		refuse(h, ev);
		return;
	}
	adopt(h, w, who);
	hub_reply(h, ev, who, 0);
}
