/* The JSON of the link, both ways. */
#include <stdio.h>

#include "agent/words.h"
#include "base/err.h"
#include "base/js.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/schema.h"
#include "support/unit.h"

#define SCHEMAS "docs/protocol/schema/cluster/"

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

	const struct record_stop stop = {
		.epoch = 3, .stopped = true, .scope = SL("all"), .mac = SL("ab")
	};
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
		.stop = &stop,
		.local_stop = true,
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
	assert_slice(js_raw(js_get(muster, "stop")),
	    SL("{\"epoch\":3,\"stopped\":true,\"scope\":\"all\","
	       "\"mac\":\"ab\",\"local\":true}"));
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
		      "\"stop\":{\"epoch\":6,\"stopped\":true,"
		      "\"scope\":\"all\"},"
		      "\"heartbeat_ms\":5000,\"limits\":{\"message\":"
		      "2048}}}}",
		&w),
	    0);
	assert_int_equal(w.kind, WORD_REGISTERED);
	assert_slice(w.cluster_id, SL("c"));
	assert_slice(w.incarnation, SL("db"));
	assert_true(w.has_stop && w.stop.epoch == 6 && w.stop.stopped);
	assert_slice(w.stop.scope, SL("all"));
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
test_stop(void **state)
{
	struct word w;

	(void)state;
	assert_int_equal(
	    read_text("{\"type\":\"stop\",\"payload\":{\"epoch\":7,\"scope\":"
		      "\"agent:a\",\"keep_tunnels\":true,\"reason\":\"r\","
		      "\"at\":\"1970-01-01T00:00:01.000Z\",\"mac\":\"cd\"}}",
		&w),
	    0);
	assert_int_equal(w.kind, WORD_STOP);
	assert_true(w.has_stop && w.stop.stopped && w.stop.keep_tunnels);
	assert_int_equal(w.stop.epoch, 7);
	assert_int_equal(w.stop.at, 1000);
	assert_slice(w.stop.scope, SL("agent:a"));
	assert_slice(w.stop.reason, SL("r"));
	assert_slice(w.stop.mac, SL("cd"));
	/* Nothing but its number can be missing or wrong. */
	assert_int_equal(
	    read_text("{\"type\":\"stop\",\"payload\":{\"epoch\":8,\"scope\":"
		      "5,\"reason\":null,\"at\":\"soon\",\"mac\":{}}}",
		&w),
	    0);
	assert_true(w.kind == WORD_STOP && w.stop.stopped);
	assert_int_equal(w.stop.epoch, 8);
	assert_int_equal(
	    read_text("{\"type\":\"resume_work\",\"payload\":{\"epoch\":9,"
		      "\"stopped\":true}}",
		&w),
	    0);
	assert_true(w.kind == WORD_STOP && !w.stop.stopped);
	assert_int_equal(
	    read_text("{\"type\":\"stop\",\"payload\":{}}", &w), ERR_MISSING);
	assert_int_equal(
	    read_text("{\"type\":\"stop\",\"payload\":{\"epoch\":-1}}", &w),
	    ERR_RANGE);
}

static void
test_receipt(void **state)
{
	static const struct words_ended ended[] = {
		{ SL_INIT("cmd_a"), SL_INIT("11,12"), SL_INIT(""), 70, 4 },
		{ SL_INIT("cmd_b"), SL_INIT(""), SL_INIT("13,x,14"), 2, 0 },
	};
	struct words_receipt r = { .epoch = 7,
		.stopped = true,
		.began = 1000,
		.done = 2000,
		.ended = ended,
		.ended_count = 2 };
	const char *wrong;
	struct buf b;

	(void)state;
	buf_init(&b, WORDS_TEXT_MAX);
	words_put_receipt(&b, &r);
	assert_int_equal(b.err, 0);
	assert_slice(buf_peek(&b),
	    SL("{\"type\":\"stop_receipt\",\"payload\":{\"epoch\":7,"
	       "\"stopped\":true,\"local\":false,"
	       "\"began_at\":\"1970-01-01T00:00:01.000Z\","
	       "\"done_at\":\"1970-01-01T00:00:02.000Z\",\"commands\":["
	       "{\"command_id\":\"cmd_a\",\"pids\":[11,12],\"count\":70,"
	       "\"took_ms\":4},{\"command_id\":\"cmd_b\",\"pids\":[],"
	       "\"count\":2,\"took_ms\":0}],\"left\":[13,14],"
	       "\"tunnels_closed\":0},"
	       "\"timestamp\":\"1970-01-01T00:00:00.000Z\"}"));
	wrong = schema_check(SCHEMAS "stop_receipt.json", buf_peek(&b));
	assert_null(wrong);
	buf_clear(&b);
	words_put_local_stop(&b, true, 1000, SL("r"), 0);
	wrong = schema_check(SCHEMAS "local_stop.json", buf_peek(&b));
	assert_null(wrong);
	buf_fini(&b);
}

/* As many commands as an agent may have, with as many names as it knows. */
static void
test_receipt_of_many(void **state)
{
	static struct words_ended ended[4096];
	static char ids[4096][32];
	struct words_receipt r = { .ended = ended };
	char pids[64 * 9] = "";
	struct buf b;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 64; i++)
		n += (size_t)snprintf(
		    pids + n, sizeof(pids) - n, "%s4000001", i ? "," : "");
	for (size_t i = 0; i < 4096; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]),
		    "cmd_aaaaaaaaaaaaaaaa%04u", (unsigned)i);
		ended[i] = (struct words_ended){ slice_from(ids[i]),
			slice_from(pids), slice_from(pids), 1 << 20, 1 << 20 };
	}
	for (r.ended_count = 1024; r.ended_count <= 4096; r.ended_count += 1) {
		if (r.ended_count == 1026)
			r.ended_count = 4096;
		buf_init(&b, WORDS_TEXT_MAX);
		words_put_receipt(&b, &r);
		assert_int_equal(b.err, 0);
		buf_fini(&b);
	}
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
	buf_clear(&b);
	const struct words_ended ended = { .id = SL("cmd_a"),
		.pids = SL("1,2") };
	words_put_receipt(
	    &b, &(struct words_receipt){ .ended = &ended, .ended_count = 1 });
	words_put_local_stop(&b, true, 0, SL("r"), 0);
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
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_receipt),
		cmocka_unit_test(test_receipt_of_many),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
