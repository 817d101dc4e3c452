/*
 * The emergency stop in the hub.  What it does is written down in short
 * lines: "1 stop 5 all" is an order at peer 1 to stop by epoch 5, "1 work 6
 * all" one to go on; "900 200 5 all w1 c2" answers an operator that stop 5
 * has one agent waiting and two confirmed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#include "model/command.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { OP = 900 };
enum { TOKEN_AGENT = 1, TOKEN_ROOT, TOKEN_VIEWER, TOKEN_OPERATOR, TOKENS };

static struct world {
	struct rig rig;
	char log[1 << 16];
	size_t len;
	char command[64]; /* the last that was created */
	int store_err;
	size_t ops[OP_VERBS];
	size_t effects;         /* performed */
	size_t order_at;        /* place of the last order among them */
	size_t file_at;         /* and of the last writing of the file */
	struct stop_state file; /* as it was told; stops are not kept */
	size_t stands;          /* in that */
	char last_name[64];     /* of the last piece of news about a stop */
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
note_counts(const struct stop_view *v)
{
	static const char letters[] = "wcaux";

	for (int k = 0; k < RECEIPT_KINDS; k++) {
		if (v->counts[k] > 0)
			note(" %c%u", letters[k], v->counts[k]);
	}
	if (v->left > 0)
		note(" left%u", v->left);
}

static void
note_reply(uint32_t peer, const struct reply *r)
{
	note("%u %u", peer, r->status);
	if (r->err != 0)
		note(" %.*s", SLICE_FMT(r->code));
	for (size_t i = 0; i < r->stop_count; i++) {
		const struct stop_view *v = &r->stops[i];
		note(" %u %.*s%s%.*s%s", (unsigned)v->record->epoch,
		    SLICE_FMT(stop_scope_name(v->record->scope)),
		    v->record->target.len > 0 ? ":" : "",
		    SLICE_FMT(v->record->target), r->again ? " again" : "");
		if (v->record->bound.len > 0)
			note(" in %.*s", SLICE_FMT(v->record->bound));
		if (v->record->lifted_epoch != 0)
			note(" lifted %u", (unsigned)v->record->lifted_epoch);
		note_counts(v);
	}
	for (size_t i = 0; i < r->receipt_count; i++)
		note(" %.*s=%.*s", SLICE_FMT(r->receipts[i].agent_id),
		    SLICE_FMT(receipt_kind_name(r->receipts[i].kind)));
	if (r->command != NULL) {
		note(" %.*s", SLICE_FMT(command_state_name(r->command->state)));
		assert_int_equal(
		    slice_cstr(r->command->id, w.command, sizeof(w.command)),
		    0);
	}
	if (r->agent_count == 1)
		note(" %.*s %.*s",
		    SLICE_FMT(presence_name(r->agents[0].presence)),
		    SLICE_FMT(r->agents[0].why));
	note("\n");
}

static void
note_order(uint32_t peer, const struct stop_order *o)
{
	note("%u %s %u %.*s\n", peer, o->stopped ? "stop" : "work",
	    (unsigned)o->epoch, SLICE_FMT(o->scope));
}

static void
note_send(uint32_t peer, const struct event *ev)
{
	if (ev->kind == EVENT_REPLY)
		note_reply(peer, ev->reply);
	if (ev->kind == EVENT_STOP_ORDER) {
		w.order_at = w.effects;
		note_order(peer, &ev->stop);
	}
	if (ev->kind == EVENT_REGISTERED && ev->registered.stop != NULL &&
	    ev->registered.stop_epoch > 0)
		note("%u registered %s %u %.*s\n", peer,
		    ev->registered.stop->stopped ? "stopped" : "working",
		    (unsigned)ev->registered.stop->epoch,
		    SLICE_FMT(ev->registered.stop->scope));
	if (ev->kind == EVENT_EXECUTE)
		note("%u execute\n", peer);
	if (ev->kind == EVENT_INTERRUPT)
		note("%u interrupt\n", peer);
	if (ev->kind == EVENT_POLL_REPLY)
		note("%u offered %zu epoch %u\n", peer, ev->poll.count,
		    (unsigned)ev->poll.stop_epoch);
	if (ev->kind == EVENT_ERROR)
		note("%u error %.*s\n", peer, SLICE_FMT(ev->complaint.code));
}

static void
note_stream(uint32_t peer, const struct stream_order *o)
{
	static const char *const verbs[] = { "open", "signal", "done" };

	if (o->verb > STREAM_DONE)
		return;
	note("%u %s", peer, verbs[o->verb]);
	if (o->verb == STREAM_DONE && o->command != NULL)
		note(" %.*s %.*s",
		    SLICE_FMT(command_state_name(o->command->state)),
		    SLICE_FMT(o->command->code));
	note("\n");
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	w.effects++;
	if (e->kind == EFFECT_SEND)
		note_send(e->peer.slot, e->event);
	if (e->kind == EFFECT_STREAM)
		note_stream(e->peer.slot, &e->stream);
	if (e->kind == EFFECT_CLOSE)
		note("%u close %.*s\n", e->peer.slot,
		    SLICE_FMT(e->close.reason));
	if (e->kind == EFFECT_STOP) {
		w.file_at = w.effects;
		w.file.epoch = e->stop_state->epoch;
		w.stands = e->stop_state->count;
	}
	if (e->kind == EFFECT_PUBLISH && e->event->notice.stop != NULL)
		assert_int_equal(slice_cstr(e->event->notice.name, w.last_name,
				     sizeof(w.last_name)),
		    0);
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	w.ops[op->verb]++;
	return w.store_err;
}

