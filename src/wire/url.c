#include <string.h>

#include "base/err.h"
#include "base/utf8.h"
#include "wire/octet.h"

#include "wire/url.h"

enum { HOST_MAX = 255, LABEL_MAX = 63 };

/* RFC 3986 3.2.2: dec-octet "." dec-octet "." dec-octet "." dec-octet. */
static bool
ipv4_valid(struct slice s)
{
	struct slice part;
	uint64_t n;
	int parts = 0;

	while (slice_split(&s, '.', &part)) {
		if (part.len > 3 || slice_u64(part, 255, &n) != 0)
			return false;
		if (part.len > 1 && part.ptr[0] == '0')
			return false;
		parts++;
	}
	return parts == 4;
}

static bool
group_valid(struct slice s)
{
	return s.len <= 4 && octet_all(s, OCTET_HEX);
}

/*
 * Groups of h16 between colons, the last of which may be IPv4 (counting
 * two).  -1 when invalid; an empty run is no group at all.
 */
static int
ipv6_groups(struct slice s, bool last)
{
	struct slice part;
	int groups = 0;

	if (s.len == 0)
		return 0;
	while (slice_split(&s, ':', &part)) {
		if (group_valid(part))
			groups++;
		else if (last && s.ptr == NULL && ipv4_valid(part))
			groups += 2;
		else
			return -1;
	}
	return groups;
}

/* RFC 3986 3.2.2 IPv6address; at most one "::". */
static bool
ipv6_valid(struct slice s)
{
	const uint8_t *gap = memmem(s.ptr, s.len, "::", 2);
	int before, after;

	if (gap == NULL)
		return ipv6_groups(s, true) == 8;
	before = ipv6_groups(slice_first(s, (size_t)(gap - s.ptr)), false);
	after = ipv6_groups(slice_from_at(s, (size_t)(gap - s.ptr) + 2), true);
	return before >= 0 && after >= 0 && before + after <= 7;
}

/* Labels of DNS length, none empty but one after a final dot. */
static bool
name_valid(struct slice s)
{
	struct slice label;

	if (s.len > HOST_MAX)
		return false;
	if (s.len > 1 && s.ptr[s.len - 1] == '.')
		s.len--;
	while (slice_split(&s, '.', &label)) {
		if (label.len > LABEL_MAX || !octet_all(label, OCTET_HOST))
			return false;
	}
	return true;
}

static int
port_parse(struct slice s, int *out)
{
	uint64_t n;

	if (s.len > 5)
		return ERR_INVALID;
	if (s.len == 0) {
		*out = -1;
		return 0;
	}
	if (slice_u64(s, 65535, &n) != 0)
		return ERR_INVALID;
	*out = (int)n;
	return 0;
}

static int
literal_parse(struct slice s, struct url_host *out)
{
	size_t end = slice_find(s, ']');
	struct slice port;

	if (end == s.len)
		return ERR_INVALID;
	out->host = slice_first(s, end + 1);
	out->name = slice_first(slice_from_at(s, 1), end - 1);
	out->ipv6 = true;
	if (!ipv6_valid(out->name))
		return ERR_INVALID;
	port = slice_from_at(s, end + 1);
	if (port.len > 0 && port.ptr[0] != ':')
		return ERR_INVALID;
	return port_parse(slice_from_at(port, 1), &out->port);
}

int
url_host_parse(struct slice s, struct url_host *out)
{
	struct url_host h = { 0 };
	size_t colon = slice_find(s, ':');
	int err;

	if (s.len > 0 && s.ptr[0] == '[') {
		err = literal_parse(s, &h);
	} else {
		h.host = h.name = slice_first(s, colon);
		err = port_parse(slice_from_at(s, colon + 1), &h.port);
		if (err == 0 && colon == 0)
			err = ERR_MISSING;
		if (err == 0 && !name_valid(h.host))
			err = ERR_INVALID;
	}
	if (err == 0)
		*out = h;
	return err;
}

bool
url_host_equal(
    const struct url_host *a, const struct url_host *b, int default_port)
{
	int pa = a->port < 0 ? default_port : a->port;
	int pb = b->port < 0 ? default_port : b->port;

	return pa == pb && slice_eq_nocase(a->host, b->host);
}

