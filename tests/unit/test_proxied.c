/*
 * Requests to services by JSON messages: tests/transcripts/proxy, and what a
 * transcript cannot show.
 *
 *   # why                       a remark
 *   @1500                       time moves on to that millisecond
 *   !ask ID METHOD PATH [word]  a request; words: head, stream, websocket=P,
 *                               body=TEXT, to=SERVICE.NAMESPACE:PORT,
 *                               field=NAME:VALUE, within=MS, idle=MS
 *   !chunk ID TEXT              more of its body; !end ID, !cancel ID
 *   !data ID OPCODE TEXT        a WebSocket message; !close ID, !hello
 *   !queue ID agent|visitor N   so many bytes wait for that side
 *   > TEXT                      a message of the agent
 *   >> ID STATUS HEADERS BODY   a binary one; BODY is TEXT, gzip:TEXT or
 *                               twice:TEXT (packed by both), COUNT*CHARACTER
 *   < TEXT                      what must come of it, in this order
 *
 * Texts are carried by real framing, cut in every way; every message, ours
 * and theirs, fits its schema in docs/protocol/schema/proxy.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#include "dialect/proxied.h"

#include "wire/be.h"
#include "wire/enc.h"
#include "wire/ws.h"

#include "support/framing.h"
#include "support/golden.h"
#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

#define SCHEMAS "docs/protocol/schema/proxy/"

enum { REQUESTS = 32, FIELDS = 8 };

static const wall_msec noon = 1760616000000;

struct request {
	char id[64];
	char protocols[64];
	struct proxied p;
};

static struct script {
	struct request requests[REQUESTS];
	size_t count;
	msec now;
	struct arena arena;
	struct buf out, body;
} s;

static struct slice
next_word(struct slice *rest)
{
	struct slice word = { 0 };

	*rest = slice_trim(*rest);
	slice_split(rest, ' ', &word);
	return word;
}

static uint64_t
number(struct slice word)
{
	uint64_t n = 0;

	assert_int_equal(slice_u64(word, UINT32_MAX, &n), 0);
	return n;
}

static struct request *
request_of(struct slice id)
{
	for (size_t i = 0; i < s.count; i++) {
		if (slice_eq(slice_from(s.requests[i].id), id))
			return &s.requests[i];
	}
	return NULL;
}

/* What comes out ---------------------------------------------------------- */

static void
came(const char *text)
{
	golden_came("", slice_from(text));
}

static void
put_fields(char *line, size_t room, const struct proxy_said *said)
{
	for (size_t i = 0; i < said->count; i++) {
		size_t at = strlen(line);
		snprintf(line + at, room - at, " %.*s=%.*s",
		    SLICE_FMT(said->fields[i].name),
		    SLICE_FMT(said->fields[i].value));
	}
}

static bool
plain(struct slice body)
{
	bool ok = body.len <= 200;

	for (size_t i = 0; ok && i < body.len; i++)
		ok = body.ptr[i] >= ' ' && body.ptr[i] < 127;
	return ok;
}

/* What is long or no text is counted. */
static void
put_body(char *line, size_t room, struct slice body)
{
	size_t at = strlen(line);

	if (!plain(body))
		snprintf(line + at, room - at, " %zu bytes", body.len);
	else
		snprintf(line + at, room - at, " %.*s", SLICE_FMT(body));
}

static void
show(const struct request *r, const struct proxied_event *ev)
{
	static const char *const names[] = {
		[PROXIED_HEAD] = "head",
		[PROXIED_BODY] = "body",
		[PROXIED_ENDED] = "ended",
		[PROXIED_UPGRADED] = "upgraded",
		[PROXIED_MESSAGE] = "message",
		[PROXIED_CLOSED] = "closed",
		[PROXIED_FAILED] = "failed",
	};
	char line[2048];

	snprintf(line, sizeof(line), "%s %s", r->id, names[ev->kind]);
	size_t at = strlen(line), room = sizeof(line) - at;
	switch (ev->kind) {
	case PROXIED_HEAD:
		snprintf(line + at, room, " %d length=%lld", ev->said->status,
		    (long long)ev->length);
		put_fields(line, sizeof(line), ev->said);
		break;
	case PROXIED_UPGRADED:
		put_fields(line, sizeof(line), ev->said);
		break;
	case PROXIED_MESSAGE:
		snprintf(line + at, room, " %u", ev->said->opcode);
		put_body(line, sizeof(line), ev->said->body);
		break;
	case PROXIED_BODY:
		put_body(line, sizeof(line), ev->said->body);
		break;
	case PROXIED_CLOSED:
		snprintf(line + at, room, " %u %.*s", ev->close,
		    SLICE_FMT(ev->text));
		break;
	case PROXIED_FAILED:
		snprintf(line + at, room, " %d %.*s close=%u %s: %.*s",
		    ev->status, SLICE_FMT(ev->code), ev->close,
		    err_name(ev->err), SLICE_FMT(ev->text));
		break;
	case PROXIED_ENDED:
		break;
	}
	came(line);
}

