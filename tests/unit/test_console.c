#include <stdio.h>

#include "base/err.h"
#include "base/js.h"

#include "dialect/console_interest.h"
#include "dialect/console_say.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

enum { NOW = 1000000 };

static struct arena arena;
static struct console_peer peer;

static int
set_up(void **state)
{
	(void)state;
	arena_init(&arena, 256 << 20);
	peer = (struct console_peer){ .user_id = SL("usr_1"),
		.user_name = SL("ann") };
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static struct console_message
hear(const char *text)
{
	struct slice copy = guard_copy(slice_from(text));
	struct slice kept;
	struct console_message m;

	/* The message points into its text. */
	assert_int_equal(console_decode(copy, &peer, NOW, &arena, &m), 0);
	assert_int_equal(arena_copy(&arena, copy, &kept), 0);
	guard_free(copy);
	peer.ended_at = 0;
	memset(peer.ended, 0, sizeof(peer.ended));
	assert_int_equal(console_decode(kept, &peer, NOW, &arena, &m), 0);
	if (m.word == CONSOLE_PACKED)
		assert_int_equal(console_unpack(&m, &peer, NOW, &arena, &m), 0);
	return m;
}

static void
must_refuse(const char *text, const char *code, const char *field)
{
	struct console_message m = hear(text);

	if (m.word != CONSOLE_EVENT || m.event.kind != EVENT_BAD)
		fail_msg("taken: %s", text);
	assert_slice(m.event.complaint.code, slice_from(code));
	assert_slice(m.event.complaint.field, slice_from(field));
	assert_true(m.event.complaint.text.len > 0);
}

static void
be_dashboard(void)
{
	struct console_message m =
	    hear("{\"type\":\"dashboard:connect\",\"dashboardId\":\"d\"}");

	assert_int_equal(m.word, CONSOLE_EVENT);
	assert_int_equal(m.event.kind, EVENT_REQUEST);
	assert_int_equal(m.event.request.op, OP_WATCH);
	assert_int_equal(m.event.request.credential.kind, CREDENTIAL_WATCH);
	assert_slice(m.event.request.watch_id, SL("d"));
	assert_int_equal(peer.side, CONSOLE_DASHBOARD);
	assert_int_equal(peer.spelling, CONSOLE_FLAT);
}

static void
be_agent(void)
{
	struct console_message m =
	    hear("{\"type\":\"agent:connect\",\"agentId\":\"a-1\","
		 "\"agentType\":\"Claude\",\"version\":\"1.0.0\","
		 "\"timestamp\":\"2024-01-01T12:00:00Z\"}");

	assert_int_equal(m.event.kind, EVENT_REGISTER);
	assert_true(m.event.registration.console);
	assert_slice(m.event.registration.agent_id, SL("a-1"));
	assert_slice(m.event.registration.name, SL("a-1"));
	assert_slice(m.event.registration.type, SL("claude"));
	assert_slice(m.event.registration.version, SL("1.0.0"));
	assert_int_equal(peer.side, CONSOLE_AGENT);
}

static const struct command_record *
command_of(const char *fields)
{
	char text[4096];

	snprintf(text, sizeof(text),
	    "{\"type\":\"command:request\",\"agentId\":\"a-1\",%s}", fields);
	struct console_message m = hear(text);
	if (m.event.kind != EVENT_REQUEST)
		fail_msg("%.*s: %.*s", SLICE_FMT(m.event.complaint.field),
		    SLICE_FMT(m.event.complaint.text));
	assert_int_equal(m.limit, CONSOLE_COUNTED_COMMAND);
	assert_slice(m.event.request.id, SL("a-1"));
	return m.event.request.command;
}

static void
test_words(void **state)
{
	static const struct {
		const char *said, *argv;
	} cases[] = {
		{ "npm test", "[\"npm\",\"test\"]" },
		{ "  a\\tb\\nc  ", "[\"a\",\"b\",\"c\"]" },
		{ "a 'b c' \\\"d $e\\\"", "[\"a\",\"b c\",\"d $e\"]" },
		{ "a'b'\\\"c\\\"d", "[\"abcd\"]" },
		{ "a '' \\\"\\\"", "[\"a\",\"\",\"\"]" },
		{ "a\\\\ b c\\\\\\\\d", "[\"a b\",\"c\\\\d\"]" },
		{ "'a\\\\b'", "[\"a\\\\b\"]" },
		{ "\\\"a\\\\\\\"b\\\\c\\\\$\\\"", "[\"a\\\"b\\\\c$\"]" },
		{ "a\\\\\\nb", "[\"ab\"]" },
		{ "$HOME `x` *.c ~ | &",
		    "[\"$HOME\",\"`x`\",\"*.c\",\"~\","
		    "\"|\",\"&\"]" },
	};
	char text[512];

	(void)state;
	be_dashboard();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(
		    text, sizeof(text), "\"command\":\"%s\"", cases[i].said);
		assert_slice(
		    command_of(text)->argv_json, slice_from(cases[i].argv));
	}
	assert_slice(command_of("\"command\":\"npm test\",\"args\":[\"--x y\"]")
			 ->argv_json,
	    SL("[\"npm\",\"test\",\"--x y\"]"));
	assert_slice(command_of("\"command\":[\"a b\",\"c\"],\"args\":[\"d\"]")
			 ->argv_json,
	    SL("[\"a b\",\"c\",\"d\"]"));
	assert_slice(command_of("\"command\":\"npm test\",\"args\":[\"--x\"]")
			 ->said_json,
	    SL("{\"command\":\"npm test\",\"args\":[\"--x\"]}"));
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"it's\"}",
	    "INVALID_MESSAGE", "command");
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"a \\\\\"}",
	    "INVALID_MESSAGE", "command");
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"  \"}",
	    "INVALID_MESSAGE", "command");
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"a\\u0000b\"}",
	    "INVALID_MESSAGE", "command");
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\"}",
	    "INVALID_MESSAGE", "command");
	must_refuse("{\"type\":\"command:request\",\"command\":\"x\"}",
	    "INVALID_MESSAGE", "agentId");
}

