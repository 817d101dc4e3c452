#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "wire/http1_client.h"
#include "wire/http1_server.h"
#include "wire/http1_wsopen.h"

#include "support/oom.h"
#include "support/unit.h"

#define HEAD_LINES "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: muster\r\n"

static struct http1_head scratch;

/* The journal of a machine: one word an event, and the body's bytes. */
struct journal {
	char text[4096];
};

static void
note(struct journal *j, const char *text, size_t len)
{
	size_t at = strlen(j->text);

	assert_true(at + len < sizeof(j->text));
	memcpy(j->text + at, text, len);
	j->text[at + len] = '\0';
}

static void
note_event(struct journal *j, const struct http1_event *ev)
{
	static const char *const words[] = { "<", "{", "", ">", "!" };
	char number[16];

	note(j, words[ev->kind], strlen(words[ev->kind]));
	if (ev->kind == HTTP1_REQUEST)
		note(j, (const char *)ev->head->target.ptr,
		    ev->head->target.len);
	if (ev->kind == HTTP1_REQUEST)
		note(j, " ", 1);
	if (ev->kind == HTTP1_BODY)
		note(j, (const char *)ev->data.ptr, ev->data.len);
	if (ev->kind == HTTP1_BAD || ev->kind == HTTP1_RESPONSE) {
		snprintf(number, sizeof(number), "%d ", ev->status);
		note(j, number, strlen(number));
	}
}

struct fixture {
	struct http1_server s;
	struct journal j;
	struct buf out;
};

static void
setup(struct fixture *f, uint64_t body_cap)
{
	memset(f, 0, sizeof(*f));
	buf_init(&f->out, 1 << 20);
	http1_server_init(&f->s, &http1_times_default, body_cap, 0);
}

static void
teardown(struct fixture *f)
{
	http1_server_fini(&f->s);
	buf_fini(&f->out);
}

static void
drain(struct fixture *f)
{
	struct http1_event ev;

	while (http1_server_next(&f->s, &scratch, &ev))
		note_event(&f->j, &ev);
}

static void
feed(struct fixture *f, const char *text, msec now)
{
	/* Freed at once: the machine may keep nothing of it. */
	char *copy = strdup(text);

	http1_server_feed(&f->s, slice_from(copy), now);
	drain(f);
	free(copy);
}

static void
answer(struct fixture *f, int status, const char *body)
{
	struct http1_reply r = { .status = status };

	assert_int_equal(
	    http1_server_answer(&f->s, &r, slice_from(body), &f->out), 0);
	drain(f);
}

static void
sent(struct fixture *f, const char *text)
{
	assert_slice(buf_peek(&f->out), slice_from(text));
	buf_clear(&f->out);
}

