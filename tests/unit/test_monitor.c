#include "base/err.h"

#include "dialect/monitor.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static struct monitor_line l;

static void
must_read(const char *bytes, const char *want)
{
	struct slice copy = guard_copy(slice_from(bytes)), line = { 0 };

	monitor_line_feed(&l, copy);
	guard_free(copy);
	assert_int_equal(monitor_line_take(&l, &line), 1);
	assert_slice(line, slice_from(want));
	assert_int_equal(monitor_line_take(&l, &line), 0);
}

static void
must_be_silent(const char *bytes)
{
	struct slice line;

	monitor_line_feed(&l, slice_from(bytes));
	assert_int_equal(monitor_line_take(&l, &line), 0);
}

static void
test_lines(void **state)
{
	(void)state;
	l = (struct monitor_line){ 0 };
	must_be_silent("");
	must_be_silent("  \n\n \t\r\n");
	must_read("Processing", "Processing");
	must_read(" user request...\n", "Processing user request...");
	/* What is empty changes nothing. */
	must_be_silent("\n   \n");
	must_read("one\ntwo\n\n", "two");
	must_read("  10%\r", "10%");
	must_read("  20%", "20%");
	must_read("\nthree \t", "three");
}

static void
test_sequences(void **state)
{
	(void)state;
	l = (struct monitor_line){ 0 };
	must_read("\033[1;31mred\033[0m", "red");
	must_read("\n\033]0;a title\007x", "x");
	must_read("\n\033]8;;http://h\033\\link\033]8;;\033\\", "link");
	must_read("\n\033(By\033=z", "yz");
	must_read("\n\033P1$r0m\033\\after", "after");
	must_read("\n\302\2331mc1", "c1");
	must_read("\na\bb\007c\177", "abc");
	/* Broken off, it ends with its line. */
	must_read("\n\033]0;never\nnext", "next");
	must_read("\n\033[1\033[2mx", "x");
	/* No text of a sequence is shown, wherever it is cut. */
	must_be_silent("\n\033");
	must_be_silent("[");
	must_be_silent("38;5;1");
	must_read("mok", "ok");
}

static void
test_length(void **state)
{
	static char text[4096];
	struct slice line;

	(void)state;
	l = (struct monitor_line){ 0 };
	for (size_t i = 0; i + 4 < sizeof(text); i += 3)
		memcpy(text + i, "\342\202\254", 3);
	monitor_line_feed(&l, slice_from(text));
	assert_int_equal(monitor_line_take(&l, &line), 1);
	assert_int_equal(line.len, 1500);
	/* Ill-formed bytes are shown as what they are. */
	must_read("\n\377x\303", "\357\277\275x");
	must_read("\251", "\357\277\275x\303\251");
}

static void
test_activity(void **state)
{
	static char text[3000];
	struct buf out;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	buf_init(&out, 1 << 20);
	assert_int_equal(monitor_encode_activity(
			     SL("a"), SL("c"), slice_from(text), 5, &out),
	    1);
	assert_int_equal(buf_peek(&out).len,
	    500 +
		strlen("{\"type\":\"session:activity\",\"payload\":{"
		       "\"agentId\":\"a\",\"sessionId\":\"c\","
		       "\"lastMessage\":\"\",\"timestamp\":5}}"));
	buf_fini(&out);
	buf_init(&out, 10);
	assert_int_equal(monitor_encode_heartbeat(5, &out), ERR_FULL);
	buf_fini(&out);
}

static void
test_news(void **state)
{
	struct agent_news news = { .id = SL("a"),
		.presence = PRESENCE_BUSY,
		.shown = PRESENCE_BUSY,
		.was_shown = PRESENCE_ONLINE };
	struct event ev = { .kind = EVENT_NOTICE, .at = 5 };
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	ev.notice.kind = NOTICE_PRESENCE;
	ev.notice.agent = &news;
	/* Both are online here. */
	assert_int_equal(monitor_encode(&ev, 0, &out), 0);
	news.was_shown = PRESENCE_OFFLINE;
	assert_int_equal(monitor_encode(&ev, 0, &out), 1);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"agent:status\",\"payload\":{\"agentId\":\"a\","
	       "\"status\":\"online\",\"timestamp\":5}}"));
	assert_int_equal(monitor_encode(&ev, 1, &out), 0);
	buf_clear(&out);
	ev.notice = (struct notice){ .kind = NOTICE_ACTIVITY,
		.agent_id = SL("a"),
		.command_id = SL("s"),
		.text = SL("hi \"there\"\n\033") };
	assert_int_equal(monitor_encode(&ev, 0, &out), 1);
	assert_slice(buf_peek(&out),
	    SL("{\"type\":\"session:activity\",\"payload\":{\"agentId\":\"a\","
	       "\"sessionId\":\"s\",\"lastMessage\":\"hi "
	       "\\\"there\\\"\\n\\u001b\",\"timestamp\":5}}"));
	ev.notice.kind = NOTICE_COMMAND;
	assert_int_equal(monitor_encode(&ev, 0, &out), 0);
	buf_fini(&out);
}

static void
encode(void *arg)
{
	struct buf out;

	(void)arg;
	buf_init(&out, 4096);
	int got =
	    monitor_encode_activity(SL("a"), SL("c"), SL("some text"), 5, &out);
	assert_true(got == 1 || got == ERR_NOMEM);
	buf_fini(&out);
}

static void
test_memory(void **state)
{
	(void)state;
	oom_torture(encode, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_activity),
		cmocka_unit_test(test_news),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