static void
test_sides(void **state)
{
	(void)state;
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"x\"}",
	    "NOT_IDENTIFIED", "type");
	be_dashboard();
	must_refuse("{\"type\":\"agent:status\",\"agentId\":\"a-1\"}",
	    "INVALID_MESSAGE_TYPE", "type");
	must_refuse("{\"type\":\"agent:connect\",\"agentId\":\"a-1\"}",
	    "INVALID_MESSAGE_TYPE", "type");
	must_refuse("{\"type\":\"agent:list\"}", "UNKNOWN_TYPE", "type");
	peer = (struct console_peer){ .path = CONSOLE_AGENT_ONLY };
	must_refuse("{\"type\":\"dashboard:connect\",\"dashboardId\":\"d\"}",
	    "INVALID_MESSAGE_TYPE", "type");
	be_agent();
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a-1\","
		    "\"command\":\"x\"}",
	    "INVALID_MESSAGE_TYPE", "type");
	must_refuse("{\"type\":\"agent:status\",\"agentId\":\"a-2\"}",
	    "AGENT_MISMATCH", "agentId");
}

static void
test_agent(void **state)
{
	struct console_message m;

	(void)state;
	be_agent();
	m = hear("{\"type\":\"agent:status\",\"agentId\":\"a-1\",\"status\":"
		 "\"busy\",\"metrics\":{\"cpuUsage\":\"45%\",\"memoryUsage\":"
		 "67.8,\"activeCommands\":2}}");
	assert_int_equal(m.event.kind, EVENT_HEARTBEAT);
	assert_slice(m.event.heartbeat.status, SL("busy"));
	assert_slice(m.event.heartbeat.metadata_json,
	    SL("{\"cpuUsage\":45,\"memoryUsage\":67.8,\"activeCommands\":2}"));
	m = hear("{\"type\":\"command:status\",\"commandId\":\"c\",\"agentId\":"
		 "\"a-1\",\"status\":\"running\"}");
	assert_int_equal(m.event.kind, EVENT_AGENT_STARTED);
	assert_int_equal(m.event.outcome.started_at, NOW);
	m = hear("{\"type\":\"command:complete\",\"commandId\":\"c\","
		 "\"exitCode\":3,\"duration\":1234}");
	assert_int_equal(m.event.kind, EVENT_AGENT_ENDED);
	assert_int_equal(m.event.outcome.exit_code, 3);
	assert_int_equal(m.event.outcome.finished_at, NOW);
	assert_int_equal(m.event.outcome.started_at, NOW - 1234);
	/* An interrupt is told in two messages; the second is nothing new. */
	m = hear("{\"type\":\"command:status\",\"commandId\":\"e\","
		 "\"status\":\"interrupted\"}");
	assert_true(m.event.outcome.interrupted);
	assert_int_equal(m.event.outcome.exit_code, 130);
	struct slice text = SL("{\"type\":\"command:complete\",\"commandId\":"
			       "\"e\",\"exitCode\":130}");
	assert_int_equal(console_decode(text, &peer, NOW, &arena, &m), 0);
	assert_int_equal(m.word, CONSOLE_NOTHING);
	m = hear("{\"type\":\"terminal:output\",\"agentId\":\"a-1\","
		 "\"commandId\":\"c\",\"output\":{\"type\":\"stderr\","
		 "\"content\":\"x\\n\",\"timestamp\":\"\"}}");
	assert_int_equal(m.word, CONSOLE_OUTPUT);
	assert_int_equal(m.output.stream, CONSOLE_STDERR);
	assert_int_equal(m.limit, CONSOLE_COUNTED_OUTPUT);
	assert_slice(m.output.content, SL("x\n"));
	must_refuse("{\"type\":\"terminal:output\",\"commandId\":\"c\","
		    "\"output\":{\"type\":\"stdout\"}}",
	    "INVALID_MESSAGE", "output.content");
	must_refuse("{\"type\":\"terminal:output\",\"commandId\":\"c\","
		    "\"output\":{\"type\":\"out\",\"content\":\"\"}}",
	    "INVALID_MESSAGE", "output.type");
}

