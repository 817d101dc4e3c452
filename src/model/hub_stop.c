/*
 * The emergency stop: what stands, whom it covers, and that both survive.
 * See hub_stop.h for the design.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_stop.h"
#include "model/hub_tunnel.h"

enum { ORDERS_AT_ONCE = 20000, SETTLED_AT_ONCE = 1000 };

static const struct slice none;

/* Life ---------------------------------------------------------------------
 */

void
hub_stop_init(struct hub *h)
{
	struct stops *st = &h->stop;

	list_init(&st->all);
	list_init(&st->broad);
	list_init(&st->asks);
	list_init(&st->sweep);
	map_init(&st->standing, (size_t)h->config.max_agents + STOPS_BROAD,
	    h->config.seed);
}

static void
free_stop(struct hub *h, struct stop *s)
{
	if (map_get(&h->stop.standing, s->key) == s)
		map_del(&h->stop.standing, s->key);
	if (!list_empty(&s->wide))
		h->stop.broad_count--;
	list_remove(&s->wide);
	list_remove(&s->link);
	hub_unkeep(&s->key);
	alloc_free(s->record);
	alloc_free(s);
}

/* After the agents, whose receipts point here. */
void
hub_stop_fini(struct hub *h)
{
	struct stops *st = &h->stop;

	while (!list_empty(&st->asks))
		alloc_free(LIST_OF(list_pop(&st->asks), struct stop_ask, link));
	while (!list_empty(&st->all))
		free_stop(h, LIST_OF(st->all.next, struct stop, link));
	map_fini(&st->standing);
}

/* Stops -------------------------------------------------------------------- */

static int
make_key(struct slice *key, const struct stop_record *r)
{
	const uint8_t nul = 0;
	const struct slice parts[] = {
		{ (const uint8_t *)&r->workspace_id, sizeof(r->workspace_id) },
		{ (const uint8_t *)&r->scope, sizeof(r->scope) },
		r->bound,
		{ &nul, 1 },
		r->target,
	};
	size_t n = 0;

	for (size_t i = 0; i < 5; i++)
		n += parts[i].len;
	uint8_t *text = alloc_new(n);
	if (text == NULL)
		return ERR_NOMEM;
	*key = (struct slice){ text, n };
	for (size_t i = 0; i < 5; i++) {
		if (parts[i].len > 0)
			memcpy(text, parts[i].ptr, parts[i].len);
		text += parts[i].len;
	}
	return 0;
}

void
hub_stop_aim(struct stop *s)
{
	const struct stop_record *r = s->record;

	if (r->scope == STOP_SELECTOR)
		s->blind = selector_parse(r->target, &s->selector) != 0 ||
		    selector_parse(r->bound, &s->bound) != 0;
}

static int
set_record(struct stop *s, const struct stop_record *r)
{
	struct stop_record *kept = clone_new(CLONE_STOP, r);

	if (kept == NULL)
		return ERR_NOMEM;
	alloc_free(s->record);
	s->record = kept;
	hub_stop_aim(s);
	return 0;
}

static void
enlist(struct hub *h, struct stop *s)
{
	struct list *at = &h->stop.all;

	while (at->prev != &h->stop.all &&
	    LIST_OF(at->prev, struct stop, link)->record->epoch >
		s->record->epoch)
		at = at->prev;
	list_insert_before(at, &s->link);
	if (!stop_stands(s)) {
		h->stop.lifted++;
		return;
	}
	if (s->record->scope != STOP_AGENT) {
		list_push(&h->stop.broad, &s->wide);
		h->stop.broad_count++;
	}
}

struct stop *
hub_add_stop(struct hub *h, const struct stop_record *r)
{
	struct stop *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	list_init(&s->link);
	list_init(&s->wide);
	if (set_record(s, r) != 0 || make_key(&s->key, r) != 0 ||
	    (stop_stands(s) && map_put(&h->stop.standing, s->key, s) != 0)) {
		free_stop(h, s);
		return NULL;
	}
	enlist(h, s);
	return s;
}

struct stop *
hub_find_stop(const struct hub *h, uint64_t epoch)
{
	for (struct list *l = h->stop.all.prev; l != &h->stop.all;
	     l = l->prev) {
		struct stop *s = LIST_OF(l, struct stop, link);
		if (s->record->epoch == epoch)
			return s;
	}
	return NULL;
}

struct stop *
hub_find_scope(struct hub *h, const struct stop_record *like)
{
	struct slice key;

	if (make_key(&key, like) != 0) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	struct stop *s = map_get(&h->stop.standing, key);
	hub_unkeep(&key);
	return s;
}

