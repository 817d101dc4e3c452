#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/clone.h"

#include "io/clock.h"
#include "io/log.h"
#include "io/rand.h"

#include "server/noncebook.h"
#include "server/wsrole.h"

#include "server/signed_parts.h"

enum {
	TEXT_BEFORE = 64 * 1024, /* before it is believed */
	TEXT_MAX = 1 << 20,
	HELD_MAX = 1 << 20, /* what it says until the hub has answered */
	PING_EVERY = 30000,
	DEAD_AFTER = 60000,
	CLOSE_WITHIN = 10000,
	PROVE_WITHIN = 10000,
	COMPRESS_FROM = 1024,
	QUEUE_MAX = 1 << 20,
	SCRATCH_MAX = 4 << 20,
};

void
signed_setup(struct dock *d)
{
	d->signed_config = (struct wsconn_config){ .lane = &d->ws,
		.text_cap = TEXT_BEFORE,
		.binary_cap = TEXT_BEFORE, /* to be refused by its kind */
		.compress_min = COMPRESS_FROM,
		.ping_every = PING_EVERY,
		.dead_after = DEAD_AFTER,
		.close_within = CLOSE_WITHIN };
}

static msec
now_of(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static int
keep(struct slice *kept, struct slice s)
{
	uint8_t *copy = alloc_new(s.len + 1);

	if (copy == NULL)
		return ERR_NOMEM;
	if (s.len > 0)
		memcpy(copy, s.ptr, s.len);
	alloc_free((void *)(uintptr_t)kept->ptr);
	*kept = (struct slice){ copy, s.len };
	return 0;
}

static void
unkeep(struct slice *kept)
{
	alloc_free((void *)(uintptr_t)kept->ptr);
	*kept = (struct slice){ 0 };
}

/* Writing ------------------------------------------------------------------ */

static void
settle(struct conn *c)
{
	struct signer *s = signer_of(c);

	if (!wsrole_flush(c, &s->ws))
		return;
	if (wsconn_closed(&s->ws)) {
		c->why = s->why;
		dock_farewell(c->dock, c);
		conn_end(c);
		return;
	}
	msec due = wsconn_deadline(&s->ws);
	if (s->stage < SIGNER_LIVE && s->prove_due < due)
		due = s->prove_due;
	if (s->paused && now_of(c) + WSROLE_PAUSE < due)
		due = now_of(c) + WSROLE_PAUSE;
	conn_wake_at(c, due);
}

static void
finish(struct conn *c, uint16_t code, struct slice reason, int why)
{
	struct signer *s = signer_of(c);

	if (c->ending || s->stage == SIGNER_OVER)
		return;
	s->stage = SIGNER_OVER;
	if (s->why == 0)
		s->why = why;
	wsconn_close(&s->ws, code, reason, now_of(c));
	settle(c);
}

static void
refuse(struct conn *c, const struct signed_refusal *no)
{
	struct signer *s = signer_of(c);

	log_info("signed_refused", kv_s("remote", s->remote),
	    kv_s("agent", s->agent_id), kv_s("reason", no->reason),
	    kv_e("err", no->err));
	c->dock->server->counts.unsigned_messages++;
	finish(c, no->code, no->reason, no->err);
}

static void
fail(struct conn *c)
{
	finish(c, WS_CODE_INTERNAL, SL("internal_error"), ERR_NOMEM);
}

/* Reading ------------------------------------------------------------------ */

static bool
post(struct conn *c, const struct event *said)
{
	struct event *ev = conn_event(c, said->kind, NULL);

	if (ev == NULL) {
		conn_drop(c);
		return false;
	}
	struct peer_id peer = ev->peer;
	wall_msec at = ev->at;
	*ev = *said;
	ev->peer = peer;
	ev->at = at;
	if (dock_post(c->dock, ev) == 0)
		return true;
	conn_drop(c);
	return false;
}

static void
drop_command(struct signer *s)
{
	if (s->given == NULL)
		return;
	live_fini(&s->given->live);
	alloc_free(s->given->command);
	alloc_free(s->given);
	s->given = NULL;
}

/* What is attached sees it before it hears that it is over. */
static void
show_result(struct conn *c, const struct outcome *o)
{
	struct given *g = signer_of(c)->given;

	if (g == NULL || !slice_eq(g->command->id, o->command_id))
		return;
	live_to_viewer(c->dock, &g->live, g->viewer, OUTPUT_OUT, 0, o->out);
	live_to_viewer(c->dock, &g->live, g->viewer, OUTPUT_ERR, 0, o->err);
	c->dock->server->counts.output_bytes += o->out.len + o->err.len;
}

static void
on_word(struct conn *c, const struct signed_message *m)
{
	struct signer *s = signer_of(c);

	if (m->word == SIGNED_EVENT) {
		if (m->event.kind == EVENT_AGENT_ENDED)
			show_result(c, &m->event.outcome);
		post(c, &m->event);
	} else if (m->word == SIGNED_BAD) {
		log_info("bad_message", kv_s("agent", s->agent_id),
		    kv_s("field", m->field));
	} else if (m->word == SIGNED_STRAY) {
		log_info("late_result", kv_s("agent", s->agent_id),
		    kv_s("verb", m->verb));
	} else if (m->word == SIGNED_DROPPED) {
		c->dock->server->counts.limited++;
	} else if (m->word == SIGNED_IGNORED) {
		c->dock->server->counts.ignored++;
	}
}

/* The first that is believed. */
static bool
begin(struct conn *c)
{
	struct signer *s = signer_of(c);

	if (s->stage != SIGNER_KNOWN)
		return true;
	if (conn_know(c, s->address) != 0) {
		finish(c, WS_CODE_LATER, SL("connection_limit"), ERR_LIMITED);
		return false;
	}
	s->stage = SIGNER_LIVE;
	s->counted = true;
	c->dock->server->counts.links++;
	wsconn_set_caps(&s->ws, TEXT_MAX, TEXT_BEFORE);
	log_info("signed_opened", kv_s("agent", s->agent_id),
	    kv_s("remote", s->remote));
	return true;
}

/* It was verified. */
static void
on_envelope(struct conn *c, const struct signed_envelope *e, struct arena *a)
{
	struct signer *s = signer_of(c);
	struct signed_message m;
	struct nonce x;
	int err = nonce_of(&c->dock->canon.hasher, s->owner, e->nonce, &x);

	if (err == 0)
		err = noncebook_take(c->dock->server->noncebook, &x, now_of(c));
	struct signed_refusal no = signed_nonce_refusal(err);

	if (no.code != 0) {
		refuse(c, &no);
		return;
	}
	if (!begin(c))
		return;
	const struct signed_context now = { now_of(c), clock_wall(), a };
	if (signed_decode(&s->peer, e, &now, &m, &no) != 0)
		fail(c);
	else if (no.code != 0)
		refuse(c, &no);
	else if (!m.registers || post(c, &m.registration))
		on_word(c, &m);
}

/* Somebody tries: it counts for where they are. */
static void
tell_forgery(struct conn *c, const struct signed_refusal *no)
{
	const struct event forged = { .kind = EVENT_FORGED };

	if (no->err == ERR_DENIED)
		post(c, &forged);
}

static void
verify(struct conn *c, const struct signed_envelope *e, struct arena *a)
{
	struct signer *s = signer_of(c);
	struct slice keys[SIGNED_KEYS];
	size_t n = signer_good_keys(s, keys), key = 0;
	struct signed_refusal no;

	const struct signed_judge judge = { .agent_id = s->agent_id,
		.keys = keys,
		.count = n,
		.now = clock_wall(),
		.work = &c->dock->canon };
	if (signed_check(e, &judge, &no, &key) != 0) {
		fail(c);
		return;
	}
	if (no.code == 0) {
		s->key = key;
		on_envelope(c, e, a);
		return;
	}
	tell_forgery(c, &no);
	if (!c->ending)
		refuse(c, &no);
}

/* Its first words say who it is; they wait until that can be looked at. */
static void
ask(struct conn *c, const struct signed_envelope *e)
{
	struct signer *s = signer_of(c);
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_HELLO, &a);
	struct slice id = slice_first(e->agent_id, 256);

	if (ev == NULL || keep(&s->agent_id, id) != 0 ||
	    nonce_owner(&c->dock->canon.hasher, id, &s->owner) != 0) {
		conn_drop(c);
		return;
	}
	s->peer.agent_id = s->agent_id;
	struct credential *k = &ev->hello.credential;
	ev->hello.entrance = ENTRANCE_SIGNED;
	k->kind = CREDENTIAL_SIGNED;
	c->greeted = true;
	if (arena_copy(a, s->agent_id, &k->agent_id) != 0 ||
	    arena_copy(a, s->address, &k->address) != 0 ||
	    arena_copy(a, s->remote, &k->remote) != 0 ||
	    dock_post(c->dock, ev) != 0) {
		conn_drop(c);
		return;
	}
	s->stage = SIGNER_ASKED;
	stream_read_stop(c->stream);
}

