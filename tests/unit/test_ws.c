#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "wire/ws.h"
#include "wire/wstail.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

/* Decode at the end of a page; every shorter input must ask for more, or
 * already refuse. */
static int
decode(struct slice in, struct ws_head *h)
{
	struct slice copy = guard_copy(in);
	int r = ws_decode_head(copy, h);

	guard_free(copy);
	for (size_t n = 0; n < in.len; n++) {
		struct ws_head part;
		copy = guard_copy(slice_first(in, n));
		int p = ws_decode_head(copy, &part);
		if (r >= 0)
			assert_int_equal(p, n < (size_t)r ? 0 : r);
		else
			assert_true(p == 0 || p == r);
		guard_free(copy);
	}
	return r;
}

static void
check_round_trip(uint64_t len, bool masked, size_t want)
{
	struct ws_head in = { .len = len, .opcode = WS_BINARY, .fin = true };
	struct ws_head out;
	uint8_t bytes[WS_HEAD_MAX];

	in.masked = masked;
	in.mask = masked ? 0xa1b2c3d4 : 0;
	size_t n = ws_encode_head(bytes, &in);
	assert_int_equal(n, want + (masked ? 4 : 0));
	assert_int_equal(decode((struct slice){ bytes, n }, &out), (int)n);
	assert_true(out.len == len);
	assert_true(out.mask == in.mask);
	assert_int_equal(out.opcode, WS_BINARY);
	assert_true(out.fin && !out.rsv1);
	assert_int_equal(out.masked, masked);
}

/* RFC 6455 5.2: lengths in their shortest form. */
static void
test_lengths(void **state)
{
	(void)state;
	for (int masked = 0; masked < 2; masked++) {
		check_round_trip(0, masked, 2);
		check_round_trip(125, masked, 2);
		check_round_trip(126, masked, 4);
		check_round_trip(65535, masked, 4);
		check_round_trip(65536, masked, 10);
		check_round_trip(INT64_MAX, masked, 10);
	}
}

static void
test_bad_heads(void **state)
{
	static const struct slice bad[] = {
		{ (const uint8_t *)"\x82\x7e\x00\x7d", 4 },
		{ (const uint8_t *)"\x82\x7e\x00\x00", 4 },
		{ (const uint8_t *)"\x82\x7f\0\0\0\0\0\0\xff\xff", 10 },
		{ (const uint8_t *)"\x82\x7f\x80\0\0\0\0\0\0\0", 10 },
		{ (const uint8_t *)"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		    10 },
		{ (const uint8_t *)"\x89\x7e\x00\x7e", 2 }, /* long control */
		{ (const uint8_t *)"\x88\x7f", 2 },
		{ (const uint8_t *)"\x09\x00", 1 }, /* cut control */
		{ (const uint8_t *)"\x0a\x00", 1 },
		{ (const uint8_t *)"\x08\x00", 1 },
		{ (const uint8_t *)"\xc9\x00", 1 }, /* compressed control */
	};
	struct ws_head h;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(decode(bad[i], &h), ERR_PROTOCOL);
}

/* Every first byte: reserved bits and opcodes (5.2). */
static void
test_first_bytes(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		uint8_t in[2] = { (uint8_t)first, 0 };
		unsigned op = first & 15;
		bool known = op <= 2 || (op >= 8 && op <= 10);
		bool ok = known && (first & 0x30) == 0 &&
		    (op < 8 || (first & 0xc0) == 0x80);
		struct ws_head h;
		int r = ws_decode_head((struct slice){ in, 1 }, &h);
		assert_int_equal(r, ok ? 0 : ERR_PROTOCOL);
		r = ws_decode_head((struct slice){ in, 2 }, &h);
		assert_int_equal(r, ok ? 2 : ERR_PROTOCOL);
		if (!ok)
			continue;
		assert_int_equal(h.opcode, op);
		assert_int_equal(h.fin, first >> 7);
		assert_int_equal(h.rsv1, first >> 6 & 1);
	}
}

static uint8_t
plain_mask(uint8_t c, const uint8_t key[4], size_t at)
{
	return c ^ key[at & 3];
}

/* Against the definition of 5.3, at every offset, alignment and length, in
 * two pieces cut anywhere. */
