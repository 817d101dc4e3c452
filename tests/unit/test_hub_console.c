#include <stdio.h>

#include "base/err.h"

#include "support/oom.h"
#include "support/rig.h"
#include "support/unit.h"

enum { AGENT = 1, DASHBOARD = 2, MUSTER = 3, VIEWER = 4 };

static struct world {
	struct rig rig;
	char log[4096];
	size_t len;
	char command[64];
	unsigned audited;
} w;

static void
note(const char *text, struct slice more)
{
	int n = snprintf(w.log + w.len, sizeof(w.log) - w.len, "%s%s%.*s\n",
	    text, more.len > 0 ? " " : "", SLICE_FMT(more));

	assert_true(n > 0 && w.len + (size_t)n < sizeof(w.log));
	w.len += (size_t)n;
}

static void
note_send(const struct event *ev)
{
	if (ev->kind == EVENT_CONTROL)
		note("control", ev->control.action);
	else if (ev->kind == EVENT_ERROR)
		note("error", ev->complaint.code);
	else if (ev->kind == EVENT_ACCEPTED)
		note("accepted", (struct slice){ 0 });
	else if (ev->kind == EVENT_EXECUTE)
		slice_cstr(
		    ev->execute.command->id, w.command, sizeof(w.command));
	else if (ev->kind == EVENT_REPLY && ev->reply->err != 0)
		note("refused", ev->reply->code);
	else if (ev->kind == EVENT_REPLY &&
	    (ev->reply->op == OP_AGENT_CONTROL ||
		ev->reply->op == OP_TERMINAL_CLEAR))
		note("done", ev->reply->about);
}

