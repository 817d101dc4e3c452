/*
 * problem: why a request is refused, as JSON (floor: server; RFC 9457).
 */
#ifndef SERVER_PROBLEM_H
#define SERVER_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct problem {
	int status;
	struct slice code; /* stable; absent: made of the status */
	struct slice field;
	struct slice text;
	uint32_t retry_after;   /* seconds; 0 = not said */
	bool close;             /* the connection is of no more use */
	struct slice challenge; /* WWW-Authenticate; absent: Bearer on 401 */
};

/* The text of it; out->err tells of failure.  request_id may be absent. */
void problem_put(
    struct buf *out, const struct problem *p, struct slice request_id);

#endif
