/*
 * /api/websocket/agents, as the original server of such agents has it: the
 * members' names are its own, and so are its errors.
 */
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "server/api.h"
#include "server/signed.h"

enum { PAGE = 1000, ARGS_MAX = 32 };

static const struct slice none;

static void
answer_error(struct conn *c, int status, struct slice text, struct slice code)
{
	struct buf *out = &c->dock->text;
	struct js_writer w;

	buf_clear(out);
	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "error", text);
	if (code.len > 0)
		js_kv_string(&w, "code", code);
	js_end(&w);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, status, "application/json", buf_peek(out));
}

/* Asking ------------------------------------------------------------------- */

/* "name=value", as verbs have it. */
static int
put_args(struct js_writer *w, struct js_value args)
{
	struct js_walk i = js_walk(args);
	struct slice name, text;
	struct js_value v;
	struct buf word;
	int err = 0;

	if (js_count(args) > ARGS_MAX)
		return ERR_RANGE;
	buf_init(&word, 64 * 1024);
	while (err == 0 && js_next(&i, &name, &v)) {
		buf_clear(&word);
		err = js_string(v, &text);
		if (err == 0 && slice_find(name, '=') < name.len)
			err = ERR_INVALID;
		buf_put(&word, name);
		buf_put_byte(&word, '=');
		buf_put(&word, text);
		if (err == 0)
			err = word.err;
		if (err == 0)
			js_put_string(w, buf_peek(&word));
	}
	buf_fini(&word);
	return err;
}

static int
put_argv(
    struct slice verb, struct js_value args, struct arena *a, struct slice *out)
{
	struct js_writer w;
	struct buf b;

	buf_init(&b, 128 * 1024);
	js_write(&w, &b);
	js_begin_array(&w);
	js_put_string(&w, verb);
	int err = put_args(&w, args);
	js_end(&w);
	int bad = js_finish(&w);
	if (err == 0)
		err = bad;
	if (err == 0)
		err = arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

static int
read_command(struct call *call, struct arena *a, struct request *q)
{
	const struct js_limits limits = { 64 * 1024, 8 };
	struct js_doc *doc = arena_alloc(&call->arena, sizeof(*doc));
	struct command_record *r = arena_alloc(a, sizeof(*r));
	struct slice verb;
	struct js_value args;
	struct js_fields f;

	if (doc == NULL || r == NULL)
		return ERR_NOMEM;
	int err = js_parse(doc, buf_peek(&call->body), &limits, &call->arena);
	if (err != 0 || doc->repeated.ptr != NULL)
		return err == ERR_NOMEM ? err : ERR_INVALID;
	js_fields_init(&f, js_root(doc));
	js_need_string(&f, "command", &verb);
	js_opt_kind(&f, "args", JS_OBJECT, &args);
	if (f.err != 0 || verb.len == 0 || verb.len > 64)
		return ERR_INVALID;
	r->priority = 1;
	q->command = r;
	q->or_fail = true;
	err = put_argv(verb, args, a, &r->argv_json);
	return err != 0 ? err : arena_copy(&call->arena, verb, &call->query);
}

void
signed_http_ask(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	int err = ev == NULL ? ERR_NOMEM : 0;

	if (err == 0) {
		ev->request.limit = PAGE;
		err = arena_copy(
		    a, web_query(call, "cursor"), &ev->request.cursor);
	}
	if (err == 0 && call->route->op == OP_COMMAND_CREATE)
		err = read_command(call, a, &ev->request);
	if (err == 0)
		err = dock_post(c->dock, ev) != 0 ? ERR_FULL : 0;
	if (err == ERR_NOMEM || err == ERR_FULL)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
	else if (err != 0)
		answer_error(c, 400,
		    SL("the body is {command, args}, args of strings"), none);
}

/* Answering ---------------------------------------------------------------- */

static bool
is_connected(const struct agent_view *v)
{
	return v->remote.len > 0 && slice_eq(v->dialect, SL("signed"));
}

static void
put_agent(struct js_writer *w, const struct agent_view *v, struct arena *a)
{
	const struct js_limits limits = { 1 << 20, 64 };
	struct js_doc doc;
	struct slice version = none, hostname = none;

	if (js_parse(&doc, v->record->info_json, &limits, a) == 0) {
		js_string(js_get(js_root(&doc), "version"), &version);
		js_string(js_get(js_root(&doc), "hostname"), &hostname);
	}
	js_begin_object(w);
	js_kv_string(w, "agentId", v->record->id);
	js_kv_i64(w, "lastSeen",
	    v->heartbeat_at > v->connected_at ? v->heartbeat_at
					      : v->connected_at);
	js_kv_string(
	    w, "hostname", hostname.len > 0 ? hostname : v->record->name);
	js_kv_string(w, "version", version);
	js_kv_i64(w, "connectedAt", v->connected_at);
	js_end(w);
}

static void
put_agents(struct conn *c, struct js_writer *w, const struct reply *r)
{
	js_kv_array(w, "agents");
	for (size_t i = 0; i < r->agent_count; i++) {
		if (is_connected(&r->agents[i]))
			put_agent(w, &r->agents[i], &c->dock->scratch);
		arena_reset(&c->dock->scratch);
	}
	js_end(w);
	if (r->cursor.ptr != NULL)
		js_kv_string(w, "next", r->cursor);
}

static void
put_answer(struct conn *c, struct call *call, struct js_writer *w,
    const struct reply *r)
{
	js_begin_object(w);
	if (r->op == OP_AGENT_LIST) {
		put_agents(c, w, r);
	} else if (r->op == OP_AGENT_SHOW) {
		js_kv_string(w, "agentId", r->agents->record->id);
		js_kv_bool(w, "connected", is_connected(r->agents));
	} else {
		js_kv_bool(w, "success", true);
		js_kv_string(w, "agentId", r->command->agent_id);
		js_kv_string(w, "command", call->query);
		js_kv_string(w, "commandId", r->command->id);
	}
	js_end(w);
}

/* Whoever asks for an agent that there is not hears that it is not there. */
static void
refuse(struct conn *c, struct call *call, const struct reply *r)
{
	bool away = r->err == ERR_NOT_FOUND || r->err == ERR_UNREACHABLE;

	if (away && r->op == OP_AGENT_SHOW) {
		struct buf *out = &c->dock->text;
		struct js_writer w;
		buf_clear(out);
		js_write(&w, out);
		js_begin_object(&w);
		js_kv_string(&w, "agentId", call->params[0]);
		js_kv_bool(&w, "connected", false);
		js_end(&w);
		if (js_finish(&w) == 0)
			web_answer(c, 200, "application/json", buf_peek(out));
		else
			web_problem(c, &(struct problem){ .status = 503 });
	} else if (away) {
		answer_error(c, 404, SL("Agent not connected"), r->code);
	} else {
		answer_error(c,
		    r->status == 403 && r->err == ERR_UNSUPPORTED ? 400
								  : r->status,
		    r->text, r->code);
	}
}

void
signed_http_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		refuse(c, call, r);
		return;
	}
	buf_clear(text);
	js_write(&w, text);
	put_answer(c, call, &w, r);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, 200, "application/json", buf_peek(text));
}
