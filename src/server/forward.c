#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/api.h"
#include "server/tally.h"
#include "server/wsrole.h"

#include "server/forward.h"
#include "server/forward_state.h"

enum {
	TEXT_MAX = 1024, /* what is refused anyway */
	BINARY_MAX = 1024 * 1024,
	QUEUE_MAX = 16 * 1024 * 1024,
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	LOOK_EVERY = 5000,
	STREAMS_MAX = 1024,
	WINDOW_MAX = 4 * 1024 * 1024,
	HELD_MAX = 32 * 1024 * 1024,
	KEPT_MAX = 64 * 1024,
};

static const struct conn_role role;

static struct forward *
forward_of(struct conn *c)
{
	return c->state;
}

static void
flush(struct forward *f)
{
	struct conn *c = f->conn;

	trunk_flush(&f->trunk);
	if (!wsrole_flush(c, &f->ws))
		return;
	if (wsconn_closed(&f->ws)) {
		conn_end(c);
		return;
	}
	msec due = wsconn_deadline(&f->ws);
	if (yamux_deadline(&f->trunk.mux) < due)
		due = yamux_deadline(&f->trunk.mux);
	if (!list_empty(&f->channels) && f->look_at < due)
		due = f->look_at;
	/* The clock on the wall may be set: looked at often enough. */
	if (f->until != 0 && forward_now(f) + LOOK_EVERY < due)
		due = forward_now(f) + LOOK_EVERY;
	if (!f->travelling)
		conn_wake_at(c, due);
}

static void
close_with(struct forward *f, uint16_t code, struct slice reason)
{
	if (f->conn->ending)
		return;
	wsconn_close(&f->ws, code, reason, forward_now(f));
	while (!list_empty(&f->channels))
		channel_drop(
		    LIST_OF(f->channels.next, struct channel, of_forward));
	flush(f);
}

void
forward_revoke(struct forward *f)
{
	close_with(f, WS_CODE_POLICY, SL("revoked"));
}

/* Asking --------------------------------------------------------------------
 */

/* Whose streams the connection has from now on. */
static int
take_agent(struct forward *f, struct slice agent_id)
{
	uint8_t *copy;

	if (slice_eq(f->agent_id, agent_id))
		return 0;
	if (f->running > 0)
		return ERR_BUSY;
	copy = alloc_new(agent_id.len + 1);
	if (copy == NULL)
		return ERR_NOMEM;
	if (agent_id.len > 0)
		memcpy(copy, agent_id.ptr, agent_id.len);
	alloc_free((void *)(uintptr_t)f->agent_id.ptr);
	f->agent_id = (struct slice){ copy, agent_id.len };
	return 0;
}

/* Its agent's link is on another lane: so will this be, and ask again. */
static void
follow_link(struct forward *f, struct channel *ch, unsigned lane)
{
	if (f->running == 0 && conn_travel(f->conn, lane) == 0) {
		f->travelling = true;
		return;
	}
	channel_refuse(ch, "controller", SL("AGENT_OFFLINE"),
	    SL("the agent's link has moved: try again"));
}

/* By this pass, whose reference is ours. */
static void
go(struct forward *f, struct channel *ch, struct pass *p)
{
	const struct tunnel_member *m = &p->grant.members[0];
	int err = take_agent(f, m->agent_id);

	if (err == 0 && m->link.lane != f->conn->dock->lane.config.index &&
	    peer_some(m->link)) {
		pass_drop(p);
		follow_link(f, ch, m->link.lane);
		return;
	}
	list_remove(&ch->waiting);
	if (err == 0) {
		channel_go(ch, p);
		return;
	}
	pass_drop(p);
	if (err == ERR_BUSY)
		channel_refuse(ch, "controller", SL("OTHER_AGENT"),
		    SL("this connection is for another agent"));
	else
		channel_drop(ch);
}

void
forward_ask(struct forward *f)
{
	while (!f->asking && !f->travelling && !f->conn->ending &&
	    !list_empty(&f->waiting)) {
		struct channel *ch =
		    LIST_OF(f->waiting.next, struct channel, waiting);
		struct pass *p =
		    pass_find(f->conn->dock, &ch->visit, &f->credential);
		if (p != NULL) {
			go(f, ch, p);
			continue;
		}
		if (pass_ask(f->conn, &ch->visit, &f->credential,
			(struct slice){ 0 }) == 0) {
			f->asking = true;
			f->asked = ch;
			return;
		}
		channel_refuse(ch, "controller", SL("OVERLOADED"),
		    SL("the controller has too much to do"));
	}
}

static void
on_reply(struct forward *f, const struct reply *r)
{
	struct channel *ch = f->asked;
	struct pass *p;

	f->asking = false;
	f->asked = NULL;
	if (ch == NULL)
		return;
	if (r->err != 0 || r->grant == NULL) {
		channel_refuse(ch, "controller", r->code, r->text);
		return;
	}
	p = pass_keep(f->conn->dock, r->grant, &f->credential);
	if (p != NULL)
		go(f, ch, p);
	else
		channel_refuse(
		    ch, "controller", SL("OVERLOADED"), SL("out of memory"));
}

/* The role ------------------------------------------------------------------
 */

static bool
on_message(struct forward *f, const struct wsconn_event *ev)
{
	if (ev->kind == WS_BINARY && f->ws.state == WSCONN_OPEN)
		trunk_feed(&f->trunk, ev->data);
	else if (ev->kind == WS_TEXT)
		close_with(f, WS_CODE_TYPE, SL("text_not_expected"));
	return !f->conn->ending;
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct forward *f = forward_of(c);
	struct wsconn_event ev;

	wsconn_feed(&f->ws, bytes, n, forward_now(f));
	while (wsconn_next(&f->ws, &ev) > 0) {
		if (!on_message(f, &ev))
			return;
	}
	flush(f);
}

