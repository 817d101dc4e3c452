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

/* One run of a role over input cut in some way, compared with want. */
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

/* Append a frame with any first byte, masked as role's peer must. */
static void
put_frame(
    struct buf *b, enum wsconn_role role, uint8_t first, struct slice payload)
{
	struct ws_head h = {
		.fin = first >> 7,
		.rsv1 = (first & 0x40) != 0,
		.opcode = first & 0x0f,
		.len = payload.len,
		.masked = role == WSCONN_SERVER,
		.mask = 0x9f3ac417,
	};
	uint8_t bytes[WS_HEAD_MAX];
	size_t n = ws_encode_head(bytes, &h);

	bytes[0] = first; /* with the bits that no codec would write */
	buf_put(b, (struct slice){ bytes, n });
	uint8_t *at = buf_reserve(b, payload.len);
	assert_non_null(at);
	if (payload.len > 0)
		memcpy(at, payload.ptr, payload.len);
	if (h.masked)
		ws_mask(at, payload.len, h.mask, 0);
	buf_commit(b, payload.len);
}

struct frame {
	uint8_t first;
	struct slice payload;
};

/* Frames, the end marked by an absent payload, to either role. */
static void
run_frames(const struct frame *frames, const char *want)
{
	static const enum wsconn_role roles[] = { WSCONN_SERVER,
		WSCONN_CLIENT };

	for (size_t i = 0; i < 2; i++) {
		enum wsconn_role role = roles[i];
		struct buf in;
		buf_init(&in, 1 << 20);
		for (const struct frame *f = frames; f->payload.ptr != NULL;
		     f++)
			put_frame(&in, role, f->first, f->payload);
		run(role, buf_peek(&in), want);
		buf_fini(&in);
	}
}

#define FRAMES(want, ...) \
	run_frames((const struct frame[]){ __VA_ARGS__, { 0, { 0 } } }, want)

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

/* 5.1: who masks. */
static void
test_masking(void **state)
{
	(void)state;
	run(WSCONN_SERVER, SL("\x81\x05Hello"), "error 1002 protocol_error\n");
	run(WSCONN_SERVER, SL("\x89\x00"), "error 1002 protocol_error\n");
	run(WSCONN_CLIENT, SL("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
	    "error 1002 protocol_error\n");
	run(WSCONN_CLIENT, SL("\x88\x80\x37\xfa\x21\x3d"),
	    "error 1002 protocol_error\n");
}

/* 5.2: reserved bits and opcodes. */
static void
test_reserved(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		unsigned op = first & 15;
		bool known = op <= 2 || (op >= 8 && op <= 10);
		if (known && (first & 0x70) == 0)
			continue;
		FRAMES("text a\nerror 1002 protocol_error\n", { 0x81, SL("a") },
		    { (uint8_t)first, SL("b") }, { 0x81, SL("c") });
	}
}

/* 5.4 */
static void
test_fragments(void **state)
{
	(void)state;
	FRAMES("text abc\ntext d\n", { 0x01, SL("a") }, { 0x00, SL("b") },
	    { 0x80, SL("c") }, { 0x81, SL("d") });
	FRAMES(
	    "binary \n", { 0x02, SL("") }, { 0x00, SL("") }, { 0x80, SL("") });
	FRAMES("ping p\npong q\nping \ntext ab\n", { 0x01, SL("a") },
	    { 0x89, SL("p") }, { 0x8a, SL("q") }, { 0x00, SL("") },
	    { 0x89, SL("") }, { 0x80, SL("b") });
	FRAMES("error 1002 protocol_error\n", { 0x80, SL("a") },
	    { 0x81, SL("b") });
	FRAMES("error 1002 protocol_error\n", { 0x00, SL("a") });
	FRAMES("error 1002 protocol_error\n", { 0x01, SL("a") },
	    { 0x81, SL("b") }, { 0x80, SL("c") });
	FRAMES("text ab\nerror 1002 protocol_error\n", { 0x01, SL("a") },
	    { 0x80, SL("b") }, { 0x80, SL("c") });
	FRAMES("close 1000 \n", { 0x01, SL("a") }, { 0x88, SL("\x03\xe8") },
	    { 0x80, SL("b") });
}

/* 5.5: control frames are short and whole. */
static void
test_control(void **state)
{
	static const uint8_t most[126];
	struct buf in, want;

	(void)state;
	FRAMES("error 1002 protocol_error\n", { 0x09, SL("a") });
	FRAMES("error 1002 protocol_error\n", { 0x89, { most, 126 } });
	FRAMES("error 1002 protocol_error\n", { 0x88, { most, 126 } });
	buf_init(&in, 1000);
	buf_init(&want, 1000);
	put_frame(&in, WSCONN_SERVER, 0x89, (struct slice){ most, 125 });
	buf_put(&want, SL("ping "));
	buf_put(&want, (struct slice){ most, 125 });
	buf_put_byte(&want, '\n');
	run_cut(WSCONN_SERVER, buf_peek(&in), buf_peek(&want), WHOLE, 0);
	run_cut(WSCONN_SERVER, buf_peek(&in), buf_peek(&want), BYTES, 0);
	buf_fini(&in);
	buf_fini(&want);
}

