/*
 * Those who watch: who is let in, what they are shown, and when it ends.
 * What the hub does is written down in short lines.
 */
#include <stdio.h>

#include "base/err.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { ROOT = 1, VIEWER, PROD, AGENT, CONNECT, SHORT, TOKENS = 6 };

static struct world {
	struct rig rig;
	char log[1 << 16];
	size_t len;
	/* Which audience each peer below 100 is, as it was told. */
	unsigned audience[100];
	bool watching[100];
	uint64_t since[100]; /* EVENTS: as it was told */
	uint64_t notices;
} w;

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	w.len += (size_t)vsnprintf(
	    w.log + w.len, sizeof(w.log) - w.len, format, args);
	va_end(args);
	assert_true(w.len < sizeof(w.log));
}

static void
watches(uint32_t peer, unsigned audience, const struct agent_news *news,
    size_t count)
{
	if (peer < 100) {
		w.audience[peer] = audience;
		w.watching[peer] = true;
	}
	note("%u watches:", peer);
	for (size_t i = 0; i < count; i++)
		note(" %.*s", SLICE_FMT(news[i].id));
	note("\n");
}

static void
note_send(uint32_t peer, const struct event *ev)
{
	if (ev->kind == EVENT_WELCOME && ev->welcome.news != NULL)
		watches(peer, ev->welcome.audience, ev->welcome.news,
		    ev->welcome.news_count);
	else if (ev->kind == EVENT_WELCOME)
		note("%u guest\n", peer);
	else if (ev->kind == EVENT_REPLY && ev->reply->err != 0)
		note("%u %u %.*s\n", peer, ev->reply->status,
		    SLICE_FMT(ev->reply->code));
	else if (ev->kind == EVENT_REPLY && ev->reply->op == OP_EVENTS) {
		w.since[peer] = ev->reply->audience_since;
		watches(peer, ev->reply->audience, NULL, 0);
	} else if (ev->kind == EVENT_REPLY)
		watches(peer, ev->reply->audience, ev->reply->news,
		    ev->reply->news_count);
	else if (ev->kind == EVENT_DENIED)
		note("%u denied %u %.*s\n", peer, ev->denied.status,
		    SLICE_FMT(ev->denied.code));
	else if (ev->kind == EVENT_ERROR)
		note("%u error %.*s\n", peer, SLICE_FMT(ev->complaint.code));
	else if (ev->kind == EVENT_REGISTERED)
		note("%u registered\n", peer);
	else if (ev->kind == EVENT_TOKEN_ENDS)
		note("%u token ends\n", peer);
	else if (ev->kind == EVENT_EXECUTE)
		note("%u execute%s\n", peer,
		    peer_some(ev->execute.asked_by) ? " for a dashboard" : "");
	else if (ev->kind == EVENT_PONG)
		note("%u pong\n", peer);
	else if (ev->kind == EVENT_STOP_ORDER)
		note("%u %s: %u agents %u commands\n", peer,
		    ev->stop.stopped ? "stop" : "work", ev->stop.reach.agents,
		    ev->stop.reach.commands);
}

static void
note_publish(const struct effect *e)
{
	w.notices = e->event->notice.number;
	note("%.*s %.*s ->", SLICE_FMT(e->event->notice.name),
	    SLICE_FMT(e->event->notice.agent_id));
	for (uint32_t i = 0; i < 100; i++) {
		if (w.watching[i] && audience_has(&e->seen_by, w.audience[i]))
			note(" %u", i);
	}
	if (e->event->notice.stop != NULL)
		note(": %u agents %u commands",
		    e->event->notice.stop_reach.agents,
		    e->event->notice.stop_reach.commands);
	note("\n");
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_SEND)
		note_send(e->peer.slot, e->event);
	if (e->kind == EFFECT_CLOSE)
		note("%u close %u %.*s\n", e->peer.slot, e->close.code,
		    SLICE_FMT(e->close.reason));
	if (e->kind == EFFECT_PUBLISH)
		note_publish(e);
}

static void
expect(const char *log)
{
	assert_string_equal(w.log, log);
	w.log[0] = '\0';
	w.len = 0;
}

