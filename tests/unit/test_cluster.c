#include <stdio.h>

#include "base/err.h"
#include "base/js.h"

#include "dialect/cluster.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct arena arena;

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena, 64 << 20);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static struct event
read_text(struct slice text)
{
	struct event ev;

	arena_reset(&arena);
	assert_int_equal(cluster_decode(text, &arena, &ev), 0);
	return ev;
}

static void
test_stop(void **state)
{
	struct event ev = read_text(SL(
	    "{\"type\":\"stop_receipt\",\"payload\":{\"epoch\":7,\"stopped\":"
	    "true,\"local\":true,\"began_at\":\"2025-10-16T12:00:00.000Z\","
	    "\"done_at\":\"2025-10-16T12:00:00.250Z\",\"commands\":["
	    "{\"command_id\":\"cmd_a\",\"pids\":[11,12],\"count\":70,"
	    "\"took_ms\":4,\"later\":{}},{\"command_id\":\"cmd_b\"}],"
	    "\"left\":[5],\"tunnels_closed\":2}}"));

	(void)state;
	assert_int_equal(ev.kind, EVENT_STOP_REPORT);
	assert_int_equal(ev.report.epoch, 7);
	assert_true(ev.report.stopped && ev.report.local);
	assert_int_equal(ev.report.done_at - ev.report.began_at, 250);
	assert_int_equal(ev.report.commands, 2);
	assert_int_equal(ev.report.killed, 70);
	assert_int_equal(ev.report.left, 1);
	assert_slice(ev.report.detail_json,
	    SL("{\"commands\":[{\"command_id\":\"cmd_a\",\"pids\":[11,12],"
	       "\"count\":70,\"took_ms\":4},{\"command_id\":\"cmd_b\","
	       "\"pids\":[],\"count\":0,\"took_ms\":0}],\"left\":[5],"
	       "\"tunnels_closed\":2}"));

	ev = read_text(SL("{\"type\":\"local_stop\",\"payload\":{\"stopped\":"
			  "true,\"reason\":\"r\"}}"));
	assert_int_equal(ev.kind, EVENT_LOCAL_STOP);
	assert_true(ev.stop.stopped && ev.stop.local);
	assert_slice(ev.stop.reason, SL("r"));

	ev = read_text(SL(
	    "{\"type\":\"register\",\"payload\":{\"agent_id\":\"a\",\"name\":"
	    "\"n\",\"muster\":{\"proto\":1,\"stop\":{\"epoch\":9,\"stopped\":"
	    "true,\"scope\":\"all\",\"local\":true,\"mac\":\"0102030000000000"
	    "0000000000000000000000000000000000000000000000ff\"}}}}"));
	assert_int_equal(ev.kind, EVENT_REGISTER);
	const struct stop_order *s = &ev.registration.native.stop;
	assert_true(s->epoch == 9 && s->stopped && s->local && s->has_mac);
	assert_true(s->mac[0] == 1 && s->mac[31] == 0xff);
	assert_slice(s->scope, SL("all"));
}