/* 8.1: text is UTF-8, as a whole and not by the frame. */
static void
test_utf8(void **state)
{
	(void)state;
	FRAMES("text \xce\xba\xe1\xbd\xb9\xf0\x9f\x98\x80\n",
	    { 0x81, SL("\xce\xba\xe1\xbd\xb9\xf0\x9f\x98\x80") });
	FRAMES("text \xf0\x9f\x98\x80\n", { 0x01, SL("\xf0\x9f") },
	    { 0x00, SL("\x98") }, { 0x80, SL("\x80") });
	FRAMES("binary \xff\xfe\n", { 0x82, SL("\xff\xfe") });
	FRAMES("error 1007 invalid_utf8\n", { 0x81, SL("a\xff") });
	FRAMES("error 1007 invalid_utf8\n", { 0x81, SL("\xed\xa0\x80") });
	FRAMES("error 1007 invalid_utf8\n", { 0x81, SL("\xc0\x80") });
	FRAMES("error 1007 invalid_utf8\n", { 0x81, SL("ab\xe2\x82") });
	FRAMES("error 1007 invalid_utf8\n", { 0x01, SL("\xe2\x82") },
	    { 0x80, SL("") });
	FRAMES("error 1007 invalid_utf8\n", { 0x01, SL("\xe2\x82") },
	    { 0x80, SL("aaaaaaaaaaaaaaaaaaaaaaaa") });
	FRAMES("error 1007 invalid_utf8\n", { 0x01, SL("\xf4\x90") },
	    { 0x80, SL("\x80\x80") });
	FRAMES("error 1007 invalid_utf8\n", { 0x01, SL("ok") },
	    { 0x00, SL("\xff") }, { 0x80, SL("never read") });
}

/* 8.1: "as soon as": inside a frame that has not come whole. */
static void
test_utf8_fails_fast(void **state)
{
	struct slice text = SL("\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80tail");
	struct buf in, log;
	struct wsconn c;

	(void)state;
	buf_init(&in, 1000);
	buf_init(&log, 1000);
	wsconn_init(&c, WSCONN_SERVER, &config, 0);
	put_frame(&in, WSCONN_SERVER, 0x81, text);
	feed(&c, slice_first(buf_peek(&in), 6 + 6), &log);
	assert_int_equal(buf_peek(&log).len, 0);
	feed(&c, (struct slice){ buf_peek(&in).ptr + 12, 1 }, &log);
	assert_slice(buf_peek(&log), SL("error 1007 invalid_utf8\n"));
	wsconn_fini(&c);
	buf_fini(&in);
	buf_fini(&log);
}

/* 5.5.1, 7.4: what a close frame may hold. */
static void
test_close_frames(void **state)
{
	(void)state;
	FRAMES("close 1005 \n", { 0x88, SL("") }, { 0x81, SL("late") });
	FRAMES("close 1000 bye\n", { 0x88, SL("\003\350bye") },
	    { 0x89, SL("late") }, { 0x88, SL("") });
	FRAMES(
	    "close 4999 \xe2\x82\xac\n", { 0x88, SL("\x13\x87\xe2\x82\xac") });
	FRAMES("error 1002 protocol_error\n", { 0x88, SL("\x03") });
	FRAMES("error 1002 protocol_error\n", { 0x88, SL("\x03\xed") });
	FRAMES("error 1002 protocol_error\n", { 0x88, SL("\x00\x00") });
	FRAMES("error 1002 protocol_error\n", { 0x88, SL("\xff\xff") });
	FRAMES("error 1007 invalid_utf8\n", { 0x88, SL("\x03\xe8\xff") });
	FRAMES("error 1007 invalid_utf8\n", { 0x88, SL("\x03\xe8\xe2\x82") });
}

struct fixture {
	struct wsconn c;
	struct buf in, log;
};

static void
start(struct fixture *f, enum wsconn_role role, const struct wsconn_config *k)
{
	wsconn_init(&f->c, role, k, 0);
	buf_init(&f->in, 64 << 20);
	buf_init(&f->log, 64 << 20);
}

/* Feed one frame, in a copy, at 1000 ms. */
static void
frame(struct fixture *f, uint8_t first, struct slice payload)
{
	put_frame(&f->in, f->c.role, first, payload);
	feed(&f->c, buf_peek(&f->in), &f->log);
	buf_clear(&f->in);
}

static void
stop(struct fixture *f)
{
	wsconn_fini(&f->c);
	buf_fini(&f->in);
	buf_fini(&f->log);
}

