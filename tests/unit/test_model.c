#include <stdlib.h>

#include "base/alloc.h"
#include "base/err.h"

#include "model/cidr.h"
#include "model/clone.h"
#include "model/command.h"
#include "model/outbox.h"
#include "model/presence.h"
#include "model/scope.h"
#include "model/selector.h"

#include "support/guard.h"
#include "support/oom.h"
#include "support/unit.h"

static bool
chooses(const char *text, const char *own, const char *said)
{
	struct selector s;
	struct arena a;

	arena_init(&a, 1 << 20);
	assert_int_equal(selector_parse(slice_from(text), &s), 0);
	int fits = selector_match(&s, slice_from(own), slice_from(said), &a);
	arena_fini(&a);
	assert_true(fits == 0 || fits == 1);
	return fits == 1;
}

static void
test_selectors(void **state)
{
	const char *said = "{\"env\":\"prod\",\"tier\":\"db\",\"e\":\"\"}";

	(void)state;
	assert_true(chooses("", NULL, NULL));
	assert_true(chooses(" ", NULL, said));
	assert_true(chooses("env=prod", NULL, said));
	assert_true(chooses(" env = prod , tier==db ", NULL, said));
	assert_false(chooses("env=prod,tier=web", NULL, said));
	assert_false(chooses("env=pro", NULL, said));
	assert_true(chooses("env!=test", NULL, said));
	assert_false(chooses("env!=prod", NULL, said));
	assert_true(chooses("nothing!=x", NULL, said));
	assert_true(chooses("env,!nothing,e", NULL, said));
	assert_false(chooses("!env", NULL, said));
	assert_true(chooses("e=", NULL, said));
	assert_false(chooses("nothing=", NULL, said));
	/* What operators set wins. */
	assert_false(chooses("env=prod", "{\"env\":\"test\"}", said));
	assert_true(chooses("env=test,tier=db", "{\"env\":\"test\"}", said));
	/* Labels that are none choose nothing. */
	assert_false(chooses("env=1", NULL, "{\"env\":1}"));
	assert_false(chooses("env", NULL, "[]"));
}

static bool
excludes(const char *text, const char *own)
{
	struct selector s;
	struct arena a;

	arena_init(&a, 1 << 20);
	assert_int_equal(selector_parse(slice_from(text), &s), 0);
	int out = selector_excludes(&s, slice_from(own), &a);
	arena_fini(&a);
	assert_true(out == 0 || out == 1);
	return out == 1;
}

/* What operators did not say is the agent's to say. */
static void
test_excludes(void **state)
{
	(void)state;
	assert_false(excludes("", "{\"env\":\"prod\"}"));
	assert_false(excludes("env=prod", NULL));
	assert_false(excludes("env=prod", "{\"tier\":\"db\"}"));
	assert_false(excludes("env=prod,tier", "{\"env\":\"prod\"}"));
	assert_true(excludes("env=prod", "{\"env\":\"test\"}"));
	assert_true(excludes("tier,env!=test", "{\"env\":\"test\"}"));
	assert_false(excludes("env!=test", NULL));
	assert_true(excludes("!old", "{\"old\":\"\"}"));
	assert_false(excludes("!old", "{}"));
}

static void
test_bad_selectors(void **state)
{
	const char *bad[] = { ",", "a,,b", "=x", "!", "a b", "a=\n", "!a=b",
		"a,", "\x80=x" };
	char many[64] = "a";
	struct selector s = { .count = 77 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice text = guard_copy(slice_from(bad[i]));
		assert_int_equal(selector_parse(text, &s), ERR_INVALID);
		guard_free(text);
	}
	for (size_t i = 1; i < SELECTOR_TERMS; i++)
		memcpy(many + 2 * i - 1, ",a", 2);
	assert_int_equal(selector_parse(slice_from(many), &s), 0);
	assert_int_equal(s.count, SELECTOR_TERMS);
	memcpy(many + 2 * SELECTOR_TERMS - 1, ",a", 2);
	assert_int_equal(selector_parse(slice_from(many), &s), ERR_FULL);
	assert_int_equal(s.count, SELECTOR_TERMS);
}

