/*
 * A reverse proxy of the two machines and hop, in memory: what a gateway
 * does with them, cut in every way that bytes can come.
 */
#include "base/err.h"
#include "support/oom.h"
#include "support/relay.h"
#include "support/unit.h"

#define ADDED                                                       \
	"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n" \
	"X-Forwarded-Host: h\r\n"                                   \
	"Forwarded: for=192.0.2.7;host=h;proto=http\r\n"            \
	"X-Request-Id: r\r\nTraceparent: "                          \
	"00-01010101010101010101010101010101-0101010101010101-01\r\n"
#define DATE "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static const struct exchange {
	const char *request, *asked, *response, *answered;
	bool ends;  /* the service closes behind its answer */
	bool close; /* the visitor's connection is used up */
} exchanges[] = {
	/* A body of known length either way. */
	{ "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef",
	    "POST /a HTTP/1.1\r\nHost: h\r\n" ADDED
	    "Content-Length: 6\r\n\r\nabcdef",
	    "HTTP/1.1 201 Made It\r\nDate: now\r\nServer: x\r\n"
	    "Content-Length: 2\r\n\r\nhi",
	    "HTTP/1.1 201 Made It\r\nDate: now\r\nServer: x\r\n"
	    "Content-Length: 2\r\n\r\nhi",
	    false, false },
	/* Until the service closes: chunked for who knows that. */
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "GET / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.0 200 OK\r\n\r\n",
	    "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n"
	    "0\r\n\r\n",
	    true, false },
	/* Nobody knows chunks in HTTP/1.0, nor answers before the answer. */
	{ "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
	    "GET / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "0\r\nA: b\r\n\r\n",
	    "HTTP/1.1 200 OK\r\n" DATE "Connection: close\r\n\r\n", false,
	    true },
	{ "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
	    "GET / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
	    "HTTP/1.1 200 OK\r\n" DATE
	    "Content-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
	    false, false },
	/* Answers without a body, whatever their fields say. */
	{ "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "HEAD / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
	    "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 1000\r\n\r\n", false,
	    false },
	{ "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "HEAD / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	    "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n",
	    false, false },
	{ "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "DELETE / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 204 No Content\r\n\r\n",
	    "HTTP/1.1 204 No Content\r\n" DATE "\r\n", false, false },
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "GET / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
	    "HTTP/1.1 304 Not Modified\r\n" DATE "ETag: x\r\n\r\n", false,
	    false },
	/* Answers before the answer. */
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "GET / HTTP/1.1\r\nHost: h\r\n" ADDED "\r\n",
	    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	    "HTTP/1.1 102 \r\nConnection: x\r\nX: y\r\n\r\n"
	    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	    "HTTP/1.1 102 \r\n\r\n"
	    "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 0\r\n\r\n",
	    false, false },
	/* Refused without the body, which may come or not. */
	{ "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
	  "Content-Length: 5\r\n\r\n",
	    "PUT / HTTP/1.1\r\nHost: h\r\n" ADDED
	    "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	    "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
	    "HTTP/1.1 413 Content Too Large\r\n" DATE
	    "Content-Length: 0\r\nConnection: close\r\n\r\n",
	    false, true },
	/* A service that wants no more of the body: it is read and dropped. */
	{ "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
	    "PUT / HTTP/1.1\r\nHost: h\r\n" ADDED "Content-Length: 5\r\n\r\nab",
	    "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
	    "HTTP/1.1 403 No\r\n" DATE "Content-Length: 2\r\n\r\nno", false,
	    false },
	/* A WebSocket; both say something at once. */
	{ "GET /w HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n"
	  "Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
	  "Sec-WebSocket-Key: " KEY "\r\n\r\n\x81\x80mask",
	    "GET /w HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: " KEY "\r\n" ADDED
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80mask",
	    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n"
	    "Connection: upgrade\r\nX: y\r\n"
	    "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n\x81\x02hi",
	    "HTTP/1.1 101 Switching\r\nX: y\r\n"
	    "Sec-WebSocket-Accept: " ACCEPT "\r\n"
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
	    false, false },
	/* One that is refused is an answer as any other. */
	{ "GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
	  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	  "Sec-WebSocket-Key: " KEY "\r\n\r\n",
	    "GET /w HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: " KEY "\r\n" ADDED
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	    "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\n"
	    "Content-Length: 3\r\n\r\nwho",
	    "HTTP/1.1 401 Who\r\n" DATE "WWW-Authenticate: Basic\r\n"
	    "Content-Length: 3\r\n\r\nwho",
	    false, false },
};