static void
load_people(void)
{
	const struct user_record users[] = {
		{ .id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1 },
		{ .id = SL("usr_view"),
		    .role = ROLE_VIEWER,
		    .workspace_id = 1 },
		{ .id = SL("usr_prod"),
		    .role = ROLE_OPERATOR,
		    .selector = SL("env=prod"),
		    .workspace_id = 1 },
	};
	struct token_record tokens[TOKENS] = {
		{ .id = SL("tok_r"), .user_id = SL("usr_root") },
		{ .id = SL("tok_v"), .user_id = SL("usr_view") },
		{ .id = SL("tok_p"), .user_id = SL("usr_prod") },
		{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_c"), .scopes = SCOPE_AGENT_CONNECT },
		{ .id = SL("tok_s"), .user_id = SL("usr_root") },
	};
	const struct hub_snapshot snapshot = { .users = users,
		.user_count = 3,
		.tokens = tokens,
		.token_count = TOKENS };

	for (uint32_t i = 0; i < TOKENS; i++) {
		if (tokens[i].scopes == 0)
			tokens[i].scopes = SCOPES_ALL;
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
	}
	tokens[SHORT - 1].expires_at = w.rig.wall + 400000;
	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
}

static int
begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, NULL);
	assert_non_null(w.rig.hub);
	w.rig.perform = perform;
	load_people();
	return 0;
}

static int
end(void **state)
{
	(void)state;
	assert_int_equal(w.rig.err, 0);
	rig_fini(&w.rig);
	return 0;
}

static void
knock(uint32_t peer, uint32_t token, enum entrance entrance)
{
	struct event ev = rig_hello(peer, token, "192.0.2.1", entrance);

	rig_input(&w.rig, &ev);
}

static void
say(uint32_t peer, enum event_kind kind)
{
	struct event ev = rig_event(kind, peer);

	rig_input(&w.rig, &ev);
}

static struct event
asking(uint32_t peer, enum request_op op, const char *id)
{
	struct event ev = rig_event(EVENT_REQUEST, peer);

	ev.request.op = op;
	ev.request.id = slice_from(id);
	ev.request.credential.kind = CREDENTIAL_WATCH;
	return ev;
}

static void
dashboard(uint32_t peer, uint32_t token)
{
	struct event ev = asking(peer, OP_WATCH, "");

	knock(peer, token, ENTRANCE_CONSOLE);
	rig_input(&w.rig, &ev);
}

static void
enrol(uint32_t peer, const char *id, const char *labels)
{
	struct event ev = rig_event(EVENT_REGISTER, peer);

	ev.registration.agent_id = slice_from(id);
	ev.registration.name = slice_from(id);
	ev.registration.labels_json = slice_from(labels);
	ev.registration.console = true;
	ev.registration.type = SL("claude");
	rig_input(&w.rig, &ev);
}

static void
test_who_sees_what(void **state)
{
	(void)state;
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", "{\"env\":\"prod\"}");
	knock(51, CONNECT, ENTRANCE_CONSOLE);
	enrol(51, "b", "{\"env\":\"test\"}");
	expect(
	    "50 guest\nagent.joining a ->\n50 registered\nagent.online a ->\n"
	    "51 guest\nagent.joining b ->\n51 registered\nagent.online b "
	    "->\n");
	dashboard(1, ROOT);
	dashboard(2, PROD);
	knock(3, VIEWER, ENTRANCE_MONITOR);
	expect("1 guest\n1 watches: a b\n2 guest\n2 watches: a\n"
	       "3 watches: a b\n");
	say(51, EVENT_GOODBYE);
	say(51, EVENT_GONE);
	say(50, EVENT_GONE);
	expect("51 close 1000 goodbye\nagent.offline b -> 1 3\n"
	       "agent.offline a -> 1 2 3\n");
	/* The last of an audience leaves; it is kept for who comes back. */
	say(2, EVENT_GONE);
	w.watching[2] = false;
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", NULL);
	expect("50 guest\n50 registered\nagent.online a -> 1 3\n");
}

static void
follow(uint32_t peer, uint32_t token)
{
	struct event ev = asking(peer, OP_EVENTS, "");

	ev.request.credential =
	    rig_hello(peer, token, "192.0.2.1", ENTRANCE_CONSOLE)
		.hello.credential;
	rig_input(&w.rig, &ev);
}

/* Who comes back is the same audience, and is told since when it is one. */
static void
test_coming_back(void **state)
{
	(void)state;
	follow(1, PROD);
	expect("1 watches:\n");
	unsigned audience = w.audience[1];
	uint64_t since = w.since[1];
	say(1, EVENT_GONE);
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", "{\"env\":\"prod\"}");
	/* It has gone, but what happens is still marked for it. */
	expect("50 guest\nagent.joining a -> 1\n50 registered\n"
	       "agent.online a -> 1\n");
	follow(2, ROOT);
	assert_int_not_equal(w.audience[2], audience);
	assert_true(w.since[2] >= w.notices);
	follow(3, PROD);
	assert_int_equal(w.audience[3], audience);
	assert_int_equal(w.since[3], since);
	assert_true(since < w.notices);
}

