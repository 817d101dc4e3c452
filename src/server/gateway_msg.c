#include "base/err.h"

#include "wire/wsopen.h"

#include "server/gateway_ws.h"

/*
 * A visitor's WebSocket to a service that is asked in messages: the
 * handshake, pings and closes are between the visitor and us.
 */

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static void look(struct conn *c);

/* Endings ------------------------------------------------------------------
 */

static void
tell_close(struct relay *r, uint16_t code, struct slice why)
{
	const struct exchange_message m = {
		.kind = WS_CLOSE, .code = code, .data = why
	};

	if (r->exchange != NULL && !r->ended[TO_SERVICE])
		exchange_message(r->exchange, &m);
	r->ended[TO_SERVICE] = true;
}

static void
end_with(struct relay *r, uint16_t code, struct slice why)
{
	struct conn *c = r->conn;

	if (r->code != 0 || c->ending)
		return;
	r->code = code;
	relay_because(r, why);
	tell_close(r, code, why);
	wsconn_close(&r->ws, code, why, now_of(c));
	look(c);
}

/* The visitor --------------------------------------------------------------
 */

static void
look(struct conn *c)
{
	struct relay *r = c->state;
	msec due = wsconn_deadline(&r->ws);

	relay_count(r);
	if (!wsrole_flush(c, &r->ws))
		return;
	if (wsconn_closed(&r->ws)) {
		conn_end(c);
		return;
	}
	if (r->active + r->idle_within < due)
		due = r->active + r->idle_within;
	if (r->resume != 0 && r->resume < due)
		due = r->resume;
	if (r->held || r->resume != 0)
		stream_read_stop(c->stream);
	else
		stream_read_start(c->stream);
	conn_wake_at(c, due);
}

static void
on_message(struct relay *r, const struct wsconn_event *ev)
{
	const struct exchange_message m = {
		.kind = ev->kind, .code = WS_CODE_NONE, .data = ev->data
	};

	r->active = now_of(r->conn);
	r->count[TO_SERVICE][0]++;
	r->count[TO_SERVICE][1] += ev->data.len;
	if (!r->ended[TO_SERVICE])
		exchange_message(r->exchange, &m);
}

static void
on_ws(struct relay *r, const struct wsconn_event *ev)
{
	switch (ev->kind) {
	case WS_TEXT:
	case WS_BINARY:
		on_message(r, ev);
		break;
	case WS_CLOSE:
		relay_because(r, SL("closed_by_visitor"));
		tell_close(r, ev->code, ev->data);
		break;
	case WSCONN_ERROR:
		relay_because(r, slice_from(err_name(ev->err)));
		tell_close(r, ev->code, SL(""));
		break;
	default:
		break; /* pings and pongs are between the visitor and us */
	}
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct relay *r = c->state;
	uint64_t before = r->count[TO_SERVICE][0];
	msec now = now_of(c);
	struct wsconn_event ev;

	r->heard = now;
	wsconn_feed(&r->ws, bytes, n, now);
	while (!c->ending && wsconn_next(&r->ws, &ev) > 0)
		on_ws(r, &ev);
	if (c->ending)
		return;
	relay_charge(r, r->count[TO_SERVICE][0] - before, n, now);
	if (!relay_patient(r, now)) {
		end_with(r, WS_CODE_POLICY, SL("rate limit exceeded"));
		return;
	}
	r->held = r->exchange != NULL && exchange_above_high(r->exchange);
	look(c);
}

static void
on_eof(struct conn *c)
{
	struct relay *r = c->state;

	tell_close(r, WS_CODE_AWAY, SL(""));
	conn_end(c);
}

static void
on_timer(struct conn *c)
{
	struct relay *r = c->state;
	msec now = now_of(c);

	if (r->resume != 0 && now >= r->resume)
		r->resume = 0;
	if (wsconn_expire(&r->ws, now) != 0) {
		relay_because(r, SL("visitor_dead"));
		conn_drop(c);
	} else if (now >= r->active + r->idle_within) {
		end_with(r, WS_CODE_AWAY, SL("idle"));
	} else {
		look(c);
	}
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	end_with(c->state, code, reason);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.drained = relay_drained,
	.timer = on_timer,
	.event = relay_event,
	.close = on_close,
	.gone = relay_gone,
};

/* The service --------------------------------------------------------------
 */

static void
on_close_frame(struct relay *r, const struct exchange_message *m)
{
	uint16_t code = m->code;

	/* What may not stand in a close frame is not passed on in one. */
	if (code != WS_CODE_NONE && !ws_code_valid(code))
		code = WS_CODE_PROTOCOL;
	r->ended[TO_SERVICE] = true;
	relay_because(r, SL("closed_by_service"));
	wsconn_close(&r->ws, code == WS_CODE_NONE ? WS_CODE_NORMAL : code,
	    m->data, now_of(r->conn));
	look(r->conn);
}