static const struct {
	const char *name;
	bool tls;
	bool websocket;
} schemes[] = {
	{ "http", false, false },
	{ "https", true, false },
	{ "ws", false, true },
	{ "wss", true, true },
};

static int
scheme_find(struct slice s, struct url *u)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (!slice_eq_nocase(s, slice_from(schemes[i].name)))
			continue;
		u->scheme = s;
		u->tls = schemes[i].tls;
		u->websocket = schemes[i].websocket;
		return 0;
	}
	return ERR_UNSUPPORTED;
}

static int
default_port(const struct url *u)
{
	return u->tls ? 443 : 80;
}

/* Where the authority ends: the first of "/?#" or the end. */
static size_t
authority_end(struct slice s)
{
	size_t i = 0;

	while (
	    i < s.len && s.ptr[i] != '/' && s.ptr[i] != '?' && s.ptr[i] != '#')
		i++;
	return i;
}

static int
target_split(struct slice s, struct url *u)
{
	size_t mark = slice_find(s, '?');

	u->path = slice_first(s, mark);
	if (mark < s.len) {
		u->query = slice_from_at(s, mark + 1);
		if (u->query.len > 0 && !octet_all(u->query, OCTET_QUERY))
			return ERR_INVALID;
	}
	if (u->path.len == 0)
		u->path = SL("/");
	return octet_all(u->path, OCTET_PATH) ? 0 : ERR_INVALID;
}

int
url_parse(struct slice s, struct url *out)
{
	struct url u = { 0 };
	size_t colon = slice_find(s, ':');
	size_t end;
	int err;

	if (s.len > URL_MAX)
		return ERR_TOO_BIG;
	if (!slice_starts(slice_from_at(s, colon), SL("://")))
		return ERR_INVALID;
	err = scheme_find(slice_first(s, colon), &u);
	if (err != 0)
		return err;
	s = slice_from_at(s, colon + 3);
	end = authority_end(s);
	if (url_host_parse(slice_first(s, end), &u.at) != 0)
		return ERR_INVALID;
	u.port = u.at.port < 0 ? default_port(&u) : u.at.port;
	if (u.port == 0)
		return ERR_INVALID;
	err = target_split(slice_from_at(s, end), &u);
	if (err == 0)
		*out = u;
	return err;
}

void
url_put_host(struct buf *b, const struct url *u)
{
	buf_put(b, u->at.host);
	if (u->port != default_port(u)) {
		buf_put_byte(b, ':');
		buf_put_u64(b, (uint64_t)u->port);
	}
}

void
url_put_target(struct buf *b, const struct url *u)
{
	buf_put(b, u->path);
	if (u->query.ptr != NULL) {
		buf_put_byte(b, '?');
		buf_put(b, u->query);
	}
}

static void
put_escape(struct buf *b, uint8_t c)
{
	static const char digits[] = "0123456789ABCDEF";

	buf_put_byte(b, '%');
	buf_put_byte(b, (uint8_t)digits[c >> 4]);
	buf_put_byte(b, (uint8_t)digits[c & 15]);
}

void
url_put_encoded(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (octet_is(s.ptr[i], OCTET_PLAIN))
			buf_put_byte(b, s.ptr[i]);
		else
			put_escape(b, s.ptr[i]);
	}
}

/*
 * The byte at *at, an escape counting as one; moves *at behind it.
 * -1 on a broken escape.
 */
