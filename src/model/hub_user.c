/*
 * Users: made, shown, changed, removed; and what they lose by it.  What a
 * user may do is looked up at every request, so a new role counts at once;
 * connections that live on an old answer are closed.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_tunnel.h"

static const struct slice none;

/* The table -------------------------------------------------------------- */

struct user *
hub_add_user(struct hub *h, const struct user_record *r)
{
	struct user *u = alloc_new(sizeof(*u));

	if (u == NULL)
		return NULL;
	list_init(&u->watches);
	list_init(&u->logins);
	u->record = clone_new(CLONE_USER, r);
	if (u->record == NULL || map_put(&h->users, u->record->id, u) != 0) {
		alloc_free(u->record);
		alloc_free(u);
		return NULL;
	}
	return u;
}

void
hub_free_user(struct hub *h, struct user *u)
{
	while (!list_empty(&u->logins))
		hub_free_login(
		    h, LIST_OF(u->logins.next, struct login, by_user));
	while (!list_empty(&u->watches)) {
		struct watch *w =
		    LIST_OF(list_pop(&u->watches), struct watch, by_user);
		w->owner = NULL;
	}
	map_del(&h->users, u->record->id);
	alloc_free(u->record);
	alloc_free(u);
}

struct user *
hub_find_user(struct hub *h, struct slice text)
{
	struct user *u = map_get(&h->users, text);
	size_t pos = 0;

	if (u != NULL && u->record->removed_at == 0)
		return u;
	while ((u = map_next(&h->users, &pos)) != NULL) {
		if (u->record->removed_at == 0 &&
		    slice_eq(u->record->name, text))
			return u;
	}
	return NULL;
}

bool
hub_is_within(const struct access *who, struct slice selector)
{
	return who->user->selector.len == 0 ||
	    slice_eq(who->user->selector, selector);
}

/* The record of a user takes other values; what has copies is told. */
static int
replace(struct hub *h, struct user *u, const struct user_record *r)
{
	struct user_record *now = clone_new(CLONE_USER, r);

	if (now == NULL)
		return ERR_NOMEM;
	/* The map borrows the id: it must never be without one. */
	map_del(&h->users, u->record->id);
	alloc_free(u->record);
	u->record = now;
	int err = map_put(&h->users, now->id, u);
	(void)err; /* the slot it left is still there */
	return 0;
}

/* Losing ----------------------------------------------------------------- */

static void
close_links(struct hub *h, const struct user *u)
{
	size_t pos = 0;

	for (struct token *t; (t = map_next(&h->tokens_by_id, &pos)) != NULL;) {
		if (!slice_eq(t->record->user_id, u->record->id))
			continue;
		struct list *l = t->links.next;
		for (; l != &t->links; l = l->next)
			hub_close(h, LIST_OF(l, struct link, by_token)->peer,
			    1008, SL("revoked"));
	}
}

void
hub_sever_user(struct hub *h, struct user *u)
{
	for (struct list *l = u->watches.next; l != &u->watches; l = l->next)
		hub_close_watch(
		    h, LIST_OF(l, struct watch, by_user), 1008, SL("revoked"));
	close_links(h, u);
	hub_expel_viewers(h, VIEWER_USER, u->record->id);
	hub_cut_user(h, u);
}

/* Requests ----------------------------------------------------------------- */

static void
reply_user(struct hub *h, const struct event *ev, const struct access *who,
    const struct user *u, uint64_t after)
{
	struct reply *r = hub_reply(h, ev, who, after);

	if (r == NULL)
		return;
	r->users = clone_in(&h->out->arena, CLONE_USER, u->record);
	r->user_count = r->users == NULL ? 0 : 1;
	if (r->users == NULL)
		h->out->err = ERR_NOMEM;
	if (ev->request.op == OP_USER_ADD)
		r->status = 201;
}