static void
test_writers(void **state)
{
	static const struct {
		struct slice name, value;
	} bad[] = {
		{ { NULL, 0 }, { NULL, 0 } },
		{ { (const uint8_t *)"a b", 3 }, { NULL, 0 } },
		{ { (const uint8_t *)"a:", 2 }, { NULL, 0 } },
		{ { (const uint8_t *)"a", 1 },
		    { (const uint8_t *)"b\r\nc", 4 } },
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"b\n", 2 } },
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"b\0", 2 } },
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"\x7f", 1 } },
	};
	uint8_t head[HTTP1_CHUNK_HEAD];
	struct buf b;

	(void)state;
	buf_init(&b, 10000);
	http1_put_status(&b, 200, 784111777000);
	http1_put_field(&b, SL("A"), SL(""));
	http1_put_number(&b, SL("Content-Length"), 12);
	http1_put_end(&b);
	assert_slice(buf_peek(&b),
	    SL("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	       "Server: muster\r\nA: \r\nContent-Length: 12\r\n\r\n"));
	buf_clear(&b);
	http1_put_request(&b, SL("GET"), SL("/a?b"), SL("h:1"));
	assert_slice(buf_peek(&b), SL("GET /a?b HTTP/1.1\r\nHost: h:1\r\n"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&b);
		http1_put_field(&b, bad[i].name, bad[i].value);
		assert_int_equal(b.err, ERR_INVALID);
		assert_int_equal(buf_peek(&b).len, 0);
	}
	buf_clear(&b);
	http1_put_request(&b, SL("GET"), SL("/a b"), SL("h"));
	assert_int_equal(b.err, ERR_INVALID);
	buf_clear(&b);
	http1_put_request(&b, SL("GET"), SL("/\r\nX: y"), SL("h"));
	assert_int_equal(b.err, ERR_INVALID);
	buf_clear(&b);
	http1_put_request(&b, SL("G T"), SL("/"), SL("h"));
	assert_int_equal(b.err, ERR_INVALID);
	buf_clear(&b);
	http1_put_status(&b, 99, 0);
	assert_int_equal(b.err, ERR_INVALID);
	assert_string_equal(http1_reason(421), "Misdirected Request");
	assert_string_equal(http1_reason(299), "Unknown");
	assert_slice(((struct slice){ head, http1_chunk_head(0x1a0, head) }),
	    SL("1a0\r\n"));
	assert_int_equal(http1_chunk_head(SIZE_MAX, head), HTTP1_CHUNK_HEAD);
	assert_slice(((struct slice){ head, HTTP1_CHUNK_HEAD }),
	    SL("ffffffffffffffff\r\n"));
	buf_fini(&b);
}

static void
test_pipeline(void **state)
{
	static const char text[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
				   "POST /b HTTP/1.1\r\nHost: h\r\n"
				   "Content-Length: 3\r\n\r\nxyz"
				   "HEAD /c HTTP/1.1\r\nHost: h\r\n\r\n";
	struct fixture f;

	(void)state;
	for (size_t cut = 1; cut < sizeof(text); cut++) {
		char *first = strndup(text, cut);
		setup(&f, 1000);
		feed(&f, first, 1);
		free(first);
		feed(&f, text + cut, 2);
		/* The second is not looked at before the first is answered. */
		assert_string_equal(f.j.text, "</a >");
		assert_false(http1_server_hungry(&f.s));
		answer(&f, 200, "one");
		assert_string_equal(f.j.text, "</a ></b xyz>");
		answer(&f, 404, "");
		assert_string_equal(f.j.text, "</a ></b xyz></c >");
		answer(&f, 200, "four");
		sent(&f,
		    "HTTP/1.1 200 OK\r\n" HEAD_LINES
		    "Content-Length: 3\r\n\r\none"
		    "HTTP/1.1 404 Not Found\r\n" HEAD_LINES
		    "Content-Length: 0\r\n\r\n"
		    "HTTP/1.1 200 OK\r\n" HEAD_LINES
		    "Content-Length: 4\r\n\r\n");
		/* Idle, and without memory. */
		assert_true(http1_server_idle(&f.s));
		assert_true(http1_server_hungry(&f.s));
		assert_null(f.s.input.head);
		assert_null(f.s.input.held.mem);
		teardown(&f);
	}
}

static void
test_framing(void **state)
{
	static const struct {
		const char *request;
		int status;
		int64_t length;
		const char *want;
		bool closing;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, -1,
		    "Transfer-Encoding: chunked\r\n\r\n"
		    "2\r\nhi\r\n0\r\n\r\n",
		    false },
		{ "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, -1,
		    "Transfer-Encoding: chunked\r\n\r\n", false },
		{ "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, 2,
		    "Content-Length: 2\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\n\r\n", 200, -1,
		    "Connection: close\r\n\r\nhi", true },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, 2,
		    "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
		    false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200,
		    2, "Content-Length: 2\r\nConnection: close\r\n\r\nhi",
		    true },
		{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 204, 2, "\r\n", false },
		{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 304, -1, "\r\n", false },
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http1_reply r = { .status = cases[i].status,
			.length = cases[i].length };
		setup(&f, 1000);
		feed(&f, cases[i].request, 0);
		assert_int_equal(
		    http1_server_data(&f.s, SL("x"), &f.out), ERR_WRONG_STATE);
		assert_int_equal(http1_server_start(&f.s, &r, &f.out), 0);
		assert_int_equal(
		    http1_server_start(&f.s, &r, &f.out), ERR_WRONG_STATE);
		assert_int_equal(http1_server_data(&f.s, SL("hi"), &f.out), 0);
		assert_int_equal(http1_server_finish(&f.s, &f.out, 0), 0);
		if (!slice_ends(buf_peek(&f.out), slice_from(cases[i].want)))
			fail_msg("%.*s", SLICE_FMT(buf_peek(&f.out)));
		assert_int_equal(http1_server_closing(&f.s), cases[i].closing);
		teardown(&f);
	}
}

