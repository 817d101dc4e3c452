/*
 * What operators ask about agents: lists, labels, removal; and joining.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "model/hub_find.h"
#include "model/hub_tunnel.h"
#include "model/selector.h"

enum { LIST_DEFAULT = 100, LIST_MAX = 1000, LABELS_MAX = 64 };

static const struct slice none;

bool
hub_may_see(struct hub *h, const struct access *who, const struct agent *a)
{
	struct selector s;

	if (who->user == NULL || a->record->removed_at != 0 ||
	    who->user->workspace_id != a->record->workspace_id)
		return false;
	if (who->user->selector.len == 0)
		return true;
	arena_reset(&h->scratch);
	return selector_parse(who->user->selector, &s) == 0 &&
	    selector_match(&s, a->record->operator_labels_json,
		a->record->labels_json, &h->scratch) == 1;
}

static struct slice
keep_text(struct hub *h, struct slice s)
{
	struct slice copy = none;

	if (arena_copy(&h->out->arena, s, &copy) != 0)
		h->out->err = ERR_NOMEM;
	return copy;
}

static void
show(struct hub *h, const struct agent *a, struct agent_view *v)
{
	bool there = a->link != NULL || a->http;
	const struct session *s = &a->session;

	*v = (struct agent_view){
		.record = clone_in(&h->out->arena, CLONE_AGENT, a->record),
		.presence = a->presence,
		.why = keep_text(h, a->why),
		.since = a->since,
		.remote = there ? keep_text(h, s->remote) : none,
		.dialect = s->dialect,
		.session_id = there ? keep_text(h, s->session_id) : none,
		.connected_at = there ? a->connected_at : 0,
		.heartbeat_at = a->heartbeat_at,
		.tunnel_status = keep_text(h, s->tunnel_status),
		.metadata_json = keep_text(h, s->metadata_json),
		.policy_verbs = keep_text(h, s->policy_verbs),
		.policy_hash = keep_text(h, s->policy_hash),
		.running = a->attached + a->detached,
		.queued = a->queued,
		.stopped_locally = a->stop.local,
	};
	const struct stop_record *over = hub_stop_over(a);
	if (over != NULL) {
		v->stop_epoch = over->epoch;
		v->stop_text = keep_text(h, hub_stop_text(h, over));
	}
	if (v->record == NULL)
		h->out->err = ERR_NOMEM;
}

static bool
contains(struct slice s, struct slice part)
{
	for (size_t i = 0; i + part.len <= s.len; i++) {
		if (slice_eq_nocase(
			slice_first(slice_from_at(s, i), part.len), part))
			return true;
	}
	return false;
}

static bool
host_contains(struct hub *h, const struct agent *a, struct slice part)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct js_doc doc;
	struct slice name;

	arena_reset(&h->scratch);
	return a->record->info_json.len > 0 &&
	    js_parse(&doc, a->record->info_json, &limits, &h->scratch) == 0 &&
	    js_string(js_get(js_root(&doc), "hostname"), &name) == 0 &&
	    contains(name, part);
}

struct filter {
	struct selector selector;
	bool by_status;
	enum presence status;
	struct slice text;
};

static bool
fits(struct hub *h, const struct filter *f, const struct agent *a)
{
	if (f->by_status && a->presence != f->status)
		return false;
	if (f->text.len > 0 && !contains(a->id, f->text) &&
	    !contains(a->record->name, f->text) &&
	    !host_contains(h, a, f->text))
		return false;
	arena_reset(&h->scratch);
	return selector_match(&f->selector, a->record->operator_labels_json,
		   a->record->labels_json, &h->scratch) == 1;
}

static int
read_filter(struct hub *h, const struct event *ev, struct filter *f)
{
	const struct agent_filter *q = &ev->request.filter;

	*f = (struct filter){ .text = q->text };
	if (selector_parse(q->selector, &f->selector) != 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("selector"),
		    SL("a selector is key=value, key!=value, key or !key, "
		       "joined by commas"));
		return ERR_INVALID;
	}
	f->by_status = q->status.len > 0;
	if (f->by_status && presence_find(q->status, &f->status) != 0) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("status"), SL("there is no such status"));
		return ERR_INVALID;
	}
	return 0;
}

/* The first agent whose id is above the cursor. */
size_t
hub_first_after(const struct hub *h, struct slice cursor)
{
	size_t low = 0, high = h->agents.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(h->sorted[mid]->id, cursor) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void
hub_list_agents(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct filter f;

	if (read_filter(h, ev, &f) != 0)
		return;
	size_t limit = q->limit == 0 ? LIST_DEFAULT : q->limit;
	if (limit > LIST_MAX)
		limit = LIST_MAX;
	struct reply *r = hub_reply(h, ev, who, 0);
	struct agent_view *views =
	    arena_array(&h->out->arena, limit, sizeof(*views));
	if (r == NULL || views == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	r->agents = views;
	size_t first = q->cursor.len > 0 ? hub_first_after(h, q->cursor) : 0;
	for (size_t i = 0; i < h->agents.count && h->out->err == 0; i++) {
		struct agent *a = h->sorted[i];
		if (!hub_may_see(h, who, a) || !fits(h, &f, a))
			continue;
		r->total++;
		if (i < first)
			continue;
		if (r->agent_count < limit)
			show(h, a, &views[r->agent_count++]);
		else if (r->cursor.ptr == NULL)
			r->cursor = views[limit - 1].record->id;
	}
}

enum { PICKS = 8 };

struct picked {
	struct agent *agents[PICKS];
	size_t count;
};

static void
pick_by_name(struct hub *h, const struct access *who, struct slice name,
    struct picked *p)
{
	for (size_t i = 0; i < h->agents.count && p->count < PICKS; i++) {
		struct agent *a = h->sorted[i];
		if (slice_eq(a->record->name, name) && hub_may_see(h, who, a))
			p->agents[p->count++] = a;
	}
}

static void
pick_by_prefix(struct hub *h, const struct access *who, struct slice prefix,
    struct picked *p)
{
	size_t i = hub_first_after(h, prefix);

	for (; i < h->agents.count && p->count < PICKS; i++) {
		struct agent *a = h->sorted[i];
		if (!slice_starts(a->id, prefix))
			break;
		if (hub_may_see(h, who, a))
			p->agents[p->count++] = a;
	}
}

static struct slice
say_ambiguous(struct hub *h, const struct picked *p)
{
	struct slice parts[1 + 2 * PICKS] = { SL("several agents fit:") };
	size_t n = 1;

	for (size_t i = 0; i < p->count; i++) {
		parts[n++] = SL(" ");
		parts[n++] = p->agents[i]->id;
	}
	return hub_text(h, parts, n);
}

enum { PREFIX_MIN = 4 };

/* By id, else by name, else by the beginning of the id; p has those of the
 * name. */
static struct agent *
decide(struct hub *h, const struct access *who, struct slice id,
    struct picked *p, struct refusal *no)
{
	struct agent *a = map_get(&h->agents, id);

	*no = (struct refusal){ .status = 200 };
	if (a != NULL && hub_may_see(h, who, a))
		return a;
	if (p->count == 0 && id.len >= PREFIX_MIN)
		pick_by_prefix(h, who, id, p);
	if (p->count == 1)
		return p->agents[0];
	if (p->count > 1)
		*no = (struct refusal){ ERR_INVALID, 409, SL("AMBIGUOUS"),
			say_ambiguous(h, p) };
	else
		*no = (struct refusal){ ERR_NOT_FOUND, 404,
			SL("AGENT_NOT_FOUND"), SL("there is no such agent") };
	return NULL;
}

static struct agent *
find_agent(struct hub *h, const struct access *who, struct slice id,
    struct refusal *no)
{
	struct agent *a = map_get(&h->agents, id);
	struct picked p = { .count = 0 };

	if (a == NULL || !hub_may_see(h, who, a))
		pick_by_name(h, who, id, &p);
	return decide(h, who, id, &p, no);
}

/* Many at once ------------------------------------------------------------- */

struct named {
	struct slice name;
	size_t at; /* its place in what was asked */
	struct picked picked;
};

static int
by_name(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	return slice_cmp(x->name, y->name);
}

/* The first of this name, or where it would be. */
static size_t
first_named(const struct named *list, size_t n, struct slice name)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(list[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
pick_for_all(
    struct hub *h, const struct access *who, struct named *list, size_t n)
{
	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		struct slice name = a->record->name;
		size_t at = first_named(list, n, name);
		if (at == n || !slice_eq(list[at].name, name) ||
		    !hub_may_see(h, who, a))
			continue;
		for (; at < n && slice_eq(list[at].name, name); at++) {
			struct picked *p = &list[at].picked;
			if (p->count < PICKS)
				p->agents[p->count++] = a;
		}
	}
}

int
hub_find_agents(struct hub *h, const struct access *who,
    const struct slice *ids, size_t n, struct found_agent *found)
{
	struct named *list = arena_array(&h->out->arena, n + 1, sizeof(*list));

	if (list == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < n; i++)
		list[i] = (struct named){ .name = ids[i], .at = i };
	qsort(list, n, sizeof(*list), by_name);
	pick_for_all(h, who, list, n);
	for (size_t i = 0; i < n; i++) {
		struct found_agent *f = &found[list[i].at];
		f->agent =
		    decide(h, who, list[i].name, &list[i].picked, &f->no);
	}
	return 0;
}

struct agent *
hub_pick_agent(struct hub *h, const struct event *ev, const struct access *who,
    struct slice id)
{
	struct refusal no;
	struct agent *a = find_agent(h, who, id, &no);

	if (a == NULL)
		hub_reply_error(
		    h, ev, no.err, no.status, no.code, SL("agent"), no.text);
	return a;
}

static void
reply_agent(struct hub *h, const struct event *ev, const struct access *who,
    struct agent *a, uint64_t after)
{
	struct reply *r = hub_reply(h, ev, who, after);
	struct agent_view *v = arena_alloc(&h->out->arena, sizeof(*v));

	if (r == NULL || v == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	show(h, a, v);
	r->agents = v;
	r->agent_count = 1;
}

void
hub_show_agent(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);

	if (a != NULL)
		reply_agent(h, ev, who, a, 0);
}

/* Labels ------------------------------------------------------------------ */

static int
put_changes(struct js_writer *w, struct js_value changes, size_t *n)
{
	struct js_walk i = js_walk(changes);
	struct js_value v;
	struct slice name, text;

	while (js_next(&i, &name, &v)) {
		if (v.kind == JS_NULL)
			continue;
		if (js_string(v, &text) != 0 || !label_key_ok(name) ||
		    !label_value_ok(text) || ++*n > LABELS_MAX)
			return ERR_INVALID;
		js_key(w, name);
		js_put_string(w, text);
	}
	return 0;
}

static int
put_unchanged(struct js_writer *w, struct js_value was, struct js_value changes,
    size_t *n)
{
	struct js_walk i = js_walk(was);
	struct js_value v;
	struct slice name;
	char key[64];

	while (js_next(&i, &name, &v)) {
		if (slice_cstr(name, key, sizeof(key)) != 0 ||
		    js_get(changes, key).kind != JS_NONE)
			continue;
		if (++*n > LABELS_MAX)
			return ERR_FULL;
		js_key(w, name);
		js_put_raw(w, js_raw(v));
	}
	return 0;
}

/* The labels after the changes: strings set, null removes. */
static int
merge_labels(
    struct hub *h, struct slice old, struct slice changes, struct buf *out)
{
	const struct js_limits limits = { 64 * 1024, 4 };
	struct js_doc was, now;
	struct js_writer w;
	size_t n = 0;

	if (js_parse(&was, old.len > 0 ? old : SL("{}"), &limits,
		&h->out->arena) != 0 ||
	    js_parse(&now, changes, &limits, &h->out->arena) != 0 ||
	    now.repeated.ptr != NULL || js_root(&now).kind != JS_OBJECT)
		return ERR_INVALID;
	js_write(&w, out);
	js_begin_object(&w);
	int err = put_changes(&w, js_root(&now), &n);
	if (err == 0)
		err = put_unchanged(&w, js_root(&was), js_root(&now), &n);
	js_end(&w);
	return err != 0 ? err : js_finish(&w);
}

/* The record with these labels of operators instead. */
static struct agent_record *
relabelled(const struct agent *a, struct slice labels)
{
	struct agent_record rec = *a->record;

	rec.operator_labels_json = labels;
	return clone_new(CLONE_AGENT, &rec);
}

static struct op *
store_agent(struct hub *h, const struct agent *a, const struct event *ev,
    const struct access *who, struct slice action)
{
	const struct agent_record *kept =
	    clone_in(&h->out->arena, CLONE_AGENT, a->record);
	struct op *op = kept == NULL ? NULL : hub_store(h, OP_PUT_AGENT);

	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	op->agent = kept;
	op->audit = hub_audit(who->user->id, action, op->agent->id, ev,
	    ev->request.credential.remote);
	return op;
}

void
hub_label_agent(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);
	struct agent_record *kept = NULL;
	struct buf labels;

	if (a == NULL)
		return;
	buf_init(&labels, 64 * 1024);
	if (merge_labels(h, a->record->operator_labels_json,
		ev->request.labels_json, &labels) == 0)
		kept = relabelled(a, buf_peek(&labels));
	buf_fini(&labels);
	if (kept == NULL) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("labels"),
		    SL("labels are strings by keys of A-Z a-z 0-9 . _ / -, "
		       "64 at most; null removes one"));
		return;
	}
	struct agent_record *was = a->record;
	a->record = kept;
	struct op *op = store_agent(h, a, ev, who, SL("agent.label"));
	if (op == NULL) {
		alloc_free(was);
		return;
	}
	op->audit.detail_json = op->agent->operator_labels_json;
	struct pending *p = hub_pend(h, op->number, PENDING_LABELS, a->id, ev);
	if (p != NULL)
		p->was = was;
	else
		alloc_free(was);
	hub_stop_relabelled(h, a, who);
	hub_agent_relabelled(h, a);
	reply_agent(h, ev, who, a, op->number);
	hub_notice(h, SL("agent.labelled"), a, none, none, op->number);
}

