/* What an operator's tool forwards, with the hub and the agent played. */
#include <stdio.h>

#include "base/err.h"

#include "wire/be.h"
#include "wire/opening.h"

#include "server/conn.h"
#include "server/pass.h"

#include "support/oom.h"
#include "support/tunnel_kit.h"
#include "support/unit.h"

static struct kit k;

static int
setup(void **state)
{
	(void)state;
	kit_init(&k);
	kit_tool(&k);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	kit_fini(&k);
	assert_int_equal(k.server.counts.forwards, 0);
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
	return 0;
}

static void
as_tool(void)
{
	k.who = &k.tool;
}

static void
as_agent(void)
{
	k.who = &k.agent;
}

static struct slice
opening(uint8_t kind, const char *json)
{
	static uint8_t bytes[8192];
	size_t n = strlen(json);

	bytes[0] = 2;
	bytes[1] = kind;
	be_put16(bytes + 2, (uint16_t)n);
	memcpy(bytes + 4, json, n);
	return (struct slice){ bytes, 4 + n };
}

#define TO_DB "{\"agent\":\"web-1\",\"host\":\"db.local\",\"port\":5432}"

static bool
has(struct slice text, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= text.len; i++)
		if (memcmp(text.ptr + i, part, n) == 0)
			return true;
	return false;
}

/* The tool's stream i has been answered so, with such words. */
static void
expect_answer(size_t i, uint8_t status, const char *part)
{
	as_tool();
	struct slice got = kit_got(&k, i);

	if (got.len < 4 || got.ptr[1] != status || !has(got, part))
		fail_msg("answered %.*s", SLICE_FMT(slice_from_at(got, 4)));
	size_t n = 4 + (size_t)be_get16(got.ptr + 2);
	kit_stream(&k, i)->ate += n;
}

/* A stream of the tool's that is open: its index, the agent's the same. */
static size_t
opened(void)
{
	as_tool();
	size_t i = kit_open(&k, opening(1, TO_DB)), was = k.agent.count;
	kit_run(&k);
	/* Once for all. */
	if (k.agent.count == was)
		kit_grant(&k);
	kit_run(&k);
	as_agent();
	size_t j = k.agent.count - 1;
	kit_answer(&k, j, 0, "{\"address\":\"10.0.0.7:5432\"}");
	kit_run(&k);
	kit_stream(&k, j)->ate = kit_got(&k, j).len;
	expect_answer(i, 0, "10.0.0.7:5432");
	return i;
}

static void
test_to_and_fro(void **state)
{
	struct opening o;

	(void)state;
	as_tool();
	size_t i = kit_open(&k,
	    opening(1,
		"{\"agent\":\"web-1\",\"service\":\"web\","
		"\"namespace\":\"prod\",\"port\":443,"
		"\"tls\":{\"insecure\":true},\"connect_ms\":700}"));
	kit_say(&k, i, SL("early "));
	kit_run(&k);
	kit_say(&k, i, SL("words"));
	const struct tunnel_visit *v = kit_grant(&k);
	assert_int_equal(v->way, TUNNEL_BY_FORWARD);
	assert_slice(v->agent, SL("web-1"));
	assert_slice(v->target.service, SL("web"));
	assert_slice(v->target.namespace, SL("prod"));
	assert_true(v->target.tls && v->target.insecure && !v->reverse);
	kit_run(&k);
	as_agent();
	int n = opening_decode(kit_got(&k, 0), &o);
	assert_true(n > 0 && has(o.json, "\"service\":\"web\"") &&
	    has(o.json, "\"insecure\":true") &&
	    has(o.json, "\"connect_ms\":700") && has(o.json, "\"id\":\"req_"));
	assert_slice(
	    slice_from_at(kit_got(&k, 0), (size_t)n), SL("early words"));
	kit_answer(&k, 0, 0,
	    "{\"address\":\"10.0.0.7:443\",\"resolve_ms\":1,\"tls_ms\":9}");
	kit_say(&k, 0, SL("answer"));
	kit_run(&k);
	expect_answer(i, 0, "\"tls_ms\":9");
	assert_slice(kit_got(&k, i), SL("answer"));
	/* Half-close passes through, one way and the other. */
	kit_fin(&k, i);
	kit_run(&k);
	as_agent();
	assert_true(kit_stream(&k, 0)->fin);
	kit_say(&k, 0, SL("!"));
	kit_fin(&k, 0);
	kit_run(&k);
	as_tool();
	assert_slice(kit_got(&k, i), SL("answer!"));
	assert_true(kit_stream(&k, i)->fin && !kit_stream(&k, i)->rst);
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
	assert_int_equal(k.server.counts.flows_opened[TUNNEL_TCP], 1);
}

