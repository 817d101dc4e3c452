/*
 * The upper spelling: payloads are those that existing clients check.
 */
#include "base/err.h"

#include "model/command.h"

#include "dialect/console_parts.h"

static const struct slice none;

/* Acknowledgements, errors ----------------------------------------------------
 */

static void
say_ack(struct console_say *s, struct slice message_id,
    const struct command_record *r)
{
	if (!console_begin(s, "ACK"))
		return;
	js_kv_string(&s->w, "messageId", message_id);
	js_kv_bool(&s->w, "success", true);
	if (r != NULL) {
		js_kv_string(&s->w, "commandId",
		    console_command_id(r, CONSOLE_UPPER, true));
		js_kv_string(&s->w, "musterId", r->id);
	}
	console_end(s);
}

/* Codes that clients of this spelling know; details.code is the same in all
 * spellings. */
static struct slice
known_code(struct slice code)
{
	static const struct {
		struct slice ours, theirs;
	} names[] = {
		{ SL_INIT("NOT_PERMITTED"), SL_INIT("FORBIDDEN") },
		{ SL_INIT("AGENT_MISMATCH"), SL_INIT("FORBIDDEN") },
		{ SL_INIT("AGENT_OFFLINE"), SL_INIT("ROUTING_FAILED") },
		{ SL_INIT("AGENT_NOT_FOUND"), SL_INIT("ROUTING_FAILED") },
		{ SL_INIT("INVALID_JSON"), SL_INIT("INVALID_MESSAGE") },
		{ SL_INIT("DUPLICATE_MEMBER"), SL_INIT("INVALID_MESSAGE") },
		{ SL_INIT("INVALID_REQUEST"), SL_INIT("INVALID_MESSAGE") },
		{ SL_INIT("UNKNOWN_TYPE"), SL_INIT("UNKNOWN_MESSAGE_TYPE") },
		{ SL_INIT("NOT_IDENTIFIED"), SL_INIT("UNAUTHORIZED") },
		{ SL_INIT("STORE_FAILED"), SL_INIT("INTERNAL_ERROR") },
		{ SL_INIT("NO_SPACE"), SL_INIT("INTERNAL_ERROR") },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_eq(code, names[i].ours))
			return names[i].theirs;
	}
	return code;
}

struct trouble {
	struct slice code, text, field, about, request_id;
	uint32_t retry_after;
};

static void
say_error(struct console_say *s, const struct trouble *t)
{
	struct slice code = t->code.len > 0 ? t->code : SL("INTERNAL_ERROR");

	if (!console_begin(s, "ERROR"))
		return;
	js_kv_string(&s->w, "code", known_code(code));
	js_kv_string(&s->w, "message",
	    t->text.len > 0 ? t->text : SL("the request was refused"));
	js_kv_object(&s->w, "details");
	js_kv_string(&s->w, "code", code);
	console_put_some(s, "field", t->field);
	console_put_some(s, "id", t->about);
	if (t->retry_after > 0)
		js_kv_u64(&s->w, "retryAfter", t->retry_after);
	js_end(&s->w);
	console_put_some(s, "originalMessageId", t->request_id);
	console_end(s);
}

static void
say_complaint(struct console_say *s, const struct event *ev)
{
	const struct complaint *p = &ev->complaint;
	const struct trouble t = { .code = p->code,
		.text = p->text,
		.field = console_field_name(p->field),
		.request_id = ev->request_id };

	say_error(s, &t);
}

static void
say_denied(struct console_say *s, const struct event *ev)
{
	const struct trouble t = { .code = ev->denied.code,
		.text = ev->denied.text,
		.retry_after = ev->denied.retry_after,
		.request_id = ev->request_id };

	say_error(s, &t);
}

/* Agents --------------------------------------------------------------------
 */

static struct slice
status_word(enum presence shown)
{
	struct slice word = presence_console_word(shown);

	if (slice_eq(word, SL("error")))
		return slice_from("ERROR");
	return slice_eq(word, SL("offline")) ? slice_from("OFFLINE")
					     : slice_from("ONLINE");
}

