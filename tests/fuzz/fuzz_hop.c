/*
 * One message through a gateway: what is written for the next hop is read
 * again by our own strict parser, and must be exactly one message, with the
 * same content, framed as was meant; without fields of the last hop and
 * without cookies of Muster's.
 *
 * The first byte says what kind of hop it is, the second the size of the
 * pieces that the rest comes in: a request, or the answers to one.
 */
#include <stdlib.h>

#include "base/err.h"
#include "wire/hop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	KIND_RESPONSE = 1,
	KIND_UPGRADE = 2,
	KIND_PREFIX = 4,
	KIND_OWN_ORIGIN = 8,
	KIND_TRUSTED = 16,
	KIND_RULES = 32,
	KIND_HEAD = 64, /* the request of a response is HEAD */
	KIND_OLD = 128, /* ... by HTTP/1.0 */
};

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

static void
check(bool holds)
{
	if (!holds)
		abort();
}

/* What both readings of a message have in common. */
struct reading {
	struct buf content;
	size_t interims;
	int status;
	bool ended;
	bool bad;
};

static void
reading_init(struct reading *r)
{
	*r = (struct reading){ 0 };
	buf_init(&r->content, 1 << 20);
}

static struct hop
make_hop(uint8_t kind)
{
	static const struct slice cookies[] = { SL_INIT("muster") };
	static const struct hop_rule rules[] = {
		{ HOP_SET, SL_INIT("X-Set"), SL_INIT("v") },
		{ HOP_REMOVE, SL_INIT("User-Agent"), { NULL, 0 } },
		{ HOP_ADD, SL_INIT("Connection"), SL_INIT("close") },
	};
	struct hop hop = { .peer = SL("2001:db8::1"),
		.client = SL("192.0.2.1"),
		.tls = (kind & KIND_TRUSTED) != 0,
		.trusted = (kind & KIND_TRUSTED) != 0,
		.own_origin = (kind & KIND_OWN_ORIGIN) != 0,
		.upgrade = (kind & KIND_UPGRADE) != 0,
		.drop_authorization = (kind & KIND_OWN_ORIGIN) != 0,
		.request_id = SL("req"),
		.cookies = cookies,
		.cookie_count = 1 };

	if ((kind & KIND_PREFIX) != 0)
		hop.prefix = SL("/p");
	if ((kind & KIND_RULES) != 0) {
		hop.to_service = hop.to_visitor = rules;
		hop.to_service_count = hop.to_visitor_count = 3;
	}
	return hop;
}

/* Fields of the last hop, and what the next must have once. */
static void
judge_fields(const struct http1_head *h, const struct hop *hop)
{
	check(h->count <= HTTP1_FIELDS);
	for (size_t i = 0; i < h->count; i++) {
		struct slice name = http1_name_at(h, i);
		struct slice value = http1_value_at(h, i);
		if (!http1_ends_here(name))
			continue;
		if (slice_eq_nocase(name, SL("connection")))
			check(slice_eq(value, SL("Upgrade")) ||
			    slice_eq(value, SL("close")) ||
			    slice_eq(value, SL("keep-alive")));
		else if (slice_eq_nocase(name, SL("upgrade")))
			check(hop->upgrade && slice_eq(value, SL("websocket")));
		else
			check(slice_eq(name, SL("Transfer-Encoding")) &&
			    slice_eq(value, SL("chunked")));
	}
	check(http1_count(h, "connection") <= 1);
	check(http1_count(h, "upgrade") <= 1);
	check(http1_count(h, "content-length") +
		http1_count(h, "transfer-encoding") <=
	    1);
}

static bool
is_ours(struct slice cookie)
{
	return slice_eq_nocase(
	    slice_first(slice_trim(cookie), 6), SL("muster"));
}

static void
judge_request(const struct http1_head *h, const struct hop *hop)
{
	static const char *const once[] = { "host", "x-forwarded-for",
		"x-forwarded-proto", "x-forwarded-host", "forwarded",
		"x-request-id", "traceparent" };
	struct slice value, pair;
	size_t pos = 0;

	judge_fields(h, hop);
	for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
		check(http1_count(h, once[i]) == 1);
	check(slice_eq(http1_field(h, "x-request-id"), SL("req")));
	check(slice_ends(http1_field(h, "x-forwarded-for"), SL("2001:db8::1")));
	check(http1_count(h, "x_forwarded_for") == 0);
	check(!hop->drop_authorization || http1_count(h, "authorization") == 0);
	check(h->form == HTTP1_ORIGIN || h->form == HTTP1_ASTERISK);
	while (http1_next_value(h, "cookie", &pos, &value)) {
		while (slice_split(&value, ';', &pair))
			check(!is_ours(pair));
	}
}

