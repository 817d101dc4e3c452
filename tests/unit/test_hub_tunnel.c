/*
 * Routes in the hub: who may make them, who may visit, whom a visit goes by,
 * and what lanes are told to forget.  What happens is written down, one line
 * per effect.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { OP = 900 };

/* Numbers of tokens: those of agents, and of users. */
enum { AGENT = 1, ROOT, VIEWER, DEV, ROUTELESS };

static struct world {
	struct rig rig;
	char log[1 << 14];
	size_t len;
	int store_err;
	int fail_verb; /* -1: none */
	char id[40];   /* of the last route that was answered with */
	uint64_t number;
	wall_msec expires_at;
	size_t told;    /* lists of routes */
	size_t members; /* of the last grant */
	size_t agents;  /* of the last list */
	size_t audits;
	char audit[64]; /* the last action */
	char cursor[300];
} w;

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	w.len += (size_t)vsnprintf(
	    w.log + w.len, sizeof(w.log) - w.len, format, args);
	va_end(args);
	assert_true(w.len < sizeof(w.log));
}

static void
note_grant(const struct tunnel_grant *g)
{
	assert_true(g->number > w.number);
	w.number = g->number;
	w.expires_at = g->expires_at;
	w.members = g->member_count;
	note(" to %.*s%.*s:%u", SLICE_FMT(g->target.host),
	    SLICE_FMT(g->target.service), g->target.port);
	if (g->user_id.len > 0)
		note(" user %.*s", SLICE_FMT(g->user_id));
	if (g->login_id.len > 0)
		note(" by %.*s", SLICE_FMT(g->login_id));
	for (size_t i = 0; i < g->member_count; i++) {
		const struct tunnel_member *m = &g->members[i];
		if (peer_some(m->link))
			note(" %.*s@%u/%d", SLICE_FMT(m->agent_id),
			    m->link.slot, m->speech);
		else
			note(" %.*s-", SLICE_FMT(m->agent_id));
	}
}

static void
note_reply(const struct reply *r)
{
	note("%u", r->status);
	if (r->err != 0)
		note(" %.*s", SLICE_FMT(r->code));
	if (r->err != 0 && r->field.len > 0)
		note(" %.*s", SLICE_FMT(r->field));
	if (r->grant != NULL)
		note_grant(r->grant);
	for (size_t i = 0; i < r->route_count; i++) {
		note(" %.*s", SLICE_FMT(r->routes[i].name));
		slice_cstr(r->routes[i].id, w.id, sizeof(w.id));
	}
	for (size_t i = 0; i < r->member_count; i++)
		note(" %.*s%s", SLICE_FMT(r->members[i].agent_id),
		    peer_some(r->members[i].link) ? "+" : "-");
	if (r->op == OP_AGENT_LIST)
		w.agents = r->agent_count;
	if (slice_cstr(r->cursor, w.cursor, sizeof(w.cursor)) != 0)
		fail();
	note("\n");
}

static void
note_withdrawal(const struct tunnel_withdrawal *x)
{
	note("%s", x->cut ? "cut" : "forget");
	if (x->route_id.len > 0)
		note(" route");
	if (x->agent_id.ptr != NULL)
		note(" agent %.*s", SLICE_FMT(x->agent_id));
	if (x->user_id.ptr != NULL)
		note(" user %.*s", SLICE_FMT(x->user_id));
	if (x->login_id.ptr != NULL)
		note(" login %.*s", SLICE_FMT(x->login_id));
	if (x->why.len > 0)
		note(": %.*s", SLICE_FMT(x->why));
	note("\n");
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_SEND && e->event->kind == EVENT_REPLY)
		note_reply(e->event->reply);
	if (e->kind == EFFECT_WITHDRAW)
		note_withdrawal(&e->withdrawal);
	if (e->kind != EFFECT_ROUTES)
		return;
	w.told++;
	note("routes");
	for (size_t i = 0; i < e->routes->count; i++) {
		note(" %.*s", SLICE_FMT(e->routes->sites[i]->name));
		if (i > 0)
			assert_true(slice_cmp(e->routes->ids[i - 1]->id,
					e->routes->ids[i]->id) < 0);
	}
	note("\n");
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	if (op->audit.action.len > 0) {
		w.audits++;
		slice_cstr(op->audit.action, w.audit, sizeof(w.audit));
	}
	return w.fail_verb == (int)op->verb ? w.store_err : 0;
}

/* Exactly this has happened since the last look. */
#define expect(text) expect_(text, __LINE__)
static void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	w.len = 0;
	w.log[0] = '\0';
}

