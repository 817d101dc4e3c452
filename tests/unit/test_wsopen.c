#include <string.h>

#include "base/err.h"
#include "wire/wsopen.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

/* RFC 6455 1.3. */
#define KEY SL("dGhlIHNhbXBsZSBub25jZQ==")
#define ACCEPT SL("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

static struct wsopen_request
good(void)
{
	return (struct wsopen_request){
		.method = SL("GET"),
		.major = 1,
		.minor = 1,
		.hosts = 1,
		.upgrade = SL("websocket"),
		.connection = SL("Upgrade"),
		.key = KEY,
		.keys = 1,
		.version = SL("13"),
		.versions = 1,
	};
}

static int
status_of(const struct wsopen_request *r)
{
	struct wsopen_verdict v = { .status = -1 };

	if (wsopen_check_request(r, &v) == 0)
		return 101;
	assert_true(v.reason.len > 0);
	return v.status;
}

#define REQUEST(field, value, want)                     \
	do {                                            \
		struct wsopen_request r_ = good();      \
		r_.field = value;                       \
		assert_int_equal(status_of(&r_), want); \
	} while (0)

/* RFC 6455 4.2.1, item by item. */
static void
test_request(void **state)
{
	struct slice none = { 0 };

	(void)state;
	REQUEST(minor, 1, 101);
	REQUEST(method, SL("POST"), 405);
	REQUEST(method, SL("get"), 405);
	REQUEST(minor, 0, 400);
	REQUEST(major, 2, 400);
	REQUEST(hosts, 0, 400);
	REQUEST(hosts, 2, 400);
	REQUEST(has_body, true, 400);
	REQUEST(upgrade, none, 426);
	REQUEST(upgrade, SL("h2c"), 426);
	REQUEST(upgrade, SL("websockets"), 426);
	REQUEST(upgrade, SL("h2c, , WebSocket"), 101);
	REQUEST(connection, none, 400);
	REQUEST(connection, SL("keep-alive"), 400);
	REQUEST(connection, SL("keep-alive,\tUPGRADE"), 101);
	REQUEST(connection, SL("keep-alive upgrade"), 400);
	REQUEST(versions, 0, 426);
	REQUEST(versions, 2, 400);
	REQUEST(version, SL("8"), 426);
	REQUEST(version, SL("013"), 426);
	REQUEST(version, SL("13, 8"), 426);
	REQUEST(keys, 0, 400);
	REQUEST(keys, 2, 400);
	REQUEST(key, SL(""), 400);
	REQUEST(extensions, SL("permessage-deflate"), 101);
	REQUEST(extensions, SL(""), 101);
	REQUEST(extensions, SL("a;"), 400);
	REQUEST(extensions, SL("a; b=\"c d\""), 400);
	REQUEST(protocols, SL("chat, superchat"), 101);
	REQUEST(protocols, SL("chat, chat"), 400);
	REQUEST(protocols, SL("chat super"), 400);
}

static void
test_wanted(void **state)
{
	struct wsopen_request r = good();

	(void)state;
	assert_true(wsopen_wanted(&r));
	r.key = (struct slice){ 0 };
	assert_true(wsopen_wanted(&r));
	r.upgrade = (struct slice){ 0 };
	assert_false(wsopen_wanted(&r));
	r = good();
	r.method = SL("PUT");
	assert_false(wsopen_wanted(&r));
}

static bool
key_valid(struct slice key)
{
	struct slice copy = guard_copy(key);
	bool ok = wsopen_key_valid(copy);

	guard_free(copy);
	return ok;
}

static void
test_keys(void **state)
{
	uint8_t out[WSOPEN_KEY_LEN];

	(void)state;
	assert_true(key_valid(KEY));
	assert_true(key_valid(SL("AAAAAAAAAAAAAAAAAAAAAA==")));
	assert_true(key_valid(SL("//////////////////////==")) == false);
	assert_true(key_valid(SL("/////////////////////w==")));
	assert_false(key_valid(SL("dGhlIHNhbXBsZSBub25jZR==")));
	assert_false(key_valid(SL("dGhlIHNhbXBsZSBub25jZQ=")));
	assert_false(key_valid(SL("dGhlIHNhbXBsZSBub25jZQAA")));
	assert_false(key_valid(SL("dGhlIHNhbXBsZSBub25jZQ==A")));
	assert_false(key_valid(SL(" GhlIHNhbXBsZSBub25jZQ==")));
	assert_false(key_valid(SL("dGhl\nHNhbXBsZSBub25jZQ==")));
	assert_false(key_valid(SL("dGhlIHNhbXBsZSBub25-_Q==")));
	assert_false(key_valid(SL("========================")));
	assert_false(key_valid(SL("")));
	wsopen_make_key((const uint8_t *)"the sample nonce", out);
	assert_slice(((struct slice){ out, sizeof(out) }), KEY);
}

static void
test_accept(void **state)
{
	uint8_t out[WSOPEN_ACCEPT_LEN];

	(void)state;
	assert_int_equal(wsopen_make_accept(KEY, out), 0);
	assert_slice(((struct slice){ out, sizeof(out) }), ACCEPT);
	assert_int_equal(wsopen_make_accept(SL("short"), out), ERR_INVALID);
}

