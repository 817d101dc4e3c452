#include "base/js.h"

#include "model/command.h"
#include "model/role.h"

#include "wire/enc.h"

#include "server/show.h"

void
show_at(struct js_writer *w, const char *key, wall_msec at)
{
	uint8_t text[STAMP_LEN];

	if (at == 0) {
		js_kv_null(w, key);
		return;
	}
	stamp_format(at, text);
	js_kv_string(w, key, (struct slice){ text, STAMP_LEN });
}

void
show_text(struct js_writer *w, const char *key, struct slice s)
{
	if (s.ptr == NULL)
		js_kv_null(w, key);
	else
		js_kv_string(w, key, s);
}

static void
show_json(struct js_writer *w, const char *key, struct slice json)
{
	if (json.len == 0)
		js_kv_null(w, key);
	else
		js_kv_raw(w, key, json);
}

static void
show_hex(struct js_writer *w, const char *key, const uint8_t *bytes, size_t n)
{
	struct buf b;

	buf_init(&b, 256);
	enc_put_hex(&b, (struct slice){ bytes, n });
	js_kv_string(w, key, buf_peek(&b));
	buf_fini(&b);
}

/* Members of one object that another does not override. */
static void
put_labels(
    struct js_writer *w, const struct js_doc *from, const struct js_doc *over)
{
	struct js_walk i = js_walk(js_root(from));
	struct slice name;
	struct js_value v;

	while (js_next(&i, &name, &v)) {
		struct js_walk j = js_walk(
		    over == NULL ? (struct js_value){ 0 } : js_root(over));
		struct slice other;
		struct js_value ignored;
		bool hidden = false;
		while (over != NULL && js_next(&j, &other, &ignored))
			hidden |= slice_eq(name, other);
		if (hidden)
			continue;
		js_key(w, name);
		js_put_raw(w, js_raw(v));
	}
}

static void
show_labels(
    struct js_writer *w, const struct agent_record *r, struct arena *scratch)
{
	const struct js_limits limits = { 1 << 20, 4 };
	struct js_doc said, own;
	struct slice empty = SL("{}");

	js_kv_object(w, "labels");
	if (js_parse(&said, r->labels_json.len > 0 ? r->labels_json : empty,
		&limits, scratch) == 0 &&
	    js_parse(&own,
		r->operator_labels_json.len > 0 ? r->operator_labels_json
						: empty,
		&limits, scratch) == 0) {
		put_labels(w, &own, NULL);
		put_labels(w, &said, &own);
	}
	js_end(w);
	show_json(w, "operator_labels", r->operator_labels_json);
}

void
show_agent(
    struct js_writer *w, const struct agent_view *v, struct arena *scratch)
{
	const struct agent_record *r = v->record;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.agent/1"));
	js_kv_string(w, "agent_id", r->id);
	js_kv_string(w, "cluster_id", r->cluster_id);
	js_kv_string(w, "name", r->name);
	js_kv_string(w, "status", presence_name(v->presence));
	js_kv_string(w, "status_reason", v->why);
	show_at(w, "status_since", v->since);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	js_kv_bool(w, "native", r->has_key);
	show_text(w, "dialect", v->dialect);
	show_text(w, "remote", v->remote);
	show_text(w, "session_id", v->session_id);
	show_at(w, "connected_at", v->connected_at);
	show_at(w, "heartbeat_at", v->heartbeat_at);
	show_at(w, "created_at", r->created_at);
	show_at(w, "registered_at", r->registered_at);
	show_at(w, "last_seen_at", r->seen_at);
	show_labels(w, r, scratch);
	show_json(w, "info", r->info_json);
	show_json(w, "metrics", v->metadata_json);
	show_text(w, "tunnel_status", v->tunnel_status);
	js_kv_object(w, "policy");
	show_text(w, "verbs", v->policy_verbs);
	show_text(w, "hash", v->policy_hash);
	js_end(w);
	js_kv_u64(w, "running", v->running);
	js_kv_u64(w, "queued", v->queued);
	show_at(w, "cordoned_at", r->cordoned_at);
	if (v->stop_epoch != 0) {
		js_kv_object(w, "stop");
		js_kv_u64(w, "epoch", v->stop_epoch);
		js_kv_string(w, "scope", v->stop_text);
		js_end(w);
	} else {
		js_kv_null(w, "stop");
	}
	js_kv_bool(w, "stopped_locally", v->stopped_locally);
	js_end(w);
}

