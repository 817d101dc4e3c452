/*
 * Design notes.  A client that comes back says how much of the output it has.
 * The rest is read from the store, a piece at a time, as fast as it takes
 * them; meanwhile what comes from the agent is not shown, and the agent's
 * window stays shut, so that the two must meet: when nothing more is stored
 * and the client has all that ever came, it goes on with what comes.  After
 * the command's end all is stored, and the outcome follows the last of it.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "model/clone.h"
#include "model/command.h"

#include "io/log.h"

#include "server/pipe.h"
#include "server/replay.h"

#include "server/attach_state.h"

/* Between two tries while all readers of the store are at work. */
enum { LOOK_AGAIN = 20 };

bool
attach_is_behind(const struct attach *a)
{
	return a->behind[OUTPUT_OUT] || a->behind[OUTPUT_ERR];
}

static void
show_piece(struct conn *c, const struct replay_found *r)
{
	struct attach *a = c->state;
	struct slice rest = r->data;

	while (rest.len > 0 && !c->ending) {
		const struct execframe f = {
			.type = r->stream == OUTPUT_OUT ? EXECFRAME_STDOUT
							: EXECFRAME_STDERR,
			.offset = a->shown[r->stream],
			.data = slice_first(rest, EXECFRAME_BULK_MAX),
		};
		attach_send(c, &f);
		a->shown[r->stream] += f.data.len;
		rest = slice_from_at(rest, f.data.len);
	}
}

static void
show_gap(struct conn *c, const struct replay_found *r)
{
	struct attach *a = c->state;
	const struct execframe f = { .type = EXECFRAME_GAP,
		.stream = (uint8_t)r->stream,
		.offset = a->shown[r->stream],
		.limit = r->next };

	attach_send(c, &f);
	a->shown[r->stream] = r->next;
}

/* A look into the store is over. */
static void
on_found(struct conn *c, const struct replay_found *r)
{
	struct attach *a = c->state;
	bool gap = r->err == ERR_GONE || r->err == ERR_MISSING;
	bool again = a->look_again;

	a->looking = a->look_again = false;
	if (a->stage != ATTACH_RUNS)
		return;
	if (r->err != 0 && !gap) {
		log_error("replay_failed", kv_s("command", a->command_id),
		    kv_e("err", r->err));
		attach_close(c, WS_CODE_INTERNAL, SL("store_failed"));
		return;
	}
	if (gap)
		show_gap(c, r);
	else if (r->data.len > 0)
		show_piece(c, r);
	else if (a->ended != NULL ||
	    a->shown[r->stream] >=
		pipe_received(c->dock, a->command_id, r->stream))
		a->behind[r->stream] = false;
	else if (!again)
		return; /* attach_stored follows */
	if (!c->ending)
		attach_catch_up(c);
}

/* One step; again when that is done, or the client has taken what it got. */
void
attach_catch_up(struct conn *c)
{
	struct attach *a = c->state;
	enum output_stream i = a->behind[OUTPUT_OUT] ? OUTPUT_OUT : OUTPUT_ERR;

	a->look_at = 0;
	if (a->looking || a->stage != ATTACH_RUNS)
		return;
	if (!attach_is_behind(a)) {
		if (a->ended != NULL)
			attach_say_ended(c, a->ended);
		else
			pipe_resume(c->dock, a->command_id);
		return;
	}
	if (stream_above_high(c->stream))
		return; /* on_drained follows */
	int err = replay_look(c, a->command_id, i, a->shown[i], NULL, on_found);
	if (err == ERR_BUSY) {
		a->look_at = loop_now(c->dock->lane.loop) + LOOK_AGAIN;
		attach_flush(c);
	} else if (err != 0) {
		conn_drop(c);
	} else {
		a->looking = true;
	}
}

void
attach_stored(struct conn *c)
{
	struct attach *a = c->state;

	if (a->looking)
		a->look_again = true;
	else if (attach_is_behind(a))
		attach_catch_up(c);
}

/* The hub does not have it, so it has ended or never was: the store knows. */
static void
on_ended_found(struct conn *c, const struct replay_found *r)
{
	struct attach *a = c->state;
	const struct command_record *row = r->command;
	const struct reply none = { .status = 404,
		.code = SL("COMMAND_NOT_FOUND"),
		.text = SL("there is no such command") };

	a->looking = a->look_again = false;
	if (a->stage != ATTACH_LOOKED)
		return;
	if (row == NULL || r->err == ERR_NOT_FOUND ||
	    !command_is_final(row->state)) {
		attach_refuse(c, &none);
		return;
	}
	a->ended = clone_new(CLONE_COMMAND, row);
	if (a->ended == NULL)
		conn_drop(c);
	else
		attach_accept(c, a->ended, true);
}

void
attach_look_ended(struct conn *c, const struct reply *r)
{
	struct attach *a = c->state;
	int err;

	a->stage = ATTACH_LOOKED;
	err = replay_look(
	    c, a->command_id, OUTPUT_OUT, 0, r->user, on_ended_found);
	a->looking = err == 0;
	if (err != 0)
		attach_refuse(c,
		    &(struct reply){ .status = 503,
			.code = SL("OVERLOADED"),
			.text = SL("the store is busy"),
			.retry_after = 1 });
}