static void
hold(struct conn *c, struct slice text)
{
	struct signer *s = signer_of(c);
	const struct slice len = { (const uint8_t *)&text.len,
		sizeof(text.len) };

	buf_put(&s->held, len);
	buf_put(&s->held, text);
	if (s->held.err != 0)
		finish(c, WS_CODE_POLICY, SL("too_much"), s->held.err);
}

static void
on_text(struct conn *c, struct slice text)
{
	struct signer *s = signer_of(c);
	struct signed_envelope *e;
	struct signed_refusal no;
	struct slice copy;
	struct arena *a;

	c->dock->server->counts.messages_in++;
	if (s->stage == SIGNER_ASKED) {
		hold(c, text);
		return;
	}
	/* The text must outlive this read: the hub sees it at the turn's
	 * end. */
	if (conn_event(c, EVENT_BAD, &a) == NULL ||
	    arena_copy(a, text, &copy) != 0 ||
	    (e = arena_alloc(a, sizeof(*e))) == NULL ||
	    signed_read(copy, a, e, &no) != 0) {
		fail(c);
		return;
	}
	if (no.code != 0) {
		refuse(c, &no);
	} else if (s->stage == SIGNER_GUEST) {
		ask(c, e);
		if (!c->ending)
			hold(c, text);
	} else {
		verify(c, e, a);
	}
}

