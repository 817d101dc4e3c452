#include <assert.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/opening.h"

#include "server/flow_state.h"

enum {
	TEXT_MAX = 512,      /* of an agent's sentence */
	ANSWER_GRACE = 2000, /* beyond the time to connect */
	CONNECT_WITHIN = 10000,
	OPENING_WITHIN = 10000,
};

static void
count(struct flow *f, enum tunnel_proto proto)
{
	f->kind = (uint8_t)proto;
	f->counted = true;
	f->dock->server->counts.flows[proto]++;
	f->dock->server->counts.flows_opened[proto]++;
}

/* What the agent says of a stream ------------------------------------------ */

static const struct {
	struct slice code;
	int err;
} codes[] = {
	{ SL_INIT("NOT_PERMITTED"), ERR_DENIED },
	{ SL_INIT("TARGET_REFUSED"), ERR_DENIED },
	{ SL_INIT("NAME_NOT_FOUND"), ERR_NOT_FOUND },
	{ SL_INIT("CONNECT_REFUSED"), ERR_REFUSED },
	{ SL_INIT("CONNECT_TIMEOUT"), ERR_TIMEOUT },
	{ SL_INIT("UNREACHABLE"), ERR_UNREACHABLE },
	{ SL_INIT("TLS_FAILED"), ERR_TLS },
	{ SL_INIT("TOO_MANY"), ERR_LIMITED },
	{ SL_INIT("STOPPED"), ERR_STOPPED },
	{ SL_INIT("INVALID"), ERR_INVALID },
};

enum { CODE_INVALID = FLOW_CODES - 1 };

static_assert(
    sizeof(codes) / sizeof(codes[0]) == FLOW_CODES, "each code has its count");

static void
read_code(struct slice code, struct flow_answer *out)
{
	size_t i = 0;

	while (i < CODE_INVALID && !slice_eq(code, codes[i].code))
		i++;
	out->code = codes[i].code;
	out->err = codes[i].err;
}

static void
count_refusal(struct dock *d, struct slice code)
{
	for (size_t i = 0; i <= CODE_INVALID; i++)
		if (slice_eq(code, codes[i].code))
			d->server->counts.flows_refused[i]++;
}

struct slice
flow_code(size_t i)
{
	return i <= CODE_INVALID ? codes[i].code : (struct slice){ 0 };
}

/* The JSON of an answer.  0 or ERR_*. */
static int
read_answer(
    struct slice json, bool yes, struct arena *a, struct flow_answer *out)
{
	const struct js_limits limits = { FLOW_ANSWER_MAX, 8 };
	struct js_doc doc;
	struct js_fields in;
	struct slice code;

	int err = js_parse(&doc, json, &limits, a);
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(&doc));
	js_opt_string(&in, "address", &out->address);
	js_opt_i64(&in, "resolve_ms", 0, INT32_MAX, -1, &out->resolve);
	js_opt_i64(&in, "connect_ms", 0, INT32_MAX, -1, &out->connect);
	js_opt_i64(&in, "tls_ms", 0, INT32_MAX, -1, &out->tls);
	js_opt_string(&in, "code", &code);
	js_opt_string(&in, "text", &out->text);
	out->text = slice_first(out->text, TEXT_MAX);
	out->address = slice_first(out->address, TEXT_MAX);
	if (!yes)
		read_code(code, out);
	return in.err;
}

/* Whether the flow is still there. */
static bool
on_answer(struct flow *f)
{
	struct slice m = buf_peek(&f->head);
	struct flow_answer a = { .err = 0 };
	struct arena arena;
	bool yes = m.ptr[1] == 0, there = true;

	arena_init(&arena, 32 * FLOW_ANSWER_MAX);
	int err = m.ptr[1] > 1
	    ? ERR_PROTOCOL
	    : read_answer(slice_from_at(m, OPENING_HEAD), yes, &arena, &a);
	if (!yes && err == 0)
		count_refusal(f->dock, a.code);
	if (err == 0)
		there = flow_tell(f, &a);
	if (!yes && err == 0)
		err = a.err;
	arena_fini(&arena);
	if (there && err != 0)
		flow_lose(f, err);
	else if (there)
		buf_fini(&f->head);
	return there && err == 0;
}