#define expect(text) expect_(text, __LINE__)
static void
expect_(const char *text, int line)
{
	if (strcmp(w.log, text) != 0)
		fail_msg("line %d: wanted\n%s\ngot\n%s", line, text, w.log);
	w.len = 0;
	w.log[0] = '\0';
}

/* The world ---------------------------------------------------------------- */

static const struct user_record users[] = {
	{ .id = SL_INIT("usr_root"), .role = ROLE_ADMIN, .workspace_id = 1 },
	{ .id = SL_INIT("usr_view"), .role = ROLE_VIEWER, .workspace_id = 1 },
	{ .id = SL_INIT("usr_op"),
	    .role = ROLE_OPERATOR,
	    .selector = SL_INIT("env=prod"),
	    .workspace_id = 1 },
};

static int
load(struct hub_snapshot *s)
{
	static const char *const of[TOKENS] = { NULL, NULL, "usr_root",
		"usr_view", "usr_op" };
	struct token_record tokens[TOKENS - 1] = { 0 };

	for (uint32_t i = 1; i < TOKENS; i++) {
		struct token_record *t = &tokens[i - 1];
		t->id = t->name =
		    i == TOKEN_AGENT ? SL("tok_a") : slice_from(of[i]);
		t->workspace_id = 1;
		t->scopes = i == TOKEN_AGENT ? SCOPES_CLUSTER : SCOPES_ALL;
		if (of[i] != NULL)
			t->user_id = slice_from(of[i]);
		rig_hash(t->hash, i);
	}
	s->users = users;
	s->user_count = 3;
	s->tokens = tokens;
	s->token_count = TOKENS - 1;
	return hub_load(w.rig.hub, s, 0);
}

static void
begin_with(struct hub_snapshot *s)
{
	const struct hub_config config = { .seed = { 7, 8, 9, 10 },
		.incarnation = SL("db-1"),
		.concurrency = 2,
		.max_agents = 50,
		.queue_limit = 5000 };

	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, &config);
	if (w.rig.hub == NULL)
		return;
	w.rig.perform = perform;
	w.rig.store = store;
	if (load(s) != 0) {
		rig_fini(&w.rig);
		w.rig.hub = NULL;
	}
}

static int
begin(void **state)
{
	struct hub_snapshot s = { 0 };

	(void)state;
	begin_with(&s);
	assert_non_null(w.rig.hub);
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

enum how { NATIVE, FOREIGN, CONSOLE };

static void
come(uint32_t peer, const char *id, enum how how, struct stop_order shown)
{
	struct event ev = rig_hello(peer, TOKEN_AGENT, "192.0.2.1",
	    how == CONSOLE ? ENTRANCE_CONSOLE : ENTRANCE_CLUSTER_LINK);

	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, peer);
	ev.registration.agent_id = slice_from(id);
	ev.registration.name = slice_from(id);
	ev.registration.console = how == CONSOLE;
	if (how == NATIVE)
		ev.registration.native = (struct native_hello){ .present = true,
			.proto = 1,
			.min = 1,
			.has_yamux = true,
			.has_exec = true,
			.sequence = 0,
			.stop = shown };
	rig_input(&w.rig, &ev);
}

static void
arrive(uint32_t peer, const char *id)
{
	come(peer, id, NATIVE, (struct stop_order){ 0 });
}

static void
leave(uint32_t peer)
{
	struct event ev = rig_event(EVENT_GONE, peer);

	ev.gone.why = ERR_TIMEOUT;
	rig_input(&w.rig, &ev);
}

static struct event
request(enum request_op op, uint32_t token)
{
	struct event ev = rig_event(EVENT_REQUEST, OP);
	struct event hello =
	    rig_hello(OP, token, "192.0.2.9", ENTRANCE_CLUSTER_HTTP);

	ev.request.op = op;
	ev.request.credential = hello.hello.credential;
	return ev;
}

static struct event
wish(enum request_op op, uint32_t token, enum stop_scope scope,
    const char *target)
{
	struct event ev = request(op, token);

	ev.request.scope = scope;
	ev.request.target = slice_from(target);
	ev.request.reason = SL("runaway \"job\"");
	return ev;
}

static void
stop(uint32_t token, enum stop_scope scope, const char *target)
{
	struct event ev = wish(OP_STOP_RAISE, token, scope, target);

	rig_input(&w.rig, &ev);
}

static void
resume(uint32_t token, enum stop_scope scope, const char *target)
{
	struct event ev = wish(OP_STOP_LIFT, token, scope, target);

	rig_input(&w.rig, &ev);
}

static void
show(const char *epoch, uint32_t limit, const char *cursor)
{
	struct event ev = request(OP_STOP_SHOW, TOKEN_ROOT);

	ev.request.id = slice_from(epoch);
	ev.request.limit = limit;
	ev.request.cursor = slice_from(cursor);
	rig_input(&w.rig, &ev);
}

static void
list(uint32_t token)
{
	struct event ev = request(OP_STOP_LIST, token);

	rig_input(&w.rig, &ev);
}

static void
agent(const char *id)
{
	struct event ev = request(OP_AGENT_SHOW, TOKEN_ROOT);

	ev.request.id = slice_from(id);
	rig_input(&w.rig, &ev);
}

