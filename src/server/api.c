#include "base/err.h"
#include "base/js.h"

#include "wire/enc.h"

#include "model/command.h"

#include "io/clock.h"
#include "io/rand.h"

#include "server/credential.h"
#include "server/lookup.h"
#include "server/show.h"

#include "server/api.h"

enum {
	JSON_MAX = 1 << 20,
	JSON_DEPTH = 32,
	/* With what the hub adds it must fit an opening's 64 KiB. */
	COMMAND_TEXT_MAX = 63 * 1024,
};

static const struct slice none;

/* A request under way: what the answer needs to know. */
struct asked {
	struct slice token; /* the text of a new one, told once */
};

/* Bodies ---------------------------------------------------------------------
 */

static int
parse(
    struct slice text, struct arena *a, struct js_doc *doc, struct api_fault *f)
{
	const struct js_limits limits = { JSON_MAX, JSON_DEPTH };
	int err = js_parse(doc, text.len > 0 ? text : SL("{}"), &limits, a);

	if (err == 0 && doc->repeated.ptr != NULL) {
		*f = (struct api_fault){ doc->repeated,
			SL("a member stands twice") };
		return ERR_DUPLICATE;
	}
	if (err == 0 && js_root(doc).kind != JS_OBJECT)
		err = ERR_TYPE;
	if (err != 0)
		*f = (struct api_fault){ none,
			SL("the body is not a JSON object") };
	return err;
}

static int
fields_fault(const struct js_fields *fields, struct api_fault *f)
{
	if (fields->err == 0)
		return 0;
	f->field = fields->field;
	f->text = fields->err == ERR_MISSING ? SL("this member is required")
	    : fields->err == ERR_TYPE ? SL("this member has the wrong type")
				      : SL("this member is out of range");
	return fields->err;
}

static bool
all_strings(struct js_value v)
{
	struct js_walk w = js_walk(v);
	struct js_value item;
	struct slice s;

	while (js_next(&w, NULL, &item)) {
		if (js_string(item, &s) != 0 || slice_find(s, 0) != s.len)
			return false;
	}
	return true;
}

static int
read_argv(struct js_value argv, struct command_record *r, struct api_fault *f)
{
	if (argv.kind != JS_ARRAY || js_count(argv) == 0 ||
	    !all_strings(argv)) {
		*f = (struct api_fault){ SL("argv"),
			SL("argv is an array of at least one string, "
			   "without NUL") };
		return ERR_TYPE;
	}
	r->argv_json = js_raw(argv);
	return 0;
}

static int
read_env(struct js_value env, struct command_record *r, struct api_fault *f)
{
	if (env.kind == JS_NONE || js_count(env) == 0)
		return 0;
	if (env.kind != JS_OBJECT || !all_strings(env)) {
		*f = (struct api_fault){ SL("env"),
			SL("env is an object of strings") };
		return ERR_TYPE;
	}
	r->env_json = js_raw(env);
	return 0;
}

/* One agent, or many: those named and those that fit a selector.  How many
 * they are is for the hub to judge. */
static int
read_targets(struct js_value root, size_t size, struct arena *a,
    struct request *q, struct api_fault *f)
{
	struct js_value list = js_get(root, "agents"), item;
	struct js_value selector = js_get(root, "selector");
	struct js_walk w = js_walk(list);
	size_t rest = list.kind == JS_NONE ? size : size - js_raw(list).len;
	struct slice *targets = NULL;

	if (rest > COMMAND_TEXT_MAX) {
		*f = (struct api_fault){ SL("argv"),
			SL("a command with all that it carries is at most "
			   "63 KiB of JSON") };
		return ERR_TOO_BIG;
	}
	q->fan = list.kind != JS_NONE || selector.kind != JS_NONE;
	if (q->fan == (q->id.ptr != NULL)) {
		*f = (struct api_fault){ SL("agent"),
			SL("give either agent, or agents and selector") };
		return ERR_MISSING;
	}
	if ((list.kind != JS_NONE &&
		(list.kind != JS_ARRAY || !all_strings(list))) ||
	    (selector.kind != JS_NONE &&
		js_string(selector, &q->filter.selector) != 0)) {
		*f = (struct api_fault){ SL("agents"),
			SL("agents is an array of strings, selector a "
			   "string") };
		return ERR_TYPE;
	}
	if (list.kind != JS_NONE)
		targets = arena_array(a, js_count(list) + 1, sizeof(*targets));
	if (list.kind != JS_NONE && targets == NULL)
		return ERR_NOMEM;
	while (js_next(&w, NULL, &item))
		js_string(item, &targets[q->target_count++]);
	q->targets = targets;
	return 0;
}

