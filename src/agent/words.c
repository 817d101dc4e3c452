#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "agent/words.h"

static const struct slice none;

static void
put_stamp(struct js_writer *w, const char *key, wall_msec at)
{
	uint8_t text[STAMP_LEN];

	stamp_format(at, text);
	js_kv_string(w, key, (struct slice){ text, sizeof(text) });
}

static void
begin(struct js_writer *w, struct buf *b, const char *type,
    struct slice request_id)
{
	js_write(w, b);
	js_begin_object(w);
	js_kv_string(w, "type", slice_from(type));
	if (request_id.len > 0)
		js_kv_string(w, "request_id", request_id);
	js_kv_object(w, "payload");
}

static void
end(struct js_writer *w, struct buf *b, wall_msec at)
{
	js_end(w);
	put_stamp(w, "timestamp", at);
	js_end(w);
	int err = js_finish(w);
	if (b->err == 0)
		b->err = err;
}

static void
put_known(struct js_writer *w, const char *key, const char *value)
{
	if (value[0] != '\0')
		js_kv_string(w, key, slice_from(value));
}

/* register ------------------------------------------------------------------
 */

static double
gigabytes(uint64_t bytes)
{
	return (double)(bytes * 10 / (UINT64_C(1) << 30)) / 10;
}

static void
put_specs(struct js_writer *w, const struct probe_facts *f)
{
	js_kv_object(w, "server_specs");
	js_kv_double(w, "cpu_cores", f->cpu_cores);
	js_kv_double(w, "memory_gb", gigabytes(f->memory_bytes));
	js_kv_double(w, "disk_gb", gigabytes(f->disk_bytes));
	put_known(w, "os", f->os);
	put_known(w, "kernel", f->kernel);
	put_known(w, "arch", f->arch);
	js_end(w);
}

/* A pod says where it runs; on a bare host there is nothing to say. */
static void
put_place(struct js_writer *w, const struct probe_facts *f)
{
	if (f->k8s_pod[0] == '\0' && f->k8s_node[0] == '\0')
		return;
	js_kv_object(w, "metadata");
	put_known(w, "k8s_namespace", f->k8s_namespace);
	put_known(w, "k8s_pod", f->k8s_pod);
	put_known(w, "k8s_node", f->k8s_node);
	put_known(w, "k8s_api", f->k8s_api);
	js_end(w);
}

static void
put_facts(struct js_writer *w, const struct probe_facts *f)
{
	put_known(w, "hostname", f->hostname);
	js_kv_string(w, "agent_version", slice_from(MUSTER_VERSION));
	put_known(w, "server_ip", f->address);
	put_known(w, "region", f->region);
	put_known(w, "cloud_provider", f->cloud);
	js_kv_string(w, "k8s_version", SL(""));
	put_specs(w, f);
	put_place(w, f);
	js_kv_object(w, "tunnel_port_config");
	js_end(w);
	js_kv_object(w, "labels");
	js_end(w);
}

static void
put_policy(struct js_writer *w, const struct policy *p)
{
	char verbs[128];
	size_t n = 0;

	for (unsigned v = 0; v < POLICY_VERBS; v++) {
		struct slice name =
		    slice_from(policy_verb_name((enum policy_verb)v));
		if (!policy_allows(p, (enum policy_verb)v))
			continue;
		if (n > 0)
			verbs[n++] = ',';
		memcpy(verbs + n, name.ptr, name.len);
		n += name.len;
	}
	js_kv_object(w, "policy");
	js_kv_string(w, "verbs", (struct slice){ (uint8_t *)verbs, n });
	js_kv_string(w, "hash", (struct slice){ p->hash, sizeof(p->hash) });
	js_end(w);
}

static void
put_resume(struct js_writer *w, const struct words_hello *h)
{
	js_kv_object(w, "resume");
	if (h->incarnation.len > 0)
		js_kv_string(w, "incarnation", h->incarnation);
	js_kv_u64(w, "sequence", h->sequence);
	js_kv_array(w, "commands");
	for (size_t i = 0; i < h->held_count; i++) {
		js_begin_object(w);
		js_kv_string(w, "id", h->held[i].id);
		js_kv_string(w, "state", slice_from(h->held[i].state));
		js_end(w);
	}
	js_end(w);
	js_end(w);
}

static void
put_stop(struct js_writer *w, const struct words_hello *h)
{
	const struct record_stop *s = h->stop;

	js_kv_object(w, "stop");
	js_kv_u64(w, "epoch", s->epoch);
	js_kv_bool(w, "stopped", s->stopped);
	js_kv_string(w, "scope", s->scope);
	js_kv_string(w, "mac", s->mac);
	js_kv_bool(w, "local", h->local_stop);
	js_end(w);
}

