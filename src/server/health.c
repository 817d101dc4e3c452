#include <stdio.h>

#include "base/err.h"
#include "base/js_write.h"

#include "model/command.h"

#include "io/clock.h"

#include "server/api.h"
#include "server/flow.h"
#include "server/gateway_log.h"
#include "server/pressure.h"
#include "server/show.h"

#include "server/health.h"

/* Fields of the monitor dialect's document first, then ours. */
static void
put_health(struct conn *c, struct js_writer *w, bool failing)
{
	struct server *s = c->dock->server;
	struct hub_stats stats;
	wall_msec now = clock_wall();

	core_stats(s->core, &stats);
	js_begin_object(w);
	js_kv_string(w, "status", failing ? SL("error") : SL("ok"));
	js_kv_string(w, "gateway",
	    failing                  ? SL("error")
		: s->short_of_memory ? SL("degraded")
				     : SL("connected"));
	js_kv_object(w, "websocket");
	js_kv_string(w, "status", s->draining ? SL("draining") : SL("running"));
	js_kv_u64(w, "connections", stats.watches);
	js_kv_u64(w, "connectedUsers", stats.watching_users);
	js_end(w);
	js_kv_object(w, "config");
	js_kv_string(w, "gatewayUrl", s->public_url);
	js_kv_bool(w, "useMockData", false);
	js_end(w);
	js_kv_string(w, "schema", SL("muster.health/1"));
	js_kv_string(w, "version", SL(MUSTER_VERSION));
	show_at(w, "timestamp", now);
	show_at(w, "started_at", s->started_at);
	js_kv_i64(w, "uptime_ms", now - s->started_at);
	js_kv_string(w, "store", failing ? SL("failing") : SL("ok"));
	js_kv_bool(w, "draining", s->draining);
	js_kv_object(w, "agents");
	for (int p = 0; p < PRESENCES; p++) {
		struct slice name = presence_name((enum presence)p);
		js_key(w, name);
		js_put_u64(w, stats.by_presence[p]);
	}
	js_end(w);
	js_kv_u64(w, "commands", stats.commands_live);
	js_end(w);
}

void
health_show(struct conn *c, struct call *call)
{
	bool failing = c->dock->server->store_failing;
	struct buf *text = &c->dock->text;
	const struct http1_pair fresh = { SL("Cache-Control"), SL("no-store") };
	struct js_writer w;

	(void)call;
	buf_clear(text);
	js_write(&w, text);
	put_health(c, &w, failing);
	js_finish(&w);
	web_answer_with(c, failing ? 503 : 200, "application/json",
	    buf_peek(text), &fresh, 1);
}

/* Metrics ------------------------------------------------------------------ */

static void
type(struct buf *b, const char *name, const char *kind, const char *help)
{
	buf_put(b, SL("# HELP "));
	buf_put(b, slice_from(name));
	buf_put_byte(b, ' ');
	buf_put(b, slice_from(help));
	buf_put(b, SL("\n# TYPE "));
	buf_put(b, slice_from(name));
	buf_put_byte(b, ' ');
	buf_put(b, slice_from(kind));
	buf_put_byte(b, '\n');
}

static void
sample(struct buf *b, const char *name, const char *label, struct slice value,
    uint64_t n)
{
	buf_put(b, slice_from(name));
	if (label != NULL) {
		buf_put_byte(b, '{');
		buf_put(b, slice_from(label));
		buf_put(b, SL("=\""));
		buf_put(b, value);
		buf_put(b, SL("\"}"));
	}
	buf_put_byte(b, ' ');
	buf_put_u64(b, n);
	buf_put_byte(b, '\n');
}

static void
gauge(struct buf *b, const char *name, const char *help, uint64_t n)
{
	type(b, name, "gauge", help);
	sample(b, name, NULL, (struct slice){ 0 }, n);
}

static void
counter(struct buf *b, const char *name, const char *help, uint64_t n)
{
	type(b, name, "counter", help);
	sample(b, name, NULL, (struct slice){ 0 }, n);
}

static void
put_seconds(struct buf *b, const char *name, const char *kind, const char *help,
    double seconds)
{
	char text[64];

	type(b, name, kind, help);
	buf_put(b, slice_from(name));
	snprintf(text, sizeof(text), " %.6f\n", seconds);
	buf_put(b, slice_from(text));
}

