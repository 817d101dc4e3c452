#include "base/alloc.h"
#include "base/err.h"

#include "wire/http1_wsopen.h"

#include "io/log.h"

#include "server/call.h"
#include "server/credential.h"
#include "server/gateway.h"
#include "server/ours.h"

#include "server/web_parts.h"

enum { STUCK_AFTER = 60000 }; /* ms in which nothing was taken */

struct call *
web_call(struct conn *c)
{
	return web_of(c)->call;
}

void
web_free_call(struct web *w)
{
	call_free(w->call);
	w->call = NULL;
}

/* Requests -------------------------------------------------------------- */

struct slice
web_query(struct call *call, const char *name)
{
	struct slice value = { 0 };

	if (url_query_get(
		call->query, slice_from(name), &call->arena, &value) != 0)
		return (struct slice){ 0 };
	return value;
}

static void
say_refusal(struct conn *c)
{
	struct call *call = web_of(c)->call;

	web_refuse(
	    c, &call->refusal, call->refusal_fields, call->refusal_count);
}

/* Refuse a request at its head.  A body that is on its way is read first,
 * so that what follows it is not taken for it; unless nothing can follow. */
static void
refuse(struct conn *c, const struct http1_head *h, const struct problem *p,
    const struct http1_pair *fields, size_t count)
{
	struct call *call = web_of(c)->call;

	call->refusal = *p;
	call->refusal_count = count;
	if (count > 0)
		memcpy(call->refusal_fields, fields, count * sizeof(*fields));
	if (!h->has_body || h->expect_continue || p->close)
		say_refusal(c);
}

static void
refuse_for_good(
    struct conn *c, const struct http1_head *h, int status, struct slice text)
{
	const struct problem p = {
		.status = status, .text = text, .close = true
	};

	refuse(c, h, &p, NULL, 0);
}

/* Take the connection off HTTP at once, keeping what came behind. */
static int
take_over(struct conn *c, struct call *call, const struct http1_head *h)
{
	struct wsopen_request r;
	struct slice rest = { 0 };

	if (http1_wsopen_request(h, &call->arena, &r) != 0)
		return ERR_NOMEM;
	call->ws_key = call_keep(call, r.key);
	call->ws_protocols = call_keep(call, r.protocols);
	call->ws_extensions = call_keep(call, r.extensions);
	if (http1_server_upgrade(&web_of(c)->http, &rest) != 0)
		return ERR_WRONG_STATE;
	call->taken = true;
	buf_put(&call->early, rest);
	return call->early.err;
}

static bool
handshake_ok(struct conn *c, struct call *call, const struct http1_head *h)
{
	struct wsopen_request r;
	struct wsopen_verdict verdict;
	static const struct http1_pair need[2] = {
		{ SL_INIT("Upgrade"), SL_INIT("websocket") },
		{ SL_INIT("Sec-WebSocket-Version"), SL_INIT("13") },
	};

	if (http1_wsopen_request(h, &call->arena, &r) != 0) {
		conn_drop(c);
		return false;
	}
	if (wsopen_check_request(&r, &verdict) == 0)
		return true;
	const struct problem p = { .status = verdict.status,
		.text = verdict.reason,
		.close = verdict.status == 400 };
	refuse(c, h, &p, need, verdict.status == 426 ? 2 : 0);
	return false;
}

static void
run(struct conn *c)
{
	struct call *call = web_of(c)->call;

	call->route->handle(c, call);
}

static void
refuse_origin(struct conn *c, const struct http1_head *h)
{
	const struct problem p = { .status = 403,
		.code = SL("ORIGIN_NOT_ALLOWED"),
		.text = SL("this origin is not allowed here") };

	refuse(c, h, &p, NULL, 0);
}

/* What the path knows; to a page of a listed origin also what it may say. */
static void
answer_options(struct conn *c, struct call *call, const struct http1_head *h,
    const struct http1_pair *allow)
{
	struct http1_pair fields[1 + OURS_PREFLIGHT] = { *allow };
	size_t n = 1;

	if (call->origin_is == ORIGIN_FOREIGN) {
		refuse_origin(c, h);
		return;
	}
	if (call->origin_is == ORIGIN_LISTED &&
	    http1_count(h, "Access-Control-Request-Method") > 0)
		n += ours_preflight(allow->value, fields + 1);
	web_answer_with(c, 204, NULL, (struct slice){ 0 }, fields, n);
}

static void
answer_wrong_method(struct conn *c, struct call *call,
    const struct http1_head *h, const char *allow)
{
	struct http1_pair field = { SL("Allow"),
		call_keep(call, slice_from(allow)) };
	const struct problem p = { .status = 405,
		.text = SL("this path knows other methods only") };

	if (slice_eq(h->method, SL("OPTIONS")) && !h->has_body &&
	    !http1_has_token(h, "Upgrade", "websocket"))
		answer_options(c, call, h, &field);
	else
		refuse(c, h, &p, &field, 1);
}

