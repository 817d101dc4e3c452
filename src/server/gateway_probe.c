/*
 * A route tried hop by hop: what a visitor's request would do, on a stream of
 * its own, with the time of each part and, where it ends early, why.
 *
 *	POST /api/v1/routes/{}/test
 *
 * First the hub shows the route to who asks (OP_ROUTE_SHOW); then they go
 * there themselves (OP_VISIT), so that nobody learns of a place by this what
 * they could not learn by a visit.
 */
#include "base/err.h"
#include "base/js_write.h"

#include "io/clock.h"

#include "server/api.h"
#include "server/link.h"
#include "server/sites.h"

#include "server/gateway_parts.h"

/* The parts of the way, in order. */
enum part { PART_LINK, PART_RESOLVE, PART_CONNECT, PART_TLS, PART_ANSWER };

struct probe {
	struct slice route; /* its name */
	int64_t begun;      /* ns: the agent was asked */
	int64_t reached;    /* ns: and has dialled; 0: not yet */
	struct slice address;
	msec spent[PART_ANSWER + 1]; /* -1: not done */
};

static const struct slice names[] = {
	[PART_LINK] = SL_INIT("agent"),
	[PART_RESOLVE] = SL_INIT("dns"),
	[PART_CONNECT] = SL_INIT("dial"),
	[PART_TLS] = SL_INIT("tls"),
	[PART_ANSWER] = SL_INIT("service"),
};

static msec
since(int64_t ns)
{
	return (clock_mono_ns() - ns) / 1000000;
}

/* The answer --------------------------------------------------------------- */

static void
put_part(struct js_writer *w, enum part part, bool ok, msec spent,
    struct slice code, struct slice text)
{
	js_begin_object(w);
	js_kv_string(w, "hop", names[part]);
	js_kv_bool(w, "ok", ok);
	if (spent >= 0)
		js_kv_i64(w, "ms", spent);
	if (code.len > 0)
		js_kv_string(w, "code", code);
	if (text.len > 0)
		js_kv_string(w, "text", text);
	js_end(w);
}

/* All parts before the one that decides, and that. */
static void
put_parts(struct visit *v, struct js_writer *w, enum part last, bool ok,
    struct slice code, struct slice text)
{
	const struct probe *p = v->probe;

	for (enum part i = PART_LINK; i < last; i++) {
		/* Of agents that do not say, and of what is not done; but an
		 * agent that answers is there. */
		if (p->spent[i] < 0 && i != PART_LINK)
			continue;
		put_part(w, i, true, p->spent[i], (struct slice){ 0 },
		    i == PART_LINK          ? v->agent
			: i == PART_CONNECT ? p->address
					    : (struct slice){ 0 });
	}
	put_part(w, last, ok, p->spent[last], code, text);
}

/* The visit is gone afterwards. */
static void
finish(struct visit *v, enum part last, bool ok, struct slice code,
    struct slice text)
{
	static const struct http1_pair no_store[] = {
		{ SL_INIT("Cache-Control"), SL_INIT("no-store") }
	};
	struct conn *c = v->conn;
	struct buf *out = &c->dock->text;
	struct js_writer w;

	buf_clear(out);
	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.route.test/1"));
	js_kv_string(&w, "route", v->probe->route);
	js_kv_bool(&w, "ok", ok);
	if (v->agent.len > 0) {
		js_kv_string(&w, "agent", v->agent);
		js_kv_string(&w, "agent_id", v->agent_id);
	}
	js_key(&w, SL("hops"));
	js_begin_array(&w);
	put_parts(v, &w, last, ok, code, text);
	js_end(&w);
	js_end(&w);
	if (js_finish(&w) != 0)
		conn_drop(c);
	else
		web_answer_with(
		    c, 200, "application/json", buf_peek(out), no_store, 1);
}

/* Which part a code speaks of. */
static enum part
part_of(const struct gateway_no *no)
{
	static const struct {
		struct slice code;
		enum part part;
	} parts[] = {
		{ SL_INIT("NAME_NOT_FOUND"), PART_RESOLVE },
		{ SL_INIT("CONNECT_REFUSED"), PART_CONNECT },
		{ SL_INIT("CONNECT_TIMEOUT"), PART_CONNECT },
		{ SL_INIT("CONNECT_FAILED"), PART_CONNECT },
		{ SL_INIT("UNREACHABLE"), PART_CONNECT },
		{ SL_INIT("NOT_PERMITTED"), PART_CONNECT },
		{ SL_INIT("TARGET_REFUSED"), PART_CONNECT },
		{ SL_INIT("TLS_FAILED"), PART_TLS },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (slice_eq(no->code, parts[i].code))
			return parts[i].part;
	}
	return no->hop == HOP_SERVICE ? PART_ANSWER : PART_LINK;
}

void
gateway_probe_failed(struct visit *v, const struct gateway_no *no)
{
	enum part part = part_of(no);
	struct probe *p = v->probe;

	if (p->spent[part] < 0 && p->begun != 0)
		p->spent[part] = since(p->reached != 0 ? p->reached : p->begun);
	finish(v, part, false, no->code, no->text);
}

/* What the exchange says --------------------------------------------------- */

