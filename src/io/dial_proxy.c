#include <stdlib.h>

#include "base/err.h"

#include "io/dial.h"

/* Percent-decoded, NUL-terminated; no NUL or line end inside. */
static int
decode(struct slice s, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		if (c == '%') {
			char hex[3] = { 0 }, *end;
			if (s.len - i < 3)
				return ERR_INVALID;
			memcpy(hex, s.ptr + i + 1, 2);
			c = (uint8_t)strtoul(hex, &end, 16);
			if (end != hex + 2 || hex[0] == '-' || hex[0] == '+' ||
			    hex[0] == ' ')
				return ERR_INVALID;
			i += 2;
		}
		if (c < ' ' || c == 0x7f || n + 1 >= size)
			return ERR_INVALID;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return 0;
}

/* "user:password@", cut off the front of *rest. */
static int
take_credentials(struct slice *rest, struct dial_proxy *p)
{
	size_t at = rest->len, colon;
	struct slice user;

	while (at > 0 && rest->ptr[at - 1] != '@')
		at--;
	if (at == 0)
		return 0;
	user = slice_first(*rest, at - 1);
	*rest = slice_from_at(*rest, at);
	colon = slice_find(user, ':');
	if (colon < user.len &&
	    decode(slice_from_at(user, colon + 1), p->password, DIAL_SECRET) !=
		0)
		return ERR_INVALID;
	return decode(slice_first(user, colon), p->user, DIAL_SECRET);
}

/* "host", "host:port", "[v6]" or "[v6]:port". */
static int
split_port(struct slice s, struct slice *host, struct slice *port)
{
	size_t end;

	*port = (struct slice){ 0 };
	if (s.len > 0 && s.ptr[0] == '[') {
		end = slice_find(s, ']');
		if (end == s.len)
			return ERR_INVALID;
		*host = slice_first(slice_from_at(s, 1), end - 1);
		s = slice_from_at(s, end + 1);
		if (s.len > 0 && s.ptr[0] != ':')
			return ERR_INVALID;
		end = 0;
	} else {
		end = slice_find(s, ':');
		*host = slice_first(s, end);
		/* More than one colon: an address without brackets. */
		if (slice_find(slice_from_at(s, end + 1), ':') + end + 1 <
		    s.len) {
			*host = s;
			return 0;
		}
	}
	if (end < s.len)
		*port = slice_from_at(s, end + 1);
	return 0;
}

int
dial_proxy_parse(struct slice url, struct dial_proxy *out)
{
	static const struct {
		struct slice prefix;
		enum dial_kind kind;
		uint16_t port;
	} schemes[] = {
		{ SL_INIT("http://"), DIAL_HTTP, 80 },
		{ SL_INIT("socks5://"), DIAL_SOCKS5, 1080 },
		{ SL_INIT("socks5h://"), DIAL_SOCKS5, 1080 },
	};
	struct dial_proxy p = { .kind = DIAL_HTTP, .port = 80 };
	struct slice host, port;
	uint64_t number;
	bool known = false;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct slice prefix = schemes[i].prefix;
		if (!slice_eq_nocase(slice_first(url, prefix.len), prefix))
			continue;
		url = slice_from_at(url, prefix.len);
		p.kind = schemes[i].kind;
		p.port = schemes[i].port;
		known = true;
		break;
	}
	for (size_t i = 0; !known && i + 2 < url.len; i++) {
		if (memcmp(url.ptr + i, "://", 3) == 0)
			return ERR_UNSUPPORTED;
	}
	url = slice_first(url, slice_find(url, '/'));
	if (take_credentials(&url, &p) != 0 ||
	    split_port(url, &host, &port) != 0 || host.len == 0 ||
	    slice_cstr(host, p.host, sizeof(p.host)) != 0)
		return ERR_INVALID;
	if (port.ptr != NULL) {
		if (slice_u64(port, UINT16_MAX, &number) != 0 || number == 0)
			return ERR_INVALID;
		p.port = (uint16_t)number;
	}
	*out = p;
	return 0;
}

static size_t
ip_bytes(const union addr *a, const uint8_t **bytes)
{
	if (a->sa.sa_family == AF_INET) {
		*bytes = (const uint8_t *)&a->in.sin_addr;
		return 4;
	}
	*bytes = (const uint8_t *)&a->in6.sin6_addr;
	return 16;
}

/* "10.0.0.0/8" or "10.1.2.3" against an address. */
static bool
covers_ip(struct slice entry, const union addr *a)
{
	size_t slash = slice_find(entry, '/'), n, whole;
	const uint8_t *net, *ip;
	union addr b;
	uint64_t bits;

	if (addr_parse_ip(slice_first(entry, slash), 0, &b) != 0 ||
	    b.sa.sa_family != a->sa.sa_family)
		return false;
	n = ip_bytes(&b, &net);
	ip_bytes(a, &ip);
	bits = 8 * n;
	if (slash < entry.len &&
	    slice_u64(slice_from_at(entry, slash + 1), 8 * n, &bits) != 0)
		return false;
	whole = (size_t)bits / 8;
	return memcmp(net, ip, whole) == 0 &&
	    (bits % 8 == 0 || (net[whole] ^ ip[whole]) >> (8 - bits % 8) == 0);
}

static bool
covers_name(struct slice entry, struct slice host)
{
	size_t border;

	if (slice_starts(entry, SL("*.")))
		entry = slice_from_at(entry, 1);
	if (entry.len > 0 && entry.ptr[0] == '.')
		entry = slice_from_at(entry, 1);
	if (entry.len == 0 || entry.len > host.len)
		return false;
	border = host.len - entry.len;
	return slice_eq_nocase(slice_from_at(host, border), entry) &&
	    (border == 0 || host.ptr[border - 1] == '.');
}

bool
dial_proxy_exempt(struct slice list, const char *name, uint16_t port)
{
	struct slice entry, host, digits, me = slice_from(name);
	union addr a;
	bool ip = addr_parse_ip(me, 0, &a) == 0;
	uint64_t number;

	while (slice_split(&list, ',', &entry)) {
		entry = slice_trim(entry);
		if (slice_eq(entry, SL("*")))
			return true;
		if (split_port(entry, &host, &digits) != 0)
			continue;
		if (digits.ptr != NULL &&
		    (slice_u64(digits, UINT16_MAX, &number) != 0 ||
			number != port))
			continue;
		if (ip ? covers_ip(host, &a) : covers_name(host, me))
			return true;
	}
	return false;
}

static struct slice
env(const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	if ((value == NULL || value[0] == '\0') && upper != NULL)
		value = getenv(upper);
	return slice_from(value);
}

int
dial_proxy_from_env(
    const char *host, uint16_t port, bool secure, struct dial_proxy *out)
{
	struct slice url = secure ? env("https_proxy", "HTTPS_PROXY")
				  : env("http_proxy", NULL);

	if (url.len == 0)
		url = env("all_proxy", "ALL_PROXY");
	if (url.len == 0 ||
	    dial_proxy_exempt(env("no_proxy", "NO_PROXY"), host, port)) {
		*out = (struct dial_proxy){ .kind = DIAL_DIRECT };
		return 0;
	}
	return dial_proxy_parse(url, out);
}