static void
test_wrong_length(void **state)
{
	struct http1_reply r = { .status = 200, .length = 3 };
	struct http1_pair pair = { SL("content-length"), SL("3") };
	struct fixture f;

	(void)state;
	setup(&f, 1000);
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
	r.fields = &pair;
	r.count = 1;
	assert_int_equal(http1_server_start(&f.s, &r, &f.out), ERR_INVALID);
	r.count = 0;
	assert_int_equal(http1_server_start(&f.s, &r, &f.out), 0);
	assert_int_equal(
	    http1_server_data(&f.s, SL("four"), &f.out), ERR_RANGE);
	assert_int_equal(http1_server_data(&f.s, SL("2!"), &f.out), 0);
	assert_int_equal(http1_server_finish(&f.s, &f.out, 0), ERR_RANGE);
	http1_server_abort(&f.s, 0);
	assert_true(http1_server_closing(&f.s));
	assert_false(http1_server_closed(&f.s));
	teardown(&f);
}

static void
test_continue(void **state)
{
	static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\n"
				   "Expect: 100-continue\r\n"
				   "Content-Length: 2\r\n\r\n";
	struct fixture f;

	(void)state;
	setup(&f, 1000);
	feed(&f, head, 0);
	assert_string_equal(f.j.text, "</ ");
	http1_server_continue(&f.s, &f.out);
	http1_server_continue(&f.s, &f.out);
	sent(&f, "HTTP/1.1 100 Continue\r\n\r\n");
	feed(&f, "ok", 0);
	assert_string_equal(f.j.text, "</ ok>");
	answer(&f, 200, "");
	assert_true(http1_server_idle(&f.s));
	buf_clear(&f.out);
	/* Refused without the body: whether it comes cannot be known. */
	feed(&f, head, 0);
	answer(&f, 401, "");
	assert_true(
	    slice_ends(buf_peek(&f.out), SL("Connection: close\r\n\r\n")));
	assert_true(http1_server_closing(&f.s));
	teardown(&f);
}

static void
test_body_cap(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, 4);
	feed(&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 0);
	assert_string_equal(f.j.text, "</ !413 ");
	assert_true(http1_server_may_answer(&f.s));
	answer(&f, 413, "");
	assert_true(http1_server_closing(&f.s));
	teardown(&f);

	/* A route may allow more. */
	setup(&f, 4);
	http1_server_feed(&f.s,
	    SL("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345"),
	    0);
	struct http1_event ev;
	assert_true(http1_server_next(&f.s, &scratch, &ev));
	http1_server_allow(&f.s, 5);
	drain(&f);
	assert_string_equal(f.j.text, "12345>");
	teardown(&f);

	setup(&f, 4);
	feed(&f,
	    "POST / HTTP/1.1\r\nHost: h\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n"
	    "4\r\nabcd\r\n1\r\n",
	    0);
	assert_string_equal(f.j.text, "</ abcd!413 ");
	teardown(&f);
}