/* One that the agent opened ------------------------------------------------ */

static void
mute_answered(void *owner, const struct flow_answer *a)
{
	(void)owner;
	(void)a;
}

static void
mute_data(void *owner, uint8_t *bytes, size_t n)
{
	(void)bytes;
	flow_consume(owner, n);
}

static void
mute(void *owner)
{
	(void)owner;
}

static void
mute_gone(void *owner, int why)
{
	(void)owner;
	(void)why;
}

/* Of a flow that nobody has, or that is refused. */
static const struct flow_ops mute_ops = {
	.answered = mute_answered,
	.data = mute_data,
	.eof = mute,
	.drained = mute,
	.gone = mute_gone,
};

static void
say_answer(struct flow *f, uint8_t status, struct slice json)
{
	opening_put_answer(&f->out, status, json);
	f->state = FLOW_OPEN;
	outlet_accept(&f->outlet);
	outlet_wake(&f->outlet);
}

void
flow_accept(struct flow *f)
{
	assert(f->state == FLOW_ASKED);
	loop_timer_stop(f->dock->lane.loop, &f->timer);
	say_answer(f, 0, SL("{}"));
}

void
flow_refuse(struct flow *f, struct slice code, struct slice text)
{
	struct buf json;
	struct js_writer w;

	assert(f->state == FLOW_ASKED || f->state == FLOW_OFFERED);
	buf_init(&json, FLOW_ANSWER_MAX - OPENING_HEAD);
	js_write(&w, &json);
	js_begin_object(&w);
	js_kv_string(&w, "code", code);
	js_kv_string(&w, "text", slice_first(text, TEXT_MAX));
	js_end(&w);
	bool ok = js_finish(&w) == 0;
	flow_own(f, &mute_ops, f);
	if (ok) {
		/* The agent has until then to end its side. */
		say_answer(f, 1, buf_peek(&json));
		flow_finish(f);
	}
	buf_fini(&json);
	if (!ok)
		flow_close(f);
}

static struct flow *
find_listener(const struct flow *f, struct slice id)
{
	struct trunk *t = f->outlet.trunk;
	struct list *head = &LIST_OF(t, struct link_streams, trunk)->listeners;

	for (struct list *i = head->next; i != head; i = i->next) {
		struct flow *l = LIST_OF(i, struct flow, listener);
		if (slice_eq(l->id, id) && l->state == FLOW_OPEN)
			return l;
	}
	return NULL;
}

/* To the owner of the listener.  Whether the flow is still there. */
static bool
offer(struct flow *f, struct slice id, struct slice peer)
{
	struct flow *l = find_listener(f, id);

	f->state = FLOW_ASKED;
	if (l != NULL && l->ops->arrived != NULL) {
		f->kind = l->kind;
		f->busy++;
		l->busy++;
		l->ops->arrived(l->owner, f, peer);
		flow_called(l);
		if (!flow_called(f))
			return false;
	}
	if (f->ops == &mute_ops && f->state == FLOW_ASKED)
		flow_refuse(f, SL("INVALID"), SL("nobody listens there"));
	else if (f->ops != &mute_ops)
		count(f, (enum tunnel_proto)f->kind);
	return true;
}