static void
label_by(uint32_t token, const char *id, const char *json)
{
	struct event ev = request(OP_AGENT_LABEL, token);

	ev.request.id = slice_from(id);
	ev.request.labels_json = slice_from(json);
	rig_input(&w.rig, &ev);
}

static void
label(const char *id, const char *json)
{
	label_by(TOKEN_ROOT, id, json);
}

static void
run(const char *id)
{
	const struct command_record r = { .argv_json = SL("[\"true\"]"),
		.priority = 1 };
	struct event ev = request(OP_COMMAND_CREATE, TOKEN_ROOT);

	ev.request.id = slice_from(id);
	ev.request.command = &r;
	rig_input(&w.rig, &ev);
}

static void
outcome(enum event_kind kind, uint32_t peer, struct outcome o)
{
	struct event ev = rig_event(kind, peer);

	ev.outcome = o;
	ev.outcome.command_id = slice_from(w.command);
	rig_input(&w.rig, &ev);
}

static void
report(uint32_t peer, struct stop_report said)
{
	struct event ev = rig_event(EVENT_STOP_REPORT, peer);

	ev.report = said;
	rig_input(&w.rig, &ev);
}

static void
local_stop(uint32_t peer, bool stopped)
{
	struct event ev = rig_event(EVENT_LOCAL_STOP, peer);

	ev.stop = (struct stop_order){ .stopped = stopped, .local = true };
	rig_input(&w.rig, &ev);
}

static struct hub_stats
stats(void)
{
	struct hub_stats s;

	hub_stats_get(w.rig.hub, &s);
	return s;
}

/* Raised and lifted -------------------------------------------------------- */

static void
test_whole_life(void **state)
{
	(void)state;
	arrive(1, "a");
	arrive(2, "b");
	run("a");
	outcome(EVENT_COMMAND_STARTED, 1, (struct outcome){ 0 });
	expect("900 201 sent\n1 open\n");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 1 all\n2 stop 1 all\n900 200 1 all w2\n");
	/* Orders first: they do not wait for a disk. */
	assert_true(w.order_at < w.file_at);
	assert_int_equal(w.file.epoch, 1);
	assert_int_equal(w.stands, 1);
	assert_int_equal(w.ops[OP_PUT_STOP], 1);
	assert_string_equal(w.last_name, "stop.raised");
	agent("a");
	run("b");
	expect("900 200 stopped emergency_stop\n900 409 AGENT_STOPPED\n");
	/* The command ends, and the agent says so of itself. */
	outcome(EVENT_COMMAND_EXIT, 1,
	    (struct outcome){ .signal = 9, .stopped = true });
	report(1,
	    (struct stop_report){ .epoch = 1,
		.stopped = true,
		.commands = 1,
		.killed = 3,
		.detail_json = SL("[{\"command_id\":\"x\"}]") });
	expect("1 done interrupted AGENT_STOPPED\n");
	show("1", 0, NULL);
	expect("900 200 1 all w1 c1 a=confirmed b=waiting\n");
	report(
	    2, (struct stop_report){ .epoch = 1, .stopped = true, .left = 2 });
	show("1", 0, NULL);
	expect("900 200 1 all c2 left1 a=confirmed b=confirmed\n");
	report(2, (struct stop_report){ .epoch = 1, .stopped = true });
	assert_int_equal(w.ops[OP_PUT_RECEIPT], 3);
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 work 2 all\n2 work 2 all\n900 200 1 all lifted 2 c2\n");
	assert_int_equal(w.stands, 0);
	assert_string_equal(w.last_name, "stop.lifted");
	agent("b");
	run("b");
	/* It begins nothing before it has written down that it may. */
	expect("900 200 online resumed\n900 201 sent\n");
	report(2, (struct stop_report){ .epoch = 2 });
	expect("2 open\n");
	assert_int_equal(stats().stop_epoch, 2);
	assert_int_equal(stats().stops_standing, 0);
}

static void
test_queue_is_emptied(void **state)
{
	(void)state;
	run("nobody");
	arrive(1, "a");
	for (int i = 0; i < 4; i++)
		run("a");
	expect("900 404 AGENT_NOT_FOUND\n900 201 sent\n1 open\n"
	       "900 201 sent\n1 open\n900 201 queued\n900 201 queued\n");
	stop(TOKEN_ROOT, STOP_AGENT, "a");
	rig_advance(&w.rig, w.rig.now);
	/* In the same instant; what was given to the agent is its to end. */
	expect("1 stop 1 agent:a\n900 200 1 agent:a w1\n"
	       "1 done cancelled AGENT_STOPPED\n"
	       "1 done cancelled AGENT_STOPPED\n");
	assert_int_equal(stats().commands_live, 2);
	resume(TOKEN_ROOT, STOP_AGENT, "a");
	expect("1 work 2 agent:a\n900 200 1 agent:a lifted 2 w1\n");
}

/* `sent` is on its way to the disk, and nothing on its way to the agent. */
static void
test_sent_but_not_opened(void **state)
{
	(void)state;
	arrive(1, "a");
	w.store_err = RIG_HOLD;
	run("a");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	rig_advance(&w.rig, w.rig.now);
	expect("1 stop 1 all\n900 200 1 all w1\n");
	w.store_err = 0;
	rig_settle(&w.rig);
	expect("900 201 sent\n1 done cancelled AGENT_STOPPED\n");
}