static void
test_stop_refused(void **state)
{
	static const struct {
		const char *payload, *field;
	} rows[] = {
		{ "\"stopped\":true", "epoch" },
		{ "\"epoch\":1", "stopped" },
		{ "\"epoch\":-1,\"stopped\":true", "epoch" },
		{ "\"epoch\":9007199254740993,\"stopped\":true", "epoch" },
		{ "\"epoch\":1,\"stopped\":true,\"began_at\":\"soon\"",
		    "began_at" },
		{ "\"epoch\":1,\"stopped\":true,\"left\":[0]", "left" },
		{ "\"epoch\":1,\"stopped\":true,\"left\":{}", "left" },
		{ "\"epoch\":1,\"stopped\":true,\"commands\":[{}]",
		    "command_id" },
		{ "\"epoch\":1,\"stopped\":true,\"commands\":[{"
		  "\"command_id\":\"c\",\"pids\":[\"x\"]}]",
		    "pids" },
		{ "\"epoch\":1,\"stopped\":true,\"commands\":[4]", "" },
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "{\"type\":\"stop_receipt\",\"payload\":{%s}}",
		    rows[i].payload);
		struct event ev = read_text(slice_from(text));
		assert_int_equal(ev.kind, EVENT_BAD);
		assert_slice(ev.complaint.field, slice_from(rows[i].field));
	}
	struct event ev = read_text(SL(
	    "{\"type\":\"register\",\"payload\":{\"agent_id\":\"a\",\"name\":"
	    "\"n\",\"muster\":{\"proto\":1,\"stop\":{\"epoch\":9,\"stopped\":"
	    "true,\"mac\":\"zz\"}}}}"));
	assert_int_equal(ev.kind, EVENT_BAD);
	assert_slice(ev.complaint.field, SL("muster.stop.mac"));
}

/* More than is kept of it: all is counted, the text stays whole. */
static void
test_stop_of_many(void **state)
{
	const struct js_limits limits = { 1 << 20, 8 };
	struct js_doc doc;
	struct arena a;
	struct buf b;
	char one[512];

	(void)state;
	buf_init(&b, 2 << 20);
	arena_init(&a, 16 << 20);
	buf_put(&b,
	    SL("{\"type\":\"stop_receipt\",\"payload\":{\"epoch\":1,"
	       "\"stopped\":true,\"commands\":["));
	for (int i = 0; i < 4000; i++) {
		(void)snprintf(one, sizeof(one),
		    "%s{\"command_id\":\"cmd_%d\",\"pids\":[4000001,4000002,"
		    "4000003,4000004,4000005],\"count\":5,\"took_ms\":1}",
		    i == 0 ? "" : ",", i);
		buf_put(&b, slice_from(one));
	}
	buf_put(&b, SL("],\"left\":[7]}}"));
	struct event ev = read_text(buf_peek(&b));
	assert_int_equal(ev.kind, EVENT_STOP_REPORT);
	assert_int_equal(ev.report.commands, 4000);
	assert_int_equal(ev.report.killed, 20000);
	assert_true(ev.report.detail_json.len > 100000);
	assert_int_equal(js_parse(&doc, ev.report.detail_json, &limits, &a), 0);
	assert_int_equal(js_count(js_get(js_root(&doc), "left")), 1);
	arena_fini(&a);
	buf_fini(&b);
}

static void
test_register(void **state)
{
	struct event ev = read_text(SL(
	    "{\"type\":\"register\",\"request_id\":\"r1\",\"payload\":{"
	    "\"agent_id\":\"a-1\",\"name\":\"one\",\"hostname\":\"h\","
	    "\"k8s_service_token\":\"eyJ\",\"server_specs\":{\"cpu_cores\":4},"
	    "\"features\":{\"supports_token_refresh\":true},"
	    "\"labels\":{\"env\":\"prod\",\"n\":4,\"on\":true,\"o\":{},"
	    "\"a b\":\"x\"},\"muster\":{\"proto\":1}},\"timestamp\":5}"));

	(void)state;
	assert_int_equal(ev.kind, EVENT_REGISTER);
	assert_slice(ev.request_id, SL("r1"));
	assert_slice(ev.registration.agent_id, SL("a-1"));
	assert_slice(ev.registration.name, SL("one"));
	assert_slice(ev.registration.labels_json,
	    SL("{\"env\":\"prod\",\"n\":\"4\",\"on\":\"true\"}"));
	assert_slice(ev.registration.info_json,
	    SL("{\"agent_id\":\"a-1\",\"name\":\"one\",\"hostname\":\"h\","
	       "\"k8s_service_token\":true,\"server_specs\":{\"cpu_cores\":4},"
	       "\"features\":{\"supports_token_refresh\":true},"
	       "\"labels\":{\"env\":\"prod\",\"n\":4,\"on\":true,\"o\":{},"
	       "\"a b\":\"x\"}}"));
	assert_true(ev.registration.native.present);
	assert_int_equal(ev.registration.native.min, 1);
	assert_false(ev.registration.proxies);
	ev = read_text(
	    SL("{\"type\":\"register\",\"request_id\":\"r1\",\"payload\":{"
	       "\"agent_id\":\"a-1\",\"name\":\"one\","
	       "\"features\":{\"supports_websocket_proxy\":true}}}"));
	assert_true(ev.registration.proxies);
}

