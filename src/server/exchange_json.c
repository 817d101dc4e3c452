/*
 * Design notes.  The agent cannot be held back: what it says of one request
 * lies here until the visitor takes it, within bounds, and beyond them the
 * request ends.  Towards the agent, pieces and messages wait here while its
 * link is behind, or while it has asked for less.
 */
#include "base/alloc.h"
#include "base/err.h"

#include "wire/hop.h"

#include "io/clock.h"

#include "server/exchange_json.h"

enum {
	OPEN_WITHIN = 10000,  /* a WebSocket's 101 */
	BUFFERED = 120000,    /* an answer that comes whole */
	IDLE_LAST = 86400000, /* the gateway's own limit is shorter */
	LOOK_EVERY = 1000,    /* at how much of the link's queue is left */
	OFFER_MAX = 64 * 1024,
};

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

/* Life --------------------------------------------------------------------- */

void
asked_enter(struct asked *x)
{
	x->depth++;
}

void
asked_leave(struct asked *x)
{
	if (--x->depth > 0 || !x->dropped || x->closing)
		return;
	proxy_use_end(&x->use);
	loop_timer_stop(x->dock->lane.loop, &x->timer);
	loop_task_drop(&x->task);
	buf_fini(&x->body);
	buf_fini(&x->out);
	buf_fini(&x->in);
	arena_fini(&x->arena);
	alloc_free(x);
}

void
asked_cancel(struct asked *x)
{
	struct buf text;
	int err;

	if (!x->told || x->use.link == NULL)
		return;
	buf_init(&text, 4096);
	if (x->open) {
		err =
		    proxy_put_close(proxy_use_id(&x->use), clock_wall(), &text);
		if (err == 0)
			proxy_use_say(&x->use, buf_peek(&text));
		buf_clear(&text);
	}
	if (x->use.link != NULL && !x->use.link->no_cancel) {
		err = proxy_put_cancel(
		    proxy_use_id(&x->use), clock_wall(), &text);
		if (err == 0)
			proxy_use_say(&x->use, buf_peek(&text));
	}
	buf_fini(&text);
}

void
asked_over(struct asked *x)
{
	x->over = true;
	x->closing = false;
	asked_forget(x);
	proxy_use_end(&x->use);
	loop_timer_stop(x->dock->lane.loop, &x->timer);
}

static void
drop(struct exchange *base)
{
	struct asked *x = asked_of(base);

	asked_enter(x);
	if (!x->over && x->p.state != PROXIED_OVER)
		asked_cancel(x);
	/* Its last words leave by themselves. */
	if (!x->closing)
		asked_over(x);
	x->dropped = true;
	asked_leave(x);
}

void
asked_fail(struct asked *x, const struct exchange_failure *f)
{
	if (x->over)
		return;
	asked_over(x);
	x->base.ops->failed(x->base.owner, f);
}

void
asked_fail_inside(struct asked *x, int err)
{
	const struct exchange_failure stuck = { .hop = HOP_AGENT,
		.status = 504,
		.err = err,
		.code = SL("AGENT_STUCK"),
		.text = SL("the agent takes no more"),
		.unsent = !x->told };
	const struct exchange_failure ours = { .hop = HOP_CONTROLLER,
		.status = err == ERR_NOMEM ? 503 : 502,
		.err = err,
		.code = SL("GATEWAY_FAILED"),
		.text = SL("the controller could not pass this on"),
		.unsent = !x->told };

	asked_cancel(x);
	asked_fail(x, err == ERR_FULL ? &stuck : &ours);
}

/* Time --------------------------------------------------------------------- */

/* Waiting because the agent wants less is not being stuck. */
static void
measure(struct asked *x)
{
	msec now = now_of(x);
	size_t waits = proxy_use_waits(&x->use);

	if (x->told && !x->p.held)
		waits += buf_peek(&x->out).len;
	proxied_queue(&x->p, PROXIED_AGENT, waits, now);
	proxied_queue(
	    &x->p, PROXIED_VISITOR, x->lent + buf_peek(&x->in).len, now);
}

static void
on_timer(struct loop_timer *t)
{
	struct asked *x = LIST_OF(t, struct asked, timer);

	asked_enter(x);
	measure(x);
	proxied_expire(&x->p, now_of(x));
	if (!x->closing) {
		asked_take(x);
	} else if (now_of(x) >= x->close_by) {
		asked_cancel(x);
		asked_over(x);
	}
	asked_flush(x);
	asked_settle(x);
	asked_leave(x);
}

/* When something is to be done. */
static msec
due_of(const struct asked *x)
{
	msec due = x->closing ? x->close_by : proxied_deadline(&x->p);

	if (x->told && buf_peek(&x->out).len > 0 && !x->p.held &&
	    !proxy_use_full(&x->use) && x->next_at < due)
		due = x->next_at;
	/* The link does not tell of each byte that it takes. */
	if (x->p.queued[PROXIED_AGENT] > 0 && due > now_of(x) + LOOK_EVERY)
		due = now_of(x) + LOOK_EVERY;
	return due;
}

void
asked_settle(struct asked *x)
{
	if (x->over && !x->closing)
		return;
	measure(x);
	msec due = due_of(x);
	loop_timer_set(x->dock->lane.loop, &x->timer,
	    due < LOOP_NEVER ? due : LOOP_NEVER, on_timer);
}

/* The link ----------------------------------------------------------------- */

static void
on_said(struct proxy_use *u, const struct proxy_said *said)
{
	struct asked *x = LIST_OF(u, struct asked, use);

	asked_enter(x);
	asked_hear(x, said);
	asked_settle(x);
	asked_leave(x);
}

