/*
 * What is said to dashboards, and output on its way there: whoever listens
 * hears it once, whole and in order, and without memory not at all.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

#include "io/loop.h"

#include "server/conn.h"
#include "server/live.h"
#include "server/mail.h"

#include "support/oom.h"
#include "support/streams.h"
#include "support/unit.h"

enum { LISTENERS = 3 };

struct listener {
	struct watcher w;
	struct conn conn;
	struct wsconn ws;
	struct probe probe;
	int peer; /* never read */
	size_t heard;
	size_t slow;
};

static struct world {
	struct server server;
	struct loop loop;
	struct dock dock;
	struct listener of[LISTENERS];
	char said[4096];
	size_t len;
} w;

static void
hear(struct watcher *watcher, struct said *s)
{
	struct listener *l = LIST_OF(watcher, struct listener, w);
	struct slice frame = { s->plain->bytes, s->plain->len };

	/* The text is the end of a whole frame. */
	assert_true(slice_ends(frame, s->text));
	l->heard++;
	if (l != &w.of[0])
		return;
	int n = snprintf(w.said + w.len, sizeof(w.said) - w.len, "%.*s|",
	    SLICE_FMT(s->text));
	w.len += (size_t)n;
	assert_true(w.len < sizeof(w.said));
}

static void
be_slow(struct watcher *watcher)
{
	LIST_OF(watcher, struct listener, w)->slow++;
}

static void
join(struct listener *l, unsigned audience)
{
	int fd[2];

	tcp_pair(fd);
	l->peer = fd[1];
	probe_init(&l->probe);
	assert_int_equal(stream_new(&w.loop, fd[0], NULL, &l->conn.stream), 0);
	probe_start(&l->probe, l->conn.stream);
	l->conn.dock = &w.dock;
	l->conn.id = (struct peer_id){ .slot = (uint32_t)(l - w.of) + 1 };
	l->ws.state = WSCONN_OPEN;
	l->w = (struct watcher){ .conn = &l->conn,
		.ws = &l->ws,
		.audience = (uint16_t)audience,
		.voice = VOICE_FLAT,
		.take = hear,
		.slow = be_slow };
	list_init(&l->w.link);
	fanout_join(&w.dock.fanout, &l->w);
}

static void
start(void)
{
	const struct mailbox_config box = { .caps = { 8192, 8192 },
		.arena_cap = 1 << 20 };

	memset(&w, 0, sizeof(w));
	assert_int_equal(loop_init(&w.loop, 100), 0);
	mailbox_init(&w.dock.lane.to_hub, &box);
	w.dock.lane.loop = &w.loop;
	w.dock.server = &w.server;
	w.server.dock_count = 2;
	buf_init(&w.dock.text, 1 << 20);
	fanout_init(&w.dock.fanout, &w.dock);
	live_setup(&w.dock);
	/* Two here, one on another lane. */
	w.server.counts.dashboards = 3;
	join(&w.of[0], 0);
	join(&w.of[1], 1);
}

/* Parcels that cross to other lanes: how many, and none is kept. */
static size_t
take_parcels(void)
{
	struct mailbox *box = &w.dock.lane.to_hub;
	struct mail *m;
	size_t n = 0;

	mailbox_flush(box);
	for (; (m = mailbox_take(box, MAIL_NORMAL)) != NULL; n++)
		live_parcel_drop(LIST_OF(m, struct hub_mail, mail)->parcel);
	mailbox_done(box);
	return n;
}

static void
finish(void)
{
	take_parcels();
	for (int i = 0; i < LISTENERS; i++) {
		struct listener *l = &w.of[i];
		if (l->w.conn == NULL)
			continue;
		fanout_leave(&w.dock.fanout, &l->w);
		stream_abort(l->conn.stream, false);
		until(&w.loop, l->probe.closed);
		probe_fini(&l->probe);
		close(l->peer);
	}
	live_end(&w.dock);
	fanout_fini(&w.dock.fanout);
	buf_fini(&w.dock.text);
	mailbox_fini(&w.dock.lane.to_hub);
	stream_loop_fini(&w.loop);
	loop_fini(&w.loop);
}

static void
say(const char *text, unsigned audience)
{
	struct said_about about = {
		.voice = VOICE_FLAT, .kind = SAID_AGENT, .agent_id = SL("web-1")
	};

	audience_add(&about.seen_by, audience);
	fanout_say(&w.dock.fanout, &about, slice_from(text));
}

static void
hand_out(void)
{
	loop_turn(&w.loop, false);
	assert_true(list_empty(&w.dock.fanout.news));
	assert_int_equal(w.dock.fanout.bytes, 0);
}