static void
on_eof(struct conn *c)
{
	conn_end(c);
}

static void
on_pull(struct conn *c, size_t room)
{
	trunk_pull(&forward_of(c)->trunk, room);
}

static void
look_for_idle(struct forward *f)
{
	struct list *i = f->channels.next;
	msec now = forward_now(f);

	f->look_at = now + LOOK_EVERY;
	while (i != &f->channels) {
		struct channel *ch = LIST_OF(i, struct channel, of_forward);
		i = i->next;
		if (channel_is_idle(ch, now))
			channel_drop(ch);
	}
}

static void
on_timer(struct conn *c)
{
	struct forward *f = forward_of(c);

	if (wsconn_expire(&f->ws, forward_now(f)) != 0) {
		conn_drop(c);
		return;
	}
	if (f->until != 0 && clock_wall() >= f->until) {
		close_with(f, WS_CODE_POLICY, SL("token_expired"));
		return;
	}
	trunk_expire(&f->trunk);
	if (!c->ending && forward_now(f) >= f->look_at)
		look_for_idle(f);
	if (!c->ending)
		flush(f);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct forward *f = forward_of(c);

	if (ev->kind != EVENT_REPLY || !f->asking)
		return;
	on_reply(f, ev->reply);
	forward_ask(f);
	if (!c->ending)
		flush(f);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	close_with(forward_of(c), code, reason);
}

/* Now on the lane of its agent's link. */
static void
on_moved(struct conn *c)
{
	struct forward *f = forward_of(c);

	f->travelling = false;
	f->config.lane = &c->dock->ws;
	forward_ask(f);
	if (!c->ending)
		flush(f);
}

static void
on_gone(struct conn *c, int why)
{
	struct forward *f = forward_of(c);

	(void)why;
	/* One that is afloat has no flow, and nothing that belongs to a
	 * lane. */
	while (!list_empty(&f->channels))
		channel_drop(
		    LIST_OF(f->channels.next, struct channel, of_forward));
	trunk_end(&f->trunk);
	tally_leave(c->dock->server->forwards, f->user_id);
	c->dock->server->counts.forwards--;
	log_info("forward_closed", kv_s("user", f->user_id));
	wsconn_fini(&f->ws);
	alloc_free((void *)(uintptr_t)f->agent_id.ptr);
	arena_fini(&f->kept);
	alloc_free(f);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.pull = on_pull,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.moved = on_moved,
	.gone = on_gone,
};

static void
on_opened(struct trunk *t, uint32_t id)
{
	channel_opened(LIST_OF(t, struct forward, trunk), id);
}

static void
on_failed(struct trunk *t, int err)
{
	struct forward *f = LIST_OF(t, struct forward, trunk);

	log_info("forward_failed", kv_s("user", f->user_id), kv_e("err", err));
	close_with(f, WS_CODE_PROTOCOL, SL("yamux"));
}

static const struct trunk_ops trunk_ops = {
	.opened = on_opened,
	.failed = on_failed,
};

/* Opening -------------------------------------------------------------------
 */

static struct forward *
forward_new(struct conn *c, struct call *call, const struct reply *r)
{
	struct forward *f = alloc_new(sizeof(*f));

	if (f == NULL)
		return NULL;
	arena_init(&f->kept, KEPT_MAX);
	if (credential_copy(&f->kept, &call->credential, &f->credential) == 0 &&
	    arena_copy(&f->kept, r->user->id, &f->user_id) == 0) {
		f->conn = c;
		f->until = r->expires_at;
		list_init(&f->channels);
		list_init(&f->waiting);
		return f;
	}
	arena_fini(&f->kept);
	alloc_free(f);
	return NULL;
}

static void
start(struct forward *f, struct call *call)
{
	struct yamux_config config = yamux_defaults;
	struct conn *c = f->conn;

	f->config = (struct wsconn_config){ .lane = &c->dock->ws,
		.text_cap = TEXT_MAX,
		.binary_cap = BINARY_MAX,
		.compress_min = SIZE_MAX,
		.ping_every = PING_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
	wsconn_init(&f->ws, WSCONN_SERVER, &f->config, forward_now(f));
	config.seed = c->dock->request_base;
	config.streams_max = STREAMS_MAX;
	config.window_max = WINDOW_MAX;
	config.held_max = HELD_MAX;
	f->trunk.ops = &trunk_ops;
	f->trunk.conn = c;
	f->trunk.ws = &f->ws;
	trunk_start(&f->trunk, &config);
	f->look_at = forward_now(f) + LOOK_EVERY;
	stream_set_cap(c->stream, QUEUE_MAX);
	c->dock->server->counts.forwards++;
	log_info("forward_begun", kv_s("user", f->user_id),
	    kv_s("remote", call->credential.remote));
	web_upgrade(c, &role, f,
	    web_offers(call, SL("muster.tunnel.v1")) ? SL("muster.tunnel.v1")
						     : (struct slice){ 0 },
	    (struct slice){ 0 });
	if (!c->ending)
		flush(f);
}

void
forward_open(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct forward *f;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	/* An agent's token is nobody's. */
	f = r->user == NULL ? NULL : forward_new(c, call, r);
	if (f == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	if (tally_enter(c->dock->server->forwards, f->user_id) == 0) {
		start(f, call);
		return;
	}
	arena_fini(&f->kept);
	alloc_free(f);
	web_problem(c,
	    &(struct problem){ .status = 429,
		.code = SL("CONNECTION_LIMIT"),
		.text = SL("this user has the full number of connections"),
		.retry_after = 60 });
}
