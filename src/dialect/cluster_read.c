#include "base/err.h"

#include "dialect/cluster_parts.h"
#include "dialect/cluster_proxy.h"

static const struct slice none;

static int
join(struct arena *a, const struct slice *parts, size_t n, struct slice *out)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += parts[i].len;
	uint8_t *text = arena_alloc(a, len + 1);
	if (text == NULL)
		return ERR_NOMEM;
	len = 0;
	for (size_t i = 0; i < n; i++) {
		if (parts[i].len > 0)
			memcpy(text + len, parts[i].ptr, parts[i].len);
		len += parts[i].len;
	}
	*out = (struct slice){ text, len };
	return 0;
}

int
cluster_refuse(struct event *out, int err, struct slice code,
    struct slice field, struct slice text)
{
	out->kind = EVENT_BAD;
	out->complaint = (struct complaint){
		.err = err, .code = code, .field = field, .text = text
	};
	return 0;
}

static struct slice
fault_text(int err)
{
	if (err == ERR_MISSING)
		return SL(" is required");
	if (err == ERR_TYPE)
		return SL(" has the wrong type");
	return SL(" is out of range");
}

int
cluster_refuse_field(struct event *out, const struct js_fields *f,
    const char *prefix, struct arena *a)
{
	const struct slice parts[] = { slice_from(prefix), f->field,
		fault_text(f->err) };
	struct slice text;

	if (join(a, parts, 3, &text) != 0)
		return ERR_NOMEM;
	struct slice field = slice_first(text, parts[0].len + parts[1].len);
	return cluster_refuse(out, f->err, SL("INVALID_MESSAGE"), field, text);
}

/* The envelope ------------------------------------------------------------ */

int
cluster_open(struct slice text, struct arena *a, struct js_doc *doc,
    struct event *out, bool *refused)
{
	const struct js_limits limits = { CLUSTER_TEXT_MAX, CLUSTER_DEPTH_MAX };
	int err = js_parse(doc, text, &limits, a);

	*refused = true;
	if (err == ERR_NOMEM)
		return err;
	if (err == ERR_TOO_BIG || err == ERR_DEPTH)
		return cluster_refuse(out, err, SL("INVALID_MESSAGE"), none,
		    err == ERR_DEPTH ? SL("the message is nested too deeply")
				     : SL("the message is too long"));
	if (err != 0)
		return cluster_refuse(out, err, SL("INVALID_JSON"), none,
		    SL("the message is not valid JSON"));
	if (doc->repeated.ptr != NULL)
		return cluster_refuse(out, ERR_DUPLICATE,
		    SL("DUPLICATE_MEMBER"), slice_first(doc->repeated, 128),
		    SL("a member occurs twice in one object"));
	if (js_root(doc).kind != JS_OBJECT)
		return cluster_refuse(out, ERR_TYPE, SL("INVALID_MESSAGE"),
		    none, SL("the message is not an object"));
	*refused = false;
	return 0;
}

static int
read_ping(struct js_value payload, struct arena *a, struct event *out)
{
	(void)payload;
	(void)a;
	out->kind = EVENT_PING;
	return 0;
}

static int
read_pong(struct js_value payload, struct arena *a, struct event *out)
{
	(void)payload;
	(void)a;
	out->kind = EVENT_PONGED;
	return 0;
}

struct row {
	struct slice type;
	bool bare; /* may come without a payload */
	int (*read)(
	    struct js_value payload, struct arena *a, struct event *out);
};

static const struct row rows[] = {
	{ SL_INIT("heartbeat"), false, cluster_read_heartbeat },
	{ SL_INIT("status"), false, cluster_read_heartbeat },
	{ SL_INIT("register"), false, cluster_read_register },
	{ SL_INIT("ping"), true, read_ping },
	{ SL_INIT("pong"), true, read_pong },
	{ SL_INIT("stop_receipt"), false, cluster_read_stop_receipt },
	{ SL_INIT("local_stop"), false, cluster_read_local_stop },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const struct row *
find_row(struct slice type)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (slice_eq(rows[i].type, type))
			return &rows[i];
	}
	return NULL;
}

static int
refuse_type(struct slice type, struct arena *a, struct event *out)
{
	const struct slice parts[] = { SL("there is no message type \""),
		slice_first(type, CLUSTER_WORD_MAX), SL("\" here") };
	struct slice text;

	if (join(a, parts, 3, &text) != 0)
		return ERR_NOMEM;
	return cluster_refuse(
	    out, ERR_UNSUPPORTED, SL("UNKNOWN_TYPE"), SL("type"), text);
}

/* A peer's clock decides nothing, so its stamp is never refused; how far it
 * is off is worth knowing. */
static wall_msec
read_stamp(struct js_value root)
{
	struct slice text;
	wall_msec at;

	if (js_string(js_get(root, "timestamp"), &text) != 0 ||
	    stamp_parse(text, &at) != 0)
		return 0;
	return at;
}

