#include "base/err.h"

#include "wire/ws.h"

#include "io/log.h"

#include "server/exchange_json.h"

/* Failures ----------------------------------------------------------------- */

static enum exchange_hop
hop_of(const struct proxied_event *ev)
{
	if (ev->by_agent || slice_starts(ev->code, SL("SERVICE_")) ||
	    slice_eq(ev->code, SL("ANSWER_TIMEOUT")))
		return HOP_SERVICE;
	return slice_starts(ev->code, SL("VISITOR_")) ? HOP_VISITOR : HOP_AGENT;
}

/* A visitor's WebSocket is closed with a code that says what it was; 1011 is
 * what the gateway says by itself. */
static void
close_visitor(struct asked *x, const struct proxied_event *ev)
{
	const struct exchange_message m = {
		.kind = WS_CLOSE, .code = ev->close, .data = ev->code
	};

	asked_over(x);
	x->base.ops->message(x->base.owner, &m);
}

static void
on_failed(struct asked *x, const struct proxied_event *ev)
{
	const struct exchange_failure f = { .hop = hop_of(ev),
		.status = ev->status,
		.err = ev->err,
		.code = ev->code,
		.text = ev->text,
		.unsent = slice_eq(ev->code, SL("AGENT_TOO_OLD")) &&
		    x->p.got == 0 && !x->open };

	log_info("proxy_failed",
	    kv_s("request_id", (struct slice){ x->log_id, x->log_id_len }),
	    kv_s("agent_request_id", proxy_use_id(&x->use)),
	    kv_s("code", ev->code), kv_s("why", ev->text),
	    kv_s("said",
		ev->said == NULL ? (struct slice){ 0 } : ev->said->text));
	if (!ev->by_agent)
		asked_cancel(x);
	if (x->open && ev->close != WS_CODE_INTERNAL)
		close_visitor(x, ev);
	else
		asked_fail(x, &f);
}

/* The visitor does not take what comes, and the agent cannot be told to
 * wait. */
static void
fail_slow(struct asked *x)
{
	const struct proxied_event slow = { .kind = PROXIED_FAILED,
		.err = ERR_FULL,
		.status = 502,
		.close = WS_CODE_LATER,
		.code = SL("VISITOR_SLOW"),
		.text = SL("the visitor takes less than the service sends") };

	on_failed(x, &slow);
}

/* Heads -------------------------------------------------------------------- */

/* Framing is ours, and the length is told beside it. */
static bool
is_framing(struct slice name)
{
	return slice_eq_nocase(name, SL("Content-Length")) ||
	    slice_eq_nocase(name, SL("Transfer-Encoding"));
}

/* In the lane's scratch. */
static int
parse(struct asked *x, struct slice text)
{
	struct http1_head *h = &x->dock->head;

	http1_head_init(h);
	int n = http1_parse_response(h, text);
	return n > 0 ? 0 : n < 0 ? n : ERR_PROTOCOL;
}

void
asked_invite(struct asked *x)
{
	x->awaited = false;
	if (!x->over && parse(x, SL("HTTP/1.1 100 Continue\r\n\r\n")) == 0)
		x->base.ops->informed(x->base.owner, &x->dock->head);
}

/* As HTTP/1.1, so that nothing passes that would not pass from a service
 * itself. */
static int
write_head(struct asked *x, const struct proxy_said *said, struct buf *text)
{
	buf_put(text, SL("HTTP/1.1 "));
	buf_put_u64(text, (uint64_t)said->status);
	buf_put(text, SL(" "));
	buf_put(text, slice_from(http1_reason(said->status)));
	buf_put(text, SL("\r\n"));
	for (size_t i = 0; i < said->count; i++) {
		if (!is_framing(said->fields[i].name))
			http1_put_field(
			    text, said->fields[i].name, said->fields[i].value);
	}
	http1_put_end(text);
	return text->err != 0 ? text->err : parse(x, buf_peek(text));
}

static void
on_head(struct asked *x, const struct proxied_event *ev)
{
	const struct exchange_failure bad = { .hop = HOP_SERVICE,
		.status = 502,
		.err = ERR_PROTOCOL,
		.code = SL("BAD_ANSWER"),
		.text = SL("the service's answer is malformed") };
	struct buf text;

	buf_init(&text, HTTP1_HEAD_BYTES);
	int err = write_head(x, ev->said, &text);
	if (err == ERR_NOMEM) {
		asked_fail_inside(x, err);
	} else if (err != 0) {
		asked_cancel(x);
		asked_fail(x, &bad);
	} else if (ev->kind == PROXIED_UPGRADED) {
		x->open = true;
		/* What was offered is known to be kept. */
		arena_fini(&x->arena);
		x->base.ops->upgraded(x->base.owner, &x->dock->head, false);
	} else {
		x->base.ops->answered(
		    x->base.owner, &x->dock->head, ev->length);
	}
	buf_fini(&text);
}

