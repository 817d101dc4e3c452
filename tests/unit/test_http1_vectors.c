/*
 * Public suites of hostile and odd HTTP connections.  Each is run through the
 * server's or client's machine whole, byte by byte and in two pieces cut at
 * every position, and judged as run-http.py judges a server.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/http1_client.h"
#include "wire/http1_server.h"
#include "wire/http1_wsopen.h"

#include "support/http_vectors.h"
#include "support/unit.h"

enum { ANSWERS = 1024, SPLIT_BYTES = 2048 };

/* What came of one connection. */
struct outcome {
	int status[ANSWERS];
	int count;
	bool closed;
	bool bad;
	int complete;
};

/* A small server on the machine: what it would answer to each request. */
struct pipeline {
	struct http1_server server;
	struct http1_head scratch;
	struct outcome *out;
	struct buf wire;
	int verdict; /* of the request at hand */
};

static int
judge_upgrade(const struct http1_head *h)
{
	struct wsopen_request r;
	struct wsopen_verdict verdict;
	struct arena a;
	int status = 101;

	arena_init(&a, 1 << 16);
	assert_int_equal(http1_wsopen_request(h, &a, &r), 0);
	if (wsopen_check_request(&r, &verdict) != 0)
		status = verdict.status;
	arena_fini(&a);
	return status;
}

static int
route(const struct http1_head *h)
{
	static const char *const methods[] = { "GET", "HEAD", "POST",
		"OPTIONS" };

	if (slice_eq(h->path, SL("/WSPATH")))
		return judge_upgrade(h);
	if (h->form == HTTP1_ASTERISK)
		return 405;
	if (h->path.ptr != NULL && url_path_check(h->path) != 0)
		return 400;
	for (size_t i = 0; i < 4; i++) {
		if (slice_eq(h->method, slice_from(methods[i])))
			return 200;
	}
	return 405;
}

static void
answer(struct pipeline *p, int status)
{
	struct http1_reply r = { .status = status, .type = "text/plain" };
	struct slice rest;

	assert_true(p->out->count < ANSWERS);
	p->out->status[p->out->count++] = status;
	if (status == 101) {
		assert_int_equal(http1_server_upgrade(&p->server, &rest), 0);
		return;
	}
	/* A path that our routes refuse is an answer like another, but what
	 * wsopen refuses is, as the machine's own refusals, the last. */
	r.close = status == 400 || status == 426;
	assert_int_equal(
	    http1_server_answer(&p->server, &r, SL("body\n"), &p->wire), 0);
}

static void
feed(struct pipeline *p, struct slice bytes)
{
	struct http1_event ev;

	http1_server_feed(&p->server, bytes, 0);
	while (http1_server_next(&p->server, &p->scratch, &ev)) {
		if (ev.kind == HTTP1_REQUEST) {
			p->verdict = route(ev.head);
			http1_server_continue(&p->server, &p->wire);
		} else if (ev.kind == HTTP1_END) {
			answer(p, p->verdict);
		} else if (ev.kind == HTTP1_BAD) {
			assert_true(ev.status >= 400);
			assert_non_null(ev.why);
			answer(p, ev.status);
		}
	}
}

/* In pieces: the first of first bytes, the others of step bytes. */
static void
serve(const struct vector *v, size_t first, size_t step, struct outcome *out)
{
	struct slice rest = { v->bytes, v->len };
	struct pipeline p = { .out = out };

	memset(out, 0, sizeof(*out));
	buf_init(&p.wire, 1 << 20);
	http1_server_init(&p.server, &http1_times_default, 1 << 20, 0);
	for (size_t n = first; rest.len > 0; n = step) {
		/* Its own allocation, so that nothing is read behind it. */
		struct slice piece = slice_first(rest, n);
		uint8_t *copy = malloc(piece.len);
		memcpy(copy, piece.ptr, piece.len);
		feed(&p, (struct slice){ copy, piece.len });
		free(copy);
		rest = slice_from_at(rest, n);
	}
	out->closed = http1_server_closing(&p.server);
	assert_int_equal(p.wire.err, 0);
	http1_server_fini(&p.server);
	buf_fini(&p.wire);
}

static void
ask(struct http1_client *c)
{
	struct http1_ask a = {
		.method = SL("GET"), .target = SL("/"), .host = SL("a")
	};
	struct buf out;

	buf_init(&out, 1000);
	if (http1_client_ask(c, &a, &out) == 0)
		assert_int_equal(http1_client_finish(c, &out), 0);
	buf_fini(&out);
}

static void
receive(const struct vector *v, size_t first, size_t step, struct outcome *out)
{
	struct slice rest = { v->bytes, v->len };
	static struct http1_head scratch;
	struct http1_client c;
	struct http1_event ev;

	memset(out, 0, sizeof(*out));
	http1_client_init(&c, 1 << 20);
	ask(&c);
	for (size_t n = first; rest.len > 0; n = step) {
		struct slice piece = slice_first(rest, n);
		uint8_t *copy = malloc(piece.len);
		memcpy(copy, piece.ptr, piece.len);
		http1_client_feed(&c, (struct slice){ copy, piece.len });
		while (http1_client_next(&c, &scratch, &ev)) {
			out->bad = out->bad || ev.kind == HTTP1_BAD;
			if (ev.kind == HTTP1_END) {
				out->complete++;
				ask(&c);
			}
		}
		free(copy);
		rest = slice_from_at(rest, n);
	}
	http1_client_fini(&c);
}

