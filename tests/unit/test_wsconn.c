#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/wsconn.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const uint64_t mask_key[2] = { 0x0123456789abcdef, 42 };

static struct wsconn_lane lane;

static const struct wsconn_config config = {
	.lane = &lane,
	.text_cap = 1 << 20,
	.binary_cap = 1 << 20,
	.compress_min = 16,
	.ping_every = 30000,
	.dead_after = 60000,
	.close_within = 5000,
};

/* Writes what happened, one line an event, so that a run is one string. */
static void
log_event(struct buf *log, const struct wsconn_event *ev)
{
	static const char *const names[] = { [WS_TEXT] = "text ",
		[WS_BINARY] = "binary ",
		[WS_CLOSE] = "close ",
		[WS_PING] = "ping ",
		[WS_PONG] = "pong ",
		[WSCONN_ERROR] = "error " };

	buf_put(log, slice_from(names[ev->kind]));
	if (ev->kind == WS_CLOSE || ev->kind == WSCONN_ERROR) {
		buf_put_u64(log, ev->code);
		buf_put_byte(log, ' ');
	}
	if (ev->kind == WSCONN_ERROR)
		buf_put(log, slice_from(err_name(ev->err)));
	else
		buf_put(log, ev->data);
	buf_put_byte(log, '\n');
}

static void
drain(struct wsconn *c, struct buf *log)
{
	struct wsconn_event ev;

	while (wsconn_next(c, &ev) > 0)
		log_event(log, &ev);
}

/* Feed a copy of s, ending at a guard page. */
static void
feed(struct wsconn *c, struct slice s, struct buf *log)
{
	struct slice copy = guard_copy(s);

	wsconn_feed(c, (uint8_t *)(uintptr_t)copy.ptr, copy.len, 1000);
	drain(c, log);
	guard_free(copy);
}

enum cut { WHOLE, BYTES, SPLIT };

/* One run of a role over input cut in some way, compared with want; in hex
 * or as text. */
static void
run_cut(enum wsconn_role role, struct slice in, struct slice want, enum cut cut,
    size_t at)
{
	struct wsconn c;
	struct buf log;

	wsconn_init(&c, role, &config, 0);
	buf_init(&log, 1 << 20);
	if (cut == WHOLE)
		feed(&c, in, &log);
	for (size_t i = 0; cut == BYTES && i < in.len; i++)
		feed(&c, (struct slice){ in.ptr + i, 1 }, &log);
	if (cut == SPLIT) {
		feed(&c, slice_first(in, at), &log);
		feed(&c, slice_from_at(in, at), &log);
	}
	assert_slice(buf_peek(&log), want);
	buf_fini(&log);
	wsconn_fini(&c);
}

static void
run(enum wsconn_role role, struct slice in, const char *want)
{
	struct slice w = slice_from(want);

	run_cut(role, in, w, WHOLE, 0);
	run_cut(role, in, w, BYTES, 0);
	for (size_t at = 1; at < in.len; at++)
		run_cut(role, in, w, SPLIT, at);
}

/* RFC 6455 5.7. */
static void
test_examples(void **state)
{
	(void)state;
	run(WSCONN_CLIENT, SL("\x81\x05Hello"), "text Hello\n");
	run(WSCONN_SERVER, SL("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
	    "text Hello\n");
	run(WSCONN_CLIENT, SL("\x01\x03Hel\x80\x02lo"), "text Hello\n");
	run(WSCONN_CLIENT, SL("\x89\x05Hello"), "ping Hello\n");
	run(WSCONN_SERVER, SL("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
	    "pong Hello\n");
}

static int
setup(void **state)
{
	(void)state;
	wsconn_lane_init(&lane, mask_key, 6);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	wsconn_lane_fini(&lane);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
