/*
 * May this visitor go there, and by which agents?
 */
#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "model/hub_tunnel.h"

enum { DETAIL_MAX = 2048 };

static const struct slice none;

/* Agents ------------------------------------------------------------------- */

/* Whether what was asked can be asked of it. */
static bool
can(enum tunnel_speech speech, const struct tunnel_visit *v)
{
	if (speech == TUNNEL_JSON)
		return v->way != TUNNEL_BY_FORWARD && v->proto == TUNNEL_TCP;
	if (speech == TUNNEL_STREAMS_V1)
		return !v->reverse;
	return speech == TUNNEL_STREAMS;
}

static bool
is_there(const struct agent *a)
{
	return a->link != NULL && a->link->closed.ptr == NULL &&
	    a->record->removed_at == 0;
}

static bool
is_usable(const struct agent *a, const struct tunnel_visit *v)
{
	return is_there(a) && can(a->link->speech, v) &&
	    !hub_tunnels_stopped(a);
}

/* Those who might be gone by; borrowed while the hub is in this event. */
struct choice {
	const struct agent *agents[TUNNEL_MEMBERS];
	size_t count;
	size_t usable; /* they stand first */
	const struct agent *away[TUNNEL_MEMBERS];
	size_t away_count;
	bool hidden; /* there are some that the visitor may not see */
};

static void
consider(struct hub *h, const struct access *who, const struct agent *a,
    const struct tunnel_visit *v, struct choice *c)
{
	bool good = is_usable(a, v);

	if (who != NULL && !hub_may_see(h, who, a)) {
		c->hidden = true;
		return;
	}
	if (good && c->usable < TUNNEL_MEMBERS)
		c->agents[c->usable++] = a;
	else if (!good && c->away_count < TUNNEL_MEMBERS)
		c->away[c->away_count++] = a;
}

/* Those who are away fill what room is left. */
static void
fill_up(struct choice *c)
{
	c->count = c->usable;
	for (size_t i = 0; i < c->away_count && c->count < TUNNEL_MEMBERS; i++)
		c->agents[c->count++] = c->away[i];
}

static int
choose(struct hub *h, const struct access *who, struct route *route,
    const struct tunnel_visit *v, struct choice *c)
{
	*c = (struct choice){ .count = 0 };
	if (route->record->selector.len == 0) {
		const struct agent *a =
		    map_get(&h->agents, route->record->agent);
		if (a != NULL && a->record->removed_at == 0)
			consider(h, who, a, v, c);
		fill_up(c);
		return 0;
	}
	struct pool *p = hub_pool_of(h, route);
	if (p == NULL)
		return ERR_NOMEM;
	const struct roster *r = &p->there;
	for (size_t i = 0; i < r->count && c->usable < TUNNEL_MEMBERS; i++)
		consider(h, who, r->agents[i], v, c);
	r = &p->all;
	for (size_t i = 0;
	     i < r->count && c->usable + c->away_count < TUNNEL_MEMBERS; i++) {
		if (r->agents[i]->link == NULL)
			consider(h, who, r->agents[i], v, c);
	}
	fill_up(c);
	p->scarce |= c->usable < TUNNEL_MEMBERS && c->count < p->all.count;
	return 0;
}

static int
by_id(const void *a, const void *b)
{
	const struct agent *const *x = a, *const *y = b;

	return slice_cmp((*x)->id, (*y)->id);
}

