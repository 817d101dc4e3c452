#include <string.h>

#include "base/err.h"
#include "wire/opening.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct slice V1 = {
	(const uint8_t *)"\1\1\x1f\x90\0\3web\0\7default"
			 "\0\4t-42",
	4 + 5 + 9 + 6
};
static const struct slice V2 = { (const uint8_t *)"\2\4\0\2{}", 6 };

/* Every proper part asks for more, and no byte beyond it is read. */
static void
check_parts(struct slice whole)
{
	struct opening o = { .port = 77 };

	for (size_t n = 0; n < whole.len; n++) {
		struct slice part = guard_copy(slice_first(whole, n));
		assert_int_equal(opening_decode(part, &o), 0);
		assert_int_equal(o.port, 77);
		guard_free(part);
	}
}

static void
test_version_1(void **state)
{
	struct opening o;
	struct buf b;

	(void)state;
	check_parts(V1);
	buf_init(&b, OPENING_MAX);
	buf_put(&b, V1);
	buf_put(&b, SL("first data"));
	assert_int_equal(opening_decode(buf_peek(&b), &o), V1.len);
	assert_int_equal(o.version, 1);
	assert_int_equal(o.proto, OPENING_TCP);
	assert_int_equal(o.port, 8080);
	assert_slice(o.service, SL("web"));
	assert_slice(o.namespace, SL("default"));
	assert_slice(o.tunnel_id, SL("t-42"));
	struct buf again;
	buf_init(&again, OPENING_MAX);
	assert_int_equal(opening_encode(&o, &again), 0);
	assert_slice(buf_peek(&again), V1);
	buf_fini(&again);
	buf_fini(&b);
}

static void
test_version_2(void **state)
{
	struct opening o;
	struct buf b;
	static uint8_t json[UINT16_MAX + 1];

	(void)state;
	check_parts(V2);
	assert_int_equal(opening_decode(V2, &o), V2.len);
	assert_int_equal(o.version, 2);
	assert_int_equal(o.kind, OPENING_KIND_EXEC);
	assert_slice(o.json, SL("{}"));
	assert_string_equal(opening_kind_name(o.kind), "exec");
	buf_init(&b, OPENING_MAX);
	assert_int_equal(opening_encode(&o, &b), 0);
	assert_slice(buf_peek(&b), V2);
	buf_clear(&b);
	o.json = (struct slice){ json, UINT16_MAX + 1 };
	assert_int_equal(opening_encode(&o, &b), ERR_TOO_BIG);
	o.json.len--;
	assert_int_equal(opening_encode(&o, &b), 0);
	assert_int_equal(opening_decode(buf_peek(&b), &o), 4 + UINT16_MAX);
	assert_int_equal(opening_encode(&o, &b), ERR_FULL);
	buf_fini(&b);
}

static void
test_kinds(void **state)
{
	static const char *names[] = { "tcp", "udp", "http", "exec", "shell",
		"file", "log", "metrics" };
	uint8_t head[4] = { 2 };
	struct opening o;

	(void)state;
	for (int kind = 0; kind < 256; kind++) {
		head[1] = (uint8_t)kind;
		bool known = kind >= 1 && kind <= 8;
		assert_int_equal(opening_decode((struct slice){ head, 4 }, &o),
		    known ? 4 : ERR_UNSUPPORTED);
		if (known)
			assert_string_equal(
			    opening_kind_name(o.kind), names[kind - 1]);
	}
}

/* Refused at the first byte that decides. */
static void
test_refusals(void **state)
{
	struct opening o;

	(void)state;
	assert_int_equal(opening_decode(SL("\0"), &o), ERR_UNSUPPORTED);
	assert_int_equal(opening_decode(SL("\3"), &o), ERR_UNSUPPORTED);
	assert_int_equal(opening_decode(SL("G"), &o), ERR_UNSUPPORTED);
	assert_int_equal(opening_decode(SL("\1\0"), &o), ERR_UNSUPPORTED);
	assert_int_equal(opening_decode(SL("\1\3"), &o), ERR_UNSUPPORTED);
	assert_int_equal(opening_decode(SL("\1\2\0\1\4\1"), &o), ERR_TOO_BIG);
	assert_int_equal(opening_decode(SL("\1\2\0\1\4\0"), &o), 0);
	assert_int_equal(
	    opening_decode(SL("\1\2\0\1\0\0\xff\xff"), &o), ERR_TOO_BIG);

	static uint8_t text[OPENING_TEXT_MAX + 1];
	struct buf b;
	buf_init(&b, OPENING_MAX);
	o = (struct opening){ .version = 1,
		.proto = OPENING_UDP,
		.namespace = { text, sizeof(text) } };
	assert_int_equal(opening_encode(&o, &b), ERR_TOO_BIG);
	assert_int_equal(b.tail, 0);
	o.namespace.len--;
	assert_int_equal(opening_encode(&o, &b), 0);
	assert_int_equal(
	    opening_decode(buf_peek(&b), &o), 10 + OPENING_TEXT_MAX);
	buf_fini(&b);
}

/* Cut anywhere, the bytes before and behind stay what they are. */
static void
test_gather(void **state)
{
	const struct slice all = SL("\2\0\0\2{}rest");

	(void)state;
	for (size_t cut = 0; cut <= all.len; cut++) {
		struct slice one = guard_copy(slice_first(all, cut));
		struct slice in = one, two = slice_from_at(all, cut);
		struct buf head;
		buf_init(&head, 6);
		assert_int_equal(opening_gather(&head, &in), cut >= 6);
		assert_int_equal(in.len, cut > 6 ? cut - 6 : 0);
		if (cut < 6) {
			assert_int_equal(opening_gather(&head, &two), 1);
			assert_slice(two, SL("rest"));
		}
		assert_slice(buf_peek(&head), SL("\2\0\0\2{}"));
		buf_fini(&head);
		guard_free(one);
	}
	struct buf head;
	struct slice in = SL("\2\0\0\3{ }");
	buf_init(&head, 6);
	assert_int_equal(opening_gather(&head, &in), ERR_TOO_BIG);
	buf_clear(&head);
	in = SL("\1\0");
	assert_int_equal(opening_gather(&head, &in), ERR_PROTOCOL);
	buf_clear(&head);
	assert_int_equal(opening_put_answer(&head, 1, SL("{}")), 0);
	assert_slice(buf_peek(&head), SL("\2\1\0\2{}"));
	buf_fini(&head);
}

static void
encode(void *arg)
{
	struct opening o = { .version = 1, .proto = OPENING_TCP };
	struct buf b;

	(void)arg;
	buf_init(&b, OPENING_MAX);
	int rc = opening_encode(&o, &b);
	assert_true(rc == 0 || rc == ERR_NOMEM);
	buf_fini(&b);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(encode, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_version_2),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_gather),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
