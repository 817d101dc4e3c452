#include "base/alloc.h"
#include "base/err.h"

#include "wire/http1_wsopen.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/flow_pool.h"
#include "server/sites.h"
#include "server/wall.h"

#include "server/gateway_parts.h"

/*
 * Design notes.
 *
 * A request whose visitor is known already (pass_find) is on its way before
 * the call that brought it returns.  Else the head is copied, the hub is
 * asked, and what was read of the body meanwhile (at most one read) waits in
 * early.
 *
 * Backpressure.  Towards the service: exchange_above_high stops the reading
 * of the visitor, and drained starts it.  Towards the visitor: bytes are
 * written to its connection and consumed at once while little waits there;
 * above its high mark they are owed, and paid when it has drained.  Nothing is
 * buffered here.
 *
 * An answer that has begun and cannot be ended is cut: the visitor's
 * connection closes in the middle, so that it can tell.
 */

enum {
	EARLY_MAX = 1024 * 1024, /* one read, and what TLS had */
	LOW_MARK = 64 * 1024,
	HIGH_MARK = 256 * 1024,
	RETRY_AFTER = 5,                /* seconds */
	MOVES_MAX = 3,                  /* after agents that move themselves */
	MESSAGE_MAX = 10 * 1024 * 1024, /* where there are messages */
};

/* Between two pieces of a body as long as nothing is answered; afterwards the
 * idle limit counts. */
static const struct http1_times times = {
	.head = 10000,
	.body = 60000,
	.idle = 60000,
	.linger = 2000,
};
/* Ends ---------------------------------------------------------------------
 */

void
gateway_forget(struct call *call)
{
	struct visit *v = call->visit;

	if (v == NULL)
		return;
	call->visit = NULL;
	if (!v->afloat)
		dock_tunnel(v->conn->dock, -1);
	exchange_drop(v->exchange);
	pass_leave(&v->holder);
	if (v->pass != NULL)
		pass_drop(v->pass);
	buf_fini(&v->early);
	alloc_free(v);
}

void
gateway_setup(struct dock *d)
{
	d->tunnel_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = MESSAGE_MAX,
		.binary_cap = MESSAGE_MAX,
		.compress_min = SIZE_MAX,
		.ping_every = 30000,
		.dead_after = 120000,
		.close_within = 10000 };
}

void
gateway_fini(struct dock *d)
{
	flow_pool_end(d);
}

/* Answer by a page; the visit is gone afterwards. */
void
gateway_fail(struct visit *v, const struct gateway_no *no, int err)
{
	gateway_log_failed(v, no, err);
	if (v->probe != NULL)
		gateway_probe_failed(v, no);
	else
		gateway_refuse(v->conn, no);
}

void
gateway_fail_for(struct visit *v, enum exchange_hop hop, int status, int err,
    struct slice code, struct slice text)
{
	const struct gateway_no no = { .hop = hop,
		.status = status,
		.code = code,
		.text = text,
		.retry_after = status == 503 ? RETRY_AFTER : 0 };

	gateway_fail(v, &no, err);
}

static void
refuse_no_memory(struct visit *v)
{
	gateway_fail_for(v, HOP_CONTROLLER, 503, ERR_NOMEM, SL("OVERLOADED"),
	    SL("the controller is out of memory"));
}

/* It was begun and cannot be ended. */
void
gateway_cut(struct visit *v, struct slice why, int err)
{
	struct conn *c = v->conn;
	/* Only the connection's end tells the end of this one: by RST, so
	 * that it is not taken for a good one. */
	bool by_close = visit_http(v)->sender.how == HTTP1_SEND_CLOSE;

	gateway_log_cut(v, why, err);
	web_free_call(web_of(c));
	if (by_close)
		conn_drop(c);
	else
		conn_end(c);
}

/* Of a pass that is withdrawn. */
static void
on_cut(struct pass_holder *h, struct slice why)
{
	struct visit *v = LIST_OF(h, struct visit, holder);
	struct conn *c = v->conn;

	if (v->answered) {
		gateway_cut(v, why, ERR_REVOKED);
		return;
	}
	gateway_fail_for(v, HOP_CONTROLLER, 503, ERR_REVOKED, SL("WITHDRAWN"),
	    SL("the way to this service was closed meanwhile"));
	web_resume(c);
}

void
gateway_left(struct conn *c, struct call *call)
{
	gateway_log_cut(call->visit, SL("visitor_gone"), ERR_CLOSED);
	web_free_call(web_of(c));
	conn_end(c);
}

/* Going ---------------------------------------------------------------------
 */

