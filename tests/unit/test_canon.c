/*
 * What is signed: tests/canon/vectors.jsonl, made by Node and Go (make.js and
 * make.go beside it).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#include "wire/canon.h"
#include "wire/enc.h"
#include "wire/token.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

#define VECTORS "tests/canon/vectors.jsonl"

static const struct js_limits limits = { 1 << 20, 64 };

static struct arena arena;
static struct buf out;
static struct canon_work work;

static int
setup(void **state)
{
	(void)state;
	arena_init(&arena, 16 << 20);
	buf_init(&out, 1 << 20);
	return canon_work_init(&work, 1 << 20);
}

static int
teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	buf_fini(&out);
	canon_work_fini(&work);
	return 0;
}

static struct slice
member(struct js_value v, const char *name)
{
	struct slice s;

	assert_int_equal(js_string(js_get(v, name), &s), 0);
	return s;
}

static void
check_value(struct js_value v)
{
	struct slice text = guard_copy(member(v, "text"));
	struct js_doc doc;

	assert_int_equal(js_parse(&doc, text, &limits, &arena), 0);
	buf_clear(&out);
	canon_put(&out, js_root(&doc));
	assert_int_equal(out.err, 0);
	assert_slice(buf_peek(&out), member(v, "stringify"));
	guard_free(text);
}

static const char *
verdict_of(struct slice text, struct slice secret)
{
	static const char *const forms[] = { "received", "raw", "ecma" };
	const struct slice keys[] = { SL("not this one"), secret };
	struct canon_match how = { 0 };
	struct js_doc doc;

	assert_int_equal(js_parse(&doc, text, &limits, &arena), 0);
	if (doc.repeated.ptr != NULL)
		return "duplicate";
	int err = canon_verify(js_root(&doc), keys, 2, &work, &how);
	if (err == ERR_DENIED)
		return "denied";
	assert_int_equal(err, 0);
	assert_int_equal(how.key, 1);
	assert_int_equal(
	    canon_verify(js_root(&doc), keys, 1, &work, NULL), ERR_DENIED);
	assert_int_equal(
	    canon_verify(js_root(&doc), keys + 1, 1, &work, NULL), 0);
	return forms[how.form];
}

static void
check_message(struct js_value v)
{
	struct slice text = guard_copy(member(v, "text"));
	const char *verdict = verdict_of(text, member(v, "secret"));
	struct slice want = member(v, "verdict");

	if (!slice_eq(slice_from(verdict), want))
		fail_msg("%.*s: %s, not %.*s", SLICE_FMT(member(v, "name")),
		    verdict, SLICE_FMT(want));
	guard_free(text);
}

static void
vectors_agree(void **state)
{
	FILE *f = fopen(VECTORS, "r");
	size_t size = 0, values = 0, messages = 0;
	char *line = NULL;

	(void)state;
	assert_non_null(f);
	for (ssize_t n; (n = getline(&line, &size, f)) > 0;) {
		struct slice text = { (const uint8_t *)line, (size_t)n };
		struct js_doc doc;
		assert_int_equal(js_parse(&doc, text, &limits, &arena), 0);
		if (slice_eq(member(js_root(&doc), "kind"), SL("value"))) {
			check_value(js_root(&doc));
			values++;
		} else {
			check_message(js_root(&doc));
			messages++;
		}
		arena_reset(&arena);
	}
	free(line);
	fclose(f);
	assert_true(values > 30);
	assert_true(messages > 80);
}

static void
number_is(double d, const char *want)
{
	buf_clear(&out);
	canon_put_number(&out, d);
	assert_slice(buf_peek(&out), slice_from(want));
}

/* ECMA-262 6.1.6.1.20, each branch at its edges. */
static void
numbers_are_those_of_ecmascript(void **state)
{
	(void)state;
	number_is(0.0, "0");
	number_is(-0.0, "0");
	number_is(-1.5, "-1.5");
	number_is(123456789012345680000.0, "123456789012345680000");
	number_is(1e21, "1e+21");
	number_is(1.5e21, "1.5e+21");
	number_is(1e-6, "0.000001");
	number_is(1.5e-7, "1.5e-7");
	number_is(5e-324, "5e-324");
	/* 2 to the power of -44: the nearest of 16 digits reads otherwise. */
	number_is(5.6843418860808015e-14, "5.684341886080802e-14");
	number_is(9007199254740992.0, "9007199254740992");
	number_is(1.7976931348623157e308, "1.7976931348623157e+308");
	number_is(__builtin_inf(), "null");
	number_is(__builtin_nan(""), "null");
}

