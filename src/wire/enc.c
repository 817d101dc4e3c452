#include <string.h>

#include "base/err.h"

#include "wire/enc.h"

/*
 * Design notes.  Base64 and base32 are one scheme: groups of `bytes` bytes
 * stand for groups of `chars` letters of `bits` bits.
 */
struct scheme {
	const char *letters;
	unsigned bits, bytes, chars;
};

static const struct scheme base64_std = {
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6,
	3, 4
};
static const struct scheme base64_url = {
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 6,
	3, 4
};
static const struct scheme base32 = { "abcdefghijklmnopqrstuvwxyz234567", 5, 5,
	8 };

/* Append the letters of at most one group; how many. */
static inline size_t
encode_group(const struct scheme *s, const uint8_t *in, size_t n, uint8_t *out)
{
	unsigned mask = (1u << s->bits) - 1;
	size_t letters = (n * 8 + s->bits - 1) / s->bits;
	uint64_t group = 0;

	for (size_t i = 0; i < s->bytes; i++)
		group = group << 8 | (i < n ? in[i] : 0);
	for (size_t i = 0; i < letters; i++) {
		unsigned shift = (unsigned)(s->chars - 1 - i) * s->bits;
		out[i] = (uint8_t)s->letters[group >> shift & mask];
	}
	return letters;
}

static inline void
encode(struct buf *out, struct slice in, const struct scheme *s, bool pad)
{
	size_t groups = in.len / s->bytes, rest = in.len % s->bytes;

	if (in.len == 0)
		return;
	if (groups >= SIZE_MAX / s->chars - 1) {
		buf_reserve(out, SIZE_MAX); /* fails, and says so in err */
		return;
	}
	size_t letters = (rest * 8 + s->bits - 1) / s->bits;
	size_t tail = pad && rest > 0 ? s->chars : letters;
	uint8_t *to = buf_reserve(out, groups * s->chars + tail);
	if (to == NULL)
		return;
	const uint8_t *from = in.ptr;
	for (size_t i = 0; i < groups; i++) {
		encode_group(s, from, s->bytes, to);
		from += s->bytes;
		to += s->chars;
	}
	if (rest > 0) {
		encode_group(s, from, rest, to);
		memset(to + letters, '=', tail - letters);
	}
	buf_commit(out, groups * s->chars + tail);
}

enum { NO_LETTER = 0x80 };

static void
invert(const struct scheme *s, uint8_t values[256])
{
	memset(values, NO_LETTER, 256);
	for (unsigned i = 0; i < 1u << s->bits; i++)
		values[(uint8_t)s->letters[i]] = (uint8_t)i;
}

/* One group of n letters into its bytes; false when it is none. */
static inline bool
decode_group(const struct scheme *s, const uint8_t values[256], struct slice in,
    uint8_t *out)
{
	uint64_t group = 0;
	unsigned bad = 0;

	for (size_t i = 0; i < s->chars; i++) {
		unsigned value = i < in.len ? values[in.ptr[i]] : 0;
		bad |= value;
		group = group << s->bits | value;
	}
	if ((bad & NO_LETTER) != 0)
		return false;
	size_t bytes = in.len * s->bits / 8;
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(group >> 8 * (s->bytes - 1 - i));
	/* RFC 4648 3.5: bits that belong to no byte are zero. */
	uint64_t left = (UINT64_C(1) << 8 * (s->bytes - bytes)) - 1;
	return (group & left) == 0;
}

static inline int
decode(struct slice in, const struct scheme *s, struct buf *out)
{
	size_t groups = in.len / s->chars, rest = in.len % s->chars;
	size_t tail = rest * s->bits / 8;
	uint8_t values[256];

	/* A last letter that completes no byte is one too many. */
	if (rest > 0 && rest * s->bits % 8 >= s->bits)
		return ERR_INVALID;
	if (in.len == 0)
		return 0;
	uint8_t *to = buf_reserve(out, groups * s->bytes + tail);
	if (to == NULL)
		return out->err;
	invert(s, values);
	for (size_t i = 0; i < groups; i++) {
		struct slice group = { in.ptr + i * s->chars, s->chars };
		if (!decode_group(s, values, group, to + i * s->bytes))
			return ERR_INVALID;
	}
	if (!decode_group(s, values, slice_from_at(in, groups * s->chars),
		to + groups * s->bytes))
		return ERR_INVALID;
	buf_commit(out, groups * s->bytes + tail);
	return 0;
}

