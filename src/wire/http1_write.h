/*
 * http1_write: the bytes of HTTP/1.1 messages that we send (floor: wire).
 *
 * Writers append to a struct buf and are sticky as it is: put, put, put,
 * then look at err once.  A name or value that could break out of its line
 * (RFC 9110 5.5) sets err to ERR_INVALID and nothing of it is written.
 */
#ifndef WIRE_HTTP1_WRITE_H
#define WIRE_HTTP1_WRITE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/stamp.h"

struct http1_pair {
	struct slice name;
	struct slice value;
};

/* RFC 9110 15 and the few registered since; "Unknown" for the rest. */
const char *http1_reason(int status);

/* A status line; an absent reason is the usual one. */
void http1_put_line(struct buf *b, int status, struct slice reason);

/* Status line, Date and "Server: muster". */
void http1_put_status(struct buf *b, int status, wall_msec at);

/* Request line and Host. */
void http1_put_request(
    struct buf *b, struct slice method, struct slice target, struct slice host);

/* The Date field. */
void http1_put_date(struct buf *b, wall_msec at);

void http1_put_field(struct buf *b, struct slice name, struct slice value);
void http1_put_number(struct buf *b, struct slice name, uint64_t value);

/* The empty line. */
void http1_put_end(struct buf *b);

/*
 * What goes before a chunk of n bytes (n > 0), for data that is sent from
 * where it lies; "\r\n" goes behind it.  The length written.
 */
enum { HTTP1_CHUNK_HEAD = 18 };
size_t http1_chunk_head(size_t n, uint8_t out[HTTP1_CHUNK_HEAD]);

/*
 * A body on its way out.  Begin writes the framing fields of a head that is
 * being written (none for HTTP1_SEND_NONE and HTTP1_SEND_CLOSE).
 */
enum http1_send {
	HTTP1_SEND_NONE,  /* no body; data is swallowed (HEAD) */
	HTTP1_SEND_SIZED, /* Content-Length */
	HTTP1_SEND_CHUNKED,
	HTTP1_SEND_CLOSE, /* until the connection ends */
};

struct http1_sender {
	enum http1_send how;
	uint64_t left; /* SIZED: bytes still owed */
};

/* 0, or ERR_RANGE when more comes than the length said. */
int http1_send_data(struct http1_sender *s, struct buf *out, struct slice data);

/* 0, or ERR_RANGE when less came than the length said. */
int http1_send_end(struct http1_sender *s, struct buf *out);

/* The same with trailers, which only CHUNKED can carry: else they are
 * dropped, as are all that http1_may_trail refuses. */
int http1_send_trailers(struct http1_sender *s, struct buf *out,
    const struct http1_pair *trailers, size_t count);

/*
 * What goes around n bytes of data (n > 0) that are sent from where they
 * lie, instead of http1_send_data: head_len bytes of head before them,
 * tail_len of "\r\n" behind.  With skip nothing is sent at all.  0 or
 * ERR_RANGE.
 */
struct http1_wrap {
	uint8_t head[HTTP1_CHUNK_HEAD];
	size_t head_len;
	size_t tail_len;
	bool skip;
};
int http1_send_wrap(struct http1_sender *s, size_t n, struct http1_wrap *out);

#endif
