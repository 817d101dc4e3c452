/*
 * Agents that sign, as the hub has them: a claim is nobody's link, a secret
 * is good when the disk has it, commands are verbs and go one at a time.
 */
#include "base/err.h"

#include "support/oom.h"
#include "support/queue_world.h"
#include "support/unit.h"

#define PING ((struct wish){ .argv = "[\"ping\"]" })

static int
set_up(void **state)
{
	world_set_up(state);
	w.ends = true;
	return 0;
}

static void
secret(enum request_op op, const char *id, const char *sealed, msec overlap)
{
	struct slice name = slice_from(id);
	struct secret_record r = { .agent_id = name,
		.sealed = slice_from(sealed) };
	struct event ev = request(op, TOKEN_ROOT, OP, name);

	r.prefix = slice_ends(name, SL("*"));
	r.agent_id.len -= r.prefix;
	ev.request.secret = &r;
	ev.request.overlap = overlap;
	rig_input(&w.rig, &ev);
}

static void
claim(uint32_t peer, const char *id)
{
	struct event ev = rig_hello(peer, 0, "192.0.2.1", ENTRANCE_SIGNED);

	ev.hello.credential.kind = CREDENTIAL_SIGNED;
	ev.hello.credential.agent_id = slice_from(id);
	rig_input(&w.rig, &ev);
}

/* Its first message was verified. */
static void
prove(uint32_t peer, const char *id)
{
	struct event ev = rig_event(EVENT_REGISTER, peer);

	ev.registration.agent_id = slice_from(id);
	rig_input(&w.rig, &ev);
}

static void
result(uint32_t peer, int command)
{
	struct event ev = rig_event(EVENT_AGENT_ENDED, peer);

	ev.outcome.command_id = id_of(command);
	ev.outcome.out = SL("pong\n");
	ev.outcome.out_bytes = 5;
	rig_input(&w.rig, &ev);
}

static void
gone(uint32_t peer)
{
	struct event ev = rig_event(EVENT_GONE, peer);

	ev.gone.why = ERR_RESET;
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

/* ------------------------------------------------------------------------- */

static void
a_secret_is_good_when_it_is_stored(void **state)
{
	(void)state;
	hold(OP_PUT_SECRET);
	secret(OP_SIGNED_ADD, "a", "s", 0);
	expect("");
	settle(ERR_IO);
	expect("503 STORE_FAILED\n");
	/* And then there is none. */
	claim(1, "a");
	prove(1, "a");
	run("a", PING);
	expect("404 AGENT_NOT_FOUND\n");
	secret(OP_SIGNED_ADD, "a", "s", 0);
	secret(OP_SIGNED_ADD, "a", "s", 0);
	forget();
	claim(1, "a");
	prove(1, "a");
	run("a", PING);
	expect("201 #1 sent\nexecute #1\n");
}

static void
a_claim_is_in_nobodys_way(void **state)
{
	(void)state;
	secret(OP_SIGNED_ADD, "a", "s", 0);
	claim(1, "a");
	prove(1, "a");
	forget();
	claim(2, "a");
	run("a", PING);
	expect("201 #1 sent\nexecute #1\n");
	/* What it says before it has registered is no agent's word. */
	result(2, 1);
	expect("error COMMAND_NOT_FOUND\n");
	gone(2);
	expect("");
	result(1, 1);
	expect("#1 completed\n");
}

static void
the_ids_of_others_are_theirs(void **state)
{
	(void)state;
	arrive_foreign(1, "a");
	secret(OP_SIGNED_ADD, "b", "s", 0);
	forget();
	secret(OP_SIGNED_ADD, "a", "s", 0);
	expect("409 AGENT_ID_TAKEN\n");
	/* A prefix covers it, and helps nobody. */
	secret(OP_SIGNED_ADD, "*", "s", 0);
	expect("400 INVALID_REQUEST\n");
	secret(OP_SIGNED_ADD, "a*", "s", 0);
	forget();
	claim(2, "a");
	prove(2, "a");
	expect("error AGENT_ID_TAKEN\n");
	/* Nor does a token take one that signs. */
	claim(3, "b");
	prove(3, "b");
	expect("");
	arrive_foreign(4, "b");
	expect("error AGENT_ID_TAKEN\n");
}

static void
one_at_a_time_attached_or_not(void **state)
{
	struct wish attached = PING;

	(void)state;
	attached.foreground = true;
	secret(OP_SIGNED_ADD, "a", "s", 0);
	claim(1, "a");
	prove(1, "a");
	forget();
	run("a", attached);
	run("a", attached);
	run("a", PING);
	expect("201 #1 sent\nexecute #1\n201 #2 queued\n"
	       "201 #3 queued 1/0\n");
	result(1, 1);
	expect("#1 completed\nexecute #2\n");
	result(1, 2);
	expect("#2 completed\nexecute #3\n");
	/* No word for it. */
	ask(OP_COMMAND_INTERRUPT, TOKEN_ROOT, id_of(3));
	expect("403 NOT_PERMITTED\n");
	later(59999);
	expect("");
	later(1);
	expect("#3 unknown\n");
	result(1, 3);
	expect("error COMMAND_NOT_FOUND\n");
}

/* It was allowed to wait, and what waits is looked at again. */
static void
what_it_cannot_be_asked_is_not_sent(void **state)
{
	static const char *const bad[] = { "[\"true\"]", "[\"ping\",\"x\"]",
		"[\"ping\",\"1=x\"]", "[\"ping\",\"a=\xc3\xa9\"]",
		"[\"ping\",\"a=&\"]", "[\"ping\",\"a=1\",\"a=2\"]",
		"[\"ping\",\"__proto__=1\"]", "[\"ping\",\"=\"]" };

	(void)state;
	secret(OP_SIGNED_ADD, "a", "s", 0);
	claim(1, "a");
	prove(1, "a");
	forget();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		run("a", (struct wish){ .argv = bad[i] });
		expect("403 NOT_PERMITTED\n");
	}
	run("a", (struct wish){ .argv = "[\"ping\"]", .cwd = "/" });
	expect("403 NOT_PERMITTED\n");
	/* Away, it is known for what it is. */
	gone(1);
	forget();
	run("a", (struct wish){ .argv = "[\"true\"]" });
	expect("403 NOT_PERMITTED\n");
	run("a", PING);
	expect("201 #1 queued 1/0\n");
	claim(2, "a");
	prove(2, "a");
	expect("execute #1\n");
	gone(2);
	expect("#1 unknown\n");
}

