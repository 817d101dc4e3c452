/*
 * Borders of frames: the first byte is the size of the pieces, its top bit
 * whether a ping of ours is on its way.  As far as ws_decode_head takes the
 * bytes for frames, both find the same; all bytes pass but a pong of ours,
 * and cut differently everything comes out the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "wire/wsborder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t token[WSBORDER_TOKEN] = "mustertk";

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
follow(struct wsborder *b, struct slice in, size_t step, bool ping,
    struct buf *out)
{
	uint8_t frame[WSBORDER_PING];

	wsborder_init(b, token);
	if (ping)
		wsborder_ping(b, frame);
	while (in.len > 0) {
		struct slice piece = slice_first(in, step), pass;
		in = slice_from_at(in, step);
		while (wsborder_next(b, &piece, &pass)) {
			check(pass.len > 0);
			buf_put(out, pass);
		}
		check(piece.len == 0);
	}
}

/* What wire/ws makes of it. */
struct other {
	uint64_t frames, messages, bytes, message, eaten;
	size_t border; /* the end of the last whole frame */
	bool closed;
	bool odd; /* from the border on it is no WebSocket */
};

static bool
is_our_pong(const struct ws_head *h, struct slice payload)
{
	uint8_t text[WSBORDER_TOKEN];

	if (h->opcode != WS_PONG || h->len != WSBORDER_TOKEN)
		return false;
	memcpy(text, payload.ptr, sizeof(text));
	if (h->masked)
		ws_mask(text, sizeof(text), h->mask, 0);
	return memcmp(text, token, sizeof(text)) == 0;
}

static void
walk(struct other *o, struct slice in, bool ping)
{
	struct ws_head h;
	int n;

	*o = (struct other){ 0 };
	while ((n = ws_decode_head(slice_from_at(in, o->border), &h)) > 0) {
		struct slice rest = slice_from_at(in, o->border + (size_t)n);
		uint64_t have = h.len < rest.len ? h.len : rest.len;
		bool data = h.opcode < WS_CLOSE;

		if (ping && o->eaten == 0 && have == h.len &&
		    is_our_pong(&h, rest)) {
			o->eaten = (uint64_t)n + h.len;
			o->border += o->eaten;
			continue;
		}
		/* A pong that may be ours is not counted before it ends. */
		bool withheld = ping && o->eaten == 0 && h.opcode == WS_PONG &&
		    h.len == WSBORDER_TOKEN;
		o->frames += !withheld || have == h.len;
		o->closed = o->closed || h.opcode == WS_CLOSE;
		if (data && h.opcode != WS_CONT) {
			o->messages++;
			o->message = 0;
		}
		if (data) {
			o->bytes += have;
			o->message += have;
		}
		if (have < h.len)
			return;
		o->border += (size_t)n + (size_t)h.len;
	}
	o->odd = n < 0;
}

static void
compare(const struct wsborder *b, const struct other *o, struct slice in)
{
	if (o->odd)
		return;
	check(!b->lost);
	check(b->frames == o->frames && b->messages == o->messages);
	check(b->bytes == o->bytes && b->message == o->message);
	check(b->closed == o->closed);
	check(b->pongs == (o->eaten > 0));
	check(o->closed || o->border < in.len || wsborder_open(b));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wsborder whole, cut;
	struct buf a, b;
	struct other o;

	if (size < 2)
		return 0;
	bool ping = (data[0] & 128) != 0;
	size_t step = (size_t)(data[0] & 127) + 1;
	struct slice in = { data + 1, size - 1 };
	buf_init(&a, size);
	buf_init(&b, size);
	follow(&whole, in, in.len, ping, &a);
	follow(&cut, in, step, ping, &b);
	check(a.err == 0 && slice_eq(buf_peek(&a), buf_peek(&b)));
	check(whole.frames == cut.frames && whole.bytes == cut.bytes);
	check(whole.messages == cut.messages && whole.lost == cut.lost);
	check(whole.code == cut.code && whole.reason_len == cut.reason_len);
	check(memcmp(whole.reason, cut.reason, whole.reason_len) == 0);
	check(wsborder_open(&whole) == wsborder_open(&cut));
	if (!ping)
		check(slice_eq(buf_peek(&a), in));
	walk(&o, in, ping);
	compare(&whole, &o, in);
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
