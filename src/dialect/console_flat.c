/*
 * The flat spelling.
 */
#include "base/err.h"

#include "model/command.h"

#include "dialect/console_parts.h"

/* Agents --------------------------------------------------------------------
 */

static void
say_presence(struct console_say *s, const struct agent_news *news)
{
	if (!console_begin(s, "agent:status"))
		return;
	js_kv_string(&s->w, "agentId", news->id);
	js_kv_string(&s->w, "status", presence_console_word(news->shown));
	console_put_metrics(s, "metrics", news, true);
	console_put_some(s, "reason", news->why);
	console_put_at(s, "since", news->since);
	console_end(s);
}

static void
put_listed(struct console_say *s, const struct agent_news *news)
{
	js_begin_object(&s->w);
	js_kv_string(&s->w, "agentId", news->id);
	console_put_type(s, news);
	console_put_some(s, "name", news->name);
	console_put_some(s, "version", news->version);
	js_kv_string(&s->w, "status", presence_console_word(news->shown));
	if (news->connected_at != 0)
		console_put_at(s, "connectedAt", news->connected_at);
	console_put_some(s, "reason", news->why);
	console_put_at(s, "since", news->since);
	js_end(&s->w);
}

static void
say_list(struct console_say *s, const struct event *ev)
{
	const struct reply *r = ev->reply;

	if (!console_begin(s, "agent:list"))
		return;
	js_kv_array(&s->w, "agents");
	for (size_t i = 0; i < r->news_count; i++)
		put_listed(s, &r->news[i]);
	js_end(&s->w);
	if (r->truncated)
		js_kv_bool(&s->w, "truncated", true);
	console_put_some(s, "requestId", ev->request_id);
	console_end(s);
}

/* Commands ------------------------------------------------------------------
 */

static void
say_queued(struct console_say *s, const struct event *ev)
{
	const struct reply *r = ev->reply;

	if (r->command == NULL || !console_begin(s, "command:queued"))
		return;
	js_kv_string(&s->w, "commandId", r->command->id);
	js_kv_string(&s->w, "agentId", r->command->agent_id);
	js_kv_u64(&s->w, "position", r->position > 0 ? r->position : 1);
	js_kv_i64(&s->w, "estimatedWait", r->position > 0 ? r->wait : 0);
	console_put_some(s, "requestId", ev->request_id);
	console_end(s);
}

static void
put_end(struct console_say *s, const struct command_record *r)
{
	js_kv_i64(&s->w, "exitCode", console_exit_code(r));
	js_kv_i64(&s->w, "duration", console_duration(r));
	console_put_some(s, "code", console_end_code(r));
	console_put_some(s, "error", r->why);
}

static void
put_ids(struct console_say *s, const struct command_record *r)
{
	js_kv_string(&s->w, "commandId", r->id);
	js_kv_string(&s->w, "agentId", r->agent_id);
}

static void
say_command(struct console_say *s, const struct notice *n)
{
	const struct command_record *r = n->command;
	bool over = command_is_final(r->state);

	/* To clients `sent` is queued still, and that was said. */
	if (slice_eq(n->name, SL("command.sent")))
		return;
	if (console_begin(s, "command:status")) {
		put_ids(s, r);
		js_kv_string(&s->w, "status", console_state_word(r->state));
		if (over)
			put_end(s, r);
		console_end(s);
	}
	if (over && console_begin(s, "command:complete")) {
		put_ids(s, r);
		put_end(s, r);
		console_end(s);
	}
}

/* Errors --------------------------------------------------------------------
 */

struct complaint_view {
	struct slice text, code, field, agent_id, command_id, request_id;
	uint32_t retry_after;
};

static void
say_error(
    struct console_say *s, const char *type, const struct complaint_view *v)
{
	if (!console_begin(s, type))
		return;
	console_put_some(s, "commandId", v->command_id);
	console_put_some(s, "agentId", v->agent_id);
	js_kv_string(&s->w, "error",
	    v->text.len > 0 ? v->text : SL("the request was refused"));
	js_kv_string(
	    &s->w, "code", v->code.len > 0 ? v->code : SL("INTERNAL_ERROR"));
	console_put_some(s, "field", v->field);
	if (v->retry_after > 0)
		js_kv_u64(&s->w, "retryAfter", v->retry_after);
	console_put_some(s, "requestId", v->request_id);
	console_end(s);
}

