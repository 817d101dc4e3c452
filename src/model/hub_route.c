/*
 * Routes: made, shown, removed; and the list that lanes have of them.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "model/hub_tunnel.h"

enum {
	LIST_DEFAULT = 100,
	LIST_MAX = 1000,
	ROOM_MIN = 16,
	DETAIL_MAX = 8192,
	RETRY = 1000,
};

static const struct slice none;

/* The table -------------------------------------------------------------- */

/* The first that is not below. */
static size_t
site_place(const struct tunnels *t, const struct route_record *r)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (route_cmp(t->sites[mid]->record, r) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static size_t
id_place(const struct tunnels *t, struct slice id)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(t->ids[mid]->record->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
make_room(struct tunnels *t)
{
	size_t room = t->room == 0 ? ROOM_MIN : t->room * 2;
	struct route **wider;

	if (t->count < t->room)
		return 0;
	wider = alloc_resize(t->sites, room * sizeof(struct route *));
	if (wider == NULL)
		return ERR_NOMEM;
	t->sites = wider;
	wider = alloc_resize(t->ids, room * sizeof(struct route *));
	if (wider == NULL)
		return ERR_NOMEM;
	t->ids = wider;
	t->room = room;
	return 0;
}

static void
put_at(struct route **list, size_t count, size_t at, struct route *r)
{
	memmove(&list[at + 1], &list[at], (count - at) * sizeof(list[0]));
	list[at] = r;
}

static void
take_at(struct route **list, size_t count, size_t at)
{
	memmove(&list[at], &list[at + 1], (count - at - 1) * sizeof(list[0]));
}

static int
enter(struct hub *h, struct route *r)
{
	struct tunnels *t = &h->tunnels;
	int err = make_room(t);

	if (err == 0)
		err = map_put(&t->routes, r->record->id, r);
	if (err != 0)
		return err;
	err = map_put(&t->names, r->record->name, r);
	if (err != 0) {
		map_del(&t->routes, r->record->id);
		return err;
	}
	put_at(t->sites, t->count, site_place(t, r->record), r);
	put_at(t->ids, t->count, id_place(t, r->record->id), r);
	t->count++;
	return 0;
}

static struct route *
add(struct hub *h, const struct route_record *rec)
{
	struct route *r = alloc_new(sizeof(*r));

	if (r == NULL)
		return NULL;
	list_init(&r->by_pool);
	r->record = clone_new(CLONE_ROUTE, rec);
	if (r->record == NULL || enter(h, r) != 0) {
		alloc_free(r->record);
		alloc_free(r);
		return NULL;
	}
	return r;
}

static void
drop(struct hub *h, struct route *r)
{
	struct tunnels *t = &h->tunnels;

	hub_leave_pool(h, r);
	map_del(&t->routes, r->record->id);
	map_del(&t->names, r->record->name);
	take_at(t->sites, t->count, site_place(t, r->record));
	take_at(t->ids, t->count, id_place(t, r->record->id));
	t->count--;
	alloc_free(r->record);
	alloc_free(r);
}

void
hub_tunnel_init(struct hub *h)
{
	struct tunnels *t = &h->tunnels;
	const uint64_t *seed = h->config.seed;

	map_init(&t->routes, TUNNEL_ROUTES, seed);
	map_init(&t->names, TUNNEL_ROUTES, seed);
	map_init(&t->pools, POOLS, seed);
	list_init(&t->pool_use);
}

void
hub_tunnel_fini(struct hub *h)
{
	struct tunnels *t = &h->tunnels;

	while (t->count > 0)
		drop(h, t->sites[t->count - 1]);
	hub_free_pools(h);
	alloc_free(t->sites);
	alloc_free(t->ids);
	map_fini(&t->routes);
	map_fini(&t->names);
	map_fini(&t->pools);
}

int
hub_load_routes(struct hub *h, const struct hub_snapshot *s)
{
	for (size_t i = 0; i < s->route_count; i++) {
		struct route *r = add(h, &s->routes[i]);
		if (r == NULL)
			return ERR_NOMEM;
		r->stored = true;
	}
	h->tunnels.untold = s->route_count > 0;
	return 0;
}

struct route *
hub_find_route(struct hub *h, struct slice id)
{
	struct route *r = map_get(&h->tunnels.routes, id);

	return r == NULL || r->record->removed_at != 0 || !r->stored ? NULL : r;
}

/* Lanes -------------------------------------------------------------------- */

static bool
is_told(const struct route *r)
{
	return r->stored && r->record->removed_at == 0;
}

static void
fill_list(struct hub *h, const struct route_record **sites,
    const struct route_record **ids, struct route_list *list)
{
	struct tunnels *t = &h->tunnels;
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct route *r = t->sites[i];
		if (!is_told(r))
			continue;
		r->told = clone_in(&h->out->arena, CLONE_ROUTE, r->record);
		if (r->told == NULL)
			h->out->err = ERR_NOMEM;
		sites[n++] = r->told;
	}
	for (size_t i = 0; i < t->count; i++) {
		if (is_told(t->ids[i]))
			ids[list->count++] = t->ids[i]->told;
	}
	list->sites = sites;
	list->ids = ids;
}

/* The list as it is now, whole: there is no other that lanes might take for
 * newer. */
void
hub_tell_routes(struct hub *h)
{
	struct tunnels *t = &h->tunnels;
	struct arena *a = &h->out->arena;
	struct route_list *list = arena_alloc(a, sizeof(*list));
	const struct route_record **sites =
	    arena_array(a, t->count + 1, sizeof(*sites));
	const struct route_record **ids =
	    arena_array(a, t->count + 1, sizeof(*ids));
	struct effect *e = list == NULL || sites == NULL || ids == NULL
	    ? NULL
	    : outbox_add(h->out, EFFECT_ROUTES);

	t->untold = e == NULL;
	if (e == NULL) {
		h->out->err = ERR_NOMEM;
		t->retry_at = h->now + RETRY;
		return;
	}
	fill_list(h, sites, ids, list);
	e->routes = list;
}

/* Who may see what ------------------------------------------------------- */

/* Whether what s chooses is a part of what limit does: as far as their words
 * tell. */
static bool
is_within(const struct selector *s, const struct selector *limit)
{
	for (size_t i = 0; i < limit->count; i++) {
		size_t k = 0;
		while (k < s->count &&
		    (s->terms[k].how != limit->terms[i].how ||
			!slice_eq(s->terms[k].key, limit->terms[i].key) ||
			!slice_eq(s->terms[k].value, limit->terms[i].value)))
			k++;
		if (k == s->count)
			return false;
	}
	return true;
}

static bool
sees_selector(const struct access *who, struct slice text)
{
	struct selector s, limit;

	return selector_parse(text, &s) == 0 &&
	    selector_parse(who->user->selector, &limit) == 0 &&
	    is_within(&s, &limit);
}

bool
hub_sees_route(struct hub *h, const struct access *who, const struct route *r)
{
	const struct agent *a;

	if (r->record->workspace_id != who->user->workspace_id)
		return false;
	if (who->user->selector.len == 0)
		return true;
	if (r->record->selector.len > 0)
		return sees_selector(who, r->record->selector);
	a = map_get(&h->agents, r->record->agent);
	return a != NULL && hub_may_see(h, who, a);
}

static struct route *
pick(struct hub *h, const struct event *ev, const struct access *who)
{
	struct slice text = ev->request.id;
	struct route *r = map_get(&h->tunnels.routes, text);

	if (r == NULL)
		r = map_get(&h->tunnels.names, text);
	if (r != NULL && r->stored && r->record->removed_at == 0 &&
	    hub_sees_route(h, who, r))
		return r;
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("ROUTE_NOT_FOUND"),
	    SL("route"), SL("there is no such route"));
	return NULL;
}