/* Exactly this waits to be written; take it. */
static void
out_is(struct wsconn *c, struct slice want)
{
	struct slice out = wsconn_out(c);

	assert_slice(out, want);
	wsconn_sent(c, out.len);
	assert_int_equal(wsconn_out(c).len, 0);
}

/* 5.5.2, 5.5.3: a pong has the ping's payload. */
static void
test_pong(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x89, SL("who"));
	frame(&f, 0x89, SL(""));
	out_is(&f.c, SL("\x8a\x03who\x8a\x00"));
	assert_int_equal(wsconn_memory(&f.c), 0);
	/* None after the close frame. */
	assert_int_equal(wsconn_close(&f.c, WS_CODE_NORMAL, SL("bye"), 0), 0);
	frame(&f, 0x89, SL("still there?"));
	out_is(&f.c, SL("\210\005\003\350bye"));
	stop(&f);
}

/* 7.1: the peer closes. */
static void
test_closed_by_peer(void **state)
{
	struct fixture f;
	struct buf out;

	(void)state;
	buf_init(&out, 100);
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x88, SL("\x0f\xa0why"));
	assert_false(wsconn_closed(&f.c));
	out_is(&f.c, SL("\x88\x02\x0f\xa0"));
	assert_true(wsconn_closed(&f.c));
	assert_int_equal(
	    wsconn_send(&f.c, &out, WS_TEXT, SL("a"), false), ERR_CLOSED);
	assert_int_equal(wsconn_ping(&f.c, SL("")), ERR_CLOSED);
	assert_int_equal(wsconn_close(&f.c, 1000, SL(""), 0), 0);
	assert_int_equal(wsconn_out(&f.c).len, 0);
	stop(&f);
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x88, SL(""));
	out_is(&f.c, SL("\x88\x00"));
	stop(&f);
	/* What had come of a message is let go. */
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x01, SL("begun"));
	frame(&f, 0x88, SL(""));
	out_is(&f.c, SL("\x88\x00"));
	assert_int_equal(wsconn_memory(&f.c), 0);
	stop(&f);
	buf_fini(&out);
}

/* 7.1: we close; what the peer said before it knew is still heard. */
static void
test_closed_by_us(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	assert_int_equal(wsconn_close(&f.c, WS_CODE_AWAY, SL(""), 500), 0);
	assert_int_equal(wsconn_close(&f.c, WS_CODE_POLICY, SL("x"), 600), 0);
	out_is(&f.c, SL("\x88\x02\x03\xe9"));
	assert_false(wsconn_closed(&f.c));
	assert_int_equal(wsconn_deadline(&f.c), 5500);
	frame(&f, 0x81, SL("last words"));
	frame(&f, 0x88, SL("\x03\xe9"));
	assert_slice(buf_peek(&f.log), SL("text last words\nclose 1001 \n"));
	assert_true(wsconn_closed(&f.c));
	assert_int_equal(wsconn_out(&f.c).len, 0);
	stop(&f);
}

/* A long reason is cut to 123 bytes, never inside a character. */
static void
test_close_reason(void **state)
{
	uint8_t text[124];
	struct fixture f;

	(void)state;
	memset(text, 'r', sizeof(text));
	memcpy(text + 121, "\xe2\x82\xac", 3);
	start(&f, WSCONN_SERVER, &config);
	wsconn_close(&f.c, 4000, (struct slice){ text, sizeof(text) }, 0);
	assert_int_equal(wsconn_out(&f.c).ptr[1], 2 + 121);
	stop(&f);
	start(&f, WSCONN_SERVER, &config);
	wsconn_close(&f.c, WS_CODE_NONE, SL("unsaid"), 0);
	out_is(&f.c, SL("\x88\x00"));
	stop(&f);
}

/* 7.1.7: a fault is told, once, and nothing is read after it. */
static void
test_fault(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x83, SL(""));
	frame(&f, 0x81, SL("more"));
	assert_slice(buf_peek(&f.log), SL("error 1002 protocol_error\n"));
	struct slice out = wsconn_out(&f.c);
	assert_int_equal(out.ptr[0], 0x88);
	assert_slice(((struct slice){ out.ptr + 2, 2 }), SL("\x03\xea"));
	assert_false(wsconn_closed(&f.c));
	wsconn_sent(&f.c, out.len);
	assert_true(wsconn_closed(&f.c));
	stop(&f);
	/* After our own close frame there is no second one. */
	start(&f, WSCONN_SERVER, &config);
	wsconn_close(&f.c, 1000, SL(""), 0);
	wsconn_sent(&f.c, wsconn_out(&f.c).len);
	frame(&f, 0x83, SL(""));
	assert_slice(buf_peek(&f.log), SL("error 1002 protocol_error\n"));
	assert_true(wsconn_closed(&f.c));
	stop(&f);
}

