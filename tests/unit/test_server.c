/* The parts of musterd that need no loop: names and origins, proxies in
 * front, routes, credentials, settings, records as JSON. */
#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"

#include "wire/enc.h"
#include "wire/token.h"

#include "io/clock.h"

#include "server/credential.h"
#include "server/forwarded.h"
#include "server/ours.h"
#include "server/route.h"
#include "server/settings.h"
#include "server/show.h"

#include "support/unit.h"

#define assert_slice_equal(a, text) assert_slice(a, slice_from(text))

static struct http1_head head;
static char head_text[8192];

/* A request's head with these field lines. */
static const struct http1_head *
request(const char *fields)
{
	int n = snprintf(head_text, sizeof(head_text),
	    "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);

	http1_head_init(&head);
	assert_int_equal(
	    http1_parse_request(
		&head, (struct slice){ (const uint8_t *)head_text, (size_t)n }),
	    n);
	return &head;
}

/* Forwarded ---------------------------------------------------------------- */

static void
expect_client(
    const char *trusted, const char *peer, const char *fields, const char *want)
{
	struct address from, client;
	struct forwarded f;

	assert_int_equal(address_parse(slice_from(peer), &from), 0);
	assert_int_equal(address_parse(slice_from(want), &client), 0);
	forwarded_read(request(fields), slice_from(trusted), &from, &f);
	if (memcmp(&client, &f.client, sizeof(client)) != 0)
		fail_msg("%s from %s is not %s", fields, peer, want);
}

static void
test_forwarded_for(void **state)
{
	const char *own = "10.0.0.0/8, ::1";

	(void)state;
	/* Nobody is believed unasked. */
	expect_client(
	    "", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "10.0.0.1");
	expect_client(
	    own, "9.9.9.9", "X-Forwarded-For: 1.2.3.4\r\n", "9.9.9.9");
	expect_client(own, "10.0.0.1", "", "10.0.0.1");
	/* The rightmost that is no proxy; what is left of it is a claim. */
	expect_client(own, "10.0.0.1",
	    "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.7\r\n", "1.2.3.4");
	expect_client(own, "10.0.0.1",
	    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n",
	    "1.2.3.4");
	expect_client(
	    own, "::1", "Forwarded: for=1.2.3.4;proto=https\r\n", "1.2.3.4");
	expect_client(own, "10.0.0.1",
	    "Forwarded: for=6.6.6.6, "
	    "For=\"[2001:db8::1]:4711\";by=10.0.0.2\r\n",
	    "2001:db8::1");
	expect_client(
	    own, "10.0.0.1", "X-Forwarded-For: 1.2.3.4:80\r\n", "1.2.3.4");
	expect_client(
	    own, "10.0.0.1", "X-Forwarded-For: 2001:db8::2\r\n", "2001:db8::2");
	/* All are proxies: the first of them. */
	expect_client(own, "10.0.0.1",
	    "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3");
	/* IPv4 in IPv6 is IPv4. */
	expect_client(
	    own, "::ffff:10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4");
}

static void
test_forwarded_hidden(void **state)
{
	const char *own = "10.0.0.0/8";

	(void)state;
	/* Who hides ends the walk at the last that is known. */
	expect_client(
	    own, "10.0.0.1", "Forwarded: for=unknown\r\n", "10.0.0.1");
	expect_client(own, "10.0.0.1",
	    "Forwarded: for=1.2.3.4, for=_hidden, for=10.0.0.9\r\n",
	    "10.0.0.9");
	expect_client(own, "10.0.0.1", "X-Forwarded-For: 1.2.3.4, <script>\r\n",
	    "10.0.0.1");
	expect_client(
	    own, "10.0.0.1", "Forwarded: proto=https\r\n", "10.0.0.1");
	expect_client(
	    own, "10.0.0.1", "Forwarded: for=\"[1.2.3.4\"\r\n", "10.0.0.1");
	/* Two stories: neither. */
	expect_client(own, "10.0.0.1",
	    "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n",
	    "10.0.0.1");
	expect_client(own, "10.0.0.1",
	    "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n",
	    "1.2.3.4");
}

static void
test_forwarded_many(void **state)
{
	char fields[4096] = "X-Forwarded-For: 6.6.6.6";
	struct buf b;

	(void)state;
	buf_init(&b, sizeof(fields));
	buf_put(&b, SL("X-Forwarded-For: 6.6.6.6"));
	for (int i = 0; i < 100; i++)
		buf_put(&b, SL(", 10.0.0.5"));
	buf_put(&b, SL("\r\n\0"));
	expect_client("10.0.0.0/8", "10.0.0.1", (const char *)buf_peek(&b).ptr,
	    "10.0.0.5");
	buf_fini(&b);
}

static void
test_forwarded_proto(void **state)
{
	struct address peer;
	struct forwarded f;

	(void)state;
	address_parse(SL("10.0.0.1"), &peer);
	forwarded_read(request("X-Forwarded-For: 1.2.3.4\r\n"
			       "X-Forwarded-Proto: http, https\r\n"),
	    SL("10.0.0.0/8"), &peer, &f);
	assert_true(f.by_proxy && f.tls);
	forwarded_read(request("X-Forwarded-Proto: https\r\n"),
	    SL("10.0.0.0/8"), &peer, &f);
	assert_true(f.tls);
	forwarded_read(request("Forwarded: for=1.2.3.4;proto=http\r\n"),
	    SL("10.0.0.0/8"), &peer, &f);
	assert_false(f.tls);
	forwarded_read(request("X-Forwarded-Proto: https\r\n"),
	    SL("11.0.0.0/8"), &peer, &f);
	assert_false(f.by_proxy || f.tls);
	assert_int_equal(forwarded_check(SL("10.0.0.0/8, ::1,")), 0);
	assert_int_equal(forwarded_check(SL("10.0.0.0/33")), ERR_INVALID);
	assert_int_equal(forwarded_check(SL("proxy.example")), ERR_INVALID);
}

/* Names -------------------------------------------------------------------- */

static void
test_origins(void **state)
{
	static const struct {
		const char *entry;
		const char *origin;
		bool fits;
	} rows[] = {
		{ "https://a.example", "https://a.example", true },
		{ "https://a.example", "https://A.Example", true },
		{ "https://a.example", "https://a.example:443", true },
		{ "https://a.example:443", "https://a.example", true },
		{ "https://a.example", "http://a.example", false },
		{ "https://a.example", "https://a.example:8443", false },
		{ "https://a.example", "https://b.a.example", false },
		{ "https://a.example", "https://a.example.evil", false },
		{ "https://a.example", "null", false },
		{ "https://a.example", "", false },
		{ "https://*.example.com", "https://a.example.com", true },
		{ "https://*.example.com", "https://a.b.example.com", true },
		{ "https://*.example.com", "https://example.com", false },
		{ "https://*.example.com", "https://evilexample.com", false },
		{ "https://*.example.com", "https://.example.com", false },
		{ "https://*.example.com:1", "https://a.example.com:1", true },
		{ "https://*.example.com", "https://a.example.com:1", false },
		{ "https://*.example.com", "https://*.example.com", false },
		{ "http://[::1]:80", "http://[::1]", true },
		{ "a.example", "https://a.example", false },
		{ "*", "https://a.example", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (ours_origin_fits(slice_from(rows[i].entry),
			slice_from(rows[i].origin)) != rows[i].fits)
			fail_msg("%s and %s", rows[i].entry, rows[i].origin);
	}
	assert_int_equal(
	    ours_check_origins(SL("https://a.example, http://*.b:8")), 0);
	assert_int_equal(ours_check_origins(SL("")), 0);
	assert_int_equal(ours_check_origins(SL("*")), ERR_INVALID);
	assert_int_equal(ours_check_origins(SL("https://a/b")), ERR_INVALID);
}

static void
test_cors(void **state)
{
	struct server s = { .public_url = SL("https://m.example:8443/x") };
	struct http1_pair out[OURS_CORS];

	(void)state;
	assert_int_equal(ours_origin(&s, (struct slice){ 0 }), ORIGIN_NONE);
	assert_int_equal(
	    ours_origin(&s, SL("https://m.example:8443")), ORIGIN_OWN);
	assert_int_equal(
	    ours_origin(&s, SL("https://m.example")), ORIGIN_FOREIGN);
	assert_int_equal(ours_origin(&s, SL("null")), ORIGIN_FOREIGN);
	/* Off: not a word. */
	assert_int_equal(
	    ours_cors(&s, ORIGIN_FOREIGN, SL("https://a.example"), out), 0);
	s.settings.cors_origins = SL("https://b.example, https://a.example");
	assert_int_equal(
	    ours_origin(&s, SL("https://a.example")), ORIGIN_LISTED);
	assert_int_equal(
	    ours_cors(&s, ORIGIN_LISTED, SL("https://a.example"), out), 3);
	/* Pages are to see how many requests they have left. */
	assert_non_null(strstr((const char *)out[2].value.ptr,
	    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry"));
	assert_slice_equal(out[0].name, "Vary");
	assert_slice_equal(out[1].value, "https://a.example");
	assert_int_equal(
	    ours_cors(&s, ORIGIN_FOREIGN, SL("https://c"), out), 1);
	assert_int_equal(
	    ours_cors(&s, ORIGIN_NONE, (struct slice){ 0 }, out), 1);
}

static void
test_hosts(void **state)
{
	struct server s = { .public_host = SL("m.example"),
		.settings = { .hosts = SL("x.example, y.example") } };
	static const struct {
		const char *host;
		bool ours;
	} rows[] = {
		{ "m.example", true },
		{ "M.EXAMPLE:1", true },
		{ "y.example", true },
		{ "localhost:7700", true },
		{ "a.localhost", true },
		{ "127.0.0.1", true },
		{ "[::1]:80", true },
		{ "z.example", false },
		{ "127.0.0.1.evil", false },
		{ "10.0.0.1", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct url_host h;
		assert_int_equal(
		    url_host_parse(slice_from(rows[i].host), &h), 0);
		if (ours_is_host(&s, &h) != rows[i].ours)
			fail_msg("%s", rows[i].host);
	}
}

/* Routes ------------------------------------------------------------------- */

static void
expect_route(const char *method, const char *path, const char *want,
    const char *param, const char *allow)
{
	struct slice params[ROUTE_PARAMS] = { { 0 } };
	const struct route *r = NULL;
	char methods[128];
	enum route_found found = route_find(slice_from(method),
	    slice_from(path), false, &r, params, methods, sizeof(methods));

	if (want == NULL && allow == NULL) {
		assert_int_equal(found, ROUTE_NO_PATH);
	} else if (want == NULL) {
		assert_int_equal(found, ROUTE_NO_METHOD);
		assert_string_equal(methods, allow);
	} else {
		assert_int_equal(found, ROUTE_OK);
		assert_string_equal(r->path, want);
		if (param != NULL)
			assert_slice_equal(params[0], param);
	}
}

static void
test_routes(void **state)
{
	(void)state;
	expect_route("GET", "/health", "/health", NULL, NULL);
	expect_route("HEAD", "/health", "/health", NULL, NULL);
	expect_route("POST", "/health", NULL, NULL, "GET, HEAD, OPTIONS");
	expect_route("GET", "/health/", NULL, NULL, NULL);
	expect_route("GET", "/healthy", NULL, NULL, NULL);
	expect_route("GET", "/", NULL, NULL, NULL);
	expect_route("GET", "", NULL, NULL, NULL);
	expect_route(
	    "GET", "/api/v1/agents/web-1", "/api/v1/agents/{}", "web-1", NULL);
	expect_route("GET", "/api/v1/agents/", NULL, NULL, NULL);
	expect_route(
	    "POST", "/api/v1/agents/join", "/api/v1/agents/join", NULL, NULL);
	expect_route("POST", "/api/v1/commands/c/interrupt",
	    "/api/v1/commands/{}/interrupt", "c", NULL);
	/* Methods are case-sensitive. */
	expect_route("get", "/health", NULL, NULL, "GET, HEAD, OPTIONS");
	/* Not without --dev. */
	expect_route("GET", "/dev/echo", NULL, NULL, NULL);
}

static void
test_every_route_is_found(void **state)
{
	struct slice params[ROUTE_PARAMS];
	const struct route *found;
	char allow[128];

	(void)state;
	for (const struct route *r = route_table(); r->path != NULL; r++) {
		assert_non_null(r->handle);
		assert_int_equal(
		    route_find(slice_from(r->method), slice_from(r->path), true,
			&found, params, allow, sizeof(allow)),
		    ROUTE_OK);
	}
}

/* Credentials -------------------------------------------------------------- */

static struct server server = { .nonce_key = { 1, 2, 3 } };

static int
read_as(const struct route *route, enum origin origin, const char *fields,
    const char *query, struct credential *out)
{
	struct call call = {
		.route = route, .origin_is = origin, .query = slice_from(query)
	};

	arena_init(&call.arena, 65536);
	int err = credential_read(&server, request(fields), &call);
	*out = call.credential;
	arena_fini(&call.arena);
	return err;
}

static int
read_it(const char *fields, const char *query, struct credential *out)
{
	const struct route plain = { .path = "/api/v1/agents" };

	return read_as(&plain, ORIGIN_NONE, fields, query, out);
}

#define SESSION "mss_abcdefghijklmnopqrstabcdefghijklmnopqrstuvwxyz234567"

static void
test_cookies(void **state)
{
	const struct route console = { .path = "/ws/dashboard",
		.websocket = true };
	const char *session = "Cookie: a=b; __Host-muster=" SESSION "\r\n";
	struct credential c, d;

	(void)state;
	assert_int_equal(read_it(session, NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_COOKIE);
	/* A token is no session, and a session no token. */
	assert_int_equal(read_it("Cookie: __Host-muster=abc\r\n", NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_COOKIE);
	assert_int_equal(c.claims.login_id.len, 0);
	assert_int_equal(
	    read_it("Authorization: Bearer " SESSION "\r\n", NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_TOKEN);
	/* Two different ones, wherever they stand. */
	assert_int_equal(read_it("Authorization: Bearer abc\r\n"
				 "Cookie: __Host-muster=" SESSION "\r\n",
			     NULL, &c),
	    ERR_INVALID);
	assert_int_equal(read_it(session, "token=abc", &c), ERR_INVALID);
	/* Twice the same name: whose it is nobody knows. */
	assert_int_equal(
	    read_it("Cookie: __Host-muster=a; __Host-muster=b\r\n", NULL, &c),
	    0);
	assert_int_equal(c.kind, CREDENTIAL_NONE);
	/* `token` only where consoles come in, from our own pages. */
	assert_int_equal(read_it("Cookie: token=abc\r\n", NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_NONE);
	for (enum origin o = ORIGIN_NONE; o <= ORIGIN_FOREIGN; o++) {
		assert_int_equal(
		    read_as(&console, o, "Cookie: token=abc\r\n", NULL, &c), 0);
		assert_int_equal(c.kind,
		    o == ORIGIN_OWN ? CREDENTIAL_TOKEN : CREDENTIAL_NONE);
	}
	assert_int_equal(
	    read_as(&console, ORIGIN_OWN, "Cookie: token=abc\r\n", NULL, &c),
	    0);
	assert_int_equal(read_it("", "token=abc", &d), 0);
	assert_memory_equal(c.hash, d.hash, sizeof(c.hash));
}

static void
test_tokens(void **state)
{
	struct credential c, d;

	(void)state;
	assert_int_equal(read_it("", NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_NONE);
	assert_int_equal(read_it("Authorization: Bearer abc\r\n", NULL, &c), 0);
	assert_int_equal(c.kind, CREDENTIAL_TOKEN);
	assert_int_equal(read_it("", "token=abc", &d), 0);
	assert_memory_equal(c.hash, d.hash, sizeof(c.hash));
	assert_int_equal(
	    read_it("authorization: bearer abc\r\n", "token=abc", &d), 0);
	assert_int_equal(
	    read_it("Authorization: Bearer abc\r\n", "token=abd", &d),
	    ERR_INVALID);
	assert_int_equal(read_it("", "token=a&token=b", &d), ERR_INVALID);
	assert_int_equal(read_it("Authorization: Bearer a\r\n"
				 "Authorization: Bearer a\r\n",
			     NULL, &d),
	    ERR_INVALID);
	/* Another scheme is no credential of ours. */
	assert_int_equal(read_it("Authorization: Basic YTpi\r\n", NULL, &d), 0);
	assert_int_equal(d.kind, CREDENTIAL_NONE);
	/* The pin behind a token is not part of it. */
	assert_int_equal(read_it("Authorization: Bearer "
				 "abc.sha256-0123456789abcdef0123456789abcdef"
				 "0123456789abcdef0123456789abcdef\r\n",
			     NULL, &d),
	    0);
	assert_memory_equal(c.hash, d.hash, sizeof(c.hash));
}

static const uint8_t seed[32] = { 9, 9, 9 };

/* A proof over a challenge's nonce, as the field's value. */
static void
make_proof(
    struct buf *out, struct slice nonce, const char *id, const char *signed_id)
{
	uint8_t key[ED25519_KEY], sig[ED25519_SIG];
	struct buf text;

	buf_init(&text, 1024);
	buf_put(&text, SL("muster-link-v1\n"));
	buf_put(&text, slice_from(signed_id));
	buf_put_byte(&text, '\n');
	buf_put(&text, nonce);
	assert_int_equal(token_public_key(seed, key), 0);
	assert_int_equal(token_sign(seed, buf_peek(&text), sig), 0);
	buf_fini(&text);
	buf_put(out, SL("Authorization: Muster-Key id=\""));
	buf_put(out, slice_from(id));
	buf_put(out, SL("\", nonce=\""));
	buf_put(out, nonce);
	buf_put(out, SL("\", key=\""));
	enc_put_base64(out, (struct slice){ key, sizeof(key) }, ENC_URL_BARE);
	buf_put(out, SL("\", sig=\""));
	enc_put_base64(out, (struct slice){ sig, sizeof(sig) }, ENC_URL_BARE);
	buf_put(out, SL("\"\r\n\0"));
}

static enum credential_kind
prove(struct slice nonce, const char *id, const char *signed_id)
{
	struct credential c;
	struct buf b;

	buf_init(&b, 4096);
	make_proof(&b, nonce, id, signed_id);
	assert_int_equal(b.err, 0);
	assert_int_equal(read_it((const char *)buf_peek(&b).ptr, NULL, &c), 0);
	buf_fini(&b);
	return c.kind;
}

static void
test_proofs(void **state)
{
	struct arena a;
	uint8_t stale[24] = { 0, 0, 1 };
	struct buf old;

	(void)state;
	arena_init(&a, 65536);
	struct slice challenge = credential_challenge(&server, &a);
	assert_true(slice_starts(challenge, SL("Muster-Key nonce=\"")));
	struct slice nonce = slice_from_at(challenge, 18);
	nonce = slice_first(nonce, nonce.len - 1);
	assert_int_equal(prove(nonce, "agt_1", "agt_1"), CREDENTIAL_KEY);
	/* A signature for someone else, a stale nonce, one not of ours. */
	assert_int_equal(prove(nonce, "agt_2", "agt_1"), CREDENTIAL_NONE);
	buf_init(&old, 256);
	enc_put_base64(&old, (struct slice){ stale, 24 }, ENC_URL_BARE);
	assert_int_equal(
	    prove(buf_peek(&old), "agt_1", "agt_1"), CREDENTIAL_NONE);
	buf_fini(&old);
	server.nonce_key[0] ^= 1;
	assert_int_equal(prove(nonce, "agt_1", "agt_1"), CREDENTIAL_NONE);
	server.nonce_key[0] ^= 1;
	arena_fini(&a);
}

static void
test_broken_proofs(void **state)
{
	static const char *const rows[] = {
		"Muster-Key ",
		"Muster-Key id=\"a\"",
		"Muster-Key id=a, nonce=b, key=c, sig=d",
		"Muster-Key id=\"a\", nonce=\"b\", key=\"c\", sig=\"d\"",
		"Muster-Key id=\"a\", other=\"b\"",
		"Muster-Key \"",
	};
	char field[512];
	struct credential c;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(
		    field, sizeof(field), "Authorization: %s\r\n", rows[i]);
		assert_int_equal(read_it(field, NULL, &c), 0);
		assert_int_equal(c.kind, CREDENTIAL_NONE);
	}
	assert_int_equal(
	    read_it("Authorization: Muster-Key x\r\n", "token=a", &c),
	    ERR_INVALID);
}

/* Settings ----------------------------------------------------------------- */

static size_t
settle(struct settings *s, const char *file, const struct setting_flag *flags,
    size_t count, struct arena *a, struct buf *problems)
{
	arena_init(a, 1 << 20);
	buf_init(problems, 65536);
	return settings_read(s, SL("muster.conf"),
	    file == NULL ? (struct slice){ 0 } : slice_from(file), flags, count,
	    a, problems);
}

static void
test_settings_precedence(void **state)
{
	const struct setting_flag flag = { SL("public_url"),
		SL("http://flag") };
	const char *file = "public_url = http://file\nlanes = 3\n"
			   "listen = 127.0.0.1:1\nlisten = 127.0.0.1:2\n";
	struct settings s;
	struct arena a;
	struct buf problems;

	(void)state;
	assert_int_equal(settle(&s, NULL, NULL, 0, &a, &problems), 0);
	assert_slice_equal(s.public_url, "");
	assert_int_equal(s.listen_count, 1);
	assert_slice_equal(s.listens[0], "127.0.0.1:7700");
	arena_fini(&a);
	assert_int_equal(settle(&s, file, NULL, 0, &a, &problems), 0);
	assert_slice_equal(s.public_url, "http://file");
	assert_int_equal(s.lanes, 3);
	assert_int_equal(s.listen_count, 2);
	arena_fini(&a);
	setenv("MUSTER_PUBLIC_URL", "http://environment", 1);
	setenv("MUSTER_LISTEN", "127.0.0.1:9", 1);
	assert_int_equal(settle(&s, file, NULL, 0, &a, &problems), 0);
	assert_slice_equal(s.public_url, "http://environment");
	assert_int_equal(s.listen_count, 1);
	assert_slice_equal(s.listens[0], "127.0.0.1:9");
	arena_fini(&a);
	assert_int_equal(settle(&s, file, &flag, 1, &a, &problems), 0);
	assert_slice_equal(s.public_url, "http://flag");
	assert_int_equal(s.lanes, 3);
	arena_fini(&a);
	unsetenv("MUSTER_PUBLIC_URL");
	unsetenv("MUSTER_LISTEN");
}

static void
test_settings_problems(void **state)
{
	static const struct {
		const char *file;
		const char *says;
	} rows[] = {
		{ "lanes = 65\n", "muster.conf:1: " },
		{ "dev = on\nlanes = x\n", "muster.conf:2: " },
		{ "no_such_key = 1\n", "no_such_key" },
		{ "cors_origins = *\n", "muster.conf:1: cors_origins has" },
		{ "trusted_proxies = x\n",
		    "muster.conf:1: trusted_proxies has" },
		{ "log_level = loud\n", "muster.conf:1: log_level is" },
	};
	struct settings s;
	struct arena a;
	struct buf problems;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(
		    settle(&s, rows[i].file, NULL, 0, &a, &problems), 1);
		buf_put_byte(&problems, 0);
		assert_non_null(strstr(
		    (const char *)buf_peek(&problems).ptr, rows[i].says));
		buf_fini(&problems);
		arena_fini(&a);
	}
}

/* Records ------------------------------------------------------------------ */

/* What was written is one JSON object with these members. */
static void
expect_json(struct buf *b, const char *schema, const char *const *names)
{
	const struct js_limits limits = { 1 << 20, 16 };
	struct js_doc doc;
	struct js_fields in;
	struct arena a;
	struct slice text;

	assert_int_equal(b->err, 0);
	arena_init(&a, 1 << 20);
	assert_int_equal(js_parse(&doc, buf_peek(b), &limits, &a), 0);
	js_fields_init(&in, js_root(&doc));
	js_need_string(&in, "schema", &text);
	assert_slice_equal(text, schema);
	for (; *names != NULL; names++) {
		if (memmem(buf_peek(b).ptr, buf_peek(b).len, *names,
			strlen(*names)) == NULL)
			fail_msg("%s lacks %s", schema, *names);
	}
	arena_fini(&a);
	buf_fini(b);
}

#define NASTY SL("a\"b\\c\n\x01\xf0\x9f\x98\x80</script>")

static void
test_shown_records(void **state)
{
	static const char *const of_agent[] = { "\"agent_id\"", "\"status\"",
		"\"labels\"", "\"policy\"", NULL };
	static const char *const of_token[] = { "\"scopes\"", "\"expires_at\"",
		NULL };
	static const char *const of_command[] = { "\"argv\"", "\"state\"",
		"\"exit_code\"", NULL };
	const struct agent_record agent = { .id = NASTY, .name = NASTY };
	const struct agent_view view = { .record = &agent, .remote = NASTY };
	const struct token_record token = { .id = NASTY, .name = NASTY };
	const struct command_record command = {
		.id = NASTY, .argv_json = SL("[\"a\"]"), .cwd = NASTY
	};
	struct js_writer w;
	struct arena a;
	struct buf b;

	(void)state;
	arena_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	js_write(&w, &b);
	show_agent(&w, &view, &a);
	assert_int_equal(js_finish(&w), 0);
	expect_json(&b, "muster.agent/1", of_agent);
	buf_init(&b, 1 << 20);
	js_write(&w, &b);
	show_token(&w, &token, (struct slice){ 0 });
	assert_int_equal(js_finish(&w), 0);
	expect_json(&b, "muster.token/1", of_token);
	buf_init(&b, 1 << 20);
	js_write(&w, &b);
	show_command(&w, &command);
	assert_int_equal(js_finish(&w), 0);
	expect_json(&b, "muster.command/1", of_command);
	arena_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forwarded_for),
		cmocka_unit_test(test_forwarded_hidden),
		cmocka_unit_test(test_forwarded_many),
		cmocka_unit_test(test_forwarded_proto),
		cmocka_unit_test(test_origins),
		cmocka_unit_test(test_cors),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_every_route_is_found),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_cookies),
		cmocka_unit_test(test_proofs),
		cmocka_unit_test(test_broken_proofs),
		cmocka_unit_test(test_settings_precedence),
		cmocka_unit_test(test_settings_problems),
		cmocka_unit_test(test_shown_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
