/*
 * hop: heads on their way through a reverse proxy (floor: wire).
 *
 * What a visitor asks becomes what a service is asked, what the service
 * answers becomes what the visitor gets (RFC 9110 7.6).  Fields that end at
 * a hop are dropped both ways, Connection and all it names among them; what
 * is added here cannot be named away.  Nothing of Muster's own passes:
 * neither its cookies nor, when it is ours, Authorization to a service, nor
 * a service's try to set such a cookie.
 *
 * Results lie in the arena whole: the head that they were made of may go.
 * Values that a writer would refuse are refused by the machines that write
 * them (http1_client_ask, http1_server_start).
 */
#ifndef WIRE_HOP_H
#define WIRE_HOP_H

#include "base/arena.h"

#include "wire/http1_client.h"
#include "wire/http1_server.h"

enum { HOP_TRACE = 24, HOP_RULES = 64 };

/* What the owner of a route wants of a field: done in order, last. */
enum hop_verb {
	HOP_SET, /* instead of all with that name */
	HOP_ADD,
	HOP_REMOVE,
};

struct hop_rule {
	enum hop_verb verb;
	struct slice name;
	struct slice value; /* not for REMOVE */
};

/*
 * 0, or ERR_INVALID: no token, a value that breaks its line, a field that
 * the framing or the hop hangs on; Set-Cookie of an answer.  Host can only
 * be set.  Rules that would not pass are skipped.
 */
int hop_rule_check(const struct hop_rule *r, bool response);

/* One exchange: what is known of it beside the heads.  All borrowed. */
struct hop {
	/* Addresses as text, IPv6 without brackets: of the other end of the
	 * connection, and of whom trusted proxies name (else the same). */
	struct slice peer;
	struct slice client;
	bool trusted;        /* peer is a trusted proxy: believe and append */
	bool tls;            /* the client came by https */
	struct slice host;   /* the Host field.  Absent: a request has its own,
			      * and no answer's Location is absolute */
	struct slice prefix; /* as it stands in the path, without a last "/";
			      * absent: nothing is taken off or put on */
	bool own_origin;     /* answered where Muster itself answers */
	bool upgrade;        /* a WebSocket is asked for, and may be had */
	bool drop_authorization;
	struct slice request_id;
	uint8_t trace[HOP_TRACE];    /* random, for want of a traceparent */
	const struct slice *cookies; /* how names of Muster's own begin */
	size_t cookie_count;
	const struct hop_rule *to_service, *to_visitor;
	size_t to_service_count, to_visitor_count; /* at most HOP_RULES */
};

/*
 * The request for the service: method, target without prefix, Host, fields,
 * length (-1: chunked), upgrade.  0, ERR_INVALID (the path is not under
 * prefix; CONNECT; a body with an upgrade; a host that is none),
 * ERR_MISSING (no Host, of HTTP/1.0), ERR_NOMEM.
 */
int hop_request(const struct hop *hop, const struct http1_head *h,
    struct arena *a, struct http1_ask *out);

/*
 * The answer for the visitor, 1xx included: for http1_server_start, _interim
 * or _switch.  out->at is the caller's to set.  With a prefix, Location and
 * its like and the Path of cookies are put under it; where a rule gave the
 * service another Host, Location leads back to hop->host.  0, ERR_PROTOCOL
 * (101 that nobody asked for), ERR_NOMEM.
 */
int hop_response(const struct hop *hop, const struct http1_head *h,
    struct arena *a, struct http1_reply *out);

/* What of the trailers of HTTP1_END may go on, in either direction.  0 or
 * ERR_NOMEM. */
int hop_trailers(const struct hop *hop, const struct http1_head *trailers,
    struct arena *a, const struct http1_pair **fields, size_t *count);

/* What a WebSocket was asked for with, as the service was told. */
struct hop_wish {
	struct slice key;
	struct slice protocols;  /* joined; absent: none offered */
	struct slice extensions; /* the same */
};

/* The wish of a request that hop_request made; in the arena.  0, ERR_NOMEM. */
int hop_wish(
    const struct http1_ask *ask, struct arena *a, struct hop_wish *out);

/*
 * Whether a 101 opens the WebSocket that was asked for (RFC 6455 4.1): its
 * accept key, at most one subprotocol and only extensions of those offered.
 * 0, ERR_PROTOCOL with *reason a static sentence, ERR_NOMEM.
 */
int hop_switch_check(const struct hop_wish *wish, const struct http1_head *h,
    struct arena *a, struct slice *reason);

#endif
