/*
 * Every message of the console dialect, by whoever may come in and on every
 * kind of connection: the verdict is the one that follows from the tables
 * (console_type_at, hub_right), not from what the readers happen to do.
 */
#include <stdio.h>

#include "base/err.h"

#include "dialect/console_say.h"

#include "support/rig.h"
#include "support/schema.h"
#include "support/unit.h"

enum { ASKED = 1, PEER = 2 };

#define AT " \"timestamp\": \"2025-10-16T12:00:00Z\","
#define BODY " \"id\": \"m-1\", \"timestamp\": 1, \"payload\": {"

/* Valid ones, of agent-1 and of commands that there are not. */
static const struct sample {
	const char *name;
	const char *text; /* what comes after its type */
	scope_set need;   /* what docs/protocol/console.md 2 says */
} samples[] = {
	{ "terminal:output",
	    AT "\"commandId\": \"c-1\", \"output\": {\"type\": \"stdout\","
	       " \"content\": \"x\"}}",
	    0 },
	{ "agent:status", AT "\"status\": \"idle\"}", 0 },
	{ "command:request", AT "\"agentId\": \"a-1\", \"command\": \"id\"}",
	    SCOPE_COMMAND_RUN },
	{ "command:status",
	    AT "\"commandId\": \"c-1\", \"status\": \"running\"}", 0 },
	{ "command:complete", AT "\"commandId\": \"c-1\", \"exitCode\": 0}",
	    0 },
	{ "command:interrupt", AT "\"commandId\": \"c-1\"}",
	    SCOPE_COMMAND_RUN },
	{ "command:cancel", AT "\"commandId\": \"c-1\"}", SCOPE_COMMAND_RUN },
	{ "heartbeat:ping", AT "\"requestId\": \"r\"}", 0 },
	{ "heartbeat:pong", AT "\"requestId\": \"r\"}", 0 },
	{ "dashboard:connect", AT "\"dashboardId\": \"d-1\"}",
	    SCOPE_EVENT_READ | SCOPE_AGENT_READ },
	{ "dashboard:disconnect", AT "\"requestId\": \"r\"}", 0 },
	{ "dashboard:subscribe", AT "\"topic\": \"agents\"}", 0 },
	{ "dashboard:unsubscribe", AT "\"topic\": \"agents\"}", 0 },
	{ "agent:connect",
	    AT "\"agentId\": \"me-1\", \"agentType\": \"mock\","
	       " \"version\": \"1.0.0\"}",
	    0 },
	{ "agent:disconnect", AT "\"requestId\": \"r\"}", 0 },
	{ "agent:heartbeat", AT "\"status\": \"idle\"}", 0 },
	{ "agent:error", AT "\"agentId\": \"me-1\"}", 0 },
	{ "agent:control", AT "\"agentId\": \"a-1\", \"action\": \"pause\"}",
	    SCOPE_COMMAND_RUN },
	{ "terminal:clear", AT "\"agentId\": \"a-1\"}", SCOPE_COMMAND_RUN },
	{ "system:emergency-stop",
	    AT "\"agentId\": \"a-1\", \"reason\": \"a test\", \"epoch\": 1}",
	    SCOPE_STOP_WRITE },
	{ "system:resume", AT "\"agentId\": \"a-1\", \"epoch\": 1}",
	    SCOPE_STOP_WRITE },
	{ "auth:refresh-token", AT "\"token\": \"t\"}", 0 },

	{ "TERMINAL_OUTPUT",
	    BODY "\"commandId\": \"c-1\", \"agentId\": \"me-1\","
		 " \"streamType\": \"STDOUT\", \"content\": \"x\","
		 " \"sequence\": 0}}",
	    0 },
	{ "COMMAND_REQUEST",
	    BODY "\"commandId\": \"own\", \"agentId\": \"a-1\","
		 " \"content\": \"do it\", \"type\": \"NATURAL\","
		 " \"priority\": 50}}",
	    SCOPE_COMMAND_RUN },
	{ "COMMAND_CANCEL", BODY "\"commandId\": \"c-1\"}}",
	    SCOPE_COMMAND_RUN },
	{ "COMMAND_ACK",
	    BODY "\"commandId\": \"c-1\", \"agentId\": \"me-1\","
		 " \"status\": \"EXECUTING\"}}",
	    0 },
	{ "COMMAND_COMPLETE",
	    BODY "\"commandId\": \"c-1\", \"agentId\": \"me-1\","
		 " \"status\": \"COMPLETED\", \"executionTime\": 7}}",
	    0 },
	{ "TRACE_EVENT",
	    BODY "\"commandId\": \"c-1\", \"agentId\": \"me-1\","
		 " \"traceId\": \"t-1\", \"type\": \"TOOL_CALL\"}}",
	    0 },
	{ "INVESTIGATION_REPORT",
	    BODY "\"commandId\": \"c-1\", \"agentId\": \"me-1\","
		 " \"reportId\": \"r-1\", \"status\": \"COMPLETE\"}}",
	    0 },
	{ "ACK", BODY "\"messageId\": \"m-0\", \"success\": true}}", 0 },
	{ "PING", BODY "\"timestamp\": 1}}", 0 },
	{ "PONG", BODY "\"timestamp\": 1}}", 0 },
	{ "ERROR", BODY "\"code\": \"X\", \"message\": \"x\"}}", 0 },
	{ "AGENT_CONNECT",
	    BODY "\"agentId\": \"me-1\", \"agentType\": \"CLAUDE\","
		 " \"version\": \"1.0.0\"}}",
	    0 },
	{ "AGENT_HEARTBEAT",
	    BODY "\"agentId\": \"me-1\", \"healthMetrics\":"
		 " {\"cpuUsage\": 1}}}",
	    0 },
	{ "AGENT_ERROR", BODY "\"agentId\": \"me-1\"}}", 0 },
	{ "AGENT_CONTROL",
	    BODY "\"agentId\": \"a-1\", \"action\": \"PAUSE\","
		 " \"reason\": \"x\"}}",
	    SCOPE_COMMAND_RUN },
	{ "DASHBOARD_INIT", BODY "\"userId\": \"u\"}}",
	    SCOPE_EVENT_READ | SCOPE_AGENT_READ },
	{ "DASHBOARD_SUBSCRIBE", BODY "\"type\": \"agent\"}}", 0 },
	{ "DASHBOARD_UNSUBSCRIBE", BODY "\"type\": \"agent\"}}", 0 },
	{ "EMERGENCY_STOP",
	    BODY "\"agentId\": \"a-1\", \"reason\": \"a test\","
		 " \"epoch\": 1}}",
	    SCOPE_STOP_WRITE },
	{ "SYSTEM_RESUME", BODY "\"agentId\": \"a-1\", \"epoch\": 1}}",
	    SCOPE_STOP_WRITE },
	{ "TOKEN_REFRESH", BODY "\"accessToken\": \"t\"}}", 0 },
};

enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

/* A LOGIN is a JWT that is limited to no scopes, and then it is no agent's. */
#define AS_LOGIN (SCOPES_ALL & ~(scope_set)SCOPE_AGENT_CONNECT)

enum how { TOKEN, JWT, LOGIN };

/* Who comes in.  Its number is that of its token and, when it has one, the
 * user's id. */
static const struct who {
	const char *name;
	enum role role;       /* ROLE_NONE: a token without a user */
	const char *selector; /* sees agent-1, which is in dev */
	scope_set scopes;
	enum how how;
} whos[] = {
	{ "viewer", ROLE_VIEWER, "", SCOPES_ALL, TOKEN },
	{ "operator", ROLE_OPERATOR, "", SCOPES_ALL, TOKEN },
	{ "admin", ROLE_ADMIN, "", SCOPES_ALL, TOKEN },
	{ "operator of dev", ROLE_OPERATOR, "env=dev", SCOPES_ALL, TOKEN },
	{ "operator of prod", ROLE_OPERATOR, "env=prod", SCOPES_ALL, TOKEN },
	{ "cluster token", ROLE_NONE, "", SCOPES_CLUSTER, TOKEN },
	{ "token of nobody", ROLE_NONE, "", SCOPES_ALL, TOKEN },
	{ "agent:connect token", ROLE_NONE, "", SCOPE_AGENT_CONNECT, TOKEN },
	{ "agent:connect of a user", ROLE_OPERATOR, "", SCOPE_AGENT_CONNECT,
	    TOKEN },
	{ "agent:connect of a viewer", ROLE_VIEWER, "", SCOPE_AGENT_CONNECT,
	    TOKEN },
	{ "login of a viewer", ROLE_VIEWER, "", AS_LOGIN, LOGIN },
	{ "login of an admin", ROLE_ADMIN, "", AS_LOGIN, LOGIN },
	{ "JWT", ROLE_OPERATOR, "", SCOPES_ALL, JWT },
	{ "JWT for agent:connect", ROLE_OPERATOR, "", SCOPE_AGENT_CONNECT,
	    JWT },
	{ "JWT without scopes", ROLE_ADMIN, "", 0, JWT },
	{ "token without scopes", ROLE_ADMIN, "", 0, TOKEN },
};

