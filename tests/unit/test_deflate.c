#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/deflate.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct deflate_policy alone = { 0 };
static const struct deflate_policy takeover = { true, true, 15, 15 };
static const struct deflate_policy small = { true, true, 10, 11 };

/* The answer to offers, "" for none, "!" for a broken list. */
static void
check_accept(
    const char *offers, const struct deflate_policy *want, const char *expect)
{
	struct slice in = guard_copy(slice_from(offers));
	struct deflate_terms terms;
	struct deflate_text text = { 0 };
	int r = deflate_accept(in, want, &terms, &text);

	guard_free(in);
	if (r < 0)
		assert_slice(slice_from(expect), SL("!"));
	else
		assert_slice(((struct slice){ text.bytes, text.len }),
		    slice_from(expect));
	assert_int_equal(r > 0, text.len > 0);
}

#define PMD "permessage-deflate"
#define SNC "; server_no_context_takeover"
#define CNC "; client_no_context_takeover"
#define SMW "; server_max_window_bits"
#define CMW "; client_max_window_bits"

/* RFC 7692 7.1, as a server. */
static void
test_accept(void **state)
{
	(void)state;
	check_accept("", &alone, "");
	check_accept("x-webkit-deflate-frame", &alone, "");
	check_accept(PMD, &alone, PMD SNC CNC);
	check_accept(PMD, &takeover, PMD);
	check_accept(PMD SNC, &takeover, PMD SNC);
	check_accept(PMD CNC, &takeover, PMD CNC);
	check_accept(PMD CNC SNC, &takeover, PMD SNC CNC);
	check_accept(PMD CMW, &takeover, PMD);
	check_accept(PMD CMW, &small, PMD SMW "=10" CMW "=11");
	check_accept(PMD CMW "=9", &small, PMD SMW "=10" CMW "=9");
	check_accept(PMD CMW "=8", &takeover, PMD CMW "=8");
	check_accept(PMD, &small, PMD SMW "=10");
	check_accept(PMD SMW "=15", &takeover, PMD SMW "=15");
	check_accept(PMD SMW "=9", &takeover, PMD SMW "=9");
	check_accept(PMD SMW "=\"12\"", &small, PMD SMW "=10");
}

static void
test_decline(void **state)
{
	static const char *const bad[] = { SMW, SMW "=8", SMW "=7", SMW "=16",
		SMW "=010", SMW "=+9", SMW "=a", SMW "=\"1\\0\"", CMW "=7",
		CMW "=16", CMW "=x", SNC "=1", CNC "=true", SNC SNC,
		SMW "=10" SMW "=10", CMW CMW, "; mode=fast", "; SERVER_x" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char offer[300];
		size_t n = strlen(bad[i]);
		memcpy(offer, PMD, sizeof(PMD));
		memcpy(offer + sizeof(PMD) - 1, bad[i], n + 1);
		check_accept(offer, &alone, "");
		/* The next offer is looked at. */
		memcpy(offer + sizeof(PMD) - 1 + n, ", " PMD CMW,
		    sizeof(", " PMD CMW));
		check_accept(offer, &takeover, PMD);
	}
	check_accept("foo; a, " PMD "; ;", &alone, "!");
}

static int
check(const char *answer, const struct deflate_policy *want,
    struct deflate_terms *t)
{
	struct slice in = guard_copy(slice_from(answer));
	int r = deflate_check(in, want, t);

	guard_free(in);
	return r;
}

