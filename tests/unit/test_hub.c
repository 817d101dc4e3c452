/*
 * The rules of the hub.  What it does is written down in short lines, one
 * per effect: "1 open #1 5" is a stream opened at peer 1 for the first
 * command seen, with dispatch number 5.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#include "model/command.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { IDS = 4096, OP = 900, VIEWER = 901 };

static struct world {
	struct rig rig;
	char log[1 << 16];
	size_t len;
	char ids[IDS][32];
	size_t id_count;
	int store_err;
	int fail_verb; /* -1 = all */
	size_t ops[OP_VERBS];
	wall_msec shown_at;
} w;

static const char *
short_id(struct slice id)
{
	static char text[16];
	size_t i = 0;

	if (id.ptr == NULL)
		return "-";
	while (i < w.id_count && !slice_eq(slice_from(w.ids[i]), id))
		i++;
	if (i == w.id_count) {
		assert_true(i < IDS && id.len < sizeof(w.ids[i]));
		memcpy(w.ids[w.id_count++], id.ptr, id.len);
	}
	snprintf(text, sizeof(text), "#%zu", i + 1);
	return text;
}

static struct slice
id_of(int n)
{
	return slice_from(w.ids[n - 1]);
}

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
note_reply(uint32_t peer, const struct reply *r)
{
	note("%u %u", peer, r->status);
	if (r->err != 0)
		note(" %.*s", SLICE_FMT(r->code));
	if (r->command != NULL)
		note(" %s %.*s%s", short_id(r->command->id),
		    SLICE_FMT(command_state_name(r->command->state)),
		    r->again ? " again" : "");
	for (size_t i = 0; i < r->agent_count; i++)
		note(" %.*s", SLICE_FMT(r->agents[i].record->id));
	if (r->agent_count == 1)
		note(" %.*s", SLICE_FMT(presence_name(r->agents[0].presence)));
	note("\n");
}

static void
note_send(uint32_t peer, const struct event *ev)
{
	if (ev->kind == EVENT_REPLY)
		note_reply(peer, ev->reply);
	else if (ev->kind == EVENT_ERROR)
		note("%u error %.*s\n", peer, SLICE_FMT(ev->complaint.code));
	else if (ev->kind == EVENT_DENIED)
		note("%u denied %u %.*s\n", peer, ev->denied.status,
		    SLICE_FMT(ev->denied.code));
	else if (ev->kind == EVENT_REGISTERED)
		note("%u registered %.*s%s\n", peer,
		    SLICE_FMT(ev->registered.agent_id),
		    ev->registered.again ? " again" : "");
	else if (ev->kind == EVENT_POLL_REPLY) {
		note("%u offered", peer);
		for (size_t i = 0; i < ev->poll.count; i++)
			note(" %s", short_id(ev->poll.commands[i].id));
		note("\n");
	}
}

static void
note_stream(uint32_t peer, const struct stream_order *o)
{
	static const char *const verbs[] = { "open", "signal", "done", "seen",
		"expel", "view" };

	note("%u %s %s", peer, verbs[o->verb], short_id(o->command_id));
	if (o->verb == STREAM_OPEN)
		note(" %u%s", (unsigned)o->command->sequence,
		    o->again ? " again" : "");
	if (o->verb == STREAM_DONE && o->command != NULL)
		note(" %.*s%s%.*s",
		    SLICE_FMT(command_state_name(o->command->state)),
		    o->command->code.len > 0 ? " " : "",
		    SLICE_FMT(o->command->code));
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
	if (e->kind == EFFECT_STREAM)
		note_stream(e->peer.slot, &e->stream);
	if (e->kind == EFFECT_OUTPUT)
		note("output %s %.*s|%.*s\n", short_id(e->output.command->id),
		    SLICE_FMT(e->output.out), SLICE_FMT(e->output.err));
}

static int
store(void *arg, const struct op *op)
{
	bool hit = w.fail_verb < 0 || w.fail_verb == (int)op->verb;

	(void)arg;
	if (w.store_err == RIG_HOLD || !hit)
		return w.store_err == RIG_HOLD && hit ? RIG_HOLD : 0;
	w.ops[op->verb]++;
	return w.store_err;
}

static void
forget(void)
{
	w.len = 0;
	w.log[0] = '\0';
}

/* Exactly this has happened since the last look. */
#define expect(text) expect_(text, __LINE__)
static void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	forget();
}

/* The world ---------------------------------------------------------------- */

enum { TOKEN_AGENT = 1, TOKEN_OTHER, TOKEN_ROOT, TOKEN_VIEWER, TOKEN_OPERATOR };

