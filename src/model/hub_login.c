/*
 * Logins: a family of refresh tokens, or a cookie, that stands for a user.
 * Of a family one text is good at a time; whoever shows an older one of ours
 * has a copy that was used already, so nobody can tell thief and owner apart
 * and the family ends (RFC 9700 4.14.2).
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_tunnel.h"

enum { USER_LOGINS = 100, NAME_MOST = 255 };

static const struct slice none;

/* The table -------------------------------------------------------------- */

struct login *
hub_add_login(struct hub *h, const struct login_record *r)
{
	struct user *u = map_get(&h->users, r->user_id);
	struct login *g = u == NULL ? NULL : alloc_new(sizeof(*g));

	if (g == NULL)
		return NULL;
	g->user = u;
	g->record = clone_new(CLONE_LOGIN, r);
	if (g->record == NULL || map_put(&h->logins, g->record->id, g) != 0) {
		alloc_free(g->record);
		alloc_free(g);
		return NULL;
	}
	list_push(&u->logins, &g->by_user);
	u->login_count++;
	return g;
}

void
hub_free_login(struct hub *h, struct login *g)
{
	list_remove(&g->by_user);
	g->user->login_count--;
	map_del(&h->logins, g->record->id);
	alloc_free(g->record);
	alloc_free(g);
}

/* A login that still counts, or NULL. */
static struct login *
find_login(struct hub *h, struct slice id)
{
	struct login *g = map_get(&h->logins, id);

	return g == NULL || h->wall >= g->record->expires_at ||
		g->user->record->removed_at != 0
	    ? NULL
	    : g;
}

