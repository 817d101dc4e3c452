/*
 * How commands come to be and whether they still may: keys, rights at
 * delivery, one request for many agents.
 */
#include "base/err.h"

#include "model/hub_state.h"

#include "support/oom.h"
#include "support/queue_world.h"
#include "support/unit.h"

/* Keys --------------------------------------------------------------------- */

static void
test_key_means_one_thing(void **state)
{
	(void)state;
	arrive("a", "exec");
	arrive_at(2, "b", "exec", NULL);
	run("a", (struct wish){ .key = "k" });
	run("a", (struct wish){ .key = "k" });
	expect("201 #1 sent\nopen #1\n200 #1 sent\n");
	run("b", (struct wish){ .key = "k" });
	run("a", (struct wish){ .key = "k", .argv = "[\"false\"]" });
	run("a", (struct wish){ .key = "k", .cwd = "/" });
	run("a", (struct wish){ .key = "k", .priority = 1 });
	expect("422 KEY_REUSED\n422 KEY_REUSED\n422 KEY_REUSED\n"
	       "422 KEY_REUSED\n");
	/* A deadline is said from now on, so it cannot be the same. */
	run("a", (struct wish){ .key = "k", .deadline = 5000 });
	expect("200 #1 sent\n");
	/* Keys are a user's own. */
	run("a", (struct wish){ .key = "k", .token = TOKEN_VIEWER });
	expect("403 NOT_PERMITTED\n");
}

/* While the first is on its way to the disk nothing is promised. */
static void
test_key_while_storing(void **state)
{
	(void)state;
	arrive("a", "exec");
	w.fail_verb = OP_PUT_COMMAND;
	w.store_err = RIG_HOLD;
	run("a", (struct wish){ .key = "k" });
	run("a", (struct wish){ .key = "k" });
	expect("");
	w.fail_verb = 0;
	rig_settle(&w.rig);
	expect("201 #1 sent\nopen #1\n200 #1 sent\n");
	w.fail_verb = OP_PUT_COMMAND;
	run("a", (struct wish){ .key = "j" });
	run("a", (struct wish){ .key = "j" });
	w.store_err = ERR_IO;
	rig_settle(&w.rig);
	expect("503 STORE_FAILED\n503 STORE_FAILED\n");
}

/* Rights at delivery ------------------------------------------------------- */

static void
change_user(const char *id, enum role role, const char *selector)
{
	const struct user_record u = { .role = role,
		.selector = slice_from(selector) };
	struct event ev =
	    request(OP_USER_CHANGE, TOKEN_ROOT, OP, slice_from(id));

	ev.request.user = &u;
	ev.request.changes = USER_ROLE | USER_SELECTOR;
	rig_input(&w.rig, &ev);
}

static void
test_rights_change(void **state)
{
	const struct wish mine = { .token = TOKEN_OPERATOR };

	(void)state;
	arrive_at(AGENT, "a", "exec", "{\"env\":\"prod\"}");
	for (int i = 0; i < 5; i++)
		run("a", mine);
	expect("201 #1 sent\nopen #1\n201 #2 sent\nopen #2\n"
	       "201 #3 queued 1/5000\n201 #4 queued 2/7500\n"
	       "201 #5 queued 3/10000\n");
	change_user("usr_op", ROLE_VIEWER, "env=prod");
	forget();
	ends_after(1, 1, 0);
	expect("#3 cancelled: rights changed: its user may not run commands\n"
	       "#4 cancelled: rights changed: its user may not run commands\n"
	       "#5 cancelled: rights changed: its user may not run "
	       "commands\n");
	change_user("usr_op", ROLE_OPERATOR, "env=prod");
	forget();
	run("a", mine);
	run("a", mine);
	run("a", PLAIN);
	change_user("usr_op", ROLE_OPERATOR, "env=test");
	forget();
	ends_after(2, 1, 0);
	expect("#7 cancelled: rights changed: its user may not use this "
	       "agent\nopen #8\n");
	change_user("usr_op", ROLE_OPERATOR, "env=prod");
	run("a", mine);
	ask(OP_USER_REMOVE, TOKEN_ROOT, SL("usr_op"));
	forget();
	ends_after(6, 1, 0);
	expect("#9 cancelled: rights changed: its user was removed\n");
}

/* A foreign issuer's subject may have any byte in it. */
static void
test_keys_do_not_collide(void **state)
{
	struct slice one, other;

	(void)state;
	assert_int_equal(hub_make_key(&one, SL("ext:a\0b"), SL("c")), 0);
	assert_int_equal(hub_make_key(&other, SL("ext:a"), SL("b\0c")), 0);
	assert_false(slice_eq(one, other));
	hub_unkeep(&one);
	hub_unkeep(&other);
}