static void
load_people(void)
{
	const struct user_record users[] = {
		{ .id = SL("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1 },
		{ .id = SL("usr_view"),
		    .role = ROLE_VIEWER,
		    .workspace_id = 1 },
		{ .id = SL("usr_op"),
		    .role = ROLE_OPERATOR,
		    .selector = SL("env=prod"),
		    .workspace_id = 1 },
	};
	struct token_record tokens[] = {
		{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_b"), .scopes = SCOPES_CLUSTER },
		{ .id = SL("tok_r"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_root") },
		{ .id = SL("tok_v"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_view") },
		{ .id = SL("tok_o"),
		    .scopes = SCOPES_ALL,
		    .user_id = SL("usr_op") },
	};
	const struct hub_snapshot snapshot = { .users = users,
		.user_count = 3,
		.tokens = tokens,
		.token_count = 5 };

	for (uint32_t i = 0; i < 5; i++) {
		tokens[i].name = tokens[i].id;
		tokens[i].workspace_id = 1;
		rig_hash(tokens[i].hash, i + 1);
	}
	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
}

static void
begin_with(const struct hub_config *config)
{
	memset(&w, 0, sizeof(w));
	w.fail_verb = -1;
	rig_init(&w.rig, config);
	assert_non_null(w.rig.hub);
	w.rig.perform = perform;
	w.rig.store = store;
	load_people();
}

static int
begin(void **state)
{
	const struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.concurrency = 2,
		.queue_limit = 3,
		.foreground_max = 2,
		.max_commands = 50 };

	(void)state;
	begin_with(&config);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	if (w.rig.hub != NULL) {
		assert_int_equal(w.rig.err, 0);
		rig_fini(&w.rig);
	}
	w.rig.hub = NULL;
	return 0;
}

static void
let_in(uint32_t peer, uint32_t token)
{
	struct event ev =
	    rig_hello(peer, token, "192.0.2.1", ENTRANCE_CLUSTER_LINK);

	rig_input(&w.rig, &ev);
}

struct back {
	uint64_t sequence;
	const struct held_command *held;
	size_t count;
	bool foreign;
	const char *labels;
};

static void
enrol(uint32_t peer, const char *id, struct back back)
{
	struct event ev = rig_event(EVENT_REGISTER, peer);

	ev.registration.agent_id = slice_from(id);
	ev.registration.name = slice_from(id);
	ev.registration.labels_json = slice_from(back.labels);
	if (!back.foreign)
		ev.registration.native = (struct native_hello){
			.present = true,
			.proto = 1,
			.min = 1,
			.has_yamux = true,
			.has_exec = true,
			.sequence = back.sequence,
			.held = back.held,
			.held_count = back.count,
		};
	rig_input(&w.rig, &ev);
}

/* A native agent of that name on that peer, registered. */
static void
arrive(uint32_t peer, const char *id, struct back back)
{
	let_in(peer, TOKEN_AGENT);
	enrol(peer, id, back);
}

static void
leave(uint32_t peer, int why)
{
	struct event ev = rig_event(EVENT_GONE, peer);

	ev.gone.why = why;
	rig_input(&w.rig, &ev);
}

static struct event
request(enum request_op op, uint32_t token, struct slice id)
{
	struct event ev = rig_event(EVENT_REQUEST, OP);
	struct event hello =
	    rig_hello(OP, token, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = op;
	ev.request.id = id;
	ev.request.credential = hello.hello.credential;
	return ev;
}

struct wish {
	bool foreground;
	bool or_fail;
	int priority; /* -1 low, 1 high */
	const char *key;
	msec deadline;
	uint32_t token;
};

static void
run(const char *agent, struct wish wish)
{
	const struct command_record r = { .argv_json = SL("[\"true\"]"),
		.foreground = wish.foreground,
		.priority = (uint8_t)(1 + wish.priority),
		.deadline_at =
		    wish.deadline == 0 ? 0 : w.rig.wall + wish.deadline };
	struct event ev = request(OP_COMMAND_CREATE,
	    wish.token == 0 ? TOKEN_ROOT : wish.token, slice_from(agent));

	ev.request.command = &r;
	ev.request.or_fail = wish.or_fail;
	ev.request.attach = wish.foreground;
	ev.request.request_key = slice_from(wish.key);
	rig_input(&w.rig, &ev);
}

static void
about(enum event_kind kind, uint32_t peer, int command, struct outcome o)
{
	struct event ev = rig_event(kind, peer);

	ev.outcome = o;
	ev.outcome.command_id = id_of(command);
	rig_input(&w.rig, &ev);
}

static void
starts(uint32_t peer, int command)
{
	about(EVENT_COMMAND_STARTED, peer, command, (struct outcome){ 0 });
}

static void
exits(uint32_t peer, int command, int code)
{
	about(EVENT_COMMAND_EXIT, peer, command,
	    (struct outcome){ .exit_code = code });
}

static void
ask(enum request_op op, struct slice id)
{
	struct event ev = request(op, TOKEN_ROOT, id);

	rig_input(&w.rig, &ev);
}

static struct hub_stats
stats(void)
{
	struct hub_stats s;

	hub_stats_get(w.rig.hub, &s);
	return s;
}

#define NATIVE ((struct back){ 0 })
#define PLAIN ((struct wish){ 0 })

/* Dispatch ---------------------------------------------------------------- */

static void
test_dispatch_order(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	run("a", PLAIN);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "900 201 #2 sent\n1 open #2 2\n");
	/* Two at a time; the rest waits by priority, then by arrival. */
	run("a", (struct wish){ .priority = -1 });
	run("a", PLAIN);
	run("a", (struct wish){ .priority = 1 });
	run("a", PLAIN);
	expect("900 201 #3 queued\n900 201 #4 queued\n900 201 #5 queued\n"
	       "900 429 QUEUE_FULL\n");
	starts(1, 1);
	exits(1, 1, 0);
	expect("1 done #1 completed\n1 open #5 3\n");
	exits(1, 2, 3);
	exits(1, 5, 0);
	expect("1 done #2 failed\n1 open #4 4\n"
	       "1 done #5 completed\n1 open #3 5\n");
	exits(1, 4, 0);
	exits(1, 3, 0);
	expect("1 done #4 completed\n1 done #3 completed\n");
	assert_int_equal(stats().commands_live, 0);
	assert_int_equal(stats().commands_ended[COMMAND_COMPLETED], 4);
	assert_int_equal(stats().commands_ended[COMMAND_FAILED], 1);
}

/* Both were made while the store slept; the later, more urgent one has the
 * lower number, and numbers go out in their order. */
static void
test_numbers_go_out_in_order(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	leave(1, ERR_TIMEOUT);
	forget();
	w.store_err = RIG_HOLD;
	run("a", PLAIN);
	run("a", (struct wish){ .priority = 1 });
	arrive(2, "a", NATIVE);
	expect("2 registered a again\n");
	w.store_err = 0;
	rig_settle(&w.rig);
	expect("900 201 #1 queued\n900 201 #2 queued\n2 open #2 1\n"
	       "2 open #1 2\n");
}

/* Attached ones neither wait nor count. */
static void
test_foreground(void **state)
{
	const struct wish attached = { .foreground = true };

	(void)state;
	run("a", attached);
	expect("900 404 AGENT_NOT_FOUND\n");
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	run("a", PLAIN);
	run("a", attached);
	run("a", attached);
	run("a", attached);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "900 201 #2 sent\n1 open #2 2\n900 201 #3 sent\n1 open #3 3\n"
	       "900 201 #4 sent\n1 open #4 4\n900 429 QUEUE_FULL\n");
	leave(1, ERR_TIMEOUT);
	run("a", attached);
	run("a", (struct wish){ .or_fail = true });
	expect("900 409 AGENT_OFFLINE\n900 409 AGENT_OFFLINE\n");
	run("a", PLAIN);
	expect("900 201 #5 queued\n");
}

static void
test_foreign_agents_are_not_commanded(void **state)
{
	(void)state;
	arrive(1, "f", (struct back){ .foreign = true });
	run("f", PLAIN);
	expect("1 registered f\n900 403 NOT_PERMITTED\n");
}

static void
test_outcomes(void **state)
{
	static const struct {
		struct outcome outcome;
		const char *line;
	} cases[] = {
		{ { .exit_code = 0 }, "1 done #1 completed\n" },
		{ { .exit_code = 1 }, "1 done #2 failed\n" },
		{ { .signal = 9 }, "1 done #3 failed\n" },
		{ { .timed_out = true }, "1 done #4 failed TIMEOUT\n" },
		{ { .interrupted = true, .signal = 2 },
		    "1 done #5 interrupted\n" },
		{ { .stopped = true },
		    "1 done #6 interrupted AGENT_STOPPED\n" },
		{ { .code = SL_INIT("NOT_PERMITTED") },
		    "1 done #7 failed NOT_PERMITTED\n" },
		{ { .code = SL_INIT("EXPIRED") },
		    "1 done #8 expired EXPIRED\n" },
		{ { .code = SL_INIT("UNKNOWN_OUTCOME") },
		    "1 done #9 unknown UNKNOWN_OUTCOME\n" },
	};
	char line[128];

	(void)state;
	arrive(1, "a", NATIVE);
	expect("1 registered a\n");
	for (int i = 0; i < 9; i++) {
		run("a", PLAIN);
		snprintf(line, sizeof(line),
		    "900 201 #%d sent\n1 open #%d %d\n", i + 1, i + 1, i + 1);
		expect(line);
		about(EVENT_COMMAND_EXIT, 1, i + 1, cases[i].outcome);
		expect(cases[i].line);
		/* Once is enough, and a late start wakes nothing. */
		exits(1, i + 1, 0);
		starts(1, i + 1);
		expect("");
	}
}

/* Coming back ---------------------------------------------------------------
 */

static void
test_resume(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	for (int i = 0; i < 2; i++)
		run("a", PLAIN);
	for (int i = 0; i < 2; i++)
		run("a", (struct wish){ .foreground = true });
	run("a", PLAIN);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "900 201 #2 sent\n1 open #2 2\n900 201 #3 sent\n1 open #3 3\n"
	       "900 201 #4 sent\n1 open #4 4\n900 201 #5 queued\n");
	starts(1, 2);
	leave(1, ERR_TIMEOUT);
	/* 1 ended meanwhile, 2 runs, 3 lost its holder and has output still,
	 * 4 never arrived. */
	const struct held_command held[] = {
		{ id_of(2), HELD_RUNNING },
		{ id_of(1), HELD_EXITED },
		{ id_of(3), HELD_UNKNOWN },
		{ SL("cmd_stranger_exited"), HELD_EXITED },
		{ SL("cmd_stranger_runs"), HELD_RUNNING },
	};
	arrive(
	    2, "a", (struct back){ .sequence = 3, .held = held, .count = 5 });
	expect("2 registered a again\n2 done #6\n2 done #7\n2 open #1 1 again\n"
	       "2 open #2 2 again\n2 open #3 3 again\n"
	       "2 open #4 4 again\n");
	/* Next time it knows nothing any more of what it took. */
	leave(2, ERR_TIMEOUT);
	arrive(3, "a", (struct back){ .sequence = 4 });
	expect("3 registered a again\n"
	       "3 done #1 unknown UNKNOWN_OUTCOME\n"
	       "3 done #2 unknown UNKNOWN_OUTCOME\n"
	       "3 done #3 unknown UNKNOWN_OUTCOME\n"
	       "3 done #4 unknown UNKNOWN_OUTCOME\n3 open #5 5\n");
}

/* An agent whose mark is above ours: the database was restored. */
static void
test_numbers_never_go_back(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	leave(1, ERR_TIMEOUT);
	arrive(2, "a", (struct back){ .sequence = 100 });
	run("a", PLAIN);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "2 registered a again\n2 done #1 unknown UNKNOWN_OUTCOME\n"
	       "900 201 #2 sent\n2 open #2 101\n");
}

static void
test_restart(void **state)
{
	const struct hub_config config = { .seed = { 1, 1, 1, 1 },
		.incarnation = SL("db-1") };
	const struct agent_record agent = { .id = SL("a"),
		.cluster_id = SL("11111111-1111-4111-8111-111111111111"),
		.name = SL("a"),
		.token_id = SL("tok_a"),
		.install_id = SL("ins_1"),
		.registered_at = 5,
		.workspace_id = 1 };
	struct command_record commands[4];
	const struct connection_record link = { .agent_id = SL("a"),
		.opened_at = 1,
		.closed_at = 5,
		.why = SL("controller_stopped") };
	const struct hub_snapshot snapshot = { .agents = &agent,
		.agent_count = 1,
		.links = &link,
		.link_count = 1,
		.commands = commands,
		.command_count = 4 };

	end(state);
	begin_with(&config);
	for (size_t i = 0; i < 4; i++) {
		commands[i] = (struct command_record){ .agent_id = SL("a"),
			.user_id = SL("usr_root"),
			.argv_json = SL("[\"true\"]"),
			.priority = 1,
			.workspace_id = 1 };
	}
	/* The store gives them in any order. */
	commands[0].id = SL("cmd_nine");
	commands[0].state = COMMAND_SENT;
	commands[0].sequence = 9;
	commands[1].id = SL("cmd_eight");
	commands[1].state = COMMAND_RUNNING;
	commands[1].sequence = 8;
	commands[2].id = SL("cmd_late");
	commands[2].deadline_at = w.rig.wall + 1000;
	commands[3].id = SL("cmd_later");
	commands[3].deadline_at = w.rig.wall + 200000;
	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
	ask(OP_AGENT_SHOW, SL("a"));
	expect("900 200 a reconnecting\n");
	rig_advance(&w.rig, 999);
	expect("");
	rig_advance(&w.rig, 1000);
	expect("0 done #1 expired EXPIRED\n");
	rig_advance(&w.rig, 120000);
	ask(OP_AGENT_SHOW, SL("a"));
	expect("900 200 a offline\n");
	/* Undelivered ones go by number; new numbers come after the old. */
	arrive(1, "a", (struct back){ .sequence = 7 });
	expect("1 registered a again\n1 open #2 8 again\n1 open #3 9 again\n"
	       "1 open #4 10\n");
}

/* A backup with two queued commands was restored, when the agent's number was
 * 3: it comes back having taken more, or as it was. */
static void
restored(uint64_t sequence, const char *held, const char *expected)
{
	const struct hub_config config = { .node = 1,
		.incarnation = SL("db-2") };
	const struct agent_record agent = { .id = SL("a"),
		.cluster_id = SL("11111111-1111-4111-8111-111111111111"),
		.name = SL("a"),
		.token_id = SL("tok_a"),
		.registered_at = 5,
		.sequence = 3,
		.workspace_id = 1 };
	struct command_record commands[2];
	const struct hub_snapshot snapshot = { .agents = &agent,
		.agent_count = 1,
		.commands = commands,
		.command_count = 2 };
	const struct held_command has = { slice_from(held), HELD_RUNNING };

	end(NULL);
	begin_with(&config);
	for (size_t i = 0; i < 2; i++)
		commands[i] = (struct command_record){ .agent_id = SL("a"),
			.user_id = SL("usr_root"),
			.argv_json = SL("[\"true\"]"),
			.priority = (uint8_t)i,
			.sequence = 4,
			.deadline_at = w.rig.wall + 1000,
			.workspace_id = 1 };
	commands[0].id = SL("cmd_low");
	commands[1].id = SL("cmd_high");
	assert_int_equal(hub_load(w.rig.hub, &snapshot, 0), 0);
	arrive(1, "a",
	    (struct back){
		.sequence = sequence, .held = &has, .count = held != NULL });
	expect(expected);
}

static void
test_restored_queue(void **state)
{
	(void)state;
	restored(3, NULL, "1 registered a again\n1 open #1 4\n1 open #2 5\n");
	restored(4, NULL,
	    "1 registered a again\n1 done #1 unknown UNKNOWN_OUTCOME\n"
	    "1 done #2 unknown UNKNOWN_OUTCOME\n");
	/* What it has it tells. */
	restored(9, "cmd_high",
	    "1 registered a again\n1 done #1 unknown UNKNOWN_OUTCOME\n"
	    "1 open #2 10\n");
}

static void
test_stream_lost(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	about(EVENT_STREAM_LOST, 1, 1, (struct outcome){ 0 });
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n");
	rig_advance(&w.rig, 999);
	expect("");
	rig_advance(&w.rig, 1000);
	expect("1 open #1 1 again\n");
	/* That of an old link means nothing to the new one. */
	arrive(2, "a",
	    (struct back){ .sequence = 1,
		.held = &(struct held_command){ id_of(1), HELD_RUNNING },
		.count = 1 });
	expect("1 close 1000 replaced_by_new_connection\n"
	       "2 registered a again\n2 open #1 1 again\n");
	about(EVENT_STREAM_LOST, 1, 1, (struct outcome){ 0 });
	leave(1, 0);
	rig_advance(&w.rig, 5000);
	expect("");
}

/* A former native one that is foreign now cannot say what became of it. */
static void
test_native_no_more(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	arrive(2, "a", (struct back){ .foreign = true });
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "1 close 1000 replaced_by_new_connection\n"
	       "2 registered a again\n2 done #1 unknown UNKNOWN_OUTCOME\n");
}

/* Ends that operators and time make -------------------------------------- */

static void
test_deadline(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	leave(1, ERR_TIMEOUT);
	run("a", (struct wish){ .deadline = 5000 });
	run("a", PLAIN);
	expect("1 registered a\n900 201 #1 queued\n900 201 #2 queued\n");
	rig_advance(&w.rig, 4999);
	expect("");
	rig_advance(&w.rig, 5000);
	expect("0 done #1 expired EXPIRED\n");
	/* A day is the default. */
	rig_advance(&w.rig, 86399999);
	expect("");
	rig_advance(&w.rig, 86400000);
	expect("0 done #2 expired EXPIRED\n");
}

static void
test_cancel_and_interrupt(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	for (int i = 0; i < 4; i++)
		run("a", PLAIN);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "900 201 #2 sent\n1 open #2 2\n"
	       "900 201 #3 queued\n900 201 #4 queued\n");
	ask(OP_COMMAND_CANCEL, id_of(1));
	ask(OP_COMMAND_CANCEL, id_of(3));
	ask(OP_COMMAND_CANCEL, id_of(3));
	expect("900 409 ALREADY_SENT\n"
	       "1 done #3 cancelled CANCELLED\n900 200 #3 cancelled\n"
	       "900 404 COMMAND_NOT_FOUND\n");
	/* Interrupting what waits is cancelling. */
	ask(OP_COMMAND_INTERRUPT, id_of(4));
	ask(OP_COMMAND_INTERRUPT, id_of(1));
	expect("1 done #4 cancelled CANCELLED\n900 200 #4 cancelled\n"
	       "1 signal #1\n900 200 #1 sent again\n");
	/* Out of reach now: it hears of it when it is back. */
	leave(1, ERR_TIMEOUT);
	ask(OP_COMMAND_INTERRUPT, id_of(2));
	expect("900 200 #2 sent again\n");
	arrive(2, "a", (struct back){ .sequence = 0 });
	expect("2 registered a again\n2 open #1 1 again\n2 signal #1\n"
	       "2 open #2 2 again\n2 signal #2\n");
}

/* Whoever comes back has the streams, if he may see the agent. */
static void
test_attach(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", (struct wish){ .foreground = true });
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n");
	ask(OP_COMMAND_ATTACH, id_of(1));
	expect("900 200 #1 sent again\n1 view #1\n");
	/* Nothing of it is open while the agent is away, and after that it
	 * is opened for the newest. */
	leave(1, ERR_TIMEOUT);
	ask(OP_COMMAND_ATTACH, id_of(1));
	expect("900 200 #1 sent again\n0 view #1\n");
	arrive(2, "a", (struct back){ .sequence = 0 });
	expect("2 registered a again\n2 open #1 1 again\n");
	struct event ev = request(OP_COMMAND_ATTACH, TOKEN_VIEWER, id_of(1));
	rig_input(&w.rig, &ev);
	expect("900 403 NOT_PERMITTED\n");
	/* What is over, the store knows. */
	exits(2, 1, 0);
	expect("2 done #1 completed\n");
	ask(OP_COMMAND_ATTACH, SL("cmd_gone"));
	expect("900 200\n");
}

static void
attach_by(struct credential c)
{
	struct event ev = request(OP_COMMAND_ATTACH, TOKEN_ROOT, id_of(1));

	ev.request.credential = c;
	rig_input(&w.rig, &ev);
}

/* Whoever is attached goes when what let them in is withdrawn, whoever it
 * was that began the command. */
static void
test_attached_revoked(void **state)
{
	struct event ev = request(OP_LOGOUT, TOKEN_ROOT, SL(""));
	struct login_record login = { .id = SL("lgn_1"),
		.user_id = SL("usr_root"),
		.expires_at = w.rig.wall + 3600000 };
	struct event begun = request(OP_LOGIN_DONE, TOKEN_ROOT, SL("root"));
	struct credential by_login = { .kind = CREDENTIAL_JWT,
		.claims = { .subject = SL("usr_root"),
		    .login_id = SL("lgn_1"),
		    .issued_at = INT64_MAX,
		    .expires_at = INT64_MAX / 2 } };

	(void)state;
	arrive(1, "a", (struct back){ .labels = "{\"env\":\"prod\"}" });
	run("a", (struct wish){ .foreground = true });
	forget();
	attach_by(
	    request(OP_WHOAMI, TOKEN_OPERATOR, SL("")).request.credential);
	expect("900 200 #1 sent again\n1 view #1\n");
	/* Not for what befalls another. */
	ask(OP_TOKEN_REVOKE, SL("tok_v"));
	expect("900 200\n");
	ask(OP_TOKEN_REVOKE, SL("tok_o"));
	expect("1 expel #1\n900 200\n");
	/* Once. */
	ask(OP_USER_REMOVE, SL("usr_op"));
	expect("900 200\n");
	begun.request.login = &login;
	begun.request.passed = true;
	rig_input(&w.rig, &begun);
	attach_by(by_login);
	expect("900 200\n900 200 #1 sent again\n1 view #1\n");
	ev.request.credential = by_login;
	rig_input(&w.rig, &ev);
	expect("1 expel #1\n900 200\n");
}

static void
test_idempotency(void **state)
{
	const struct wish keyed = { .key = "k" };
	char long_key[300] = "";

	(void)state;
	arrive(1, "a", NATIVE);
	run("a", keyed);
	run("a", keyed);
	expect("1 registered a\n900 201 #1 sent\n1 open #1 1\n"
	       "900 200 #1 sent again\n");
	/* Another user's key is another key. */
	w.store_err = 0;
	exits(1, 1, 0);
	expect("1 done #1 completed\n");
	/* The store knows the older ones. */
	w.store_err = ERR_EXISTS;
	w.fail_verb = OP_PUT_COMMAND;
	run("a", keyed);
	expect("900 200  #2 sent again\n");
	assert_int_equal(stats().commands_live, 0);
	memset(long_key, 'k', 256);
	run("a", (struct wish){ .key = long_key });
	expect("900 400 INVALID_REQUEST\n");
}

static void
test_rights(void **state)
{
	(void)state;
	arrive(1, "a", (struct back){ .labels = "{\"env\":\"prod\"}" });
	arrive(2, "b", (struct back){ .labels = "{\"env\":\"test\"}" });
	run("a", (struct wish){ .token = TOKEN_VIEWER });
	run("a", (struct wish){ .token = TOKEN_AGENT });
	run("a", (struct wish){ .token = 77 });
	run("b", (struct wish){ .token = TOKEN_OPERATOR });
	run("a", (struct wish){ .token = TOKEN_OPERATOR });
	expect("1 registered a\n2 registered b\n900 403 NOT_PERMITTED\n"
	       "900 403 NOT_PERMITTED\n900 401 UNAUTHORIZED\n"
	       "900 404 AGENT_NOT_FOUND\n900 201 #1 sent\n1 open #1 1\n");
	struct event ev = request(OP_COMMAND_INTERRUPT, TOKEN_VIEWER, id_of(1));
	rig_input(&w.rig, &ev);
	ev = request(OP_AGENT_LIST, TOKEN_OPERATOR, SL(""));
	rig_input(&w.rig, &ev);
	ev = request(OP_AGENT_LIST, TOKEN_VIEWER, SL(""));
	rig_input(&w.rig, &ev);
	ev.request.filter.selector = SL("env!=prod");
	rig_input(&w.rig, &ev);
	ev.request.filter.selector = SL("a b");
	rig_input(&w.rig, &ev);
	expect("900 403 NOT_PERMITTED\n900 200 a busy\n900 200 a b\n"
	       "900 200 b online\n900 400 INVALID_REQUEST\n");
}

static void
test_picking(void **state)
{
	(void)state;
	arrive(1, "node-10", NATIVE);
	arrive(2, "node-11", NATIVE);
	expect("1 registered node-10\n2 registered node-11\n");
	ask(OP_AGENT_SHOW, SL("node-10"));
	ask(OP_AGENT_SHOW, SL("node-1"));
	ask(OP_AGENT_SHOW, SL("nod"));
	leave(2, 0);
	ask(OP_AGENT_REMOVE, SL("node-11"));
	ask(OP_AGENT_SHOW, SL("node-1"));
	expect("900 200 node-10 online\n900 409 AMBIGUOUS\n"
	       "900 404 AGENT_NOT_FOUND\n900 204\n900 200 node-10 online\n");
}

static void
test_pages(void **state)
{
	struct event ev = request(OP_AGENT_LIST, TOKEN_ROOT, SL(""));
	char id[16];

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		snprintf(id, sizeof(id), "p%u", i);
		arrive(i + 1, id, NATIVE);
	}
	forget();
	ev.request.limit = 2;
	rig_input(&w.rig, &ev);
	ev.request.cursor = SL("p1");
	rig_input(&w.rig, &ev);
	ev.request.cursor = SL("p3");
	rig_input(&w.rig, &ev);
	expect("900 200 p0 p1\n900 200 p2 p3\n900 200 p4 online\n");
}

