#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "io/clock.h"
#include "io/crash.h"
#include "io/log.h"

#include "agent/holder_proto.h"

#include "agent/stop.h"

/* Words -------------------------------------------------------------------- */

static bool
is_plain(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return false;
	return true;
}

void
stop_keep_text(char *out, size_t size, struct slice s)
{
	size_t n = s.len < size - 1 ? s.len : size - 1;

	while (n > 0 && n < s.len && (s.ptr[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++)
		out[i] =
		    s.ptr[i] < 0x20 || s.ptr[i] == 0x7f ? ' ' : (char)s.ptr[i];
	out[n] = '\0';
}

/* What cannot be kept as it is proves nothing, and is left out with its
 * mac. */
static void
keep_word(struct stop_word *to, const struct record_stop *from)
{
	*to = (struct stop_word){ .epoch = from->epoch,
		.stopped = from->stopped,
		.keep_tunnels = from->keep_tunnels,
		.at = from->at };
	stop_keep_text(to->reason, sizeof(to->reason), from->reason);
	if (!is_plain(from->scope) || !is_plain(from->mac) ||
	    slice_cstr(from->scope, to->scope, sizeof(to->scope)) != 0 ||
	    slice_cstr(from->mac, to->mac, sizeof(to->mac)) != 0)
		to->scope[0] = to->mac[0] = '\0';
}

/* Receipts ----------------------------------------------------------------- */

/* True of the disk and of what runs: only then it is a receipt. */
static void
give_receipt(struct stop *s)
{
	if (!s->due || s->closed || s->saved != s->want.epoch ||
	    s->now.epoch != s->want.epoch || (s->halted && !s->quiet))
		return;
	s->due = false;
	s->c.ops->receipt(s->c.arg);
}

void
stop_owe_receipt(struct stop *s)
{
	s->due = true;
	give_receipt(s);
}

void
stop_quiet(struct stop *s)
{
	if (!s->halted)
		return;
	s->quiet = true;
	s->done = clock_wall();
	s->due = true;
	give_receipt(s);
}

/* Halting ------------------------------------------------------------------ */

bool
stop_halted(const struct stop *s)
{
	return s->now.stopped || s->local.stopped;
}

/* Follow what is in force. */
static void
follow(struct stop *s)
{
	bool halt = stop_halted(s);

	if (halt == s->halted)
		return;
	s->halted = halt;
	s->quiet = false;
	s->began = halt ? clock_wall() : 0;
	s->done = 0;
	s->c.ops->halt(s->c.arg, halt);
}

void
stop_set_local(struct stop *s, const struct stop_local *l)
{
	s->local = *l;
	follow(s);
}

static void
obey(struct stop *s)
{
	s->now = s->want;
	follow(s);
	log_warn(s->now.stopped ? "stopped_by_controller" : "work_resumed",
	    kv_c("link", s->c.dir), kv_u("epoch", s->now.epoch),
	    kv_c("scope", s->now.scope), kv_c("reason", s->now.reason));
}

/* The file ----------------------------------------------------------------- */

static void save(struct stop *s);

static int
write_file(struct stop *s)
{
	const struct stop_word *w = &s->saving;
	const struct record_stop r = {
		.epoch = w->epoch,
		.stopped = w->stopped,
		.keep_tunnels = w->keep_tunnels,
		.at = w->at,
		.mac = slice_from(w->mac),
		.scope = slice_from(w->scope),
		.reason = slice_from(w->reason),
	};
	struct buf b;

	buf_init(&b, HOLDER_STOP_MAX);
	record_write_stop(&b, &r);
	int err = b.err;
	if (err == 0)
		err = file_write_atomic(s->c.fs, s->path, buf_peek(&b), 0600);
	buf_fini(&b);
	return err;
}

static void
on_work(struct loop_work *w)
{
	struct stop *s = LIST_OF(w, struct stop, work);

	crash_point("stop.unwritten");
	s->save_err = write_file(s);
	if (s->save_err == 0)
		crash_point("stop.written");
}

static void
on_again(struct loop_timer *t)
{
	save(LIST_OF(t, struct stop, again));
}

static void
on_saved(struct loop_work *w)
{
	struct stop *s = LIST_OF(w, struct stop, work);

	s->busy = false;
	if (s->save_err != 0)
		log_error("stop_unsaved", kv_u("epoch", s->saving.epoch),
		    kv_e("err", s->save_err));
	else
		s->saved = s->saving.epoch;
	if (s->closed)
		return;
	if (s->save_err != 0) {
		(void)loop_timer_set(s->c.loop, &s->again,
		    loop_now(s->c.loop) + STOP_RETRY, on_again);
		return;
	}
	if (s->saved != s->want.epoch) {
		save(s);
		return;
	}
	/* A resume waited for this. */
	if (s->now.epoch != s->want.epoch)
		obey(s);
	give_receipt(s);
}

static void
save(struct stop *s)
{
	if (s->busy || s->closed)
		return;
	loop_timer_stop(s->c.loop, &s->again);
	s->saving = s->want;
	s->work = (struct loop_work){ .work = on_work, .done = on_saved };
	s->busy = loop_work(s->c.loop, &s->work) == 0;
	if (!s->busy)
		(void)loop_timer_set(s->c.loop, &s->again,
		    loop_now(s->c.loop) + STOP_RETRY, on_again);
}

void
stop_order(struct stop *s, const struct record_stop *w)
{
	if (w->epoch > s->want.epoch) {
		keep_word(&s->want, w);
		if (s->want.stopped)
			obey(s);
		crash_point("stop.halted");
		save(s);
	}
	stop_owe_receipt(s);
}

/* Life --------------------------------------------------------------------- */

static int
read_file(struct stop *s)
{
	struct record_stop r;
	struct slice text;
	struct arena a;

	arena_init(&a, 4 * HOLDER_STOP_MAX);
	int err = file_read_all(s->c.fs, s->path, HOLDER_STOP_MAX, &a, &text);
	if (err == 0)
		err = record_read_stop(text, &r);
	if (err == 0)
		keep_word(&s->now, &r);
	arena_fini(&a);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int
stop_open(
    struct stop *s, const struct stop_config *c, const struct stop_local *local)
{
	*s = (struct stop){ .c = *c, .local = *local };
	int n = snprintf(s->path, sizeof(s->path), "%s/stop", c->dir);

	if (n < 0 || (size_t)n >= sizeof(s->path))
		return ERR_TOO_BIG;
	int err = read_file(s);
	s->want = s->now;
	s->saved = s->now.epoch;
	s->halted = stop_halted(s);
	s->began = s->halted ? clock_wall() : 0;
	return err;
}

void
stop_close(struct stop *s)
{
	s->closed = true;
	loop_timer_stop(s->c.loop, &s->again);
}

bool
stop_idle(const struct stop *s)
{
	return !s->busy;
}

void
stop_sentence(const struct stop *s, char *out, size_t size)
{
	const char *why = s->now.stopped ? s->now.reason : s->local.reason;
	const char *colon = why[0] == '\0' ? "" : ": ";

	if (s->now.stopped)
		(void)snprintf(out, size,
		    "this agent is under emergency stop %llu%s%s",
		    (unsigned long long)s->now.epoch, colon, why);
	else
		(void)snprintf(out, size,
		    "this agent is stopped by its host's owner%s%s", colon,
		    why);
}