static int
read_envelope(struct js_value root, struct arena *a, struct event *out)
{
	struct slice type, id;
	struct js_value payload;
	struct js_fields f;

	js_fields_init(&f, root);
	js_opt_string(&f, "request_id", &id);
	if (f.err == 0 && id.len > CLUSTER_REQUEST_ID_MAX) {
		f.err = ERR_RANGE;
		f.field = SL("request_id");
	}
	if (f.err == 0 && id.len > 0)
		out->request_id = id;
	js_need_string(&f, "type", &type);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	const struct row *row = find_row(type);
	if (row == NULL)
		return refuse_type(type, a, out);
	if (row->bare)
		js_opt_kind(&f, "payload", JS_OBJECT, &payload);
	else
		js_need_kind(&f, "payload", JS_OBJECT, &payload);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	out->said_at = read_stamp(root);
	return row->read(payload, a, out);
}

int
cluster_decode(struct slice text, struct arena *a, struct event *out)
{
	struct event ev = { .kind = EVENT_BAD };
	struct js_doc doc;
	bool refused;
	int err = cluster_open(text, a, &doc, &ev, &refused);

	if (err == 0 && !refused)
		err = read_envelope(js_root(&doc), a, &ev);
	if (err == 0)
		*out = ev;
	return err;
}

/* register ---------------------------------------------------------------- */

int
cluster_read_register(
    struct js_value payload, struct arena *a, struct event *out)
{
	static const char *const but[] = { "muster", NULL };
	struct registration r = { 0 };
	struct proxy_features features;
	struct js_value labels, muster;
	struct cluster_keep k;
	struct js_fields f;

	js_fields_init(&f, payload);
	js_need_string(&f, "agent_id", &r.agent_id);
	js_need_string(&f, "name", &r.name);
	js_opt_string(&f, "cluster_id", &r.cluster_id);
	js_opt_kind(&f, "labels", JS_OBJECT, &labels);
	js_opt_kind(&f, "muster", JS_OBJECT, &muster);
	if (f.err != 0)
		return cluster_refuse_field(out, &f, "", a);
	out->kind = EVENT_REGISTER;
	if (muster.kind == JS_OBJECT) {
		int err = cluster_read_hello(muster, a, &r.native, out);
		if (err != 0 || out->kind == EVENT_BAD)
			return err;
	}
	cluster_keep_begin(&k, false);
	cluster_keep_members(&k, payload, but);
	int err = cluster_keep_end(&k, a, &r.info_json);
	if (err == 0 && labels.kind == JS_OBJECT)
		err = cluster_keep_labels(labels, a, &r.labels_json);
	proxy_read_features(js_get(payload, "features"), &features);
	r.proxies = features.proxy;
	r.gateways = features.gateway;
	r.bodies_stream = features.streaming;
	r.answers_stream = features.response_streaming;
	if (err == 0)
		out->registration = r;
	return err;
}

/* heartbeat, status ------------------------------------------------------- */

static void
read_word(struct js_fields *f, const char *name, struct slice *word)
{
	js_opt_string(f, name, word);
	if (f->err == 0 && word->len > CLUSTER_WORD_MAX) {
		f->err = ERR_RANGE;
		f->field = slice_from(name);
	}
}

int
cluster_read_heartbeat(
    struct js_value payload, struct arena *a, struct event *out)
{
	static const char *const nothing[] = { NULL };
	static const char *const but[] = { "cluster_id", "agent_id", "status",
		"tunnel_status", "metadata", "muster", NULL };
	struct heartbeat b = { 0 };
	const char *prefix = "";
	struct cluster_keep k;
	struct js_value metadata, muster;
	struct js_fields f;

	js_fields_init(&f, payload);
	js_opt_string(&f, "cluster_id", &b.cluster_id);
	js_opt_string(&f, "agent_id", &b.agent_id);
	read_word(&f, "status", &b.status);
	read_word(&f, "tunnel_status", &b.tunnel_status);
	js_opt_kind(&f, "metadata", JS_OBJECT, &metadata);
	js_opt_kind(&f, "muster", JS_OBJECT, &muster);
	if (f.err == 0 && muster.kind == JS_OBJECT) {
		js_fields_init(&f, muster);
		prefix = "muster.";
		read_word(&f, "ill", &b.ill);
	}
	if (f.err != 0)
		return cluster_refuse_field(out, &f, prefix, a);
	out->kind = EVENT_HEARTBEAT;
	cluster_keep_begin(&k, true);
	cluster_keep_members(&k, metadata, nothing);
	cluster_keep_members(&k, payload, but);
	bool any = k.count > 0 || k.cut;
	int err = cluster_keep_end(&k, a, &b.metadata_json);
	if (!any)
		b.metadata_json = none;
	if (err == 0)
		out->heartbeat = b;
	return err;
}
