/*
 * Design notes.  All commands together may have so much output on this host
 * that the controller does not have yet.  What they have is asked of the disk
 * now and then, by a worker: what holders tell says less, because nothing is
 * asked of one that has enough to send.  Between two looks the bound may be
 * passed by what comes in that time, so looks are closer near it.
 */
#include "base/err.h"
#include "io/log.h"

#include "agent/runner_dir.h"

#include "agent/runner_parts.h"

enum {
	LOOK_EVERY = 1000, /* ms */
	LOOK_SOON = 50,    /* ms, above half of it */
};

/* A run as it was when the look began. */
struct room_run {
	char id[HOLDER_ID_MAX + 1];
	uint64_t acked[2];
};

static void
work_room(struct loop_work *w)
{
	struct room *m = LIST_OF(w, struct room, work);
	const struct runner *rn = LIST_OF(m, struct runner, room);

	m->used = 0;
	for (size_t i = 0; i < m->count; i++) {
		struct arena a;
		arena_init(&a, 4 * RUNNER_PATH);
		m->used +=
		    dir_unsent(rn->cmd, m->runs[i].id, m->runs[i].acked, &a);
		arena_fini(&a);
	}
}

static void
settle(struct runner *rn)
{
	struct room *m = &rn->room;
	/* Not to and fro with each acknowledgement. */
	uint64_t from = m->full ? m->limit - m->limit / 8 : m->limit;
	bool full = m->limit > 0 && m->used >= from;

	if (full == m->full)
		return;
	m->full = full;
	if (full)
		log_warn("spools_full", kv_u("bytes", m->used),
		    kv_u("limit", m->limit));
	else
		log_info("spools_have_room", kv_u("bytes", m->used));
	runner_hold(rn, full);
}

static void
done_room(struct loop_work *w)
{
	struct room *m = LIST_OF(w, struct room, work);
	struct runner *rn = LIST_OF(m, struct runner, room);

	m->busy = false;
	arena_fini(&m->arena);
	if (!rn->closing) {
		settle(rn);
		runner_look_for_room(rn);
	}
	runner_finish_if_closed(rn);
}

static int
list_runs(struct runner *rn)
{
	struct room *m = &rn->room;
	struct run *r;
	size_t pos = 0;

	m->count = 0;
	m->runs = arena_array(&m->arena, rn->runs.count + 1, sizeof(*m->runs));
	if (m->runs == NULL)
		return ERR_NOMEM;
	while ((r = map_next(&rn->runs, &pos)) != NULL) {
		struct room_run *at = &m->runs[m->count++];
		memcpy(at->id, r->id, sizeof(at->id));
		memcpy(at->acked, r->acked, sizeof(at->acked));
	}
	return 0;
}

static void
on_look(struct loop_timer *t)
{
	struct room *m = LIST_OF(t, struct room, timer);
	struct runner *rn = LIST_OF(m, struct runner, room);

	m->set = false;
	arena_init(&m->arena, rn->c.cap * sizeof(struct room_run) + 4096);
	m->work = (struct loop_work){ .work = work_room, .done = done_room };
	int err = list_runs(rn);
	if (err == 0)
		err = loop_work(rn->c.loop, &m->work);
	m->busy = err == 0;
	if (err != 0) {
		arena_fini(&m->arena);
		runner_look_for_room(rn);
	}
}

void
runner_look_for_room(struct runner *rn)
{
	struct room *m = &rn->room;
	struct loop *l = rn->c.loop;
	bool near = m->used >= m->limit / 2;

	if (m->set || m->busy || m->limit == 0 || rn->closing ||
	    (rn->runs.count == 0 && !m->full))
		return;
	m->set =
	    loop_timer_set(l, &m->timer,
		loop_now(l) + (near ? LOOK_SOON : LOOK_EVERY), on_look) == 0;
}

void
runner_budget(struct runner *rn, uint64_t bytes)
{
	rn->room.limit = bytes;
	runner_look_for_room(rn);
}
