/*
 * Design notes.  A run is driven by its link: an order goes out on an idle
 * holder's socket, everything else is frames.  Nothing here decides from
 * memory what the disk can tell (runner_job.c).
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/rand.h"

#include "agent/runner_dir.h"

#include "agent/runner_parts.h"

enum { CMD_NAMES = 65536 }; /* directories in cmd/ at the most */

/* States --------------------------------------------------------------------
 */

static void
move(struct run *r, enum run_state to)
{
	static const unsigned may[RUN_STATES] = {
		[RUN_STARTING] = 1U << RUN_STARTING | 1U << RUN_RUNNING |
		    1U << RUN_ENDED | 1U << RUN_REFUSED,
		[RUN_RUNNING] =
		    1U << RUN_RUNNING | 1U << RUN_ENDED | 1U << RUN_STARTING,
		[RUN_ENDED] = 0,
		[RUN_REFUSED] = 0,
	};

	assert((may[r->state] >> to & 1) != 0);
	r->state = to;
}

void
runner_free_run(struct run *r)
{
	struct runner *rn = r->rn;

	loop_timer_stop(rn->c.loop, &r->again);
	runner_drop_fetch(r);
	if (r->link != NULL) {
		r->link->run = NULL;
		link_close(r->link);
	}
	for (int i = 0; i < 2; i++)
		file_close(&r->spool[i]);
	arena_fini(&r->exit);
	buf_fini(&r->order);
	(void)map_del(&rn->runs, run_id(r));
	alloc_free(r);
}

int
runner_new_run(
    struct runner *rn, struct slice id, uint64_t seq, struct run **out)
{
	struct run *r = alloc_new(sizeof(*r));

	if (r == NULL)
		return ERR_NOMEM;
	r->rn = rn;
	r->seq = seq;
	arena_init(&r->exit, RUNNER_ARENA);
	buf_init(&r->order, HOLDER_ORDER_MAX);
	int err = slice_cstr(id, r->id, sizeof(r->id));
	if (err == 0)
		err = map_put(&rn->runs, run_id(r), r);
	if (err != 0) {
		arena_fini(&r->exit);
		alloc_free(r);
		return err;
	}
	*out = r;
	return 0;
}

/* It ended; text is copied, because the record is told from it for long. */
void
runner_end_run(struct run *r, struct slice text)
{
	struct record_exit x;
	struct slice copy;

	if (r->state >= RUN_ENDED || arena_copy(&r->exit, text, &copy) != 0 ||
	    record_read_exit(copy, &x) != 0)
		return;
	move(r, RUN_ENDED);
	r->lives = r->link != NULL && x.lingering > 0;
	if (slice_eq(x.reason, SL("stop")))
		runner_note_kill(r,
		    &(struct run_kill){
			run_id(r), x.killed, x.stop_ms, x.pids, x.left });
	runner_look(r->rn);
	r->rn->c.ops->ended(r->rn->c.arg, r, &x);
}

/* Frames --------------------------------------------------------------------
 */

static uint64_t
text_u64(struct slice text, const char *key)
{
	uint64_t n = 0;

	(void)slice_u64(
	    record_value(text, '\0', slice_from(key)), INT64_MAX, &n);
	return n;
}

/* Who is dead, and who will not die. */
static void
see_deaths(struct run *r, struct slice body)
{
	const struct run_kill k = {
		.id = run_id(r),
		.count = text_u64(body, "killed"),
		.took_ms = text_u64(body, "stop_ms"),
		.pids = record_value(body, '\0', SL("pids")),
		.left = record_value(body, '\0', SL("left")),
	};

	r->dead = text_u64(body, "dead") != 0;
	r->stuck = k.left.len > 0;
	/* One that has ended is of interest when something of it was left. */
	if (r->rn->halted && (r->dead || r->stuck) &&
	    (r->state < RUN_ENDED || k.count > 0))
		runner_note_kill(r, &k);
	runner_look(r->rn);
}

static void
note_acked(struct run *r, int stream, uint64_t offset)
{
	if (offset > r->acked[stream])
		r->acked[stream] = offset;
}

static void
on_status(struct run *r, struct slice body)
{
	struct run_input *in = &r->input;

	see_deaths(r, body);
	in->received = text_u64(body, "input_received");
	in->consumed = text_u64(body, "input_consumed");
	in->closed = text_u64(body, "input_closed") != 0;
	/* What an earlier agent acknowledged. */
	note_acked(r, 0, text_u64(body, "out_acked"));
	note_acked(r, 1, text_u64(body, "err_acked"));
	if (r->state != RUN_STARTING ||
	    !slice_eq(record_value(body, '\0', SL("state")), SL("running")))
		return;
	move(r, RUN_RUNNING);
	buf_fini(&r->order);
	r->rn->c.ops->started(r->rn->c.arg, r, (int64_t)text_u64(body, "pid"));
}