#define PAYLOAD "{\"command\":\"ping\",\"args\":{\"a\":\"1\",\"b\":\"x y\"}}"

static const struct canon_message said = { .type = SL_INIT("command"),
	.agent_id = SL_INIT("agent-1"),
	.ts = INT64_C(1731819422000),
	.nonce = SL_INIT("n-1"),
	.payload = SL_INIT(PAYLOAD) };

static void
what_is_signed_is_the_same_in_every_form(void **state)
{
	struct slice key = SL("key"), text;
	struct buf forms[CANON_FORMS];
	struct js_doc doc;

	(void)state;
	buf_clear(&out);
	assert_int_equal(canon_sign(key, &said, &out), 0);
	assert_int_equal(arena_copy(&arena, buf_peek(&out), &text), 0);
	assert_true(slice_starts(text,
	    SL("{\"type\":\"command\",\"agentId\":\"agent-1\","
	       "\"ts\":1731819422000,\"nonce\":\"n-1\",\"payload\":" PAYLOAD
	       ",\"signature\":\"")));
	assert_int_equal(js_parse(&doc, text, &limits, &arena), 0);
	assert_int_equal(canon_verify(js_root(&doc), &key, 1, &work, NULL), 0);
	for (int i = 0; i < CANON_FORMS; i++) {
		buf_init(&forms[i], 1 << 16);
		canon_put_signed(&forms[i], js_root(&doc), (enum canon_form)i);
		assert_slice(buf_peek(&forms[i]), buf_peek(&forms[0]));
	}
	for (int i = 0; i < CANON_FORMS; i++)
		buf_fini(&forms[i]);
}

/* Of a thousand bits of a message none may be another. */
static void
every_bit_counts(void **state)
{
	struct slice key = SL("key"), text;
	uint8_t *bytes;

	(void)state;
	buf_clear(&out);
	assert_int_equal(canon_sign(key, &said, &out), 0);
	assert_int_equal(arena_copy(&arena, buf_peek(&out), &text), 0);
	bytes = (uint8_t *)(uintptr_t)text.ptr;
	for (size_t i = 0; i < text.len * 8; i++) {
		struct arena a;
		struct js_doc doc;
		arena_init(&a, 1 << 20);
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		/* Upper case digits are digits. */
		bool digit = i / 8 >= text.len - 66 && i % 8 == 5 &&
		    bytes[i / 8] >= 'A' && bytes[i / 8] <= 'F';
		if (js_parse(&doc, text, &limits, &a) == 0 && !digit)
			assert_int_equal(
			    canon_verify(js_root(&doc), &key, 1, &work, NULL),
			    ERR_DENIED);
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		arena_fini(&a);
	}
}

static void
limits_are_kept(void **state)
{
	struct slice key = SL("key");
	struct canon_work tight;
	struct buf small;
	struct js_doc doc;

	(void)state;
	for (size_t cap = 0; cap < 200; cap++) {
		buf_init(&small, cap);
		int err = canon_sign(key, &said, &small);
		assert_true(err == 0 || err == ERR_FULL);
		assert_true((err == 0) == (buf_peek(&small).len > 0));
		buf_fini(&small);
	}
	assert_int_equal(js_parse(&doc,
			     SL("{\"payload\":[1,2],\"signature\":\""
				"00000000000000000000000000000000"
				"00000000000000000000000000000000\"}"),
			     &limits, &arena),
	    0);
	assert_int_equal(canon_work_init(&tight, 10), 0);
	assert_int_equal(
	    canon_verify(js_root(&doc), &key, 1, &tight, NULL), ERR_FULL);
	canon_work_fini(&tight);
	assert_int_equal(
	    canon_verify(js_root(&doc), NULL, 0, &work, NULL), ERR_DENIED);
}

