/*
 * Agents that sign what they say.  The hub keeps their secrets as the store
 * does, sealed: who holds the key opens them where messages are checked.  It
 * believes who registers over such a link, for nothing comes this far that
 * was not signed; until then the link is nobody's, and stands in nobody's way.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_signed.h"
#include "model/verbs.h"

enum { ID_MAX = 128, KEY_SIZE = ID_MAX + 1 };

static const struct slice none;

/* The table ---------------------------------------------------------------- */

/* One byte tells agents from prefixes. */
static struct slice
key_of(struct slice id, bool prefix, uint8_t out[KEY_SIZE])
{
	size_t n = id.len > ID_MAX ? ID_MAX : id.len;

	out[0] = prefix ? '*' : '=';
	if (n > 0)
		memcpy(out + 1, id.ptr, n);
	return (struct slice){ out, n + 1 };
}

struct secret *
hub_add_secret(struct hub *h, const struct secret_record *r)
{
	uint8_t text[KEY_SIZE];
	struct slice key = key_of(r->agent_id, r->prefix, text);
	struct secret *s;

	if (map_get(&h->secrets, key) != NULL ||
	    (s = alloc_new(sizeof(*s))) == NULL)
		return NULL;
	list_init(&s->links);
	s->record = clone_new(CLONE_SECRET, r);
	if (s->record == NULL || hub_keep(&s->key, key) != 0 ||
	    map_put(&h->secrets, s->key, s) != 0) {
		hub_unkeep(&s->key);
		alloc_free(s->record);
		alloc_free(s);
		return NULL;
	}
	return s;
}

void
hub_free_secret(struct hub *h, struct secret *s)
{
	while (!list_empty(&s->links))
		LIST_OF(list_pop(&s->links), struct link, by_secret)->secret =
		    NULL;
	map_del(&h->secrets, s->key);
	hub_unkeep(&s->key);
	alloc_free(s->record);
	alloc_free(s);
}

void
hub_free_secrets(struct hub *h)
{
	size_t pos;

	for (struct secret *s;
	     pos = 0, (s = map_next(&h->secrets, &pos)) != NULL;)
		hub_free_secret(h, s);
}

/* Its own, or that of the longest prefix. */
static struct secret *
find_secret(struct hub *h, struct slice agent_id)
{
	uint8_t text[KEY_SIZE];
	struct secret *s;

	if (!hub_id_ok(agent_id))
		return NULL;
	s = map_get(&h->secrets, key_of(agent_id, false, text));
	for (size_t n = agent_id.len; s == NULL && n > 0; n--)
		s = map_get(
		    &h->secrets, key_of(slice_first(agent_id, n), true, text));
	return s;
}

static struct secret *
secret_by_id(struct hub *h, struct slice id)
{
	size_t pos = 0;

	for (struct secret *s; (s = map_next(&h->secrets, &pos)) != NULL;) {
		if (slice_eq(s->record->id, id))
			return s;
	}
	return NULL;
}

/* Coming in ---------------------------------------------------------------- */

static void
send_secret(struct hub *h, struct link *l, struct slice request_id)
{
	struct event *re = hub_send(h, l->peer, EVENT_WELCOME, request_id, 0);

	if (re == NULL)
		return;
	re->welcome.secret =
	    clone_in(&h->out->arena, CLONE_SECRET, l->secret->record);
	if (re->welcome.secret == NULL)
		h->out->err = ERR_NOMEM;
}

static void
deny(struct hub *h, const struct event *ev)
{
	struct event *re =
	    hub_send(h, ev->peer, EVENT_DENIED, ev->request_id, 0);

	hub_count_failure(h, &ev->hello.credential);
	if (re != NULL)
		re->denied = (struct denied){ .status = 403,
			.err = ERR_NOT_FOUND,
			.code = SL("UNKNOWN_AGENT"),
			.text = SL("no secret is known for this agent") };
}

