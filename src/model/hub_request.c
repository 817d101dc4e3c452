/*
 * Requests of operators.  A table says which scope each needs and who
 * answers; what has no handler is only granted here and read from the store
 * by whoever asked.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_queue.h"
#include "model/hub_signed.h"
#include "model/hub_tunnel.h"

struct reply *
hub_reply(struct hub *h, const struct event *ev, const struct access *who,
    uint64_t after)
{
	struct event *re =
	    hub_send(h, ev->peer, EVENT_REPLY, ev->request_id, after);
	struct reply *r = arena_alloc(&h->out->arena, sizeof(*r));

	if (re == NULL || r == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	r->op = ev->request.op;
	r->status = 200;
	/* A dashboard may have asked for many things at once. */
	if (ev->request.credential.kind == CREDENTIAL_WATCH &&
	    arena_copy(&h->out->arena, ev->request.id, &r->about) != 0)
		h->out->err = ERR_NOMEM;
	if (who != NULL) {
		r->scopes = who->scopes;
		r->expires_at = who->expires_at;
		if (who->user != NULL)
			r->user =
			    clone_in(&h->out->arena, CLONE_USER, who->user);
	}
	r->rate.limit = h->rate.limit;
	r->rate.left = h->rate.left;
	r->rate.reset = h->rate.reset;
	re->reply = r;
	return r;
}

void
hub_reply_error(struct hub *h, const struct event *ev, int err, uint16_t status,
    struct slice code, struct slice field, struct slice text)
{
	struct reply *r = hub_reply(h, ev, NULL, 0);

	if (r == NULL)
		return;
	r->err = err;
	r->status = status;
	if (arena_copy(&h->out->arena, code, &r->code) != 0 ||
	    arena_copy(&h->out->arena, field, &r->field) != 0 ||
	    arena_copy(&h->out->arena, text, &r->text) != 0)
		h->out->err = ERR_NOMEM;
}

void
hub_reply_limited(struct hub *h, const struct event *ev, uint32_t seconds,
    struct slice code, struct slice text)
{
	struct reply *r = hub_reply(h, ev, NULL, 0);

	if (r == NULL)
		return;
	r->err = ERR_LIMITED;
	r->status = 429;
	r->retry_after = seconds;
	r->code = code;
	r->text = text;
}

static void
who_am_i(struct hub *h, const struct event *ev, const struct access *who)
{
	struct reply *r = hub_reply(h, ev, who, 0);

	if (r == NULL || who->token == NULL)
		return;
	r->tokens = clone_in(&h->out->arena, CLONE_TOKEN, who->token->record);
	r->token_count = r->tokens == NULL ? 0 : 1;
}

struct row {
	scope_set need;
	bool agents_too; /* tokens without a user may ask */
	void (*handle)(
	    struct hub *h, const struct event *ev, const struct access *who);
	bool open;  /* asked without a credential: it is the way to one */
	bool visit; /* the same, and judges its credential itself */
	bool ends;  /* ends things: never one too many */
};