static struct tunnel_member *
write_members(struct hub *h, const struct tunnel_visit *v, struct choice *c)
{
	struct tunnel_member *list =
	    arena_array(&h->out->arena, c->count + 1, sizeof(*list));

	if (list == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	qsort(c->agents, c->count, sizeof(c->agents[0]), by_id);
	for (size_t i = 0; i < c->count; i++) {
		const struct agent *a = c->agents[i];
		if (arena_copy(&h->out->arena, a->id, &list[i].agent_id) != 0 ||
		    arena_copy(
			&h->out->arena, a->record->name, &list[i].name) != 0)
			h->out->err = ERR_NOMEM;
		if (!is_usable(a, v))
			continue;
		list[i].link = a->link->peer;
		list[i].speech = a->link->speech;
	}
	return list;
}

struct tunnel_member *
hub_route_members(
    struct hub *h, const struct access *who, struct route *r, size_t *count)
{
	const struct tunnel_visit v = { .way = TUNNEL_BY_ROUTE };
	struct choice c;

	if (choose(h, who, r, &v, &c) != 0)
		return NULL;
	*count = c.count;
	return write_members(h, &v, &c);
}

/* Why nobody takes the visitor ----------------------------------------------
 */

static struct slice
since(struct hub *h, const struct agent *a)
{
	uint8_t at[STAMP_LEN];

	stamp_format(a->since, at);
	const struct slice parts[] = { a->record->name, SL(" is "),
		presence_name(a->presence), SL(" since "), { at, STAMP_LEN } };
	return hub_text(h, parts, sizeof(parts) / sizeof(parts[0]));
}

static struct slice
nobody_fits(struct hub *h, const struct route *r)
{
	const struct slice parts[] = { SL("no agent fits "),
		r->record->selector };

	return r->record->selector.len > 0
	    ? hub_text(h, parts, 2)
	    : SL("the agent of this route was removed");
}

/* The best of them says it: one that is there and cannot, one that is
 * stopped, one that is away. */
static void
refuse_away(struct hub *h, const struct event *ev, const struct choice *c)
{
	const struct agent *mute = NULL, *stopped = NULL;

	for (size_t i = 0; i < c->count; i++) {
		const struct agent *a = c->agents[i];
		if (hub_tunnels_stopped(a))
			stopped = a;
		else if (is_there(a) || a->http)
			mute = a;
	}
	if (mute != NULL) {
		const struct slice text[] = { mute->record->name,
			SL(" cannot be asked for this kind of tunnel") };
		hub_reply_error(h, ev, ERR_UNSUPPORTED, 502,
		    SL("TUNNEL_UNSUPPORTED"), SL("agent"),
		    hub_text(h, text, 2));
	} else if (stopped != NULL) {
		const struct slice text[] = { stopped->record->name,
			SL(" is stopped") };
		hub_reply_error(h, ev, ERR_STOPPED, 503, SL("AGENT_STOPPED"),
		    SL("agent"), hub_text(h, text, 2));
	} else {
		hub_reply_error(h, ev, ERR_UNREACHABLE, 503,
		    SL("AGENT_OFFLINE"), SL("agent"), since(h, c->agents[0]));
	}
}

/* Visitors ------------------------------------------------------------------
 */

struct visitor {
	struct access who;
	bool known; /* or anybody */
	struct slice login_id;
	wall_msec expires_at;
};

static struct denied
deny(uint16_t status, int err, struct slice code, struct slice text)
{
	return (struct denied){
		.status = status, .err = err, .code = code, .text = text
	};
}

/* Whether a wall's cookie is of this place. */
static bool
is_for(const struct credential *c, const struct tunnel_visit *v)
{
	return v->way != TUNNEL_BY_FORWARD &&
	    slice_eq(c->route_id,
		v->way == TUNNEL_BY_ROUTE ? v->route_id : v->agent);
}

/* An API token is named by its id; one that was replaced is good until its
 * time is over. */
static void
name_token(struct visitor *v, const struct credential *c)
{
	const struct token_record *t;

	if (v->who.token == NULL)
		return;
	t = v->who.token->record;
	v->login_id = t->id;
	if (memcmp(t->hash, c->hash, HASH_LEN) != 0 &&
	    (v->expires_at == 0 || t->old_until < v->expires_at))
		v->expires_at = t->old_until;
}

static int
identify(struct hub *h, const struct event *ev, scope_set need,
    struct visitor *v, struct denied *no)
{
	const struct credential *c = &ev->request.credential;
	const struct tunnel_visit *visit = ev->request.visit;
	int err;

	if (c->kind == CREDENTIAL_LINK ||
	    (c->kind == CREDENTIAL_WALL && !is_for(c, visit)))
		*no = deny(401, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("this leave to visit is for another place"));
	else if (c->kind == CREDENTIAL_NONE)
		*no = deny(401, ERR_DENIED, SL("UNAUTHORIZED"),
		    SL("a login is required"));
	else
		*no = (struct denied){ 0 };
	if (no->err != 0)
		return no->err;
	err = c->kind == CREDENTIAL_WALL
	    ? hub_resolve_wall(h, c, need, &v->who, no)
	    : hub_resolve(h, ev, c, need, &v->who, no);
	if (err == 0 && v->who.user == NULL) {
		*no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"),
		    SL("an agent's token may not do this"));
		err = no->err;
	}
	if (err != 0)
		return err;
	v->known = true;
	v->login_id = v->who.login_id;
	v->expires_at = v->who.expires_at;
	name_token(v, c);
	return 0;
}