/* The cap is known from the head: nothing is kept of what breaks it. */
static void
test_caps(void **state)
{
	uint8_t head[WS_HEAD_MAX];
	struct ws_head h = { .fin = true, .masked = true, .opcode = WS_TEXT };
	struct fixture f;

	(void)state;
	h.len = (1 << 20) + 1;
	start(&f, WSCONN_SERVER, &config);
	feed(&f.c, (struct slice){ head, ws_encode_head(head, &h) }, &f.log);
	assert_slice(buf_peek(&f.log), SL("error 1009 too_big\n"));
	stop(&f);

	start(&f, WSCONN_SERVER, &config);
	wsconn_set_caps(&f.c, 4, 6);
	frame(&f, 0x81, SL("1234"));
	frame(&f, 0x82, SL("123456"));
	frame(&f, 0x01, SL("123"));
	frame(&f, 0x00, SL("4"));
	frame(&f, 0x00, SL(""));
	frame(&f, 0x80, SL("5"));
	assert_slice(buf_peek(&f.log),
	    SL("text 1234\nbinary 123456\nerror 1009 too_big\n"));
	stop(&f);

	start(&f, WSCONN_SERVER, &config);
	wsconn_set_caps(&f.c, 4, 6);
	frame(&f, 0x82, SL("1234567"));
	assert_slice(buf_peek(&f.log), SL("error 1009 too_big\n"));
	stop(&f);
}

/* A cap that is moved in the middle of a message holds for it. */
static void
test_caps_moved(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	frame(&f, 0x01, SL("12345"));
	wsconn_set_caps(&f.c, 4, 4);
	frame(&f, 0x80, SL(""));
	assert_slice(buf_peek(&f.log), SL("error 1009 too_big\n"));
	stop(&f);
	start(&f, WSCONN_SERVER, &config);
	wsconn_set_caps(&f.c, 4, 4);
	frame(&f, 0x01, SL("1234"));
	wsconn_set_caps(&f.c, 8, 8);
	frame(&f, 0x80, SL("5678"));
	assert_slice(buf_peek(&f.log), SL("text 12345678\n"));
	stop(&f);
}

/* Memory is bounded by bytes, not by fragments. */
static void
test_many_fragments(void **state)
{
	enum { COUNT = 65536 };
	struct fixture f;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	for (unsigned i = 0; i < COUNT; i++)
		put_frame(&f.in, WSCONN_SERVER, i == 0 ? 0x02 : 0x00, SL(""));
	feed(&f.c, buf_peek(&f.in), &f.log);
	assert_in_range(wsconn_memory(&f.c), 1, 1024);
	buf_clear(&f.in);
	frame(&f, 0x80, SL("."));
	assert_slice(buf_peek(&f.log), SL("binary .\n"));
	buf_clear(&f.log);
	for (unsigned i = 0; i < COUNT; i++)
		put_frame(&f.in, WSCONN_SERVER, i == 0 ? 0x01 : 0x00, SL("x"));
	feed(&f.c, buf_peek(&f.in), &f.log);
	assert_in_range(wsconn_memory(&f.c), COUNT, 2 * COUNT + 1024);
	buf_clear(&f.in);
	frame(&f, 0x80, SL(""));
	assert_int_equal(buf_peek(&f.log).len, 5 + COUNT + 1);
	/* The message's end is idle again. */
	assert_int_equal(wsconn_memory(&f.c), 0);
	stop(&f);
}

/* A message that comes whole is handed out where it lies. */
static void
test_no_copy(void **state)
{
	struct fixture f;
	struct wsconn_event ev;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	put_frame(&f.in, WSCONN_SERVER, 0x81, SL("one"));
	put_frame(&f.in, WSCONN_SERVER, 0x82, SL("two"));
	uint8_t *mem = (uint8_t *)(uintptr_t)buf_peek(&f.in).ptr;
	wsconn_feed(&f.c, mem, buf_peek(&f.in).len, 0);
	assert_int_equal(wsconn_next(&f.c, &ev), 1);
	assert_ptr_equal(ev.data.ptr, mem + 6);
	assert_int_equal(wsconn_next(&f.c, &ev), 1);
	assert_ptr_equal(ev.data.ptr, mem + 9 + 6);
	assert_int_equal(wsconn_next(&f.c, &ev), 0);
	assert_int_equal(wsconn_memory(&f.c), 0);
	assert_true(sizeof(struct wsconn) <= 128);
	stop(&f);
}

