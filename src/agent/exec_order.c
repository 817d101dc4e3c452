#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/js.h"
#include "io/clock.h"
#include "io/log.h"

#include "agent/exec_order.h"

enum {
	WORDS_MAX = 4096, /* of argv, and of the environment */
	BASE_ENV = 7,
	DEPTH_MAX = 8,
};

static int
say_no(struct exec_refusal *no, int err, const char *code, const char *why)
{
	no->code = code;
	no->line = 0;
	(void)snprintf(no->why, sizeof(no->why), "%s", why);
	return err;
}

/* Reading -------------------------------------------------------------------
 */

static int
read_argv(struct js_value list, struct arena *a, struct exec_wish *w)
{
	size_t n = js_count(list);
	struct js_walk i = js_walk(list);
	struct js_value v;

	if (n > WORDS_MAX)
		return ERR_RANGE;
	w->argv = arena_array(a, n + 2, sizeof(*w->argv));
	if (w->argv == NULL)
		return ERR_NOMEM;
	while (js_next(&i, NULL, &v))
		if (js_string(v, &w->argv[w->argc++]) != 0)
			return ERR_TYPE;
	return 0;
}

static int
read_env(struct js_value map, struct arena *a, struct exec_wish *w)
{
	size_t n = js_count(map);
	struct js_walk i = js_walk(map);
	struct slice name, value;
	struct js_value v;

	if (n > WORDS_MAX)
		return ERR_RANGE;
	w->env = arena_array(a, n + 1, sizeof(*w->env));
	if (w->env == NULL)
		return ERR_NOMEM;
	while (js_next(&i, &name, &v)) {
		if (js_string(v, &value) != 0 || name.len == 0 ||
		    slice_find(name, '=') != name.len)
			return ERR_TYPE;
		uint8_t *pair = arena_alloc(a, name.len + value.len + 1);
		if (pair == NULL)
			return ERR_NOMEM;
		memcpy(pair, name.ptr, name.len);
		pair[name.len] = '=';
		if (value.len > 0)
			memcpy(pair + name.len + 1, value.ptr, value.len);
		w->env[w->envc++] =
		    (struct slice){ pair, name.len + value.len + 1 };
	}
	return 0;
}

static void
opt_u64(struct js_fields *f, const char *name, uint64_t *out)
{
	int64_t n = 0;

	js_opt_i64(f, name, 0, INT64_MAX, 0, &n);
	*out = (uint64_t)n;
}

static int
read_fields(struct js_value root, struct arena *a, struct exec_wish *w)
{
	struct js_value argv, env;
	struct slice on_full;
	struct js_fields f;

	js_fields_init(&f, root);
	js_need_string(&f, "id", &w->id);
	opt_u64(&f, "seq", &w->seq);
	js_need_kind(&f, "argv", JS_ARRAY, &argv);
	js_opt_kind(&f, "env", JS_OBJECT, &env);
	js_opt_string(&f, "cwd", &w->cwd);
	js_opt_string(&f, "user", &w->user);
	js_opt_bool(&f, "stdin", false, &w->input);
	js_opt_bool(&f, "shell", false, &w->shell);
	js_opt_bool(&f, "foreground", false, &w->foreground);
	js_opt_i64(&f, "timeout_ms", 0, INT32_MAX, 0, &w->timeout);
	js_opt_i64(
	    &f, "remaining_ms", INT64_MIN, INT64_MAX, INT64_MAX, &w->remaining);
	js_opt_string(&f, "on_full", &on_full);
	w->drop = slice_eq(on_full, SL("drop"));
	opt_u64(&f, "out", &w->at[0]);
	opt_u64(&f, "err", &w->at[1]);
	if (f.err == 0)
		f.err = read_argv(argv, a, w);
	if (f.err == 0)
		f.err = read_env(env, a, w);
	return f.err;
}

int
exec_read_wish(struct slice json, struct arena *a, struct exec_wish *out,
    struct exec_refusal *no)
{
	const struct js_limits limits = { UINT16_MAX, DEPTH_MAX };
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	struct exec_wish w = { 0 };

	if (doc == NULL)
		return ERR_NOMEM;
	int err = js_parse(doc, json, &limits, a);
	if (err == 0 && doc->repeated.ptr != NULL)
		err = ERR_DUPLICATE;
	if (err == 0)
		err = read_fields(js_root(doc), a, &w);
	if (err == ERR_NOMEM)
		return err;
	if (err != 0) {
		(void)say_no(no, err, "INVALID_REQUEST", "");
		(void)snprintf(no->why, sizeof(no->why),
		    "the order of the command cannot be read: %s",
		    err_name(err));
		return ERR_INVALID;
	}
	*out = w;
	return 0;
}

/* Starting ------------------------------------------------------------------
 */

/* argv[0] is the script: /bin/sh -c script. */
static void
wrap_shell(struct exec_wish *w)
{
	w->argv[2] = w->argv[0];
	w->argv[0] = SL("/bin/sh");
	w->argv[1] = SL("-c");
	w->argc = 3;
}

static bool
is_given(const struct exec_wish *w, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < w->envc; i++)
		if (w->env[i].len > len && w->env[i].ptr[len] == '=' &&
		    memcmp(w->env[i].ptr, name, len) == 0)
			return true;
	return false;
}

