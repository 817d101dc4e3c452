/*
 * Design notes.
 *
 * Input takes one of two roads.  A frame that is a whole message, or a whole
 * control frame outside a message, and lies entirely in the caller's bytes
 * is unmasked there and handed out (next_whole).  For anything else a part
 * is made: it gathers the head, then the payload, frame after frame until
 * the message is whole (next_part), and goes away with it.
 *
 * Compressed messages are unpacked only when whole, because the stream that
 * unpacks them is shared by all connections of the lane.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/utf8.h"

#include "wire/wsconn.h"

enum {
	REASON_MAX = WS_CONTROL_MAX - 2,
	SCRATCH_KEPT = 256 * 1024, /* a longer scratch buffer is let go */
	SPARE_MIN = 16 * 1024,     /* shorter ones the heap has at hand */
	SPARE_MAX = 1024 * 1024,   /* longer ones would lie about */
};

struct wsconn_part {
	uint8_t head[WS_HEAD_MAX]; /* of a frame, not yet whole */
	uint8_t head_len;
	bool in_frame;   /* frame and at are valid */
	bool in_message; /* opcode, packed, utf8 and data are valid */
	bool packed;
	uint8_t opcode;       /* of the message */
	struct ws_head frame; /* whose payload is being read */
	uint64_t at;          /* bytes of it read */
	struct utf8 utf8;
	struct buf data; /* payload of the message so far */
	uint8_t control[WS_CONTROL_MAX];
};

/* Why a connection fails (RFC 6455 7.1.7), and what the peer is told. */
struct fault {
	uint16_t code;
	int16_t err;
	const char *says;
};

enum fault_id {
	FAULT_NONE,
	FAULT_HEAD,
	FAULT_UNMASKED,
	FAULT_MASKED,
	FAULT_RSV1,
	FAULT_CONT,
	FAULT_NESTED,
	FAULT_TOO_BIG,
	FAULT_UTF8,
	FAULT_PACKED,
	FAULT_CLOSE_LEN,
	FAULT_CLOSE_CODE,
	FAULT_CLOSE_UTF8,
	FAULT_NOMEM
};

static const struct fault faults[] = {
	[FAULT_HEAD] = { WS_CODE_PROTOCOL, ERR_PROTOCOL, "bad frame head" },
	[FAULT_UNMASKED] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "a client must mask its frames" },
	[FAULT_MASKED] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "a server must not mask its frames" },
	[FAULT_RSV1] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "RSV1 is set where no extension uses it" },
	[FAULT_CONT] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "continuation without a message" },
	[FAULT_NESTED] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "new message before the end of the last" },
	[FAULT_TOO_BIG] = { WS_CODE_TOO_BIG, ERR_TOO_BIG, "message too big" },
	[FAULT_UTF8] = { WS_CODE_DATA, ERR_UTF8, "text is not UTF-8" },
	[FAULT_PACKED] = { WS_CODE_DATA, ERR_CORRUPT,
	    "compressed message is corrupt" },
	[FAULT_CLOSE_LEN] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "close frame with half a code" },
	[FAULT_CLOSE_CODE] = { WS_CODE_PROTOCOL, ERR_PROTOCOL,
	    "close frame with a code that may not be sent" },
	[FAULT_CLOSE_UTF8] = { WS_CODE_DATA, ERR_UTF8,
	    "close reason is not UTF-8" },
	[FAULT_NOMEM] = { WS_CODE_INTERNAL, ERR_NOMEM, "out of memory" },
};

static uint32_t
cap_from(size_t cap)
{
	return cap > UINT32_MAX ? UINT32_MAX : (uint32_t)cap;
}

void
wsconn_init(struct wsconn *c, enum wsconn_role role,
    const struct wsconn_config *config, msec now)
{
	*c = (struct wsconn){
		.config = config,
		.heard = now,
		.ping_at = now + config->ping_every,
		.pinged = -1,
		.text_cap = cap_from(config->text_cap),
		.binary_cap = cap_from(config->binary_cap),
		.role = (uint8_t)role,
		.state = WSCONN_OPEN,
	};
}

