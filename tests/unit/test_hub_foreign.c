/*
 * Commands of agents that are not ours: at most once, or unknown.  `sent` is
 * on the disk before the agent hears a word, what it heard of is never said
 * again, and what it did not hear of is not lost.
 */
#include "base/err.h"

#include "support/queue_world.h"
#include "support/unit.h"

static int
set_up(void **state)
{
	world_set_up(state);
	w.ends = true;
	return 0;
}

static void
word(enum event_kind kind, uint32_t peer, int command, int code)
{
	struct event ev = rig_event(kind, peer);

	ev.outcome.command_id = id_of(command);
	ev.outcome.started_at = w.rig.wall;
	ev.outcome.finished_at = w.rig.wall;
	ev.outcome.exit_code = code;
	rig_input(&w.rig, &ev);
}

static void
gone(uint32_t peer, int why)
{
	struct event ev = rig_event(EVENT_GONE, peer);

	ev.gone.why = why;
	rig_input(&w.rig, &ev);
}

static void
hold(enum op_verb verb)
{
	w.fail_verb = (int)verb;
	w.store_err = RIG_HOLD;
}

static void
settle(int err)
{
	w.store_err = err;
	if (err == 0)
		w.fail_verb = 0;
	rig_settle(&w.rig);
	w.fail_verb = 0;
}

static void
state_is(int command, const char *state)
{
	ask(OP_COMMAND_INTERRUPT, TOKEN_ROOT, id_of(command));
	if (strstr(w.log, state) == NULL)
		fail_msg("wanted %s, got %s", state, w.log);
	forget();
}

/* The disk comes first ----------------------------------------------------- */

static void
test_disk_before_the_agent(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	hold(OP_PUT_COMMAND);
	run("a", PLAIN);
	expect("");
	settle(0);
	expect("201 #1 sent\nexecute #1\n");
	/* Not stored: the agent never hears of it. */
	hold(OP_PUT_COMMAND);
	run("a", PLAIN);
	settle(ERR_IO);
	expect("503 STORE_FAILED\n");
}

static void
test_disk_before_a_queued_one(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	expect("201 #1 sent\nexecute #1\n201 #2 sent\nexecute #2\n"
	       "201 #3 queued 1/5000\n");
	hold(OP_COMMAND_SENT);
	word(EVENT_AGENT_ENDED, 1, 1, 0);
	expect("#1 completed\n");
	/* The disk refuses: it waits again, in its old place, and goes when
	 * the disk is back. */
	settle(ERR_IO);
	expect("");
	later(1000);
	expect("execute #3\n");
}

/* The link ends ------------------------------------------------------------ */

static void
test_link_ends_while_it_runs(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", PLAIN);
	word(EVENT_AGENT_STARTED, 1, 1, 0);
	forget();
	gone(1, ERR_RESET);
	expect("#1 unknown\n#2 unknown\n");
	/* What it never heard of waits for it. */
	arrive_foreign(2, "a");
	expect("execute #3\n");
	/* A late word on what is given up means nothing. */
	word(EVENT_AGENT_ENDED, 2, 1, 0);
	expect("error COMMAND_NOT_FOUND\n");
}

/* It was never told, but the row says `sent` and nobody can prove it. */
static void
test_link_ends_before_the_disk_has_it(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	hold(OP_PUT_COMMAND);
	run("a", PLAIN);
	gone(1, ERR_RESET);
	expect("");
	settle(0);
	expect("201 #1 sent\n#1 unknown\n");
	arrive_foreign(2, "a");
	expect("");
}

static void
test_link_replaced_while_storing(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	hold(OP_PUT_COMMAND);
	run("a", PLAIN);
	arrive_foreign(2, "a");
	expect("");
	settle(0);
	expect("201 #1 sent\n#1 unknown\n");
	/* The old link's end is not the new one's. */
	run("a", PLAIN);
	gone(1, 0);
	expect("201 #2 sent\nexecute #2\n");
	word(EVENT_AGENT_ENDED, 1, 2, 0);
	expect("");
	word(EVENT_AGENT_ENDED, 2, 2, 0);
	expect("#2 completed\n");
}

static void
test_result_crosses_the_end(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	run("a", PLAIN);
	forget();
	hold(OP_COMMAND_ENDED);
	word(EVENT_AGENT_ENDED, 1, 1, 3);
	gone(1, ERR_RESET);
	settle(0);
	/* It said so in time. */
	expect("#1 failed\n");
	/* The end cannot be stored: it is tried until it can. */
	arrive_foreign(2, "a");
	run("a", PLAIN);
	forget();
	hold(OP_COMMAND_ENDED);
	word(EVENT_AGENT_ENDED, 2, 2, 0);
	settle(ERR_IO);
	gone(2, ERR_RESET);
	later(1000);
	expect("#2 completed\n");
}

static int
short_of_output(void *arg, const struct op *op)
{
	(void)arg;
	return op->verb == OP_COMMAND_ENDED && op->command->out_bytes > 0
	    ? ERR_RANGE
	    : 0;
}