/* Removal -------------------------------------------------------------------
 */

static void
test_removal(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	for (int i = 0; i < 3; i++)
		run("a", PLAIN);
	forget();
	/* What waited is cancelled, what runs is unknown; then it is gone. */
	ask(OP_AGENT_REMOVE, SL("a"));
	expect("1 done #3 cancelled AGENT_REMOVED\n"
	       "1 done #1 unknown UNKNOWN_OUTCOME\n"
	       "1 done #2 unknown UNKNOWN_OUTCOME\n"
	       "900 204\n1 close 1008 removed\n");
	assert_int_equal(stats().agents, 0);
	assert_int_equal(stats().commands_live, 0);
	/* The link is still there until its end is heard; words are not. */
	enrol(1, "a", NATIVE);
	exits(1, 1, 0);
	expect("");
	leave(1, 0);
	assert_int_equal(stats().links, 0);
}

/* Its end is not durable when the agent goes. */
static void
test_removal_while_ending(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	forget();
	w.store_err = RIG_HOLD;
	exits(1, 1, 0);
	ask(OP_AGENT_REMOVE, SL("a"));
	ask(OP_AGENT_SHOW, SL("a"));
	run("a", PLAIN);
	expect("900 404 AGENT_NOT_FOUND\n900 404 AGENT_NOT_FOUND\n");
	w.store_err = ERR_IO;
	w.fail_verb = OP_COMMAND_ENDED;
	rig_settle(&w.rig);
	expect("900 204\n1 close 1008 removed\n");
	assert_int_equal(stats().commands_live, 0);
	rig_advance(&w.rig, 10000);
	expect("");
}