static void
test_batch(void **state)
{
	struct console_message m, in;

	(void)state;
	be_agent();
	m = hear("{\"type\":\"batch\",\"messages\":[{\"type\":"
		 "\"heartbeat:ping\"},{\"type\":\"batch\"}],\"count\":2}");
	assert_int_equal(m.word, CONSOLE_BATCH);
	assert_int_equal(m.limit, CONSOLE_AS_MEMBERS);
	assert_int_equal(m.batch.count, 2);
	assert_int_equal(
	    console_decode_part(m.batch.texts[0], &peer, NOW, &arena, &in), 0);
	assert_int_equal(in.event.kind, EVENT_PING);
	assert_int_equal(in.limit, CONSOLE_COUNTED_PING);
	assert_int_equal(
	    console_decode_part(m.batch.texts[1], &peer, NOW, &arena, &in), 0);
	assert_int_equal(in.event.kind, EVENT_BAD);
	assert_slice(in.event.complaint.code, SL("NESTED"));
	must_refuse("{\"type\":\"batch\",\"messages\":[{}],\"count\":2}",
	    "INVALID_MESSAGE", "count");
	must_refuse("{\"type\":\"batch\",\"messages\":[{}]}", "INVALID_MESSAGE",
	    "count");
	must_refuse(
	    "{\"type\":\"batch\",\"count\":0}", "INVALID_MESSAGE", "messages");
}

static void
test_compressed(void **state)
{
	const struct console_context c = { .spelling = CONSOLE_FLAT };
	char content[5000];
	struct buf text, packed;
	struct console_message m;

	(void)state;
	be_agent();
	buf_init(&text, 1 << 20);
	buf_init(&packed, 1 << 20);
	memset(content, 'x', sizeof(content));
	struct console_output o = { .agent_id = SL("a-1"),
		.command_id = SL("c"),
		.content = { (const uint8_t *)content, sizeof(content) } };
	assert_int_equal(console_encode_output(&o, &c, &text), 1);
	assert_int_equal(
	    console_encode_compressed(buf_peek(&text), &c, &packed), 1);
	assert_true(buf_peek(&packed).len < 500);
	assert_int_equal(
	    console_decode(buf_peek(&packed), &peer, NOW, &arena, &m), 0);
	assert_int_equal(m.word, CONSOLE_PACKED);
	assert_int_equal(console_unpack(&m, &peer, NOW, &arena, &m), 0);
	assert_int_equal(m.word, CONSOLE_OUTPUT);
	assert_slice(m.output.content, o.content);
	buf_clear(&packed);
	assert_int_equal(console_encode_compressed(
			     slice_first(buf_peek(&text), 1023), &c, &packed),
	    0);
	buf_fini(&text);
	buf_fini(&packed);
}