/* A HEAD leaves its connection to whatever comes next. */
static void
test_another_request(void **state)
{
	(void)state;
	follow(1, PROD);
	expect("1 watches:\n");
	w.watching[1] = false;
	knock(1, ROOT, ENTRANCE_CONSOLE);
	expect("1 guest\n");
}

/* Few are kept: a number goes to another in the end, who is told since
 * when it is his. */
static void
test_idle_audiences_are_bounded(void **state)
{
	char id[16], selector[16];

	(void)state;
	follow(1, PROD);
	unsigned first = w.audience[1];
	say(1, EVENT_GONE);
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", NULL);
	for (uint32_t i = 0; i <= AUDIENCES_IDLE; i++) {
		snprintf(id, sizeof(id), "usr_%u", i);
		snprintf(selector, sizeof(selector), "n=%u", i);
		const struct user_record u = { .id = slice_from(id),
			.role = ROLE_OPERATOR,
			.selector = slice_from(selector),
			.workspace_id = 1 };
		struct token_record t = { .id = u.id,
			.user_id = u.id,
			.scopes = SCOPES_ALL,
			.workspace_id = 1 };
		const struct hub_snapshot s = { .users = &u,
			.user_count = 1,
			.tokens = &t,
			.token_count = 1 };
		rig_hash(t.hash, 100 + i);
		assert_int_equal(hub_load(w.rig.hub, &s, w.rig.now), 0);
		follow(2, 100 + i);
		assert_true(w.since[2] > 0 && w.since[2] == w.notices);
		if (w.audience[2] == first)
			return;
		say(2, EVENT_GONE);
	}
	fail_msg("all of them are kept");
}

static void
test_who_is_let_in(void **state)
{
	(void)state;
	knock(1, 77, ENTRANCE_CONSOLE);
	knock(2, 77, ENTRANCE_MONITOR);
	knock(3, AGENT, ENTRANCE_MONITOR);
	expect("1 denied 401 UNAUTHORIZED\n2 denied 401 UNAUTHORIZED\n"
	       "3 denied 403 NOT_PERMITTED\n");
	/* An agent's token is no dashboard's. */
	dashboard(4, CONNECT);
	expect("4 guest\n4 403 NOT_PERMITTED\n");
	/* A viewer's is no agent's. */
	knock(5, VIEWER, ENTRANCE_CONSOLE);
	enrol(5, "x", NULL);
	expect("5 guest\n5 error NOT_PERMITTED\n");
	/* A dashboard does not become an agent, nor an agent a dashboard. */
	dashboard(6, ROOT);
	enrol(6, "x", NULL);
	expect("6 guest\n6 watches:\n6 error NOT_PERMITTED\n");
	knock(7, ROOT, ENTRANCE_CONSOLE);
	enrol(7, "y", NULL);
	struct event ev = asking(7, OP_WATCH, "");
	w.len = 0;
	rig_input(&w.rig, &ev);
	expect("7 409 INVALID_MESSAGE\n");
	/* Nobody is what he has not shown to be. */
	ev = asking(99, OP_WATCH, "");
	rig_input(&w.rig, &ev);
	expect("99 401 UNAUTHORIZED\n");
	say(6, EVENT_PING);
	expect("6 pong\n");
}

static void
test_credentials_end(void **state)
{
	(void)state;
	dashboard(1, SHORT);
	knock(2, SHORT, ENTRANCE_MONITOR);
	expect("1 guest\n1 watches:\n2 watches:\n");
	rig_advance(&w.rig, 99999);
	expect("");
	/* Five minutes before; who cannot renew it is not asked. */
	rig_advance(&w.rig, 100000);
	expect("1 token ends\n");
	rig_advance(&w.rig, 400000);
	expect("1 close 1008 token_expired\n2 close 1008 token_expired\n");
}

