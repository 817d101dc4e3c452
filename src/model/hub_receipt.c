/*
 * What agents are told of stops, and what they say that they did.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "model/hub_stop.h"
#include "model/hub_tunnel.h"

static const struct slice none;

static struct receipt *
receipt_at(struct list *l)
{
	return LIST_OF(l, struct receipt, link);
}

/* How an agent stands ------------------------------------------------------
 */

bool
hub_is_stopped(const struct agent *a)
{
	return a->stop.covers > 0 || a->stop.local || a->stop.unproven;
}

struct slice
hub_stop_why(const struct agent *a)
{
	if (a->stop.covers > 0)
		return SL("emergency_stop");
	return a->stop.local ? SL("local_stop") : SL("unproven_stop");
}

/* The newest that stands, or else the newest that was lifted. */
static const struct stop_record *
newest(const struct agent *a, bool standing)
{
	const struct stop_record *best = NULL;

	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		const struct stop_record *r = receipt_at(l)->stop->record;
		if ((r->lifted_epoch == 0) != standing)
			continue;
		if (best == NULL || r->lifted_epoch >= best->lifted_epoch)
			best = r;
	}
	return best;
}

const struct stop_record *
hub_stop_over(const struct agent *a)
{
	return a->stop.covers > 0 ? newest(a, true) : NULL;
}

static bool
all_keep_tunnels(const struct agent *a)
{
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		const struct stop *s = receipt_at(l)->stop;
		if (stop_stands(s) && !s->record->keep_tunnels)
			return false;
	}
	return true;
}

void
hub_stop_order(struct hub *h, const struct agent *a, struct stop_order *out)
{
	bool stopped = a->stop.covers > 0;
	const struct stop_record *r = newest(a, stopped);

	*out = (struct stop_order){
		.epoch = h->stop.epoch, .stopped = stopped, .at = h->wall
	};
	if (arena_copy(&h->out->arena, a->id, &out->agent_id) != 0)
		h->out->err = ERR_NOMEM;
	if (r == NULL)
		return;
	if (stopped)
		out->reach = hub_stop_reach(a);
	out->scope = hub_stop_text(h, r);
	if (arena_copy(&h->out->arena, out->scope, &out->scope) != 0 ||
	    (stopped &&
		arena_copy(&h->out->arena, r->reason, &out->reason) != 0))
		h->out->err = ERR_NOMEM;
	out->at = stopped ? r->at : r->lifted_at;
	out->keep_tunnels = stopped && all_keep_tunnels(a);
}

void
hub_tell_stop(struct hub *h, struct agent *a)
{
	if (a->link == NULL || a->link->closed.ptr != NULL ||
	    !(a->native || a->console) || a->stop.sent >= a->stop.want)
		return;
	/* A foreign agent that comes back to work need not hear of it. */
	if (a->console && a->stop.covers == 0 && a->stop.sent == 0)
		return;
	struct event *ev =
	    hub_send(h, a->link->peer, EVENT_STOP_ORDER, none, 0);
	if (ev == NULL)
		return;
	hub_stop_order(h, a, &ev->stop);
	a->stop.sent = h->stop.epoch;
	a->stop.lifting = a->native && !ev->stop.stopped;
}

/* Receipts ----------------------------------------------------------------- */

/* Something may run on it: it was told to. */
static bool
was_told(const struct agent *a)
{
	for (struct list *l = a->active.next; l != &a->active; l = l->next) {
		if (LIST_OF(l, struct command, link)->tried)
			return true;
	}
	return false;
}

/* As long as nothing was said. */
enum receipt_kind
hub_receipt_kind(const struct agent *a)
{
	if (a->link == NULL && !a->http)
		return RECEIPT_UNREACHABLE;
	if (a->link != NULL && a->native)
		return RECEIPT_WAITING;
	/* A console agent ends what runs and says so; with nothing to end it
	 * says nothing. */
	if (a->link != NULL && a->console && was_told(a))
		return RECEIPT_WAITING;
	return RECEIPT_UNABLE;
}

/* Who is out of reach ends what it runs when it is back, if it still does;
 * whose protocol has no verb for it goes on. */
struct stop_reach
hub_stop_reach(const struct agent *a)
{
	enum receipt_kind kind = hub_receipt_kind(a);
	uint32_t active = a->attached + a->detached;

	return (struct stop_reach){ .agents = kind != RECEIPT_UNREACHABLE,
		.commands =
		    a->queued + (kind == RECEIPT_WAITING ? active : 0) };
}

struct receipt *
hub_find_receipt(const struct agent *a, const struct stop *s)
{
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		if (receipt_at(l)->stop == s)
			return receipt_at(l);
	}
	return NULL;
}

static void
count(struct receipt *r, int by)
{
	uint32_t *n = &r->stop->counts[r->kind];

	*n = (uint32_t)((int64_t)*n + by);
	if (r->kind == RECEIPT_CONFIRMED && r->report.left > 0)
		r->stop->left = (uint32_t)((int64_t)r->stop->left + by);
}