static void
test_thousands_queued(void **state)
{
	(void)state;
	arrive(1, "a");
	for (int i = 0; i < 3002; i++) {
		run("a");
		w.len = 0;
		/* A user may ask 600 times a minute. */
		if (i % 500 == 499)
			rig_advance(&w.rig, w.rig.now + 60001);
	}
	struct event ev = wish(OP_STOP_RAISE, TOKEN_ROOT, STOP_ALL, NULL);
	rig_input(&w.rig, &ev);
	/* A turn's share, and the rest in those that follow at once. */
	size_t before = w.ops[OP_COMMAND_ENDED];
	rig_open(&w.rig);
	hub_expire(w.rig.hub, w.rig.now, w.rig.wall, rig_outbox(&w.rig));
	rig_close(&w.rig);
	assert_int_equal(w.ops[OP_COMMAND_ENDED] - before, 1999);
	assert_true(hub_deadline(w.rig.hub) <= w.rig.now);
	w.len = 0;
	rig_advance(&w.rig, w.rig.now);
	assert_int_equal(w.ops[OP_COMMAND_ENDED] - before, 3000);
	assert_int_equal(stats().commands_live, 2);
	w.len = 0;
}

/* Several at once ---------------------------------------------------------- */

static void
test_several_stand(void **state)
{
	(void)state;
	arrive(1, "a");
	arrive(2, "b");
	label("a", "{\"env\":\"prod\"}");
	expect("900 200 online registered\n");
	stop(TOKEN_ROOT, STOP_AGENT, "a");
	stop(TOKEN_ROOT, STOP_SELECTOR, "env=prod");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 1 agent:a\n900 200 1 agent:a w1\n"
	       "1 stop 2 selector:env=prod\n900 200 2 selector:env=prod w1\n"
	       "1 stop 3 all\n2 stop 3 all\n900 200 3 all w2\n");
	/* One word covers all that are not younger. */
	report(1, (struct stop_report){ .epoch = 3, .stopped = true });
	list(TOKEN_ROOT);
	expect("900 200 3 all w1 c1 2 selector:env=prod c1 1 agent:a c1\n");
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("2 work 4 all\n900 200 3 all lifted 4 w1 c1\n");
	run("a");
	resume(TOKEN_ROOT, STOP_AGENT, "a");
	run("a");
	resume(TOKEN_ROOT, STOP_SELECTOR, "env=prod");
	run("a");
	expect("900 409 AGENT_STOPPED\n900 200 1 agent:a lifted 5 c1\n"
	       "900 409 AGENT_STOPPED\n1 work 6 selector:env=prod\n"
	       "900 200 2 selector:env=prod lifted 6 c1\n"
	       "900 201 sent\n");
	report(1, (struct stop_report){ .epoch = 6 });
	expect("1 open\n");
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("900 404 STOP_NOT_FOUND\n");
}

static void
test_again(void **state)
{
	struct event ev = wish(OP_STOP_RAISE, TOKEN_ROOT, STOP_ALL, NULL);

	(void)state;
	arrive(1, "a");
	ev.request.request_key = SL("k");
	rig_input(&w.rig, &ev);
	report(1, (struct stop_report){ .epoch = 1, .stopped = true });
	rig_input(&w.rig, &ev);
	expect("1 stop 1 all\n900 200 1 all w1\n900 200 1 all again c1\n");
	/* Without the key it is meant: everybody is told again. */
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 2 all\n900 200 1 all w1\n");
	/* An answer to the first order is none to the second. */
	report(1, (struct stop_report){ .epoch = 1, .stopped = true });
	list(TOKEN_ROOT);
	report(1, (struct stop_report){ .epoch = 2, .stopped = true });
	list(TOKEN_ROOT);
	expect("900 200 1 all w1\n900 200 1 all c1\n");
	/* By its number. */
	ev = request(OP_STOP_LIFT, TOKEN_ROOT);
	ev.request.epoch = 1;
	rig_input(&w.rig, &ev);
	rig_input(&w.rig, &ev);
	ev.request.epoch = 2;
	rig_input(&w.rig, &ev);
	expect("1 work 3 all\n900 200 1 all lifted 3 c1\n"
	       "900 200 1 all again lifted 3 c1\n900 404 STOP_NOT_FOUND\n");
}

/* Rights ------------------------------------------------------------------- */

static void
test_rights(void **state)
{
	(void)state;
	arrive(1, "a");
	arrive(2, "b");
	label("a", "{\"env\":\"prod\"}");
	expect("900 200 online registered\n");
	stop(TOKEN_VIEWER, STOP_ALL, NULL);
	stop(TOKEN_OPERATOR, STOP_AGENT, "b");
	stop(TOKEN_OPERATOR, STOP_SELECTOR, "!env");
	expect("900 403 NOT_PERMITTED\n900 404 AGENT_NOT_FOUND\n"
	       "900 200 1 selector:!env in env=prod\n");
	/* All is all that they see. */
	stop(TOKEN_OPERATOR, STOP_ALL, NULL);
	expect("1 stop 2 selector:env=prod\n"
	       "900 200 2 selector in env=prod w1\n");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 3 all\n2 stop 3 all\n900 200 3 all w2\n");
	list(TOKEN_OPERATOR);
	expect("900 200 3 all w1 2 selector in env=prod w1 "
	       "1 selector:!env in env=prod\n");
	struct event ev = request(OP_STOP_LIFT, TOKEN_OPERATOR);
	ev.request.epoch = 3;
	rig_input(&w.rig, &ev);
	resume(TOKEN_VIEWER, STOP_ALL, NULL);
	expect("900 403 NOT_PERMITTED\n900 403 NOT_PERMITTED\n");
	resume(TOKEN_OPERATOR, STOP_ALL, NULL);
	expect("900 200 2 selector in env=prod lifted 4 w1\n");
	stop(TOKEN_ROOT, STOP_SELECTOR, "env");
	ev.request.epoch = 5;
	rig_input(&w.rig, &ev);
	expect("1 stop 5 selector:env\n900 200 5 selector:env w1\n"
	       "900 403 NOT_PERMITTED\n");
	stop(TOKEN_ROOT, STOP_SELECTOR, "");
	stop(TOKEN_ROOT, STOP_SELECTOR, "a=b=,");
	expect("900 400 INVALID_REQUEST\n900 400 INVALID_REQUEST\n");
}

