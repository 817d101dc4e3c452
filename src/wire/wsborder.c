#include <string.h>

#include "wire/wsborder.h"

enum state {
	BORDER_HEAD,     /* at a border, or inside a head, which is held too */
	BORDER_PAYLOAD,  /* that is skipped */
	BORDER_CLOSE,    /* in a close frame, which is held too */
	BORDER_WITHHELD, /* in a pong that may be ours: held, not passed on */
};

enum { FIN = 0x80, OPCODE = 0x0f, CONTROL = 8, MASKED = 0x80, LENGTH = 0x7f };

void
wsborder_init(struct wsborder *b, const uint8_t token[WSBORDER_TOKEN])
{
	*b = (struct wsborder){ .code = WS_CODE_NONE };
	memcpy(b->token, token, WSBORDER_TOKEN);
}

/* Bytes of the extended length; the first two bytes of the head are there. */
static size_t
more_len(const uint8_t *head)
{
	switch (head[1] & LENGTH) {
	case 126:
		return 2;
	case 127:
		return 8;
	default:
		return 0;
	}
}

static size_t
head_len(const uint8_t *head)
{
	return 2 + more_len(head) + ((head[1] & MASKED) != 0 ? 4U : 0U);
}

static uint64_t
payload_len(const uint8_t *head)
{
	size_t more = more_len(head);
	uint64_t len = more == 0 ? head[1] & LENGTH : 0;

	for (size_t i = 0; i < more; i++)
		len = len << 8 | head[2 + i];
	return len;
}

static void
count(struct wsborder *b)
{
	b->frames++;
	if ((b->opcode & CONTROL) == 0 && b->opcode != WS_CONT) {
		b->messages++;
		b->message = 0;
	}
}

/* A whole head is known: what is its payload to us? */
static void
begin(struct wsborder *b, const uint8_t *head)
{
	b->opcode = head[0] & OPCODE;
	b->left = payload_len(head);
	if (b->left > INT64_MAX) {
		b->lost = true;
		return;
	}
	count(b);
	b->state = BORDER_PAYLOAD;
	if (b->opcode == WS_CLOSE && !b->closed) {
		b->closed = true;
		if (b->left > 0 && b->left <= WS_CONTROL_MAX)
			b->state = BORDER_CLOSE;
	}
	if (b->left == 0)
		b->state = BORDER_HEAD;
}

/* Close ------------------------------------------------------------------- */

/* The n-th byte of a held frame's payload. */
static uint8_t
payload_at(const uint8_t *frame, size_t n)
{
	size_t head = head_len(frame);
	uint8_t c = frame[head + n];

	return (frame[1] & MASKED) != 0
	    ? (uint8_t)(c ^ frame[head - 4 + (n & 3)])
	    : c;
}

static void
read_close(struct wsborder *b)
{
	size_t len = (size_t)payload_len(b->held);

	if (len < 2)
		return;
	b->code =
	    (uint16_t)(payload_at(b->held, 0) << 8 | payload_at(b->held, 1));
	for (size_t i = 2; i < len; i++)
		b->reason[b->reason_len++] = payload_at(b->held, i);
}

/* Pieces ------------------------------------------------------------------ */

/* Copy bytes to held until it has n; how many of in were used. */
static size_t
hold(struct wsborder *b, struct slice in, size_t n)
{
	size_t len = n - b->have < in.len ? n - b->have : in.len;

	memcpy(b->held + b->have, in.ptr, len);
	b->have = (uint8_t)(b->have + len);
	return len;
}

static size_t
eat_head(struct wsborder *b, struct slice in)
{
	size_t n = 0;

	/* Usually all of it is there, and held would be a detour. */
	if (b->have == 0 && in.len >= WS_HEAD_MAX &&
	    (in.ptr[0] & OPCODE) != WS_CLOSE) {
		begin(b, in.ptr);
		return head_len(in.ptr);
	}
	if (b->have < 2)
		n = hold(b, in, 2);
	if (b->have >= 2)
		n += hold(b, slice_from_at(in, n), head_len(b->held));
	if (b->have < 2 || b->have < head_len(b->held))
		return n;
	begin(b, b->held);
	if (b->state != BORDER_CLOSE)
		b->have = 0;
	return n;
}

