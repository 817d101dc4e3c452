#include "base/err.h"

#include "dialect/cluster.h"

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
