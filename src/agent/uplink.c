#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"

#include "agent/trim.h"
#include "agent/uplink_parts.h"

static const char *const state_names[UPLINK_STATES] = {
	[UPLINK_WAITING] = "waiting",
	[UPLINK_DIALING] = "connecting",
	[UPLINK_SHAKING] = "connecting",
	[UPLINK_REGISTERING] = "registering",
	[UPLINK_UP] = "connected",
	[UPLINK_CLOSING] = "closing",
	[UPLINK_STOPPED] = "stopped",
};

#define MAY(s) (1U << UPLINK_##s)

void
uplink_move(struct uplink *u, enum uplink_state to)
{
	static const unsigned may[UPLINK_STATES] = {
		[UPLINK_WAITING] = MAY(DIALING) | MAY(STOPPED),
		[UPLINK_DIALING] = MAY(WAITING) | MAY(SHAKING) | MAY(STOPPED),
		[UPLINK_SHAKING] =
		    MAY(WAITING) | MAY(REGISTERING) | MAY(STOPPED),
		[UPLINK_REGISTERING] = MAY(WAITING) | MAY(UP) | MAY(CLOSING),
		[UPLINK_UP] = MAY(UP) | MAY(WAITING) | MAY(CLOSING),
		[UPLINK_CLOSING] = MAY(WAITING) | MAY(STOPPED),
	};

	assert((may[u->state] >> to & 1) != 0);
	u->state = to;
}

/* Time ----------------------------------------------------------------------
 */

static msec
next_due(const struct uplink *u)
{
	msec due = INT64_MAX;

	if (u->state == UPLINK_WAITING)
		return u->wait_until;
	if (u->state == UPLINK_STOPPED)
		return due;
	if (u->state != UPLINK_UP)
		due = u->give_up;
	if (!u->ws_open)
		return due;
	if (wsconn_deadline(&u->ws) < due)
		due = wsconn_deadline(&u->ws);
	if (u->state != UPLINK_UP)
		return due;
	if (yamux_deadline(&u->mux) < due)
		due = yamux_deadline(&u->mux);
	if (u->beat_at < due)
		due = u->beat_at;
	if (u->trim_at != 0 && u->trim_at < due)
		due = u->trim_at;
	if (u->again_at != 0 && u->again_at < due)
		due = u->again_at;
	return due;
}

/* Say goodbye and wait for the answer, for a little while. */
static void
say_goodbye(struct uplink *u, uint16_t code, struct slice why)
{
	msec now = loop_now(&u->agent->loop);

	if (wsconn_close(&u->ws, code, why, now) != 0) {
		uplink_lost(u, BACKOFF_LOST, "no memory");
		return;
	}
	uplink_move(u, UPLINK_CLOSING);
	u->give_up = now + UPLINK_CLOSE_WITHIN;
	uplink_want(u);
	uplink_rearm(u);
}

static void
expire_session(struct uplink *u, msec now)
{
	if (wsconn_expire(&u->ws, now) != 0) {
		uplink_lost(u, BACKOFF_LOST,
		    "nothing was heard of the controller for 60 s");
		return;
	}
	if (wsconn_out(&u->ws).len > 0)
		uplink_want(u);
	if (u->state != UPLINK_UP)
		return;
	yamux_expire(&u->mux, now);
	uplink_mux_events(u);
	if (u->trim_at != 0 && now >= u->trim_at) {
		u->trim_at = 0;
		trim_code();
	}
	if (u->state == UPLINK_UP && now >= u->beat_at)
		uplink_beat(u);
	if (u->state == UPLINK_UP && u->again_at != 0 && now >= u->again_at)
		say_goodbye(u, WS_CODE_AWAY, SL("reconnect"));
}

static void
on_timer(struct loop_timer *t)
{
	struct uplink *u = LIST_OF(t, struct uplink, timer);
	msec now = loop_now(&u->agent->loop);

	if (u->state == UPLINK_WAITING && now >= u->wait_until)
		uplink_dial(u);
	else if (u->state != UPLINK_UP && u->state != UPLINK_WAITING &&
	    now >= u->give_up)
		uplink_lost(u, BACKOFF_LOST,
		    u->state == UPLINK_REGISTERING
			? "no answer to the registration within 30 s"
			: "no answer within 30 s");
	else if (u->ws_open)
		expire_session(u, now);
	uplink_rearm(u);
}

