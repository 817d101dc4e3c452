#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "model/clone.h"

#include "io/clock.h"

#include "server/pipe.h"
#include "server/show.h"
#include "server/wsrole.h"

#include "server/attach_state.h"

enum {
	TEXT_MAX = 1024 * 1024, /* the first message: argv and all */
	BINARY_MAX = EXECFRAME_BULK_MAX + EXECFRAME_HEAD_MAX,
	QUEUE_MAX = 64 * 1024 * 1024,
	LOW_MARK = 64 * 1024,
	HIGH_MARK = 1024 * 1024,
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	CREDENTIAL_MAX = 64 * 1024,
	ASK_WITHIN = 30000,
};

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

/* When the connection is to be looked at next. */
static msec
earliest(const struct conn *c)
{
	const struct attach *a = c->state;
	msec due = wsconn_deadline(&a->ws);

	if (a->stage == ATTACH_WAITS && a->ask_by < due)
		due = a->ask_by;
	if (a->look_at != 0 && a->look_at < due)
		due = a->look_at;
	if (a->expires_at != 0 && a->stage != ATTACH_OVER) {
		msec end = now_of(c) + a->expires_at - clock_wall();
		due = end < due ? end : due;
	}
	return due;
}

void
attach_flush(struct conn *c)
{
	struct attach *a = c->state;

	if (!wsrole_flush(c, &a->ws))
		return;
	if (wsconn_closed(&a->ws)) {
		conn_end(c);
		return;
	}
	conn_wake_at(c, earliest(c));
}

void
attach_close(struct conn *c, uint16_t code, struct slice reason)
{
	struct attach *a = c->state;

	a->stage = ATTACH_OVER;
	wsconn_close(&a->ws, code, reason, now_of(c));
	attach_flush(c);
}

static void
say(struct conn *c, struct slice text)
{
	struct attach *a = c->state;
	struct buf *out = &c->dock->out;

	buf_clear(out);
	if (wsconn_send(&a->ws, out, WS_TEXT, text, true) == 0)
		conn_write(c, buf_peek(out));
}

void
attach_refuse(struct conn *c, const struct reply *r)
{
	struct buf *text = &c->dock->text;
	struct js_writer w;

	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "type", SL("refused"));
	js_kv_i64(&w, "status", r->status);
	js_kv_string(&w, "code", r->code);
	show_text(
	    &w, "field", r->field.len > 0 ? r->field : (struct slice){ 0 });
	js_kv_string(&w, "text", r->text);
	if (r->retry_after > 0)
		js_kv_u64(&w, "retry_after", r->retry_after);
	js_end(&w);
	if (js_finish(&w) == 0)
		say(c, buf_peek(text));
	if (!c->ending)
		attach_close(c, WS_CODE_NORMAL, SL("refused"));
}

/* The first message ----------------------------------------------------------
 */

static void
refuse_message(struct conn *c, struct slice field, struct slice text)
{
	const struct reply no = { .status = 400,
		.code = SL("INVALID_REQUEST"),
		.field = field,
		.text = text };

	attach_refuse(c, &no);
}

static int
keep_id(struct attach *a, struct slice id)
{
	uint8_t *copy = alloc_new(id.len + 1);

	if (copy == NULL)
		return ERR_NOMEM;
	memcpy(copy, id.ptr, id.len);
	alloc_free((void *)(uintptr_t)a->command_id.ptr);
	a->command_id = (struct slice){ copy, id.len };
	return 0;
}

/* {"attach": "cmd_...", "out": 0, "err": 0}, from whoever comes back.  0;
 * ERR_NOT_FOUND: it is something else; or what is wrong with it. */