int
api_read_command(struct slice text, struct arena *a, struct request *q,
    struct slice *field, struct slice *why)
{
	const int64_t year = INT64_C(366) * 86400000;
	struct command_record *r = arena_alloc(a, sizeof(*r));
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct api_fault f = { 0 };
	struct js_fields in;
	struct js_value argv, env;
	struct slice priority, on_full = { 0 };
	int64_t deadline;

	if (r == NULL || doc == NULL)
		return ERR_NOMEM;
	int err = parse(text, a, doc, &f);
	if (err == 0) {
		js_fields_init(&in, js_root(doc));
		js_opt_string(&in, "agent", &q->id);
		js_need_kind(&in, "argv", JS_ARRAY, &argv);
		js_opt_kind(&in, "env", JS_OBJECT, &env);
		js_opt_string(&in, "cwd", &r->cwd);
		js_opt_string(&in, "user", &r->exec_user);
		js_opt_bool(&in, "shell", false, &r->shell);
		js_opt_bool(&in, "stdin", false, &r->wants_stdin);
		js_opt_i64(&in, "timeout_ms", 0, year, 0, &r->timeout);
		js_opt_i64(&in, "deadline_ms", 0, year, 0, &deadline);
		js_opt_string(&in, "priority", &priority);
		js_opt_string(&in, "on_full", &on_full);
		js_opt_bool(&in, "or_fail", false, &q->or_fail);
		js_opt_bool(&in, "force", false, &q->force);
		js_opt_string(&in, "request_key", &q->request_key);
		err = fields_fault(&in, &f);
	}
	if (err == 0)
		err = read_targets(js_root(doc), text.len, a, q, &f);
	if (err == 0)
		err = read_argv(argv, r, &f);
	if (err == 0)
		err = read_env(env, r, &f);
	r->priority = 1;
	if (err == 0 && priority.len > 0 &&
	    priority_find(priority, &r->priority) != 0) {
		f = (struct api_fault){ SL("priority"),
			SL("priority is low, normal or high") };
		err = ERR_INVALID;
	}
	r->drops = slice_eq(on_full, SL("drop"));
	if (err == 0 && on_full.len > 0 && !r->drops &&
	    !slice_eq(on_full, SL("wait"))) {
		f = (struct api_fault){ SL("on_full"),
			SL("on_full is wait or drop") };
		err = ERR_INVALID;
	}
	if (err == 0 && deadline > 0)
		r->deadline_at = clock_wall() + deadline;
	if (r->cwd.len == 0)
		r->cwd = none;
	if (r->exec_user.len == 0)
		r->exec_user = none;
	q->command = r;
	*field = f.field;
	*why = f.text;
	return err;
}

static int
read_scopes(struct js_value list, scope_set *out, struct api_fault *f)
{
	struct js_walk w = js_walk(list);
	struct js_value item;
	struct slice name;
	scope_set set = 0;

	while (js_next(&w, NULL, &item)) {
		scope_set bit =
		    js_string(item, &name) == 0 ? scope_find(name) : 0;
		if (bit == 0) {
			*f = (struct api_fault){ SL("scopes"),
				SL("there is no such scope") };
			return ERR_INVALID;
		}
		set |= bit;
	}
	*out = set != 0 ? set : SCOPES_CLUSTER;
	return 0;
}

