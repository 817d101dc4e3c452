#include "base/err.h"

#include "wire/be.h"
#include "wire/octet.h"
#include "wire/ws.h"

#include "dialect/cluster.h"
#include "dialect/cluster_proxy.h"

struct reader {
	struct js_value root, payload;
	struct arena *a;
	struct buf *body;
	struct proxy_said *out;
};

static int
bad(struct proxy_said *out, int err, struct slice why)
{
	out->kind = PROXY_BAD;
	out->err = err;
	out->why = why;
	return 0;
}

/* What documents put beside `type`, programs put into `payload`. */
static struct js_value
look(const struct reader *r, const char *name)
{
	struct js_value v = js_get(r->payload, name);

	if (v.kind == JS_NONE || v.kind == JS_NULL)
		v = js_get(r->root, name);
	return v;
}

static struct slice
look_text(const struct reader *r, const char *name)
{
	struct slice s;

	if (js_string(look(r, name), &s) != 0)
		return (struct slice){ 0 };
	return s;
}

/* fallback when it is absent; false when it is no integer in range. */
static bool
look_number(const struct reader *r, const char *name, int64_t max,
    int64_t fallback, int64_t *out)
{
	struct js_value v = look(r, name);

	*out = fallback;
	if (v.kind == JS_NONE || v.kind == JS_NULL)
		return true;
	return js_i64(v, out) == 0 && *out >= 0 && *out <= max;
}

static struct slice
one_of(struct slice a, struct slice b)
{
	return a.len > 0 ? a : b;
}

static void
keep_text(struct reader *r, struct slice text)
{
	r->out->text = slice_first(text, PROXY_TEXT_MAX);
}

/* The stream id of the agents' own map: that of the payload comes first. */
static struct slice
read_id(const struct reader *r)
{
	static const char *const names[] = { "request_id", "stream_id" };

	for (int where = 0; where < 2; where++) {
		for (int i = 0; i < 2; i++) {
			struct slice id;
			if (js_string(js_get(where == 0 ? r->payload : r->root,
					  names[i]),
				&id) == 0 &&
			    id.len > 0)
				return slice_first(id, PROXY_ID_MAX);
		}
	}
	return (struct slice){ 0 };
}

/* Heads ------------------------------------------------------------------- */

static bool
clean(const struct http1_pair *p)
{
	return octet_all(p->name, OCTET_TOKEN) &&
	    (p->value.len == 0 || octet_all(p->value, OCTET_VALUE));
}

static size_t
count_values(struct js_value headers)
{
	struct js_walk i = js_walk(headers);
	struct js_value v;
	size_t n = 0;

	while (js_next(&i, NULL, &v))
		n += v.kind == JS_ARRAY ? js_count(v) : 1;
	return n;
}

struct heads {
	struct http1_pair *fields;
	size_t count;
	size_t bytes;
};

static int
add_field(struct heads *h, struct slice name, struct js_value value)
{
	struct http1_pair *p = &h->fields[h->count];

	p->name = name;
	if (js_string(value, &p->value) != 0)
		return ERR_TYPE;
	p->value = slice_trim(p->value);
	h->bytes += name.len + p->value.len;
	if (h->bytes > PROXY_HEAD_MAX)
		return ERR_TOO_BIG;
	if (!clean(p))
		return ERR_INVALID;
	h->count++;
	return 0;
}

static int
add_values(struct heads *h, struct slice name, struct js_value value)
{
	struct js_walk i = js_walk(value);
	struct js_value v;
	int err = 0;

	if (value.kind == JS_NULL)
		return 0;
	if (value.kind != JS_ARRAY)
		return add_field(h, name, value);
	while (err == 0 && js_next(&i, NULL, &v))
		err = add_field(h, name, v);
	return err;
}

