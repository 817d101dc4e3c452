/*
 * What dashboards do to agents beside running commands, the stop first of
 * all.
 */
#include "base/err.h"

#include "dialect/console_parts.h"

static const struct slice none;

int
console_read_clear(struct console_reader *r)
{
	struct slice id = none;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "agentId", &id);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	console_request(r, id);
	return 0;
}

static bool
find_action(struct slice word, struct slice *action)
{
	static const char *const words[] = { "stop", "restart", "pause",
		"resume" };

	for (size_t i = 0; i < 4; i++) {
		if (slice_eq_nocase(word, slice_from(words[i]))) {
			*action = slice_from(words[i]);
			return true;
		}
	}
	return false;
}

/* The members that the agent is told beside the action, written anew. */
static int
keep_details(struct console_reader *r, struct slice *out)
{
	struct slice reason = none;
	bool graceful = true;
	int64_t timeout = -1;
	struct js_writer w;
	struct js_fields f;
	struct buf b;

	js_fields_init(&f, r->body);
	js_opt_string(&f, "reason", &reason);
	js_opt_bool(&f, "gracefulShutdown", true, &graceful);
	js_opt_i64(&f, "timeout", 0, INT32_MAX, -1, &timeout);
	if (f.err == 0 && reason.len > 1024) {
		f.err = ERR_RANGE;
		f.field = SL("reason");
	}
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	buf_init(&b, 16 * 1024);
	js_write(&w, &b);
	js_begin_object(&w);
	js_kv_string(&w, "reason", reason.len > 0 ? reason : SL("operator"));
	js_kv_bool(&w, "gracefulShutdown", graceful);
	if (timeout >= 0)
		js_kv_i64(&w, "timeout", timeout);
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = arena_copy(r->a, buf_peek(&b), out);
	buf_fini(&b);
	return err == 0 ? 0 : ERR_NOMEM;
}

int
console_read_control(struct console_reader *r)
{
	struct slice id = none, word = none, action = none, details = none;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "agentId", &id);
	console_need_id(&f, "action", &word);
	if (f.err == 0 && !find_action(word, &action)) {
		f.err = ERR_RANGE;
		f.field = SL("action");
	}
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	int err = keep_details(r, &details);
	if (err != 0 || details.ptr == NULL)
		return err;
	struct request *q = console_request(r, id);
	q->action = action;
	q->data_json = details;
	return 0;
}

/* The stop ------------------------------------------------------------------
 */

/* All of it, one agent, or those that a selector picks. */
static int
read_scope(struct console_reader *r)
{
	struct slice agent = none, selector = none, reason = none;
	bool keep = false;
	int64_t epoch = 0;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_opt_id(&f, "agentId", &agent);
	js_opt_string(&f, "selector", &selector);
	js_opt_string(&f, "reason", &reason);
	js_opt_bool(&f, "keepTunnels", false, &keep);
	js_opt_i64(&f, "epoch", 0, INT64_MAX, 0, &epoch);
	if (f.err == 0 && agent.ptr != NULL && selector.ptr != NULL) {
		f.err = ERR_RANGE;
		f.field = SL("selector");
	}
	/* In upper nothing need be said at all. */
	if (f.err != 0 && r->body.kind == JS_OBJECT)
		return console_refuse_field(r, &f, "");
	struct request *q = console_request(r, none);
	q->scope = agent.ptr != NULL ? STOP_AGENT
	    : selector.ptr != NULL   ? STOP_SELECTOR
				     : STOP_ALL;
	q->target = agent.ptr != NULL ? agent : selector;
	q->reason = reason;
	q->keep_tunnels = keep;
	q->epoch = q->op == OP_STOP_LIFT ? (uint64_t)epoch : 0;
	q->request_key = r->request_id;
	return 0;
}

/* From an agent it is the answer to ours. */
int
console_read_stop(struct console_reader *r)
{
	return r->peer->side == CONSOLE_AGENT ? console_read_heeded(r, true)
					      : read_scope(r);
}

int
console_read_resume(struct console_reader *r)
{
	return r->peer->side == CONSOLE_AGENT ? console_read_heeded(r, false)
					      : read_scope(r);
}
