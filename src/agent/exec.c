#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/js_write.h"
#include "io/crash.h"
#include "io/log.h"
#include "wire/opening.h"

#include "agent/exec_order.h"

#include "agent/exec.h"

enum {
	BULK_HEAD = 13,        /* of STDOUT and STDERR on a stream */
	BULK_LEAST = 512,      /* room below it takes the slower way */
	BULK_CRUMB = 64,       /* bytes of a frame on that way */
	SMALL_MAX = 32 * 1024, /* frames queued: they are few */
	WISH_ARENA = 2 * 1024 * 1024,
};

/* What there is to send ------------------------------------------------------
 */

static bool
ended(const struct command *c)
{
	return run_state(c->run) == RUN_ENDED;
}

static bool
has_output(const struct exec *e)
{
	const struct command *c = e->command;

	return c != NULL && !e->exited &&
	    (e->at[0] < c->size[0] || e->at[1] < c->size[1]);
}

static bool
start_due(const struct exec *e)
{
	return e->command != NULL && !e->started && e->command->pid != 0;
}

static bool
input_due(const struct exec *e)
{
	const struct command *c = e->command;

	return c != NULL && e->stdin_wanted && e->started && !e->exited &&
	    run_state(c->run) == RUN_RUNNING &&
	    (c->input_taken != e->told[0] ||
		command_input_limit(c) != e->told[1]);
}

static bool
end_due(const struct exec *e)
{
	const struct command *c = e->command;

	return c != NULL && !e->exited &&
	    (run_state(c->run) == RUN_REFUSED || (ended(c) && !has_output(e)));
}

bool
exec_done(const struct exec *e)
{
	return e->last && buf_peek(&e->small).len == 0;
}

static enum sched_turn
class_of(const struct exec *e)
{
	if (e->strand.finished)
		return TURN_IDLE;
	if (buf_peek(&e->small).len > 0 || start_due(e) || input_due(e) ||
	    end_due(e) || exec_done(e))
		return TURN_SOON;
	return has_output(e) && !e->waits ? TURN_BULK : TURN_IDLE;
}

/* Nothing is asked of the holder while there is enough to send. */
static void
ask_more(struct exec *e)
{
	struct command *c = e->command;

	if (c == NULL || c->asked || run_state(c->run) != RUN_RUNNING ||
	    (e->at[0] < c->size[0] && e->at[1] < c->size[1]))
		return;
	c->asked = true;
	runner_more(c->run, c->size);
}

void
exec_look(struct exec *e)
{
	ask_more(e);
	strand_set(&e->strand, class_of(e));
}

/* Frames --------------------------------------------------------------------
 */

static void
put_frame(struct exec *e, const struct execframe *f)
{
	execframe_put(&e->small, EXECFRAME_ON_STREAM, f);
}

static void
put_stamp(struct js_writer *w, const char *key, wall_msec at)
{
	uint8_t text[STAMP_LEN];

	stamp_format(at, text);
	js_kv_string(w, key, (struct slice){ text, sizeof(text) });
}

static void
put_json(struct exec *e, enum execframe_type type, struct js_writer *w,
    struct buf *text)
{
	js_end(w);
	if (js_finish(w) != 0)
		e->small.err = ERR_NOMEM;
	else
		put_frame(e,
		    &(struct execframe){
			.type = type, .data = buf_peek(text) });
	buf_fini(text);
}

static void
put_started(struct exec *e)
{
	struct js_writer w;
	struct buf text;

	buf_init(&text, 512);
	js_write(&w, &text);
	js_begin_object(&w);
	js_kv_i64(&w, "pid", e->command->pid);
	put_stamp(&w, "at", e->command->started_at);
	put_json(e, EXECFRAME_STARTED, &w, &text);
	e->started = true;
}

static void
put_refused(struct exec *e, const char *code, const char *why, uint32_t line)
{
	struct js_writer w;
	struct buf text;

	buf_init(&text, 4096);
	js_write(&w, &text);
	js_begin_object(&w);
	js_kv_string(&w, "code", slice_from(code));
	js_kv_string(&w, "why", slice_from(why));
	if (line > 0)
		js_kv_u64(&w, "line", line);
	put_json(e, EXECFRAME_REFUSED, &w, &text);
	e->exited = true;
	e->last = true;
}

