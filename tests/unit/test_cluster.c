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
	const struct cluster_context c = { .public_url = SL("https://m") };
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
	const struct cluster_context c = { .public_url = SL("https://m") };
	static const char *const texts[] = {
		("{\"type\":\"register\",\"payload\":{\"agent_id\":\"a\","
		 "\"name\":\"n\",\"labels\":{\"a\":\"b\"},\"muster\":{"
		 "\"proto\":1,\"resume\":{\"commands\":[{\"id\":\"c\","
		 "\"state\":\"exited\"}]}}}}"),
		("{\"type\":\"heartbeat\",\"payload\":{\"metadata\":{\"a\":"
		 "1}}}"),
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
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