void
show_scopes(struct js_writer *w, const char *key, scope_set scopes)
{
	unsigned pos = 0;

	js_kv_array(w, key);
	for (struct slice s; (s = scope_next(scopes, &pos)).ptr != NULL;)
		js_put_string(w, s);
	js_end(w);
}

void
show_token(struct js_writer *w, const struct token_record *t, struct slice text)
{
	struct slice allow = t->allow, part;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.token/1"));
	js_kv_string(w, "id", t->id);
	js_kv_string(w, "name", t->name);
	if (text.ptr != NULL)
		js_kv_string(w, "token", text);
	js_kv_string(w, "shown", t->shown);
	show_scopes(w, "scopes", t->scopes);
	show_text(w, "user_id", t->user_id);
	js_kv_array(w, "allow");
	while (slice_split(&allow, ',', &part)) {
		if (part.len > 0)
			js_put_string(w, slice_trim(part));
	}
	js_end(w);
	js_kv_u64(w, "max_connections",
	    t->max_connections == 0 ? 10000 : t->max_connections);
	js_kv_i64(w, "workspace_id", t->workspace_id);
	show_at(w, "created_at", t->created_at);
	show_at(w, "expires_at", t->expires_at);
	show_at(w, "revoked_at", t->revoked_at);
	show_at(w, "rotated_until", t->old_until);
	show_at(w, "last_used_at", t->used_at);
	js_end(w);
}

void
show_user(struct js_writer *w, const struct user_record *u)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.user/1"));
	js_kv_string(w, "id", u->id);
	js_kv_string(w, "name", u->name);
	js_kv_string(w, "role", role_name(u->role));
	show_text(w, "selector", u->selector);
	js_kv_bool(w, "has_password", u->password.len > 0);
	js_kv_i64(w, "workspace_id", u->workspace_id);
	show_at(w, "created_at", u->created_at);
	js_end(w);
}

void
show_command(struct js_writer *w, const struct command_record *r)
{
	show_placed(w, r, 0, 0);
}

void
show_placed(struct js_writer *w, const struct command_record *r,
    uint32_t position, msec wait)
{
	show_named(w, r, (struct slice){ 0 }, position, wait);
}

void
show_named(struct js_writer *w, const struct command_record *r,
    struct slice agent, uint32_t position, msec wait)
{
	/* What has not ended has no outcome, and what never ran none; an
	 * agent that says no more than the code need not say when. */
	bool ran = r->started_at != 0 || r->code.len == 0;
	bool ended =
	    command_is_final(r->state) && ran && r->state != COMMAND_UNKNOWN;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.command/1"));
	js_kv_string(w, "id", r->id);
	js_kv_string(w, "agent_id", r->agent_id);
	if (agent.len > 0)
		js_kv_string(w, "agent_name", agent);
	js_kv_string(w, "user_id", r->user_id);
	js_kv_string(w, "state", command_state_name(r->state));
	show_json(w, "argv", r->argv_json);
	show_json(w, "env", r->env_json);
	show_text(w, "cwd", r->cwd);
	show_text(w, "user", r->exec_user);
	js_kv_bool(w, "shell", r->shell);
	js_kv_bool(w, "foreground", r->foreground);
	js_kv_string(w, "on_full", r->drops ? SL("drop") : SL("wait"));
	js_kv_string(w, "priority", priority_name(r->priority));
	js_kv_i64(w, "timeout_ms", r->timeout);
	show_at(w, "deadline_at", r->deadline_at);
	if (position > 0) {
		js_kv_u64(w, "position", position);
		js_kv_i64(w, "wait_ms", wait);
	} else {
		js_kv_null(w, "position");
		js_kv_null(w, "wait_ms");
	}
	js_kv_u64(w, "sequence", r->sequence);
	if (ended && r->signal == 0)
		js_kv_i64(w, "exit_code", r->exit_code);
	else
		js_kv_null(w, "exit_code");
	if (ended && r->signal != 0)
		js_kv_i64(w, "signal", r->signal);
	else
		js_kv_null(w, "signal");
	show_text(w, "code", r->code);
	show_text(w, "why", r->why);
	js_kv_u64(w, "lingering", r->lingering);
	js_kv_u64(w, "out_bytes", r->out_bytes);
	js_kv_u64(w, "err_bytes", r->err_bytes);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	show_at(w, "created_at", r->created_at);
	show_at(w, "sent_at", r->sent_at);
	show_at(w, "started_at", r->started_at);
	show_at(w, "finished_at", r->finished_at);
	js_end(w);
}

