#include <string.h>

#include "base/err.h"
#include "wire/be.h"
#include "wire/execframe.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct execframe agent_says[] = {
	{ .type = EXECFRAME_STARTED,
	    .data = { (const uint8_t *)"{\"pid\":7}", 9 } },
	{ .type = EXECFRAME_STDOUT,
	    .offset = 1,
	    .data = { (const uint8_t *)"hello world", 11 } },
	{ .type = EXECFRAME_STDERR,
	    .offset = INT64_MAX - 2,
	    .data = { (const uint8_t *)"oh", 2 } },
	{ .type = EXECFRAME_STDOUT, .offset = 12 },
	{ .type = EXECFRAME_STDIN_ACK, .offset = 5, .limit = 65541 },
	{ .type = EXECFRAME_GAP,
	    .stream = EXECFRAME_ERR,
	    .offset = 10,
	    .limit = 20 },
	{ .type = EXECFRAME_EXIT, .data = { (const uint8_t *)"{}", 2 } },
	{ .type = EXECFRAME_REFUSED,
	    .data = { (const uint8_t *)"{\"a\":1}", 7 } },
};

static const struct execframe controller_says[] = {
	{ .type = EXECFRAME_STDIN,
	    .offset = 9,
	    .data = { (const uint8_t *)"typed", 5 } },
	{ .type = EXECFRAME_STDIN_EOF, .offset = 14 },
	{ .type = EXECFRAME_ACK, .stream = EXECFRAME_OUT, .offset = 11 },
	{ .type = EXECFRAME_SIGNAL, .signal = EXECFRAME_KILL },
	{ .type = EXECFRAME_DONE },
};

static void
same_head(const struct execframe *a, const struct execframe *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->stream, b->stream);
	assert_int_equal(a->signal, b->signal);
	assert_int_equal(a->limit, b->limit);
}

/* Read what r was fed; pieces of one frame must join up to *want. */
static const struct execframe *
take(struct execframe_reader *r, const struct execframe *want, size_t *at)
{
	struct execframe f;
	int rc;

	while ((rc = execframe_next(r, &f)) > 0) {
		same_head(&f, want);
		assert_int_equal(f.offset, want->offset + *at);
		assert_true(f.data.len <= want->data.len - *at);
		if (f.data.len > 0)
			assert_memory_equal(
			    f.data.ptr, want->data.ptr + *at, f.data.len);
		*at += f.data.len;
		if (*at < want->data.len)
			continue;
		want++;
		*at = 0;
	}
	assert_int_equal(rc, 0);
	return want;
}

static void
check_cuts(
    enum execframe_side from, const struct execframe *frames, size_t count)
{
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < count; i++)
		execframe_put(&b, EXECFRAME_ON_STREAM, &frames[i]);
	struct slice all = buf_peek(&b);
	for (size_t step = 1; step <= all.len; step++)
		for (size_t first = 0; first < (step < 2 ? 1 : step); first++) {
			const struct execframe *want = frames;
			struct execframe_reader r;
			size_t at = 0, n = first;
			execframe_reader_init(&r, from);
			for (size_t pos = 0; pos < all.len || n == 0;
			     n = step) {
				struct slice in = guard_copy(
				    slice_first(slice_from_at(all, pos), n));
				execframe_feed(&r, in);
				want = take(&r, want, &at);
				assert_int_equal(r.in.len, 0);
				guard_free(in);
				pos += in.len;
			}
			assert_ptr_equal(want, frames + count);
			execframe_reader_fini(&r);
		}
	buf_fini(&b);
}

static void
test_every_cut(void **state)
{
	(void)state;
	check_cuts(EXECFRAME_AGENT, agent_says,
	    sizeof(agent_says) / sizeof(agent_says[0]));
	check_cuts(EXECFRAME_CONTROLLER, controller_says,
	    sizeof(controller_says) / sizeof(controller_says[0]));
}

static void
check_message(enum execframe_side from, const struct execframe *want)
{
	struct execframe f;
	struct buf b;

	buf_init(&b, 4096);
	execframe_put(&b, EXECFRAME_ON_MESSAGE, want);
	struct slice in = guard_copy(buf_peek(&b));
	assert_int_equal(execframe_parse(from, in, &f), 0);
	same_head(&f, want);
	assert_int_equal(f.offset, want->offset);
	assert_slice(f.data, want->data);
	assert_int_equal(execframe_parse((enum execframe_side) !from, in, &f),
	    ERR_UNSUPPORTED);
	guard_free(in);
	buf_fini(&b);
}

static void
test_messages(void **state)
{
	struct execframe f;

	(void)state;
	for (size_t i = 0; i < sizeof(agent_says) / sizeof(agent_says[0]); i++)
		check_message(EXECFRAME_AGENT, &agent_says[i]);
	for (size_t i = 0;
	     i < sizeof(controller_says) / sizeof(controller_says[0]); i++)
		check_message(EXECFRAME_CONTROLLER, &controller_says[i]);
	assert_int_equal(
	    execframe_parse(EXECFRAME_AGENT, SL(""), &f), ERR_PROTOCOL);
}