/* The oldest that was lifted, with all its receipts. */
static bool
forget_oldest(struct hub *h)
{
	struct list *l = h->stop.all.next;

	while (l != &h->stop.all && stop_stands(LIST_OF(l, struct stop, link)))
		l = l->next;
	if (l == &h->stop.all)
		return false;
	struct stop *s = LIST_OF(l, struct stop, link);
	for (size_t i = 0; i < h->agents.count; i++) {
		struct receipt *r = hub_find_receipt(h->sorted[i], s);
		if (r != NULL)
			hub_drop_receipt(h, r, h->sorted[i]);
	}
	h->stop.lifted--;
	free_stop(h, s);
	return true;
}

static void
keep_few(struct hub *h)
{
	size_t most = (size_t)h->config.max_agents * RECEIPTS_FACTOR;

	while ((h->stop.lifted > STOPS_KEPT || h->stop.receipts > most) &&
	    forget_oldest(h))
		continue;
}

struct slice
hub_stop_text(struct hub *h, const struct stop_record *r)
{
	const struct slice both[] = { SL("selector:"), r->bound,
		r->bound.len > 0 && r->target.len > 0 ? SL(",") : none,
		r->target };
	const struct slice one[] = { SL("agent:"), r->target };

	switch (r->scope) {
	case STOP_SELECTOR:
		return hub_text(h, both, 4);
	case STOP_AGENT:
		return hub_text(h, one, 2);
	case STOP_ALL:
		break;
	}
	return SL("all");
}

/* Whom it covers -----------------------------------------------------------
 */

static bool
fits(struct hub *h, const struct selector *s, struct slice own,
    struct slice said)
{
	arena_reset(&h->scratch);
	int m = selector_match(s, own, said, &h->scratch);
	if (m < 0)
		h->stop.unresolved = true;
	return m == 1;
}

/* By labels that operators set: what an agent says of itself moves it out of
 * no stop.  The bound is judged as its user sees. */
bool
hub_stop_covers(struct hub *h, const struct stop *s, const struct agent *a)
{
	const struct stop_record *r = s->record;
	const struct agent_record *of = a->record;

	if (of->removed_at != 0 ||
	    (r->workspace_id != 0 && r->workspace_id != of->workspace_id))
		return false;
	if (r->scope == STOP_ALL)
		return true;
	if (r->scope == STOP_AGENT)
		return slice_eq(r->target, a->id);
	if (s->blind)
		return false;
	return (r->target.len == 0 ||
		   fits(h, &s->selector, of->operator_labels_json, none)) &&
	    (r->bound.len == 0 ||
		fits(h, &s->bound, of->operator_labels_json, of->labels_json));
}

/* It is covered, from this epoch on. */
static void
stop_agent(struct hub *h, struct stop *s, struct agent *a)
{
	if (hub_find_receipt(a, s) != NULL || !hub_cover(h, s, a))
		return;
	a->stop.want = h->stop.epoch;
	hub_stop_sweep(h, a);
}

/* Those of whom it is not known yet that they are covered; this needs no
 * room in the outbox. */
void
hub_resolve_stop(struct hub *h, struct stop *s)
{
	for (size_t i = 0; i < h->agents.count; i++) {
		if (hub_stop_covers(h, s, h->sorted[i]))
			stop_agent(h, s, h->sorted[i]);
	}
}

/* Whoever has not heard how it stands; of very many the rest hears in the
 * next event, which follows at once. */
void
hub_tell_stops(struct hub *h)
{
	size_t room = h->out->count + ORDERS_AT_ONCE;

	for (size_t i = 0; i < h->agents.count; i++) {
		hub_tell_stop(h, h->sorted[i]);
		if (h->out->err == 0 && h->out->count < room)
			continue;
		h->stop.unresolved = true;
		h->stop.retry_at =
		    h->out->err == 0 ? h->now : h->now + STOP_RETRY;
		return;
	}
}

/* Presence changes once the orders are out; of very many while their queues
 * are emptied. */
static void
settle_covered(struct hub *h, const struct stop *s)
{
	size_t room = h->out->count + SETTLED_AT_ONCE;

	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		if (hub_find_receipt(a, s) == NULL)
			continue;
		if (h->out->err == 0 && h->out->count < room)
			hub_settle(h, a, SL("resumed"));
		else
			hub_stop_sweep(h, a);
	}
}

/* Raising and lifting -------------------------------------------------------
 */

