#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/be.h"
#include "wire/yamux.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

enum { DATA, WINDOW, PING, GOAWAY };
enum { SYN = 1, ACK = 2, FIN = 4, RST = 8 };

static uint32_t seed;

static uint32_t
chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static size_t
put(uint8_t *out, uint8_t type, uint16_t flags, uint32_t id, uint32_t len)
{
	out[0] = 0;
	out[1] = type;
	be_put16(out + 2, flags);
	be_put32(out + 4, id);
	be_put32(out + 8, len);
	return YAMUX_HEAD;
}

/* One machine, fed by hand ------------------------------------------------ */

static void
feed_frame(
    struct yamux *y, uint8_t type, uint16_t flags, uint32_t id, uint32_t len)
{
	static uint8_t head[YAMUX_HEAD];

	put(head, type, flags, id, len);
	yamux_feed(y, (struct slice){ head, sizeof(head) }, 0);
}

static void
feed_zeros(struct yamux *y, size_t n)
{
	static const uint8_t zeros[8 << 20];

	assert_true(n <= sizeof(zeros));
	yamux_feed(y, (struct slice){ zeros, n }, 0);
}

static struct yamux_event
expect(struct yamux *y, enum yamux_event_kind kind)
{
	struct yamux_event ev;

	if (!yamux_next(y, &ev))
		fail_msg("no event, wanted %d", kind);
	assert_int_equal(ev.kind, kind);
	return ev;
}

static void
expect_none(struct yamux *y)
{
	struct yamux_event ev;

	assert_false(yamux_next(y, &ev));
}

/* The next control frame to be written is exactly this. */
static void
expect_frame(
    struct yamux *y, uint8_t type, uint16_t flags, uint32_t id, uint32_t len)
{
	uint8_t want[YAMUX_HEAD];
	struct slice out = yamux_out(y);

	put(want, type, flags, id, len);
	assert_true(out.len >= YAMUX_HEAD);
	assert_memory_equal(out.ptr, want, YAMUX_HEAD);
	yamux_sent(y, YAMUX_HEAD);
	/* What is left was shown and must be drained before data. */
}

static void
expect_silence(struct yamux *y)
{
	assert_false(yamux_has_out(y));
	assert_int_equal(yamux_out(y).len, 0);
}

static void
start(struct yamux *y, enum yamux_role role)
{
	struct yamux_config c = yamux_defaults;

	c.keepalive = 0;
	yamux_init(y, role, &c, 0);
}

/* The session fails with err and says so to the peer. */
static void
expect_failure(struct yamux *y, int err, uint32_t code)
{
	struct yamux_event ev = expect(y, YAMUX_ERROR);

	assert_int_equal(ev.err, err);
	expect_none(y);
	expect_frame(y, GOAWAY, 0, 0, code);
	expect_silence(y);
	feed_zeros(y, 100);
	expect_none(y);
	assert_int_equal(yamux_error(y), err);
	assert_int_equal(yamux_open(y, NULL, &(uint32_t){ 0 }), ERR_CLOSED);
	assert_int_equal(yamux_ping(y, 0), ERR_CLOSED);
	assert_true(yamux_deadline(y) == INT64_MAX);
	yamux_fini(y);
}

static void
test_opening(void **state)
{
	struct yamux y;
	uint32_t a, b;
	int user;
	uint8_t head[YAMUX_HEAD], want[YAMUX_HEAD];

	(void)state;
	start(&y, YAMUX_CLIENT);
	assert_int_equal(yamux_open(&y, &user, &a), 0);
	assert_int_equal(yamux_open(&y, NULL, &b), 0);
	assert_int_equal(a, 1);
	assert_int_equal(b, 3);
	assert_ptr_equal(yamux_user(&y, a), &user);
	/* Data may carry the SYN; the other goes by itself. */
	assert_int_equal(yamux_put_head(&y, b, 5, head), 0);
	put(want, DATA, SYN, b, 5);
	assert_memory_equal(head, want, YAMUX_HEAD);
	assert_int_equal(yamux_window(&y, b), YAMUX_WINDOW - 5);
	expect_frame(&y, WINDOW, SYN, a, 0);
	expect_silence(&y);
	feed_frame(&y, WINDOW, ACK, a, 1000);
	assert_ptr_equal(expect(&y, YAMUX_ACKED).user, &user);
	expect_none(&y);
	assert_int_equal(yamux_window(&y, a), YAMUX_WINDOW + 1000);
	feed_frame(&y, DATA, ACK, b, 2);
	expect(&y, YAMUX_ACKED);
	expect_none(&y);
	feed_zeros(&y, 2);
	assert_int_equal(expect(&y, YAMUX_DATA).data.len, 2);
	feed_frame(&y, WINDOW, ACK, b, 0); /* again: nothing */
	expect_none(&y);
	yamux_fini(&y);
}