static int
start(struct visit *v, const struct tunnel_member *m)
{
	const struct exchange_order order = { .link = m->link,
		.agent_id = m->agent_id,
		.speech = m->speech,
		.target = &v->pass->grant.target,
		.connect_within = v->connect_within,
		.answer_within = v->answer_within,
		.request_id = v->call->request_id,
		.ask = &v->ask,
		.fresh = v->probe != NULL,
		.tls = v->call->tls };

	/* A stream and who uses it live on one loop. */
	if (m->link.lane != v->conn->id.lane) {
		v->bound = true;
		v->lane = m->link.lane;
		return ERR_AGAIN;
	}
	if (v->probe != NULL)
		gateway_probe_start(v);
	v->agent = m->name;
	v->agent_id = m->agent_id;
	return exchange_start(v->conn->dock, &order, v->ops, v, &v->exchange);
}

/* The exchange cannot be begun. */
static void
refuse_start(struct visit *v, int err)
{
	if (err == ERR_GONE)
		gateway_fail_for(v, HOP_AGENT, 503, err, SL("AGENT_AWAY"),
		    SL("the agent is not connected"));
	else if (err == ERR_BUSY || err == ERR_FULL)
		gateway_fail_for(v, HOP_AGENT, 503, err, SL("AGENT_BUSY"),
		    SL("the agent carries as many streams as it can"));
	else if (err == ERR_UNSUPPORTED)
		gateway_fail_for(v, HOP_AGENT, 502, err, SL("AGENT_UNABLE"),
		    SL("this agent cannot carry such a connection"));
	else if (err == ERR_INVALID || err == ERR_TOO_BIG)
		gateway_fail_for(v, HOP_VISITOR, 400, err,
		    SL("INVALID_REQUEST"),
		    SL("the request cannot be passed on"));
	else
		refuse_no_memory(v);
}

/* What came before the exchange was there. */
static void
hand_over(struct visit *v)
{
	struct slice early = buf_peek(&v->early);

	if (early.len > 0 && exchange_write(v->exchange, early) != 0)
		return;
	buf_fini(&v->early);
	buf_init(&v->early, EARLY_MAX);
	if (v->whole && !v->websocket)
		exchange_end(v->exchange, v->trailers, v->trailer_count);
}

static void
go(struct visit *v)
{
	const struct tunnel_member *m = pass_choose(v->conn->dock, v->pass,
	    v->key[0] != '\0' ? slice_from(v->key)
			      : v->call->credential.address);
	int err;

	if (m == NULL) {
		refuse_start(v, ERR_GONE);
		return;
	}
	if (v->pass->grant.member_count < 2)
		v->new_key = false;
	err = start(v, m);
	if (err == ERR_AGAIN)
		return;
	if (err != 0) {
		refuse_start(v, err);
		return;
	}
	v->holder.cut = on_cut;
	pass_enter(v->pass, &v->holder);
	hand_over(v);
}

/* The request with its head at hand. */
static void
go_with(struct visit *v, const struct http1_head *h)
{
	int err = hop_request(&v->hop, h, &v->call->arena, &v->ask);

	if (err == ERR_NOMEM) {
		refuse_no_memory(v);
	} else if (err == ERR_MISSING) {
		gateway_fail_for(v, HOP_VISITOR, 400, err,
		    SL("INVALID_REQUEST"), SL("the request names no host"));
	} else if (err != 0) {
		refuse_start(v, ERR_INVALID);
	} else {
		if (v->websocket)
			gateway_log_upgrade(v);
		go(v);
	}
}

/* A member that could not reach the service: perhaps another can, when
 * nothing of the body has gone the same way. */
bool
gateway_try_another(struct visit *v)
{
	struct dock *d = v->conn->dock;
	const struct tunnel_member *m;

	pass_blame(d, v->agent_id, &v->pass->grant.target);
	if (v->again || v->ask.length != 0 || v->pass->grant.member_count < 2)
		return false;
	v->again = true;
	m = pass_choose(d, v->pass,
	    v->key[0] != '\0' ? slice_from(v->key)
			      : v->call->credential.address);
	if (m == NULL || slice_eq(m->agent_id, v->agent_id))
		return false;
	exchange_drop(v->exchange);
	v->exchange = NULL;
	int err = start(v, m);
	if (err != 0)
		return err == ERR_AGAIN;
	if (!v->websocket)
		exchange_end(v->exchange, NULL, 0);
	return true;
}

/* Asking --------------------------------------------------------------------
 */

