#include <string.h>

#include "base/utf8.h"

/*
 * Design notes.  A deterministic automaton whose transition is one shift:
 * the word of a byte holds, at the bit position that *is* the current state,
 * the next state.  Only the shift depends on the byte before, so the loop
 * runs at its latency.  Bits above the lowest six are junk until masked.
 */
enum {
	WHOLE = 0,     /* between characters; a zeroed struct is a start */
	LAST = 6,      /* one more continuation byte */
	TWO = 12,      /* two more */
	THREE = 18,    /* three more */
	AFTER_E0 = 24, /* A0..BF, then one more: not overlong */
	AFTER_ED = 30, /* 80..9F, then one more: no surrogate */
	AFTER_F0 = 36, /* 90..BF, then two more: not overlong */
	AFTER_F4 = 42, /* 80..8F, then two more: not above U+10FFFF */
	BAD = 48,
	STATE_MASK = 63
};

/* A byte that only starts a character, leading to the given state. */
#define START(next)                                                 \
	((uint64_t)(next) << WHOLE | (uint64_t)BAD << LAST |        \
	    (uint64_t)BAD << TWO | (uint64_t)BAD << THREE |         \
	    (uint64_t)BAD << AFTER_E0 | (uint64_t)BAD << AFTER_ED | \
	    (uint64_t)BAD << AFTER_F0 | (uint64_t)BAD << AFTER_F4 | \
	    (uint64_t)BAD << BAD)

/* A continuation byte, and what it does after each of the special leads. */
#define CONTINUE(e0, ed, f0, f4)                                      \
	((uint64_t)BAD << WHOLE | (uint64_t)WHOLE << LAST |           \
	    (uint64_t)LAST << TWO | (uint64_t)TWO << THREE |          \
	    (uint64_t)(e0) << AFTER_E0 | (uint64_t)(ed) << AFTER_ED | \
	    (uint64_t)(f0) << AFTER_F0 | (uint64_t)(f4) << AFTER_F4 | \
	    (uint64_t)BAD << BAD)

#define X2(w) w, w
#define X4(w) X2(w), X2(w)
#define X16(w) X4(w), X4(w), X4(w), X4(w)

/* clang-format off */
static const uint64_t step[256] = {
	/* 00 */ X16(START(WHOLE)), X16(START(WHOLE)),
	/* 20 */ X16(START(WHOLE)), X16(START(WHOLE)),
	/* 40 */ X16(START(WHOLE)), X16(START(WHOLE)),
	/* 60 */ X16(START(WHOLE)), X16(START(WHOLE)),
	/* 80 */ X16(CONTINUE(BAD, LAST, BAD, TWO)),
	/* 90 */ X16(CONTINUE(BAD, LAST, TWO, BAD)),
	/* A0 */ X16(CONTINUE(LAST, BAD, TWO, BAD)),
	/* B0 */ X16(CONTINUE(LAST, BAD, TWO, BAD)),
	/* C0 */ X2(START(BAD)),
	/* C2 */ X2(START(LAST)), X4(START(LAST)), X4(START(LAST)),
	/* CC */ X4(START(LAST)),
	/* D0 */ X16(START(LAST)),
	/* E0 */ START(AFTER_E0),
	/* E1 */ X4(START(TWO)), X4(START(TWO)), X4(START(TWO)),
	/* ED */ START(AFTER_ED), X2(START(TWO)),
	/* F0 */ START(AFTER_F0), X2(START(THREE)), START(THREE),
	/* F4 */ START(AFTER_F4), START(BAD), X2(START(BAD)),
	/* F8 */ X4(START(BAD)), X4(START(BAD)),
};
/* clang-format on */

static const uint8_t REPLACEMENT[3] = { 0xef, 0xbf, 0xbd };

/* Sixteen bytes at once; the compiler knows the machine's own registers. */
typedef uint64_t wide __attribute__((vector_size(16)));

static wide
load(const uint8_t *p)
{
	wide w;

	memcpy(&w, p, sizeof(w));
	return w;
}

static bool
high_bits(wide w)
{
	return ((w[0] | w[1]) & UINT64_C(0x8080808080808080)) != 0;
}

size_t
utf8_ascii(struct slice s)
{
	size_t at = 0;

	for (; s.len - at >= 64; at += 64) {
		const uint8_t *p = s.ptr + at;
		if (high_bits((load(p) | load(p + 16)) |
			(load(p + 32) | load(p + 48))))
			break;
	}
	for (; s.len - at >= 16; at += 16) {
		if (high_bits(load(s.ptr + at)))
			break;
	}
	while (at < s.len && s.ptr[at] < 0x80)
		at++;
	return at;
}

