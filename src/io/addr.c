#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

#include "io/addr.h"

int
addr_parse_ip(struct slice text, uint16_t port, union addr *out)
{
	char host[INET6_ADDRSTRLEN + 1];
	union addr a = { 0 };

	if (slice_cstr(text, host, sizeof(host)) != 0)
		return ERR_INVALID;
	if (inet_pton(AF_INET, host, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
	} else if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
	} else {
		return ERR_INVALID;
	}
	*out = a;
	return 0;
}

static int
parse_path(struct slice text, union addr *out)
{
	union addr a = { .un.sun_family = AF_UNIX };

	if (slice_cstr(text, a.un.sun_path, sizeof(a.un.sun_path)) != 0)
		return ERR_INVALID;
	*out = a;
	return 0;
}

int
addr_parse(struct slice text, union addr *out)
{
	struct slice host, port;
	uint64_t number;
	size_t colon = text.len;

	if (text.len > 0 && text.ptr[0] == '/')
		return parse_path(text, out);
	while (colon > 0 && text.ptr[colon - 1] != ':')
		colon--;
	if (colon == 0)
		return ERR_INVALID;
	host = slice_first(text, colon - 1);
	port = slice_from_at(text, colon);
	if (slice_u64(port, UINT16_MAX, &number) != 0)
		return ERR_INVALID;
	if (slice_eq(host, SL("*")))
		host = SL("::");
	else if (slice_eq_nocase(host, SL("localhost")))
		host = SL("127.0.0.1");
	else if (host.len >= 2 && host.ptr[0] == '[' &&
	    host.ptr[host.len - 1] == ']')
		host = slice_first(slice_from_at(host, 1), host.len - 2);
	else if (slice_find(host, ':') < host.len)
		return ERR_INVALID; /* IPv6 needs its brackets */
	return addr_parse_ip(host, (uint16_t)number, out);
}

void
addr_unmap(union addr *a)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (a->sa.sa_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return;
	in.sin_port = a->in6.sin6_port;
	memcpy(&in.sin_addr, &a->in6.sin6_addr.s6_addr[12], 4);
	a->in = in;
}

socklen_t
addr_len(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return sizeof(struct sockaddr_in);
	if (a->sa_family == AF_INET6)
		return sizeof(struct sockaddr_in6);
	return sizeof(struct sockaddr_un);
}

/* The casts go through void: a sockaddr here is always a whole one. */
static const struct sockaddr_in *
in4(const struct sockaddr *a)
{
	return (const void *)a;
}

static const struct sockaddr_in6 *
in6(const struct sockaddr *a)
{
	return (const void *)a;
}

uint16_t
addr_port(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohs(in4(a)->sin_port);
	if (a->sa_family == AF_INET6)
		return ntohs(in6(a)->sin6_port);
	return 0;
}

void
addr_format_ip(const struct sockaddr *a, char out[ADDR_TEXT])
{
	const struct in6_addr *six = &in6(a)->sin6_addr;

	if (a->sa_family == AF_INET)
		inet_ntop(AF_INET, &in4(a)->sin_addr, out, ADDR_TEXT);
	else if (a->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six))
		inet_ntop(AF_INET, &six->s6_addr[12], out, ADDR_TEXT);
	else if (a->sa_family == AF_INET6)
		inet_ntop(AF_INET6, six, out, ADDR_TEXT);
	else
		snprintf(out, ADDR_TEXT, "unix");
}

void
addr_format(const struct sockaddr *a, char out[ADDR_TEXT])
{
	char ip[ADDR_TEXT];

	addr_format_ip(a, ip);
	if (a->sa_family != AF_INET && a->sa_family != AF_INET6)
		snprintf(out, ADDR_TEXT, "%s", ip);
	else if (strchr(ip, ':') != NULL)
		snprintf(out, ADDR_TEXT, "[%.64s]:%u", ip, addr_port(a));
	else
		snprintf(out, ADDR_TEXT, "%.64s:%u", ip, addr_port(a));
}

bool
addr_is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return (ntohl(in4(a)->sin_addr.s_addr) >> 24) == 127;
	if (a->sa_family != AF_INET6)
		return a->sa_family == AF_UNIX;
	const struct in6_addr *six = &in6(a)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(six) ||
	    (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}