static int
ask_hub(struct visit *v)
{
	return pass_ask(
	    v->conn, &v->what, &v->call->credential, v->call->request_id);
}

/* The question is on its way, unless err. */
static void
ask_for(struct visit *v, int err)
{
	if (err == ERR_FULL)
		gateway_fail_for(v, HOP_CONTROLLER, 503, err, SL("OVERLOADED"),
		    SL("the controller has too much to do"));
	else if (err != 0)
		refuse_no_memory(v);
	else
		v->asking = true;
}

void
gateway_ask(struct visit *v)
{
	ask_for(v, ask_hub(v));
}

static void
ask(struct visit *v, const struct http1_head *h)
{
	int err = arena_copy(&v->call->arena, h->bytes, &v->head);

	ask_for(v, err != 0 ? err : ask_hub(v));
}

/* The copied head once more. */
static void
go_from_copy(struct visit *v)
{
	struct http1_head *h = &v->conn->dock->head;

	http1_head_init(h);
	if (http1_parse_request(h, v->head) <= 0)
		refuse_no_memory(v);
	else
		go_with(v, h);
}

static void
on_reply(struct conn *c, struct call *call, const struct event *ev)
{
	struct visit *v = call->visit;
	const struct reply *r = ev->reply;

	if (ev->kind != EVENT_REPLY || v == NULL || !v->asking)
		return;
	v->asking = false;
	if (r->err != 0) {
		struct gateway_no no = {
			.hop = r->status >= 500 ? HOP_AGENT : HOP_VISITOR,
			.status = r->status,
			.code = r->code,
			.text = r->text,
			.retry_after = r->retry_after == 0 && r->status == 503
			    ? RETRY_AFTER
			    : r->retry_after,
		};
		if (r->status == 401)
			wall_lead(v, &no);
		gateway_fail(v, &no, r->err);
		return;
	}
	v->pass = pass_keep(c->dock, r->grant, &call->credential);
	if (v->pass == NULL)
		refuse_no_memory(v);
	else if (v->ask.method.ptr != NULL)
		go(v); /* it was on another lane before */
	else
		go_from_copy(v);
}

/* Moving -------------------------------------------------------------------
 */

enum gateway_way
gateway_depart(struct conn *c, struct call *call)
{
	struct visit *v = call->visit;
	struct dock *d = c->dock;

	if (v->afloat)
		return GATEWAY_LEFT;
	if (!v->bound)
		return GATEWAY_STAYS;
	v->bound = false;
	/* What is remembered belongs to this lane. */
	pass_leave(&v->holder);
	pass_drop(v->pass);
	v->pass = NULL;
	v->agent = v->agent_id = (struct slice){ 0 };
	if (++v->moves > MOVES_MAX || conn_travel(c, v->lane) != 0) {
		gateway_fail_for(v, HOP_CONTROLLER, 503, ERR_BUSY,
		    SL("OVERLOADED"),
		    SL("the agent's link was not where it was said to be"));
		return GATEWAY_ANSWERED;
	}
	dock_tunnel(d, -1);
	v->afloat = true;
	return GATEWAY_LEFT;
}

void
gateway_arrived(struct conn *c, struct call *call)
{
	struct visit *v = call->visit;

	v->afloat = false;
	dock_tunnel(c->dock, 1);
	v->pass = pass_find(c->dock, &v->what, &call->credential);
	if (v->pass != NULL)
		go(v);
	else
		ask_for(v, ask_hub(v));
}

/* Beginning -----------------------------------------------------------------
 */

static const struct route tunnelled = {
	.method = "GET", .path = "/", .event = on_reply
};

static int
check_handshake(
    struct visit *v, const struct http1_head *h, struct gateway_no *no)
{
	struct wsopen_request r;
	struct wsopen_verdict verdict;

	if (http1_wsopen_request(h, &v->call->arena, &r) != 0)
		return ERR_NOMEM;
	v->websocket = wsopen_wanted(&r);
	if (!v->websocket || wsopen_check_request(&r, &verdict) == 0)
		return 0;
	*no = (struct gateway_no){ .hop = HOP_VISITOR,
		.status = verdict.status,
		.code = SL("BAD_HANDSHAKE"),
		.text = verdict.reason };
	return ERR_DENIED;
}

