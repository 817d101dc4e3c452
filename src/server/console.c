#include "base/alloc.h"
#include "base/err.h"

#include "io/clock.h"
#include "io/log.h"

#include "server/wsrole.h"

#include "server/console_parts.h"

enum {
	TEXT_BEFORE = 64 * 1024, /* before it has said what it is */
	TEXT_MAX = CONSOLE_TEXT_MAX,
	BINARY_MAX = CONSOLE_TEXT_MAX, /* to be refused by its kind */
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	INTRODUCE_WITHIN = 30000,
	QUEUE_MAX = 64 * 1024 * 1024,
};

void
console_setup(struct dock *d)
{
	d->console_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = TEXT_BEFORE,
		.binary_cap = BINARY_MAX,
		.compress_min = CONSOLE_PACK_MIN,
		.ping_every = PING_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
}

/* Writing ------------------------------------------------------------------ */

static msec
earliest(const struct conn *c)
{
	const struct console *s = c->state;
	msec due = wsconn_deadline(&s->ws);

	if (s->stage == CONSOLE_STAGE_GUEST && s->introduce_due < due)
		due = s->introduce_due;
	if (s->batch != NULL && s->batch->count > 0 && s->batch->due < due)
		due = s->batch->due;
	if (s->ping_due != 0 && s->ping_due < due)
		due = s->ping_due;
	if (s->desk != NULL && console_desk_deadline(c) < due)
		due = console_desk_deadline(c);
	if (s->paused && due > console_now(c) + WSROLE_PAUSE)
		due = console_now(c) + WSROLE_PAUSE;
	return due;
}

void
console_settle(struct conn *c)
{
	struct console *s = console_of(c);

	if (!wsrole_flush(c, &s->ws))
		return;
	if (wsconn_closed(&s->ws)) {
		c->why = s->why;
		console_desk_close(c);
		dock_farewell(c->dock, c);
		conn_end(c);
		return;
	}
	conn_wake_at(c, earliest(c));
}

void
console_close(struct conn *c, uint16_t code, struct slice reason, int why)
{
	struct console *s = console_of(c);

	if (c->ending)
		return;
	if (s->stage == CONSOLE_STAGE_JOINED) {
		fanout_catch_up(&s->watcher);
		console_flush(c);
	}
	console_leave(c);
	s->stage = CONSOLE_STAGE_OVER;
	if (s->why == 0)
		s->why = why;
	wsconn_close(&s->ws, code, reason, console_now(c));
	console_settle(c);
}

struct console_context
console_context(struct conn *c)
{
	return (
	    struct console_context){ .spelling = console_of(c)->peer.spelling,
		.now = clock_wall(),
		.number = ++c->dock->encoded,
		.own = true };
}

/* In gzip where it asked for that; deflate need not do it again. */
static bool
say_packed(struct conn *c, struct slice text)
{
	struct console *s = console_of(c);
	struct console_context ctx = console_context(c);
	struct buf *packed = &c->dock->fanout.pack;

	if (!s->peer.compressed)
		return false;
	buf_clear(packed);
	if (console_encode_compressed(text, &ctx, packed) <= 0)
		return false;
	c->dock->server->counts.compressed++;
	buf_clear(&c->dock->out);
	if (wsconn_send(
		&s->ws, &c->dock->out, WS_TEXT, buf_peek(packed), true) == 0)
		conn_write(c, buf_peek(&c->dock->out));
	return true;
}

void
console_say(struct conn *c, struct slice text, bool secret)
{
	struct console *s = console_of(c);
	struct buf *out = &c->dock->out;

	if (c->ending || s->ws.state != WSCONN_OPEN ||
	    (!secret && say_packed(c, text)))
		return;
	buf_clear(out);
	if (wsconn_send(&s->ws, out, WS_TEXT, text, secret) != 0)
		return;
	if (s->desk != NULL)
		c->dock->server->counts.messages_out++;
	conn_write(c, buf_peek(out));
}

