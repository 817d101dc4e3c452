#include <assert.h>

#include "base/err.h"
#include "wire/octet.h"

#include "wire/http1_server.h"

/*
 * Design notes.
 *
 * Two small states run beside each other, because an answer may begin and
 * end before the request's body has: read says what the next byte is,
 * write how far the answer is.  A new request is read when both are back
 * where they began.
 */

enum read {
	READ_HEAD, /* waiting for a head, or inside it */
	READ_BODY,
	READ_DONE,   /* the request is complete, its answer is not */
	READ_DROP,   /* the answer is complete, the body is not */
	READ_BAD,    /* a BAD is still to be told */
	READ_STUCK,  /* it was told; its answer is due */
	READ_LINGER, /* discarding until the peer closes */
	READ_CLOSED,
	READ_RAW, /* upgraded */
	READ_STATES,
};

enum write {
	WRITE_NONE, /* nothing to answer */
	WRITE_DUE,
	WRITE_OPEN, /* the head is written */
};

enum { DROP_BYTES = 65536 }; /* of a body that nobody wants */

const struct http1_times http1_times_default = {
	.head = 10000,
	.body = 30000,
	.idle = 60000,
	.linger = 2000,
};

/* Which states may follow a state. */
static const uint16_t moves[READ_STATES] = {
	[READ_HEAD] = 1 << READ_BODY | 1 << READ_BAD | 1 << READ_LINGER |
	    1 << READ_CLOSED,
	[READ_BODY] = 1 << READ_DONE | 1 << READ_DROP | 1 << READ_BAD |
	    1 << READ_LINGER | 1 << READ_RAW | 1 << READ_HEAD,
	[READ_DONE] = 1 << READ_HEAD | 1 << READ_LINGER | 1 << READ_RAW,
	[READ_DROP] = 1 << READ_HEAD | 1 << READ_LINGER,
	[READ_BAD] = 1 << READ_STUCK | 1 << READ_LINGER,
	[READ_STUCK] = 1 << READ_LINGER,
	[READ_LINGER] = 1 << READ_CLOSED,
	[READ_CLOSED] = 0,
	[READ_RAW] = 0,
};

static void
move(struct http1_server *s, enum read to)
{
	assert((moves[s->read] >> to & 1) != 0);
	s->read = (uint8_t)to;
	if (to == READ_BODY)
		s->due = s->now + s->times->body;
	else if (to == READ_HEAD)
		s->due = s->now + s->times->idle;
	else if (to == READ_LINGER)
		s->due = s->now + s->times->linger;
	else if (to != READ_DROP)
		s->due = INT64_MAX;
}

static void
fail(struct http1_server *s, int status, const char *why)
{
	s->status = status;
	s->why = why;
	s->keep_alive = false;
	move(s, READ_BAD);
}

void
http1_server_init(struct http1_server *s, const struct http1_times *times,
    uint64_t body_cap, msec now)
{
	*s = (struct http1_server){ .times = times, .body_cap = body_cap };
	http1_input_init(&s->input);
	s->now = now;
	s->due = now + times->head;
}

void
http1_server_fini(struct http1_server *s)
{
	http1_input_fini(&s->input);
}

void
http1_server_feed(struct http1_server *s, struct slice bytes, msec now)
{
	assert(s->input.fed.len == 0);
	s->now = now;
	s->input.fed = bytes;
	if (s->read == READ_BODY || s->read == READ_DROP)
		s->due = now + s->times->body;
}

void
http1_server_eof(struct http1_server *s)
{
	s->ended = true;
}

/* The request and its answer are over. */
static void
turn(struct http1_server *s)
{
	move(s, s->keep_alive ? READ_HEAD : READ_LINGER);
}

static bool
give(struct http1_event *ev, enum http1_kind kind)
{
	*ev = (struct http1_event){ .kind = kind };
	return true;
}

/* The facts of a head that outlive it. */
static void
remember(struct http1_server *s, const struct http1_head *h)
{
	s->http10 = h->minor == 0;
	s->head_only = slice_eq(h->method, SL("HEAD"));
	s->keep_alive = h->keep_alive;
	s->expect = h->expect_continue && h->has_body;
	s->upgrade = http1_field(h, "upgrade").ptr != NULL;
}

/*
 * Whether what is already there behind a request can begin another.  If not,
 * one of us is wrong about where the request ends, so it is not believed.
 */
static bool
followed_by_sense(const struct http1_server *s)
{
	struct slice next = http1_input_peek(&s->input);

	return next.len == 0 || s->upgrade || !s->keep_alive ||
	    next.ptr[0] == '\r' || octet_is(next.ptr[0], OCTET_TOKEN);
}