static int
read_fields(struct reader *r, struct js_value headers)
{
	size_t n = count_values(headers);
	struct js_walk i = js_walk(headers);
	struct heads h = { 0 };
	struct js_value v;
	struct slice name;
	int err = 0;

	if (headers.kind == JS_NONE || headers.kind == JS_NULL)
		return 0;
	if (headers.kind != JS_OBJECT)
		return bad(r->out, ERR_TYPE, SL("headers is not an object"));
	if (n > PROXY_FIELDS_MAX)
		return bad(r->out, ERR_TOO_BIG, SL("too many headers"));
	h.fields = arena_array(r->a, n + 1, sizeof(*h.fields));
	if (h.fields == NULL)
		return ERR_NOMEM;
	while (err == 0 && js_next(&i, &name, &v))
		err = add_values(&h, name, v);
	if (err != 0)
		return bad(r->out, err,
		    err == ERR_TOO_BIG ? SL("the headers are too long")
				       : SL("a header is no header"));
	r->out->fields = h.fields;
	r->out->count = h.count;
	return 0;
}

static bool
status_ok(int64_t status)
{
	return status >= 200 || status == 101;
}

static int
read_head(struct reader *r)
{
	int64_t status, other;

	/* An older document calls it status_code. */
	if (!look_number(r, "status_code", 599, 0, &other) ||
	    !look_number(r, "status", 599, other, &status) ||
	    !status_ok(status))
		return bad(r->out, ERR_RANGE, SL("status is no status"));
	r->out->status = (int)status;
	return read_fields(r, look(r, "headers"));
}

/* Bodies ------------------------------------------------------------------ */

static int
body_fault(struct reader *r, int err)
{
	if (err == ERR_NOMEM)
		return err;
	return bad(r->out, err,
	    err == ERR_TOO_BIG           ? SL("the body is too big")
		: err == ERR_UNSUPPORTED ? SL("encoding is not known")
					 : SL("the body is not what encoding "
					      "says"));
}

static int
read_body(struct reader *r, struct js_value v, struct slice encoding)
{
	struct slice text = { 0 };

	if (v.kind == JS_NONE || v.kind == JS_NULL)
		return 0;
	if (v.kind == JS_OBJECT || v.kind == JS_ARRAY)
		text = js_raw(v);
	else if (js_string(v, &text) != 0)
		return bad(r->out, ERR_TYPE, SL("the body is no text"));
	int err = proxy_open_body(text, encoding, r->body, &r->out->body);
	return err == 0 ? 0 : body_fault(r, err);
}

static int
read_response(struct reader *r)
{
	int err = read_head(r);

	if (err != 0 || r->out->kind == PROXY_BAD)
		return err;
	return read_body(r, look(r, "body"),
	    one_of(look_text(r, "encoding"), look_text(r, "body_encoding")));
}

static int
read_sequence(struct reader *r)
{
	if (!look_number(r, "sequence", INT64_MAX, -1, &r->out->sequence))
		return bad(r->out, ERR_RANGE, SL("sequence is no number"));
	return 0;
}

/* data, base64 unless it says otherwise; size, where given, must agree. */
static int
read_data_bytes(struct reader *r)
{
	struct js_value v = look(r, "data");
	int64_t size;

	if (v.kind == JS_NONE)
		v = look(r, "chunk");
	if (v.kind != JS_STRING)
		return bad(r->out, ERR_MISSING, SL("data is missing"));
	int err =
	    read_body(r, v, one_of(look_text(r, "encoding"), SL("base64")));
	if (err != 0 || r->out->kind == PROXY_BAD)
		return err;
	if (!look_number(r, "size", INT64_MAX, -1, &size) ||
	    (size >= 0 && (uint64_t)size != r->out->body.len))
		return bad(
		    r->out, ERR_PROTOCOL, SL("size does not fit the data"));
	return read_sequence(r);
}

static int
read_chunk(struct reader *r)
{
	return read_data_bytes(r);
}

static int
read_nothing(struct reader *r)
{
	(void)r;
	return 0;
}

static int
read_error(struct reader *r)
{
	keep_text(r,
	    one_of(look_text(r, "error"),
		one_of(look_text(r, "reason"), look_text(r, "message"))));
	return 0;
}