/* Whoever has the link. */
static int
read_link(const struct event *ev, const struct route *r, struct visitor *v,
    struct denied *no)
{
	const struct credential *c = &ev->request.credential;

	if (slice_eq(c->route_id, r->record->id) &&
	    c->claims.issued_at > r->record->links_from) {
		v->login_id = SL("link");
		v->expires_at = c->claims.expires_at;
		return 0;
	}
	*no = deny(401, ERR_REVOKED, SL("LINK_EXPIRED"),
	    SL("this link is not good any more"));
	return no->err;
}

/* Grants --------------------------------------------------------------------
 */

static int
copy_target(
    struct hub *h, const struct tunnel_target *from, struct tunnel_target *to)
{
	struct arena *a = &h->out->arena;

	*to = *from;
	int err = arena_copy(a, from->host, &to->host);
	if (err == 0)
		err = arena_copy(a, from->service, &to->service);
	if (err == 0)
		err = arena_copy(a, from->namespace, &to->namespace);
	if (err == 0)
		err = arena_copy(a, from->tls_name, &to->tls_name);
	return err;
}

static const struct tunnel_visit *
copy_visit(struct hub *h, const struct tunnel_visit *from)
{
	struct arena *a = &h->out->arena;
	struct tunnel_visit *v = arena_alloc(a, sizeof(*v));

	if (v == NULL)
		return NULL;
	*v = *from;
	if (arena_copy(a, from->route_id, &v->route_id) != 0 ||
	    arena_copy(a, from->agent, &v->agent) != 0 ||
	    copy_target(h, &from->target, &v->target) != 0)
		return NULL;
	return v;
}

/* From now on lanes are told what changes about these. */
static void
mark(struct hub *h, const struct choice *c, const struct visitor *v)
{
	struct user *u = v->known ? map_get(&h->users, v->who.user->id) : NULL;

	if (u != NULL)
		u->visiting = true;
	for (size_t i = 0; i < c->count; i++) {
		struct agent *a = map_get(&h->agents, c->agents[i]->id);
		a->visited = true;
	}
}