static void
test_removal_fails(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	forget();
	w.store_err = ERR_IO;
	ask(OP_AGENT_REMOVE, SL("a"));
	w.store_err = 0;
	ask(OP_AGENT_SHOW, SL("a"));
	run("a", PLAIN);
	expect("900 503 STORE_FAILED\n900 200 a online\n"
	       "900 201 #1 sent\n1 open #1 1\n");
}

/* The store -----------------------------------------------------------------
 */

static void
test_created_but_not_stored(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	forget();
	w.store_err = ERR_IO;
	run("a", PLAIN);
	w.store_err = ERR_NO_SPACE;
	run("a", PLAIN);
	expect("900 503 STORE_FAILED\n900 507 NO_SPACE\n");
	assert_int_equal(stats().commands_live, 0);
	/* The numbers are used up, the places are not. */
	w.store_err = 0;
	run("a", PLAIN);
	run("a", PLAIN);
	expect("900 201 #1 sent\n1 open #1 3\n900 201 #2 sent\n1 open #2 4\n");
}

static void
test_sent_but_not_stored(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	leave(1, ERR_TIMEOUT);
	run("a", PLAIN);
	run("a", PLAIN);
	forget();
	w.store_err = ERR_BUSY;
	w.fail_verb = OP_COMMAND_SENT;
	arrive(2, "a", NATIVE);
	expect("2 registered a again\n");
	rig_advance(&w.rig, 999);
	expect("");
	/* Tried again, in their order, with numbers of their own. */
	w.store_err = 0;
	rig_advance(&w.rig, 1000);
	expect("2 open #1 3\n2 open #2 4\n");
}

