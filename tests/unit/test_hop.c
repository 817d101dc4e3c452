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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
