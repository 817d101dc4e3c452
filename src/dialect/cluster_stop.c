/*
 * The emergency stop in text frames: docs/protocol/muster.md section 7.
 */
#include "base/err.h"
#include "wire/enc.h"

#include "dialect/cluster_parts.h"

enum {
	SCOPE_MAX = 4096,
	REASON_MAX = 1024,
	DETAIL_MAX = 256 * 1024, /* of a receipt that is kept */
	DETAIL_END = 1024,       /* room for what closes it */
};

static const int64_t number_max = INT64_C(1) << 53;

/* Reading ------------------------------------------------------------------ */

static void
range(struct js_fields *f, const char *name)
{
	if (f->err != 0)
		return;
	f->err = ERR_RANGE;
	f->field = slice_from(name);
}

static void
opt_text(struct js_fields *f, const char *name, size_t max, struct slice *out)
{
	js_opt_string(f, name, out);
	if (f->err == 0 && out->len > max)
		range(f, name);
}

/* An agent's clock is told to people, never believed. */
static void
opt_stamp(struct js_fields *f, const char *name, wall_msec *out)
{
	struct slice text = { 0 };

	js_opt_string(f, name, &text);
	if (f->err == 0 && text.len > 0 && stamp_parse(text, out) != 0)
		range(f, name);
}

static void
need_epoch(struct js_fields *f, uint64_t *out)
{
	int64_t n = 0;

	js_need_i64(f, "epoch", 0, number_max, &n);
	*out = (uint64_t)n;
}

/* Empty is none: a stop that nobody can prove. */
static void
opt_mac(struct js_fields *f, struct stop_order *s)
{
	struct slice hex = { 0 };
	struct buf b;

	js_opt_string(f, "mac", &hex);
	if (f->err != 0 || hex.len == 0)
		return;
	buf_init(&b, STOP_MAC_LEN);
	if (enc_get_hex(hex, &b) == 0 && buf_peek(&b).len == STOP_MAC_LEN) {
		memcpy(s->mac, buf_peek(&b).ptr, STOP_MAC_LEN);
		s->has_mac = true;
	} else {
		range(f, "mac");
	}
	buf_fini(&b);
}

int
cluster_read_kept_stop(struct js_value stop, struct arena *a,
    struct stop_order *out, struct event *ev)
{
	struct stop_order s = { 0 };
	struct js_fields f;

	if (stop.kind != JS_OBJECT)
		return 0;
	js_fields_init(&f, stop);
	need_epoch(&f, &s.epoch);
	js_need_bool(&f, "stopped", &s.stopped);
	opt_text(&f, "scope", SCOPE_MAX, &s.scope);
	opt_mac(&f, &s);
	js_opt_bool(&f, "local", false, &s.local);
	if (f.err != 0)
		return cluster_refuse_field(ev, &f, "muster.stop.", a);
	*out = s;
	return 0;
}

int
cluster_read_local_stop(
    struct js_value payload, struct arena *a, struct event *out)
{
	struct stop_order s = { .local = true };
	struct js_fields f;

	js_fields_init(&f, payload);
	js_need_bool(&f, "stopped", &s.stopped);
	opt_text(&f, "reason", REASON_MAX, &s.reason);
	opt_stamp(&f, "at", &s.at);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	out->kind = EVENT_LOCAL_STOP;
	out->stop = s;
	return 0;
}

/* Receipts: what is kept is written anew ----------------------------------- */

static uint32_t
put_pids(struct js_fields *f, struct js_writer *w, const char *name)
{
	struct js_value list, v;
	uint32_t n = 0;
	int64_t pid;

	js_opt_kind(f, name, JS_ARRAY, &list);
	js_kv_array(w, name);
	struct js_walk i = js_walk(list);
	while (f->err == 0 && list.kind == JS_ARRAY && js_next(&i, NULL, &v)) {
		if (js_i64(v, &pid) != 0 || pid < 1 || ++n > CLUSTER_PIDS_MAX)
			range(f, name);
		else
			js_put_i64(w, pid);
	}
	js_end(w);
	return n;
}

static void
put_ended(struct js_fields *f, struct js_value v, struct js_writer *w,
    struct stop_report *r)
{
	struct slice id = { 0 };
	int64_t count = 0, took = 0;

