/* What a believed envelope says. */
#include "base/err.h"
#include "base/js_write.h"
#include "base/utf8.h"

#include "wire/ws.h"

#include "model/verbs.h"

#include "dialect/signed.h"

struct reader {
	struct signed_peer *p;
	const struct signed_envelope *e;
	struct js_value payload;
	msec now;
	wall_msec wall;
	struct arena *a;
	struct signed_message *out;
};

static int
bad(struct reader *r, struct slice field)
{
	r->out->word = SIGNED_BAD;
	return arena_copy(
	    r->a, field.ptr == NULL ? SL("payload") : field, &r->out->field);
}

static struct event *
event(struct reader *r, enum event_kind kind)
{
	r->out->word = SIGNED_EVENT;
	r->out->event.kind = kind;
	r->out->event.said_at = r->e->ts;
	return &r->out->event;
}

/* Text at most so long, cut between characters. */
static struct slice
first_bytes(struct slice s, size_t max)
{
	if (s.len <= max)
		return s;
	while (max > 0 && (s.ptr[max] & 0xc0) == 0x80)
		max--;
	return slice_first(s, max);
}

/* auth --------------------------------------------------------------------- */

static int
put_info(struct reader *r, struct slice hostname, struct slice version,
    struct slice *out)
{
	struct js_writer w;
	struct buf b;

	buf_init(&b, 64 * 1024);
	js_write(&w, &b);
	js_begin_object(&w);
	if (hostname.len > 0)
		js_kv_string(&w, "hostname", hostname);
	if (version.len > 0)
		js_kv_string(&w, "version", version);
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = arena_copy(r->a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

static bool
is_name(struct slice s)
{
	if (s.len == 0 || s.len > 255)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return false;
	}
	return true;
}

static int
read_auth(struct reader *r)
{
	struct js_fields f;
	struct slice hostname, version;

	js_fields_init(&f, r->payload);
	js_opt_string(&f, "hostname", &hostname);
	js_opt_string(&f, "version", &version);
	if (f.err != 0)
		return bad(r, f.field);
	hostname = first_bytes(hostname, SIGNED_WORD_MAX);
	version = first_bytes(version, SIGNED_WORD_MAX);
	struct registration *g = &event(r, EVENT_REGISTER)->registration;
	g->agent_id = r->p->agent_id;
	if (is_name(hostname))
		g->name = hostname;
	g->version = version;
	r->p->introduced = true;
	return put_info(r, hostname, version, &g->info_json);
}

/* metrics, heartbeat ------------------------------------------------------- */

/* The figures of it, as they were said. */
static int
keep_figures(struct reader *r, struct slice *out)
{
	struct js_walk i = js_walk(r->payload);
	struct slice name;
	struct js_value v;
	struct js_writer w;
	struct buf b;
	double d;

	buf_init(&b, 2 * SIGNED_METRICS_MAX);
	js_write(&w, &b);
	js_begin_object(&w);
	while (
	    buf_peek(&b).len < SIGNED_METRICS_MAX && js_next(&i, &name, &v)) {
		if (v.kind != JS_NUMBER || js_double(v, &d) != 0 ||
		    name.len > 64 || js_raw(v).len > 64)
			continue;
		js_key(&w, name);
		js_put_raw(&w, js_raw(v));
	}
	js_end(&w);
	int err = js_finish(&w);
	if (err == 0)
		err = arena_copy(r->a, buf_peek(&b), out);
	buf_fini(&b);
	return err;
}

static int
read_metrics(struct reader *r)
{
	if (r->payload.kind != JS_OBJECT)
		return bad(r, SL("payload"));
	return keep_figures(
	    r, &event(r, EVENT_HEARTBEAT)->heartbeat.metadata_json);
}

static int
read_heartbeat(struct reader *r)
{
	struct js_fields f;
	struct slice status;

	js_fields_init(&f, r->payload);
	js_opt_string(&f, "status", &status);
	if (f.err != 0)
		return bad(r, f.field);
	event(r, EVENT_HEARTBEAT)->heartbeat.status = status.len == 0
	    ? SL("alive")
	    : first_bytes(status, SIGNED_WORD_MAX);
	return 0;
}

/* log ---------------------------------------------------------------------- */

static int
read_log(struct reader *r)
{
	struct js_fields f;
	struct slice level, message, source;

	js_fields_init(&f, r->payload);
	js_opt_string(&f, "level", &level);
	js_need_string(&f, "message", &message);
	js_opt_string(&f, "source", &source);
	if (f.err != 0)
		return bad(r, f.field);
	struct log_record *l = &event(r, EVENT_LOG)->log;
	l->agent_id = r->p->agent_id;
	l->level = level.len == 0 ? SL("info") : first_bytes(level, 16);
	l->message = first_bytes(message, SIGNED_LOG_MAX);
	l->source = first_bytes(source, SIGNED_WORD_MAX);
	l->said_at = r->e->ts;
	l->at = r->wall;
	return 0;
}

/* command_result ----------------------------------------------------------- */

static void
drop_orders(struct signed_peer *p, size_t n)
{
	p->order_count -= n;
	memmove(
	    p->orders, p->orders + n, p->order_count * sizeof(p->orders[0]));
}

/*
 * Agents run what they are given one after the other.  So a result is of the
 * oldest command with that verb, unless nobody has waited for that one for
 * so long that it must have been dropped; and with it all before it are
 * answered or never will be.
 */
static bool
find_order(struct reader *r, struct slice verb, struct signed_order *out)
{
	struct signed_peer *p = r->p;
	int number = verbs_find(verb);

	for (size_t i = 0; i < p->order_count; i++) {
		struct signed_order *o = &p->orders[i];
		if (o->verb != number ||
		    (o->over && r->now - o->over_at > SIGNED_LATE))
			continue;
		*out = *o;
		drop_orders(p, i + 1);
		return true;
	}
	return false;
}

/* As it would stand on a terminal. */
static int
as_line(struct reader *r, struct slice s, struct slice *out)
{
	const struct slice end = SL("\n");

	*out = (struct slice){ 0 };
	if (s.len == 0 || slice_ends(s, end))
		return s.len == 0 ? 0 : arena_copy(r->a, s, out);
	uint8_t *text = arena_alloc(r->a, s.len + 1);
	if (text == NULL)
		return ERR_NOMEM;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\n';
	*out = (struct slice){ text, s.len + 1 };
	return 0;
}

static int
put_outcome(struct reader *r, const struct signed_order *order,
    struct slice result, struct slice error)
{
	struct outcome *o = &event(r, EVENT_AGENT_ENDED)->outcome;
	int err = arena_copy(
	    r->a, (struct slice){ order->id, order->id_len }, &o->command_id);