static void
forget(void)
{
	w.len = 0;
	w.log[0] = '\0';
}

/* The world ---------------------------------------------------------------- */

static int
load(const struct route_record *routes, size_t count)
{
	const struct user_record users[] = {
		{ .id = SL("root"), .role = ROLE_ADMIN, .workspace_id = 1 },
		{ .id = SL("view"), .role = ROLE_VIEWER, .workspace_id = 1 },
		{ .id = SL("dev"),
		    .role = ROLE_OPERATOR,
		    .selector = SL("env=dev"),
		    .workspace_id = 1 },
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_r"), .user_id = SL("root") },
		{ .id = SL("tok_v"), .user_id = SL("view") },
		{ .id = SL("tok_d"), .user_id = SL("dev") },
		{ .id = SL("tok_n"),
		    .user_id = SL("root"),
		    .scopes = SCOPE_AGENT_READ },
	};
	const struct login_record login = { .id = SL("lgn_1"),
		.user_id = SL("view"),
		.cookie = true,
		.expires_at = INT64_MAX };
	const struct hub_snapshot s = { .users = users,
		.user_count = 3,
		.tokens = tokens,
		.token_count = 5,
		.logins = &login,
		.login_count = 1,
		.routes = routes,
		.route_count = count };

	for (uint32_t i = 0; i < 5; i++) {
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		if (tokens[i].scopes == 0)
			tokens[i].scopes = SCOPES_ALL;
		rig_hash(tokens[i].hash, i + 1);
	}
	return hub_load(w.rig.hub, &s, 0);
}

static int
begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.fail_verb = -1;
	rig_init(&w.rig, NULL);
	assert_non_null(w.rig.hub);
	w.rig.perform = perform;
	w.rig.store = store;
	assert_int_equal(load(NULL, 0), 0);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	assert_int_equal(w.rig.err, 0);
	rig_fini(&w.rig);
	return 0;
}

enum kind { OURS, JSON, MUTE };