static bool
on_head(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	bool fresh = s->input.head == NULL && !http1_input_empty(&s->input);
	struct http1_head *h;
	int n;

	n = http1_input_head(&s->input, http1_parse_request, scratch, &h);
	if (n == 0) {
		/* The first head has been timed since the start. */
		if (fresh && s->due > s->now + s->times->head)
			s->due = s->now + s->times->head;
		if (s->ended)
			move(s, READ_CLOSED);
		return false;
	}
	s->write = WRITE_DUE;
	s->http10 = s->head_only = s->expect = false;
	if (n == ERR_NOMEM) {
		fail(s, 503, "There is no memory left.");
		return false;
	}
	if (n < 0) {
		fail(s, h->status, h->why);
		return false;
	}
	remember(s, h);
	if (h->form == HTTP1_AUTHORITY) {
		fail(s, 501, "This is not a forward proxy.");
		return false;
	}
	/* The cap is looked at when the caller has had its say. */
	http1_body_request(&s->body, h, UINT64_MAX);
	s->body.cap = s->body_cap;
	move(s, READ_BODY);
	give(ev, HTTP1_REQUEST);
	ev->head = h;
	return true;
}

static bool
on_body(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	const struct http1_head *trailers = NULL;
	struct slice data;
	int n;

	if (s->body.total > s->body.cap) {
		fail(s, 413, "The body is too large.");
		return false;
	}
	while (!s->body.done) {
		n = http1_body_feed(
		    &s->body, http1_input_peek(&s->input), &data);
		if (n == 0 && s->ended)
			fail(s, 400, "The body ended early.");
		if (n == 0)
			return false;
		if (n < 0) {
			fail(s, s->body.status, s->body.why);
			return false;
		}
		s->expect = false;
		http1_input_eat(&s->input, (size_t)n);
		if (data.len > 0) {
			give(ev, HTTP1_BODY);
			ev->data = data;
			return true;
		}
	}
	if (!followed_by_sense(s)) {
		fail(s, 400, "What follows the request is not one.");
		return false;
	}
	n = http1_input_trailers(&s->input, &s->body, scratch, &trailers);
	if (n < 0) {
		bool memory = n == ERR_NOMEM;
		fail(s, memory ? 503 : scratch->status,
		    memory ? "There is no memory left." : scratch->why);
		return false;
	}
	move(s, READ_DONE);
	give(ev, HTTP1_END);
	ev->head = trailers;
	return true;
}

/* Wait for the answer; what was sent ahead is kept, up to a point. */
static bool
on_done(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	(void)scratch;
	(void)ev;
	if (http1_input_keep(&s->input) != 0) {
		s->keep_alive = false;
		s->lost = true;
		http1_input_drop(&s->input);
	}
	return false;
}

static bool
on_drop(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	struct slice data;
	int n = 1;

	(void)scratch;
	(void)ev;
	while (!s->body.done && n > 0) {
		n = http1_body_feed(
		    &s->body, http1_input_peek(&s->input), &data);
		if (n > 0)
			http1_input_eat(&s->input, (size_t)n);
	}
	if (s->body.done)
		turn(s);
	else if (n < 0 || s->ended)
		move(s, READ_LINGER);
	return false;
}

static bool
on_bad(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	(void)scratch;
	http1_input_drop(&s->input);
	move(s, READ_STUCK);
	give(ev, HTTP1_BAD);
	ev->status = s->status;
	ev->why = s->why;
	return true;
}

static bool
on_deaf(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	(void)scratch;
	(void)ev;
	http1_input_drop(&s->input);
	if (s->read == READ_LINGER && s->ended)
		move(s, READ_CLOSED);
	return false;
}

static bool
on_raw(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	(void)s;
	(void)scratch;
	(void)ev;
	return false;
}

/* Fills *ev and returns true, or returns false; a change of state then
 * means that there is more to do. */
typedef bool next_fn(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev);

static next_fn *const on_read[READ_STATES] = {
	[READ_HEAD] = on_head,
	[READ_BODY] = on_body,
	[READ_DONE] = on_done,
	[READ_DROP] = on_drop,
	[READ_BAD] = on_bad,
	[READ_STUCK] = on_deaf,
	[READ_LINGER] = on_deaf,
	[READ_CLOSED] = on_deaf,
	[READ_RAW] = on_raw,
};

bool
http1_server_next(
    struct http1_server *s, struct http1_head *scratch, struct http1_event *ev)
{
	uint8_t before;

	if (s->read != READ_RAW)
		http1_input_settle(&s->input);
	do {
		before = s->read;
		if (on_read[s->read](s, scratch, ev))
			return true;
	} while (s->read != before);
	return false;
}

bool
http1_server_hungry(const struct http1_server *s)
{
	return s->read != READ_DONE && s->read != READ_CLOSED;
}