/* An answer before the body's end: the rest is dropped if it is short. */
static void
test_early_answer(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, 1 << 30);
	feed(&f, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n12",
	    0);
	answer(&f, 403, "");
	assert_false(http1_server_closing(&f.s));
	feed(&f, "3456789GET /b HTTP/1.1\r\nHost: h\r\n\r\n", 0);
	assert_string_equal(f.j.text, "</a 12</b >");
	teardown(&f);

	setup(&f, 1 << 30);
	feed(&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n1",
	    0);
	answer(&f, 403, "");
	assert_true(http1_server_closing(&f.s));
	teardown(&f);

	setup(&f, 1 << 30);
	feed(&f,
	    "POST / HTTP/1.1\r\nHost: h\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n1\r\n",
	    0);
	answer(&f, 403, "");
	assert_false(http1_server_closing(&f.s));
	feed(&f, "z\r\n10001\r\n", 0);
	assert_true(http1_server_closing(&f.s));
	teardown(&f);

	/* Before END is told, of a request without a body. */
	setup(&f, 1000);
	struct http1_event ev;
	http1_server_feed(&f.s, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
	assert_true(http1_server_next(&f.s, &scratch, &ev));
	answer(&f, 200, "");
	assert_string_equal(f.j.text, "");
	assert_true(http1_server_idle(&f.s));
	teardown(&f);
}

static void
test_bad(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, 1000);
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\n\r\nBAD\x01GET / HTTP/1.1\r\n",
	    0);
	assert_string_equal(f.j.text, "</ >");
	answer(&f, 200, "");
	assert_string_equal(f.j.text, "</ >!400 ");
	answer(&f, 400, "no");
	assert_true(http1_server_closing(&f.s));
	/* Lingering: whatever comes is dropped, then time or the peer ends. */
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5);
	assert_string_equal(f.j.text, "</ >!400 ");
	http1_server_expire(&f.s, 1999);
	assert_false(http1_server_closed(&f.s));
	http1_server_expire(&f.s, 2000);
	assert_true(http1_server_closed(&f.s));
	teardown(&f);

	setup(&f, 1000);
	feed(&f, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 0);
	assert_string_equal(f.j.text, "!501 ");
	teardown(&f);

	/* What cannot begin a request makes the one before it suspect. */
	setup(&f, 1000);
	feed(&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na\x01",
	    0);
	assert_string_equal(f.j.text, "</ a!400 ");
	teardown(&f);
}

static void
test_times(void **state)
{
	struct fixture f;

	(void)state;
	/* A first head has 10 s from the start, however it trickles. */
	setup(&f, 1000);
	feed(&f, "GET / HT", 9000);
	assert_int_equal(http1_server_deadline(&f.s), 10000);
	http1_server_expire(&f.s, 10000);
	drain(&f);
	assert_string_equal(f.j.text, "!408 ");
	answer(&f, 408, "");
	assert_true(http1_server_closing(&f.s));
	teardown(&f);

	/* Nothing at all: closed without a word. */
	setup(&f, 1000);
	http1_server_expire(&f.s, 10000);
	drain(&f);
	assert_string_equal(f.j.text, "");
	assert_true(http1_server_closed(&f.s));
	teardown(&f);

	/* Later heads: 60 s until they begin, 10 s from there. */
	setup(&f, 1000);
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5);
	assert_int_equal(http1_server_deadline(&f.s), INT64_MAX);
	answer(&f, 200, "");
	assert_int_equal(http1_server_deadline(&f.s), 60005);
	feed(&f, "G", 30000);
	assert_int_equal(http1_server_deadline(&f.s), 40000);
	feed(&f, "E", 35000);
	assert_int_equal(http1_server_deadline(&f.s), 40000);
	teardown(&f);

	/* A body: 30 s between two pieces. */
	setup(&f, 1000);
	feed(&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", 5);
	assert_int_equal(http1_server_deadline(&f.s), 30005);
	feed(&f, "a", 100);
	assert_int_equal(http1_server_deadline(&f.s), 30100);
	http1_server_expire(&f.s, 30100);
	drain(&f);
	assert_string_equal(f.j.text, "</ a!408 ");
	teardown(&f);
}