static struct reply *
reply_route(struct hub *h, const struct event *ev, const struct access *who,
    const struct route *r, uint64_t after)
{
	struct reply *re = hub_reply(h, ev, who, after);

	if (re == NULL)
		return NULL;
	re->routes = clone_in(&h->out->arena, CLONE_ROUTE, r->record);
	re->route_count = 1;
	if (re->routes == NULL)
		h->out->err = ERR_NOMEM;
	return re;
}

/* Making ------------------------------------------------------------------- */

/* What the journal says of it. */
static struct slice
describe(struct hub *h, const struct route_record *r)
{
	struct slice text = none;
	struct js_writer w;
	struct buf b;

	buf_init(&b, DETAIL_MAX);
	js_write(&w, &b);
	js_begin_object(&w);
	js_kv_string(&w, "host", r->host);
	js_kv_string(&w, "prefix", r->prefix);
	if (r->agent.len > 0)
		js_kv_string(&w, "agent_id", r->agent);
	else
		js_kv_string(&w, "selector", r->selector);
	js_kv_string(&w, "to",
	    r->target.host.len > 0 ? r->target.host : r->target.service);
	js_kv_u64(&w, "port", r->target.port);
	js_kv_bool(&w, "public", r->wall == TUNNEL_PUBLIC);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    arena_copy(&h->out->arena, buf_peek(&b), &text) != 0)
		h->out->err = ERR_NOMEM;
	buf_fini(&b);
	return text;
}

