/*
 * Design notes.  A halted runner tells every holder to kill, those that it
 * finds later too, and starts nothing.  Killing is the holders' work: here
 * nothing waits, for a disk or for anybody.  What they did is kept apart from
 * the runs, because a run may be stored and forgotten before the last one is
 * dead.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "agent/runner_parts.h"

/* Is surely dead, or its holder has said that it will not die. */
bool
runner_is_settled(const struct run *r)
{
	return r->dead || r->stuck || r->state == RUN_REFUSED ||
	    (r->state == RUN_ENDED && !r->lives);
}

bool
runner_quiet(const struct runner *rn)
{
	struct run *r;
	size_t pos = 0;

	while ((r = map_next(&rn->runs, &pos)) != NULL)
		if (!runner_is_settled(r))
			return false;
	return true;
}

void
runner_settle(struct loop_task *t)
{
	struct runner *rn = LIST_OF(t, struct runner, settle);

	if (!rn->halted || rn->closing || !runner_quiet(rn) || !rn->news)
		return;
	rn->news = false;
	rn->c.ops->quiet(rn->c.arg);
}

void
runner_look(struct runner *rn)
{
	if (rn->halted && !rn->closing)
		loop_defer(rn->c.loop, &rn->settle);
}

/* What it did -------------------------------------------------------------- */

static struct slice
keep(uint8_t **at, struct slice s)
{
	struct slice kept = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return kept;
}

static bool
is_known(const struct run_kill *old, const struct run_kill *k)
{
	return old != NULL && old->count == k->count &&
	    slice_eq(old->pids, k->pids) && slice_eq(old->left, k->left);
}

static void
drop_kill(struct runner *rn, struct slice id)
{
	alloc_free(map_del(&rn->kills, id));
}

void
runner_note_kill(struct run *r, const struct run_kill *k)
{
	struct runner *rn = r->rn;
	size_t n = k->id.len + k->pids.len + k->left.len;

	/* What an agent finds at its start may belong to a stop that is
	 * about to be heard of again. */
	if ((!rn->halted && rn->halts > 0) ||
	    is_known(map_get(&rn->kills, k->id), k))
		return;
	rn->news = true;
	drop_kill(rn, k->id);
	struct run_kill *kept = alloc_new(sizeof(*kept) + n);
	/* Without memory the receipt says less, and that is all. */
	if (kept == NULL)
		return;
	uint8_t *at = (uint8_t *)(kept + 1);
	*kept = *k;
	kept->id = keep(&at, k->id);
	kept->pids = keep(&at, k->pids);
	kept->left = keep(&at, k->left);
	if (map_put(&rn->kills, kept->id, kept) != 0)
		alloc_free(kept);
}

void
runner_drop_kills(struct runner *rn)
{
	struct run_kill *k;
	size_t pos;

	while (pos = 0, (k = map_next(&rn->kills, &pos)) != NULL)
		drop_kill(rn, k->id);
}

const struct run_kill *
runner_next_kill(const struct runner *rn, size_t *pos)
{
	return map_next(&rn->kills, pos);
}

/* Halting ------------------------------------------------------------------ */

void
runner_halt(struct runner *rn, bool halt)
{
	size_t pos = 0;
	struct run *r;

	if (rn->halted && !halt)
		runner_drop_kills(rn);
	rn->halted = rn->news = halt;
	rn->halts += halt;
	/* One that nobody can reach just now is told when it is attached to. */
	while (halt && (r = map_next(&rn->runs, &pos)) != NULL)
		(void)runner_signal(r, HOLDER_STOP);
	runner_look(rn);
	runner_watch_holders(rn);
}
