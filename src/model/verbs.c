#include <stdlib.h>

#include "base/err.h"
#include "base/js.h"

#include "model/verbs.h"

static const struct slice verbs[] = { SL_INIT("ping"),
	SL_INIT("run_health_check"), SL_INIT("get_version"),
	SL_INIT("get_machine_id"), SL_INIT("get_status") };

int
verbs_find(struct slice word)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (slice_eq(verbs[i], word))
			return (int)i;
	}
	return -1;
}

static bool
is_letter(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool
is_name(struct slice s)
{
	if (s.len == 0 || s.len > 64 || !is_letter(s.ptr[0]))
		return false;
	for (size_t i = 1; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		if (!is_letter(c) && !(c >= '0' && c <= '9') && c != '.' &&
		    c != '-')
			return false;
	}
	/* Programs that turn objects into records of theirs trip over it. */
	return !slice_eq(s, SL("__proto__"));
}

/* What all who check signatures write alike: docs/protocol/signed.md, 3. */
static bool
is_value(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.ptr[i];
		if (c < 0x20 || c > 0x7e || c == '<' || c == '>' || c == '&')
			return false;
	}
	return true;
}

static int
by_name(const void *a, const void *b)
{
	const struct verb_arg *x = a, *y = b;

	return slice_cmp(x->name, y->name);
}

static struct slice
read_arg(struct slice word, struct verb_call *out)
{
	size_t at = slice_find(word, '=');
	struct verb_arg arg = { slice_first(word, at),
		slice_from_at(word, at + 1) };

	if (at == word.len || !is_name(arg.name))
		return SL("an argument is NAME=VALUE");
	if (!is_value(arg.value))
		return SL("a value is printable ASCII without <, > and &");
	if (out->count == VERB_ARGS)
		return SL("there are too many arguments");
	out->args[out->count++] = arg;
	return (struct slice){ 0 };
}

static struct slice
read_words(struct js_value argv, struct verb_call *out)
{
	struct js_walk w = js_walk(argv);
	struct slice word, why = { 0 };
	struct js_value v;

	if (!js_next(&w, NULL, &v) || js_string(v, &out->verb) != 0 ||
	    verbs_find(out->verb) < 0)
		return SL("this agent knows ping, run_health_check, "
			  "get_version, get_machine_id and get_status alone");
	while (why.ptr == NULL && js_next(&w, NULL, &v)) {
		if (js_string(v, &word) != 0)
			return SL("an argument is NAME=VALUE");
		why = read_arg(word, out);
	}
	if (why.ptr != NULL)
		return why;
	qsort(out->args, out->count, sizeof(out->args[0]), by_name);
	for (size_t i = 1; i < out->count; i++) {
		if (slice_eq(out->args[i - 1].name, out->args[i].name))
			return SL("an argument is there twice");
	}
	return (struct slice){ 0 };
}

static bool
wants_more(const struct command_record *r)
{
	return r->shell || r->env_json.len > 0 || r->cwd.len > 0 ||
	    r->exec_user.len > 0;
}

int
verbs_read(const struct command_record *r, struct arena *a,
    struct verb_call *out, struct slice *why)
{
	const struct js_limits limits = { VERB_SIZE, 4 };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));

	out->count = 0;
	if (doc == NULL)
		return ERR_NOMEM;
	if (wants_more(r)) {
		*why = SL("this agent runs no programs: no shell, no "
			  "environment, directory or user");
		return ERR_UNSUPPORTED;
	}
	int err = js_parse(doc, r->argv_json, &limits, a);
	if (err == ERR_NOMEM)
		return err;
	*why = err != 0 ? SL("the arguments are too long")
			: read_words(js_root(doc), out);
	return why->ptr != NULL ? ERR_UNSUPPORTED : 0;
}