static void
test_accepting(void **state)
{
	struct yamux y;
	int user;
	uint8_t head[YAMUX_HEAD];

	(void)state;
	start(&y, YAMUX_SERVER);
	feed_frame(&y, DATA, SYN | FIN, 7, 3);
	assert_int_equal(expect(&y, YAMUX_OPENED).id, 7);
	expect_none(&y);
	assert_int_equal(yamux_accept(&y, 7, &user), 0);
	assert_int_equal(yamux_accept(&y, 9, &user), ERR_GONE);
	feed_zeros(&y, 3);
	struct yamux_event ev = expect(&y, YAMUX_DATA);
	assert_int_equal(ev.data.len, 3);
	assert_ptr_equal(ev.user, &user);
	expect(&y, YAMUX_FIN);
	expect_none(&y);
	/* The ACK goes with data, FIN by itself. */
	assert_int_equal(yamux_put_head(&y, 7, 4, head), 0);
	assert_int_equal(be_get16(head + 2), ACK);
	assert_int_equal(yamux_finish(&y, 7), 0);
	assert_int_equal(yamux_put_head(&y, 7, 4, head), ERR_WRONG_STATE);
	assert_int_equal(yamux_finish(&y, 7), ERR_WRONG_STATE);
	expect_frame(&y, WINDOW, FIN, 7, 0);
	assert_int_equal(y.streams.count, 1); /* held */
	yamux_consume(&y, 7, 3, 0);
	assert_int_equal(y.streams.count, 0);
	assert_int_equal(y.held, 0);
	expect_silence(&y);
	assert_int_equal(yamux_finish(&y, 7), ERR_GONE);
	assert_int_equal(yamux_put_head(&y, 7, 1, head), ERR_GONE);
	assert_int_equal(yamux_window(&y, 7), 0);
	assert_null(yamux_user(&y, 7));
	yamux_consume(&y, 7, 3, 0);
	yamux_reset(&y, 7);
	expect_silence(&y);
	yamux_fini(&y);
}

/* Ids out of order are fine; wrong parity, zero and duplicates are not. */
static void
test_bad_syn(void **state)
{
	static const uint32_t bad[] = { 0, 2, 5 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct yamux y;
		start(&y, YAMUX_SERVER);
		feed_frame(&y, WINDOW, SYN, 5, 0);
		expect(&y, YAMUX_OPENED);
		expect_none(&y);
		feed_frame(&y, WINDOW, SYN, 3, 0);
		expect(&y, YAMUX_OPENED);
		expect_none(&y);
		feed_frame(&y, WINDOW, SYN, bad[i], 0);
		expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
	}
}

static void
test_bad_frames(void **state)
{
	struct yamux y;
	uint8_t head[YAMUX_HEAD];

	(void)state;
	for (int version = 1; version < 256; version++) {
		start(&y, YAMUX_SERVER);
		put(head, PING, SYN, 0, 0);
		head[0] = (uint8_t)version;
		yamux_feed(&y, (struct slice){ head, sizeof(head) }, 0);
		expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
	}
	for (int type = 4; type < 256; type++) {
		start(&y, YAMUX_SERVER);
		feed_frame(&y, (uint8_t)type, 0, 0, 0);
		expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
	}
	start(&y, YAMUX_SERVER);
	feed_frame(&y, DATA, 0, 0, 5);
	expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
}

static void
test_unknown_streams(void **state)
{
	struct yamux y;

	(void)state;
	start(&y, YAMUX_SERVER);
	/* Never opened: told so, once per frame, data skipped. */
	feed_frame(&y, DATA, 0, 9, 300000);
	expect_none(&y);
	feed_zeros(&y, 300000);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 9, 0);
	feed_frame(&y, WINDOW, RST, 9, 0);
	expect_none(&y);
	feed_frame(&y, WINDOW, SYN | RST, 9, 0);
	expect_none(&y);
	expect_silence(&y);
	/* Reset by us: late frames mean nothing. */
	feed_frame(&y, WINDOW, SYN, 9, 0);
	expect(&y, YAMUX_OPENED);
	expect_none(&y);
	yamux_reset(&y, 9);
	expect_frame(&y, WINDOW, RST, 9, 0);
	feed_frame(&y, DATA, FIN, 9, 4);
	expect_none(&y);
	feed_zeros(&y, 4);
	expect_none(&y);
	feed_frame(&y, WINDOW, 0, 7, 4);
	expect_none(&y);
	expect_silence(&y);
	/* A flood of them is not answered without end. */
	for (uint32_t i = 0; i < 1000; i++) {
		feed_frame(&y, WINDOW, FIN, 1001 + 2 * i, 0);
		expect_none(&y);
	}
	assert_int_equal(yamux_out(&y).len, 64 * YAMUX_HEAD);
	yamux_fini(&y);
}

static void
test_reset_by_peer(void **state)
{
	struct yamux y;
	uint32_t id;
	int user;

	(void)state;
	start(&y, YAMUX_CLIENT);
	assert_int_equal(yamux_open(&y, &user, &id), 0);
	expect_frame(&y, WINDOW, SYN, 1, 0);
	feed_frame(&y, DATA, RST, id, 10);
	struct yamux_event ev = expect(&y, YAMUX_RST);
	assert_ptr_equal(ev.user, &user);
	assert_int_equal(ev.err, 0);
	feed_zeros(&y, 10);
	expect_none(&y);
	assert_int_equal(y.unacked, 0);
	assert_int_equal(y.streams.count, 0);
	/* Reset before the SYN left: the peer never hears of it. */
	assert_int_equal(yamux_open(&y, NULL, &id), 0);
	yamux_reset(&y, id);
	expect_silence(&y);
	yamux_fini(&y);
}