/* How the bytes of both come: the visitor's all, then the service's. */
static void
run(struct relay *r, const struct exchange *x, size_t step, size_t back)
{
	relay_visitor(r, slice_from(x->request), step);
	relay_service(r, slice_from(x->response), back);
	if (x->ends && r->err == 0) {
		relay_service_eof(r);
	}
}

static void
test_exchanges(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
		const struct exchange *x = &exchanges[i];
		size_t most = strlen(x->request) + strlen(x->response);
		for (size_t step = 1; step < most; step++) {
			struct relay r;
			relay_init(&r);
			run(&r, x, step, most - step);
			assert_int_equal(r.err, 0);
			assert_int_equal(r.bad, 0);
			assert_slice(
			    buf_peek(&r.to_service), slice_from(x->asked));
			assert_slice(
			    buf_peek(&r.to_visitor), slice_from(x->answered));
			if (!r.raw) {
				assert_true(r.answered);
				assert_int_equal(
				    http1_server_closing(&r.visitor), x->close);
			}
			relay_fini(&r);
		}
	}
}

static void
run_or_not(void *arg)
{
	const struct exchange *x = arg;
	struct relay r;

	relay_init(&r);
	run(&r, x, 40, 50);
	if (r.err == 0 && r.bad == 0 && r.to_visitor.err == 0 &&
	    r.to_service.err == 0 && (r.answered || r.raw))
		assert_slice(buf_peek(&r.to_visitor), slice_from(x->answered));
	relay_fini(&r);
}

static void
test_no_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
		struct exchange x = exchanges[i];
		oom_torture(run_or_not, &x);
	}
}

/* Data of chunks, without the framing, which depends on the cutting. */
static void
put_unchunked(struct slice text, struct buf *out, struct buf *trailers)
{
	struct http1_body b = { .cap = UINT64_MAX };
	struct http1_head h = { .chunked = true };
	struct slice data;

	assert_int_equal(http1_body_request(&b, &h, UINT64_MAX), 0);
	b.keep = trailers;
	while (!b.done) {
		int n = http1_body_feed(&b, text, &data);
		assert_true(n > 0);
		buf_put(out, data);
		text = slice_from_at(text, (size_t)n);
	}
	assert_int_equal(text.len, 0);
}

static void
check_chunked(
    struct slice text, const char *head, const char *data, const char *trailers)
{
	struct buf out, tail;

	buf_init(&out, 1 << 20);
	buf_init(&tail, 1 << 20);
	assert_slice(slice_first(text, strlen(head)), slice_from(head));
	put_unchunked(slice_from_at(text, strlen(head)), &out, &tail);
	assert_slice(buf_peek(&out), slice_from(data));
	assert_slice(buf_peek(&tail), slice_from(trailers));
	buf_fini(&out);
	buf_fini(&tail);
}

