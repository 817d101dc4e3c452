#include "base/err.h"

#include "io/rand.h"

#include "server/gateway_ws.h"

/*
 * Design notes.
 *
 * What comes from either end is cut at frame borders by wsborder only to
 * know where they are: what it gives is passed on as one piece.  Reading
 * stops while the other end is behind, as in gateway.c.
 *
 * An end that stops sending (FIN) is passed on as that; the relay ends when
 * both have, or when nothing has come for RELAY_HALF after one of them.  When
 * it is we who end it, each end that is between two frames is told by a close
 * frame, and has RELAY_BYE to take it.
 */

static void look(struct conn *c);

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static void
count(struct relay *r, int way)
{
	r->count[way][0] = r->borders[way].messages;
	r->count[way][1] = r->borders[way].bytes;
}

/* Endings ------------------------------------------------------------------
 */

/* A close frame; to the service it is masked as a client's (5.3). */
static size_t
put_close(uint8_t *out, bool masked, uint16_t code, struct slice why)
{
	const struct ws_head h = { .fin = true,
		.opcode = WS_CLOSE,
		.len = 2 + why.len,
		.masked = masked,
		.mask = masked ? rand_u32() : 0 };
	size_t n = ws_encode_head(out, &h);

	out[n] = (uint8_t)(code >> 8);
	out[n + 1] = (uint8_t)code;
	memcpy(out + n + 2, why.ptr, why.len);
	if (masked)
		ws_mask(out + n, 2 + why.len, h.mask, 0);
	return n + 2 + why.len;
}

/* End it ourselves, with a close to whoever can take one. */
static void
end_with(struct relay *r, uint16_t code, struct slice why)
{
	uint8_t frame[WS_HEAD_MAX + WS_CONTROL_MAX];
	struct conn *c = r->conn;

	if (r->code != 0)
		return;
	r->code = code;
	relay_because(r, why);
	r->end_at = now_of(c) + RELAY_BYE;
	memcpy(r->parted, r->ended, sizeof(r->parted));
	if (wsborder_open(&r->borders[TO_SERVICE]) && r->exchange != NULL &&
	    !r->ended[TO_SERVICE]) {
		exchange_write(r->exchange,
		    (struct slice){ frame, put_close(frame, true, code, why) });
	}
	if (r->exchange != NULL && !r->ended[TO_SERVICE])
		exchange_end(r->exchange, NULL, 0);
	r->ended[TO_SERVICE] = true;
	if (!wsborder_open(&r->borders[TO_VISITOR])) {
		/* In the middle of a message: the cut tells. */
		conn_drop(c);
		return;
	}
	if (conn_write(
		c, (struct slice){ frame, put_close(frame, false, code, why) }))
		stream_shutdown(c->stream);
	r->ended[TO_VISITOR] = true;
	look(c);
}

/*
 * We ended it, and one end has sent its last.  The other is waited for: a
 * reset now could take the close from it that is on its way there.
 */
static void
part(struct relay *r, int way)
{
	r->parted[way] = true;
	if (r->exchange == NULL || (r->parted[0] && r->parted[1]))
		conn_end(r->conn);
}

/* One direction is over; both: the relay is. */
static void
end_way(struct relay *r, int way)
{
	struct conn *c = r->conn;

	if (r->ended[way])
		return;
	r->ended[way] = true;
	if (way == TO_VISITOR)
		stream_shutdown(c->stream);
	else if (r->exchange != NULL)
		exchange_end(r->exchange, NULL, 0);
	if (r->idle_within > RELAY_HALF)
		r->idle_within = RELAY_HALF;
	if (r->ended[TO_SERVICE] && r->ended[TO_VISITOR])
		conn_end(c);
	else
		look(c);
}

/* Time ---------------------------------------------------------------------
 */

/* A sign of life asked for, where it can stand. */
static void
ping(struct relay *r, msec now)
{
	uint8_t frame[WSBORDER_PING];

	if (!wsborder_open(&r->borders[TO_VISITOR]) || r->ended[TO_VISITOR])
		return;
	wsborder_ping(&r->borders[TO_SERVICE], frame);
	r->spoke = now;
	conn_write(r->conn, (struct slice){ frame, sizeof(frame) });
}

/* After which the visitor is pinged. */
static msec
silence(const struct relay *r)
{
	return r->conn->dock->tunnel_config.ping_every;
}

/* When something is due next. */
static msec
due(const struct relay *r)
{
	msec at = r->active + r->idle_within;
	msec quiet = r->heard > r->spoke ? r->heard : r->spoke;

	if (r->end_at != 0)
		return r->end_at;
	if (quiet + silence(r) < at)
		at = quiet + silence(r);
	if (r->resume != 0 && r->resume < at)
		at = r->resume;
	return at;
}