static void
judge_response(const struct http1_head *h, const struct hop *hop)
{
	static const char *const never[] = { "service-worker-allowed",
		"clear-site-data", "strict-transport-security", "report-to",
		"nel" };
	struct slice value;
	size_t pos = 0;

	judge_fields(h, hop);
	for (size_t i = 0;
	     hop->own_origin && i < sizeof(never) / sizeof(never[0]); i++)
		check(http1_count(h, never[i]) == 0);
	while (http1_next_value(h, "set-cookie", &pos, &value)) {
		check(!is_ours(value));
		check(hop->prefix.len > 0 || !hop->own_origin);
		if (hop->prefix.len == 0)
			continue;
		const uint8_t *at =
		    memmem(value.ptr, value.len, "; Path=/p", 9);
		check(at != NULL);
	}
	check(!hop->own_origin || h->status < 200 ||
	    http1_count(h, "content-security-policy") > 0);
}

/* Requests ---------------------------------------------------------------- */

/* The next hop's view of what was written. */
static void
reread_request(
    struct slice text, const struct hop *hop, const struct reading *first)
{
	static struct http1_head scratch;
	struct reading second;
	struct http1_server s;
	struct http1_event ev;

	reading_init(&second);
	http1_server_init(&s, &http1_times_default, UINT64_MAX, 0);
	http1_server_feed(&s, text, 0);
	check(http1_server_next(&s, &scratch, &ev));
	check(ev.kind == HTTP1_REQUEST);
	judge_request(ev.head, hop);
	http1_server_trailers(&s);
	while (!second.ended && http1_server_next(&s, &scratch, &ev)) {
		check(ev.kind == HTTP1_BODY || ev.kind == HTTP1_END);
		buf_put(&second.content, ev.data);
		second.ended = ev.kind == HTTP1_END;
		for (size_t i = 0;
		     second.ended && ev.head != NULL && i < ev.head->count; i++)
			check(http1_may_trail(http1_name_at(ev.head, i)));
	}
	/* What is wrong may come behind a request without a body. */
	check(second.ended == first->ended || first->bad);
	check(slice_eq(buf_peek(&second.content), buf_peek(&first->content)));
	check(s.input.fed.len == 0 && s.input.held.mem == NULL);
	http1_server_fini(&s);
	buf_fini(&second.content);
}

struct passage {
	struct hop hop;
	struct http1_server visitor;
	struct http1_client service;
	struct arena arena;
	struct buf out;
	struct reading read;
	bool switched;
};

/* Too much for our own limits is nobody's mistake. */
static bool
fits(struct slice text)
{
	static struct http1_head h;
	int n;

	http1_head_init(&h);
	n = slice_starts(text, SL("HTTP/")) ? http1_parse_response(&h, text)
					    : http1_parse_request(&h, text);
	check(n > 0 || h.status == 431 || n == ERR_TOO_BIG);
	return n > 0;
}

static void
pass_trailers(struct passage *p, const struct http1_head *trailers,
    const struct http1_pair **fields, size_t *count)
{
	*fields = NULL;
	*count = 0;
	if (trailers != NULL)
		check(hop_trailers(
			  &p->hop, trailers, &p->arena, fields, count) == 0);
}

static void
pass_event(struct passage *p, const struct http1_event *ev)
{
	const struct http1_pair *fields;
	struct http1_ask ask;
	size_t count;

	if (ev->kind == HTTP1_REQUEST) {
		http1_server_trailers(&p->visitor);
		p->read.bad =
		    hop_request(&p->hop, ev->head, &p->arena, &ask) != 0;
		if (!p->read.bad)
			check(
			    http1_client_ask(&p->service, &ask, &p->out) == 0);
		p->read.bad = p->read.bad || !fits(buf_peek(&p->out));
	} else if (ev->kind == HTTP1_BODY) {
		buf_put(&p->read.content, ev->data);
		check(http1_client_data(&p->service, ev->data, &p->out) == 0);
	} else if (ev->kind == HTTP1_END) {
		pass_trailers(p, ev->head, &fields, &count);
		check(http1_client_finish_with(
			  &p->service, fields, count, &p->out) == 0);
		p->read.ended = true;
	} else {
		p->read.bad = true;
	}
}

static void
pass_request(struct passage *p, struct slice in, size_t step)
{
	static struct http1_head scratch;
	struct http1_event ev;

	while (in.len > 0 && !p->read.bad && !p->read.ended) {
		http1_server_feed(&p->visitor, slice_first(in, step), 0);
		in = slice_from_at(in, step);
		while (!p->read.bad && !p->read.ended &&
		    http1_server_next(&p->visitor, &scratch, &ev))
			pass_event(p, &ev);
	}
	if (buf_peek(&p->out).len > 0 && fits(buf_peek(&p->out)))
		reread_request(buf_peek(&p->out), &p->hop, &p->read);
}

/* Responses --------------------------------------------------------------- */

static const char *
request_of(uint8_t kind)
{
	if ((kind & KIND_UPGRADE) != 0)
		return "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
		       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		       "Sec-WebSocket-Key: " KEY "\r\n\r\n";
	if ((kind & KIND_OLD) != 0)
		return (kind & KIND_HEAD) != 0
		    ? "HEAD / HTTP/1.0\r\nHost: h\r\n\r\n"
		    : "GET / HTTP/1.0\r\nHost: h\r\n"
		      "Connection: keep-alive\r\n\r\n";
	return (kind & KIND_HEAD) != 0 ? "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
				       : "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
}