/* The holder would not: nothing ran. */
static void
put_holder_no(struct exec *e)
{
	const struct command *c = e->command;
	char why[COMMAND_WORD + COMMAND_WHY + 32];

	if (strcmp(c->reason, "stopped") == 0) {
		put_refused(
		    e, "AGENT_STOPPED", "this agent is under a stop", 0);
		return;
	}
	(void)snprintf(
	    why, sizeof(why), "not started: %s %s", c->reason, c->error);
	put_refused(e, "EXEC_FAILED", why, 0);
}

static void
put_code(struct js_writer *w, const struct record_exit *x)
{
	char why[160] = "";
	const char *code = "";

	if (slice_eq(x->outcome, SL("failed"))) {
		code = "EXEC_FAILED";
		(void)snprintf(why, sizeof(why), "%.*s: %.*s",
		    SLICE_FMT(slice_first(x->stage, 60)),
		    SLICE_FMT(slice_first(x->error, 60)));
	} else if (slice_eq(x->outcome, SL("refused"))) {
		code = slice_eq(x->error, SL("stopped")) ? "AGENT_STOPPED"
							 : "EXEC_FAILED";
		(void)snprintf(why, sizeof(why), "not started: %.*s",
		    SLICE_FMT(slice_first(x->error, 60)));
	} else if (slice_eq(x->outcome, SL("unknown"))) {
		code = "UNKNOWN_OUTCOME";
		(void)snprintf(why, sizeof(why),
		    "it was started, and nobody saw how it ended");
	} else if (slice_eq(x->reason, SL("stop"))) {
		code = "AGENT_STOPPED";
		(void)snprintf(why, sizeof(why), "an emergency stop ended it");
	}
	js_kv_string(w, "code", slice_from(code));
	js_kv_string(w, "why", slice_from(why));
}

static void
put_exit(struct exec *e)
{
	const struct record_exit *x = &e->command->exit;
	bool interrupted = slice_eq(x->reason, SL("interrupt")) ||
	    slice_eq(x->reason, SL("terminate")) ||
	    slice_eq(x->reason, SL("kill"));
	struct js_writer w;
	struct buf text;

	buf_init(&text, 4096);
	js_write(&w, &text);
	js_begin_object(&w);
	js_kv_i64(&w, "exit_code", x->signal != 0 ? 128 + x->signal : x->code);
	js_kv_i64(&w, "signal", x->signal);
	put_stamp(&w, "started_at",
	    x->start != 0 ? x->start : e->command->started_at);
	put_stamp(&w, "finished_at", x->end);
	js_kv_u64(&w, "out", x->size[0]);
	js_kv_u64(&w, "err", x->size[1]);
	js_kv_bool(&w, "timed_out", slice_eq(x->reason, SL("timeout")));
	js_kv_bool(&w, "interrupted", interrupted);
	js_kv_bool(&w, "stopped", slice_eq(x->reason, SL("stop")));
	js_kv_u64(&w, "lingering", x->lingering);
	put_code(&w, x);
	put_json(e, EXECFRAME_EXIT, &w, &text);
	e->exited = true;
}

static void
put_input_ack(struct exec *e)
{
	e->told[0] = e->command->input_taken;
	e->told[1] = command_input_limit(e->command);
	put_frame(e,
	    &(struct execframe){ .type = EXECFRAME_STDIN_ACK,
		.offset = e->told[0],
		.limit = e->told[1] });
}

/* What is due joins the queue, in the order it must have. */
static void
queue_due(struct exec *e)
{
	if (start_due(e))
		put_started(e);
	if (input_due(e))
		put_input_ack(e);
	if (!end_due(e))
		return;
	if (ended(e->command))
		put_exit(e);
	else
		put_holder_no(e);
	crash_point("agent.exit");
}

/* Sending -------------------------------------------------------------------
 */

/* Pruned or lost: only what is left can be told. */
static void
skip_gap(struct exec *e, int which, uint64_t gone)
{
	const struct command *c = e->command;
	uint64_t left = c->size[which] - e->at[which];
	uint64_t to = e->at[which] + (gone < left ? gone : left);

	log_warn("output_gone", kv_s("id", run_id(c->run)),
	    kv_i("stream", which + 1), kv_u("from", e->at[which]),
	    kv_u("to", to));
	put_frame(e,
	    &(struct execframe){ .type = EXECFRAME_GAP,
		.stream = (uint8_t)(which + 1),
		.offset = e->at[which],
		.limit = to });
	e->at[which] = to;
}