static int
unescape(struct slice s, size_t *at)
{
	uint8_t c = s.ptr[*at];
	int high, low;

	if (c != '%') {
		*at += 1;
		return c;
	}
	if (s.len - *at < 3)
		return -1;
	high = octet_hex(s.ptr[*at + 1]);
	low = octet_hex(s.ptr[*at + 2]);
	*at += 3;
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

int
url_decode(struct slice s, bool plus, struct arena *a, struct slice *out)
{
	uint8_t *mem;
	size_t n = 0;

	if (slice_find(s, '%') == s.len &&
	    !(plus && slice_find(s, '+') < s.len)) {
		*out = s;
		return 0;
	}
	mem = arena_alloc(a, s.len);
	if (mem == NULL)
		return ERR_NOMEM;
	for (size_t at = 0; at < s.len;) {
		bool space = plus && s.ptr[at] == '+';
		int c = unescape(s, &at);
		if (c < 0)
			return ERR_INVALID;
		mem[n++] = space ? ' ' : (uint8_t)c;
	}
	*out = (struct slice){ mem, n };
	return 0;
}

/* A segment that means the same to every reader, and is not a dot one. */
static bool
segment_valid(struct slice s)
{
	struct utf8 utf8 = { 0 };
	size_t bytes = 0, dots = 0;

	for (size_t at = 0; at < s.len; bytes++) {
		bool escaped = s.ptr[at] == '%';
		int c = unescape(s, &at);
		uint8_t octet = (uint8_t)c;

		if (c < 0x20 || c == 0x7f || c == '\\')
			return false;
		if (escaped && (c == '/' || c == '%'))
			return false;
		if (!utf8_feed(&utf8, (struct slice){ &octet, 1 }))
			return false;
		dots += c == '.';
	}
	return utf8_whole(&utf8) &&
	    !(bytes == dots && (bytes == 1 || bytes == 2));
}

int
url_path_check(struct slice path)
{
	struct slice segment;

	if (path.len == 0 || path.ptr[0] != '/')
		return ERR_INVALID;
	path = slice_from_at(path, 1);
	while (slice_split(&path, '/', &segment)) {
		/* Only the last may be empty: "/a/" but not "/a//b". */
		if (segment.len == 0 && path.ptr != NULL)
			return ERR_INVALID;
		if (!segment_valid(segment))
			return ERR_INVALID;
	}
	return 0;
}

bool
url_query_next(struct slice *rest, struct slice *name, struct slice *value)
{
	struct slice part;
	size_t equals;

	do {
		if (!slice_split(rest, '&', &part))
			return false;
	} while (part.len == 0);
	equals = slice_find(part, '=');
	*name = slice_first(part, equals);
	*value = (struct slice){ 0 };
	if (equals < part.len)
		*value = slice_from_at(part, equals + 1);
	return true;
}

/* Whether the escaped text spells word; ASCII case is ignored on request. */
static bool
spells(struct slice escaped, struct slice word, bool nocase)
{
	size_t at = 0, n = 0;

	while (at < escaped.len && n < word.len) {
		int c = escaped.ptr[at] == '+' ? ' ' : 0;
		if (c == 0)
			c = unescape(escaped, &at);
		else
			at++;
		if (c >= 'A' && c <= 'Z' && nocase)
			c |= 0x20;
		if (c != word.ptr[n++])
			return false;
	}
	return at == escaped.len && n == word.len;
}

int
url_query_get(
    struct slice query, struct slice name, struct arena *a, struct slice *out)
{
	struct slice key, value, found = { 0 };
	bool seen = false;

	while (url_query_next(&query, &key, &value)) {
		if (!spells(key, name, false))
			continue;
		if (seen)
			return ERR_DUPLICATE;
		seen = true;
		found = value;
	}
	if (!seen)
		return ERR_MISSING;
	return url_decode(found, true, a, out);
}

static bool
secret_name(struct slice name)
{
	static const char *const secrets[] = { "token", "access_token",
		"refresh_token", "id_token", "auth", "authorization", "jwt",
		"api_key", "apikey", "key", "secret", "client_secret",
		"password", "passwd", "ticket", "code", "signature", "sig",
		"session" };

	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
		if (spells(name, slice_from(secrets[i]), true))
			return true;
	}
	return false;
}

static void
put_visible(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (octet_is(s.ptr[i], OCTET_QUERY))
			buf_put_byte(b, s.ptr[i]);
		else
			put_escape(b, s.ptr[i]);
	}
}

void
url_put_redacted(struct buf *b, struct slice target)
{
	size_t mark = slice_find(target, '?');
	struct slice rest = { 0 }, part;
	uint8_t before = '?';

	put_visible(b, slice_first(target, mark));
	if (mark < target.len)
		rest = slice_from_at(target, mark + 1);
	while (slice_split(&rest, '&', &part)) {
		size_t equals = slice_find(part, '=');
		struct slice name = slice_first(part, equals);

		buf_put_byte(b, before);
		before = '&';
		if (equals < part.len && secret_name(name)) {
			put_visible(b, name);
			buf_put(b, SL("=***"));
		} else {
			put_visible(b, part);
		}
	}
}