void
words_put_register(struct buf *b, const struct words_hello *h)
{
	struct js_writer w;

	begin(&w, b, "register", h->request_id);
	js_kv_string(&w, "agent_id", h->agent_id);
	js_kv_string(&w, "name", h->name);
	if (h->cluster_id.len > 0)
		js_kv_string(&w, "cluster_id", h->cluster_id);
	put_facts(&w, h->facts);
	js_kv_object(&w, "muster");
	js_kv_u64(&w, "proto", 1);
	js_kv_u64(&w, "min", 1);
	js_kv_array(&w, "features");
	js_put_string(&w, SL("yamux"));
	js_put_string(&w, SL("exec"));
	js_put_string(&w, SL("tunnel"));
	js_end(&w);
	js_kv_string(&w, "install_id", h->install_id);
	js_kv_string(&w, "boot_id", h->boot_id);
	js_kv_string(&w, "session_id", h->session_id);
	put_policy(&w, h->policy);
	js_kv_u64(&w, "stop_epoch", h->stop->epoch);
	put_stop(&w, h);
	put_resume(&w, h);
	js_end(&w);
	end(&w, b, h->at);
}

/* stop ----------------------------------------------------------------------
 */

enum {
	PIDS = 64, /* named of a command, and in left */
	PIDS_OF_MANY = 8,
	MANY = 1024, /* commands: all names would be more than a message */
};

/* At most `most` of the numbers in text; how many. */
static size_t
put_pids(struct js_writer *w, struct slice text, size_t most)
{
	struct slice part;
	uint64_t pid;
	size_t n = 0;

	while (n < most && slice_split(&text, ',', &part))
		if (slice_u64(part, INT32_MAX, &pid) == 0 && ++n > 0)
			js_put_u64(w, pid);
	return n;
}

static void
put_ended(struct js_writer *w, const struct words_receipt *r)
{
	size_t most = r->ended_count > MANY ? PIDS_OF_MANY : PIDS;

	js_kv_array(w, "commands");
	for (size_t i = 0; i < r->ended_count; i++) {
		const struct words_ended *e = &r->ended[i];
		js_begin_object(w);
		js_kv_string(w, "command_id", e->id);
		js_kv_array(w, "pids");
		(void)put_pids(w, e->pids, most);
		js_end(w);
		js_kv_u64(w, "count", e->count);
		js_kv_u64(w, "took_ms", e->took_ms);
		js_end(w);
	}
	js_end(w);
}

void
words_put_receipt(struct buf *b, const struct words_receipt *r)
{
	struct js_writer w;
	size_t left = 0;

	begin(&w, b, "stop_receipt", none);
	js_kv_u64(&w, "epoch", r->epoch);
	js_kv_bool(&w, "stopped", r->stopped);
	js_kv_bool(&w, "local", r->local);
	if (r->began != 0)
		put_stamp(&w, "began_at", r->began);
	if (r->done != 0)
		put_stamp(&w, "done_at", r->done);
	put_ended(&w, r);
	js_kv_array(&w, "left");
	for (size_t i = 0; i < r->ended_count && left < PIDS; i++)
		left += put_pids(&w, r->ended[i].left, PIDS - left);
	js_end(&w);
	js_kv_u64(&w, "tunnels_closed", r->tunnels_closed);
	end(&w, b, r->at);
}

void
words_put_local_stop(struct buf *b, bool stopped, wall_msec since,
    struct slice reason, wall_msec at)
{
	struct js_writer w;

	begin(&w, b, "local_stop", none);
	js_kv_bool(&w, "stopped", stopped);
	put_stamp(&w, "at", since);
	js_kv_string(&w, "reason", reason);
	end(&w, b, at);
}

/* heartbeat, pong -----------------------------------------------------------
 */

/* Tenths are all that such figures mean. */
static double
tenths(double d)
{
	return (double)(int64_t)(d * 10 + (d < 0 ? -0.5 : 0.5)) / 10;
}

static void
put_metrics(struct js_writer *w, const struct probe_metrics *m)
{
	js_kv_double(w, "cpu_usage", tenths(m->cpu_percent));
	js_kv_double(w, "memory_usage", tenths(m->memory_percent));
	js_kv_double(w, "disk_usage", tenths(m->disk_percent));
	js_kv_array(w, "load");
	for (int i = 0; i < 3; i++)
		js_put_double(w, m->load[i]);
	js_end(w);
	js_kv_object(w, "network");
	js_kv_double(w, "in_bytes_per_second", tenths(m->net_in));
	js_kv_double(w, "out_bytes_per_second", tenths(m->net_out));
	js_end(w);
}

