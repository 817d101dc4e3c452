#include "base/alloc.h"
#include "base/err.h"

#include "wire/hop.h"

#include "server/flow_pool.h"

#include "server/exchange.h"

/*
 * Design notes.
 *
 * A ride is one request on one flow.  It takes an idle flow of the pool when
 * there is one, and gives its own back when the answer and the request are
 * both whole.  An idle one may have been closed by the service while the
 * request was on its way (RFC 9112 9.3.1): then, when nothing was answered, a
 * request that is safe to repeat is asked once more, on a new flow.
 *
 * Every op may drop the ride.  So each way in counts itself in depth, and
 * the memory goes when the last of them is out.
 */

enum {
	WISH_MAX = 64 * 1024,
};

struct ride {
	struct exchange base;
	struct dock *dock;
	struct flow *flow; /* NULL: given back, closed or gone */
	struct http1_client http;
	struct exchange_order order; /* its texts: until answered */
	struct loop_timer timer;
	struct buf key;     /* of the pool; none for a WebSocket */
	struct arena arena; /* of a WebSocket: the wish */
	struct hop_wish wish;
	msec keep;      /* how long the flow may be idle afterwards */
	size_t lent;    /* bytes of data that were not yet consumed */
	size_t framing; /* of what is being read, all but those */
	unsigned depth;
	bool reused;   /* the flow */
	bool reached;  /* the service, as far as is known */
	bool asked;    /* the request is whole */
	bool begun;    /* something of an answer has come */
	bool answered; /* its head has */
	bool raw;
	bool over;
	bool dropped;
};

static struct ride *
ride_of(struct exchange *x)
{
	return (struct ride *)(void *)x;
}

/* Life ---------------------------------------------------------------------
 */

static void
leave_flow(struct ride *r)
{
	if (r->flow != NULL)
		flow_close(r->flow);
	r->flow = NULL;
}

static void
enter(struct ride *r)
{
	r->depth++;
}

static void
leave(struct ride *r)
{
	if (--r->depth > 0 || !r->dropped)
		return;
	leave_flow(r);
	loop_timer_stop(r->dock->lane.loop, &r->timer);
	http1_client_fini(&r->http);
	buf_fini(&r->key);
	arena_fini(&r->arena);
	alloc_free(r);
}

static void
ride_drop(struct exchange *x)
{
	struct ride *r = ride_of(x);

	enter(r);
	r->dropped = r->over = true;
	leave_flow(r);
	leave(r);
}

static void
fail(struct ride *r, const struct exchange_failure *f)
{
	if (r->over)
		return;
	r->over = true;
	leave_flow(r);
	loop_timer_stop(r->dock->lane.loop, &r->timer);
	r->base.ops->failed(r->base.owner, f);
}

static void
fail_at_service(
    struct ride *r, int status, int err, struct slice code, const char *text)
{
	const struct exchange_failure f = { .hop = HOP_SERVICE,
		.status = status,
		.err = err,
		.code = code,
		.text = slice_from(text) };

	fail(r, &f);
}

static void
fail_inside(struct ride *r, int err)
{
	const struct exchange_failure f = { .hop = HOP_CONTROLLER,
		.status = err == ERR_NOMEM ? 503 : 502,
		.err = err,
		.code = SL("GATEWAY_FAILED"),
		.text = SL("the controller could not pass this on") };

	fail(r, &f);
}

/* Time ---------------------------------------------------------------------
 */

static void
on_timer(struct loop_timer *t)
{
	struct ride *r = LIST_OF(t, struct ride, timer);

	enter(r);
	fail_at_service(r, 504, ERR_TIMEOUT, SL("ANSWER_TIMEOUT"),
	    "the service did not answer in time");
	leave(r);
}

static void
wait(struct ride *r, msec time)
{
	struct loop *l = r->dock->lane.loop;

	if (loop_timer_set(l, &r->timer, loop_now(l) + time, on_timer) != 0)
		fail_inside(r, ERR_NOMEM);
}

/* The service is there, or the request is whole: is an answer due now?  How
 * long it may take to get there is the flow's to watch. */
static void
look_forward(struct ride *r)
{
	if (!r->answered && r->reached && r->asked)
		wait(r, r->order.answer_within);
}

/* Answers --------------------------------------------------------------------
 */

static int64_t
length_of(const struct http1_head *h)
{
	return h->has_length && h->content_length <= INT64_MAX
	    ? (int64_t)h->content_length
	    : -1;
}

static void
lend(struct ride *r, struct slice data)
{
	r->framing -= data.len;
	r->lent += data.len;
	r->base.ops->data(r->base.owner, data);
}

