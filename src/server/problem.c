#include "base/js_write.h"

#include "wire/http1_write.h"

#include "server/problem.h"

static struct slice
default_code(int status)
{
	switch (status) {
	case 400:
		return SL("INVALID_REQUEST");
	case 401:
		return SL("UNAUTHORIZED");
	case 404:
		return SL("NOT_FOUND");
	case 405:
		return SL("METHOD_NOT_ALLOWED");
	case 413:
		return SL("TOO_LARGE");
	case 421:
		return SL("MISDIRECTED");
	case 503:
		return SL("OVERLOADED");
	default:
		return SL("ERROR");
	}
}

void
problem_put(struct buf *out, const struct problem *p, struct slice request_id)
{
	struct js_writer w;

	js_write(&w, out);
	js_begin_object(&w);
	js_kv_string(&w, "type", SL("about:blank"));
	js_kv_string(&w, "title", slice_from(http1_reason(p->status)));
	js_kv_i64(&w, "status", p->status);
	if (p->text.len > 0)
		js_kv_string(&w, "detail", p->text);
	js_kv_string(
	    &w, "code", p->code.len > 0 ? p->code : default_code(p->status));
	if (p->field.len > 0)
		js_kv_string(&w, "field", p->field);
	if (request_id.len > 0)
		js_kv_string(&w, "request_id", request_id);
	js_end(&w);
	js_finish(&w);
}
