#include "base/err.h"

#include "wire/http1.h"

struct slice
http1_name_at(const struct http1_head *h, size_t n)
{
	const struct http1_place *f = &h->fields[n];

	return (struct slice){ h->bytes.ptr + f->name, f->name_len };
}

struct slice
http1_value_at(const struct http1_head *h, size_t n)
{
	const struct http1_place *f = &h->fields[n];

	return (struct slice){ h->bytes.ptr + f->value, f->value_len };
}

bool
http1_next_value(const struct http1_head *h, const char *name, size_t *pos,
    struct slice *value)
{
	struct slice wanted = slice_from(name);

	while (*pos < h->count) {
		size_t n = (*pos)++;
		if (!slice_eq_nocase(http1_name_at(h, n), wanted))
			continue;
		*value = http1_value_at(h, n);
		return true;
	}
	return false;
}

struct slice
http1_field(const struct http1_head *h, const char *name)
{
	struct slice value = { 0 };
	size_t pos = 0;

	http1_next_value(h, name, &pos, &value);
	return value;
}

size_t
http1_count(const struct http1_head *h, const char *name)
{
	struct slice value;
	size_t pos = 0, count = 0;

	while (http1_next_value(h, name, &pos, &value))
		count++;
	return count;
}

bool
http1_next_element(struct slice *rest, struct slice *element)
{
	while (slice_split(rest, ',', element)) {
		*element = slice_trim(*element);
		if (element->len > 0)
			return true;
	}
	return false;
}

static bool
names(const struct http1_head *h, const char *name, struct slice token)
{
	struct slice value, element;
	size_t pos = 0;

	while (http1_next_value(h, name, &pos, &value)) {
		while (http1_next_element(&value, &element)) {
			if (slice_eq_nocase(element, token))
				return true;
		}
	}
	return false;
}

bool
http1_has_token(const struct http1_head *h, const char *name, const char *token)
{
	return names(h, name, slice_from(token));
}

int
http1_keep_alive_timeout(const struct http1_head *h)
{
	enum { LONGEST = 86399 };
	struct slice value, element, name;
	size_t pos = 0;
	uint64_t n;

	while (http1_next_value(h, "keep-alive", &pos, &value)) {
		while (http1_next_element(&value, &element)) {
			if (slice_split(&element, '=', &name) &&
			    slice_eq_nocase(slice_trim(name), SL("timeout")) &&
			    slice_u64(slice_trim(element), LONGEST, &n) == 0)
				return (int)n;
		}
	}
	return -1;
}

bool
http1_ends_here(struct slice name)
{
	static const struct slice list[] = { SL_INIT("connection"),
		SL_INIT("keep-alive"), SL_INIT("proxy-authenticate"),
		SL_INIT("proxy-authorization"), SL_INIT("proxy-connection"),
		SL_INIT("te"), SL_INIT("trailer"), SL_INIT("transfer-encoding"),
		SL_INIT("upgrade"), SL_INIT("http2-settings") };

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		if (slice_eq_nocase(name, list[i]))
			return true;
	}
	return false;
}

bool
http1_is_hop_by_hop(const struct http1_head *h, struct slice name)
{
	return http1_ends_here(name) || names(h, "connection", name);
}

/*
 * RFC 9110 6.5.1: nothing for framing, routing, modifiers of requests,
 * authentication, the handling of the content.  Receivers may merge what
 * comes with the head, so nothing either that is guarded there.
 */
bool
http1_may_trail(struct slice name)
{
	static const struct slice list[] = { SL_INIT("content-length"),
		SL_INIT("host"), SL_INIT("expect"), SL_INIT("max-forwards"),
		SL_INIT("cache-control"), SL_INIT("pragma"), SL_INIT("range"),
		SL_INIT("age"), SL_INIT("expires"), SL_INIT("date"),
		SL_INIT("location"), SL_INIT("retry-after"), SL_INIT("vary"),
		SL_INIT("warning"), SL_INIT("authorization"),
		SL_INIT("www-authenticate"), SL_INIT("authentication-info"),
		SL_INIT("cookie"), SL_INIT("set-cookie"),
		SL_INIT("content-encoding"), SL_INIT("content-type"),
		SL_INIT("content-range"), SL_INIT("forwarded"),
		SL_INIT("x-request-id"), SL_INIT("x-real-ip"), SL_INIT("proxy"),
		SL_INIT("content-security-policy"), SL_INIT("clear-site-data"),
		SL_INIT("strict-transport-security") };
	static const struct slice starts[] = { SL_INIT("if-"),
		SL_INIT("x-forwarded-"), SL_INIT("sec-websocket-"),
		SL_INIT("access-control-") };

	if (http1_ends_here(name) || slice_find(name, '_') < name.len)
		return false;
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		if (slice_eq_nocase(name, list[i]))
			return false;
	}
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		if (slice_eq_nocase(
			slice_first(name, starts[i].len), starts[i]))
			return false;
	}
	return true;
}