static void
test_revocation(void **state)
{
	struct event ev = asking(3, OP_TOKEN_REVOKE, "tok_v");
	struct event root = rig_hello(3, ROOT, "192.0.2.1", ENTRANCE_CONSOLE);

	(void)state;
	dashboard(1, VIEWER);
	knock(2, VIEWER, ENTRANCE_MONITOR);
	dashboard(4, PROD);
	w.len = 0;
	ev.request.credential = root.hello.credential;
	rig_input(&w.rig, &ev);
	expect("1 close 1008 revoked\n2 close 1008 revoked\n3 watches:\n");
	/* What a closed one still says is not heard. */
	ev = asking(1, OP_WATCH, "");
	rig_input(&w.rig, &ev);
	expect("1 401 UNAUTHORIZED\n");
}

static void
test_commands_of_foreign_agents(void **state)
{
	const struct command_record r = { .argv_json = SL("[\"x\"]"),
		.priority = 1 };
	struct event ev = asking(1, OP_COMMAND_CREATE, "a");

	(void)state;
	knock(50, CONNECT, ENTRANCE_CONSOLE);
	enrol(50, "a", NULL);
	dashboard(1, ROOT);
	w.len = 0;
	ev.request.command = &r;
	rig_input(&w.rig, &ev);
	expect("agent.busy a -> 1\n"
	       "1 watches:\n"
	       "command.queued a -> 1\n"
	       "50 execute for a dashboard\n");
	/* Its link ends before its word: nobody knows, it is not sent again. */
	say(50, EVENT_GONE);
	knock(50, CONNECT, ENTRANCE_CONSOLE);
	enrol(50, "a", NULL);
	expect("agent.offline a -> 1\n"
	       "command.unknown a -> 1\n"
	       "50 guest\n"
	       "50 registered\n"
	       "agent.online a -> 1\n");
}

static struct hub_stats
stats(void)
{
	struct hub_stats s;

	hub_stats_get(w.rig.hub, &s);
	return s;
}

/* Dashboards and boards count, and whose they are; followers do not. */
static void
test_counts(void **state)
{
	struct event again = asking(1, OP_WATCH, "");

	(void)state;
	dashboard(1, ROOT);
	rig_input(&w.rig, &again);
	knock(2, ROOT, ENTRANCE_MONITOR);
	knock(3, VIEWER, ENTRANCE_MONITOR);
	knock(4, VIEWER, ENTRANCE_CONSOLE); /* has not said what it is */
	follow(5, PROD);
	assert_int_equal(stats().watches, 3);
	assert_int_equal(stats().watching_users, 2);
	say(3, EVENT_GONE);
	say(1, EVENT_GONE);
	assert_int_equal(stats().watches, 1);
	assert_int_equal(stats().watching_users, 1);
	say(2, EVENT_GONE);
	assert_int_equal(stats().watching_users, 0);
}

static void
knock_foreign(uint32_t peer, const char *subject)
{
	struct event ev = rig_hello(peer, 0, "192.0.2.1", ENTRANCE_MONITOR);

	ev.hello.credential.kind = CREDENTIAL_JWT;
	ev.hello.credential.claims = (struct claims){
		.issuer = SL("https://id.example"),
		.subject = slice_from(subject),
		.role = ROLE_VIEWER,
	};
	rig_input(&w.rig, &ev);
}

/* Who is known by another issuer's word alone has no more than ours. */
static void
test_connections_of_a_user(void **state)
{
	const uint32_t most = 200;

	(void)state;
	for (uint32_t i = 0; i < most; i++) {
		knock_foreign(100 + i, "eve");
		knock(1000 + i, ROOT, ENTRANCE_CONSOLE);
	}
	w.watching[1] = w.watching[2] = false;
	w.len = 0;
	knock_foreign(1, "eve");
	knock(2, ROOT, ENTRANCE_CONSOLE);
	expect("1 denied 429 CONNECTION_LIMIT\n2 denied 429 "
	       "CONNECTION_LIMIT\n");
	knock_foreign(3, "adam");
	/* Agents have a limit of their own. */
	enrol(1000, "a", NULL);
	say(100, EVENT_GONE);
	w.len = 0;
	knock_foreign(1, "eve");
	knock(2, ROOT, ENTRANCE_CONSOLE);
	expect("1 watches: a\n2 guest\n");
	assert_int_equal(stats().watching_users, 2);
}

static const struct reply *
last_reply(const struct outbox *o)
{
	static const struct reply nothing = { .err = ERR_NOT_FOUND };

	for (size_t i = o->count; i-- > 0;) {
		const struct effect *e = &o->effects[i];
		if (e->kind == EFFECT_SEND && e->event->kind == EVENT_REPLY)
			return e->event->reply;
	}
	return &nothing;
}

