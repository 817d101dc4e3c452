/*
 * A command that was asked for before, under the same key, and is over: the
 * hub has forgotten it, the store knows which one it was.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/clone.h"
#include "model/command.h"

#include "server/console_parts.h"
#include "server/readers.h"

enum { ROWS_MAX = 4 * 1024 * 1024 };

/* One look into the store. */
struct again {
	struct loop_work work;
	struct dock *dock;
	struct peer_id peer;
	struct reader *reader;
	struct arena arena;
	struct slice request_id;
	const struct command_record *wish; /* what the key is used for now */
	const struct command_record *found;
	int err;
};

static void
free_again(struct again *g)
{
	if (g->reader != NULL)
		readers_give(g->dock, g->reader);
	arena_fini(&g->arena);
	alloc_free(g);
}

/* On the pool's thread. */
static void
look(struct loop_work *work)
{
	struct again *g = LIST_OF(work, struct again, work);
	struct store_reader *r;

	g->err = readers_open(g->dock, g->reader, &r);
	if (g->err == 0)
		g->err = store_read_command_key(r, g->wish->workspace_id,
		    g->wish->user_id, g->wish->request_key, &g->arena,
		    &g->found);
	if (g->err == 0 && !command_same(g->found, g->wish))
		g->err = ERR_EXISTS;
}

static void
answer(struct conn *c, const struct again *g, int err)
{
	struct reply r = { .op = OP_COMMAND_CREATE,
		.again = true,
		.about = g->wish->agent_id,
		.command = g->found };
	struct event ev = {
		.kind = EVENT_REPLY, .request_id = g->request_id, .reply = &r
	};

	r.err = err;
	if (err == ERR_EXISTS) {
		r.code = SL("KEY_REUSED");
		r.text = SL("this requestId was used for another command");
	} else if (err != 0) {
		r.code = SL("ALREADY_RUN");
		r.text = SL("this requestId made a command before, and it is "
			    "over");
	}
	console_tell(c, &ev);
	if (!c->ending)
		console_settle(c);
}

static void
done(struct loop_work *work)
{
	struct again *g = LIST_OF(work, struct again, work);
	struct conn *c = dock_find(g->dock, g->peer);

	if (c != NULL && !c->ending)
		answer(c, g, g->err);
	free_again(g);
}

static struct again *
new_again(struct conn *c, const struct event *ev)
{
	struct again *g = alloc_new(sizeof(*g));

	if (g == NULL)
		return NULL;
	g->dock = c->dock;
	g->peer = c->id;
	g->work.work = look;
	g->work.done = done;
	arena_init(&g->arena, ROWS_MAX);
	g->wish = clone_in(&g->arena, CLONE_COMMAND, ev->reply->command);
	if (g->wish == NULL ||
	    arena_copy(&g->arena, ev->request_id, &g->request_id) != 0) {
		free_again(g);
		return NULL;
	}
	return g;
}

bool
console_again(struct conn *c, const struct event *ev)
{
	const struct reply *r = ev->reply;

	if (ev->kind != EVENT_REPLY || r->err != ERR_EXISTS || !r->again ||
	    r->command == NULL)
		return false;
	struct again *g = new_again(c, ev);
	if (g == NULL) {
		conn_drop(c);
		return true;
	}
	g->reader = readers_take(g->dock);
	if (g->reader != NULL && loop_work(g->dock->lane.loop, &g->work) == 0)
		return true;
	answer(c, g, ERR_BUSY);
	free_again(g);
	return true;
}