static int
join_strings(struct js_value list, struct arena *a, struct slice *out)
{
	struct js_walk w = js_walk(list);
	struct js_value item;
	struct slice s;
	struct buf b;
	int err = 0;

	if (js_count(list) == 0)
		return 0;
	buf_init(&b, 64 * 1024);
	while (err == 0 && js_next(&w, NULL, &item)) {
		err = js_string(item, &s);
		if (buf_peek(&b).len > 0)
			buf_put_byte(&b, ',');
		buf_put(&b, s);
	}
	if (err == 0)
		err = b.err;
	if (err == 0)
		err = arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

/* The secret itself: it goes back to the asker, and only its hash further. */
static int
make_secret(struct conn *c, struct call *call, struct arena *a,
    struct token_record *t, bool for_agents)
{
	const struct server *s = c->dock->server;
	struct asked *asked = arena_alloc(&call->arena, sizeof(*asked));
	char text[RAND_TOKEN_SIZE];
	struct buf b;
	int err;

	if (asked == NULL)
		return ERR_NOMEM;
	rand_token(for_agents ? "clt_" : "mut_", text);
	err = credential_hash(slice_from(text), t->hash);
	if (err != 0)
		return err;
	buf_init(&b, 256);
	buf_put(&b, slice_from(text));
	if (for_agents && s->has_pin) {
		buf_put(&b, SL(".sha256-"));
		enc_put_hex(&b, (struct slice){ s->pin, 32 });
	}
	err = b.err != 0
	    ? b.err
	    : arena_copy(&call->arena, buf_peek(&b), &asked->token);
	buf_fini(&b);
	call->state = asked;
	return err != 0
	    ? err
	    : arena_copy(a, slice_first(asked->token, 10), &t->shown);
}

static int
read_token(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	const int64_t century = INT64_C(36525) * 86400000;
	struct token_record *t = arena_alloc(a, sizeof(*t));
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields in;
	struct js_value scopes, allow;
	int64_t ttl, connections;

	if (t == NULL || doc == NULL)
		return ERR_NOMEM;
	int err = parse(buf_peek(&call->body), &call->arena, doc, f);
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(doc));
	js_need_string(&in, "name", &t->name);
	js_opt_kind(&in, "scopes", JS_ARRAY, &scopes);
	js_opt_i64(&in, "ttl_ms", 0, century, 0, &ttl);
	js_opt_i64(&in, "max_connections", 0, 1000000, 0, &connections);
	js_opt_kind(&in, "allow", JS_ARRAY, &allow);
	err = fields_fault(&in, f);
	if (err == 0)
		err = read_scopes(scopes, &t->scopes, f);
	if (err == 0 && join_strings(allow, a, &t->allow) != 0) {
		*f = (struct api_fault){ SL("allow"),
			SL("allow is an array of addresses and ranges") };
		err = ERR_TYPE;
	}
	if (err != 0)
		return err;
	t->max_connections = (uint32_t)connections;
	t->expires_at = ttl > 0 ? clock_wall() + ttl : 0;
	err = arena_copy(a, t->name, &t->name);
	if (err == 0)
		err = make_secret(
		    c, call, a, t, (t->scopes & ~SCOPES_CLUSTER) == 0);
	q->token = t;
	return err;
}

static int
read_rotation(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	const int64_t month = INT64_C(31) * 86400000;
	struct token_record *t = arena_alloc(a, sizeof(*t));
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields in;

	if (t == NULL || doc == NULL)
		return ERR_NOMEM;
	int err = parse(buf_peek(&call->body), &call->arena, doc, f);
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(doc));
	js_opt_i64(&in, "overlap_ms", 0, month, 3600000, &q->overlap);
	err = fields_fault(&in, f);
	if (err == 0)
		err = make_secret(c, call, a, t, true);
	q->token = t;
	return err;
}

static int
read_join(struct conn *c, struct call *call, struct arena *a, struct request *q,
    struct api_fault *f)
{
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields in;
	struct slice key, name, install;
	struct buf b;

