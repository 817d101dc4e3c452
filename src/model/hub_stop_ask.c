/*
 * Stops as operators see them: raised, lifted, listed, shown.  Whoever asks
 * for one hears "accepted" when its epoch is on disk; it is in force long
 * before that.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_stop.h"

enum { LIST_DEFAULT = 100, LIST_MAX = 1000, KEY_MAX = 255, DRY_SHOWN = 20 };

static const struct slice none;

/* Showing ------------------------------------------------------------------ */

/* A stop of one agent is seen by who sees that; others by everybody. */
static bool
may_see(struct hub *h, const struct access *who, const struct stop *s)
{
	const struct stop_record *r = s->record;

	if (r->workspace_id != 0 && r->workspace_id != who->user->workspace_id)
		return false;
	if (r->scope != STOP_AGENT || who->user->selector.len == 0)
		return true;
	const struct agent *a = map_get(&h->agents, r->target);
	return a != NULL && hub_may_see(h, who, a);
}

/* The view of a stop among n, which stand by epoch, the newest first. */
static struct stop_view *
find_view(struct stop_view *views, size_t n, uint64_t epoch)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (views[mid].record->epoch > epoch)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n && views[low].record->epoch == epoch ? &views[low]
							    : NULL;
}

static void
count_agent(const struct agent *a, struct stop_view *views, size_t n)
{
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		const struct receipt *r = LIST_OF(l, struct receipt, link);
		struct stop_view *v =
		    find_view(views, n, r->stop->record->epoch);
		if (v == NULL)
			continue;
		v->counts[r->kind]++;
		v->left += r->report.left > 0;
	}
}

/* Counts are of those agents that the asker sees: one walk over them for all
 * that is shown, for a stop may be waiting behind it. */
static void
recount(
    struct hub *h, const struct access *who, struct stop_view *views, size_t n)
{
	if (who == NULL || who->user->selector.len == 0 || h->out->err != 0)
		return;
	for (size_t i = 0; i < n; i++) {
		memset(views[i].counts, 0, sizeof(views[i].counts));
		views[i].left = 0;
	}
	for (size_t i = 0; i < h->agents.count; i++) {
		const struct agent *a = h->sorted[i];
		if (!list_empty(&a->stop.receipts) && hub_may_see(h, who, a))
			count_agent(a, views, n);
	}
}

static void
view(struct hub *h, const struct stop *s, struct stop_view *v)
{
	v->record = clone_in(&h->out->arena, CLONE_STOP, s->record);
	if (v->record == NULL)
		h->out->err = ERR_NOMEM;
	memcpy(v->counts, s->counts, sizeof(v->counts));
	v->left = s->left;
}