/* Bodies ------------------------------------------------------------------- */

void
asked_forget(struct asked *x)
{
	if (x->use.link != NULL)
		x->use.link->held -= buf_peek(&x->in).len;
	buf_clear(&x->in);
}

/* As much as the visitor may have at once; what was taken. */
static size_t
lend(struct asked *x, struct slice bytes)
{
	size_t room = x->lent < ASKED_LENT ? ASKED_LENT - x->lent : 0;
	struct slice part = slice_first(bytes, room);

	if (part.len == 0)
		return 0;
	x->lent += part.len;
	x->base.ops->data(x->base.owner, part);
	return part.len;
}

static void
keep(struct asked *x, struct slice bytes)
{
	struct proxy_link *p = x->use.link;
	/* A whole answer is here as it is: that is bounded by itself. */
	size_t cap = x->p.state == PROXIED_OVER ? PROXY_BODY_MAX : ASKED_IN_MAX;

	if (bytes.len == 0)
		return;
	if (buf_peek(&x->in).len + bytes.len > cap ||
	    (p != NULL && p->held + bytes.len > PROXY_LINK_HELD)) {
		fail_slow(x);
		return;
	}
	buf_put(&x->in, bytes);
	if (x->in.err != 0)
		asked_fail_inside(x, x->in.err);
	else if (p != NULL)
		p->held += bytes.len;
}

static void
on_body(struct asked *x, struct slice bytes)
{
	size_t n = 0, taken = 1;

	while (buf_peek(&x->in).len == 0 && taken > 0 && !x->over) {
		taken = lend(x, slice_from_at(bytes, n));
		n += taken;
	}
	if (!x->over)
		keep(x, slice_from_at(bytes, n));
}

static void
finish(struct asked *x)
{
	/* It may wait for the rest of what it was asked. */
	if (!x->whole)
		asked_cancel(x);
	asked_over(x);
	x->base.ops->ended(x->base.owner, NULL);
}

static void
on_ended(struct asked *x)
{
	x->ends = true;
	proxy_use_complete(&x->use);
	if (buf_peek(&x->in).len == 0)
		finish(x);
}

void
asked_deliver(struct asked *x)
{
	while (!x->over && buf_peek(&x->in).len > 0) {
		size_t n = lend(x, buf_peek(&x->in));
		if (n == 0 || x->over)
			return;
		buf_eat(&x->in, n);
		if (x->use.link != NULL)
			x->use.link->held -= n;
	}
	if (!x->over && x->ends)
		finish(x);
}

/* WebSockets --------------------------------------------------------------- */

static void
on_message(struct asked *x, const struct proxy_said *said)
{
	const struct exchange_message m = { .kind = said->opcode,
		.data = said->body };

	if (said->opcode == WS_PING)
		asked_pong(x, said->body);
	if (said->opcode != WS_TEXT && said->opcode != WS_BINARY)
		return;
	if (x->lent > ASKED_IN_MAX) {
		fail_slow(x);
		return;
	}
	x->lent += said->body.len;
	x->base.ops->message(x->base.owner, &m);
}

static void
on_closed(struct asked *x, const struct proxied_event *ev)
{
	const struct exchange_message m = {
		.kind = WS_CLOSE, .code = ev->close, .data = ev->text
	};

	asked_over(x);
	x->base.ops->message(x->base.owner, &m);
}

/* Events ------------------------------------------------------------------- */

static void
take(struct asked *x, const struct proxied_event *ev)
{
	switch (ev->kind) {
	case PROXIED_HEAD:
	case PROXIED_UPGRADED:
		on_head(x, ev);
		break;
	case PROXIED_BODY:
		on_body(x, ev->said->body);
		break;
	case PROXIED_ENDED:
		on_ended(x);
		break;
	case PROXIED_MESSAGE:
		on_message(x, ev->said);
		break;
	case PROXIED_CLOSED:
		on_closed(x, ev);
		break;
	case PROXIED_FAILED:
		on_failed(x, ev);
		break;
	}
}

void
asked_take(struct asked *x)
{
	struct proxied_event ev;

	while (!x->over && proxied_next(&x->p, &ev))
		take(x, &ev);
}

void
asked_hear(struct asked *x, const struct proxy_said *said)
{
	if (x->over)
		return;
	if (!proxied_feed(&x->p, said, loop_now(x->dock->lane.loop)))
		proxy_link_ignored(x->use.link, said);
	asked_take(x);
}