static uint64_t
run(uint64_t state, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		state = step[p[i]] >> (state & STATE_MASK);
	return state & STATE_MASK;
}

bool
utf8_feed(struct utf8 *u, struct slice piece)
{
	uint64_t state = u->state;
	size_t at = 0;

	while (at < piece.len && state != BAD) {
		if (state == WHOLE) {
			at += utf8_ascii(slice_from_at(piece, at));
			if (at == piece.len)
				break;
		}
		/* Long enough that text with few ASCII runs never leaves. */
		size_t n = piece.len - at < 32 ? piece.len - at : 32;
		state = run(state, piece.ptr + at, n);
		at += n;
	}
	u->state = (uint32_t)state;
	return state != BAD;
}

bool
utf8_whole(const struct utf8 *u)
{
	return u->state == WHOLE;
}

bool
utf8_valid(struct slice s)
{
	struct utf8 u = { 0 };

	return utf8_feed(&u, s) && utf8_whole(&u);
}

int
utf8_decode(struct slice s, uint32_t *code)
{
	static const uint8_t lead_bits[5] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint64_t state = WHOLE;
	uint32_t value = 0;

	for (int i = 0; (size_t)i < s.len && i < 4; i++) {
		state = step[s.ptr[i]] >> state & STATE_MASK;
		if (state == BAD)
			return i == 0 ? -1 : -i;
		value = value << 6 | (s.ptr[i] & 0x3fu);
		if (state != WHOLE)
			continue;
		int n = i + 1;
		uint32_t lead = s.ptr[0] & (uint32_t)lead_bits[n];
		uint32_t rest = value & ((1u << (6 * i)) - 1);
		*code = lead << (6 * i) | rest;
		return n;
	}
	return 0;
}

size_t
utf8_encode(uint32_t code, uint8_t out[4])
{
	if (code < 0x80) {
		out[0] = (uint8_t)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (uint8_t)(0xc0 | code >> 6);
		out[1] = (uint8_t)(0x80 | (code & 0x3f));
		return 2;
	}
	if ((code >= 0xd800 && code < 0xe000) || code > 0x10ffff) {
		memcpy(out, REPLACEMENT, sizeof(REPLACEMENT));
		return sizeof(REPLACEMENT);
	}
	if (code < 0x10000) {
		out[0] = (uint8_t)(0xe0 | code >> 12);
		out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | code >> 18);
	out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (code & 0x3f));
	return 4;
}

size_t
utf8_floor(struct slice s)
{
	uint32_t code;

	for (size_t back = 1; back <= 3 && back <= s.len; back++) {
		uint8_t c = s.ptr[s.len - back];
		if (c < 0x80)
			break;
		if (c < 0xc0)
			continue;
		if (utf8_decode(slice_from_at(s, s.len - back), &code) == 0)
			return s.len - back;
		break;
	}
	return s.len;
}

static void
put_replacement(struct buf *out)
{
	buf_put(out, (struct slice){ REPLACEMENT, sizeof(REPLACEMENT) });
}

/* Finish the held character with bytes of piece; how many it took. */
static size_t
mend_held(struct utf8_mender *m, struct slice piece, struct buf *out)
{
	size_t took = 0;
	uint32_t code;

	while (m->count > 0 && took < piece.len) {
		size_t before = m->count;
		m->held[before] = piece.ptr[took];
		struct slice held = { m->held, before + 1 };
		int n = utf8_decode(held, &code);
		if (n < 0) {
			/* The new byte is judged afresh, by itself. */
			put_replacement(out);
			m->count = 0;
			break;
		}
		took++;
		m->count = (uint8_t)(n == 0 ? before + 1 : 0);
		if (n > 0)
			buf_put(out, held);
	}
	return took;
}

void
utf8_mend(struct utf8_mender *m, struct slice piece, struct buf *out)
{
	piece = slice_from_at(piece, mend_held(m, piece, out));
	while (piece.len > 0) {
		size_t good = utf8_ascii(piece);
		int n = 0;
		uint32_t code;
		while (good < piece.len &&
		    (n = utf8_decode(slice_from_at(piece, good), &code)) > 0)
			good += (size_t)n;
		buf_put(out, slice_first(piece, good));
		piece = slice_from_at(piece, good);
		if (piece.len == 0)
			return;
		if (n == 0) {
			memcpy(m->held, piece.ptr, piece.len);
			m->count = (uint8_t)piece.len;
			return;
		}
		put_replacement(out);
		piece = slice_from_at(piece, (size_t)-n);
	}
}

void
utf8_mend_end(struct utf8_mender *m, struct buf *out)
{
	if (m->count > 0)
		put_replacement(out);
	m->count = 0;
}
