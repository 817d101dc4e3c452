#include "base/err.h"

#include "wire/be.h"
#include "wire/ws.h"

#include "io/clock.h"

#include "server/exchange_json.h"

enum {
	WITHIN_PIECES = 86400000, /* an answer in pieces may go on for ever */
	TEXT_MAX = 24 << 20,      /* of one message */
	ITEM_HEAD = 5,
};

/* What else waits in line, beside WebSocket opcodes. */
enum { ITEM_PIECE = 32, ITEM_END, ITEM_BYE };

static struct asked *
asked_of(struct exchange *base)
{
	return (struct asked *)(void *)base;
}

static msec
now_of(const struct asked *x)
{
	return loop_now(x->dock->lane.loop);
}

/* proxy_request ------------------------------------------------------------ */

/* "service.namespace.svc", with or without the cluster's domain. */
static bool
split_host(struct slice host, struct slice *service, struct slice *namespace)
{
	struct slice svc;

	if (!slice_split(&host, '.', service) ||
	    !slice_split(&host, '.', namespace) ||
	    !slice_split(&host, '.', &svc) || !slice_eq(svc, SL("svc")))
		return false;
	return host.len == 0 || slice_eq(host, SL("cluster.local"));
}

bool
asked_service(const struct tunnel_target *t, struct slice *service,
    struct slice *namespace)
{
	*service = t->service;
	*namespace = t->namespace.len > 0 ? t->namespace : SL("default");
	if (t->service.len > 0 || t->host.len == 0)
		return true;
	return split_host(t->host, service, namespace);
}

/* Their own handshake has these; twice, and it is refused. */
static bool
of_handshake(struct slice name)
{
	static const struct slice names[] = { SL_INIT("Sec-WebSocket-Key"),
		SL_INIT("Sec-WebSocket-Version"),
		SL_INIT("Sec-WebSocket-Extensions"), SL_INIT("Upgrade"),
		SL_INIT("Connection") };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_eq_nocase(name, names[i]))
			return true;
	}
	return false;
}

/* The fields of the order, and those that are their own parts there. */
static int
gather(struct asked *x, struct arena *a, struct proxy_ask *ask)
{
	const struct http1_ask *from = x->order.ask;
	struct http1_pair *fields =
	    arena_array(a, from->count + 1, sizeof(*fields));

	if (fields == NULL)
		return ERR_NOMEM;
	fields[ask->count++] = (struct http1_pair){ SL("Host"), from->host };
	for (size_t i = 0; i < from->count; i++) {
		struct slice name = from->fields[i].name;
		/* The visitor was told to go on by ourselves. */
		if (slice_eq_nocase(name, SL("Expect")) ||
		    (from->upgrade && of_handshake(name)))
			continue;
		fields[ask->count++] = from->fields[i];
	}
	ask->fields = fields;
	return 0;
}

/* https to a service they know for WebSockets only; of a request it is how
 * the visitor came. */
static struct slice
scheme(const struct exchange_order *o)
{
	bool tls = o->ask->upgrade ? o->target->tls : o->tls;

	return tls ? SL("https") : SL("http");
}

static int
encode(struct asked *x, bool pieces, struct arena *a, struct buf *out)
{
	const struct exchange_order *o = &x->order;
	bool streams = x->use.link->features.response_streaming &&
	    !x->use.link->mixes && !o->ask->upgrade;
	struct proxy_ask ask = { .id = proxy_use_id(&x->use),
		.method = o->ask->method,
		.query = o->ask->target,
		.scheme = scheme(o),
		.agent_id = o->agent_id,
		.within = streams ? WITHIN_PIECES : x->p.terms.answer_within,
		.answer_streams = streams,
		.body_streams = pieces,
		.body = buf_peek(&x->body),
		.websocket = o->ask->upgrade,
		.protocol = x->p.terms.protocols };

	slice_split(&ask.query, '?', &ask.path);
	/* A WebSocket has no end that is foreseen. */
	if (ask.websocket)
		ask.within = 0;
	asked_service(o->target, &ask.service, &ask.namespace);
	ask.port = o->target->port;
	int err = gather(x, a, &ask);
	return err != 0 ? err : proxy_put_ask(&ask, clock_wall(), out);
}

static int
tell(struct asked *x, bool pieces)
{
	struct arena a;
	struct buf text;

	if (x->use.link == NULL)
		return ERR_GONE;
	arena_init(&a, 1 << 20);
	buf_init(&text, TEXT_MAX);
	int err = encode(x, pieces, &a, &text);
	if (err == 0)
		err = proxy_use_say(&x->use, buf_peek(&text));
	buf_fini(&text);
	arena_fini(&a);
	if (err != 0)
		return err;
	x->told = true;
	proxied_sent(&x->p, now_of(x));
	return 0;
}

