#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "wire/http1.h"

#include "support/guard.h"
#include "support/unit.h"

/* Parse text whole; the same must come of it byte by byte. */
static int
parse(struct http1_head *h, struct slice text,
    int (*parser)(struct http1_head *, struct slice))
{
	struct slice whole = guard_copy(text);
	struct http1_head slow;
	int n, m = 0;

	http1_head_init(h);
	n = parser(h, whole);
	http1_head_init(&slow);
	for (size_t len = 0; len <= text.len && m == 0; len++) {
		struct slice piece = guard_copy(slice_first(text, len));
		m = parser(&slow, piece);
		guard_free(piece);
	}
	assert_int_equal(n, m);
	assert_int_equal(h->status, slow.status);
	assert_int_equal(h->count, slow.count);
	guard_free(whole);
	/* Once more on memory that outlives this call. */
	http1_head_init(h);
	return parser(h, text);
}

static int
request(struct http1_head *h, const char *text)
{
	return parse(h, slice_from(text), http1_parse_request);
}

static int
response(struct http1_head *h, const char *text)
{
	return parse(h, slice_from(text), http1_parse_response);
}

static void
test_request(void **state)
{
	struct http1_head h;
	const char *text = "GET /a/b?x=1&y HTTP/1.1\r\n"
			   "Host: Example.org:8080\r\n"
			   "X-Empty:\r\n"
			   "Accept:\t text/html \t\r\n"
			   "Accept: */*\r\n"
			   "Connection: keep-alive,, Upgrade\r\n\r\nrest";
	struct slice value;
	size_t pos = 0;

	(void)state;
	assert_int_equal(request(&h, text), (int)strlen(text) - 4);
	assert_slice(h.method, SL("GET"));
	assert_slice(h.target, SL("/a/b?x=1&y"));
	assert_slice(h.path, SL("/a/b"));
	assert_slice(h.query, SL("x=1&y"));
	assert_int_equal(h.form, HTTP1_ORIGIN);
	assert_int_equal(h.minor, 1);
	assert_slice(h.host.name, SL("Example.org"));
	assert_int_equal(h.host.port, 8080);
	assert_int_equal(h.count, 5);
	assert_true(h.keep_alive);
	assert_false(h.has_body);
	assert_slice(http1_field(&h, "x-empty"), SL(""));
	assert_non_null(http1_field(&h, "x-empty").ptr);
	assert_null(http1_field(&h, "x-none").ptr);
	assert_int_equal(http1_count(&h, "accept"), 2);
	assert_true(http1_next_value(&h, "accept", &pos, &value));
	assert_slice(value, SL("text/html"));
	assert_true(http1_next_value(&h, "accept", &pos, &value));
	assert_slice(value, SL("*/*"));
	assert_false(http1_next_value(&h, "accept", &pos, &value));
	assert_true(http1_has_token(&h, "connection", "upgrade"));
	assert_false(http1_has_token(&h, "connection", "close"));
	assert_true(http1_is_hop_by_hop(&h, SL("UPGRADE")));
	assert_false(http1_is_hop_by_hop(&h, SL("accept")));
}