void
words_put_tunnels(struct js_writer *w, const struct words_tunnels *t)
{
	js_kv_u64(w, "open", t->open);
	js_kv_u64(w, "listeners", t->listeners);
	js_kv_u64(w, "opened", t->opened);
	js_kv_u64(w, "refused", t->refused);
	js_kv_u64(w, "bytes_in", t->bytes_in);
	js_kv_u64(w, "bytes_out", t->bytes_out);
	js_kv_u64(w, "dropped", t->dropped);
}

static void
put_ours(struct js_writer *w, const struct words_beat *h)
{
	js_kv_object(w, "muster");
	if (h->ill != NULL)
		js_kv_string(w, "ill", slice_from(h->ill));
	if (h->tunnels != NULL) {
		js_kv_object(w, "tunnels");
		words_put_tunnels(w, h->tunnels);
		js_end(w);
	}
	js_end(w);
}

void
words_put_heartbeat(struct buf *b, const struct words_beat *h)
{
	struct js_writer w;

	begin(&w, b, "heartbeat", none);
	js_kv_string(&w, "agent_id", h->agent_id);
	if (h->cluster_id.len > 0)
		js_kv_string(&w, "cluster_id", h->cluster_id);
	js_kv_string(&w, "status", slice_from(h->status));
	js_kv_string(&w, "tunnel_status", SL("connected"));
	js_kv_object(&w, "metadata");
	js_kv_string(&w, "version", slice_from(MUSTER_VERSION));
	js_kv_u64(&w, "running", h->running);
	if (h->metrics != NULL)
		put_metrics(&w, h->metrics);
	js_end(&w);
	if (h->ill != NULL || h->tunnels != NULL)
		put_ours(&w, h);
	end(&w, b, h->at);
}

void
words_put_pong(struct buf *b, struct slice request_id, wall_msec at)
{
	struct js_writer w;

	begin(&w, b, "pong", request_id);
	put_stamp(&w, "timestamp", at);
	end(&w, b, at);
}

/* Reading -------------------------------------------------------------------
 */

/* Nothing but a bad number makes it unheard. */
static void
read_stop(struct js_fields *f, struct js_value from, struct word *w)
{
	struct record_stop *s = &w->stop;
	struct slice at = { 0 };
	struct js_fields m;
	int64_t epoch = 0;

	js_fields_init(&m, from);
	js_need_i64(&m, "epoch", 0, INT64_MAX, &epoch);
	*f = m;
	s->epoch = (uint64_t)epoch;
	(void)js_bool(js_get(from, "stopped"), &s->stopped);
	(void)js_bool(js_get(from, "keep_tunnels"), &s->keep_tunnels);
	(void)js_string(js_get(from, "scope"), &s->scope);
	(void)js_string(js_get(from, "reason"), &s->reason);
	(void)js_string(js_get(from, "mac"), &s->mac);
	(void)js_string(js_get(from, "at"), &at);
	(void)stamp_parse(at, &s->at);
	w->has_stop = m.err == 0;
}

static void
read_stop_order(struct js_fields *f, struct word *w)
{
	read_stop(f, f->obj, w);
	w->stop.stopped = slice_eq(w->type, SL("stop"));
}

static void
read_registered(struct js_fields *f, struct word *w)
{
	int64_t beat, size;
	struct js_value muster, limits, stop;
	struct js_fields m;

	js_opt_string(f, "cluster_id", &w->cluster_id);
	js_opt_string(f, "name", &w->name);
	js_opt_kind(f, "muster", JS_OBJECT, &muster);
	if (f->err != 0 || muster.kind != JS_OBJECT)
		return;
	js_fields_init(&m, muster);
	js_opt_string(&m, "incarnation", &w->incarnation);
	js_opt_i64(&m, "heartbeat_ms", 1000, 3600 * 1000, 30000, &beat);
	js_opt_kind(&m, "limits", JS_OBJECT, &limits);
	js_opt_kind(&m, "stop", JS_OBJECT, &stop);
	*f = m;
	if (m.err != 0)
		return;
	w->heartbeat_ms = beat;
	if (stop.kind == JS_OBJECT)
		read_stop(f, stop, w);
	if (f->err != 0 || limits.kind != JS_OBJECT)
		return;
	js_fields_init(&m, limits);
	js_opt_i64(&m, "message", 1024, INT64_MAX, WORDS_TEXT_MAX, &size);
	*f = m;
	w->message_max = (uint64_t)size;
}