static void
arrive(uint32_t peer, const char *id, const char *labels, enum kind kind)
{
	struct event hello =
	    rig_hello(peer, AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	struct event ev = rig_event(EVENT_REGISTER, peer);

	rig_input(&w.rig, &hello);
	ev.registration.agent_id = ev.registration.name = slice_from(id);
	ev.registration.labels_json = slice_from(labels);
	ev.registration.info_json =
	    SL("{\"tunnel_port_config\":{\"agent_http\":8080}}");
	ev.registration.proxies = kind == JSON;
	ev.registration.native = (struct native_hello){ .present = kind == OURS,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true };
	rig_input(&w.rig, &ev);
}

static void
leave(uint32_t peer)
{
	struct event ev = rig_event(EVENT_GONE, peer);

	ev.gone.why = ERR_RESET;
	rig_input(&w.rig, &ev);
}

static struct event
request(enum request_op op, uint32_t token, const char *id)
{
	struct event ev = rig_event(EVENT_REQUEST, OP);
	struct event hello =
	    rig_hello(OP, token, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = op;
	ev.request.id = slice_from(id);
	ev.request.credential = hello.hello.credential;
	return ev;
}

static void
ask(enum request_op op, uint32_t token, const char *id)
{
	struct event ev = request(op, token, id);

	rig_input(&w.rig, &ev);
}

static void
add(uint32_t token, struct route_record r)
{
	struct event ev = request(OP_ROUTE_ADD, token, NULL);

	if (r.target.port == 0) {
		r.target.host = SL("127.0.0.1");
		r.target.port = 80;
	}
	ev.request.route = &r;
	rig_input(&w.rig, &ev);
}

/* BY_ROUTE, by the last route that was answered with. */
static struct event
visit_event(const struct tunnel_visit *v, enum credential_kind kind)
{
	struct event ev = request(OP_VISIT, ROOT, NULL);

	ev.request.credential = (struct credential){ .kind = kind,
		.address = SL("192.0.2.9"),
		.remote = SL("192.0.2.9:1") };
	ev.request.visit = v;
	return ev;
}

static void
visit(uint32_t token)
{
	const struct tunnel_visit v = { .route_id = slice_from(w.id) };
	struct event ev = request(OP_VISIT, token, NULL);

	if (token == 0)
		ev.request.credential.kind = CREDENTIAL_NONE;
	ev.request.visit = &v;
	rig_input(&w.rig, &ev);
}

static void
visit_agent(uint32_t token, enum tunnel_way way, struct tunnel_target t)
{
	const struct tunnel_visit v = {
		.way = way, .agent = SL("a"), .target = t
	};
	struct event ev = request(OP_VISIT, token, NULL);

	ev.request.visit = &v;
	rig_input(&w.rig, &ev);
}

static void
stop_all(bool raise, bool keep_tunnels)
{
	struct event ev =
	    request(raise ? OP_STOP_RAISE : OP_STOP_LIFT, ROOT, NULL);

	ev.request.scope = STOP_ALL;
	ev.request.reason = SL("drill");
	ev.request.keep_tunnels = keep_tunnels;
	rig_input(&w.rig, &ev);
}

#define ON_A                                                     \
	(struct route_record)                                    \
	{                                                        \
		.host = SL("App.example.com"), .agent = SL("a"), \
		.wall = TUNNEL_SESSION                           \
	}
#define ON_DEV                                                           \
	(struct route_record)                                            \
	{                                                                \
		.host = SL("*.pool.example"), .selector = SL("env=dev"), \
		.name = SL("pool")                                       \
	}
#define IN_DEV "{\"env\":\"dev\"}"

/* Making ------------------------------------------------------------------- */

static void
test_life(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	add(ROOT, ON_A);
	expect("201 app.example.com\nroutes app.example.com\n");
	assert_string_equal(w.audit, "route.add");
	/* The same host and prefix, and the same name. */
	add(ROOT, ON_A);
	expect("409 ROUTE_EXISTS host\n");
	struct route_record r = ON_A;
	r.prefix = SL("/api/v1/");
	add(ROOT, r);
	expect("201 app.example.com-api-v1\n"
	       "routes app.example.com app.example.com-api-v1\n");
	r.prefix = SL("/other");
	r.name = SL("app.example.com-api-v1");
	add(ROOT, r);
	expect("409 ROUTE_EXISTS name\n");
	ask(OP_ROUTE_SHOW, VIEWER, "app.example.com");
	expect("200 app.example.com a+\n");
	ask(OP_ROUTE_REMOVE, VIEWER, "app.example.com");
	expect("403 NOT_PERMITTED\n");
	ask(OP_ROUTE_REMOVE, ROOT, w.id);
	expect("204\nroutes app.example.com-api-v1\n");
	assert_string_equal(w.audit, "route.remove");
	ask(OP_ROUTE_SHOW, ROOT, w.id);
	expect("404 ROUTE_NOT_FOUND route\n");
	ask(OP_ROUTE_LIST, ROOT, NULL);
	expect("200 app.example.com-api-v1\n");
}

static void
test_pages(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	for (int i = 0; i < 5; i++) {
		char prefix[8];
		snprintf(prefix, sizeof(prefix), "/%d", i);
		struct route_record r = ON_A;
		r.prefix = slice_from(prefix);
		r.name = slice_from(prefix + 1);
		add(ROOT, r);
	}
	forget();
	struct event ev = request(OP_ROUTE_LIST, ROOT, NULL);
	ev.request.limit = 2;
	rig_input(&w.rig, &ev);
	expect("200 0 1\n");
	ev.request.cursor = slice_from(w.cursor);
	rig_input(&w.rig, &ev);
	expect("200 2 3\n");
	ev.request.cursor = slice_from(w.cursor);
	rig_input(&w.rig, &ev);
	expect("200 4\n");
	assert_string_equal(w.cursor, "");
}

static void
test_who_makes(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	arrive(2, "d", IN_DEV, OURS);
	add(VIEWER, ON_A);
	expect("403 NOT_PERMITTED\n");
	add(ROUTELESS, ON_A);
	expect("403 NOT_PERMITTED\n");
	/* Of what one may see, alone. */
	add(DEV, ON_A);
	expect("404 AGENT_NOT_FOUND agent\n");
	struct route_record r = ON_DEV;
	r.selector = SL("tier=web");
	add(DEV, r);
	expect("403 NOT_PERMITTED selector\n");
	r.selector = SL("tier=web,env=dev");
	add(DEV, r);
	expect("201 pool\nroutes pool\n");
	add(ROOT, ON_A);
	expect("201 app.example.com\nroutes pool app.example.com\n");
	/* And seen the same way. */
	ask(OP_ROUTE_LIST, DEV, NULL);
	expect("200 pool\n");
	ask(OP_ROUTE_LIST, VIEWER, NULL);
	expect("200 pool app.example.com\n");
	ask(OP_ROUTE_REMOVE, DEV, "app.example.com");
	expect("404 ROUTE_NOT_FOUND route\n");
	r = ON_A;
	r.host = SL("d.example");
	r.agent = SL("d");
	add(DEV, r);
	expect("201 d.example\nroutes pool app.example.com d.example\n");
}

static void
test_faults(void **state)
{
	static const struct {
		const char *field;
		struct route_record r;
	} bad[] = {
		{ "host", { .host = SL_INIT("a b") } },
		{ "host", { .host = SL_INIT("app.example.com:80") } },
		{ "prefix",
		    { .host = SL_INIT("x"), .prefix = SL_INIT("/../a") } },
		{ "name", { .host = SL_INIT("x"), .name = SL_INIT("rte_1") } },
		{ "target",
		    { .host = SL_INIT("x"),
			.target = { .host = SL_INIT("h"),
			    .service = SL_INIT("s"),
			    .port = 1 } } },
		{ "tls",
		    { .host = SL_INIT("x"),
			.target = { .host = SL_INIT("h"),
			    .insecure = true,
			    .port = 1 } } },
		{ "selector",
		    { .host = SL_INIT("x"), .selector = SL_INIT("=") } },
		{ "agent",
		    { .host = SL_INIT("x"),
			.agent = SL_INIT("a"),
			.selector = SL_INIT("env") } },
		{ "connect_ms",
		    { .host = SL_INIT("x"), .connect_within = -1 } },
		{ "headers",
		    { .host = SL_INIT("x"), .rules_json = SL_INIT("[]") } },
	};
	char wanted[64];

	(void)state;
	arrive(1, "a", NULL, OURS);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct route_record r = bad[i].r;
		if (r.agent.len == 0 && r.selector.len == 0)
			r.agent = SL("a");
		add(ROOT, r);
		snprintf(wanted, sizeof(wanted), "400 INVALID_REQUEST %s\n",
		    bad[i].field);
		expect(wanted);
	}
	assert_int_equal(w.told, 0);
}

static void
test_store_fails(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	w.fail_verb = OP_PUT_ROUTE;
	w.store_err = ERR_IO;
	add(ROOT, ON_A);
	expect("503 STORE_FAILED\n");
	ask(OP_ROUTE_LIST, ROOT, NULL);
	expect("200\n");
	w.fail_verb = -1;
	add(ROOT, ON_A);
	expect("201 app.example.com\nroutes app.example.com\n");
	w.fail_verb = OP_PUT_ROUTE;
	ask(OP_ROUTE_REMOVE, ROOT, w.id);
	expect("503 STORE_FAILED\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r a@1/1\n");
}

/* Before it is stored nobody may go there. */
static void
test_not_yet(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	w.fail_verb = OP_PUT_ROUTE;
	w.store_err = RIG_HOLD;
	add(ROOT, ON_A);
	expect("");
	ask(OP_ROUTE_SHOW, ROOT, "app.example.com");
	expect("404 ROUTE_NOT_FOUND route\n");
	add(ROOT, ON_A);
	expect("409 ROUTE_EXISTS host\n");
	w.fail_verb = -1;
	rig_settle(&w.rig);
	expect("201 app.example.com\nroutes app.example.com\n");
	/* Nor any more, while its end is stored. */
	w.fail_verb = OP_PUT_ROUTE;
	ask(OP_ROUTE_REMOVE, ROOT, w.id);
	visit(ROOT);
	expect("404 ROUTE_NOT_FOUND route\n");
	w.fail_verb = -1;
	rig_settle(&w.rig);
	expect("204\nroutes\n");
}

static void
test_start(void **state)
{
	const struct route_record r = { .id = SL("rte_1"),
		.name = SL("n"),
		.host = SL("x"),
		.prefix = SL("/"),
		.agent = SL("a"),
		.target = { .host = SL("h"), .port = 1 },
		.wall = TUNNEL_PUBLIC,
		.workspace_id = 1 };

	(void)state;
	rig_fini(&w.rig);
	rig_init(&w.rig, NULL);
	w.rig.perform = perform;
	assert_int_equal(load(&r, 1), 0);
	rig_advance(&w.rig, 1);
	expect("routes n\n");
	snprintf(w.id, sizeof(w.id), "rte_1");
	visit(0);
	expect("503 AGENT_OFFLINE agent\n");
	arrive(1, "a", NULL, OURS);
	visit(0);
	expect("200 to h:1 a@1/1\n");
}

/* Visiting ----------------------------------------------------------------- */

static void
test_walls(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	add(ROOT, ON_A);
	forget();
	visit(0);
	expect("401 UNAUTHORIZED\n");
	visit(77);
	expect("401 UNAUTHORIZED\n");
	visit(AGENT);
	expect("403 NOT_PERMITTED\n");
	visit(ROUTELESS);
	expect("403 NOT_PERMITTED\n");
	visit(DEV);
	expect("403 NOT_PERMITTED\n");
	visit(VIEWER);
	expect("200 to 127.0.0.1:80 user view by tok_v a@1/1\n");
	struct route_record r = ON_A;
	r.host = SL("open.example");
	r.wall = TUNNEL_PUBLIC;
	add(ROOT, r);
	forget();
	visit(0);
	expect("200 to 127.0.0.1:80 a@1/1\n");
	visit(77);
	expect("200 to 127.0.0.1:80 a@1/1\n");
	snprintf(w.id, sizeof(w.id), "rte_none");
	visit(0);
	expect("404 ROUTE_NOT_FOUND route\n");
}

static void
test_wall_cookie(void **state)
{
	struct tunnel_visit v = { .way = TUNNEL_BY_ROUTE };

	(void)state;
	arrive(1, "a", NULL, OURS);
	add(ROOT, ON_A);
	forget();
	v.route_id = slice_from(w.id);
	struct event ev = visit_event(&v, CREDENTIAL_WALL);
	struct credential *c = &ev.request.credential;
	c->route_id = v.route_id;
	c->claims = (struct claims){ .subject = SL("view"),
		.login_id = SL("lgn_1"),
		.issued_at = w.rig.wall,
		.expires_at = w.rig.wall + 5000 };
	rig_input(&w.rig, &ev);
	expect("200 to 127.0.0.1:80 user view by lgn_1 a@1/1\n");
	assert_int_equal(w.expires_at, w.rig.wall + 5000);
	/* Of this place, this login and this user alone. */
	c->route_id = SL("rte_other");
	rig_input(&w.rig, &ev);
	expect("401 UNAUTHORIZED\n");
	c->route_id = v.route_id;
	c->claims.login_id = SL("lgn_2");
	rig_input(&w.rig, &ev);
	expect("401 TOKEN_REVOKED\n");
	c->claims.login_id = SL("lgn_1");
	c->claims.subject = SL("nobody");
	rig_input(&w.rig, &ev);
	expect("401 TOKEN_REVOKED\n");
	c->claims.subject = SL("view");
	rig_advance(&w.rig, 5000);
	rig_input(&w.rig, &ev);
	expect("401 TOKEN_REVOKED\n");
	/* It opens nothing else. */
	c->claims.expires_at = INT64_MAX;
	ev.request.op = OP_AGENT_LIST;
	rig_input(&w.rig, &ev);
	expect("401 UNAUTHORIZED\n");
	v.way = TUNNEL_BY_FORWARD;
	v.agent = v.route_id;
	v.target = (struct tunnel_target){ .host = SL("h"), .port = 1 };
	ev.request.op = OP_VISIT;
	rig_input(&w.rig, &ev);
	expect("401 UNAUTHORIZED\n");
	/* Of a path: for the agent, as it is spelled there. */
	v = (struct tunnel_visit){ .way = TUNNEL_BY_PATH, .agent = SL("a") };
	c->route_id = SL("a");
	rig_input(&w.rig, &ev);
	expect("200 to 127.0.0.1:8080 user view by lgn_1 a@1/1\n");
}

static void
test_links(void **state)
{
	struct tunnel_visit v = { .way = TUNNEL_BY_ROUTE };

	(void)state;
	arrive(1, "a", NULL, OURS);
	add(ROOT, ON_A);
	forget();
	v.route_id = slice_from(w.id);
	ask(OP_ROUTE_LINK, VIEWER, w.id);
	expect("403 NOT_PERMITTED\n");
	ask(OP_ROUTE_LINK, ROOT, w.id);
	expect("201 app.example.com\n");
	assert_string_equal(w.audit, "route.link");
	struct event ev = visit_event(&v, CREDENTIAL_LINK);
	struct credential *c = &ev.request.credential;
	c->route_id = v.route_id;
	c->claims.issued_at = w.rig.wall;
	c->claims.expires_at = w.rig.wall + 60000;
	rig_input(&w.rig, &ev);
	expect("200 to 127.0.0.1:80 by link a@1/1\n");
	assert_int_equal(w.expires_at, w.rig.wall + 60000);
	c->route_id = SL("rte_other");
	rig_input(&w.rig, &ev);
	expect("401 LINK_EXPIRED\n");
	c->route_id = v.route_id;
	rig_advance(&w.rig, 10);
	ask(OP_ROUTE_UNLINK, ROOT, w.id);
	expect("204\ncut route login link: revoked\nroutes app.example.com\n");
	rig_input(&w.rig, &ev);
	expect("401 LINK_EXPIRED\n");
	c->claims.issued_at = w.rig.wall + 1;
	rig_input(&w.rig, &ev);
	expect("200 to 127.0.0.1:80 by link a@1/1\n");
}

static void
test_speech(void **state)
{
	struct event ev = rig_event(EVENT_SPEECH, 3);

	(void)state;
	arrive(1, "a", NULL, MUTE);
	add(ROOT, ON_A);
	forget();
	visit(ROOT);
	expect("502 TUNNEL_UNSUPPORTED agent\n");
	arrive(2, "a", NULL, JSON);
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r a@2/3\n");
	visit_agent(ROOT, TUNNEL_BY_FORWARD,
	    (struct tunnel_target){ .host = SL("db"), .port = 5432 });
	expect("502 TUNNEL_UNSUPPORTED agent\n");
	/* It agrees on streams later, and then comes back without. */
	arrive(3, "a", NULL, JSON);
	expect("forget agent a\n");
	ev.speech = TUNNEL_STREAMS_V1;
	rig_input(&w.rig, &ev);
	expect("forget agent a\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r a@3/2\n");
	leave(3);
	expect("forget agent a\n");
	visit(ROOT);
	expect("503 AGENT_OFFLINE agent\n");
}

static void
test_pools(void **state)
{
	(void)state;
	add(ROOT, ON_DEV);
	forget();
	visit(ROOT);
	expect("503 AGENT_OFFLINE agent\n");
	arrive(1, "p1", IN_DEV, OURS);
	arrive(2, "p2", IN_DEV, OURS);
	arrive(3, "q", NULL, OURS);
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r p1@1/1 p2@2/1\n");
	visit(DEV);
	expect("200 to 127.0.0.1:80 user dev by tok_d p1@1/1 p2@2/1\n");
	leave(1);
	expect("forget agent p1\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r p1- p2@2/1\n");
	/* Who comes new, or with other labels, is no stranger. */
	arrive(4, "p0", IN_DEV, OURS);
	expect("forget route\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r p0@4/1 p1- p2@2/1\n");
	struct event ev = request(OP_AGENT_LABEL, ROOT, "p2");
	ev.request.labels_json = SL("{\"env\":\"prod\"}");
	rig_input(&w.rig, &ev);
	expect("forget route\ncut route agent p2: relabelled\n"
	       "forget agent p2\ncut agent p2 user dev: relabelled\n200\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r p0@4/1 p1-\n");
	ask(OP_AGENT_REMOVE, ROOT, "p0");
	expect("cut agent p0: removed\nforget route\n"
	       "cut route agent p0: relabelled\nforget agent p0\n"
	       "cut agent p0 user dev: relabelled\n204\n");
	visit(ROOT);
	expect("503 AGENT_OFFLINE agent\n");
}

/* 64 at most, and those who are there before those who are not. */
static void
test_large_pool(void **state)
{
	char id[8];

	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		snprintf(id, sizeof(id), "m%03u", i);
		arrive(1 + i, id, IN_DEV, OURS);
		if (i < 130)
			leave(1 + i);
	}
	add(ROOT, ON_DEV);
	forget();
	visit(ROOT);
	assert_null(strstr(w.log, "- "));
	assert_non_null(strstr(w.log, " m130@131/1 "));
	assert_non_null(strstr(w.log, " m193@194/1\n"));
	forget();
	for (uint32_t i = 135; i < 200; i++)
		leave(1 + i);
	forget();
	visit(ROOT);
	assert_non_null(strstr(w.log, " m000- "));
	assert_non_null(strstr(w.log, " m134@135/1\n"));
	assert_non_null(strstr(w.log, " m058- m130@131/1"));
	/* One that no grant names comes back, and is asked for. */
	forget();
	arrive(500, "m199", IN_DEV, OURS);
	expect("forget route\n");
	visit(ROOT);
	assert_non_null(strstr(w.log, " m199@500/1\n"));
	forget();
	leave(500);
	expect("forget route\nforget agent m199\n");
}