/* Both at once, chunked, with trailers; what may not trail is left out. */
static void
test_trailers(void **state)
{
	static const char request[] =
	    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
	    "Trailer: A\r\n\r\n4\r\nabcd\r\n3;x=y\r\nefg\r\n0\r\n"
	    "A: b \r\nHost: evil\r\nX-Forwarded-For: 1\r\nX_Y: z\r\n"
	    "Checksum: 1,2\r\n\r\n";
	static const char response[] =
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "2\r\nhi\r\n0\r\nSet-Cookie: a=b\r\nGrpc-Status:0\r\n\r\n";

	(void)state;
	for (size_t step = 1; step < sizeof(request); step++) {
		struct relay r;
		relay_init(&r);
		relay_visitor(&r, slice_from(request), step);
		relay_service(&r, slice_from(response), step);
		assert_int_equal(r.err, 0);
		assert_int_equal(r.bad, 0);
		check_chunked(buf_peek(&r.to_service),
		    "POST / HTTP/1.1\r\nHost: h\r\n" ADDED
		    "Transfer-Encoding: chunked\r\n\r\n",
		    "abcdefg", "A: b\r\nChecksum: 1,2\r\n");
		check_chunked(buf_peek(&r.to_visitor),
		    "HTTP/1.1 200 OK\r\n" DATE
		    "Transfer-Encoding: chunked\r\n\r\n",
		    "hi", "Grpc-Status: 0\r\n");
		/* Nothing is kept of them. */
		assert_true(http1_server_idle(&r.visitor));
		assert_true(http1_client_reusable(&r.service));
		relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 99);
		assert_null(r.visitor.input.trailers.mem);
		assert_null(r.service.input.trailers.mem);
		relay_fini(&r);
	}
}

/* A body of until-close comes to its end with the connection alone. */
static void
test_until_close(void **state)
{
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 99);
	relay_service(&r, SL("HTTP/1.1 200 OK\r\n\r\nhello"), 99);
	assert_true(
	    slice_ends(buf_peek(&r.to_visitor), SL("\r\n\r\n5\r\nhello\r\n")));
	assert_false(r.answered);
	relay_service_eof(&r);
	assert_true(r.answered);
	assert_true(slice_ends(buf_peek(&r.to_visitor), SL("\r\n0\r\n\r\n")));
	assert_false(http1_client_reusable(&r.service));
	assert_true(http1_server_idle(&r.visitor));
	relay_fini(&r);
}

/* 100 (Continue) is the service's to say, and only then does the body come. */
static void
test_continue(void **state)
{
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r,
	    SL("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
	       "Content-Length: 5\r\n\r\n"),
	    99);
	relay_service(&r, SL("HTTP/1.1 100 Continue\r\n\r\n"), 99);
	assert_slice(
	    buf_peek(&r.to_visitor), SL("HTTP/1.1 100 Continue\r\n\r\n"));
	relay_visitor(&r, SL("hello"), 2);
	relay_service(
	    &r, SL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 9);
	assert_true(slice_ends(buf_peek(&r.to_service), SL("\r\n\r\nhello")));
	assert_true(slice_ends(
	    buf_peek(&r.to_visitor), SL(DATE "Content-Length: 0\r\n\r\n")));
	assert_true(http1_server_idle(&r.visitor));
	assert_true(http1_client_reusable(&r.service));
	relay_fini(&r);
}

/* The answer begins, goes on and ends while the body is still coming. */
static void
test_both_at_once(void **state)
{
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r,
	    SL("POST / HTTP/1.1\r\nHost: h\r\n"
	       "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"),
	    99);
	relay_service(&r,
	    SL("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "3\r\nONE\r\n"),
	    99);
	buf_clear(&r.to_service);
	buf_clear(&r.to_visitor);
	relay_visitor(&r, SL("3\r\ntwo\r\n"), 99);
	assert_slice(buf_peek(&r.to_service), SL("3\r\ntwo\r\n"));
	relay_service(&r, SL("3\r\nTWO\r\n"), 99);
	assert_slice(buf_peek(&r.to_visitor), SL("3\r\nTWO\r\n"));
	/* The service has said all; the rest of the body goes nowhere. */
	relay_service(&r, SL("0\r\n\r\n"), 99);
	assert_true(r.answered);
	assert_false(http1_client_reusable(&r.service));
	buf_clear(&r.to_service);
	relay_visitor(&r,
	    SL("5\r\nthree\r\n0\r\nA: b\r\n\r\n"
	       "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"),
	    99);
	assert_int_equal(r.err, ERR_WRONG_STATE); /* of the spent client */
	assert_int_equal(buf_peek(&r.to_service).len, 0);
	relay_fini(&r);
}