static const struct row rows[OPS] = {
	[OP_WHOAMI] = { .agents_too = true, .handle = who_am_i },
	[OP_AGENT_LIST] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_list_agents },
	[OP_AGENT_SHOW] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_agent },
	[OP_AGENT_LABEL] = { .need = SCOPE_AGENT_WRITE,
	    .handle = hub_label_agent },
	[OP_AGENT_REMOVE] = { .need = SCOPE_AGENT_WRITE,
	    .handle = hub_expel_agent },
	[OP_QUEUE_SHOW] = { .need = SCOPE_AGENT_READ | SCOPE_COMMAND_READ,
	    .handle = hub_show_queue },
	[OP_QUEUE_PURGE] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_purge_queue,
	    .ends = true },
	[OP_AGENT_CORDON] = { .need = SCOPE_AGENT_WRITE,
	    .handle = hub_cordon_agent },
	[OP_AGENT_UNCORDON] = { .need = SCOPE_AGENT_WRITE,
	    .handle = hub_cordon_agent },
	[OP_JOIN] = { .need = SCOPE_CLUSTER_REGISTER,
	    .agents_too = true,
	    .handle = hub_join_agent },
	[OP_TOKEN_CREATE] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_create_token },
	[OP_TOKEN_LIST] = { .need = SCOPE_TOKEN_READ,
	    .handle = hub_list_tokens },
	[OP_TOKEN_SHOW] = { .need = SCOPE_TOKEN_READ,
	    .handle = hub_show_token },
	[OP_TOKEN_REVOKE] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_revoke_token,
	    .ends = true },
	[OP_TOKEN_ROTATE] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_rotate_token },
	[OP_COMMAND_CREATE] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_create_command },
	[OP_COMMAND_INTERRUPT] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_interrupt_command,
	    .ends = true },
	[OP_COMMAND_CANCEL] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_cancel_command,
	    .ends = true },
	[OP_STOP_RAISE] = { .need = SCOPE_STOP_WRITE,
	    .handle = hub_raise_stop,
	    .ends = true },
	[OP_STOP_LIFT] = { .need = SCOPE_STOP_WRITE,
	    .handle = hub_lift_stop,
	    .ends = true },
	[OP_STOP_LIST] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_list_stops,
	    .ends = true },
	[OP_STOP_SHOW] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_stop,
	    .ends = true },
	[OP_COMMAND_ATTACH] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_attach_command },
	[OP_COMMAND_SHOW] = { .need = SCOPE_COMMAND_READ,
	    .handle = hub_place_command },
	[OP_AGENT_CONTROL] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_control_agent },
	[OP_TERMINAL_CLEAR] = { .need = SCOPE_COMMAND_RUN,
	    .handle = hub_clear_terminal },
	[OP_COMMAND_LIST] = { .need = SCOPE_COMMAND_READ },
	[OP_COMMAND_OUTPUT] = { .need = SCOPE_COMMAND_READ },
	[OP_AUDIT_LIST] = { .need = SCOPE_AUDIT_READ },
	[OP_AUDIT_VERIFY] = { .need = SCOPE_AUDIT_READ },
	[OP_AGENT_HISTORY] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_agent },
	[OP_EVENTS] = { .need = SCOPE_EVENT_READ, .handle = hub_watch_events },
	[OP_METRICS] = { .need = SCOPE_METRICS_READ, .agents_too = true },
	[OP_USER_ADD] = { .need = SCOPE_USER_WRITE, .handle = hub_user_add },
	[OP_USER_LIST] = { .need = SCOPE_USER_WRITE, .handle = hub_user_list },
	[OP_USER_SHOW] = { .need = SCOPE_USER_WRITE, .handle = hub_user_show },
	[OP_USER_CHANGE] = { .need = SCOPE_USER_WRITE,
	    .handle = hub_user_change },
	[OP_USER_REMOVE] = { .need = SCOPE_USER_WRITE,
	    .handle = hub_user_remove,
	    .ends = true },
	[OP_USER_TOKEN] = { .need = SCOPE_USER_WRITE,
	    .handle = hub_user_token },
	[OP_LOGIN] = { .handle = hub_login, .open = true },
	[OP_LOGIN_DONE] = { .handle = hub_login_done, .open = true },
	[OP_REFRESH] = { .handle = hub_refresh, .open = true },
	[OP_SETUP] = { .handle = hub_set_up, .open = true },
	[OP_LOGOUT] = { .handle = hub_logout, .ends = true },
	[OP_OWN_PASSWORD] = { .handle = hub_own_password },
	[OP_BROADCAST_STATUS] = { .need = SCOPE_EVENT_WRITE,
	    .handle = hub_broadcast_status },
	[OP_BROADCAST_ACTIVITY] = { .need = SCOPE_EVENT_WRITE,
	    .handle = hub_broadcast_activity },
	[OP_ROUTE_ADD] = { .need = SCOPE_ROUTE_WRITE, .handle = hub_add_route },
	[OP_ROUTE_LIST] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_list_routes },
	[OP_ROUTE_SHOW] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_route },
	[OP_ROUTE_REMOVE] = { .need = SCOPE_ROUTE_WRITE,
	    .handle = hub_remove_route,
	    .ends = true },
	[OP_ROUTE_LINK] = { .need = SCOPE_ROUTE_WRITE,
	    .handle = hub_link_route },
	[OP_ROUTE_UNLINK] = { .need = SCOPE_ROUTE_WRITE,
	    .handle = hub_link_route,
	    .ends = true },
	[OP_TUNNEL] = { .need = SCOPE_TUNNEL_USE },
	[OP_VISIT] = { .handle = hub_visit, .open = true, .visit = true },
	[OP_RENEW] = { .agents_too = true, .handle = hub_renew },
	[OP_SIGNED_ADD] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_signed_add },
	[OP_SIGNED_LIST] = { .need = SCOPE_TOKEN_READ,
	    .handle = hub_signed_list },
	[OP_SIGNED_SHOW] = { .need = SCOPE_TOKEN_READ,
	    .handle = hub_signed_show },
	[OP_SIGNED_ROTATE] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_signed_rotate },
	[OP_SIGNED_REMOVE] = { .need = SCOPE_TOKEN_WRITE,
	    .handle = hub_signed_remove,
	    .ends = true },
	[OP_AGENT_LOGS] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_agent },
	[OP_AGENT_METRICS] = { .need = SCOPE_AGENT_READ,
	    .handle = hub_show_figures },
	[OP_WATCH] = { .need = SCOPE_EVENT_READ | SCOPE_AGENT_READ,
	    .handle = hub_watch_dashboard },
};

