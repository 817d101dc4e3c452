#include "base/alloc.h"
#include "base/err.h"

#include "dialect/cluster.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/credential.h"
#include "server/flow.h"
#include "server/proxy_link.h"
#include "server/stopkey.h"

#include "server/wsrole.h"

#include "server/link.h"

enum {
	TEXT_BEFORE = 64 * 1024, /* before it registered */
	TEXT_MAX = 1024 * 1024,
	BINARY_MAX = 4 * 1024 * 1024 + 64,
	HEARTBEAT_EVERY = 30000,
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	QUEUE_MAX = 16 * 1024 * 1024,
};

static struct wsconn_config *
ws_config(struct dock *d)
{
	return &d->link_config;
}

void
link_setup(struct dock *d)
{
	d->link_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = TEXT_BEFORE,
		.binary_cap = BINARY_MAX,
		.compress_min = 1024,
		.ping_every = PING_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
}

static struct link_conn *
link_of(struct conn *c)
{
	return c->state;
}

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static void
finish(struct conn *c)
{
	struct link_conn *l = link_of(c);

	if (!wsrole_flush(c, &l->ws))
		return;
	if (wsconn_closed(&l->ws)) {
		c->why = l->why;
		dock_farewell(c->dock, c);
		conn_end(c);
		return;
	}
	msec due = wsconn_deadline(&l->ws);
	if (l->mux != NULL && yamux_deadline(l->mux) < due)
		due = yamux_deadline(l->mux);
	if (l->paused && due > now_of(c) + WSROLE_PAUSE)
		due = now_of(c) + WSROLE_PAUSE;
	conn_wake_at(c, due);
}

static void
close_link(struct conn *c, uint16_t code, struct slice reason, int why)
{
	struct link_conn *l = link_of(c);

	if (l->why == 0)
		l->why = why;
	wsconn_close(&l->ws, code, reason, now_of(c));
	finish(c);
}

/* Text ----------------------------------------------------------------------
 */

int
link_say(struct link_conn *l, struct slice text)
{
	struct conn *c = l->conn;
	struct buf *out = &c->dock->out;
	uint8_t head[WS_HEAD_MAX];
	size_t n = wsconn_whole_head(&l->ws, WS_TEXT, text.len, head);
	bool there;

	if (n > 0) {
		there = conn_write2(c, (struct slice){ head, n }, text);
	} else {
		buf_clear(out);
		int err = wsconn_send(&l->ws, out, WS_TEXT, text, false);
		if (err != 0)
			return err == ERR_CLOSED ? ERR_GONE : err;
		there = conn_write(c, buf_peek(out));
	}
	if (!there)
		return ERR_GONE;
	c->dock->server->counts.messages_out++;
	return 0;
}

static void
say(struct conn *c, struct slice text)
{
	link_say(link_of(c), text);
}

/* It may announce other things when it registers again. */
static void
note_features(struct link_conn *l, const struct registration *r)
{
	l->features = (struct proxy_features){
		.proxy = r->proxies,
		.gateway = r->gateways,
		.streaming = r->bodies_stream,
		.response_streaming = r->answers_stream,
	};
}

