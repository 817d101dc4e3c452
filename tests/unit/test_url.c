#include <string.h>

#include "base/err.h"
#include "wire/octet.h"
#include "wire/url.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct url_host
host(const char *text)
{
	struct url_host h = { 0 };

	assert_int_equal(url_host_parse(slice_from(text), &h), 0);
	return h;
}

/* The table of classes against the grammar it stands for. */
static void
test_octets(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		uint8_t o = (uint8_t)c;
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		    (c >= 'A' && c <= 'Z');
		bool visible = c > ' ' && c < 0x7f;
		bool plain = alnum || (c != 0 && strchr("-._~", c) != NULL);
		bool token =
		    alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
		bool sub = c != 0 && strchr("!$&'()*+,;=", c) != NULL;

		assert_int_equal(octet_is(o, OCTET_TOKEN), token);
		assert_int_equal(octet_is(o, OCTET_PLAIN), plain);
		assert_int_equal(octet_is(o, OCTET_HOST), plain || sub);
		assert_int_equal(octet_is(o, OCTET_VALUE),
		    visible || c >= 0x80 || c == ' ' || c == '\t');
		assert_int_equal(octet_is(o, OCTET_PATH),
		    visible && strchr("\"<>\\#?", c) == NULL);
		assert_int_equal(octet_is(o, OCTET_QUERY),
		    visible && strchr("\"<>#", c) == NULL);
		assert_int_equal(octet_is(o, OCTET_HEX), octet_hex(o) >= 0);
	}
	assert_int_equal(octet_hex('a'), 10);
	assert_int_equal(octet_hex('F'), 15);
	assert_int_equal(octet_hex('9'), 9);
	assert_int_equal(octet_hex('g'), -1);
	assert_int_equal(octet_hex('@'), -1);
}

static void
test_hosts(void **state)
{
	static const char *const good[] = { "a", "a.", "a.b.", "a_b",
		"a:", "a:0", "a:65535", "0.0.0.0=5000", "1.2.3.4", "[::]",
		"[::1]", "[1::]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:1.2.3.4]",
		"[::ffff:1.2.3.4]:1", "[1::8]", "[1:2:3:4:5:6:7::]", "[ABCD::]",
		"[::1]:" };
	static const char *const bad[] = { ".", "..", "a..b", ".a", "a..",
		"a b", "a/b", "a@b", "a%41", "a:65536", "a:123456", "a:1:2",
		"a:x", "a:-1", "[]", "[", "[::1", "[::1]x", "[::1].:9", "[:::]",
		"[::1::]", "[1:2:3:4:5:6:7]", "[12345::]", "[g::]",
		"[1:2:3:4:5:6:7:8:9]", "[1:2:3:4:5:6:7:8::]", "[::1.2.3]",
		"[::1.2.3.256]", "[::01.2.3.4]", "[1.2.3.4::]", "[fe80::1%1]",
		"[v1.x]", "x[::1]", "\xc3\xa4" };
	struct url_host h;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct slice s = guard_copy(slice_from(good[i]));
		if (url_host_parse(s, &h) != 0)
			fail_msg("refused: %s", good[i]);
		guard_free(s);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice s = guard_copy(slice_from(bad[i]));
		if (url_host_parse(s, &h) == 0)
			fail_msg("accepted: %s", bad[i]);
		guard_free(s);
	}
	assert_int_equal(url_host_parse(SL(""), &h), ERR_MISSING);
	assert_int_equal(url_host_parse(SL(":80"), &h), ERR_MISSING);
	h = host("[::1]:7700");
	assert_slice(h.host, SL("[::1]"));
	assert_slice(h.name, SL("::1"));
	assert_int_equal(h.port, 7700);
	assert_true(h.ipv6);
	h = host("Host:");
	assert_slice(h.name, SL("Host"));
	assert_int_equal(h.port, -1);

	struct url_host a = host("EXAMPLE.org"), b = host("example.org:80");
	assert_true(url_host_equal(&a, &b, 80));
	assert_false(url_host_equal(&a, &b, 443));
	b = host("example.com");
	assert_false(url_host_equal(&a, &b, 80));
}

static void
test_urls(void **state)
{
	static const char *const bad[] = { "", "http", "http:", "http:/a",
		"http://", "http:///x", "http://u@h/", "http://u:p@h/",
		"http://h/#f", "http://h#f", "http://h:0/", "http://h:x/",
		"http://h/ x", "http://h/\x7f", "http://h/?\xc3", "h:80",
		"http://[::1/", "//h/" };
	struct url u;
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(url_parse(SL("wss://Example.org?a=b"), &u), 0);
	assert_true(u.tls && u.websocket);
	assert_int_equal(u.port, 443);
	assert_slice(u.path, SL("/"));
	assert_slice(u.query, SL("a=b"));
	url_put_host(&b, &u);
	url_put_target(&b, &u);
	assert_slice(buf_peek(&b), SL("Example.org/?a=b"));
	buf_clear(&b);
	assert_int_equal(url_parse(SL("HTTP://[::1]:81/a/b?"), &u), 0);
	assert_false(u.tls || u.websocket);
	assert_slice(u.at.name, SL("::1"));
	url_put_host(&b, &u);
	url_put_target(&b, &u);
	assert_slice(buf_peek(&b), SL("[::1]:81/a/b?"));
	buf_clear(&b);
	assert_int_equal(url_parse(SL("https://h:443/x"), &u), 0);
	assert_null(u.query.ptr);
	url_put_host(&b, &u);
	assert_slice(buf_peek(&b), SL("h"));
	assert_int_equal(url_parse(SL("ws://h:443/x"), &u), 0);
	assert_int_equal(u.port, 443);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (url_parse(slice_from(bad[i]), &u) == 0)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(url_parse(SL("ftp://h/"), &u), ERR_UNSUPPORTED);
	assert_slice(u.scheme, SL("ws")); /* untouched on failure */

	static uint8_t big[URL_MAX + 1];
	memset(big, 'a', sizeof(big));
	memcpy(big, "http://h/", 9);
	assert_int_equal(url_parse((struct slice){ big, URL_MAX }, &u), 0);
	assert_int_equal(
	    url_parse((struct slice){ big, URL_MAX + 1 }, &u), ERR_TOO_BIG);
	buf_fini(&b);
}

