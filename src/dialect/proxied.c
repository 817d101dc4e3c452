#include "base/err.h"
#include "base/utf8.h"

#include "wire/be.h"
#include "wire/http1.h"
#include "wire/ws.h"

#include "dialect/proxied.h"

enum { HOLD_FIRST = 250, HOLD_DOUBLINGS = 4, HOLD_FORGET = 10000 };

const struct proxied_terms proxied_defaults = {
	.answer_within = 60000,
	.idle_within = 3600000,
	.chunk_within = 5000,
	.write_within = 10000,
};

void
proxied_init(struct proxied *p, const struct proxied_terms *terms, msec now)
{
	*p = (struct proxied){ .terms = *terms,
		.length = -1,
		.sequence = -1,
		.answer_due = INT64_MAX,
		.active = now };
}

void
proxied_asked(struct proxied *p, msec now)
{
	p->answer_due = now + p->terms.answer_within;
}

/* Events ------------------------------------------------------------------ */

static struct proxied_event *
push(struct proxied *p, enum proxied_kind kind, const struct proxy_said *said)
{
	struct proxied_event *ev = &p->events[p->count++];

	*ev = (struct proxied_event){ .kind = kind, .said = said };
	return ev;
}

bool
proxied_next(struct proxied *p, struct proxied_event *out)
{
	if (p->taken == p->count) {
		p->taken = p->count = 0;
		return false;
	}
	*out = p->events[p->taken++];
	return true;
}

struct fault {
	int err;
	int status;
	uint16_t close;
	bool by_agent;
	struct slice code;
	struct slice text;
};

static bool
fail(struct proxied *p, const struct proxy_said *said, const struct fault *f)
{
	struct proxied_event *ev = push(p, PROXIED_FAILED, said);

	ev->err = f->err;
	ev->status = f->status == 0 ? 502 : f->status;
	ev->close = f->close == 0 ? WS_CODE_INTERNAL : f->close;
	ev->by_agent = f->by_agent;
	ev->code = f->code;
	ev->text = f->text;
	p->state = PROXIED_OVER;
	return true;
}

/* It contradicts itself. */
static bool
confused(struct proxied *p, const struct proxy_said *said, struct slice text)
{
	const struct fault f = {
		.err = ERR_PROTOCOL, .code = SL("AGENT_CONFUSED"), .text = text
	};

	return fail(p, said, &f);
}

static bool
on_bad(struct proxied *p, const struct proxy_said *said)
{
	const struct fault f = { .err = said->err,
		.close = said->err == ERR_TOO_BIG ? WS_CODE_TOO_BIG : 0,
		.code = said->err == ERR_TOO_BIG ? SL("ANSWER_TOO_BIG")
						 : SL("AGENT_CONFUSED"),
		.text = said->why };

	return fail(p, said, &f);
}

static bool
on_error(struct proxied *p, const struct proxy_said *said)
{
	const struct fault f = { .err = ERR_UNREACHABLE,
		.by_agent = true,
		.code = p->state == PROXIED_ASKED ? SL("SERVICE_FAILED")
						  : SL("SERVICE_BROKE_OFF"),
		.text = p->state == PROXIED_ASKED
		    ? SL("the agent could not get an answer of the service")
		    : SL("the service broke off in the middle") };

	return fail(p, said, &f);
}

/* A word that was not needed for what goes on changes nothing. */
static bool
on_fallback(struct proxied *p, const struct proxy_said *said)
{
	static const struct slice needed[] = { SL_INIT("proxy_request"),
		SL_INIT("proxy_request_chunk"),
		SL_INIT("proxy_request_stream_end"),
		SL_INIT("proxy_websocket_data") };
	const struct fault f = { .err = ERR_UNSUPPORTED,
		.code = SL("AGENT_TOO_OLD"),
		.text = SL("the agent does not know what this needs") };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (slice_eq(said->text, needed[i]))
			return fail(p, said, &f);
	}
	return false;
}

/* A full channel means that a message is gone for good: what follows would
 * be another conversation than the one that was held. */
static bool
on_slow(struct proxied *p, const struct proxy_said *said, msec now)
{
	const struct fault f = { .err = ERR_FULL,
		.close = WS_CODE_LATER,
		.code = SL("AGENT_OVERLOADED"),
		.text = SL("the agent has thrown away a message") };

	if (said->lost)
		return fail(p, said, &f);
	if (now > p->held_until + HOLD_FORGET)
		p->holds = 0;
	p->held = true;
	p->held_until = now + (msec)(HOLD_FIRST << p->holds);
	if (p->holds < HOLD_DOUBLINGS)
		p->holds++;
	return true;
}

/* Whether what is numbered follows what came before. */
static bool
in_order(struct proxied *p, const struct proxy_said *said)
{
	bool next = said->sequence < 0 || p->sequence < 0 ||
	    said->sequence == p->sequence + 1;

	if (said->sequence >= 0)
		p->sequence = said->sequence;
	return next;
}

/* The first word ---------------------------------------------------------- */