static struct op *
store_login(struct hub *h, enum op_verb verb, const struct login *g)
{
	struct op *op = hub_store(h, verb);

	if (op == NULL)
		return NULL;
	op->login = clone_in(&h->out->arena, CLONE_LOGIN, g->record);
	if (op->login == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	return op;
}

/* Whoever watches, or is attached, by it. */
static void
sever(struct hub *h, const struct login *g)
{
	struct list *l = g->user->watches.next;

	for (; l != &g->user->watches; l = l->next) {
		struct watch *w = LIST_OF(l, struct watch, by_user);
		if (slice_eq(w->login_id, g->record->id))
			hub_close_watch(h, w, 1008, SL("revoked"));
	}
	hub_expel_viewers(h, VIEWER_LOGIN, g->record->id);
	hub_cut_login(h, g->user, g->record->id);
}

/* It is over, whatever becomes of the op: a row that stays behind is one
 * more that nobody can name after a restart. */
static struct op *
end_login(struct hub *h, struct login *g)
{
	struct op *op = store_login(h, OP_DROP_LOGIN, g);

	sever(h, g);
	if (op != NULL)
		hub_free_login(h, g);
	return op;
}

void
hub_end_logins(struct hub *h, struct user *u, struct slice but)
{
	struct list *l = u->logins.next;

	while (l != &u->logins && h->out->err == 0) {
		struct login *g = LIST_OF(l, struct login, by_user);
		l = l->next;
		if (but.len == 0 || !slice_eq(g->record->id, but))
			end_login(h, g);
	}
}

/* Those that are over, and the oldest when there are too many. */
static void
make_room(struct hub *h, struct user *u)
{
	struct list *l = u->logins.next;

	while (l != &u->logins && h->out->err == 0) {
		struct login *g = LIST_OF(l, struct login, by_user);
		l = l->next;
		if (h->wall >= g->record->expires_at ||
		    u->login_count >= USER_LOGINS)
			end_login(h, g);
	}
}

void
hub_undo_login(struct hub *h, struct pending *p)
{
	struct login *g = map_get(&h->logins, p->id);
	const struct login_record *was = p->was;

	if (g == NULL)
		return;
	if (was == NULL)
		hub_free_login(h, g);
	else
		memcpy(g->record->hash, was->hash, HASH_LEN);
}

/* Credentials -------------------------------------------------------------- */

static int
deny(struct denied *no, uint16_t status, int err, struct slice code,
    struct slice text)
{
	*no = (struct denied){
		.status = status, .err = err, .code = code, .text = text
	};
	return err;
}

/* Nobody of ours: a user for as long as this event lasts. */
static const struct user_record *
stranger(struct hub *h, const struct claims *c)
{
	struct user_record *r = arena_alloc(&h->out->arena, sizeof(*r));
	const struct slice id[] = { SL("ext:"), c->subject };

	if (r == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	r->id = hub_text(h, id, 2);
	if (arena_copy(&h->out->arena, c->name.len > 0 ? c->name : c->subject,
		&r->name) != 0)
		h->out->err = ERR_NOMEM;
	r->role = c->role;
	r->workspace_id = 1;
	return r;
}

/* Ours says who by id alone; others by whatever names one of ours. */
static const struct user_record *
subject(struct hub *h, const struct claims *c)
{
	struct user *u;

	if (c->issuer.ptr == NULL) {
		u = map_get(&h->users, c->subject);
		return u == NULL || u->record->removed_at != 0 ? NULL
							       : u->record;
	}
	/* By the subject alone: other names are often of people's own
	 * choosing at their issuer. */
	u = hub_find_user(h, c->subject);
	return u != NULL ? u->record : stranger(h, c);
}

/* agent:connect is for whoever is named to have it: a dashboard's token is
 * no agent's. */
static scope_set
claimed_scopes(const struct claims *c, scope_set role)
{
	scope_set agent = c->has_scopes ? c->scopes & SCOPE_AGENT_CONNECT : 0;
	scope_set rest = c->has_scopes ? role & c->scopes : role;

	if (c->issuer.ptr == NULL)
		agent &= role;
	return (rest & ~(scope_set)SCOPE_AGENT_CONNECT) | agent;
}

int
hub_resolve_jwt(struct hub *h, const struct credential *cred,
    struct access *who, struct denied *no)
{
	const struct claims *c = &cred->claims;
	const struct user_record *u;

	if (c->err == ERR_EXPIRED)
		return deny(no, 401, c->err, SL("TOKEN_EXPIRED"),
		    SL("this token has expired"));
	if (c->err == ERR_AGAIN)
		return deny(no, 401, c->err, SL("TOKEN_NOT_YET_VALID"),
		    SL("this token is not valid yet; are the clocks right?"));
	u = subject(h, c);
	if (u == NULL)
		return deny(no, 403, ERR_REVOKED, SL("USER_REMOVED"),
		    SL("the user of this token was removed"));
	if (c->issuer.ptr == NULL &&
	    (c->issued_at < u->valid_from ||
		(c->login_id.len > 0 && find_login(h, c->login_id) == NULL)))
		return deny(no, 401, ERR_REVOKED, SL("TOKEN_REVOKED"),
		    SL("this login is over"));
	*who = (struct access){ .user = u,
		.login_id = c->login_id,
		.scopes = claimed_scopes(c, hub_role_scopes(u->role)),
		.expires_at = c->expires_at };
	return 0;
}

int
hub_resolve_cookie(
    struct hub *h, const struct credential *c, struct access *who)
{
	struct login *g = find_login(h, c->claims.login_id);

	if (g == NULL || !g->record->cookie ||
	    memcmp(g->record->hash, c->hash, HASH_LEN) != 0)
		return ERR_NOT_FOUND;
	const struct user_record *u = g->user->record;
	*who = (struct access){ .user = u,
		.login_id = g->record->id,
		.scopes =
		    hub_role_scopes(u->role) & ~(scope_set)SCOPE_AGENT_CONNECT,
		.expires_at = g->record->expires_at };
	return 0;
}

int
hub_resolve_wall(struct hub *h, const struct credential *cred, scope_set need,
    struct access *who, struct denied *no)
{
	const struct claims *c = &cred->claims;
	const struct user *u = map_get(&h->users, c->subject);
	scope_set visits = SCOPE_ROUTE_VISIT | SCOPE_TUNNEL_USE;

	if (u == NULL || u->record->removed_at != 0 ||
	    c->issued_at < u->record->valid_from || h->wall >= c->expires_at ||
	    (c->login_id.len > 0 && find_login(h, c->login_id) == NULL))
		return deny(no, 401, ERR_REVOKED, SL("TOKEN_REVOKED"),
		    SL("this login is over"));
	*who = (struct access){ .user = u->record,
		.login_id = c->login_id,
		.scopes = hub_role_scopes(u->record->role) & visits,
		.expires_at = c->expires_at };
	if ((need & ~who->scopes) == 0)
		return 0;
	return deny(no, 403, ERR_DENIED, SL("NOT_PERMITTED"),
	    SL("your role does not permit this"));
}

/* Requests ----------------------------------------------------------------- */

static void
refuse_login(struct hub *h, const struct event *ev)
{
	hub_reply_error(h, ev, ERR_DENIED, 401, SL("LOGIN_FAILED"), none,
	    SL("name or password is wrong"));
}

bool
hub_may_try(struct hub *h, const struct event *ev, struct slice account)
{
	struct rate_state rate;

	if (rate_take(
		h, &h->logins_tried, account, h->config.login_rate, &rate))
		return true;
	hub_reply_limited(h, ev, rate.reset, SL("TOO_MANY_ATTEMPTS"),
	    SL("too many logins of this account; try again later"));
	return false;
}

/*
 * Each try counts, right or wrong, known or not: the answer takes as long
 * and says as much for an account that does not exist.
 */
void
hub_login(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct user *u = hub_find_user(h, ev->request.id);

	(void)who;
	/* Nobody is called so: nothing to count, and to keep, for it. */
	if (ev->request.id.len > NAME_MOST) {
		refuse_login(h, ev);
		return;
	}
	if (!hub_may_try(h, ev, ev->request.id))
		return;
	struct reply *r = hub_reply(h, ev, NULL, 0);
	if (r == NULL || u == NULL)
		return;
	r->users = clone_in(&h->out->arena, CLONE_USER, u->record);
	r->user_count = r->users != NULL;
	if (r->users == NULL)
		h->out->err = ERR_NOMEM;
}

static void
login_failed(struct hub *h, const struct event *ev)
{
	struct op *op = hub_store(h, OP_AUDIT);

	if (op != NULL) {
		op->lazy = true;
		op->audit = hub_audit(SL("unknown"), SL("user.login"),
		    ev->request.id, ev, ev->request.credential.remote);
		op->audit.result = SL("denied");
	}
	refuse_login(h, ev);
}

/* What a login that began or went on is answered with. */
static void
reply_login(struct hub *h, const struct event *ev, const struct login *g,
    uint64_t after)
{
	const struct access who = { .user = g->user->record,
		.scopes = hub_role_scopes(g->user->record->role) };
	struct reply *r = hub_reply(h, ev, &who, after);

	if (r == NULL)
		return;
	r->login = clone_in(&h->out->arena, CLONE_LOGIN, g->record);
	if (r->login == NULL)
		h->out->err = ERR_NOMEM;
}

void
hub_login_done(struct hub *h, const struct event *ev, const struct access *who)
{
	struct login_record r = *ev->request.login;
	struct user *u = map_get(&h->users, r.user_id);

	(void)who;
	/* It may have changed while the password was judged. */
	if (!ev->request.passed || u == NULL || u->record->removed_at != 0 ||
	    r.created_at < u->record->valid_from) {
		login_failed(h, ev);
		return;
	}
	make_room(h, u);
	r.created_at = r.used_at = h->wall;
	r.remote = ev->request.credential.remote;
	struct login *g = h->out->err == 0 ? hub_add_login(h, &r) : NULL;
	struct op *op = g == NULL ? NULL : store_login(h, OP_PUT_LOGIN, g);
	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->audit = hub_audit(u->record->id, SL("user.login"), op->login->id,
	    ev, ev->request.credential.remote);
	hub_pend(h, op->number, PENDING_LOGIN, r.id, ev);
	reply_login(h, ev, g, op->number);
}

static void
reused(struct hub *h, const struct event *ev, struct login *g)
{
	struct slice user = g->user->record->id;
	struct op *op = end_login(h, g);

	if (op == NULL)
		return;
	op->audit = hub_audit(user, SL("login.reuse"), op->login->id, ev,
	    ev->request.credential.remote);
	op->audit.result = SL("revoked");
	hub_pend(h, op->number, PENDING_ANSWER, op->login->id, ev);
	struct reply *r = hub_reply(h, ev, NULL, op->number);
	if (r == NULL)
		return;
	r->err = ERR_REVOKED;
	r->status = 401;
	r->code = SL("TOKEN_REUSED");
	r->text = SL("this refresh token was used before; the login is over");
}

void
hub_refresh(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct login *g = find_login(h, q->login->id);

	(void)who;
	if (g == NULL || g->record->cookie) {
		hub_reply_error(h, ev, ERR_DENIED, 401, SL("TOKEN_REVOKED"),
		    none, SL("this login is over"));
		return;
	}
	if (memcmp(g->record->hash, q->login->hash, HASH_LEN) != 0) {
		reused(h, ev, g);
		return;
	}
	struct login_record *was = clone_new(CLONE_LOGIN, g->record);
	if (was == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	memcpy(g->record->hash, q->new_hash, HASH_LEN);
	g->record->used_at = h->wall;
	struct op *op = store_login(h, OP_PUT_LOGIN, g);
	struct pending *p = op == NULL
	    ? NULL
	    : hub_pend(h, op->number, PENDING_LOGIN, g->record->id, ev);
	if (p == NULL) {
		memcpy(g->record->hash, was->hash, HASH_LEN);
		alloc_free(was);
		return;
	}
	p->was = was;
	reply_login(h, ev, g, op->number);
}

void
hub_logout(struct hub *h, const struct event *ev, const struct access *who)
{
	struct login *g = find_login(h, who->login_id);

	if (g == NULL) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("NO_LOGIN"), none,
		    SL("this credential stems from no login"));
		return;
	}
	struct op *op = end_login(h, g);
	if (op == NULL)
		return;
	op->audit = hub_audit(who->user->id, SL("user.logout"), op->login->id,
	    ev, ev->request.credential.remote);
	hub_pend(h, op->number, PENDING_ANSWER, op->login->id, ev);
	struct reply *r = hub_reply(h, ev, who, op->number);
	if (r != NULL)
		r->login = op->login;
}
