/*
 * proxy2: the PROXY protocol, version 2 (floor: io).
 *
 * HAProxy's "The PROXY protocol" section 2.2: a balancer in front says whose
 * connection it passes on.  Pure: bytes in, address out.  Version 1 (text)
 * is not taken.
 */
#ifndef IO_PROXY2_H
#define IO_PROXY2_H

#include <netinet/in.h>
#include <stdbool.h>

#include "base/slice.h"

enum {
	PROXY2_HEAD = 16,  /* the fixed part */
	PROXY2_MAX = 4096, /* longest header taken, extensions included */
};

struct proxy2 {
	/* The header names no one (LOCAL, a health check by the balancer
	 * itself, or a family other than IP): the socket's own peer it is. */
	bool local;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} from;
};

/*
 * >0 the header's length, *out filled in; 0 more bytes are needed;
 * ERR_PROTOCOL or ERR_TOO_BIG.  Extensions (TLVs) are skipped.
 */
int proxy2_parse(struct slice s, struct proxy2 *out);

/* How long the header is as far as s tells; never less than PROXY2_HEAD.
 * For readers that must not take a byte beyond it. */
size_t proxy2_length(struct slice s);

#endif