/* The hub has answered: what was said meanwhile. */
static void
go_on(struct conn *c)
{
	struct signer *s = signer_of(c);
	struct buf held = s->held;
	size_t len;

	buf_init(&s->held, HELD_MAX);
	s->stage = SIGNER_KNOWN;
	for (struct slice rest = buf_peek(&held);
	     rest.len > 0 && !c->ending && s->stage != SIGNER_OVER;) {
		memcpy(&len, rest.ptr, sizeof(len));
		rest = slice_from_at(rest, sizeof(len));
		on_text(c, slice_first(rest, len));
		rest = slice_from_at(rest, len);
	}
	buf_fini(&held);
	if (c->ending)
		return;
	stream_read_start(c->stream);
	settle(c);
}

static bool
on_message(struct conn *c, const struct wsconn_event *ev)
{
	struct signer *s = signer_of(c);

	if (ev->kind == WS_TEXT && s->stage != SIGNER_OVER)
		on_text(c, ev->data);
	else if (ev->kind == WS_BINARY && s->stage != SIGNER_OVER)
		finish(
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
	struct signer *s = signer_of(c);
	struct wsconn_event ev;

	wsconn_feed(&s->ws, bytes, n, now_of(c));
	while (wsconn_next(&s->ws, &ev) > 0) {
		if (!on_message(c, &ev))
			return;
	}
	if (s->stage != SIGNER_ASKED)
		s->paused = wsrole_pace(c, s->paused);
	settle(c);
}

static void
on_eof(struct conn *c)
{
	struct signer *s = signer_of(c);

	if (s->ws.state == WSCONN_OPEN && s->why == 0)
		s->why = ERR_CLOSED;
	conn_end(c);
}

static void
on_timer(struct conn *c)
{
	struct signer *s = signer_of(c);
	msec now = now_of(c);

	if (wsrole_stale(c, &s->ws)) {
		finish(c, WS_CODE_AWAY, SL("stale"), ERR_TIMEOUT);
		wsrole_give_up(c);
		return;
	}
	if (wsconn_expire(&s->ws, now) != 0) {
		conn_drop(c);
		return;
	}
	if (s->stage < SIGNER_LIVE && s->prove_due <= now)
		finish(c, WS_CODE_POLICY, SL("auth_timeout"), ERR_TIMEOUT);
	if (c->ending)
		return;
	if (s->stage != SIGNER_ASKED)
		s->paused = wsrole_pace(c, s->paused);
	settle(c);
}

/* From the hub ------------------------------------------------------------- */

static void
on_welcome(struct conn *c, const struct event *ev)
{
	struct signer *s = signer_of(c);

	if (ev->welcome.secret == NULL)
		return;
	if (signer_take_secrets(c, ev->welcome.secret) != 0) {
		fail(c);
		return;
	}
	if (s->stage == SIGNER_ASKED)
		go_on(c);
}

/* As long as it takes to verify; then as if that had failed. */
static void
on_denied(struct conn *c)
{
	struct signer *s = signer_of(c);

	if (s->stage == SIGNER_ASKED)
		go_on(c);
}

/* What it cannot be asked after all. */
static void
give_up(struct conn *c, const struct command_record *r)
{
	struct arena *a;
	struct event *ev = conn_event(c, EVENT_AGENT_ENDED, &a);

	if (ev == NULL || arena_copy(a, r->id, &ev->outcome.command_id) != 0) {
		conn_drop(c);
		return;
	}
	ev->outcome.code = SL("NOT_PERMITTED");
	ev->outcome.why = SL("this agent cannot be asked that");
	if (dock_post(c->dock, ev) != 0)
		conn_drop(c);
}

static int
note_command(struct conn *c, const struct event *ev)
{
	struct signer *s = signer_of(c);

	drop_command(s);
	struct given *g = alloc_new(sizeof(*g));
	if (g == NULL)
		return ERR_NOMEM;
	s->given = g;
	live_init(&g->live);
	g->command = clone_new(CLONE_COMMAND, ev->execute.command);
	if (g->command == NULL)
		return ERR_NOMEM;
	g->live.command = g->command;
	g->live.seen_by = ev->execute.seen_by;
	g->live.asked_by = ev->execute.asked_by;
	g->viewer = ev->execute.viewer;
	live_command_line(c->dock, &g->live);
	return 0;
}

static void
on_execute(struct conn *c, const struct event *ev)
{
	const struct command_record *r = ev->execute.command;
	struct signer *s = signer_of(c);
	struct buf *text = &c->dock->text, *out = &c->dock->out;
	struct slice keys[SIGNED_KEYS];
	size_t n = signer_good_keys(s, keys);
	char nonce[RAND_UUID_SIZE];
	struct arena a;

	if (s->stage != SIGNER_LIVE || n == 0 || note_command(c, ev) != 0) {
		conn_drop(c);
		return;
	}
	rand_uuid(nonce);
	buf_clear(text);
	arena_init(&a, SCRATCH_MAX);
	const struct signed_pen pen = { keys[s->key < n ? s->key : 0],
		slice_from(nonce) };
	const struct signed_context now = { now_of(c), clock_wall(), &a };
	int err = signed_encode(&s->peer, r, &pen, &now, text);
	arena_fini(&a);
	if (err == ERR_UNSUPPORTED || err == ERR_TOO_BIG) {
		give_up(c, r);
		return;
	}
	buf_clear(out);
	if (err != 0 ||
	    wsconn_send(&s->ws, out, WS_TEXT, buf_peek(text), false) != 0) {
		conn_drop(c);
		return;
	}
	c->dock->server->counts.messages_out++;
	conn_write(c, buf_peek(out));
}

static void
on_error(struct conn *c, const struct complaint *why)
{
	struct signer *s = signer_of(c);

	log_info("signed_error", kv_s("agent", s->agent_id),
	    kv_s("code", why->code));
	if (s->registered)
		return;
	if (why->err == ERR_EXISTS)
		finish(c, WS_CODE_POLICY, SL("agent_id_taken"), 0);
	else
		finish(c, WS_CODE_LATER, SL("try_again"), why->err);
}

static void
on_event(struct conn *c, const struct event *ev)
{
	struct signer *s = signer_of(c);

	if (s->stage == SIGNER_OVER)
		return;
	if (ev->kind == EVENT_WELCOME)
		on_welcome(c, ev);
	else if (ev->kind == EVENT_DENIED)
		on_denied(c);
	else if (ev->kind == EVENT_REGISTERED)
		s->registered = true;
	else if (ev->kind == EVENT_EXECUTE)
		on_execute(c, ev);
	else if (ev->kind == EVENT_AUDIENCE && s->given != NULL &&
	    slice_eq(s->given->command->id, ev->execute.command->id))
		s->given->viewer = ev->execute.viewer;
	else if (ev->kind == EVENT_ERROR)
		on_error(c, &ev->complaint);
	if (!c->ending)
		settle(c);
}

static void
on_close(struct conn *c, uint16_t code, struct slice reason)
{
	/* Who is sent away because we go is to come back. */
	finish(c, code, reason, code == WS_CODE_AWAY ? ERR_STOPPED : 0);
}

static void
free_signer(struct signer *s)
{
	signer_forget_secrets(s);
	drop_command(s);
	buf_fini(&s->secrets);
	buf_fini(&s->held);
	unkeep(&s->remote);
	unkeep(&s->address);
	unkeep(&s->agent_id);
	alloc_free(s);
}

static void
on_gone(struct conn *c, int why)
{
	struct signer *s = signer_of(c);

	(void)why;
	if (s->why != 0)
		c->why = s->why;
	if (s->counted)
		c->dock->server->counts.links--;
	log_info("signed_closed", kv_s("agent", s->agent_id),
	    kv_s("remote", s->remote), kv_e("why", c->why));
	wsconn_fini(&s->ws);
	free_signer(s);
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

static struct signer *
new_signer(struct conn *c, struct call *call)
{
	struct signer *s = alloc_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	buf_init(&s->held, HELD_MAX);
	if (keep(&s->remote, call->credential.remote) != 0 ||
	    keep(&s->address, call->credential.address) != 0) {
		free_signer(s);
		return NULL;
	}
	s->conn = c;
	s->prove_due = now_of(c) + PROVE_WITHIN;
	wsconn_init(&s->ws, WSCONN_SERVER, &c->dock->signed_config, now_of(c));
	return s;
}

void
signed_open(struct conn *c, struct call *call)
{
	const struct deflate_policy policy = { 0 };
	struct deflate_terms terms = { .on = false };
	struct deflate_text answer = { .len = 0 };
	struct signer *s = new_signer(c, call);

	if (s == NULL) {
		web_problem(c, &(struct problem){ .status = 503 });
		return;
	}
	/* A broken offer is no reason to refuse: it is declined. */
	if (deflate_accept(call->ws_extensions, &policy, &terms, &answer) < 1)
		answer.len = 0;
	if (terms.on)
		wsconn_set_deflate(&s->ws, &terms);
	stream_set_cap(c->stream, QUEUE_MAX);
	web_upgrade(c, &role, s, (struct slice){ 0 },
	    (struct slice){ answer.bytes, answer.len });
	if (!c->ending)
		settle(c);
}