static void
test_labels(void **state)
{
	char key[65];

	(void)state;
	memset(key, 'k', sizeof(key));
	assert_true(label_key_ok((struct slice){ (uint8_t *)key, 63 }));
	assert_false(label_key_ok((struct slice){ (uint8_t *)key, 64 }));
	assert_false(label_key_ok(SL("")));
	assert_true(label_key_ok(SL("app.kubernetes.io/name_1-x")));
	assert_false(label_key_ok(SL("a=b")));
	assert_true(label_value_ok(SL("")));
	assert_true(label_value_ok(SL("h\xc3\xa4, =!")));
	assert_false(label_value_ok(SL("a\0b")));
	assert_false(label_value_ok(SL("\x7f")));
}

static bool
covers(const char *list, const char *text)
{
	struct address a;

	assert_int_equal(address_parse(slice_from(text), &a), 0);
	return cidr_list_has(slice_from(list), &a);
}

static void
test_addresses(void **state)
{
	const char *good[] = { "0.0.0.0", "255.255.255.255", "::", "::1",
		"2001:db8::1", "[::1]", "1:2:3:4:5:6:7:8", "::ffff:192.0.2.1",
		"1::8", "fe80::1:2:3:4", "64:ff9b::192.0.2.33" };
	const char *bad[] = { "", ".", "1.2.3", "1.2.3.4.5", "256.1.1.1",
		"01.2.3.4", "1.2.3.4 ", "1..2.3", ":", ":::", "1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "g::", "[::1",
		"::1.2.3", "1.2.3.4::", "::1%eth0",
		"1:2:3:4:5:6:7:8::", "1:2:3:4:5:6:7:1.2.3.4",
		":1:2:3:4:5:6:7:8" };
	struct address a;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct slice text = guard_copy(slice_from(good[i]));
		if (address_parse(text, &a) != 0)
			fail_msg("%s", good[i]);
		guard_free(text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice text = guard_copy(slice_from(bad[i]));
		if (address_parse(text, &a) == 0)
			fail_msg("%s", bad[i]);
		guard_free(text);
	}
}

static void
test_ranges(void **state)
{
	(void)state;
	assert_true(covers("10.0.0.0/8", "10.255.0.1"));
	assert_true(covers("10.0.0.0/8", "::ffff:10.1.2.3"));
	assert_false(covers("10.0.0.0/8", "11.0.0.0"));
	assert_true(covers("192.0.2.7", "192.0.2.7"));
	assert_false(covers("192.0.2.7", "192.0.2.6"));
	assert_true(covers("0.0.0.0/0", "203.0.113.1"));
	assert_false(covers("0.0.0.0/0", "2001:db8::1"));
	assert_true(covers("::/0", "2001:db8::1"));
	assert_true(covers("192.0.2.128/25", "192.0.2.200"));
	assert_false(covers("192.0.2.128/25", "192.0.2.100"));
	assert_true(covers("198.51.100.0/24, 2001:db8::/33", "2001:db8::5"));
	assert_false(covers("2001:db8::/33", "2001:db8:8000::5"));
	assert_false(covers("", "192.0.2.1"));
	assert_false(covers("nonsense,192.0.2.0/99", "192.0.2.1"));
	assert_int_equal(cidr_check(SL("10.0.0.0/33")), ERR_INVALID);
	assert_int_equal(cidr_check(SL("10.0.0.0/")), ERR_INVALID);
	assert_int_equal(cidr_check(SL("10.0.0.0/8/8")), ERR_INVALID);
	assert_int_equal(cidr_check(SL("::/129")), ERR_INVALID);
	assert_int_equal(cidr_check(SL("::/128")), 0);
}

static void
test_presence_table(void **state)
{
	enum presence p;

	(void)state;
	for (int from = 0; from < PRESENCES; from++) {
		assert_int_equal(
		    presence_find(presence_name((enum presence)from), &p), 0);
		assert_int_equal(p, from);
		/* Only who is about to come back has no word of its own. */
		assert_int_equal(
		    presence_console_word((enum presence)from).len > 0,
		    from != PRESENCE_RECONNECTING);
		assert_int_equal(
		    presence_monitor_word((enum presence)from).len > 0,
		    from != PRESENCE_RECONNECTING);
		/* Everyone can be removed, nobody comes back from it. */
		assert_false(
		    presence_may_move(PRESENCE_REMOVED, (enum presence)from));
		assert_int_equal(
		    presence_may_move((enum presence)from, PRESENCE_REMOVED),
		    from != PRESENCE_REMOVED);
		/* Only who had a link can lose it. */
		if (presence_is_linked((enum presence)from))
			assert_true(presence_may_move(
			    (enum presence)from, PRESENCE_RECONNECTING));
	}
	assert_int_equal(presence_find(SL("gone"), &p), ERR_INVALID);
	assert_true(presence_may_move(PRESENCE_OFFLINE, PRESENCE_ONLINE));
	assert_true(presence_may_move(PRESENCE_OFFLINE, PRESENCE_JOINING));
	assert_true(presence_may_move(PRESENCE_RECONNECTING, PRESENCE_OFFLINE));
	assert_slice(presence_cluster_word(PRESENCE_BUSY), SL("active"));
	assert_slice(presence_cluster_word(PRESENCE_STOPPED), SL("error"));
	assert_slice(presence_cluster_word(PRESENCE_OFFLINE), SL("inactive"));
	assert_slice(presence_console_word(PRESENCE_BUSY), SL("busy"));
	assert_slice(presence_monitor_word(PRESENCE_BUSY), SL("online"));
	assert_slice(presence_console_word(PRESENCE_DEGRADED), SL("online"));
	assert_slice(presence_console_word(PRESENCE_STOPPED), SL("error"));
	assert_slice(presence_monitor_word(PRESENCE_REMOVED), SL("offline"));
}

static void
test_claims(void **state)
{
	(void)state;
	assert_int_equal(presence_claim(SL("Error")), PRESENCE_ERROR);
	assert_int_equal(presence_claim(SL("busy")), PRESENCE_BUSY);
	assert_int_equal(presence_claim(SL("available")), PRESENCE_JOINING);
	assert_int_equal(presence_claim(SL("")), PRESENCE_JOINING);
	/* A claim lowers and never raises. */
	assert_int_equal(
	    presence_lower(PRESENCE_ONLINE, PRESENCE_BUSY), PRESENCE_BUSY);
	assert_int_equal(presence_lower(PRESENCE_DEGRADED, PRESENCE_BUSY),
	    PRESENCE_DEGRADED);
	assert_int_equal(
	    presence_lower(PRESENCE_BUSY, PRESENCE_JOINING), PRESENCE_BUSY);
	assert_int_equal(presence_lower(PRESENCE_STOPPED, PRESENCE_OFFLINE),
	    PRESENCE_STOPPED);
}

static void
test_command_table(void **state)
{
	enum command_state s;
	uint8_t priority;

	(void)state;
	for (int from = 0; from < COMMAND_STATES; from++) {
		enum command_state f = (enum command_state)from;
		bool final = from >= COMMAND_COMPLETED;
		assert_int_equal(
		    command_state_find(command_state_name(f), &s), 0);
		assert_int_equal(s, from);
		assert_int_equal(command_is_final(f), final);
		for (int to = 0; to < COMMAND_STATES; to++) {
			bool forward = !final &&
			    (to >= COMMAND_COMPLETED ||
				(from == COMMAND_QUEUED &&
				    to == COMMAND_SENT) ||
				(from == COMMAND_SENT &&
				    to == COMMAND_RUNNING));
			assert_int_equal(
			    command_may_move(f, (enum command_state)to),
			    forward);
		}
	}
	assert_int_equal(command_state_find(SL("Queued"), &s), ERR_INVALID);
	assert_int_equal(priority_find(SL("high"), &priority), 0);
	assert_int_equal(priority, 2);
	assert_slice(priority_name(0), SL("low"));
	assert_int_equal(priority_find(SL("urgent"), &priority), ERR_INVALID);
}

static void
test_scopes(void **state)
{
	struct slice bad, name;
	scope_set set = 0, again = 0;
	unsigned pos = 0;

	(void)state;
	assert_int_equal(
	    scope_parse(SL("cluster:register, agent:read"), &set, &bad), 0);
	assert_int_equal(set, SCOPE_CLUSTER_REGISTER | SCOPE_AGENT_READ);
	assert_int_equal(
	    scope_parse(SL("agent:read,root"), &again, &bad), ERR_INVALID);
	assert_slice(bad, SL("root"));
	assert_int_equal(again, 0);
	for (set = 0; (name = scope_next(SCOPES_ALL, &pos)).ptr != NULL;)
		set |= scope_find(name);
	assert_int_equal(set, SCOPES_ALL);
}

static void
check_clone(const struct token_record *c)
{
	assert_slice(c->id, SL("tok_1"));
	assert_slice(c->allow, SL("10.0.0.0/8"));
	assert_null(c->user_id.ptr);
	/* Empty is not absent. */
	assert_non_null(c->name.ptr);
	assert_int_equal(c->name.len, 0);
	assert_int_equal(c->max_connections, 7);
}

static void
test_clones(void **state)
{
	char id[] = "tok_1", allow[] = "10.0.0.0/8";
	const struct token_record t = { .id = slice_from(id),
		.name = SL(""),
		.allow = slice_from(allow),
		.max_connections = 7 };
	struct token_record *heap = clone_new(CLONE_TOKEN, &t);
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 16);
	struct token_record *in = clone_in(&a, CLONE_TOKEN, &t);
	assert_non_null(heap);
	assert_non_null(in);
	assert_int_equal(clone_size(CLONE_TOKEN, &t), sizeof(t) + 5 + 10);
	memset(id, 'x', 5);
	memset(allow, 'x', 10);
	check_clone(heap);
	check_clone(in);
	alloc_free(heap);
	arena_fini(&a);
}