static bool
on_offer(struct flow *f)
{
	const struct js_limits limits = { FLOW_ANSWER_MAX, 8 };
	struct slice m = buf_peek(&f->head), id, peer;
	struct arena arena;
	struct js_doc doc;
	struct js_fields in;
	bool there = true;

	arena_init(&arena, 32 * FLOW_ANSWER_MAX);
	int err = m.ptr[1] == OPENING_KIND_TCP || m.ptr[1] == OPENING_KIND_UDP
	    ? js_parse(&doc, slice_from_at(m, OPENING_HEAD), &limits, &arena)
	    : ERR_UNSUPPORTED;
	if (err == 0) {
		js_fields_init(&in, js_root(&doc));
		js_need_string(&in, "listener", &id);
		js_opt_string(&in, "peer", &peer);
		err = in.err;
	}
	if (err == 0)
		there = offer(f, id, slice_first(peer, TEXT_MAX));
	arena_fini(&arena);
	if (err != 0)
		flow_lose(f, ERR_PROTOCOL);
	else if (there)
		buf_fini(&f->head);
	return err == 0 && there;
}

static void
on_late(struct loop_timer *t)
{
	const struct flow_answer late = { .err = ERR_TIMEOUT,
		.code = SL_INIT("CONNECT_TIMEOUT"),
		.text = SL_INIT("the agent did not answer in time"),
		.resolve = -1,
		.connect = -1,
		.tls = -1 };
	struct flow *f = LIST_OF(t, struct flow, timer);

	if (f->state == FLOW_OPENING) {
		count_refusal(f->dock, late.code);
		if (!flow_tell(f, &late))
			return;
	}
	flow_lose(f, ERR_TIMEOUT);
}

static int
due_in(struct flow *f, msec time)
{
	struct loop *l = f->dock->lane.loop;

	return loop_timer_set(l, &f->timer, loop_now(l) + time, on_late);
}

void
flow_opened(struct link_conn *l, uint32_t id)
{
	struct flow *f = flow_new(l->conn->dock, FLOW_OFFERED);

	if (f == NULL || due_in(f, OPENING_WITHIN) != 0) {
		yamux_reset(l->mux, id);
		if (f != NULL)
			flow_free(f);
		return;
	}
	flow_own(f, &mute_ops, f);
	outlet_take(&f->outlet, link_trunk(l), id);
}

/* Bytes before those of the connection: the rest is in *bytes.  Whether the
 * flow is still there. */
bool
flow_begin(struct flow *f, struct slice *bytes)
{
	size_t had = bytes->len;
	int whole = opening_gather(&f->head, bytes);

	if (whole < 0) {
		flow_lose(f, ERR_PROTOCOL);
		return false;
	}
	flow_consume(f, had - bytes->len);
	if (whole == 0)
		return true;
	return f->state == FLOW_OPENING ? on_answer(f) : on_offer(f);
}

/* Opening ------------------------------------------------------------------ */

static void
put_target(struct js_writer *w, const struct tunnel_target *t)
{
	if (t->host.ptr != NULL) {
		js_kv_string(w, "host", t->host);
	} else {
		js_kv_string(w, "service", t->service);
		js_kv_string(w, "namespace", t->namespace);
	}
	js_kv_u64(w, "port", t->port);
}

static void
put_tls(struct js_writer *w, const struct tunnel_target *t)
{
	if (!t->tls)
		return;
	js_kv_object(w, "tls");
	js_kv_bool(w, "insecure", t->insecure);
	js_kv_string(w, "name", t->tls_name.ptr != NULL ? t->tls_name : SL(""));
	js_end(w);
}

static msec
connect_within(const struct flow_order *o)
{
	return o->connect_within > 0 ? o->connect_within : CONNECT_WITHIN;
}

/* 0 or ERR_*. */
static int
put_v2(struct flow *f, const struct flow_order *o)
{
	struct opening head = { .version = 2,
		.kind = o->proto == TUNNEL_UDP ? OPENING_KIND_UDP
					       : OPENING_KIND_TCP };
	struct buf json;
	struct js_writer w;

	buf_init(&json, UINT16_MAX);
	js_write(&w, &json);
	js_begin_object(&w);
	js_kv_string(&w, "id", o->request_id);
	if (o->reverse)
		js_kv_object(&w, "listen");
	put_target(&w, o->target);
	if (o->reverse)
		js_end(&w);
	put_tls(&w, o->target);
	js_kv_i64(&w, "connect_ms", connect_within(o));
	js_end(&w);
	int err = js_finish(&w);
	if (err == ERR_FULL)
		err = ERR_TOO_BIG;
	head.json = buf_peek(&json);
	if (err == 0)
		err = opening_encode(&head, &f->out);
	buf_fini(&json);
	return err;
}

