#include <assert.h>

#include "base/err.h"

#include "wire/http1_client.h"

enum state {
	CLIENT_IDLE,
	CLIENT_HEAD, /* asked, waiting for a head */
	CLIENT_BODY,
	CLIENT_RAW, /* after 101 */
	CLIENT_BAD, /* told */
	CLIENT_STATES,
};

void
http1_client_init(struct http1_client *c, uint64_t body_cap)
{
	*c = (struct http1_client){ .body_cap = body_cap, .keep_alive = true };
	http1_input_init(&c->input);
}

void
http1_client_fini(struct http1_client *c)
{
	http1_input_fini(&c->input);
}

static bool
framing_name(struct slice name)
{
	return slice_eq_nocase(name, SL("content-length")) ||
	    slice_eq_nocase(name, SL("transfer-encoding")) ||
	    slice_eq_nocase(name, SL("host"));
}

/* RFC 9110 8.6: methods that are expected to have a body say so even when
 * it is empty. */
static bool
wants_length(const struct http1_ask *ask)
{
	return ask->length > 0 || slice_eq(ask->method, SL("POST")) ||
	    slice_eq(ask->method, SL("PUT")) ||
	    slice_eq(ask->method, SL("PATCH"));
}

static void
put_framing(const struct http1_ask *ask, struct buf *out)
{
	if (ask->length < 0)
		http1_put_field(out, SL("Transfer-Encoding"), SL("chunked"));
	else if (wants_length(ask))
		http1_put_number(
		    out, SL("Content-Length"), (uint64_t)ask->length);
}

int
http1_client_ask(
    struct http1_client *c, const struct http1_ask *ask, struct buf *out)
{
	if (c->state != CLIENT_IDLE || !c->keep_alive || c->ended)
		return ERR_WRONG_STATE;
	for (size_t i = 0; i < ask->count; i++) {
		if (framing_name(ask->fields[i].name))
			return ERR_INVALID;
	}
	http1_put_request(out, ask->method, ask->target, ask->host);
	for (size_t i = 0; i < ask->count; i++)
		http1_put_field(out, ask->fields[i].name, ask->fields[i].value);
	put_framing(ask, out);
	http1_put_end(out);
	if (out->err != 0)
		return out->err;
	c->sender.how = ask->length < 0 ? HTTP1_SEND_CHUNKED : HTTP1_SEND_SIZED;
	c->sender.left = ask->length < 0 ? 0 : (uint64_t)ask->length;
	c->head_only = slice_eq(ask->method, SL("HEAD"));
	c->upgrade = ask->upgrade;
	c->state = CLIENT_HEAD;
	return 0;
}

int
http1_client_data(struct http1_client *c, struct slice data, struct buf *out)
{
	int err = http1_send_data(&c->sender, out, data);

	return err != 0 ? err : out->err;
}

int
http1_client_finish_with(struct http1_client *c,
    const struct http1_pair *trailers, size_t count, struct buf *out)
{
	int err = http1_send_trailers(&c->sender, out, trailers, count);

	return err != 0 ? err : out->err;
}

int
http1_client_finish(struct http1_client *c, struct buf *out)
{
	return http1_client_finish_with(c, NULL, 0, out);
}

int
http1_client_wrap(struct http1_client *c, size_t n, struct http1_wrap *out)
{
	return http1_send_wrap(&c->sender, n, out);
}

void
http1_client_trailers(struct http1_client *c)
{
	buf_clear(&c->input.trailers);
	c->body.keep = &c->input.trailers;
}

void
http1_client_feed(struct http1_client *c, struct slice bytes)
{
	assert(c->input.fed.len == 0);
	c->input.fed = bytes;
}

void
http1_client_eof(struct http1_client *c)
{
	c->ended = true;
}

static bool
give(struct http1_event *ev, enum http1_kind kind)
{
	*ev = (struct http1_event){ .kind = kind };
	return true;
}

static bool
fail(struct http1_client *c, struct http1_event *ev, const char *why)
{
	http1_input_drop(&c->input);
	c->state = CLIENT_BAD;
	c->keep_alive = false;
	give(ev, HTTP1_BAD);
	ev->status = 502;
	ev->why = why;
	return true;
}