/* What the controller itself has against any request. */
static int
check_room(const struct visit *v, struct gateway_no *no)
{
	const struct server *s = v->conn->dock->server;

	if (!s->short_of_memory && !v->conn->reserve)
		return 0;
	*no = (struct gateway_no){ .hop = HOP_CONTROLLER,
		.status = 503,
		.code = s->short_of_memory ? SL("SHORT_OF_MEMORY")
					   : SL("OVERLOADED"),
		.text = s->short_of_memory
		    ? SL("the controller is short of memory")
		    : SL("the controller has no connection to spare"),
		.retry_after = 5 };
	return ERR_DENIED;
}

struct visit *
gateway_visit(struct conn *c, struct call *call)
{
	struct visit *v = alloc_new(sizeof(*v));

	if (v == NULL)
		return NULL;
	v->conn = c;
	v->call = call;
	v->ops = &gateway_ops;
	v->began = v->active = visit_now(c);
	buf_init(&v->early, EARLY_MAX);
	list_init(&v->holder.link);
	call->visit = v;
	dock_tunnel(c->dock, 1);
	call->route = &tunnelled;
	return v;
}

void
gateway_begin(struct conn *c, struct call *call, const struct http1_head *h)
{
	struct http1_server *http = &web_of(c)->http;
	struct visit *v = gateway_visit(c, call);
	struct gateway_no no;
	int err;

	if (v == NULL) {
		conn_drop(c);
		return;
	}
	c->dock->server->counts.tunnel_requests++;
	http1_server_allow(http, UINT64_MAX);
	http1_server_trailers(http);
	http1_server_pace(http, &times, v->began);
	stream_set_marks(c->stream, LOW_MARK, HIGH_MARK);
	err = check_room(v, &no);
	if (err == 0)
		err = check_handshake(v, h, &no);
	if (err == 0)
		err = gateway_locate(v, h, &no);
	if (err == ERR_DENIED) {
		gateway_fail(v, &no, err);
		return;
	}
	if (err != 0) {
		refuse_no_memory(v);
		return;
	}
	v->pass = pass_find(c->dock, &v->what, &call->credential);
	if (v->pass != NULL)
		go_with(v, h);
	else
		ask(v, h);
}

/* The request's body -------------------------------------------------------
 */

/* The service is behind: the visitor waits, and its time does, too. */
static void
look_behind(struct visit *v)
{
	if (v->held || v->exchange == NULL || !exchange_above_high(v->exchange))
		return;
	v->held = true;
	http1_server_hold(visit_http(v), true, visit_now(v->conn));
}

void
gateway_body(struct conn *c, struct call *call, struct slice data)
{
	struct visit *v = call->visit;

	v->active = visit_now(c);
	v->to_service += data.len;
	if (v->exchange == NULL) {
		buf_put(&v->early, data);
		if (v->early.err != 0)
			refuse_no_memory(v);
		return;
	}
	/* What it says of that comes by failed. */
	if (exchange_write(v->exchange, data) == 0)
		look_behind(v);
}

static int
keep_trailers(struct visit *v, const struct http1_head *trailers)
{
	return trailers == NULL
	    ? 0
	    : hop_trailers(&v->hop, trailers, &v->call->arena, &v->trailers,
		  &v->trailer_count);
}

void
gateway_end(
    struct conn *c, struct call *call, const struct http1_head *trailers)
{
	struct visit *v = call->visit;

	(void)c;
	v->whole = true;
	if (keep_trailers(v, trailers) != 0)
		refuse_no_memory(v);
	else if (v->exchange != NULL && !v->websocket)
		exchange_end(v->exchange, v->trailers, v->trailer_count);
}

/* What web asks ------------------------------------------------------------
 */

bool
gateway_reads(const struct visit *v, const struct http1_server *h)
{
	if (v->asking || v->held || v->bound || v->afloat)
		return false;
	/* To see the visitor's end, but not what comes behind the request. */
	return http1_server_hungry(h) ||
	    (http1_server_room(h) >= HTTP1_AHEAD_BYTES);
}

void
gateway_drained(struct conn *c, struct call *call)
{
	struct visit *v = call->visit;
	size_t owed = v->owed;

	(void)c;
	v->owed = 0;
	if (v->exchange != NULL)
		exchange_consume(v->exchange, owed);
}

msec
gateway_due(const struct visit *v)
{
	return v->active + v->idle_within;
}

void
gateway_expire(struct conn *c, struct call *call)
{
	struct visit *v = call->visit;

	if (visit_now(c) < gateway_due(v))
		return;
	if (v->answered)
		gateway_cut(v, SL("idle"), ERR_TIMEOUT);
	else
		gateway_fail_for(v, HOP_SERVICE, 504, ERR_TIMEOUT,
		    SL("ANSWER_TIMEOUT"),
		    SL("nothing came from either end for too long"));
}