void
console_tell(struct conn *c, const struct event *ev)
{
	struct console *s = console_of(c);
	struct buf *text = &c->dock->text;

	for (size_t n = 0; !c->ending; n++) {
		struct console_context ctx = console_context(c);
		buf_clear(text);
		if (console_encode(ev, &ctx, n, text) <= 0)
			return;
		/* What was asked for may be more than the mark. */
		s->watcher.allowed += buf_peek(text).len;
		console_say(c, buf_peek(text), ev->kind == EVENT_TOKEN_ENDS);
	}
}

/* Reading ------------------------------------------------------------------ */

void
console_post(struct conn *c, struct event *ev)
{
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

void
console_complain(struct conn *c, struct slice request_id, int err,
    struct slice code, struct slice field, struct slice text)
{
	struct event *ev = conn_event(c, EVENT_BAD, NULL);

	if (ev == NULL) {
		conn_drop(c);
		return;
	}
	ev->request_id = request_id;
	ev->complaint = (struct complaint){
		.err = err, .code = code, .field = field, .text = text
	};
	console_post(c, ev);
}

/* It says what it is, once. */
static void
introduce(struct conn *c, const struct console_message *m)
{
	struct console *s = console_of(c);
	bool known = s->peer.side != CONSOLE_GUEST;

	if (s->stage != CONSOLE_STAGE_GUEST || !known)
		return;
	s->stage = CONSOLE_STAGE_ASKED;
	if (s->peer.side == CONSOLE_DASHBOARD && m->has_filter)
		console_filter(c, m);
}

static void
on_event_message(
    struct conn *c, struct event *ev, const struct console_message *m)
{
	struct console *s = console_of(c);
	struct peer_id peer = ev->peer;
	wall_msec at = ev->at;

	*ev = m->event;
	ev->peer = peer;
	ev->at = at;
	if (ev->kind == EVENT_REQUEST)
		ev->request.credential.remote = s->remote;
	if (ev->kind == EVENT_BAD)
		log_info("bad_message", kv_s("remote", s->remote),
		    kv_e("err", ev->complaint.err),
		    kv_s("field", ev->complaint.field));
	if (s->desk != NULL &&
	    (ev->kind == EVENT_AGENT_STARTED || ev->kind == EVENT_AGENT_ENDED))
		console_desk_word(c, ev);
	else
		console_post(c, ev);
}

static void
acknowledge(struct conn *c, const struct console_message *m)
{
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	if (!m->wants_ack || c->ending)
		return;
	buf_clear(text);
	if (console_encode_ack(m->event.request_id, &ctx, text) > 0)
		console_say(c, buf_peek(text), false);
}

static void on_batch(
    struct conn *c, const struct console_message *m, struct arena *a);
static void on_packed(struct conn *c, struct event *ev, struct arena *a,
    const struct console_message *m);

/* What it may say. */
static void
on_allowed(struct conn *c, struct event *ev, struct arena *a,
    const struct console_message *m)
{
	/* What others come in says nothing itself. */
	if (m->word != CONSOLE_PACKED && m->word != CONSOLE_BATCH)
		introduce(c, m);
	switch (m->word) {
	case CONSOLE_EVENT:
		on_event_message(c, ev, m);
		break;
	case CONSOLE_NOTHING:
		acknowledge(c, m);
		break;
	case CONSOLE_OUTPUT:
		console_desk_output(c, m);
		acknowledge(c, m);
		break;
	case CONSOLE_REFRESH:
		console_renew(c, m);
		break;
	case CONSOLE_FILTER:
		if (console_filter(c, m))
			acknowledge(c, m);
		break;
	case CONSOLE_BATCH:
		on_batch(c, m, a);
		break;
	case CONSOLE_PACKED:
		on_packed(c, ev, a, m);
		break;
	}
}

static void
on_message_of(struct conn *c, struct event *ev, struct arena *a,
    const struct console_message *m)
{
	if (console_may_say(c, m))
		on_allowed(c, ev, a, m);
}

static void
on_packed(struct conn *c, struct event *ev, struct arena *a,
    const struct console_message *m)
{
	struct console_message inner;

	if (console_unpack(m, &console_of(c)->peer, clock_wall(), a, &inner) !=
	    0)
		conn_drop(c);
	else if (console_may_say_too(c, m, &inner))
		on_allowed(c, ev, a, &inner);
}

/* Each as if it had come by itself, until one is refused by its rate. */
static void
on_batch(struct conn *c, const struct console_message *m, struct arena *a)
{
	struct console *s = console_of(c);
	uint32_t refused = s->rate == NULL ? 0 : s->rate->refusals;
	struct console_message one;

	for (size_t i = 0; i < m->batch.count && !c->ending &&
	     s->stage != CONSOLE_STAGE_OVER &&
	     (s->rate == NULL || s->rate->refusals == refused);
	     i++) {
		struct event *ev = conn_event(c, EVENT_BAD, NULL);
		if (ev == NULL ||
		    console_decode_part(m->batch.texts[i], &s->peer,
			clock_wall(), a, &one) != 0) {
			conn_drop(c);
			return;
		}
		on_message_of(c, ev, a, &one);
	}
}

static void
on_text(struct conn *c, struct slice text)
{
	struct console *s = console_of(c);
	struct console_message m;
	struct slice copy;
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_BAD, &a);

	if (s->desk != NULL)
		c->dock->server->counts.messages_in++;
	/* The text must outlive this read: the hub sees it at the turn's
	 * end. */
	if (ev == NULL || arena_copy(a, text, &copy) != 0 ||
	    console_decode(copy, &s->peer, clock_wall(), a, &m) != 0) {
		conn_drop(c);
		return;
	}
	on_message_of(c, ev, a, &m);
}

