/*
 * What becomes of an agent's commands when it comes back, goes, or is
 * removed.
 */
#include <stdlib.h>

#include "base/err.h"

#include "model/hub_state.h"

void
hub_tell_forget(
    struct hub *h, const struct agent *a, struct slice id, uint64_t after)
{
	if (a->link == NULL || !a->native)
		return;
	struct effect *e = outbox_add(h->out, EFFECT_STREAM);
	if (e == NULL)
		return;
	e->peer = a->link->peer;
	e->after = after;
	e->stream.verb = STREAM_DONE;
	if (arena_copy(&h->out->arena, id, &e->stream.command_id) != 0)
		h->out->err = ERR_NOMEM;
}

static void
end_unknown(struct hub *h, struct command *c, struct slice why)
{
	struct outcome o = { .code = SL("UNKNOWN_OUTCOME"), .why = why };

	hub_end_command(h, c, COMMAND_UNKNOWN, &o);
}

static const struct held_command *
find_held(const struct native_hello *n, struct slice id)
{
	for (size_t i = 0; i < n->held_count; i++) {
		if (slice_eq(n->held[i].id, id))
			return &n->held[i];
	}
	return NULL;
}

/* What it still has, and be it only what a dead holder has left, it tells by
 * the stream; and a number that it never took can still be given to it. */
static bool
goes_on(const struct command *c, const struct native_hello *n)
{
	return find_held(n, c->record->id) != NULL ||
	    c->record->sequence > n->sequence;
}

static int
by_sequence(const void *a, const void *b)
{
	struct command *const *x = a, *const *y = b;
	uint64_t m = (*x)->record->sequence, n = (*y)->record->sequence;

	return m < n ? -1 : m > n;
}

/* The active ones by number, and as an array: the list changes while they
 * end. */
static struct command **
list_active(struct hub *h, const struct agent *a, size_t *count)
{
	size_t room = (size_t)a->attached + a->detached;
	struct command **all =
	    arena_array(&h->out->arena, room + 1, sizeof(struct command *));
	size_t n = 0;

	if (all == NULL) {
		h->out->err = ERR_NOMEM;
		*count = 0;
		return NULL;
	}
	for (struct list *l = a->active.next; l != &a->active; l = l->next)
		all[n++] = LIST_OF(l, struct command, link);
	if (n > 1)
		qsort(all, n, sizeof(struct command *), by_sequence);
	*count = n;
	return all;
}

static void
forget_rest(struct hub *h, struct agent *a, const struct native_hello *n,
    uint64_t after)
{
	for (size_t i = 0; i < n->held_count; i++) {
		const struct held_command *held = &n->held[i];
		struct command *c = map_get(&h->commands, held->id);
		if (c == NULL)
			hub_tell_forget(h, a, held->id, after);
		else if (c->outcome != NULL)
			c->untold = true;
	}
}

/* In the order of their numbers: an agent refuses one below its mark. */
void
hub_open_streams(struct hub *h, struct agent *a)
{
	size_t count;
	struct command **all = list_active(h, a, &count);

	for (size_t i = 0; i < count; i++)
		hub_open_stream(h, all[i]);
}

static bool
other_life(const struct hub *h, const struct native_hello *n)
{
	return !slice_eq(n->incarnation, h->incarnation);
}

bool
hub_doubts(
    const struct hub *h, const struct agent *a, const struct native_hello *n)
{
	if (!n->present || !other_life(h, n))
		return false;
	for (size_t p = 0; p < 3; p++)
		for (struct list *at = a->waiting[p].next; at != &a->waiting[p];
		     at = at->next)
			if (LIST_OF(at, struct command, link)->floor != 0)
				return true;
	return false;
}

/* Who polls has no numbers that would tell. */
static bool
may_have_run(const struct hub *h, const struct command *c, uint64_t floor,
    const struct native_hello *n)
{
	if (floor == 0 || n == NULL)
		return floor != 0;
	return n->sequence >= floor && other_life(h, n) &&
	    find_held(n, c->record->id) == NULL;
}

void
hub_judge_restored(struct hub *h, struct agent *a, const struct native_hello *n)
{
	for (size_t p = 0; p < 3; p++) {
		struct list *at = a->waiting[p].next;
		while (at != &a->waiting[p]) {
			struct command *c = LIST_OF(at, struct command, link);
			uint64_t floor = c->floor;
			at = at->next;
			c->floor = 0;
			if (may_have_run(h, c, floor, n))
				end_unknown(h, c,
				    SL("it may have run between the backup "
				       "and its restoration"));
		}
	}
}

void
hub_resume_commands(struct hub *h, struct agent *a,
    const struct native_hello *n, uint64_t after)
{
	size_t count;
	struct command **all = list_active(h, a, &count);

	hub_unpause(a);
	forget_rest(h, a, n, after);
	a->resuming = true;
	hub_judge_restored(h, a, n);
	for (size_t i = 0; i < count; i++) {
		all[i]->opened = false;
		if (!goes_on(all[i], n))
			end_unknown(
			    h, all[i], SL("the agent has no record of it"));
	}
	a->resuming = false;
	hub_open_streams(h, a);
}

/* What was offered over HTTP may still be answered there. */
void
hub_forsake_commands(struct hub *h, struct agent *a)
{
	size_t count;
	struct command **all;

	if (a->native)
		return;
	all = list_active(h, a, &count);
	for (size_t i = 0; i < count; i++) {
		if (all[i]->record->attempt == 0)
			end_unknown(h, all[i],
			    SL("the agent's connection ended first"));
	}
}

void
hub_abandon_commands(struct hub *h, struct agent *a)
{
	const struct outcome o = { .code = SL("AGENT_REMOVED"),
		.why = SL("its agent was removed before it was sent") };
	size_t count;
	struct command **all = list_active(h, a, &count), *c;

	while ((c = hub_first_waiting(a)) != NULL && h->out->err == 0)
		hub_finish_command(h, c, COMMAND_CANCELLED, &o);
	for (size_t i = 0; i < count; i++)
		end_unknown(
		    h, all[i], SL("its agent was removed before it ended"));
}
