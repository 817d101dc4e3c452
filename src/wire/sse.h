/*
 * sse: Server-Sent Events, both ways (floor: wire).
 *
 * The text/event-stream of the WHATWG HTML standard, 9.2.5 and 9.2.6.
 * Writers are sticky as struct buf is: a type or id that holds a line end or
 * NUL sets err to ERR_INVALID and nothing of the event is written.
 */
#ifndef WIRE_SSE_H
#define WIRE_SSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/heap.h"

struct sse_event {
	struct slice type; /* writing: absent for "message" */
	struct slice id;   /* writing: absent for none; reading: the last */
	struct slice data; /* any line end in it is read as LF */
};

void sse_put_event(struct buf *b, const struct sse_event *ev);

/* A line that readers skip: keeps proxies from closing.  As type above. */
void sse_put_comment(struct buf *b, struct slice text);

/* How long a reader waits before it connects again. */
void sse_put_retry(struct buf *b, msec wait);

/*
 * The reader.  Bytes that are not UTF-8 pass as they are: who shows the
 * text mends it, who reads JSON from it is told.
 */
struct sse_reader {
	struct slice fed; /* borrowed from the last feed */
	struct buf line;  /* one that is not yet whole */
	struct buf data;
	struct buf type;
	struct buf id; /* kept from event to event */
	msec retry;    /* the last that was told, -1 before */
	int err;       /* sticky: ERR_TOO_BIG, ERR_NOMEM */
	bool begun;    /* past the byte order mark */
	bool after_cr; /* a LF right here belongs to a CR before */
	bool given;    /* an event is handed out */
};

/* cap: bytes of one line and of one event's data, each.  Allocates
 * nothing. */
void sse_reader_init(struct sse_reader *r, size_t cap);
void sse_reader_fini(struct sse_reader *r);

/* Bytes are borrowed until sse_next has said 0. */
void sse_feed(struct sse_reader *r, struct slice bytes);

/*
 * 1 and the next event, valid until the next call; 0 all is read;
 * ERR_TOO_BIG or ERR_NOMEM, for good.  An event that the stream's end cuts
 * off is never seen.
 */
int sse_next(struct sse_reader *r, struct sse_event *ev);

#endif
