/*
 * payload.muster of register: docs/protocol/muster.md section 3.
 */
#include "base/err.h"

#include "dialect/cluster_parts.h"

enum { PROTO = 1 };

/* What every JSON reader and the store can hold exactly. */
static const int64_t number_max = INT64_C(1) << 53;

static void
opt_u64(struct js_fields *f, const char *name, int64_t max, uint64_t *out)
{
	int64_t n = 0;

	js_opt_i64(f, name, 0, max, 0, &n);
	*out = (uint64_t)n;
}

static void
opt_u32(struct js_fields *f, const char *name, int64_t fallback, uint32_t *out)
{
	int64_t n = fallback;

	js_opt_i64(f, name, 0, UINT32_MAX, fallback, &n);
	*out = (uint32_t)n;
}

static void
need_u32(struct js_fields *f, const char *name, uint32_t *out)
{
	int64_t n = 0;

	js_need_i64(f, name, 1, UINT32_MAX, &n);
	*out = (uint32_t)n;
}

/* Unknown features are ignored; one that is no string is a mistake. */
static void
read_features(
    struct js_fields *f, struct js_value list, struct native_hello *hello)
{
	struct js_walk i = js_walk(list);
	struct js_value v;
	struct slice s;

	while (f->err == 0 && js_next(&i, NULL, &v)) {
		if (js_string(v, &s) != 0) {
			f->err = ERR_TYPE;
			f->field = SL("features");
			return;
		}
		hello->has_yamux |= slice_eq(s, SL("yamux"));
		hello->has_exec |= slice_eq(s, SL("exec"));
	}
}

static int
held_state(struct slice word, enum held_state *out)
{
	static const struct slice words[] = {
		[HELD_RUNNING] = SL_INIT("running"),
		[HELD_EXITED] = SL_INIT("exited"),
		[HELD_UNKNOWN] = SL_INIT("unknown"),
	};

	for (int i = HELD_RUNNING; i <= HELD_UNKNOWN; i++) {
		if (slice_eq(words[i], word)) {
			*out = (enum held_state)i;
			return 0;
		}
	}
	return ERR_RANGE;
}

static void
read_held_one(struct js_fields *f, struct js_value v, struct held_command *held)
{
	struct slice word = { 0 };

	js_fields_init(f, v);
	js_need_string(f, "id", &held->id);
	js_need_string(f, "state", &word);
	if (f->err == 0 && held_state(word, &held->state) != 0) {
		f->err = ERR_RANGE;
		f->field = SL("state");
	}
}

static int
read_held(struct js_value list, struct arena *a, struct native_hello *hello,
    struct event *out)
{
	struct js_fields f = { .err = 0 };
	struct js_walk i = js_walk(list);
	size_t count = js_count(list), n = 0;
	struct held_command *held;
	struct js_value v;

	if (count > CLUSTER_HELD_MAX) {
		f.err = ERR_RANGE;
		f.field = SL("commands");
		return cluster_refuse_field(out, &f, "muster.resume.", a);
	}
	held = arena_array(a, count + 1, sizeof(*held));
	if (held == NULL)
		return ERR_NOMEM;
	while (js_next(&i, NULL, &v)) {
		read_held_one(&f, v, &held[n++]);
		if (f.err != 0)
			return cluster_refuse_field(
			    out, &f, "muster.resume.commands.", a);
	}
	hello->held = held;
	hello->held_count = n;
	return 0;
}

static int
read_resume(struct js_value resume, struct arena *a, struct native_hello *hello,
    struct event *out)
{
	struct js_value commands;
	struct js_fields f;

	if (resume.kind != JS_OBJECT)
		return 0;
	js_fields_init(&f, resume);
	js_opt_string(&f, "incarnation", &hello->incarnation);
	opt_u64(&f, "sequence", number_max, &hello->sequence);
	js_opt_kind(&f, "commands", JS_ARRAY, &commands);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "muster.resume.", a);
	return read_held(commands, a, hello, out);
}

static int
read_policy(struct js_value policy, struct arena *a, struct native_hello *hello,
    struct event *out)
{
	struct js_fields f;

	if (policy.kind != JS_OBJECT)
		return 0;
	js_fields_init(&f, policy);
	js_opt_string(&f, "verbs", &hello->policy_verbs);
	js_opt_string(&f, "hash", &hello->policy_hash);
	return f.err == 0 ? 0
			  : cluster_refuse_field(out, &f, "muster.policy.", a);
}

/* What is kept as long as the agent is there must not be long. */
static void
limit(struct js_fields *f, const char *name, struct slice s)
{
	if (f->err == 0 && s.len > CLUSTER_REQUEST_ID_MAX) {
		f->err = ERR_RANGE;
		f->field = slice_from(name);
	}
}

int
cluster_read_hello(struct js_value muster, struct arena *a,
    struct native_hello *hello, struct event *out)
{
	struct native_hello n = { .present = true };
	struct js_value features, policy, resume, stop;
	struct js_fields f;

	js_fields_init(&f, muster);
	need_u32(&f, "proto", &n.proto);
	opt_u32(&f, "min", 1, &n.min);
	js_opt_kind(&f, "features", JS_ARRAY, &features);
	js_opt_string(&f, "install_id", &n.install_id);
	js_opt_string(&f, "boot_id", &n.boot_id);
	js_opt_string(&f, "session_id", &n.session_id);
	js_opt_kind(&f, "policy", JS_OBJECT, &policy);
	opt_u64(&f, "stop_epoch", number_max, &n.stop_epoch);
	js_opt_kind(&f, "stop", JS_OBJECT, &stop);
	js_opt_kind(&f, "resume", JS_OBJECT, &resume);
	limit(&f, "install_id", n.install_id);
	limit(&f, "boot_id", n.boot_id);
	limit(&f, "session_id", n.session_id);
	if (f.err == 0)
		read_features(&f, features, &n);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "muster.", a);
	if (n.min > PROTO)
		return cluster_refuse(out, ERR_NEWER, SL("PROTOCOL_TOO_NEW"),
		    SL("muster.min"),
		    SL("this controller speaks version 1 of muster only"));
	int err = cluster_read_kept_stop(stop, a, &n.stop, out);
	if (err == 0 && out->kind != EVENT_BAD)
		err = read_policy(policy, a, &n, out);
	if (err == 0 && out->kind != EVENT_BAD)
		err = read_resume(resume, a, &n, out);
	if (err == 0)
		*hello = n;
	return err;
}
