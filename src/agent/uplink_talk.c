#include <string.h>

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
		.tunnels =
		    u->forwards.counts.opened + u->forwards.counts.refused > 0
		    ? &u->forwards.counts
		    : NULL,
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