static struct op *
store_user(struct hub *h, const struct event *ev, const struct access *who,
    const struct user *u, const struct user_record *was)
{
	static const struct slice actions[OPS] = {
		[OP_USER_ADD] = SL_INIT("user.create"),
		[OP_USER_CHANGE] = SL_INIT("user.change"),
		[OP_USER_REMOVE] = SL_INIT("user.remove"),
		[OP_SETUP] = SL_INIT("user.setup"),
		[OP_OWN_PASSWORD] = SL_INIT("user.password"),
	};
	struct op *op = hub_store(h, OP_PUT_USER);

	if (op == NULL)
		return NULL;
	op->user = clone_in(&h->out->arena, CLONE_USER, u->record);
	if (op->user == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	op->audit = hub_audit(who != NULL ? who->user->id : u->record->id,
	    actions[ev->request.op], op->user->id, ev,
	    ev->request.credential.remote);
	struct pending *p =
	    hub_pend(h, op->number, PENDING_USER, u->record->id, ev);
	if (p != NULL && was != NULL) {
		p->was = clone_new(CLONE_USER, was);
		if (p->was == NULL)
			h->out->err = ERR_NOMEM;
	}
	return op;
}

void
hub_undo_user(struct hub *h, struct pending *p)
{
	struct user *u = map_get(&h->users, p->id);

	if (u == NULL)
		return;
	if (p->op == OP_SETUP)
		h->config.may_set_up = true;
	if (p->was == NULL)
		hub_free_user(h, u);
	else if (replace(h, u, p->was) != 0)
		h->out->err = ERR_NOMEM;
}

static void
refuse(struct hub *h, const struct event *ev, uint16_t status,
    struct slice code, struct slice field, struct slice text)
{
	int err = status == 404 ? ERR_NOT_FOUND
	    : status == 409     ? ERR_EXISTS
				: ERR_INVALID;

	hub_reply_error(h, ev, err, status, code, field, text);
}

/* The user of a request, or an error answer and NULL. */
static struct user *
pick(struct hub *h, const struct event *ev, const struct access *who)
{
	struct user *u = hub_find_user(h, ev->request.id);

	if (u != NULL && u->record->workspace_id == who->user->workspace_id)
		return u;
	refuse(h, ev, 404, SL("USER_NOT_FOUND"), SL("user"),
	    SL("there is no such user"));
	return NULL;
}

/* Whoever is limited by a selector makes, changes and speaks for those alone
 * who are limited just so: or it would limit nothing. */
static bool
within(struct hub *h, const struct event *ev, const struct access *who,
    struct slice selector)
{
	if (hub_is_within(who, selector))
		return true;
	hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
	    SL("selector"),
	    SL("your selector limits you to users who have the same"));
	return false;
}

static bool
user_name_ok(struct slice name)
{
	if (!hub_name_ok(name) || slice_starts(name, SL("usr_")) ||
	    slice_starts(name, SL("ext:")))
		return false;
	return slice_find(name, ' ') == name.len &&
	    slice_find(name, '/') == name.len;
}

static bool
fields_ok(struct hub *h, const struct event *ev)
{
	const struct user_record *r = ev->request.user;
	struct selector s;

	if ((ev->request.changes & USER_SELECTOR) != 0 &&
	    selector_parse(r->selector, &s) != 0) {
		refuse(h, ev, 400, SL("INVALID_REQUEST"), SL("selector"),
		    SL("a selector is key=value, key!=value, key or !key, "
		       "joined by commas"));
		return false;
	}
	return true;
}

void
hub_user_add(struct hub *h, const struct event *ev, const struct access *who)
{
	struct user_record r = *ev->request.user;

	if (!user_name_ok(r.name)) {
		refuse(h, ev, 400, SL("INVALID_REQUEST"), SL("name"),
		    SL("a name has 1 to 255 bytes without control characters, "
		       "spaces and slashes, and does not begin with usr_ or "
		       "ext:"));
		return;
	}
	if (!fields_ok(h, ev) || !within(h, ev, who, r.selector))
		return;
	if (hub_find_user(h, r.name) != NULL) {
		refuse(h, ev, 409, SL("USER_EXISTS"), SL("name"),
		    SL("there is a user of this name"));
		return;
	}
	if (ev->request.ask_first) {
		hub_reply(h, ev, who, 0);
		return;
	}
	r.id = hub_make_id(h, SL("usr_"));
	r.workspace_id = who->user->workspace_id;
	r.created_at = h->wall;
	struct user *u = h->out->err == 0 ? hub_add_user(h, &r) : NULL;
	if (u == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller holds too many users"));
		return;
	}
	struct op *op = store_user(h, ev, who, u, NULL);
	if (op != NULL)
		reply_user(h, ev, who, u, op->number);
}

