/*
 * Tokens: made, shown, rotated, revoked.  The hub sees hashes only.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/cidr.h"
#include "model/hub_tunnel.h"

/* What agents need may be given by anyone who may make tokens; the rest only
 * by those who have it. */
#define FOR_AGENTS (SCOPES_CLUSTER | SCOPE_AGENT_CONNECT)

static const struct slice none;

static void
reply_token(struct hub *h, const struct event *ev, const struct access *who,
    const struct token *t, uint64_t after)
{
	struct reply *r = hub_reply(h, ev, who, after);

	if (r == NULL)
		return;
	r->tokens = clone_in(&h->out->arena, CLONE_TOKEN, t->record);
	r->token_count = r->tokens == NULL ? 0 : 1;
	if (ev->request.op == OP_TOKEN_CREATE)
		r->status = 201;
}

/* was: what to go back to when it cannot be stored, or NULL. */
static struct op *
store_token(struct hub *h, const struct event *ev, const struct access *who,
    const struct token *t, const struct token_record *was)
{
	static const struct slice actions[OPS] = {
		[OP_TOKEN_CREATE] = SL_INIT("token.create"),
		[OP_TOKEN_REVOKE] = SL_INIT("token.revoke"),
		[OP_TOKEN_ROTATE] = SL_INIT("token.rotate"),
	};
	struct slice action = actions[ev->request.op];
	struct op *op = hub_store(h, OP_PUT_TOKEN);

	if (op == NULL)
		return NULL;
	op->token = clone_in(&h->out->arena, CLONE_TOKEN, t->record);
	if (op->token == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	op->audit = hub_audit(who->user->id, action, op->token->id, ev,
	    ev->request.credential.remote);
	struct pending *p =
	    hub_pend(h, op->number, PENDING_TOKEN, t->record->id, ev);
	if (p != NULL && was != NULL) {
		p->was = clone_new(CLONE_TOKEN, was);
		if (p->was == NULL)
			h->out->err = ERR_NOMEM;
	}
	return op;
}

static bool
allow_ok(struct slice list)
{
	struct slice part;

	while (slice_split(&list, ',', &part)) {
		if (cidr_check(slice_trim(part)) != 0)
			return false;
	}
	return true;
}

/* What is wrong with a new token: the field and a sentence, or nothing. */
static struct slice
fault(const struct token_record *t, struct slice *field)
{
	*field = SL("name");
	if (t->name.len == 0 || t->name.len > 255)
		return SL("a token needs a name of 1 to 255 bytes");
	*field = SL("scopes");
	if (t->scopes == 0)
		return SL("a token needs at least one scope");
	*field = SL("allow");
	if (!allow_ok(t->allow))
		return SL("allow is a list of addresses and ranges like "
			  "192.0.2.0/24");
	return none;
}

void
hub_create_token(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct token_record rec = *ev->request.token;
	struct slice field, text = fault(&rec, &field);

	if (text.len > 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    field, text);
		return;
	}
	if ((rec.scopes & ~FOR_AGENTS & ~who->scopes) != 0) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    SL("scopes"), SL("these scopes are more than your own"));
		return;
	}
	rec.id = hub_make_id(h, SL("tok_"));
	rec.workspace_id = who->user->workspace_id;
	rec.created_at = h->wall;
	/* One that only agents use acts for nobody. */
	rec.user_id =
	    (rec.scopes & ~SCOPES_CLUSTER) != 0 ? who->user->id : none;
	struct token *t = h->out->err == 0 ? hub_add_token(h, &rec) : NULL;
	if (t == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller holds too many tokens"));
		return;
	}
	struct op *op = store_token(h, ev, who, t, NULL);
	if (op != NULL)
		reply_token(h, ev, who, t, op->number);
}

static struct token *
pick_token(struct hub *h, const struct event *ev, const struct access *who)
{
	struct slice id = ev->request.id;
	struct token *t = map_get(&h->tokens_by_id, id), *named = NULL;
	size_t pos = 0, fit = 0;

	for (struct token *x;
	     t == NULL && (x = map_next(&h->tokens_by_id, &pos)) != NULL;) {
		if (slice_eq(x->record->name, id) &&
		    x->record->revoked_at == 0) {
			named = x;
			fit++;
		}
	}
	if (t == NULL && fit == 1)
		t = named;
	if (t != NULL && t->record->workspace_id == who->user->workspace_id)
		return t;
	if (fit > 1)
		hub_reply_error(h, ev, ERR_INVALID, 409, SL("AMBIGUOUS"),
		    SL("token"),
		    SL("several tokens have this name; give its id"));
	else
		hub_reply_error(h, ev, ERR_NOT_FOUND, 404,
		    SL("TOKEN_NOT_FOUND"), SL("token"),
		    SL("there is no such token"));
	return NULL;
}

