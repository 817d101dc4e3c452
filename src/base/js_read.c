#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

#include "base/js_tape.h"

/*
 * Design notes.  One pass; `p` travels as an argument so that it stays in a
 * register, NULL after a failure.  What is open is a chain through the tape
 * (inside.parent), so depth needs no stack.  Repeated names: up to FEW
 * members each name is one bit of a 64-bit filter, and only names whose bit
 * is taken are compared; beyond, the names are sorted when the object ends.
 * No hash can be attacked, the worst case is n log n.
 */
enum { FEW = 16 };

struct reader {
	struct js_doc *doc;
	struct arena *arena;
	const uint8_t *text, *end;
	union js_slot *tape;
	uint32_t top, room; /* slots used, slots there */
	uint32_t open;      /* innermost open container, 0 = none */
	uint32_t depth, max_depth;
	uint8_t closer; /* what ends it */
	int err;
};

enum { SLOTS_PER_STEP = 3 };

static const uint8_t *
fail(struct reader *r, const uint8_t *p, int err)
{
	r->err = err;
	r->doc->error_at = (size_t)(p - r->text);
	return NULL;
}

static bool
grow(struct reader *r)
{
	uint32_t want = r->room * 2;
	union js_slot *tape = arena_array(r->arena, want, sizeof(*tape));

	if (tape == NULL)
		return false;
	memcpy(tape, r->tape, r->top * sizeof(*tape));
	r->tape = r->doc->tape = tape;
	r->room = want;
	return true;
}

static inline bool
has_room(struct reader *r)
{
	return r->room - r->top >= SLOTS_PER_STEP || grow(r);
}

static inline const uint8_t *
skip_space(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p <= ' ' &&
	    (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

static inline struct js_node *
push(struct reader *r, const uint8_t *p, const uint8_t *end, enum js_kind kind)
{
	struct js_node *n = &r->tape[r->top++].node;

	n->start = (uint32_t)(p - r->text);
	n->end = (uint32_t)(end - r->text);
	n->next = r->top;
	n->kind = (uint8_t)kind;
	n->flags = 0;
	return n;
}

/* Strings -------------------------------------------------------------- */

static inline bool
stops_plain(uint8_t c)
{
	return c == '"' || c == '\\' || c < 0x20 || c >= 0x80;
}

static inline bool
stops_any(uint8_t c)
{
	return c == '"' || c == '\\' || c < 0x20;
}

/* The first byte that is a quote, a backslash, a control or not ASCII. */
static inline const uint8_t *
scan_plain(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		/* Signed, so that bytes from 0x80 are below 0x20 too. */
		__m128i stop = _mm_or_si128(
		    _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
			_mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
		    _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)));
		int at = _mm_movemask_epi8(stop);
		if (at != 0)
			return p + __builtin_ctz((unsigned)at);
	}
#endif
	while (p < end && !stops_plain(*p))
		p++;
	return p;
}

/* The same, passing over what is not ASCII. */
static const uint8_t *
scan_any(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
	const __m128i control = _mm_set1_epi8(0x1f);
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i stop = _mm_or_si128(
		    _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
			_mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
		    _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
		int at = _mm_movemask_epi8(stop);
		if (at != 0)
			return p + __builtin_ctz((unsigned)at);
	}
#endif
	while (p < end && !stops_any(*p))
		p++;
	return p;
}

/* The value of a hexadecimal digit, or 16. */
static uint32_t
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10) : 16;
}

static bool
hex4(const uint8_t *p, uint32_t *out)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		uint32_t digit = hex_digit(p[i]);
		if (digit > 15)
			return false;
		value = value << 4 | digit;
	}
	*out = value;
	return true;
}

/* The byte that a one-letter escape means, or 0. */
static uint8_t
short_escape(uint8_t c)
{
	switch (c) {
	case '"':
	case '\\':
	case '/':
		return c;
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return 0;
	}
}