static void
say_complaint(struct console_say *s, const struct event *ev)
{
	const struct complaint *p = &ev->complaint;
	const struct complaint_view v = { .text = p->text,
		.code = p->code,
		.field = console_field_name(p->field),
		.request_id = ev->request_id };
	bool shape = p->field.len > 0 ||
	    slice_eq(p->code, SL("INVALID_JSON")) ||
	    slice_eq(p->code, SL("INVALID_MESSAGE"));

	if (slice_eq(p->code, SL("COMMAND_NOT_FOUND")))
		say_error(s, "command:error", &v);
	else
		say_error(
		    s, shape ? "validation:error" : "connection:error", &v);
}

static void
say_denied(struct console_say *s, const struct event *ev)
{
	const struct complaint_view v = { .text = ev->denied.text,
		.code = ev->denied.code,
		.retry_after = ev->denied.retry_after,
		.request_id = ev->request_id };

	say_error(s, "connection:error", &v);
}

static bool
is_of_command(enum request_op op)
{
	return op == OP_COMMAND_CREATE || op == OP_COMMAND_INTERRUPT ||
	    op == OP_COMMAND_CANCEL;
}

static void
say_refused(struct console_say *s, const struct event *ev)
{
	const struct reply *r = ev->reply;
	bool create = r->op == OP_COMMAND_CREATE;
	bool of_command = is_of_command(r->op);
	struct complaint_view v = { .text = r->text,
		.code = r->code,
		.field = console_field_name(r->field),
		.retry_after = r->retry_after,
		.request_id = ev->request_id };

	if (of_command && !create)
		v.command_id = r->about;
	else
		v.agent_id = r->about;
	say_error(s,
	    of_command             ? "command:error"
		: r->field.len > 0 ? "validation:error"
				   : "connection:error",
	    &v);
}

static void
say_reply(struct console_say *s, const struct event *ev)
{
	if (ev->reply->err != 0)
		say_refused(s, ev);
	else if (ev->reply->op == OP_WATCH)
		say_list(s, ev);
	else if (ev->reply->op == OP_COMMAND_CREATE)
		say_queued(s, ev);
	/* What else was asked shows in what follows from it. */
}

/* News ----------------------------------------------------------------------
 */

static void
say_stop(struct console_say *s, const struct stop_record *r)
{
	bool lifted = r->lifted_epoch != 0;

	if (!console_begin(
		s, lifted ? "system:resume" : "system:emergency-stop"))
		return;
	js_kv_string(&s->w, "reason", r->reason);
	js_kv_string(&s->w, "scope",
	    r->scope == STOP_AGENT          ? SL("agent")
		: r->scope == STOP_SELECTOR ? SL("selector")
					    : SL("all"));
	if (r->scope == STOP_AGENT)
		js_kv_string(&s->w, "agentId", r->target);
	if (r->scope == STOP_SELECTOR)
		js_kv_string(&s->w, "selector", r->target);
	js_kv_u64(&s->w, "epoch", lifted ? r->lifted_epoch : r->epoch);
	js_kv_bool(&s->w, "keepTunnels", r->keep_tunnels);
	console_put_some(s, "triggeredBy", lifted ? r->lifted_by : r->actor);
	console_end(s);
}

static struct slice
receipt_word(enum receipt_kind kind)
{
	static const char *const words[] = {
		[RECEIPT_WAITING] = "waiting",
		[RECEIPT_CONFIRMED] = "confirmed",
		[RECEIPT_ACKNOWLEDGED] = "acknowledged",
		[RECEIPT_UNABLE] = "unable",
		[RECEIPT_UNREACHABLE] = "unreachable",
	};

	return slice_from(words[kind]);
}

static void
say_receipt(struct console_say *s, const struct receipt_record *r)
{
	if (!console_begin(s, "system:stop-receipt"))
		return;
	js_kv_string(&s->w, "agentId", r->agent_id);
	js_kv_u64(&s->w, "epoch", r->epoch);
	js_kv_string(&s->w, "receipt", receipt_word(r->kind));
	if (r->kind == RECEIPT_CONFIRMED) {
		js_kv_u64(&s->w, "commands", r->report.commands);
		js_kv_u64(&s->w, "killed", r->report.killed);
		js_kv_u64(&s->w, "left", r->report.left);
	}
	console_end(s);
}

