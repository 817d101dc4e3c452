#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "wire/url.h"

#include "io/clock.h"

#include "server/api.h"
#include "server/show.h"
#include "server/sites.h"
#include "server/wall_token.h"

#include "server/tunnel_api.h"

enum { JSON_MAX = 64 * 1024, LINK_MAX = 4096 };

static const int64_t link_ttl = 3600000;
static const int64_t link_ttl_most = INT64_C(30) * 86400000;
static const struct slice none;

/* A link under way. */
struct wish {
	msec ttl;
	struct slice host; /* of a route of "*.suffix" */
};

/* Bodies ------------------------------------------------------------------- */

static int
fields_fault(const struct js_fields *in, struct api_fault *f)
{
	if (in->err == 0)
		return 0;
	*f = (struct api_fault){ in->field,
		in->err == ERR_MISSING
		    ? SL("this member is required")
		    : SL("this member has the wrong type or range") };
	return in->err;
}

static int
read_to(struct js_value to, struct tunnel_target *t, struct api_fault *f)
{
	struct js_fields in;
	int64_t port = 0;

	js_fields_init(&in, to);
	js_opt_string(&in, "host", &t->host);
	js_opt_string(&in, "service", &t->service);
	js_opt_string(&in, "namespace", &t->namespace);
	js_need_i64(&in, "port", 1, UINT16_MAX, &port);
	t->port = (uint16_t)port;
	return fields_fault(&in, f);
}

/* true, or how the certificate is judged. */
static int
read_tls(struct js_value tls, struct tunnel_target *t, struct api_fault *f)
{
	struct js_fields in;

	if (tls.kind == JS_NONE || tls.kind == JS_NULL ||
	    js_bool(tls, &t->tls) == 0)
		return 0;
	if (tls.kind != JS_OBJECT) {
		*f = (struct api_fault){ SL("tls"),
			SL("tls is true, or an object with insecure and "
			   "name") };
		return ERR_TYPE;
	}
	t->tls = true;
	js_fields_init(&in, tls);
	js_opt_bool(&in, "insecure", false, &t->insecure);
	js_opt_string(&in, "name", &t->tls_name);
	return fields_fault(&in, f);
}

static int
read_origins(struct js_value list, struct arena *a, struct slice *out,
    struct api_fault *f)
{
	struct js_walk w = js_walk(list);
	struct js_value item;
	struct slice s;
	struct buf b;
	int err = 0;

	if (js_count(list) == 0)
		return 0;
	buf_init(&b, JSON_MAX);
	while (err == 0 && js_next(&w, NULL, &item)) {
		if (js_string(item, &s) != 0 || slice_find(s, ',') < s.len) {
			*f = (struct api_fault){ SL("origins"),
				SL("origins is an array of strings") };
			err = ERR_TYPE;
			break;
		}
		if (buf_peek(&b).len > 0)
			buf_put_byte(&b, ',');
		buf_put(&b, s);
	}
	if (err == 0)
		err = b.err != 0 ? b.err : arena_copy(a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

static int
read_limits(struct js_fields *in, struct route_record *r)
{
	int64_t messages = 0, bytes = 0;

	js_opt_i64(in, "connect_ms", 0, INT64_MAX, 0, &r->connect_within);
	js_opt_i64(in, "answer_ms", 0, INT64_MAX, 0, &r->answer_within);
	js_opt_i64(in, "idle_ms", 0, INT64_MAX, 0, &r->idle_within);
	js_opt_i64(in, "messages_per_second", 0, UINT32_MAX, 0, &messages);
	js_opt_i64(in, "bytes_per_second", 0, INT64_MAX, 0, &bytes);
	r->message_rate = (uint32_t)messages;
	r->byte_rate = (uint64_t)bytes;
	return in->err;
}

static int
read_members(struct js_value root, struct arena *a, struct route_record *r,
    struct api_fault *f)
{
	struct js_value to, origins, headers;
	struct js_fields in;
	bool open = false;

	js_fields_init(&in, root);
	js_need_string(&in, "host", &r->host);
	js_opt_string(&in, "prefix", &r->prefix);
	js_opt_string(&in, "name", &r->name);
	js_opt_string(&in, "agent", &r->agent);
	js_opt_string(&in, "selector", &r->selector);
	js_opt_bool(&in, "strip_prefix", false, &r->strip);
	js_opt_bool(&in, "public", false, &open);
	js_need_kind(&in, "to", JS_OBJECT, &to);
	js_opt_kind(&in, "origins", JS_ARRAY, &origins);
	js_opt_kind(&in, "headers", JS_OBJECT, &headers);
	read_limits(&in, r);
	int err = fields_fault(&in, f);
	if (err == 0)
		err = read_to(to, &r->target, f);
	if (err == 0)
		err = read_tls(js_get(root, "tls"), &r->target, f);
	if (err == 0)
		err = read_origins(origins, a, &r->origins, f);
	if (err != 0)
		return err;
	r->wall = open ? TUNNEL_PUBLIC : TUNNEL_SESSION;
	if (js_count(headers) > 0)
		r->rules_json = js_raw(headers);
	/* An empty word is none. */
	if (r->agent.len == 0)
		r->agent = none;
	if (r->selector.len == 0)
		r->selector = none;
	return 0;
}

static int
parse(
    struct call *call, struct arena *a, struct js_doc *doc, struct api_fault *f)
{
	const struct js_limits limits = { JSON_MAX, 6 };
	struct slice text;

	if (arena_copy(a, buf_peek(&call->body), &text) != 0)
		return ERR_NOMEM;
	int err = js_parse(doc, text.len > 0 ? text : SL("{}"), &limits, a);
	if (err == ERR_NOMEM ||
	    (err == 0 && doc->repeated.ptr == NULL &&
		js_root(doc).kind == JS_OBJECT))
		return err;
	*f = (struct api_fault){ .text =
				     SL("the body is not a JSON object, or a "
					"member of it stands twice") };
	return ERR_INVALID;
}

static int
read_route(const struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	struct route_record *r = arena_alloc(a, sizeof(*r));
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));