static void
set_kind(const struct hub *h, struct receipt *r, enum receipt_kind kind)
{
	count(r, -1);
	r->kind = kind;
	if (kind != RECEIPT_UNREACHABLE)
		r->told_at = h->wall;
	count(r, 1);
}

bool
hub_cover(struct hub *h, struct stop *s, struct agent *a)
{
	struct receipt *r = alloc_new(sizeof(*r));

	if (r == NULL) {
		h->stop.unresolved = true;
		return false;
	}
	r->stop = s;
	r->kind = hub_receipt_kind(a);
	if (r->kind != RECEIPT_UNREACHABLE)
		r->told_at = h->wall;
	count(r, 1);
	struct list *at = &a->stop.receipts;
	while (at->prev != &a->stop.receipts &&
	    receipt_at(at->prev)->stop->record->epoch > s->record->epoch)
		at = at->prev;
	list_insert_before(at, &r->link);
	h->stop.receipts++;
	if (stop_stands(s))
		a->stop.covers++;
	hub_cut_stopped(h, a);
	return true;
}

void
hub_drop_receipt(struct hub *h, struct receipt *r, struct agent *a)
{
	count(r, -1);
	if (stop_stands(r->stop))
		a->stop.covers--;
	h->stop.receipts--;
	list_remove(&r->link);
	hub_unkeep(&r->report.detail_json);
	alloc_free(r);
}

void
hub_stop_forget(struct hub *h, struct agent *a)
{
	while (!list_empty(&a->stop.receipts))
		hub_drop_receipt(h, receipt_at(a->stop.receipts.next), a);
	list_remove(&a->stop.sweep);
}

static bool
has_word(const struct receipt *r)
{
	return r->kind == RECEIPT_CONFIRMED || r->kind == RECEIPT_ACKNOWLEDGED;
}

void
hub_reset_receipt(struct hub *h, struct receipt *r, const struct agent *a)
{
	set_kind(h, r, hub_receipt_kind(a));
}

/* It is there again, by whatever road. */
void
hub_reset_receipts(struct hub *h, struct agent *a)
{
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		if (stop_stands(receipt_at(l)->stop) &&
		    !has_word(receipt_at(l)))
			hub_reset_receipt(h, receipt_at(l), a);
	}
}

struct receipt_record
hub_receipt_record(const struct receipt *r, const struct agent *a)
{
	return (struct receipt_record){ .epoch = r->stop->record->epoch,
		.agent_id = a->id,
		.name = a->record->name,
		.kind = r->kind,
		.told_at = r->told_at,
		.at = r->at,
		.report = r->report };
}

static const struct receipt_record *
copy(struct hub *h, const struct receipt *r, const struct agent *a)
{
	const struct receipt_record rec = hub_receipt_record(r, a);
	const struct receipt_record *kept =
	    clone_in(&h->out->arena, CLONE_RECEIPT, &rec);

	if (kept == NULL)
		h->out->err = ERR_NOMEM;
	return kept;
}

void
hub_store_receipt(struct hub *h, const struct receipt *r, const struct agent *a)
{
	const struct receipt_record *kept = copy(h, r, a);
	struct op *op = kept == NULL ? NULL : hub_store(h, OP_PUT_RECEIPT);

	if (op == NULL)
		return;
	op->lazy = true;
	op->receipt = kept;
}

void
hub_load_receipt(struct receipt *r, const struct receipt_record *from)
{
	/* Who was waited for when the controller ended is waited for again. */
	if (from->kind != RECEIPT_CONFIRMED &&
	    from->kind != RECEIPT_ACKNOWLEDGED && stop_stands(r->stop))
		return;
	count(r, -1);
	struct slice detail = none;
	if (hub_keep(&detail, from->report.detail_json) != 0)
		detail = none;
	r->kind = from->kind;
	r->told_at = from->told_at;
	r->at = from->at;
	r->report = from->report;
	r->report.detail_json = detail;
	count(r, 1);
}

static struct slice
news_data(struct hub *h, const struct receipt_record *r)
{
	struct slice data = none;
	struct js_writer w;
	struct buf b;

	buf_init(&b, 1024);
	js_write(&w, &b);
	js_begin_object(&w);
	js_kv_u64(&w, "epoch", r->epoch);
	js_kv_string(&w, "kind", receipt_kind_name(r->kind));
	js_kv_u64(&w, "commands", r->report.commands);
	js_kv_u64(&w, "killed", r->report.killed);
	js_kv_u64(&w, "left", r->report.left);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    arena_copy(&h->out->arena, buf_peek(&b), &data) != 0)
		h->out->err = ERR_NOMEM;
	buf_fini(&b);
	return data;
}

