#include <stdio.h>

#include "base/err.h"
#include "base/js.h"

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

static int
tests_agent(void **state)
{
	return set_up(state);
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
	assert_int_equal(m.word, CONSOLE_OUTPUT);
	assert_slice(m.output.content, o.content);
	buf_clear(&packed);
	assert_int_equal(console_encode_compressed(
			     slice_first(buf_peek(&text), 1023), &c, &packed),
	    0);
	buf_fini(&text);
	buf_fini(&packed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sides, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_agent, tests_agent, tear_down),
		cmocka_unit_test_setup_teardown(test_batch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_compressed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
