/*
 * Who comes in.  A valid credential always does, whatever others at the same
 * address have tried; a bad one is counted, and after too many in a minute
 * answered 429 instead of 401.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/cidr.h"
#include "model/hub_signed.h"
#include "model/hub_state.h"

static struct slice
peer_key(const struct peer_id *p)
{
	return (struct slice){ (const uint8_t *)p, sizeof(*p) };
}

struct link *
hub_find_link(struct hub *h, struct peer_id peer)
{
	return map_get(&h->links, peer_key(&peer));
}

/* Where it comes from.  "192.0.2.1:4711" has the address in it, which is not
 * kept twice: there are many links. */
static int
keep_whence(struct link *l, struct slice remote, struct slice address)
{
	bool bracket = remote.len > 0 && remote.ptr[0] == '[';
	int err = hub_keep(&l->remote, remote);

	if (err != 0)
		return err;
	struct slice part =
	    slice_first(slice_from_at(l->remote, bracket), address.len);
	if (!slice_eq(part, address))
		return hub_keep(&l->address, address);
	l->address = part;
	return 0;
}

static void
drop_whence(struct link *l)
{
	uintptr_t at = (uintptr_t)l->address.ptr;
	uintptr_t from = (uintptr_t)l->remote.ptr;

	if (at < from || at > from + l->remote.len)
		hub_unkeep(&l->address);
	hub_unkeep(&l->remote);
}

void
hub_drop_link(struct hub *h, struct link *l)
{
	map_del(&h->links, peer_key(&l->peer));
	if (l->agent != NULL && l->agent->link == l)
		l->agent->link = NULL;
	if (l->token != NULL) {
		list_remove(&l->by_token);
		if (!l->http)
			l->token->link_count--;
	}
	if (l->secret != NULL)
		list_remove(&l->by_secret);
	drop_whence(l);
	alloc_free(l);
}

int
hub_put_link(struct hub *h, struct link *l, const struct credential *c)
{
	int err = keep_whence(l, c->remote, c->address);

	if (err == 0)
		err = map_put(&h->links, peer_key(&l->peer), l);
	if (err != 0)
		drop_whence(l);
	return err;
}

/* Tokens -------------------------------------------------------------- */

static struct slice
hash_key(const uint8_t *hash)
{
	return (struct slice){ hash, HASH_LEN };
}

static bool
is_blank(const uint8_t *hash)
{
	static const uint8_t zero[HASH_LEN];

	return memcmp(hash, zero, HASH_LEN) == 0;
}

static void
unhash_token(struct hub *h, struct token *t)
{
	map_del(&h->tokens, hash_key(t->record->hash));
	if (!is_blank(t->record->old_hash))
		map_del(&h->tokens, hash_key(t->record->old_hash));
	map_del(&h->tokens_by_id, t->record->id);
}

/* All of its entries or none: another token's are left alone. */
static int
hash_token(struct hub *h, struct token *t)
{
	const struct token_record *r = t->record;
	int err = map_put(&h->tokens_by_id, r->id, t);

	if (err != 0)
		return err;
	err = map_put(&h->tokens, hash_key(r->hash), t);
	if (err == 0 && !is_blank(r->old_hash)) {
		err = map_put(&h->tokens, hash_key(r->old_hash), t);
		if (err != 0)
			map_del(&h->tokens, hash_key(r->hash));
	}
	if (err != 0)
		map_del(&h->tokens_by_id, r->id);
	return err;
}

struct token *
hub_add_token(struct hub *h, const struct token_record *r)
{
	struct token *t = alloc_new(sizeof(*t));

	if (t == NULL)
		return NULL;
	list_init(&t->links);
	list_init(&t->watches);
	t->record = clone_new(CLONE_TOKEN, r);
	if (t->record == NULL || hash_token(h, t) != 0) {
		alloc_free(t->record);
		alloc_free(t);
		return NULL;
	}
	return t;
}

int
hub_rehash_token(struct hub *h, struct token *t, const struct token_record *r)
{
	struct token_record *was = t->record;
	struct token_record *now = clone_new(CLONE_TOKEN, r);

	if (now == NULL)
		return ERR_NOMEM;
	unhash_token(h, t);
	t->record = now;
	int err = hash_token(h, t);
	if (err == 0) {
		alloc_free(was);
		return 0;
	}
	alloc_free(now);
	t->record = was;
	/* The slots it just left are still there. */
	return hash_token(h, t) == 0 ? err : ERR_NOMEM;
}