static void
ask(struct http1_client *c, uint8_t kind)
{
	struct http1_ask a = { .method = SL("GET"),
		.target = SL("/"),
		.host = SL("h"),
		.upgrade = (kind & KIND_UPGRADE) != 0 };
	struct buf out;

	if ((kind & KIND_HEAD) != 0 && !a.upgrade)
		a.method = SL("HEAD");
	buf_init(&out, 1000);
	check(http1_client_ask(c, &a, &out) == 0);
	check(http1_client_finish(c, &out) == 0);
	buf_fini(&out);
}

static void
reread_response(struct slice text, const struct hop *hop, uint8_t kind,
    const struct reading *first)
{
	static struct http1_head scratch;
	struct reading second;
	struct http1_client c;
	struct http1_event ev;

	reading_init(&second);
	http1_client_init(&c, UINT64_MAX);
	ask(&c, kind);
	http1_client_feed(&c, text);
	if (first->ended)
		http1_client_eof(&c);
	while (!second.ended && http1_client_next(&c, &scratch, &ev)) {
		check(ev.kind != HTTP1_BAD || !first->ended);
		if (ev.kind == HTTP1_BAD)
			break;
		if (ev.kind == HTTP1_RESPONSE) {
			judge_response(ev.head, hop);
			second.interims += ev.status < 200;
			second.status = ev.status;
		}
		buf_put(&second.content, ev.data);
		second.ended = ev.kind == HTTP1_END;
	}
	check(second.status == first->status);
	check(second.interims == first->interims);
	check(slice_eq(buf_peek(&second.content), buf_peek(&first->content)));
	check(second.ended == first->ended);
	check(c.input.fed.len == 0 && c.input.held.mem == NULL);
	http1_client_fini(&c);
	buf_fini(&second.content);
}

static void
pass_head(struct passage *p, const struct http1_head *h)
{
	size_t before = buf_peek(&p->out).len;
	struct http1_reply reply;
	struct slice rest;
	int err;

	check(hop_response(&p->hop, h, &p->arena, &reply) == 0);
	if (reply.status == 101)
		err = http1_server_switch(&p->visitor, &reply, &p->out, &rest);
	else if (reply.status < 200)
		err = http1_server_interim(&p->visitor, &reply, &p->out);
	else
		err = http1_server_start(&p->visitor, &reply, &p->out);
	check(err == 0);
	http1_client_trailers(&p->service);
	if (buf_peek(&p->out).len == before)
		return;
	p->read.bad = !fits(slice_from_at(buf_peek(&p->out), before));
	p->read.status = reply.status;
	p->read.interims += reply.status < 200;
	p->switched = reply.status == 101;
}

static void
pass_answer(struct passage *p, const struct http1_event *ev)
{
	const struct http1_pair *fields;
	size_t count;

	if (ev->kind == HTTP1_RESPONSE) {
		pass_head(p, ev->head);
	} else if (ev->kind == HTTP1_BODY) {
		buf_put(&p->read.content, ev->data);
		check(http1_server_data(&p->visitor, ev->data, &p->out) == 0);
	} else if (ev->kind == HTTP1_END) {
		pass_trailers(p, ev->head, &fields, &count);
		check(http1_server_finish_with(
			  &p->visitor, fields, count, &p->out, 0) == 0);
		p->read.ended = true;
	} else {
		p->read.bad = true;
	}
}

static void
pass_response(struct passage *p, struct slice in, size_t step, uint8_t kind)
{
	static struct http1_head scratch;
	struct http1_event ev;

	http1_server_feed(&p->visitor, slice_from(request_of(kind)), 0);
	while (http1_server_next(&p->visitor, &scratch, &ev))
		check(ev.kind == HTTP1_REQUEST || ev.kind == HTTP1_END);
	ask(&p->service, kind);
	for (bool eof = false;
	     !eof && !p->read.bad && !p->read.ended && !p->switched;
	     in = slice_from_at(in, step)) {
		eof = in.len == 0;
		http1_client_feed(&p->service, slice_first(in, step));
		if (eof)
			http1_client_eof(&p->service);
		while (!p->read.bad && !p->read.ended &&
		    http1_client_next(&p->service, &scratch, &ev))
			pass_answer(p, &ev);
	}
	if (!p->read.bad)
		reread_response(buf_peek(&p->out), &p->hop, kind, &p->read);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct passage p;

	if (size < 3)
		return 0;
	struct slice in = { data + 2, size - 2 };
	size_t step = data[1] == 0 ? in.len : data[1];
	p = (struct passage){ .hop = make_hop(data[0]) };
	reading_init(&p.read);
	http1_server_init(&p.visitor, &http1_times_default, UINT64_MAX, 0);
	http1_client_init(&p.service, UINT64_MAX);
	arena_init(&p.arena, 1 << 22);
	buf_init(&p.out, 1 << 22);
	if ((data[0] & KIND_RESPONSE) != 0)
		pass_response(&p, in, step, data[0]);
	else
		pass_request(&p, in, step);
	http1_server_fini(&p.visitor);
	http1_client_fini(&p.service);
	arena_fini(&p.arena);
	buf_fini(&p.out);
	buf_fini(&p.read.content);
	return 0;
}