/* The owner resets the stream between two events of one frame. */
static void
test_reset_within_frame(void **state)
{
	struct yamux y;
	uint8_t bytes[YAMUX_HEAD + 8] = { 0 };

	(void)state;
	start(&y, YAMUX_SERVER);
	put(bytes, DATA, SYN | FIN, 1, 8);
	yamux_feed(&y, (struct slice){ bytes, sizeof(bytes) }, 0);
	expect(&y, YAMUX_OPENED);
	yamux_reset(&y, 1);
	expect_none(&y);
	put(bytes, DATA, SYN | FIN, 3, 8);
	yamux_feed(&y, (struct slice){ bytes, sizeof(bytes) - 4 }, 0);
	expect(&y, YAMUX_OPENED);
	expect(&y, YAMUX_DATA);
	yamux_reset(&y, 3);
	yamux_feed(&y, (struct slice){ bytes, 4 }, 0);
	expect_none(&y);
	assert_int_equal(y.left, 0);
	assert_int_equal(y.held, 0);
	yamux_fini(&y);
}

static void
test_half_close(void **state)
{
	struct yamux y;
	uint8_t head[YAMUX_HEAD];

	(void)state;
	start(&y, YAMUX_SERVER);
	feed_frame(&y, WINDOW, SYN, 1, 0);
	expect(&y, YAMUX_OPENED);
	expect_none(&y);
	yamux_accept(&y, 1, NULL);
	feed_frame(&y, WINDOW, FIN, 1, 0);
	expect(&y, YAMUX_FIN);
	feed_frame(&y, WINDOW, FIN, 1, 7); /* again: only its window counts */
	expect_none(&y);
	assert_int_equal(yamux_window(&y, 1), YAMUX_WINDOW + 7);
	assert_int_equal(yamux_put_head(&y, 1, 100, head), 0);
	assert_int_equal(yamux_finish(&y, 1), 0);
	assert_int_equal(yamux_put_head(&y, 1, 1, head), ERR_WRONG_STATE);
	assert_int_equal(yamux_window(&y, 1), 0);
	expect_frame(&y, WINDOW, FIN, 1, 0);
	assert_int_equal(y.streams.count, 0);
	/* The other way round: data still comes after our FIN. */
	feed_frame(&y, WINDOW, SYN, 3, 0);
	expect(&y, YAMUX_OPENED);
	expect_none(&y);
	yamux_accept(&y, 3, NULL);
	yamux_finish(&y, 3);
	expect_frame(&y, WINDOW, ACK | FIN, 3, 0);
	feed_frame(&y, DATA, 0, 3, 1);
	expect_none(&y);
	feed_zeros(&y, 1);
	expect(&y, YAMUX_DATA);
	/* Data after FIN ends this stream, not the session. */
	feed_frame(&y, WINDOW, SYN | FIN, 5, 0);
	expect(&y, YAMUX_OPENED);
	expect(&y, YAMUX_FIN);
	feed_frame(&y, DATA, 0, 5, 1);
	assert_int_equal(expect(&y, YAMUX_RST).err, ERR_PROTOCOL);
	feed_zeros(&y, 1);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 5, 0);
	assert_int_equal(y.streams.count, 1);
	yamux_fini(&y);
}

static void
test_send_window(void **state)
{
	struct yamux y;
	uint8_t head[YAMUX_HEAD];
	uint32_t id;

	(void)state;
	start(&y, YAMUX_CLIENT);
	assert_int_equal(yamux_open(&y, NULL, &id), 0);
	assert_int_equal(
	    yamux_put_head(&y, id, YAMUX_WINDOW + 1, head), ERR_FULL);
	assert_int_equal(yamux_put_head(&y, id, YAMUX_WINDOW, head), 0);
	assert_int_equal(yamux_put_head(&y, id, 1, head), ERR_FULL);
	assert_int_equal(yamux_put_head(&y, id, 0, head), 0);
	feed_frame(&y, WINDOW, ACK, id, 0);
	expect(&y, YAMUX_ACKED);
	expect_none(&y);
	feed_frame(&y, WINDOW, 0, id, 1);
	assert_int_equal(expect(&y, YAMUX_WRITABLE).id, id);
	feed_frame(&y, WINDOW, 0, id, UINT32_MAX - 1);
	expect_none(&y);
	assert_true(yamux_window(&y, id) == UINT32_MAX);
	feed_frame(&y, WINDOW, 0, id, 1);
	expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
}

static void
open_theirs(struct yamux *y, uint32_t id)
{
	feed_frame(y, WINDOW, SYN, id, 0);
	expect(y, YAMUX_OPENED);
	expect_none(y);
	yamux_accept(y, id, NULL);
	expect_frame(y, WINDOW, ACK, id, 0);
}

static void
receive(struct yamux *y, uint32_t id, uint32_t n)
{
	feed_frame(y, DATA, 0, id, n);
	expect_none(y);
	feed_zeros(y, n);
	expect(y, YAMUX_DATA);
	expect_none(y);
}

