#include <assert.h>
#include <stdio.h>

#include "base/err.h"

#include "io/clock.h"

#include "server/ours.h"

#include "server/web_parts.h"

enum { FIELDS_MAX = 16, OURS_RATE = 3 };

/* Answers ----------------------------------------------------------------- */

/* An answer outside the HTTP machine: to a handshake that is refused. */
static void
answer_by_hand(struct conn *c, const struct http1_reply *r, struct slice body)
{
	struct buf *out = &c->dock->out;

	buf_clear(out);
	http1_put_status(out, r->status, r->at);
	for (size_t i = 0; i < r->count; i++)
		http1_put_field(out, r->fields[i].name, r->fields[i].value);
	if (r->type != NULL)
		http1_put_field(out, SL("Content-Type"), slice_from(r->type));
	http1_put_number(out, SL("Content-Length"), body.len);
	http1_put_field(out, SL("Connection"), SL("close"));
	http1_put_end(out);
	buf_put(out, body);
	if (conn_write(c, buf_peek(out)))
		conn_end(c);
}

size_t
web_cors(struct conn *c, struct http1_pair out[OURS_CORS])
{
	const struct call *call = web_of(c)->call;

	if (call == NULL)
		return 0;
	return ours_cors(c->dock->server, call->origin_is, call->origin, out);
}

/* How much of its user's share is left. */
static size_t
put_rate(struct call *call, struct http1_pair *out)
{
	static const struct slice names[] = { SL_INIT("RateLimit-Limit"),
		SL_INIT("RateLimit-Remaining"), SL_INIT("RateLimit-Reset") };

	if (call == NULL || call->rate.limit == 0)
		return 0;
	const uint32_t values[] = { call->rate.limit, call->rate.left,
		call->rate.reset };
	for (size_t i = 0; i < OURS_RATE; i++) {
		snprintf(call->rate.texts[i], sizeof(call->rate.texts[i]), "%u",
		    (unsigned)values[i]);
		out[i] = (struct http1_pair){ names[i],
			slice_from(call->rate.texts[i]) };
	}
	return OURS_RATE;
}

/* Into an array of the caller's, which the reply then uses. */
static void
add_cors(
    struct conn *c, struct http1_reply *r, struct http1_pair fields[FIELDS_MAX])
{
	assert(r->count + OURS_CORS + OURS_RATE <= FIELDS_MAX);
	if (r->count > 0)
		memcpy(fields, r->fields, r->count * sizeof(*fields));
	r->count += web_cors(c, fields + r->count);
	r->count += put_rate(web_of(c)->call, fields + r->count);
	r->fields = fields;
}

static void
answer(struct conn *c, const struct http1_reply *given, struct slice body)
{
	struct web *w = web_of(c);
	struct http1_pair fields[FIELDS_MAX];
	struct http1_reply r = *given;

	r.at = clock_wall();
	r.length = (int64_t)body.len;
	add_cors(c, &r, fields);

	if (w->call != NULL && w->call->taken) {
		answer_by_hand(c, &r, body);
		return;
	}
	struct buf *out = &c->dock->out;
	buf_clear(out);
	if (http1_server_answer(&w->http, &r, body, out) != 0) {
		conn_drop(c);
		return;
	}
	web_free_call(w);
	conn_write(c, buf_peek(out));
}

void
web_answer_with(struct conn *c, int status, const char *type, struct slice body,
    const struct http1_pair *fields, size_t count)
{
	const struct http1_reply r = {
		.status = status, .type = type, .fields = fields, .count = count
	};

	answer(c, &r, body);
}

void
web_answer(struct conn *c, int status, const char *type, struct slice body)
{
	web_answer_with(c, status, type, body, NULL, 0);
}

void
web_refuse(struct conn *c, const struct problem *p,
    const struct http1_pair *more, size_t more_count)
{
	struct call *call = web_of(c)->call;
	struct http1_pair fields[6];
	size_t n = 0;
	struct buf seconds;

	buf_init(&seconds, 32);
	if (p->retry_after > 0) {
		buf_put_u64(&seconds, p->retry_after);
		fields[n++] = (struct http1_pair){ SL("Retry-After"),
			buf_peek(&seconds) };
	}
	if (p->status == 401)
		fields[n++] = (struct http1_pair){ SL("WWW-Authenticate"),
			p->challenge.len > 0 ? p->challenge : SL("Bearer") };
	if (call != NULL && call->request_id.len > 0)
		fields[n++] =
		    (struct http1_pair){ SL("X-Request-Id"), call->request_id };
	for (size_t i = 0; i < more_count; i++)
		fields[n++] = more[i];
	struct buf *text = &c->dock->text;
	buf_clear(text);
	problem_put(
	    text, p, call != NULL ? call->request_id : (struct slice){ 0 });
	const struct http1_reply r = { .status = p->status,
		.type = "application/problem+json",
		.fields = fields,
		.count = n,
		.close = p->close };
	answer(c, &r, buf_peek(text));
	buf_fini(&seconds);
}

void
web_problem(struct conn *c, const struct problem *p)
{
	web_refuse(c, p, NULL, 0);
}

bool
web_head_only(struct conn *c)
{
	return web_of(c)->http.head_only;
}

bool
web_stream_begin(struct conn *c, int status, const char *type,
    const struct http1_pair *fields, size_t count)
{
	struct web *w = web_of(c);
	struct http1_pair all[FIELDS_MAX];
	struct http1_reply r = { .status = status,
		.at = clock_wall(),
		.length = -1,
		.type = type,
		.fields = fields,
		.count = count };

	add_cors(c, &r, all);
	buf_clear(&c->dock->out);
	if (http1_server_start(&w->http, &r, &c->dock->out) != 0) {
		conn_drop(c);
		return false;
	}
	return conn_write(c, buf_peek(&c->dock->out));
}

bool
web_stream_data(struct conn *c, struct slice data)
{
	buf_clear(&c->dock->out);
	if (http1_server_data(&web_of(c)->http, data, &c->dock->out) != 0) {
		conn_drop(c);
		return false;
	}
	return conn_write(c, buf_peek(&c->dock->out));
}

void
web_stream_end(struct conn *c)
{
	struct web *w = web_of(c);

	buf_clear(&c->dock->out);
	if (http1_server_finish(
		&w->http, &c->dock->out, loop_now(c->dock->lane.loop)) != 0) {
		conn_drop(c);
		return;
	}
	web_free_call(w);
	if (conn_write(c, buf_peek(&c->dock->out)))
		web_pump(c);
}

void
web_stream_abort(struct conn *c)
{
	web_free_call(web_of(c));
	conn_end(c);
}