/* The route of a request; NULL when it was refused. */
static const struct route *
find_route(struct conn *c, struct call *call, const struct http1_head *h)
{
	struct slice params[ROUTE_PARAMS] = { { 0 } };
	const struct problem none = { .status = 404,
		.text = SL("there is nothing at this path") };
	const struct route *r = NULL;
	char allow[64] = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
	enum route_found found = ROUTE_NO_METHOD;

	if (h->path.ptr != NULL && url_path_check(h->path) != 0) {
		refuse_for_good(c, h, 400,
		    SL("the path has dot segments, empty parts or escapes "
		       "that are not allowed"));
		return NULL;
	}
	if (h->path.ptr != NULL)
		found = route_find(h->method, h->path,
		    c->dock->server->settings.dev, &r, params, allow,
		    sizeof(allow));
	if (found == ROUTE_NO_PATH && slice_eq(h->method, SL("GET")) &&
	    http1_has_token(h, "Upgrade", "websocket"))
		return route_anywhere();
	if (found == ROUTE_NO_PATH) {
		refuse(c, h, &none, NULL, 0);
		return NULL;
	}
	if (found == ROUTE_NO_METHOD) {
		answer_wrong_method(c, call, h, allow);
		return NULL;
	}
	for (size_t i = 0; i < ROUTE_PARAMS; i++) {
		/* Without escapes the decoded text is the head's own, which
		 * is gone when a body has been read. */
		if (params[i].ptr != NULL &&
		    (url_decode(params[i], false, &call->arena,
			 &call->params[i]) != 0 ||
			arena_copy(&call->arena, call->params[i],
			    &call->params[i]) != 0)) {
			refuse_for_good(c, h, 400, SL("a broken escape"));
			return NULL;
		}
	}
	return r;
}

/* A browser sends its cookies whoever makes it ask: what changes something
 * needs the proof that it was a page of ours. */
static bool
cookie_may(const struct call *call)
{
	if (call->route->websocket)
		return call->origin_is == ORIGIN_OWN;
	return call->safe ||
	    (call->origin_is == ORIGIN_OWN &&
		slice_eq(call->cookie_mark, SL("1")));
}

/* Whether it may be answered at all: whose name it uses, who sends it. */
static bool
may_ask(struct conn *c, struct call *call, const struct http1_head *h)
{
	if (credential_read(c->dock->server, h, call) != 0) {
		refuse_for_good(
		    c, h, 400, SL("one credential a request, not two"));
		return false;
	}
	if (c->dock->server->short_of_memory && !route_is_vital(call->route)) {
		const struct problem p = { .status = 503,
			.code = SL("SHORT_OF_MEMORY"),
			.text = SL("the controller is short of memory"),
			.retry_after = 5,
			.close = true };
		refuse(c, h, &p, NULL, 0);
		return false;
	}
	if (!call->route->dev && call->origin_is == ORIGIN_FOREIGN) {
		refuse_origin(c, h);
		return false;
	}
	if (!call->by_cookie || cookie_may(call))
		return true;
	const struct problem p = { .status = 403,
		.code = SL("CSRF_REFUSED"),
		.text = SL("with a cookie this takes our own Origin, and the "
			   "field X-Muster: 1 unless it is a WebSocket") };
	refuse(c, h, &p, NULL, 0);
	return false;
}

static void
begin(struct conn *c, const struct http1_head *h)
{
	struct call *call = call_new(c, h);
	struct web *w = web_of(c);

	c->dock->server->counts.requests++;
	if (call == NULL) {
		conn_drop(c);
		return;
	}
	w->call = call;
	if (gateway_wants(c->dock, h)) {
		gateway_begin(c, call, h);
		return;
	}
	if (!ours_is_host(c->dock->server, &h->host)) {
		const struct problem p = { .status = 421,
			.text = SL("this controller does not answer to that "
				   "name; see hosts in muster.conf(5)") };
		refuse(c, h, &p, NULL, 0);
		return;
	}
	http1_server_pace(
	    &w->http, &http1_times_default, loop_now(c->dock->lane.loop));
	/* An answer takes the call with it. */
	const struct route *route = find_route(c, call, h);
	if (route == NULL)
		return;
	call->route = route;
	if (c->reserve && !route->ends) {
		const struct problem p = { .status = 503,
			.retry_after = 5,
			.close = true,
			.text = SL("the last connections are kept for "
				   "requests that end things") };
		log_warn("connection_refused",
		    kv_s("remote", call->credential.remote),
		    kv_e("err", ERR_FULL));
		refuse(c, h, &p, NULL, 0);
		return;
	}
	if (!may_ask(c, call, h))
		return;
	if (call->route->websocket) {
		if (!handshake_ok(c, call, h))
			return;
		if (take_over(c, call, h) != 0)
			conn_drop(c);
		else
			run(c);
		return;
	}
	size_t cap =
	    call->route->body_max > 0 ? call->route->body_max : BODY_DEFAULT;
	call->body.cap = cap;
	http1_server_allow(&w->http, cap);
	buf_clear(&c->dock->out);
	http1_server_continue(&w->http, &c->dock->out);
	conn_write(c, buf_peek(&c->dock->out));
}

