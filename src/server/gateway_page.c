#include "io/clock.h"

#include "server/gateway_parts.h"

struct slice
gateway_hop_name(enum exchange_hop hop)
{
	static const struct slice names[] = {
		[HOP_VISITOR] = SL_INIT("visitor"),
		[HOP_CONTROLLER] = SL_INIT("controller"),
		[HOP_AGENT] = SL_INIT("agent"),
		[HOP_SERVICE] = SL_INIT("service"),
	};

	return names[hop];
}

/* Text between tags or in an attribute. */
static void
put_text(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		switch (s.ptr[i]) {
		case '<':
			buf_put(b, SL("&lt;"));
			break;
		case '>':
			buf_put(b, SL("&gt;"));
			break;
		case '&':
			buf_put(b, SL("&amp;"));
			break;
		case '"':
			buf_put(b, SL("&quot;"));
			break;
		default:
			buf_put_byte(b, s.ptr[i]);
			break;
		}
	}
}

/* The way as a list, with the part that failed marked. */
static void
put_way(struct buf *b, enum exchange_hop failed)
{
	for (int hop = HOP_VISITOR; hop <= HOP_SERVICE; hop++) {
		bool here = hop == (int)failed;
		buf_put(b, here ? SL("<li class=bad>") : SL("<li>"));
		buf_put(b, gateway_hop_name((enum exchange_hop)hop));
		buf_put(b, here ? SL(" &#10007;</li>") : SL("</li>"));
	}
}

static void
put_page(struct buf *b, const struct gateway_no *no, struct slice request_id)
{
	buf_put(b,
	    SL("<!doctype html>\n<html lang=en><meta charset=utf-8>"
	       "<meta name=viewport content=\"width=device-width\">\n<title>"));
	buf_put_u64(b, (uint64_t)no->status);
	buf_put_byte(b, ' ');
	buf_put(b, slice_from(http1_reason(no->status)));
	buf_put(b,
	    SL("</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;"
	       "max-width:40em;margin:4em auto;padding:0 1em;color:#222;"
	       "background:#fff}ol{display:flex;flex-wrap:wrap;gap:.5em 1.5em;"
	       "padding:0;list-style:none}li+li:before{content:\"\\2192  \"}"
	       ".bad{color:#b00020;font-weight:600}small{color:#666}"
	       "@media(prefers-color-scheme:dark){body{color:#ddd;"
	       "background:#181818}.bad{color:#ff8a80}small{color:#999}}"
	       "</style>\n<h1>"));
	buf_put(b, slice_from(http1_reason(no->status)));
	buf_put(b, SL("</h1>\n<p>"));
	put_text(b, no->text);
	buf_put(b, SL(".</p>\n<ol>"));
	put_way(b, no->hop);
	buf_put(b, SL("</ol>\n<p><small>"));
	buf_put_u64(b, (uint64_t)no->status);
	buf_put_byte(b, ' ');
	put_text(b, no->code);
	buf_put(b, SL(", request "));
	put_text(b, request_id);
	buf_put(b, SL("</small></p>\n</html>\n"));
}

/* As server/problem, with the part of the way that failed. */
static void
put_problem(struct buf *b, const struct gateway_no *no, struct slice request_id)
{
	const struct problem p = {
		.status = no->status, .code = no->code, .text = no->text
	};

	problem_put(b, &p, request_id);
	/* One more member at the end of the object. */
	if (b->err == 0 && b->tail > b->head && b->mem[b->tail - 1] == '}') {
		b->tail--;
		buf_put(b, SL(",\"hop\":\""));
		buf_put(b, gateway_hop_name(no->hop));
		buf_put(b, SL("\"}"));
	}
}

void
gateway_refuse(struct conn *c, const struct gateway_no *no)
{
	static const struct http1_pair guard[] = {
		{ SL_INIT("Cache-Control"), SL_INIT("no-store") },
		{ SL_INIT("Content-Security-Policy"),
		    SL_INIT("default-src 'none'; style-src 'unsafe-inline'; "
			    "frame-ancestors 'none'") },
		{ SL_INIT("X-Content-Type-Options"), SL_INIT("nosniff") },
	};
	enum { GUARDS = sizeof(guard) / sizeof(guard[0]), SECONDS = 16 };
	struct web *w = web_of(c);
	struct call *call = w->call;
	struct buf *text = &c->dock->text, *out = &c->dock->out;
	struct http1_pair fields[GUARDS + 4];
	bool page = call->visit != NULL && call->visit->wants_page;
	struct buf seconds;
	size_t n = GUARDS;

	memcpy(fields, guard, sizeof(guard));
	fields[n++] =
	    (struct http1_pair){ SL("X-Request-Id"), call->request_id };
	buf_init(&seconds, SECONDS);
	buf_clear(text);
	if (no->location.len > 0) {
		fields[n++] =
		    (struct http1_pair){ SL("Location"), no->location };
	} else if (page) {
		put_page(text, no, call->request_id);
	} else {
		put_problem(text, no, call->request_id);
	}
	if (no->cookie.len > 0)
		fields[n++] =
		    (struct http1_pair){ SL("Set-Cookie"), no->cookie };
	if (no->retry_after > 0) {
		buf_put_u64(&seconds, no->retry_after);
		fields[n++] = (struct http1_pair){ SL("Retry-After"),
			buf_peek(&seconds) };
	}
	const struct http1_reply r = { .status = no->status,
		.at = clock_wall(),
		.type = no->location.len > 0 ? NULL
		    : page                   ? "text/html; charset=utf-8"
					     : "application/problem+json",
		.fields = fields,
		.count = n,
		.close = no->close };
	buf_clear(out);
	int err = text->err != 0
	    ? text->err
	    : http1_server_answer(&w->http, &r, buf_peek(text), out);
	buf_fini(&seconds);
	web_free_call(w);
	if (err != 0)
		conn_drop(c);
	else
		conn_write(c, buf_peek(out));
}