static void
test_answer(void **state)
{
	struct slice none = { 0 };
	struct buf out;

	(void)state;
	buf_init(&out, 1024);
	wsopen_put_answer(&out, KEY, none, none);
	assert_int_equal(out.err, 0);
	assert_slice(buf_peek(&out),
	    SL("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	       "Connection: Upgrade\r\nSec-WebSocket-Accept: "
	       "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
	buf_clear(&out);
	wsopen_put_answer(&out, KEY, SL("chat"), SL("x; y=1"));
	assert_true(slice_ends(buf_peek(&out),
	    SL("+xOo=\r\nSec-WebSocket-Protocol: chat\r\n"
	       "Sec-WebSocket-Extensions: x; y=1\r\n\r\n")));
	buf_fini(&out);
	buf_init(&out, 50);
	wsopen_put_answer(&out, KEY, none, none);
	assert_int_equal(out.err, ERR_FULL);
	buf_clear(&out);
	wsopen_put_answer(&out, SL("short"), none, none);
	assert_int_equal(out.err, ERR_INVALID);
	buf_fini(&out);
}

static struct wsopen_response
answer(void)
{
	return (struct wsopen_response){
		.status = 101,
		.upgrade = SL("WebSocket"),
		.connection = SL("upgrade"),
		.accept = ACCEPT,
		.accepts = 1,
	};
}

#define RESPONSE(field, value, offered, want)                               \
	do {                                                                \
		struct wsopen_response r_ = answer();                       \
		struct slice why_ = { 0 };                                  \
		r_.field = value;                                           \
		assert_int_equal(                                           \
		    wsopen_check_response(&r_, KEY, offered, &why_), want); \
		assert_int_equal(why_.len > 0, (want) != 0);                \
	} while (0)

/* RFC 6455 4.1, the client's list. */
static void
test_response(void **state)
{
	struct slice none = { 0 };
	struct slice two = SL("chat, superchat");

	(void)state;
	RESPONSE(status, 101, none, 0);
	RESPONSE(status, 200, none, ERR_PROTOCOL);
	RESPONSE(upgrade, none, none, ERR_PROTOCOL);
	RESPONSE(upgrade, SL("h2c, websocket"), none, ERR_PROTOCOL);
	RESPONSE(connection, SL("close"), none, ERR_PROTOCOL);
	RESPONSE(connection, SL("foo, Upgrade"), none, 0);
	RESPONSE(accepts, 0, none, ERR_PROTOCOL);
	RESPONSE(accepts, 2, none, ERR_PROTOCOL);
	RESPONSE(
	    accept, SL("s3pPLMBiTxaQ9kYGzzhZRbK+xOO="), none, ERR_PROTOCOL);
	RESPONSE(
	    accept, SL("S3PPLMBITXAQ9KYGZZHZRBK+XOO="), none, ERR_PROTOCOL);
	RESPONSE(accept, SL(" s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), none, 0);
	RESPONSE(protocol, SL("superchat"), two, 0);
	RESPONSE(protocol, none, two, 0);
	RESPONSE(protocol, SL("chat"), none, ERR_PROTOCOL);
	RESPONSE(protocol, SL("Chat"), two, ERR_PROTOCOL);
	RESPONSE(protocol, SL("chat, superchat"), two, ERR_PROTOCOL);
	RESPONSE(protocol, SL(""), two, ERR_PROTOCOL);
	RESPONSE(extensions, SL("a;;"), none, ERR_PROTOCOL);
}

/* Spell a list out again, "name;param=value" and so on, "!" when it breaks
 * the grammar. */
static void
check_list(struct slice in, const char *want)
{
	struct slice list = guard_copy(in), all = list;
	struct wsopen_extension e;
	struct wsopen_param p;
	struct buf out;
	int r;

	buf_init(&out, 4096);
	while ((r = wsopen_next_extension(&list, &e)) > 0) {
		buf_put(&out, e.name);
		while (wsopen_next_param(&e.params, &p) > 0) {
			buf_put_byte(&out, ';');
			buf_put(&out, p.name);
			if (p.value.ptr != NULL)
				buf_put_byte(&out, '=');
			buf_put(&out, p.value);
		}
		assert_int_equal(e.params.len, 0);
		buf_put_byte(&out, ',');
	}
	if (r < 0)
		buf_put_byte(&out, '!');
	assert_slice(buf_peek(&out), slice_from(want));
	buf_fini(&out);
	guard_free(all);
}

/* RFC 6455 9.1 with the lists of RFC 9110 5.6.1. */
static void
test_lists(void **state)
{
	(void)state;
	check_list(SL(""), "");
	check_list(SL(" , ,"), "");
	check_list(SL("foo"), "foo,");
	check_list(SL("foo,bar; baz=2"), "foo,bar;baz=2,");
	check_list(SL(" foo ; a ; b = \"1\" ,, bar "), "foo;a;b=1,bar,");
	check_list(SL("deflate-stream\t,mux; max=4; flow-control"),
	    "deflate-stream,mux;max=4;flow-control,");
	check_list(SL("a; b=\"x\\y\""), "a;b=x\\y,");
	check_list(SL("foo bar"), "!");
	check_list(SL("foo, bar;"), "foo,!");
	check_list(SL("foo;=1"), "!");
	check_list(SL("foo;a="), "!");
	check_list(SL("foo;a=\"\""), "!");
	check_list(SL("foo;a=\"x"), "!");
	check_list(SL("foo;a=\"x\\"), "!");
	check_list(SL("foo;a=\"x,y\""), "!");
	check_list(SL("foo;a=b c"), "!");
	check_list(SL("=foo"), "!");
	check_list(SL("f\xc3\xa9"), "!");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
