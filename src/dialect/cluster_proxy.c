#include "base/err.h"
#include "base/js_write.h"
#include "base/utf8.h"

#include "wire/enc.h"

#include "dialect/cluster_proxy.h"

/* The envelope of cluster_write.c, around these payloads. */

static void
begin(struct js_writer *w, struct buf *out, const char *type, struct slice id)
{
	js_write(w, out);
	js_begin_object(w);
	js_kv_string(w, "type", slice_from(type));
	if (id.len > 0)
		js_kv_string(w, "request_id", id);
	js_kv_object(w, "payload");
}

static int
end(struct js_writer *w, wall_msec now)
{
	uint8_t stamp[STAMP_LEN];

	js_end(w);
	stamp_format(now, stamp);
	js_kv_string(w, "timestamp", (struct slice){ stamp, sizeof(stamp) });
	js_end(w);
	return js_finish(w);
}

/* first, if it is a byte at all, and bytes. */
static void
put_base64(struct js_writer *w, const char *key, struct slice first,
    struct slice bytes)
{
	struct buf joined, text;

	buf_init(&joined, SIZE_MAX);
	buf_init(&text, SIZE_MAX);
	if (first.len > 0) {
		buf_put(&joined, first);
		buf_put(&joined, bytes);
		bytes = buf_peek(&joined);
	}
	enc_put_base64(&text, bytes, ENC_STD);
	if (w->err == 0)
		w->err = joined.err != 0 ? joined.err : text.err;
	js_kv_string(w, key, buf_peek(&text));
	buf_fini(&text);
	buf_fini(&joined);
}

static int
bare(const char *type, struct slice id, wall_msec now, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, type, id);
	return end(&w, now);
}

/* proxy_request ----------------------------------------------------------- */

static bool
seen_before(const struct proxy_ask *ask, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (slice_eq_nocase(ask->fields[i].name, ask->fields[n].name))
			return true;
	}
	return false;
}

static bool
comes_again(const struct proxy_ask *ask, size_t n)
{
	for (size_t i = n + 1; i < ask->count; i++) {
		if (slice_eq_nocase(ask->fields[i].name, ask->fields[n].name))
			return true;
	}
	return false;
}

static void
put_values(struct js_writer *w, const struct proxy_ask *ask, size_t n)
{
	js_begin_array(w);
	for (size_t i = n; i < ask->count; i++) {
		if (slice_eq_nocase(ask->fields[i].name, ask->fields[n].name))
			js_put_string(w, ask->fields[i].value);
	}
	js_end(w);
}

/* A value alone is a string, for agents that read nothing else. */
static void
put_fields(struct js_writer *w, const struct proxy_ask *ask)
{
	js_kv_object(w, "headers");
	for (size_t i = 0; i < ask->count; i++) {
		if (seen_before(ask, i))
			continue;
		js_key(w, ask->fields[i].name);
		if (comes_again(ask, i))
			put_values(w, ask, i);
		else
			js_put_string(w, ask->fields[i].value);
	}
	js_end(w);
}

static void
put_target(struct js_writer *w, const struct proxy_ask *ask)
{
	if (ask->service.len > 0) {
		js_kv_string(w, "service_name", ask->service);
		js_kv_string(w, "namespace", ask->namespace);
		js_kv_u64(w, "service_port", ask->port);
	}
	js_kv_string(w, "agent_id", ask->agent_id);
	if (ask->cluster_id.len > 0) {
		js_kv_string(w, "cluster_id", ask->cluster_id);
		js_kv_string(w, "cluster_uuid", ask->cluster_id);
	}
}

static void
put_body(struct js_writer *w, const struct proxy_ask *ask)
{
	/* Two names, for agents of different age. */
	if (ask->body_streams) {
		js_kv_bool(w, "use_streaming", true);
		js_kv_bool(w, "streaming", true);
	} else if (ask->body.len > 0) {
		put_base64(w, "body", (struct slice){ 0 }, ask->body);
		js_kv_string(w, "body_encoding", SL("base64"));
	}
}

static bool
all_utf8(const struct proxy_ask *ask)
{
	for (size_t i = 0; i < ask->count; i++) {
		if (!utf8_valid(ask->fields[i].value))
			return false;
	}
	return utf8_valid(ask->path) && utf8_valid(ask->query);
}

int
proxy_put_ask(const struct proxy_ask *ask, wall_msec now, struct buf *out)
{
	struct js_writer w;

	/* The writer would mend it, and the service see something else. */
	if (!all_utf8(ask))
		return ERR_INVALID;
	begin(&w, out, "proxy_request", ask->id);
	js_kv_string(&w, "method", ask->method);
	js_kv_string(&w, "path", ask->path);
	if (ask->query.len > 0)
		js_kv_string(&w, "query", ask->query);
	js_kv_string(&w, "scheme", ask->scheme);
	put_fields(&w, ask);
	put_target(&w, ask);
	/* No `deadline`: their clocks may be off by more than it. */
	if (ask->within > 0)
		js_kv_i64(&w, "timeout", ask->within);
	js_kv_bool(&w, "supports_streaming", true);
	js_kv_bool(&w, "supports_response_streaming", ask->answer_streams);
	if (ask->websocket)
		js_kv_bool(&w, "is_websocket", true);
	if (ask->protocol.len > 0)
		js_kv_string(&w, "protocol", ask->protocol);
	put_body(&w, ask);
	return end(&w, now);
}

int
proxy_put_chunk(
    struct slice id, struct slice bytes, wall_msec now, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "proxy_request_chunk", id);
	put_base64(&w, "data", (struct slice){ 0 }, bytes);
	js_kv_string(&w, "encoding", SL("base64"));
	js_kv_u64(&w, "size", bytes.len);
	return end(&w, now);
}

int
proxy_put_end(struct slice id, wall_msec now, struct buf *out)
{
	return bare("proxy_request_stream_end", id, now, out);
}

int
proxy_put_cancel(struct slice id, wall_msec now, struct buf *out)
{
	return bare("proxy_cancel", id, now, out);
}

/* WebSockets -------------------------------------------------------------- */

static void
put_ids(struct js_writer *w, struct slice id)
{
	js_kv_string(w, "request_id", id);
	js_kv_string(w, "stream_id", id);
}

/* Always with the type byte: without it they guess by the first byte. */
int
proxy_put_data(struct slice id, uint8_t kind, struct slice bytes, wall_msec now,
    struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "proxy_websocket_data", id);
	put_ids(&w, id);
	put_base64(&w, "data", (struct slice){ &kind, 1 }, bytes);
	js_kv_u64(&w, "message_type", kind);
	return end(&w, now);
}

int
proxy_put_close(struct slice id, wall_msec now, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "proxy_websocket_close", id);
	put_ids(&w, id);
	return end(&w, now);
}

/* gateway_hello ----------------------------------------------------------- */

int
proxy_put_hello(wall_msec now, struct buf *out)
{
	struct js_writer w;

	begin(&w, out, "gateway_hello", (struct slice){ 0 });
	js_kv_bool(&w, "use_yamux", true);
	js_kv_object(&w, "yamux_config");
	js_kv_u64(&w, "max_stream_window_size", 256 * 1024);
	js_kv_u64(&w, "keep_alive_interval_seconds", 30);
	js_kv_u64(&w, "connection_timeout_seconds", 10);
	js_end(&w);
	return end(&w, now);
}
