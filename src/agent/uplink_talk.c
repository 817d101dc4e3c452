#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"

#include "agent/uplink_parts.h"

/* Begins the request_id of each registration, and so of its answer. */
#define REGISTER_ID "reg_"

enum { MESSAGE_ARENA = 2 * 1024 * 1024, HELD_ARENA = 1024 * 1024 };

/* What we say ---------------------------------------------------------------
 */

static size_t
list_held(struct uplink *u, struct arena *a, struct words_held **out)
{
	struct words_held *held = arena_array(a, COMMAND_CAP, sizeof(*held));
	struct command *c;
	size_t pos = 0, n = 0;

	*out = held;
	while (
	    held != NULL && (c = commands_next(&u->commands, &pos)) != NULL) {
		held[n].id = run_id(c->run);
		held[n++].state = command_state(c);
	}
	return n;
}

void
uplink_register(struct uplink *u)
{
	char request_id[RAND_ID_SIZE];
	struct words_held *held;
	struct arena a;
	struct buf b;

	arena_init(&a, HELD_ARENA);
	buf_init(&b, WORDS_TEXT_MAX);
	rand_id(REGISTER_ID, request_id);
	const struct agent *agent = u->agent;
	const struct stop *s = &u->stop;
	const struct record_stop stop = { .epoch = s->now.epoch,
		.stopped = s->now.stopped,
		.scope = slice_from(s->now.scope),
		.mac = slice_from(s->now.mac) };
	struct words_hello h = {
		.request_id = slice_from(request_id),
		.agent_id = slice_from(u->link->agent_id),
		.cluster_id = slice_from(u->cluster_id),
		.name = slice_from(u->link->name),
		.facts = &agent->facts,
		.policy = &agent->policy,
		.install_id = agent->state.install_id,
		.boot_id = slice_from(agent->facts.boot_id),
		.session_id = slice_from(u->session_id),
		.stop = &stop,
		.local_stop = s->local.stopped,
		.incarnation = slice_from(u->incarnation),
		.sequence = runner_mark(u->commands.runner),
		.at = clock_wall(),
	};
	h.held_count = list_held(u, &a, &held);
	h.held = held;
	words_put_register(&b, &h);
	int err = held == NULL ? ERR_NOMEM : b.err;
	if (err == 0)
		uplink_say(u, buf_peek(&b));
	buf_fini(&b);
	arena_fini(&a);
	if (err != 0)
		uplink_lost(
		    u, BACKOFF_LOST, "cannot register: %s", err_name(err));
}

/* What its owner or an operator should look at. */
static const char *
illness(const struct uplink *u)
{
	const struct probe_sample *s = &u->sample;

	if (u->agent->policy_error[0] != '\0')
		return "policy_error";
	if (u->sampled && s->disk_used > s->disk_total - s->disk_total / 100)
		return "disk_full";
	return commands_waiting(&u->commands) ? "spool_full" : NULL;
}

void
uplink_beat(struct uplink *u)
{
	msec now = loop_now(&u->agent->loop);
	struct probe_metrics m;
	struct probe_sample s;
	struct words_beat beat = {
		.agent_id = slice_from(u->link->agent_id),
		.cluster_id = slice_from(u->cluster_id),
		.status = "healthy",
		.running = commands_running(&u->commands),
		.at = clock_wall(),
	};
	struct buf b;

	if (probe_sample(&s, now, "/") == 0) {
		if (u->sampled) {
			m = probe_between(&u->sample, &s);
			beat.metrics = &m;
		}
		u->sample = s;
		u->sampled = true;
	}
	beat.ill = illness(u);
	buf_init(&b, 4096);
	words_put_heartbeat(&b, &beat);
	if (b.err == 0)
		uplink_say(u, buf_peek(&b));
	buf_fini(&b);
	u->beat_at = now + u->beat_every;
}

static void
pong(struct uplink *u, const struct word *w)
{
	struct buf b;

	buf_init(&b, 4096);
	words_put_pong(&b, w->request_id, clock_wall());
	if (b.err == 0)
		uplink_say(u, buf_peek(&b));
	buf_fini(&b);
}

/* What is said to us --------------------------------------------------------
 */

/* Registering again is of no use when it has just been refused: the link
 * ends, and how long it stays away depends on whether time can help. */
static void
on_refusal(struct uplink *u, const struct word *w)
{
	const char *advice = words_advice(w);

	uplink_lost(u, advice != NULL ? BACKOFF_REFUSED : BACKOFF_LOST,
	    "the controller refuses the registration: %.*s (%.*s)%s%s",
	    SLICE_FMT(slice_first(w->error, 160)),
	    SLICE_FMT(slice_first(w->code, 60)), advice != NULL ? "; " : "",
	    advice != NULL ? advice : "");
}

static void
on_error(struct uplink *u, const struct word *w)
{
	log_warn(
	    "controller_error", kv_s("error", w->error), kv_s("code", w->code));
	if (u->state == UPLINK_REGISTERING ||
	    slice_starts(w->request_id, SL(REGISTER_ID)))
		on_refusal(u, w);
	else if (words_unregistered(w))
		uplink_register(u);
}

static void
on_reconnect(struct uplink *u, const struct word *w)
{
	msec spread = w->spread_ms == 0
	    ? 0
	    : (msec)rand_below((uint32_t)w->spread_ms + 1);

	u->again_at = loop_now(&u->agent->loop) + w->after_ms + spread;
	log_info("reconnect_asked", kv_ms("after", w->after_ms + spread));
}