static void
a_rotation_that_fails_changes_nothing(void **state)
{
	(void)state;
	secret(OP_SIGNED_ADD, "a", "old", 0);
	forget();
	hold(OP_PUT_SECRET);
	secret(OP_SIGNED_ROTATE, "a", "new", 1000);
	settle(ERR_IO);
	expect("503 STORE_FAILED\n");
	secret(OP_SIGNED_ROTATE, "b", "new", 1000);
	expect("404 SECRET_NOT_FOUND\n");
	secret(OP_SIGNED_REMOVE, "a", "", 0);
	forget();
	claim(1, "a");
	prove(1, "a");
	run("a", PING);
	expect("404 AGENT_NOT_FOUND\n");
}

static void
without_memory(void *arg)
{
	(void)arg;
	if (world_begin(NULL) != 0) {
		rig_fini(&w.rig);
		return;
	}
	secret(OP_SIGNED_ADD, "a", "s", 0);
	claim(1, "a");
	prove(1, "a");
	struct event ev = rig_event(EVENT_LOG, 1);
	ev.log = (struct log_record){ .level = SL("info"), .message = SL("m") };
	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_HEARTBEAT, 1);
	ev.heartbeat.metadata_json = SL("{\"cpuPercent\":1}");
	rig_input(&w.rig, &ev);
	run("a", PING);
	secret(OP_SIGNED_ROTATE, "a", "new", 1000);
	secret(OP_SIGNED_REMOVE, "a", "", 0);
	gone(1);
	rig_fini(&w.rig);
}

static void
memory_may_run_out(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, world_tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_secret_is_good_when_it_is_stored),
		T(a_claim_is_in_nobodys_way),
		T(the_ids_of_others_are_theirs),
		T(one_at_a_time_attached_or_not),
		T(what_it_cannot_be_asked_is_not_sent),
		T(a_rotation_that_fails_changes_nothing),
		cmocka_unit_test(memory_may_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