static struct slice
metadata_of(const char *payload)
{
	char text[4096];

	snprintf(text, sizeof(text), "{\"type\":\"heartbeat\",\"payload\":%s}",
	    payload);
	struct slice copy = guard_copy(slice_from(text));
	struct event ev;
	arena_reset(&arena);
	assert_int_equal(cluster_decode(copy, &arena, &ev), 0);
	assert_int_equal(ev.kind, EVENT_HEARTBEAT);
	struct slice kept;
	assert_int_equal(
	    arena_copy(&arena, ev.heartbeat.metadata_json, &kept), 0);
	guard_free(copy);
	return kept;
}

static void
test_metadata(void **state)
{
	(void)state;
	assert_null(metadata_of("{}").ptr);
	assert_null(metadata_of("{\"status\":\"x\",\"metadata\":{}}").ptr);
	assert_slice(metadata_of("{\"metadata\":{\"cpu\":\"45%\",\"mem\":"
				 "\"7.25 %\",\"a\":\"05%\",\"b\":\"%\","
				 "\"c\":\"1e3%\",\"d\":\"1.%\",\"e\":\"0%\"}}"),
	    SL("{\"cpu\":45,\"mem\":7.25,\"a\":\"05%\",\"b\":\"%\","
	       "\"c\":\"1e3%\",\"d\":\"1.%\",\"e\":0}"));
	/* Other members join those of metadata, which win. */
	assert_slice(metadata_of("{\"version\":1,\"metadata\":{\"version\":2},"
				 "\"agent_id\":\"a\",\"is_private\":true}"),
	    SL("{\"version\":2,\"is_private\":true}"));
	/* Secrets, wherever they are. */
	assert_slice(
	    metadata_of("{\"prometheus_Password\":\"x\",\"loki_url\":\"u\","
			"\"worker_join\":{\"join_token\":[\"y\"],\"n\":[{"
			"\"clientSecret\":{\"k\":1},\"has_token\":false,"
			"\"token\":null}]}}"),
	    SL("{\"prometheus_Password\":true,\"loki_url\":\"u\","
	       "\"worker_join\":{\"join_token\":true,\"n\":[{"
	       "\"clientSecret\":true,\"has_token\":false,"
	       "\"token\":null}]}}"));
}

/* Too much is cut, and says so; what is left is sound. */
static void
test_cut(void **state)
{
	static char text[300000];
	const struct js_limits limits = { 1 << 20, 8 };
	struct js_doc doc;
	int n = snprintf(text, sizeof(text),
	    "{\"type\":\"heartbeat\",\"payload\":{\"metadata\":{"
	    "\"_truncated\":5,\"big\":\"%*s\",",
	    70000, "x");

	(void)state;
	for (int i = 0; i < 300; i++)
		n += snprintf(
		    text + n, sizeof(text) - (size_t)n, "\"m%d\":%d,", i, i);
	snprintf(text + n, sizeof(text) - (size_t)n, "\"z\":0}}}");
	struct event ev = read_text(slice_from(text));
	assert_int_equal(ev.kind, EVENT_HEARTBEAT);
	struct slice kept = ev.heartbeat.metadata_json;
	assert_true(kept.len <= CLUSTER_KEPT_MAX);
	assert_int_equal(js_parse(&doc, kept, &limits, &arena), 0);
	assert_null(doc.repeated.ptr);
	assert_int_equal(js_count(js_root(&doc)), CLUSTER_MEMBERS_MAX + 1);
	assert_int_equal(js_get(js_root(&doc), "big").kind, JS_NONE);
	assert_int_equal(js_get(js_root(&doc), "m255").kind, JS_NUMBER);
	assert_int_equal(js_get(js_root(&doc), "m256").kind, JS_NONE);
	assert_int_equal(js_get(js_root(&doc), "_truncated").kind, JS_BOOL);
}

