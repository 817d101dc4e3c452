#include "base/alloc.h"

#include "server/echo.h"

enum {
	ECHO_MAX = 16 * 1024 * 1024,
	ECHO_HIGH = 1024 * 1024,
	ECHO_QUEUE = 64 * 1024 * 1024,
};

struct echo {
	struct wsconn ws;
};

static void
flush(struct conn *c, struct buf *out)
{
	struct echo *e = c->state;
	struct slice own = wsconn_out(&e->ws);

	if (buf_peek(out).len > 0 && !conn_write(c, buf_peek(out)))
		return;
	buf_clear(out);
	own = wsconn_out(&e->ws);
	if (own.len > 0) {
		if (!conn_write(c, own))
			return;
		wsconn_sent(&e->ws, own.len);
	}
	if (wsconn_closed(&e->ws)) {
		conn_end(c);
		return;
	}
	conn_wake_at(c, wsconn_deadline(&e->ws));
}

/*
 * Short messages gather in out, to be written at once; a long one goes from
 * where it lies, and nothing piles up behind many.
 */
static void
reply(struct conn *c, enum ws_opcode opcode, struct slice data)
{
	struct echo *e = c->state;
	struct buf *out = &c->dock->out;
	uint8_t head[WS_HEAD_MAX];
	size_t n = 0;

	if (data.len >= STREAM_COPY_MAX || buf_peek(out).len >= STREAM_CORK) {
		if (!conn_write(c, buf_peek(out)))
			return;
		buf_clear(out);
		n = wsconn_whole_head(&e->ws, opcode, data.len, head);
	}
	if (n > 0)
		conn_write2(c, (struct slice){ head, n }, data);
	else if (wsconn_send(&e->ws, out, opcode, data, false) != 0)
		conn_drop(c);
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct echo *e = c->state;
	struct buf *out = &c->dock->out;
	struct wsconn_event ev;

	buf_clear(out);
	wsconn_feed(&e->ws, bytes, n, loop_now(c->dock->lane.loop));
	while (!c->ending && wsconn_next(&e->ws, &ev) > 0) {
		/* What comes after our own close is read and not answered. */
		if ((ev.kind == WS_TEXT || ev.kind == WS_BINARY) &&
		    e->ws.state == WSCONN_OPEN)
			reply(c, (enum ws_opcode)ev.kind, ev.data);
	}
	if (c->ending)
		return;
	flush(c, out);
	if (!c->ending && stream_queued(c->stream) > ECHO_HIGH)
		stream_read_stop(c->stream);
}

static void
on_drained(struct conn *c)
{
	stream_read_start(c->stream);
}

static void
on_eof(struct conn *c)
{
	conn_end(c);
}

static void
on_timer(struct conn *c)
{
	struct echo *e = c->state;

	if (wsconn_expire(&e->ws, loop_now(c->dock->lane.loop)) != 0) {
		conn_drop(c);
		return;
	}
	buf_clear(&c->dock->out);
	flush(c, &c->dock->out);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	(void)c;
	(void)ev;
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	struct echo *e = c->state;

	wsconn_close(&e->ws, code, reason, loop_now(c->dock->lane.loop));
	buf_clear(&c->dock->out);
	flush(c, &c->dock->out);
}

static void
on_gone(struct conn *c, int why)
{
	struct echo *e = c->state;

	(void)why;
	wsconn_fini(&e->ws);
	alloc_free(e);
}

void
echo_setup(struct dock *d)
{
	d->echo_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = ECHO_MAX,
		.binary_cap = ECHO_MAX,
		.compress_min = 64,
		.close_within = 10000 };
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.drained = on_drained,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.gone = on_gone,
};

void
echo_open(struct conn *c, struct call *call)
{
	const struct deflate_policy policy = { .server_takeover = true,
		.client_takeover = true };
	struct deflate_terms terms = { .on = false };
	struct deflate_text answer = { .len = 0 };
	struct echo *e = alloc_new(sizeof(*e));

	if (e == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	if (deflate_accept(call->ws_extensions, &policy, &terms, &answer) < 0) {
		alloc_free(e);
		web_problem(c,
		    &(struct problem){ .status = 400,
			.text = SL("Sec-WebSocket-Extensions is malformed") });
		return;
	}
	stream_set_cap(c->stream, ECHO_QUEUE);
	wsconn_init(&e->ws, WSCONN_SERVER, &c->dock->echo_config,
	    loop_now(c->dock->lane.loop));
	if (terms.on)
		wsconn_set_deflate(&e->ws, &terms);
	web_upgrade(c, &role, e, (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
}