static void
test_token_is_revoked(void **state)
{
	const struct wish mine = { .token = TOKEN_OPERATOR };

	(void)state;
	arrive_at(AGENT, "a", "exec", "{\"env\":\"prod\"}");
	run("a", mine);
	run("a", mine);
	run("a", mine);
	run("a", PLAIN);
	ask(OP_TOKEN_REVOKE, TOKEN_ROOT, SL("tok_o"));
	forget();
	ends_after(1, 1, 0);
	expect("#3 cancelled: rights changed: its token was revoked\n"
	       "open #4\n");
}

static void
test_policy_forbids(void **state)
{
	(void)state;
	arrive("a", "observe,exec");
	leave();
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	arrive("a", "observe,execute");
	assert_string_equal(w.log, "");
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	expect("200 queue a 0 waiting 0 running -:\n");
	/* Without a word of its policy it is asked. */
	leave();
	run("a", PLAIN);
	forget();
	struct event ev =
	    rig_hello(AGENT, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, AGENT);
	ev.registration.agent_id = ev.registration.name = SL("a");
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true };
	rig_input(&w.rig, &ev);
	expect("open #3\n");
}

static void
test_who_may_end_it(void **state)
{
	(void)state;
	arrive_at(AGENT, "a", "exec", "{\"env\":\"prod\"}");
	arrive_at(2, "b", "exec", NULL);
	run("a", PLAIN);
	run("b", PLAIN);
	forget();
	ask(OP_COMMAND_INTERRUPT, TOKEN_VIEWER, id_of(1));
	ask(OP_COMMAND_INTERRUPT, TOKEN_OPERATOR, id_of(2));
	ask(OP_COMMAND_CANCEL, TOKEN_VIEWER, id_of(1));
	ask(OP_COMMAND_CANCEL, TOKEN_OPERATOR, id_of(2));
	expect("403 NOT_PERMITTED\n404 COMMAND_NOT_FOUND\n"
	       "403 NOT_PERMITTED\n404 COMMAND_NOT_FOUND\n");
	ask(OP_COMMAND_INTERRUPT, TOKEN_OPERATOR, id_of(1));
	expect("signal #1\n200 #1 sent\n");
	/* One's own, also where one may not go any more. */
	run("a", (struct wish){ .token = TOKEN_OPERATOR });
	change_user("usr_op", ROLE_OPERATOR, "env=test");
	forget();
	ask(OP_COMMAND_INTERRUPT, TOKEN_OPERATOR, id_of(3));
	ask(OP_COMMAND_INTERRUPT, TOKEN_OPERATOR, id_of(1));
	expect("signal #3\n200 #3 sent\n404 COMMAND_NOT_FOUND\n");
}

/* Many at once ------------------------------------------------------------- */

static void
test_fan_out(void **state)
{
	(void)state;
	arrive_at(1, "a", "exec", "{\"env\":\"prod\"}");
	arrive_at(2, "b", "exec", "{\"env\":\"prod\"}");
	arrive_at(3, "c", "exec", "{\"env\":\"test\"}");
	run("c,nobody,a,c", (struct wish){ .selector = "env=prod" });
	expect("open #1\nopen #2\nopen #3\n"
	       "201 [c #1 sent] [nobody 404 AGENT_NOT_FOUND] [a #2 sent]"
	       " [b #3 sent]\n");
	/* An operator's selector limits what a selector finds. */
	run(NULL, (struct wish){ .selector = "env", .token = TOKEN_OPERATOR });
	expect("open #4\nopen #5\n201 [a #4 sent] [b #5 sent]\n");
	run(NULL, (struct wish){ .selector = "env=none" });
	run(NULL, (struct wish){ .selector = "=" });
	run("x,y", (struct wish){ .selector = "" });
	expect("404 AGENT_NOT_FOUND\n400 INVALID_REQUEST\n"
	       "200 [x 404 AGENT_NOT_FOUND] [y 404 AGENT_NOT_FOUND]\n");
	/* Each by itself: one runs full, one is cordoned, one is away. */
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("b"));
	leave();
	forget();
	run("a,b,c", (struct wish){ .selector = "", .or_fail = true });
	expect("open #6\n"
	       "201 [a 409 AGENT_OFFLINE] [b 409 CORDONED] [c #6 sent]\n");
	run("a,b,c", (struct wish){ .selector = "" });
	expect("201 [a #7 queued 1/5000] [b #8 queued 1/5000]"
	       " [c #9 queued 1/5000]\n");
}

static void
named(uint32_t peer, const char *id, const char *name, const char *labels)
{
	struct event ev = rig_event(EVENT_REGISTER, peer);

	arrive_at(peer, id, "exec", labels);
	ev.registration.agent_id = slice_from(id);
	ev.registration.name = slice_from(name);
	ev.registration.labels_json = slice_from(labels);
	ev.registration.native = (struct native_hello){ .present = true,
		.proto = 1,
		.min = 1,
		.has_yamux = true,
		.has_exec = true,
		.policy_verbs = SL("exec") };
	rig_input(&w.rig, &ev);
	forget();
}

