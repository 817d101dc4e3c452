/*
 * A lane's list of routes, and what it keeps of leaves to visit.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/route.h"

#include "io/clock.h"

#include "server/pass.h"
#include "server/sites.h"

#include "support/oom.h"
#include "support/unit.h"

static struct {
	struct server server;
	struct dock dock;
	struct loop loop;
	struct route_record records[32];
	const struct route_record *sites[32];
	const struct route_record *ids[32];
	struct route_list list;
	char names[32][8];
} w;

static int
begin(void **state)
{
	const uint64_t seed[2] = { 1, 2 };

	(void)state;
	memset(&w, 0, sizeof(w));
	assert_int_equal(loop_init(&w.loop, 16), 0);
	w.server.public_host = SL("muster.example.com");
	w.server.settings.hosts = SL("other.example.com, third");
	w.dock.server = &w.server;
	w.dock.lane.loop = &w.loop;
	pass_setup(&w.dock, seed);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	pass_end(&w.dock);
	loop_turn(&w.loop, false);
	loop_fini(&w.loop);
	return 0;
}

/* Sites -------------------------------------------------------------------- */

static void
sort(const struct route_record **list, size_t n,
    int (*cmp)(const struct route_record *, const struct route_record *))
{
	for (size_t i = 1; i < n; i++) {
		const struct route_record *r = list[i];
		size_t k = i;
		for (; k > 0 && cmp(r, list[k - 1]) < 0; k--)
			list[k] = list[k - 1];
		list[k] = r;
	}
}

static int
by_id(const struct route_record *a, const struct route_record *b)
{
	return slice_cmp(a->id, b->id);
}

static void
add(const char *host, const char *prefix, enum tunnel_wall wall)
{
	size_t n = w.list.count++;
	struct route_record *r = &w.records[n];

	snprintf(w.names[n], sizeof(w.names[n]), "r%02zu", n);
	*r = (struct route_record){ .id = slice_from(w.names[n]),
		.host = slice_from(host),
		.prefix = slice_from(prefix),
		.wall = wall };
	w.sites[n] = w.ids[n] = r;
	sort(w.sites, n + 1, route_cmp);
	sort(w.ids, n + 1, by_id);
	w.list.sites = w.sites;
	w.list.ids = w.ids;
	sites_replace(&w.dock, NULL, &w.list);
}

/* "host prefix" of what is found, or "none". */
static const char *
match(const char *host, const char *path)
{
	static char text[64];
	const struct route_record *r =
	    sites_match(&w.dock, slice_from(host), slice_from(path));

	if (r == NULL)
		return "none";
	snprintf(text, sizeof(text), "%.*s %.*s", SLICE_FMT(r->host),
	    SLICE_FMT(r->prefix));
	return text;
}

static void
test_hosts(void **state)
{
	(void)state;
	assert_string_equal(match("a.example", "/"), "none");
	assert_false(sites_has_host(&w.dock, SL("a.example")));
	add("a.example", "/", TUNNEL_SESSION);
	add("*.a.example", "/", TUNNEL_SESSION);
	add("*.b.a.example", "/", TUNNEL_SESSION);
	add("*.example.com", "/", TUNNEL_SESSION);
	assert_string_equal(match("a.example", "/x"), "a.example /");
	assert_string_equal(match("z.a.example", "/x"), "*.a.example /");
	assert_string_equal(match("b.a.example", "/x"), "*.a.example /");
	assert_string_equal(match("y.z.a.example", "/x"), "*.a.example /");
	assert_string_equal(match("y.b.a.example", "/x"), "*.b.a.example /");
	assert_string_equal(match("example", "/x"), "none");
	assert_string_equal(match("xa.example", "/x"), "none");
	assert_string_equal(match("", "/x"), "none");
	assert_string_equal(match(".", "/x"), "none");
	assert_true(sites_has_host(&w.dock, SL("q.a.example")));
	assert_false(sites_has_host(&w.dock, SL("example")));
	/* Names of our own are ours, whatever the routes say. */
	assert_string_equal(match("app.example.com", "/"), "*.example.com /");
	assert_string_equal(match("muster.example.com", "/"), "none");
	assert_string_equal(match("other.example.com", "/"), "none");
	assert_false(sites_has_host(&w.dock, SL("Muster.Example.com")));
	assert_true(sites_is_own(&w.server, SL("localhost")));
	assert_true(sites_is_own(&w.server, SL("192.0.2.1")));
	assert_true(sites_is_own(&w.server, SL("third")));
	assert_false(sites_is_own(&w.server, SL("app.localhost")));
	w.server.settings.tunnel_origin = SL("https://ways.example.com:8443");
	assert_string_equal(match("ways.example.com", "/"), "none");
	assert_true(sites_is_own(&w.server, SL("ways.example.com")));
}