/* Nobody has what the disk lost: the command ends without it. */
static void
test_output_lost(void **state)
{
	struct event ev = rig_event(EVENT_AGENT_ENDED, 1);

	(void)state;
	arrive_foreign(1, "a");
	run("a", PLAIN);
	forget();
	w.rig.store = short_of_output;
	ev.outcome.command_id = id_of(1);
	ev.outcome.out_bytes = 7;
	rig_input(&w.rig, &ev);
	later(1);
	expect("#1 completed\n");
}

static int
short_at_first(void *arg, const struct op *op)
{
	return w.store_err != 0 ? w.store_err : short_of_output(arg, op);
}

/* Muster's own has it still, though its link has ended meanwhile. */
static void
test_output_lost_of_ours(void **state)
{
	struct event ev = rig_event(EVENT_COMMAND_EXIT, AGENT);

	(void)state;
	arrive("a", "exec");
	run("a", PLAIN);
	forget();
	ev.outcome.command_id = id_of(1);
	ev.outcome.out_bytes = 7;
	w.rig.store = short_at_first;
	w.store_err = RIG_HOLD;
	rig_input(&w.rig, &ev);
	leave();
	w.store_err = 0;
	rig_settle(&w.rig);
	later(2000);
	expect("");
	arrive("a", "exec");
	later(2000);
	w.rig.store = NULL;
	rig_input(&w.rig, &ev);
	expect("#1 completed\n");
}

/* Another agent's command is none of its business. */
static void
test_words_of_others(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	arrive_foreign(2, "b");
	run("a", PLAIN);
	forget();
	word(EVENT_AGENT_ENDED, 2, 1, 0);
	expect("error COMMAND_NOT_FOUND\n");
	state_is(1, "sent");
	word(EVENT_AGENT_STARTED, 1, 1, 0);
	state_is(1, "running");
	/* Twice is once. */
	word(EVENT_AGENT_ENDED, 1, 1, 0);
	word(EVENT_AGENT_ENDED, 1, 1, 1);
	expect("#1 completed\nerror COMMAND_NOT_FOUND\n");
}

static void
test_interrupt(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	run("a", PLAIN);
	forget();
	ask(OP_COMMAND_INTERRUPT, TOKEN_ROOT, id_of(1));
	expect("interrupt #1\n200 #1 sent\n");
	gone(1, ERR_RESET);
	expect("#1 unknown\n");
}

/* The controller restarts -------------------------------------------------- */

static void
load(const char *install_id, enum command_state state)
{
	const struct agent_record agent = { .id = SL("a"),
		.cluster_id = SL("11111111-1111-4111-8111-111111111111"),
		.name = SL("a"),
		.token_id = SL("tok_c"),
		.install_id = slice_from(install_id),
		.registered_at = 5,
		.workspace_id = 1 };
	const struct command_record commands[] = {
		{ .id = SL("cmd_1"),
		    .agent_id = SL("a"),
		    .user_id = SL("usr_root"),
		    .argv_json = SL("[\"true\"]"),
		    .state = state,
		    .sequence = 1,
		    .priority = 1,
		    .workspace_id = 1 },
		{ .id = SL("cmd_2"),
		    .agent_id = SL("a"),
		    .user_id = SL("usr_root"),
		    .argv_json = SL("[\"true\"]"),
		    .priority = 1,
		    .workspace_id = 1 },
	};
	/* It was connected when the controller died. */
	const struct connection_record link = {
		.id = 1, .agent_id = SL("a"), .opened_at = 1
	};
	const struct hub_snapshot snapshot = { .agents = &agent,
		.agent_count = 1,
		.links = &link,
		.link_count = 1,
		.commands = commands,
		.command_count = 2 };

	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
}

static void
test_restart(void **state)
{
	(void)state;
	load(NULL, COMMAND_SENT);
	rig_advance(&w.rig, 100);
	expect("");
	/* Back within the grace: whatever it heard, it is not said again. */
	arrive_foreign(1, "a");
	expect("#1 unknown\nexecute #2\n");
}

static void
test_restart_and_never_back(void **state)
{
	(void)state;
	load(NULL, COMMAND_RUNNING);
	rig_advance(&w.rig, 119999);
	expect("");
	rig_advance(&w.rig, 120000);
	expect("#1 unknown\n");
	arrive_foreign(1, "a");
	expect("execute #2\n");
}

/* One of ours knows, however late it comes. */
static void
test_restart_of_ours(void **state)
{
	(void)state;
	load("ins_1", COMMAND_RUNNING);
	rig_advance(&w.rig, 200000);
	expect("");
}

int
main(void)
{
#define FOREIGN(f) cmocka_unit_test_setup_teardown(f, set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
		FOREIGN(test_disk_before_the_agent),
		FOREIGN(test_disk_before_a_queued_one),
		FOREIGN(test_link_ends_while_it_runs),
		FOREIGN(test_link_ends_before_the_disk_has_it),
		FOREIGN(test_link_replaced_while_storing),
		FOREIGN(test_result_crosses_the_end),
		FOREIGN(test_output_lost),
		FOREIGN(test_output_lost_of_ours),
		FOREIGN(test_words_of_others),
		FOREIGN(test_interrupt),
		FOREIGN(test_restart),
		FOREIGN(test_restart_and_never_back),
		FOREIGN(test_restart_of_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