/* A body that breaks while the answer is on its way: no second answer. */
static void
test_bad_body(void **state)
{
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r,
	    SL("POST / HTTP/1.1\r\nHost: h\r\n"
	       "Transfer-Encoding: chunked\r\n\r\n"),
	    99);
	relay_service(
	    &r, SL("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), 99);
	relay_visitor(&r, SL("x"), 99);
	assert_int_equal(r.bad, 400);
	assert_false(http1_server_may_answer(&r.visitor));
	http1_server_abort(&r.visitor, 0);
	assert_true(http1_server_closing(&r.visitor));
	relay_fini(&r);
}

/* More than any cap in one body, and the machines keep nothing of it. */
static void
test_no_cap(void **state)
{
	static uint8_t piece[65536];
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r,
	    SL("POST / HTTP/1.1\r\nHost: h\r\n"
	       "Content-Length: 9223372036854775807\r\n\r\n"),
	    999);
	relay_service(&r,
	    SL("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807"
	       "\r\n\r\n"),
	    999);
	for (int i = 0; i < 1000; i++) {
		relay_visitor(
		    &r, (struct slice){ piece, sizeof(piece) }, SIZE_MAX);
		relay_service(
		    &r, (struct slice){ piece, sizeof(piece) }, SIZE_MAX);
		buf_clear(&r.to_service);
		buf_clear(&r.to_visitor);
	}
	assert_int_equal(r.err, 0);
	assert_int_equal(r.bad, 0);
	assert_null(r.visitor.input.held.mem);
	assert_null(r.service.input.held.mem);
	assert_true(
	    r.service.sender.left == (uint64_t)INT64_MAX - 1000 * 65536);
	relay_fini(&r);
}

/* What is sent before the 101: kept up to a point; beyond it, an error. */
static void
test_early_bytes(void **state)
{
	static const char request[] =
	    "GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
	    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: " KEY "\r\n\r\n";
	static const char response[] =
	    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n"
	    "Connection: upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
	static uint8_t piece[HTTP1_AHEAD_BYTES + 1], flood[400000];
	struct relay r;

	(void)state;
	memset(piece, 'x', sizeof(piece));
	relay_init(&r);
	relay_visitor(&r, slice_from(request), 1000);
	assert_int_equal(http1_server_room(&r.visitor), HTTP1_AHEAD_BYTES);
	relay_visitor(&r, (struct slice){ piece, 1000 }, 1000);
	assert_int_equal(
	    http1_server_room(&r.visitor), HTTP1_AHEAD_BYTES - 1000);
	relay_visitor(
	    &r, (struct slice){ piece, HTTP1_AHEAD_BYTES - 1000 }, SIZE_MAX);
	assert_int_equal(http1_server_room(&r.visitor), 0);
	buf_clear(&r.to_service);
	/* The service floods right behind its answer, in a second read. */
	memcpy(flood, response, sizeof(response) - 1);
	relay_service(&r, (struct slice){ flood, 5 }, 5);
	relay_service(
	    &r, (struct slice){ flood + 5, sizeof(flood) - 5 }, SIZE_MAX);
	assert_int_equal(r.err, 0);
	assert_true(r.raw);
	assert_slice(buf_peek(&r.to_service),
	    ((struct slice){ piece, HTTP1_AHEAD_BYTES }));
	assert_true(buf_peek(&r.to_visitor).len > 399000);
	assert_slice(slice_from_at(buf_peek(&r.to_visitor),
			 buf_peek(&r.to_visitor).len - 10),
	    ((struct slice){ flood + sizeof(flood) - 10, 10 }));
	relay_fini(&r);

	relay_init(&r);
	relay_visitor(&r, slice_from(request), 1000);
	relay_visitor(
	    &r, (struct slice){ piece, sizeof(piece) }, sizeof(piece));
	assert_int_equal(http1_server_room(&r.visitor), 0);
	relay_service(&r, slice_from(response), 1000);
	assert_int_equal(r.err, ERR_FULL);
	assert_true(http1_server_may_answer(&r.visitor));
	relay_fini(&r);
}

