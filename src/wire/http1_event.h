/*
 * http1_event: what comes out of the HTTP/1.1 machines (floor: wire).
 */
#ifndef WIRE_HTTP1_EVENT_H
#define WIRE_HTTP1_EVENT_H

#include "wire/http1.h"

enum http1_kind {
	HTTP1_REQUEST,  /* server: head */
	HTTP1_RESPONSE, /* client: head, 1xx included */
	HTTP1_BODY,     /* data */
	HTTP1_END,      /* of the message; head: its trailers, or NULL */
	HTTP1_BAD,      /* status, why: the connection is beyond use */
};

/* All that an event points to is valid until the next call of next. */
struct http1_event {
	enum http1_kind kind;
	const struct http1_head *head;
	struct slice data;
	int status;
	const char *why;
};

#endif
