/*
 * Design notes.  A way of cutting is two lists of marks: where the text is
 * cut into frames, and where the bytes on the wire are cut into reads; each
 * is described by one number.  Long messages are cut at every position near
 * both ends, where heads and escapes are, and at some between.
 */
#include <stdio.h>
#include <string.h>

#include "wire/http1_server.h"

#include "support/framing.h"
#include "support/guard.h"
#include "support/unit.h"

enum {
	TEXT_MAX = 1 << 20,
	WIRE_MAX = 16 * TEXT_MAX,
	EDGE = 600,   /* cut everywhere so near to an end */
	STRIDE = 509, /* and at these steps between */
	WHOLE = 0,    /* no cut */
	EACH = -1,    /* cut behind every byte */
};

/* frames, reads: WHOLE, EACH, or the one place of a cut. */
struct way {
	ptrdiff_t frames, reads;
	bool packed;
};

struct ends {
	struct wsconn_lane lane;
	struct wsconn_config config;
	struct wsconn from, to;
	struct buf wire; /* what was sent */
	struct buf got;  /* what was received */
	size_t messages, pings;
};

static void
open_ends(struct ends *e, enum wsconn_role from, bool packed)
{
	static const uint64_t key[2] = { 3, 5 };
	const struct deflate_terms terms = {
		.on = packed, .server_bits = 15, .client_bits = 15
	};

	memset(e, 0, sizeof(*e));
	wsconn_lane_init(&e->lane, key, 1);
	e->config = (struct wsconn_config){ .lane = &e->lane,
		.text_cap = TEXT_MAX,
		.binary_cap = TEXT_MAX,
		.compress_min = packed ? 0 : SIZE_MAX };
	wsconn_init(&e->from, from, &e->config, 0);
	wsconn_init(&e->to,
	    from == WSCONN_CLIENT ? WSCONN_SERVER : WSCONN_CLIENT, &e->config,
	    0);
	wsconn_set_deflate(&e->from, &terms);
	wsconn_set_deflate(&e->to, &terms);
	buf_init(&e->wire, WIRE_MAX);
	buf_init(&e->got, TEXT_MAX);
}

static void
close_ends(struct ends *e)
{
	buf_fini(&e->got);
	buf_fini(&e->wire);
	wsconn_fini(&e->to);
	wsconn_fini(&e->from);
	wsconn_lane_fini(&e->lane);
}

/* Sending ----------------------------------------------------------------- */

static void
put_frame(struct ends *e, struct slice part, bool first, bool last)
{
	struct ws_head h = { .len = part.len,
		.opcode = first ? WS_TEXT : WS_CONT,
		.fin = last };
	uint8_t head[WS_HEAD_MAX];
	size_t n = wsconn_head(&e->from, &h, head);

	buf_put(&e->wire, (struct slice){ head, n });
	if (part.len == 0)
		return;
	uint8_t *at = buf_reserve(&e->wire, part.len);
	assert_non_null(at);
	memcpy(at, part.ptr, part.len);
	if (h.masked)
		ws_mask(at, part.len, h.mask, 0);
	buf_commit(&e->wire, part.len);
}

static void
put_ping(struct ends *e)
{
	assert_int_equal(wsconn_ping(&e->from, SL("between")), 0);
	struct slice own = wsconn_out(&e->from);
	buf_put(&e->wire, own);
	wsconn_sent(&e->from, own.len);
}

static void
put_message(struct ends *e, struct slice text, const struct way *w)
{
	if (w->frames == WHOLE || text.len == 0) {
		assert_int_equal(
		    wsconn_send(&e->from, &e->wire, WS_TEXT, text, false), 0);
		return;
	}
	size_t step = w->frames == EACH ? 1 : (size_t)w->frames;
	for (size_t at = 0, n; at < text.len; at += n) {
		n = at == 0 || w->frames == EACH ? step : text.len - at;
		put_frame(e, (struct slice){ text.ptr + at, n }, at == 0,
		    at + n == text.len);
		if (at == 0 && n < text.len)
			put_ping(e);
	}
}

/* Receiving --------------------------------------------------------------- */

static void
feed(struct ends *e, struct slice bytes)
{
	struct slice mine = guard_copy(bytes);
	struct wsconn_event ev;
	int more;

	wsconn_feed(&e->to, (uint8_t *)(uintptr_t)mine.ptr, mine.len, 0);
	while ((more = wsconn_next(&e->to, &ev)) > 0) {
		if (ev.kind == WS_PING) {
			e->pings++;
			assert_slice(ev.data, SL("between"));
			continue;
		}
		assert_int_equal(ev.kind, WS_TEXT);
		buf_put(&e->got, ev.data);
		e->messages++;
	}
	assert_int_equal(more, 0);
	guard_free(mine);
}

/* A mapping for each byte would be slow: one, filled anew. */
static void
feed_each(struct ends *e, struct slice bytes)
{
	struct slice cell = guard_copy(SL("x"));
	uint8_t *byte = (uint8_t *)(uintptr_t)cell.ptr;
	struct wsconn_event ev;

	for (size_t i = 0; i < bytes.len; i++) {
		assert_int_equal(e->messages, 0);
		*byte = bytes.ptr[i];
		wsconn_feed(&e->to, byte, 1, 0);
		while (wsconn_next(&e->to, &ev) > 0) {
			if (ev.kind == WS_PING) {
				e->pings++;
				continue;
			}
			assert_int_equal(ev.kind, WS_TEXT);
			buf_put(&e->got, ev.data);
			e->messages++;
		}
	}
	guard_free(cell);
}