/* 101 only for who asked, and for what was asked. */
static void
test_wrong_switch(void **state)
{
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 99);
	relay_service(&r, SL("HTTP/1.1 101 Go\r\nUpgrade: h2c\r\n\r\n"), 99);
	assert_int_equal(r.bad, 502);
	assert_int_equal(buf_peek(&r.to_visitor).len, 0);
	relay_fini(&r);

	relay_init(&r);
	relay_visitor(&r,
	    SL("GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
	       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	       "Sec-WebSocket-Key: " KEY "\r\n\r\n"),
	    99);
	relay_service(&r,
	    SL("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n"
	       "Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
	    99);
	assert_int_equal(r.err, ERR_PROTOCOL);
	assert_int_equal(buf_peek(&r.to_visitor).len, 0);
	assert_true(http1_server_may_answer(&r.visitor));
	relay_fini(&r);
}

/* Trailers in all: as much as a head, and 128 of them. */
static void
test_trailer_limits(void **state)
{
	static const char start[] =
	    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
	    "\r\n0\r\n";
	static char big[HTTP1_HEAD_BYTES];
	struct relay r;

	(void)state;
	memset(big, 'a', sizeof(big));
	memcpy(big, "A: ", 3);
	/* With CRLF and CRLF just what is allowed. */
	relay_init(&r);
	relay_visitor(&r, slice_from(start), 99);
	relay_visitor(
	    &r, (struct slice){ (uint8_t *)big, sizeof(big) - 5 }, 5000);
	relay_visitor(&r, SL("\r\n\r\n"), 1);
	assert_int_equal(r.bad, 0);
	assert_true(buf_peek(&r.to_service).len > sizeof(big) - 5);
	relay_fini(&r);

	relay_init(&r);
	relay_visitor(&r, slice_from(start), 99);
	relay_visitor(
	    &r, (struct slice){ (uint8_t *)big, sizeof(big) - 4 }, 5000);
	relay_visitor(&r, SL("\r\n\r\n"), 1);
	assert_int_equal(r.bad, 431);
	relay_fini(&r);

	relay_init(&r);
	relay_visitor(&r, slice_from(start), 99);
	for (int i = 0; i <= HTTP1_FIELDS; i++)
		relay_visitor(&r, SL("A:b\r\n"), 99);
	relay_visitor(&r, SL("\r\n"), 99);
	assert_int_equal(r.bad, 431);
	relay_fini(&r);

	/* The service's, and what would change the framing. */
	relay_init(&r);
	relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 99);
	relay_service(&r,
	    SL("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
	       "Content-Length: 5\r\n\r\n"),
	    99);
	assert_int_equal(r.bad, 502);
	relay_fini(&r);
}

/* Time stands still while nobody receives, and may be another's. */
static void
test_times(void **state)
{
	static const struct http1_times slow = {
		.head = 1, .body = 3600000, .idle = 2, .linger = 3
	};
	struct relay r;

	(void)state;
	relay_init(&r);
	relay_visitor(&r,
	    SL("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"), 99);
	assert_int_equal(http1_server_deadline(&r.visitor), 30000);
	http1_server_hold(&r.visitor, true, 100);
	assert_int_equal(http1_server_deadline(&r.visitor), INT64_MAX);
	http1_server_hold(&r.visitor, false, 200);
	assert_int_equal(http1_server_deadline(&r.visitor), 30200);
	http1_server_pace(&r.visitor, &slow, 300);
	assert_int_equal(http1_server_deadline(&r.visitor), 3600300);
	relay_visitor(&r, SL("123456789"), 99);
	assert_int_equal(http1_server_deadline(&r.visitor), INT64_MAX);
	http1_server_hold(&r.visitor, false, 400);
	assert_int_equal(http1_server_deadline(&r.visitor), INT64_MAX);
	relay_fini(&r);
}