void
hub_on_signed_hello(struct hub *h, const struct event *ev)
{
	const struct credential *c = &ev->hello.credential;
	struct secret *s = find_secret(h, c->agent_id);

	if (hub_find_link(h, ev->peer) != NULL)
		return;
	if (s == NULL) {
		deny(h, ev);
		return;
	}
	struct link *l = alloc_new(sizeof(*l));
	if (l == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	list_init(&l->by_token);
	list_init(&l->by_secret);
	l->peer = ev->peer;
	l->scopes = SCOPES_CLUSTER;
	if (hub_put_link(h, l, c) != 0) {
		alloc_free(l);
		h->out->err = ERR_NOMEM;
		return;
	}
	l->secret = s;
	list_push(&s->links, &l->by_secret);
	send_secret(h, l, ev->request_id);
}

void
hub_on_forged(struct hub *h, struct link *l, const struct event *ev)
{
	const struct credential c = { .kind = CREDENTIAL_SIGNED,
		.address = l->address,
		.remote = l->remote };

	(void)ev;
	hub_count_failure(h, &c);
}

bool
hub_is_signed(const struct agent *a)
{
	return slice_starts(a->record->token_id, SL("sgn_"));
}

struct registration
hub_signed_registration(const struct agent *a, const struct registration *r)
{
	struct registration full = *r;

	if (r->name.ptr == NULL)
		full.name = a != NULL ? a->record->name : r->agent_id;
	if (r->info_json.ptr == NULL && a != NULL)
		full.info_json = a->record->info_json;
	if (r->version.ptr == NULL && a != NULL)
		full.version = a->session.version;
	return full;
}

struct slice
hub_verb_fault(struct hub *h, const struct command_record *r)
{
	struct verb_call call;
	struct slice why = none;
	int err = verbs_read(r, &h->scratch, &call, &why);

	arena_reset(&h->scratch);
	if (err == ERR_NOMEM)
		h->out->err = err;
	return why;
}

/* Logs --------------------------------------------------------------------- */

void
hub_on_log(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = l->agent;

	if (a == NULL)
		return;
	hub_heard_from(h, a);
	hub_settle(h, a, SL("log"));
	struct log_record r = ev->log;
	r.agent_id = a->id;
	r.workspace_id = a->record->workspace_id;
	struct op *op = hub_store(h, OP_PUT_LOG);
	if (op == NULL)
		return;
	op->lazy = true;
	op->log = clone_in(&h->out->arena, CLONE_LOG, &r);
	if (op->log == NULL)
		h->out->err = ERR_NOMEM;
}

/* Requests ----------------------------------------------------------------- */

static struct secret *
pick_secret(struct hub *h, const struct event *ev, const struct access *who)
{
	struct slice id = ev->request.id;
	uint8_t text[KEY_SIZE];
	struct secret *s = map_get(&h->secrets, key_of(id, false, text));

	if (s == NULL && slice_ends(id, SL("*")))
		s = map_get(&h->secrets,
		    key_of(slice_first(id, id.len - 1), true, text));
	if (s == NULL)
		s = secret_by_id(h, id);
	if (s != NULL && s->record->workspace_id == who->user->workspace_id)
		return s;
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("SECRET_NOT_FOUND"),
	    SL("id"), SL("there is no such secret"));
	return NULL;
}

static struct secret_record *
copy_of(struct hub *h, const struct secret *s)
{
	struct secret_record *r =
	    clone_in(&h->out->arena, CLONE_SECRET, s->record);

	if (r == NULL)
		h->out->err = ERR_NOMEM;
	return r;
}

static struct op *
store_secret(struct hub *h, const struct event *ev, const struct access *who,
    const struct secret *s)
{
	static const struct slice actions[OPS] = {
		[OP_SIGNED_ADD] = SL_INIT("signed.add"),
		[OP_SIGNED_ROTATE] = SL_INIT("signed.rotate"),
		[OP_SIGNED_REMOVE] = SL_INIT("signed.remove"),
	};
	bool drop = ev->request.op == OP_SIGNED_REMOVE;
	struct op *op = hub_store(h, drop ? OP_DROP_SECRET : OP_PUT_SECRET);
	const struct secret_record *r = copy_of(h, s);

	if (op == NULL || r == NULL)
		return NULL;
	op->secret = r;
	op->audit = hub_audit(who->user->id, actions[ev->request.op],
	    r->agent_id, ev, ev->request.credential.remote);
	return op;
}

static void
answer(struct hub *h, const struct event *ev, const struct access *who,
    const struct secret *s, uint64_t after)
{
	struct reply *r = hub_reply(h, ev, who, after);

	if (r == NULL)
		return;
	r->secrets = copy_of(h, s);
	r->secret_count = r->secrets != NULL;
	if (ev->request.op == OP_SIGNED_ADD)
		r->status = 201;
}

static bool
add_refused(struct hub *h, const struct event *ev)
{
	const struct secret_record *r = ev->request.secret;
	uint8_t text[KEY_SIZE];
	struct agent *a;

	if (!hub_id_ok(r->agent_id)) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("agent_id"),
		    SL("agent_id must be 1 to 128 of A-Z a-z 0-9 . _ : -"));
		return true;
	}
	if (map_get(&h->secrets, key_of(r->agent_id, r->prefix, text)) !=
	    NULL) {
		hub_reply_error(h, ev, ERR_EXISTS, 409, SL("SECRET_EXISTS"),
		    SL("agent_id"),
		    SL("there is a secret for it; rotate that one"));
		return true;
	}
	a = r->prefix ? NULL : map_get(&h->agents, r->agent_id);
	if (a != NULL && !hub_is_signed(a)) {
		hub_reply_error(h, ev, ERR_EXISTS, 409, SL("AGENT_ID_TAKEN"),
		    SL("agent_id"),
		    SL("this agent_id belongs to another credential"));
		return true;
	}
	return false;
}

