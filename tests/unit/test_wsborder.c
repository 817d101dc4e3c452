#include "wire/wsborder.h"

#include "support/guard.h"
#include "support/unit.h"

static const uint8_t token[WSBORDER_TOKEN] = { 'm', 'u', 's', 't', 'e', 'r', 1,
	2 };

/* All that was passed on. */
struct out {
	uint8_t bytes[1 << 18];
	size_t len;
};
static struct out out;

static void
feed(struct wsborder *b, struct slice in)
{
	struct slice pass;

	while (wsborder_next(b, &in, &pass)) {
		assert_true(pass.len > 0);
		assert_true(out.len + pass.len <= sizeof(out.bytes));
		memcpy(out.bytes + out.len, pass.ptr, pass.len);
		out.len += pass.len;
	}
	assert_int_equal(in.len, 0);
}

/* In pieces of a size, each at a guard page. */
static void
feed_cut(struct wsborder *b, struct slice in, size_t step)
{
	out.len = 0;
	for (; in.len > 0; in = slice_from_at(in, step)) {
		struct slice piece = guard_copy(slice_first(in, step));
		feed(b, piece);
		guard_free(piece);
	}
}

static size_t
put(uint8_t *at, int first, const char *mask, struct slice payload)
{
	struct ws_head h = { .len = payload.len,
		.opcode = (uint8_t)(first & 15),
		.fin = (first & 0x80) != 0,
		.rsv1 = (first & 0x40) != 0,
		.masked = mask != NULL };

	if (mask != NULL)
		memcpy(&h.mask, mask, 4);
	size_t n = ws_encode_head(at, &h);
	if (payload.len > 0)
		memcpy(at + n, payload.ptr, payload.len);
	if (mask != NULL)
		ws_mask(at + n, payload.len, h.mask, 0);
	return n + payload.len;
}

static void
test_counts(void **state)
{
	static uint8_t text[200000], big[70000];
	size_t n = 0;

	(void)state;
	for (int side = 0; side < 2; side++) {
		const char *mask = side == 0 ? NULL : "\x01\x02\x03\x04";
		n = put(text, 0x01, mask, SL("Hel"));
		n += put(text + n, 0x89, mask, SL("ping"));
		n += put(text + n, 0x80, mask, SL("lo"));
		n += put(text + n, 0xc2, mask, (struct slice){ big, 300 });
		n += put(
		    text + n, 0x82, mask, (struct slice){ big, sizeof(big) });
		n += put(text + n, 0x8a, mask, SL(""));
		n += put(text + n, 0x88, mask,
		    SL("\x03\xe9"
		       "bye"));
		for (size_t step = 1; step < 100000; step *= 3) {
			struct wsborder b;
			wsborder_init(&b, token);
			feed_cut(&b, (struct slice){ text, n }, step);
			assert_slice(((struct slice){ out.bytes, out.len }),
			    ((struct slice){ text, n }));
			assert_int_equal(b.messages, 3);
			assert_int_equal(b.bytes, 5 + 300 + sizeof(big));
			assert_int_equal(b.message, sizeof(big));
			assert_int_equal(b.frames, 7);
			assert_true(b.closed);
			assert_int_equal(b.code, 1001);
			assert_slice(((struct slice){ b.reason, b.reason_len }),
			    SL("bye"));
			assert_false(wsborder_open(&b));
		}
	}
}

/* After every byte: open between frames, and nowhere else. */
static void
test_borders(void **state)
{
	uint8_t text[1000], big[300] = { 0 };
	size_t ends[5], n = 0;
	struct wsborder b;

	(void)state;
	ends[0] = n = put(text, 0x01, NULL, SL("Hel"));
	ends[1] = n += put(text + n, 0x89, NULL, SL(""));
	ends[2] = n += put(text + n, 0x80, "abcd", SL("lo"));
	ends[3] = n += put(text + n, 0x82, NULL, (struct slice){ big, 300 });
	ends[4] = n + 2 + 1;
	n += put(text + n, 0x88, NULL, SL(""));
	wsborder_init(&b, token);
	assert_true(wsborder_open(&b));
	for (size_t at = 0, next = 0; at < n; at++) {
		feed(&b, (struct slice){ text + at, 1 });
		if (at + 1 == ends[next]) {
			assert_true(wsborder_open(&b));
			next++;
		} else {
			assert_false(wsborder_open(&b));
		}
	}
	assert_true(b.closed);
	assert_int_equal(b.code, WS_CODE_NONE);
}

