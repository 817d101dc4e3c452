/*
 * The older endpoints: the contents of the messages without envelope.
 */
#include "base/err.h"

#include "wire/enc.h"

#include "dialect/cluster_parts.h"

static const struct slice none;

/* Calls ------------------------------------------------------------------ */

/* How a result may be worded, and what it means. */
struct word {
	struct slice text;
	struct slice code; /* set unless the exit code says more */
	bool interrupted;
	bool timed_out;
	bool failed;
};

static const struct word words[] = {
	{ .text = SL_INIT("completed") },
	{ .text = SL_INIT("failed"), .failed = true },
	{ .text = SL_INIT("interrupted"), .interrupted = true },
	{ .text = SL_INIT("timeout"), .timed_out = true },
	{ .text = SL_INIT("refused"), .code = SL_INIT("NOT_PERMITTED") },
	{ .text = SL_INIT("expired"), .code = SL_INIT("EXPIRED") },
	{ .text = SL_INIT("unknown"), .code = SL_INIT("UNKNOWN_OUTCOME") },
};

enum { WORDS = sizeof(words) / sizeof(words[0]) };

static const struct word *
find_word(struct slice text)
{
	for (size_t i = 0; i < WORDS; i++) {
		if (slice_eq(words[i].text, text))
			return &words[i];
	}
	return NULL;
}

static void
stumble(struct js_fields *f, int err, const char *name)
{
	if (f->err == 0) {
		f->err = err;
		f->field = slice_from(name);
	}
}

static void
opt_stamp(struct js_fields *f, const char *name, wall_msec *out)
{
	struct slice text;

	js_opt_string(f, name, &text);
	if (f->err == 0 && text.len > 0 && stamp_parse(text, out) != 0)
		stumble(f, ERR_RANGE, name);
}

static int
get_base64(
    struct js_fields *f, struct slice text, struct arena *a, struct slice *out)
{
	struct buf raw;

	buf_init(&raw, text.len + 4);
	int err = enc_get_base64(text, ENC_STD, &raw);
	if (err == ERR_INVALID)
		stumble(f, ERR_RANGE, "output_base64");
	if (err == 0)
		err = arena_copy(a, buf_peek(&raw), out);
	buf_fini(&raw);
	return err == ERR_INVALID ? 0 : err;
}

static void
apply_word(struct js_fields *f, const struct word *word, struct outcome *o)
{
	if (word == NULL) {
		stumble(f, ERR_RANGE, "status");
		return;
	}
	o->interrupted = word->interrupted;
	o->timed_out = word->timed_out;
	if (word->code.len > 0)
		o->code = word->code;
	else if (word->failed && o->exit_code == 0 && o->signal == 0)
		o->code = SL("FAILED");
}

static int
read_result(struct js_value body, struct arena *a, struct event *out)
{
	struct outcome o = { .command_id = none };
	struct slice status = none, base64 = none;
	int64_t code = 0, sig = 0;
	struct js_fields f;
	int err = 0;

	js_fields_init(&f, body);
	js_need_string(&f, "status", &status);
	js_opt_i64(&f, "exit_code", INT32_MIN, INT32_MAX, 0, &code);
	js_opt_i64(&f, "signal", 0, 127, 0, &sig);
	js_opt_string(&f, "stdout", &o.out);
	js_opt_string(&f, "stderr", &o.err);
	js_opt_string(&f, "output_base64", &base64);
	js_opt_string(&f, "error", &o.why);
	opt_stamp(&f, "started_at", &o.started_at);
	opt_stamp(&f, "finished_at", &o.finished_at);
	if (f.err == 0 && base64.ptr != NULL && o.out.ptr != NULL)
		stumble(&f, ERR_RANGE, "output_base64");
	if (f.err == 0 && base64.ptr != NULL)
		err = get_base64(&f, base64, a, &o.out);
	o.exit_code = (int)code;
	o.signal = (int)sig;
	if (f.err == 0)
		apply_word(&f, find_word(status), &o);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	o.why = slice_first(o.why, 1024);
	o.out_bytes = o.out.len;
	o.err_bytes = o.err.len;
	out->kind = EVENT_RESULT;
	out->outcome = o;
	return err;
}

static int
read_body(enum cluster_call call, struct slice body, struct arena *a,
    struct event *ev)
{
	struct js_doc doc;
	bool refused;

	/* The first agents sent heartbeats without a body. */
	if (call == CLUSTER_HEARTBEAT && slice_trim(body).len == 0)
		body = SL("{}");
	int err = cluster_open(body, a, &doc, ev, &refused);
	if (err != 0 || refused)
		return err;
	if (call == CLUSTER_REGISTER)
		return cluster_read_register(js_root(&doc), a, ev);
	if (call == CLUSTER_HEARTBEAT)
		return cluster_read_heartbeat(js_root(&doc), a, ev);
	return read_result(js_root(&doc), a, ev);
}

int
cluster_decode_call(enum cluster_call call, struct slice cluster_id,
    struct slice command_id, struct slice body, struct arena *a,
    struct event *out)
{
	static const enum event_kind plain[] = {
		[CLUSTER_REGISTER] = EVENT_BAD,
		[CLUSTER_HEARTBEAT] = EVENT_BAD,
		[CLUSTER_RESULT] = EVENT_BAD,
		[CLUSTER_POLL] = EVENT_POLL,
		[CLUSTER_TUNNEL_INFO] = EVENT_TUNNEL_INFO,
		[CLUSTER_ACK] = EVENT_ACK,
	};
	struct event ev = { .kind = plain[call] };
	int err = 0;