/* WebSockets -------------------------------------------------------------- */

static bool
known_opcode(int64_t n)
{
	return n == WS_TEXT || n == WS_BINARY || n == WS_CLOSE ||
	    n == WS_PING || n == WS_PONG;
}

/*
 * `type byte | payload`.  Bytes that do not begin with a type are taken as
 * they are when message_type says what they are; where both speak they must
 * agree, for else one of them is a guess.
 */
static int
read_message(struct reader *r)
{
	struct proxy_said *out = r->out;
	int64_t type;

	if (slice_eq(look_text(r, "direction"), SL("to_agent")))
		return bad(out, ERR_PROTOCOL, SL("direction is ours"));
	int err = read_data_bytes(r);
	if (err != 0 || out->kind == PROXY_BAD)
		return err;
	if (!look_number(r, "message_type", UINT8_MAX, -1, &type))
		return bad(out, ERR_RANGE, SL("message_type is no number"));
	bool framed = out->body.len > 0 && known_opcode(out->body.ptr[0]);
	if (framed && type >= 0 && type != out->body.ptr[0])
		return bad(out, ERR_PROTOCOL,
		    SL("message_type does not fit the data"));
	if (framed) {
		type = out->body.ptr[0];
		out->body = slice_from_at(out->body, 1);
	}
	if (!known_opcode(type))
		return bad(out, ERR_PROTOCOL, SL("the message has no type"));
	if (out->body.len > PROXY_MESSAGE_MAX)
		return bad(out, ERR_TOO_BIG, SL("the message is too big"));
	if (type >= WS_CLOSE && out->body.len > WS_CONTROL_MAX)
		return bad(out, ERR_PROTOCOL, SL("a control frame is too big"));
	out->opcode = (uint8_t)type;
	return 0;
}

static int
read_close(struct reader *r)
{
	int64_t code;

	/* Whatever it says, it is closed. */
	if (look_number(r, "code", 4999, 0, &code) &&
	    ws_code_valid((uint16_t)code))
		r->out->code = (uint16_t)code;
	return read_error(r);
}

static int
read_slow(struct reader *r)
{
	struct slice reason = look_text(r, "reason");

	keep_text(r, reason);
	r->out->lost = slice_eq(reason, SL("channel_full"));
	return 0;
}

static int
read_fallback(struct reader *r)
{
	struct slice id = look_text(r, "original_request_id");

	r->out->id = slice_first(id, PROXY_ID_MAX);
	keep_text(r, look_text(r, "unknown_type"));
	return 0;
}

static int
read_ack(struct reader *r)
{
	bool agreed = false;

	if (js_bool(look(r, "use_yamux"), &agreed) == 0)
		r->out->agreed = agreed;
	return 0;
}

/* Types ------------------------------------------------------------------- */

struct row {
	struct slice type;
	enum proxy_kind kind;
	int (*read)(struct reader *r);
};