/* More pools than are kept: the longest unused is found anew. */
static void
test_many_pools(void **state)
{
	char host[16], selector[32];
	struct route_record r = { .wall = TUNNEL_SESSION };

	(void)state;
	arrive(1, "a", IN_DEV, OURS);
	for (int i = 0; i < 300; i++) {
		snprintf(host, sizeof(host), "h%03d", i);
		snprintf(selector, sizeof(selector), "env=dev,!k%03d", i);
		r.host = slice_from(host);
		r.selector = slice_from(selector);
		add(ROOT, r);
		forget();
		visit(ROOT);
		if (i < 256)
			expect("200 to 127.0.0.1:80 user root by tok_r "
			       "a@1/1\n");
		else
			expect("forget route\n200 to 127.0.0.1:80 user root by "
			       "tok_r a@1/1\n");
	}
	leave(1);
	expect("forget agent a\n");
	ask(OP_ROUTE_REMOVE, ROOT, "h000");
	ask(OP_ROUTE_REMOVE, ROOT, "h299");
	forget();
	visit(ROOT);
	expect("404 ROUTE_NOT_FOUND route\n");
}

static void
test_paths(void **state)
{
	const struct tunnel_target own = { .port = 0 };
	const struct tunnel_target db = { .host = SL("db"), .port = 5432 };

	(void)state;
	arrive(1, "a", NULL, OURS);
	visit_agent(VIEWER, TUNNEL_BY_PATH, own);
	expect("200 to 127.0.0.1:8080 user view by tok_v a@1/1\n");
	assert_int_equal(w.audits, 1);
	visit_agent(VIEWER, TUNNEL_BY_PATH, db);
	expect("403 NOT_PERMITTED\n");
	visit_agent(ROOT, TUNNEL_BY_PATH, db);
	expect("200 to db:5432 user root by tok_r a@1/1\n");
	visit_agent(
	    ROOT, TUNNEL_BY_PATH, (struct tunnel_target){ .tls = true });
	expect("404 NO_WEB_PORT agent\n");
	visit_agent(VIEWER, TUNNEL_BY_FORWARD, db);
	expect("403 NOT_PERMITTED\n");
	visit_agent(DEV, TUNNEL_BY_FORWARD, db);
	expect("404 AGENT_NOT_FOUND agent\n");
	assert_string_not_equal(w.audit, "tunnel.open");
	visit_agent(ROOT, TUNNEL_BY_FORWARD, db);
	expect("200 to db:5432 user root by tok_r a@1/1\n");
	assert_string_equal(w.audit, "tunnel.open");
	visit_agent(ROOT, TUNNEL_BY_FORWARD, own);
	expect("400 INVALID_REQUEST target\n");
}