enum { WHOS = sizeof(whos) / sizeof(whos[0]) };

enum verdict { ALLOWED, WRONG_SIDE, NOT_PERMITTED, NOT_SEEN, UNHEARD };

static const char *const verdicts[] = { "allowed", "wrong side",
	"not permitted", "not seen", "unheard" };

static struct world {
	struct rig rig;
	struct arena arena;
	struct console_peer peer;
	const struct who *who;
	struct credential credential;
	char ids[WHOS][16];
	bool let_in;         /* through the door */
	size_t effects;      /* since the last message, the store's too */
	struct slice denied; /* the code of its answer, static */
	char code[64];
} w;

/* The world ---------------------------------------------------------------- */

static void
perform(void *arg, const struct effect *e)
{
	struct slice code = { 0 };

	(void)arg;
	w.effects++;
	if (e->kind != EFFECT_SEND || e->peer.slot != PEER)
		return;
	w.let_in = w.let_in || e->event->kind == EVENT_WELCOME;
	if (e->event->kind == EVENT_ERROR)
		code = e->event->complaint.code;
	if (e->event->kind == EVENT_REPLY && e->event->reply->err != 0)
		code = e->event->reply->code;
	if (code.len > 0 && slice_cstr(code, w.code, sizeof(w.code)) == 0)
		w.denied = slice_from(w.code);
}

static int
store(void *arg, const struct op *op)
{
	(void)arg;
	(void)op;
	w.effects++;
	return 0;
}

static void
load(void)
{
	struct user_record users[WHOS];
	struct token_record tokens[WHOS];
	struct hub_snapshot s = { .users = users, .tokens = tokens };

	for (uint32_t i = 0; i < WHOS; i++) {
		const struct who *who = &whos[i];
		struct token_record *t = &tokens[s.token_count++];
		snprintf(w.ids[i], sizeof(w.ids[i]), "id-%u", i);
		*t = (struct token_record){ .id = slice_from(w.ids[i]),
			.scopes = who->scopes,
			.workspace_id = 1 };
		rig_hash(t->hash, i + 1);
		if (who->role == ROLE_NONE)
			continue;
		t->user_id = slice_from(w.ids[i]);
		users[s.user_count++] =
		    (struct user_record){ .id = slice_from(w.ids[i]),
			    .name = slice_from(w.ids[i]),
			    .role = who->role,
			    .selector = slice_from(who->selector),
			    .workspace_id = 1 };
	}
	assert_int_equal(hub_load(w.rig.hub, &s, 0), 0);
}

/* One that all may ask something of, but those of prod. */
static void
add_target(void)
{
	struct event hello = rig_hello(ASKED, 6, "192.0.2.1", ENTRANCE_CONSOLE);
	struct event join = rig_event(EVENT_REGISTER, ASKED);

	rig_input(&w.rig, &hello);
	join.registration.agent_id = join.registration.name = SL("a-1");
	join.registration.console = true;
	join.registration.labels_json = SL("{\"env\":\"dev\"}");
	rig_input(&w.rig, &join);
}

static void
begin(const struct who *who)
{
	uint32_t number = (uint32_t)(who - whos);
	struct event hello =
	    rig_hello(PEER, number + 1, "192.0.2.2", ENTRANCE_CONSOLE);

	memset(&w, 0, sizeof(w));
	w.who = who;
	arena_init(&w.arena, 1 << 20);
	rig_init(&w.rig, NULL);
	assert_non_null(w.rig.hub);
	w.rig.perform = perform;
	w.rig.store = store;
	load();
	add_target();
	if (who->how != TOKEN) {
		hello.hello.credential.kind = CREDENTIAL_JWT;
		hello.hello.credential.claims =
		    (struct claims){ .subject = slice_from(w.ids[number]),
			    .role = who->role,
			    .has_scopes = who->how == JWT,
			    .scopes = who->scopes,
			    .issued_at = INT64_MAX,
			    .expires_at = INT64_MAX / 2 };
	}
	w.credential = hello.hello.credential;
	if (who->role != ROLE_NONE)
		w.peer.user_name = SL("u");
	rig_input(&w.rig, &hello);
}

