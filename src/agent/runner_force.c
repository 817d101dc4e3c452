/*
 * Design notes.  A holder kills within milliseconds.  One that has said
 * nothing a second after it was told is frozen or starved, and what it holds
 * must not profit: a worker thread kills below it, and lets it go on.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "io/log.h"

#include "agent/prockill.h"
#include "agent/runner_dir.h"

#include "agent/runner_parts.h"

enum { FORCE_AFTER = 1000, FORCE_MOST = 256 };

struct force {
	struct loop_work work;
	struct runner *rn;
	size_t count;
	struct {
		pid_t pid;
		char id[HOLDER_ID_MAX + 1];
	} at[FORCE_MOST];
};

static void
on_work(struct loop_work *w)
{
	struct force *f = LIST_OF(w, struct force, work);
	struct arena a;

	for (size_t i = 0; i < f->count; i++) {
		arena_init(&a, RUNNER_ARENA);
		if (f->rn->c.cgroup != NULL)
			dir_kill(f->rn->c.cgroup, f->rn->cmd, f->at[i].id, &a);
		prockill_below(f->at[i].pid);
		arena_fini(&a);
	}
}

static void
on_done(struct loop_work *w)
{
	struct force *f = LIST_OF(w, struct force, work);
	struct runner *rn = f->rn;

	rn->forcing = NULL;
	alloc_free(f);
	runner_watch_holders(rn);
	runner_finish_if_closed(rn);
}

/* Their sockets are open, so the numbers are still theirs. */
static void
list_silent(struct runner *rn, struct force *f)
{
	struct run *r;
	size_t pos = 0;

	while (
	    f->count < FORCE_MOST && (r = map_next(&rn->runs, &pos)) != NULL) {
		if (runner_is_settled(r) || r->link == NULL ||
		    r->link->pid == 0)
			continue;
		log_warn("holder_silent", kv_s("id", run_id(r)));
		f->at[f->count].pid = r->link->pid;
		memcpy(f->at[f->count++].id, r->id, sizeof(r->id));
	}
}

static void
on_force(struct loop_timer *t)
{
	struct runner *rn = LIST_OF(t, struct runner, force);
	struct force *f = alloc_new(sizeof(*f));

	if (f != NULL) {
		f->rn = rn;
		list_silent(rn, f);
		f->work =
		    (struct loop_work){ .work = on_work, .done = on_done };
		if (f->count > 0 && loop_work(rn->c.loop, &f->work) == 0) {
			rn->forcing = f;
			return;
		}
	}
	alloc_free(f);
	runner_watch_holders(rn);
}

void
runner_watch_holders(struct runner *rn)
{
	struct loop *l = rn->c.loop;

	if (!rn->halted || rn->closing || runner_quiet(rn))
		loop_timer_stop(l, &rn->force);
	else if (rn->forcing == NULL)
		(void)loop_timer_set(
		    l, &rn->force, loop_now(l) + FORCE_AFTER, on_force);
}