/* Withdrawing -------------------------------------------------------------- */

static void
test_stops(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	arrive(2, "b", NULL, OURS);
	add(ROOT, ON_A);
	visit(ROOT);
	forget();
	stop_all(true, false);
	expect("cut agent a: stopped\n200\n");
	visit(ROOT);
	expect("503 AGENT_STOPPED agent\n");
	stop_all(false, false);
	expect("forget agent a\n200\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r a@1/1\n");
	stop_all(true, true);
	expect("200\n");
	visit(ROOT);
	expect("200 to 127.0.0.1:80 user root by tok_r a@1/1\n");
	struct event ev = rig_event(EVENT_LOCAL_STOP, 1);
	ev.stop.stopped = true;
	rig_input(&w.rig, &ev);
	expect("cut agent a: stopped\nforget agent a\n");
}

static void
test_users(void **state)
{
	(void)state;
	arrive(1, "a", NULL, OURS);
	add(ROOT, ON_A);
	ask(OP_TOKEN_REVOKE, ROOT, "tok_d");
	forget();
	visit(VIEWER);
	ask(OP_AGENT_CORDON, ROOT, "a");
	forget();
	struct event ev = request(OP_USER_CHANGE, ROOT, "view");
	const struct user_record u = { .role = ROLE_OPERATOR };
	ev.request.user = &u;
	ev.request.changes = USER_ROLE;
	rig_input(&w.rig, &ev);
	expect("cut user view: revoked\n200\n");
	ask(OP_TOKEN_REVOKE, ROOT, "tok_v");
	expect("cut login tok_v: revoked\n200\n");
	visit(VIEWER);
	expect("403 TOKEN_REVOKED\n");
	ask(OP_USER_REMOVE, ROOT, "view");
	expect("cut login lgn_1: revoked\ncut user view: revoked\n200\n");
	ask(OP_ROUTE_REMOVE, ROOT, w.id);
	expect("204\ncut route: route_removed\nroutes\n");
}