/* Sizes are powers of two, so that one fits the next. */
static size_t
spare_size(size_t n)
{
	size_t size = SPARE_MIN;

	while (size < n)
		size *= 2;
	return size;
}

/* Room for n bytes in an empty buffer, if it can be another's that was long.
 * false: without memory. */
static bool
take_room(struct wsconn_lane *l, struct buf *b, size_t n)
{
	size_t cap = b->cap, size = spare_size(n);

	if (n < SPARE_MIN || n > SPARE_MAX || b->mem != NULL || n > cap)
		return buf_reserve(b, n) != NULL;
	for (size_t i = 0; i < WSCONN_SPARES; i++) {
		struct buf *s = &l->spares[i];
		if (s->alloc != size)
			continue;
		*b = *s;
		b->cap = cap;
		buf_init(s, 0);
		return true;
	}
	b->cap = size;
	bool ok = buf_reserve(b, size) != NULL;
	b->cap = cap;
	return ok;
}

static void
give_room(struct wsconn_lane *l, struct buf *b)
{
	for (size_t i = 0; i < WSCONN_SPARES; i++) {
		struct buf *s = &l->spares[i];
		if (s->mem != NULL || b->alloc < SPARE_MIN ||
		    b->alloc > SPARE_MAX || spare_size(b->alloc) != b->alloc)
			continue;
		*s = (struct buf){ .mem = b->mem, .alloc = b->alloc };
		buf_init(b, 0);
		return;
	}
	buf_fini(b);
}

static void
drop_part(struct wsconn *c)
{
	if (c->part != NULL)
		give_room(c->config->lane, &c->part->data);
	alloc_free(c->part);
	c->part = NULL;
	c->spent = false;
}

void
wsconn_fini(struct wsconn *c)
{
	drop_part(c);
	wstail_free(c->tail);
	deflate_free(c->packer);
	deflate_free(c->unpacker);
	*c = (struct wsconn){ .state = WSCONN_CLOSED };
}

void
wsconn_set_deflate(struct wsconn *c, const struct deflate_terms *terms)
{
	c->terms = *terms;
}

void
wsconn_set_caps(struct wsconn *c, size_t text_cap, size_t binary_cap)
{
	c->text_cap = cap_from(text_cap);
	c->binary_cap = cap_from(binary_cap);
}

/* Frames of our own ---------------------------------------------------- */

static int
queue(struct wsconn *c, enum ws_opcode opcode, struct slice payload)
{
	struct ws_head head = {
		.fin = true,
		.opcode = (uint8_t)opcode,
		.len = payload.len,
	};
	uint8_t frame[WS_HEAD_MAX + WS_CONTROL_MAX];
	size_t n = wsconn_head(c, &head, frame);

	if (payload.len > 0)
		memcpy(frame + n, payload.ptr, payload.len);
	if (head.masked)
		ws_mask(frame + n, payload.len, head.mask, 0);
	return wstail_put(
	    &c->tail, opcode, (struct slice){ frame, n + payload.len });
}

struct slice
wsconn_out(const struct wsconn *c)
{
	return wstail_peek(c->tail);
}

void
wsconn_sent(struct wsconn *c, size_t n)
{
	wstail_eat(&c->tail, n);
}

/* The one place where the state moves; it only goes forward. */
static void
move_to(struct wsconn *c, enum wsconn_state state, msec now)
{
	assert(state > c->state);
	if (c->state == WSCONN_OPEN)
		c->ping_at = now + c->config->close_within;
	c->state = (uint8_t)state;
}

