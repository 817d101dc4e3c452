/*
 * exchange: one request to a service behind an agent, and its answer (floor:
 * server).
 *
 * The gateway speaks HTTP with the visitor; an exchange carries one request
 * on, in whichever way the agent is asked (tunnel_speech): as HTTP/1.1 over
 * a flow (exchange_flow.c), or as the messages of agents that know JSON
 * only.  Both directions stream at once, and both push back: towards the
 * service by exchange_above_high and drained, towards us by what was not yet
 * consumed.
 *
 * Life: exchange_start -> calls and ops... -> exchange_drop, exactly once,
 * at any time and from inside any op; no op is called after it.  Dropped
 * before its end it is given up at once, and the service is told so by
 * whatever means there are (the flow is closed, proxy_cancel).
 * After failed, and after ended of an answer, nothing comes any more.
 *
 * No op is called from inside exchange_start, and exchange_write, _end and
 * _message call at most failed.
 */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include "wire/http1_client.h"

#include "server/flow.h"

struct exchange;

/* A WebSocket message, where the exchange carries those: see upgraded. */
struct exchange_message {
	uint8_t kind;  /* WS_TEXT, _BINARY, _PING, _PONG, _CLOSE */
	uint16_t code; /* CLOSE; WS_CODE_NONE when there is none */
	struct slice data;
};

/* Which part of the way did not work. */
enum exchange_hop { HOP_VISITOR, HOP_CONTROLLER, HOP_AGENT, HOP_SERVICE };

struct exchange_failure {
	enum exchange_hop hop;
	int status;           /* for the visitor: 502, 503 or 504 */
	int err;              /* for the log */
	struct slice code;    /* stable: AGENT_AWAY, CONNECT_REFUSED... */
	struct slice text;    /* a sentence */
	uint32_t retry_after; /* seconds; 0 = not said */
	/* Not a byte of it can have reached the service, so that another
	 * member of the pool may be asked instead. */
	bool unsent;
};

/*
 * Heads are as http1_parse_response has read them, untouched: what may go on
 * is for hop_response to say.  Whoever gets an answer in another form writes
 * it as HTTP/1.1 and has it parsed, so that nothing passes that would not pass
 * from a service itself.  They are gone when the op returns.
 */
struct exchange_ops {
	/* The service is there: the agent has dialled it.  Not called when
	 * nothing is known of that.  May be NULL. */
	void (*reached)(void *owner, const struct flow_answer *a);
	/* An interim answer: 100 and other 1xx, not 101. */
	void (*informed)(void *owner, const struct http1_head *h);
	/*
	 * The answer, with the length of its body: -1, not known before its
	 * end. Of an answer that has none (HEAD, 204, 304) what it said of one,
	 * -1 for nothing.
	 */
	void (*answered)(
	    void *owner, const struct http1_head *h, int64_t length);
	/*
	 * The service has opened a WebSocket.  Raw: h is its own 101, checked
	 * (hop_switch_check), to be passed on; data and ended bring the bytes
	 * that follow as they are, exchange_write and _end send the visitor's.
	 * Else h is a 101 of which at most Sec-WebSocket-Protocol and fields of
	 * the application mean anything: the handshake and the visitor's end of
	 * the WebSocket are the gateway's, whole messages go both ways by
	 * message and exchange_message, and ended is a service that has gone
	 * without a close.
	 */
	void (*upgraded)(void *owner, const struct http1_head *h, bool raw);
	/* Of the body, or raw; these bytes count until exchange_consume. */
	void (*data)(void *owner, struct slice bytes);
	void (*message)(void *owner, const struct exchange_message *m);
	/* The end of the answer, with its trailers or NULL; raw: the service
	 * sends no more. */
	void (*ended)(void *owner, const struct http1_head *trailers);
	/* Below the low mark again. */
	void (*drained)(void *owner);
	/* It has not worked, or broke in the middle. */
	void (*failed)(void *owner, const struct exchange_failure *f);
};

struct exchange_order {
	struct peer_id link; /* on this lane */
	struct slice agent_id;
	enum tunnel_speech speech;
	const struct tunnel_target *target;
	msec connect_within; /* until the service is reached */
	msec answer_within;  /* from the end of the request to a head */
	struct slice request_id;
	/* As hop_request made it: clean, with Host, framing by length.  Of a
	 * WebSocket (upgrade) with all of Sec-WebSocket-* as the visitor sent
	 * it; whoever speaks JSON drops -Key, -Version and -Extensions. */
	const struct http1_ask *ask;
	bool tls;   /* the visitor came by https */
	bool fresh; /* on a connection of its own */
};

/*
 * What it is made of.  The struct is the first member of each kind's own;
 * start allocates it and fills in kind, ops and owner.
 */
struct exchange {
	const struct exchange_kind *kind;
	const struct exchange_ops *ops;
	void *owner;
};

struct exchange_kind {
	int (*start)(struct dock *d, const struct exchange_order *o,
	    const struct exchange_ops *ops, void *owner, struct exchange **out);
	int (*write)(struct exchange *x, struct slice bytes);
	int (*end)(struct exchange *x, const struct http1_pair *trailers,
	    size_t count);
	int (*message)(struct exchange *x, const struct exchange_message *m);
	bool (*above_high)(const struct exchange *x);
	void (*consume)(struct exchange *x, size_t n);
	void (*drop)(struct exchange *x);
};

extern const struct exchange_kind exchange_flow; /* STREAMS, STREAMS_V1 */
extern const struct exchange_kind exchange_json; /* JSON */

/*
 * What o points to must stay until answered, upgraded or failed: it may be
 * asked again.  0 and *out; ERR_GONE (the agent's link is not
 * there), ERR_BUSY or ERR_FULL (too many at once), ERR_UNSUPPORTED (not by
 * this agent), ERR_INVALID (a field that breaks its line), ERR_NOMEM.
 */
int exchange_start(struct dock *d, const struct exchange_order *o,
    const struct exchange_ops *ops, void *owner, struct exchange **out);

/* Another owner, as after upgraded. */
static inline void
exchange_own(struct exchange *x, const struct exchange_ops *ops, void *owner)
{
	x->ops = ops;
	x->owner = owner;
}

/* More of the request's body, or raw bytes.  0; after anything else failed
 * has been called, or is about to be: stop. */
int exchange_write(struct exchange *x, struct slice bytes);

/* The end of the request (called for every request, also without a body;
 * not for WebSockets); raw: we send no more.  As exchange_write. */
int exchange_end(
    struct exchange *x, const struct http1_pair *trailers, size_t count);

/* A message, after upgraded with raw false.  As exchange_write. */
int exchange_message(struct exchange *x, const struct exchange_message *m);

/* Too much waits on its way to the service: stop until drained. */
bool exchange_above_high(const struct exchange *x);

/* So many bytes of data, or of messages' data, were passed on. */
void exchange_consume(struct exchange *x, size_t n);

/* NULL is fine. */
void exchange_drop(struct exchange *x);

#endif