static void
end(void)
{
	rig_fini(&w.rig);
	arena_fini(&w.arena);
}

/* Messages ----------------------------------------------------------------- */

static const struct sample *
find_sample(struct slice name)
{
	for (size_t i = 0; i < SAMPLES; i++) {
		if (slice_eq(slice_from(samples[i].name), name))
			return &samples[i];
	}
	fail_msg("no sample of %.*s", SLICE_FMT(name));
	return NULL;
}

static struct slice
sample_of(struct slice name)
{
	const struct sample *s = find_sample(name);
	struct slice copy = { 0 };
	char text[1024];

	snprintf(text, sizeof(text), "{\"type\": \"%s\",%s", s->name, s->text);
	assert_int_equal(arena_copy(&w.arena, slice_from(text), &copy), 0);
	return copy;
}

/* What musterd makes of the words that are not events already. */
static bool
make_event(const struct console_message *m, struct event *ev)
{
	*ev = m->event;
	if (m->word == CONSOLE_REFRESH) {
		*ev = rig_event(EVENT_REQUEST, PEER);
		ev->request.op = OP_RENEW;
		ev->request.credential = w.credential;
	}
	ev->peer = rig_peer(PEER);
	ev->at = w.rig.wall;
	return m->word == CONSOLE_EVENT || m->word == CONSOLE_REFRESH;
}

static bool
is_one_of(struct slice code, const char *a, const char *b)
{
	return slice_eq(code, slice_from(a)) || slice_eq(code, slice_from(b));
}

static enum verdict
say(struct slice name, struct console_message *m)
{
	struct event ev;

	assert_int_equal(
	    console_decode(sample_of(name), &w.peer, w.rig.wall, &w.arena, m),
	    0);
	w.effects = 0;
	w.denied = (struct slice){ 0 };
	if (!make_event(m, &ev))
		return ALLOWED;
	bool bad = ev.kind == EVENT_BAD;
	rig_input(&w.rig, &ev);
	if (bad &&
	    is_one_of(w.denied, "INVALID_MESSAGE_TYPE", "NOT_IDENTIFIED"))
		return WRONG_SIDE;
	if (is_one_of(w.denied, "NOT_PERMITTED", "UNAUTHORIZED"))
		return NOT_PERMITTED;
	if (bad)
		fail_msg("%.*s: the sample is no good: %.*s", SLICE_FMT(name),
		    SLICE_FMT(w.denied));
	if (slice_eq(w.denied, SL("AGENT_NOT_FOUND")))
		return NOT_SEEN;
	return w.effects == 0 ? UNHEARD : ALLOWED;
}

static void
introduce(enum console_side side, bool upper)
{
	struct console_message m;

	if (side == CONSOLE_DASHBOARD)
		say(upper ? SL("DASHBOARD_INIT") : SL("dashboard:connect"), &m);
	else if (side == CONSOLE_AGENT)
		say(upper ? SL("AGENT_CONNECT") : SL("agent:connect"), &m);
	/* Whose the dashboard is, it has to say rightly, in upper. */
	if (side == w.peer.side)
		return;
	assert_true(
	    upper && side == CONSOLE_DASHBOARD && w.who->role == ROLE_NONE);
}

/* What is to come of it ---------------------------------------------------- */

static scope_set
scopes_of(const struct who *who)
{
	return who->role == ROLE_NONE
	    ? who->scopes
	    : who->scopes & hub_role_scopes(who->role);
}

static bool
may_ask(const struct who *who, enum request_op op)
{
	struct hub_right right = hub_right(op);

	return (right.need & ~scopes_of(who)) == 0 &&
	    (right.agents || who->role != ROLE_NONE);
}

static bool
may_be_agent(const struct who *who)
{
	return (scopes_of(who) & hub_agent_scopes()) != 0;
}

/* Those that name agent-1. */
static bool
has_target(enum request_op op)
{
	return op == OP_COMMAND_CREATE || op == OP_AGENT_CONTROL ||
	    op == OP_TERMINAL_CLEAR || op == OP_STOP_RAISE;
}