static bool
bodiless(const struct proxied *p, int status)
{
	return p->terms.head || status == 204 || status == 304;
}

/* Content-Length into p->length: false when it is none or several. */
static bool
read_length(struct proxied *p, const struct proxy_said *said)
{
	bool found = false;

	for (size_t i = 0; i < said->count; i++) {
		uint64_t n = 0;
		if (!slice_eq_nocase(
			said->fields[i].name, SL("Content-Length")))
			continue;
		if (slice_u64(said->fields[i].value, INT64_MAX, &n) != 0 ||
		    (found && (int64_t)n != p->length))
			return false;
		found = true;
		p->length = (int64_t)n;
	}
	return true;
}

/* The one that the service chose must be one that was offered. */
static bool
protocol_offered(const struct proxied *p, const struct proxy_said *said)
{
	struct slice chosen = proxy_field(
	    said->fields, said->count, SL("Sec-WebSocket-Protocol"));
	struct slice rest = p->terms.protocols, one;

	if (chosen.len == 0)
		return true;
	while (http1_next_element(&rest, &one)) {
		if (slice_eq(one, chosen))
			return true;
	}
	return false;
}

static bool
on_upgrade(struct proxied *p, const struct proxy_said *said)
{
	if (!p->terms.websocket)
		return confused(p, said,
		    SL("the agent opened a WebSocket where none was asked "
		       "for"));
	/* Some agents keep everything until the WebSocket is closed. */
	if (said->body.len > 0)
		return confused(p, said,
		    SL("the agent gave a WebSocket's messages at its end"));
	if (!protocol_offered(p, said))
		return confused(
		    p, said, SL("the service chose a subprotocol of its own"));
	p->state = PROXIED_OPEN;
	push(p, PROXIED_UPGRADED, said);
	return true;
}

static bool
truncated(struct proxied *p, const struct proxy_said *said)
{
	return confused(
	    p, said, SL("the body is not as long as the service said"));
}

static bool
on_whole(struct proxied *p, const struct proxy_said *said)
{
	bool none = bodiless(p, said->status);

	if (!none && p->length >= 0 && (uint64_t)p->length != said->body.len)
		return truncated(p, said);
	push(p, PROXIED_HEAD, said)->length =
	    none ? p->length : (int64_t)said->body.len;
	if (!none && said->body.len > 0)
		push(p, PROXIED_BODY, said);
	push(p, PROXIED_ENDED, said);
	p->state = PROXIED_OVER;
	return true;
}

static bool
on_head(struct proxied *p, const struct proxy_said *said)
{
	if (said->status == 101)
		return on_upgrade(p, said);
	if (!read_length(p, said))
		return confused(p, said, SL("Content-Length is no length"));
	if (said->kind == PROXY_RESPONSE)
		return on_whole(p, said);
	p->state = PROXIED_PIECES;
	push(p, PROXIED_HEAD, said)->length = p->length;
	if (bodiless(p, said->status))
		p->length = 0;
	return true;
}

static bool
when_asked(struct proxied *p, const struct proxy_said *said)
{
	if (said->kind == PROXY_RESPONSE || said->kind == PROXY_HEADER)
		return on_head(p, said);
	return confused(
	    p, said, SL("the agent gave a part of an answer before its head"));
}

/* In pieces --------------------------------------------------------------- */

static bool
on_chunk(struct proxied *p, const struct proxy_said *said)
{
	if (!in_order(p, said))
		return confused(
		    p, said, SL("the agent lost or mixed up parts of a body"));
	if (p->terms.head)
		return false;
	p->got += (int64_t)said->body.len;
	if (p->length >= 0 && p->got > p->length)
		return truncated(p, said);
	if (said->body.len > 0)
		push(p, PROXIED_BODY, said);
	return true;
}

static bool
on_end(struct proxied *p, const struct proxy_said *said)
{
	if (p->length >= 0 && p->got != p->length)
		return truncated(p, said);
	push(p, PROXIED_ENDED, said);
	p->state = PROXIED_OVER;
	return true;
}

static bool
when_pieces(struct proxied *p, const struct proxy_said *said)
{
	if (said->kind == PROXY_CHUNK)
		return on_chunk(p, said);
	if (said->kind == PROXY_END)
		return on_end(p, said);
	if (said->kind == PROXY_HEADER)
		return false;
	return confused(p, said, SL("the agent mixed forms of an answer"));
}

/* A WebSocket ------------------------------------------------------------- */

static bool
close_with(struct proxied *p, const struct proxy_said *said, uint16_t code,
    struct slice text)
{
	struct proxied_event *ev = push(p, PROXIED_CLOSED, said);

	ev->close = code;
	ev->text = utf8_valid(text) ? text : (struct slice){ 0 };
	p->state = PROXIED_OVER;
	return true;
}

static bool
on_close_frame(struct proxied *p, const struct proxy_said *said)
{
	if (said->body.len < 2)
		return close_with(p, said, WS_CODE_NONE, (struct slice){ 0 });
	uint16_t code = be_get16(said->body.ptr);
	if (!ws_code_valid(code))
		return confused(p, said, SL("a close frame has no such code"));
	return close_with(p, said, code, slice_from_at(said->body, 2));
}