static int
read_attach(struct attach *at, struct slice text, struct arena *a,
    struct request *q, struct slice *field)
{
	static const struct js_limits limits = { TEXT_MAX, 32 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	int64_t out, err;
	struct js_fields f;

	if (doc == NULL)
		return ERR_NOMEM;
	if (js_parse(doc, text, &limits, a) != 0 ||
	    js_get(js_root(doc), "attach").kind == JS_NONE)
		return ERR_NOT_FOUND;
	js_fields_init(&f, js_root(doc));
	js_need_string(&f, "attach", &q->id);
	js_opt_i64(&f, "out", 0, INT64_MAX, 0, &out);
	js_opt_i64(&f, "err", 0, INT64_MAX, 0, &err);
	if (doc->repeated.ptr != NULL)
		f.err = ERR_DUPLICATE;
	*field = f.field;
	if (f.err != 0)
		return f.err;
	q->op = OP_COMMAND_ATTACH;
	at->shown[OUTPUT_OUT] = (uint64_t)out;
	at->shown[OUTPUT_ERR] = (uint64_t)err;
	return keep_id(at, q->id);
}

static int
read_ask(struct attach *at, struct slice text, struct arena *a,
    struct request *q, struct slice *field, struct slice *why)
{
	int err = read_attach(at, text, a, q, field);

	*why = SL("the member is not what it should be");
	if (err != ERR_NOT_FOUND)
		return err;
	q->op = OP_COMMAND_CREATE;
	err = api_read_command(text, a, q, field, why);
	if (err == 0 && q->fan) {
		*field = SL("agents");
		*why = SL("attached, one agent at a time");
		return ERR_UNSUPPORTED;
	}
	if (err == 0)
		((struct command_record *)(uintptr_t)q->command)->foreground =
		    true;
	return err;
}

static void
ask(struct conn *c, struct slice text)
{
	struct attach *at = c->state;
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_REQUEST, &a);
	struct slice copy, field, why;
	int err = ERR_NOMEM;