void
hub_remove_token(struct hub *h, struct token *t)
{
	while (!list_empty(&t->links)) {
		struct link *l =
		    LIST_OF(list_pop(&t->links), struct link, by_token);
		l->token = NULL;
	}
	while (!list_empty(&t->watches)) {
		struct watch *w =
		    LIST_OF(list_pop(&t->watches), struct watch, by_token);
		w->token = NULL;
	}
	unhash_token(h, t);
	alloc_free(t->record);
	alloc_free(t);
}

/* Failed attempts ------------------------------------------------------- */

/* One more failure from this address: seconds until it may try again, or 0
 * while it may. */
uint32_t
hub_count_failure(struct hub *h, const struct credential *c)
{
	struct rate_state rate;

	h->stats.denied++;
	if (!rate_take(h, &h->attempts, c->address, h->config.attempts, &rate))
		return rate.reset;
	struct op *op = hub_store(h, OP_AUDIT);
	if (op != NULL) {
		op->lazy = true;
		op->audit = (struct audit_note){ .actor = SL("unknown"),
			.action = SL("auth.failed"),
			.result = SL("denied") };
		if (arena_copy(&h->out->arena, c->remote, &op->audit.remote) !=
		    0)
			h->out->err = ERR_NOMEM;
	}
	return 0;
}

static struct denied
deny(uint16_t status, int err, struct slice code, struct slice text)
{
	return (struct denied){
		.status = status, .err = err, .code = code, .text = text
	};
}

static int
deny_unknown(struct hub *h, const struct credential *c, struct denied *no)
{
	/* Whoever shows nothing has guessed nothing. */
	bool tried = c->kind != CREDENTIAL_NONE;
	uint32_t wait = tried ? hub_count_failure(h, c) : 0;

	if (!tried)
		h->stats.denied++;
	if (wait > 0) {
		*no = deny(429, ERR_LIMITED, SL("TOO_MANY_ATTEMPTS"),
		    SL("too many failed attempts from this address"));
		no->retry_after = wait;
	} else if (!tried) {
		*no = deny(401, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("a token is required"));
	} else {
		*no = deny(401, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("this token is not known here"));
	}
	return no->err;
}

/* Whether a known token may be used now and from there. */
static int
check_token(const struct hub *h, const struct token *t,
    const struct credential *c, struct denied *no)
{
	const struct token_record *r = t->record;
	struct address from;
	bool old = memcmp(r->hash, c->hash, HASH_LEN) != 0;

	if (r->revoked_at != 0)
		*no = deny(403, ERR_REVOKED, SL("TOKEN_REVOKED"),
		    SL("this token was revoked"));
	else if (old && h->wall >= r->old_until)
		*no = deny(403, ERR_EXPIRED, SL("TOKEN_ROTATED"),
		    SL("this token was replaced by a newer one"));
	else if (r->expires_at != 0 && h->wall >= r->expires_at)
		*no = deny(403, ERR_EXPIRED, SL("TOKEN_EXPIRED"),
		    SL("this token has expired"));
	else if (r->allow.len > 0 &&
	    (address_parse(c->address, &from) != 0 ||
		!cidr_list_has(r->allow, &from)))
		*no = deny(403, ERR_DENIED, SL("ADDRESS_NOT_ALLOWED"),
		    SL("this token may not be used from this address"));
	else
		return 0;
	return no->err;
}

static int
find_token(struct hub *h, const struct credential *c, struct token **out,
    struct denied *no)
{
	struct token *t = c->kind != CREDENTIAL_TOKEN
	    ? NULL
	    : map_get(&h->tokens, hash_key(c->hash));

	if (t == NULL)
		return deny_unknown(h, c, no);
	int err = check_token(h, t, c, no);
	if (err != 0) {
		h->stats.denied++;
		return err;
	}
	/* Kept to the minute: a store write per call would be absurd. */
	if (h->wall - t->record->used_at >= 60000) {
		t->record->used_at = h->wall;
		struct op *op = hub_store(h, OP_TOKEN_USED);
		if (op != NULL) {
			op->lazy = true;
			op->token =
			    clone_in(&h->out->arena, CLONE_TOKEN, t->record);
			if (op->token == NULL)
				h->out->err = ERR_NOMEM;
		}
	}
	*out = t;
	return 0;
}