static void
test_eof(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, 1000);
	http1_server_eof(&f.s);
	drain(&f);
	assert_true(http1_server_closed(&f.s));
	teardown(&f);

	setup(&f, 1000);
	feed(&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", 0);
	http1_server_eof(&f.s);
	drain(&f);
	assert_string_equal(f.j.text, "</ !400 ");
	teardown(&f);

	/* A client that only writes and half-closes gets all its answers. */
	setup(&f, 1000);
	feed(&f,
	    "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
	    "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	    0);
	http1_server_eof(&f.s);
	drain(&f);
	answer(&f, 200, "");
	answer(&f, 200, "");
	assert_string_equal(f.j.text, "</1 ></2 >");
	assert_true(http1_server_closed(&f.s));
	teardown(&f);
}

static void
test_upgrade(void **state)
{
	static const char text[] = "GET /ws HTTP/1.1\r\nHost: h\r\n"
				   "Upgrade: x\r\n\r\n\x81\x80tail";
	struct fixture f;
	struct slice rest;

	(void)state;
	for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
		struct http1_event ev;
		setup(&f, 1000);
		http1_server_feed(
		    &f.s, (struct slice){ (const uint8_t *)text, cut }, 0);
		drain(&f);
		http1_server_feed(&f.s,
		    (struct slice){
			(const uint8_t *)text + cut, sizeof(text) - 1 - cut },
		    0);
		while (http1_server_next(&f.s, &scratch, &ev) &&
		    ev.kind != HTTP1_END)
			;
		assert_int_equal(http1_server_upgrade(&f.s, &rest), 0);
		assert_slice(rest, SL("\x81\x80tail"));
		assert_false(http1_server_next(&f.s, &scratch, &ev));
		teardown(&f);
	}
	setup(&f, 1000);
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", 0);
	assert_int_equal(http1_server_upgrade(&f.s, &rest), ERR_WRONG_STATE);
	teardown(&f);
}

