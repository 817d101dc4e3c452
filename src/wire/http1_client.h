/*
 * http1_client: the client's end of an HTTP/1.1 connection (floor: wire).
 *
 * A pure machine, one request at a time: ask writes the head, data and
 * finish the body; feed and next give RESPONSE (for every 1xx too), BODY,
 * END.  RESPONSE with 101 hands the connection over: take what is behind it
 * with http1_client_upgrade.  BAD means that the connection is beyond use,
 * and so do bytes that come unasked.
 */
#ifndef WIRE_HTTP1_CLIENT_H
#define WIRE_HTTP1_CLIENT_H

#include "wire/http1_event.h"
#include "wire/http1_input.h"
#include "wire/http1_write.h"

struct http1_client {
	struct http1_input input;
	struct http1_body body;
	struct http1_sender sender;
	uint64_t body_cap; /* of one response */
	uint8_t state;
	bool head_only;  /* the request is HEAD */
	bool upgrade;    /* the request allows 101 */
	bool keep_alive; /* of the last response */
	bool ended;
};

void http1_client_init(struct http1_client *c, uint64_t body_cap);
void http1_client_fini(struct http1_client *c);

struct http1_ask {
	struct slice method;
	struct slice target;
	struct slice host;               /* the Host field: url_put_host */
	const struct http1_pair *fields; /* others; no framing */
	size_t count;
	int64_t length; /* of the body; 0 none, -1 not known (chunked) */
	bool upgrade;   /* fields ask for 101 */
};

/* 0, ERR_WRONG_STATE (an answer is still due), ERR_INVALID, or out->err. */
int http1_client_ask(
    struct http1_client *c, const struct http1_ask *ask, struct buf *out);
/* 0, ERR_RANGE, or out->err.  finish is for every request. */
int http1_client_data(
    struct http1_client *c, struct slice data, struct buf *out);
int http1_client_finish(struct http1_client *c, struct buf *out);
/* The same with trailers, as http1_send_trailers. */
int http1_client_finish_with(struct http1_client *c,
    const struct http1_pair *trailers, size_t count, struct buf *out);
/* As data, for bytes that are sent from where they lie. */
int http1_client_wrap(struct http1_client *c, size_t n, struct http1_wrap *out);

/* Right after RESPONSE (200 and above): END brings its trailers. */
void http1_client_trailers(struct http1_client *c);

/* As http1_server_feed and _next; after eof call next, too. */
void http1_client_feed(struct http1_client *c, struct slice bytes);
void http1_client_eof(struct http1_client *c);
bool http1_client_next(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev);

/* After 101: the bytes behind it, in c or in what was fed last.
 * 0, ERR_WRONG_STATE, ERR_NOMEM. */
int http1_client_upgrade(struct http1_client *c, struct slice *rest);

/* Another request may be asked here. */
bool http1_client_reusable(const struct http1_client *c);

#endif