/* Pings of our own, the silence that means dead, and life by any byte. */
static void
test_time(void **state)
{
	struct fixture f;
	struct wsconn_event ev;
	uint8_t half = 0x81;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	assert_int_equal(wsconn_deadline(&f.c), 30000);
	assert_int_equal(wsconn_expire(&f.c, 29999), 0);
	assert_int_equal(wsconn_out(&f.c).len, 0);
	assert_int_equal(wsconn_expire(&f.c, 30000), 0);
	out_is(&f.c, SL("\x89\x08\0\0\0\0\0\0\x75\x30"));
	assert_int_equal(wsconn_deadline(&f.c), 60000);

	put_frame(&f.in, WSCONN_SERVER, 0x8a, SL("\0\0\0\0\0\0\x75\x30"));
	put_frame(&f.in, WSCONN_SERVER, 0x8a, SL("\0\0\0\0\0\0\x75\x31"));
	struct slice in = buf_peek(&f.in);
	wsconn_feed(&f.c, (uint8_t *)(uintptr_t)in.ptr, in.len, 30120);
	assert_int_equal(wsconn_next(&f.c, &ev), 1);
	assert_int_equal(ev.trip, 120);
	assert_int_equal(wsconn_next(&f.c, &ev), 1);
	assert_int_equal(ev.trip, -1);
	assert_int_equal(wsconn_next(&f.c, &ev), 0);

	assert_int_equal(wsconn_expire(&f.c, 60000), 0);
	assert_int_equal(wsconn_deadline(&f.c), 90000);
	wsconn_feed(&f.c, &half, 1, 70000);
	assert_int_equal(wsconn_next(&f.c, &ev), 0);
	assert_int_equal(wsconn_expire(&f.c, 90000), 0);
	assert_int_equal(wsconn_expire(&f.c, 120000), 0);
	assert_int_equal(wsconn_deadline(&f.c), 130000);
	assert_int_equal(wsconn_expire(&f.c, 129999), 0);
	assert_int_equal(wsconn_expire(&f.c, 130000), ERR_TIMEOUT);
	assert_true(wsconn_closed(&f.c));
	assert_int_equal(wsconn_memory(&f.c), 0);
	stop(&f);
}

static void
test_time_off(void **state)
{
	struct wsconn_config never = { .lane = &lane, .text_cap = 10 };
	struct fixture f;

	(void)state;
	start(&f, WSCONN_CLIENT, &never);
	assert_true(wsconn_deadline(&f.c) == INT64_MAX);
	assert_int_equal(wsconn_expire(&f.c, 1000000), 0);
	wsconn_close(&f.c, 1000, SL(""), 0);
	assert_true(wsconn_deadline(&f.c) == INT64_MAX);
	stop(&f);
	start(&f, WSCONN_SERVER, &config);
	wsconn_close(&f.c, 1000, SL(""), 100);
	assert_int_equal(wsconn_expire(&f.c, 5099), 0);
	assert_false(wsconn_closed(&f.c));
	assert_int_equal(wsconn_expire(&f.c, 5100), ERR_TIMEOUT);
	assert_true(wsconn_closed(&f.c));
	stop(&f);
}

/* 5.3, 10.3: each frame of a client has a mask of its own. */
static void
test_client_masks(void **state)
{
	struct fixture f;
	struct buf out;
	uint32_t seen[3];

	(void)state;
	buf_init(&out, 1000);
	start(&f, WSCONN_CLIENT, &config);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
		    wsconn_send(&f.c, &out, WS_TEXT, SL("same"), false), 0);
		struct slice s = buf_peek(&out);
		assert_int_equal(s.len, 2 + 4 + 4);
		assert_int_equal(s.ptr[1], 0x84);
		memcpy(&seen[i], s.ptr + 2, 4);
		buf_eat(&out, s.len);
	}
	assert_true(seen[0] != seen[1] && seen[1] != seen[2]);
	wsconn_ping(&f.c, SL("p"));
	assert_int_equal(wsconn_out(&f.c).ptr[1], 0x81);
	stop(&f);
	buf_fini(&out);
}

/* A long message as frames whose payload the caller sends itself. */
static void
test_heads(void **state)
{
	struct fixture f, g;
	struct buf out;
	struct slice text = SL("abcdefghij");

	(void)state;
	buf_init(&out, 1000);
	start(&f, WSCONN_CLIENT, &config);
	start(&g, WSCONN_SERVER, &config);
	for (size_t at = 0; at < text.len; at += 4) {
		struct slice piece = slice_first(slice_from_at(text, at), 4);
		struct ws_head h = { .opcode = at == 0 ? WS_TEXT : WS_CONT,
			.fin = at + 4 >= text.len,
			.len = piece.len };
		uint8_t bytes[WS_HEAD_MAX], copy[4];
		buf_put(&out,
		    (struct slice){ bytes, wsconn_head(&f.c, &h, bytes) });
		memcpy(copy, piece.ptr, piece.len);
		ws_mask(copy, piece.len, h.mask, 0);
		buf_put(&out, (struct slice){ copy, piece.len });
	}
	feed(&g.c, buf_peek(&out), &g.log);
	assert_slice(buf_peek(&g.log), SL("text abcdefghij\n"));
	stop(&f);
	stop(&g);
	buf_fini(&out);
}

static const struct deflate_terms alone = { true, false, false, 15, 15 };

static void
start_packed(struct fixture *f)
{
	start(f, WSCONN_SERVER, &config);
	wsconn_set_deflate(&f->c, &alone);
}