static int
put_v1(struct flow *f, const struct flow_order *o)
{
	const struct tunnel_target *t = o->target;
	const struct opening head = { .version = 1,
		.proto = o->proto == TUNNEL_UDP ? OPENING_UDP : OPENING_TCP,
		.port = t->port,
		.service = t->host.ptr != NULL ? t->host : t->service,
		.namespace = t->namespace,
		.tunnel_id = o->request_id };

	if (o->reverse || t->tls)
		return ERR_UNSUPPORTED;
	return opening_encode(&head, &f->out);
}

/* One that listens is found by its id. */
static int
keep_id(struct flow *f, struct slice id)
{
	uint8_t *copy = alloc_new(id.len + 1);

	if (copy == NULL)
		return ERR_NOMEM;
	if (id.len > 0)
		memcpy(copy, id.ptr, id.len);
	f->id = (struct slice){ copy, id.len };
	return 0;
}

static int
start(struct flow *f, struct link_conn *l)
{
	int err = outlet_open(&f->outlet, link_trunk(l));

	if (err == 0 && f->id.ptr != NULL)
		list_push(&link_streams(l)->listeners, &f->listener);
	return err;
}

void
flow_link_ready(struct link_conn *l)
{
	struct list *i;

	while ((i = list_pop(&l->hopeful)) != NULL) {
		struct flow *f = LIST_OF(i, struct flow, hope);
		int err = start(f, l);
		if (err != 0)
			flow_lose(f, err);
		else
			outlet_wake(&f->outlet);
	}
}

void
flow_link_gone(struct link_conn *l)
{
	while (!list_empty(&l->hopeful))
		flow_lose(
		    LIST_OF(l->hopeful.next, struct flow, hope), ERR_CLOSED);
}

static int
prepare(struct flow *f, struct link_conn *l, const struct flow_order *o)
{
	bool v1 = o->speech == TUNNEL_STREAMS_V1;
	int err = v1 ? put_v1(f, o) : put_v2(f, o);

	if (err == 0 && o->reverse)
		err = keep_id(f, o->request_id);
	if (err == 0 && !v1)
		err = due_in(f, connect_within(o) + ANSWER_GRACE);
	/* The hub knows of a registration before the agent does. */
	if (err == 0 && l->mux == NULL)
		list_push(&l->hopeful, &f->hope);
	else if (err == 0)
		err = start(f, l);
	return err;
}

int
flow_open(struct dock *d, const struct flow_order *o,
    const struct flow_ops *ops, void *owner, struct flow **out)
{
	struct link_conn *l = link_find(d, o->link);

	if (o->speech == TUNNEL_JSON)
		return ERR_UNSUPPORTED;
	bool v1 = o->speech == TUNNEL_STREAMS_V1;
	if (l == NULL || (l->mux == NULL && (v1 || !l->native)))
		return ERR_GONE;
	if (d->server->short_of_memory)
		return ERR_BUSY;
	struct flow *f = flow_new(d, v1 ? FLOW_OPEN : FLOW_OPENING);
	if (f == NULL)
		return ERR_NOMEM;
	int err = prepare(f, l, o);
	if (err != 0) {
		loop_timer_stop(d->lane.loop, &f->timer);
		flow_free(f);
		return err == ERR_CLOSED || err == ERR_RANGE ? ERR_GONE : err;
	}
	flow_own(f, ops, owner);
	count(f, o->proto);
	if (v1)
		flow_announce(f, NEWS_ANSWERED);
	outlet_wake(&f->outlet);
	*out = f;
	return 0;
}