	if (r == NULL || doc == NULL)
		return ERR_NOMEM;
	int err = parse(call, a, doc, f);
	if (err == 0)
		err = read_members(js_root(doc), a, r, f);
	if (err == 0 && sites_is_own(c->dock->server, r->host)) {
		*f = (struct api_fault){ SL("host"),
			SL("this is a name of the controller itself, or an "
			   "address: a route needs a name of its own") };
		err = ERR_INVALID;
	}
	q->route = r;
	return err;
}

static int
read_link(struct call *call, struct arena *a, struct api_fault *f)
{
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct wish *wish = arena_alloc(&call->arena, sizeof(*wish));
	struct js_fields in;
	struct slice host = none;

	if (doc == NULL || wish == NULL)
		return ERR_NOMEM;
	int err = parse(call, a, doc, f);
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(doc));
	js_opt_i64(&in, "ttl_ms", 1000, link_ttl_most, link_ttl, &wish->ttl);
	js_opt_string(&in, "host", &host);
	err = fields_fault(&in, f);
	if (err == 0)
		err = arena_copy(&call->arena, host, &wish->host);
	call->state = wish;
	return err;
}

static int
read_request(const struct conn *c, struct call *call, struct arena *a,
    struct request *q, struct api_fault *f)
{
	if (q->op == OP_ROUTE_ADD)
		return read_route(c, call, a, q, f);
	if (q->op == OP_ROUTE_LINK)
		return read_link(call, a, f);
	return q->op == OP_ROUTE_LIST ? api_read_page(call, a, q, f) : 0;
}

void
tunnel_api_ask(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	struct api_fault f = { 0 };
	int err = ev == NULL ? 0 : read_request(c, call, a, &ev->request, &f);

	api_post(c, ev, err, &f);
}

/* Answering ---------------------------------------------------------------- */

/* Scheme and port are those that we are known by. */
static int
put_url(const struct server *s, struct slice host, struct slice prefix,
    struct buf *b)
{
	struct slice from = s->public_url;
	size_t cut = slice_starts(from, SL("https://")) ? 8 : 7;
	struct slice rest = slice_from_at(from, cut);

	rest = slice_first(rest, slice_find(rest, '/'));
	buf_put(b, slice_first(from, cut));
	buf_put(b, host);
	/* Behind an address of version 6, too, the last colon. */
	size_t at = rest.len;
	while (at > 0 && rest.ptr[at - 1] >= '0' && rest.ptr[at - 1] <= '9')
		at--;
	if (at > 0 && at < rest.len && rest.ptr[at - 1] == ':')
		buf_put(b, slice_from_at(rest, at - 1));
	buf_put(b, prefix);
	if (prefix.len > 1)
		buf_put_byte(b, '/');
	return b->err;
}

static void
show_url(
    struct js_writer *w, const struct server *s, const struct route_record *r)
{
	struct buf b;

	buf_init(&b, LINK_MAX);
	if (slice_starts(r->host, SL("*.")) ||
	    put_url(s, r->host, r->prefix, &b) != 0)
		js_kv_null(w, "url");
	else
		js_kv_string(w, "url", buf_peek(&b));
	buf_fini(&b);
}

static void
show_target(struct js_writer *w, const struct tunnel_target *t)
{
	js_kv_object(w, "to");
	if (t->host.len > 0) {
		js_kv_string(w, "host", t->host);
	} else {
		js_kv_string(w, "service", t->service);
		js_kv_string(w, "namespace", t->namespace);
	}
	js_kv_u64(w, "port", t->port);
	js_end(w);
	if (!t->tls) {
		js_kv_null(w, "tls");
		return;
	}
	js_kv_object(w, "tls");
	js_kv_bool(w, "insecure", t->insecure);
	show_text(w, "name", t->tls_name);
	js_end(w);
}