static void
test_dry_run(void **state)
{
	struct event ev = wish(OP_STOP_RAISE, TOKEN_ROOT, STOP_ALL, NULL);

	(void)state;
	arrive(1, "a");
	come(2, "b", FOREIGN, (struct stop_order){ 0 });
	arrive(3, "c");
	leave(3);
	ev.request.dry_run = true;
	rig_input(&w.rig, &ev);
	expect("900 200 0 all w1 u1 x1 a=waiting b=unable c=unreachable\n");
	assert_int_equal(stats().stop_epoch, 0);
}

/* The disk ----------------------------------------------------------------- */

static void
test_disk_is_waited_for(void **state)
{
	(void)state;
	arrive(1, "a");
	w.rig.stop_err = RIG_HOLD;
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 1 all\n");
	run("a");
	expect("900 409 AGENT_STOPPED\n");
	w.rig.stop_err = 0;
	rig_settle(&w.rig);
	expect("900 200 1 all w1\n");
	/* It says nothing at all: so does the answer. */
	w.rig.stop_err = RIG_HOLD;
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	rig_advance(&w.rig, w.rig.now + 4999);
	expect("1 work 2 all\n");
	rig_advance(&w.rig, w.rig.now + 1);
	expect("900 503 STOP_NOT_DURABLE\n");
}

static void
test_disk_fails(void **state)
{
	(void)state;
	arrive(1, "a");
	w.rig.stop_err = ERR_NO_SPACE;
	w.store_err = ERR_NO_SPACE;
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	run("a");
	expect("1 stop 1 all\n900 507 STOP_NOT_DURABLE\n"
	       "900 409 AGENT_STOPPED\n");
	/* File and row are tried again until they are there. */
	rig_advance(&w.rig, w.rig.now + 3000);
	assert_true(w.ops[OP_PUT_STOP] >= 3);
	assert_int_equal(w.rig.stop_file, 0);
	w.rig.stop_err = 0;
	w.store_err = 0;
	rig_advance(&w.rig, w.rig.now + 1000);
	assert_int_equal(w.rig.stop_file, 1);
	size_t rows = w.ops[OP_PUT_STOP];
	rig_advance(&w.rig, w.rig.now + 5000);
	assert_int_equal(w.ops[OP_PUT_STOP], rows);
	expect("");
}

/* Agents of every kind ----------------------------------------------------- */

static void
test_away_and_back(void **state)
{
	(void)state;
	arrive(1, "a");
	run("a");
	outcome(EVENT_COMMAND_STARTED, 1, (struct outcome){ 0 });
	leave(1);
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	expect("900 201 sent\n1 open\n900 200 1 all x1\n");
	/* It learns of it before a stream is opened for what it has. */
	const struct held_command held = { slice_from(w.command),
		HELD_RUNNING };
	struct event ev =
	    rig_hello(2, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, 2);
	ev.registration.agent_id = ev.registration.name = SL("a");
	ev.registration.native = (struct native_hello){ .present = true,
		.has_yamux = true,
		.has_exec = true,
		.sequence = 1,
		.held = &held,
		.held_count = 1 };
	rig_input(&w.rig, &ev);
	expect("2 registered stopped 1 all\n2 open\n");
	/* It never began there. */
	outcome(EVENT_COMMAND_REFUSED, 2,
	    (struct outcome){ .code = SL("AGENT_STOPPED") });
	expect("2 done cancelled AGENT_STOPPED\n");
	agent("a");
	list(TOKEN_ROOT);
	expect("900 200 stopped emergency_stop\n900 200 1 all w1\n");
	report(2, (struct stop_report){ .epoch = 1, .stopped = true });
	leave(2);
	list(TOKEN_ROOT);
	expect("900 200 1 all c1\n");
	/* One that is new is covered, too. */
	arrive(3, "n");
	run("n");
	expect("3 stop 1 all\n3 registered stopped 1 all\n900 409 "
	       "AGENT_STOPPED\n");
	/* Lifted while it was away. */
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	come(
	    4, "a", NATIVE, (struct stop_order){ .epoch = 1, .stopped = true });
	expect("3 work 2 all\n900 200 1 all lifted 2 w1 c1\n"
	       "4 registered working 2 all\n");
}