static void
switch_over(struct ride *r, const struct http1_head *h)
{
	struct slice rest = { 0 }, reason = { 0 };
	int err = hop_switch_check(&r->wish, h, &r->arena, &reason);

	if (err != 0) {
		const struct exchange_failure f = { .hop = HOP_SERVICE,
			.status = 502,
			.err = err,
			.code = SL("BAD_UPGRADE"),
			.text = reason.len > 0
			    ? reason
			    : SL("the service's answer to the handshake "
				 "could not be read") };
		fail(r, &f);
		return;
	}
	r->raw = r->answered = true;
	loop_timer_stop(r->dock->lane.loop, &r->timer);
	r->base.ops->upgraded(r->base.owner, h, true);
	if (r->over)
		return;
	err = http1_client_upgrade(&r->http, &rest);
	if (err != 0) {
		fail_inside(r, err);
	} else if (rest.len > 0) {
		lend(r, rest);
	}
}

/* For how long nobody else closes it.  Node's servers keep 5 s and say so:
 * one used shortly before that would meet their end on the way, and not every
 * request may be asked again. */
static msec
keep_of(const struct http1_head *h)
{
	int seconds = http1_keep_alive_timeout(h);

	if (seconds < 0)
		return FLOW_POOL_IDLE;
	return seconds < 2 ? (msec)seconds * 500 : (msec)(seconds - 1) * 1000;
}

static void
on_head(struct ride *r, const struct http1_head *h)
{
	if (h->status == 101) {
		switch_over(r, h);
		return;
	}
	if (h->status < 200) {
		r->base.ops->informed(r->base.owner, h);
		return;
	}
	r->answered = true;
	r->keep = keep_of(h);
	http1_client_trailers(&r->http);
	loop_timer_stop(r->dock->lane.loop, &r->timer);
	r->base.ops->answered(r->base.owner, h, length_of(h));
}

/* What is still lent is at the visitor's; the flow is for others now. */
static void
give_back(struct ride *r)
{
	struct flow *f = r->flow;

	if (f == NULL || !http1_client_reusable(&r->http))
		return;
	flow_consume(f, r->lent + r->framing);
	r->lent = r->framing = 0;
	r->flow = NULL;
	flow_pool_give(r->dock, &r->order.link, buf_peek(&r->key), f, r->keep);
}

static void
on_end(struct ride *r, const struct http1_head *trailers)
{
	r->over = true;
	give_back(r);
	/* The owner may be a while in going: what else comes is nobody's. */
	leave_flow(r);
	r->base.ops->ended(r->base.owner, trailers);
}

static void
on_http(struct ride *r, const struct http1_event *ev)
{
	switch (ev->kind) {
	case HTTP1_RESPONSE:
		on_head(r, ev->head);
		break;
	case HTTP1_BODY:
		lend(r, ev->data);
		break;
	case HTTP1_END:
		on_end(r, ev->head);
		break;
	case HTTP1_BAD:
		fail_at_service(r, 502, ERR_PROTOCOL, SL("BAD_ANSWER"),
		    ev->why != NULL ? ev->why
				    : "the service's answer is malformed");
		break;
	case HTTP1_REQUEST:
		break;
	}
}

static void
pump(struct ride *r)
{
	struct http1_event ev;

	while (!r->over && !r->raw &&
	    http1_client_next(&r->http, &r->dock->head, &ev))
		on_http(r, &ev);
}

/* Asking ---------------------------------------------------------------------
 */

static const struct flow_ops ops;

static int
open_flow(struct ride *r)
{
	const struct exchange_order *o = &r->order;
	const struct flow_order order = { .link = o->link,
		.speech = o->speech,
		.proto = TUNNEL_TCP,
		.target = o->target,
		.connect_within = o->connect_within,
		.request_id = o->request_id };
	int err = flow_open(r->dock, &order, &ops, r, &r->flow);

	/* Its idle ones may be all that it has. */
	if ((err == ERR_BUSY || err == ERR_FULL) &&
	    flow_pool_evict(r->dock, &o->link))
		err = flow_open(r->dock, &order, &ops, r, &r->flow);
	r->reused = false;
	/* An agent of version 1 does not say when it has dialled. */
	r->reached = o->speech == TUNNEL_STREAMS_V1;
	return err;
}

static void
take_flow(struct ride *r)
{
	r->flow = flow_pool_take(r->dock, buf_peek(&r->key));
	if (r->flow == NULL)
		return;
	flow_own(r->flow, &ops, r);
	r->reused = r->reached = true;
}

