#include "base/err.h"

#include "io/clock.h"
#include "io/crash.h"
#include "io/log.h"

#include "server/attach.h"
#include "server/outcome.h"

#include "server/pipe_state.h"

enum {
	STDIN_AHEAD = 256 * 1024,
	AHEAD_MAX = 4 * 1024 * 1024,   /* of one command */
	FLYING_MAX = 32 * 1024 * 1024, /* of all on this lane */
};

static struct pipe *
pipe_of(struct outlet *o)
{
	return LIST_OF(o, struct pipe, outlet);
}

/* Both directions have ended: the stream's record goes when all that it
 * delivered is given back. */
static void
leave(struct pipe *p)
{
	outlet_consume(&p->outlet, p->owed);
	outlet_part(&p->outlet);
	pipe_free(p);
}

static struct slice
on_waiting(struct outlet *o)
{
	return buf_peek(&pipe_of(o)->out);
}

static void
on_sent(struct outlet *o, size_t n)
{
	struct pipe *p = pipe_of(o);

	buf_eat(&p->out, n);
	if (!p->done || p->finished || buf_peek(&p->out).len > 0)
		return;
	outlet_finish(&p->outlet);
	p->finished = true;
	if (p->heard_all)
		leave(p);
}

static void
on_fin(struct outlet *o)
{
	struct pipe *p = pipe_of(o);

	p->heard_all = true;
	if (!p->over)
		pipe_lost(p, ERR_CLOSED);
	else if (p->finished)
		leave(p);
}

/* Towards the agent ------------------------------------------------------- */

static void
acknowledge(struct pipe *p, enum output_stream stream)
{
	if (p->durable[stream] == p->acked[stream] || p->outlet.trunk == NULL)
		return;
	p->acked[stream] = p->durable[stream];
	crash_point("musterd.ack");
	pipe_tell(p,
	    &(struct execframe){ .type = EXECFRAME_ACK,
		.stream = (uint8_t)stream,
		.offset = p->durable[stream] });
	outlet_wake(&p->outlet);
}

/* To the hub --------------------------------------------------------------- */

/* 0 or ERR_*: then it has to be said again. */
static int
post_outcome(struct pipe *p, enum event_kind kind, struct slice json)
{
	struct arena *a;
	struct event *ev = dock_event(p->dock, kind, &a);

	if (ev == NULL || arena_copy(a, p->id, &ev->outcome.command_id) != 0)
		return ERR_NOMEM;
	struct outcome *o = &ev->outcome;
	int err = outcome_decode(kind, json, a, o);
	if (err != 0)
		return err;
	/* What was promised must have come: the row waits for it on disk. */
	if (o->out_bytes > p->received[OUTPUT_OUT] ||
	    o->err_bytes > p->received[OUTPUT_ERR])
		return ERR_PROTOCOL;
	/* And what came is there, whatever the agent has left of it. */
	o->out_bytes = p->received[OUTPUT_OUT];
	o->err_bytes = p->received[OUTPUT_ERR];
	if (kind == EVENT_COMMAND_REFUSED && o->code.len == 0)
		o->code = SL("NOT_PERMITTED");
	if (kind == EVENT_COMMAND_STARTED && o->started_at == 0)
		o->started_at = ev->at;
	if (o->stopped)
		live_remark(p->dock, &p->live, CONSOLE_SYSTEM,
		    SL("stopped by an emergency stop\n"));
	return dock_post(p->dock, ev);
}

/* From the agent
 * ---------------------------------------------------------------- */

static uint64_t
in_flight(const struct pipe *p, enum output_stream stream)
{
	return p->received[stream] > p->durable[stream]
	    ? p->received[stream] - p->durable[stream]
	    : 0;
}

/* How far ahead of the disk one command may be: far while there is room,
 * not at all when many are. */
static uint64_t
ahead(const struct dock *d)
{
	return d->flying < FLYING_MAX ? AHEAD_MAX : 0;
}

/* Give the window back for what the store has taken on, unless the client
 * is behind. */
static void
settle(struct pipe *p)
{
	struct conn *c = attach_find(p->dock, p->viewer);
	uint64_t flying = in_flight(p, OUTPUT_OUT) + in_flight(p, OUTPUT_ERR);

	if (flying > FLYING_MAX)
		flying = FLYING_MAX; /* a gap, which holds no memory */
	uint64_t kept = flying > ahead(p->dock) ? flying - ahead(p->dock) : 0;

	p->dock->flying += flying - p->flying;
	p->flying = flying;
	if (p->outlet.trunk == NULL || p->owed <= kept)
		return;
	if (c != NULL && attach_is_slow(c))
		return;
	outlet_consume(&p->outlet, p->owed - kept);
	p->owed = kept;
}