static void
test_foreign(void **state)
{
	(void)state;
	come(1, "plain", FOREIGN, (struct stop_order){ 0 });
	come(2, "busy", CONSOLE, (struct stop_order){ 0 });
	come(3, "idle", CONSOLE, (struct stop_order){ 0 });
	run("busy");
	expect("900 201 sent\n2 execute\n");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	rig_advance(&w.rig, w.rig.now);
	expect("2 stop 1 all\n3 stop 1 all\n900 200 1 all w1 u2\n"
	       "2 interrupt\n");
	outcome(EVENT_AGENT_ENDED, 2,
	    (struct outcome){ .interrupted = true, .exit_code = 130 });
	show("1", 0, NULL);
	expect("2 done interrupted AGENT_STOPPED\n900 200 1 all a1 u2 "
	       "busy=acknowledged "
	       "idle=unable plain=unable\n");
	/* One that says so without being busy. */
	report(3, (struct stop_report){ 0 });
	list(TOKEN_ROOT);
	expect("900 200 1 all a2 u1\n");
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("2 work 2 all\n3 work 2 all\n900 200 1 all lifted 2 a2 u1\n");
}

/* The order to run it was still here when the stop went past it. */
static void
test_overtaken(void **state)
{
	(void)state;
	come(2, "busy", CONSOLE, (struct stop_order){ 0 });
	run("busy");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	rig_advance(&w.rig, w.rig.now);
	expect("900 201 sent\n2 execute\n2 stop 1 all\n900 200 1 all w1\n"
	       "2 interrupt\n");
	outcome(EVENT_COMMAND_REFUSED, 2,
	    (struct outcome){ .code = SL("AGENT_STOPPED") });
	/* It ran nowhere, and the agent has said nothing. */
	show("1", 0, NULL);
	expect("2 done cancelled AGENT_STOPPED\n900 200 1 all u1 "
	       "busy=unable\n");
}

static void
test_by_http(void **state)
{
	struct event ev =
	    rig_hello(1, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_HTTP);

	(void)state;
	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, 1);
	ev.registration.agent_id = ev.registration.name = SL("h");
	rig_input(&w.rig, &ev);
	run("h");
	run("h");
	stop(TOKEN_ROOT, STOP_AGENT, "h");
	rig_advance(&w.rig, w.rig.now);
	run("h");
	expect("900 201 queued\n900 201 queued\n900 200 1 agent:h u1\n"
	       "0 done cancelled AGENT_STOPPED\n"
	       "0 done cancelled AGENT_STOPPED\n900 409 AGENT_STOPPED\n");
	agent("h");
	expect("900 200 stopped emergency_stop\n");
}

static void
test_local_stop(void **state)
{
	(void)state;
	arrive(1, "a");
	local_stop(1, true);
	run("a");
	agent("a");
	list(TOKEN_ROOT);
	expect("900 409 AGENT_STOPPED\n900 200 stopped local_stop\n900 200\n");
	/* No resume of ours lifts it; both may hold. */
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	agent("a");
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	agent("a");
	expect("1 stop 1 all\n900 200 1 all w1\n900 200 stopped "
	       "emergency_stop\n1 work 2 all\n900 200 1 all lifted 2 w1\n"
	       "900 200 stopped local_stop\n");
	report(1, (struct stop_report){ .epoch = 2, .local = true });
	local_stop(1, false);
	run("a");
	expect("900 201 sent\n1 open\n");
	come(2, "b", NATIVE, (struct stop_order){ .local = true });
	agent("b");
	expect("2 registered working 2 \n900 200 stopped local_stop\n");
}

/* Labels ------------------------------------------------------------------- */

static void
test_labels(void **state)
{
	(void)state;
	arrive(1, "a");
	stop(TOKEN_ROOT, STOP_SELECTOR, "env=prod");
	expect("900 200 1 selector:env=prod\n");
	label("a", "{\"env\":\"prod\"}");
	expect("1 stop 2 selector:env=prod\n900 200 stopped "
	       "emergency_stop\n");
	list(TOKEN_ROOT);
	label("a", "{\"env\":null}");
	expect("900 200 1 selector:env=prod w1\n1 work 3 \n"
	       "900 200 online relabelled\n");
	/* What it says of itself moves it neither in nor out. */
	leave(1);
	struct event ev =
	    rig_hello(2, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CLUSTER_LINK);
	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, 2);
	ev.registration.agent_id = ev.registration.name = SL("a");
	ev.registration.labels_json = SL("{\"env\":\"prod\"}");
	rig_input(&w.rig, &ev);
	agent("a");
	expect("900 200 online registered\n");
	/* Labels that the store did not take are taken back. */
	w.store_err = ERR_IO;
	label("a", "{\"env\":\"prod\"}");
	w.store_err = 0;
	agent("a");
	expect("900 503 STORE_FAILED\n900 200 online relabelled\n");
}

static void
say_labels(uint32_t peer, const char *id, const char *json)
{
	struct event ev =
	    rig_hello(peer, TOKEN_AGENT, "192.0.2.1", ENTRANCE_CONSOLE);

	rig_input(&w.rig, &ev);
	ev = rig_event(EVENT_REGISTER, peer);
	ev.registration.agent_id = ev.registration.name = slice_from(id);
	ev.registration.labels_json = slice_from(json);
	ev.registration.console = true;
	rig_input(&w.rig, &ev);
}

/* The bound of a limited user's stop: an agent's own words bring it in, where
 * that user sees it, and never out. */
