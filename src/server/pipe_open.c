/*
 * Design notes.  An agent refuses a number below one that it has seen, so
 * streams are opened on a link in the order of the hub's orders, although
 * some must first hear from the store how far their output goes, and some
 * wait for what another lane had of them.  They queue up in the link's
 * `opening`; only the first may open.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "wire/opening.h"

#include "model/clone.h"

#include "io/clock.h"
#include "io/crash.h"
#include "io/log.h"

#include "server/attach.h"

#include "server/pipe_state.h"

enum {
	OUT_MAX = 1024 * 1024, /* towards the agent */
	HEADER_MAX = 64 * 1024,
};

/* Life --------------------------------------------------------------------- */

void
pipe_free(struct pipe *p)
{
	map_del(&p->dock->pipes, p->id);
	p->dock->flying -= p->flying;
	live_fini(&p->live);
	outlet_leave(&p->outlet);
	list_remove(&p->opening);
	execframe_reader_fini(&p->reader);
	buf_fini(&p->out);
	alloc_free(p->command);
	alloc_free((void *)(uintptr_t)p->id.ptr);
	p->dock->server->counts.pipes--;
	alloc_free(p);
}

struct pipe *
pipe_new(struct dock *d, struct slice id)
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
	outlet_init(&p->outlet, &pipe_ops);
	live_init(&p->live);
	list_init(&p->opening);
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

void
pipe_tell(struct pipe *p, const struct execframe *f)
{
	if (p->outlet.trunk == NULL)
		return;
	execframe_put(&p->out, EXECFRAME_ON_STREAM, f);
	if (p->out.err != 0) {
		log_warn("pipe_full", kv_s("command", p->id),
		    kv_e("err", p->out.err));
		pipe_lost(p, ERR_FULL);
		return;
	}
	outlet_wake(&p->outlet);
}

void
pipe_say_lost(struct pipe *p)
{
	struct link_conn *l = link_find(p->dock, p->open_on);
	struct arena *a;
	struct event *ev = dock_event(p->dock, EVENT_STREAM_LOST, &a);

	if (ev != NULL && arena_copy(a, p->id, &ev->outcome.command_id) == 0) {
		/* So that the hub can tell it from a newer link's. */
		ev->peer = p->open_on;
		if (dock_post(p->dock, ev) == 0)
			return;
	}
	/* A new link brings everything up again. */
	if (l != NULL)
		conn_drop(l->conn);
}

/* Opening ------------------------------------------------------------------ */

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
	if (r->drops)
		js_kv_string(&w, "on_full", SL("drop"));
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

	buf_init(&json, HEADER_MAX);
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
	p->input_known = false;
	int err = json.err != 0 ? json.err : p->out.err;
	if (err == 0)
		err = outlet_open(&p->outlet, link_trunk(l));
	buf_fini(&json);
	if (err != 0) {
		log_warn(
		    "stream_failed", kv_s("command", p->id), kv_e("err", err));
		pipe_lost(p, err);
		return;
	}
	if (p->signal != 0)
		pipe_tell(p,
		    &(struct execframe){
			.type = EXECFRAME_SIGNAL, .signal = p->signal });
	p->signal = 0;
	/* What was on its way to the disk may not come. */
	struct conn *c = attach_find(p->dock, p->viewer);
	if (c != NULL)
		attach_stored(c);
	crash_point("musterd.open");
	outlet_wake(&p->outlet);
	crash_point("musterd.opened");
}

static bool
may_open(const struct pipe *p)
{
	return !p->awaits && !p->asked_end[OUTPUT_OUT] &&
	    !p->asked_end[OUTPUT_ERR];
}

static void
open_in_order(struct link_conn *l)
{
	if (l->mux == NULL)
		return;
	struct list *opening = &link_streams(l)->opening;
	while (!list_empty(opening) && !l->conn->ending) {
		struct pipe *p = LIST_OF(opening->next, struct pipe, opening);
		if (!may_open(p))
			return;
		list_remove(&p->opening);
		open_stream(p, l);
	}
}