size_t
http1_server_room(const struct http1_server *s)
{
	if (s->read == READ_CLOSED || s->lost)
		return 0;
	return s->read == READ_DONE
	    ? HTTP1_AHEAD_BYTES - buf_peek(&s->input.held).len
	    : SIZE_MAX;
}

void
http1_server_pace(
    struct http1_server *s, const struct http1_times *times, msec now)
{
	s->times = times;
	if (s->read == READ_BODY)
		s->due = now + times->body;
}

void
http1_server_hold(struct http1_server *s, bool held, msec now)
{
	if (s->read == READ_BODY)
		s->due = held ? INT64_MAX : now + s->times->body;
}

void
http1_server_trailers(struct http1_server *s)
{
	buf_clear(&s->input.trailers);
	s->body.keep = &s->input.trailers;
}

void
http1_server_allow(struct http1_server *s, uint64_t body_cap)
{
	s->body.cap = body_cap;
}

void
http1_server_continue(struct http1_server *s, struct buf *out)
{
	if (s->expect && s->write == WRITE_DUE)
		buf_put(out, SL("HTTP/1.1 100 Continue\r\n\r\n"));
	s->expect = false;
}

int
http1_server_upgrade(struct http1_server *s, struct slice *rest)
{
	int err;

	if (s->write != WRITE_DUE || !s->body.done)
		return ERR_WRONG_STATE;
	if (s->lost)
		return ERR_FULL;
	err = http1_input_rest(&s->input, rest);
	if (err != 0)
		return err;
	move(s, READ_RAW);
	s->input.fed = (struct slice){ 0 };
	s->write = WRITE_NONE;
	return 0;
}

bool
http1_server_may_answer(const struct http1_server *s)
{
	return s->write == WRITE_DUE;
}

static void
choose_framing(struct http1_server *s, const struct http1_reply *r)
{
	bool bare = r->status == 204 || r->status == 304;

	if (bare)
		s->sender.how = HTTP1_SEND_NONE;
	else if (r->length >= 0)
		s->sender.how = HTTP1_SEND_SIZED;
	else
		s->sender.how =
		    s->http10 ? HTTP1_SEND_CLOSE : HTTP1_SEND_CHUNKED;
	s->sender.left = r->length > 0 ? (uint64_t)r->length : 0;
	if (r->close || s->sender.how == HTTP1_SEND_CLOSE)
		s->keep_alive = false;
	/* Whether the body will come now is the client's choice: RFC 9110
	 * 10.1.1.  We cannot know, so this is the last answer. */
	if (s->expect)
		s->keep_alive = false;
}

/* RFC 9110 8.6 and 15.4.5: no length for 204 and 304; a HEAD is told what a
 * GET would be. */
static void
put_framing(
    const struct http1_server *s, const struct http1_reply *r, struct buf *out)
{
	if (s->sender.how == HTTP1_SEND_CHUNKED)
		http1_put_field(out, SL("Transfer-Encoding"), SL("chunked"));
	else if (r->length >= 0 && r->status != 204 && r->status != 304)
		http1_put_number(
		    out, SL("Content-Length"), (uint64_t)r->length);
	if (!s->keep_alive)
		http1_put_field(out, SL("Connection"), SL("close"));
	else if (s->http10)
		http1_put_field(out, SL("Connection"), SL("keep-alive"));
}

static bool
framing_name(struct slice name)
{
	return slice_eq_nocase(name, SL("content-length")) ||
	    slice_eq_nocase(name, SL("transfer-encoding")) ||
	    slice_eq_nocase(name, SL("connection"));
}

static bool
has_field(const struct http1_reply *r, bool (*is)(struct slice name))
{
	for (size_t i = 0; i < r->count; i++) {
		if (is(r->fields[i].name))
			return true;
	}
	return false;
}

static bool
date_name(struct slice name)
{
	return slice_eq_nocase(name, SL("date"));
}

/* RFC 9110 6.6.1: whoever passes an answer on without Date adds one. */
static void
put_beginning(const struct http1_reply *r, struct buf *out)
{
	if (!r->relayed) {
		http1_put_status(out, r->status, r->at);
		return;
	}
	http1_put_line(out, r->status, r->reason);
	if (r->status >= 200 && !has_field(r, date_name))
		http1_put_date(out, r->at);
}

static void
put_fields(const struct http1_reply *r, struct buf *out)
{
	for (size_t i = 0; i < r->count; i++)
		http1_put_field(out, r->fields[i].name, r->fields[i].value);
}

int
http1_server_interim(
    struct http1_server *s, const struct http1_reply *r, struct buf *out)
{
	if (s->write != WRITE_DUE || r->status < 100 || r->status > 199 ||
	    r->status == 101)
		return ERR_WRONG_STATE;
	if (has_field(r, framing_name))
		return ERR_INVALID;
	if (r->status == 100)
		s->expect = false;
	if (s->http10)
		return 0;
	http1_put_line(out, r->status, r->reason);
	put_fields(r, out);
	http1_put_end(out);
	return out->err;
}