scope_set
hub_role_scopes(enum role role)
{
	const scope_set viewer = SCOPE_AGENT_READ | SCOPE_COMMAND_READ |
	    SCOPE_EVENT_READ | SCOPE_METRICS_READ | SCOPE_ROUTE_VISIT;
	const scope_set runner = viewer | SCOPE_COMMAND_RUN |
	    SCOPE_AGENT_WRITE | SCOPE_STOP_WRITE | SCOPE_AGENT_CONNECT |
	    SCOPE_ROUTE_WRITE | SCOPE_TUNNEL_USE;
	const scope_set all[] = { [ROLE_NONE] = 0,
		[ROLE_VIEWER] = viewer,
		[ROLE_OPERATOR] = runner,
		[ROLE_ADMIN] = SCOPES_ALL };

	return all[role];
}

static int
check_scopes(
    struct hub *h, scope_set need, const struct access *who, struct denied *no)
{
	unsigned pos = 0;
	scope_set lacks = need & ~who->scopes;

	if (lacks == 0)
		return 0;
	const struct slice parts[] = { SL("this token lacks the scope "),
		scope_next(lacks, &pos) };
	*no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"), hub_text(h, parts, 2));
	return no->err;
}

int
hub_resolve(struct hub *h, const struct event *ev, const struct credential *c,
    scope_set need, struct access *who, struct denied *no)
{
	struct token *t = NULL;

	if (c->kind == CREDENTIAL_WATCH) {
		const struct watch *w = hub_find_watch(h, ev->peer);
		if (w != NULL && hub_watch_access(w, who))
			return check_scopes(h, need, who, no);
		*no = deny(401, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("this connection was not let in"));
		return no->err;
	}
	if (c->kind == CREDENTIAL_JWT && c->claims.err != ERR_DENIED) {
		int err = hub_resolve_jwt(h, c, who, no);
		h->stats.denied += err != 0;
		return err != 0 ? err : check_scopes(h, need, who, no);
	}
	if (c->kind == CREDENTIAL_COOKIE && hub_resolve_cookie(h, c, who) == 0)
		return check_scopes(h, need, who, no);
	int err = find_token(h, c, &t, no);
	if (err != 0 || t == NULL)
		return err;
	*who = (struct access){ .token = t,
		.scopes = t->record->scopes,
		.expires_at = t->record->expires_at };
	if (t->record->user_id.len > 0) {
		struct user *u = map_get(&h->users, t->record->user_id);
		if (u == NULL || u->record->removed_at != 0) {
			*no = deny(403, ERR_REVOKED, SL("USER_REMOVED"),
			    SL("the user of this token was removed"));
			return no->err;
		}
		who->user = u->record;
		who->scopes &= hub_role_scopes(u->record->role);
	}
	return check_scopes(h, need, who, no);
}

/* Knocking ----------------------------------------------------------------- */

static int
admit_key(struct hub *h, const struct credential *c, struct link *l,
    struct denied *no)
{
	struct agent *a = map_get(&h->agents, c->agent_id);

	if (a == NULL || !a->record->has_key ||
	    memcmp(a->record->public_key, c->public_key, KEY_LEN) != 0) {
		uint32_t wait = hub_count_failure(h, c);
		*no = wait > 0
		    ? deny(429, ERR_LIMITED, SL("TOO_MANY_ATTEMPTS"),
			  SL("too many failed attempts from this address"))
		    : deny(403, ERR_DENIED, SL("UNKNOWN_KEY"),
			  SL("this agent's key is not known here; "
			     "it must join again"));
		no->retry_after = wait;
		return no->err;
	}
	l->keyed = a;
	l->scopes = SCOPES_CLUSTER;
	return 0;
}

static uint32_t
most_links(const struct token *t)
{
	const uint32_t otherwise = 10000;
	uint32_t max = t->record->max_connections;

	return max != 0 ? max : otherwise;
}

static int
admit_token(
    struct hub *h, const struct event *ev, struct link *l, struct denied *no)
{
	struct access who;
	int err = hub_resolve(h, ev, &ev->hello.credential, 0, &who, no);

