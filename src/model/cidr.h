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
 * Never to be asked by ourselves (decisions 10): this network, link-local,
 * the metadata services of clouds, multicast, and the same behind an
 * IPv4-mapped or NAT64 form.
 */
bool address_is_refused(const struct address *a);

#endif