static void
test_ended_but_not_stored(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	forget();
	w.store_err = ERR_BUSY;
	w.fail_verb = OP_COMMAND_ENDED;
	exits(1, 1, 0);
	exits(1, 1, 1);
	starts(1, 1);
	rig_advance(&w.rig, 2500);
	expect("");
	w.store_err = 0;
	rig_advance(&w.rig, 3000);
	expect("1 done #1 completed\n");
	assert_int_equal(stats().commands_live, 0);
	/* Lazy words beside the point do not matter. */
	assert_true(w.ops[OP_COMMAND_ENDED] >= 3);
}

/* The agent says that it is over, and not all output is on the disk. */
/* Its agent comes back while the end is being stored: what waits for the disk
 * is for the link of before, and it would keep the command for ever. */
static void
test_back_before_its_end_is_stored(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	starts(1, 1);
	forget();
	w.store_err = RIG_HOLD;
	exits(1, 1, 0);
	leave(1, ERR_TIMEOUT);
	arrive(2, "a",
	    (struct back){ .sequence = 1,
		.held = &(struct held_command){ id_of(1), HELD_EXITED },
		.count = 1 });
	expect("2 registered a again\n");
	w.store_err = 0;
	rig_settle(&w.rig);
	expect("1 done #1 completed\n2 done #1\n");
}

