#include "base/err.h"
#include "base/js.h"

#include "server/api.h"

#include "server/broadcast.h"

enum { ID_MAX = 128, TEXT_MAX = 16 * 1024 };

static bool
is_status(struct slice word)
{
	return slice_eq(word, SL("online")) || slice_eq(word, SL("busy")) ||
	    slice_eq(word, SL("error")) || slice_eq(word, SL("offline"));
}

/* 0, or ERR_* with the field that is wrong. */
static int
read_body(
    struct slice body, struct arena *a, struct request *q, struct slice *field)
{
	const struct js_limits limits = { 64 * 1024, 16 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields f;
	int err = doc == NULL ? ERR_NOMEM : js_parse(doc, body, &limits, a);

	if (err == 0 && doc->repeated.ptr != NULL) {
		*field = doc->repeated;
		err = ERR_DUPLICATE;
	}
	if (err != 0)
		return err;
	js_fields_init(&f, js_root(doc));
	js_need_string(&f, "agentId", &q->id);
	if (q->op == OP_BROADCAST_STATUS) {
		js_need_string(&f, "status", &q->word);
	} else {
		js_need_string(&f, "sessionId", &q->session_id);
		js_need_string(&f, "lastMessage", &q->word);
	}
	*field = f.field;
	if (f.err != 0)
		return f.err;
	if (q->op == OP_BROADCAST_STATUS && !is_status(q->word)) {
		*field = SL("status");
		return ERR_RANGE;
	}
	*field =
	    q->session_id.len > ID_MAX ? SL("sessionId") : SL("lastMessage");
	return q->session_id.len > ID_MAX || q->word.len > TEXT_MAX
	    ? ERR_TOO_BIG
	    : 0;
}

static void
refuse(struct conn *c, int err, struct slice field)
{
	web_problem(c,
	    &(struct problem){ .status = err == ERR_NOMEM ? 503 : 400,
		.field = field,
		.text = err == ERR_MISSING ? SL("a member is missing")
		    : err == ERR_TYPE      ? SL("a member has the wrong type")
		    : err == ERR_RANGE
		    ? SL("status is online, busy, error or offline")
		    : err == ERR_TOO_BIG ? SL("a member is too long")
		    : err == ERR_DUPLICATE
		    ? SL("a member occurs twice")
		    : SL("the body is not the payload of an event") });
}

void
broadcast_ask(struct conn *c, struct call *call)
{
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	struct slice body, field = { 0 };
	int err = ev == NULL ? ERR_NOMEM
			     : arena_copy(a, buf_peek(&call->body), &body);

	if (err == 0)
		err = read_body(body, a, &ev->request, &field);
	if (err != 0)
		refuse(c, err, field);
	else if (dock_post(c->dock, ev) != 0)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
}
