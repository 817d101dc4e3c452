/*
 * octet: classes of bytes in HTTP messages and URIs (floor: wire).
 *
 * One table answers which bytes may stand where.  It is stricter than the
 * grammar where no client needs the rest, and laxer in targets, where
 * browsers send bytes that RFC 3986 leaves out.
 */
#ifndef WIRE_OCTET_H
#define WIRE_OCTET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum octet_bit {
	OCTET_TOKEN = 1, /* tchar, RFC 9110 5.6.2 */
	OCTET_PATH = 2,  /* a target's path; visible but not "<>\#? */
	OCTET_QUERY = 4, /* a target's query; visible but not "<># */
	OCTET_VALUE = 8, /* field-vchar, obs-text, SP, HTAB: RFC 9110 5.5 */
	OCTET_HOST = 16, /* reg-name without percent-encoding: RFC 3986 3.2.2 */
	OCTET_PLAIN = 32, /* unreserved, RFC 3986 2.3 */
	OCTET_HEX = 64,   /* HEXDIG, either case */
};

extern const uint8_t octet_class[256];

static inline bool
octet_is(uint8_t c, enum octet_bit bit)
{
	return (octet_class[c] & bit) != 0;
}

/* Whether s is not empty and all of its bytes are of the class. */
static inline bool
octet_all(struct slice s, enum octet_bit bit)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!octet_is(s.ptr[i], bit))
			return false;
	}
	return s.len > 0;
}

/* The value of a hexadecimal digit, -1 when it is none. */
int octet_hex(uint8_t c);

#endif