static void
test_ended_before_its_output(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	run("a", PLAIN);
	starts(1, 1);
	forget();
	w.store_err = ERR_RANGE;
	w.fail_verb = OP_COMMAND_ENDED;
	exits(1, 1, 0);
	rig_advance(&w.rig, 999);
	expect("");
	assert_int_equal(stats().commands_live, 1);
	/* It is asked for the rest; then it may end. */
	w.store_err = 0;
	rig_advance(&w.rig, 1000);
	expect("1 open #1 1 again\n");
	exits(1, 1, 0);
	expect("1 done #1 completed\n");
	assert_int_equal(stats().commands_live, 0);
}

/* The link breaks between the decision and the disk. */
static void
test_resume_waits_for_the_disk(void **state)
{
	(void)state;
	arrive(1, "a", NATIVE);
	forget();
	w.store_err = RIG_HOLD;
	w.fail_verb = OP_PUT_COMMAND;
	run("a", PLAIN);
	leave(1, ERR_RESET);
	arrive(2, "a", NATIVE);
	/* Same words: registered at once.  But no byte of the command. */
	expect("2 registered a again\n");
	w.store_err = 0;
	rig_settle(&w.rig);
	expect("900 201 #1 sent\n2 open #1 1\n");
}

static void
test_labels_undone(void **state)
{
	struct event ev;

	(void)state;
	arrive(1, "a", NATIVE);
	forget();
	w.store_err = ERR_IO;
	ev = request(OP_AGENT_LABEL, TOKEN_ROOT, SL("a"));
	ev.request.labels_json = SL("{\"env\":\"prod\"}");
	rig_input(&w.rig, &ev);
	w.store_err = 0;
	ev = request(OP_AGENT_LIST, TOKEN_ROOT, SL(""));
	ev.request.filter.selector = SL("env=prod");
	rig_input(&w.rig, &ev);
	expect("900 503 STORE_FAILED\n900 200\n");
	struct event label = request(OP_AGENT_LABEL, TOKEN_ROOT, SL("a"));
	label.request.labels_json = SL("{\"env\":\"prod\",\"x\":\"y\"}");
	rig_input(&w.rig, &label);
	rig_input(&w.rig, &ev);
	label.request.labels_json = SL("{\"env\":null}");
	rig_input(&w.rig, &label);
	rig_input(&w.rig, &ev);
	label.request.labels_json = SL("{\"env\":1}");
	rig_input(&w.rig, &label);
	expect("900 200 a online\n900 200 a online\n900 200 a online\n"
	       "900 200\n900 400 INVALID_REQUEST\n");
}