/* Behind the escape whose backslash is at p. */
static const uint8_t *
skip_escape(struct reader *r, const uint8_t *p)
{
	uint32_t code;

	if (r->end - p >= 2 && short_escape(p[1]) != 0)
		return p + 2;
	if (r->end - p >= 6 && p[1] == 'u' && hex4(p + 2, &code))
		return p + 6;
	return fail(r, p, ERR_INVALID);
}

/* Write the character of the \u escape at p, checked before; *used its
 * length, twelve for a surrogate pair. */
static size_t
decode_unicode(struct reader *r, struct slice s, uint8_t *out, size_t *used)
{
	uint32_t code = 0, low = 0;

	*used = 6;
	hex4(s.ptr + 2, &code);
	if (code >= 0xd800 && code < 0xdc00 && s.len >= 12 &&
	    s.ptr[6] == '\\' && s.ptr[7] == 'u' && hex4(s.ptr + 8, &low) &&
	    low >= 0xdc00 && low < 0xe000) {
		*used = 12;
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	if (code >= 0xd800 && code < 0xe000)
		r->doc->lone_surrogate = true;
	return utf8_encode(code, out); /* a lone one becomes U+FFFD */
}

/* Put the decoded form of a checked string on the tape.  No escape is
 * shorter than what it stands for. */
static bool
decode(struct reader *r, struct js_node *n)
{
	struct slice s = { r->text + n->start + 1, n->end - n->start - 2 };
	uint8_t *mem = arena_alloc(r->arena, s.len), *out = mem;

	if (mem == NULL)
		return false;
	while (s.len > 0) {
		size_t run = slice_find(s, '\\'), used = 2;
		memcpy(out, s.ptr, run);
		out += run;
		s = slice_from_at(s, run);
		if (s.len == 0)
			break;
		if (s.ptr[1] == 'u')
			out += decode_unicode(r, s, out, &used);
		else
			*out++ = short_escape(s.ptr[1]);
		s = slice_from_at(s, used);
	}
	n->flags = JS_DECODED;
	n->next++;
	r->tape[r->top++].decoded = (struct slice){ mem, (size_t)(out - mem) };
	return true;
}

/* The string begun at p goes on at q, where something is not plain. */
static const uint8_t *
read_odd_string(struct reader *r, const uint8_t *p, const uint8_t *q)
{
	bool escaped = false;

	while (q < r->end && *q != '"') {
		if (*q == '\\') {
			escaped = true;
			q = skip_escape(r, q);
			if (q == NULL)
				return NULL;
		} else if (*q < 0x20) {
			return fail(r, q, ERR_INVALID);
		}
		q = scan_any(q, r->end);
	}
	if (q == r->end)
		return fail(r, q, ERR_INVALID);
	if (!utf8_valid((struct slice){ p, (size_t)(q - p) }))
		return fail(r, p, ERR_UTF8);
	struct js_node *n = push(r, p, q + 1, JS_STRING);
	if (escaped && !decode(r, n))
		return fail(r, p, ERR_NOMEM);
	return q + 1;
}

static inline const uint8_t *
read_string(struct reader *r, const uint8_t *p)
{
	const uint8_t *q = scan_plain(p + 1, r->end);

	if (q == r->end || *q != '"')
		return read_odd_string(r, p, q);
	push(r, p, q + 1, JS_STRING);
	return q + 1;
}

/* Repeated names -------------------------------------------------------- */

/* Compare the name at slot i with those before it. */
static void
compare_names(struct reader *r, uint32_t i)
{
	struct slice name = js_tape_text(r->doc, i);

	for (uint32_t at = r->open + 2; at < i;) {
		if (slice_eq(js_tape_text(r->doc, at), name)) {
			r->doc->repeated = name;
			return;
		}
		at = r->tape[r->tape[at].node.next].node.next;
	}
}

static inline void
note_name(struct reader *r, uint32_t i)
{
	union js_slot *inside = &r->tape[r->open + 1];

	if (inside->inside.count > FEW || r->doc->repeated.ptr != NULL)
		return;
	struct slice name = js_tape_text(r->doc, i);
	unsigned mix = (unsigned)name.len;
	if (name.len > 0)
		mix += name.ptr[0] * 7u + name.ptr[name.len - 1] * 13u +
		    name.ptr[name.len / 2] * 29u;
	uint64_t bit = UINT64_C(1) << (mix & 63);
	if ((inside->inside.names & bit) != 0)
		compare_names(r, i);
	inside->inside.names |= bit;
}

/* Merge sort, bottom up; returns whichever of the two arrays ends sorted. */
static struct slice *
sort_names(struct slice *from, struct slice *to, size_t n)
{
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t low = 0; low < n; low += 2 * width) {
			size_t mid = low + width < n ? low + width : n;
			size_t high = mid + width < n ? mid + width : n;
			size_t a = low, b = mid, at = low;
			while (at < high) {
				bool left = b == high ||
				    (a < mid &&
					slice_cmp(from[a], from[b]) <= 0);
				to[at++] = left ? from[a++] : from[b++];
			}
		}
		struct slice *swap = from;
		from = to;
		to = swap;
	}
	return from;
}