static void
show_all(struct request *r)
{
	struct proxied_event ev;

	while (proxied_next(&r->p, &ev))
		show(r, &ev);
}

static void
show_said(const struct proxy_said *said)
{
	char line[1024];
	struct request *r = request_of(said->id);

	if (said->kind == PROXY_HELLO_ACK)
		came(said->agreed ? "agreed" : "not agreed");
	else if (said->kind == PROXY_OTHER)
		came("other");
	if (said->kind == PROXY_HELLO_ACK || said->kind == PROXY_OTHER)
		return;
	if (said->kind == PROXY_FALLBACK) {
		snprintf(line, sizeof(line), "does not know %.*s",
		    SLICE_FMT(said->text));
		came(line);
	}
	bool was_held = r != NULL && r->p.held;
	msec was_until = r == NULL ? 0 : r->p.held_until;
	if (r == NULL || !proxied_feed(&r->p, said, s.now)) {
		came("passed over");
		return;
	}
	show_all(r);
	if (r->p.held && (!was_held || r->p.held_until != was_until)) {
		snprintf(line, sizeof(line), "%s held until %lld", r->id,
		    (long long)r->p.held_until);
		came(line);
	}
}

/* Ours ------------------------------------------------------------------- */

static void
sent(int err)
{
	char schema[128], type[64] = "";
	struct js_doc doc;
	struct js_limits limits = { 1 << 20, 16 };
	struct slice text = buf_peek(&s.out), word;

	assert_int_equal(err, 0);
	assert_int_equal(js_parse(&doc, text, &limits, &s.arena), 0);
	assert_null(doc.repeated.ptr);
	assert_int_equal(js_string(js_get(js_root(&doc), "type"), &word), 0);
	assert_int_equal(slice_cstr(word, type, sizeof(type)), 0);
	snprintf(schema, sizeof(schema), SCHEMAS "%s.json", type);
	golden_fits(schema, text);
	golden_came("", text);
	buf_clear(&s.out);
}

struct asked {
	struct proxy_ask ask;
	struct proxied_terms terms;
	struct http1_pair fields[FIELDS];
};

static bool
option(struct slice word, const char *name, struct slice *value)
{
	if (!slice_starts(word, slice_from(name)))
		return false;
	*value = slice_from_at(word, strlen(name));
	return true;
}

static void
add_field(struct asked *a, struct slice v)
{
	struct http1_pair *p = &a->fields[a->ask.count++];

	assert_true(a->ask.count <= FIELDS);
	slice_split(&v, ':', &p->name);
	p->value = v;
}

static void
target(struct proxy_ask *ask, struct slice v)
{
	struct slice port;

	slice_split(&v, '.', &ask->service);
	slice_split(&v, ':', &ask->namespace);
	port = v;
	ask->port = (uint16_t)number(port);
}

static void
read_option(struct asked *a, struct request *r, struct slice word)
{
	struct slice v;

	if (slice_eq(word, SL("head"))) {
		a->terms.head = true;
	} else if (slice_eq(word, SL("stream"))) {
		a->ask.body_streams = true;
	} else if (slice_eq(word, SL("whole"))) {
		a->ask.answer_streams = false;
	} else if (option(word, "websocket=", &v)) {
		a->ask.websocket = a->terms.websocket = true;
		assert_int_equal(
		    slice_cstr(v, r->protocols, sizeof(r->protocols)), 0);
		a->ask.protocol = a->terms.protocols = slice_from(r->protocols);
	} else if (option(word, "body=", &v)) {
		a->ask.body = v;
	} else if (option(word, "to=", &v)) {
		target(&a->ask, v);
	} else if (option(word, "within=", &v)) {
		a->ask.within = a->terms.answer_within = (msec)number(v);
	} else if (option(word, "idle=", &v)) {
		a->terms.idle_within = (msec)number(v);
	} else if (option(word, "field=", &v)) {
		add_field(a, v);
	} else {
		fail_msg(
		    "%s:%d: %.*s?", golden_file, golden_line, SLICE_FMT(word));
	}
}