	(void)c;
	if (doc == NULL)
		return ERR_NOMEM;
	int err = parse(buf_peek(&call->body), &call->arena, doc, f);
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(doc));
	js_need_string(&in, "name", &name);
	js_need_string(&in, "public_key", &key);
	js_need_string(&in, "install_id", &install);
	err = fields_fault(&in, f);
	if (err != 0)
		return err;
	buf_init(&b, 256);
	err = enc_get_base64(key, ENC_STD, &b);
	if (err == 0 && buf_peek(&b).len == KEY_LEN)
		memcpy(q->public_key, buf_peek(&b).ptr, KEY_LEN);
	else
		err = ERR_INVALID;
	buf_fini(&b);
	if (err != 0) {
		*f = (struct api_fault){ SL("public_key"),
			SL("public_key is 32 bytes in base64") };
		return err;
	}
	if (name.len == 0 || name.len > 255 || install.len > 128) {
		*f = (struct api_fault){ SL("name"),
			SL("name has 1 to 255 bytes") };
		return ERR_RANGE;
	}
	err = arena_copy(a, name, &q->name);
	return err != 0 ? err : arena_copy(a, install, &q->install_id);
}

static int
read_labels(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	int err = doc == NULL
	    ? ERR_NOMEM
	    : parse(buf_peek(&call->body), &call->arena, doc, f);

	(void)c;
	return err != 0 ? err
			: arena_copy(a, buf_peek(&call->body), &q->labels_json);
}

static int
read_command(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	struct slice text;

	(void)c;
	int err = arena_copy(a, buf_peek(&call->body), &text);
	if (err == 0)
		err = api_read_command(text, a, q, &f->field, &f->text);
	if (err == 0 && call->request_key.len > 0)
		err = arena_copy(a, call->request_key, &q->request_key);
	if (err == 0)
		err = arena_copy(
		    &call->arena, q->request_key, &call->request_key);
	return err;
}

int
api_read_page(
    struct call *call, struct arena *a, struct request *q, struct api_fault *f)
{
	struct slice limit = web_query(call, "limit");
	uint64_t n = 0;

	if (limit.ptr != NULL && (slice_u64(limit, 1000, &n) != 0 || n == 0)) {
		*f =
		    (struct api_fault){ SL("limit"), SL("limit is 1 to 1000") };
		return ERR_RANGE;
	}
	q->limit = (uint32_t)n;
	return arena_copy(a, web_query(call, "cursor"), &q->cursor);
}

static int
read_filter(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	int err = api_read_page(call, a, q, f);

	(void)c;
	if (err == 0)
		err = arena_copy(
		    a, web_query(call, "selector"), &q->filter.selector);
	if (err == 0)
		err =
		    arena_copy(a, web_query(call, "status"), &q->filter.status);
	if (err == 0)
		err = arena_copy(a, web_query(call, "text"), &q->filter.text);
	return err;
}

typedef int read_fn(struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f);

static read_fn *const readers[OPS] = {
	[OP_AGENT_LIST] = read_filter,
	[OP_QUEUE_SHOW] = read_filter,
	[OP_AGENT_LABEL] = read_labels,
	[OP_JOIN] = read_join,
	[OP_TOKEN_CREATE] = read_token,
	[OP_TOKEN_ROTATE] = read_rotation,
	[OP_COMMAND_CREATE] = read_command,
};

/* Asking
 * ----------------------------------------------------------------------- */

struct event *
api_question(struct conn *c, struct call *call, struct arena **a)
{
	struct event *ev = conn_event(c, EVENT_REQUEST, a);
	struct request *q;

	if (ev == NULL)
		return NULL;
	q = &ev->request;
	q->op = call->route->op;
	if (credential_copy(*a, &call->credential, &q->credential) != 0 ||
	    arena_copy(*a, call->params[0], &q->id) != 0 ||
	    arena_copy(*a, call->request_id, &ev->request_id) != 0)
		return NULL;
	return ev;
}

void
api_post(struct conn *c, struct event *ev, int err, const struct api_fault *f)
{
	if (ev == NULL)
		web_problem(c, &(struct problem){ .status = 503 });
	else if (err != 0)
		web_problem(c,
		    &(struct problem){ .status = err == ERR_NOMEM ? 503 : 400,
			.field = f->field,
			.text = f->text });
	else if (dock_post(c->dock, ev) != 0)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
}

void
api_ask(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	struct api_fault f = { 0 };
	int err = 0;

	if (ev != NULL && readers[ev->request.op] != NULL)
		err = readers[ev->request.op](c, call, a, &ev->request, &f);
	/* Whoever follows is known to the hub until it is gone. */
	if (ev != NULL && err == 0 && ev->request.op == OP_EVENTS)
		c->greeted = true;
	api_post(c, ev, err, &f);
}