static void
say_clear(struct console_say *s, const struct notice *n)
{
	if (!console_begin(s, "terminal:clear"))
		return;
	js_kv_string(&s->w, "agentId", n->agent_id);
	console_end(s);
}

static void
say_queue(struct console_say *s, const struct queue_view *q)
{
	if (!console_begin(s, "queue:update"))
		return;
	js_kv_string(&s->w, "agentId", q->agent_id);
	js_kv_u64(&s->w, "queueSize", q->size);
	console_put_some(s, "executing", q->executing);
	js_kv_array(&s->w, "queued");
	for (size_t i = 0; i < q->count; i++) {
		const struct queue_place *p = &q->places[i];
		js_begin_object(&s->w);
		js_kv_string(&s->w, "commandId", p->command_id);
		js_kv_u64(&s->w, "position", p->position);
		js_kv_string(&s->w, "priority", priority_name(p->priority));
		js_kv_i64(&s->w, "estimatedWait", p->wait);
		js_end(&s->w);
	}
	js_end(&s->w);
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
		say_presence(s, n->agent);
		break;
	case NOTICE_COMMAND:
		say_command(s, n);
		break;
	case NOTICE_STOP:
		say_stop(s, n->stop);
		break;
	case NOTICE_RECEIPT:
		say_receipt(s, n->receipt);
		break;
	case NOTICE_CLEAR:
		say_clear(s, n);
		break;
	case NOTICE_QUEUE:
		say_queue(s, n->queue);
		break;
	case NOTICE_OTHER:
	case NOTICE_TRACE:
	case NOTICE_ACTIVITY:
	case NOTICE_KINDS:
		break;
	}
}

/* To agents -----------------------------------------------------------------
 */

static void
put_order(struct console_say *s, const struct event *ev)
{
	put_ids(s, ev->execute.command);
	console_put_command(s, ev->execute.command, false);
	js_kv_string(
	    &s->w, "priority", priority_name(ev->execute.command->priority));
	if (ev->execute.remaining > 0)
		js_kv_i64(&s->w, "deadlineMs", ev->execute.remaining);
}

/* Agents in the field read either place (field-facts 2.5). */
static void
say_execute(struct console_say *s, const struct event *ev)
{
	if (!console_begin(s, "command:execute"))
		return;
	put_order(s, ev);
	js_kv_object(&s->w, "payload");
	put_order(s, ev);
	js_end(&s->w);
	console_end(s);
}

static void
say_interrupt(struct console_say *s, const struct event *ev)
{
	if (!console_begin(s, "command:interrupt"))
		return;
	put_ids(s, ev->execute.command);
	console_end(s);
}

static void
say_control(struct console_say *s, const struct event *ev)
{
	if (!console_begin(s, "agent:control"))
		return;
	js_kv_string(&s->w, "agentId", ev->control.agent_id);
	js_kv_string(&s->w, "action", ev->control.action);
	if (ev->control.data_json.len > 0)
		js_kv_raw(&s->w, "details", ev->control.data_json);
	console_end(s);
}

static void
say_order(struct console_say *s, const struct stop_order *o)
{
	if (!console_begin(
		s, o->stopped ? "system:emergency-stop" : "system:resume"))
		return;
	js_kv_string(&s->w, "reason", o->reason);
	js_kv_u64(&s->w, "epoch", o->epoch);
	console_put_some(s, "scope", o->scope);
	js_kv_bool(&s->w, "keepTunnels", o->keep_tunnels);
	console_end(s);
}

/* Either side ---------------------------------------------------------------
 */

static void
say_bare(struct console_say *s, const char *type, const struct event *ev)
{
	if (!console_begin(s, type))
		return;
	console_put_some(s, "requestId", ev->request_id);
	console_end(s);
}

void
console_flat_event(struct console_say *s, const struct event *ev)
{
	switch ((int)ev->kind) {
	case EVENT_REPLY:
		say_reply(s, ev);
		break;
	case EVENT_NOTICE:
		say_notice(s, &ev->notice);
		break;
	case EVENT_PONG:
		say_bare(s, "heartbeat:pong", ev);
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
		say_interrupt(s, ev);
		break;
	case EVENT_CONTROL:
		say_control(s, ev);
		break;
	case EVENT_STOP_ORDER:
		say_order(s, &ev->stop);
		break;
	case EVENT_TOKEN_ENDS:
		say_bare(s, "auth:refresh-needed", ev);
		break;
	default:
		break;
	}
}