static void
perform(void *arg, const struct effect *e)
{
	(void)arg;
	if (e->kind == EFFECT_SEND)
		note_send(e->event);
	if (e->kind == EFFECT_PUBLISH && e->event->notice.kind == NOTICE_CLEAR)
		note("clear", e->event->notice.agent_id);
	if (e->kind == EFFECT_PUBLISH && e->event->notice.kind == NOTICE_TRACE)
		note("trace", e->event->notice.data_json);
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	w.audited += op->verb == OP_AUDIT &&
	    slice_eq(op->audit.action, SL("agent.control"));
	return 0;
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

static int
load(void)
{
	const struct user_record users[] = {
		{ .id = SL("ann"), .role = ROLE_OPERATOR, .workspace_id = 1 },
		{ .id = SL("vic"), .role = ROLE_VIEWER, .workspace_id = 1 },
	};
	struct token_record tokens[] = {
		{ .id = SL("t1"),
		    .scopes = SCOPES_CLUSTER | SCOPE_AGENT_CONNECT,
		    .workspace_id = 1 },
		{ .id = SL("t2"),
		    .user_id = SL("ann"),
		    .scopes = SCOPES_ALL,
		    .workspace_id = 1 },
		{ .id = SL("t3"),
		    .user_id = SL("vic"),
		    .scopes = SCOPES_ALL,
		    .workspace_id = 1 },
	};
	const struct hub_snapshot snapshot = { .users = users,
		.user_count = 2,
		.tokens = tokens,
		.token_count = 3 };

	for (uint32_t i = 0; i < 3; i++)
		rig_hash(tokens[i].hash, i + 1);
	return hub_load(w.rig.hub, &snapshot, 0);
}

static void
knock(uint32_t peer, uint32_t token, enum entrance entrance)
{
	struct event ev = rig_hello(peer, token, "192.0.2.1", entrance);

	rig_input(&w.rig, &ev);
}

static void
join(uint32_t peer, bool console, struct slice id)
{
	struct event ev = rig_event(EVENT_REGISTER, peer);

	ev.registration.agent_id = ev.registration.name = id;
	ev.registration.console = console;
	rig_input(&w.rig, &ev);
}

static void
ask(uint32_t peer, enum request_op op, struct slice id)
{
	static const struct command_record r = { .argv_json =
						     SL_INIT("[\"x\"]") };
	struct event ev = rig_event(EVENT_REQUEST, peer);

	ev.request.op = op;
	ev.request.credential.kind = CREDENTIAL_WATCH;
	ev.request.id = id;
	ev.request.action = SL("pause");
	ev.request.data_json = SL("{}");
	ev.request.command = &r;
	if (op == OP_COMMAND_CREATE)
		ev.request.request_key = SL("own");
	rig_input(&w.rig, &ev);
}

static void
trace(uint32_t peer, const char *command)
{
	struct event ev = rig_event(EVENT_TRACE, peer);

	ev.trace.command_id = slice_from(command);
	ev.trace.data_json = SL("{\"a\":1}");
	rig_input(&w.rig, &ev);
}

static bool
begin(void)
{
	memset(&w, 0, sizeof(w));
	rig_init(&w.rig, NULL);
	if (w.rig.hub == NULL)
		return false;
	w.rig.perform = perform;
	w.rig.store = store;
	if (load() != 0)
		return false;
	knock(AGENT, 1, ENTRANCE_CONSOLE);
	join(AGENT, true, SL("a-1"));
	knock(MUSTER, 1, ENTRANCE_CLUSTER_LINK);
	join(MUSTER, false, SL("m-1"));
	knock(DASHBOARD, 2, ENTRANCE_CONSOLE);
	ask(DASHBOARD, OP_WATCH, (struct slice){ 0 });
	knock(VIEWER, 3, ENTRANCE_CONSOLE);
	ask(VIEWER, OP_WATCH, (struct slice){ 0 });
	return true;
}

static void
test_control(void **state)
{
	struct event gone = rig_event(EVENT_GONE, AGENT);

	(void)state;
	assert_true(begin());
	ask(DASHBOARD, OP_AGENT_CONTROL, SL("a-1"));
	expect("control pause\ndone a-1\n");
	assert_int_equal(w.audited, 1);
	ask(DASHBOARD, OP_AGENT_CONTROL, SL("m-1"));
	ask(DASHBOARD, OP_AGENT_CONTROL, SL("none"));
	ask(VIEWER, OP_AGENT_CONTROL, SL("a-1"));
	rig_input(&w.rig, &gone);
	ask(DASHBOARD, OP_AGENT_CONTROL, SL("a-1"));
	expect("refused NOT_PERMITTED\nrefused AGENT_NOT_FOUND\n"
	       "refused NOT_PERMITTED\nrefused AGENT_OFFLINE\n");
	assert_int_equal(w.audited, 1);
	rig_fini(&w.rig);
}

static void
control(const char *action)
{
	struct event ev = rig_event(EVENT_REQUEST, DASHBOARD);

	ev.request.op = OP_AGENT_CONTROL;
	ev.request.credential.kind = CREDENTIAL_WATCH;
	ev.request.id = SL("a-1");
	ev.request.action = slice_from(action);
	ev.request.data_json = SL("{}");
	rig_input(&w.rig, &ev);
}

/* What a stop has stopped no dashboard sets going again. */
static void
test_control_under_stop(void **state)
{
	struct event stop = rig_event(EVENT_REQUEST, DASHBOARD);

	(void)state;
	assert_true(begin());
	stop.request.op = OP_STOP_RAISE;
	stop.request.credential.kind = CREDENTIAL_WATCH;
	stop.request.scope = STOP_AGENT;
	stop.request.target = SL("a-1");
	rig_input(&w.rig, &stop);
	control("resume");
	control("restart");
	control("pause");
	control("stop");
	expect("refused AGENT_STOPPED\nrefused AGENT_STOPPED\n"
	       "control pause\ndone a-1\ncontrol stop\ndone a-1\n");
	rig_fini(&w.rig);
}

static void
test_clear(void **state)
{
	(void)state;
	assert_true(begin());
	ask(DASHBOARD, OP_TERMINAL_CLEAR, SL("m-1"));
	expect("clear m-1\ndone m-1\n");
	ask(DASHBOARD, OP_TERMINAL_CLEAR, SL("none"));
	ask(VIEWER, OP_TERMINAL_CLEAR, SL("m-1"));
	expect("refused AGENT_NOT_FOUND\nrefused NOT_PERMITTED\n");
	rig_fini(&w.rig);
}

/* An agent tells of its own commands alone. */
static void
test_trace(void **state)
{
	(void)state;
	assert_true(begin());
	trace(AGENT, "cmd_none");
	expect("error COMMAND_NOT_FOUND\n");
	ask(DASHBOARD, OP_COMMAND_CREATE, SL("a-1"));
	trace(AGENT, w.command);
	expect("trace {\"a\":1}\naccepted\n");
	trace(MUSTER, w.command);
	expect("error COMMAND_NOT_FOUND\n");
	/* By the id that the user chose; another user has none such. */
	ask(VIEWER, OP_COMMAND_INTERRUPT, SL("own"));
	expect("refused NOT_PERMITTED\n");
	ask(DASHBOARD, OP_COMMAND_INTERRUPT, SL("own"));
	expect("");
	ask(DASHBOARD, OP_COMMAND_INTERRUPT, SL("other"));
	expect("refused COMMAND_NOT_FOUND\n");
	rig_fini(&w.rig);
}

static void
a_day(void *arg)
{
	(void)arg;
	if (begin()) {
		ask(DASHBOARD, OP_AGENT_CONTROL, SL("a-1"));
		ask(DASHBOARD, OP_TERMINAL_CLEAR, SL("m-1"));
		ask(DASHBOARD, OP_COMMAND_CREATE, SL("a-1"));
		trace(AGENT, w.command);
		ask(DASHBOARD, OP_COMMAND_INTERRUPT, SL("own"));
	}
	rig_fini(&w.rig);
}

static void
test_without_memory(void **state)
{
	(void)state;
	oom_torture(a_day, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_control_under_stop),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