	if (ev == NULL) {
		conn_drop(c);
		return;
	}
	struct request *q = &ev->request;
	q->attach = true;
	if (credential_copy(a, &at->credential, &q->credential) == 0 &&
	    arena_copy(a, text, &copy) == 0)
		err = read_ask(at, copy, a, q, &field, &why);
	if (err == ERR_NOMEM)
		refuse_message(c, SL(""), SL("out of memory"));
	else if (err != 0)
		refuse_message(c, field, why);
	if (err != 0)
		return;
	at->stage = ATTACH_ASKED;
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

/* There is no stream: the agent is away, or is told in messages. */
static void
pass_signal(struct conn *c, struct slice message)
{
	struct attach *at = c->state;
	struct execframe f;
	struct arena *a;
	struct event *ev;

	if (execframe_parse(EXECFRAME_CONTROLLER, message, &f) != 0 ||
	    f.type != EXECFRAME_SIGNAL)
		return;
	ev = conn_event(c, EVENT_REQUEST, &a);
	if (ev == NULL ||
	    credential_copy(a, &at->credential, &ev->request.credential) != 0 ||
	    arena_copy(a, at->command_id, &ev->request.id) != 0) {
		conn_drop(c);
		return;
	}
	ev->request.op = OP_COMMAND_INTERRUPT;
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

static bool
on_message(struct conn *c, const struct wsconn_event *ev)
{
	struct attach *a = c->state;

	if (ev->kind == WS_TEXT && a->stage == ATTACH_WAITS)
		ask(c, ev->data);
	else if (ev->kind == WS_TEXT)
		attach_close(c, WS_CODE_POLICY, SL("one_command_a_connection"));
	else if (ev->kind == WS_BINARY && a->stage == ATTACH_RUNS) {
		int err = pipe_frame(c->dock, a->command_id, ev->data);
		/* What comes while the agent is away is the client's to send
		 * again: no acknowledgement was given. */
		if (err == ERR_NOT_FOUND)
			pass_signal(c, ev->data);
		else if (err != 0)
			attach_close(c, WS_CODE_PROTOCOL, SL("bad_frame"));
	} else if (ev->kind == WS_BINARY && a->stage != ATTACH_OVER)
		attach_close(c, WS_CODE_TYPE, SL("binary_not_expected"));
	return !c->ending;
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct attach *a = c->state;
	struct wsconn_event ev;

	wsconn_feed(&a->ws, bytes, n, now_of(c));
	while (wsconn_next(&a->ws, &ev) > 0) {
		if (!on_message(c, &ev))
			return;
	}
	attach_flush(c);
}

static void
on_eof(struct conn *c)
{
	conn_end(c);
}

static void
on_timer(struct conn *c)
{
	struct attach *a = c->state;

	/* A client that does not read its output is slow, not dead. */
	if (wsconn_expire(&a->ws, now_of(c)) != 0) {
		conn_drop(c);
		return;
	}
	if (a->stage == ATTACH_WAITS && now_of(c) >= a->ask_by) {
		attach_close(c, WS_CODE_POLICY, SL("auth_timeout"));
		return;
	}
	if (a->expires_at != 0 && a->stage != ATTACH_OVER &&
	    clock_wall() >= a->expires_at) {
		attach_close(c, WS_CODE_POLICY, SL("token_expired"));
		return;
	}
	if (a->look_at != 0 && now_of(c) >= a->look_at)
		attach_catch_up(c);
	attach_flush(c);
}

static void
on_drained(struct conn *c)
{
	struct attach *a = c->state;

	if (a->stage != ATTACH_RUNS)
		return;
	if (attach_is_behind(a))
		attach_catch_up(c);
	else
		pipe_resume(c->dock, a->command_id);
}

static void
say_accepted(struct conn *c, const struct command_record *r)
{
	struct attach *a = c->state;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	a->stage = ATTACH_RUNS;
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "type", SL("accepted"));
	js_kv_string(&w, "id", r->id);
	js_kv_string(&w, "agent_id", r->agent_id);
	js_end(&w);
	if (js_finish(&w) == 0)
		say(c, buf_peek(text));
	if (!c->ending)
		attach_flush(c);
}

/* A new command, or, with again, one that was there. */
void
attach_accept(struct conn *c, const struct command_record *r, bool again)
{
	struct attach *a = c->state;

	if (keep_id(a, r->id) != 0) {
		conn_drop(c);
		return;
	}
	a->behind[OUTPUT_OUT] = a->behind[OUTPUT_ERR] = again;
	say_accepted(c, r);
	if (again && !c->ending)
		attach_catch_up(c);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct attach *a = c->state;

	if (ev->kind != EVENT_REPLY || a->stage != ATTACH_ASKED)
		return;
	/* Over its address's number it stays a stranger, and is served. */
	if (ev->reply->user != NULL)
		conn_know(c, a->credential.address);
	const struct reply *r = ev->reply;
	a->expires_at = r->expires_at;
	if (r->err == 0 && r->command != NULL) {
		attach_accept(c, r->command, r->again);
		return;
	}
	if (r->err == 0 && r->op == OP_COMMAND_ATTACH) {
		attach_look_ended(c, r);
		return;
	}
	struct reply no = *r;
	if (no.again) {
		no.status = 409;
		no.code = SL("ALREADY_RUN");
		no.text = SL("a command with this request_key was run already");
	}
	attach_refuse(c, &no);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	attach_close(c, code, reason);
}

/* Now on the lane of the agent's link. */
static void
on_moved(struct conn *c)
{
	struct attach *a = c->state;

	a->config.lane = &c->dock->ws;
	/* What was being looked for was lost on the way. */
	a->looking = false;
	if (attach_is_behind(a))
		attach_catch_up(c);
	attach_flush(c);
}

static void
on_gone(struct conn *c, int why)
{
	struct attach *a = c->state;

	(void)why;
	if (a->command_id.len > 0 && !c->afloat)
		pipe_forget_viewer(c->dock, a->command_id, c->id);
	wsconn_fini(&a->ws);
	alloc_free((void *)(uintptr_t)a->command_id.ptr);
	arena_fini(&a->kept);
	alloc_free(a->ended);
	alloc_free(a);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.drained = on_drained,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.moved = on_moved,
	.gone = on_gone,
};

struct conn *
attach_find(struct dock *d, struct peer_id peer)
{
	struct conn *c = peer_some(peer) ? dock_find(d, peer) : NULL;

	return c != NULL && !c->ending && c->role == &role ? c : NULL;
}

bool
attach_is_slow(const struct conn *c)
{
	/* The rest of what it missed must not run away from it either. */
	return stream_above_high(c->stream) || attach_is_behind(c->state);
}

void
attach_send(struct conn *c, const struct execframe *f)
{
	struct attach *a = c->state;
	uint8_t head[EXECFRAME_HEAD_MAX], ws[WS_HEAD_MAX];
	size_t n = execframe_head(f, EXECFRAME_ON_MESSAGE, head);
	struct ws_head h = {
		.len = n + f->data.len, .opcode = WS_BINARY, .fin = true
	};

	if (a->stage != ATTACH_RUNS || a->ws.state != WSCONN_OPEN)
		return;
	size_t m = wsconn_head(&a->ws, &h, ws);
	if (conn_write(c, (struct slice){ ws, m }) &&
	    conn_write(c, (struct slice){ head, n }))
		conn_write(c, f->data);
}

void
attach_frame(struct conn *c, const struct execframe *f)
{
	struct attach *a = c->state;
	bool gap = f->type == EXECFRAME_GAP;
	struct execframe rest = *f;
	enum output_stream i;

	if (gap)
		i = (enum output_stream)f->stream;
	else if (f->type == EXECFRAME_STDOUT)
		i = OUTPUT_OUT;
	else if (f->type == EXECFRAME_STDERR)
		i = OUTPUT_ERR;
	else {
		attach_send(c, f);
		return;
	}
	uint64_t end = gap ? f->limit : f->offset + f->data.len;
	if (a->behind[i] || end <= a->shown[i])
		return;
	/* After a break the agent sends from what is stored; the client has
	 * seen more than that. */
	if (f->offset < a->shown[i]) {
		if (!gap)
			rest.data =
			    slice_from_at(f->data, a->shown[i] - f->offset);
		rest.offset = a->shown[i];
	}
	a->shown[i] = end;
	attach_send(c, &rest);
}

void
attach_say_ended(struct conn *c, const struct command_record *r)
{
	struct attach *a = c->state;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	if (a->stage != ATTACH_RUNS)
		return;
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "type", SL("ended"));
	js_key(&w, SL("command"));
	show_command(&w, r);
	js_end(&w);
	if (js_finish(&w) == 0)
		say(c, buf_peek(text));
	if (!c->ending)
		attach_close(c, WS_CODE_NORMAL, SL("ended"));
}