void
hub_show_token(struct hub *h, const struct event *ev, const struct access *who)
{
	struct token *t = pick_token(h, ev, who);

	if (t != NULL)
		reply_token(h, ev, who, t, 0);
}

static int
by_creation(const void *a, const void *b)
{
	const struct token_record *x = a, *y = b;

	if (x->created_at != y->created_at)
		return x->created_at < y->created_at ? -1 : 1;
	return slice_cmp(x->id, y->id);
}

void
hub_list_tokens(struct hub *h, const struct event *ev, const struct access *who)
{
	struct reply *r = hub_reply(h, ev, who, 0);
	struct token_record *list = arena_array(
	    &h->out->arena, h->tokens_by_id.count + 1, sizeof(*list));
	size_t pos = 0, n = 0;

	if (r == NULL || list == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	for (struct token *t; (t = map_next(&h->tokens_by_id, &pos)) != NULL;) {
		if (t->record->workspace_id != who->user->workspace_id)
			continue;
		struct token_record *c =
		    clone_in(&h->out->arena, CLONE_TOKEN, t->record);
		if (c == NULL) {
			h->out->err = ERR_NOMEM;
			return;
		}
		list[n++] = *c;
	}
	qsort(list, n, sizeof(*list), by_creation);
	r->tokens = list;
	r->token_count = n;
	r->total = n;
}

void
hub_revoke_token(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct token *t = pick_token(h, ev, who);

	if (t == NULL)
		return;
	if (t->record->revoked_at == 0)
		t->record->revoked_at = h->wall;
	struct op *op = store_token(h, ev, who, t, NULL);
	if (op == NULL)
		return;
	reply_token(h, ev, who, t, op->number);
	for (struct list *l = t->watches.next; l != &t->watches; l = l->next)
		hub_close_watch(
		    h, LIST_OF(l, struct watch, by_token), 1008, SL("revoked"));
	for (struct list *l = t->links.next; l != &t->links; l = l->next)
		hub_close(h, LIST_OF(l, struct link, by_token)->peer, 1008,
		    SL("revoked"));
	hub_expel_viewers(h, VIEWER_TOKEN, t->record->id);
	hub_cut_login(h, map_get(&h->users, t->record->user_id), t->record->id);
}

/* Whoever rotates a token learns the new text: as with one that is made, it
 * must not be good for more than they are. */
static bool
may_hold(struct hub *h, const struct access *who, const struct token_record *t)
{
	const struct user *u =
	    t->user_id.len > 0 ? map_get(&h->users, t->user_id) : NULL;

	return (t->scopes & ~FOR_AGENTS & ~who->scopes) == 0 &&
	    (u == NULL || hub_is_within(who, u->record->selector));
}

void
hub_rotate_token(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct token *t = pick_token(h, ev, who);

	if (t == NULL)
		return;
	if (t->record->revoked_at != 0) {
		hub_reply_error(h, ev, ERR_REVOKED, 409, SL("TOKEN_REVOKED"),
		    none, SL("a revoked token cannot be rotated"));
		return;
	}
	if (!may_hold(h, who, t->record)) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    SL("token"),
		    SL("this token may do more than you; revoke it instead"));
		return;
	}
	struct token_record rec = *t->record;
	memcpy(rec.old_hash, rec.hash, HASH_LEN);
	memcpy(rec.hash, ev->request.token->hash, HASH_LEN);
	rec.shown = ev->request.token->shown;
	rec.old_until = h->wall + ev->request.overlap;
	struct token_record *was = clone_new(CLONE_TOKEN, t->record);
	if (was == NULL || hub_rehash_token(h, t, &rec) != 0) {
		h->out->err = ERR_NOMEM;
		alloc_free(was);
		return;
	}
	struct op *op = store_token(h, ev, who, t, was);
	alloc_free(was);
	if (op != NULL)
		reply_token(h, ev, who, t, op->number);
}