static enum verdict
wanted(const struct console_type *t, enum console_side side)
{
	const bool of_agents = (t->sides & 1U << CONSOLE_AGENT) != 0;
	const bool of_guests = (t->sides & 1U << CONSOLE_GUEST) != 0;
	const bool of_desks = (t->sides & 1U << CONSOLE_DASHBOARD) != 0;

	if ((t->sides & 1U << side) == 0 ||
	    (w.peer.path == CONSOLE_AGENT_ONLY && !of_agents) ||
	    (w.peer.path == CONSOLE_DASHBOARD_ONLY && !of_desks))
		return WRONG_SIDE;
	if (t->asks && (side != CONSOLE_AGENT || of_guests)) {
		if (!may_ask(w.who, t->op))
			return NOT_PERMITTED;
		return has_target(t->op) &&
			strcmp(w.who->selector, "env=prod") == 0
		    ? NOT_SEEN
		    : ALLOWED;
	}
	if (!of_agents || (of_guests && of_desks) || may_be_agent(w.who))
		return ALLOWED;
	return of_guests ? NOT_PERMITTED : UNHEARD;
}

/* An agent says much that has no answer; a goodbye closes whatever it was,
 * and output is for the desk, which an agent gets when it is let in. */
static bool
fits(enum verdict want, enum verdict got, const struct console_message *m)
{
	if (want == ALLOWED && got == UNHEARD)
		return w.peer.side == CONSOLE_AGENT;
	if (want == UNHEARD && got == ALLOWED)
		return m->word != CONSOLE_EVENT ||
		    m->event.kind == EVENT_GOODBYE;
	return want == got;
}

static void
judge(const struct console_type *t, const struct who *who,
    enum console_side side, enum console_path path)
{
	static const char *const sides[] = { "guest", "dashboard", "agent" };
	struct console_message m;

	begin(who);
	if (!w.let_in) {
		/* Then it is of no use at all. */
		assert_false(may_ask(who, OP_WATCH) || may_be_agent(who));
		end();
		return;
	}
	w.peer.path = path;
	introduce(side, t->spelling == CONSOLE_UPPER);
	enum console_side is = w.peer.side;
	enum verdict want = wanted(t, is), got = say(t->name, &m);
	if (!fits(want, got, &m))
		fail_msg("%.*s of %s as %s: %s, not %s (%.*s)",
		    SLICE_FMT(t->name), who->name, sides[is], verdicts[got],
		    verdicts[want], SLICE_FMT(w.denied));
	if (got != WRONG_SIDE && got != NOT_PERMITTED && t->asks &&
	    m.word == CONSOLE_EVENT && m.event.kind == EVENT_REQUEST)
		assert_int_equal(m.event.request.op, t->op);
	end();
}

/* On every path that lets such a connection be. */
static void
judge_all(const struct console_type *t, const struct who *who)
{
	judge(t, who, CONSOLE_GUEST, CONSOLE_ANY);
	judge(t, who, CONSOLE_GUEST, CONSOLE_AGENT_ONLY);
	judge(t, who, CONSOLE_GUEST, CONSOLE_DASHBOARD_ONLY);
	judge(t, who, CONSOLE_DASHBOARD, CONSOLE_ANY);
	judge(t, who, CONSOLE_DASHBOARD, CONSOLE_DASHBOARD_ONLY);
	judge(t, who, CONSOLE_AGENT, CONSOLE_ANY);
	judge(t, who, CONSOLE_AGENT, CONSOLE_AGENT_ONLY);
}

static void
test_every_message(void **state)
{
	struct console_type t;
	size_t n = 0;

	(void)state;
	for (; console_type_at(n, &t); n++) {
		assert_int_equal(find_sample(t.name)->need,
		    t.asks ? hub_right(t.op).need : 0);
		for (size_t i = 0; i < WHOS; i++)
			judge_all(&t, &whos[i]);
	}
	assert_int_equal(n, SAMPLES);
}

/* So that what is tried is what the documents allow. */
static void
test_samples(void **state)
{
	struct console_type t;

	(void)state;
	begin(&whos[0]);
	for (size_t n = 0; console_type_at(n, &t); n++) {
		char file[256], name[64];
		assert_int_equal(slice_cstr(t.name, name, sizeof(name)), 0);
		for (char *c = name; *c != '\0'; c++)
			*c = *c == ':' ? '-' : *c;
		snprintf(file, sizeof(file),
		    "docs/protocol/schema/console/%s/in/%s.json",
		    t.spelling == CONSOLE_UPPER ? "upper" : "flat", name);
		const char *why = schema_check(file, sample_of(t.name));
		if (why != NULL)
			fail_msg("%s: %s", file, why);
	}
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_message),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