/* Joining, keys, tokens ------------------------------------------------------
 */

static struct event
join(uint8_t key, const char *name)
{
	struct event ev = request(OP_JOIN, TOKEN_AGENT, SL(""));

	ev.request.name = slice_from(name);
	memset(ev.request.public_key, key, KEY_LEN);
	return ev;
}

static struct slice
only_agent(void)
{
	struct event ev = request(OP_AGENT_LIST, TOKEN_ROOT, SL(""));

	forget();
	rig_input(&w.rig, &ev);
	struct slice rest = slice_from(w.log), id;
	assert_true(slice_starts(rest, SL("900 200 agt_")));
	rest = slice_from_at(rest, 8);
	assert_true(slice_split(&rest, ' ', &id));
	(void)short_id(id);
	forget();
	return id_of((int)w.id_count);
}

static void
knock_with_key(uint32_t peer, struct slice id, uint8_t key)
{
	struct event ev = rig_event(EVENT_HELLO, peer);

	ev.hello.native = true;
	ev.hello.credential = (struct credential){ .kind = CREDENTIAL_KEY,
		.agent_id = id,
		.address = SL("192.0.2.1"),
		.remote = SL("192.0.2.1:5") };
	memset(ev.hello.credential.public_key, key, KEY_LEN);
	rig_input(&w.rig, &ev);
}

static void
test_joining(void **state)
{
	struct event ev = join(1, "web\t1");
	char id[32];

	(void)state;
	rig_input(&w.rig, &ev);
	expect("900 400 INVALID_REQUEST\n");
	w.store_err = ERR_IO;
	ev = join(1, "web-1");
	rig_input(&w.rig, &ev);
	expect("900 503 STORE_FAILED\n");
	assert_int_equal(stats().agents, 0);
	w.store_err = 0;
	rig_input(&w.rig, &ev);
	rig_input(&w.rig, &ev);
	expect("900 201\n900 200\n");
	struct slice agent = only_agent();
	snprintf(id, sizeof(id), "%.*s", SLICE_FMT(agent));
	knock_with_key(1, agent, 2);
	expect("1 denied 403 UNKNOWN_KEY\n");
	/* A token cannot take an id that is bound to a key. */
	arrive(2, id, NATIVE);
	expect("2 error AGENT_ID_TAKEN\n");
	knock_with_key(1, agent, 1);
	enrol(1, "other", NATIVE);
	expect("1 error AGENT_ID_TAKEN\n");
	enrol(1, id, NATIVE);
	assert_non_null(strstr(w.log, "1 registered agt_"));
	forget();
	ask(OP_AGENT_REMOVE, agent);
	leave(1, 0);
	forget();
	knock_with_key(1, agent, 1);
	expect("1 denied 403 UNKNOWN_KEY\n");
}