/* Whatever happens: as long as nothing was withdrawn a lane that kept an
 * answer would be told the same again, and who is chosen is who has the
 * labels. */
static void
random_step(uint32_t n, uint32_t peer)
{
	static const char *const labels[] = { IN_DEV, "{\"env\":\"prod\"}",
		NULL };
	struct event ev;
	char id[8];

	snprintf(id, sizeof(id), "m%03u", n / 8 % 90);
	switch (n % 8) {
	case 0:
	case 1:
	case 2:
		arrive(peer, id, labels[n / 1024 % 3], OURS);
		break;
	case 3:
		arrive(peer, id, IN_DEV, n % 16 < 8 ? JSON : MUTE);
		break;
	case 4:
		leave(1 + n / 1024 % peer);
		break;
	case 5:
	case 6:
		ev = request(OP_AGENT_LABEL, ROOT, id);
		ev.request.labels_json = n / 1024 % 2 == 0
		    ? SL("{\"env\":\"dev\"}")
		    : SL("{\"env\":null}");
		rig_input(&w.rig, &ev);
		break;
	default:
		if (n / 1024 % 8 == 0)
			ask(OP_AGENT_REMOVE, ROOT, id);
		else
			stop_all(n / 1024 % 2 == 0, n / 2048 % 2 == 0);
	}
}

