#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"

#include "io/log.h"

#include "server/api.h"
#include "server/credential.h"
#include "server/pipe.h"
#include "server/show.h"

#include "server/attach.h"

enum {
	TEXT_MAX = 1024 * 1024, /* the first message: argv and all */
	BINARY_MAX = EXECFRAME_BULK_MAX + EXECFRAME_HEAD_MAX,
	QUEUE_MAX = 64 * 1024 * 1024,
	LOW_MARK = 64 * 1024,
	HIGH_MARK = 1024 * 1024,
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
};

enum stage { STAGE_WAITS, STAGE_ASKED, STAGE_RUNS, STAGE_OVER };

struct attach {
	struct wsconn ws;
	struct wsconn_config config;
	struct credential credential; /* slices owned, see texts */
	uint8_t *texts;
	struct slice command_id; /* owned */
	enum stage stage;
};

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static void
finish(struct conn *c)
{
	struct attach *a = c->state;
	struct slice own = wsconn_out(&a->ws);

	if (c->ending)
		return;
	if (own.len > 0) {
		if (!conn_write(c, own))
			return;
		wsconn_sent(&a->ws, own.len);
	}
	if (wsconn_closed(&a->ws))
		conn_end(c);
	else
		conn_wake_at(c, wsconn_deadline(&a->ws));
}

static void
close_it(struct conn *c, uint16_t code, struct slice reason)
{
	struct attach *a = c->state;

	a->stage = STAGE_OVER;
	wsconn_close(&a->ws, code, reason, now_of(c));
	finish(c);
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

static void
say_refused(struct conn *c, const struct reply *r)
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
		close_it(c, WS_CODE_NORMAL, SL("refused"));
}

/* The first message ----------------------------------------------------------
 */

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
	q->op = OP_COMMAND_CREATE;
	q->attach = true;
	if (credential_copy(a, &at->credential, &q->credential) == 0 &&
	    arena_copy(a, text, &copy) == 0)
		err = api_read_command(copy, a, q, &field, &why);
	if (err != 0) {
		const struct reply no = { .status = 400,
			.code = SL("INVALID_REQUEST"),
			.field = err == ERR_NOMEM ? SL("") : field,
			.text = err == ERR_NOMEM ? SL("out of memory") : why };
		say_refused(c, &no);
		return;
	}
	((struct command_record *)(uintptr_t)q->command)->foreground = true;
	at->stage = STAGE_ASKED;
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

static bool
on_message(struct conn *c, const struct wsconn_event *ev)
{
	struct attach *a = c->state;

	if (ev->kind == WS_TEXT && a->stage == STAGE_WAITS)
		ask(c, ev->data);
	else if (ev->kind == WS_TEXT)
		close_it(c, WS_CODE_POLICY, SL("one_command_a_connection"));
	else if (ev->kind == WS_BINARY && a->stage == STAGE_RUNS) {
		int err = pipe_frame(c->dock, a->command_id, ev->data);
		/* What comes while the agent is away is the client's to send
		 * again: no acknowledgement was given. */
		if (err != 0 && err != ERR_NOT_FOUND)
			close_it(c, WS_CODE_PROTOCOL, SL("bad_frame"));
	} else if (ev->kind == WS_BINARY && a->stage != STAGE_OVER)
		close_it(c, WS_CODE_TYPE, SL("binary_not_expected"));
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
	finish(c);
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
	finish(c);
}

static void
on_drained(struct conn *c)
{
	struct attach *a = c->state;

	if (a->stage == STAGE_RUNS)
		pipe_resume(c->dock, a->command_id);
}