static void
ask(struct slice rest)
{
	struct asked a = { .ask = { .id = next_word(&rest),
			       .method = next_word(&rest),
			       .path = next_word(&rest),
			       .scheme = SL("http"),
			       .agent_id = SL("a-1"),
			       .answer_streams = true },
		.terms = proxied_defaults };
	struct request *r = &s.requests[s.count++];
	struct slice word;

	assert_true(s.count <= REQUESTS);
	assert_int_equal(slice_cstr(a.ask.id, r->id, sizeof(r->id)), 0);
	a.ask.query = a.ask.path;
	slice_split(&a.ask.query, '?', &a.ask.path);
	a.ask.fields = a.fields;
	while ((word = next_word(&rest)).len > 0)
		read_option(&a, r, word);
	proxied_init(&r->p, &a.terms, s.now);
	if (!a.ask.body_streams)
		proxied_asked(&r->p, s.now);
	sent(proxy_put_ask(&a.ask, noon + s.now, &s.out));
}

static void
queue(struct request *r, struct slice rest)
{
	bool agent = slice_eq(next_word(&rest), SL("agent"));

	proxied_queue(&r->p, agent ? PROXIED_AGENT : PROXIED_VISITOR,
	    (size_t)number(next_word(&rest)), s.now);
}

static void
direct(struct slice rest)
{
	struct slice verb = next_word(&rest);
	wall_msec at = noon + s.now;

	if (slice_eq(verb, SL("ask"))) {
		ask(rest);
		return;
	}
	if (slice_eq(verb, SL("hello"))) {
		sent(proxy_put_hello(at, &s.out));
		return;
	}
	struct slice id = next_word(&rest);
	struct request *r = request_of(id);
	assert_non_null(r);
	if (slice_eq(verb, SL("queue"))) {
		queue(r, rest);
		return;
	}
	proxied_sent(&r->p, s.now);
	if (slice_eq(verb, SL("chunk"))) {
		sent(proxy_put_chunk(id, rest, at, &s.out));
	} else if (slice_eq(verb, SL("end"))) {
		proxied_asked(&r->p, s.now);
		sent(proxy_put_end(id, at, &s.out));
	} else if (slice_eq(verb, SL("cancel"))) {
		sent(proxy_put_cancel(id, at, &s.out));
	} else if (slice_eq(verb, SL("close"))) {
		sent(proxy_put_close(id, at, &s.out));
	} else if (slice_eq(verb, SL("data"))) {
		uint8_t kind = (uint8_t)number(next_word(&rest));
		sent(proxy_put_data(id, kind, rest, at, &s.out));
	} else {
		fail_msg(
		    "%s:%d: %.*s?", golden_file, golden_line, SLICE_FMT(verb));
	}
}

/* Theirs ------------------------------------------------------------------ */

static void
check_schema(struct slice text)
{
	char schema[128], type[64];
	struct js_limits limits = { 1 << 20, 32 };
	struct js_doc doc;
	struct slice word;

	if (js_parse(&doc, text, &limits, &s.arena) != 0 ||
	    js_string(js_get(js_root(&doc), "type"), &word) != 0 ||
	    slice_cstr(word, type, sizeof(type)) != 0)
		return;
	snprintf(schema, sizeof(schema), SCHEMAS "%s.json", type);
	golden_fits(schema, text);
}

/* No part of a message is one. */
static void
no_prefix_speaks(struct slice text)
{
	struct proxy_said said;

	for (size_t n = 0; n < text.len; n++) {
		struct slice part = guard_copy(slice_first(text, n));
		assert_int_equal(
		    proxy_read_text(part, &s.arena, &s.body, &said), 0);
		assert_int_equal(said.kind, PROXY_OTHER);
		guard_free(part);
		arena_reset(&s.arena);
	}
}

