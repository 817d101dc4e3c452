/*
 * cidr: numeric addresses and ranges of them (floor: model).
 *
 * IPv4 is kept as IPv4-mapped IPv6, so that 10.0.0.0/8 also covers
 * ::ffff:10.1.2.3.
 */
#ifndef MODEL_CIDR_H
#define MODEL_CIDR_H

#include <stdbool.h>

#include "base/slice.h"

struct address {
	uint8_t bytes[16];
};

/* "192.0.2.1", "2001:db8::1", "[::1]".  0 or ERR_INVALID. */
int address_parse(struct slice text, struct address *out);

/* Whether text is an address or ADDRESS/BITS.  0 or ERR_INVALID. */
int cidr_check(struct slice text);

/* Whether the address lies in any range of the comma-separated list. */
bool cidr_list_has(struct slice list, const struct address *a);

/*
 * Never to be reached by ourselves, whoever asks (decisions 10): this network,
 * link-local, the metadata services of clouds, multicast, broadcast, and the
 * same inside IPv4-mapped, IPv4-compatible, 6to4 and NAT64 forms.
 */
bool address_is_refused(const struct address *a);

/* This host, in any of those forms: only where it was named. */
bool address_is_loopback(const struct address *a);

#endif