static void
test_ahead(void **state)
{
	static char big[HTTP1_AHEAD_BYTES + 2];
	struct fixture f;

	(void)state;
	/* More ahead than is kept: the answer is the last. */
	setup(&f, 1000);
	feed(&f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
	memset(big, 'A', sizeof(big) - 1);
	feed(&f, big, 0);
	answer(&f, 200, "");
	assert_string_equal(f.j.text, "</ >");
	assert_true(http1_server_closing(&f.s));
	teardown(&f);
}

static void
serve_all(void *arg)
{
	static const char *const pieces[] = { "GET /a HT",
		"TP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHo",
		"st: h\r\n\r\n" };
	struct http1_reply r = { .status = 200 };
	struct http1_event ev;
	struct http1_server s;
	struct buf out;
	int answers = 0;

	(void)arg;
	buf_init(&out, 10000);
	http1_server_init(&s, &http1_times_default, 1000, 0);
	for (size_t i = 0; i < 3; i++) {
		http1_server_feed(&s, slice_from(pieces[i]), 0);
		while (http1_server_next(&s, &scratch, &ev)) {
			r.status = ev.kind == HTTP1_BAD ? ev.status : 200;
			if (ev.kind == HTTP1_REQUEST)
				continue;
			if (http1_server_answer(&s, &r, SL("x"), &out) != 0)
				http1_server_abort(&s, 0);
			else
				answers++;
		}
	}
	assert_true(answers == 2 || http1_server_closing(&s));
	http1_server_fini(&s);
	buf_fini(&out);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(serve_all, NULL);
}

/* The client's end -------------------------------------------------------- */

static void
client_drain(struct http1_client *c, struct journal *j)
{
	struct http1_event ev;

	while (http1_client_next(c, &scratch, &ev))
		note_event(j, &ev);
}

static void
client_feed(struct http1_client *c, struct journal *j, const char *text)
{
	char *copy = strdup(text);

	http1_client_feed(c, slice_from(copy));
	client_drain(c, j);
	free(copy);
}

static int
client_ask(struct http1_client *c, struct slice method, int64_t length)
{
	struct http1_ask a = { .method = method,
		.target = SL("/x"),
		.host = SL("h"),
		.length = length };
	struct buf out;
	int err;

	buf_init(&out, 1000);
	err = http1_client_ask(c, &a, &out);
	if (err == 0 && length == 0)
		err = http1_client_finish(c, &out);
	buf_fini(&out);
	return err;
}

static void
test_client(void **state)
{
	static const struct {
		const char *text, *journal;
		bool eof, reusable;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "{200 hi>",
		    false, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		  "2\r\nhi\r\n0\r\n\r\n",
		    "{200 hi>", false, true },
		{ "HTTP/1.1 103 Hm\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
		    "{103 {204 >", false, true },
		{ "HTTP/1.1 200 OK\r\nConnection: close\r\n"
		  "Content-Length: 0\r\n\r\n",
		    "{200 >", false, false },
		{ "HTTP/1.1 200 OK\r\n\r\nhi", "{200 hi>", true, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
		    "{200 hi!502 ", true, false },
		{ "HTTP/1.1 200 O", "!502 ", true, false },
		{ "HTTP/1.1 204 No\r\n\r\nmore", "{204 >!502 ", false, false },
		{ "HTTP/1.1 101 Switching\r\n\r\n", "!502 ", false, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n",
		    "{200 !502 ", false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t cut = 0; cut < strlen(cases[i].text); cut++) {
			struct journal j = { "" };
			struct http1_client c;
			char *first = strndup(cases[i].text, cut);
			http1_client_init(&c, 1000);
			assert_int_equal(client_ask(&c, SL("GET"), 0), 0);
			client_feed(&c, &j, first);
			client_feed(&c, &j, cases[i].text + cut);
			if (cases[i].eof)
				http1_client_eof(&c);
			client_drain(&c, &j);
			assert_string_equal(j.text, cases[i].journal);
			assert_int_equal(
			    http1_client_reusable(&c), cases[i].reusable);
			if (!cases[i].reusable)
				assert_int_equal(client_ask(&c, SL("GET"), 0),
				    ERR_WRONG_STATE);
			http1_client_fini(&c);
			free(first);
		}
	}
}