static void
say(struct slice text)
{
	struct slice copy = framing_carry(WSCONN_CLIENT, text);
	struct proxy_said said;

	no_prefix_speaks(text);
	assert_int_equal(proxy_read_text(copy, &s.arena, &s.body, &said), 0);
	/* What is refused need not fit. */
	if (said.kind != PROXY_BAD && said.kind != PROXY_OTHER)
		check_schema(copy);
	show_said(&said);
	guard_free(copy);
}

static void
pack_into(struct buf *out, struct slice text)
{
	struct buf packed;

	buf_init(&packed, 1 << 24);
	assert_int_equal(enc_pack(text, ENC_GZIP, 6, &packed), 0);
	buf_clear(out);
	buf_put(out, buf_peek(&packed));
	buf_fini(&packed);
}

static void
make_body(struct slice spec, struct buf *out)
{
	struct slice v, count;

	v = spec;
	slice_split(&v, '*', &count);
	if (v.len == 1) {
		for (uint64_t i = number(count); i > 0; i--)
			buf_put_byte(out, v.ptr[0]);
		pack_into(out, buf_peek(out));
		return;
	}
	if (option(spec, "gzip:", &v) || option(spec, "twice:", &v)) {
		pack_into(out, v);
		if (spec.ptr[0] == 't')
			pack_into(out, buf_peek(out));
		return;
	}
	buf_put(out, spec);
}

static struct slice
make_frame(struct slice rest, struct buf *out)
{
	struct slice id = next_word(&rest);
	uint32_t status = (uint32_t)number(next_word(&rest));
	struct slice headers = next_word(&rest);
	uint8_t n[8];
	struct buf body;

	buf_init(&body, 1 << 24);
	make_body(rest, &body);
	be_put16(n, (uint16_t)id.len);
	buf_put(out, (struct slice){ n, 2 });
	buf_put(out, id);
	be_put32(n, status);
	be_put32(n + 4, (uint32_t)headers.len);
	buf_put(out, (struct slice){ n, 8 });
	buf_put(out, headers);
	buf_put(out, buf_peek(&body));
	buf_fini(&body);
	assert_int_equal(out->err, 0);
	return buf_peek(out);
}

/* Cut before its body it is no answer; cut in it only the service's length
 * can tell, which is the machine's to see.  Nothing beyond is read. */
static void
cut_frame(struct slice frame, size_t head)
{
	struct proxy_said said;

	assert_int_equal(proxy_read_frame(frame, &s.arena, &s.body, &said), 0);
	enum proxy_kind whole = said.kind;
	for (size_t n = 0; n < frame.len; n++) {
		struct slice part = guard_copy(slice_first(frame, n));
		assert_int_equal(
		    proxy_read_frame(part, &s.arena, &s.body, &said), 0);
		assert_int_equal(said.kind, n < head ? PROXY_BAD : whole);
		guard_free(part);
		arena_reset(&s.arena);
	}
}

static void
say_frame(struct slice rest)
{
	struct proxy_said said;
	struct slice words = rest;
	struct buf out;

	buf_init(&out, 1 << 24);
	struct slice frame = make_frame(rest, &out);
	size_t head = 2 + next_word(&words).len + 8;
	next_word(&words);
	head += next_word(&words).len;
	cut_frame(frame, head);
	struct slice copy = guard_copy(frame);
	assert_int_equal(proxy_read_frame(copy, &s.arena, &s.body, &said), 0);
	show_said(&said);
	guard_free(copy);
	buf_fini(&out);
}

static void
advance(msec to)
{
	for (size_t i = 0; i < s.count; i++) {
		struct request *r = &s.requests[i];
		msec due = proxied_deadline(&r->p);
		while (due <= to) {
			s.now = due > s.now ? due : s.now;
			proxied_expire(&r->p, s.now);
			show_all(r);
			assert_true(proxied_deadline(&r->p) > due);
			due = proxied_deadline(&r->p);
		}
	}
	s.now = to;
}

/* Scripts ----------------------------------------------------------------- */

static void
do_line(char *line)
{
	struct slice rest = slice_from(line + 1);

	if (line[0] == '#' || line[0] == '\0')
		return;
	if (line[0] == '<') {
		golden_expect(line + 1);
		return;
	}
	golden_done();
	arena_reset(&s.arena);
	if (line[0] == '@')
		advance((msec)number(rest));
	else if (line[0] == '!')
		direct(rest);
	else if (slice_starts(slice_from(line), SL(">>")))
		say_frame(slice_from_at(rest, 1));
	else
		say(slice_trim(rest));
}