void
uplink_rearm(struct uplink *u)
{
	struct loop *l = &u->agent->loop;
	msec due = next_due(u);

	if (due == INT64_MAX)
		loop_timer_stop(l, &u->timer);
	else
		(void)loop_timer_set(l, &u->timer, due, on_timer);
}

/* Losing --------------------------------------------------------------------
 */

void
uplink_drop_connection(struct uplink *u, bool flush)
{
	struct carrier *c = u->carrier;

	if (u->dial != NULL)
		dial_cancel(u->dial);
	u->dial = NULL;
	tls_client_free(u->tls);
	u->tls = NULL;
	if (u->http_open)
		http1_client_fini(&u->http);
	u->http_open = false;
	if (u->ws_open) {
		if (flush && c != NULL && c->stream != NULL) {
			(void)stream_write(c->stream, buf_peek(&u->text));
			(void)stream_write(c->stream, wsconn_out(&u->ws));
		}
		uplink_end_streams(u);
		yamux_fini(&u->mux);
		wsconn_fini(&u->ws);
	}
	u->ws_open = false;
	buf_clear(&u->text);
	if (c == NULL)
		return;
	c->uplink = NULL;
	u->carrier = NULL;
	if (c->stream == NULL)
		return; /* it is telling us its end */
	if (flush)
		stream_close(c->stream);
	else
		stream_abort(c->stream, false);
}

/* How long to stay away, and how loudly to say so. */
static msec
wait_for(struct uplink *u, enum backoff_kind kind, msec now)
{
	uint32_t random = rand_u32();

	if (u->again_at != 0) {
		msec wait = u->again_at - now;
		u->again_at = 0;
		return wait > 0 ? wait : 0;
	}
	if (u->retry_after > 0)
		return backoff_asked(u->retry_after, random);
	return backoff_next(&u->backoff, kind, random);
}

static void
close_commands(struct uplink *u)
{
	if (u->commands_open)
		commands_close(&u->commands);
	u->commands_open = false;
	stop_close(&u->stop);
	uplink_move(u, UPLINK_STOPPED);
}

void
uplink_lost(struct uplink *u, enum backoff_kind kind, const char *format, ...)
{
	msec now = loop_now(&u->agent->loop);
	bool was_up = u->up_since != 0;
	va_list ap;

	if (u->state == UPLINK_WAITING || u->state == UPLINK_STOPPED)
		return;
	va_start(ap, format);
	(void)vsnprintf(u->why, sizeof(u->why), format, ap);
	va_end(ap);
	if (was_up && now - u->up_since >= UPLINK_GOOD_AFTER)
		backoff_reset(&u->backoff);
	u->up_since = 0;
	u->proofs = 0;
	u->nonce[0] = '\0';
	if (was_up)
		u->since = clock_wall();
	uplink_drop_connection(u, true);
	uplink_move(u, UPLINK_WAITING);
	if (u->stopping) {
		close_commands(u);
		uplink_rearm(u);
		return;
	}
	u->refused = kind == BACKOFF_REFUSED;
	msec wait = wait_for(u, kind, now);
	u->wait_until = now + wait;
	if (u->refused)
		log_error("link_refused", kv_c("url", u->link->url),
		    kv_c("why", u->why), kv_ms("next_try", wait));
	else
		log_warn("link_lost", kv_c("url", u->link->url),
		    kv_c("why", u->why), kv_ms("next_try", wait));
	uplink_rearm(u);
}

/* Being there ---------------------------------------------------------------
 */

static void
save_work(struct loop_work *w)
{
	struct uplink *u = LIST_OF(w, struct uplink, save);
	int err = state_save_incarnation(u->link->dir, slice_from(u->saving));

	if (err != 0)
		log_error("incarnation_unsaved", kv_e("err", err));
}

static void
save_done(struct loop_work *w)
{
	LIST_OF(w, struct uplink, save)->saving_now = false;
}

/* The controller's database was restored, or is another one: numbers below
 * our mark are refused by the runner, and this says why. */
