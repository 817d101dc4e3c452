/*
 * What coding agents tell of their own work, and how foreign agents say that
 * they heed a stop.
 */
#include "base/err.h"

#include "dialect/cluster_parts.h"
#include "dialect/console_parts.h"

static const struct slice none;

enum { TRACE_MAX = 64 * 1024 };

/* The whole body, as it came but for secrets; kind names it when the agent's
 * own `type` does not. */
static int
keep_body(struct console_reader *r, struct slice kind, struct slice *out)
{
	static const char *const all[] = { NULL };
	static const char *const but[] = { "type", NULL };
	struct cluster_keep k;

	cluster_keep_begin(&k, false);
	if (kind.ptr != NULL)
		js_kv_string(&k.w, "type", kind);
	cluster_keep_members(&k, r->body, kind.ptr != NULL ? but : all);
	return cluster_keep_end(&k, r->a, out);
}

static int
read_work(struct console_reader *r, struct slice kind)
{
	const struct slice own = { r->peer->agent_id, r->peer->agent_id_len };
	struct slice id = none, agent = none, data = none;
	struct js_fields f;

	js_fields_init(&f, r->body);
	console_need_id(&f, "commandId", &id);
	console_opt_id(&f, "agentId", &agent);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (agent.ptr != NULL && !slice_eq(agent, own))
		return console_refuse(r, ERR_DENIED, SL("AGENT_MISMATCH"),
		    SL("agentId"), SL("agentId is not this connection's"));
	if (js_raw(r->body).len > TRACE_MAX)
		return console_refuse(r, ERR_TOO_BIG, SL("INVALID_MESSAGE"),
		    SL("payload"), SL("a trace has 64 KiB at most"));
	int err = keep_body(r, kind, &data);
	if (err != 0)
		return err;
	r->out->event.kind = EVENT_TRACE;
	r->out->event.trace.command_id = id;
	r->out->event.trace.data_json = data;
	return 0;
}

int
console_read_trace(struct console_reader *r)
{
	return read_work(r, none);
}

int
console_read_report(struct console_reader *r)
{
	return read_work(r, slice_from("INVESTIGATION_REPORT"));
}

/* The stop ------------------------------------------------------------------
 */

static int
report(struct console_reader *r, uint64_t epoch, bool stopped)
{
	r->out->event.kind = EVENT_STOP_REPORT;
	r->out->event.report = (struct stop_report){
		.epoch = epoch, .stopped = stopped, .done_at = r->now
	};
	return 0;
}

int
console_read_heeded(struct console_reader *r, bool stopped)
{
	int64_t epoch = -1;
	struct js_fields f;

	js_fields_init(&f, r->body);
	/* An agent that only echoes the word means the last one it heard. */
	if (r->body.kind == JS_OBJECT)
		js_opt_i64(&f, "epoch", 0, INT64_MAX, -1, &epoch);
	if (r->body.kind == JS_OBJECT && f.err != 0)
		return console_refuse_field(r, &f, "");
	if (r->peer->stop_epoch == 0 && epoch < 0)
		return console_refuse(r, ERR_WRONG_STATE,
		    SL("INVALID_MESSAGE_TYPE"), SL("type"),
		    SL("this agent was not told of a stop"));
	return report(
	    r, epoch >= 0 ? (uint64_t)epoch : r->peer->stop_epoch, stopped);
}

/* ACK in upper answers one message of ours by its id; only that of a stop
 * means something. */
int
console_read_ack(struct console_reader *r)
{
	struct slice id = none;
	bool success = true;
	uint64_t epoch = 0;
	struct js_fields f;

	js_fields_init(&f, r->body);
	js_opt_string(&f, "messageId", &id);
	js_opt_bool(&f, "success", true, &success);
	if (f.err == 0 && success && r->peer->side == CONSOLE_AGENT &&
	    console_stop_id(id, &epoch))
		return report(r, epoch, true);
	r->out->word = CONSOLE_NOTHING;
	return 0;
}