/* One output frame of up to room bytes to out; a gap goes to the queue. */
static int
put_bulk(struct exec *e, uint8_t *out, size_t room, size_t *n)
{
	const struct command *c = e->command;
	int which = e->at[e->next] < c->size[e->next] ? e->next : !e->next;
	uint64_t left = c->size[which] - e->at[which];
	size_t want = left < room - BULK_HEAD ? (size_t)left : room - BULK_HEAD;
	size_t got = 0;

	int err = runner_read(
	    c->run, which, e->at[which], out + BULK_HEAD, want, &got);
	if (err == ERR_AGAIN) {
		e->waits = true;
		return 0;
	}
	/* Nothing where the record says there is: power was lost. */
	if (err == 0 && got == 0) {
		err = ERR_GONE;
		got = (size_t)left;
	}
	if (err == ERR_GONE) {
		skip_gap(e, which, got);
		return 0;
	}
	if (err != 0) {
		log_error("spool_read", kv_s("id", run_id(c->run)),
		    kv_u("at", e->at[which]), kv_e("err", err));
		return err;
	}
	const struct execframe f = {
		.type = which == 0 ? EXECFRAME_STDOUT : EXECFRAME_STDERR,
		.offset = e->at[which],
		.data = { out + BULK_HEAD, got },
	};
	size_t head = execframe_head(&f, EXECFRAME_ON_STREAM, out);
	assert(head == BULK_HEAD);
	crash_point("agent.output");
	e->at[which] += got;
	e->next = (uint8_t)!which;
	*n = head + got;
	return 0;
}

/* The window is nearly shut: a crumb goes by way of the queue, of which any
 * number of bytes may leave. */
static int
queue_crumb(struct exec *e)
{
	uint8_t crumb[BULK_HEAD + BULK_CRUMB];
	size_t n = 0;
	int err = put_bulk(e, crumb, sizeof(crumb), &n);

	buf_put(&e->small, (struct slice){ crumb, n });
	return err;
}

static size_t
take_small(struct exec *e, uint8_t *out, size_t room)
{
	struct slice s = slice_first(buf_peek(&e->small), room);

	if (s.len > 0)
		memcpy(out, s.ptr, s.len);
	buf_eat(&e->small, s.len);
	return s.len;
}

int
exec_put(struct exec *e, uint8_t *out, size_t room, size_t *n)
{
	int err = 0;

	*n = 0;
	if (buf_peek(&e->small).len == 0) {
		queue_due(e);
		if (buf_peek(&e->small).len == 0 && has_output(e))
			err = room >= BULK_LEAST ? put_bulk(e, out, room, n)
						 : queue_crumb(e);
	}
	if (err == 0)
		err = e->small.err;
	if (err == 0 && *n == 0)
		*n = take_small(e, out, room);
	if (err == 0)
		exec_look(e);
	return err;
}

/* Receiving -----------------------------------------------------------------
 */

static int
open_stream(struct exec *e, struct slice json)
{
	struct exec_refusal no;
	struct exec_wish w;
	struct arena a;

	arena_init(&a, WISH_ARENA);
	int err = exec_read_wish(json, &a, &w, &no);
	if (err == 0) {
		e->stdin_wanted = w.input;
		e->at[0] = w.at[0];
		e->at[1] = w.at[1];
		e->command = commands_find(e->home->commands, w.id);
		crash_point("agent.order");
		if (e->command == NULL)
			err = exec_start(e->home, &w, &a, &e->command, &no);
	}
	if (e->command != NULL)
		command_watch(e->command, e);
	else if (err != ERR_NOMEM)
		put_refused(e, no.code, no.why, no.line);
	arena_fini(&a);
	return err == ERR_NOMEM ? err : 0;
}

static int
on_signal(struct exec *e, uint8_t what)
{
	static const enum holder_signal map[] = {
		[EXECFRAME_INTERRUPT] = HOLDER_INTERRUPT,
		[EXECFRAME_TERM] = HOLDER_TERMINATE,
		[EXECFRAME_KILL] = HOLDER_KILL,
	};

	if (what == 0 || what >= sizeof(map) / sizeof(map[0]))
		return ERR_PROTOCOL;
	/* What has ended needs no signal. */
	(void)runner_signal(e->command->run, map[what]);
	return 0;
}

static void
on_stored(struct exec *e)
{
	struct command *c = e->command;

	crash_point("agent.done");
	e->command = NULL;
	e->last = true;
	command_forget(c);
}