static void
grant(struct hub *h, const struct event *ev, const struct visitor *v,
    const struct tunnel_target *target, struct choice *c)
{
	struct arena *a = &h->out->arena;
	struct reply *re = hub_reply(h, ev, v->known ? &v->who : NULL, 0);
	struct tunnel_grant *g = arena_alloc(a, sizeof(*g));

	if (re == NULL || g == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	g->number = ++h->tunnels.grants;
	g->visit = copy_visit(h, ev->request.visit);
	g->members = write_members(h, ev->request.visit, c);
	g->member_count = c->count;
	g->expires_at = v->expires_at;
	if (g->visit == NULL || copy_target(h, target, &g->target) != 0 ||
	    (v->known && arena_copy(a, v->who.user->id, &g->user_id) != 0) ||
	    arena_copy(a, v->login_id, &g->login_id) != 0)
		h->out->err = ERR_NOMEM;
	mark(h, c, v);
	re->grant = g;
}

/* Routes --------------------------------------------------------------------
 */

static void
visit_route(struct hub *h, const struct event *ev)
{
	const struct tunnel_visit *visit = ev->request.visit;
	struct route *r = hub_find_route(h, visit->route_id);
	struct visitor v = { .known = false };
	struct denied no = { 0 };
	struct choice c;
	int err = 0;

	if (r == NULL) {
		hub_reply_error(h, ev, ERR_NOT_FOUND, 404,
		    SL("ROUTE_NOT_FOUND"), SL("route"),
		    SL("there is no such route"));
		return;
	}
	if (r->record->wall == TUNNEL_PUBLIC)
		err = 0;
	else if (ev->request.credential.kind == CREDENTIAL_LINK)
		err = read_link(ev, r, &v, &no);
	else
		err = identify(h, ev, SCOPE_ROUTE_VISIT, &v, &no);
	if (err == 0 && v.known &&
	    v.who.user->workspace_id != r->record->workspace_id) {
		no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"),
		    SL("this route is not of your workspace"));
		err = no.err;
	}
	if (err != 0) {
		hub_reply_denied(h, ev, &no);
		return;
	}
	if (choose(h, v.known ? &v.who : NULL, r, visit, &c) != 0)
		return;
	if (c.count == 0 && c.hidden) {
		no = deny(403, ERR_DENIED, SL("NOT_PERMITTED"),
		    SL("you may not see the agents of this route"));
		hub_reply_denied(h, ev, &no);
	} else if (c.count == 0) {
		hub_reply_error(h, ev, ERR_UNREACHABLE, 503,
		    SL("AGENT_OFFLINE"), SL("agent"), nobody_fits(h, r));
	} else if (c.usable == 0) {
		refuse_away(h, ev, &c);
	} else {
		r->visited = true;
		grant(h, ev, &v, &r->record->target, &c);
	}
}

/* Paths and forwards --------------------------------------------------------
 */

/* A port that it announced when it registered; 0: none. */
static uint16_t
announced(struct hub *h, const struct agent *a, const char *which)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct js_doc doc;
	int64_t port = 0;

	arena_reset(&h->scratch);
	if (a->record->info_json.len == 0 ||
	    js_parse(&doc, a->record->info_json, &limits, &h->scratch) != 0)
		return 0;
	struct js_value list = js_get(js_root(&doc), "tunnel_port_config");
	if (js_i64(js_get(list, which), &port) != 0 || port < 1 ||
	    port > UINT16_MAX)
		return 0;
	return (uint16_t)port;
}

/* Where a path without a target of its own leads.  Agents that are asked in
 * JSON know for themselves. */
static int
default_target(struct hub *h, const struct agent *a,
    const struct tunnel_target *asked, struct tunnel_target *t)
{
	*t = (struct tunnel_target){ .host = SL("127.0.0.1"),
		.tls = asked->tls,
		.insecure = asked->tls };
	t->port = announced(h, a, asked->tls ? "kubernetes_api" : "agent_http");
	if (t->port != 0)
		return 0;
	*t = *asked;
	return a->link != NULL && a->link->speech == TUNNEL_JSON
	    ? 0
	    : ERR_NOT_FOUND;
}

static bool
has_target(const struct tunnel_visit *v)
{
	return v->target.host.len > 0 || v->target.service.len > 0;
}

/* Of an address to listen at port 0 is one, too. */
static struct slice
fault(const struct tunnel_visit *v, struct slice *field)
{
	struct tunnel_target t = v->target;

	if (v->way == TUNNEL_BY_PATH && !has_target(v))
		return none;
	if (v->reverse && t.host.len > 0 && t.port == 0)
		t.port = 1;
	return tunnel_fault(&t, field);
}

