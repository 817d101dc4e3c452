/*
 * Design notes.  When a link ends without an exit, or a holder says that the
 * claim exists, a verdict is fetched by a worker thread, one job at a time:
 * the claim is busy (attach again), ended, or unknown.
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

static int
add_job(struct runner *rn, struct run *run, const char *id)
{
	struct job *j = alloc_new(sizeof(*j));
	bool first = list_empty(&rn->jobs);

	if (j == NULL)
		return ERR_NOMEM;
	j->rn = rn;
	j->run = run;
	j->mark = rn->journal.mark;
	memcpy(j->id, id, sizeof(j->id));
	arena_init(&j->a, RUNNER_ARENA);
	list_push(&rn->jobs, &j->link);
	if (first)
		next_job(rn);
	return 0;
}

void
runner_judge(struct run *r)
{
	if (!r->rn->closing && add_job(r->rn, r, r->id) != 0)
		try_later(r, JUDGE_EVERY);
}

int
runner_remove(struct runner *rn, const char *id)
{
	return add_job(rn, NULL, id);
}
