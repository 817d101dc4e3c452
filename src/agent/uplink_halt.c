/*
 * Design notes.  A stop's way: its text frame is read, every holder's socket
 * is written to, and nothing else happens before that in this thread: no
 * disk, no fork, no name.  The receipt goes before all that waits.
 */
#include "base/err.h"
#include "io/clock.h"
#include "io/log.h"

#include "agent/uplink_parts.h"

enum { RECEIPT_ARENA = 1024 * 1024 };

/* Receipts ----------------------------------------------------------------- */

static size_t
list_ended(struct uplink *u, struct arena *a, const struct words_ended **out)
{
	struct words_ended *all = arena_array(a, COMMAND_CAP, sizeof(*all));
	const struct run_kill *k;
	size_t pos = 0, n = 0;

	*out = all;
	while (all != NULL && n < COMMAND_CAP &&
	    (k = runner_next_kill(u->commands.runner, &pos)) != NULL)
		all[n++] = (struct words_ended){ .id = k->id,
			.pids = k->pids,
			.left = k->left,
			.count = k->count,
			.took_ms = k->took_ms };
	return n;
}

static void
on_receipt(void *arg)
{
	struct uplink *u = arg;
	const struct stop *s = &u->stop;
	struct arena a;
	struct buf b;

	/* The next registration says how it stands. */
	if (u->state != UPLINK_UP)
		return;
	struct words_receipt r = {
		.epoch = s->now.epoch,
		.stopped = s->now.stopped,
		.local = s->local.stopped,
		.began = s->began,
		.done = s->done,
		.tunnels_closed = u->tunnels_closed,
		.at = clock_wall(),
	};
	arena_init(&a, RECEIPT_ARENA);
	buf_init(&b, WORDS_TEXT_MAX);
	r.ended_count = list_ended(u, &a, &r.ended);
	words_put_receipt(&b, &r);
	if (b.err == 0)
		uplink_say(u, buf_peek(&b));
	else
		log_error("no_receipt", kv_e("err", b.err));
	buf_fini(&b);
	arena_fini(&a);
}

static void
say_local(struct uplink *u)
{
	const struct stop_local *l = &u->stop.local;
	struct buf b;

	if (u->state != UPLINK_UP)
		return;
	buf_init(&b, 8192);
	words_put_local_stop(
	    &b, l->stopped, l->at, slice_from(l->reason), clock_wall());
	if (b.err == 0)
		uplink_say(u, buf_peek(&b));
	buf_fini(&b);
}

/* Halting ------------------------------------------------------------------ */

/* A stop may spare the tunnels; the host's own never does. */
static void
tell_forwards(struct uplink *u)
{
	const struct stop *s = &u->stop;
	bool close =
	    s->local.stopped || (s->now.stopped && !s->now.keep_tunnels);

	u->tunnels_closed +=
	    forwards_stop(&u->forwards, close ? u->stop_why : NULL);
}

/* What new orders are judged by. */
static void
tell_execs(struct uplink *u)
{
	stop_sentence(&u->stop, u->stop_why, sizeof(u->stop_why));
	u->execs.stopped = stop_halted(&u->stop) ? u->stop_why : NULL;
	u->execs.epoch = u->stop.now.epoch;
	tell_forwards(u);
}

static void
on_halt(void *arg, bool halt)
{
	struct uplink *u = arg;

	if (u->commands_open)
		runner_halt(u->commands.runner, halt);
	u->tunnels_closed = 0;
	tell_execs(u);
}

static const struct stop_ops stop_ops = {
	.halt = on_halt,
	.receipt = on_receipt,
};

int
uplink_open_stop(struct uplink *u)
{
	const struct stop_config c = {
		.loop = &u->agent->loop,
		.fs = &file_real,
		.dir = u->link->dir,
		.ops = &stop_ops,
		.arg = u,
	};
	int err = stop_open(&u->stop, &c, &u->agent->local_stop);

	tell_execs(u);
	return err;
}

void
uplink_hear_stop(struct uplink *u, const struct record_stop *s)
{
	stop_order(&u->stop, s);
	/* An epoch may have changed and the halting not. */
	tell_execs(u);
}

void
uplink_register_stop(struct uplink *u, const struct word *w)
{
	if (w->has_stop && w->stop.epoch > u->stop.want.epoch)
		uplink_hear_stop(u, &w->stop);
	if (u->stop.local.stopped)
		say_local(u);
	if (stop_halted(&u->stop))
		stop_owe_receipt(&u->stop);
}

void
uplink_local_stop(struct uplink *u, bool known)
{
	stop_set_local(&u->stop, &u->agent->local_stop);
	tell_execs(u);
	if (!known)
		return;
	say_local(u);
	stop_owe_receipt(&u->stop);
}

void
uplink_put_stop(const struct uplink *u, struct js_writer *w)
{
	const struct stop_word *s = &u->stop.now;
	uint8_t at[STAMP_LEN];

	js_kv_object(w, "stop");
	js_kv_u64(w, "epoch", s->epoch);
	js_kv_bool(w, "stopped", s->stopped);
	js_kv_bool(w, "saved", u->stop.saved == s->epoch);
	js_kv_bool(w, "quiet", !u->stop.halted || u->stop.quiet);
	if (s->epoch != 0) {
		stamp_format(s->at, at);
		js_kv_string(w, "since", (struct slice){ at, sizeof(at) });
	}
	js_kv_string(w, "scope", slice_from(s->scope));
	js_kv_string(w, "reason", slice_from(s->reason));
	js_end(w);
}