static void
test_mask(void **state)
{
	static const uint8_t key[4] = { 0x37, 0xfa, 0x21, 0x3d };
	uint8_t mem[320], want[320];
	uint32_t mask;

	(void)state;
	memcpy(&mask, key, 4);
	for (size_t n = 0; n < 200; n++) {
		size_t skew = n % 17, cut = n == 0 ? 0 : n * 7 % n;
		for (size_t i = 0; i < n; i++) {
			mem[skew + i] = (uint8_t)(i * 31 + n);
			want[i] = plain_mask(mem[skew + i], key, i);
		}
		ws_mask(mem + skew, cut, mask, 0);
		ws_mask(mem + skew + cut, n - cut, mask, cut);
		assert_memory_equal(mem + skew, want, n);
	}
}

/* One byte above 127, wherever it stands, is seen. */
static void
test_mask_ascii(void **state)
{
	uint8_t mem[150];

	(void)state;
	for (size_t at = 0; at <= sizeof(mem); at++) {
		memset(mem, 'a', sizeof(mem));
		if (at < sizeof(mem))
			mem[at] = 0xc3;
		ws_mask(mem, sizeof(mem), 0x80ff7f81, 3);
		assert_int_equal(ws_mask(mem, sizeof(mem), 0x80ff7f81, 3),
		    at == sizeof(mem));
	}
	assert_true(ws_mask(mem, 0, 1, 0));
}

static void
test_codes(void **state)
{
	(void)state;
	for (unsigned code = 0; code <= UINT16_MAX; code++) {
		bool ok = (code >= 1000 && code <= 1003) ||
		    (code >= 1007 && code <= 1014) ||
		    (code >= 3000 && code <= 4999);
		assert_int_equal(ws_code_valid((uint16_t)code), ok);
	}
}

static void
put(struct wstail **t, enum ws_opcode opcode, uint8_t fill, size_t n, int want)
{
	uint8_t frame[WSTAIL_FRAME_MAX];

	memset(frame, fill, n);
	assert_int_equal(
	    wstail_put(t, opcode, (struct slice){ frame, n }), want);
}

/* A flood of pongs keeps the first few and the latest; a close still fits. */
static void
test_tail_flood(void **state)
{
	struct wstail *t = NULL;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		put(&t, WS_PONG, (uint8_t)i, 120, 0);
	put(&t, WS_PING, 'p', 120, ERR_FULL);
	put(&t, WS_CLOSE, 'c', WSTAIL_FRAME_MAX, 0);
	struct slice s = wstail_peek(t);
	assert_int_equal(s.len, 4 * 120 + WSTAIL_FRAME_MAX);
	assert_int_equal(s.ptr[0], 0);
	assert_int_equal(s.ptr[2 * 120], 2);
	assert_int_equal(s.ptr[3 * 120], 99);
	assert_int_equal(s.ptr[4 * 120], 'c');
	wstail_eat(&t, s.len - 1);
	assert_int_equal(wstail_peek(t).len, 1);
	assert_true(wstail_memory(t) > 0);
	wstail_eat(&t, 1);
	assert_null(t);
	assert_int_equal(wstail_peek(t).len, 0);
}

/* A pong that is half written is never replaced. */
static void
test_tail_begun(void **state)
{
	struct wstail *t = NULL;

	(void)state;
	put(&t, WS_PONG, 'a', 120, 0);
	wstail_eat(&t, 1);
	for (unsigned i = 0; i < 10; i++)
		put(&t, WS_PONG, 'b', 131, 0);
	struct slice s = wstail_peek(t);
	assert_int_equal(s.ptr[0], 'a');
	assert_int_equal(s.ptr[118], 'a');
	assert_int_equal(s.ptr[119], 'b');
	assert_int_equal(s.len, 119 + 2 * 131);
	/* With the newest begun there is nothing to replace. */
	wstail_eat(&t, 119 + 131 + 1);
	put(&t, WS_PONG, 'c', 131, 0);
	put(&t, WS_PONG, 'd', 131, 0);
	s = wstail_peek(t);
	assert_int_equal(s.ptr[0], 'b');
	assert_int_equal(s.ptr[130], 'c');
	assert_int_equal(s.ptr[261], 'd');
	wstail_free(t);
}

static void
test_tail_memory(void **state)
{
	struct wstail *t = NULL;

	(void)state;
	oom_fail_at(1);
	put(&t, WS_PONG, 'a', 2, ERR_NOMEM);
	assert_true(oom_happened());
	assert_null(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_first_bytes),
		cmocka_unit_test(test_mask),
		cmocka_unit_test(test_mask_ascii),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_tail_flood),
		cmocka_unit_test(test_tail_begun),
		cmocka_unit_test(test_tail_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