/* Data that is sent from where it lies is framed as data that is copied. */
static void
test_wrap(void **state)
{
	static const enum http1_send hows[] = { HTTP1_SEND_NONE,
		HTTP1_SEND_SIZED, HTTP1_SEND_CHUNKED, HTTP1_SEND_CLOSE };

	(void)state;
	for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
		struct http1_sender a = { hows[i], 5 }, b = { hows[i], 5 };
		struct http1_wrap w;
		struct buf copied, around;
		buf_init(&copied, 100);
		buf_init(&around, 100);
		assert_int_equal(http1_send_data(&a, &copied, SL("hello")), 0);
		assert_int_equal(http1_send_wrap(&b, 5, &w), 0);
		buf_put(&around, (struct slice){ w.head, w.head_len });
		if (!w.skip)
			buf_put(&around, SL("hello"));
		buf_put(&around, slice_first(SL("\r\n"), w.tail_len));
		assert_slice(buf_peek(&around), buf_peek(&copied));
		assert_int_equal(a.left, b.left);
		assert_int_equal(http1_send_wrap(&b, 1, &w),
		    hows[i] == HTTP1_SEND_SIZED ? ERR_RANGE : 0);
		buf_fini(&copied);
		buf_fini(&around);
	}
}

static void
test_interim_refused(void **state)
{
	struct http1_pair pair = { SL("Connection"), SL("x") };
	struct http1_reply reply = {
		.status = 103, .fields = &pair, .count = 1
	};
	struct slice rest;
	struct relay r;

	(void)state;
	relay_init(&r);
	assert_int_equal(
	    http1_server_interim(&r.visitor, &reply, &r.to_visitor),
	    ERR_WRONG_STATE);
	relay_visitor(&r, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 99);
	assert_int_equal(
	    http1_server_interim(&r.visitor, &reply, &r.to_visitor),
	    ERR_INVALID);
	reply.count = 0;
	reply.status = 101;
	assert_int_equal(
	    http1_server_interim(&r.visitor, &reply, &r.to_visitor),
	    ERR_WRONG_STATE);
	reply.status = 200;
	assert_int_equal(
	    http1_server_interim(&r.visitor, &reply, &r.to_visitor),
	    ERR_WRONG_STATE);
	assert_int_equal(
	    http1_server_switch(&r.visitor, &reply, &r.to_visitor, &rest),
	    ERR_WRONG_STATE);
	reply.reason = SL("a\nb");
	reply.relayed = true;
	assert_int_equal(
	    http1_server_start(&r.visitor, &reply, &r.to_visitor), ERR_INVALID);
	/* Nothing has been said yet, so something else still may. */
	buf_clear(&r.to_visitor);
	assert_true(http1_server_may_answer(&r.visitor));
	reply.reason = SL("Fine");
	assert_int_equal(
	    http1_server_start(&r.visitor, &reply, &r.to_visitor), 0);
	relay_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchanges),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_trailers),
		cmocka_unit_test(test_until_close),
		cmocka_unit_test(test_continue),
		cmocka_unit_test(test_both_at_once),
		cmocka_unit_test(test_bad_body),
		cmocka_unit_test(test_no_cap),
		cmocka_unit_test(test_early_bytes),
		cmocka_unit_test(test_wrong_switch),
		cmocka_unit_test(test_trailer_limits),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_interim_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
