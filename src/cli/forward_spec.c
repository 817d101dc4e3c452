#include <stdio.h>
#include <string.h>

#include "base/err.h"

#include "cli/forward_spec.h"

enum { PARTS = 4 };

/* Cut at colons, but not inside of brackets.  How many; 0: too many. */
static size_t
split(struct slice text, struct slice out[PARTS])
{
	size_t n = 0, from = 0;
	bool inside = false;

	for (size_t i = 0; i <= text.len; i++) {
		uint8_t c = i < text.len ? text.ptr[i] : ':';
		if (c == '[' || c == ']')
			inside = c == '[';
		if (c != ':' || (inside && i < text.len))
			continue;
		if (n == PARTS)
			return 0;
		out[n++] = slice_first(slice_from_at(text, from), i - from);
		from = i + 1;
	}
	return n;
}

static int
read_port(struct slice s, uint16_t *out)
{
	uint64_t n;

	if (slice_u64(s, UINT16_MAX, &n) != 0)
		return ERR_INVALID;
	*out = (uint16_t)n;
	return 0;
}

static int
read_host(struct slice s, char out[FORWARD_HOST])
{
	if (s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
		s = slice_first(slice_from_at(s, 1), s.len - 2);
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == '[')
			return ERR_INVALID;
	return s.len == 0 ? ERR_INVALID : slice_cstr(s, out, FORWARD_HOST);
}

static int
read_target(struct slice host, struct slice port, struct forward_spec *out)
{
	size_t slash = slice_find(host, '/');

	if (read_port(port, &out->port) != 0 || out->port == 0)
		return ERR_INVALID;
	if (slash == host.len)
		return read_host(host, out->host);
	if (read_host(slice_first(host, slash), out->namespace) != 0)
		return ERR_INVALID;
	return read_host(slice_from_at(host, slash + 1), out->host);
}

/* One or two parts. */
static int
read_at(const struct slice *parts, size_t n, struct forward_spec *out)
{
	struct slice host = n == 2 ? parts[0] : SL("127.0.0.1");

	return read_host(host, out->at) != 0 ||
		read_port(parts[n - 1], &out->at_port) != 0
	    ? ERR_INVALID
	    : 0;
}

int
forward_spec_parse(
    struct slice text, struct slice target, struct forward_spec *out)
{
	struct slice parts[PARTS], to[PARTS];
	struct forward_spec s = { 0 };
	size_t n = split(text, parts), at = n;

	if (target.ptr != NULL) {
		if (split(target, to) != 2)
			return ERR_INVALID;
	} else {
		if (n < 3)
			return ERR_INVALID;
		at = n - 2;
		memcpy(to, parts + at, 2 * sizeof(*to));
	}
	if (at < 1 || at > 2 || read_at(parts, at, &s) != 0 ||
	    read_target(to[0], to[1], &s) != 0)
		return ERR_INVALID;
	*out = s;
	return 0;
}

static void
join(const char *host, uint16_t port, char *out, size_t size)
{
	(void)snprintf(out, size,
	    strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

void
forward_spec_at(const struct forward_spec *s, char out[FORWARD_WHERE])
{
	join(s->at, s->at_port, out, FORWARD_WHERE);
}

void
forward_spec_target(const struct forward_spec *s, char out[2 * FORWARD_WHERE])
{
	size_t n = 0;

	if (s->namespace[0] != '\0')
		n = (size_t)snprintf(out, FORWARD_WHERE, "%s/", s->namespace);
	join(s->host, s->port, out + n, FORWARD_WHERE);
}
