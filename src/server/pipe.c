#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/execframe.h"
#include "wire/opening.h"

#include "model/clone.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/attach.h"
#include "server/link.h"

#include "server/pipe.h"

enum {
	OUT_MAX = 1024 * 1024, /* towards the agent */
	STDIN_AHEAD = 256 * 1024,
	AHEAD_MAX = 4 * 1024 * 1024,   /* of one command */
	FLYING_MAX = 32 * 1024 * 1024, /* of all on this lane */
};

struct pipe {
	struct dock *dock;
	struct slice id;        /* owned: key of dock->pipes */
	struct link_conn *link; /* NULL while there is no stream */
	struct list of_link;
	uint32_t stream;
	struct execframe_reader reader;
	struct buf out; /* frames to the agent, not yet sent */
	struct peer_id viewer;
	struct command_record *command; /* owned */
	uint64_t durable[3];            /* by enum output_stream */
	uint64_t acked[3];
	uint64_t received[3];
	uint64_t shown[3];      /* up to where the client has it */
	uint64_t flying;        /* handed to the writer, not yet durable */
	uint64_t owed;          /* bytes of window to be given back */
	bool asked_end[3];      /* waits for the store's end of a stream */
	struct peer_id open_on; /* the link it is for, there or not */
	bool again;
	bool over;      /* EXIT or REFUSED came */
	bool done;      /* DONE is said, or on its way out */
	bool finished;  /* our direction has ended */
	bool heard_all; /* theirs has */
};

static struct pipe *
find(struct dock *d, struct slice id)
{
	return map_get(&d->pipes, id);
}

struct pipe *
pipe_of_link(struct list *l)
{
	return LIST_OF(l, struct pipe, of_link);
}

uint32_t
pipe_stream(const struct pipe *p)
{
	return p->stream;
}

struct slice
pipe_waiting(const struct pipe *p)
{
	return buf_peek(&p->out);
}

static void
free_pipe(struct pipe *p)
{
	map_del(&p->dock->pipes, p->id);
	p->dock->flying -= p->flying;
	list_remove(&p->of_link);
	execframe_reader_fini(&p->reader);
	buf_fini(&p->out);
	alloc_free(p->command);
	alloc_free((void *)(uintptr_t)p->id.ptr);
	p->dock->server->counts.pipes--;
	alloc_free(p);
}

/* Both directions have ended: the stream's record goes when all that it
 * delivered is given back. */
static void
leave(struct pipe *p)
{
	yamux_consume(
	    p->link->mux, p->stream, p->owed, loop_now(p->dock->lane.loop));
	free_pipe(p);
}

void
pipe_sent(struct pipe *p, size_t n)
{
	buf_eat(&p->out, n);
	if (!p->done || p->finished || buf_peek(&p->out).len > 0)
		return;
	yamux_finish(p->link->mux, p->stream);
	p->finished = true;
	if (p->heard_all)
		leave(p);
}

void
pipe_fin(struct pipe *p)
{
	if (p == NULL)
		return;
	p->heard_all = true;
	if (!p->over)
		pipe_lost(p, ERR_CLOSED);
	else if (p->finished)
		leave(p);
}

static struct pipe *
new_pipe(struct dock *d, struct slice id)
{
	struct pipe *p = alloc_new(sizeof(*p));
	uint8_t *copy = alloc_new(id.len + 1);

	if (p == NULL || copy == NULL) {
		alloc_free(p);
		alloc_free(copy);
		return NULL;
	}
	memcpy(copy, id.ptr, id.len);
	p->dock = d;
	p->id = (struct slice){ copy, id.len };
	list_init(&p->of_link);
	execframe_reader_init(&p->reader, EXECFRAME_AGENT);
	buf_init(&p->out, OUT_MAX);
	if (map_put(&d->pipes, p->id, p) != 0) {
		alloc_free(copy);
		alloc_free(p);
		return NULL;
	}
	d->server->counts.pipes++;
	return p;
}

/* Towards the agent ------------------------------------------------------- */

static void
tell_agent(struct pipe *p, const struct execframe *f)
{
	if (p->link == NULL)
		return;
	execframe_put(&p->out, EXECFRAME_ON_STREAM, f);
	if (p->out.err != 0) {
		log_warn("pipe_full", kv_s("command", p->id),
		    kv_e("err", p->out.err));
		yamux_reset(p->link->mux, p->stream);
		pipe_lost(p, ERR_FULL);
	}
}