static void
on_reached(void *owner, const struct flow_answer *a)
{
	struct visit *v = owner;
	struct probe *p = v->probe;
	msec rest = since(p->begun);

	p->reached = clock_mono_ns();
	p->spent[PART_RESOLVE] = a->resolve;
	p->spent[PART_CONNECT] = a->connect;
	p->spent[PART_TLS] = v->pass->grant.target.tls ? a->tls : -1;
	for (enum part i = PART_RESOLVE; i <= PART_TLS; i++)
		rest -= p->spent[i] > 0 ? p->spent[i] : 0;
	p->spent[PART_LINK] = rest > 0 ? rest : 0;
	(void)arena_copy(&v->call->arena, a->address, &p->address);
}

static void
on_answered(void *owner, const struct http1_head *h, int64_t length)
{
	struct visit *v = owner;
	struct conn *c = v->conn;
	struct probe *p = v->probe;
	struct slice text = { 0 };
	struct buf b;

	(void)length;
	p->spent[PART_ANSWER] = since(p->reached != 0 ? p->reached : p->begun);
	buf_init(&b, HTTP1_HEAD_BYTES);
	buf_put_u64(&b, (uint64_t)h->status);
	buf_put_byte(&b, ' ');
	buf_put(&b, h->reason);
	(void)arena_copy(&v->call->arena, slice_trim(buf_peek(&b)), &text);
	buf_fini(&b);
	finish(v, PART_ANSWER, true, (struct slice){ 0 }, text);
	web_resume(c);
}

static void
on_failed(void *owner, const struct exchange_failure *f)
{
	struct visit *v = owner;
	struct conn *c = v->conn;
	const struct gateway_no no = { .hop = f->hop,
		.status = f->status,
		.code = f->code,
		.text = f->text };

	gateway_fail(v, &no, f->err);
	web_resume(c);
}

/* The first answer of any kind ends it, so nothing of these is to come. */
static void
on_informed(void *owner, const struct http1_head *h)
{
	(void)owner;
	(void)h;
}

static void
on_upgraded(void *owner, const struct http1_head *h, bool raw)
{
	(void)raw;
	on_answered(owner, h, 0);
}

static void
on_data(void *owner, struct slice bytes)
{
	(void)owner;
	(void)bytes;
}

static void
on_message(void *owner, const struct exchange_message *m)
{
	(void)owner;
	(void)m;
}

static void
on_ended(void *owner, const struct http1_head *trailers)
{
	(void)owner;
	(void)trailers;
}

static void
on_drained(void *owner)
{
	(void)owner;
}

static const struct exchange_ops ops = {
	.reached = on_reached,
	.informed = on_informed,
	.answered = on_answered,
	.upgraded = on_upgraded,
	.data = on_data,
	.message = on_message,
	.ended = on_ended,
	.drained = on_drained,
	.failed = on_failed,
};

/* Beginning ---------------------------------------------------------------- */

void
gateway_probe_start(struct visit *v)
{
	v->probe->begun = clock_mono_ns();
}

/* GET of the route's own root, as its host is called. */
static int
make_ask(struct visit *v, const struct route_record *r)
{
	static const struct http1_pair fields[] = {
		{ SL_INIT("User-Agent"), SL_INIT("muster-route-test") },
		{ SL_INIT("Accept"), SL_INIT("*/*") },
	};
	struct arena *a = &v->call->arena;
	bool wild = slice_starts(r->host, SL("*."));
	struct slice host = slice_from_at(r->host, wild ? 2 : 0);
	struct buf b;

	buf_init(&b, URL_MAX);
	buf_put(&b, r->strip ? (struct slice){ 0 } : r->prefix);
	if (r->strip || r->prefix.len > 1)
		buf_put_byte(&b, '/');
	v->ask = (struct http1_ask){ .method = SL("GET"),
		.fields = fields,
		.count = sizeof(fields) / sizeof(fields[0]) };
	int err =
	    b.err != 0 ? b.err : arena_copy(a, buf_peek(&b), &v->ask.target);
	buf_clear(&b);
	if (wild)
		buf_put(&b, SL("test."));
	buf_put(&b, host);
	if (err == 0)
		err = b.err != 0 ? b.err
				 : arena_copy(a, buf_peek(&b), &v->ask.host);
	v->host = v->ask.host;
	buf_fini(&b);
	return err;
}

static int
begin(struct conn *c, struct call *call, const struct route_record *r)
{
	struct visit *v = gateway_visit(c, call);
	int err;

	if (v == NULL)
		return ERR_NOMEM;
	v->ops = &ops;
	v->whole = true;
	v->what.way = TUNNEL_BY_ROUTE;
	v->probe = arena_alloc(&call->arena, sizeof(*v->probe));
	if (v->probe == NULL)
		return ERR_NOMEM;
	*v->probe = (struct probe){ .spent = { -1, -1, -1, -1, -1 } };
	err = arena_copy(&call->arena, r->name, &v->probe->route);
	if (err == 0)
		err = arena_copy(&call->arena, r->id, &v->what.route_id);
	if (err == 0)
		err = gateway_apply(v, r);
	return err != 0 ? err : make_ask(v, r);
}

void
gateway_probe(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	if (r->route_count == 0 || begin(c, call, &r->routes[0]) != 0) {
		conn_drop(c);
		return;
	}
	gateway_ask(call->visit);
}