static size_t
eat_payload(struct wsborder *b, struct slice in)
{
	size_t n = b->left < in.len ? (size_t)b->left : in.len;

	if (b->state == BORDER_CLOSE)
		hold(b, slice_first(in, n), b->have + n);
	if ((b->opcode & CONTROL) == 0) {
		b->bytes += n;
		b->message += n;
	}
	b->left -= n;
	if (b->left > 0)
		return n;
	if (b->state == BORDER_CLOSE)
		read_close(b);
	b->state = BORDER_HEAD;
	b->have = 0;
	return n;
}

/* Pongs ------------------------------------------------------------------- */

static bool
begins_pong(const struct wsborder *b, struct slice in)
{
	return b->state == BORDER_HEAD && b->have == 0 && b->waiting > 0 &&
	    in.ptr[0] == (FIN | WS_PONG);
}

static bool
is_ours(const struct wsborder *b)
{
	for (size_t i = 0; i < WSBORDER_TOKEN; i++) {
		if (payload_at(b->held, i) != b->token[i])
			return false;
	}
	return true;
}

/*
 * Take more of a frame that is withheld.  True: it is not ours, *pass is
 * what there is of it, and it goes on as any other.
 */
static bool
withhold(struct wsborder *b, struct slice *in, struct slice *pass)
{
	if (b->have < 2)
		*in = slice_from_at(*in, hold(b, *in, 2));
	if (b->have < 2)
		return false;
	if ((b->held[1] & LENGTH) == WSBORDER_TOKEN) {
		size_t whole = head_len(b->held) + WSBORDER_TOKEN;
		*in = slice_from_at(*in, hold(b, *in, whole));
		if (b->have < whole)
			return false;
	}
	*pass = (struct slice){ b->held, b->have };
	b->state = BORDER_HEAD;
	if (b->have == 2) {
		/* It may be all of its head, even of the frame. */
		eat_head(b, slice_first(*in, 0));
		return true;
	}
	b->have = 0;
	if (!is_ours(b)) {
		b->frames++;
		return true;
	}
	b->waiting--;
	b->pongs++;
	return false;
}

/* The walk ---------------------------------------------------------------- */

/* Everything up to the end, or to a pong that may be ours. */
static struct slice
run(struct wsborder *b, struct slice *in)
{
	const uint8_t *from = in->ptr;

	while (in->len > 0 && !b->lost && !begins_pong(b, *in))
		*in = slice_from_at(*in,
		    b->state == BORDER_HEAD ? eat_head(b, *in)
					    : eat_payload(b, *in));
	if (b->lost)
		*in = slice_from_at(*in, in->len);
	return (struct slice){ from, (size_t)(in->ptr - from) };
}

bool
wsborder_next(struct wsborder *b, struct slice *bytes, struct slice *pass)
{
	while (bytes->len > 0) {
		if (b->state == BORDER_WITHHELD) {
			if (withhold(b, bytes, pass))
				return true;
			continue;
		}
		*pass = run(b, bytes);
		if (pass->len > 0)
			return true;
		b->state = BORDER_WITHHELD;
	}
	return false;
}

bool
wsborder_open(const struct wsborder *b)
{
	return !b->lost && !b->closed &&
	    (b->state == BORDER_WITHHELD ||
		(b->state == BORDER_HEAD && b->have == 0));
}

void
wsborder_ping(struct wsborder *b, uint8_t out[WSBORDER_PING])
{
	out[0] = FIN | WS_PING;
	out[1] = WSBORDER_TOKEN;
	memcpy(out + 2, b->token, WSBORDER_TOKEN);
	b->waiting++;
}