static void
test_prefixes(void **state)
{
	(void)state;
	add("h", "/a", TUNNEL_SESSION);
	add("h", "/a/b", TUNNEL_SESSION);
	add("h", "/a-b", TUNNEL_SESSION);
	add("h", "/a/b/c/d", TUNNEL_SESSION);
	assert_string_equal(match("h", "/"), "none");
	assert_string_equal(match("h", "/a"), "h /a");
	assert_string_equal(match("h", "/a/"), "h /a");
	assert_string_equal(match("h", "/a?b/c"), "h /a");
	assert_string_equal(match("h", "/ab"), "none");
	assert_string_equal(match("h", "/a/x"), "h /a");
	assert_string_equal(match("h", "/a/b"), "h /a/b");
	assert_string_equal(match("h", "/a/bc"), "h /a");
	assert_string_equal(match("h", "/a/b/c/e"), "h /a/b");
	assert_string_equal(match("h", "/a/b/c/d/e"), "h /a/b/c/d");
	assert_string_equal(match("h", "/a-b/c"), "h /a-b");
	assert_string_equal(match("h", "/a-c"), "none");
	add("h", "/", TUNNEL_SESSION);
	assert_string_equal(match("h", "/"), "h /");
	assert_string_equal(match("h", "*"), "h /");
	assert_string_equal(match("h", "/ab"), "h /");
	assert_string_equal(match("h", "/a-c/a"), "h /");
	assert_string_equal(match("h", "/a/b"), "h /a/b");
	/* A less exact host has what the exact one has not. */
	add("*.h", "/", TUNNEL_SESSION);
	add("x.h", "/api", TUNNEL_SESSION);
	assert_string_equal(match("x.h", "/api/1"), "x.h /api");
	assert_string_equal(match("x.h", "/other"), "*.h /");
}

static void
test_long_paths(void **state)
{
	char path[20000];

	(void)state;
	add("h", "/a", TUNNEL_SESSION);
	memset(path, '/', sizeof(path));
	memcpy(path, "/a", 2);
	for (size_t i = 2; i < sizeof(path); i += 2)
		path[i] = 'x';
	path[2] = '/';
	path[12000] = '\0';
	assert_string_equal(match("h", path), "h /a");
	path[12000] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_string_equal(match("h", path), "none");
}