/* One frame to a server that compresses, and what comes of it. */
static void
packed_frame(uint8_t first, struct slice payload, struct slice want)
{
	struct fixture f;

	start_packed(&f);
	frame(&f, first, payload);
	assert_slice(buf_peek(&f.log), want);
	stop(&f);
}

/* RFC 7692 6: the bit on the first frame, and never on control frames. */
static void
test_packed(void **state)
{
	struct fixture f;

	(void)state;
	start_packed(&f);
	frame(&f, 0xc1, SL("\xf2\x48\xcd\xc9\xc9\x07\x00"));
	frame(&f, 0x41, SL("\xf2\x48\xcd"));
	frame(&f, 0x89, SL("p"));
	frame(&f, 0x00, SL(""));
	frame(&f, 0x80, SL("\xc9\xc9\x07\x00"));
	frame(&f, 0x81, SL("plain"));
	frame(&f, 0xc2, SL("\x00"));
	assert_slice(buf_peek(&f.log),
	    SL("text Hello\nping p\ntext Hello\ntext plain\nbinary \n"));
	buf_clear(&f.log);
	frame(&f, 0x01, SL("a"));
	frame(&f, 0xc0, SL("b"));
	assert_slice(buf_peek(&f.log), SL("error 1002 protocol_error\n"));
	stop(&f);
	packed_frame(0xc1, SL("\xf2\x48\xcd\xc9"), SL("error 1007 corrupt\n"));
	/* A stored block of one byte that is no UTF-8. */
	packed_frame(0xc1, SL("\x00\x01\x00\xfe\xff\xff\x00"),
	    SL("error 1007 invalid_utf8\n"));
	packed_frame(0xc9, SL("p"), SL("error 1002 protocol_error\n"));
	packed_frame(0xa1, SL("p"), SL("error 1002 protocol_error\n"));
}

/* The cap holds for the message as unpacked. */
static void
test_packed_caps(void **state)
{
	struct fixture f, g;
	struct buf out;
	uint8_t *zeros = alloc_new((1 << 20) + 1);

	(void)state;
	buf_init(&out, 1 << 21);
	for (size_t over = 0; over < 2; over++) {
		start(&f, WSCONN_CLIENT, &config);
		start_packed(&g);
		wsconn_set_deflate(&f.c, &alone);
		assert_int_equal(
		    wsconn_send(&f.c, &out, WS_TEXT,
			(struct slice){ zeros, (1 << 20) + over }, false),
		    0);
		assert_true(buf_peek(&out).len < 10000);
		feed(&g.c, buf_peek(&out), &g.log);
		if (over == 0)
			assert_int_equal(buf_peek(&g.log).len, 6 + (1 << 20));
		else
			assert_slice(
			    buf_peek(&g.log), SL("error 1009 too_big\n"));
		buf_clear(&out);
		stop(&f);
		stop(&g);
	}
	alloc_free(zeros);
	buf_fini(&out);
}

/* The first byte of a message as it is sent. */
static uint8_t
first_sent(
    struct wsconn *c, enum ws_opcode opcode, struct slice text, bool plain)
{
	struct buf out;

	buf_init(&out, 1000);
	assert_int_equal(wsconn_send(c, &out, opcode, text, plain), 0);
	uint8_t first = buf_peek(&out).ptr[0];
	assert_true(buf_peek(&out).len <= text.len + 6);
	buf_fini(&out);
	return first;
}

/* When a message is packed, and when it is not. */
static void
test_packing(void **state)
{
	struct slice text = SL("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	struct slice noise = SL("\x01\x9c\xe1\x37\x5a\xb2\x0d\xf8\x63\x94\x2e"
				"\xc5\x7b\xd0\x18\xa6\x4f\x81");
	struct deflate_terms eight = { true, false, false, 15, 8 };
	struct fixture f;

	(void)state;
	start_packed(&f);
	assert_int_equal(wsconn_shared_bits(&f.c), 15);
	assert_int_equal(first_sent(&f.c, WS_TEXT, text, false), 0xc1);
	assert_int_equal(first_sent(&f.c, WS_TEXT, text, true), 0x81);
	assert_int_equal(
	    first_sent(&f.c, WS_TEXT, slice_first(text, 15), false), 0x81);
	assert_int_equal(first_sent(&f.c, WS_BINARY, noise, false), 0x82);
	stop(&f);
	/* A client bound to a window that zlib cannot pack. */
	start(&f, WSCONN_CLIENT, &config);
	wsconn_set_deflate(&f.c, &eight);
	assert_int_equal(first_sent(&f.c, WS_TEXT, text, false), 0x81);
	assert_int_equal(wsconn_shared_bits(&f.c), 0);
	stop(&f);
}

/* Takeover sends what was packed even when it grew; without room for the
 * worst case the message goes as it is, and the next one is understood. */