/* Answering
 * ---------------------------------------------------------------------- */

void
api_refuse(struct conn *c, const struct reply *r)
{
	web_problem(c,
	    &(struct problem){ .status = r->status,
		.code = r->code,
		.field = r->field,
		.text = r->text,
		.retry_after = r->retry_after });
}

static void
put_list(struct conn *c, struct js_writer *w, const struct reply *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema",
	    r->op == OP_AGENT_LIST      ? SL("muster.agents/1")
		: r->op == OP_USER_LIST ? SL("muster.users/1")
					: SL("muster.tokens/1"));
	js_kv_array(w, "items");
	for (size_t i = 0; i < r->agent_count; i++)
		show_agent(w, &r->agents[i], &c->dock->scratch);
	for (size_t i = 0; i < r->token_count; i++)
		show_token(w, &r->tokens[i], none);
	for (size_t i = 0; i < r->user_count; i++)
		show_user(w, &r->users[i]);
	js_end(w);
	show_text(w, "next", r->cursor);
	js_kv_u64(w, "total", r->total);
	js_end(w);
}

static void
put_whoami(struct conn *c, struct js_writer *w, const struct reply *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.whoami/1"));
	js_key(w, SL("user"));
	if (r->user != NULL)
		show_user(w, r->user);
	else
		js_put_null(w);
	js_key(w, SL("token"));
	if (r->token_count > 0)
		show_token(w, r->tokens, none);
	else
		js_put_null(w);
	show_scopes(w, "scopes", r->scopes);
	js_kv_object(w, "controller");
	js_kv_string(w, "version", SL(MUSTER_VERSION));
	js_kv_string(w, "incarnation", c->dock->server->incarnation);
	js_end(w);
	js_end(w);
}

static void
put_joined(struct js_writer *w, const struct registered *j)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.joined/1"));
	js_kv_string(w, "agent_id", j->agent_id);
	js_kv_string(w, "cluster_id", j->cluster_id);
	js_kv_string(w, "name", j->name);
	js_kv_i64(w, "workspace_id", j->workspace_id);
	js_kv_string(w, "incarnation", j->incarnation);
	js_end(w);
}

static void
put_purged(struct js_writer *w, const struct reply *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.purged/1"));
	js_kv_string(w, "agent_id", r->queue->agent_id);
	js_kv_u64(w, "cancelled", r->total);
	js_end(w);
}

static void
put_reply(struct conn *c, struct call *call, struct js_writer *w,
    const struct reply *r)
{
	const struct asked *asked = call->state;

	if (r->op == OP_AGENT_LIST || r->op == OP_TOKEN_LIST ||
	    r->op == OP_USER_LIST)
		put_list(c, w, r);
	else if (r->op == OP_WHOAMI)
		put_whoami(c, w, r);
	else if (r->user_count > 0)
		show_user(w, &r->users[0]);
	else if (r->joined != NULL)
		put_joined(w, r->joined);
	else if (r->agent_count > 0)
		show_agent(w, &r->agents[0], &c->dock->scratch);
	else if (r->token_count > 0)
		show_token(
		    w, &r->tokens[0], asked != NULL ? asked->token : none);
	else if (r->items != NULL)
		show_fan(w, r);
	else if (r->command != NULL)
		show_placed(w, r->command, r->position, r->wait);
	else if (r->op == OP_QUEUE_PURGE)
		put_purged(w, r);
	else if (r->queue != NULL)
		show_queue(w, r->queue);
	else
		js_put_null(w);
}

void
api_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	struct js_writer w;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err == ERR_EXISTS && r->again) {
		/* The store knows what this key stands for. */
		lookup_by_key(c, call, r);
		return;
	}
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	if (r->status == 204) {
		web_answer(c, 204, NULL, none);
		return;
	}
	struct buf *text = &c->dock->text;
	buf_clear(text);
	js_write(&w, text);
	put_reply(c, call, &w, r);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, r->status, "application/json", buf_peek(text));
	arena_reset(&c->dock->scratch);
}

/* Description
 * --------------------------------------------------------------------- */