static void
set_up(void)
{
	s = (struct script){ 0 };
	arena_init(&s.arena, 64 << 20);
	buf_init(&s.out, 64 << 20);
	buf_init(&s.body, PROXY_BODY_MAX);
}

static void
tear_down(void)
{
	arena_fini(&s.arena);
	buf_fini(&s.out);
	buf_fini(&s.body);
}

static void
replay(const char *file)
{
	static char line[1 << 16];
	FILE *f = fopen(file, "r");

	assert_non_null(f);
	golden_file = file;
	golden_line = 0;
	golden_reset();
	set_up();
	while (fgets(line, sizeof(line), f) != NULL) {
		golden_line++;
		line[strcspn(line, "\n")] = '\0';
		do_line(line);
	}
	golden_done();
	tear_down();
	fclose(f);
}

static void
test_transcripts(void **state)
{
	struct dirent **names;
	int n = scandir("tests/transcripts/proxy", &names, NULL, alphasort);
	int played = 0;

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		char file[512];
		snprintf(file, sizeof(file), "tests/transcripts/proxy/%s",
		    names[i]->d_name);
		if (strstr(file, ".txt") != NULL) {
			replay(file);
			played++;
		}
		free(names[i]);
	}
	free(names);
	assert_true(played > 0);
	golden_all_used(SCHEMAS);
}

/* Beyond transcripts ------------------------------------------------------ */

/* What it points to stays until the next one is read. */
static struct proxy_said
read_text(const char *text)
{
	static struct slice copy;
	struct proxy_said said;

	if (copy.ptr != NULL)
		guard_free(copy);
	copy = guard_copy(slice_from(text));
	arena_reset(&s.arena);
	assert_int_equal(proxy_read_text(copy, &s.arena, &s.body, &said), 0);
	return said;
}

static void
must_be_bad(const char *text, int err)
{
	struct proxy_said said = read_text(text);

	assert_int_equal(said.kind, PROXY_BAD);
	assert_int_equal(said.err, err);
	assert_true(said.why.len > 0);
}

#define ANSWER(members)                                      \
	"{\"type\":\"proxy_response\",\"request_id\":\"r\"," \
	"\"payload\":{" members "}}"
#define DATA(members)                                              \
	"{\"type\":\"proxy_websocket_data\",\"request_id\":\"r\"," \
	"\"payload\":{" members "}}"

static void
test_refused(void **state)
{
	(void)state;
	set_up();
	must_be_bad(ANSWER("\"headers\":{}"), ERR_RANGE);
	must_be_bad(ANSWER("\"status\":100"), ERR_RANGE);
	must_be_bad(ANSWER("\"status\":600"), ERR_RANGE);
	must_be_bad(ANSWER("\"status\":\"200\""), ERR_RANGE);
	must_be_bad(ANSWER("\"status\":200,\"headers\":[]"), ERR_TYPE);
	must_be_bad(
	    ANSWER("\"status\":200,\"headers\":{\"a b\":\"c\"}"), ERR_INVALID);
	must_be_bad(
	    ANSWER("\"status\":200,\"headers\":{\"\":\"c\"}"), ERR_INVALID);
	/* Response splitting. */
	must_be_bad(
	    ANSWER("\"status\":200,\"headers\":{\"a\":\"b\\r\\nc: d\"}"),
	    ERR_INVALID);
	must_be_bad(
	    ANSWER("\"status\":200,\"headers\":{\"a\":[\"b\",\"\\u0000\"]}"),
	    ERR_INVALID);
	must_be_bad(ANSWER("\"status\":200,\"headers\":{\"a\":{}}"), ERR_TYPE);
	must_be_bad(
	    ANSWER("\"status\":200,\"body\":\"?\",\"encoding\":\"base64\""),
	    ERR_INVALID);
	must_be_bad(
	    ANSWER("\"status\":200,\"body\":\"AAAA\",\"encoding\":\"gzip\""),
	    ERR_INVALID);
	must_be_bad(
	    ANSWER("\"status\":200,\"body\":\"\",\"encoding\":\"zstd\""),
	    ERR_UNSUPPORTED);
	must_be_bad(ANSWER("\"status\":200,\"body\":5"), ERR_TYPE);
	must_be_bad(DATA("\"stream_id\":\"r\""), ERR_MISSING);
	must_be_bad(DATA("\"data\":\"\""), ERR_PROTOCOL);
	must_be_bad(DATA("\"data\":\"aGk=\""), ERR_PROTOCOL);
	must_be_bad(DATA("\"data\":\"AWhp\",\"message_type\":2"), ERR_PROTOCOL);
	must_be_bad(DATA("\"data\":\"AWhp\",\"size\":4"), ERR_PROTOCOL);
	must_be_bad(
	    DATA("\"data\":\"AWhp\",\"direction\":\"to_agent\""), ERR_PROTOCOL);
	must_be_bad(DATA("\"data\":\"aGk=\",\"message_type\":5"), ERR_PROTOCOL);
	must_be_bad(DATA("\"data\":\"AWhp\",\"sequence\":-1"), ERR_RANGE);
	assert_int_equal(read_text("").kind, PROXY_OTHER);
	assert_int_equal(read_text("[]").kind, PROXY_OTHER);
	assert_int_equal(
	    read_text("{\"type\":\"proxy_end\"}").kind, PROXY_OTHER);
	assert_int_equal(
	    read_text("{\"type\":\"ws_close\",\"type\":\"ws_close\"}").kind,
	    PROXY_OTHER);
	tear_down();
}

