#include <string.h>

#include "base/err.h"

#include "base/slice.h"

static uint8_t
lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool
slice_eq_nocase(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	}
	return true;
}

int
slice_cmp(struct slice a, struct slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int order = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);

	if (order != 0)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

bool
slice_starts(struct slice s, struct slice prefix)
{
	return slice_eq(slice_first(s, prefix.len), prefix);
}

bool
slice_ends(struct slice s, struct slice suffix)
{
	return s.len >= suffix.len &&
	    slice_eq(slice_from_at(s, s.len - suffix.len), suffix);
}

struct slice
slice_from_at(struct slice s, size_t at)
{
	if (at >= s.len)
		return (
		    struct slice){ s.ptr == NULL ? NULL : s.ptr + s.len, 0 };
	return (struct slice){ s.ptr + at, s.len - at };
}

struct slice
slice_first(struct slice s, size_t n)
{
	return (struct slice){ s.ptr, n < s.len ? n : s.len };
}

size_t
slice_find(struct slice s, uint8_t c)
{
	const uint8_t *at = s.len == 0 ? NULL : memchr(s.ptr, c, s.len);

	return at == NULL ? s.len : (size_t)(at - s.ptr);
}

static bool
blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

struct slice
slice_trim(struct slice s)
{
	while (s.len > 0 && blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len > 0 && blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool
slice_split(struct slice *rest, uint8_t sep, struct slice *part)
{
	if (rest->ptr == NULL)
		return false;
	size_t at = slice_find(*rest, sep);

	*part = slice_first(*rest, at);
	if (at == rest->len)
		*rest = (struct slice){ 0 };
	else
		*rest = slice_from_at(*rest, at + 1);
	return true;
}

int
slice_u64(struct slice s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (s.len == 0)
		return ERR_INVALID;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned)s.ptr[i] - '0';
		if (digit > 9)
			return ERR_INVALID;
		if (n > (UINT64_MAX - digit) / 10)
			return ERR_RANGE;
		n = n * 10 + digit;
	}
	if (n > max)
		return ERR_RANGE;
	*out = n;
	return 0;
}

int
slice_cstr(struct slice s, char *out, size_t size)
{
	if (s.len >= size)
		return ERR_TOO_BIG;
	if (slice_find(s, 0) != s.len)
		return ERR_INVALID;
	if (s.len > 0)
		memcpy(out, s.ptr, s.len);
	out[s.len] = '\0';
	return 0;
}