static bool
among(const struct vector *v, int status)
{
	for (int i = 0; i < v->statuses; i++) {
		if (status >= v->status[i][0] && status <= v->status[i][1])
			return true;
	}
	return false;
}

static bool
status_in(int status, const int *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == status)
			return true;
	}
	return false;
}

/* The first answer is a refusal that nothing follows on. */
static bool
rejected(const struct outcome *o)
{
	static const int open[] = { 404, 405, 426 };

	if (o->count == 0)
		return o->closed;
	if (o->status[0] < 400)
		return false;
	return o->closed || (o->count == 1 && status_in(o->status[0], open, 3));
}

static bool
accepted(const struct outcome *o)
{
	static const int also[] = { 401, 403, 404, 405, 413, 421, 501, 502,
		503 };

	return o->count > 0 &&
	    (o->status[0] < 400 || status_in(o->status[0], also, 9));
}

static bool
right(const struct vector *v, const struct outcome *o)
{
	if (strcmp(v->expect, "either") == 0)
		return v->statuses == 0 || o->count == 0 ||
		    among(v, o->status[0]);
	if (strcmp(v->expect, "reject") == 0)
		return rejected(o);
	if (strcmp(v->expect, "accept") == 0)
		return accepted(o);
	if (strcmp(v->expect, "wait") == 0)
		return o->count == 0 || o->status[0] == 400;
	assert_string_equal(v->expect, "upgrade");
	return o->count > 0 && o->status[0] == 101;
}

/* Upstream answers: a gateway must see through the bad, not choke on the
 * good, and not take an unfinished one for whole. */
static bool
right_response(const struct vector *v, const struct outcome *o)
{
	if (strcmp(v->expect, "reject") == 0)
		return o->bad;
	if (strcmp(v->expect, "accept") == 0)
		return !o->bad;
	return o->complete == 0;
}

static bool
same(const struct outcome *a, const struct outcome *b)
{
	return a->count == b->count && a->closed == b->closed &&
	    a->bad == b->bad && a->complete == b->complete &&
	    memcmp(a->status, b->status, sizeof(int) * (size_t)a->count) == 0;
}

typedef void serve_fn(
    const struct vector *v, size_t first, size_t step, struct outcome *out);

enum cut { CUT_SAME, CUT_LATE, CUT_OTHER };

/* LATE: a request was answered before the byte was there that would have
 * made it a bad one; nothing but time can tell these two. */
static enum cut
compare(const struct outcome *piece, const struct outcome *whole)
{
	if (same(piece, whole))
		return CUT_SAME;
	if (whole->count == 1 && whole->status[0] == 400 && piece->count == 2 &&
	    piece->status[1] == 400 && piece->closed)
		return CUT_LATE;
	return CUT_OTHER;
}

/* What all ways to cut the bytes come to, the worst counting. */
static enum cut
cut_everywhere(
    const struct vector *v, serve_fn *go, const struct outcome *whole)
{
	static struct outcome o;
	enum cut worst;

	go(v, 1, 1, &o);
	worst = compare(&o, whole);
	for (size_t at = 1; at < v->len && at <= SPLIT_BYTES; at++) {
		enum cut cut;
		go(v, at, v->len, &o);
		cut = compare(&o, whole);
		worst = cut > worst ? cut : worst;
	}
	return worst;
}

static bool
check(struct vector *v, int *late)
{
	bool upstream = strcmp(v->side, "resp") == 0;
	serve_fn *go = upstream ? receive : serve;
	static struct outcome o;
	bool ok = true;
	enum cut cut;

	go(v, v->len, v->len, &o);
	if (!(upstream ? right_response(v, &o) : right(v, &o))) {
		print_error("wrong: %s expects %s, got %d answers, first %d,"
			    " %s%s\n",
		    v->id, v->expect, o.count, o.status[0],
		    o.closed ? "closed" : "open", o.bad ? ", bad" : "");
		ok = false;
	}
	cut = cut_everywhere(v, go, &o);
	*late += cut == CUT_LATE;
	if (cut == CUT_OTHER) {
		print_error("unstable: %s\n", v->id);
		ok = false;
	}
	return ok;
}

struct tally {
	int wrong, late;
};

static void
judge(struct vector *v, void *arg)
{
	struct tally *t = arg;

	t->wrong += !check(v, &t->late);
}

static void
test_vectors(void **state)
{
	struct tally t = { 0 };
	int total;

	(void)state;
	total = http_vectors_each(judge, &t);
	print_message("%d vectors, %d judged wrong\n", total, t.wrong);
	assert_true(total > 1900);
	assert_int_equal(t.wrong, 0);
	/* garden, server 3: NUL behind a complete request. */
	assert_int_equal(t.late, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
	};
	int failed;

	if (!http_vectors_open())
		return 0;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	http_vectors_close();
	return failed;
}