/* What a service may understand as another route's is no route's. */
static void
test_walls_hold(void **state)
{
	static const char *const sly[] = { "/pub/../x", "/pub/%2e%2e/x",
		"/pub/%2E./x", "/pub/..%2fx", "/pub/..%5Cx", "/pub/..;a=b/x",
		"/pub/./../x", "/pub//../../x", "/pub/a/../../x", "/%70rivate",
		"//private", "/./private", "/pub/../private", "/x/../private",
		"/x/..//private" };
	static const char *const fine[] = { "/pub/a%20b", "/pub/a/../b",
		"/pub//x", "/pub/.well-known/x", "/pub/%41", "/pub/a;b=c",
		"/pub/..a/b", "/pub/a..", "/pub/%", "/pub/%2", "/pub/%zz" };

	(void)state;
	add("h", "/", TUNNEL_SESSION);
	add("h", "/pub", TUNNEL_PUBLIC);
	add("h", "/private", TUNNEL_SESSION);
	for (size_t i = 0; i < sizeof(sly) / sizeof(sly[0]); i++) {
		if (strcmp(match("h", sly[i]), "none") != 0)
			fail_msg("%s: %s", sly[i], match("h", sly[i]));
	}
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		if (strcmp(match("h", fine[i]), "h /pub") != 0)
			fail_msg("%s: %s", fine[i], match("h", fine[i]));
	}
	assert_string_equal(match("h", "/../../.."), "h /");
	assert_string_equal(match("h", "////"), "h /");
	assert_string_equal(match("h", "/pub\\..\\x"), "h /");
	/* Many services do not tell "A" from "a". */
	add("case", "/", TUNNEL_PUBLIC);
	add("case", "/Own", TUNNEL_SESSION);
	add("case", "/own/both", TUNNEL_SESSION);
	add("case", "/OWN/both", TUNNEL_SESSION);
	assert_string_equal(match("case", "/Own/x"), "case /Own");
	assert_string_equal(match("case", "/own"), "none");
	assert_string_equal(match("case", "/OWN/x"), "none");
	assert_string_equal(match("case", "/%6fwn/x"), "none");
	assert_string_equal(match("case", "/y/..%2foWN/x"), "none");
	assert_string_equal(match("case", "/Own/BOTH"), "none");
	assert_string_equal(match("case", "/own/both"), "case /own/both");
	assert_string_equal(match("case", "/OWN/both"), "case /OWN/both");
	assert_string_equal(match("case", "/OWNER"), "case /");
	add("*.case", "/", TUNNEL_PUBLIC);
	add("a.case", "/in", TUNNEL_SESSION);
	assert_string_equal(match("a.case", "/In"), "none");
	assert_string_equal(match("a.case", "/Inn"), "*.case /");
	assert_string_equal(match("b.case", "/In"), "*.case /");
}

static void
test_find(void **state)
{
	(void)state;
	assert_null(sites_find(&w.dock, SL("r00")));
	add("b", "/", TUNNEL_SESSION);
	add("a", "/", TUNNEL_SESSION);
	assert_ptr_equal(sites_find(&w.dock, SL("r00")), &w.records[0]);
	assert_ptr_equal(sites_find(&w.dock, SL("r01")), &w.records[1]);
	assert_null(sites_find(&w.dock, SL("r02")));
	sites_replace(&w.dock, NULL, NULL);
	assert_null(sites_find(&w.dock, SL("r00")));
}

/* Passes ------------------------------------------------------------------- */

static const struct tunnel_member both[] = {
	{ .agent_id = SL_INIT("a"),
	    .name = SL_INIT("one"),
	    .link = { .generation = 1 },
	    .speech = TUNNEL_STREAMS },
	{ .agent_id = SL_INIT("b"),
	    .name = SL_INIT("two"),
	    .link = { .generation = 2 },
	    .speech = TUNNEL_STREAMS },
};

static const struct tunnel_visit to_r00 = { .route_id = SL_INIT("r00") };

static struct credential
jwt(const char *subject)
{
	return (struct credential){ .kind = CREDENTIAL_JWT,
		.claims = { .subject = slice_from(subject) } };
}

static struct tunnel_grant
grant_for(const struct tunnel_visit *v, const char *user)
{
	return (struct tunnel_grant){ .number = 1,
		.visit = v,
		.target = { .host = SL("h"), .port = 80 },
		.members = both,
		.member_count = 2,
		.user_id = slice_from(user) };
}

static struct pass *
keep(const char *user)
{
	struct tunnel_grant g = grant_for(&to_r00, user);
	struct credential c = jwt(user);

	return pass_keep(&w.dock, &g, &c);
}