static void
learn_incarnation(struct uplink *u, struct slice incarnation)
{
	if (incarnation.len == 0 ||
	    slice_eq(incarnation, slice_from(u->incarnation)))
		return;
	if (u->incarnation[0] != '\0')
		log_warn("controller_restored", kv_c("was", u->incarnation),
		    kv_s("is", incarnation),
		    kv_u("mark", runner_mark(u->commands.runner)));
	if (slice_cstr(incarnation, u->incarnation, sizeof(u->incarnation)) !=
		0 ||
	    u->saving_now)
		return;
	memcpy(u->saving, u->incarnation, sizeof(u->saving));
	u->save = (struct loop_work){ .work = save_work, .done = save_done };
	u->saving_now = loop_work(&u->agent->loop, &u->save) == 0;
}

void
uplink_registered(struct uplink *u, const struct word *w)
{
	msec now = loop_now(&u->agent->loop);
	bool again = u->state == UPLINK_UP;

	if (u->state != UPLINK_REGISTERING && !again)
		return;
	uplink_move(u, UPLINK_UP);
	uplink_register_stop(u, w);
	(void)slice_cstr(w->cluster_id, u->cluster_id, sizeof(u->cluster_id));
	u->beat_every = w->heartbeat_ms;
	learn_incarnation(u, w->incarnation);
	if (!again) {
		u->up_since = now;
		u->trim_at = now + UPLINK_TRIM_AFTER;
		u->since = clock_wall();
		u->why[0] = '\0';
		u->refused = false;
		u->connections++;
		log_info("link_up", kv_c("url", u->link->url),
		    kv_c("agent", u->link->agent_id),
		    kv_c("cluster", u->cluster_id));
	}
	uplink_beat(u);
	uplink_rearm(u);
}

/* From outside --------------------------------------------------------------
 */

void
uplink_hurry(struct uplink *u)
{
	/* What was refused will be refused from any network. */
	if (u->state != UPLINK_WAITING || u->refused || u->stopping)
		return;
	u->wait_until = loop_now(&u->agent->loop) + (msec)rand_below(1000);
	uplink_rearm(u);
}

void
uplink_policy(struct uplink *u)
{
	u->execs.account = u->agent->has_account ? &u->agent->account : NULL;
	forwards_policy(&u->forwards);
	if (u->commands_open)
		runner_budget(u->commands.runner, u->agent->policy.spool_total);
	if (u->state == UPLINK_UP)
		uplink_register(u);
}

void
uplink_start(struct uplink *u)
{
	u->sampled =
	    probe_sample(&u->sample, loop_now(&u->agent->loop), "/") == 0;
	uplink_dial(u);
}

void
uplink_stop(struct uplink *u)
{
	if (u->stopping)
		return;
	u->stopping = true;
	if (u->state == UPLINK_WAITING)
		close_commands(u);
	else if (u->state == UPLINK_UP || u->state == UPLINK_REGISTERING)
		say_goodbye(u, WS_CODE_NORMAL, SL("agent stops"));
	else if (u->state != UPLINK_CLOSING)
		uplink_lost(u, BACKOFF_LOST, "stopping");
	uplink_rearm(u);
}

bool
uplink_stopped(const struct uplink *u)
{
	return u->state == UPLINK_STOPPED && u->commands.runner == NULL &&
	    !u->saving_now && stop_idle(&u->stop);
}

/* Life ----------------------------------------------------------------------
 */

static void
on_commands_closed(void *arg)
{
	struct uplink *u = arg;

	commands_free(&u->commands);
	u->commands.runner = NULL;
}

static void
on_quiet(void *arg)
{
	struct uplink *u = arg;

	stop_quiet(&u->stop);
}

static const struct command_ops command_ops = {
	.changed = exec_changed,
	.replaced = exec_replaced,
	.quiet = on_quiet,
	.closed = on_commands_closed,
};

static int
open_commands(struct uplink *u)
{
	const struct commands_config c = {
		.loop = &u->agent->loop,
		.dir = u->link->dir,
		.holder = u->agent->holder,
		.cgroup = u->agent->has_cgroup ? u->agent->cgroup : NULL,
		.stop = u->agent->stop_path,
		.halted = stop_halted(&u->stop),
		.ops = &command_ops,
		.arg = u,
	};
	int err = commands_open(&u->commands, &c);

	u->commands_open = err == 0;
	if (err == 0)
		runner_budget(u->commands.runner, u->agent->policy.spool_total);
	return err;
}