static void
plain_is_what_all_write_alike(void **state)
{
	(void)state;
	assert_true(canon_is_plain(SL("")));
	assert_true(canon_is_plain(SL("a b~\"\\/'")));
	assert_false(canon_is_plain(SL("<")));
	assert_false(canon_is_plain(SL("a>")));
	assert_false(canon_is_plain(SL("&a")));
	assert_false(canon_is_plain(SL("\n")));
	assert_false(canon_is_plain(SL("\x7f")));
	assert_false(canon_is_plain(SL("\xc3\xa9")));
}

static void
without_memory(void *arg)
{
	struct slice key = SL("key");
	struct canon_work w;
	struct buf text, scratch;
	struct arena a;
	struct js_doc doc;

	(void)arg;
	if (canon_work_init(&w, 1 << 16) != 0)
		return;
	arena_init(&a, 1 << 20);
	buf_init(&text, 1 << 16);
	buf_init(&scratch, 1 << 16);
	int err = canon_sign(key, &said, &text);
	assert_true(err == 0 || err == ERR_NOMEM);
	if (err == 0 && js_parse(&doc, buf_peek(&text), &limits, &a) == 0) {
		err = canon_verify(js_root(&doc), &key, 1, &w, NULL);
		assert_true(err == 0 || err == ERR_NOMEM);
	}
	buf_clear(&scratch);
	if (js_parse(&doc, SL("{\"2\":1,\"1\":{\"0\":[]}}"), &limits, &a) ==
	    0) {
		canon_put(&scratch, js_root(&doc));
		assert_true(scratch.err == ERR_NOMEM ||
		    slice_eq(
			buf_peek(&scratch), SL("{\"1\":{\"0\":[]},\"2\":1}")));
	}
	buf_fini(&scratch);
	buf_fini(&text);
	canon_work_fini(&w);
	arena_fini(&a);
}

/* RFC 4231 2, 6, and a key of just one block. */
static void
a_hasher_does_what_openssl_does_at_once(void **state)
{
	uint8_t key[131], one[SHA256_LEN], two[SHA256_LEN];
	struct token_hasher h;

	(void)state;
	memset(key, 0xaa, sizeof(key));
	assert_int_equal(token_hasher_init(&h), 0);
	for (size_t n = 0; n <= sizeof(key); n++) {
		const struct slice k = { key, n };
		const struct slice text = slice_first(
		    SL("Test Using Larger Than Block-Size Key - Hash Key "
		       "First, and a text of more than one block."),
		    n);
		assert_int_equal(token_hmac(k, text, one), 0);
		assert_int_equal(token_hasher_hmac(&h, k, text, two), 0);
		assert_memory_equal(one, two, SHA256_LEN);
		assert_int_equal(token_sha256(text, one), 0);
		assert_int_equal(
		    token_hasher_sha256(&h, slice_first(text, n / 2),
			slice_from_at(text, n / 2), two),
		    0);
		assert_memory_equal(one, two, SHA256_LEN);
	}
	token_hasher_fini(&h);
	token_hasher_fini(&h);
}

static void
memory_may_run_out(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vectors_agree, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    numbers_are_those_of_ecmascript, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    what_is_signed_is_the_same_in_every_form, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    every_bit_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    limits_are_kept, setup, teardown),
		cmocka_unit_test(plain_is_what_all_write_alike),
		cmocka_unit_test(a_hasher_does_what_openssl_does_at_once),
		cmocka_unit_test(memory_may_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
