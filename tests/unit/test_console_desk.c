/*
 * The lane's side of a console agent: an order to stop overtakes other mail,
 * so what it left behind is never said after it.
 */
#include "base/err.h"

#include "io/loop.h"

#include "server/conn.h"
#include "server/console_parts.h"

#include "support/unit.h"

static struct world {
	struct server server;
	struct loop loop;
	struct dock dock;
	struct console console;
	struct conn conn;
	struct command_record command;
} w;

static int
begin(void **state)
{
	const struct mailbox_config box = { .caps = { 8192, 8192 },
		.arena_cap = 1 << 20 };

	(void)state;
	memset(&w, 0, sizeof(w));
	assert_int_equal(loop_init(&w.loop, 16), 0);
	mailbox_init(&w.dock.lane.to_hub, &box);
	w.dock.lane.loop = &w.loop;
	w.dock.server = &w.server;
	w.conn.dock = &w.dock;
	w.conn.id = (struct peer_id){ .slot = 7 };
	w.conn.state = &w.console;
	w.console.conn = &w.conn;
	w.command = (struct command_record){ .id = SL("cmd_1"),
		.agent_id = SL("a"),
		.argv_json = SL("[\"x\"]") };
	assert_int_equal(console_desk_open(&w.conn), 0);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	console_desk_close(&w.conn);
	mailbox_fini(&w.dock.lane.to_hub);
	loop_fini(&w.loop);
	return 0;
}

static bool
execute(uint64_t stop_epoch)
{
	struct event ev = { .kind = EVENT_EXECUTE };

	ev.execute.command = &w.command;
	ev.execute.stop_epoch = stop_epoch;
	return console_desk_event(&w.conn, &ev);
}

static bool
interrupt(void)
{
	struct event ev = { .kind = EVENT_INTERRUPT };

	ev.execute.command = &w.command;
	return console_desk_event(&w.conn, &ev);
}

static void
order(uint64_t epoch, bool stopped)
{
	struct event ev = { .kind = EVENT_STOP_ORDER };

	ev.stop.epoch = epoch;
	ev.stop.stopped = stopped;
	assert_true(console_desk_event(&w.conn, &ev));
}

/* What the hub hears next: nothing, or that it was refused. */
static bool
hears_refusal(void)
{
	struct mailbox *box = &w.dock.lane.to_hub;

	mailbox_flush(box);
	struct mail *mail = mailbox_take(box, MAIL_NORMAL);
	if (mail == NULL)
		return false;
	const struct event *ev = &LIST_OF(mail, struct hub_mail, mail)->event;
	assert_int_equal(ev->kind, EVENT_COMMAND_REFUSED);
	assert_slice(ev->outcome.command_id, SL("cmd_1"));
	assert_slice(ev->outcome.code, SL("AGENT_STOPPED"));
	assert_int_equal(ev->peer.slot, 7);
	mailbox_done(box);
	return true;
}

static void
test_order_of_things(void **state)
{
	(void)state;
	assert_true(execute(0));
	assert_true(interrupt());
	assert_false(hears_refusal());
}

static void
test_overtaken(void **state)
{
	(void)state;
	order(5, true);
	/* It left the hub before: not said, and there is nothing to end. */
	assert_false(execute(4));
	assert_true(hears_refusal());
	assert_false(interrupt());
	/* The lifting overtakes it, too. */
	order(6, false);
	assert_false(execute(4));
	assert_true(hears_refusal());
	/* What comes after is said. */
	assert_true(execute(6));
	assert_true(interrupt());
	assert_false(hears_refusal());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_of_things),
		TEST(test_overtaken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