/* It is judged before it is inflated, by what it says that it is. */
static void
test_compressed_claims(void **state)
{
	static const struct {
		const char *type;
		enum console_limit limit;
	} claims[] = {
		{ "command:request", CONSOLE_COUNTED_COMMAND },
		{ "COMMAND_REQUEST", CONSOLE_COUNTED_COMMAND },
		{ "heartbeat:ping", CONSOLE_COUNTED_PING },
		{ "dashboard:connect", CONSOLE_COUNTED },
		/* Nothing that is dear to look at is free. */
		{ "system:emergency-stop", CONSOLE_COUNTED },
		{ "EMERGENCY_STOP", CONSOLE_COUNTED },
		{ "batch", CONSOLE_COUNTED },
		{ "", CONSOLE_COUNTED },
	};
	struct console_message m;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		snprintf(text, sizeof(text),
		    "{\"type\":\"compressed\",\"originalType\":\"%s\","
		    "\"algorithm\":\"gzip\",\"originalSize\":1,"
		    "\"compressedSize\":1,\"data\":\"no gzip\"}",
		    claims[i].type);
		assert_int_equal(
		    console_decode(slice_from(text), &peer, NOW, &arena, &m),
		    0);
		assert_int_equal(m.word, CONSOLE_PACKED);
		assert_int_equal(m.limit, claims[i].limit);
	}
}

static void
test_shapes(void **state)
{
	struct console_message m;

	(void)state;
	/* Fields in a payload, when nothing else is beside it. */
	m = hear("{\"type\":\"dashboard:connect\",\"version\":\"1.0.0\","
		 "\"timestamp\":1,\"payload\":{\"dashboardId\":\"d\"}}");
	assert_slice(m.event.request.watch_id, SL("d"));
	peer = (struct console_peer){ 0 };
	m = hear("{\"type\":\"dashboard:connect\",\"dashboardId\":\"e\","
		 "\"payload\":{\"dashboardId\":\"d\"},"
		 "\"features\":[\"compressed\",5,\"x\"]}");
	assert_slice(m.event.request.watch_id, SL("e"));
	assert_true(peer.compressed && !peer.batch);
	assert_int_equal(
	    hear("{\"type\":\"heartbeat:ping\"}").limit, CONSOLE_COUNTED_PING);
	assert_int_equal(
	    hear("{\"type\":\"system:emergency-stop\"}").limit, CONSOLE_EXEMPT);
	m = hear("{\"type\":\"system:emergency-stop\",\"selector\":\"a=b\","
		 "\"keepTunnels\":true,\"reason\":\"r\"}");
	assert_int_equal(m.event.request.op, OP_STOP_RAISE);
	assert_int_equal(m.event.request.scope, STOP_SELECTOR);
	assert_slice(m.event.request.target, SL("a=b"));
	assert_true(m.event.request.keep_tunnels);
	m = hear("{\"type\":\"system:resume\",\"epoch\":7}");
	assert_int_equal(m.event.request.op, OP_STOP_LIFT);
	assert_int_equal(m.event.request.scope, STOP_ALL);
	assert_int_equal(m.event.request.epoch, 7);
	must_refuse("{\"type\":\"heartbeat:ping\",\"requestId\":"
		    "\"0123456789012345678901234567890123456789012345678901234"
		    "56789012345678901234567890123456789012345678901234567890"
		    "123456789012345678\"}",
	    "INVALID_MESSAGE", "requestId");
}