/* Cordons ------------------------------------------------------------------ */

/* It holds at once, and is lifted once the store knows: either way nothing is
 * sent that a restart would have kept back. */
void
hub_cordon_agent(
    struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);
	bool on = ev->request.op == OP_AGENT_CORDON;

	if (a == NULL)
		return;
	if (on == (a->record->cordoned_at != 0)) {
		reply_agent(h, ev, who, a, 0);
		return;
	}
	wall_msec was = a->record->cordoned_at;
	a->record->cordoned_at = on ? h->wall : 0;
	struct op *op = store_agent(
	    h, a, ev, who, on ? SL("agent.cordon") : SL("agent.uncordon"));
	struct pending *p = op == NULL
	    ? NULL
	    : hub_pend(h, op->number, PENDING_CORDON, a->id, ev);
	if (p == NULL) {
		a->record->cordoned_at = was;
		return;
	}
	p->cordoned_at = was;
	a->queue_changed = true;
	reply_agent(h, ev, who, a, op->number);
	hub_notice(h, on ? SL("agent.cordoned") : SL("agent.uncordoned"), a,
	    none, none, op->number);
}

/* It stays until the store knows that it is gone; meanwhile nobody sees it
 * and nothing more is sent to it. */
void
hub_expel_agent(struct hub *h, const struct event *ev, const struct access *who)
{
	struct agent *a = hub_pick_agent(h, ev, who, ev->request.id);

	if (a == NULL)
		return;
	a->record->removed_at = h->wall;
	hub_abandon_commands(h, a);
	struct op *op = store_agent(h, a, ev, who, SL("agent.remove"));
	if (op == NULL)
		return;
	hub_pend(h, op->number, PENDING_REMOVAL, a->id, ev);
	hub_cut_agent(h, a, SL("removed"));
	hub_agent_relabelled(h, a);
	struct reply *r = hub_reply(h, ev, who, op->number);
	if (r != NULL)
		r->status = 204;
}