/* Who went where, in the journal. */
static void
note_forward(struct hub *h, const struct event *ev, const struct agent *a,
    const struct visitor *v)
{
	const struct tunnel_visit *visit = ev->request.visit;
	struct op *op = hub_store(h, OP_AUDIT);
	struct js_writer w;
	struct buf b;

	if (op == NULL)
		return;
	op->audit = hub_audit(v->who.user->id, SL("tunnel.open"), none, ev,
	    ev->request.credential.remote);
	buf_init(&b, DETAIL_MAX);
	js_write(&w, &b);
	js_begin_object(&w);
	if (visit->target.host.len > 0) {
		js_kv_string(&w, "host", visit->target.host);
	} else {
		js_kv_string(&w, "service", visit->target.service);
		js_kv_string(&w, "namespace", visit->target.namespace);
	}
	js_kv_u64(&w, "port", visit->target.port);
	js_kv_string(
	    &w, "proto", visit->proto == TUNNEL_UDP ? SL("udp") : SL("tcp"));
	js_kv_bool(&w, "reverse", visit->reverse);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    arena_copy(&h->out->arena, buf_peek(&b), &op->audit.detail_json) !=
		0 ||
	    arena_copy(&h->out->arena, a->id, &op->audit.object) != 0)
		h->out->err = ERR_NOMEM;
	buf_fini(&b);
}

static void
go_by(struct hub *h, const struct event *ev, const struct visitor *v,
    const struct agent *a)
{
	const struct tunnel_visit *visit = ev->request.visit;
	struct tunnel_target t = visit->target;
	struct choice c = { .count = 0 };

	consider(h, NULL, a, visit, &c);
	fill_up(&c);
	if (c.usable == 0) {
		refuse_away(h, ev, &c);
		return;
	}
	if (!has_target(visit) &&
	    default_target(h, a, &visit->target, &t) != 0) {
		hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("NO_WEB_PORT"),
		    SL("agent"),
		    SL("this agent has announced no port for that"));
		return;
	}
	if (visit->way == TUNNEL_BY_FORWARD)
		note_forward(h, ev, a, v);
	grant(h, ev, v, &t, &c);
}

/* What the configuration has is the host's word: it asks nobody, and sees the
 * agents of the first workspace. */
static void
visit_by_port(struct hub *h, const struct event *ev)
{
	static const struct user_record host = { .workspace_id = 1 };
	struct visitor v = { .known = false, .who = { .user = &host } };
	const struct agent *a =
	    hub_pick_agent(h, ev, &v.who, ev->request.visit->agent);

	if (a != NULL)
		go_by(h, ev, &v, a);
}

/* An agent's own pages are for those who may see it; anything else that it
 * reaches is for those who may use it. */
static void
visit_agent(struct hub *h, const struct event *ev)
{
	const struct tunnel_visit *visit = ev->request.visit;
	bool page = visit->way == TUNNEL_BY_PATH && !has_target(visit) &&
	    !visit->target.tls;
	struct visitor v = { .known = false };
	struct denied no = { 0 };
	struct slice field, text = fault(visit, &field);

	if (text.len > 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    field, text);
		return;
	}
	if (identify(h, ev, page ? SCOPE_ROUTE_VISIT : SCOPE_TUNNEL_USE, &v,
		&no) != 0) {
		hub_reply_denied(h, ev, &no);
		return;
	}
	const struct agent *a = hub_pick_agent(h, ev, &v.who, visit->agent);
	if (a != NULL)
		go_by(h, ev, &v, a);
}

void
hub_visit(struct hub *h, const struct event *ev, const struct access *who)
{
	(void)who;
	assert(ev->request.visit != NULL);
	if (ev->request.visit->way == TUNNEL_BY_ROUTE)
		visit_route(h, ev);
	else if (ev->request.visit->way == TUNNEL_BY_PORT)
		visit_by_port(h, ev);
	else
		visit_agent(h, ev);
}