static void
test_escapes(void **state)
{
	struct arena a;
	struct slice out;
	struct buf b;

	(void)state;
	arena_init(&a, 1 << 20);
	buf_init(&b, 1000);
	url_put_encoded(&b, SL("a b/ü%~-._9"));
	assert_slice(buf_peek(&b), SL("a%20b%2F%C3%BC%25~-._9"));
	assert_int_equal(url_decode(buf_peek(&b), false, &a, &out), 0);
	assert_slice(out, SL("a b/ü%~-._9"));
	assert_int_equal(url_decode(SL("a+b"), false, &a, &out), 0);
	assert_slice(out, SL("a+b"));
	assert_int_equal(url_decode(SL("a+b%2b"), true, &a, &out), 0);
	assert_slice(out, SL("a b+"));
	assert_int_equal(url_decode(SL("%"), false, &a, &out), ERR_INVALID);
	assert_int_equal(url_decode(SL("%4"), false, &a, &out), ERR_INVALID);
	assert_int_equal(url_decode(SL("%4g"), false, &a, &out), ERR_INVALID);
	oom_fail_at(1);
	arena_fini(&a);
	arena_init(&a, 1 << 20);
	assert_int_equal(url_decode(SL("%41"), false, &a, &out), ERR_NOMEM);
	assert_true(oom_happened());
	buf_fini(&b);
	arena_fini(&a);
}

static void
test_paths(void **state)
{
	static const char *const good[] = { "/", "/a", "/a/", "/a/b.c", "/...",
		"/.a", "/a%20b", "/%C3%BC", "/%2ea", "/a:b@c" };
	static const char *const bad[] = { "", "a", "//", "/a//b", "/.", "/..",
		"/a/../b", "/a/./b", "/%2e", "/.%2E/x", "/%2e%2e/", "/a%2fb",
		"/a%5cb", "/a\\b", "/%00", "/%0a", "/%7f", "/%zz", "/%4",
		"/%252e", "/%25", "/%c0%ae", "/%ff", "/%c3", "/%ed%a0%80",
		"/%f4%90%80%80", "/\x01" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (url_path_check(slice_from(good[i])) != 0)
			fail_msg("refused: %s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice s = guard_copy(slice_from(bad[i]));
		if (url_path_check(s) == 0)
			fail_msg("accepted: %s", bad[i]);
		guard_free(s);
	}
}

static void
test_queries(void **state)
{
	struct slice rest = SL("a=1&&b&c=&d=x=y"), name, value, out;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	assert_true(url_query_next(&rest, &name, &value));
	assert_slice(name, SL("a"));
	assert_slice(value, SL("1"));
	assert_true(url_query_next(&rest, &name, &value));
	assert_slice(name, SL("b"));
	assert_null(value.ptr);
	assert_true(url_query_next(&rest, &name, &value));
	assert_non_null(value.ptr);
	assert_slice(value, SL(""));
	assert_true(url_query_next(&rest, &name, &value));
	assert_slice(value, SL("x=y"));
	assert_false(url_query_next(&rest, &name, &value));

	assert_int_equal(
	    url_query_get(SL("x&t%6fken=a%20b+c"), SL("token"), &a, &out), 0);
	assert_slice(out, SL("a b c"));
	assert_int_equal(
	    url_query_get(SL("Token=1"), SL("token"), &a, &out), ERR_MISSING);
	assert_int_equal(
	    url_query_get((struct slice){ 0 }, SL("token"), &a, &out),
	    ERR_MISSING);
	assert_int_equal(
	    url_query_get(SL("t=1&t=1"), SL("t"), &a, &out), ERR_DUPLICATE);
	assert_int_equal(
	    url_query_get(SL("t=%"), SL("t"), &a, &out), ERR_INVALID);
	arena_fini(&a);
}

static void
test_redacted(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "/ws?token=abc&x=1", "/ws?token=***&x=1" },
		{ "/ws?x=1&TOKEN=abc", "/ws?x=1&TOKEN=***" },
		{ "/ws?t%6fken=abc&access_token=b",
		    "/ws?t%6fken=***&access_token=***" },
		{ "/ws?token", "/ws?token" },
		{ "/ws?token=", "/ws?token=***" },
		{ "/ws?tokens=a", "/ws?tokens=a" },
		{ "/token=a?", "/token=a?" },
		{ "/a\nb?c=\x1b[1m", "/a%0Ab?c=%1B[1m" },
		{ "/a?&&token=a=b&", "/a?&&token=***&" },
	};
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_clear(&b);
		url_put_redacted(&b, slice_from(cases[i].in));
		assert_slice(buf_peek(&b), slice_from(cases[i].out));
	}
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_octets),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_queries),
		cmocka_unit_test(test_redacted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