static void
say_status(struct console_say *s, const struct agent_news *news)
{
	bool busy = news->running > 0 || news->shown == PRESENCE_BUSY;

	if (!console_begin(s, "AGENT_STATUS"))
		return;
	js_kv_string(&s->w, "agentId", news->id);
	console_put_some(s, "name", news->name);
	console_put_type(s, news);
	js_kv_string(&s->w, "status", status_word(news->shown));
	js_kv_string(&s->w, "activityState",
	    busy                   ? slice_from("PROCESSING")
		: news->queued > 0 ? slice_from("QUEUED")
				   : slice_from("IDLE"));
	console_put_metrics(s, "healthMetrics", news, false);
	js_kv_u64(&s->w, "queuedCommands", news->queued);
	console_put_some(s, "reason", news->why);
	console_put_at(s, "since", news->since);
	console_end(s);
}

static bool
is_offline(enum presence shown)
{
	return slice_eq(presence_console_word(shown), SL("offline"));
}

static void
say_presence(struct console_say *s, const struct agent_news *news)
{
	bool offline = is_offline(news->shown);
	bool was_offline = is_offline(news->was_shown);

	if (was_offline && !offline && console_begin(s, "AGENT_CONNECTED")) {
		js_kv_string(&s->w, "agentId", news->id);
		console_put_some(s, "name", news->name);
		console_put_type(s, news);
		console_put_some(s, "version", news->version);
		console_end(s);
	}
	if (offline && !was_offline && console_begin(s, "AGENT_DISCONNECT")) {
		js_kv_string(&s->w, "agentId", news->id);
		js_kv_string(&s->w, "reason", news->why);
		console_end(s);
	}
	say_status(s, news);
}

/* Who came in, what is there, and that this is all: field-facts 2.3. */
static void
say_welcome(struct console_say *s, const struct event *ev)
{
	const struct reply *r = ev->reply;

	if (console_begin(s, "DASHBOARD_CONNECTED")) {
		if (r->user != NULL)
			js_kv_string(&s->w, "userId", r->user->id);
		js_kv_u64(&s->w, "agents", r->news_count);
		js_kv_bool(&s->w, "truncated", r->truncated);
		console_end(s);
	}
	/* There may be thousands: go to the one that is wanted at once. */
	if (s->n >= 1 && s->n <= r->news_count) {
		s->index = s->n;
		say_status(s, &r->news[s->n - 1]);
	}
	if (s->n > r->news_count)
		s->index = 1 + r->news_count;
	say_ack(s, ev->request_id, NULL);
}

/* Commands ------------------------------------------------------------------
 */

static struct slice
state_word(enum command_state state)
{
	static const char *const words[COMMAND_STATES] = {
		[COMMAND_QUEUED] = "QUEUED",
		[COMMAND_SENT] = "QUEUED",
		[COMMAND_RUNNING] = "EXECUTING",
		[COMMAND_COMPLETED] = "COMPLETED",
		[COMMAND_FAILED] = "FAILED",
		[COMMAND_INTERRUPTED] = "CANCELLED",
		[COMMAND_EXPIRED] = "CANCELLED",
		[COMMAND_CANCELLED] = "CANCELLED",
		[COMMAND_UNKNOWN] = "FAILED",
	};

	return slice_from(words[state]);
}

static void
put_ids(struct console_say *s, const struct command_record *r)
{
	js_kv_string(&s->w, "commandId",
	    console_command_id(r, CONSOLE_UPPER, s->c->own));
	js_kv_string(&s->w, "agentId", r->agent_id);
}

static void
put_end(struct console_say *s, const struct command_record *r)
{
	js_kv_i64(&s->w, "exitCode", console_exit_code(r));
	js_kv_i64(&s->w, "executionTime", console_duration(r));
	console_put_some(s, "code", console_end_code(r));
	console_put_some(s, "error", r->why);
}

static void
say_command(struct console_say *s, const struct notice *n)
{
	const struct command_record *r = n->command;
	bool over = command_is_final(r->state);

	/* To clients `sent` is queued still, and that was said. */
	if (slice_eq(n->name, SL("command.sent")))
		return;
	if (console_begin(s, "COMMAND_STATUS")) {
		put_ids(s, r);
		js_kv_string(&s->w, "status", state_word(r->state));
		if (r->started_at != 0)
			console_put_at(s, "startedAt", r->started_at);
		if (over && r->finished_at != 0)
			console_put_at(s, "completedAt", r->finished_at);
		if (over)
			put_end(s, r);
		console_end(s);
	}
	if (over && console_begin(s, "COMMAND_COMPLETE")) {
		put_ids(s, r);
		js_kv_string(&s->w, "status", state_word(r->state));
		put_end(s, r);
		js_kv_i64(&s->w, "tokensUsed", 0);
		console_end(s);
	}
}