/* Look for repeated names in the object at slot i, which just ended. */
static bool
check_many(struct reader *r, uint32_t i)
{
	size_t n = r->tape[i + 1].inside.count, at = 0;
	struct slice *names = arena_array(r->arena, n, 2 * sizeof(*names));

	if (names == NULL)
		return false;
	for (uint32_t slot = i + 2; slot < r->top;) {
		names[at++] = js_tape_text(r->doc, slot);
		slot = r->tape[r->tape[slot].node.next].node.next;
	}
	names = sort_names(names, names + n, n);
	for (at = 1; at < n && r->doc->repeated.ptr == NULL; at++) {
		if (slice_eq(names[at - 1], names[at]))
			r->doc->repeated = names[at];
	}
	return true;
}

/* Values ---------------------------------------------------------------- */

static const uint8_t *
skip_digits(const uint8_t *p, const uint8_t *end)
{
	while (p < end && (unsigned)*p - '0' <= 9)
		p++;
	return p;
}

/* Behind one digit or more, or NULL. */
static const uint8_t *
some_digits(const uint8_t *p, const uint8_t *end)
{
	const uint8_t *q = skip_digits(p, end);

	return q == p ? NULL : q;
}

static const uint8_t *
read_number(struct reader *r, const uint8_t *start)
{
	const uint8_t *p = start, *end = r->end;

	if (*p == '-')
		p++;
	p = p < end && *p == '0' ? p + 1 : some_digits(p, end);
	if (p != NULL && p < end && *p == '.')
		p = some_digits(p + 1, end);
	if (p != NULL && p < end && (*p | 0x20) == 'e') {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = some_digits(p, end);
	}
	if (p == NULL)
		return fail(r, start, ERR_INVALID);
	push(r, start, p, JS_NUMBER);
	return p;
}

static const uint8_t *
read_word(struct reader *r, const uint8_t *p, struct slice word)
{
	bool truth = word.ptr[0] == 't';

	if ((size_t)(r->end - p) < word.len ||
	    memcmp(p, word.ptr, word.len) != 0)
		return fail(r, p, ERR_INVALID);
	struct js_node *n =
	    push(r, p, p + word.len, word.ptr[0] == 'n' ? JS_NULL : JS_BOOL);
	n->flags = truth ? JS_TRUE : 0;
	return p + word.len;
}

/* A member's name and colon; p is where the name must begin. */
static inline const uint8_t *
read_name(struct reader *r, const uint8_t *p)
{
	uint32_t i = r->top;

	if (p == r->end || *p != '"')
		return fail(r, p, ERR_INVALID);
	if (!has_room(r))
		return fail(r, p, ERR_NOMEM);
	p = read_string(r, p);
	if (p == NULL)
		return NULL;
	r->tape[r->open + 1].inside.count++;
	note_name(r, i);
	p = skip_space(p, r->end);
	if (p == r->end || *p != ':')
		return fail(r, p, ERR_INVALID);
	return skip_space(p + 1, r->end);
}

