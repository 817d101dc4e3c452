/*
 * dial_hop: the talk with a proxy, as a pure machine (floor: io).
 *
 * HTTP CONNECT (RFC 9110 9.3.6) and SOCKS5 (RFC 1928, user and password by
 * RFC 1929).  Not a byte behind the proxy's last word is taken: it belongs
 * to whoever is behind it.
 */
#ifndef IO_DIAL_HOP_H
#define IO_DIAL_HOP_H

#include "io/dial.h"

enum {
	HOP_OUT = 1536,       /* longest thing we say */
	HOP_IN = 320,         /* longest that is kept of what it says */
	HOP_HEAD = 16 * 1024, /* longest head of an HTTP proxy's answer */
};

struct hop {
	const struct dial_proxy *proxy; /* borrowed */
	const char *host;               /* borrowed; the target */
	uint16_t port;
	int (*take)(struct hop *h, uint8_t c);
	uint8_t in[HOP_IN];
	size_t got;   /* bytes in in */
	size_t want;  /* SOCKS5: how many this answer has */
	size_t total; /* HTTP: of the head */
	size_t line;  /* HTTP: of this line */
	uint8_t out[HOP_OUT];
	size_t out_len; /* to be sent; the caller zeroes it */
	char why[160];
};

/* Begin; out holds the first words.  0 or ERR_TOO_BIG. */
int hop_init(struct hop *h, const struct dial_proxy *proxy, const char *host,
    uint16_t port);

/*
 * Give it what came: *used of it is taken.  1 the way is open, 0 it goes on
 * (send out first), or ERR_DENIED, ERR_REFUSED, ERR_UNREACHABLE,
 * ERR_PROTOCOL... with why.
 */
int hop_feed(struct hop *h, struct slice s, size_t *used);

#endif