/* 0 to 100, as clients sort by it. */
static uint32_t
priority_number(uint8_t priority)
{
	static const uint32_t numbers[] = { 20, 50, 70 };

	return numbers[priority > 2 ? 2 : priority];
}

static void
say_queue(struct console_say *s, const struct queue_view *q)
{
	if (!console_begin(s, "QUEUE_UPDATE"))
		return;
	js_kv_string(&s->w, "agentId", q->agent_id);
	js_kv_u64(&s->w, "queueSize", q->size);
	if (q->executing.len > 0) {
		js_kv_object(&s->w, "executing");
		js_kv_string(&s->w, "commandId", q->executing);
		console_put_at(s, "startedAt", q->executing_at);
		js_end(&s->w);
	}
	js_kv_array(&s->w, "queued");
	for (size_t i = 0; i < q->count; i++) {
		const struct queue_place *p = &q->places[i];
		js_begin_object(&s->w);
		js_kv_string(&s->w, "commandId", p->command_id);
		js_kv_u64(&s->w, "position", p->position);
		js_kv_u64(&s->w, "priority", priority_number(p->priority));
		console_put_at(s, "estimatedStartTime", s->c->now + p->wait);
		js_end(&s->w);
	}
	js_end(&s->w);
	console_end(s);
}

static void
say_trace(struct console_say *s, const struct notice *n)
{
	if (n->command == NULL || !console_begin(s, "TRACE_STREAM"))
		return;
	put_ids(s, n->command);
	js_kv_object(&s->w, "trace");
	console_put_details(s, n->data_json,
	    console_command_id(n->command, CONSOLE_UPPER, s->c->own));
	js_end(&s->w);
	console_end(s);
}

/* Answers -------------------------------------------------------------------
 */

static void
say_reply(struct console_say *s, const struct event *ev)
{
	const struct reply *r = ev->reply;
	const struct trouble t = { .code = r->code,
		.text = r->text,
		.field = console_field_name(r->field),
		.about = r->about,
		.request_id = ev->request_id,
		.retry_after = r->retry_after };

	if (r->err != 0)
		say_error(s, &t);
	else if (r->op == OP_WATCH)
		say_welcome(s, ev);
	else
		say_ack(s, ev->request_id,
		    r->op == OP_COMMAND_CREATE ? r->command : NULL);
}

/* What an agent is to use from now on: its own id (field-facts 2.3). */
static void
say_registered(struct console_say *s, const struct event *ev)
{
	if (!console_begin(s, "ACK"))
		return;
	js_kv_string(&s->w, "messageId", ev->request_id);
	js_kv_bool(&s->w, "success", true);
	js_kv_string(&s->w, "connectionId", ev->registered.cluster_id);
	js_kv_string(&s->w, "agentId", ev->registered.agent_id);
	js_kv_bool(&s->w, "authenticated", true);
	console_end(s);
}

/* News ----------------------------------------------------------------------
 */

static const char *
stop_type(bool stopped)
{
	if (stopped)
		return "EMERGENCY_STOP";
	return "SYSTEM_RESUME";
}

static void
put_stop(struct console_say *s, struct slice by, struct slice reason,
    uint64_t epoch, wall_msec at)
{
	/* Clients take neither for empty. */
	js_kv_string(&s->w, "triggeredBy", by.len > 0 ? by : SL("controller"));
	js_kv_string(&s->w, "reason", reason.len > 0 ? reason : SL("operator"));
	js_kv_u64(&s->w, "epoch", epoch);
	console_put_at(s, "timestamp", at);
}

/* A resume stops nobody. */
static void
put_reach(struct console_say *s, struct stop_reach reach)
{
	js_kv_u64(&s->w, "agentsStopped", reach.agents);
	js_kv_u64(&s->w, "commandsCancelled", reach.commands);
}

static void
say_stop(struct console_say *s, const struct notice *n)
{
	const struct stop_record *r = n->stop;
	bool lifted = r->lifted_epoch != 0;

	if (!console_begin(s, stop_type(!lifted)))
		return;
	put_stop(s, lifted ? r->lifted_by : r->actor, r->reason,
	    lifted ? r->lifted_epoch : r->epoch, lifted ? r->lifted_at : r->at);
	put_reach(s, n->stop_reach);
	if (r->scope == STOP_AGENT)
		js_kv_string(&s->w, "agentId", r->target);
	if (r->scope == STOP_SELECTOR)
		js_kv_string(&s->w, "selector", r->target);
	js_kv_bool(&s->w, "keepTunnels", r->keep_tunnels);
	console_end(s);
}

