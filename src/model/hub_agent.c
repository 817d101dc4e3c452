/*
 * Agents: who they are, and whether they are there.
 *
 * An agent_id belongs to the token that first registered it, or to the key
 * that was made at join.  The newest connection wins.  A link that breaks
 * leaves the agent `reconnecting` for a grace; a goodbye skips it.
 */
#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_signed.h"
#include "model/hub_state.h"
#include "model/hub_tunnel.h"

enum { SORTED_MIN = 64 };

/* The tables -------------------------------------------------------------- */

static size_t
sorted_place(const struct hub *h, struct slice id)
{
	size_t low = 0, high = h->agents.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (slice_cmp(h->sorted[mid]->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
sorted_room(struct hub *h)
{
	if (h->agents.count < h->sorted_room)
		return 0;
	size_t want = h->sorted_room == 0 ? SORTED_MIN : h->sorted_room * 2;
	struct agent **wider = alloc_resize(h->sorted, want * sizeof(*wider));
	if (wider == NULL)
		return ERR_NOMEM;
	h->sorted = wider;
	h->sorted_room = want;
	return 0;
}

static void
free_agent(struct agent *a)
{
	struct session *s = &a->session;

	hub_unkeep(&s->remote);
	hub_unkeep(&s->session_id);
	hub_unkeep(&s->policy_verbs);
	hub_unkeep(&s->policy_hash);
	hub_unkeep(&s->tunnel_status);
	hub_unkeep(&s->metadata_json);
	hub_unkeep(&s->type);
	hub_unkeep(&s->version);
	list_remove(&a->queue_news);
	alloc_free(a->paces);
	alloc_free(a->record);
	alloc_free(a);
}

static struct slice
key_of(const struct agent *a)
{
	return (struct slice){ a->key, KEY_LEN };
}

static int
enter(struct hub *h, struct agent *a)
{
	if (sorted_room(h) != 0)
		return ERR_NOMEM;
	size_t at = sorted_place(h, a->id);
	size_t behind = h->agents.count - at;
	int err = map_put(&h->clusters, a->cluster_id, a);
	if (err != 0)
		return err;
	err = map_put(&h->agents, a->id, a);
	if (err == 0 && a->record->has_key) {
		err = map_put(&h->by_key, key_of(a), a);
		if (err != 0)
			map_del(&h->agents, a->id);
	}
	if (err != 0) {
		map_del(&h->clusters, a->cluster_id);
		return err;
	}
	memmove(
	    &h->sorted[at + 1], &h->sorted[at], behind * sizeof(h->sorted[0]));
	h->sorted[at] = a;
	return 0;
}

struct agent *
hub_add_agent(struct hub *h, const struct agent_record *r)
{
	struct agent *a = alloc_new(sizeof(*a) + r->id.len + r->cluster_id.len);
	uint8_t *text = (uint8_t *)(a + 1);

	if (a == NULL)
		return NULL;
	a->id = (struct slice){ text, r->id.len };
	memcpy(text, r->id.ptr, r->id.len);
	text += r->id.len;
	a->cluster_id = (struct slice){ text, r->cluster_id.len };
	if (r->cluster_id.len > 0)
		memcpy(text, r->cluster_id.ptr, r->cluster_id.len);
	for (size_t i = 0; i < 3; i++)
		list_init(&a->waiting[i]);
	list_init(&a->active);
	list_init(&a->ending);
	list_init(&a->queue_news);
	list_init(&a->stop.receipts);
	list_init(&a->stop.sweep);
	memcpy(a->key, r->public_key, KEY_LEN);
	a->presence = a->shown = PRESENCE_OFFLINE;
	a->why = SL("never_connected");
	a->since = r->created_at;
	a->record = clone_new(CLONE_AGENT, r);
	if (a->record == NULL || enter(h, a) != 0) {
		free_agent(a);
		return NULL;
	}
	return a;
}

static void
drop_commands(struct hub *h, struct list *l)
{
	while (!list_empty(l))
		hub_drop_command(h, LIST_OF(l->next, struct command, link));
}

void
hub_remove_agent(struct hub *h, struct agent *a)
{
	size_t at = sorted_place(h, a->id);

	for (size_t i = 0; i < 3; i++)
		drop_commands(h, &a->waiting[i]);
	drop_commands(h, &a->active);
	drop_commands(h, &a->ending);
	hub_stop_forget(h, a);
	hub_free_figures(h, a);
	hub_drop_from_pools(h, a);
	if (a->link != NULL)
		a->link->agent = NULL;
	map_del(&h->agents, a->id);
	map_del(&h->clusters, a->cluster_id);
	if (a->record->has_key)
		map_del(&h->by_key, key_of(a));
	memmove(&h->sorted[at], &h->sorted[at + 1],
	    (h->agents.count - at) * sizeof(h->sorted[0]));
	heap_drop(&h->timers, &a->timer);
	size_t pos = 0;
	for (struct link *l; (l = map_next(&h->links, &pos)) != NULL;) {
		if (l->keyed == a)
			l->keyed = NULL;
	}
	free_agent(a);
}

/* Links and their history -------------------------------------------------- */

void
hub_arm_agent(struct hub *h, struct agent *a, msec due)
{
	if (heap_set(&h->timers, &a->timer, due) != 0)
		h->out->err = ERR_NOMEM;
}

static void
store_link(struct hub *h, enum op_verb verb, const struct connection_record *r)
{
	const struct connection_record *kept =
	    clone_in(&h->out->arena, CLONE_LINK, r);
	struct op *op = kept == NULL ? NULL : hub_store(h, verb);

	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->lazy = true;
	op->link = kept;
}

static void
close_history(struct hub *h, struct agent *a, struct slice why)
{
	const struct connection_record r = { .id = a->link_id,
		.agent_id = a->id,
		.closed_at = h->wall,
		.why = why };

	if (a->link_id == 0)
		return;
	a->link_id = 0;
	store_link(h, OP_LINK_CLOSED, &r);
}

static void
open_history(struct hub *h, struct agent *a)
{
	const struct connection_record r = { .id = ++h->next_link,
		.agent_id = a->id,
		.session_id = a->session.session_id,
		.remote = a->session.remote,
		.dialect = a->session.dialect,
		.opened_at = h->wall };

	a->link_id = r.id;
	store_link(h, OP_LINK_OPENED, &r);
}

bool
hub_is_ours(const struct agent *a)
{
	return a->record->has_key || a->record->install_id.len > 0 ||
	    slice_eq(a->session.dialect, SL("muster"));
}

void
hub_agent_timer(struct hub *h, struct agent *a)
{
	if (a->link != NULL) {
		a->late = true;
		hub_settle(h, a, SL("heartbeat_late"));
		return;
	}
	if (a->http)
		close_history(h, a, SL("silent"));
	else if (!hub_is_ours(a))
		hub_forsake_commands(h, a);
	hub_move_agent(
	    h, a, PRESENCE_OFFLINE, a->http ? SL("silent") : SL("grace_over"));
	a->http = false;
}

void
hub_on_gone(struct hub *h, const struct event *ev)
{
	struct link *l = hub_find_link(h, ev->peer);
	struct watch *w = hub_find_watch(h, ev->peer);
	struct agent *a = l == NULL ? NULL : l->agent;
	bool current = a != NULL && a->link == l;

	if (w != NULL)
		hub_drop_watch(h, w);
	if (l == NULL)
		return;
	struct slice closed = l->closed;
	hub_drop_link(h, l);
	if (!current)
		return;
	/* One that could not be stored is to come back at once; who was sent
	 * away otherwise is not waited for. */
	bool goodbye = closed.ptr != NULL
	    ? !slice_eq(closed, SL("store_failed"))
	    : ev->gone.why == 0;
	struct slice why = closed.ptr != NULL ? closed
	    : goodbye                         ? SL("goodbye")
	    : ev->gone.why == ERR_STOPPED     ? SL("controller_stopped")
					  : slice_from(err_name(ev->gone.why));
	close_history(h, a, why);
	hub_forsake_commands(h, a);
	a->native = a->console = a->told = a->verbs = false;
	hub_stop_away(h, a);
	hub_forget_agent(h, a);
	hub_move_agent(
	    h, a, goodbye ? PRESENCE_OFFLINE : PRESENCE_RECONNECTING, why);
	if (goodbye)
		heap_drop(&h->timers, &a->timer);
	else
		hub_arm_agent(h, a, h->now + h->config.grace);
}

/* Registration ---------------------------------------------------------------
 */

bool
hub_id_ok(struct slice id)
{
	if (id.len < 1 || id.len > 128)
		return false;
	for (size_t i = 0; i < id.len; i++) {
		uint8_t c = id.ptr[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '.' || c == '_' ||
		    c == ':' || c == '-';
		if (!ok)
			return false;
	}
	return true;
}

bool
hub_name_ok(struct slice name)
{
	if (name.len < 1 || name.len > 255)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] < 0x20 || name.ptr[i] == 0x7f)
			return false;
	}
	return true;
}

/* Whose an agent is that this link registers: a token's, or, by a JWT, a
 * user's. */
static struct slice
owner(const struct link *l)
{
	if (l->token != NULL)
		return l->token->record->id;
	if (l->secret != NULL)
		return l->secret->record->id;
	if (l->watch != NULL && l->watch->user != NULL)
		return l->watch->user->id;
	return (struct slice){ 0 };
}

bool
hub_owns(const struct link *l, const struct agent *a)
{
	if (l->keyed != NULL || a->record->has_key)
		return l->keyed == a;
	/* Who holds its secret now is the same, whoever did before. */
	if (l->secret != NULL)
		return hub_is_signed(a) &&
		    a->record->workspace_id == l->secret->record->workspace_id;
	return slice_eq(owner(l), a->record->token_id);
}

static bool
may_register(struct hub *h, struct link *l, const struct event *ev,
    const struct agent *a)
{
	const struct registration *r = &ev->registration;
	const struct slice none = { 0 };

	if ((l->scopes & SCOPE_CLUSTER_REGISTER) == 0) {
		hub_send_error(h, ev, ERR_DENIED, SL("NOT_PERMITTED"), none,
		    SL("this token lacks the scope cluster:register"));
	} else if (!hub_id_ok(r->agent_id)) {
		hub_send_error(h, ev, ERR_INVALID, SL("INVALID_MESSAGE"),
		    SL("agent_id"),
		    SL("agent_id must be 1 to 128 of A-Z a-z 0-9 . _ : -"));
	} else if (!hub_name_ok(r->name)) {
		hub_send_error(h, ev, ERR_INVALID, SL("INVALID_MESSAGE"),
		    SL("name"),
		    SL("name must be 1 to 255 bytes without control "
		       "characters"));
	} else if ((a != NULL && !hub_owns(l, a)) ||
	    (a == NULL && owner(l).ptr == NULL) ||
	    (l->agent != NULL && l->agent != a)) {
		hub_send_error(h, ev, ERR_EXISTS, SL("AGENT_ID_TAKEN"),
		    SL("agent_id"),
		    SL("this agent_id belongs to another credential"));
	} else {
		return true;
	}
	return false;
}

/* Another host may have taken the token along with the id. */
static bool
refuse_takeover(
    struct hub *h, struct link *l, struct agent *a, const struct event *ev)
{
	struct link *old = a->link;

	if (old == NULL || old == l || slice_eq(old->address, l->address))
		return false;
	bool refuse = h->config.refuse_takeover && l->keyed == NULL;
	struct op *op = hub_store(h, OP_AUDIT);
	if (op != NULL) {
		struct slice id, remote;
		if (arena_copy(&h->out->arena, a->id, &id) != 0 ||
		    arena_copy(&h->out->arena, l->remote, &remote) != 0) {
			h->out->err = ERR_NOMEM;
			return true;
		}
		op->audit = hub_audit(id, SL("agent.takeover"), id, ev, remote);
		op->audit.result = refuse ? SL("denied") : SL("ok");
	}
	if (refuse)
		hub_send_error(h, ev, ERR_EXISTS, SL("AGENT_LIVE"),
		    SL("agent_id"),
		    SL("this agent is connected from another address"));
	return refuse;
}

static bool
same_words(const struct agent_record *a, const struct agent_record *b)
{
	return slice_eq(a->name, b->name) &&
	    slice_eq(a->info_json, b->info_json) &&
	    slice_eq(a->labels_json, b->labels_json) &&
	    slice_eq(a->install_id, b->install_id);
}

/* The record as this registration leaves it. */
static struct agent_record
updated(struct hub *h, const struct link *l, const struct agent *a,
    const struct registration *r)
{
	struct agent_record rec = { 0 };

	if (a != NULL) {
		rec = *a->record;
	} else {
		rec.id = r->agent_id;
		rec.cluster_id = hub_make_uuid(h);
		rec.token_id = owner(l);
		rec.workspace_id = l->token != NULL
		    ? l->token->record->workspace_id
		    : l->secret != NULL ? l->secret->record->workspace_id
					: l->watch->user->workspace_id;
		rec.created_at = h->wall;
	}
	rec.name = r->name;
	rec.info_json = r->info_json;
	/* Those of joining stay until others are said. */
	if (r->labels_json.ptr != NULL)
		rec.labels_json = r->labels_json;
	if (r->native.install_id.ptr != NULL)
		rec.install_id = r->native.install_id;
	if (rec.sequence < r->native.sequence)
		rec.sequence = r->native.sequence;
	rec.registered_at = h->wall;
	rec.seen_at = h->wall;
	return rec;
}

/* Write the record down.  Returns the op that the answer waits for: 0 when
 * nothing but times changed, for then the row may follow when it likes. */
static uint64_t
store_agent(struct hub *h, struct agent *a, const struct event *ev, bool wait)
{
	const struct agent_record *kept =
	    clone_in(&h->out->arena, CLONE_AGENT, a->record);
	struct op *op = kept == NULL ? NULL : hub_store(h, OP_PUT_AGENT);

	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		return 0;
	}
	op->agent = kept;
	op->lazy = !wait;
	if (!wait)
		return 0;
	if (!a->stored)
		op->audit = hub_audit(op->agent->token_id, SL("agent.register"),
		    op->agent->id, NULL, (struct slice){ 0 });
	hub_pend(h, op->number, PENDING_AGENT, a->id, ev);
	return op->number;
}

