#include <arpa/inet.h>
#include <ctype.h>

#include "base/err.h"
#include "model/cidr.h"

#include "agent/target.h"

int
target_spell(struct slice host, char out[TARGET_HOST])
{
	char text[TARGET_HOST]; /* ADDR_TEXT is less */
	struct in_addr old;
	union addr a;

	if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		host = slice_first(slice_from_at(host, 1), host.len - 2);
	if (host.len == 0 || host.len >= TARGET_HOST)
		return ERR_INVALID;
	if (addr_parse_ip(host, 0, &a) == 0) {
		addr_format_ip(&a.sa, text);
		return slice_cstr(slice_from(text), out, TARGET_HOST);
	}
	for (size_t i = 0; i < host.len; i++) {
		uint8_t c = host.ptr[i];
		if (c >= 0x80 ||
		    !(isalnum(c) || c == '-' || c == '.' || c == '_'))
			return ERR_INVALID;
		text[i] = (char)tolower(c);
	}
	text[host.len] = '\0';
	if (text[0] == '-' || text[0] == '.')
		return ERR_INVALID;
	if (inet_aton(text, &old) != 0)
		return ERR_DENIED;
	return slice_cstr(slice_from(text), out, TARGET_HOST);
}

bool
target_is_loopback(const char *host)
{
	union addr a;

	return slice_eq(slice_from(host), SL("localhost")) ||
	    (addr_parse_ip(slice_from(host), 0, &a) == 0 &&
		addr_is_loopback(&a.sa));
}

static bool
may_dial(const union addr *from, bool loopback)
{
	struct address a = { .bytes = { [10] = 0xff, [11] = 0xff } };

	if (from->sa.sa_family == AF_INET)
		memcpy(a.bytes + 12, &from->in.sin_addr, 4);
	else if (from->sa.sa_family == AF_INET6)
		memcpy(a.bytes, &from->in6.sin6_addr, 16);
	else
		return false;
	return !address_is_refused(&a) &&
	    (loopback || !address_is_loopback(&a));
}

size_t
target_sift(union addr *addresses, size_t count, bool loopback)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (may_dial(&addresses[i], loopback))
			addresses[n++] = addresses[i];
	return n;
}
