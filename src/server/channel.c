/*
 * Design notes.  A channel lies between two yamux streams, the tool's
 * (outlet) and the agent's (flow), and holds only what the other side could
 * not take: at most a window each way.  What came from the tool is consumed
 * when the flow has room, what came from the agent when it has been sent.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/opening.h"

#include "io/log.h"

#include "server/forward_state.h"

enum {
	JSON_MAX = 4096,
	ARENA_MAX = 64 * 1024,
	WINDOW_MAX = 4 * 1024 * 1024, /* of either side */
	EARLY_MAX = YAMUX_WINDOW,
	CONNECT_MOST = 60000,
	LISTENER_MAX = 64,
	IDLE = 3600 * 1000,
	REFUSED_FOR = 10000, /* for the tool to end its side */
	KEPT = 4096,
};

static const struct outlet_ops outlet_ops;
static const struct flow_ops flow_ops;

static struct channel *
channel_of(struct outlet *o)
{
	return LIST_OF(o, struct channel, outlet);
}

static struct dock *
dock_of(const struct channel *ch)
{
	return ch->forward->conn->dock;
}

/* Life --------------------------------------------------------------------- */

static void on_cut(struct pass_holder *h, struct slice why);

static struct channel *
channel_new(struct forward *f, enum channel_state state)
{
	struct channel *ch = alloc_new(sizeof(*ch));

	if (ch == NULL)
		return NULL;
	ch->forward = f;
	ch->state = (uint8_t)state;
	ch->touched = forward_now(f);
	outlet_init(&ch->outlet, &outlet_ops);
	list_init(&ch->waiting);
	list_init(&ch->holder.link);
	ch->holder.cut = on_cut;
	arena_init(&ch->arena, ARENA_MAX);
	buf_init(&ch->head, OPENING_HEAD + JSON_MAX);
	buf_init(&ch->early, EARLY_MAX);
	buf_init(&ch->out, WINDOW_MAX + OPENING_MAX);
	list_push(&f->channels, &ch->of_forward);
	return ch;
}

static void
leave_flow(struct channel *ch)
{
	if (ch->flow == NULL)
		return;
	ch->flow = NULL;
	ch->forward->running--;
}

/* It is off the trunk, or both directions of it have ended. */
static void
channel_free(struct channel *ch)
{
	struct forward *f = ch->forward;
	struct flow *flow = ch->flow;

	outlet_consume(&ch->outlet, ch->owed);
	outlet_part(&ch->outlet);
	leave_flow(ch);
	if (flow != NULL)
		flow_close(flow);
	if (f->asked == ch)
		f->asked = NULL;
	pass_leave(&ch->holder);
	list_remove(&ch->of_forward);
	list_remove(&ch->waiting);
	arena_fini(&ch->arena);
	buf_fini(&ch->head);
	buf_fini(&ch->early);
	buf_fini(&ch->out);
	alloc_free((void *)(uintptr_t)ch->listener.ptr);
	alloc_free(ch);
}

void
channel_drop(struct channel *ch)
{
	outlet_leave(&ch->outlet);
	channel_free(ch);
}

bool
channel_is_idle(const struct channel *ch, msec now)
{
	msec limit = ch->state == CHANNEL_OPEN ? IDLE : REFUSED_FOR;

	return (ch->state == CHANNEL_OPEN || ch->state == CHANNEL_REFUSED) &&
	    ch->listener.ptr == NULL && now - ch->touched > limit;
}

static void
on_cut(struct pass_holder *h, struct slice why)
{
	struct channel *ch = LIST_OF(h, struct channel, holder);
	struct forward *f = ch->forward;

	log_info(
	    "forward_cut", kv_s("id", slice_from(ch->id)), kv_s("why", why));
	channel_drop(ch);
	if (slice_eq(why, SL("revoked")))
		forward_revoke(f);
}

/* Both sides of the tool's stream have ended, and so has the flow. */
static void
look_over(struct channel *ch)
{
	if (ch->ended && ch->heard_all && ch->flow == NULL)
		channel_free(ch);
}

/* To the tool -------------------------------------------------------------- */