/* Queue a close frame and move on; without memory there is none. */
static int
queue_close(struct wsconn *c, uint16_t code, struct slice reason)
{
	uint8_t payload[WS_CONTROL_MAX];
	size_t n = 0;

	if (code != WS_CODE_NONE) {
		reason = slice_first(reason, REASON_MAX);
		reason.len = utf8_floor(reason);
		payload[0] = (uint8_t)(code >> 8);
		payload[1] = (uint8_t)code;
		if (reason.len > 0)
			memcpy(payload + 2, reason.ptr, reason.len);
		n = 2 + reason.len;
	}
	return queue(c, WS_CLOSE, (struct slice){ payload, n });
}

int
wsconn_close(struct wsconn *c, uint16_t code, struct slice reason, msec now)
{
	if (c->state != WSCONN_OPEN)
		return 0;
	int r = queue_close(c, code, reason);
	move_to(c, r == 0 ? WSCONN_CLOSING : WSCONN_CLOSED, now);
	return r;
}

int
wsconn_ping(struct wsconn *c, struct slice payload)
{
	assert(payload.len <= WS_CONTROL_MAX);
	if (c->state != WSCONN_OPEN)
		return ERR_CLOSED;
	return queue(c, WS_PING, payload);
}

/* Receiving ------------------------------------------------------------ */

void
wsconn_feed(struct wsconn *c, uint8_t *bytes, size_t n, msec now)
{
	assert(c->in_len == 0);
	c->in = bytes;
	c->in_len = n;
	if (n > 0)
		c->heard = now;
}

static void
take(struct wsconn *c, size_t n)
{
	c->in += n;
	c->in_len -= n;
}

/* End the connection for a fault; always an event. */
static int
fail(struct wsconn *c, struct wsconn_event *ev, enum fault_id id)
{
	const struct fault *f = &faults[id];

	*ev = (struct wsconn_event){
		.kind = WSCONN_ERROR,
		.code = f->code,
		.err = f->err,
		.trip = -1,
		.data = slice_from(f->says),
	};
	/* Without memory for a close frame the transport's end must do. */
	if (c->state == WSCONN_OPEN)
		(void)queue_close(c, f->code, ev->data);
	move_to(c, WSCONN_CLOSED, c->heard);
	drop_part(c);
	return 1;
}

/* The limit for what is gathered of a message.  Compression may lengthen
 * what does not compress; the message itself is held to the cap later. */
static uint64_t
gather_cap(const struct wsconn *c, uint8_t opcode, bool packed)
{
	uint64_t cap = opcode == WS_TEXT ? c->text_cap : c->binary_cap;

	return packed ? cap + cap / 64 + 64 : cap;
}

static enum fault_id
data_fault(const struct wsconn *c, const struct ws_head *h)
{
	const struct wsconn_part *p = c->part;
	bool inside = p != NULL && p->in_message;
	uint64_t have = inside ? p->data.tail : 0;

	if (h->opcode == WS_CONT && !inside)
		return FAULT_CONT;
	if (h->opcode != WS_CONT && inside)
		return FAULT_NESTED;
	/* RFC 7692 6.1: only the first frame of a message has the bit. */
	if (h->rsv1 && (!c->terms.on || inside))
		return FAULT_RSV1;
	uint64_t cap = inside ? gather_cap(c, p->opcode, p->packed)
			      : gather_cap(c, h->opcode, h->rsv1);
	if (have > cap || h->len > cap - have)
		return FAULT_TOO_BIG;
	return FAULT_NONE;
}

/* What is wrong with a frame whose head alone is known. */
static enum fault_id
frame_fault(const struct wsconn *c, const struct ws_head *h)
{
	if (h->masked != (c->role == WSCONN_SERVER))
		return h->masked ? FAULT_MASKED : FAULT_UNMASKED;
	return h->opcode >= WS_CLOSE ? FAULT_NONE : data_fault(c, h);
}