static void
test_anything(void **state)
{
	char before[sizeof(w.log)] = "";
	uint32_t n = 1;

	(void)state;
	add(ROOT, ON_DEV);
	forget();
	for (uint32_t i = 1; i < 3000; i++) {
		n = n * 1664525 + 1013904223;
		rig_advance(&w.rig, i * 500);
		random_step(n >> 8, i);
		bool told = strstr(w.log, "forget") != NULL ||
		    strstr(w.log, "cut") != NULL;
		forget();
		visit(i % 2 == 0 ? ROOT : DEV);
		/* The other one's answer differs in who it is for. */
		char *who = strstr(w.log, " user ");
		if (who != NULL)
			memmove(who, strstr(who, " by tok_") + 9,
			    strlen(strstr(who, " by tok_") + 9) + 1);
		bool was_granted = strncmp(before, "200", 3) == 0;
		/* 64 of more are as good as any others. */
		bool full = w.members == 64 && strstr(w.log, "- ") == NULL;
		if (was_granted && !told && !full && strcmp(before, w.log) != 0)
			fail_msg("step %u: untold\n%s\n%s", i, before, w.log);
		memcpy(before, w.log, sizeof(before));
		forget();
		struct event ev = request(OP_AGENT_LIST, ROOT, NULL);
		ev.request.filter.selector = SL("env=dev");
		rig_input(&w.rig, &ev);
		size_t most = w.agents < 64 ? w.agents : 64;
		if (strncmp(before, "200", 3) == 0 && w.members != most)
			fail_msg("step %u: %zu of %zu\n%s", i, w.members,
			    w.agents, before);
		forget();
	}
}