static void
test_ids(void **state)
{
	(void)state;
	set_up();
	assert_slice(read_text("{\"type\":\"ws_close\",\"request_id\":\"t\","
			       "\"payload\":{\"stream_id\":\"s\","
			       "\"request_id\":\"p\"}}")
			 .id,
	    SL("p"));
	assert_slice(read_text("{\"type\":\"ws_close\",\"request_id\":\"t\","
			       "\"payload\":{\"stream_id\":\"s\"}}")
			 .id,
	    SL("s"));
	assert_slice(
	    read_text("{\"type\":\"proxy_stream_close\",\"request_id\":\"t\","
		      "\"reason\":\"x\"}")
		.id,
	    SL("t"));
	assert_slice(read_text("{\"type\":\"proxy_stream_close\","
			       "\"request_id\":\"t\",\"reason\":\"bye\"}")
			 .text,
	    SL("bye"));
	assert_int_equal(read_text("{\"type\":\"ws_close\"}").id.len, 0);
	tear_down();
}

/* A small message that would fill the memory is refused before it does. */
static void
test_bombs(void **state)
{
	struct buf zeros, bomb, text;
	struct proxy_said said;

	(void)state;
	set_up();
	buf_init(&zeros, 64 << 20);
	buf_init(&bomb, 1 << 20);
	buf_init(&text, 1 << 20);
	size_t n = PROXY_BODY_MAX + 1;
	memset(buf_reserve(&zeros, n), 0, n);
	buf_commit(&zeros, n);
	assert_int_equal(enc_pack(buf_peek(&zeros), ENC_GZIP, 9, &bomb), 0);
	buf_put(&text,
	    SL("{\"type\":\"proxy_response\",\"request_id\":\"r\","
	       "\"payload\":{\"status\":200,\"encoding\":\"gzip\","
	       "\"body\":\""));
	enc_put_base64(&text, buf_peek(&bomb), ENC_STD);
	buf_put(&text, SL("\"}}"));
	assert_int_equal(
	    proxy_read_text(buf_peek(&text), &s.arena, &s.body, &said), 0);
	assert_int_equal(said.kind, PROXY_BAD);
	assert_int_equal(said.err, ERR_TOO_BIG);
	assert_slice(said.id, SL("r"));
	buf_clear(&text);
	buf_put(&text,
	    SL("\0\1r\0\0\0\310\0\0\0\34"
	       "{\"Content-Type\":\"text/html\"}"));
	buf_put(&text, buf_peek(&bomb));
	assert_int_equal(
	    proxy_read_frame(buf_peek(&text), &s.arena, &s.body, &said), 0);
	assert_int_equal(said.kind, PROXY_BAD);
	assert_int_equal(said.err, ERR_TOO_BIG);
	buf_fini(&zeros);
	buf_fini(&bomb);
	buf_fini(&text);
	tear_down();
}