void
hub_user_show(struct hub *h, const struct event *ev, const struct access *who)
{
	struct user *u = pick(h, ev, who);

	if (u != NULL)
		reply_user(h, ev, who, u, 0);
}

static int
by_name(const void *a, const void *b)
{
	const struct user_record *x = a, *y = b;

	return slice_cmp(x->name, y->name);
}

void
hub_user_list(struct hub *h, const struct event *ev, const struct access *who)
{
	struct reply *r = hub_reply(h, ev, who, 0);
	struct user_record *list =
	    arena_array(&h->out->arena, h->users.count + 1, sizeof(*list));
	size_t pos = 0, n = 0;

	if (r == NULL || list == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	for (struct user *u; (u = map_next(&h->users, &pos)) != NULL;) {
		if (u->record->removed_at != 0 ||
		    u->record->workspace_id != who->user->workspace_id)
			continue;
		struct user_record *c =
		    clone_in(&h->out->arena, CLONE_USER, u->record);
		if (c == NULL) {
			h->out->err = ERR_NOMEM;
			return;
		}
		list[n++] = *c;
	}
	qsort(list, n, sizeof(*list), by_name);
	r->users = list;
	r->user_count = n;
	r->total = n;
}

/* Without one nobody could give anybody anything. */
static bool
is_last_admin(struct hub *h, const struct user *who)
{
	size_t pos = 0;

	if (who->record->role != ROLE_ADMIN)
		return false;
	for (struct user *u; (u = map_next(&h->users, &pos)) != NULL;) {
		if (u != who && u->record->removed_at == 0 &&
		    u->record->role == ROLE_ADMIN &&
		    u->record->selector.len == 0)
			return false;
	}
	return true;
}

static void
refuse_last_admin(struct hub *h, const struct event *ev)
{
	hub_reply_error(h, ev, ERR_WRONG_STATE, 409, SL("LAST_ADMIN"), none,
	    SL("this is the last administrator"));
}

/* Apply, store, answer; the record before is kept until it is durable. */
static void
change(struct hub *h, const struct event *ev, const struct access *who,
    struct user *u, const struct user_record *r)
{
	struct user_record *was = clone_new(CLONE_USER, u->record);
	bool self = who != NULL && who->user == u->record;
	struct slice own = who != NULL ? who->login_id : none;
	struct access now;

	if (was == NULL || replace(h, u, r) != 0) {
		alloc_free(was);
		h->out->err = ERR_NOMEM;
		return;
	}
	if (self) {
		now = *who;
		now.user = u->record;
		who = &now;
	}
	struct op *op = store_user(h, ev, who, u, was);
	alloc_free(was);
	if (op == NULL)
		return;
	/* The answer first: it may be for one of those that are closed. */
	reply_user(h, ev, who, u, op->number);
	if (r->valid_from == h->wall || r->removed_at != 0)
		hub_end_logins(
		    h, u, ev->request.op == OP_OWN_PASSWORD ? own : none);
	hub_sever_user(h, u);
}

void
hub_user_change(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct user *u = pick(h, ev, who);

	if (u == NULL || !fields_ok(h, ev))
		return;
	struct user_record r = *u->record;
	if ((q->changes & USER_ROLE) != 0)
		r.role = q->user->role;
	if ((q->changes & USER_SELECTOR) != 0)
		r.selector = q->user->selector;
	if ((q->changes & USER_PASSWORD) != 0) {
		r.password = q->user->password;
		r.valid_from = h->wall;
	}
	if (!within(h, ev, who, u->record->selector) ||
	    !within(h, ev, who, r.selector))
		return;
	if ((r.role != ROLE_ADMIN || r.selector.len > 0) &&
	    is_last_admin(h, u)) {
		refuse_last_admin(h, ev);
		return;
	}
	if (q->ask_first)
		hub_reply(h, ev, who, 0);
	else
		change(h, ev, who, u, &r);
}

static void
refuse_password(struct hub *h, const struct event *ev, const struct user *u)
{
	struct op *op = hub_store(h, OP_AUDIT);

	if (op != NULL) {
		op->lazy = true;
		op->audit = hub_audit(u->record->id, SL("user.password"),
		    u->record->id, ev, ev->request.credential.remote);
		op->audit.result = SL("denied");
	}
	hub_reply_error(h, ev, ERR_DENIED, 403, SL("WRONG_PASSWORD"),
	    SL("old_password"), SL("this is not your password"));
}

/* Whoever knows the old one, by whatever credential; it counts as a try to
 * log in.  The login that this came by goes on, all others end. */
void
hub_own_password(
    struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct user *u = map_get(&h->users, who->user->id);

	if (u == NULL) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    none, SL("you have no password here, but at your issuer"));
		return;
	}
	if (q->ask_first) {
		if (hub_may_try(h, ev, u->record->name))
			reply_user(h, ev, who, u, 0);
		return;
	}
	/* It may have changed while the password was judged. */
	if (!q->passed || q->login->created_at < u->record->valid_from) {
		refuse_password(h, ev, u);
		return;
	}
	struct user_record r = *u->record;
	r.password = q->user->password;
	r.valid_from = h->wall;
	change(h, ev, who, u, &r);
}

