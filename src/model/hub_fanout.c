/*
 * One request that makes a command on each of many agents.  It is answered
 * once, when the last of them is stored or not, with what became of each.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/hub_find.h"
#include "model/hub_queue.h"

enum { FAN_MAX = 1000, FAN_BYTES = 4 << 20 };

static const struct slice none;

struct fan_slot {
	struct slice target; /* as asked; absent: the selector found it */
	struct slice agent_id;
	struct slice command_id;
	bool again;
	struct refusal no; /* literals */
};

struct fan {
	struct list link;
	struct arena arena; /* of all that it holds */
	uint64_t last;      /* op */
	struct peer_id peer;
	struct slice request_id;
	struct fan_slot *slots;
	size_t count;
};

static void
free_fan(struct fan *f)
{
	list_remove(&f->link);
	arena_fini(&f->arena);
	alloc_free(f);
}

void
hub_free_fans(struct hub *h)
{
	while (!list_empty(&h->fans))
		free_fan(LIST_OF(h->fans.next, struct fan, link));
}

static struct fan *
new_fan(struct hub *h, const struct event *ev)
{
	struct fan *f = alloc_new(sizeof(*f));

	if (f == NULL) {
		h->out->err = ERR_NOMEM;
		return NULL;
	}
	list_init(&f->link);
	arena_init(&f->arena, FAN_BYTES);
	f->peer = ev->peer;
	f->slots = arena_array(&f->arena, FAN_MAX, sizeof(*f->slots));
	if (f->slots == NULL ||
	    arena_copy(&f->arena, ev->request_id, &f->request_id) != 0) {
		h->out->err = ERR_NOMEM;
		free_fan(f);
		return NULL;
	}
	return f;
}

/* Whom --------------------------------------------------------------------- */

/* A place for one more; NULL when they are too many. */
static struct fan_slot *
add(struct hub *h, struct fan *f, struct slice target, const struct agent *a)
{
	struct fan_slot *s;

	if (f->count == FAN_MAX)
		return NULL;
	s = &f->slots[f->count++];
	*s = (struct fan_slot){ .target = none };
	if (arena_copy(&f->arena, target, &s->target) != 0 ||
	    (a != NULL && arena_copy(&f->arena, a->id, &s->agent_id) != 0))
		h->out->err = ERR_NOMEM;
	return s;
}

/* Each agent once, however often it was named. */
static bool
mark(struct hub *h, struct agent *a)
{
	bool fresh = a->fan_round != h->fan_round;

	a->fan_round = h->fan_round;
	return fresh;
}

static int
add_named(struct hub *h, const struct event *ev, const struct access *who,
    struct fan *f)
{
	const struct request *q = &ev->request;
	struct found_agent *found =
	    arena_array(&h->out->arena, q->target_count + 1, sizeof(*found));

	if (found == NULL ||
	    hub_find_agents(h, who, q->targets, q->target_count, found) != 0) {
		h->out->err = ERR_NOMEM;
		return ERR_NOMEM;
	}
	for (size_t i = 0; i < q->target_count; i++) {
		struct agent *a = found[i].agent;
		if (a != NULL && !mark(h, a))
			continue;
		struct fan_slot *s = add(h, f, q->targets[i], a);
		if (s == NULL)
			return ERR_FULL;
		s->no = found[i].no;
		/* The list of those that fit is the event's. */
		if (arena_copy(&f->arena, s->no.text, &s->no.text) != 0)
			h->out->err = ERR_NOMEM;
	}
	return 0;
}

static int
add_selected(struct hub *h, const struct access *who,
    const struct selector *wanted, struct fan *f)
{
	for (size_t i = 0; i < h->agents.count; i++) {
		struct agent *a = h->sorted[i];
		if (!hub_may_see(h, who, a))
			continue;
		arena_reset(&h->scratch);
		if (selector_match(wanted, a->record->operator_labels_json,
			a->record->labels_json, &h->scratch) != 1 ||
		    !mark(h, a))
			continue;
		if (add(h, f, none, a) == NULL)
			return ERR_FULL;
	}
	return 0;
}

static int
find_all(struct hub *h, const struct event *ev, const struct access *who,
    struct fan *f)
{
	struct selector wanted;
	int err;

	h->fan_round++;
	err = add_named(h, ev, who, f);
	if (err == 0 && ev->request.filter.selector.len > 0) {
		err = selector_parse(ev->request.filter.selector, &wanted);
		if (err != 0) {
			hub_reply_error(h, ev, err, 400, SL("INVALID_REQUEST"),
			    SL("selector"), SL("this is no selector"));
			return err;
		}
		err = add_selected(h, who, &wanted, f);
	}
	if (err != 0)
		hub_reply_error(h, ev, err, 400, SL("INVALID_REQUEST"),
		    SL("agents"), SL("these are more than 1,000 agents"));
	else if (f->count == 0)
		hub_reply_error(h, ev, ERR_NOT_FOUND, 404,
		    SL("AGENT_NOT_FOUND"), SL("selector"),
		    SL("no agent fits the selector"));
	return err != 0 ? err : f->count == 0 ? ERR_NOT_FOUND : 0;
}