	if (err == 0)
		err = as_line(r, result, &o->out);
	if (err == 0)
		err = as_line(r, error, &o->err);
	o->out_bytes = o->out.len;
	o->err_bytes = o->err.len;
	o->started_at = order->wall;
	o->finished_at = r->wall;
	o->exit_code = error.len > 0;
	r->out->took = r->now - order->given_at;
	return err;
}

static int
read_result(struct reader *r)
{
	struct signed_order order;
	struct js_fields f;
	struct slice verb, error;
	struct js_value result;

	js_fields_init(&f, r->payload);
	js_need_string(&f, "command", &verb);
	js_opt_string(&f, "error", &error);
	result = js_field(&f, "result");
	if (f.err != 0)
		return bad(r, f.field);
	if (!find_order(r, verb, &order) || order.over) {
		r->out->word = SIGNED_STRAY;
		return arena_copy(
		    r->a, first_bytes(verb, SIGNED_WORD_MAX), &r->out->verb);
	}
	/* Those that say more than a sentence say it in JSON. */
	struct slice text = js_raw(result);
	if (result.kind == JS_STRING)
		js_string(result, &text);
	else if (result.kind == JS_NULL)
		text = (struct slice){ 0 };
	return put_outcome(r, &order, text, error);
}

/* All ---------------------------------------------------------------------- */

enum weight { LIGHT, HEAVY }; /* whether it is dropped when it is too much */

static const struct type {
	struct slice name;
	enum weight weight;
	int (*read)(struct reader *r);
} types[] = {
	{ SL_INIT("metrics"), LIGHT, read_metrics },
	{ SL_INIT("heartbeat"), LIGHT, read_heartbeat },
	{ SL_INIT("log"), LIGHT, read_log },
	{ SL_INIT("auth"), HEAVY, read_auth },
	{ SL_INIT("command_result"), HEAVY, read_result },
};

static const struct type *
find_type(struct slice name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (slice_eq(types[i].name, name))
			return &types[i];
	}
	return NULL;
}

/* Whether it keeps to its rate. */
static bool
take_token(struct signed_peer *p, msec now)
{
	const msec each = 1000 / SIGNED_RATE;
	msec more = (now - p->filled_at) / each;

	p->filled_at += more * each;
	p->tokens_used =
	    more >= p->tokens_used ? 0 : p->tokens_used - (uint32_t)more;
	if (p->tokens_used == 0)
		p->surplus = 0;
	if (p->tokens_used == SIGNED_BURST) {
		p->surplus++;
		return false;
	}
	p->tokens_used++;
	return true;
}

/* Whoever is believed is there, whatever it says first. */
static void
register_first(struct reader *r)
{
	r->out->registers =
	    !r->p->registered && r->out->event.kind != EVENT_REGISTER;
	r->p->registered = true;
	r->out->registration = (struct event){ .kind = EVENT_REGISTER,
		.said_at = r->e->ts,
		.registration = { .agent_id = r->p->agent_id } };
}

int
signed_decode(struct signed_peer *p, const struct signed_envelope *e,
    const struct signed_context *c, struct signed_message *out,
    struct signed_refusal *no)
{
	struct reader r = { .p = p,
		.e = e,
		.payload = js_get(js_root(&e->doc), "payload"),
		.now = c->now,
		.wall = c->wall,
		.a = c->a,
		.out = out };
	const struct type *type = find_type(e->type);
	bool fits = take_token(p, c->now);
	int err = 0;

	*out = (struct signed_message){ .word = SIGNED_NOTHING };
	*no = (struct signed_refusal){ 0 };
	if (p->surplus > SIGNED_SURPLUS) {
		*no = (struct signed_refusal){ WS_CODE_POLICY,
			SL("rate_limited"), ERR_LIMITED };
		return 0;
	}
	if (type == NULL)
		out->word = SIGNED_IGNORED;
	else if (!fits && type->weight == LIGHT)
		out->word = SIGNED_DROPPED;
	else
		err = type->read(&r);
	if (err == 0)
		register_first(&r);
	return err;
}
