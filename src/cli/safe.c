#include <stdio.h>
#include <wchar.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/utf8.h"
#include "cli/safe.h"

static bool
is_unsafe(uint32_t p)
{
	return p < 0x20 || (p >= 0x7f && p < 0xa0) || p == 0x61c ||
	    p == 0x200e || p == 0x200f || (p >= 0x2028 && p <= 0x202e) ||
	    (p >= 0x2066 && p <= 0x2069) || p == 0xfeff ||
	    (p >= 0xfff9 && p <= 0xfffb) || p >= 0xe0000;
}

static void
put_escape(struct buf *out, uint32_t p)
{
	static const char named[] = "\nn\rr\tt";
	char text[16];

	for (size_t i = 0; i + 1 < sizeof(named); i += 2) {
		if (p != (uint8_t)named[i])
			continue;
		buf_put_byte(out, '\\');
		buf_put_byte(out, (uint8_t)named[i + 1]);
		return;
	}
	if (p < 0x80)
		snprintf(text, sizeof(text), "\\x%02x", (unsigned)p);
	else if (p <= 0xffff)
		snprintf(text, sizeof(text), "\\u%04x", (unsigned)p);
	else
		snprintf(text, sizeof(text), "\\U%08x", (unsigned)p);
	buf_put(out, slice_from(text));
}

static void
put_safe(struct buf *out, struct slice s, bool backslash)
{
	char text[8];

	while (s.len > 0) {
		uint32_t p = 0;
		int n = utf8_decode(s, &p);
		size_t took = n > 0 ? (size_t)n : 1;

		if (n <= 0) {
			snprintf(text, sizeof(text), "\\x%02x", s.ptr[0]);
			buf_put(out, slice_from(text));
		} else if (is_unsafe(p)) {
			put_escape(out, p);
		} else {
			if (p == '\\' && backslash)
				buf_put_byte(out, '\\');
			buf_put(out, slice_first(s, took));
		}
		s = slice_from_at(s, took);
	}
}

void
safe_text(struct buf *out, struct slice s)
{
	put_safe(out, s, true);
}

void
safe_line(struct buf *out, struct slice s)
{
	put_safe(out, s, false);
}

void
safe_json(struct buf *out, struct slice json)
{
	char text[16];

	while (json.len > 0) {
		uint32_t p = 0;
		int n = utf8_decode(json, &p);
		size_t took = n > 0 ? (size_t)n : 1;

		/* Line ends between values are the only controls that valid
		 * JSON has outside escapes. */
		if (n <= 0 || !is_unsafe(p) || p == '\n') {
			buf_put(out, slice_first(json, took));
		} else if (p > 0xffff) {
			p -= 0x10000;
			snprintf(text, sizeof(text), "\\u%04x\\u%04x",
			    (unsigned)(0xd800 + (p >> 10)),
			    (unsigned)(0xdc00 + (p & 0x3ff)));
			buf_put(out, slice_from(text));
		} else if (p == '\t' || p == '\r') {
			buf_put_byte(out, ' ');
		} else {
			snprintf(text, sizeof(text), "\\u%04x", (unsigned)p);
			buf_put(out, slice_from(text));
		}
		json = slice_from_at(json, took);
	}
}

/* Columns of one character; what the C library does not know counts 1. */
static size_t
point_width(uint32_t p)
{
	int w = wcwidth((wchar_t)p);

	return w < 0 ? 1 : (size_t)w;
}

size_t
safe_width(struct slice s)
{
	size_t columns = 0;

	while (s.len > 0) {
		uint32_t p = 0;
		int n = utf8_decode(s, &p);

		columns += n > 0 ? point_width(p) : 1;
		s = slice_from_at(s, n > 0 ? (size_t)n : 1);
	}
	return columns;
}

struct slice
safe_fit(struct slice s, size_t columns)
{
	struct slice rest = s;

	while (rest.len > 0) {
		uint32_t p = 0;
		int n = utf8_decode(rest, &p);
		size_t w = n > 0 ? point_width(p) : 1;

		if (w > columns)
			break;
		columns -= w;
		rest = slice_from_at(rest, n > 0 ? (size_t)n : 1);
	}
	return slice_first(s, s.len - rest.len);
}

void
safe_span(struct buf *out, msec span)
{
	static const struct {
		msec unit;
		uint8_t letter;
	} units[] = { { 86400000, 'd' }, { 3600000, 'h' }, { 60000, 'm' } };

	if (span < 0)
		span = 0;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (span < units[i].unit)
			continue;
		buf_put_u64(out, (uint64_t)(span / units[i].unit));
		buf_put_byte(out, units[i].letter);
		return;
	}
	buf_put_u64(out, (uint64_t)(span / 1000));
	buf_put_byte(out, 's');
}

int
safe_read_span(struct slice s, msec *out)
{
	uint64_t seconds;

	if (slice_u64(s, INT64_MAX / 1000, &seconds) != 0)
		return conf_duration(s, out);
	*out = (msec)seconds * 1000;
	return 0;
}