static void
bad(struct conn *c, const struct http1_event *ev)
{
	struct web *w = web_of(c);

	log_info("bad_request", kv_i("status", ev->status),
	    kv_c("why", ev->why == NULL ? "" : ev->why));
	if (!http1_server_may_answer(&w->http)) {
		/* One that has begun cannot be ended. */
		if (w->call != NULL && w->call->visit != NULL)
			conn_drop(c);
		return;
	}
	web_free_call(w);
	const struct problem p = {
		.status = ev->status, .text = slice_from(ev->why), .close = true
	};
	web_problem(c, &p);
}

static void
on_body(struct conn *c, struct slice data)
{
	struct call *call = web_of(c)->call;

	if (call != NULL && call->visit != NULL)
		gateway_body(c, call, data);
	else if (call != NULL && call->refusal.status == 0)
		buf_put(&call->body, data);
}

static void
on_end(struct conn *c, const struct http1_head *trailers)
{
	struct call *call = web_of(c)->call;

	if (call == NULL)
		return;
	if (call->visit != NULL)
		gateway_end(c, call, trailers);
	else if (call->refusal.status != 0)
		say_refusal(c);
	else if (!call->taken)
		run(c);
}

static void
on_http(struct conn *c, const struct http1_event *ev)
{
	switch (ev->kind) {
	case HTTP1_REQUEST:
		begin(c, ev->head);
		break;
	case HTTP1_BODY:
		on_body(c, ev->data);
		break;
	case HTTP1_END:
		on_end(c, ev->head);
		break;
	case HTTP1_BAD:
		bad(c, ev);
		break;
	case HTTP1_RESPONSE:
		break;
	}
}

static void on_timer(struct conn *c);

static bool is_web(const struct conn *c);

/* Whether to read on, and when to look again. */
static void
settle(struct conn *c)
{
	struct web *w = web_of(c);
	const struct http1_server *h = &w->http;
	const struct visit *v = w->call != NULL ? w->call->visit : NULL;
	msec due = http1_server_deadline(h);

	if (v != NULL && gateway_depart(c, w->call) == GATEWAY_LEFT)
		return;
	/* It may have been answered instead. */
	v = w->call != NULL ? w->call->visit : NULL;
	if (v != NULL && gateway_due(v) < due)
		due = gateway_due(v);
	if (v != NULL ? gateway_reads(v, h) : http1_server_hungry(h))
		stream_read_start(c->stream);
	else
		stream_read_stop(c->stream);
	conn_wake_at(c, due);
}

/* The visitor has much to take before it is heard again. */
static void
wait(struct conn *c)
{
	struct web *w = web_of(c);

	w->waiting = true;
	w->queued = stream_queued(c->stream);
	stream_read_stop(c->stream);
	conn_wake_at(c, loop_now(c->dock->lane.loop) + STUCK_AFTER);
}

void
web_pump(struct conn *c)
{
	struct http1_event ev;
	struct web *w = web_of(c);

	/* Answers given from inside are followed by the one at work. */
	if (w->pumping)
		return;
	/* Not before the visitor has taken the answers so far. */
	if (w->call == NULL && w->http.input.fed.len == 0 &&
	    stream_above_high(c->stream)) {
		if (!w->waiting)
			wait(c);
		return;
	}
	w->waiting = false;
	w->pumping = true;
	while (!c->ending && is_web(c) &&
	    (web_of(c)->call == NULL || !web_of(c)->call->taken) &&
	    http1_server_next(&web_of(c)->http, &c->dock->head, &ev))
		on_http(c, &ev);
	if (is_web(c))
		w->pumping = false;
	if (c->ending || !is_web(c) ||
	    (web_of(c)->call != NULL && web_of(c)->call->taken))
		return;
	struct http1_server *h = &web_of(c)->http;
	if (http1_server_closed(h)) {
		conn_end(c);
		return;
	}
	if (http1_server_closing(h))
		stream_shutdown(c->stream);
	settle(c);
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct web *w = web_of(c);

	if (w->call != NULL && w->call->taken) {
		buf_put(&w->call->early, (struct slice){ bytes, n });
		if (w->call->early.err != 0)
			conn_drop(c);
		return;
	}
	http1_server_feed(
	    &w->http, (struct slice){ bytes, n }, loop_now(c->dock->lane.loop));
	web_pump(c);
}