static enum fault_id
close_fault(struct slice payload)
{
	if (payload.len == 0)
		return FAULT_NONE;
	if (payload.len == 1)
		return FAULT_CLOSE_LEN;
	if (!ws_code_valid((uint16_t)(payload.ptr[0] << 8 | payload.ptr[1])))
		return FAULT_CLOSE_CODE;
	return utf8_valid(slice_from_at(payload, 2)) ? FAULT_NONE
						     : FAULT_CLOSE_UTF8;
}

static int
close_event(struct wsconn *c, struct wsconn_event *ev, struct slice payload)
{
	enum fault_id fault = close_fault(payload);

	if (fault != FAULT_NONE)
		return fail(c, ev, fault);
	ev->code = WS_CODE_NONE;
	if (payload.len >= 2)
		ev->code = (uint16_t)(payload.ptr[0] << 8 | payload.ptr[1]);
	ev->data = slice_from_at(payload, 2);
	/* RFC 6455 5.5.1: the answer echoes the code. */
	if (c->state == WSCONN_OPEN)
		(void)queue_close(c, ev->code, (struct slice){ 0 });
	move_to(c, WSCONN_CLOSED, c->heard);
	return 1;
}

enum { PING_LEN = 8 };

static void
put_time(uint8_t out[PING_LEN], msec at)
{
	for (size_t i = 0; i < PING_LEN; i++)
		out[i] = (uint8_t)((uint64_t)at >> 8 * (PING_LEN - 1 - i));
}

static msec
round_trip(const struct wsconn *c, struct slice payload)
{
	uint8_t sent[PING_LEN];

	if (c->pinged < 0)
		return -1;
	put_time(sent, c->pinged);
	return slice_eq(payload, (struct slice){ sent, PING_LEN })
	    ? c->heard - c->pinged
	    : -1;
}

static int
control_event(struct wsconn *c, struct wsconn_event *ev, uint8_t opcode,
    struct slice payload)
{
	*ev = (struct wsconn_event){
		.kind = opcode,
		.trip = -1,
		.data = payload,
	};
	if (opcode == WS_CLOSE)
		return close_event(c, ev, payload);
	if (opcode == WS_PONG)
		ev->trip = round_trip(c, payload);
	else if (c->state == WSCONN_OPEN &&
	    queue(c, WS_PONG, payload) == ERR_NOMEM)
		return fail(c, ev, FAULT_NOMEM);
	return 1;
}

/* The stream to unpack the peer's messages with. */
static struct deflate_stream *
unpacker(struct wsconn *c)
{
	const struct deflate_terms *t = &c->terms;
	bool server = c->role == WSCONN_SERVER;

	if (!(server ? t->client_takeover : t->server_takeover))
		return deflate_pool_unpacker(&c->config->lane->pool);
	if (c->unpacker == NULL)
		c->unpacker = deflate_new_unpacker(
		    server ? t->client_bits : t->server_bits);
	return c->unpacker;
}

static enum fault_id
unpack(struct wsconn *c, uint8_t opcode, struct slice packed, struct slice *out)
{
	size_t cap = opcode == WS_TEXT ? c->text_cap : c->binary_cap;
	struct buf *scratch = &c->config->lane->scratch;
	struct deflate_stream *s = unpacker(c);

	if (s == NULL)
		return FAULT_NOMEM;
	if (scratch->alloc > SCRATCH_KEPT)
		buf_fini(scratch);
	buf_clear(scratch);
	scratch->cap = SIZE_MAX;
	int r = deflate_unpack(s, packed, cap, scratch);
	if (r != 0)
		return r == ERR_NOMEM  ? FAULT_NOMEM
		    : r == ERR_TOO_BIG ? FAULT_TOO_BIG
				       : FAULT_PACKED;
	*out = buf_peek(scratch);
	return FAULT_NONE;
}