static bool
found(const char *user)
{
	struct credential c = jwt(user);
	struct pass *p = pass_find(&w.dock, &to_r00, &c);

	pass_drop(p);
	return p != NULL;
}

static void
test_keep_and_find(void **state)
{
	struct credential c = jwt("u");
	struct tunnel_visit other = to_r00;
	struct pass *p = keep("u"), *q;

	(void)state;
	assert_non_null(p);
	assert_slice(p->grant.visit->route_id, SL("r00"));
	assert_slice(p->grant.members[1].name, SL("two"));
	assert_ptr_not_equal(p->grant.members, both);
	q = pass_find(&w.dock, &to_r00, &c);
	assert_ptr_equal(p, q);
	pass_drop(q);
	pass_drop(p);
	assert_true(found("u"));
	/* Another question has another answer. */
	assert_false(found("v"));
	other.route_id = SL("r01");
	assert_null(pass_find(&w.dock, &other, &c));
	other = to_r00;
	other.target.port = 1;
	assert_null(pass_find(&w.dock, &other, &c));
	c.claims.has_scopes = true;
	assert_null(pass_find(&w.dock, &to_r00, &c));
	/* The same again: the newer one. */
	p = keep("u");
	c = jwt("u");
	q = pass_find(&w.dock, &to_r00, &c);
	assert_ptr_equal(p, q);
	pass_drop(p);
	pass_drop(q);
}

/* A token is asked about anew from another address; what a connection was let
 * in as says nothing by itself; of a public route nobody is asked. */
static void
test_credentials(void **state)
{
	struct tunnel_grant g = grant_for(&to_r00, "u");
	struct credential c = { .kind = CREDENTIAL_TOKEN,
		.address = SL("192.0.2.1") };

	(void)state;
	pass_drop(pass_keep(&w.dock, &g, &c));
	struct pass *p = pass_find(&w.dock, &to_r00, &c);
	assert_non_null(p);
	pass_drop(p);
	c.address = SL("192.0.2.2");
	assert_null(pass_find(&w.dock, &to_r00, &c));
	c.kind = CREDENTIAL_WATCH;
	p = pass_keep(&w.dock, &g, &c);
	assert_non_null(p);
	assert_null(pass_find(&w.dock, &to_r00, &c));
	pass_drop(p);
	add("h", "/", TUNNEL_PUBLIC);
	c.kind = CREDENTIAL_NONE;
	pass_drop(pass_keep(&w.dock, &g, &c));
	c = jwt("whoever");
	p = pass_find(&w.dock, &to_r00, &c);
	assert_non_null(p);
	pass_drop(p);
}

struct traveller {
	struct pass_holder holder;
	char why[16];
	int cuts;
};

static void
on_cut(struct pass_holder *h, struct slice why)
{
	struct traveller *t = LIST_OF(h, struct traveller, holder);

	t->cuts++;
	assert_int_equal(slice_cstr(why, t->why, sizeof(t->why)), 0);
	pass_leave(h);
	pass_leave(h);
}

static void
withdraw(struct tunnel_withdrawal x)
{
	x.why = SL("why");
	pass_withdraw(&w.dock, &x);
}