void
hub_enforce_stop(struct hub *h, struct stop *s, const struct event *asked)
{
	hub_resolve_stop(h, s);
	hub_tell_stops(h);
	hub_write_epoch(h);
	hub_save_stop(h, s, asked);
	settle_covered(h, s);
	hub_tell_stop_news(h, SL("stop.raised"), s);
	keep_few(h);
}

/* The same again: whoever had not heard, or had not heeded, is told anew. */
void
hub_repeat_stop(struct hub *h, struct stop *s, const struct event *asked)
{
	hub_next_epoch(h);
	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		struct receipt *r = hub_find_receipt(a, s);
		if (r == NULL)
			continue;
		hub_reset_receipt(h, r, a);
		a->stop.want = h->stop.epoch;
		/* It may have become stricter. */
		hub_cut_stopped(h, a);
	}
	hub_enforce_stop(h, s, asked);
	hub_save_epoch(h);
}

static void
free_agents(struct hub *h, struct stop *s)
{
	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		struct receipt *r = hub_find_receipt(a, s);
		if (r == NULL)
			continue;
		if (r->kind == RECEIPT_WAITING ||
		    r->kind == RECEIPT_UNREACHABLE)
			hub_store_receipt(h, r, a);
		a->stop.covers--;
		hub_forget_agent(h, a);
		if (a->stop.covers > 0)
			continue;
		a->stop.want = h->stop.epoch;
	}
	hub_tell_stops(h);
}

void
hub_lift(
    struct hub *h, struct stop *s, struct slice by, const struct event *asked)
{
	struct stop_record r = *s->record;

	r.lifted_epoch = h->stop.epoch + 1;
	r.lifted_by = by;
	r.lifted_at = h->wall;
	if (set_record(s, &r) != 0) {
		h->out->err = ERR_NOMEM;
		return;
	}
	hub_next_epoch(h);
	map_del(&h->stop.standing, s->key);
	if (!list_empty(&s->wide))
		h->stop.broad_count--;
	list_remove(&s->wide);
	h->stop.lifted++;
	free_agents(h, s);
	hub_write_epoch(h);
	hub_save_stop(h, s, asked);
	settle_covered(h, s);
	hub_tell_stop_news(h, SL("stop.lifted"), s);
	keep_few(h);
}

/* What an agent shows as the scope of its order. */
static bool
read_scope(struct slice text, struct stop_record *r)
{
	static const struct {
		struct slice prefix;
		enum stop_scope scope;
	} forms[] = { { SL_INIT("selector:"), STOP_SELECTOR },
		{ SL_INIT("agent:"), STOP_AGENT } };

	r->scope = STOP_ALL;
	r->target = none;
	if (slice_eq(text, SL("all")))
		return true;
	for (size_t i = 0; i < 2; i++) {
		if (!slice_starts(text, forms[i].prefix))
			continue;
		r->scope = forms[i].scope;
		r->target = slice_from_at(text, forms[i].prefix.len);
		return r->target.len > 0;
	}
	return false;
}

static void
note_adoption(struct hub *h, const struct agent *a,
    const struct stop_order *shown, struct slice result)
{
	struct op *op = hub_store(h, OP_AUDIT);
	struct slice id;

	if (op == NULL)
		return;
	if (arena_copy(&h->out->arena, a->id, &id) != 0) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->audit = hub_audit(
	    id, SL("stop.adopt"), hub_decimal(h, shown->epoch), NULL, none);
	op->audit.result = result;
}

void
hub_adopt_stop(struct hub *h, struct agent *a, const struct stop_order *shown)
{
	struct stop_record r = { .epoch = shown->epoch,
		.reason = SL("shown by an agent that came back"),
		.actor = a->id,
		.at = h->wall,
		.workspace_id = a->record->workspace_id };

	if (!shown->proved) {
		note_adoption(h, a, shown, SL("denied"));
		return;
	}
	note_adoption(h, a, shown, SL("ok"));
	h->stop.epoch = shown->epoch;
	h->stop.dirty = true;
	bool sense = read_scope(shown->scope, &r);
	struct stop *s = sense ? hub_find_scope(h, &r) : NULL;
	if (shown->stopped && s == NULL) {
		/* Without a scope that makes sense it was this agent, surely.
		 */
		if (!sense) {
			r.scope = STOP_AGENT;
			r.target = a->id;
		}
		s = hub_add_stop(h, &r);
		if (s == NULL) {
			h->out->err = ERR_NOMEM;
			return;
		}
		hub_enforce_stop(h, s, NULL);
	} else if (!shown->stopped && s != NULL) {
		hub_lift(h, s, a->id, NULL);
	}
	if (shown->stopped)
		stop_agent(h, s, a);
	hub_write_epoch(h);
	hub_save_epoch(h);
}

