/*
 * gateway_parts: what the files of the gateway share (floor: server).
 */
#ifndef SERVER_GATEWAY_PARTS_H
#define SERVER_GATEWAY_PARTS_H

#include "wire/hop.h"

#include "server/exchange.h"
#include "server/gateway.h"
#include "server/pass.h"
#include "server/web_parts.h"

enum {
	GATEWAY_CONNECT = 10000, /* defaults of a route's times */
	GATEWAY_ANSWER = 60000,
	GATEWAY_IDLE = 3600000,
	GATEWAY_KEY = 16, /* a visitor's key among a pool: hexadecimal */
};

/* The cookie that leads a visitor to the same agent again. */
#define GATEWAY_COOKIE "muster_route"

/* Where programs show a token of Muster's. */
#define GATEWAY_TOKEN "X-Muster-Authorization"

/* One request.  Its texts lie in the call's arena. */
struct visit {
	struct conn *conn;
	struct call *call;
	struct tunnel_visit what;
	struct pass *pass; /* one reference, or NULL */
	struct pass_holder holder;
	struct exchange *exchange;
	const struct exchange_ops *ops; /* of it */
	struct probe *probe; /* in the arena; NULL: a visitor's own request */
	struct hop hop;
	struct http1_ask ask;
	struct slice head;   /* a copy, while the hub is asked */
	struct slice host;   /* of the route, or tunnel_origin's */
	struct slice path;   /* as received */
	struct slice target; /* the same with its query */
	struct slice agent;  /* whom it goes by, once chosen */
	struct slice agent_id;
	struct buf early; /* of the body, before the exchange is there */
	const struct http1_pair *trailers;
	size_t trailer_count;
	char key[GATEWAY_KEY + 1]; /* the visitor's, "" when it needs none */
	bool new_key;              /* to be told by Set-Cookie */
	bool own_origin;
	bool wants_page; /* a browser looks at it */
	bool websocket;
	bool asking;   /* the hub */
	bool whole;    /* the request is */
	bool answered; /* its answer has begun */
	bool again;    /* another member was tried */
	bool held;     /* the visitor is not read, the service is slow */
	bool bound;    /* for lane, where its agent is */
	bool afloat;   /* on no lane */
	uint16_t lane;
	uint8_t moves;
	msec connect_within, answer_within, idle_within;
	uint32_t message_rate;
	uint64_t byte_rate;
	msec began, active;
	size_t owed; /* bytes that the service was not yet told are through */
	uint64_t to_service, to_visitor; /* bytes of bodies */
	int status;
};

/* Why a request goes nowhere. */
struct gateway_no {
	enum exchange_hop hop;
	int status;
	struct slice code;
	struct slice text;
	uint32_t retry_after;
	struct slice location; /* of a redirect, instead of all that */
	struct slice cookie;   /* Set-Cookie, with it */
	bool close;            /* the connection is of no more use */
};

static inline msec
visit_now(const struct conn *c)
{
	return loop_now(c->dock->lane.loop);
}

static inline struct http1_server *
visit_http(const struct visit *v)
{
	return &web_of(v->conn)->http;
}

/* gateway ------------------------------------------------------------------
 */

/* Answer that it does not work; the call is gone afterwards. */
void gateway_fail(struct visit *v, const struct gateway_no *no, int err);
void gateway_fail_for(struct visit *v, enum exchange_hop hop, int status,
    int err, struct slice code, struct slice text);

/* A request that is the gateway's from now on; NULL without memory. */
struct visit *gateway_visit(struct conn *c, struct call *call);

/* Its what and ask are filled in: go, when the hub has granted it. */
void gateway_ask(struct visit *v);

/* It was begun and cannot be ended; the call is gone afterwards. */
void gateway_cut(struct visit *v, struct slice why, int err);

/* Nothing has reached the service by this member: whether another is asked
 * now. */
bool gateway_try_another(struct visit *v);

/* gateway_answer -----------------------------------------------------------
 */

extern const struct exchange_ops gateway_ops;

/* gateway_where: whom a request is for -------------------------------------
 */

/* Fill in what, hop and options of v.  0; or ERR_DENIED and *no, or
 * ERR_NOMEM. */
int gateway_locate(
    struct visit *v, const struct http1_head *h, struct gateway_no *no);

/* A host as routes have it: in lower case, in the arena; absent when it can be
 * no route's. */
struct slice gateway_host(struct arena *a, struct slice name);

/*
 * /clusters/AGENT/... or /clusters/AGENT/services/NAMESPACE/SERVICE:PORT/...:
 * whereto, and how much of the path says so.  0; ERR_INVALID when it is
 * neither or climbs out by dot segments; ERR_NOMEM.
 */
int gateway_read_path(struct slice path, struct arena *a,
    struct tunnel_visit *what, struct slice *prefix);

/* The options of a route, from its record.  0 or ERR_NOMEM. */
int gateway_apply(struct visit *v, const struct route_record *r);

/* Whether a page of this origin may open a WebSocket here. */
bool gateway_origin_ok(const struct visit *v, const struct route_record *r,
    const struct http1_head *h);

/* The visitor's key: of its cookie, or a new one. */
void gateway_find_key(struct visit *v, const struct http1_head *h);

/* gateway_probe: a route tried hop by hop -----------------------------------
 */

/* Its stream is asked for; and why there is none, or no answer: the call is
 * gone afterwards. */
void gateway_probe_start(struct visit *v);
void gateway_probe_failed(struct visit *v, const struct gateway_no *no);

/* gateway_page: why it does not work ---------------------------------------
 */

/* Answer, and close when more of the request is still to come.  The call is
 * gone afterwards. */
void gateway_refuse(struct conn *c, const struct gateway_no *no);

struct slice gateway_hop_name(enum exchange_hop hop);

/* gateway_ws: after 101 -----------------------------------------------------
 */

/* The service has switched: become a relay.  The call is gone afterwards. */
void gateway_switch(struct visit *v, const struct http1_head *h, bool raw);

/* gateway_log ---------------------------------------------------------------
 */

void gateway_log_upgrade(const struct visit *v);
void gateway_log_reached(const struct visit *v, const struct flow_answer *a);
void gateway_log_failed(
    const struct visit *v, const struct gateway_no *no, int err);
void gateway_log_cut(const struct visit *v, struct slice why, int err);
void gateway_log_done(const struct visit *v);

#endif
