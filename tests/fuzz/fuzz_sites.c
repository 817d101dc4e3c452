/*
 * Which route a path belongs to, by the machine and by a plain reading of it:
 * what is found begins with its prefix as it was sent, is the longest of its
 * host, and is also the one of the path that a service would see which
 * decodes it and resolves its dots.
 */
#include <stdlib.h>
#include <string.h>

#include "model/route.h"

#include "server/sites.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUTE(number, text)                                  \
	{                                                    \
		.id = SL_INIT(number), .host = SL_INIT("h"), \
		.prefix = SL_INIT(text)                      \
	}

static const struct route_record records[] = { ROUTE("0", "/"),
	ROUTE("1", "/a"), ROUTE("2", "/a-b"), ROUTE("3", "/a/b"),
	ROUTE("4", "/a/b/c"), ROUTE("5", "/b") };

enum { COUNT = sizeof(records) / sizeof(records[0]), TEXT = 4096 };

static const struct route_record *list[COUNT];
static const struct route_list routes = { list, list, COUNT };
static struct server server = { .public_host = SL_INIT("muster") };

static bool
below(struct slice path, struct slice prefix)
{
	return prefix.len == 1 ||
	    (slice_starts(path, prefix) &&
		(path.len == prefix.len || path.ptr[prefix.len] == '/'));
}

static const struct route_record *
longest(struct slice path)
{
	const struct route_record *best = &records[0];

	for (size_t i = 1; i < COUNT; i++) {
		if (below(path, records[i].prefix) &&
		    records[i].prefix.len > best->prefix.len)
			best = &records[i];
	}
	return best;
}

static int
digit(uint8_t c)
{
	const char *at = strchr("0123456789abcdef", c | 0x20);

	return c >= '0' && at != NULL && *at != '\0'
	    ? (int)(at - "0123456789abcdef")
	    : -1;
}

/* Segment by segment onto a stack. */
static struct slice
plain(struct slice path, bool merge, uint8_t *out)
{
	uint8_t text[TEXT];
	size_t n = 0, ends[TEXT], depth = 0, len = 0;

	for (size_t i = 0; i < path.len; i++) {
		uint8_t c = path.ptr[i];
		if (c == '%' && i + 2 < path.len &&
		    digit(path.ptr[i + 1]) >= 0 &&
		    digit(path.ptr[i + 2]) >= 0) {
			c = (uint8_t)(digit(path.ptr[i + 1]) * 16 +
			    digit(path.ptr[i + 2]));
			i += 2;
		}
		text[n++] = c == '\\' ? '/' : c;
	}
	struct slice rest = slice_from_at((struct slice){ text, n }, 1), part;
	while (rest.ptr != NULL && slice_split(&rest, '/', &part)) {
		part = slice_first(part, slice_find(part, ';'));
		if (slice_eq(part, SL(".")) || (merge && part.len == 0))
			continue;
		if (slice_eq(part, SL(".."))) {
			len = depth > 0 ? ends[--depth] : 0;
			continue;
		}
		ends[depth++] = len;
		out[len++] = '/';
		if (part.len > 0)
			memcpy(out + len, part.ptr, part.len);
		len += part.len;
	}
	return (struct slice){ out, len };
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dock d = { .server = &server, .routes = &routes };
	struct slice path = { data, size };
	uint8_t text[2 * TEXT];

	if (size == 0 || size >= TEXT || data[0] != '/')
		return 0;
	for (size_t i = 0; i < COUNT; i++)
		list[i] = &records[i];
	const struct route_record *r = sites_match(&d, SL("h"), path);
	path = slice_first(path, slice_find(path, '?'));
	if (r == NULL)
		return 0;
	if (r != longest(path) || r != longest(plain(path, true, text)) ||
	    r != longest(plain(path, false, text)))
		abort();
	return 0;
}