static void
finish_now(struct channel *ch)
{
	if (ch->ended)
		return;
	ch->ended = true;
	outlet_finish(&ch->outlet);
}

static void
finish(struct channel *ch)
{
	ch->ends = true;
	if (buf_peek(&ch->out).len == 0)
		finish_now(ch);
}

static struct slice
on_waiting(struct outlet *o)
{
	return buf_peek(&channel_of(o)->out);
}

static void
on_sent(struct outlet *o, size_t n)
{
	struct channel *ch = channel_of(o);
	size_t ours = n < ch->ours ? n : ch->ours;

	buf_eat(&ch->out, n);
	ch->ours -= ours;
	if (ch->flow != NULL)
		flow_consume(ch->flow, n - ours);
	if (buf_peek(&ch->out).len > 0)
		return;
	if (ch->out.alloc > KEPT) {
		buf_fini(&ch->out);
		buf_init(&ch->out, WINDOW_MAX + OPENING_MAX);
	}
	if (ch->ends) {
		finish_now(ch);
		look_over(ch);
	}
}

/* Words of ours, before any byte of the flow's.  False: it is dropped. */
static bool
say(struct channel *ch, int err)
{
	if (err == 0)
		err = ch->out.err;
	if (err != 0) {
		channel_drop(ch);
		return false;
	}
	ch->ours = buf_peek(&ch->out).len;
	outlet_wake(&ch->outlet);
	return true;
}

static bool
say_answer(struct channel *ch, uint8_t status, struct js_writer *w)
{
	int err = js_finish(w);

	if (err == 0)
		err = opening_put_answer(&ch->out, status, buf_peek(w->out));
	buf_fini(w->out);
	return say(ch, err);
}

static void
begin_json(struct js_writer *w, struct buf *json)
{
	buf_init(json, JSON_MAX);
	js_write(w, json);
	js_begin_object(w);
}

void
channel_refuse(
    struct channel *ch, const char *hop, struct slice code, struct slice text)
{
	struct buf json;
	struct js_writer w;

	log_info("forward_refused", kv_s("id", slice_from(ch->id)),
	    kv_s("hop", slice_from(hop)), kv_s("code", code));
	list_remove(&ch->waiting);
	ch->state = CHANNEL_REFUSED;
	ch->touched = forward_now(ch->forward);
	begin_json(&w, &json);
	js_kv_string(&w, "id", slice_from(ch->id));
	js_kv_string(&w, "hop", slice_from(hop));
	js_kv_string(&w, "code", code);
	js_kv_string(&w, "text", slice_first(text, JSON_MAX / 8));
	js_end(&w);
	outlet_consume(&ch->outlet, buf_peek(&ch->early).len);
	buf_fini(&ch->early);
	if (say_answer(ch, 1, &w))
		finish(ch);
}

static void
put_took(struct js_writer *w, const char *key, msec took)
{
	if (took >= 0)
		js_kv_i64(w, key, took);
}

/* From the agent ----------------------------------------------------------- */

static void
on_answered(void *owner, const struct flow_answer *a)
{
	struct channel *ch = owner;
	struct buf json;
	struct js_writer w;

	if (a->err != 0) {
		channel_refuse(ch, "agent", a->code, a->text);
		return;
	}
	ch->state = CHANNEL_OPEN;
	ch->touched = forward_now(ch->forward);
	begin_json(&w, &json);
	js_kv_string(&w, "id", slice_from(ch->id));
	js_kv_string(&w, "agent_id", ch->forward->agent_id);
	if (a->address.len > 0)
		js_kv_string(&w, "address", a->address);
	put_took(&w, "resolve_ms", a->resolve);
	put_took(&w, "connect_ms", a->connect);
	put_took(&w, "tls_ms", a->tls);
	js_end(&w);
	say_answer(ch, 0, &w);
}

static void
on_flow_data(void *owner, uint8_t *bytes, size_t n)
{
	struct channel *ch = owner;

	ch->touched = forward_now(ch->forward);
	if (ch->listener.ptr != NULL || ch->state == CHANNEL_REFUSED) {
		flow_consume(ch->flow, n);
		return;
	}
	buf_put(&ch->out, (struct slice){ bytes, n });
	if (ch->out.err != 0)
		channel_drop(ch);
	else
		outlet_wake(&ch->outlet);
}