static void
show(struct pipe *p, const struct execframe *f)
{
	struct conn *c = attach_find(p->dock, p->viewer);

	if (c != NULL)
		attach_frame(c, f);
}

/* Bytes join what came before them; a hole is for GAP to name. */
static bool
joins(
    const struct pipe *p, enum output_stream stream, uint64_t from, uint64_t to)
{
	return from <= p->received[stream] && from <= to && to <= INT64_MAX;
}

static void
note_received(struct pipe *p, enum output_stream stream, uint64_t to)
{
	if (to > p->received[stream])
		p->received[stream] = to;
}

/* 0, or why this frame cannot be taken now. */
static int
take_output(struct pipe *p, const struct execframe *f)
{
	enum output_stream stream =
	    f->type == EXECFRAME_STDOUT ? OUTPUT_OUT : OUTPUT_ERR;
	uint64_t end = f->offset + f->data.len;

	if (!joins(p, stream, f->offset, end))
		return ERR_PROTOCOL;
	crash_point("musterd.output");
	p->dock->server->counts.output_bytes += f->data.len;
	note_received(p, stream, end);
	show(p, f);
	live_output(p->dock, &p->live, stream, f->offset, f->data);
	return writer_output(p->dock->server->writer, p->id, stream, f->offset,
	    f->data, &p->dock->lane);
}

static int
take_gap(struct pipe *p, const struct execframe *f)
{
	enum output_stream stream = (enum output_stream)f->stream;

	if (!joins(p, stream, f->offset, f->limit))
		return ERR_PROTOCOL;
	note_received(p, stream, f->limit);
	show(p, f);
	live_gap(p->dock, &p->live, stream, f->offset, f->limit);
	return writer_output_gap(p->dock->server->writer, p->id, stream,
	    f->offset, f->limit, &p->dock->lane);
}

static int
take_start(struct pipe *p, const struct execframe *f)
{
	crash_point("musterd.started");
	int err = post_outcome(p, EVENT_COMMAND_STARTED, f->data);

	if (err != 0)
		return err;
	show(p, f);
	live_command_line(p->dock, &p->live);
	live_remark(p->dock, &p->live, CONSOLE_SYSTEM, SL("started\n"));
	return 0;
}

/* A new stream begins at what the agent has safe; from there the client
 * says again what was lost with the old one. */
static void
note_input(struct pipe *p, const struct execframe *f)
{
	if (!p->input_known)
		p->input_sent = f->offset;
	p->input_known = true;
	p->input_taken = f->offset;
	p->input_limit = f->limit;
}

static int
take_end(struct pipe *p, enum event_kind kind, struct slice json)
{
	crash_point("musterd.exit");
	/* Before the word on its end, on whichever lane they are seen. */
	live_finish(p->dock, &p->live);
	int err = post_outcome(p, kind, json);

	p->over = err == 0;
	return err;
}

static int
on_frame(struct pipe *p, const struct execframe *f)
{
	/* Nothing counts after the end; and of a command that is being
	 * forgotten nothing is wanted: it may not be this agent's. */
	if (p->over)
		return 0;
	switch (f->type) {
	case EXECFRAME_STARTED:
		return take_start(p, f);
	case EXECFRAME_STDOUT:
	case EXECFRAME_STDERR:
		return take_output(p, f);
	case EXECFRAME_EXIT:
		return take_end(p, EVENT_COMMAND_EXIT, f->data);
	case EXECFRAME_REFUSED:
		return take_end(p, EVENT_COMMAND_REFUSED, f->data);
	case EXECFRAME_STDIN_ACK:
		note_input(p, f);
		show(p, f);
		break;
	case EXECFRAME_GAP:
		return take_gap(p, f);
	case EXECFRAME_STDIN:
	case EXECFRAME_STDIN_EOF:
	case EXECFRAME_ACK:
	case EXECFRAME_SIGNAL:
	case EXECFRAME_DONE:
		break; /* the reader refuses the other direction */
	}
	return 0;
}

static void
break_stream(struct pipe *p, int err)
{
	log_warn("stream_broken", kv_s("command", p->id), kv_e("err", err));
	pipe_lost(p, err);
}

static void
on_data(struct outlet *o, struct slice bytes)
{
	struct pipe *p = pipe_of(o);
	struct execframe f;
	int more, err = 0;

	p->owed += bytes.len;
	execframe_feed(&p->reader, bytes);
	while ((more = execframe_next(&p->reader, &f)) > 0) {
		err = on_frame(p, &f);
		if (err != 0)
			break;
	}
	if (err != 0)
		/* The writer is behind or failing: the agent has the bytes
		 * still and sends them again from where they are durable. */
		break_stream(p, err);
	else if (more < 0)
		break_stream(p, more);
	else
		settle(p);
}