static void
answer_register(struct hub *h, const struct agent *a, const struct event *ev,
    bool again, uint64_t after)
{
	struct event *re =
	    hub_send(h, ev->peer, EVENT_REGISTERED, ev->request_id, after);
	struct agent_record *r;

	if (re == NULL)
		return;
	r = clone_in(&h->out->arena, CLONE_AGENT, a->record);
	if (r == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	re->registered = (struct registered){ .cluster_id = r->cluster_id,
		.agent_id = r->id,
		.name = r->name,
		.workspace_id = r->workspace_id,
		.at = r->registered_at,
		.again = again,
		.native = ev->registration.native.present,
		.stop_epoch = h->stop.epoch,
		.incarnation = h->incarnation };
	if (!re->registered.native || h->stop.epoch == 0)
		return;
	struct stop_order *stop = arena_alloc(&h->out->arena, sizeof(*stop));
	if (stop == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	hub_stop_order(h, a, stop);
	re->registered.stop = stop;
}

static int
keep_session(
    struct agent *a, const struct link *l, const struct native_hello *n)
{
	struct session *s = &a->session;

	s->dialect = l->http ? SL("cluster-http")
	    : l->console     ? SL("console")
	    : l->secret      ? SL("signed")
	    : n->present     ? SL("muster")
			     : SL("cluster");
	int err = hub_keep(&s->remote, l->remote);
	if (err == 0)
		err = hub_keep(&s->session_id, n->session_id);
	if (err == 0)
		err = hub_keep(&s->policy_verbs, n->policy_verbs);
	if (err == 0)
		err = hub_keep(&s->policy_hash, n->policy_hash);
	return err;
}

static void
attach(struct hub *h, struct link *l, struct agent *a, const struct event *ev)
{
	const struct native_hello *n = &ev->registration.native;

	if (a->link != NULL && a->link != l) {
		hub_close(
		    h, a->link->peer, 1000, SL("replaced_by_new_connection"));
		a->link->agent = NULL;
	}
	bool fresh = a->link != l;
	if (fresh && a->link_id != 0)
		close_history(h, a, SL("replaced"));
	a->link = l;
	l->agent = a;
	a->http = false;
	a->native = n->present && n->has_yamux && n->has_exec;
	a->console = l->console;
	if (n->present && n->has_yamux)
		l->speech = TUNNEL_STREAMS;
	else if (l->speech == TUNNEL_MUTE && ev->registration.proxies)
		l->speech = TUNNEL_JSON;
	a->verbs = l->secret != NULL;
	a->told = a->console || a->verbs;
	if (keep_session(a, l, n) != 0 ||
	    hub_keep(&a->session.type, ev->registration.type) != 0 ||
	    hub_keep(&a->session.version, ev->registration.version) != 0)
		h->out->err = ERR_NOMEM;
	if (fresh) {
		a->connected_at = h->wall;
		open_history(h, a);
	}
}

void
hub_attach_http(struct hub *h, struct link *l, struct agent *a)
{
	const struct native_hello none = { 0 };

	if (a->link != NULL)
		return;
	if (!a->http) {
		if (keep_session(a, l, &none) != 0)
			h->out->err = ERR_NOMEM;
		a->connected_at = h->wall;
		open_history(h, a);
	}
	bool fresh = !a->http;
	a->http = true;
	if (fresh)
		hub_stop_meet(h, a, NULL);
}

/* The agent with what it says of itself now; NULL and answered when there is
 * no room. */
static struct agent *
write_down(struct hub *h, struct agent *a, const struct agent_record *rec,
    const struct event *ev)
{
	if (a == NULL) {
		a = h->out->err == 0 ? hub_add_agent(h, rec) : NULL;
		if (a == NULL)
			hub_send_error(h, ev, ERR_FULL, SL("OVERLOADED"),
			    (struct slice){ 0 },
			    SL("the controller takes no more agents"));
		return a;
	}
	struct agent_record *kept = clone_new(CLONE_AGENT, rec);
	if (kept == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	alloc_free(a->record);
	a->record = kept;
	return a;
}

static void
take_in(struct hub *h, struct link *l, struct agent *a, const struct event *ev)
{
	const struct registration *r = &ev->registration;

	if (!may_register(h, l, ev, a))
		return;
	if (a != NULL && !l->http && refuse_takeover(h, l, a, ev))
		return;
	struct agent_record rec = updated(h, l, a, r);
	bool again = a != NULL && a->record->registered_at != 0;
	bool relabelled =
	    a == NULL || !slice_eq(a->record->labels_json, rec.labels_json);
	bool wait = a == NULL || !a->stored || a->unsaved || a->joining != 0 ||
	    !same_words(a->record, &rec) || hub_doubts(h, a, &r->native);
	a = write_down(h, a, &rec, ev);
	if (a == NULL)
		return;
	uint64_t after = store_agent(h, a, ev, wait);
	a->joining = after;
	if (l->http)
		hub_attach_http(h, l, a);
	else
		attach(h, l, a, ev);
	a->claim = a->blamed = PRESENCE_JOINING;
	a->ill = (struct slice){ 0 };
	hub_look_at_clock(a, ev);
	hub_heard_from(h, a);
	if (!l->http)
		hub_stop_meet(h, a, &r->native);
	if (relabelled)
		hub_agent_relabelled(h, a);
	else
		hub_forget_agent(h, a);
	hub_cut_stopped(h, a);
	/* It hears in the answer that it may go on. */
	a->stop.lifting =
	    a->native && r->native.stop.stopped && a->stop.covers == 0;
	/* What the disk holds up is said at once as well: early is safe. */
	if (!a->native || (after != 0 && a->stop.covers > 0))
		hub_tell_stop(h, a);
	answer_register(h, a, ev, again, after);
	if (a->native)
		a->stop.sent = h->stop.epoch;
	hub_settle(h, a, SL("registered"));
	if (l->http)
		return;
	if (a->native)
		hub_resume_commands(h, a, &r->native, after);
	else
		hub_forsake_commands(h, a);
	hub_dispatch(h, a);
}

void
hub_on_register(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = map_get(&h->agents, ev->registration.agent_id);
	struct event full = *ev;

	if (l->secret != NULL)
		full.registration =
		    hub_signed_registration(a, &ev->registration);
	take_in(h, l, a, &full);
}