static void
on_service_message(void *owner, const struct exchange_message *m)
{
	struct relay *r = owner;
	struct conn *c = r->conn;
	struct buf *out = &c->dock->out;

	if (c->ending)
		return;
	r->active = now_of(c);
	if (m->kind == WS_CLOSE) {
		on_close_frame(r, m);
		return;
	}
	if (m->kind != WS_TEXT && m->kind != WS_BINARY) {
		exchange_consume(r->exchange, m->data.len);
		return;
	}
	r->count[TO_VISITOR][0]++;
	r->count[TO_VISITOR][1] += m->data.len;
	buf_clear(out);
	if (wsconn_send(&r->ws, out, (enum ws_opcode)m->kind, m->data, false) ==
	    0)
		conn_write(c, buf_peek(out));
	relay_count(r);
	if (stream_above_high(c->stream))
		r->owed += m->data.len;
	else
		exchange_consume(r->exchange, m->data.len);
}

static void
on_ended(void *owner, const struct http1_head *trailers)
{
	struct relay *r = owner;

	(void)trailers;
	r->ended[TO_SERVICE] = true;
	/* Gone without a close: there is no better word for it (7.4.1). */
	end_with(r, WS_CODE_INTERNAL, SL("the service has gone"));
}

static void
on_space(void *owner)
{
	struct relay *r = owner;

	r->held = false;
	look(r->conn);
}

static void
on_failed(void *owner, const struct exchange_failure *f)
{
	struct relay *r = owner;

	r->ended[TO_SERVICE] = true;
	end_with(r, WS_CODE_INTERNAL, f->code);
}

static const struct exchange_ops ops = {
	.message = on_service_message,
	.ended = on_ended,
	.drained = on_space,
	.failed = on_failed,
};

/* Switching -----------------------------------------------------------------
 */

static void
on_cut(struct pass_holder *h, struct slice why)
{
	end_with(LIST_OF(h, struct relay, holder), WS_CODE_POLICY, why);
}

/* What of the service's handshake is not for the visitor: ours is another. */
static bool
is_of_handshake(struct slice name)
{
	return slice_eq_nocase(name, SL("Sec-WebSocket-Accept")) ||
	    slice_eq_nocase(name, SL("Sec-WebSocket-Extensions"));
}

/* Our own 101, with what the service said of itself. */
static int
answer(struct visit *v, const struct http1_head *h, struct buf *rest)
{
	struct dock *d = v->conn->dock;
	uint8_t accept[WSOPEN_ACCEPT_LEN];
	struct slice early = { 0 };
	struct http1_reply reply;
	struct http1_pair *fields;
	struct hop_wish wish;
	size_t n = 0;

	arena_reset(&d->scratch);
	buf_clear(&d->out);
	int err = hop_response(&v->hop, h, &d->scratch, &reply);
	if (err == 0)
		err = hop_wish(&v->ask, &d->scratch, &wish);
	if (err == 0)
		err = wsopen_make_accept(wish.key, accept);
	fields = arena_array(&d->scratch, reply.count + 1, sizeof(*fields));
	if (err != 0 || fields == NULL)
		return err != 0 ? err : ERR_NOMEM;
	for (size_t i = 0; i < reply.count; i++) {
		if (!is_of_handshake(reply.fields[i].name))
			fields[n++] = reply.fields[i];
	}
	fields[n++] = (struct http1_pair){ SL("Sec-WebSocket-Accept"),
		{ accept, sizeof(accept) } };
	reply.fields = fields;
	reply.count = n;
	err = http1_server_switch(
	    &web_of(v->conn)->http, &reply, &d->out, &early);
	buf_put(rest, early);
	return err != 0 ? err : rest->err;
}

void
relay_switch_messages(struct visit *v, const struct http1_head *h)
{
	struct conn *c = v->conn;
	struct buf rest;
	struct relay *r;

	buf_init(&rest, HTTP1_AHEAD_BYTES);
	r = answer(v, h, &rest) == 0 ? relay_new(v, false) : NULL;
	if (r == NULL) {
		buf_fini(&rest);
		conn_drop(c);
		return;
	}
	wsconn_init(&r->ws, WSCONN_SERVER, &c->dock->tunnel_config, now_of(c));
	exchange_own(r->exchange, &ops, r);
	r->holder.cut = on_cut;
	pass_enter(r->pass, &r->holder);
	relay_log_begin(r);
	web_leave(c, &role, r);
	if (conn_write(c, buf_peek(&c->dock->out))) {
		look(c);
		if (buf_peek(&rest).len > 0)
			on_read(c, rest.mem + rest.head, buf_peek(&rest).len);
	}
	buf_fini(&rest);
}
