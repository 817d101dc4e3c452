#include "base/alloc.h"
#include "base/err.h"

#include "dialect/monitor.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/wsrole.h"

#include "server/monitor.h"

enum {
	TEXT_MAX = 64 * 1024, /* of what is not heard anyway */
	HEARTBEAT_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	COMPRESS_FROM = 1024,
	QUEUE_MAX = 64 * 1024 * 1024,
};

struct monitor {
	struct wsconn ws;
	struct watcher watcher;
	msec beat_at;
	int why;
	struct slice remote; /* owned */
};

void
monitor_setup(struct dock *d)
{
	d->monitor_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = TEXT_MAX,
		.binary_cap = TEXT_MAX,
		.compress_min = COMPRESS_FROM,
		.ping_every = HEARTBEAT_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
}

static struct monitor *
monitor_of(struct conn *c)
{
	return c->state;
}

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static void
settle(struct conn *c)
{
	struct monitor *m = monitor_of(c);

	if (!wsrole_flush(c, &m->ws))
		return;
	if (wsconn_closed(&m->ws)) {
		c->why = m->why;
		dock_farewell(c->dock, c);
		conn_end(c);
		return;
	}
	msec due = wsconn_deadline(&m->ws);
	conn_wake_at(c, due < m->beat_at ? due : m->beat_at);
}

static void
leave(struct conn *c)
{
	struct monitor *m = monitor_of(c);

	if (list_empty(&m->watcher.link))
		return;
	fanout_leave(&c->dock->fanout, &m->watcher);
	c->dock->server->counts.monitors--;
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	struct monitor *m = monitor_of(c);

	if (c->ending)
		return;
	fanout_catch_up(&m->watcher);
	leave(c);
	wsconn_close(&m->ws, code, reason, now_of(c));
	settle(c);
}

static void
say(struct conn *c, struct slice text)
{
	struct monitor *m = monitor_of(c);
	struct buf *out = &c->dock->out;

	buf_clear(out);
	if (wsconn_send(&m->ws, out, WS_TEXT, text, false) == 0)
		conn_write(c, buf_peek(out));
}

/* Reading: only to see that it is there. */
static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct monitor *m = monitor_of(c);
	struct wsconn_event ev;

	wsconn_feed(&m->ws, bytes, n, now_of(c));
	while (wsconn_next(&m->ws, &ev) > 0) {
		if (ev.kind == WS_TEXT || ev.kind == WS_BINARY)
			c->dock->server->counts.ignored++;
		else if (ev.kind == WSCONN_ERROR)
			m->why = ev.err;
	}
	settle(c);
}

static void
on_eof(struct conn *c)
{
	conn_end(c);
}

static void
beat(struct conn *c)
{
	struct monitor *m = monitor_of(c);
	struct buf *text = &c->dock->text;

	m->beat_at = now_of(c) + HEARTBEAT_EVERY;
	fanout_catch_up(&m->watcher);
	buf_clear(text);
	if (!c->ending && monitor_encode_heartbeat(clock_wall(), text) > 0)
		say(c, buf_peek(text));
}

static void
on_timer(struct conn *c)
{
	struct monitor *m = monitor_of(c);
	msec now = now_of(c);

	if (wsrole_stale(c, &m->ws)) {
		m->why = ERR_TIMEOUT;
		on_close(c, WS_CODE_AWAY, SL("stale"));
		wsrole_give_up(c);
		return;
	}
	if (wsconn_expire(&m->ws, now) != 0) {
		conn_drop(c);
		return;
	}
	if (m->beat_at <= now_of(c) && m->ws.state == WSCONN_OPEN)
		beat(c);
	settle(c);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	(void)c; /* all that concerns it is published */
	(void)ev;
}

static void
on_gone(struct conn *c, int why)
{
	struct monitor *m = monitor_of(c);

	(void)why;
	leave(c);
	log_info("monitor_closed", kv_s("remote", m->remote));
	wsconn_fini(&m->ws);
	alloc_free((void *)(uintptr_t)m->remote.ptr);
	alloc_free(m);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.gone = on_gone,
};

static void
on_slow(struct watcher *w)
{
	on_close(w->conn, WS_CODE_LATER, SL("slow"));
}

/* The handshake ------------------------------------------------------------ */

void
monitor_open(struct conn *c, struct call *call)
{
	wsrole_knock(c, call, ENTRANCE_MONITOR, false);
}

static void
refuse(struct conn *c, struct call *call, const struct denied *no)
{
	log_info("monitor_denied", kv_s("remote", call->credential.remote),
	    kv_i("status", no->status), kv_s("code", no->code));
	web_problem(c,
	    &(struct problem){ .status = no->status,
		.code = no->code,
		.text = no->text,
		.retry_after = no->retry_after });
}

static struct monitor *
new_monitor(struct conn *c, struct call *call, uint16_t audience)
{
	struct monitor *m = alloc_new(sizeof(*m));
	struct slice remote = call->credential.remote;
	uint8_t *copy = alloc_new(remote.len + 1);

	if (m == NULL || copy == NULL) {
		alloc_free(m);
		alloc_free(copy);
		return NULL;
	}
	memcpy(copy, remote.ptr, remote.len);
	m->remote = (struct slice){ copy, remote.len };
	m->beat_at = now_of(c) + HEARTBEAT_EVERY;
	list_init(&m->watcher.link);
	m->watcher.conn = c;
	m->watcher.ws = &m->ws;
	m->watcher.audience = audience;
	m->watcher.voice = VOICE_MONITOR;
	m->watcher.slow = on_slow;
	wsconn_init(&m->ws, WSCONN_SERVER, &c->dock->monitor_config, now_of(c));
	return m;
}

/* How all of them stand, then what changes. */
static void
begin(struct conn *c, const struct event *welcome)
{
	struct monitor *m = monitor_of(c);
	struct buf *text = &c->dock->text;

	fanout_join(&c->dock->fanout, &m->watcher);
	c->dock->server->counts.monitors++;
	for (size_t n = 0; !c->ending; n++) {
		buf_clear(text);
		if (monitor_encode(welcome, n, text) <= 0)
			break;
		m->watcher.allowed += buf_peek(text).len;
		say(c, buf_peek(text));
	}
	settle(c);
}

void
monitor_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct deflate_policy policy = { 0 };
	struct deflate_terms terms = { .on = false };
	struct deflate_text answer = { .len = 0 };

	if (ev->kind == EVENT_DENIED) {
		refuse(c, call, &ev->denied);
		return;
	}
	if (ev->kind != EVENT_WELCOME)
		return;
	if (conn_know(c, call->credential.address) != 0) {
		const struct denied full = { .status = 429,
			.code = SL("CONNECTION_LIMIT"),
			.text = SL("this address has its full number of "
				   "connections"),
			.retry_after = 60 };
		refuse(c, call, &full);
		return;
	}
	struct monitor *m = new_monitor(c, call, ev->welcome.audience);
	if (m == NULL) {
		conn_drop(c);
		return;
	}
	if (deflate_accept(call->ws_extensions, &policy, &terms, &answer) < 1)
		answer.len = 0;
	if (terms.on)
		wsconn_set_deflate(&m->ws, &terms);
	stream_set_cap(c->stream, QUEUE_MAX);
	log_info("monitor_opened", kv_s("remote", m->remote));
	web_upgrade(c, &role, m, (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
	if (!c->ending)
		begin(c, ev);
}
