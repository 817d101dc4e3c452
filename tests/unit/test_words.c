/* The JSON of the link, both ways. */
#include <stdio.h>

#include "agent/words.h"
#include "base/err.h"
#include "base/js.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static const struct words_held held[] = {
	{ SL_INIT("cmd_a"), "running" },
	{ SL_INIT("cmd_b"), "unknown" },
};

static void
put_hello(struct buf *b)
{
	static struct probe_facts facts = { .hostname = "h\"1",
		.os = "Debian",
		.cpu_cores = 2.5,
		.memory_bytes = UINT64_C(16) << 30 };
	struct policy p;

	policy_init(&p);
	words_put_register(b,
	    &(struct words_hello){
		.request_id = SL("r"),
		.agent_id = SL("agt_x"),
		.name = SL("n"),
		.facts = &facts,
		.policy = &p,
		.install_id = SL("i"),
		.boot_id = SL("b"),
		.session_id = SL("s"),
		.stop_epoch = 3,
		.incarnation = SL("db_1"),
		.sequence = 17,
		.held = held,
		.held_count = 2,
	    });
	policy_fini(&p);
}

static void
test_register(void **state)
{
	const struct js_limits limits = { 65536, 16 };
	struct slice text;
	struct js_doc doc;
	struct arena a;
	struct buf b;
	double d;

	(void)state;
	buf_init(&b, 65536);
	arena_init(&a, 1 << 20);
	put_hello(&b);
	assert_int_equal(b.err, 0);
	assert_int_equal(js_parse(&doc, buf_peek(&b), &limits, &a), 0);
	struct js_value payload = js_get(js_root(&doc), "payload");
	assert_int_equal(js_string(js_get(payload, "hostname"), &text), 0);
	assert_slice(text, SL("h\"1"));
	struct js_value specs = js_get(payload, "server_specs");
	assert_int_equal(js_double(js_get(specs, "memory_gb"), &d), 0);
	assert_true(d == 16);
	struct js_value muster = js_get(payload, "muster");
	assert_slice(js_raw(js_get(muster, "resume")),
	    SL("{\"incarnation\":\"db_1\",\"sequence\":17,\"commands\":["
	       "{\"id\":\"cmd_a\",\"state\":\"running\"},"
	       "{\"id\":\"cmd_b\",\"state\":\"unknown\"}]}"));
	struct js_value policy = js_get(muster, "policy");
	assert_int_equal(js_string(js_get(policy, "verbs"), &text), 0);
	assert_slice(text, SL("observe"));
	buf_fini(&b);
	arena_fini(&a);
}

static void
test_heartbeat(void **state)
{
	const struct probe_metrics m = { .cpu_percent = 12.345,
		.load = { 0.5, 1, 2 } };
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	words_put_heartbeat(&b,
	    &(struct words_beat){ .agent_id = SL("a"),
		.status = "healthy",
		.ill = "spool_full",
		.running = 2,
		.metrics = &m });
	assert_int_equal(b.err, 0);
	assert_slice(buf_peek(&b),
	    SL("{\"type\":\"heartbeat\",\"payload\":{\"agent_id\":\"a\","
	       "\"status\":\"healthy\",\"tunnel_status\":\"connected\","
	       "\"metadata\":{\"version\":\"" MUSTER_VERSION "\","
	       "\"running\":2,\"cpu_usage\":12.3,\"memory_usage\":0,"
	       "\"disk_usage\":0,\"load\":[0.5,1,2],\"network\":{"
	       "\"in_bytes_per_second\":0,\"out_bytes_per_second\":0}},"
	       "\"muster\":{\"ill\":\"spool_full\"}},"
	       "\"timestamp\":\"1970-01-01T00:00:00.000Z\"}"));
	buf_fini(&b);
}

static int
read_text(const char *text, struct word *w)
{
	static struct arena a;

	arena_fini(&a);
	arena_init(&a, 1 << 20);
	return words_read(slice_from(text), &a, w);
}

static void
test_read(void **state)
{
	struct word w;

	(void)state;
	assert_int_equal(
	    read_text("{\"type\":\"register_success\",\"request_id\":\"r\","
		      "\"payload\":{\"cluster_id\":\"c\",\"muster\":{"
		      "\"incarnation\":\"db\",\"stop_epoch\":5,"
		      "\"heartbeat_ms\":5000,\"limits\":{\"message\":"
		      "2048}}}}",
		&w),
	    0);
	assert_int_equal(w.kind, WORD_REGISTERED);
	assert_slice(w.cluster_id, SL("c"));
	assert_slice(w.incarnation, SL("db"));
	assert_int_equal(w.stop_epoch, 5);
	assert_int_equal(w.heartbeat_ms, 5000);
	assert_int_equal(w.message_max, 2048);
	assert_int_equal(read_text("{\"type\":\"reconnect\",\"payload\":"
				   "{\"after_ms\":10,\"spread_ms\":20}}",
			     &w),
	    0);
	assert_int_equal(w.kind, WORD_RECONNECT);
	assert_int_equal(w.after_ms, 10);
	assert_int_equal(w.spread_ms, 20);
	assert_int_equal(read_text("{\"type\":\"new\"}", &w), 0);
	assert_int_equal(w.kind, WORD_OTHER);
}

static void
test_errors(void **state)
{
	struct word w;

	(void)state;
	assert_int_equal(read_text("{\"type\":\"error\",\"payload\":"
				   "{\"error\":\"Cluster Not Found\"}}",
			     &w),
	    0);
	assert_true(words_unregistered(&w));
	assert_int_equal(
	    read_text("{\"type\":\"error\",\"payload\":{\"error\":\"x\"}}", &w),
	    0);
	assert_false(words_unregistered(&w));
	assert_null(words_advice(&w));
	assert_int_equal(read_text("{\"type\":\"error\",\"payload\":{\"error\":"
				   "\"x\",\"code\":\"AGENT_ID_TAKEN\"}}",
			     &w),
	    0);
	assert_string_equal(words_advice(&w), "join this host again");
	w.code = SL("NO_SPACE");
	assert_null(words_advice(&w));
	assert_int_equal(read_text("{\"type\":7}", &w), ERR_TYPE);
	assert_int_equal(read_text("[]", &w), ERR_TYPE);
	assert_int_equal(read_text("{}", &w), ERR_MISSING);
	assert_int_equal(read_text("nope", &w), ERR_INVALID);
	assert_int_equal(
	    read_text("{\"type\":\"a\",\"type\":\"b\"}", &w), ERR_DUPLICATE);
	/* A heartbeat too quick or too slow would hurt one side. */
	assert_int_equal(read_text("{\"type\":\"register_success\",\"payload\":"
				   "{\"muster\":{\"heartbeat_ms\":1}}}",
			     &w),
	    ERR_RANGE);
	assert_slice(w.type, SL("register_success"));
}

static void
without_memory(void *arg)
{
	struct arena a;
	struct word w;
	struct buf b;

	(void)arg;
	buf_init(&b, 65536);
	put_hello(&b);
	arena_init(&a, 1 << 20);
	if (b.err == 0)
		(void)words_read(buf_peek(&b), &a, &w);
	arena_fini(&a);
	buf_fini(&b);
}

static void
test_oom(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_heartbeat),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