/* What is stored decides from where output is wanted. */
static void
ask_ends(struct pipe *p)
{
	struct writer *w = p->dock->server->writer;
	const struct lane *lane = &p->dock->lane;
	int err = 0;

	for (int i = OUTPUT_OUT; err == 0 && i <= OUTPUT_ERR; i++) {
		err = writer_output_end(
		    w, p->id, (enum output_stream)i, (void *)(uintptr_t)lane);
		p->asked_end[i] = err == 0;
	}
	if (err != 0) {
		list_remove(&p->opening);
		pipe_say_lost(p);
	}
}

void
pipe_end_known(struct pipe *p, enum output_stream stream, int err)
{
	struct link_conn *l = link_find(p->dock, p->open_on);

	p->asked_end[stream] = false;
	if (err != 0 && !list_empty(&p->opening)) {
		list_remove(&p->opening);
		pipe_say_lost(p);
	}
	if (l != NULL)
		open_in_order(l);
}

/* The newest order wins. */
static void
leave_link(struct pipe *p)
{
	list_remove(&p->opening);
	outlet_leave(&p->outlet);
}

static void
order_open(struct dock *d, struct peer_id to, const struct stream_order *o,
    bool awaits)
{
	struct pipe *p = pipe_find(d, o->command_id);
	struct link_conn *l = link_find(d, to);
	struct command_record *r = clone_new(CLONE_COMMAND, o->command);

	if (p == NULL && r != NULL)
		p = pipe_new(d, o->command_id);
	if (p == NULL || r == NULL) {
		alloc_free(r);
		if (l != NULL)
			conn_drop(l->conn);
		return;
	}
	leave_link(p);
	alloc_free(p->command);
	p->command = r;
	p->again = o->again;
	p->over = p->done = p->finished = p->heard_all = false;
	p->owed = 0;
	p->signal = 0;
	p->awaits = awaits;
	/* One that was moved here has another address than the hub knows. */
	if (peer_some(o->viewer) && !peer_some(p->viewer))
		p->viewer = o->viewer;
	p->live.command = r;
	p->live.seen_by = o->seen_by;
	p->live.asked_by = o->asked_by;
	p->open_on = to;
	if (l == NULL || l->mux == NULL)
		return; /* the agent will register again, and so will this */
	list_push(&link_streams(l)->opening, &p->opening);
	if (o->again && !awaits)
		ask_ends(p);
	open_in_order(l);
}

/* The other orders --------------------------------------------------------- */

static void
order_signal(struct dock *d, const struct stream_order *o)
{
	struct pipe *p = pipe_find(d, o->command_id);

	if (p == NULL)
		return;
	if (p->outlet.trunk == NULL) {
		p->signal = (uint8_t)o->signal;
		return;
	}
	pipe_tell(p,
	    &(struct execframe){
		.type = EXECFRAME_SIGNAL, .signal = (uint8_t)o->signal });
}

/* To one that has just come: how far its input has got. */
static void
greet(struct pipe *p, struct conn *viewer)
{
	const struct execframe f = { .type = EXECFRAME_STDIN_ACK,
		.offset = p->input_taken,
		.limit = p->input_limit };

	p->viewer = viewer->id;
	if (p->outlet.trunk != NULL && p->input_known)
		attach_frame(viewer, &f);
}

/* The newest viewer has the streams. */
static void
order_view(struct dock *d, const struct stream_order *o)
{
	struct pipe *p = pipe_find(d, o->command_id);
	struct conn *c = attach_find(d, o->viewer);

	if (c == NULL)
		return;
	if (p == NULL)
		p = pipe_new(d, o->command_id);
	if (p == NULL) {
		conn_drop(c);
		return;
	}
	struct conn *old = attach_find(d, p->viewer);
	greet(p, c);
	if (old != NULL && old != c)
		attach_replaced(old);
	pipe_resume(d, o->command_id);
}