static bool
on_message(struct conn *c, const struct wsconn_event *ev)
{
	struct console *s = console_of(c);

	if (ev->kind == WS_TEXT && s->stage != CONSOLE_STAGE_OVER)
		on_text(c, ev->data);
	else if (ev->kind == WS_BINARY && s->stage != CONSOLE_STAGE_OVER)
		console_close(
		    c, WS_CODE_TYPE, SL("binary_not_expected"), ERR_PROTOCOL);
	else if (ev->kind == WS_CLOSE && s->why == 0 && wsrole_broke(ev->code))
		s->why = ERR_CLOSED;
	else if (ev->kind == WSCONN_ERROR) {
		s->why = ev->err;
		log_info("protocol_error", kv_s("remote", s->remote),
		    kv_i("code", ev->code), kv_e("err", ev->err));
	}
	return !c->ending;
}

static void
on_read(struct conn *c, uint8_t *bytes, size_t n)
{
	struct console *s = console_of(c);
	struct wsconn_event ev;

	wsconn_feed(&s->ws, bytes, n, console_now(c));
	while (wsconn_next(&s->ws, &ev) > 0) {
		if (!on_message(c, &ev))
			return;
	}
	s->paused = wsrole_pace(c, s->paused);
	console_settle(c);
}

static void
on_eof(struct conn *c)
{
	struct console *s = console_of(c);

	if (s->ws.state == WSCONN_OPEN && s->why == 0)
		s->why = ERR_CLOSED;
	conn_end(c);
}

/* Time --------------------------------------------------------------------- */

static void
ping_upper(struct conn *c)
{
	struct console *s = console_of(c);
	struct console_context ctx = console_context(c);
	struct buf *text = &c->dock->text;

	s->ping_due = console_now(c) + PING_EVERY;
	buf_clear(text);
	if (console_encode_ping(&ctx, text) > 0)
		console_say(c, buf_peek(text), false);
}

static void
keep_time(struct conn *c)
{
	struct console *s = console_of(c);
	msec now = console_now(c);

	if (s->stage == CONSOLE_STAGE_GUEST && s->introduce_due <= now)
		console_close(
		    c, WS_CODE_POLICY, SL("auth_timeout"), ERR_TIMEOUT);
	if (s->batch != NULL && s->batch->count > 0 && s->batch->due <= now &&
	    !c->ending)
		console_flush(c);
	if (s->ping_due != 0 && s->ping_due <= now && !c->ending)
		ping_upper(c);
	if (s->desk != NULL && !c->ending)
		console_desk_expire(c);
}