void
hub_user_remove(struct hub *h, const struct event *ev, const struct access *who)
{
	struct user *u = pick(h, ev, who);

	if (u == NULL || !within(h, ev, who, u->record->selector))
		return;
	if (is_last_admin(h, u)) {
		refuse_last_admin(h, ev);
		return;
	}
	struct user_record r = *u->record;
	r.removed_at = h->wall;
	r.password = none;
	change(h, ev, who, u, &r);
}

/* Whether a JWT may be signed for them; whoever asked signs it. */
void
hub_user_token(struct hub *h, const struct event *ev, const struct access *who)
{
	struct user *u = pick(h, ev, who);
	struct op *op;

	if (u == NULL || !within(h, ev, who, u->record->selector))
		return;
	op = hub_store(h, OP_AUDIT);
	if (op == NULL)
		return;
	op->audit = hub_audit(who->user->id, SL("user.token"), u->record->id,
	    ev, ev->request.credential.remote);
	if (hub_pend(h, op->number, PENDING_ANSWER, u->record->id, ev) != NULL)
		reply_user(h, ev, who, u, op->number);
}

/* The first administrator's password, by the link that the first start
 * printed: once, and only while there is none. */
void
hub_set_up(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct user *admin = NULL;
	size_t pos = 0;

	(void)who;
	for (struct user *u; (u = map_next(&h->users, &pos)) != NULL;) {
		if (u->record->role == ROLE_ADMIN &&
		    u->record->removed_at == 0 &&
		    (admin == NULL ||
			u->record->created_at < admin->record->created_at))
			admin = u;
	}
	if (!h->config.may_set_up || h->wall >= h->config.setup_until ||
	    memcmp(q->credential.hash, h->config.setup_hash, HASH_LEN) != 0 ||
	    admin == NULL || admin->record->password.len > 0) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("SETUP_OVER"), none,
		    SL("this link is not known, was used or is too old"));
		return;
	}
	if (q->ask_first) {
		hub_reply(h, ev, NULL, 0);
		return;
	}
	struct user_record r = *admin->record;
	r.password = q->user->password;
	h->config.may_set_up = false;
	change(h, ev, NULL, admin, &r);
}