/* The last word to the agent; the pipe goes when it has left. */
static void
say_done(struct pipe *p)
{
	pipe_tell(p, &(struct execframe){ .type = EXECFRAME_DONE });
	if (p->outlet.trunk == NULL) {
		pipe_free(p);
		return;
	}
	p->done = true;
	crash_point("musterd.done");
	outlet_wake(&p->outlet);
}

/* The agent may forget a command that the hub knows nothing of. */
static void
forget_unknown(struct dock *d, struct peer_id to, struct slice id)
{
	struct link_conn *l = link_find(d, to);
	struct pipe *p = l == NULL || l->mux == NULL ? NULL : pipe_new(d, id);
	struct command_record r = { .id = id, .argv_json = SL("[]") };

	if (p == NULL)
		return;
	p->command = clone_new(CLONE_COMMAND, &r);
	if (p->command == NULL) {
		pipe_free(p);
		return;
	}
	p->again = true;
	p->over = true;
	open_stream(p, l);
	if (p->outlet.trunk == NULL)
		return;
	say_done(p);
}

static void
order_done(struct dock *d, struct peer_id to, const struct stream_order *o)
{
	struct pipe *p = pipe_find(d, o->command_id);
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
	if (p->done)
		return; /* said; another agent may claim this command */
	if (p->outlet.trunk == NULL) {
		pipe_free(p);
		return;
	}
	say_done(p);
}

void
pipe_order(struct dock *d, struct peer_id link, const struct stream_order *o,
    bool awaits)
{
	struct pipe *p;
	struct conn *c;

	switch (o->verb) {
	case STREAM_OPEN:
		order_open(d, link, o, awaits);
		break;
	case STREAM_VIEW:
		order_view(d, o);
		break;
	case STREAM_SIGNAL:
		order_signal(d, o);
		break;
	case STREAM_DONE:
		order_done(d, link, o);
		break;
	case STREAM_SEEN:
		p = pipe_find(d, o->command_id);
		if (p != NULL)
			p->live.seen_by = o->seen_by;
		break;
	case STREAM_EXPEL:
		p = pipe_find(d, o->command_id);
		c = p == NULL ? NULL : attach_find(d, p->viewer);
		if (c != NULL)
			c->role->close(c, WS_CODE_POLICY, SL("revoked"));
		break;
	}
}

/* From lane to lane -------------------------------------------------------- */

void
pipe_let_go(struct dock *d, struct transit *t)
{
	struct pipe *p = pipe_find(d, t->command_id);
	struct conn *c = attach_find(d, p != NULL ? p->viewer : t->viewer);

	if (p != NULL) {
		memcpy(t->shown, p->live.shown, sizeof(t->shown));
		pipe_free(p);
	}
	if (c == NULL)
		return;
	if (conn_leave(c) == 0)
		t->conn = c;
	else
		conn_drop(c);
}

void
pipe_arrive(struct dock *d, struct slice command_id, struct conn *viewer,
    const uint64_t shown[3])
{
	struct pipe *p = pipe_find(d, command_id);
	struct link_conn *l;

	if (p == NULL)
		p = pipe_new(d, command_id);
	if (viewer != NULL && conn_arrive(viewer, d) != 0)
		viewer = NULL;
	if (p == NULL) {
		if (viewer != NULL)
			conn_drop(viewer);
		return;
	}
	memcpy(p->live.shown, shown, sizeof(p->live.shown));
	struct conn *old = attach_find(d, p->viewer);
	if (viewer != NULL)
		greet(p, viewer);
	else if (p->awaits)
		p->viewer = (struct peer_id){ 0 };
	if (old != NULL && old != viewer)
		attach_replaced(old);
	if (!p->awaits) {
		pipe_resume(d, command_id);
		return;
	}
	p->awaits = false;
	l = link_find(d, p->open_on);
	if (l == NULL || list_empty(&p->opening))
		return;
	if (p->again)
		ask_ends(p);
	open_in_order(l);
}

void
pipe_end(struct dock *d)
{
	struct pipe *p;
	size_t pos = 0;

	while ((p = map_next(&d->pipes, &pos)) != NULL) {
		pipe_free(p);
		pos = 0;
	}
}