static void
receive(struct ends *e, const struct way *w)
{
	struct slice wire = buf_peek(&e->wire);

	if (w->reads == EACH) {
		feed_each(e, wire);
		return;
	}
	feed(e, slice_first(wire, (size_t)w->reads));
	assert_int_equal(e->messages, 0);
	feed(e, slice_from_at(wire, (size_t)w->reads));
}

/* The length on the wire; *copy, if asked for, is the text that came. */
static size_t
carry(
    enum wsconn_role from, struct slice text, struct way w, struct slice *copy)
{
	struct ends e;

	open_ends(&e, from, w.packed);
	put_message(&e, text, &w);
	size_t n = buf_peek(&e.wire).len;
	receive(&e, &w);
	assert_int_equal(e.messages, 1);
	assert_int_equal(e.pings, w.frames != WHOLE && text.len > 1);
	assert_int_equal(e.got.err, 0);
	assert_slice(buf_peek(&e.got), text);
	if (copy != NULL)
		*copy = guard_copy(buf_peek(&e.got));
	close_ends(&e);
	return n;
}

/* The next place of a cut in n bytes. */
static ptrdiff_t
next_cut(ptrdiff_t at, size_t n)
{
	bool middle = at > EDGE && (size_t)at + EDGE + STRIDE < n;

	return at + (middle ? STRIDE : 1);
}

struct slice
framing_carry(enum wsconn_role from, struct slice text)
{
	struct slice copy;
	size_t n = carry(from, text, (struct way){ WHOLE, EACH, false }, &copy);

	for (ptrdiff_t at = 0; (size_t)at < n; at = next_cut(at, n))
		carry(from, text, (struct way){ WHOLE, at, false }, NULL);
	for (ptrdiff_t at = 1; (size_t)at < text.len;
	     at = next_cut(at, text.len))
		carry(from, text, (struct way){ at, WHOLE, false }, NULL);
	carry(from, text, (struct way){ EACH, WHOLE, false }, NULL);
	carry(from, text, (struct way){ EACH, EACH, false }, NULL);
	carry(from, text, (struct way){ WHOLE, WHOLE, true }, NULL);
	carry(from, text, (struct way){ WHOLE, EACH, true }, NULL);
	return copy;
}

/* HTTP ---------------------------------------------------------------------
 */

struct post {
	struct http1_server server;
	struct http1_head head;
	struct buf got;
	size_t requests, ends;
};

static void
feed_post(struct post *p, struct slice bytes)
{
	struct http1_event ev;

	http1_server_feed(&p->server, bytes, 0);
	while (http1_server_next(&p->server, &p->head, &ev)) {
		assert_int_not_equal(ev.kind, HTTP1_BAD);
		p->requests += ev.kind == HTTP1_REQUEST;
		p->ends += ev.kind == HTTP1_END;
		if (ev.kind == HTTP1_BODY)
			buf_put(&p->got, ev.data);
	}
}

static void
put_chunk(struct buf *out, struct slice data)
{
	char size[32];

	snprintf(size, sizeof(size), "%zx\r\n", data.len);
	buf_put(out, slice_from(size));
	buf_put(out, data);
	buf_put(out, SL("\r\n"));
}

static void
put_post(struct buf *out, struct slice body, bool chunked)
{
	size_t half = body.len / 2;
	char length[64];

	buf_put(out, SL("POST / HTTP/1.1\r\nHost: h\r\n"));
	if (!chunked) {
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n\r\n",
		    body.len);
		buf_put(out, slice_from(length));
		buf_put(out, body);
		return;
	}
	buf_put(out, SL("Transfer-Encoding: chunked\r\n\r\n"));
	if (half > 0)
		put_chunk(out, slice_first(body, half));
	put_chunk(out, slice_from_at(body, half));
	put_chunk(out, SL(""));
}

/* reads: as in struct way. */
static void
carry_post(struct slice wire, struct slice body, ptrdiff_t reads)
{
	struct post p = { 0 };

	buf_init(&p.got, TEXT_MAX);
	http1_head_init(&p.head);
	http1_server_init(&p.server, &http1_times_default, TEXT_MAX, 0);
	size_t step = reads == EACH ? 1
	    : reads == WHOLE        ? wire.len
				    : (size_t)reads;
	for (size_t at = 0, n; at < wire.len; at += n) {
		n = at == 0 || reads == EACH ? step : wire.len - at;
		assert_int_equal(p.ends, 0);
		feed_post(&p, (struct slice){ wire.ptr + at, n });
	}
	assert_int_equal(p.requests, 1);
	assert_int_equal(p.ends, 1);
	assert_int_equal(p.got.err, 0);
	assert_slice(buf_peek(&p.got), body);
	http1_server_fini(&p.server);
	buf_fini(&p.got);
}

struct slice
framing_carry_body(struct slice body)
{
	struct buf wire;

	for (int chunked = 0; chunked < 2; chunked++) {
		if (chunked && body.len == 0)
			break;
		buf_init(&wire, WIRE_MAX);
		put_post(&wire, body, chunked);
		assert_int_equal(wire.err, 0);
		struct slice all = guard_copy(buf_peek(&wire));
		buf_fini(&wire);
		carry_post(all, body, WHOLE);
		carry_post(all, body, EACH);
		for (ptrdiff_t at = 1; (size_t)at < all.len;
		     at = next_cut(at, all.len))
			carry_post(all, body, at);
		guard_free(all);
	}
	return guard_copy(body);
}