static void
tell(struct hub *h, const struct receipt *r, const struct agent *a)
{
	struct notice *n =
	    hub_publish(h, NOTICE_RECEIPT, SL("stop.receipt"), a, 0);

	if (n == NULL)
		return;
	n->receipt = copy(h, r, a);
	if (n->receipt != NULL)
		n->data_json = news_data(h, n->receipt);
}

/* Its word is in: for good, but for another like it. */
static void
settle(struct hub *h, struct receipt *r, struct agent *a,
    enum receipt_kind kind, const struct stop_report *said)
{
	struct slice detail = none;

	if (said->detail_json.len <= STOP_DETAIL &&
	    hub_keep(&detail, said->detail_json) != 0)
		h->out->err = ERR_NOMEM;
	count(r, -1);
	hub_unkeep(&r->report.detail_json);
	r->report = *said;
	r->report.detail_json = detail;
	r->kind = kind;
	r->at = h->wall;
	count(r, 1);
	hub_store_receipt(h, r, a);
	tell(h, r, a);
}

static void
settle_all(struct hub *h, struct agent *a, enum receipt_kind kind,
    const struct stop_report *said, uint64_t epoch)
{
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		struct receipt *r = receipt_at(l);
		if (stop_stands(r->stop) && r->stop->record->epoch <= epoch)
			settle(h, r, a, kind, said);
	}
}

bool
hub_tunnels_stopped(const struct agent *a)
{
	return a->stop.local || a->stop.unproven ||
	    (a->stop.covers > 0 && !all_keep_tunnels(a));
}

/* Its words ---------------------------------------------------------------- */

void
hub_on_stop_report(struct hub *h, struct link *l, const struct event *ev)
{
	const struct stop_report *said = &ev->report;
	const struct stop_report nothing = { 0 };
	struct agent *a = l->agent;

	if (a == NULL || a->link != l)
		return;
	if (!a->native) {
		settle_all(h, a, RECEIPT_ACKNOWLEDGED, &nothing, UINT64_MAX);
		return;
	}
	/* A number that we did not give out proves nothing, nor does one that
	 * is older than the last change. */
	if (said->epoch > h->stop.epoch || said->epoch < a->stop.want)
		return;
	if (!said->stopped && a->stop.lifting) {
		a->stop.lifting = false;
		hub_open_streams(h, a);
	}
	if (said->stopped && a->stop.covers > 0)
		settle_all(h, a, RECEIPT_CONFIRMED, said, said->epoch);
	if (said->local && !a->stop.local) {
		a->stop.local = true;
		hub_cut_stopped(h, a);
		hub_settle(h, a, none);
	}
}

void
hub_on_local_stop(struct hub *h, struct link *l, const struct event *ev)
{
	struct agent *a = l->agent;
	struct slice id;

	if (a == NULL || a->link != l || a->stop.local == ev->stop.stopped)
		return;
	a->stop.local = ev->stop.stopped;
	struct op *op = hub_store(h, OP_AUDIT);
	if (op == NULL)
		return;
	if (arena_copy(&h->out->arena, a->id, &id) != 0) {
		h->out->err = ERR_NOMEM;
		return;
	}
	op->lazy = true;
	op->audit = hub_audit(id,
	    a->stop.local ? SL("stop.local") : SL("stop.local_lifted"), id,
	    NULL, none);
	if (a->stop.local)
		hub_stop_sweep(h, a);
	hub_cut_stopped(h, a);
	hub_forget_agent(h, a);
	hub_settle(h, a, SL("resumed"));
	hub_dispatch(h, a);
}

/* Its link is gone: what it did not say it will say when it is back. */
void
hub_stop_away(struct hub *h, struct agent *a)
{
	a->stop.sent = 0;
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		struct receipt *r = receipt_at(l);
		if (stop_stands(r->stop) && !has_word(r))
			set_kind(h, r, hub_receipt_kind(a));
	}
}

/* A console agent's word is that nothing runs on it any more. */
void
hub_stop_quiet(struct hub *h, struct agent *a)
{
	const struct stop_report nothing = { 0 };

	if (a->stop.covers == 0 || !a->console || !list_empty(&a->active))
		return;
	for (struct list *l = a->stop.receipts.next; l != &a->stop.receipts;
	     l = l->next) {
		struct receipt *r = receipt_at(l);
		if (stop_stands(r->stop) && r->kind == RECEIPT_WAITING)
			settle(h, r, a, RECEIPT_ACKNOWLEDGED, &nothing);
	}
}

/* What runs on a console agent is ended one by one as well. */
void
hub_interrupt_foreign(struct hub *h, struct agent *a)
{
	if (!a->console)
		return;
	for (struct list *l = a->active.next; l != &a->active; l = l->next) {
		struct command *c = LIST_OF(l, struct command, link);
		if (!c->interrupt)
			hub_pass_interrupt(h, c);
	}
}