static void
acknowledge(struct pipe *p, enum output_stream stream)
{
	if (p->durable[stream] == p->acked[stream] || p->link == NULL)
		return;
	p->acked[stream] = p->durable[stream];
	tell_agent(p,
	    &(struct execframe){ .type = EXECFRAME_ACK,
		.stream = (uint8_t)stream,
		.offset = p->durable[stream] });
	if (p->link != NULL)
		link_flush(p->link);
}

static void
put_header(struct pipe *p, struct buf *out)
{
	const struct command_record *r = p->command;
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "id", r->id);
	js_kv_u64(&w, "seq", r->sequence);
	js_kv_raw(&w, "argv", r->argv_json);
	if (r->env_json.len > 0)
		js_kv_raw(&w, "env", r->env_json);
	if (r->cwd.len > 0)
		js_kv_string(&w, "cwd", r->cwd);
	if (r->exec_user.len > 0)
		js_kv_string(&w, "user", r->exec_user);
	js_kv_bool(&w, "stdin", r->wants_stdin);
	js_kv_bool(&w, "shell", r->shell);
	js_kv_bool(&w, "foreground", r->foreground);
	js_kv_i64(&w, "timeout_ms", r->timeout);
	if (r->deadline_at > 0)
		js_kv_i64(&w, "remaining_ms", r->deadline_at - clock_wall());
	js_kv_bool(&w, "again", p->again);
	js_kv_u64(&w, "out", p->durable[OUTPUT_OUT]);
	js_kv_u64(&w, "err", p->durable[OUTPUT_ERR]);
	js_end(&w);
	if (js_finish(&w) != 0)
		out->err = ERR_FULL;
}

/* Both ends of the stored output are known: open the stream. */
static void
open_stream(struct pipe *p, struct link_conn *l)
{
	struct buf json;
	struct opening head = { .version = 2, .kind = OPENING_KIND_EXEC };

	buf_init(&json, 64 * 1024);
	put_header(p, &json);
	head.json = buf_peek(&json);
	buf_clear(&p->out);
	execframe_reader_fini(&p->reader);
	execframe_reader_init(&p->reader, EXECFRAME_AGENT);
	opening_encode(&head, &p->out);
	p->acked[OUTPUT_OUT] = p->durable[OUTPUT_OUT];
	p->acked[OUTPUT_ERR] = p->durable[OUTPUT_ERR];
	p->received[OUTPUT_OUT] = p->durable[OUTPUT_OUT];
	p->received[OUTPUT_ERR] = p->durable[OUTPUT_ERR];
	p->owed = 0;
	int err = json.err != 0 ? json.err : p->out.err;
	if (err == 0)
		err = yamux_open(l->mux, p, &p->stream);
	buf_fini(&json);
	if (err != 0) {
		log_warn(
		    "stream_failed", kv_s("command", p->id), kv_e("err", err));
		pipe_lost(p, err);
		return;
	}
	p->link = l;
	list_push(&l->pipes, &p->of_link);
	link_flush(l);
}

/* The hub's orders ------------------------------------------------------------
 */