static void
test_refusals(void **state)
{
	(void)state;
	as_tool();
	size_t i = kit_open(&k, opening(1, TO_DB));
	kit_deny(&k, 403, "NOT_PERMITTED");
	kit_run(&k);
	expect_answer(
	    i, 1, "\"hop\":\"controller\",\"code\":\"NOT_PERMITTED\"");
	assert_true(kit_stream(&k, i)->fin);
	kit_fin(&k, i);
	kit_run(&k);
	i = kit_open(&k, opening(1, TO_DB));
	kit_grant(&k);
	kit_run(&k);
	as_agent();
	kit_answer(&k, 0, 1, "{\"code\":\"CONNECT_REFUSED\",\"text\":\"no\"}");
	kit_fin(&k, 0);
	kit_run(&k);
	expect_answer(i, 1,
	    "\"hop\":\"agent\",\"code\":\"CONNECT_REFUSED\",\"text\":\"no\"");
	assert_true(kit_stream(&k, i)->fin);
	kit_fin(&k, i);
	kit_run(&k);
	assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
}

static void
test_bad_openings(void **state)
{
	static const struct {
		uint8_t kind;
		const char *json;
		bool answered;
	} rows[] = {
		{ 1, "{}", true },
		{ 1, "{\"agent\":\"a\",\"host\":\"h\"}", true },
		{ 1, "{\"agent\":\"a\",\"host\":\"h\",\"port\":70000}", true },
		{ 1, "{\"agent\":\"a\",\"listen\":{\"port\":0}}", true },
		{ 1, "{\"agent\":\"a\",\"agent\":\"b\",\"port\":1}", true },
		{ 1, "[", true },
		{ 4, TO_DB, false },
		{ 0, TO_DB, false },
	};

	(void)state;
	as_tool();
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		size_t i = kit_open(&k, opening(rows[r].kind, rows[r].json));
		kit_run(&k);
		if (rows[r].answered)
			expect_answer(i, 1, "INVALID_REQUEST");
		else
			assert_true(kit_stream(&k, i)->rst);
		kit_fin(&k, i);
	}
	size_t i = kit_open(&k, SL("GET / HTTP/1.1\r\n"));
	kit_run(&k);
	assert_true(kit_stream(&k, i)->rst);
	assert_int_equal(k.agent.count, 0);
	assert_non_null(k.tool.s);
}

static uint8_t block[256 * 1024];

/* Who takes nothing holds up the other end, and nobody else. */
static void
test_windows_end_to_end(void **state)
{
	struct slice all = { block, sizeof(block) };
	size_t i = opened(), j = opened(), sent = 0, n;

	(void)state;
	for (n = 0; n < sizeof(block); n++)
		block[n] = (uint8_t)(n * 31 + n / 7);
	/* The agent takes nothing. */
	k.agent.hold = true;
	as_tool();
	while ((n = kit_say(&k, i, all)) > 0) {
		sent += n;
		kit_run(&k);
		assert_true(sent < 8 * sizeof(block));
	}
	assert_true(sent >= 2 * YAMUX_WINDOW - 200);
	assert_int_equal(kit_say(&k, j, SL("hello")), 5);
	kit_run(&k);
	as_agent();
	assert_slice(kit_got(&k, 1), SL("hello"));
	k.agent.hold = false;
	kit_consume(&k, 0, kit_stream(&k, 0)->held);
	kit_run(&k);
	assert_int_equal(kit_got(&k, 0).len, sent);
	/* The tool takes nothing. */
	k.tool.hold = true;
	sent = 0;
	while ((n = kit_say(&k, 1, all)) > 0) {
		sent += n;
		kit_run(&k);
		assert_true(sent < 8 * sizeof(block));
	}
	kit_say(&k, 0, SL("quick"));
	kit_run(&k);
	as_tool();
	assert_slice(kit_got(&k, i), SL("quick"));
	assert_true(kit_got(&k, j).len < sent);
	k.tool.hold = false;
	kit_consume(&k, j, kit_stream(&k, j)->held);
	kit_run(&k);
	assert_int_equal(kit_got(&k, j).len, sent);
	for (n = 0; n < sent; n++)
		if (kit_got(&k, j).ptr[n] != block[n % sizeof(block)] &&
		    sent <= sizeof(block))
			fail_msg("byte %zu differs", n);
	as_agent();
	assert_true(kit_say(&k, 1, all) > 0);
}

