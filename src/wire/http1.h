/*
 * http1: heads and bodies of HTTP/1.1 messages (floor: wire).
 *
 * RFC 9110 and RFC 9112, read more strictly than they allow, because what
 * is let through is parsed a second time by services behind the tunnel.
 * Nothing is repaired: obs-fold, a bare CR or LF, blanks before a colon,
 * control bytes, both or several of Content-Length and Transfer-Encoding,
 * any coding but `chunked`, a missing, repeated or invalid Host are errors,
 * reported as soon as the offending byte or line is there.  After an error
 * the connection must be closed; no later byte means anything.
 *
 * Parse: http1_head_init, then http1_parse_request (or _response) with all
 * bytes of the head so far, again and again with more, until it is not 0.
 * The bytes may move between calls, but not change.
 */
#ifndef WIRE_HTTP1_H
#define WIRE_HTTP1_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"
#include "wire/url.h"

enum {
	HTTP1_HEAD_BYTES = 16384,    /* a head with its final empty line */
	HTTP1_FIELDS = 128,          /* fields of one head */
	HTTP1_METHOD_BYTES = 32,     /* longer methods are 501 */
	HTTP1_CONNECTION_NAMES = 64, /* elements of Connection in all */
};

/* RFC 9112 3.2.1 to 3.2.4. */
enum http1_form {
	HTTP1_ORIGIN,    /* "/path?query" */
	HTTP1_ABSOLUTE,  /* "http://host/path?query"; a fragment is cut off */
	HTTP1_AUTHORITY, /* CONNECT "host:port" */
	HTTP1_ASTERISK,  /* OPTIONS "*" */
};

/* A field's place in the head. */
struct http1_place {
	uint16_t name, name_len;
	uint16_t value, value_len; /* without blanks around it */
};

struct http1_head {
	/*
	 * A response: its status.  After an error: what a server answers
	 * (400, 413, 414, 417, 421, 431, 501, 505), 502 for a response, and
	 * one sentence on why.
	 */
	int status;
	const char *why;

	/* Below: valid once the head is complete, as long as its bytes. */
	struct slice bytes;
	struct slice method;  /* requests; case matters */
	struct slice target;  /* as received */
	struct slice path;    /* absent for AUTHORITY and ASTERISK */
	struct slice query;   /* without "?"; absent when there is none */
	struct slice reason;  /* responses */
	struct url_host host; /* the target's or the Host field's; host.host
			       * is absent only in HTTP/1.0 */
	enum http1_form form;
	int minor; /* HTTP/1.minor: 0 or 1 */

	uint64_t content_length;
	bool has_length;
	bool chunked;
	bool has_body;        /* requests: chunked or a length above 0 */
	bool keep_alive;      /* RFC 9112 9.3 */
	bool expect_continue; /* RFC 9110 10.1.1 */

	/* The parser's own. */
	uint8_t state;
	bool has_host;
	bool foreign_coding; /* codings before the last */
	bool secure;         /* absolute target with https */
	uint16_t at;         /* all before is parsed */
	uint16_t mark;       /* where the current token starts */
	uint16_t start;      /* of the method or status line */
	uint16_t method_len;
	uint16_t target_at, target_len;
	uint16_t reason_at, reason_len;
	uint16_t host_field;
	uint16_t count;
	struct http1_place fields[HTTP1_FIELDS];
};

/* Cheap: the table of fields is left as it is. */
void http1_head_init(struct http1_head *h);

/*
 * >0 the length of the head: bytes from there on are body or the next
 * message; 0 more is needed; <0 ERR_PROTOCOL or ERR_TOO_BIG with status and
 * why set.  One empty line before the message is skipped (RFC 9112 2.2).
 * A call costs what has come since the last one.
 */
int http1_parse_request(struct http1_head *h, struct slice bytes);
int http1_parse_response(struct http1_head *h, struct slice bytes);

/* The trailers that a body's keep has, as a head of fields alone: with "\r\n"
 * behind them.  Results as above. */
int http1_parse_trailers(struct http1_head *h, struct slice bytes);

/* The n-th field, n < h->count. */
struct slice http1_name_at(const struct http1_head *h, size_t n);
struct slice http1_value_at(const struct http1_head *h, size_t n);

/* The first value with that name (case ignored), absent when there is
 * none.  For fields that may come once, check http1_count too. */
struct slice http1_field(const struct http1_head *h, const char *name);
size_t http1_count(const struct http1_head *h, const char *name);

/* Walk all values with a name: *pos = 0 first; false at the end. */
bool http1_next_value(const struct http1_head *h, const char *name, size_t *pos,
    struct slice *value);

/* Walk the elements of a list (RFC 9110 5.6.1) that one value holds;
 * empty elements are skipped. */
bool http1_next_element(struct slice *rest, struct slice *element);

/* Whether a list field has an element equal to token, case ignored. */
bool http1_has_token(
    const struct http1_head *h, const char *name, const char *token);

/* For how many seconds a response says that its connection will be kept idle
 * ("Keep-Alive: timeout=5"), below a day; -1 when it does not say. */
int http1_keep_alive_timeout(const struct http1_head *h);

/* Whether a field with that name is never for the next hop: the fixed list
 * of RFC 9110 7.6.1 and its relatives. */
bool http1_ends_here(struct slice name);

/* The same, or Connection names it. */
bool http1_is_hop_by_hop(const struct http1_head *h, struct slice name);

/* Whether a field may stand in a trailer (RFC 9110 6.5.1). */
bool http1_may_trail(struct slice name);

/* Bodies ------------------------------------------------------------------ */

enum { HTTP1_CHUNK_LINE = 1024 }; /* a chunk's size and extensions */

struct http1_body {
	uint64_t left;  /* of the length, or of the current chunk */
	uint64_t total; /* bytes of data promised so far */
	uint64_t cap;   /* total never exceeds this */
	uint32_t line;  /* bytes of the current size line or trailer part */
	uint32_t extra; /* bytes of extensions in all */
	uint8_t state;
	uint8_t name_len; /* of the current trailer field */
	bool chunked;
	bool done;
	uint8_t name[18]; /* its beginning */
	struct buf *keep; /* borrowed; where trailers go, NULL: nowhere */
	int status;       /* after an error: 400, 413 or 431 */
	const char *why;
};

/* The body that follows a request; 0 or ERR_TOO_BIG (a length over cap). */
int http1_body_request(
    struct http1_body *b, const struct http1_head *h, uint64_t cap);

/*
 * The body that follows a response (RFC 9112 6.3); head says whether the
 * request was HEAD.  Until-close bodies are never done: their end is the
 * connection's.  0 or ERR_TOO_BIG.
 */
int http1_body_response(
    struct http1_body *b, const struct http1_head *h, bool head, uint64_t cap);

/* Whether only the connection's end can end the body. */
bool http1_body_until_close(const struct http1_body *b);

/*
 * Take framing and at most one run of data off the front of bytes.
 * >0 bytes taken, *data being the part of them that is data (perhaps
 * empty); 0 nothing to take: done, or bytes is empty; <0 ERR_PROTOCOL or
 * ERR_TOO_BIG.  Extensions are checked and dropped; trailers are checked and
 * put into b->keep, whose err is for the caller to look at when b is done.  A
 * trailer that would change the framing is an error.
 */
int http1_body_feed(
    struct http1_body *b, struct slice bytes, struct slice *data);

#endif
