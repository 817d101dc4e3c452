/*
 * forwarded: who a request is from when proxies stand in front (floor:
 * server; RFC 7239 and X-Forwarded-For, -Proto).
 *
 * Only what trusted proxies have written is believed: read from the right,
 * the first hop that is not one of them is the client.  A hop that hides or
 * is not an address ends the walk: the client is then the last address that
 * is known.  When both kinds of field are there and name different clients,
 * one of them was passed on as a stranger sent it, and neither counts.
 */
#ifndef SERVER_FORWARDED_H
#define SERVER_FORWARDED_H

#include "wire/http1.h"

#include "model/cidr.h"

struct forwarded {
	struct address client;
	bool by_proxy; /* the peer is a trusted proxy */
	bool tls;      /* the client came by https to the first of them */
};

/*
 * peer: the address at the other end of the connection.  trusted: ranges
 * joined by commas.  Total: without anything to be believed the client is
 * the peer.
 */
void forwarded_read(const struct http1_head *h, struct slice trusted,
    const struct address *peer, struct forwarded *out);

/* Whether a request says at all that it was passed on. */
bool forwarded_any(const struct http1_head *h);

/* 0, or ERR_INVALID when an entry of the list is no range. */
int forwarded_check(struct slice list);

#endif