static void
test_reverse(void **state)
{
	struct opening o;

	(void)state;
	as_tool();
	size_t l = kit_open(&k,
	    opening(1,
		"{\"agent\":\"web-1\",\"id\":\"l1\","
		"\"listen\":{\"host\":\"127.0.0.1\",\"port\":0}}"));
	assert_true(kit_grant(&k)->reverse);
	kit_run(&k);
	as_agent();
	assert_true(opening_decode(kit_got(&k, 0), &o) > 0);
	assert_true(has(o.json, "\"listen\":{\"host\":\"127.0.0.1\""));
	char first[200];
	/* The agent names it as it was named. */
	size_t at = 0;
	while (memcmp(o.json.ptr + at, "req_", 4) != 0)
		at++;
	struct slice id = slice_from_at(o.json, at);
	id = slice_first(id, slice_find(id, '"'));
	snprintf(first, sizeof(first),
	    "{\"listener\":\"%.*s\",\"peer\":\"192.0.2.9:5123\"}",
	    SLICE_FMT(id));
	kit_answer(&k, 0, 0, "{\"address\":\"127.0.0.1:8080\"}");
	kit_run(&k);
	expect_answer(l, 0, "127.0.0.1:8080");
	as_agent();
	size_t j = kit_open(&k, opening(1, first));
	kit_say(&k, j, SL("GET"));
	kit_run(&k);
	as_tool();
	size_t i = k.tool.count - 1;
	assert_int_equal(i, l + 1);
	int n = opening_decode(kit_got(&k, i), &o);
	assert_slice(
	    o.json, SL("{\"listener\":\"l1\",\"peer\":\"192.0.2.9:5123\"}"));
	assert_slice(slice_from_at(kit_got(&k, i), (size_t)n), SL("GET"));
	kit_answer(&k, i, 0, "{}");
	kit_say(&k, i, SL("200"));
	kit_run(&k);
	as_agent();
	assert_slice(kit_got(&k, j), SL("\2\0\0\2{}200"));
	kit_fin(&k, j);
	as_tool();
	kit_fin(&k, i);
	kit_run(&k);
	assert_true(kit_stream(&k, i)->fin);
	/* One that the tool does not take. */
	as_agent();
	j = kit_open(&k, opening(1, first));
	kit_run(&k);
	as_tool();
	kit_answer(&k, k.tool.count - 1, 1, "{\"code\":\"CONNECT_REFUSED\"}");
	kit_run(&k);
	as_agent();
	assert_int_equal(kit_got(&k, j).ptr[1], 1);
	/* The end of its stream ends the listening. */
	as_tool();
	kit_fin(&k, l);
	kit_run(&k);
	as_agent();
	assert_true(kit_stream(&k, 0)->rst);
}

static void
test_ends(void **state)
{
	size_t i = opened(), j = opened();

	(void)state;
	as_tool();
	kit_rst(&k, i);
	kit_run(&k);
	as_agent();
	assert_true(kit_stream(&k, 0)->rst && !kit_stream(&k, 1)->rst);
	kit_rst(&k, 1);
	kit_run(&k);
	as_tool();
	assert_true(kit_stream(&k, j)->rst);
	opened();
	as_agent();
	kit_cut(&k);
	kit_run(&k);
	as_tool();
	assert_true(kit_stream(&k, k.tool.count - 1)->rst);
	/* The connection itself is there, and may ask again. */
	i = kit_open(&k, opening(1, TO_DB));
	kit_run(&k);
	expect_answer(i, 1, "AGENT_OFFLINE");
}