static void
show_route(struct js_writer *w, const struct server *s,
    const struct route_record *r, const struct reply *members)
{
	struct slice origins = r->origins, part;

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.route/1"));
	js_kv_string(w, "id", r->id);
	js_kv_string(w, "name", r->name);
	js_kv_string(w, "host", r->host);
	js_kv_string(w, "prefix", r->prefix);
	show_url(w, s, r);
	js_kv_bool(w, "strip_prefix", r->strip);
	show_text(w, "agent_id", r->agent);
	show_text(w, "selector", r->selector);
	show_target(w, &r->target);
	js_kv_bool(w, "public", r->wall == TUNNEL_PUBLIC);
	js_kv_i64(w, "connect_ms", r->connect_within);
	js_kv_i64(w, "answer_ms", r->answer_within);
	js_kv_i64(w, "idle_ms", r->idle_within);
	js_kv_u64(w, "messages_per_second", r->message_rate);
	js_kv_u64(w, "bytes_per_second", r->byte_rate);
	js_kv_array(w, "origins");
	while (slice_split(&origins, ',', &part))
		js_put_string(w, slice_trim(part));
	js_end(w);
	js_kv_raw(
	    w, "headers", r->rules_json.len > 0 ? r->rules_json : SL("{}"));
	show_at(w, "links_from", r->links_from);
	if (members != NULL) {
		js_kv_array(w, "members");
		for (size_t i = 0; i < members->member_count; i++) {
			const struct tunnel_member *m = &members->members[i];
			js_begin_object(w);
			js_kv_string(w, "agent_id", m->agent_id);
			js_kv_string(w, "name", m->name);
			js_kv_bool(w, "ready", peer_some(m->link));
			js_end(w);
		}
		js_end(w);
	}
	show_text(w, "user_id", r->user_id);
	js_kv_i64(w, "workspace_id", r->workspace_id);
	show_at(w, "created_at", r->created_at);
	js_end(w);
}

static void
show_list(struct js_writer *w, const struct server *s, const struct reply *r)
{
	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.routes/1"));
	js_kv_array(w, "items");
	for (size_t i = 0; i < r->route_count; i++)
		show_route(w, s, &r->routes[i], NULL);
	js_end(w);
	show_text(w, "next", r->cursor);
	js_kv_u64(w, "total", r->total);
	js_end(w);
}

/* The host that a link is for: the route's own, or what was asked for where
 * it has many. */
static bool
link_host(
    const struct route_record *r, const struct wish *wish, struct slice *host)
{
	bool many = slice_starts(r->host, SL("*."));
	struct slice suffix = slice_from_at(r->host, 1);

	*host = many ? wish->host : r->host;
	return many
	    ? wish->host.len > suffix.len && slice_ends(wish->host, suffix)
	    : wish->host.len == 0 || slice_eq(wish->host, r->host);
}

static int
make_link(const struct server *s, const struct route_record *r,
    struct slice host, const struct wall_token *t, struct buf *b)
{
	int err = put_url(s, host, r->prefix, b);

	buf_put(b, SL("?" WALL_LINK_PARAMETER "="));
	return err != 0 ? err : wall_token_write(s, t, b);
}

static void
answer_link(struct conn *c, struct call *call, const struct route_record *r)
{
	const struct wish *wish = call->state;
	wall_msec now = clock_wall();
	const struct wall_token t = { .kind = WALL_LINK,
		.route_id = r->id,
		.issued_at = now,
		.expires_at = now + wish->ttl };
	struct slice host;
	struct js_writer w;
	struct buf url;

	if (!link_host(r, wish, &host)) {
		web_problem(c,
		    &(struct problem){ .status = 400,
			.field = SL("host"),
			.text = SL("host is one that fits this route") });
		return;
	}
	buf_init(&url, LINK_MAX);
	struct buf *text = &c->dock->text;
	buf_clear(text);
	js_write(&w, text);
	int err = make_link(c->dock->server, r, host, &t, &url);
	js_begin_object(&w);
	js_kv_string(&w, "schema", SL("muster.link/1"));
	js_kv_string(&w, "route_id", r->id);
	js_kv_string(&w, "url", buf_peek(&url));
	show_at(&w, "expires_at", t.expires_at);
	js_end(&w);
	buf_fini(&url);
	if (js_finish(&w) != 0 || err != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, 201, "application/json", buf_peek(text));
}

void
tunnel_api_answer(struct conn *c, struct call *call, const struct event *ev)
{
	const struct reply *r = ev->reply;
	const struct server *s = c->dock->server;
	struct js_writer w;

	if (ev->kind != EVENT_REPLY)
		return;
	if (r->err != 0) {
		api_refuse(c, r);
		return;
	}
	if (r->status == 204) {
		web_answer(c, 204, NULL, none);
		return;
	}
	if (r->op == OP_ROUTE_LINK) {
		answer_link(c, call, r->routes);
		return;
	}
	struct buf *text = &c->dock->text;
	buf_clear(text);
	js_write(&w, text);
	if (r->op == OP_ROUTE_LIST)
		show_list(&w, s, r);
	else
		show_route(&w, s, r->routes, r->op == OP_ROUTE_SHOW ? r : NULL);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, r->status, "application/json", buf_peek(text));
}