static void
test_keep_alive_timeout(void **state)
{
	static const struct {
		const char *value;
		int seconds;
	} cases[] = {
		{ "timeout=5", 5 },
		{ "max=100, Timeout = 15", 15 },
		{ "timeout=0", 0 },
		{ "timeout=86400, timeout=7", 7 },
		{ "timeout", -1 },
		{ "timeout=", -1 },
		{ "timeout=-5", -1 },
		{ "timeout=99999999999999999999", -1 },
		{ "xtimeout=5", -1 },
		{ "", -1 },
	};
	struct http1_head h;
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
		    "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: %s\r\n\r\n",
		    cases[i].value);
		assert_true(request(&h, text) > 0);
		assert_int_equal(
		    http1_keep_alive_timeout(&h), cases[i].seconds);
	}
	assert_true(request(&h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") > 0);
	assert_int_equal(http1_keep_alive_timeout(&h), -1);
}

static void
test_hop_by_hop(void **state)
{
	static const char *const fixed[] = { "Connection", "keep-alive",
		"Proxy-Authenticate", "proxy-authorization", "Proxy-Connection",
		"TE", "trailer", "Transfer-Encoding", "upgrade",
		"HTTP2-Settings" };
	struct http1_head h;

	(void)state;
	assert_true(request(&h,
			"GET / HTTP/1.1\r\nHost: a\r\n"
			"Connection: X-One\r\nConnection: close, x-two\r\n"
			"X-One: 1\r\nX-Three: 3\r\n\r\n") > 0);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		assert_true(http1_is_hop_by_hop(&h, slice_from(fixed[i])));
	assert_true(http1_is_hop_by_hop(&h, SL("x-one")));
	assert_true(http1_is_hop_by_hop(&h, SL("X-Two")));
	assert_false(http1_is_hop_by_hop(&h, SL("x-three")));
}

static void
test_facts(void **state)
{
	struct http1_head h;

	(void)state;
	assert_true(request(&h,
			"\r\nPOST / HTTP/1.1\r\nHost: a\r\n"
			"Content-Length: 010\r\n"
			"Expect: 100-Continue\r\n\r\n") > 0);
	assert_true(h.content_length == 10);
	assert_true(h.has_body && h.expect_continue && !h.chunked);
	assert_true(request(&h,
			"POST / HTTP/1.1\r\nHost: a\r\n"
			"Transfer-Encoding: Chunked\r\n"
			"Connection: close\r\n\r\n") > 0);
	assert_true(h.chunked && h.has_body && !h.keep_alive);
	assert_true(request(&h, "GET / HTTP/1.0\r\n\r\n") > 0);
	assert_false(h.keep_alive);
	assert_null(h.host.host.ptr);
	assert_true(request(&h,
			"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n"
			"Expect: 100-continue\r\n\r\n") > 0);
	assert_true(h.keep_alive);
	assert_false(h.expect_continue);
}

static void
test_targets(void **state)
{
	struct http1_head h;

	(void)state;
	assert_true(request(&h,
			"GET HTTP://A.example:80?q=1#f HTTP/1.1\r\n"
			"Host: a.EXAMPLE\r\n\r\n") > 0);
	assert_int_equal(h.form, HTTP1_ABSOLUTE);
	assert_slice(h.host.name, SL("A.example"));
	assert_slice(h.path, SL("/"));
	assert_slice(h.query, SL("q=1"));
	assert_true(request(&h,
			"GET https://[::1]/x? HTTP/1.1\r\n"
			"Host: [::1]:443\r\n\r\n") > 0);
	assert_slice(h.host.name, SL("::1"));
	assert_slice(h.query, SL(""));
	assert_true(request(&h, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") > 0);
	assert_int_equal(h.form, HTTP1_ASTERISK);
	assert_null(h.path.ptr);
	assert_true(
	    request(&h, "CONNECT a:9 HTTP/1.1\r\nHost: a:9\r\n\r\n") > 0);
	assert_int_equal(h.form, HTTP1_AUTHORITY);
	assert_int_equal(h.host.port, 9);
}

#define FIRST "GET / HTTP/1.1\r\nHost: a\r\n"

/* Each is refused with that status, and at its last byte at the latest. */
static const struct {
	int status;
	const char *text;
} refused[] = {
	{ 400, " " },
	{ 400, "GE\x01" },
	{ 400, "\r\r" },
	{ 400, "\r\n\r" },
	{ 400, "GET /\x7f" },
	{ 400, "GET /\xc3" },
	{ 400, "GET /\r" },
	{ 400, "GET /\n" },
	{ 400, "GET  " },
	{ 400, "GET /#f " },
	{ 400, "GET /a\"b " },
	{ 400, "GET /?a<b " },
	{ 400, "GET * " },
	{ 400, "GET x " },
	{ 400, "GET ftp://a/ " },
	{ 400, "GET http://u:p@a/ " },
	{ 400, "GET http://[::1/ " },
	{ 421, "GET http://:80/ " },
	{ 400, "CONNECT a " },
	{ 400, "CONNECT a: " },
	{ 400, "CONNECT a:0 " },
	{ 400, "CONNECT / " },
	{ 400, "GET / HTTQ" },
	{ 400, "GET / h" },
	{ 505, "GET / HTTP/2" },
	{ 505, "GET / HTTP/0" },
	{ 505, "GET / HTTP/1.2" },
	{ 400, "GET / HTTP/1.10" },
	{ 400, "GET / HTTP/1.1 " },
	{ 400, "GET / HTTP/1.1\n" },
	{ 400, "GET / HTTP/1.1\rX" },
	{ 400, "GET / HTTP/1.1\r\n " },
	{ 400, FIRST "\t" },
	{ 400, FIRST ":" },
	{ 400, FIRST "a " },
	{ 400, FIRST "a\r" },
	{ 400, FIRST "a: b\x01" },
	{ 400, FIRST "a: b\n" },
	{ 400, FIRST "a: b\rc" },
	{ 400, FIRST "a: b\r\n " },
	{ 400, FIRST "\rX" },
	{ 400, FIRST "Host: a\r\n" },
	{ 400, "GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n" },
	{ 400, "GET / HTTP/1.1\r\nHost: a b\r\n" },
	{ 400, "GET / HTTP/1.1\r\nHost: \r\n" },
	{ 400, "GET / HTTP/1.1\r\nHost: a,b@c\r\n" },
	{ 400, "GET / HTTP/1.1\r\nHost: a%20\r\n" },
	{ 400, "GET / HTTP/1.1\r\n\r\n" },
	{ 421, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n" },
	{ 421, "GET http://a:1/ HTTP/1.1\r\nHost: a\r\n\r\n" },
	{ 421, "CONNECT a:1 HTTP/1.1\r\nHost: a:2\r\n\r\n" },
	{ 400, FIRST "Content-Length:\r\n" },
	{ 400, FIRST "Content-Length: +1\r\n" },
	{ 400, FIRST "Content-Length: 1, 1\r\n" },
	{ 400, FIRST "Content-Length: 1\r\nContent-Length: 1\r\n" },
	{ 413, FIRST "Content-Length: 9223372036854775808\r\n" },
	{ 400,
	    FIRST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" },
	{ 400, FIRST "Transfer-Encoding:\r\n" },
	{ 400, FIRST "Transfer-Encoding: ,chunked\r\n" },
	{ 400, FIRST "Transfer-Encoding: chunked, chunked\r\n" },
	{ 400, FIRST "Transfer-Encoding: chunked;q=1\r\n" },
	{ 400,
	    FIRST "Transfer-Encoding: chunked\r\n"
		  "Transfer-Encoding: chunked\r\n" },
	{ 400, FIRST "Transfer-Encoding: gzip\r\n\r\n" },
	{ 501, FIRST "Transfer-Encoding: gzip, chunked\r\n\r\n" },
	{ 400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" },
	{ 417, FIRST "Expect: 200-maybe\r\n" },
	{ 501, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG" },
};

static void
test_refused(void **state)
{
	struct http1_head h;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct slice text = slice_from(refused[i].text);
		int n = request(&h, refused[i].text);

		if (n >= 0 || h.status != refused[i].status)
			fail_msg("%s: %d %d", refused[i].text, n, h.status);
		assert_non_null(h.why);
		/* The byte before was not yet wrong. */
		n = parse(
		    &h, slice_first(text, text.len - 1), http1_parse_request);
		if (n != 0)
			fail_msg("too early: %s", refused[i].text);
	}
}

static void
test_limits(void **state)
{
	static uint8_t big[HTTP1_HEAD_BYTES + 8];
	struct slice all = { big, sizeof(big) };
	struct http1_head h;
	size_t n;

	(void)state;
	/* A target that does not end. */
	memset(big, 'a', sizeof(big));
	memcpy(big, "GET /", 5);
	http1_head_init(&h);
	assert_int_equal(
	    http1_parse_request(&h, slice_first(all, HTTP1_HEAD_BYTES - 1)), 0);
	assert_int_equal(http1_parse_request(&h, all), ERR_TOO_BIG);
	assert_int_equal(h.status, 414);

	/* A head of exactly the limit, and one byte more. */
	memcpy(big, "GET / HTTP/1.1\r\nHost: a\r\nX: ", 28);
	memcpy(big + HTTP1_HEAD_BYTES - 4, "\r\n\r\n", 4);
	http1_head_init(&h);
	assert_int_equal(http1_parse_request(&h, all), HTTP1_HEAD_BYTES);
	memcpy(big + HTTP1_HEAD_BYTES - 4, "a\r\n\r\n", 5);
	http1_head_init(&h);
	assert_int_equal(http1_parse_request(&h, all), ERR_TOO_BIG);
	assert_int_equal(h.status, 431);

	/* As many fields as there may be, and one more. */
	n = 25;
	for (size_t i = 1; i < HTTP1_FIELDS; i++, n += 4)
		memcpy(big + n, "a:\r\n", 4);
	memcpy(big + n, "\r\n", 2);
	http1_head_init(&h);
	assert_int_equal(http1_parse_request(&h, all), (int)n + 2);
	memcpy(big + n, "a:\r\n\r\n", 6);
	http1_head_init(&h);
	assert_int_equal(http1_parse_request(&h, all), ERR_TOO_BIG);
	assert_int_equal(h.status, 431);
}

/* What http1_is_hop_by_hop has to walk for every field. */
static void
test_connection_names(void **state)
{
	char names[2 * HTTP1_CONNECTION_NAMES + 2], text[2000];
	struct http1_head h;

	(void)state;
	for (size_t i = 0; i < sizeof(names) - 1; i++)
		names[i] = i % 2 == 0 ? 'a' : ',';
	names[sizeof(names) - 1] = '\0';
	snprintf(text, sizeof(text), FIRST "Connection: %s\r\n\r\n", names + 2);
	assert_true(request(&h, text) > 0);
	snprintf(text, sizeof(text), FIRST "Connection: %s\r\n\r\n", names);
	assert_int_equal(request(&h, text), ERR_PROTOCOL);
	assert_int_equal(h.status, 400);
}

static void
test_response(void **state)
{
	struct http1_head h;

	(void)state;
	assert_true(response(&h,
			"HTTP/1.1 200 All \xe9 fine\r\n"
			"Content-Length: 5\r\n\r\n") > 0);
	assert_int_equal(h.status, 200);
	assert_slice(h.reason, SL("All \xe9 fine"));
	assert_true(h.has_length && h.keep_alive);
	assert_true(response(&h, "\r\nHTTP/1.0 204\r\n\r\n") > 0);
	assert_int_equal(h.status, 204);
	assert_false(h.keep_alive);
	assert_true(response(&h, "HTTP/1.1 301 \r\nHost: a b\r\n\r\n") > 0);
	assert_slice(h.reason, SL(""));

	static const char *const wrong[] = { "G", "HTTP/2", "HTTP/1.1\t",
		"HTTP/1.1  ", "HTTP/1.1 0", "HTTP/1.1 2 ", "HTTP/1.1 2000",
		"HTTP/1.1 200\n", "HTTP/1.1 200 a\x7f", "HTTP/1.1 200 OK\r\n ",
		"HTTP/1.0 200 OK\r\n"
		"Transfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
		"Transfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
		"Content-Length: 1\r\n" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_true(response(&h, wrong[i]) < 0);
		assert_int_equal(h.status, 502);
	}
}

/* Feed text in pieces of step bytes, collect the data; the result of the
 * last feed, with *used the bytes taken. */
static int
drain(struct http1_body *b, struct slice text, size_t step, char *out,
    size_t *used)
{
	size_t n = 0;
	int took = 0;

	*used = 0;
	while (*used < text.len) {
		struct slice piece =
		    guard_copy(slice_first(slice_from_at(text, *used), step));
		struct slice data;
		took = http1_body_feed(b, piece, &data);
		if (took > 0 && data.len > 0) {
			memcpy(out + n, data.ptr, data.len);
			n += data.len;
		}
		guard_free(piece);
		if (took <= 0)
			break;
		*used += (size_t)took;
	}
	out[n] = '\0';
	return took;
}

static void
body_start(struct http1_body *b, const char *framing, uint64_t cap)
{
	struct http1_head h;
	char head[200] = "POST / HTTP/1.1\r\nHost: a\r\n";

	strncat(head, framing, sizeof(head) - strlen(head) - 1);
	strncat(head, "\r\n\r\n", sizeof(head) - strlen(head) - 1);
	http1_head_init(&h);
	assert_true(http1_parse_request(&h, slice_from(head)) > 0);
	assert_int_equal(http1_body_request(b, &h, cap), 0);
}

static void
test_body(void **state)
{
	static const struct {
		const char *framing, *text, *data;
		size_t left; /* bytes of text behind the body */
	} cases[] = {
		{ "Content-Length: 5", "helloGET", "hello", 3 },
		{ "Content-Length: 0", "GET", "", 3 },
		{ "Transfer-Encoding: chunked", "0\r\n\r\nX", "", 1 },
		{ "Transfer-Encoding: chunked",
		    "0005\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n",
		    "hello0123456789", 0 },
		{ "Transfer-Encoding: chunked",
		    "2;a; b = c ;d=\"x\\\"; y\"\r\nhi\r\n0;e\r\n\r\n", "hi",
		    0 },
		{ "Transfer-Encoding: chunked",
		    "1\r\nz\r\n0\r\nVary: *\r\nHost: evil\r\n\r\nG", "z", 1 },
	};
	struct http1_body b;
	char out[64];
	size_t used;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice text = slice_from(cases[i].text);
		for (size_t step = 1; step <= text.len; step++) {
			body_start(&b, cases[i].framing, 100);
			drain(&b, text, step, out, &used);
			assert_true(b.done);
			assert_string_equal(out, cases[i].data);
			assert_int_equal(text.len - used, cases[i].left);
		}
	}
}

static void
test_body_refused(void **state)
{
	static const struct {
		int status;
		const char *text;
	} cases[] = {
		{ 400, "\r" },
		{ 400, " " },
		{ 400, "-" },
		{ 400, "+" },
		{ 400, "0x" },
		{ 400, "5 " },
		{ 400, "5_" },
		{ 400, "5\n" },
		{ 400, "5\rX" },
		{ 400, "5;\r" },
		{ 400, "5;=" },
		{ 400, "5;a=\r" },
		{ 400, "5;a b" },
		{ 400, "5;a=\"\r" },
		{ 400, "5;a=\"\\\n" },
		{ 400, "5;a=\"b\"c" },
		{ 400, "1\r\naX" },
		{ 400, "1\r\na\rX" },
		{ 400, "1\r\na\r\n\r" },
		{ 400, "0\r\nX\r" },
		{ 400, "0\r\n " },
		{ 400, "0\r\n:" },
		{ 400, "0\r\na " },
		{ 400, "0\r\na: b\n" },
		{ 400, "0\r\na: b\rc" },
		{ 400, "0\r\n\rX" },
		{ 400, "0\r\nContent-length:" },
		{ 400, "0\r\nTransfer-Encoding:" },
		{ 413, "8000000000000000" },
		{ 413, "7fffffffffffffff\r\n" },
		{ 413, "65\r\n" },
	};
	struct http1_body b;
	char out[64];
	size_t used;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice text = slice_from(cases[i].text);
		for (size_t step = 1; step <= text.len; step++) {
			body_start(&b, "Transfer-Encoding: chunked", 100);
			if (drain(&b, text, step, out, &used) >= 0)
				fail_msg("%s", cases[i].text);
			assert_int_equal(b.status, cases[i].status);
			assert_non_null(b.why);
		}
		body_start(&b, "Transfer-Encoding: chunked", 100);
		if (drain(&b, slice_first(text, text.len - 1), 100, out,
			&used) < 0)
			fail_msg("too early: %s", cases[i].text);
	}
}

static int
repeat(struct http1_body *b, const char *piece, size_t times)
{
	struct slice data;
	int n = 1;

	for (size_t i = 0; i < times && n > 0; i++) {
		struct slice rest = slice_from(piece);
		while (rest.len > 0 && n > 0) {
			n = http1_body_feed(b, rest, &data);
			rest = slice_from_at(rest, n > 0 ? (size_t)n : 0);
		}
	}
	return n;
}

static void
test_body_limits(void **state)
{
	struct http1_body b;
	struct http1_head h;

	(void)state;
	body_start(&b, "Transfer-Encoding: chunked", 1 << 20);
	assert_int_equal(repeat(&b, "0", 100000), ERR_TOO_BIG);
	assert_int_equal(b.status, 413);
	body_start(&b, "Transfer-Encoding: chunked", 1 << 20);
	assert_true(repeat(&b, "1\r\nA\r\n", 100000) > 0);
	body_start(&b, "Transfer-Encoding: chunked", 1 << 20);
	assert_int_equal(
	    repeat(&b, "1;aaaaaaaaaaaaaaaa\r\nA\r\n", 100000), ERR_TOO_BIG);
	body_start(&b, "Transfer-Encoding: chunked", 1 << 20);
	assert_true(repeat(&b, "0\r\n", 1) > 0);
	assert_int_equal(repeat(&b, "a: b\r\n", 100000), ERR_TOO_BIG);
	assert_int_equal(b.status, 431);

	http1_head_init(&h);
	assert_true(
	    http1_parse_request(
		&h, SL("POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n")) > 0);
	assert_int_equal(http1_body_request(&b, &h, 8), ERR_TOO_BIG);
	assert_int_equal(b.status, 413);
	assert_int_equal(http1_body_request(&b, &h, 9), 0);
}

static void
test_body_of_response(void **state)
{
	static const struct {
		const char *text;
		bool head, until_close, done;
	} cases[] = {
		{ "HTTP/1.1 200\r\n\r\n", false, true, false },
		{ "HTTP/1.1 200\r\n\r\n", true, false, true },
		{ "HTTP/1.1 100\r\n\r\n", false, false, true },
		{ "HTTP/1.1 204\r\nContent-Length: 3\r\n\r\n", false, false,
		    true },
		{ "HTTP/1.1 304\r\nTransfer-Encoding: chunked\r\n\r\n", false,
		    false, true },
		{ "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n", false, false,
		    false },
		{ "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n", true, false,
		    true },
		{ "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, false,
		    true },
	};
	struct http1_head h;
	struct http1_body b;
	struct slice data;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(response(&h, cases[i].text) > 0);
		assert_int_equal(
		    http1_body_response(&b, &h, cases[i].head, 10), 0);
		assert_int_equal(b.done, cases[i].done);
		assert_int_equal(
		    http1_body_until_close(&b), cases[i].until_close);
	}
	assert_true(response(&h, "HTTP/1.1 200\r\n\r\n") > 0);
	assert_int_equal(http1_body_response(&b, &h, false, 10), 0);
	assert_int_equal(http1_body_feed(&b, SL("0123456789"), &data), 10);
	assert_int_equal(http1_body_feed(&b, SL("x"), &data), ERR_TOO_BIG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_keep_alive_timeout),
		cmocka_unit_test(test_hop_by_hop),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_connection_names),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_body_refused),
		cmocka_unit_test(test_body_limits),
		cmocka_unit_test(test_body_of_response),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