static void
test_tool_goes(void **state)
{
	(void)state;
	opened();
	opened();
	as_tool();
	kit_open(&k, opening(1, "{\"agent\":\"b\",\"host\":\"h\",\"port\":1}"));
	kit_run(&k);
	kit_cut(&k);
	kit_run(&k);
	as_agent();
	assert_true(kit_stream(&k, 0)->rst && kit_stream(&k, 1)->rst);
	assert_int_equal(k.server.counts.forwards, 0);
	assert_int_equal(kit_link(&k)->mux->streams.count, 0);
}

static void
test_withdrawn(void **state)
{
	(void)state;
	size_t i = opened();
	pass_withdraw(&k.dock,
	    &(struct tunnel_withdrawal){
		.agent_id = SL("agt_1"), .cut = true, .why = SL("stopped") });
	kit_run(&k);
	as_tool();
	assert_true(kit_stream(&k, i)->rst);
	assert_int_equal(k.tool.close_code, 0);
	opened();
	pass_withdraw(&k.dock,
	    &(struct tunnel_withdrawal){
		.user_id = SL("usr_1"), .cut = true, .why = SL("revoked") });
	kit_run(&k);
	assert_int_equal(k.tool.close_code, WS_CODE_POLICY);
	assert_int_equal(k.server.counts.forwards, 0);
}

static void
test_closes(void **state)
{
	(void)state;
	opened();
	kit_raw(&k, SL("\x7f\x45\x4c\x46 no frame"));
	kit_run(&k);
	assert_int_equal(k.tool.close_code, WS_CODE_PROTOCOL);
	assert_int_equal(k.server.counts.forwards, 0);
	as_agent();
	assert_true(kit_stream(&k, 0)->rst);
}

/* Answers of the hub that come too late find nobody. */
static void
test_gone_while_asking(void **state)
{
	(void)state;
	as_tool();
	size_t i = kit_open(&k, opening(1, TO_DB));
	size_t j = kit_open(&k,
	    opening(1,
		"{\"agent\":\"b\",\"host\":\"h\","
		"\"port\":1}"));
	kit_run(&k);
	kit_rst(&k, i);
	kit_run(&k);
	kit_grant(&k);
	kit_run(&k);
	assert_int_equal(k.agent.count, 0);
	/* The next is asked about only then. */
	kit_deny(&k, 404, "AGENT_NOT_FOUND");
	kit_run(&k);
	expect_answer(j, 1, "AGENT_NOT_FOUND");
}

static void
test_without_memory(void **state)
{
	bool more = true;
	long n = 1;

	(void)state;
	for (; more; n++) {
		if (k.tool.s == NULL || kit_link(&k) == NULL) {
			kit_fini(&k);
			kit_init(&k);
			kit_tool(&k);
		}
		k.agent.count = k.tool.count = 0;
		as_tool();
		size_t i = kit_open(&k, opening(1, TO_DB));
		/* Up to where the hub is asked. */
		oom_fail_at(n);
		for (int turn = 0; turn < 6; turn++)
			loop_turn(&k.loop, false);
		more = oom_happened();
		if (!more && k.tool.s != NULL && !kit_stream(&k, i)->rst)
			kit_grant(&k);
		kit_run(&k);
		if (k.tool.s != NULL)
			kit_rst(&k, i);
		kit_run(&k);
		assert_int_equal(k.server.counts.flows[TUNNEL_TCP], 0);
		struct mail *m;
		while ((m = mailbox_take(&k.dock.lane.to_hub, MAIL_NORMAL)) !=
		    NULL)
			continue;
		mailbox_done(&k.dock.lane.to_hub);
		kit_fini(&k);
		kit_init(&k);
		kit_tool(&k);
	}
	assert_true(n > 4);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(test_to_and_fro),
		ROW(test_refusals),
		ROW(test_bad_openings),
		ROW(test_windows_end_to_end),
		ROW(test_reverse),
		ROW(test_ends),
		ROW(test_tool_goes),
		ROW(test_withdrawn),
		ROW(test_closes),
		ROW(test_gone_while_asking),
		ROW(test_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
