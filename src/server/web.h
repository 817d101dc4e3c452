/*
 * web: a connection that speaks HTTP (floor: server).
 *
 * One request at a time: its head picks a route, its body is gathered, the
 * route's handler runs and answers at once or when the hub or a reader has
 * spoken.  A route may turn the connection into something else.
 */
#ifndef SERVER_WEB_H
#define SERVER_WEB_H

#include "wire/http1_server.h"
#include "wire/wsopen.h"

#include "server/conn.h"
#include "server/ours.h"
#include "server/problem.h"
#include "server/route.h"

/* A request being served. */
struct call {
	struct arena arena;
	const struct route *route;
	struct slice params[ROUTE_PARAMS]; /* decoded parts of the path */
	struct slice query;                /* as received */
	struct slice target;               /* fit for a log */
	struct slice request_id;
	struct slice request_key; /* Idempotency-Key */
	struct slice range;       /* Range */
	struct slice last_event;  /* Last-Event-ID */
	struct slice cookie_mark; /* X-Muster */
	bool safe;                /* GET or HEAD */
	struct {
		uint32_t limit; /* 0: not counted */
		uint32_t left;
		uint32_t reset;
		char texts[3][12];
	} rate; /* requests of its user, for the answer */
	struct slice origin;
	enum origin origin_is;
	struct credential credential;
	bool by_cookie; /* the browser sent it, whoever asked it to */
	bool tls;       /* the client came by https, to us or to our proxy */
	bool local;     /* straight from this host */
	bool by_proxy;  /* a trusted one passed it on */
	/* WebSocket: what the handshake wants. */
	struct slice ws_key;
	struct slice ws_protocols;
	struct slice ws_extensions;
	bool taken;       /* off HTTP: answered by 101 or by hand */
	struct buf early; /* bytes that came behind such a request */
	struct buf body;
	void *state;         /* the handler's own, in the arena */
	struct visit *visit; /* owned; for a service, see gateway.h, or NULL */
	/* Refused at its head, to be said when the body has been read. */
	struct problem refusal;
	struct http1_pair refusal_fields[2];
	size_t refusal_count;
};

/* Make a new connection one that speaks HTTP.  0 or ERR_NOMEM. */
int web_begin(struct conn *c);

/* Go on reading: an answer was given outside of the connection's own
 * callbacks. */
void web_resume(struct conn *c);

/* The request being served, NULL between requests. */
struct call *web_call(struct conn *c);

/* Answers.  type NULL for none; extra fields are name and value. */
void web_answer(
    struct conn *c, int status, const char *type, struct slice body);
void web_answer_with(struct conn *c, int status, const char *type,
    struct slice body, const struct http1_pair *fields, size_t count);

void web_problem(struct conn *c, const struct problem *p);

/* What every answer to this request says about origins, for one that is put
 * together by hand. */
size_t web_cors(struct conn *c, struct http1_pair out[OURS_CORS]);

/* Whether only the head of the answer is wanted. */
bool web_head_only(struct conn *c);

/* Begin an answer of unknown length, then data, then the end. */
bool web_stream_begin(struct conn *c, int status, const char *type,
    const struct http1_pair *fields, size_t count);
bool web_stream_data(struct conn *c, struct slice data);
void web_stream_end(struct conn *c);
/* Give it up unfinished, once what there is has left. */
void web_stream_abort(struct conn *c);

/* One parameter of the query, decoded; absent when it is not there or
 * broken. */
struct slice web_query(struct call *call, const char *name);

/*
 * Answer the WebSocket handshake by 101 and become role.  What came behind
 * the request is read by the new role.  The call is gone afterwards.
 */
void web_upgrade(struct conn *c, const struct conn_role *role, void *state,
    struct slice protocol, struct slice extension);

/* Become role in the middle of an answer that has no end; HTTP is over. */
void web_leave(struct conn *c, const struct conn_role *role, void *state);

/* Whether the client offers this subprotocol. */
bool web_offers(const struct call *call, struct slice protocol);

#endif
