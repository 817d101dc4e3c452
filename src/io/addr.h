/*
 * addr: socket addresses and their spelling (floor: io).
 *
 * "192.0.2.1:80", "[2001:db8::1]:80", "*:80" (every address, both families),
 * "localhost:80" (127.0.0.1) and "/run/x.sock".  Names are not resolved here.
 */
#ifndef IO_ADDR_H
#define IO_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/slice.h"

union addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

enum { ADDR_TEXT = 128 }; /* "[v6%scope]:port" or a path, and NUL */

/* 0, or ERR_INVALID. */
int addr_parse(struct slice text, union addr *out);

/* An IPv4 or IPv6 address in text, without brackets or port. */
int addr_parse_ip(struct slice text, uint16_t port, union addr *out);

/* An IPv4-mapped IPv6 address becomes the IPv4 address it is. */
void addr_unmap(union addr *a);

/* What the system calls want. */
socklen_t addr_len(const struct sockaddr *a);

/* 0 for paths. */
uint16_t addr_port(const struct sockaddr *a);

/* The spelling above; a path that is not known is "unix". */
void addr_format(const struct sockaddr *a, char out[ADDR_TEXT]);

/* Only the address, "192.0.2.1" or "2001:db8::1"; IPv4-mapped as IPv4. */
void addr_format_ip(const struct sockaddr *a, char out[ADDR_TEXT]);

bool addr_is_loopback(const struct sockaddr *a);

#endif
