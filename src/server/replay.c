#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "server/readers.h"
#include "server/sight.h"

#include "server/replay.h"

enum { ROWS_MAX = 1024 * 1024 };

struct replay {
	struct loop_work work;
	struct dock *dock;
	struct peer_id peer;
	struct reader *reader;
	replay_fn *found;
	struct slice id; /* behind the struct, with the texts of sight */
	bool bounded;    /* by sight */
	struct sight sight;
	struct arena rows;
	struct buf data;
	struct replay_found what;
};

static void
free_replay(struct replay *q)
{
	if (q->reader != NULL)
		readers_give(q->dock, q->reader);
	buf_fini(&q->data);
	arena_fini(&q->rows);
	if (q->bounded)
		sight_fini(&q->sight);
	alloc_free(q);
}

static bool
is_seen(struct replay *q, struct store_reader *r)
{
	const struct command_record *row = q->what.command;

	return row->workspace_id == q->sight.workspace_id &&
	    sight_command(&q->sight, r, row);
}

/* On the pool's thread.  The row first: what it calls final was stored after
 * all output, so that what is read behind it is all there is. */
static int
look(struct replay *q)
{
	struct replay_found *f = &q->what;
	struct store_reader *r;
	int err = readers_open(q->dock, q->reader, &r);

	if (err == 0)
		err = store_read_command(r, q->id, &q->rows, &f->command);
	if (err == 0 && q->bounded && !is_seen(q, r))
		err = ERR_NOT_FOUND;
	if (err != 0)
		return err;
	uint8_t *room = buf_reserve(&q->data, REPLAY_PIECE);
	if (room == NULL)
		return ERR_NOMEM;
	int64_t n = store_read_output(
	    r, q->id, f->stream, f->offset, room, REPLAY_PIECE, &f->next);
	if (n < 0)
		/* Beyond the end, or before there is any. */
		return n == ERR_RANGE || n == ERR_NOT_FOUND ? 0 : (int)n;
	buf_commit(&q->data, (size_t)n);
	f->data = buf_peek(&q->data);
	return 0;
}

static void
run(struct loop_work *w)
{
	struct replay *q = LIST_OF(w, struct replay, work);

	q->what.err = look(q);
}

static void
done(struct loop_work *w)
{
	struct replay *q = LIST_OF(w, struct replay, work);
	struct conn *c = dock_find(q->dock, q->peer);

	/* Whoever is told may look again at once. */
	readers_give(q->dock, q->reader);
	q->reader = NULL;
	if (c != NULL && !c->ending)
		q->found(c, &q->what);
	free_replay(q);
}

static struct slice
put_text(uint8_t **at, struct slice s)
{
	struct slice kept = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return kept;
}

int
replay_look(struct conn *c, struct slice command_id, enum output_stream stream,
    uint64_t offset, const struct user_record *who, replay_fn *found)
{
	const struct user_record nobody = { 0 },
				 *u = who != NULL ? who : &nobody;
	struct replay *q = alloc_new(
	    sizeof(*q) + command_id.len + u->selector.len + u->id.len + 1);
	uint8_t *at = (uint8_t *)(q + 1);

	if (q == NULL)
		return ERR_NOMEM;
	q->id = put_text(&at, command_id);
	q->bounded = who != NULL;
	if (q->bounded) {
		const struct slice selector = put_text(&at, u->selector);
		sight_init(
		    &q->sight, selector, put_text(&at, u->id), u->workspace_id);
	}
	q->work.work = run;
	q->work.done = done;
	q->dock = c->dock;
	q->peer = c->id;
	q->found = found;
	q->what.stream = stream;
	q->what.offset = offset;
	arena_init(&q->rows, ROWS_MAX);
	buf_init(&q->data, REPLAY_PIECE);
	q->reader = readers_take(c->dock);
	int err = q->reader == NULL ? ERR_BUSY
				    : loop_work(c->dock->lane.loop, &q->work);
	if (err != 0)
		free_replay(q);
	return err;
}