static void
test_priorities(void **state)
{
	static const struct {
		const char *said;
		uint8_t priority;
	} cases[] = { { "\"low\"", 0 }, { "\"normal\"", 1 }, { "\"high\"", 2 },
		{ "0", 0 }, { "33", 0 }, { "33.5", 0 }, { "34", 1 },
		{ "66", 1 }, { "67", 2 }, { "100", 2 }, { "null", 1 } };
	char text[128];

	(void)state;
	be_dashboard();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
		    "\"command\":\"x\",\"priority\":%s", cases[i].said);
		assert_int_equal(command_of(text)->priority, cases[i].priority);
	}
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"x\",\"priority\":-1}",
	    "INVALID_MESSAGE", "priority");
	must_refuse("{\"type\":\"command:request\",\"agentId\":\"a\","
		    "\"command\":\"x\",\"priority\":[]}",
	    "INVALID_MESSAGE", "priority");
}

static void
test_interest(void **state)
{
	struct console_interest i = { 0 };
	struct console_message m;

	(void)state;
	be_dashboard();
	assert_true(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("a"), (struct slice){ 0 }));
	m = hear("{\"type\":\"dashboard:unsubscribe\",\"topic\":\"agent\","
		 "\"id\":\"a\"}");
	assert_int_equal(m.word, CONSOLE_FILTER);
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_false(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("a"), (struct slice){ 0 }));
	assert_true(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("b"), (struct slice){ 0 }));
	m = hear(
	    "{\"type\":\"dashboard:unsubscribe\",\"topic\":\"terminals\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_false(
	    console_interest_wants(&i, CONSOLE_TERMINALS, SL("b"), SL("c")));
	m = hear("{\"type\":\"dashboard:subscribe\",\"topic\":\"terminal\","
		 "\"id\":\"c\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_int_equal(i.topics[CONSOLE_TERMINALS].count, 1);
	assert_true(
	    console_interest_wants(&i, CONSOLE_TERMINALS, SL("b"), SL("c")));
	assert_false(
	    console_interest_wants(&i, CONSOLE_TERMINALS, SL("b"), SL("d")));
	m = hear("{\"type\":\"dashboard:subscribe\",\"topic\":\"terminal\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_true(
	    console_interest_wants(&i, CONSOLE_TERMINALS, SL("b"), SL("d")));
	/* Of queues nothing, until it asks. */
	assert_false(console_interest_wants(
	    &i, CONSOLE_QUEUES, SL("a"), (struct slice){ 0 }));
	m = hear("{\"type\":\"dashboard:subscribe\",\"topic\":\"queue\","
		 "\"id\":\"a\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_true(console_interest_wants(
	    &i, CONSOLE_QUEUES, SL("a"), (struct slice){ 0 }));
	assert_false(console_interest_wants(
	    &i, CONSOLE_QUEUES, SL("b"), (struct slice){ 0 }));
	m = hear("{\"type\":\"dashboard:subscribe\",\"topic\":\"queue\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_true(console_interest_wants(
	    &i, CONSOLE_QUEUES, SL("b"), (struct slice){ 0 }));
	m = hear("{\"type\":\"dashboard:unsubscribe\",\"topic\":\"queue\"}");
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_false(console_interest_wants(
	    &i, CONSOLE_QUEUES, SL("b"), (struct slice){ 0 }));
	/* An introduction says all there is. */
	m = hear("{\"type\":\"dashboard:connect\",\"dashboardId\":\"d\","
		 "\"subscriptions\":{\"agents\":[\"x\",\"y\"],\"commands\":[],"
		 "\"traces\":false}}");
	assert_true(m.has_filter);
	assert_int_equal(console_interest_apply(&i, &m.filter), 0);
	assert_true(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("x"), (struct slice){ 0 }));
	assert_false(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("b"), (struct slice){ 0 }));
	assert_true(
	    console_interest_wants(&i, CONSOLE_COMMANDS, SL("b"), SL("c")));
	assert_false(
	    console_interest_wants(&i, CONSOLE_TRACES, SL("b"), SL("c")));
	console_interest_fini(&i);
}