/* Hand out a message; valid says that text is known to be UTF-8. */
static int
message_event(struct wsconn *c, struct wsconn_event *ev,
    const struct ws_head *first, struct slice payload, bool valid)
{
	if (first->rsv1) {
		enum fault_id f = unpack(c, first->opcode, payload, &payload);
		if (f != FAULT_NONE)
			return fail(c, ev, f);
		valid = false;
	}
	if (first->opcode == WS_TEXT && !valid && !utf8_valid(payload))
		return fail(c, ev, FAULT_UTF8);
	*ev = (struct wsconn_event){
		.kind = first->opcode,
		.trip = -1,
		.data = payload,
	};
	return 1;
}

/* From here on through a part. */
static int
start_part(struct wsconn *c, struct wsconn_event *ev)
{
	c->part = alloc_new(sizeof(*c->part));
	return c->part == NULL ? fail(c, ev, FAULT_NOMEM) : 0;
}

/* A message or control frame that lies whole in the input. */
static int
next_whole(struct wsconn *c, struct wsconn_event *ev)
{
	struct ws_head h;
	int n = ws_decode_head((struct slice){ c->in, c->in_len }, &h);

	if (n < 0)
		return fail(c, ev, FAULT_HEAD);
	if (n == 0 || h.len > c->in_len - (size_t)n || !h.fin ||
	    h.opcode == WS_CONT)
		return start_part(c, ev);
	enum fault_id fault = frame_fault(c, &h);
	if (fault != FAULT_NONE)
		return fail(c, ev, fault);

	uint8_t *bytes = c->in + n;
	struct slice payload = { bytes, (size_t)h.len };
	take(c, (size_t)n + payload.len);
	bool ascii = h.masked && ws_mask(bytes, payload.len, h.mask, 0);
	if (h.opcode >= WS_CLOSE)
		return control_event(c, ev, h.opcode, payload);
	return message_event(c, ev, &h, payload, ascii);
}

/* A head is known: check it, and make room for its payload. */
static int
begin_frame(struct wsconn *c, struct wsconn_event *ev)
{
	struct wsconn_part *p = c->part;
	const struct ws_head *h = &p->frame;
	enum fault_id fault = frame_fault(c, h);

	if (fault != FAULT_NONE)
		return fail(c, ev, fault);
	p->in_frame = true;
	p->at = 0;
	if (h->opcode >= WS_CLOSE)
		return 0;
	if (h->opcode != WS_CONT) {
		p->in_message = true;
		p->opcode = h->opcode;
		p->packed = h->rsv1;
		buf_init(&p->data, 0);
	}
	p->data.cap = gather_cap(c, p->opcode, p->packed);
	if (h->len > 0 && !take_room(c->config->lane, &p->data, (size_t)h->len))
		return fail(c, ev, FAULT_NOMEM);
	return 0;
}

static int
read_head(struct wsconn *c, struct wsconn_event *ev)
{
	struct wsconn_part *p = c->part;
	size_t n = sizeof(p->head) - p->head_len;

	if (n > c->in_len)
		n = c->in_len;
	memcpy(p->head + p->head_len, c->in, n);
	int r = ws_decode_head(
	    (struct slice){ p->head, p->head_len + n }, &p->frame);
	if (r < 0)
		return fail(c, ev, FAULT_HEAD);
	if (r == 0) {
		p->head_len = (uint8_t)(p->head_len + n);
		take(c, n);
		return 0;
	}
	take(c, (size_t)r - p->head_len);
	p->head_len = 0;
	return begin_frame(c, ev);
}

/* Keep the next n bytes of payload; text is checked as it comes. */
static bool
gather(struct wsconn *c, size_t n)
{
	struct wsconn_part *p = c->part;
	struct slice piece = { c->in, n };
	bool ascii = p->frame.masked && ws_mask(c->in, n, p->frame.mask, p->at);

	if (p->frame.opcode >= WS_CLOSE) {
		memcpy(p->control + p->at, c->in, n);
		return true;
	}
	buf_put(&p->data, piece);
	if (p->opcode != WS_TEXT || p->packed ||
	    (ascii && utf8_whole(&p->utf8)))
		return true;
	return utf8_feed(&p->utf8, piece);
}

