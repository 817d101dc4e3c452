/*
 * stamp: wall-clock instants as text (floor: base).
 *
 * RFC 3339 in UTC with milliseconds, "2025-10-16T12:00:00.000Z", as the
 * cluster and console dialects and the REST surface write it.  Instants are
 * milliseconds since the epoch; no clock is read here.
 */
#ifndef BASE_STAMP_H
#define BASE_STAMP_H

#include <stdint.h>

#include "base/slice.h"

/* Milliseconds since 1970-01-01T00:00:00Z. */
typedef int64_t wall_msec;

enum { STAMP_LEN = 24 };

/* Exactly STAMP_LEN bytes into out, not NUL-terminated.  Instants outside
 * the years 1970 to 9999 are clamped. */
void stamp_format(wall_msec at, uint8_t out[STAMP_LEN]);

/*
 * Read any RFC 3339 instant: fraction of 1 to 9 digits (cut to ms), offset
 * or Z, 't' and 'z' too.  A leap second reads as the next second.
 * 0 or ERR_INVALID.
 */
int stamp_parse(struct slice s, wall_msec *out);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7), 29 bytes. */
enum { STAMP_HTTP_LEN = 29 };
void stamp_format_http(wall_msec at, uint8_t out[STAMP_HTTP_LEN]);

#endif
