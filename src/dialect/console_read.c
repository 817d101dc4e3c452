#include "base/err.h"

#include "dialect/cluster_parts.h"
#include "dialect/console_parts.h"

static const struct slice none;

/* What may be said, and by whom ------------------------------------------- */

static const struct console_row flat[] = {
	{ SL_INIT("terminal:output"), FROM_AGENT, CONSOLE_COUNTED_OUTPUT,
	    console_read_output, OPS },
	{ SL_INIT("agent:status"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_status, OPS },
	{ SL_INIT("command:request"), FROM_DASHBOARD, CONSOLE_COUNTED_COMMAND,
	    console_read_request, OP_COMMAND_CREATE },
	{ SL_INIT("command:status"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_command_status, OPS },
	{ SL_INIT("command:complete"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_complete, OPS },
	{ SL_INIT("command:interrupt"), FROM_DASHBOARD, CONSOLE_EXEMPT,
	    console_read_command_word, OP_COMMAND_INTERRUPT },
	{ SL_INIT("command:cancel"), FROM_DASHBOARD, CONSOLE_EXEMPT,
	    console_read_command_word, OP_COMMAND_CANCEL },
	{ SL_INIT("heartbeat:ping"), FROM_ALL, CONSOLE_COUNTED_PING,
	    console_read_ping, OPS },
	{ SL_INIT("heartbeat:pong"), FROM_ALL, CONSOLE_COUNTED,
	    console_read_pong, OPS },
	{ SL_INIT("dashboard:connect"), FROM_GUEST | FROM_DASHBOARD,
	    CONSOLE_COUNTED, console_read_dashboard, OP_WATCH },
	{ SL_INIT("dashboard:disconnect"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_goodbye, OPS },
	{ SL_INIT("dashboard:subscribe"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_subscribe, OPS },
	{ SL_INIT("dashboard:unsubscribe"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_unsubscribe, OPS },
	{ SL_INIT("agent:connect"), FROM_GUEST | FROM_AGENT, CONSOLE_COUNTED,
	    console_read_connect, OPS },
	{ SL_INIT("agent:disconnect"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_goodbye, OPS },
	{ SL_INIT("agent:heartbeat"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_status, OPS },
	{ SL_INIT("agent:error"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_trouble, OPS },
	{ SL_INIT("agent:control"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_control, OP_AGENT_CONTROL },
	{ SL_INIT("terminal:clear"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_clear, OP_TERMINAL_CLEAR },
	{ SL_INIT("system:emergency-stop"), FROM_DASHBOARD | FROM_AGENT,
	    CONSOLE_EXEMPT, console_read_stop, OP_STOP_RAISE },
	{ SL_INIT("system:resume"), FROM_DASHBOARD | FROM_AGENT, CONSOLE_EXEMPT,
	    console_read_resume, OP_STOP_LIFT },
	{ SL_INIT("auth:refresh-token"), FROM_ALL, CONSOLE_COUNTED,
	    console_read_refresh, OP_RENEW },
};

/* Not SL_INIT: in capitals, that is how problem codes are found. */
#define TYPE(lit) SL_INIT(lit)

static const struct console_row upper[] = {
	{ TYPE("TERMINAL_OUTPUT"), FROM_AGENT, CONSOLE_COUNTED_OUTPUT,
	    console_read_upper_output, OPS },
	{ TYPE("COMMAND_REQUEST"), FROM_DASHBOARD, CONSOLE_COUNTED_COMMAND,
	    console_read_request, OP_COMMAND_CREATE },
	{ TYPE("COMMAND_CANCEL"), FROM_DASHBOARD, CONSOLE_EXEMPT,
	    console_read_command_word, OP_COMMAND_INTERRUPT },
	{ TYPE("COMMAND_ACK"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_command_status, OPS },
	{ TYPE("COMMAND_COMPLETE"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_complete, OPS },
	{ TYPE("TRACE_EVENT"), FROM_AGENT, CONSOLE_COUNTED, console_read_trace,
	    OPS },
	{ TYPE("INVESTIGATION_REPORT"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_report, OPS },
	{ TYPE("ACK"), FROM_ALL, CONSOLE_COUNTED, console_read_ack, OPS },
	{ TYPE("PING"), FROM_ALL, CONSOLE_COUNTED_PING, console_read_ping,
	    OPS },
	{ TYPE("PONG"), FROM_ALL, CONSOLE_COUNTED, console_read_pong, OPS },
	{ TYPE("ERROR"), FROM_ALL, CONSOLE_COUNTED, console_read_pong, OPS },
	{ TYPE("AGENT_CONNECT"), FROM_GUEST | FROM_AGENT, CONSOLE_COUNTED,
	    console_read_connect, OPS },
	{ TYPE("AGENT_HEARTBEAT"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_status, OPS },
	{ TYPE("AGENT_ERROR"), FROM_AGENT, CONSOLE_COUNTED,
	    console_read_trouble, OPS },
	{ TYPE("AGENT_CONTROL"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_control, OP_AGENT_CONTROL },
	{ TYPE("DASHBOARD_INIT"), FROM_GUEST | FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_init, OP_WATCH },
	{ TYPE("DASHBOARD_SUBSCRIBE"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_subscribe, OPS },
	{ TYPE("DASHBOARD_UNSUBSCRIBE"), FROM_DASHBOARD, CONSOLE_COUNTED,
	    console_read_unsubscribe, OPS },
	{ TYPE("EMERGENCY_STOP"), FROM_DASHBOARD | FROM_AGENT, CONSOLE_EXEMPT,
	    console_read_stop, OP_STOP_RAISE },
	{ TYPE("SYSTEM_RESUME"), FROM_DASHBOARD | FROM_AGENT, CONSOLE_EXEMPT,
	    console_read_resume, OP_STOP_LIFT },
	{ TYPE("TOKEN_REFRESH"), FROM_ALL, CONSOLE_COUNTED,
	    console_read_refresh, OP_RENEW },
};

enum {
	FLAT_ROWS = sizeof(flat) / sizeof(flat[0]),
	UPPER_ROWS = sizeof(upper) / sizeof(upper[0])
};

static const struct console_row *
find_row(struct slice type, bool is_upper)
{
	const struct console_row *rows = is_upper ? upper : flat;
	size_t n = is_upper ? UPPER_ROWS : FLAT_ROWS;

	for (size_t i = 0; i < n; i++) {
		if (slice_eq(rows[i].type, type))
			return &rows[i];
	}
	return NULL;
}

bool
console_type_at(size_t n, struct console_type *out)
{
	bool is_upper = n >= FLAT_ROWS;

	if (n >= FLAT_ROWS + UPPER_ROWS)
		return false;
	const struct console_row *row =
	    is_upper ? &upper[n - FLAT_ROWS] : &flat[n];
	*out = (struct console_type){ .name = row->type,
		.spelling = is_upper ? CONSOLE_UPPER : CONSOLE_FLAT,
		.sides = row->from,
		.asks = row->op != OPS,
		.op = row->op };
	return true;
}

/* Refusals ----------------------------------------------------------------- */

int
console_refuse(struct console_reader *r, int err, struct slice code,
    struct slice field, struct slice text)
{
	r->out->word = CONSOLE_EVENT;
	return cluster_refuse(&r->out->event, err, code, field, text);
}

int
console_refuse_field(
    struct console_reader *r, const struct js_fields *f, const char *prefix)
{
	struct js_fields said = *f;

	/* Nothing is there to have fields. */
	if (said.field.ptr == NULL)
		said.field = SL("payload");
	r->out->word = CONSOLE_EVENT;
	return cluster_refuse_field(&r->out->event, &said, prefix, r->a);
}

static void
check_id(struct js_fields *f, const char *name, struct slice id)
{
	if (f->err != 0 || id.ptr == NULL ||
	    (id.len > 0 && id.len <= CONSOLE_ID_MAX))
		return;
	f->err = ERR_RANGE;
	f->field = slice_from(name);
}

void
console_need_id(struct js_fields *f, const char *name, struct slice *out)
{
	js_need_string(f, name, out);
	check_id(f, name, *out);
}

void
console_opt_id(struct js_fields *f, const char *name, struct slice *out)
{
	js_opt_string(f, name, out);
	check_id(f, name, *out);
}

struct request *
console_request(struct console_reader *r, struct slice id)
{
	struct event *ev = &r->out->event;

	r->out->word = CONSOLE_EVENT;
	ev->kind = EVENT_REQUEST;
	ev->request = (struct request){ .op = r->op, .id = id };
	ev->request.credential.kind = CREDENTIAL_WATCH;
	return &ev->request;
}

/* The envelope ------------------------------------------------------------- */

static bool
is_upper_type(struct slice type)
{
	for (size_t i = 0; i < type.len; i++) {
		uint8_t c = type.ptr[i];
		if (c == ':' || (c >= 'a' && c <= 'z'))
			return false;
	}
	return type.len > 0;
}

/* Flat messages have their fields beside `type`; some clients put them into
 * a payload, and nothing else beside it. */
static struct js_value
flat_body(struct js_value root)
{
	static const char *const envelope[] = { "type", "timestamp", "payload",
		"version", "id", "requestId" };
	struct js_value payload = js_get(root, "payload");
	struct js_walk i = js_walk(root);
	struct slice name;

	if (payload.kind != JS_OBJECT)
		return root;
	while (js_next(&i, &name, NULL)) {
		size_t k = 0;
		while (k < 6 && !slice_eq(name, slice_from(envelope[k])))
			k++;
		if (k == 6)
			return root;
	}
	return payload;
}

static void
read_id(struct console_reader *r, struct js_fields *f)
{
	const char *name = r->upper ? "id" : "requestId";
	struct slice id;

	js_opt_string(f, name, &id);
	if (f->err == 0 && id.len > CONSOLE_ID_MAX) {
		f->err = ERR_RANGE;
		f->field = slice_from(name);
	}
	if (f->err == 0 && id.len > 0)
		r->out->event.request_id = r->request_id = id;
}

static int
refuse_type(struct console_reader *r, struct slice type)
{
	const struct slice parts[] = { SL("there is no message type \""),
		slice_first(type, CLUSTER_WORD_MAX), SL("\" here") };
	uint8_t *text = arena_alloc(r->a, 128);
	size_t len = 0;

	if (text == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < 3; i++) {
		memcpy(text + len, parts[i].ptr, parts[i].len);
		len += parts[i].len;
	}
	return console_refuse(r, ERR_UNSUPPORTED, SL("UNKNOWN_TYPE"),
	    SL("type"), (struct slice){ text, len });
}

static unsigned
standing(const struct console_peer *p, const struct console_row *row)
{
	unsigned from = row->from;

	/* A path for one side alone does not let in the other. */
	if (p->path == CONSOLE_AGENT_ONLY && (from & FROM_AGENT) == 0)
		return 0;
	if (p->path == CONSOLE_DASHBOARD_ONLY && (from & FROM_DASHBOARD) == 0)
		return 0;
	return from & (1U << p->side);
}

static int
refuse_side(struct console_reader *r, const struct console_row *row)
{
	const struct console_peer *p = r->peer;
	bool guest = p->side == CONSOLE_GUEST &&
	    (p->path == CONSOLE_ANY || (row->from & FROM_GUEST) == 0);

	return guest
	    ? console_refuse(r, ERR_WRONG_STATE, SL("NOT_IDENTIFIED"),
		  SL("type"), SL("this connection has not said what it is"))
	    : console_refuse(r, ERR_DENIED, SL("INVALID_MESSAGE_TYPE"),
		  SL("type"), SL("this side may not say this"));
}

/* Of what its owner handles; the hub's answers are acknowledged by itself. */
static bool
wants_ack(const struct console_reader *r, const struct console_row *row)
{
	return r->upper && r->out->word != CONSOLE_EVENT &&
	    row->read != console_read_pong && row->read != console_read_ack;
}

static int
read_row(struct console_reader *r, struct slice type, struct js_value root)
{
	const struct console_row *row = find_row(type, r->upper);

	if (row == NULL)
		return refuse_type(r, type);
	r->out->limit = row->limit;
	r->op = row->op;
	if (standing(r->peer, row) == 0)
		return refuse_side(r, row);
	if (!r->upper) {
		r->body = flat_body(root);
	} else {
		struct js_fields f;
		js_fields_init(&f, root);
		js_opt_kind(&f, "payload", JS_OBJECT, &r->body);
		if (f.err != 0)
			return console_refuse_field(r, &f, "");
	}
	int err = row->read(r);
	r->out->wants_ack = wants_ack(r, row);
	return err;
}

/* A batch, or what is compressed, picks no spelling: what is in it does. */
static bool
is_wrapped(struct slice type)
{
	return slice_eq(type, SL("batch")) || slice_eq(type, SL("compressed"));
}

/* It is let in as what it claims to be, if that is let in at all. */
static enum console_limit
claimed_limit(struct slice type)
{
	const struct console_row *row =
	    type.len == 0 ? NULL : find_row(type, is_upper_type(type));

	return row == NULL || row->limit == CONSOLE_EXEMPT ? CONSOLE_COUNTED
							   : row->limit;
}

static int
read_wrapped(struct console_reader *r, struct slice type, struct js_value root)
{
	if (slice_eq(type, SL("batch")))
		return console_read_batch(r, root);
	int err = console_read_packed(r, root);
	if (err == 0 && r->out->word == CONSOLE_PACKED)
		r->out->limit = claimed_limit(r->out->packed.type);
	return err;
}

static int
read_root(struct console_reader *r, struct js_value root, bool whole)
{
	struct js_fields f;
	struct slice type;

	js_fields_init(&f, root);
	js_need_string(&f, "type", &type);
	if (f.err == 0 && r->peer->spelling == CONSOLE_UNDECIDED &&
	    !is_wrapped(type))
		r->peer->spelling =
		    is_upper_type(type) ? CONSOLE_UPPER : CONSOLE_FLAT;
	r->upper = r->peer->spelling == CONSOLE_UPPER;
	read_id(r, &f);
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	if (!is_wrapped(type))
		return read_row(r, type, root);
	if (whole)
		return read_wrapped(r, type, root);
	return console_refuse(r, ERR_UNSUPPORTED, SL("NESTED"), SL("type"),
	    SL("what is in a batch, or compressed, is a plain message"));
}

static int
read_text(struct console_reader *r, struct slice text, bool whole)
{
	struct js_doc doc;
	bool refused = false;

	r->out->word = CONSOLE_EVENT;
	if (text.len > CONSOLE_TEXT_MAX)
		return console_refuse(r, ERR_TOO_BIG, SL("INVALID_MESSAGE"),
		    none, SL("the message is too long"));
	int err = cluster_open(text, r->a, &doc, &r->out->event, &refused);
	if (err != 0 || refused)
		return err;
	return read_root(r, js_root(&doc), whole);
}

static int
decode(struct slice text, struct console_peer *p, wall_msec now,
    struct arena *a, bool whole, struct console_message *out)
{
	struct console_message m = { .event.kind = EVENT_BAD };
	struct console_peer peer = *p;
	struct console_reader r = {
		.peer = &peer, .a = a, .now = now, .out = &m
	};
	int err = read_text(&r, text, whole);

	if (err != 0)
		return err;
	*out = m;
	*p = peer;
	return 0;
}

int
console_unpack(const struct console_message *in, struct console_peer *p,
    wall_msec now, struct arena *a, struct console_message *out)
{
	struct console_message m = { .event.kind = EVENT_BAD,
		.event.request_id = in->event.request_id,
		.event.said_at = in->event.said_at };
	struct console_peer peer = *p;
	struct console_reader r = {
		.peer = &peer, .a = a, .now = now, .out = &m
	};
	struct slice inner = none;
	int err = console_inflate(&r, &in->packed, &inner);

	if (err == 0 && inner.ptr != NULL)
		err = read_text(&r, inner, false);
	if (err != 0)
		return err;
	*out = m;
	*p = peer;
	return 0;
}

int
console_decode(struct slice text, struct console_peer *p, wall_msec now,
    struct arena *a, struct console_message *out)
{
	return decode(text, p, now, a, true, out);
}

int
console_decode_part(struct slice text, struct console_peer *p, wall_msec now,
    struct arena *a, struct console_message *out)
{
	return decode(text, p, now, a, false, out);
}

/* What either side says ---------------------------------------------------- */

int
console_read_ping(struct console_reader *r)
{
	r->out->event.kind = EVENT_PING;
	return 0;
}

int
console_read_pong(struct console_reader *r)
{
	r->out->word = CONSOLE_NOTHING;
	return 0;
}

int
console_read_refresh(struct console_reader *r)
{
	const char *const token = r->upper ? "accessToken" : "token";
	struct console_refresh refresh = { 0 };
	struct js_fields f;

	js_fields_init(&f, r->body);
	js_opt_string(&f, token, &refresh.token);
	js_opt_string(&f, "refreshToken", &refresh.refresh_token);
	/* An empty one is as good as none: clients without the other send it.
	 */
	if (refresh.token.len == 0)
		refresh.token = none;
	if (refresh.refresh_token.len == 0)
		refresh.refresh_token = none;
	if (f.err == 0 && refresh.token.ptr == NULL &&
	    refresh.refresh_token.ptr == NULL) {
		f.err = ERR_MISSING;
		f.field = slice_from(token);
	}
	if (f.err != 0)
		return console_refuse_field(r, &f, "");
	r->out->word = CONSOLE_REFRESH;
	r->out->refresh = refresh;
	return 0;
}