static int
add_env(struct run_order *o, struct slice *env, struct arena *a,
    const char *name, struct slice value)
{
	char text[2048];
	int n = snprintf(text, sizeof(text), "%s=%.*s", name, SLICE_FMT(value));

	if (n < 0 || (size_t)n >= sizeof(text))
		return ERR_TOO_BIG;
	return arena_copy(
	    a, (struct slice){ (uint8_t *)text, (size_t)n }, &env[o->envc++]);
}

/* What every program expects, then what was asked for. */
static int
put_env(struct run_order *o, const struct exec_wish *w,
    const struct account *who, struct arena *a)
{
	const char *lang = getenv("LANG");
	const struct {
		const char *name;
		struct slice value;
	} base[BASE_ENV] = {
		{ "PATH",
		    SL("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
		       "/sbin:/bin") },
		{ "HOME", slice_from(who->home) },
		{ "USER", slice_from(who->name) },
		{ "LOGNAME", slice_from(who->name) },
		{ "SHELL", slice_from(who->shell) },
		{ "LANG", slice_from(lang == NULL ? "C.UTF-8" : lang) },
		{ "MUSTER_COMMAND_ID", w->id },
	};
	struct slice *env = arena_array(a, BASE_ENV + w->envc, sizeof(*env));
	int err = 0;

	if (env == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < BASE_ENV && err == 0; i++)
		if (!is_given(w, base[i].name))
			err = add_env(o, env, a, base[i].name, base[i].value);
	for (size_t i = 0; i < w->envc; i++)
		env[o->envc++] = w->env[i];
	o->env = env;
	return err;
}

static int
check_policy(struct exec_home *h, struct exec_wish *w, struct exec_refusal *no)
{
	if (w->argc == 0)
		return say_no(
		    no, ERR_INVALID, "INVALID_REQUEST", "nothing to run");
	if (w->remaining <= 0)
		return say_no(no, ERR_TIMEOUT, "EXPIRED",
		    "its deadline passed before it could be started");
	if (w->shell && w->argc != 1)
		return say_no(no, ERR_INVALID, "INVALID_REQUEST",
		    "a shell command is one string");
	if (w->shell)
		wrap_shell(w);
	const struct policy_exec ask = { w->argv, w->argc, w->env, w->envc,
		w->user, w->cwd };
	struct policy_verdict v = policy_check_exec(h->policy, &ask);
	if (!v.allowed) {
		(void)say_no(no, ERR_DENIED, "NOT_PERMITTED", v.why);
		no->line = v.line;
		return ERR_DENIED;
	}
	if (h->account == NULL)
		return say_no(no, ERR_NOT_FOUND, "EXEC_FAILED",
		    "the policy's exec_user does not exist on this host");
	if (commands_running(h->commands) >= h->policy->commands)
		return say_no(no, ERR_FULL, "QUEUE_FULL",
		    "as many commands run as the policy allows");
	return 0;
}

static int
explain(
    int err, const struct exec_wish *w, uint64_t mark, struct exec_refusal *no)
{
	if (err == ERR_LIMITED)
		return say_no(no, err, "RATE_LIMIT",
		    "more starts a minute than the policy allows");
	if (err == ERR_FULL)
		return say_no(no, err, "QUEUE_FULL",
		    "this agent holds as many commands as it can");
	if (err == ERR_STOPPED)
		return say_no(
		    no, err, "AGENT_STOPPED", "this agent is under a stop");
	if (err != ERR_DENIED) {
		(void)say_no(no, err, "EXEC_FAILED", err_name(err));
		return err;
	}
	(void)say_no(no, err, "UNKNOWN_OUTCOME", "");
	(void)snprintf(no->why, sizeof(no->why),
	    "number %llu is not above %llu, the highest taken here, and "
	    "nothing is known of the command",
	    (unsigned long long)w->seq, (unsigned long long)mark);
	return err;
}

int
exec_start(struct exec_home *h, const struct exec_wish *wish, struct arena *a,
    struct command **out, struct exec_refusal *no)
{
	struct exec_wish w = *wish;
	int err = h->stopped != NULL
	    ? say_no(no, ERR_STOPPED, "AGENT_STOPPED", h->stopped)
	    : check_policy(h, &w, no);

	if (err != 0) {
		log_warn("command_not_permitted", kv_s("id", w.id),
		    kv_c("code", no->code), kv_c("why", no->why),
		    kv_u("line", no->line));
		return err;
	}
	struct run_order o = {
		.id = w.id,
		.seq = w.seq,
		.epoch = h->epoch,
		.argv = w.argv,
		.argc = w.argc,
		.cwd = w.cwd.len > 0 ? w.cwd : slice_from(h->account->home),
		.user = h->account->become ? h->account->name : NULL,
		.input = w.input,
		.drop = w.drop,
		.cap = h->policy->spool,
		.keep_lingering = !w.foreground,
		.timeout = w.timeout,
	};
	runner_budget(h->commands->runner, h->policy->spool_total);
	err = put_env(&o, &w, h->account, a);
	if (err == 0)
		err = commands_start(h->commands, &o,
		    h->policy->commands_per_minute, clock_mono(), out);
	if (err != 0)
		return explain(err, &w, runner_mark(h->commands->runner), no);
	log_info("command_started", kv_s("id", w.id), kv_u("seq", w.seq),
	    kv_s("program", w.argv[0]));
	return 0;
}
