/*
 * url: http, https, ws and wss URLs and their parts (floor: wire).
 *
 * RFC 3986 read strictly: no userinfo, no fragment, no percent-encoding in
 * hosts, no zone ids, no IPvFuture.  Everything read is a slice of the
 * input; nothing is decoded unless asked for.
 */
#ifndef WIRE_URL_H
#define WIRE_URL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/slice.h"

enum { URL_MAX = 8192 };

/* host [":" port], as in Host fields and URLs. */
struct url_host {
	struct slice host; /* as written, with the brackets of IPv6 */
	struct slice name; /* for a resolver: without the brackets */
	int port;          /* -1 when absent or empty ("host:") */
	bool ipv6;
};

/* 0, ERR_MISSING when the host is empty (":80"), ERR_INVALID. */
int url_host_parse(struct slice s, struct url_host *out);

/* Same host (ASCII case ignored) and same port, an absent one being
 * default_port. */
bool url_host_equal(
    const struct url_host *a, const struct url_host *b, int default_port);

struct url {
	struct slice scheme; /* as written */
	bool tls;            /* https or wss */
	bool websocket;      /* ws or wss */
	struct url_host at;
	int port;           /* 1 to 65535; the scheme's default if not given */
	struct slice path;  /* as written; "/" when empty */
	struct slice query; /* without "?"; absent when there is none */
};

/*
 * Read a whole URL.  0, ERR_INVALID, ERR_TOO_BIG (over URL_MAX),
 * ERR_UNSUPPORTED (another scheme).
 */
int url_parse(struct slice s, struct url *out);

/* The value of the Host field: the port is left out when it is the
 * scheme's default. */
void url_put_host(struct buf *b, const struct url *u);

/* Path and query, as a request target. */
void url_put_target(struct buf *b, const struct url *u);

/* Percent-encode all but unreserved bytes: right for one path segment and
 * for one name or value of a query. */
void url_put_encoded(struct buf *b, struct slice s);

/*
 * Undo percent-encoding, into a (result never longer than s); with plus,
 * '+' means space (queries).  0, ERR_INVALID (a broken escape), ERR_NOMEM.
 */
int url_decode(struct slice s, bool plus, struct arena *a, struct slice *out);

/*
 * Whether a path may be matched against our own routes: every escape is
 * whole, and neither before nor after decoding is there an empty or dot
 * segment, a slash or backslash from an escape, a second layer of escapes,
 * a control byte or invalid UTF-8.  0 or ERR_INVALID.  Paths that are passed
 * on to a service need not pass.
 */
int url_path_check(struct slice path);

/* Cut the next parameter off *rest; both parts as written, value absent
 * without "=".  False at the end. */
bool url_query_next(
    struct slice *rest, struct slice *name, struct slice *value);

/*
 * The decoded value of the one parameter with that (decoded) name.
 * 0, ERR_MISSING, ERR_DUPLICATE, ERR_INVALID, ERR_NOMEM.
 */
int url_query_get(
    struct slice query, struct slice name, struct arena *a, struct slice *out);

/*
 * A request target fit for a log: values of parameters that carry
 * secrets (token, access_token, ticket, secret, password...) are replaced,
 * bytes that are not visible ASCII are escaped.
 */
void url_put_redacted(struct buf *b, struct slice target);

#endif