static void
on_output(struct run *r, struct slice body)
{
	struct run_output o;

	if (body.len != 17 || r->state >= RUN_ENDED)
		return;
	o.size[0] = holder_get(body.ptr, 8);
	o.size[1] = holder_get(body.ptr + 8, 8);
	o.flags = body.ptr[16];
	r->rn->c.ops->output(r->rn->c.arg, r, &o);
}

static void
on_consumed(struct run *r, struct slice body)
{
	if (body.len != 17 || r->state >= RUN_ENDED)
		return;
	r->input.received = holder_get(body.ptr, 8);
	r->input.consumed = holder_get(body.ptr + 8, 8);
	r->input.closed = body.ptr[16] != 0;
	r->rn->c.ops->input(r->rn->c.arg, r, &r->input);
}

void
runner_refuse(struct run *r, struct slice reason, struct slice error)
{
	move(r, RUN_REFUSED);
	runner_look(r->rn);
	r->rn->c.ops->refused(r->rn->c.arg, r, reason, error);
}

static void
on_refused(struct run *r, struct slice body)
{
	struct slice reason = record_value(body, '\0', SL("reason"));

	/* Somebody holds it or held it: the disk knows. */
	if (slice_eq(reason, SL("exists"))) {
		r->link->run = NULL;
		link_close(r->link);
		r->link = NULL;
		runner_judge(r);
		return;
	}
	runner_refuse(r, reason, record_value(body, '\0', SL("error")));
}

static const struct {
	uint8_t type;
	void (*on)(struct run *r, struct slice body);
} handlers[] = {
	{ 'G', on_output },
	{ 'C', on_consumed },
	{ 'T', on_status },
	{ 'X', runner_end_run },
	{ 'V', on_refused },
};

static void
on_frame(struct link *l, uint8_t type, struct slice body)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].type == type && l->run != NULL) {
			handlers[i].on(l->run, body);
			return;
		}
}

static void
on_link_end(struct link *l)
{
	struct run *r = l->run;

	if (r == NULL) {
		/* An idle holder died; a new one is made when needed. */
		return;
	}
	r->link = NULL;
	if (r->state < RUN_ENDED) {
		if (r->state == RUN_RUNNING)
			move(r, RUN_STARTING);
		runner_judge(r);
	} else if (r->lives) {
		r->lives = false;
		runner_look(r->rn);
		r->rn->c.ops->gone(r->rn->c.arg, r);
	}
}

void
runner_send_hold(struct run *r)
{
	uint8_t on = r->rn->hold ? 1 : 0;

	if (r->link != NULL && r->state < RUN_ENDED)
		(void)link_send(r->link, 'H', (struct slice){ &on, 1 },
		    (struct slice){ 0 });
}

static void
send_stop(struct run *r)
{
	uint8_t what = HOLDER_STOP;

	(void)link_send(
	    r->link, 'S', (struct slice){ &what, 1 }, (struct slice){ 0 });
}

static void
on_opened(struct link *l, int err)
{
	struct run *r = l->run;

	if (r == NULL)
		return;
	if (err != 0) {
		r->link = NULL;
		runner_judge(r);
		return;
	}
	if (r->rn->halted)
		send_stop(r);
	if (r->rn->hold)
		runner_send_hold(r);
}

void
runner_attach(struct run *r)
{
	struct arena a;

	arena_init(&a, 2 * RUNNER_PATH);
	char *dir = dir_path(&a, r->rn->cmd, r->id, NULL);
	if (dir != NULL && link_connect(&r->rn->home, dir, &r->link) == 0)
		r->link->run = r;
	else
		runner_judge(r);
	arena_fini(&a);
}

/* What is asked of a run ----------------------------------------------------
 */

struct run *
runner_find(const struct runner *rn, struct slice id)
{
	return map_get(&rn->runs, id);
}

struct run *
runner_next(const struct runner *rn, size_t *pos)
{
	return map_next(&rn->runs, pos);
}

struct slice
run_id(const struct run *r)
{
	return slice_from(r->id);
}

uint64_t
run_seq(const struct run *r)
{
	return r->seq;
}

enum run_state
run_state(const struct run *r)
{
	return r->state;
}

const struct run_input *
run_input(const struct run *r)
{
	return &r->input;
}

static int
say(struct run *r, uint8_t type, const uint8_t *head, size_t n,
    struct slice data)
{
	return r->link == NULL
	    ? ERR_WRONG_STATE
	    : link_send(r->link, type, (struct slice){ head, n }, data);
}

void
runner_more(struct run *r, const uint64_t seen[2])
{
	uint8_t body[16];

	holder_put(body, seen[0], 8);
	holder_put(body + 8, seen[1], 8);
	if (r->state < RUN_ENDED)
		(void)say(r, 'R', body, sizeof(body), (struct slice){ 0 });
}