int
http1_server_switch(struct http1_server *s, const struct http1_reply *r,
    struct buf *out, struct slice *rest)
{
	int err =
	    r->status == 101 ? http1_server_upgrade(s, rest) : ERR_WRONG_STATE;

	if (err != 0)
		return err;
	http1_put_line(out, r->status, r->reason);
	put_fields(r, out);
	http1_put_end(out);
	return out->err;
}

int
http1_server_start(
    struct http1_server *s, const struct http1_reply *r, struct buf *out)
{
	if (s->write != WRITE_DUE || r->status < 200)
		return ERR_WRONG_STATE;
	if (has_field(r, framing_name))
		return ERR_INVALID;
	choose_framing(s, r);
	put_beginning(r, out);
	if (r->type != NULL)
		http1_put_field(out, SL("Content-Type"), slice_from(r->type));
	put_fields(r, out);
	put_framing(s, r, out);
	http1_put_end(out);
	if (out->err != 0)
		return out->err;
	s->write = WRITE_OPEN;
	if (s->head_only)
		s->sender.how = HTTP1_SEND_NONE;
	return 0;
}

int
http1_server_data(struct http1_server *s, struct slice data, struct buf *out)
{
	int err;

	if (s->write != WRITE_OPEN)
		return ERR_WRONG_STATE;
	err = http1_send_data(&s->sender, out, data);
	return err != 0 ? err : out->err;
}

/*
 * Whether to read the rest of a body that nobody wants, to keep the
 * connection; bounds what a chunked one may still bring.
 */
static bool
worth_dropping(struct http1_server *s)
{
	if (s->body.done)
		return false;
	s->body.keep = NULL;
	s->input.spent = true;
	if (s->body.left > DROP_BYTES) {
		s->keep_alive = false;
		return false;
	}
	if (s->body.cap - s->body.total > DROP_BYTES)
		s->body.cap = s->body.total + DROP_BYTES;
	return true;
}

int
http1_server_wrap(struct http1_server *s, size_t n, struct http1_wrap *out)
{
	if (s->write != WRITE_OPEN)
		return ERR_WRONG_STATE;
	return http1_send_wrap(&s->sender, n, out);
}

int
http1_server_finish(struct http1_server *s, struct buf *out, msec now)
{
	return http1_server_finish_with(s, NULL, 0, out, now);
}

int
http1_server_finish_with(struct http1_server *s,
    const struct http1_pair *trailers, size_t count, struct buf *out, msec now)
{
	int err;

	if (s->write != WRITE_OPEN)
		return ERR_WRONG_STATE;
	err = http1_send_trailers(&s->sender, out, trailers, count);
	if (err != 0)
		return err;
	s->write = WRITE_NONE;
	s->now = now;
	if (s->read == READ_BODY && s->keep_alive && worth_dropping(s))
		move(s, READ_DROP);
	else
		turn(s);
	return out->err;
}

int
http1_server_answer(struct http1_server *s, const struct http1_reply *r,
    struct slice data, struct buf *out)
{
	struct http1_reply whole = *r;
	int err;

	whole.length = (int64_t)data.len;
	err = http1_server_start(s, &whole, out);
	if (err == 0)
		err = http1_server_data(s, data, out);
	return err != 0 ? err : http1_server_finish(s, out, s->now);
}

void
http1_server_abort(struct http1_server *s, msec now)
{
	s->now = now;
	s->write = WRITE_NONE;
	s->keep_alive = false;
	if (s->read != READ_CLOSED && s->read != READ_LINGER)
		move(s, READ_LINGER);
}

bool
http1_server_closing(const struct http1_server *s)
{
	return s->read == READ_LINGER || s->read == READ_CLOSED;
}

bool
http1_server_closed(const struct http1_server *s)
{
	return s->read == READ_CLOSED;
}

bool
http1_server_idle(const struct http1_server *s)
{
	return s->read == READ_HEAD && s->input.head == NULL &&
	    http1_input_empty(&s->input);
}

msec
http1_server_deadline(const struct http1_server *s)
{
	return s->due;
}

void
http1_server_expire(struct http1_server *s, msec now)
{
	if (now < s->due)
		return;
	s->now = now;
	s->due = INT64_MAX;
	if (s->read == READ_LINGER || http1_server_idle(s)) {
		move(s, READ_CLOSED);
	} else if (s->read == READ_HEAD) {
		s->write = WRITE_DUE;
		s->http10 = s->head_only = s->expect = false;
		fail(s, 408, "The head did not come in time.");
	} else if (s->read == READ_BODY) {
		fail(s, 408, "The body did not come in time.");
	} else if (s->read == READ_DROP) {
		move(s, READ_LINGER);
	}
}