static void
read_error(struct js_fields *f, struct word *w)
{
	js_opt_string(f, "error", &w->error);
	js_opt_string(f, "code", &w->code);
}

static void
read_reconnect(struct js_fields *f, struct word *w)
{
	js_opt_i64(f, "after_ms", 0, 3600 * 1000, 0, &w->after_ms);
	js_opt_i64(f, "spread_ms", 0, 3600 * 1000, 0, &w->spread_ms);
}

static const struct {
	struct slice type;
	enum word_kind kind;
	void (*read)(struct js_fields *f, struct word *w);
} rows[] = {
	{ SL_INIT("register_success"), WORD_REGISTERED, read_registered },
	{ SL_INIT("heartbeat_ack"), WORD_HEARTBEAT_ACK, NULL },
	{ SL_INIT("ping"), WORD_PING, NULL },
	{ SL_INIT("pong"), WORD_PONG, NULL },
	{ SL_INIT("error"), WORD_ERROR, read_error },
	{ SL_INIT("reconnect"), WORD_RECONNECT, read_reconnect },
	{ SL_INIT("stop"), WORD_STOP, read_stop_order },
	{ SL_INIT("resume_work"), WORD_STOP, read_stop_order },
};

static int
read_payload(struct js_value payload, struct word *w)
{
	struct js_fields f;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!slice_eq(rows[i].type, w->type))
			continue;
		w->kind = rows[i].kind;
		js_fields_init(&f, payload);
		if (rows[i].read != NULL)
			rows[i].read(&f, w);
		return f.err;
	}
	return 0;
}

int
words_read(struct slice text, struct arena *a, struct word *out)
{
	const struct js_limits limits = { WORDS_TEXT_MAX, WORDS_DEPTH_MAX };
	struct word w = { .heartbeat_ms = 30000,
		.message_max = WORDS_TEXT_MAX };
	struct js_value payload;
	struct js_fields f;

	/* What was decoded must not move: the document is in the arena. */
	struct js_doc *doc = arena_alloc(a, sizeof(*doc));
	if (doc == NULL)
		return ERR_NOMEM;
	*out = w;
	int err = js_parse(doc, text, &limits, a);
	if (err == 0 && doc->repeated.ptr != NULL)
		err = ERR_DUPLICATE;
	if (err != 0)
		return err;
	js_fields_init(&f, js_root(doc));
	js_need_string(&f, "type", &w.type);
	js_opt_string(&f, "request_id", &w.request_id);
	js_opt_kind(&f, "payload", JS_OBJECT, &payload);
	err = f.err != 0 ? f.err : read_payload(payload, &w);
	out->type = w.type;
	if (err == 0)
		*out = w;
	return err;
}

static bool
contains(struct slice s, struct slice part)
{
	for (size_t i = 0; i + part.len <= s.len; i++)
		if (slice_eq_nocase(
			slice_first(slice_from_at(s, i), part.len), part))
			return true;
	return false;
}

bool
words_unregistered(const struct word *w)
{
	return w->kind == WORD_ERROR &&
	    (contains(w->error, SL("not registered")) ||
		contains(w->error, SL("cluster not found")));
}

/* Codes of docs/protocol/cluster.md, 5.  One that is not known here may
 * pass: a newer controller decides that by closing with 1008. */
const char *
words_advice(const struct word *w)
{
	static const struct {
		struct slice code;
		const char *advice;
	} lasting[] = {
		{ SL_INIT("AGENT_ID_TAKEN"), "join this host again" },
		{ SL_INIT("NOT_PERMITTED"),
		    "ask an admin of the controller for the right to "
		    "register" },
		{ SL_INIT("PROTOCOL_TOO_NEW"),
		    "the controller is older than this agent can speak to" },
		{ SL_INIT("INVALID_MESSAGE"),
		    "the controller does not understand this agent" },
		{ SL_INIT("INVALID_JSON"),
		    "the controller does not understand this agent" },
		{ SL_INIT("DUPLICATE_MEMBER"),
		    "the controller does not understand this agent" },
		{ SL_INIT("UNKNOWN_TYPE"),
		    "is this the address of a Muster controller?" },
	};

	for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++)
		if (w->kind == WORD_ERROR && slice_eq(w->code, lasting[i].code))
			return lasting[i].advice;
	return NULL;
}