static int
say_head(struct ride *r)
{
	struct buf *out = &r->dock->out;

	buf_clear(out);
	int err = http1_client_ask(&r->http, r->order.ask, out);
	return err != 0 ? err : flow_write(r->flow, buf_peek(out));
}

static int
begin(struct ride *r)
{
	int err = r->flow == NULL ? open_flow(r) : 0;

	return err != 0 ? err : say_head(r);
}

static int
ride_start(struct dock *d, const struct exchange_order *o,
    const struct exchange_ops *told, void *owner, struct exchange **out)
{
	struct ride *r = alloc_new(sizeof(*r));
	int err;

	if (r == NULL)
		return ERR_NOMEM;
	r->base = (struct exchange){ &exchange_flow, told, owner };
	r->dock = d;
	r->order = *o;
	http1_client_init(&r->http, UINT64_MAX);
	buf_init(&r->key, FLOW_POOL_KEY);
	arena_init(&r->arena, WISH_MAX);
	if (o->ask->upgrade) {
		err = hop_wish(o->ask, &r->arena, &r->wish);
	} else {
		err = flow_pool_key(&o->link, o->target, &r->key);
		if (err == 0 && !o->fresh)
			take_flow(r);
	}
	if (err == 0)
		err = begin(r);
	if (err != 0) {
		ride_drop(&r->base);
		return err;
	}
	if (o->ask->upgrade) {
		r->asked = true;
		look_forward(r);
	}
	*out = &r->base;
	return 0;
}

/* From where it lies, with what goes around it. */
static int
put_body(struct ride *r, struct slice bytes)
{
	struct http1_wrap wrap;
	int err = http1_client_wrap(&r->http, bytes.len, &wrap);

	if (err != 0 || wrap.skip)
		return err;
	if (wrap.head_len > 0)
		err = flow_write(
		    r->flow, (struct slice){ wrap.head, wrap.head_len });
	if (err == 0)
		err = flow_write(r->flow, bytes);
	if (err == 0 && wrap.tail_len > 0)
		err = flow_write(r->flow, SL("\r\n"));
	return err;
}

/* That the flow is gone is told by itself. */
static int
judge(struct ride *r, int err)
{
	if (err != 0 && err != ERR_GONE)
		fail_inside(r, err);
	return err;
}

static int
ride_write(struct exchange *x, struct slice bytes)
{
	struct ride *r = ride_of(x);
	int err;

	if (r->over || r->flow == NULL)
		return ERR_CLOSED;
	if (bytes.len == 0)
		return 0;
	enter(r);
	err =
	    judge(r, r->raw ? flow_write(r->flow, bytes) : put_body(r, bytes));
	leave(r);
	return err;
}

/* The request is whole. */
static int
finish(struct ride *r, const struct http1_pair *trailers, size_t count)
{
	struct buf *out = &r->dock->out;

	buf_clear(out);
	int err = http1_client_finish_with(&r->http, trailers, count, out);
	if (err == 0 && buf_peek(out).len > 0)
		err = flow_write(r->flow, buf_peek(out));
	r->asked = true;
	if (err == 0)
		look_forward(r);
	return err;
}

static bool
may_repeat(const struct http1_ask *ask)
{
	return ask->length == 0 && !ask->upgrade &&
	    (slice_eq(ask->method, SL("GET")) ||
		slice_eq(ask->method, SL("HEAD")) ||
		slice_eq(ask->method, SL("OPTIONS")));
}

/* The same request on a new flow.  Whether it is on its way. */
static bool
ask_again(struct ride *r)
{
	bool asked = r->asked;

	leave_flow(r);
	http1_client_fini(&r->http);
	http1_client_init(&r->http, UINT64_MAX);
	loop_timer_stop(r->dock->lane.loop, &r->timer);
	return begin(r) == 0 &&
	    (!asked || r->order.ask->upgrade || finish(r, NULL, 0) == 0);
}

/* Whether the flow that ended under it was an old one, and another is on its
 * way with the same request. */
static bool
try_again(struct ride *r)
{
	return r->reused && !r->begun && !r->over && may_repeat(r->order.ask) &&
	    ask_again(r);
}

/* The agent has as many streams as it may: perhaps too many idle ones. */
static bool
make_room(struct ride *r)
{
	if (r->over || r->order.ask->length != 0 ||
	    !flow_pool_evict(r->dock, &r->order.link))
		return false;
	return ask_again(r);
}

static int
ride_end(struct exchange *x, const struct http1_pair *trailers, size_t count)
{
	struct ride *r = ride_of(x);
	int err = 0;

	if (r->over || r->flow == NULL)
		return ERR_CLOSED;
	enter(r);
	if (r->raw)
		flow_finish(r->flow);
	else
		err = judge(r, finish(r, trailers, count));
	leave(r);
	return err;
}