static const uint8_t *
close_container(struct reader *r, const uint8_t *p)
{
	uint32_t i = r->open, parent = r->tape[i + 1].inside.parent;
	struct js_node *n = &r->tape[i].node;

	n->end = (uint32_t)(p - r->text);
	n->next = r->top;
	r->open = parent;
	r->depth--;
	r->closer = r->tape[parent].node.kind == JS_OBJECT ? '}' : ']';
	if (n->kind == JS_OBJECT && r->tape[i + 1].inside.count > FEW &&
	    r->doc->repeated.ptr == NULL && !check_many(r, i))
		return fail(r, p, ERR_NOMEM);
	return p;
}

static const uint8_t *read_next(struct reader *r, const uint8_t *p);

/* A bracket; afterwards p is at the first value within, or behind all. */
static inline const uint8_t *
open_container(struct reader *r, const uint8_t *p, enum js_kind kind)
{
	uint32_t i = r->top;

	if (r->depth == r->max_depth)
		return fail(r, p, ERR_DEPTH);
	r->depth++;
	push(r, p, p, kind);
	r->tape[r->top++].inside.parent = r->open;
	r->tape[i + 1].inside.names = 0;
	r->tape[i + 1].inside.count = 0;
	r->open = i;
	r->closer = kind == JS_OBJECT ? '}' : ']';
	p = skip_space(p + 1, r->end);
	if (p < r->end && *p == r->closer) {
		p = close_container(r, p + 1);
		return p == NULL ? NULL : read_next(r, p);
	}
	if (kind == JS_OBJECT)
		return read_name(r, p);
	r->tape[i + 1].inside.count = 1;
	return p;
}

/* From behind a value to where the next one begins. */
static inline const uint8_t *
read_next(struct reader *r, const uint8_t *p)
{
	while (r->open != 0) {
		p = skip_space(p, r->end);
		if (p == r->end)
			return fail(r, p, ERR_INVALID);
		if (*p == ',') {
			p = skip_space(p + 1, r->end);
			if (r->closer == '}')
				return read_name(r, p);
			r->tape[r->open + 1].inside.count++;
			return p;
		}
		if (*p != r->closer)
			return fail(r, p, ERR_INVALID);
		p = close_container(r, p + 1);
		if (p == NULL)
			return NULL;
	}
	return p;
}

static inline const uint8_t *
read_scalar(struct reader *r, const uint8_t *p)
{
	switch (*p) {
	case '"':
		return read_string(r, p);
	case 't':
		return read_word(r, p, SL("true"));
	case 'f':
		return read_word(r, p, SL("false"));
	case 'n':
		return read_word(r, p, SL("null"));
	default:
		return read_number(r, p);
	}
}

static const uint8_t *
read_all(struct reader *r)
{
	const uint8_t *p = skip_space(r->text, r->end);

	do {
		if (p == r->end)
			return fail(r, p, ERR_INVALID);
		if (!has_room(r))
			return fail(r, p, ERR_NOMEM);
		if (*p == '{') {
			p = open_container(r, p, JS_OBJECT);
		} else if (*p == '[') {
			p = open_container(r, p, JS_ARRAY);
		} else {
			p = read_scalar(r, p);
			if (p != NULL)
				p = read_next(r, p);
		}
	} while (p != NULL && r->open != 0);
	if (p == NULL)
		return NULL;
	p = skip_space(p, r->end);
	return p == r->end ? p : fail(r, p, ERR_INVALID);
}

int
js_parse(struct js_doc *doc, struct slice text, const struct js_limits *limits,
    struct arena *a)
{
	*doc = (struct js_doc){ .text = text };
	if (text.len > limits->bytes || text.len > JS_BYTES_MAX)
		return ERR_TOO_BIG;
	if (text.len == 0)
		return ERR_INVALID;
	struct reader r = { .doc = doc,
		.arena = a,
		.text = text.ptr,
		.end = text.ptr + text.len,
		.top = JS_TAPE_ROOT,
		.room = (uint32_t)(text.len / 8) + 16,
		.max_depth = limits->depth };

	r.tape = doc->tape = arena_array(a, r.room, sizeof(*r.tape));
	if (r.tape == NULL)
		return ERR_NOMEM;
	read_all(&r);
	return r.err;
}