/* Who asks in the same turn is given the same list, while it is true. */
static void
test_shared_list(void **state)
{
	struct event ask[3];
	struct outbox o;

	(void)state;
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", "{\"env\":\"prod\"}");
	knock(51, AGENT, ENTRANCE_CONSOLE);
	for (uint32_t i = 0; i < 3; i++) {
		knock(i + 1, i == 2 ? PROD : ROOT, ENTRANCE_CONSOLE);
		ask[i] = asking(i + 1, OP_WATCH, "");
		ask[i].at = w.rig.wall;
	}
	outbox_init(&o, 1 << 20);
	hub_input(w.rig.hub, &ask[0], w.rig.now, &o);
	const struct reply *first = last_reply(&o);
	hub_input(w.rig.hub, &ask[1], w.rig.now, &o);
	const struct reply *second = last_reply(&o);
	assert_ptr_not_equal(first, second);
	assert_int_equal(first->err, 0);
	assert_ptr_equal(first->news, second->news);
	assert_int_equal(first->news_id, second->news_id);
	assert_int_equal(second->news_count, 1);
	/* Another's selector, and then another fleet. */
	hub_input(w.rig.hub, &ask[2], w.rig.now, &o);
	assert_ptr_not_equal(last_reply(&o)->news, first->news);
	struct event more = rig_event(EVENT_REGISTER, 51);
	more.at = w.rig.wall;
	more.registration.agent_id = more.registration.name = SL("b");
	more.registration.console = true;
	hub_input(w.rig.hub, &more, w.rig.now, &o);
	hub_input(w.rig.hub, &ask[1], w.rig.now, &o);
	const struct reply *third = last_reply(&o);
	assert_int_equal(third->news_count, 2);
	assert_int_not_equal(third->news_id, first->news_id);
	/* The next turn has an outbox of its own, at the same place. */
	outbox_reset(&o);
	hub_input(w.rig.hub, &ask[0], w.rig.now, &o);
	assert_int_equal(last_reply(&o)->news_count, 2);
	assert_int_not_equal(last_reply(&o)->news_id, third->news_id);
	outbox_fini(&o);
}

static void
renew(uint32_t peer, uint32_t token)
{
	struct event ev = asking(peer, OP_RENEW, "");

	ev.request.credential =
	    rig_hello(peer, token, "192.0.2.1", ENTRANCE_CONSOLE)
		.hello.credential;
	rig_input(&w.rig, &ev);
}

/* Of the same user, and with its own end; else nothing changes. */
static void
test_renewal(void **state)
{
	(void)state;
	dashboard(1, SHORT);
	dashboard(2, SHORT);
	w.len = 0;
	renew(1, VIEWER);
	renew(1, AGENT);
	renew(1, 99);
	expect("1 403 OTHER_SUBJECT\n1 403 OTHER_SUBJECT\n"
	       "1 401 UNAUTHORIZED\n");
	renew(1, ROOT);
	expect("1 watches:\n");
	rig_advance(&w.rig, 500000);
	expect("2 token ends\n2 close 1008 token_expired\n");
	/* It goes with what it lives on now. */
	struct event ev = asking(3, OP_TOKEN_REVOKE, "tok_r");
	ev.request.credential =
	    rig_hello(3, ROOT, "192.0.2.1", ENTRANCE_CONSOLE).hello.credential;
	rig_input(&w.rig, &ev);
	expect("1 close 1008 revoked\n3 watches:\n");
}

static void
report(uint32_t token, enum request_op op, const char *id, const char *word)
{
	struct event ev = asking(9, op, id);

	ev.request.credential =
	    rig_hello(9, token, "192.0.2.1", ENTRANCE_CONSOLE).hello.credential;
	ev.request.word = slice_from(word);
	ev.request.session_id = SL("session-1");
	rig_input(&w.rig, &ev);
	w.watching[9] = false; /* it only asked */
}