	if (ev.kind != EVENT_BAD) {
		ev.call.cluster_id = cluster_id;
		ev.call.command_id = command_id;
	} else {
		err = read_body(call, body, a, &ev);
	}
	if (err != 0)
		return err;
	if (ev.kind == EVENT_HEARTBEAT)
		ev.heartbeat.cluster_id = cluster_id;
	if (ev.kind == EVENT_RESULT) {
		ev.outcome.cluster_id = cluster_id;
		ev.outcome.command_id = command_id;
	}
	*out = ev;
	return 0;
}

/* Answers ---------------------------------------------------------------- */

/* Some agents read the members at the top, some those of `cluster`. */
static int
put_registered(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	cluster_put_identity(w, &ev->registered, c);
	js_kv_object(w, "cluster");
	cluster_put_identity(w, &ev->registered, c);
	js_end(w);
	return 200;
}

static int
put_heartbeat_ack(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	(void)c;
	cluster_put_stamp(w, "received_at", ev->at);
	return 200;
}

/* argv_json was checked when the command was made: strings, at least one. */
static int
put_argv(struct js_writer *w, struct slice argv)
{
	const struct js_limits limits = { CLUSTER_TEXT_MAX, 2 };
	struct js_value word;
	struct js_doc doc;
	struct arena a;

	arena_init(&a, 16 * argv.len + 65536);
	int err = js_parse(&doc, argv, &limits, &a);
	if (err == 0) {
		struct js_walk i = js_walk(js_root(&doc));
		js_key(w, SL("command"));
		js_put_raw(
		    w, js_next(&i, NULL, &word) ? js_raw(word) : SL("\"\""));
		js_kv_array(w, "args");
		while (js_next(&i, NULL, &word))
			js_put_raw(w, js_raw(word));
		js_end(w);
	}
	arena_fini(&a);
	return err;
}

static void
put_command(struct js_writer *w, const struct command_record *r,
    const struct cluster_context *c)
{
	msec left = r->deadline_at - c->now;

	js_begin_object(w);
	js_kv_string(w, "command_id", r->id);
	js_kv_u64(w, "attempt", r->attempt);
	int err = put_argv(w, r->argv_json);
	if (err != 0 && w->err == 0)
		w->err = err;
	if (r->shell)
		js_kv_bool(w, "shell", true);
	if (r->env_json.len > 0)
		js_kv_raw(w, "env", r->env_json);
	if (r->cwd.len > 0)
		js_kv_string(w, "cwd", r->cwd);
	js_kv_i64(w, "timeout_ms", r->timeout);
	js_kv_i64(w, "deadline_ms", left > 0 ? left : 0);
	js_end(w);
}

static int
put_poll(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	const struct poll_reply *p = &ev->poll;

	js_kv_array(w, "commands");
	for (size_t i = 0; i < p->count; i++)
		put_command(w, &p->commands[i], c);
	js_end(w);
	js_kv_u64(w, "stop_epoch", p->stop_epoch);
	js_kv_u64(w, "next_poll_seconds", p->next_seconds);
	return 200;
}

static int
put_tunnel(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	const struct registered *r = &ev->registered;

	js_kv_string(w, "cluster_id", r->cluster_id);
	cluster_put_tunnel_url(w, c, r->agent_id);
	js_kv_string(w, "tunnel_status",
	    r->native ? SL("connected") : SL("disconnected"));
	js_kv_array(w, "routes");
	js_end(w);
	return 200;
}

static int
put_accepted(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	(void)c;
	js_kv_string(w, "status", SL("accepted"));
	cluster_put_stamp(w, "received_at", ev->at);
	return 200;
}

static int
status_of(int err)
{
	switch (err) {
	case ERR_NOT_FOUND:
		return 404;
	case ERR_EXISTS:
	case ERR_WRONG_STATE:
		return 409;
	case ERR_DENIED:
	case ERR_EXPIRED:
	case ERR_REVOKED:
	case ERR_STOPPED:
		return 403;
	case ERR_LIMITED:
		return 429;
	case ERR_TOO_BIG:
		return 413;
	case ERR_NO_SPACE:
		return 507;
	case ERR_INVALID:
	case ERR_TYPE:
	case ERR_MISSING:
	case ERR_RANGE:
	case ERR_DEPTH:
	case ERR_UTF8:
	case ERR_DUPLICATE:
	case ERR_PROTOCOL:
	case ERR_UNSUPPORTED:
	case ERR_NEWER:
		return 400;
	default:
		return 503;
	}
}

static int
put_error(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	cluster_put_error(w, ev, c);
	return status_of(ev->complaint.err);
}

static int
put_denied(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	const struct denied *d = &ev->denied;

	(void)c;
	js_kv_string(w, "error", d->text);
	js_kv_string(w, "code", d->code);
	if (d->retry_after > 0)
		js_kv_u64(w, "retry_after", d->retry_after);
	return d->status;
}

static int (*const answers[EVENT_KINDS])(struct js_writer *w,
    const struct event *ev, const struct cluster_context *c) = {
	[EVENT_REGISTERED] = put_registered,
	[EVENT_HEARTBEAT_ACK] = put_heartbeat_ack,
	[EVENT_POLL_REPLY] = put_poll,
	[EVENT_TUNNEL_REPLY] = put_tunnel,
	[EVENT_ACCEPTED] = put_accepted,
	[EVENT_ERROR] = put_error,
	[EVENT_DENIED] = put_denied,
};

int
cluster_encode_call(const struct event *ev, enum cluster_call call,
    const struct cluster_context *c, int *status, struct buf *out)
{
	struct js_writer w;

	(void)call;
	if (answers[ev->kind] == NULL)
		return ERR_UNSUPPORTED;
	js_write(&w, out);
	js_begin_object(&w);
	int code = answers[ev->kind](&w, ev, c);
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		*status = code;
	return err;
}