static void
on_flow_eof(void *owner)
{
	struct channel *ch = owner;

	finish(ch);
}

static void
on_flow_drained(void *owner)
{
	struct channel *ch = owner;

	outlet_consume(&ch->outlet, ch->owed);
	ch->owed = 0;
}

static void
on_flow_gone(void *owner, int why)
{
	struct channel *ch = owner;

	leave_flow(ch);
	if (ch->state == CHANNEL_REFUSED) {
		look_over(ch);
	} else if (why == 0) {
		finish(ch);
		look_over(ch);
	} else if (ch->state == CHANNEL_DIALS) {
		channel_refuse(ch, "controller", SL("AGENT_OFFLINE"),
		    SL("the agent's link has ended"));
	} else {
		channel_drop(ch);
	}
}

/* The agent has taken a connection where it listens for the tool. */
static void
on_arrived(void *owner, struct flow *flow, struct slice peer)
{
	struct channel *l = owner;
	struct forward *f = l->forward;
	struct channel *ch = channel_new(f, CHANNEL_OFFERED);
	struct opening o = { .version = 2,
		.kind = l->visit.proto == TUNNEL_UDP ? OPENING_KIND_UDP
						     : OPENING_KIND_TCP };
	struct buf json;
	struct js_writer w;

	if (ch == NULL)
		return;
	memcpy(ch->id, l->id, sizeof(ch->id));
	if (outlet_open(&ch->outlet, &f->trunk) != 0) {
		channel_free(ch);
		return;
	}
	begin_json(&w, &json);
	js_kv_string(&w, "listener", l->listener);
	js_kv_string(&w, "peer", peer);
	js_end(&w);
	int err = js_finish(&w);
	o.json = buf_peek(&json);
	if (err == 0)
		err = opening_encode(&o, &ch->out);
	buf_fini(&json);
	if (!say(ch, err))
		return;
	flow_own(flow, &flow_ops, ch);
	flow_set_cap(flow, WINDOW_MAX);
	ch->flow = flow;
	f->running++;
}

static const struct flow_ops flow_ops = {
	.answered = on_answered,
	.data = on_flow_data,
	.eof = on_flow_eof,
	.drained = on_flow_drained,
	.gone = on_flow_gone,
	.arrived = on_arrived,
};

/* From the tool ------------------------------------------------------------ */

/* What may be sent on is; the window of the rest stays shut.  False: the
 * channel is dropped. */
static bool
pass_on(struct channel *ch, struct slice bytes)
{
	if (bytes.len == 0)
		return true;
	if (flow_write(ch->flow, bytes) != 0) {
		channel_drop(ch);
		return false;
	}
	if (flow_above_high(ch->flow))
		ch->owed += bytes.len;
	else
		outlet_consume(&ch->outlet, bytes.len);
	return true;
}

/* The tool's answer to a connection that came to its listener. */
static bool
on_tool_answer(struct channel *ch, struct slice *bytes)
{
	size_t had = bytes->len;
	int whole = opening_gather(&ch->head, bytes);

	if (whole < 0) {
		channel_drop(ch);
		return false;
	}
	outlet_consume(&ch->outlet, had - bytes->len);
	if (whole == 0)
		return true;
	bool yes = buf_peek(&ch->head).ptr[1] == 0;
	buf_fini(&ch->head);
	ch->state = CHANNEL_OPEN;
	if (yes) {
		flow_accept(ch->flow);
		return true;
	}
	struct flow *flow = ch->flow;
	leave_flow(ch);
	flow_refuse(flow, SL("CONNECT_REFUSED"),
	    SL("the operator's tool could not connect"));
	channel_drop(ch);
	return false;
}

