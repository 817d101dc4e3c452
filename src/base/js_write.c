#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

#include "base/js_write.h"

void
js_write(struct js_writer *w, struct buf *out)
{
	*w = (struct js_writer){ .out = out };
}

void
js_write_ascii(struct js_writer *w, struct buf *out)
{
	*w = (struct js_writer){ .out = out, .ascii = true };
}

int
js_finish(struct js_writer *w)
{
	int err = w->err != 0 ? w->err : w->out->err;

	assert(err != 0 || (w->depth == 0 && w->comma));
	return err;
}

static bool
in_object(const struct js_writer *w)
{
	return w->depth > 0 && (w->objects >> (w->depth - 1) & 1) != 0;
}

/* What stands between the value before and this one. */
static bool
separator(struct js_writer *w)
{
	bool comma = w->comma && !w->keyed;

	assert(w->keyed == in_object(w));
	assert(w->depth > 0 || !w->comma);
	w->keyed = false;
	w->comma = true;
	return comma;
}

/* buf_reserve, without the call when there is room. */
static inline uint8_t *
reserve(struct buf *b, size_t n)
{
	size_t used = b->tail - b->head;

	if (b->err == 0 && n <= b->alloc - b->tail && n <= b->cap - used)
		return b->mem + b->tail;
	return buf_reserve(b, n);
}

static inline void
commit(struct buf *b, const uint8_t *end)
{
	b->tail = (size_t)(end - b->mem);
}

/* Append a comma if one is due, and text that is valid as it is. */
static inline void
put_token(struct js_writer *w, struct slice text)
{
	if (w->err != 0)
		return;
	size_t comma = separator(w);
	uint8_t *p = reserve(w->out, comma + text.len);
	if (p == NULL)
		return;
	*p = ',';
	memcpy(p + comma, text.ptr, text.len);
	commit(w->out, p + comma + text.len);
}

/* Strings --------------------------------------------------------------- */

#ifdef __SSE2__

static inline __m128i
load16(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline void
store16(uint8_t *p, __m128i v)
{
	_mm_storeu_si128((__m128i *)(void *)p, v);
}

/* One bit for each byte that needs more than copying. */
static inline unsigned
odd_bytes(__m128i v)
{
	/* Signed, so that bytes from 0x80 are below 0x20 too. */
	__m128i odd =
	    _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
			     _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))),
		_mm_or_si128(_mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
		    _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f))));

	return (unsigned)_mm_movemask_epi8(odd);
}

/* Copy 4 to 15 bytes by two words that overlap; false when some are odd. */
static inline bool
copy_short(uint8_t *out, const uint8_t *in, size_t len)
{
	size_t width = len >= 8 ? 8 : 4;
	uint64_t head = 0, tail = 0;

	if (width == 8) {
		memcpy(&head, in, 8);
		memcpy(&tail, in + len - 8, 8);
		memcpy(out, &head, 8);
		memcpy(out + len - 8, &tail, 8);
	} else {
		memcpy(&head, in, 4);
		memcpy(&tail, in + len - 4, 4);
		memcpy(out, &head, 4);
		memcpy(out + len - 4, &tail, 4);
		head = tail = head | tail << 32;
	}
	return odd_bytes(_mm_set_epi64x((int64_t)tail, (int64_t)head)) == 0;
}

#endif

/*
 * Copy s up to the first byte that is not plain ASCII; how many were plain.
 * There is room for s.len at out, and what follows the plain ones there is
 * anything.
 */
static inline size_t
copy_plain(uint8_t *out, struct slice s)
{
	size_t at = 0;

#ifdef __SSE2__
	for (; s.len - at >= 16; at += 16) {
		__m128i v = load16(s.ptr + at);
		unsigned odd = odd_bytes(v);
		store16(out + at, v);
		if (odd != 0)
			return at + (size_t)__builtin_ctz(odd);
	}
	if (at > 0 && at < s.len) {
		/* The last sixteen, some of them again. */
		at = s.len - 16;
		__m128i v = load16(s.ptr + at);
		unsigned odd = odd_bytes(v);
		store16(out + at, v);
		return odd == 0 ? s.len : at + (size_t)__builtin_ctz(odd);
	}
	if (at == 0 && s.len >= 4 && copy_short(out, s.ptr, s.len))
		return s.len;
#endif
	for (; at < s.len; at++) {
		uint8_t c = s.ptr[at];
		if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f)
			break;
		out[at] = c;
	}
	return at;
}

static void
put_unit(struct buf *out, uint32_t unit)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t text[6] = { '\\', 'u', (uint8_t)digits[unit >> 12 & 15],
		(uint8_t)digits[unit >> 8 & 15],
		(uint8_t)digits[unit >> 4 & 15], (uint8_t)digits[unit & 15] };

	buf_put(out, (struct slice){ text, sizeof(text) });
}