static void
on_text(struct conn *c, struct slice text)
{
	struct link_conn *l = link_of(c);
	struct arena *a;
	struct slice copy;

	c->dock->server->counts.messages_in++;
	if (l->proxy != NULL && proxy_link_text(l, text))
		return;
	struct event *ev = conn_event(c, EVENT_BAD, &a);
	/* The text must outlive this read: the hub sees it at the turn's
	 * end. */
	if (ev == NULL || arena_copy(a, text, &copy) != 0) {
		conn_drop(c);
		return;
	}
	struct peer_id peer = ev->peer;
	wall_msec at = ev->at;
	if (cluster_decode(copy, a, ev) != 0) {
		conn_drop(c);
		return;
	}
	ev->peer = peer;
	ev->at = at;
	if (ev->kind == EVENT_REGISTER) {
		struct registration *r = &ev->registration;
		r->native.stop.proved = stopkey_proves(
		    c->dock->server, r->agent_id, &r->native.stop);
		note_features(l, r);
	}
	if (ev->kind == EVENT_BAD)
		log_info("bad_message", kv_s("remote", link_remote(link_of(c))),
		    kv_e("err", ev->complaint.err),
		    kv_s("field", ev->complaint.field));
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

/* Streams ------------------------------------------------------------------ */

static void
on_opened(struct trunk *t, uint32_t id)
{
	flow_opened(LIST_OF(t, struct link_streams, trunk)->link, id);
}

static void
on_failed(struct trunk *t, int err)
{
	struct link_conn *l = LIST_OF(t, struct link_streams, trunk)->link;

	log_warn(
	    "mux_failed", kv_s("remote", link_remote(l)), kv_e("err", err));
	close_link(l->conn, WS_CODE_PROTOCOL, SL("yamux"), ERR_PROTOCOL);
}

static const struct trunk_ops trunk_ops = {
	.opened = on_opened,
	.failed = on_failed,
};

static void
start_mux(struct link_conn *l)
{
	struct yamux_config config = yamux_defaults;

	if (l->mux != NULL)
		return;
	struct link_streams *s = alloc_new(sizeof(*s));
	if (s == NULL) {
		conn_drop(l->conn);
		return;
	}
	s->link = l;
	list_init(&s->opening);
	list_init(&s->listeners);
	s->trunk.ops = &trunk_ops;
	s->trunk.conn = l->conn;
	s->trunk.ws = &l->ws;
	config.seed = l->conn->dock->request_base;
	trunk_start(&s->trunk, &config);
	l->mux = &s->trunk.mux;
	flow_link_ready(l);
}

static void
end_mux(struct link_conn *l)
{
	struct link_streams *s;

	if (l->mux == NULL)
		return;
	s = link_streams(l);
	trunk_end(&s->trunk);
	/* They are ordered anew when the agent is back. */
	while (list_pop(&s->opening) != NULL)
		continue;
	l->mux = NULL;
	alloc_free(s);
}

void
link_agree(struct link_conn *l, bool agreed)
{
	struct arena *a;

	if (!l->offered)
		return;
	l->offered = false;
	log_info("yamux_answered", kv_s("remote", link_remote(l)),
	    kv_b("agreed", agreed));
	if (!agreed)
		return;
	start_mux(l);
	if (l->conn->ending)
		return;
	struct event *ev = conn_event(l->conn, EVENT_SPEECH, &a);
	if (ev == NULL) {
		conn_drop(l->conn);
		return;
	}
	ev->speech = TUNNEL_STREAMS_V1;
	if (dock_post(l->conn->dock, ev) != 0)
		conn_drop(l->conn);
}

static void
on_binary(struct conn *c, struct slice data)
{
	struct link_conn *l = link_of(c);

	if (l->mux == NULL && l->proxy != NULL) {
		proxy_link_frame(l, data);
		return;
	}
	if (l->mux == NULL) {
		close_link(
		    c, WS_CODE_TYPE, SL("binary_not_expected"), ERR_PROTOCOL);
		return;
	}
	trunk_feed(link_trunk(l), data);
}

static void
on_pull(struct conn *c, size_t room)
{
	if (link_of(c)->mux != NULL)
		trunk_pull(link_trunk(link_of(c)), room);
}

/* The role
 * ---------------------------------------------------------------------- */

static bool
on_message(struct conn *c, const struct wsconn_event *ev)
{
	struct link_conn *l = link_of(c);

	switch (ev->kind) {
	case WS_TEXT:
		on_text(c, ev->data);
		break;
	case WS_BINARY:
		on_binary(c, ev->data);
		break;
	case WS_PONG:
		if (l->proxy != NULL)
			proxy_link_pong(l, ev->data);
		break;
	case WS_CLOSE:
		if (l->why == 0 && wsrole_broke(ev->code))
			l->why = ERR_CLOSED;
		break;
	case WSCONN_ERROR:
		l->why = ev->err;
		log_info("protocol_error", kv_s("remote", link_remote(l)),
		    kv_i("code", ev->code), kv_e("err", ev->err));
		break;
	default:
		break;
	}
	return !c->ending;
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct link_conn *l = link_of(c);
	struct wsconn_event ev;

	wsconn_feed(&l->ws, bytes, n, now_of(c));
	while (wsconn_next(&l->ws, &ev) > 0) {
		if (!on_message(c, &ev))
			return;
	}
	if (l->mux != NULL)
		trunk_flush(link_trunk(l));
	l->paused = wsrole_pace(c, l->paused);
	finish(c);
}

static void
on_eof(struct conn *c)
{
	struct link_conn *l = link_of(c);

	if (l->ws.state == WSCONN_OPEN && l->why == 0)
		l->why = ERR_CLOSED;
	conn_end(c);
}

static void
on_timer(struct conn *c)
{
	struct link_conn *l = link_of(c);
	msec now = now_of(c);

	if (wsrole_stale(c, &l->ws)) {
		close_link(c, WS_CODE_AWAY, SL("stale"), ERR_TIMEOUT);
		wsrole_give_up(c);
		return;
	}
	if (wsconn_expire(&l->ws, now) != 0) {
		conn_drop(c);
		return;
	}
	if (l->mux != NULL)
		trunk_expire(link_trunk(l));
	l->paused = wsrole_pace(c, l->paused);
	finish(c);
}

static struct cluster_context
context(const struct conn *c)
{
	return (struct cluster_context){
		.tunnel_origin = ours_tunnel_origin(c->dock->server),
		.now = clock_wall(),
		.heartbeat_ms = HEARTBEAT_EVERY,
		.message_max = TEXT_MAX,
	};
}

/* What it says of stops gets the mac that the agent keeps. */
static void
prove(struct conn *c, struct event *ev, struct stop_order *stop)
{
	const struct server *s = c->dock->server;

	if (ev->kind == EVENT_STOP_ORDER) {
		stopkey_sign(s, &ev->stop);
	} else if (ev->kind == EVENT_REGISTERED &&
	    ev->registered.stop != NULL) {
		*stop = *ev->registered.stop;
		stopkey_sign(s, stop);
		ev->registered.stop = stop;
	}
}

/* An agent of another program's, registered. */
static void
begin_proxying(struct link_conn *l)
{
	struct buf *text = &l->conn->dock->text;

	if (!l->features.proxy)
		return;
	if (proxy_link_open(l, &l->features) != 0) {
		conn_drop(l->conn);
		return;
	}
	wsconn_set_caps(&l->ws, PROXY_LINK_TEXT, PROXY_LINK_TEXT);
	if (!l->features.gateway || l->mux != NULL || l->offered)
		return;
	buf_clear(text);
	if (proxy_put_hello(clock_wall(), text) == 0) {
		l->offered = true;
		link_say(l, buf_peek(text));
	}
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct link_conn *l = link_of(c);
	struct cluster_context ctx = context(c);
	struct buf *text = &c->dock->text;

	struct event proven = *ev;
	struct stop_order stop;

	buf_clear(text);
	prove(c, &proven, &stop);
	if (cluster_encode(&proven, &ctx, text) != 0)
		return;
	say(c, buf_peek(text));
	if (c->ending || ev->kind != EVENT_REGISTERED)
		return;
	wsconn_set_caps(&l->ws, TEXT_MAX, BINARY_MAX);
	if (ev->registered.native && l->native)
		start_mux(l);
	else
		begin_proxying(l);
	if (!c->ending)
		finish(c);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	close_link(c, code, reason, 0);
}

static void
on_drained(struct conn *c)
{
	struct link_conn *l = link_of(c);

	if (l->proxy != NULL)
		proxy_link_drained(l);
}

static void
on_gone(struct conn *c, int why)
{
	struct link_conn *l = link_of(c);

	(void)why;
	flow_link_gone(l);
	end_mux(l);
	proxy_link_close(l);
	if (l->why != 0)
		c->why = l->why;
	c->dock->server->counts.links--;
	log_info(
	    "link_closed", kv_s("remote", link_remote(l)), kv_e("why", c->why));
	wsconn_fini(&l->ws);
	alloc_free(l);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.pull = on_pull,
	.drained = on_drained,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.gone = on_gone,
};

struct link_conn *
link_find(struct dock *d, struct peer_id peer)
{
	struct conn *c = dock_find(d, peer);

	if (c == NULL || c->ending || c->role != &role)
		return NULL;
	return link_of(c);
}

bool
link_is(const struct conn *c)
{
	return c->role == &role;
}

void
link_drain(struct conn *c, msec spread)
{
	struct cluster_context ctx = context(c);
	struct buf *text = &c->dock->text;

	if (c->role != &role || c->ending)
		return;
	buf_clear(text);
	if (link_of(c)->native &&
	    cluster_encode_reconnect(0, spread, &ctx, text) == 0)
		say(c, buf_peek(text));
	if (!c->ending)
		/* It is to come back: its going is no goodbye. */
		close_link(c, WS_CODE_AWAY, SL("draining"), ERR_STOPPED);
}

/* The handshake
 * ------------------------------------------------------------------ */

static void
challenge(struct conn *c, struct call *call)
{
	web_problem(c,
	    &(struct problem){ .status = 401,
		.challenge =
		    credential_challenge(c->dock->server, &call->arena),
		.text = SL("prove the agent's key, or give a token") });
}

void
link_open(struct conn *c, struct call *call)
{
	bool native = web_offers(call, SL("muster.v1"));

	if (native && call->credential.kind == CREDENTIAL_NONE) {
		challenge(c, call);
		return;
	}
	wsrole_knock(c, call, ENTRANCE_CLUSTER_LINK, native);
}

static void
denied(struct conn *c, struct call *call, const struct denied *no)
{
	bool native = web_offers(call, SL("muster.v1"));

	log_info("link_denied", kv_s("remote", call->credential.remote),
	    kv_i("status", no->status), kv_s("code", no->code));
	web_problem(c,
	    &(struct problem){ .status = no->status,
		.code = no->code,
		.text = no->text,
		.retry_after = no->retry_after,
		.challenge = native
		    ? credential_challenge(c->dock->server, &call->arena)
		    : (struct slice){ 0 } });
}

static struct link_conn *
new_link(struct conn *c, struct call *call)
{
	struct slice remote = call->credential.remote;
	struct link_conn *l = alloc_new(sizeof(*l) + remote.len);

	if (l == NULL)
		return NULL;
	if (remote.len > 0)
		memcpy(l->remote, remote.ptr, remote.len);
	l->remote_len = remote.len;
	l->conn = c;
	list_init(&l->hopeful);
	l->native = web_offers(call, SL("muster.v1"));
	wsconn_init(&l->ws, WSCONN_SERVER, ws_config(c->dock), now_of(c));
	/* What it still holds of its commands comes in its first message. */
	if (l->native)
		wsconn_set_caps(&l->ws, TEXT_MAX, BINARY_MAX);
	return l;
}

void
link_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct deflate_policy policy = { 0 };
	struct deflate_terms terms = { .on = false };
	struct deflate_text answer = { .len = 0 };

	if (ev->kind == EVENT_DENIED) {
		denied(c, call, &ev->denied);
		return;
	}
	if (ev->kind != EVENT_WELCOME)
		return;
	/* A broken offer is no reason to refuse: it is declined. */
	if (deflate_accept(call->ws_extensions, &policy, &terms, &answer) < 1)
		answer.len = 0;
	if (conn_know(c, call->credential.address) != 0) {
		const struct denied full = { .status = 429,
			.code = SL("CONNECTION_LIMIT"),
			.text = SL("this address has its full number of "
				   "connections"),
			.retry_after = 60 };
		denied(c, call, &full);
		return;
	}
	struct link_conn *l = new_link(c, call);
	if (l == NULL) {
		conn_drop(c);
		return;
	}
	if (terms.on)
		wsconn_set_deflate(&l->ws, &terms);
	c->dock->server->counts.links++;
	stream_set_cap(c->stream, QUEUE_MAX);
	log_info("link_opened", kv_s("remote", link_remote(l)),
	    kv_b("native", l->native));
	web_upgrade(c, &role, l,
	    l->native ? SL("muster.v1") : (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
	if (!c->ending)
		finish(c);
}