/* What other back ends say lowers a state, and raises none. */
static void
test_broadcasts(void **state)
{
	(void)state;
	knock(50, AGENT, ENTRANCE_CONSOLE);
	enrol(50, "a", "{\"env\":\"test\"}");
	dashboard(1, ROOT);
	dashboard(2, PROD);
	w.len = 0;
	report(ROOT, OP_BROADCAST_STATUS, "a", "error");
	report(ROOT, OP_BROADCAST_STATUS, "a", "online");
	report(ROOT, OP_BROADCAST_ACTIVITY, "a", "hello");
	expect("agent.error a -> 1\n9 watches:\nagent.online a -> 1\n"
	       "9 watches:\nsession.activity a -> 1\n9 watches:\n");
	report(ROOT, OP_BROADCAST_STATUS, "b", "error");
	report(VIEWER, OP_BROADCAST_STATUS, "a", "error");
	/* Not an operator's to say, whatever agent it is. */
	report(PROD, OP_BROADCAST_ACTIVITY, "a", "hello");
	expect("9 404 AGENT_NOT_FOUND\n9 403 NOT_PERMITTED\n"
	       "9 403 NOT_PERMITTED\n");
	say(50, EVENT_GONE);
	report(ROOT, OP_BROADCAST_STATUS, "a", "online");
	expect("agent.offline a -> 1\n9 watches:\n");
}

static void
order(enum request_op op)
{
	struct event ev = asking(1, op, "");

	ev.request.scope = STOP_ALL;
	rig_input(&w.rig, &ev);
}

static void
run(const char *id)
{
	const struct command_record r = { .argv_json = SL("[\"x\"]"),
		.priority = 1 };
	struct event ev = asking(1, OP_COMMAND_CREATE, id);

	ev.request.command = &r;
	rig_input(&w.rig, &ev);
}

/* Everybody reads what a stop came down on, of what they may see. */
static void
test_reach_of_a_stop(void **state)
{
	(void)state;
	knock(50, CONNECT, ENTRANCE_CONSOLE);
	enrol(50, "a", "{\"env\":\"prod\"}");
	knock(51, CONNECT, ENTRANCE_CONSOLE);
	enrol(51, "b", "{\"env\":\"test\"}");
	knock(52, CONNECT, ENTRANCE_CONSOLE);
	enrol(52, "away", "{\"env\":\"prod\"}");
	dashboard(1, ROOT);
	dashboard(2, PROD);
	dashboard(3, VIEWER);
	/* Two run at once; there is one in the queue of a, and of away, where
	 * nothing can be told to end. */
	for (int i = 0; i < 3; i++)
		run("a");
	run("b");
	say(52, EVENT_GONE);
	run("away");
	w.len = 0;
	order(OP_STOP_RAISE);
	expect("50 stop: 1 agents 3 commands\n51 stop: 1 agents 1 commands\n"
	       "agent.stopped a -> 1 2 3\nagent.stopped b -> 1 3\n"
	       "stop.raised  -> 1 3: 2 agents 5 commands\n"
	       "stop.raised  -> 2: 1 agents 4 commands\n1 watches:\n");
	rig_advance(&w.rig, 0);
	w.len = 0;
	order(OP_STOP_LIFT);
	if (strstr(w.log, "stop.lifted  -> 1 2 3: 0 agents 0 commands\n") ==
		NULL ||
	    strstr(w.log, "50 work: 0 agents 0 commands\n") == NULL)
		fail_msg("got %s", w.log);
}

/* Whatever fails, nobody watches who was not told so, and all is freed. */
static void
a_life(void *arg)
{
	(void)arg;
	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, NULL);
	if (w.rig.hub == NULL) {
		rig_fini(&w.rig);
		return;
	}
	w.rig.perform = perform;
	struct event hello = rig_hello(1, ROOT, "192.0.2.1", ENTRANCE_CONSOLE);
	const struct user_record user = {
		.id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1
	};
	struct token_record token = { .id = SL("tok_r"),
		.user_id = user.id,
		.scopes = SCOPES_ALL,
		.workspace_id = 1 };
	const struct hub_snapshot snapshot = { .users = &user,
		.user_count = 1,
		.tokens = &token,
		.token_count = 1 };

	rig_hash(token.hash, ROOT);
	if (hub_load(w.rig.hub, &snapshot, 0) == 0) {
		struct event ev = asking(1, OP_WATCH, "");
		rig_input(&w.rig, &hello);
		rig_input(&w.rig, &ev);
		say(1, EVENT_GONE);
	}
	rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_life, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_who_sees_what),
		TEST(test_coming_back),
		TEST(test_another_request),
		TEST(test_idle_audiences_are_bounded),
		TEST(test_who_is_let_in),
		TEST(test_credentials_end),
		TEST(test_revocation),
		TEST(test_counts),
		TEST(test_connections_of_a_user),
		TEST(test_shared_list),
		TEST(test_renewal),
		TEST(test_broadcasts),
		TEST(test_commands_of_foreign_agents),
		TEST(test_reach_of_a_stop),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