static void
test_client_asks(void **state)
{
	struct http1_pair field = { SL("A"), SL("b") };
	struct http1_ask a = { .method = SL("POST"),
		.target = SL("/x"),
		.host = SL("h"),
		.fields = &field,
		.count = 1 };
	struct journal j = { "" };
	struct http1_client c;
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	http1_client_init(&c, 1000);
	assert_int_equal(http1_client_ask(&c, &a, &out), 0);
	assert_int_equal(http1_client_finish(&c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("POST /x HTTP/1.1\r\nHost: h\r\nA: b\r\n"
	       "Content-Length: 0\r\n\r\n"));
	assert_int_equal(http1_client_ask(&c, &a, &out), ERR_WRONG_STATE);
	client_feed(&c, &j, "HTTP/1.1 204 No\r\n\r\n");
	buf_clear(&out);
	a.length = -1;
	assert_int_equal(http1_client_ask(&c, &a, &out), 0);
	assert_int_equal(http1_client_data(&c, SL("hi"), &out), 0);
	assert_int_equal(http1_client_finish(&c, &out), 0);
	assert_slice(buf_peek(&out),
	    SL("POST /x HTTP/1.1\r\nHost: h\r\nA: b\r\n"
	       "Transfer-Encoding: chunked\r\n\r\n"
	       "2\r\nhi\r\n0\r\n\r\n"));
	client_feed(&c, &j, "HTTP/1.1 204 No\r\n\r\n");
	buf_clear(&out);
	/* HEAD: a length, but no body. */
	a.method = SL("HEAD");
	a.length = 0;
	assert_int_equal(http1_client_ask(&c, &a, &out), 0);
	assert_int_equal(http1_client_finish(&c, &out), 0);
	client_feed(&c, &j, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
	assert_string_equal(j.text, "{204 >{204 >{200 >");
	assert_true(http1_client_reusable(&c));
	/* An answer before the request's end spoils the connection. */
	a.method = SL("PUT");
	a.length = 5;
	assert_int_equal(http1_client_ask(&c, &a, &out), 0);
	client_feed(&c, &j, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
	assert_false(http1_client_reusable(&c));
	field.name = SL("Host");
	assert_int_equal(http1_client_ask(&c, &a, &out), ERR_WRONG_STATE);
	http1_client_fini(&c);
	http1_client_init(&c, 1000);
	assert_int_equal(http1_client_ask(&c, &a, &out), ERR_INVALID);
	http1_client_fini(&c);
	buf_fini(&out);
}

static void
test_client_upgrade(void **state)
{
	struct http1_ask a = { .method = SL("GET"),
		.target = SL("/x"),
		.host = SL("h"),
		.upgrade = true };
	struct http1_event ev;
	struct http1_client c;
	struct slice rest;
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	http1_client_init(&c, 1000);
	assert_int_equal(http1_client_ask(&c, &a, &out), 0);
	assert_int_equal(http1_client_finish(&c, &out), 0);
	assert_int_equal(http1_client_upgrade(&c, &rest), ERR_WRONG_STATE);
	http1_client_feed(&c, SL("HTTP/1.1 101"));
	assert_false(http1_client_next(&c, &scratch, &ev));
	http1_client_feed(&c, SL(" Go\r\n\r\n\x81\x01x"));
	assert_true(http1_client_next(&c, &scratch, &ev));
	assert_int_equal(ev.status, 101);
	assert_int_equal(http1_client_upgrade(&c, &rest), 0);
	assert_slice(rest, SL("\x81\x01x"));
	http1_client_fini(&c);
	buf_fini(&out);
}

static void
test_wsopen(void **state)
{
	struct wsopen_verdict verdict;
	struct wsopen_response answer_;
	struct wsopen_request r;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	http1_head_init(&scratch);
	assert_true(http1_parse_request(&scratch,
			SL("GET /ws HTTP/1.1\r\nHost: h\r\n"
			   "Connection: keep-alive\r\nConnection: Upgrade\r\n"
			   "Upgrade: websocket\r\n"
			   "Sec-WebSocket-Version: 13\r\n"
			   "Sec-WebSocket-Protocol: a\r\n"
			   "Sec-WebSocket-Protocol:\r\n"
			   "Sec-WebSocket-Protocol: b, c\r\n"
			   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			   "\r\n")) > 0);
	assert_int_equal(http1_wsopen_request(&scratch, &a, &r), 0);
	assert_slice(r.connection, SL("keep-alive, Upgrade"));
	assert_slice(r.protocols, SL("a, , b, c"));
	assert_null(r.extensions.ptr);
	assert_int_equal(r.keys, 1);
	assert_int_equal(wsopen_check_request(&r, &verdict), 0);
	arena_fini(&a);
	arena_init(&a, 8);
	assert_int_equal(http1_wsopen_request(&scratch, &a, &r), ERR_NOMEM);
	arena_fini(&a);

	arena_init(&a, 1 << 16);
	http1_head_init(&scratch);
	assert_true(
	    http1_parse_response(&scratch,
		SL("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\n"
		   "Upgrade: websocket\r\n"
		   "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
		   "\r\n")) > 0);
	assert_int_equal(http1_wsopen_response(&scratch, &a, &answer_), 0);
	assert_int_equal(
	    wsopen_check_response(&answer_, SL("dGhlIHNhbXBsZSBub25jZQ=="),
		(struct slice){ 0 }, &verdict.reason),
	    0);
	arena_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writers),
		cmocka_unit_test(test_pipeline),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_wrong_length),
		cmocka_unit_test(test_continue),
		cmocka_unit_test(test_body_cap),
		cmocka_unit_test(test_early_answer),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_eof),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_asks),
		cmocka_unit_test(test_client_upgrade),
		cmocka_unit_test(test_wsopen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