static void
test_big_message(void **state)
{
	struct buf bytes, text;
	struct proxy_said said;

	(void)state;
	set_up();
	buf_init(&bytes, 16 << 20);
	buf_init(&text, 16 << 20);
	size_t n = PROXY_MESSAGE_MAX + 1;
	memset(buf_reserve(&bytes, n), 2, n);
	buf_commit(&bytes, n);
	assert_int_equal(
	    proxy_put_data(SL("r"), WS_BINARY, buf_peek(&bytes), 0, &text), 0);
	assert_int_equal(
	    proxy_read_text(buf_peek(&text), &s.arena, &s.body, &said), 0);
	assert_int_equal(said.kind, PROXY_BAD);
	assert_int_equal(said.err, ERR_TOO_BIG);
	buf_eat(&bytes, 1);
	buf_clear(&text);
	assert_int_equal(
	    proxy_put_data(SL("r"), WS_BINARY, buf_peek(&bytes), 0, &text), 0);
	assert_int_equal(
	    proxy_read_text(buf_peek(&text), &s.arena, &s.body, &said), 0);
	assert_int_equal(said.kind, PROXY_DATA);
	assert_slice(said.body, buf_peek(&bytes));
	buf_fini(&bytes);
	buf_fini(&text);
	tear_down();
}

static void
test_not_utf8(void **state)
{
	const struct http1_pair field = { SL_INIT("X"), SL_INIT("\351") };
	const struct proxy_ask ask = { .id = SL("r"),
		.method = SL("GET"),
		.path = SL("/"),
		.fields = &field,
		.count = 1 };

	(void)state;
	set_up();
	assert_int_equal(proxy_put_ask(&ask, 0, &s.out), ERR_INVALID);
	assert_int_equal(buf_peek(&s.out).len, 0);
	tear_down();
}

static void
test_features(void **state)
{
	struct js_limits limits = { 1000, 4 };
	struct proxy_features f;
	struct js_doc doc;

	(void)state;
	set_up();
	assert_int_equal(
	    js_parse(&doc,
		SL("{\"features\":{\"supports_websocket_proxy\":true,"
		   "\"supports_gateway\":\"yes\",\"supports_streaming\":false,"
		   "\"supports_response_streaming\":true}}"),
		&limits, &s.arena),
	    0);
	proxy_read_features(js_get(js_root(&doc), "features"), &f);
	assert_true(f.proxy && f.response_streaming);
	assert_false(f.gateway || f.streaming);
	proxy_read_features(js_get(js_root(&doc), "none"), &f);
	assert_false(f.proxy || f.response_streaming);
	tear_down();
}

/* Memory may run out at every place: then ERR_NOMEM, and nothing is kept. */
static void
speak(void *arg)
{
	static const char gzip[] =
	    ANSWER("\"status\":200,\"headers\":{\"a\":[\"b\",\"c\\t\"]},"
		   "\"encoding\":\"gzip\",\"body\":\"H4sIAAAAAAAAA8vIBACsKpPYAg"
		   "AAAA==\"");
	const struct http1_pair field = { SL_INIT("X"), SL_INIT("y") };
	const struct proxy_ask ask = { .id = SL("r"),
		.method = SL("GET"),
		.path = SL("/"),
		.fields = &field,
		.count = 1,
		.body = SL("hi") };
	struct proxy_said said;

	(void)arg;
	set_up();
	int err = proxy_read_text(slice_from(gzip), &s.arena, &s.body, &said);
	assert_true(err == ERR_NOMEM ||
	    (err == 0 && said.kind == PROXY_RESPONSE && said.count == 2 &&
		slice_eq(said.body, SL("hi"))));
	err = proxy_read_frame(
	    SL("\0\1r\0\0\0\310\0\0\0\2{}hi"), &s.arena, &s.body, &said);
	assert_true(
	    err == ERR_NOMEM || (err == 0 && slice_eq(said.body, SL("hi"))));
	err = proxy_put_ask(&ask, 0, &s.out);
	assert_true(err == 0 || err == ERR_NOMEM);
	buf_clear(&s.out);
	err = proxy_put_data(SL("r"), WS_TEXT, SL("hi"), 0, &s.out);
	assert_true(err == 0 || err == ERR_NOMEM);
	tear_down();
}

static void
test_out_of_memory(void **state)
{
	(void)state;
	oom_torture(speak, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transcripts),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_big_message),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