static void
test_receive_window(void **state)
{
	struct yamux y;

	(void)state;
	start(&y, YAMUX_SERVER);
	open_theirs(&y, 1);
	receive(&y, 1, YAMUX_WINDOW);
	yamux_consume(&y, 1, YAMUX_WINDOW / 2 - 1, 0);
	expect_silence(&y);
	yamux_consume(&y, 1, 1, 0);
	yamux_consume(&y, 1, 1000, 0); /* one frame for both */
	expect_frame(&y, WINDOW, 0, 1, YAMUX_WINDOW / 2 + 1000);
	expect_silence(&y);
	receive(&y, 1, YAMUX_WINDOW / 2 + 1000);
	feed_frame(&y, DATA, 0, 1, 1);
	expect_failure(&y, ERR_PROTOCOL, YAMUX_PROTOCOL_ERROR);
}

/* No grants to a peer that has ended its direction. */
static void
test_no_grant_after_fin(void **state)
{
	struct yamux y;

	(void)state;
	start(&y, YAMUX_SERVER);
	open_theirs(&y, 1);
	receive(&y, 1, YAMUX_WINDOW);
	yamux_consume(&y, 1, YAMUX_WINDOW / 2, 0);
	feed_frame(&y, WINDOW, FIN, 1, 0);
	expect(&y, YAMUX_FIN);
	assert_int_equal(yamux_out(&y).len, 0);
	yamux_consume(&y, 1, YAMUX_WINDOW / 2, 0);
	expect_silence(&y);
	yamux_fini(&y);
}

/* Drain a stream as fast as the peer fills it; the windows granted. */
static uint32_t
drain(struct yamux *y, uint32_t id, uint32_t credit, msec now)
{
	receive(y, id, credit);
	yamux_consume(y, id, credit, now);
	struct slice out = yamux_out(y);
	assert_int_equal(out.len, YAMUX_HEAD);
	uint32_t grant = be_get32(out.ptr + 8);
	yamux_sent(y, out.len);
	return grant;
}

static void
test_growth(void **state)
{
	struct yamux_config c = yamux_defaults;
	struct yamux y;
	uint32_t window = YAMUX_WINDOW;

	(void)state;
	c.growth_max = 6 << 20;
	yamux_init(&y, YAMUX_SERVER, &c, 0);
	open_theirs(&y, 1);
	open_theirs(&y, 3);
	/* No round trip known: no growth. */
	assert_int_equal(drain(&y, 1, window, 1), YAMUX_WINDOW);
	yamux_expire(&y, 0);
	expect_frame(&y, PING, SYN, 0, 1);
	uint8_t head[YAMUX_HEAD];
	put(head, PING, ACK, 0, 1);
	yamux_feed(&y, (struct slice){ head, sizeof(head) }, 50);
	assert_int_equal(expect(&y, YAMUX_PONG).rtt, 50);
	expect_none(&y);
	/* Too slow, then quick, up to the largest window. */
	assert_int_equal(drain(&y, 1, window, 102), YAMUX_WINDOW);
	for (uint32_t next = window * 2; next <= 4 << 20; next *= 2) {
		window = drain(&y, 1, window, 202);
		assert_int_equal(window, next);
	}
	assert_int_equal(drain(&y, 1, window, 202), 4 << 20);
	assert_int_equal(y.growth, (4 << 20) - YAMUX_WINDOW);
	/* What is left of the session's growth: 2 MiB and a bit. */
	uint32_t other = YAMUX_WINDOW;
	for (int i = 0; i < 6; i++)
		other = drain(&y, 3, other, 60);
	assert_int_equal(other, 2 << 20);
	assert_true(y.growth <= c.growth_max);
	yamux_reset(&y, 1);
	assert_int_equal(y.growth, (2 << 20) - YAMUX_WINDOW);
	yamux_fini(&y);
}

static void
test_backlogs(void **state)
{
	struct yamux y;
	uint32_t id;

	(void)state;
	start(&y, YAMUX_SERVER);
	for (uint32_t i = 0; i < 256; i++) {
		feed_frame(&y, WINDOW, SYN, 1 + 2 * i, 0);
		expect(&y, YAMUX_OPENED);
		expect_none(&y);
		assert_int_equal(yamux_open(&y, NULL, &id), 0);
	}
	feed_frame(&y, DATA, SYN, 513, 5);
	expect_none(&y);
	feed_zeros(&y, 5);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 513, 0);
	assert_int_equal(yamux_open(&y, NULL, &id), ERR_BUSY);
	yamux_accept(&y, 1, NULL);
	feed_frame(&y, WINDOW, SYN, 513, 0);
	expect(&y, YAMUX_OPENED);
	expect_none(&y);
	feed_frame(&y, WINDOW, RST, 2, 0); /* a refusal frees a place too */
	expect(&y, YAMUX_RST);
	expect_none(&y);
	assert_int_equal(yamux_open(&y, NULL, &id), 0);
	assert_int_equal(yamux_open(&y, NULL, &id), ERR_BUSY);
	yamux_fini(&y);
}