static void
on_timer(struct conn *c)
{
	struct console *s = console_of(c);
	msec now = console_now(c);

	if (wsrole_stale(c, &s->ws)) {
		console_close(c, WS_CODE_AWAY, SL("stale"), ERR_TIMEOUT);
		if (!c->ending)
			console_desk_close(c);
		wsrole_give_up(c);
		return;
	}
	if (wsconn_expire(&s->ws, now) != 0) {
		conn_drop(c);
		return;
	}
	keep_time(c);
	if (c->ending)
		return;
	s->paused = wsrole_pace(c, s->paused);
	console_settle(c);
}

/* From the hub ------------------------------------------------------------- */

static void
enter(struct conn *c)
{
	struct console *s = console_of(c);

	wsconn_set_caps(&s->ws, TEXT_MAX, BINARY_MAX);
	if (s->ping_due == 0 && s->peer.spelling == CONSOLE_UPPER)
		s->ping_due = console_now(c) + PING_EVERY;
}

static void
on_reply(struct conn *c, const struct reply *r)
{
	struct console *s = console_of(c);

	if (r->op != OP_WATCH)
		return;
	if (r->err == 0 && s->stage == CONSOLE_STAGE_ASKED) {
		enter(c);
		console_join(c, r);
	} else if (r->err != 0 && s->stage == CONSOLE_STAGE_ASKED) {
		/* It may yet turn out to be an agent; until its time is up. */
		s->stage = CONSOLE_STAGE_GUEST;
	}
}

static void
on_registered(struct conn *c)
{
	struct console *s = console_of(c);

	enter(c);
	if (s->stage == CONSOLE_STAGE_AGENT)
		return;
	if (console_desk_open(c) != 0) {
		conn_drop(c);
		return;
	}
	s->stage = CONSOLE_STAGE_AGENT;
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct console *s = console_of(c);

	if (s->stage == CONSOLE_STAGE_OVER)
		return;
	if (s->stage == CONSOLE_STAGE_JOINED) {
		fanout_catch_up(&s->watcher);
		console_flush(c);
	}
	if (ev->kind == EVENT_REPLY && ev->reply->op == OP_RENEW) {
		console_renewed(c, ev);
		return;
	}
	if (console_again(c, ev))
		return;
	if (ev->kind == EVENT_REPLY)
		on_reply(c, ev->reply);
	else if (ev->kind == EVENT_REGISTERED)
		on_registered(c);
	else if (ev->kind == EVENT_ERROR && s->stage == CONSOLE_STAGE_ASKED &&
	    s->peer.side == CONSOLE_AGENT)
		s->stage = CONSOLE_STAGE_GUEST;
	if (c->ending || (s->desk != NULL && !console_desk_event(c, ev)))
		return;
	if (ev->kind != EVENT_REPLY || !console_tell_list(c, ev))
		console_tell(c, ev);
	if (!c->ending)
		console_settle(c);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	/* Who is sent away because we go is to come back. */
	console_close(c, code, reason, code == WS_CODE_AWAY ? ERR_STOPPED : 0);
}

static void
on_gone(struct conn *c, int why)
{
	struct console *s = console_of(c);

	(void)why;
	console_desk_close(c);
	console_leave(c);
	if (s->why != 0)
		c->why = s->why;
	log_info("console_closed", kv_s("remote", s->remote),
	    kv_b("agent", s->peer.side == CONSOLE_AGENT), kv_e("why", c->why));
	wsconn_fini(&s->ws);
	if (s->batch != NULL)
		buf_fini(&s->batch->texts);
	alloc_free(s->batch);
	alloc_free(s->rate);
	alloc_free(s->renewal);
	console_interest_fini(&s->interest);
	alloc_free((void *)(uintptr_t)s->remote.ptr);
	alloc_free(s);
}

static const struct conn_role role = {
	.read = on_read,
	.eof = on_eof,
	.timer = on_timer,
	.event = on_event,
	.close = on_close,
	.gone = on_gone,
};

/* The handshake ------------------------------------------------------------ */