static void
test_withdraw(void **state)
{
	const struct {
		struct tunnel_withdrawal w;
		bool u, v; /* who is meant */
	} rows[] = {
		{ { .route_id = SL_INIT("r00") }, true, true },
		{ { .route_id = SL_INIT("r01") }, false, false },
		{ { .agent_id = SL_INIT("b") }, true, true },
		{ { .agent_id = SL_INIT("c") }, false, false },
		{ { .user_id = SL_INIT("u") }, true, false },
		{ { .user_id = SL_INIT("u"), .agent_id = SL_INIT("a") }, true,
		    false },
		{ { .user_id = SL_INIT("u"), .agent_id = SL_INIT("c") }, false,
		    false },
		{ { .login_id = SL_INIT("l") }, false, false },
		{ { .cut = false }, true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pass_drop(keep("u"));
		pass_drop(keep("v"));
		withdraw(rows[i].w);
		assert_int_equal(found("u"), !rows[i].u);
		assert_int_equal(found("v"), !rows[i].v);
	}
}

static void
test_cut(void **state)
{
	struct traveller t[3] = { { .holder.cut = on_cut },
		{ .holder.cut = on_cut }, { .holder.cut = on_cut } };
	struct pass *u = keep("u"), *v = keep("v");

	(void)state;
	pass_enter(u, &t[0].holder);
	pass_enter(u, &t[1].holder);
	pass_enter(v, &t[2].holder);
	pass_drop(u);
	pass_drop(v);
	withdraw((struct tunnel_withdrawal){ .agent_id = SL("a") });
	assert_false(found("u"));
	assert_int_equal(t[0].cuts + t[1].cuts + t[2].cuts, 0);
	/* Who travels by what was withdrawn is still found to be cut. */
	assert_true(t[0].holder.pass->withdrawn);
	withdraw((struct tunnel_withdrawal){ .user_id = SL("u"), .cut = true });
	assert_int_equal(t[0].cuts, 1);
	assert_int_equal(t[1].cuts, 1);
	assert_int_equal(t[2].cuts, 0);
	assert_string_equal(t[0].why, "why");
	withdraw((struct tunnel_withdrawal){ .cut = true });
	assert_int_equal(t[0].cuts + t[1].cuts + t[2].cuts, 3);
	pass_leave(&t[2].holder);
}

static void
test_expiry(void **state)
{
	struct tunnel_grant g = grant_for(&to_r00, "u");
	struct traveller t = { .holder.cut = on_cut };
	struct credential c = jwt("u");

	(void)state;
	g.expires_at = clock_wall() + 20;
	struct pass *p = pass_keep(&w.dock, &g, &c);
	pass_enter(p, &t.holder);
	pass_drop(p);
	while (t.cuts == 0)
		loop_turn(&w.loop, true);
	assert_true(clock_wall() >= g.expires_at);
	assert_string_equal(t.why, "expired");
	assert_false(found("u"));
	/* One that is over when it is asked for, before the loop has looked. */
	g.expires_at = clock_wall() - 1;
	pass_drop(pass_keep(&w.dock, &g, &c));
	assert_false(found("u"));
}

/* The hub is to hear of each tool that begins to forward, if not of each of
 * its connections. */
static void
test_forwards(void **state)
{
	const struct tunnel_visit v = { .way = TUNNEL_BY_FORWARD,
		.agent = SL_INIT("a") };
	struct tunnel_grant g = grant_for(&v, "u");
	struct credential c = jwt("u");
	struct traveller t = { .holder.cut = on_cut };

	(void)state;
	struct pass *p = pass_keep(&w.dock, &g, &c);
	pass_enter(p, &t.holder);
	pass_drop(p);
	p = pass_find(&w.dock, &v, &c);
	assert_non_null(p);
	pass_drop(p);
	w.loop.uv.time += 60000;
	assert_null(pass_find(&w.dock, &v, &c));
	assert_int_equal(t.cuts, 0);
	withdraw((struct tunnel_withdrawal){ .user_id = SL("u"), .cut = true });
	assert_int_equal(t.cuts, 1);
}

static void
test_many(void **state)
{
	char name[16];

	(void)state;
	for (int i = 0; i < PASSES + 10; i++) {
		snprintf(name, sizeof(name), "u%d", i);
		pass_drop(keep(name));
	}
	assert_int_equal(w.dock.passes.table.count, PASSES);
	assert_false(found("u9"));
	assert_true(found("u10"));
	/* The longest unused goes. */
	pass_drop(keep("new"));
	assert_true(found("u10"));
	assert_false(found("u11"));
	withdraw((struct tunnel_withdrawal){ .agent_id = SL("a") });
	assert_int_equal(w.dock.passes.table.count, 0);
	assert_int_equal(w.dock.passes.buckets.count, 0);
}

static void
test_choose(void **state)
{
	const struct tunnel_target target = { .host = SL("h"), .port = 80 };
	struct tunnel_member away[2] = { both[0], both[1] };
	struct tunnel_grant g = grant_for(&to_r00, "u");
	struct credential c = jwt("u");
	struct pass *p = keep("u");
	size_t first = 0;
	char key[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "visitor %d", i);
		const struct tunnel_member *m =
		    pass_choose(&w.dock, p, slice_from(key));
		assert_ptr_equal(m, pass_choose(&w.dock, p, slice_from(key)));
		first += slice_eq(m->agent_id, SL("a"));
	}
	assert_in_range(first, 400, 600);
	/* Blamed ones come last, for this target. */
	pass_blame(&w.dock, SL("a"), &target);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "visitor %d", i);
		assert_slice(pass_choose(&w.dock, p, slice_from(key))->agent_id,
		    SL("b"));
	}
	pass_blame(&w.dock, SL("b"), &target);
	assert_non_null(pass_choose(&w.dock, p, SL("x")));
	pass_drop(p);
	away[1].link = (struct peer_id){ 0 };
	g.members = away;
	p = pass_keep(&w.dock, &g, &c);
	assert_slice(pass_choose(&w.dock, p, SL("x"))->agent_id, SL("a"));
	pass_drop(p);
	away[0].link = (struct peer_id){ 0 };
	p = pass_keep(&w.dock, &g, &c);
	assert_null(pass_choose(&w.dock, p, SL("x")));
	pass_drop(p);
}