static int
read_link(struct uplink *u)
{
	const struct state_link *l = u->link;

	int err = url_parse(slice_from(l->url), &u->url);
	if (err == 0)
		err = slice_cstr(u->url.at.name, u->host, sizeof(u->host));
	if (err == 0 && l->pin[0] != '\0')
		err = tls_pin_parse(slice_from(l->pin), u->pin);
	/* A pin is worth nothing without TLS. */
	if (err == 0 && l->pin[0] != '\0' && !u->url.tls)
		err = ERR_TLS;
	return err;
}

int
uplink_new(struct agent *agent, const struct state_link *link,
    struct uplink **out, char why[STATE_WHY])
{
	struct uplink *u = alloc_new(sizeof(*u));

	if (u == NULL)
		return ERR_NOMEM;
	u->agent = agent;
	u->link = link;
	buf_init(&u->text, UPLINK_TEXT_CAP);
	buf_init(&u->cork, 2 * STREAM_PULL_MAX);
	uplink_open_strands(u);
	u->execs.commands = &u->commands;
	u->execs.policy = &agent->policy;
	u->execs.account = agent->has_account ? &agent->account : NULL;
	u->since = clock_wall();
	rand_uuid(u->session_id);
	(void)snprintf(
	    u->cluster_id, sizeof(u->cluster_id), "%s", link->cluster_id);
	(void)snprintf(
	    u->incarnation, sizeof(u->incarnation), "%s", link->incarnation);
	const struct forwards_config forwards = { .link = &u->strands,
		.loop = &agent->loop,
		.policy = &agent->policy,
		.domain = agent->domain,
		.alive = &agent->connections };
	forwards_init(&u->forwards, &forwards);
	int err = read_link(u);
	if (err == 0)
		err = uplink_open_stop(u);
	if (err == 0)
		err = open_commands(u);
	if (err != 0) {
		(void)snprintf(why, STATE_WHY, "cannot use %s: %s%s", link->dir,
		    err_name(err),
		    err == ERR_TLS ? " (a pinned link needs https)" : "");
		forwards_fini(&u->forwards);
		alloc_free(u);
		return err;
	}
	*out = u;
	return 0;
}

void
uplink_free(struct uplink *u)
{
	if (u == NULL)
		return;
	forwards_fini(&u->forwards);
	buf_fini(&u->text);
	buf_fini(&u->cork);
	alloc_free(u);
}

/* Status --------------------------------------------------------------------
 */

static void
put_stamp(struct js_writer *w, const char *key, wall_msec at)
{
	uint8_t text[STAMP_LEN];

	stamp_format(at, text);
	js_kv_string(w, key, (struct slice){ text, sizeof(text) });
}

void
uplink_put_status(const struct uplink *u, struct js_writer *w)
{
	msec now = loop_now(&u->agent->loop);

	js_begin_object(w);
	js_kv_string(w, "controller", slice_from(u->link->url));
	js_kv_string(w, "state", slice_from(state_names[u->state]));
	js_kv_bool(w, "connected", u->state == UPLINK_UP);
	put_stamp(w, "since", u->since);
	js_kv_string(w, "why", slice_from(u->why));
	js_kv_bool(w, "refused", u->refused && u->state == UPLINK_WAITING);
	if (u->state == UPLINK_WAITING)
		js_kv_i64(w, "next_try_ms",
		    u->wait_until > now ? u->wait_until - now : 0);
	js_kv_string(w, "agent_id", slice_from(u->link->agent_id));
	js_kv_string(w, "cluster_id", slice_from(u->cluster_id));
	js_kv_string(w, "name", slice_from(u->link->name));
	js_kv_u64(w, "connections", u->connections);
	uplink_put_stop(u, w);
	js_kv_u64(w, "commands_running",
	    u->commands_open ? commands_running(&u->commands) : 0);
	js_kv_object(w, "tunnels");
	words_put_tunnels(w, &u->forwards.counts);
	js_kv_array(w, "list");
	forwards_put_list(&u->forwards, UPLINK_TUNNELS_SHOWN, w);
	js_end(w);
	js_end(w);
	js_end(w);
}