static void
test_outbox(void **state)
{
	struct peer_id peer = { .slot = 3, .generation = 1 };
	struct outbox o;

	(void)state;
	outbox_init(&o, 1 << 20);
	for (int i = 0; i < 1000; i++) {
		struct event *ev = outbox_send(&o, peer, EVENT_PONG);
		assert_non_null(ev);
		assert_int_equal(ev->kind, EVENT_PONG);
	}
	assert_int_equal(o.count, 1000);
	assert_true(peer_eq(o.effects[999].peer, peer));
	assert_int_equal(o.effects[999].after, 0);
	outbox_reset(&o);
	assert_int_equal(o.count, 0);
	outbox_fini(&o);
	/* At its cap it stays wrong until it is emptied. */
	outbox_init(&o, 64);
	while (outbox_send(&o, peer, EVENT_PONG) != NULL)
		;
	assert_int_equal(o.err, ERR_NOMEM);
	assert_null(outbox_add(&o, EFFECT_CLOSE));
	outbox_reset(&o);
	assert_non_null(outbox_add(&o, EFFECT_CLOSE));
	outbox_fini(&o);
}

static void
without_memory(void *arg)
{
	const struct user_record user = { .id = SL("usr_1"), .name = SL("n") };
	struct selector s;
	struct outbox o;

	(void)arg;
	outbox_init(&o, 1 << 20);
	void *clone = clone_new(CLONE_USER, &user);
	alloc_free(clone);
	(void)clone_in(&o.arena, CLONE_USER, &user);
	for (int i = 0; i < 100; i++)
		(void)outbox_send(
		    &o, (struct peer_id){ .generation = 1 }, EVENT_PONG);
	assert_true(o.err == 0 || o.err == ERR_NOMEM);
	assert_int_equal(selector_parse(SL("a=b"), &s), 0);
	int fits = selector_match(&s, SL("{}"), SL("{\"a\":\"b\"}"), &o.arena);
	assert_true(fits == 1 || fits == ERR_NOMEM);
	int out = selector_excludes(&s, SL("{\"a\":\"c\"}"), &o.arena);
	assert_true(out == 1 || out == ERR_NOMEM);
	outbox_fini(&o);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(without_memory, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_excludes),
		cmocka_unit_test(test_bad_selectors),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_presence_table),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_command_table),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_clones),
		cmocka_unit_test(test_outbox),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