static void
test_each_hears_its_own(void **state)
{
	(void)state;
	start();
	say("one", 0);
	say("other", 1);
	say("nobody", 2);
	/* Who comes now hears nothing of before. */
	join(&w.of[2], 0);
	say("two", 0);
	hand_out();
	assert_string_equal(w.said, "one|two|");
	assert_int_equal(w.of[1].heard, 1);
	assert_int_equal(w.of[2].heard, 1);
	/* Who has left is told nothing. */
	fanout_leave(&w.dock.fanout, &w.of[0].w);
	fanout_leave(&w.dock.fanout, &w.of[0].w);
	say("three", 0);
	hand_out();
	assert_int_equal(w.of[0].heard, 2);
	assert_int_equal(w.of[2].heard, 2);
	finish();
}

/* An answer lets its listener catch up first. */
static void
test_catching_up(void **state)
{
	(void)state;
	start();
	say("one", 0);
	fanout_catch_up(&w.of[0].w);
	assert_string_equal(w.said, "one|");
	fanout_catch_up(&w.of[0].w);
	say("two", 0);
	hand_out();
	assert_string_equal(w.said, "one|two|");
	finish();
}

static void
test_slow(void **state)
{
	static uint8_t much[24 << 20];
	struct listener *l = &w.of[0];

	(void)state;
	start();
	stream_set_cap(l->conn.stream, 64 << 20);
	assert_int_equal(
	    stream_write(l->conn.stream, (struct slice){ much, sizeof(much) }),
	    0);
	hand_out();
	size_t queued = stream_queued(l->conn.stream);
	assert_true(queued > 5 << 20);
	say("one", 0);
	hand_out();
	assert_int_equal(l->slow, 1);
	assert_int_equal(l->heard, 0);
	/* What it asked for itself may wait beside. */
	l->w.allowed = queued - (1 << 20);
	say("two", 0);
	hand_out();
	assert_string_equal(w.said, "two|");
	/* Less may when memory is short. */
	w.server.short_of_memory = true;
	say("three", 0);
	hand_out();
	assert_int_equal(l->slow, 2);
	finish();
}

static const struct command_record command = { .id = SL_INIT("cmd_1"),
	.agent_id = SL_INIT("web-1"),
	.user_id = SL_INIT("usr_1") };

static void
test_output(void **state)
{
	struct live l;

	(void)state;
	start();
	live_init(&l);
	l.command = &command;
	audience_add(&l.seen_by, 0);
	live_output(&w.dock, &l, OUTPUT_OUT, 0, SL("hello "));
	/* What was shown is not shown again. */
	live_output(&w.dock, &l, OUTPUT_OUT, 2, SL("llo world"));
	hand_out();
	assert_int_equal(w.of[0].heard, 2);
	assert_int_equal(w.of[1].heard, 0);
	assert_non_null(strstr(w.said, "\"hello \""));
	assert_non_null(strstr(w.said, "\"world\""));
	assert_int_equal(take_parcels(), 2);
	live_fini(&l);
	finish();
}

/* Whatever fails, nothing is said in part, or out of order, or leaks. */
static void
say_all(void)
{
	struct live l;

	live_init(&l);
	l.command = &command;
	audience_add(&l.seen_by, 0);
	say("one", 0);
	say("two", 0);
	live_output(&w.dock, &l, OUTPUT_OUT, 0, SL("out"));
	live_gap(&w.dock, &l, OUTPUT_ERR, 0, 10);
	live_command_line(&w.dock, &l);
	live_finish(&w.dock, &l);
	say("three", 0);
	live_fini(&l);
}

static void
in_order(void)
{
	static const char *const order[] = { "one|", "two|", "\"out\"",
		"three|" };
	size_t at = 0, missing = 0;

	for (int i = 0; i < 4; i++) {
		const char *found = strstr(w.said, order[i]);
		if (found == NULL) {
			missing++;
			continue;
		}
		assert_true((size_t)(found - w.said) >= at);
		at = (size_t)(found - w.said);
	}
	/* One allocation costs one text. */
	assert_true(missing <= 1);
}

static void
test_without_memory(void **state)
{
	bool failed = true;

	(void)state;
	for (long n = 1; failed; n++) {
		start();
		w.server.counts.monitors = 1;
		oom_fail_at(n);
		say_all();
		hand_out();
		failed = oom_happened();
		in_order();
		assert_true(n < 1000);
		finish();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_hears_its_own),
		cmocka_unit_test(test_catching_up),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
