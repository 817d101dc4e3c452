/*
 * Design notes.  When a link ends without an exit, or a holder says that the
 * claim exists, a verdict is fetched by a worker thread, one job at a time:
 * the claim is busy (attach again), ended, or unknown.
 *
 * A directory may only be removed once the mark that its claim carried is in
 * the journal, which takes two fsyncs.  Nobody waits for that, so removals
 * wait for one another: the first saves the highest mark, which is enough for
 * the rest.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/crash.h"
#include "io/log.h"

#include "agent/runner_dir.h"

#include "agent/runner_parts.h"

enum {
	ATTACH_EVERY = 50,  /* ms, while a holder is not listening yet */
	JUDGE_EVERY = 5000, /* ms, while the disk is in trouble */
	REMOVE_AFTER = 500, /* ms: all that come within share one mark */
	REMOVALS_MAX = 256, /* more do not wait */
};

struct job {
	struct list link;
	struct loop_work work;
	struct runner *rn;
	struct run *run; /* NULL: remove what id names */
	char id[HOLDER_ID_MAX + 1];
	uint64_t mark;
	int err;
	struct arena a;
	struct slice exit;
};

static void next_job(struct runner *rn);

static void
work_job(struct loop_work *w)
{
	struct job *j = LIST_OF(w, struct job, work);
	struct runner *rn = j->rn;

	if (j->run != NULL) {
		j->err = dir_verdict(
		    rn->c.fs, rn->cmd, j->id, rn->c.cgroup, &j->a, &j->exit);
		return;
	}
	/* The mark first: without claim and mark it could run again. */
	j->err = journal_save(&rn->journal, j->mark);
	crash_point("agent.marked");
	if (j->err == 0)
		j->err = dir_remove(rn->cmd, j->id, &j->a);
}

static void
on_again(struct loop_timer *t)
{
	runner_attach(LIST_OF(t, struct run, again));
}

/* A busy claim whose holder does not listen yet, or a disk in trouble. */
static void
try_later(struct run *r, msec wait)
{
	struct loop *l = r->rn->c.loop;

	(void)loop_timer_set(l, &r->again, loop_now(l) + wait, on_again);
}

/* It ran, and somebody took its directory away. */
static void
end_lost(struct run *r)
{
	const struct record_claim claim = { .id = run_id(r), .seq = r->seq };
	struct buf text;

	buf_init(&text, HOLDER_TEXT_MAX);
	record_write_unknown(&text, &claim, (uint64_t[2]){ 0 });
	if (text.err == 0)
		runner_end_run(r, buf_peek(&text));
	else
		try_later(r, JUDGE_EVERY);
	buf_fini(&text);
}

static void
judged(struct run *r, const struct job *j)
{
	if (j->err == 0)
		runner_end_run(r, j->exit);
	else if (j->err != ERR_NOT_FOUND)
		try_later(r, j->err == ERR_BUSY ? ATTACH_EVERY : JUDGE_EVERY);
	else if (buf_peek(&r->order).len > 0)
		runner_order_again(r);
	else
		end_lost(r);
}

static void
done_job(struct loop_work *w)
{
	struct job *j = LIST_OF(w, struct job, work);
	struct runner *rn = j->rn;

	list_remove(&j->link);
	if (j->err != 0 && j->err != ERR_BUSY && j->err != ERR_NOT_FOUND)
		log_error(
		    "command_dir", kv_c("id", j->id), kv_e("err", j->err));
	if (j->run != NULL && !rn->closing)
		judged(j->run, j);
	arena_fini(&j->a);
	alloc_free(j);
	next_job(rn);
	runner_finish_if_closed(rn);
}

static void
next_job(struct runner *rn)
{
	if (list_empty(&rn->jobs))
		return;
	struct job *j = LIST_OF(rn->jobs.next, struct job, link);
	j->work = (struct loop_work){ .work = work_job, .done = done_job };
	int err = loop_work(rn->c.loop, &j->work);
	assert(err == 0);
	(void)err;
}

static struct job *
new_job(struct runner *rn, struct run *run, const char *id)
{
	struct job *j = alloc_new(sizeof(*j));

	if (j == NULL)
		return NULL;
	j->rn = rn;
	j->run = run;
	memcpy(j->id, id, sizeof(j->id));
	arena_init(&j->a, RUNNER_ARENA);
	return j;
}

static void
add_job(struct runner *rn, struct job *j)
{
	bool first = list_empty(&rn->jobs);

	j->mark = rn->journal.mark;
	list_push(&rn->jobs, &j->link);
	if (first)
		next_job(rn);
}

void
runner_judge(struct run *r)
{
	struct job *j;

	if (r->rn->closing)
		return;
	j = new_job(r->rn, r, r->id);
	if (j != NULL)
		add_job(r->rn, j);
	else
		try_later(r, JUDGE_EVERY);
}

void
runner_hurry_removals(struct runner *rn)
{
	struct list *l;

	loop_timer_stop(rn->c.loop, &rn->removing);
	rn->removal_count = 0;
	while ((l = list_pop(&rn->removals)) != NULL)
		add_job(rn, LIST_OF(l, struct job, link));
}

static void
on_removing(struct loop_timer *t)
{
	runner_hurry_removals(LIST_OF(t, struct runner, removing));
}

int
runner_remove(struct runner *rn, const char *id)
{
	struct job *j = new_job(rn, NULL, id);
	struct loop *l = rn->c.loop;

	if (j == NULL)
		return ERR_NOMEM;
	list_push(&rn->removals, &j->link);
	/* The first sets the time, and without a timer there is no waiting. */
	if (rn->closing || ++rn->removal_count > REMOVALS_MAX ||
	    (rn->removal_count == 1 &&
		loop_timer_set(l, &rn->removing, loop_now(l) + REMOVE_AFTER,
		    on_removing) != 0))
		runner_hurry_removals(rn);
	return 0;
}
