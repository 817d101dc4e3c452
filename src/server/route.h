/*
 * route: which path is what (floor: server).
 */
#ifndef SERVER_ROUTE_H
#define SERVER_ROUTE_H

#include "base/arena.h"

#include "model/event.h"

enum { ROUTE_PARAMS = 2 };

struct call;
struct conn;

struct route {
	const char *method; /* GET serves HEAD too */
	const char *path;   /* "/a/{}/b": braces are one part */
	/* Runs when the body is there. */
	void (*handle)(struct conn *c, struct call *call);
	/* What the hub says to this connection meanwhile; may be NULL. */
	void (*event)(
	    struct conn *c, struct call *call, const struct event *ev);
	enum request_op op;  /* for handlers that ask the hub */
	size_t body_max;     /* bytes */
	bool websocket;      /* only as a WebSocket handshake */
	bool dev;            /* only with --dev */
	bool ends;           /* ends things: served by the last connections */
	const char *summary; /* for openapi.json; NULL: not listed */
};

enum route_found { ROUTE_OK, ROUTE_NO_PATH, ROUTE_NO_METHOD };

/*
 * Find the route of a request; params are slices of path, undecoded.  When
 * only the method is wrong, *allow gets the methods there are.
 */
enum route_found route_find(struct slice method, struct slice path, bool dev,
    const struct route **out, struct slice params[ROUTE_PARAMS], char *allow,
    size_t allow_size);

/* Whether it is served even when memory is short: what agents need, and what
 * tells how things are. */
bool route_is_vital(const struct route *r);

/* What a WebSocket gets where there is nothing else. */
const struct route *route_anywhere(void);

/* All of them, ending with a NULL path. */
const struct route *route_table(void);

#endif
