/*
 * ours: whose names a request uses, Host and Origin (floor: server).
 *
 * Only names that are ours are answered, against rebinding of names; and a
 * page of a strange origin may neither open WebSockets here nor read
 * answers.  Origins are compared as a whole: scheme, host and port.
 */
#ifndef SERVER_OURS_H
#define SERVER_OURS_H

#include "wire/http1_write.h"
#include "wire/url.h"

#include "server/server.h"

/* public_url's, loopback ones, and those of `hosts`. */
bool ours_is_host(const struct server *s, const struct url_host *host);

/* Where paths under /clusters/ are answered: tunnel_origin, without a slash at
 * its end; else public_url, where they are refused or unsafe. */
struct slice ours_tunnel_origin(const struct server *s);

enum origin {
	ORIGIN_NONE,    /* not a browser, or not across origins */
	ORIGIN_OWN,     /* public_url's */
	ORIGIN_LISTED,  /* in cors_origins */
	ORIGIN_FOREIGN, /* any other, and "null" */
};

enum origin ours_origin(const struct server *s, struct slice origin);

/*
 * Whether an origin, as browsers write it, fits one entry of cors_origins:
 * "https://app.example.com", "https://app.example.com:8443", or with "*."
 * before the host, for one or more whole labels there.
 */
bool ours_origin_fits(struct slice entry, struct slice origin);

/* 0, or ERR_INVALID when an entry of the list is none of these. */
int ours_check_origins(struct slice list);

/*
 * What an answer says about origins (Fetch, 3.2): nothing unless
 * cors_origins is set.  Returns how many fields, 3 at most.
 */
enum { OURS_CORS = 3, OURS_PREFLIGHT = 3 };
size_t ours_cors(const struct server *s, enum origin kind, struct slice origin,
    struct http1_pair out[OURS_CORS]);

/* What the answer to a preflight says besides, for a path that knows these
 * methods. */
size_t ours_preflight(
    struct slice methods, struct http1_pair out[OURS_PREFLIGHT]);

#endif