void
hub_signed_add(struct hub *h, const struct event *ev, const struct access *who)
{
	struct secret_record rec = *ev->request.secret;

	if (add_refused(h, ev))
		return;
	rec.id = hub_make_id(h, SL("sgn_"));
	rec.workspace_id = who->user->workspace_id;
	rec.created_at = h->wall;
	struct secret *s = h->out->err == 0 ? hub_add_secret(h, &rec) : NULL;
	if (s == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller holds too many secrets"));
		return;
	}
	struct op *op = store_secret(h, ev, who, s);
	if (op == NULL) {
		hub_free_secret(h, s);
		return;
	}
	hub_pend(h, op->number, PENDING_SECRET, s->record->id, ev);
	answer(h, ev, who, s, op->number);
}

void
hub_signed_show(struct hub *h, const struct event *ev, const struct access *who)
{
	struct secret *s = pick_secret(h, ev, who);

	if (s != NULL)
		answer(h, ev, who, s, 0);
}

static int
by_agent(const void *a, const void *b)
{
	const struct secret_record *x = a, *y = b;
	int order = slice_cmp(x->agent_id, y->agent_id);

	return order != 0 ? order : x->prefix - y->prefix;
}

void
hub_signed_list(struct hub *h, const struct event *ev, const struct access *who)
{
	struct reply *r = hub_reply(h, ev, who, 0);
	struct secret_record *list =
	    arena_array(&h->out->arena, h->secrets.count + 1, sizeof(*list));
	size_t pos = 0, n = 0;

	if (r == NULL || list == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	for (struct secret *s; (s = map_next(&h->secrets, &pos)) != NULL;) {
		if (s->record->workspace_id != who->user->workspace_id)
			continue;
		const struct secret_record *c = copy_of(h, s);
		if (c == NULL)
			return;
		list[n++] = *c;
	}
	qsort(list, n, sizeof(*list), by_agent);
	r->secrets = list;
	r->secret_count = n;
	r->total = n;
}

/* Those who sign with it: told, or sent away. */
static void
tell_links(struct hub *h, struct secret *s, bool close)
{
	for (struct list *l = s->links.next; l != &s->links; l = l->next) {
		struct link *k = LIST_OF(l, struct link, by_secret);
		if (close)
			hub_close(h, k->peer, 1008, SL("revoked"));
		else
			send_secret(h, k, none);
	}
}

void
hub_signed_rotate(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct secret *s = pick_secret(h, ev, who);

	if (s == NULL)
		return;
	/* It is sealed for whom it was said to be. */
	if (!slice_eq(ev->request.secret->agent_id, s->record->agent_id) ||
	    ev->request.secret->prefix != s->record->prefix) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("id"),
		    SL("name the secret by its agent_id, or by its prefix "
		       "and a *"));
		return;
	}
	struct secret_record rec = *s->record;
	rec.old_sealed = ev->request.overlap > 0 ? rec.sealed : none;
	rec.old_until =
	    ev->request.overlap > 0 ? h->wall + ev->request.overlap : 0;
	rec.sealed = ev->request.secret->sealed;
	rec.rotated_at = h->wall;
	struct secret_record *was = s->record;
	struct secret_record *now = clone_new(CLONE_SECRET, &rec);
	if (now == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	s->record = now;
	struct op *op = store_secret(h, ev, who, s);
	struct pending *p = op == NULL
	    ? NULL
	    : hub_pend(h, op->number, PENDING_SECRET, now->id, ev);
	if (p == NULL) {
		s->record = was;
		alloc_free(now);
		return;
	}
	p->was = was;
	answer(h, ev, who, s, op->number);
}

void
hub_signed_remove(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct secret *s = pick_secret(h, ev, who);
	struct op *op = s == NULL ? NULL : store_secret(h, ev, who, s);

	if (op == NULL)
		return;
	hub_pend(h, op->number, PENDING_SECRET, s->record->id, ev);
	answer(h, ev, who, s, op->number);
}

/* The store's word --------------------------------------------------------- */

void
hub_secret_stored(struct hub *h, struct pending *p)
{
	struct secret *s = secret_by_id(h, p->id);

	if (s == NULL || p->op == OP_SIGNED_ADD)
		return;
	tell_links(
	    h, s, p->op == OP_SIGNED_REMOVE || s->record->old_until <= h->wall);
	if (p->op == OP_SIGNED_REMOVE)
		hub_free_secret(h, s);
}

void
hub_undo_secret(struct hub *h, struct pending *p)
{
	struct secret *s = secret_by_id(h, p->id);

	if (s == NULL)
		return;
	if (p->op == OP_SIGNED_ADD) {
		hub_free_secret(h, s);
	} else if (p->op == OP_SIGNED_ROTATE && p->was != NULL) {
		alloc_free(s->record);
		s->record = p->was;
		p->was = NULL;
	}
}
