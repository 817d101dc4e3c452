#include "base/err.h"
#include "base/js.h"
#include "base/stamp.h"

#include "wire/execframe.h"

#include "server/outcome.h"

int
outcome_decode(
    enum event_kind kind, struct slice json, struct arena *a, struct outcome *o)
{
	const struct js_limits limits = { EXECFRAME_JSON_MAX, 8 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct js_fields in;
	struct slice text, from, to;
	int64_t code, signal, lingering, out, errors;

	if (doc == NULL || arena_copy(a, json, &text) != 0)
		return ERR_NOMEM;
	int err = js_parse(doc, text, &limits, a);
	if (err == 0 && doc->repeated.ptr != NULL)
		err = ERR_DUPLICATE;
	if (err != 0)
		return err;
	js_fields_init(&in, js_root(doc));
	if (kind == EVENT_COMMAND_EXIT)
		js_need_i64(&in, "exit_code", INT32_MIN, INT32_MAX, &code);
	else
		code = 0;
	js_opt_i64(&in, "signal", 0, 128, 0, &signal);
	js_opt_string(&in, "started_at", &from);
	if (from.ptr == NULL)
		js_opt_string(&in, "at", &from);
	js_opt_string(&in, "finished_at", &to);
	js_opt_i64(&in, "out", 0, INT64_MAX, 0, &out);
	js_opt_i64(&in, "err", 0, INT64_MAX, 0, &errors);
	js_opt_bool(&in, "timed_out", false, &o->timed_out);
	js_opt_bool(&in, "interrupted", false, &o->interrupted);
	js_opt_bool(&in, "stopped", false, &o->stopped);
	js_opt_i64(&in, "lingering", 0, INT32_MAX, 0, &lingering);
	js_opt_string(&in, "code", &o->code);
	js_opt_string(&in, "why", &o->why);
	if (in.err != 0)
		return in.err;
	o->exit_code = (int)code;
	o->signal = (int)signal;
	o->lingering = (uint32_t)lingering;
	o->out_bytes = (uint64_t)out;
	o->err_bytes = (uint64_t)errors;
	if (from.len > 0)
		stamp_parse(from, &o->started_at);
	if (to.len > 0)
		stamp_parse(to, &o->finished_at);
	return 0;
}