static struct reply *
reply_stop(struct hub *h, const struct event *ev, const struct access *who,
    const struct stop *s)
{
	struct reply *re = hub_reply(h, ev, who, 0);
	struct stop_view *v = arena_alloc(&h->out->arena, sizeof(*v));

	if (re == NULL || v == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	view(h, s, v);
	recount(h, who, v, 1);
	re->stops = v;
	re->stop_count = 1;
	re->stop_epoch = h->stop.epoch;
	return re;
}

static void
reply_not_found(struct hub *h, const struct event *ev)
{
	hub_reply_error(h, ev, ERR_NOT_FOUND, 404, SL("STOP_NOT_FOUND"), none,
	    SL("no such stop stands; `muster stop ls` lists those that do"));
}

static size_t
page(const struct request *q)
{
	size_t limit = q->limit == 0 ? LIST_DEFAULT : q->limit;

	return limit > LIST_MAX ? LIST_MAX : limit;
}

void
hub_list_stops(struct hub *h, const struct event *ev, const struct access *who)
{
	size_t limit = page(&ev->request);
	struct reply *re = hub_reply(h, ev, who, 0);
	struct stop_view *all =
	    arena_array(&h->out->arena, limit, sizeof(*all));
	uint64_t below = UINT64_MAX;

	if (re == NULL || all == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	if (ev->request.cursor.len > 0 &&
	    slice_u64(ev->request.cursor, INT64_MAX, &below) != 0)
		below = 0;
	re->stops = all;
	re->stop_epoch = h->stop.epoch;
	for (struct list *l = h->stop.all.prev;
	     l != &h->stop.all && h->out->err == 0; l = l->prev) {
		const struct stop *s = LIST_OF(l, struct stop, link);
		if (s->record->epoch >= below || !may_see(h, who, s))
			continue;
		if (re->stop_count == limit) {
			re->cursor =
			    hub_decimal(h, all[limit - 1].record->epoch);
			break;
		}
		view(h, s, &all[re->stop_count++]);
	}
	recount(h, who, all, re->stop_count);
}

static void
put_receipts(struct hub *h, const struct event *ev, const struct access *who,
    const struct stop *s, struct reply *re)
{
	size_t limit = page(&ev->request), n = 0;
	struct receipt_record *all =
	    arena_array(&h->out->arena, limit, sizeof(*all));
	size_t i = hub_first_after(h, ev->request.cursor);

	if (all == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	re->receipts = all;
	for (; i < h->agents.count && h->out->err == 0; i++) {
		const struct agent *a = h->sorted[i];
		const struct receipt *r = hub_find_receipt(a, s);
		if (r == NULL || !hub_may_see(h, who, a))
			continue;
		if (n == limit) {
			re->cursor = all[n - 1].agent_id;
			break;
		}
		const struct receipt_record rec = hub_receipt_record(r, a);
		const struct receipt_record *kept =
		    clone_in(&h->out->arena, CLONE_RECEIPT, &rec);
		if (kept == NULL)
			h->out->err = ERR_NOMEM;
		else
			all[n++] = *kept;
	}
	re->receipt_count = n;
}

void
hub_show_stop(struct hub *h, const struct event *ev, const struct access *who)
{
	uint64_t epoch = 0;
	const struct stop *s = slice_u64(ev->request.id, INT64_MAX, &epoch) == 0
	    ? hub_find_stop(h, epoch)
	    : NULL;

	if (s == NULL || !may_see(h, who, s)) {
		reply_not_found(h, ev);
		return;
	}
	struct reply *re = reply_stop(h, ev, who, s);
	if (re != NULL)
		put_receipts(h, ev, who, s, re);
}

/* Answers ------------------------------------------------------------------ */

/* Once the epoch as it is now is on disk. */
static void
answer_when_kept(struct hub *h, const struct event *ev,
    const struct access *who, const struct stop *s, bool again)
{
	if (h->stop.written >= h->stop.epoch) {
		struct reply *re = reply_stop(h, ev, who, s);
		if (re != NULL)
			re->again = again;
		return;
	}
	struct stop_ask *ask = alloc_new(sizeof(*ask) + ev->request_id.len + 1);
	if (ask == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	*ask = (struct stop_ask){ .epoch = h->stop.epoch,
		.stop = s->record->epoch,
		.peer = ev->peer,
		.op = ev->request.op,
		.due = h->now + STOP_ACCEPT };
	if (ev->request_id.len > 0)
		memcpy(ask + 1, ev->request_id.ptr, ev->request_id.len);
	ask->request_id =
	    (struct slice){ (const uint8_t *)(ask + 1), ev->request_id.len };
	list_push(&h->stop.asks, &ask->link);
}

static void
answer(struct hub *h, struct stop_ask *ask, int err)
{
	struct event asked = { .kind = EVENT_REQUEST,
		.peer = ask->peer,
		.request_id = ask->request_id };
	const struct stop *s = hub_find_stop(h, ask->stop);

	asked.request.op = ask->op;
	if (err == 0 && s != NULL)
		reply_stop(h, &asked, NULL, s);
	else
		hub_reply_error(h, &asked, err, err == ERR_NO_SPACE ? 507 : 503,
		    SL("STOP_NOT_DURABLE"), none,
		    SL("it is in force and was sent to the agents, but the "
		       "controller's disk did not take it: a restart of the "
		       "controller may forget it"));
}

/* All of them or none: without memory nobody hears, and they are answered
 * when they have waited long enough. */
static void
answer_those(struct hub *h, uint64_t epoch, msec due, int err)
{
	struct list *l;

	for (l = h->stop.asks.next; l != &h->stop.asks; l = l->next) {
		struct stop_ask *ask = LIST_OF(l, struct stop_ask, link);
		if (ask->epoch <= epoch && ask->due <= due)
			answer(h, ask, err);
	}
	bool failed = h->out->err != 0;
	for (l = h->stop.asks.next; l != &h->stop.asks;) {
		struct stop_ask *ask = LIST_OF(l, struct stop_ask, link);
		l = l->next;
		if (ask->epoch > epoch || ask->due > due)
			continue;
		if (failed) {
			ask->due = h->now + STOP_RETRY;
			continue;
		}
		list_remove(&ask->link);
		alloc_free(ask);
	}
}

void
hub_answer_stops(struct hub *h, uint64_t epoch, int err)
{
	answer_those(h, epoch, INT64_MAX, err);
}

void
hub_answer_late(struct hub *h)
{
	answer_those(h, UINT64_MAX, h->now, ERR_TIMEOUT);
}

/* Asking ------------------------------------------------------------------- */

static bool
selector_ok(struct slice text)
{
	struct selector s;

	return text.len > 0 && text.len <= STOP_SELECTOR_MAX &&
	    selector_parse(text, &s) == 0 && s.count > 0;
}

/* The scope as this user may have it.  `all` of one with a selector is all
 * that they see. */
static bool
read_scope(struct hub *h, const struct event *ev, const struct access *who,
    struct stop_record *r)
{
	const struct request *q = &ev->request;
	bool bounded = who->user->selector.len > 0;
	struct agent *a;

	r->workspace_id = who->user->workspace_id;
	r->scope = q->scope;
	switch (q->scope) {
	case STOP_ALL:
		if (bounded) {
			r->scope = STOP_SELECTOR;
			r->bound = who->user->selector;
		}
		return true;
	case STOP_SELECTOR:
		r->target = q->target;
		if (bounded)
			r->bound = who->user->selector;
		if (selector_ok(q->target) && r->bound.len <= STOP_SELECTOR_MAX)
			return true;
		hub_reply_error(h, ev, ERR_INVALID, 400, SL("INVALID_REQUEST"),
		    SL("selector"),
		    SL("a selector is key=value, key!=value, key or !key, "
		       "joined by commas, of 512 bytes at most"));
		return false;
	case STOP_AGENT:
		a = hub_pick_agent(h, ev, who, q->target);
		if (a != NULL)
			r->target = a->id;
		return a != NULL;
	}
	return false;
}

static struct stop *
find_key(const struct hub *h, const struct event *ev, const struct access *who)
{
	if (ev->request.request_key.len == 0)
		return NULL;
	for (struct list *l = h->stop.all.prev; l != &h->stop.all;
	     l = l->prev) {
		struct stop *s = LIST_OF(l, struct stop, link);
		if (slice_eq(s->record->request_key, ev->request.request_key) &&
		    slice_eq(s->record->actor, who->user->id))
			return s;
	}
	return NULL;
}

/* Whom it would hit, and nothing more. */
static void
try_out(struct hub *h, const struct event *ev, const struct access *who,
    struct stop_record *r)
{
	struct stop s = { .record = r };
	struct reply *re = hub_reply(h, ev, who, 0);
	struct stop_view *v = arena_alloc(&h->out->arena, sizeof(*v));
	struct receipt_record *shown =
	    arena_array(&h->out->arena, DRY_SHOWN, sizeof(*shown));

	if (re == NULL || v == NULL || shown == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	v->record = clone_in(&h->out->arena, CLONE_STOP, r);
	if (v->record == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	re->stops = v;
	re->stop_count = 1;
	re->receipts = shown;
	re->stop_epoch = h->stop.epoch;
	hub_stop_aim(&s);
	for (size_t i = 0; i < h->agents.count && h->out->err == 0; i++) {
		const struct agent *a = h->sorted[i];
		if (!hub_stop_covers(h, &s, a))
			continue;
		enum receipt_kind kind = hub_receipt_kind(a);
		v->counts[kind]++;
		if (re->receipt_count == DRY_SHOWN)
			continue;
		struct receipt_record *to = &shown[re->receipt_count++];
		to->kind = kind;
		if (arena_copy(&h->out->arena, a->id, &to->agent_id) != 0 ||
		    arena_copy(&h->out->arena, a->record->name, &to->name) != 0)
			h->out->err = ERR_NOMEM;
	}
}

/* The same stands: the stricter of both, and everybody is told again. */
static void
raise_again(struct hub *h, const struct event *ev, const struct access *who,
    struct stop *s)
{
	if (!ev->request.keep_tunnels)
		s->record->keep_tunnels = false;
	hub_repeat_stop(h, s, ev);
	answer_when_kept(h, ev, who, s, true);
}

void
hub_raise_stop(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct stop_record r = { .keep_tunnels = q->keep_tunnels,
		.reason = q->reason,
		.actor = who->user->id,
		.at = h->wall,
		.request_key = q->request_key };
	struct stop *s = find_key(h, ev, who);

	if (s != NULL) {
		answer_when_kept(h, ev, who, s, true);
		return;
	}
	if (q->reason.len > STOP_REASON_MAX || q->request_key.len > KEY_MAX) {
		hub_reply_error(h, ev, ERR_TOO_BIG, 400, SL("INVALID_REQUEST"),
		    SL("reason"),
		    SL("a reason has 1,000 bytes at most, a key 255"));
		return;
	}
	if (!read_scope(h, ev, who, &r))
		return;
	if (q->dry_run) {
		try_out(h, ev, who, &r);
		return;
	}
	s = hub_find_scope(h, &r);
	if (s != NULL) {
		raise_again(h, ev, who, s);
		return;
	}
	if (r.scope == STOP_SELECTOR && h->stop.broad_count >= STOPS_BROAD) {
		hub_reply_error(h, ev, ERR_FULL, 503, SL("OVERLOADED"), none,
		    SL("64 stops of many agents stand; stop all, or resume "
		       "some"));
		return;
	}
	r.epoch = h->stop.epoch + 1;
	s = hub_add_stop(h, &r);
	if (s == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	hub_next_epoch(h);
	hub_enforce_stop(h, s, ev);
	answer_when_kept(h, ev, who, s, false);
}

bool
hub_may_lift(const struct access *who, const struct stop *s)
{
	const struct stop_record *r = s->record;
	struct slice own = who->user->selector;

	if (r->scope == STOP_ALL)
		return who->user->role == ROLE_ADMIN && own.len == 0;
	return r->scope == STOP_AGENT || own.len == 0 ||
	    slice_eq(r->bound, own);
}

static bool
may_lift(struct hub *h, const struct event *ev, const struct access *who,
    const struct stop *s)
{
	const struct stop_record *r = s->record;

	if (!hub_may_lift(who, s)) {
		hub_reply_error(h, ev, ERR_DENIED, 403, SL("NOT_PERMITTED"),
		    none,
		    r->scope == STOP_ALL
			? SL("only an admin may resume all")
			: SL("this stop covers more than you may see"));
		return false;
	}
	if (r->scope == STOP_ALL && h->stop.switched && stop_stands(s)) {
		hub_reply_error(h, ev, ERR_WRONG_STATE, 409,
		    SL("STOP_FILE_PRESENT"), none,
		    SL("the file STOP is in the controller's data directory; "
		       "remove it first"));
		return false;
	}
	return true;
}

/* The stop that is meant; NULL and answered when there is none. */
static struct stop *
find_meant(struct hub *h, const struct event *ev, const struct access *who)
{
	const struct request *q = &ev->request;
	struct stop_record like = { .epoch = 0 };
	struct stop *s;

	if (q->epoch != 0) {
		s = hub_find_stop(h, q->epoch);
	} else {
		if (!read_scope(h, ev, who, &like))
			return NULL;
		s = hub_find_scope(h, &like);
		like.workspace_id = 0;
		if (s == NULL && h->out->err == 0)
			s = hub_find_scope(h, &like);
	}
	if (s != NULL && may_see(h, who, s))
		return s;
	if (h->out->err == 0)
		reply_not_found(h, ev);
	return NULL;
}

void
hub_lift_stop(struct hub *h, const struct event *ev, const struct access *who)
{
	struct stop *s = find_meant(h, ev, who);

	if (s == NULL || !may_lift(h, ev, who, s))
		return;
	bool stood = stop_stands(s);
	if (stood)
		hub_lift(h, s, who->user->id, ev);
	if (h->out->err == 0)
		answer_when_kept(h, ev, who, s, !stood);
}

/* The host's file ---------------------------------------------------------- */

static struct stop_record
switch_record(struct slice text)
{
	return (struct stop_record){ .scope = STOP_ALL,
		.reason = text.len > 0
		    ? slice_first(text, STOP_REASON_MAX)
		    : SL("the file STOP in the controller's data directory"),
		.actor = SL("system") };
}

int
hub_load_switch(struct hub *h, struct slice text)
{
	struct stop_record r = switch_record(text);

	for (struct list *l = h->stop.broad.next; l != &h->stop.broad;
	     l = l->next) {
		const struct stop *s = LIST_OF(l, struct stop, wide);
		if (s->record->scope == STOP_ALL &&
		    s->record->workspace_id == 0)
			return 0;
	}
	r.epoch = h->stop.epoch + 1;
	struct stop *s = hub_add_stop(h, &r);
	if (s == NULL)
		return ERR_NOMEM;
	hub_next_epoch(h);
	s->unsaved = h->stop.unsaved = true;
	return 0;
}

void
hub_on_stop_switch(struct hub *h, const struct event *ev)
{
	struct stop_record r = switch_record(ev->stop.reason);

	h->stop.switched = ev->stop.stopped;
	if (!ev->stop.stopped || hub_find_scope(h, &r) != NULL)
		return;
	r.epoch = h->stop.epoch + 1;
	r.at = h->wall;
	struct stop *s = hub_add_stop(h, &r);
	if (s == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	hub_next_epoch(h);
	hub_enforce_stop(h, s, NULL);
}

void
hub_stop_stats(const struct hub *h, struct hub_stats *out)
{
	out->stop_epoch = h->stop.epoch;
	out->stops_standing = h->stop.standing.count;
	out->bytes += h->stop.receipts * sizeof(struct receipt);
	memset(out->stop_receipts, 0, sizeof(out->stop_receipts));
	for (struct list *l = h->stop.all.next; l != &h->stop.all;
	     l = l->next) {
		const struct stop *s = LIST_OF(l, struct stop, link);
		for (int k = 0; stop_stands(s) && k < RECEIPT_KINDS; k++)
			out->stop_receipts[k] += s->counts[k];
	}
}