	if (err != 0)
		return err;
	/* Either scope lets it in; each message then needs its own. */
	if ((who.scopes & SCOPES_CLUSTER) == 0) {
		*no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"),
		    SL("this token lacks the scope cluster:register"));
		return no->err;
	}
	/* A user's JWT or cookie is no host's: what it registers would be
	 * nobody's. */
	if (who.token == NULL) {
		*no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"),
		    SL("agents come in here by a token or a key of their "
		       "own, not by a user's login"));
		return no->err;
	}
	if (!l->http && who.token->link_count >= most_links(who.token)) {
		*no = deny(429, ERR_LIMITED, SL("CONNECTION_LIMIT"),
		    SL("this token has its full number of connections"));
		no->retry_after = 60;
		return no->err;
	}
	l->token = who.token;
	l->scopes = who.scopes;
	return 0;
}

static int
admit(struct hub *h, const struct event *ev, struct link *l, struct denied *no)
{
	const struct credential *c = &ev->hello.credential;
	int err = c->kind == CREDENTIAL_KEY ? admit_key(h, c, l, no)
					    : admit_token(h, ev, l, no);

	if (err != 0)
		return err;
	if (keep_whence(l, c->remote, c->address) != 0 ||
	    map_put(&h->links, peer_key(&l->peer), l) != 0) {
		*no = deny(503, ERR_FULL, SL("OVERLOADED"),
		    SL("the controller takes no more connections now"));
		no->retry_after = 30;
		return no->err;
	}
	if (l->token != NULL) {
		list_push(&l->token->links, &l->by_token);
		if (!l->http)
			l->token->link_count++;
	}
	return 0;
}

void
hub_on_hello(struct hub *h, const struct event *ev)
{
	struct denied no = { 0 };
	struct link *l = hub_find_link(h, ev->peer);

	if (ev->hello.entrance == ENTRANCE_CONSOLE ||
	    ev->hello.entrance == ENTRANCE_MONITOR) {
		hub_on_knock(h, ev);
		return;
	}
	if (ev->hello.entrance == ENTRANCE_SIGNED) {
		hub_on_signed_hello(h, ev);
		return;
	}
	/* Every call over HTTP proves itself, on whatever connection. */
	if (l != NULL && l->http)
		hub_drop_link(h, l);
	l = alloc_new(sizeof(*l));
	if (l == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	list_init(&l->by_token);
	l->peer = ev->peer;
	l->http = ev->hello.entrance == ENTRANCE_CLUSTER_HTTP;
	l->native = ev->hello.native;
	if (admit(h, ev, l, &no) == 0) {
		hub_send(h, ev->peer, EVENT_WELCOME, ev->request_id, 0);
		return;
	}
	drop_whence(l);
	alloc_free(l);
	struct event *re =
	    hub_send(h, ev->peer, EVENT_DENIED, ev->request_id, 0);
	if (re != NULL)
		re->denied = no;
}

scope_set
hub_agent_scopes(void)
{
	return SCOPE_AGENT_CONNECT | SCOPE_CLUSTER_REGISTER;
}

/* Consoles say only now that they are agents. */
struct link *
hub_guest_link(struct hub *h, struct watch *w, const struct event *ev)
{
	struct link *l = alloc_new(sizeof(*l));

	if (l == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	list_init(&l->by_token);
	l->peer = w->peer;
	l->console = true;
	l->watch = w;
	l->token = w->token;
	l->scopes = SCOPES_CLUSTER;
	if ((w->scopes & hub_agent_scopes()) == 0 || w->kind != WATCH_GUEST) {
		alloc_free(l);
		hub_send_error(h, ev, ERR_DENIED, SL("NOT_PERMITTED"),
		    (struct slice){ 0 },
		    SL("this token lacks the scope agent:connect"));
		return NULL;
	}
	if (l->token != NULL && l->token->link_count >= most_links(l->token)) {
		alloc_free(l);
		hub_send_error(h, ev, ERR_LIMITED, SL("CONNECTION_LIMIT"),
		    (struct slice){ 0 },
		    SL("this token has its full number of connections"));
		return NULL;
	}
	if (keep_whence(l, w->remote, w->address) != 0 ||
	    map_put(&h->links, peer_key(&l->peer), l) != 0) {
		drop_whence(l);
		alloc_free(l);
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	hub_watch_is_agent(w);
	if (l->token != NULL) {
		list_push(&l->token->links, &l->by_token);
		l->token->link_count++;
	}
	return l;
}