static int
take_frame(struct exec *e, const struct execframe *f)
{
	if (e->command == NULL)
		return 0;
	if (f->type == EXECFRAME_STDIN)
		return command_input(e->command, f->offset, f->data);
	if (f->type == EXECFRAME_STDIN_EOF)
		return command_input_end(e->command, f->offset);
	if (f->type == EXECFRAME_SIGNAL)
		return on_signal(e, f->signal);
	if (f->type == EXECFRAME_ACK)
		command_ack(e->command, f->stream - 1, f->offset);
	if (f->type == EXECFRAME_DONE)
		on_stored(e);
	return 0;
}

static int
take_frames(struct exec *e, struct slice data)
{
	struct execframe f;
	int err, r;

	execframe_feed(&e->reader, data);
	while ((r = execframe_next(&e->reader, &f)) > 0)
		if ((err = take_frame(e, &f)) != 0)
			return err;
	return r;
}

/* The opening, gathered; what is behind it is frames. */
static int
take_opening(struct exec *e, struct slice data)
{
	struct opening o;

	buf_put(&e->opening, data);
	if (e->opening.err != 0)
		return e->opening.err;
	struct slice have = buf_peek(&e->opening);
	int n = opening_decode(have, &o);
	if (n <= 0)
		return n;
	if (o.version != 2 || o.kind != OPENING_KIND_EXEC)
		return ERR_UNSUPPORTED;
	e->opened = true;
	int err = open_stream(e, o.json);
	if (err == 0)
		err = take_frames(e, slice_from_at(have, (size_t)n));
	buf_fini(&e->opening);
	return err;
}

int
exec_feed(struct exec *e, struct slice data)
{
	int err = e->opened ? take_frames(e, data) : take_opening(e, data);

	if (err == 0)
		exec_look(e);
	return err;
}

/* Nobody listens to more of the command here. */
static void
let_go(struct exec *e)
{
	if (e->command != NULL)
		command_unwatch(e->command, e);
	e->command = NULL;
	e->last = true;
	exec_look(e);
}

void
exec_ended(struct exec *e)
{
	struct command *c = e->command;

	/* It has read that nothing ran; there is nothing to keep. */
	if (c != NULL && e->exited && run_state(c->run) == RUN_REFUSED)
		on_stored(e);
	let_go(e);
}

/* The strand ----------------------------------------------------------------
 */

static struct exec *
exec_of(struct strand *s)
{
	return LIST_OF(s, struct exec, strand);
}

static int
op_feed(struct strand *s, struct slice data)
{
	return exec_feed(exec_of(s), data);
}

static void
op_ended(struct strand *s)
{
	exec_ended(exec_of(s));
}

static int
op_put(struct strand *s, uint8_t *out, size_t room, size_t *n)
{
	return exec_put(exec_of(s), out, room, n);
}

static void
op_look(struct strand *s)
{
	exec_look(exec_of(s));
}

static bool
op_done(struct strand *s)
{
	return exec_done(exec_of(s));
}

static void
op_free(struct strand *s)
{
	struct exec *e = exec_of(s);

	exec_fini(e);
	alloc_free(e);
}

static const struct strand_ops exec_ops = {
	.feed = op_feed,
	.ended = op_ended,
	.put = op_put,
	.look = op_look,
	.done = op_done,
	.free = op_free,
};

/* Life ----------------------------------------------------------------------
 */

void
exec_changed(void *watcher, struct command *c)
{
	struct exec *e = watcher;

	(void)c;
	e->waits = false;
	exec_look(e);
}

void
exec_replaced(void *watcher, struct command *c)
{
	struct exec *e = watcher;

	(void)c;
	e->command = NULL;
	buf_clear(&e->small);
	let_go(e);
}

void
exec_init(struct exec *e, struct exec_home *home, struct strand_home *link,
    uint32_t id)
{
	*e = (struct exec){ .home = home };
	strand_init(&e->strand, &exec_ops, link, id);
	buf_init(&e->opening, OPENING_MAX + 256 * 1024);
	buf_init(&e->small, SMALL_MAX);
	execframe_reader_init(&e->reader, EXECFRAME_CONTROLLER);
}

void
exec_fini(struct exec *e)
{
	if (e->command != NULL)
		command_unwatch(e->command, e);
	strand_fini(&e->strand);
	buf_fini(&e->opening);
	buf_fini(&e->small);
	execframe_reader_fini(&e->reader);
}

struct strand *
exec_new(struct exec_home *home, struct strand_home *link, uint32_t id)
{
	struct exec *e = alloc_new(sizeof(*e));

	if (e == NULL)
		return NULL;
	exec_init(e, home, link, id);
	return &e->strand;
}