/* Joining -------------------------------------------------------------------
 */

static struct agent *
new_keyed_agent(
    struct hub *h, const struct request *q, const struct token_record *token)
{
	struct agent_record rec = {
		.id = hub_make_id(h, SL("agt_")),
		.cluster_id = hub_make_uuid(h),
		.name = q->name,
		.token_id = token->id,
		.has_key = true,
		.install_id = q->install_id,
		.workspace_id = token->workspace_id,
		.created_at = h->wall,
	};

	memcpy(rec.public_key, q->public_key, KEY_LEN);
	return h->out->err == 0 ? hub_add_agent(h, &rec) : NULL;
}

void
hub_join_agent(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	const struct slice key = { q->public_key, KEY_LEN };
	struct agent *a = map_get(&h->by_key, key);
	bool again = a != NULL;

	if (!hub_name_ok(q->name)) {
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("name"),
		    SL("name must be 1 to 255 bytes without control "
		       "characters"));
		return;
	}
	if (who->token == NULL) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    none, SL("joining takes a token, not a login"));
		return;
	}
	if (a == NULL)
		a = new_keyed_agent(h, q, who->token->record);
	if (a == NULL) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("the controller takes no more agents"));
		return;
	}
	if (!again)
		hub_judge_pools(h, a);
	const struct agent_record *kept =
	    clone_in(&h->out->arena, CLONE_AGENT, a->record);
	struct registered *j = arena_alloc(&h->out->arena, sizeof(*j));
	struct op *op =
	    kept == NULL || j == NULL ? NULL : hub_store(h, OP_PUT_AGENT);
	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->agent = kept;
	op->audit = hub_audit(op->agent->token_id, SL("agent.join"),
	    op->agent->id, ev, q->credential.remote);
	hub_pend(h, op->number, PENDING_AGENT, a->id, ev);
	struct reply *r = hub_reply(h, ev, who, op->number);
	if (r == NULL)
		return;
	*j = (struct registered){ .cluster_id = op->agent->cluster_id,
		.agent_id = op->agent->id,
		.name = op->agent->name,
		.workspace_id = op->agent->workspace_id,
		.at = h->wall,
		.again = again,
		.native = true,
		.incarnation = h->incarnation };
	r->joined = j;
	r->status = again ? 200 : 201;
}