static void
test_new_tokens(void **state)
{
	struct token_record t = { .name = SL("fresh"),
		.scopes = SCOPES_CLUSTER };
	struct event ev = request(OP_TOKEN_CREATE, TOKEN_ROOT, SL(""));

	(void)state;
	rig_hash(t.hash, 50);
	ev.request.token = &t;
	w.store_err = ERR_IO;
	rig_input(&w.rig, &ev);
	w.store_err = 0;
	let_in(1, 50);
	rig_input(&w.rig, &ev);
	let_in(1, 50);
	arrive(1, "a", NATIVE);
	expect("900 503 STORE_FAILED\n1 denied 401 UNAUTHORIZED\n900 201\n"
	       "1 denied 503 OVERLOADED\n1 registered a\n");
	/* The same text twice leaves the first alone. */
	rig_input(&w.rig, &ev);
	let_in(2, 50);
	expect("900 503 OVERLOADED\n");
	/* Names may be used instead of ids, while they are clear. */
	ask(OP_TOKEN_REVOKE, SL("fresh"));
	ask(OP_TOKEN_SHOW, SL("nothing"));
	expect("1 close 1008 revoked\n2 close 1008 revoked\n900 200\n"
	       "900 404 TOKEN_NOT_FOUND\n");
}

/* Without memory ------------------------------------------------------------
 */

static void
a_day(void *arg)
{
	const struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.concurrency = 1 };
	struct held_command held = { SL("cmd_x"), HELD_EXITED };

	(void)arg;
	memset(&w, 0, sizeof(w));
	w.fail_verb = -1;
	rig_init(&w.rig, &config);
	if (w.rig.hub == NULL)
		return;
	w.rig.perform = perform;
	w.rig.store = store;
	if (hub_load(w.rig.hub, &(struct hub_snapshot){ 0 }, 0) == 0) {
		struct user_record user = { .id = SL("usr_root"),
			.role = ROLE_ADMIN,
			.workspace_id = 1 };
		struct token_record tokens[3] = {
			{ .id = SL("tok_a"), .scopes = SCOPES_CLUSTER },
			{ .id = SL("tok_b"), .scopes = SCOPES_CLUSTER },
			{ .id = SL("tok_r"),
			    .scopes = SCOPES_ALL,
			    .user_id = SL("usr_root") },
		};
		const struct hub_snapshot snapshot = { .users = &user,
			.user_count = 1,
			.tokens = tokens,
			.token_count = 3 };
		for (uint32_t i = 0; i < 3; i++) {
			tokens[i].workspace_id = 1;
			rig_hash(tokens[i].hash, i + 1);
		}
		if (hub_load(w.rig.hub, &snapshot, 0) != 0) {
			rig_fini(&w.rig);
			return;
		}
	}
	arrive(1, "a", NATIVE);
	run("a", (struct wish){ .key = "k" });
	run("a", PLAIN);
	run("a", (struct wish){ .foreground = true });
	leave(1, ERR_TIMEOUT);
	arrive(2, "a", (struct back){ .held = &held, .count = 1 });
	for (int i = 1; i <= (int)w.id_count && i < 4; i++) {
		about(EVENT_STREAM_LOST, 2, i, (struct outcome){ 0 });
		exits(2, i, 0);
	}
	struct event ev = join(3, "j");
	rig_input(&w.rig, &ev);
	struct token_record t = { .name = SL("n"), .scopes = SCOPES_CLUSTER };
	ev = request(OP_TOKEN_ROTATE, TOKEN_ROOT, SL("tok_b"));
	rig_hash(t.hash, 60);
	ev.request.token = &t;
	rig_input(&w.rig, &ev);
	ev = request(OP_AGENT_LABEL, TOKEN_ROOT, SL("a"));
	ev.request.labels_json = SL("{\"x\":\"y\"}");
	rig_input(&w.rig, &ev);
	ev = request(OP_AGENT_LIST, TOKEN_ROOT, SL(""));
	ev.request.filter.text = SL("a");
	rig_input(&w.rig, &ev);
	rig_advance(&w.rig, 200000);
	ask(OP_AGENT_REMOVE, SL("a"));
	rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	a_day(NULL);
	assert_non_null(strstr(w.log, "2 done #3 completed"));
	assert_non_null(strstr(w.log, "900 204"));
	oom_torture(a_day, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dispatch_order),
		TEST(test_numbers_go_out_in_order),
		TEST(test_foreground),
		TEST(test_foreign_agents_are_not_commanded),
		TEST(test_outcomes),
		TEST(test_resume),
		TEST(test_numbers_never_go_back),
		TEST(test_restart),
		TEST(test_restored_queue),
		TEST(test_stream_lost),
		TEST(test_native_no_more),
		TEST(test_deadline),
		TEST(test_cancel_and_interrupt),
		TEST(test_attach),
		TEST(test_attached_revoked),
		TEST(test_idempotency),
		TEST(test_rights),
		TEST(test_picking),
		TEST(test_pages),
		TEST(test_removal),
		TEST(test_removal_while_ending),
		TEST(test_removal_fails),
		TEST(test_created_but_not_stored),
		TEST(test_sent_but_not_stored),
		TEST(test_ended_but_not_stored),
		TEST(test_back_before_its_end_is_stored),
		TEST(test_ended_before_its_output),
		TEST(test_resume_waits_for_the_disk),
		TEST(test_labels_undone),
		TEST(test_joining),
		TEST(test_new_tokens),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