struct hub_right
hub_right(enum request_op op)
{
	return (struct hub_right){ .need = rows[op].need,
		.open = rows[op].open,
		.agents = rows[op].agents_too };
}

void
hub_reply_denied(struct hub *h, const struct event *ev, const struct denied *no)
{
	struct event *re =
	    hub_send(h, ev->peer, EVENT_REPLY, ev->request_id, 0);
	struct reply *r = arena_alloc(&h->out->arena, sizeof(*r));

	if (re == NULL || r == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	*r = (struct reply){ .op = ev->request.op,
		.err = no->err,
		.status = no->status,
		.retry_after = no->retry_after,
		.code = no->code,
		.text = no->text };
	if (arena_copy(&h->out->arena, ev->request.id, &r->about) != 0)
		h->out->err = ERR_NOMEM;
	re->reply = r;
}

/* Whoever has no credential has a small share of its own. */
static bool
spend_as_stranger(struct hub *h, const struct event *ev)
{
	struct rate_state rate;

	if (rate_take(h, &h->strangers, ev->request.credential.address,
		h->config.stranger_rate, &rate))
		return true;
	hub_reply_limited(h, ev, rate.reset, SL("RATE_LIMITED"),
	    SL("too many requests without a credential from this address"));
	return false;
}

/* Those who watch are counted by the message, where they are read. */
static bool
spend(struct hub *h, const struct event *ev, const struct row *row,
    const struct access *who)
{
	if (row->ends || who->user == NULL ||
	    ev->request.credential.kind == CREDENTIAL_WATCH)
		return true;
	if (rate_take(h, &h->requests, who->user->id, h->config.request_rate,
		&h->rate))
		return true;
	hub_reply_limited(h, ev, h->rate.reset, SL("RATE_LIMITED"),
	    SL("too many requests of this user"));
	return false;
}

static void
answer(struct hub *h, const struct event *ev, const struct row *row)
{
	struct access who;
	struct denied no = { 0 };
	int err =
	    hub_resolve(h, ev, &ev->request.credential, row->need, &who, &no);

	if (err == 0 && who.user == NULL && !row->agents_too) {
		no = (struct denied){ .status = 403,
			.err = ERR_DENIED,
			.code = SL("NOT_PERMITTED"),
			.text = SL("an agent's token may not do this") };
		err = no.err;
	}
	if (err != 0 &&
	    (ev->request.credential.kind != CREDENTIAL_NONE ||
		spend_as_stranger(h, ev)))
		hub_reply_denied(h, ev, &no);
	if (err != 0 || !spend(h, ev, row, &who))
		return;
	if (row->handle != NULL)
		row->handle(h, ev, &who);
	else
		hub_reply(h, ev, &who, 0);
}

void
hub_on_request(struct hub *h, const struct event *ev)
{
	const struct row *row = &rows[ev->request.op];

	h->rate = (struct rate_state){ 0 };
	if (!row->open)
		answer(h, ev, row);
	else if (row->visit || spend_as_stranger(h, ev))
		row->handle(h, ev, NULL);
	h->rate = (struct rate_state){ 0 };
}
