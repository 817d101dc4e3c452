#include "base/alloc.h"

#include "server/echo.h"

enum {
	ECHO_MAX = 16 * 1024 * 1024,
	ECHO_HIGH = 1024 * 1024,
	ECHO_QUEUE = 64 * 1024 * 1024,
};

struct echo {
	struct wsconn ws;
	struct wsconn_config config;
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

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct echo *e = c->state;
	struct buf *out = &c->dock->out;
	struct wsconn_event ev;

	buf_clear(out);
	wsconn_feed(&e->ws, bytes, n, loop_now(c->dock->lane.loop));
	while (wsconn_next(&e->ws, &ev) > 0) {
		if (ev.kind != WS_TEXT && ev.kind != WS_BINARY)
			continue;
		if (wsconn_send(&e->ws, out, (enum ws_opcode)ev.kind, ev.data,
			false) != 0)
			break;
		/* Long messages do not pile up behind one another. */
		if (buf_peek(out).len >= STREAM_CORK) {
			if (!conn_write(c, buf_peek(out)))
				return;
			buf_clear(out);
		}
	}
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
	e->config = (struct wsconn_config){ .lane = &c->dock->ws,
		.text_cap = ECHO_MAX,
		.binary_cap = ECHO_MAX,
		.compress_min = 64,
		.close_within = 10000 };
	stream_set_cap(c->stream, ECHO_QUEUE);
	wsconn_init(
	    &e->ws, WSCONN_SERVER, &e->config, loop_now(c->dock->lane.loop));
	if (terms.on)
		wsconn_set_deflate(&e->ws, &terms);
	web_upgrade(c, &role, e, (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
}