static void
put_hub(struct buf *b, const struct hub_stats *h)
{
	type(b, "muster_agents", "gauge", "Agents by presence.");
	for (int p = 0; p < PRESENCES; p++)
		sample(b, "muster_agents", "status",
		    presence_name((enum presence)p), h->by_presence[p]);
	gauge(b, "muster_commands_live", "Commands queued, sent or running.",
	    h->commands_live);
	type(b, "muster_commands_ended_total", "counter",
	    "Commands by final state.");
	for (int s = 0; s < COMMAND_STATES; s++) {
		if (command_is_final((enum command_state)s))
			sample(b, "muster_commands_ended_total", "state",
			    command_state_name((enum command_state)s),
			    h->commands_ended[s]);
	}
	gauge(b, "muster_stop_epoch", "Number of the last stop or resume.",
	    h->stop_epoch);
	gauge(b, "muster_routes", "Routes of the gateway.", h->routes);
	counter(b, "muster_tunnel_grants_total",
	    "Leaves to visit a service that were given.", h->tunnel_grants);
	gauge(b, "muster_stops_standing", "Emergency stops in force.",
	    h->stops_standing);
	type(b, "muster_stop_receipts", "gauge",
	    "Agents under those, by what they said.");
	for (int k = 0; k < RECEIPT_KINDS; k++)
		sample(b, "muster_stop_receipts", "kind",
		    receipt_kind_name((enum receipt_kind)k),
		    h->stop_receipts[k]);
	counter(b, "muster_denied_total", "Credentials refused.", h->denied);
	type(b, "muster_memory_bytes", "gauge", "Memory by pool.");
	sample(b, "muster_memory_bytes", "pool", SL("hub"), h->bytes);
	sample(b, "muster_memory_bytes", "pool", SL("resident"),
	    pressure_resident());
}

static void
put_store(struct buf *b, const struct writer_stats *w)
{
	counter(b, "muster_store_commits_total", "Transactions.", w->commits);
	counter(b, "muster_store_fsyncs_total", "Calls of fsync.", w->fsyncs);
	counter(b, "muster_store_failed_total", "Turns that did not commit.",
	    w->failed);
	gauge(b, "muster_store_waiting_ops", "Operations waiting.",
	    w->waiting_ops);
	gauge(b, "muster_store_waiting_bytes", "Output waiting.",
	    w->waiting_bytes);
	gauge(b, "muster_store_wal_pages", "Pages in the write-ahead log.",
	    w->wal_pages);
	put_seconds(b, "muster_store_commit_seconds_total", "counter",
	    "Time spent in commits.", w->commit_seconds);
}

static void
put_counts(struct buf *b, struct server *s)
{
	struct server_counts *n = &s->counts;

	gauge(b, "muster_connections", "Open connections.", n->connections);
	gauge(b, "muster_links", "Agents' WebSockets.", n->links);
	gauge(b, "muster_followers", "Followers of events.", n->followers);
	gauge(b, "muster_dashboards", "Console dashboards that watch.",
	    n->dashboards);
	gauge(b, "muster_monitors", "Status boards.", n->monitors);
	counter(b, "muster_deliveries_total",
	    "Messages to dashboards and boards.", n->deliveries);
	counter(b, "muster_slow_total",
	    "Dashboards and boards given up because they did not read.",
	    n->slow);
	counter(b, "muster_batched_total",
	    "Messages that dashboards got as part of a batch.", n->batched);
	counter(b, "muster_compressed_total",
	    "Messages to dashboards and boards sent compressed.",
	    n->compressed);
	counter(b, "muster_rate_limited_total",
	    "Messages refused or dropped by their rate.", n->limited);
	counter(b, "muster_ignored_total", "Messages that count for nothing.",
	    n->ignored);
	counter(b, "muster_unsigned_total", "Connections refused at /agent.",
	    n->unsigned_messages);
	counter(b, "muster_proxy_ignored_total",
	    "Answers of agents that speak JSON, said twice or for nobody.",
	    n->proxy_ignored);
	gauge(b, "muster_streams", "Open streams of commands.", n->pipes);
	counter(b, "muster_accepted_total", "Connections.", n->accepted);
	counter(
	    b, "muster_refused_total", "Connections without room.", n->refused);
	counter(b, "muster_http_requests_total", "Requests.", n->requests);
	counter(b, "muster_messages_in_total", "Messages of agents.",
	    n->messages_in);
	counter(b, "muster_messages_out_total", "Messages to agents.",
	    n->messages_out);
	counter(b, "muster_bytes_in_total", "Bytes read.", n->bytes_in);
	counter(b, "muster_bytes_out_total", "Bytes written.", n->bytes_out);
	counter(b, "muster_output_bytes_total", "Output of commands.",
	    n->output_bytes);
}