static void
on_drained(struct proxy_use *u)
{
	struct asked *x = LIST_OF(u, struct asked, use);

	asked_enter(x);
	asked_flush(x);
	asked_settle(x);
	asked_leave(x);
}

/* The message before has been read: the next one may go soon. */
static void
on_proved(struct proxy_use *u)
{
	struct asked *x = LIST_OF(u, struct asked, use);

	asked_enter(x);
	if (x->next_at > now_of(x) + ASKED_MOMENT)
		x->next_at = now_of(x) + ASKED_MOMENT;
	asked_settle(x);
	asked_leave(x);
}

static void
on_lost(struct proxy_use *u)
{
	struct asked *x = LIST_OF(u, struct asked, use);
	const struct exchange_failure lost = { .hop = HOP_AGENT,
		.status = 502,
		.err = ERR_GONE,
		.code = SL("AGENT_GONE"),
		.text = SL("the agent's link was lost on the way"),
		.unsent = !x->told };

	asked_enter(x);
	/* What was complete is the visitor's all the same. */
	x->closing = false;
	if (!x->ends)
		asked_fail(x, &lost);
	asked_leave(x);
}

static const struct proxy_use_ops use_ops = {
	.said = on_said,
	.drained = on_drained,
	.proved = on_proved,
	.lost = on_lost,
};

/* Beginning ---------------------------------------------------------------- */

static void
on_room(struct loop_task *t)
{
	struct asked *x = LIST_OF(t, struct asked, task);

	asked_enter(x);
	if (x->awaited)
		asked_invite(x);
	asked_deliver(x);
	asked_settle(x);
	asked_leave(x);
}

static struct proxied_terms
terms_of(const struct exchange_order *o, const struct proxy_features *f)
{
	struct proxied_terms t = proxied_defaults;

	t.head = slice_eq(o->ask->method, SL("HEAD"));
	t.websocket = o->ask->upgrade;
	t.answer_within = o->answer_within;
	t.idle_within = IDLE_LAST;
	/* Unless the route says so: all of the answer must be there by then. */
	if (!f->response_streaming &&
	    t.answer_within == proxied_defaults.answer_within)
		t.answer_within = BUFFERED;
	if (t.websocket && t.answer_within > OPEN_WITHIN)
		t.answer_within = OPEN_WITHIN;
	return t;
}

/* They speak TLS with a service only for WebSockets, and know no hosts but
 * those of services. */
static bool
can(const struct exchange_order *o, const struct proxy_link *p)
{
	struct slice unused;

	if (p->unable || (o->target->tls && !o->ask->upgrade))
		return false;
	if (o->ask->length > ASKED_WHOLE_MAX && !p->features.streaming)
		return false;
	return asked_service(o->target, &unused, &unused);
}

static int
begin(struct asked *x, struct proxy_link *p)
{
	struct proxied_terms terms = terms_of(&x->order, &p->features);
	struct hop_wish wish = { .key = { 0 } };
	int err = proxy_use_begin(p, &x->use, &use_ops);

	if (err == 0 && terms.websocket)
		err = hop_wish(x->order.ask, &x->arena, &wish);
	terms.protocols = wish.protocols;
	proxied_init(&x->p, &terms, now_of(x));
	if (err == 0)
		err = loop_timer_set(
		    x->dock->lane.loop, &x->timer, LOOP_NEVER, on_timer);
	if (err == 0 && terms.websocket)
		err = asked_open(x);
	if (err != 0)
		return err;
	asked_settle(x);
	x->awaited =
	    proxy_field(x->order.ask->fields, x->order.ask->count, SL("Expect"))
		.len > 0;
	if (x->awaited)
		loop_defer(x->dock->lane.loop, &x->task);
	return 0;
}

static void
keep_log_id(struct asked *x, struct slice id)
{
	id = slice_first(id, ASKED_LOG_ID);
	if (id.len > 0)
		memcpy(x->log_id, id.ptr, id.len);
	x->log_id_len = (uint8_t)id.len;
}

static int
start(struct dock *d, const struct exchange_order *o,
    const struct exchange_ops *ops, void *owner, struct exchange **out)
{
	struct link_conn *l = link_find(d, o->link);

	if (l == NULL)
		return ERR_GONE;
	if (l->proxy == NULL || !can(o, l->proxy))
		return ERR_UNSUPPORTED;
	struct asked *x = alloc_new(sizeof(*x));
	if (x == NULL)
		return ERR_NOMEM;
	x->base = (struct exchange){ &exchange_json, ops, owner };
	x->dock = d;
	x->order = *o;
	arena_init(&x->arena, OFFER_MAX);
	keep_log_id(x, o->request_id);
	buf_init(&x->body, ASKED_WHOLE_MAX);
	buf_init(&x->out, ASKED_OUT_MAX);
	buf_init(&x->in, PROXY_BODY_MAX);
	loop_task_init(&x->task, on_room);
	int err = begin(x, l->proxy);
	if (err != 0) {
		x->told = false;
		drop(&x->base);
		return err;
	}
	*out = &x->base;
	return 0;
}

static void
consume(struct exchange *base, size_t n)
{
	struct asked *x = asked_of(base);

	x->lent -= n < x->lent ? n : x->lent;
	if (x->over)
		return;
	/* Not from inside the owner's call. */
	loop_defer(x->dock->lane.loop, &x->task);
}

const struct exchange_kind exchange_json = {
	.start = start,
	.write = asked_write,
	.end = asked_end,
	.message = asked_message,
	.above_high = asked_above_high,
	.consume = consume,
	.drop = drop,
};
