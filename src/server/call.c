#include "base/alloc.h"

#include "server/call.h"
#include "server/credential.h"
#include "server/gateway.h"

enum { ARENA_MAX = 64 * 1024 * 1024, EARLY_MAX = 64 * 1024 };

void
call_free(struct call *call)
{
	if (call == NULL)
		return;
	gateway_forget(call);
	buf_fini(&call->body);
	buf_fini(&call->early);
	arena_fini(&call->arena);
	alloc_free(call);
}

struct slice
call_keep(struct call *call, struct slice s)
{
	struct slice copy = { 0 };

	if (arena_copy(&call->arena, s, &copy) != 0)
		return (struct slice){ 0 };
	return copy;
}

static void
make_request_id(struct dock *d, struct call *call, const struct http1_head *h)
{
	struct slice given = http1_field(h, "X-Request-Id");
	struct buf text;

	if (given.len > 0 && given.len <= 64) {
		call->request_id = call_keep(call, given);
		return;
	}
	buf_init(&text, 64);
	buf_put(&text, SL("req_"));
	buf_put_u64(&text, d->request_base >> 20);
	buf_put_byte(&text, '_');
	buf_put_u64(&text, ++d->request_count);
	call->request_id = call_keep(call, buf_peek(&text));
	buf_fini(&text);
}

struct call *
call_new(struct conn *c, const struct http1_head *h)
{
	struct call *call = alloc_new(sizeof(*call));
	struct buf *redacted = &c->dock->text;

	if (call == NULL)
		return NULL;
	arena_init(&call->arena, ARENA_MAX);
	buf_init(&call->body, BODY_DEFAULT);
	buf_init(&call->early, EARLY_MAX);
	call->query = call_keep(call, h->query);
	buf_clear(redacted);
	url_put_redacted(redacted, h->target);
	call->target = call_keep(call, buf_peek(redacted));
	call->request_key = call_keep(call, http1_field(h, "Idempotency-Key"));
	call->range = call_keep(call, http1_field(h, "Range"));
	call->last_event = call_keep(call, http1_field(h, "Last-Event-ID"));
	call->cookie_mark = call_keep(call, http1_field(h, "X-Muster"));
	call->safe =
	    slice_eq(h->method, SL("GET")) || slice_eq(h->method, SL("HEAD"));
	call->origin = call_keep(call, http1_field(h, "Origin"));
	call->origin_is = http1_count(h, "Origin") > 1
	    ? ORIGIN_FOREIGN
	    : ours_origin(c->dock->server, call->origin);
	make_request_id(c->dock, call, h);
	credential_locate(c, call, h);
	return call;
}
