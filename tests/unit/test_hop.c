/*
 * Golden transcripts of heads on their way through the gateway:
 * tests/transcripts/gateway.
 *
 *   # why             a remark
 *   !KEY [VALUE]      a fact: see facts; `!reset` takes all back
 *   !cookie NAME      a cookie of Muster's own begins so
 *   !to-service VERB NAME [VALUE], !to-visitor ...    a rule of the route
 *   > LINE            of a head that comes in: a request of the visitor's, or
 *                     an answer (HTTP/1.1 ...) of the service's
 *   < LINE            of the head that goes on, or `error NAME`
 *   < length N        what is told of the body, before the head
 *
 * The head goes in from memory that ends at a guard page and is gone when
 * what goes on is written; that is read again by our own parser.  Each is
 * done once more with every allocation failing in turn.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "wire/hop.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

#define SCRIPTS "tests/transcripts/gateway/"

enum { RULES = 8, COOKIES = 4, WANTED = 64 };

static struct script {
	const char *file;
	int line;
	struct hop hop;
	struct hop_rule to_service[RULES], to_visitor[RULES];
	struct slice cookies[COOKIES];
	struct arena arena; /* of the facts */
	struct buf in;      /* the head that comes */
	struct buf want;    /* lines expected */
} s;

static struct http1_head head;

/* Facts ------------------------------------------------------------------- */

static void
reset(void)
{
	s.hop = (struct hop){ .peer = SL("192.0.2.7"),
		.client = SL("192.0.2.7"),
		.request_id = SL("req_1"),
		.cookies = s.cookies,
		.to_service = s.to_service,
		.to_visitor = s.to_visitor };
	for (size_t i = 0; i < HOP_TRACE; i++)
		s.hop.trace[i] = (uint8_t)(i + 1);
}

static struct slice
kept(struct slice text)
{
	struct slice out;

	assert_int_equal(arena_copy(&s.arena, text, &out), 0);
	return out;
}

static struct slice
next_word(struct slice *rest)
{
	struct slice word = slice_first(*rest, slice_find(*rest, ' '));

	*rest = slice_from_at(*rest, word.len + 1);
	return word;
}

static void
add_rule(struct hop_rule *rules, size_t *count, struct slice rest)
{
	struct slice verb = next_word(&rest);
	struct hop_rule *r = &rules[(*count)++];

	assert_true(*count <= RULES);
	r->verb = slice_eq(verb, SL("set")) ? HOP_SET
	    : slice_eq(verb, SL("add"))     ? HOP_ADD
					    : HOP_REMOVE;
	r->name = kept(next_word(&rest));
	r->value = kept(rest);
}

static void
fact(struct slice rest)
{
	const struct {
		const char *key;
		struct slice *text;
		bool *flag;
	} facts[] = {
		{ "peer", &s.hop.peer, NULL },
		{ "client", &s.hop.client, NULL },
		{ "host", &s.hop.host, NULL },
		{ "prefix", &s.hop.prefix, NULL },
		{ "id", &s.hop.request_id, NULL },
		{ "trusted", NULL, &s.hop.trusted },
		{ "tls", NULL, &s.hop.tls },
		{ "own-origin", NULL, &s.hop.own_origin },
		{ "upgrade", NULL, &s.hop.upgrade },
		{ "drop-authorization", NULL, &s.hop.drop_authorization },
	};
	struct slice key = next_word(&rest);

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		if (!slice_eq(key, slice_from(facts[i].key)))
			continue;
		if (facts[i].flag != NULL)
			*facts[i].flag = true;
		else
			*facts[i].text = kept(rest);
		return;
	}
	if (slice_eq(key, SL("reset")))
		reset();
	else if (slice_eq(key, SL("cookie")))
		s.cookies[s.hop.cookie_count++] = kept(rest);
	else if (slice_eq(key, SL("to-service")))
		add_rule(s.to_service, &s.hop.to_service_count, rest);
	else if (slice_eq(key, SL("to-visitor")))
		add_rule(s.to_visitor, &s.hop.to_visitor_count, rest);
	else
		fail_msg("%s:%d: no such fact", s.file, s.line);
}

/* What goes on ------------------------------------------------------------ */

static void
put_length(struct buf *out, int64_t length)
{
	buf_put(out, SL("length "));
	if (length < 0)
		buf_put(out, SL("-1"));
	else
		buf_put_u64(out, (uint64_t)length);
	buf_put(out, SL("\r\n"));
}