static int
open_spool(struct run *r, int stream)
{
	struct arena a;

	arena_init(&a, 2 * RUNNER_PATH);
	char *path =
	    dir_path(&a, r->rn->cmd, r->id, stream == 0 ? "out" : "err");
	int err = path == NULL
	    ? ERR_NOMEM
	    : file_open(r->rn->c.fs, path, FILE_READ, 0, &r->spool[stream]);
	arena_fini(&a);
	return err;
}

/*
 * How much of n bytes at an offset is there, or else how much is not: the
 * holder leaves a hole where it prunes, and so does a power failure between
 * what had reached the disk.
 */
static int
look_at_hole(struct file *f, uint64_t at, size_t *n, size_t *gone)
{
	uint64_t from = 0, to = 0;
	int err = file_data(f, at, &from, &to);

	if (err == ERR_NOT_FOUND) {
		*n = 0;
		return 0;
	}
	if (err != 0)
		return err;
	*gone = (size_t)(from - at);
	if (from > at)
		return ERR_GONE;
	if (to - at < *n)
		*n = (size_t)(to - at);
	return 0;
}

/* The same of what the holder dropped, which it has written down. */
static int
look_at_gap(struct run *r, int stream, uint64_t at, size_t *n, size_t *gone)
{
	uint64_t from, to;

	if (at + *n <= r->clear[stream])
		return 0;
	int err = dir_gap(r->rn->c.fs, r->rn->cmd, r->id,
	    stream == 0 ? "out" : "err", at, &from, &to);
	if (err == ERR_NOT_FOUND)
		return 0; /* and the next may come at any time */
	if (err != 0)
		return err;
	if (from <= at) {
		*gone = (size_t)(to - at);
		return ERR_GONE;
	}
	r->clear[stream] = from;
	if (from - at < *n)
		*n = (size_t)(from - at);
	return 0;
}

/* From memory; what is not there is asked for.  It may be gone again by the
 * time it has come: then it is waited for. */
static int
read_spool(
    struct run *r, int stream, uint64_t at, uint8_t *out, size_t n, size_t *got)
{
	struct file *f = &r->spool[stream];
	bool fetched = r->fetched;
	int err = file_read_cached(f, at, out, n, got);

	r->fetched = false;
	if (err != ERR_AGAIN)
		return err;
	if (!fetched && runner_fetch(r, stream, at) == 0)
		return ERR_AGAIN;
	return file_read(f, at, out, n, got);
}

int
runner_read(
    struct run *r, int stream, uint64_t at, uint8_t *out, size_t n, size_t *got)
{
	struct file *f = &r->spool[stream];
	int err = 0;

	*got = 0;
	if (at + HOLDER_KEEP < r->acked[stream]) {
		*got = (size_t)(r->acked[stream] - HOLDER_KEEP - at);
		return ERR_GONE;
	}
	if (r->drops)
		err = look_at_gap(r, stream, at, &n, got);
	if (err == 0 && f->layer == NULL)
		err = open_spool(r, stream);
	if (err == ERR_NOT_FOUND)
		return 0;
	if (err == 0 && r->adopted)
		err = look_at_hole(f, at, &n, got);
	return err != 0 ? err : read_spool(r, stream, at, out, n, got);
}

void
runner_ack(struct run *r, int stream, uint64_t offset)
{
	uint8_t body[9] = { (uint8_t)stream };

	if (offset <= r->acked[stream])
		return;
	r->acked[stream] = offset;
	holder_put(body + 1, offset, 8);
	if (r->state < RUN_ENDED)
		(void)say(r, 'A', body, sizeof(body), (struct slice){ 0 });
}

int
runner_input(struct run *r, uint64_t at, struct slice data)
{
	uint8_t head[8];

	if (r->state >= RUN_ENDED)
		return ERR_WRONG_STATE;
	if (r->input.closed)
		return ERR_CLOSED;
	if (data.len > HOLDER_INPUT_WINDOW ||
	    at + data.len > r->input.consumed + HOLDER_INPUT_WINDOW)
		return ERR_FULL;
	holder_put(head, at, 8);
	return say(r, 'I', head, sizeof(head), data);
}

int
runner_input_end(struct run *r, uint64_t at)
{
	uint8_t body[8];

	if (r->state >= RUN_ENDED)
		return ERR_WRONG_STATE;
	holder_put(body, at, 8);
	return say(r, 'E', body, sizeof(body), (struct slice){ 0 });
}

int
runner_signal(struct run *r, enum holder_signal what)
{
	uint8_t body = (uint8_t)what;

	if (r->state >= RUN_ENDED && !r->lives)
		return ERR_WRONG_STATE;
	return say(r, 'S', &body, 1, (struct slice){ 0 });
}

