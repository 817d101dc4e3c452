/*
 * Output of commands, and the short words of the connection itself.
 */
#include "base/err.h"

#include "dialect/console_parts.h"

/* Output --------------------------------------------------------------------
 */

static void
say_flat(struct console_say *s, const struct console_output *o)
{
	static const char *const streams[] = {
		[CONSOLE_STDOUT] = "stdout",
		[CONSOLE_STDERR] = "stderr",
		[CONSOLE_SYSTEM] = "system",
		[CONSOLE_COMMAND_LINE] = "command",
	};

	if (!console_begin(s, "terminal:output"))
		return;
	js_kv_string(&s->w, "agentId", o->agent_id);
	js_kv_string(&s->w, "commandId", o->command_id);
	js_kv_object(&s->w, "output");
	js_kv_string(&s->w, "type", slice_from(streams[o->stream]));
	js_kv_string(&s->w, "content", o->content);
	console_put_at(s, "timestamp", o->at);
	js_end(&s->w);
	js_kv_u64(&s->w, "offset", o->offset);
	console_end(s);
}

static void
say_upper(struct console_say *s, const struct console_output *o)
{
	bool escapes = slice_find(o->content, 0x1b) < o->content.len;

	if (o->stream > CONSOLE_STDERR || !console_begin(s, "TERMINAL_STREAM"))
		return;
	js_kv_string(&s->w, "commandId", o->command_id);
	js_kv_string(&s->w, "agentId", o->agent_id);
	js_kv_string(&s->w, "content", o->content);
	js_kv_string(&s->w, "streamType",
	    o->stream == CONSOLE_STDERR ? slice_from("STDERR")
					: slice_from("STDOUT"));
	js_kv_bool(&s->w, "ansiCodes", escapes);
	js_kv_u64(&s->w, "offset", o->offset);
	console_put_at(s, "timestamp", o->at);
	console_end(s);
}

int
console_encode_output(const struct console_output *o,
    const struct console_context *c, struct buf *out)
{
	struct console_say s;

	console_say_init(&s, c, 0, out);
	if (c->spelling == CONSOLE_UPPER)
		say_upper(&s, o);
	else
		say_flat(&s, o);
	return s.done;
}

uint64_t
console_carry_feed(struct console_carry *c, uint64_t offset, struct slice bytes,
    struct buf *text)
{
	if (offset != c->next)
		utf8_mend_end(&c->mender, text);
	uint64_t at = offset - c->mender.count;
	utf8_mend(&c->mender, bytes, text);
	c->next = offset + bytes.len;
	return at;
}

uint64_t
console_carry_end(struct console_carry *c, struct buf *text)
{
	uint64_t at = c->next - c->mender.count;

	utf8_mend_end(&c->mender, text);
	return at;
}

/* The connection ------------------------------------------------------------
 */

int
console_encode_ping(const struct console_context *c, struct buf *out)
{
	bool upper = c->spelling == CONSOLE_UPPER;
	struct console_say s;

	console_say_init(&s, c, 0, out);
	if (console_begin(&s, upper ? "PING" : "heartbeat:ping")) {
		if (upper)
			js_kv_i64(&s.w, "timestamp", c->now);
		console_end(&s);
	}
	return s.done;
}

int
console_encode_ack(
    struct slice request_id, const struct console_context *c, struct buf *out)
{
	const struct event ev = { .kind = EVENT_ACCEPTED,
		.request_id = request_id };

	return c->spelling == CONSOLE_UPPER ? console_encode(&ev, c, 0, out)
					    : 0;
}

static void
put_renewed(struct console_say *s, const struct console_renewed *r)
{
	bool upper = s->c->spelling == CONSOLE_UPPER;
	wall_msec left = r->expires_at - s->c->now;

	console_put_some(s, upper ? "accessToken" : "token", r->token);
	console_put_some(s, "refreshToken", r->refresh_token);
	if (r->expires_at != 0)
		js_kv_i64(&s->w, "expiresIn", left > 0 ? left / 1000 : 0);
}

int
console_encode_renewed(const struct console_renewed *r, struct slice request_id,
    const struct console_context *c, struct buf *out)
{
	bool upper = c->spelling == CONSOLE_UPPER;
	struct console_say s;

	/* One that the client brought itself it need not be told. */
	if (upper && r->token.len == 0)
		return console_encode_ack(request_id, c, out);
	console_say_init(&s, c, 0, out);
	if (console_begin(
		&s, upper ? "TOKEN_REFRESH" : "auth:refresh-success")) {
		put_renewed(&s, r);
		console_put_some(
		    &s, upper ? "originalMessageId" : "requestId", request_id);
		console_end(&s);
	}
	return s.done;
}

int
console_encode_not_renewed(struct slice code, struct slice text,
    struct slice request_id, const struct console_context *c, struct buf *out)
{
	struct console_say s;

	if (c->spelling == CONSOLE_UPPER)
		return console_encode_trouble(
		    code, text, 0, NULL, request_id, c, out);
	console_say_init(&s, c, 0, out);
	if (console_begin(&s, "auth:refresh-failed")) {
		js_kv_string(&s.w, "error", text);
		js_kv_string(&s.w, "code", code);
		console_put_some(&s, "requestId", request_id);
		console_end(&s);
	}
	return s.done;
}

/* Trouble -------------------------------------------------------------------
 */

static void
put_window(
    struct console_say *s, const char *key, uint32_t used, uint32_t limit)
{
	if (limit == 0)
		return;
	js_kv_object(&s->w, key);
	js_kv_u64(&s->w, "used", used);
	js_kv_u64(&s->w, "limit", limit);
	js_end(&s->w);
}

static void
put_limits(struct console_say *s, uint32_t retry_after,
    const struct console_windows *w)
{
	if (retry_after > 0)
		js_kv_u64(&s->w, "retryAfter", retry_after);
	if (w == NULL)
		return;
	js_kv_object(&s->w, "limits");
	put_window(s, "perMinute", w->minute.used, w->minute.limit);
	put_window(s, "perHour", w->hour.used, w->hour.limit);
	put_window(s, "burst", w->burst.used, w->burst.limit);
	js_end(&s->w);
}

int
console_encode_trouble(struct slice code, struct slice text,
    uint32_t retry_after, const struct console_windows *windows,
    struct slice request_id, const struct console_context *c, struct buf *out)
{
	bool upper = c->spelling == CONSOLE_UPPER;
	struct console_say s;

	console_say_init(&s, c, 0, out);
	if (!console_begin(&s, upper ? "ERROR" : "connection:error"))
		return s.done;
	js_kv_string(&s.w, upper ? "message" : "error", text);
	js_kv_string(&s.w, "code", code);
	if (upper) {
		js_kv_object(&s.w, "details");
		js_kv_string(&s.w, "code", code);
	}
	put_limits(&s, retry_after, windows);
	if (upper)
		js_end(&s.w);
	console_put_some(
	    &s, upper ? "originalMessageId" : "requestId", request_id);
	console_end(&s);
	return s.done;
}