static struct op *
store_route(struct hub *h, const struct event *ev, const struct access *who,
    const struct route *r)
{
	static const struct slice actions[OPS] = {
		[OP_ROUTE_ADD] = SL_INIT("route.add"),
		[OP_ROUTE_REMOVE] = SL_INIT("route.remove"),
		[OP_ROUTE_UNLINK] = SL_INIT("route.unlink"),
	};
	struct op *op = hub_store(h, OP_PUT_ROUTE);

	if (op == NULL)
		return NULL;
	op->route = clone_in(&h->out->arena, CLONE_ROUTE, r->record);
	if (op->route == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	op->audit = hub_audit(who->user->id, actions[ev->request.op],
	    op->route->id, ev, ev->request.credential.remote);
	op->audit.detail_json = describe(h, op->route);
	return op;
}

/* The agent by its id from now on: names are of agents' own choosing. */
static bool
aim(struct hub *h, const struct event *ev, const struct access *who,
    struct route_record *r)
{
	struct selector s;

	if (r->agent.len > 0) {
		const struct agent *a = hub_pick_agent(h, ev, who, r->agent);
		if (a != NULL)
			r->agent = a->id;
		return a != NULL;
	}
	if (selector_parse(r->selector, &s) != 0 || s.count == 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("selector"),
		    SL("a selector is key=value, key!=value, key or !key, "
		       "joined by commas"));
		return false;
	}
	if (sees_selector(who, r->selector))
		return true;
	hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
	    SL("selector"),
	    SL("your own selector limits you: the route's must have all of "
	       "its terms"));
	return false;
}

/* There is one already. */
static bool
is_taken(struct hub *h, const struct event *ev, const struct route_record *r)
{
	struct tunnels *t = &h->tunnels;
	size_t at = site_place(t, r);

	if (at < t->count && route_cmp(t->sites[at]->record, r) == 0)
		hub_reply_error(h, ev, ERR_EXISTS, 409, SL("ROUTE_EXISTS"),
		    SL("host"), SL("there is a route of this host and prefix"));
	else if (map_get(&t->names, r->name) != NULL)
		hub_reply_error(h, ev, ERR_EXISTS, 409, SL("ROUTE_EXISTS"),
		    SL("name"), SL("there is a route of this name"));
	else
		return false;
	return true;
}