static void
test_interest_full(void **state)
{
	struct console_interest i = { 0 };
	static struct slice ids[CONSOLE_INTEREST_MAX + 1];
	static char names[CONSOLE_INTEREST_MAX + 1][8];
	struct console_filter f = { .only = true };

	(void)state;
	for (size_t n = 0; n <= CONSOLE_INTEREST_MAX; n++) {
		snprintf(names[n], sizeof(names[n]), "%zu", n);
		ids[n] = slice_from(names[n]);
	}
	f.topics[CONSOLE_AGENTS].said = true;
	f.topics[CONSOLE_AGENTS].ids = ids;
	f.topics[CONSOLE_AGENTS].count = CONSOLE_INTEREST_MAX + 1;
	assert_int_equal(console_interest_apply(&i, &f), ERR_FULL);
	assert_true(console_interest_wants(
	    &i, CONSOLE_AGENTS, SL("z"), (struct slice){ 0 }));
	f.topics[CONSOLE_AGENTS].count--;
	assert_int_equal(console_interest_apply(&i, &f), 0);
	assert_true(console_interest_wants(
	    &i, CONSOLE_AGENTS, ids[999], (struct slice){ 0 }));
	assert_false(console_interest_wants(
	    &i, CONSOLE_AGENTS, ids[1000], (struct slice){ 0 }));
	console_interest_fini(&i);
}

static void
test_carry(void **state)
{
	struct console_carry c = { 0 };
	struct buf text;

	(void)state;
	buf_init(&text, 4096);
	/* A character in three reads; what is appended begins where it does. */
	assert_int_equal(console_carry_feed(&c, 0, SL("ab\342"), &text), 0);
	assert_slice(buf_peek(&text), SL("ab"));
	buf_clear(&text);
	assert_int_equal(console_carry_feed(&c, 3, SL("\202"), &text), 2);
	assert_int_equal(buf_peek(&text).len, 0);
	assert_int_equal(console_carry_feed(&c, 4, SL("\254c"), &text), 2);
	assert_slice(buf_peek(&text), SL("\342\202\254c"));
	buf_clear(&text);
	/* A gap ends what waited; an end, too. */
	console_carry_feed(&c, 6, SL("\342\202"), &text);
	assert_int_equal(console_carry_feed(&c, 100, SL("z\303"), &text), 100);
	assert_slice(buf_peek(&text), SL("\357\277\275z"));
	buf_clear(&text);
	assert_int_equal(console_carry_end(&c, &text), 101);
	assert_slice(buf_peek(&text), SL("\357\277\275"));
	buf_fini(&text);
}

static void
test_ids(void **state)
{
	const struct command_record r = { .id = SL("cmd_1"),
		.request_key = SL("own") };
	const struct command_record bare = { .id = SL("cmd_1") };

	(void)state;
	assert_slice(console_command_id(&r, CONSOLE_UPPER, true), SL("own"));
	assert_slice(console_command_id(&r, CONSOLE_UPPER, false), SL("cmd_1"));
	assert_slice(console_command_id(&r, CONSOLE_FLAT, true), SL("cmd_1"));
	assert_slice(
	    console_command_id(&bare, CONSOLE_UPPER, true), SL("cmd_1"));
}

/* Hostile text is text. */
static void
test_hostile(void **state)
{
	const struct console_context c = { .spelling = CONSOLE_FLAT };
	const struct console_output o = { .agent_id = SL("<script>"),
		.command_id = SL("c"),
		.content = SL("\033]0;x\007</script>\"\\\0\377") };
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(console_encode_output(&o, &c, &out), 1);
	struct slice got = buf_peek(&out);
	for (size_t i = 0; i < got.len; i++)
		assert_true(got.ptr[i] >= 0x20);
	assert_true(utf8_valid(got));
	buf_fini(&out);
}

/* Memory --------------------------------------------------------------------
 */

static const char *const heard[] = {
	"{\"type\":\"dashboard:connect\",\"dashboardId\":\"d\","
	"\"subscriptions\":{\"agents\":[\"a\"],\"commands\":[\"b\"]}}",
	"{\"type\":\"command:request\",\"agentId\":\"a\",\"command\":"
	"\"a 'b'\",\"args\":[\"c\"]}",
	"{\"type\":\"agent:control\",\"agentId\":\"a\",\"action\":\"stop\"}",
	"{\"type\":\"dashboard:subscribe\",\"topic\":\"agent\",\"id\":\"a\"}",
	"{\"type\":\"batch\",\"messages\":[{}],\"count\":1}",
	"{\"type\":\"none\"}",
};