static void
test_packing_takeover(void **state)
{
	struct deflate_terms terms = { true, true, true, 15, 15 };
	struct slice text = SL("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	struct fixture f, g;
	struct buf out;

	(void)state;
	start(&f, WSCONN_SERVER, &config);
	start(&g, WSCONN_CLIENT, &config);
	wsconn_set_deflate(&f.c, &terms);
	wsconn_set_deflate(&g.c, &terms);
	assert_int_equal(wsconn_shared_bits(&f.c), 0);
	for (int i = 0; i < 3; i++) {
		buf_init(&out, i == 1 ? 2 + text.len : 1000);
		assert_int_equal(
		    wsconn_send(&f.c, &out, WS_BINARY, text, false), 0);
		assert_int_equal(buf_peek(&out).ptr[0], i == 1 ? 0x82 : 0xc2);
		feed(&g.c, buf_peek(&out), &g.log);
		buf_fini(&out);
	}
	assert_int_equal(buf_peek(&g.log).len, 3 * (7 + text.len + 1));
	assert_true(wsconn_memory(&f.c) > 100000);
	buf_init(&out, 10);
	assert_int_equal(
	    wsconn_send(&f.c, &out, WS_BINARY, text, false), ERR_FULL);
	assert_int_equal(buf_peek(&out).len, 0);
	buf_fini(&out);
	stop(&f);
	stop(&g);
}

static uint32_t seed = 11;

static uint32_t
chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

/* Take the sender's bytes to the receiver in random pieces. */
static void
carry(struct wsconn *to, struct buf *out, struct buf *log)
{
	while (buf_peek(out).len > 0) {
		struct slice s = buf_peek(out);
		size_t n = 1 + chance((uint32_t)s.len);
		if (chance(4) == 0)
			n = 1 + chance((uint32_t)(s.len < 20 ? s.len : 20));
		feed(to, slice_first(s, n), log);
		buf_eat(out, n);
	}
}

/* Send one random message, and note what must come of it. */
static void
send_random(struct wsconn *from, struct buf *out, struct buf *want)
{
	static uint8_t text[5000];
	size_t n = chance(chance(3) != 0 ? 200 : sizeof(text));
	unsigned kinds = 1 + chance(120);
	bool binary = chance(2) != 0;
	struct slice s = { text, n };

	for (size_t i = 0; i < n; i++)
		text[i] = (uint8_t)chance(kinds);
	assert_int_equal(wsconn_send(from, out, binary ? WS_BINARY : WS_TEXT, s,
			     chance(8) == 0),
	    0);
	buf_put(want, binary ? SL("binary ") : SL("text "));
	buf_put(want, s);
	buf_put_byte(want, '\n');
}

/* Random messages both ways under the same terms: out as in. */
static void
converse(const struct deflate_terms *terms)
{
	struct fixture side[2];
	struct buf out, want;

	start(&side[0], WSCONN_SERVER, &config);
	start(&side[1], WSCONN_CLIENT, &config);
	wsconn_set_deflate(&side[0].c, terms);
	wsconn_set_deflate(&side[1].c, terms);
	buf_init(&out, 1 << 20);
	buf_init(&want, 1 << 20);
	for (int i = 0; i < 24; i++) {
		struct fixture *to = &side[1 - (i & 1)];
		buf_clear(&want);
		for (unsigned k = chance(4); k < 4; k++)
			send_random(&side[i & 1].c, &out, &want);
		carry(&to->c, &out, &to->log);
		assert_slice(buf_peek(&to->log), buf_peek(&want));
		buf_clear(&to->log);
	}
	stop(&side[0]);
	stop(&side[1]);
	buf_fini(&out);
	buf_fini(&want);
}

static void
test_conversations(void **state)
{
	struct deflate_terms t = { 0 };

	(void)state;
	converse(&t);
	t.on = true;
	for (unsigned i = 0; i < 4 * 8; i++) {
		t.server_takeover = i & 1;
		t.client_takeover = i >> 1 & 1;
		t.server_bits = (uint8_t)(8 + i / 4);
		t.client_bits = (uint8_t)(15 - i / 4);
		converse(&t);
	}
}

static void
memory_send(struct wsconn *client, struct buf *out)
{
	struct slice text = SL("some text that is long enough to be packed");
	int r = wsconn_send(client, out, WS_TEXT, text, false);

	assert_true(r == 0 || r == ERR_NOMEM);
	(void)wsconn_send(client, out, WS_TEXT, SL("short"), false);
	r = wsconn_ping(client, SL("p"));
	assert_true(r == 0 || r == ERR_NOMEM);
	buf_put(out, wsconn_out(client));
}

/* Each allocation fails in turn: the connection ends cleanly, told why. */
static void
memory_body(void *arg)
{
	static const struct deflate_terms terms = { true, true, true, 9, 9 };
	static uint8_t wire[4096];
	struct wsconn_lane own;
	struct wsconn_config k = config;
	struct wsconn server, client;
	struct wsconn_event ev;
	struct buf out;
	size_t cut = *(size_t *)arg, got = 0;

	k.lane = &own;
	wsconn_lane_init(&own, mask_key, 1);
	wsconn_init(&server, WSCONN_SERVER, &k, 0);
	wsconn_init(&client, WSCONN_CLIENT, &k, 0);
	wsconn_set_deflate(&server, &terms);
	wsconn_set_deflate(&client, &terms);
	buf_init(&out, sizeof(wire));
	memory_send(&client, &out);
	size_t n = buf_peek(&out).len;
	if (n > 0)
		memcpy(wire, buf_peek(&out).ptr, n);
	for (size_t at = 0; at < n; at += cut) {
		wsconn_feed(&server, wire + at, n - at < cut ? n - at : cut, 0);
		for (; wsconn_next(&server, &ev) > 0; got++) {
			if (ev.kind == WSCONN_ERROR)
				assert_int_equal(ev.err, ERR_NOMEM);
		}
	}
	assert_true(n == 0 || got > 0);
	(void)wsconn_close(&server, 1000, SL("bye"), 0);
	wsconn_fini(&server);
	wsconn_fini(&client);
	wsconn_lane_fini(&own);
	buf_fini(&out);
}

static void
test_memory(void **state)
{
	size_t cut = 4096;

	(void)state;
	oom_torture(memory_body, &cut);
	cut = 7;
	oom_torture(memory_body, &cut);
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

/* Feed n bytes; the messages that came. */
static size_t
feed_some(struct wsconn *c, struct slice bytes)
{
	struct wsconn_event ev;
	size_t messages = 0;
	uint8_t *mine = malloc(bytes.len);

	assert_non_null(mine);
	memcpy(mine, bytes.ptr, bytes.len);
	wsconn_feed(c, mine, bytes.len, 0);
	while (wsconn_next(c, &ev) > 0) {
		assert_int_equal(ev.kind, WS_BINARY);
		assert_int_equal(ev.data.len, 40000);
		for (size_t i = 0; i < ev.data.len; i++)
			assert_int_equal(ev.data.ptr[i], i & 255);
		messages++;
	}
	free(mine);
	return messages;
}

static size_t
spare_bytes(const struct wsconn_lane *l)
{
	size_t n = 0;

	for (size_t i = 0; i < WSCONN_SPARES; i++)
		n += l->spares[i].alloc;
	return n;
}

/* The room of a long message that was cut serves the next; a few are kept. */
static void
test_spare_rooms(void **state)
{
	enum { LEN = 40000, ROOM = 65536, MANY = WSCONN_SPARES + 3 };
	static const uint64_t key[2] = { 1, 2 };
	static uint8_t bytes[LEN];
	struct wsconn_lane own;
	struct wsconn_config k = { .lane = &own,
		.text_cap = LEN,
		.binary_cap = LEN,
		.compress_min = SIZE_MAX };
	struct wsconn client, server[MANY];
	struct buf wire;

	(void)state;
	for (size_t i = 0; i < LEN; i++)
		bytes[i] = (uint8_t)i;
	wsconn_lane_init(&own, key, 1);
	buf_init(&wire, 2 * LEN);
	wsconn_init(&client, WSCONN_CLIENT, &k, 0);
	assert_int_equal(wsconn_send(&client, &wire, WS_BINARY,
			     (struct slice){ bytes, LEN }, true),
	    0);
	struct slice all = buf_peek(&wire);
	struct slice head = slice_first(all, 30000);
	struct slice rest = slice_from_at(all, 30000);
	for (size_t i = 0; i < MANY; i++)
		wsconn_init(&server[i], WSCONN_SERVER, &k, 0);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(feed_some(&server[0], head), 0);
		assert_true(wsconn_memory(&server[0]) >= ROOM);
		assert_int_equal(spare_bytes(&own), 0);
		assert_int_equal(feed_some(&server[0], rest), 1);
		assert_int_equal(wsconn_memory(&server[0]), 0);
		assert_int_equal(spare_bytes(&own), ROOM);
	}
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(feed_some(&server[i], head), 0);
	assert_int_equal(spare_bytes(&own), 0);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(feed_some(&server[i], rest), 1);
	assert_int_equal(spare_bytes(&own), WSCONN_SPARES * ROOM);
	for (size_t i = 0; i < MANY; i++)
		wsconn_fini(&server[i]);
	wsconn_fini(&client);
	buf_fini(&wire);
	wsconn_lane_fini(&own);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_masking),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_utf8_fails_fast),
		cmocka_unit_test(test_close_frames),
		cmocka_unit_test(test_pong),
		cmocka_unit_test(test_closed_by_peer),
		cmocka_unit_test(test_closed_by_us),
		cmocka_unit_test(test_close_reason),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_caps_moved),
		cmocka_unit_test(test_many_fragments),
		cmocka_unit_test(test_no_copy),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_time_off),
		cmocka_unit_test(test_client_masks),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_packed_caps),
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_packing_takeover),
		cmocka_unit_test(test_conversations),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_spare_rooms),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