static int
end_frame(struct wsconn *c, struct wsconn_event *ev)
{
	struct wsconn_part *p = c->part;

	p->in_frame = false;
	if (p->frame.opcode >= WS_CLOSE) {
		c->spent = true;
		return control_event(c, ev, p->frame.opcode,
		    (struct slice){ p->control, (size_t)p->frame.len });
	}
	if (!p->frame.fin)
		return 0;
	if (!p->packed && p->opcode == WS_TEXT && !utf8_whole(&p->utf8))
		return fail(c, ev, FAULT_UTF8);
	p->in_message = false;
	c->spent = true;
	struct ws_head first = { .opcode = p->opcode, .rsv1 = p->packed };
	return message_event(c, ev, &first, buf_peek(&p->data), true);
}

static int
next_part(struct wsconn *c, struct wsconn_event *ev)
{
	struct wsconn_part *p = c->part;

	if (!p->in_frame) {
		int r = read_head(c, ev);
		/* A frame without payload ends with its head. */
		if (r != 0 || !p->in_frame)
			return r;
	}
	uint64_t left = p->frame.len - p->at;
	size_t n = left < c->in_len ? (size_t)left : c->in_len;
	if (n > 0 && !gather(c, n))
		return fail(c, ev, FAULT_UTF8);
	take(c, n);
	p->at += n;
	return p->at == p->frame.len ? end_frame(c, ev) : 0;
}

int
wsconn_next(struct wsconn *c, struct wsconn_event *ev)
{
	int r = 0;

	/* What was handed out last may go now; but a control frame inside a
	 * message leaves the message to go on, unless it was a close. */
	if (c->spent && (!c->part->in_message || c->state == WSCONN_CLOSED))
		drop_part(c);
	c->spent = false;
	while (r == 0 && c->in_len > 0 && c->state != WSCONN_CLOSED)
		r = c->part == NULL ? next_whole(c, ev) : next_part(c, ev);
	if (r == 0) {
		c->in = NULL;
		c->in_len = 0;
	}
	return r;
}

/* Time ----------------------------------------------------------------- */

bool
wsconn_closed(const struct wsconn *c)
{
	return c->state == WSCONN_CLOSED && c->tail == NULL;
}

msec
wsconn_deadline(const struct wsconn *c)
{
	const struct wsconn_config *k = c->config;
	msec due = INT64_MAX;

	if (c->state != WSCONN_OPEN)
		return k->close_within > 0 ? c->ping_at : due;
	if (k->ping_every > 0)
		due = c->ping_at;
	if (k->dead_after > 0 && c->heard + k->dead_after < due)
		due = c->heard + k->dead_after;
	return due;
}

static int
give_up(struct wsconn *c, msec now)
{
	if (c->state != WSCONN_CLOSED)
		move_to(c, WSCONN_CLOSED, now);
	wstail_free(c->tail);
	c->tail = NULL;
	drop_part(c);
	return ERR_TIMEOUT;
}

int
wsconn_expire(struct wsconn *c, msec now)
{
	const struct wsconn_config *k = c->config;
	uint8_t payload[PING_LEN];

	if (now < wsconn_deadline(c))
		return 0;
	if (c->state != WSCONN_OPEN)
		return give_up(c, now);
	if (k->dead_after > 0 && now - c->heard >= k->dead_after)
		return give_up(c, now);
	/* A ping that finds no room stands behind ones that will do. */
	put_time(payload, now);
	if (queue(c, WS_PING, (struct slice){ payload, PING_LEN }) == 0)
		c->pinged = now;
	c->ping_at = now + k->ping_every;
	return 0;
}

size_t
wsconn_memory(const struct wsconn *c)
{
	size_t n = deflate_memory(c->packer) + deflate_memory(c->unpacker);

	if (c->part != NULL)
		n += sizeof(*c->part) + c->part->data.alloc;
	return n + wstail_memory(c->tail);
}