static enum console_path
path_of(const struct call *call)
{
	struct slice path = slice_from(call->route->path);

	return slice_ends(path, SL("/dashboard")) ? CONSOLE_DASHBOARD_ONLY
	    : slice_ends(path, SL("/agent"))      ? CONSOLE_AGENT_ONLY
						  : CONSOLE_ANY;
}

void
console_open(struct conn *c, struct call *call)
{
	wsrole_knock(c, call, ENTRANCE_CONSOLE, false);
}

static struct slice
put_text(uint8_t **at, struct slice s)
{
	struct slice kept = { *at, s.len };

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return s.ptr == NULL ? (struct slice){ 0 } : kept;
}

static int
keep_texts(struct console *s, struct slice remote, const struct user_record *u)
{
	struct slice id = u == NULL ? (struct slice){ 0 } : u->id;
	struct slice name = u == NULL ? (struct slice){ 0 } : u->name;
	uint8_t *at = alloc_new(remote.len + id.len + name.len + 1);

	if (at == NULL)
		return ERR_NOMEM;
	s->remote.ptr = at;
	s->remote.len = remote.len;
	put_text(&at, remote);
	s->peer.user_id = put_text(&at, id);
	s->peer.user_name = put_text(&at, name);
	return 0;
}

static void
on_slow(struct watcher *w)
{
	/* It would not read a sentence, either. */
	console_close(w->conn, WS_CODE_LATER, SL("slow"), ERR_FULL);
}

static struct console *
new_console(struct conn *c, struct call *call, const struct user_record *u)
{
	struct console *s = alloc_new(sizeof(*s));

	if (s == NULL || keep_texts(s, call->credential.remote, u) != 0) {
		alloc_free(s);
		return NULL;
	}
	s->conn = c;
	s->peer.path = path_of(call);
	s->introduce_due = console_now(c) + INTRODUCE_WITHIN;
	list_init(&s->watcher.link);
	s->watcher.conn = c;
	s->watcher.ws = &s->ws;
	s->watcher.slow = on_slow;
	wsconn_init(
	    &s->ws, WSCONN_SERVER, &c->dock->console_config, console_now(c));
	return s;
}

static void
upgrade(struct conn *c, struct call *call, const struct user_record *u,
    enum console_stage stage)
{
	const struct deflate_policy policy = { 0 };
	struct deflate_terms terms = { .on = false };
	struct deflate_text answer = { .len = 0 };
	struct console *s = new_console(c, call, u);

	if (s == NULL) {
		conn_drop(c);
		return;
	}
	s->stage = stage;
	/* A broken offer is no reason to refuse: it is declined. */
	if (deflate_accept(call->ws_extensions, &policy, &terms, &answer) < 1)
		answer.len = 0;
	if (terms.on)
		wsconn_set_deflate(&s->ws, &terms);
	stream_set_cap(c->stream, QUEUE_MAX);
	web_upgrade(c, &role, s, (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
}

/* The upgrade first, so that a browser's page can tell why. */
static void
turn_away(struct conn *c, struct call *call, const struct denied *no)
{
	log_info("console_denied", kv_s("remote", call->credential.remote),
	    kv_i("status", no->status), kv_s("code", no->code));
	if (no->status != 401 && no->status != 403) {
		web_problem(c,
		    &(struct problem){ .status = no->status,
			.code = no->code,
			.text = no->text,
			.retry_after = no->retry_after });
		return;
	}
	struct slice reason =
	    no->err == ERR_EXPIRED ? SL("token_expired") : SL("unauthorized");
	upgrade(c, call, NULL, CONSOLE_STAGE_OVER);
	if (!c->ending)
		console_close(c, WS_CODE_POLICY, reason, 0);
}

void
console_answer(struct conn *c, struct call *call, const struct event *ev)
{
	if (ev->kind == EVENT_DENIED) {
		turn_away(c, call, &ev->denied);
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
		turn_away(c, call, &full);
		return;
	}
	upgrade(c, call, ev->welcome.user, CONSOLE_STAGE_GUEST);
	if (c->ending)
		return;
	log_info("console_opened", kv_s("remote", console_of(c)->remote));
	console_settle(c);
}