int
asked_open(struct asked *x)
{
	int err = tell(x, false);

	if (err == 0)
		proxied_asked(&x->p, now_of(x));
	x->whole = true;
	return err;
}

/* In line ------------------------------------------------------------------ */

static int
put_item(struct asked *x, uint8_t kind, struct slice bytes)
{
	uint8_t head[ITEM_HEAD] = { kind };
	size_t before = buf_peek(&x->out).len;

	be_put32(head + 1, (uint32_t)bytes.len);
	if (before + ITEM_HEAD + bytes.len > ASKED_OUT_MAX)
		return ERR_FULL;
	/* One reserve, so that no half of an item is left without memory. */
	uint8_t *at = buf_reserve(&x->out, ITEM_HEAD + bytes.len);
	if (at == NULL)
		return ERR_NOMEM;
	memcpy(at, head, ITEM_HEAD);
	if (bytes.len > 0)
		memcpy(at + ITEM_HEAD, bytes.ptr, bytes.len);
	buf_commit(&x->out, ITEM_HEAD + bytes.len);
	return 0;
}

static int
encode_item(struct asked *x, uint8_t kind, struct slice bytes, struct buf *text)
{
	struct slice id = proxy_use_id(&x->use);
	wall_msec now = clock_wall();

	if (kind == ITEM_PIECE)
		return proxy_put_chunk(id, bytes, now, text);
	if (kind == ITEM_END)
		return proxy_put_end(id, now, text);
	return proxy_put_data(id, kind, bytes, now, text);
}

static int
send_item(struct asked *x)
{
	struct slice waiting = buf_peek(&x->out);
	uint8_t kind = waiting.ptr[0];
	struct slice bytes = { waiting.ptr + ITEM_HEAD,
		be_get32(waiting.ptr + 1) };
	struct buf text;

	if (kind == ITEM_BYE) {
		asked_cancel(x);
		asked_over(x);
		return 0;
	}
	buf_init(&text, TEXT_MAX);
	int err = encode_item(x, kind, bytes, &text);
	if (err == 0)
		err = proxy_use_say(&x->use, buf_peek(&text));
	buf_fini(&text);
	if (err != 0)
		return err;
	buf_eat(&x->out, ITEM_HEAD + bytes.len);
	proxied_sent(&x->p, now_of(x));
	if (kind == ITEM_END)
		proxied_asked(&x->p, now_of(x));
	if (kind < ITEM_PIECE)
		x->next_at = now_of(x) + ASKED_GAP;
	return 0;
}

/* Until nothing waits, or the link or the agent wants no more just now. */
static int
send_items(struct asked *x)
{
	int err = 0;

	while (err == 0 && (!x->over || x->closing) &&
	    buf_peek(&x->out).len > 0 && now_of(x) >= x->next_at &&
	    !x->p.held && !proxy_use_full(&x->use))
		err = send_item(x);
	if (err == 0 && buf_peek(&x->out).len > 0 &&
	    now_of(x) + ASKED_MOMENT < x->next_at)
		proxy_use_await(&x->use);
	/* The link is about to be lost, and will say so. */
	if (err == ERR_GONE)
		buf_clear(&x->out);
	/* An empty queue keeps no memory: there may be many. */
	if (buf_peek(&x->out).len == 0) {
		buf_fini(&x->out);
		buf_init(&x->out, ASKED_OUT_MAX);
	}
	return err;
}

bool
asked_above_high(const struct exchange *base)
{
	const struct asked *x = (const struct asked *)(const void *)base;

	return !x->over &&
	    (x->p.held || proxy_use_full(&x->use) ||
		buf_peek(&x->out).len > ASKED_OUT_HIGH);
}

void
asked_flush(struct asked *x)
{
	int err = x->told ? send_items(x) : 0;

	if (err != 0 && x->closing) {
		asked_over(x);
	} else if (err != 0 && err != ERR_GONE) {
		asked_fail_inside(x, err);
	} else if (!x->over && x->above && !asked_above_high(&x->base)) {
		x->above = false;
		x->base.ops->drained(x->base.owner);
	}
}

/* After what the owner has said: that its link is gone is told by itself. */
static int
judge(struct asked *x, int err)
{
	if (err == 0)
		err = x->told ? send_items(x) : 0;
	if (err != 0 && err != ERR_GONE)
		asked_fail_inside(x, err);
	if (x->over)
		return ERR_CLOSED;
	x->above |= asked_above_high(&x->base);
	asked_settle(x);
	return err;
}

