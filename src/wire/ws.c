#include <string.h>

#include "base/err.h"

#include "wire/ws.h"

enum {
	BIT_FIN = 0x80,
	BIT_RSV1 = 0x40,
	BITS_RSV23 = 0x30,
	BITS_OPCODE = 0x0f,
	BIT_CONTROL = 0x08,
	BIT_MASKED = 0x80,
	BITS_LEN = 0x7f,
	LEN_16 = 126,
	LEN_64 = 127
};

/* Bit n is set when opcode n exists. */
static const uint16_t opcodes = 1 << WS_CONT | 1 << WS_TEXT | 1 << WS_BINARY |
    1 << WS_CLOSE | 1 << WS_PING | 1 << WS_PONG;

static bool
first_byte_valid(uint8_t first)
{
	if ((first & BITS_RSV23) != 0 ||
	    (opcodes >> (first & BITS_OPCODE) & 1) == 0)
		return false;
	/* RFC 6455 5.5: never fragmented; RFC 7692 6.1: never compressed. */
	return (first & BIT_CONTROL) == 0 ||
	    (first & (BIT_FIN | BIT_RSV1)) == BIT_FIN;
}

static uint64_t
read_big_endian(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* Bytes of the extended length for the seven bits of the short one. */
static size_t
extra_length(unsigned bits)
{
	return bits < LEN_16 ? 0 : bits == LEN_16 ? 2 : 8;
}

/* RFC 6455 5.2: "the minimal number of bytes MUST be used", and the top bit
 * of a 64-bit length is zero. */
static bool
length_valid(uint64_t len, size_t extra)
{
	if (extra == 2)
		return len >= LEN_16;
	return extra == 0 || (len > UINT16_MAX && len <= INT64_MAX);
}

int
ws_decode_head(struct slice in, struct ws_head *out)
{
	if (in.len == 0)
		return 0;
	if (!first_byte_valid(in.ptr[0]))
		return ERR_PROTOCOL;
	if (in.len == 1)
		return 0;

	unsigned bits = in.ptr[1] & BITS_LEN;
	size_t extra = extra_length(bits);
	size_t mask = (in.ptr[1] & BIT_MASKED) != 0 ? 4 : 0;
	if ((in.ptr[0] & BIT_CONTROL) != 0 && extra != 0)
		return ERR_PROTOCOL;
	if (in.len < 2 + extra)
		return 0;
	uint64_t len = extra == 0 ? bits : read_big_endian(in.ptr + 2, extra);
	if (!length_valid(len, extra))
		return ERR_PROTOCOL;
	if (in.len < 2 + extra + mask)
		return 0;

	out->len = len;
	out->mask = 0;
	memcpy(&out->mask, in.ptr + 2 + extra, mask);
	out->opcode = in.ptr[0] & BITS_OPCODE;
	out->fin = (in.ptr[0] & BIT_FIN) != 0;
	out->rsv1 = (in.ptr[0] & BIT_RSV1) != 0;
	out->masked = mask != 0;
	return (int)(2 + extra + mask);
}

size_t
ws_encode_head(uint8_t out[WS_HEAD_MAX], const struct ws_head *h)
{
	unsigned bits = h->len < LEN_16 ? (unsigned)h->len
	    : h->len <= UINT16_MAX      ? LEN_16
					: LEN_64;
	size_t extra = extra_length(bits);
	size_t n = 2 + extra;

	out[0] = (uint8_t)((h->fin ? BIT_FIN : 0) | (h->rsv1 ? BIT_RSV1 : 0) |
	    h->opcode);
	out[1] = (uint8_t)((h->masked ? BIT_MASKED : 0) | bits);
	for (size_t i = 0; i < extra; i++)
		out[2 + i] = (uint8_t)(h->len >> 8 * (extra - 1 - i));
	if (h->masked) {
		memcpy(out + n, &h->mask, 4);
		n += 4;
	}
	return n;
}

/* Sixteen bytes at once; the compiler has SSE2 or NEON for it. */
typedef uint64_t pair __attribute__((vector_size(16)));

static pair
mask_sixteen(uint8_t *bytes, pair key)
{
	pair v;

	memcpy(&v, bytes, sizeof(v));
	v ^= key;
	memcpy(bytes, &v, sizeof(v));
	return v;
}

bool
ws_mask(uint8_t *bytes, size_t n, uint32_t mask, uint64_t at)
{
	uint8_t key[16], wire[4];
	uint8_t seen = 0;
	pair wide, all = { 0, 0 };
	size_t i = 0;

	memcpy(wire, &mask, 4);
	for (size_t k = 0; k < sizeof(key); k++)
		key[k] = wire[(at + k) & 3];
	memcpy(&wide, key, sizeof(wide));

	for (; n - i >= 64; i += 64) {
		all |= mask_sixteen(bytes + i, wide) |
		    mask_sixteen(bytes + i + 16, wide) |
		    mask_sixteen(bytes + i + 32, wide) |
		    mask_sixteen(bytes + i + 48, wide);
	}
	for (; n - i >= 16; i += 16)
		all |= mask_sixteen(bytes + i, wide);
	for (; i < n; i++) {
		bytes[i] ^= key[i & 15];
		seen |= bytes[i];
	}
	return ((all[0] | all[1]) & 0x8080808080808080U) == 0 &&
	    (seen & 0x80) == 0;
}

bool
ws_code_valid(uint16_t code)
{
	if (code >= 3000)
		return code <= 4999;
	return code >= 1000 && code <= 1014 && !(code >= 1004 && code <= 1006);
}