/* By id, by name, by the beginning of an id, in the order of asking. */
static void
test_fan_out_by_name(void **state)
{
	(void)state;
	named(1, "id-01", "web", "{\"env\":\"prod\"}");
	named(2, "id-02", "db", "{\"env\":\"prod\"}");
	named(3, "id-03", "web", "{\"env\":\"test\"}");
	named(4, "other-4", "id-01", "{\"env\":\"test\"}");
	run("db,web,id-01,othe,id-0,oth,db", (struct wish){ .selector = "" });
	expect(
	    "open #1\nopen #2\nopen #3\n"
	    "201 [id-02 #1 sent] [web 409 AMBIGUOUS] [id-01 #2 sent]"
	    " [other-4 #3 sent] [id-0 409 AMBIGUOUS] [oth 404 AGENT_NOT_FOUND]"
	    "\n");
	/* What one may not see is not in the way either. */
	run("web,id-03",
	    (struct wish){ .selector = "", .token = TOKEN_OPERATOR });
	expect("open #4\n201 [id-01 #4 sent] [id-03 404 AGENT_NOT_FOUND]\n");
}

static void
test_fan_out_by_key(void **state)
{
	const struct wish keyed = { .selector = "", .key = "k" };

	(void)state;
	arrive_at(1, "a", "exec", NULL);
	arrive_at(2, "b", "exec", NULL);
	run("a,b", keyed);
	run("a,b", keyed);
	expect("open #1\nopen #2\n201 [a #1 sent] [b #2 sent]\n"
	       "201 [a #1 sent again] [b #2 sent again]\n");
	ends_after(1, 1, 0);
	/* The store knows the key of the first. */
	w.fail_verb = OP_PUT_COMMAND;
	w.store_err = ERR_EXISTS;
	run("a,b", keyed);
	expect("201 [a 409 ALREADY_RUN] [b #2 sent again]\n");
}

static void
test_fan_out_not_stored(void **state)
{
	(void)state;
	arrive_at(1, "a", "exec", NULL);
	arrive_at(2, "b", "exec", NULL);
	w.fail_verb = OP_PUT_COMMAND;
	w.store_err = ERR_NO_SPACE;
	w.fail_agent = "a";
	run("a,b", (struct wish){ .selector = "" });
	expect("open #1\n201 [a 507 NO_SPACE] [b #1 sent]\n");
	w.fail_agent = "b";
	run("a,b", (struct wish){ .selector = "" });
	expect("open #2\n201 [a #2 sent] [b 507 NO_SPACE]\n");
	w.fail_agent = NULL;
	run("a,b", (struct wish){ .selector = "" });
	expect("200 [a 507 NO_SPACE] [b 507 NO_SPACE]\n");
	/* One answer, and only when the last is known. */
	w.store_err = RIG_HOLD;
	w.fail_agent = "b";
	run("b,a", (struct wish){ .selector = "" });
	expect("");
	w.fail_verb = 0;
	rig_settle(&w.rig);
	expect("open #3\nopen #4\n201 [b #3 sent] [a #4 sent]\n");
}

/* Memory ------------------------------------------------------------------- */

static void
a_day(void *arg)
{
	const struct hub_config config = {
		.concurrency = 1, .max_commands = 50, .seed = { 1, 2, 3, 4 }
	};

	(void)arg;
	if (world_begin(&config) != 0) {
		rig_fini(&w.rig);
		return;
	}
	arrive_at(1, "a", "exec", "{\"env\":\"prod\"}");
	arrive_at(2, "b", "exec", NULL);
	watch();
	run("b,x", (struct wish){ .selector = "env=prod", .key = "k" });
	run("a", (struct wish){ .key = "j" });
	run("a", (struct wish){ .key = "j" });
	ask(OP_AGENT_CORDON, TOKEN_ROOT, SL("a"));
	run("a,b", (struct wish){ .selector = "", .priority = 1 });
	later(60);
	ask(OP_QUEUE_SHOW, TOKEN_ROOT, SL("a"));
	ends_after(w.id_count > 0 ? 1 : 0, 5, 0);
	ask(OP_QUEUE_PURGE, TOKEN_ROOT, SL("a"));
	ask(OP_AGENT_UNCORDON, TOKEN_ROOT, SL("a"));
	later(60);
	rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	a_day(NULL);
	assert_int_equal(w.rig.err, 0);
	assert_non_null(strstr(w.log, "purged 2"));
	assert_non_null(strstr(w.log, "news queue b 0"));
	oom_torture(a_day, NULL);
}

int
main(void)
{
#define QUEUE_TEST(f) \
	cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(test_key_means_one_thing),
		QUEUE_TEST(test_key_while_storing),
		QUEUE_TEST(test_rights_change),
		QUEUE_TEST(test_token_is_revoked),
		cmocka_unit_test(test_keys_do_not_collide),
		QUEUE_TEST(test_policy_forbids),
		QUEUE_TEST(test_who_may_end_it),
		QUEUE_TEST(test_fan_out),
		QUEUE_TEST(test_fan_out_by_key),
		QUEUE_TEST(test_fan_out_by_name),
		QUEUE_TEST(test_fan_out_not_stored),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
