/*
 * The stop's durable half: its epoch goes to a file of its own, its record to
 * a row, and what could not be done is done again.  At the start both are
 * read, and the one with the higher epoch is right.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "model/hub_stop.h"

enum { SWEEP_PER_TURN = 2000 };

static const struct slice none;

/* Epoch, file and rows ------------------------------------------------------
 */

void
hub_next_epoch(struct hub *h)
{
	h->stop.epoch++;
	h->stop.dirty = true;
}

void
hub_write_epoch(struct hub *h)
{
	struct stop_state *st = arena_alloc(&h->out->arena, sizeof(*st));
	struct stop_record *rows = arena_array(
	    &h->out->arena, h->stop.standing.count + 1, sizeof(*rows));

	if (!h->stop.dirty)
		return;
	if (st == NULL || rows == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	st->epoch = h->stop.epoch;
	st->stops = rows;
	for (struct list *l = h->stop.all.next; l != &h->stop.all;
	     l = l->next) {
		const struct stop *s = LIST_OF(l, struct stop, link);
		if (!stop_stands(s))
			continue;
		const struct stop_record *r =
		    clone_in(&h->out->arena, CLONE_STOP, s->record);
		if (r == NULL) {
			h->out->err = ERR_NOMEM;
			return;
		}
		rows[st->count++] = *r;
	}
	struct effect *e = outbox_add(h->out, EFFECT_STOP);
	if (e == NULL)
		return;
	e->stop_state = st;
	h->stop.dirty = false;
}

void
hub_on_stop_written(struct hub *h, const struct event *ev)
{
	if (ev->stored.err == 0) {
		if (ev->stored.number > h->stop.written)
			h->stop.written = ev->stored.number;
	} else {
		h->stop.dirty = true;
		h->stop.retry_at = h->now + STOP_RETRY;
	}
	hub_answer_stops(h, ev->stored.number, ev->stored.err);
}

/* What the journal says of it. */
static struct slice
audit_detail(struct hub *h, const struct stop_record *r)
{
	struct slice detail = none;
	struct js_writer w;
	struct buf b;

	buf_init(&b, 16 * 1024);
	js_write(&w, &b);
	js_begin_object(&w);
	js_kv_string(&w, "scope", stop_scope_name(r->scope));
	if (r->target.len > 0)
		js_kv_string(&w, "target", r->target);
	if (r->bound.len > 0)
		js_kv_string(&w, "bound", r->bound);
	js_kv_string(&w, "reason", r->reason);
	js_kv_bool(&w, "keep_tunnels", r->keep_tunnels);
	js_end(&w);
	if (js_finish(&w) != 0 ||
	    arena_copy(&h->out->arena, buf_peek(&b), &detail) != 0)
		h->out->err = ERR_NOMEM;
	buf_fini(&b);
	return detail;
}

struct slice
hub_decimal(struct hub *h, uint64_t n)
{
	uint8_t text[20];
	size_t at = sizeof(text);
	struct slice out = none;

	do
		text[--at] = (uint8_t)('0' + n % 10);
	while ((n /= 10) > 0);
	if (arena_copy(&h->out->arena,
		(struct slice){ text + at, sizeof(text) - at }, &out) != 0)
		h->out->err = ERR_NOMEM;
	return out;
}

void
hub_save_stop(struct hub *h, struct stop *s, const struct event *asked)
{
	const struct stop_record *r =
	    clone_in(&h->out->arena, CLONE_STOP, s->record);
	struct op *op = r == NULL ? NULL : hub_store(h, OP_PUT_STOP);
	uint64_t epoch = s->record->epoch;

	s->unsaved = false;
	if (op == NULL) {
		h->out->err = ERR_NOMEM;
		s->unsaved = h->stop.unsaved = true;
		return;
	}
	op->stop = r;
	bool stands = stop_stands(s);
	op->audit = hub_audit(stands ? r->actor : r->lifted_by,
	    stands ? SL("stop.raise") : SL("stop.resume"),
	    hub_decimal(h, epoch), asked,
	    asked != NULL ? asked->request.credential.remote : none);
	op->audit.detail_json = audit_detail(h, r);
	hub_pend(h, op->number, PENDING_STOP,
	    (struct slice){ (const uint8_t *)&epoch, sizeof(epoch) }, NULL);
}

/* A number that no stop's row has. */
void
hub_save_epoch(struct hub *h)
{
	struct op *op = hub_store(h, OP_PUT_META);

	if (op == NULL)
		return;
	op->lazy = true;
	op->meta.key = SL("stop.epoch");
	op->meta.value = hub_decimal(h, h->stop.epoch);
}

void
hub_stop_unsaved(struct hub *h, struct pending *p)
{
	uint64_t epoch;

	memcpy(&epoch, p->id.ptr, sizeof(epoch));
	struct stop *s = hub_find_stop(h, epoch);
	if (s == NULL)
		return;
	s->unsaved = h->stop.unsaved = true;
	h->stop.retry_at = h->now + STOP_RETRY;
}

static void
save_all(struct hub *h)
{
	h->stop.unsaved = false;
	for (struct list *l = h->stop.all.next;
	     l != &h->stop.all && h->out->err == 0; l = l->next) {
		struct stop *s = LIST_OF(l, struct stop, link);
		if (s->unsaved)
			hub_save_stop(h, s, NULL);
	}
}

void
hub_stop_taken_back(struct hub *h, const struct effect *e)
{
	struct link *l;

	if (e->kind == EFFECT_STOP)
		h->stop.dirty = true;
	if (e->kind != EFFECT_STOP &&
	    (e->kind != EFFECT_SEND || e->event->kind != EVENT_STOP_ORDER))
		return;
	h->stop.unresolved = true;
	h->stop.retry_at = h->now + STOP_RETRY;
	l = hub_find_link(h, e->peer);
	if (l != NULL && l->agent != NULL)
		l->agent->stop.sent = 0;
}

/* The queue ---------------------------------------------------------------- */

static void
cancel(struct hub *h, struct command *c)
{
	const struct outcome o = { .code = SL("AGENT_STOPPED"),
		.why = SL("an emergency stop came before it was sent") };

	hub_finish_command(h, c, COMMAND_CANCELLED, &o);
}

/* Sent in our books, and not a byte of it on its way. */
static struct command *
unsent(const struct agent *a)
{
	for (struct list *l = a->active.next; l != &a->active; l = l->next) {
		struct command *c = LIST_OF(l, struct command, link);
		if (!c->tried && c->record->attempt == 0)
			return c;
	}
	return NULL;
}

/* True when nothing of it is left to be done. */
static bool
sweep(struct hub *h, struct agent *a, int *budget)
{
	struct command *c;

	while ((c = hub_first_waiting(a)) != NULL || (c = unsent(a)) != NULL) {
		if (h->out->err != 0 || --*budget < 0)
			return false;
		cancel(h, c);
	}
	hub_interrupt_foreign(h, a);
	return h->out->err == 0;
}

void
hub_stop_sweep(struct hub *h, struct agent *a)
{
	if (list_empty(&a->stop.sweep))
		list_push(&h->stop.sweep, &a->stop.sweep);
}

static void
sweep_all(struct hub *h)
{
	int budget = SWEEP_PER_TURN;

	while (!list_empty(&h->stop.sweep)) {
		struct agent *a =
		    LIST_OF(h->stop.sweep.next, struct agent, stop.sweep);
		if (--budget < 0 ||
		    (hub_is_stopped(a) && !sweep(h, a, &budget)))
			return;
		list_remove(&a->stop.sweep);
		hub_settle(h, a, SL("resumed"));
	}
}

static void
resolve_all(struct hub *h)
{
	struct list *l = h->stop.all.next;

	h->stop.unresolved = false;
	for (; l != &h->stop.all; l = l->next) {
		struct stop *s = LIST_OF(l, struct stop, link);
		if (stop_stands(s))
			hub_resolve_stop(h, s);
	}
	hub_tell_stops(h);
}

/* Time --------------------------------------------------------------------- */

msec
hub_stop_deadline(const struct hub *h)
{
	const struct stops *st = &h->stop;
	msec due = INT64_MAX;

	if (!list_empty(&st->asks))
		due = LIST_OF(st->asks.next, struct stop_ask, link)->due;
	if ((st->dirty || st->unresolved || st->unsaved) && st->retry_at < due)
		due = st->retry_at;
	if (!list_empty(&st->sweep) && st->sweep_at < due)
		due = st->sweep_at;
	return due;
}

void
hub_stop_timer(struct hub *h)
{
	struct stops *st = &h->stop;

	if (!list_empty(&st->sweep) && st->sweep_at <= h->now) {
		sweep_all(h);
		/* Without memory: not at once again. */
		st->sweep_at = h->out->err != 0 ? h->now + STOP_RETRY : 0;
	}
	if ((st->dirty || st->unresolved || st->unsaved) &&
	    st->retry_at <= h->now) {
		st->retry_at = h->now + STOP_RETRY;
		if (st->unresolved)
			resolve_all(h);
		hub_write_epoch(h);
		if (st->unsaved)
			save_all(h);
	}
	hub_answer_late(h);
}

/* Start -------------------------------------------------------------------- */

static const struct stop_record *
find_kept(const struct stop_state *kept, uint64_t epoch)
{
	for (size_t i = 0; i < kept->count; i++) {
		if (kept->stops[i].epoch == epoch)
			return &kept->stops[i];
	}
	return NULL;
}

/* The row as it is to be believed: what the file, when it is ahead, does not
 * list was lifted. */
static int
load_row(
    struct hub *h, const struct hub_snapshot *s, const struct stop_record *row)
{
	struct stop_record r = *row;
	bool ahead = s->kept != NULL && s->kept->epoch > s->stop_epoch;
	bool listed = s->kept != NULL && find_kept(s->kept, r.epoch) != NULL;

	if (ahead && r.lifted_epoch == 0 && !listed) {
		r.lifted_epoch = s->kept->epoch;
		r.lifted_by = SL("system");
	} else if (ahead && listed) {
		r.lifted_epoch = 0;
		r.lifted_at = 0;
	}
	struct stop *st = hub_add_stop(h, &r);
	if (st == NULL)
		return ERR_NOMEM;
	if (r.lifted_epoch != row->lifted_epoch)
		st->unsaved = h->stop.unsaved = true;
	return 0;
}

/* What only the file knows. */
static int
load_kept(struct hub *h, const struct hub_snapshot *s)
{
	for (size_t i = 0; i < s->kept->count; i++) {
		const struct stop_record *r = &s->kept->stops[i];
		if (s->kept->epoch < s->stop_epoch ||
		    hub_find_stop(h, r->epoch) != NULL)
			continue;
		struct stop *st = hub_add_stop(h, r);
		if (st == NULL)
			return ERR_NOMEM;
		st->unsaved = h->stop.unsaved = true;
	}
	return 0;
}

static void
load_receipt(struct hub *h, const struct receipt_record *r)
{
	struct stop *s = hub_find_stop(h, r->epoch);
	struct agent *a = map_get(&h->agents, r->agent_id);

	if (s == NULL || a == NULL || !hub_cover(h, s, a))
		return;
	hub_load_receipt(hub_find_receipt(a, s), r);
}

int
hub_load_stops(struct hub *h, const struct hub_snapshot *s, msec now)
{
	uint64_t file = s->kept == NULL ? 0 : s->kept->epoch;
	int err = 0;

	if (s->stop_epoch > h->stop.epoch)
		h->stop.epoch = s->stop_epoch;
	if (file > h->stop.epoch)
		h->stop.epoch = file;
	h->stop.written = file;
	h->stop.dirty = file != h->stop.epoch;
	h->stop.retry_at = now;
	h->stop.switched = s->stop_switch;
	for (size_t i = 0; i < s->stop_count && err == 0; i++)
		err = load_row(h, s, &s->stops[i]);
	if (err == 0 && s->kept != NULL)
		err = load_kept(h, s);
	for (size_t i = 0; i < s->receipt_count && err == 0; i++)
		load_receipt(h, &s->receipts[i]);
	if (err == 0 && s->stop_switch)
		err = hub_load_switch(h, s->stop_switch_text);
	if (err != 0)
		return err;
	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		if (hub_find_stops(h, a))
			a->stop.want = h->stop.epoch;
		if (hub_is_stopped(a))
			hub_stop_sweep(h, a);
	}
	return h->stop.unresolved ? ERR_NOMEM : 0;
}
