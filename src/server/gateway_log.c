#include <stdio.h>

#include "base/err.h"

#include "io/log.h"

#include "server/gateway_ws.h"

#include "server/gateway_log.h"

/* Texts of document 1 are messages of these events, for who looks for them. */

enum { DURATIONS = 8 };

/* Upper bounds of the histogram of WebSockets, in ms; the last is +Inf. */
static const uint64_t durations[DURATIONS] = { 100, 1000, 10000, 60000, 600000,
	3600000, 14400000, 86400000 };

static struct server_counts *
counts_of(const struct conn *c)
{
	return &c->dock->server->counts;
}

static struct slice
service_of(const struct visit *v)
{
	const struct tunnel_target *t =
	    v->pass != NULL ? &v->pass->grant.target : &v->what.target;

	return t->service.len > 0 ? t->service : t->host;
}

static struct slice
namespace_of(const struct visit *v)
{
	return v->pass != NULL ? v->pass->grant.target.namespace
			       : v->what.target.namespace;
}

void
gateway_log_upgrade(const struct visit *v)
{
	log_info("tunnel_upgrade",
	    kv_c("msg", "Detected WebSocket upgrade request"),
	    kv_s("request_id", v->call->request_id), kv_s("host", v->host),
	    kv_s("path", v->path), kv_s("service", service_of(v)),
	    kv_s("namespace", namespace_of(v)),
	    kv_s("remote", v->call->credential.remote));
}

void
gateway_log_reached(const struct visit *v, const struct flow_answer *a)
{
	if (!v->websocket)
		return;
	log_info("tunnel_reached",
	    kv_c("msg", "Successfully connected to service WebSocket"),
	    kv_s("request_id", v->call->request_id), kv_s("host", v->host),
	    kv_s("path", v->path), kv_s("service", service_of(v)),
	    kv_s("namespace", namespace_of(v)), kv_s("cluster_id", v->agent_id),
	    kv_s("address", a->address), kv_ms("resolve", a->resolve),
	    kv_ms("connect", a->connect));
}

void
gateway_log_failed(const struct visit *v, const struct gateway_no *no, int err)
{
	if (no->location.len > 0)
		return;
	counts_of(v->conn)->tunnel_failures[no->hop]++;
	log_info("tunnel_failed", kv_s("request_id", v->call->request_id),
	    kv_s("host", v->host), kv_s("path", v->path),
	    kv_i("status", no->status), kv_s("code", no->code),
	    kv_s("hop", gateway_hop_name(no->hop)),
	    kv_s("service", service_of(v)), kv_s("cluster_id", v->agent_id),
	    kv_e("err", err));
}

void
gateway_log_cut(const struct visit *v, struct slice why, int err)
{
	counts_of(v->conn)->tunnel_cut++;
	log_info("tunnel_cut", kv_s("request_id", v->call->request_id),
	    kv_s("host", v->host), kv_s("path", v->path), kv_s("why", why),
	    kv_e("err", err), kv_u("to_service", v->to_service),
	    kv_u("to_visitor", v->to_visitor));
	counts_of(v->conn)->tunnel_body_bytes[TO_SERVICE] += v->to_service;
	counts_of(v->conn)->tunnel_body_bytes[TO_VISITOR] += v->to_visitor;
}

void
gateway_log_done(const struct visit *v)
{
	struct loop *l = v->conn->dock->lane.loop;

	counts_of(v->conn)->tunnel_body_bytes[TO_SERVICE] += v->to_service;
	counts_of(v->conn)->tunnel_body_bytes[TO_VISITOR] += v->to_visitor;
	log_debug("tunnel_request", kv_s("request_id", v->call->request_id),
	    kv_s("host", v->host), kv_s("path", v->path),
	    kv_i("status", v->status), kv_s("cluster_id", v->agent_id),
	    kv_u("to_service", v->to_service),
	    kv_u("to_visitor", v->to_visitor),
	    kv_ms("took", loop_now(l) - v->began));
}

void
relay_log_begin(const struct relay *r)
{
	counts_of(r->conn)->tunnel_websockets++;
	log_info("tunnel_websocket_open",
	    kv_c("msg", "WebSocket tunnel established"),
	    kv_s("request_id", r->request_id), kv_s("host", r->host),
	    kv_s("path", r->path), kv_s("service", r->service),
	    kv_s("namespace", r->namespace), kv_s("cluster_id", r->agent_id),
	    kv_b("raw", r->raw));
}

/* The code that a side has closed with, 0 for none that is known. */
static uint16_t
close_code(const struct relay *r)
{
	if (r->code != 0)
		return r->code;
	for (int way = 0; r->raw && way < WAYS; way++) {
		if (r->borders[way].closed)
			return r->borders[way].code;
	}
	return 0;
}