static int
read_target(struct js_value obj, struct tunnel_target *t)
{
	struct js_fields in;
	struct js_value tls;
	int64_t port;

	js_fields_init(&in, obj);
	js_opt_string(&in, "host", &t->host);
	js_opt_string(&in, "service", &t->service);
	js_opt_string(&in, "namespace", &t->namespace);
	js_need_i64(&in, "port", 0, UINT16_MAX, &port);
	js_opt_kind(&in, "tls", JS_OBJECT, &tls);
	t->port = (uint16_t)port;
	if (in.err != 0 || tls.kind == JS_NONE)
		return in.err;
	t->tls = true;
	js_fields_init(&in, tls);
	js_opt_bool(&in, "insecure", false, &t->insecure);
	js_opt_string(&in, "name", &t->tls_name);
	if (t->tls_name.len == 0)
		t->tls_name = (struct slice){ 0 };
	return in.err;
}

static int
keep_listener(struct channel *ch, struct slice name)
{
	if (name.len == 0 || name.len > LISTENER_MAX)
		return ERR_RANGE;
	uint8_t *copy = alloc_new(name.len);
	if (copy == NULL)
		return ERR_NOMEM;
	memcpy(copy, name.ptr, name.len);
	ch->listener = (struct slice){ copy, name.len };
	return 0;
}

/* The opening's JSON, as the visit to ask about. */
static int
read_order(struct channel *ch, struct slice json)
{
	const struct js_limits limits = { JSON_MAX, 8 };
	struct tunnel_visit *v = &ch->visit;
	struct js_fields in;
	struct js_value listen;
	struct js_doc doc;
	struct slice text, name;

	if (arena_copy(&ch->arena, json, &text) != 0)
		return ERR_NOMEM;
	int err = js_parse(&doc, text, &limits, &ch->arena);
	if (err != 0)
		return err;
	if (doc.repeated.ptr != NULL)
		return ERR_DUPLICATE;
	js_fields_init(&in, js_root(&doc));
	js_need_string(&in, "agent", &v->agent);
	js_opt_string(&in, "id", &name);
	js_opt_kind(&in, "listen", JS_OBJECT, &listen);
	js_opt_i64(&in, "connect_ms", 1, CONNECT_MOST, 0, &ch->connect_within);
	if (in.err != 0)
		return in.err;
	v->way = TUNNEL_BY_FORWARD;
	v->reverse = listen.kind != JS_NONE;
	if (v->reverse && (err = keep_listener(ch, name)) != 0)
		return err;
	return read_target(v->reverse ? listen : js_root(&doc), &v->target);
}

static void
make_id(struct channel *ch)
{
	struct dock *d = dock_of(ch);

	snprintf(ch->id, sizeof(ch->id), "req_%llu_%llu",
	    (unsigned long long)(d->request_base >> 20),
	    (unsigned long long)++d->request_count);
}

static bool
on_opening(struct channel *ch, struct slice *bytes)
{
	size_t had = bytes->len;
	int whole = opening_gather(&ch->head, bytes);
	struct slice m = buf_peek(&ch->head);

	if (whole > 0 && m.ptr[1] != OPENING_KIND_TCP &&
	    m.ptr[1] != OPENING_KIND_UDP)
		whole = ERR_UNSUPPORTED;
	if (whole < 0) {
		channel_drop(ch);
		return false;
	}
	outlet_consume(&ch->outlet, had - bytes->len);
	if (whole == 0)
		return true;
	make_id(ch);
	ch->visit.proto =
	    m.ptr[1] == OPENING_KIND_UDP ? TUNNEL_UDP : TUNNEL_TCP;
	int err = read_order(ch, slice_from_at(m, OPENING_HEAD));
	buf_fini(&ch->head);
	outlet_accept(&ch->outlet);
	if (err != 0) {
		channel_refuse(ch, "controller", SL("INVALID_REQUEST"),
		    SL("the opening is not what it should be"));
		return true;
	}
	ch->state = CHANNEL_WAITS;
	list_push(&ch->forward->waiting, &ch->waiting);
	return true;
}