static void
test_stream_caps(void **state)
{
	struct yamux_config c = yamux_defaults;
	struct yamux y;
	uint32_t id;

	(void)state;
	c.streams_max = 2;
	yamux_init(&y, YAMUX_SERVER, &c, 0);
	for (uint32_t i = 0; i < 2; i++) {
		open_theirs(&y, 1 + 2 * i);
		assert_int_equal(yamux_open(&y, NULL, &id), 0);
		expect_frame(&y, WINDOW, SYN, id, 0);
	}
	assert_int_equal(yamux_open(&y, NULL, &id), ERR_FULL);
	feed_frame(&y, WINDOW, SYN, 5, 0);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 5, 0);
	yamux_reset(&y, 1);
	expect_frame(&y, WINDOW, RST, 1, 0);
	open_theirs(&y, 5);
	yamux_fini(&y);
}

static void
test_ids_run_out(void **state)
{
	struct yamux y;
	uint32_t id;

	(void)state;
	start(&y, YAMUX_CLIENT);
	y.next_id = UINT32_MAX - 4;
	assert_int_equal(yamux_open(&y, NULL, &id), 0);
	assert_true(id == UINT32_MAX - 4);
	assert_int_equal(yamux_open(&y, NULL, &id), 0);
	assert_int_equal(yamux_open(&y, NULL, &id), ERR_RANGE);
	yamux_fini(&y);
}

/* A session that holds too much ends the streams that hoard. */
static void
test_hoarding(void **state)
{
	struct yamux_config c = yamux_defaults;
	struct yamux y;

	(void)state;
	c.held_max = 1 << 20;
	c.streams_max = 8; /* a share of 64 KiB */
	yamux_init(&y, YAMUX_SERVER, &c, 0);
	for (uint32_t i = 0; i < 6; i++)
		open_theirs(&y, 1 + 2 * i);
	for (uint32_t i = 0; i < 4; i++)
		receive(&y, 1 + 2 * i, YAMUX_WINDOW);
	receive(&y, 9, 64 << 10);
	assert_int_equal(y.held, (1 << 20) + (64 << 10));
	feed_frame(&y, DATA, 0, 9, 1);
	expect_none(&y);
	feed_zeros(&y, 1);
	struct yamux_event ev = expect(&y, YAMUX_RST);
	assert_int_equal(ev.id, 9);
	assert_int_equal(ev.err, ERR_LIMITED);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 9, 0);
	assert_int_equal(y.held, 1 << 20);
	receive(&y, 11, 100); /* small ones live on */
	yamux_fini(&y);
}

static void
test_pings(void **state)
{
	struct yamux y;

	(void)state;
	start(&y, YAMUX_SERVER);
	feed_frame(&y, PING, SYN, 0, 0xdeadbeef);
	expect_none(&y);
	expect_frame(&y, PING, ACK, 0, 0xdeadbeef);
	feed_frame(&y, PING, ACK, 0, 1); /* never asked */
	expect_none(&y);
	assert_int_equal(yamux_ping(&y, 5), 0);
	assert_int_equal(yamux_ping(&y, 6), ERR_BUSY);
	expect_frame(&y, PING, SYN, 0, 1);
	feed_frame(&y, PING, ACK, 0, 2);
	expect_none(&y);
	uint8_t head[YAMUX_HEAD];
	put(head, PING, ACK, 0, 1);
	yamux_feed(&y, (struct slice){ head, sizeof(head) }, 25);
	assert_int_equal(expect(&y, YAMUX_PONG).rtt, 20);
	expect_none(&y);
	assert_int_equal(yamux_ping(&y, 6), 0);
	/* Never drained by us or them: the session ends, bounded. */
	while (yamux_error(&y) == 0) {
		feed_frame(&y, PING, SYN, 0, 7);
		if (yamux_error(&y) == 0)
			yamux_next(&y, &(struct yamux_event){ 0 });
		assert_true(y.out.alloc <= y.out.cap);
		assert_true(y.out.tail - y.out.head <= y.out.cap);
	}
	assert_int_equal(yamux_error(&y), ERR_LIMITED);
	struct slice out = yamux_out(&y);
	put(head, GOAWAY, 0, 0, YAMUX_PROTOCOL_ERROR);
	assert_memory_equal(out.ptr + out.len - YAMUX_HEAD, head, YAMUX_HEAD);
	yamux_sent(&y, out.len);
	assert_int_equal(y.out.alloc, 0);
	yamux_fini(&y);
}

static void
test_keepalive(void **state)
{
	struct yamux y;
	uint8_t head[YAMUX_HEAD];

	(void)state;
	yamux_init(&y, YAMUX_SERVER, &yamux_defaults, 1000);
	assert_int_equal(yamux_deadline(&y), 1000); /* learn the round trip */
	yamux_expire(&y, 999);
	expect_silence(&y);
	yamux_expire(&y, 1000);
	expect_frame(&y, PING, SYN, 0, 1);
	assert_int_equal(yamux_deadline(&y), 31000);
	put(head, PING, ACK, 0, 1);
	yamux_feed(&y, (struct slice){ head, sizeof(head) }, 1010);
	expect(&y, YAMUX_PONG);
	expect_none(&y);
	assert_int_equal(yamux_deadline(&y), 31000); /* the next ping */
	yamux_expire(&y, 31000);
	expect_frame(&y, PING, SYN, 0, 2);
	/* Any byte postpones death. */
	yamux_feed(&y, (struct slice){ head, 1 }, 50000);
	expect_none(&y);
	assert_int_equal(yamux_deadline(&y), 80000);
	yamux_expire(&y, 79999);
	expect_none(&y);
	yamux_expire(&y, 80000);
	assert_int_equal(expect(&y, YAMUX_ERROR).err, ERR_TIMEOUT);
	expect_silence(&y);
	yamux_fini(&y);
}