/* Every lane believes it, for five seconds. */
static void
test_blame(void **state)
{
	static struct dock other;
	const uint64_t seed[2] = { 3, 4 };
	const struct tunnel_target target = { .host = SL("h"), .port = 80 };
	const struct tunnel_target elsewhere = { .host = SL("h"), .port = 81 };
	struct pass *p = keep("u");
	struct slice first;

	(void)state;
	other.server = &w.server;
	other.lane.loop = &w.loop;
	pass_setup(&other, seed);
	first = pass_choose(&w.dock, p, SL("x"))->agent_id;
	pass_blame(&other, first, &elsewhere);
	assert_slice(pass_choose(&w.dock, p, SL("x"))->agent_id, first);
	pass_blame(&other, first, &target);
	assert_false(
	    slice_eq(pass_choose(&w.dock, p, SL("x"))->agent_id, first));
	w.loop.uv.time += 4999;
	assert_false(
	    slice_eq(pass_choose(&w.dock, p, SL("x"))->agent_id, first));
	w.loop.uv.time += 1;
	assert_slice(pass_choose(&w.dock, p, SL("x"))->agent_id, first);
	pass_drop(p);
	pass_end(&other);
}

static void
a_life(void *arg)
{
	struct traveller t = { .holder.cut = on_cut };
	struct tunnel_grant g = grant_for(&to_r00, "u");
	struct credential c = jwt("u");

	(void)arg;
	begin(NULL);
	g.expires_at = clock_wall() + 60000;
	struct pass *p = pass_keep(&w.dock, &g, &c);
	if (p != NULL) {
		pass_blame(&w.dock, SL("a"), &g.target);
		assert_non_null(pass_choose(&w.dock, p, SL("x")));
		pass_enter(p, &t.holder);
		pass_drop(p);
		withdraw((struct tunnel_withdrawal){ .cut = true });
		assert_int_equal(t.cuts, 1);
	}
	end(NULL);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_life, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hosts),
		TEST(test_prefixes),
		TEST(test_long_paths),
		TEST(test_walls_hold),
		TEST(test_find),
		TEST(test_keep_and_find),
		TEST(test_credentials),
		TEST(test_withdraw),
		TEST(test_cut),
		TEST(test_expiry),
		TEST(test_forwards),
		TEST(test_many),
		TEST(test_choose),
		TEST(test_blame),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