static void
on_text(struct uplink *u, struct slice text)
{
	struct arena a;
	struct word w;

	arena_init(&a, MESSAGE_ARENA);
	int err = words_read(text, &a, &w);
	if (err != 0)
		log_warn(
		    "message_unread", kv_s("type", w.type), kv_e("err", err));
	else if (w.kind == WORD_REGISTERED)
		uplink_registered(u, &w);
	else if (w.kind == WORD_PING)
		pong(u, &w);
	else if (w.kind == WORD_ERROR)
		on_error(u, &w);
	else if (w.kind == WORD_RECONNECT)
		on_reconnect(u, &w);
	else if (w.kind == WORD_STOP)
		uplink_hear_stop(u, &w.stop);
	else if (w.kind == WORD_OTHER)
		log_debug("message_ignored", kv_s("type", w.type));
	arena_fini(&a);
}

/* Streams -------------------------------------------------------------------
 */

void
uplink_free_exec(struct uplink *u, struct exec *e)
{
	yamux_set_user(&u->mux, e->id, NULL);
	exec_fini(e);
	alloc_free(e);
	u->streams--;
}

void
uplink_end_streams(struct uplink *u)
{
	struct exec **all;
	size_t pos = 0, n = 0;
	uint32_t id;
	void *user;

	if (u->streams == 0)
		return;
	all = alloc_array(u->streams, sizeof(struct exec *));
	while (yamux_walk(&u->mux, &pos, &id, &user)) {
		if (user == NULL)
			continue;
		if (all != NULL)
			all[n++] = user;
		else /* the record goes with the session anyway */
			exec_fini(user);
	}
	while (n > 0)
		uplink_free_exec(u, all[--n]);
	alloc_free(all);
	u->streams = 0;
}

static void
on_opened(struct uplink *u, uint32_t id)
{
	struct exec *e = NULL;

	if (u->state == UPLINK_UP && u->streams < u->agent->policy.streams)
		e = alloc_new(sizeof(*e));
	if (e == NULL || yamux_accept(&u->mux, id, e) != 0) {
		alloc_free(e);
		yamux_reset(&u->mux, id);
		return;
	}
	exec_init(e, &u->execs, id);
	u->streams++;
}

static void
on_data(struct uplink *u, struct exec *e, const struct yamux_event *ev)
{
	msec now = loop_now(&u->agent->loop);

	if (e == NULL) {
		yamux_consume(&u->mux, ev->id, ev->data.len, now);
		return;
	}
	int err = exec_feed(e, ev->data);
	yamux_consume(&u->mux, ev->id, ev->data.len, now);
	if (err == 0)
		return;
	log_warn("stream_reset", kv_u("stream", ev->id), kv_e("err", err));
	yamux_reset(&u->mux, ev->id);
	uplink_free_exec(u, e);
}

static void
on_fin(struct uplink *u, struct exec *e)
{
	if (e == NULL)
		return;
	exec_ended(e);
	if (e->finished)
		uplink_free_exec(u, e);
}

static void
on_mux(struct uplink *u, const struct yamux_event *ev)
{
	struct exec *e = ev->user;

	if (ev->kind == YAMUX_OPENED)
		on_opened(u, ev->id);
	else if (ev->kind == YAMUX_DATA)
		on_data(u, e, ev);
	else if (ev->kind == YAMUX_WRITABLE && e != NULL)
		exec_look(e);
	else if (ev->kind == YAMUX_FIN)
		on_fin(u, e);
	else if (ev->kind == YAMUX_RST && e != NULL)
		uplink_free_exec(u, e);
	else if (ev->kind == YAMUX_ERROR)
		uplink_lost(u, BACKOFF_LOST, "the session broke: %s",
		    err_name(ev->err));
}

void
uplink_mux_events(struct uplink *u)
{
	struct yamux_event ev;

	while (u->ws_open && yamux_next(&u->mux, &ev))
		on_mux(u, &ev);
	if (u->ws_open && yamux_has_out(&u->mux))
		uplink_want(u);
}

/* Frames --------------------------------------------------------------------
 */

static void
on_close(struct uplink *u, const struct wsconn_event *ev)
{
	struct slice why = slice_first(ev->data, 123);
	enum backoff_kind kind =
	    ev->code == WS_CODE_POLICY ? BACKOFF_REFUSED : BACKOFF_LOST;

	if (u->state == UPLINK_CLOSING) {
		uplink_lost(u, BACKOFF_LOST, "closed");
		return;
	}
	if (slice_eq(why, SL("replaced_by_new_connection"))) {
		uplink_lost(u, BACKOFF_REFUSED,
		    "another connection took this agent's place: is there a "
		    "copy of this host's state somewhere?");
		return;
	}
	uplink_lost(u, kind, "the controller closed the link: %u %.*s",
	    ev->code, SLICE_FMT(why));
}

static void
on_frame(struct uplink *u, const struct wsconn_event *ev)
{
	if (ev->kind == WS_TEXT)
		on_text(u, ev->data);
	else if (ev->kind == WS_BINARY) {
		yamux_feed(&u->mux, ev->data, loop_now(&u->agent->loop));
		uplink_mux_events(u);
	} else if (ev->kind == WS_CLOSE)
		on_close(u, ev);
	else if (ev->kind == WSCONN_ERROR)
		uplink_lost(u, BACKOFF_LOST,
		    "the controller breaks the protocol: %.*s",
		    SLICE_FMT(ev->data));
}

void
uplink_bytes(struct uplink *u, uint8_t *bytes, size_t n)
{
	struct carrier *c = u->carrier;
	struct wsconn_event ev;

	wsconn_feed(&u->ws, bytes, n, loop_now(&u->agent->loop));
	while (u->carrier == c && u->ws_open && wsconn_next(&u->ws, &ev) > 0)
		on_frame(u, &ev);
	if (u->carrier != c || !u->ws_open)
		return;
	if (wsconn_out(&u->ws).len > 0)
		uplink_want(u);
	uplink_rearm(u);
}