/* What was written is one head to ourselves, framed as it was meant. */
static void
reread_request(const struct http1_ask *ask, struct slice text)
{
	http1_head_init(&head);
	assert_int_equal(http1_parse_request(&head, text), (int)text.len);
	assert_int_equal(head.chunked, ask->length < 0);
	if (ask->length > 0)
		assert_int_equal(head.content_length, ask->length);
}

static int
pass_request(struct slice in, struct buf *out)
{
	struct http1_client c;
	struct http1_ask ask;
	struct arena a;
	struct buf text;
	int err;

	arena_init(&a, 1 << 20);
	buf_init(&text, 1 << 20);
	http1_client_init(&c, 1000);
	http1_head_init(&head);
	in = guard_copy(in);
	assert_int_equal(http1_parse_request(&head, in), (int)in.len);
	err = hop_request(&s.hop, &head, &a, &ask);
	guard_free(in);
	if (err == 0)
		err = http1_client_ask(&c, &ask, &text);
	if (err == 0) {
		reread_request(&ask, buf_peek(&text));
		if (ask.length != 0)
			put_length(out, ask.length);
		buf_put(out, buf_peek(&text));
		err = out->err;
	}
	http1_client_fini(&c);
	buf_fini(&text);
	arena_fini(&a);
	return err;
}