/* Nothing was asked, so nothing may be answered. */
static bool
on_idle(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	(void)scratch;
	if (!http1_input_empty(&c->input))
		return fail(c, ev, "Bytes came that nobody asked for.");
	return false;
}

static void
begin_body(struct http1_client *c, const struct http1_head *h)
{
	http1_body_response(&c->body, h, c->head_only, UINT64_MAX);
	c->body.cap = c->body_cap;
	c->keep_alive = h->keep_alive && !http1_body_until_close(&c->body);
	c->state = CLIENT_BODY;
}

static bool
on_head(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	struct http1_head *h;
	int n = http1_input_head(&c->input, http1_parse_response, scratch, &h);

	if (n == ERR_NOMEM)
		return fail(c, ev, "There is no memory left.");
	if (n < 0)
		return fail(c, ev, h->why);
	if (n == 0 && c->ended)
		return fail(c, ev, "The connection ended before an answer.");
	if (n == 0)
		return false;
	if (h->status == 101 && !c->upgrade)
		return fail(c, ev, "Nobody asked to switch protocols.");
	if (h->status == 101)
		c->state = CLIENT_RAW;
	else if (h->status >= 200)
		begin_body(c, h);
	give(ev, HTTP1_RESPONSE);
	ev->head = h;
	ev->status = h->status;
	return true;
}

static bool
end(struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	const struct http1_head *trailers = NULL;
	int n = http1_input_trailers(&c->input, &c->body, scratch, &trailers);

	if (n == ERR_NOMEM)
		return fail(c, ev, "There is no memory left.");
	if (n < 0)
		return fail(c, ev, scratch->why);
	/* An answer before the request was complete: RFC 9112 9.5. */
	if (c->sender.how != HTTP1_SEND_NONE)
		c->keep_alive = false;
	c->state = CLIENT_IDLE;
	give(ev, HTTP1_END);
	ev->head = trailers;
	return true;
}

static bool
on_body(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	struct slice data;
	int n = 1;

	if (c->body.total > c->body.cap)
		return fail(c, ev, "The body is too large.");
	while (!c->body.done && n > 0) {
		n = http1_body_feed(
		    &c->body, http1_input_peek(&c->input), &data);
		if (n < 0)
			return fail(c, ev, c->body.why);
		http1_input_eat(&c->input, (size_t)n);
		if (data.len > 0) {
			give(ev, HTTP1_BODY);
			ev->data = data;
			return true;
		}
	}
	if (c->body.done || (c->ended && http1_body_until_close(&c->body)))
		return end(c, scratch, ev);
	return c->ended && fail(c, ev, "The body ended early.");
}

static bool
on_rest(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	(void)scratch;
	(void)ev;
	if (c->state == CLIENT_BAD)
		http1_input_drop(&c->input);
	return false;
}

typedef bool next_fn(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev);

static next_fn *const on_state[CLIENT_STATES] = {
	[CLIENT_IDLE] = on_idle,
	[CLIENT_HEAD] = on_head,
	[CLIENT_BODY] = on_body,
	[CLIENT_RAW] = on_rest,
	[CLIENT_BAD] = on_rest,
};

bool
http1_client_next(
    struct http1_client *c, struct http1_head *scratch, struct http1_event *ev)
{
	if (c->state != CLIENT_RAW)
		http1_input_settle(&c->input);
	return on_state[c->state](c, scratch, ev);
}

int
http1_client_upgrade(struct http1_client *c, struct slice *rest)
{
	int err;

	if (c->state != CLIENT_RAW)
		return ERR_WRONG_STATE;
	err = http1_input_rest(&c->input, rest);
	if (err == 0)
		c->input.fed = (struct slice){ 0 };
	return err;
}

bool
http1_client_reusable(const struct http1_client *c)
{
	return c->state == CLIENT_IDLE && c->keep_alive && !c->ended &&
	    http1_input_empty(&c->input);
}