static void
test_unsupported(void **state)
{
	const struct cluster_context c = { .tunnel_origin = SL("https://m") };
	struct event ev = { .kind = EVENT_WELCOME };
	struct buf out;
	int status = 5;

	(void)state;
	buf_init(&out, 16);
	assert_int_equal(cluster_encode(&ev, &c, &out), ERR_UNSUPPORTED);
	assert_int_equal(
	    cluster_encode_call(&ev, CLUSTER_ACK, &c, &status, &out),
	    ERR_UNSUPPORTED);
	assert_int_equal(status, 5);
	assert_int_equal(buf_peek(&out).len, 0);
	ev.kind = EVENT_PONG;
	assert_int_equal(cluster_encode(&ev, &c, &out), ERR_FULL);
	buf_fini(&out);
}

static void
without_memory(void *arg)
{
	const struct cluster_context c = { .tunnel_origin = SL("https://m") };
	static const char *const texts[] = {
		("{\"type\":\"register\",\"payload\":{\"agent_id\":\"a\","
		 "\"name\":\"n\",\"labels\":{\"a\":\"b\"},\"muster\":{"
		 "\"proto\":1,\"resume\":{\"commands\":[{\"id\":\"c\","
		 "\"state\":\"exited\"}]}}}}"),
		("{\"type\":\"heartbeat\",\"payload\":{\"metadata\":{\"a\":"
		 "1}}}"),
		("{\"type\":\"stop_receipt\",\"payload\":{\"epoch\":1,"
		 "\"stopped\":true,\"commands\":[{\"command_id\":\"c\"}]}}"),
		"{\"type\":\"nothing\"}",
		"{\"type\":\"ping\",\"payload\":3}",
	};
	struct event ev = { .kind = EVENT_KINDS };
	struct buf out;
	struct arena a;

	(void)arg;
	for (size_t i = 0; i < 4; i++) {
		arena_init(&a, 1 << 20);
		ev.kind = EVENT_KINDS;
		int err = cluster_decode(slice_from(texts[i]), &a, &ev);
		assert_true(err == 0 || err == ERR_NOMEM);
		assert_int_equal(err == 0, ev.kind != EVENT_KINDS);
		arena_fini(&a);
	}
	arena_init(&a, 1 << 20);
	ev.kind = EVENT_KINDS;
	int err = cluster_decode_call(CLUSTER_RESULT, SL("c"), SL("d"),
	    SL("{\"status\":\"completed\",\"output_base64\":\"YWJj\"}"), &a,
	    &ev);
	assert_true(err == 0 ? ev.kind == EVENT_RESULT : err == ERR_NOMEM);
	arena_fini(&a);
	const struct command_record command = { .id = SL("cmd_1"),
		.argv_json = SL("[\"a\",\"b\"]") };
	ev = (struct event){ .kind = EVENT_POLL_REPLY };
	ev.poll = (struct poll_reply){ .commands = &command, .count = 1 };
	int status = 0;
	buf_init(&out, 4096);
	err = cluster_encode_call(&ev, CLUSTER_POLL, &c, &status, &out);
	assert_true(err == 0 ? status == 200 : err == ERR_NOMEM);
	buf_clear(&out);
	ev = (struct event){ .kind = EVENT_REGISTERED };
	err = cluster_encode(&ev, &c, &out);
	assert_true(err == 0 || err == ERR_NOMEM);
	buf_fini(&out);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_stop_refused),
		cmocka_unit_test(test_stop_of_many),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