/* Whether one name can be meant by both: "a.example" by "*.example", too. */
static bool
hosts_meet(struct slice a, struct slice b)
{
	bool any = slice_starts(a, SL("*."));
	struct slice tail = slice_from_at(a, 1);

	return slice_eq(a, b) ||
	    (any && b.len > tail.len &&
		slice_eq(slice_from_at(b, b.len - tail.len), tail));
}

/* Pages of one host are one origin, and what a wildcard leads to is taken
 * from it by a host of its own: both need sight of what is there. */
static bool
is_trespass(struct hub *h, const struct event *ev, const struct access *who,
    const struct route_record *r)
{
	const struct tunnels *t = &h->tunnels;

	for (size_t i = 0; i < t->count; i++) {
		const struct route *other = t->sites[i];
		if ((!hosts_meet(r->host, other->record->host) &&
			!hosts_meet(other->record->host, r->host)) ||
		    hub_sees_route(h, who, other))
			continue;
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    SL("host"),
		    SL("there are routes of this host that you may not see"));
		return true;
	}
	return false;
}

void
hub_add_route(struct hub *h, const struct event *ev, const struct access *who)
{
	struct route_record rec = *ev->request.route;
	struct slice field, text;

	if (route_normalise(&rec, &h->out->arena) != 0) {
		h->out->err = ERR_NOMEM;
		return;
	}
	text = route_fault(&rec, &h->scratch, &field);
	if (text.len > 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    field, text);
		return;
	}
	if (!aim(h, ev, who, &rec) || is_taken(h, ev, &rec) ||
	    is_trespass(h, ev, who, &rec))
		return;
	rec.id = hub_make_id(h, SL("rte_"));
	rec.user_id = who->user->id;
	rec.workspace_id = who->user->workspace_id;
	rec.created_at = h->wall;
	struct route *r = h->out->err == 0 ? add(h, &rec) : NULL;
	if (r == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller holds too many routes"));
		return;
	}
	struct op *op = store_route(h, ev, who, r);
	if (op == NULL ||
	    hub_pend(h, op->number, PENDING_ROUTE, rec.id, ev) == NULL) {
		drop(h, r);
		return;
	}
	struct reply *re = reply_route(h, ev, who, r, op->number);
	if (re != NULL)
		re->status = 201;
}

/* Showing ------------------------------------------------------------------ */

/* The first behind the cursor, which is the host and prefix of the last one
 * shown. */
static size_t
first_after(const struct tunnels *t, struct slice cursor)
{
	size_t cut = slice_find(cursor, '/');
	const struct route_record last = { .host = slice_first(cursor, cut),
		.prefix = slice_from_at(cursor, cut) };
	size_t at = site_place(t, &last);

	return at < t->count && route_cmp(t->sites[at]->record, &last) == 0
	    ? at + 1
	    : at;
}

static struct slice
cursor_of(struct hub *h, const struct route_record *r)
{
	const struct slice parts[] = { r->host, r->prefix };

	return hub_text(h, parts, 2);
}

