/*
 * Decoders of wire/enc: the first byte chooses, the rest is the input.  What
 * decodes must encode to the same text again.
 */
#include <stdlib.h>

#include "wire/enc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
try_base64(struct slice in, enum enc_base64 form, struct buf *a, struct buf *b)
{
	if (enc_get_base64(in, form, a) != 0)
		return;
	enc_put_base64(b, buf_peek(a), form);
	check(b->err == 0 && slice_eq(buf_peek(b), in));
}

static void
try_unpack(struct slice in, enum enc_pack form, struct buf *a, struct buf *b)
{
	struct enc_unpack_limits limits = { 1 << 16, 100 };

	buf_put(a, in);
	size_t before = buf_peek(a).len;
	int err = enc_unpack(in, form, &limits, a);
	size_t made = buf_peek(a).len - before;
	check(err == 0 || made == 0);
	check(made <= limits.max && made <= 100 * in.len);
	struct slice plain = slice_from_at(buf_peek(a), before);
	check(enc_pack(plain, form, 1, b) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf a, b;

	if (size == 0)
		return 0;
	struct slice in = { data + 1, size - 1 };
	buf_init(&a, (1 << 17) + size);
	buf_init(&b, (1 << 17) + 3 * size);
	switch (data[0] % 8) {
	case 0:
	case 1:
	case 2:
	case 3:
		try_base64(in, (enum enc_base64)(data[0] % 4), &a, &b);
		break;
	case 4:
		if (enc_get_base32(in, &a) == 0)
			enc_put_base32(&b, buf_peek(&a));
		check(buf_peek(&b).len == 0 || slice_eq(buf_peek(&b), in));
		break;
	case 5:
		if (enc_get_hex(in, &a) == 0)
			enc_put_hex(&b, buf_peek(&a));
		check(
		    buf_peek(&b).len == 0 || slice_eq_nocase(buf_peek(&b), in));
		break;
	case 6:
		enc_put_percent(&a, in);
		check(enc_get_percent(buf_peek(&a), true, &b) == 0);
		check(slice_eq(buf_peek(&b), in));
		buf_clear(&b);
		enc_get_percent(in, true, &b);
		break;
	default:
		try_unpack(in, data[0] & 8 ? ENC_GZIP : ENC_ZLIB, &a, &b);
	}
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
