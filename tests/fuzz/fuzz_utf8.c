/*
 * The automaton against a decoder written the plain way: first byte says how
 * to cut the stream, the rest is the stream.
 */
#include <stdlib.h>

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Length of the character at s; 0 when cut, -1 when it can be none. */
static int
plain(struct slice s)
{
	uint32_t c = s.ptr[0], least, need;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	least = need == 1 ? 0x80 : need == 2 ? 0x800 : 0x10000;
	c &= 0x3fu >> need;
	for (uint32_t i = 1; i <= need; i++) {
		/* Could any ending of what is here so far be a character? */
		uint32_t low = c << 6 * (need - i + 1);
		uint32_t high = low | ((1u << 6 * (need - i + 1)) - 1);
		if (high < least || low > 0x10ffff ||
		    (low >= 0xd800 && high <= 0xdfff))
			return -1;
		if (i == s.len)
			return 0;
		if ((s.ptr[i] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (s.ptr[i] & 0x3fu);
	}
	if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return -1;
	return (int)need + 1;
}

static void
check(bool holds)
{
	if (!holds)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice all = { data + 1, size - 1 }, rest;
	struct utf8 u = { 0 };
	struct utf8_mender m = { 0 };
	struct buf out;
	int n = 1;

	if (size < 1)
		return 0;
	size_t cut = (size_t)data[0] + 1;
	buf_init(&out, 3 * size);
	for (rest = all; rest.len > 0 && n > 0;) {
		n = plain(rest);
		rest = slice_from_at(rest, n > 0 ? (size_t)n : 0);
	}
	bool fits = true;
	for (struct slice s = all; s.len > 0; s = slice_from_at(s, cut)) {
		fits = utf8_feed(&u, slice_first(s, cut));
		utf8_mend(&m, slice_first(s, cut), &out);
	}
	utf8_mend_end(&m, &out);
	check(fits == (n >= 0));
	check(utf8_whole(&u) == (n > 0));
	check(utf8_valid(all) == (n > 0));
	check(out.err == 0 && utf8_valid(buf_peek(&out)));
	check(n <= 0 || slice_eq(buf_peek(&out), all));
	check(n != 0 || utf8_floor(all) == all.len - rest.len);
	buf_fini(&out);
	return 0;
}