static struct slice
why_of(const struct relay *r)
{
	if (r->why_len > 0)
		return (struct slice){ (const uint8_t *)r->why, r->why_len };
	if (r->raw && r->borders[TO_SERVICE].closed)
		return SL("closed_by_visitor");
	if (r->raw && r->borders[TO_VISITOR].closed)
		return SL("closed_by_service");
	return SL("ended");
}

void
relay_log_end(const struct relay *r)
{
	struct server_counts *n = counts_of(r->conn);
	msec took = loop_now(r->conn->dock->lane.loop) - r->began;
	size_t i = 0;

	while (i < DURATIONS && (uint64_t)took > durations[i])
		i++;
	n->tunnel_ws_ended[i]++;
	n->tunnel_ws_ms += (uint64_t)took;
	n->tunnel_websockets--;
	log_info("tunnel_websocket_closed", kv_s("request_id", r->request_id),
	    kv_s("host", r->host), kv_s("path", r->path),
	    kv_s("service", r->service), kv_s("namespace", r->namespace),
	    kv_s("cluster_id", r->agent_id), kv_s("why", why_of(r)),
	    kv_u("code", close_code(r)),
	    kv_u("messages_client_to_service", r->count[TO_SERVICE][0]),
	    kv_u("bytes_client_to_service", r->count[TO_SERVICE][1]),
	    kv_u("messages_service_to_client", r->count[TO_VISITOR][0]),
	    kv_u("bytes_service_to_client", r->count[TO_VISITOR][1]),
	    kv_ms("lasted", took));
}

/* Metrics -------------------------------------------------------------------
 */

static void
type(struct buf *b, const char *name, const char *kind, const char *help)
{
	char line[512];

	snprintf(line, sizeof(line), "# HELP %s %s\n# TYPE %s %s\n", name, help,
	    name, kind);
	buf_put(b, slice_from(line));
}

static void
sample(struct buf *b, const char *name, const char *labels, uint64_t n)
{
	buf_put(b, slice_from(name));
	buf_put(b, slice_from(labels));
	buf_put_byte(b, ' ');
	buf_put_u64(b, n);
	buf_put_byte(b, '\n');
}

static void
both_ways(struct buf *b, const char *name, const char *help,
    const atomic_uint_fast64_t n[WAYS])
{
	type(b, name, "counter", help);
	sample(b, name, "{direction=\"client_to_service\"}", n[TO_SERVICE]);
	sample(b, name, "{direction=\"service_to_client\"}", n[TO_VISITOR]);
}

static void
put_durations(struct buf *b, const struct server_counts *n)
{
	static const char *const name = "muster_tunnel_websocket_seconds";
	char labels[64], line[128];
	uint64_t sum = 0;

	type(b, name, "histogram", "How long tunnelled WebSockets lasted.");
	for (size_t i = 0; i <= DURATIONS; i++) {
		sum += n->tunnel_ws_ended[i];
		if (i < DURATIONS)
			snprintf(labels, sizeof(labels), "_bucket{le=\"%g\"}",
			    (double)durations[i] / 1000);
		else
			snprintf(
			    labels, sizeof(labels), "_bucket{le=\"+Inf\"}");
		sample(b, name, labels, sum);
	}
	snprintf(line, sizeof(line), "%s_sum %.3f\n%s_count %llu\n", name,
	    (double)n->tunnel_ws_ms / 1000, name, (unsigned long long)sum);
	buf_put(b, slice_from(line));
}

void
gateway_put_metrics(struct buf *b, const struct server *s)
{
	static const char *const hops[] = { "{hop=\"visitor\"}",
		"{hop=\"controller\"}", "{hop=\"agent\"}",
		"{hop=\"service\"}" };
	const struct server_counts *n = &s->counts;

	type(b, "muster_tunnel_requests_total", "counter",
	    "Requests for services behind agents.");
	sample(b, "muster_tunnel_requests_total", "", n->tunnel_requests);
	type(b, "muster_tunnel_failures_total", "counter",
	    "Those that were answered with an error of the gateway's own, by "
	    "the part of the way that failed.");
	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
		sample(b, "muster_tunnel_failures_total", hops[i],
		    n->tunnel_failures[i]);
	type(b, "muster_tunnel_cut_total", "counter",
	    "Answers that had begun and could not be ended.");
	sample(b, "muster_tunnel_cut_total", "", n->tunnel_cut);
	both_ways(b, "muster_tunnel_body_bytes_total",
	    "Bytes of bodies, both ways.", n->tunnel_body_bytes);
	type(b, "muster_tunnel_websockets", "gauge",
	    "WebSockets to services that are open.");
	sample(b, "muster_tunnel_websockets", "", n->tunnel_websockets);
	both_ways(b, "muster_tunnel_messages_total", "Their messages.",
	    n->tunnel_messages);
	both_ways(b, "muster_tunnel_bytes_total", "Bytes of those messages.",
	    n->tunnel_ws_bytes);
	put_durations(b, n);
}