static void
test_own_words_do_not_free(void **state)
{
	(void)state;
	say_labels(1, "a", "{\"env\":\"prod\"}");
	stop(TOKEN_OPERATOR, STOP_ALL, NULL);
	expect("1 stop 1 selector:env=prod\n"
	       "900 200 1 selector in env=prod u1\n");
	leave(1);
	say_labels(2, "a", "{\"env\":\"test\"}");
	agent("a");
	expect("2 stop 1 selector:env=prod\n900 200 stopped "
	       "emergency_stop\n");
	/* Operators speak of something else, and then of that. */
	label("a", "{\"team\":\"x\"}");
	expect("900 200 stopped emergency_stop\n");
	label("a", "{\"env\":\"test\"}");
	expect("2 work 2 \n900 200 online relabelled\n");
}

/* Who might not lift a stop does not lift it by a label. */
static void
test_labels_are_no_resume(void **state)
{
	(void)state;
	arrive(1, "a");
	label("a", "{\"env\":\"prod\",\"team\":\"a\"}");
	stop(TOKEN_ROOT, STOP_SELECTOR, "team=a");
	resume(TOKEN_OPERATOR, STOP_SELECTOR, "team=a");
	expect("900 200 online registered\n1 stop 1 selector:team=a\n"
	       "900 200 1 selector:team=a w1\n900 404 STOP_NOT_FOUND\n");
	label_by(TOKEN_OPERATOR, "a", "{\"team\":\"b\"}");
	expect("900 200 stopped emergency_stop\n");
	label("a", "{\"team\":\"c\"}");
	expect("1 work 2 \n900 200 online relabelled\n");
}

/* Restarts ----------------------------------------------------------------- */

static struct agent_record known = { .id = SL_INIT("a"),
	.cluster_id = SL_INIT("c-1"),
	.name = SL_INIT("a"),
	.token_id = SL_INIT("tok_a"),
	.workspace_id = 1,
	.registered_at = 1 };

static void
restart(struct hub_snapshot s)
{
	end(NULL);
	s.agents = &known;
	s.agent_count = 1;
	begin_with(&s);
	assert_non_null(w.rig.hub);
}

static void
test_restart(void **state)
{
	const struct stop_record row = { .epoch = 3,
		.workspace_id = 1,
		.actor = SL("usr_root"),
		.reason = SL("r") };
	const struct stop_record lifted = { .epoch = 1,
		.workspace_id = 1,
		.actor = SL("usr_root"),
		.lifted_epoch = 2 };
	const struct stop_record both[] = { lifted, row };
	const struct receipt_record receipt = {
		.epoch = 3, .agent_id = SL("a"), .kind = RECEIPT_CONFIRMED
	};
	const struct stop_state none = { .epoch = 4 };
	const struct stop_state ahead = {
		.epoch = 3, .stops = &row, .count = 1
	};

	(void)state;
	/* The store and the file agree. */
	restart((struct hub_snapshot){ .stops = both,
	    .stop_count = 2,
	    .stop_epoch = 3,
	    .receipts = &receipt,
	    .receipt_count = 1,
	    .kept = &ahead });
	list(TOKEN_ROOT);
	arrive(1, "a");
	run("a");
	expect("900 200 3 all c1 1 all lifted 2\n1 registered stopped 3 all\n"
	       "900 409 AGENT_STOPPED\n");
	rig_advance(&w.rig, 10);
	assert_int_equal(w.ops[OP_PUT_STOP], 0);
	/* Only the file knows: the row is written again. */
	restart((struct hub_snapshot){
	    .stops = both, .stop_count = 1, .stop_epoch = 2, .kept = &ahead });
	list(TOKEN_ROOT);
	rig_advance(&w.rig, 10);
	assert_int_equal(w.ops[OP_PUT_STOP], 1);
	expect("900 200 3 all x1 1 all lifted 2\n");
	/* Only the store knows: the file is written again. */
	restart((struct hub_snapshot){
	    .stops = both, .stop_count = 2, .stop_epoch = 3 });
	rig_advance(&w.rig, 10);
	assert_int_equal(w.rig.stop_file, 3);
	arrive(1, "a");
	expect("1 registered stopped 3 all\n");
	/* The file knows that it was lifted. */
	restart((struct hub_snapshot){
	    .stops = both, .stop_count = 2, .stop_epoch = 3, .kept = &none });
	list(TOKEN_ROOT);
	arrive(1, "a");
	rig_advance(&w.rig, 10);
	expect(
	    "900 200 3 all lifted 4 1 all lifted 2\n1 registered working 4 \n");
	assert_int_equal(w.ops[OP_PUT_STOP], 1);
	assert_int_equal(stats().stop_epoch, 4);
}

/* A controller whose database is older than the stop. */
static void
test_proof(void **state)
{
	struct stop_order shown = {
		.epoch = 7, .stopped = true, .scope = SL("all"), .has_mac = true
	};

	(void)state;
	come(1, "a", NATIVE, shown);
	arrive(2, "b");
	agent("a");
	run("a");
	run("b");
	/* Not ours: it is stopped by its own word, and nobody else. */
	expect("900 200 stopped unproven_stop\n900 409 AGENT_STOPPED\n"
	       "900 201 sent\n2 open\n");
	assert_int_equal(stats().stop_epoch, 0);
	shown.proved = true;
	come(3, "a", NATIVE, shown);
	expect("1 close replaced_by_new_connection\n3 stop 7 all\n"
	       "2 stop 7 all\n3 registered stopped 7 all\n");
	assert_int_equal(w.file.epoch, 7);
	list(TOKEN_ROOT);
	expect("900 200 7 all w2\n");
	/* And one that knows that it was lifted later. */
	come(4, "b", NATIVE,
	    (struct stop_order){
		.epoch = 9, .scope = SL("all"), .proved = true });
	expect("2 close replaced_by_new_connection\n3 work 10 all\n"
	       "4 work 10 all\n4 registered working 10 all\n4 open\n");
}