static void
put_by_kind(struct buf *b, const char *name, const char *kind, const char *help,
    const atomic_uint_fast64_t n[2])
{
	type(b, name, kind, help);
	sample(b, name, "kind", SL("tcp"), n[TUNNEL_TCP]);
	sample(b, name, "kind", SL("udp"), n[TUNNEL_UDP]);
}

static void
put_tunnels(struct buf *b, const struct server *s)
{
	const struct server_counts *n = &s->counts;

	if (s->settings.port_count > 0)
		type(b, "muster_port_connections", "gauge",
		    "Connections to ports of the configuration, or sources.");
	for (size_t i = 0; i < s->settings.port_count; i++)
		sample(b, "muster_port_connections", "port",
		    s->settings.ports[i].name, n->ports[i]);
	gauge(b, "muster_forwards", "Operators' tools that forward.",
	    n->forwards);
	put_by_kind(b, "muster_streams_open", "gauge",
	    "Streams to services and of listeners.", n->flows);
	put_by_kind(b, "muster_streams_opened_total", "counter",
	    "Those so far.", n->flows_opened);
	type(b, "muster_streams_refused_total", "counter",
	    "Those that agents refused, by reason.");
	for (size_t i = 0; i < FLOW_CODES; i++)
		sample(b, "muster_streams_refused_total", "code", flow_code(i),
		    n->flows_refused[i]);
	type(b, "muster_stream_bytes_total", "counter",
	    "Bytes of them, by direction.");
	sample(b, "muster_stream_bytes_total", "direction", SL("from_service"),
	    n->flow_bytes_in);
	sample(b, "muster_stream_bytes_total", "direction", SL("to_service"),
	    n->flow_bytes_out);
}

/* Of every lane, from whichever answers. */
static void
put_lanes(struct buf *b, struct server *s)
{
	char number[24], value[64];

	type(b, "muster_mailbox_depth", "gauge",
	    "Events on their way to the hub.");
	for (size_t i = 0; i < s->dock_count; i++) {
		snprintf(number, sizeof(number), "%zu", i);
		sample(b, "muster_mailbox_depth", "lane", slice_from(number),
		    mailbox_depth(&s->docks[i].lane.to_hub, MAIL_NORMAL));
	}
	type(b, "muster_loop_lag_seconds", "gauge",
	    "Latest timer since the last look.");
	for (size_t i = 0; i < s->dock_count; i++) {
		snprintf(value, sizeof(value),
		    "muster_loop_lag_seconds{lane=\"%zu\"} %.3f\n", i,
		    (double)atomic_exchange(&s->docks[i].lag, 0) / 1000);
		buf_put(b, slice_from(value));
	}
}

static void
show_metrics(struct conn *c)
{
	struct server *s = c->dock->server;
	struct buf *text = &c->dock->text;
	struct hub_stats hub;
	struct writer_stats store;

	core_stats(s->core, &hub);
	writer_stats_get(s->writer, &store);
	buf_clear(text);
	type(text, "muster_info", "gauge", "Version.");
	sample(text, "muster_info", "version", SL(MUSTER_VERSION), 1);
	put_counts(text, s);
	put_tunnels(text, s);
	gateway_put_metrics(text, s);
	put_lanes(text, s);
	put_hub(text, &hub);
	put_store(text, &store);
	web_answer(
	    c, 200, "text/plain; version=0.0.4; charset=utf-8", buf_peek(text));
}

void
metrics_ask(struct conn *c, struct call *call)
{
	if (call->credential.kind == CREDENTIAL_NONE && call->local)
		show_metrics(c);
	else
		api_ask(c, call);
}

void
metrics_answer(struct conn *c, struct call *call, const struct event *ev)
{
	(void)call;
	if (ev->kind != EVENT_REPLY)
		return;
	if (ev->reply->err != 0)
		api_refuse(c, ev->reply);
	else
		show_metrics(c);
}