static void
on_eof(struct conn *c)
{
	struct web *w = web_of(c);

	if (w->call != NULL && w->call->taken) {
		conn_end(c);
		return;
	}
	http1_server_eof(&w->http);
	if (w->call != NULL && w->call->visit != NULL)
		gateway_left(c, w->call);
	else
		web_pump(c);
}

static void
on_drained(struct conn *c)
{
	struct call *call = web_of(c)->call;

	if (call != NULL && call->visit != NULL)
		gateway_drained(c, call);
	web_resume(c);
}

static void
on_timer(struct conn *c)
{
	struct web *w = web_of(c);

	if (w->call != NULL && w->call->taken)
		return;
	if (w->waiting && stream_queued(c->stream) < w->queued) {
		wait(c);
		return;
	}
	if (w->waiting) {
		conn_drop(c);
		return;
	}
	http1_server_expire(&w->http, loop_now(c->dock->lane.loop));
	if (w->call != NULL && w->call->visit != NULL)
		gateway_expire(c, w->call);
	web_resume(c);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct call *call = web_of(c)->call;

	/* Connections of a proxy are many clients', one after the other. */
	if (call != NULL && c->counted && ev->kind == EVENT_REPLY &&
	    ev->reply->user != NULL)
		conn_know(c, call->credential.address);
	if (call != NULL && ev->kind == EVENT_REPLY) {
		call->rate.limit = ev->reply->rate.limit;
		call->rate.left = ev->reply->rate.left;
		call->rate.reset = ev->reply->rate.reset;
	}
	if (call != NULL && call->route != NULL && call->route->event != NULL)
		call->route->event(c, call, ev);
	web_resume(c);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	struct web *w = web_of(c);

	(void)reason;
	/* Going home, a transfer is finished first. */
	if (code == WS_CODE_AWAY && w->call != NULL && w->call->visit != NULL)
		w->http.keep_alive = false;
	else
		conn_end(c);
}

static void
on_moved(struct conn *c)
{
	gateway_arrived(c, web_of(c)->call);
	web_resume(c);
}

static void
on_gone(struct conn *c, int why)
{
	struct web *w = web_of(c);

	/* What the hub let in, or is about to, is gone already. */
	c->why = why != 0 ? why : ERR_CLOSED;
	web_free_call(w);
	http1_server_fini(&w->http);
	alloc_free(w);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.drained = on_drained,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.moved = on_moved,
	.gone = on_gone,
};

static bool
is_web(const struct conn *c)
{
	return c->role == &role;
}

void
web_resume(struct conn *c)
{
	if (!c->ending && is_web(c))
		web_pump(c);
}

int
web_begin(struct conn *c)
{
	struct web *w = alloc_new(sizeof(*w));
	msec now = loop_now(c->dock->lane.loop);

	if (w == NULL)
		return ERR_NOMEM;
	http1_server_init(&w->http, &http1_times_default, BODY_DEFAULT, now);
	conn_become(c, &role, w);
	conn_wake_at(c, http1_server_deadline(&w->http));
	return 0;
}

/* Leaving HTTP ---------------------------------------------------------- */

bool
web_offers(const struct call *call, struct slice protocol)
{
	struct slice list = call->ws_protocols, one;

	while (wsopen_next_protocol(&list, &one) > 0) {
		if (slice_eq(one, protocol))
			return true;
	}
	return false;
}

void
web_leave(struct conn *c, const struct conn_role *next, void *state)
{
	struct web *w = web_of(c);

	web_free_call(w);
	http1_server_fini(&w->http);
	alloc_free(w);
	conn_become(c, next, state);
	conn_wake_at(c, INT64_MAX);
	stream_read_start(c->stream);
}

void
web_upgrade(struct conn *c, const struct conn_role *next, void *state,
    struct slice protocol, struct slice extension)
{
	struct web *w = web_of(c);
	struct call *call = w->call;
	struct buf *out = &c->dock->out;

	buf_clear(out);
	wsopen_put_answer(out, call->ws_key, protocol, extension);
	/* The call's early bytes outlive the web role. */
	struct buf early = call->early;
	buf_init(&call->early, 0);
	web_leave(c, next, state);
	if (out->err != 0) {
		conn_drop(c);
	} else if (conn_write(c, buf_peek(out))) {
		struct slice rest = buf_peek(&early);
		if (rest.len > 0)
			c->role->read(c, early.mem + early.head, rest.len);
	}
	buf_fini(&early);
}