/* Memory ------------------------------------------------------------------- */

static void
a_life(void *arg)
{
	(void)arg;
	memset(&w, 0, sizeof(w));
	w.fail_verb = -1;
	rig_init(&w.rig, NULL);
	if (w.rig.hub == NULL)
		return;
	w.rig.perform = perform;
	w.rig.store = store;
	if (load(NULL, 0) == 0) {
		arrive(1, "a", IN_DEV, OURS);
		arrive(2, "b", NULL, OURS);
		add(ROOT, ON_A);
		visit(ROOT);
		add(ROOT, ON_DEV);
		visit(DEV);
		visit_agent(ROOT, TUNNEL_BY_FORWARD,
		    (struct tunnel_target){ .host = SL("db"), .port = 1 });
		ask(OP_ROUTE_LIST, ROOT, NULL);
		ask(OP_ROUTE_UNLINK, ROOT, "pool");
		arrive(3, "c", IN_DEV, OURS);
		stop_all(true, false);
		leave(1);
		ask(OP_ROUTE_REMOVE, ROOT, "pool");
		rig_advance(&w.rig, 5000);
	}
	rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_life, NULL);
}

/* What is lost for want of memory is made good: everything is forgotten. */
static void
test_lost_words(void **state)
{
	(void)state;
	for (long n = 1;; n++) {
		begin(NULL);
		arrive(1, "a", NULL, OURS);
		add(ROOT, ON_A);
		visit(ROOT);
		forget();
		oom_fail_at(n);
		leave(1);
		bool failed = oom_happened();
		rig_advance(&w.rig, w.rig.now + 2000);
		assert_non_null(strstr(w.log, "forget"));
		rig_fini(&w.rig);
		if (!failed)
			break;
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_pages),
		TEST(test_who_makes),
		TEST(test_faults),
		TEST(test_store_fails),
		TEST(test_not_yet),
		TEST(test_start),
		TEST(test_walls),
		TEST(test_wall_cookie),
		TEST(test_links),
		TEST(test_speech),
		TEST(test_pools),
		TEST(test_large_pool),
		TEST(test_many_pools),
		TEST(test_paths),
		TEST(test_stops),
		TEST(test_users),
		TEST(test_anything),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_lost_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