/* The bytes themselves, so that both ends cannot err alike. */
static void
test_bytes(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	execframe_put(&b, EXECFRAME_ON_STREAM, &agent_says[1]);
	assert_slice(
	    buf_peek(&b), SL("\2\0\0\0\x13\0\0\0\0\0\0\0\1hello world"));
	buf_clear(&b);
	execframe_put(&b, EXECFRAME_ON_STREAM, &agent_says[5]);
	assert_slice(buf_peek(&b),
	    SL("\7\0\0\0\x11\2\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x14"));
	buf_clear(&b);
	execframe_put(&b, EXECFRAME_ON_MESSAGE, &controller_says[2]);
	assert_slice(buf_peek(&b), SL("\x12\1\0\0\0\0\0\0\0\x0b"));
	buf_clear(&b);
	execframe_put(&b, EXECFRAME_ON_MESSAGE, &controller_says[3]);
	execframe_put(&b, EXECFRAME_ON_STREAM, &controller_says[4]);
	assert_slice(buf_peek(&b), SL("\x13\3\x14\0\0\0\0"));
	buf_fini(&b);
}

/* A bad message fails alike on the stream, at once and for good. */
static void
refused(enum execframe_side from, struct slice message, int err)
{
	struct execframe_reader r;
	struct execframe f;
	uint8_t head[5] = { message.ptr[0] };

	assert_int_equal(execframe_parse(from, message, &f), err);
	be_put32(head + 1, (uint32_t)message.len - 1);
	execframe_reader_init(&r, from);
	execframe_feed(&r, (struct slice){ head, sizeof(head) });
	int rc = execframe_next(&r, &f);
	if (rc == 0) {
		execframe_feed(&r, slice_from_at(message, 1));
		rc = execframe_next(&r, &f);
	}
	assert_int_equal(rc, err);
	execframe_feed(&r, SL("more"));
	assert_int_equal(execframe_next(&r, &f), err);
	execframe_reader_fini(&r);
}

static void
test_refusals(void **state)
{
	static uint8_t big[9 + EXECFRAME_BULK_MAX + 1];
	const enum execframe_side agent = EXECFRAME_AGENT,
				  controller = EXECFRAME_CONTROLLER;

	(void)state;
	for (int type = 0; type < 256; type++) {
		big[0] = (uint8_t)type;
		if (type < 1 || type > 7)
			refused(
			    agent, (struct slice){ big, 20 }, ERR_UNSUPPORTED);
		if (type < 16 || type > 20)
			refused(controller, (struct slice){ big, 20 },
			    ERR_UNSUPPORTED);
	}
	refused(agent, SL("\2\0\0\0\0\0\0\0"), ERR_PROTOCOL);
	refused(agent, SL("\5\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1"), ERR_PROTOCOL);
	refused(agent, SL("\5\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"), ERR_PROTOCOL);
	refused(agent, SL("\5\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3x"), ERR_PROTOCOL);
	refused(
	    agent, SL("\7\3\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3"), ERR_PROTOCOL);
	refused(agent, SL("\2\x80\0\0\0\0\0\0\0"), ERR_RANGE);
	refused(agent, SL("\2\x7f\xff\xff\xff\xff\xff\xff\xff!"), ERR_RANGE);
	refused(controller, SL("\x12\0\0\0\0\0\0\0\0\0"), ERR_PROTOCOL);
	refused(controller, SL("\x13\0"), ERR_PROTOCOL);
	refused(controller, SL("\x13\4"), ERR_PROTOCOL);
	refused(controller, SL("\x13"), ERR_PROTOCOL);
	refused(controller, SL("\x14x"), ERR_PROTOCOL);
	refused(
	    controller, SL("\x11\xff\xff\xff\xff\xff\xff\xff\xff"), ERR_RANGE);
	memset(big, 0, sizeof(big));
	big[0] = EXECFRAME_STDIN;
	refused(controller, (struct slice){ big, sizeof(big) }, ERR_TOO_BIG);
	struct execframe f;
	assert_int_equal(execframe_parse(controller,
			     (struct slice){ big, sizeof(big) - 1 }, &f),
	    0);
	assert_int_equal(f.data.len, EXECFRAME_BULK_MAX);
	big[0] = EXECFRAME_EXIT;
	refused(
	    agent, (struct slice){ big, 2 + EXECFRAME_JSON_MAX }, ERR_TOO_BIG);
	assert_int_equal(execframe_parse(agent,
			     (struct slice){ big, 1 + EXECFRAME_JSON_MAX }, &f),
	    0);
}

/* Bulk is handed on without being kept, whole JSON too. */
static void
read_in_pieces(void *arg)
{
	struct execframe_reader r;
	struct execframe f;
	int rc;

	(void)arg;
	execframe_reader_init(&r, EXECFRAME_AGENT);
	execframe_feed(
	    &r, SL("\2\0\0\0\x0a\0\0\0\0\0\0\0\1hi\1\0\0\0\2{}\4\0\0\0\5{\"a"));
	assert_int_equal(execframe_next(&r, &f), 1);
	assert_int_equal(execframe_next(&r, &f), 1);
	assert_slice(f.data, SL("{}"));
	assert_int_equal(r.json.alloc, 0);
	rc = execframe_next(&r, &f);
	if (rc == 0) {
		execframe_feed(&r, SL("\":"));
		rc = execframe_next(&r, &f);
	}
	assert_true(rc == 1 || rc == ERR_NOMEM);
	if (rc == 1)
		assert_slice(f.data, SL("{\"a\":"));
	execframe_reader_fini(&r);
}

static void
test_no_memory(void **state)
{
	(void)state;
	oom_torture(read_in_pieces, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