static int
write_answer(const struct http1_reply *r, struct buf *out)
{
	static struct http1_head scratch;
	struct http1_server server;
	struct http1_event ev;
	struct slice rest;
	int err;

	http1_server_init(&server, &http1_times_default, 1000, 0);
	http1_server_feed(&server, SL("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
	assert_true(http1_server_next(&server, &scratch, &ev));
	if (r->status == 101)
		err = http1_server_switch(&server, r, out, &rest);
	else if (r->status < 200)
		err = http1_server_interim(&server, r, out);
	else
		err = http1_server_start(&server, r, out);
	http1_server_fini(&server);
	return err;
}

static int
pass_response(struct slice in, struct buf *out)
{
	struct http1_reply r;
	struct arena a;
	int err;

	arena_init(&a, 1 << 20);
	http1_head_init(&head);
	in = guard_copy(in);
	assert_int_equal(http1_parse_response(&head, in), (int)in.len);
	err = hop_response(&s.hop, &head, &a, &r);
	guard_free(in);
	if (err == 0)
		err = write_answer(&r, out);
	if (err == 0) {
		http1_head_init(&head);
		assert_int_equal(http1_parse_response(&head, buf_peek(out)),
		    (int)buf_peek(out).len);
	}
	arena_fini(&a);
	return err;
}

static int
pass(struct buf *out)
{
	struct slice in = buf_peek(&s.in);

	return slice_starts(in, SL("HTTP/")) ? pass_response(in, out)
					     : pass_request(in, out);
}

static void
pass_or_not(void *arg)
{
	struct buf out;
	int err;

	buf_init(&out, 1 << 20);
	err = pass(&out);
	if (err == 0)
		assert_slice(buf_peek(&out), buf_peek(&s.want));
	else if (*(int *)arg != err)
		assert_int_equal(err, ERR_NOMEM);
	buf_fini(&out);
}

/* A head is there, and what is wanted of it. */
static void
play(void)
{
	struct buf out;
	int err;

	if (buf_peek(&s.in).len == 0)
		return;
	buf_put(&s.in, SL("\r\n"));
	buf_init(&out, 1 << 20);
	err = pass(&out);
	if (err != 0) {
		buf_put(&out, SL("error "));
		buf_put(&out, slice_from(err_name(err)));
		buf_put(&out, SL("\r\n"));
	} else {
		buf_put(&s.want, SL("\r\n"));
	}
	if (!slice_eq(buf_peek(&out), buf_peek(&s.want)))
		fail_msg("%s:%d: it is\n%.*s\nand was to be\n%.*s", s.file,
		    s.line, SLICE_FMT(buf_peek(&out)),
		    SLICE_FMT(buf_peek(&s.want)));
	oom_torture(pass_or_not, &err);
	buf_fini(&out);
	buf_clear(&s.in);
	buf_clear(&s.want);
}

/* Scripts ----------------------------------------------------------------- */

static void
take_line(struct slice text)
{
	struct slice rest = slice_from_at(text, 2);

	if (text.len == 0 || text.ptr[0] == '#')
		return;
	if (text.ptr[0] == '!' || text.ptr[0] == '>') {
		if (buf_peek(&s.want).len > 0)
			play();
	}
	if (text.ptr[0] == '!') {
		fact(slice_from_at(text, 1));
	} else {
		struct buf *b = text.ptr[0] == '>' ? &s.in : &s.want;
		assert_true(text.ptr[0] == '>' || text.ptr[0] == '<');
		buf_put(b, rest);
		buf_put(b, SL("\r\n"));
	}
}

static void
run_script(const char *name)
{
	char path[300], line[4096];

	snprintf(path, sizeof(path), SCRIPTS "%s", name);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	s = (struct script){ .file = path };
	arena_init(&s.arena, 1 << 20);
	buf_init(&s.in, 1 << 20);
	buf_init(&s.want, 1 << 20);
	reset();
	while (fgets(line, sizeof(line), f) != NULL) {
		s.line++;
		line[strcspn(line, "\n")] = '\0';
		take_line(slice_from(line));
	}
	play();
	fclose(f);
	buf_fini(&s.in);
	buf_fini(&s.want);
	arena_fini(&s.arena);
}

static void
test_scripts(void **state)
{
	struct dirent **names;
	int count, played = 0;

	(void)state;
	count = scandir(SCRIPTS, &names, NULL, alphasort);
	assert_true(count > 0);
	for (int i = 0; i < count; i++) {
		if (slice_ends(slice_from(names[i]->d_name), SL(".txt"))) {
			run_script(names[i]->d_name);
			played++;
		}
		free(names[i]);
	}
	free(names);
	assert_true(played > 0);
}

/* Switching --------------------------------------------------------------- */

#define ASKED                                                   \
	"GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n" \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"   \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define SWITCHED \
	"HTTP/1.1 101 Go\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static const struct switch_case {
	const char *asked, *answered;
	int err;
} switches[] = {
	{ "", ACCEPT, 0 },
	{ "", "", ERR_PROTOCOL },
	{ "", ACCEPT ACCEPT, ERR_PROTOCOL },
	{ "", "Sec-WebSocket-Accept: t3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
	    ERR_PROTOCOL },
	{ "", ACCEPT "Upgrade: h2c\r\n", ERR_PROTOCOL },
	{ "", ACCEPT "Sec-WebSocket-Protocol: chat\r\n", ERR_PROTOCOL },
	{ "Sec-WebSocket-Protocol: a, chat\r\n", ACCEPT, 0 },
	{ "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: chat\r\n",
	    ACCEPT "Sec-WebSocket-Protocol: chat\r\n", 0 },
	{ "Sec-WebSocket-Protocol: a, chat\r\n",
	    ACCEPT "Sec-WebSocket-Protocol: Chat\r\n", ERR_PROTOCOL },
	{ "Sec-WebSocket-Protocol: a, chat\r\n",
	    ACCEPT "Sec-WebSocket-Protocol: a, chat\r\n", ERR_PROTOCOL },
	{ "Sec-WebSocket-Protocol: a, chat\r\n",
	    ACCEPT "Sec-WebSocket-Protocol: a\r\n"
		   "Sec-WebSocket-Protocol: chat\r\n",
	    ERR_PROTOCOL },
	{ "Sec-WebSocket-Extensions: x, permessage-deflate; a=1\r\n",
	    ACCEPT "Sec-WebSocket-Extensions: Permessage-Deflate\r\n", 0 },
	{ "Sec-WebSocket-Extensions: x\r\n",
	    ACCEPT "Sec-WebSocket-Extensions: x, permessage-deflate\r\n",
	    ERR_PROTOCOL },
	{ "", ACCEPT "Sec-WebSocket-Extensions: x\r\n", ERR_PROTOCOL },
	{ "Sec-WebSocket-Extensions: x\r\n",
	    ACCEPT "Sec-WebSocket-Extensions: x;;\r\n", ERR_PROTOCOL },
};

static int
try_switch(const struct switch_case *c)
{
	char text[1000];
	struct hop hop = { .peer = SL("::1"), .upgrade = true };
	struct slice reason = { 0 };
	struct hop_wish wish;
	struct http1_ask ask;
	struct arena a;
	int err;

	arena_init(&a, 1 << 16);
	http1_head_init(&head);
	snprintf(text, sizeof(text), ASKED "%s\r\n", c->asked);
	assert_true(http1_parse_request(&head, slice_from(text)) > 0);
	err = hop_request(&hop, &head, &a, &ask);
	if (err == 0)
		err = hop_wish(&ask, &a, &wish);
	http1_head_init(&head);
	snprintf(text, sizeof(text), SWITCHED "%s\r\n", c->answered);
	assert_true(http1_parse_response(&head, slice_from(text)) > 0);
	if (err == 0)
		err = hop_switch_check(&wish, &head, &a, &reason);
	assert_true(err != ERR_PROTOCOL || reason.len > 0);
	arena_fini(&a);
	return err;
}

static void
switch_or_not(void *arg)
{
	const struct switch_case *c = arg;
	int err = try_switch(c);

	assert_true(err == c->err || err == ERR_NOMEM);
}

static void
test_switch(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		struct switch_case c = switches[i];
		if (try_switch(&c) != c.err)
			fail_msg("%s -> %s", c.asked, c.answered);
		oom_torture(switch_or_not, &c);
	}
}

/* The key was the one that is asked for, else nothing was switched. */
static void
test_no_key(void **state)
{
	struct hop_wish wish = { 0 };
	struct slice reason;
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	http1_head_init(&head);
	assert_true(http1_parse_response(
			&head, slice_from(SWITCHED ACCEPT "\r\n")) > 0);
	assert_int_equal(
	    hop_switch_check(&wish, &head, &a, &reason), ERR_PROTOCOL);
	arena_fini(&a);
}

/* Rules ------------------------------------------------------------------- */

static void
test_rule_check(void **state)
{
	static const struct {
		struct hop_rule rule;
		int to_service, to_visitor;
	} cases[] = {
		{ { HOP_SET, SL_INIT("X-A"), SL_INIT("b c") }, 0, 0 },
		{ { HOP_SET, SL_INIT("X-A"), SL_INIT("") }, 0, 0 },
		{ { HOP_REMOVE, SL_INIT("X-A"), { NULL, 0 } }, 0, 0 },
		{ { HOP_SET, SL_INIT("X A"), SL_INIT("b") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT(""), SL_INIT("b") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT("X-A"), SL_INIT("b\r\nc") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT("X-A"), SL_INIT(" b") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT("te"), SL_INIT("trailers") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_REMOVE, SL_INIT("Content_Length"), { NULL, 0 } },
		    ERR_INVALID, ERR_INVALID },
		{ { HOP_SET, SL_INIT("Expect"), SL_INIT("x") }, ERR_INVALID,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT("Sec-WebSocket-Key"), SL_INIT("x") },
		    ERR_INVALID, ERR_INVALID },
		{ { HOP_ADD, SL_INIT("Set-Cookie"), SL_INIT("x") }, 0,
		    ERR_INVALID },
		{ { HOP_SET, SL_INIT("host"), SL_INIT("a:80") }, 0, 0 },
		{ { HOP_SET, SL_INIT("Host"), SL_INIT("a b") }, ERR_INVALID,
		    0 },
		{ { HOP_ADD, SL_INIT("Host"), SL_INIT("a") }, ERR_INVALID, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(
		    hop_rule_check(&cases[i].rule, false), cases[i].to_service);
		assert_int_equal(
		    hop_rule_check(&cases[i].rule, true), cases[i].to_visitor);
	}
}

/* Nothing of what a hostile head can hold makes the work more than its
 * size: an arena of ten heads is enough. */
static void
test_hostile_size(void **state)
{
	static uint8_t text[HTTP1_HEAD_BYTES];
	struct hop hop = { .peer = SL("::1"),
		.prefix = SL("/clusters/a"),
		.own_origin = true };
	struct http1_reply reply;
	struct arena a;
	size_t n;

	(void)state;
	arena_init(&a, 10 * HTTP1_HEAD_BYTES);
	n = (size_t)snprintf(
	    (char *)text, sizeof(text), "HTTP/1.1 200 OK\r\nSet-Cookie: a=b");
	for (; n < sizeof(text) - 4; n++)
		text[n] = n % 2 == 0 ? ';' : 'a';
	memcpy(text + n, "\r\n\r\n", 4);
	http1_head_init(&head);
	assert_int_equal(
	    http1_parse_response(&head, (struct slice){ text, sizeof(text) }),
	    sizeof(text));
	assert_int_equal(hop_response(&hop, &head, &a, &reply), 0);
	assert_int_equal(reply.count, 2);
	arena_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_no_key),
		cmocka_unit_test(test_rule_check),
		cmocka_unit_test(test_hostile_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