static void
post_outcome(struct pipe *p, enum event_kind kind, struct slice json)
{
	struct arena *a;
	struct event *ev = dock_event(p->dock, kind, &a);
	const struct js_limits limits = { EXECFRAME_JSON_MAX, 8 };
	struct js_doc *doc = ev == NULL ? NULL : arena_alloc(a, sizeof(*doc));
	struct js_fields in;
	struct slice text, at;
	int64_t n;

	if (doc == NULL || arena_copy(a, json, &text) != 0 ||
	    arena_copy(a, p->id, &ev->outcome.command_id) != 0)
		return;
	struct outcome *o = &ev->outcome;
	if (text.len > 0 && js_parse(doc, text, &limits, a) == 0) {
		js_fields_init(&in, js_root(doc));
		js_opt_i64(&in, "exit_code", INT32_MIN, INT32_MAX, 0, &n);
		o->exit_code = (int)n;
		js_opt_i64(&in, "signal", 0, 128, 0, &n);
		o->signal = (int)n;
		js_opt_bool(&in, "timed_out", false, &o->timed_out);
		js_opt_bool(&in, "interrupted", false, &o->interrupted);
		js_opt_bool(&in, "stopped", false, &o->stopped);
		js_opt_i64(&in, "lingering", 0, INT32_MAX, 0, &n);
		o->lingering = (uint32_t)n;
		js_opt_string(&in, "code", &o->code);
		js_opt_string(&in, "why", &o->why);
		js_opt_string(&in,
		    kind == EVENT_COMMAND_STARTED ? "at" : "started_at", &at);
		if (at.len > 0)
			stamp_parse(at, &o->started_at);
		js_opt_string(&in, "finished_at", &at);
		if (at.len > 0)
			stamp_parse(at, &o->finished_at);
		js_opt_i64(&in, "out", 0, INT64_MAX, 0, &n);
		o->out_bytes = (uint64_t)n;
		js_opt_i64(&in, "err", 0, INT64_MAX, 0, &n);
		o->err_bytes = (uint64_t)n;
	}
	if (kind == EVENT_COMMAND_REFUSED && o->code.len == 0)
		o->code = SL("NOT_PERMITTED");
	if (kind == EVENT_COMMAND_STARTED && o->started_at == 0)
		o->started_at = ev->at;
	dock_post(p->dock, ev);
}

static void
post_lost(struct pipe *p)
{
	struct arena *a;
	struct event *ev = dock_event(p->dock, EVENT_STREAM_LOST, &a);

	if (ev == NULL || arena_copy(a, p->id, &ev->outcome.command_id) != 0)
		return;
	/* So that the hub can tell it from a newer link's. */
	ev->peer = p->open_on;
	dock_post(p->dock, ev);
}

static void
try_open(struct pipe *p, struct peer_id to)
{
	struct link_conn *l = link_find(p->dock, to);

	if (p->asked_end[OUTPUT_OUT] || p->asked_end[OUTPUT_ERR])
		return;
	if (l == NULL || l->mux == NULL)
		return; /* the agent will register again, and so will this */
	open_stream(p, l);
}

static void
order_open(struct dock *d, struct peer_id to, const struct stream_order *o)
{
	struct pipe *p = find(d, o->command_id);

	if (p == NULL)
		p = new_pipe(d, o->command_id);
	if (p == NULL)
		return;
	if (p->link != NULL) {
		/* The newest order wins. */
		yamux_reset(p->link->mux, p->stream);
		list_remove(&p->of_link);
		p->link = NULL;
	}
	struct command_record *r = clone_new(CLONE_COMMAND, o->command);
	if (r == NULL)
		return;
	alloc_free(p->command);
	p->command = r;
	p->again = o->again;
	p->over = p->done = p->finished = p->heard_all = false;
	p->owed = 0;
	/* One that was moved here has another address than the hub knows. */
	if (peer_some(o->viewer) && !peer_some(p->viewer))
		p->viewer = o->viewer;
	p->open_on = to;
	/* What is stored of it decides from where output is wanted. */
	if (o->again) {
		struct writer *w = d->server->writer;
		p->asked_end[OUTPUT_OUT] =
		    writer_output_end(w, p->id, OUTPUT_OUT, &d->lane) == 0;
		p->asked_end[OUTPUT_ERR] =
		    writer_output_end(w, p->id, OUTPUT_ERR, &d->lane) == 0;
	}
	try_open(p, to);
}

static void
order_signal(struct dock *d, const struct stream_order *o)
{
	struct pipe *p = find(d, o->command_id);

	if (p == NULL || p->link == NULL)
		return;
	tell_agent(p,
	    &(struct execframe){
		.type = EXECFRAME_SIGNAL, .signal = (uint8_t)o->signal });
	if (p->link != NULL)
		link_flush(p->link);
}

/* The last word to the agent; the pipe goes when it has left. */
static void
say_done(struct pipe *p)
{
	tell_agent(p, &(struct execframe){ .type = EXECFRAME_DONE });
	if (p->link == NULL) {
		free_pipe(p);
		return;
	}
	p->done = true;
	link_flush(p->link);
}

/* The agent may forget a command that the hub knows nothing of. */
static void
forget_unknown(struct dock *d, struct peer_id to, struct slice id)
{
	struct link_conn *l = link_find(d, to);
	struct pipe *p = l == NULL || l->mux == NULL ? NULL : new_pipe(d, id);
	struct command_record r = { .id = id, .argv_json = SL("[]") };

	if (p == NULL)
		return;
	p->command = clone_new(CLONE_COMMAND, &r);
	if (p->command == NULL) {
		free_pipe(p);
		return;
	}
	p->again = true;
	p->over = true;
	open_stream(p, l);
	if (p->link == NULL)
		return;
	say_done(p);
}