static void
accepted(struct conn *c, const struct reply *r)
{
	struct attach *a = c->state;
	struct buf *text = &c->dock->text;
	struct js_writer w;
	uint8_t *id = alloc_new(r->command->id.len + 1);

	if (id == NULL) {
		conn_drop(c);
		return;
	}
	memcpy(id, r->command->id.ptr, r->command->id.len);
	a->command_id = (struct slice){ id, r->command->id.len };
	a->stage = STAGE_RUNS;
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "type", SL("accepted"));
	js_kv_string(&w, "id", r->command->id);
	js_kv_string(&w, "agent_id", r->command->agent_id);
	js_end(&w);
	if (js_finish(&w) == 0)
		say(c, buf_peek(text));
	if (!c->ending)
		finish(c);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct attach *a = c->state;

	if (ev->kind != EVENT_REPLY || a->stage != STAGE_ASKED)
		return;
	/* Over its address's number it stays a stranger, and is served. */
	if (ev->reply->user != NULL)
		conn_know(c, a->credential.address);
	if (ev->reply->err == 0 && ev->reply->command != NULL) {
		accepted(c, ev->reply);
		return;
	}
	struct reply no = *ev->reply;
	if (no.again) {
		no.status = 409;
		no.code = SL("ALREADY_RUN");
		no.text = SL("a command with this request_key was run already");
	}
	say_refused(c, &no);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	close_it(c, code, reason);
}

/* Now on the lane of the agent's link. */
static void
on_moved(struct conn *c)
{
	struct attach *a = c->state;

	a->config.lane = &c->dock->ws;
	finish(c);
}

static void
on_gone(struct conn *c, int why)
{
	struct attach *a = c->state;

	(void)why;
	if (a->command_id.len > 0 && !c->afloat)
		pipe_forget_viewer(c->dock, a->command_id);
	wsconn_fini(&a->ws);
	alloc_free((void *)(uintptr_t)a->command_id.ptr);
	alloc_free(a->texts);
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
	return stream_above_high(c->stream);
}

void
attach_frame(struct conn *c, const struct execframe *f)
{
	struct attach *a = c->state;
	uint8_t head[EXECFRAME_HEAD_MAX], ws[WS_HEAD_MAX];
	size_t n = execframe_head(f, EXECFRAME_ON_MESSAGE, head);
	struct ws_head h = {
		.len = n + f->data.len, .opcode = WS_BINARY, .fin = true
	};

	if (a->stage != STAGE_RUNS || a->ws.state != WSCONN_OPEN)
		return;
	size_t m = wsconn_head(&a->ws, &h, ws);
	if (conn_write(c, (struct slice){ ws, m }) &&
	    conn_write(c, (struct slice){ head, n }))
		conn_write(c, f->data);
}

void
attach_ended(struct conn *c, const struct command_record *r)
{
	struct attach *a = c->state;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	if (a->stage != STAGE_RUNS)
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
		close_it(c, WS_CODE_NORMAL, SL("ended"));
}

/* Opening
 * -------------------------------------------------------------------------- */

static int
keep_credential(struct attach *a, const struct credential *from)
{
	size_t n = from->address.len + from->remote.len;

	a->texts = alloc_new(n + 1);
	if (a->texts == NULL)
		return ERR_NOMEM;
	a->credential = *from;
	if (from->address.len > 0)
		memcpy(a->texts, from->address.ptr, from->address.len);
	a->credential.address.ptr = a->texts;
	if (from->remote.len > 0)
		memcpy(a->texts + from->address.len, from->remote.ptr,
		    from->remote.len);
	a->credential.remote.ptr = a->texts + from->address.len;
	return 0;
}

void
attach_open(struct conn *c, struct call *call)
{
	struct attach *a = alloc_new(sizeof(*a));

	if (a == NULL || keep_credential(a, &call->credential) != 0) {
		alloc_free(a);
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	if (a->credential.kind != CREDENTIAL_TOKEN) {
		alloc_free(a->texts);
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
	wsconn_init(&a->ws, WSCONN_SERVER, &a->config, now_of(c));
	stream_set_cap(c->stream, QUEUE_MAX);
	stream_set_marks(c->stream, LOW_MARK, HIGH_MARK);
	web_upgrade(c, &role, a,
	    web_offers(call, SL("muster.exec.v1")) ? SL("muster.exec.v1")
						   : (struct slice){ 0 },
	    (struct slice){ 0 });
	if (!c->ending)
		finish(c);
}