static void
test_goaway(void **state)
{
	struct yamux y;
	uint32_t id;

	(void)state;
	start(&y, YAMUX_SERVER);
	open_theirs(&y, 1);
	feed_frame(&y, GOAWAY, 0, 0, YAMUX_NORMAL);
	assert_int_equal(expect(&y, YAMUX_GOAWAY).code, YAMUX_NORMAL);
	expect_none(&y);
	assert_int_equal(yamux_open(&y, NULL, &id), ERR_CLOSED);
	receive(&y, 1, 5); /* what is open lives on */
	yamux_goaway(&y, YAMUX_NORMAL);
	yamux_goaway(&y, YAMUX_NORMAL);
	expect_frame(&y, GOAWAY, 0, 0, YAMUX_NORMAL);
	expect_silence(&y);
	feed_frame(&y, WINDOW, SYN, 3, 0);
	expect_none(&y);
	expect_frame(&y, WINDOW, RST, 3, 0);
	for (uint32_t code = 1; code < 4; code++) {
		struct yamux z;
		start(&z, YAMUX_CLIENT);
		feed_frame(&z, GOAWAY, 0, 0, code);
		assert_int_equal(expect(&z, YAMUX_GOAWAY).code, code);
		assert_int_equal(expect(&z, YAMUX_ERROR).err, ERR_CLOSED);
		expect_none(&z);
		expect_silence(&z);
		yamux_fini(&z);
	}
	yamux_goaway(&y, YAMUX_INTERNAL_ERROR);
	assert_int_equal(expect(&y, YAMUX_ERROR).err, ERR_CLOSED);
	expect_frame(&y, GOAWAY, 0, 0, YAMUX_INTERNAL_ERROR);
	expect_silence(&y);
	yamux_fini(&y);
}

/* Two machines, a model of each stream ------------------------------------ */

enum { LANES = 40 };

/* One direction of one stream, as it ought to be. */
struct way {
	uint32_t sent, got, used;
	bool fin_sent, fin_got;
};

struct lane {
	uint32_t id;
	bool gone[2];      /* by reset, as each side knows */
	struct way way[2]; /* by the side that sends */
};

struct link {
	struct yamux y[2];
	struct buf wire[2]; /* from the side, written and on its way */
	struct lane lanes[LANES];
	size_t count;
	msec now;
	bool may_reset;
};

static uint8_t
pattern(uint32_t id, int side, uint32_t at)
{
	return (uint8_t)((at * 7 + id * 31 + (uint32_t)side * 101) ^ (at >> 8));
}

static struct lane *
lane_of(struct link *l, uint32_t id)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->lanes[i].id == id)
			return &l->lanes[i];
	fail_msg("no stream %u", id);
	return NULL;
}

static void
take_event(struct link *l, int side, const struct yamux_event *ev)
{
	struct lane *ln = lane_of(l, ev->id);
	struct way *w = &ln->way[!side];

	assert_ptr_equal(
	    ev->user, ev->kind == YAMUX_OPENED ? NULL : (void *)ln);
	assert_false(ln->gone[side]);
	if (ev->kind == YAMUX_OPENED) {
		assert_int_equal(yamux_accept(&l->y[side], ev->id, ln), 0);
	} else if (ev->kind == YAMUX_DATA) {
		assert_false(w->fin_got);
		for (size_t i = 0; i < ev->data.len; i++)
			if (ev->data.ptr[i] !=
			    pattern(ev->id, !side, w->got + (uint32_t)i))
				fail_msg("byte %zu", i);
		w->got += (uint32_t)ev->data.len;
		assert_true(w->got <= w->sent);
	} else if (ev->kind == YAMUX_FIN) {
		assert_true(w->fin_sent && !w->fin_got);
		assert_int_equal(w->got, w->sent);
		w->fin_got = true;
	} else if (ev->kind == YAMUX_RST) {
		assert_true(ln->gone[!side]);
		ln->gone[side] = true;
	}
}

/* Let n bytes from a side arrive at the other. */
static void
deliver(struct link *l, int from, size_t n)
{
	struct yamux_event ev;
	struct slice in = guard_copy(slice_first(buf_peek(&l->wire[from]), n));

	yamux_feed(&l->y[!from], in, l->now);
	while (yamux_next(&l->y[!from], &ev))
		take_event(l, !from, &ev);
	assert_int_equal(yamux_error(&l->y[!from]), 0);
	buf_eat(&l->wire[from], in.len);
	guard_free(in);
}

static void
flush(struct link *l, int side)
{
	struct slice out;

	while ((out = yamux_out(&l->y[side])).len > 0) {
		out.len = 1 + chance((uint32_t)out.len);
		buf_put(&l->wire[side], out);
		yamux_sent(&l->y[side], out.len);
	}
}