/* The letter of the two-byte escape for c, or 0. */
static uint8_t
short_escape(uint32_t c)
{
	switch (c) {
	case '"':
	case '\\':
		return (uint8_t)c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

static void
put_code(struct js_writer *w, uint32_t code)
{
	uint8_t letter = short_escape(code), text[4];

	if (letter != 0) {
		text[0] = '\\';
		text[1] = letter;
		buf_put(w->out, (struct slice){ text, 2 });
	} else if (code < 0x20 || (w->ascii && code > 0x7e)) {
		if (code > 0xffff)
			put_unit(w->out, 0xd800 + ((code - 0x10000) >> 10));
		put_unit(
		    w->out, code > 0xffff ? 0xdc00 + (code & 0x3ff) : code);
	} else {
		buf_put(
		    w->out, (struct slice){ text, utf8_encode(code, text) });
	}
}

/* Characters that are not plain ASCII, until one is; how many bytes. */
static size_t
put_odd(struct js_writer *w, struct slice s)
{
	size_t at = 0;

	while (at < s.len) {
		uint8_t c = s.ptr[at];
		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			break;
		uint32_t code = 0xfffd;
		int n = utf8_decode(slice_from_at(s, at), &code);
		put_code(w, code);
		/* A character cut by the end is one mark, too. */
		at += n > 0 ? (size_t)n : n < 0 ? (size_t)-n : s.len - at;
	}
	return at;
}

/* The rest of a string, from its first byte that is not plain. */
static void
put_rest(struct js_writer *w, struct slice s)
{
	while (s.len > 0 && w->out->err == 0) {
		s = slice_from_at(s, put_odd(w, s));
		if (s.len == 0)
			break;
		uint8_t *p = reserve(w->out, s.len);
		if (p == NULL)
			return;
		size_t plain = copy_plain(p, s);
		commit(w->out, p + plain);
		s = slice_from_at(s, plain);
	}
}

/* [,] " s " [:] */
static inline void
put_quoted(struct js_writer *w, struct slice s, bool comma, bool colon)
{
	uint8_t *p = reserve(w->out, s.len + 2 + comma + colon);

	if (p == NULL)
		return;
	*p = ',';
	p += comma;
	*p++ = '"';
	size_t plain = copy_plain(p, s);
	p += plain;
	if (plain < s.len) {
		commit(w->out, p);
		put_rest(w, slice_from_at(s, plain));
		buf_put(w->out, colon ? SL("\":") : SL("\""));
		return;
	}
	*p++ = '"';
	if (colon)
		*p++ = ':';
	commit(w->out, p);
}

void
js_put_string(struct js_writer *w, struct slice s)
{
	if (w->err == 0)
		put_quoted(w, s, separator(w), false);
}

void
js_key(struct js_writer *w, struct slice key)
{
	if (w->err != 0)
		return;
	assert(in_object(w) && !w->keyed);
	put_quoted(w, key, w->comma, true);
	w->keyed = true;
}

/* Containers ------------------------------------------------------------ */

static void
begin(struct js_writer *w, bool object)
{
	if (w->err != 0)
		return;
	if (w->depth == JS_WRITE_DEPTH) {
		w->err = ERR_DEPTH;
		return;
	}
	put_token(w, object ? SL("{") : SL("["));
	uint64_t bit = UINT64_C(1) << w->depth;
	w->objects = object ? w->objects | bit : w->objects & ~bit;
	w->depth++;
	w->comma = false;
}

void
js_begin_object(struct js_writer *w)
{
	begin(w, true);
}

void
js_begin_array(struct js_writer *w)
{
	begin(w, false);
}

void
js_end(struct js_writer *w)
{
	if (w->err != 0)
		return;
	assert(w->depth > 0 && !w->keyed);
	buf_put_byte(w->out, in_object(w) ? '}' : ']');
	w->depth--;
	w->comma = true;
}

/* Other values ---------------------------------------------------------- */

/* Digits of n that end before end; where they begin. */
static uint8_t *
put_digits(uint8_t *end, uint64_t n)
{
	do
		*--end = (uint8_t)('0' + n % 10);
	while ((n /= 10) > 0);
	return end;
}

static void
put_integer(struct js_writer *w, uint64_t n, bool negative)
{
	uint8_t text[21], *end = text + sizeof(text);
	uint8_t *at = put_digits(end, n);

	if (negative)
		*--at = '-';
	put_token(w, (struct slice){ at, (size_t)(end - at) });
}

void
js_put_u64(struct js_writer *w, uint64_t n)
{
	put_integer(w, n, false);
}

void
js_put_i64(struct js_writer *w, int64_t n)
{
	put_integer(w, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, n < 0);
}

enum { DOUBLE_MAX = 32 }; /* bytes of the longest text, and NUL */

/*
 * The usual numbers have few digits.  m / 10^k with m below 10^15 and a power
 * that is exact is rounded once, as reading "m e-k" rounds; so if that gives d
 * back, those are digits of d, and with the least k the fewest (a decimal of
 * 15 digits is the only one so short near its double).  0 when there are
 * none, or %g would use an exponent: the length of the text.
 */
static size_t
short_double(double d, uint8_t text[DOUBLE_MAX])
{
	static const double powers[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7,
		1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
		1e18 };
	const double most = 1e15;
	double size = d < 0 ? -d : d;
	uint8_t digits[24], *end = digits + sizeof(digits), *p = text;

	if (d >= 0 && d <= 0) {
		memcpy(text, "-0", 2);
		text[0] = __builtin_signbit(d) ? '-' : '0';
		return __builtin_signbit(d) ? 2 : 1;
	}
	if (!(size >= 1e-4 && size < most))
		return 0;
	for (size_t k = 0; k < sizeof(powers) / sizeof(powers[0]); k++) {
		double scaled = size * powers[k] + 0.5;
		if (scaled >= most)
			return 0;
		uint64_t m = (uint64_t)scaled;
		double back = (double)m / powers[k];
		/* Positive numbers: equal values are the same bits. */
		if (!(back >= size && back <= size))
			continue;
		uint8_t *first = put_digits(end, m);
		while ((size_t)(end - first) <= k)
			*--first = '0';
		size_t whole = (size_t)(end - first) - k;
		if (d < 0)
			*p++ = '-';
		memcpy(p, first, whole);
		p += whole;
		if (k > 0)
			*p++ = '.';
		memcpy(p, first + whole, k);
		return (size_t)(p - text) + k;
	}
	return 0;
}

/* The fewest digits that read back as d. */
static size_t
any_double(double d, uint8_t out[DOUBLE_MAX])
{
	char *text = (char *)out;
	int len = 0;

	for (int digits = 15; digits <= 17; digits++) {
		len = snprintf(text, DOUBLE_MAX, "%.*g", digits, d);
		/* Equal doubles of one sign are the same bits. */
		double back = strtod(text, NULL);
		if (back >= d && back <= d)
			break;
	}
	return (size_t)len;
}

void
js_put_double(struct js_writer *w, double d)
{
	uint8_t text[DOUBLE_MAX];

	if (!(d >= -__DBL_MAX__ && d <= __DBL_MAX__)) {
		js_put_null(w);
		return;
	}
	size_t len = short_double(d, text);
	if (len == 0)
		len = any_double(d, text);
	put_token(w, (struct slice){ text, len });
}

void
js_put_bool(struct js_writer *w, bool b)
{
	put_token(w, b ? SL("true") : SL("false"));
}

void
js_put_null(struct js_writer *w)
{
	put_token(w, SL("null"));
}

void
js_put_raw(struct js_writer *w, struct slice raw)
{
	assert(raw.len > 0);
	put_token(w, raw);
}

/*
 * The common case at once: one reservation for [,]"key":"s".  False, and
 * nothing written, when either needs escapes.
 */
static inline bool
put_plain_pair(struct js_writer *w, struct slice key, struct slice s)
{
	uint8_t *p = reserve(w->out, w->comma + key.len + s.len + 5);

	if (p == NULL)
		return true; /* the slow way would not fit either */
	*p = ',';
	p += w->comma;
	*p++ = '"';
	if (copy_plain(p, key) < key.len)
		return false;
	p += key.len;
	memcpy(p, "\":\"", 3);
	p += 3;
	if (copy_plain(p, s) < s.len)
		return false;
	p += s.len;
	*p++ = '"';
	commit(w->out, p);
	w->comma = true;
	return true;
}

void
js_kv_string(struct js_writer *w, const char *key, struct slice s)
{
	struct slice name = slice_from(key);

	if (w->err != 0)
		return;
	assert(in_object(w) && !w->keyed);
	if (put_plain_pair(w, name, s))
		return;
	js_key(w, name);
	js_put_string(w, s);
}

void
js_kv_i64(struct js_writer *w, const char *key, int64_t n)
{
	js_key(w, slice_from(key));
	js_put_i64(w, n);
}

void
js_kv_u64(struct js_writer *w, const char *key, uint64_t n)
{
	js_key(w, slice_from(key));
	js_put_u64(w, n);
}

void
js_kv_double(struct js_writer *w, const char *key, double d)
{
	js_key(w, slice_from(key));
	js_put_double(w, d);
}

void
js_kv_bool(struct js_writer *w, const char *key, bool b)
{
	js_key(w, slice_from(key));
	js_put_bool(w, b);
}

void
js_kv_null(struct js_writer *w, const char *key)
{
	js_key(w, slice_from(key));
	js_put_null(w);
}

void
js_kv_raw(struct js_writer *w, const char *key, struct slice raw)
{
	js_key(w, slice_from(key));
	js_put_raw(w, raw);
}

void
js_kv_object(struct js_writer *w, const char *key)
{
	js_key(w, slice_from(key));
	js_begin_object(w);
}

void
js_kv_array(struct js_writer *w, const char *key)
{
	js_key(w, slice_from(key));
	js_begin_array(w);
}