static void
put_refusal(struct js_writer *w, const struct fan_item *i)
{
	js_begin_object(w);
	js_kv_i64(w, "status", i->status);
	js_kv_string(w, "code", i->code);
	js_kv_string(w, "detail", i->text);
	js_end(w);
}

/* What became of a command for many, agent by agent. */
void
show_fan(struct js_writer *w, const struct reply *r)
{
	size_t made = 0;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.fanout/1"));
	js_kv_array(w, "items");
	for (size_t n = 0; n < r->item_count; n++) {
		const struct fan_item *i = &r->items[n];
		bool known = i->agent_id.len > 0;
		js_begin_object(w);
		show_text(w, "target", i->target);
		show_text(w, "agent_id", i->agent_id);
		show_text(w, "name", i->name);
		show_text(w, "status",
		    known ? presence_name(i->presence) : (struct slice){ 0 });
		show_at(w, "cordoned_at", i->cordoned_at);
		js_key(w, SL("command"));
		if (i->command != NULL)
			show_placed(w, i->command, i->position, i->wait);
		else
			js_put_null(w);
		js_key(w, SL("problem"));
		if (i->command == NULL)
			put_refusal(w, i);
		else
			js_put_null(w);
		js_end(w);
		made += i->command != NULL;
	}
	js_end(w);
	js_kv_u64(w, "made", made);
	js_kv_u64(w, "refused", r->item_count - made);
	js_end(w);
}

static void
put_queue(struct js_writer *w, const struct queue_view *q)
{
	js_kv_string(w, "agent_id", q->agent_id);
	js_kv_u64(w, "queued", q->size);
	js_kv_u64(w, "running", q->running);
	show_at(w, "cordoned_at", q->cordoned_at);
	show_text(w, "executing", q->executing);
	js_kv_array(w, "places");
	for (size_t i = 0; i < q->count; i++) {
		const struct queue_place *p = &q->places[i];
		js_begin_object(w);
		js_kv_string(w, "command_id", p->command_id);
		js_kv_u64(w, "position", p->position);
		js_kv_string(w, "priority", priority_name(p->priority));
		js_kv_i64(w, "wait_ms", p->wait);
		js_end(w);
	}
	js_end(w);
}

void
show_queue(struct js_writer *w, const struct queue_view *q)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.queue/1"));
	put_queue(w, q);
	js_end(w);
}

void
show_link(struct js_writer *w, const struct connection_record *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.connection/1"));
	js_kv_u64(w, "id", r->id);
	js_kv_string(w, "agent_id", r->agent_id);
	show_text(w, "session_id", r->session_id);
	show_text(w, "remote", r->remote);
	show_text(w, "dialect", r->dialect);
	show_at(w, "opened_at", r->opened_at);
	show_at(w, "closed_at", r->closed_at);
	show_text(w, "why", r->why);
	js_end(w);
}

void
show_audit(struct js_writer *w, const struct audit_record *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.audit/1"));
	js_kv_u64(w, "node", r->node);
	js_kv_u64(w, "number", r->number);
	show_at(w, "at", r->at);
	show_text(w, "actor", r->note.actor);
	show_text(w, "action", r->note.action);
	show_text(w, "object", r->note.object);
	show_text(w, "result", r->note.result);
	show_text(w, "request_id", r->note.request_id);
	show_text(w, "remote", r->note.remote);
	show_json(w, "detail", r->note.detail_json);
	show_hex(w, "prev_hash", r->prev_hash, HASH_LEN);
	show_hex(w, "hash", r->hash, HASH_LEN);
	js_end(w);
}

void
show_notice(struct js_writer *w, const struct event *ev)
{
	const struct notice *n = &ev->notice;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.event/1"));
	js_kv_u64(w, "number", n->number);
	show_at(w, "at", ev->at);
	js_kv_string(w, "name", n->name);
	show_text(w, "agent_id", n->agent_id);
	show_text(w, "command_id", n->command_id);
	show_text(w, "actor", n->actor);
	if (n->queue != NULL) {
		js_kv_object(w, "data");
		put_queue(w, n->queue);
		js_end(w);
	} else {
		show_json(w, "data", n->data_json);
	}
	js_end(w);
}

void
show_log(struct js_writer *w, const struct log_record *l)
{
	js_begin_object(w);
	js_kv_string(w, "agent_id", l->agent_id);
	show_at(w, "at", l->at);
	show_at(w, "said_at", l->said_at);
	js_kv_string(w, "level", l->level);
	show_text(w, "source", l->source);
	js_kv_string(w, "message", l->message);
	js_end(w);
}
