#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "server/api.h"
#include "server/show.h"

#include "server/stops.h"

enum { JSON_MAX = 64 * 1024 };

/* Asking ------------------------------------------------------------------- */

/* The one of two members that goes with the scope. */
static int
read_target(struct js_fields *f, struct request *q, struct api_fault *fault)
{
	struct slice selector = { 0 }, agent = { 0 };

	js_opt_string(f, "selector", &selector);
	js_opt_string(f, "agent", &agent);
	if (f->err != 0)
		return f->err;
	q->target = q->scope == STOP_SELECTOR ? selector : agent;
	bool other = q->scope == STOP_SELECTOR ? agent.ptr != NULL
					       : selector.ptr != NULL;
	bool missing = q->scope != STOP_ALL && q->target.len == 0;
	if (q->scope == STOP_ALL)
		other = agent.ptr != NULL || selector.ptr != NULL;
	if (!other && !missing)
		return 0;
	*fault = (struct api_fault){ SL("scope"),
		SL("scope is all, or selector with a selector, or agent with "
		   "an agent") };
	return ERR_INVALID;
}

static int
read_scope(struct js_fields *f, struct request *q, struct api_fault *fault)
{
	struct slice scope;

	js_need_string(f, "scope", &scope);
	if (f->err != 0)
		return f->err;
	if (stop_scope_find(scope, &q->scope) != 0) {
		*fault = (struct api_fault){ SL("scope"),
			SL("scope is all, selector or agent") };
		return ERR_INVALID;
	}
	return read_target(f, q, fault);
}

static int
read_body(struct js_fields *f, struct request *q, struct api_fault *fault)
{
	struct slice key = { 0 };
	int64_t epoch = 0;

	if (q->op == OP_STOP_LIFT)
		js_opt_i64(f, "epoch", 1, INT64_MAX, 0, &epoch);
	js_opt_string(f, "reason", &q->reason);
	js_opt_string(f, "request_key", &key);
	js_opt_bool(f, "keep_tunnels", false, &q->keep_tunnels);
	js_opt_bool(f, "dry_run", false, &q->dry_run);
	q->epoch = (uint64_t)epoch;
	if (key.ptr != NULL)
		q->request_key = key;
	return f->err != 0 || epoch != 0 ? f->err : read_scope(f, q, fault);
}

static int
read_request(struct call *call, struct arena *a, struct request *q,
    struct api_fault *fault)
{
	const struct js_limits limits = { JSON_MAX, 4 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields f;
	struct slice text;

	if (doc == NULL || arena_copy(a, buf_peek(&call->body), &text) != 0 ||
	    arena_copy(a, call->request_key, &q->request_key) != 0)
		return ERR_NOMEM;
	int err = js_parse(doc, text, &limits, a);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0 || doc->repeated.ptr != NULL ||
	    js_root(doc).kind != JS_OBJECT) {
		*fault =
		    (struct api_fault){ .text = SL("the body is not a JSON "
						   "object, or a member of it "
						   "stands twice") };
		return ERR_INVALID;
	}
	js_fields_init(&f, js_root(doc));
	err = read_body(&f, q, fault);
	if (f.err != 0)
		*fault = (struct api_fault){ f.field,
			f.err == ERR_MISSING
			    ? SL("this member is required")
			    : SL("this member has the wrong type or range") };
	return err;
}

void
stops_ask(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	enum request_op op = call->route->op;
	struct api_fault fault = { 0 };
	int err = 0;

	if (ev != NULL)
		err = op == OP_STOP_LIST || op == OP_STOP_SHOW
		    ? api_read_page(call, a, &ev->request, &fault)
		    : read_request(call, a, &ev->request, &fault);
	api_post(c, ev, err, &fault);
}

/* Answering ---------------------------------------------------------------- */

static void
put_receipt(struct js_writer *w, const struct receipt_record *r)
{
	const struct stop_report *said = &r->report;

	js_begin_object(w);
	js_kv_string(w, "agent_id", r->agent_id);
	show_text(w, "name", r->name);
	js_kv_string(w, "kind", receipt_kind_name(r->kind));
	show_at(w, "told_at", r->told_at);
	show_at(w, "at", r->at);
	if (r->kind == RECEIPT_CONFIRMED) {
		show_at(w, "began_at", said->began_at);
		show_at(w, "done_at", said->done_at);
		js_kv_u64(w, "commands", said->commands);
		js_kv_u64(w, "killed", said->killed);
		js_kv_u64(w, "left", said->left);
		if (said->detail_json.len > 0)
			js_kv_raw(w, "detail", said->detail_json);
		else
			js_kv_null(w, "detail");
	}
	js_end(w);
}

static struct slice
when(const struct stop_record *r, enum stop_scope scope)
{
	return r->scope == scope ? r->target : (struct slice){ 0 };
}

/* The members of one stop, in an object that is open. */
static void
put_stop(struct js_writer *w, const struct stop_view *v)
{
	const struct stop_record *r = v->record;

	js_kv_u64(w, "epoch", r->epoch);
	js_kv_string(w, "scope", stop_scope_name(r->scope));
	show_text(w, "selector", when(r, STOP_SELECTOR));
	show_text(w, "agent_id", when(r, STOP_AGENT));
	show_text(w, "bound", r->bound);
	js_kv_bool(w, "standing", r->epoch != 0 && r->lifted_epoch == 0);
	js_kv_bool(w, "keep_tunnels", r->keep_tunnels);
	js_kv_string(w, "reason", r->reason);
	show_text(w, "actor", r->actor);
	show_at(w, "at", r->at);
	if (r->lifted_epoch != 0)
		js_kv_u64(w, "lifted_epoch", r->lifted_epoch);
	else
		js_kv_null(w, "lifted_epoch");
	show_text(w, "lifted_by", r->lifted_by);
	show_at(w, "lifted_at", r->lifted_at);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	js_kv_object(w, "agents");
	for (int k = 0; k < RECEIPT_KINDS; k++) {
		struct slice name = receipt_kind_name((enum receipt_kind)k);
		js_key(w, name);
		js_put_u64(w, v->counts[k]);
	}
	js_end(w);
	js_kv_u64(w, "left", v->left);
}

static void
put_list(struct js_writer *w, const struct reply *r)
{
	js_kv_string(w, "schema", SL("muster.stops/1"));
	js_kv_array(w, "items");
	for (size_t i = 0; i < r->stop_count; i++) {
		js_begin_object(w);
		js_kv_string(w, "schema", SL("muster.stop/1"));
		put_stop(w, &r->stops[i]);
		js_end(w);
	}
	js_end(w);
	show_text(w, "next", r->cursor);
}

static void
put_one(struct js_writer *w, const struct reply *r)
{
	js_kv_string(w, "schema", SL("muster.stop/1"));
	put_stop(w, &r->stops[0]);
	js_kv_bool(w, "again", r->again);
	if (r->receipts == NULL)
		return;
	js_kv_array(w, "receipts");
	for (size_t i = 0; i < r->receipt_count; i++)
		put_receipt(w, &r->receipts[i]);
	js_end(w);
	show_text(w, "next", r->cursor);
}

void
stops_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct buf *text = &c->dock->text;
	struct js_writer w;

	(void)call;
	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	if (r->op == OP_STOP_LIST)
		put_list(&w, r);
	else
		put_one(&w, r);
	js_kv_u64(&w, "controller_epoch", r->stop_epoch);
	js_end(&w);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, r->status, "application/json", buf_peek(text));
}