static void
order_done(struct dock *d, struct peer_id to, const struct stream_order *o)
{
	struct pipe *p = find(d, o->command_id);
	struct peer_id viewer = p != NULL ? p->viewer : o->viewer;
	struct conn *c = attach_find(d, viewer);

	if (c != NULL && o->command != NULL)
		attach_ended(c, o->command);
	if (p == NULL) {
		if (o->command == NULL)
			forget_unknown(d, to, o->command_id);
		return;
	}
	p->viewer = (struct peer_id){ 0 };
	p->over = true;
	if (p->link == NULL) {
		free_pipe(p);
		return;
	}
	say_done(p);
}

struct conn *
pipe_let_go(struct dock *d, struct slice command_id, struct peer_id viewer)
{
	struct pipe *p = find(d, command_id);
	struct conn *c = attach_find(d, p != NULL ? p->viewer : viewer);

	struct link_conn *l = p != NULL ? p->link : NULL;
	if (l != NULL)
		yamux_reset(l->mux, p->stream);
	if (p != NULL)
		free_pipe(p);
	if (l != NULL)
		link_flush(l);
	if (c == NULL)
		return NULL;
	if (conn_leave(c) == 0)
		return c;
	conn_drop(c);
	return NULL;
}

int
pipe_adopt(struct dock *d, struct slice command_id, struct peer_id viewer)
{
	struct pipe *p = find(d, command_id);

	if (p == NULL)
		p = new_pipe(d, command_id);
	if (p == NULL)
		return ERR_NOMEM;
	p->viewer = viewer;
	return 0;
}

void
pipe_end(struct dock *d)
{
	struct pipe *p;
	size_t pos = 0;

	while ((p = map_next(&d->pipes, &pos)) != NULL) {
		free_pipe(p);
		pos = 0;
	}
}

void
pipe_order(struct dock *d, struct peer_id link, const struct stream_order *o)
{
	switch (o->verb) {
	case STREAM_OPEN:
		order_open(d, link, o);
		break;
	case STREAM_SIGNAL:
		order_signal(d, o);
		break;
	case STREAM_DONE:
		order_done(d, link, o);
		break;
	}
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
	uint64_t kept = flying > ahead(p->dock) ? flying - ahead(p->dock) : 0;

	p->dock->flying += flying - p->flying;
	p->flying = flying;
	if (p->link == NULL || p->owed <= kept)
		return;
	if (c != NULL && attach_is_slow(c))
		return;
	yamux_consume(p->link->mux, p->stream, p->owed - kept,
	    loop_now(p->dock->lane.loop));
	p->owed = kept;
}

static void
show(struct pipe *p, const struct execframe *f)
{
	struct conn *c = attach_find(p->dock, p->viewer);

	if (c != NULL)
		attach_frame(c, f);
}

/* After a break the agent sends from what is stored; the client has seen
 * more than that. */
static void
show_output(struct pipe *p, const struct execframe *f)
{
	uint64_t *shown =
	    &p->shown[f->type == EXECFRAME_STDOUT ? OUTPUT_OUT : OUTPUT_ERR];
	uint64_t end = f->offset + f->data.len;
	struct execframe rest = *f;

	if (end <= *shown)
		return;
	if (f->offset < *shown) {
		rest.data = slice_from_at(f->data, *shown - f->offset);
		rest.offset = *shown;
	}
	*shown = end;
	show(p, &rest);
}

/* 0, or why this frame cannot be taken now. */
static int
take_output(struct pipe *p, const struct execframe *f)
{
	enum output_stream stream =
	    f->type == EXECFRAME_STDOUT ? OUTPUT_OUT : OUTPUT_ERR;

	p->dock->server->counts.output_bytes += f->data.len;
	p->received[stream] = f->offset + f->data.len;
	return writer_output(p->dock->server->writer, p->id, stream, f->offset,
	    f->data, &p->dock->lane);
}

