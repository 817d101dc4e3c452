/*
 * http1_server: the server's end of an HTTP/1.1 connection (floor: wire).
 *
 * A pure machine.  Life of a connection: init; then feed what was received
 * and call next until it says that there is nothing more.  A request comes
 * as REQUEST, any number of BODY, END; the answer is written by start, data,
 * finish at any time after REQUEST.  The next request is looked at only when
 * the answer is finished (call next again then).  BAD means: answer with
 * that status if http1_server_may_answer says so, then close.  Closing is
 * lingering (RFC 9112 9.6): when http1_server_closing, shut the sending side
 * and go on feeding until the peer's end or http1_server_closed.
 *
 * An idle connection holds no memory but this struct.
 */
#ifndef WIRE_HTTP1_SERVER_H
#define WIRE_HTTP1_SERVER_H

#include "base/heap.h"
#include "wire/http1_event.h"
#include "wire/http1_input.h"
#include "wire/http1_write.h"

struct http1_times {
	msec head;   /* from the first byte (at first: the start) to the end */
	msec body;   /* between two pieces of a body */
	msec idle;   /* between two requests */
	msec linger; /* for the peer to take the last answer */
};

extern const struct http1_times http1_times_default;

struct http1_server {
	struct http1_input input;
	struct http1_body body;
	struct http1_sender sender;
	const struct http1_times *times; /* borrowed */
	uint64_t body_cap;               /* for every request */
	msec now;                        /* of the last call that told it */
	msec due;
	const char *why; /* of a BAD that is still to be told */
	int status;
	uint8_t read;  /* what comes in */
	uint8_t write; /* what goes out */
	bool http10;
	bool head_only; /* the request is HEAD */
	bool keep_alive;
	bool upgrade; /* the request has that field */
	bool expect;  /* 100 (Continue) is waited for */
	bool lost;    /* bytes that were sent ahead */
	bool ended;   /* nothing more comes */
};

/* body_cap: bytes of one request's body, unless http1_server_allow. */
void http1_server_init(struct http1_server *s, const struct http1_times *times,
    uint64_t body_cap, msec now);
void http1_server_fini(struct http1_server *s);

/* Hand bytes over; they are borrowed until next has said that there is
 * nothing more, and must not be fed before that. */
void http1_server_feed(struct http1_server *s, struct slice bytes, msec now);

/* Nothing more will come; what is there is still read.  Call next. */
void http1_server_eof(struct http1_server *s);

/* True: *ev is filled.  scratch is room for a head, one for a whole lane. */
bool http1_server_next(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev);

/* False while more bytes would only have to be kept: stop receiving.  What
 * is sent ahead beyond HTTP1_AHEAD_BYTES is dropped with the connection. */
bool http1_server_hungry(const struct http1_server *s);

/* How many bytes more can be kept until the answer is there; for those who
 * go on receiving, to see the peer's end. */
size_t http1_server_room(const struct http1_server *s);

/* Other times from here on; borrowed. */
void http1_server_pace(
    struct http1_server *s, const struct http1_times *times, msec now);

/* Nobody receives (or takes) the body for a while: its time stands still
 * until that is over. */
void http1_server_hold(struct http1_server *s, bool held, msec now);

/* Right after REQUEST: END brings the trailers. */
void http1_server_trailers(struct http1_server *s);

/* Right after REQUEST: another cap for this request's body. */
void http1_server_allow(struct http1_server *s, uint64_t body_cap);

/* Ask for the body: writes 100 (Continue) if that is waited for. */
void http1_server_continue(struct http1_server *s, struct buf *out);

/*
 * After REQUEST: the caller answers by itself, with 101, and takes the bytes
 * behind the request.  *rest lies in s or in what was fed last.  0,
 * ERR_WRONG_STATE (it has a body), ERR_FULL (more came than was kept),
 * ERR_NOMEM.
 */
int http1_server_upgrade(struct http1_server *s, struct slice *rest);

struct http1_reply {
	int status;       /* 200 and above */
	wall_msec at;     /* for Date */
	int64_t length;   /* of the body; -1 when not known yet */
	const char *type; /* Content-Type; NULL for none */
	const struct http1_pair *fields; /* others; no framing, no Connection */
	size_t count;
	bool close; /* this answer is the last */

	/* Somebody else's: no Server, Date only if it is not in fields. */
	bool relayed;
	struct slice reason; /* absent: the usual one */
};

/* Whether an answer is due and not begun. */
bool http1_server_may_answer(const struct http1_server *s);

/*
 * The head of the answer, framed as the request allows; HEAD, 204 and 304
 * have no body, whatever length says.  0, ERR_WRONG_STATE, ERR_INVALID (a
 * field), or out->err: then another may be tried, with out cleared.
 */
int http1_server_start(
    struct http1_server *s, const struct http1_reply *r, struct buf *out);

/* An answer before the answer: 100 to 199 but 101.  HTTP/1.0 knows none, and
 * gets none.  Errors as of start. */
int http1_server_interim(
    struct http1_server *s, const struct http1_reply *r, struct buf *out);

/* 101, with the fields of r (Connection and Upgrade among them): start and
 * http1_server_upgrade in one, with the errors of both. */
int http1_server_switch(struct http1_server *s, const struct http1_reply *r,
    struct buf *out, struct slice *rest);

/* 0, ERR_WRONG_STATE, ERR_RANGE (not the length that was told; abort), or
 * out->err. */
int http1_server_data(
    struct http1_server *s, struct slice data, struct buf *out);
int http1_server_finish(struct http1_server *s, struct buf *out, msec now);
/* The same with trailers, as http1_send_trailers. */
int http1_server_finish_with(struct http1_server *s,
    const struct http1_pair *trailers, size_t count, struct buf *out, msec now);
/* As data, for bytes that are sent from where they lie. */
int http1_server_wrap(struct http1_server *s, size_t n, struct http1_wrap *out);

/* Start, data and finish in one. */
int http1_server_answer(struct http1_server *s, const struct http1_reply *r,
    struct slice data, struct buf *out);

/* An answer that cannot be finished: close without its end. */
void http1_server_abort(struct http1_server *s, msec now);

/* All answers are written: shut the sending side when they are sent. */
bool http1_server_closing(const struct http1_server *s);
/* Nothing to wait for: close when all is sent. */
bool http1_server_closed(const struct http1_server *s);
bool http1_server_idle(const struct http1_server *s);

/* When to call expire; INT64_MAX for never.  After expire call next. */
msec http1_server_deadline(const struct http1_server *s);
void http1_server_expire(struct http1_server *s, msec now);

#endif