static const struct row rows[] = {
	{ SL_INIT("proxy_response_chunk"), PROXY_CHUNK, read_chunk },
	{ SL_INIT("proxy_websocket_data"), PROXY_DATA, read_message },
	{ SL_INIT("ws_data"), PROXY_DATA, read_message },
	{ SL_INIT("proxy_stream_chunk"), PROXY_DATA, read_message },
	{ SL_INIT("proxy_response"), PROXY_RESPONSE, read_response },
	{ SL_INIT("proxy_response_header"), PROXY_HEADER, read_head },
	{ SL_INIT("proxy_response_start"), PROXY_HEADER, read_head },
	{ SL_INIT("proxy_response_end"), PROXY_END, read_nothing },
	{ SL_INIT("proxy_response_abort"), PROXY_ABORT, read_error },
	{ SL_INIT("proxy_error"), PROXY_ERROR, read_error },
	{ SL_INIT("proxy_websocket_close"), PROXY_CLOSE, read_close },
	{ SL_INIT("ws_close"), PROXY_CLOSE, read_close },
	{ SL_INIT("proxy_stream_close"), PROXY_CLOSE, read_close },
	{ SL_INIT("backpressure"), PROXY_SLOW, read_slow },
	{ SL_INIT("protocol_fallback"), PROXY_FALLBACK, read_fallback },
	{ SL_INIT("gateway_hello_ack"), PROXY_HELLO_ACK, read_ack },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const struct row *
find_row(struct js_value root)
{
	struct slice type;

	if (js_string(js_get(root, "type"), &type) != 0)
		return NULL;
	for (size_t i = 0; i < ROWS; i++) {
		if (slice_eq(rows[i].type, type))
			return &rows[i];
	}
	return NULL;
}

int
proxy_read_text(struct slice text, struct arena *a, struct buf *body,
    struct proxy_said *out)
{
	const struct js_limits limits = { CLUSTER_TEXT_MAX, CLUSTER_DEPTH_MAX };
	struct proxy_said said = { .kind = PROXY_OTHER, .sequence = -1 };
	struct js_doc doc;
	int err = js_parse(&doc, text, &limits, a);

	buf_clear(body);
	if (err == ERR_NOMEM)
		return err;
	struct js_value root = { 0 };
	if (err == 0 && doc.repeated.ptr == NULL)
		root = js_root(&doc);
	const struct row *row = find_row(root);
	if (row != NULL) {
		struct reader r = { root, js_get(root, "payload"), a, body,
			&said };
		said.kind = row->kind;
		said.id = read_id(&r);
		err = row->read(&r);
		if (err != 0)
			return err;
	}
	*out = said;
	return 0;
}

/* Binary frames ----------------------------------------------------------- */

static int
read_frame_parts(struct reader *r, struct slice frame)
{
	const struct js_limits limits = { PROXY_HEAD_MAX * 2, 3 };
	struct proxy_said *out = r->out;
	struct js_doc doc;

	size_t at = frame.len < 2 ? 0 : 2 + (size_t)be_get16(frame.ptr);
	if (at <= 2 || at - 2 > PROXY_ID_MAX || frame.len < at + 8)
		return bad(
		    out, ERR_PROTOCOL, SL("a binary frame is no answer"));
	out->id = (struct slice){ frame.ptr + 2, at - 2 };
	uint32_t status = be_get32(frame.ptr + at);
	uint32_t len = be_get32(frame.ptr + at + 4);
	struct slice rest = slice_from_at(frame, at + 8);
	if (len > rest.len || status > 599 || status < 200)
		return bad(
		    out, ERR_PROTOCOL, SL("a binary frame is no answer"));
	out->status = (int)status;
	int err = js_parse(&doc, slice_first(rest, len), &limits, r->a);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0)
		return bad(out, err, SL("headers is not JSON"));
	err = read_fields(r, js_root(&doc));
	if (err != 0 || out->kind == PROXY_BAD)
		return err;
	err = proxy_settle_body(slice_from_at(rest, len), out->fields,
	    out->count, r->body, &out->body);
	return err == 0 ? 0 : body_fault(r, err);
}

int
proxy_read_frame(struct slice frame, struct arena *a, struct buf *body,
    struct proxy_said *out)
{
	struct proxy_said said = { .kind = PROXY_RESPONSE, .sequence = -1 };
	struct reader r = { .a = a, .body = body, .out = &said };

	buf_clear(body);
	int err = read_frame_parts(&r, frame);
	if (err == 0)
		*out = said;
	return err;
}

/* features ---------------------------------------------------------------- */

static bool
feature(struct js_value features, const char *name)
{
	bool on = false;

	return js_bool(js_get(features, name), &on) == 0 && on;
}

void
proxy_read_features(struct js_value features, struct proxy_features *out)
{
	*out = (struct proxy_features){
		.proxy = feature(features, "supports_websocket_proxy"),
		.gateway = feature(features, "supports_gateway"),
		.streaming = feature(features, "supports_streaming"),
		.response_streaming =
		    feature(features, "supports_response_streaming"),
	};
}