static void
say_notice(struct console_say *s, const struct notice *n)
{
	switch (n->kind) {
	case NOTICE_PRESENCE:
		if (console_shows_news(n->agent))
			say_presence(s, n->agent);
		break;
	case NOTICE_METRICS:
		say_status(s, n->agent);
		break;
	case NOTICE_COMMAND:
		say_command(s, n);
		break;
	case NOTICE_QUEUE:
		say_queue(s, n->queue);
		break;
	case NOTICE_STOP:
		say_stop(s, n);
		break;
	case NOTICE_TRACE:
		say_trace(s, n);
		break;
	case NOTICE_OTHER:
	case NOTICE_RECEIPT:
	case NOTICE_CLEAR:
	case NOTICE_ACTIVITY:
	case NOTICE_KINDS:
		break;
	}
}

/* To agents -----------------------------------------------------------------
 */

static void
say_execute(struct console_say *s, const struct event *ev)
{
	const struct command_record *r = ev->execute.command;

	if (!console_begin(s, "COMMAND_REQUEST"))
		return;
	js_kv_string(&s->w, "commandId", r->id);
	js_kv_string(&s->w, "agentId", r->agent_id);
	console_put_command(s, r, true);
	js_kv_u64(&s->w, "priority", priority_number(r->priority));
	if (ev->execute.remaining > 0)
		js_kv_i64(&s->w, "deadlineMs", ev->execute.remaining);
	console_end(s);
}

static void
say_cancel(struct console_say *s, const struct event *ev)
{
	const struct command_record *r = ev->execute.command;

	if (!console_begin(s, "COMMAND_CANCEL"))
		return;
	js_kv_string(&s->w, "commandId", r->id);
	js_kv_string(&s->w, "agentId", r->agent_id);
	js_kv_string(&s->w, "reason", SL("interrupted"));
	console_end(s);
}

static void
say_control(struct console_say *s, const struct event *ev)
{
	uint8_t word[16];
	size_t len = ev->control.action.len;

	if (len > sizeof(word) || !console_begin(s, "AGENT_CONTROL"))
		return;
	console_put_details(s, ev->control.data_json, none);
	js_kv_string(&s->w, "agentId", ev->control.agent_id);
	for (size_t i = 0; i < len; i++)
		word[i] = (uint8_t)(ev->control.action.ptr[i] & ~0x20);
	js_kv_string(&s->w, "action", (struct slice){ word, len });
	console_end(s);
}

static void
say_order(struct console_say *s, const struct event *ev)
{
	const struct stop_order *o = &ev->stop;

	s->stop_id = o->stopped;
	s->epoch = o->epoch;
	if (!console_begin(s, stop_type(o->stopped)))
		return;
	put_stop(s, none, o->reason, o->epoch, o->at);
	put_reach(s, o->reach);
	console_end(s);
}

static void
say_pong(struct console_say *s)
{
	if (!console_begin(s, "PONG"))
		return;
	js_kv_i64(&s->w, "timestamp", s->c->now);
	console_end(s);
}

void
console_upper_event(struct console_say *s, const struct event *ev)
{
	switch ((int)ev->kind) {
	case EVENT_REPLY:
		say_reply(s, ev);
		break;
	case EVENT_NOTICE:
		say_notice(s, &ev->notice);
		break;
	case EVENT_REGISTERED:
		say_registered(s, ev);
		break;
	case EVENT_HEARTBEAT_ACK:
	case EVENT_ACCEPTED:
		say_ack(s, ev->request_id, NULL);
		break;
	case EVENT_PONG:
		say_pong(s);
		break;
	case EVENT_ERROR:
		say_complaint(s, ev);
		break;
	case EVENT_DENIED:
		say_denied(s, ev);
		break;
	case EVENT_EXECUTE:
		say_execute(s, ev);
		break;
	case EVENT_INTERRUPT:
		say_cancel(s, ev);
		break;
	case EVENT_CONTROL:
		say_control(s, ev);
		break;
	case EVENT_STOP_ORDER:
		say_order(s, ev);
		break;
	default:
		break;
	}
}