/* The request's body ------------------------------------------------------- */

static int
put_pieces(struct asked *x, struct slice bytes)
{
	int err = 0;

	while (err == 0 && bytes.len > 0) {
		struct slice piece = slice_first(bytes, ASKED_PIECE);
		err = put_item(x, ITEM_PIECE, piece);
		bytes = slice_from_at(bytes, piece.len);
	}
	return err;
}

/* It is too long to be sent whole. */
static int
begin_pieces(struct asked *x)
{
	int err = tell(x, true);

	if (err == 0)
		err = put_pieces(x, buf_peek(&x->body));
	buf_fini(&x->body);
	buf_init(&x->body, 0);
	return err;
}

static const struct exchange_failure too_long = { .hop = HOP_AGENT,
	.status = 502,
	.err = ERR_TOO_BIG,
	.code = SL_INIT("BODY_TOO_BIG"),
	.text = SL_INIT("this agent takes no request that is so long"),
	.unsent = true };

static int
write_body(struct asked *x, struct slice bytes)
{
	size_t all = buf_peek(&x->body).len + bytes.len;
	bool pieces = x->use.link != NULL && x->use.link->features.streaming;

	if (x->told)
		return put_pieces(x, bytes);
	if (all <= (pieces ? ASKED_WHOLE : ASKED_WHOLE_MAX)) {
		buf_put(&x->body, bytes);
		return x->body.err;
	}
	if (!pieces) {
		asked_fail(x, &too_long);
		return ERR_GONE;
	}
	int err = begin_pieces(x);
	return err != 0 ? err : put_pieces(x, bytes);
}

int
asked_write(struct exchange *base, struct slice bytes)
{
	struct asked *x = asked_of(base);

	if (x->over || x->use.link == NULL)
		return ERR_CLOSED;
	asked_enter(x);
	int err = judge(x, write_body(x, bytes));
	asked_leave(x);
	return err;
}

static int
end_request(struct asked *x)
{
	if (x->told)
		return put_item(x, ITEM_END, (struct slice){ 0 });
	int err = tell(x, false);
	if (err == 0)
		proxied_asked(&x->p, now_of(x));
	buf_fini(&x->body);
	buf_init(&x->body, 0);
	return err;
}

int
asked_end(
    struct exchange *base, const struct http1_pair *trailers, size_t count)
{
	struct asked *x = asked_of(base);

	/* There is no word for trailers. */
	(void)trailers;
	(void)count;
	if (x->over || x->use.link == NULL)
		return ERR_CLOSED;
	asked_enter(x);
	x->whole = true;
	int err = judge(x, end_request(x));
	asked_leave(x);
	return err;
}

/* WebSockets --------------------------------------------------------------- */

/* The visitor has gone: its code, for agents that pass it on, and the word
 * that all of them know, behind what still waits. */
static int
say_close(struct asked *x, const struct exchange_message *m)
{
	uint8_t body[WS_CONTROL_MAX] = { (uint8_t)(m->code >> 8),
		(uint8_t)m->code };
	struct slice why = slice_first(m->data, WS_CONTROL_MAX - 2);
	int err = 0;

	if (why.len > 0)
		memcpy(body + 2, why.ptr, why.len);
	x->over = x->closing = true;
	x->close_by = now_of(x) + ASKED_BYE;
	if (ws_code_valid(m->code))
		err =
		    put_item(x, WS_CLOSE, (struct slice){ body, 2 + why.len });
	if (err == 0)
		err = put_item(x, ITEM_BYE, (struct slice){ 0 });
	if (err != 0) {
		asked_cancel(x);
		asked_over(x);
		return err;
	}
	asked_flush(x);
	asked_settle(x);
	return 0;
}

int
asked_message(struct exchange *base, const struct exchange_message *m)
{
	struct asked *x = asked_of(base);

	if (x->over || x->use.link == NULL)
		return ERR_CLOSED;
	if (m->kind != WS_TEXT && m->kind != WS_BINARY && m->kind != WS_CLOSE)
		return 0;
	asked_enter(x);
	int err = m->kind == WS_CLOSE ? say_close(x, m)
				      : judge(x, put_item(x, m->kind, m->data));
	asked_leave(x);
	return err;
}

/* They may pass on a service's ping, and then await one. */
void
asked_pong(struct asked *x, struct slice payload)
{
	judge(x, put_item(x, WS_PONG, payload));
}
