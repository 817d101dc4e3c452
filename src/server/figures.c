#include "base/err.h"
#include "base/js_write.h"

#include "server/api.h"
#include "server/show.h"

#include "server/figures.h"

enum { DAY = 86400, HOUR = 3600 };

/* "5s" or "1m"; since: so many seconds back. */
static int
read_query(
    struct call *call, struct arena *a, struct request *q, struct slice *field)
{
	struct slice step = web_query(call, "step");
	struct slice since = web_query(call, "since");
	bool fine = slice_eq(step, SL("5s"));
	uint64_t span = fine ? HOUR : DAY;

	*field = SL("step");
	if (step.ptr != NULL && !fine && !slice_eq(step, SL("1m")))
		return ERR_INVALID;
	*field = SL("since");
	if (since.ptr != NULL && slice_u64(since, DAY, &span) != 0)
		return ERR_INVALID;
	q->limit = (uint32_t)span;
	return arena_copy(a, step, &q->filter.text);
}

void
figures_ask(struct conn *c, struct call *call)
{
	struct slice field = { 0 };
	struct arena *a;
	struct event *ev = api_question(c, call, &a);
	int err =
	    ev == NULL ? ERR_NOMEM : read_query(call, a, &ev->request, &field);

	if (err == ERR_INVALID)
		web_problem(c,
		    &(struct problem){ .status = 400,
			.field = field,
			.text = SL("step is 5s or 1m, since the seconds "
				   "back, 86400 at most") });
	else if (err != 0 || dock_post(c->dock, ev) != 0)
		web_problem(
		    c, &(struct problem){ .status = 503, .retry_after = 1 });
}

static void
put_figure(struct js_writer *w, const char *key, float value)
{
	/* Hundredths are what is kept. */
	if (value < 0)
		js_kv_null(w, key);
	else
		js_kv_double(
		    w, key, (double)(int64_t)((double)value * 100 + 0.5) / 100);
}

static void
put_figures(struct js_writer *w, struct call *call, const struct reply *r)
{
	struct slice step = web_query(call, "step");

	js_begin_object(w);
	js_kv_string(w, "schema", SL("muster.metrics/1"));
	js_kv_string(w, "agent_id", r->about);
	js_kv_string(w, "step", step.ptr == NULL ? SL("1m") : step);
	js_kv_array(w, "items");
	for (size_t i = 0; i < r->figure_count; i++) {
		const struct figures *f = &r->figures[i];
		js_begin_object(w);
		show_at(w, "at", f->at);
		put_figure(w, "cpu", f->value[FIGURE_CPU]);
		put_figure(w, "memory", f->value[FIGURE_MEMORY]);
		put_figure(w, "disk", f->value[FIGURE_DISK]);
		js_end(w);
	}
	js_end(w);
	js_end(w);
}

void
figures_answer(struct conn *c, struct call *call, const struct event *ev)
{
	struct buf *text = &c->dock->text;
	struct js_writer w;

	if (ev->kind != EVENT_REPLY)
		return;
	if (ev->reply->err != 0) {
		api_refuse(c, ev->reply);
		return;
	}
	buf_clear(text);
	js_write(&w, text);
	put_figures(&w, call, ev->reply);
	if (js_finish(&w) != 0)
		web_problem(c, &(struct problem){ .status = 503 });
	else
		web_answer(c, 200, "application/json", buf_peek(text));
}