static int
ride_message(struct exchange *x, const struct exchange_message *m)
{
	(void)x;
	(void)m;
	return ERR_UNSUPPORTED;
}

static bool
ride_above_high(const struct exchange *x)
{
	const struct ride *r = (const struct ride *)(const void *)x;

	return r->flow != NULL && flow_above_high(r->flow);
}

static void
ride_consume(struct exchange *x, size_t n)
{
	struct ride *r = ride_of(x);

	if (n > r->lent)
		n = r->lent;
	r->lent -= n;
	if (r->flow != NULL && n > 0)
		flow_consume(r->flow, n);
}

const struct exchange_kind exchange_flow = {
	.start = ride_start,
	.write = ride_write,
	.end = ride_end,
	.message = ride_message,
	.above_high = ride_above_high,
	.consume = ride_consume,
	.drop = ride_drop,
};

/* What the flow says --------------------------------------------------------
 */

/* By the agent's word on why it could not reach the service. */
static void
fail_to_reach(struct ride *r, const struct flow_answer *a)
{
	bool late = a->err == ERR_TIMEOUT;
	bool full = a->err == ERR_LIMITED || a->err == ERR_STOPPED;
	bool refused = full || a->err == ERR_DENIED || a->err == ERR_INVALID;
	const struct exchange_failure f = {
		.hop = refused ? HOP_AGENT : HOP_SERVICE,
		.status = late ? 504
		    : full     ? 503
			       : 502,
		.err = a->err,
		.code = a->code.len > 0 ? a->code : SL("CONNECT_FAILED"),
		.text = a->text.len > 0
		    ? a->text
		    : SL("the agent could not reach the service"),
		.retry_after = full ? 5 : 0,
		.unsent = true,
	};

	fail(r, &f);
}

static void
on_answered(void *owner, const struct flow_answer *a)
{
	struct ride *r = owner;

	enter(r);
	if (a->err == ERR_LIMITED && make_room(r)) {
		/* Each time one idle flow less. */
	} else if (a->err != 0) {
		fail_to_reach(r, a);
	} else if (!r->over) {
		r->reached = true;
		look_forward(r);
		if (r->base.ops->reached != NULL)
			r->base.ops->reached(r->base.owner, a);
	}
	leave(r);
}

static void
on_data(void *owner, uint8_t *bytes, size_t n)
{
	struct ride *r = owner;

	enter(r);
	r->begun = true;
	if (r->over) {
		/* Nobody is there to take it. */
		if (r->flow != NULL)
			flow_consume(r->flow, n);
	} else if (r->raw) {
		r->lent += n;
		r->base.ops->data(r->base.owner, (struct slice){ bytes, n });
	} else {
		/* All but the body is used up when this returns. */
		r->framing = n;
		http1_client_feed(&r->http, (struct slice){ bytes, n });
		pump(r);
		if (r->flow != NULL)
			flow_consume(r->flow, r->framing);
		r->framing = 0;
	}
	leave(r);
}

static void
end_early(struct ride *r, int why, bool by_service)
{
	const struct exchange_failure lost = { .hop = HOP_AGENT,
		.status = 502,
		.err = why,
		.code = SL("AGENT_GONE"),
		.text = SL("the agent's link was lost on the way") };

	if (try_again(r))
		return;
	if (!by_service)
		fail(r, &lost);
	else
		fail_at_service(r, 502, why, SL("SERVICE_CLOSED"),
		    r->begun ? "the service ended its answer early"
			     : "the service closed without an answer");
}

static void
on_eof(void *owner)
{
	struct ride *r = owner;

	enter(r);
	if (r->raw && !r->over) {
		r->base.ops->ended(r->base.owner, NULL);
	} else if (!r->over && !r->begun) {
		end_early(r, ERR_CLOSED, true);
	} else if (!r->over) {
		http1_client_eof(&r->http);
		pump(r);
	}
	leave(r);
}

static void
on_drained(void *owner)
{
	struct ride *r = owner;

	enter(r);
	if (!r->over)
		r->base.ops->drained(r->base.owner);
	leave(r);
}

static void
on_gone(void *owner, int why)
{
	struct ride *r = owner;

	enter(r);
	r->flow = NULL;
	/* 0: both ends of a relay have ended. */
	if (why == 0 && r->raw)
		r->over = true;
	else
		end_early(r, why, why == ERR_RESET);
	leave(r);
}

static const struct flow_ops ops = {
	.answered = on_answered,
	.data = on_data,
	.eof = on_eof,
	.drained = on_drained,
	.gone = on_gone,
};