static void
send_some(struct link *l, int side, struct lane *ln, uint32_t want)
{
	static uint8_t bytes[YAMUX_HEAD + YAMUX_FRAME_MAX];
	struct way *w = &ln->way[side];
	uint32_t n = yamux_window(&l->y[side], ln->id);
	bool fin = chance(50) == 0;

	if (ln->gone[side] || w->fin_sent ||
	    yamux_user(&l->y[side], ln->id) == NULL)
		return;
	n = n < want ? n : want;
	flush(l, side);
	assert_int_equal(yamux_put_head(&l->y[side], ln->id, n, bytes), 0);
	for (uint32_t i = 0; i < n; i++)
		bytes[YAMUX_HEAD + i] = pattern(ln->id, side, w->sent + i);
	buf_put(&l->wire[side], (struct slice){ bytes, YAMUX_HEAD + n });
	w->sent += n;
	if (fin)
		w->fin_sent = yamux_finish(&l->y[side], ln->id) == 0;
}

static void
use_some(struct link *l, int side, struct lane *ln, uint32_t most)
{
	struct way *w = &ln->way[!side];
	uint32_t n = w->got - w->used;

	if (ln->gone[side])
		return;
	n = n < most ? n : most;
	yamux_consume(&l->y[side], ln->id, n, l->now);
	w->used += n;
}

static void
open_lane(struct link *l, int side)
{
	struct lane *ln = &l->lanes[l->count];

	if (l->count == LANES)
		return;
	*ln = (struct lane){ 0 };
	assert_int_equal(yamux_open(&l->y[side], ln, &ln->id), 0);
	l->count++;
}

static void
act(struct link *l)
{
	int side = (int)chance(2);
	struct lane *ln =
	    l->count == 0 ? NULL : &l->lanes[chance((uint32_t)l->count)];
	uint32_t what = chance(100);

	l->now += chance(3);
	if (ln == NULL || what < 3)
		open_lane(l, side);
	else if (what < 40)
		send_some(l, side, ln, 1 + chance(YAMUX_FRAME_MAX));
	else if (what < 60)
		use_some(l, side, ln, 1 + chance(200000));
	else if (what < 62 && !ln->gone[side] && !ln->way[side].fin_sent)
		ln->way[side].fin_sent = yamux_finish(&l->y[side], ln->id) == 0;
	else if (what == 62 && l->may_reset &&
	    yamux_user(&l->y[side], ln->id) != NULL) {
		ln->gone[side] = true;
		yamux_reset(&l->y[side], ln->id);
	} else if (what < 70)
		flush(l, side);
	else
		deliver(l, side, chance(4) == 0 ? 1 + chance(30) : 40000);
}

/* Finish all; everything must arrive and every record go. */
static void
settle(struct link *l)
{
	for (size_t i = 0; i < l->count; i++)
		for (int side = 0; side < 2; side++)
			if (!l->lanes[i].gone[side] &&
			    !l->lanes[i].way[side].fin_sent)
				l->lanes[i].way[side].fin_sent =
				    yamux_finish(&l->y[side], l->lanes[i].id) ==
				    0;
	for (int turn = 0; turn < 6; turn++) {
		for (int side = 0; side < 2; side++) {
			flush(l, side);
			deliver(l, side, SIZE_MAX);
		}
		/* Streams that were accepted only now are finished now. */
		for (size_t i = 0; i < l->count; i++)
			for (int side = 0; side < 2; side++) {
				struct lane *ln = &l->lanes[i];
				struct way *w = &ln->way[side];
				use_some(l, side, ln, UINT32_MAX);
				if (!ln->gone[side] && !w->fin_sent)
					w->fin_sent = yamux_finish(&l->y[side],
							  ln->id) == 0;
			}
	}
	for (size_t i = 0; i < l->count && !l->may_reset; i++)
		for (int side = 0; side < 2; side++) {
			struct way *w = &l->lanes[i].way[side];
			assert_true(w->fin_got);
			assert_int_equal(w->got, w->sent);
		}
	for (int side = 0; side < 2; side++) {
		struct yamux *y = &l->y[side];
		assert_int_equal(y->streams.count, 0);
		assert_int_equal(y->held, 0);
		assert_int_equal(y->growth, 0);
		assert_int_equal(y->ours + y->theirs, 0);
		assert_int_equal(y->unacked + y->unaccepted, 0);
		assert_false(yamux_has_out(y));
	}
}

static void
run_model(uint32_t start_seed, bool may_reset)
{
	static struct link l;

	seed = start_seed;
	l = (struct link){ .may_reset = may_reset };
	for (int side = 0; side < 2; side++) {
		yamux_init(
		    &l.y[side], (enum yamux_role)side, &yamux_defaults, 0);
		l.y[side].rtt = 1; /* windows may grow from the start */
		l.y[side].config.keepalive = 0;
		buf_init(&l.wire[side], 256 << 20);
	}
	for (int step = 0; step < 4000; step++)
		act(&l);
	settle(&l);
	for (int side = 0; side < 2; side++) {
		yamux_fini(&l.y[side]);
		buf_fini(&l.wire[side]);
	}
}