/* RFC 7692 7.1, as a client. */
static void
test_check(void **state)
{
	static const char *const bad[] = { PMD, PMD CNC, PMD SNC SNC,
		PMD SNC CMW, PMD SNC "; x", PMD SNC SMW "=7",
		PMD SNC ", " PMD SNC, "other", PMD SNC ", other", PMD SNC ";" };
	struct deflate_terms t;
	struct deflate_text text;

	(void)state;
	deflate_offer(&alone, &text);
	assert_slice(
	    ((struct slice){ text.bytes, text.len }), SL(PMD SNC CNC CMW));
	deflate_offer(&small, &text);
	assert_slice(((struct slice){ text.bytes, text.len }),
	    SL(PMD SMW "=10" CMW "=11"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(check(bad[i], &alone, &t), ERR_PROTOCOL);
	assert_int_equal(check(PMD, NULL, &t), ERR_PROTOCOL);

	assert_int_equal(check("", NULL, &t), 0);
	assert_false(t.on);
	assert_int_equal(check("", &alone, &t), 0);
	assert_false(t.on);
	assert_int_equal(check(PMD SNC, &alone, &t), 0);
	assert_true(t.on && !t.server_takeover && !t.client_takeover);
	assert_int_equal(t.server_bits, 15);
	assert_int_equal(t.client_bits, 15);
	assert_int_equal(check(PMD SMW "=9" CMW "=8", &takeover, &t), 0);
	assert_true(t.server_takeover && t.client_takeover);
	assert_int_equal(t.server_bits, 9);
	assert_int_equal(t.client_bits, 8);
	assert_int_equal(check(PMD SMW "=10" CNC, &small, &t), 0);
	assert_false(t.client_takeover);
	assert_int_equal(t.client_bits, 11);
	assert_int_equal(check(PMD, &small, &t), ERR_PROTOCOL);
	assert_int_equal(check(PMD SMW "=11", &small, &t), ERR_PROTOCOL);
	assert_int_equal(
	    check(PMD SMW "=10" CMW "=12", &small, &t), ERR_PROTOCOL);
}

/* Every offer of ours that our server takes is an answer we accept. */
static void
test_agree(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4 * 7 * 7 * 4; i++) {
		struct deflate_policy client = { i & 1, i >> 1 & 1,
			(uint8_t)(9 + i / 4 % 7), (uint8_t)(9 + i / 28 % 7) };
		struct deflate_policy server = { i / 196 & 1, i / 392 & 1, 12,
			13 };
		struct deflate_text offer, answer;
		struct deflate_terms a, b;
		deflate_offer(&client, &offer);
		assert_int_equal(
		    deflate_accept((struct slice){ offer.bytes, offer.len },
			&server, &a, &answer),
		    1);
		assert_int_equal(
		    deflate_check((struct slice){ answer.bytes, answer.len },
			&client, &b),
		    0);
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

static void
unpack(struct deflate_stream *s, struct slice packed, size_t cap, int want,
    struct slice text)
{
	struct slice in = guard_copy(packed);
	struct buf out;

	buf_init(&out, SIZE_MAX);
	buf_put(&out, SL("before"));
	assert_int_equal(deflate_unpack(s, in, cap, &out), want);
	if (want == 0)
		assert_slice(slice_from_at(buf_peek(&out), 6), text);
	/* RFC 7692 is silent on it, memory is not: never much over cap. */
	assert_true(buf_peek(&out).len <= 6 + cap + 1);
	buf_fini(&out);
	guard_free(in);
}

static struct deflate_pool pool;

static void
unpack_one(struct slice packed, int want, struct slice text)
{
	unpack(deflate_pool_unpacker(&pool), packed, 100, want, text);
}

/* RFC 7692 7.2.3. */
static void
test_examples(void **state)
{
	struct deflate_stream *s = deflate_new_unpacker(15);
	struct slice hello = SL("Hello");

	(void)state;
	unpack_one(SL("\xf2\x48\xcd\xc9\xc9\x07\x00"), 0, hello);
	unpack(s, SL("\xf2\x48\xcd\xc9\xc9\x07\x00"), 5, 0, hello);
	unpack(s, SL("\xf2\x00\x11\x00\x00"), 5, 0, hello);
	deflate_free(s);
	unpack_one(SL("\x00\x05\x00\xfa\xffHello\x00"), 0, hello);
	unpack_one(SL("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 0, hello);
	unpack_one(SL("\xf3\x48\xcd\xc9\xc9\x07\x00"), 0, hello);
	unpack_one(SL("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
	    0, hello);
	unpack_one(SL("\x00"), 0, SL(""));
	unpack_one(SL("\x02\x00"), 0, SL(""));
	unpack_one(SL(""), 0, SL(""));
}

/* A final block keeps the window for what comes after it. */
static void
test_final_takeover(void **state)
{
	struct deflate_stream *s = deflate_new_unpacker(15);

	(void)state;
	unpack(s, SL("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 5, 0, SL("Hello"));
	unpack(s, SL("\xf2\x00\x11\x00\x00"), 5, 0, SL("Hello"));
	deflate_free(s);
}

static void
test_corrupt(void **state)
{
	(void)state;
	unpack_one(SL("\x06"), ERR_CORRUPT, SL(""));         /* block type 3 */
	unpack_one(SL("\xf2\x00\x11"), ERR_CORRUPT, SL("")); /* too far back */
	unpack_one(SL("\xf2\x48\xcd"), ERR_CORRUPT, SL("")); /* cut */
	unpack_one(SL("\x00\x05\x00\xfa\xffHe"), ERR_CORRUPT, SL(""));
	unpack_one(SL("\x00\x05\x00\xfa\xfeHello\x00"), ERR_CORRUPT, SL(""));
	/* The pool's stream is as good as new afterwards. */
	unpack_one(SL("\xf2\x48\xcd\xc9\xc9\x07\x00"), 0, SL("Hello"));
}

/* The cap is exact: of the message as unpacked. */
static void
test_bomb(void **state)
{
	size_t n = 8 << 20;
	uint8_t *zeros = alloc_new(n), *packed = alloc_new(n);
	struct deflate_stream *p = deflate_pool_packer(&pool, 15);
	size_t len = deflate_pack(p, (struct slice){ zeros, n }, packed, n);
	struct slice bomb = { packed, len };

	(void)state;
	assert_true(len > 0 && len < 10000);
	unpack(deflate_pool_unpacker(&pool), bomb, n, 0,
	    (struct slice){ zeros, n });
	unpack(deflate_pool_unpacker(&pool), bomb, n - 1, ERR_TOO_BIG, SL(""));
	unpack(deflate_pool_unpacker(&pool), bomb, 65536, ERR_TOO_BIG, SL(""));
	unpack(deflate_pool_unpacker(&pool), bomb, 1, ERR_TOO_BIG, SL(""));
	unpack(deflate_pool_unpacker(&pool), bomb, 0, ERR_TOO_BIG, SL(""));
	unpack(deflate_pool_unpacker(&pool), SL("\x00"), 0, 0, SL(""));
	alloc_free(zeros);
	alloc_free(packed);
}

static uint32_t seed = 7;

static uint32_t
chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static size_t
fill(uint8_t *mem, size_t most)
{
	size_t n = chance((uint32_t)most) + 1;
	unsigned kinds = 1 + chance(256);

	for (size_t i = 0; i < n; i++)
		mem[i] = (uint8_t)chance(kinds);
	return n;
}

/* Any message, any window, with takeover: out as in, within the bound. */
static void
test_round_trip(void **state)
{
	static uint8_t text[70000], packed[80000];

	(void)state;
	for (int bits = 9; bits <= 15; bits++) {
		struct deflate_stream *p =
		    deflate_new_packer(bits, bits % 9 + 1);
		struct deflate_stream *u = deflate_new_unpacker(bits);
		for (int i = 0; i < 40; i++) {
			size_t n = fill(text, i < 20 ? 300 : sizeof(text));
			size_t room = deflate_bound(p, n);
			assert_true(room <= sizeof(packed));
			size_t len = deflate_pack(
			    p, (struct slice){ text, n }, packed, room);
			assert_true(len > 0);
			unpack(u, (struct slice){ packed, len }, n, 0,
			    (struct slice){ text, n });
		}
		assert_true(deflate_memory(p) > deflate_memory(u));
		deflate_free(p);
		deflate_free(u);
	}
	assert_int_equal(deflate_memory(NULL), 0);
}

/* No room is said so, and does not spoil the next message of the pool. */
static void
test_no_room(void **state)
{
	uint8_t out[64];

	(void)state;
	for (size_t room = 0; room < 10; room++) {
		struct deflate_stream *p = deflate_pool_packer(&pool, 15);
		assert_int_equal(
		    deflate_pack(p, SL("Hello, hello!"), out, room), 0);
	}
	struct deflate_stream *p = deflate_pool_packer(&pool, 15);
	size_t n = deflate_pack(p, SL("Hello"), out, sizeof(out));
	assert_slice(
	    ((struct slice){ out, n }), SL("\xf2\x48\xcd\xc9\xc9\x07\x00"));
}

static void
memory_body(void *arg)
{
	struct deflate_pool p;
	struct buf out;

	(void)arg;
	deflate_pool_init(&p, 6);
	buf_init(&out, 1000);
	struct deflate_stream *u = deflate_pool_unpacker(&p);
	if (u != NULL) {
		int r = deflate_unpack(
		    u, SL("\xf2\x48\xcd\xc9\xc9\x07\x00"), 10, &out);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	(void)deflate_pool_packer(&p, 9);
	buf_fini(&out);
	deflate_pool_fini(&p);
}

static void
test_memory(void **state)
{
	(void)state;
	oom_torture(memory_body, NULL);
}

static int
setup(void **state)
{
	(void)state;
	deflate_pool_init(&pool, 6);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	deflate_pool_fini(&pool);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_decline),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_agree),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_final_takeover),
		cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