static const char *const said_by_agents[] = {
	"{\"type\":\"agent:connect\",\"agentId\":\"a\",\"agentType\":\"X\","
	"\"labels\":{\"a\":\"b\"}}",
	"{\"type\":\"agent:status\",\"status\":\"Busy\",\"metrics\":"
	"{\"cpuUsage\":\"4%\"}}",
	"{\"type\":\"compressed\",\"algorithm\":\"gzip\",\"originalSize\":25,"
	"\"compressedSize\":45,\"data\":\"H4sIAAAAAAAAA6tWKqksSFWyUspITSwqSUp"
	"NLLEqyMxLV6oFADEjzSUZAAAA\"}",
};

static void
decode_all(const char *const *texts, size_t count, enum console_side side)
{
	for (size_t i = 0; i < count; i++) {
		struct console_peer p = { .side = side }, was = p;
		struct console_message m;
		struct arena a;
		arena_init(&a, 64 << 20);
		int err = console_decode(slice_from(texts[i]), &p, 0, &a, &m);
		if (err == 0 && m.word == CONSOLE_PACKED)
			err = console_unpack(&m, &p, 0, &a, &m);
		assert_true(err == 0 || err == ERR_NOMEM);
		if (err != 0)
			assert_memory_equal(&p, &was, sizeof(p));
		arena_fini(&a);
	}
}

static void
decode_body(void *arg)
{
	(void)arg;
	decode_all(heard, sizeof(heard) / sizeof(heard[0]), CONSOLE_DASHBOARD);
	decode_all(said_by_agents,
	    sizeof(said_by_agents) / sizeof(said_by_agents[0]), CONSOLE_AGENT);
}

static void
encode_event(const struct event *ev)
{
	for (unsigned s = 0; s < CONSOLE_SPELLINGS; s++) {
		const struct console_context c = {
			.spelling = (enum console_spelling)s
		};
		struct buf out;
		buf_init(&out, 1 << 20);
		int got = console_encode(ev, &c, 0, &out);
		assert_true(got == 0 || got == 1 || got == ERR_NOMEM);
		buf_fini(&out);
	}
}

static void
encode_body(void *arg)
{
	const struct command_record r = { .id = SL("cmd_1"),
		.agent_id = SL("a"),
		.argv_json = SL("[\"a b\",\"c\"]"),
		.said_json = SL("{\"command\":[\"a b\",\"c\"]}"),
		.state = COMMAND_FAILED };
	const struct agent_news news = { .id = SL("a"),
		.shown = PRESENCE_ONLINE,
		.was_shown = PRESENCE_OFFLINE,
		.metadata_json = SL("{\"cpu_usage\":5}") };
	struct event ev = { .kind = EVENT_EXECUTE };

	(void)arg;
	ev.execute.command = &r;
	encode_event(&ev);
	ev = (struct event){ .kind = EVENT_NOTICE };
	ev.notice.kind = NOTICE_PRESENCE;
	ev.notice.agent = &news;
	encode_event(&ev);
	ev.notice = (struct notice){ .kind = NOTICE_TRACE,
		.command = &r,
		.data_json = SL("{\"commandId\":\"x\"}") };
	encode_event(&ev);
}

static void
pack_body(void *arg)
{
	const struct console_context c = { .spelling = CONSOLE_FLAT };
	static char text[3000];
	struct buf out;

	(void)arg;
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "{\"type\":\"x\"", 11);
	text[sizeof(text) - 2] = '}';
	buf_init(&out, 1 << 20);
	int got = console_encode_compressed(slice_from(text), &c, &out);
	assert_true(got == 1 || got == ERR_NOMEM);
	buf_fini(&out);
}

static void
test_memory(void **state)
{
	(void)state;
	oom_torture(decode_body, NULL);
	oom_torture(encode_body, NULL);
	oom_torture(pack_body, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sides, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_agent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_batch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_compressed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_compressed_claims, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_shapes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_priorities, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_interest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_interest_full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_carry, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ids, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_hostile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