static void
test_model(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= 10; i++)
		run_model(i, false);
	for (uint32_t i = 1; i <= 10; i++)
		run_model(i, true);
}

/* The same events however the bytes are cut. */
static void
test_every_cut(void **state)
{
	uint8_t bytes[6 * YAMUX_HEAD + 10] = { 0 };
	size_t n = 0;

	(void)state;
	n += put(bytes + n, DATA, SYN, 1, 4) + 4;
	n += put(bytes + n, PING, SYN, 0, 1);
	n += put(bytes + n, DATA, FIN, 1, 6) + 6;
	n += put(bytes + n, WINDOW, SYN, 3, 0);
	n += put(bytes + n, WINDOW, RST, 3, 0);
	n += put(bytes + n, GOAWAY, 0, 0, 0);
	for (size_t cut = 0; cut <= n; cut++) {
		char kinds[32] = "";
		size_t count = 0, data = 0;
		struct yamux y;
		struct yamux_event ev;
		start(&y, YAMUX_SERVER);
		for (int half = 0; half < 2; half++) {
			struct slice in = guard_copy(half == 0
				? (struct slice){ bytes, cut }
				: (struct slice){ bytes + cut, n - cut });
			yamux_feed(&y, in, 0);
			while (yamux_next(&y, &ev)) {
				if (ev.kind == YAMUX_DATA)
					data += ev.data.len;
				else
					kinds[count++] = "oawdfrpge"[ev.kind];
			}
			guard_free(in);
		}
		kinds[count] = '\0';
		assert_string_equal(kinds, "oforg");
		assert_int_equal(data, 10);
		expect_frame(&y, PING, ACK, 0, 1);
		yamux_fini(&y);
	}
}

static void
test_walk(void **state)
{
	struct yamux y;
	uint32_t id, sum = 0;
	size_t pos = 0;
	void *user;

	(void)state;
	start(&y, YAMUX_CLIENT);
	for (int i = 0; i < 100; i++)
		assert_int_equal(yamux_open(&y, &y, &id), 0);
	while (yamux_walk(&y, &pos, &id, &user)) {
		assert_ptr_equal(user, &y);
		sum += id;
	}
	assert_int_equal(sum, 100 * 100);
	yamux_fini(&y);
}

static void
test_idtable_model(void **state)
{
	static int in[300];
	struct idtable t;
	uint32_t count = 0;

	(void)state;
	seed = 9;
	idtable_init(&t, 0x1234567);
	for (int step = 0; step < 100000; step++) {
		/* Bursts up and down, ids that fall together. */
		uint32_t i = chance(300), id = i * 0x10000;
		bool up = (step / 2000) % 2 == 0;
		assert_ptr_equal(
		    idtable_get(&t, id), in[i] ? (void *)&in[i] : NULL);
		if (!in[i] && (up || chance(4) == 0)) {
			assert_int_equal(idtable_put(&t, id, &in[i]), 0);
			in[i] = 1;
			count++;
		} else if (in[i] && (!up || chance(4) == 0)) {
			idtable_del(&t, id);
			in[i] = 0;
			count--;
		}
		assert_int_equal(t.count, count);
		assert_true(count * 2 <= t.room || t.room == 0);
	}
	size_t pos = 0, seen = 0;
	for (int *v; (v = idtable_next(&t, &pos)) != NULL; seen++)
		assert_int_equal(*v, 1);
	assert_int_equal(seen, count);
	idtable_fini(&t);
}

/* Without memory streams are refused, or the session ends; nothing leaks. */
static void
work(void *arg)
{
	struct yamux y;
	struct yamux_event ev;
	uint32_t id;

	(void)arg;
	start(&y, YAMUX_SERVER);
	for (uint32_t i = 0; i < 40; i++) {
		feed_frame(&y, WINDOW, SYN, 1 + 2 * i, 0);
		while (yamux_next(&y, &ev))
			if (ev.kind == YAMUX_OPENED)
				assert_int_equal(
				    yamux_accept(&y, ev.id, NULL), 0);
		int rc = yamux_open(&y, NULL, &id);
		assert_true(rc == 0 || rc == ERR_NOMEM || rc == ERR_CLOSED);
		if (i % 8 == 7)
			yamux_sent(&y, yamux_out(&y).len);
		if (i % 3 == 0)
			yamux_reset(&y, 1 + i);
	}
	assert_true(yamux_error(&y) == 0 || yamux_error(&y) == ERR_NOMEM);
	yamux_fini(&y);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(work, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opening),
		cmocka_unit_test(test_accepting),
		cmocka_unit_test(test_bad_syn),
		cmocka_unit_test(test_bad_frames),
		cmocka_unit_test(test_unknown_streams),
		cmocka_unit_test(test_reset_by_peer),
		cmocka_unit_test(test_reset_within_frame),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_send_window),
		cmocka_unit_test(test_receive_window),
		cmocka_unit_test(test_no_grant_after_fin),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_backlogs),
		cmocka_unit_test(test_stream_caps),
		cmocka_unit_test(test_ids_run_out),
		cmocka_unit_test(test_hoarding),
		cmocka_unit_test(test_pings),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_goaway),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_idtable_model),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