/* A browser among its own frames: ours is eaten, others are not. */
static void
test_pong(void **state)
{
	uint8_t text[1000], want[1000], ping[WSBORDER_PING];
	size_t n = 0, w = 0;
	struct slice ours = { token, sizeof(token) };

	(void)state;
	n += put(text + n, 0x81, "abcd", SL("one"));
	n += put(text + n, 0x8a, "efgh", SL("notours!"));
	n += put(text + n, 0x8a, "efgh", SL("other"));
	memcpy(want, text, n);
	w = n;
	n += put(text + n, 0x8a, "ijkl", ours);
	size_t from = n;
	n += put(text + n, 0x81, "mnop", SL("two"));
	/* A second one is the service's own affair. */
	n += put(text + n, 0x8a, "ijkl", ours);
	memcpy(want + w, text + from, n - from);
	w += n - from;
	for (size_t step = 1; step <= n; step++) {
		struct wsborder b;
		wsborder_init(&b, token);
		wsborder_ping(&b, ping);
		assert_slice(((struct slice){ ping, sizeof(ping) }),
		    SL("\x89\x08muster\x01\x02"));
		feed_cut(&b, (struct slice){ text, n }, step);
		assert_slice(((struct slice){ out.bytes, out.len }),
		    ((struct slice){ want, w }));
		assert_int_equal(b.pongs, 1);
		assert_int_equal(b.waiting, 0);
		assert_int_equal(b.frames, 5);
		assert_int_equal(b.messages, 2);
		assert_true(wsborder_open(&b));
	}
	/* Unasked, nothing is eaten. */
	struct wsborder b;
	wsborder_init(&b, token);
	feed_cut(&b, (struct slice){ text, n }, 7);
	assert_slice(((struct slice){ out.bytes, out.len }),
	    ((struct slice){ text, n }));
	/* Empty ones are seen to be another's with their second byte. */
	wsborder_init(&b, token);
	wsborder_ping(&b, ping);
	feed_cut(&b, SL("\x8a\x00\x8a\x00"), 2);
	assert_int_equal(out.len, 4);
	assert_int_equal(b.frames, 2);
	assert_true(wsborder_open(&b));
	wsborder_init(&b, token);
	/* Fragmented, or too long a form: no pong of anybody's. */
	wsborder_ping(&b, ping);
	n = put(text, 0x0a, "abcd", ours);
	feed_cut(&b, (struct slice){ text, n }, 1);
	assert_int_equal(out.len, n);
	assert_int_equal(b.waiting, 1);
}

static void
test_odd(void **state)
{
	static const uint8_t huge[] = { 0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0,
		1, 2, 3, 4, 5 };
	uint8_t longest[WS_HEAD_MAX + WS_CONTROL_MAX] = { 0x88, 0xff, 0, 0, 0,
		0, 0, 0, 0, WS_CONTROL_MAX };
	uint8_t text[400], big[200] = { 0 };
	struct wsborder b;

	(void)state;
	/* A length that is none: all passes, nothing is put in. */
	for (size_t step = 1; step <= sizeof(huge); step++) {
		wsborder_init(&b, token);
		feed_cut(&b, (struct slice){ huge, sizeof(huge) }, step);
		assert_int_equal(out.len, sizeof(huge));
		assert_true(b.lost);
		assert_false(wsborder_open(&b));
		assert_int_equal(b.messages, 0);
	}
	/* Its length in the longest form is not the sender's right; it is
	 * followed all the same. */
	wsborder_init(&b, token);
	feed_cut(&b, (struct slice){ longest, sizeof(longest) }, 1);
	assert_int_equal(out.len, sizeof(longest));
	assert_int_equal(b.code, 0);
	assert_int_equal(b.reason_len, WS_CONTROL_MAX - 2);
	/* A close of one byte, and one that is too long: no code. */
	wsborder_init(&b, token);
	feed_cut(&b, (struct slice){ text, put(text, 0x88, NULL, SL("x")) }, 1);
	assert_int_equal(b.code, WS_CODE_NONE);
	wsborder_init(&b, token);
	feed_cut(&b,
	    (struct slice){
		text, put(text, 0x88, NULL, (struct slice){ big, 200 }) },
	    3);
	assert_true(b.closed);
	assert_int_equal(b.code, WS_CODE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_pong),
		cmocka_unit_test(test_odd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