static void
put_parameters(struct js_writer *w, const struct route *r)
{
	struct slice path = slice_from(r->path), part;

	js_kv_array(w, "parameters");
	for (int n = 0; slice_split(&path, '/', &part);) {
		if (!slice_eq(part, SL("{}")))
			continue;
		js_begin_object(w);
		js_kv_string(w, "name", n++ == 0 ? SL("id") : SL("other"));
		js_kv_string(w, "in", SL("path"));
		js_kv_bool(w, "required", true);
		js_kv_raw(w, "schema", SL("{\"type\":\"string\"}"));
		js_end(w);
	}
	js_end(w);
}

static void
put_operation(struct js_writer *w, const struct route *r)
{
	struct buf method;

	buf_init(&method, 16);
	for (const char *m = r->method; *m != '\0'; m++)
		buf_put_byte(&method, (uint8_t)(*m | 0x20));
	js_key(w, buf_peek(&method));
	buf_fini(&method);
	js_begin_object(w);
	js_kv_string(w, "summary", slice_from(r->summary));
	put_parameters(w, r);
	if (r->body_max > 0)
		js_kv_raw(w, "requestBody",
		    SL("{\"content\":{\"application/json\":{\"schema\":"
		       "{\"type\":\"object\"}}}}"));
	js_kv_raw(w, "responses",
	    SL("{\"default\":{\"description\":\"problem+json\",\"content\":"
	       "{\"application/problem+json\":{\"schema\":{\"$ref\":"
	       "\"#/components/schemas/Problem\"}}}},"
	       "\"2XX\":{\"description\":\"done\"}}"));
	js_end(w);
}

/* "/a/{}/b" as OpenAPI writes it. */
static void
put_path(struct js_writer *w, const char *path)
{
	struct slice rest = slice_from(path), part;
	struct buf b;
	int n = 0;

	buf_init(&b, 256);
	while (slice_split(&rest, '/', &part)) {
		if (slice_eq(part, SL("{}")))
			part = n++ == 0 ? SL("{id}") : SL("{other}");
		buf_put(&b, part);
		if (rest.ptr != NULL)
			buf_put_byte(&b, '/');
	}
	js_key(w, buf_peek(&b));
	buf_fini(&b);
}

static bool
seen_before(const struct route *r)
{
	for (const struct route *p = route_table(); p != r; p++) {
		if (p->summary != NULL && strcmp(p->path, r->path) == 0)
			return true;
	}
	return false;
}

void
api_describe(struct conn *c, struct call *call)
{
	struct buf *text = &c->dock->text;
	struct js_writer w;

	(void)call;
	buf_clear(text);
	js_write(&w, text);
	js_begin_object(&w);
	js_kv_string(&w, "openapi", SL("3.1.0"));
	js_kv_raw(&w, "info",
	    SL("{\"title\":\"Muster\",\"version\":\"" MUSTER_VERSION "\"}"));
	js_kv_raw(&w, "security", SL("[{\"bearer\":[]}]"));
	js_kv_raw(&w, "components",
	    SL("{\"securitySchemes\":{\"bearer\":{\"type\":\"http\","
	       "\"scheme\":\"bearer\"}},\"schemas\":{\"Problem\":{\"type\":"
	       "\"object\",\"required\":[\"status\",\"code\"],\"properties\":"
	       "{\"type\":{\"type\":\"string\"},\"title\":{\"type\":"
	       "\"string\"},\"status\":{\"type\":\"integer\"},\"detail\":"
	       "{\"type\":\"string\"},\"code\":{\"type\":\"string\"},"
	       "\"field\":{\"type\":\"string\"},\"request_id\":{\"type\":"
	       "\"string\"}}}}}"));
	js_kv_object(&w, "paths");
	for (const struct route *r = route_table(); r->path != NULL; r++) {
		if (r->summary == NULL || seen_before(r))
			continue;
		put_path(&w, r->path);
		js_begin_object(&w);
		for (const struct route *o = r; o->path != NULL; o++) {
			if (o->summary != NULL && strcmp(o->path, r->path) == 0)
				put_operation(&w, o);
		}
		js_end(&w);
	}
	js_end(&w);
	js_end(&w);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, 200, "application/json", buf_peek(text));
}