void
runner_hold(struct runner *rn, bool hold)
{
	size_t pos = 0;
	struct run *r;

	rn->hold = hold;
	while ((r = map_next(&rn->runs, &pos)) != NULL)
		runner_send_hold(r);
}

int
runner_forget(struct run *r)
{
	if (r->state < RUN_ENDED || r->lives)
		return ERR_WRONG_STATE;
	int err = runner_remove(r->rn, r->id);
	if (err == 0)
		runner_free_run(r);
	return err;
}

uint64_t
runner_mark(const struct runner *rn)
{
	return rn->journal.mark;
}

/* Life ----------------------------------------------------------------------
 */

static void
on_empty(struct link_home *home)
{
	runner_finish_if_closed(LIST_OF(home, struct runner, home));
}

static const struct link_ops link_ops = {
	.opened = on_opened,
	.frame = on_frame,
	.ended = on_link_end,
	.empty = on_empty,
};

int
runner_new(const struct runner_config *c, struct runner **out)
{
	struct runner *rn = alloc_new(sizeof(*rn));
	uint64_t seed[2];

	if (rn == NULL)
		return ERR_NOMEM;
	rn->c = *c;
	rand_fill(seed, sizeof(seed));
	map_init(&rn->runs, c->cap, seed);
	map_init(&rn->kills, c->cap, seed);
	list_init(&rn->idle);
	list_init(&rn->jobs);
	list_init(&rn->removals);
	arena_init(&rn->names, 2 * RUNNER_PATH);
	link_home_init(&rn->home, c->loop, &link_ops);
	loop_task_init(&rn->refill, runner_refill);
	loop_task_init(&rn->settle, runner_settle);
	rn->cmd = dir_path(&rn->names, c->state, "cmd", NULL);
	int err = rn->cmd == NULL ? ERR_NOMEM : 0;
	if (err == 0)
		err = journal_open(&rn->journal, c->fs, c->state);
	if (err == 0) {
		err = file_mkdir(c->fs, rn->cmd, 0700);
		err = err == ERR_EXISTS ? 0
		    : err != 0          ? err
					: file_sync_dir(c->fs, c->state);
	}
	if (err != 0) {
		runner_free(rn);
		return err;
	}
	loop_defer(c->loop, &rn->refill);
	*out = rn;
	return 0;
}

static int
adopt_one(struct runner *rn, const char *name, struct arena *a)
{
	struct run *r;

	if (name[0] == '.') {
		dir_sweep(rn->cmd, name, a);
		return 0;
	}
	if (!order_good_id(slice_from(name)))
		return 0;
	uint64_t seq = dir_seq(rn->c.fs, rn->cmd, name, a);
	journal_note(&rn->journal, seq);
	int err = runner_new_run(rn, slice_from(name), seq, &r);
	if (err != 0)
		return err;
	r->adopted = r->drops = true;
	/* Attaching is quick where there is a holder, and where there is
	 * none the verdict follows. */
	runner_attach(r);
	return 0;
}

int
runner_adopt(struct runner *rn)
{
	struct file_names names;
	struct arena a;

	arena_init(&a, (size_t)CMD_NAMES * 256);
	int err = file_list(rn->c.fs, rn->cmd, CMD_NAMES, &a, &names);
	for (size_t i = 0; err == 0 && i < names.count; i++) {
		struct arena one;
		arena_init(&one, RUNNER_ARENA);
		if (names.at[i].is_dir)
			err = adopt_one(rn, names.at[i].name, &one);
		arena_fini(&one);
	}
	arena_fini(&a);
	return err;
}

void
runner_finish_if_closed(struct runner *rn)
{
	if (!rn->closing || rn->told || rn->home.handles > 0 ||
	    !list_empty(&rn->jobs) || rn->forcing != NULL || rn->fetches > 0 ||
	    rn->room.busy)
		return;
	rn->told = true;
	rn->c.ops->closed(rn->c.arg);
}

void
runner_close(struct runner *rn)
{
	struct run *r;
	size_t pos;

	if (rn->closing)
		return;
	rn->closing = true;
	loop_timer_stop(rn->c.loop, &rn->room.timer);
	loop_task_drop(&rn->refill);
	loop_task_drop(&rn->settle);
	loop_timer_stop(rn->c.loop, &rn->force);
	while (pos = 0, (r = map_next(&rn->runs, &pos)) != NULL)
		runner_free_run(r);
	while (!list_empty(&rn->idle))
		link_close(LIST_OF(rn->idle.next, struct link, idle));
	link_home_leave(&rn->home);
	runner_hurry_removals(rn);
	runner_finish_if_closed(rn);
}

void
runner_free(struct runner *rn)
{
	if (rn == NULL)
		return;
	runner_drop_kills(rn);
	map_fini(&rn->kills);
	map_fini(&rn->runs);
	arena_fini(&rn->names);
	alloc_free(rn);
}