/* Whether to read the visitor, and when to look again. */
static void
look(struct conn *c)
{
	struct relay *r = c->state;

	if (c->ending)
		return;
	relay_count(r);
	if (r->held || r->resume != 0)
		stream_read_stop(c->stream);
	else
		stream_read_start(c->stream);
	conn_wake_at(c, due(r));
}

static void
on_timer(struct conn *c)
{
	struct relay *r = c->state;
	msec now = now_of(c);

	if (r->end_at != 0 && now >= r->end_at) {
		conn_end(c);
		return;
	}
	if (r->resume != 0 && now >= r->resume)
		r->resume = 0;
	if (now >= r->active + r->idle_within) {
		end_with(r, WS_CODE_AWAY, SL("idle"));
		return;
	}
	if (r->borders[TO_SERVICE].waiting > 1 &&
	    now >= r->heard + r->conn->dock->tunnel_config.dead_after) {
		relay_because(r, SL("visitor_dead"));
		conn_drop(c);
		return;
	}
	if (now >= r->heard + silence(r) && now >= r->spoke + silence(r))
		ping(r, now);
	look(c);
}

/* The visitor --------------------------------------------------------------
 */

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct relay *r = c->state;
	struct wsborder *b = &r->borders[TO_SERVICE];
	struct slice in = { bytes, n }, pass;
	uint64_t messages = b->messages;
	msec now = now_of(c);

	r->heard = now;
	while (wsborder_next(b, &in, &pass)) {
		r->active = now;
		/* Why it does not go is told by failed. */
		if (!r->ended[TO_SERVICE] && r->exchange != NULL &&
		    exchange_write(r->exchange, pass) != 0)
			return;
	}
	count(r, TO_SERVICE);
	if (r->code != 0)
		return;
	relay_charge(r, b->messages - messages, n, now);
	if (!relay_patient(r, now)) {
		end_with(r, WS_CODE_POLICY, SL("rate limit exceeded"));
		return;
	}
	r->held = r->exchange != NULL && exchange_above_high(r->exchange);
	if (r->held || r->resume != 0)
		look(c);
}

static void
on_eof(struct conn *c)
{
	struct relay *r = c->state;

	if (r->code != 0)
		part(r, TO_SERVICE);
	else
		end_way(r, TO_SERVICE);
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
on_data(void *owner, struct slice bytes)
{
	struct relay *r = owner;
	struct conn *c = r->conn;
	struct wsborder *b = &r->borders[TO_VISITOR];
	size_t n = bytes.len;
	struct slice pass;

	r->active = r->spoke = now_of(c);
	while (wsborder_next(b, &bytes, &pass)) {
		if (!r->ended[TO_VISITOR] && !conn_write(c, pass))
			return;
	}
	count(r, TO_VISITOR);
	relay_count(r);
	if (stream_above_high(c->stream))
		r->owed += n;
	else
		exchange_consume(r->exchange, n);
}

static void
on_ended(void *owner, const struct http1_head *trailers)
{
	struct relay *r = owner;

	(void)trailers;
	if (r->code != 0)
		part(r, TO_VISITOR);
	else
		end_way(r, TO_VISITOR);
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
	if (r->code != 0)
		conn_end(r->conn);
	else
		end_with(r, WS_CODE_INTERNAL, f->code);
}

static const struct exchange_ops ops = {
	.data = on_data,
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

static void
init_borders(struct relay *r)
{
	uint8_t token[WSBORDER_TOKEN];

	for (size_t i = 0; i < WSBORDER_TOKEN; i += 4) {
		uint32_t word = rand_u32();
		memcpy(token + i, &word, sizeof(word));
	}
	for (int way = 0; way < WAYS; way++)
		wsborder_init(&r->borders[way], token);
}

/* The service's 101 for the visitor, in dock->out; *rest is a copy. */
static int
answer(struct visit *v, const struct http1_head *h, struct buf *rest)
{
	struct dock *d = v->conn->dock;
	struct slice early = { 0 };
	struct http1_reply reply;

	arena_reset(&d->scratch);
	buf_clear(&d->out);
	int err = hop_response(&v->hop, h, &d->scratch, &reply);
	if (err == 0)
		err = http1_server_switch(
		    &web_of(v->conn)->http, &reply, &d->out, &early);
	buf_put(rest, early);
	return err != 0 ? err : rest->err;
}

void
gateway_switch(struct visit *v, const struct http1_head *h, bool raw)
{
	struct conn *c = v->conn;
	struct buf rest;
	struct relay *r;

	if (!raw) {
		relay_switch_messages(v, h);
		return;
	}
	buf_init(&rest, HTTP1_AHEAD_BYTES);
	r = answer(v, h, &rest) == 0 ? relay_new(v, true) : NULL;
	if (r == NULL) {
		buf_fini(&rest);
		conn_drop(c);
		return;
	}
	init_borders(r);
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