static void
test_switch(void **state)
{
	struct event ev = rig_event(EVENT_STOP_SWITCH, 0);

	(void)state;
	arrive(1, "a");
	ev.stop = (struct stop_order){ .stopped = true, .reason = SL("fire") };
	rig_input(&w.rig, &ev);
	rig_input(&w.rig, &ev);
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("1 stop 1 all\n900 409 STOP_FILE_PRESENT\n");
	ev.stop.stopped = false;
	rig_input(&w.rig, &ev);
	agent("a");
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	expect("900 200 stopped emergency_stop\n1 work 2 all\n"
	       "900 200 1 all lifted 2 w1\n");
	restart((struct hub_snapshot){ .stop_switch = true });
	arrive(1, "a");
	expect("1 registered stopped 1 all\n");
	rig_advance(&w.rig, 10);
	assert_int_equal(w.rig.stop_file, 1);
	assert_int_equal(w.ops[OP_PUT_STOP], 1);
}

static void
test_pages(void **state)
{
	char id[8];

	(void)state;
	for (uint32_t i = 1; i <= 5; i++) {
		snprintf(id, sizeof(id), "n%u", i);
		arrive(i, id);
	}
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	w.len = 0;
	show("1", 2, NULL);
	show("1", 2, "n2");
	show("1", 2, "n4");
	show("9", 2, NULL);
	expect("900 200 1 all w5 n1=waiting n2=waiting\n"
	       "900 200 1 all w5 n3=waiting n4=waiting\n"
	       "900 200 1 all w5 n5=waiting\n900 404 STOP_NOT_FOUND\n");
	struct event ev = request(OP_AGENT_REMOVE, TOKEN_ROOT);
	ev.request.id = SL("n3");
	rig_input(&w.rig, &ev);
	list(TOKEN_ROOT);
	expect("900 204\n3 close removed\n900 200 1 all w4\n");
}

/* What was lifted long ago is forgotten here; the store has it. */
static void
test_few_are_kept(void **state)
{
	(void)state;
	arrive(1, "a");
	for (int i = 0; i < 300; i++) {
		stop(TOKEN_ROOT, STOP_ALL, NULL);
		resume(TOKEN_ROOT, STOP_ALL, NULL);
	}
	w.len = 0;
	show("1", 0, NULL);
	show("599", 0, NULL);
	expect("900 404 STOP_NOT_FOUND\n900 200 599 all lifted 600 w1 "
	       "a=waiting\n");
}

/* Without memory ----------------------------------------------------------- */

static void
a_day(void *arg)
{
	struct hub_snapshot s = { 0 };

	(void)arg;
	begin_with(&s);
	if (w.rig.hub == NULL)
		return;
	arrive(1, "a");
	come(2, "b", CONSOLE, (struct stop_order){ 0 });
	run("a");
	run("a");
	run("a");
	run("b");
	label("a", "{\"env\":\"prod\"}");
	stop(TOKEN_ROOT, STOP_SELECTOR, "env=prod");
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	stop(TOKEN_ROOT, STOP_ALL, NULL);
	rig_advance(&w.rig, w.rig.now + 10000);
	/* A stop that was heard of at all is in force by now. */
	if (stats().stops_standing > 0 && w.rig.stop_file != stats().stop_epoch)
		fail_msg("the file has %u of %u", (unsigned)w.rig.stop_file,
		    (unsigned)stats().stop_epoch);
	report(1,
	    (struct stop_report){ .epoch = stats().stop_epoch,
		.stopped = true,
		.detail_json = SL("[]") });
	leave(1);
	come(3, "a", NATIVE,
	    (struct stop_order){ .epoch = 20,
		.stopped = true,
		.proved = true,
		.scope = SL("agent:a") });
	list(TOKEN_ROOT);
	show("1", 0, NULL);
	local_stop(3, true);
	local_stop(3, false);
	resume(TOKEN_ROOT, STOP_ALL, NULL);
	resume(TOKEN_ROOT, STOP_SELECTOR, "env=prod");
	resume(TOKEN_ROOT, STOP_AGENT, "a");
	rig_advance(&w.rig, w.rig.now + 10000);
	rig_fini(&w.rig);
	w.rig.hub = NULL;
}

static void
test_without_memory(void **state)
{
	(void)state;
	a_day(NULL);
	oom_torture(a_day, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole_life),
		TEST(test_queue_is_emptied),
		TEST(test_sent_but_not_opened),
		TEST(test_thousands_queued),
		TEST(test_several_stand),
		TEST(test_again),
		TEST(test_rights),
		TEST(test_dry_run),
		TEST(test_disk_is_waited_for),
		TEST(test_disk_fails),
		TEST(test_away_and_back),
		TEST(test_foreign),
		TEST(test_overtaken),
		TEST(test_by_http),
		TEST(test_local_stop),
		TEST(test_labels),
		TEST(test_own_words_do_not_free),
		TEST(test_labels_are_no_resume),
		TEST(test_restart),
		TEST(test_proof),
		TEST(test_switch),
		TEST(test_pages),
		TEST(test_few_are_kept),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