/* The answer --------------------------------------------------------------- */

static void
show(struct hub *h, const struct fan_slot *s, struct fan_item *item)
{
	const struct agent *a =
	    s->agent_id.len > 0 ? map_get(&h->agents, s->agent_id) : NULL;
	const struct command *c = s->command_id.len > 0 && s->no.err == 0
	    ? map_get(&h->commands, s->command_id)
	    : NULL;

	*item = (struct fan_item){ .again = s->again,
		.err = s->no.err,
		.status = s->no.status,
		.code = s->no.code };
	if (arena_copy(&h->out->arena, s->target, &item->target) != 0 ||
	    arena_copy(&h->out->arena, s->no.text, &item->text) != 0)
		h->out->err = ERR_NOMEM;
	if (a != NULL) {
		item->agent_id = hub_text(h, &a->id, 1);
		item->name = hub_text(h, &a->record->name, 1);
		item->presence = a->presence;
		item->cordoned_at = a->record->cordoned_at;
	}
	if (c == NULL)
		return;
	item->command = hub_command_copy(h, c);
	hub_queue_place(h, c, &item->position, &item->wait);
}

static void
answer(struct hub *h, const struct fan *f)
{
	const struct event asked = { .kind = EVENT_REQUEST,
		.peer = f->peer,
		.request_id = f->request_id,
		.request = { .op = OP_COMMAND_CREATE } };
	struct reply *r = hub_reply(h, &asked, NULL, 0);
	struct fan_item *items =
	    arena_array(&h->out->arena, f->count, sizeof(*items));

	if (r == NULL || items == NULL) {
		h->out->err = ERR_NOMEM;
		return;
	}
	for (size_t i = 0; i < f->count; i++) {
		show(h, &f->slots[i], &items[i]);
		if (items[i].command != NULL)
			r->status = 201;
	}
	r->items = items;
	r->item_count = f->count;
}

void
hub_fan_stored(struct hub *h, uint64_t number)
{
	for (struct list *l = h->fans.next; l != &h->fans; l = l->next) {
		struct fan *f = LIST_OF(l, struct fan, link);
		if (f->last != number)
			continue;
		answer(h, f);
		free_fan(f);
		return;
	}
}

void
hub_fan_failed(struct hub *h, struct slice command_id, const struct refusal *no)
{
	for (struct list *l = h->fans.next; l != &h->fans; l = l->next) {
		struct fan *f = LIST_OF(l, struct fan, link);
		for (size_t i = 0; i < f->count; i++) {
			if (slice_eq(f->slots[i].command_id, command_id))
				f->slots[i].no = *no;
		}
	}
}

/* Making ------------------------------------------------------------------- */

/* One key makes one command on each agent. */
static struct slice
key_for(struct hub *h, struct slice key, const struct agent *a)
{
	const struct slice parts[] = { key, SL(" "), a->id };

	return key.len == 0 ? none : hub_text(h, parts, 3);
}

static void
make(struct hub *h, const struct event *ev, const struct access *who,
    struct fan *f, struct fan_slot *s)
{
	struct agent *a = map_get(&h->agents, s->agent_id);
	struct command *c = hub_make_command(
	    h, ev, who, a, key_for(h, ev->request.request_key, a), &s->no);

	if (c == NULL)
		return;
	s->again = s->no.status != 201;
	if (arena_copy(&f->arena, c->record->id, &s->command_id) != 0)
		h->out->err = ERR_NOMEM;
	if (c->creating > f->last)
		f->last = c->creating;
	if (s->again)
		return;
	hub_tell_command(h, c, SL("command.queued"), c->record, c->creating);
	hub_settle(h, a, SL("command"));
}

void
hub_fan_out(struct hub *h, const struct event *ev, const struct access *who)
{
	struct fan *f = new_fan(h, ev);

	if (f == NULL)
		return;
	if (find_all(h, ev, who, f) != 0) {
		free_fan(f);
		return;
	}
	for (size_t i = 0; i < f->count && h->out->err == 0; i++) {
		if (f->slots[i].no.err == 0)
			make(h, ev, who, f, &f->slots[i]);
	}
	if (f->last == 0 || h->out->err != 0) {
		answer(h, f);
		free_fan(f);
		return;
	}
	list_push(&h->fans, &f->link);
	if (hub_pend(h, f->last, PENDING_FAN, none, NULL) == NULL)
		free_fan(f);
}
