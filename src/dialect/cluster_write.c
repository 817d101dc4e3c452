#include "base/err.h"

#include "dialect/cluster_parts.h"

void
cluster_put_stamp(struct js_writer *w, const char *key, wall_msec at)
{
	uint8_t text[STAMP_LEN];

	stamp_format(at, text);
	js_kv_string(w, key, (struct slice){ text, sizeof(text) });
}

/* Agent ids need no escaping in a path (decisions of identity). */
void
cluster_put_tunnel_url(
    struct js_writer *w, const struct cluster_context *c, struct slice agent_id)
{
	struct buf url;

	buf_init(&url, 4096);
	buf_put(&url, c->tunnel_origin);
	buf_put(&url, SL("/clusters/"));
	buf_put(&url, agent_id);
	if (url.err != 0 && w->err == 0)
		w->err = url.err;
	js_kv_string(w, "tunnel_url", buf_peek(&url));
	buf_fini(&url);
}

static void
begin(struct js_writer *w, struct buf *out, struct slice type,
    struct slice request_id)
{
	js_write(w, out);
	js_begin_object(w);
	js_kv_string(w, "type", type);
	if (request_id.len > 0)
		js_kv_string(w, "request_id", request_id);
	js_kv_object(w, "payload");
}

static int
end(struct js_writer *w, const struct cluster_context *c)
{
	js_end(w);
	cluster_put_stamp(w, "timestamp", c->now);
	js_end(w);
	return js_finish(w);
}

static void
put_muster(struct js_writer *w, const struct registered *r,
    const struct cluster_context *c)
{
	js_kv_object(w, "muster");
	js_kv_u64(w, "proto", 1);
	js_kv_string(w, "incarnation", r->incarnation);
	js_kv_u64(w, "stop_epoch", r->stop_epoch);
	js_kv_u64(w, "heartbeat_ms", c->heartbeat_ms);
	js_kv_object(w, "limits");
	js_kv_u64(w, "message", c->message_max);
	js_end(w);
	if (r->stop != NULL)
		cluster_put_stop(w, r->stop);
	js_end(w);
}

void
cluster_put_identity(struct js_writer *w, const struct registered *r,
    const struct cluster_context *c)
{
	js_kv_string(w, "cluster_id", r->cluster_id);
	js_kv_string(w, "cluster_uuid", r->cluster_id);
	js_kv_string(w, "name", r->name);
	js_kv_string(w, "status", SL("registered"));
	cluster_put_tunnel_url(w, c, r->agent_id);
	cluster_put_stamp(w, "registered_at", r->at);
	js_kv_i64(w, "workspace_id", r->workspace_id);
}

static void
put_registered(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	cluster_put_identity(w, &ev->registered, c);
	if (ev->registered.native)
		put_muster(w, &ev->registered, c);
}

static void
put_heartbeat_ack(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	(void)c;
	cluster_put_stamp(w, "received_at", ev->at);
}

static void
put_pong(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	(void)ev;
	cluster_put_stamp(w, "timestamp", c->now);
}

void
cluster_put_error(struct js_writer *w, const struct event *ev,
    const struct cluster_context *c)
{
	const struct complaint *p = &ev->complaint;

	(void)c;
	js_kv_string(w, "error", p->text);
	js_kv_string(w, "code", p->code);
	if (p->field.len > 0)
		js_kv_string(w, "field", p->field);
}

struct row {
	struct slice type;
	void (*put)(struct js_writer *w, const struct event *ev,
	    const struct cluster_context *c);
};

static const struct row rows[EVENT_KINDS] = {
	[EVENT_REGISTERED] = { SL_INIT("register_success"), put_registered },
	[EVENT_HEARTBEAT_ACK] = { SL_INIT("heartbeat_ack"), put_heartbeat_ack },
	[EVENT_PONG] = { SL_INIT("pong"), put_pong },
	[EVENT_ERROR] = { SL_INIT("error"), cluster_put_error },
	[EVENT_STOP_ORDER] = { SL_INIT("stop"), cluster_put_stop_order },
};

int
cluster_encode(
    const struct event *ev, const struct cluster_context *c, struct buf *out)
{
	const struct row *row = &rows[ev->kind];
	struct js_writer w;

	if (row->put == NULL)
		return ERR_UNSUPPORTED;
	bool resume = ev->kind == EVENT_STOP_ORDER && !ev->stop.stopped;
	begin(&w, out, resume ? SL("resume_work") : row->type, ev->request_id);
	row->put(&w, ev, c);
	return end(&w, c);
}

int
cluster_encode_ping(
    struct slice request_id, const struct cluster_context *c, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, SL("ping"), request_id);
	return end(&w, c);
}

int
cluster_encode_reconnect(
    msec after, msec spread, const struct cluster_context *c, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, SL("reconnect"), (struct slice){ 0 });
	js_kv_i64(&w, "after_ms", after);
	js_kv_i64(&w, "spread_ms", spread);
	return end(&w, c);
}