/* Agents -------------------------------------------------------------------
 */

/* A stop of this agent alone. */
static struct stop *
own_stop(struct hub *h, const struct agent *a)
{
	const struct stop_record like = { .scope = STOP_AGENT,
		.target = a->id,
		.workspace_id = a->record->workspace_id };

	return h->stop.standing.count == h->stop.broad_count
	    ? NULL
	    : hub_find_scope(h, &like);
}

bool
hub_find_stops(struct hub *h, struct agent *a)
{
	struct list *l = h->stop.broad.next;
	struct stop *own = own_stop(h, a);
	uint32_t before = a->stop.covers;

	for (; l != &h->stop.broad; l = l->next) {
		struct stop *s = LIST_OF(l, struct stop, wide);
		if (hub_find_receipt(a, s) == NULL && hub_stop_covers(h, s, a))
			hub_cover(h, s, a);
	}
	if (own != NULL && hub_find_receipt(a, own) == NULL)
		hub_cover(h, own, a);
	return a->stop.covers != before;
}

/* Its order is to have a number that it does not know yet. */
static void
change(struct hub *h, struct agent *a)
{
	hub_next_epoch(h);
	a->stop.want = h->stop.epoch;
	hub_write_epoch(h);
	hub_save_epoch(h);
}

/* What it believes against what is so: at the same number, or a higher one
 * that we gave out and forgot. */
static bool
disagrees(
    const struct hub *h, const struct agent *a, const struct stop_order *shown)
{
	return shown->epoch >= h->stop.epoch &&
	    shown->stopped != (a->stop.covers > 0);
}

void
hub_stop_meet(struct hub *h, struct agent *a, const struct native_hello *n)
{
	const struct stop_order nothing = { 0 };
	const struct stop_order *shown =
	    n != NULL && n->present ? &n->stop : &nothing;

	a->stop.local = shown->local;
	a->stop.unproven = false;
	a->stop.sent = 0;
	if (shown->epoch > h->stop.epoch)
		hub_adopt_stop(h, a, shown);
	if (shown->epoch > h->stop.epoch)
		a->stop.unproven = shown->stopped;
	if (hub_find_stops(h, a) && a->stop.want < h->stop.epoch)
		a->stop.want = h->stop.epoch;
	if (shown->epoch > 0 && !a->stop.unproven &&
	    shown->epoch <= h->stop.epoch && disagrees(h, a, shown))
		change(h, a);
	hub_reset_receipts(h, a);
	if (hub_is_stopped(a))
		hub_stop_sweep(h, a);
}

/* Whether it covers it still, by labels that operators set alone: what an
 * agent has said of itself since lets it out of no stop. */
static bool
still_covers(struct hub *h, const struct stop *s, const struct agent *a)
{
	struct slice own = a->record->operator_labels_json;

	arena_reset(&h->scratch);
	if (s->record->target.len > 0 &&
	    selector_match(&s->selector, own, none, &h->scratch) == 0)
		return false;
	return s->record->bound.len == 0 ||
	    selector_excludes(&s->bound, own, &h->scratch) != 1;
}

/* Stops that no longer fit let go of it, unless who relabels it might not
 * have lifted them. */
static bool
find_old_stops(struct hub *h, struct agent *a, const struct access *who)
{
	struct list *l = a->stop.receipts.next;
	bool any = false;

	while (l != &a->stop.receipts) {
		struct receipt *r = LIST_OF(l, struct receipt, link);
		l = l->next;
		if (!stop_stands(r->stop) ||
		    r->stop->record->scope != STOP_SELECTOR || r->stop->blind ||
		    (who != NULL && !hub_may_lift(who, r->stop)) ||
		    still_covers(h, r->stop, a))
			continue;
		hub_drop_receipt(h, r, a);
		any = true;
	}
	return any;
}

void
hub_stop_relabelled(struct hub *h, struct agent *a, const struct access *who)
{
	bool fewer = find_old_stops(h, a, who);
	bool more = hub_find_stops(h, a);

	if (!fewer && !more)
		return;
	/* Another stop over one that is stopped already wants its word, too. */
	if (more || a->stop.covers == 0) {
		change(h, a);
		hub_tell_stop(h, a);
	}
	if (hub_is_stopped(a))
		hub_stop_sweep(h, a);
	hub_settle(h, a, SL("relabelled"));
}