void
attach_ended(struct conn *c, const struct command_record *r)
{
	struct attach *a = c->state;

	if (!attach_is_behind(a)) {
		attach_say_ended(c, r);
		return;
	}
	if (a->ended == NULL)
		a->ended = clone_new(CLONE_COMMAND, r);
	if (a->ended == NULL)
		conn_drop(c);
	else
		attach_stored(c);
}

void
attach_replaced(struct conn *c)
{
	attach_close(c, WS_CODE_NORMAL, SL("replaced_by_new_connection"));
}

/* Opening
 * -------------------------------------------------------------------------- */

void
attach_open(struct conn *c, struct call *call)
{
	struct attach *a = alloc_new(sizeof(*a));

	if (a != NULL)
		arena_init(&a->kept, CREDENTIAL_MAX);
	if (a == NULL ||
	    credential_copy(&a->kept, &call->credential, &a->credential) != 0) {
		if (a != NULL)
			arena_fini(&a->kept);
		alloc_free(a);
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	if (a->credential.kind == CREDENTIAL_NONE ||
	    a->credential.kind == CREDENTIAL_KEY) {
		arena_fini(&a->kept);
		alloc_free(a);
		web_problem(c,
		    &(struct problem){
			.status = 401, .text = SL("a token is required") });
		return;
	}
	a->config = (struct wsconn_config){ .lane = &c->dock->ws,
		.text_cap = TEXT_MAX,
		.binary_cap = BINARY_MAX,
		.compress_min = SIZE_MAX,
		.ping_every = PING_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
	a->ask_by = now_of(c) + ASK_WITHIN;
	wsconn_init(&a->ws, WSCONN_SERVER, &a->config, now_of(c));
	stream_set_cap(c->stream, QUEUE_MAX);
	stream_set_marks(c->stream, LOW_MARK, HIGH_MARK);
	web_upgrade(c, &role, a,
	    web_offers(call, SL("muster.exec.v1")) ? SL("muster.exec.v1")
						   : (struct slice){ 0 },
	    (struct slice){ 0 });
	if (!c->ending)
		attach_flush(c);
}