void
enc_put_base64(struct buf *out, struct slice in, enum enc_base64 form)
{
	bool pad = (form & ENC_BARE) == 0;

	/* Each call with a constant, so that the loops are unrolled. */
	if ((form & ENC_URL) != 0)
		encode(out, in, &base64_url, pad);
	else
		encode(out, in, &base64_std, pad);
}

int
enc_get_base64(struct slice in, enum enc_base64 form, struct buf *out)
{
	if ((form & ENC_BARE) == 0) {
		if (in.len % 4 != 0)
			return ERR_INVALID;
		for (int i = 0; i < 2 && slice_ends(in, SL("=")); i++)
			in.len--;
	}
	return (form & ENC_URL) != 0 ? decode(in, &base64_url, out)
				     : decode(in, &base64_std, out);
}

void
enc_put_base32(struct buf *out, struct slice in)
{
	encode(out, in, &base32, false);
}

int
enc_get_base32(struct slice in, struct buf *out)
{
	return decode(in, &base32, out);
}

/* Hex and percent --------------------------------------------------------- */

static const char hex_digits[] = "0123456789abcdef";

/* The value of a hexadecimal digit of either case, or 16. */
static unsigned
hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

void
enc_put_hex(struct buf *out, struct slice in)
{
	if (in.len == 0)
		return;
	uint8_t *to =
	    buf_reserve(out, in.len > SIZE_MAX / 2 ? SIZE_MAX : in.len * 2);
	if (to == NULL)
		return;
	for (size_t i = 0; i < in.len; i++) {
		to[2 * i] = (uint8_t)hex_digits[in.ptr[i] >> 4];
		to[2 * i + 1] = (uint8_t)hex_digits[in.ptr[i] & 15];
	}
	buf_commit(out, in.len * 2);
}

int
enc_get_hex(struct slice in, struct buf *out)
{
	if (in.len % 2 != 0)
		return ERR_INVALID;
	if (in.len == 0)
		return 0;
	uint8_t *to = buf_reserve(out, in.len / 2);
	if (to == NULL)
		return out->err;
	for (size_t i = 0; i < in.len; i += 2) {
		unsigned high = hex_value(in.ptr[i]);
		unsigned low = hex_value(in.ptr[i + 1]);
		if (high > 15 || low > 15)
			return ERR_INVALID;
		to[i / 2] = (uint8_t)(high << 4 | low);
	}
	buf_commit(out, in.len / 2);
	return 0;
}

static bool
unreserved(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z') || c == '-' || c == '.' || c == '_' ||
	    c == '~';
}

void
enc_put_percent(struct buf *out, struct slice in)
{
	static const char upper[] = "0123456789ABCDEF";
	size_t len = 0;

	for (size_t i = 0; i < in.len; i++)
		len += unreserved(in.ptr[i]) ? 1 : 3;
	uint8_t *to = len == 0 ? NULL : buf_reserve(out, len);
	if (to == NULL)
		return;
	for (size_t i = 0; i < in.len; i++) {
		uint8_t c = in.ptr[i];
		if (unreserved(c)) {
			*to++ = c;
			continue;
		}
		*to++ = '%';
		*to++ = (uint8_t)upper[c >> 4];
		*to++ = (uint8_t)upper[c & 15];
	}
	buf_commit(out, len);
}

int
enc_get_percent(struct slice in, bool plus, struct buf *out)
{
	if (in.len == 0)
		return 0;
	uint8_t *start = buf_reserve(out, in.len), *to = start;
	if (to == NULL)
		return out->err;
	for (size_t i = 0; i < in.len; i++) {
		uint8_t c = in.ptr[i];
		if (c == '+' && plus) {
			c = ' ';
		} else if (c == '%') {
			if (in.len - i < 3)
				return ERR_INVALID;
			unsigned high = hex_value(in.ptr[i + 1]);
			unsigned low = hex_value(in.ptr[i + 2]);
			if (high > 15 || low > 15)
				return ERR_INVALID;
			c = (uint8_t)(high << 4 | low);
			i += 2;
		}
		*to++ = c;
	}
	buf_commit(out, (size_t)(to - start));
	return 0;
}