	js_fields_init(f, v);
	js_need_string(f, "command_id", &id);
	if (id.len > CLUSTER_REQUEST_ID_MAX)
		range(f, "command_id");
	js_begin_object(w);
	js_kv_string(w, "command_id", id);
	uint32_t named = put_pids(f, w, "pids");
	js_opt_i64(f, "count", 0, UINT32_MAX, named, &count);
	js_opt_i64(f, "took_ms", 0, number_max, 0, &took);
	js_kv_i64(w, "count", count);
	js_kv_i64(w, "took_ms", took);
	js_end(w);
	r->commands++;
	if (count < UINT32_MAX - r->killed)
		r->killed += (uint32_t)count;
}

/* All are counted; as many are kept as there is room for. */
static void
put_commands(struct js_fields *f, struct js_value list, struct js_writer *w,
    const struct buf *text, struct stop_report *r)
{
	struct js_walk i = js_walk(list);
	struct buf rest;
	struct js_writer skip;
	struct js_value v;

	buf_init(&rest, DETAIL_MAX);
	js_kv_array(w, "commands");
	while (f->err == 0 && list.kind == JS_ARRAY && js_next(&i, NULL, &v)) {
		bool fits = buf_peek(text).len + DETAIL_END < DETAIL_MAX / 2;
		js_write(&skip, &rest);
		put_ended(f, v, fits ? w : &skip, r);
		buf_clear(&rest);
		if (r->commands > CLUSTER_HELD_MAX)
			range(f, "commands");
	}
	js_end(w);
	buf_fini(&rest);
}

static int
read_report(struct js_value payload, struct arena *a, struct buf *text,
    struct stop_report *r, struct js_fields *f)
{
	struct js_value list;
	struct js_fields one;
	struct js_writer w;
	int64_t tunnels = 0;

	js_fields_init(f, payload);
	need_epoch(f, &r->epoch);
	js_need_bool(f, "stopped", &r->stopped);
	js_opt_bool(f, "local", false, &r->local);
	opt_stamp(f, "began_at", &r->began_at);
	opt_stamp(f, "done_at", &r->done_at);
	js_opt_i64(f, "tunnels_closed", 0, UINT32_MAX, 0, &tunnels);
	js_opt_kind(f, "commands", JS_ARRAY, &list);
	js_write(&w, text);
	js_begin_object(&w);
	one = (struct js_fields){ .err = f->err };
	if (f->err == 0)
		put_commands(&one, list, &w, text, r);
	if (f->err == 0 && one.err != 0)
		*f = one;
	r->left = put_pids(f, &w, "left");
	js_kv_i64(&w, "tunnels_closed", tunnels);
	js_end(&w);
	if (f->err != 0)
		return 0;
	int err = js_finish(&w);
	return err != 0 ? err : arena_copy(a, buf_peek(text), &r->detail_json);
}

int
cluster_read_stop_receipt(
    struct js_value payload, struct arena *a, struct event *out)
{
	struct stop_report r = { 0 };
	struct js_fields f;
	struct buf text;

	buf_init(&text, DETAIL_MAX);
	int err = read_report(payload, a, &text, &r, &f);
	buf_fini(&text);
	if (err != 0)
		return ERR_NOMEM;
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	out->kind = EVENT_STOP_REPORT;
	out->report = r;
	return 0;
}

/* Writing ------------------------------------------------------------------ */

static void
put_mac(struct js_writer *w, const struct stop_order *s)
{
	struct buf hex;

	buf_init(&hex, 2 * STOP_MAC_LEN);
	if (s->has_mac)
		enc_put_hex(&hex, (struct slice){ s->mac, STOP_MAC_LEN });
	if (hex.err != 0 && w->err == 0)
		w->err = hex.err;
	js_kv_string(w, "mac", buf_peek(&hex));
	buf_fini(&hex);
}

void
cluster_put_stop(struct js_writer *w, const struct stop_order *s)
{
	js_kv_object(w, "stop");
	js_kv_u64(w, "epoch", s->epoch);
	js_kv_bool(w, "stopped", s->stopped);
	js_kv_string(w, "scope", s->scope);
	js_kv_bool(w, "keep_tunnels", s->keep_tunnels);
	js_kv_string(w, "reason", s->reason);
	put_mac(w, s);
	js_end(w);
}

void
cluster_put_stop_order(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	const struct stop_order *s = &ev->stop;

	(void)c;
	js_kv_u64(w, "epoch", s->epoch);
	js_kv_string(w, "scope", s->scope);
	if (s->stopped) {
		js_kv_bool(w, "keep_tunnels", s->keep_tunnels);
		js_kv_string(w, "reason", s->reason);
	}
	cluster_put_stamp(w, "at", s->at);
	put_mac(w, s);
}