static bool
on_data(struct proxied *p, const struct proxy_said *said)
{
	const struct fault ill = { .err = ERR_UTF8,
		.close = WS_CODE_DATA,
		.code = SL("SERVICE_CONFUSED"),
		.text = SL("the service sent text that is not UTF-8") };

	if (!in_order(p, said))
		return confused(
		    p, said, SL("the agent lost or mixed up messages"));
	if (said->opcode == WS_CLOSE)
		return on_close_frame(p, said);
	if (said->opcode == WS_TEXT && !utf8_valid(said->body))
		return fail(p, said, &ill);
	push(p, PROXIED_MESSAGE, said);
	return true;
}

static bool
when_open(struct proxied *p, const struct proxy_said *said)
{
	if (said->kind == PROXY_DATA)
		return on_data(p, said);
	/* The document's code, when the service's is not told. */
	if (said->kind == PROXY_CLOSE)
		return close_with(p, said,
		    said->code == 0 ? WS_CODE_NORMAL : said->code, said->text);
	if (said->kind == PROXY_CHUNK)
		return confused(
		    p, said, SL("the agent mixed forms of an answer"));
	/* The end of the answer that the 101 was comes with it. */
	return false;
}

/* All --------------------------------------------------------------------- */

bool
proxied_feed(struct proxied *p, const struct proxy_said *said, msec now)
{
	if (p->state == PROXIED_OVER)
		return false;
	p->active = now;
	if (said->kind == PROXY_BAD)
		return on_bad(p, said);
	if (said->kind == PROXY_ERROR || said->kind == PROXY_ABORT)
		return on_error(p, said);
	if (said->kind == PROXY_FALLBACK)
		return on_fallback(p, said);
	if (said->kind == PROXY_SLOW)
		return on_slow(p, said, now);
	if (said->kind == PROXY_HELLO_ACK || said->kind == PROXY_OTHER)
		return false;
	if (p->state == PROXIED_ASKED)
		return when_asked(p, said);
	return p->state == PROXIED_PIECES ? when_pieces(p, said)
					  : when_open(p, said);
}

/* Time -------------------------------------------------------------------- */

void
proxied_sent(struct proxied *p, msec now)
{
	p->active = now;
}

void
proxied_queue(struct proxied *p, enum proxied_side side, size_t bytes, msec now)
{
	if (p->queued[side] == 0 || bytes < p->queued[side])
		p->since[side] = now;
	p->queued[side] = bytes;
}

static msec
least(msec a, msec b)
{
	return a < b ? a : b;
}

static msec
wait_due(const struct proxied *p, enum proxied_side side)
{
	msec within = side == PROXIED_AGENT ? p->terms.chunk_within
					    : p->terms.write_within;

	return p->queued[side] == 0 ? INT64_MAX : p->since[side] + within;
}

/* Silence, once the request has left and no answer is due. */
static msec
idle_due(const struct proxied *p)
{
	if (p->state == PROXIED_ASKED && p->answer_due != INT64_MAX)
		return INT64_MAX;
	return p->active + p->terms.idle_within;
}

static msec
first_due(const struct proxied *p)
{
	return p->state == PROXIED_ASKED ? p->answer_due : INT64_MAX;
}

msec
proxied_deadline(const struct proxied *p)
{
	if (p->state == PROXIED_OVER)
		return INT64_MAX;
	msec due = least(first_due(p), idle_due(p));
	due = least(due, wait_due(p, PROXIED_AGENT));
	due = least(due, wait_due(p, PROXIED_VISITOR));
	return p->held ? least(due, p->held_until) : due;
}

void
proxied_expire(struct proxied *p, msec now)
{
	const struct fault late = { .err = ERR_TIMEOUT,
		.status = 504,
		.code = SL("ANSWER_TIMEOUT"),
		.text = SL("the service did not answer in time") };
	const struct fault stuck = { .err = ERR_TIMEOUT,
		.status = 504,
		.close = WS_CODE_LATER,
		.code = SL("AGENT_STUCK"),
		.text = SL("the agent takes no more") };
	const struct fault slow = { .err = ERR_TIMEOUT,
		.close = WS_CODE_LATER,
		.code = SL("VISITOR_SLOW"),
		.text = SL("the visitor takes no more") };
	const struct fault idle = { .err = ERR_TIMEOUT,
		.status = 504,
		.close = WS_CODE_AWAY,
		.code = SL("IDLE"),
		.text = SL("nothing was said for too long") };

	if (p->state == PROXIED_OVER || p->count > 0)
		return;
	if (p->held && p->held_until <= now)
		p->held = false;
	if (first_due(p) <= now)
		fail(p, NULL, &late);
	else if (wait_due(p, PROXIED_AGENT) <= now)
		fail(p, NULL, &stuck);
	else if (wait_due(p, PROXIED_VISITOR) <= now)
		fail(p, NULL, &slow);
	else if (idle_due(p) <= now)
		fail(p, NULL, &idle);
}