static void
on_data(struct outlet *o, struct slice bytes)
{
	struct channel *ch = channel_of(o);
	bool was_waiting = ch->state == CHANNEL_WAITS;

	ch->touched = forward_now(ch->forward);
	if (ch->state == CHANNEL_BEGINS && !on_opening(ch, &bytes))
		return;
	if (ch->state == CHANNEL_OFFERED && !on_tool_answer(ch, &bytes))
		return;
	if (ch->state == CHANNEL_REFUSED || ch->listener.ptr != NULL) {
		outlet_consume(&ch->outlet, bytes.len);
	} else if (ch->state == CHANNEL_WAITS) {
		buf_put(&ch->early, bytes);
		if (ch->early.err != 0) {
			channel_drop(ch);
			return;
		}
	} else if (ch->flow != NULL && !pass_on(ch, bytes)) {
		return;
	}
	if (ch->state == CHANNEL_WAITS && !was_waiting)
		forward_ask(ch->forward);
}

static void
on_fin(struct outlet *o)
{
	struct channel *ch = channel_of(o);

	ch->heard_all = true;
	if (ch->state == CHANNEL_BEGINS || ch->listener.ptr != NULL)
		channel_drop(ch);
	else if (ch->flow != NULL && ch->state != CHANNEL_OFFERED)
		flow_finish(ch->flow);
	else if (ch->state == CHANNEL_OFFERED)
		channel_drop(ch);
	else
		look_over(ch);
}

static void
on_lost(struct outlet *o, int why)
{
	(void)why;
	channel_free(channel_of(o));
}

static const struct outlet_ops outlet_ops = {
	.waiting = on_waiting,
	.sent = on_sent,
	.data = on_data,
	.fin = on_fin,
	.lost = on_lost,
	.small = TURN_BRISK,
};

void
channel_opened(struct forward *f, uint32_t id)
{
	struct channel *ch = channel_new(f, CHANNEL_BEGINS);

	if (ch == NULL)
		yamux_reset(&f->trunk.mux, id);
	else
		outlet_take(&ch->outlet, &f->trunk, id);
}

/* By the hub's leave ------------------------------------------------------- */

static void
refuse_flow(struct channel *ch, int err)
{
	if (err == ERR_GONE)
		channel_refuse(ch, "controller", SL("AGENT_OFFLINE"),
		    SL("the agent's link has ended"));
	else if (err == ERR_UNSUPPORTED)
		channel_refuse(ch, "controller", SL("TUNNEL_UNSUPPORTED"),
		    SL("the agent has not agreed on a way to be asked for "
		       "this"));
	else
		channel_refuse(ch, "controller", SL("OVERLOADED"),
		    SL("no more streams to this agent now"));
}

/* What the tool said while it waited. */
static void
catch_up(struct channel *ch)
{
	struct buf early = ch->early;

	buf_init(&ch->early, 0);
	if (pass_on(ch, buf_peek(&early)) && ch->heard_all)
		flow_finish(ch->flow);
	buf_fini(&early);
}

static void
go_by(struct channel *ch, const struct tunnel_grant *g)
{
	const struct tunnel_member *m = &g->members[0];
	const struct flow_order o = { .link = m->link,
		.speech = m->speech,
		.proto = ch->visit.proto,
		.target = &g->target,
		.reverse = ch->visit.reverse,
		.connect_within = ch->connect_within,
		.request_id = slice_from(ch->id) };
	int err = flow_open(dock_of(ch), &o, &flow_ops, ch, &ch->flow);

	if (err != 0) {
		refuse_flow(ch, err);
		return;
	}
	flow_set_cap(ch->flow, WINDOW_MAX + EARLY_MAX);
	ch->forward->running++;
	ch->state = CHANNEL_DIALS;
	log_info("forward_opened", kv_s("id", slice_from(ch->id)),
	    kv_s("user", ch->forward->user_id), kv_s("agent", m->agent_id),
	    kv_s("host",
		g->target.host.len > 0 ? g->target.host : g->target.service),
	    kv_u("port", g->target.port), kv_b("reverse", ch->visit.reverse));
	catch_up(ch);
}

void
channel_go(struct channel *ch, struct pass *p)
{
	pass_enter(p, &ch->holder);
	pass_drop(p);
	go_by(ch, &p->grant);
}