static int
on_frame(struct pipe *p, const struct execframe *f)
{
	int err = 0;

	switch (f->type) {
	case EXECFRAME_STARTED:
		post_outcome(p, EVENT_COMMAND_STARTED, f->data);
		show(p, f);
		break;
	case EXECFRAME_STDOUT:
	case EXECFRAME_STDERR:
		err = take_output(p, f);
		show_output(p, f);
		break;
	case EXECFRAME_EXIT:
		p->over = true;
		post_outcome(p, EVENT_COMMAND_EXIT, f->data);
		break;
	case EXECFRAME_REFUSED:
		p->over = true;
		post_outcome(p, EVENT_COMMAND_REFUSED, f->data);
		break;
	case EXECFRAME_STDIN_ACK:
		show(p, f);
		break;
	case EXECFRAME_GAP:
		err = writer_output_gap(p->dock->server->writer, p->id,
		    (enum output_stream)f->stream, f->offset, f->limit,
		    &p->dock->lane);
		show(p, f);
		break;
	case EXECFRAME_STDIN:
	case EXECFRAME_STDIN_EOF:
	case EXECFRAME_ACK:
	case EXECFRAME_SIGNAL:
	case EXECFRAME_DONE:
		break; /* the reader refuses the other direction */
	}
	return err;
}

static void
break_stream(struct pipe *p, int err)
{
	log_warn("stream_broken", kv_s("command", p->id), kv_e("err", err));
	if (p->link != NULL)
		yamux_reset(p->link->mux, p->stream);
	pipe_lost(p, err);
}

void
pipe_data(struct pipe *p, struct slice bytes)
{
	struct execframe f;
	int more, err = 0;

	if (p == NULL)
		return;
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
	if (p == NULL)
		return;
	log_debug("stream_lost", kv_s("command", p->id), kv_e("err", why));
	if (p->link != NULL && !p->link->conn->ending)
		yamux_reset(p->link->mux, p->stream);
	list_remove(&p->of_link);
	p->link = NULL;
	buf_clear(&p->out);
	if (p->done)
		free_pipe(p);
	else if (!p->over)
		post_lost(p);
	/* Else its DONE is on the way and finds it without a stream. */
}

/* From the store
 * -------------------------------------------------------------------- */

void
pipe_stored(struct dock *d, const struct writer_done *done)
{
	struct pipe *p = find(d, done->command_id);

	if (p == NULL)
		return;
	if (done->err != 0) {
		log_error("output_not_stored", kv_s("command", p->id),
		    kv_e("err", done->err));
		if (p->link != NULL)
			break_stream(p, done->err);
		return;
	}
	if (done->durable > p->durable[done->stream])
		p->durable[done->stream] = done->durable;
	if (p->asked_end[done->stream]) {
		p->asked_end[done->stream] = false;
		try_open(p, p->open_on);
		return;
	}
	settle(p);
	acknowledge(p, done->stream);
	if (p->link != NULL)
		link_flush(p->link);
}

/* From the client
 * ---------------------------------------------------------------------- */

int
pipe_frame(struct dock *d, struct slice command_id, struct slice message)
{
	struct pipe *p = find(d, command_id);
	struct execframe f;
	int err = execframe_parse(EXECFRAME_CONTROLLER, message, &f);

	if (err != 0)
		return err;
	if (f.type != EXECFRAME_STDIN && f.type != EXECFRAME_STDIN_EOF &&
	    f.type != EXECFRAME_SIGNAL)
		return ERR_PROTOCOL;
	if (p == NULL || p->link == NULL)
		return ERR_NOT_FOUND;
	if (f.type == EXECFRAME_STDIN &&
	    buf_peek(&p->out).len + f.data.len > 2 * STDIN_AHEAD)
		return ERR_PROTOCOL; /* beyond its credit */
	tell_agent(p, &f);
	if (p->link != NULL)
		link_flush(p->link);
	return 0;
}

void
pipe_forget_viewer(struct dock *d, struct slice command_id)
{
	struct pipe *p = find(d, command_id);

	if (p == NULL)
		return;
	p->viewer = (struct peer_id){ 0 };
	settle(p);
	if (p->link != NULL)
		link_flush(p->link);
}

void
pipe_resume(struct dock *d, struct slice command_id)
{
	struct pipe *p = find(d, command_id);

	if (p == NULL)
		return;
	settle(p);
	if (p->link != NULL)
		link_flush(p->link);
}