void
pipe_lost(struct pipe *p, int why)
{
	log_debug("stream_lost", kv_s("command", p->id), kv_e("err", why));
	outlet_leave(&p->outlet);
	buf_clear(&p->out);
	if (p->done)
		pipe_free(p);
	else if (!p->over)
		pipe_say_lost(p);
	/* Else its DONE is on the way and finds it without a stream. */
}

static void
on_lost(struct outlet *o, int why)
{
	pipe_lost(pipe_of(o), why);
}

const struct outlet_ops pipe_ops = {
	.waiting = on_waiting,
	.sent = on_sent,
	.data = on_data,
	.fin = on_fin,
	.lost = on_lost,
	.small = TURN_SOON,
};

/* From the store
 * -------------------------------------------------------------------- */

void
pipe_stored(struct dock *d, const struct writer_done *done)
{
	struct pipe *p = pipe_find(d, done->command_id);

	if (p == NULL)
		return;
	if (p->asked_end[done->stream]) {
		if (done->err == 0 && done->durable > p->durable[done->stream])
			p->durable[done->stream] = done->durable;
		pipe_end_known(p, done->stream, done->err);
		return;
	}
	if (done->err != 0 && p->outlet.trunk == NULL)
		return; /* what followed the piece for which it was broken */
	if (done->err != 0) {
		log_error("output_not_stored", kv_s("command", p->id),
		    kv_e("err", done->err));
		break_stream(p, done->err);
		return;
	}
	if (done->durable > p->durable[done->stream])
		p->durable[done->stream] = done->durable;
	settle(p);
	acknowledge(p, done->stream);
	struct conn *c = attach_find(d, p->viewer);
	if (c != NULL)
		attach_stored(c);
	outlet_wake(&p->outlet);
}

/* From the client
 * ---------------------------------------------------------------------- */

/* The part of input that this stream has not carried yet: *f, which is cut.
 * A client that comes back, and one whose agent did, says some twice. */
static bool
input_is_new(struct pipe *p, struct execframe *f)
{
	uint64_t end = f->offset + f->data.len;

	/* Before the first acknowledgement nobody knows where to go on, and
	 * past a hole neither: the client begins anew at what is said. */
	if (!p->input_known || f->offset > p->input_sent)
		return false;
	if (f->type == EXECFRAME_STDIN_EOF)
		return f->offset == p->input_sent;
	if (end <= p->input_sent)
		return false;
	f->data = slice_from_at(f->data, p->input_sent - f->offset);
	f->offset = p->input_sent;
	p->input_sent = end;
	return true;
}

int
pipe_frame(struct dock *d, struct slice command_id, struct slice message)
{
	struct pipe *p = pipe_find(d, command_id);
	struct execframe f;
	int err = execframe_parse(EXECFRAME_CONTROLLER, message, &f);

	if (err != 0)
		return err;
	if (f.type != EXECFRAME_STDIN && f.type != EXECFRAME_STDIN_EOF &&
	    f.type != EXECFRAME_SIGNAL)
		return ERR_PROTOCOL;
	if (p == NULL || p->outlet.trunk == NULL)
		return ERR_NOT_FOUND;
	if (f.type != EXECFRAME_SIGNAL && !input_is_new(p, &f))
		return 0;
	if (f.type == EXECFRAME_STDIN &&
	    buf_peek(&p->out).len + f.data.len > 2 * STDIN_AHEAD)
		return ERR_PROTOCOL; /* beyond its credit */
	pipe_tell(p, &f);
	outlet_wake(&p->outlet);
	return 0;
}

void
pipe_forget_viewer(
    struct dock *d, struct slice command_id, struct peer_id viewer)
{
	struct pipe *p = pipe_find(d, command_id);

	if (p == NULL || !peer_eq(p->viewer, viewer))
		return;
	p->viewer = (struct peer_id){ 0 };
	settle(p);
	outlet_wake(&p->outlet);
}

uint64_t
pipe_received(
    struct dock *d, struct slice command_id, enum output_stream stream)
{
	const struct pipe *p = pipe_find(d, command_id);

	return p != NULL ? p->received[stream] : 0;
}

void
pipe_resume(struct dock *d, struct slice command_id)
{
	struct pipe *p = pipe_find(d, command_id);

	if (p == NULL)
		return;
	settle(p);
	outlet_wake(&p->outlet);
}