void
hub_list_routes(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct tunnels *t = &h->tunnels;
	size_t limit = q->limit == 0 ? LIST_DEFAULT : q->limit;
	struct reply *re = hub_reply(h, ev, who, 0);

	if (limit > LIST_MAX)
		limit = LIST_MAX;
	struct route_record *list =
	    arena_array(&h->out->arena, limit, sizeof(*list));
	if (re == NULL || list == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	size_t first = q->cursor.len > 0 ? first_after(t, q->cursor) : 0;
	re->routes = list;
	for (size_t i = 0; i < t->count && h->out->err == 0; i++) {
		const struct route *r = t->sites[i];
		if (!is_told(r) || !hub_sees_route(h, who, r))
			continue;
		re->total++;
		if (i < first)
			continue;
		if (re->route_count == limit) {
			if (re->cursor.ptr == NULL)
				re->cursor = cursor_of(h, &list[limit - 1]);
			continue;
		}
		const struct route_record *c =
		    clone_in(&h->out->arena, CLONE_ROUTE, r->record);
		if (c == NULL)
			h->out->err = ERR_NOMEM;
		else
			list[re->route_count++] = *c;
	}
}

void
hub_show_route(struct hub *h, const struct event *ev, const struct access *who)
{
	struct route *r = pick(h, ev, who);

	if (r == NULL)
		return;
	struct reply *re = reply_route(h, ev, who, r, 0);
	if (re != NULL)
		re->members = hub_route_members(h, who, r, &re->member_count);
}

/* Changing ----------------------------------------------------------------- */

/* Nobody passes any more, and those who are on their way are cut once it is
 * durable; the name is free again then, too. */
void
hub_remove_route(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct route *r = pick(h, ev, who);

	if (r == NULL)
		return;
	r->record->removed_at = h->wall;
	struct op *op = store_route(h, ev, who, r);
	if (op == NULL ||
	    hub_pend(h, op->number, PENDING_ROUTE, r->record->id, ev) == NULL) {
		r->record->removed_at = 0;
		return;
	}
	struct reply *re = hub_reply(h, ev, who, op->number);
	if (re != NULL)
		re->status = 204;
}

/* A link is to be signed: whoever asked signs it. */
static void
add_link(struct hub *h, const struct event *ev, const struct access *who,
    const struct route *r)
{
	struct op *op = hub_store(h, OP_AUDIT);

	if (op == NULL)
		return;
	struct reply *re = reply_route(h, ev, who, r, op->number);
	if (re == NULL || re->routes == NULL)
		return;
	re->status = 201;
	op->audit = hub_audit(who->user->id, SL("route.link"), re->routes->id,
	    ev, ev->request.credential.remote);
	hub_pend(h, op->number, PENDING_ANSWER, re->routes->id, ev);
}

static void
end_links(struct hub *h, const struct event *ev, const struct access *who,
    struct route *r)
{
	wall_msec was = r->record->links_from;

	r->record->links_from = h->wall;
	struct op *op = store_route(h, ev, who, r);
	struct pending *p = op == NULL
	    ? NULL
	    : hub_pend(h, op->number, PENDING_ROUTE, r->record->id, ev);
	if (p == NULL) {
		r->record->links_from = was;
		return;
	}
	p->links_from = was;
	struct reply *re = hub_reply(h, ev, who, op->number);
	if (re != NULL)
		re->status = 204;
}

void
hub_link_route(struct hub *h, const struct event *ev, const struct access *who)
{
	struct route *r = pick(h, ev, who);

	if (r == NULL)
		return;
	if (ev->request.op == OP_ROUTE_LINK)
		add_link(h, ev, who, r);
	else
		end_links(h, ev, who, r);
}

/* The store's word --------------------------------------------------------- */

void
hub_route_done(struct hub *h, struct pending *p)
{
	struct route *r = map_get(&h->tunnels.routes, p->id);
	struct tunnel_withdrawal w = { .route_id = p->id, .cut = true };

	if (r == NULL)
		return;
	r->stored = true;
	if (p->op == OP_ROUTE_REMOVE) {
		w.why = SL("route_removed");
		if (r->visited)
			hub_withdraw(h, &w);
		drop(h, r);
	} else if (p->op == OP_ROUTE_UNLINK) {
		w.why = SL("revoked");
		w.login_id = SL("link");
		if (r->visited)
			hub_withdraw(h, &w);
	}
	hub_tell_routes(h);
}

void
hub_route_undo(struct hub *h, struct pending *p)
{
	struct route *r = map_get(&h->tunnels.routes, p->id);

	if (r == NULL)
		return;
	if (p->op == OP_ROUTE_ADD)
		drop(h, r);
	else if (p->op == OP_ROUTE_REMOVE)
		r->record->removed_at = 0;
	else
		r->record->links_from = p->links_from;
}
